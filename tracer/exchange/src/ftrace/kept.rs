//! Events of a text, kept while it is surveyed: a text is read once, and what is in it is known at its end alone.
//!
//! Blocks of whole records, each behind its length. A record is a byte that tells what it is, then numbers, those that are mostly small in
//! LEB128. Names are kept once, before the first event that has them, and then counted from 0: those of devices in each trace instance,
//! those of call sites in all of them. Nothing else reads this, and no file of it outlives the import.

use std::io::{self, Read, Write};

use hashbrown::{Equivalent, HashMap};

use super::convert::{Converter, Head, identity, segment};
use super::fields::{CallSite, Pointer};
use super::line::Line;
use super::values::{Lists, Values};
use bouncescope_capture::event::{Batch, DeviceId, Direction, Memory, What};
use bouncescope_capture::facts::Symbol;

/// A block is written when it is so long, bytes.
const BLOCK: usize = 64 << 10;

/// What a record is; the upper bits of its byte are the direction, or [`NOT_YET`].
mod tag {
    pub(super) const DEVICE: u8 = 0;
    pub(super) const SITE: u8 = 1;
    pub(super) const INSTANCE: u8 = 2;
    pub(super) const KMALLOC: u8 = 3;
    pub(super) const KFREE: u8 = 4;
    pub(super) const MAP: u8 = 5;
    pub(super) const UNMAP: u8 = 6;
    pub(super) const SYNC_FOR_CPU: u8 = 7;
    pub(super) const SYNC_FOR_DEVICE: u8 = 8;
    pub(super) const BOUNCED: u8 = 9;
    pub(super) const MAP_SG: u8 = 10;
    pub(super) const REFUSED_SG: u8 = 11;
    pub(super) const UNMAP_SG: u8 = 12;
    pub(super) const MASK: u8 = 0xf;
    pub(super) const UPPER: u32 = 4;
}

/// The kernel did not print the object's address yet.
const NOT_YET: u8 = 1;

/// Keeps events in the order of the text.
pub(super) struct Keeper<W> {
    out: W,
    block: Vec<u8>,
    last_ns: u64,
    instance: usize,
    sites: HashMap<Site, u32>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Site {
    name: String,
    module: String,
}

#[derive(Hash)]
struct SiteRef<'a> {
    name: &'a str,
    module: &'a str,
}

impl Equivalent<Site> for SiteRef<'_> {
    fn equivalent(&self, site: &Site) -> bool {
        self.name == site.name && self.module == site.module
    }
}

impl<W: Write> Keeper<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, block: Vec::new(), last_ns: 0, instance: 0, sites: HashMap::new() }
    }

    /// A device of the present instance, which is its next one.
    pub(super) fn device(&mut self, instance: usize, name: &str) {
        self.instance(instance);
        self.block.push(tag::DEVICE);
        self.text(name);
    }

    /// An event of an instance, and of its device of this number.
    pub(super) fn event(
        &mut self,
        instance: usize,
        line: &Line<'_>,
        values: &Values<'_>,
        device: u32,
        lists: &Lists,
    ) -> io::Result<()> {
        self.instance(instance);
        let device = u64::from(device);
        let record = Record::new();
        match *values {
            Values::Kmalloc { site, ptr, bytes_req, bytes_alloc } => {
                let site = self.site(site);
                let (ptr, upper) = if let Pointer::Known(ptr) = ptr { (ptr, 0) } else { (0, NOT_YET) };
                let record = self.head(record, tag::KMALLOC, upper, line);
                let record = match site {
                    Ok(number) => record.number(u64::from(number) + 1),
                    Err(addr) => record.number(0).fixed(addr),
                };
                self.put(&record.fixed(ptr).number(bytes_req).number(bytes_alloc));
            }
            Values::Kfree { ptr, .. } => {
                let ptr = if let Pointer::Known(ptr) = ptr { ptr } else { 0 };
                let record = self.head(record, tag::KFREE, 0, line).fixed(ptr);
                self.put(&record);
            }
            Values::Map { phys, dma_addr, size, direction, attrs, .. } => {
                let record = self.head(record, tag::MAP, direction as u8, line).number(device).number(phys);
                self.put(&record.number(difference(dma_addr, phys)).number(size).number(attrs));
            }
            Values::Unmap { dma_addr, size, direction, attrs, .. } => {
                let record = self.head(record, tag::UNMAP, direction as u8, line).number(device).number(dma_addr);
                self.put(&record.number(size).number(attrs));
            }
            Values::Sync { dma_addr, size, direction, for_device, .. } => {
                let tag = if for_device { tag::SYNC_FOR_DEVICE } else { tag::SYNC_FOR_CPU };
                let record = self.head(record, tag, direction as u8, line).number(device).number(dma_addr);
                self.put(&record.number(size));
            }
            Values::Bounced { dev_addr, size, .. } => {
                let record = self.head(record, tag::BOUNCED, 0, line).number(device).number(dev_addr);
                self.put(&record.number(size));
            }
            Values::MapSg { nents, ents, direction, attrs, .. } => {
                let Lists { buffers, dma_addrs, lengths, .. } = lists;
                let segments = buffers.len().min(dma_addrs.len()).min(lengths.len());
                let record = self.head(record, tag::MAP_SG, direction as u8, line).number(device);
                let record = record.fixed(identity(buffers)).number(nents.into()).number(ents.into());
                self.put(&record.number(attrs).number(segments as u64));
                for ((phys, dma_addr), length) in buffers.iter().zip(dma_addrs).zip(lengths) {
                    self.put(&Record::new().number(*phys).number(difference(*dma_addr, *phys)).number(*length));
                }
            }
            Values::RefusedSg { direction, attrs, .. } => {
                self.list(tag::REFUSED_SG, direction, device, attrs, line, lists);
            }
            Values::UnmapSg { direction, attrs, .. } => self.list(tag::UNMAP_SG, direction, device, attrs, line, lists),
        }
        if self.block.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    /// Writes what is not written yet.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let length = (self.block.len() as u32).to_le_bytes();
        let written = self.out.write_all(&length).and_then(|()| self.out.write_all(&self.block));
        self.block.clear();
        written.and_then(|()| self.out.flush()).map_err(|error| {
            io::Error::new(error.kind(), format!("its events cannot be kept in a temporary file: {error}"))
        })
    }

    fn instance(&mut self, instance: usize) {
        if instance != self.instance {
            self.instance = instance;
            self.put(&Record::new().byte(tag::INSTANCE).number(instance as u64));
        }
    }

    /// The number of a call site's name, or its address.
    fn site(&mut self, site: CallSite<'_>) -> Result<u32, u64> {
        let (name, module) = match site {
            CallSite::Address(addr) => return Err(addr),
            CallSite::Named { name, module } => (name, module),
        };
        if let Some(number) = self.sites.get(&SiteRef { name, module }) {
            return Ok(*number);
        }
        let number = self.sites.len() as u32;
        self.sites.insert(Site { name: name.to_owned(), module: module.to_owned() }, number);
        self.block.push(tag::SITE);
        self.text(name);
        self.text(module);
        Ok(number)
    }

    fn text(&mut self, text: &str) {
        self.put(&Record::new().number(text.len() as u64));
        self.block.extend_from_slice(text.as_bytes());
    }

    /// A list of which no more is wanted than what it is known by.
    fn list(&mut self, tag: u8, direction: Direction, device: u64, attrs: u64, line: &Line<'_>, lists: &Lists) {
        let record = self.head(Record::new(), tag, direction as u8, line).number(device);
        self.put(&record.fixed(identity(&lists.buffers)).number(lists.buffers.len() as u64).number(attrs));
    }

    fn head(&mut self, record: Record, tag: u8, upper: u8, line: &Line<'_>) -> Record {
        let time_ns = line.time.ns();
        let later = difference(time_ns, self.last_ns);
        self.last_ns = time_ns;
        let cpu = line.cpu.unwrap_or(0);
        record.byte(tag | upper << tag::UPPER).number(later).number(line.task.into()).number(cpu.into())
    }

    fn put(&mut self, record: &Record) {
        self.block.extend_from_slice(&record.bytes[..record.length]);
    }
}

/// The beginning of a record, or all of one without a list.
struct Record {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl Record {
    /// More than the longest has: a byte and eight numbers.
    const LONGEST: usize = 96;

    const fn new() -> Self {
        Self { bytes: [0; Self::LONGEST], length: 0 }
    }

    fn byte(mut self, byte: u8) -> Self {
        self.bytes[self.length] = byte;
        self.length += 1;
        self
    }

    fn number(mut self, mut number: u64) -> Self {
        while number >= 0x80 {
            self = self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8)
    }

    /// A number that is mostly large.
    fn fixed(mut self, number: u64) -> Self {
        self.bytes[self.length..self.length + 8].copy_from_slice(&number.to_le_bytes());
        self.length += 8;
        self
    }
}

/// How much larger a number is than another, such that small differences of either sign are small.
const fn difference(number: u64, than: u64) -> u64 {
    let difference = number.wrapping_sub(than) as i64;
    ((difference << 1) ^ (difference >> 63)) as u64
}

/// The number of which that is the difference.
const fn added(difference: u64, to: u64) -> u64 {
    to.wrapping_add((difference >> 1) ^ (difference & 1).wrapping_neg())
}

/// Reads what a [`Keeper`] wrote.
#[derive(Debug)]
pub(super) struct Kept<R> {
    from: R,
    block: Vec<u8>,
    /// What is read of it, bytes.
    at: usize,
    /// Bytes of all blocks until now.
    pub(super) read: u64,
    last_ns: u64,
    /// The instance whose events are wanted, and the present one.
    wanted: usize,
    instance: usize,
    /// Of the wanted instance; `None` for those that nobody describes.
    devices: Vec<Option<DeviceId>>,
    sites: Vec<Site>,
    /// Where call sites are, as far as an event of the wanted instance had them.
    addresses: Vec<Option<u64>>,
}

/// What converts events, and where to.
pub(super) struct Target<'a> {
    pub(super) converter: &'a mut Converter,
    pub(super) lists: &'a mut Lists,
    pub(super) batch: &'a mut Batch,
    pub(super) symbols: &'a mut Vec<Symbol>,
}

impl<R: Read> Kept<R> {
    /// Of an instance, by its number.
    pub(super) const fn new(from: R, wanted: usize) -> Self {
        Self {
            from,
            block: Vec::new(),
            at: 0,
            read: 0,
            last_ns: 0,
            wanted,
            instance: 0,
            devices: Vec::new(),
            sites: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// Converts the next event of the wanted instance; `None` at the end.
    pub(super) fn next(&mut self, to: &mut Target<'_>) -> io::Result<Option<Converted>> {
        loop {
            if self.at == self.block.len() && !self.next_block()? {
                return Ok(None);
            }
            let block = std::mem::take(&mut self.block);
            let mut rest = Rest(&block[self.at..]);
            let read = self.record(&mut rest, to);
            self.at = block.len() - rest.0.len();
            self.block = block;
            match read {
                Some(Was::Event(converted)) => return Ok(Some(converted)),
                Some(Was::Other) => {}
                None => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the events that were kept are damaged"));
                }
            }
        }
    }

    /// Reads the next block; whether there is one.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut length = [0; 4];
        let first = loop {
            match self.from.read(&mut length[..1]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if first == 0 {
            return Ok(false);
        }
        self.from.read_exact(&mut length[1..])?;
        let length = u32::from_le_bytes(length) as usize;
        self.block.resize(length, 0);
        self.from.read_exact(&mut self.block)?;
        self.at = 0;
        self.read += length as u64 + 4;
        Ok(true)
    }

    fn record(&mut self, rest: &mut Rest<'_>, to: &mut Target<'_>) -> Option<Was> {
        let tag = rest.byte()?;
        match tag {
            tag::DEVICE => {
                let name = rest.text()?;
                if self.instance == self.wanted {
                    self.devices.push(to.converter.device(name));
                }
                return Some(Was::Other);
            }
            tag::SITE => {
                let site = Site { name: rest.text()?.to_owned(), module: rest.text()?.to_owned() };
                self.sites.push(site);
                self.addresses.push(None);
                return Some(Was::Other);
            }
            tag::INSTANCE => {
                self.instance = rest.number()? as usize;
                return Some(Was::Other);
            }
            _ => {}
        }
        self.last_ns = added(rest.number()?, self.last_ns);
        let head = Head { time_ns: self.last_ns, task: rest.number()? as u32, cpu: rest.number()? as u16 };
        let is_wanted = self.instance == self.wanted;
        let (what, is_described) = self.what(tag, is_wanted, rest, to)?;
        if !is_wanted {
            return Some(Was::Other);
        }
        if !is_described {
            return Some(Was::Event(Converted::OfNobody));
        }
        to.converter.take(&head, what, &to.lists.buffers, to.batch);
        Some(Was::Event(Converted::At(head.time_ns)))
    }

    /// What happened, and whether its device is described.
    fn what(&mut self, tag: u8, is_wanted: bool, rest: &mut Rest<'_>, to: &mut Target<'_>) -> Option<(What, bool)> {
        let upper = tag >> tag::UPPER;
        let tag = tag & tag::MASK;
        match tag {
            tag::KMALLOC => {
                let call_site = match rest.number()? {
                    0 => rest.fixed()?,
                    number => self.call_site(number as usize - 1, is_wanted, to)?,
                };
                let (ptr, bytes_req, bytes_alloc) = (rest.fixed()?, rest.number()?, rest.number()?);
                let ptr = if upper == NOT_YET && is_wanted { to.converter.nameless() } else { ptr };
                return Some((What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp: 0 }, true));
            }
            tag::KFREE => return Some((What::Kfree { call_site: 0, ptr: rest.fixed()? }, true)),
            _ => {}
        }
        let number = rest.number()? as usize;
        let known = if is_wanted { *self.devices.get(number)? } else { None };
        let device = known.unwrap_or_default();
        let direction = Direction::from_raw(upper)?;
        let what = match tag {
            tag::MAP => {
                let phys = rest.number()?;
                let (dma_addr, size, attrs) = (added(rest.number()?, phys), rest.number()?, rest.number()?);
                What::Map { device, phys, dma_addr, size, direction, attrs, memory: Memory::Unknown }
            }
            tag::UNMAP => {
                let (dma_addr, size, attrs) = (rest.number()?, rest.number()?, rest.number()?);
                What::Unmap { device, dma_addr, size, direction, attrs }
            }
            tag::SYNC_FOR_CPU | tag::SYNC_FOR_DEVICE => {
                let (dma_addr, size, for_device) = (rest.number()?, rest.number()?, tag == tag::SYNC_FOR_DEVICE);
                What::Sync { device, dma_addr, size, direction, for_device }
            }
            tag::BOUNCED => What::Bounced { device, dev_addr: rest.number()?, size: rest.number()? },
            tag::MAP_SG => {
                let (list, nents, ents) = (rest.fixed()?, rest.number()? as u32, rest.number()? as u32);
                let (attrs, segments) = (rest.number()?, rest.number()? as u32);
                let first_segment = to.batch.segments.len() as u32;
                to.lists.buffers.clear();
                for _ in 0..segments {
                    let phys = rest.number()?;
                    let (dma_addr, length) = (added(rest.number()?, phys), rest.number()?);
                    if known.is_some() {
                        to.lists.buffers.push(phys);
                        to.batch.segments.push(segment(phys, dma_addr, length));
                    }
                }
                What::MapSg { device, list, nents, ents, direction, attrs, caller: 0, first_segment, segments }
            }
            tag::REFUSED_SG | tag::UNMAP_SG => {
                let (list, nents, attrs) = (rest.fixed()?, rest.number()? as u32, rest.number()?);
                if tag == tag::UNMAP_SG {
                    What::UnmapSg { device, list, nents, direction, attrs }
                } else {
                    let (caller, first_segment, segments) = (0, 0, 0);
                    What::MapSg { device, list, nents, ents: 0, direction, attrs, caller, first_segment, segments }
                }
            }
            _ => return None,
        };
        Some((what, known.is_some()))
    }

    /// The address of a call site that has a name.
    fn call_site(&mut self, number: usize, is_wanted: bool, to: &mut Target<'_>) -> Option<u64> {
        let address = self.addresses.get_mut(number)?;
        if let Some(address) = *address {
            return Some(address);
        }
        // Those of other instances have none.
        if !is_wanted {
            return Some(0);
        }
        let Site { name, module } = self.sites.get(number)?;
        Some(*address.insert(to.converter.named(name, module, to.symbols)))
    }
}

/// An event of the wanted instance.
pub(super) enum Converted {
    /// When it was.
    At(u64),
    /// Nobody describes its device.
    OfNobody,
}

/// What a record was.
enum Was {
    Event(Converted),
    Other,
}

/// What is left of a block; `None` of what is not there.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let (mut number, mut shift) = (u64::from(first & 0x7f), 7);
        loop {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    fn fixed(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.number()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}
