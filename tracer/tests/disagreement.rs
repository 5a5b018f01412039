//! `verify` must be able to fail: streams in which the kernel did something else than the model says.

use std::collections::BTreeMap;

use tracer::{
    capture::{Reader, Writer},
    event::{Batch, DeviceId, Direction, Event, Memory, What},
    facts::{Counters, Device, End, Hook, KernelFacts, PoolFacts, PoolSample},
    replay::{Replayed, Wanted, mapping::Unknown, replay},
    report::verify,
    stream::{Item, Start},
};

const DEVICE: DeviceId = DeviceId(0);

fn start(slots: u64, areas: u32) -> Item {
    let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
    Item::Start(Start {
        kernel: KernelFacts {
            machine: "aarch64".into(),
            page_size: 4096,
            possible_cpus: 2,
            cache_line_size: 64,
            dma_minalign: 128,
            kmalloc_minalign: 8,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots, areas, hiwater_reset: true, ..PoolFacts::default() },
            ..KernelFacts::default()
        },
        hooks: ["slot_map", "slot_unmap", "bounced", "map", "unmap"].map(hook).into(),
        ..Start::default()
    })
}

fn held(size: u64, bounced: bool, count: u64) -> Vec<What> {
    let direction = Direction::FromDevice;
    let mut events = Vec::new();
    for n in 0..count {
        let phys = 0x10_0000 + n * 4096;
        let slot = 0x8000_0000 + n * 2048;
        let dma_addr = if bounced { slot } else { phys };
        if bounced {
            events.push(What::Bounced { device: DEVICE, dev_addr: phys, size });
            events.push(What::SlotMap { device: DEVICE, phys, slot, size, align_mask: 0, direction, duration_ns: 0 });
        }
        events.push(What::Map { device: DEVICE, phys, dma_addr, size, direction, memory: Memory::Unknown, attrs: 0 });
    }
    events
}

/// Writes a capture of these events, on a kernel whose counters are right but for `change`, and replays it.
fn verified(events: Vec<What>, hiwater: u64, change: impl FnOnce(&mut Counters)) -> Replayed {
    let event = |(n, what)| Event { time_ns: n as u64, task: 7, cpu: 0, what };
    verified_with(start(512, 2), events.into_iter().enumerate().map(event).collect(), hiwater, change)
}

fn verified_with(start: Item, events: Vec<Event>, hiwater: u64, change: impl FnOnce(&mut Counters)) -> Replayed {
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in &events {
        seen.entry(event.what.kind().name().into()).or_insert_with(|| vec![0])[0] += 1;
    }
    let mut counters = Counters { seen, ..Counters::default() };
    change(&mut counters);
    let sample = PoolSample { slots: 512, hiwater_slots: Some(hiwater), ..PoolSample::default() };
    let mut writer = Writer::new(Vec::new()).unwrap();
    for item in [
        start,
        Item::Device(Device { name: "usb".into(), ..Device::default() }),
        Item::Events(Batch { events, segments: Vec::new() }),
        Item::Pool(sample),
        Item::Counters(counters),
        Item::End(End::default()),
    ] {
        writer.write(&item).unwrap();
    }
    let bytes = writer.into_inner().unwrap();
    replay(&mut Reader::new(&bytes[..]).unwrap(), |_| Wanted { verdict: true, ..Wanted::default() }).unwrap()
}

#[test]
fn a_hundred_held_small_buffers_agree_with_a_peak_of_a_hundred() {
    let verdict = verified(held(8, true, 100), 100, |_| {}).verdict;
    assert_eq!((verdict.agreements, verdict.disagreements, verdict.peak_slots_predicted), (100, 0, 100));
    assert!(verdict.agrees(), "{:?}", verdict.problems);
}

#[test]
fn a_small_buffer_that_did_not_bounce_disagrees() {
    let verdict = verified(held(8, false, 1), 0, |_| {}).verdict;
    assert_eq!((verdict.agreements, verdict.disagreements), (0, 1));
    assert_eq!(verdict.differences[0].kernel, "Direct");
    assert!(!verdict.agrees());
}

#[test]
fn an_aligned_buffer_that_bounced_disagrees() {
    let verdict = verified(held(64, true, 1), 1, |_| {}).verdict;
    assert_eq!((verdict.disagreements, verdict.differences[0].predicted.as_str()), (1, "Direct"));
}

#[test]
fn another_high_water_mark_disagrees() {
    let verdict = verified(held(8, true, 100), 101, |_| {}).verdict;
    assert_eq!(verdict.disagreements, 0);
    assert!(verdict.problems.iter().any(|problem| problem.contains("peak slots")), "{:?}", verdict.problems);
}

#[test]
fn losses_of_allocations_do_not_excuse_another_high_water_mark_but_those_of_slots_do() {
    let lose = |name: &'static str| move |counters: &mut Counters| drop(counters.lost.insert(name.into(), vec![3]));
    assert!(!verified(held(8, true, 100), 101, lose("missed.kfree")).verdict.agrees());
    assert!(verified(held(8, true, 100), 101, lose("missed.slot_map_entry")).verdict.agrees());
}

#[test]
fn another_count_by_tracefs_disagrees() {
    let verdict = verified(held(8, true, 2), 2, |counters| counters.tracefs_bounced = Some(3)).verdict;
    assert!(verdict.problems.iter().any(|problem| problem.contains("tracefs")), "{:?}", verdict.problems);
}

#[test]
fn a_count_by_tracefs_of_less_than_was_recorded_disagrees_too() {
    let verdict = verified(held(8, true, 2), 2, |counters| counters.tracefs_bounced = Some(1)).verdict;
    assert!(verdict.problems.iter().any(|problem| problem.contains("tracefs counted 1")), "{:?}", verdict.problems);
    assert!(verified(held(8, true, 2), 2, |counters| counters.tracefs_bounced = Some(2)).verdict.agrees());
}

#[test]
fn of_a_capture_joined_with_the_trace_since_boot_it_is_said_since_when_each_counted() {
    let text = |joined_ns| {
        let Item::Start(start) = start(512, 2) else { unreachable!() };
        let event = |(n, what)| Event { time_ns: n as u64, task: 7, cpu: 0, what };
        let events = held(8, true, 2).into_iter().enumerate().map(event).collect();
        let joined = Item::Start(Start { joined_ns, ..start });
        verify::text(&verified_with(joined, events, 2, |counters| counters.tracefs_bounced = Some(1)))
    };
    let boot = "attempts 2 to bounce recorded since boot, 1 counted by tracefs after the\n  recorder began\n";
    assert!(text(Some(3)).contains(boot), "{}", text(Some(3)));
    assert!(text(None).contains("attempts 2 to bounce recorded, 1 counted by tracefs\n"), "{}", text(None));
}

#[test]
fn a_record_neither_in_the_capture_nor_reported_lost_disagrees() {
    let verdict = verified(held(8, true, 2), 2, |counters| counters.seen.get_mut("map").unwrap()[0] += 1).verdict;
    assert!(verdict.problems.iter().any(|problem| problem.starts_with("map: ")), "{:?}", verdict.problems);
    let reported = verified(held(8, true, 2), 2, |counters| {
        counters.seen.get_mut("map").unwrap()[0] += 1;
        counters.lost.insert("ring_full.map".into(), vec![1]);
    });
    assert!(reported.verdict.agrees(), "{:?}", reported.verdict.problems);
}

/// A full pool of 512 slots, and what several tasks do with it.
struct Full(Vec<Event>);

/// When the pool is full, ns.
const FULL_NS: u64 = 1_000_000;
const MICROSECOND: u64 = 1000;

impl Full {
    fn new() -> Self {
        let event = |(n, what)| Event { time_ns: n as u64, task: 1, cpu: 0, what };
        Self(held(8, true, 512).into_iter().enumerate().map(event).collect())
    }

    fn event(&mut self, task: u32, us: u64, what: What) {
        self.0.push(Event { time_ns: FULL_NS + us * MICROSECOND, task, cpu: task as u16 % 2, what });
    }

    /// A task looks for a slot from `us` on for so long, and finds this one, or none.
    fn search(&mut self, task: u32, us: u64, lasts_us: u64, nth: Option<u64>) -> &mut Self {
        let (phys, direction) = (0x2000_0000 + us * 64 + u64::from(task) * 0x10_0000, Direction::FromDevice);
        let slot = nth.map_or(u64::MAX, |nth| 0x8000_0000 + nth * 2048);
        let (device, size, duration_ns) = (DEVICE, 8, lasts_us * MICROSECOND);
        self.event(task, us, What::Bounced { device, dev_addr: phys, size });
        let map = What::SlotMap { device, phys, slot, size, align_mask: 0, direction, duration_ns };
        self.event(task, us + lasts_us, map);
        self.event(
            task,
            us + lasts_us,
            What::Map { device, phys, dma_addr: slot, size, direction, memory: Memory::Unknown, attrs: 0 },
        );
        self
    }

    /// A task gives a slot back, and does nothing else for so long.
    fn release(&mut self, task: u32, us: u64, lasts_us: u64, nth: u64) -> &mut Self {
        let (device, slot, size, direction) = (DEVICE, 0x8000_0000 + nth * 2048, 8, Direction::FromDevice);
        self.event(task, us, What::SlotUnmap { device, slot, size, direction });
        let unmap = What::Unmap { device, dma_addr: slot, size, direction, attrs: 0 };
        self.event(task, us + lasts_us, unmap);
        self
    }

    /// How many agree, disagree and are raced of what came after the pool was full, in a model of so many slots.
    fn verdict(&mut self, slots: u64) -> (u64, u64, u64) {
        self.0.sort_by_key(|event| event.time_ns);
        self.verdict_as_sent(slots)
    }

    /// The same, of records in the order in which they are.
    fn verdict_as_sent(&self, slots: u64) -> (u64, u64, u64) {
        let verdict = verified_with(start(slots, 1), self.0.clone(), 512, |_| {}).verdict;
        let raced = verdict.unknown_by_reason.get(&Unknown::Raced).copied().unwrap_or(0);
        assert_eq!(verdict.unknown, raced);
        (verdict.agreements, verdict.disagreements, raced)
    }
}

#[test]
fn a_model_that_is_wrong_by_one_slot_disagrees_once_for_each_refusal_or_the_last_slot() {
    let mut full = Full::new();
    for n in 0..10 {
        full.search(2, 100 * n, 5, None);
    }
    assert_eq!(full.verdict(512), (522, 0, 0));
    assert_eq!(full.verdict(513), (512, 10, 0), "one more: it finds slots where the kernel found none");
    assert_eq!(full.verdict(511), (521, 1, 0), "one less: it finds none for the last that the kernel bounced");
}

#[test]
fn a_release_during_a_search_leaves_open_what_comes_of_it() {
    let mut full = Full::new();
    full.search(2, 0, 100, None).release(3, 50, 10, 7);
    assert_eq!(full.verdict(512), (512, 0, 1));
    let mut full = Full::new();
    full.release(3, 50, 100, 7).search(2, 60, 20, Some(7));
    assert_eq!(full.verdict(512), (512, 0, 1), "it may have come too late for this one");
}

#[test]
fn a_search_during_another_that_gets_the_last_slot_leaves_open_what_comes_of_it() {
    let mut full = Full::new();
    full.release(1, 0, 5, 7).search(2, 50, 100, Some(7)).search(3, 60, 20, None);
    assert_eq!(full.verdict(512), (513, 0, 1));
}

#[test]
fn a_search_of_a_stalled_task_overlaps_however_long_it_takes() {
    let mut full = Full::new();
    full.release(1, 0, 5, 7).search(2, 50, 60_000, Some(7)).search(3, 40_000, 20, None);
    assert_eq!(full.verdict(512), (513, 0, 1));
}

#[test]
fn what_was_over_before_a_search_began_excuses_nothing() {
    let mut full = Full::new();
    full.release(3, 0, 10, 7).search(2, 20, 5, None);
    assert_eq!(full.verdict(512), (512, 1, 0));
    let mut full = Full::new();
    full.search(2, 20, 5, Some(512)).release(3, 30, 10, 7);
    assert_eq!(full.verdict(512), (512, 1, 0));
}

#[test]
fn far_from_a_full_pool_nothing_is_raced() {
    let mut full = Full::new();
    full.release(1, 0, 5, 7).release(1, 10, 5, 8).release(1, 20, 5, 9);
    full.search(2, 50, 100, Some(7)).search(3, 60, 20, Some(8)).release(1, 65, 50, 10);
    assert_eq!(full.verdict(512), (514, 0, 0));
}

#[test]
fn more_than_is_kept_of_what_overlaps_is_unknown() {
    let mut full = Full::new();
    for n in 0..65 {
        full.release(10 + n, 10, 100, u64::from(n));
    }
    full.search(2, 50, 20, None);
    assert_eq!(full.verdict(512), (512, 0, 1));
}

#[test]
fn refusals_before_the_late_record_of_a_search_are_raced() {
    let mut full = Full::new();
    full.release(1, 0, 5, 7).search(3, 100, 5, None).search(4, 200, 5, None).search(3, 8000, 5, None);
    full.0.sort_by_key(|event| event.time_ns);
    // The slot was taken at 15 us; the record of it was sent after 5 ms.
    let mut late = Full(Vec::new());
    late.search(2, 10, 5, Some(7));
    for event in &mut late.0 {
        if !matches!(event.what, What::SlotMap { .. }) {
            event.time_ns = FULL_NS + 5000 * MICROSECOND;
        }
    }
    let at = full.0.iter().position(|event| event.time_ns > FULL_NS + 5000 * MICROSECOND).unwrap();
    full.0.splice(at..at, late.0);
    assert_eq!(full.verdict_as_sent(512), (514, 0, 2), "what comes later is predicted again");
}
