//! What makes the flight recorder write a file: the kernel's log, slots in use, a signal; and how often it may.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    fs::{Mode, OFlags, SeekFrom, open, seek},
    io::{Errno, read},
};
use tracer::{
    facts::PoolSample,
    plain::{plain, shortened},
};

/// The kernel's log, record by record (`Documentation/ABI/testing/dev-kmsg`).
const KMSG: &str = "/dev/kmsg";
/// Longer than any record (`PRINTK_MESSAGE_MAX`, `kernel/printk/internal.h`).
const RECORD: usize = 16 << 10;
/// Records that are read at one time, so that a kernel that logs without end does not keep out everything else.
const MOST_RECORDS: usize = 4096;
/// Reasons that one file names.
const MOST_REASONS: usize = 8;
/// Characters of a message in such a reason.
const LONGEST_REASON: usize = 160;

/// The new messages of the kernel.
pub(super) struct KernelLog {
    kmsg: OwnedFd,
    texts: Vec<String>,
}

impl KernelLog {
    /// From now on. With `kernel.dmesg_restrict` this takes `CAP_SYSLOG`, reading later on does not.
    pub(super) fn open(texts: &[String]) -> Result<Option<Self>> {
        if texts.is_empty() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = open(KMSG, flags, Mode::empty()).and_then(|kmsg| seek(&kmsg, SeekFrom::End(0)).map(|_| kmsg));
        let kmsg = opened.with_context(|| {
            format!("--on-message reads {KMSG}, which needs root, or CAP_SYSLOG where kernel.dmesg_restrict is 1")
        })?;
        Ok(Some(Self { kmsg, texts: texts.to_vec() }))
    }

    /// Those of the messages that came since the last time that hold one of the texts.
    pub(super) fn matches(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut record = vec![0; RECORD];
        for _ in 0..MOST_RECORDS {
            match read(&self.kmsg, &mut record[..]) {
                Ok(0) => break,
                Ok(length) => found.extend(self.reason(&record[..length])),
                // EPIPE: records were overwritten before they were read; the next read goes on behind them.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(_) => break,
            }
        }
        found
    }

    fn reason(&self, record: &[u8]) -> Option<String> {
        let message = message(record)?;
        self.texts.iter().any(|text| message.contains(text)).then(|| format!("a kernel message: {}", worded(&message)))
    }
}

/// The text of a record: `priority,number,time,flags;text`, then a line for each of its properties.
fn message(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (_, message) = text.lines().next()?.split_once(';')?;
    Some(message.to_owned())
}

/// As it may stand on a terminal.
pub(super) fn worded(message: &str) -> String {
    plain(&shortened(message, LONGEST_REASON)).into_owned()
}

/// So many slots in use, or so many of a hundred of those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    Number(u64),
    Percent(u64),
}

impl Slots {
    /// From the command line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be a number of slots, such as 400, or a part of the pool, such as 80%".to_owned();
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or_else(wrong);
        match text.strip_suffix('%') {
            Some(percent) => number(percent).and_then(|of| if of > 100 { Err(wrong()) } else { Ok(Self::Percent(of)) }),
            None => number(text).map(Self::Number),
        }
    }

    fn of(self, sample: &PoolSample) -> u64 {
        match self {
            Self::Number(slots) => slots,
            Self::Percent(percent) => (sample.slots.saturating_mul(percent)).div_ceil(100),
        }
    }
}

/// Watches how full the pool is.
#[derive(Debug)]
pub(super) struct Fullness {
    slots: Slots,
    /// It was that full the last time.
    was_full: bool,
    /// `None` until the first sample: its mark may be of long before.
    mark: Option<u64>,
}

impl Fullness {
    pub(super) fn new(slots: Slots) -> Self {
        Self { slots, was_full: false, mark: None }
    }

    /// The reason, when the pool has become that full since the last sample: by the sample itself, or by the kernel's high-water mark.
    pub(super) fn reason(&mut self, sample: &PoolSample) -> Option<String> {
        let enough = self.slots.of(sample);
        let mark = sample.hiwater_slots.unwrap_or(0);
        let is_lifted = self.mark.is_some_and(|before| mark > before);
        let most = if is_lifted { mark.max(sample.used_slots) } else { sample.used_slots };
        let has_filled = most >= enough && enough > 0 && !self.was_full;
        self.was_full = sample.used_slots >= enough;
        self.mark = self.mark.max(Some(mark));
        has_filled.then(|| format!("{most} of {} slots in use", sample.slots))
    }
}

/// A file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// When the first of the reasons came.
    pub(super) at: Instant,
    pub(super) reasons: Vec<String>,
    /// Reasons that came too soon after an earlier file.
    pub(super) suppressed: u64,
}

/// Decides which triggers make a file.
#[derive(Debug)]
pub(super) struct Triggers {
    after: Duration,
    interval: Duration,
    pending: Option<Pending>,
    latest: Option<Instant>,
    suppressed: u64,
    /// Reasons that came too soon, in all.
    pub(super) all_suppressed: u64,
    /// Reasons, in all.
    pub(super) all: u64,
}

impl Triggers {
    /// A file is written `after` its trigger, and none for a trigger within `interval` of that of another file.
    pub(super) fn new(after: Duration, interval: Duration) -> Self {
        Self { after, interval, pending: None, latest: None, suppressed: 0, all_suppressed: 0, all: 0 }
    }

    /// Something happened.
    pub(super) fn came(&mut self, reason: String, now: Instant) {
        self.all += 1;
        match &mut self.pending {
            Some(pending) if pending.reasons.contains(&reason) => {}
            Some(pending) if pending.reasons.len() < MOST_REASONS => pending.reasons.push(reason),
            Some(_) => {}
            None if self.latest.is_some_and(|latest| now.duration_since(latest) < self.interval) => {
                self.suppressed += 1;
                self.all_suppressed += 1;
            }
            None => {
                self.latest = Some(now);
                self.pending = Some(Pending { at: now, reasons: vec![reason], suppressed: 0 });
            }
        }
    }

    /// A file that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Pending> {
        self.pending.as_ref().filter(|pending| now.duration_since(pending.at) >= self.after)?;
        self.take()
    }

    /// A file that is due or will be, when recording ends.
    pub(super) fn take(&mut self) -> Option<Pending> {
        let pending = self.pending.take()?;
        Some(Pending { suppressed: std::mem::take(&mut self.suppressed), ..pending })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn the_text_of_a_record_is_told_from_its_numbers_and_properties() {
        let record = b"4,901,7766,-;xhci_hcd 0000:00:04.0: swiotlb buffer is full (sz: 18 bytes)\n SUBSYSTEM=pci\n";
        let text = message(record).unwrap();
        assert_eq!(text, "xhci_hcd 0000:00:04.0: swiotlb buffer is full (sz: 18 bytes)");
        assert_eq!(message(b"nothing of the kind"), None);
        assert_eq!(worded("a\x1b[2Jb"), r"a\u{1b}[2Jb");
    }

    #[test]
    fn a_threshold_is_a_number_of_slots_or_a_part_of_the_pool() {
        assert_eq!(Slots::parse("400"), Ok(Slots::Number(400)));
        assert_eq!(Slots::parse("80%"), Ok(Slots::Percent(80)));
        for wrong in ["", "0", "0%", "101%", "many", "-3"] {
            assert!(Slots::parse(wrong).unwrap_err().contains("number of slots"), "{wrong}");
        }
    }

    #[test]
    fn a_pool_that_fills_is_told_once_and_a_burst_between_samples_by_the_mark() {
        let mut fullness = Fullness::new(Slots::Percent(80));
        let mut at = |used_slots, mark| {
            let sample = PoolSample { slots: 512, used_slots, hiwater_slots: Some(mark), ..PoolSample::default() };
            fullness.reason(&sample)
        };
        assert_eq!(at(100, 100), None);
        assert_eq!(at(410, 420).as_deref(), Some("420 of 512 slots in use"));
        assert_eq!(at(500, 500), None, "it has been full since");
        assert_eq!(at(10, 500), None);
        assert_eq!(at(10, 512).as_deref(), Some("512 of 512 slots in use"), "in between");
        assert_eq!(at(11, 512), None);
    }

    #[test]
    fn a_mark_of_before_the_recording_is_no_reason() {
        let mut fullness = Fullness::new(Slots::Percent(80));
        let mut at = |used_slots, mark| {
            let sample = PoolSample { slots: 512, used_slots, hiwater_slots: Some(mark), ..PoolSample::default() };
            fullness.reason(&sample)
        };
        assert_eq!(at(0, 512), None);
        assert_eq!(at(500, 512).as_deref(), Some("500 of 512 slots in use"));
    }

    #[test]
    fn a_trigger_makes_a_file_later_and_those_meanwhile_are_of_the_same() {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        let mut triggers = Triggers::new(5 * second, 60 * second);
        triggers.came("one".into(), now);
        triggers.came("two".into(), now + second);
        triggers.came("one".into(), now + 2 * second);
        assert_eq!(triggers.due(now + 4 * second), None);
        let due = triggers.due(now + 5 * second).unwrap();
        assert_eq!((due.at, due.reasons), (now, vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(triggers.due(now + 6 * second), None, "once");
    }

    #[test]
    fn triggers_that_come_too_soon_make_no_file_and_are_counted() {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        let mut triggers = Triggers::new(second, 60 * second);
        let mut files = VecDeque::new();
        for at in 0..200 {
            triggers.came(format!("at {at}"), now + at * second);
            files.extend(triggers.due(now + at * second));
        }
        assert_eq!(files.len(), 4);
        let joined = files.iter().map(|file| file.reasons.len() as u64).sum::<u64>();
        assert_eq!(joined + triggers.all_suppressed, triggers.all);
        let told: Vec<u64> = files.iter().map(|file| file.suppressed).collect();
        assert_eq!(told, [0, 58, 58, 58], "of a minute each, two are of the file itself");
    }
}
