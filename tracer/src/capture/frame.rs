//! Frames: marker, type, lengths, checksum, compressed payload; and the file's header.

use std::io::{self, Read};

use super::{ReadError, VERSION};

/// First bytes of a capture. The line ends and the high bit catch transfers that "translate" text.
const MAGIC: [u8; 8] = *b"\x89BNC\r\n\x1a\n";
/// Magic, version, checksum of both.
pub(super) const FILE_HEADER: usize = 16;
/// First bytes of a frame, by which a reader finds the next one behind damage.
pub(super) const MARKER: [u8; 4] = *b"\xf5FRM";
/// Marker, type, 3 reserved bytes, sequence number, two lengths, checksum.
pub(super) const FRAME_HEADER: usize = 24;
/// No payload is larger than this, compressed or not, so that no length in a file can make a reader run out of memory.
pub(super) const MAX_PAYLOAD: usize = 16 << 20;

/// What a frame contains. Values are never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Type {
    Start = 1,
    Device = 2,
    Events = 3,
    Pool = 4,
    Sites = 5,
    Symbols = 6,
    Counters = 7,
    End = 8,
}

impl Type {
    pub(super) fn from_raw(raw: u8) -> Option<Self> {
        const ALL: [Type; 8] = [
            Type::Start,
            Type::Device,
            Type::Events,
            Type::Pool,
            Type::Sites,
            Type::Symbols,
            Type::Counters,
            Type::End,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == raw)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Device => "device",
            Self::Events => "events",
            Self::Pool => "pool",
            Self::Sites => "sites",
            Self::Symbols => "symbols",
            Self::Counters => "counters",
            Self::End => "end",
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: u8,
    /// Counts the frames of a file from 0, so that a frame missing altogether shows.
    pub(super) sequence: u32,
    /// Length of the payload as it lies in the file, bytes.
    pub(super) stored: u32,
    /// Length of the payload decompressed, bytes.
    pub(super) raw: u32,
    checksum: u32,
}

/// The header of a file.
pub(super) fn file_header() -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Checks the header of a file.
pub(super) fn check_file_header(header: &[u8; FILE_HEADER]) -> Result<(), ReadError> {
    if header[..8] != MAGIC || crc32c::crc32c(&header[..12]) != word(header, 12) {
        return Err(ReadError::NotACapture);
    }
    match word(header, 8) {
        0..=VERSION => Ok(()),
        found => Err(ReadError::TooNew { found }),
    }
}

/// A whole frame: the payload compressed, header in front.
pub(super) fn encode(kind: Type, sequence: u32, payload: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let stored = zstd::bulk::compress(payload, level)?;
    let mut frame = Vec::with_capacity(FRAME_HEADER + stored.len());
    frame.extend_from_slice(&MARKER);
    frame.extend_from_slice(&[kind as u8, 0, 0, 0]);
    frame.extend_from_slice(&sequence.to_le_bytes());
    frame.extend_from_slice(&(stored.len() as u32).to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), &stored);
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame.extend_from_slice(&stored);
    Ok(frame)
}

impl Header {
    /// The header at the beginning of `bytes`; `None` when none is there, or an impossible one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER)?;
        if bytes[..4] != MARKER {
            return None;
        }
        let header = Self {
            kind: bytes[4],
            sequence: word(bytes, 8),
            stored: word(bytes, 12),
            raw: word(bytes, 16),
            checksum: word(bytes, 20),
        };
        let possible = header.stored as usize <= MAX_PAYLOAD && header.raw as usize <= MAX_PAYLOAD;
        possible.then_some(header)
    }

    /// Length of the whole frame, bytes.
    pub(super) fn frame_len(&self) -> usize {
        FRAME_HEADER + self.stored as usize
    }

    /// Whether `frame`, header and payload, is what was written.
    pub(super) fn is_intact(&self, frame: &[u8]) -> bool {
        let sum = crc32c::crc32c(&frame[..FRAME_HEADER - 4]);
        crc32c::crc32c_append(sum, &frame[FRAME_HEADER..]) == self.checksum
    }

    /// The payload of an intact frame decompressed; `None` when it is not of the length that the header says.
    pub(super) fn payload(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let raw = self.raw as usize;
        let mut payload = Vec::new();
        let decoder = zstd::stream::read::Decoder::with_buffer(&frame[FRAME_HEADER..]).ok()?;
        // One byte more than promised is enough to see that there is more; memory grows with what is really there.
        decoder.take(raw as u64 + 1).read_to_end(&mut payload).ok()?;
        (payload.len() == raw).then_some(payload)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
