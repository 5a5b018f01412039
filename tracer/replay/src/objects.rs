//! The objects of kmalloc that are live, as far as their allocations were recorded: whose object a buffer lies in, and
//! what lies beside it.
//!
//! An object that is freed without having been seen seems live until its memory is given out again, or mapped as part of
//! something larger.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::Serialize;

use super::devices::Identity;
use super::mapping::Buffer;
use super::site::{PAGES, SiteId};
use bouncescope_capture::event::{Memory, What};
use bouncescope_capture::facts::{KernelFacts, LinearMap};
use bouncescope_model::sharing::{Around, Object};

/// No line is longer, bytes: what lies farther away is nobody's neighbour.
const FARTHEST: u64 = 4096;

/// Live objects of one call site and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveObjects {
    /// Return address of kmalloc's caller.
    pub call_site: u64,
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes given.
    pub given: u64,
    /// How many.
    pub count: u64,
}

/// All live objects.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    live: BTreeMap<u64, Live>,
    linear_map: Option<LinearMap>,
    page_shift: u32,
    struct_page_size: u64,
    /// `struct page` of physical address 0, where learnt.
    vmemmap: Option<u64>,
    sites: HashMap<u64, SiteId>,
    addresses: Vec<u64>,
    /// When the kernel counted its objects first, ns; 0 when it did not.
    counted_ns: u64,
    /// When it counted them last, and what came and went since then by bytes given.
    counted_last_ns: u64,
    since_count: BTreeMap<u64, SinceCount>,
    older: OlderFrees,
    /// Freed, of an unknown size so far.
    sizeless: Vec<u64>,
    /// Allocations that are not followed, since too many objects are live.
    pub(super) left_out: u64,
    seen: bool,
    origins: Origins,
}

/// What small buffers that non-coherent devices write lay in, as their pages said when they were mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Origins {
    /// In an object of a slab cache.
    pub objects: u64,
    /// In pages that are no slab.
    pub pages: u64,
    /// It was not looked up, or could not be read.
    pub unknown: u64,
    /// Of them those whose allocation was recorded too, and the recorded object is the one that the page says.
    pub agreed: u64,
    /// The same, and it is another.
    pub disagreed: u64,
}

/// Frees of objects that are older than the recording, or than the kernel's first count of them, or of other caches than
/// kmalloc's. The event does not tell their size; another object in the same page does, since all in a slab are of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OlderFrees {
    /// Frees by bytes given.
    pub by_size: BTreeMap<u64, u64>,
    /// Frees of objects in whose page no other was seen.
    pub size_unknown: u64,
}

impl OlderFrees {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_size.values().sum::<u64>() + self.size_unknown
    }
}

/// What came and went after the kernel's last count of its objects, of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinceCount {
    /// Objects allocated in the recording that are live, less those that are no longer.
    pub live: i64,
    /// Frees of older objects.
    pub older_freed: u64,
}

/// Frees of unknown size that are looked up once more at the end; more are only counted.
const SIZELESS: usize = 1 << 16;

/// Live objects that are followed: what a machine with some gigabytes has of small ones. Each takes some 60 bytes here.
pub(super) const MOST_LIVE: usize = 1 << 20;
/// Call sites that are told apart, more than there are in a kernel with all its modules.
const MOST_SITES: usize = 1 << 16;

#[derive(Clone, Copy, Debug)]
struct Live {
    requested: u64,
    given: u64,
    site: SiteId,
    /// Older than the kernel's first count of its objects.
    older: bool,
}

impl Objects {
    /// For a kernel.
    pub fn new(kernel: &KernelFacts) -> Self {
        Self {
            linear_map: kernel.linear_map,
            page_shift: kernel.page_size.max(1).trailing_zeros(),
            struct_page_size: u64::from(kernel.struct_page_size),
            vmemmap: kernel.vmemmap,
            // The unknown one.
            addresses: vec![0],
            ..Self::default()
        }
    }

    /// The kernel counted its objects. To be called before the events that came later are taken in.
    pub fn counted(&mut self, time_ns: u64) {
        if self.counted_ns == 0 {
            self.counted_ns = time_ns;
        }
        self.counted_last_ns = time_ns;
        self.since_count.clear();
    }

    /// What came and went after the last of these counts, by bytes given.
    pub const fn since_count(&self) -> &BTreeMap<u64, SinceCount> {
        &self.since_count
    }

    /// What has changed since the last count, when this is after it.
    fn since(&mut self, time_ns: u64, given: u64, live: i64, older_freed: u64) {
        if time_ns > self.counted_last_ns && self.counted_last_ns > 0 {
            let since = self.since_count.entry(given).or_default();
            since.live += live;
            since.older_freed += older_freed;
        }
    }

    /// Takes in an allocation or a free.
    pub fn event(&mut self, time_ns: u64, what: &What) {
        match *what {
            What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, .. } => {
                self.seen = true;
                if self.live.len() >= MOST_LIVE && !self.live.contains_key(&ptr) {
                    self.left_out += 1;
                    return;
                }
                let site = self.site(call_site);
                let older = time_ns < self.counted_ns;
                let given = bytes_alloc.max(bytes_req);
                let freed_unseen = self.live.insert(ptr, Live { requested: bytes_req, given, site, older });
                if freed_unseen.is_none() {
                    self.since(time_ns, given, 1, 0);
                }
            }
            What::Kfree { ptr, .. } => match self.live.remove(&ptr) {
                // What came and went before that count is in neither.
                _ if time_ns < self.counted_ns => {}
                Some(live) if live.older => self.freed_older(time_ns, live.given),
                Some(live) => self.since(time_ns, live.given, -1, 0),
                None => self.freed_unknown(time_ns, ptr),
            },
            _ => {}
        }
    }

    fn freed_older(&mut self, time_ns: u64, given: u64) {
        *self.older.by_size.entry(given).or_default() += 1;
        self.since(time_ns, given, 0, 1);
    }

    fn freed_unknown(&mut self, time_ns: u64, ptr: u64) {
        match self.size_around(ptr) {
            Some(size) => self.freed_older(time_ns, size),
            None if self.sizeless.len() < SIZELESS => self.sizeless.push(ptr),
            None => self.older.size_unknown += 1,
        }
    }

    /// Bytes given to any live object in the same page.
    fn size_around(&self, ptr: u64) -> Option<u64> {
        let page = ptr >> self.page_shift << self.page_shift;
        let end = page.saturating_add(1 << self.page_shift);
        self.live.range(page..end).next().map(|(_, live)| live.given)
    }

    /// Frees of objects whose allocation was not recorded; objects that are live now tell the size of more of them.
    pub fn older_frees(&self) -> OlderFrees {
        let mut older = self.older.clone();
        for ptr in &self.sizeless {
            match self.size_around(*ptr) {
                Some(size) => *older.by_size.entry(size).or_default() += 1,
                None => older.size_unknown += 1,
            }
        }
        older
    }

    /// Whether any allocation was recorded, and buffers can be told from one another.
    pub(crate) fn can_tell(&self) -> bool {
        self.seen && self.linear_map.is_some()
    }

    /// Allocations were recorded.
    pub(crate) fn were_seen(&self) -> bool {
        self.seen
    }

    /// Counts what a small buffer lies in that a non-coherent device writes.
    pub(crate) fn count_origin(&mut self, memory: Memory) {
        match memory {
            Memory::Unknown => self.origins.unknown += 1,
            Memory::Pages => self.origins.pages += 1,
            Memory::Object { .. } => self.origins.objects += 1,
        }
    }

    /// What these lay in.
    pub fn origins(&self) -> Origins {
        self.origins
    }

    /// Notes in a buffer what is known about the memory around it; `page` is that of a segment. What its own page said of it when it was
    /// mapped counts more than an allocation that was seen before: that object may have been freed unseen.
    pub fn locate(&mut self, buffer: &mut Buffer, page: Option<u64>) {
        if let Some(page) = page {
            self.find_page(buffer, page);
        }
        self.recorded(buffer);
        let (address, object) = match buffer.memory {
            Memory::Unknown => return,
            Memory::Pages => {
                let page = 1 << self.page_shift;
                let offset = buffer.phys % page;
                // A buffer may go on to the next page, which is no more likely to be anybody else's.
                let given = page.max(offset.saturating_add(buffer.size));
                (PAGES, Object { offset, requested: given, given, of_kmalloc: false })
            }
            Memory::Object { cache, size, offset } => {
                let (given, of_kmalloc) = (u64::from(size), cache >= Memory::FIRST_OF_KMALLOC);
                (u64::from(cache), Object { offset: offset.into(), requested: given, given, of_kmalloc })
            }
        };
        if let Some(recorded) = buffer.around.object {
            if address != PAGES && (recorded.offset, recorded.given) == (object.offset, object.given) {
                self.origins.agreed += 1;
                return;
            }
            self.origins.disagreed += 1;
            buffer.around = Around::default();
        }
        buffer.site = self.site(address);
        buffer.around.object = Some(object);
        // Inside the object there is nobody else, whatever was seen before.
        let behind = object.given.saturating_sub(object.offset.saturating_add(buffer.size));
        buffer.around.free_before = buffer.around.free_before.filter(|free| *free >= object.offset);
        buffer.around.free_after = buffer.around.free_after.filter(|free| *free >= behind);
    }

    /// Notes in a buffer what recorded allocations tell.
    fn recorded(&mut self, buffer: &mut Buffer) {
        let Some(map) = self.linear_map.filter(|map| self.seen && buffer.exact && buffer.phys >= map.phys_base) else {
            return;
        };
        let start = map.virt_base.wrapping_add(buffer.phys - map.phys_base);
        let end = start.saturating_add(buffer.size);
        let before = self.live.range(..=start).next_back().map(|(ptr, live)| (*ptr, *live));
        if let Some((ptr, live)) = before
            && start < ptr.saturating_add(live.given)
        {
            if end > ptr.saturating_add(live.given) {
                // No object, then: it was freed unseen.
                self.live.remove(&ptr);
            } else {
                buffer.site = live.site;
                let (requested, given) = (live.requested, live.given);
                let object = Object { offset: start - ptr, requested, given, of_kmalloc: true };
                buffer.around.object = Some(object);
            }
        }
        // With an object's own beginning and end instead of the buffer's, its neighbours are at a distance still.
        let (from, to) = match buffer.around.object {
            Some(object) => (start - object.offset, (start - object.offset).saturating_add(object.given)),
            None => (start, end),
        };
        let beside = |gap: u64| (gap < FARTHEST).then_some(gap);
        let in_front = self.live.range(..from).next_back();
        buffer.around.free_before =
            in_front.map(|(ptr, live)| start.saturating_sub(ptr.saturating_add(live.requested))).and_then(beside);
        buffer.around.free_after =
            self.live.range(to..).next().map(|(ptr, _)| ptr.saturating_sub(end)).and_then(beside);
    }

    /// Bytes of a page.
    pub(crate) fn page_size(&self) -> u64 {
        1 << self.page_shift
    }

    /// Finds where a segment lies from its page, if it can.
    pub(crate) fn place(&mut self, buffer: &mut Buffer, page: u64) {
        self.find_page(buffer, page);
    }

    /// The physical address of a segment from its page; or, where both are known, where the pages begin.
    fn find_page(&mut self, buffer: &mut Buffer, page: u64) {
        if self.struct_page_size == 0 || page == 0 {
            return;
        }
        if buffer.exact {
            let number = buffer.phys >> self.page_shift;
            self.vmemmap = Some(page.wrapping_sub(number.wrapping_mul(self.struct_page_size)));
        } else if let Some(vmemmap) = self.vmemmap {
            let number = page.wrapping_sub(vmemmap) / self.struct_page_size;
            // A segment may begin pages behind the one it names.
            (buffer.phys, buffer.exact) = ((number << self.page_shift).wrapping_add(buffer.phys), true);
        }
    }

    /// The call site's number.
    fn site(&mut self, address: u64) -> SiteId {
        if self.addresses.len() > MOST_SITES {
            return self.sites.get(&address).copied().unwrap_or(SiteId::UNKNOWN);
        }
        let next = SiteId(self.addresses.len() as u32);
        let addresses = &mut self.addresses;
        *self.sites.entry(address).or_insert_with(|| {
            addresses.push(address);
            next
        })
    }

    /// The call site's address; 0 for the unknown one.
    pub fn address(&self, site: SiteId) -> u64 {
        self.addresses.get(site.0 as usize).copied().unwrap_or(0)
    }

    /// What is live now and is no older than the kernel's first count of its objects, by call site and size.
    pub fn live(&self) -> Vec<LiveObjects> {
        let mut counts: BTreeMap<(SiteId, u64, u64), u64> = BTreeMap::new();
        for live in self.live.values().filter(|live| !live.older) {
            *counts.entry((live.site, live.requested, live.given)).or_default() += 1;
        }
        let count =
            |((site, requested, given), count)| LiveObjects { call_site: self.address(site), requested, given, count };
        counts.into_iter().map(count).collect()
    }
}

/// Whose mappings and whose objects: the key of every breakdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whose {
    /// The device.
    pub device: Identity,
    /// `enum dma_data_direction`.
    pub direction: u8,
    /// Longest buffer of the size class, bytes.
    pub class: u64,
    /// Where the buffer was allocated.
    pub site: SiteId,
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Truth;
    use super::*;

    fn objects() -> Objects {
        Objects::new(&KernelFacts { page_size: 4096, ..KernelFacts::default() })
    }

    fn kmalloc(ptr: u64, bytes_alloc: u64) -> What {
        What::Kmalloc { call_site: 1, ptr, bytes_req: 5, bytes_alloc, gfp: 0 }
    }

    fn kfree(ptr: u64) -> What {
        What::Kfree { call_site: 1, ptr }
    }

    const VIRT: u64 = 0xffff_0000_0000_0000;

    /// A buffer of so many bytes at this physical address, of which its page says this.
    fn located(objects: &mut Objects, phys: u64, size: u64, memory: Memory) -> Buffer {
        let mut buffer = Buffer {
            time_ns: 1,
            cpu: 0,
            phys,
            exact: true,
            size,
            direct_dma_addr: None,
            memory,
            site: SiteId::UNKNOWN,
            around: Around::default(),
            truth: Truth::NotReached,
        };
        objects.locate(&mut buffer, None);
        buffer
    }

    fn with_linear_map() -> Objects {
        let linear_map = Some(LinearMap { virt_base: VIRT, phys_base: 0 });
        Objects::new(&KernelFacts { page_size: 4096, linear_map, ..KernelFacts::default() })
    }

    #[test]
    fn an_object_that_nobody_saw_allocated_is_the_one_that_its_page_says() {
        let mut objects = with_linear_map();
        let of_kmalloc = Memory::object(Memory::FIRST_OF_KMALLOC, 64, 8);
        let buffer = located(&mut objects, 0x1048, 8, of_kmalloc);
        let object = Object { offset: 8, requested: 64, given: 64, of_kmalloc: true };
        assert_eq!(buffer.around, Around { object: Some(object), ..Around::default() });
        assert_eq!(objects.address(buffer.site), u64::from(Memory::FIRST_OF_KMALLOC));
        let other = located(&mut objects, 0x2000, 8, Memory::object(5, 696, 0));
        assert!(!other.around.object.unwrap().of_kmalloc);
        assert_eq!((objects.address(other.site), objects.origins().agreed), (5, 0));
    }

    #[test]
    fn pages_that_are_no_slab_are_their_owners_to_their_end() {
        let mut objects = with_linear_map();
        for (phys, size, given) in [(0x1008, 1, 4096), (0x1fff, 2, 4097)] {
            let buffer = located(&mut objects, phys, size, Memory::Pages);
            let object = Object { offset: phys % 4096, requested: given, given, of_kmalloc: false };
            assert_eq!((buffer.around.object, objects.address(buffer.site)), (Some(object), PAGES));
        }
        assert_eq!(located(&mut objects, 0x1008, 1, Memory::Unknown).around, Around::default());
    }

    #[test]
    fn what_the_page_says_is_compared_with_recorded_allocations_and_counts_more() {
        let mut objects = with_linear_map();
        let site = 0xffff_8000_8001_2340;
        for ptr in [0x1000, 0x1040] {
            let what = What::Kmalloc { call_site: site, ptr: VIRT + ptr, bytes_req: 5, bytes_alloc: 64, gfp: 0 };
            objects.event(1, &what);
        }
        let as_recorded = Memory::object(Memory::FIRST_OF_KMALLOC, 64, 8);
        let buffer = located(&mut objects, 0x1008, 8, as_recorded);
        assert_eq!(objects.address(buffer.site), site);
        assert_eq!(buffer.around.object.map(|object| object.requested), Some(5));
        assert_eq!(buffer.around.free_after, Some(0x30), "the next object");
        let wanted = Origins { agreed: 1, ..Origins::default() };
        assert_eq!(objects.origins(), wanted);
        for memory in [Memory::Pages, Memory::object(7, 32, 8), Memory::object(7, 64, 0)] {
            let buffer = located(&mut objects, 0x1008, 8, memory);
            assert_ne!(objects.address(buffer.site), site);
            assert_eq!((buffer.around.free_before, buffer.around.free_after), (None, None));
        }
        assert_eq!(objects.origins(), Origins { disagreed: 3, ..wanted });
    }

    #[test]
    fn beside_an_object_that_its_page_says_recorded_neighbours_are_known() {
        let mut objects = with_linear_map();
        objects.event(1, &kmalloc(VIRT + 0x1020, 32));
        let buffer = located(&mut objects, 0x1000, 18, Memory::object(Memory::FIRST_OF_KMALLOC, 32, 0));
        assert_eq!(buffer.around.free_after, Some(14));
    }

    #[test]
    fn another_object_of_its_page_tells_the_size_of_one_whose_allocation_was_not_seen() {
        let mut objects = objects();
        objects.event(1, &kmalloc(0x1000, 64));
        // Beside one that is live now, beside one that is live at the end, and beside none.
        for (time_ns, what) in [(2, kfree(0x1fc0)), (3, kfree(0x2000)), (4, kmalloc(0x2f80, 128)), (5, kfree(0x3000))] {
            objects.event(time_ns, &what);
        }
        let older = objects.older_frees();
        assert_eq!(older, OlderFrees { by_size: [(64, 1), (128, 1)].into(), size_unknown: 1 });
        assert_eq!(older.total(), 3);
    }

    #[test]
    fn objects_that_the_kernel_counted_at_the_beginning_are_older_ones() {
        let mut objects = objects();
        objects.counted(10);
        objects.counted(30);
        for (time_ns, what) in [(7, kmalloc(0x1000, 64)), (7, kmalloc(0x1040, 64)), (20, kmalloc(0x1080, 64))] {
            objects.event(time_ns, &what);
        }
        // Gone before that, seen or not.
        for (time_ns, what) in [(8, kmalloc(0x10c0, 64)), (9, kfree(0x10c0)), (9, kfree(0x1100))] {
            objects.event(time_ns, &what);
        }
        assert_eq!(objects.live().iter().map(|live| live.count).sum::<u64>(), 1);
        objects.event(21, &kfree(0x1000));
        objects.event(22, &kfree(0x1080));
        assert_eq!(objects.live(), []);
        assert_eq!(objects.older_frees(), OlderFrees { by_size: [(64, 1)].into(), size_unknown: 0 });
    }

    #[test]
    fn what_came_and_went_after_the_last_count_is_told_apart() {
        let mut objects = objects();
        objects.counted(10);
        for (time_ns, what) in [(11, kmalloc(0x1000, 64)), (12, kmalloc(0x2000, 32)), (13, kfree(0x1040))] {
            objects.event(time_ns, &what);
        }
        objects.counted(20);
        // Read late: it was before the count.
        objects.event(19, &kmalloc(0x1080, 64));
        assert_eq!(objects.since_count(), &BTreeMap::new());
        for (time_ns, what) in [(21, kfree(0x2000)), (22, kmalloc(0x10c0, 64)), (23, kfree(0x1100))] {
            objects.event(time_ns, &what);
        }
        let gone = SinceCount { live: -1, older_freed: 0 };
        let both = SinceCount { live: 1, older_freed: 1 };
        assert_eq!(objects.since_count(), &[(32, gone), (64, both)].into());
        assert_eq!(objects.older_frees().by_size, [(64, 2)].into());
    }
}
