//! Items into frames.

use std::{collections::BTreeMap, io::Write};

use serde::Serialize;

use super::{
    WriteError,
    events::{Encoder, MAX_EVENTS, MAX_SEGMENTS},
    frame::{self, MAX_PAYLOAD, Type},
};
use crate::{
    event::{Batch, Event, What},
    stream::Item,
};

/// zstd's default: a capture of full rate must not cost more CPU than the tracing.
const LEVEL: i32 = 3;

/// Writes a stream as a capture. Every item is a frame of its own (events: one or more), readable without those before.
pub struct Writer<W> {
    out: W,
    sequence: u32,
    encoder: Encoder,
    events: BTreeMap<&'static str, u64>,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a capture: writes the file's header.
    pub fn new(mut out: W) -> Result<Self, WriteError> {
        let header = frame::file_header();
        out.write_all(&header)?;
        Ok(Self { out, sequence: 0, encoder: Encoder::default(), events: BTreeMap::new(), bytes: header.len() as u64 })
    }

    /// Writes one item.
    pub fn write(&mut self, item: &Item) -> Result<(), WriteError> {
        match item {
            Item::Start(start) => self.json(Type::Start, start),
            Item::Device(device) => self.json(Type::Device, device),
            Item::Events(batch) => self.events(batch),
            Item::Pool(sample) => self.json(Type::Pool, sample),
            Item::Sites(sites) => self.json(Type::Sites, sites),
            Item::Symbols(symbols) => self.json(Type::Symbols, symbols),
            Item::Counters(counters) => self.json(Type::Counters, counters),
            Item::End(end) => self.json(Type::End, end),
        }
    }

    /// Hands everything so far to the operating system: a recorder killed afterwards does not lose it.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.out.flush()?)
    }

    /// Flushes, and returns what was written to.
    pub fn into_inner(mut self) -> Result<W, WriteError> {
        self.flush()?;
        Ok(self.out)
    }

    /// Events written so far, by kind.
    pub fn events_written(&self) -> &BTreeMap<&'static str, u64> {
        &self.events
    }

    /// Length of the file so far, bytes.
    pub fn bytes_written(&self) -> u64 {
        self.bytes
    }

    fn events(&mut self, batch: &Batch) -> Result<(), WriteError> {
        let mut rest = &batch.events[..];
        while !rest.is_empty() {
            let (events, later) = rest.split_at(frame_of_events(rest));
            let payload = self.encoder.encode(events, batch);
            self.frame(Type::Events, &payload)?;
            for event in events {
                *self.events.entry(event.what.kind().name()).or_default() += 1;
            }
            rest = later;
        }
        Ok(())
    }

    fn json(&mut self, kind: Type, value: &impl Serialize) -> Result<(), WriteError> {
        let payload = serde_json::to_vec(value).map_err(|source| WriteError::Encode { what: kind.name(), source })?;
        self.frame(kind, &payload)
    }

    fn frame(&mut self, kind: Type, payload: &[u8]) -> Result<(), WriteError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(WriteError::TooLarge { what: kind.name(), bytes: payload.len() });
        }
        let frame = frame::encode(kind, self.sequence, payload, LEVEL)?;
        self.out.write_all(&frame)?;
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes += frame.len() as u64;
        Ok(())
    }
}

/// How many of `events` go into one frame: at least one, and no more than a reader accepts.
fn frame_of_events(events: &[Event]) -> usize {
    let mut segments = 0;
    let fits = |event: &&Event| {
        if let What::MapSg { segments: more, .. } = event.what {
            segments += more as usize;
        }
        segments <= MAX_SEGMENTS
    };
    events.iter().take(MAX_EVENTS).take_while(fits).count().max(1)
}
