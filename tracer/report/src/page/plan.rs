//! What has to be simulated for a report: the policies, what advice asks for, and the policy that it is about with other line
//! sizes. Kernels that come to the same are simulated once.

use crate::advice::{self, Advice, Tried};
use bouncescope_capture::facts::KernelFacts;
use bouncescope_model::policy::{Policy, PoolChoice};
use bouncescope_replay::outcome::Outcome;
use bouncescope_replay::settings::{Settings, WhatIf};
use bouncescope_replay::{Replayed, Wanted};

/// Line sizes that are tried, bytes.
const LINE_SIZES: [u32; 5] = [16, 32, 64, 128, 256];
/// What has to stay free at the pool's fullest moment for its size to be advised, percent.
const HEADROOM: u8 = 25;

/// What is asked of a replay, and where in it what is.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    unique: Vec<Settings>,
    shown: Vec<(Settings, usize)>,
    tried: Vec<(Settings, usize)>,
    lines: Vec<(Settings, usize)>,
    sizes: std::ops::Range<usize>,
}

/// What came out.
#[derive(Debug)]
pub struct Results {
    /// The pass, with the outcomes of the policies alone.
    pub replayed: Replayed,
    /// The answer.
    pub advice: Advice,
    /// The policy that the answer is about, with every size of pool.
    pub pool_sizes: Vec<Outcome>,
    /// The same with every line size.
    pub line_sizes: Vec<Outcome>,
}

impl Plan {
    /// For a kernel, these policies, and what is to be changed for all of them.
    pub fn new(kernel: &KernelFacts, policies: &[Policy], what_if: &WhatIf) -> Self {
        let mut plan = Self::default();
        let settings: Vec<Settings> =
            policies.iter().map(|policy| Settings::what_if(kernel, policy, what_if)).collect();
        let all: Vec<(&Policy, &WhatIf, &Settings)> =
            policies.iter().zip(&settings).map(|(policy, settings)| (policy, what_if, settings)).collect();
        let tried = advice::tried(kernel, &all);
        // What the advice asks for: the captured pool, none, the sizes, then each policy with the largest.
        let pools = tried.len().saturating_sub(policies.len());
        plan.sizes = 2.min(pools)..pools;
        if let Some(policy) = policies.get(advice::subject(&settings)) {
            let mut sizes = LINE_SIZES.to_vec();
            if kernel.cache_line_size > 0 && !sizes.contains(&kernel.cache_line_size) {
                sizes.push(kernel.cache_line_size);
                sizes.sort_unstable();
            }
            // A pool that is full would hide what bounces.
            let pool = Some(PoolChoice::Slots(advice::LARGEST));
            let with = |line| WhatIf { cache_line_size: Some(line), pool, ..what_if.clone() };
            let lines: Vec<Settings> =
                sizes.into_iter().map(|line| Settings::what_if(kernel, policy, &with(line))).collect();
            plan.lines = plan.places(lines);
        }
        plan.tried = plan.places(tried);
        plan.shown = plan.places(settings);
        plan
    }

    fn places(&mut self, settings: Vec<Settings>) -> Vec<(Settings, usize)> {
        settings.into_iter().map(|one| (one.clone(), self.place(one))).collect()
    }

    fn place(&mut self, one: Settings) -> usize {
        let alike = |other: &Settings| {
            let (name, policy, about) = (one.name.clone(), one.policy.clone(), one.about.clone());
            Settings { name, policy, about, ..other.clone() } == one
        };
        self.unique.iter().position(alike).unwrap_or_else(|| {
            self.unique.push(one);
            self.unique.len() - 1
        })
    }

    /// To be asked of the replay.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            settings: self.unique.clone(),
            verdict: true,
            statistics: true,
            overlaps: true,
            occupancy: true,
            holders: true,
        }
    }

    /// What came out, in order again.
    pub fn results(&self, mut replayed: Replayed) -> Results {
        let outcomes = std::mem::take(&mut replayed.outcomes);
        let named = |(settings, at): &(Settings, usize)| {
            let outcome = outcomes.get(*at).cloned().unwrap_or_default();
            Outcome { name: settings.name.clone(), about: settings.about.clone(), ..outcome }
        };
        let all = |places: &[(Settings, usize)]| places.iter().map(named).collect::<Vec<_>>();
        let settings = |places: &[(Settings, usize)]| places.iter().map(|(settings, _)| settings.clone()).collect();
        let tried = Tried { settings: settings(&self.tried), outcomes: all(&self.tried) };
        replayed.outcomes = all(&self.shown);
        replayed.settings = settings(&self.shown);
        let advice = advice::advice(&replayed, &tried, HEADROOM);
        let pool_sizes = tried.outcomes.get(self.sizes.clone()).unwrap_or_default().to_vec();
        Results { advice, pool_sizes, line_sizes: all(&self.lines), replayed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::Reader;
    use bouncescope_model::policy::builtin;
    use bouncescope_replay::replay;

    const CAPTURE: &[u8] = include_bytes!("../../../../captures/6.12-full-hold-300.bounce");

    #[test]
    fn each_kernel_is_simulated_once_and_comes_out_as_if_alone() {
        let policies = ["mainline", "legacy"].map(|name| builtin(name).unwrap());
        let mut plan = Plan::default();
        let replayed = replay(&mut Reader::new(CAPTURE).unwrap(), |start| {
            plan = Plan::new(&start.kernel, &policies, &WhatIf::default());
            plan.wanted()
        });
        for (n, one) in plan.unique.iter().enumerate() {
            let alike =
                plan.unique[..n].iter().filter(|other| Settings { name: one.name.clone(), ..(*other).clone() } == *one);
            assert_eq!(alike.count(), 0, "{}", one.name);
        }
        let results = plan.results(replayed.unwrap());
        let names: Vec<&str> = results.replayed.outcomes.iter().map(|outcome| outcome.name.as_str()).collect();
        assert_eq!(names, ["mainline", "legacy"]);
        assert!(results.pool_sizes.windows(2).all(|two| two[0].total_slots < two[1].total_slots));
        assert!(
            results.pool_sizes.first().unwrap().total.failed > 0
                && results.pool_sizes.last().unwrap().total.failed == 0
        );
        let mut alone = replay(&mut Reader::new(CAPTURE).unwrap(), |start| Wanted {
            settings: policies
                .iter()
                .map(|policy| Settings::what_if(&start.kernel, policy, &WhatIf::default()))
                .collect(),
            occupancy: true,
            ..Wanted::default()
        })
        .unwrap();
        assert_eq!(results.replayed.outcomes, std::mem::take(&mut alone.outcomes));
    }
}
