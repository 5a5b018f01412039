//! Captures damaged in particular ways: at every place, by accident and by intent.

use super::{files::long_list, forge, frame, is_subsequence, one_frame_of_each, one_of_each, read, write};
use crate::event::{Batch, Event, Memory, What};
use crate::facts::{End, PoolSample};
use crate::stream::{Gaps, Item, Start};
use crate::{
    ReadError, events,
    frame::{FILE_HEADER, MARKER, Type, file_header},
};

#[test]
fn every_cut_gives_all_whole_frames_before_it_and_says_so() {
    let items = one_frame_of_each();
    let bytes = write(&items);
    let ends: Vec<usize> = (0..=items.len()).map(|n| write(&items[..n]).len()).collect();
    assert!(matches!(read(&[]), Err(ReadError::Empty)));
    for cut in 1..FILE_HEADER {
        assert!(matches!(read(&bytes[..cut]), Err(ReadError::NotACapture)), "cut at {cut}");
    }
    for cut in FILE_HEADER..bytes.len() {
        let (read, gaps) = read(&bytes[..cut]).unwrap();
        let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
        assert_eq!(read, items[..whole], "cut at {cut}");
        let cut_bytes = (cut - ends[whole]) as u64;
        assert_eq!(gaps, Gaps { cut_bytes, no_end: true, ..Gaps::default() }, "cut at {cut}");
    }
}

#[test]
fn a_bad_byte_anywhere_costs_its_own_frame_at_most_and_shows() {
    let items = one_frame_of_each();
    let mut bytes = write(&items);
    for at in 0..bytes.len() {
        for change in [1 << (at % 8), 0xff] {
            bytes[at] ^= change;
            let (read, gaps) = read(&bytes).unwrap();
            assert!(is_subsequence(&read, &items), "{change:#x} at {at}");
            assert_eq!(items.len() - read.len(), usize::from(at >= FILE_HEADER), "{change:#x} at {at}");
            assert!(!gaps.is_empty(), "{change:#x} at {at}");
            bytes[at] ^= change;
        }
    }
}

#[test]
fn any_one_bad_byte_in_the_files_header_is_survived() {
    let items = one_frame_of_each();
    let whole = write(&items);
    for at in 0..FILE_HEADER {
        for change in (0..8).map(|bit| 1 << bit).chain([0x55, 0xff]) {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            let (read, gaps) = read(&bytes).unwrap();
            assert_eq!(read, items);
            assert_eq!(gaps, Gaps { damaged_frames: 1, skipped_bytes: FILE_HEADER as u64, ..Gaps::default() });
        }
    }
}

#[test]
fn a_header_with_two_parts_damaged_is_none() {
    let mut header = file_header(2);
    header[0] ^= 1;
    header[13] ^= 1;
    assert!(matches!(read(&header), Err(ReadError::NotACapture)));
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let mut header = file_header(2);
    header[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    let error = read(&header).unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains("up to 2"), "{error}");
}

#[test]
fn what_lies_between_frames_is_skipped_and_its_bytes_counted() {
    let items = one_frame_of_each();
    let whole = write(&items);
    let first = write(&items[..1]).len();
    let dirt = [&MARKER[..], b"0123456789", &MARKER[..2]].concat();
    let bytes = [&whole[..first], &dirt, &whole[first..]].concat();
    let (read, gaps) = read(&bytes).unwrap();
    assert_eq!(read, items);
    assert_eq!(gaps, Gaps { damaged_frames: 1, skipped_bytes: dirt.len() as u64, ..Gaps::default() });
}

#[test]
fn a_length_beyond_the_end_does_not_take_the_frames_behind_it_along() {
    let items = one_frame_of_each();
    let mut bytes = write(&items);
    let second = write(&items[..1]).len();
    bytes[second + 12..second + 16].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    let (read, gaps) = read(&bytes).unwrap();
    assert_eq!(read.len(), items.len() - 1);
    assert_eq!((gaps.damaged_frames, gaps.cut_bytes), (1, 0));
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
    let (items, gaps) = read(&[&file_header(2)[..], &lying].concat()).unwrap();
    assert_eq!((items.len(), gaps.damaged_frames), (0, 1));
}

#[test]
fn columns_of_a_later_version_are_passed_over() {
    let mut batch = one_of_each();
    // So that the last column of this version is there.
    batch.segments[0].memory = Memory::object(2, 64, 8);
    let mut payload = events::Encoder::default().encode(&batch.events, &batch);
    payload.extend([3, 1, 2, 3]);
    let (items, gaps) = read(&[&file_header(2)[..], &frame(Type::Events, 0, &payload)].concat()).unwrap();
    assert_eq!(items, [Item::Events(batch)]);
    assert_eq!(gaps, Gaps { no_end: true, ..Gaps::default() });
}

#[test]
fn values_that_are_left_over_in_a_column_are_damage() {
    // A count less by one: the last event's values are in the columns still.
    let batch = one_of_each();
    let mut payload = events::Encoder::default().encode(&batch.events, &batch);
    payload[0] -= 1;
    assert_eq!(events::Decoder::default().decode(&payload), None);
}

#[test]
fn a_count_of_events_or_segments_beyond_the_limit_is_damage() {
    let kfree = What::Kfree { call_site: 0, ptr: 0 };
    let event = Event { time_ns: 0, task: 0, cpu: 0, what: kfree };
    let many = |count| Batch { events: vec![event; count], segments: Vec::new() };
    let decodes = |batch: Batch| {
        let payload = events::Encoder::default().encode(&batch.events, &batch);
        events::Decoder::default().decode(&payload).is_some_and(|decoded| decoded == batch)
    };
    assert!(decodes(many(events::MAX_EVENTS)));
    assert!(!decodes(many(events::MAX_EVENTS + 1)));
    assert!(decodes(long_list(events::MAX_SEGMENTS)));
    assert!(!decodes(long_list(events::MAX_SEGMENTS + 1)));
}
