//! Single mappings by device, length and direction: those in a capture, held against the kernel's own count of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    ops::Range,
    path::Path,
};

use anyhow::Result;
use tracer::{
    capture::Reader,
    event::What,
    facts::is_attached,
    names::Subject,
    stream::{Item, Source},
};
use tracer_ebpf::attrs::MMIO;

/// How often each (device, length in bytes, `enum dma_data_direction`) was mapped. The device is empty where its name was not
/// counted by.
pub(super) type Counts = BTreeMap<(String, u64, u64), u64>;

/// Differences that are told one by one.
const TOLD: usize = 5;

/// What a capture holds of the time in which the kernel itself counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Single mappings.
    pub(super) by_buffer: Counts,
    /// Single mappings and lists.
    pub(super) mappings: u64,
    /// Buffers linked into ranges of DMA addresses, of which the kernel has no events; `None` where it links none.
    pub(super) links: Option<u64>,
    /// Device registers; before 6.18 the kernel's events of mappings do not count them, and neither does `mappings`.
    pub(super) registers: u64,
    /// `swiotlb_bounced` events.
    pub(super) bounced: u64,
    /// Lists of which no function is named that mapped them.
    pub(super) without_caller: u64,
}

/// A source, of its events only those of that time.
pub(super) struct Within<'a, S> {
    pub(super) source: S,
    pub(super) time_ns: &'a Range<u64>,
}

impl<'a> Within<'a, Reader<BufReader<File>>> {
    pub(super) fn open(capture: &Path, time_ns: &'a Range<u64>) -> Result<Self> {
        Ok(Self { source: Reader::open(capture)?, time_ns })
    }
}

impl<S: Source> Source for Within<'_, S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        let mut item = self.source.next_item()?;
        if let Some(Item::Events(batch)) = &mut item {
            batch.events.retain(|event| self.time_ns.contains(&event.time_ns));
        }
        Ok(item)
    }
}

/// Those that happened in that time (`CLOCK_MONOTONIC`, ns); by device only where the kernel's own count is.
pub(super) fn in_capture(capture: &Path, time_ns: &Range<u64>, by_device: bool) -> Result<Recorded> {
    counted(Within::open(capture, time_ns)?, by_device)
}

/// Those of a source; by device only where that is wanted.
pub(super) fn counted(mut within: impl Source, by_device: bool) -> Result<Recorded> {
    let (mut names, mut recorded) = (Vec::new(), Recorded::default());
    let mut registers_apart = false;
    let (mut callers, mut named) = (BTreeMap::<u64, u64>::new(), BTreeSet::new());
    while let Some(item) = within.next_item()? {
        match item {
            Item::Start(start) => {
                recorded.links = is_attached(&start.hooks, &Subject::IovaLink).then_some(0);
                registers_apart = is_attached(&start.hooks, &Subject::MapResource);
            }
            Item::Device(device) => names.push(device.name),
            Item::Events(batch) => {
                for event in batch.events {
                    match event.what {
                        What::Map { attrs, .. } if attrs & MMIO != 0 && registers_apart => recorded.registers += 1,
                        What::Map { device, size, direction, attrs, .. } => {
                            recorded.registers += u64::from(attrs & MMIO != 0);
                            let name = names.get(device.0 as usize).filter(|_| by_device).cloned().unwrap_or_default();
                            *recorded.by_buffer.entry((name, size, direction as u64)).or_default() += 1;
                            recorded.mappings += 1;
                        }
                        What::MapSg { caller, .. } => {
                            recorded.mappings += 1;
                            *callers.entry(caller).or_default() += 1;
                        }
                        What::Link { .. } => *recorded.links.get_or_insert_default() += 1,
                        What::Bounced { .. } => recorded.bounced += 1,
                        _ => {}
                    }
                }
            }
            Item::Symbols(symbols) => named.extend(symbols.iter().map(|symbol| symbol.addr)),
            _ => {}
        }
    }
    recorded.without_caller =
        callers.iter().filter(|(caller, _)| !named.contains(*caller)).map(|(_, lists)| lists).sum();
    Ok(recorded)
}

/// What the capture has more or fewer of than the kernel counted, a line each; of many only the first. As many as were `skipped` may
/// be missing.
pub(super) fn differences(capture: &Counts, kernel: &Counts, skipped: u64) -> Vec<String> {
    let keys: BTreeSet<_> = capture.keys().chain(kernel.keys()).collect();
    let count = |counts: &Counts, key| counts.get(key).copied().unwrap_or(0);
    let missing: u64 = kernel.iter().map(|(key, counted)| counted.saturating_sub(count(capture, key))).sum();
    if missing <= skipped && capture.iter().all(|(key, recorded)| *recorded <= count(kernel, key)) {
        return Vec::new();
    }
    let differing = keys.into_iter().filter(|key| count(capture, key) != count(kernel, key));
    let mut lines: Vec<_> = differing
        .map(|key| {
            let (device, size, direction) = key;
            let (recorded, counted) = (count(capture, key), count(kernel, key));
            format!("{recorded} mappings of {size} bytes, direction {direction} {device}, tracefs counted {counted}")
        })
        .collect();
    if lines.len() > TOLD {
        let more = lines.len() - TOLD;
        lines.truncate(TOLD);
        lines
            .push(format!("and {more} more lengths and directions that were not recorded as often as tracefs counted"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(entries: &[(u64, u64)]) -> Counts {
        entries.iter().map(|&(size, count)| ((String::new(), size, 2), count)).collect()
    }

    #[test]
    fn every_length_that_differs_is_a_line_and_of_many_only_the_first() {
        assert_eq!(differences(&counts(&[(8, 3)]), &counts(&[(8, 3)]), 0), Vec::<String>::new());
        let lines = differences(&counts(&[(8, 3), (18, 1)]), &counts(&[(8, 4)]), 9);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("3 mappings of 8 bytes") && lines[0].ends_with("counted 4"), "{lines:?}");
        let many: Vec<_> = (1..=9).map(|size| (size, 1)).collect();
        let lines = differences(&counts(&many), &Counts::new(), 0);
        assert!(lines.len() == 6 && lines[5].contains("4 more"), "{lines:?}");
    }

    #[test]
    fn no_more_may_be_missing_than_was_skipped() {
        let (recorded, counted) = (counts(&[(8, 3)]), counts(&[(8, 4), (18, 1)]));
        assert_eq!(differences(&recorded, &counted, 2), Vec::<String>::new());
        assert_eq!(differences(&recorded, &counted, 1).len(), 2);
    }
}
