//! Requests in flight on one connection, and the judgement of their replies. Pure.
//!
//! Replies come in the order of the requests; each is judged against the oldest request in
//! flight and recorded in a [`Tally`].

use crate::report::Tally;
use crate::wire::{Decoder, Operation, Protocol, Reply, WireError};
use crate::workload::Values;
use std::collections::VecDeque;

/// What a request is sent for, which decides what is recorded of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Only errors are counted.
    Prefill,
    /// Nothing is recorded.
    WarmUp,
    /// Everything is recorded.
    Measure,
}

/// A request that awaits its reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    /// When latency begins: the intended start in an open loop, the send in a closed one.
    pub(super) start_ns: u64,
    /// The number of the key.
    pub(super) key: u64,
    pub(super) operation: Operation,
    pub(super) purpose: Purpose,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A write, or an increment, was made.
    Done,
    /// A read found the right value.
    Hit,
    /// A read found nothing.
    Miss,
    /// A read found another value.
    WrongValue,
    /// Anything else.
    Error,
}

impl InFlight {
    /// Counts what became of it at `now_ns`, as far as it is sent to be counted; whether its error is to be told.
    pub(super) fn record(&self, verdict: Verdict, now_ns: u64, tally: &mut Tally) -> bool {
        let is_wrong = matches!(verdict, Verdict::WrongValue | Verdict::Error);
        match self.purpose {
            Purpose::WarmUp => return false,
            Purpose::Prefill => tally.prefill_errors += u64::from(is_wrong),
            Purpose::Measure => {
                let counts = tally.of(self.operation);
                if is_wrong {
                    counts.errors += 1;
                } else {
                    let ns = now_ns.saturating_sub(self.start_ns);
                    counts.latencies.record(ns);
                }
                counts.hits += u64::from(verdict == Verdict::Hit);
                counts.misses += u64::from(verdict == Verdict::Miss);
                counts.wrong_values += u64::from(verdict == Verdict::WrongValue);
            }
        }
        is_wrong
    }
}

/// Why a connection's stream cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Not the protocol.
    Wire(WireError),
    /// An error reply while nothing is in flight.
    Refused(String),
    /// Another reply while nothing is in flight.
    Unsolicited,
}

/// One connection's requests in flight.
#[derive(Debug)]
pub(super) struct Exchange {
    decoder: Decoder,
    in_flight: VecDeque<InFlight>,
    verify: bool,
    /// Whether a piece of the value being received was wrong.
    value_wrong: bool,
}

impl Exchange {
    /// `depth`: most requests that will be in flight (memory is taken for all of them now).
    pub(super) fn new(protocol: Protocol, verify: bool, depth: usize) -> Self {
        Self {
            decoder: Decoder::new(protocol, verify),
            in_flight: VecDeque::with_capacity(depth),
            verify,
            value_wrong: false,
        }
    }

    /// Requests that await a reply.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Notes a request that is being sent.
    pub(super) fn begin(&mut self, request: InFlight) {
        debug_assert!(
            self.in_flight.len() < self.in_flight.capacity(),
            "deeper than promised"
        );
        self.in_flight.push_back(request);
    }

    /// Takes bytes that arrived at `now_ns`, records the replies they complete, answers their
    /// number.
    pub(super) fn receive(
        &mut self,
        mut input: &[u8],
        now_ns: u64,
        values: &Values,
        tally: &mut Tally,
    ) -> Result<u64, Broken> {
        let mut completed = 0;
        while !input.is_empty() {
            let Some(&request) = self.in_flight.front() else {
                return Err(self.judge_unasked(input));
            };
            let (verify, value_wrong) = (self.verify, &mut self.value_wrong);
            let mut check = |offset: usize, bytes: &[u8]| {
                if verify && !values.of(request.key).matches(offset, bytes) {
                    *value_wrong = true;
                }
            };
            let (used, reply) = self
                .decoder
                .decode(input, request.operation, &mut check)
                .map_err(Broken::Wire)?;
            input = &input[used..];
            if let Some(reply) = reply {
                self.in_flight.pop_front();
                self.judge(request, reply, now_ns, values, tally);
                completed += 1;
            }
        }
        Ok(completed)
    }

    fn judge(
        &mut self,
        request: InFlight,
        reply: Reply,
        now_ns: u64,
        values: &Values,
        tally: &mut Tally,
    ) {
        let value_wrong = std::mem::take(&mut self.value_wrong);
        let verdict = match (request.operation, reply) {
            (Operation::Set, Reply::Done) | (Operation::Incr, Reply::Integer) => Verdict::Done,
            (Operation::Get, Reply::Missing) => Verdict::Miss,
            (Operation::Get, Reply::Value { len }) => {
                let is_right =
                    !self.verify || (!value_wrong && len == values.of(request.key).len());
                if is_right {
                    Verdict::Hit
                } else {
                    Verdict::WrongValue
                }
            }
            _ => Verdict::Error,
        };
        if request.record(verdict, now_ns, tally) {
            self.count_error(request.operation, reply, tally);
        }
    }

    #[cold]
    fn count_error(&self, operation: Operation, reply: Reply, tally: &mut Tally) {
        let name = operation.name();
        let unexpected = |what: &str| format!("unexpected reply to {name}: {what}");
        match reply {
            Reply::Error => {
                tally.count_error_text(&String::from_utf8_lossy(self.decoder.text()));
            }
            Reply::Value { .. } if operation == Operation::Get => {
                tally.count_error_text("wrong value");
            }
            Reply::Value { .. } => tally.count_error_text(&unexpected("a value")),
            Reply::Integer => tally.count_error_text(&unexpected("an integer")),
            Reply::Missing => tally.count_error_text(&unexpected("a null")),
            Reply::Done => tally.count_error_text(&unexpected("OK")),
            Reply::Other(what) => tally.count_error_text(&unexpected(what)),
        }
    }

    /// Names what came although nothing was asked.
    #[cold]
    fn judge_unasked(&mut self, input: &[u8]) -> Broken {
        match self.decoder.decode(input, Operation::Get, &mut |_, _| {}) {
            Ok((_, Some(Reply::Error))) => {
                Broken::Refused(String::from_utf8_lossy(self.decoder.text()).into_owned())
            }
            _ => Broken::Unsolicited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Broken, Exchange, InFlight, Purpose};
    use crate::report::Tally;
    use crate::wire::{Operation, Protocol};
    use crate::workload::{ValueSizes, Values};

    fn values() -> Values {
        Values::new(ValueSizes::parse("20").expect("a size"), 1)
    }

    fn request(operation: Operation, key: u64) -> InFlight {
        InFlight {
            start_ns: 1_000,
            key,
            operation,
            purpose: Purpose::Measure,
        }
    }

    fn value_reply(key: u64) -> Vec<u8> {
        let mut reply = b"$20\r\n".to_vec();
        values().of(key).write(&mut reply);
        reply.extend_from_slice(b"\r\n");
        reply
    }

    /// Judges `reply` to one request, cut at every byte; the tallies must be the same.
    fn judge(request: InFlight, reply: &[u8]) -> Tally {
        let mut first = None;
        for cut in 0..reply.len() {
            let mut exchange = Exchange::new(Protocol::Resp, true, 1);
            let mut tally = Tally::new();
            exchange.begin(request);
            let mut completed = 0;
            for piece in [&reply[..cut], &reply[cut..]] {
                completed += exchange
                    .receive(piece, 5_000, &values(), &mut tally)
                    .expect("well-formed");
            }
            assert_eq!((completed, exchange.in_flight()), (1, 0));
            let seen = (
                tally.answered(),
                tally.errors(),
                tally.gets.hits,
                tally.gets.misses,
            );
            assert_eq!(*first.get_or_insert(seen), seen, "cut at {cut}");
            if cut == reply.len() - 1 {
                return tally;
            }
        }
        unreachable!("replies are not empty");
    }

    fn only_text(tally: &Tally) -> String {
        assert_eq!(tally.error_texts().len(), 1);
        tally.error_texts().into_keys().next().expect("one")
    }

    #[test]
    fn right_answers_are_recorded_from_their_start() {
        let tally = judge(request(Operation::Get, 3), &value_reply(3));
        assert_eq!((tally.gets.hits, tally.errors()), (1, 0));
        assert!((4_000..4_004).contains(&tally.gets.latencies.histogram().max()));
        let tally = judge(request(Operation::Get, 3), b"$-1\r\n");
        assert_eq!((tally.gets.misses, tally.errors()), (1, 0));
        let tally = judge(request(Operation::Set, 3), b"+OK\r\n");
        assert_eq!(
            (tally.sets.latencies.histogram().len(), tally.errors()),
            (1, 0)
        );
    }

    #[test]
    fn wrong_values_are_errors() {
        let mut corrupt = value_reply(3);
        corrupt[15] ^= 1;
        let mut short = b"$19\r\n".to_vec();
        short.extend_from_slice(&value_reply(3)[5..24]);
        short.extend_from_slice(b"\r\n");
        for reply in [value_reply(4), corrupt, short, b"$0\r\n\r\n".to_vec()] {
            let tally = judge(request(Operation::Get, 3), &reply);
            assert_eq!(
                (tally.gets.errors, tally.gets.wrong_values, tally.gets.hits),
                (1, 1, 0)
            );
            assert_eq!(tally.gets.latencies.histogram().len(), 0);
            assert_eq!(only_text(&tally), "wrong value");
        }
    }

    #[test]
    fn a_wrong_value_does_not_taint_the_next() {
        let mut exchange = Exchange::new(Protocol::Resp, true, 2);
        let mut tally = Tally::new();
        exchange.begin(request(Operation::Get, 3));
        exchange.begin(request(Operation::Get, 4));
        let replies = [value_reply(9), value_reply(4)].concat();
        assert_eq!(
            exchange.receive(&replies, 5_000, &values(), &mut tally),
            Ok(2)
        );
        assert_eq!((tally.gets.wrong_values, tally.gets.hits), (1, 1));
    }

    #[test]
    fn replies_that_do_not_fit_are_errors_by_their_text() {
        for (operation, reply, text) in [
            (Operation::Get, b"-ERR no\r\n".as_slice(), "ERR no"),
            (Operation::Set, b"-OOM full\r\n", "OOM full"),
            (Operation::Get, b"+OK\r\n", "unexpected reply to GET: OK"),
            (
                Operation::Get,
                b":1\r\n",
                "unexpected reply to GET: an integer",
            ),
            (
                Operation::Set,
                b"$-1\r\n",
                "unexpected reply to SET: a null",
            ),
            (
                Operation::Set,
                b"$1\r\nx\r\n",
                "unexpected reply to SET: a value",
            ),
        ] {
            let tally = judge(request(operation, 3), reply);
            assert_eq!((tally.errors(), tally.answered()), (1, 1), "{text}");
            assert_eq!(only_text(&tally), text);
        }
    }

    #[test]
    fn warm_up_records_nothing_and_prefill_only_errors() {
        let mut warm_up = request(Operation::Set, 3);
        warm_up.purpose = Purpose::WarmUp;
        let tally = judge(warm_up, b"-ERR no\r\n");
        assert_eq!((tally.errors(), tally.answered()), (0, 0));
        let mut prefill = warm_up;
        prefill.purpose = Purpose::Prefill;
        let tally = judge(prefill, b"-ERR no\r\n");
        assert_eq!((tally.prefill_errors, tally.answered()), (1, 0));
        assert_eq!(judge(prefill, b"+OK\r\n").errors(), 0);
    }

    #[test]
    fn what_was_not_asked_for_breaks_the_stream() {
        let unasked = |reply: &[u8]| {
            let mut exchange = Exchange::new(Protocol::Resp, false, 1);
            exchange.receive(reply, 0, &values(), &mut Tally::new())
        };
        let text = "ERR max number of clients reached".to_owned();
        assert_eq!(
            unasked(format!("-{text}\r\n").as_bytes()),
            Err(Broken::Refused(text))
        );
        assert_eq!(unasked(b"+OK\r\n"), Err(Broken::Unsolicited));
        assert!(matches!(unasked(b"HTTP"), Err(Broken::Unsolicited)));
    }
}
