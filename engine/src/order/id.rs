//! Which list: each slab class has one of every kind.

use crate::slab::{CLASSES_COUNT, ClassId};

/// What a class keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// Where new items come in; under LRU the only one. S3-FIFO's small queue.
    First,
    /// S3-FIFO's main queue.
    Main,
}

/// Number of lists, of all classes and kinds.
pub(super) const LISTS_COUNT: usize = ListKind::ALL.len() * CLASSES_COUNT;

impl ListKind {
    const ALL: [Self; 2] = [Self::First, Self::Main];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::First => Self::Main,
            Self::Main => Self::First,
        }
    }
}

/// A list of one class and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListId {
    class: ClassId,
    kind: ListKind,
}

impl ListId {
    #[inline]
    pub(crate) const fn new(class: ClassId, kind: ListKind) -> Self {
        Self { class, kind }
    }

    /// The class of the chunks that its items' departure frees.
    #[inline]
    pub(crate) const fn class(self) -> ClassId {
        self.class
    }

    #[inline]
    pub(crate) const fn kind(self) -> ListKind {
        self.kind
    }

    /// The lists of a class.
    pub(crate) fn of_class(class: ClassId) -> impl Iterator<Item = Self> {
        ListKind::ALL
            .into_iter()
            .map(move |kind| Self::new(class, kind))
    }

    /// All lists, in the order of their places.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        ListKind::ALL
            .into_iter()
            .flat_map(|kind| ClassId::all().map(move |class| Self::new(class, kind)))
    }

    /// Its place among the lists: those of one kind lie together, the first kind's at the start.
    #[inline]
    pub(super) const fn index(self) -> usize {
        self.kind as usize * CLASSES_COUNT + self.class.index()
    }
}
