//! The kernel's log: messages that hold a text, and when the kernel logged them.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::{
    fs::{Mode, OFlags, SeekFrom, open, seek},
    io::{Errno, read},
};
use tracer::live::{LogClock, LogTime, now_ns};

use super::triggers::{Cause, When, worded};

/// The kernel's log, record by record (`Documentation/ABI/testing/dev-kmsg`).
const KMSG: &str = "/dev/kmsg";
/// Longer than any record (`PRINTK_MESSAGE_MAX`, `kernel/printk/internal.h`).
const RECORD: usize = 16 << 10;
/// Records that are read at one time, so that a kernel that logs without end does not keep out everything else.
const MOST_RECORDS: usize = 4096;
/// A time that lies so far beside what is known by reading alone cannot be of this clock, ns.
const BESIDE_NS: u64 = 1_000_000_000;
/// From so much on it is said how late a message was read, or how uncertain its time is, ns.
const LATE_NS: u64 = 1_000_000_000;

/// The new messages of the kernel.
pub(super) struct KernelLog {
    kmsg: OwnedFd,
    texts: Vec<String>,
    /// `None` where perf cannot tell: then only reading does.
    clock: Option<LogClock>,
    /// When there was last nothing to read, ns.
    emptied_ns: u64,
    /// The number of the next record.
    next: Option<u64>,
    /// Records that were overwritten before they were read.
    pub(super) overwritten: u64,
}

impl KernelLog {
    /// From now on, on this thread. With `kernel.dmesg_restrict` this takes `CAP_SYSLOG`, reading later on does not.
    pub(super) fn open(texts: &[String]) -> Result<Option<Self>> {
        if texts.is_empty() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let emptied_ns = now_ns();
        let opened = open(KMSG, flags, Mode::empty()).and_then(|kmsg| seek(&kmsg, SeekFrom::End(0)).map(|_| kmsg));
        let kmsg = opened.with_context(|| {
            format!("--on-message reads {KMSG}, which needs root, or CAP_SYSLOG where kernel.dmesg_restrict is 1")
        })?;
        let clock = LogClock::open().ok();
        Ok(Some(Self { kmsg, texts: texts.to_vec(), clock, emptied_ns, next: None, overwritten: 0 }))
    }

    /// Those of the messages that came since the last time that hold one of the texts.
    pub(super) fn matches(&mut self) -> Vec<Cause> {
        let mut found = Vec::new();
        let mut buffer = vec![0; RECORD];
        let mut clocks = None;
        for _ in 0..MOST_RECORDS {
            let asked_ns = now_ns();
            match read(&self.kmsg, &mut buffer[..]) {
                Ok(0) => break,
                Ok(length) => {
                    let Some(record) = Record::parse(&buffer[..length]) else { continue };
                    self.follow(record.number);
                    if self.texts.iter().any(|text| record.text.contains(text)) {
                        let clocks = *clocks.get_or_insert_with(|| self.clock.as_ref()?.read().ok());
                        let read_ns = now_ns();
                        found.push(record.cause(when(record.log_ns, clocks, self.emptied_ns, read_ns), read_ns));
                    }
                }
                // Records were overwritten before they were read; the next read goes on behind them.
                Err(Errno::PIPE) => self.overwritten += u64::from(self.next.is_none()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.emptied_ns = asked_ns;
                    break;
                }
                Err(_) => break,
            }
        }
        found
    }

    /// Counts those that were left out between the last record and this one.
    fn follow(&mut self, number: u64) {
        self.overwritten += self.next.map_or(0, |next| number.saturating_sub(next));
        self.next = Some(number.saturating_add(1));
    }
}

/// When a message was logged: by the clocks; where they cannot be right, only that it came between two readings of the log.
///
/// The kernel takes the time of a message before a reader can see it, so a message may be a little older than the reading before.
fn when(log_ns: u64, clocks: Option<LogTime>, emptied_ns: u64, read_ns: u64) -> When {
    let by_clocks = clocks.map(|now| {
        let since_ns = log_ns.wrapping_sub(now.log_ns) as i64;
        [now.before_ns, now.after_ns].map(|now_ns| now_ns.saturating_add_signed(since_ns))
    });
    let is_possible = |[earliest_ns, latest_ns]: &[u64; 2]| {
        latest_ns.saturating_add(BESIDE_NS) >= emptied_ns && *earliest_ns <= read_ns.saturating_add(BESIDE_NS)
    };
    let [earliest_ns, latest_ns] = by_clocks.filter(is_possible).unwrap_or([emptied_ns, read_ns]);
    When { earliest_ns: earliest_ns.min(read_ns), latest_ns: latest_ns.min(read_ns) }
}

/// A record of the log: `priority,number,time,flags;text`, then a line for each of its properties. More fields may come before the `;`.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    number: u64,
    /// When it was logged, by the log's clock, ns; the log has µs.
    log_ns: u64,
    text: String,
}

impl Record {
    fn parse(record: &[u8]) -> Option<Self> {
        let record = String::from_utf8_lossy(record);
        let (prefix, text) = record.lines().next()?.split_once(';')?;
        let mut fields = prefix.split(',').skip(1);
        let (number, log_us): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { number, log_ns: log_us.checked_mul(1000)?, text: text.to_owned() })
    }

    fn cause(&self, when: When, read_ns: u64) -> Cause {
        let late = |ns: u64| Some(ns as f64 / 1e9).filter(|_| ns >= LATE_NS);
        let uncertain = late(when.latest_ns - when.earliest_ns)
            .map(|s| format!("the kernel logged the message at some moment of the {s:.1} s before it was read"));
        let read_late = late(read_ns - when.latest_ns)
            .map(|s| format!("the kernel had logged the message {s:.1} s before it was read"));
        let note = uncertain.or(read_late);
        Cause { note, ..Cause::new(format!("a kernel message: {}", worded(&self.text)), when) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_record_has_its_number_its_time_and_its_text_and_properties_are_not_of_it() {
        let record = b"4,901,7766,-;xhci_hcd 0000:00:04.0: swiotlb buffer is full (sz: 18 bytes)\n SUBSYSTEM=pci\n";
        let text = "xhci_hcd 0000:00:04.0: swiotlb buffer is full (sz: 18 bytes)".to_owned();
        assert_eq!(Record::parse(record), Some(Record { number: 901, log_ns: 7_766_000, text }));
        let record = Record::parse(b"6,18446744073709551615,12,c,caller=T97;a;b,c\n").unwrap();
        assert_eq!((record.number, record.log_ns, record.text.as_str()), (u64::MAX, 12_000, "a;b,c"));
        for wrong in
            ["", "nothing of the kind", "4;text", "4,1;text", "4,x,1,-;text", "4,1,99999999999999999999,-;text"]
        {
            assert_eq!(Record::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(worded("a\x1b[2Jb"), r"a\u{1b}[2Jb");
    }

    /// The log's clock is 6 s ahead of ours, and both were read within 2 µs.
    fn clocks(now_ns: u64) -> LogTime {
        LogTime { log_ns: now_ns + 6 * SECOND, before_ns: now_ns - 1000, after_ns: now_ns + 1000 }
    }

    #[test]
    fn a_message_is_of_the_moment_that_its_own_time_says_however_late_it_is_read() {
        for read_s in [101, 130, 5000] {
            let read_ns = read_s * SECOND;
            let when = when(106 * SECOND, Some(clocks(read_ns)), 99 * SECOND, read_ns);
            assert_eq!(when, When { earliest_ns: 100 * SECOND - 1000, latest_ns: 100 * SECOND + 1000 });
        }
    }

    #[test]
    fn without_a_clock_a_message_came_between_two_readings_of_the_log() {
        let when = when(106 * SECOND, None, 99 * SECOND, 130 * SECOND);
        assert_eq!(when, When { earliest_ns: 99 * SECOND, latest_ns: 130 * SECOND });
    }

    #[test]
    fn a_time_that_reading_the_log_contradicts_is_not_believed() {
        let between = When { earliest_ns: 99 * SECOND, latest_ns: 130 * SECOND };
        let at = |log_s: u64| when(log_s * SECOND, Some(clocks(130 * SECOND)), 99 * SECOND, 130 * SECOND);
        assert_eq!(at(103), between, "97 s, when nothing was there to read two seconds later");
        assert_eq!(at(140), between, "later than now");
        assert_eq!(at(105).latest_ns, 99 * SECOND + 1000, "a message may be a little older than the reading before");
        let late = |log_s: u64| when(log_s * SECOND, Some(clocks(130 * SECOND)), 99 * SECOND, 132 * SECOND);
        assert_eq!(late(137).latest_ns, 131 * SECOND + 1000, "after the clocks were read");
        let just_now = when(136 * SECOND, Some(clocks(130 * SECOND)), 99 * SECOND, 130 * SECOND);
        assert_eq!(just_now.latest_ns, 130 * SECOND, "and is never later than it was read");
    }

    #[test]
    fn a_message_that_was_read_late_says_so() {
        let record = Record::parse(b"4,901,7766,-;swiotlb buffer is full\n").unwrap();
        let note = |earliest_s: u64, latest_s: u64, read_s: u64| {
            let when = When { earliest_ns: earliest_s * SECOND, latest_ns: latest_s * SECOND };
            record.cause(when, read_s * SECOND).note
        };
        assert_eq!(note(100, 100, 100), None);
        let read_late = "the kernel had logged the message 16.0 s before it was read";
        assert_eq!(note(100, 100, 116).as_deref(), Some(read_late));
        let uncertain = "the kernel logged the message at some moment of the 16.0 s before it was read";
        assert_eq!(note(100, 116, 116).as_deref(), Some(uncertain));
    }
}
