//! CONFIG GET and CONFIG SET: the parameters of Redis that mean something here.

use fulmar_engine::Eviction;
use fulmar_protocol::command::{glob, number};
use fulmar_protocol::{CommandError, ReplySink};

use super::{Node, NodeConfig};

/// A change that CONFIG SET asks for, its range checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// `maxclients`, at least 1.
    ClientsMax(u32),
    /// `timeout`, in seconds; 0: never.
    TimeoutSeconds(u32),
}

/// A change could not be made while running; its position in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotChangeable(pub usize);

/// A parameter that CONFIG knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Appendonly,
    Bind,
    ClusterEnabled,
    Databases,
    Maxclients,
    Maxmemory,
    MaxmemoryPolicy,
    Port,
    ProtoMaxBulkLen,
    Save,
    Timeout,
}

/// All parameters, by name.
const PARAMETERS: [(&str, Parameter); 11] = [
    ("appendonly", Parameter::Appendonly),
    ("bind", Parameter::Bind),
    ("cluster-enabled", Parameter::ClusterEnabled),
    ("databases", Parameter::Databases),
    ("maxclients", Parameter::Maxclients),
    ("maxmemory", Parameter::Maxmemory),
    ("maxmemory-policy", Parameter::MaxmemoryPolicy),
    ("port", Parameter::Port),
    ("proto-max-bulk-len", Parameter::ProtoMaxBulkLen),
    ("save", Parameter::Save),
    ("timeout", Parameter::Timeout),
];

const IMMUTABLE: &str = "can't set immutable config";

impl Parameter {
    fn find(name: &[u8]) -> Option<Self> {
        let found = PARAMETERS
            .iter()
            .find(|(own, _)| name.eq_ignore_ascii_case(own.as_bytes()));
        found.map(|&(_, parameter)| parameter)
    }

    fn value(self, config: &NodeConfig, is_cluster: bool) -> String {
        match self {
            Self::ClusterEnabled if is_cluster => "yes".into(),
            Self::Appendonly | Self::ClusterEnabled => "no".into(),
            Self::Bind => config.bind.clone(),
            Self::Databases => "1".into(),
            Self::Maxclients => config.clients_max.to_string(),
            Self::Maxmemory => config.memory_bytes_max.to_string(),
            Self::MaxmemoryPolicy => maxmemory_policy(config.eviction).into(),
            Self::Port => config.port.to_string(),
            Self::ProtoMaxBulkLen => config.value_bytes_max.to_string(),
            Self::Save => String::new(),
            Self::Timeout => config.timeout_seconds.to_string(),
        }
    }
}

/// The policy in Redis's spelling. For the other one Redis has no name; all keys can go here, too.
pub(super) const fn maxmemory_policy(eviction: Eviction) -> &'static str {
    match eviction {
        Eviction::Lru => "allkeys-lru",
        Eviction::S3Fifo => "allkeys-s3-fifo",
    }
}

/// Replies the parameters that match any pattern, each once.
pub(super) fn get(patterns: &[&[u8]], node: &dyn Node, reply: &mut dyn ReplySink) {
    let config = node.config();
    let is_cluster = node.cluster().is_some();
    let mut wanted: Vec<(&[u8], Parameter)> = Vec::new();
    for &pattern in patterns {
        // A name in full is repeated as the client spelled it.
        if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
            wanted.extend(Parameter::find(pattern).map(|parameter| (pattern, parameter)));
            continue;
        }
        let pattern = pattern.to_ascii_lowercase();
        let named = PARAMETERS
            .iter()
            .map(|&(name, parameter)| (name.as_bytes(), parameter));
        wanted.extend(named.filter(|(name, _)| glob::is_match(&pattern, name)));
    }
    wanted.sort_unstable_by_key(|&(name, _)| name);
    wanted.dedup_by_key(|&mut (name, _)| name);
    reply.map(wanted.len());
    for (name, parameter) in wanted {
        reply.bulk(name);
        reply.bulk(parameter.value(&config, is_cluster).as_bytes());
    }
}

/// Makes all changes, or none. What already is as asked for is no change, so that a client that
/// wants, say, `save ""` gets what it wants.
pub(super) fn set(pairs: &[&[u8]], node: &mut dyn Node) -> Result<(), CommandError> {
    let config = node.config();
    let is_cluster = node.cluster().is_some();
    let mut seen = Vec::new();
    let mut changes = Vec::new();
    for pair in pairs.chunks_exact(2) {
        let (name, value) = (pair[0], pair[1]);
        let parameter = Parameter::find(name).ok_or_else(|| CommandError::config_unknown(name))?;
        if seen.contains(&parameter) {
            return Err(CommandError::config_set(name, "duplicate parameter"));
        }
        seen.push(parameter);
        let change = change(parameter, value, &config, is_cluster);
        if let Some(change) = change.map_err(|reason| CommandError::config_set(name, reason))? {
            changes.push((name, change));
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let wanted: Vec<ConfigChange> = changes.iter().map(|&(_, change)| change).collect();
    node.change_config(&wanted)
        .map_err(|NotChangeable(position)| {
            let name = changes.get(position).map_or(&b""[..], |(name, _)| name);
            CommandError::config_set(name, IMMUTABLE)
        })
}

/// The change that sets `parameter` to `value`, if it is one, or why it is impossible.
fn change(
    parameter: Parameter,
    value: &[u8],
    config: &NodeConfig,
    is_cluster: bool,
) -> Result<Option<ConfigChange>, &'static str> {
    match parameter {
        Parameter::Maxclients => match number::parse_i64(value).map(u32::try_from) {
            None => Err("argument couldn't be parsed into an integer"),
            Some(Ok(count)) if count > 0 => Ok(Some(ConfigChange::ClientsMax(count))),
            Some(_) => Err("argument must be between 1 and 4294967295 inclusive"),
        },
        Parameter::Timeout => match number::parse_i64(value).map(i32::try_from) {
            None => Err("argument couldn't be parsed into an integer"),
            Some(Ok(seconds @ 0..)) => {
                Ok(Some(ConfigChange::TimeoutSeconds(seconds.cast_unsigned())))
            }
            Some(_) => Err("argument must be between 0 and 2147483647 inclusive"),
        },
        fixed => {
            let current = fixed.value(config, is_cluster);
            if value.eq_ignore_ascii_case(current.as_bytes()) {
                Ok(None)
            } else {
                Err(IMMUTABLE)
            }
        }
    }
}
