//! Answers in words: the smallest pool, the cheapest policy without hazards, the drivers that cost most.

use serde::Serialize;

use super::replay::driver;
use super::table::bytes;
use crate::facts::KernelFacts;
use crate::model::pool::{SLOT, rounded_slots};
use crate::model::rule::Look;
use crate::replay::Replayed;
use crate::replay::outcome::Outcome;
use crate::replay::settings::Settings;

/// No pool that is tried is larger, slots: the kernel's own default of 64 MiB.
const LARGEST: u64 = 32768;
/// Drivers named.
const DRIVERS: usize = 3;

/// What is advised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The policy that the pool is for.
    pub policy: String,
    /// Part of the pool to stay free, percent.
    pub headroom_percent: u8,
    /// The smallest pool that does, where one does.
    pub pool: Option<PoolAdvice>,
    /// The policy, of those replayed, with the fewest bounces of those without any hazard; else of those without a certain one.
    pub cheapest: Option<Cheapest>,
    /// The drivers with the most bounces under the policy that the pool is for.
    pub drivers: Vec<DriverAdvice>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolAdvice {
    /// For the kernel's command line.
    pub parameter: String,
    /// What the kernel makes of it, slots.
    pub slots: u64,
    /// Most slots in use.
    pub peak_slots: u64,
    /// The kernel refused mappings whose time is not known: the peak may be higher.
    pub peak_is_at_least: bool,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cheapest {
    /// Its name.
    pub policy: String,
    /// Its bounces.
    pub bounces: u64,
    /// What it leaves that may be unsafe.
    pub unsafe_possible: u64,
}

/// A driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriverAdvice {
    /// Its name.
    pub driver: String,
    /// Its bounces.
    pub bounces: u64,
    /// Bytes that they copy.
    pub bytes_copied: u64,
    /// Percent of all bounces.
    pub percent: u64,
}

/// Which of the settings the advice is about: the first that bounces for alignment, else the first.
fn subject(settings: &[Settings]) -> usize {
    settings.iter().position(|settings| settings.alignment.look != Look::Never).unwrap_or(0)
}

/// The first of the settings that bounces, with every size of pool that the kernel could make.
pub fn pools(settings: &[Settings], kernel: &KernelFacts) -> Vec<Settings> {
    let Some(first) = settings.get(subject(settings)) else { return Vec::new() };
    let (smallest, areas) = rounded_slots(1, kernel.possible_cpus);
    let sizes = std::iter::successors(Some(smallest), |slots| slots.checked_mul(2));
    // What has its caches from the line size where there is no pool would have them smaller with one.
    let minalign = if first.slots == 0 { 8 } else { first.decider.minalign };
    let with = |slots| {
        let mut settings = Settings { slots, areas, ..first.clone() };
        settings.decider.minalign = minalign;
        settings
    };
    sizes.take_while(|slots| *slots <= LARGEST.max(smallest)).map(with).collect()
}

/// `tried` are the outcomes of [`pools`].
pub fn advice(replayed: &Replayed, tried: &[Outcome], headroom_percent: u8) -> Advice {
    let enough = |outcome: &&Outcome| {
        let free = outcome.total_slots.saturating_sub(outcome.peak_slots);
        outcome.failed == 0 && free * 100 >= outcome.total_slots * u64::from(headroom_percent)
    };
    let first = replayed.outcomes.get(subject(&replayed.settings));
    Advice {
        policy: first.map(|outcome| outcome.name.clone()).unwrap_or_default(),
        headroom_percent,
        pool: tried.iter().find(enough).map(|outcome| PoolAdvice {
            parameter: format!("swiotlb={}", outcome.total_slots),
            slots: outcome.total_slots,
            peak_slots: outcome.peak_slots,
            peak_is_at_least: outcome.mapped_but_refused_by_kernel > 0,
        }),
        cheapest: cheapest(&replayed.outcomes),
        drivers: first.map(drivers).unwrap_or_default(),
    }
}

fn cheapest(outcomes: &[Outcome]) -> Option<Cheapest> {
    let safe = outcomes.iter().filter(|outcome| outcome.unsafe_certain == 0 && outcome.failed == 0);
    let best = safe.min_by_key(|outcome| (outcome.unsafe_possible > 0, outcome.bounces, outcome.bytes_copied))?;
    Some(Cheapest { policy: best.name.clone(), bounces: best.bounces, unsafe_possible: best.unsafe_possible })
}

fn drivers(outcome: &Outcome) -> Vec<DriverAdvice> {
    let rows = outcome.rows.by_driver.iter().filter(|row| row.tally.bounces > 0).take(DRIVERS);
    rows.map(|row| DriverAdvice {
        driver: driver(&row.driver).to_owned(),
        bounces: row.tally.bounces,
        bytes_copied: row.tally.bytes_copied,
        percent: row.tally.bounces * 100 / outcome.bounces.max(1),
    })
    .collect()
}

/// In words.
pub fn text(advice: &Advice, replayed: &Replayed) -> String {
    let mut text = "\nadvice\n".to_owned();
    let Advice { policy, headroom_percent, .. } = advice;
    match &advice.pool {
        Some(pool) => {
            let at_least = if pool.peak_is_at_least { "at least " } else { "" };
            text += &format!(
                "  pool: boot with {}, which this kernel with {} possible CPUs makes {} slots ({}): under {policy} no mapping \
                 fails, and of its fullest moment ({at_least}{} slots) {headroom_percent} % or more stay free\n",
                pool.parameter,
                replayed.start.kernel.possible_cpus,
                pool.slots,
                bytes(pool.slots * SLOT),
                pool.peak_slots,
            );
        }
        None => {
            text += &format!(
                "  pool: under {policy} no pool of up to 64 MiB leaves {headroom_percent} % free without a failure\n"
            );
        }
    }
    match &advice.cheapest {
        Some(best) if best.unsafe_possible == 0 => {
            text += &format!(
                "  policy: {} is the cheapest of these that leaves nothing unsafe: {} bounces\n",
                best.policy, best.bounces
            );
        }
        Some(best) => {
            text += &format!(
                "  policy: each of these leaves buffers that may be unsafe; {} has no certain hazard, {} possible ones and {} bounces\n",
                best.policy, best.unsafe_possible, best.bounces
            );
        }
        None => text += "  policy: each of these has certain hazards, or mappings that fail\n",
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
    if advice.drivers.is_empty() {
        text += &format!("  drivers: none bounces under {policy}\n");
    }
    text
}
