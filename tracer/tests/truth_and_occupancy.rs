//! Streams in which the truth, or how full the pool is, is easily got wrong. Each is a kernel that did as it must, or a
//! prediction worked out by hand.

use tracer::{
    capture::{Reader, Writer},
    event::{Batch, DeviceId, Direction, Event, MAPPING_ERROR, Memory, Segment, What},
    facts::{Counters, Device, End, Hook, KernelFacts, PoolFacts, PoolSample},
    model::policy::{PoolChoice, builtin},
    replay::{
        Replayed, Wanted, replay,
        settings::{Settings, WhatIf},
    },
    stream::{Item, Start},
};

const DEVICE: DeviceId = DeviceId(0);
const SLOT: u64 = 0x8000_0000;
const PHYS: u64 = 0x10_0000;
const DIRECTION: Direction = Direction::FromDevice;

/// A stream in the making: one device without IOMMU, a pool of 512 slots, each event 1 µs after the last.
struct Stream {
    start: Start,
    device: Device,
    before: Vec<Item>,
    batch: Batch,
    hiwater: u64,
    lost: Vec<&'static str>,
    task: u32,
}

impl Stream {
    fn new() -> Self {
        let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
        let kernel = KernelFacts {
            machine: "aarch64".into(),
            page_size: 4096,
            possible_cpus: 1,
            cache_line_size: 64,
            dma_minalign: 128,
            kmalloc_minalign: 8,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: 512, areas: 1, hiwater_reset: true, ..PoolFacts::default() },
            ..KernelFacts::default()
        };
        let hooks = ["slot_map", "slot_unmap", "bounced", "map", "unmap", "map_sg", "unmap_sg"].map(hook).into();
        Self {
            start: Start { kernel, hooks, ..Start::default() },
            device: Device { name: "usb".into(), ..Device::default() },
            before: Vec::new(),
            batch: Batch::default(),
            hiwater: 0,
            lost: Vec::new(),
            task: 7,
        }
    }

    fn on(&mut self, task: u32) -> &mut Self {
        self.task = task;
        self
    }

    fn event(&mut self, what: What) -> &mut Self {
        let time_ns = 1000 * (self.batch.events.len() as u64 + 1);
        self.batch.events.push(Event { time_ns, task: self.task, cpu: 0, what });
        self
    }

    fn attempt(&mut self, phys: u64, size: u64, slot: u64) -> &mut Self {
        self.event(What::Bounced { device: DEVICE, dev_addr: phys, size });
        let direction = DIRECTION;
        self.event(What::SlotMap { device: DEVICE, phys, slot, size, align_mask: 0, direction, duration_ns: 9 })
    }

    fn map(&mut self, phys: u64, dma_addr: u64, size: u64) -> &mut Self {
        self.event(What::Map {
            device: DEVICE,
            phys,
            dma_addr,
            size,
            direction: DIRECTION,
            memory: Memory::Unknown,
            attrs: 0,
        })
    }

    fn bounce(&mut self, phys: u64, size: u64, slot: u64) -> &mut Self {
        self.attempt(phys, size, slot).map(phys, slot, size)
    }

    fn slot_unmap(&mut self, slot: u64, size: u64) -> &mut Self {
        self.event(What::SlotUnmap { device: DEVICE, slot, size, direction: DIRECTION })
    }

    fn unmap(&mut self, dma_addr: u64, size: u64, attrs: u64) -> &mut Self {
        self.event(What::Unmap { device: DEVICE, dma_addr, size, direction: DIRECTION, attrs })
    }

    fn map_sg(&mut self, list: u64, segments: &[(u32, u32)], ents: u32) -> &mut Self {
        let first_segment = self.batch.segments.len() as u32;
        let segment = |&(offset, length): &(u32, u32)| Segment { offset, length, ..Segment::default() };
        self.batch.segments.extend(segments.iter().map(segment));
        let nents = segments.len() as u32;
        self.event(What::MapSg {
            device: DEVICE,
            list,
            nents,
            ents,
            direction: DIRECTION,
            attrs: 0,
            caller: 0,
            first_segment,
            segments: nents,
        })
    }

    fn replayed(&mut self, settings: impl FnOnce(&Start) -> Vec<Settings>) -> Replayed {
        let mut counters = Counters::default();
        for event in &self.batch.events {
            counters.seen.entry(event.what.kind().name().into()).or_insert_with(|| vec![0])[0] += 1;
        }
        counters.lost = self.lost.iter().map(|&name| (name.into(), vec![1])).collect();
        let sample = PoolSample { slots: 512, hiwater_slots: Some(self.hiwater), ..PoolSample::default() };
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.write(&Item::Start(self.start.clone())).unwrap();
        writer.write(&Item::Device(self.device.clone())).unwrap();
        for item in self.before.drain(..) {
            writer.write(&item).unwrap();
        }
        for item in [
            Item::Events(std::mem::take(&mut self.batch)),
            Item::Pool(sample),
            Item::Counters(counters),
            Item::End(End::default()),
        ] {
            writer.write(&item).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let wanted =
            |start: &Start| Wanted { settings: settings(start), verdict: true, statistics: false, ..Wanted::default() };
        replay(&mut Reader::new(&bytes[..]).unwrap(), wanted).unwrap()
    }

    fn verified(&mut self) -> Replayed {
        self.replayed(|_| Vec::new())
    }

    fn under(&mut self, policy: &str, change: &WhatIf) -> tracer::replay::outcome::Outcome {
        self.replayed(|start| vec![Settings::what_if(&start.kernel, &builtin(policy).unwrap(), change)])
            .outcomes
            .remove(0)
    }
}

#[test]
fn an_attempt_without_mapping_event_does_not_make_a_later_mapping_of_that_length_bounced() {
    let mut stream = Stream::new();
    // dma_iova_link() and the like: slots, and no mapping event. Later the same task maps as many bytes, to the device.
    stream.attempt(PHYS, 8, SLOT).slot_unmap(SLOT, 8);
    stream.event(What::Map {
        device: DEVICE,
        phys: 0x20_0008,
        dma_addr: 0x20_0008,
        size: 8,
        direction: Direction::ToDevice,
        memory: Memory::Unknown,
        attrs: 0,
    });
    let verdict = stream.verified().verdict;
    assert_eq!((verdict.disagreements, verdict.agreements), (0, 1), "{:?}", verdict.differences);
}

#[test]
fn slots_taken_without_mapping_event_fill_the_pool() {
    let mut stream = Stream::new();
    stream.attempt(PHYS, 8, SLOT).bounce(0x20_0000, 8, SLOT + 2048);
    assert_eq!(stream.verified().verdict.peak_slots_predicted, 2);
}

#[test]
fn a_list_s_segments_take_their_slots_each_at_its_own_moment() {
    let mut stream = Stream::new();
    stream.hiwater = 2;
    // Two tasks: the list's first slot, then another task's mapping comes and goes, then the list's second slot.
    stream.on(1).attempt(PHYS, 8, SLOT);
    stream.on(2).bounce(0x20_0000, 8, SLOT + 2048);
    stream.on(2).slot_unmap(SLOT + 2048, 8).unmap(SLOT + 2048, 8, 0);
    stream.on(1).attempt(PHYS + 0x1040, 8, SLOT + 2048).map_sg(0x99, &[(0, 8), (0x40, 8)], 2);
    let verdict = stream.verified().verdict;
    assert_eq!((verdict.peak_slots_predicted, verdict.problems.len()), (2, 0), "{:?}", verdict.problems);
    let mut overlapping = Stream::new();
    overlapping.hiwater = 3;
    // The first slot and two of the other task at once; the second slot only after those were given back.
    overlapping.on(1).attempt(PHYS, 8, SLOT);
    overlapping.on(2).bounce(0x20_0000, 8, SLOT + 2048).bounce(0x20_0100, 8, SLOT + 4096);
    for slot in [SLOT + 2048, SLOT + 4096] {
        overlapping.on(2).slot_unmap(slot, 8).unmap(slot, 8, 0);
    }
    overlapping.on(1).attempt(PHYS + 0x1040, 8, SLOT + 2048).map_sg(0x99, &[(0, 8), (0x40, 8)], 2);
    let verdict = overlapping.verified().verdict;
    assert_eq!((verdict.peak_slots_predicted, verdict.problems.len()), (3, 0), "{:?}", verdict.problems);
}

#[test]
fn a_list_gives_back_its_slots_each_at_its_own_moment() {
    let mut stream = Stream::new();
    stream.hiwater = 3;
    stream.on(1).attempt(PHYS, 8, SLOT).attempt(PHYS + 0x1040, 8, SLOT + 2048);
    stream.map_sg(0x99, &[(0, 8), (0x40, 8)], 2);
    // The first slot is given back; two mappings of another task come before the second is.
    stream.on(1).slot_unmap(SLOT, 8);
    stream.on(2).bounce(0x20_0000, 8, SLOT).bounce(0x20_0100, 8, SLOT + 4096);
    stream.on(1).slot_unmap(SLOT + 2048, 8);
    let verdict = stream.verified().verdict;
    assert_eq!((verdict.peak_slots_predicted, verdict.problems.len()), (3, 0), "{:?}", verdict.problems);
}

#[test]
fn an_unmapping_event_before_the_slots_are_given_back_does_not_free_them_early() {
    let mut stream = Stream::new();
    stream.hiwater = 2;
    stream.on(1).bounce(PHYS, 8, SLOT).unmap(SLOT, 8, 0);
    stream.on(2).bounce(0x20_0000, 8, SLOT + 2048);
    stream.on(1).slot_unmap(SLOT, 8);
    let verdict = stream.verified().verdict;
    assert_eq!((verdict.peak_slots_predicted, verdict.problems.len()), (2, 0), "{:?}", verdict.problems);
}

#[test]
fn a_loss_counted_after_a_mapping_is_a_loss_for_it_too() {
    let mut stream = Stream::new();
    stream.device.iommu_granule = Some(4096);
    // Bounced in truth: both records were lost, as the counters say when they are read the next time.
    stream.lost = vec!["ring_full.slot_map", "ring_full.bounced"];
    stream.map(PHYS + 8, 0xffff_f008, 8);
    let verdict = stream.verified().verdict;
    assert_eq!((verdict.disagreements, verdict.unknown), (0, 1), "{:?}", verdict.differences);
}

#[test]
fn the_other_witness_is_enough_when_only_one_lost_something() {
    let mut stream = Stream::new();
    stream.device.iommu_granule = Some(4096);
    let counters = Counters { lost: [("missed.slot_map_return".into(), vec![1])].into(), ..Counters::default() };
    stream.before = vec![Item::Counters(counters)];
    stream.lost = vec!["missed.slot_map_return"];
    // No `swiotlb_bounced` was lost, and there was none.
    stream.map(PHYS, 0xffff_f000, 4096);
    let verdict = stream.verified().verdict;
    assert_eq!((verdict.agreements, verdict.unknown), (1, 0));
}

#[test]
fn force_goes_with_the_pool() {
    let mut stream = Stream::new();
    stream.start.kernel.pool.force = true;
    // `swiotlb=force` shows in every device's pool.
    stream.device.force_bounce = true;
    stream.bounce(PHYS, 4096, SLOT);
    let none = WhatIf { pool: Some(PoolChoice::None), ..WhatIf::default() };
    let outcome = stream.under("mainline", &none);
    assert_eq!((outcome.total.bounces, outcome.total.failed), (0, 0), "{:?}", outcome.failed_by_reason);
}

#[test]
fn what_the_unmapping_says_decides_whether_bytes_are_copied_back() {
    const SKIP_CPU_SYNC: u64 = 1 << 5;
    let mut stream = Stream::new();
    stream.bounce(PHYS, 8, SLOT).slot_unmap(SLOT, 8).unmap(SLOT, 8, SKIP_CPU_SYNC);
    assert_eq!(stream.under("mainline", &WhatIf::default()).total.bytes_copied, 8);
}

#[test]
fn of_two_mappings_of_one_buffer_the_older_ends_first() {
    let mut stream = Stream::new();
    // Under a line of 128 both bounce; in truth neither did, and the second unmapping never comes.
    stream.map(PHYS, PHYS, 48).map(PHYS, PHYS, 48).unmap(PHYS, 48, 0);
    let longer = WhatIf { cache_line_size: Some(128), ..WhatIf::default() };
    assert_eq!(stream.under("mainline", &longer).peak_slots, 2);
}

#[test]
fn a_refused_list_is_counted_by_both_sides_when_there_is_no_pool_to_ask() {
    let mut stream = Stream::new();
    stream.start.kernel.pool = PoolFacts::default();
    stream.device.dma_mask = 0xffff;
    stream.map(PHYS, MAPPING_ERROR, 4096);
    let verdict = stream.verified().verdict;
    assert_eq!((verdict.failed_predicted, verdict.failed_kernel, verdict.disagreements), (1, 1, 0));
}

#[test]
fn slots_held_from_before_are_given_back_by_granules_behind_an_iommu() {
    let mut stream = Stream::new();
    stream.device.iommu_granule = Some(4096);
    stream.start.kernel.pool.used_at_start = 2;
    // 8 bytes from before the recording: one granule, two slots.
    stream.slot_unmap(0x9000_0000, 8);
    stream.event(What::Bounced { device: DEVICE, dev_addr: PHYS, size: 8 });
    stream.event(What::SlotMap {
        device: DEVICE,
        phys: PHYS,
        slot: SLOT,
        size: 8,
        align_mask: 4095,
        direction: DIRECTION,
        duration_ns: 9,
    });
    stream.map(PHYS, 0xffff_f000, 8);
    assert_eq!(stream.verified().verdict.peak_slots_predicted, 2);
}

#[test]
fn nothing_bounced_means_no_peak_whatever_was_in_use_before() {
    let mut stream = Stream::new();
    stream.start.kernel.pool.used_at_start = 3;
    // The kernel's mark is lifted by a mapping, and none came after it was reset.
    stream.hiwater = 0;
    stream.map(PHYS, PHYS, 4096);
    let verdict = stream.verified().verdict;
    assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
}

#[test]
fn bounces_of_a_list_that_fails_are_bounces_all_the_same() {
    let mut stream = Stream::new();
    stream.start.kernel.pool.slots = 128;
    stream.hiwater = 128;
    for n in 0..127 {
        stream.bounce(PHYS + n * 4096, 8, SLOT + n * 2048);
    }
    let last = SLOT + 127 * 2048;
    stream.attempt(0x5000_0010, 8, last).attempt(0x5000_1020, 8, MAPPING_ERROR).slot_unmap(last, 8);
    stream.map_sg(0x99, &[(0x10, 8), (0, 4096), (0x20, 8), (0x30, 8)], 0);
    let verdict = stream.verified().verdict;
    assert!(verdict.agrees(), "{:?} {:?}", verdict.problems, verdict.differences);
    assert_eq!((verdict.failed_predicted, verdict.failed_kernel), (1, 1));
    assert_eq!((verdict.bounces_predicted, verdict.bounces_kernel), (128, 128));
}
