//! Captures as files, and streams that do not fit into one frame.

use std::{fs, mem};

use super::{one_frame_of_each, read, write};
use crate::event::{Batch, DeviceId, Direction, Event, Segment, What};
use crate::facts::SiteCount;
use crate::stream::{Item, Source};
use crate::{ReadError, Reader, WriteError, Writer, create, events, is_whole};

/// One scatterlist of so many segments.
pub(super) fn long_list(segments: usize) -> Batch {
    let what = What::MapSg {
        device: DeviceId(0),
        list: 0,
        nents: segments as u32,
        ents: segments as u32,
        direction: Direction::ToDevice,
        attrs: 0,
        caller: 0,
        first_segment: 0,
        segments: segments as u32,
    };
    Batch { events: vec![Event { time_ns: 0, task: 0, cpu: 0, what }], segments: vec![Segment::default(); segments] }
}

#[test]
fn what_was_flushed_outlives_a_killed_recorder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("killed.bounce");
    let items = one_frame_of_each();
    let mut writer = create(&path).unwrap();
    writer.publish_keeping(".old").unwrap();
    assert!(Reader::open(&path).unwrap().next_item().unwrap().is_none(), "a capture from its first moment");
    for item in &items[..3] {
        writer.write(item).unwrap();
    }
    writer.flush().unwrap();
    writer.write(&items[3]).unwrap();
    // As SIGKILL does: nothing is dropped, nothing flushed.
    mem::forget(writer);
    let mut reader = Reader::open(&path).unwrap();
    for item in &items[..3] {
        assert_eq!(reader.next_item().unwrap().as_ref(), Some(item));
    }
    assert_eq!(reader.next_item().unwrap(), None);
    assert!(reader.gaps().no_end);
}

#[cfg(unix)]
#[test]
fn a_capture_is_its_owners_alone_also_where_a_file_was_before() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old.bounce");
    fs::write(&old, [b'x'; 1000]).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o644)).unwrap();
    for path in [old, dir.path().join("new.bounce")] {
        let mut writer = create(&path).unwrap();
        writer.write(&one_frame_of_each()[0]).unwrap();
        writer.finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), write(&one_frame_of_each()[..1]));
    }
}

#[test]
fn errors_of_opening_and_creating_name_the_file_and_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let cases = [
        (file("empty", b""), "the file is empty"),
        (file("text", b"# Perfetto trace, or anything else"), "not a bouncescope capture"),
        (file("short", b"\x89BNC"), "not a bouncescope capture"),
        (dir.path().to_owned(), "cannot open"),
        (dir.path().join("missing"), "cannot open"),
    ];
    for (path, reason) in cases {
        let error = Reader::open(&path).err().unwrap().to_string();
        assert!(error.contains(reason) && error.contains(path.to_str().unwrap()), "{error}");
    }
    let path = dir.path().join("no/such/directory");
    let error = create(&path).err().unwrap().to_string();
    assert!(error.contains("cannot write") && error.contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_capture_is_whole_when_it_ends_with_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bounce");
    assert!(!is_whole(&path));
    let (mut whole, items) = (Writer::new(Vec::new()).unwrap(), one_frame_of_each());
    let end = items.iter().position(|item| matches!(item, Item::End(_))).unwrap();
    for _ in 0..3000 {
        items.iter().filter(|item| !matches!(item, Item::End(_))).for_each(|item| whole.write(item).unwrap());
    }
    let cut = whole.bytes_written() as usize;
    whole.write(&items[end]).unwrap();
    let bytes = whole.into_inner().unwrap();
    for (length, expected) in [(bytes.len(), true), (bytes.len() - 1, false), (cut, false), (100, false), (3, false)] {
        fs::write(&path, &bytes[..length]).unwrap();
        assert_eq!(is_whole(&path), expected, "{length} of {} bytes", bytes.len());
    }
}

#[test]
fn a_disk_that_is_full_is_an_error_at_the_latest_when_flushing() {
    let mut room = [0; 100];
    let mut writer = Writer::new(std::io::BufWriter::new(&mut room[..])).unwrap();
    let written = one_frame_of_each().iter().try_for_each(|item| writer.write(item));
    assert!(matches!(written.and_then(|()| writer.flush()), Err(WriteError::Io(_))));
}

#[test]
fn a_long_batch_becomes_frames_that_stand_alone() {
    let mut batch = Batch::default();
    let list = long_list(9);
    for n in 0..events::MAX_EVENTS as u32 + 5 {
        let mut event = list.events[0];
        if let What::MapSg { first_segment, .. } = &mut event.what {
            *first_segment = 9 * n;
        }
        batch.events.push(event);
        batch.segments.extend((0..9).map(|k| Segment { page: u64::from(9 * n + k), ..Segment::default() }));
    }
    let bytes = write(&[Item::Events(batch.clone())]);
    let pages = |items: &[Item]| -> Vec<u64> {
        let batches = items.iter().map(|item| match item {
            Item::Events(batch) => batch,
            other => panic!("{other:?}"),
        });
        batches.flat_map(|b| b.events.iter().flat_map(|e| b.segments(e)).map(|s| s.page)).collect()
    };
    let (items, _) = read(&bytes).unwrap();
    assert!(items.len() >= 3, "{} frames", items.len());
    assert_eq!(pages(&items), (0..batch.segments.len() as u64).collect::<Vec<_>>());

    let mut damaged = bytes;
    damaged[100] ^= 1;
    let (rest, gaps) = read(&damaged).unwrap();
    assert_eq!(rest, items[1..]);
    assert_eq!(gaps.damaged_frames, 1);
}

#[test]
fn a_long_list_of_call_sites_comes_back_in_parts() {
    let sites: Vec<SiteCount> =
        (0..40_000).map(|n| SiteCount { call_site: n, bytes_req: 1, bytes_alloc: 8, count: u64::MAX }).collect();
    let (items, _) = read(&write(&[Item::Sites(sites.clone())])).unwrap();
    let parts = items.into_iter().flat_map(|item| match item {
        Item::Sites(part) => part,
        other => panic!("{other:?}"),
    });
    assert_eq!(parts.collect::<Vec<_>>(), sites);
}

#[test]
fn a_list_that_no_reader_accepts_is_refused_and_the_capture_goes_on() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let refused = writer.write(&Item::Events(long_list(events::MAX_SEGMENTS + 1)));
    assert!(matches!(refused, Err(WriteError::TooManySegments { found }) if found == events::MAX_SEGMENTS + 1));
    writer.write(one_frame_of_each().last().unwrap()).unwrap();
    let bytes = writer.into_inner().unwrap();
    assert!(matches!(read(&bytes), Ok((items, gaps)) if items.len() == 1 && gaps.is_empty()));
}

#[test]
fn events_are_counted_by_kind() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for item in one_frame_of_each().iter().chain(&one_frame_of_each()[2..3]) {
        writer.write(item).unwrap();
    }
    assert_eq!(writer.events_written().len(), 13);
    assert!(writer.events_written().values().all(|&count| count == 2));
    let length = writer.bytes_written();
    assert_eq!(length, writer.into_inner().unwrap().len() as u64);
}

#[test]
fn an_error_of_the_input_is_told_and_what_came_before_it_is_read() {
    struct Failing<'a>(&'a [u8]);
    impl std::io::Read for Failing<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(std::io::Error::other("bad sector")),
                some => Ok(some),
            }
        }
    }
    let items = one_frame_of_each();
    let bytes = write(&items[..3]);
    let mut reader = Reader::new(Failing(&bytes)).unwrap();
    let mut read = Vec::new();
    let error = loop {
        match reader.next_item() {
            Ok(item) => read.push(item.unwrap()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::Io(_)), "{error}");
    assert_eq!(read, items[..3]);
}
