//! The events of all CPUs in order of time: each CPU's are, and a part of each is in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Seek};

use super::event::time_of;
use super::index::{Bundle, Stream, bundle};
use super::walk::Walk;
use crate::protobuf::{Fields, Value, length_of_first};

/// Bytes of events that are in memory, shared among the CPUs, and how many each has at least and at most.
const HELD: usize = 4 << 20;
const WINDOW: (usize, usize) = (512, 32 << 10);

/// Longest event that is read, bytes: the kernel writes none that is longer than a page of its buffer, of at most 64 KiB.
const LONGEST: u64 = 256 << 10;

/// Longest key and length of a field, bytes.
const HEAD: u64 = 20;

/// Events of a trace, one after the other.
#[derive(Debug)]
pub(super) struct Bundles<R> {
    walk: Walk<R>,
    cpus: Vec<Cpu>,
    /// The next event of each: its time, where in the file it is, and whose it is.
    next: BinaryHeap<Reverse<(u64, u64, usize)>>,
    window: usize,
}

/// An event.
#[derive(Debug)]
pub(super) struct Next<'a> {
    pub(super) cpu: u64,
    pub(super) clock: u8,
    pub(super) time_ns: u64,
    /// `FtraceEvent`.
    pub(super) event: &'a [u8],
}

/// Where the reading of a CPU's events is.
#[derive(Debug)]
struct Cpu {
    stream: Stream,
    /// Which bundle is next.
    bundle: usize,
    clock: u8,
    /// From here on the bundle's fields are to be read, up to there.
    at: u64,
    end: u64,
    /// Bytes of the file from `begin` on.
    window: Vec<u8>,
    begin: u64,
    /// Where in the window the next event is.
    event: (usize, usize),
}

impl<R: Read + Seek> Bundles<R> {
    pub(super) fn new(walk: Walk<R>, streams: Vec<Stream>) -> io::Result<Self> {
        let window = (HELD / streams.len().max(1)).clamp(WINDOW.0, WINDOW.1);
        let cpu =
            |stream| Cpu { stream, bundle: 0, clock: 0, at: 0, end: 0, window: Vec::new(), begin: 0, event: (0, 0) };
        let mut bundles = Self { walk, cpus: streams.into_iter().map(cpu).collect(), next: BinaryHeap::new(), window };
        for at in 0..bundles.cpus.len() {
            bundles.advance(at)?;
        }
        Ok(bundles)
    }

    /// Bytes of the trace, and of where its parts are, that are in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let of = |cpu: &Cpu| cpu.window.capacity() + cpu.stream.bundles.capacity() * size_of::<Bundle>();
        self.cpus.iter().map(of).sum()
    }

    /// The earliest event; `None` after the last.
    pub(super) fn next(&self) -> Option<Next<'_>> {
        let Reverse((time_ns, _, at)) = *self.next.peek()?;
        let cpu = &self.cpus[at];
        let (from, to) = cpu.event;
        Some(Next { cpu: cpu.stream.cpu, clock: cpu.clock, time_ns, event: &cpu.window[from..to] })
    }

    /// Goes on to the next.
    pub(super) fn step(&mut self) -> io::Result<()> {
        match self.next.pop() {
            Some(Reverse((_, _, at))) => self.advance(at),
            None => Ok(()),
        }
    }

    /// Goes on to a CPU's next event.
    fn advance(&mut self, at: usize) -> io::Result<()> {
        let Self { walk, cpus, next, window } = self;
        let cpu = &mut cpus[at];
        if cpu.advance(walk, *window)? {
            let (from, to) = cpu.event;
            next.push(Reverse((time_of(&cpu.window[from..to]), cpu.begin + from as u64, at)));
        }
        Ok(())
    }
}

impl Cpu {
    /// Goes on to the next event; whether there is one.
    fn advance<R: Read + Seek>(&mut self, walk: &mut Walk<R>, window: usize) -> io::Result<bool> {
        loop {
            if self.at == self.end {
                let Some(Bundle { begin, end, clock }) = self.stream.bundles.get(self.bundle).copied() else {
                    self.window = Vec::new();
                    return Ok(false);
                };
                self.bundle += 1;
                (self.at, self.end, self.clock) = (begin, end, clock);
            }
            if let Some(event) = self.event_here(walk, window)? {
                self.event = event;
                return Ok(true);
            }
        }
    }

    /// Reads the next field: where in the window it is, if it is an event.
    fn event_here<R: Read + Seek>(&mut self, walk: &mut Walk<R>, window: usize) -> io::Result<Option<(usize, usize)>> {
        self.hold(walk, HEAD, window)?;
        let mut fields = Fields::of(self.ahead());
        if let Some(field) = fields.next() {
            let to = self.window.len() - fields.left();
            let event =
                if let (bundle::EVENT, Value::Bytes(event)) = field { Some((to - event.len(), to)) } else { None };
            self.at = self.begin + to as u64;
            return Ok(event);
        }
        // It is longer than the window, or none.
        match length_of_first(self.ahead()).filter(|length| *length <= self.end - self.at) {
            Some(length) if length <= LONGEST => self.hold(walk, length, window)?,
            Some(length) => self.at += length,
            None => self.at = self.end,
        }
        Ok(None)
    }

    /// Bytes in the window that are still to be read.
    fn ahead(&self) -> &[u8] {
        &self.window[(self.at - self.begin) as usize..]
    }

    /// Has so many bytes from `at` on in the window, or all of the bundle.
    fn hold<R: Read + Seek>(&mut self, walk: &mut Walk<R>, bytes: u64, window: usize) -> io::Result<()> {
        let left = self.end - self.at;
        let held_to = self.begin + self.window.len() as u64;
        if self.begin <= self.at && self.at + bytes.min(left) <= held_to {
            return Ok(());
        }
        self.window.clear();
        self.window.resize(left.min(bytes.max(window as u64)) as usize, 0);
        self.begin = self.at;
        walk.read_at(self.at, &mut self.window)
    }
}
