//! Several commands in one call.

use std::sync::Arc;

use crate::command::{Command, Request};
use crate::commands::{self, SetOptions};
use crate::error::Result;
use crate::router::Router;
use crate::value::Value;

/// Commands that are sent together: one trip for all that go to a node, and all nodes at once.
///
/// ```no_run
/// # async fn example(client: fulmar_client::Client) -> fulmar_client::Result<()> {
/// let mut replies = client
///     .pipeline()
///     .increment("visits", 1)
///     .get("motd")
///     .execute()
///     .await
///     .into_iter();
/// let visits = replies.next().transpose()?;
/// # Ok(())
/// # }
/// ```
///
/// It is no transaction: each command succeeds or fails by itself. Those of one key are executed in order,
/// unless one has to be sent again after a fault, which happens behind the others.
#[derive(Debug)]
#[must_use = "nothing is sent before `execute`"]
pub struct Pipeline {
    router: Arc<Router>,
    requests: Vec<Result<Request>>,
}

impl Pipeline {
    pub(crate) fn new(router: Arc<Router>) -> Self {
        Self {
            router,
            requests: Vec::new(),
        }
    }

    /// Appends any command.
    pub fn command(mut self, command: Command) -> Self {
        self.requests.push(command.encode());
        self
    }

    /// Appends a GET: its reply is [`Value::Bytes`] or [`Value::Null`].
    pub fn get(self, key: impl AsRef<[u8]>) -> Self {
        self.command(commands::get(key))
    }

    /// Appends a SET: its reply is a [`Value::Status`].
    pub fn set(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.set_with(key, value, SetOptions::default())
    }

    /// Appends a SET: its reply is a [`Value::Status`], or [`Value::Null`] if the condition does not hold.
    pub fn set_with(
        self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Self {
        self.command(commands::set(key, value, options))
    }

    /// Appends a DEL: its reply is the [`Value::Integer`] 1 or 0.
    pub fn delete(self, key: impl AsRef<[u8]>) -> Self {
        self.command(commands::delete(key))
    }

    /// Appends an INCRBY: its reply is the [`Value::Integer`] that is there now.
    pub fn increment(self, key: impl AsRef<[u8]>, by: i64) -> Self {
        self.command(commands::increment(key, by))
    }

    /// Sends them, within the [time-out](crate::Options::timeout) together: one result for each, in order.
    ///
    /// An error that a server answers is the `Err` of its command.
    pub async fn execute(self) -> Vec<Result<Value>> {
        let mut results = Vec::with_capacity(self.requests.len());
        let mut valid = Vec::with_capacity(self.requests.len());
        let mut is_valid = Vec::with_capacity(self.requests.len());
        for request in self.requests {
            is_valid.push(request.is_ok());
            match request {
                Ok(request) => valid.push(request),
                Err(error) => results.push(Err(error)),
            }
        }
        if valid.is_empty() {
            return results;
        }
        let mut refused = results.into_iter();
        let mut answered = self.router.call_all(valid).await.into_iter();
        let in_order = is_valid.into_iter();
        in_order
            .filter_map(|is_valid| {
                if is_valid {
                    answered.next()
                } else {
                    refused.next()
                }
            })
            .collect()
    }
}
