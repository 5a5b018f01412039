//! What a guest's own kernel counted during a recording, and what its workload saw: the files `NAME.COUNT.hist` and
//! `NAME.result` that its init left on the share. Reading only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

/// Longest length of which every one is to be mapped, bytes.
const LENGTHS: u64 = 512;

/// The kernel's and the workload's side of a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Witness {
    /// `swiotlb_bounced` hits.
    pub(super) bounced: u64,
    /// `dma_map_page` or `dma_map_phys` hits.
    pub(super) maps: u64,
    /// `dma_map_sg` hits, which do not include lists that could not be mapped.
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
        Ok(Self {
            bounced: Histogram::parse(&text("bounced.hist")?)?.hits,
            maps: map.hits,
            lists: Histogram::parse(&text("map_sg.hist")?)?.hits,
            unmapped_lengths: map.missing_lengths(),
            facts: facts.collect(),
        })
    }

    /// A number among the facts.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.facts.get(key)?.parse().ok()
    }
}

/// A hist trigger's output (`Documentation/trace/histogram.rst`).
#[derive(Debug, Default, PartialEq, Eq)]
struct Histogram {
    hits: u64,
    /// (size, direction) of every entry that has them.
    keys: BTreeSet<(u64, u64)>,
}

impl Histogram {
    fn parse(text: &str) -> Result<Self> {
        let number = |line: &str, name: &str| -> Option<u64> {
            let rest = &line[line.find(name)? + name.len()..];
            rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let total = |name: &str| text.lines().find_map(|line| number(line.trim_start(), name));
        ensure!(total("Dropped:") == Some(0), "the kernel's own count is incomplete or was not taken: {text:.200}");
        let keys = text.lines().filter_map(|line| Some((number(line, "size:")?, number(line, "dir:")?))).collect();
        Ok(Self { hits: total("Hits:").context("a histogram without total")?, keys })
    }

    fn missing_lengths(&self) -> usize {
        (1..=LENGTHS).flat_map(|length| [(length, 1), (length, 2)]).filter(|key| !self.keys.contains(key)).count()
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
        assert_eq!(histogram, Histogram { hits: 8, keys: [(18, 2), (512, 1)].into() });
        assert_eq!(histogram.missing_lengths(), 1022);
    }

    #[test]
    fn a_histogram_that_dropped_or_was_cut_is_refused() {
        assert!(Histogram::parse(&HIST.replace("Dropped: 0", "Dropped: 3")).is_err());
        assert!(Histogram::parse(&HIST[..HIST.len() - 20]).is_err());
        assert!(Histogram::parse("").is_err());
    }

    #[test]
    fn every_length_in_both_directions_is_complete() {
        let keys = (1..=512).flat_map(|length| [(length, 1), (length, 2)]).collect();
        assert_eq!(Histogram { hits: 1024, keys }.missing_lengths(), 0);
    }
}
