//! `trace.dat` of trace-cmd, versions 6 and 7: the kernel's own pages of its ring buffer, CPU by CPU, and the files of tracefs that say
//! what is in them (`Documentation/trace-cmd/trace-cmd.dat.v6.5.txt` and `.v7.5.txt` of trace-cmd 3.4).
//!
//! [`TraceDat`] is the text that tracefs would have printed, in order of time, which [`ftrace`](super::ftrace) then reads as any other
//! trace. A page of each CPU is in memory, and its chunk where the file is compressed.

mod contents;
mod pages;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::io::{self, Cursor, Read, Seek};
use std::ops::Range;

use super::as_text::{AT_ONCE, AsText, MakeText};
use super::print;
use super::tracefs::{Header, MAGIC, Order, damaged};
use contents::Contents;
use pages::{Compression, Damage, LARGEST, Pages, Step};

/// The bytes begin as a `trace.dat` does.
pub fn is_trace_dat(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// A `trace.dat`, to be read as text.
#[derive(Debug)]
pub struct TraceDat<R> {
    file: R,
    header: Header,
    order: Order,
    instances: Vec<Instance>,
    cpus: Vec<Pages>,
    /// The next event of each CPU.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    /// Events that were lost, as its pages say.
    lost: u64,
    /// The same, as the kernel counted them in all.
    counted: Option<u64>,
    is_over: bool,
    damage: Damage,
    notes: Vec<String>,
}

/// A buffer of tracefs: the main one, whose name is empty, or one of `instances/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Instance {
    name: String,
    clock: Clock,
}

/// What times are, and what makes nanoseconds of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Clock {
    /// Counts of something that is not a nanosecond.
    counts: bool,
    /// From counts of the TSC to nanoseconds: multiplied, and shifted to the right.
    tsc: Option<(u32, u32)>,
    /// Added, ns.
    offset: i64,
}

impl Clock {
    /// As `timestamp_calc()` (`lib/trace-cmd/trace-input.c` of trace-cmd 3.4).
    fn time(self, time: u64) -> u64 {
        let time = match self.tsc {
            Some((multiplier, shift)) => {
                (u128::from(time) * u128::from(multiplier)).checked_shr(shift).unwrap_or(0) as u64
            }
            None => time,
        };
        time.wrapping_add_signed(self.offset)
    }
}

/// The running kernel's own ring buffer, as tracefs shows it: what a `trace.dat` would hold of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// `events/header_page`.
    pub header_page: String,
    /// `events/SYSTEM/EVENT/format` of the events that are read; others are counted as unknown.
    pub formats: Vec<String>,
    /// Bytes of a page (a sub-buffer).
    pub page_size: usize,
    /// Pages of all CPUs, as `per_cpu/cpuN/trace_pipe_raw` gives them.
    pub pages: Vec<u8>,
    /// CPUs, each with where its pages are.
    pub cpus: Vec<(u16, Range<u64>)>,
    /// Events that the kernel counted as lost, of all CPUs.
    pub lost: u64,
}

impl Ring {
    /// The events as text, in order of time; the clock's unit must be the nanosecond.
    ///
    /// # Errors
    ///
    /// When pages cannot have the size that they are said to have.
    pub fn text(&self) -> io::Result<AsText<TraceDat<Cursor<&[u8]>>>> {
        // The kernel writes in the machine's own order.
        let order = if cfg!(target_endian = "little") { Order::Little } else { Order::Big };
        let mut header = Header::new(order);
        header.page_of(&self.header_page);
        for format in &self.formats {
            header.formats.add(format.as_bytes());
        }
        let smallest = header.page.data.max(header.page.commit + header.page.long) + 4;
        if !(smallest as u64..=LARGEST).contains(&(self.page_size as u64)) {
            return Err(damaged(format!("its pages can't have {} bytes", self.page_size)));
        }
        let of_cpu =
            |(cpu, part): &(u16, Range<u64>)| Pages::new(*cpu, 0, self.page_size, Compression::None, part.clone());
        let mut trace = TraceDat {
            damage: Damage::of_file(self.pages.len() as u64),
            file: Cursor::new(&self.pages[..]),
            header,
            order,
            instances: vec![Instance::default()],
            cpus: self.cpus.iter().map(of_cpu).collect(),
            next: BinaryHeap::new(),
            lost: 0,
            counted: Some(self.lost),
            is_over: false,
            notes: Vec::new(),
        };
        let mut text = String::new();
        for at in 0..trace.cpus.len() {
            trace.step(at, &mut text)?;
        }
        Ok(AsText::new(trace, text))
    }
}

impl<R: Read + Seek> TraceDat<R> {
    /// Reads the header of a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no `trace.dat` whose events can be found. Later damage is passed over, counted as lost events, and
    /// told in the notes.
    pub fn open(mut file: R) -> io::Result<AsText<Self>> {
        let Contents { header, order, instances, cpus, counted, machine, release, mut notes, damage } =
            Contents::read(&mut file).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it is cut off in its header"),
                _ => error,
            })?;
        if header.symbols.is_empty() {
            notes.push("call sites are addresses: the file has no /proc/kallsyms".to_owned());
        }
        let mut text = String::new();
        for (name, value) in [("arch", machine), ("os release", release)] {
            if !value.is_empty() {
                let _ = writeln!(text, "# {name} : {}", print::one_line(value.as_bytes()));
            }
        }
        let mut trace = Self {
            file,
            header,
            order,
            instances,
            cpus,
            next: BinaryHeap::new(),
            lost: 0,
            counted,
            is_over: false,
            damage,
            notes,
        };
        for at in 0..trace.cpus.len() {
            trace.step(at, &mut text)?;
        }
        Ok(AsText::new(trace, text))
    }

    /// Goes on to the next event of a CPU. All that was lost before it is one line, however many pages are damaged.
    fn step(&mut self, at: usize, text: &mut String) -> io::Result<()> {
        let Self { file, header, order, cpus, damage, .. } = self;
        let mut lost = 0_u64;
        let event = loop {
            match cpus[at].step(file, &header.page, *order, damage)? {
                Step::Event(time) => break Some(Reverse((time, at))),
                Step::Lost(count) => lost = lost.saturating_add(count.max(1)),
                Step::End => break None,
            }
        };
        self.next.extend(event);
        if lost > 0 {
            self.lost = self.lost.saturating_add(lost);
            let _ = writeln!(text, "CPU:{} [LOST {lost} EVENTS]", cpus[at].cpu);
        }
        Ok(())
    }
}

impl<R: Read + Seek> MakeText for TraceDat<R> {
    fn notes(&self) -> Vec<String> {
        self.notes.iter().cloned().chain(self.damage.notes()).collect()
    }

    fn make(&mut self, text: &mut String) -> io::Result<()> {
        while text.len() < AT_ONCE {
            let Some(Reverse((time, at))) = self.next.pop() else {
                if !self.is_over {
                    self.is_over = true;
                    let more = self.counted.map_or(0, |counted| counted.saturating_sub(self.lost));
                    if more > 0 {
                        let _ = writeln!(text, "CPU:0 [LOST {more} EVENTS]");
                    }
                }
                break;
            };
            let Self { header, cpus, instances, .. } = self;
            let (cpu, event) = (cpus[at].cpu, cpus[at].event());
            let Instance { name, clock } = &instances[cpus[at].instance];
            if !name.is_empty() {
                let _ = write!(text, "{name}: ");
            }
            let format = header.formats.of(event);
            let task = format.map_or(0, |format| header.formats.task(format, event));
            let time = clock.time(time);
            if clock.counts {
                let _ = write!(text, "task-{task} [{cpu:03}] {time}: ");
            } else {
                print::head(text, task, Some(u64::from(cpu)), time);
            }
            match format {
                Some(format) => {
                    let name_of = |addr, line: &mut String| header.symbols.name(addr, line);
                    header.formats.print(text, format, event, &name_of);
                }
                None => text.push_str("unknown: (binary)"),
            }
            text.push('\n');
            self.step(at, text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
