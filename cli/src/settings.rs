//! Flags, environment and file, and what they add up to.
//!
//! A flag goes before its environment variable, that before the file, that before the default.

mod cluster;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::{fs, io};

use clap::{Args, ValueEnum};
use fulmar_server::{Config, Dispatch, Eviction, HOT_COPY_MS_MAX, machine};
use serde::Deserialize;

use crate::size::Size;

use cluster::ClusterSettingsError;

const PORT: u16 = 6_379;
const HTTP_PORT: u16 = 8_379;
const HOT_KEY_RPS: u32 = 1_000;
const HOT_COPY_MS: u16 = 250;
const CLIENTS_MAX: usize = 10_000;
const VALUE_BYTES_MAX: usize = 64 << 20;
/// The default limit's part of the machine's memory: half, so that a fork-free cache, its
/// connections' kernel buffers and the page cache have room beside it.
const MEMORY_DIVISOR: u64 = 2;
/// The least memory a shard can work with.
const SHARD_BYTES_MIN: u64 = 4 << 20;

/// Settings of `fulmar serve`; also the keys of the TOML file, with `_` for `-`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// TOML file with any of these settings.
    #[arg(long, value_name = "FILE", env = "FULMAR_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP", env = "FULMAR_BIND")]
    bind: Option<IpAddr>,
    /// RESP port; 0 takes a free one [default: 6379]
    #[arg(long, env = "FULMAR_PORT")]
    port: Option<u16>,
    /// HTTP port; 0 turns HTTP off [default: 8379]
    #[arg(long, env = "FULMAR_HTTP_PORT")]
    http_port: Option<u16>,
    /// Host names that HTTP requests may name, beside localhost and the bound address
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "FULMAR_HTTP_HOSTS"
    )]
    http_hosts: Option<Vec<String>>,
    /// Number of shards, each with a thread of its own [default: one per CPU]
    #[arg(long, value_name = "N", env = "FULMAR_SHARDS")]
    shards: Option<u16>,
    /// CPUs to pin the shards' threads to, in turn, such as 0,2-5 [default: all allowed]
    #[arg(long, value_name = "LIST", env = "FULMAR_CPUS")]
    cpus: Option<String>,
    /// Limit of memory for data and connections, such as 512MiB [default: half of the machine's]
    #[arg(long, value_name = "SIZE", env = "FULMAR_MAX_MEMORY")]
    max_memory: Option<Size>,
    /// Longest value [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "FULMAR_MAX_VALUE_SIZE")]
    max_value_size: Option<Size>,
    /// Most clients at once [default: 10000]
    #[arg(long, value_name = "N", env = "FULMAR_MAXCLIENTS")]
    maxclients: Option<usize>,
    /// How a core reaches another core's shard [default: borrow]
    #[arg(long, value_name = "MODE", env = "FULMAR_DISPATCH")]
    dispatch: Option<DispatchMode>,
    /// Which items go when memory is needed [default: lru]
    #[arg(long, value_name = "POLICY", env = "FULMAR_EVICTION")]
    eviction: Option<EvictionPolicy>,
    /// Reads and writes a second from which on a key is hot; 0: none is [default: 1000]
    #[arg(long, value_name = "N", env = "FULMAR_HOT_KEY_RPS")]
    hot_key_rps: Option<u32>,
    /// For how long, at most 1000, other nodes may answer reads of a hot key by themselves, which may be so old
    /// then; 0: never [default: 250]
    #[arg(long, value_name = "MS", env = "FULMAR_HOT_COPY_MS")]
    hot_copy_ms: Option<u16>,
    /// Be a node of a cluster; the flags below say of which
    #[arg(long, env = "FULMAR_CLUSTER")]
    cluster: bool,
    /// Port of the nodes' own protocol, TCP and UDP [default: the RESP port + 10000]
    #[arg(long, value_name = "PORT", env = "FULMAR_CLUSTER_PORT")]
    cluster_port: Option<u16>,
    /// Cluster ports of nodes to join; without it the node is a cluster of its own
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        env = "FULMAR_JOIN"
    )]
    join: Option<Vec<String>>,
    /// Found the cluster once so many nodes have come together, by the first that --join names
    #[arg(long, value_name = "N", env = "FULMAR_BOOTSTRAP_EXPECT")]
    bootstrap_expect: Option<u16>,
    /// Replicas of each range, 0 to 3; what the founder says counts [default: 1]
    #[arg(long, value_name = "N", env = "FULMAR_REPLICAS")]
    replicas: Option<u8>,
    /// Host, and port, that clients and nodes reach this node by [default: the bound address]
    #[arg(long, value_name = "HOST[:PORT]", env = "FULMAR_ANNOUNCE")]
    announce: Option<String>,
    /// What may fail together with this node: copies are spread over zones
    #[arg(long, value_name = "NAME", env = "FULMAR_ZONE")]
    zone: Option<String>,
    /// Share of the keys, relative to the other nodes' [default: 1]
    #[arg(long, value_name = "N", env = "FULMAR_WEIGHT")]
    weight: Option<u16>,
    /// Where the node's name and votes are kept, never data [default: fulmar-PORT]
    #[arg(long, value_name = "DIR", env = "FULMAR_NODE_DIR")]
    node_dir: Option<PathBuf>,
    /// What to do without a quorum of the cluster [default: serve]
    #[arg(long, value_name = "MODE", env = "FULMAR_MINORITY")]
    minority: Option<MinorityMode>,
    /// Seconds until lost copies are made anew elsewhere [default: 60]
    #[arg(long, value_name = "SECONDS", env = "FULMAR_REBUILD_DELAY")]
    rebuild_delay: Option<u64>,
    /// File with what all nodes of the cluster know and nobody else
    #[arg(long, value_name = "FILE", env = "FULMAR_CLUSTER_SECRET_FILE")]
    cluster_secret_file: Option<PathBuf>,
}

/// See [`fulmar_server::Minority`].
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum MinorityMode {
    /// Serve what is here, and take over what is not
    Serve,
    /// Refuse writes
    Refuse,
}

/// See [`Dispatch`].
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum DispatchMode {
    /// Execute in place, holding the shard's token
    Borrow,
    /// Hand over to the shard's home core
    Message,
}

/// See [`Eviction`].
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum EvictionPolicy {
    /// Exactly the least recently used of a size class
    Lru,
    /// Those that are not used again soon after they came: keeps what is popular through scans
    #[serde(rename = "s3-fifo")]
    #[value(name = "s3-fifo")]
    S3Fifo,
}

/// Why the settings make no configuration. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SettingsError {
    /// The file is not there or not readable.
    #[error("cannot read the configuration file {path}: {error}", path = path.display())]
    File {
        /// As given.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("{path}, byte {at}: {what}", path = path.display())]
    Toml {
        /// As given.
        path: PathBuf,
        /// Where.
        at: usize,
        /// What, in one line.
        what: String,
    },
    /// Not a list such as `0,2-5`.
    #[error("--cpus {0}: write numbers and ranges, such as 0,2-5")]
    CpuList(String),
    /// The process may not run there.
    #[error("--cpus: CPU {cpu} is not among those this process may use: {allowed:?}")]
    CpuForbidden {
        /// The CPU asked for.
        cpu: usize,
        /// What the affinity mask allows.
        allowed: Vec<usize>,
    },
    /// 0, or more than there can be.
    #[error("--shards {0}: from 1 to 1024")]
    ShardsCount(u16),
    /// No room for data.
    #[error("--max-memory {limit}: at least {least} for {shards} shards; raise it or use fewer")]
    MemoryTooSmall {
        /// The limit asked for.
        limit: Size,
        /// The least that works.
        least: Size,
        /// Number of shards.
        shards: u16,
    },
    /// More than the machine has.
    #[error("--max-memory {limit} is more than this machine's {memory}; lower it")]
    MemoryTooLarge {
        /// The limit asked for.
        limit: Size,
        /// What the machine or the control group has.
        memory: Size,
    },
    /// Over Redis's bound for a string.
    #[error("--max-value-size {0}: from 1 byte to 512MiB")]
    ValueSize(Size),
    /// Longer than the nodes' protocol can say.
    #[error("--hot-copy-ms {0}: at most {HOT_COPY_MS_MAX}")]
    HotCopyMs(u16),
    /// A server without clients.
    #[error("--maxclients must be at least 1")]
    NoClients,
    /// A flag of the cluster that makes no sense.
    #[error("{0}")]
    Cluster(#[from] ClusterSettingsError),
}

impl Settings {
    /// The configuration that these settings, the file they name and the defaults make.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub(crate) fn resolve(&self) -> Result<Config, SettingsError> {
        let settings = match &self.config {
            None => self.clone(),
            Some(path) => self.clone().or(read(path)?),
        };
        let cpus = settings.cpus()?;
        let cpus_count = u16::try_from(cpus.len()).unwrap_or(u16::MAX);
        let shards = settings
            .shards
            .unwrap_or_else(|| cpus_count.clamp(1, 1_024));
        if !(1..=1_024).contains(&shards) {
            return Err(SettingsError::ShardsCount(shards));
        }
        let clients_max = settings.maxclients.unwrap_or(CLIENTS_MAX);
        if clients_max == 0 {
            return Err(SettingsError::NoClients);
        }
        let value_size = settings
            .max_value_size
            .unwrap_or(Size(VALUE_BYTES_MAX as u64));
        if !(1..=512 << 20).contains(&value_size.0) {
            return Err(SettingsError::ValueSize(value_size));
        }
        let hot_copy_ms = settings.hot_copy_ms.unwrap_or(HOT_COPY_MS);
        if hot_copy_ms > HOT_COPY_MS_MAX {
            return Err(SettingsError::HotCopyMs(hot_copy_ms));
        }
        let http_port = settings.http_port.unwrap_or(HTTP_PORT);
        Ok(Config {
            bind: settings.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: settings.port.unwrap_or(PORT),
            http_port: (http_port != 0).then_some(http_port),
            http_hosts: settings.http_hosts.clone().unwrap_or_default(),
            shards,
            cpus,
            memory_bytes_max: settings.memory_bytes_max(shards)?,
            value_bytes_max: usize::try_from(value_size.0).expect("at most 512 MiB"),
            clients_max,
            cluster: settings.cluster_config()?,
            dispatch: match settings.dispatch {
                None | Some(DispatchMode::Borrow) => Dispatch::Borrow,
                Some(DispatchMode::Message) => Dispatch::Message,
            },
            hot_key_rps: settings.hot_key_rps.unwrap_or(HOT_KEY_RPS),
            hot_copy_ms,
            eviction: match settings.eviction {
                None | Some(EvictionPolicy::Lru) => Eviction::Lru,
                Some(EvictionPolicy::S3Fifo) => Eviction::S3Fifo,
            },
        })
    }

    fn or(self, file: Self) -> Self {
        Self {
            config: self.config,
            bind: self.bind.or(file.bind),
            port: self.port.or(file.port),
            http_port: self.http_port.or(file.http_port),
            http_hosts: self.http_hosts.or(file.http_hosts),
            shards: self.shards.or(file.shards),
            cpus: self.cpus.or(file.cpus),
            max_memory: self.max_memory.or(file.max_memory),
            max_value_size: self.max_value_size.or(file.max_value_size),
            maxclients: self.maxclients.or(file.maxclients),
            dispatch: self.dispatch.or(file.dispatch),
            eviction: self.eviction.or(file.eviction),
            hot_key_rps: self.hot_key_rps.or(file.hot_key_rps),
            hot_copy_ms: self.hot_copy_ms.or(file.hot_copy_ms),
            cluster: self.cluster || file.cluster,
            cluster_port: self.cluster_port.or(file.cluster_port),
            join: self.join.or(file.join),
            bootstrap_expect: self.bootstrap_expect.or(file.bootstrap_expect),
            replicas: self.replicas.or(file.replicas),
            announce: self.announce.or(file.announce),
            zone: self.zone.or(file.zone),
            weight: self.weight.or(file.weight),
            node_dir: self.node_dir.or(file.node_dir),
            minority: self.minority.or(file.minority),
            rebuild_delay: self.rebuild_delay.or(file.rebuild_delay),
            cluster_secret_file: self.cluster_secret_file.or(file.cluster_secret_file),
        }
    }

    fn cpus(&self) -> Result<Vec<usize>, SettingsError> {
        let allowed = machine::cpus();
        let Some(list) = &self.cpus else {
            return Ok(allowed);
        };
        let cpus = parse_cpus(list).ok_or_else(|| SettingsError::CpuList(list.clone()))?;
        match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(&cpu) => Err(SettingsError::CpuForbidden { cpu, allowed }),
            None => Ok(cpus),
        }
    }

    fn memory_bytes_max(&self, shards: u16) -> Result<u64, SettingsError> {
        let memory = machine::memory_bytes();
        let limit = self.max_memory.unwrap_or(Size(memory / MEMORY_DIVISOR));
        let least = Size(u64::from(shards) * SHARD_BYTES_MIN);
        if limit.0 < least.0 {
            return Err(SettingsError::MemoryTooSmall {
                limit,
                least,
                shards,
            });
        }
        if limit.0 > memory {
            return Err(SettingsError::MemoryTooLarge {
                limit,
                memory: Size(memory),
            });
        }
        Ok(limit.0)
    }
}

fn read(path: &PathBuf) -> Result<Settings, SettingsError> {
    let text = fs::read_to_string(path).map_err(|error| SettingsError::File {
        path: path.clone(),
        error,
    })?;
    toml::from_str(&text).map_err(|error| SettingsError::Toml {
        path: path.clone(),
        at: error.span().map_or(0, |span| span.start),
        what: error.message().replace('\n', " "),
    })
}

/// `0,2-5` as numbers; `None` if it is not such a list.
fn parse_cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        if first > last || last >= 4_096 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use fulmar_server::Eviction;

    use super::{DispatchMode, EvictionPolicy, Settings, SettingsError, parse_cpus};
    use crate::size::Size;

    #[test]
    fn cpu_lists_take_numbers_and_ranges() {
        assert_eq!(parse_cpus("0"), Some(vec![0]));
        assert_eq!(parse_cpus("3,0-2"), Some(vec![3, 0, 1, 2]));
        for bad in ["", "a", "2-1", "0-", "0-99999", "-1"] {
            assert_eq!(parse_cpus(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_flag_goes_before_the_file() {
        let file: Settings =
            toml::from_str("port = 1\nmax_memory = \"64MiB\"\ndispatch = \"message\"")
                .expect("valid TOML");
        let flags = Settings {
            port: Some(2),
            ..Settings::default()
        };
        let both = flags.or(file);
        assert_eq!(both.port, Some(2));
        assert_eq!(both.max_memory, Some(Size(64 << 20)));
        assert!(matches!(both.dispatch, Some(DispatchMode::Message)));
    }

    /// The engine's names are those that people write.
    #[test]
    fn policies_of_eviction_have_one_name_everywhere() {
        for (policy, expected) in [
            (EvictionPolicy::Lru, Eviction::Lru),
            (EvictionPolicy::S3Fifo, Eviction::S3Fifo),
        ] {
            let value = policy.to_possible_value().expect("not hidden");
            assert_eq!(value.get_name(), expected.name());
            let text = format!("eviction = \"{}\"", expected.name());
            let settings: Settings = toml::from_str(&text).expect("a policy");
            assert_eq!(settings.resolve().expect("valid").eviction, expected);
        }
        assert!(toml::from_str::<Settings>("eviction = \"lfu\"").is_err());
        let default = Settings::default().resolve().expect("valid");
        assert_eq!(default.eviction, Eviction::Lru);
    }

    #[test]
    fn an_unknown_key_in_the_file_is_an_error() {
        assert!(toml::from_str::<Settings>("prot = 1").is_err());
    }

    #[test]
    fn limits_that_cannot_work_are_refused() {
        let refuse = |settings: Settings| settings.resolve().expect_err("cannot work");
        let small = Settings {
            max_memory: Some(Size(1)),
            ..Settings::default()
        };
        assert!(matches!(
            refuse(small),
            SettingsError::MemoryTooSmall { .. }
        ));
        let large = Settings {
            max_memory: Some(Size(u64::MAX)),
            ..Settings::default()
        };
        assert!(matches!(
            refuse(large),
            SettingsError::MemoryTooLarge { .. }
        ));
        let none = Settings {
            shards: Some(0),
            ..Settings::default()
        };
        assert!(matches!(refuse(none), SettingsError::ShardsCount(0)));
        let cpu = Settings {
            cpus: Some("4095".into()),
            ..Settings::default()
        };
        assert!(matches!(
            refuse(cpu),
            SettingsError::CpuForbidden { cpu: 4_095, .. }
        ));
    }
}
