//! A log of any length in bounded memory: its beginning, which has what the kernel says of itself at boot, its end, which has the newest
//! messages, and of what lies between the lines that can matter.

use std::collections::VecDeque;
use std::io::{self, Read};

use super::{machine, message};

/// The most text that is kept of a log, bytes. Of a longer one that is its beginning, its end, and lines between that can matter.
pub const LARGEST: usize = 64 << 20;

/// What is kept of a long log, bytes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Its beginning and its end, whole.
    first: usize,
    last: usize,
    /// Of the lines between.
    between: usize,
    /// So much is read at once.
    piece: usize,
}

const SIZES: Sizes = Sizes { first: 8 << 20, last: 40 << 20, between: 16 << 20, piece: 1 << 20 };
/// A log is read up to here, bytes: an input without end is not read for ever.
const MOST: u64 = 16 << 30;
/// A longer line is looked at no further, bytes.
const LONGEST_LINE: usize = 64 << 10;
/// Lines that are kept behind one that matters: call traces.
const BEHIND: u32 = 60;

/// Lines that are left out before a line of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Number of that line in the text, from 1.
    pub line: usize,
    /// How many lines are left out before it, all together.
    pub by: usize,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) bytes: Vec<u8>,
    pub(super) jumps: Vec<Jump>,
    /// Why it ends early.
    pub(super) failed: Option<io::Error>,
    /// Bytes that were read, where not all are kept.
    of_all: Option<u64>,
    /// Lines left out that could matter, where there were too many.
    too_many: u64,
}

impl Gathered {
    /// Whether something behind what was read is missing.
    pub(super) fn is_cut(&self) -> bool {
        self.of_all.is_some()
    }

    /// What of it is not kept, a sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let Some(all) = self.of_all else { return Vec::new() };
        let mut notes = Vec::new();
        if self.jumps.is_empty() {
            notes.push(format!(
                "Only the first {} MiB were looked at; give the part around the message, and the kernel's first lines.",
                LARGEST >> 20
            ));
            return notes;
        }
        notes.push(format!(
            "The log has {} MiB: its first {} MiB and its last {} MiB were read whole, and between them the lines that can matter.",
            all >> 20,
            SIZES.first >> 20,
            SIZES.last >> 20
        ));
        if self.too_many > 0 {
            notes.push(format!(
                "{} lines between them that can matter were left out: there were too many. Give the part around the message.",
                self.too_many
            ));
        }
        if all >= MOST {
            notes.push(format!("What comes after the first {} GiB was not read.", MOST >> 30));
        }
        notes
    }
}

/// Reads all of a log that is plain text, as its beginning shows; of anything else no more than [`LARGEST`].
pub(super) fn gathered(reader: impl Read, is_plain: fn(&[u8]) -> bool) -> Gathered {
    within(SIZES, reader, is_plain)
}

fn within(sizes: Sizes, reader: impl Read, is_plain: fn(&[u8]) -> bool) -> Gathered {
    let largest = sizes.first + sizes.between + sizes.last;
    let mut reader = reader;
    let mut bytes = Vec::new();
    let failed = reader.by_ref().take(largest as u64 + 1).read_to_end(&mut bytes).err();
    if bytes.len() <= largest {
        return Gathered { bytes, failed, ..Gathered::default() };
    }
    if !is_plain(&bytes) {
        let of_all = Some(bytes.len() as u64);
        bytes.truncate(largest);
        return Gathered { bytes, failed, of_all, ..Gathered::default() };
    }
    let head = bytes[..sizes.first].iter().rposition(|byte| *byte == b'\n').map_or(sizes.first, |end| end + 1);
    let rest = bytes.split_off(head);
    let mut long = Long::begun(sizes, bytes);
    for piece in rest.chunks(sizes.piece) {
        long.take(piece.to_vec());
    }
    drop(rest);
    let mut failed = failed;
    let mut left = MOST - (largest as u64 + 1);
    while failed.is_none() && left > 0 {
        let mut piece = Vec::new();
        failed = reader.by_ref().take(left.min(sizes.piece as u64)).read_to_end(&mut piece).err();
        left -= piece.len() as u64;
        let is_end = piece.is_empty();
        long.take(piece);
        if is_end {
            break;
        }
    }
    long.finish(failed)
}

fn line_ends(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// A log that is too long to be kept.
struct Long {
    sizes: Sizes,
    kept: Vec<u8>,
    jumps: Vec<Jump>,
    /// Its last pieces, and their bytes.
    last: VecDeque<Vec<u8>>,
    last_bytes: usize,
    /// The beginning of a line that goes on in the last pieces, and whether it is too long to be kept whole.
    begun: Vec<u8>,
    /// Lines of the log until there, and of what is kept.
    lines: usize,
    kept_lines: usize,
    between: usize,
    behind: u32,
    all: u64,
    too_many: u64,
}

impl Long {
    fn begun(sizes: Sizes, kept: Vec<u8>) -> Self {
        let lines = line_ends(&kept);
        Self {
            sizes,
            kept,
            jumps: Vec::new(),
            last: VecDeque::new(),
            last_bytes: 0,
            begun: Vec::new(),
            lines,
            kept_lines: lines,
            between: 0,
            behind: 0,
            all: 0,
            too_many: 0,
        }
    }

    fn take(&mut self, piece: Vec<u8>) {
        self.last_bytes += piece.len();
        self.all += piece.len() as u64;
        self.last.push_back(piece);
        while self.last_bytes > self.sizes.last {
            let Some(piece) = self.last.pop_front() else { break };
            self.last_bytes -= piece.len();
            self.pass(&piece);
        }
    }

    /// Keeps what can matter of a piece before the last ones.
    fn pass(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.begun.len());
            if part.last() != Some(&b'\n') {
                self.begun.extend_from_slice(&part[..part.len().min(room)]);
                continue;
            }
            if self.begun.is_empty() {
                self.line(part);
            } else {
                let mut line = std::mem::take(&mut self.begun);
                line.extend_from_slice(&part[..part.len().min(room)]);
                self.line(&line);
                line.clear();
                self.begun = line;
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        let text = String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]);
        if message::may_matter(&text) || machine::may_matter(&text) {
            self.behind = BEHIND;
        } else if self.behind > 0 {
            self.behind -= 1;
        } else {
            return;
        }
        if self.between + line.len() > self.sizes.between {
            self.too_many += 1;
            return;
        }
        self.between += line.len();
        self.keep(line);
    }

    fn keep(&mut self, line: &[u8]) {
        self.kept_lines += 1;
        self.jump(self.lines - self.kept_lines);
        self.kept.extend_from_slice(line);
        if line.last() != Some(&b'\n') {
            self.kept.push(b'\n');
        }
    }

    /// So many lines are left out before the line that is kept now.
    fn jump(&mut self, by: usize) {
        if self.jumps.last().map_or(0, |jump| jump.by) != by {
            self.jumps.push(Jump { line: self.kept_lines, by });
        }
    }

    fn finish(mut self, failed: Option<io::Error>) -> Gathered {
        let all = self.all + self.kept.len() as u64 - self.between as u64;
        self.lines += 1;
        self.kept_lines += 1;
        self.jump(self.lines - self.kept_lines);
        // A log of few lines may have lost none.
        if self.jumps.is_empty() {
            self.jumps.push(Jump { line: self.kept_lines, by: 0 });
        }
        self.kept.append(&mut self.begun);
        self.kept.reserve_exact(self.last_bytes);
        for piece in self.last {
            self.kept.extend_from_slice(&piece);
        }
        Gathered { bytes: self.kept, jumps: self.jumps, failed, of_all: Some(all), too_many: self.too_many }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Kind, Text, explain_text};

    const SMALL: Sizes = Sizes { first: 8 << 10, last: 40 << 10, between: 16 << 10, piece: 1 << 10 };
    const LARGEST: usize = 64 << 10;
    const FULL: &str = "swiotlb buffer is full (sz: 65536 bytes), total 512 (slots), used 498 (slots)";

    fn text(log: impl Read) -> Text {
        let read = within(SMALL, log, |_| true);
        let notes = read.notes();
        Text { text: String::from_utf8(read.bytes).unwrap(), notes, jumps: read.jumps }
    }

    /// A log of a little more than so many KiB, with lines put before the line of that number.
    fn log(kib: usize, put: &[(usize, &str)]) -> Vec<u8> {
        let mut log = Vec::new();
        let mut number = 0;
        while log.len() <= kib << 10 {
            number += 1;
            let here = number;
            for (_, line) in put.iter().filter(|(at, _)| *at == here) {
                log.extend_from_slice(line.as_bytes());
                log.push(b'\n');
                number += 1;
            }
            let line =
                format!("[{number:>12}.5] audit: a line of the daemon that says nothing of any device or memory\n");
            log.extend_from_slice(line.as_bytes());
        }
        log
    }

    #[test]
    fn the_end_of_a_long_log_is_read_and_what_matters_before_it() {
        let boot = "Linux version 6.12.9 (me@here) (aarch64-linux-gnu-gcc) #1 SMP";
        let next = "Linux version 5.15.1 (me@here) (gcc)";
        let (early, middle) = (format!("mmc0: {FULL}"), format!("mmc1: {FULL}"));
        for kib in [65, 120, 1000] {
            let mut log = log(kib, &[(1, boot), (5, &early), (150, next), (152, &middle)]);
            log.extend_from_slice(format!("mmc2: {FULL}\n").as_bytes());
            let text = text(&*log);
            assert!(text.text.len() <= LARGEST && text.notes.len() == 1, "{:?}", text.notes);
            let explained = explain_text(&text);
            let found: Vec<_> =
                explained.explanations.iter().map(|one| (one.line, one.boot, one.device.as_deref().unwrap())).collect();
            assert_eq!(found, [(5, 1, "mmc0"), (152, 2, "mmc1"), (line_ends(&log), 2, "mmc2")], "{kib}");
            assert_eq!(explained.boots[1].release, Some((5, 15, 1)));
        }
    }

    #[test]
    fn a_call_trace_between_beginning_and_end_is_kept_with_its_message() {
        let trace = "dmac 3c00000.dma: DMA addr 0x0000000220014080+4 overflow (mask ffffffff, bus limit 0).\nCall trace:\n dma_map_resource+0x78/0xe0";
        let explained = explain_text(&text(&*log(100, &[(200, trace)])));
        assert_eq!((explained.explanations[0].kind, explained.explanations[0].line), (Kind::Register, 200));
    }

    #[test]
    fn lines_that_matter_have_a_bound_and_those_left_out_are_counted() {
        let lines = 1000;
        let log = (0..lines).fold(String::new(), |log, n| log + &format!("dev{n:>8}.x: {FULL}\n"));
        let text = text(log.as_bytes());
        assert!(text.text.len() <= LARGEST, "{}", text.text.len());
        assert!(text.notes[1].contains("too many"), "{:?}", text.notes);
        let last = text.text.lines().count();
        assert_eq!(text.line_in_log(last), lines);
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_a_log() {
        let text = text(io::repeat(b'x').take(1 << 20));
        assert!(text.text.len() <= 2 * LARGEST, "{}", text.text.len());
    }

    #[test]
    fn logs_one_behind_the_other_keep_their_numbers() {
        let mut both = Text { text: "a\nb\n".into(), ..Text::default() };
        both.append(Text { text: "c\nd".into(), jumps: vec![Jump { line: 2, by: 10 }], ..Text::default() });
        both.append(Text { text: "e".into(), ..Text::default() });
        assert_eq!([1, 3, 4, 5].map(|line| both.line_in_log(line)), [1, 3, 14, 15]);
    }
}
