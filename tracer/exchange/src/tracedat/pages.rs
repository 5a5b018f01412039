//! Pages of the kernel's ring buffer (`kernel/trace/ring_buffer.c`, `include/linux/ring_buffer.h`; trace-cmd reads them with
//! `kbuffer-parse.c` of libtraceevent), one CPU's after the other.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use flate2::bufread::ZlibDecoder;

use super::super::tracefs::{Numbers, Order, Page, damaged};

/// Largest page and largest chunk, bytes. The kernel's sub-buffers have at most some hundred KiB, trace-cmd compresses 10 pages at once.
pub(super) const LARGEST: u64 = 16 << 20;

/// Bytes of chunks of all CPUs that are in memory at once, at most: those of 4096 CPUs with pages of 4 KiB.
const HELD: u64 = 256 << 20;

/// So much of what is not compressed is read at once, bytes.
const READ: u64 = 16 << 10;

/// So many times its size a file may unpack to, besides so many bytes: pages of events, each with its time, compress to a
/// tenth or so.
const UNPACKED: (u64, u64) = (256, 4 << 20);

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Compression {
    #[default]
    None,
    Zlib,
    Zstd,
}

impl Compression {
    /// What packed bytes hold.
    pub(super) fn unpack<'a>(self, packed: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(packed),
            Self::Zlib => Box::new(ZlibDecoder::new(packed)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(packed)?),
        })
    }
}

/// What was passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Damage {
    /// Bytes that a CPU should have, and that are beyond the end of the file.
    pub(super) cut_off: u64,
    /// Pages that hold what no page holds.
    pages: u64,
    /// Chunks that cannot be unpacked.
    chunks: u64,
    /// Bytes of chunks that are in memory.
    held: u64,
    /// Bytes that chunks unpacked to, and how many there may be.
    unpacked: u64,
    most: u64,
}

impl Damage {
    /// For a file of so many bytes.
    pub(super) fn of_file(length: u64) -> Self {
        Self { most: length.saturating_mul(UNPACKED.0).saturating_add(UNPACKED.1), ..Self::default() }
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.cut_off > 0 {
            notes.push(format!("the file is cut off: {} bytes of events are missing", self.cut_off));
        }
        if self.pages > 0 {
            notes.push(format!("{} pages of events are damaged: the rest of each was left out", self.pages));
        }
        if self.chunks > 0 {
            notes.push(format!("{} chunks of compressed events are damaged, and were left out", self.chunks));
        }
        notes
    }
}

/// What comes next of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An event of this time.
    Event(u64),
    /// So many events were lost; 0 where their number is not known.
    Lost(u64),
    End,
}

/// What reading a chunk came to.
enum Loaded {
    Pages,
    /// A part of it at most.
    Damaged,
    Nothing,
}

/// The pages of a CPU.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pub(super) cpu: u16,
    pub(super) instance: usize,
    /// Bytes of a page.
    page_size: usize,
    compression: Compression,
    /// Where in the file the rest is.
    rest: Range<u64>,
    /// More should follow, and is beyond the end of the file.
    pub(super) is_cut_off: bool,
    /// Chunks in the rest, of what is compressed; `None` before their number is read.
    chunks: Option<u32>,
    /// Pages in memory.
    chunk: Vec<u8>,
    /// Where the next page begins.
    next: usize,
    /// The rest of the events of this page.
    events: Range<usize>,
    time: u64,
    event: Range<usize>,
}

impl Pages {
    /// Those of a CPU that are in this part of the file.
    pub(super) fn new(cpu: u16, instance: usize, page_size: usize, compression: Compression, part: Range<u64>) -> Self {
        Self { cpu, instance, page_size, compression, rest: part, ..Self::default() }
    }

    /// The event that a step came to, as the kernel recorded it.
    pub(super) fn event(&self) -> &[u8] {
        &self.chunk[self.event.clone()]
    }

    /// Goes to the next event.
    pub(super) fn step(
        &mut self,
        file: &mut (impl Read + Seek),
        page: &Page,
        order: Order,
        damage: &mut Damage,
    ) -> io::Result<Step> {
        loop {
            if let Some(found) = self.in_page(order) {
                let Some(event) = found else {
                    damage.pages += 1;
                    self.events = 0..0;
                    return Ok(Step::Lost(0));
                };
                self.event = event;
                return Ok(Step::Event(self.time));
            }
            if self.next >= self.chunk.len() {
                match self.load(file, order, damage)? {
                    Loaded::Pages => {}
                    Loaded::Damaged => return Ok(Step::Lost(0)),
                    Loaded::Nothing if self.is_cut_off => {
                        self.is_cut_off = false;
                        return Ok(Step::Lost(0));
                    }
                    Loaded::Nothing => return Ok(Step::End),
                }
            }
            if let Some(lost) = self.turn(page, order, damage) {
                return Ok(lost);
            }
        }
    }

    /// The next event of this page; `Some(None)` where there is none and should be, `None` at the end of the page.
    #[expect(clippy::option_option, reason = "the end is no error, and the two are told apart once")]
    fn in_page(&mut self, order: Order) -> Option<Option<Range<usize>>> {
        while self.events.len() >= 4 {
            let at = self.events.start;
            let Some(head) = order.number_at(&self.chunk[..self.events.end], at, 4) else { return Some(None) };
            // `type_len` and `time_delta` of `struct ring_buffer_event`, bit fields of a 32-bit word.
            let (kind, delta) = match order {
                Order::Little => (head & 0x1f, head >> 5),
                Order::Big => (head >> 27, head & 0x07ff_ffff),
            };
            let array = order.number_at(&self.chunk[..self.events.end], at + 4, 4);
            let (event, end) = match (kind, array) {
                // The rest of the page is empty.
                (29, _) if delta == 0 => break,
                // Padding, of an event that was discarded.
                (29, Some(length)) => {
                    self.time = self.time.wrapping_add(delta);
                    (None, at + 4 + length as usize)
                }
                // The upper bits of a difference.
                (30, Some(upper)) => {
                    self.time = self.time.wrapping_add((upper << 27) + delta);
                    (None, at + 8)
                }
                // A whole time, but for its upper 5 bits.
                (31, Some(upper)) => {
                    self.time = (self.time & (0xf8 << 56)) | ((upper << 27) + delta);
                    (None, at + 8)
                }
                (0, Some(length)) if length >= 4 => {
                    self.time = self.time.wrapping_add(delta);
                    let end = at + 4 + length as usize;
                    (Some(at + 8..end), end.next_multiple_of(4))
                }
                (1..=28, _) => {
                    self.time = self.time.wrapping_add(delta);
                    let end = at + 4 + 4 * kind as usize;
                    (Some(at + 4..end), end)
                }
                _ => return Some(None),
            };
            if event.as_ref().map_or(end, |event| event.end) > self.events.end || end <= at {
                return Some(None);
            }
            self.events.start = end.min(self.events.end);
            if let Some(event) = event {
                return Some(Some(event));
            }
        }
        self.events = 0..0;
        None
    }

    /// Goes to the next page of the chunk; what was lost before it.
    fn turn(&mut self, page: &Page, order: Order, damage: &mut Damage) -> Option<Step> {
        /// `RB_MISSED_EVENTS` and `RB_MISSED_STORED` (`kernel/trace/ring_buffer.c`), and the bits of the length.
        const MISSED: u64 = 1 << 31;
        const STORED: u64 = 1 << 30;
        const LENGTH: u64 = (1 << 27) - 1;
        let begin = self.next;
        let end = self.chunk.len().min(begin + self.page_size);
        self.next = end;
        let bytes = &self.chunk[begin..end];
        let (time, commit) = (order.number_at(bytes, 0, 8), order.number_at(bytes, page.commit, page.long));
        let (Some(time), Some(commit)) = (time, commit) else {
            damage.pages += 1;
            return Some(Step::Lost(0));
        };
        self.time = time;
        let length = (commit & LENGTH) as usize;
        if length > self.page_size.saturating_sub(page.data) {
            damage.pages += 1;
            return Some(Step::Lost(0));
        }
        let events = begin + page.data..begin + page.data + length;
        let stored = order.number_at(&self.chunk[..end], events.end, page.long);
        self.events = events.start.min(end)..events.end.min(end);
        let is_stored = commit & STORED != 0;
        (commit & MISSED != 0).then(|| Step::Lost(if is_stored { stored.unwrap_or(0) } else { 0 }))
    }

    /// Reads the next chunk.
    fn load(&mut self, file: &mut (impl Read + Seek), order: Order, damage: &mut Damage) -> io::Result<Loaded> {
        damage.held -= self.chunk.len() as u64;
        self.chunk.clear();
        (self.next, self.events) = (0, 0..0);
        if self.rest.is_empty() {
            self.chunk = Vec::new();
            return Ok(Loaded::Nothing);
        }
        file.seek(SeekFrom::Start(self.rest.start))?;
        let left = self.rest.end - self.rest.start;
        let is_whole = if self.compression == Compression::None {
            let pages = (READ / self.page_size as u64).max(1);
            let length = left.min(pages * self.page_size as u64);
            self.rest.start += length;
            hold(damage, length)?;
            file.take(length).read_to_end(&mut self.chunk)? as u64 == length
        } else {
            self.unpack(&mut Numbers::new(file.take(left), order), damage)?
        };
        damage.held += self.chunk.len() as u64;
        if !is_whole {
            damage.chunks += 1;
            return Ok(Loaded::Damaged);
        }
        Ok(if self.chunk.is_empty() { Loaded::Nothing } else { Loaded::Pages })
    }

    /// Unpacks the next chunk; whether it is whole.
    fn unpack<R: Read>(&mut self, numbers: &mut Numbers<R>, damage: &mut Damage) -> io::Result<bool> {
        let mut sizes = || -> io::Result<_> {
            let chunks = match self.chunks {
                Some(chunks) => chunks,
                None => numbers.u32()?,
            };
            Ok((chunks, if chunks == 0 { (0, 0) } else { (numbers.u32()?, numbers.u32()?) }))
        };
        let Ok((chunks, (packed, length))) = sizes() else {
            self.rest.start = self.rest.end;
            return Ok(false);
        };
        let heads = if self.chunks.is_none() { 12 } else { 8 };
        self.chunks = Some(chunks.saturating_sub(1));
        let (packed, length) = (u64::from(packed), u64::from(length));
        if chunks == 0 {
            self.rest.start = self.rest.end;
            return Ok(true);
        }
        self.rest.start = (self.rest.start + heads + packed).min(self.rest.end);
        if length > LARGEST || packed > LARGEST {
            self.rest.start = self.rest.end;
            return Ok(false);
        }
        hold(damage, length)?;
        let mut bytes = Vec::new();
        numbers.from.by_ref().take(packed).read_to_end(&mut bytes)?;
        let unpacked = self.compression.unpack(&bytes).and_then(|from| from.take(length).read_to_end(&mut self.chunk));
        // Pages that hold nothing, or are damaged, take as long to unpack as others.
        damage.unpacked = damage.unpacked.saturating_add(self.chunk.len() as u64);
        if damage.unpacked > damage.most {
            return Err(damaged("its events unpack to many times what a trace does"));
        }
        // Whole pages of a chunk that is damaged further on are no less whole.
        self.chunk.truncate(self.chunk.len() / self.page_size * self.page_size);
        Ok(unpacked.is_ok() && self.chunk.len() as u64 == length)
    }
}

fn hold(damage: &Damage, length: u64) -> io::Result<()> {
    if damage.held + length > HELD {
        return Err(damaged("its CPUs' parts need more than 256 MiB of memory at once"));
    }
    Ok(())
}
