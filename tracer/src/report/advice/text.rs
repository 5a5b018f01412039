//! Advice in words.

use super::{Advice, Change, Cheapest, Cost, OwnPool, OwnPools, PoolAdvice};
use crate::check::{Measured, Unit};
use crate::model::pool::SLOT;
use crate::replay::Replayed;
use crate::replay::outcome::Estimate;
use crate::report::breakdown::module;
use crate::report::table::{bytes, slots};

/// Policies compared that are named one by one.
const POLICIES: usize = 4;

/// In words.
pub fn text(advice: &Advice, replayed: &Replayed) -> String {
    let mut text = match &advice.only_recorded {
        Some(missing) => format!("advice, only as far as recorded: {missing}\n"),
        None => "advice\n".to_owned(),
    };
    text += &pool(advice, replayed);
    for change in &advice.changes {
        text += &changed(change, replayed.span_ns);
    }
    text += &still_unsafe(advice);
    if replayed.observed.total().buffers > 0 {
        text += &policy(advice);
    }
    for row in &advice.drivers {
        text += &format!(
            "  driver worth fixing: {}, {} bounces ({} %), {} copied\n",
            row.driver,
            row.bounces,
            row.percent,
            bytes(row.bytes_copied)
        );
    }
    text += &doubts(advice);
    text.push('\n');
    text
}

fn pool(advice: &Advice, replayed: &Replayed) -> String {
    let Advice { policy, headroom_percent, .. } = advice;
    match (&advice.pool, &advice.own_pools) {
        (_, Some(own)) => own_pools(own),
        (Some(pool), None) => sized(pool, advice, replayed.start.kernel.possible_cpus),
        (None, None) if replayed.observed.total().buffers == 0 => {
            "  pool: nothing was mapped in this recording\n".to_owned()
        }
        (None, None) if advice.nothing_bounced => {
            format!("  pool: under {policy} nothing bounced in this recording: no pool was needed\n")
        }
        (None, None) => {
            format!(
                "  pool: under {policy} no pool of up to 128 MiB leaves {headroom_percent} % free without a failure\n"
            )
        }
    }
}

fn sized(pool: &PoolAdvice, advice: &Advice, cpus: u32) -> String {
    let at_least = if pool.peak_is_at_least { "at least " } else { "" };
    let most = if pool.peak_is_at_least { "at most " } else { "" };
    // Rounded down: what is said to be free is.
    let free = pool.slots.saturating_sub(pool.peak_slots) * 100 / pool.slots.max(1);
    let smallest = if pool.is_smallest { ", its smallest" } else { "" };
    format!(
        "  pool: boot with {}, which this kernel with {cpus} possible CPUs makes {} ({}{smallest}): under {} no mapping fails, \
         and at its fullest moment, with {at_least}{}, {most}{free} % of it were free ({} % asked for)\n",
        pool.parameter,
        slots(pool.slots),
        bytes(pool.slots * SLOT),
        advice.policy,
        slots(pool.peak_slots),
        advice.headroom_percent,
    )
}

fn own_pools(own: &OwnPools) -> String {
    let of = |pool: &OwnPool| format!("{} {} ({})", pool.whose, slots(pool.slots), bytes(pool.slots * SLOT));
    let pools: Vec<String> = own.pools.iter().map(of).collect();
    format!(
        "  pool: swiotlb= does not set restricted pools (restricted-dma-pool in the device tree): {}; at the fullest moment {} \
         of all pools together were in use\n",
        pools.join(", "),
        slots(own.peak_slots)
    )
}

fn changed(change: &Change, span_ns: u64) -> String {
    let Change { from, to, before, after } = change;
    let per_second = |cost: &Cost| bytes((cost.bytes_copied as f64 * 1e9 / span_ns.max(1) as f64) as u64);
    let mut parts = Vec::new();
    if before.bounces + after.bounces > 0 {
        let (copied_before, copied_after) = (per_second(before), per_second(after));
        parts.push(format!(
            "bounces {} -> {}, copied {copied_before}/s -> {copied_after}/s",
            before.bounces, after.bounces
        ));
    }
    if before.failed + after.failed > 0 {
        parts.push(format!("mappings that fail {} -> {}", before.failed, after.failed));
    }
    if let (Some(certain), Some(possible)) = (
        hazards(before.unsafe_certain.as_ref(), after.unsafe_certain.as_ref()),
        hazards(before.unsafe_possible.as_ref(), after.unsafe_possible.as_ref()),
    ) {
        parts.push(format!("certain hazards {certain}, possible {possible}"));
    }
    parts.push(memory(before, after));
    format!("  {to} in place of {from}: {}\n", parts.join("; "))
}

fn hazards(before: Option<&Measured>, after: Option<&Measured>) -> Option<String> {
    let show = |measured: &Measured| format!("{}{}", measured.mark(), Unit::Count.show(measured.value));
    Some(format!("{} -> {}", show(before?), show(after?)))
}

/// Slabs against the pool.
fn memory(before: &Cost, after: &Cost) -> String {
    let pool = format!("pool {} -> {}", bytes(before.pool_bytes), bytes(after.pool_bytes));
    let (Some(slabs_before), Some(slabs_after)) = (before.slab_bytes, after.slab_bytes) else { return pool };
    let net = (after.pool_bytes + slabs_after.value) as i64 - (before.pool_bytes + slabs_before.value) as i64;
    let sum = match net {
        0 => "nothing gained or lost in all".to_owned(),
        net if net > 0 => format!("{} more in all", bytes(net.unsigned_abs())),
        net => format!("{} less in all", bytes(net.unsigned_abs())),
    };
    let show = |slabs: Estimate| match slabs.error {
        0 => bytes(slabs.value),
        error => format!("{} +- {}", bytes(slabs.value), bytes(error)),
    };
    format!("slabs of recorded objects {} -> {}, {pool}: {sum}", show(slabs_before), show(slabs_after))
}

fn still_unsafe(advice: &Advice) -> String {
    if advice.still_unsafe.is_empty() {
        return String::new();
    }
    // What is in doubt of all of them is of each.
    let all = advice.changes.last().and_then(|change| change.after.unsafe_certain.as_ref());
    let mark = all.map_or("", Measured::mark);
    let sites = advice.still_unsafe.iter().map(|site| {
        let name = if site.call_site.is_empty() { "unknown call sites" } else { &site.call_site };
        format!("{name}{} {mark}{}", module(&site.module), site.unsafe_certain)
    });
    let sites: Vec<String> = sites.collect();
    format!("  still unsafe: {} (driver {})\n", sites.join(", "), advice.unsafe_drivers.join(", "))
}

fn policy(advice: &Advice) -> String {
    let names = match &advice.compared[..] {
        [one] => one.clone(),
        [first @ .., last] if first.len() < POLICIES => format!("{} and {last}", first.join(", ")),
        all => format!("{} and {} more", all[..POLICIES.min(all.len())].join(", "), all.len().saturating_sub(POLICIES)),
    };
    let found = match &advice.cheapest {
        Some(Cheapest { policy, bounces, unsafe_possible, in_doubt }) => {
            let doubt = if *in_doubt { ", as far as known" } else { "" };
            match unsafe_possible {
                0 => format!("{policy} is the cheapest that leaves nothing unsafe{doubt}: {bounces} bounces"),
                possible => format!(
                    "none leaves nothing that may be unsafe; {policy} has no certain hazard{doubt}, {possible} possible ones and \
                     {bounces} bounces"
                ),
            }
        }
        None => "none is without certain hazards and mappings that fail".to_owned(),
    };
    let more = if advice.compared.len() > POLICIES { "" } else { " (--policy all compares every one)" };
    let with_pool = if advice.own_pools.is_some() { "" } else { ", each with a pool that is large enough" };
    format!("  policy: of {names}{with_pool}, {found}{more}\n")
}

/// Why the hazards have marks.
fn doubts(advice: &Advice) -> String {
    let mut doubts: Vec<&str> = Vec::new();
    for cost in advice.changes.iter().flat_map(|change| [&change.before, &change.after]) {
        for why in [&cost.unsafe_certain, &cost.unsafe_possible].into_iter().flatten().flat_map(|figure| &figure.doubts)
        {
            if !doubts.contains(&why.as_str()) {
                doubts.push(why);
            }
        }
    }
    if doubts.is_empty() {
        String::new()
    } else {
        format!("  hazards are in doubt (<=, >=, ~): {}\n", doubts.join("; "))
    }
}
