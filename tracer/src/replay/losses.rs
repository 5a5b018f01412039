//! What losses take from the truth and from the prediction.

use super::pairing::Witnesses;
use crate::facts::Counters;
use crate::stream::Gaps;

/// Events of any kind that an imported trace says it lost.
pub(crate) const OF_TRACE: &str = "trace_events";
/// Losses after which an attempt to bounce may not have been seen.
const OF_ATTEMPTS: [&str; 4] = ["ring_full.bounced", "missed.swiotlb_bounced", "malformed", OF_TRACE];
/// Losses after which a search for slots may not have been seen.
const OF_SEARCHES: [&str; 8] = [
    "ring_full.slot_map",
    "missed.slot_map_entry",
    "missed.slot_map_return",
    "calls_full",
    "unpaired_return",
    "missed_return",
    "malformed",
    OF_TRACE,
];

/// Losses after which mappings that the kernel counted by length may be missing, or their device's name. What a program did not
/// see at all is in neither.
const OF_COUNTED: [&str; 5] = ["ring_full.map", "ring_full.map_sg", "ring_full.device", "lengths_full", "malformed"];

/// Losses that take nothing from mappings, by what they take from instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harmless {
    /// Allocations.
    Allocations,
    /// Frees.
    Frees,
    /// Counts by call site and size.
    Sites,
    /// Counts of mappings by length.
    Lengths,
    /// The time of the pool's functions.
    Times,
    /// Copies out of and into the pool while a mapping lasts.
    Syncs,
}

/// Whether the losses of this name are harmless.
pub(crate) fn harmless(name: &str) -> Option<Harmless> {
    Some(match name_of_record(name) {
        "kmalloc" => Harmless::Allocations,
        "kfree" | "free_bulk" | "free_bulk_enter" | "bulk_cut" => Harmless::Frees,
        "sites_full" => Harmless::Sites,
        "lengths_full" => Harmless::Lengths,
        "untimed" | "pool_return" | "pool_cpu_entry" | "pool_device_entry" | "pool_sync_entry" => Harmless::Times,
        "sync" | "sync_sg" | "sync_for_cpu" | "sync_for_device" | "sync_sg_for_cpu" | "sync_sg_for_device" => {
            Harmless::Syncs
        }
        _ => return None,
    })
}

/// What was lost, however that happened.
pub(crate) fn name_of_record(loss: &str) -> &str {
    loss.strip_prefix("ring_full.").or_else(|| loss.strip_prefix("missed.")).unwrap_or(loss)
}

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
    /// `restricted`: some devices have pools of their own, from which their coherent memory comes too, unrecorded.
    pub fn new(counters: &Counters, gaps: &Gaps, witnesses: Witnesses, restricted: bool) -> Self {
        let damaged = gaps.damaged_frames > 0;
        let lost = |names: &[&str]| damaged || names.iter().any(|name| counters.lost.contains_key(*name));
        let attempts_whole = witnesses.attempts && !lost(&OF_ATTEMPTS);
        let searches_whole = witnesses.searches && !lost(&OF_SEARCHES);
        Self {
            no_attempt: !attempts_whole && !searches_whole,
            both_witnesses: !(attempts_whole && searches_whole),
            pool: restricted || damaged || of_pool(counters).next().is_some(),
        }
    }
}

/// The losses after which what was counted by length need not be what was recorded, by name.
pub(super) fn of_counted(counters: &Counters) -> Vec<&str> {
    OF_COUNTED.into_iter().filter(|name| counters.lost.contains_key(*name)).collect()
}

/// The losses that leave doubts about the pool, by name.
pub(super) fn of_pool(counters: &Counters) -> impl Iterator<Item = &str> {
    counters.lost.keys().map(String::as_str).filter(|name| harmless(name).is_none())
}
