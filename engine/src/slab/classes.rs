//! Slab classes: the chunk sizes.
//!
//! 8-byte steps up to 128 B, then 16 per doubling up to 4 KiB; above that only what long keys and
//! segments of long values use. Sizes above a few hundred bytes are the largest that still put the
//! same number of chunks in a page, so a page's tail isn't wasted.

use crate::limits::{INLINE_ITEM_BYTES_MAX, PAGE_BYTES};

/// Smallest chunk: a header and a key of a few bytes.
const CHUNK_BYTES_MIN: usize = 24;
/// Steps of 8 up to here.
const FINE_BYTES_MAX: usize = 128;
const FINE_STEP_BYTES: usize = 8;
/// Steps per doubling above it.
const STEPS_PER_DOUBLING: usize = 16;
/// Above this, one class for each even number of chunks in a page, and from 32 down for each.
const STEPPED_BYTES_MAX: usize = 1024;
/// Classes above the inline limit.
const LARGE_SIZES: [usize; 4] = [8192, 16_384, 21_840, PAGE_BYTES];

const TABLE: (usize, [u32; 128]) = build_sizes();
const SIZES_COUNT: usize = TABLE.0;
const SIZES: [u32; SIZES_COUNT] = trim_sizes();
const SMALL_CLASSES: [u8; INLINE_ITEM_BYTES_MAX / 8 + 1] = build_small_classes();

/// Number of classes.
pub(crate) const CLASSES_COUNT: usize = SIZES_COUNT;

/// A slab class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassId(u8);

impl ClassId {
    /// 4 KiB chunks: the smallest segments that a growing chain takes.
    pub(crate) const SEGMENT_SMALL: Self = Self::fitting_const(4096);
    /// 16 KiB chunks.
    pub(crate) const SEGMENT_MIDDLE: Self = Self::fitting_const(16_384);
    /// Whole pages.
    pub(crate) const SEGMENT_LARGE: Self = Self::fitting_const(PAGE_BYTES);

    /// The smallest class whose chunks hold `bytes`; `None` above a page.
    #[inline]
    pub(crate) fn fitting(bytes: usize) -> Option<Self> {
        match SMALL_CLASSES.get(bytes.div_ceil(8)) {
            Some(&class) => Some(Self(class)),
            None => Self::fitting_large(bytes),
        }
    }

    /// The largest class whose chunks have at most `bytes`, which are less than a page; the smallest
    /// class if there is none.
    pub(crate) fn filled_by(bytes: usize) -> Self {
        let above = Self::fitting(bytes + 1).expect("less than a page");
        Self(above.0.saturating_sub(1))
    }

    fn fitting_large(bytes: usize) -> Option<Self> {
        (bytes <= PAGE_BYTES).then(|| Self::fitting_const(bytes))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are fewer than 128 classes"
    )]
    const fn fitting_const(bytes: usize) -> Self {
        let mut class = 0;
        while (SIZES[class] as usize) < bytes {
            class += 1;
        }
        Self(class as u8)
    }

    /// The class with this index.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are fewer than 128 classes"
    )]
    pub(crate) fn from_index(index: usize) -> Self {
        assert!(index < CLASSES_COUNT);
        Self(index as u8)
    }

    /// All classes, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES_COUNT).map(Self::from_index)
    }

    /// Its place among the classes, 0-based.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Bytes in a chunk.
    #[inline]
    pub(crate) const fn chunk_bytes(self) -> usize {
        SIZES[self.0 as usize] as usize
    }

    /// Chunks in a page.
    #[inline]
    pub(crate) const fn chunks_per_page(self) -> usize {
        PAGE_BYTES / self.chunk_bytes()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sizes are at most PAGE_BYTES"
)]
const fn build_sizes() -> (usize, [u32; 128]) {
    let mut sizes = [0u32; 128];
    let mut count = 0;
    let mut size = CHUNK_BYTES_MIN;
    let mut step = FINE_STEP_BYTES;
    let mut doubling = FINE_BYTES_MAX;
    while size <= STEPPED_BYTES_MAX {
        let filling = (PAGE_BYTES / (PAGE_BYTES / size)) & !7;
        sizes[count] = if size <= FINE_BYTES_MAX {
            size
        } else {
            filling
        } as u32;
        count += 1;
        if size == doubling {
            step = doubling / STEPS_PER_DOUBLING;
            doubling *= 2;
        }
        size += step;
    }
    let mut chunks = PAGE_BYTES / STEPPED_BYTES_MAX - 2;
    while chunks >= PAGE_BYTES / INLINE_ITEM_BYTES_MAX {
        sizes[count] = ((PAGE_BYTES / chunks) & !7) as u32;
        count += 1;
        chunks -= if chunks > 32 { 2 } else { 1 };
    }
    let mut large = 0;
    while large < LARGE_SIZES.len() {
        sizes[count] = LARGE_SIZES[large] as u32;
        count += 1;
        large += 1;
    }
    (count, sizes)
}

const fn trim_sizes() -> [u32; SIZES_COUNT] {
    let mut sizes = [0; SIZES_COUNT];
    let mut class = 0;
    while class < SIZES_COUNT {
        sizes[class] = TABLE.1[class];
        class += 1;
    }
    sizes
}

const fn build_small_classes() -> [u8; INLINE_ITEM_BYTES_MAX / 8 + 1] {
    let mut classes = [0; INLINE_ITEM_BYTES_MAX / 8 + 1];
    let mut units = 0;
    while units < classes.len() {
        classes[units] = ClassId::fitting_const(units * 8).0;
        units += 1;
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::{ClassId, SIZES};
    use crate::limits::{INLINE_ITEM_BYTES_MAX, PAGE_BYTES};

    #[test]
    fn sizes_rise_and_are_multiples_of_eight() {
        assert!(SIZES.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(SIZES.iter().all(|size| size.is_multiple_of(8)));
        assert!(SIZES.contains(&64) && SIZES.contains(&72));
        assert!(SIZES.contains(&4096) && SIZES.contains(&16_384));
    }

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for bytes in 0..=PAGE_BYTES {
            let class = ClassId::fitting(bytes).expect("at most a page");
            assert!(class.chunk_bytes() >= bytes);
            if class.index() > 0 {
                assert!(ClassId::from_index(class.index() - 1).chunk_bytes() < bytes);
            }
            if (SIZES[0] as usize..PAGE_BYTES).contains(&bytes) {
                let filled = ClassId::filled_by(bytes);
                assert!(filled.chunk_bytes() <= bytes && filled.index() + 1 >= class.index());
            }
        }
        assert_eq!(ClassId::fitting(PAGE_BYTES + 1), None);
    }

    #[test]
    fn rounding_and_page_tails_waste_little() {
        for class in ClassId::all().filter(|class| class.chunk_bytes() <= INLINE_ITEM_BYTES_MAX) {
            let used = class.chunks_per_page() * class.chunk_bytes();
            assert!(
                PAGE_BYTES - used <= PAGE_BYTES / 64,
                "page tail of {class:?}"
            );
            if class.chunk_bytes() > 128 {
                let below = ClassId::from_index(class.index() - 1).chunk_bytes();
                let waste = class.chunk_bytes() - below - 1;
                assert!(
                    waste * 10_000 <= class.chunk_bytes() * 625,
                    "rounding of {class:?}"
                );
            }
        }
    }
}
