//! The bytes of format versions 1 and 2, as `docs/capture-format.md` has them. A change that fails here needs a new version.

use super::{one_frame_of_each, one_of_each, read, write};
use crate::event::{Batch, DeviceId, Direction, Event, Memory, What};
use crate::facts::{Device, End, Hook, MaintenanceFunction, MaintenanceTime, PoolFunction, PoolTime, PoolTimes};
use crate::passed::Needs;
use crate::stream::{Item, Source as _, Start};
use crate::{Reader, events, frame};

#[test]
fn the_files_header_is_magic_version_checksum() {
    assert_eq!(frame::file_header(1), *b"\x89BNC\r\n\x1a\n\x01\0\0\0\x66\x5a\xbe\xa1");
    assert_eq!(frame::file_header(2), *b"\x89BNC\r\n\x1a\n\x02\0\0\0\x5f\xd3\x9c\xc3");
}

#[test]
fn a_frame_is_marker_type_sequence_lengths_checksum_payload() {
    let bytes = write(&[Item::Start(Start::default()), Item::Start(Start::default())]);
    let length = (bytes.len() - 16) / 2;
    let second = &bytes[16 + length..];
    assert_eq!(second[..8], *b"\xf5FRM\x01\0\0\0");
    assert_eq!(second[8..12], 1_u32.to_le_bytes());
    assert_eq!(second[12..16], (length as u32 - 24).to_le_bytes());
    let payload = zstd::bulk::decompress(&second[24..], 1 << 20).unwrap();
    assert_eq!(second[16..20], (payload.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c(&[&second[..20], &second[24..]].concat());
    assert_eq!(second[20..24], checksum.to_le_bytes());
    assert!(payload.starts_with(b"{\"time_ns\":0,"));
}

#[test]
fn every_type_of_frame_has_its_number() {
    let bytes = write(&one_frame_of_each());
    let (mut at, mut types) = (frame::FILE_HEADER, Vec::new());
    while let Some(header) = bytes.get(at..).and_then(frame::Header::parse) {
        types.push(header.kind);
        at += header.frame_len();
    }
    assert_eq!(types, [1, 2, 3, 4, 5, 6, 9, 10, 7, 8]);
}

#[test]
fn times_of_the_pool_are_named_by_function() {
    let time = PoolTime { function: PoolFunction::SyncForCpu, log2: 4, calls: 1, bytes: 18, total_ns: 900 };
    let bytes = write(&[Item::PoolTimes(PoolTimes { time_ns: 7, times: vec![time], maintenance: Vec::new() })]);
    let payload = zstd::bulk::decompress(&bytes[16 + 24..], 1 << 20).unwrap();
    let text = r#"{"time_ns":7,"times":[{"function":"sync_for_cpu","log2":4,"calls":1,"bytes":18,"total_ns":900}]}"#;
    assert_eq!(payload, text.as_bytes());
}

#[test]
fn times_of_cache_maintenance_stand_behind_those_of_the_pool_where_they_were_asked_for() {
    let function = MaintenanceFunction::ForDevice;
    let time = MaintenanceTime { function, log2: 12, calls: 2, bytes: 8192, total_ns: 500 };
    let times = PoolTimes { time_ns: 7, times: Vec::new(), maintenance: vec![time] };
    let bytes = write(&[Item::PoolTimes(times.clone())]);
    let payload = zstd::bulk::decompress(&bytes[16 + 24..], 1 << 20).unwrap();
    let text = r#"{"time_ns":7,"times":[],"maintenance":[{"function":"for_device","log2":12,"calls":2,"bytes":8192,"total_ns":500}]}"#;
    assert_eq!(payload, text.as_bytes());
    assert_eq!(read(&bytes).unwrap().0, [Item::PoolTimes(times)]);
}

#[test]
fn events_from_before_there_were_syncs_are_read() {
    let mut batch = one_of_each();
    batch.events.retain(|event| !matches!(event.what, What::Sync { .. } | What::SyncSg { .. }));
    batch.events.iter_mut().for_each(without_caller);
    let mut payload = events::Encoder::default().encode(&batch.events, &batch);
    assert!(payload.ends_with(&[5, 0, 0, 0]), "the columns of syncs and callers are the last, and empty");
    payload.truncate(payload.len() - 3);
    assert_eq!(events::Decoder::default().decode(&payload), Some(batch));
}

#[test]
fn lists_from_before_callers_were_recorded_have_none() {
    let mut batch = one_of_each();
    let mut payload = events::Encoder::default().encode(&batch.events, &batch);
    assert!(payload.ends_with(&[2, 128, 6]), "the column of callers is the last");
    payload.truncate(payload.len() - 3);
    batch.events.iter_mut().for_each(without_caller);
    assert_eq!(events::Decoder::default().decode(&payload), Some(batch));
}

#[test]
fn what_buffers_lie_in_stands_in_the_last_columns_where_anything_is_known() {
    let mut batch = one_of_each();
    let mut set = |of_map: Memory, of_segments: [Memory; 2]| {
        for event in &mut batch.events {
            if let What::Map { memory, .. } = &mut event.what {
                *memory = of_map;
            }
        }
        for (segment, memory) in batch.segments.iter_mut().zip(of_segments) {
            segment.memory = memory;
        }
        let payload = events::Encoder::default().encode(&batch.events, &batch);
        assert_eq!(events::Decoder::default().decode(&payload).as_ref(), Some(&batch));
        payload
    };
    let before = set(Memory::Unknown, [Memory::Unknown; 2]);
    let of_map = set(Memory::object(2048, 32, 8), [Memory::Unknown; 2]);
    assert_eq!(of_map, [&before[..], &[2, 128, 16, 1, 32, 1, 8]].concat(), "memory, object_size, object_offset");
    let of_segments = set(Memory::Pages, [Memory::object(2, 200, 130), Memory::Unknown]);
    let columns = [&[1, 1, 0, 0][..], &[2, 2, 0], &[3, 200, 1, 0], &[3, 130, 1, 0]].concat();
    assert_eq!(of_segments, [before, columns].concat());
}

/// A mapping, coherent memory taken and given back, and another mapping.
fn with_coherent_memory() -> Batch {
    let (device, mut batch) = (DeviceId(1), one_of_each());
    let what = [
        What::CoherentAlloc { device, slot: 0x7000_0000, size: 8192, duration_ns: 90 },
        What::CoherentFree { device, slot: 0x7000_0000, size: 8192 },
    ];
    let at = batch.events.iter().position(|event| matches!(event.what, What::Unmap { .. })).unwrap();
    for (n, what) in what.into_iter().enumerate() {
        batch.events.insert(at + n, Event { time_ns: 2_000, task: 7, cpu: 1, what });
    }
    batch
}

#[test]
fn coherent_memory_has_a_frame_of_its_own_at_its_place_among_the_events() {
    let batch = with_coherent_memory();
    for in_blocks in [false, true] {
        let items = [Item::Events(batch.clone())];
        let bytes = if in_blocks { super::write_in_blocks(&items) } else { write(&items) };
        let (mut at, mut frames) = (frame::FILE_HEADER, Vec::new());
        while let Some(header) = bytes.get(at..).and_then(frame::Header::parse) {
            frames.push((header.kind, &bytes[at + 24..at + header.frame_len()]));
            at += header.frame_len();
        }
        let types: Vec<u8> = frames.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(types, if in_blocks { [12, 13, 12] } else { [3, 13, 3] });
        let payload = zstd::bulk::decompress(frames[1].1, 1 << 20).unwrap();
        let text = concat!(
            r#"[{"time_ns":2000,"task":7,"cpu":1,"device":1,"slot":1879048192,"size":8192,"duration_ns":90,"freed":false},"#,
            r#"{"time_ns":2000,"task":7,"cpu":1,"device":1,"slot":1879048192,"size":8192,"duration_ns":0,"freed":true}]"#
        );
        assert_eq!(String::from_utf8(payload).unwrap(), text);
        let (items, _) = read(&bytes).unwrap();
        let mut read = Batch::default();
        for item in &items {
            let Item::Events(batch) = item else { panic!("{item:?}") };
            read.append(batch);
        }
        assert_eq!(read, batch);
    }
}

#[test]
fn a_frame_of_coherent_memory_with_a_member_missing_is_damaged() {
    for (payload, damaged) in [
        (r#"[{"time_ns":1,"task":7,"cpu":1,"device":1,"slot":2048,"size":4096,"duration_ns":0,"freed":true}]"#, 0),
        (r#"[{"time_ns":1,"task":7,"cpu":1,"device":1,"slot":2048,"size":4096,"freed":true}]"#, 1),
        ("[{}]", 1),
    ] {
        let file = [&frame::file_header(2)[..], &super::frame(frame::Type::Coherent, 0, payload.as_bytes())].concat();
        assert_eq!(read(&file).unwrap().1.damaged_frames, damaged, "{payload}");
    }
}

#[test]
fn events_have_no_coherent_memory_among_them() {
    for kind in [14, 15, 16] {
        // One event: kind, time, task, cpu, and no other column.
        let payload = [1, 1, kind, 1, 0, 1, 0, 1, 0];
        assert_eq!(events::Decoder::default().decode(&payload), None, "{kind}");
    }
}

fn without_caller(event: &mut Event) {
    if let What::MapSg { caller, .. } = &mut event.what {
        *caller = 0;
    }
}

#[test]
fn events_are_columns_in_this_order() {
    let batch = one_of_each();
    let payload = events::Encoder::default().encode(&batch.events, &batch);
    let expected: [&[u8]; 37] = [
        &[13],                                              // events
        &[13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],   // kind
        &[14, 208, 15, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2], // time
        &[13, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],      // task
        &[13, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],       // cpu
        &[11, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],             // device
        &[10, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2],                // direction
        &[6, 0, 4, 0, 0, 0, 0],                             // attrs
        &[8, 30, 30, 30, 30, 30, 30, 30, 30],               // size
        &[4, 128, 8, 0, 0],                                 // phys
        &[3, 128, 4, 0],                                    // dma_addr
        &[3, 128, 12, 0],                                   // unmap_addr
        &[4, 128, 16, 0, 0],                                // list
        &[3, 2, 2, 2],                                      // nents
        &[1, 1],                                            // ents
        &[1, 2],                                            // recorded
        &[4, 128, 24, 128, 1],                              // page
        &[2, 0, 16],                                        // offset
        &[2, 16, 16],                                       // length
        &[3, 128, 20, 0],                                   // segment_dma_addr
        &[2, 32, 32],                                       // segment_dma_len
        &[2, 1, 1],                                         // dma_flags
        &[2, 128, 8],                                       // dev_addr
        &[2, 128, 32],                                      // slot
        &[2, 128, 32],                                      // slot_unmap
        &[1, 15],                                           // align_mask
        &[1, 90],                                           // duration
        &[2, 128, 4],                                       // call_site
        &[2, 160, 4],                                       // free_site
        &[2, 128, 8],                                       // ptr
        &[2, 128, 8],                                       // freed_ptr
        &[1, 30],                                           // bytes_req
        &[1, 32],                                           // bytes_alloc
        &[1, 5],                                            // gfp
        &[2, 128, 12],                                      // sync_addr
        &[2, 1, 0],                                         // for_device
        &[2, 128, 6],                                       // caller
    ];
    assert_eq!(payload, expected.concat());
    assert_eq!(read(&write(&[Item::Events(batch.clone())])).unwrap().0, [Item::Events(batch)]);
}

/// A stream of which a frame of blocks has something in each of them, and its bytes.
fn in_all_blocks() -> (Vec<Item>, Vec<u8>) {
    let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
    let hooks = ["bounced", "slot_map", "map", "unmap"].map(hook).into();
    let device = Device { id: DeviceId(0), name: "usb1".into(), ..Device::default() };
    let mut items = vec![Item::Start(Start { hooks, ..Start::default() }), Item::Device(device)];
    let (device, attrs, memory) = (DeviceId(0), 0, Memory::Unknown);
    let map = |phys, size, direction| What::Map { device, phys, dma_addr: phys, size, direction, memory, attrs };
    let whats = [
        map(0x1000, 30, Direction::FromDevice),
        map(0x2000, 320, Direction::FromDevice),
        map(0x4000, 512, Direction::FromDevice),
        map(0x3000, 64, Direction::ToDevice),
        What::Kfree { call_site: 0x110, ptr: 0x200 },
        What::Unmap { device, dma_addr: 0x2000, size: 320, direction: Direction::FromDevice, attrs },
        What::Unmap { device, dma_addr: 0x4000, size: 512, direction: Direction::FromDevice, attrs },
        What::Unmap { device, dma_addr: 0x3000, size: 64, direction: Direction::ToDevice, attrs },
        What::Unmap { device, dma_addr: 0x1000, size: 30, direction: Direction::FromDevice, attrs },
    ];
    let event = |(n, what): (u64, What)| Event { time_ns: 1_000 + n, task: 7, cpu: 1, what };
    items.push(Item::Events(Batch { events: (0..).zip(whats).map(event).collect(), segments: Vec::new() }));
    let bytes = super::write_in_blocks(&items);
    (items, bytes)
}

#[test]
fn a_frame_of_blocks_is_a_table_a_head_and_the_blocks() {
    let (items, bytes) = in_all_blocks();
    let mut at = frame::FILE_HEADER;
    for _ in 0..2 {
        at += frame::Header::parse(&bytes[at..]).unwrap().frame_len();
    }
    let frame = &bytes[at..];
    let payload = &frame[24..];
    let word = |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().unwrap());
    assert_eq!(frame[..8], *b"\xf5FRM\x0c\0\0\0");
    assert_eq!(frame[12..16], (payload.len() as u32).to_le_bytes());
    let head_end = 64 + word(0) as usize;
    let checksum = crc32c::crc32c(&[&frame[..20], &payload[..head_end]].concat());
    assert_eq!(frame[20..24], checksum.to_le_bytes(), "over the head alone");
    let head = zstd::bulk::decompress(&payload[64..head_end], 1 << 20).unwrap();
    assert_eq!(frame[16..20], (head.len() as u32).to_le_bytes());
    let totals = |length: &[u8], direction: u8| {
        [
            &[2, 3, 1, 4, 1][..],  // kinds: a map, an unmap
            &[1, 0],               // mappings by address, by no attempt
            &[0, 0, 0, 0],         // lists: all, of several, of mixed lengths, segments
            &[1, 0, direction, 0], // buffers: one row; device, direction, single
            length,                // length
            &[1, 0],               // how many; callers
        ]
        .concat()
    };
    let expected = [
        &[1, 9][..],                     // tick, events
        &[0x10, 0x24, 0x13, 0x24, 0x00], // order
        &[232, 7, 8],                    // time of the first, time until the last
        &[6, 0],                         // alignment of what is written, nothing failed
        &[1, 0],                         // devices
        &totals(&[192, 2], 2),           // of block 1
        &totals(&[64], 1),               // of block 2
        &totals(&[128, 4], 2),           // of block 4
    ];
    assert_eq!(head, expected.concat());
    let mut from = head_end;
    for (block, events) in [2, 2, 2, 1, 2].into_iter().enumerate() {
        let [stored, raw, checksum] = [4, 8, 12].map(|at| word(at + 12 * block));
        let stored = &payload[from..from + stored as usize];
        assert_eq!(crc32c::crc32c(stored), checksum);
        let columns = zstd::bulk::decompress(stored, 1 << 20).unwrap();
        assert_eq!((columns.len() as u32, columns[0]), (raw, events), "as a payload of type 3, or objects");
        from += stored.len();
    }
    assert_eq!(from, payload.len());
    assert_eq!(read(&bytes).unwrap().0, items);
}

#[test]
fn damage_in_a_block_costs_that_block() {
    let (mut items, _) = in_all_blocks();
    items.push(Item::End(End::default()));
    let bytes = super::write_in_blocks(&items);
    let Item::Events(whole) = &items[2] else { unreachable!("they are the third") };
    let behind = super::write_in_blocks(&items[..3]).len();
    let lost: Vec<usize> = (0..behind)
        .filter_map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            let (read, gaps) = read(&bytes).unwrap();
            assert_eq!(gaps.damaged_frames, 1, "{at}");
            match &read[..] {
                [_, _, Item::Events(batch), Item::End(_)] => Some(whole.events.len() - batch.events.len()),
                _ => None,
            }
        })
        .collect();
    for each in [1, 2] {
        assert!(lost.iter().filter(|lost| **lost == each).count() > 20, "{lost:?}");
    }
    assert!(lost.iter().all(|lost| *lost <= 2));
}

#[test]
fn bytes_missing_inside_a_block_cost_its_frame_and_none_behind_it() {
    let (mut items, _) = in_all_blocks();
    items.push(Item::End(End::default()));
    let bytes = super::write_in_blocks(&items);
    let behind = super::write_in_blocks(&items[..3]).len();
    for missing in 1..20 {
        let bytes = [&bytes[..behind - 30], &bytes[behind - 30 + missing..]].concat();
        let (read, gaps) = read(&bytes).unwrap();
        assert_eq!(read.last(), items.last(), "{missing} bytes missing");
        assert_eq!(gaps.damaged_frames, 1);
    }
}

#[test]
fn blocks_that_stay_closed_are_told_by_totals() {
    let (items, bytes) = in_all_blocks();
    let without_objects: Vec<Item> = items
        .into_iter()
        .map(|mut item| {
            if let Item::Events(batch) = &mut item {
                batch.events.retain(|event| !matches!(event.what, What::Kfree { .. }));
            }
            item
        })
        .collect();
    let closed = |bytes: &[u8], needs| {
        let mut reader = Reader::new(bytes).unwrap();
        reader.leave_out(needs);
        let (mut given, mut passed) = (0, 0);
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Events(batch) => given += batch.events.len(),
                Item::Passed(totals) => passed += totals.events(),
                _ => {}
            }
        }
        assert!(!reader.gaps().no_end || reader.gaps().damaged_frames == 0);
        (given, passed)
    };
    assert_eq!(closed(&bytes, Needs::WithLines(64)), (9, 0), "any of them may lie in an object");
    let bytes = super::write_in_blocks(&without_objects);
    assert_eq!(closed(&bytes, Needs::Everything), (8, 0));
    assert_eq!(closed(&bytes, Needs::Written), (6, 2));
    assert_eq!(closed(&bytes, Needs::WithLines(64)), (2, 6));
    assert_eq!(closed(&bytes, Needs::WithLines(256)), (4, 4));
    assert_eq!(closed(&bytes, Needs::WithLines(512)), (6, 2));
}

#[test]
fn objects_have_times_in_ticks_and_keep_their_place_among_mappings_which_are_exact() {
    let (device, direction, attrs) = (DeviceId(0), Direction::FromDevice, 0);
    let unmap = What::Unmap { device, dma_addr: 0x1000, size: 30, direction, attrs };
    let (allocated, freed) = (
        What::Kmalloc { call_site: 0x100, ptr: 0x40, bytes_req: 30, bytes_alloc: 32, gfp: 5 },
        What::Kfree { call_site: 0x110, ptr: 0x40 },
    );
    let at = |time_ns, what| Event { time_ns, task: 7, cpu: 1, what };
    let events = vec![
        at(1009, allocated),
        at(1011, unmap),
        at(1012, freed),
        at(1100, unmap),
        // Seen late: it is no rounding that puts it before the one in front.
        at(1050, allocated),
        at(1051, freed),
    ];
    let times = |object_tick_ns| {
        let start = Item::Start(Start { object_tick_ns, ..Start::default() });
        let batch = Item::Events(Batch { events: events.clone(), segments: Vec::new() });
        let (items, gaps) = read(&super::write_in_blocks(&[start, batch])).unwrap();
        assert_eq!(gaps.damaged_frames, 0);
        let [_, Item::Events(batch)] = &items[..] else { panic!("{items:?}") };
        assert!(batch.events.iter().zip(&events).all(|(read, event)| read.what == event.what));
        batch.events.iter().map(|event| event.time_ns).collect::<Vec<_>>()
    };
    assert_eq!(times(None), [1009, 1011, 1012, 1100, 1050, 1051]);
    assert_eq!(times(Some(1)), times(None));
    assert_eq!(times(Some(16)), [1008, 1011, 1011, 1100, 1040, 1040]);
    assert_eq!(times(Some(31)), times(Some(16)), "a power of two");
    assert_eq!(times(Some(0)), times(None));
}

#[test]
fn a_frame_whose_head_has_other_ticks_than_its_objects_is_damaged() {
    let event = |n| Event { time_ns: n, task: 7, cpu: 1, what: What::Kfree { call_site: 0x110, ptr: 8 * n } };
    let batch = Item::Events(Batch { events: (0..9).map(event).collect(), segments: Vec::new() });
    let bytes = super::write_in_blocks(&[batch]);
    let mut frame = bytes[frame::FILE_HEADER..].to_vec();
    let end = 24 + frame::head_len(&frame[24..]).unwrap();
    let mut head = zstd::bulk::decompress(&frame[24 + frame::TABLE..end], 1 << 20).unwrap();
    assert_eq!(head[0], 1);
    head[0] = 16;
    let stored = zstd::bulk::compress(&head, 1).unwrap();
    frame[24..28].copy_from_slice(&(stored.len() as u32).to_le_bytes());
    frame.splice(24 + frame::TABLE..end, stored);
    frame::finish(frame::Type::Blocks, 0, head.len(), &mut frame);
    let (items, gaps) = read(&[&frame::file_header(2)[..], &frame].concat()).unwrap();
    assert_eq!((items.len(), gaps.damaged_frames), (0, 1));
}
