//! Where the tables' buckets are: runs of cache lines in pages of the index's own.
//!
//! ```text
//! page  | run | run  | unused | run | ... | never handed out |
//!                                         ^ bumped
//! ```
//! Runs are handed out one behind the other. Where a page has no room left behind the last, but
//! enough between them, its runs are moved together; and where the pages have much unused, one is
//! emptied into the others, a few runs at a time, and given back. So tables of any size share pages,
//! whatever came and went.
//!
//! # Invariants
//! 1. Below `bumped` a page is cut into runs without a gap: tables' buckets, of which one has an
//!    entry, and unused ones, whose first line says how long they are.
//! 2. Whose a run is and how long is found by one of its entries: the hash of its key names the
//!    table, and the table starts with the run.

use super::Items;
use super::bucket::Bucket;
use super::range::RangeIndex;
use crate::limits::INDEX_RUNS_MAX;
use crate::slab::{LineId, PAGE_LINES, Slab};

/// Moving a page's runs together costs so much per run that it should gain a line for this many.
const RUNS_PER_LINE: usize = 4;
/// Owners of the runs in so many lines are loaded at the same time.
const LINES_AHEAD: usize = 16;
/// Pages are emptied when more than one in this many lines, and another page's, are unused.
const UNUSED_DIVISOR: usize = 8;

/// A page of the index.
#[derive(Clone, Copy, Debug)]
struct RunPage {
    page: u32,
    /// Lines below this one were handed out.
    bumped: u16,
    /// Lines of tables.
    used: u16,
    /// Runs of tables.
    runs: u16,
}

impl RunPage {
    /// Lines behind the last run.
    fn room(&self) -> usize {
        PAGE_LINES - usize::from(self.bumped)
    }

    /// Lines that no table has.
    fn unused(&self) -> usize {
        PAGE_LINES - usize::from(self.used)
    }

    fn is_worth_packing(&self) -> bool {
        self.unused() * RUNS_PER_LINE >= usize::from(self.runs)
    }
}

/// The runs of a page, one after the other.
struct Runs {
    page: u32,
    line: usize,
    end: usize,
    /// The item of the first entry of each line before this one is being loaded.
    loaded: usize,
}

impl Runs {
    fn of(page: &RunPage) -> Self {
        Self {
            page: page.page,
            line: 0,
            end: usize::from(page.bumped),
            loaded: 0,
        }
    }

    /// The next run of a table. What is before it may have been overwritten.
    fn next<I: Items>(&mut self, around: &Surroundings<'_, I>) -> Option<(Owner, LineId, usize)> {
        while self.line < self.end {
            let start = LineId::new(self.page, self.line);
            let bucket: &Bucket = around.slab.line(start);
            if let Some(count) = bucket.unused_count() {
                self.line += count;
                continue;
            }
            self.load_ahead(around);
            let (owner, count) = around.table_at(start);
            self.line += count;
            return Some((owner, start, count));
        }
        None
    }

    /// Where many items were deleted runs are short: without this a page of them would take as many
    /// cache misses, one after the other. Lines inside an unused run are buckets of before.
    fn load_ahead<I: Items>(&mut self, around: &Surroundings<'_, I>) {
        let end = self.end.min(self.line + LINES_AHEAD);
        for line in self.loaded.max(self.line)..end {
            let bucket: &Bucket = around.slab.line(LineId::new(self.page, line));
            if bucket.unused_count().is_none()
                && let Some(slot) = bucket.used().next()
            {
                around.items.prefetch(around.slab, bucket.handle(slot));
            }
        }
        self.loaded = end;
    }
}

/// A table's place in the index.
#[derive(Clone, Copy, Debug)]
struct Owner {
    range: u16,
    number: usize,
}

/// What pool functions need besides the pool.
pub(super) struct Surroundings<'a, I> {
    pub(super) slab: &'a mut Slab,
    pub(super) ranges: &'a mut [RangeIndex],
    pub(super) items: &'a I,
}

impl<I: Items> Surroundings<'_, I> {
    fn table_at(&self, start: LineId) -> (Owner, usize) {
        table_at(self.slab, self.ranges, self.items, start)
    }

    /// Moves a run of `count` lines.
    fn move_run(&mut self, owner: Owner, from: LineId, to: LineId, count: usize) {
        self.slab.copy_lines(from, to, count);
        self.ranges[usize::from(owner.range)]
            .table_mut(owner.number)
            .set_start(to);
    }
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Pool {
    pages: Vec<RunPage>,
    used: usize,
}

impl Pool {
    /// Bytes of the list of pages, on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.pages.capacity() * size_of::<RunPage>()
    }

    /// A run of lines, of undefined content; `None` if there is no page for it. May move other runs.
    ///
    /// O(pages of the index), and now and then the runs of a page.
    pub(super) fn allocate<I: Items>(
        &mut self,
        around: &mut Surroundings<'_, I>,
        count: usize,
    ) -> Option<LineId> {
        let place = self
            .roomy(count, usize::MAX)
            .or_else(|| self.packed(around, count, usize::MAX))
            .or_else(|| self.add_page(around.slab))
            .or_else(|| {
                let place = self.most_unused(usize::MAX, |page| page.unused() >= count)?;
                self.pack(around, place);
                Some(place)
            })?;
        Some(self.bump(place, count))
    }

    /// Takes back a run.
    pub(super) fn free(&mut self, slab: &mut Slab, start: LineId, count: usize) {
        if count == 0 {
            return;
        }
        slab.lines_mut(start, 1)[0] = Bucket::unused(count);
        let place = slab.index_place(start.page()) as usize;
        let page = &mut self.pages[place];
        let lines = u16::try_from(count).expect("a run is within a page");
        page.used -= lines;
        page.runs -= 1;
        self.used -= count;
        if start.in_page() + count == usize::from(page.bumped) {
            page.bumped -= lines;
        }
        if page.used == 0 {
            slab.release_index_page(page.page);
            self.pages.swap_remove(place);
            if let Some(moved) = self.pages.get(place) {
                slab.set_index_place(moved.page, place_of(place));
            }
        }
    }

    /// Cuts a run into two, which are freed each for itself from then on. Parts without lines
    /// are no runs.
    pub(super) fn cut(&mut self, slab: &Slab, start: LineId, parts: [usize; 2]) {
        if parts.iter().all(|&count| count > 0) {
            let place = slab.index_place(start.page()) as usize;
            self.pages[place].runs += 1;
        }
    }

    /// Gives all pages back. What is in them is nobody's any more.
    pub(super) fn clear(&mut self, slab: &mut Slab) {
        for page in std::mem::take(&mut self.pages) {
            slab.release_index_page(page.page);
        }
        self.used = 0;
    }

    /// Whether a page should be emptied into the others.
    pub(super) fn is_wasteful(&self) -> bool {
        let unused = self.pages.len() * PAGE_LINES - self.used;
        unused > self.used / UNUSED_DIVISOR + PAGE_LINES
    }

    /// Moves a few runs of the emptiest page to others, as far as they fit. Moves the runs of at most one
    /// other page together.
    pub(super) fn empty_some<I: Items>(&mut self, around: &mut Surroundings<'_, I>) {
        let Some(place) = self.most_unused(usize::MAX, |_| true) else {
            return;
        };
        let mut runs = Runs::of(&self.pages[place]);
        for _ in 0..INDEX_RUNS_MAX {
            let Some((owner, from, count)) = runs.next(around) else {
                return;
            };
            let roomy = self.roomy(count, place);
            let Some(target) = roomy.or_else(|| self.packed(around, count, place)) else {
                return;
            };
            let to = self.bump(target, count);
            around.move_run(owner, from, to, count);
            let is_last = usize::from(self.pages[place].used) == count;
            self.free(around.slab, from, count);
            if is_last {
                return;
            }
            // All before the next run is unused. It will be passed in one step.
            let first = LineId::new(from.page(), 0);
            around.slab.lines_mut(first, 1)[0] = Bucket::unused(runs.line);
            if roomy.is_none() {
                return;
            }
        }
    }

    /// A page but for one with room behind its last run.
    fn roomy(&self, count: usize, but: usize) -> Option<usize> {
        let roomy = self.pages.iter().enumerate();
        let roomy = roomy.filter(|&(place, page)| place != but && page.room() >= count);
        let (place, _) = roomy.min_by_key(|(_, page)| page.room())?;
        Some(place)
    }

    /// A page but for one in which packing made such room.
    fn packed<I: Items>(
        &mut self,
        around: &mut Surroundings<'_, I>,
        count: usize,
        but: usize,
    ) -> Option<usize> {
        let is_wanted = |page: &RunPage| page.unused() >= count && page.is_worth_packing();
        let place = self.most_unused(but, is_wanted)?;
        self.pack(around, place);
        Some(place)
    }

    fn most_unused(&self, but: usize, is_wanted: impl Fn(&RunPage) -> bool) -> Option<usize> {
        let pages = self.pages.iter().enumerate();
        let wanted = pages.filter(|&(place, page)| place != but && is_wanted(page));
        let (place, _) = wanted.max_by_key(|(_, page)| page.unused())?;
        Some(place)
    }

    fn add_page(&mut self, slab: &mut Slab) -> Option<usize> {
        let place = self.pages.len();
        let page = slab.take_index_page(place_of(place))?;
        if place == self.pages.capacity() {
            self.pages.reserve_exact(place.div_ceil(4).max(1));
        }
        self.pages.push(RunPage {
            page,
            bumped: 0,
            used: 0,
            runs: 0,
        });
        Some(place)
    }

    fn bump(&mut self, place: usize, count: usize) -> LineId {
        let page = &mut self.pages[place];
        assert!(page.room() >= count);
        let start = LineId::new(page.page, usize::from(page.bumped));
        let lines = u16::try_from(count).expect("a run is within a page");
        page.bumped += lines;
        page.used += lines;
        page.runs += 1;
        self.used += count;
        start
    }

    /// Moves a page's runs together, so that all that is unused is behind them.
    fn pack<I: Items>(&mut self, around: &mut Surroundings<'_, I>, place: usize) {
        let mut runs = Runs::of(&self.pages[place]);
        let mut packed = 0;
        while let Some((owner, from, count)) = runs.next(around) {
            let to = LineId::new(from.page(), packed);
            if from != to {
                around.move_run(owner, from, to, count);
            }
            packed += count;
        }
        let page = &mut self.pages[place];
        assert!(packed == usize::from(page.used));
        page.bumped = page.used;
    }

    /// Panics unless the invariants hold.
    pub(super) fn check_integrity(&self, slab: &Slab, ranges: &[RangeIndex], items: &impl Items) {
        let mut tables = 0;
        for (place, page) in self.pages.iter().enumerate() {
            assert_eq!(slab.index_place(page.page) as usize, place);
            let (mut line, mut used, mut runs) = (0, 0, 0);
            while line < usize::from(page.bumped) {
                let start = LineId::new(page.page, line);
                let bucket: &Bucket = slab.line(start);
                let count = bucket.unused_count().unwrap_or_else(|| {
                    let (_, count) = table_at(slab, ranges, items, start);
                    used += count;
                    runs += 1;
                    count
                });
                assert!(count > 0, "empty run");
                line += count;
            }
            assert_eq!(line, usize::from(page.bumped), "runs of a page");
            assert_eq!(used, usize::from(page.used), "lines of tables");
            assert_eq!(runs, usize::from(page.runs), "tables in a page");
            assert!(runs > 0, "page without a table");
            tables += runs;
        }
        let with_buckets = ranges.iter().flat_map(RangeIndex::tables);
        let with_buckets = with_buckets.filter(|table| table.buckets_count() > 0);
        assert_eq!(with_buckets.count(), tables, "tables outside the pages");
        let used = self.pages.iter().map(|page| usize::from(page.used)).sum();
        assert_eq!(self.used, used, "lines of all tables");
    }
}

/// The table whose run starts at a line, and its length.
fn table_at(
    slab: &Slab,
    ranges: &[RangeIndex],
    items: &impl Items,
    start: LineId,
) -> (Owner, usize) {
    let rest: &[Bucket] = slab.lines(start, PAGE_LINES - start.in_page());
    let mut entries = rest.iter().filter_map(|bucket| {
        let slot = bucket.used().next()?;
        Some(bucket.handle(slot))
    });
    let handle = entries.next().expect("a table has an entry");
    let range = items.range(slab, handle);
    let index = &ranges[usize::from(range)];
    let number = index.number_of(items.hash(slab, handle));
    let table = index.table(number);
    assert!(table.start() == start, "a run starts where its table does");
    (Owner { range, number }, table.buckets_count())
}

fn place_of(place: usize) -> u32 {
    u32::try_from(place).expect("an arena has fewer than 2^19 pages")
}
