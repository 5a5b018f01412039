//! A capture read ahead is the capture: items, gaps and errors, each at its moment.

use std::{fs, io, path::Path};

use super::{forge, frame, one_frame_of_each, write};
use crate::stream::{Gaps, Item, Source};
use crate::{Ahead, Reader, frame::Type};

/// An answer, and the gaps and the bytes read at that moment.
type Said = (Result<Option<Item>, String>, Gaps, u64);

/// Everything that a source says until its end and once more.
fn said<S: Source>(source: &mut S) -> Vec<Said> {
    let mut said = vec![(Ok(None), source.gaps(), source.bytes_read())];
    for after_the_end in [false, true] {
        loop {
            let answer = source.next_item().map_err(|error| error.to_string());
            let is_over = matches!(answer, Ok(None)) || said.len() > 10_000;
            said.push((answer, source.gaps(), source.bytes_read()));
            if is_over || after_the_end {
                break;
            }
        }
    }
    said
}

fn assert_same(bytes: &[u8]) {
    let plain = said(&mut Reader::new(io::Cursor::new(bytes.to_vec())).unwrap());
    let ahead = said(&mut Ahead::new(Reader::new(io::Cursor::new(bytes.to_vec())).unwrap()).unwrap());
    assert!(plain == ahead, "{} answers, {} ahead", plain.len(), ahead.len());
}

#[test]
fn every_bundled_capture_is_the_same_read_ahead_whole_cut_and_damaged() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../captures"));
    let mut captures = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bounce") {
            let mut bytes = fs::read(path).unwrap();
            assert_same(&bytes);
            assert_same(&bytes[..bytes.len() * 2 / 3]);
            // The file's header, then a place in every tenth of the file.
            for n in 0..10 {
                let at = 4 + n * bytes.len() / 10;
                bytes[at] ^= 0x10;
            }
            assert_same(&bytes);
            captures += 1;
        }
    }
    assert!(captures > 0);
}

#[test]
fn nonsense_in_intact_frames_is_counted_at_the_same_moment() {
    let mut bytes = write(&one_frame_of_each());
    let unknown = forge(frame(Type::End, 8, b"{}"), |frame| frame[4] = 99);
    bytes.extend([frame(Type::Events, 8, b"\xff\xff"), unknown, frame(Type::Pool, 10, b"[]")].concat());
    bytes.extend(frame(Type::Counters, 11, b"{}"));
    assert_same(&bytes);
}

/// Gives some bytes, then fails again and again.
struct Failing(io::Cursor<Vec<u8>>, u32);

impl io::Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if self.1 > 0 => {
                self.1 -= 1;
                Err(io::Error::other(format!("failed, {} to go", self.1)))
            }
            read => Ok(read),
        }
    }
}

#[test]
fn errors_come_where_they_came_and_as_often() {
    let source = || {
        let bytes = write(&one_frame_of_each());
        Reader::new(Failing(io::Cursor::new(bytes), 3)).unwrap()
    };
    let said_so = |source: &mut dyn Source<Error = crate::ReadError>| {
        let mut said = Vec::new();
        for _ in 0..20 {
            said.push((source.next_item().map_err(|error| error.to_string()), source.gaps()));
        }
        said
    };
    let plain = said_so(&mut source());
    assert!(plain == said_so(&mut Ahead::new(source()).unwrap()));
    // The first came with bytes that were good.
    assert_eq!(plain.iter().filter(|(answer, _)| answer.is_err()).count(), 2);
}

#[test]
fn who_listens_no_more_is_not_waited_for() {
    let items: Vec<Item> = std::iter::repeat_n(one_frame_of_each(), 20).flatten().collect();
    let mut ahead = Ahead::new(Reader::new(io::Cursor::new(write(&items))).unwrap()).unwrap();
    assert!(ahead.next_item().unwrap().is_some());
    let thread = ahead.thread.take().unwrap();
    drop(ahead);
    thread.join().unwrap();
}

/// Panics when asked.
struct Panicking;

impl Source for Panicking {
    type Error = crate::ReadError;

    fn next_item(&mut self) -> Result<Option<Item>, Self::Error> {
        panic!("as asked")
    }
}

#[test]
#[should_panic(expected = "as asked")]
fn a_panic_of_the_source_is_the_readers() {
    let _ = Ahead::new(Panicking).unwrap().next_item();
}
