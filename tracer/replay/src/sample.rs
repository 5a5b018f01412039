//! Streams made by hand, for tests: a kernel with a line of 64 bytes and a pool, one device, events one by one.

use super::{
    Wanted,
    devices::Devices,
    outcome::Outcome,
    pairing::{Everything, Pairing},
    pass::Pass,
    settings::Settings,
    step::Step,
};
use bouncescope_capture::event::{Batch, DeviceId, Direction, Event, MAPPING_ERROR, Memory, Segment, What};
use bouncescope_capture::facts::{Device, Hook, KernelFacts, PoolFacts};
use bouncescope_capture::stream::{Gaps, Item, Start};

/// The non-coherent device that every sample has.
pub(super) const DEVICE: DeviceId = DeviceId(0);
/// Between one event and the next, ns.
const TICK_NS: u64 = 1000;
/// When the recording begins, ns.
pub(super) const START_NS: u64 = 1_000_000;

/// A stream in the making.
pub(super) struct Sample {
    pub(super) start: Start,
    items: Vec<Item>,
    batch: Batch,
    now_ns: u64,
    task: u32,
    cpu: u16,
}

/// A kernel with a pool of 512 slots in one area, and every hook attached.
pub(super) fn start() -> Start {
    let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
    Start {
        time_ns: START_NS,
        kernel: KernelFacts {
            page_size: 4096,
            possible_cpus: 1,
            cache_line_size: 64,
            dma_minalign: 128,
            kmalloc_minalign: 8,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: 512, areas: 1, hiwater_reset: true, ..PoolFacts::default() },
            ..KernelFacts::default()
        },
        hooks: ["bounced", "slot_map", "slot_unmap", "map", "unmap", "map_sg", "unmap_sg"].map(hook).into(),
        ..Start::default()
    }
}

impl Sample {
    /// From [`start()`] on.
    pub(super) fn new() -> Self {
        let start = start();
        let mut sample =
            Self { start, items: Vec::new(), batch: Batch::default(), now_ns: START_NS, task: 100, cpu: 0 };
        sample.device(Device { name: "1-1".into(), driver: "usb".into(), dma_mask: u64::MAX, ..Device::default() });
        sample
    }

    /// With only these hooks.
    pub(super) fn with_hooks(subjects: &[&str]) -> Self {
        let mut sample = Self::new();
        sample.start.hooks.retain(|hook| subjects.contains(&hook.subject.name()));
        sample
    }

    /// With its device behind an IOMMU of pages of 4 KiB.
    pub(super) fn with_iommu() -> Self {
        let mut sample = Self::new();
        let Some(Item::Device(device)) = sample.items.last_mut() else { unreachable!("a sample has a device") };
        device.iommu_granule = Some(4096);
        sample
    }

    /// Describes another device, or one again.
    pub(super) fn device(&mut self, device: Device) -> DeviceId {
        self.close_batch();
        let id = DeviceId(self.items.iter().filter(|item| matches!(item, Item::Device(_))).count() as u32);
        self.items.push(Item::Device(Device { id, ..device }));
        id
    }

    /// From now on this task runs, on this CPU.
    pub(super) fn on(&mut self, task: u32, cpu: u16) -> &mut Self {
        (self.task, self.cpu) = (task, cpu);
        self
    }

    /// Time passes.
    pub(super) fn wait(&mut self, ns: u64) -> &mut Self {
        self.now_ns += ns;
        self
    }

    /// Something happens.
    pub(super) fn event(&mut self, what: What) -> &mut Self {
        self.now_ns += TICK_NS;
        self.batch.events.push(Event { time_ns: self.now_ns, task: self.task, cpu: self.cpu, what });
        self
    }

    pub(super) fn attempt(&mut self, device: DeviceId, dev_addr: u64, size: u64) -> &mut Self {
        self.event(What::Bounced { device, dev_addr, size })
    }

    /// A search for slots; [`MAPPING_ERROR`] for one that found none.
    pub(super) fn search(&mut self, device: DeviceId, phys: u64, size: u64, slot: u64) -> &mut Self {
        let direction = Direction::FromDevice;
        self.event(What::SlotMap { device, phys, slot, size, align_mask: 0, direction, duration_ns: 10 })
    }

    pub(super) fn slot_unmap(&mut self, device: DeviceId, slot: u64, size: u64) -> &mut Self {
        self.event(What::SlotUnmap { device, slot, size, direction: Direction::FromDevice })
    }

    /// Coherent memory asked for; [`MAPPING_ERROR`] where the pool had none.
    pub(super) fn coherent(&mut self, device: DeviceId, slot: u64, size: u64) -> &mut Self {
        self.event(What::CoherentAlloc { device, slot, size, duration_ns: 10 })
    }

    pub(super) fn coherent_free(&mut self, device: DeviceId, slot: u64, size: u64) -> &mut Self {
        self.event(What::CoherentFree { device, slot, size })
    }

    /// A mapping's event alone, `FROM_DEVICE`.
    pub(super) fn map(&mut self, device: DeviceId, phys: u64, dma_addr: u64, size: u64) -> &mut Self {
        self.event(What::Map {
            device,
            phys,
            dma_addr,
            size,
            direction: Direction::FromDevice,
            memory: Memory::Unknown,
            attrs: 0,
        })
    }

    pub(super) fn unmap(&mut self, device: DeviceId, dma_addr: u64, size: u64) -> &mut Self {
        self.event(What::Unmap { device, dma_addr, size, direction: Direction::FromDevice, attrs: 0 })
    }

    /// A bounce as the kernel records it: attempt, search, mapping; refused for [`MAPPING_ERROR`].
    pub(super) fn bounce(&mut self, phys: u64, size: u64, slot: u64) -> &mut Self {
        self.attempt(DEVICE, phys, size).search(DEVICE, phys, size, slot).map(DEVICE, phys, slot, size)
    }

    /// The end of a bounce: slots given back, then the event.
    pub(super) fn unbounce(&mut self, slot: u64, size: u64) -> &mut Self {
        self.slot_unmap(DEVICE, slot, size).unmap(DEVICE, slot, size)
    }

    /// A list's event alone, with segments of offset and length; `ents` 0 for one that failed.
    pub(super) fn map_sg(&mut self, device: DeviceId, list: u64, segments: &[(u32, u32)], ents: u32) -> &mut Self {
        let first_segment = self.batch.segments.len() as u32;
        self.batch.segments.extend(segments.iter().map(|&(offset, length)| Segment {
            offset,
            length,
            ..Segment::default()
        }));
        let nents = segments.len() as u32;
        let direction = Direction::FromDevice;
        self.event(What::MapSg {
            device,
            list,
            nents,
            ents,
            direction,
            attrs: 0,
            caller: 0,
            first_segment,
            segments: nents,
        })
    }

    pub(super) fn unmap_sg(&mut self, device: DeviceId, list: u64, nents: u32) -> &mut Self {
        self.event(What::UnmapSg { device, list, nents, direction: Direction::FromDevice, attrs: 0 })
    }

    /// A buffer linked at a DMA address, `FROM_DEVICE`.
    pub(super) fn link(&mut self, device: DeviceId, phys: u64, dma_addr: u64, size: u64) -> &mut Self {
        self.event(What::Link { device, phys, dma_addr, size, direction: Direction::FromDevice, attrs: 0 })
    }

    /// A range of DMA addresses unlinked.
    pub(super) fn unlink(&mut self, device: DeviceId, dma_addr: u64, size: u64) -> &mut Self {
        self.event(What::Unlink { device, dma_addr, size, direction: Direction::FromDevice, attrs: 0 })
    }

    /// Its steps, each with the devices described by then.
    pub(super) fn each_step(&mut self, mut take: impl FnMut(Step, &Devices)) -> Devices {
        self.close_batch();
        let mut devices = Devices::default();
        let mut pairing = Pairing::new(&self.start);
        for item in &self.items {
            match item {
                Item::Device(device) => devices.add(device.clone()),
                Item::Events(batch) => {
                    for event in &batch.events {
                        pairing.event(event, batch.segments(event), &mut devices, &mut Everything);
                        while let Some(step) = pairing.next_step() {
                            take(step, &devices);
                        }
                    }
                }
                _ => {}
            }
        }
        pairing.finish();
        while let Some(step) = pairing.next_step() {
            take(step, &devices);
        }
        devices
    }

    /// Its items, without the beginning.
    pub(super) fn each_item(&mut self, take: impl FnMut(&Item)) {
        self.close_batch();
        self.items.iter().for_each(take);
    }

    /// Its steps.
    pub(super) fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.each_step(|step, _| steps.push(step));
        steps
    }

    /// What becomes of it under these settings.
    pub(super) fn run(&mut self, settings: Settings) -> Outcome {
        self.close_batch();
        let wanted = Wanted { settings: vec![settings], overlaps: true, ..Wanted::default() };
        let mut pass = Pass::new(self.start.clone(), wanted);
        let mut runs = pass.runs();
        for item in self.items.clone() {
            pass.item(item, &mut |steps, devices| runs[0].steps(&steps, devices));
        }
        pass.end(&mut |steps, devices| runs[0].steps(&steps, devices));
        pass.finish(runs, Gaps::default()).outcomes.remove(0)
    }

    fn close_batch(&mut self) {
        if !self.batch.events.is_empty() {
            self.items.push(Item::Events(std::mem::take(&mut self.batch)));
        }
    }
}

/// A refusal, as `dma_addr` or slot.
pub(super) const REFUSED: u64 = MAPPING_ERROR;
