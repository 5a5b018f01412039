//! Laws that the policies must obey on any stream.

mod items;

use items::Items;
use proptest::prelude::*;
use tracer::{
    event::{Batch, DeviceId, Direction, Event, Memory, What},
    facts::{
        Device, Hook, KernelFacts, LinearMap, MaintenanceFunction, MaintenanceTime, PoolFacts, PoolFunction, PoolTime,
        PoolTimes,
    },
    model::policy::{Override, PoolChoice, builtins},
    replay::{
        Replayed, Wanted,
        outcome::{Outcome, Tally},
        replay,
        settings::{Settings, WhatIf},
    },
    stream::{Item, Start},
    sweep::sweep,
};
use tracer_ebpf::decide::{ARM64_DMA_MINALIGN, Decider, size_roundup};

const VIRT: u64 = 0xffff_0000_0000_0000;
const PHYS: u64 = 0x4000_0000;
/// The first call site. Numbers below 4096 name caches.
const SITE: u64 = 0x1_0000;

/// An object, and a part of it that is mapped.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    requested: u64,
    offset: u64,
    size: u64,
    direction: Direction,
    unmapped: bool,
    freed: bool,
}

fn mapped() -> impl Strategy<Value = Mapped> {
    let direction = prop::sample::select(vec![Direction::FromDevice, Direction::ToDevice, Direction::Bidirectional]);
    let whole = prop_oneof![3 => Just(true), 1 => Just(false)];
    (1..600_u64, any::<prop::sample::Index>(), whole, direction, any::<bool>(), any::<bool>()).prop_map(
        |(requested, part, whole, direction, unmapped, freed)| {
            let offset = if whole { 0 } else { part.index(requested as usize) as u64 };
            let size = if whole { requested } else { (requested - offset).div_ceil(2) };
            Mapped { requested, offset, size, direction, unmapped, freed }
        },
    )
}

/// A kernel with caches from 8 bytes whose objects lie side by side, one device without IOMMU. No slot is ever seen taken.
fn stream(all: &[Mapped]) -> Items {
    let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
    let start = Start {
        kernel: KernelFacts {
            release: "6.12.0".into(),
            page_size: 4096,
            possible_cpus: 1,
            cache_line_size: 64,
            dma_minalign: ARM64_DMA_MINALIGN,
            kmalloc_minalign: 8,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: 32768, areas: 1, ..PoolFacts::default() },
            linear_map: Some(LinearMap { virt_base: VIRT, phys_base: PHYS }),
            ..KernelFacts::default()
        },
        hooks: ["bounced", "slot_map", "slot_unmap", "map", "unmap", "maintain_for_device", "maintain_for_cpu"]
            .map(hook)
            .into(),
        allocation_sample: 1,
        ..Start::default()
    };
    let mut next = 0;
    let mut events = Vec::new();
    for (n, one) in all.iter().enumerate() {
        let given = size_roundup(one.requested, 8);
        let align = 1 << given.trailing_zeros();
        let at = u64::next_multiple_of(next, align);
        next = at + given;
        let (ptr, phys) = (VIRT + at, PHYS + at + one.offset);
        let (device, direction, size) = (DeviceId(0), one.direction, one.size);
        let mut event = |what: What| {
            events.push(Event { time_ns: 1 + events.len() as u64, task: 1, cpu: 0, what });
        };
        event(What::Kmalloc {
            call_site: SITE + n as u64 % 3,
            ptr,
            bytes_req: one.requested,
            bytes_alloc: given,
            gfp: 0,
        });
        event(What::Map { device, phys, dma_addr: phys, size, direction, memory: Memory::Unknown, attrs: 0 });
        event(What::Sync { device, dma_addr: phys, size: size.min(4), direction, for_device: false });
        if one.unmapped {
            event(What::Unmap { device, dma_addr: phys, size, direction, attrs: 0 });
        }
        if one.freed {
            event(What::Kfree { call_site: 9, ptr });
        }
    }
    let device = Device { name: "1-1".into(), driver: "usb".into(), dma_mask: u64::MAX, ..Device::default() };
    let functions = [PoolFunction::Map, PoolFunction::Unmap, PoolFunction::SyncForCpu, PoolFunction::SyncForDevice];
    let times = functions.map(|function| PoolTime { function, log2: 3, calls: 2, bytes: 16, total_ns: 200 });
    let maintained = [MaintenanceFunction::ForDevice, MaintenanceFunction::ForCpu];
    let maintained =
        maintained.map(|function| MaintenanceTime { function, log2: 4, calls: 10, bytes: 180, total_ns: 500 });
    let times = PoolTimes { time_ns: 0, times: times.into(), maintenance: maintained.into() };
    let batch = Batch { events, segments: Vec::new() };
    Items([Item::Start(start), Item::Device(device), Item::Events(batch), Item::PoolTimes(times)].into())
}

fn everything(start: &Start) -> Wanted {
    let settings = builtins().map(|policy| Settings::what_if(&start.kernel, &policy, &WhatIf::default())).collect();
    Wanted { settings, ..Wanted::default() }
}

fn replayed(all: &[Mapped]) -> Replayed {
    replay(&mut stream(all), everything).unwrap()
}

fn named<'a>(replayed: &'a Replayed, name: &str) -> &'a Outcome {
    replayed.outcomes.iter().find(|outcome| outcome.name == name).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn exact_bounces_no_more_than_any_policy_that_leaves_nothing_certain(all in prop::collection::vec(mapped(), 1..60)) {
        let replayed = replayed(&all);
        let exact = named(&replayed, "exact");
        let known = |tally: &Tally| tally.hazards_foreign + tally.hazards_own;
        prop_assert_eq!(known(&exact.total), 0);
        for outcome in replayed.outcomes.iter().filter(|outcome| outcome.minalign == exact.minalign) {
            if known(&outcome.total) == 0 {
                prop_assert!(exact.total.bounces <= outcome.total.bounces, "{} has {}", outcome.name, outcome.total.bounces);
            }
        }
    }

    #[test]
    fn legacy_and_dynamic_and_packed_bounce_nothing(all in prop::collection::vec(mapped(), 1..40)) {
        let replayed = replayed(&all);
        for name in ["legacy", "dynamic", "packed"] {
            let outcome = named(&replayed, name);
            prop_assert_eq!((outcome.total.bounces, outcome.total.bytes_copied, outcome.peak_slots), (0, 0, 0));
        }
    }

    #[test]
    fn mainline_bounces_what_the_kernels_rule_says(all in prop::collection::vec(mapped(), 1..40)) {
        let decider = Decider { bounce_unaligned: 1, cache_line_size: 64, minalign: 8, dma_minalign: ARM64_DMA_MINALIGN };
        let by_rule = all.iter().filter(|one| decider.needs_bounce(false, one.direction as u8, one.size)).count() as u64;
        prop_assert_eq!(named(&replayed(&all), "mainline").total.bounces, by_rule);
    }

    #[test]
    fn a_rule_that_looks_at_more_bounces_more(all in prop::collection::vec(mapped(), 1..40)) {
        let replayed = replayed(&all);
        let bounces = |name: &str| named(&replayed, name).total.bounces;
        prop_assert!(bounces("mainline") <= bounces("always-small"));
        prop_assert!(bounces("start-aligned") <= bounces("start-and-length"));
        prop_assert!(bounces("length-multiple") <= bounces("length-multiple-minalign"));
        prop_assert!(bounces("length-multiple") <= bounces("start-and-length"));
        prop_assert_eq!(named(&replayed, "start-and-length").total.hazards_foreign, 0, "it leaves whole lines only");
    }

    #[test]
    fn every_buffer_that_is_written_is_bounced_or_judged(all in prop::collection::vec(mapped(), 1..40)) {
        let written = all.iter().filter(|one| one.direction != Direction::ToDevice).count() as u64;
        for outcome in &replayed(&all).outcomes {
            prop_assert!(outcome.total.bounces + outcome.total.hazards() <= written, "{}", outcome.name);
            prop_assert!(outcome.total.bounces_not_needed <= outcome.total.bounces);
        }
    }

    #[test]
    fn on_all_cores_comes_out_what_comes_out_on_one(all in prop::collection::vec(mapped(), 1..40)) {
        let parallel = sweep(&mut stream(&all), everything).unwrap();
        prop_assert_eq!(replayed(&all).outcomes, parallel.outcomes);
    }
}

const SMALL: Mapped =
    Mapped { requested: 18, offset: 0, size: 18, direction: Direction::FromDevice, unmapped: true, freed: false };

#[test]
fn cache_maintenance_is_what_was_measured_under_every_policy_that_refuses_nothing() {
    let replayed = replayed(&[SMALL, SMALL]);
    assert_eq!(replayed.cache_maintenance_ns, Some(1000));
    assert!(named(&replayed, "mainline").total.bounces > 0 && named(&replayed, "legacy").total.bounces == 0);
    for outcome in &replayed.outcomes {
        assert_eq!(outcome.cache_maintenance_ns, Some(1000), "{}", outcome.name);
    }
}

#[test]
fn a_refused_mapping_needs_no_cache_maintenance_and_what_devices_are_taken_for_leaves_it_unknown() {
    let with = |change: WhatIf| {
        let replayed = replay(&mut stream(&[SMALL, SMALL]), |start| Wanted {
            settings: builtins().map(|policy| Settings::what_if(&start.kernel, &policy, &change)).collect(),
            ..Wanted::default()
        });
        let outcome = named(&replayed.unwrap(), "always-small").clone();
        (outcome.total.failed, outcome.cache_maintenance_ns)
    };
    // Each would have been maintained once for the device and once for the CPU, 50 ns each.
    assert_eq!(with(WhatIf { pool: Some(PoolChoice::None), ..WhatIf::default() }), (2, Some(800)));
    let devices = vec![Override { name: "*".into(), coherent: Some(true), ..Override::default() }];
    assert_eq!(with(WhatIf { devices, ..WhatIf::default() }), (0, None));
}

#[test]
fn copies_are_counted_where_a_policy_bounced_and_only_there() {
    let replayed = replayed(&[SMALL]);
    // In, handed over in part, and back.
    assert_eq!(named(&replayed, "mainline").total.bytes_copied, 18 + 4 + 18);
    // Map, the sync, and an unmapping, which without an IOMMU is a sync too; 100 ns each.
    assert_eq!(named(&replayed, "mainline").pool_cpu_ns, Some(400));
    assert_eq!(named(&replayed, "legacy").pool_cpu_ns, Some(0));
}

#[test]
fn two_small_objects_in_a_line_are_a_hazard_where_neither_bounces() {
    let replayed = replayed(&[SMALL, SMALL]);
    let rows = |name: &str| named(&replayed, name).clone();
    assert_eq!(rows("mainline").total.bounces, 2);
    assert_eq!(rows("legacy").total.hazards(), 0, "each has 128 bytes of its own");
    // The second is not there yet when the first is mapped.
    assert_eq!(rows("exact").total.bounces, 1);
    assert_eq!((rows("exact").total.hazards_foreign, rows("exact").total.hazards_unknown), (0, 1));
}

#[test]
fn the_rest_of_ones_own_object_is_a_hazard_under_every_policy_without_bounces() {
    let part = Mapped { requested: 100, offset: 8, size: 40, ..SMALL };
    let replayed = replayed(&[part]);
    for name in ["legacy", "dynamic", "packed"] {
        let outcome = named(&replayed, name);
        assert_eq!((outcome.total.hazards_own, outcome.total.hazards()), (1, 1), "{name}");
    }
}

#[test]
fn lines_that_a_driver_says_it_shares_are_no_hazard_where_the_kernel_has_that_bit() {
    let hazards = |release: &str, bit: u64| {
        let mut items = stream(&[Mapped { requested: 100, offset: 8, size: 40, ..SMALL }]);
        for item in &mut items.0 {
            match item {
                Item::Start(start) => start.kernel.release = release.into(),
                Item::Events(batch) => batch.events.iter_mut().for_each(|event| {
                    if let What::Map { attrs, .. } = &mut event.what {
                        *attrs = bit;
                    }
                }),
                _ => {}
            }
        }
        named(&replay(&mut items, everything).unwrap(), "legacy").total.hazards()
    };
    assert_eq!([0, 1 << 11].map(|bit| hazards("7.2.0", bit)), [1, 0]);
    assert_eq!([0, 1 << 11].map(|bit| hazards("6.12.0", bit)), [1, 1]);
}

#[test]
fn a_mapping_is_traced_to_the_call_site_of_its_object() {
    let replayed = replayed(&[SMALL, SMALL, SMALL, SMALL]);
    let sites = &named(&replayed, "mainline").rows.by_call_site;
    let found: Vec<(&str, u64)> = sites.iter().map(|row| (row.call_site.as_str(), row.tally.bounces)).collect();
    assert_eq!(found, [("0x10000", 2), ("0x10001", 1), ("0x10002", 1)]);
}

#[test]
fn live_objects_take_more_slabs_in_larger_caches() {
    let all: Vec<Mapped> = (0..1000).map(|_| Mapped { size: 8, ..SMALL }).collect();
    let replayed = replayed(&all);
    let slabs = |name: &str| named(&replayed, name).slab_bytes.unwrap().value;
    assert_eq!((slabs("mainline"), slabs("dynamic"), slabs("legacy")), (8 * 4096, 16 * 4096, 32 * 4096));
}

#[test]
fn a_restricted_pool_bounces_all_and_is_the_devices_own() {
    let change = WhatIf { pool: Some(PoolChoice::Restricted(128)), ..WhatIf::default() };
    let long = Mapped { requested: 512, size: 512, direction: Direction::ToDevice, unmapped: false, ..SMALL };
    let outcome = replay(&mut stream(&vec![long; 130]), |start| {
        let policy = builtins().next().unwrap();
        Wanted { settings: vec![Settings::what_if(&start.kernel, &policy, &change)], ..Wanted::default() }
    })
    .unwrap()
    .outcomes
    .remove(0);
    assert_eq!((outcome.total.bounces, outcome.total.failed, outcome.peak_slots), (128, 2, 128));
    assert_eq!(outcome.bounces_by_reason["force"], 128);
}

#[test]
fn a_device_taken_to_be_coherent_is_neither_bounced_nor_unsafe() {
    let devices = vec![Override { name: "1-1".into(), coherent: Some(true), ..Override::default() }];
    let change = WhatIf { devices, ..WhatIf::default() };
    let replayed = replay(&mut stream(&[SMALL, SMALL]), |start| {
        let settings = builtins().map(|policy| Settings::what_if(&start.kernel, &policy, &change)).collect();
        Wanted { settings, ..Wanted::default() }
    })
    .unwrap();
    for outcome in &replayed.outcomes {
        assert_eq!((outcome.total.bounces, outcome.total.hazards()), (0, 0), "{}", outcome.name);
    }
}

#[test]
fn a_device_is_coherent_only_where_a_policy_says_so() {
    let part = Mapped { requested: 100, offset: 8, size: 40, ..SMALL };
    let devices = vec![Override { name: "1-1".into(), coherent: Some(true), ..Override::default() }];
    let legacy = builtins().next().unwrap();
    let replayed = replay(&mut stream(&[part]), |start| {
        let changes = [WhatIf { devices, ..WhatIf::default() }, WhatIf::default()];
        let settings = changes.iter().map(|change| Settings::what_if(&start.kernel, &legacy, change)).collect();
        Wanted { settings, ..Wanted::default() }
    })
    .unwrap();
    let hazards: Vec<u64> = replayed.outcomes.iter().map(|outcome| outcome.total.hazards()).collect();
    assert_eq!(hazards, [0, 1]);
}
