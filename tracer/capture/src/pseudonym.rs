//! Pseudonyms for the kernel's addresses: a stream without them that replays as the original does.
//!
//! What is hidden is where the kernel lies in its own address space, what `%p` hides too:
//!
//! | address | pseudonym | what of it is kept |
//! |---|---|---|
//! | code (call sites, symbols) | keyed hash | equal stays equal; symbols keep their names |
//! | object, in the linear map | its physical address from [`OBJECTS`] on | all that its physical address tells, not where the map begins |
//! | object elsewhere, or without a known linear map | keyed hash | equal stays equal |
//! | scatterlist | keyed hash | equal stays equal |
//! | `struct page` | shifted by a secret | distances, so which pages are neighbours |
//! | physical, DMA, slot | as it is | all |
//!
//! Physical and DMA addresses stay because the answers rest on them: what a device reaches under its mask, the bus's offset,
//! lines, granules and neighbours. The kernel prints them in the clear (`%pa`, `%pad`), and they don't tell virtual ones
//! where the kernel's base is random. The key is made anew for each capture and stored nowhere.

use std::hash::{BuildHasher as _, RandomState};

use serde_json::Value;

use crate::event::{Batch, What};
use crate::facts::LinearMap;
use crate::stream::{Item, Start};

/// Where pseudonyms of objects begin: that of an object is this and its physical address.
pub const OBJECTS: u64 = 1 << 60;
/// Where hashes begin.
const HASHES: u64 = 2 << 60;
/// Where pseudonyms of pages begin.
const PAGES: u64 = 3 << 60;
/// Bits of a pseudonym below what tells its kind.
const VALUE: u64 = OBJECTS - 1;
/// Physical addresses are shorter on every machine (`MAX_PHYSMEM_BITS` is 52 at the most).
const LAST_PHYS: u64 = (1 << 56) - 1;
/// `NULL`, `ZERO_SIZE_PTR` and error codes as pointers are no addresses.
const FIRST_ADDRESS: u64 = 4096;
/// `-MAX_ERRNO` (`include/linux/err.h`).
const FIRST_ERROR: u64 = (-4095_i64) as u64;
/// The member of [`Start::other`] that marks such a stream.
pub const MARK: &str = "addresses";

/// Gives pseudonyms; the same address always gets the same.
#[derive(Debug, Default)]
pub struct Pseudonyms {
    key: RandomState,
    linear_map: Option<LinearMap>,
}

impl Pseudonyms {
    /// Replaces every kernel address in an item. The start must come first, as in every stream.
    pub fn hide(&mut self, item: &mut Item) {
        match item {
            Item::Start(start) => self.start(start),
            Item::Events(batch) => self.batch(batch),
            Item::Sites(sites) => sites.iter_mut().for_each(|site| site.call_site = self.hash(site.call_site)),
            Item::Symbols(symbols) => symbols.iter_mut().for_each(|symbol| symbol.addr = self.hash(symbol.addr)),
            Item::Device(_)
            | Item::Lengths(_)
            | Item::Passed(_)
            | Item::Pool(_)
            | Item::Slab(_)
            | Item::PoolTimes(_)
            | Item::Counters(_)
            | Item::End(_) => {}
        }
    }

    fn start(&mut self, start: &mut Start) {
        self.linear_map = start.kernel.linear_map;
        if let Some(map) = &mut start.kernel.linear_map {
            map.virt_base = OBJECTS.wrapping_add(map.phys_base);
        }
        start.kernel.vmemmap = start.kernel.vmemmap.map(|page| self.page(page));
        let hooks = start.hooks.iter_mut().map(|hook| &mut hook.why_not);
        for text in start.notes.iter_mut().chain(hooks).chain([&mut start.kernel.cmdline, &mut start.recorder]) {
            *text = without_addresses(text);
        }
        start.other.values_mut().for_each(hide_in_texts);
        start.other.insert(MARK.to_owned(), "pseudonyms".into());
    }

    fn batch(&self, batch: &mut Batch) {
        for event in &mut batch.events {
            match &mut event.what {
                What::Kmalloc { call_site, ptr, .. } | What::Kfree { call_site, ptr } => {
                    *call_site = self.hash(*call_site);
                    *ptr = self.object(*ptr);
                }
                What::MapSg { list, caller, .. } => {
                    *list = self.hash(*list);
                    *caller = self.hash(*caller);
                }
                What::UnmapSg { list, .. } | What::SyncSg { list, .. } => {
                    *list = self.hash(*list);
                }
                What::Map { .. }
                | What::Unmap { .. }
                | What::Link { .. }
                | What::Unlink { .. }
                | What::Bounced { .. }
                | What::SlotMap { .. }
                | What::SlotUnmap { .. }
                | What::CoherentAlloc { .. }
                | What::CoherentFree { .. }
                | What::Sync { .. } => {}
            }
        }
        for segment in &mut batch.segments {
            segment.page = self.page(segment.page);
        }
    }

    fn hash(&self, address: u64) -> u64 {
        if is_address(address) { HASHES | self.key.hash_one(address) & VALUE } else { address }
    }

    fn object(&self, ptr: u64) -> u64 {
        let phys = self.linear_map.and_then(|map| ptr.checked_sub(map.virt_base)?.checked_add(map.phys_base));
        match phys.filter(|phys| *phys <= LAST_PHYS) {
            Some(phys) => OBJECTS | phys,
            None => self.hash(ptr),
        }
    }

    /// The upper byte is the same for all pages, so that distances survive without it.
    fn page(&self, page: u64) -> u64 {
        let shift = self.key.hash_one("page") & (VALUE >> 1) & !0xfff;
        if is_address(page) { PAGES + shift + (page & LAST_PHYS) } else { page }
    }
}

const fn is_address(value: u64) -> bool {
    value >= FIRST_ADDRESS && value < FIRST_ERROR
}

/// The same in every text of what a later version, or another program, has written.
fn hide_in_texts(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_addresses(text),
        Value::Array(values) => values.iter_mut().for_each(hide_in_texts),
        Value::Object(members) => members.values_mut().for_each(hide_in_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text without what looks like one of the kernel's addresses: sixteen hexadecimal digits from `ffff` on.
pub fn without_addresses(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(digits);
        let is_address = word.len() == 16 && word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("ffff"));
        hidden.push_str(if is_address { "(address)" } else { word });
        let other = after.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(after.len());
        let (between, next) = after.split_at(other);
        hidden.push_str(between);
        rest = next;
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Segment};
    use crate::facts::{KernelFacts, Symbol};

    const MAP: LinearMap = LinearMap { virt_base: 0xffff_0000_1000_0000, phys_base: 0x5000_0000 };

    fn pseudonyms(linear_map: Option<LinearMap>) -> Pseudonyms {
        let mut pseudonyms = Pseudonyms::default();
        let kernel = KernelFacts { linear_map, ..KernelFacts::default() };
        pseudonyms.hide(&mut Item::Start(Start { kernel, ..Start::default() }));
        pseudonyms
    }

    #[test]
    fn an_object_stays_where_its_physical_address_says() {
        let mut start = Item::Start(Start {
            kernel: KernelFacts { linear_map: Some(MAP), ..KernelFacts::default() },
            ..Start::default()
        });
        let mut pseudonyms = Pseudonyms::default();
        pseudonyms.hide(&mut start);
        let Item::Start(Start { kernel: KernelFacts { linear_map: Some(hidden), .. }, .. }) = start else {
            panic!("{start:?}")
        };
        let ptr = MAP.virt_base + 0x1234_5678;
        let phys = MAP.phys_base + 0x1234_5678;
        assert_eq!(pseudonyms.object(ptr), hidden.virt_base + (phys - hidden.phys_base));
    }

    #[test]
    fn what_is_no_address_stays() {
        let pseudonyms = pseudonyms(Some(MAP));
        for value in [0, 16, FIRST_ERROR, u64::MAX] {
            assert_eq!((pseudonyms.hash(value), pseudonyms.page(value)), (value, value));
        }
        assert_eq!(pseudonyms.object(16), 16);
    }

    #[test]
    fn without_a_linear_map_an_object_keeps_only_its_identity() {
        let pseudonyms = pseudonyms(None);
        let (one, other) = (pseudonyms.object(MAP.virt_base), pseudonyms.object(MAP.virt_base + 64));
        assert_eq!(one, pseudonyms.object(MAP.virt_base));
        assert_ne!(one.abs_diff(other), 64);
        assert_eq!(one >> 60, 2);
    }

    #[test]
    fn pages_keep_their_distance_and_nothing_else() {
        let (a, b) = (0xffff_fdff_c000_0040, 0xffff_fdff_c123_4580);
        let (one, another) = (pseudonyms(None), pseudonyms(None));
        assert_eq!(one.page(b) - one.page(a), b - a);
        assert_ne!(one.page(a), another.page(a), "the shift is a secret of each capture");
    }

    #[test]
    fn where_pages_begin_moves_with_them() {
        let (first, page) = (0xffff_fdff_bf00_0000, 0xffff_fdff_c123_4580);
        let kernel = KernelFacts { vmemmap: Some(first), ..KernelFacts::default() };
        let mut start = Item::Start(Start { kernel, ..Start::default() });
        let mut pseudonyms = Pseudonyms::default();
        pseudonyms.hide(&mut start);
        let Item::Start(Start { kernel: KernelFacts { vmemmap: Some(hidden), .. }, .. }) = start else {
            panic!("{start:?}")
        };
        assert_ne!(hidden, first);
        assert_eq!(pseudonyms.page(page) - hidden, page - first);
    }

    #[test]
    fn a_call_site_and_its_symbol_keep_together_but_not_from_one_capture_to_the_next() {
        const CODE: u64 = 0xffff_8000_8001_0123;
        let hidden = || {
            let mut pseudonyms = pseudonyms(None);
            let symbol = Symbol { addr: CODE, name: "f+0x3".into(), module: String::new() };
            let mut items = [
                Item::Symbols(vec![symbol]),
                Item::Events(Batch {
                    events: vec![Event {
                        time_ns: 0,
                        task: 0,
                        cpu: 0,
                        what: What::Kfree { call_site: CODE, ptr: MAP.virt_base },
                    }],
                    segments: vec![Segment { page: MAP.virt_base, ..Segment::default() }],
                }),
            ];
            for item in &mut items {
                pseudonyms.hide(item);
            }
            let [Item::Symbols(symbols), Item::Events(batch)] = &items else { panic!("{items:?}") };
            let What::Kfree { call_site, .. } = batch.events[0].what else { panic!("{batch:?}") };
            assert_eq!((symbols[0].addr, symbols[0].name.as_str()), (call_site, "f+0x3"));
            call_site
        };
        assert_ne!(hidden(), hidden());
    }

    #[test]
    fn what_others_have_written_of_a_recording_has_no_addresses_either() {
        let told = serde_json::json!({ "because": ["at ffff800080010123"], "whole": false });
        let mut start = Item::Start(Start { other: [("window".to_owned(), told)].into(), ..Start::default() });
        Pseudonyms::default().hide(&mut start);
        let Item::Start(start) = start else { unreachable!() };
        assert_eq!(start.other["window"], serde_json::json!({ "because": ["at (address)"], "whole": false }));
    }

    #[test]
    fn addresses_in_texts_go_and_other_numbers_stay() {
        let text =
            "bad access to FFFF800080010123, or ffff800080010123: é 0x40000000 ffff80008001012345 abcdffff80008001";
        let expected = "bad access to (address), or (address): é 0x40000000 ffff80008001012345 abcdffff80008001";
        assert_eq!(without_addresses(text), expected);
    }
}
