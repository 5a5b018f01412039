//! The bytes of format versions 1 and 2, as `docs/capture-format.md` has them. A change that fails here needs a new version.

use super::{one_frame_of_each, one_of_each, read, write};
use crate::event::{Event, Memory, What};
use crate::facts::{MaintenanceFunction, MaintenanceTime, PoolFunction, PoolTime, PoolTimes};
use crate::stream::{Item, Start};
use crate::{events, frame};

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
