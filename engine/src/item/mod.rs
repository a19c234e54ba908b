//! Items: how their bytes are laid out, and how they are read.

mod header;
mod layout;
mod view;

pub(crate) use header::{Kind, Meta};
pub(crate) use layout::{
    Extensions, Layout, SEGMENT_HEADER_BYTES, Segments, TtlForm, key_of, segment_after,
};
pub(crate) use view::within;
pub use view::{Item, ItemValue, Parts};
