//! Memory: one arena cut into pages, pages cut into chunks of a slab class.
//!
//! It hands out and takes back chunks and gives typed access to their bytes. It doesn't know what
//! evicts an item, nor whether anyone still needs a chunk.

mod classes;
mod handle;
mod lines;
mod pages;
mod region;
mod store;

pub(crate) use classes::{CLASSES_COUNT, ClassId};
pub(crate) use handle::Handle;
pub(crate) use lines::{LINE_BYTES, LineId, PAGE_LINES};
#[cfg(test)]
pub(crate) use region::HUGE_PAGE_BYTES;
pub(crate) use region::Plain;
pub use region::{Populate, Span};
pub(crate) use store::{PAGE_TABLE_ENTRY_BYTES, Slab};
