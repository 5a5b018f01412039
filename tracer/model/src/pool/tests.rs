//! The pool against the laws that it must obey whatever is asked of it, and against hand-computed places.

use proptest::prelude::*;

use super::*;

const PAGE: u64 = 4096;

fn pool(slots: u64, areas: u32) -> Pool {
    Pool::new(PoolConfig { slots, areas, slot_rule: SlotRule::PoolAligned, page_size: PAGE })
}

fn request(cpu: u32, phys: u64, size: u64) -> Request {
    Request { cpu, phys, size, align_mask: 0, min_align_mask: 0, is_memory: false }
}

#[derive(Clone, Debug)]
enum Step {
    Map(Request),
    Unmap(prop::sample::Index),
}

fn requests() -> impl Strategy<Value = Request> {
    let size = prop_oneof![1..64_u64, 1..9000_u64, 1..300_000_u64];
    let masks = prop_oneof![Just((0, 0)), Just((4095, 0)), Just((0, 4095)), Just((16383, 4095)), Just((4095, 511))];
    (0..8_u32, 1..1_u64 << 36, size, masks).prop_map(|(cpu, phys, size, (align_mask, min_align_mask))| Request {
        cpu,
        phys,
        size,
        align_mask,
        min_align_mask,
        is_memory: false,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![requests().prop_map(Step::Map), any::<prop::sample::Index>().prop_map(Step::Unmap)];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn slots_are_never_booked_twice_and_all_come_back(
        steps in steps(),
        segments in 1..9_u64,
        areas in prop::sample::select(vec![1, 2, 4, 8_u32]),
        old in any::<bool>(),
    ) {
        let slot_rule = if old { SlotRule::CallerAligned } else { SlotRule::PoolAligned };
        let config = PoolConfig { slots: segments * 128, areas, slot_rule, page_size: PAGE };
        let mut pool = Pool::new(config);
        let mut held: Vec<Bounce> = Vec::new();
        let mut peak = 0;
        for step in steps {
            match step {
                Step::Map(request) => match pool.map(&request) {
                    Ok(bounce) => {
                        let range = bounce.first..bounce.first + bounce.slots;
                        for other in &held {
                            let apart = other.first >= range.end || range.start >= other.first + other.slots;
                            prop_assert!(apart, "{bounce:?} overlaps {other:?}");
                        }
                        prop_assert_eq!(range.start / 128, (range.end - 1) / 128, "crosses a segment");
                        prop_assert!(u64::from(range.end) <= pool.total_slots());
                        let addr = bounce.slot_addr();
                        let first = u64::from(bounce.first) * SLOT;
                        prop_assert_eq!(first & request.align_mask, 0);
                        let kept = request.min_align_mask & (SLOT - 1);
                        prop_assert_eq!(addr & kept, request.phys & kept);
                        if !old {
                            prop_assert_eq!(addr & request.min_align_mask, request.phys & request.min_align_mask);
                        }
                        prop_assert!(addr + request.size <= u64::from(range.end) * SLOT);
                        held.push(bounce);
                    }
                    Err(refused) => {
                        let free = pool.total_slots() - pool.used_slots();
                        prop_assert!(refused != Refused::NoPool);
                        if request.align_mask == 0 && request.min_align_mask == 0 && request.size <= SLOT {
                            prop_assert_eq!(free, 0, "a single slot is refused only by a full pool");
                        }
                        if refused == Refused::Fragmented {
                            prop_assert!(free * SLOT >= request.size);
                        }
                    }
                },
                Step::Unmap(which) if !held.is_empty() => {
                    let bounce = held.swap_remove(which.index(held.len()));
                    pool.unmap(bounce);
                }
                Step::Unmap(_) => {}
            }
            let used: u64 = held.iter().map(Bounce::slots).sum();
            peak = peak.max(used);
            prop_assert_eq!(pool.used_slots(), used);
            prop_assert_eq!(pool.peak_slots(), peak);
        }
        let is_taken = |slot: u32| held.iter().any(|one| (one.first..one.first + one.slots).contains(&slot));
        for slot in 0..pool.slots {
            let segment = slot / 128 * 128..(slot / 128 + 1) * 128;
            let behind = (slot..segment.end).take_while(|slot| !is_taken(*slot)).count();
            let before = (segment.start..slot).rev().take_while(|slot| !is_taken(*slot)).count();
            prop_assert_eq!([pool.free(slot), pool.free_before(slot)].map(|free| free as usize), [behind, before]);
        }
        for segment in 0..pool.slots / 128 {
            let longest = (segment * 128..(segment + 1) * 128).map(|slot| pool.free(slot)).max();
            prop_assert_eq!(Some(u32::from(pool.longest_in(segment))), longest);
        }
        for bounce in held {
            pool.unmap(bounce);
        }
        prop_assert_eq!(pool.used_slots(), 0);
        let fresh = Pool::new(config);
        prop_assert_eq!(&pool.taken, &fresh.taken, "the free lists are as in the beginning");
    }
}

#[test]
fn a_pool_may_end_within_a_segment_and_has_no_slots_beyond() {
    let mut pool = pool(200, 1);
    assert_eq!([0, 127, 128, 199].map(|slot| pool.free(slot)), [128, 1, 72, 1]);
    assert_eq!((pool.longest_in(1), pool.total_slots()), (72, 200));
    let held: Vec<Bounce> = (0..200).map(|_| pool.map(&request(0, 8, 8)).unwrap()).collect();
    assert_eq!(pool.map(&request(0, 8, 8)), Err(Refused::Full));
    for bounce in held {
        pool.unmap(bounce);
    }
    assert_eq!(pool.taken, self::pool(200, 1).taken);
}

/// `swiotlb_search_pool_area()` slot by slot, over the free lists as they are.
fn plain_search(pool: &Pool, area: u32, demand: &Demand) -> Option<u32> {
    let (area_slots, base) = (pool.area_slots, area * pool.area_slots);
    let wrap = |index| if index >= area_slots { 0 } else { index };
    let Area { mut index, used, .. } = pool.areas[area as usize];
    if demand.slots > area_slots.saturating_sub(used) {
        return None;
    }
    let mut checked = 0;
    while checked < area_slots {
        let slot = base + index;
        let step = match () {
            () if !demand.allows(u64::from(slot) * SLOT) => 1,
            () if pool.free(slot) < demand.slots => demand.stride,
            () => return Some(slot),
        };
        index = wrap(index + step);
        checked += step;
    }
    None
}

/// Requests that leave holes, and such as do not fit into them: of one slot or many, aligned or at any place, address 0 included, with masks
/// that no kernel has among them.
fn crowding_requests() -> impl Strategy<Value = Request> {
    let size = prop_oneof![3 => 1..2000_u64, 2 => 2048..20_000_u64, 1 => 100_000..262_144_u64];
    let mask = prop::sample::select(vec![0_u64, 511, 4095, 16383, 65535, 0x1800, 0xf0ff]);
    let phys = prop_oneof![1 => Just(0_u64), 8 => 1..1_u64 << 24];
    (0..8_u32, phys, size, mask.clone(), mask).prop_map(|(cpu, phys, size, align_mask, min_align_mask)| Request {
        cpu,
        phys,
        size,
        align_mask,
        min_align_mask,
        is_memory: false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_search_finds_the_slot_that_the_kernels_own_finds(
        requests in prop::collection::vec((crowding_requests(), any::<prop::sample::Index>(), 0..3_u8), 1..800),
        slots in prop::sample::select(vec![128_u64, 384, 512, 1000, 1024, 2048]),
        areas in prop::sample::select(vec![1, 2, 3, 4, 8_u32]),
    ) {
        let mut pool = pool(slots, areas);
        let mut held: Vec<Bounce> = Vec::new();
        for (request, which, releases) in requests {
            if releases == 0 && !held.is_empty() {
                let bounce = held.swap_remove(which.index(held.len()));
                pool.unmap(bounce);
            }
            let Ok(demand) = pool.demand(&request) else { continue };
            for area in 0..pool.areas.len() as u32 {
                let expected = plain_search(&pool, area, &demand);
                let found = pool.find_in(area, &demand);
                prop_assert_eq!(found.as_ref().map(|bounce| bounce.first), expected, "{:?} in area {}", demand, area);
                held.extend(found);
            }
        }
    }
}

#[test]
fn a_hopeless_search_of_a_large_pool_looks_at_it_once() {
    let mut pool = pool(65536, 1);
    for _ in 0..65536 {
        pool.map(&request(0, 8, 8)).unwrap();
    }
    for slot in (0..65536).step_by(2) {
        pool.release(&Bounce { first: slot, slots: 1, offset: 0 });
    }
    let before = pool.visits();
    for phys in 1..1000 {
        assert_eq!(pool.map(&request(0, phys << 11, 4000)), Err(Refused::Fragmented));
    }
    assert!(pool.visits() - before < 70_000, "{} visits", pool.visits() - before);
}

#[test]
fn what_is_below_a_slot_is_kept_by_an_offset_and_the_rest_by_the_slot() {
    let mut pool = pool(512, 1);
    let nvme = |phys| Request { min_align_mask: 4095, ..request(0, phys, 512) };
    assert_eq!(pool.map(&nvme(0x1200)).unwrap().slot_addr(), 0x200, "the first slot, of an even number");
    assert_eq!(pool.map(&nvme(0x1e00)).unwrap().slot_addr(), 0xe00, "the second slot, of an odd number");
    assert_eq!(pool.map(&nvme(0x1e00)).unwrap().slot_addr(), 0x1e00, "the fourth");
    assert_eq!(pool.map(&nvme(0x1200)).unwrap().slot_addr(), 0x2200, "the fifth: the third lies behind the index");
}

#[test]
fn behind_an_iommu_whole_slots_of_padding_keep_the_rest() {
    let mut pool = pool(512, 1);
    let bounce = pool.map(&Request { align_mask: 4095, min_align_mask: 4095, ..request(0, 0x1e00, 512) }).unwrap();
    assert_eq!((bounce.first, bounce.slots(), bounce.slot_addr()), (0, 2, 0xe00));
}

#[test]
fn the_search_starts_in_the_area_of_the_cpu_and_rolls_on() {
    let mut pool = pool(512, 4);
    let place = |pool: &mut Pool, cpu| pool.map(&request(cpu, 8, 8)).unwrap().slot_addr() / SLOT;
    assert_eq!([place(&mut pool, 2), place(&mut pool, 2), place(&mut pool, 6)], [256, 257, 258]);
    assert_eq!(place(&mut pool, 1), 128);
    let first = pool.map(&request(0, 8, 8)).unwrap();
    pool.unmap(first);
    assert_eq!(place(&mut pool, 0), 1, "a slot given back is not the next one taken");
}

#[test]
fn a_full_area_overflows_into_the_next() {
    let mut pool = pool(256, 2);
    for _ in 0..128 {
        pool.map(&request(0, 8, 8)).unwrap();
    }
    assert_eq!(pool.map(&request(0, 8, 8)).unwrap().slot_addr() / SLOT, 128);
}

#[test]
fn why_nothing_is_found() {
    let mut pool = pool(128, 1);
    assert_eq!(pool.map(&request(0, 8, 256 * 1024 + 1)), Err(Refused::TooLarge));
    let held: Vec<_> = (0..128).map(|_| pool.map(&request(0, 8, 8)).unwrap()).collect();
    assert_eq!(pool.map(&request(0, 8, 8)), Err(Refused::Full));
    for (n, bounce) in held.into_iter().enumerate() {
        if n % 2 == 0 {
            pool.unmap(bounce);
        }
    }
    assert_eq!(pool.map(&request(0, 8, 2049)), Err(Refused::Fragmented));
    assert_eq!(self::pool(0, 1).map(&request(0, 8, 8)), Err(Refused::NoPool));
}

#[test]
fn more_than_an_area_never_fits() {
    let mut small = pool(64, 1);
    assert_eq!(small.map(&request(0, 8, 65 * SLOT)), Err(Refused::TooLarge));
    assert_eq!(small.map(&request(0, 8, 64 * SLOT)).unwrap().slots(), 64);
}

#[test]
fn a_mapping_does_not_reach_into_the_next_segment() {
    let mut pool = pool(256, 1);
    pool.map(&request(0, 8, 100 * SLOT)).unwrap();
    assert_eq!(pool.map(&request(0, 8, 30 * SLOT)).unwrap().first, 128);
}

#[test]
fn areas_are_no_smaller_than_a_segment() {
    let mut pool = pool(256, 8);
    assert_eq!(pool.map(&request(7, 8, 8)).unwrap().first, 128);
}

#[test]
fn slots_held_from_before_come_back_one_by_one() {
    let mut pool = pool(128, 1);
    pool.occupy_foreign(3);
    assert_eq!(pool.used_slots(), 3);
    pool.release_foreign(2);
    assert_eq!(pool.used_slots(), 1);
    pool.release_foreign(5);
    assert_eq!(pool.used_slots(), 0);
}

#[test]
fn slots_held_from_before_are_spread_over_the_areas() {
    let mut pool = pool(256, 2);
    pool.occupy_foreign(4);
    let first = |pool: &mut Pool, cpu| pool.map(&request(cpu, 8, 8)).unwrap().first;
    assert_eq!([first(&mut pool, 0), first(&mut pool, 1)], [2, 130]);
}

#[test]
fn slots_held_from_before_make_no_peak_until_something_is_mapped() {
    let mut pool = pool(128, 1);
    pool.occupy_foreign(10);
    assert_eq!(pool.peak_slots(), 0);
    pool.release_foreign(4);
    pool.map(&request(0, 8, 8)).unwrap();
    assert_eq!(pool.peak_slots(), 7);
}

#[test]
fn what_a_smaller_pool_had_no_room_for_is_given_back_first() {
    let mut pool = pool(128, 1);
    pool.occupy_foreign(130);
    assert_eq!(pool.used_slots(), 128);
    pool.release_foreign(2);
    assert_eq!(pool.map(&request(0, 8, 8)), Err(Refused::Full));
    pool.release_foreign(1);
    assert!(pool.map(&request(0, 8, 8)).is_ok());
}

#[test]
fn absurd_shapes_and_requests_are_answered() {
    let config = PoolConfig { slots: u64::MAX, areas: u32::MAX, slot_rule: SlotRule::PoolAligned, page_size: 0 };
    assert_eq!(Pool::new(config).total_slots(), MAX_SLOTS);
    let config = PoolConfig { slots: 300, areas: 0, slot_rule: SlotRule::PoolAligned, page_size: u64::MAX };
    let mut pool = Pool::new(config);
    let held: Vec<_> = (0..300).map(|_| pool.map(&request(u32::MAX, 8, 0)).unwrap()).collect();
    assert_eq!(pool.map(&request(0, 8, 8)), Err(Refused::Full));
    for bounce in held {
        pool.unmap(bounce);
    }
    assert_eq!(pool.map(&Request { align_mask: u64::MAX, ..request(0, u64::MAX, 8) }), Err(Refused::TooLarge));
    let odd = Request { min_align_mask: u64::MAX, ..request(0, u64::MAX - 9, 8) };
    assert_eq!(pool.map(&odd), Err(Refused::Fragmented), "no slot has the buffer's upper bits");
    pool.occupy_foreign(u64::MAX);
    pool.release_foreign(u64::MAX);
}

proptest! {
    /// Whatever was held before, and however many areas there are, it can all be given back.
    #[test]
    fn foreign_slots_are_given_back_as_they_were_taken(slots in 0..3000_u64, areas in 1..9_u32, part in 0..=100_u64) {
        let mut pool = pool(slots, areas);
        let held = pool.total_slots() * part / 100;
        pool.occupy_foreign(held);
        prop_assert_eq!(pool.used_slots(), held.min(u64::from(pool.area_slots) * pool.areas.len() as u64));
        pool.release_foreign(held);
        prop_assert_eq!(pool.used_slots(), 0);
    }
}
