//! The captured kernel's own settings, held against what it did: mapping by mapping, and in its own totals.

mod totals;

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::devices::Devices;
use super::lengths::Total;
use super::list_marks::Lists;
use super::losses::{self, Doubts};
use super::mapping::{Buffer, Mapping, Proof, Truth, Unknown};
use super::outcome::{Outcome, PoolRow};
use super::pairing::Witnesses;
use super::run::{Predicted, Prediction};
use super::statistics::{Observed, Statistics};
use super::step::Step;
use super::work::PoolCalls;
use bouncescope_capture::event::Kind;
use bouncescope_capture::facts::{Counters, Device, End};
use bouncescope_capture::names::{Loss, Program};
use bouncescope_capture::passed::Passed;
use bouncescope_capture::stream::{Gaps, Start};

/// Disagreements kept with everything about them; beyond, they are only counted.
const KEPT: usize = 1000;
/// Slots without a mapping event whose time is kept, in case that detaching had begun; and refusals that were not predicted.
const LATEST: usize = 4096;

/// A mapping about which model and kernel disagree.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    mappings: u64,
    agreements: Counted,
    disagreements: Counted,
    unknown_by_reason: BTreeMap<Unknown, u64>,
    buffers: u64,
    differences: Vec<(RestsOn, Difference)>,
    start_ns: u64,
    latest_unseen: VecDeque<u64>,
    /// Of searches and releases so far.
    latest_ns: u64,
    /// Mappings that were predicted to bounce and were refused: when, and what that rests on.
    refused: VecDeque<(u64, RestsOn)>,
}

/// What the comparison of a mapping rests on, besides records that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct RestsOn {
    /// No attempt to bounce was seen.
    no_attempt: bool,
    /// The simulated pool was as full as the kernel's.
    pool: bool,
}

impl RestsOn {
    const ALL: [Self; 4] = [
        Self { no_attempt: false, pool: false },
        Self { no_attempt: true, pool: false },
        Self { no_attempt: false, pool: true },
        Self { no_attempt: true, pool: true },
    ];

    /// Its place among all.
    fn index(self) -> usize {
        usize::from(self.no_attempt) | usize::from(self.pool) << 1
    }

    fn is_doubtful(self, doubts: Doubts) -> bool {
        self.no_attempt && doubts.no_attempt || self.pool && doubts.pool
    }
}

/// Mappings by what their comparison rests on.
#[derive(Clone, Debug, Default)]
struct Counted([u64; 4]);

impl Counted {
    fn one(&mut self, rests_on: RestsOn) {
        self.0[rests_on.index()] += 1;
    }

    fn more(&mut self, rests_on: RestsOn, count: u64) {
        self.0[rests_on.index()] += count;
    }

    fn one_less(&mut self, rests_on: RestsOn) {
        let count = &mut self.0[rests_on.index()];
        *count = count.saturating_sub(1);
    }

    /// Those to be relied on, and those not.
    fn split(&self, doubts: Doubts) -> (u64, u64) {
        let sum = |doubtful: bool| {
            let counts = RestsOn::ALL.into_iter().filter(|rests_on| rests_on.is_doubtful(doubts) == doubtful);
            counts.map(|rests_on| self.0[rests_on.index()]).sum()
        };
        (sum(false), sum(true))
    }
}

/// What `verify` says.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The least that the peak is, and the most that the kernel's high-water mark may say, in any order that the records leave open. The
    /// mark may be more than the pool has: it counts the slots of a release for a while after others can take them.
    pub peak_slots_range: [u64; 2],
    /// The same in the kernel; `None` where it tells nothing.
    pub peak_slots_kernel: Option<u64>,
    /// `peak_slots_kernel` is the kernel's own high-water mark over the recording, not just its samples' highest.
    pub peak_is_exact: bool,
    /// The same of each restricted pool that was used, by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolVerdict>,
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
    /// Mappings that the kernel counted by length, streamed or not; `None` where the recorder did not have it count.
    pub counted: Option<Total>,
    /// Scatterlists: DMA segments, and the kernel's marks.
    pub lists: Lists,
    /// Calls of the pool's functions, in the model and in the kernel; empty where the kernel's were not counted.
    pub pool_calls: Vec<PoolCalls>,
    /// Every kind of loss, summed over CPUs.
    pub losses: BTreeMap<Loss, u64>,
    /// Totals that were not compared, and why.
    pub not_compared: Vec<String>,
    /// The peak is among them.
    #[serde(skip)]
    pub peak_left_out: bool,
    /// Refusals are among them.
    #[serde(skip)]
    pub refusals_left_out: bool,
    /// What does not agree apart from single mappings, in words.
    pub problems: Vec<String>,
    /// The first disagreements.
    pub differences: Vec<Difference>,
}

/// The peak of a restricted pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolVerdict {
    /// Name of its reserved memory.
    pub name: String,
    /// As in [`Verdict::peak_slots_predicted`].
    pub peak_slots_predicted: u64,
    /// As in [`Verdict::peak_slots_range`].
    pub peak_slots_range: [u64; 2],
    /// As in [`Verdict::peak_slots_kernel`].
    pub peak_slots_kernel: Option<u64>,
    /// As in [`Verdict::peak_is_exact`].
    pub peak_is_exact: bool,
    /// Slots in use when the recording began.
    #[serde(skip)]
    used_at_start: u64,
}

impl PoolVerdict {
    fn of(row: &PoolRow, nth: usize, observed: &Observed, is_of_recording: bool) -> Self {
        let kernel = observed.restricted.get(nth);
        let exact = kernel.and_then(|kernel| kernel.mark(is_of_recording));
        Self {
            name: row.name.clone(),
            peak_slots_predicted: row.peak_slots,
            peak_slots_range: [row.peak_slots_range[0], row.mark_at_most],
            peak_slots_kernel: exact.or(kernel.map(|kernel| kernel.used_peak)),
            peak_is_exact: exact.is_some(),
            used_at_start: row.used_at_start,
        }
    }
}

impl Verdict {
    /// Nothing disagrees.
    pub fn agrees(&self) -> bool {
        self.disagreements == 0 && self.lists.disagreements == 0 && self.problems.is_empty()
    }

    /// These totals are not compared with the kernel's.
    fn leave_out(&mut self, totals: LeftOut, why: &str) {
        self.peak_left_out |= totals != LeftOut::Refusals;
        self.refusals_left_out = true;
        self.not_compared.push(format!("{}: {why}", totals.name()));
    }
}

/// Totals that cannot be compared together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftOut {
    All,
    PeakAndRefusals,
    Refusals,
}

impl LeftOut {
    const fn name(self) -> &'static str {
        match self {
            Self::All => "totals",
            Self::PeakAndRefusals => "peak and refusals",
            Self::Refusals => "refusals",
        }
    }
}

impl Comparison {
    /// For a stream with this beginning.
    pub fn new(start: &Start) -> Self {
        Self { start_ns: start.time_ns, ..Self::default() }
    }

    /// Takes in a step, and what was predicted for the buffers of the mapping that it completes.
    pub fn step(&mut self, step: &Step, predicted: &[Prediction], devices: &Devices) {
        match step {
            Step::Mapped { mapping, .. } => {
                let of = |n: usize| predicted.get(n).copied().unwrap_or(Predicted::NotReached.into());
                self.mapping(mapping, of, devices);
            }
            Step::Unseen(unseen) => self.unseen(unseen.time_ns),
            Step::Coherent { memory, .. } => self.latest_ns = self.latest_ns.max(memory.time_ns),
            Step::Buffer { mapping, index, .. } => self.searched(&mapping.buffers[*index as usize]),
            Step::SlotReleased(release) => self.latest_ns = self.latest_ns.max(release.time_ns),
            Step::Synced(_) | Step::Unmapped(_) | Step::Forgotten { .. } | Step::RefusedEnds { .. } => {}
        }
    }

    /// Slots were taken. A record is late where its program stalled between reading the clock and sending it: refusals after that moment
    /// were predicted without it.
    fn searched(&mut self, buffer: &Buffer) {
        let from_ns = buffer.time_ns;
        if buffer.truth.is_bounced() && from_ns < self.latest_ns {
            let refused = std::mem::take(&mut self.refused);
            let (unknown, known): (VecDeque<_>, _) = refused.into_iter().partition(|(time_ns, _)| *time_ns >= from_ns);
            self.refused = known;
            for (_, rests_on) in &unknown {
                self.disagreements.one_less(*rests_on);
            }
            if !unknown.is_empty() {
                self.dont_know(Unknown::Raced, unknown.len() as u64);
            }
            let is_one =
                |difference: &Difference| difference.time_ns >= from_ns && difference.kernel == Truth::Refused.name();
            self.differences.retain(|(rests_on, difference)| !(rests_on.pool && is_one(difference)));
        }
        self.latest_ns = self.latest_ns.max(from_ns);
    }

    /// Slots without a mapping event. Before all hooks were attached, and after the first was detached, that is no wonder.
    fn unseen(&mut self, time_ns: u64) {
        if time_ns < self.start_ns {
            return;
        }
        if self.latest_unseen.len() == LATEST {
            self.latest_unseen.pop_front();
        }
        self.latest_unseen.push_back(time_ns);
        self.mappings += 1;
        self.dont_know(Unknown::NoMappingEvent, 1);
    }

    fn forget_unseen_since(&mut self, detach_began_ns: u64) {
        let late = self.latest_unseen.iter().filter(|time_ns| **time_ns >= detach_began_ns).count() as u64;
        self.mappings -= late;
        if let Some(count) = self.unknown_by_reason.get_mut(&Unknown::NoMappingEvent) {
            *count -= late;
            if *count == 0 {
                self.unknown_by_reason.remove(&Unknown::NoMappingEvent);
            }
        }
    }

    /// Takes in a mapping of buffers that the kernel left alone, as was predicted of all of them.
    pub fn plain(&mut self, mut proofs: impl ExactSizeIterator<Item = Proof>) {
        self.mappings += 1;
        self.buffers += proofs.len() as u64;
        let no_attempt = proofs.any(|proof| proof == Proof::NoAttempt);
        self.agreements.one(RestsOn { no_attempt, pool: false });
    }

    /// Takes in mappings that were left out, of which the same holds.
    pub(super) fn passed(&mut self, passed: &Passed) {
        self.mappings += passed.mappings();
        self.buffers += passed.buffers.iter().map(|(_, count)| count).sum::<u64>();
        self.agreements.more(RestsOn { no_attempt: true, pool: false }, passed.by_no_attempt);
        self.agreements.more(RestsOn { no_attempt: false, pool: false }, passed.by_address);
    }

    /// Takes in a mapping, and what was predicted for each of its buffers.
    pub fn mapping(&mut self, mapping: &Mapping, predicted: impl Fn(usize) -> Prediction, devices: &Devices) {
        self.mappings += 1;
        self.buffers += mapping.buffers.len() as u64;
        let mut rests = RestsOn::default();
        // What the surest of the disagreements rests on.
        let mut differs: Option<RestsOn> = None;
        let mut unknown = (mapping.truncated > 0).then_some(Unknown::Truncated);
        for (n, buffer) in mapping.buffers.iter().enumerate() {
            let Prediction { what: predicted, raced } = predicted(n);
            let rests_on = rests_on(predicted, buffer.truth);
            match (buffer.truth, predicted) {
                // The list failed, at a segment that is not known; it was to fail at this one.
                (Truth::Unknown(Unknown::ListFailed), Predicted::Refused(..)) => {
                    unknown = None;
                    break;
                }
                (Truth::Unknown(why), _) => unknown = Some(why),
                // Either may be; what is behind it in a list hangs on it.
                (Truth::Bounced { .. } | Truth::Refused, _) if raced => {
                    unknown = Some(Unknown::Raced);
                    break;
                }
                // Nothing is known about a segment behind the one that was refused.
                (Truth::NotReached, _) => {}
                (Truth::Direct { .. }, Predicted::Direct)
                | (Truth::Bounced { .. }, Predicted::Bounced(_))
                | (Truth::Refused, Predicted::Refused(..)) => {
                    rests.no_attempt |= rests_on.no_attempt;
                }
                _ => {
                    differs = Some(differs.map_or(rests_on, |other| other.min(rests_on)));
                    self.keep(mapping, n, predicted, rests_on, devices);
                }
            }
        }
        match (differs, unknown) {
            (Some(rests_on), _) => {
                self.disagreements.one(rests_on);
                let refused = mapping.buffers.iter().find(|buffer| buffer.truth == Truth::Refused);
                if let Some(buffer) = refused.filter(|_| rests_on.pool) {
                    if self.refused.len() == LATEST {
                        self.refused.pop_front();
                    }
                    self.refused.push_back((buffer.time_ns, rests_on));
                }
            }
            (None, Some(why)) => self.dont_know(why, 1),
            (None, None) => self.agreements.one(rests),
        }
    }

    fn dont_know(&mut self, why: Unknown, count: u64) {
        *self.unknown_by_reason.entry(why).or_default() += count;
    }

    fn keep(&mut self, mapping: &Mapping, n: usize, predicted: Predicted, rests_on: RestsOn, devices: &Devices) {
        if self.differences.len() == KEPT {
            return;
        }
        let buffer = mapping.buffers[n];
        let difference = Difference {
            time_ns: buffer.time_ns,
            cpu: buffer.cpu,
            device: devices.get(mapping.device),
            direction: mapping.direction.name(),
            attrs: mapping.attrs,
            list: mapping.is_list(),
            buffer: n,
            phys: buffer.phys,
            phys_exact: buffer.exact,
            size: buffer.size,
            predicted: format!("{predicted:?}"),
            kernel: buffer.truth.name().to_owned(),
        };
        self.differences.push((rests_on, difference));
    }

    /// The end: totals against the kernel's own.
    #[expect(clippy::too_many_arguments, reason = "everything that a stream has to say")]
    pub fn finish(
        mut self,
        own: &Outcome,
        observed: &Observed,
        counters: &Counters,
        statistics: &Statistics,
        start: &Start,
        end: Option<&End>,
        gaps: &Gaps,
        goes_on: bool,
        doubts: Doubts,
    ) -> Verdict {
        if let Some(began_ns) = end.map(|end| end.detach_began_ns).filter(|began_ns| *began_ns > 0) {
            self.forget_unseen_since(began_ns);
        }
        let (agreements, agreements_doubtful) = self.agreements.split(doubts);
        let (disagreements, disagreements_doubtful) = self.disagreements.split(doubts);
        let doubtful = agreements_doubtful + disagreements_doubtful;
        if doubtful > 0 {
            self.dont_know(Unknown::EventsLost, doubtful);
        }
        self.differences.retain(|(rests_on, _)| !rests_on.is_doubtful(doubts));
        let sum = |values: &Vec<u64>| values.iter().sum::<u64>();
        // Descriptions are no events of the stream.
        let kinds = Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Device | Kind::Cache));
        let seen = |kind: Kind| counters.seen.get(kind.name()).map_or(0, sum);
        let lost = |kind: Kind| counters.lost(&Loss::RingFull(kind));
        let is_of_recording = start.kernel.pool.hiwater_reset || observed.has_new_hiwater();
        let exact_peak = observed.hiwater.filter(|_| is_of_recording);
        let mut verdict = Verdict {
            mappings: self.mappings,
            agreements,
            disagreements,
            unknown: self.unknown_by_reason.values().sum(),
            unknown_by_reason: self.unknown_by_reason,
            buffers: self.buffers,
            bounces_predicted: own.total.bounces,
            bounces_kernel: observed.total().bounces,
            failed_predicted: own.total.failed,
            failed_kernel: observed.total().failed,
            peak_slots_predicted: own.peak_slots,
            peak_slots_range: [own.peak_slots_range[0], own.mark_at_most],
            // Samples hold what was in use before the recording, and may never have been again.
            peak_slots_kernel: exact_peak.or(observed.used_peak),
            peak_is_exact: exact_peak.is_some(),
            pools: own
                .pools
                .iter()
                .filter_map(|row| {
                    let nth = start.kernel.pool.restricted.iter().position(|pool| pool.name == row.name)?;
                    Some(PoolVerdict::of(row, nth, observed, start.kernel.pool.hiwater_reset))
                })
                .collect(),
            bounced_recorded: statistics.events(Kind::Bounced),
            tracefs_bounced: counters.tracefs_bounced,
            events_seen: kinds.clone().map(seen).sum(),
            events_recorded: kinds.clone().map(|kind| statistics.events(kind)).sum(),
            events_lost: kinds.clone().map(lost).sum(),
            counted: None,
            lists: Lists::default(),
            pool_calls: Vec::new(),
            losses: counters.lost.iter().map(|(loss, values)| (loss.clone(), sum(values))).collect(),
            not_compared: Vec::new(),
            peak_left_out: false,
            refusals_left_out: false,
            problems: Vec::new(),
            differences: self.differences.into_iter().map(|(_, difference)| difference).collect(),
        };
        if !gaps.is_empty() {
            verdict.leave_out(LeftOut::All, "the capture is not whole");
            return verdict;
        }
        if goes_on {
            verdict.leave_out(LeftOut::All, "the recording goes on");
            return verdict;
        }
        // Of a part of a stream, as the dashboard records it, nothing was counted.
        if counters.seen.is_empty() {
            verdict.not_compared.push("records: how many the programs saw is not in the capture".to_owned());
        }
        for kind in kinds.filter(|_| !counters.seen.is_empty()) {
            let (seen, recorded, lost) = (seen(kind), statistics.events(kind), lost(kind));
            if seen != recorded + lost {
                verdict.problems.push(format!(
                    "{}: the programs saw {seen}, but {recorded} are recorded and {lost} reported as lost",
                    kind.name()
                ));
            }
        }
        if !start.kernel.pool.restricted.is_empty() && !Witnesses::new(&start.hooks).coherent_memory {
            let why = "coherent memory of devices with restricted pools comes from these too, unrecorded";
            verdict.leave_out(LeftOut::PeakAndRefusals, why);
        } else if doubts.pool {
            let why = format!("lost {}", losses::listed(losses::of_pool(counters)));
            verdict.leave_out(LeftOut::PeakAndRefusals, &why);
        }
        let slots_searched = statistics.events(Kind::SlotMap);
        // The kernel's own trace has attempts, and no searches.
        let attempts =
            if start.joined_ns.is_some() { statistics.bounced_before(u64::MAX) } else { verdict.bounced_recorded };
        if !doubts.both_witnesses && slots_searched < attempts {
            verdict.problems.push(format!(
                "{attempts} attempts to bounce, but only {slots_searched} searches for slots: a hook on the pool misses calls"
            ));
        }
        let missed = counters.lost(&Loss::Missed(Program::SwiotlbBounced));
        verdict.compare_totals(doubts, lost(Kind::Bounced) + missed, start.kernel.pool.used_at_start);
        // The tracing file system counts from before the beginning until after the hooks begin to be taken off: at least
        // what was recorded in between, which is all of it where nothing bounced at the edges.
        let counting_until_ns = end.map_or(0, |end| end.detach_began_ns);
        let within = statistics.bounced_before(if counting_until_ns > 0 { counting_until_ns } else { u64::MAX });
        if let Some(counted) = verdict.tracefs_bounced
            && counted < within
        {
            verdict.problems.push(format!("swiotlb_bounced: {within} recorded while tracefs counted {counted}"));
        }
        verdict
    }
}

/// What the comparison of a buffer rests on.
fn rests_on(predicted: Predicted, truth: Truth) -> RestsOn {
    RestsOn {
        no_attempt: matches!(truth, Truth::Direct { proof: Proof::NoAttempt }),
        pool: matches!(
            (predicted, truth),
            (Predicted::Refused(..) | Predicted::NotReached, Truth::Bounced { .. })
                | (Predicted::Bounced(_), Truth::Refused)
        ),
    }
}
