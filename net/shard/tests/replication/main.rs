//! Tests of replication with real engines: a seeded simulation, and cases of their own.

mod cases;
mod check;
mod commands;
mod random;
mod simulation;
mod wire;
mod world;
