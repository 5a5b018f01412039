//! Simulations of streams whose answers were worked out by hand.

use super::super::{
    outcome::Outcome,
    sample::{DEVICE, REFUSED, START_NS, Sample},
    settings::{Settings, WhatIf},
};
use crate::facts::Device;
use crate::model::policy::{Override, PoolChoice, builtin};

const SLOT: u64 = 0x8000_0000;

fn simulate(sample: &mut Sample, policy: &str, change: &WhatIf) -> Outcome {
    let settings = Settings::what_if(&sample.start.kernel, &builtin(policy).unwrap(), change);
    sample.run(settings)
}

fn mainline(sample: &mut Sample) -> Outcome {
    simulate(sample, "mainline", &WhatIf::default())
}

fn with_pool(sample: &mut Sample, slots: u64) -> Outcome {
    simulate(
        sample,
        "mainline",
        &WhatIf {
            pool: Some(if slots == 0 { PoolChoice::None } else { PoolChoice::Slots(slots) }),
            ..WhatIf::default()
        },
    )
}

/// `count` buffers of 8 bytes that stay mapped, bounced by the kernel.
fn held(count: u64) -> Sample {
    let mut sample = Sample::new();
    for n in 0..count {
        sample.bounce(0x4000_0000 + n * 64, 8, SLOT + n * 2048);
    }
    sample
}

#[test]
fn a_hundred_held_small_mappings_are_a_hundred_bounces_and_a_peak_of_a_hundred() {
    let outcome = mainline(&mut held(100));
    assert_eq!((outcome.mappings, outcome.buffers, outcome.bounces, outcome.failed), (100, 100, 100, 0));
    assert_eq!(outcome.bytes_copied, 800, "copied in, and not yet back");
    assert_eq!(outcome.peak_slots, 100);
    // Three events each, 1 µs apart; the slot is taken at the second.
    assert_eq!(outcome.peak_time_ns, START_NS + 299_000);
    assert_eq!(outcome.bounces_by_reason["kmalloc"], 100);
}

#[test]
fn legacy_bounces_none_of_them() {
    let outcome = simulate(&mut held(100), "legacy", &WhatIf::default());
    assert_eq!((outcome.mappings, outcome.bounces, outcome.peak_slots), (100, 0, 0));
}

#[test]
fn a_pool_too_small_refuses_the_rest() {
    let outcome = with_pool(&mut held(300), 1);
    assert_eq!(outcome.total_slots, 128, "rounded as the kernel rounds it for one CPU");
    assert_eq!((outcome.bounces, outcome.failed, outcome.peak_slots), (128, 172, 128));
    assert_eq!(outcome.failed_by_reason["full"], 172);
}

#[test]
fn without_a_pool_nothing_bounces_and_nothing_fails() {
    let outcome = with_pool(&mut held(300), 0);
    assert_eq!((outcome.bounces, outcome.failed, outcome.total_slots), (0, 0, 0));
}

#[test]
fn caches_smaller_than_the_line_without_a_pool_to_bounce_through_fail() {
    let change = WhatIf { pool: Some(PoolChoice::None), minalign: Some(8), ..WhatIf::default() };
    let outcome = simulate(&mut held(5), "mainline", &change);
    assert_eq!((outcome.bounces, outcome.failed), (0, 5));
    assert_eq!(outcome.failed_by_reason["no_pool"], 5);
}

#[test]
fn what_is_unmapped_is_copied_back_and_its_slots_serve_again() {
    let mut sample = Sample::new();
    for n in 0..10 {
        sample.bounce(0x4000_0000, 8, SLOT + n * 2048).unbounce(SLOT + n * 2048, 8);
    }
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.bounces, outcome.bytes_copied, outcome.peak_slots), (10, 160, 1));
}

#[test]
fn slots_are_given_back_when_the_kernel_gave_them_back_not_at_the_event_before() {
    let mut sample = Sample::new();
    sample.on(1, 0).bounce(0x4000_0000, 8, SLOT).unmap(DEVICE, SLOT, 8);
    sample.on(2, 1).bounce(0x5000_0000, 8, SLOT + 2048);
    sample.on(1, 0).slot_unmap(DEVICE, SLOT, 8);
    sample.on(2, 1).bounce(0x5000_0100, 8, SLOT);
    assert_eq!(mainline(&mut sample).peak_slots, 2);
}

#[test]
fn slots_are_taken_when_the_kernel_took_them_not_at_the_event_after() {
    let mut sample = Sample::new();
    sample.on(1, 0).attempt(DEVICE, 0x4000_0000, 8).search(DEVICE, 0x4000_0000, 8, SLOT);
    sample.on(2, 1).bounce(0x5000_0000, 8, SLOT + 2048).unbounce(SLOT + 2048, 8);
    sample.on(1, 0).map(DEVICE, 0x4000_0000, SLOT, 8);
    assert_eq!(mainline(&mut sample).peak_slots, 2);
}

#[test]
fn a_release_that_was_missed_is_made_up_for() {
    let mut sample = Sample::new();
    for n in 0..10 {
        sample.bounce(0x4000_0000, 8, SLOT + n * 2048).unmap(DEVICE, SLOT + n * 2048, 8).wait(2_000_000);
    }
    assert_eq!(mainline(&mut sample).peak_slots, 1);
}

#[test]
fn a_longer_line_bounces_what_the_kernel_mapped_directly_until_its_unmapping() {
    let mut sample = Sample::new();
    for n in 0..4 {
        sample.map(DEVICE, 0x4000_0000 + n * 256, 0x4000_0000 + n * 256, 48);
    }
    for n in 0..4 {
        sample.unmap(DEVICE, 0x4000_0000 + n * 256, 48);
    }
    sample.map(DEVICE, 0x4000_0000, 0x4000_0000, 48);
    let change = WhatIf { cache_line_size: Some(128), ..WhatIf::default() };
    let outcome = simulate(&mut sample, "mainline", &change);
    assert_eq!((outcome.bounces, outcome.peak_slots), (5, 4));
    assert_eq!(outcome.bytes_copied, (4 * 2 + 1) * 48);
    assert_eq!(mainline(&mut sample).bounces, 0);
}

#[test]
fn the_recorded_truth_does_not_decide() {
    let mut sample = Sample::new();
    // The kernel bounced what the model does not, and did not bounce what the model does.
    sample.bounce(0x4000_0000, 64, SLOT).map(DEVICE, 0x4000_1000, 0x4000_1000, 8);
    let outcome = mainline(&mut sample);
    let up_to = |size: u64| outcome.rows.by_size_class.iter().find(|by| by.up_to == size).map(|by| by.tally.bounces);
    assert_eq!((up_to(64), up_to(8)), (Some(0), Some(1)));
}

#[test]
fn coherence_can_be_changed_by_name() {
    let change = WhatIf {
        devices: vec![Override { name: "1-1".into(), coherent: Some(true), ..Override::default() }],
        ..WhatIf::default()
    };
    assert_eq!(simulate(&mut held(3), "mainline", &change).bounces, 0);
}

#[test]
fn what_was_in_the_pool_before_is_counted_until_given_back() {
    let mut sample = Sample::new();
    sample.start.kernel.pool.used_at_start = 3;
    sample.bounce(0x4000_0000, 8, SLOT);
    sample.slot_unmap(DEVICE, 0x9000_0000, 4096).unmap(DEVICE, 0x9000_0000, 4096);
    sample.bounce(0x4000_0100, 8, SLOT + 2048);
    assert_eq!(mainline(&mut sample).peak_slots, 4);
}

#[test]
fn slots_taken_without_a_mapping_event_fill_the_pool_too() {
    let mut sample = Sample::new();
    sample.attempt(DEVICE, 0x4000_0000, 4096).search(DEVICE, 0x4000_0000, 4096, SLOT);
    sample.bounce(0x5000_0000, 8, SLOT + 4096);
    sample.slot_unmap(DEVICE, SLOT, 4096);
    sample.bounce(0x5000_0100, 8, SLOT);
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.slots_without_mapping, outcome.bounces, outcome.peak_slots), (2, 2, 3));
}

#[test]
fn a_mapping_that_only_the_kernel_refused_ends_at_once() {
    let mut sample = Sample::new();
    for n in 0..3 {
        sample.bounce(0x4000_0000 + n * 64, 8, REFUSED);
    }
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.mapped_but_refused_by_kernel, outcome.failed, outcome.peak_slots), (3, 0, 1));
}

#[test]
fn a_list_that_fails_gives_back_what_it_had() {
    let mut sample = held(127);
    sample.map_sg(DEVICE, 0x10, &[(0, 8), (64, 8), (128, 8)], 3);
    sample.bounce(0x6000_0000, 8, SLOT);
    let outcome = with_pool(&mut sample, 128);
    assert_eq!((outcome.failed, outcome.lists), (1, 1));
    assert_eq!((outcome.bounces, outcome.peak_slots), (129, 128), "127, one of the list, one after it");
}

#[test]
fn behind_an_iommu_a_bounce_takes_a_granule_and_a_list_its_concatenation() {
    let mut sample = Sample::with_iommu();
    sample.map_sg(DEVICE, 0x10, &[(0, 8), (0, 4096), (16, 4096)], 3);
    sample.map_sg(DEVICE, 0x20, &[(0, 4096), (0, 4096)], 1);
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.bounces, outcome.peak_slots), (1, 2));
    assert_eq!((outcome.lists, outcome.lists_losing_concatenation), (2, 1));
}

#[test]
fn a_list_gives_its_slots_back_when_unmapped() {
    let mut sample = Sample::new();
    for list in [0x10, 0x20] {
        sample.map_sg(DEVICE, list, &[(0, 8), (64, 8)], 2).unmap_sg(DEVICE, list, 2);
    }
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.bounces, outcome.peak_slots, outcome.bytes_copied), (4, 2, 64));
}

#[test]
fn what_the_device_cannot_reach_bounces_under_legacy_too() {
    let mut sample = Sample::new();
    let device = Device { name: "near".into(), dma_mask: 0xffff_ffff, ..Device::default() };
    let near = sample.device(device);
    let far = 0x1_0000_0000;
    sample.attempt(near, far, 4096).search(near, far, 4096, SLOT).map(near, far, SLOT, 4096);
    let outcome = simulate(&mut sample, "legacy", &WhatIf::default());
    assert_eq!(outcome.bounces_by_reason["device_mask"], 1);
    assert_eq!(outcome.peak_slots, 2);
}

#[test]
fn force_of_the_captured_kernel_does_not_outlive_its_pool() {
    let mut sample = Sample::new();
    sample.start.kernel.pool.force = true;
    let device = Device { name: "forced".into(), force_bounce: true, ..Device::default() };
    let forced = sample.device(device);
    sample.attempt(forced, 0x4000_0000, 4096).search(forced, 0x4000_0000, 4096, SLOT).map(
        forced,
        0x4000_0000,
        SLOT,
        4096,
    );
    assert_eq!(mainline(&mut sample).bounces_by_reason["force"], 1);
    let without = with_pool(&mut sample, 0);
    assert_eq!((without.bounces, without.failed), (0, 0));
    assert_eq!(with_pool(&mut sample, 512).bounces, 1, "another size is no other mode");
}
