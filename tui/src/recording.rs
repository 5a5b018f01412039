//! A capture to be looked at: read once, on a thread, for its history and for where what lies; then any window of it is read
//! without what lies before.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracer::capture::{Place, ReadError, Reader};
use tracer::replay::bounds;
use tracer::stream::{Gaps, Item, Source};

use crate::clip::{Clip, beginning};
use crate::history::{History, Keep};

/// The file of a capture.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// On disk.
    File(PathBuf),
    /// In the program.
    Static(&'static [u8]),
}

/// A file or memory, alike.
pub enum Input {
    /// On disk.
    File(BufReader<File>),
    /// In the program.
    Static(Cursor<&'static [u8]>),
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Static(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Static(bytes) => bytes.seek(to),
        }
    }
}

impl Bytes {
    /// Where reading begins.
    fn open(&self) -> Result<Input, ReadError> {
        Ok(match self {
            Self::File(path) => {
                let opened = File::open(path);
                Input::File(BufReader::new(opened.map_err(|source| ReadError::Open { path: path.clone(), source })?))
            }
            Self::Static(bytes) => Input::Static(Cursor::new(bytes)),
        })
    }

    /// Length, bytes; 0 where it is not known.
    fn length(&self) -> u64 {
        match self {
            Self::File(path) => path.metadata().map_or(0, |file| file.len()),
            Self::Static(bytes) => bytes.len() as u64,
        }
    }

    /// As errors name it.
    fn named(&self, error: ReadError) -> ReadError {
        match self {
            Self::File(path) if !matches!(error, ReadError::Open { .. }) => {
                ReadError::In { path: path.clone(), source: Box::new(error) }
            }
            _ => error,
        }
    }
}

/// A capture.
#[derive(Debug)]
pub struct Recording {
    bytes: Bytes,
    length: u64,
    known: Mutex<Known>,
}

/// What has been found so far.
#[derive(Debug)]
pub struct Known {
    /// What happened when.
    pub history: History,
    /// Where events lie.
    frames: Vec<Frame>,
    /// Bytes read.
    read: u64,
    /// Everything was read, or reading failed.
    pub is_whole: bool,
    /// Why reading failed.
    pub failed: Option<String>,
}

/// Events up to a moment, and where they lie.
#[derive(Clone, Copy, Debug)]
struct Frame {
    to_ns: u64,
    place: Place,
}

impl Recording {
    /// Opens a capture and has it read on a thread of its own, until its end or until nobody looks any more.
    pub fn open(bytes: Bytes) -> Result<Arc<Self>, ReadError> {
        let (recording, reader) = Self::new(bytes)?;
        let recording = Arc::new(recording);
        let read = Arc::clone(&recording);
        let is_wanted = |recording: &Arc<Self>| Arc::strong_count(recording) > 1;
        thread::Builder::new().name("index".into()).spawn(move || read.read_while(reader, || is_wanted(&read)))?;
        Ok(recording)
    }

    /// The same, read on this thread before this returns.
    pub fn read(bytes: Bytes) -> Result<Arc<Self>, ReadError> {
        let (recording, reader) = Self::new(bytes)?;
        recording.read_while(reader, || true);
        Ok(Arc::new(recording))
    }

    fn new(bytes: Bytes) -> Result<(Self, Reader<Input>), ReadError> {
        let reader = Reader::new(bytes.open()?).map_err(|error| bytes.named(error))?;
        let history = History::new(Keep::Whole);
        let known = Known { history, frames: Vec::new(), read: 0, is_whole: false, failed: None };
        Ok((Self { length: bytes.length(), bytes, known: Mutex::new(known) }, reader))
    }

    fn read_while(&self, mut reader: Reader<Input>, is_wanted: impl Fn() -> bool) {
        while is_wanted() {
            let place = reader.place();
            let item = reader.next_item();
            let mut known = self.known();
            known.read = reader.bytes_read();
            known.history.gaps = reader.gaps();
            match item {
                Ok(Some(mut item)) => {
                    bounds::any(&mut item);
                    known.take(&item, place);
                }
                Ok(None) => known.is_whole = true,
                Err(error) => {
                    known.failed = Some(self.bytes.named(error).to_string());
                    known.is_whole = true;
                }
            }
            if known.is_whole {
                if !known.history.has_begun() && known.failed.is_none() {
                    known.failed = Some("the capture has no beginning: nothing is known about its kernel".into());
                }
                return;
            }
        }
    }

    /// What has been found so far.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has been read, 0 to 1.
    pub fn progress(&self) -> f64 {
        let known = self.known();
        if known.is_whole { 1.0 } else { known.read.min(self.length) as f64 / self.length.max(1) as f64 }
    }

    /// The items of a window of time, as a stream of its own; all of them where it holds the whole capture.
    pub fn window(&self, from_ns: u64, to_ns: u64) -> Result<Window, ReadError> {
        let known = self.known();
        let history = &known.history;
        if from_ns <= history.start.time_ns && to_ns >= history.now_ns() && known.is_whole {
            drop(known);
            let reader = Reader::new(self.bytes.open()?).map_err(|error| self.bytes.named(error))?;
            return Ok(Window::Whole(reader));
        }
        let place = known.frames.iter().find(|frame| frame.to_ns >= from_ns).map(|frame| frame.place);
        let beginning = beginning(history, from_ns);
        drop(known);
        let reader = place.map(|place| Reader::at(self.bytes.open()?, place).map_err(|error| self.bytes.named(error)));
        Ok(Window::Part(Clip::new(reader.transpose()?, beginning, from_ns, to_ns)))
    }
}

/// The part of a capture that is seen.
pub enum Window {
    /// All of it.
    Whole(Reader<Input>),
    /// A part.
    Part(Clip<Reader<Input>>),
}

impl Source for Window {
    type Error = ReadError;

    fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        match self {
            Self::Whole(reader) => reader.next_item(),
            Self::Part(clip) => clip.next_item(),
        }
    }

    fn gaps(&self) -> Gaps {
        match self {
            Self::Whole(reader) => reader.gaps(),
            Self::Part(clip) => clip.gaps(),
        }
    }
}

impl Known {
    fn take(&mut self, item: &Item, place: Place) {
        if let Item::Events(batch) = item
            && let Some(to_ns) = batch.events.iter().map(|event| event.time_ns).max()
        {
            self.frames.push(Frame { to_ns, place });
        }
        self.history.observe(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURE: &[u8] = include_bytes!("../../captures/default.bounce");

    fn times(mut source: impl Source) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(item) = source.next_item().unwrap() {
            if let Item::Events(batch) = item {
                times.extend(batch.events.iter().map(|event| event.time_ns));
            }
        }
        times
    }

    #[test]
    fn a_window_has_the_events_of_its_time_whatever_frame_they_lie_in() {
        let recording = Recording::read(Bytes::Static(CAPTURE)).unwrap();
        let all = times(Reader::new(CAPTURE).unwrap());
        let first = recording.known().history.first_ns();
        let last = recording.known().history.now_ns();
        for part in 0..5 {
            let from = first + (last - first) / 5 * part;
            let to = from + (last - first) / 7;
            let expected: Vec<u64> = all.iter().copied().filter(|time_ns| (from..=to).contains(time_ns)).collect();
            assert!(!expected.is_empty());
            assert_eq!(times(recording.window(from, to).unwrap()), expected);
        }
    }

    #[test]
    fn a_window_behind_the_last_event_is_empty_and_ends_in_order() {
        let recording = Recording::read(Bytes::Static(CAPTURE)).unwrap();
        let mut window = recording.window(u64::MAX - 1, u64::MAX).unwrap();
        let mut last = None;
        while let Some(item) = window.next_item().unwrap() {
            assert!(!matches!(item, Item::Events(_)));
            last = Some(item);
        }
        assert!(matches!(last, Some(Item::End(_))), "{last:?}");
    }

    #[test]
    fn what_is_no_capture_is_refused_by_name() {
        let error = Recording::open(Bytes::File("/nonexistent.bounce".into())).unwrap_err().to_string();
        assert!(error.contains("/nonexistent.bounce"), "{error}");
        assert!(Recording::open(Bytes::Static(b"nothing like it, at all")).is_err());
    }
}
