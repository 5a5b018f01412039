//! The fields of messages in a file, one after the other, without the bytes of those that are passed over.

use std::io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom, Write};

/// A place in a file.
#[derive(Debug)]
pub(super) struct Walk<R> {
    file: BufReader<R>,
    at: u64,
    /// Bytes of the file.
    len: u64,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A varint, or a number of fixed width as its bits.
    Number(u64),
    /// A text, bytes, or another message, which begins where the walk is, up to here.
    Bytes { end: u64 },
}

impl Found {
    /// The number; 0 for what is none.
    pub(super) fn number(self) -> u64 {
        if let Self::Number(number) = self { number } else { 0 }
    }
}

impl<R: Read + Seek> Walk<R> {
    /// From the beginning of a file.
    pub(super) fn new(file: R) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(64 << 10, file);
        let len = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok(Self { file, at: 0, len })
    }

    /// Bytes from the beginning of the file.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Bytes of the file.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Goes to another place.
    pub(super) fn go(&mut self, to: u64) -> io::Result<()> {
        self.file.seek_relative(to.wrapping_sub(self.at) as i64)?;
        self.at = to;
        Ok(())
    }

    /// The next field of a message that ends there; `None` at its end, and at what is no whole field, where the walk then is. As
    /// [`Fields`](crate::protobuf::Fields) of bytes.
    pub(super) fn field(&mut self, end: u64) -> io::Result<Option<(u32, Found)>> {
        let begin = self.at;
        let field = self.whole(end)?;
        if field.is_none() {
            self.go(begin)?;
        }
        Ok(field)
    }

    fn whole(&mut self, end: u64) -> io::Result<Option<(u32, Found)>> {
        let Some(key) = self.varint(end)? else { return Ok(None) };
        let Some(field) = u32::try_from(key >> 3).ok().filter(|field| *field > 0) else { return Ok(None) };
        let found = match key & 7 {
            0 => self.varint(end)?.map(Found::Number),
            1 => self.fixed::<8>(end)?.map(|bytes| Found::Number(u64::from_le_bytes(bytes))),
            2 => {
                let length = self.varint(end)?;
                let inside = length.and_then(|length| self.at.checked_add(length)).filter(|inside| *inside <= end);
                inside.map(|end| Found::Bytes { end })
            }
            5 => self.fixed::<4>(end)?.map(|bytes| Found::Number(u32::from_le_bytes(bytes).into())),
            _ => None,
        };
        Ok(found.map(|found| (field, found)))
    }

    /// Passes over what a field holds.
    pub(super) fn pass(&mut self, found: Found) -> io::Result<()> {
        match found {
            Found::Bytes { end } => self.go(end),
            Found::Number(_) => Ok(()),
        }
    }

    /// The bytes from here to there.
    pub(super) fn bytes(&mut self, end: u64) -> io::Result<Vec<u8>> {
        let (mut bytes, length) = (Vec::new(), end - self.at);
        self.file.by_ref().take(length).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        if self.at == end { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Copies the bytes from here to there.
    pub(super) fn copy(&mut self, end: u64, to: &mut impl Write) -> io::Result<()> {
        self.at += io::copy(&mut self.file.by_ref().take(end - self.at), to)?;
        if self.at == end { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads bytes from a place into what is there to take them.
    pub(super) fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.go(at)?;
        self.file.read_exact(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn fixed<const N: usize>(&mut self, end: u64) -> io::Result<Option<[u8; N]>> {
        if end - self.at < N as u64 {
            return Ok(None);
        }
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(Some(bytes))
    }

    fn varint(&mut self, end: u64) -> io::Result<Option<u64>> {
        let mut value = 0;
        for n in 0..10 {
            if self.at >= end {
                return Ok(None);
            }
            let Some(byte) = self.file.fill_buf()?.first().copied() else { return Ok(None) };
            self.file.consume(1);
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte & 0x80 == 0 {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

/// The note on a file that ends within a packet.
pub(super) fn cut_off(left: u64) -> String {
    format!("the trace is cut off: its last {left} bytes are no whole packet")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::protobuf::{Fields, Value};

    proptest! {
        #[test]
        fn fields_of_a_file_are_those_of_its_bytes(bytes in prop::collection::vec(prop_oneof![0..24_u8, any::<u8>()], 0..200)) {
            let mut walk = Walk::new(Cursor::new(&bytes)).unwrap();
            let mut fields = Fields::of(&bytes);
            for (number, value) in fields.by_ref() {
                let (found_number, found) = walk.field(walk.len()).unwrap().unwrap();
                prop_assert_eq!(found_number, number);
                match (found, value) {
                    (Found::Number(found), Value::Number(value)) => prop_assert_eq!(found, value),
                    (Found::Bytes { end }, Value::Bytes(bytes)) => prop_assert_eq!(walk.bytes(end).unwrap(), bytes),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert!(walk.field(walk.len()).unwrap().is_none());
            prop_assert_eq!(walk.len() - walk.at(), fields.left() as u64);
        }
    }
}
