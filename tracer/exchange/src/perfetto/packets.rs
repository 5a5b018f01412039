//! Packets of a trace, those that are compressed too.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::super::protobuf::Fields;

/// `Trace.packet`.
pub(super) const PACKET: u32 = 1;

/// So many bytes may come out of one `compressed_packets`: the proto promises less than 512 KiB each.
const MOST: u64 = 64 << 20;

/// Fields of `TracePacket`.
pub(super) mod packet {
    pub(in super::super) const FTRACE_EVENTS: u32 = 1;
    pub(in super::super) const SEQUENCE_ID: u32 = 10;
    pub(in super::super) const FTRACE_STATS: u32 = 34;
    pub(in super::super) const TRACE_STATS: u32 = 35;
    pub(in super::super) const PREVIOUS_DROPPED: u32 = 42;
    pub(in super::super) const COMPRESSED: u32 = 50;
    pub(in super::super) const ZSTD_COMPRESSED: u32 = 133;
}

/// The packets of a trace, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Packets<'a> {
    all: Vec<Cow<'a, [u8]>>,
    /// Bytes at the end that are no whole packet.
    left: usize,
    /// Compressed packets that can't be inflated.
    broken: u64,
}

impl<'a> Packets<'a> {
    /// Takes in the packets of a whole trace.
    pub(super) fn read(&mut self, trace: &'a [u8]) {
        let mut fields = Fields::of(trace);
        for (field, value) in fields.by_ref() {
            if field != PACKET {
                continue;
            }
            let packet = value.bytes();
            let mut is_compressed = false;
            for (field, value) in Fields::of(packet) {
                let inflated = match field {
                    packet::COMPRESSED => inflate(value.bytes()),
                    packet::ZSTD_COMPRESSED => zstd::Decoder::new(value.bytes()).ok().and_then(limited),
                    _ => continue,
                };
                is_compressed = true;
                match inflated {
                    Some(inside) => self.inside(&inside),
                    None => self.broken += 1,
                }
            }
            if !is_compressed {
                self.all.push(Cow::Borrowed(packet));
            }
        }
        self.left = fields.left();
    }

    fn inside(&mut self, inflated: &[u8]) {
        let mut fields = Fields::of(inflated);
        let packets = fields.by_ref().filter(|(field, _)| *field == PACKET);
        self.all.extend(packets.map(|(_, value)| Cow::Owned(value.bytes().to_vec())));
        self.broken += u64::from(fields.left() > 0);
    }

    /// Every packet.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().map(|packet| &**packet)
    }

    /// Contents of one kind.
    pub(super) fn of(&self, kind: u32) -> impl Iterator<Item = &[u8]> {
        let contents = move |packet| Fields::of(packet).filter(move |(field, _)| *field == kind);
        self.iter().flat_map(contents).map(|(_, value)| value.bytes())
    }

    /// What is not whole.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.left > 0 {
            notes.push(format!("the trace is cut off: its last {} bytes are no whole packet", self.left));
        }
        if self.broken > 0 {
            notes.push(format!("{} compressed packets can't be inflated, and what they held is missing", self.broken));
        }
        notes
    }
}

fn inflate(bytes: &[u8]) -> Option<Vec<u8>> {
    limited(ZlibDecoder::new(bytes))
}

fn limited(from: impl Read) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let read = from.take(MOST).read_to_end(&mut inflated).ok()?;
    ((read as u64) < MOST).then_some(inflated)
}
