//! Where `record`'s items go, and what is said of them at the end.

use std::{
    io::Write as _,
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::{Result, bail};
use tracer::{
    capture::FileWriter,
    facts::{Counters, End, PoolSample},
    pseudonym::Pseudonyms,
    stream::Item,
};
use tui::live_line::LiveLine;

/// Batches that may wait for a slow disk, before the ring has to.
const QUEUE: usize = 64;

/// Where items go: a thread that compresses and writes, so that the ring is emptied meanwhile.
pub(super) struct Sink {
    queue: SyncSender<Work>,
    /// Taken when it is joined.
    writer: Option<JoinHandle<Result<u64>>>,
    pseudonyms: Option<Pseudonyms>,
    pub(super) line: LiveLine,
    pub(super) now_ns: u64,
    last_counters: Option<Counters>,
    last_pool: Option<PoolSample>,
    hiwater_reset: bool,
    end: Option<End>,
}

enum Work {
    Write(Item),
    Flush,
}

impl Sink {
    /// Items go to this file, without the kernel's addresses where there are pseudonyms for them.
    pub(super) fn new(file: FileWriter, pseudonyms: Option<Pseudonyms>) -> Result<Self> {
        let (queue, work) = sync_channel(QUEUE);
        let writer = thread::Builder::new().name("capture".into()).spawn(move || write_all(file, &work))?;
        Ok(Self {
            queue,
            writer: Some(writer),
            pseudonyms,
            line: LiveLine::default(),
            now_ns: 0,
            last_counters: None,
            last_pool: None,
            hiwater_reset: false,
            end: None,
        })
    }

    pub(super) fn take_all(&mut self, items: Vec<Item>) -> Result<()> {
        items.into_iter().try_for_each(|item| self.take(item))
    }

    pub(super) fn take(&mut self, mut item: Item) -> Result<()> {
        if let Some(pseudonyms) = &mut self.pseudonyms {
            pseudonyms.hide(&mut item);
        }
        self.line.observe(&item);
        match &item {
            Item::Start(start) => self.hiwater_reset = start.kernel.pool.hiwater_reset,
            Item::Pool(sample) => self.last_pool = Some(*sample),
            Item::Counters(counters) => {
                self.now_ns = counters.time_ns;
                self.last_counters = Some(counters.clone());
            }
            Item::End(end) => self.end = Some(end.clone()),
            _ => {}
        }
        self.send(Work::Write(item))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.send(Work::Flush)
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
        // Closing the queue ends the writer.
        self.queue = sync_channel(0).0;
        let bytes = self.join()?;
        Ok(Summary {
            bytes,
            line: self.line,
            counters: self.last_counters.unwrap_or_default(),
            pool: self.last_pool,
            hiwater_reset: self.hiwater_reset,
            end: self.end.unwrap_or_default(),
        })
    }
}

fn write_all(mut file: FileWriter, work: &Receiver<Work>) -> Result<u64> {
    for work in work {
        match work {
            Work::Write(item) => file.write(&item)?,
            Work::Flush => file.flush()?,
        }
    }
    file.flush()?;
    Ok(file.bytes_written())
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
    pub(super) fn text(&self, path: &Path) -> Result<String> {
        let mut text = Vec::new();
        let totals = self.line.totals();
        writeln!(text, "{}: {} events, {} bytes", path.display(), totals.events, self.bytes)?;
        writeln!(
            text,
            "mappings {}, refused {}, bounces {}, predicted in the kernel for kmalloc alignment {}",
            totals.mappings, totals.refused, totals.bounces, self.counters.predicted
        )?;
        if let Some(pool) = self.pool {
            write!(text, "pool {} slots, {} in use", pool.slots, pool.used_slots)?;
            if let Some(hiwater) = pool.hiwater_slots.filter(|_| self.hiwater_reset) {
                write!(text, ", at most {hiwater}")?;
            }
            writeln!(text)?;
        }
        if self.counters.lost.is_empty() {
            writeln!(text, "nothing lost")?;
        }
        for (name, values) in &self.counters.lost {
            writeln!(text, "LOST {name}: {} (per CPU {values:?})", values.iter().sum::<u64>())?;
        }
        writeln!(text, "own cost: recorder {:.3} s of CPU time", self.end.recorder_cpu_ns as f64 / 1e9)?;
        if self.end.counted_ns > 0 {
            writeln!(text, "own cost: programs, counted for {:.3} s", self.end.counted_ns as f64 / 1e9)?;
        }
        for program in self.end.programs.iter().filter(|program| program.run_cnt > 0) {
            let each = program.run_time_ns as f64 / program.run_cnt as f64;
            writeln!(text, "  {:16} {:>10} runs, {each:.0} ns each", program.name, program.run_cnt)?;
        }
        Ok(String::from_utf8(text)?)
    }
}
