//! A command whose parts are executed by several nodes, and the one reply that theirs make.
//!
//! Not atomic: each part is, the whole is not. Parts are asked for in RESP2, whatever the client
//! speaks; the whole is encoded for the client. A transaction is a part alone, and asked for as the
//! client speaks.
//!
//! A part that was not executed, since its keys were changing hands, comes back with its arguments, and is
//! dealt out anew, until a deadline.

use fulmar_cluster::{Epoch, NodeId, Range, Time};
use fulmar_protocol::ReplySink;
use fulmar_protocol::command::table::{CommandId, CommandSpec};
use fulmar_protocol::resp::{Token, next_token};

use super::forwards::{FORWARD_MS_MAX, Failure, Reply};
use super::view::{Owner, View};
use crate::pending::Pending;

/// What was not executed is dealt out again after so long, if the topology does not change before.
const RETRY_MS: u64 = 20;
/// Nothing is dealt out again when less than this is left.
pub(crate) const LAST_TRY_MS: u64 = 200;

/// Keys of a part, as positions in the whole command's keys; empty where the command has none.
type Places = Vec<usize>;

/// A part that is to be executed.
pub(crate) struct PartCommand<'a> {
    /// Its number.
    pub(crate) part: usize,
    /// By whom.
    pub(crate) owner: Owner,
    pub(crate) args: Vec<&'a [u8]>,
}

/// One node's part.
#[derive(Debug)]
struct Part {
    places: Places,
    reply: PartReply,
}

/// What has come of a part.
#[derive(Debug)]
enum PartReply {
    Missing,
    Bytes(Vec<u8>),
    Failed(Failure),
    /// It was not executed, and can be dealt out again.
    Back(Pending),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Gather {
    id: CommandId,
    keys_count: usize,
    parts: Vec<Part>,
    missing: usize,
    /// A part that came back may have been executed before.
    is_doubtful: bool,
    /// Until when parts that were not executed are dealt out again.
    deadline: Time,
    /// The topology by which they were last, and when they may be if it is still in force.
    epoch: Epoch,
    retry_at: Time,
}

/// Why the parts make no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// It was replied.
    Replied,
    /// This is it.
    Bytes(Vec<u8>),
    /// A node answered with this error, as RESP without its `-` and line end.
    Error(Vec<u8>),
    /// A node did not answer.
    Failed(Failure),
}

impl Gather {
    /// Of a command that is given its parts now.
    pub(crate) fn new(id: CommandId, now: Time) -> Self {
        Self {
            id,
            keys_count: 0,
            parts: Vec::new(),
            missing: 0,
            is_doubtful: false,
            deadline: now.plus_ms(FORWARD_MS_MAX),
            epoch: Epoch(0),
            retry_at: Time(0),
        }
    }

    /// Deals out a command on keys of several nodes, or on none: then to all members. Gives its parts.
    pub(crate) fn deal<'a>(
        &mut self,
        spec: &CommandSpec,
        args: &[&'a [u8]],
        view: &View,
        now: Time,
    ) -> Vec<PartCommand<'a>> {
        self.note_dealt(view, now);
        self.keys_count = spec.key_positions(args.len()).count();
        if self.keys_count == 0 {
            return self.deal_everywhere(args, view);
        }
        let places: Vec<usize> = (0..self.keys_count).collect();
        self.deal_by_keys(spec, args, &places, view)
    }

    /// Of a command that one node executes as a whole. Gives its part.
    pub(crate) fn deal_whole(&mut self, view: &View, now: Time) -> usize {
        self.note_dealt(view, now);
        self.add()
    }

    fn note_dealt(&mut self, view: &View, now: Time) {
        self.epoch = view.topology().epoch();
        self.retry_at = now.plus_ms(RETRY_MS);
    }

    /// `places` are those of the arguments' keys in the whole command.
    fn deal_by_keys<'a>(
        &mut self,
        spec: &CommandSpec,
        args: &[&'a [u8]],
        places: &[usize],
        view: &View,
    ) -> Vec<PartCommand<'a>> {
        let step = usize::from(spec.keys.step).max(1);
        let mut commands: Vec<PartCommand<'_>> = Vec::new();
        for (at, &place) in spec.key_positions(args.len()).zip(places) {
            let owner = view.owner(Range::of(args[at]));
            let found = commands.iter().position(|command| command.owner == owner);
            let index = found.unwrap_or_else(|| {
                let (part, args) = (self.add(), vec![args[0]]);
                commands.push(PartCommand { part, owner, args });
                commands.len() - 1
            });
            let command = &mut commands[index];
            self.parts[command.part].places.push(place);
            let end = (at + step).min(args.len());
            command.args.extend_from_slice(&args[at..end]);
        }
        commands
    }

    fn deal_everywhere<'a>(&mut self, args: &[&'a [u8]], view: &View) -> Vec<PartCommand<'a>> {
        let owner = |node: NodeId| match node {
            node if node == view.own() => Owner::Own,
            node => Owner::Node(node),
        };
        let members = view.topology().members().iter();
        let mut command = |owner| PartCommand {
            part: self.add(),
            owner,
            args: args.to_vec(),
        };
        members.map(|member| command(owner(member.id))).collect()
    }

    fn add(&mut self) -> usize {
        self.parts.push(Part {
            places: Places::new(),
            reply: PartReply::Missing,
        });
        self.missing += 1;
        self.parts.len() - 1
    }

    pub(crate) fn id(&self) -> CommandId {
        self.id
    }

    /// Until when it is tried.
    pub(crate) fn deadline(&self) -> Time {
        self.deadline
    }

    /// Brings a part's reply; true if it was the last one missing.
    pub(crate) fn fill(&mut self, part: usize, reply: Reply) -> bool {
        let reply = match reply {
            Reply::Bytes(bytes) => PartReply::Bytes(bytes),
            Reply::Failed(failure) => PartReply::Failed(failure),
            Reply::Here(forward) => {
                self.is_doubtful |= forward.may_be_executed();
                PartReply::Back(forward.args)
            }
        };
        self.put(part, reply);
        self.is_complete()
    }

    /// Notes that a part cannot be executed now.
    pub(crate) fn put_back(&mut self, part: usize, args: Pending) {
        self.put(part, PartReply::Back(args));
    }

    fn put(&mut self, part: usize, reply: PartReply) {
        if let Some(part) = self.parts.get_mut(part)
            && matches!(part.reply, PartReply::Missing)
        {
            part.reply = reply;
            self.missing -= 1;
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Whether, once it is complete, some parts are to be dealt out again, and whether that is now. Not so
    /// late that they could be executed and not answer in time, nor where one has failed.
    pub(crate) fn wants_again(&self, epoch: Epoch, now: Time) -> Option<bool> {
        let has_failed = |part: &Part| matches!(part.reply, PartReply::Failed(_));
        let is_open = now.plus_ms(LAST_TRY_MS) < self.deadline
            && self.back_count() > 0
            && !self.parts.iter().any(has_failed);
        is_open.then_some(epoch != self.epoch || now >= self.retry_at)
    }

    /// Parts that came back.
    pub(crate) fn back_count(&self) -> usize {
        let back = self.parts.iter();
        back.filter(|part| matches!(part.reply, PartReply::Back(_)))
            .count()
    }

    /// Deals out the parts again that were not executed, and hands the new ones to `send`. Of a command
    /// that all members execute all parts: keys may have moved to one that had executed its.
    pub(crate) fn deal_again(
        &mut self,
        spec: &CommandSpec,
        view: &View,
        now: Time,
        mut send: impl FnMut(&mut Self, Vec<PartCommand<'_>>),
    ) {
        self.note_dealt(view, now);
        let is_back = |part: &mut Part| matches!(part.reply, PartReply::Back(_));
        let back: Vec<Part> = self.parts.extract_if(.., is_back).collect();
        for part in back {
            let PartReply::Back(args) = part.reply else {
                unreachable!("they were chosen so");
            };
            let is_everywhere = self.keys_count == 0;
            if is_everywhere {
                self.parts.clear();
            }
            args.with_argv(|argv| {
                let commands = if is_everywhere {
                    self.deal_everywhere(argv.args, view)
                } else {
                    self.deal_by_keys(spec, argv.args, &part.places, view)
                };
                send(self, commands);
            });
            if is_everywhere {
                return;
            }
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn bytes_held(&self) -> usize {
        let held = |part: &Part| match &part.reply {
            PartReply::Bytes(reply) => reply.capacity(),
            PartReply::Back(args) => args.bytes_held(),
            PartReply::Missing | PartReply::Failed(_) => 0,
        };
        let places: usize = self.parts.iter().map(|part| part.places.capacity()).sum();
        self.parts.iter().map(held).sum::<usize>() + places * size_of::<usize>()
    }

    /// Writes the whole's reply, if all parts have one. It is complete. `random` chooses where one of
    /// several parts is the whole. Of a write only a part of which was executed, or may have been, the outcome is
    /// unknown.
    pub(crate) fn reply(&self, random: u64, sink: &mut dyn ReplySink) -> Whole {
        let mut replies = Vec::with_capacity(self.parts.len());
        let mut failures = Vec::new();
        for part in &self.parts {
            match &part.reply {
                PartReply::Bytes(reply) => replies.push(reply.as_slice()),
                PartReply::Failed(failure) => failures.push(*failure),
                PartReply::Back(_) => failures.push(Failure::NotExecuted),
                PartReply::Missing => failures.push(Failure::Unknown),
            }
        }
        if let Some(&first) = failures.first() {
            let is_begun = self.id.spec().is_write() && !replies.is_empty();
            let is_unknown = is_begun || self.is_doubtful || failures.contains(&Failure::Unknown);
            return Whole::Failed(if is_unknown { Failure::Unknown } else { first });
        }
        if self.id == CommandId::Exec {
            return match replies[..] {
                [reply] => Whole::Bytes(reply.to_vec()),
                _ => Whole::Failed(Failure::Unknown),
            };
        }
        for reply in &replies {
            if let Some(Token::Error(text)) = next_token(&mut &**reply) {
                return Whole::Error(text.to_vec());
            }
        }
        let whole = match self.id {
            CommandId::MGet => self.merge_by_place(&replies, sink),
            CommandId::Keys => merge_arrays(&replies, sink),
            CommandId::MSet | CommandId::FlushAll | CommandId::FlushDb => {
                sink.ok();
                Some(())
            }
            CommandId::RandomKey => one_key(&replies, random, sink),
            _ => sum(&replies, sink),
        };
        match whole {
            Some(()) => Whole::Replied,
            // No node of ours answers so.
            None => Whole::Failed(Failure::Unknown),
        }
    }

    fn merge_by_place(&self, replies: &[&[u8]], sink: &mut dyn ReplySink) -> Option<()> {
        let mut values: Vec<Token<'_>> = vec![Token::Null; self.keys_count];
        for (part, mut reply) in self.parts.iter().zip(replies.iter().copied()) {
            let Token::Array(count) = next_token(&mut reply)? else {
                return None;
            };
            if count != part.places.len() {
                return None;
            }
            for &place in &part.places {
                values[place] = next_token(&mut reply)?;
            }
        }
        sink.array(values.len());
        values.into_iter().try_for_each(|value| put(value, sink))
    }
}

/// Writes a bulk string or null.
fn put(token: Token<'_>, sink: &mut dyn ReplySink) -> Option<()> {
    match token {
        Token::Bulk(bytes) => sink.bulk(bytes),
        Token::Null => sink.null(),
        _ => return None,
    }
    Some(())
}

fn merge_arrays(replies: &[&[u8]], sink: &mut dyn ReplySink) -> Option<()> {
    let mut tokens = Vec::new();
    for mut reply in replies.iter().copied() {
        let Token::Array(count) = next_token(&mut reply)? else {
            return None;
        };
        for _ in 0..count {
            tokens.push(next_token(&mut reply)?);
        }
    }
    sink.array(tokens.len());
    tokens.into_iter().try_for_each(|token| put(token, sink))
}

/// One of the keys that nodes of about the same size have chosen; null if none has any.
fn one_key(replies: &[&[u8]], random: u64, sink: &mut dyn ReplySink) -> Option<()> {
    let mut found = Vec::new();
    for mut reply in replies.iter().copied() {
        if let token @ Token::Bulk(_) = next_token(&mut reply)? {
            found.push(token);
        }
    }
    let place = random.checked_rem(found.len() as u64).unwrap_or(0);
    let place = usize::try_from(place).expect("below a length");
    put(found.get(place).copied().unwrap_or(Token::Null), sink)
}

fn sum(replies: &[&[u8]], sink: &mut dyn ReplySink) -> Option<()> {
    let mut sum = 0;
    for mut reply in replies.iter().copied() {
        let Token::Integer(count) = next_token(&mut reply)? else {
            return None;
        };
        sum += count;
    }
    sink.integer(sum);
    Some(())
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::{Epoch, NodeId, Time};
    use fulmar_protocol::command::Argv;
    use fulmar_protocol::command::table::{CommandId, lookup};
    use fulmar_protocol::resp::{Encoder, RespVersion};

    use super::{FORWARD_MS_MAX, Gather, LAST_TRY_MS, Whole};
    use crate::cluster::forwards::{Destination, Failure, Forward, Reply, Target};
    use crate::cluster::view::Owner;
    use crate::cluster::way::tests::view;
    use crate::message::ReplyForm;
    use crate::pending::Pending;
    use crate::ring::ConnectionId;

    fn apart(command: &str) -> (Gather, Vec<(Owner, String)>) {
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let spec = lookup(&args).expect("a command");
        let mut gather = Gather::new(spec.id, Time(0));
        let commands = gather.deal(spec, &args, &view(), Time(0));
        let texts = commands.iter().map(|one| (one.owner, text(&one.args)));
        (gather, texts.collect())
    }

    fn text(args: &[&[u8]]) -> String {
        String::from_utf8(args.join(&b' ')).expect("text")
    }

    /// A part that was not executed.
    fn back(text: &str) -> Reply {
        let args: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        let argv = Argv {
            args: &args,
            staged: &[],
        };
        let destination = Destination {
            connection: ConnectionId::new(0, 0),
            target: Target::Part(0),
            form: ReplyForm::Resp(RespVersion::Resp2),
        };
        let args = Pending::new(&argv, Vec::new());
        let node = NodeId(2);
        Reply::Here(Box::new(Forward::new(
            destination,
            CommandId::MGet,
            args,
            false,
            node,
            None,
            Time(0),
        )))
    }

    #[test]
    fn a_part_that_comes_back_is_remembered_to_have_been_sent() {
        for (was_sent, expected) in [(false, Failure::NotExecuted), (true, Failure::Unknown)] {
            let (mut gather, _) = apart("MSET foo 1 bar 2");
            let Reply::Here(mut forward) = back("MSET foo 1") else {
                unreachable!("it is one that came back");
            };
            forward.id = CommandId::MSet;
            if was_sent {
                forward.note_lost();
            }
            gather.fill(0, Reply::Here(forward));
            gather.fill(1, back("MSET bar 2"));
            assert_eq!(whole(&gather), Err(Whole::Failed(expected)));
        }
    }

    /// Deals out what came back; the new parts.
    fn again(gather: &mut Gather, id: CommandId) -> Vec<(usize, Owner, String)> {
        let mut parts = Vec::new();
        gather.deal_again(id.spec(), &view(), Time(20), |_, commands| {
            let commands = commands.iter();
            parts.extend(commands.map(|one| (one.part, one.owner, text(&one.args))));
        });
        parts
    }

    fn whole(gather: &Gather) -> Result<String, Whole> {
        let mut bytes = Vec::new();
        match gather.reply(5, &mut Encoder::new(&mut bytes, RespVersion::Resp3)) {
            Whole::Replied => Ok(String::from_utf8(bytes).expect("text")),
            other => Err(other),
        }
    }

    #[test]
    fn values_come_back_in_the_order_of_their_keys() {
        let (mut gather, commands) = apart("MGET bar foo hello foo");
        let texts: Vec<&str> = commands.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["MGET bar hello", "MGET foo foo"]);
        assert_eq!(commands[1].0, Owner::Own);
        assert!(!gather.fill(1, Reply::Bytes(b"*2\r\n$1\r\nF\r\n$1\r\nF\r\n".to_vec())));
        assert!(!gather.fill(1, Reply::Bytes(b"twice".to_vec())));
        assert!(gather.fill(0, Reply::Bytes(b"*2\r\n$1\r\nB\r\n$-1\r\n".to_vec())));
        let reply = "*4\r\n$1\r\nB\r\n$1\r\nF\r\n_\r\n$1\r\nF\r\n";
        assert_eq!(whole(&gather), Ok(reply.into()));
    }

    #[test]
    fn pairs_stay_together_and_counts_are_summed() {
        let (mut gather, commands) = apart("MSET foo 1 bar 2");
        let texts: Vec<&str> = commands.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["MSET foo 1", "MSET bar 2"]);
        gather.fill(0, Reply::Bytes(b"+OK\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"+OK\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok("+OK\r\n".into()));
        let (mut gather, _) = apart("DEL foo bar hello");
        gather.fill(0, Reply::Bytes(b":1\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b":2\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok(":3\r\n".into()));
    }

    #[test]
    fn what_was_not_executed_is_dealt_out_again() {
        let epoch = view().topology().epoch();
        let (mut gather, _) = apart("MGET bar foo hello");
        assert!(!gather.fill(1, Reply::Bytes(b"*1\r\n$1\r\nF\r\n".to_vec())));
        // Since it was sent, one of its keys has come to this node.
        assert!(gather.fill(0, back("MGET foo hello")));
        assert_eq!(gather.wants_again(epoch, Time(19)), Some(false), "a pause");
        assert_eq!(gather.wants_again(epoch.next(), Time(19)), Some(true));
        assert_eq!(gather.wants_again(epoch, Time(20)), Some(true));
        let parts = again(&mut gather, CommandId::MGet);
        let own = (1, Owner::Own, "MGET foo".to_owned());
        assert_eq!(
            parts,
            [own, (2, Owner::Node(NodeId(2)), "MGET hello".into())]
        );
        assert_eq!(
            gather.wants_again(epoch, Time(30)),
            None,
            "they are missing"
        );
        gather.fill(1, Reply::Bytes(b"*1\r\n$1\r\nB\r\n".to_vec()));
        assert!(gather.fill(2, Reply::Bytes(b"*1\r\n$1\r\nH\r\n".to_vec())));
        let reply = "*3\r\n$1\r\nB\r\n$1\r\nF\r\n$1\r\nH\r\n";
        assert_eq!(whole(&gather), Ok(reply.into()));
    }

    #[test]
    fn counts_of_what_was_executed_stay_and_time_ends_it() {
        let (mut gather, _) = apart("DEL foo bar");
        gather.fill(0, Reply::Bytes(b":1\r\n".to_vec()));
        gather.fill(1, back("DEL bar"));
        assert_eq!(again(&mut gather, CommandId::Del).len(), 1);
        gather.fill(1, Reply::Bytes(b":1\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok(":2\r\n".into()));
        let (mut gather, _) = apart("DEL foo bar");
        gather.fill(0, Reply::Bytes(b":1\r\n".to_vec()));
        gather.fill(1, back("DEL bar"));
        let last = Time(FORWARD_MS_MAX - LAST_TRY_MS);
        assert_eq!(gather.wants_again(Epoch(9), Time(last.0 - 1)), Some(true));
        assert_eq!(gather.wants_again(Epoch(9), last), None);
        assert_eq!(whole(&gather), Err(Whole::Failed(Failure::Unknown)));
    }

    #[test]
    fn a_write_was_not_executed_only_if_no_part_of_it_may_have_been() {
        let unknown = || Reply::Failed(Failure::Unknown);
        for (command, first, second, expected) in [
            (
                "MSET foo 1 bar 2",
                back("MSET foo 1"),
                back("MSET bar 2"),
                Failure::NotExecuted,
            ),
            (
                "MSET foo 1 bar 2",
                back("MSET foo 1"),
                unknown(),
                Failure::Unknown,
            ),
            (
                "MSET foo 1 bar 2",
                Reply::Failed(Failure::Down),
                back("MSET bar 2"),
                Failure::Down,
            ),
            (
                "MSET foo 1 bar 2",
                Reply::Bytes(b"+OK\r\n".to_vec()),
                back("MSET bar 2"),
                Failure::Unknown,
            ),
            (
                "MGET foo bar",
                Reply::Bytes(b"*1\r\n$-1\r\n".to_vec()),
                back("MGET bar"),
                Failure::NotExecuted,
            ),
        ] {
            let (mut gather, _) = apart(command);
            gather.fill(0, first);
            gather.fill(1, second);
            assert_eq!(whole(&gather), Err(Whole::Failed(expected)), "{command}");
        }
    }

    #[test]
    fn a_command_for_all_members_begins_anew_with_one_that_left() {
        let (mut gather, _) = apart("DBSIZE");
        gather.fill(0, Reply::Bytes(b":5\r\n".to_vec()));
        gather.fill(1, back("DBSIZE"));
        let parts = again(&mut gather, CommandId::DbSize);
        let numbers: Vec<usize> = parts.iter().map(|part| part.0).collect();
        assert_eq!(numbers, [0, 1]);
        gather.fill(0, Reply::Bytes(b":5\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b":3\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok(":8\r\n".into()));
    }

    #[test]
    fn a_part_that_failed_fails_the_whole() {
        let (mut gather, _) = apart("DEL foo bar");
        gather.fill(0, Reply::Bytes(b":1\r\n".to_vec()));
        gather.fill(1, Reply::Failed(Failure::Unknown));
        assert_eq!(whole(&gather), Err(Whole::Failed(Failure::Unknown)));
        let (mut gather, _) = apart("MSET foo 1 bar 2");
        gather.fill(0, Reply::Bytes(b"-OOM no room\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"+OK\r\n".to_vec()));
        assert_eq!(whole(&gather), Err(Whole::Error(b"OOM no room".to_vec())));
        let (mut gather, _) = apart("MGET foo bar");
        gather.fill(0, Reply::Bytes(b"*1\r\n$1\r\nx\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"*9\r\n".to_vec()));
        assert_eq!(whole(&gather), Err(Whole::Failed(Failure::Unknown)));
    }

    #[test]
    fn a_random_key_is_that_of_any_node_that_has_one() {
        let (mut gather, _) = apart("RANDOMKEY");
        gather.fill(0, Reply::Bytes(b"$-1\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"$1\r\nb\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok("$1\r\nb\r\n".into()));
        let (mut gather, _) = apart("RANDOMKEY");
        gather.fill(0, Reply::Bytes(b"$1\r\na\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"$1\r\nb\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok("$1\r\nb\r\n".into()), "by an odd number");
        let (mut gather, _) = apart("RANDOMKEY");
        gather.fill(0, Reply::Bytes(b"$-1\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"$-1\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok("_\r\n".into()));
    }

    #[test]
    fn keys_of_all_nodes_are_one_list() {
        let (mut gather, owners) = apart("KEYS *");
        assert_eq!(owners.len(), 2);
        gather.fill(0, Reply::Bytes(b"*1\r\n$1\r\na\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"*2\r\n$1\r\nb\r\n$1\r\nc\r\n".to_vec()));
        assert_eq!(
            whole(&gather),
            Ok("*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n".into())
        );
    }
}
