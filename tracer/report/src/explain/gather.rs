//! A log of any length in bounded memory: its beginning, which has what the kernel says of itself at boot, its end, which has the newest
//! messages, and of what lies between the lines that can matter.

use std::collections::VecDeque;
use std::io::{self, Read};

use super::{machine, message};

/// The most text that is kept of a log, bytes. Of a longer one that is its beginning, its end, and lines between that can matter.
pub const LARGEST: usize = 64 << 20;

/// What is kept whole of a long log's beginning and of its end, and what is kept of the lines between, bytes.
const FIRST: usize = 8 << 20;
const LAST: usize = 40 << 20;
const BETWEEN: usize = LARGEST - FIRST - LAST;
/// A log is read up to here, bytes: an input without end is not read for ever.
const MOST: u64 = 16 << 30;
/// So much is read at once, bytes.
const PIECE: usize = 1 << 20;
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
            FIRST >> 20,
            LAST >> 20
        ));
        if self.too_many > 0 {
            notes.push(format!(
                "{} lines between them that can matter were left out: there were too many. Give the part around the message.",
                self.too_many
            ));
        }
        if all >= MOST {
            notes.push(format!("More than {} GiB were not read.", MOST >> 30));
        }
        notes
    }
}

/// Reads all of a log that is plain text, as its beginning shows; of anything else no more than [`LARGEST`].
pub(super) fn gathered(reader: impl Read, is_plain: fn(&[u8]) -> bool) -> Gathered {
    let mut reader = reader;
    let mut bytes = Vec::new();
    let failed = reader.by_ref().take(LARGEST as u64 + 1).read_to_end(&mut bytes).err();
    if bytes.len() <= LARGEST {
        return Gathered { bytes, failed, ..Gathered::default() };
    }
    if !is_plain(&bytes) {
        let of_all = Some(bytes.len() as u64);
        bytes.truncate(LARGEST);
        return Gathered { bytes, failed, of_all, ..Gathered::default() };
    }
    let head = bytes[..FIRST].iter().rposition(|byte| *byte == b'\n').map_or(FIRST, |end| end + 1);
    let rest = bytes.split_off(head);
    let mut long = Long { kept: bytes, ..Long::default() };
    long.lines = line_ends(&long.kept);
    long.kept_lines = long.lines;
    for piece in rest.chunks(PIECE) {
        long.take(piece.to_vec());
    }
    drop(rest);
    let mut failed = failed;
    let mut left = MOST - (LARGEST as u64 + 1);
    while failed.is_none() && left > 0 {
        let mut piece = Vec::new();
        failed = reader.by_ref().take(left.min(PIECE as u64)).read_to_end(&mut piece).err();
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
#[derive(Default)]
struct Long {
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
    fn take(&mut self, piece: Vec<u8>) {
        self.last_bytes += piece.len();
        self.all += piece.len() as u64;
        self.last.push_back(piece);
        while self.last_bytes > LAST {
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
        if self.between + line.len() > BETWEEN {
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
    use crate::explain::{explain_text, text_from};

    const FULL: &str = "swiotlb buffer is full (sz: 65536 bytes), total 512 (slots), used 498 (slots)";

    /// A log of a little more than so many MiB, with lines put before the line of that number.
    fn log(mib: usize, put: &[(usize, &str)]) -> Vec<u8> {
        let mut log = Vec::new();
        let mut number = 0;
        while log.len() <= mib << 20 {
            number += 1;
            let here = number;
            for (_, line) in put.iter().filter(|(at, _)| *at == here) {
                log.extend_from_slice(line.as_bytes());
                log.push(b'\n');
                number += 1;
            }
            log.extend_from_slice(
                format!("[{number:>12}.5] audit: a line of the daemon that says nothing of any device or memory\n")
                    .as_bytes(),
            );
        }
        log
    }

    #[test]
    fn the_end_of_a_long_log_is_read_and_what_matters_before_it() {
        let boot = "Linux version 6.12.9 (me@here) (aarch64-linux-gnu-gcc) #1 SMP";
        let (early, middle) = (format!("mmc0: {FULL}"), format!("mmc1: {FULL}"));
        let mut log =
            log(72, &[(1, boot), (5, &early), (200_000, "Linux version 5.15.1 (me@here) (gcc)"), (200_002, &middle)]);
        log.extend_from_slice(format!("mmc2: {FULL}\n").as_bytes());
        let lines = line_ends(&log);
        let text = text_from(&*log).unwrap();
        assert!(text.text.len() <= LARGEST && text.notes[0].contains("72 MiB"), "{:?}", text.notes);
        let explained = explain_text(&text);
        let found: Vec<_> =
            explained.explanations.iter().map(|one| (one.line, one.boot, one.device.as_deref().unwrap())).collect();
        assert_eq!(found, [(5, 1, "mmc0"), (200_002, 2, "mmc1"), (lines, 2, "mmc2")]);
        assert_eq!(explained.boots[1].release, Some((5, 15, 1)));
    }

    #[test]
    fn a_call_trace_between_beginning_and_end_is_kept_with_its_message() {
        let trace = "dmac 3c00000.dma: DMA addr 0x0000000220014080+4 overflow (mask ffffffff, bus limit 0).\nCall trace:\n dma_map_resource+0x78/0xe0";
        let explained = explain_text(&text_from(&*log(66, &[(200_000, trace)])).unwrap());
        assert_eq!(explained.explanations[0].kind, crate::explain::Kind::Register);
    }

    #[test]
    fn lines_that_matter_have_a_bound_and_those_left_out_are_counted() {
        let mut log = Vec::new();
        let lines = (72 << 20) / (FULL.len() + 16);
        for n in 0..lines {
            log.extend_from_slice(format!("dev{n:>8}.x: {FULL}\n").as_bytes());
        }
        let text = text_from(&*log).unwrap();
        assert!(text.text.len() <= LARGEST, "{}", text.text.len());
        assert!(text.notes[1].contains("too many"), "{:?}", text.notes);
        let last = text.text.lines().count();
        assert_eq!(text.line_in_log(last), lines);
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_a_log() {
        let text = text_from(io::repeat(b'x').take(100 << 20)).unwrap();
        assert!(text.text.len() <= LARGEST, "{}", text.text.len());
    }

    #[test]
    fn logs_one_behind_the_other_keep_their_numbers() {
        let mut both = text_from(&b"a\nb\n"[..]).unwrap();
        both.append(crate::explain::Text {
            text: "c\nd\n".into(),
            jumps: vec![Jump { line: 2, by: 10 }],
            ..Default::default()
        });
        both.append(crate::explain::Text { text: "e\n".into(), ..Default::default() });
        assert_eq!([1, 3, 4, 6].map(|line| both.line_in_log(line)), [1, 3, 14, 16]);
    }
}
