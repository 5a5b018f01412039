//! One pool for several recordings: what each would have needed, the smallest pool that none of them fills, and how sure that is.
//! [`text`] says it in words.

mod share;
mod text;

use bouncescope_capture::facts::KernelFacts;
use bouncescope_model::policy::PoolChoice;
use bouncescope_replay::Replayed;
use bouncescope_replay::outcome::Outcome;
use bouncescope_replay::settings::Settings;
use serde::Serialize;

use super::{Advice, Size, Tried, advice, sizes, subject};
use share::Share;
pub use text::text;

/// What is replayed for several recordings: what [`super::tried`] has for one, with a growing pool behind it.
pub fn tried(kernel: &KernelFacts, all: &[(&super::Policy, &super::WhatIf, &Settings)]) -> Vec<Settings> {
    let mut tried = super::tried(kernel, all);
    let settings: Vec<Settings> = all.iter().map(|(_, _, settings)| (*settings).clone()).collect();
    if let (Some((policy, change, _)), Some(smallest)) = (all.get(subject(&settings)), sizes(kernel).first()) {
        let pool = Some(PoolChoice::Slots(smallest.parameter));
        let fixed = Settings::what_if(kernel, policy, &super::WhatIf { pool, ..(*change).clone() });
        tried.push(Settings { grows: true, ..fixed });
    }
    tried
}

/// One of the recordings.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Recording {
    /// The capture's path.
    pub capture: String,
    /// `utsname.machine`, and `utsname.release`.
    pub kernel: String,
    /// When it began, seconds since 1970.
    pub wall_clock_s: u64,
    /// Time that it covers, seconds.
    pub seconds: f64,
    /// Mappings that the recorded kernel refused.
    pub refused: u64,
    /// Most slots in use at once with a pool that is large enough, where mappings that the recorded kernel refused last as long as
    /// others like them.
    pub peak_slots: u64,
    /// The peak may be higher.
    pub peak_is_at_least: bool,
    /// Why this recording does not tell which pool is enough.
    pub cannot_tell: Option<String>,
    /// What each size of pool comes to.
    #[serde(skip)]
    pools: Vec<Trial>,
    /// The smallest pool, with more added when it is full.
    #[serde(skip)]
    growing: Option<Trial>,
}

/// A pool tried on a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Trial {
    size: Size,
    /// Mappings refused.
    failed: u64,
    /// As far as is known.
    failed_at_most: u64,
    peak_slots: u64,
    nearly_full_ns: u64,
    pools_added: u64,
}

/// A pool, and what all recordings together say of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolOfAll {
    /// For the kernel's command line.
    pub parameter: String,
    /// What the kernel makes of it, slots.
    pub slots: u64,
    /// A kernel that adds pools (`CONFIG_SWIOTLB_DYNAMIC`); `slots` is what it begins with.
    pub grows: bool,
    /// Recordings in which mappings may be refused.
    pub refused_in: u64,
    /// Of them, those in which mappings are refused for certain.
    pub refused_in_at_least: u64,
    /// Mappings that may be refused, in all of them.
    pub refused: u64,
    /// Of them, those that are refused for certain.
    pub refused_at_least: u64,
    /// Time with more than 80 % of the slots in use that there are then, seconds, in all of them.
    pub seconds_above_80_percent: f64,
    /// Most slots in use at once in any of them.
    pub peak_slots: u64,
    /// Pools added in all of them.
    pub pools_added: u64,
    /// Of further recordings like these, the share in which mappings are refused. Where a peak may be higher, so may the greatest share.
    pub share_refused: Share,
}

/// The answer for all.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Several {
    /// The policy that the pool is for.
    pub policy: String,
    /// Part of the pool to stay free, percent.
    pub headroom_percent: u8,
    /// In the order in which they were recorded.
    pub recordings: Vec<Recording>,
    /// Sizes that all of these kernels can make, ascending, as far as they differ in what they come to; then a growing one.
    pub pools: Vec<PoolOfAll>,
    /// The smallest pool that no recording fills, with the headroom asked for.
    pub advised: Option<PoolOfAll>,
    /// Each recording is fuller than the one before: they are not alike, and the shares say too little.
    pub peaks_rise: bool,
}

impl Recording {
    /// Of a replay of [`tried`].
    pub fn new(capture: String, replayed: &Replayed, mut tried: Tried, headroom_percent: u8) -> Self {
        let kernel = &replayed.start.kernel;
        let grown = (tried.settings.pop(), tried.outcomes.pop());
        let Advice { unrecorded, only_recorded, own_pools, pool, .. } = advice(replayed, &tried, headroom_percent);
        let all = sizes(kernel);
        let sized = tried.outcomes.get(2..2 + all.len()).unwrap_or_default();
        let largest = sized.last();
        let trial = |(size, outcome): (Size, &Outcome)| Trial {
            size,
            failed: outcome.total.failed,
            failed_at_most: outcome.failed_at_most(),
            peak_slots: outcome.peak_slots_at_most(),
            nearly_full_ns: outcome.trend.map_or(0, |trend| trend.nearly_full_ns),
            pools_added: outcome.pools_added,
        };
        let growing = match (&grown, all.first()) {
            ((Some(_), Some(outcome)), Some(smallest)) => Some(trial((*smallest, outcome))),
            _ => None,
        };
        let cannot_tell = match (unrecorded, &own_pools) {
            (_, Some(_)) => Some("devices have pools of their own, which swiotlb= does not set".to_owned()),
            (Some(_), None) => {
                Some("what bounces was not recorded one by one (record --mappings written, or all)".to_owned())
            }
            (None, None) => only_recorded,
        };
        Self {
            capture,
            kernel: format!("{} {}", kernel.machine, kernel.release),
            wall_clock_s: replayed.start.wall_clock_s,
            seconds: replayed.seconds(),
            refused: replayed.observed.total().failed,
            peak_slots: largest.map_or(0, Outcome::peak_slots_at_most),
            peak_is_at_least: pool.is_some_and(|pool| pool.peak_is_at_least),
            cannot_tell,
            pools: all.into_iter().zip(sized).map(trial).collect(),
            growing,
        }
    }
}

impl Several {
    /// Of these recordings.
    pub fn new(policy: String, mut recordings: Vec<Recording>, headroom_percent: u8) -> Self {
        recordings.sort_by(|a, b| (a.wall_clock_s, &a.capture).cmp(&(b.wall_clock_s, &b.capture)));
        let of = |parameter: u64| -> Vec<Trial> {
            let trial =
                |recording: &Recording| recording.pools.iter().find(|trial| trial.size.parameter == parameter).copied();
            recordings.iter().filter_map(trial).collect()
        };
        let first = recordings.first().map(|recording| recording.pools.clone()).unwrap_or_default();
        let for_all = first.iter().map(|trial| of(trial.size.parameter)).filter(|all| all.len() == recordings.len());
        let for_all: Vec<Vec<Trial>> = for_all.collect();
        let is_enough = |trial: &Trial| {
            let free = trial.size.slots.saturating_sub(trial.peak_slots);
            trial.failed_at_most == 0 && free * 100 >= trial.size.slots * u64::from(headroom_percent)
        };
        let enough = for_all.iter().position(|all| all.iter().all(is_enough));
        let is_known = recordings.iter().all(|recording| recording.cannot_tell.is_none());
        // Of the pools that are too small everywhere only the largest says anything, and one larger than what is enough.
        let too_small = for_all.iter().rposition(|all| all.iter().all(|trial| trial.failed > 0)).unwrap_or(0);
        let last = enough.map_or(for_all.len(), |at| (at + 2).min(for_all.len()));
        let mut pools: Vec<PoolOfAll> =
            for_all.get(too_small..last).unwrap_or_default().iter().map(|all| PoolOfAll::new(all, false)).collect();
        let growing: Vec<Trial> = recordings.iter().filter_map(|recording| recording.growing).collect();
        if growing.len() == recordings.len() && !growing.is_empty() {
            pools.push(PoolOfAll::new(&growing, true));
        }
        let advised = enough.filter(|_| is_known).map(|at| PoolOfAll::new(&for_all[at], false));
        let rises = recordings.windows(2).all(|two| two[0].peak_slots < two[1].peak_slots);
        // Of four that are alike one order in 24 rises.
        let peaks_rise = recordings.len() >= 4 && rises;
        Self { policy, headroom_percent, recordings, pools, advised, peaks_rise }
    }

    /// The peaks of some recordings may be higher, and what they say of others is too little.
    fn has_open_peaks(&self) -> bool {
        self.recordings.iter().any(|recording| recording.peak_is_at_least)
    }

    /// Two captures of the list that are one and the same recording, which would count twice.
    pub fn twice(&self) -> Option<(&str, &str)> {
        let what = |one: &Recording| (one.wall_clock_s, one.seconds.to_bits(), one.kernel.clone());
        let mut sorted: Vec<&Recording> = self.recordings.iter().collect();
        sorted.sort_by_cached_key(|one| what(one));
        let two = sorted.windows(2).find(|two| what(two[0]) == what(two[1]))?;
        Some((&two[0].capture, &two[1].capture))
    }
}

impl PoolOfAll {
    fn new(all: &[Trial], grows: bool) -> Self {
        let size = all.iter().map(|trial| trial.size).max_by_key(|size| size.slots).unwrap_or_default();
        let sum = |of: fn(&Trial) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
        let count = |of: fn(&Trial) -> u64| all.iter().filter(|trial| of(trial) > 0).count() as u64;
        let (at_least, at_most) = (count(|trial| trial.failed), count(|trial| trial.failed_at_most));
        Self {
            parameter: format!("swiotlb={}", size.parameter),
            slots: size.slots,
            grows,
            refused_in: at_most,
            refused_in_at_least: at_least,
            refused: sum(|trial| trial.failed_at_most),
            refused_at_least: sum(|trial| trial.failed),
            seconds_above_80_percent: sum(|trial| trial.nearly_full_ns) as f64 / 1e9,
            peak_slots: all.iter().map(|trial| trial.peak_slots).max().unwrap_or_default(),
            pools_added: sum(|trial| trial.pools_added),
            share_refused: Share::of([at_least, at_most], all.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mappings refused by a pool of 256 slots, and those that may be.
    pub(super) fn recording(capture: &str, failed: [u64; 2], peak_slots: u64) -> Recording {
        let trial = |parameter, [failed, failed_at_most]: [u64; 2]| Trial {
            size: Size { parameter, slots: parameter },
            failed,
            failed_at_most,
            peak_slots: peak_slots.min(parameter),
            nearly_full_ns: 500_000_000,
            pools_added: 0,
        };
        Recording {
            capture: capture.to_owned(),
            kernel: "x86_64 6.12".to_owned(),
            wall_clock_s: 1_700_000_000,
            seconds: 10.0,
            refused: 0,
            peak_slots,
            peak_is_at_least: false,
            cannot_tell: None,
            pools: vec![trial(256, failed), trial(512, [0, 0])],
            growing: Some(trial(256, [0, 0])),
        }
    }

    pub(super) fn several(recordings: Vec<Recording>) -> Several {
        Several::new("mainline".to_owned(), recordings, 25)
    }

    #[test]
    fn certain_refusals_are_the_least_and_possible_ones_the_most() {
        let all = [[3, 3], [0, 5], [0, 0], [0, 0], [0, 0]];
        let all = all.iter().enumerate().map(|(n, failed)| recording(&n.to_string(), *failed, 260));
        let several = several(all.collect());
        let small = &several.pools[0];
        assert_eq!((small.refused_in_at_least, small.refused_in), (1, 2));
        assert_eq!((small.refused_at_least, small.refused), (3, 8));
        assert_eq!(small.share_refused, Share::of([1, 2], 5));
        assert_eq!(several.advised.map(|pool| pool.slots), Some(512));
    }

    #[test]
    fn a_pool_that_may_refuse_is_not_advised_and_one_that_grows_is_nearly_full_for_a_time_too() {
        let possible = several(vec![recording("a", [0, 1], 100)]);
        assert_eq!(possible.advised.map(|pool| pool.slots), Some(512));
        let growing = possible.pools.last().unwrap();
        assert_eq!((growing.grows, growing.seconds_above_80_percent), (true, 0.5));
    }

    #[test]
    fn the_same_recording_is_found_whatever_lies_between() {
        let other = Recording { seconds: 11.0, ..recording("b", [0, 0], 10) };
        let same = several(vec![recording("a", [0, 0], 10), other.clone(), recording("c", [0, 0], 10)]);
        assert_eq!(same.twice(), Some(("a", "c")));
        let kernel = Recording { kernel: "aarch64 6.12".to_owned(), ..recording("c", [0, 0], 10) };
        assert_eq!(several(vec![recording("a", [0, 0], 10), other, kernel]).twice(), None);
    }
}
