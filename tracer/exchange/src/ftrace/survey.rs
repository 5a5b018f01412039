//! What a trace holds, and what it shows of its devices: nothing in it says whether they are coherent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};

use hashbrown::{HashMap, HashSet};
use tracer_ebpf::{decide::Decider, streamed::SMALL_BELOW};

use super::convert;
use super::fields::{CallSite, Pointer};
use super::hook;
use super::kept::Keeper;
use super::line::{Line, Parsed, Time, parse};
use super::lines::Lines;
use super::values::{EVENTS, Lists, Values, known};
use bouncescope_capture::event::{Direction, Kind, MAPPING_ERROR};
use bouncescope_capture::facts::Hook;
use bouncescope_capture::names::Subject;

/// A device that maps at so many different distances between its buffers and their DMA addresses is taken to be behind an IOMMU.
const OFFSETS: usize = 4;

/// Trace instances that are told apart; lines of more can't be read.
const INSTANCES: usize = 64;

/// Names of other events that are kept, for messages.
const OTHERS: usize = 64;

/// What a trace shows of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Mappings, single or lists.
    pub mappings: u64,
    /// `swiotlb_bounced` of it.
    pub bounced: u64,
    /// Of it those below twice `ARCH_DMA_MINALIGN`.
    pub bounced_small: u64,
    /// `dma_mask` of its bounces; 0 where it has none.
    pub dma_mask: u64,
    /// Its pool bounces everything, as its bounces say.
    pub forced: bool,
    /// DMA address less physical address of its single mappings that are too long to bounce, or only read, at most a few.
    pub offsets: BTreeSet<u64>,
    /// Its DMA addresses show bounces: they differ from the physical ones inside the page.
    pub displaced: bool,
    /// Lengths of buffers that it wrote, as far as short.
    written: BTreeSet<u64>,
    /// Those of them whose DMA address is the physical one.
    written_in_place: BTreeSet<u64>,
}

impl Seen {
    /// The device maps through an IOMMU, as it seems: there is no one distance between buffers and DMA addresses.
    pub fn seems_translated(&self) -> bool {
        self.offsets.len() >= OFFSETS
    }

    /// Whether it is coherent, as far as the kernel's rule shows it: it bounced a short buffer, or left alone one that it would have
    /// bounced. `None` where neither was seen. Without bounces in the trace (`has_bounces`), only a DMA address that is the physical one
    /// shows that a buffer was left alone.
    pub fn coherent(&self, decider: &Decider, has_bounces: bool) -> Option<bool> {
        if self.bounced_small > 0 || self.displaced && !self.forced {
            return Some(false);
        }
        let would = |len: &u64| decider.needs_bounce(false, Direction::FromDevice as u8, *len);
        let left_alone = if has_bounces { &self.written } else { &self.written_in_place };
        (!self.forced && left_alone.iter().any(would)).then_some(true)
    }
}

/// A trace looked through.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// By name.
    pub devices: BTreeMap<String, Seen>,
    /// Lines by event, of those that are converted.
    pub events: BTreeMap<String, u64>,
    /// Lines of other events.
    pub other_events: u64,
    /// The first names of those.
    pub other_names: BTreeSet<String>,
    /// Events that are lost: those that the trace says it lost, and lines of wanted events that can't be read.
    pub lost: u64,
    /// Lines that are none of a trace, or of an event that cannot be read.
    pub nonsense: u64,
    /// The first of them.
    pub first_nonsense: String,
    /// How many of them name a wanted event, by event.
    pub named_in_nonsense: BTreeMap<String, u64>,
    /// What the file seems to be, or what its lines lack, and what helps; empty where nothing shows it.
    pub looks_like: String,
    /// Trace instances whose buffers were mixed with this one's, with the number of events that are left out because of it.
    pub other_instances: BTreeMap<String, u64>,
    /// The instance that is read; empty for the main one.
    pub(super) instance: String,
    /// Its number, in the order in which instances appear.
    pub(super) instance_number: usize,
    /// Lines are out of the order of their times.
    pub unordered: bool,
    /// Events without a CPU.
    pub without_cpu: u64,
    /// Events whose time is a count of something, not of nanoseconds.
    pub counts_for_times: u64,
    /// Events of objects whose address the kernel did not print yet, early at boot.
    pub without_pointer: u64,
    /// The release that the trace's header names; empty without.
    pub release: String,
    /// The machine that it names; empty without.
    machine: String,
    /// Remainders that the offsets of call sites in their functions leave when divided by 4.
    remainders: [u64; 4],
    last_ns: u64,
    /// Scatterlists whose buffers' lengths cannot be told: the event has the lengths of DMA segments, of which fewer came out.
    pub merged_lists: u64,
    /// The highest CPU number.
    pub last_cpu: u16,
    /// Time of the first event, ns.
    pub first_ns: u64,
}

impl Survey {
    /// Looks through a whole trace.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn of(lines: impl BufRead) -> io::Result<Self> {
        Self::through(lines, None::<&mut Keeper<io::Sink>>)
    }

    /// The same, and keeps its events in `kept`, from which [`Trace::of_kept`](super::Trace::of_kept) reads them: the trace is read once.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or `kept` not written.
    pub fn keeping(lines: impl BufRead, kept: impl Write) -> io::Result<Self> {
        let mut keeper = Keeper::new(kept);
        let survey = Self::through(lines, Some(&mut keeper))?;
        keeper.flush()?;
        Ok(survey)
    }

    fn through<W: Write>(lines: impl BufRead, mut keeper: Option<&mut Keeper<W>>) -> io::Result<Self> {
        let mut lines = Lines::new(lines);
        let mut lists = Lists::default();
        let mut common = Self::default();
        let mut instances: Vec<Self> = vec![Self::new("")];
        let mut counts = vec![Counts::default()];
        while let Some(text) = lines.next()? {
            match parse(&text) {
                Parsed::Event(line) => {
                    let is_main = line.instance.is_empty();
                    let position = || instances.iter().position(|one| one.instance == line.instance);
                    let known = if is_main { Some(0) } else { position() };
                    let Some(at) = known.or((instances.len() < INSTANCES).then_some(instances.len())) else {
                        common.nonsense(&text);
                        continue;
                    };
                    if at == instances.len() {
                        instances.push(Self::new(line.instance));
                        counts.push(Counts::default());
                    }
                    let counts = &mut counts[at];
                    let Some((values, device)) = instances[at].event(&line, &mut lists, counts) else { continue };
                    if let Some(keeper) = &mut keeper {
                        for name in counts.devices.new_names() {
                            keeper.device(at, name);
                        }
                        keeper.event(at, &line, &values, device, &lists)?;
                    }
                }
                Parsed::Lost(count) | Parsed::Overwritten(count) => common.lost = common.lost.saturating_add(count),
                Parsed::Machine(machine) => machine.clone_into(&mut common.machine),
                Parsed::Release(release) => release.clone_into(&mut common.release),
                Parsed::Tracer(tracer) => common.looks_like = of_tracer(tracer),
                Parsed::Nothing => {}
                Parsed::Nonsense => common.nonsense(&text),
            }
        }
        for (instance, counts) in instances.iter_mut().zip(counts) {
            counts.settle(instance);
        }
        // The same events are in each instance where they are enabled: one is read, the one that has most of them.
        let of = |one: &Self| one.events.values().sum::<u64>();
        let most = (0..instances.len()).rev().max_by_key(|at| of(&instances[*at])).unwrap_or(0);
        let mut survey = instances.swap_remove(most);
        survey.instance_number = most;
        let named = |one: &Self| if one.instance.is_empty() { "the main one".to_owned() } else { one.instance.clone() };
        survey.other_instances = instances.iter().filter(|one| of(one) > 0).map(|one| (named(one), of(one))).collect();
        survey.lost = survey.lost.saturating_add(common.lost);
        if survey.nonsense == 0 || common.nonsense > 0 && survey.first_nonsense.is_empty() {
            survey.first_nonsense = common.first_nonsense;
        }
        survey.nonsense += common.nonsense;
        for (event, count) in common.named_in_nonsense {
            *survey.named_in_nonsense.entry(event).or_default() += count;
        }
        if survey.looks_like.is_empty() {
            survey.looks_like = common.looks_like;
        }
        (survey.machine, survey.release) = (common.machine, common.release);
        if survey.first_ns == u64::MAX {
            survey.first_ns = 0;
        }
        Ok(survey)
    }

    fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), first_ns: u64::MAX, ..Self::default() }
    }

    /// Events of a kind were found.
    pub fn has(&self, kind: Kind) -> bool {
        self.events.keys().any(|name| known(name).is_some_and(|event| EVENTS[event].1 == kind))
    }

    /// The machine, as `uname -m` has it: from the trace's header, else from where functions call. `None` where neither tells.
    ///
    /// arm64's instructions are 4 bytes long, those of riscv64 2 or 4, those of x86 of any length; a return address is where one begins.
    pub fn machine(&self) -> Option<&str> {
        if !self.machine.is_empty() {
            return Some(&self.machine);
        }
        match self.remainders {
            [0, 0, 0, 0] => None,
            [_, 0, 0, 0] => Some("aarch64"),
            [_, 0, _, 0] => Some("riscv64"),
            _ => Some("x86_64"),
        }
    }

    pub(super) fn hooks(&self) -> Vec<Hook> {
        let maps = self.has(Kind::Map) || self.has(Kind::MapSg);
        let one = |subject, event: &str, kind| hook(subject, event, self.has(kind));
        vec![
            // Where the trace has no bounce, its event may have been off: a mapping's own addresses are all that shows what became of it.
            one(Subject::Bounced, "swiotlb:swiotlb_bounced", Kind::Bounced),
            hook(Subject::Map, "dma:dma_map_phys", maps),
            hook(Subject::Unmap, "dma:dma_unmap_phys", self.has(Kind::Unmap)),
            hook(Subject::MapSg, "dma:dma_map_sg", maps),
            hook(Subject::MapSgRefused, "dma:dma_map_sg_err", self.events.contains_key("dma_map_sg_err")),
            one(Subject::UnmapSg, "dma:dma_unmap_sg", Kind::UnmapSg),
            one(Subject::Sync, "dma:dma_sync_single_for_cpu", Kind::Sync),
            one(Subject::Kmalloc, "kmem:kmalloc", Kind::Kmalloc),
            one(Subject::Kfree, "kmem:kfree", Kind::Kfree),
        ]
    }

    /// Takes in an event; its values and the number of its device, of one that is wanted and can be read.
    fn event<'a>(&mut self, line: &Line<'a>, lists: &mut Lists, counts: &mut Counts) -> Option<(Values<'a>, u32)> {
        let Some(event) = known(line.event) else {
            counts.other(line.event);
            return None;
        };
        let Some(values) = Values::of(event, line.text, lists) else {
            self.nonsense(&format!("{}: {}", line.event, line.text));
            self.lost += 1;
            return None;
        };
        counts.by_event[event] += 1;
        let time_ns = line.time.ns();
        self.first_ns = self.first_ns.min(time_ns);
        self.unordered |= time_ns < self.last_ns;
        self.last_ns = time_ns;
        self.last_cpu = self.last_cpu.max(line.cpu.unwrap_or(0));
        self.without_cpu += u64::from(line.cpu.is_none());
        self.counts_for_times += u64::from(matches!(line.time, Time::Count(_)));
        if let Values::Kmalloc { site, ptr, .. } | Values::Kfree { site, ptr } = values {
            self.without_pointer += u64::from(ptr == Pointer::NotYet);
            if let CallSite::Named { name, .. } = site
                && let Some(offset) = offset_in_function(name)
            {
                self.remainders[offset as usize % 4] += 1;
            }
        }
        let mut device = 0;
        if let Some(name) = values.device() {
            let seen;
            (device, seen) = counts.devices.named(name);
            self.merged_lists += u64::from(seen.take(&values, lists));
        }
        Some((values, device))
    }

    fn nonsense(&mut self, text: &str) {
        if self.nonsense == 0 {
            self.first_nonsense = text.trim().chars().take(120).collect();
        }
        self.nonsense += 1;
        if self.nonsense > LOOKED_AT {
            return;
        }
        let names = || EVENTS.iter().map(|(name, _)| *name).filter(|name| names_event(text, name));
        for name in names() {
            *self.named_in_nonsense.entry(name.to_owned()).or_default() += 1;
        }
        if self.looks_like.is_empty() {
            let name = names().next();
            looks_like(text, name).clone_into(&mut self.looks_like);
        }
    }
}

/// Lines that can't be read and are looked at for what they may be.
const LOOKED_AT: u64 = 10_000;

/// Whether a line has an event's name, as a word.
fn names_event(text: &str, name: &str) -> bool {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_of_word) && !text[at + name.len()..].starts_with(is_of_word))
}

/// Why a line that can't be read is so, and what helps; `name` is the wanted event that it names.
fn looks_like(text: &str, name: Option<&str>) -> &'static str {
    if text.contains('\0') {
        return "it looks like a binary file of a format that is not known here";
    }
    let Some(name) = name else { return "" };
    let behind = text.split_once(name).map_or("", |(_, behind)| behind);
    let is_time = |word: &str| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        word.trim_start_matches('-')
            .strip_suffix(':')
            .and_then(|time| time.split_once('.'))
            .is_some_and(|(a, b)| digits(a) && digits(b))
    };
    if behind.starts_with('(') {
        "it looks like the output of perf trace: perf script prints lines that can be read"
    } else if behind.trim_matches([':', ' ']).is_empty() {
        "its events have no fields: perf script -F comm,tid,cpu,time,event,trace prints them"
    } else if text.contains(':') && !text.starts_with(name) && !text.split_whitespace().any(is_time) {
        "its lines have no time: perf script -F comm,tid,cpu,time,event,trace prints it"
    } else {
        ""
    }
}

/// What a trace of another tracer has.
fn of_tracer(tracer: &str) -> String {
    let tracer: String = tracer.chars().take(40).collect();
    if tracer == "hist triggers" {
        return "it is a histogram of tracefs, which counts events and does not list them: import the file trace"
            .to_owned();
    }
    format!("it is of tracefs's {tracer}, which has no events of its own: echo nop > current_tracer, and enable events")
}

/// The offset of `function+0x10/0x40`, bytes.
fn offset_in_function(name: &str) -> Option<u64> {
    let plus = memchr::memchr(b'+', name.as_bytes())?;
    let offset = name[plus..].strip_prefix("+0x").or_else(|| Some(name.split_once("+0x")?.1))?;
    let end = memchr::memchr(b'/', offset.as_bytes()).unwrap_or(offset.len());
    u64::from_str_radix(&offset[..end], 16).ok()
}

/// What is counted of an instance while it is read.
#[derive(Debug, Default)]
struct Counts {
    by_event: [u64; EVENTS.len()],
    others: u64,
    other_names: HashSet<String>,
    devices: Devices,
}

/// Devices in the order in which they appear. An event is mostly of the device of the one before.
#[derive(Debug, Default)]
struct Devices {
    numbers: HashMap<String, u32>,
    all: Vec<(String, Seen)>,
    last: usize,
    /// How many of them were given to who asked for new ones.
    given: usize,
}

impl Devices {
    /// The device of this name, and its number.
    fn named(&mut self, name: &str) -> (u32, &mut Seen) {
        if self.all.get(self.last).is_none_or(|(last, _)| last != name) {
            let next = self.all.len() as u32;
            self.last = *self.numbers.entry_ref(name).or_insert(next) as usize;
            if self.last == self.all.len() {
                self.all.push((name.to_owned(), Seen::default()));
            }
        }
        (self.last as u32, &mut self.all[self.last].1)
    }

    /// The names that are new since the last time.
    fn new_names(&mut self) -> impl Iterator<Item = &str> {
        let from = std::mem::replace(&mut self.given, self.all.len());
        self.all[from..].iter().map(|(name, _)| name.as_str())
    }
}

impl Counts {
    /// An event that is not converted.
    fn other(&mut self, event: &str) {
        self.others += 1;
        if self.other_names.len() < OTHERS {
            self.other_names.get_or_insert_with(event, ToOwned::to_owned);
        }
    }

    fn settle(self, survey: &mut Survey) {
        let seen = EVENTS.iter().zip(self.by_event).filter(|(_, count)| *count > 0);
        survey.events = seen.map(|((name, _), count)| ((*name).to_owned(), count)).collect();
        survey.other_events = self.others;
        survey.other_names = self.other_names.into_iter().collect();
        survey.devices = self.devices.all.into_iter().collect();
    }
}

impl Seen {
    /// Takes in an event of the device; whether it is a list whose buffers cannot be told.
    fn take(&mut self, values: &Values<'_>, lists: &Lists) -> bool {
        match *values {
            Values::Bounced { dma_mask, size, forced, .. } => {
                self.bounced += 1;
                self.forced |= forced;
                self.bounced_small += u64::from(size < SMALL_BELOW && !forced);
                self.dma_mask = dma_mask;
            }
            Values::Map { phys, dma_addr, size, direction, .. } => {
                self.mappings += 1;
                // What may have bounced says nothing of the bus.
                if !(size < SMALL_BELOW && direction != Direction::ToDevice)
                    && dma_addr != MAPPING_ERROR
                    && self.offsets.len() < OFFSETS
                {
                    self.offsets.insert(dma_addr.wrapping_sub(phys));
                }
                self.displaced |= convert::is_displaced(phys, dma_addr);
                self.writes(direction, [(size, dma_addr == phys)]);
            }
            Values::MapSg { direction, .. } => {
                self.mappings += 1;
                let Lists { buffers, dma_addrs, lengths, has_lengths } = lists;
                let pairs = || buffers.iter().zip(dma_addrs);
                self.displaced |=
                    !lengths.is_empty() && pairs().any(|(phys, addr)| convert::is_displaced(*phys, *addr));
                let in_place = |n: usize| dma_addrs.get(n).is_some_and(|dma_addr| buffers.get(n) == Some(dma_addr));
                self.writes(direction, lengths.iter().enumerate().map(|(n, length)| (*length, in_place(n))));
                return !has_lengths;
            }
            Values::RefusedSg { .. } => self.mappings += 1,
            _ => {}
        }
        false
    }

    /// Buffers by length, and whether the device got their own address.
    fn writes(&mut self, direction: Direction, buffers: impl IntoIterator<Item = (u64, bool)>) {
        if direction != Direction::ToDevice {
            for (length, in_place) in buffers.into_iter().filter(|(length, _)| *length < SMALL_BELOW) {
                self.written.insert(length);
                if in_place {
                    self.written_in_place.insert(length);
                }
            }
        }
    }
}
