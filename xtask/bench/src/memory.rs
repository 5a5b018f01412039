//! Physical memory of the benchmark's machine: buffers that are taken and come back, pages of the page cache, and the slots
//! of the swiotlb pool.

use std::collections::VecDeque;

use super::{random::Random, traffic::Place};

/// Where memory begins; each pattern's part has a range of its own, of 64 MiB.
const MEMORY: u64 = 0x8000_0000;
const RANGE_PAGES: u64 = 1 << 14;
const PAGE: u64 = 4096;
/// The page cache: 4 GiB from 4 GiB on.
const PAGE_CACHE: u64 = 1 << 32;
const PAGE_CACHE_PAGES: u64 = 1 << 20;
/// `vmemmap` of a kernel with 48 bits of virtual addresses.
const VMEMMAP: u64 = 0xffff_fdff_bf00_0000;
/// `sizeof(struct page)`.
const STRUCT_PAGE: u64 = 64;

/// The pool, as in the kernels' default: 64 MiB, an area for each CPU.
pub(super) const POOL: u64 = 0xf000_0000;
pub(super) const SLOTS: u64 = 32768;
pub(super) const SLOT: u64 = 2048;

/// Buffers of one kind.
pub(super) struct Buffers {
    place: Place,
    /// Which of the ranges they lie in.
    range: u64,
    free: VecDeque<u64>,
    /// Made so far.
    made: u64,
    /// Page that the last list ended with.
    readahead: u64,
}

impl Buffers {
    pub(super) fn new(place: Place, range: u64) -> Self {
        let mut buffers = Self { place, range, free: VecDeque::new(), made: 0, readahead: 0 };
        // A ring's pages are all there from the beginning, in no order after some time.
        if matches!(place, Place::Rolling { .. }) {
            let fresh: Vec<u64> = (0..4096).map(|_| buffers.fresh()).collect();
            buffers.free.extend(fresh);
        }
        buffers
    }

    /// The address of a buffer; of a list, where its table of entries lies.
    pub(super) fn take(&mut self) -> u64 {
        let found = match self.place {
            Place::Rolling { .. } => self.free.pop_front(),
            _ => self.free.pop_back(),
        };
        found.unwrap_or_else(|| self.fresh())
    }

    pub(super) fn give_back(&mut self, address: u64) {
        self.free.push_back(address);
    }

    fn fresh(&mut self) -> u64 {
        let (object, offset) = match self.place {
            Place::Rolling { headroom } => (2048, headroom),
            Place::Slab { object, offset } => (object, offset),
            Place::PageCache { .. } | Place::ListOfObject => (1024, 0),
        };
        let per_page = PAGE / object;
        // Pages in an order that looks like none, each once.
        let page = (self.made / per_page).wrapping_mul(0x9e5) % RANGE_PAGES;
        let address = MEMORY + PAGE * (self.range * RANGE_PAGES + page) + self.made % per_page * object + offset;
        self.made += 1;
        address
    }

    /// The next page that a file's readahead finds.
    pub(super) fn page_cache(&mut self, random: &mut Random) -> u64 {
        let next = if random.percent(60) { self.readahead + 1 } else { random.below(PAGE_CACHE_PAGES) };
        self.readahead = next % PAGE_CACHE_PAGES;
        PAGE_CACHE + PAGE * self.readahead
    }
}

/// `phys_to_page()`.
pub(super) const fn struct_page(phys: u64) -> u64 {
    VMEMMAP + phys / PAGE * STRUCT_PAGE
}

/// The pool: each search goes on where the last one in its area ended.
pub(super) struct Pool {
    used: Vec<bool>,
    areas: Vec<u64>,
    in_use: u64,
    most_in_use: u64,
}

impl Pool {
    pub(super) fn new(cpus: u64) -> Self {
        Self { used: vec![false; SLOTS as usize], areas: vec![0; cpus as usize], in_use: 0, most_in_use: 0 }
    }

    /// A slot's address. This machine never has so much in flight that there is none.
    pub(super) fn take(&mut self, cpu: u16) -> u64 {
        let size = SLOTS / self.areas.len() as u64;
        let index = &mut self.areas[usize::from(cpu)];
        loop {
            let slot = u64::from(cpu) * size + *index;
            *index = (*index + 1) % size;
            if !self.used[slot as usize] {
                self.used[slot as usize] = true;
                return POOL + SLOT * slot;
            }
        }
    }

    /// The records of a slot taken or given back are out: what the kernel's own counter knows.
    pub(super) fn taken(&mut self) {
        self.in_use += 1;
        self.most_in_use = self.most_in_use.max(self.in_use);
    }

    pub(super) fn give_back(&mut self, slot: u64) {
        self.used[((slot - POOL) / SLOT) as usize] = false;
        self.in_use -= 1;
    }

    /// `io_tlb_used` and `io_tlb_used_hiwater`.
    pub(super) const fn counters(&self) -> (u64, u64) {
        (self.in_use, self.most_in_use)
    }
}
