//! Text traces: `trace` and `trace_pipe` of tracefs, `trace-cmd report`, `perf script`.
//!
//! [`Survey`] finds what a trace holds and what it shows of its devices, [`Trace`] makes a stream of it, from the text again or from what
//! was kept of it.

mod convert;
mod fields;
mod kept;
mod line;
mod lines;
mod survey;
mod values;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead};
use std::vec;

use hashbrown::HashMap;

pub use survey::{Seen, Survey};

use bouncescope_capture::event::{Batch, DeviceId, Event, Kind, Segment, What};
use bouncescope_capture::facts::{Counters, Device, End, Hook, KernelFacts, Symbol};
use bouncescope_capture::names::{Loss, Subject};
use bouncescope_capture::stream::{Gaps, Item, Source, Start};

use convert::Converter;
use kept::{Converted, Kept, Target};
use line::{Parsed, parse};
use lines::Lines;
use values::{Lists, Values, known};

/// Events in one batch.
const BATCH: usize = 16 << 10;

/// Where events are read from.
#[derive(Debug)]
enum Events<R> {
    /// The lines, and the instance whose events are taken; empty for the main one.
    Text(Lines<R>, String),
    /// What a survey kept of them.
    Kept(Kept<R>),
}

/// A text trace as a stream.
#[derive(Debug)]
pub struct Trace<R> {
    from: Events<R>,
    lists: Lists,
    /// All events in the order of their times, where the lines are not.
    sorted: Option<vec::IntoIter<(Event, Vec<Segment>)>>,
    unordered: bool,
    /// What comes before the events, the last first.
    ahead: Vec<Item>,
    converter: Converter,
    lost: u64,
    twice: u64,
    last_ns: u64,
    symbols: Vec<Symbol>,
    /// What comes after the events, the last first; filled when they have ended.
    behind: Option<Vec<Item>>,
}

impl<R: BufRead> Trace<R> {
    /// A trace that was surveyed, of this kernel and these devices, each described by its name.
    pub fn new(lines: R, survey: &Survey, kernel: KernelFacts, devices: Vec<Device>, notes: Vec<String>) -> Self {
        let lines = Events::Text(Lines::new(lines), survey.instance.clone());
        Self::begun(lines, 0, survey, kernel, devices, notes)
    }

    /// The same from what [`Survey::keeping`] kept of its events.
    pub fn of_kept(kept: R, survey: &Survey, kernel: KernelFacts, devices: Vec<Device>, notes: Vec<String>) -> Self {
        let kept = Events::Kept(Kept::new(kept, survey.instance_number));
        Self::begun(kept, survey.lost, survey, kernel, devices, notes)
    }

    fn begun(
        from: Events<R>,
        lost: u64,
        survey: &Survey,
        kernel: KernelFacts,
        devices: Vec<Device>,
        notes: Vec<String>,
    ) -> Self {
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
            from,
            lists: Lists::default(),
            ahead,
            sorted: None,
            unordered: survey.unordered,
            converter: Converter::new(ids, survey.has(Kind::Bounced)),
            lost,
            twice: 0,
            last_ns: survey.first_ns,
            symbols: Vec::new(),
            behind: None,
        }
    }

    /// The next events; empty at the end.
    fn batch(&mut self) -> io::Result<Batch> {
        if !self.unordered {
            return self.read(BATCH);
        }
        let mut sorted = match self.sorted.take() {
            Some(sorted) => sorted,
            None => self.sort()?,
        };
        let mut batch = Batch::default();
        for (mut event, segments) in sorted.by_ref().take(BATCH) {
            if let What::MapSg { first_segment, .. } = &mut event.what {
                *first_segment = batch.segments.len() as u32;
            }
            batch.events.push(event);
            batch.segments.extend(segments);
        }
        self.sorted = Some(sorted);
        Ok(batch)
    }

    /// Events of the next lines, about `most`.
    fn read(&mut self, most: usize) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let Self { from, converter, lists, symbols, .. } = self;
        while batch.events.len() < most {
            match from {
                Events::Text(lines, instance) => {
                    let Some(text) = lines.next()? else { break };
                    match parse(&text) {
                        Parsed::Event(line) if is_of(instance, line.instance) => {
                            let Some(event) = known(line.event) else { continue };
                            match Values::of(event, line.text, lists) {
                                Some(values) if converter.event(&line, &values, lists, &mut batch, symbols) => {
                                    self.last_ns = self.last_ns.max(line.time.ns());
                                }
                                _ => self.lost += 1,
                            }
                        }
                        Parsed::Lost(count) | Parsed::Overwritten(count) => self.lost = self.lost.saturating_add(count),
                        _ => {}
                    }
                }
                Events::Kept(kept) => {
                    let Some(event) = kept.next(&mut Target { converter, lists, batch: &mut batch, symbols })? else {
                        break;
                    };
                    match event {
                        Converted::At(time_ns) => self.last_ns = self.last_ns.max(time_ns),
                        Converted::OfNobody => self.lost += 1,
                    }
                }
            }
        }
        Ok(batch)
    }

    /// All events, sorted by time, and without those that are there twice (a file read again, or two that overlap).
    fn sort(&mut self) -> io::Result<vec::IntoIter<(Event, Vec<Segment>)>> {
        let mut events = Vec::new();
        loop {
            let batch = self.read(BATCH)?;
            if batch.events.is_empty() {
                break;
            }
            events.extend(batch.events.into_iter().map(|mut event| {
                let mut segments = Vec::new();
                if let What::MapSg { first_segment, segments: count, .. } = &mut event.what {
                    let from = *first_segment as usize;
                    segments = batch.segments[from..from + *count as usize].to_vec();
                    *first_segment = 0;
                }
                (event, segments)
            }));
        }
        events.sort_by_key(|(event, _)| event.time_ns);
        let (mut time_ns, mut at_this_time) = (0, HashSet::new());
        let before = events.len();
        events.retain(|(event, _)| {
            if event.time_ns != time_ns {
                time_ns = event.time_ns;
                at_this_time.clear();
            }
            at_this_time.insert(*event)
        });
        self.twice = (before - events.len()) as u64;
        Ok(events.into_iter())
    }

    /// Events that the trace holds twice; known once all events are read.
    pub fn twice(&self) -> u64 {
        self.twice
    }

    fn behind(&self) -> Vec<Item> {
        let seen = &self.converter.converted;
        let mut counters = Counters {
            time_ns: self.last_ns,
            seen: seen.iter().map(|(kind, count)| (kind.name().to_owned(), vec![*count])).collect(),
            ..Counters::default()
        };
        if self.lost > 0 {
            counters.lost.insert(Loss::TraceEvents, vec![self.lost]);
        }
        let events: BTreeMap<String, u64> = seen.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect();
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
        match &self.from {
            Events::Text(lines, _) => lines.read,
            Events::Kept(kept) => kept.read,
        }
    }
}

/// Whether an instance is this one. Most have no name: `memcmp()` of no bytes is slow where their address is none.
fn is_of(instance: &str, name: &str) -> bool {
    instance.len() == name.len() && (name.is_empty() || instance == name)
}

/// A hook as an import has it: the trace's own event.
fn hook(subject: Subject, event: &str, seen: bool) -> Hook {
    Hook {
        subject,
        place: format!("event {event}"),
        attached: seen,
        why_not: if seen { String::new() } else { "the trace has none of it".to_owned() },
        ..Hook::default()
    }
}

#[cfg(test)]
mod tests;
