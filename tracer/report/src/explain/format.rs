//! What a log is kept in: compressed, in UTF-16, or plain text. Everything is kept within a bound; what can't be read is refused
//! by name, with the command that helps.

use std::io::{self, Read};

use super::gather::{Gathered, Jump, gathered};

/// The most memory that an xz file may ask for, KiB; `xz -9` asks for 65 MiB.
const XZ_MEMORY: u32 = 128 << 10;
/// Compressions inside one another that are undone.
const LAYERS: usize = 3;
/// Bytes that are looked at to recognise UTF-16 without a byte order mark.
const SAMPLE: usize = 512;

/// A log as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub text: String,
    /// How it was kept, and what of it could not be read: one sentence each.
    pub notes: Vec<String>,
    /// Where lines are left out before a line, in the order of the text.
    pub jumps: Vec<Jump>,
}

impl Text {
    /// Appends another log, behind an end of line.
    pub fn append(&mut self, other: Self) {
        let (lines, by) = (self.text.matches('\n').count(), self.jumps.last().map_or(0, |jump| jump.by));
        self.jumps.extend(other.jumps.iter().map(|jump| Jump { line: jump.line + lines, by: jump.by + by }));
        self.text += &other.text;
        self.text.push('\n');
        self.notes.extend(other.notes);
    }

    /// The number that a line of the text has in the log.
    pub fn line_in_log(&self, line: usize) -> usize {
        let behind = self.jumps.partition_point(|jump| jump.line <= line);
        line + behind.checked_sub(1).map_or(0, |last| self.jumps[last].by)
    }
}

/// Why no text can be made of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A known format that is not read here.
    #[error("this is {what}, which is not read here; {instead}")]
    Other {
        /// The format.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// A known compression whose content is damaged from the beginning.
    #[error("this looks like {what}, but nothing of it can be decompressed: {why}")]
    Damaged {
        /// The format.
        what: &'static str,
        /// What its library says.
        why: String,
    },
}

/// First bytes of formats that are refused, what they are, and what to do instead.
const REFUSED: &[(&[u8], &str, &str)] = &[
    (b"BZh", "bzip2", "unpack it: bzip2 -dc FILE | bouncescope explain"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4", "unpack it: lz4 -dc FILE | bouncescope explain"),
    (&[0x02, 0x21, 0x4c, 0x18], "lz4 (legacy)", "unpack it: lz4 -dc FILE | bouncescope explain"),
    (&[0x89, b'L', b'Z', b'O'], "lzop", "unpack it: lzop -dc FILE | bouncescope explain"),
    (&[0x5d, 0, 0], "lzma", "unpack it: xz -dc FILE | bouncescope explain"),
    (b"LZIP", "lzip", "unpack it: lzip -dc FILE | bouncescope explain"),
    (&[0x1f, 0x9d], "compress (.Z)", "unpack it: gzip -dc FILE | bouncescope explain"),
    (b"PK\x03\x04", "a zip archive", "name the log in it: unzip -p FILE LOG | bouncescope explain"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack the log: 7z x -so FILE LOG | bouncescope explain"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack the log and name it"),
    (b"LPKSHHRH", "a journal of systemd", "journalctl --file FILE -k -o short-monotonic | bouncescope explain"),
    (b"KDUMP", "a compressed kernel dump", "take the log out of it: crash or makedumpfile --dump-dmesg"),
    (b"\x7fELF", "an ELF file (a program, or a kernel dump)", "take the log out of a dump: makedumpfile --dump-dmesg"),
    (b"%PDF", "a PDF", "copy the lines as text"),
    (
        b"\x89PNG",
        "a picture (PNG)",
        "give the lines as text; of a message without figures: bouncescope explain \"swiotlb buffer is full\"",
    ),
    (
        &[0xff, 0xd8, 0xff],
        "a picture (JPEG)",
        "give the lines as text; of a message without figures: bouncescope explain \"swiotlb buffer is full\"",
    ),
];

/// Makes text of what a file holds.
///
/// # Errors
///
/// When the file is of a format that is not read here, or damaged from its beginning.
pub fn text_of(bytes: &[u8]) -> Result<Text, FormatError> {
    made(gathered(bytes, is_plain))
}

/// Makes text of what is read, however long that is: see [`super::LARGEST`].
///
/// # Errors
///
/// When it cannot be read, or as [`text_of`], whose error is then the inner one.
pub fn text_from(reader: impl Read) -> io::Result<Text> {
    let mut read = gathered(reader, is_plain);
    match read.failed.take() {
        Some(error) => Err(error),
        None => made(read).map_err(io::Error::other),
    }
}

fn made(read: Gathered) -> Result<Text, FormatError> {
    let mut notes = Vec::new();
    let mut read = read;
    for _ in 0..LAYERS {
        let Some((what, inner)) = layer(&read.bytes) else { break };
        let inner = inner.map_err(|why| FormatError::Damaged { what, why })?;
        if read.is_cut() {
            notes.push(format!(
                "Only the first {} MiB of the {what} file were read: unpack it, and give the log itself.",
                super::LARGEST >> 20
            ));
        } else if let Some(why) = &inner.failed {
            notes.push(format!("The {what} file is damaged or cut: {why}. What comes before that was read."));
        }
        read = inner;
    }
    let bytes = &read.bytes[..];
    if let Some((_, what, instead)) = REFUSED.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return Err(FormatError::Other { what, instead });
    }
    if bytes.get(257..262) == Some(b"ustar") {
        let instead = "unpack the log in it: tar -xOf FILE LOG | bouncescope explain";
        return Err(FormatError::Other { what: "a tar archive", instead });
    }
    notes.extend(read.notes());
    let text = decoded(bytes);
    Ok(Text { text, notes, jumps: read.jumps })
}

type Layer = (&'static str, Result<Gathered, String>);

/// One compression taken off; `None` of what is not compressed in a way that is read here.
fn layer(bytes: &[u8]) -> Option<Layer> {
    Some(match bytes {
        [0x1f, 0x8b, ..] => ("gzip", limited(flate2::read::MultiGzDecoder::new(bytes))),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            ("xz", limited(lzma_rust2::XzReader::new_mem_limit(bytes, true, XZ_MEMORY)))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            ("zstd", zstd::Decoder::with_buffer(bytes).map_err(|error| error.to_string()).and_then(limited))
        }
        _ => return None,
    })
}

fn limited(reader: impl Read) -> Result<Gathered, String> {
    let read = gathered(reader, is_plain);
    match &read.failed {
        Some(error) if read.bytes.is_empty() => Err(error.to_string()),
        _ => Ok(read),
    }
}

/// Whether bytes are text by their beginning, and no compression, UTF-16 or other format.
fn is_plain(bytes: &[u8]) -> bool {
    let is_packed =
        matches!(bytes, [0x1f, 0x8b, ..] | [0xfd, b'7', b'z', b'X', b'Z', 0, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
    let is_other = REFUSED.iter().any(|(magic, ..)| bytes.starts_with(magic)) || bytes.get(257..262) == Some(b"ustar");
    let is_wide =
        bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || zeros(bytes) != (false, false);
    !(is_packed || is_other || is_wide)
}

/// UTF-16 of either byte order, with or without a mark; everything else as UTF-8, with what is no UTF-8 replaced.
fn decoded(bytes: &[u8]) -> String {
    let units = |bytes: &[u8], from: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| from([pair[0], pair[1]]));
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => match zeros(bytes) {
            (true, false) => units(bytes, u16::from_be_bytes),
            (false, true) => units(bytes, u16::from_le_bytes),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        },
    }
}

/// Whether most bytes at even places are zero, and most at odd ones: ASCII in UTF-16.
fn zeros(bytes: &[u8]) -> (bool, bool) {
    let sample = &bytes[..bytes.len().min(SAMPLE) & !1];
    if sample.len() < 8 {
        return (false, false);
    }
    let mostly = |first: usize| {
        let zeros = sample.iter().skip(first).step_by(2).filter(|byte| **byte == 0).count();
        zeros * 4 > sample.len() / 2 * 3
    };
    (mostly(0), mostly(1))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::LARGEST;
    use super::*;

    const LINE: &str = "mmc0: swiotlb buffer is full\n";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// What `xz -9` makes of the line.
    fn xz() -> Vec<u8> {
        const HEAD: &[u8] =
            b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x1c\x00\x00\x00\x10\xcf\x58\xcc\x01\x00\x1c";
        const TAIL: &[u8] = b"\x00\x00\x00\x00\x94\x25\x10\xec\x20\xcd\x2a\x0b\x00\x01\x35\x1d\x44\x1b\xb1\xe1\x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04YZ";
        [HEAD, b"mmc0: swiotlb buffer is full\n", TAIL].concat()
    }

    fn read(bytes: &[u8]) -> String {
        text_of(bytes).unwrap().text
    }

    #[test]
    fn compressed_text_is_unpacked_whatever_is_inside_what() {
        assert_eq!(read(&gzip(LINE.as_bytes())), LINE);
        let zstd = zstd::encode_all(LINE.as_bytes(), 1).unwrap();
        assert_eq!(read(&zstd), LINE);
        assert_eq!(read(&gzip(&zstd)), LINE);
        assert_eq!(read(&xz()), LINE);
    }

    #[test]
    fn a_cut_file_is_read_as_far_as_it_goes_and_that_is_noted() {
        let lines = (0..20_000u64)
            .map(|line| line.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string())
            .collect::<Vec<_>>()
            .join("\n");
        let whole = gzip(lines.as_bytes());
        let text = text_of(&whole[..whole.len() / 2]).unwrap();
        assert!(!text.text.is_empty() && lines.starts_with(&text.text), "{}", text.text.len());
        assert!(text.notes[0].contains("damaged or cut"), "{:?}", text.notes);
        assert!(matches!(text_of(&whole[..4]), Err(FormatError::Damaged { what: "gzip", .. })));
    }

    #[test]
    fn a_bomb_is_read_within_the_bound() {
        let bomb = gzip(&vec![b'a'; LARGEST + (1 << 20)]);
        let text = text_of(&bomb).unwrap();
        assert!(text.text.len() <= LARGEST, "{}", text.text.len());
        assert!(text.notes[0].contains("65 MiB"), "{:?}", text.notes);
    }

    #[test]
    fn utf_16_is_read_in_both_orders_with_or_without_a_mark() {
        let le: Vec<u8> = LINE.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = LINE.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read(&[&[0xff, 0xfe], &le[..]].concat()), LINE);
        assert_eq!(read(&[&[0xfe, 0xff], &be[..]].concat()), LINE);
        assert_eq!((read(&le).as_str(), read(&be).as_str()), (LINE, LINE));
        assert_eq!(read(&[&[0xef, 0xbb, 0xbf], LINE.as_bytes()].concat()), LINE);
    }

    #[test]
    fn other_formats_are_refused_by_name_with_what_to_do() {
        for (bytes, name, instead) in [
            (&b"BZh91AY"[..], "bzip2", "bzip2 -dc"),
            (b"LPKSHHRH\0\0", "journal", "journalctl --file"),
            (b"\x89PNG\r\n", "picture", "as text"),
            (b"PK\x03\x04....", "zip", "unzip -p"),
        ] {
            let said = text_of(bytes).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains(instead), "{said}");
        }
    }
}
