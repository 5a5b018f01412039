//! Simulations of streams whose answers were worked out by hand.

use super::super::{
    outcome::Outcome,
    sample::{DEVICE, REFUSED, START_NS, Sample},
    settings::{Settings, WhatIf},
};
use bouncescope_capture::event::{DeviceId, Direction, Memory, What};
use bouncescope_capture::facts::{Device, RestrictedPool};
use bouncescope_model::policy::{Override, Policy, PoolChoice, WhenFull, builtin};

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
    assert_eq!(
        (outcome.total.mappings, outcome.total.buffers, outcome.total.bounces, outcome.total.failed),
        (100, 100, 100, 0)
    );
    assert_eq!(outcome.total.bytes_copied, 800, "copied in, and not yet back");
    assert_eq!(outcome.peak_slots, 100);
    // Three events each, 1 µs apart; the slot is taken at the second.
    assert_eq!(outcome.peak_time_ns, START_NS + 299_000);
    assert_eq!(outcome.bounces_by_reason["kmalloc"], 100);
}

#[test]
fn legacy_bounces_none_of_them() {
    let outcome = simulate(&mut held(100), "legacy", &WhatIf::default());
    assert_eq!((outcome.total.mappings, outcome.total.bounces, outcome.peak_slots), (100, 0, 0));
}

#[test]
fn a_pool_too_small_refuses_the_rest() {
    let outcome = with_pool(&mut held(300), 1);
    assert_eq!(outcome.total_slots, 128, "rounded as the kernel rounds it for one CPU");
    assert_eq!((outcome.total.bounces, outcome.total.failed, outcome.peak_slots), (128, 172, 128));
    assert_eq!(outcome.failed_by_reason["full"], 172);
}

#[test]
fn without_a_pool_nothing_bounces_and_nothing_fails() {
    let outcome = with_pool(&mut held(300), 0);
    assert_eq!((outcome.total.bounces, outcome.total.failed, outcome.total_slots), (0, 0, 0));
}

#[test]
fn caches_smaller_than_the_line_without_a_pool_to_bounce_through_fail() {
    let change = WhatIf { pool: Some(PoolChoice::None), minalign: Some(8), ..WhatIf::default() };
    let outcome = simulate(&mut held(5), "mainline", &change);
    assert_eq!((outcome.total.bounces, outcome.total.failed), (0, 5));
    assert_eq!(outcome.failed_by_reason["no_pool"], 5);
}

#[test]
fn lines_that_firmware_tells_are_too_long_for_the_caches_of_a_kernel_without_a_pool() {
    let change = WhatIf { pool: Some(PoolChoice::None), cache_line_size: Some(128), ..WhatIf::default() };
    let mut sample = held(5);
    let outcome = simulate(&mut sample, "mainline", &change);
    assert_eq!((outcome.minalign, outcome.total.failed, outcome.caches_may_be_smaller), (128, 0, true));
    sample.start.kernel.cpu_line_size = Some(64);
    let outcome = simulate(&mut sample, "mainline", &change);
    assert_eq!((outcome.minalign, outcome.total.failed, outcome.caches_may_be_smaller), (64, 5, false));
    assert_eq!(outcome.failed_by_reason["no_pool"], 5);
}

#[test]
fn what_is_unmapped_is_copied_back_and_its_slots_serve_again() {
    let mut sample = Sample::new();
    for n in 0..10 {
        sample.bounce(0x4000_0000, 8, SLOT + n * 2048).unbounce(SLOT + n * 2048, 8);
    }
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.bounces, outcome.total.bytes_copied, outcome.peak_slots), (10, 160, 1));
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
    assert_eq!((outcome.total.bounces, outcome.peak_slots), (5, 4));
    assert_eq!(outcome.total.bytes_copied, (4 * 2 + 1) * 48);
    assert_eq!(mainline(&mut sample).total.bounces, 0);
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
    assert_eq!(simulate(&mut held(3), "mainline", &change).total.bounces, 0);
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
    assert_eq!((outcome.slots_without_mapping, outcome.total.bounces, outcome.peak_slots), (2, 2, 3));
}

#[test]
fn a_mapping_that_only_the_kernel_refused_ends_at_once() {
    let mut sample = Sample::new();
    for n in 0..3 {
        sample.bounce(0x4000_0000 + n * 64, 8, REFUSED);
    }
    let outcome = with_pool(&mut sample, 1024);
    assert_eq!((outcome.mapped_but_refused_by_kernel, outcome.total.failed, outcome.peak_slots), (3, 0, 1));
    let captured = mainline(&mut sample);
    assert_eq!(
        (captured.total.bounces, captured.total.failed, captured.peak_slots),
        (3, 0, 0),
        "the kernel's pool stayed empty"
    );
}

#[test]
fn a_list_that_fails_gives_back_what_it_had() {
    let mut sample = held(127);
    sample.map_sg(DEVICE, 0x10, &[(0, 8), (64, 8), (128, 8)], 3);
    sample.bounce(0x6000_0000, 8, SLOT);
    let outcome = with_pool(&mut sample, 128);
    assert_eq!((outcome.total.failed, outcome.lists), (1, 1));
    assert_eq!((outcome.total.bounces, outcome.peak_slots), (129, 128), "127, one of the list, one after it");
}

#[test]
fn behind_an_iommu_a_bounce_takes_a_granule_and_a_list_its_concatenation() {
    let mut sample = Sample::with_iommu();
    sample.map_sg(DEVICE, 0x10, &[(0, 4096), (0, 4096), (0, 8)], 3);
    sample.map_sg(DEVICE, 0x20, &[(0, 4096), (0, 4096)], 1);
    sample.map_sg(DEVICE, 0x30, &[(0, 8)], 1);
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.bounces, outcome.peak_slots), (2, 4));
    assert_eq!((outcome.lists, outcome.lists_losing_concatenation), (3, 1), "one segment alone loses nothing");
}

#[test]
fn a_list_gives_its_slots_back_when_unmapped() {
    let mut sample = Sample::new();
    for list in [0x10, 0x20] {
        sample.map_sg(DEVICE, list, &[(0, 8), (64, 8)], 2).unmap_sg(DEVICE, list, 2);
    }
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.bounces, outcome.peak_slots, outcome.total.bytes_copied), (4, 2, 64));
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
    assert_eq!((without.total.bounces, without.total.failed), (0, 0));
    assert_eq!(with_pool(&mut sample, 512).total.bounces, 1, "another size is no other mode");
}

/// Searches and releases of three tasks on a pool of 512 slots, of which 511 are held.
fn almost_full() -> Sample {
    let mut sample = Sample::new();
    for n in 0..511 {
        sample.bounce(0x4000_0000 + n * 64, 8, SLOT + n * 2048);
    }
    sample
}

#[test]
fn a_wrong_guess_about_a_full_pool_stays_one() {
    let mut sample = almost_full();
    // The kernel refuses one for which there is room, and then bounces 100, one after the other.
    sample.bounce(0x5000_0000, 8, REFUSED);
    for n in 0..100 {
        let phys = 0x5000_0040 + n * 64;
        sample.bounce(phys, 8, SLOT + 511 * 2048).slot_unmap(DEVICE, SLOT + 511 * 2048, 8);
        sample.unmap(DEVICE, SLOT + 511 * 2048, 8);
    }
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.bounces, outcome.total.failed, outcome.raced, outcome.peak_slots), (612, 0, 0, 512));
    // It bounces one for which there is none, and refuses until that one is unmapped.
    let mut sample = almost_full();
    for n in [511, 512] {
        sample.bounce(0x5000_0000 + n * 64, 8, SLOT + n * 2048);
    }
    for n in 0..100 {
        sample.bounce(0x6000_0000 + n * 64, 8, REFUSED);
    }
    sample.slot_unmap(DEVICE, SLOT + 512 * 2048, 8).unmap(DEVICE, SLOT + 512 * 2048, 8);
    for n in 0..100 {
        sample.bounce(0x7000_0000 + n * 64, 8, REFUSED);
    }
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.bounces, outcome.total.failed, outcome.peak_slots), (512, 201, 512));
}

#[test]
fn the_kernels_mark_may_count_a_slot_twice_while_its_release_is_not_over() {
    let mark = |over: fn(&mut Sample)| {
        let mut sample = almost_full();
        sample.bounce(0x5000_0000, 8, SLOT + 511 * 2048).on(2, 1).slot_unmap(DEVICE, SLOT, 8);
        over(&mut sample);
        // Another takes the slot.
        sample.on(1, 0).bounce(0x6000_0000, 8, SLOT);
        let outcome = mainline(&mut sample);
        assert_eq!((outcome.total.failed, outcome.peak_slots, outcome.peak_slots_range), (0, 512, [512, 512]));
        outcome.mark_at_most
    };
    let unmapped = |sample: &mut Sample| {
        sample.unmap(DEVICE, SLOT, 8);
    };
    let stalled = |sample: &mut Sample| {
        sample.wait(200_000_000);
    };
    assert_eq!([mark(|_| ()), mark(unmapped), mark(stalled)], [513, 512, 512]);
}

#[test]
fn what_a_pool_that_grows_refuses_is_bounded_by_a_late_worker() {
    let mut sample = almost_full();
    let device = Device { name: "nvme".into(), min_align_mask: 4095, ..Device::default() };
    let nvme = sample.device(device);
    sample.bounce(0x5000_0000, 8, SLOT + 511 * 2048);
    // Each begins in the second slot of a page, where no transient pool can hold it. The first asks for another pool.
    let odd = |sample: &mut Sample, n: u64| {
        sample.attempt(nvme, 0x6000_0800 + n * 4096, 8).map(nvme, 0x6000_0800 + n * 4096, REFUSED, 8);
    };
    (0..3).for_each(|n| odd(&mut sample, n));
    sample.wait(20_000_000);
    odd(&mut sample, 3);
    let outcome = simulate(&mut sample, "mainline", &WhatIf { pool: Some(PoolChoice::Dynamic), ..WhatIf::default() });
    assert_eq!((outcome.total.failed, outcome.failed_at_most()), (1, 3), "the worker adds it at once, or 10 ms later");
    assert_eq!((outcome.pools_added, outcome.raced), (1, 2));
}

/// Syncs of a list.
fn sync_sg(sample: &mut Sample, list: u64, for_device: bool, times: u64) {
    for _ in 0..times {
        let direction = Direction::FromDevice;
        sample.event(What::SyncSg { device: DEVICE, list, nents: 3, direction, for_device });
    }
}

#[test]
fn each_sync_of_a_list_for_the_cpu_copies_all_its_bounced_segments() {
    let mut sample = Sample::new();
    let segments = [(0, 8), (64, 8), (0, 4096)];
    sample.map_sg(DEVICE, 0x10, &segments, 3);
    sync_sg(&mut sample, 0x10, false, 3);
    sync_sg(&mut sample, 0x10, true, 5);
    sample.unmap_sg(DEVICE, 0x10, 3);
    // Gone by then.
    sync_sg(&mut sample, 0x10, false, 1);
    let copied = |sample: &mut Sample| mainline(sample).total.bytes_copied;
    assert_eq!(copied(&mut sample), 16 + 3 * 16 + 16);
    // Mapped again before its unmapping was seen, and then not unmapped to the end.
    for _ in 0..2 {
        sample.map_sg(DEVICE, 0x10, &segments, 3);
        sync_sg(&mut sample, 0x10, false, 2);
    }
    assert_eq!(copied(&mut sample), 80 + 2 * (16 + 2 * 16));
}

#[test]
fn a_list_whose_entries_are_mapped_again_gives_its_slots_back_even_where_the_new_one_does_not_bounce() {
    let mut sample = Sample::new();
    for _ in 0..600 {
        sample.map_sg(DEVICE, 0x10, &[(0, 8)], 1).map_sg(DEVICE, 0x10, &[(0, 4096)], 1);
    }
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.bounces, outcome.total.failed, outcome.peak_slots), (600, 0, 1));
}

fn with_fallback(sample: &mut Sample, policy: &str, slots: u64) -> Outcome {
    let policy = Policy { when_full: WhenFull::Fallback, ..builtin(policy).unwrap() };
    let pool = Some(if slots == 0 { PoolChoice::None } else { PoolChoice::Slots(slots) });
    let settings = Settings::what_if(&sample.start.kernel, &policy, &WhatIf { pool, ..WhatIf::default() });
    sample.run(settings)
}

#[test]
fn what_finds_no_slots_is_copied_through_memory_of_whole_lines_until_it_is_unmapped() {
    let mut sample = held(130);
    for n in 0..130 {
        sample.unbounce(SLOT + n * 2048, 8);
    }
    sample.bounce(0x5000_0000, 65, SLOT);
    let outcome = with_fallback(&mut sample, "mainline", 1);
    assert_eq!((outcome.total.bounces, outcome.total.failed), (131, 0));
    assert_eq!((outcome.fallbacks, outcome.fallback_bytes, outcome.peak_slots), (2, 128, 128));
}

#[test]
fn a_fallback_serves_where_there_is_no_pool_at_all() {
    for policy in ["mainline", "always-small"] {
        let outcome = with_fallback(&mut held(5), policy, 0);
        assert_eq!((outcome.minalign, outcome.total.bounces, outcome.total.failed), (8, 5, 0), "{policy}");
        assert_eq!((outcome.fallbacks, outcome.fallback_bytes), (5, 5 * 64));
    }
}

#[test]
fn a_fallback_is_no_help_to_a_device_that_cannot_reach_the_buffer() {
    let mut sample = Sample::new();
    let near = sample.device(Device { name: "near".into(), dma_mask: 0xffff_ffff, ..Device::default() });
    sample.map(near, 0x1_0000_0000, 0x1_0000_0000, 4096);
    let outcome = with_fallback(&mut sample, "mainline", 0);
    assert_eq!((outcome.total.failed, outcome.fallbacks), (1, 0));
}

#[test]
fn lengths_that_a_policy_wants_aligned_are_counted_in_both_directions_and_of_coherent_devices() {
    let mut sample = Sample::new();
    let coherent = sample.device(Device { name: "coherent".into(), coherent: true, ..Device::default() });
    for (device, size) in [(DEVICE, 65), (DEVICE, 128), (coherent, 300)] {
        let phys = 0x4000_0000;
        let direction = Direction::ToDevice;
        sample.event(What::Map { device, phys, dma_addr: phys, size, direction, memory: Memory::Unknown, attrs: 0 });
    }
    sample.bounce(0x5000_0000, 192, SLOT);
    let counts = |outcome: Outcome| (outcome.total.unaligned_read, outcome.total.unaligned_written);
    assert_eq!(counts(simulate(&mut sample, "length-multiple", &WhatIf::default())), (2, 0));
    let outcome = simulate(&mut sample, "length-multiple-minalign", &WhatIf::default());
    let of = |direction| outcome.rows.by_direction.iter().find(|row| row.direction == direction).unwrap().tally;
    assert_eq!(of(Direction::ToDevice).unaligned_read, 2);
    assert_eq!(of(Direction::FromDevice).unaligned_written, 1);
    assert_eq!(counts(mainline(&mut sample)), (0, 0), "it wants none of drivers");
}

#[test]
fn each_end_of_a_linked_buffer_takes_a_granules_slots_and_gives_them_back_when_it_is_unlinked() {
    let mut sample = Sample::with_iommu();
    let (phys, iova) = (0x4000_1ff8, 0xffff_0ff8);
    sample.attempt(DEVICE, phys, 8).search(DEVICE, phys, 8, SLOT);
    sample.attempt(DEVICE, phys + 8, 24).search(DEVICE, phys + 8, 24, SLOT + 4096);
    sample.link(DEVICE, phys, iova, 32).unlink(DEVICE, iova, 32);
    sample.slot_unmap(DEVICE, SLOT, 8).slot_unmap(DEVICE, SLOT + 4096, 24);
    // As long, and not short: neither end bounces.
    sample.link(DEVICE, phys, iova, 4096).unlink(DEVICE, iova, 4096);
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.mappings, outcome.total.bounces, outcome.peak_slots), (2, 2, 4));
    assert_eq!(outcome.total.bytes_copied, 2 * 32, "in, and back");
    let legacy = simulate(&mut sample, "legacy", &WhatIf::default());
    assert_eq!((legacy.total.mappings, legacy.total.bounces, legacy.peak_slots), (2, 0, 0));
}

#[test]
fn the_pool_refuses_a_linked_buffer_at_the_end_for_which_it_has_no_slots() {
    let mut sample = Sample::with_iommu();
    let links = 33;
    for n in 0..links {
        sample.link(DEVICE, 0x4000_1ff8 + n * 0x10_0000, 0xff8 + n * 0x1_0000, 32);
    }
    // 128 slots, 4 for each.
    let outcome = with_pool(&mut sample, 128);
    assert_eq!((outcome.total_slots, outcome.peak_slots), (128, 128));
    assert_eq!((outcome.total.mappings, outcome.total.bounces, outcome.total.failed), (links, 64, 1));
}

#[test]
fn an_untrusted_devices_links_bounce_at_any_length_but_for_whole_granules() {
    let mut sample = Sample::new();
    let device = Device { name: "0000:01:00.0".into(), coherent: true, untrusted: true, ..Device::default() };
    let nvme = sample.device(Device { iommu_granule: Some(4096), ..device });
    sample.link(nvme, 0x4000_0e00, 0x10_0e00, 0x200 + 0x3000 + 0x100).unlink(nvme, 0x10_0e00, 0x3300);
    sample.link(nvme, 0x4000_0000, 0x20_0000, 0x4000).unlink(nvme, 0x20_0000, 0x4000);
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.mappings, outcome.total.bounces, outcome.peak_slots), (2, 2, 4));
    assert_eq!(outcome.total.bytes_copied, 2 * 0x300);
}

#[test]
fn device_registers_never_bounce_and_are_refused_only_where_the_kernel_looks() {
    let mmio = What::Map {
        device: DEVICE,
        phys: 0x900_0000,
        dma_addr: 0x900_0000,
        size: 4,
        direction: Direction::FromDevice,
        memory: Memory::Unknown,
        attrs: 1 << 10,
    };
    let mut sample = Sample::new();
    sample.event(mmio);
    let outcome = mainline(&mut sample);
    assert_eq!((outcome.total.mappings, outcome.total.bounces, outcome.total.failed), (1, 0, 0));
    assert_eq!((outcome.total.hazards_foreign, outcome.total.hazards_unknown), (0, 0));
    sample.start.kernel.pool.force = true;
    let forced = |release: &str, sample: &mut Sample| {
        sample.start.kernel.release = release.to_owned();
        mainline(sample).total.failed
    };
    assert_eq!([forced("6.12.1", &mut sample), forced("6.18.0", &mut sample)], [0, 1]);
}

/// Two restricted pools of 128 slots, of which 6 and 0 were in use at the beginning, and a device for each.
fn two_pools() -> (Sample, [DeviceId; 2]) {
    let mut sample = Sample::new();
    let pool = |name: &str, used_at_start| RestrictedPool { name: name.into(), slots: 128, used_at_start };
    sample.start.kernel.pool.restricted = vec![pool("camera@0", 6), pool("usb@0", 0)];
    let device = |sample: &mut Sample, name: &str, pool: &str| {
        let (own_pool, force_bounce) = (true, true);
        let restricted_pool = Some(pool.to_owned());
        sample.device(Device { name: name.into(), own_pool, force_bounce, restricted_pool, ..Device::default() })
    };
    let devices = [device(&mut sample, "camera", "camera@0"), device(&mut sample, "usb", "usb@0")];
    (sample, devices)
}

fn captured(sample: &mut Sample) -> Outcome {
    let settings = Settings::captured(&sample.start.kernel);
    sample.run(settings)
}

/// Of each pool: most slots in use, and those of them that were coherent memory.
fn peaks(outcome: &Outcome) -> Vec<(&str, u64, u64)> {
    outcome.pools.iter().map(|pool| (pool.name.as_str(), pool.peak_slots, pool.coherent_at_peak)).collect()
}

#[test]
fn coherent_memory_takes_slots_of_the_pool_of_its_device_beside_bounces() {
    let (mut sample, [camera, usb]) = two_pools();
    sample.coherent(camera, SLOT, 3 * 4096).coherent(usb, SLOT + 0x10_0000, 4096);
    sample.attempt(usb, 0x4000_0000, 8).search(usb, 0x4000_0000, 8, SLOT + 0x10_1000);
    sample.map(usb, 0x4000_0000, SLOT + 0x10_1000, 8);
    sample.coherent_free(usb, SLOT + 0x10_0000, 4096).coherent_free(camera, SLOT, 3 * 4096);
    let outcome = captured(&mut sample);
    assert_eq!(peaks(&outcome), [("default", 0, 0), ("camera@0", 12, 6), ("usb@0", 3, 2)]);
    assert_eq!(outcome.pools[1].used_at_start, 6);
    let rows: Vec<_> = outcome
        .coherent
        .iter()
        .map(|row| {
            (row.device.as_str(), row.pool.as_str(), row.allocated, row.given_back, row.peak_slots, row.slots_at_end)
        })
        .collect();
    assert_eq!(rows, [("camera", "camera@0", 1, 1, 6, 0), ("usb", "usb@0", 1, 1, 2, 0)]);
}

#[test]
fn coherent_memory_from_before_the_recording_is_given_back_to_its_own_pool() {
    let (mut sample, [camera, _]) = two_pools();
    // The driver's own length, of which the kernel had made whole pages.
    sample.coherent_free(camera, SLOT + 0x8000, 4096 + 8).coherent(camera, SLOT, 4096);
    assert_eq!(peaks(&captured(&mut sample)), [("default", 0, 0), ("camera@0", 4, 2)], "6 less 4, and 2 more");
}

#[test]
fn coherent_memory_that_the_kernel_refused_takes_nothing_and_is_counted() {
    let (mut sample, [camera, _]) = two_pools();
    sample.coherent(camera, REFUSED, 4096).coherent(camera, SLOT, 4096);
    let outcome = captured(&mut sample);
    assert_eq!((outcome.coherent_refused, outcome.coherent[0].refused, outcome.coherent[0].allocated), (1, 1, 1));
    assert_eq!(outcome.pools[1].peak_slots, 8);
}

#[test]
fn a_device_without_a_restricted_pool_has_its_coherent_memory_elsewhere() {
    let mut sample = Sample::new();
    sample.coherent(DEVICE, SLOT, 4096);
    let outcome = captured(&mut sample);
    assert_eq!((outcome.peak_slots, outcome.coherent.len(), outcome.pools.len()), (0, 0, 0));
}

#[test]
fn every_policy_has_the_coherent_memory_of_restricted_pools() {
    let (mut sample, [camera, _]) = two_pools();
    sample.coherent(camera, SLOT, 4096);
    let outcome = simulate(&mut sample, "legacy", &WhatIf::default());
    assert_eq!(peaks(&outcome), [("default", 0, 0), ("camera@0", 8, 2)]);
}
