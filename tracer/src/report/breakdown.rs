//! Of a replay: who bounces and who is left unsafe, by device, driver, call site, direction and length, under each policy.

use std::collections::{HashMap, HashSet};

use super::replay::OBSERVED;
use super::table::{Table, WIDTH};
use crate::replay::Replayed;
use crate::replay::outcome::{Rows, Tally};

/// More policies than these are left to programs.
const SIDE_BY_SIDE: usize = 10;
/// Call sites shown to people; programs get all.
const SITES: usize = 20;
/// Beyond twice `ARCH_DMA_MINALIGN` no length bounces for alignment, whatever the line size.
const SHORT: u64 = 256;

/// Bounces, then hazards, of which `in_doubt` says that their totals have marks.
pub(super) fn text(replayed: &Replayed, in_doubt: bool) -> String {
    let policies = replayed.outcomes.len();
    if policies > SIDE_BY_SIDE {
        return format!(
            "\nno breakdown by device and driver of {policies} policies here, more than {SIDE_BY_SIDE}: --json has it\n"
        );
    }
    bounces(replayed) + &hazards(replayed, in_doubt)
}

/// One row for each device, direction and size class: how much there was, and who bounced how much of it. Rows without bounces
/// and hazards are only counted.
fn bounces(replayed: &Replayed) -> String {
    let mut headings = vec!["", "mappings", "buffers"];
    headings.extend(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
    headings.push(OBSERVED);
    let mut table = Table::new(&headings);
    let mut left_out = 0;
    let mut sites = 0;
    for Row { label, is_site, observed, tallies } in rows(replayed) {
        if !matters(&observed) && !tallies.iter().any(matters) {
            left_out += 1;
            continue;
        }
        sites += usize::from(is_site);
        if is_site && sites > SITES {
            continue;
        }
        let mut cells = vec![label, observed.mappings.to_string(), observed.buffers.to_string()];
        cells.extend(tallies.iter().map(|tally| tally.bounces.to_string()));
        cells.push(observed.bounces.to_string());
        table.row(cells);
    }
    let mut text = "\nbounces by device, driver, call site, direction and length, predicted and real\n".to_owned();
    if !table.is_empty() {
        text += &table.blocks(2, 1, WIDTH);
    }
    text += &more_sites(sites);
    if left_out > 0 {
        text += &format!("  … and {left_out} without bounces or hazards: --json has all\n");
    }
    text
}

fn matters(tally: &Tally) -> bool {
    tally.bounces + tally.unsafe_certain + tally.unsafe_possible + tally.failed > 0
}

fn more_sites(sites: usize) -> String {
    match sites.checked_sub(SITES) {
        Some(more) if more > 0 => format!("  … and {more} more call sites: --json has all\n"),
        _ => String::new(),
    }
}

/// Who is left unsafe, certainly and possibly; rows without any are left out.
fn hazards(replayed: &Replayed, in_doubt: bool) -> String {
    let mut headings = vec![""];
    headings.extend(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
    let mut table = Table::new(&headings);
    let mut sites = 0;
    for Row { label, is_site, tallies, .. } in rows(replayed) {
        if tallies.iter().any(|tally| tally.unsafe_certain + tally.unsafe_possible > 0) {
            sites += usize::from(is_site);
            if is_site && sites > SITES {
                continue;
            }
            let cells = tallies.iter().map(|tally| format!("{} + {}", tally.unsafe_certain, tally.unsafe_possible));
            table.row(std::iter::once(label).chain(cells));
        }
    }
    if table.is_empty() {
        return String::new();
    }
    let doubt = if in_doubt { ", in doubt as marked above" } else { "" };
    format!("\nleft unsafe, certainly + maybe{doubt}\n{}{}", table.blocks(2, 1, WIDTH), more_sites(sites))
}

/// One row: what the kernel did, and each policy.
struct Row {
    label: String,
    is_site: bool,
    observed: Tally,
    tallies: Vec<Tally>,
}

/// All rows, in the order of what the kernel did; what only a policy has, at the end.
fn rows(replayed: &Replayed) -> Vec<Row> {
    let mut observed = labelled(&replayed.observed_rows);
    let runs: Vec<Vec<Labelled>> = replayed.outcomes.iter().map(|outcome| labelled(&outcome.rows)).collect();
    let seen: HashSet<String> = observed.iter().map(|one| one.label.clone()).collect();
    let only_theirs = runs.iter().flatten().filter(|one| !seen.contains(&one.label));
    observed.extend(only_theirs.map(|one| Labelled { tally: Tally::default(), ..one.clone() }).collect::<Vec<_>>());
    let by_label: Vec<HashMap<&str, Tally>> =
        runs.iter().map(|rows| rows.iter().map(|one| (one.label.as_str(), one.tally)).collect()).collect();
    let mut taken = HashSet::new();
    observed.retain(|one| taken.insert(one.label.clone()));
    let row = |one: Labelled| Row {
        tallies: by_label.iter().map(|run| run.get(one.label.as_str()).copied().unwrap_or_default()).collect(),
        label: one.label,
        is_site: one.is_site,
        observed: one.tally,
    };
    observed.into_iter().map(row).collect()
}

/// Lists that lose their concatenation, by driver.
pub(super) fn lists(replayed: &Replayed) -> String {
    let mut table = Table::new(&["", "policy", "lists", "per element", "DMA segments before", "after"]);
    for outcome in &replayed.outcomes {
        for row in outcome.rows.by_driver.iter().filter(|row| row.lists_losing_concatenation > 0) {
            table.row([
                driver(&row.driver).to_owned(),
                outcome.name.clone(),
                row.lists.to_string(),
                row.lists_losing_concatenation.to_string(),
                row.segments_before.to_string(),
                row.segments_after.to_string(),
            ]);
        }
    }
    if table.is_empty() {
        return String::new();
    }
    format!("\nscatterlists behind an IOMMU that are no longer concatenated, by driver\n{}", table.text(2))
}

/// A row of one breakdown.
#[derive(Clone)]
struct Labelled {
    label: String,
    is_site: bool,
    tally: Tally,
}

fn labelled(rows: &Rows) -> Vec<Labelled> {
    let mut labelled = Vec::new();
    let mut add = |label: String, is_site: bool, tally: Tally| labelled.push(Labelled { label, is_site, tally });
    for row in &rows.by_device {
        let coherent = if row.coherent { ", coherent" } else { "" };
        add(format!("{} ({}{coherent})", row.device, driver(&row.driver)), false, row.tally);
    }
    for row in &rows.by_driver {
        add(format!("driver {}", driver(&row.driver)), false, row.tally);
    }
    for row in rows.by_call_site.iter().filter(|row| !row.call_site.is_empty()) {
        add(format!("{}{}", row.call_site, module(&row.module)), true, row.tally);
    }
    for row in &rows.by_direction {
        add(row.direction.name().to_owned(), false, row.tally);
    }
    let (short, long): (Vec<_>, Vec<_>) = rows.by_size_class.iter().partition(|row| row.up_to <= SHORT);
    for row in short {
        add(format!("up to {} B", row.up_to), false, row.tally);
    }
    let mut longer = Tally::default();
    for row in long {
        longer.add(&row.tally);
    }
    add(format!("longer than {SHORT} B"), false, longer);
    labelled
}

/// A call site's module, where it has one.
pub(super) fn module(module: &str) -> String {
    if module.is_empty() { String::new() } else { format!(" [{module}]") }
}

/// A device's driver, in words where there is none.
pub fn driver(driver: &str) -> &str {
    if driver.is_empty() { "no driver" } else { driver }
}
