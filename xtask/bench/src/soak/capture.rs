//! What a capture holds, counted by itself, and what must be so of it; and what the product's commands say of the same file.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    facts::{Counters, End},
    names::{Loss, Program},
    stream::{Gaps, Item, Source as _},
};
use tracer_ebpf::record::Kind;

use crate::allocations;

/// What the product promises of a recorder that is killed (`docs/capture-format.md`), ns.
const KILLED_LOSES_NS: u64 = 1_000_000_000;

/// What was counted while reading a capture.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Events by kind.
    recorded: BTreeMap<&'static str, u64>,
    /// Allocations by call site and size, of the size that the storm allocates, and all.
    sites: BTreeMap<(u64, u32, u32), u64>,
    /// Time of the latest event, ns.
    last_ns: u64,
    counters: Counters,
    end: Option<End>,
    gaps: Gaps,
}

/// How much there was of allocations and frees.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) seen: u64,
    pub(super) recorded: u64,
    pub(super) lost: u64,
}

impl Totals {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self { seen: self.seen + other.seen, recorded: self.recorded + other.recorded, lost: self.lost + other.lost }
    }
}

impl Counted {
    /// Reads all of it.
    pub(super) fn read(capture: &Path) -> Result<Self> {
        let (mut reader, mut counted) = (Reader::open(capture)?, Self::default());
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Events(batch) => {
                    for event in &batch.events {
                        *counted.recorded.entry(event.what.kind().name()).or_default() += 1;
                        counted.last_ns = counted.last_ns.max(event.time_ns);
                    }
                }
                Item::Sites(sites) => counted
                    .sites
                    .extend(sites.into_iter().map(|s| ((s.call_site, s.bytes_req, s.bytes_alloc), s.count))),
                Item::Counters(counters) => counted.counters = counters,
                Item::End(end) => counted.end = Some(end),
                _ => {}
            }
        }
        counted.gaps = reader.gaps();
        Ok(counted)
    }

    fn seen(&self, kind: &str) -> u64 {
        self.counters.seen.get(kind).into_iter().flatten().sum()
    }

    /// Kinds of events; devices are no events.
    fn kinds() -> impl Iterator<Item = &'static str> {
        Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Device | Kind::Cache)).map(Kind::name)
    }

    /// Of all kinds of events.
    pub(super) fn totals(&self) -> Totals {
        let of = |kind| Totals {
            seen: self.seen(kind),
            recorded: self.recorded.get(kind).copied().unwrap_or(0),
            lost: self.counters.lost(&format!("ring_full.{kind}").as_str().into()),
        };
        Self::kinds().map(of).fold(Totals::default(), Totals::and)
    }

    /// What is not so that must be in a recording that came to its end, in which the storm allocated at least so often.
    pub(super) fn whole(&self, allocations: u64) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |right: bool, problem: String| {
            if !right {
                problems.push(problem);
            }
        };
        check(self.end.is_some() && self.gaps.is_empty(), format!("it is not whole: {:?}", self.gaps));
        for kind in Self::kinds() {
            let (seen, lost) = (self.seen(kind), self.counters.lost(&format!("ring_full.{kind}").as_str().into()));
            let recorded = self.recorded.get(kind).copied().unwrap_or(0);
            check(seen == recorded + lost, format!("{kind}: seen {seen}, recorded {recorded}, lost {lost}"));
            let decoded = self.end.as_ref().and_then(|end| end.events.get(kind)).copied().unwrap_or(0);
            check(decoded == recorded, format!("{kind}: {decoded} taken from the rings, {recorded} in the file"));
        }
        let (seen, missed) = (self.seen("kmalloc"), self.counters.lost(&Loss::Missed(Program::Kmalloc)));
        check(allocations > 0, "the storm did not allocate".into());
        check(seen + missed >= allocations, format!("the storm allocated {allocations} times, {seen} were seen"));
        let counted: u64 = self.sites.values().sum();
        let uncounted = self.counters.lost(&"sites_full".into());
        check(counted + uncounted == seen, format!("{counted} counted by call site, {uncounted} not, {seen} seen"));
        let of_storm: u64 = self
            .sites
            .iter()
            .filter(|((_, asked, _), _)| u64::from(*asked) == allocations::BYTES)
            .map(|(_, count)| count)
            .sum();
        check(
            of_storm + uncounted + missed >= allocations,
            format!("the storm allocated {allocations} times, {of_storm} of its size were counted"),
        );
        problems
    }

    /// What is not so that must be in a recording that was killed at a moment: no damage, all but the last second, and not more
    /// unaccounted for than the rings can have held when the counters were last read.
    pub(super) fn killed(&self, killed_ns: u64, ring_records: u64) -> Vec<String> {
        let mut problems = self.cut();
        let age = killed_ns.saturating_sub(self.last_ns);
        if age > KILLED_LOSES_NS {
            problems.push(format!("the latest event is {} ms older than the kill", age / 1_000_000));
        }
        let Totals { seen, recorded, lost } = self.totals();
        if seen > recorded + lost + ring_records {
            problems.push(format!("seen {seen}, recorded {recorded}, lost {lost}: the rings hold {ring_records}"));
        }
        problems
    }

    /// What is not so that must be in a file that was not finished.
    pub(super) fn cut(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.end.is_some() || !self.gaps.no_end || self.gaps.damaged_frames > 0 {
            problems.push(format!("it is not just cut: {:?}", self.gaps));
        }
        if self.totals().recorded == 0 {
            problems.push("there is no event in it".to_owned());
        }
        problems
    }
}

/// What the product's commands keep to themselves, or fail at.
pub(super) fn told(product: &Path, capture: &Path, counted: &Counted) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for command in ["stats", "replay", "verify"] {
        let output = Command::new(product).arg(command).arg(capture).output().context("cannot run bouncescope")?;
        let text = String::from_utf8_lossy(&output.stdout);
        // A machine on which nothing is mapped has nothing to verify.
        if !output.status.success() && !text.contains("Nothing to verify: ") {
            let said = String::from_utf8_lossy(&output.stderr);
            problems.push(format!("{command} ends with {}: {}", output.status, said.trim()));
        }
        for (name, values) in &counted.counters.lost {
            let loss = format!("LOST {name}: {}", values.iter().sum::<u64>());
            if !text.contains(&loss) {
                problems.push(format!("{command} does not say {loss}"));
            }
        }
        if counted.gaps.no_end && !text.contains("CUT: ") {
            problems.push(format!("{command} does not say that the capture is cut"));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> Counted {
        let of = |kmalloc: u64, kfree: u64| -> BTreeMap<String, Vec<u64>> {
            [("kmalloc".to_owned(), vec![kmalloc]), ("kfree".to_owned(), vec![kfree])].into()
        };
        let lost = [("ring_full.kmalloc".into(), vec![20]), ("ring_full.kfree".into(), vec![30])];
        Counted {
            recorded: [("kmalloc", 80), ("kfree", 70)].into(),
            sites: [((1, allocations::BYTES as u32, 192), 90), ((2, 8, 8), 10)].into(),
            last_ns: 5_000_000_000,
            counters: Counters { seen: of(100, 100), lost: lost.into(), ..Counters::default() },
            end: Some(End { events: [("kmalloc".to_owned(), 80), ("kfree".to_owned(), 70)].into(), ..End::default() }),
            gaps: Gaps::default(),
        }
    }

    #[test]
    fn a_whole_recording_accounts_for_everything() {
        assert_eq!(counted().whole(90), Vec::<String>::new());
        let totals = counted().totals();
        assert_eq!((totals.seen, totals.recorded, totals.lost), (200, 150, 50));
    }

    #[test]
    fn one_event_too_few_or_too_many_is_a_problem() {
        for recorded in [79, 81] {
            let off = Counted { recorded: [("kmalloc", recorded), ("kfree", 70)].into(), ..counted() };
            assert_eq!(off.whole(90).len(), 2, "{recorded}");
        }
        assert_eq!(counted().whole(91).len(), 1, "one of the storm's was not counted by call site");
        assert_eq!(Counted { end: None, ..counted() }.whole(90).len(), 3);
    }

    #[test]
    fn a_killed_recording_may_lack_its_last_second_and_what_the_ring_held() {
        let killed = |recorded: u64| Counted {
            recorded: [("kmalloc", recorded), ("kfree", 70)].into(),
            end: None,
            gaps: Gaps { no_end: true, cut_bytes: 9, ..Gaps::default() },
            ..counted()
        };
        assert_eq!(killed(70).killed(6_000_000_000, 10), Vec::<String>::new());
        assert_eq!(killed(69).killed(6_000_000_000, 10).len(), 1);
        assert_eq!(killed(70).killed(6_000_000_001, 10).len(), 1);
        assert_eq!(counted().killed(6_000_000_000, 10).len(), 1, "it has an end");
    }
}
