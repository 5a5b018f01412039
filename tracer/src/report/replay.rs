//! `bouncescope replay`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::advice::Advice;
use super::losses::{self, seconds};
use super::table::{Table, bytes};
use crate::model::pool::SLOT;
use crate::replay::Replayed;
use crate::replay::outcome::{Outcome, Rows, Tally};

/// More policies than these have no room side by side.
const SIDE_BY_SIDE: usize = 10;
/// Call sites shown to people; programs get all.
const SITES: usize = 20;
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
    text += &format!(
        "{} mappings, {} buffers in {:.3} s\n\n",
        replayed.observed.total().mappings,
        replayed.observed.total().buffers,
        span(replayed)
    );
    let mut table = Table::new(&HEADINGS);
    for outcome in &replayed.outcomes {
        table.row(policy_row(outcome, replayed));
    }
    table.row(observed_row(replayed));
    text += &table.text(0);
    text += &meaning(replayed);
    for outcome in &replayed.outcomes {
        text += &reasons(outcome);
    }
    if replayed.outcomes.len() <= SIDE_BY_SIDE {
        text += "\nbounces by device, driver, call site, direction and length, predicted and real\n";
        text += &breakdown(replayed);
        text += &hazards(replayed);
    }
    text += &lists(replayed);
    text += "\n";
    text += &unknowns(replayed);
    text += &losses::reservations(&replayed.start);
    text += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
    text
}

/// For programs.
pub fn json(replayed: &Replayed, advice: Option<&Advice>) -> Value {
    let observed = &replayed.observed;
    let mut policies: Vec<Value> = replayed.outcomes.iter().map(|outcome| json!(outcome)).collect();
    for (policy, settings) in policies.iter_mut().zip(&replayed.settings) {
        policy["lists_mode"] = json!(settings.lists);
        policy["when_full"] = json!(settings.when_full);
        policy["pool_grows"] = json!(settings.grows);
    }
    json!({
        "capture": { "kernel": replayed.start.kernel, "recorder": replayed.start.recorder },
        "policies": policies,
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
        "pool_times": replayed.pool_times,
        "origins_known": replayed.origins_known,
        "advice": advice,
        "losses": replayed.counters.lost,
        "gaps": replayed.gaps,
    })
}

/// The table of policies, for spreadsheets and plots. Bytes, slots and counts; the CPU time in ns.
pub fn csv(replayed: &Replayed) -> String {
    let mut text =
        "policy,cache_line_size,minalign,lists,when_full,pool_slots,mappings,buffers,bounces,bytes_copied,pool_cpu_ns,\
                    span_ns,peak_slots,failed,fallbacks,unsafe_certain,unsafe_possible,bounces_not_needed,\
                    lists_losing_concatenation,slab_bytes,slab_bytes_error\n"
            .to_owned();
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    for (outcome, settings) in replayed.outcomes.iter().zip(&replayed.settings) {
        let o = outcome;
        let cells = [
            quoted(&o.name),
            o.cache_line_size.to_string(),
            o.minalign.to_string(),
            word(json!(settings.lists)),
            word(json!(settings.when_full)),
            o.total_slots.to_string(),
            o.mappings.to_string(),
            o.buffers.to_string(),
            o.bounces.to_string(),
            o.bytes_copied.to_string(),
            number(o.pool_cpu_ns),
            o.span_ns.to_string(),
            o.peak_slots.to_string(),
            o.failed.to_string(),
            o.fallbacks.to_string(),
            o.unsafe_certain.to_string(),
            o.unsafe_possible.to_string(),
            o.bounces_not_needed.to_string(),
            o.lists_losing_concatenation.to_string(),
            number(o.slab_bytes.map(|bytes| bytes.value)),
            number(o.slab_bytes.map(|bytes| bytes.error)),
        ];
        text += &format!("{}\n", cells.join(","));
    }
    text
}

/// A name as one cell.
fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

/// Seconds that the stream covers; never 0.
fn span(replayed: &Replayed) -> f64 {
    (replayed.span_ns as f64 / 1e9).max(1e-9)
}

fn pool(slots: u64, force: bool) -> String {
    match (slots, force) {
        (0, _) => "none".into(),
        (_, false) => format!("{slots} slots ({})", bytes(slots.saturating_mul(SLOT))),
        (_, true) => format!("{slots} slots ({}), force", bytes(slots.saturating_mul(SLOT))),
    }
}

const HEADINGS: [&str; 13] = [
    "policy",
    "line",
    "kmalloc from",
    "bounces",
    "copied/s",
    "pool CPU",
    "peak slots",
    "at",
    "failed",
    "unsafe",
    "maybe",
    "unneeded",
    "slabs",
];

fn policy_row(outcome: &Outcome, replayed: &Replayed) -> [String; 13] {
    let start_ns = replayed.start.time_ns;
    let at =
        if outcome.peak_slots == 0 { "-".into() } else { format!("{:.3} s", seconds(outcome.peak_time_ns, start_ns)) };
    let unknown = || "?".to_owned();
    [
        outcome.name.clone(),
        outcome.cache_line_size.to_string(),
        outcome.minalign.to_string(),
        outcome.bounces.to_string(),
        bytes((outcome.bytes_copied as f64 / span(replayed)) as u64),
        outcome.pool_cpu_ns.map_or_else(unknown, |ns| format!("{:.3} %", ns as f64 / 1e7 / span(replayed))),
        format!("{}{} of {}", at_least(outcome), outcome.peak_slots, outcome.total_slots),
        at,
        outcome.failed.to_string(),
        outcome.unsafe_certain.to_string(),
        outcome.unsafe_possible.to_string(),
        outcome.bounces_not_needed.to_string(),
        outcome.slab_bytes.map_or_else(unknown, |slabs| match slabs.error {
            0 => bytes(slabs.value),
            error => format!("{} +- {}", bytes(slabs.value), bytes(error)),
        }),
    ]
}

fn observed_row(replayed: &Replayed) -> [String; 13] {
    let kernel = &replayed.start.kernel;
    let total = replayed.observed.total();
    let verdict = &replayed.verdict;
    let peak = match verdict.peak_slots_kernel {
        Some(peak) if verdict.peak_is_exact => format!("{peak} of {}", kernel.pool.slots),
        Some(peak) => format!(">= {peak} of {}", kernel.pool.slots),
        None => "unknown".into(),
    };
    let pool_ns = replayed.pool_times.as_ref().map(|times| times.times.iter().map(|time| time.total_ns).sum::<u64>());
    let none = || "-".to_owned();
    [
        "(kernel did)".into(),
        kernel.cache_line_size.to_string(),
        kernel.kmalloc_minalign.to_string(),
        total.bounces.to_string(),
        bytes((total.bytes_copied as f64 / span(replayed)) as u64),
        pool_ns.map_or_else(|| "?".to_owned(), |ns| format!("{:.3} %", ns as f64 / 1e7 / span(replayed))),
        peak,
        none(),
        total.failed.to_string(),
        none(),
        none(),
        none(),
        none(),
    ]
}

/// What the columns mean, and what the capture cannot tell.
fn meaning(replayed: &Replayed) -> String {
    let mut text = "unsafe: written by a non-coherent device, not bounced, and something else in use is in its cache line; maybe: not \
                    known what else is; unneeded: bounced for alignment, alone in its lines\n"
        .to_owned();
    if !replayed.origins_known {
        text += "this capture cannot tell whose objects the buffers are (it needs allocations and the linear map): every part \
                 of a line counts as maybe\n";
    } else if replayed.start.allocation_sample > 1 {
        text += &format!(
            "one allocation in {} was recorded: most buffers' objects and neighbours are not known, and count as maybe\n",
            replayed.start.allocation_sample
        );
    }
    if replayed.outcomes.iter().any(|outcome| outcome.bounces > 0 && outcome.pool_cpu_ns.is_none()) {
        text += "pool CPU: ? where the capture has no time of one of the pool's functions\n";
    }
    text
}

/// Who is left unsafe, certainly and possibly; rows without any are left out.
fn hazards(replayed: &Replayed) -> String {
    let mut headings = vec![""];
    headings.extend(replayed.outcomes.iter().map(|outcome| outcome.name.as_str()));
    let mut table = Table::new(&headings);
    let runs: Vec<_> = replayed.outcomes.iter().map(|outcome| labelled(&outcome.rows)).collect();
    for (label, _) in labelled(&replayed.observed_rows) {
        let of = |rows: &Vec<(String, Tally)>| rows.iter().find(|(other, _)| *other == label).map(|(_, tally)| *tally);
        let tallies: Vec<Tally> = runs.iter().map(|rows| of(rows).unwrap_or_default()).collect();
        if tallies.iter().any(|tally| tally.unsafe_certain + tally.unsafe_possible > 0) {
            let cells = tallies.iter().map(|tally| format!("{} + {}", tally.unsafe_certain, tally.unsafe_possible));
            table.row(std::iter::once(label).chain(cells));
        }
    }
    if table.is_empty() {
        return String::new();
    }
    format!("\nleft unsafe, certainly + maybe\n{}", table.text(2))
}

/// Lists that lose their concatenation, by driver.
fn lists(replayed: &Replayed) -> String {
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
    if outcome.fallbacks > 0 {
        text += &format!("{}: {} buffers found no slots and were copied elsewhere\n", outcome.name, outcome.fallbacks);
    }
    if outcome.transient_pools > 0 {
        text += &format!(
            "{}: {} pools added, {} made for one mapping alone\n",
            outcome.name, outcome.pools_added, outcome.transient_pools
        );
    }
    if !outcome.unsafe_by_neighbour.is_empty() {
        text += &format!("{} leaves in one line with: {}\n", outcome.name, list(&outcome.unsafe_by_neighbour));
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

fn module(module: &str) -> String {
    if module.is_empty() { String::new() } else { format!(" [{module}]") }
}

/// A device's driver, in words where there is none.
pub(super) fn driver(driver: &str) -> &str {
    if driver.is_empty() { "no driver" } else { driver }
}
