//! Packets that are compressed, as packets that are not.

use std::io::{self, Read, Seek, Write};

use flate2::read::ZlibDecoder;

use super::index::{PACKET, packet};
use super::walk::{Found, Walk, cut_off};
use crate::protobuf::{Fields, Message};

/// So many bytes may come out of one `compressed_packets`, and be in it: the proto promises less than 512 KiB each.
const MOST: u64 = 16 << 20;

/// Writes a trace as one without compressed packets, and stops behind `most` bytes. The notes on what cannot be read, a line each;
/// `None` for a trace in which nothing is compressed, of which nothing is written.
///
/// # Errors
///
/// When the file cannot be read, or the other not be written.
pub fn unpack(file: impl Read + Seek, mut to: impl Write, most: u64) -> io::Result<Option<Vec<String>>> {
    let mut walk = Walk::new(file)?;
    let len = walk.len();
    if !any_is_compressed(&mut walk)? {
        return Ok(None);
    }
    walk.go(0)?;
    let (mut broken, mut written) = (0_u64, 0);
    while written <= most
        && let Some((field, found)) = walk.field(len)?
    {
        if let (PACKET, Found::Bytes { end }) = (field, found) {
            let begin = walk.at();
            let mut is_compressed = false;
            while let Some((field, found)) = walk.field(end)? {
                if let (packet::COMPRESSED | packet::ZSTD_COMPRESSED, Found::Bytes { end }) = (field, found) {
                    is_compressed = true;
                    let inside = if end - walk.at() > MOST { None } else { inflated(field, &walk.bytes(end)?) };
                    let packets = inside.as_deref().map(packets);
                    broken += u64::from(!packets.as_ref().is_some_and(|(_, is_whole)| *is_whole));
                    let (packets, _) = packets.unwrap_or_default();
                    to.write_all(&packets)?;
                    written += packets.len() as u64;
                }
                walk.pass(found)?;
            }
            if !is_compressed {
                walk.go(begin)?;
                to.write_all(&Message::head(PACKET, end - begin))?;
                walk.copy(end, &mut to)?;
                written += end - begin;
            }
        }
        walk.pass(found)?;
    }
    to.flush()?;
    let mut notes = Vec::new();
    let left = len - walk.at();
    if written <= most && left > 0 {
        notes.push(cut_off(left));
    }
    if broken > 0 {
        notes.push(format!("{broken} compressed packets can't be inflated, and what they held is missing"));
    }
    Ok(Some(notes))
}

/// Whether a packet is compressed.
fn any_is_compressed<R: Read + Seek>(walk: &mut Walk<R>) -> io::Result<bool> {
    while let Some((field, found)) = walk.field(walk.len())? {
        if let (PACKET, Found::Bytes { end }) = (field, found) {
            while let Some((field, found)) = walk.field(end)? {
                if matches!((field, found), (packet::COMPRESSED | packet::ZSTD_COMPRESSED, Found::Bytes { .. })) {
                    return Ok(true);
                }
                walk.pass(found)?;
            }
        }
        walk.pass(found)?;
    }
    Ok(false)
}

/// The whole packets of a message, and whether it has nothing else behind them.
fn packets(inflated: &[u8]) -> (Vec<u8>, bool) {
    let mut packets = Vec::new();
    let mut fields = Fields::of(inflated);
    for (_, value) in fields.by_ref().filter(|(field, _)| *field == PACKET) {
        packets.extend(Message::head(PACKET, value.bytes().len() as u64));
        packets.extend_from_slice(value.bytes());
    }
    (packets, fields.left() == 0)
}

fn inflated(field: u32, bytes: &[u8]) -> Option<Vec<u8>> {
    if field == packet::COMPRESSED {
        return limited(ZlibDecoder::new(bytes));
    }
    let mut decoder = zstd::Decoder::new(bytes).ok()?;
    decoder.window_log_max(MOST.ilog2()).ok()?;
    limited(decoder)
}

fn limited(from: impl Read) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let read = from.take(MOST).read_to_end(&mut inflated).ok()?;
    ((read as u64) < MOST).then_some(inflated)
}
