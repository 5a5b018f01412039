//! `bouncescope replay` for people: a row for each policy, what its figures mean, and why some are in doubt.

use std::collections::BTreeMap;

use super::advice::{self, Advice};
use super::breakdown;
use super::lengths;
use super::losses::{self, seconds};
use super::table::{Table, bytes, slots};
use crate::check::{Figure, Gauge, Measured};
use crate::facts::KernelFacts;
use crate::model::pool::SLOT;
use crate::replay::Replayed;
use crate::replay::outcome::Outcome;

/// What the kernel did, among policies.
pub(super) const OBSERVED: &str = "(kernel did)";

/// Everything; advice first.
pub fn text(replayed: &Replayed, advice: Option<&Advice>) -> String {
    let kernel = &replayed.start.kernel;
    let mut text = format!(
        "{} {}, line size {}, kmalloc from {}{}, pool {}\n\n",
        kernel.machine,
        kernel.release,
        kernel.cache_line_size,
        kernel.kmalloc_minalign,
        because_of_tags(kernel),
        pool(kernel.pool.slots, kernel.pool.force),
    );
    text += &format!(
        "{} mappings, {} buffers in {:.3} s\n{}\n",
        replayed.observed.total().mappings,
        replayed.observed.total().buffers,
        span(replayed),
        lengths::besides(replayed),
    );
    if let Some(advice) = advice {
        text += &advice::text(advice, replayed);
    }
    let gauge = Gauge::new(replayed);
    let mut doubts = Vec::new();
    let mut table = Table::new(&HEADINGS);
    for outcome in &replayed.outcomes {
        table.row(policy_row(outcome, replayed, &gauge, &mut doubts));
    }
    table.row(observed_row(replayed));
    text += &table.text(0);
    text += &meaning(replayed);
    if !doubts.is_empty() {
        text += &format!("<=, >=, ~: in doubt, since: {}\n", doubts.join("; "));
    }
    for outcome in &replayed.outcomes {
        text += &reasons(outcome);
    }
    let is_doubtful = |outcome: &Outcome| {
        let measured = [Figure::UnsafeCertain, Figure::UnsafePossible].map(|figure| gauge.total(outcome, figure));
        measured.into_iter().flatten().any(|measured| !measured.mark().is_empty())
    };
    text += &breakdown::text(replayed, replayed.outcomes.iter().any(is_doubtful));
    text += &breakdown::lists(replayed);
    text += "\n";
    text += &unknowns(replayed);
    text += &losses::reservations(&replayed.start);
    text += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
    text
}

/// Why the smallest caches are not of 8 bytes although there is a pool: `arch_slab_minalign()` (`arch/arm64/include/asm/cache.h`),
/// which `__kmalloc_minalign()` heeds since 6.6.
fn because_of_tags(kernel: &KernelFacts) -> &'static str {
    if kernel.pool.slots == 0 || !kernel.bounce_unaligned_kmalloc || kernel.kmalloc_minalign != 16 {
        return "";
    }
    let is_set = |option| kernel.config.get(option).is_some_and(|value| value == "y");
    match (is_set("CONFIG_KASAN_SW_TAGS"), is_set("CONFIG_KASAN_HW_TAGS")) {
        (true, _) => " (KASAN's tags: no object is smaller)",
        (_, true) => " (memory tagging, KASAN_HW_TAGS: no object is smaller)",
        _ => " (memory tagging or KASAN, as it seems)",
    }
}

/// Seconds that the stream covers; never 0.
fn span(replayed: &Replayed) -> f64 {
    (replayed.span_ns as f64 / 1e9).max(1e-9)
}

fn pool(count: u64, force: bool) -> String {
    match (count, force) {
        (0, _) => "none".into(),
        (_, false) => format!("{} ({})", slots(count), bytes(count.saturating_mul(SLOT))),
        (_, true) => format!("{} ({}), force", slots(count), bytes(count.saturating_mul(SLOT))),
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

fn policy_row(outcome: &Outcome, replayed: &Replayed, gauge: &Gauge, doubts: &mut Vec<String>) -> [String; 13] {
    let start_ns = replayed.start.time_ns;
    let at =
        if outcome.peak_slots == 0 { "-".into() } else { format!("{:.3} s", seconds(outcome.peak_time_ns, start_ns)) };
    let unknown = || "?".to_owned();
    let mut marked = |figure, value: String| {
        let Some(measured) = gauge.total(outcome, figure) else { return value };
        note(&measured, doubts);
        format!("{}{value}", measured.mark())
    };
    [
        outcome.name.clone(),
        outcome.cache_line_size.to_string(),
        outcome.minalign.to_string(),
        marked(Figure::Bounces, outcome.bounces.to_string()),
        marked(Figure::BytesCopiedPerSecond, bytes((outcome.bytes_copied as f64 / span(replayed)) as u64)),
        match outcome.pool_cpu_ns {
            Some(ns) => marked(Figure::PoolCpuPercent, format!("{:.3} %", ns as f64 / 1e7 / span(replayed))),
            None => unknown(),
        },
        marked(Figure::PeakSlots, format!("{} of {}", outcome.peak_slots, outcome.total_slots)),
        at,
        marked(Figure::Failed, outcome.failed.to_string()),
        marked(Figure::UnsafeCertain, outcome.unsafe_certain.to_string()),
        marked(Figure::UnsafePossible, outcome.unsafe_possible.to_string()),
        marked(Figure::BouncesNotNeeded, outcome.bounces_not_needed.to_string()),
        outcome.slab_bytes.map_or_else(unknown, |slabs| match slabs.error {
            0 => bytes(slabs.value),
            error => format!("{} +- {}", bytes(slabs.value), bytes(error)),
        }),
    ]
}

fn note(measured: &Measured, doubts: &mut Vec<String>) {
    for why in &measured.doubts {
        if !doubts.contains(why) {
            doubts.push(why.clone());
        }
    }
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
        OBSERVED.into(),
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
    let mut text = "kmalloc from: bytes of the smallest caches; copied/s: bytes copied into and out of the pool, a second\n\
                    unsafe: written by a non-coherent device, not bounced, and something else in use is in its cache line\n\
                    maybe: not known what else is in the line; unneeded: bounced for alignment, alone in its lines\n\
                    slabs: what the objects take that were allocated in the recording and live at its end; no others\n"
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

/// A reason as it is said: of the reports' names those that are no words.
fn words(name: &str) -> String {
    match name {
        "own_object" => "the rest of its own object".to_owned(),
        "unknown" => "not known what".to_owned(),
        name => name.replace('_', " "),
    }
}

fn reasons(outcome: &Outcome) -> String {
    let list = |reasons: &BTreeMap<String, u64>| {
        reasons.iter().map(|(reason, count)| format!("{} {count}", words(reason))).collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::PoolFacts;

    #[test]
    fn caches_from_16_bytes_beside_a_pool_are_put_down_to_tags() {
        let mut kernel = KernelFacts {
            kmalloc_minalign: 16,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: 512, ..PoolFacts::default() },
            ..KernelFacts::default()
        };
        assert!(because_of_tags(&kernel).contains("as it seems"));
        kernel.config.insert("CONFIG_KASAN_HW_TAGS".into(), "y".into());
        assert!(because_of_tags(&kernel).contains("KASAN_HW_TAGS"));
        kernel.kmalloc_minalign = 8;
        assert_eq!(because_of_tags(&kernel), "", "compiled in, and not on");
    }

    #[test]
    fn names_of_reasons_are_said_in_words() {
        assert_eq!(["no_pool", "own_object"].map(words), ["no pool", "the rest of its own object"]);
    }
}
