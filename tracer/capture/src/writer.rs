//! Items into frames.

use std::{collections::BTreeMap, io::Write};

use serde::Serialize;
use zstd::bulk::Compressor;

use super::{
    VERSION, WriteError,
    blocks::BlocksEncoder,
    coherent::{self, Row},
    events::{Encoder, MAX_EVENTS, MAX_SEGMENTS},
    filling::{self, FRAME_EVENTS, Frame},
    frame::{self, FRAME_HEADER, MAX_PAYLOAD, Type},
    objects::tick_shift,
    split::{Splitter, Summary},
};
use crate::event::{Batch, Event, Kind, What};
use crate::output::Output;
use crate::stream::Item;

/// zstd's default: a capture of full rate must not cost more CPU than the tracing.
pub(super) const LEVEL: i32 = 3;

/// Entries of a list of call sites, symbols or lengths in one frame: at a few hundred bytes each, far from [`MAX_PAYLOAD`].
const LIST: usize = 1 << 14;

/// Fewer events than these are not worth blocks.
const FEW: usize = 512;

/// Writes a stream as a capture. Every item is a frame of its own, readable without those before; events and lists that
/// are too long for one are spread over several, and read as several items.
pub struct Writer<W> {
    out: W,
    sequence: u32,
    encoder: Encoder,
    blocks: BlocksEncoder,
    splitter: Splitter,
    compressor: Compressor<'static>,
    /// The frame being made; kept for its memory.
    frame: Vec<u8>,
    /// Frames of so many events and more are in blocks.
    blocks_from: usize,
    /// Of the times of objects in blocks, as the stream's beginning says.
    tick_shift: u8,
    /// Written so far, by kind.
    events: [u64; Kind::ALL.len()],
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a capture: writes the file's header.
    pub fn new(out: W) -> Result<Self, WriteError> {
        Self::of_version(out, VERSION, FEW)
    }

    /// Begins a capture of version 1, for readers from before there was another.
    pub fn version_1(out: W) -> Result<Self, WriteError> {
        Self::of_version(out, 1, usize::MAX)
    }

    fn of_version(mut out: W, version: u32, blocks_from: usize) -> Result<Self, WriteError> {
        let header = frame::file_header(version);
        out.write_all(&header)?;
        Ok(Self {
            out,
            sequence: 0,
            encoder: Encoder::default(),
            blocks: BlocksEncoder::default(),
            splitter: Splitter::new(),
            compressor: Compressor::new(LEVEL)?,
            frame: Vec::new(),
            blocks_from,
            tick_shift: 0,
            events: [0; Kind::ALL.len()],
            bytes: header.len() as u64,
        })
    }

    /// Puts events into blocks where a frame has so many of them or more; fewer are not worth it unless they are told so.
    #[must_use]
    pub fn blocks_from(self, events: usize) -> Self {
        Self { blocks_from: events, ..self }
    }

    /// Writes one item.
    pub fn write(&mut self, item: &Item) -> Result<(), WriteError> {
        match item {
            Item::Start(start) => {
                self.splitter.start(start);
                self.tick_shift = tick_shift(start.object_tick_ns);
                self.json(Type::Start, start)
            }
            Item::Device(device) => {
                self.splitter.device(device);
                self.json(Type::Device, device)
            }
            Item::Passed(_) => Err(WriteError::Passed),
            Item::Events(batch) => self.events(batch),
            Item::Pool(sample) => self.json(Type::Pool, sample),
            Item::Sites(sites) => self.list(Type::Sites, sites),
            Item::Symbols(symbols) => self.list(Type::Symbols, symbols),
            Item::Lengths(lengths) => self.list(Type::Lengths, lengths),
            Item::Slab(sample) => self.json(Type::Slab, sample),
            Item::PoolTimes(times) => self.json(Type::PoolTimes, times),
            Item::Counters(counters) => self.json(Type::Counters, counters),
            Item::End(end) => self.json(Type::End, end),
        }
    }

    /// Writes events that were gathered for a frame.
    pub fn write_frame(&mut self, events: &Frame) -> Result<(), WriteError> {
        let found = events.others.segments.len();
        if found > MAX_SEGMENTS {
            return Err(WriteError::TooManySegments { found });
        }
        if events.objects() == 0 {
            return self.events(&events.others);
        }
        // Coherent memory stands in frames of its own.
        let is_apart = events.others.events.iter().any(|event| event.what.is_coherent());
        if is_apart || self.blocks_from == usize::MAX {
            return events.events().map_or(Ok(()), |batch| self.events(&batch));
        }
        self.frame.clear();
        self.frame.resize(FRAME_HEADER, 0);
        let Self { blocks, splitter, compressor, frame, .. } = self;
        let raw = blocks.encode_frame(events, splitter, compressor, frame)?;
        frame::finish(Type::Blocks, self.sequence, raw, &mut self.frame);
        self.put_frame(Type::Blocks, raw)?;
        filling::count(events, &mut self.events);
        Ok(())
    }

    /// Hands everything so far to the operating system: a recorder killed afterwards does not lose it.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.out.flush()?)
    }

    /// Flushes, and returns what was written to. A writer that is only dropped may fail to write its last part, and
    /// nobody is told.
    pub fn into_inner(mut self) -> Result<W, WriteError> {
        self.flush()?;
        Ok(self.out)
    }

    /// Events written so far, by kind.
    pub fn events_written(&self) -> BTreeMap<&'static str, u64> {
        let counts = Kind::ALL.iter().map(|kind| (kind.name(), self.events[*kind as usize]));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Length of the file so far, bytes.
    pub fn bytes_written(&self) -> u64 {
        self.bytes
    }

    fn events(&mut self, batch: &Batch) -> Result<(), WriteError> {
        let mut rest = &batch.events[..];
        while !rest.is_empty() {
            let alike = coherent::alike(rest);
            if rest[0].what.is_coherent() {
                let (events, later) = rest.split_at(alike);
                self.coherent(events)?;
                rest = later;
                continue;
            }
            let fit = frame_of_events(batch, &rest[..alike], self.blocks_from == usize::MAX);
            if fit == 0 {
                return Err(WriteError::TooManySegments { found: batch.segments(&rest[0]).len() });
            }
            let (events, later) = rest.split_at(fit);
            if events.len() < self.blocks_from {
                // Version 1 has nothing that could be left out.
                let followed = if self.blocks_from == usize::MAX { &[][..] } else { events };
                let mut summary = Summary::default();
                for event in followed {
                    self.splitter.event(event, batch.segments(event), true, &mut summary);
                }
                let payload = self.encoder.encode(events, batch);
                self.frame(Type::Events, &payload)?;
            } else {
                self.blocks(events, batch)?;
            }
            self.count(events);
            rest = later;
        }
        Ok(())
    }

    /// Events about coherent memory alone.
    fn coherent(&mut self, events: &[Event]) -> Result<(), WriteError> {
        let rows: Vec<Row> = events.iter().filter_map(Row::of).collect();
        self.list(Type::Coherent, &rows)?;
        self.count(events);
        Ok(())
    }

    fn count(&mut self, events: &[Event]) {
        for event in events {
            self.events[event.what.kind() as usize] += 1;
        }
    }

    fn blocks(&mut self, events: &[Event], batch: &Batch) -> Result<(), WriteError> {
        self.frame.clear();
        self.frame.resize(FRAME_HEADER, 0);
        let Self { blocks, splitter, tick_shift, compressor, frame, .. } = self;
        let raw = blocks.encode(events, batch, splitter, *tick_shift, compressor, frame)?;
        frame::finish(Type::Blocks, self.sequence, raw, &mut self.frame);
        self.put_frame(Type::Blocks, raw)
    }

    fn list<T: Serialize>(&mut self, kind: Type, list: &[T]) -> Result<(), WriteError> {
        list.chunks(LIST).try_for_each(|part| self.json(kind, &part))
    }

    fn json(&mut self, kind: Type, value: &impl Serialize) -> Result<(), WriteError> {
        let payload = serde_json::to_vec(value).map_err(|source| WriteError::Encode { what: kind.name(), source })?;
        self.frame(kind, &payload)
    }

    fn frame(&mut self, kind: Type, payload: &[u8]) -> Result<(), WriteError> {
        let bytes = payload.len();
        if bytes > kind.longest() {
            return Err(WriteError::TooLarge { what: kind.name(), bytes });
        }
        frame::encode(&mut self.compressor, kind, self.sequence, payload, &mut self.frame)?;
        self.put_frame(kind, bytes)
    }

    /// Writes the frame that was made.
    fn put_frame(&mut self, kind: Type, bytes: usize) -> Result<(), WriteError> {
        // What cannot be compressed grows a little.
        if self.frame.len() > FRAME_HEADER + MAX_PAYLOAD {
            return Err(WriteError::TooLarge { what: kind.name(), bytes });
        }
        self.out.write_all(&self.frame)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes += self.frame.len() as u64;
        Ok(())
    }
}

impl Writer<Output> {
    /// Puts the capture into its place as it is by now, where it can be read while it grows; a file that was there is renamed to its own
    /// name and this suffix.
    pub fn publish_keeping(&mut self, suffix: &str) -> Result<(), WriteError> {
        self.flush()?;
        Ok(self.out.publish_keeping(suffix)?)
    }

    /// Brings the capture to the disk and into its place; returns its length, bytes.
    pub fn finish(self) -> Result<u64, WriteError> {
        let bytes = self.bytes;
        self.into_inner()?.finish()?;
        Ok(bytes)
    }

    /// The same; a file that was there is renamed to its own name and this suffix.
    pub fn finish_keeping(mut self, suffix: &str) -> Result<u64, WriteError> {
        self.flush()?;
        self.out.complete()?;
        self.out.publish_keeping(suffix)?;
        Ok(self.bytes)
    }
}

/// How many of `events` go into one frame that a reader accepts; 0 when already the first has too many segments. In columns, objects are
/// as long as all others.
fn frame_of_events(batch: &Batch, events: &[Event], in_columns: bool) -> usize {
    let (mut segments, mut long) = (0, 0);
    let fits = |event: &&Event| {
        segments += batch.segments(event).len();
        long += usize::from(in_columns || !matches!(event.what, What::Kmalloc { .. } | What::Kfree { .. }));
        segments <= MAX_SEGMENTS && long <= FRAME_EVENTS
    };
    events.iter().take(MAX_EVENTS).take_while(fits).count()
}
