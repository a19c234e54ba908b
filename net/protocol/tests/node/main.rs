//! The protocol between nodes: every frame there and back, cut, damaged, and at its limits.

mod damage;
mod greeting;
mod limits;
mod round_trip;
mod samples;
mod streams;
