//! A name and what it stands for, asked anew each time.
//!
//! The operating system's look-up takes a thread and cannot be stopped, whoever still waits for it: so there is
//! one at a time for each name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::lookup_host;
use tokio::sync::Mutex;

/// Addresses that one name may stand for.
const ADDRESSES_MAX: usize = 16;

/// `host:port`.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    text: Arc<str>,
    /// Held by the look-up that is under way.
    lookup: Arc<Mutex<()>>,
}

impl Name {
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Self {
        Self {
            text: text.into(),
            lookup: Arc::default(),
        }
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// As if a look-up were under way.
    #[cfg(test)]
    pub(crate) async fn hold(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.lookup).lock_owned().await
    }

    /// Some of what it stands for now, in random order.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.text.parse() {
            return Ok(vec![address]);
        }
        let text = Arc::clone(&self.text);
        let under_way = Arc::clone(&self.lookup).lock_owned().await;
        let lookup = tokio::spawn(async move {
            let mut addresses: Vec<_> = lookup_host(&*text).await?.collect();
            drop(under_way);
            fastrand::shuffle(&mut addresses);
            addresses.truncate(ADDRESSES_MAX);
            Ok(addresses)
        });
        lookup.await?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Name;

    #[tokio::test]
    async fn one_look_up_is_under_way_at_a_time() {
        let name = Name::new("localhost:1");
        assert!(!name.resolve().await.expect("known").is_empty());
        let under_way = name.hold().await;
        let waits = tokio::time::timeout(Duration::from_millis(10), name.resolve());
        assert!(waits.await.is_err());
        drop(under_way);
        assert!(!name.resolve().await.expect("known").is_empty());
        let address = Name::new("[::1]:1").resolve().await.expect("is one");
        assert_eq!(address, ["[::1]:1".parse().expect("an address")]);
    }
}
