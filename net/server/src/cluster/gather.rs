//! A command whose parts are executed by several nodes, and the one reply that theirs make.
//!
//! Not atomic: each part is, the whole is not. Parts are asked for in RESP2, whatever the client
//! speaks; the whole is encoded for the client.

use fulmar_cluster::{NodeId, Range};
use fulmar_protocol::ReplySink;
use fulmar_protocol::command::table::{CommandId, CommandSpec};
use fulmar_protocol::resp::{Token, next_token};

use super::forwards::{Failure, Reply};
use super::view::{Owner, View};

/// Keys of a part, as positions in the whole command's keys; empty where the command has none.
type Places = Vec<usize>;

/// Who is to execute a part, and its arguments.
pub(crate) type PartCommand<'a> = (Owner, Vec<&'a [u8]>);

/// One node's part.
#[derive(Debug)]
struct Part {
    owner: Owner,
    places: Places,
    reply: Option<Result<Vec<u8>, Failure>>,
}

/// A part that came back to this node while it was under way fails: its keys have moved.
fn result(reply: Reply) -> Result<Vec<u8>, Failure> {
    match reply {
        Reply::Bytes(bytes) => Ok(bytes),
        Reply::Failed(failure) => Err(failure),
        Reply::Here(_) => Err(Failure::NotExecuted),
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Gather {
    id: CommandId,
    keys_count: usize,
    parts: Vec<Part>,
    missing: usize,
}

/// Why the parts make no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// It was replied.
    Replied,
    /// A node answered with this error, as RESP without its `-` and line end.
    Error(Vec<u8>),
    /// A node did not answer.
    Failed(Failure),
}

impl Gather {
    /// Takes a command on keys of several nodes apart. Gives for each part its owner and arguments.
    pub(crate) fn by_keys<'a>(
        spec: &CommandSpec,
        args: &[&'a [u8]],
        view: &View,
    ) -> (Self, Vec<PartCommand<'a>>) {
        let step = usize::from(spec.keys.step).max(1);
        let mut parts: Vec<Part> = Vec::new();
        let mut commands: Vec<PartCommand<'_>> = Vec::new();
        let mut keys_count = 0;
        for (place, at) in spec.key_positions(args.len()).enumerate() {
            let owner = view.owner(Range::of(args[at]));
            let found = parts.iter().position(|part| part.owner == owner);
            let index = found.unwrap_or_else(|| {
                parts.push(Part::new(owner));
                commands.push((owner, vec![args[0]]));
                parts.len() - 1
            });
            parts[index].places.push(place);
            let end = (at + step).min(args.len());
            commands[index].1.extend_from_slice(&args[at..end]);
            keys_count += 1;
        }
        (Self::new(spec.id, keys_count, parts), commands)
    }

    /// Has all members execute a command. Gives the order of its parts.
    pub(crate) fn everywhere(id: CommandId, view: &View) -> (Self, Vec<Owner>) {
        let owner = |node: NodeId| match node {
            node if node == view.own() => Owner::Own,
            node => Owner::Node(node),
        };
        let members = view.topology().members().iter();
        let owners: Vec<Owner> = members.map(|member| owner(member.id)).collect();
        let parts = owners.iter().map(|&owner| Part::new(owner)).collect();
        (Self::new(id, 0, parts), owners)
    }

    fn new(id: CommandId, keys_count: usize, parts: Vec<Part>) -> Self {
        Self {
            id,
            keys_count,
            missing: parts.len(),
            parts,
        }
    }

    pub(crate) fn id(&self) -> CommandId {
        self.id
    }

    /// Brings a part's reply; true if it was the last one missing.
    pub(crate) fn fill(&mut self, part: usize, reply: Reply) -> bool {
        if let Some(part) = self.parts.get_mut(part)
            && part.reply.is_none()
        {
            part.reply = Some(result(reply));
            self.missing -= 1;
        }
        self.is_complete()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Memory held, in bytes.
    pub(crate) fn bytes_held(&self) -> usize {
        let held = |part: &Part| match &part.reply {
            Some(Ok(reply)) => reply.capacity(),
            _ => 0,
        };
        let places: usize = self.parts.iter().map(|part| part.places.capacity()).sum();
        self.parts.iter().map(held).sum::<usize>() + places * size_of::<usize>()
    }

    /// Writes the whole's reply, if all parts have one. It is complete. `random` chooses where one of
    /// several parts is the whole.
    pub(crate) fn reply(&self, random: u64, sink: &mut dyn ReplySink) -> Whole {
        let mut replies = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match &part.reply {
                Some(Ok(reply)) => replies.push(reply.as_slice()),
                Some(Err(failure)) => return Whole::Failed(*failure),
                None => return Whole::Failed(Failure::Unknown),
            }
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

impl Part {
    fn new(owner: Owner) -> Self {
        Self {
            owner,
            places: Places::new(),
            reply: None,
        }
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
    use fulmar_protocol::command::table::lookup;
    use fulmar_protocol::resp::{Encoder, RespVersion};

    use super::{Gather, Whole};
    use crate::cluster::forwards::{Failure, Reply};
    use crate::cluster::view::Owner;
    use crate::cluster::way::tests::view;

    fn apart(command: &str) -> (Gather, Vec<(Owner, String)>) {
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let spec = lookup(&args).expect("a command");
        let (gather, commands) = Gather::by_keys(spec, &args, &view());
        let text = |args: Vec<&[u8]>| String::from_utf8(args.join(&b' ')).expect("text");
        let texts = commands
            .into_iter()
            .map(|(owner, args)| (owner, text(args)));
        (gather, texts.collect())
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
        let id = lookup(&[b"randomkey"]).expect("it").id;
        let (mut gather, _) = Gather::everywhere(id, &view());
        gather.fill(0, Reply::Bytes(b"$-1\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"$1\r\nb\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok("$1\r\nb\r\n".into()));
        let (mut gather, _) = Gather::everywhere(id, &view());
        gather.fill(0, Reply::Bytes(b"$1\r\na\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"$1\r\nb\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok("$1\r\nb\r\n".into()), "by an odd number");
        let (mut gather, _) = Gather::everywhere(id, &view());
        gather.fill(0, Reply::Bytes(b"$-1\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"$-1\r\n".to_vec()));
        assert_eq!(whole(&gather), Ok("_\r\n".into()));
    }

    #[test]
    fn keys_of_all_nodes_are_one_list() {
        let (mut gather, owners) =
            Gather::everywhere(lookup(&[b"keys", b"*"]).expect("it").id, &view());
        assert_eq!(owners.len(), 2);
        gather.fill(0, Reply::Bytes(b"*1\r\n$1\r\na\r\n".to_vec()));
        gather.fill(1, Reply::Bytes(b"*2\r\n$1\r\nb\r\n$1\r\nc\r\n".to_vec()));
        assert_eq!(
            whole(&gather),
            Ok("*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n".into())
        );
    }
}
