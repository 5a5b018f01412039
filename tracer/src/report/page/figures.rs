//! The table of policies and what its columns mean, and what was allocated.

use crate::check::Gauge;
use crate::replay::Replayed;
use crate::replay::outcome::Outcome;
use crate::report::document::{Block, Cell, Table};
use crate::report::losses::seconds;
use crate::report::replay::{self, HEADINGS};

/// Call sites in the table; programs get all.
const SITES: usize = 100;

/// The policies, with the very cells that `replay` prints.
pub(super) fn policies(replayed: &Replayed) -> Vec<Block> {
    let gauge = Gauge::new(replayed);
    let mut doubts = Vec::new();
    let mut table = Table::new("What each policy comes to, and what the kernel did", HEADINGS);
    for outcome in &replayed.outcomes {
        let texts = replay::policy_row(outcome, replayed, &gauge, &mut doubts);
        let cells = texts.into_iter().zip(values(outcome, replayed));
        table.rows.push(cells.map(|(text, value)| Cell { text, value }).collect());
    }
    table
        .rows
        .push(replay::observed_row(replayed).into_iter().map(|text| Cell { value: text.parse().ok(), text }).collect());
    let mut blocks = vec![Block::Table(table)];
    blocks.push(Block::List(replay::meaning(replayed).lines().map(str::to_owned).collect()));
    if !doubts.is_empty() {
        blocks.push(Block::Words(format!("<=, >=, ~: in doubt, since: {}", doubts.join("; "))));
    }
    let abouts = replayed.outcomes.iter().filter(|outcome| !outcome.about.is_empty());
    blocks.push(Block::List(abouts.map(|outcome| format!("{}: {}", outcome.name, outcome.about)).collect()));
    let reasons: String = replayed.outcomes.iter().map(replay::reasons).collect();
    if !reasons.is_empty() {
        blocks.push(Block::List(reasons.lines().map(str::to_owned).collect()));
    }
    blocks
}

/// What the columns of [`replay::policy_row`] are sorted by.
fn values(outcome: &Outcome, replayed: &Replayed) -> [Option<f64>; 13] {
    let some = |count: u64| Some(count as f64);
    [
        None,
        some(u64::from(outcome.cache_line_size)),
        some(u64::from(outcome.minalign)),
        some(outcome.bounces),
        some(outcome.bytes_copied),
        outcome.pool_cpu_ns.map(|ns| ns as f64),
        some(outcome.peak_slots),
        (outcome.peak_slots > 0).then(|| seconds(outcome.peak_time_ns, replayed.start.time_ns)),
        some(outcome.failed),
        some(outcome.unsafe_certain),
        some(outcome.unsafe_possible),
        some(outcome.bounces_not_needed),
        outcome.slab_bytes.map(|slabs| slabs.value as f64),
    ]
}

/// What kmalloc gave, by size and by call site.
pub(super) fn allocations(replayed: &Replayed) -> Vec<Block> {
    let mut sizes = Table::new("kmalloc by size", ["bytes given", "allocations", "asked", "given", "unused"]);
    for size in replayed.statistics.sizes() {
        let given = u64::from(size.bytes_alloc).saturating_mul(size.count);
        sizes.rows.push(vec![
            Cell::count(u64::from(size.bytes_alloc)),
            Cell::count(size.count),
            Cell::bytes(size.bytes_req),
            Cell::bytes(given),
            Cell::bytes(given.saturating_sub(size.bytes_req)),
        ]);
    }
    if sizes.rows.is_empty() {
        return vec![Block::Words("No allocations in this capture.".into())];
    }
    let mut sites = Table::new("kmalloc by call site", ["call site", "module", "allocations", "asked", "given"]);
    for site in replayed.statistics.call_sites() {
        sites.rows.push(vec![
            Cell::words(site.call_site),
            Cell::words(site.module),
            Cell::count(site.count),
            Cell::bytes(site.bytes_req),
            Cell::bytes(site.bytes_alloc),
        ]);
    }
    vec![Block::Table(sizes), Block::Table(sites.first(SITES))]
}
