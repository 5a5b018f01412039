//! Call sites that a kernel with `__GFP_PACKED` could mark: those whose objects were never seen under a DMA mapping.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Replayed;
use bouncescope_model::kmalloc::bytes_given;

/// `KMALLOC_MIN_SIZE` of arm64 since 6.5, bytes: the smallest caches that packed call sites get.
pub const SMALLEST: u32 = 8;

/// A call site that could be marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// `function+0xoffset`, or the address.
    pub call_site: String,
    /// Module; empty for the kernel itself.
    pub module: String,
    /// Its address on the captured kernel.
    pub address: u64,
    /// Allocations in the recording.
    pub allocations: u64,
    /// Its objects live at the end, estimated from the sample.
    pub live_objects: u64,
    /// Object bytes that the live ones would not take, bytes.
    pub bytes_won: u64,
}

/// All of them, and what the proposal rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposals {
    /// Most bytes won first.
    pub sites: Vec<Proposal>,
    /// Call sites left out, because an object of theirs was mapped.
    pub mapped_sites: usize,
    /// Buffers mapped while the recording ran.
    pub buffers: u64,
    /// Of them those whose object was known.
    pub buffers_with_origin: u64,
}

/// Proposes call sites, for caches from `ARCH_DMA_MINALIGN` that get one from `smallest` bytes beside them.
pub fn packed(replayed: &Replayed, smallest: u32) -> Proposals {
    let kernel = &replayed.start.kernel;
    let mapped: HashSet<u64> = replayed.mapped_sites.iter().copied().collect();
    let (page_size, sample) = (u64::from(kernel.page_size), replayed.start.allocation_sample.max(1));
    let won = |requested: u64| {
        let given = |minalign| bytes_given(requested, minalign, page_size);
        given(kernel.dma_minalign).saturating_sub(given(smallest))
    };
    let mut sites: BTreeMap<u64, Proposal> = BTreeMap::new();
    for (address, requested, count) in replayed.statistics.allocations() {
        let site = sites.entry(address).or_insert_with(|| proposal(replayed, address));
        if won(requested) > 0 {
            site.allocations = site.allocations.saturating_add(count);
        }
    }
    for objects in &replayed.live_objects {
        let site = sites.entry(objects.call_site).or_insert_with(|| proposal(replayed, objects.call_site));
        let estimated = objects.count.saturating_mul(sample);
        site.live_objects = site.live_objects.saturating_add(estimated);
        site.bytes_won = site.bytes_won.saturating_add(estimated.saturating_mul(won(objects.requested)));
    }
    let mut sites: Vec<Proposal> =
        sites.into_values().filter(|site| site.allocations > 0 || site.bytes_won > 0).collect();
    let all = sites.len();
    sites.retain(|site| !mapped.contains(&site.address));
    sites.sort_by(|a, b| (b.bytes_won, b.allocations, &a.call_site).cmp(&(a.bytes_won, a.allocations, &b.call_site)));
    let known = replayed.observed_rows.by_call_site.iter().filter(|row| row.is_site());
    Proposals {
        mapped_sites: all - sites.len(),
        sites,
        buffers: replayed.observed.total().buffers,
        buffers_with_origin: known.map(|row| row.tally.buffers).sum(),
    }
}

fn proposal(replayed: &Replayed, address: u64) -> Proposal {
    let symbol = replayed.statistics.symbols.get(&address);
    Proposal {
        call_site: symbol.map_or_else(|| format!("{address:#x}"), |symbol| symbol.name.clone()),
        module: symbol.map(|symbol| symbol.module.clone()).unwrap_or_default(),
        address,
        allocations: 0,
        live_objects: 0,
        bytes_won: 0,
    }
}

/// The addresses of all proposed call sites: what the policy `packed` packs where no list is given.
pub fn packed_sites(replayed: &Replayed) -> Arc<HashSet<u64>> {
    Arc::new(packed(replayed, SMALLEST).sites.into_iter().map(|site| site.address).collect())
}

/// The addresses of the call sites that a list names, one a line, by name or address; with those names that the recording
/// does not know. What follows a blank or `#` is a comment.
pub fn named_sites<'a>(replayed: &Replayed, list: &'a str) -> (HashSet<u64>, Vec<&'a str>) {
    let mut addresses = HashSet::new();
    let mut unknown = Vec::new();
    for line in list.lines() {
        let Some(name) = line.split('#').next().and_then(|line| line.split_whitespace().next()) else { continue };
        let known = replayed.statistics.symbols.values().filter(|symbol| symbol.name == name).map(|symbol| symbol.addr);
        let before = addresses.len();
        addresses.extend(known);
        addresses.extend(name.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()));
        if addresses.len() == before {
            unknown.push(name);
        }
    }
    (addresses, unknown)
}
