//! From records to messages: wrapped lines joined, repeats counted, call traces and oopses read, boots separated.

use std::collections::HashMap;

use super::Unread;
use super::machine::Machine;
use super::message::{self, Message};
use super::record::{self, Record};

/// Different messages that are kept; a log of one machine has dozens.
const MOST_GROUPS: usize = 4096;
/// Boots that are separated; further ones count as the last.
const MOST_BOOTS: usize = 256;
/// Lines that one message may be wrapped into.
const MOST_PIECES: usize = 8;
/// Records that a call trace may take.
const TRACE: u32 = 120;
/// Functions of a call trace that are kept.
const MOST_FUNCTIONS: usize = 64;
/// Lines that were not understood and are shown.
const MOST_UNREAD: usize = 5;

/// Lines alike: of one boot, message, device and size.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) message: Message,
    /// Index of its boot.
    pub(super) boot: usize,
    pub(super) line: usize,
    pub(super) times: u64,
    pub(super) suppressed: u64,
    /// The message's own words, as the first line has them.
    pub(super) words: String,
    pub(super) device: Option<String>,
    /// The fullest moment, slots.
    pub(super) most_used: u64,
    /// Functions of the call trace behind it.
    pub(super) functions: Vec<String>,
}

/// How full one pool was from message to message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fill {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) samples: u64,
    pub(super) falls: u64,
    /// The fewest of all.
    pub(super) least: u64,
    pub(super) first_time: Option<f64>,
    pub(super) last_time: Option<f64>,
}

impl Fill {
    fn add(&mut self, used: u64, time: Option<f64>) {
        if self.samples == 0 {
            self.first = used;
            self.first_time = time;
            self.least = used;
        }
        self.least = self.least.min(used);
        self.falls += u64::from(self.samples > 0 && used < self.last);
        self.last = used;
        self.last_time = time;
        self.samples += 1;
    }

    /// Rising from the first message to the last, by no less than a 64th of the pool and with few steps down, and nearly full at
    /// its end.
    pub(super) fn is_rising(&self, total: u64) -> bool {
        let rise = self.last.saturating_sub(self.first);
        let is_steep = rise > 0 && rise >= total / 64;
        self.samples >= 3 && is_steep && self.falls * 4 <= self.samples && self.last >= total / 10 * 9
    }

    /// How long, in seconds, it was full in each of several messages.
    pub(super) fn stays_full(&self, total: u64) -> Option<f64> {
        /// What comes in one burst says nothing.
        const LONG: f64 = 600.0;
        let seconds = self.last_time? - self.first_time?;
        (self.samples >= 3 && self.least >= total - total / 50 && seconds >= LONG).then_some(seconds)
    }
}

/// An oops that may be on the pool's path.
struct Oops {
    line: usize,
    text: String,
    functions: Vec<String>,
    /// KASAN or KFENCE found it.
    checker: bool,
    abort: bool,
    lockup: bool,
    left: u32,
}

/// Everything read.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) boots: Vec<Machine>,
    pub(super) groups: Vec<Group>,
    /// By boot and size of the pool, slots.
    pub(super) fills: HashMap<(usize, u64), Fill>,
    pub(super) records: u64,
    pub(super) kernel_records: u64,
    pub(super) unread: Vec<Unread>,
    pub(super) unread_times: u64,
    pub(super) left_out: u64,
    index: HashMap<String, usize>,
    /// The message whose call trace is being read, and how many records of it may follow.
    traced: Option<(usize, u32)>,
    /// The message that a logger's "last message repeated" is about.
    last_group: Option<usize>,
    /// Suppressed before anything was printed.
    suppressed: u64,
    oops: Option<Oops>,
    held: Vec<Record>,
}

impl Reading {
    pub(super) fn of(log: &str) -> Self {
        let mut reading = Self { boots: vec![Machine::default()], ..Self::default() };
        record::each(log, |record| reading.join(record));
        reading.flush();
        reading.end_oops();
        // Maps of lines that are no longer wanted.
        reading.index = HashMap::new();
        reading
    }

    /// Holds a line back that may go on in the next, as mail and terminals wrap them.
    fn join(&mut self, record: Record) {
        if record.text.is_empty() {
            return;
        }
        if record.has_prefix || self.held.len() >= MOST_PIECES || self.held.is_empty() {
            self.flush();
        }
        self.held.push(record);
        if self.held.len() == 1 {
            if !is_begun(&self.held[0]) {
                self.flush();
            }
        } else if self.joined().is_some_and(|text| is_complete(&text)) {
            self.flush();
        }
    }

    /// The held lines as one, joined as mail does it (at a blank) or a terminal (anywhere).
    fn joined(&self) -> Option<String> {
        let pieces = || self.held.iter().map(|record| record.text.as_str());
        let first = self.held.first()?.text.len();
        let fact = is_fact(&self.held[0].text).then(|| pieces().collect::<Vec<_>>().join(" "));
        let fits = |text: &String| message::find(text).is_some_and(|found| found.at < first);
        let candidates = [pieces().collect::<Vec<_>>().join(" "), pieces().collect::<String>()];
        let best = candidates.iter().find(|text| is_complete(text) && fits(text));
        fact.or_else(|| best.or_else(|| candidates.iter().find(|text| fits(text))).cloned())
    }

    fn flush(&mut self) {
        let alone = self.held.len() > 1
            && !is_fact(&self.held[0].text)
            && self.held[1..].iter().any(|record| message::find(&record.text).is_some());
        let wanted = |text: &String| is_fact(text) || is_complete(text);
        let joined = if self.held.len() > 1 && !alone { self.joined().filter(wanted) } else { None };
        let held = std::mem::take(&mut self.held);
        match joined {
            Some(text) => {
                let first = held.into_iter().next().unwrap_or_default();
                self.take(&Record { text, ..first });
            }
            None => held.iter().for_each(|record| self.take(record)),
        }
    }

    fn take(&mut self, record: &Record) {
        self.records += 1;
        self.kernel_records += u64::from(record.has_prefix);
        let text = record.text.as_str();
        // "-- Boot …" may be the very first line.
        let is_first = self.records == 1;
        if !is_first && self.boots[self.boots.len() - 1].ends_before(text, record.time) && self.boots.len() < MOST_BOOTS
        {
            self.end_oops();
            self.boots.push(Machine::default());
            (self.traced, self.last_group, self.suppressed) = (None, None, 0);
        }
        let boot = self.boots.len() - 1;
        self.boots[boot].learn(text, record.time);
        if self.take_counts(text) {
            return;
        }
        self.take_frame(record);
        let Some(found) = message::find(text) else {
            if message::is_about_bouncing(text) {
                self.unread_times += 1;
                if self.unread.len() < MOST_UNREAD {
                    self.unread.push(Unread { line: record.line, text: text.chars().take(200).collect() });
                }
            }
            return;
        };
        self.learn(boot, &found.message);
        self.add(record, boot, found);
    }

    /// "22211 callbacks suppressed", "last message repeated 5 times".
    fn take_counts(&mut self, text: &str) -> bool {
        let number_before = |words: &str| {
            text.split_once(words).and_then(|(before, _)| before.split_whitespace().next_back()?.parse::<u64>().ok())
        };
        if text.contains("swiotlb")
            && let Some(count) = number_before(" callbacks suppressed")
        {
            let full =
                |group: &&mut Group| matches!(group.message, Message::Full { .. } | Message::FullWithoutFill { .. });
            let boot = self.boots.len() - 1;
            match self.groups.iter_mut().rev().filter(|group| group.boot == boot).find(full) {
                Some(group) => group.suppressed = group.suppressed.saturating_add(count),
                None => self.suppressed = self.suppressed.saturating_add(count),
            }
            return true;
        }
        if text.contains("last message repeated ")
            && let Some(count) = number_before(" times")
        {
            if let Some(last) = self.last_group {
                self.groups[last].times = self.groups[last].times.saturating_add(count);
            }
            return true;
        }
        false
    }

    /// Frames belong to the message before them, and to an oops.
    fn take_frame(&mut self, record: &Record) {
        let text = record.text.as_str();
        if message::begins_oops(text) {
            self.traced = None;
            let oops = self.oops.get_or_insert_with(|| Oops {
                line: record.line,
                text: text.chars().take(200).collect(),
                functions: Vec::new(),
                checker: false,
                abort: false,
                lockup: false,
                left: TRACE,
            });
            oops.checker |= ["KASAN", "KFENCE"].iter().any(|name| text.contains(name));
            oops.abort |= text.contains("external abort") || text.contains("SError");
            oops.lockup |= ["soft lockup", "hard LOCKUP", "stall"].iter().any(|words| text.contains(words));
        }
        if let Some(name) = message::frame(text) {
            let functions = match (&mut self.oops, self.traced) {
                (Some(oops), _) => Some(&mut oops.functions),
                (None, Some((group, _))) => Some(&mut self.groups[group].functions),
                (None, None) => None,
            };
            if let Some(functions) = functions.filter(|functions| functions.len() < MOST_FUNCTIONS) {
                functions.push(name.to_owned());
            }
        }
        let is_end = text.contains("---[ end trace");
        if let Some((_, left)) = &mut self.traced {
            *left = if is_end { 0 } else { left.saturating_sub(1) };
        }
        self.traced = self.traced.filter(|(_, left)| *left > 0);
        if let Some(oops) = &mut self.oops {
            oops.left = if is_end { 0 } else { oops.left.saturating_sub(1) };
            if oops.left == 0 {
                self.end_oops();
            }
        }
    }

    fn end_oops(&mut self) {
        let Some(oops) = self.oops.take() else { return };
        let has = |word: &str| oops.functions.iter().any(|function| function.contains(word));
        if !has("swiotlb_") {
            // `arch/arm64/mm/cache.S` and `arch_sync_dma_for_device()`; before 5.14 `__clean_dcache_area_poc()` and `__dma_*_area()`.
            let maintains =
                ["arch_sync_dma_for_", "dcache_clean_poc", "dcache_inval_poc", "dcache_clean_inval_poc", "__dma_"];
            let maps = ["dma_direct_", "dma_map_", "dma_sync_", "dma_unmap_", "iommu_dma_"];
            if !oops.lockup && maintains.iter().any(|name| has(name)) && maps.iter().any(|name| has(name)) {
                let found = message::Found { message: Message::MaintenanceOops, device: None, at: 0 };
                let record = Record { line: oops.line, text: oops.text, ..Record::default() };
                self.add(&record, self.boots.len() - 1, found);
            }
            return;
        }
        let copy = has("swiotlb_bounce")
            || (has("memcpy") && (has("swiotlb_tbl_map_single") || has("swiotlb_map") || has("swiotlb_tbl_unmap")));
        let found = message::Found {
            message: Message::Oops { copy, checker: oops.checker, abort: oops.abort, lockup: oops.lockup },
            device: None,
            at: 0,
        };
        let record = Record { line: oops.line, text: oops.text, ..Record::default() };
        self.add(&record, self.boots.len() - 1, found);
    }

    /// What a message says of the machine.
    fn learn(&mut self, boot: usize, message: &Message) {
        let machine = &mut self.boots[boot];
        match message {
            Message::Mapped(pool) => (machine.pool, machine.pool_given_up) = (Some(*pool), false),
            Message::GivenUp => machine.pool_given_up = true,
            Message::Failed { bytes } => {
                machine.pool_failed = true;
                machine.smallest_failed = match (machine.smallest_failed, *bytes) {
                    (Some(known), Some(bytes)) => Some(known.min(bytes)),
                    (known, bytes) => known.or(bytes),
                };
            }
            Message::NotMade | Message::XenFailed => machine.pool_failed = true,
            Message::GrowFailed => machine.pool_grows = true,
            Message::Areas(areas) => machine.areas = Some(*areas),
            Message::Restricted(pool) if machine.restricted.len() < MOST_BOOTS => machine.restricted.push(*pool),
            _ => {}
        }
    }

    fn add(&mut self, record: &Record, boot: usize, found: message::Found) {
        // Kernels up to 4.19 print both lines for one mapping that failed.
        let is_second = record.text.contains("Out of SW-IOMMU space")
            && self.last_group.is_some_and(|last| {
                let group = &self.groups[last];
                group.message == found.message
                    && group.device == found.device
                    && group.words.starts_with("swiotlb buffer is full")
            });
        let times = u64::from(!is_second) + record.repeated;
        if let Message::Full { used, total, .. } = found.message {
            self.fills.entry((boot, total)).or_default().add(used, record.time);
        }
        let used = if let Message::Full { used, .. } = found.message { used } else { 0 };
        let key = format!("{boot} {:?} {:?}", found.device, alike(&found.message));
        let known = self.index.get(&key).copied();
        let index = if let Some(index) = known {
            let group = &mut self.groups[index];
            // x86 prints the pool's line twice; why there is none may take two lines.
            if !matches!(group.message, Message::Mapped(_) | Message::NotMade) {
                group.times = group.times.saturating_add(times);
            }
            group.most_used = group.most_used.max(used);
            index
        } else if self.groups.len() < MOST_GROUPS {
            let suppressed =
                if matches!(found.message, Message::Full { .. }) { std::mem::take(&mut self.suppressed) } else { 0 };
            self.groups.push(Group {
                boot,
                line: record.line,
                times,
                suppressed,
                words: without_quotes(&record.text[found.at..]).to_owned(),
                device: found.device,
                most_used: used,
                functions: Vec::new(),
                message: found.message,
            });
            self.index.insert(key, self.groups.len() - 1);
            self.groups.len() - 1
        } else {
            self.left_out += 1;
            return;
        };
        self.last_group = Some(index);
        self.traced = Some((index, TRACE));
    }
}

/// The message without what differs between lines that mean the same.
fn alike(message: &Message) -> Message {
    match message.clone() {
        Message::Full { size, total, .. } => Message::Full { size, total, used: 0 },
        Message::Overflow(mut overflow) => {
            overflow.addr >>= 30;
            Message::Overflow(overflow)
        }
        Message::PoolOverflow(mut overflow) => {
            overflow.addr = 0;
            Message::PoolOverflow(overflow)
        }
        Message::OldOverflow(mut overflow) => {
            overflow.addr >>= 30;
            Message::OldOverflow(overflow)
        }
        other => other,
    }
}

/// A message without what is left behind it of where it was copied from: quotes, a table, JSON.
fn without_quotes(text: &str) -> &str {
    text.trim_end_matches(|c: char| c.is_whitespace() || "`|\"'}".contains(c))
}

/// Lines of facts that a mailer wraps.
fn is_fact(text: &str) -> bool {
    text.starts_with("Kernel command line: ") || text.starts_with("Linux version ")
}

/// A line that may go on in the next one.
fn is_begun(record: &Record) -> bool {
    let text = record.text.as_str();
    let begins = ["swiotlb", "DMA addr", "software IO TLB", "DMA", "SWIOTLB", "restricted DMA", "overflow"];
    is_fact(text) && record.has_prefix || begins.iter().any(|words| text.contains(words)) && !is_complete(text)
}

fn is_complete(text: &str) -> bool {
    message::find(text).is_some_and(|found| {
        !matches!(
            found.message,
            Message::FullWithoutFigures | Message::FullWithoutFill { .. } | Message::BeyondMapping { wanted: None, .. }
        )
    })
}
