//! A node as the cluster's topology knows it.

use thiserror::Error;

use crate::{Incarnation, NodeId};

/// Longest name of a zone, in bytes.
pub const ZONE_BYTES_MAX: usize = 32;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// The start that joined. A process of a later one holds nothing until a topology says so.
    pub incarnation: Incarnation,
    /// Number of its shards, at least 1.
    pub cores: u16,
    /// Its share of the ranges, relative to the others', at least 1.
    pub weight: u16,
    /// What may fail together with it.
    pub zone: Zone,
}

/// A zone's name; the empty one stands for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(Box<str>);

/// A zone's name is longer than [`ZONE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a zone's name has at most {ZONE_BYTES_MAX} bytes")]
pub struct ZoneTooLong;

impl Zone {
    /// The zone of this name.
    ///
    /// # Errors
    /// [`ZoneTooLong`].
    pub fn new(name: &str) -> Result<Self, ZoneTooLong> {
        if name.len() > ZONE_BYTES_MAX {
            return Err(ZoneTooLong);
        }
        Ok(Self(name.into()))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
