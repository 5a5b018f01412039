//! The objects of kmalloc that are live, as far as their allocations were recorded: whose object a buffer lies in, and
//! what lies beside it.
//!
//! An object that a kernel frees without an event (`kfree_bulk()`, `kfree_rcu()` on some kernels) seems live until its memory
//! is given out again, or mapped as part of something larger.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::devices::Identity;
use super::mapping::Buffer;
use crate::event::What;
use crate::facts::{KernelFacts, LinearMap};
use crate::model::sharing::Object;

/// A call site of kmalloc: index in order of appearance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

impl SiteId {
    /// Not known.
    pub const UNKNOWN: Self = Self(0);
}

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
#[derive(Debug, Default)]
pub struct Objects {
    live: BTreeMap<u64, Live>,
    linear_map: Option<LinearMap>,
    page_shift: u32,
    struct_page_size: u64,
    /// `struct page` of physical address 0, where learnt.
    vmemmap: Option<u64>,
    sites: HashMap<u64, SiteId>,
    addresses: Vec<u64>,
    /// Frees of objects that were allocated before the recording began.
    pub frees_of_unknown: u64,
    seen: bool,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    requested: u64,
    given: u64,
    site: SiteId,
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

    /// Takes in an allocation or a free.
    pub fn event(&mut self, what: &What) {
        match *what {
            What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, .. } => {
                self.seen = true;
                let site = self.site(call_site);
                self.live.insert(ptr, Live { requested: bytes_req, given: bytes_alloc.max(bytes_req), site });
            }
            What::Kfree { ptr, .. } => self.frees_of_unknown += u64::from(self.live.remove(&ptr).is_none()),
            _ => {}
        }
    }

    /// Whether any allocation was recorded, and buffers can be told from one another.
    pub fn can_tell(&self) -> bool {
        self.seen && self.linear_map.is_some()
    }

    /// Allocations were recorded.
    pub fn were_seen(&self) -> bool {
        self.seen
    }

    /// Notes in a buffer what is known about the memory around it; `page` is that of a segment.
    pub fn locate(&mut self, buffer: &mut Buffer, page: Option<u64>) {
        if let Some(page) = page {
            self.find_page(buffer, page);
        }
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
                let object = Object { offset: start - ptr, requested: live.requested, given: live.given };
                buffer.around.object = Some(object);
            }
        }
        // With an object's own beginning and end instead of the buffer's, its neighbours are at a distance still.
        let (from, to) = match buffer.around.object {
            Some(object) => (start - object.offset, start - object.offset + object.given),
            None => (start, end),
        };
        let beside = |gap: u64| (gap < FARTHEST).then_some(gap);
        let in_front = self.live.range(..from).next_back();
        buffer.around.free_before =
            in_front.map(|(ptr, live)| start.saturating_sub(ptr.saturating_add(live.requested))).and_then(beside);
        buffer.around.free_after =
            self.live.range(to..).next().map(|(ptr, _)| ptr.saturating_sub(end)).and_then(beside);
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

    /// The call site's number, if one of its objects was seen.
    pub fn site_of(&self, address: u64) -> Option<SiteId> {
        self.sites.get(&address).copied()
    }

    /// What is live now, by call site and size.
    pub fn live(&self) -> Vec<LiveObjects> {
        let mut counts: BTreeMap<(SiteId, u64, u64), u64> = BTreeMap::new();
        for live in self.live.values() {
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
