//! The shape of a row of the command table.

use super::{COMMANDS, CommandId};

/// One command or subcommand.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// Name in lower case; a subcommand's is `container|subcommand`.
    pub name: &'static str,
    /// Its place in the table.
    pub id: CommandId,
    /// Number of arguments with the name(s); negative: at least so many.
    pub arity: i8,
    /// What the command does and where it may run.
    pub flags: Flags,
    /// Where the keys stand.
    pub keys: KeySpec,
    /// What it does to its keys, in Redis's words for key specifications.
    pub key_access: &'static [&'static str],
    /// Where the values stand that may be streamed.
    pub values: KeySpec,
    /// Which shards it needs.
    pub scope: Scope,
    /// What it is about.
    pub group: Group,
    /// Bits of [`Category`] that do not follow from `flags`.
    pub(super) categories: u16,
    /// First version of Redis that had it.
    pub since: &'static str,
    /// What the command costs.
    pub complexity: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Hints for clients, in Redis's words.
    pub tips: &'static [&'static str],
    /// What is used instead, if it is deprecated: since when, and the replacement.
    pub deprecated: Option<(&'static str, &'static str)>,
    pub(super) subcommands_count: u8,
}

impl CommandSpec {
    /// The subcommands of a container, else none.
    #[must_use]
    pub fn subcommands(&self) -> &'static [Self] {
        let start = self.id.index() + 1;
        &COMMANDS[start..start + usize::from(self.subcommands_count)]
    }

    /// Does this row belong to a container?
    #[must_use]
    pub fn is_subcommand(&self) -> bool {
        self.name.contains('|')
    }

    /// May `args_count` arguments, name(s) included, be given?
    #[must_use]
    #[inline]
    pub fn takes(&self, args_count: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 {
            args_count == wanted
        } else {
            args_count >= wanted
        }
    }

    /// The positions of the keys in an argv of `args_count`.
    #[inline]
    pub fn key_positions(&self, args_count: usize) -> Positions {
        self.keys.positions(args_count)
    }

    /// The keys in `args`.
    pub fn keys_in<'a>(&self, args: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
        self.key_positions(args.len())
            .filter_map(|position| args.get(position).copied())
    }

    /// Does the command change data?
    #[must_use]
    #[inline]
    pub fn is_write(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }

    /// The position of the key that the value at `position` belongs to.
    #[must_use]
    pub fn key_of_value(&self, position: usize, args_count: usize) -> Option<usize> {
        self.values
            .positions(args_count)
            .find(|&value| value == position)?;
        self.key_positions(args_count)
            .take_while(|&key| key < position)
            .last()
    }

    /// The access-control categories, in Redis's order.
    pub fn categories(&self) -> impl Iterator<Item = Category> {
        let flags = self.flags;
        let bits = self.categories
            | if flags.contains(Flags::WRITE) {
                Category::Write.bit()
            } else {
                0
            }
            | if flags.contains(Flags::READONLY) {
                Category::Read.bit()
            } else {
                0
            }
            | if flags.contains(Flags::FAST) {
                Category::Fast
            } else {
                Category::Slow
            }
            .bit()
            | if flags.contains(Flags::ADMIN) {
                Category::Admin.bit() | Category::Dangerous.bit()
            } else {
                0
            };
        Category::ALL
            .into_iter()
            .filter(move |category| bits & category.bit() != 0)
    }
}

/// Positions of arguments: from `first` to `last` in steps of `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// First position, the name being 0; 0: there is none.
    pub first: u8,
    /// Last position; negative: counted from the end, -1 being the last argument.
    pub last: i8,
    /// Distance between two.
    pub step: u8,
}

impl KeySpec {
    /// No position.
    pub const NONE: Self = Self {
        first: 0,
        last: 0,
        step: 0,
    };

    /// The one position `first`.
    pub(super) const fn one(first: u8) -> Self {
        assert!(first < 128);
        Self {
            first,
            last: first.cast_signed(),
            step: 1,
        }
    }

    /// Every `step`-th position from `first` to the end.
    pub(super) const fn from(first: u8, step: u8) -> Self {
        Self {
            first,
            last: -1,
            step,
        }
    }

    /// Is the first argument the one key?
    #[must_use]
    #[inline]
    pub const fn is_only_the_first(self) -> bool {
        self.first == 1 && self.last == 1
    }

    /// The positions in an argv of `args_count`.
    #[inline]
    #[must_use]
    pub fn positions(self, args_count: usize) -> Positions {
        let last = isize::from(self.last);
        let end = if last < 0 {
            args_count.saturating_add_signed(last + 1)
        } else {
            last as usize + 1
        };
        if self.first == 0 {
            return Positions {
                next: 0,
                end: 0,
                step: 1,
            };
        }
        Positions {
            next: usize::from(self.first),
            end: end.min(args_count),
            step: usize::from(self.step),
        }
    }
}

/// Iterator over positions of arguments, rising.
#[derive(Clone, Debug)]
pub struct Positions {
    next: usize,
    end: usize,
    step: usize,
}

impl Iterator for Positions {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let position = self.next;
        if position >= self.end {
            return None;
        }
        self.next += self.step;
        Some(position)
    }
}

/// Which shards a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// None by itself: the connection or the node answers. EXEC needs what its commands need, and
    /// UNWATCH and DISCARD end what WATCH began.
    Connection,
    /// Those of its keys.
    Keys,
    /// All of the node.
    AllShards,
}

/// What a command does and where it may run, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub(super) u16);

impl Flags {
    /// None of them: containers.
    pub const NONE: Self = Self(0);
    /// Changes data.
    pub const WRITE: Self = Self(1);
    /// Reads data and changes none.
    pub const READONLY: Self = Self(1 << 1);
    /// May take memory, so it is refused when there is none.
    pub const DENY_OOM: Self = Self(1 << 2);
    /// For operators.
    pub const ADMIN: Self = Self(1 << 3);
    /// Not in scripts.
    pub const NO_SCRIPT: Self = Self(1 << 4);
    /// Also while a data set is loaded.
    pub const LOADING: Self = Self(1 << 5);
    /// Also on a stale replica.
    pub const STALE: Self = Self(1 << 6);
    /// Never in the slow log.
    pub const SKIP_SLOWLOG: Self = Self(1 << 7);
    /// Constant or logarithmic in time.
    pub const FAST: Self = Self(1 << 8);
    /// Also before authentication.
    pub const NO_AUTH: Self = Self(1 << 9);
    /// Also while the server is busy.
    pub const ALLOW_BUSY: Self = Self(1 << 10);
    /// Not while a data set is loaded beside the one that is served.
    pub const NO_ASYNC_LOADING: Self = Self(1 << 11);

    /// Each flag with Redis's name for it, in Redis's order.
    const NAMES: [(Self, &'static str); 12] = [
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENY_OOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::NO_SCRIPT, "noscript"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::SKIP_SLOWLOG, "skip_slowlog"),
        (Self::FAST, "fast"),
        (Self::NO_AUTH, "no_auth"),
        (Self::NO_ASYNC_LOADING, "no_async_loading"),
        (Self::ALLOW_BUSY, "allow_busy"),
    ];

    /// Both sets of flags.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Are all flags of `other` set?
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names that Redis gives them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|(_, name)| name)
    }
}

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// String values.
    String,
    /// The connection.
    Connection,
    /// The server.
    Server,
    /// Transactions.
    Transactions,
    /// The cluster.
    Cluster,
}

impl Group {
    /// Redis's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::String => "string",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Transactions => "transactions",
            Self::Cluster => "cluster",
        }
    }
}

/// An access-control category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is named as Redis names it")]
pub enum Category {
    Keyspace,
    Read,
    Write,
    String,
    Admin,
    Fast,
    Slow,
    Dangerous,
    Connection,
    Transaction,
}

impl Category {
    const ALL: [Self; 10] = [
        Self::Keyspace,
        Self::Read,
        Self::Write,
        Self::String,
        Self::Admin,
        Self::Fast,
        Self::Slow,
        Self::Dangerous,
        Self::Connection,
        Self::Transaction,
    ];

    pub(super) const fn bit(self) -> u16 {
        1 << self as u8
    }

    /// Redis's name for it, without the `@`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keyspace => "keyspace",
            Self::Read => "read",
            Self::Write => "write",
            Self::String => "string",
            Self::Admin => "admin",
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Dangerous => "dangerous",
            Self::Connection => "connection",
            Self::Transaction => "transaction",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, CommandId, KeySpec};

    #[test]
    fn positions_stay_inside_the_arguments() {
        let positions = |spec: KeySpec, count| spec.positions(count).collect::<Vec<_>>();
        let none: [usize; 0] = [];
        assert_eq!(positions(KeySpec::NONE, 5), none);
        assert_eq!(positions(KeySpec::one(1), 1), none);
        assert_eq!(positions(KeySpec::one(1), 3), [1]);
        assert_eq!(positions(KeySpec::from(1, 1), 4), [1, 2, 3]);
        assert_eq!(positions(KeySpec::from(1, 2), 5), [1, 3]);
        assert_eq!(positions(KeySpec::from(2, 2), 5), [2, 4]);
        assert_eq!(positions(KeySpec::from(1, 1), 0), none);
    }

    #[test]
    fn a_value_belongs_to_the_key_before_it() {
        let mset = CommandId::MSet.spec();
        assert_eq!(mset.key_of_value(2, 5), Some(1));
        assert_eq!(mset.key_of_value(4, 5), Some(3));
        assert_eq!(mset.key_of_value(3, 5), None);
        assert_eq!(CommandId::SetEx.spec().key_of_value(3, 4), Some(1));
        assert_eq!(CommandId::Get.spec().key_of_value(1, 2), None);
    }

    #[test]
    fn values_and_keys_never_share_a_position() {
        for spec in &COMMANDS {
            for count in 0..8 {
                let mut values = spec.values.positions(count);
                assert!(
                    values.all(|value| spec.key_positions(count).all(|key| key != value)),
                    "{}",
                    spec.name
                );
            }
        }
    }
}
