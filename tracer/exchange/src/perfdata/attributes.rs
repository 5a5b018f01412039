//! How the samples of an event are laid out (`struct perf_event_attr`).

use std::collections::HashMap;

use super::super::tracefs::Order;

/// `PERF_SAMPLE_*` that come before the raw data of a tracepoint (`include/uapi/linux/perf_event.h`).
mod sample {
    pub(super) const IP: u64 = 1 << 0;
    pub(super) const TID: u64 = 1 << 1;
    pub(super) const TIME: u64 = 1 << 2;
    pub(super) const ADDR: u64 = 1 << 3;
    pub(super) const READ: u64 = 1 << 4;
    pub(super) const CALLCHAIN: u64 = 1 << 5;
    pub(super) const ID: u64 = 1 << 6;
    pub(super) const CPU: u64 = 1 << 7;
    pub(super) const PERIOD: u64 = 1 << 8;
    pub(super) const STREAM_ID: u64 = 1 << 9;
    pub(super) const RAW: u64 = 1 << 10;
    pub(super) const IDENTIFIER: u64 = 1 << 16;
}

/// `PERF_FORMAT_*`.
mod format {
    pub(super) const ENABLED: u64 = 1 << 0;
    pub(super) const RUNNING: u64 = 1 << 1;
    pub(super) const ID: u64 = 1 << 2;
    pub(super) const GROUP: u64 = 1 << 3;
    pub(super) const LOST: u64 = 1 << 4;
}

/// What an attribute says of its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attribute {
    samples: u64,
    reads: u64,
}

/// The attributes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    all: Vec<Attribute>,
    /// Not all samples are laid out alike.
    differ: bool,
    /// Attributes by the id of a sample.
    by_id: HashMap<u64, usize>,
}

/// A sample, as far as it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    pub(super) task: u32,
    pub(super) time_ns: u64,
    pub(super) cpu: Option<u64>,
    /// The event as the kernel recorded it; empty for an event that is no tracepoint.
    pub(super) raw: &'a [u8],
}

/// Values of a sample, one after the other.
struct Values<'a> {
    bytes: &'a [u8],
    order: Order,
}

impl<'a> Values<'a> {
    fn u64(&mut self) -> Option<u64> {
        self.take(8).and_then(|bytes| self.order.number(bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).and_then(|bytes| self.order.number(bytes)).map(|number| number as u32)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    /// Passes over so many 64-bit values.
    fn skip(&mut self, count: u64) -> Option<()> {
        self.take(usize::try_from(count).ok()?.checked_mul(8)?).map(|_| ())
    }
}

impl Attributes {
    pub(super) fn all(&self) -> &[Attribute] {
        &self.all
    }

    /// Adds one; of bytes that are too short, none.
    pub(super) fn add(&mut self, bytes: &[u8], order: Order) {
        let Some(attribute) = Attribute::of(bytes, order) else { return };
        self.differ |= self.all.first().is_some_and(|first| *first != attribute);
        self.all.push(attribute);
    }

    /// Gives an id to an attribute, by its place.
    pub(super) fn add_id(&mut self, id: u64, at: usize) {
        self.by_id.insert(id, at);
    }

    pub(super) fn ids(&self) -> usize {
        self.by_id.len()
    }

    /// That of the event that a sample is of. Where all are laid out alike, any will do.
    pub(super) fn of_sample(&self, record: &[u8], order: Order) -> Option<Attribute> {
        let first = *self.all.first()?;
        if !self.differ {
            return Some(first);
        }
        let id = order.number_at(record, first.id_at()?, 8)?;
        self.all.get(*self.by_id.get(&id)?).copied()
    }
}

impl Attribute {
    /// From the bytes of `struct perf_event_attr`, of which older versions are shorter.
    pub(super) fn of(bytes: &[u8], order: Order) -> Option<Self> {
        Some(Self { samples: order.number_at(bytes, 24, 8)?, reads: order.number_at(bytes, 32, 8)? })
    }

    pub(super) fn has_raw(self) -> bool {
        self.samples & sample::RAW != 0
    }

    pub(super) fn has_time(self) -> bool {
        self.samples & sample::TIME != 0
    }

    /// Where in a sample the id of its event is, bytes from the beginning; `None` where it has none.
    pub(super) fn id_at(self) -> Option<usize> {
        if self.samples & sample::IDENTIFIER != 0 {
            return Some(0);
        }
        let before = [sample::IP, sample::TID, sample::TIME, sample::ADDR].map(|one| self.samples & one != 0);
        (self.samples & sample::ID != 0).then(|| 8 * before.into_iter().filter(|is_there| *is_there).count())
    }

    /// Reads a sample (`perf_output_sample()`, `kernel/events/core.c`); `None` where it is shorter than it says.
    pub(super) fn sample(self, bytes: &[u8], order: Order) -> Option<Sample<'_>> {
        let mut values = Values { bytes, order };
        let mut sample = Sample::default();
        let has = |one| self.samples & one != 0;
        values.skip(u64::from(has(sample::IDENTIFIER)) + u64::from(has(sample::IP)))?;
        if has(sample::TID) {
            values.u32()?;
            sample.task = values.u32()?;
        }
        if has(sample::TIME) {
            sample.time_ns = values.u64()?;
        }
        values.skip([sample::ADDR, sample::ID, sample::STREAM_ID].map(|one| u64::from(has(one))).iter().sum())?;
        if has(sample::CPU) {
            sample.cpu = Some(u64::from(values.u32()?));
            values.u32()?;
        }
        values.skip(u64::from(has(sample::PERIOD)))?;
        if has(sample::READ) {
            self.pass_reads(&mut values)?;
        }
        if has(sample::CALLCHAIN) {
            let frames = values.u64()?;
            values.skip(frames)?;
        }
        if has(sample::RAW) {
            let length = values.u32()? as usize;
            sample.raw = values.take(length)?;
        }
        Some(sample)
    }

    fn pass_reads(self, values: &mut Values<'_>) -> Option<()> {
        let has = |one| u64::from(self.reads & one != 0);
        let of_each = 1 + has(format::ID) + has(format::LOST);
        let times = has(format::ENABLED) + has(format::RUNNING);
        if has(format::GROUP) == 0 {
            return values.skip(of_each + times);
        }
        let count = values.u64()?;
        values.skip(times.checked_add(count.checked_mul(of_each)?)?)
    }
}
