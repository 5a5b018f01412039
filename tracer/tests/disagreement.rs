//! `verify` must be able to fail: streams in which the kernel did something else than the model says.

use std::collections::BTreeMap;

use tracer::{
    capture::{Reader, Writer},
    event::{Batch, DeviceId, Direction, Event, What},
    facts::{Counters, Device, End, Hook, KernelFacts, PoolFacts, PoolSample},
    replay::{Replayed, Wanted, replay},
    stream::{Item, Start},
};

const DEVICE: DeviceId = DeviceId(0);

fn start() -> Item {
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
            pool: PoolFacts { slots: 512, areas: 2, hiwater_reset: true, ..PoolFacts::default() },
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
            events.push(What::SlotMap { device: DEVICE, phys, slot, size, align_mask: 0, direction, duration_ns: 9 });
        }
        events.push(What::Map { device: DEVICE, phys, dma_addr, size, direction, attrs: 0 });
    }
    events
}

/// Writes a capture of these events, on a kernel whose counters are right but for `change`, and replays it.
fn verified(events: Vec<What>, hiwater: u64, change: impl FnOnce(&mut Counters)) -> Replayed {
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in &events {
        seen.entry(event.kind().name().into()).or_insert_with(|| vec![0])[0] += 1;
    }
    let mut counters = Counters { seen, ..Counters::default() };
    change(&mut counters);
    let event = |(n, what)| Event { time_ns: n as u64, task: 7, cpu: 0, what };
    let events = events.into_iter().enumerate().map(event).collect();
    let sample = PoolSample { slots: 512, hiwater_slots: Some(hiwater), ..PoolSample::default() };
    let mut writer = Writer::new(Vec::new()).unwrap();
    for item in [
        start(),
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
fn a_record_neither_in_the_capture_nor_reported_lost_disagrees() {
    let verdict = verified(held(8, true, 2), 2, |counters| counters.seen.get_mut("map").unwrap()[0] += 1).verdict;
    assert!(verdict.problems.iter().any(|problem| problem.starts_with("map: ")), "{:?}", verdict.problems);
    let reported = verified(held(8, true, 2), 2, |counters| {
        counters.seen.get_mut("map").unwrap()[0] += 1;
        counters.lost.insert("ring_full.map".into(), vec![1]);
    });
    assert!(reported.verdict.agrees(), "{:?}", reported.verdict.problems);
}
