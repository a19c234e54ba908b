//! A node without sockets: bytes in, bytes out, through decoder, route, execution and encoder.

use std::net::{Ipv4Addr, SocketAddr};

use fulmar_cluster::{HomeTable, RANGES_COUNT, Range};
use fulmar_engine::{Config, KeyHasher, Time};
use fulmar_protocol::ReplySink;
use fulmar_protocol::command::table::{CommandId, lookup};
use fulmar_protocol::command::{Argv, Command, CommandError, ConnectionCommand};
use fulmar_protocol::resp::{Decoded, Decoder, Encoder, Slices};
use fulmar_shard::session::{
    ClientState, ConfigChange, Node, NodeConfig, NodeFacts, NodeStats, NotChangeable,
    execute_connection, is_queued, reply_version,
};
use fulmar_shard::{
    Held, Now, Outcome, Placement, Replay, Route, Shard, ShardMask, ShardSet, ShardStats, Single,
    StagedChain, Transaction, execute, route,
};

/// Longest value of the test nodes.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// A node of several shards, and the moment it lives in.
pub(crate) struct Rig {
    pub(crate) shards: Vec<Shard>,
    pub(crate) now: Now,
    homes: HomeTable,
    hasher: KeyHasher,
}

/// One connection to it.
pub(crate) struct Client {
    state: ClientState,
    transaction: Transaction,
    decoder: Decoder,
    kept: Vec<u8>,
    staged: Vec<Option<StagedChain>>,
}

impl Rig {
    pub(crate) fn new(shards_count: u16) -> Self {
        let hasher = KeyHasher::new([1, 2, 3, 4]);
        let mut config = Config::new(16 << 20, hasher);
        config.value_bytes_max = VALUE_BYTES_MAX;
        config.ranges_count = RANGES_COUNT;
        config.range_of = |key| Range::of(key).index();
        let shard = |index| {
            Shard::new(fulmar_cluster::ShardIndex(index), config, 7).expect("the limits are sane")
        };
        Self {
            shards: (0..shards_count).map(shard).collect(),
            now: Now {
                time: Time(1_000_000),
                unix_ms: 1_700_000_000_000,
            },
            homes: HomeTable::even(shards_count),
            hasher,
        }
    }

    pub(crate) fn client(&self) -> Client {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Client {
            state: ClientState::new(1, address, address, self.now),
            transaction: Transaction::default(),
            decoder: Decoder::new(VALUE_BYTES_MAX),
            kept: Vec::new(),
            staged: Vec::new(),
        }
    }

    pub(crate) fn advance_ms(&mut self, ms: u32) {
        self.now.time.0 += u64::from(ms);
        self.now.unix_ms += i64::from(ms);
    }

    pub(crate) fn check_integrity(&self) {
        self.shards
            .iter()
            .for_each(|shard| shard.cache.check_integrity());
    }

    /// The client's connection breaks.
    pub(crate) fn vanish(&mut self, mut client: Client) {
        self.free(&mut client);
        let leftovers = client.transaction.abandon();
        self.hold(&leftovers.shards(), |shards, _| leftovers.release(shards));
    }

    /// Sends one command; gives its reply.
    pub(crate) fn run(&mut self, client: &mut Client, args: &[&[u8]]) -> Vec<u8> {
        let mut reply = Vec::new();
        self.feed(client, &encode(args), &mut reply);
        reply
    }

    /// Gives `input` to the connection; appends what it replies.
    pub(crate) fn feed(&mut self, client: &mut Client, input: &[u8], out: &mut Vec<u8>) {
        client.kept.extend_from_slice(input);
        let input = std::mem::take(&mut client.kept);
        let mut decoder = std::mem::replace(&mut client.decoder, Decoder::new(0));
        let mut slices = Slices::new();
        let mut at = 0;
        loop {
            match decoder.decode(&input[at..], &mut slices) {
                Decoded::Need => break,
                Decoded::Skip { consumed } => at += consumed,
                Decoded::Command { frame, consumed } => {
                    at += consumed;
                    self.handle(client, &frame.argv(), out);
                }
                Decoded::StagedBegin { key, consumed, .. } => {
                    at += consumed;
                    let shard = self.homes.home(Range::of(key));
                    let chain = self.shards[shard.index()].cache.chain_begin();
                    client.staged.push(Some(StagedChain { shard, chain }));
                }
                Decoded::StagedPart { bytes, consumed } => {
                    at += consumed;
                    let staged = client
                        .staged
                        .last_mut()
                        .expect("a part follows a beginning");
                    let staged = staged.as_mut().expect("memory did not run out");
                    let cache = &mut self.shards[staged.shard.index()].cache;
                    cache
                        .chain_push(&mut staged.chain, bytes)
                        .expect("there is room");
                }
                Decoded::Refused { error, consumed } => {
                    at += consumed;
                    self.refuse(client, &error, out);
                }
                Decoded::Error(error) => panic!("the tests send RESP: {error:?}"),
            }
        }
        client.decoder = decoder;
        client.kept = input[at..].to_vec();
    }

    fn refuse(&mut self, client: &mut Client, error: &CommandError, out: &mut Vec<u8>) {
        let leftovers = client.transaction.reject(error);
        self.hold(&leftovers.shards(), |shards, _| leftovers.release(shards));
        self.free(client);
        Encoder::new(out, client.state.version()).error(error);
    }

    fn free(&mut self, client: &mut Client) {
        for staged in client.staged.drain(..).flatten() {
            self.shards[staged.shard.index()]
                .cache
                .chain_free(staged.chain);
        }
    }

    fn handle(&mut self, client: &mut Client, argv: &Argv<'_>, out: &mut Vec<u8>) {
        let spec = match lookup(argv.args) {
            Ok(spec) => spec,
            Err(error) => return self.refuse(client, &error, out),
        };
        let placement = Placement {
            homes: &self.homes,
            hasher: self.hasher,
        };
        if client.transaction.is_open() && is_queued(spec.id) {
            let queued = client
                .transaction
                .queue(spec, argv, &mut client.staged, &placement);
            let mut reply = Encoder::new(out, client.state.version());
            match queued {
                Ok(()) => reply.status("QUEUED"),
                Err(error) => reply.error(&error),
            }
            self.free(client);
            return;
        }
        let command = match Command::parse(spec, *argv) {
            Ok(command) => command,
            Err(error) => return self.refuse(client, &error, out),
        };
        let route = route(spec, argv, &placement);
        match command {
            Command::Data(command) => {
                let mut staged = std::mem::take(&mut client.staged);
                let mut reply = Encoder::new(out, client.state.version());
                match route {
                    Route::One(index, key) => {
                        let shard = &mut self.shards[index.index()];
                        let mut shards = Single::new(shard, Some(key), placement);
                        let outcome =
                            execute(&command, &mut shards, &mut staged, self.now, &mut reply);
                        shards.at(index.index()).counters.record(spec.id, outcome);
                    }
                    route => {
                        let mask = self.mask_of(&route);
                        self.hold(&mask, |shards, now| {
                            execute(&command, shards, &mut staged, now, &mut reply);
                        });
                    }
                }
                assert!(
                    staged.iter().all(Option::is_none),
                    "a command uses up its chains"
                );
            }
            Command::Connection(command) => self.answer(client, &command, &route, out),
        }
    }

    fn answer(
        &mut self,
        client: &mut Client,
        command: &ConnectionCommand<'_>,
        route: &Route<'_>,
        out: &mut Vec<u8>,
    ) {
        let mut reply = Encoder::new(out, reply_version(command, &client.state));
        let transaction = &mut client.transaction;
        let result = match command {
            ConnectionCommand::Multi => transaction.begin(),
            ConnectionCommand::Watch { keys } => {
                let mask = self.mask_of(route);
                self.hold(&mask, |shards, now| transaction.watch(keys, shards, now))
            }
            ConnectionCommand::Unwatch => {
                let leftovers = transaction.unwatch();
                self.hold(&leftovers.shards(), |shards, _| leftovers.release(shards));
                Ok(())
            }
            ConnectionCommand::Discard => transaction.discard().map(|leftovers| {
                self.hold(&leftovers.shards(), |shards, _| leftovers.release(shards));
            }),
            ConnectionCommand::Exec => {
                let mask = transaction.shards_needed(self.shards.len());
                let mut replay = Answerer {
                    state: &mut client.state,
                    now: self.now,
                };
                self.hold(&mask, |shards, now| {
                    transaction.execute(shards, now, &mut replay, &mut reply)
                });
                return;
            }
            _ => {
                execute_connection(
                    command,
                    &mut client.state,
                    &mut TestNode,
                    self.now,
                    &mut reply,
                );
                return;
            }
        };
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(&error),
        }
    }

    fn mask_of(&self, route: &Route<'_>) -> ShardMask {
        match route {
            Route::Connection => ShardMask::EMPTY,
            Route::One(shard, _) => {
                let mut mask = ShardMask::EMPTY;
                mask.insert(*shard);
                mask
            }
            Route::Many(mask) => *mask,
            Route::All => ShardMask::first(self.shards.len()),
        }
    }

    /// Calls `run` with exactly these shards held.
    fn hold<R>(&mut self, mask: &ShardMask, run: impl FnOnce(&mut dyn ShardSet, Now) -> R) -> R {
        let wanted = self
            .shards
            .iter_mut()
            .filter(|shard| mask.contains(shard.index()));
        let mut held: Vec<&mut Shard> = wanted.collect();
        let placement = Placement {
            homes: &self.homes,
            hasher: self.hasher,
        };
        run(&mut Held::new(&mut held, placement), self.now)
    }
}

/// Renders a command as clients send it.
pub(crate) fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Splits a command line at spaces.
pub(crate) fn words(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

struct Answerer<'a> {
    state: &'a mut ClientState,
    now: Now,
}

impl Replay for Answerer<'_> {
    fn answer(&mut self, command: &ConnectionCommand<'_>, reply: &mut dyn ReplySink) -> Outcome {
        execute_connection(command, self.state, &mut TestNode, self.now, reply)
    }

    fn count(&mut self, _: CommandId, _: Outcome) {}
}

/// A node that has little to tell.
pub(crate) struct TestNode;

impl Node for TestNode {
    fn facts(&self) -> NodeFacts {
        NodeFacts {
            shards_count: 1,
            ..NodeFacts::default()
        }
    }

    fn config(&self) -> NodeConfig {
        NodeConfig {
            port: 6_379,
            clients_max: 10_000,
            ..NodeConfig::default()
        }
    }

    fn stats(&mut self) -> NodeStats {
        NodeStats {
            shards: ShardStats::default(),
            clients: 1,
            ..NodeStats::default()
        }
    }

    fn visit_clients(&mut self, _: &mut dyn FnMut(&ClientState)) {}

    fn change_config(&mut self, changes: &[ConfigChange]) -> Result<(), NotChangeable> {
        let timeout = |change: &ConfigChange| matches!(change, ConfigChange::TimeoutSeconds(_));
        changes
            .iter()
            .position(timeout)
            .map_or(Ok(()), |position| Err(NotChangeable(position)))
    }

    fn reset_stats(&mut self) {}
}
