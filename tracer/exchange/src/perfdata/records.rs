//! Records of a `perf.data`, one after the other, those that are compressed too.

use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zstd::stream::raw::{Decoder, Operation as _};

use super::super::print;
use super::super::tracefs::{Begin, Header, Numbers, Order, damaged};
use super::attributes::Attributes;
use super::{MAGICS, header_line};

/// Events with attributes of their own, and ids of them: one for each event and CPU.
const ATTRIBUTES: usize = 1 << 16;
const IDS: usize = 1 << 22;

/// Bytes of the file's header with what may follow it, and of an attribute (`PERF_ATTR_SIZE_VER8` is 136).
const ATTRIBUTE: u64 = 4096;

/// What one record unpacks to, bytes: perf packs at most what a record of 64 KiB holds, 10 times and more.
const UNPACKED: usize = 16 << 20;

/// So many times its size a file may unpack to, besides so many bytes.
const TIMES: (u64, u64) = (256, 4 << 20);

/// A line for events of which there are no more than that some were lost.
const LOST: &str = "CPU:0 [LOST EVENTS]\n";

/// `PERF_RECORD_*` (`include/uapi/linux/perf_event.h`, `tools/lib/perf/include/perf/event.h`).
mod record {
    pub(super) const LOST: u32 = 2;
    pub(super) const SAMPLE: u32 = 9;
    pub(super) const LOST_SAMPLES: u32 = 13;
    pub(super) const HEADER_ATTR: u32 = 64;
    pub(super) const HEADER_TRACING_DATA: u32 = 66;
    pub(super) const FINISHED_ROUND: u32 = 68;
    pub(super) const AUXTRACE: u32 = 71;
    pub(super) const HEADER_FEATURE: u32 = 80;
    pub(super) const COMPRESSED: u32 = 81;
    pub(super) const COMPRESSED2: u32 = 83;
}

/// `HEADER_*` (`tools/perf/util/header.h`).
mod feature {
    pub(super) const TRACING_DATA: u64 = 1;
    pub(super) const OSRELEASE: u64 = 4;
    pub(super) const ARCH: u64 = 6;
}

/// What a call found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The line of an event of this time.
    Event(u64),
    /// Another line, which has no place in time.
    Line,
    RoundEnd,
    End,
}

/// The records of a file.
pub(super) struct Records<R> {
    file: BufReader<R>,
    order: Order,
    /// Bytes of records that are left; `None` in what a pipe wrote, which has records up to its end.
    left: Option<u64>,
    attributes: Attributes,
    header: Option<Header>,
    /// Lines that come first.
    ahead: String,
    record: Vec<u8>,
    /// Records that were compressed, from `at` on.
    unpacked: Vec<u8>,
    at: usize,
    decoder: Option<Decoder<'static>>,
    unpacked_in_all: u64,
    most: u64,
    /// Records that can't be read, and the first reason.
    bad: u64,
    /// Compressed records that can't be unpacked.
    packed: u64,
    cut_off: Option<u64>,
    /// Events are missing at the end.
    is_cut: bool,
    is_checked: bool,
    is_pipe: bool,
    /// Events that the kernel found no room for, as `PERF_RECORD_LOST` counts them when there is room again; and as each event counts its
    /// own, which perf writes at the end (`PERF_RECORD_LOST_SAMPLES`). Both count the same.
    lost: u64,
    lost_samples: u64,
}

impl<R> std::fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("attributes", &self.attributes).finish_non_exhaustive()
    }
}

impl<R: Read + Seek> Records<R> {
    pub(super) fn open(file: R) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(64 << 10, file);
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut magic = [0; 8];
        file.read_exact(&mut magic)?;
        let order = MAGICS.iter().find(|(known, _)| *known == magic).map(|(_, order)| *order);
        let order = order.ok_or_else(|| damaged("it is no perf.data"))?;
        let mut numbers = Numbers::new(&mut file, order);
        let size = numbers.u64()?;
        let mut records = Self {
            order,
            left: None,
            attributes: Attributes::default(),
            header: None,
            ahead: String::new(),
            record: Vec::new(),
            unpacked: Vec::new(),
            at: 0,
            decoder: None,
            unpacked_in_all: 0,
            most: length.saturating_mul(TIMES.0).saturating_add(TIMES.1),
            bad: 0,
            packed: 0,
            cut_off: None,
            is_cut: false,
            is_checked: false,
            is_pipe: size <= 16,
            lost: 0,
            lost_samples: 0,
            file,
        };
        // `struct perf_pipe_file_header` is the magic and its size alone.
        if size > 16 {
            records.read_header(length)?;
            records.check()?;
        }
        Ok(records)
    }

    /// `struct perf_file_header`: attributes, data, and behind the data the features.
    fn read_header(&mut self, length: u64) -> io::Result<()> {
        let order = self.order;
        let mut numbers = Numbers::new(&mut self.file, order);
        let attribute_size = numbers.u64()?;
        let (attributes, data) = ((numbers.u64()?, numbers.u64()?), (numbers.u64()?, numbers.u64()?));
        let _event_types = (numbers.u64()?, numbers.u64()?);
        let features = numbers.u64()?;
        // Each is an attribute, and where its ids are.
        if !(16 + 40..=ATTRIBUTE).contains(&attribute_size) {
            return Err(damaged(format!("its attributes can't have {attribute_size} bytes")));
        }
        let count = attributes.1 / attribute_size;
        if count > ATTRIBUTES as u64 {
            return Err(damaged(format!("it can't have {count} events")));
        }
        let mut ids = Vec::new();
        numbers.from.seek(SeekFrom::Start(attributes.0))?;
        for _ in 0..count {
            self.attributes.add(&numbers.bytes(attribute_size - 16, ATTRIBUTE)?, order);
            ids.push((self.attributes.all().len().saturating_sub(1), numbers.u64()?, numbers.u64()? / 8));
        }
        // Each id is in the file once.
        let in_all = ids.iter().fold(0_u64, |sum, (_, _, count)| sum.saturating_add(*count));
        if in_all > (length / 8).min(IDS as u64) {
            return Err(damaged(format!("it can't have {in_all} ids of events")));
        }
        for (attribute, from, count) in ids.into_iter().filter(|(_, _, count)| *count > 0) {
            if from > length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // In a file of perf they follow each other: what is in the buffer is kept.
            let here = numbers.from.stream_position()?;
            numbers.from.seek_relative(from.cast_signed() - here.cast_signed())?;
            for _ in 0..count {
                self.attributes.add_id(numbers.u64()?, attribute);
            }
        }
        let end = data.0.saturating_add(data.1);
        if end > length {
            self.cut_off = Some(end - length);
            self.is_cut = true;
        } else if data.1 == 0 {
            // perf writes the size when it ends.
            return Err(damaged("perf did not end it: it has no size, and no formats of its events"));
        }
        let mut at = end;
        for feature in (0..64).filter(|bit| features >> bit & 1 != 0) {
            numbers.from.seek(SeekFrom::Start(at))?;
            let Ok((from, size)) = numbers.u64().and_then(|from| Ok((from, numbers.u64()?))) else { break };
            at += 16;
            if !matches!(feature, feature::TRACING_DATA | feature::OSRELEASE | feature::ARCH) {
                continue;
            }
            numbers.from.seek(SeekFrom::Start(from))?;
            if feature == feature::TRACING_DATA {
                self.header = Some(tracing_data(&mut numbers.from.by_ref().take(size))?);
            } else {
                let value = feature_text(&mut Numbers::new(numbers.from.by_ref().take(size), order))?;
                header_line(&mut self.ahead, if feature == feature::ARCH { "arch" } else { "os release" }, &value);
            }
        }
        self.left = Some(data.1.min(length.saturating_sub(data.0)));
        self.file.seek(SeekFrom::Start(data.0))?;
        Ok(())
    }

    /// Whether there is anything to read; looked at once.
    fn check(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.is_checked, true) {
            return Ok(());
        }
        if self.header.is_none() && self.cut_off.is_some() {
            if self.is_pipe {
                return Err(damaged("it is cut off before its events"));
            }
            return Err(damaged(
                "it is cut off: the formats of its events were at its end. Record again, or with perf record -o - > FILE, which has them first",
            ));
        }
        if self.header.is_none() || !self.attributes.all().iter().any(|attribute| attribute.has_raw()) {
            return Err(damaged(
                "it has no tracepoints: record with perf record -e 'dma:*,swiotlb:*,kmem:kmalloc,kmem:kfree'",
            ));
        }
        if !self.attributes.all().iter().all(|attribute| attribute.has_time() || !attribute.has_raw()) {
            return Err(damaged("its events have no times: record with perf record -T"));
        }
        Ok(())
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.header.as_ref().is_some_and(|header| header.symbols.is_empty()) {
            notes.push("call sites are addresses: a perf.data has no /proc/kallsyms".to_owned());
        }
        if let Some(bytes) = self.cut_off {
            notes.push(format!("the file is cut off: {bytes} bytes are missing at its end"));
        }
        if self.bad > 0 {
            notes.push(format!("{} records are damaged, and were left out", self.bad));
        }
        if self.packed > 0 {
            notes.push(format!("{} compressed records are damaged, and were left out", self.packed));
        }
        notes
    }

    /// Reads on to the next record that says something, and appends its line.
    pub(super) fn next(&mut self, line: &mut String) -> io::Result<Found> {
        loop {
            if !self.ahead.is_empty() {
                line.push_str(&std::mem::take(&mut self.ahead));
                return Ok(Found::Line);
            }
            let Some(kind) = self.read()? else {
                if std::mem::take(&mut self.is_cut) {
                    // Events that should be in the file.
                    line.push_str(LOST);
                    return Ok(Found::Line);
                }
                self.check()?;
                let more = std::mem::take(&mut self.lost_samples).saturating_sub(self.lost);
                if more > 0 {
                    let _ = writeln!(line, "CPU:0 [LOST {more} EVENTS]");
                    return Ok(Found::Line);
                }
                return Ok(Found::End);
            };
            let number = |at, length| self.order.number_at(&self.record, at, length);
            match kind {
                record::SAMPLE => {
                    self.check()?;
                    if let Some(time_ns) = self.sample(line) {
                        return Ok(Found::Event(time_ns));
                    }
                    self.bad += 1;
                    line.push_str(LOST);
                    return Ok(Found::Line);
                }
                record::LOST => {
                    let count = number(8, 8).unwrap_or(0).max(1);
                    self.lost = self.lost.saturating_add(count);
                    let _ = writeln!(line, "CPU:0 [LOST {count} EVENTS]");
                    return Ok(Found::Line);
                }
                record::LOST_SAMPLES => self.lost_samples = self.lost_samples.saturating_add(number(0, 8).unwrap_or(0)),
                record::FINISHED_ROUND => return Ok(Found::RoundEnd),
                record::HEADER_ATTR => self.attribute(),
                record::HEADER_TRACING_DATA => {
                    // The data follow the record, in whole words of 8 bytes.
                    let size = number(0, 4).unwrap_or(0);
                    let mut data = (&mut self.file).take(size);
                    self.header = Some(tracing_data(&mut data)?);
                    io::copy(&mut data, &mut io::sink())?;
                    Numbers::new(&mut self.file, self.order).skip(size.next_multiple_of(8) - size)?;
                    self.pass(size.next_multiple_of(8));
                }
                record::AUXTRACE => {
                    let size = number(0, 8).unwrap_or(0);
                    io::copy(&mut (&mut self.file).take(size), &mut io::sink())?;
                    self.pass(size);
                }
                record::HEADER_FEATURE => {
                    let value = |bytes: &[u8]| feature_text(&mut Numbers::new(bytes, self.order)).unwrap_or_default();
                    let name = match number(0, 8) {
                        Some(feature::ARCH) => "arch",
                        Some(feature::OSRELEASE) => "os release",
                        _ => continue,
                    };
                    header_line(&mut self.ahead, name, &value(self.record.get(8..).unwrap_or_default()));
                }
                record::COMPRESSED | record::COMPRESSED2 => {
                    // The latter says how many bytes there are before they are padded.
                    let size = if kind == record::COMPRESSED2 { number(0, 8) } else { None };
                    let from = if size.is_some() { 8 } else { 0 };
                    let packed = self.record.split_off(from.min(self.record.len()));
                    let length = size.map_or(packed.len(), |size| packed.len().min(size as usize));
                    if !self.unpack(&packed[..length])? {
                        self.packed += 1;
                        line.push_str(LOST);
                        return Ok(Found::Line);
                    }
                }
                _ => {}
            }
        }
    }

    /// Notes that so many bytes are missing, at least.
    fn end_early(&mut self, missing: u64) {
        self.cut_off.get_or_insert(missing);
        (self.left, self.is_cut) = (Some(0), true);
    }

    fn pass(&mut self, bytes: u64) {
        self.left = self.left.map(|left| left.saturating_sub(bytes));
    }

    /// Reads a record behind its head; its kind. `None` at the end, with what is missing in `cut_off`.
    fn read(&mut self) -> io::Result<Option<u32>> {
        const HEAD: usize = 8;
        // What is unpacked comes first; a record may begin in one compressed record and end in the next.
        let rest = &self.unpacked[self.at..];
        if let (Some(kind), Some(size)) = (self.order.number_at(rest, 0, 4), self.order.number_at(rest, 6, 2)) {
            let size = size as usize;
            if size < HEAD {
                self.bad += 1;
                self.ahead.push_str(LOST);
                (self.unpacked, self.at) = (Vec::new(), 0);
            } else if let Some(record) = rest.get(HEAD..size) {
                self.record.clear();
                self.record.extend_from_slice(record);
                self.at += size;
                return Ok(Some(kind as u32));
            }
        }
        if self.left.is_some_and(|left| left < HEAD as u64) {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        let got = read_up_to(&mut self.file, &mut head)?;
        if got < HEAD {
            if got > 0 || self.left.is_some() {
                self.end_early((HEAD - got) as u64);
            }
            return Ok(None);
        }
        let kind = self.order.number(&head[..4]).unwrap_or(0) as u32;
        let size = self.order.number(&head[6..]).unwrap_or(0) as usize;
        if size < HEAD {
            // Where the next one begins cannot be told.
            self.bad += 1;
            (self.left, self.is_cut) = (Some(0), true);
            return Ok(None);
        }
        self.record.resize(size - HEAD, 0);
        let got = read_up_to(&mut self.file, &mut self.record)?;
        if got < size - HEAD {
            self.end_early((size - HEAD - got) as u64);
            return Ok(None);
        }
        self.pass(size as u64);
        Ok(Some(kind))
    }

    /// `struct perf_record_header_attr`: an attribute, whose second word is its size, and its ids.
    fn attribute(&mut self) {
        let size = self.order.number_at(&self.record, 4, 4).unwrap_or(0) as usize;
        let Some((attribute, ids)) = self.record.split_at_checked(size) else { return };
        if self.attributes.all().len() >= ATTRIBUTES {
            return;
        }
        self.attributes.add(attribute, self.order);
        for id in ids.chunks_exact(8).filter_map(|id| self.order.number(id)) {
            if self.attributes.ids() < IDS {
                self.attributes.add_id(id, self.attributes.all().len().saturating_sub(1));
            }
        }
    }

    /// Appends the line of a sample; its time. `None` for a sample that cannot be read.
    fn sample(&self, line: &mut String) -> Option<u64> {
        let header = self.header.as_ref()?;
        let attribute = self.attributes.of_sample(&self.record, self.order)?;
        let sample = attribute.sample(&self.record, self.order)?;
        print::head(line, sample.task, sample.cpu, sample.time_ns);
        match header.formats.of(sample.raw) {
            Some(format) => {
                let name_of = |addr, line: &mut String| header.symbols.name(addr, line);
                header.formats.print(line, format, sample.raw, &name_of);
            }
            // No tracepoint, such as cycles.
            None => line.push_str("sample: (binary)"),
        }
        line.push('\n');
        Some(sample.time_ns)
    }

    /// Unpacks a compressed record behind what is left of the last one; whether it could be. All of them are one stream of zstd.
    fn unpack(&mut self, packed: &[u8]) -> io::Result<bool> {
        self.unpacked.drain(..self.at);
        self.at = 0;
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => self.decoder.insert(Decoder::new()?),
        };
        let (mut from, begin) = (0, self.unpacked.len());
        let mut piece = vec![0; 64 << 10];
        loop {
            let Ok(status) = decoder.run_on_buffers(&packed[from..], &mut piece) else {
                self.decoder = None;
                (self.unpacked, self.at) = (Vec::new(), 0);
                return Ok(false);
            };
            from += status.bytes_read;
            self.unpacked.extend_from_slice(&piece[..status.bytes_written]);
            self.unpacked_in_all += status.bytes_written as u64;
            if self.unpacked.len() - begin > UNPACKED || self.unpacked_in_all > self.most {
                return Err(damaged("its compressed records unpack to many times what a trace does"));
            }
            // What is left inside is written before the next is read.
            if from == packed.len() && status.bytes_written < piece.len() {
                return Ok(true);
            }
            if status.bytes_read == 0 && status.bytes_written == 0 {
                return Ok(from == packed.len());
            }
        }
    }
}

/// Reads as much as there is.
fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// `read_tracing_data()` (`tools/perf/util/trace-event-info.c`).
fn tracing_data(data: &mut impl Read) -> io::Result<Header> {
    let mut data = BufReader::new(data);
    let begin = Begin::read(&mut data)?;
    let mut header = Header::new(begin.order);
    let mut numbers = Numbers::new(data, begin.order);
    header.read_pages(&mut numbers)?;
    header.read_ftrace(&mut numbers)?;
    header.read_events(&mut numbers)?;
    header.read_symbols(&mut numbers)?;
    Ok(header)
}

/// A text of a feature: its length, and bytes that end with a NUL (`do_write_string()`, `tools/perf/util/header.c`).
fn feature_text<R: Read>(numbers: &mut Numbers<R>) -> io::Result<String> {
    let length = u64::from(numbers.u32()?);
    let bytes = numbers.bytes(length, 4096)?;
    Ok(String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned())
}
