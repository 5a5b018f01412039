//! The table of policies and what its columns mean, and what was allocated.

use crate::advice::Advice;
use crate::document::{Block, Cell, Table};
use crate::table::slots;
use crate::{figures, replay};
use bouncescope_model::pool::SLOT;
use bouncescope_replay::Replayed;
use bouncescope_replay::outcome::Outcome;

/// Call sites in the table; programs get all.
const SITES: usize = 100;

/// The policies, with the very cells that `replay` prints.
pub(super) fn policies(replayed: &Replayed) -> Vec<Block> {
    let (rows, doubts) = figures::rows(replayed);
    let mut table = Table::new("Figures of each policy, and of the kernel itself", figures::headings());
    let cells = |row: Vec<figures::Cell>| row.into_iter().map(|(text, value)| Cell { text, value }).collect();
    table.rows = rows.into_iter().map(cells).collect();
    let mut blocks = vec![Block::Table(table)];
    blocks.push(Block::List(replay::meaning(replayed).lines().map(str::to_owned).collect()));
    if !doubts.is_empty() {
        blocks.push(Block::Words(format!("in doubt (<=, >=, ~): {}", doubts.join("; "))));
    }
    let abouts = replayed.outcomes.iter().filter(|outcome| !outcome.about.is_empty());
    blocks.push(Block::List(abouts.map(|outcome| format!("{}: {}", outcome.name, outcome.about)).collect()));
    let reasons: String = replayed.outcomes.iter().map(replay::reasons).collect();
    if !reasons.is_empty() {
        blocks.push(Block::List(reasons.lines().map(str::to_owned).collect()));
    }
    blocks
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

/// Sizes of pool that stand with the verdict.
const SIZES: usize = 5;

/// What sizes of pool come to, from the smallest to one that is larger than what is advised.
pub(super) fn pool_sizes(sizes: &[Outcome], advice: &Advice) -> Option<Block> {
    let advised = advice.pool.as_ref().and_then(|pool| sizes.iter().position(|size| size.total_slots == pool.slots));
    let end = advised.map_or(SIZES, |at| at + 2).min(sizes.len());
    let mut table = Table::new("Pool sizes", ["pool", "size", "refused", "at most in use", "free then"]);
    for (n, size) in sizes.iter().enumerate().take(end).skip(end.saturating_sub(SIZES)) {
        let peak = size.peak_slots_at_most();
        let free = size.total_slots.saturating_sub(peak);
        table.rows.push(vec![
            Cell::words(format!("{}{}", slots(size.total_slots), if Some(n) == advised { " (advised)" } else { "" })),
            Cell::bytes(size.total_slots * SLOT),
            Cell::count(size.failed_at_most()),
            Cell::count(peak),
            Cell::shown(format!("{} %", free * 100 / size.total_slots.max(1)), free as f64),
        ]);
    }
    (!table.rows.is_empty()).then_some(Block::Table(table))
}
