//! Whatever a capture says, replay answers, and all cores answer what one does.

mod items;

use items::Items;
use proptest::prelude::*;
use tracer::{
    event::{Batch, DeviceId, Direction, Event, Memory, Segment, What},
    facts::{
        Counters, Device, Hook, KernelFacts, LinearMap, LiveSite, LiveSites, MaintenanceFunction, MaintenanceTime,
        PoolFacts, PoolFunction, PoolSample, PoolTime, PoolTimes, RestrictedPool, RestrictedSample, SiteCount,
        SlabCache, SlabSample,
    },
    model::policy::builtins,
    replay::{
        Wanted, proposals, replay,
        settings::{Settings, WhatIf},
    },
    stream::{Item, Start},
    sweep::sweep,
};

/// Numbers at every edge, and those of which a few meet.
fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![
        4 => 0..512_u64,
        1 => any::<u64>(),
        1 => (0..64_u32).prop_map(|bit| 1 << bit),
        1 => (0..512_u64).prop_map(|below| u64::MAX - below),
        1 => (0..4096_u64).prop_map(|above| 0x4000_0000 + above),
    ]
}

fn small() -> impl Strategy<Value = u32> + Clone {
    prop_oneof![2 => 0..300_u32, 1 => any::<u32>(), 1 => (0..32_u32).prop_map(|bit| 1 << bit)]
}

fn start() -> impl Strategy<Value = Start> {
    let pool = (number(), small(), number(), any::<bool>(), any::<bool>(), prop::option::of((number(), number())));
    let pool = pool.prop_map(|(slots, areas, used_at_start, force, dynamic, own)| PoolFacts {
        // Every simulated kernel has its own: large ones are only slow.
        slots: slots % 1_000,
        areas,
        used_at_start: used_at_start % 2_000,
        force,
        dynamic,
        restricted: own
            .map(|(slots, used_at_start)| RestrictedPool { slots, used_at_start, ..Default::default() })
            .into_iter()
            .collect(),
        ..PoolFacts::default()
    });
    let map =
        prop::option::of((number(), number()).prop_map(|(virt_base, phys_base)| LinearMap { virt_base, phys_base }));
    let machine = (small(), small(), small(), small(), small(), small(), any::<bool>());
    (pool, map, machine, number(), number()).prop_map(|(pool, linear_map, machine, allocation_sample, time_ns)| {
        let (page_size, possible_cpus, cache_line_size, dma_minalign, kmalloc_minalign, struct_page_size, bounces) =
            machine;
        let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
        Start {
            kernel: KernelFacts {
                page_size,
                possible_cpus,
                cache_line_size,
                dma_minalign,
                kmalloc_minalign,
                struct_page_size,
                bounce_unaligned_kmalloc: bounces,
                pool,
                linear_map,
                ..KernelFacts::default()
            },
            hooks: ["bounced", "slot_map", "slot_unmap", "map", "unmap", "kmalloc", "kfree"].map(hook).into(),
            allocation_sample,
            time_ns,
            ..Start::default()
        }
    })
}

fn device() -> impl Strategy<Value = Device> {
    let numbers = (number(), number(), small(), prop::option::of(number()));
    (numbers, any::<[bool; 4]>()).prop_map(|((dma_mask, bus_dma_limit, min_align_mask, iommu_granule), bits)| Device {
        name: "d".into(),
        coherent: bits[0],
        untrusted: bits[1],
        force_bounce: bits[2],
        own_pool: bits[3],
        dma_mask,
        bus_dma_limit,
        min_align_mask,
        iommu_granule,
        ..Device::default()
    })
}

fn memory(number: u64) -> Memory {
    match number % 3 {
        0 => Memory::Unknown,
        1 => Memory::Pages,
        _ => Memory::object((number >> 32) as u16, (number >> 16) as u16, number as u16),
    }
}

fn what() -> impl Strategy<Value = What> {
    let direction = prop::sample::select(vec![Direction::FromDevice, Direction::ToDevice, Direction::Bidirectional]);
    (0..13_u8, 0..3_u32, [number(), number(), number(), number()], small(), small(), direction).prop_map(
        |(kind, device, [a, b, c, d], nents, ents, direction)| {
            let device = DeviceId(device);
            match kind {
                0 => What::Kmalloc { call_site: a % 4, ptr: b, bytes_req: c, bytes_alloc: d, gfp: 0 },
                1 => What::Kfree { call_site: a % 4, ptr: b },
                2 => What::Map { device, phys: a, dma_addr: b, size: c, direction, memory: memory(a), attrs: d },
                3 => What::Unmap { device, dma_addr: b, size: c, direction, attrs: d },
                4 => {
                    let (first_segment, segments) = ((a % 4) as u32, (b % 8) as u32);
                    What::MapSg {
                        device,
                        list: c,
                        nents,
                        ents,
                        direction,
                        attrs: d,
                        caller: c,
                        first_segment,
                        segments,
                    }
                }
                5 => What::UnmapSg { device, list: c, nents, direction, attrs: d },
                6 => What::Bounced { device, dev_addr: a, size: c },
                7 => What::SlotMap { device, phys: a, slot: b, size: c, align_mask: d, direction, duration_ns: a },
                8 => What::SlotUnmap { device, slot: b, size: c, direction },
                9 => What::Sync { device, dma_addr: b, size: c, direction, for_device: a % 2 == 0 },
                10 => What::Link { device, phys: a, dma_addr: b, size: c, direction, attrs: d },
                11 => What::Unlink { device, dma_addr: b, size: c, direction, attrs: d },
                _ => What::SyncSg { device, list: c, nents, direction, for_device: a % 2 == 0 },
            }
        },
    )
}

fn batch() -> impl Strategy<Value = Batch> {
    let events = prop::collection::vec((number(), 0..3_u32, any::<u16>(), what()), 0..60);
    let segments = prop::collection::vec((number(), number(), [small(), small(), small(), small()]), 12);
    (events, segments).prop_map(|(events, segments)| Batch {
        events: events.into_iter().map(|(time_ns, task, cpu, what)| Event { time_ns, task, cpu, what }).collect(),
        segments: segments
            .into_iter()
            .map(|(page, dma_addr, [offset, length, dma_len, dma_flags])| Segment {
                page,
                dma_addr,
                offset,
                length,
                dma_len,
                dma_flags,
                memory: memory(page),
            })
            .collect(),
    })
}

/// What is said besides events, twice, so that sums meet.
fn told([a, b, c, d]: [u64; 4]) -> Vec<Item> {
    let cache = SlabCache {
        name: "kmalloc-32".into(),
        size: 32,
        objects_per_slab: a as u32,
        active_objects: b,
        ..SlabCache::default()
    };
    let live = LiveSite { function: "f".into(), calls: a, bytes: b, inexact: c % 2 == 0, ..LiveSite::default() };
    let time = PoolTime { function: PoolFunction::Map, log2: a as u8, calls: b, bytes: c, total_ns: d };
    let function = MaintenanceFunction::ForCpu;
    let maintained = MaintenanceTime { function, log2: a as u8, calls: b, bytes: c, total_ns: d };
    let site = SiteCount { call_site: 1, bytes_req: a as u32, bytes_alloc: b as u32, count: c };
    let other = SiteCount { bytes_req: !(a as u32), ..site };
    let counts = |n: u64| [("map", vec![n, n]), ("kmalloc", vec![n])].map(|(kind, n)| (kind.to_owned(), n));
    let lost = [("ring_full.map".into(), vec![a, b])].into();
    vec![
        Item::Slab(SlabSample {
            time_ns: a,
            shrunk: a % 2 == 0,
            caches: vec![SlabCache { active_objects: c, ..cache.clone() }],
            live_sites: Some(LiveSites { sites: vec![live.clone(), live], left_out: d }),
        }),
        Item::Pool(PoolSample {
            time_ns: a,
            slots: b,
            used_slots: c,
            hiwater_slots: Some(d),
            restricted: vec![RestrictedSample { used_slots: d, hiwater_slots: Some(a) }],
        }),
        Item::Slab(SlabSample { time_ns: b, shrunk: a % 2 == 0, caches: vec![cache.clone(), cache], live_sites: None }),
        Item::PoolTimes(PoolTimes { time_ns: a, times: vec![time, time], maintenance: vec![maintained, maintained] }),
        Item::Sites(vec![site, other]),
        Item::Counters(Counters {
            seen: counts(d).into(),
            lost,
            predicted: a,
            tracefs_bounced: Some(b),
            ..Counters::default()
        }),
    ]
}

fn everything(start: &Start) -> Wanted {
    let settings = builtins().map(|policy| Settings::what_if(&start.kernel, &policy, &WhatIf::default())).collect();
    Wanted { settings, verdict: true, statistics: true, overlaps: true, occupancy: true, holders: true }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_facts_and_sizes_are_answered_on_one_core_as_on_all(
        start in start(),
        devices in prop::collection::vec(device(), 0..3),
        batch in batch(),
        numbers in [number(), number(), number(), number()],
    ) {
        let sample = start.allocation_sample;
        let mut items = vec![Item::Start(start)];
        items.extend((0..).zip(devices).map(|(n, device)| Item::Device(Device { id: DeviceId(n), ..device })));
        items.push(Item::Events(batch));
        items.extend(told(numbers));
        let items = Items(items.into());
        let one = replay(&mut items.clone(), everything).unwrap();
        let all = sweep(&mut items.clone(), everything).unwrap();
        prop_assert_eq!(&one.outcomes, &all.outcomes);
        prop_assert_eq!(one.outcomes.len(), builtins().count());
        let kernel = &one.start.kernel;
        prop_assert!(kernel.cache_line_size.is_power_of_two() && kernel.page_size.is_power_of_two());
        prop_assert!(one.start.allocation_sample <= sample);
        proposals::packed(&one, 8);
    }
}
