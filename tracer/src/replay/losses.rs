//! What losses take from the truth and from the prediction.

use super::pairing::Witnesses;
use crate::facts::Counters;
use crate::stream::Gaps;

/// Losses after which an attempt to bounce may not have been seen.
const OF_ATTEMPTS: [&str; 3] = ["ring_full.bounced", "missed.swiotlb_bounced", "malformed"];
/// Losses after which a search for slots may not have been seen.
const OF_SEARCHES: [&str; 7] = [
    "ring_full.slot_map",
    "missed.slot_map_entry",
    "missed.slot_map_return",
    "calls_full",
    "unpaired_return",
    "missed_return",
    "malformed",
];
/// Losses of allocations, of syncs and of times, which take nothing from mappings.
const HARMLESS: [&str; 15] = [
    "ring_full.kmalloc",
    "ring_full.kfree",
    "missed.kmalloc",
    "missed.kfree",
    "sites_full",
    "untimed",
    "missed.pool_return",
    "missed.pool_cpu_entry",
    "missed.pool_device_entry",
    "ring_full.sync",
    "ring_full.sync_sg",
    "missed.sync_for_cpu",
    "missed.sync_for_device",
    "missed.sync_sg_for_cpu",
    "missed.sync_sg_for_device",
];

/// What cannot be relied on, because records that would tell may have been lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// That a buffer was mapped as it is because no attempt to bounce it was seen. Attempts have two witnesses: one that
    /// missed nothing is enough.
    pub no_attempt: bool,
    /// How full the simulated pool is, and so its peak and whether a mapping finds slots.
    pub pool: bool,
    /// That every attempt, and every search for slots, was recorded.
    pub both_witnesses: bool,
}

impl Doubts {
    /// From the last counters: losses are told only after what they are losses of.
    /// `several_pools`: it is not known which pool a mapping asks.
    pub fn new(counters: &Counters, gaps: &Gaps, witnesses: Witnesses, several_pools: bool) -> Self {
        let damaged = gaps.damaged_frames > 0;
        let lost = |names: &[&str]| damaged || names.iter().any(|name| counters.lost.contains_key(*name));
        let attempts_whole = witnesses.attempts && !lost(&OF_ATTEMPTS);
        let searches_whole = witnesses.searches && !lost(&OF_SEARCHES);
        Self {
            no_attempt: !attempts_whole && !searches_whole,
            both_witnesses: !(attempts_whole && searches_whole),
            pool: several_pools || damaged || of_pool(counters).next().is_some(),
        }
    }
}

/// The losses that leave doubts about the pool, by name.
pub(super) fn of_pool(counters: &Counters) -> impl Iterator<Item = &str> {
    counters.lost.keys().map(String::as_str).filter(|name| !HARMLESS.contains(name))
}
