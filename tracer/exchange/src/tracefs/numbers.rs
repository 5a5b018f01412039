//! Numbers, texts and lengths in the byte order of a file.

use std::io::{self, Read};

/// A byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    /// A number of up to 8 bytes; `None` for a length that is no number's.
    pub(crate) fn number(self, bytes: &[u8]) -> Option<u64> {
        if !matches!(bytes.len(), 1 | 2 | 4 | 8) {
            return None;
        }
        let add = |value, byte: &u8| value << 8 | u64::from(*byte);
        Some(match self {
            Self::Little => bytes.iter().rev().fold(0, add),
            Self::Big => bytes.iter().fold(0, add),
        })
    }

    /// The number of `length` bytes that begins at `at`; `None` beyond the end.
    pub(crate) fn number_at(self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        self.number(bytes.get(at..at.checked_add(length)?)?)
    }
}

/// An error about what is in a file.
pub(crate) fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Reads numbers one after the other.
#[derive(Debug)]
pub(crate) struct Numbers<R> {
    pub(crate) from: R,
    pub(crate) order: Order,
}

impl<R: Read> Numbers<R> {
    pub(crate) fn new(from: R, order: Order) -> Self {
        Self { from, order }
    }

    fn number(&mut self, length: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.from.read_exact(&mut bytes[..length])?;
        Ok(self.order.number(&bytes[..length]).unwrap_or(0))
    }

    pub(crate) fn byte(&mut self) -> io::Result<u8> {
        self.number(1).map(|number| number as u8)
    }

    pub(crate) fn u16(&mut self) -> io::Result<u16> {
        self.number(2).map(|number| number as u16)
    }

    pub(crate) fn u32(&mut self) -> io::Result<u32> {
        self.number(4).map(|number| number as u32)
    }

    pub(crate) fn u64(&mut self) -> io::Result<u64> {
        self.number(8)
    }

    /// So many bytes, of which there may be `most`.
    pub(crate) fn bytes(&mut self, length: u64, most: u64) -> io::Result<Vec<u8>> {
        if length > most {
            return Err(damaged(format!("a part of its header claims to have {length} bytes")));
        }
        let mut bytes = Vec::new();
        self.from.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// A text up to its NUL, which ends within `most` bytes.
    pub(crate) fn text(&mut self, most: usize) -> io::Result<String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                _ if bytes.len() == most => return Err(damaged("a name in its header has no end")),
                byte => bytes.push(byte),
            }
        }
    }

    /// Passes over so many bytes.
    pub(crate) fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.from.by_ref().take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
