//! Lines of a text that may be anything, even one line without end.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};

/// Longest line that is read, bytes: the kernel's own buffer for one is a page (`trace_seq`), of at most 64 KiB, and lists of
/// `trace-cmd` and `perf` are no longer. Of what is longer this much is read, and the rest passed over.
const LONGEST: usize = 128 << 10;

/// A text, line by line.
#[derive(Debug)]
pub(super) struct Lines<R> {
    text: R,
    /// Bytes of the last line, which are still in the text's own buffer.
    taken: usize,
    /// A line that was not whole there.
    line: Vec<u8>,
    /// Bytes of all lines until now.
    pub(super) read: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(text: R) -> Self {
        Self { text, taken: 0, line: Vec::new(), read: 0 }
    }

    /// The next line, with or without its end; `None` at the end of the text.
    pub(super) fn next(&mut self) -> io::Result<Option<Cow<'_, str>>> {
        self.text.consume(std::mem::take(&mut self.taken));
        let buffer = loop {
            match self.text.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if let Some(end) = memchr::memchr(b'\n', &buffer[..buffer.len().min(LONGEST)]) {
            self.taken = end + 1;
            self.read += self.taken as u64;
            let buffer = self.text.fill_buf()?;
            return Ok(Some(text(buffer.get(..end).unwrap_or(buffer))));
        }
        self.copied()?;
        Ok((!self.line.is_empty()).then(|| text(&self.line)))
    }

    /// Copies the next line, with its end; nothing at the end of the text.
    fn copied(&mut self) -> io::Result<()> {
        self.line.clear();
        let mut length = self.text.by_ref().take(LONGEST as u64).read_until(b'\n', &mut self.line)?;
        if length == LONGEST && self.line.last() != Some(&b'\n') {
            length += self.text.skip_until(b'\n')?;
            // A part would pass for the whole.
            self.line.clear();
            self.line.extend(b"(a line longer than 128 KiB)");
        }
        self.read += length as u64;
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    // Faster than to look for what is no text from the beginning.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    /// The lines of a text and the bytes read after each, with a buffer of so many bytes.
    fn lines(text: &[u8], buffer: usize) -> Vec<(String, u64)> {
        let (mut lines, mut all) = (Lines::new(BufReader::with_capacity(buffer, text)), Vec::new());
        while let Some(line) = lines.next().unwrap() {
            let line = line.trim_end_matches('\n').to_owned();
            all.push((line, lines.read));
        }
        assert!(lines.next().unwrap().is_none());
        all
    }

    #[test]
    fn lines_come_one_by_one_with_the_last_one_whole_in_buffers_of_any_size() {
        let text = "a\n\na longer one \u{1f600}\nlast".as_bytes();
        let expected = [("a", 2), ("", 3), ("a longer one \u{1f600}", 21), ("last", 25)];
        for buffer in (1..=text.len()).chain([4096]) {
            let lines = lines(text, buffer);
            assert!(lines.iter().map(|(line, read)| (line.as_str(), *read)).eq(expected), "{buffer}: {lines:?}");
        }
    }

    #[test]
    fn of_a_line_that_is_too_long_nothing_is_left() {
        let long = [vec![b'x'; 1 << 20], b"\nnext\n".to_vec()].concat();
        for buffer in [4096, 2 << 20] {
            let lines = lines(&long, buffer);
            assert_eq!(lines.len(), 2);
            assert!(
                lines[0].0.len() < 100 && !lines[0].0.contains('x') && lines[0].1 == (1 << 20) + 1,
                "{:?}",
                lines[0]
            );
            assert_eq!(lines[1].0, "next");
        }
        let longest = [vec![b'x'; LONGEST - 1], b"\n".to_vec()].concat();
        assert_eq!((lines(&longest, 4096)[0].0.len(), lines(&longest, LONGEST)[0].0.len()), (LONGEST - 1, LONGEST - 1));
    }
}
