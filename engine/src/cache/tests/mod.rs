//! The cache against a model, over random sequences of calls.

mod model;
mod operation;
#[cfg(not(miri))]
mod populate;
mod properties;
mod s3_fifo;
mod scans;
mod scenarios;
