//! The cache against a model, over random sequences of calls.

mod model;
mod operation;
mod properties;
mod scenarios;
