//! Lines of a text that may be anything, even one line without end.

use std::io::{self, BufRead, Read as _};

/// Longest line that is read, bytes: the kernel's own buffer for one is a page (`trace_seq`), of at most 64 KiB, and lists of
/// `trace-cmd` and `perf` are no longer. Of what is longer this much is read, and the rest passed over.
const LONGEST: u64 = 128 << 10;

/// Reads the next line into `line`, with its end. How many bytes it has, read or not; 0 at the end of the text.
pub(super) fn next_line(text: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let mut length = text.by_ref().take(LONGEST).read_until(b'\n', line)? as u64;
    if length == LONGEST && line.last() != Some(&b'\n') {
        length += text.skip_until(b'\n')? as u64;
        // A part would pass for the whole.
        line.clear();
        line.extend(b"(a line longer than 128 KiB)");
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_with_the_last_one_whole() {
        let (mut text, mut line) = (&b"a\n\nlast"[..], Vec::new());
        let mut read = || (next_line(&mut text, &mut line).unwrap(), line.clone());
        assert_eq!([read(), read(), read()], [(2, b"a\n".to_vec()), (1, b"\n".to_vec()), (4, b"last".to_vec())]);
        assert_eq!(read().0, 0);
    }

    #[test]
    fn of_a_line_that_is_too_long_nothing_is_left() {
        let long = [vec![b'x'; 1 << 20], b"\nnext\n".to_vec()].concat();
        let (mut text, mut line) = (&long[..], Vec::new());
        assert_eq!(next_line(&mut text, &mut line).unwrap(), (1 << 20) + 1);
        assert!(line.len() < 100 && !line.contains(&b'x'), "{line:?}");
        next_line(&mut text, &mut line).unwrap();
        assert_eq!(line, b"next\n");
    }
}
