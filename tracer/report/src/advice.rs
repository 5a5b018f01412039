//! Answers: the smallest pool, what it saves and costs, the cheapest policy without hazards, the drivers that cost most. All
//! but the policies are about one simulated kernel, that with the advised pool. [`text`] says them in words.

mod memory;
pub mod several;
mod text;

use serde::Serialize;

use super::label::driver;
use super::losses::{missing, nothing_mapped};
use super::table::percent;
use bouncescope_capture::facts::KernelFacts;
use bouncescope_model::architecture::Architecture;
use bouncescope_model::policy::{Policy, PoolChoice};
use bouncescope_model::pool::SEGMENT_SLOTS;
use bouncescope_model::rule::Look;
use bouncescope_replay::Replayed;
use bouncescope_replay::check::{Gauge, Measured};
use bouncescope_replay::default_pool::PoolRule;
use bouncescope_replay::figures::Figure;
use bouncescope_replay::outcome::Outcome;
use bouncescope_replay::settings::{Settings, WhatIf};

pub(crate) use memory::slabs_of;
pub use memory::{Held, Memory};
#[cfg(feature = "plots")]
pub(crate) use text::pool as pool_text;
pub use text::text;

/// No pool that is tried is larger, slots: 128 MiB, twice the kernel's largest default.
pub(super) const LARGEST: u64 = 65536;
/// Drivers named, and call sites.
const NAMED: usize = 3;

/// What is advised.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Advice {
    /// What the capture lacks, so that all of this is as far as recorded.
    pub only_recorded: Option<String>,
    /// The policy that the pool is for.
    pub policy: String,
    /// Part of the pool to stay free, percent.
    pub headroom_percent: u8,
    /// Nothing bounces: no pool is needed.
    pub nothing_bounced: bool,
    /// Buffers would bounce that were not recorded, or may: so many by the kernel's counts of lengths. No pool is advised.
    pub unrecorded: Option<u64>,
    /// The smallest pool that does, where one does.
    pub pool: Option<PoolAdvice>,
    /// Devices have pools of their own, which `swiotlb=` does not set: no pool is advised.
    pub own_pools: Option<OwnPools>,
    /// What the pool takes and saves in memory; `None` where the capture has no count of the kernel's caches.
    pub memory: Option<Memory>,
    /// What becomes of the same kernel with the advised pool (without any, where nothing bounces), instead of another.
    pub changes: Vec<Change>,
    /// Of these policies, each with a pool that is large enough.
    pub compared: Vec<String>,
    /// The one with the fewest bounces of those without hazards; else of those without hazards with a foreign object. Hazards with
    /// the rest of the buffer's own object are not counted.
    pub cheapest: Option<Cheapest>,
    /// The drivers with the most bounces with that pool.
    pub drivers: Vec<DriverAdvice>,
    /// The call sites with the most hazards with a foreign object, with that pool.
    pub still_unsafe: Vec<UnsafeSite>,
    /// The drivers that those hazards are of.
    pub unsafe_drivers: Vec<String>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolAdvice {
    /// For the kernel's command line.
    pub parameter: String,
    /// What the kernel makes of it, slots.
    pub slots: u64,
    /// The kernel makes none smaller.
    pub is_smallest: bool,
    /// Most slots in use.
    pub peak_slots: u64,
    /// The same where mappings that the recorded kernel refused last as long as others like them. The pool's size is chosen by this.
    pub peak_slots_at_most: u64,
    /// Such mappings.
    pub refused: u64,
    /// The peak may be higher than that, too.
    pub peak_is_at_least: bool,
}

/// Pools that the device tree sets (`restricted-dma-pool`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OwnPools {
    /// As far as known.
    pub pools: Vec<OwnPool>,
    /// Most slots in use of all pools together: none of them had more.
    pub peak_slots: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OwnPool {
    /// Whose, or the name of its reserved memory.
    pub whose: String,
    /// Slots.
    pub slots: u64,
    /// What was in use of it, with coherent memory; `None` where no device used it, and for pools of which each device has one.
    pub used: Option<OwnPoolUse>,
}

/// What was in use of a restricted pool, at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OwnPoolUse {
    /// Slots, with coherent memory and with what was in use when the recording began.
    pub peak_slots: u64,
    /// Those of them that were coherent memory allocated in the recording.
    pub coherent_at_peak: u64,
    /// Slots in use when the recording began.
    pub used_at_start: u64,
    /// Slots of a pool that would have left as much free as was asked for, in whole segments of 256 KiB.
    pub enough_slots: u64,
}

/// One kernel instead of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// What a pool leaves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cost {
    /// Buffers that bounce.
    pub bounces: u64,
    /// Bytes copied.
    pub bytes_copied: u64,
    /// Mappings refused.
    pub failed: u64,
    /// Hazards with a foreign object.
    pub hazards_foreign: Option<Measured>,
    /// Those where it is not known what else is in the lines.
    pub hazards_unknown: Option<Measured>,
    /// Those with the rest of the buffer's own object.
    pub hazards_own: Option<Measured>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cheapest {
    /// Its name.
    pub policy: String,
    /// Its bounces.
    pub bounces: u64,
    /// Hazards that it leaves where it is not known what else is in the lines.
    pub hazards_unknown: u64,
    /// There may be more of these, or some with a foreign object.
    pub in_doubt: bool,
}

/// A driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnsafeSite {
    /// Its name; empty where it is not known.
    pub call_site: String,
    /// Module.
    pub module: String,
    /// Hazards with a foreign object.
    pub hazards_foreign: u64,
}

/// What was replayed for advice, with the outcomes: [`tried`], in that order.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Simulated.
    pub settings: Vec<Settings>,
    /// Came out.
    pub outcomes: Vec<Outcome>,
}

impl Tried {
    /// Takes from a replay what is behind the first `shown` settings.
    pub fn split_from(replayed: &mut Replayed, shown: usize) -> Self {
        let at = shown.min(replayed.settings.len()).min(replayed.outcomes.len());
        Self { settings: replayed.settings.split_off(at), outcomes: replayed.outcomes.split_off(at) }
    }
}

/// Which of the settings the advice is about, whatever their order: the first that bounces for alignment, if possible with a
/// pool; else the first.
pub fn subject(settings: &[Settings]) -> usize {
    let bounces = |settings: &Settings| settings.rule.look != Look::Never;
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
    let numbers = sizes(kernel).into_iter().map(|size| PoolChoice::Slots(size.parameter));
    let pools = [PoolChoice::Captured, PoolChoice::None].into_iter().chain(numbers);
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

/// A pool that the kernel could make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    slots: u64,
    /// The number of `swiotlb=` that makes it.
    parameter: u64,
}

/// Every size of pool that the kernel could make, ascending.
fn sizes(kernel: &KernelFacts) -> Vec<Size> {
    let rule = PoolRule::of(kernel);
    rule.sizes(LARGEST).filter_map(|slots| Some(Size { slots, parameter: rule.parameter_for(slots)? })).collect()
}

/// `tried` is what became of [`tried`].
pub fn advice(replayed: &Replayed, tried: &Tried, headroom_percent: u8) -> Advice {
    let kernel = &replayed.start.kernel;
    let gauge = Gauge::new(replayed);
    let about = subject(&replayed.settings);
    let own_pools = match (replayed.settings.get(about), replayed.outcomes.get(about)) {
        (Some(settings), Some(outcome)) => own_pools(settings, outcome, kernel, headroom_percent),
        _ => None,
    };
    let sizes = sizes(kernel);
    let pools_end = (2 + sizes.len()).min(tried.outcomes.len());
    let (pools, policies) = tried.outcomes.split_at(pools_end);
    let [captured, none, sized @ ..] = pools else { return Advice::nothing(headroom_percent) };
    if nothing_mapped(replayed).is_some() && replayed.lengths.total.mappings == 0 {
        return Advice { policy: captured.name.clone(), ..Advice::nothing(headroom_percent) };
    }
    let nothing_bounced =
        sized.first().is_some_and(|least| (least.total.bounces, least.total.failed, least.peak_slots) == (0, 0, 0));
    let all_recorded = replayed.lengths.total.mappings <= replayed.observed.total().mappings;
    let misses = |least: &&Outcome| least.looks_at_unstreamed && !all_recorded;
    let unrecorded = sized.first().filter(misses).map(|least| least.bounces_only_counted);
    let unrecorded = unrecorded.filter(|counted| *counted > 0 || nothing_bounced);
    let nothing_bounced = nothing_bounced && unrecorded.is_none();
    let enough = |outcome: &&Outcome| {
        let free = outcome.total_slots.saturating_sub(outcome.peak_slots_at_most());
        outcome.failed_at_most() == 0 && free * 100 >= outcome.total_slots * u64::from(headroom_percent)
    };
    // Restricted pools that the policy adds are counted in, and are set elsewhere.
    // What the recorded kernel was booted to force stays forced under every pool.
    let force = if replayed.settings.get(about).is_some_and(|settings| settings.force) { ",force" } else { "" };
    let parameter = |outcome: &Outcome| {
        let made = sizes.iter().find(|size| size.slots == outcome.total_slots);
        format!("swiotlb={}{force}", made.map_or(outcome.total_slots, |size| size.parameter))
    };
    let fits = sized.iter().find(enough).filter(|_| own_pools.is_none());
    let memory = fits.and_then(|fits| Memory::new(replayed, fits, parameter(fits), none));
    // Where nothing bounces a pool is there for smaller caches alone.
    let packs = Architecture::of(&kernel.machine).bounces_small();
    let pays = packs && memory.as_ref().is_some_and(Memory::pool_pays);
    let advised = fits.filter(|_| unrecorded.is_none() && (!nothing_bounced || pays));
    // Who bounces most and who is left unsafe does not depend on a pool's size, as long as nothing fails.
    let shown = match (&own_pools, nothing_bounced) {
        (Some(_), _) => replayed.outcomes.get(about),
        (None, true) => advised.or(Some(none)),
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
        let to = parameter(advised);
        if captured.total_slots != advised.total_slots && captured.total_slots > 0 {
            changes.push(change("the captured pool".into(), captured, to.clone(), advised));
        }
        changes.push(change(noforce(), none, to, advised));
    } else if nothing_bounced
        && own_pools.is_none()
        && captured.total_slots > 0
        && memory.as_ref().is_none_or(|memory| !memory.pool_costs.may_be_either())
    {
        changes.push(change("the captured pool".into(), captured, noforce(), none));
    }
    let compared = if own_pools.is_some() { &replayed.outcomes } else { policies };
    Advice {
        only_recorded: missing(replayed),
        policy: captured.name.clone(),
        headroom_percent,
        nothing_bounced: nothing_bounced && own_pools.is_none(),
        unrecorded: unrecorded.filter(|_| own_pools.is_none()),
        pool: advised.map(|outcome| PoolAdvice {
            parameter: parameter(outcome),
            slots: outcome.total_slots,
            is_smallest: sizes.first().is_some_and(|smallest| smallest.slots == outcome.total_slots),
            peak_slots: outcome.peak_slots,
            peak_slots_at_most: outcome.peak_slots_at_most(),
            refused: outcome.mapped_but_refused_by_kernel,
            peak_is_at_least: gauge
                .total(outcome, Figure::PeakSlots)
                .is_none_or(|peak| peak.high > outcome.peak_slots_at_most() as f64),
        }),
        own_pools,
        memory,
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
            unrecorded: None,
            pool: None,
            own_pools: None,
            memory: None,
            changes: Vec::new(),
            compared: Vec::new(),
            cheapest: None,
            drivers: Vec::new(),
            still_unsafe: Vec::new(),
            unsafe_drivers: Vec::new(),
        }
    }
}

fn own_pools(settings: &Settings, outcome: &Outcome, kernel: &KernelFacts, headroom_percent: u8) -> Option<OwnPools> {
    let chosen = settings.devices.iter().filter_map(|device| {
        let whose = if device.name == "*" { "of every device".to_owned() } else { format!("of {}", device.name) };
        device.own_pool.map(|size| OwnPool { whose, slots: size.0, used: None })
    });
    let used = |name: &String| {
        let row = outcome.pools.iter().find(|row| row.name == *name)?;
        let wanted = (row.peak_slots * 100).div_ceil(100 - u64::from(headroom_percent).min(99));
        Some(OwnPoolUse {
            peak_slots: row.peak_slots,
            coherent_at_peak: row.coherent_at_peak,
            used_at_start: row.used_at_start,
            enough_slots: wanted.next_multiple_of(u64::from(SEGMENT_SLOTS)),
        })
    };
    let captured = kernel.pool.restricted.iter().map(|pool| OwnPool {
        whose: pool.name.clone(),
        slots: pool.slots,
        used: used(&pool.name),
    });
    let pools: Vec<OwnPool> = chosen.chain(captured).collect();
    (!pools.is_empty()).then_some(OwnPools { pools, peak_slots: outcome.peak_slots })
}

fn cost(gauge: &Gauge, outcome: &Outcome) -> Cost {
    Cost {
        bounces: outcome.total.bounces,
        bytes_copied: outcome.total.bytes_copied,
        failed: outcome.total.failed,
        hazards_foreign: gauge.total(outcome, Figure::HazardsForeign),
        hazards_unknown: gauge.total(outcome, Figure::HazardsUnknown),
        hazards_own: gauge.total(outcome, Figure::HazardsOwn),
    }
}

fn cheapest(outcomes: &[Outcome], gauge: &Gauge) -> Option<Cheapest> {
    let safe = outcomes.iter().filter(|outcome| outcome.total.hazards_foreign == 0 && outcome.total.failed == 0);
    let best = safe
        .min_by_key(|outcome| (outcome.total.hazards_unknown > 0, outcome.total.bounces, outcome.total.bytes_copied))?;
    let more = |figure| gauge.total(best, figure).is_none_or(|measured| measured.high > measured.value);
    Some(Cheapest {
        policy: best.name.clone(),
        bounces: best.total.bounces,
        hazards_unknown: best.total.hazards_unknown,
        in_doubt: more(Figure::HazardsForeign) || more(Figure::HazardsUnknown),
    })
}

fn drivers(outcome: &Outcome) -> Vec<DriverAdvice> {
    let rows = outcome.rows.by_driver.iter().filter(|row| row.tally.bounces > 0).take(NAMED);
    rows.map(|row| DriverAdvice {
        driver: driver(&row.driver).to_owned(),
        bounces: row.tally.bounces,
        bytes_copied: row.tally.bytes_copied,
        percent: percent(row.tally.bounces, outcome.total.bounces),
    })
    .collect()
}

fn still_unsafe(outcome: &Outcome) -> Vec<UnsafeSite> {
    let rows = outcome.rows.by_call_site.iter().filter(|row| row.tally.hazards_foreign > 0);
    let mut sites: Vec<UnsafeSite> = rows
        .map(|row| UnsafeSite {
            call_site: row.call_site.clone(),
            module: row.module.clone(),
            hazards_foreign: row.tally.hazards_foreign,
        })
        .collect();
    sites.sort_by_key(|site| std::cmp::Reverse(site.hazards_foreign));
    sites.truncate(NAMED);
    sites
}

fn unsafe_drivers(outcome: &Outcome) -> Vec<String> {
    let rows = outcome.rows.by_driver.iter().filter(|row| row.tally.hazards_foreign > 0);
    rows.map(|row| driver(&row.driver).to_owned()).collect()
}
