//! Records of the ring as events, and what becomes of damaged ones.

use bytemuck::{Zeroable, bytes_of};
use record::NAME_LEN;

use super::*;

fn header(kind: Kind, direction: Direction) -> Header {
    Header { time_ns: 7, task: 3, cpu: 1, kind: kind as u8, direction: direction as u8 }
}

fn device(dev: u64, flags: u32) -> record::Device {
    let mut name = [b'x'; NAME_LEN];
    name[..4].copy_from_slice(b"usb\0");
    record::Device {
        header: header(Kind::Device, Direction::Bidirectional),
        dev,
        flags,
        name,
        iommu_pgsize_bitmap: 0x20_1000,
        ..record::Device::zeroed()
    }
}

fn map(dev: u64) -> record::Map {
    record::Map {
        header: header(Kind::Map, Direction::FromDevice),
        dev,
        phys: 1,
        dma_addr: 2,
        size: 8,
        attrs: 0,
        memory: 0,
    }
}

#[test]
fn a_device_described_again_gets_a_new_number() {
    let mut decoder = Decoder::new(4096, None, false);
    decoder.record(bytes_of(&device(0xd0, device_flag::COHERENT)));
    decoder.record(bytes_of(&map(0xd0)));
    decoder.record(bytes_of(&device(0xd0, device_flag::IOMMU)));
    decoder.record(bytes_of(&map(0xd0)));
    let named: Vec<_> = decoder
        .batch
        .events
        .iter()
        .map(|event| match event.what {
            What::Map { device, .. } => device.0,
            _ => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(named, [0, 1]);
    assert_eq!(decoder.new_devices[0].name, "usb");
    assert!(decoder.new_devices[0].coherent);
    assert_eq!(decoder.new_devices[0].iommu_granule, None);
    assert_eq!(decoder.new_devices[1].iommu_granule, Some(4096));
}

#[test]
fn an_event_of_a_device_whose_description_was_lost_is_kept() {
    let mut decoder = Decoder::new(4096, None, false);
    decoder.record(bytes_of(&map(0xd0)));
    assert_eq!(decoder.batch.events.len(), 1);
    assert_eq!(decoder.new_devices[0].name, "(description lost)");
}

#[test]
fn a_pool_of_its_own_is_another_than_the_default_or_a_restricted_one() {
    let own = |default_pool, pool, flags| {
        let mut decoder = Decoder::new(4096, default_pool, false);
        decoder.record(bytes_of(&record::Device { pool, ..device(0xd0, flags) }));
        decoder.new_devices[0].own_pool
    };
    assert!(!own(Some(0x100), 0x100, 0) && own(Some(0x100), 0x200, 0) && !own(Some(0x100), 0, 0));
    assert!(!own(None, 0x100, 0) && own(None, 0x200, device_flag::RESTRICTED_POOL));
}

#[test]
fn syncs_keep_their_direction_and_side() {
    let header = |kind| header(kind, Direction::ToDevice);
    let single = |for_device| record::Sync { header: header(Kind::Sync), dev: 1, dma_addr: 2, size: 8, for_device };
    let list = record::SyncSg { header: header(Kind::SyncSg), dev: 1, list: 3, nents: 2, for_device: 1 };
    let mut decoder = Decoder::new(4096, None, false);
    decoder.record(bytes_of(&single(0)));
    decoder.record(bytes_of(&single(1)));
    decoder.record(bytes_of(&list));
    let (device, direction) = (DeviceId(0), Direction::ToDevice);
    let single = |for_device| What::Sync { device, dma_addr: 2, size: 8, direction, for_device };
    let list = What::SyncSg { device, list: 3, nents: 2, direction, for_device: true };
    let whats: Vec<_> = decoder.batch.events.iter().map(|event| event.what).collect();
    assert_eq!(whats, [single(false), single(true), list]);
}

#[test]
fn links_and_ranges_unlinked_are_told_from_mappings() {
    let header = |kind| header(kind, Direction::ToDevice);
    let link = record::Map { header: header(Kind::Link), dev: 1, phys: 2, dma_addr: 3, size: 8, attrs: 4, memory: 0 };
    let unlink = record::Unmap { header: header(Kind::Unlink), dev: 1, dma_addr: 3, size: 8, attrs: 4 };
    let mut decoder = Decoder::new(4096, None, false);
    decoder.record(bytes_of(&link));
    decoder.record(bytes_of(&unlink));
    let (device, direction) = (DeviceId(0), Direction::ToDevice);
    let whats: Vec<_> = decoder.batch.events.iter().map(|event| event.what).collect();
    let link = What::Link { device, phys: 2, dma_addr: 3, size: 8, direction, attrs: 4 };
    assert_eq!(whats, [link, What::Unlink { device, dma_addr: 3, size: 8, direction, attrs: 4 }]);
}

#[test]
fn segments_follow_their_list() {
    let head = record::MapSg {
        header: header(Kind::MapSg, Direction::ToDevice),
        nents: 3,
        ents: 1,
        recorded: 2,
        ..record::MapSg::zeroed()
    };
    let segments = [8, 4096].map(|length| record::Segment { length, ..record::Segment::zeroed() });
    let bytes = [bytes_of(&head), bytes_of(&segments[0]), bytes_of(&segments[1])].concat();
    let mut decoder = Decoder::new(4096, None, false);
    decoder.record(&bytes);
    let event = decoder.batch.events[0];
    assert_eq!(decoder.batch.segments(&event).iter().map(|s| s.length).collect::<Vec<_>>(), [8, 4096]);
}

#[test]
fn records_cut_short_or_of_unknown_kind_are_counted() {
    let mut decoder = Decoder::new(4096, None, false);
    decoder.record(&bytes_of(&map(1))[..40]);
    decoder.record(&[0xff; 64]);
    decoder.record(&[]);
    assert_eq!((decoder.malformed, decoder.batch.events.len()), (3, 0));
}

#[test]
fn a_description_keeps_its_first_number_and_one_that_never_came_gets_one() {
    let mut decoder = Decoder::new(4096, None, false);
    for fingerprint in [1, 2, 1] {
        decoder.record(bytes_of(&record::Device { fingerprint, ..device(0xd0, 0) }));
    }
    let described = [1, 2, 3].map(|fingerprint| decoder.described(0xd0, fingerprint));
    assert_eq!(described, [Some(DeviceId(0)), Some(DeviceId(1)), None]);
    assert_eq!(decoder.undescribed(0xd0, 2, 0), DeviceId(1));
    assert_eq!(decoder.undescribed(0xd0, 3, 0), DeviceId(2), "the newest of that pointer");
    assert_eq!(decoder.undescribed(0xd1, 3, 0), DeviceId(3));
}

#[test]
fn a_list_is_mapped_by_what_called_the_outermost_mapping_function() {
    let (sgtable, sg, inner, driver, bpf) = (0x1000, 0x1100, 0x1200, 0x9008, 0x7000);
    let mappers = vec![sgtable..0x1100, sg..0x1200, inner..0x1300];
    let caller = |mappers: &[Range<u64>], has_returned, frames: &[u64]| {
        let mut stack = [0; record::MAX_FRAMES];
        stack[..frames.len()].copy_from_slice(frames);
        let header = header(Kind::MapSg, Direction::ToDevice);
        let mut decoder = Decoder {
            mappers: mappers.to_vec(),
            trampolines: vec![0x8000..0x8040, 0x8080..0x80c0],
            ..Decoder::new(4096, None, false)
        };
        decoder.record(bytes_of(&record::MapSg { header, has_returned, stack, ..record::MapSg::zeroed() }));
        let What::MapSg { caller, .. } = decoder.batch.events[0].what else { panic!("{:?}", decoder.batch) };
        caller
    };
    assert_eq!(caller(&mappers, 0, &[bpf, inner + 8, sg + 4, driver, 0x9999]), driver);
    assert_eq!(caller(&mappers, 0, &[bpf, inner + 8, sgtable + 4, driver]), driver);
    assert_eq!(caller(&mappers, 1, &[driver, 0x9999]), driver, "at the function's return");
    assert_eq!(caller(&mappers, 1, &[0x8000, driver]), 0, "of a kernel that shows the probe's own way back");
    assert_eq!(caller(&mappers, 0, &[bpf, sg + 4, driver, 0x9999, sgtable + 4, 0x6666]), driver, "in an interrupt");
    let through_trampoline = [bpf, inner + 8, sg + 40, 0xa000, sg + 8, driver, 0x9999];
    assert_eq!(caller(&mappers, 0, &through_trampoline), driver, "beside fexit");
    assert_eq!(caller(&mappers, 0, &[bpf, 0x9999]), 0, "beyond what is recorded of the stack");
    assert_eq!(caller(&[], 0, &[bpf, inner + 8, driver]), 0, "without kallsyms");
}

#[test]
fn devices_of_one_restricted_pool_have_its_name_in_common() {
    let mut decoder = Decoder::new(4096, Some(0x100), false);
    for (dev, pool) in [(0xd0, 0x200), (0xd1, 0x300), (0xd2, 0x200), (0xd3, 0x100)] {
        decoder.record(bytes_of(&record::Device { pool, ..device(dev, 0) }));
    }
    let pools: Vec<_> = decoder.new_devices.iter().map(|device| device.restricted_pool.as_deref()).collect();
    assert_eq!(pools, [Some("restricted pool 1"), Some("restricted pool 2"), Some("restricted pool 1"), None]);
}

#[test]
fn coherent_memory_is_taken_and_given_back() {
    let mut decoder = Decoder::new(4096, None, false);
    let memory = |kind, entry_ns| record::Coherent {
        header: header(kind, Direction::Bidirectional),
        dev: 0xd0,
        slot: 0x7000_0000,
        size: 8192,
        entry_ns,
    };
    let time_ns = memory(Kind::CoherentAlloc, 0).header.time_ns;
    decoder.record(bytes_of(&memory(Kind::CoherentAlloc, time_ns.saturating_sub(5))));
    decoder.record(bytes_of(&memory(Kind::CoherentFree, time_ns)));
    let (device, slot, size) = (DeviceId(0), 0x7000_0000, 8192);
    let whats: Vec<_> = decoder.batch.events.iter().map(|event| event.what).collect();
    let duration_ns = time_ns.min(5);
    assert_eq!(
        whats,
        [What::CoherentAlloc { device, slot, size, duration_ns }, What::CoherentFree { device, slot, size }]
    );
    assert_eq!(decoder.malformed, 0);
}
