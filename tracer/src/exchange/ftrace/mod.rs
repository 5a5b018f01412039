//! Text traces: `trace` and `trace_pipe` of tracefs, `trace-cmd report`, `perf script`.
//!
//! Read twice: [`Survey`] finds what a trace holds and what it shows of its devices, [`Trace`] makes a stream of it.

mod convert;
mod fields;
mod line;
mod lines;
mod survey;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead};

pub use survey::{Seen, Survey};

use crate::event::{Batch, DeviceId, Kind};
use crate::facts::{Counters, Device, End, Hook, KernelFacts, Symbol};
use crate::replay::losses::OF_TRACE;
use crate::stream::{Gaps, Item, Source, Start};

use convert::Converter;
use line::{Parsed, parse};
use lines::next_line;

/// Events in one batch.
const BATCH: usize = 16 << 10;

/// A text trace as a stream.
#[derive(Debug)]
pub struct Trace<R> {
    lines: R,
    line: Vec<u8>,
    /// What comes before the events, the last first.
    ahead: Vec<Item>,
    converter: Converter,
    lost: u64,
    last_ns: u64,
    symbols: Vec<Symbol>,
    /// What comes after the events, the last first; filled when they have ended.
    behind: Option<Vec<Item>>,
    read: u64,
}

impl<R: BufRead> Trace<R> {
    /// A trace that was surveyed, of this kernel and these devices, each described by its name.
    pub fn new(lines: R, survey: &Survey, kernel: KernelFacts, devices: Vec<Device>, notes: Vec<String>) -> Self {
        let start = Start {
            time_ns: survey.first_ns,
            kernel,
            hooks: survey.hooks(),
            allocation_sample: u64::from(survey.has(Kind::Kmalloc)),
            notes,
            recorder: "bouncescope import".to_owned(),
            ..Start::default()
        };
        let mut ids = HashMap::new();
        let mut ahead = vec![Item::Start(start)];
        for (n, device) in devices.into_iter().enumerate() {
            let id = DeviceId(n as u32);
            ids.insert(device.name.clone(), id);
            ahead.push(Item::Device(Device { id, time_ns: survey.first_ns, ..device }));
        }
        ahead.reverse();
        Self {
            lines,
            line: Vec::new(),
            ahead,
            converter: Converter::new(ids),
            lost: 0,
            last_ns: survey.first_ns,
            symbols: Vec::new(),
            behind: None,
            read: 0,
        }
    }

    /// The next lines' events; empty at the end.
    fn batch(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        while batch.events.len() < BATCH {
            let read = next_line(&mut self.lines, &mut self.line)?;
            if read == 0 {
                break;
            }
            self.read += read;
            match parse(&String::from_utf8_lossy(&self.line)) {
                Parsed::Event(line) => {
                    self.last_ns = self.last_ns.max(line.time_ns);
                    self.converter.event(&line, &mut batch, &mut self.symbols);
                }
                Parsed::Lost(count) | Parsed::Overwritten(count) => self.lost += count,
                Parsed::Nothing | Parsed::Nonsense => {}
            }
        }
        Ok(batch)
    }

    fn behind(&self) -> Vec<Item> {
        let seen = &self.converter.converted;
        let mut counters = Counters {
            time_ns: self.last_ns,
            seen: seen.iter().map(|(kind, count)| ((*kind).to_owned(), vec![*count])).collect(),
            ..Counters::default()
        };
        if self.lost > 0 {
            counters.lost.insert(OF_TRACE.to_owned(), vec![self.lost]);
        }
        let events: BTreeMap<String, u64> = seen.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        let end = End { time_ns: self.last_ns, events, ..End::default() };
        vec![Item::End(end), Item::Counters(counters), Item::Sites(self.converter.sites())]
    }
}

impl<R: BufRead> Source for Trace<R> {
    type Error = io::Error;

    fn next_item(&mut self) -> io::Result<Option<Item>> {
        if let Some(item) = self.ahead.pop() {
            return Ok(Some(item));
        }
        if self.behind.is_none() {
            let batch = self.batch()?;
            if !batch.events.is_empty() {
                self.ahead.push(Item::Events(batch));
                if !self.symbols.is_empty() {
                    self.ahead.push(Item::Symbols(std::mem::take(&mut self.symbols)));
                }
                return Ok(self.ahead.pop());
            }
            self.behind = Some(self.behind());
        }
        Ok(self.behind.as_mut().and_then(Vec::pop))
    }

    fn gaps(&self) -> Gaps {
        Gaps::default()
    }

    fn bytes_read(&self) -> u64 {
        self.read
    }
}

/// A hook as an import has it: the trace's own event.
fn hook(subject: &str, event: &str, seen: bool) -> Hook {
    Hook {
        subject: subject.to_owned(),
        place: format!("event {event}"),
        attached: seen,
        why_not: if seen { String::new() } else { "the trace has none of it".to_owned() },
        ..Hook::default()
    }
}

#[cfg(test)]
mod tests;
