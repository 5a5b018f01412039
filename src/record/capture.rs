//! The sink of `record`: a capture that a thread of its own writes, and what is said of it at the end.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::Notify;
use tracer::{
    capture::{FRAME_EVENTS, FileWriter, Filling, Frame, WriteError},
    event::Batch,
    facts::{Counters, End, PoolSample},
    live::{Drained, Session, Sink, renounce},
    pseudonym::Pseudonyms,
    report::bytes,
    stream::Item,
};
use tui::live_line::LiveLine;

use super::Args;
use crate::{input::say, output::suffix_of_old};

/// Batches that may wait for a slow disk, before the ring has to.
pub(super) const QUEUE: usize = 64;
/// Frames that are kept to be used again: as many as are under way where the disk keeps up.
const SPARE: usize = 4;

/// Where items go: a thread that compresses and writes, so that the ring is emptied meanwhile.
pub(super) struct Capture {
    queue: SyncSender<Work>,
    /// Taken when it is joined.
    writer: Option<JoinHandle<Result<u64>>>,
    pseudonyms: Option<Pseudonyms>,
    /// Events of the frame that comes next; `None` where addresses have to be replaced in each.
    columns: Option<Filling>,
    /// Frames that were written: their memory serves the next ones.
    written: Receiver<Frame>,
    /// Whether a line on the terminal says how it goes.
    live: bool,
    /// Told when the file has become as long as it may.
    full: Arc<Notify>,
    seen: Seen,
}

/// What is said of a recording, as far as it has been seen.
#[derive(Default)]
pub(super) struct Seen {
    line: LiveLine,
    now_ns: u64,
    last_counters: Option<Counters>,
    last_pool: Option<PoolSample>,
    hiwater_reset: bool,
    end: Option<End>,
}

impl Seen {
    /// Takes in one item.
    pub(super) fn item(&mut self, item: &Item) {
        self.line.observe(item);
        match item {
            Item::Start(start) => self.hiwater_reset = start.kernel.pool.hiwater_reset,
            Item::Pool(sample) => self.last_pool = Some(sample.clone()),
            Item::Counters(counters) => {
                self.now_ns = counters.time_ns;
                self.last_counters = Some(counters.clone());
            }
            Item::End(end) => self.end = Some(end.clone()),
            _ => {}
        }
    }

    /// The kernel has counters of its pool.
    pub(super) fn has_pool(&self) -> bool {
        self.last_pool.is_some()
    }

    /// Takes in what went into columns.
    fn drained(&mut self, others: Batch, objects: u64) {
        self.line.observe(&Item::Events(others));
        self.line.observe_objects(objects);
    }

    /// What came of it, in a file of so many bytes.
    pub(super) fn summary(self, bytes: u64) -> Summary {
        Summary {
            bytes,
            line: self.line,
            counters: self.last_counters.unwrap_or_default(),
            pool: self.last_pool,
            hiwater_reset: self.hiwater_reset,
            end: self.end.unwrap_or_default(),
        }
    }
}

enum Work {
    Write(Item),
    Frame(Frame),
    Flush,
    Finish,
}

impl Capture {
    /// Items go to this file, without the kernel's addresses where that is asked for.
    pub(super) fn new(file: FileWriter, args: &Args, live: bool) -> Result<Self> {
        let (queue, work) = sync_channel(QUEUE);
        let (used, written) = sync_channel(SPARE);
        let full = Arc::new(Notify::new());
        let ends = Ends { runs_command: !args.command.is_empty(), at: args.max_size, full: Arc::clone(&full) };
        let path = args.output.clone();
        let write = move || write_all(file, &path, &ends, &work, &used);
        let writer = thread::Builder::new().name("capture".into()).spawn(write)?;
        Ok(Self {
            queue,
            writer: Some(writer),
            pseudonyms: args.no_addresses.then(Pseudonyms::default),
            columns: (!args.no_addresses).then(|| Filling::new(args.object_tick_ns())),
            written,
            live,
            full,
            seen: Seen::default(),
        })
    }

    /// Ends when the file has become as long as it may.
    pub(super) fn full(&self) -> impl Future<Output = ()> + use<> {
        let full = Arc::clone(&self.full);
        async move { full.notified().await }
    }

    /// Writes items behind all events so far.
    pub(super) fn write_all(&mut self, items: Vec<Item>) -> Result<()> {
        self.write_columns()?;
        items.into_iter().try_for_each(|item| self.write(item))
    }

    /// Takes what is in the rings as columns, or else as events. Devices and names come before what waits for its frame to be full.
    pub(super) fn drain(&mut self, session: &mut Session) -> Result<()> {
        let Some(columns) = &mut self.columns else { return self.write_all(session.drain()) };
        let Drained { items, others, objects } = session.drain_into(columns);
        let is_full = columns.is_full();
        items.into_iter().try_for_each(|item| self.write(item))?;
        self.seen.drained(others, objects);
        if is_full { self.write_columns() } else { Ok(()) }
    }

    /// Has the events that wait written.
    fn write_columns(&mut self) -> Result<()> {
        let Some(columns) = self.columns.as_mut().filter(|columns| !columns.is_empty()) else { return Ok(()) };
        let frame = columns.finish(self.written.try_recv().unwrap_or_default());
        self.send(Work::Frame(frame))
    }

    pub(super) fn write(&mut self, mut item: Item) -> Result<()> {
        if let Some(pseudonyms) = &mut self.pseudonyms {
            pseudonyms.hide(&mut item);
        }
        self.seen.item(&item);
        self.send(Work::Write(item))
    }

    /// The writer only goes away when it failed.
    fn send(&mut self, work: Work) -> Result<()> {
        if self.queue.send(work).is_err() {
            self.join()?;
        }
        Ok(())
    }

    /// What the writer came to, once its queue is closed or it has failed: the length of the file, bytes.
    fn join(&mut self) -> Result<u64> {
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            _ => bail!("the thread that writes the capture panicked"),
        }
    }

    pub(super) fn close(mut self) -> Result<Summary> {
        self.write_columns()?;
        self.send(Work::Finish)?;
        let bytes = self.join()?;
        if self.live {
            say("\r\x1b[K\n");
        }
        Ok(std::mem::take(&mut self.seen).summary(bytes))
    }
}

impl Drop for Capture {
    /// Where the recording failed, what is written until now is brought to the file, or a file without a name is removed.
    fn drop(&mut self) {
        self.queue = sync_channel(0).0;
        if let Some(writer) = self.writer.take() {
            writer.join().ok();
        }
    }
}

impl Sink for Capture {
    type Error = anyhow::Error;

    async fn take(&mut self, items: Vec<Item>) -> Result<()> {
        self.write_all(items)
    }

    async fn drain(&mut self, session: &mut Session) -> Result<()> {
        Self::drain(self, session)
    }

    /// The file is made to hold everything so far.
    async fn counted(&mut self, _: &Session) -> Result<()> {
        self.send(Work::Flush)?;
        if self.live {
            say(&format!("\r\x1b[K{}", self.seen.line.render(self.seen.now_ns)));
        }
        Ok(())
    }
}

/// What the thread that writes has to know of the end.
struct Ends {
    /// A command is run, which gets what the user may have.
    runs_command: bool,
    /// From so many bytes on the recording is to end.
    at: Option<u64>,
    full: Arc<Notify>,
}

/// Writes what comes; its length, bytes. The file takes the place of what was there when the first counters are in: hooks are attached
/// and the command runs, and from then on the thread needs no privilege any more.
fn write_all(
    mut file: FileWriter,
    path: &Path,
    ends: &Ends,
    work: &Receiver<Work>,
    used: &SyncSender<Frame>,
) -> Result<u64> {
    let mut has_name = false;
    let mut gathered = Gathered::default();
    let written = |result: Result<(), WriteError>, has_name: bool| match result {
        Err(error) if !has_name => Err(nothing_left(path, error)),
        result => Ok(result?),
    };
    for work in work {
        let work = match work {
            Work::Write(Item::Events(batch)) => {
                written(gathered.add(batch, &mut file), has_name)?;
                None
            }
            work => {
                written(gathered.write(&mut file), has_name)?;
                Some(work)
            }
        };
        match work {
            None => {}
            Some(Work::Frame(frame)) => {
                written(file.write_frame(&frame), has_name)?;
                // Where there are enough of them, it goes.
                used.try_send(frame).ok();
            }
            Some(Work::Write(item)) => written(file.write(&item), has_name)?,
            Some(Work::Flush) if has_name => file.flush()?,
            Some(Work::Flush) => {
                file.publish_keeping(suffix_of_old(path)).map_err(|error| nothing_left(path, error))?;
                renounce(ends.runs_command).context("cannot give up capabilities")?;
                has_name = true;
            }
            Some(Work::Finish) => return Ok(file.finish_keeping(suffix_of_old(path))?),
        }
        if ends.at.is_some_and(|most| file.bytes_written() >= most) {
            ends.full.notify_one();
        }
    }
    gathered.write(&mut file)?;
    file.flush()?;
    Ok(file.bytes_written())
}

/// Events that wait for more: the rings are emptied more often than frames are worth making.
#[derive(Default)]
struct Gathered(Batch);

impl Gathered {
    /// Adds events, and writes those in front where both are too many for a frame.
    fn add(&mut self, batch: Batch, file: &mut FileWriter) -> Result<(), WriteError> {
        if self.0.events.len() + batch.events.len() > FRAME_EVENTS {
            self.write(file)?;
        }
        if self.0.events.is_empty() {
            self.0 = batch;
        } else {
            self.0.append(&batch);
        }
        Ok(())
    }

    /// Writes what waits.
    fn write(&mut self, file: &mut FileWriter) -> Result<(), WriteError> {
        if self.0.events.is_empty() {
            return Ok(());
        }
        file.write(&Item::Events(std::mem::take(&mut self.0)))
    }
}

/// Until the first counters are in, the file has no name, and goes away with the recorder.
fn nothing_left(path: &Path, error: WriteError) -> anyhow::Error {
    let path = path.display();
    match error {
        WriteError::Io(error) => {
            anyhow!("cannot write {path}: {error}; nothing is left of this recording, which had just begun")
        }
        other => other.into(),
    }
}

/// What is said at the end.
pub(super) struct Summary {
    bytes: u64,
    line: LiveLine,
    counters: Counters,
    pool: Option<PoolSample>,
    hiwater_reset: bool,
    end: End,
}

impl Summary {
    /// What came of the recording, what it cost, and what to do with it.
    pub(super) fn text(&self, path: &Path) -> String {
        let totals = self.line.totals();
        let predicted = self.counters.predicted;
        let mut text = format!("{}: {} events, {}\n", path.display(), totals.events, bytes(self.bytes));
        let mappings = totals.counted.max(totals.mappings);
        text += &format!(
            "mapped    {mappings} mappings, {} of them recorded, {} refused\n",
            totals.mappings, totals.refused
        );
        text += &format!("bounces   {} tried; the programs predicted {predicted} for alignment\n", totals.bounces);
        if let Some(overlaps) = self.line.overlaps().filter(|overlaps| overlaps.count() > 0) {
            let at_least = if overlaps.is_whole() { "" } else { "at least " };
            text += &format!(
                "overlaps  {at_least}{} buffers mapped beside another mapping in their cache lines: replay --wide names them\n",
                overlaps.count()
            );
        }
        if let Some(pool) = &self.pool {
            let hiwater = pool.hiwater_slots.filter(|_| self.hiwater_reset);
            let most = hiwater.map_or_else(String::new, |slots| format!(", at most {slots} in use"));
            text += &format!("pool      {} slots{most}, {} in use at the end\n", pool.slots, pool.used_slots);
        }
        if self.counters.lost.is_empty() {
            text += "lost      nothing\n";
        }
        for (name, values) in &self.counters.lost {
            text += &format!("LOST {name}: {} (per CPU {values:?})\n", values.iter().sum::<u64>());
        }
        text += &format!("cost      {:.3} s of CPU time for the recorder\n", self.end.recorder_cpu_ns as f64 / 1e9);
        if self.end.counted_ns > 0 {
            text += &format!("          programs, counted for {:.3} s:\n", self.end.counted_ns as f64 / 1e9);
        }
        for program in self.end.programs.iter().filter(|program| program.run_cnt > 0) {
            let each = program.run_time_ns as f64 / program.run_cnt as f64;
            text += &format!("          {:16} {:>10} runs, {each:.0} ns each\n", program.name, program.run_cnt);
        }
        text + &next(path, mappings)
    }
}

/// The command to type next; none for a capture that went into a pipe.
fn next(path: &Path, mappings: u64) -> String {
    match path.to_str() {
        _ if !path.is_file() => String::new(),
        _ if mappings == 0 => {
            "next      nothing was mapped: bouncescope doctor shows what can be traced here\n".to_owned()
        }
        Some(name) => format!("next      bouncescope replay {}\n", quoted(name)),
        None => String::new(),
    }
}

/// As a shell takes it for one word.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if name.chars().all(is_plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_type_next_names_the_capture_as_a_shell_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's a phone.bounce");
        assert_eq!(next(&path, 1), "", "there is no file");
        std::fs::write(&path, "").unwrap();
        let name = path.to_str().unwrap().replace('\'', "'\\''");
        assert_eq!(next(&path, 1), format!("next      bouncescope replay '{name}'\n"));
        assert!(next(&path, 0).contains("nothing was mapped"));
        assert_eq!(quoted("/tmp/phone-1.bounce"), "/tmp/phone-1.bounce");
    }

    #[test]
    fn a_disk_that_fills_before_the_recording_has_begun_leaves_nothing_and_that_is_said() {
        let full = WriteError::Io(std::io::ErrorKind::StorageFull.into());
        let said = nothing_left(Path::new("x.bounce"), full).to_string();
        assert!(said.starts_with("cannot write x.bounce: ") && said.contains("nothing is left"), "{said}");
    }
}
