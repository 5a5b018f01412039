//! Reading a BPF ring through a window: only the part of it that is being read is mapped.
//!
//! The kernel puts every page of a mapping of a ring in place at once (`remap_vmalloc_range()`), and a whole ring is mapped twice, so that no
//! record is cut at its end. A ring of 8 MiB would therefore count as 16 MiB of the recorder's resident memory from the start.
//! The layout is that of `kernel/bpf/ringbuf.c`: a page with the consumer's position, one with the producer's, and the data, twice.

use std::{
    os::fd::{AsFd as _, AsRawFd, RawFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering, fence},
};

use aya::maps::{Map, MapData, MapError};
use rustix::mm::ProtFlags;

use super::mapping::Mapping;

/// `BPF_RINGBUF_HDR_SZ`, `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT`.
const HEADER: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// How much of a ring is mapped at a time: a quarter of it, within these limits.
const LEAST: usize = 64 << 10;
const MOST: usize = 1 << 20;
/// What is mapped behind a window: a record that begins in it may end there. The longest has 256 segments.
const BEHIND: usize = 64 << 10;

/// A ring that this process alone reads.
pub(super) struct Windowed {
    map: MapData,
    consumer: Mapping,
    producer: Mapping,
    /// The part that is mapped, and where in the data it begins.
    window: Option<(usize, Mapping)>,
    size: usize,
    page: usize,
    /// How far has been read.
    position: usize,
    /// How far can be read, as it was when this was looked up last.
    end: usize,
    /// Since a producer may have found the ring not empty, and said nothing, the end is looked up once more before a reader waits.
    has_read: bool,
}

impl Windowed {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        let Map::RingBuf(map) = map else {
            return Err(MapError::InvalidName { name: "a ring".to_owned() });
        };
        let size = map.info()?.max_entries() as usize;
        let page = rustix::param::page_size();
        let fd = map.fd().as_fd();
        let consumer = Mapping::new(fd, page, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let producer = Mapping::new(fd, page, ProtFlags::READ, page)?;
        let position = consumer.word().load(Ordering::Acquire);
        let end = producer.word().load(Ordering::Acquire);
        Ok(Self { map, consumer, producer, window: None, size, page, position, end, has_read: false })
    }

    /// Hands out the next record; `None` when there is none that is finished, or when its part of the ring cannot be mapped: it stays
    /// where it is then, and the kernel counts what finds the ring full.
    pub(super) fn take<T>(&mut self, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        loop {
            if self.position == self.end {
                self.before_the_last_look();
                self.end = self.producer.word().load(Ordering::Acquire);
                if self.position == self.end {
                    return None;
                }
            }
            let offset = self.position & (self.size - 1);
            let at = self.mapped(offset)?;
            // SAFETY: the header of a record, 8-byte aligned and mapped; the kernel stores the length with an xchg().
            let length = unsafe { at.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if length & BUSY != 0 {
                if !self.has_read {
                    return None;
                }
                self.before_the_last_look();
                continue;
            }
            let bytes = (length & !(BUSY | DISCARDED)) as usize;
            if length & DISCARDED != 0 {
                self.pass(bytes);
                continue;
            }
            // SAFETY: the kernel lets nobody write there before the consumer's position has passed it, and no record of the programs is
            // longer than what is mapped behind a window.
            let record = unsafe { std::slice::from_raw_parts(at.as_ptr().add(HEADER), bytes.min(BEHIND - HEADER)) };
            let taken = with(record);
            self.pass(bytes);
            return Some(taken);
        }
    }

    /// Lets the kernel have the place of a record of so many bytes.
    fn pass(&mut self, bytes: usize) {
        self.position = self.position.wrapping_add((HEADER + bytes).next_multiple_of(8));
        self.consumer.word().store(self.position, Ordering::Release);
        self.has_read = true;
    }

    /// Either this sees a new record at the next look, or its producer sees the consumer's new position and wakes the reader.
    fn before_the_last_look(&mut self) {
        if self.has_read {
            fence(Ordering::SeqCst);
            self.has_read = false;
        }
    }

    /// Where the data at this offset is mapped, with [`BEHIND`] bytes or more.
    fn mapped(&mut self, offset: usize) -> Option<NonNull<u8>> {
        let window = (self.size / 4).clamp(LEAST, MOST);
        let begin = offset & !(window - 1);
        if self.window.as_ref().is_none_or(|(at, _)| *at != begin) {
            // The old one first, so that there are never two.
            self.window = None;
            let length = (window + BEHIND).min(2 * self.size - begin);
            let at = 2 * self.page + begin;
            self.window = Some((begin, Mapping::new(self.map.fd().as_fd(), length, ProtFlags::READ, at).ok()?));
        }
        let (_, mapping) = self.window.as_ref()?;
        // SAFETY: the window begins at or before the offset, and ends behind it.
        Some(unsafe { mapping.address().add(offset - begin) })
    }
}

impl AsRawFd for Windowed {
    fn as_raw_fd(&self) -> RawFd {
        self.map.fd().as_fd().as_raw_fd()
    }
}
