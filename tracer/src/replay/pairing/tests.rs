//! What the kernel did, from streams small enough to be read.

use super::*;
use crate::facts::{Device, Hook, KernelFacts};

const DEVICE: DeviceId = DeviceId(0);
const BEHIND_IOMMU: DeviceId = DeviceId(1);
const FROM: Direction = Direction::FromDevice;

struct Stream {
    pairing: Pairing,
    devices: Devices,
    steps: Vec<Operation>,
    time_ns: u64,
}

impl Stream {
    fn new(hooks: &[&str]) -> Self {
        let hook = |subject: &&str| Hook { subject: (*subject).into(), attached: true, ..Hook::default() };
        let start = Start {
            hooks: hooks.iter().map(hook).collect(),
            kernel: KernelFacts { page_size: 4096, ..KernelFacts::default() },
            ..Start::default()
        };
        let mut devices = Devices::default();
        devices.add(Device { id: DEVICE, name: "usb".into(), ..Device::default() });
        devices.add(Device { id: BEHIND_IOMMU, name: "nvme".into(), iommu_granule: Some(4096), ..Device::default() });
        Self { pairing: Pairing::new(&start), devices, steps: Vec::new(), time_ns: 0 }
    }

    fn full() -> Self {
        Self::new(&["slot_map", "slot_unmap", "bounced", "map", "unmap", "map_sg", "unmap_sg"])
    }

    fn on(&mut self, task: u32, cpu: u16, what: What, segments: &[Segment]) -> &mut Self {
        self.time_ns += 1;
        let event = Event { time_ns: self.time_ns, task, cpu, what };
        self.pairing.event(&event, segments, &mut self.devices, &mut self.steps);
        self
    }

    fn event(&mut self, what: What) -> &mut Self {
        self.on(7, 0, what, &[])
    }

    fn end(&mut self) -> &[Operation] {
        self.pairing.finish(&mut self.steps);
        &self.steps
    }

    fn truths(&mut self) -> Vec<Truth> {
        let buffers = self.end().iter().filter_map(|step| match step {
            Operation::Map(mapping) => Some(&mapping.buffers),
            _ => None,
        });
        buffers.flatten().map(|buffer| buffer.truth).collect()
    }
}

fn bounced(size: u64) -> What {
    What::Bounced { device: DEVICE, dev_addr: 0, size }
}

fn slot_map(phys: u64, size: u64, slot: u64) -> What {
    What::SlotMap { device: DEVICE, phys, slot, size, align_mask: 0, direction: FROM, duration_ns: 1 }
}

fn slot_unmap(slot: u64, size: u64) -> What {
    What::SlotUnmap { device: DEVICE, slot, size, direction: FROM }
}

fn map(device: DeviceId, phys: u64, dma_addr: u64, size: u64) -> What {
    What::Map { device, phys, dma_addr, size, direction: FROM, attrs: 0 }
}

fn unmap(dma_addr: u64, size: u64) -> What {
    What::Unmap { device: DEVICE, dma_addr, size, direction: FROM, attrs: 0 }
}

fn map_sg(ents: u32, segments: u32) -> What {
    What::MapSg {
        device: DEVICE,
        list: 0x99,
        nents: segments,
        ents,
        direction: FROM,
        attrs: 0,
        first_segment: 0,
        segments,
    }
}

fn segment(offset: u32, length: u32) -> Segment {
    Segment { offset, length, ..Segment::default() }
}

#[test]
fn a_slot_found_just_before_makes_a_mapping_bounced() {
    let mut stream = Stream::full();
    stream.event(bounced(8)).event(slot_map(0x1008, 8, 0x8000)).event(map(DEVICE, 0x1008, 0x8000, 8));
    assert_eq!(stream.truths(), [Truth::Bounced]);
}

#[test]
fn without_a_slot_it_was_mapped_as_it_is() {
    let mut stream = Stream::full();
    stream.event(map(DEVICE, 0x1008, 0x1008, 8)).event(map(BEHIND_IOMMU, 0x1008, 0xffff_0008, 8));
    assert_eq!(stream.truths(), [Truth::Direct, Truth::Direct]);
}

#[test]
fn an_interrupt_in_between_claims_its_own_slot() {
    let mut stream = Stream::full();
    stream.event(slot_map(0x1008, 8, 0x8000));
    stream.event(slot_map(0x2008, 8, 0x8800)).event(map(DEVICE, 0x2008, 0x8800, 8));
    stream.event(map(DEVICE, 0x1008, 0x8000, 8)).event(map(DEVICE, 0x3008, 0x3008, 8));
    // In the order in which the slots were taken.
    let phys: Vec<u64> = stream
        .end()
        .iter()
        .map(|step| match step {
            Operation::Map(mapping) => mapping.buffers[0].phys,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(phys, [0x1008, 0x2008, 0x3008]);
    assert_eq!(stream.truths(), [Truth::Bounced, Truth::Bounced, Truth::Direct]);
}

#[test]
fn another_tasks_slot_is_not_claimed() {
    let mut stream = Stream::full();
    stream.on(1, 0, slot_map(0x1008, 8, 0x8000), &[]);
    stream.on(2, 1, map(DEVICE, 0x1008, 0x1008, 8), &[]);
    stream.on(1, 0, map(DEVICE, 0x1008, 0x8000, 8), &[]);
    let mut truths = stream.truths();
    truths.sort_by_key(|truth| *truth == Truth::Direct);
    assert_eq!(truths, [Truth::Bounced, Truth::Direct]);
}

#[test]
fn idle_tasks_of_two_cpus_are_two_tasks() {
    let mut stream = Stream::full();
    stream.on(0, 0, slot_map(0x1008, 8, 0x8000), &[]);
    stream.on(0, 1, map(DEVICE, 0x1008, 0x1008, 8), &[]);
    stream.on(0, 0, map(DEVICE, 0x1008, 0x8000, 8), &[]);
    assert_eq!(stream.truths().iter().filter(|truth| **truth == Truth::Bounced).count(), 1);
}

#[test]
fn a_mapping_error_is_a_refusal_with_or_without_a_pool() {
    let mut stream = Stream::full();
    stream.event(slot_map(0x1008, 8, MAPPING_ERROR)).event(map(DEVICE, 0x1008, MAPPING_ERROR, 8));
    stream.event(map(DEVICE, 0x2008, MAPPING_ERROR, 8));
    assert_eq!(stream.truths(), [Truth::Refused, Truth::Refused]);
}

#[test]
fn each_segment_of_a_list_claims_its_own_slot() {
    let mut stream = Stream::full();
    stream.event(slot_map(0x5010, 8, 0x8000));
    stream.on(7, 0, map_sg(3, 3), &[segment(0, 4096), segment(0x10, 8), segment(0, 4096)]);
    assert_eq!(stream.truths(), [Truth::Direct, Truth::Bounced, Truth::Direct]);
}

#[test]
fn a_refused_list_says_which_segment_it_was() {
    let mut stream = Stream::full();
    stream.event(slot_map(0x5010, 8, 0x8000)).event(slot_map(0x6020, 8, MAPPING_ERROR)).event(slot_unmap(0x8000, 8));
    stream.on(7, 0, map_sg(0, 3), &[segment(0x10, 8), segment(0x20, 8), segment(0x30, 8)]);
    assert_eq!(stream.truths(), [Truth::Bounced, Truth::Refused, Truth::NotReached]);
}

#[test]
fn slots_that_no_mapping_claims_are_told_apart() {
    let mut stream = Stream::full();
    stream.event(slot_map(0x1008, 8, 0x8000));
    assert!(matches!(stream.end(), [Operation::Orphan { device: DEVICE, size: 8, .. }]));
}

#[test]
fn an_unmapping_is_told_once_whichever_of_its_two_records_comes_first() {
    for slot_first in [true, false] {
        let mut stream = Stream::full();
        stream.event(slot_map(0x1008, 8, 0x8000)).event(map(DEVICE, 0x1008, 0x8000, 8));
        if slot_first {
            stream.event(slot_unmap(0x8000, 8)).event(unmap(0x8000, 8));
        } else {
            stream.event(unmap(0x8000, 8)).event(slot_unmap(0x8000, 8));
        }
        let unmaps = stream.end().iter().filter(|step| matches!(step, Operation::Unmap { id: 0, .. }));
        assert_eq!(unmaps.count(), 1);
        assert!(stream.pairing.lifetimes.is_empty());
    }
}

#[test]
fn slots_taken_before_the_recording_are_given_back_as_such() {
    let mut stream = Stream::full();
    stream.event(slot_unmap(0x8000, 4096));
    assert_eq!(stream.end(), [Operation::ForeignSlots { size: 4096 }]);
}

#[test]
fn with_the_event_alone_a_bounce_is_known_and_its_absence_too() {
    let mut stream = Stream::new(&["bounced"]);
    stream.event(bounced(8)).event(map(DEVICE, 0x1008, 0x8000, 8)).event(map(BEHIND_IOMMU, 0x1000, 0xf000, 4096));
    assert_eq!(stream.truths(), [Truth::Bounced, Truth::Direct]);
}

#[test]
fn without_any_hook_only_the_address_proves_something() {
    let mut stream = Stream::new(&[]);
    stream.event(map(DEVICE, 0x1008, 0x1008, 8)).event(map(BEHIND_IOMMU, 0x1008, 0xffff_0008, 8));
    assert_eq!(stream.truths(), [Truth::Direct, Truth::Unknown(Unknown::NoHook)]);
}

#[test]
fn after_a_loss_a_missing_slot_proves_nothing_but_the_address_does() {
    let mut stream = Stream::full();
    let mut lost = Counters::default();
    lost.lost.insert("ring_full.slot_map".into(), vec![0, 1]);
    stream.pairing.losses(&lost);
    stream.event(map(DEVICE, 0x1008, 0x1008, 8)).event(map(BEHIND_IOMMU, 0x1008, 0xffff_0008, 8));
    assert_eq!(stream.truths(), [Truth::Direct, Truth::Unknown(Unknown::EventsLost)]);
}

#[test]
fn a_bus_offset_is_learnt_from_what_was_mapped_as_it_is() {
    let mut stream = Stream::full();
    stream.event(map(DEVICE, 0x1000, 0xc000_1000, 4096));
    assert_eq!(stream.devices.dma_addr(DEVICE, 0x2000), 0xc000_2000);
}

#[test]
fn what_is_never_settled_waits_no_longer_than_the_window() {
    let mut stream = Stream::full();
    stream.event(slot_map(0x1008, 8, 0x8000));
    for n in 0..2 * WINDOW as u64 {
        stream.event(map(DEVICE, n * 4096, n * 4096, 4096));
    }
    assert!(stream.pairing.waiting.len() <= WINDOW && stream.steps.len() > WINDOW);
}
