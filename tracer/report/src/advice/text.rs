//! Advice in words.

use super::{Advice, Change, Cheapest, Cost, DriverAdvice, OwnPool, OwnPoolUse, OwnPools, PoolAdvice, memory};
use crate::label::module;
use crate::table::{bytes, slots};
use bouncescope_model::pool::SLOT;
use bouncescope_replay::Replayed;
use bouncescope_replay::check::Measured;
use bouncescope_replay::figures::Unit;

/// Policies compared that are named one by one.
const POLICIES: usize = 4;
/// Bounces a second from which on a driver is worth fixing: fewer cost too little to be noticed.
const WORTH_BOUNCES: f64 = 100.0;
/// Bytes copied a second from which on it is, too.
const WORTH_BYTES: f64 = (100 << 10) as f64;

/// In words.
pub fn text(advice: &Advice, replayed: &Replayed) -> String {
    let mut text = match &advice.only_recorded {
        Some(missing) => format!("advice, only as far as recorded: {missing}\n"),
        None => "advice\n".to_owned(),
    };
    text += &format!("  pool: {}\n", pool(advice, replayed));
    for change in &advice.changes {
        text += &changed(change, replayed.span_ns);
    }
    text += &advice.memory.as_ref().map_or_else(String::new, memory::text);
    text += &still_unsafe(advice);
    if replayed.observed.total().buffers > 0 {
        text += &policy(advice);
    }
    text += &drivers(&advice.drivers, replayed.seconds());
    text += &doubts(advice);
    text.push('\n');
    text
}

/// The drivers whose bounces are worth a change, or that none is.
fn drivers(drivers: &[DriverAdvice], seconds: f64) -> String {
    let a_second = |count: u64| count as f64 / seconds.max(1e-9);
    let figures = |row: &DriverAdvice| {
        let (bounces, copied) = (a_second(row.bounces), bytes(a_second(row.bytes_copied) as u64));
        format!("{}, {bounces:.1} bounces per second ({} % of all), {copied}/s copied", row.driver, row.percent)
    };
    let is_worth =
        |row: &&DriverAdvice| a_second(row.bounces) >= WORTH_BOUNCES || a_second(row.bytes_copied) >= WORTH_BYTES;
    let worth = drivers.iter().filter(is_worth);
    let worth = worth.fold(String::new(), |text, row| text + &format!("  driver worth fixing: {}\n", figures(row)));
    match drivers.first() {
        Some(first) if worth.is_empty() => {
            format!("  drivers: none bounces enough to be worth fixing; most: {}\n", figures(first))
        }
        _ => worth,
    }
}

/// Which pool, in one line.
pub(crate) fn pool(advice: &Advice, replayed: &Replayed) -> String {
    let Advice { policy, headroom_percent, .. } = advice;
    if let Some(counted) = advice.unrecorded {
        return unrecorded(policy, counted);
    }
    match (&advice.pool, &advice.own_pools) {
        (_, Some(own)) => own_pools(own),
        (Some(pool), None) if advice.nothing_bounced => format!(
            "under {} nothing bounced in this recording; boot with {} all the same ({}), for the smaller caches that a \
             pool allows",
            advice.policy,
            pool.parameter,
            bytes(pool.slots * SLOT)
        ),
        (Some(pool), None) => sized(pool, advice, replayed.start.kernel.possible_cpus),
        (None, None) if replayed.observed.total().buffers == 0 && replayed.lengths.total.mappings == 0 => {
            "nothing was mapped in this recording".to_owned()
        }
        (None, None) if advice.nothing_bounced => {
            format!("under {policy} nothing bounced in this recording: no pool was needed")
        }
        (None, None) => {
            format!("under {policy} no pool of up to 128 MiB leaves {headroom_percent} % free without a failure")
        }
    }
}

/// What would bounce was not recorded one by one.
fn unrecorded(policy: &str, counted: u64) -> String {
    let bounces = match counted {
        0 => format!("under {policy} it is not known what bounces"),
        counted => format!(
            "under {policy} {counted} buffers bounce, as the kernel counted them by device and length; how many at once is not known"
        ),
    };
    format!(
        "{bounces}, since these mappings were not recorded one by one (record --mappings written, or all): no pool is advised"
    )
}

fn sized(pool: &PoolAdvice, advice: &Advice, cpus: u32) -> String {
    let (at_least, at_most) = if pool.peak_is_at_least { ("at least ", "at most ") } else { ("", "") };
    // Rounded down: what is said to be free is.
    let free = pool.slots.saturating_sub(pool.peak_slots_at_most) * 100 / pool.slots.max(1);
    let lasting = if pool.peak_slots_at_most > pool.peak_slots {
        format!(
            "; that counts the {} mappings that the recorded kernel refused, held as long as others of their device, call site and \
             length ({} without them)",
            pool.refused,
            slots(pool.peak_slots)
        )
    } else {
        String::new()
    };
    let provisional = if pool.peak_is_at_least { "provisional, since the peak may have been higher: " } else { "" };
    format!(
        "{provisional}boot with {}: {} ({}{}) with this kernel's {cpus} possible CPUs; no mapping fails under {}, with \
         {at_least}{} in use at the fullest moment, so that {at_most}{free} % stay free ({} % asked for){lasting}",
        pool.parameter,
        slots(pool.slots),
        bytes(pool.slots * SLOT),
        if pool.is_smallest { ", its smallest" } else { "" },
        advice.policy,
        slots(pool.peak_slots_at_most),
        advice.headroom_percent,
    )
}

fn own_pools(own: &OwnPools) -> String {
    let used = |used: &OwnPoolUse| {
        format!(
            ", of which at most {} were in use ({} of them coherent memory, {} in use when the recording began): {} would do",
            used.peak_slots,
            used.coherent_at_peak,
            used.used_at_start,
            bytes(used.enough_slots * SLOT)
        )
    };
    let of = |pool: &OwnPool| {
        let used = pool.used.as_ref().map(used).unwrap_or_default();
        format!("{} {} ({}){used}", pool.whose, slots(pool.slots), bytes(pool.slots * SLOT))
    };
    let pools: Vec<String> = own.pools.iter().map(of).collect();
    format!(
        "swiotlb= does not set restricted pools (restricted-dma-pool in the device tree): {}; at the fullest moment {} \
         of all pools together were in use",
        pools.join("; "),
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
    if let Some(hazards) = hazards(before, after) {
        parts.push(hazards);
    }
    if parts.is_empty() {
        return String::new();
    }
    format!("  {to} instead of {from}: {}\n", parts.join("; "))
}

/// By what else is in the lines. The rest of the buffers' own objects comes last, and only where there is any.
fn hazards(before: &Cost, after: &Cost) -> Option<String> {
    let show = |measured: &Measured| format!("{}{}", measured.mark(), Unit::Count.show(measured.value));
    let change = |of: fn(&Cost) -> Option<&Measured>| Some((of(before)?, of(after)?));
    let shown = |(before, after): (&Measured, &Measured)| format!("{} -> {}", show(before), show(after));
    let foreign = shown(change(|cost| cost.hazards_foreign.as_ref())?);
    let unknown = shown(change(|cost| cost.hazards_unknown.as_ref())?);
    let own = change(|cost| cost.hazards_own.as_ref()).filter(|(before, after)| before.high + after.high > 0.0);
    let own = own.map_or_else(String::new, |own| format!(", with the rest of their own object {}", shown(own)));
    Some(format!("hazards with a foreign object {foreign}, unknown {unknown}{own}"))
}

fn still_unsafe(advice: &Advice) -> String {
    if advice.still_unsafe.is_empty() {
        return String::new();
    }
    // What is in doubt of all of them is of each.
    let all = advice.changes.last().and_then(|change| change.after.hazards_foreign.as_ref());
    let mark = all.map_or("", Measured::mark);
    let sites = advice.still_unsafe.iter().map(|site| {
        let name = if site.call_site.is_empty() { "unknown call sites" } else { &site.call_site };
        format!("{name}{} {mark}{}", module(&site.module), site.hazards_foreign)
    });
    let sites: Vec<String> = sites.collect();
    format!(
        "  hazards left, with a foreign object: {} (driver {})\n",
        sites.join(", "),
        advice.unsafe_drivers.join(", ")
    )
}

fn policy(advice: &Advice) -> String {
    let names = match &advice.compared[..] {
        [one] => one.clone(),
        [first @ .., last] if first.len() < POLICIES => format!("{} and {last}", first.join(", ")),
        all => format!("{} and {} more", all[..POLICIES.min(all.len())].join(", "), all.len().saturating_sub(POLICIES)),
    };
    let found = match &advice.cheapest {
        Some(Cheapest { policy, bounces, hazards_unknown, in_doubt }) => {
            let doubt = if *in_doubt { ", as far as known" } else { "" };
            match hazards_unknown {
                0 => format!("{policy} is the cheapest that leaves no hazard{doubt}: {bounces} bounces"),
                unknown => format!(
                    "{policy} leaves no hazard with a foreign object{doubt}, {unknown} unknown ones, and has {bounces} bounces"
                ),
            }
        }
        None => "each leaves hazards with a foreign object, or mappings that fail".to_owned(),
    };
    let more = if advice.compared.len() > POLICIES { "" } else { " (--policy all compares every one)" };
    let with_pool = if advice.own_pools.is_some() { "" } else { ", each with a pool that is large enough" };
    format!("  policy: of {names}{with_pool}, {found}{more}\n")
}

/// Why the hazards have marks.
fn doubts(advice: &Advice) -> String {
    let mut doubts: Vec<&str> = Vec::new();
    for cost in advice.changes.iter().flat_map(|change| [&change.before, &change.after]) {
        let hazards = [&cost.hazards_foreign, &cost.hazards_unknown, &cost.hazards_own].into_iter().flatten();
        for why in hazards.flat_map(|figure| &figure.doubts) {
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
