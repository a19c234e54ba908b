//! What to do after an attempt. Pure: the rules by which nothing is executed twice that must not be.
//!
//! | attempt | read | idempotent write | write |
//! |---|---|---|---|
//! | never sent: no connection, or it ended before | again | again | again |
//! | MOVED | there at once | there at once | there at once |
//! | TRYAGAIN, CLUSTERDOWN, BUSY to a command of one key: refused, not executed | again | again | again |
//! | the same to one of several keys or none: a part may be executed | again | again | fails, may have been applied |
//! | sent, and the connection ended | again | again | fails, may have been applied |
//! | the server does not know what became of it | again | again | fails, may have been applied |
//! | the call's time-out passed | fails | fails, may have been applied if it was sent | the same |
//! | any other error to a command of one key | fails | fails | fails |
//! | the same to one of several keys or none | fails | fails, may have been applied | the same |
//!
//! *Again* is after a pause, and bounded in number. An idempotent write that fails in the end may have been
//! applied if any attempt may.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::backoff;
use crate::command::{Kind, Request};
use crate::connection::Lost;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::value::Value;

/// Redirections that are followed at once; those beyond wait, since nodes disagree.
const REDIRECTIONS_MAX: u32 = 3;

/// How one attempt ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The node answered, with an error perhaps.
    Answered(Value),
    /// There was no connection to it.
    Unreachable(Error),
    /// Its connection ended.
    Lost(Lost),
    /// The call's time-out passed.
    TimedOut {
        /// Whether the node may have the command.
        was_sent: bool,
    },
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Verdict {
    Done(Result<Value>),
    /// Ask this node at once.
    Redirect(Arc<str>),
    /// Ask whoever the map names, after a pause.
    Again(Duration),
}

/// What a call has tried.
#[derive(Debug)]
pub(crate) struct Attempts {
    kind: Kind,
    has_one_key: bool,
    retries: u32,
    redirections: u32,
    /// An attempt was sent, and its outcome is unknown.
    is_doubtful: bool,
    /// Why the last attempt failed.
    last: Option<Error>,
}

impl Attempts {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            kind: request.kind,
            has_one_key: request.has_one_key,
            retries: 0,
            redirections: 0,
            is_doubtful: false,
            last: None,
        }
    }

    /// Whether nothing was tried yet.
    pub(crate) fn is_first(&self) -> bool {
        self.retries == 0
    }

    /// Judges an attempt at the node at `asked`.
    pub(crate) fn judge(&mut self, outcome: Outcome, asked: &str, options: &Options) -> Verdict {
        match outcome {
            Outcome::Answered(Value::Error(error)) => {
                if let Some(address) = error.moved_to(asked) {
                    return self.redirect(
                        address,
                        asked,
                        Error::new(ErrorKind::Server(error)),
                        options,
                    );
                }
                let is_unknown = error.is_outcome_unknown();
                let is_final = !is_unknown && !error.is_temporary();
                let may_be_executed = is_unknown || !self.has_one_key;
                if may_be_executed {
                    self.doubt();
                }
                let error = Error::new(ErrorKind::Server(error));
                if is_final {
                    self.fail(error)
                } else if may_be_executed {
                    self.again_if_harmless(error, options)
                } else {
                    self.again(error, options)
                }
            }
            Outcome::Answered(value) => Verdict::Done(Ok(value)),
            Outcome::Unreachable(error) => self.again(error, options),
            Outcome::Lost(lost) => {
                let error = Error::new(ErrorKind::Disconnected(lost.reason));
                if lost.was_sent {
                    self.doubt();
                    self.again_if_harmless(error, options)
                } else {
                    self.again(error, options)
                }
            }
            Outcome::TimedOut { was_sent } => {
                if was_sent {
                    self.doubt();
                    self.last = None;
                }
                Verdict::Done(Err(self.end()))
            }
        }
    }

    fn doubt(&mut self) {
        self.is_doubtful = self.kind != Kind::Read;
    }

    fn redirect(
        &mut self,
        address: String,
        asked: &str,
        error: Error,
        options: &Options,
    ) -> Verdict {
        self.redirections += 1;
        if address == asked || self.redirections > REDIRECTIONS_MAX {
            return self.again(error, options);
        }
        match self.again(error, options) {
            Verdict::Again(_) => Verdict::Redirect(address.into()),
            other => other,
        }
    }

    /// After an attempt that may have been executed.
    fn again_if_harmless(&mut self, error: Error, options: &Options) -> Verdict {
        if self.kind == Kind::Write {
            self.fail(error)
        } else {
            self.again(error, options)
        }
    }

    fn again(&mut self, error: Error, options: &Options) -> Verdict {
        if self.retries >= options.retries_max {
            return self.fail(error);
        }
        self.retries += 1;
        self.last = Some(error);
        Verdict::Again(backoff(self.retries, options))
    }

    /// The time-out passed: why the last attempt failed, if another could not be made any more.
    pub(crate) fn end(&mut self) -> Error {
        let error = self.last.take().unwrap_or_else(Error::timed_out);
        error.doubtful_if(self.is_doubtful)
    }

    fn fail(&self, error: Error) -> Verdict {
        Verdict::Done(Err(error.doubtful_if(self.is_doubtful)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Attempts, Outcome, REDIRECTIONS_MAX, Verdict};
    use crate::command::{Command, Kind};
    use crate::connection::Lost;
    use crate::error::{ConnectError, Disconnect, Error, ErrorKind};
    use crate::options::Options;
    use crate::value::{ServerError, Value};

    fn error(text: &'static str) -> Outcome {
        Outcome::Answered(Value::Error(ServerError::new(Bytes::from_static(
            text.as_bytes(),
        ))))
    }

    fn lost(was_sent: bool) -> Outcome {
        Outcome::Lost(Lost {
            reason: Disconnect::Closed,
            was_sent,
        })
    }

    fn unreachable() -> Outcome {
        let reason = ConnectError::Backoff;
        Outcome::Unreachable(Error::new(ErrorKind::Unreachable {
            address: "a:1".into(),
            reason,
        }))
    }

    fn attempts(kind: Kind, keys_count: usize) -> Attempts {
        let named = Command::new(kind, "COMMAND");
        let command = (0..keys_count).fold(named, |command, _| command.key("k"));
        Attempts::new(&command.into_request())
    }

    /// `again`, `there`, `fails`, `doubtful`, or `ok`.
    fn verdict(attempts: &mut Attempts, outcome: Outcome) -> &'static str {
        match attempts.judge(outcome, "a:1", &Options::default()) {
            Verdict::Again(_) => "again",
            Verdict::Redirect(_) => "there",
            Verdict::Done(Ok(_)) => "ok",
            Verdict::Done(Err(error)) if error.may_have_been_applied() => "doubtful",
            Verdict::Done(Err(_)) => "fails",
        }
    }

    #[test]
    fn each_attempt_is_judged_by_what_may_have_happened() {
        let kinds = [Kind::Read, Kind::IdempotentWrite, Kind::Write];
        type Case = (fn() -> Outcome, [&'static str; 3]);
        let cases: [Case; 13] = [
            (|| Outcome::Answered(Value::Null), ["ok"; 3]),
            (unreachable, ["again"; 3]),
            (|| lost(false), ["again"; 3]),
            (|| lost(true), ["again", "again", "doubtful"]),
            (|| error("MOVED 1 b:1"), ["there"; 3]),
            (|| error("MOVED 1 a:1"), ["again"; 3]),
            (|| error("TRYAGAIN x"), ["again"; 3]),
            (|| error("CLUSTERDOWN x"), ["again"; 3]),
            (|| error("BUSY x"), ["again"; 3]),
            (
                || error("ERR outcome is unknown: x"),
                ["again", "again", "doubtful"],
            ),
            (|| error("WRONGTYPE x"), ["fails"; 3]),
            (
                || Outcome::TimedOut { was_sent: true },
                ["fails", "doubtful", "doubtful"],
            ),
            (|| Outcome::TimedOut { was_sent: false }, ["fails"; 3]),
        ];
        for (outcome, expected) in cases {
            for (kind, expected) in kinds.into_iter().zip(expected) {
                let found = verdict(&mut attempts(kind, 1), outcome());
                assert_eq!(found, expected, "{kind:?} after {:?}", outcome());
            }
        }
    }

    #[test]
    fn what_is_refused_of_several_keys_or_none_may_be_executed_in_part() {
        for text in ["TRYAGAIN x", "CLUSTERDOWN x", "BUSY x"] {
            for keys_count in [0, 2] {
                let judged = |kind| verdict(&mut attempts(kind, keys_count), error(text));
                assert_eq!(judged(Kind::Read), "again");
                assert_eq!(judged(Kind::IdempotentWrite), "again");
                assert_eq!(judged(Kind::Write), "doubtful");
            }
        }
        let judged = |kind| verdict(&mut attempts(kind, 2), error("ERR x"));
        assert_eq!(judged(Kind::Read), "fails");
        assert_eq!(judged(Kind::IdempotentWrite), "doubtful");
        assert_eq!(judged(Kind::Write), "doubtful");
        let mut moved = attempts(Kind::Write, 2);
        assert_eq!(verdict(&mut moved, error("MOVED 1 b:1")), "there");
    }

    #[test]
    fn retries_are_bounded_and_doubts_are_kept() {
        for (kind, last) in [
            (Kind::Read, "fails"),
            (Kind::IdempotentWrite, "doubtful"),
            (Kind::Write, "fails"),
        ] {
            let mut attempts = attempts(kind, 1);
            let first = if kind == Kind::Write {
                lost(false)
            } else {
                lost(true)
            };
            assert_eq!(verdict(&mut attempts, first), "again");
            for _ in 1..Options::default().retries_max {
                assert_eq!(verdict(&mut attempts, unreachable()), "again");
            }
            assert_eq!(verdict(&mut attempts, unreachable()), last, "{kind:?}");
        }
    }

    #[test]
    fn when_time_is_up_the_last_reason_and_all_doubts_are_told() {
        let mut sent = attempts(Kind::IdempotentWrite, 1);
        assert_eq!(verdict(&mut sent, lost(true)), "again");
        assert_eq!(verdict(&mut sent, error("BUSY x")), "again");
        let error_of_sent = sent.end();
        assert!(matches!(error_of_sent.kind(), ErrorKind::Server(_)));
        assert!(error_of_sent.may_have_been_applied());
        for (was_sent, is_timeout) in [(false, false), (true, true)] {
            let mut refused = attempts(Kind::Write, 1);
            assert_eq!(verdict(&mut refused, unreachable()), "again");
            let outcome = Outcome::TimedOut { was_sent };
            match refused.judge(outcome, "a:1", &Options::default()) {
                Verdict::Done(Err(error)) => {
                    assert_eq!(error.is_timeout(), is_timeout);
                    assert_eq!(error.may_have_been_applied(), was_sent);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(attempts(Kind::Read, 1).end().is_timeout());
    }

    #[test]
    fn nodes_that_send_a_call_to_and_fro_are_not_followed_at_once_for_ever() {
        let mut attempts = attempts(Kind::Write, 1);
        for _ in 0..REDIRECTIONS_MAX {
            assert_eq!(verdict(&mut attempts, error("MOVED 1 b:1")), "there");
        }
        assert_eq!(verdict(&mut attempts, error("MOVED 1 b:1")), "again");
    }
}
