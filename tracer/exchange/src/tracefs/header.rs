//! What trace.dat and the tracing data of perf.data begin with: `Documentation/trace-cmd/trace-cmd.dat.v6.5.txt` and `.v7.5.txt` of
//! trace-cmd 3.4; `tools/perf/util/trace-event-info.c` of Linux 6.18 writes the same.

use std::io::{self, BufRead, BufReader, Read};

use super::formats::{Formats, field};
use super::kallsyms::Symbols;
use super::numbers::{Numbers, Order, damaged};

/// The first bytes.
pub(crate) const MAGIC: &[u8] = b"\x17\x08\x44tracing";

/// Longest file of tracefs, bytes. Formats have some hundred, the longest some thousand.
const LONGEST: u64 = 1 << 20;

/// Longest name of a system or a version, bytes.
const NAME: usize = 255;

/// What all such files begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Of the format: `6`, `7`; `0.5` and `0.6` of perf.
    pub(crate) version: String,
    pub(crate) order: Order,
    /// Bytes of the machine's page.
    pub(crate) page_size: u64,
}

impl Begin {
    pub(crate) fn read(file: &mut impl Read) -> io::Result<Self> {
        let mut numbers = Numbers::new(file, Order::Little);
        if numbers.bytes(MAGIC.len() as u64, LONGEST)? != MAGIC {
            return Err(damaged("its tracing data do not begin as they should"));
        }
        let version = numbers.text(NAME)?;
        let order = if numbers.byte()? == 0 { Order::Little } else { Order::Big };
        // Bytes of a `long` of user space; the kernel's are those of a page's header.
        numbers.byte()?;
        numbers.order = order;
        Ok(Self { version, order, page_size: u64::from(numbers.u32()?) })
    }
}

/// Where the parts of a page of the ring buffer lie (`struct buffer_data_page`, `kernel/trace/ring_buffer.c`): its time comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Where the number of bytes with events is.
    pub(crate) commit: usize,
    /// Bytes of that number, a `long` of the kernel.
    pub(crate) long: usize,
    /// Where the events begin.
    pub(crate) data: usize,
}

impl Default for Page {
    /// That of a 64-bit kernel.
    fn default() -> Self {
        Self { commit: 8, long: 8, data: 16 }
    }
}

/// What is read of the files of tracefs.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) page: Page,
    pub(crate) formats: Formats,
    pub(crate) symbols: Symbols,
}

impl Header {
    pub(crate) fn new(order: Order) -> Self {
        Self { page: Page::default(), formats: Formats::new(order), symbols: Symbols::default() }
    }

    /// `header_page` and `header_event`.
    pub(crate) fn read_pages<R: Read>(&mut self, numbers: &mut Numbers<R>) -> io::Result<()> {
        for name in ["header_page", "header_event"] {
            if numbers.text(NAME)? != name {
                return Err(damaged(format!("it has no {name} where one has to be")));
            }
            let length = numbers.u64()?;
            let text = numbers.bytes(length, LONGEST)?;
            if name == "header_page" {
                self.page_of(&String::from_utf8_lossy(&text));
            }
        }
        Ok(())
    }

    /// The text of `header_page`.
    pub(crate) fn page_of(&mut self, text: &str) {
        for line in text.lines() {
            match field(line, 8) {
                Some(field) if field.name == "commit" && matches!(field.size, 4 | 8) => {
                    (self.page.commit, self.page.long) = (field.offset, field.size);
                    self.formats.long = field.size;
                }
                Some(field) if field.name == "data" => self.page.data = field.offset,
                _ => {}
            }
        }
    }

    /// Formats of ftrace's own events.
    pub(crate) fn read_ftrace<R: Read>(&mut self, numbers: &mut Numbers<R>) -> io::Result<()> {
        for _ in 0..numbers.u32()? {
            let length = numbers.u64()?;
            self.formats.add(&numbers.bytes(length, LONGEST)?);
        }
        Ok(())
    }

    /// Formats of events, by system.
    pub(crate) fn read_events<R: Read>(&mut self, numbers: &mut Numbers<R>) -> io::Result<()> {
        for _ in 0..numbers.u32()? {
            numbers.text(NAME)?;
            self.read_ftrace(numbers)?;
        }
        Ok(())
    }

    /// `/proc/kallsyms`.
    pub(crate) fn read_symbols<R: Read>(&mut self, numbers: &mut Numbers<R>) -> io::Result<()> {
        let length = u64::from(numbers.u32()?);
        let mut text = BufReader::new(numbers.from.by_ref().take(length));
        self.symbols.read(&mut text)?;
        // What was not read, and what is beyond the end.
        let rest = io::copy(&mut text, &mut io::sink()).and_then(|_| text.fill_buf().map(<[u8]>::len))?;
        let missing = text.get_ref().limit();
        if rest as u64 + missing > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
