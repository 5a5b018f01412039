//! `bouncescope replay` for people: a row for each policy, what its figures mean, and why some are in doubt.

use std::collections::BTreeMap;

use super::advice::{self, Advice};
use super::breakdown;
use super::figures;
use super::lengths;
use super::losses;
use super::maintenance;
use super::restricted;
use super::table::{Table, bytes, slots};
use bouncescope_capture::facts::KernelFacts;
use bouncescope_model::pool::{SLOT, WORKER_NS};
use bouncescope_replay::Replayed;
use bouncescope_replay::check::Gauge;
use bouncescope_replay::figures::Figure;
use bouncescope_replay::outcome::Outcome;
use bouncescope_replay::slabs::Basis;

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
        replayed.seconds(),
        lengths::besides(replayed),
    );
    if let Some(why) = losses::nothing_mapped(replayed) {
        text += &format!("nothing to replay: {why}\n");
    }
    if let Some(advice) = advice {
        text += &advice::text(advice, replayed);
    }
    let (rows, doubts) = figures::rows(replayed);
    let mut table = Table::new(&figures::headings());
    for row in rows {
        table.row(row.into_iter().map(|(text, _)| text));
    }
    text += &table.text(0);
    text += &meaning(replayed);
    if !doubts.is_empty() {
        text += &format!("in doubt (<=, >=, ~): {}\n", doubts.join("; "));
    }
    for outcome in &replayed.outcomes {
        text += &reasons(outcome);
    }
    let gauge = Gauge::new(replayed);
    let is_doubtful = |outcome: &Outcome| {
        let hazards = [Figure::HazardsForeign, Figure::HazardsUnknown, Figure::HazardsOwn];
        hazards.into_iter().filter_map(|figure| gauge.total(outcome, figure)).any(|hazards| !hazards.mark().is_empty())
    };
    text += &breakdown::text(replayed, replayed.outcomes.iter().any(is_doubtful));
    text += &breakdown::lists(replayed);
    text += &restricted::text(replayed);
    text += "\n";
    text += &unknowns(replayed);
    text += &losses::reservations(&replayed.start);
    text += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
    text
}

/// Why the smallest caches are not of 8 bytes although there is a pool: `arch_slab_minalign()` (`arch/arm64/include/asm/cache.h`),
/// which `__kmalloc_minalign()` heeds since 6.6.
pub(super) fn because_of_tags(kernel: &KernelFacts) -> &'static str {
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

pub(super) fn pool(count: u64, force: bool) -> String {
    match (count, force) {
        (0, _) => "none".into(),
        (_, false) => format!("{} ({})", slots(count), bytes(count.saturating_mul(SLOT))),
        (_, true) => format!("{} ({}), force", slots(count), bytes(count.saturating_mul(SLOT))),
    }
}

/// What the columns mean, and what the capture cannot tell.
pub(super) fn meaning(replayed: &Replayed) -> String {
    let mut text = figures::explanations();
    if !replayed.origins_known {
        text += "this capture cannot tell whose objects the buffers are (it needs allocations and the linear map): what else is \
                 in a line is unknown\n";
    } else if replayed.start.allocation_sample > 1 {
        text += &format!(
            "one allocation in {} was recorded: most buffers' objects and neighbours are unknown\n",
            replayed.start.allocation_sample
        );
    }
    if replayed.outcomes.iter().any(|outcome| outcome.total.bounces > 0 && outcome.pool_cpu_ns.is_none()) {
        text += "pool CPU: ? where the capture has no time of one of the pool's functions\n";
    }
    text += &maintenance::under_policies(replayed);
    text += &own_objects(replayed);
    text += &slabs(&replayed.outcomes);
    text
}

/// Hazards that the kernel's rule does not take for any.
fn own_objects(replayed: &Replayed) -> String {
    let gauge = Gauge::new(replayed);
    let own = |outcome: &Outcome| {
        let own = gauge.total(outcome, Figure::HazardsOwn).filter(|own| own.high > 0.0)?;
        Some(format!("{} {}{}", outcome.name, own.mark(), own.value))
    };
    let own: Vec<String> = replayed.outcomes.iter().filter_map(own).collect();
    if own.is_empty() {
        return String::new();
    }
    format!("own object: only the rest of it is in the line, which the kernel's rule calls safe: {}\n", own.join(", "))
}

/// How the slabs of caches that the recorded kernel does not have were found, and what recorded objects alone take.
fn slabs(outcomes: &[Outcome]) -> String {
    let any = |basis| outcomes.iter().any(|outcome| outcome.all_slabs.is_some_and(|slabs| slabs.basis == basis));
    let mut text = String::new();
    if any(Basis::Moved) {
        text += "slabs: ~ where objects move to larger caches, which is off by slabs that are not full\n";
    }
    if any(Basis::Estimated) || any(Basis::Bounded) {
        text += "slabs: the bounds hold whatever the sizes of the objects that may fit a smaller cache; an estimate is by the call sites seen\n";
    }
    let recorded = |outcome: &Outcome| {
        let slabs = outcome.slab_bytes?;
        let error = if slabs.error == 0 { String::new() } else { format!(" +- {}", bytes(slabs.error)) };
        Some(format!("{} {}{error}", outcome.name, bytes(slabs.value)))
    };
    let recorded: Vec<String> = outcomes.iter().filter_map(recorded).collect();
    if !recorded.is_empty() {
        text += &format!("slabs of objects allocated in the recording and live at its end: {}\n", recorded.join(", "));
    }
    text
}

pub(super) fn unknowns(replayed: &Replayed) -> String {
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

/// A reason as it is said.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

pub(super) fn reasons(outcome: &Outcome) -> String {
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
            "{}: {} mappings that the kernel refused are assumed here to be held for no time; if they lasted as long \
             as others of their device, call site and length, the peak would be {}, and {} would fail\n",
            outcome.name,
            outcome.mapped_but_refused_by_kernel,
            slots(outcome.peak_slots_at_most()),
            outcome.failed_at_most()
        );
    }
    if outcome.fallbacks > 0 {
        let at_least = if outcome.mapped_but_refused_by_kernel > 0 { "at least " } else { "" };
        text += &format!(
            "{}: {} buffers found no slots and were copied through memory of their own, {at_least}{} at the fullest moment\n",
            outcome.name,
            outcome.fallbacks,
            bytes(outcome.fallback_bytes)
        );
    }
    if outcome.searches_given_up > 0 {
        text += &format!(
            "{}: {} searches for slots were not made, because those before them had been in vain for too long: failed is at most this\n",
            outcome.name, outcome.searches_given_up
        );
    }
    if outcome.transient_pools_at_most() > 0 || outcome.pools_added > 0 {
        text += &format!(
            "{}: pools added: {}; pools made for a single mapping: {}{}\n",
            outcome.name,
            outcome.pools_added,
            outcome.transient_pools,
            late_worker(outcome)
        );
    }
    text
}

/// What becomes of a pool that grows where the kernel's worker is late.
fn late_worker(outcome: &Outcome) -> String {
    let transient = outcome.transient_pools_at_most();
    if transient == outcome.transient_pools && outcome.failed_at_most() == outcome.total.failed {
        return String::new();
    }
    format!(
        " if the kernel's worker adds pools at once, {transient} if it needs {} ms; then the peak is {} and {} fail",
        WORKER_NS / 1_000_000,
        slots(outcome.peak_slots_at_most()),
        outcome.failed_at_most()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::PoolFacts;

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
}
