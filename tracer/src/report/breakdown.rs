//! Of a replay: who bounces and who is left unsafe, by device, driver, call site, direction and length, under each policy.

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
    let runs: Vec<_> = replayed.outcomes.iter().map(|outcome| labelled(&outcome.rows)).collect();
    let mut table = Table::new(&headings);
    let mut left_out = 0;
    for (label, observed) in labelled(&replayed.observed_rows) {
        let tallies: Vec<Tally> = runs.iter().map(|rows| of(rows, &label)).collect();
        let matters = |tally: &Tally| tally.bounces + tally.unsafe_certain + tally.unsafe_possible + tally.failed > 0;
        if !matters(&observed) && !tallies.iter().any(matters) {
            left_out += 1;
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
    if left_out > 0 {
        text += &format!("  … and {left_out} without bounces or hazards: --json has all\n");
    }
    text
}

/// Who is left unsafe, certainly and possibly; rows without any are left out.
fn hazards(replayed: &Replayed, in_doubt: bool) -> String {
    let mut headings = vec![""];
    headings.extend(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
    let mut table = Table::new(&headings);
    let runs: Vec<_> = replayed.outcomes.iter().map(|outcome| labelled(&outcome.rows)).collect();
    for (label, _) in labelled(&replayed.observed_rows) {
        let tallies: Vec<Tally> = runs.iter().map(|rows| of(rows, &label)).collect();
        if tallies.iter().any(|tally| tally.unsafe_certain + tally.unsafe_possible > 0) {
            let cells = tallies.iter().map(|tally| format!("{} + {}", tally.unsafe_certain, tally.unsafe_possible));
            table.row(std::iter::once(label).chain(cells));
        }
    }
    if table.is_empty() {
        return String::new();
    }
    let doubt = if in_doubt { ", in doubt as marked above" } else { "" };
    format!("\nleft unsafe, certainly + maybe{doubt}\n{}", table.blocks(2, 1, WIDTH))
}

fn of(rows: &[(String, Tally)], label: &str) -> Tally {
    rows.iter().find(|(other, _)| other == label).map(|(_, tally)| *tally).unwrap_or_default()
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

fn labelled(rows: &Rows) -> Vec<(String, Tally)> {
    let mut labelled = Vec::new();
    for row in &rows.by_device {
        let coherent = if row.coherent { ", coherent" } else { "" };
        labelled.push((format!("{} ({}{coherent})", row.device, driver(&row.driver)), row.tally));
    }
    for row in &rows.by_driver {
        labelled.push((format!("driver {}", driver(&row.driver)), row.tally));
    }
    let known = rows.by_call_site.iter().filter(|row| !row.call_site.is_empty());
    for row in known.take(SITES) {
        labelled.push((format!("{}{}", row.call_site, module(&row.module)), row.tally));
    }
    for row in &rows.by_direction {
        labelled.push((row.direction.name().to_owned(), row.tally));
    }
    let (short, long): (Vec<_>, Vec<_>) = rows.by_size_class.iter().partition(|row| row.up_to <= SHORT);
    for row in short {
        labelled.push((format!("up to {} B", row.up_to), row.tally));
    }
    let mut longer = Tally::default();
    for row in long {
        longer.add(&row.tally);
    }
    labelled.push((format!("longer than {SHORT} B"), longer));
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
