//! Where members can be reached: a node's two endpoints, their names and ports.

use std::fmt;
use std::sync::Arc;

use fulmar_cluster::{ClusterId, NodeId};

/// One of a node's two endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// Its port proper.
    #[default]
    Primary = 0,
    /// The port for reads of what it holds as a replica.
    Replica = 1,
}

/// The name of an endpoint: `Display` gives its 40 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointId {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Which of its endpoints.
    pub endpoint: Endpoint,
}

/// Bytes of an [`EndpointId`]'s text.
const ENDPOINT_ID_BYTES: usize = 40;

impl EndpointId {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != ENDPOINT_ID_BYTES || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let number = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        Some(Self {
            cluster: ClusterId(number(&text[..16])?),
            node: NodeId(number(&text[16..32])?),
            endpoint: match number(&text[32..])? {
                0 => Endpoint::Primary,
                1 => Endpoint::Replica,
                _ => return None,
            },
        })
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.endpoint as u32;
        write!(f, "{}{}{role:08x}", self.cluster, self.node)
    }
}

/// Where a member can be reached, and whether it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    host: Arc<str>,
    ports: MemberPorts,
    is_heard: bool,
    primary_address: Arc<str>,
    replica_address: Arc<str>,
}

/// The ports of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberPorts {
    /// RESP, as a primary.
    pub resp: u16,
    /// RESP, for reads of replicas.
    pub replica: u16,
    /// HTTP, if there is one.
    pub http: Option<u16>,
    /// Other nodes.
    pub cluster: u16,
}

impl MemberView {
    /// A member that announces itself under this host name or address. An empty one: clients use the
    /// one that they asked.
    ///
    /// # Panics
    /// If the host has control characters or blanks.
    #[must_use]
    pub fn new(host: Arc<str>, ports: MemberPorts, is_heard: bool) -> Self {
        assert!(host.bytes().all(|byte| byte.is_ascii_graphic()));
        Self {
            primary_address: format!("{host}:{}", ports.resp).into(),
            replica_address: format!("{host}:{}", ports.replica).into(),
            host,
            ports,
            is_heard,
        }
    }

    /// The host that it announces.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its ports.
    #[must_use]
    pub fn ports(&self) -> MemberPorts {
        self.ports
    }

    /// Whether it was heard of late.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// Whoever looks hears itself.
    pub(super) fn mark_heard(&mut self) {
        self.is_heard = true;
    }

    /// `host:port` of an endpoint.
    #[must_use]
    pub fn address(&self, endpoint: Endpoint) -> &Arc<str> {
        match endpoint {
            Endpoint::Primary => &self.primary_address,
            Endpoint::Replica => &self.replica_address,
        }
    }

    pub(super) fn port(&self, endpoint: Endpoint) -> u16 {
        match endpoint {
            Endpoint::Primary => self.ports.resp,
            Endpoint::Replica => self.ports.replica,
        }
    }
}
