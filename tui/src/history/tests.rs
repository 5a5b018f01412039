//! What is kept of a stream.

use tracer::event::{Batch, DeviceId, Direction, Memory};
use tracer::facts::{Hook, SiteCount};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn begun(keep: Keep) -> History {
    let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
    let hooks = vec![hook("slot_map"), hook("slot_unmap")];
    let mut history = History::new(keep);
    history.observe(&Item::Start(Start { time_ns: 10 * SECOND, hooks, ..Start::default() }));
    history
}

fn pass(history: &mut History, time_ns: u64, what: What) {
    let events = vec![Event { time_ns, task: 0, cpu: 0, what }];
    history.observe(&Item::Events(Batch { events, segments: Vec::new() }));
}

fn map(dma_addr: u64) -> What {
    What::Map {
        device: DeviceId(0),
        phys: 0,
        dma_addr,
        size: 8,
        direction: Direction::ToDevice,
        memory: Memory::Unknown,
        attrs: 0,
    }
}

#[test]
fn a_window_has_what_happened_in_it_and_nothing_else() {
    let mut history = begun(Keep::Whole);
    for second in 10..20 {
        pass(&mut history, second * SECOND, map(1));
    }
    assert_eq!(history.sum(12 * SECOND, 14 * SECOND).mappings, 3, "both ends belong to it");
    assert_eq!(history.sum(0, u64::MAX).mappings, 10);
    assert_eq!(history.sum(30 * SECOND, 40 * SECOND).mappings, 0);
}

#[test]
fn a_long_capture_gets_longer_buckets_and_keeps_all_counts() {
    let mut history = begun(Keep::Whole);
    for hour in 0..100 {
        pass(&mut history, 10 * SECOND + hour * 3600 * SECOND, map(1));
    }
    assert!(history.buckets.len() <= WHOLE);
    assert_eq!(history.sum(0, u64::MAX).mappings, 100);
}

#[test]
fn a_live_stream_forgets_what_is_older_than_ten_minutes() {
    let mut history = begun(Keep::Recent);
    pass(&mut history, 10 * SECOND, map(1));
    pass(&mut history, 500 * SECOND, map(1));
    assert_eq!(history.sum(0, u64::MAX).mappings, 2);
    pass(&mut history, 620 * SECOND, map(1));
    assert_eq!((history.sum(0, u64::MAX).mappings, history.buckets.len()), (2, RECENT));
    pass(&mut history, 9000 * SECOND, map(1));
    assert_eq!(history.sum(0, u64::MAX).mappings, 1);
}

#[test]
fn slots_in_use_are_followed_from_taking_to_giving_back() {
    let mut history = begun(Keep::Whole);
    let slot_map = |slot, size| What::SlotMap {
        device: DeviceId(0),
        phys: 0,
        slot,
        size,
        align_mask: 0,
        direction: Direction::ToDevice,
        duration_ns: 0,
    };
    pass(&mut history, 11 * SECOND, slot_map(0x1000, 2049));
    pass(&mut history, 12 * SECOND, slot_map(0x8010, 8));
    let gone = What::SlotUnmap { device: DeviceId(0), slot: 0x1000, size: 2049, direction: Direction::ToDevice };
    pass(&mut history, 13 * SECOND, gone);
    pass(&mut history, 14 * SECOND, slot_map(0x9000, 8));
    assert_eq!(history.fullest().map(|(time_ns, slots)| (time_ns / SECOND, slots)), Some((12, 3)));
    assert_eq!(history.used_before(14 * SECOND + SECOND / 2), 2);
}

#[test]
fn the_next_refusal_is_that_after_the_moment() {
    let mut history = begun(Keep::Whole);
    for (second, dma_addr) in [(11, 1), (12, MAPPING_ERROR), (13, 1), (15, MAPPING_ERROR)] {
        pass(&mut history, second * SECOND, map(dma_addr));
    }
    assert_eq!(history.next_refusal(0), Some(12 * SECOND));
    assert_eq!(history.next_refusal(12 * SECOND), Some(15 * SECOND));
    assert_eq!(history.next_refusal(15 * SECOND), None);
}

#[test]
fn allocations_are_spread_over_the_time_since_they_were_last_counted() {
    let mut history = begun(Keep::Whole);
    let sites = |count| Item::Sites(vec![SiteCount { call_site: 1, bytes_req: 8, bytes_alloc: 8, count }]);
    history.observe(&Item::Counters(Counters { time_ns: 11 * SECOND, ..Counters::default() }));
    history.observe(&sites(100));
    history.observe(&Item::Counters(Counters { time_ns: 12 * SECOND, ..Counters::default() }));
    history.observe(&sites(150));
    let first_half = history.sum(10 * SECOND, 10 * SECOND + SECOND / 2).allocations;
    assert!((first_half - 50.0).abs() < 1.0, "{first_half}");
    assert!((history.sum(0, u64::MAX).allocations - 150.0).abs() < 1e-6);
    let (counts, covered) = history.sites.between(11 * SECOND, 12 * SECOND);
    assert_eq!((counts[&(1, 8, 8)], covered), (50, SECOND));
}

#[test]
fn columns_shorter_than_a_bucket_show_its_rate() {
    let mut history = begun(Keep::Recent);
    pass(&mut history, 10 * SECOND, map(1));
    let columns = history.columns(10 * SECOND, 10 * SECOND + 100_000_000, 4);
    assert_eq!(columns.iter().map(|(bucket, _)| bucket.mappings).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert!(columns.iter().all(|(_, ns)| (*ns - 1e8).abs() < 1.0));
}

#[test]
fn where_releases_were_missed_the_pools_own_counter_corrects_what_is_held() {
    let take = |slot| What::SlotMap {
        device: DeviceId(0),
        phys: 0,
        slot,
        size: SLOT,
        align_mask: 0,
        direction: Direction::ToDevice,
        duration_ns: 0,
    };
    let sample = |time_ns, used_slots| PoolSample {
        time_ns,
        slots: 512,
        used_slots,
        hiwater_slots: None,
        restricted: Vec::new(),
    };
    for (missed, expected) in [(0, 3), (2, 1)] {
        let mut history = begun(Keep::Whole);
        pass(&mut history, 11 * SECOND, take(SLOT));
        pass(&mut history, 12 * SECOND, take(2 * SLOT));
        let lost = [("missed.slot_unmap".into(), vec![missed])].into();
        history.observe(&Item::Counters(Counters { lost, ..Counters::default() }));
        history.observe(&Item::Pool(sample(13 * SECOND, 0)));
        pass(&mut history, 14 * SECOND, take(3 * SLOT));
        assert_eq!(history.sum(14 * SECOND, 15 * SECOND).used_slots, Some(expected));
    }
}
