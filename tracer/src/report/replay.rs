//! `bouncescope replay`.

use serde_json::{Value, json};

use super::losses::{self, seconds};
use super::table::{Table, bytes};
use crate::replay::Replayed;
use crate::replay::outcome::{Outcome, Rows, Tally};

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
        text += &format!("\n{}\n", outcome.name);
        text += &reasons(outcome);
        text += &rows(&outcome.rows);
    }
    text += "\nwhat the kernel did\n";
    text += &rows(&replayed.observed_rows);
    text += "\n";
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
            "mappings": observed.total.mappings,
            "buffers": observed.total.buffers,
            "bounces": observed.total.bounces,
            "bytes_copied": observed.total.bytes_copied,
            "failed": observed.total.failed,
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
        (_, false) => format!("{slots} slots ({})", bytes(slots * 2048)),
        (_, true) => format!("{slots} slots ({}), force", bytes(slots * 2048)),
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
        format!("{} of {}", outcome.peak_slots, outcome.total_slots),
        at,
        outcome.failed.to_string(),
    ]
}

fn observed_row(replayed: &Replayed) -> [String; 9] {
    let kernel = &replayed.start.kernel;
    let total = &replayed.observed.total;
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

fn reasons(outcome: &Outcome) -> String {
    let mut text = String::new();
    let list = |reasons: &std::collections::BTreeMap<String, u64>| {
        reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
    };
    if !outcome.bounces_by_reason.is_empty() {
        text += &format!("  bounces for: {}\n", list(&outcome.bounces_by_reason));
    }
    if !outcome.failed_by_reason.is_empty() {
        text += &format!("  failures for: {}\n", list(&outcome.failed_by_reason));
    }
    if outcome.lists_losing_concatenation > 0 {
        text += &format!(
            "  scatterlists behind an IOMMU that lose concatenation: {} of {} lists\n",
            outcome.lists_losing_concatenation, outcome.lists
        );
    }
    text
}

fn rows(rows: &Rows) -> String {
    const HEADINGS: [&str; 6] = ["", "mappings", "buffers", "bounces", "copied", "failed"];
    let cells = |label: String, tally: &Tally| {
        [
            label,
            tally.mappings.to_string(),
            tally.buffers.to_string(),
            tally.bounces.to_string(),
            bytes(tally.bytes_copied),
            tally.failed.to_string(),
        ]
    };
    let mut devices = Table::new(&HEADINGS);
    for row in &rows.by_device {
        let coherent = if row.coherent { ", coherent" } else { "" };
        devices.row(cells(format!("{} ({}{coherent})", row.device, driver(&row.driver)), &row.tally));
    }
    for row in &rows.by_direction {
        devices.row(cells(row.direction.name().into(), &row.tally));
    }
    for row in rows.by_size_class.iter().filter(|row| row.up_to <= 512) {
        devices.row(cells(format!("up to {} B", row.up_to), &row.tally));
    }
    let mut longer = Tally::default();
    for row in rows.by_size_class.iter().filter(|row| row.up_to > 512) {
        longer.add(&row.tally);
    }
    devices.row(cells("longer".into(), &longer));
    devices.text(2)
}

/// A device's driver, in words where there is none.
pub(super) fn driver(driver: &str) -> &str {
    if driver.is_empty() { "no driver" } else { driver }
}
