//! Streams made up of few devices and few buffers, so that slots, mappings and unmappings meet; and now and then of anything.

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use tracer::event::{Batch, DeviceId, Direction, Event, MAPPING_ERROR, Memory, Segment, UNKNOWN_PHYS, What};
use tracer::facts::{
    Counters, Device, End, Hook, KernelFacts, LengthCount, LinearMap, Mapped, PoolFacts, PoolFunction, PoolSample,
    PoolTime, PoolTimes, RestrictedPool, SiteCount, SlabCache, SlabSample, SlotRule,
};
use tracer::stream::{Item, Start, Streamed};

/// A number: mostly one of few.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Number {
    Near(u8),
    Page(u8),
    Wild(u64),
    Most,
    Unknown(u8),
}

impl Number {
    /// An address: buffers lie near each other.
    fn address(self) -> u64 {
        match self {
            Self::Near(n) => 0x8000_0000 + u64::from(n) * 8,
            Self::Page(n) => 0x8000_0000 + u64::from(n) * 4096,
            Self::Unknown(n) => UNKNOWN_PHYS | (u64::from(n) * 8),
            Self::Wild(n) => n,
            Self::Most => MAPPING_ERROR,
        }
    }

    /// A length, a count, a span of time.
    fn amount(self) -> u64 {
        match self {
            Self::Near(n) | Self::Unknown(n) => u64::from(n),
            Self::Page(n) => u64::from(n) * 4096,
            Self::Wild(n) => n,
            Self::Most => u64::MAX,
        }
    }
}

/// What happens.
#[derive(Arbitrary, Debug)]
pub enum Act {
    Map { buffer: Number, dma: Option<Number>, size: Number, attrs: u8 },
    Unmap { dma: Number, size: Number },
    MapSg { list: u8, ents: Number, missing: u8, segments: Vec<(Number, Number, Number)> },
    UnmapSg { list: u8, nents: u8 },
    Bounced { addr: Number, size: Number },
    SlotMap { buffer: Number, slot: Number, size: Number, mask: Number },
    SlotUnmap { slot: Number, size: Number },
    Coherent { slot: Number, size: Number, is_freed: bool },
    Kmalloc { site: u8, object: Number, asked: Number, given: Number },
    Kfree { object: Number },
    Sync { dma: Number, size: Number },
    SyncSg { list: u8, nents: Number },
    Link { buffer: Number, dma: Number, size: Number, attrs: u8 },
    Unlink { dma: Number, size: Number },
}

/// One item of the stream.
#[derive(Arbitrary, Debug)]
pub enum Part {
    /// Time passed, the CPU and its task, the device, the direction, and what happens.
    Events(Vec<(Number, u8, u8, u8, Act)>),
    Device {
        id: u8,
        flags: u8,
        mask: Number,
        align: Number,
        granule: Option<Number>,
    },
    Pool {
        slots: Number,
        used: Number,
        hiwater: Option<Number>,
    },
    Sites(Vec<(u8, Number, Number, Number)>),
    Lengths(Vec<(u8, u8, Number, Number, Number)>),
    Slab(Vec<(u8, [Number; 6])>),
    PoolTimes(Vec<(u8, u8, Number, Number, Number)>),
    Counters {
        seen: Number,
        lost: Number,
        predicted: Number,
        linked: Number,
    },
    End {
        detach: Number,
    },
}

/// A whole stream.
#[derive(Arbitrary, Debug)]
pub struct Stream {
    line: u8,
    minalign: u8,
    dma_minalign: u8,
    page_size: u8,
    flags: u8,
    slots: Number,
    areas: u8,
    used_at_start: Number,
    cpus: Number,
    memory: Number,
    sample: u8,
    hooks: u16,
    time: Number,
    parts: Vec<Part>,
}

impl Stream {
    /// Its items.
    pub fn items(self) -> Vec<Item> {
        let mut time_ns = self.time.amount();
        let mut items = vec![Item::Start(self.start())];
        for part in self.parts {
            items.push(item(part, &mut time_ns));
        }
        items
    }

    fn start(&self) -> Start {
        let flag = |bit: u8| self.flags & 1 << bit != 0;
        let power = |n: u8| 1_u32.checked_shl(u32::from(n % 34)).unwrap_or(0);
        let pool = PoolFacts {
            slots: self.slots.amount(),
            areas: power(self.areas).wrapping_add(u32::from(self.areas / 34)),
            force: flag(0),
            dynamic: flag(1),
            used_at_start: self.used_at_start.amount(),
            hiwater_reset: flag(2),
            slot_rule: if flag(3) { SlotRule::CallerAligned } else { SlotRule::PoolAligned },
            restricted: if flag(4) {
                vec![RestrictedPool { name: "own".into(), slots: self.cpus.amount(), used_at_start: 1 }]
            } else {
                Vec::new()
            },
            start: flag(3).then(|| self.used_at_start.amount()),
        };
        let subjects = ["map", "unmap", "map_sg", "unmap_sg", "bounced", "slot_map", "slot_unmap", "kmalloc", "kfree"];
        let hook = |(n, subject): (usize, &str)| Hook {
            subject: subject.into(),
            attached: self.hooks & 1 << n != 0,
            ..Hook::default()
        };
        Start {
            time_ns: self.time.amount(),
            kernel: KernelFacts {
                release: if flag(5) { "6.12.1" } else { "7.3.0" }.to_owned(),
                machine: "aarch64".to_owned(),
                page_size: power(self.page_size),
                possible_cpus: self.cpus.amount() as u32,
                memory: self.memory.amount(),
                cache_line_size: power(self.line),
                dma_minalign: power(self.dma_minalign),
                kmalloc_minalign: power(self.minalign),
                bounce_unaligned_kmalloc: flag(6),
                pool,
                linear_map: flag(7).then_some(LinearMap { virt_base: 0x8000_0000, phys_base: 0x8000_0000 }),
                struct_page_size: 64,
                vmemmap: flag(7).then_some(0),
                ..KernelFacts::default()
            },
            hooks: subjects.into_iter().enumerate().map(hook).collect(),
            allocation_sample: u64::from(self.sample),
            streamed: Streamed::ALL[usize::from(self.sample) % Streamed::ALL.len()],
            ..Start::default()
        }
    }
}

fn item(part: Part, time_ns: &mut u64) -> Item {
    match part {
        Part::Events(events) => {
            let mut batch = Batch::default();
            for (passed, cpu, device, direction, act) in events {
                *time_ns = time_ns.wrapping_add(passed.amount());
                let about = (DeviceId(u32::from(device % 4)), direction_of(direction));
                let what = what(act, about, &mut batch.segments);
                batch.events.push(Event { time_ns: *time_ns, task: u32::from(cpu), cpu: u16::from(cpu % 4), what });
            }
            Item::Events(batch)
        }
        Part::Device { id, flags, mask, align, granule } => {
            let flag = |bit: u8| flags & 1 << bit != 0;
            Item::Device(Device {
                id: DeviceId(u32::from(id)),
                name: format!("device{}", id % 4),
                driver: if flag(0) { "driver".into() } else { String::new() },
                coherent: flag(1),
                untrusted: flag(2),
                force_bounce: flag(3),
                own_pool: flag(4),
                dma_mask: mask.amount(),
                min_align_mask: align.amount() as u32,
                max_segment_size: flag(5).then(|| align.amount() as u32),
                segment_boundary_mask: flag(6).then(|| mask.amount()),
                iommu_granule: granule.map(Number::amount),
                time_ns: *time_ns,
                ..Device::default()
            })
        }
        Part::Pool { slots, used, hiwater } => Item::Pool(PoolSample {
            time_ns: *time_ns,
            slots: slots.amount(),
            used_slots: used.amount(),
            hiwater_slots: hiwater.map(Number::amount),
            restricted: Vec::new(),
        }),
        Part::Sites(sites) => Item::Sites(
            sites
                .into_iter()
                .map(|(site, asked, given, count)| SiteCount {
                    call_site: u64::from(site),
                    bytes_req: asked.amount() as u32,
                    bytes_alloc: given.amount() as u32,
                    count: count.amount(),
                })
                .collect(),
        ),
        Part::Lengths(lengths) => Item::Lengths(
            lengths
                .into_iter()
                .map(|(device, kind, length, count, bytes)| LengthCount {
                    device: DeviceId(u32::from(device % 4)),
                    direction: direction_of(kind),
                    mapped: [Mapped::Single, Mapped::Segment, Mapped::List][usize::from(kind / 4 % 3)],
                    length: length.amount() as u32,
                    count: count.amount(),
                    bytes: bytes.amount(),
                })
                .collect(),
        ),
        Part::Slab(caches) => Item::Slab(SlabSample {
            time_ns: *time_ns,
            caches: caches.into_iter().map(cache).collect(),
            shrunk: false,
            live_sites: None,
        }),
        Part::PoolTimes(times) => Item::PoolTimes(PoolTimes {
            time_ns: *time_ns,
            times: times
                .into_iter()
                .map(|(function, log2, calls, bytes, total)| PoolTime {
                    function: [
                        PoolFunction::Map,
                        PoolFunction::Unmap,
                        PoolFunction::SyncForCpu,
                        PoolFunction::SyncForDevice,
                    ][usize::from(function % 4)],
                    log2,
                    calls: calls.amount(),
                    bytes: bytes.amount(),
                    total_ns: total.amount(),
                })
                .collect(),
            maintenance: Vec::new(),
        }),
        Part::Counters { seen, lost, predicted, linked } => Item::Counters(Counters {
            time_ns: *time_ns,
            seen: [("map".into(), vec![seen.amount(), 1])].into(),
            lost: [("ring_full.map".into(), vec![lost.amount(), 1]), ("sites_full".into(), vec![lost.amount()])].into(),
            predicted: predicted.amount(),
            linked: linked.amount(),
            linked_bytes: linked.amount(),
            tracefs_bounced: Some(predicted.amount()),
        }),
        Part::End { detach } => {
            Item::End(End { time_ns: *time_ns, detach_began_ns: detach.amount(), ..End::default() })
        }
    }
}

fn cache((name, numbers): (u8, [Number; 6])) -> SlabCache {
    const NAMES: [&str; 6] =
        ["kmalloc-8", "kmalloc-64", "kmalloc-cg-64", "dma-kmalloc-1k", "kmalloc-rnd-01-96", "kmalloc-8k"];
    let [size, objects_per_slab, pages_per_slab, active, objects, slabs] = numbers.map(Number::amount);
    SlabCache {
        name: NAMES[usize::from(name) % NAMES.len()].to_owned(),
        size: size as u32,
        objects_per_slab: objects_per_slab as u32,
        pages_per_slab: pages_per_slab as u32,
        active_objects: active,
        objects,
        slabs,
        cpu_slabs: (name & 0x80 != 0).then_some(slabs),
        sheaf_capacity: u64::from(name / 6),
    }
}

fn direction_of(n: u8) -> Direction {
    Direction::from_raw(n % 3).unwrap_or_default()
}

/// What a buffer lies in; the size of its object and its place in it follow from the number too.
fn memory(number: impl Into<u64>) -> Memory {
    match number.into() {
        number @ 0..8 => [Memory::Unknown, Memory::Pages][number as usize % 2],
        number => Memory::object((number * 300) as u16 & Memory::LAST_CACHE, 8 << (number % 8), number as u16 % 8),
    }
}

fn what(act: Act, (device, direction): (DeviceId, Direction), all: &mut Vec<Segment>) -> What {
    match act {
        Act::Map { buffer, dma, size, attrs } => What::Map {
            device,
            phys: buffer.address(),
            dma_addr: dma.unwrap_or(buffer).address(),
            size: size.amount(),
            direction,
            memory: memory(attrs),
            attrs: u64::from(attrs),
        },
        Act::Unmap { dma, size } => {
            What::Unmap { device, dma_addr: dma.address(), size: size.amount(), direction, attrs: 0 }
        }
        Act::MapSg { list, ents, missing, segments } => {
            let first_segment = all.len() as u32;
            all.extend(segments.iter().map(|(page, length, dma)| Segment {
                page: page.address(),
                dma_addr: dma.address(),
                offset: 0,
                length: length.amount() as u32,
                dma_len: length.amount() as u32,
                dma_flags: 0,
                memory: Memory::Unknown,
            }));
            What::MapSg {
                device,
                list: u64::from(list),
                nents: segments.len() as u32 + u32::from(missing),
                ents: ents.amount() as u32,
                direction,
                attrs: 0,
                caller: u64::from(list) % 3,
                first_segment,
                segments: segments.len() as u32,
            }
        }
        Act::UnmapSg { list, nents } => {
            What::UnmapSg { device, list: u64::from(list), nents: u32::from(nents), direction, attrs: 0 }
        }
        Act::Bounced { addr, size } => What::Bounced { device, dev_addr: addr.address(), size: size.amount() },
        Act::SlotMap { buffer, slot, size, mask } => What::SlotMap {
            device,
            phys: buffer.address(),
            slot: slot.address(),
            size: size.amount(),
            align_mask: mask.amount(),
            direction,
            duration_ns: size.amount(),
        },
        Act::SlotUnmap { slot, size } => {
            What::SlotUnmap { device, slot: slot.address(), size: size.amount(), direction }
        }
        Act::Coherent { slot, size, is_freed: true } => {
            What::CoherentFree { device, slot: slot.address(), size: size.amount() }
        }
        Act::Coherent { slot, size, is_freed: false } => {
            What::CoherentAlloc { device, slot: slot.address(), size: size.amount(), duration_ns: size.amount() }
        }
        Act::Kmalloc { site, object, asked, given } => What::Kmalloc {
            call_site: u64::from(site),
            ptr: object.address(),
            bytes_req: asked.amount(),
            bytes_alloc: given.amount(),
            gfp: 0,
        },
        Act::Kfree { object } => What::Kfree { call_site: 0, ptr: object.address() },
        Act::Sync { dma, size } => {
            What::Sync { device, dma_addr: dma.address(), size: size.amount(), direction, for_device: true }
        }
        Act::Link { buffer, dma, size, attrs } => What::Link {
            device,
            phys: buffer.address(),
            dma_addr: dma.address(),
            size: size.amount(),
            direction,
            attrs: u64::from(attrs),
        },
        Act::Unlink { dma, size } => {
            What::Unlink { device, dma_addr: dma.address(), size: size.amount(), direction, attrs: 0 }
        }
        Act::SyncSg { list, nents } => {
            What::SyncSg { device, list: u64::from(list), nents: nents.amount() as u32, direction, for_device: false }
        }
    }
}
