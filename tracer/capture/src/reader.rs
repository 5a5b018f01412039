//! Frames into items, from bytes that may be cut or damaged anywhere.

use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::Path,
};

use serde::de::DeserializeOwned;
use zstd::bulk::Decompressor;

use super::{
    ReadError,
    blocks::{self, BlocksDecoder, Opened},
    coherent, events,
    frame::{self, FILE_HEADER, FRAME_HEADER, Header, MARKER, Type},
};
use crate::event::{Batch, What};
use crate::passed::{Needs, Passed};
use crate::stream::{Gaps, Item, Source};

/// How much is asked of the file at once.
const CHUNK: usize = 256 << 10;

/// Bytes checksummed in vain that are allowed beyond [`IN_VAIN_PER_BYTE`].
const IN_VAIN: u64 = 64 << 20;
/// Bytes that may be checksummed in vain for each byte of the file. Damage costs about one; a file made of headers that
/// each announce the largest payload would otherwise cost the square of its length.
const IN_VAIN_PER_BYTE: u64 = 8;

/// A place between two frames of a capture, to which another reader of it can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the beginning of the file.
    offset: u64,
    /// The number that the next frame should have.
    sequence: u32,
}

/// Reads a capture. Memory is bounded by the largest frame that the format allows.
#[expect(clippy::struct_excessive_bools, reason = "each is so or not, whatever the others are")]
pub struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` already used.
    used: usize,
    at_end: bool,
    /// The number that the next frame should have.
    sequence: u32,
    /// In search of the next intact frame.
    lost: bool,
    /// Where in the file reading began, behind its header or at a [`Place`].
    start: u64,
    /// Bytes taken from the input.
    taken: u64,
    /// Bytes checksummed of frames that were not intact.
    in_vain: u64,
    decompressor: Decompressor<'static>,
    decoder: events::Decoder,
    blocks: BlocksDecoder,
    needs: Needs,
    /// Objects came: each buffer may lie in one of them.
    has_objects: bool,
    /// What comes after the events that were given.
    passed: Option<Passed>,
    /// The payload being decoded; kept for its memory.
    payload: Vec<u8>,
    gaps: Gaps,
    ended: bool,
    /// Frames of events are passed over.
    skims: bool,
}

impl Reader<BufReader<File>> {
    /// Opens a capture file. Errors name it.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let open = |source| ReadError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        if file.metadata().map_err(open)?.is_dir() {
            return Err(open(ErrorKind::IsADirectory.into()));
        }
        Self::new(BufReader::new(file))
            .map_err(|source| ReadError::In { path: path.to_owned(), source: Box::new(source) })
    }
}

/// Of a capture's end so much is read to see whether it has one, bytes.
const TAIL: u64 = 1 << 20;

/// Whether the last frame of a capture is its end.
pub(super) fn ends_well(path: &Path) -> Result<bool, ReadError> {
    // Opening a FIFO would wait.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(false);
    }
    let mut file = File::open(path)?;
    let mut header = [0; FILE_HEADER];
    file.read_exact(&mut header)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL).max(FILE_HEADER as u64)))?;
    let mut reader = Reader::new((&header[..]).chain(file.take(TAIL)))?;
    reader.skims = true;
    while reader.next_item()?.is_some() {}
    Ok(!reader.gaps().no_end)
}

impl<R: Read> Reader<R> {
    /// Reads a capture from its beginning.
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let mut header = Vec::with_capacity(FILE_HEADER);
        input.by_ref().take(FILE_HEADER as u64).read_to_end(&mut header)?;
        if header.is_empty() {
            return Err(ReadError::Empty);
        }
        let header: [u8; FILE_HEADER] = header.try_into().map_err(|_| ReadError::NotACapture)?;
        let mut gaps = Gaps { no_end: true, ..Gaps::default() };
        if !frame::check_file_header(&header)? {
            gaps.damaged_frames += 1;
            gaps.skipped_bytes += FILE_HEADER as u64;
        }
        Ok(Self {
            input,
            buffer: Vec::new(),
            used: 0,
            at_end: false,
            sequence: 0,
            lost: false,
            start: FILE_HEADER as u64,
            taken: 0,
            in_vain: 0,
            decompressor: Decompressor::new()?,
            decoder: events::Decoder::default(),
            blocks: BlocksDecoder::default(),
            needs: Needs::default(),
            has_objects: false,
            passed: None,
            payload: Vec::new(),
            gaps,
            ended: false,
            skims: false,
        })
    }

    /// Where the next frame begins, or is searched for.
    pub fn place(&self) -> Place {
        let unused = (self.buffer.len() - self.used) as u64;
        Place { offset: self.start + self.taken - unused, sequence: self.sequence }
    }

    /// Makes `length` unused bytes available if the input has them; whether it has.
    fn fill(&mut self, length: usize) -> Result<bool, ReadError> {
        while self.buffer.len() - self.used < length && !self.at_end {
            self.buffer.drain(..self.used);
            self.used = 0;
            let before = self.buffer.len();
            let wanted = CHUNK.max(length - before) as u64;
            let read = self.input.by_ref().take(wanted).read_to_end(&mut self.buffer);
            let got = self.buffer.len() - before;
            self.taken += got as u64;
            // What came before an error is good; who needs more meets the error again.
            if self.buffer.len() < length {
                read?;
            }
            self.at_end = got == 0;
        }
        Ok(self.buffer.len() - self.used >= length)
    }

    /// The next intact frame of a known type, decoded.
    fn next_frame(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            if !self.fill(FRAME_HEADER)? {
                return Ok(self.finish());
            }
            let header = Header::parse(&self.buffer[self.used..]);
            let Some(header) = header else {
                self.resynchronise();
                continue;
            };
            if !self.fill(header.frame_len())? {
                // Cut here, or a damaged length: behind it there may still be intact frames.
                if self.marker_after(self.used + 1).is_some() {
                    self.resynchronise();
                    continue;
                }
                return Ok(self.finish());
            }
            let frame = &self.buffer[self.used..self.used + header.frame_len()];
            let worth_it = self.in_vain <= IN_VAIN + IN_VAIN_PER_BYTE * self.taken;
            if !worth_it || !header.is_intact(frame) {
                self.in_vain += if worth_it { frame.len() as u64 } else { 0 };
                self.resynchronise();
                continue;
            }
            if self.skims && [Type::Events as u8, Type::Blocks as u8].contains(&header.kind) {
                self.used += header.frame_len();
                self.check_sequence(header.sequence);
                continue;
            }
            if header.kind == Type::Blocks as u8 && header.raw as usize <= Type::Blocks.longest() {
                if let Some(item) = self.blocks(&header) {
                    return Ok(Some(item));
                }
                continue;
            }
            let item = decode(&header, frame, &mut self.decompressor, &mut self.payload, &mut self.decoder);
            self.used += header.frame_len();
            self.check_sequence(header.sequence);
            if let Ok(Item::Events(batch)) = &item {
                // Whatever is needed so far: somebody may ask for less later.
                self.has_objects = self.has_objects || has_objects(batch);
            }
            match item {
                Ok(item) => return Ok(Some(item)),
                Err(PassedOver::Unknown) => self.gaps.unknown_frames += 1,
                Err(PassedOver::Nonsense) => {
                    self.gaps.damaged_frames += 1;
                    self.gaps.skipped_bytes += header.frame_len() as u64;
                }
            }
        }
    }

    /// The events of a frame of blocks whose head is intact; `None` where nothing comes of it.
    fn blocks(&mut self, header: &Header) -> Option<Item> {
        let length = header.frame_len();
        let damaged = blocks::damaged(&self.buffer[self.used + FRAME_HEADER..self.used + length]);
        if damaged.contains(&true) && !self.goes_on_behind(length) {
            // Bytes are missing, so this is not where the frame ends. Nothing was decompressed to learn that.
            self.in_vain += length as u64;
            self.resynchronise();
            return None;
        }
        let needs = if self.has_objects { Needs::Everything } else { self.needs };
        let Self { buffer, blocks, decompressor, decoder, .. } = self;
        let payload = &buffer[self.used + FRAME_HEADER..self.used + length];
        let opened = blocks.decode(payload, damaged, header.raw as usize, needs, decompressor, decoder);
        self.used += length;
        self.check_sequence(header.sequence);
        let Some(Opened { batch, passed, damaged: (blocks, bytes), has_objects }) = opened else {
            self.gaps.damaged_frames += 1;
            self.gaps.skipped_bytes += length as u64;
            return None;
        };
        self.gaps.damaged_frames += blocks;
        self.gaps.skipped_bytes += bytes;
        self.has_objects |= has_objects;
        self.passed = passed;
        if batch.events.is_empty() { self.passed.take().map(Item::Passed) } else { Some(Item::Events(batch)) }
    }

    /// Whether a frame begins so far ahead, or nothing more comes.
    fn goes_on_behind(&mut self, length: usize) -> bool {
        let there = self.fill(length + MARKER.len()).unwrap_or(false);
        let rest = &self.buffer[self.used + length..];
        if there { rest[..MARKER.len()] == MARKER } else { rest.is_empty() }
    }

    /// Counts frames that are missing although nothing that is there is damaged.
    fn check_sequence(&mut self, found: u32) {
        if found != self.sequence && !self.lost {
            self.gaps.damaged_frames += 1;
        }
        self.lost = false;
        self.sequence = found.wrapping_add(1);
    }

    /// Passes over one byte at least, up to the next marker in sight.
    fn resynchronise(&mut self) {
        if !self.lost {
            self.lost = true;
            self.gaps.damaged_frames += 1;
        }
        // A marker may straddle the end of what has been read so far.
        let next = self.marker_after(self.used + 1).unwrap_or(self.buffer.len().saturating_sub(MARKER.len() - 1));
        let next = next.max(self.used + 1);
        self.gaps.skipped_bytes += (next - self.used) as u64;
        self.used = next;
    }

    fn marker_after(&self, from: usize) -> Option<usize> {
        let bytes = self.buffer.get(from..)?;
        bytes.windows(MARKER.len()).position(|window| window == MARKER).map(|at| from + at)
    }

    /// The input is used up, but for an incomplete frame.
    fn finish(&mut self) -> Option<Item> {
        let rest = (self.buffer.len() - self.used) as u64;
        if self.lost {
            self.gaps.skipped_bytes += rest;
        } else {
            self.gaps.cut_bytes += rest;
        }
        self.used = self.buffer.len();
        self.ended = true;
        None
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the same capture from a place on that another reader has told. What lies before it is neither read nor missed.
    pub fn at(input: R, place: Place) -> Result<Self, ReadError> {
        let mut reader = Self::new(input)?;
        reader.input.seek(SeekFrom::Start(place.offset))?;
        (reader.start, reader.sequence) = (place.offset, place.sequence);
        Ok(reader)
    }
}

impl<R: Read> Source for Reader<R> {
    type Error = ReadError;

    fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        if let Some(passed) = self.passed.take() {
            return Ok(Some(Item::Passed(passed)));
        }
        let item = self.next_frame()?;
        if matches!(item, Some(Item::End(_))) {
            self.gaps.no_end = false;
        }
        Ok(item)
    }

    fn leave_out(&mut self, needs: Needs) {
        self.needs = needs;
    }

    fn take_back(&mut self, used: Batch) {
        self.decoder.take_back(used);
    }

    fn gaps(&self) -> Gaps {
        // Until everything has been read, nobody can say that the end is missing.
        Gaps { no_end: self.gaps.no_end && self.ended, ..self.gaps.clone() }
    }

    fn bytes_read(&self) -> u64 {
        self.start + self.taken
    }
}

/// Why an intact frame is no item.
enum PassedOver {
    /// A type of frame that a later version wrote.
    Unknown,
    /// Not what its type says: no writer of ours.
    Nonsense,
}

fn decode(
    header: &Header,
    frame: &[u8],
    decompressor: &mut Decompressor<'_>,
    payload: &mut Vec<u8>,
    decoder: &mut events::Decoder,
) -> Result<Item, PassedOver> {
    let Some(kind) = Type::from_raw(header.kind) else { return Err(PassedOver::Unknown) };
    if header.raw as usize > kind.longest() {
        return Err(PassedOver::Nonsense);
    }
    let item = header.payload(decompressor, frame, payload).and_then(|()| match kind {
        Type::Start => json(payload).map(Item::Start),
        Type::Device => json(payload).map(Item::Device),
        Type::Events => decoder.decode(payload).map(Item::Events),
        Type::Pool => json(payload).map(Item::Pool),
        Type::Sites => json(payload).map(Item::Sites),
        Type::Symbols => json(payload).map(Item::Symbols),
        Type::Counters => json(payload).map(Item::Counters),
        Type::End => json(payload).map(Item::End),
        Type::Slab => json(payload).map(Item::Slab),
        Type::PoolTimes => json(payload).map(Item::PoolTimes),
        Type::Lengths => json(payload).map(Item::Lengths),
        Type::Coherent => json(payload).map(coherent::batch).map(Item::Events),
        // The reader itself reads these.
        Type::Blocks => None,
    });
    item.ok_or(PassedOver::Nonsense)
}

fn has_objects(batch: &Batch) -> bool {
    batch.events.iter().any(|event| matches!(event.what, What::Kmalloc { .. } | What::Kfree { .. }))
}

fn json<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Writer;

    #[test]
    fn a_reader_that_goes_to_a_place_reads_what_follows_and_misses_nothing() {
        let file = include_bytes!("../../../captures/7.3-direct-hold-300.bounce");
        let mut reader = Reader::new(&file[..]).unwrap();
        let mut places = Vec::new();
        let mut items = Vec::new();
        loop {
            places.push(reader.place());
            let Some(item) = reader.next_item().unwrap() else { break };
            items.push(item);
        }
        for n in [0, items.len() / 2, items.len() - 1] {
            let mut there = Reader::at(std::io::Cursor::new(&file[..]), places[n]).unwrap();
            for item in &items[n..] {
                assert_eq!(there.next_item().unwrap().as_ref(), Some(item));
            }
            assert_eq!(there.next_item().unwrap(), None);
            assert!(there.gaps().is_empty(), "{:?}", there.gaps());
        }
    }

    #[test]
    fn headers_that_all_announce_the_largest_payload_cost_no_more_than_the_files_length_allows() {
        let mut file = Writer::new(Vec::new()).unwrap().into_inner().unwrap();
        let mut header = [0_u8; FRAME_HEADER];
        header[..4].copy_from_slice(&MARKER);
        header[12..16].copy_from_slice(&(4_u32 << 20).to_le_bytes());
        // Checked one by one, these would be 20 GB.
        file.extend(header.repeat(5_000));
        file.resize(file.len() + (4 << 20), 0);
        let mut reader = Reader::new(&file[..]).unwrap();
        assert!(reader.next_item().unwrap().is_none());
        // In figures, not in the reader's own constants: a limit that grows is to fail here.
        assert!(reader.in_vain > 64 << 20, "the limit was not reached");
        assert!(reader.in_vain <= (64 << 20) + 9 * file.len() as u64, "{} bytes were checksummed", reader.in_vain);
        assert_eq!(reader.gaps().skipped_bytes, (file.len() - FILE_HEADER) as u64);
    }
}
