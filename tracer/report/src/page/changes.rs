//! What changed from one capture to another. Counts are compared by the second, since no two recordings are equally long.

use std::collections::BTreeMap;

use super::{Subject, facts};
use crate::devices::{both, said};
use crate::document::{Block, Cell, Table};
use crate::label::{self, OBSERVED};
use crate::losses;
use crate::table::bytes;
use bouncescope_replay::Replayed;
use bouncescope_replay::figures::{Figure, Place, Run, Unit};
use bouncescope_replay::outcome::Tally;

/// Facts that differ from boot to boot, and say nothing of what a kernel does.
const OF_NO_ACCOUNT: [&str; 4] = ["linear_map", "vmemmap", "version", "pool.used_at_start"];

pub(super) fn blocks(before: &Subject, after: &Subject) -> Vec<Block> {
    let (old, new) = (&before.results.replayed, &after.results.replayed);
    let mut blocks = vec![Block::Words(format!(
        "From {} ({:.3} s) to {} ({:.3} s); rates are per second.",
        before.name,
        old.seconds(),
        after.name,
        new.seconds()
    ))];
    for (subject, replayed) in [(before, old), (after, new)] {
        if let Some(missing) = losses::missing(replayed) {
            blocks.push(Block::Words(format!("{} is compared only as far as recorded: {missing}.", subject.name)));
        }
    }
    let said = said(old, new);
    if !said.is_empty() {
        blocks.push(Block::List(said));
    }
    blocks.push(Block::Table(policies(old, new)));
    blocks.push(devices(old, new).or("No device was seen in either."));
    blocks.push(differing_facts(old, new).or("The kernels' facts are the same."));
    blocks
}

/// A figure before and after, and the difference.
fn three(old: f64, new: f64, show: impl Fn(f64) -> String) -> [Cell; 3] {
    let sign = if new >= old { "+" } else { "-" };
    let changed = match old {
        _ if old.to_bits() == new.to_bits() => "same".to_owned(),
        old if old > 0.0 => format!("{sign}{:.1} %", ((new - old) / old * 100.0).abs()),
        _ => format!("{sign}{}", show((new - old).abs())),
    };
    [Cell::shown(show(old), old), Cell::shown(show(new), new), Cell::shown(changed, new - old)]
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") }
}

fn policies(old: &Replayed, new: &Replayed) -> Table {
    let mut table = Table::new("By policy", ["policy", "figure", "before", "after", "change"]);
    let mut row = |policy: &str, figure: &str, three: [Cell; 3]| {
        table.rows.push([Cell::words(policy), Cell::words(figure)].into_iter().chain(three).collect());
    };
    for before in &old.outcomes {
        let Some(after) = new.outcomes.iter().find(|after| after.name == before.name) else { continue };
        let name = before.name.as_str();
        let (before, after) =
            (Run { replayed: old, outcome: Some(before) }, Run { replayed: new, outcome: Some(after) });
        for figure in Figure::ALL {
            let called = figure.places().iter().find_map(|place| match place {
                Place::Change(called) => Some(*called),
                _ => None,
            });
            let read =
                called.and_then(|called| Some((called, figure.read(before)?.number(), figure.read(after)?.number())));
            let Some((called, from, to)) = read else { continue };
            match figure.unit() {
                Unit::Bytes | Unit::BytesPerSecond => row(name, called, three(from, to, |value| bytes(value as u64))),
                _ => row(name, called, three(from, to, number)),
            }
        }
    }
    let (from, to) = (old.observed.total(), new.observed.total());
    let rate = |count: fn(&Tally) -> u64| (count(&from) as f64 / old.seconds(), count(&to) as f64 / new.seconds());
    for (figure, (from, to)) in [
        ("mappings/s", rate(|tally| tally.mappings)),
        ("bounces/s", rate(|tally| tally.bounces)),
        ("refused/s", rate(|tally| tally.failed)),
    ] {
        row(OBSERVED, figure, three(from, to, number));
    }
    table
}

fn devices(old: &Replayed, new: &Replayed) -> Table {
    let headings = ["device", "driver", "mappings/s before", "after", "change", "bounces/s before", "after", "change"];
    let mut table = Table::new("By device, as the kernel did it", headings);
    for ((device, driver), [from, to]) in both(old, new) {
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        let rate = |count: fn(&Tally) -> u64| {
            three(count(&from) as f64 / old.seconds(), count(&to) as f64 / new.seconds(), number)
        };
        let cells = rate(|tally| tally.mappings).into_iter().chain(rate(|tally| tally.bounces));
        table.rows.push([Cell::words(device), Cell::words(label::driver(&driver))].into_iter().chain(cells).collect());
    }
    table
}

fn differing_facts(old: &Replayed, new: &Replayed) -> Table {
    let mut table = Table::new("Facts of the kernel that differ", ["fact", "before", "after"]);
    let mut both: BTreeMap<String, [String; 2]> = BTreeMap::new();
    for (n, replayed) in [old, new].into_iter().enumerate() {
        for (name, value) in facts::all(replayed) {
            both.entry(name).or_default()[n] = value;
        }
    }
    let matters = |name: &str| !OF_NO_ACCOUNT.iter().any(|other| name.starts_with(other));
    for (name, [from, to]) in both.into_iter().filter(|(name, [from, to])| from != to && matters(name)) {
        table.rows.push(vec![Cell::words(name), Cell::words(from), Cell::words(to)]);
    }
    table
}
