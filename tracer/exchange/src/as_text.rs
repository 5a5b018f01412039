//! Traces in binary as the text that tracefs would have printed, made while it is read.

use std::io::{self, BufRead, Read};

/// So much text is made at once, bytes.
pub(super) const AT_ONCE: usize = 32 << 10;

/// What makes the text of a trace, piece by piece.
pub trait MakeText {
    /// Appends the text of the next events, at least a line and about 32 KiB; nothing at the end.
    ///
    /// # Errors
    ///
    /// When the file cannot be read any further.
    fn make(&mut self, text: &mut String) -> io::Result<()>;

    /// What has to be known of the file, a line each; whole once it is read to the end.
    fn notes(&self) -> Vec<String>;
}

/// The text of a trace.
#[derive(Debug)]
pub struct AsText<T> {
    trace: T,
    /// Made and not yet read from `read` on.
    text: String,
    read: usize,
}

impl<T: MakeText> AsText<T> {
    #[cfg(test)]
    pub(super) const fn trace(&self) -> &T {
        &self.trace
    }

    /// Of a trace, behind what is made already.
    pub(super) const fn new(trace: T, text: String) -> Self {
        Self { trace, text, read: 0 }
    }
}

/// A text with notes on what it was made from.
pub trait Noted: BufRead {
    /// As [`MakeText::notes`].
    fn notes(&self) -> Vec<String>;
}

impl<T: MakeText> Noted for AsText<T> {
    fn notes(&self) -> Vec<String> {
        self.trace.notes()
    }
}

impl<T: MakeText> BufRead for AsText<T> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.text.len() {
            self.text.clear();
            self.read = 0;
            self.trace.make(&mut self.text)?;
        }
        Ok(&self.text.as_bytes()[self.read..])
    }

    fn consume(&mut self, amount: usize) {
        self.read = (self.read + amount).min(self.text.len());
    }
}

impl<T: MakeText> Read for AsText<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
