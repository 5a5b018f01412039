//! What a guest's own kernel counted during a recording, and what its workload saw: the files `NAME.COUNT.hist` and
//! `NAME.result` that its init left on the share. Reading only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

use super::mappings::Counts;

/// Longest length of which every one is to be mapped, bytes.
const LENGTHS: u64 = 512;

/// The kernel's and the workload's side of a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Witness {
    /// `swiotlb_bounced` hits.
    pub(super) bounced: u64,
    /// The same by device.
    pub(super) bounced_by_device: BTreeMap<String, u64>,
    /// `dma_map_page` or `dma_map_phys` hits, or where there are no such events calls of `dma_map_page_attrs()`.
    pub(super) maps: u64,
    /// The same by device (where that is counted), length and direction.
    pub(super) by_buffer: Counts,
    /// `dma_map_sg` hits, which do not include lists that could not be mapped; or calls of the functions, which do.
    pub(super) lists: u64,
    /// (length, direction) of 1..=512 × {`TO_DEVICE`, `FROM_DEVICE`} that were never mapped.
    pub(super) unmapped_lengths: usize,
    /// `KEY=VALUE` of `NAME.result`.
    pub(super) facts: BTreeMap<String, String>,
}

impl Witness {
    /// Reads what `share` holds of recording `name`.
    pub(super) fn read(share: &Path, name: &str) -> Result<Self> {
        let text = |suffix: &str| {
            let file = share.join(format!("{name}.{suffix}"));
            fs::read_to_string(&file).with_context(|| format!("the guest left no {}", file.display()))
        };
        let facts = text("result")?;
        let facts = facts.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
        let map = Histogram::parse(&text("map.hist")?)?;
        let lists = Histogram::parse(&text("map_sg.hist")?)?.hits;
        // Only of kernels without events of mappings.
        let tables = text("map_sgtable.hist").ok().map(|text| Histogram::parse(&text)).transpose()?;
        let bounced = text("bounced.hist")?;
        Ok(Self {
            bounced: Histogram::parse(&bounced)?.hits,
            bounced_by_device: by_device(&bounced),
            maps: map.hits,
            lists: lists + tables.map_or(0, |tables| tables.hits),
            unmapped_lengths: map.missing_lengths(),
            by_buffer: map.counts,
            facts: facts.collect(),
        })
    }

    /// When it counted, ns (`CLOCK_MONOTONIC`).
    pub(super) fn time_ns(&self) -> Result<Range<u64>> {
        let time =
            |key: &str| self.facts.get(key).and_then(|text| text.parse().ok()).with_context(|| format!("no {key}"));
        Ok(time("counted_from_ns")?..time("counted_to_ns")?)
    }

    /// A number among the facts.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.facts.get(key)?.parse().ok()
    }
}

/// Hits by the key `dev_name`.
fn by_device(text: &str) -> BTreeMap<String, u64> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once("dev_name: ")?.1.split_once([',', ' '])?;
        let hits = rest.split_once("hitcount:")?.1.trim();
        Some((device.to_owned(), hits.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

/// A hist trigger's output (`Documentation/trace/histogram.rst`).
#[derive(Debug, Default, PartialEq, Eq)]
struct Histogram {
    hits: u64,
    /// Hits of every entry that has a length and a direction.
    counts: Counts,
}

impl Histogram {
    fn parse(text: &str) -> Result<Self> {
        let number = |line: &str, name: &str| -> Option<u64> {
            let rest = &line[line.find(name)? + name.len()..];
            rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let total = |name: &str| text.lines().find_map(|line| number(line.trim_start(), name));
        ensure!(total("Dropped:") == Some(0), "the kernel's own count is incomplete or was not taken: {text:.200}");
        let entry = |line: &str| {
            let device = line.split_once("device:").and_then(|(_, rest)| rest.split_once(','));
            let device = device.map_or("", |(device, _)| device.trim()).to_owned();
            Some(((device, number(line, "size:")?, number(line, "dir:")?), number(line, "hitcount:")?))
        };
        let counts = text.lines().filter_map(entry).collect();
        Ok(Self { hits: total("Hits:").context("a histogram without total")?, counts })
    }

    fn missing_lengths(&self) -> usize {
        let mapped: BTreeSet<_> = self.counts.keys().map(|&(_, size, direction)| (size, direction)).collect();
        (1..=LENGTHS).flat_map(|length| [(length, 1), (length, 2)]).filter(|key| !mapped.contains(key)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIST: &str = "# event histogram\n#\n# trigger info: hist:keys=size,dir:vals=hitcount:sort=hitcount:size=16384 \
                        [active]\n#\n\n{ size:         18, dir:          2 } hitcount:          7\n{ size:        512, dir:          \
                        1 } hitcount:          1\n\nTotals:\n    Hits: 8\n    Entries: 2\n    Dropped: 0\n";

    #[test]
    fn totals_and_keys_of_a_histogram_are_read() {
        let histogram = Histogram::parse(HIST).unwrap();
        let key = |size, direction| (String::new(), size, direction);
        assert_eq!(histogram, Histogram { hits: 8, counts: [(key(18, 2), 7), (key(512, 1), 1)].into() });
        assert_eq!(histogram.missing_lengths(), 1022);
    }

    #[test]
    fn the_device_is_a_key_where_it_is_counted_by() {
        let histogram = Histogram::parse(&HIST.replace("{ size", "{ device: 0000:00:02.0     , size")).unwrap();
        assert_eq!(histogram.counts[&("0000:00:02.0".to_owned(), 18, 2)], 7);
    }

    #[test]
    fn bounces_are_read_by_device() {
        let text = "{ dev_name: 0000:00:04.0                                    } hitcount:        164\n\
                    { dev_name: nvme } hitcount: 2\nTotals:\n    Hits: 166\n";
        assert_eq!(by_device(text), [("0000:00:04.0".to_owned(), 164), ("nvme".to_owned(), 2)].into());
    }

    #[test]
    fn a_histogram_that_dropped_or_was_cut_is_refused() {
        assert!(Histogram::parse(&HIST.replace("Dropped: 0", "Dropped: 3")).is_err());
        assert!(Histogram::parse(&HIST[..HIST.len() - 20]).is_err());
        assert!(Histogram::parse("").is_err());
    }

    #[test]
    fn every_length_in_both_directions_is_complete() {
        let counts = (1..=512).flat_map(|length| [1, 2].map(|dir| ((String::new(), length, dir), 1))).collect();
        assert_eq!(Histogram { hits: 1024, counts }.missing_lengths(), 0);
    }
}
