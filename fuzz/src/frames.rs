//! Capture files whose checksums hold, around payloads that are the fuzzer's: a checksum would keep it from everything
//! behind it. The layout is that of `docs/capture-format.md`, written once more from the page.

/// Magic, version 1, checksum of both.
const FILE_HEADER: [u8; 16] = *b"\x89BNC\r\n\x1a\n\x01\0\0\0\x66\x5a\xbe\xa1";
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

/// One frame.
pub fn frame(kind: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    // Level 1 is zstd's fastest that has no options of its own.
    let stored = zstd::bulk::compress(payload, 1).expect("memory compresses");
    let mut frame = b"\xf5FRM".to_vec();
    frame.extend([kind, 0, 0, 0]);
    frame.extend(sequence.to_le_bytes());
    frame.extend((stored.len() as u32).to_le_bytes());
    frame.extend((payload.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), &stored);
    frame.extend(checksum.to_le_bytes());
    frame.extend(stored);
    frame
}

/// The other way: a capture file as a fuzzer's input, for seeds. Frames beyond 64 KiB are left out.
pub fn input(mut file: &[u8]) -> Vec<u8> {
    let mut input = Vec::new();
    file = file.get(FILE_HEADER.len()..).unwrap_or_default();
    while let Some((header, rest)) = file.split_first_chunk::<24>() {
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let Some((stored, behind)) = rest.split_at_checked(word(12)) else { break };
        let payload = zstd::bulk::decompress(stored, word(16)).expect("the file is whole");
        if let Ok(length) = u16::try_from(payload.len()) {
            input.push(header[4]);
            input.extend(length.to_le_bytes());
            input.extend(payload);
        }
        file = behind;
    }
    input
}
