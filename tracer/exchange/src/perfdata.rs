//! `perf.data` of perf, with tracepoints: files, and what `perf record -o -` writes into a pipe
//! (`tools/perf/Documentation/perf.data-file-format.txt`, `include/uapi/linux/perf_event.h`, Linux 6.18).
//!
//! [`PerfData`] is the text that tracefs would have printed, which [`ftrace`](super::ftrace) then reads as any other trace. What cannot be
//! read is left out and the rest kept, and no length in the file decides how much memory is taken; that is why the file is read here.

mod attributes;
mod records;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::io::{self, Read, Seek};

use super::as_text::{AT_ONCE, AsText, MakeText};
use super::print;
use super::tracefs::Order;
use records::{Found, Records};

/// `PERF_MAGIC` (`tools/perf/util/header.c`), in both byte orders.
const MAGICS: [(&[u8], Order); 2] = [(b"PERFILE2", Order::Little), (b"2ELIFREP", Order::Big)];

/// The bytes begin as a `perf.data` does.
pub fn is_perf_data(bytes: &[u8]) -> bool {
    MAGICS.iter().any(|(magic, _)| bytes.starts_with(magic))
}

/// So many bytes of lines wait for earlier ones, at most. perf ends a round each time that it has read the buffers of all CPUs; a line of
/// one round is never later than those of the round after the next.
const WAITING: usize = 64 << 20;

/// A `perf.data`, to be read as text.
#[derive(Debug)]
pub struct PerfData<R> {
    records: Records<R>,
    /// Lines by time, those of one time as they were read.
    waiting: BinaryHeap<Reverse<(u64, u64, Box<str>)>>,
    /// Bytes of the lines that wait.
    held: usize,
    /// Lines that were read.
    count: u64,
    /// The latest time of the last round, and of this one.
    rounds: (u64, u64),
    /// Up to here lines are complete.
    complete_ns: u64,
}

impl<R: Read + Seek> PerfData<R> {
    /// Reads the header of a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or has no tracepoints whose events can be found. Later damage is passed over, counted as lost events, and
    /// told in the notes.
    pub fn open(file: R) -> io::Result<AsText<Self>> {
        let records = Records::open(file).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it is cut off in its header"),
            _ => error,
        })?;
        let waiting = BinaryHeap::new();
        let trace = Self { records, waiting, held: 0, count: 0, rounds: (0, 0), complete_ns: 0 };
        Ok(AsText::new(trace, String::new()))
    }
}

impl<R: Read + Seek> MakeText for PerfData<R> {
    fn notes(&self) -> Vec<String> {
        self.records.notes()
    }

    fn make(&mut self, text: &mut String) -> io::Result<()> {
        let mut line = String::new();
        loop {
            while let Some(Reverse((time_ns, ..))) = self.waiting.peek()
                && (*time_ns <= self.complete_ns || self.held > WAITING)
                && let Some(Reverse((_, _, line))) = self.waiting.pop()
            {
                self.held -= held(&line);
                text.push_str(&line);
                if text.len() >= AT_ONCE {
                    return Ok(());
                }
            }
            if !text.is_empty() {
                return Ok(());
            }
            line.clear();
            match self.records.next(&mut line)? {
                Found::Event(time_ns) => {
                    self.rounds.1 = self.rounds.1.max(time_ns);
                    self.held += held(&line);
                    self.count += 1;
                    self.waiting.push(Reverse((time_ns, self.count, line.as_str().into())));
                }
                Found::Line => text.push_str(&line),
                Found::RoundEnd => {
                    let (last, this) = self.rounds;
                    (self.complete_ns, self.rounds.0) = (last, this);
                }
                Found::End if self.waiting.is_empty() => return Ok(()),
                Found::End => self.complete_ns = u64::MAX,
            }
        }
    }
}

/// Bytes that a waiting line takes.
fn held(line: &str) -> usize {
    line.len() + size_of::<Reverse<(u64, u64, Box<str>)>>()
}

/// `# arch : aarch64`, as `perf script --header` prints it.
fn header_line(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(text, "# {name} : {}", print::one_line(value.as_bytes()));
    }
}

#[cfg(test)]
mod tests;
