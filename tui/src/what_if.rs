//! What-if: the settings that can be turned on the screen, and the simulated kernels that they ask for.

use std::collections::HashSet;
use std::sync::Arc;

use tracer::facts::KernelFacts;
use tracer::model::policy::{Caches, Lists, Policy, PoolChoice, WhenFull, builtin, builtins};
use tracer::replay::default_pool::PoolRule;
use tracer::replay::settings::{Settings, WhatIf};

/// Sizes that a line and a smallest cache can be chosen to have, bytes.
const ALIGNMENTS: [u32; 6] = [8, 16, 32, 64, 128, 256];
/// The largest pool that can be chosen, slots: 64 MiB.
const LARGEST: u64 = 32768;
/// Policies that stand beside the chosen one, most telling first.
const BESIDE: [&str; 6] = ["mainline", "legacy", "always-small", "length-multiple", "start-and-length", "exact"];

/// What can be turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Knob {
    /// The policy.
    #[default]
    Policy,
    /// `cache_line_size()`.
    Line,
    /// Minimum alignment of the kmalloc caches.
    Minalign,
    /// What becomes of scatterlists behind an IOMMU.
    Lists,
    /// The pool.
    Pool,
    /// What becomes of mappings that find no slots.
    WhenFull,
}

impl Knob {
    /// All, from top to bottom.
    pub const ALL: [Self; 6] = [Self::Policy, Self::Line, Self::Minalign, Self::Lists, Self::Pool, Self::WhenFull];

    /// The option of `bouncescope replay` that says the same.
    pub fn option(self) -> &'static str {
        match self {
            Self::Policy => "--policy",
            Self::Line => "--cache-line-size",
            Self::Minalign => "--minalign",
            Self::Lists => "--lists",
            Self::Pool => "--swiotlb",
            Self::WhenFull => "--when-full",
        }
    }
}

/// How the knobs stand. `None` is as captured, or as the policy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// The policy's name.
    pub policy: String,
    /// `cache_line_size()`, bytes.
    pub line: Option<u32>,
    /// Minimum alignment of the kmalloc caches, bytes.
    pub minalign: Option<u32>,
    /// Scatterlists behind an IOMMU.
    pub lists: Lists,
    /// The pool.
    pub pool: Option<PoolChoice>,
    /// Mappings that find no slots.
    pub when_full: WhenFull,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            policy: "mainline".into(),
            line: None,
            minalign: None,
            lists: Lists::default(),
            pool: None,
            when_full: WhenFull::default(),
        }
    }
}

impl Knobs {
    /// Turns a knob to its next position, or to the one before; around at the ends.
    pub fn turn(&mut self, knob: Knob, forward: bool, kernel: &KernelFacts) {
        match knob {
            Knob::Policy => {
                let names: Vec<String> = builtins().map(|policy| policy.name).collect();
                self.policy = turned(&names, &self.policy, forward);
            }
            Knob::Line => self.line = turned(&or_none(ALIGNMENTS), &self.line, forward),
            Knob::Minalign => self.minalign = turned(&or_none(ALIGNMENTS), &self.minalign, forward),
            Knob::Lists => self.lists = turned(Lists::ALL, &self.lists, forward),
            Knob::Pool => self.pool = turned(&pools(kernel), &self.pool, forward),
            Knob::WhenFull => self.when_full = turned(WhenFull::ALL, &self.when_full, forward),
        }
    }

    /// How a knob stands, in the words of `bouncescope replay`.
    pub fn position(&self, knob: Knob, kernel: &KernelFacts) -> String {
        let bytes = |chosen: Option<u32>, as_is: String| chosen.map_or(as_is, |bytes| bytes.to_string());
        match knob {
            Knob::Policy => self.policy.clone(),
            Knob::Line => bytes(self.line, format!("{} (captured)", kernel.cache_line_size)),
            Knob::Minalign => bytes(self.minalign, "the policy's".into()),
            Knob::Lists => self.lists.to_string(),
            Knob::Pool => self.pool.map_or_else(
                || format!("{} (captured)", PoolChoice::Slots(kernel.pool.slots)),
                |pool| pool.to_string(),
            ),
            Knob::WhenFull => self.when_full.to_string(),
        }
    }

    /// What the kernel makes of the number that the pool's knob shows, where it is another one.
    pub fn pool_made(&self, kernel: &KernelFacts) -> Option<String> {
        let Some(PoolChoice::Slots(number)) = self.pool else { return None };
        let made = PoolRule::of(kernel).sized(number).slots;
        (made != number).then(|| PoolChoice::Slots(made).to_string())
    }

    /// Stands as it was when nothing had been turned.
    pub fn is_untouched(&self) -> bool {
        *self == Self::default()
    }

    /// A knob does not stand where it stood.
    pub fn is_turned(&self, knob: Knob) -> bool {
        let untouched = Self::default();
        match knob {
            Knob::Policy => self.policy != untouched.policy,
            Knob::Line => self.line != untouched.line,
            Knob::Minalign => self.minalign != untouched.minalign,
            Knob::Lists => self.lists != untouched.lists,
            Knob::Pool => self.pool != untouched.pool,
            Knob::WhenFull => self.when_full != untouched.when_full,
        }
    }

    /// The policy needs to know call sites that never reach DMA.
    pub fn packs(&self) -> bool {
        builtin(&self.policy).is_some_and(|policy| policy.caches == Caches::Packed)
    }

    /// The kernels to be simulated: the chosen one first, then the other policies with the same knobs.
    pub fn settings(&self, kernel: &KernelFacts, packed_sites: &Arc<HashSet<u64>>) -> Vec<Settings> {
        let names = std::iter::once(self.policy.as_str()).chain(BESIDE.into_iter().filter(|name| *name != self.policy));
        names.filter_map(builtin).map(|policy| self.of(kernel, policy, packed_sites)).collect()
    }

    fn of(&self, kernel: &KernelFacts, policy: Policy, packed_sites: &Arc<HashSet<u64>>) -> Settings {
        let policy = Policy { lists: self.lists, when_full: self.when_full, ..policy };
        let change = WhatIf {
            cache_line_size: self.line,
            minalign: self.minalign,
            pool: self.pool,
            devices: Vec::new(),
            packed_sites: Arc::clone(packed_sites),
        };
        Settings::what_if(kernel, &policy, &change)
    }
}

fn or_none<T: Copy, const N: usize>(values: [T; N]) -> Vec<Option<T>> {
    std::iter::once(None).chain(values.into_iter().map(Some)).collect()
}

/// Words, and a number for each size that the kernel could make.
fn pools(kernel: &KernelFacts) -> Vec<Option<PoolChoice>> {
    let words = [None, Some(PoolChoice::None), Some(PoolChoice::Default), Some(PoolChoice::Dynamic)];
    let rule = PoolRule::of(kernel);
    let numbers = rule.sizes(LARGEST).filter_map(|slots| rule.parameter_for(slots)).map(PoolChoice::Slots);
    words.into_iter().chain(numbers.map(Some)).collect()
}

/// The neighbour of `now` among `all`; the first where it is not among them.
fn turned<T: PartialEq + Clone>(all: &[T], now: &T, forward: bool) -> T {
    let at = all.iter().position(|one| one == now);
    let next = at.map_or(0, |at| if forward { at + 1 } else { at + all.len() - 1 } % all.len());
    all[next].clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_comes_back_to_where_it_stood_in_either_direction() {
        let kernel = KernelFacts { possible_cpus: 8, ..KernelFacts::default() };
        for knob in Knob::ALL {
            for forward in [true, false] {
                let mut knobs = Knobs::default();
                let mut turns = 0;
                loop {
                    knobs.turn(knob, forward, &kernel);
                    turns += 1;
                    if knobs.is_untouched() {
                        break;
                    }
                    assert!(turns < 100, "{knob:?} never comes back");
                }
                assert!(turns > 1, "{knob:?} does not turn");
            }
        }
    }

    #[test]
    fn every_pool_that_can_be_chosen_is_one_that_the_kernel_makes() {
        let kernel = KernelFacts { possible_cpus: 8, machine: "aarch64".into(), ..KernelFacts::default() };
        let numbers: Vec<u64> = pools(&kernel)
            .into_iter()
            .filter_map(|pool| match pool {
                Some(PoolChoice::Slots(number)) => Some(number),
                _ => None,
            })
            .collect();
        assert_eq!(numbers, [1024, 2048, 4096, 8192, 16384, 32640], "2 MiB is the smallest with 8 CPUs");
        let largest = Knobs { pool: Some(PoolChoice::Slots(32640)), ..Knobs::default() };
        assert_eq!(largest.pool_made(&kernel).as_deref(), Some("64M"));
        assert_eq!(Knobs { pool: Some(PoolChoice::Slots(1024)), ..Knobs::default() }.pool_made(&kernel), None);
    }

    #[test]
    fn the_chosen_policy_is_simulated_first_and_none_twice() {
        let kernel = KernelFacts { cache_line_size: 64, dma_minalign: 128, ..KernelFacts::default() };
        for policy in builtins() {
            let knobs = Knobs { policy: policy.name.clone(), ..Knobs::default() };
            let names: Vec<String> =
                knobs.settings(&kernel, &Arc::default()).into_iter().map(|settings| settings.name).collect();
            assert_eq!(names[0], policy.name);
            let mut once = names.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), names.len());
        }
    }

    #[test]
    fn knobs_change_what_is_simulated() {
        let kernel = KernelFacts { cache_line_size: 64, dma_minalign: 128, possible_cpus: 1, ..KernelFacts::default() };
        let knobs = Knobs { line: Some(128), pool: Some(PoolChoice::Slots(1024)), ..Knobs::default() };
        let settings = &knobs.settings(&kernel, &Arc::default())[0];
        assert_eq!((settings.decider.cache_line_size, settings.slots), (128, 1024));
    }
}
