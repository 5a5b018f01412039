//! What the kernel did, told from its events.

use crate::{
    mapping::{Proof, Truth, Unknown},
    sample::{DEVICE, REFUSED, Sample},
    step::{Holder, Step},
};
use bouncescope_capture::event::{DeviceId, Direction, What};
use bouncescope_capture::facts::Device;

const DIRECT: Truth = Truth::Direct { proof: Proof::Address };
const NO_ATTEMPT: Truth = Truth::Direct { proof: Proof::NoAttempt };
const PHYS: u64 = 0x4000_1008;
const SLOT: u64 = 0x8000_0000;
/// Of a sample, unless told otherwise.
const TASK: u32 = 100;

/// The truth of every buffer, by mapping and index.
fn truths(sample: &mut Sample) -> Vec<Truth> {
    let mut truths: Vec<((u64, u32), Truth)> = sample
        .steps()
        .iter()
        .filter_map(|step| match step {
            Step::Buffer { mapping, index, .. } => Some(((mapping.id, *index), mapping.buffers[*index as usize].truth)),
            _ => None,
        })
        .collect();
    truths.sort_by_key(|(key, _)| *key);
    truths.into_iter().map(|(_, truth)| truth).collect()
}

fn unseen(sample: &mut Sample) -> usize {
    sample.steps().iter().filter(|step| matches!(step, Step::Unseen(_))).count()
}

/// The steps in short, in order.
fn kinds(sample: &mut Sample) -> String {
    let kind = |step: &Step| match step {
        Step::Buffer { mapping, .. } => format!("buffer{} ", mapping.id),
        Step::Mapped { mapping, .. } => format!("mapped{} ", mapping.id),
        Step::Unseen(_) => "unseen ".into(),
        Step::Coherent { memory, .. } => format!("coherent{} ", memory.id),
        Step::SlotReleased(_) => "released ".into(),
        Step::Synced(_) => "synced ".into(),
        Step::Unmapped(_) => "unmapped ".into(),
        Step::Forgotten { mapping, .. } => format!("forgotten{} ", mapping.id),
        Step::RefusedEnds { .. } => "refused ends ".into(),
    };
    sample.steps().iter().map(kind).collect()
}

#[test]
fn a_mapping_claims_the_attempt_made_for_it() {
    assert_eq!(truths(Sample::new().bounce(PHYS, 8, SLOT)), [Truth::Bounced { slot: Some(SLOT) }]);
}

#[test]
fn a_mapping_without_attempt_is_direct() {
    assert_eq!(truths(Sample::new().map(DEVICE, PHYS, PHYS, 8)), [DIRECT]);
    assert_eq!(truths(Sample::with_iommu().map(DEVICE, PHYS, 0xffff_f008, 8)), [NO_ATTEMPT]);
}

#[test]
fn an_interrupt_between_attempt_and_mapping_claims_its_own() {
    let mut sample = Sample::new();
    sample.attempt(DEVICE, PHYS, 8).search(DEVICE, PHYS, 8, SLOT);
    // The same length and device, in the interrupt.
    sample.bounce(0x5000_0008, 8, SLOT + 2048);
    sample.map(DEVICE, 0x6000_0008, 0x6000_0008, 8);
    sample.map(DEVICE, PHYS, SLOT, 8);
    let [inner, direct, outer] = truths(&mut sample)[..] else { panic!() };
    assert_eq!(inner, Truth::Bounced { slot: Some(SLOT + 2048) });
    assert_eq!(direct, DIRECT);
    assert_eq!(outer, Truth::Bounced { slot: Some(SLOT) });
}

#[test]
fn the_same_buffer_mapped_by_another_task_claims_nothing() {
    let mut sample = Sample::with_iommu();
    sample.on(1, 0).attempt(DEVICE, PHYS, 8).search(DEVICE, PHYS, 8, SLOT);
    sample.on(2, 1).map(DEVICE, PHYS, 0xffff_e008, 8);
    sample.on(1, 0).map(DEVICE, PHYS, 0xffff_f008, 8);
    assert_eq!(truths(&mut sample), [NO_ATTEMPT, Truth::Bounced { slot: Some(SLOT) }]);
}

#[test]
fn idle_tasks_are_told_apart_by_cpu_and_others_are_followed_from_one_to_the_next() {
    let mut idle = Sample::with_iommu();
    idle.on(0, 0).attempt(DEVICE, PHYS, 8).search(DEVICE, PHYS, 8, SLOT);
    idle.on(0, 1).map(DEVICE, PHYS, 0xffff_f008, 8);
    assert_eq!(truths(&mut idle), [NO_ATTEMPT]);
    let mut moved = Sample::new();
    moved.on(7, 0).attempt(DEVICE, PHYS, 8).search(DEVICE, PHYS, 8, SLOT);
    moved.on(7, 1).map(DEVICE, PHYS, SLOT, 8);
    assert_eq!(truths(&mut moved), [Truth::Bounced { slot: Some(SLOT) }]);
}

#[test]
fn a_full_pool_refuses() {
    assert_eq!(truths(Sample::new().bounce(PHYS, 8, REFUSED)), [Truth::Refused]);
}

#[test]
fn a_refusal_without_attempt_is_one_too() {
    assert_eq!(truths(Sample::new().map(DEVICE, PHYS, REFUSED, 8)), [Truth::Refused]);
}

#[test]
fn either_witness_alone_is_enough() {
    let mut attempts = Sample::with_hooks(&["bounced", "map"]);
    attempts.attempt(DEVICE, PHYS, 8).map(DEVICE, PHYS, SLOT, 8);
    attempts.attempt(DEVICE, PHYS, 8).map(DEVICE, PHYS, REFUSED, 8);
    assert_eq!(truths(&mut attempts), [Truth::Bounced { slot: None }, Truth::Refused]);
    let mut searches = Sample::with_hooks(&["slot_map", "map"]);
    searches.search(DEVICE, PHYS, 8, SLOT).map(DEVICE, PHYS, SLOT, 8);
    assert_eq!(truths(&mut searches), [Truth::Bounced { slot: Some(SLOT) }]);
}

#[test]
fn attempt_and_search_of_one_buffer_are_one() {
    let mut sample = Sample::new();
    sample.bounce(PHYS, 8, SLOT);
    assert_eq!(unseen(&mut sample), 0);
}

#[test]
fn a_bus_offset_does_not_hide_the_attempt() {
    let mut sample = Sample::new();
    sample.attempt(DEVICE, 0xc000_0000 + PHYS, 8).search(DEVICE, PHYS, 8, SLOT).map(
        DEVICE,
        PHYS,
        0xc000_0000 + SLOT,
        8,
    );
    assert_eq!(truths(&mut sample), [Truth::Bounced { slot: Some(SLOT) }]);
    assert_eq!(unseen(&mut sample), 0);
}

#[test]
fn the_address_of_a_slot_whose_attempt_is_not_found_is_not_taken_for_a_bus_offset() {
    let mut sample = Sample::new();
    // Another mapping has claimed the attempt, or it was given up.
    sample.map(DEVICE, PHYS + 8, SLOT, 8);
    // The same buffer and slot again.
    sample.attempt(DEVICE, PHYS + 8, 8).search(DEVICE, PHYS + 8, 8, SLOT).map(DEVICE, PHYS + 8, SLOT, 8);
    assert_eq!(truths(&mut sample), [Truth::Unknown(Unknown::Contradicted), Truth::Bounced { slot: Some(SLOT) }]);
}

#[test]
fn a_buffer_in_the_middle_of_a_page_is_not_taken_for_direct_in_a_slot_at_the_beginning_of_one() {
    let phys = 0x4000_1800;
    let mut sample = Sample::new();
    sample.map(DEVICE, phys, SLOT, 8).map(DEVICE, PHYS, PHYS, 8);
    assert_eq!(truths(&mut sample), [Truth::Unknown(Unknown::Contradicted), DIRECT]);
    let mut sample = Sample::new();
    sample.map(DEVICE, phys, 0xc000_0000 + phys, 8).map(DEVICE, PHYS, 0xc000_0000 + PHYS, 8);
    assert_eq!(truths(&mut sample), [NO_ATTEMPT, DIRECT], "a bus offset is learnt");
}

#[test]
fn without_witnesses_the_address_tells_where_it_can() {
    let mut sample = Sample::with_hooks(&["map"]);
    // Neither its own address nor at its offset: a slot or a bus offset, as far as is known.
    sample.map(DEVICE, 0x4000_0800, SLOT, 8);
    sample.map(DEVICE, PHYS, PHYS, 8);
    // Now the device is known to have no bus offset.
    sample.map(DEVICE, 0x4000_0800, SLOT, 8);
    sample.map(DEVICE, PHYS, 0xc000_0000 + PHYS, 8);
    sample.map(DEVICE, PHYS, REFUSED, 8);
    let unknown = Truth::Unknown(Unknown::NoHook);
    assert_eq!(truths(&mut sample), [unknown, DIRECT, Truth::Bounced { slot: None }, DIRECT, Truth::Refused]);
}

#[test]
fn without_witnesses_nothing_is_known_behind_an_iommu() {
    let mut sample = Sample::with_iommu();
    sample.start.hooks.clear();
    sample.map(DEVICE, PHYS, PHYS, 8).map_sg(DEVICE, 0x10, &[(0, 4096)], 1);
    assert_eq!(truths(&mut sample), [Truth::Unknown(Unknown::NoHook); 2]);
}

#[test]
fn a_device_never_described_is_unknown() {
    let truth = truths(Sample::new().map(DeviceId(9), PHYS, PHYS, 8));
    assert_eq!(truth, [Truth::Unknown(Unknown::DeviceUnknown)]);
}

#[test]
fn a_device_described_again_between_attempt_and_mapping_is_the_same() {
    let mut sample = Sample::new();
    sample.attempt(DEVICE, PHYS, 8).search(DEVICE, PHYS, 8, SLOT);
    let again = sample.device(Device { name: "1-1".into(), driver: "usbfs".into(), ..Device::default() });
    sample.map(again, PHYS, SLOT, 8);
    assert_eq!(truths(&mut sample), [Truth::Bounced { slot: Some(SLOT) }]);
}

#[test]
fn segments_claim_attempts_of_their_length_and_offset_in_order() {
    let mut sample = Sample::new();
    for (n, (phys, size)) in [(0x4000_0010, 8), (0x4000_3010, 8)].into_iter().enumerate() {
        sample.attempt(DEVICE, phys, size).search(DEVICE, phys, size, SLOT + 2048 * n as u64);
    }
    sample.map_sg(DEVICE, 0x10, &[(0x10, 8), (0, 4096), (0x10, 8), (0x20, 8)], 4);
    assert_eq!(
        truths(&mut sample),
        [Truth::Bounced { slot: Some(SLOT) }, NO_ATTEMPT, Truth::Bounced { slot: Some(SLOT + 2048) }, NO_ATTEMPT,]
    );
}

#[test]
fn a_list_leaves_alone_what_something_else_left_over() {
    let mut sample = Sample::new();
    // A path without mapping event, then a list with a segment of the same shape.
    sample.attempt(DEVICE, 0x4000_0010, 8).search(DEVICE, 0x4000_0010, 8, SLOT);
    sample.attempt(DEVICE, 0x4000_5010, 8).search(DEVICE, 0x4000_5010, 8, SLOT + 2048);
    sample.map_sg(DEVICE, 0x10, &[(0x10, 8)], 1);
    assert_eq!(truths(&mut sample), [Truth::Bounced { slot: Some(SLOT + 2048) }]);
    assert_eq!(unseen(&mut sample), 1);
}

#[test]
fn a_list_that_failed_stopped_where_it_was_refused() {
    let mut sample = Sample::new();
    sample.attempt(DEVICE, 0x4000_0010, 8).search(DEVICE, 0x4000_0010, 8, SLOT);
    sample.attempt(DEVICE, 0x4000_1020, 8).search(DEVICE, 0x4000_1020, 8, REFUSED);
    sample.slot_unmap(DEVICE, SLOT, 8);
    sample.map_sg(DEVICE, 0x10, &[(0x10, 8), (0, 4096), (0x20, 8), (0x30, 8)], 0);
    assert_eq!(
        truths(&mut sample),
        [Truth::Bounced { slot: Some(SLOT) }, NO_ATTEMPT, Truth::Refused, Truth::NotReached,]
    );
}

#[test]
fn a_list_that_failed_for_no_visible_reason_is_unknown() {
    let mut sample = Sample::new();
    sample.map_sg(DEVICE, 0x10, &[(0, 4096), (0, 4096)], 0);
    assert_eq!(truths(&mut sample), [Truth::Unknown(Unknown::ListFailed); 2]);
}

#[test]
fn slots_that_no_mapping_claims_come_out_after_a_second_without_holding_up_the_rest_for_longer() {
    let mut sample = Sample::new();
    sample.attempt(DEVICE, PHYS, 8).search(DEVICE, PHYS, 8, SLOT).map(DEVICE, 0x100, 0x100, 64);
    sample.wait(2_000_000_000).map(DEVICE, 0x100, 0x100, 64);
    assert_eq!(kinds(&mut sample), "unseen buffer0 mapped0 buffer1 mapped1 ");
}

#[test]
fn buffers_come_in_the_order_in_which_their_slots_were_taken() {
    let mut sample = Sample::new();
    sample.on(1, 0).attempt(DEVICE, PHYS, 8).search(DEVICE, PHYS, 8, SLOT);
    sample.on(2, 1).bounce(0x5000_0008, 8, SLOT + 2048);
    sample.on(3, 1).slot_unmap(DEVICE, 0x9000_0000, 8);
    sample.on(1, 0).map(DEVICE, PHYS, SLOT, 8);
    // The second to be mapped took its slot first.
    assert_eq!(kinds(&mut sample), "buffer1 buffer0 mapped0 released mapped1 ");
}

#[test]
fn an_unmapping_finds_its_mapping_and_a_release_its_holder() {
    let mut sample = Sample::new();
    sample.bounce(PHYS, 8, SLOT).unbounce(SLOT, 8).unbounce(SLOT, 8);
    let steps = sample.steps();
    let holders: Vec<Option<u64>> = steps
        .iter()
        .filter_map(|step| match step {
            Step::SlotReleased(release) => Some(match &release.holder {
                Some(Holder::Buffer(mapping, 0)) => Some(mapping.id),
                _ => None,
            }),
            Step::Unmapped(unmapping) => Some(Some(unmapping.mapping.id)),
            _ => None,
        })
        .collect();
    assert_eq!(holders, [Some(0), Some(0), None], "the second time it is nobody's, and no mapping's either");
}

#[test]
fn of_two_mappings_at_one_address_the_older_of_the_same_length_is_unmapped() {
    let mut sample = Sample::new();
    sample.map(DEVICE, PHYS, PHYS, 64).map(DEVICE, PHYS, PHYS, 8).map(DEVICE, PHYS, PHYS, 8);
    sample.unmap(DEVICE, PHYS, 8).unmap(DEVICE, PHYS, 64).unmap(DEVICE, PHYS, 8);
    let unmapped: Vec<u64> = sample
        .steps()
        .iter()
        .filter_map(|step| match step {
            Step::Unmapped(unmapping) => Some(unmapping.mapping.id),
            _ => None,
        })
        .collect();
    assert_eq!(unmapped, [1, 0, 2]);
}

#[test]
fn a_list_mapped_again_replaces_one_whose_unmapping_was_not_seen() {
    let mut sample = Sample::new();
    sample.map_sg(DEVICE, 0x10, &[(0, 4096)], 1).map_sg(DEVICE, 0x10, &[(0, 4096)], 1);
    let replaced = sample
        .steps()
        .iter()
        .any(|step| matches!(step, Step::Mapped { mapping, replaces: Some(gone) } if mapping.id == 1 && gone.id == 0));
    assert!(replaced);
}

#[test]
fn a_list_cut_short_is_unknown_behind_an_iommu_and_known_without() {
    for (mut sample, expected) in
        [(Sample::with_iommu(), Truth::Unknown(Unknown::Truncated)), (Sample::new(), NO_ATTEMPT)]
    {
        let direction = Direction::FromDevice;
        sample.map_sg(DEVICE, 0x10, &[(0, 4096)], 1);
        sample.event(What::MapSg {
            device: DEVICE,
            list: 0x20,
            nents: 300,
            ents: 300,
            direction,
            attrs: 0,
            caller: 0,
            first_segment: 0,
            segments: 1,
        });
        assert_eq!(truths(&mut sample), [NO_ATTEMPT, expected]);
    }
}

#[test]
fn a_part_handed_over_is_of_the_mapping_that_it_lies_in() {
    let mut sample = Sample::new();
    let other = sample.device(Device { name: "other".into(), ..Device::default() });
    let sync = |device, dma_addr| What::Sync {
        device,
        dma_addr,
        size: 4,
        direction: Direction::FromDevice,
        for_device: false,
    };
    sample.map(DEVICE, PHYS, PHYS, 64);
    sample.event(sync(DEVICE, PHYS + 60)).event(sync(DEVICE, PHYS + 64)).event(sync(DEVICE, PHYS - 1));
    // Of another device, at an address below all that is mapped.
    sample.event(sync(other, 0)).event(sync(other, PHYS));
    let parts: Vec<(u64, u64)> = sample
        .steps()
        .iter()
        .filter_map(|step| match step {
            Step::Synced(synced) => Some((synced.at, synced.bytes_of(&synced.mapping.buffers[0]))),
            _ => None,
        })
        .collect();
    assert_eq!(parts, [(60, 4)]);
}

#[test]
fn a_mapping_that_comes_after_its_attempt_was_given_up_is_not_said_to_have_had_none() {
    let late = |sample: &mut Sample, dma_addr| {
        sample.on(TASK, 0).attempt(DEVICE, PHYS, 8).search(DEVICE, PHYS, 8, SLOT).wait(2_000_000_000);
        // Something else moves time on.
        sample.on(7, 1).map(DEVICE, PHYS + 4096, PHYS + 4096, 64).on(TASK, 0);
        truths(sample.map(DEVICE, PHYS, dma_addr, 8))
    };
    let unknown = Truth::Unknown(Unknown::Late);
    assert_eq!(late(&mut Sample::with_iommu(), 0xffff_f008), [NO_ATTEMPT, unknown]);
    assert_eq!(late(&mut Sample::new(), SLOT)[1..], [unknown]);
    // Its own address is proof enough.
    assert_eq!(late(&mut Sample::new(), PHYS)[1..], [DIRECT]);
}

#[test]
fn a_list_that_comes_after_an_attempt_was_given_up_is_not_said_to_have_had_none() {
    let mut sample = Sample::with_iommu();
    sample.attempt(DEVICE, PHYS, 8).attempt(DEVICE, PHYS + 16, 8).wait(2_000_000_000);
    sample.on(7, 1).map(DEVICE, PHYS, 0xffff_e008, 64).on(TASK, 0);
    sample.map_sg(DEVICE, 0x99, &[(8, 8), (24, 8), (64, 64)], 1);
    // What comes next has nothing to do with that any more.
    sample.map_sg(DEVICE, 0x98, &[(8, 8)], 1);
    let late = Truth::Unknown(Unknown::Late);
    assert_eq!(truths(&mut sample), [NO_ATTEMPT, late, late, NO_ATTEMPT, NO_ATTEMPT]);
}

#[test]
fn an_attempt_of_long_ago_is_not_that_of_a_mapping_now() {
    let mut sample = Sample::with_iommu();
    sample.attempt(DEVICE, PHYS, 8).wait(100_000_000_000).on(7, 1).map(DEVICE, PHYS, 0xffff_e008, 64).on(TASK, 0);
    assert_eq!(truths(sample.map(DEVICE, PHYS, 0xffff_f008, 8)), [NO_ATTEMPT, NO_ATTEMPT]);
}

/// What a small buffer is linked as that begins 8 bytes before the end of a granule.
const LINKED: u64 = 0x4000_1ff8;
const IOVA: u64 = 0xffff_0ff8;

#[test]
fn a_linked_buffer_claims_an_attempt_for_each_of_its_ends() {
    let mut sample = Sample::with_iommu();
    sample.attempt(DEVICE, LINKED, 8).search(DEVICE, LINKED, 8, SLOT);
    sample.attempt(DEVICE, 0x4000_2000, 24).search(DEVICE, 0x4000_2000, 24, SLOT + 4096);
    sample.link(DEVICE, LINKED, IOVA, 32);
    assert_eq!(truths(&mut sample), [SLOT, SLOT + 4096].map(|slot| Truth::Bounced { slot: Some(slot) }));
    assert_eq!(unseen(&mut sample), 0);
}

#[test]
fn whole_granules_of_a_linked_buffer_are_direct_while_its_ends_bounce() {
    let mut sample = Sample::with_iommu();
    sample.attempt(DEVICE, LINKED, 8).search(DEVICE, LINKED, 8, SLOT);
    sample.attempt(DEVICE, 0x4000_4000, 16).search(DEVICE, 0x4000_4000, 16, SLOT + 4096);
    sample.link(DEVICE, LINKED, IOVA, 8 + 8192 + 16);
    let bounced = |slot| Truth::Bounced { slot: Some(slot) };
    assert_eq!(truths(&mut sample), [bounced(SLOT), NO_ATTEMPT, bounced(SLOT + 4096)]);
}

#[test]
fn a_linked_buffer_without_attempts_is_direct() {
    assert_eq!(truths(Sample::with_iommu().link(DEVICE, LINKED, IOVA, 8192)), [NO_ATTEMPT; 3]);
    let mut sample = Sample::with_iommu();
    sample.start.hooks.retain(|hook| !["bounced", "slot_map"].contains(&hook.subject.name()));
    assert_eq!(truths(sample.link(DEVICE, LINKED, IOVA, 8)), [Truth::Unknown(Unknown::NoHook)]);
}

#[test]
fn a_link_that_fails_is_refused_at_the_end_that_found_no_slots() {
    let mut sample = Sample::with_iommu();
    sample.attempt(DEVICE, LINKED, 8).search(DEVICE, LINKED, 8, SLOT);
    sample.attempt(DEVICE, 0x4000_2000, 24).search(DEVICE, 0x4000_2000, 24, REFUSED);
    sample.link(DEVICE, LINKED, REFUSED, 32);
    assert_eq!(truths(&mut sample), [Truth::Bounced { slot: Some(SLOT) }, Truth::Refused]);
    // The IOMMU may have had no room, or the attributes forbid to bounce.
    let elsewhere = Truth::Unknown(Unknown::RefusedElsewhere);
    assert_eq!(truths(Sample::with_iommu().link(DEVICE, LINKED, REFUSED, 32)), [elsewhere; 2]);
}

#[test]
fn a_range_unlinks_all_that_was_linked_in_it_and_nothing_beside() {
    let mut sample = Sample::with_iommu();
    sample.link(DEVICE, 0x4000_0000, 0x10_0000, 4096).link(DEVICE, 0x5000_0000, 0x10_1000, 4096);
    sample.link(DEVICE, 0x6000_0000, 0x10_2000, 4096);
    sample.unlink(DEVICE, 0x10_0000, 8192).unlink(DEVICE, 0x10_0000, 8192);
    assert_eq!(kinds(&mut sample), "buffer0 mapped0 buffer1 mapped1 buffer2 mapped2 unmapped unmapped ");
    // A part of a buffer, as of one that was linked page by page.
    sample.unlink(DEVICE, 0x10_2800, 16);
    assert_eq!(kinds(&mut sample).matches("unmapped").count(), 3);
}

#[test]
fn other_devices_ranges_are_not_unlinked() {
    let mut sample = Sample::with_iommu();
    let other = sample.device(Device { name: "other".into(), iommu_granule: Some(4096), ..Device::default() });
    sample.link(DEVICE, 0x4000_0000, 0x10_0000, 4096).unlink(other, 0x10_0000, 4096).unlink(DEVICE, 0, 0x10_0000);
    assert_eq!(kinds(&mut sample), "buffer0 mapped0 ");
}

#[test]
fn coherent_memory_is_found_again_when_it_is_given_back() {
    let mut sample = Sample::new();
    sample.coherent(DEVICE, SLOT, 4096).coherent(DEVICE, SLOT, 4096).coherent_free(DEVICE, SLOT, 4096);
    sample.coherent_free(DEVICE, SLOT, 4096);
    let mut holders = Vec::new();
    for step in sample.steps() {
        match step {
            Step::Coherent { replaces: Some(Holder::Coherent(id)), .. } => holders.push(format!("replaces {id}")),
            Step::SlotReleased(release) => holders.push(match release.holder {
                Some(Holder::Coherent(id)) => format!("gives back {id}"),
                _ => "gives back older".to_owned(),
            }),
            _ => {}
        }
    }
    assert_eq!(holders, ["replaces 0", "gives back 1", "gives back older"]);
}
