//! Answers: the smallest pool, what it wins and costs, the cheapest policy without hazards, the drivers that cost most. All
//! but the policies are about one simulated kernel, that with the advised pool. [`text`] says them in words.

mod text;

use serde::Serialize;

use super::breakdown::driver;
use super::losses::missing;
use super::table::percent;
use crate::check::{Figure, Gauge, Measured};
use crate::facts::KernelFacts;
use crate::model::policy::{Policy, PoolChoice};
use crate::model::pool::{SLOT, is_default_size, rounded_slots};
use crate::model::rule::Look;
use crate::replay::Replayed;
use crate::replay::outcome::{Estimate, Outcome};
use crate::replay::settings::{Settings, WhatIf};

pub use text::text;

/// No pool that is tried is larger, slots: 128 MiB, twice the kernel's largest default.
pub(super) const LARGEST: u64 = 65536;
/// Drivers named, and call sites.
const NAMED: usize = 3;

/// What is advised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// What the capture lacks, so that all of this is as far as recorded.
    pub only_recorded: Option<String>,
    /// The policy that the pool is for.
    pub policy: String,
    /// Part of the pool to stay free, percent.
    pub headroom_percent: u8,
    /// Nothing bounces: no pool is needed.
    pub nothing_bounced: bool,
    /// The smallest pool that does, where one does.
    pub pool: Option<PoolAdvice>,
    /// Devices have pools of their own, which `swiotlb=` does not set: no pool is advised.
    pub own_pools: Option<OwnPools>,
    /// What becomes of the same kernel with the advised pool (without any, where nothing bounces), instead of another.
    pub changes: Vec<Change>,
    /// Of these policies, each with a pool that is large enough.
    pub compared: Vec<String>,
    /// The one with the fewest bounces of those without any hazard; else of those without a certain one.
    pub cheapest: Option<Cheapest>,
    /// The drivers with the most bounces with that pool.
    pub drivers: Vec<DriverAdvice>,
    /// The call sites with the most certain hazards with that pool.
    pub still_unsafe: Vec<UnsafeSite>,
    /// The drivers that those hazards are of.
    pub unsafe_drivers: Vec<String>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolAdvice {
    /// For the kernel's command line.
    pub parameter: String,
    /// What the kernel makes of it, slots.
    pub slots: u64,
    /// The kernel makes none smaller.
    pub is_smallest: bool,
    /// Most slots in use.
    pub peak_slots: u64,
    /// The peak may be higher.
    pub peak_is_at_least: bool,
}

/// Pools that the device tree sets (`restricted-dma-pool`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnPools {
    /// As far as known.
    pub pools: Vec<OwnPool>,
    /// Most slots in use of all pools together: none of them had more.
    pub peak_slots: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnPool {
    /// Whose, or the name of its reserved memory.
    pub whose: String,
    /// Slots.
    pub slots: u64,
}

/// One kernel instead of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The pool of the first, in words.
    pub from: String,
    /// That of the second.
    pub to: String,
    /// Under the first.
    pub before: Cost,
    /// Under the second.
    pub after: Cost,
}

/// What a pool costs and what it leaves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Buffers that bounce.
    pub bounces: u64,
    /// Bytes copied.
    pub bytes_copied: u64,
    /// Mappings refused.
    pub failed: u64,
    /// Certain hazards.
    pub unsafe_certain: Option<Measured>,
    /// Possible ones.
    pub unsafe_possible: Option<Measured>,
    /// Bytes of slabs for the objects allocated in the recording and live at its end.
    pub slab_bytes: Option<Estimate>,
    /// Bytes of the pool.
    pub pool_bytes: u64,
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
    /// There may be more, known to be unsafe or not.
    pub in_doubt: bool,
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

/// A call site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnsafeSite {
    /// Its name; empty where it is not known.
    pub call_site: String,
    /// Module.
    pub module: String,
    /// Certain hazards.
    pub unsafe_certain: u64,
}

/// What was replayed for advice, with the outcomes: [`tried`], in that order.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Simulated.
    pub settings: Vec<Settings>,
    /// Came out.
    pub outcomes: Vec<Outcome>,
}

/// Which of the settings the advice is about, whatever their order: the first that bounces for alignment, if possible with a
/// pool; else the first.
pub fn subject(settings: &[Settings]) -> usize {
    let bounces = |settings: &Settings| settings.alignment.look != Look::Never;
    let with_pool = settings.iter().position(|settings| bounces(settings) && settings.slots > 0);
    with_pool.or_else(|| settings.iter().position(bounces)).unwrap_or(0)
}

/// What has to be replayed besides, for what is to be replayed: the subject with the captured pool, with none, and with every
/// size that the kernel could make, then every policy with the largest.
pub fn tried(kernel: &KernelFacts, all: &[(&Policy, &WhatIf, &Settings)]) -> Vec<Settings> {
    let settings: Vec<Settings> = all.iter().map(|(_, _, settings)| (*settings).clone()).collect();
    let Some((policy, change, _)) = all.get(subject(&settings)) else { return Vec::new() };
    let with = |policy: &Policy, change: &WhatIf, pool| {
        Settings::what_if(kernel, policy, &WhatIf { pool: Some(pool), ..change.clone() })
    };
    let pools = [PoolChoice::Captured, PoolChoice::None].into_iter().chain(sizes(kernel).map(PoolChoice::Slots));
    let mut tried: Vec<Settings> = pools.map(|pool| with(policy, change, pool)).collect();
    let mut policies: Vec<Settings> = Vec::new();
    for (policy, change, settings) in all {
        let one = with(policy, change, PoolChoice::Slots(LARGEST));
        match policies.iter_mut().find(|other| other.policy == one.policy) {
            // Only the pool was swept, which is one and the same here.
            Some(other) if Settings { name: one.name.clone(), ..other.clone() } == one => {}
            Some(_) => policies.push(Settings { name: settings.name.clone(), ..one }),
            None => policies.push(one),
        }
    }
    tried.append(&mut policies);
    tried
}

/// Every size of pool that the kernel could make, slots, ascending.
fn sizes(kernel: &KernelFacts) -> impl Iterator<Item = u64> {
    let (smallest, _) = rounded_slots(1, kernel.possible_cpus);
    std::iter::successors(Some(smallest), |slots| slots.checked_mul(2))
        .take_while(move |slots| *slots <= LARGEST.max(smallest))
        .filter(|slots| !is_default_size(*slots))
}

/// `tried` is what became of [`tried`].
pub fn advice(replayed: &Replayed, tried: &Tried, headroom_percent: u8) -> Advice {
    let kernel = &replayed.start.kernel;
    let gauge = Gauge::new(replayed);
    let about = subject(&replayed.settings);
    let own_pools = match (replayed.settings.get(about), replayed.outcomes.get(about)) {
        (Some(settings), Some(outcome)) => own_pools(settings, outcome, kernel),
        _ => None,
    };
    let pools_end = (2 + sizes(kernel).count()).min(tried.outcomes.len());
    let (pools, policies) = tried.outcomes.split_at(pools_end);
    let [captured, none, sized @ ..] = pools else { return Advice::nothing(headroom_percent) };
    let nothing_bounced =
        sized.first().is_some_and(|least| (least.bounces, least.failed, least.peak_slots) == (0, 0, 0));
    let enough = |outcome: &&Outcome| {
        let free = outcome.total_slots.saturating_sub(outcome.peak_slots);
        outcome.failed == 0 && free * 100 >= outcome.total_slots * u64::from(headroom_percent)
    };
    let advised = sized.iter().find(enough).filter(|_| !nothing_bounced && own_pools.is_none());
    // Who bounces most and who is left unsafe does not depend on a pool's size, as long as nothing fails.
    let shown = match (&own_pools, nothing_bounced) {
        (Some(_), _) => replayed.outcomes.get(about),
        (None, true) => Some(none),
        (None, false) => advised.or(sized.last()),
    };
    let change = |from: String, before: &Outcome, to: String, after: &Outcome| Change {
        from,
        to,
        before: cost(&gauge, before),
        after: cost(&gauge, after),
    };
    let noforce = || "swiotlb=noforce".to_owned();
    let mut changes = Vec::new();
    if let Some(advised) = advised {
        let to = parameter(advised.total_slots);
        if captured.total_slots != advised.total_slots && captured.total_slots > 0 {
            changes.push(change("the captured pool".into(), captured, to.clone(), advised));
        }
        changes.push(change(noforce(), none, to, advised));
    } else if nothing_bounced && own_pools.is_none() && captured.total_slots > 0 {
        changes.push(change("the captured pool".into(), captured, noforce(), none));
    }
    let compared = if own_pools.is_some() { &replayed.outcomes } else { policies };
    Advice {
        only_recorded: missing(replayed),
        policy: captured.name.clone(),
        headroom_percent,
        nothing_bounced: nothing_bounced && own_pools.is_none(),
        pool: advised.map(|outcome| PoolAdvice {
            parameter: parameter(outcome.total_slots),
            slots: outcome.total_slots,
            is_smallest: sizes(kernel).next() == Some(outcome.total_slots),
            peak_slots: outcome.peak_slots,
            peak_is_at_least: gauge.total(outcome, Figure::PeakSlots).is_none_or(|peak| peak.high > peak.value),
        }),
        own_pools,
        changes,
        compared: compared.iter().map(|outcome| outcome.name.clone()).collect(),
        cheapest: cheapest(compared, &gauge),
        drivers: shown.map(drivers).unwrap_or_default(),
        still_unsafe: shown.map(still_unsafe).unwrap_or_default(),
        unsafe_drivers: shown.map(unsafe_drivers).unwrap_or_default(),
    }
}

impl Advice {
    /// Nothing was replayed.
    fn nothing(headroom_percent: u8) -> Self {
        Self {
            only_recorded: None,
            policy: String::new(),
            headroom_percent,
            nothing_bounced: false,
            pool: None,
            own_pools: None,
            changes: Vec::new(),
            compared: Vec::new(),
            cheapest: None,
            drivers: Vec::new(),
            still_unsafe: Vec::new(),
            unsafe_drivers: Vec::new(),
        }
    }
}

fn parameter(slots: u64) -> String {
    format!("swiotlb={slots}")
}

fn own_pools(settings: &Settings, outcome: &Outcome, kernel: &KernelFacts) -> Option<OwnPools> {
    let chosen = settings.devices.iter().filter_map(|device| {
        let whose = if device.name == "*" { "of every device".to_owned() } else { format!("of {}", device.name) };
        device.own_pool.map(|size| OwnPool { whose, slots: rounded_slots(size.0, 1).0 })
    });
    let captured = kernel.pool.restricted.iter().map(|pool| OwnPool { whose: pool.name.clone(), slots: pool.slots });
    let pools: Vec<OwnPool> = chosen.chain(captured).collect();
    (!pools.is_empty()).then_some(OwnPools { pools, peak_slots: outcome.peak_slots })
}

fn cost(gauge: &Gauge, outcome: &Outcome) -> Cost {
    Cost {
        bounces: outcome.bounces,
        bytes_copied: outcome.bytes_copied,
        failed: outcome.failed,
        unsafe_certain: gauge.total(outcome, Figure::UnsafeCertain),
        unsafe_possible: gauge.total(outcome, Figure::UnsafePossible),
        slab_bytes: outcome.slab_bytes,
        pool_bytes: outcome.total_slots * SLOT,
    }
}

fn cheapest(outcomes: &[Outcome], gauge: &Gauge) -> Option<Cheapest> {
    let safe = outcomes.iter().filter(|outcome| outcome.unsafe_certain == 0 && outcome.failed == 0);
    let best = safe.min_by_key(|outcome| (outcome.unsafe_possible > 0, outcome.bounces, outcome.bytes_copied))?;
    let more = |figure| gauge.total(best, figure).is_none_or(|measured| measured.high > measured.value);
    Some(Cheapest {
        policy: best.name.clone(),
        bounces: best.bounces,
        unsafe_possible: best.unsafe_possible,
        in_doubt: more(Figure::UnsafeCertain) || more(Figure::UnsafePossible),
    })
}

fn drivers(outcome: &Outcome) -> Vec<DriverAdvice> {
    let rows = outcome.rows.by_driver.iter().filter(|row| row.tally.bounces > 0).take(NAMED);
    rows.map(|row| DriverAdvice {
        driver: driver(&row.driver).to_owned(),
        bounces: row.tally.bounces,
        bytes_copied: row.tally.bytes_copied,
        percent: percent(row.tally.bounces, outcome.bounces),
    })
    .collect()
}

fn still_unsafe(outcome: &Outcome) -> Vec<UnsafeSite> {
    let rows = outcome.rows.by_call_site.iter().filter(|row| row.tally.unsafe_certain > 0);
    let mut sites: Vec<UnsafeSite> = rows
        .map(|row| UnsafeSite {
            call_site: row.call_site.clone(),
            module: row.module.clone(),
            unsafe_certain: row.tally.unsafe_certain,
        })
        .collect();
    sites.sort_by_key(|site| std::cmp::Reverse(site.unsafe_certain));
    sites.truncate(NAMED);
    sites
}

fn unsafe_drivers(outcome: &Outcome) -> Vec<String> {
    let rows = outcome.rows.by_driver.iter().filter(|row| row.tally.unsafe_certain > 0);
    rows.map(|row| driver(&row.driver).to_owned()).collect()
}
