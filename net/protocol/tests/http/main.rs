//! The HTTP codec from outside: requests in every way they can arrive, and the responses.

mod client;
mod decode;
mod encode;
mod framing;
mod limits;
mod properties;
