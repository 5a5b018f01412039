//! The captured kernel's own settings, held against what it did: mapping by mapping, and in its own totals.

use std::collections::BTreeMap;

use serde::Serialize;

use super::devices::Devices;
use super::mapping::{Mapping, Operation, Truth, Unknown};
use super::outcome::Outcome;
use super::run::Predicted;
use super::statistics::{Observed, Statistics};
use crate::event::Kind;
use crate::facts::{Counters, Device};
use crate::stream::{Gaps, Start};

/// Disagreements kept with everything about them; beyond, they are only counted.
const KEPT: usize = 1000;

/// A mapping about which model and kernel disagree.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// When, ns of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// CPU number.
    pub cpu: u16,
    /// The device, as it was described.
    pub device: Device,
    /// Direction.
    pub direction: &'static str,
    /// `DMA_ATTR_*` bits.
    pub attrs: u64,
    /// A scatterlist.
    pub list: bool,
    /// Which of its buffers, from 0.
    pub buffer: usize,
    /// Physical address; right only below the page size where `phys_exact` is false.
    pub phys: u64,
    /// The whole of `phys` is known.
    pub phys_exact: bool,
    /// Length, bytes.
    pub size: u64,
    /// What the model says.
    pub predicted: String,
    /// What the kernel did.
    pub kernel: String,
}

/// Counts while the stream flows.
#[derive(Debug, Default)]
pub struct Comparison {
    mappings: u64,
    agreements: u64,
    disagreements: u64,
    unknown: u64,
    unknown_by_reason: BTreeMap<Unknown, u64>,
    buffers: u64,
    differences: Vec<Difference>,
}

/// What `verify` says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Mappings compared, with slots that no mapping claimed.
    pub mappings: u64,
    /// Mappings of which every buffer's fate was predicted as it was.
    pub agreements: u64,
    /// Mappings of which some buffer's was not.
    pub disagreements: u64,
    /// Mappings about which the capture does not tell.
    pub unknown: u64,
    /// Why it does not.
    pub unknown_by_reason: BTreeMap<Unknown, u64>,
    /// Buffers compared.
    pub buffers: u64,
    /// Buffers that bounce, in the model.
    pub bounces_predicted: u64,
    /// Buffers that bounced.
    pub bounces_kernel: u64,
    /// Mappings refused, in the model.
    pub failed_predicted: u64,
    /// Mappings that the kernel refused.
    pub failed_kernel: u64,
    /// Most slots in use at once, in the model.
    pub peak_slots_predicted: u64,
    /// The same in the kernel; `None` where it tells nothing.
    pub peak_slots_kernel: Option<u64>,
    /// `peak_slots_kernel` is the kernel's own high-water mark over the recording, not just its samples' highest.
    pub peak_is_exact: bool,
    /// Records of `swiotlb_bounced`.
    pub bounced_recorded: u64,
    /// What the tracing file system counted of it.
    pub tracefs_bounced: Option<u64>,
    /// Records that the programs tried to send.
    pub events_seen: u64,
    /// Records in the stream.
    pub events_recorded: u64,
    /// Records that the programs reported as lost.
    pub events_lost: u64,
    /// Every kind of loss, summed over CPUs.
    pub losses: BTreeMap<String, u64>,
    /// What does not agree apart from single mappings, in words.
    pub problems: Vec<String>,
    /// The first disagreements.
    pub differences: Vec<Difference>,
}

impl Verdict {
    /// Nothing disagrees.
    pub fn agrees(&self) -> bool {
        self.disagreements == 0 && self.problems.is_empty()
    }
}

impl Comparison {
    /// Takes in a step, and what was predicted for its buffers.
    pub fn operation(&mut self, operation: &Operation, predicted: &[Predicted], devices: &Devices) {
        match operation {
            Operation::Map(mapping) => self.mapping(mapping, predicted, devices),
            Operation::Orphan { .. } => {
                self.mappings += 1;
                self.dont_know(Unknown::NoMappingEvent);
            }
            Operation::Unmap { .. } | Operation::ForeignSlots { .. } => {}
        }
    }

    fn mapping(&mut self, mapping: &Mapping, predicted: &[Predicted], devices: &Devices) {
        self.mappings += 1;
        self.buffers += mapping.buffers.len() as u64;
        let mut differs = false;
        let mut unknown = (mapping.truncated > 0).then_some(Unknown::Truncated);
        for (n, (buffer, predicted)) in mapping.buffers.iter().zip(predicted).enumerate() {
            let agrees = match (buffer.truth, predicted) {
                (Truth::Unknown(why), _) => {
                    unknown = Some(why);
                    continue;
                }
                // Nothing is known about a segment behind the one that was refused.
                (Truth::NotReached, _) => continue,
                (Truth::Direct, Predicted::Direct)
                | (Truth::Bounced, Predicted::Bounced(_))
                | (Truth::Refused, Predicted::Refused(..)) => true,
                _ => false,
            };
            if !agrees {
                differs = true;
                self.keep(mapping, n, *predicted, devices);
            }
        }
        if differs {
            self.disagreements += 1;
        } else if let Some(why) = unknown {
            self.dont_know(why);
        } else {
            self.agreements += 1;
        }
    }

    fn dont_know(&mut self, why: Unknown) {
        self.unknown += 1;
        *self.unknown_by_reason.entry(why).or_default() += 1;
    }

    fn keep(&mut self, mapping: &Mapping, n: usize, predicted: Predicted, devices: &Devices) {
        if self.differences.len() == KEPT {
            return;
        }
        let buffer = mapping.buffers[n];
        self.differences.push(Difference {
            time_ns: mapping.time_ns,
            cpu: mapping.cpu,
            device: devices.get(mapping.device),
            direction: mapping.direction.name(),
            attrs: mapping.attrs,
            list: mapping.list,
            buffer: n,
            phys: buffer.phys,
            phys_exact: buffer.exact,
            size: buffer.size,
            predicted: format!("{predicted:?}"),
            kernel: format!("{:?}", buffer.truth),
        });
    }

    /// The end: totals against the kernel's own.
    pub fn finish(
        self,
        own: &Outcome,
        observed: &Observed,
        counters: &Counters,
        statistics: &Statistics,
        start: &Start,
        gaps: &Gaps,
    ) -> Verdict {
        let sum = |values: &Vec<u64>| values.iter().sum::<u64>();
        // Device descriptions are no events of the stream.
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Device);
        let seen = |kind: Kind| counters.seen.get(kind.name()).map_or(0, sum);
        let lost = |kind: Kind| counters.lost.get(&format!("ring_full.{}", kind.name())).map_or(0, sum);
        let exact_peak = if start.kernel.pool.hiwater_reset { observed.hiwater } else { None };
        let mut verdict = Verdict {
            mappings: self.mappings,
            agreements: self.agreements,
            disagreements: self.disagreements,
            unknown: self.unknown,
            unknown_by_reason: self.unknown_by_reason,
            buffers: self.buffers,
            bounces_predicted: own.bounces,
            bounces_kernel: observed.total.bounces,
            failed_predicted: own.failed,
            failed_kernel: observed.total.failed,
            peak_slots_predicted: own.peak_slots,
            peak_slots_kernel: exact_peak.max(observed.used_peak),
            peak_is_exact: exact_peak.is_some(),
            bounced_recorded: statistics.events(Kind::Bounced),
            tracefs_bounced: counters.tracefs_bounced,
            events_seen: kinds.clone().map(seen).sum(),
            events_recorded: kinds.clone().map(|kind| statistics.events(kind)).sum(),
            events_lost: kinds.clone().map(lost).sum(),
            losses: counters.lost.iter().map(|(name, values)| (name.clone(), sum(values))).collect(),
            problems: Vec::new(),
            differences: self.differences,
        };
        if !gaps.is_empty() {
            // A capture that is not whole can only be compared mapping by mapping.
            return verdict;
        }
        for kind in kinds {
            let (seen, recorded, lost) = (seen(kind), statistics.events(kind), lost(kind));
            if seen != recorded + lost {
                verdict.problems.push(format!(
                    "{}: the programs saw {seen}, but {recorded} are recorded and {lost} reported as lost",
                    kind.name()
                ));
            }
        }
        if counters.total_lost() == 0 && verdict.unknown == 0 {
            verdict.compare_totals();
        }
        verdict
    }
}

impl Verdict {
    /// Totals that must be equal when nothing was lost and nothing is unknown.
    fn compare_totals(&mut self) {
        let mut differs = |what: &str, predicted: u64, kernel: u64| {
            if predicted != kernel {
                self.problems.push(format!("{what}: predicted {predicted}, the kernel says {kernel}"));
            }
        };
        differs("bounces", self.bounces_predicted, self.bounces_kernel);
        differs("mappings refused", self.failed_predicted, self.failed_kernel);
        match self.peak_slots_kernel {
            Some(kernel) if self.peak_is_exact => differs("peak slots", self.peak_slots_predicted, kernel),
            Some(kernel) if kernel > self.peak_slots_predicted => {
                differs("peak slots (at least)", self.peak_slots_predicted, kernel);
            }
            _ => {}
        }
        if let Some(counted) = self.tracefs_bounced {
            differs("swiotlb_bounced (recorded, against tracefs)", self.bounced_recorded, counted);
        }
    }
}
