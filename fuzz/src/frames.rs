//! Capture files whose checksums hold, around payloads that are the fuzzer's: a checksum would keep it from everything
//! behind it. The layout is that of `docs/capture-format.md`, written once more from the page.

/// Magic, version 2, checksum of both.
const FILE_HEADER: [u8; 16] = *b"\x89BNC\r\n\x1a\n\x02\0\0\0\x5f\xd3\x9c\xc3";
/// The type of frames whose payload is a head and blocks.
const BLOCKS: u8 = 12;
/// Parts of such a payload: the head, and each block.
const PARTS: usize = 6;
/// Bytes before each payload in the fuzzer's input: the type, and the payload's length.
const PREFIX: usize = 3;

/// The payloads in a fuzzer's input, each with its type: a byte of type, two of length, the payload. The last may be shorter
/// than it says.
pub fn payloads(mut input: &[u8]) -> Vec<(u8, &[u8])> {
    let mut payloads = Vec::new();
    while let Some((&[kind, low, high], rest)) = input.split_first_chunk::<PREFIX>() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (payload, behind) = rest.split_at(length);
        payloads.push((kind, payload));
        input = behind;
    }
    payloads
}

/// The capture file of a fuzzer's input.
pub fn file(input: &[u8]) -> Vec<u8> {
    let mut file = FILE_HEADER.to_vec();
    for (sequence, (kind, payload)) in payloads(input).into_iter().enumerate() {
        file.extend(frame(kind, sequence as u32, payload));
    }
    file
}

/// Level 1 is zstd's fastest that has no options of its own.
fn compress(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, 1).expect("memory compresses")
}

/// The parts of a fuzzer's payload of blocks: each two bytes of length, and as many others. The last may be shorter than they say, or missing.
fn parts(mut payload: &[u8]) -> [&[u8]; PARTS] {
    std::array::from_fn(|_| {
        let Some((&[low, high], rest)) = payload.split_first_chunk::<2>() else { return &[][..] };
        let (part, behind) = rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()));
        payload = behind;
        part
    })
}

/// A frame of blocks, of the fuzzer's head and blocks.
fn in_blocks(sequence: u32, payload: &[u8]) -> Vec<u8> {
    let [head, blocks @ ..] = parts(payload);
    let stored_head = compress(head);
    let mut front = (stored_head.len() as u32).to_le_bytes().to_vec();
    let mut behind = Vec::new();
    for block in blocks {
        let stored = if block.is_empty() { Vec::new() } else { compress(block) };
        for word in [stored.len() as u32, block.len() as u32, crc32c::crc32c(&stored)] {
            front.extend(word.to_le_bytes());
        }
        behind.extend(stored);
    }
    front.extend(stored_head);
    let length = (front.len() + behind.len()) as u32;
    [with_header(BLOCKS, sequence, length, head.len() as u32, &front), behind].concat()
}

/// A frame, or what of it is checksummed.
fn with_header(kind: u8, sequence: u32, stored: u32, raw: u32, checked: &[u8]) -> Vec<u8> {
    let mut frame = b"\xf5FRM".to_vec();
    frame.extend([kind, 0, 0, 0]);
    for word in [sequence, stored, raw] {
        frame.extend(word.to_le_bytes());
    }
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), checked);
    frame.extend(checksum.to_le_bytes());
    frame.extend(checked);
    frame
}

/// One frame.
pub fn frame(kind: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    if kind == BLOCKS {
        return in_blocks(sequence, payload);
    }
    let stored = compress(payload);
    with_header(kind, sequence, stored.len() as u32, payload.len() as u32, &stored)
}

/// The payload of a frame as a fuzzer's.
fn unpacked(kind: u8, stored: &[u8], raw: usize) -> Vec<u8> {
    let unpack = |stored: &[u8], raw| zstd::bulk::decompress(stored, raw).expect("the file is whole");
    if kind != BLOCKS {
        return unpack(stored, raw);
    }
    let word = |at: usize| u32::from_le_bytes(stored[at..at + 4].try_into().expect("four bytes")) as usize;
    let mut at = 4 + 12 * (PARTS - 1);
    let mut payload = Vec::new();
    let blocks = (0..PARTS - 1).map(|n| (word(4 + 12 * n), word(8 + 12 * n)));
    for (length, raw) in std::iter::once((word(0), raw)).chain(blocks) {
        let part = if length == 0 { Vec::new() } else { unpack(&stored[at..at + length], raw) };
        payload.extend((part.len() as u16).to_le_bytes());
        payload.extend(part);
        at += length;
    }
    payload
}

/// The other way: a capture file as a fuzzer's input, for seeds. Frames beyond 64 KiB are left out.
pub fn input(mut file: &[u8]) -> Vec<u8> {
    let mut input = Vec::new();
    file = file.get(FILE_HEADER.len()..).unwrap_or_default();
    while let Some((header, rest)) = file.split_first_chunk::<24>() {
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let Some((stored, behind)) = rest.split_at_checked(word(12)) else { break };
        let payload = unpacked(header[4], stored, word(16));
        if let Ok(length) = u16::try_from(payload.len()) {
            input.push(header[4]);
            input.extend(length.to_le_bytes());
            input.extend(payload);
        }
        file = behind;
    }
    input
}
