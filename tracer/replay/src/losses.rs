//! What each loss takes from a replay: the one table of consequences.

use bouncescope_capture::facts::Counters;
use bouncescope_capture::names::{Loss, Program};
use bouncescope_capture::stream::Gaps;
use tracer_ebpf::counter::Other;
use tracer_ebpf::record::Kind;

use super::pairing::Witnesses;

/// What a figure or a comparison can rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    /// The recording is complete.
    Whole,
    /// Every mapping was recorded, with all of its buffers.
    Mappings,
    /// Every scatterlist that was refused was recorded.
    Refusals,
    /// What became of each buffer.
    Fates,
    /// How full the simulated pool is.
    Pool,
    /// How many slots the recorded kernel's pool has had.
    PoolSize,
    /// Every copy out of and into the pool was recorded.
    Copies,
    /// Every unmapping was recorded.
    Unmappings,
    /// The time of the pool's functions.
    Times,
    /// The time of cache maintenance.
    Maintenance,
    /// Every allocation was recorded.
    Allocations,
    /// Every free was recorded.
    Frees,
    /// Every mapping was streamed, not only those that may bounce.
    Unstreamed,
    /// The model is one of this kernel.
    Model,
    /// Every attempt to bounce was recorded.
    Attempts,
    /// Every search for slots was recorded.
    Searches,
    /// Events and the kernel's counts by length are of the same mappings. What a program did not see at all is in neither.
    CountedLengths,
}

/// What a loss takes from. A loss without consequences takes from counts that no figure here rests on.
pub(crate) fn concerns(loss: &Loss) -> &'static [Concern] {
    use Concern::{
        Allocations, Attempts, Copies, CountedLengths, Fates, Frees, Maintenance, Mappings, Pool, Refusals, Searches,
        Times, Unmappings,
    };
    /// Mappings, or something that any of them may need.
    const MAPPING: &[Concern] = &[Mappings, Refusals, Fates, Pool, Copies, Times, Allocations, Frees];
    /// The same, after the kernel has counted it by length.
    const COUNTED: &[Concern] = &[Mappings, Refusals, Fates, Pool, Copies, Times, Allocations, Frees, CountedLengths];
    const EVENT: &[Concern] =
        &[Mappings, Unmappings, Refusals, Fates, Pool, Copies, Times, Allocations, Frees, Attempts, Searches];
    const EVERYTHING: &[Concern] = &[
        Mappings,
        Unmappings,
        Refusals,
        Fates,
        Pool,
        Copies,
        Times,
        Maintenance,
        Allocations,
        Frees,
        Attempts,
        Searches,
        CountedLengths,
    ];
    match loss {
        Loss::RingFull(kind) => match kind {
            Kind::Device | Kind::Map | Kind::MapSg | Kind::Link => COUNTED,
            // Without its cache it is not known what a buffer lies in, no more than without its allocation.
            Kind::Kmalloc | Kind::Cache => &[Allocations],
            Kind::Kfree => &[Frees],
            Kind::Unmap | Kind::UnmapSg | Kind::Unlink => &[Unmappings, Pool, Copies],
            // Where nothing else proves what became of a mapping, the verdict counts it as unknown.
            Kind::Bounced => &[Pool, Attempts],
            // The time of a call is taken between its entry and its return.
            Kind::SlotMap => &[Pool, Times, Searches],
            Kind::SlotUnmap => &[Pool, Times],
            Kind::CoherentAlloc | Kind::CoherentFree => &[Pool],
            Kind::Sync | Kind::SyncSg => &[Copies],
        },
        Loss::Missed(program) => of_program(program).unwrap_or(MAPPING),
        Loss::Counted(other) => match other {
            Other::DevicesFull | Other::SgTruncated | Other::ReadFault => MAPPING,
            Other::CallsFull | Other::UnpairedReturn | Other::MissedReturn => &[Refusals, Pool, Times, Searches],
            Other::Untimed => &[Times, Maintenance],
            Other::LengthsFull => &[CountedLengths],
            Other::ListsFull => &[Unmappings, Pool, Copies],
            Other::BulkCut => &[Frees],
            // No figure rests on the first; the other counts no loss.
            Other::SitesFull | Other::Predicted => &[],
        },
        Loss::TraceEvents => EVENT,
        Loss::Malformed | Loss::Unknown(_) => EVERYTHING,
    }
}

/// What may be wrong because of a loss, in words; `None` where no figure rests on what was lost.
pub fn consequence(loss: &Loss) -> Option<&'static str> {
    let lost = concerns(loss);
    // A loss that takes from an earlier one is worse than what it takes from the later.
    let worst_first = [
        (Concern::Mappings, "every count may be too low"),
        (Concern::Pool, "peak and refusals of predictions may be wrong"),
        (Concern::Refusals, "refused mappings may be too few"),
        (Concern::Copies, "bytes copied may be too low"),
        (Concern::Times, "pool CPU may be too low"),
        (Concern::Maintenance, "the time of cache maintenance may be too low"),
        (Concern::Allocations, "hazards and slabs may be too low"),
        (Concern::Frees, "hazards with a foreign object may be too high"),
        (Concern::CountedLengths, "counts by length may be too low"),
    ];
    worst_first.into_iter().find_map(|(concern, words)| lost.contains(&concern).then_some(words))
}

/// Lost records of one kind, in a million, up to which the loss is not worth a warning.
pub const TOLERATED: u32 = 1000;

/// Whether no more of a million records were lost. A loss of which the whole is not known is never tolerated.
pub fn is_tolerated(loss: &Loss, counters: &Counters, of_a_million: u32) -> bool {
    let lost = u128::from(counters.lost(loss)) * 1_000_000;
    out_of(loss, counters).is_some_and(|all| lost <= u128::from(of_a_million) * u128::from(all))
}

/// Whether a mapping that the kernel refused may be among what was lost.
pub fn hides_refusals(loss: &Loss) -> bool {
    concerns(loss).iter().any(|concern| matches!(concern, Concern::Mappings | Concern::Refusals))
}

/// How many there were of what was lost, those that were lost among them; `None` where that was not counted.
pub fn out_of(loss: &Loss, counters: &Counters) -> Option<u64> {
    let (kind, missed) = match loss {
        // A record that the full ring refused was seen.
        Loss::RingFull(kind) => (*kind, 0),
        Loss::Missed(program) => (kind_of(program)?, counters.lost(loss)),
        _ => return None,
    };
    Some(counters.seen.get(kind.name())?.iter().sum::<u64>() + missed)
}

/// The records that a program alone sends.
fn kind_of(program: &Program) -> Option<Kind> {
    Some(match program {
        Program::Kmalloc => Kind::Kmalloc,
        Program::Kfree => Kind::Kfree,
        Program::DmaMap => Kind::Map,
        Program::DmaMapSg => Kind::MapSg,
        Program::DmaUnmap => Kind::Unmap,
        Program::DmaUnmapSg => Kind::UnmapSg,
        Program::IovaLinkReturn | Program::IovaLinkExit => Kind::Link,
        Program::SwiotlbBounced => Kind::Bounced,
        Program::SlotMapReturn | Program::SlotMapExit => Kind::SlotMap,
        Program::SlotUnmap | Program::SlotUnmapEnter => Kind::SlotUnmap,
        Program::CoherentAllocReturn | Program::CoherentAllocExit => Kind::CoherentAlloc,
        Program::CoherentFreeEntry | Program::CoherentFreeEnter => Kind::CoherentFree,
        _ => return None,
    })
}

/// What a skipped run of a program takes from; `None` for one that records mappings, and for one of a later version.
fn of_program(program: &Program) -> Option<&'static [Concern]> {
    use Concern::{Allocations, Attempts, Copies, Frees, Maintenance, Pool, Refusals, Searches, Times, Unmappings};
    Some(match program {
        Program::SlotMapEntry | Program::SlotMapReturn | Program::SlotMapExit => &[Pool, Times, Searches],
        Program::SlotUnmap | Program::SlotUnmapEnter => &[Pool, Times],
        Program::CoherentAllocEntry
        | Program::CoherentAllocReturn
        | Program::CoherentAllocExit
        | Program::CoherentFreeEntry
        | Program::CoherentFreeEnter => &[Pool],
        Program::PoolCpuEntry | Program::PoolDeviceEntry | Program::PoolSyncEntry => &[Times],
        Program::PoolReturn => &[Times, Maintenance],
        Program::MaintainDeviceEntry | Program::MaintainCpuEntry => &[Maintenance],
        Program::SwiotlbBounced => &[Pool, Attempts],
        Program::DmaUnmap
        | Program::UnmapEntry
        | Program::DmaUnmapSg
        | Program::UnmapSgEntry
        | Program::IovaUnlinkEntry
        | Program::IovaUnlinkEnter
        | Program::IovaDestroyEntry
        | Program::IovaDestroyEnter => &[Unmappings, Pool, Copies],
        Program::MapSgEntry
        | Program::MapSgtEntry
        | Program::MapSgReturn
        | Program::MapSgReturnTurns
        | Program::MapSgRefused
        | Program::MapSgExit
        | Program::MapSgtExit => &[Refusals, Pool],
        Program::SyncForCpu
        | Program::SyncForDevice
        | Program::SyncForCpuEntry
        | Program::SyncForDeviceEntry
        | Program::SyncSgForCpu
        | Program::SyncSgForDevice
        | Program::SyncSgForCpuEntry
        | Program::SyncSgForDeviceEntry => &[Copies],
        Program::Kmalloc => &[Allocations],
        Program::Kfree | Program::FreeBulk | Program::FreeBulkTurns | Program::FreeBulkEnter => &[Frees],
        // It only counted; and registers take no slots.
        Program::IovaLinkEnter | Program::DmaUnmapResource | Program::UnmapResourceEntry => &[],
        Program::DmaMap
        | Program::MapPhysEntry
        | Program::MapPageEntry
        | Program::MapReturn
        | Program::DmaMapSg
        | Program::DmaMapResource
        | Program::MapResourceEntry
        | Program::MapResourceReturn
        | Program::IovaLinkEntry
        | Program::IovaLinkReturn
        | Program::IovaLinkExit
        | Program::Unknown(_) => return None,
    })
}

/// What cannot be relied on, because records that would show it may have been lost.
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
    /// From the last counters: losses are reported only after the records that were lost.
    /// `restricted`: some devices have pools of their own, from which their coherent memory comes too.
    pub fn new(counters: &Counters, gaps: &Gaps, witnesses: Witnesses, restricted: bool) -> Self {
        let damaged = gaps.damaged_frames > 0;
        let lost = |concern| damaged || taking_from(counters, concern).next().is_some();
        let attempts_whole = witnesses.attempts && !lost(Concern::Attempts);
        let searches_whole = witnesses.searches && !lost(Concern::Searches);
        Self {
            no_attempt: !attempts_whole && !searches_whole,
            both_witnesses: !(attempts_whole && searches_whole),
            pool: restricted && !witnesses.coherent_memory || lost(Concern::Pool),
        }
    }
}

/// The losses after which what was counted by length need not be what was recorded.
pub(super) fn of_counted(counters: &Counters) -> impl Iterator<Item = &Loss> {
    taking_from(counters, Concern::CountedLengths)
}

/// The losses that leave doubts about the pool.
pub(super) fn of_pool(counters: &Counters) -> impl Iterator<Item = &Loss> {
    taking_from(counters, Concern::Pool)
}

fn taking_from(counters: &Counters, concern: Concern) -> impl Iterator<Item = &Loss> {
    counters.lost.keys().filter(move |loss| concerns(loss).contains(&concern))
}

/// The names of losses, as one text.
pub(super) fn listed<'a>(losses: impl Iterator<Item = &'a Loss>) -> String {
    losses.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_free_is_one_of_all_frees_and_overstates_hazards() {
        let loss = Loss::Missed(Program::Kfree);
        let counters = Counters {
            seen: [(Kind::Kfree.name().to_owned(), vec![90, 7])].into(),
            lost: [(loss.clone(), vec![3])].into(),
            ..Counters::default()
        };
        assert_eq!(out_of(&loss, &counters), Some(100));
        assert_eq!(consequence(&loss), Some("hazards with a foreign object may be too high"));
        assert_eq!(out_of(&Loss::Malformed, &counters), None);
    }

    #[test]
    fn only_a_loss_that_takes_from_nothing_has_no_consequence() {
        for kind in Kind::ALL {
            assert!(consequence(&Loss::RingFull(kind)).is_some(), "{kind:?}");
        }
        assert_eq!(consequence(&Loss::Counted(Other::SitesFull)), None);
        assert_eq!(consequence(&Loss::Unknown("later".into())), Some("every count may be too low"));
    }
}
