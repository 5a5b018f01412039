//! `bouncescope replay`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::losses::{self, seconds};
use super::table::{Table, bytes};
use crate::model::pool::SLOT;
use crate::replay::Replayed;
use crate::replay::outcome::{Outcome, Rows, Tally};

/// Beyond twice `ARCH_DMA_MINALIGN` no length bounces for alignment, whatever the line size.
const SHORT: u64 = 256;

/// For people.
pub fn text(replayed: &Replayed) -> String {
    let kernel = &replayed.start.kernel;
    let mut text = format!(
        "{} {}, line size {}, kmalloc from {}, pool {}\n\n",
        kernel.machine,
        kernel.release,
        kernel.cache_line_size,
        kernel.kmalloc_minalign,
        pool(kernel.pool.slots, kernel.pool.force),
    );
    let mut table =
        Table::new(&["policy", "line", "kmalloc from", "mappings", "bounces", "copied", "peak slots", "at", "failed"]);
    for outcome in &replayed.outcomes {
        table.row(policy_row(outcome, replayed.start.time_ns));
    }
    table.row(observed_row(replayed));
    text += &table.text(0);
    for outcome in &replayed.outcomes {
        text += &reasons(outcome);
    }
    text += "\nbounces by device, direction and length, predicted and real\n";
    text += &breakdown(replayed);
    text += "\n";
    text += &unknowns(replayed);
    text += &losses::reservations(&replayed.start);
    text += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
    text
}

/// For programs.
pub fn json(replayed: &Replayed) -> Value {
    let observed = &replayed.observed;
    json!({
        "capture": { "kernel": replayed.start.kernel, "recorder": replayed.start.recorder },
        "policies": replayed.outcomes,
        "observed": {
            "mappings": observed.total().mappings,
            "buffers": observed.total().buffers,
            "bounces": observed.total().bounces,
            "bytes_copied": observed.total().bytes_copied,
            "failed": observed.total().failed,
            "unknown_buffers": observed.unknown,
            "slots_without_mapping": observed.orphans,
            "peak_slots": replayed.verdict.peak_slots_kernel,
            "peak_is_exact": replayed.verdict.peak_is_exact,
            "rows": replayed.observed_rows,
        },
        "losses": replayed.counters.lost,
        "gaps": replayed.gaps,
    })
}

fn pool(slots: u64, force: bool) -> String {
    match (slots, force) {
        (0, _) => "none".into(),
        (_, false) => format!("{slots} slots ({})", bytes(slots.saturating_mul(SLOT))),
        (_, true) => format!("{slots} slots ({}), force", bytes(slots.saturating_mul(SLOT))),
    }
}

fn policy_row(outcome: &Outcome, start_ns: u64) -> [String; 9] {
    let at =
        if outcome.peak_slots == 0 { "-".into() } else { format!("{:.3} s", seconds(outcome.peak_time_ns, start_ns)) };
    [
        outcome.name.clone(),
        outcome.cache_line_size.to_string(),
        outcome.minalign.to_string(),
        outcome.mappings.to_string(),
        outcome.bounces.to_string(),
        bytes(outcome.bytes_copied),
        format!("{}{} of {}", at_least(outcome), outcome.peak_slots, outcome.total_slots),
        at,
        outcome.failed.to_string(),
    ]
}

fn observed_row(replayed: &Replayed) -> [String; 9] {
    let kernel = &replayed.start.kernel;
    let total = replayed.observed.total();
    let verdict = &replayed.verdict;
    let peak = match verdict.peak_slots_kernel {
        Some(peak) if verdict.peak_is_exact => format!("{peak} of {}", kernel.pool.slots),
        Some(peak) => format!(">= {peak} of {}", kernel.pool.slots),
        None => "unknown".into(),
    };
    [
        "(kernel did)".into(),
        kernel.cache_line_size.to_string(),
        kernel.kmalloc_minalign.to_string(),
        total.mappings.to_string(),
        total.bounces.to_string(),
        bytes(total.bytes_copied),
        peak,
        "-".into(),
        total.failed.to_string(),
    ]
}

/// The kernel refused mappings that this run has: nobody knows how long they would have held their slots.
fn at_least(outcome: &Outcome) -> &'static str {
    if outcome.mapped_but_refused_by_kernel > 0 { ">= " } else { "" }
}

fn unknowns(replayed: &Replayed) -> String {
    let mut text = String::new();
    let observed = &replayed.observed;
    if observed.unknown > 0 {
        text += &format!("not known of {} buffers whether they bounced\n", observed.unknown);
    }
    if observed.orphans > 0 {
        text += &format!("{} times slots were taken without a mapping event\n", observed.orphans);
    }
    text
}

fn reasons(outcome: &Outcome) -> String {
    let list = |reasons: &BTreeMap<String, u64>| {
        reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    if !outcome.bounces_by_reason.is_empty() {
        text += &format!("{} bounces for: {}\n", outcome.name, list(&outcome.bounces_by_reason));
    }
    if !outcome.failed_by_reason.is_empty() {
        text += &format!("{} fails for: {}\n", outcome.name, list(&outcome.failed_by_reason));
    }
    if outcome.mapped_but_refused_by_kernel > 0 {
        text += &format!(
            "{}: {} mappings that the kernel refused are held for no time here, so that the peak is at least this\n",
            outcome.name, outcome.mapped_but_refused_by_kernel
        );
    }
    if outcome.lists_losing_concatenation > 0 {
        text += &format!(
            "{}: {} of {} scatterlists lose their concatenation behind an IOMMU\n",
            outcome.name, outcome.lists_losing_concatenation, outcome.lists
        );
    }
    text
}

/// One row for each device, direction and size class: how much there was, and who bounced how much of it.
fn breakdown(replayed: &Replayed) -> String {
    let mut headings = vec!["", "mappings", "buffers"];
    headings.extend(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
    headings.push("(kernel did)");
    let runs: Vec<_> = replayed.outcomes.iter().map(|outcome| labelled(&outcome.rows)).collect();
    let mut table = Table::new(&headings);
    for (label, observed) in labelled(&replayed.observed_rows) {
        let bounces = |rows: &Vec<(String, Tally)>| {
            rows.iter().find(|(other, _)| *other == label).map_or(0, |(_, tally)| tally.bounces).to_string()
        };
        let mut cells = vec![label.clone(), observed.mappings.to_string(), observed.buffers.to_string()];
        cells.extend(runs.iter().map(bounces));
        cells.push(observed.bounces.to_string());
        table.row(cells);
    }
    table.text(2)
}

fn labelled(rows: &Rows) -> Vec<(String, Tally)> {
    let mut labelled = Vec::new();
    for row in &rows.by_device {
        let coherent = if row.coherent { ", coherent" } else { "" };
        labelled.push((format!("{} ({}{coherent})", row.device, driver(&row.driver)), row.tally));
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

/// A device's driver, in words where there is none.
pub(super) fn driver(driver: &str) -> &str {
    if driver.is_empty() { "no driver" } else { driver }
}
