//! Where in a trace the events of each CPU are, what describes them, and what was lost.

use std::io::{self, Read, Seek};

use hashbrown::HashMap;

use super::event::Shapes;
use super::losses::Losses;
use super::walk::{Found, Walk, cut_off};

/// `Trace.packet`.
pub(super) const PACKET: u32 = 1;

/// Fields of `TracePacket`.
pub(super) mod packet {
    pub(in super::super) const FTRACE_EVENTS: u32 = 1;
    pub(in super::super) const SEQUENCE_ID: u32 = 10;
    pub(in super::super) const FTRACE_STATS: u32 = 34;
    pub(in super::super) const TRACE_STATS: u32 = 35;
    pub(in super::super) const PREVIOUS_DROPPED: u32 = 42;
    pub(in super::super) const COMPRESSED: u32 = 50;
    pub(in super::super) const ZSTD_COMPRESSED: u32 = 133;
}

/// Fields of `FtraceEventBundle`.
pub(super) mod bundle {
    pub(in super::super) const CPU: u32 = 1;
    pub(in super::super) const EVENT: u32 = 2;
    pub(in super::super) const LOST_EVENTS: u32 = 3;
    pub(in super::super) const CLOCK: u32 = 5;
    pub(in super::super) const DESCRIPTORS: u32 = 11;
}

/// CPUs of all data sources of which events are read. Linux has at most 8192 CPUs, Perfetto mostly one source of kernel events.
const STREAMS: usize = 16 << 10;

/// Longest statistics and descriptions that are read, bytes.
const LONGEST: u64 = 16 << 20;

/// The events of a CPU that one data source recorded.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) cpu: u64,
    /// In the order of the file, which is that of their times.
    pub(super) bundles: Vec<Bundle>,
}

/// Some events of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    /// Bytes from the beginning of the file.
    pub(super) begin: u64,
    pub(super) end: u64,
    /// `FtraceClock`.
    pub(super) clock: u8,
}

/// A trace that was looked through.
#[derive(Debug)]
pub(super) struct Index<R> {
    pub(super) walk: Walk<R>,
    pub(super) streams: Vec<Stream>,
    pub(super) shapes: Shapes,
    pub(super) losses: Losses,
    /// What is not whole.
    pub(super) notes: Vec<String>,
}

impl<R: Read + Seek> Index<R> {
    /// Looks through a file.
    pub(super) fn of(file: R) -> io::Result<Self> {
        let walk = Walk::new(file)?;
        let mut index =
            Self { walk, streams: Vec::new(), shapes: Shapes::default(), losses: Losses::default(), notes: Vec::new() };
        let mut by_source = HashMap::new();
        let mut left_out = 0;
        let end = index.walk.len();
        while let Some((field, found)) = index.walk.field(end)? {
            if let (PACKET, Found::Bytes { end }) = (field, found) {
                left_out += index.packet(end, &mut by_source)?;
            }
            index.walk.pass(found)?;
        }
        let left = end - index.walk.at();
        if left > 0 {
            index.notes.push(cut_off(left));
        }
        if left_out > 0 {
            index.losses.left_out(left_out);
            index.notes.push(format!("{left_out} events of more CPUs and data sources than {STREAMS} were left out"));
        }
        index.notes.extend(index.losses.note());
        Ok(index)
    }

    /// Takes in a packet. How many of its events are left out.
    fn packet(&mut self, end: u64, by_source: &mut HashMap<(u64, u64), usize>) -> io::Result<u64> {
        let (mut sequence, mut dropped) = (None, None);
        let mut bundles = Vec::new();
        while let Some((field, found)) = self.walk.field(end)? {
            match (field, found) {
                (packet::FTRACE_EVENTS, Found::Bytes { end }) => {
                    bundles.extend(Some(self.bundle(end)?).filter(|(_, _, events)| *events > 0));
                }
                (packet::FTRACE_STATS, Found::Bytes { end }) if end - self.walk.at() <= LONGEST => {
                    self.losses.kernel(&self.walk.bytes(end)?);
                }
                (packet::TRACE_STATS, Found::Bytes { end }) if end - self.walk.at() <= LONGEST => {
                    self.losses.buffers(&self.walk.bytes(end)?);
                }
                (packet::SEQUENCE_ID, _) => sequence = sequence.or(Some(found.number())),
                (packet::PREVIOUS_DROPPED, _) => dropped = dropped.or(Some(found.number())),
                _ => {}
            }
            self.walk.pass(found)?;
        }
        let sequence = sequence.unwrap_or(0);
        self.losses.packet(sequence, dropped.is_some_and(|dropped| dropped != 0));
        let mut left_out = 0;
        for (cpu, bundle, events) in bundles {
            let next = self.streams.len();
            let at = *by_source.entry((sequence, cpu)).or_insert(next);
            if at == next && next < STREAMS {
                self.streams.push(Stream { cpu, bundles: Vec::new() });
            }
            if let Some(stream) = self.streams.get_mut(at) {
                stream.bundles.push(bundle);
            } else {
                by_source.remove(&(sequence, cpu));
                left_out += events;
            }
        }
        Ok(left_out)
    }

    /// Takes in a bundle: its CPU, where it is, and how many events it has.
    fn bundle(&mut self, end: u64) -> io::Result<(u64, Bundle, u64)> {
        let begin = self.walk.at();
        let (mut cpu, mut clock, mut lost, mut events) = (0, 0, false, 0);
        while let Some((field, found)) = self.walk.field(end)? {
            match (field, found) {
                (bundle::EVENT, _) => events += 1,
                (bundle::CPU, _) => cpu = found.number(),
                (bundle::CLOCK, _) => clock = found.number(),
                (bundle::LOST_EVENTS, _) => lost = found.number() != 0,
                (bundle::DESCRIPTORS, Found::Bytes { end }) if end - self.walk.at() <= LONGEST => {
                    self.shapes.learn(&self.walk.bytes(end)?);
                }
                _ => {}
            }
            self.walk.pass(found)?;
        }
        // What is no whole field is passed over with the rest of the bundle.
        self.walk.go(end)?;
        self.losses.bundle(cpu, lost);
        Ok((cpu, Bundle { begin, end, clock: u8::try_from(clock).unwrap_or(u8::MAX) }, events))
    }
}
