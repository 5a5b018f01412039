//! What is being seen, into a capture: on a thread of its own, so that a slow disk holds up no screen.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use tracer::capture::{self, FileWriter, WriteError};
use tracer::facts::{Counters, End, SiteCount};
use tracer::stream::{Item, Source};

use crate::clip::beginning;
use crate::history::{History, Sites};
use crate::recording::Window;

/// Items that may wait for a slow disk.
const QUEUE: usize = 256;

/// Added to the name of a file that was made meanwhile under the name chosen for a recording.
const OLD: &str = ".old";

/// Why a recording came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No thread to write with.
    #[error("cannot start a thread to write with")]
    Thread(#[source] io::Error),
    /// The capture that is seen cannot be read.
    #[error(transparent)]
    Read(#[from] capture::ReadError),
}

/// A capture that is being written of a live stream, from when it was asked for on.
pub struct Recorder {
    /// The file.
    pub path: PathBuf,
    queue: SyncSender<Arc<Item>>,
    writer: JoinHandle<Result<u64, WriteError>>,
    before: Before,
}

/// Totals when the recording began: those of the stream count from its own beginning on.
struct Before {
    counters: Counters,
    sites: Sites,
}

impl Recorder {
    /// Makes the file, and begins it with what is known.
    pub fn start(path: PathBuf, history: &History) -> Result<Self, RecordError> {
        let mut file = capture::create(&path)?;
        // It can be read while it grows.
        file.publish_keeping(OLD)?;
        let (queue, items) = sync_channel(QUEUE);
        let writer = thread::Builder::new().name("capture".into());
        let writer = writer.spawn(move || write_all(file, &items)).map_err(RecordError::Thread)?;
        let before = Before { counters: history.counters().clone(), sites: history.sites.clone() };
        let recorder = Self { path, queue, writer, before };
        let mut first = beginning(history, history.now_ns());
        while let Some(item) = first.pop() {
            recorder.take(&Arc::new(item));
        }
        Ok(recorder)
    }

    /// Writes an item.
    pub fn take(&self, item: &Arc<Item>) {
        let item = match &**item {
            Item::Sites(sites) => Arc::new(Item::Sites(self.before.sites_since(sites))),
            Item::Counters(counters) => Arc::new(Item::Counters(self.before.counters_since(counters))),
            // Totals since the stream's beginning, of which nothing can be taken away here.
            Item::Lengths(_) | Item::PoolTimes(_) => return,
            _ => Arc::clone(item),
        };
        // A writer that failed tells so at the end.
        self.queue.send(item).ok();
    }

    /// Ends the capture at a moment; how many bytes it has.
    pub fn stop(self, now_ns: u64) -> Result<u64, RecordError> {
        self.queue.send(Arc::new(Item::End(End { time_ns: now_ns, ..End::default() }))).ok();
        drop(self.queue);
        match self.writer.join() {
            Ok(written) => Ok(written?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Before {
    fn sites_since(&self, sites: &[SiteCount]) -> Vec<SiteCount> {
        let since = |site: &SiteCount| {
            let before = self.sites.total((site.call_site, site.bytes_req, site.bytes_alloc));
            SiteCount { count: site.count.saturating_sub(before), ..*site }
        };
        sites.iter().map(since).collect()
    }

    /// What was seen is left out: events in the ring when the recording began are in the file and not in the difference.
    fn counters_since(&self, counters: &Counters) -> Counters {
        let mut since = counters.clone();
        since.seen.clear();
        for (name, values) in &mut since.lost {
            for (value, before) in values.iter_mut().zip(self.counters.lost.get(name).into_iter().flatten()) {
                *value = value.saturating_sub(*before);
            }
        }
        since.lost.retain(|_, values| values.iter().any(|value| *value > 0));
        since.predicted = since.predicted.saturating_sub(self.counters.predicted);
        since.linked = since.linked.saturating_sub(self.counters.linked);
        since.linked_bytes = since.linked_bytes.saturating_sub(self.counters.linked_bytes);
        since
    }
}

fn write_all(mut file: FileWriter, items: &Receiver<Arc<Item>>) -> Result<u64, WriteError> {
    for item in items {
        file.write(&item)?;
        if matches!(*item, Item::Counters(_)) {
            file.flush()?;
        }
    }
    file.finish()
}

/// Writes a window of a capture as a capture of its own; how many bytes it has.
pub fn write_window(path: &Path, mut window: Window) -> Result<u64, RecordError> {
    let mut file = capture::create(path)?;
    let is_part = matches!(window, Window::Part(_));
    while let Some(mut item) = window.next_item()? {
        if let Item::Counters(counters) = &mut item
            && is_part
        {
            // Those of the whole capture.
            counters.seen.clear();
            counters.predicted = 0;
        }
        file.write(&item)?;
    }
    Ok(file.finish()?)
}

#[cfg(test)]
mod tests {
    use tracer::capture::Reader;
    use tracer::replay::{self, Wanted};

    use super::*;
    use crate::feed::Feed;
    use crate::recording::{Bytes, Recording};

    const CAPTURE: &[u8] = include_bytes!("../../captures/default.bounce");

    #[test]
    fn what_is_recorded_of_a_stream_are_the_events_and_allocations_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bounce");
        let mut items = Vec::new();
        let mut source = Reader::new(CAPTURE).unwrap();
        while let Some(item) = source.next_item().unwrap() {
            items.push(Arc::new(item));
        }
        let half = items.len() / 2;
        let mut feed = Feed::live();
        items[..half].iter().for_each(|item| feed.take(Arc::clone(item)));
        let recorder = feed.with_history(|history| Recorder::start(path.clone(), history)).unwrap();
        items[half..].iter().for_each(|item| recorder.take(item));
        let bytes = recorder.stop(u64::MAX).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);

        let events = |items: &[Arc<Item>]| -> usize {
            items.iter().map(|item| if let Item::Events(batch) = &**item { batch.events.len() } else { 0 }).sum()
        };
        let replayed = replay::replay(&mut Reader::open(&path).unwrap(), |_| Wanted {
            statistics: true,
            verdict: true,
            ..Wanted::default()
        })
        .unwrap();
        let mut written = Vec::new();
        let mut source = Reader::open(&path).unwrap();
        while let Some(item) = source.next_item().unwrap() {
            written.push(Arc::new(item));
        }
        assert!(events(&items[half..]) > 1000);
        assert_eq!(events(&written), events(&items[half..]));
        assert!(replayed.gaps.is_empty() && replayed.end.is_some(), "{:?}", replayed.gaps);
    }

    #[test]
    fn a_window_that_is_written_replays_as_it_did() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bounce");
        let recording = Recording::read(Bytes::Static(CAPTURE)).unwrap();
        let (first, last) = {
            let known = recording.known();
            (known.history.first_ns(), known.history.now_ns())
        };
        let (from, to) = (first + (last - first) / 3, first + (last - first) / 3 * 2);
        write_window(&path, recording.window(from, to).unwrap()).unwrap();
        let wanted = |_: &tracer::stream::Start| Wanted { statistics: true, ..Wanted::default() };
        let expected = replay::replay(&mut recording.window(from, to).unwrap(), wanted).unwrap();
        let written = replay::replay(&mut Reader::open(&path).unwrap(), wanted).unwrap();
        assert!(expected.observed.total().mappings > 0);
        assert_eq!(written.observed_rows, expected.observed_rows);
    }
}
