//! Rules that recordings are held to, for a lab that has to say yes or no: "this device never bounces", "half of the pool
//! stays free", "no record was lost".
//!
//! [`text`] reads rules, [`condition`] those of one line, [`select`] finds whose figure a rule is about, [`measure`] takes the figure from a replay with the
//! range in which the truth lies where something is missing ([`doubt`]; without a rule, [`gauge`]), [`judge`](mod@judge) holds it against the limit.
//! Pure: how rules are found and verdicts shown is decided elsewhere.

mod condition;
mod doubt;
mod gauge;
mod judge;
mod limit;
mod measure;
mod select;
mod text;

use std::collections::HashSet;
use std::sync::Arc;

use crate::figures::Figure;
use crate::settings::{self, Settings};
use bouncescope_capture::facts::KernelFacts;
use bouncescope_model::policy::{Caches, Policy};

pub use condition::Condition;
pub use doubt::streamed_only;
pub use gauge::Gauge;
pub use judge::{Judgement, Verdict, judge, judge_against, unreadable};
pub use limit::{End, Limit};
pub use measure::Measured;
pub use select::{Pattern, Selector};
pub use text::RulesError;

/// Rules, in the order of their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// At least one.
    pub rules: Vec<Rule>,
    /// Lost records of one kind, in a million, up to which the loss leaves nothing in doubt.
    pub tolerated_losses: u32,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What to call it.
    pub name: String,
    /// Whose figure.
    pub selector: Selector,
    /// Which figure.
    pub figure: Figure,
    /// What it has to be.
    pub limit: Limit,
    /// Everything that is selected is held to the limit by itself, else the sum is.
    pub each: bool,
    /// What to say when nothing is selected.
    pub if_absent: IfAbsent,
    /// Of which run.
    pub run: RunOf,
}

/// What a rule says of a capture in which nothing is selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfAbsent {
    /// That it could not tell.
    #[default]
    Unknown,
    /// That it is kept.
    Pass,
}

/// Whose deeds are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOf {
    /// The captured kernel's.
    Real,
    /// Those of a simulated one.
    WhatIf(Box<WhatIf>),
}

/// A simulated kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhatIf {
    /// Its policy.
    pub policy: Policy,
    /// What else is to be changed.
    pub change: settings::WhatIf,
}

/// What has to be simulated for a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Simulation<'a> {
    /// The captured kernel as it was, for what its events do not tell.
    Captured,
    /// Another one.
    WhatIf(&'a WhatIf),
}

impl Rules {
    /// What has to be simulated of a kernel before the rules can be judged, in this order.
    ///
    /// `packed_sites`: the call sites that policies with packed caches pack.
    pub fn settings(&self, kernel: &KernelFacts, packed_sites: &Arc<HashSet<u64>>) -> Vec<Settings> {
        let settings = |simulation: &Simulation| match simulation {
            Simulation::Captured => Settings::captured(kernel),
            Simulation::WhatIf(what_if) => settings_for(kernel, what_if, packed_sites),
        };
        self.simulations().iter().map(settings).collect()
    }

    /// Some policy packs call sites, which have to be found out beforehand.
    pub fn packs(&self) -> bool {
        self.rules.iter().any(|rule| matches!(&rule.run, RunOf::WhatIf(run) if run.policy.caches == Caches::Packed))
    }

    /// Some rule is about mappings that lie in one cache line at the same time.
    pub fn look_at_overlaps(&self) -> bool {
        self.rules.iter().any(|rule| rule.figure == Figure::Overlaps)
    }

    /// Some rule compares with a capture before.
    pub fn compare(&self) -> bool {
        self.rules.iter().any(|rule| rule.limit.is_relative())
    }

    fn simulations(&self) -> Vec<Simulation<'_>> {
        let mut simulations = Vec::new();
        for simulation in self.rules.iter().filter_map(Rule::simulation) {
            if !simulations.contains(&simulation) {
                simulations.push(simulation);
            }
        }
        simulations
    }
}

impl Rule {
    fn simulation(&self) -> Option<Simulation<'_>> {
        match &self.run {
            _ if self.figure.is_of_capture() => None,
            RunOf::Real => self.figure.is_simulated_only().then_some(Simulation::Captured),
            RunOf::WhatIf(what_if) => Some(Simulation::WhatIf(what_if)),
        }
    }
}

impl RunOf {
    /// In words, such as `mainline, pool 4M`.
    pub fn describe(&self) -> String {
        let Self::WhatIf(what_if) = self else { return "real".to_owned() };
        let change = &what_if.change;
        let pool = change.pool.map(|pool| format!(", pool {pool}"));
        let line = change.cache_line_size.map(|bytes| format!(", line {bytes}"));
        let minalign = change.minalign.map(|bytes| format!(", minalign {bytes}"));
        let changes: String = [pool, line, minalign].into_iter().flatten().collect();
        format!("{}{changes}", what_if.policy.name)
    }
}

fn settings_for(kernel: &KernelFacts, what_if: &WhatIf, packed_sites: &Arc<HashSet<u64>>) -> Settings {
    let change = settings::WhatIf { packed_sites: Arc::clone(packed_sites), ..what_if.change.clone() };
    Settings::what_if(kernel, &what_if.policy, &change)
}

#[cfg(test)]
mod tests;
