//! Frames: marker, type, lengths, checksum, compressed payload; and the file's header.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

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

/// No JSON object is larger, decompressed. Of what is left out every member has its default: three bytes of an array make a whole
/// object in memory, some fifty times as large.
const MAX_OBJECT: usize = 1 << 20;
/// No device's description is larger: a capture may have thousands of them.
const MAX_DEVICE: usize = 2 << 10;

/// Blocks in a frame of events.
pub(super) const BLOCKS: usize = 5;
/// In front of the head of such a frame: the head's length as stored, then of each block its lengths and its checksum.
pub(super) const TABLE: usize = 4 + 12 * BLOCKS;
/// No such head is longer, decompressed.
pub(super) const MAX_HEAD: usize = 4 << 20;

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
    Slab = 9,
    PoolTimes = 10,
    Lengths = 11,
    /// Events in blocks, of which some may stay closed.
    Blocks = 12,
    /// Coherent memory out of restricted pools.
    Coherent = 13,
}

impl Type {
    pub(super) fn from_raw(raw: u8) -> Option<Self> {
        const ALL: [Type; 13] = [
            Type::Start,
            Type::Device,
            Type::Events,
            Type::Pool,
            Type::Sites,
            Type::Symbols,
            Type::Counters,
            Type::End,
            Type::Slab,
            Type::PoolTimes,
            Type::Lengths,
            Type::Blocks,
            Type::Coherent,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == raw)
    }

    /// Longest payload of this type, decompressed, bytes. What stands in lists takes about as much in memory as in the file.
    pub(super) fn longest(self) -> usize {
        match self {
            Self::Events | Self::Sites | Self::Symbols | Self::Lengths | Self::Coherent => MAX_PAYLOAD,
            Self::Blocks => MAX_HEAD,
            Self::Device => MAX_DEVICE,
            Self::Start | Self::Pool | Self::Counters | Self::End | Self::Slab | Self::PoolTimes => MAX_OBJECT,
        }
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
            Self::Slab => "slab",
            Self::PoolTimes => "pool times",
            Self::Lengths => "lengths",
            Self::Blocks => "blocks",
            Self::Coherent => "coherent memory",
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

/// The header of a file of this version.
pub(super) fn file_header(version: u32) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..].copy_from_slice(&file_checksum(version).to_le_bytes());
    header
}

/// The checksum in the header of a file of this version.
fn file_checksum(version: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&MAGIC), &version.to_le_bytes())
}

/// Checks the header of a file; whether it is intact.
///
/// Magic, version and checksum determine each other, so any two of them make up for a third that is damaged: one bad
/// byte must not take a whole recording with it.
pub(super) fn check_file_header(header: &[u8; FILE_HEADER]) -> Result<bool, ReadError> {
    let magic = header[..8] == MAGIC;
    let checksum = word(header, 12);
    let mut version = word(header, 8);
    let consistent = file_checksum(version) == checksum;
    match (magic, consistent) {
        (false, false) => return Err(ReadError::NotACapture),
        // Either the version is damaged, and the checksum tells which it was, or the checksum itself is.
        (true, false) => version = (1..=0xff).find(|&v| file_checksum(v) == checksum).unwrap_or(version),
        (_, true) => {}
    }
    match version {
        0 => Err(ReadError::NotACapture),
        1..=VERSION => Ok(magic && consistent),
        found => Err(ReadError::TooNew { found }),
    }
}

/// Puts a whole frame into `frame`: header, and the payload compressed.
pub(super) fn encode(
    compressor: &mut Compressor<'_>,
    kind: Type,
    sequence: u32,
    payload: &[u8],
    frame: &mut Vec<u8>,
) -> io::Result<()> {
    frame.clear();
    frame.resize(FRAME_HEADER + zstd::zstd_safe::compress_bound(payload.len()), 0);
    let stored = compressor.compress_to_buffer(payload, &mut frame[FRAME_HEADER..])?;
    frame.truncate(FRAME_HEADER + stored);
    finish(kind, sequence, payload.len(), frame);
    Ok(())
}

/// Puts a header into the room in front of a payload, of so many bytes decompressed.
pub(super) fn finish(kind: Type, sequence: u32, raw: usize, frame: &mut [u8]) {
    let stored = frame.len() - FRAME_HEADER;
    frame[..4].copy_from_slice(&MARKER);
    frame[4] = kind as u8;
    frame[8..12].copy_from_slice(&sequence.to_le_bytes());
    frame[12..16].copy_from_slice(&(stored as u32).to_le_bytes());
    frame[16..20].copy_from_slice(&(raw as u32).to_le_bytes());
    let checksum = checksum(frame);
    frame[20..FRAME_HEADER].copy_from_slice(&checksum.to_le_bytes());
}

/// The checksum of a whole frame: over everything but the checksum's own place, and blocks, which have their own.
pub(super) fn checksum(frame: &[u8]) -> u32 {
    let mut payload = &frame[FRAME_HEADER..];
    if frame[4] == Type::Blocks as u8 {
        payload = &payload[..head_len(payload).unwrap_or(payload.len())];
    }
    crc32c::crc32c_append(crc32c::crc32c(&frame[..FRAME_HEADER - 4]), payload)
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
        checksum(frame) == self.checksum
    }

    /// Decompresses the payload of an intact frame into `payload`; `None` when it is not of the length that the header
    /// says. In one pass into memory of that length: a streaming decoder would allocate whatever window the payload
    /// asks for.
    pub(super) fn payload(
        &self,
        decompressor: &mut Decompressor<'_>,
        frame: &[u8],
        payload: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw as usize;
        payload.clear();
        payload.reserve_exact(raw);
        decompressor.decompress_to_buffer(&frame[FRAME_HEADER..], payload).ok()?;
        (payload.len() == raw).then_some(())
    }
}

/// The bytes of a payload of blocks that the frame's checksum is over: all in front of the blocks. `None` where there are not so many.
pub(super) fn head_len(payload: &[u8]) -> Option<usize> {
    payload.get(..TABLE)?;
    let head = TABLE.checked_add(word(payload, 0) as usize)?;
    (head <= payload.len()).then_some(head)
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
