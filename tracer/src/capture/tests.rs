//! Captures as a whole: what goes in comes out; what is cut or damaged is missing, said, and never wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;
use zstd::bulk::Compressor;

use super::{
    ReadError, Reader, Writer,
    frame::{self, FILE_HEADER, Type},
};
use crate::{
    event::{Batch, DeviceId, Direction, Event, Segment, What},
    facts::{Counters, Device, End, PoolSample, SiteCount, Symbol},
    stream::{Gaps, Item, Source, Start},
};

fn write(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for item in items {
        writer.write(item).unwrap();
    }
    writer.into_inner().unwrap()
}

/// One intact frame, whatever the payload.
fn frame(kind: Type, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::encode(&mut Compressor::new(1).unwrap(), kind, sequence, payload, &mut frame).unwrap();
    frame
}

/// A frame changed, and its checksum put right again: what no accident does.
fn forge(mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut frame);
    let checksum = frame::checksum(&frame);
    frame[20..24].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn read(bytes: &[u8]) -> Result<(Vec<Item>, Gaps), ReadError> {
    let mut reader = Reader::new(bytes)?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok((items, reader.gaps()))
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..1_u64 << 40, any::<u64>()]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Bidirectional), Just(Direction::ToDevice), Just(Direction::FromDevice)]
}

fn segment() -> impl Strategy<Value = Segment> {
    (address(), address(), any::<[u32; 4]>()).prop_map(|(page, dma_addr, [offset, length, dma_len, dma_flags])| {
        Segment { page, dma_addr, offset, length, dma_len, dma_flags }
    })
}

fn what() -> impl Strategy<Value = (What, Vec<Segment>)> {
    let numbers = (address(), address(), address(), address(), any::<u32>(), any::<u32>(), direction());
    (0..9_u8, numbers, prop::collection::vec(segment(), 0..5)).prop_map(|(kind, numbers, segments)| {
        let (a, b, c, d, device, n, direction) = numbers;
        let device = DeviceId(device);
        let what = match kind {
            0 => What::Kmalloc { call_site: a, ptr: b, bytes_req: c, bytes_alloc: d, gfp: u64::from(n) },
            1 => What::Kfree { call_site: a, ptr: b },
            2 => What::Map { device, phys: a, dma_addr: b, size: c, direction, attrs: d },
            3 => What::Unmap { device, dma_addr: a, size: b, direction, attrs: c },
            4 => What::MapSg {
                device,
                list: a,
                nents: n,
                ents: n / 2,
                direction,
                attrs: b,
                first_segment: 0,
                segments: segments.len() as u32,
            },
            5 => What::UnmapSg { device, list: a, nents: n, direction, attrs: b },
            6 => What::Bounced { device, dev_addr: a, size: b },
            7 => {
                What::SlotMap { device, phys: a, slot: b, size: c, align_mask: d, direction, duration_ns: u64::from(n) }
            }
            _ => What::SlotUnmap { device, slot: a, size: b, direction },
        };
        (what, if kind == 4 { segments } else { Vec::new() })
    })
}

fn batch() -> impl Strategy<Value = Batch> {
    prop::collection::vec((address(), any::<u32>(), any::<u16>(), what()), 1..20).prop_map(|events| {
        let mut batch = Batch::default();
        for (time_ns, task, cpu, (mut what, segments)) in events {
            if let What::MapSg { first_segment, .. } = &mut what {
                *first_segment = batch.segments.len() as u32;
            }
            batch.segments.extend(segments);
            batch.events.push(Event { time_ns, task, cpu, what });
        }
        batch
    })
}

fn item() -> impl Strategy<Value = Item> {
    let text = "[ -~äß]{0,12}";
    prop_oneof![
        (any::<u64>(), text)
            .prop_map(|(time_ns, recorder)| { Item::Start(Start { time_ns, recorder, ..Start::default() }) }),
        (text, any::<bool>(), any::<Option<u64>>()).prop_map(|(name, coherent, iommu_granule)| {
            Item::Device(Device { name, coherent, iommu_granule, ..Device::default() })
        }),
        batch().prop_map(Item::Events),
        (any::<u64>(), any::<Option<u64>>()).prop_map(|(used_slots, hiwater_slots)| {
            Item::Pool(PoolSample { used_slots, hiwater_slots, ..PoolSample::default() })
        }),
        (any::<u64>(), any::<u32>()).prop_map(|(call_site, bytes_req)| {
            Item::Sites(vec![SiteCount { call_site, bytes_req, bytes_alloc: 8, count: 1 }])
        }),
        text.prop_map(|name| Item::Symbols(vec![Symbol { addr: 1, name, module: String::new() }])),
        any::<Vec<u64>>().prop_map(|lost| {
            Item::Counters(Counters { lost: BTreeMap::from([("ring_full.map".into(), lost)]), ..Counters::default() })
        }),
    ]
}

fn stream() -> impl Strategy<Value = Vec<Item>> {
    prop::collection::vec(item(), 0..8).prop_map(|mut items| {
        items.push(Item::End(End::default()));
        items
    })
}

/// Whether `part` are items of `whole`, in order.
fn is_subsequence(part: &[Item], whole: &[Item]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|item| whole.any(|other| other == item))
}

proptest! {
    #[test]
    fn what_is_written_is_read(items in stream()) {
        let (read, gaps) = read(&write(&items)).unwrap();
        prop_assert_eq!(read, items);
        prop_assert!(gaps.is_empty());
    }

    #[test]
    fn a_cut_file_gives_what_lies_before_the_cut_and_says_so(items in stream(), cut in any::<prop::sample::Index>()) {
        let bytes = write(&items);
        let cut = cut.index(bytes.len());
        match read(&bytes[..cut]) {
            Ok((read, gaps)) => {
                prop_assert!(items.starts_with(&read));
                prop_assert!(gaps.no_end);
            }
            Err(error) => prop_assert!(cut < FILE_HEADER, "{error}"),
        }
    }

    #[test]
    fn a_flipped_bit_loses_items_and_says_so_but_changes_none(
        items in stream(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = write(&items);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        match read(&bytes) {
            Ok((read, gaps)) => {
                prop_assert!(is_subsequence(&read, &items));
                prop_assert!(read.len() + 1 >= items.len(), "one frame was damaged, {} lost", items.len() - read.len());
                prop_assert!(!gaps.is_empty());
            }
            Err(error) => prop_assert!(at < FILE_HEADER, "{error}"),
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), as_frames in any::<bool>()) {
        let mut file = frame::file_header().to_vec();
        if as_frames {
            // Intact frames around nonsense: the checksum does not protect against their writer.
            for kind in 1..=8 {
                let kind = Type::from_raw(kind).unwrap();
                file.extend(frame(kind, u32::from(kind as u8) - 1, &bytes));
            }
        } else {
            file.extend(&bytes);
        }
        let (_, gaps) = read(&file).unwrap();
        prop_assert!(bytes.is_empty() || !gaps.is_empty());
    }
}

#[test]
fn frames_of_a_later_version_are_passed_over_and_counted() {
    let mut bytes = write(&[Item::Start(Start::default())]);
    bytes.extend(forge(frame(Type::End, 1, b"{}"), |later| later[4] = 77));
    bytes.extend(frame(Type::End, 2, b"{}"));
    let (items, gaps) = read(&bytes).unwrap();
    assert_eq!(items, [Item::Start(Start::default()), Item::End(End::default())]);
    assert_eq!(gaps, Gaps { unknown_frames: 1, ..Gaps::default() });
}

#[test]
fn a_frame_taken_out_whole_is_noticed() {
    let pool = |used_slots| Item::Pool(PoolSample { used_slots, ..PoolSample::default() });
    let whole = write(&[pool(1), pool(2), Item::End(End::default())]);
    let first = write(&[pool(1)]).len();
    let second = write(&[pool(1), pool(2)]).len();
    let bytes = [&whole[..first], &whole[second..]].concat();
    let (items, gaps) = read(&bytes).unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(gaps.damaged_frames, 1);
}

#[test]
fn a_payload_larger_than_its_header_says_is_not_decompressed() {
    let bomb = frame(Type::Start, 0, &vec![b' '; 8 << 20]);
    let lying = forge(bomb, |bomb| bomb[16..20].copy_from_slice(&100_u32.to_le_bytes()));
    let (items, gaps) = read(&[&frame::file_header()[..], &lying].concat()).unwrap();
    assert_eq!((items.len(), gaps.damaged_frames), (0, 1));
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let mut header = frame::file_header();
    header[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    let error = read(&header).unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains("up to 1"), "{error}");
}

#[test]
fn mappings_of_a_steady_workload_take_few_bytes() {
    // What a USB stick does: a buffer mapped, bounced, unmapped, from a few buffers, at irregular times.
    let mut events = Vec::new();
    let device = DeviceId(3);
    let direction = Direction::FromDevice;
    let mut random = 1_u64;
    for n in 0..100_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let time_ns = n * 100_000 + (random >> 48);
        let phys = 0x4000_0000 + (random >> 33) % 64 * 4096;
        let event = |what| Event { time_ns, task: 100 + (n % 3) as u32, cpu: (n % 2) as u16, what };
        events.push(event(What::Map { device, phys, dma_addr: phys, size: 512, direction, attrs: 0 }));
        events.push(event(What::Unmap { device, dma_addr: phys, size: 512, direction, attrs: 0 }));
    }
    let count = events.len();
    let bytes = write(&[Item::Events(Batch { events, segments: Vec::new() })]);
    let each = bytes.len() as f64 / count as f64;
    assert!(each <= 8.0, "{each:.2} bytes an event");
}
