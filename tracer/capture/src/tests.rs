//! Captures as a whole, for arbitrary streams: what goes in comes out; what is cut or damaged is missing, said, and never
//! wrong. Particular damage, files and sizes: the modules below.

mod ahead;
mod damage;
mod files;
mod layout;
mod sizes;

use std::collections::BTreeMap;

use proptest::prelude::*;
use zstd::bulk::Compressor;

use super::{
    ReadError, Reader, Writer, events,
    frame::{self, FILE_HEADER, MARKER, Type},
};
use crate::event::{Batch, DeviceId, Direction, Event, Memory, Segment, What};
use crate::facts::{Counters, Device, End, PoolSample, PoolTime, PoolTimes, SiteCount, SlabCache, SlabSample, Symbol};
use crate::passed::Needs;
use crate::stream::{Gaps, Item, Source, Start};

fn write(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for item in items {
        writer.write(item).unwrap();
    }
    writer.into_inner().unwrap()
}

/// The same with all events in blocks.
fn write_in_blocks(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap().blocks_from(1);
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

/// One event of each kind, with two segments.
fn one_of_each() -> Batch {
    let device = DeviceId(1);
    let direction = Direction::FromDevice;
    let event = |n: u64, what| Event { time_ns: 1_000 + n, task: 7, cpu: 1, what };
    let whats = [
        What::Kmalloc { call_site: 0x100, ptr: 0x200, bytes_req: 30, bytes_alloc: 32, gfp: 5 },
        What::Kfree { call_site: 0x110, ptr: 0x200 },
        What::Map { device, phys: 0x200, dma_addr: 0x300, size: 30, direction, memory: Memory::Unknown, attrs: 0 },
        What::Unmap { device, dma_addr: 0x300, size: 30, direction, attrs: 4 },
        What::MapSg {
            device,
            list: 0x400,
            nents: 2,
            ents: 1,
            direction,
            attrs: 0,
            caller: 0x180,
            first_segment: 0,
            segments: 2,
        },
        What::UnmapSg { device, list: 0x400, nents: 2, direction, attrs: 0 },
        What::Bounced { device, dev_addr: 0x200, size: 30 },
        What::SlotMap { device, phys: 0x200, slot: 0x800, size: 30, align_mask: 15, direction, duration_ns: 90 },
        What::SlotUnmap { device, slot: 0x800, size: 30, direction },
        What::Sync { device, dma_addr: 0x300, size: 30, direction, for_device: true },
        What::SyncSg { device, list: 0x400, nents: 2, direction, for_device: false },
        What::Link { device, phys: 0x200, dma_addr: 0x300, size: 30, direction, attrs: 0 },
        What::Unlink { device, dma_addr: 0x300, size: 30, direction, attrs: 0 },
    ];
    let (dma_addr, length, dma_len, dma_flags, memory) = (0x500, 16, 32, 1, Memory::Unknown);
    let segment = |page, offset| Segment { page, dma_addr, offset, length, dma_len, dma_flags, memory };
    Batch {
        events: whats.into_iter().enumerate().map(|(n, what)| event(n as u64, what)).collect(),
        segments: vec![segment(0x600, 0), segment(0x640, 16)],
    }
}

/// A short stream with every type of frame in it.
fn one_frame_of_each() -> Vec<Item> {
    vec![
        Item::Start(Start { time_ns: 1, ..Start::default() }),
        Item::Device(Device { id: DeviceId(1), name: "usb1".into(), ..Device::default() }),
        Item::Events(one_of_each()),
        Item::Pool(PoolSample { slots: 512, ..PoolSample::default() }),
        Item::Sites(vec![SiteCount { call_site: 0x100, bytes_req: 30, bytes_alloc: 32, count: 1 }]),
        Item::Symbols(vec![Symbol { addr: 0x100, name: "usb_hcd+0x8".into(), module: String::new() }]),
        Item::Slab(SlabSample {
            time_ns: 1,
            caches: vec![SlabCache { name: "kmalloc-64".into(), ..SlabCache::default() }],
            shrunk: true,
            live_sites: None,
        }),
        Item::PoolTimes(PoolTimes {
            time_ns: 1,
            times: vec![PoolTime { calls: 1, ..PoolTime::default() }],
            ..PoolTimes::default()
        }),
        Item::Counters(Counters { predicted: 1, ..Counters::default() }),
        Item::End(End { time_ns: 2, ..End::default() }),
    ]
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..1_u64 << 40, any::<u64>()]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Bidirectional), Just(Direction::ToDevice), Just(Direction::FromDevice)]
}

fn segment() -> impl Strategy<Value = Segment> {
    let numbers = (address(), address(), any::<[u32; 4]>(), memory());
    numbers.prop_map(|(page, dma_addr, [offset, length, dma_len, dma_flags], memory)| Segment {
        page,
        dma_addr,
        offset,
        length,
        dma_len,
        dma_flags,
        memory,
    })
}

fn memory() -> impl Strategy<Value = Memory> {
    let object = any::<[u16; 3]>().prop_map(|[cache, size, offset]| Memory::object(cache & 0xfff, size, offset));
    prop_oneof![Just(Memory::Unknown), Just(Memory::Pages), object]
}

fn what() -> impl Strategy<Value = (What, Vec<Segment>)> {
    let numbers = (address(), address(), address(), address(), any::<u32>(), any::<u32>(), direction());
    let parts = (0..13_u8, numbers, prop::collection::vec(segment(), 0..5), memory());
    parts.prop_map(|(kind, numbers, segments, memory)| {
        let (first, second, third, fourth, device, count, direction) = numbers;
        let device = DeviceId(device);
        let what = match kind {
            0 => What::Kmalloc {
                call_site: first,
                ptr: second,
                bytes_req: third,
                bytes_alloc: fourth,
                gfp: u64::from(count),
            },
            1 => What::Kfree { call_site: first, ptr: second },
            2 => What::Map { device, phys: first, dma_addr: second, size: third, direction, memory, attrs: fourth },
            3 => What::Unmap { device, dma_addr: first, size: second, direction, attrs: third },
            4 => What::MapSg {
                device,
                list: first,
                nents: count,
                ents: count / 2,
                direction,
                attrs: second,
                caller: third,
                first_segment: 0,
                segments: segments.len() as u32,
            },
            5 => What::UnmapSg { device, list: first, nents: count, direction, attrs: second },
            6 => What::Bounced { device, dev_addr: first, size: second },
            7 => What::SlotMap {
                device,
                phys: first,
                slot: second,
                size: third,
                align_mask: fourth,
                direction,
                duration_ns: u64::from(count),
            },
            8 => What::SlotUnmap { device, slot: first, size: second, direction },
            9 => What::Sync { device, dma_addr: first, size: second, direction, for_device: count % 2 == 1 },
            10 => What::Link { device, phys: first, dma_addr: second, size: third, direction, attrs: third },
            11 => What::Unlink { device, dma_addr: first, size: second, direction, attrs: third },
            _ => What::SyncSg { device, list: first, nents: count, direction, for_device: count % 2 == 1 },
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

/// Bytes with no meaning, some of which look as if a frame began there.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![prop::collection::vec(any::<u8>(), 0..60), Just(MARKER.to_vec()), Just(vec![0; 7])];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn without_segments(event: &Event) -> Event {
    let mut event = *event;
    if let What::MapSg { first_segment, .. } = &mut event.what {
        *first_segment = 0;
    }
    event
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
        prop_assert_eq!(&read, &items);
        prop_assert!(gaps.is_empty());
        let (read, gaps) = self::read(&write_in_blocks(&items)).unwrap();
        prop_assert_eq!(read, items);
        prop_assert!(gaps.is_empty());
    }

    #[test]
    fn a_flipped_bit_among_blocks_loses_events_and_says_so_but_changes_none(
        items in stream(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        closed in any::<bool>(),
    ) {
        let mut bytes = write_in_blocks(&items);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut reader = Reader::new(&bytes[..]).unwrap();
        if closed {
            reader.leave_out(Needs::WithLines(64));
        }
        let all = |items: &[Item]| -> Vec<Event> {
            let batches = items.iter().filter_map(|item| if let Item::Events(batch) = item { Some(batch) } else { None });
            batches.flat_map(|batch| &batch.events).map(without_segments).collect()
        };
        let mut whole = all(&items).into_iter();
        let read: Vec<_> = std::iter::from_fn(|| reader.next_item().unwrap()).collect();
        prop_assert!(all(&read).iter().all(|event| whole.any(|other| other == *event)));
        prop_assert!(!reader.gaps().is_empty());
    }

    #[test]
    fn any_intact_frame_of_blocks_is_read_without_panic(
        batch in batch(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        closed in any::<bool>(),
    ) {
        let bytes = write_in_blocks(&[Item::Events(batch)]);
        let mut changed = bytes[FILE_HEADER..].to_vec();
        let end = 24 + frame::head_len(&changed[24..]).unwrap();
        let mut head = zstd::bulk::decompress(&changed[24 + frame::TABLE..end], 1 << 22).unwrap();
        for (at, byte) in changes {
            let at = at.index(head.len() + frame::TABLE - 4);
            match at.checked_sub(frame::TABLE - 4) {
                Some(at) => head[at] = byte,
                None => changed[28 + at] = byte,
            }
        }
        let stored = zstd::bulk::compress(&head, 1).unwrap();
        changed[24..28].copy_from_slice(&(stored.len() as u32).to_le_bytes());
        changed.splice(24 + frame::TABLE..end, stored);
        let raw = head.len();
        frame::finish(Type::Blocks, 0, raw, &mut changed);
        let file = [&frame::file_header(2)[..], &changed].concat();
        let mut reader = Reader::new(&file[..]).unwrap();
        if closed {
            reader.leave_out(Needs::Written);
        }
        while let Some(item) = reader.next_item().unwrap() {
            if let Item::Events(batch) = item {
                for event in &batch.events {
                    if let What::MapSg { segments, .. } = event.what {
                        prop_assert_eq!(batch.segments(event).len(), segments as usize);
                    }
                }
            }
        }
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
        let (read, gaps) = read(&bytes).unwrap();
        prop_assert!(is_subsequence(&read, &items));
        prop_assert!(read.len() + 1 >= items.len(), "one frame was damaged, {} lost", items.len() - read.len());
        prop_assert!(!gaps.is_empty());
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in garbage(), as_frames in any::<bool>()) {
        let mut file = frame::file_header(2).to_vec();
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
    #[test]
    fn any_intact_event_frame_is_read_without_panic(
        batch in batch(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut payload = events::Encoder::default().encode(&batch.events, &batch);
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        // Whatever comes out, every scatterlist in it has its segments.
        if let Some(read) = events::Decoder::default().decode(&payload) {
            for event in &read.events {
                if let What::MapSg { segments, .. } = event.what {
                    prop_assert_eq!(read.segments(event).len(), segments as usize);
                }
            }
        }
    }
}
