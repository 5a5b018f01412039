//! What a trace may be packed in: gzip, xz, zstd, and the UTF-16 that Windows' shells write. All are read as they come, in bounded memory.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;

/// What decoding xz may take, KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 100 << 10;

/// The text of a reader, whatever it is packed in; plain text as it is.
///
/// # Errors
///
/// When the reader cannot be read, or begins as something packed and is not. Later damage is an error of the returned reader.
pub fn unpacked<'a>(packed: impl BufRead + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut packed = packed;
    let mut plain: Box<dyn BufRead + 'a> = match packed.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(Packed { from: MultiGzDecoder::new(packed), by: "gzip" })),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let from = lzma_rust2::XzReader::new_mem_limit(packed, true, XZ_MEMORY);
            Box::new(BufReader::new(Packed { from, by: "xz" }))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(BufReader::new(Packed { from: zstd::Decoder::with_buffer(packed)?, by: "zstd" }))
        }
        _ => Box::new(packed),
    };
    let order: Option<fn([u8; 2]) -> u16> = match plain.fill_buf()? {
        [0xff, 0xfe, ..] => Some(u16::from_le_bytes),
        [0xfe, 0xff, ..] => Some(u16::from_be_bytes),
        _ => None,
    };
    Ok(match order {
        Some(unit) => Box::new(BufReader::new(Utf16 { from: plain, unit, high: None, left: Vec::new() })),
        None => plain,
    })
}

/// What something is packed by, for its errors.
struct Packed<R> {
    from: R,
    /// The command that unpacks it.
    by: &'static str,
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let by = self.by;
            let why = format!(
                "it is cut off or damaged inside its {by} compression ({error}): {by} -dc FILE > TEXT keeps what comes before that"
            );
            io::Error::new(error.kind(), why)
        })
    }
}

/// UTF-16 as UTF-8, without its byte order mark.
struct Utf16<R> {
    from: R,
    unit: fn([u8; 2]) -> u16,
    /// The first half of a pair of surrogates.
    high: Option<u16>,
    /// Decoded and not yet read.
    left: Vec<u8>,
}

impl<R: BufRead> Utf16<R> {
    /// Decodes the next 4 KiB into `left`; nothing at the end.
    fn decode(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.from.by_ref().take(4096).read_to_end(&mut bytes)?;
        let units = bytes.chunks_exact(2).map(|pair| (self.unit)([pair[0], pair[1]]));
        let mut units: Vec<u16> = self.high.take().into_iter().chain(units).collect();
        if bytes.len() == 4096 && units.last().is_some_and(|last| (0xd800..0xdc00).contains(last)) {
            self.high = units.pop();
        }
        let decoded = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        self.left = decoded.filter(|c| *c != '\u{feff}').collect::<String>().into_bytes();
        Ok(())
    }
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.is_empty() {
            self.decode()?;
        }
        let count = self.left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn text(bytes: &[u8]) -> String {
        let mut text = String::new();
        unpacked(bytes).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn packed_texts_are_read_as_plain_ones() {
        let plain = "a line\n".repeat(10_000);
        let utf16: Vec<u8> = [0xfeff].into_iter().chain(plain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        for packed in [
            plain.as_bytes().to_vec(),
            gzipped(plain.as_bytes()),
            [gzipped(&plain.as_bytes()[..700]), gzipped(&plain.as_bytes()[700..])].concat(),
            zstd::encode_all(plain.as_bytes(), 1).unwrap(),
            utf16.clone(),
            zstd::encode_all(&*utf16, 1).unwrap(),
        ] {
            assert!(text(&packed) == plain, "{:?}", &packed[..4]);
        }
    }

    #[test]
    fn characters_of_two_units_may_lie_across_blocks() {
        // The pair begins with the last unit of the first block: a mark of one, then one of 2046 units before it.
        let plain = "x".repeat(2046) + "😀y";
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = [0xfeff].into_iter().chain(plain.encode_utf16()).flat_map(to_bytes).collect();
            assert_eq!(text(&bytes), plain);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let mut cut = gzipped(&b"a line\n".repeat(1000));
        cut.truncate(cut.len() - 9);
        let mut text = Vec::new();
        let error = unpacked(&*cut).unwrap().read_to_end(&mut text).unwrap_err().to_string();
        assert!(error.contains("cut off") && error.contains("gzip -dc"), "{error}");
    }
}
