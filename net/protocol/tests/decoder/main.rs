//! The RESP decoder against a naive parser, against every way to split its input, and at its
//! limits.

mod driver;
mod limits;
mod properties;
mod reference;
mod splits;
