//! What is left closed in a capture's blocks changes no answer: streams replayed as they are, and from a capture of them whose blocks are opened
//! only where the question needs them, say the same in every figure.

mod items;

use std::path::PathBuf;

use items::Items;
use proptest::prelude::*;
use tracer::{
    capture::{Reader, Writer},
    event::{Batch, DeviceId, Direction, Event, MAPPING_ERROR, Memory, Segment, What},
    facts::{Device, End, Hook, KernelFacts, PoolFacts},
    model::policy::builtins,
    replay::{
        Replayed, Wanted,
        settings::{Settings, WhatIf},
    },
    report::{
        self,
        machine::{Document as _, Replay, Verify},
    },
    stream::{Gaps, Item, Source, Start},
    sweep::sweep,
};

/// Counts what came one by one, and what did not.
struct Counting<S> {
    source: S,
    given: u64,
    passed: u64,
}

impl<S: Source> Source for Counting<S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        let item = self.source.next_item()?;
        match &item {
            Some(Item::Events(batch)) => self.given += batch.events.len() as u64,
            Some(Item::Passed(passed)) => self.passed += passed.events(),
            _ => {}
        }
        Ok(item)
    }

    fn leave_out(&mut self, needs: tracer::passed::Needs) {
        self.source.leave_out(needs);
    }

    fn gaps(&self) -> Gaps {
        self.source.gaps()
    }
}

/// Everything that is printed of a replay.
fn said(replayed: &Replayed) -> Vec<String> {
    vec![
        format!("{:#}", Replay::new(replayed, None).to_json()),
        format!("{:#}", Verify::new(replayed).to_json()),
        report::replay::text(replayed, None),
        report::csv::text(replayed),
        report::verify::text(replayed),
        report::answer::answer(replayed, None, report::answer::By::default()).text,
    ]
}

/// The questions: a policy, a line size, whether the kernel is compared.
fn questions(start: &Start) -> Vec<Wanted> {
    let mut all = Vec::new();
    let mut every = Vec::new();
    for line in [None, Some(256), Some(1024)] {
        for policy in builtins() {
            let change = WhatIf { cache_line_size: line, ..WhatIf::default() };
            let mut settings = Settings::what_if(&start.kernel, &policy, &change);
            settings.name = format!("{} {line:?}", settings.name);
            every.push(settings.clone());
            let verdict = line.is_none();
            all.push(Wanted { settings: vec![settings], verdict, ..Wanted::default() });
        }
    }
    all.push(Wanted { settings: every, verdict: true, holders: true, occupancy: true, ..Wanted::default() });
    all.push(Wanted { statistics: true, ..Wanted::default() });
    all
}

/// Replays both, for every question. Events that were left out in all.
fn same(items: &[Item], file: &[u8]) -> u64 {
    let Some(Item::Start(start)) = items.iter().find(|item| matches!(item, Item::Start(_))) else { return 0 };
    let mut left_out = 0;
    for wanted in questions(start) {
        let names: Vec<_> = wanted.settings.iter().map(|one| one.name.clone()).collect();
        let whole = sweep(&mut Items(items.iter().cloned().collect()), |_| wanted.clone()).unwrap();
        let mut source = Counting { source: Reader::new(file).unwrap(), given: 0, passed: 0 };
        let parts = sweep(&mut source, |_| wanted.clone()).unwrap();
        left_out += source.passed;
        let all: usize =
            items.iter().map(|item| if let Item::Events(batch) = item { batch.events.len() } else { 0 }).sum();
        assert_eq!(source.given + source.passed, all as u64);
        for (whole, parts) in said(&whole).iter().zip(said(&parts)) {
            assert_eq!(*whole, parts, "{names:?}, {} events left out", source.passed);
        }
    }
    left_out
}

fn in_blocks(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap().blocks_from(1);
    for item in items {
        writer.write(item).unwrap();
    }
    writer.into_inner().unwrap()
}

fn read(path: &std::path::Path) -> Vec<Item> {
    let mut reader = Reader::open(path).unwrap();
    std::iter::from_fn(|| reader.next_item().unwrap()).collect()
}

#[test]
fn the_bundled_captures_say_the_same_from_blocks() {
    let mut left_out = 0;
    for name in ["7.3-direct-hold-300", "6.12-maintenance"] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../captures/{name}.bounce"));
        let items = read(&path);
        assert_eq!(same(&items, &in_blocks(&items)), 0, "{name} has objects, in which any buffer may lie");
        let unsaid: Vec<_> = items.iter().cloned().map(without_sample).collect();
        assert_eq!(same(&unsaid, &in_blocks(&unsaid)), 0, "{name} has objects that its beginning does not announce");
        let items: Vec<_> = items.into_iter().map(without_objects).collect();
        left_out += same(&items, &in_blocks(&items));
    }
    for name in ["6.12-noforce-mixed", "7.3-smmu-mixed"] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../captures/{name}.bounce"));
        let items: Vec<_> = read(&path).into_iter().map(without_objects).collect();
        left_out += same(&items, &in_blocks(&items));
    }
    assert!(left_out > 10_000, "{left_out} events were left out in all");
}

/// As of a recording that says that it has no allocations.
fn without_sample(mut item: Item) -> Item {
    if let Item::Start(start) = &mut item {
        start.allocation_sample = 0;
    }
    item
}

fn without_objects(item: Item) -> Item {
    let mut item = without_sample(item);
    if let Item::Events(batch) = &mut item {
        batch.events.retain(|event| !matches!(event.what, What::Kmalloc { .. } | What::Kfree { .. }));
    }
    item
}

fn devices() -> Vec<Device> {
    let device = |id, name: &str, coherent| Device {
        id: DeviceId(id),
        name: name.into(),
        driver: format!("driver{id}"),
        coherent,
        dma_mask: u64::MAX,
        ..Device::default()
    };
    vec![
        device(0, "usb", false),
        device(1, "nvme", true),
        device(2, "wifi", false),
        Device { iommu_granule: Some(4096), ..device(3, "gpu", false) },
        // The first one again.
        Device { min_align_mask: 511, ..device(4, "usb", false) },
        Device { dma_mask: 0x8000_2fff, ..device(5, "old", false) },
        Device { force_bounce: true, ..device(6, "wifi", false) },
    ]
}

fn start() -> Start {
    let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
    let subjects = [
        "slot_map",
        "slot_unmap",
        "bounced",
        "map",
        "map_sg",
        "map_sg_refused",
        "unmap",
        "unmap_sg",
        "sync",
        "sync_sg",
    ];
    Start {
        kernel: KernelFacts {
            release: "6.12.0".into(),
            page_size: 4096,
            possible_cpus: 2,
            cache_line_size: 64,
            dma_minalign: 128,
            kmalloc_minalign: 8,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: 64, areas: 1, ..PoolFacts::default() },
            ..KernelFacts::default()
        },
        hooks: subjects.map(hook).into(),
        ..Start::default()
    }
}

/// What the events are made of.
type Seed = [u8; 7];

const SIZES: [u64; 8] = [30, 64, 200, 256, 512, 4096, 300, 256];
const OFFSETS: [u64; 8] = [0, 0, 64, 128, 256, 2048, 8, 512];

/// Adds the events of a seed.
fn push(batch: &mut Batch, now_ns: &mut u64, [kind, device, address, size, direction, context, time]: Seed) {
    *now_ns += match time {
        0..=3 => 1_200_000_000,
        4..=9 => 300_000_000,
        10..=200 => 1_000 + u64::from(time),
        _ => 0,
    };
    let device = DeviceId([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6][usize::from(device) % 12]);
    let phys = 0x8000_0000 + u64::from(address >> 3) % 4 * 4096 + OFFSETS[usize::from(address % 8)];
    let bus = if matches!(device.0, 2 | 6) { 0x4000_0000 } else { 0 };
    let direct = phys + if device.0 == 3 { 0x1_0000_0000 } else { bus };
    let size = SIZES[usize::from(size % 8)];
    let direction = [Direction::FromDevice, Direction::ToDevice, Direction::Bidirectional][usize::from(direction) % 3];
    let (task, cpu) = [(0, 0), (0, 1), (5, 0), (6, 1)][usize::from(context) % 4];
    let slot = 0xf000_0000 + u64::from(time % 16) * 2048 + if address & 0x40 == 0 { 0 } else { phys & 2047 };
    let memory = Memory::Unknown;
    let map = |dma_addr| What::Map { device, phys, dma_addr, size, direction, memory, attrs: 0 };
    let unmap = |dma_addr| What::Unmap { device, dma_addr, size, direction, attrs: 0 };
    let bounced = What::Bounced { device, dev_addr: direct, size };
    let searched =
        |slot| What::SlotMap { device, phys, slot, size, align_mask: 0, direction, duration_ns: u64::from(time) * 10 };
    let list = 0x100 + u64::from(address % 4);
    let count = 1 + u32::from(address >> 6);
    let segment = |n: u32| Segment {
        page: u64::from(time & 1),
        dma_addr: direct + u64::from(n) * 8192,
        offset: (phys & 4095) as u32,
        length: size as u32,
        dma_len: size as u32,
        ..Segment::default()
    };
    let release = What::SlotUnmap { device, slot, size, direction };
    let for_device = time % 2 == 0;
    let list_event = |ents| What::MapSg {
        device,
        list,
        nents: count,
        ents,
        direction,
        attrs: 0,
        caller: 0x1000 + u64::from(time % 3),
        first_segment: 0,
        segments: count,
    };
    let whats = match kind {
        0..=79 => vec![map(direct)],
        80..=129 => vec![unmap(direct)],
        130..=149 => vec![bounced, searched(slot), map(slot)],
        150..=164 => vec![unmap(slot), release],
        165..=184 => vec![list_event(count)],
        185..=204 => vec![What::UnmapSg { device, list, nents: count, direction, attrs: 0 }],
        205..=212 => vec![What::Sync { device, dma_addr: direct + 16, size, direction, for_device }],
        213..=220 => vec![What::SyncSg { device, list, nents: count, direction, for_device }],
        221..=226 => vec![bounced],
        227..=230 => vec![searched(slot)],
        231..=234 => vec![release],
        235..=238 => vec![What::Link { device, phys, dma_addr: direct, size, direction, attrs: 0 }],
        239..=242 => vec![What::Unlink { device, dma_addr: direct, size: 8192, direction, attrs: 0 }],
        243..=244 => vec![searched(MAPPING_ERROR), map(MAPPING_ERROR)],
        245..=246 => vec![list_event(0)],
        247 => vec![map(direct + 4096)],
        248..=249 => {
            vec![What::Map { device, phys, dma_addr: direct, size, direction, memory: Memory::Pages, attrs: 0 }]
        }
        250..=251 => vec![What::Map { device, phys, dma_addr: direct, size, direction, memory, attrs: 1 << 10 }],
        252..=253 => vec![bounced, searched(slot), list_event(count)],
        _ => vec![map(slot)],
    };
    for mut what in whats {
        if let What::MapSg { first_segment, .. } = &mut what {
            *first_segment = batch.segments.len() as u32;
            batch.segments.extend((0..count).map(segment));
        }
        *now_ns += 50;
        batch.events.push(Event { time_ns: *now_ns, task, cpu, what });
    }
}

fn stream(batches: &[Vec<Seed>]) -> Vec<Item> {
    let mut items = vec![Item::Start(start())];
    items.extend(devices().into_iter().map(Item::Device));
    let mut now_ns = 1_000;
    for seeds in batches {
        let mut batch = Batch::default();
        for seed in seeds {
            push(&mut batch, &mut now_ns, *seed);
        }
        items.push(Item::Events(batch));
    }
    items.push(Item::End(End { time_ns: now_ns, ..End::default() }));
    items
}

/// Each replays a stream some fifty times.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]
    #[test]
    fn whatever_happens_is_said_the_same_from_blocks(
        batches in prop::collection::vec(prop::collection::vec(any::<Seed>(), 1..80), 1..4),
    ) {
        let items = stream(&batches);
        let file = in_blocks(&items);
        let mut reader = Reader::new(&file[..]).unwrap();
        let read: Vec<_> = std::iter::from_fn(|| reader.next_item().unwrap()).collect();
        prop_assert_eq!(&read, &items);
        prop_assert!(reader.gaps().is_empty());
        same(&items, &file);
    }
}

#[test]
fn a_long_stream_leaves_much_out() {
    let mut state = 7_u64;
    let mut byte = move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    let mut seed = move || {
        let mut seed: Seed = [0; 7].map(|_| byte());
        // Mostly mappings and their ends, and time that goes on as it does.
        seed[0] = if seed[0] < 230 { seed[0] % 130 } else { seed[0] };
        seed[6] = seed[6].max(10);
        seed
    };
    let batches: Vec<Vec<Seed>> = (0..20).map(|_| (0..400).map(|_| seed()).collect()).collect();
    let items = stream(&batches);
    let left_out = same(&items, &in_blocks(&items));
    assert!(left_out > 10_000, "{left_out} events were left out in all");
}
