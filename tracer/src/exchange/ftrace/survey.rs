//! What a trace holds, and what it shows of its devices: nothing in it says whether they are coherent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead};

use tracer_ebpf::{decide::Decider, streamed::SMALL_BELOW};

use super::convert;
use super::fields;
use super::hook;
use super::line::{Line, Parsed, parse};
use super::lines::next_line;
use crate::event::{Direction, Kind, MAPPING_ERROR};
use crate::facts::Hook;

/// A device that maps at so many different distances between its buffers and their DMA addresses is taken to be behind an IOMMU.
const OFFSETS: usize = 4;

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
    /// Buffers that it wrote, by length, as far as short.
    written: BTreeMap<u64, u64>,
}

impl Seen {
    /// The device maps through an IOMMU, as it seems: there is no one distance between buffers and DMA addresses.
    pub fn seems_translated(&self) -> bool {
        self.offsets.len() >= OFFSETS
    }

    /// Whether it is coherent, as far as the kernel's rule shows it: it bounced a short buffer, or left alone one that it would have
    /// bounced. `None` where neither was seen.
    pub fn coherent(&self, decider: &Decider) -> Option<bool> {
        if self.bounced_small > 0 {
            return Some(false);
        }
        let would = |len: &u64| decider.needs_bounce(false, Direction::FromDevice as u8, *len);
        (!self.forced && self.written.keys().any(would)).then_some(true)
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
    /// Events that the trace says it lost.
    pub lost: u64,
    /// Lines that are none of a trace, or of an event that cannot be read; the first.
    pub nonsense: u64,
    /// The first of them.
    pub first_nonsense: String,
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
    pub fn of(mut lines: impl BufRead) -> io::Result<Self> {
        let mut survey = Self { first_ns: u64::MAX, ..Self::default() };
        let mut bytes = Vec::new();
        let mut kinds = HashMap::new();
        while next_line(&mut lines, &mut bytes)? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            match parse(&text) {
                Parsed::Event(line) => survey.event(&line, &mut kinds),
                Parsed::Lost(count) | Parsed::Overwritten(count) => survey.lost += count,
                Parsed::Nothing => {}
                Parsed::Nonsense => survey.nonsense(&text),
            }
        }
        survey.events.extend(kinds);
        if survey.first_ns == u64::MAX {
            survey.first_ns = 0;
        }
        Ok(survey)
    }

    /// Events of a kind were found.
    pub fn has(&self, kind: Kind) -> bool {
        self.events.keys().any(|name| convert::kind(name) == Some(kind))
    }

    pub(super) fn hooks(&self) -> Vec<Hook> {
        // What a trace without a bounce says of bounces is only known if the event was on: it is taken to have been where
        // any mapping was traced.
        let maps = self.has(Kind::Map) || self.has(Kind::MapSg);
        let one = |subject: &str, event: &str, kind| hook(subject, event, self.has(kind));
        vec![
            hook("bounced", "swiotlb:swiotlb_bounced", maps),
            hook("map", "dma:dma_map_phys", maps),
            hook("unmap", "dma:dma_unmap_phys", self.has(Kind::Unmap)),
            hook("map_sg", "dma:dma_map_sg", maps),
            hook("map_sg_refused", "dma:dma_map_sg_err", self.events.contains_key("dma_map_sg_err")),
            one("unmap_sg", "dma:dma_unmap_sg", Kind::UnmapSg),
            one("sync", "dma:dma_sync_single_for_cpu", Kind::Sync),
            one("kmalloc", "kmem:kmalloc", Kind::Kmalloc),
            one("kfree", "kmem:kfree", Kind::Kfree),
        ]
    }

    fn event(&mut self, line: &Line<'_>, kinds: &mut HashMap<String, u64>) {
        if convert::kind(line.event).is_none() {
            self.other_events += 1;
            return;
        }
        if !convert::is_whole(line) {
            self.nonsense(&format!("{}: {}", line.event, line.text));
            return;
        }
        self.first_ns = self.first_ns.min(line.time_ns);
        self.last_cpu = self.last_cpu.max(line.cpu);
        if let Some(count) = kinds.get_mut(line.event) {
            *count += 1;
        } else {
            kinds.insert(line.event.to_owned(), 1);
        }
        if let Some(name) = convert::device(line) {
            if !self.devices.contains_key(name) {
                self.devices.insert(name.to_owned(), Seen::default());
            }
            if let Some(seen) = self.devices.get_mut(name) {
                self.merged_lists += u64::from(seen.take(line));
            }
        }
    }

    fn nonsense(&mut self, text: &str) {
        if self.nonsense == 0 {
            self.first_nonsense = text.trim().chars().take(120).collect();
        }
        self.nonsense += 1;
    }
}

impl Seen {
    /// Takes in an event of the device; whether it is a list whose buffers cannot be told.
    fn take(&mut self, line: &Line<'_>) -> bool {
        let text = line.text;
        match convert::kind(line.event) {
            Some(Kind::Bounced) => {
                let size = fields::number(text, "size").unwrap_or(0);
                self.bounced += 1;
                self.forced |= text.ends_with("FORCE");
                self.bounced_small += u64::from(size < SMALL_BELOW && !text.ends_with("FORCE"));
                self.dma_mask = fields::hex(text, "dma_mask").unwrap_or(0);
            }
            Some(Kind::Map) => {
                self.mappings += 1;
                let (dma_addr, phys) = (fields::hex(text, "dma_addr"), fields::hex(text, "phys_addr"));
                // What may have bounced says nothing of the bus.
                let is_short = fields::number(text, "size").is_some_and(|size| size < SMALL_BELOW);
                if let (Some(dma_addr), Some(phys)) = (dma_addr, phys)
                    && !(is_short && fields::direction(text) != Some(Direction::ToDevice))
                    && dma_addr != MAPPING_ERROR
                    && self.offsets.len() < OFFSETS
                {
                    self.offsets.insert(dma_addr.wrapping_sub(phys));
                }
                self.writes(text, fields::number(text, "size").into_iter());
            }
            Some(Kind::MapSg) => {
                self.mappings += 1;
                let lengths = convert::list_lengths(text);
                let untold = lengths.is_none() && line.event == "dma_map_sg";
                self.writes(text, lengths.into_iter().flatten());
                return untold;
            }
            _ => {}
        }
        false
    }

    fn writes(&mut self, text: &str, lengths: impl Iterator<Item = u64>) {
        if fields::direction(text) != Some(Direction::ToDevice) {
            for length in lengths.filter(|length| *length < SMALL_BELOW) {
                *self.written.entry(length).or_default() += 1;
            }
        }
    }
}
