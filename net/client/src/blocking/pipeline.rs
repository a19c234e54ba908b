//! Several commands in one call, for threads.

use std::sync::Arc;

use super::Runtime;
use crate::command::Command;
use crate::commands::SetOptions;
use crate::error::Result;
use crate::value::Value;

/// [`crate::Pipeline`], blocking.
#[derive(Debug)]
#[must_use = "nothing is sent before `execute`"]
pub struct Pipeline {
    pub(super) pipeline: crate::Pipeline,
    pub(super) runtime: Arc<Runtime>,
}

impl Pipeline {
    /// Appends any command.
    pub fn command(mut self, command: Command) -> Self {
        self.pipeline = self.pipeline.command(command);
        self
    }

    /// Appends a GET.
    pub fn get(mut self, key: impl AsRef<[u8]>) -> Self {
        self.pipeline = self.pipeline.get(key);
        self
    }

    /// Appends a SET.
    pub fn set(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pipeline = self.pipeline.set(key, value);
        self
    }

    /// Appends a SET with a TTL, or on a condition.
    pub fn set_with(
        mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Self {
        self.pipeline = self.pipeline.set_with(key, value, options);
        self
    }

    /// Appends a DEL.
    pub fn delete(mut self, key: impl AsRef<[u8]>) -> Self {
        self.pipeline = self.pipeline.delete(key);
        self
    }

    /// Appends an INCRBY.
    pub fn increment(mut self, key: impl AsRef<[u8]>, by: i64) -> Self {
        self.pipeline = self.pipeline.increment(key, by);
        self
    }

    /// Sends them: one result for each, in order.
    pub fn execute(self) -> Vec<Result<Value>> {
        let Self { pipeline, runtime } = self;
        runtime.run(pipeline.execute())
    }
}
