//! The pools of all endpoints, by address.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, RwLock};

use tokio::sync::Notify;

use crate::connection::Role;
use crate::lock::{read, write};
use crate::options::Options;
use crate::pool::Pool;

/// Endpoints that are known at once, at most. Beyond, all are forgotten: a cluster has 512.
const ENDPOINTS_MAX: usize = 4_096;

#[derive(Debug)]
pub(crate) struct Nodes {
    options: Arc<Options>,
    trouble: Arc<Notify>,
    endpoints: RwLock<HashMap<Arc<str>, Arc<Endpoint>>>,
}

#[derive(Debug, Default)]
struct Endpoint {
    routed: OnceLock<Arc<Pool>>,
    replica: OnceLock<Arc<Pool>>,
    plain: OnceLock<Arc<Pool>>,
}

impl Nodes {
    pub(crate) fn new(options: Arc<Options>) -> Self {
        let trouble = Arc::default();
        Self {
            options,
            trouble,
            endpoints: RwLock::default(),
        }
    }

    /// The pool of connections of this role to `host:port`. No connection is opened before it is asked for.
    pub(crate) fn pool(&self, address: &str, role: Role) -> Arc<Pool> {
        let (name, endpoint) = self.endpoint(address);
        let pool = match role {
            Role::Routed => &endpoint.routed,
            Role::Replica => &endpoint.replica,
            Role::Plain => &endpoint.plain,
        };
        Arc::clone(pool.get_or_init(|| {
            Arc::new(Pool::new(
                name,
                role,
                Arc::clone(&self.options),
                Arc::clone(&self.trouble),
            ))
        }))
    }

    /// Is told when a connection ends by itself: its node may have left.
    pub(crate) fn trouble(&self) -> &Arc<Notify> {
        &self.trouble
    }

    /// Forgets all others. What is on its way on their connections is answered, then they close.
    pub(crate) fn retain(&self, is_known: impl Fn(&str) -> bool) {
        write(&self.endpoints).retain(|address, _| is_known(address));
    }

    fn endpoint(&self, address: &str) -> (Arc<str>, Arc<Endpoint>) {
        if let Some((name, endpoint)) = read(&self.endpoints).get_key_value(address) {
            return (Arc::clone(name), Arc::clone(endpoint));
        }
        let mut endpoints = write(&self.endpoints);
        if endpoints.len() >= ENDPOINTS_MAX {
            endpoints.clear();
        }
        let name: Arc<str> = address.into();
        let endpoint = Arc::clone(endpoints.entry(Arc::clone(&name)).or_default());
        (name, endpoint)
    }
}
