//! Where everything is in a `trace.dat`: its header, its options and sections, and the parts of its CPUs.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use super::super::tracefs::{Begin, Header, Numbers, Order, damaged};
use super::pages::{Compression, Damage, LARGEST, Pages};
use super::{Clock, Instance};

/// CPUs of a buffer, and parts of CPUs of all buffers, at most.
const CPUS: u32 = 1 << 16;

/// Buffers, at most: the main one and instances.
const BUFFERS: usize = 1 << 10;

/// Largest section that is read, bytes, in the file.
const SECTION: u64 = 64 << 20;

/// All options of a file, bytes.
const OPTIONS: u64 = 16 << 20;

/// Sections of options, and sections that options name; a file has one or two, and four.
const SECTIONS: usize = 64;

/// Smallest page, bytes. The kernel's sub-buffers have a page of memory at least, 4 KiB (`ring_buffer_subbuf_order_set()`,
/// `kernel/trace/ring_buffer.c`, Linux 6.18).
const SMALLEST: u64 = 512;

/// Bytes of a name.
const NAME: usize = 255;

/// Ids of options (`include/private/trace-cmd-private.h` of trace-cmd 3.4). In version 7 those from `HEADER_INFO` on say where a section of
/// the same id is.
mod option {
    pub(super) const DONE: u16 = 0;
    pub(super) const DATE: u16 = 1;
    pub(super) const CPUSTAT: u16 = 2;
    pub(super) const BUFFER: u16 = 3;
    pub(super) const TRACECLOCK: u16 = 4;
    pub(super) const UNAME: u16 = 5;
    pub(super) const OFFSET: u16 = 7;
    pub(super) const CPUCOUNT: u16 = 8;
    pub(super) const TIME_SHIFT: u16 = 12;
    pub(super) const TSC2NSEC: u16 = 14;
    pub(super) const HEADER_INFO: u16 = 16;
    pub(super) const FTRACE_EVENTS: u16 = 17;
    pub(super) const EVENT_FORMATS: u16 = 18;
    pub(super) const KALLSYMS: u16 = 19;
    pub(super) const BUFFER_TEXT: u16 = 22;
}

/// What a file holds.
pub(super) struct Contents {
    pub(super) header: Header,
    pub(super) order: Order,
    pub(super) instances: Vec<Instance>,
    pub(super) cpus: Vec<Pages>,
    /// Events that the kernel counted as lost, where that can be told of the one buffer there is.
    pub(super) counted: Option<u64>,
    /// As `uname -m` has it; empty where the file does not say.
    pub(super) machine: String,
    pub(super) release: String,
    pub(super) notes: Vec<String>,
    pub(super) damage: Damage,
}

/// A buffer: where it is, and what is known of it before its parts are.
#[derive(Debug, Default)]
struct Buffer {
    at: u64,
    name: String,
    /// Of version 7: its clock, its page size, and the parts of its CPUs.
    clock: Option<String>,
    page_size: u64,
    parts: Vec<(u32, Range<u64>)>,
}

/// What the options say.
#[derive(Debug, Default)]
struct Options {
    /// Bytes of options that were read, with their heads.
    read: u64,
    buffers: Vec<Buffer>,
    /// Parts of CPUs of all buffers.
    parts: usize,
    cpus: Option<u32>,
    clock: Option<String>,
    tsc: Option<(u32, u32)>,
    offset: i64,
    uname: String,
    counted: u64,
    is_guest: bool,
    has_text: bool,
    /// Where sections are, by id.
    sections: Vec<(u16, u64)>,
}

impl Contents {
    pub(super) fn read(file: &mut (impl Read + Seek)) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut from = BufReader::new(&mut *file);
        let begin = Begin::read(&mut from)?;
        let mut header = Header::new(begin.order);
        let (options, compression) = match begin.version.as_str() {
            "6" => (version_6(from, &begin, &mut header)?, Compression::None),
            "7" => version_7(from, &begin, &mut header, length)?,
            other => {
                let other: String = other.chars().filter(char::is_ascii_graphic).take(20).collect();
                return Err(damaged(format!(
                    "it is a trace.dat of version {other}, and 6 and 7 are read: run trace-cmd report FILE | bouncescope import -"
                )));
            }
        };
        if options.buffers.iter().all(|buffer| buffer.parts.is_empty()) {
            let what = if options.has_text { "a latency trace" } else { "no events" };
            return Err(damaged(format!(
                "it is a trace.dat with {what}: run trace-cmd report FILE | bouncescope import -"
            )));
        }
        Self::of(begin.order, header, options, compression, length)
    }

    /// What options and buffers come to.
    fn of(
        order: Order,
        header: Header,
        mut options: Options,
        compression: Compression,
        length: u64,
    ) -> io::Result<Self> {
        let mut damage = Damage::of_file(length);
        let mut contents = Self {
            header,
            order,
            instances: Vec::new(),
            cpus: Vec::new(),
            counted: (options.buffers.len() == 1).then_some(options.counted),
            machine: String::new(),
            release: String::new(),
            notes: Vec::new(),
            damage: Damage::default(),
        };
        // `uname()`: system, node, release, version, machine.
        let words: Vec<&str> = options.uname.split_whitespace().collect();
        if let [_, _, release, .., machine] = words[..] {
            (contents.release, contents.machine) = (release.to_owned(), machine.to_owned());
        }
        if options.is_guest {
            contents.notes.push("times are the guest's own: those of its host are not taken into account".to_owned());
        }
        let mut bytes = 0_u64;
        for buffer in std::mem::take(&mut options.buffers) {
            let clock = buffer.clock.or_else(|| options.clock.clone()).unwrap_or_default();
            contents.instances.push(Instance { name: instance_name(&buffer.name), clock: clock_of(&clock, &options) });
            let page = contents.header.page;
            let smallest = page.data.max(page.commit + page.long) as u64;
            if !((smallest + 4).max(SMALLEST)..=LARGEST).contains(&buffer.page_size) {
                return Err(damaged(format!("its pages can't have {} bytes", buffer.page_size)));
            }
            for (cpu, part) in buffer.parts {
                // trace-cmd does not count the number of chunks, which comes first.
                let count = if compression == Compression::None { 0 } else { 4 };
                let part = part.start..part.end.saturating_add(count);
                let whole = part.start.min(length)..part.end.min(length);
                bytes += whole.end - whole.start;
                let missing = (part.end - part.start) - (whole.end - whole.start);
                damage.cut_off = damage.cut_off.saturating_add(missing);
                let cpu = u16::try_from(cpu).map_err(|_| damaged(format!("there can't be a CPU {cpu}")))?;
                let instance = contents.instances.len() - 1;
                let mut pages = Pages::new(cpu, instance, buffer.page_size as usize, compression, whole);
                pages.is_cut_off = missing > 0;
                contents.cpus.push(pages);
            }
        }
        if bytes > length {
            return Err(damaged("the parts of its CPUs overlap"));
        }
        contents.damage = damage;
        Ok(contents)
    }
}

/// An instance's name as it can stand before a line.
fn instance_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' }).collect()
}

/// A clock by its name in `trace_clock`; those that count nanoseconds are those with `in_ns` of `trace_clocks` (`kernel/trace/trace.c`,
/// Linux 6.18).
fn clock_of(name: &str, options: &Options) -> Clock {
    let counts = matches!(name, "counter" | "uptime" | "x86-tsc" | "ppc-tb" | "s390-tod") && options.tsc.is_none();
    Clock { counts, tsc: options.tsc, offset: options.offset }
}

/// Of `[local] global counter`, the one in brackets.
fn chosen_clock(text: &str) -> String {
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(chosen, _)| chosen);
    chosen.trim().chars().take(NAME).collect()
}

fn version_6<R: Read + Seek>(file: BufReader<R>, begin: &Begin, header: &mut Header) -> io::Result<Options> {
    let mut numbers = Numbers::new(file, begin.order);
    header.read_pages(&mut numbers)?;
    header.read_ftrace(&mut numbers)?;
    header.read_events(&mut numbers)?;
    header.read_symbols(&mut numbers)?;
    let printk = numbers.u32()?;
    numbers.skip(u64::from(printk))?;
    let commands = numbers.u64()?;
    numbers.skip(commands)?;
    let mut options = Options { cpus: Some(numbers.u32()?), ..Options::default() };
    // Before the first buffer, `options`, and what that buffer is; the same before each of the others.
    let mut buffers = vec![Buffer::default()];
    let mut at = 0;
    while at < buffers.len() {
        if at > 0 {
            numbers.from.seek(SeekFrom::Start(buffers[at].at))?;
        }
        let mut kind = numbers.bytes(10, 10)?;
        if kind.starts_with(b"options") {
            loop {
                let id = numbers.u16()?;
                if id == option::DONE {
                    break;
                }
                let data = options.data(&mut numbers)?;
                options.take(id, &data, begin.order, false)?;
            }
            kind = numbers.bytes(10, 10)?;
        }
        if at == 0 {
            buffers.append(&mut options.buffers);
        }
        options.has_text |= kind.starts_with(b"latency");
        if kind.starts_with(b"flyrecord") {
            let cpus = options.cpus.unwrap_or(0);
            if cpus > CPUS {
                return Err(damaged(format!("it can't have {cpus} CPUs")));
            }
            for cpu in 0..cpus {
                let (from, size) = (numbers.u64()?, numbers.u64()?);
                buffers[at].add(cpu, from, size)?;
            }
            if at == 0 && options.clock.is_some() {
                let size = numbers.u64()?;
                let text = numbers.bytes(size, OPTIONS)?;
                options.clock = Some(chosen_clock(&String::from_utf8_lossy(&text)));
            }
        }
        options.count_parts(&buffers[at])?;
        buffers[at].page_size = begin.page_size;
        at += 1;
    }
    options.buffers = buffers;
    Ok(options)
}

fn version_7<R: Read + Seek>(
    file: BufReader<R>,
    begin: &Begin,
    header: &mut Header,
    length: u64,
) -> io::Result<(Options, Compression)> {
    let mut numbers = Numbers::new(file, begin.order);
    let (name, _version) = (numbers.text(NAME)?, numbers.text(NAME)?);
    let compression = match name.as_str() {
        "none" => Compression::None,
        "zlib" => Compression::Zlib,
        "zstd" => Compression::Zstd,
        other => {
            let other: String = other.chars().filter(char::is_ascii_graphic).take(20).collect();
            return Err(damaged(format!(
                "it is compressed with {other}, and zlib and zstd are read: run trace-cmd report FILE | bouncescope import -"
            )));
        }
    };
    let mut next = numbers.u64()?;
    let mut file = numbers.from;
    let mut options = Options::default();
    let mut read = Vec::new();
    while next != 0 {
        if read.contains(&next) {
            return Err(damaged("its sections of options lead back to one of them"));
        }
        if read.len() == SECTIONS {
            return Err(damaged(format!("it has more than {SECTIONS} sections of options")));
        }
        read.push(next);
        let mut sections = Sections { file: &mut file, order: begin.order, compression, length };
        next = sections.read(next, option::DONE, |numbers| {
            loop {
                let id = numbers.u16()?;
                let data = options.data(numbers)?;
                if id == option::DONE {
                    return Ok(begin.order.number_at(&data, 0, 8).unwrap_or(0));
                }
                options.take(id, &data, begin.order, true)?;
            }
        })?;
    }
    let mut sections = Sections { file: &mut file, order: begin.order, compression, length };
    // The length of a `long` comes before formats, which need it.
    for id in [option::HEADER_INFO, option::FTRACE_EVENTS, option::EVENT_FORMATS, option::KALLSYMS] {
        let Some((_, at)) = options.sections.iter().find(|(section, _)| *section == id) else { continue };
        sections.read(*at, id, |numbers| match id {
            option::HEADER_INFO => header.read_pages(numbers),
            option::FTRACE_EVENTS => header.read_ftrace(numbers),
            option::EVENT_FORMATS => header.read_events(numbers),
            _ => header.read_symbols(numbers),
        })?;
    }
    Ok((options, compression))
}

/// Sections of version 7.
struct Sections<'a, R> {
    file: &'a mut R,
    order: Order,
    compression: Compression,
    length: u64,
}

impl<R: Read + Seek> Sections<'_, R> {
    fn read<T>(
        &mut self,
        at: u64,
        id: u16,
        read: impl FnOnce(&mut Numbers<Box<dyn Read + '_>>) -> io::Result<T>,
    ) -> io::Result<T> {
        if at >= self.length {
            return Err(damaged("it is cut off: version 7 has at its end where its events are"));
        }
        self.file.seek(SeekFrom::Start(at))?;
        let mut numbers = Numbers::new(&mut *self.file, self.order);
        let (found, flags, _description, size) = (numbers.u16()?, numbers.u16()?, numbers.u32()?, numbers.u64()?);
        if found != id {
            return Err(damaged(format!("its section {id} is not where it should be")));
        }
        let is_compressed = flags & 1 != 0;
        if !is_compressed {
            let from: Box<dyn Read + '_> = Box::new(BufReader::new(numbers.from.take(size)));
            return read(&mut Numbers::new(from, self.order));
        }
        let (packed, _unpacked) = (u64::from(numbers.u32()?), numbers.u32()?);
        let packed = numbers.bytes(packed, SECTION)?;
        let from: Box<dyn Read + '_> = Box::new(BufReader::new(self.compression.unpack(&packed)?.take(SECTION)));
        read(&mut Numbers::new(from, self.order))
    }
}

impl Buffer {
    fn add(&mut self, cpu: u32, from: u64, size: u64) -> io::Result<()> {
        let end = from.checked_add(size).ok_or_else(|| damaged(format!("the part of CPU {cpu} has no end")))?;
        if size > 0 {
            self.parts.push((cpu, from..end));
        }
        Ok(())
    }
}

impl Options {
    /// Reads what an option holds, behind its id.
    fn data<R: Read>(&mut self, numbers: &mut Numbers<R>) -> io::Result<Vec<u8>> {
        /// The id, and the size.
        const HEAD: u64 = 6;
        self.read += HEAD;
        let size = u64::from(numbers.u32()?);
        if self.read + size > OPTIONS {
            return Err(damaged("it has more than 16 MiB of options"));
        }
        self.read += size;
        numbers.bytes(size, OPTIONS)
    }

    fn count_parts(&mut self, buffer: &Buffer) -> io::Result<()> {
        self.parts += buffer.parts.len();
        if self.parts > CPUS as usize {
            return Err(damaged(format!("its buffers have more than {CPUS} CPUs in all")));
        }
        Ok(())
    }

    /// Takes in an option. One that is too short is passed over, as trace-cmd does.
    fn take(&mut self, id: u16, data: &[u8], order: Order, is_7: bool) -> io::Result<()> {
        let text = || String::from_utf8_lossy(data.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        let number = |at, length| order.number_at(data, at, length);
        match id {
            // Microseconds as a number of C, and nanoseconds.
            option::DATE => self.offset = self.offset.wrapping_add(c_number(&text()).wrapping_mul(1000)),
            option::OFFSET => self.offset = self.offset.wrapping_add(c_number(&text())),
            option::CPUSTAT => self.counted = self.counted.saturating_add(lost_of(&text())),
            option::TRACECLOCK => self.clock = Some(chosen_clock(&text())),
            option::UNAME => self.uname = text(),
            option::CPUCOUNT => self.cpus = number(0, 4).map(|cpus| cpus as u32).or(self.cpus),
            option::TIME_SHIFT => self.is_guest = true,
            option::TSC2NSEC => {
                if let (Some(multiplier), Some(shift)) = (number(0, 4), number(4, 4)) {
                    self.tsc = (multiplier > 0).then_some((multiplier as u32, shift as u32));
                }
            }
            option::BUFFER | option::BUFFER_TEXT => {
                if id == option::BUFFER_TEXT {
                    self.has_text = true;
                } else if let Some(buffer) = Buffer::of(&mut Numbers::new(data, order), is_7) {
                    if self.buffers.len() == BUFFERS {
                        return Err(damaged(format!("it has more than {BUFFERS} buffers")));
                    }
                    self.count_parts(&buffer)?;
                    self.buffers.push(buffer);
                }
            }
            option::HEADER_INFO..=option::KALLSYMS => {
                if self.sections.len() == SECTIONS {
                    return Err(damaged(format!("its options name more than {SECTIONS} sections")));
                }
                self.sections.extend(number(0, 8).map(|at| (id, at)));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Buffer {
    fn of(numbers: &mut Numbers<&[u8]>, is_7: bool) -> Option<Self> {
        let mut buffer = Self { at: numbers.u64().ok()?, name: numbers.text(NAME).ok()?, ..Self::default() };
        if is_7 {
            buffer.clock = Some(chosen_clock(&numbers.text(NAME).ok()?));
            buffer.page_size = u64::from(numbers.u32().ok()?);
            for _ in 0..numbers.u32().ok()?.min(CPUS) {
                let (cpu, from, size) = (numbers.u32().ok()?, numbers.u64().ok()?, numbers.u64().ok()?);
                buffer.add(cpu, from, size).ok()?;
            }
        }
        Some(buffer)
    }
}

/// A number as `strtoll()` reads it, with `0x` or without.
fn c_number(text: &str) -> i64 {
    let text = text.trim();
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    number.unwrap_or(0).wrapping_mul(sign)
}

/// Events that a CPU lost, as `per_cpu/cpuN/stats` counts them.
fn lost_of(stats: &str) -> u64 {
    let lost = |line: &str| {
        let (name, count) = line.split_once(':')?;
        matches!(name, "overrun" | "commit overrun" | "dropped events").then(|| count.trim().parse::<u64>().ok())?
    };
    stats.lines().filter_map(lost).fold(0, u64::saturating_add)
}
