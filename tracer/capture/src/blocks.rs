//! A frame of events in blocks: a head with the order of the events, what is in the blocks and totals of those that may stay closed; then
//! the blocks, each compressed and checksummed for itself.

use tracer_ebpf::streamed::SMALL_BELOW;
use zstd::bulk::{Compressor, Decompressor};

use crate::column::{get, put};
use crate::event::{Batch, DeviceId, Direction, Event, Kind, Segment, What};
use crate::events::{Decoder, Encoder, MAX_EVENTS, MAX_SEGMENTS};
use crate::filling::Frame;
use crate::frame::{BLOCKS, MAX_HEAD, MAX_PAYLOAD, TABLE, head_len, word};
use crate::objects::{ObjectDecoder, ObjectEncoder, Objects};
use crate::passed::{Alike, Needs, Passed, PassedBuffer, PassedLists};
use crate::split::{Block, CLOSABLE, MOST_ALIGNED, Splitter, Summary};

/// A mapping was refused, or an attempt to bounce.
const HAS_FAILED: u64 = 1;

/// Makes frames of events; keeps its memory.
#[derive(Default)]
pub(super) struct BlocksEncoder {
    encoder: Encoder,
    objects: ObjectEncoder,
    parts: [Batch; BLOCKS],
    order: Vec<u8>,
    head: Vec<u8>,
    stored: Vec<u8>,
    block: Vec<u8>,
}

impl BlocksEncoder {
    /// Puts the payload of a frame behind what is in `into`; returns the length of its head, decompressed. Times of objects are in units of
    /// `1 << tick_shift` ns.
    pub(super) fn encode(
        &mut self,
        events: &[Event],
        batch: &Batch,
        splitter: &mut Splitter,
        tick_shift: u8,
        compressor: &mut Compressor<'_>,
        into: &mut Vec<u8>,
    ) -> std::io::Result<usize> {
        self.begin();
        self.objects.begin(tick_shift);
        self.order.resize(events.len().div_ceil(2), 0);
        let mut summary = Summary::default();
        for (n, event) in events.iter().enumerate() {
            let segments = batch.segments(event);
            let block = splitter.event(event, segments, n == 0 || n + 1 == events.len(), &mut summary);
            self.put(n, block);
            if block == Block::Objects {
                self.objects.event(event);
            } else {
                self.part(block, event, segments);
            }
        }
        let times = events.iter().map(|event| event.time_ns);
        let (first_ns, last_ns) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
        self.put_head(events.len(), events, [first_ns, last_ns], splitter, tick_shift, summary);
        let mut block = std::mem::take(&mut self.block);
        block.clear();
        if !self.objects.is_empty() {
            self.objects.finish(&mut block);
        }
        let made = self.put_blocks(&block, compressor, into);
        self.block = block;
        made
    }

    /// The same of a frame whose objects are in their columns already.
    pub(super) fn encode_frame(
        &mut self,
        frame: &Frame,
        splitter: &mut Splitter,
        compressor: &mut Compressor<'_>,
        into: &mut Vec<u8>,
    ) -> std::io::Result<usize> {
        /// Two events of [`Block::Objects`] in the order.
        const TWO_OBJECTS: u8 = Block::Objects as u8 | (Block::Objects as u8) << 4;
        self.begin();
        let count = frame.len();
        self.order.resize(count.div_ceil(2), TWO_OBJECTS);
        if let Some(last) = self.order.last_mut()
            && count % 2 == 1
        {
            *last &= 15;
        }
        let mut summary = Summary::default();
        let others = &frame.others;
        for (at, event) in frame.others_at.iter().zip(&others.events) {
            let n = *at as usize;
            let segments = others.segments(event);
            let block = splitter.event(event, segments, n == 0 || n + 1 == count, &mut summary);
            self.order[n / 2] &= !(15 << (4 * (n % 2)));
            self.put(n, block);
            self.part(block, event, segments);
        }
        let times = [frame.first_ns.min(frame.last_ns), frame.last_ns];
        self.put_head(count, &others.events, times, splitter, frame.tick_shift, summary);
        self.put_blocks(&frame.block, compressor, into)
    }

    fn begin(&mut self) {
        self.parts.iter_mut().for_each(Batch::clear);
        self.order.clear();
    }

    /// Says of an event, of which nothing was said yet, in which block it is.
    fn put(&mut self, n: usize, block: Block) {
        self.order[n / 2] |= (block as u8) << (4 * (n % 2));
    }

    fn part(&mut self, block: Block, event: &Event, segments: &[Segment]) {
        let part = &mut self.parts[block as usize];
        let mut event = *event;
        if let What::MapSg { first_segment, .. } = &mut event.what {
            *first_segment = part.segments.len() as u32;
        }
        part.segments.extend_from_slice(segments);
        part.events.push(event);
    }

    /// The table, the head and the blocks. That of objects is `objects`, unless it is empty.
    fn put_blocks(
        &mut self,
        objects: &[u8],
        compressor: &mut Compressor<'_>,
        into: &mut Vec<u8>,
    ) -> std::io::Result<usize> {
        let mut table = [0; TABLE];
        self.stored.clear();
        for (n, part) in self.parts.iter().enumerate() {
            let encoded;
            let raw = if n == Block::Objects as usize {
                objects
            } else if part.events.is_empty() {
                &[]
            } else {
                encoded = self.encoder.encode(&part.events, part);
                &encoded[..]
            };
            if raw.is_empty() {
                continue;
            }
            let from = self.stored.len();
            compress(compressor, raw, &mut self.stored)?;
            let stored = &self.stored[from..];
            let words = [stored.len() as u32, raw.len() as u32, crc32c::crc32c(stored)];
            for (word, at) in words.into_iter().zip((4 + 12 * n..).step_by(4)) {
                table[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
        let from = into.len();
        into.extend_from_slice(&table);
        compress(compressor, &self.head, into)?;
        let head = (into.len() - from - TABLE) as u32;
        into[from..from + 4].copy_from_slice(&head.to_le_bytes());
        into.extend_from_slice(&self.stored);
        Ok(self.head.len())
    }

    /// The head of a frame of so many events, of which those that may name a device are `others`.
    fn put_head(
        &mut self,
        count: usize,
        others: &[Event],
        [first_ns, last_ns]: [u64; 2],
        splitter: &Splitter,
        tick_shift: u8,
        summary: Summary,
    ) {
        let head = &mut self.head;
        head.clear();
        put(head, 1 << tick_shift);
        put(head, count as u64);
        head.extend_from_slice(&self.order);
        put(head, first_ns);
        put(head, last_ns - first_ns);
        put(head, u64::from(splitter.aligned()));
        put(head, if summary.has_failed { HAS_FAILED } else { 0 });
        let mut devices: Vec<u32> = others.iter().filter_map(|event| event.what.device()).map(|id| id.0).collect();
        devices.sort_unstable();
        devices.dedup();
        put(head, devices.len() as u64);
        let mut before = 0;
        for device in devices {
            put(head, u64::from(device - before));
            before = device;
        }
        for passed in summary.totals() {
            put_totals(head, &passed);
        }
    }
}

fn put_totals(head: &mut Vec<u8>, passed: &Passed) {
    let kinds = passed.kinds.iter().zip(0_u64..).filter(|(count, _)| **count > 0);
    put(head, kinds.clone().count() as u64);
    for (count, kind) in kinds {
        put(head, kind);
        put(head, *count);
    }
    let PassedLists { all, of_several, of_mixed_lengths, segments } = passed.lists;
    for value in [passed.by_address, passed.by_no_attempt, all, of_several, of_mixed_lengths, segments] {
        put(head, value);
    }
    put(head, passed.buffers.len() as u64);
    let of_buffers: [fn(&Alike) -> u64; 4] = [
        |alike| u64::from(alike.device.0),
        |alike| alike.direction as u64,
        |alike| alike.buffer as u64,
        |alike| alike.length,
    ];
    for column in of_buffers {
        passed.buffers.iter().for_each(|(alike, _)| put(head, column(alike)));
    }
    passed.buffers.iter().for_each(|(_, count)| put(head, *count));
    put(head, passed.callers.len() as u64);
    passed.callers.iter().for_each(|((device, _), _)| put(head, u64::from(device.0)));
    passed.callers.iter().for_each(|((_, caller), _)| put(head, *caller));
    passed.callers.iter().for_each(|(_, count)| put(head, *count));
}

fn compress(compressor: &mut Compressor<'_>, raw: &[u8], into: &mut Vec<u8>) -> std::io::Result<()> {
    let from = into.len();
    into.resize(from + zstd::zstd_safe::compress_bound(raw.len()), 0);
    let stored = compressor.compress_to_buffer(raw, &mut into[from..])?;
    into.truncate(from + stored);
    Ok(())
}

/// The head of a frame.
struct Head<'a> {
    /// Nanoseconds in a tick of the times of objects.
    tick_ns: u64,
    order: &'a [u8],
    events: usize,
    aligned: u32,
    /// Of [`CLOSABLE`].
    totals: [Passed; CLOSABLE.len()],
}

impl<'a> Head<'a> {
    /// `None` when it is no such thing.
    fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let from = &mut bytes;
        let tick_ns = get(from)?;
        let events = usize::try_from(get(from)?).ok().filter(|events| *events <= MAX_EVENTS)?;
        let (order, rest) = from.split_at_checked(events.div_ceil(2))?;
        *from = rest;
        let (_first, _length) = (get(from)?, get(from)?);
        let aligned = u32::try_from(get(from)?).ok().filter(|aligned| *aligned <= MOST_ALIGNED)?;
        let _flags = get(from)?;
        let devices = get(from)?;
        for _ in 0..devices {
            get(from)?;
        }
        let totals = [totals(from)?, totals(from)?, totals(from)?];
        // What a later version says stands behind.
        Some(Self { tick_ns, order, events, aligned, totals })
    }

    /// The block of an event.
    fn block(&self, n: usize) -> usize {
        usize::from(self.order[n / 2] >> (4 * (n % 2)) & 15)
    }

    /// Events in each block; `None` where there is no such block.
    fn counts(&self) -> Option<[usize; BLOCKS]> {
        // Two events in a byte. Neighbours are mostly alike: counted in turn in several places, they need not wait for each other.
        let mut of_bytes = [[0_usize; 256]; 4];
        let (pairs, odd) = self.order.split_at(self.events / 2);
        for four in pairs.chunks(4) {
            for (pair, of_bytes) in four.iter().zip(&mut of_bytes) {
                of_bytes[usize::from(*pair)] += 1;
            }
        }
        let mut counts = [0; 16];
        for pair in 0..256 {
            let count: usize = of_bytes.iter().map(|of_bytes| of_bytes[pair]).sum();
            counts[pair & 15] += count;
            counts[pair >> 4] += count;
        }
        if let (Some(last), true) = (odd.first(), self.events % 2 == 1) {
            counts[usize::from(last & 15)] += 1;
        }
        let (counts, others) = counts.split_first_chunk()?;
        others.iter().all(|count| *count == 0).then_some(*counts)
    }
}

fn totals(from: &mut &[u8]) -> Option<Passed> {
    let mut passed = Passed::default();
    for _ in 0..get(from)? {
        let kind = passed.kinds.get_mut(usize::try_from(get(from)?).ok()?)?;
        *kind = get(from).filter(|count| *count <= MAX_EVENTS as u64)?;
    }
    let mut small = || get(from).filter(|value| *value <= (MAX_SEGMENTS + MAX_EVENTS) as u64);
    (passed.by_address, passed.by_no_attempt) = (small()?, small()?);
    passed.lists = PassedLists { all: small()?, of_several: small()?, of_mixed_lengths: small()?, segments: small()? };
    // Each takes five bytes and more.
    let count = usize::try_from(get(from)?).ok().filter(|count| *count <= from.len())?;
    let mut column = || -> Option<Vec<u64>> { (0..count).map(|_| get(from)).collect() };
    let [devices, directions, buffers, lengths, counts] = [column()?, column()?, column()?, column()?, column()?];
    for n in 0..count {
        let alike = Alike {
            device: DeviceId(u32::try_from(devices[n]).ok()?),
            direction: Direction::from_raw(u8::try_from(directions[n]).ok()?)?,
            buffer: *PassedBuffer::ALL.get(usize::try_from(buffers[n]).ok()?)?,
            length: lengths[n],
        };
        // No row says nothing, so that there are no more of them than buffers.
        passed.buffers.push((alike, Some(counts[n]).filter(|count| *count > 0)?));
    }
    let count = usize::try_from(get(from)?).ok().filter(|count| *count <= from.len())?;
    let mut column = || -> Option<Vec<u64>> { (0..count).map(|_| get(from)).collect() };
    let [devices, callers, counts] = [column()?, column()?, column()?];
    for n in 0..count {
        let count = Some(counts[n]).filter(|count| *count > 0)?;
        passed.callers.push(((DeviceId(u32::try_from(devices[n]).ok()?), callers[n]), count));
    }
    is_consistent(&passed).then_some(passed)
}

/// Whether totals are such as events can have: so whoever adds them up needs no more care than with events.
fn is_consistent(passed: &Passed) -> bool {
    let of = |buffer: PassedBuffer| {
        let counts = passed.buffers.iter().filter(|(alike, _)| alike.buffer == buffer).map(|(_, count)| *count);
        counts.fold(0, u64::saturating_add)
    };
    let [single, first, others] = PassedBuffer::ALL.map(of);
    let lists = passed.callers.iter().map(|(_, count)| *count).fold(0, u64::saturating_add);
    let [maps, lists_mapped] = [Kind::Map, Kind::MapSg].map(|kind| passed.kinds[kind as usize]);
    let no_length_is_too_long = passed.buffers.iter().all(|(alike, _)| match alike.buffer {
        PassedBuffer::Single => alike.length <= 1 << 40,
        PassedBuffer::FirstSegment | PassedBuffer::Segment => u32::try_from(alike.length).is_ok(),
    });
    single == maps
        && first == lists_mapped
        && lists == lists_mapped
        && passed.mappings() == maps + lists_mapped
        && first.saturating_add(others) <= MAX_SEGMENTS as u64
        && passed.lists.all <= lists_mapped
        && passed.lists.of_several <= passed.lists.all
        && passed.lists.of_mixed_lengths <= passed.lists.of_several
        && passed.lists.segments <= first + others
        && no_length_is_too_long
        && passed.kinds[Kind::Kmalloc as usize] + passed.kinds[Kind::Kfree as usize] == 0
}

/// The blocks of a payload, as stored; `None` when it is no such thing.
fn stored(payload: &[u8]) -> Option<[&[u8]; BLOCKS]> {
    let mut at = head_len(payload)?;
    let mut blocks = [&[][..]; BLOCKS];
    for (n, block) in blocks.iter_mut().enumerate() {
        let length = word(payload, 4 + 12 * n) as usize;
        *block = payload.get(at..at.checked_add(length)?)?;
        at += length;
    }
    (at == payload.len()).then_some(blocks)
}

/// Of which blocks of a payload the checksum is wrong; of none where it is no payload at all.
pub(super) fn damaged(payload: &[u8]) -> [bool; BLOCKS] {
    let Some(blocks) = stored(payload) else { return [false; BLOCKS] };
    std::array::from_fn(|n| crc32c::crc32c(blocks[n]) != word(payload, 12 + 12 * n))
}

/// What comes out of a frame.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Opened {
    /// The events that were asked for.
    pub(super) batch: Batch,
    /// The others.
    pub(super) passed: Option<Passed>,
    /// Blocks that were damaged, and their length as stored.
    pub(super) damaged: (u64, u64),
    /// Objects are among the events.
    pub(super) has_objects: bool,
}

/// Reads frames of events; keeps its memory.
#[derive(Default)]
pub(super) struct BlocksDecoder {
    head: Vec<u8>,
    raw: Vec<u8>,
    objects: ObjectDecoder,
    raw_objects: Vec<u8>,
    /// Objects that are decoded and not among the events yet.
    part: Vec<Event>,
}

impl BlocksDecoder {
    /// Decodes a payload whose head is intact, with a head of so many bytes; `None` when it is no such thing. Blocks that are `damaged` stay
    /// closed. Of what `needs` leave out
    /// there are totals instead, unless `all` is wanted.
    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        damaged: [bool; BLOCKS],
        head_raw: usize,
        needs: Needs,
        decompressor: &mut Decompressor<'_>,
        decoder: &mut Decoder,
    ) -> Option<Opened> {
        let blocks = stored(payload)?;
        let Self { head, raw, objects, raw_objects, part } = self;
        decompress(decompressor, &payload[TABLE..head_len(payload)?], head_raw, MAX_HEAD, head)?;
        let mut head = Head::parse(head)?;
        let counts = head.counts()?;
        for (passed, block) in head.totals.iter().zip(CLOSABLE) {
            if passed.events() != counts[block as usize] as u64 {
                return None;
            }
        }
        // Where objects are, each buffer may lie in one of them.
        let needs = if counts[Block::Objects as usize] > 0 { Needs::Everything } else { needs };
        let closed = |block: Block| match (needs, block) {
            (Needs::Everything, _) | (_, Block::Always | Block::Objects) => false,
            (_, Block::Rest) => true,
            (Needs::Written, _) => false,
            (Needs::WithLines(longest), _) => {
                longest <= 1 << head.aligned || block == Block::Aligned && longest <= SMALL_BELOW
            }
        };
        let closed = CLOSABLE.map(closed);
        let mut opened = Opened { has_objects: counts[Block::Objects as usize] > 0, ..Opened::default() };
        let mut parts: [Option<Batch>; BLOCKS] = Default::default();
        let mut objects_there = None;
        for (n, block) in blocks.into_iter().enumerate().filter(|(n, _)| counts[*n] > 0) {
            let length = word(payload, 8 + 12 * n) as usize;
            if damaged[n] {
                opened.damaged.0 += 1;
                opened.damaged.1 += block.len() as u64;
            } else if let Some(at) = CLOSABLE.iter().position(|block| *block as usize == n).filter(|at| closed[*at]) {
                opened.passed.get_or_insert_default().add(std::mem::take(&mut head.totals[at]));
            } else if n == Block::Objects as usize {
                decompress(decompressor, block, length, MAX_PAYLOAD, raw_objects)?;
                objects_there = Some(objects.begin(raw_objects).filter(|objects| objects.left() == counts[n])?);
            } else {
                decompress(decompressor, block, length, MAX_PAYLOAD, raw)?;
                parts[n] = Some(decoder.decode(raw).filter(|part| part.events.len() == counts[n])?);
            }
        }
        let objects = objects_there.map(|objects| {
            part.clear();
            Parts { objects, part, used: 0 }
        });
        opened.batch = merged(&head, parts, objects, decoder)?;
        Some(opened)
    }
}

/// Objects decoded at a time, so that they are in the CPU's cache still when they are put among the others.
const PART: usize = 1024;

/// The objects of a frame, of which a part is decoded.
struct Parts<'a> {
    objects: Objects<'a>,
    part: &'a mut Vec<Event>,
    used: usize,
}

impl Parts<'_> {
    fn next(&mut self) -> Option<Event> {
        if self.used == self.part.len() {
            self.part.clear();
            self.used = 0;
            self.objects.decode(PART, self.part)?;
        }
        let event = *self.part.get(self.used)?;
        self.used += 1;
        Some(event)
    }
}

/// The events of these blocks in their order.
fn merged(
    head: &Head<'_>,
    mut parts: [Option<Batch>; BLOCKS],
    objects: Option<Parts<'_>>,
    decoder: &mut Decoder,
) -> Option<Batch> {
    let tick_ns = objects.as_ref().map_or(1, |objects| 1 << objects.objects.tick_shift());
    if objects.is_some() && tick_ns != head.tick_ns {
        return None;
    }
    let mut there = parts.iter_mut().filter(|part| part.is_some());
    match (there.next(), there.next(), objects) {
        (only, None, None) => Some(only.and_then(Option::take).unwrap_or_default()),
        (None, _, Some(mut objects)) => {
            let mut batch = decoder.empty();
            let count = objects.objects.left();
            batch.events.reserve_exact(count);
            objects.objects.decode(count, &mut batch.events)?;
            Some(batch)
        }
        (_, _, objects) => all_merged(head, parts, objects, tick_ns, decoder),
    }
}

/// The same of more than one block.
fn all_merged(
    head: &Head<'_>,
    parts: [Option<Batch>; BLOCKS],
    mut objects: Option<Parts<'_>>,
    tick_ns: u64,
    decoder: &mut Decoder,
) -> Option<Batch> {
    let count: usize = parts.iter().flatten().map(|part| part.events.len()).sum();
    let count = count + objects.as_ref().map_or(0, |objects| objects.objects.left());
    let segments: usize = parts.iter().flatten().map(|part| part.segments.len()).sum();
    if segments > MAX_SEGMENTS {
        return None;
    }
    let mut batch = decoder.empty();
    batch.events.reserve_exact(count);
    batch.segments.reserve_exact(segments);
    let mut used = [0; BLOCKS];
    for n in 0..head.events {
        let block = head.block(n);
        if block == Block::Objects as usize {
            let Some(objects) = &mut objects else { continue };
            let mut event = objects.next()?;
            // Its time was rounded down, and may have come before that of the event in front.
            if let Some(before) = batch.events.last()
                && before.time_ns > event.time_ns
                && before.time_ns - event.time_ns < tick_ns
            {
                event.time_ns = before.time_ns;
            }
            batch.events.push(event);
            continue;
        }
        let Some(part) = &parts[block] else { continue };
        let mut event = part.events[used[block]];
        used[block] += 1;
        if let What::MapSg { first_segment, .. } = &mut event.what {
            let segments = part.segments(&part.events[used[block] - 1]);
            *first_segment = batch.segments.len() as u32;
            batch.segments.extend_from_slice(segments);
        }
        batch.events.push(event);
    }
    parts.into_iter().flatten().for_each(|part| decoder.take_back(part));
    Some(batch)
}

/// Decompresses in one pass into memory of the length that is told.
fn decompress(
    decompressor: &mut Decompressor<'_>,
    stored: &[u8],
    length: usize,
    most: usize,
    into: &mut Vec<u8>,
) -> Option<()> {
    if length > most {
        return None;
    }
    into.clear();
    into.reserve_exact(length);
    decompressor.decompress_to_buffer(stored, into).ok()?;
    (into.len() == length).then_some(())
}
