//! A figure of one run, and the range in which the truth lies where the recording leaves it in doubt.
//!
//! Records that were lost can only add to what was seen, so most doubts leave a figure's lower end where it is: a limit
//! that is exceeded by what was seen is exceeded.

use serde::Serialize;
use tracer_ebpf::streamed::Streamed;

use super::Rule;
use super::doubt::{Concern, Doubts};
use super::select::{NO_CALL_SITE, Selected, Selector};
use crate::figures::{Figure, Run, Unit};
use crate::mapping::Unknown;
use crate::outcome::{Outcome, Tally};
use crate::trend::NEARLY_FULL;
use crate::{Replayed, Uncounted};

/// A figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Measured {
    /// As far as was seen.
    pub value: f64,
    /// The least that it can be.
    pub low: f64,
    /// The most that it can be; infinite where nothing bounds it.
    #[serde(serialize_with = "finite")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>"))]
    pub high: f64,
    /// Why these differ, in words.
    pub doubts: Vec<String>,
}

/// JSON has no infinity: `null` stands for it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn finite<S: serde::Serializer>(high: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    high.is_finite().then_some(*high).serialize(serializer)
}

/// One run of a capture, with what is in doubt about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken<'a> {
    pub(super) run: Run<'a>,
    pub(super) doubts: &'a Doubts,
}

const CACHES_MAY_BE_SMALLER: &str = "the CPU's own line size is not in the capture: where firmware gives the line size, smaller caches were built before";
const NOT_KNOWN_WHOSE: &str =
    "the capture does not show whose objects the buffers are (it needs allocations and the linear map)";

/// Whether the capture has at all what the rule is about; else why not.
pub(super) fn can_tell(rule: &Rule, replayed: &Replayed) -> Result<(), String> {
    let by_site = matches!(rule.selector, Selector::CallSite(_));
    if (by_site || rule.figure.is_about_neighbours()) && !replayed.origins_known {
        return Err(NOT_KNOWN_WHOSE.to_owned());
    }
    Ok(())
}

/// The rule's figure of what it selects; else why the capture does not have it.
pub(super) fn measure(figure: Figure, selected: &Selected, taken: Taken) -> Result<Measured, String> {
    let mut measured = match selected.count(figure) {
        Some(count) => taken.count(figure, selected, count),
        None => taken.total(figure)?,
    };
    if taken.misses_unstreamed(figure) {
        for why in taken.doubts.about(&[Concern::Unstreamed]) {
            measured.may_be_more(f64::INFINITY, why);
        }
    }
    for why in taken.doubts.about(taken.rests_on(figure)) {
        measured.may_be_more(f64::INFINITY, why);
    }
    if matches!(figure.unit(), Unit::PerSecond | Unit::BytesPerSecond) {
        measured.scale(1.0, taken.seconds()?);
    }
    Ok(measured)
}

impl Taken<'_> {
    /// What doubts about the figure are doubts about. Those that leave it a bound are in [`Self::count`].
    fn rests_on(self, figure: Figure) -> &'static [Concern] {
        use Concern::{Fates, Maintenance, Mappings, Model, Pool, PoolSize, Refusals, Times, Whole};
        match (figure, self.run.outcome.is_some()) {
            (
                Figure::HeldSeconds
                | Figure::LeakingSlots
                | Figure::FloorSlots
                | Figure::FloorRise
                | Figure::SecondsAbove80Percent,
                _,
            ) => &[Whole, Mappings, Model],
            (Figure::Losses | Figure::Unknown, _) | (Figure::PeakSlots | Figure::PeakPercent, false) => &[Whole],
            (Figure::Mappings | Figure::Buffers | Figure::Disagreements, _) => &[Whole, Mappings],
            (Figure::PoolCpuPercent, false) => &[Whole, Times],
            (Figure::PoolCpuPercent, true) => &[Whole, Mappings, Times, Model],
            (Figure::CacheMaintenancePercent, false) => &[Whole, Maintenance],
            (Figure::CacheMaintenancePercent, true) => &[Whole, Mappings, Maintenance, Model],
            (Figure::Failed, false) => &[Whole, Mappings, Refusals],
            (Figure::Failed, true) => &[Whole, Mappings, Refusals, Pool, PoolSize, Model],
            // A pool that nothing went to is empty, whatever was lost of it.
            (Figure::PeakSlots | Figure::PeakPercent, true) if self.leaves_pool_alone() => &[Whole, Mappings, Model],
            (Figure::PeakSlots | Figure::PeakPercent, true) => &[Whole, Mappings, Pool, PoolSize, Model],
            (_, false) => &[Whole, Mappings, Fates],
            (_, true) => &[Whole, Mappings, Model],
        }
    }

    /// Mappings that were not streamed may count.
    fn misses_unstreamed(self, figure: Figure) -> bool {
        match figure {
            Figure::Mappings | Figure::Buffers => true,
            // What a device only reads may lie beside what another writes.
            Figure::Overlaps => self.run.replayed.start.streamed != Streamed::All,
            // What is written, and left in a shared line, may be of any length.
            Figure::HazardsForeign | Figure::HazardsUnknown | Figure::HazardsOwn if self.run.outcome.is_some() => {
                self.run.replayed.start.streamed == Streamed::Small || self.looks_at_unstreamed()
            }
            Figure::Losses | Figure::Disagreements | Figure::Unknown | Figure::HeldSeconds | Figure::LeakingSlots => {
                false
            }
            _ => self.looks_at_unstreamed(),
        }
    }

    fn looks_at_unstreamed(self) -> bool {
        self.run.outcome.is_some_and(|outcome| outcome.looks_at_unstreamed)
    }

    fn leaves_pool_alone(self) -> bool {
        self.run
            .outcome
            .is_some_and(|outcome| (outcome.total.bounces, outcome.total.failed, outcome.peak_slots) == (0, 0, 0))
    }

    /// Seconds that the recording covers.
    fn seconds(self) -> Result<f64, String> {
        match self.run.replayed.span_ns {
            0 => Err("the recording covers no time".to_owned()),
            _ => Ok(self.run.replayed.seconds()),
        }
    }

    fn count(self, figure: Figure, selected: &Selected, seen: u64) -> Measured {
        let mut measured = Measured::exactly(seen as f64);
        let whose = figure.count(&selected.unattributed).unwrap_or(0);
        measured.may_be_more(whose as f64, NO_CALL_SITE.to_owned());
        match figure {
            Figure::Bounces | Figure::BouncesPerSecond => self.doubt_bounces(&mut measured),
            Figure::BytesCopied | Figure::BytesCopiedPerSecond => {
                let mut bounces = Measured::exactly((selected.tally.bounces + selected.unattributed.bounces) as f64);
                self.doubt_bounces(&mut bounces);
                if bounces.high > bounces.value {
                    bounces.doubts.iter().for_each(|why| measured.may_be_more(f64::INFINITY, why.clone()));
                }
                if bounces.high > 0.0 {
                    for why in self.doubts.about(&[Concern::Copies]) {
                        measured.may_be_more(f64::INFINITY, why);
                    }
                    self.doubt_durations(&mut measured);
                }
            }
            Figure::HazardsForeign | Figure::HazardsUnknown | Figure::HazardsOwn | Figure::BouncesNotNeeded => {
                self.doubt_neighbours(figure, selected, &mut measured);
            }
            Figure::Overlaps => self.doubt_overlaps(&mut measured),
            Figure::Failed => {
                let more = |outcome: &Outcome| outcome.failed_at_most() - outcome.total.failed;
                self.doubt_worst(&mut measured, self.run.outcome.map_or(0, more));
                if self.run.outcome.is_some_and(|outcome| outcome.caches_may_be_smaller) {
                    measured.may_be_more(f64::INFINITY, CACHES_MAY_BE_SMALLER.to_owned());
                }
                self.doubt_order(&mut measured);
            }
            _ => {}
        }
        if let Some(outcome) = self.run.outcome.filter(|outcome| outcome.not_simulated > 0)
            && !matches!(figure, Figure::Mappings | Figure::Buffers)
        {
            let why = format!("the devices of {} mappings are not known", outcome.not_simulated);
            measured.may_be_more(f64::INFINITY, why);
        }
        measured
    }

    /// What was not recorded may lie in any line; what was never seen to end may have ended.
    fn doubt_overlaps(self, measured: &mut Measured) {
        let Uncounted { not_located, left_out } = self.run.replayed.uncounted;
        for (count, why) in [
            (not_located, format!("it is not known where in memory {not_located} buffers lie")),
            (left_out, format!("{left_out} buffers were not compared with all that lies in their lines")),
        ] {
            measured.may_be_more(if count > 0 { f64::INFINITY } else { 0.0 }, why);
        }
        for why in self.doubts.about(&[Concern::Unmappings]) {
            measured.may_be_less(why);
        }
        let refused = self.run.replayed.observed.total().failed;
        if self.run.outcome.is_some_and(|outcome| outcome.total.failed < refused) {
            let why = format!("it is not known how long {refused} refused mappings would have lasted");
            measured.may_be_more(f64::INFINITY, why);
        }
        if let Some(outcome) = self.run.outcome {
            let open = if outcome.small_objects_move { f64::INFINITY } else { outcome.overlaps_unknown as f64 };
            measured.may_be_more(open, "it is not known where buffers would lie in other caches".to_owned());
        } else {
            let unknown = self.run.replayed.observed.unknown;
            measured.may_be_more(unknown as f64, format!("it is not known of {unknown} buffers whether they bounced"));
        }
    }

    fn doubt_bounces(self, measured: &mut Measured) {
        let unseen = self.run.replayed.verdict.unknown_by_reason.get(&Unknown::NoMappingEvent).copied().unwrap_or(0);
        measured.may_be_more(unseen as f64, format!("{unseen} times slots were taken without a mapping event"));
        self.doubt_order(measured);
        match self.run.outcome {
            None => {
                let unknown = self.run.replayed.observed.unknown;
                measured
                    .may_be_more(unknown as f64, format!("it is not known of {unknown} buffers whether they bounced"));
            }
            // What is refused wrongly would bounce.
            Some(outcome) if outcome.total.failed > 0 => {
                for why in self.doubts.about(&[Concern::Pool, Concern::PoolSize]) {
                    measured.may_be_more(f64::INFINITY, why);
                }
            }
            Some(_) => {}
        }
    }

    /// What overlaps in time may have come in another order.
    fn doubt_order(self, measured: &mut Measured) {
        let raced = self.run.outcome.map_or(0, |outcome| outcome.raced);
        let why = || {
            format!(
                "whether {raced} mappings find the pool full depends on the order of searches and releases that overlap"
            )
        };
        measured.may_be_within(measured.low - raced as f64, measured.high + raced as f64, why);
    }

    /// Of mappings that the kernel refused it is not known how long they would have held their slots, nor what would have been
    /// copied back.
    fn doubt_durations(self, measured: &mut Measured) {
        let refused = self.run.outcome.map_or(0, |outcome| outcome.mapped_but_refused_by_kernel);
        if refused > 0 {
            measured
                .may_be_more(f64::INFINITY, format!("it is not known how long {refused} mappings would have lasted"));
        }
    }

    /// Where they last as long as others like them, or pools are added late, it may be so much more.
    fn doubt_worst(self, measured: &mut Measured, more: u64) {
        let Some(outcome) = self.run.outcome.filter(|_| more > 0) else { return };
        let mut why = Vec::new();
        if outcome.mapped_but_refused_by_kernel > 0 {
            let refused = outcome.mapped_but_refused_by_kernel;
            why.push(format!("{refused} mappings that the kernel refused may have lasted as long as others like them"));
        }
        if outcome.transient_pools_at_most() > 0 {
            why.push("it is not known how soon the kernel adds a pool".to_owned());
        }
        measured.may_be_more(more as f64, why.join(", and "));
    }

    /// An allocation that was not recorded may lie in any line of which it is not known what does. An object whose free was not
    /// recorded may be gone: then a hazard with a foreign object is one of another class, or none.
    fn doubt_neighbours(self, figure: Figure, selected: &Selected, measured: &mut Measured) {
        let Tally { hazards_foreign, hazards_unknown, bounces, bounces_not_needed, .. } = selected.tally;
        let needed = bounces.saturating_sub(bounces_not_needed) as f64;
        for why in self.doubts.about(&[Concern::Allocations]) {
            match figure {
                Figure::HazardsUnknown => measured.may_be_less(why),
                Figure::HazardsForeign | Figure::HazardsOwn => measured.may_be_more(hazards_unknown as f64, why),
                _ => measured.may_be_more(needed, why),
            }
        }
        for why in self.doubts.about(&[Concern::Frees]) {
            match figure {
                Figure::HazardsForeign => measured.may_be_less(why),
                Figure::HazardsUnknown | Figure::HazardsOwn => measured.may_be_more(hazards_foreign as f64, why),
                _ => {
                    measured.may_be_less(why.clone());
                    measured.may_be_more(needed, why);
                }
            }
        }
    }

    fn total(self, figure: Figure) -> Result<Measured, String> {
        let replayed = self.run.replayed;
        let verdict = &replayed.verdict;
        Ok(match figure {
            Figure::PeakSlots => self.peak()?,
            Figure::PeakPercent => {
                let slots = self.run.slots_at_peak();
                if slots == 0 {
                    return Err("there is no pool".to_owned());
                }
                if self.run.outcome.is_none() && replayed.start.kernel.pool.dynamic {
                    return Err("this kernel can add pools, and it is not known how large they were".to_owned());
                }
                let mut measured = self.peak()?;
                measured.scale(100.0, slots as f64);
                if self.run.outcome.is_some() {
                    // A pool that grows further has more slots then.
                    measured.high = measured.high.min(100.0);
                }
                measured
            }
            Figure::HeldSeconds
            | Figure::LeakingSlots
            | Figure::FloorSlots
            | Figure::FloorRise
            | Figure::SecondsAbove80Percent => self.in_the_long_run(figure)?,
            Figure::PoolCpuPercent => {
                let mut measured = Measured::exactly(self.pool_cpu_ns()? as f64);
                self.doubt_durations(&mut measured);
                measured.scale(1e-7, self.seconds()?);
                measured
            }
            Figure::Disagreements => {
                let mut measured = self.as_read(figure)?;
                let why = format!("{} mappings could not be compared", verdict.unknown);
                measured.may_be_more(verdict.unknown as f64, why);
                for why in &verdict.not_compared {
                    measured.may_be_more(f64::INFINITY, format!("not compared: {why}"));
                }
                measured
            }
            _ => self.as_read(figure)?,
        })
    }

    /// A figure that needs no doubts of its own.
    fn as_read(self, figure: Figure) -> Result<Measured, String> {
        let value = figure.read(self.run).ok_or("the capture does not have it")?;
        Ok(Measured::exactly(value.number()))
    }

    fn peak(self) -> Result<Measured, String> {
        let verdict = &self.run.replayed.verdict;
        if let Some(outcome) = self.run.outcome {
            let mut measured = Measured::exactly(outcome.peak_slots as f64);
            self.doubt_worst(&mut measured, outcome.peak_slots_at_most() - outcome.peak_slots);
            let [least, most] = outcome.peak_slots_range;
            let why = || "the peak depends on the order of searches and releases that overlap".to_owned();
            measured.may_be_within(least as f64, most as f64, why);
            return Ok(measured);
        }
        if self.run.replayed.start.kernel.pool.slots == 0 {
            return Ok(Measured::exactly(0.0));
        }
        let peak = verdict.peak_slots_kernel.ok_or("the capture has no samples of the pool's counters")?;
        let mut measured = Measured::exactly(peak as f64);
        if !verdict.peak_is_exact {
            measured.may_be_more(f64::INFINITY, "the kernel kept no high-water mark of its pool".to_owned());
        }
        Ok(measured)
    }

    /// What rests on who holds slots for how long. A release that was lost leaves slots in use that are not, and a search that was lost
    /// leaves some out.
    fn in_the_long_run(self, figure: Figure) -> Result<Measured, String> {
        let mut measured = self.as_read(figure)?;
        if self.run.outcome.is_some() && self.leaves_pool_alone() {
            return Ok(measured);
        }
        let concerns: &[Concern] = match figure {
            Figure::SecondsAbove80Percent => &[Concern::Pool, Concern::PoolSize],
            _ => &[Concern::Pool],
        };
        for why in self.doubts.about(concerns) {
            measured.may_be_less(why.clone());
            measured.may_be_more(f64::INFINITY, why);
        }
        let is_open = |outcome: &Outcome| {
            let most = outcome.peak_slots_at_most();
            let is_never_full = most.saturating_mul(100) <= outcome.total_slots.saturating_mul(NEARLY_FULL);
            most > outcome.peak_slots && !(figure == Figure::SecondsAbove80Percent && is_never_full)
        };
        if self.run.outcome.is_some_and(is_open) {
            let why = "it is not known how long some mappings would have lasted, or how soon the kernel adds a pool";
            measured.may_be_less(why.to_owned());
            measured.may_be_more(f64::INFINITY, why.to_owned());
        }
        Ok(measured)
    }

    fn pool_cpu_ns(self) -> Result<u64, String> {
        let ns = match self.run.outcome {
            // Nothing to be copied takes no time, measured or not.
            Some(outcome) if outcome.total.bounces == 0 => Some(0),
            _ => self.run.pool_cpu_ns(),
        };
        ns.ok_or_else(|| "the capture does not have the times of all of the pool's functions".to_owned())
    }
}

impl Measured {
    /// What to put before the value: on which side of it the truth may lie.
    pub fn mark(&self) -> &'static str {
        match (self.low < self.value, self.value < self.high) {
            (false, false) => "",
            (false, true) => ">= ",
            (true, false) => "<= ",
            (true, true) => "~ ",
        }
    }

    fn exactly(value: f64) -> Self {
        Self { value, low: value, high: value, doubts: Vec::new() }
    }

    fn may_be_within(&mut self, low: f64, high: f64, why: impl FnOnce() -> String) {
        let low = low.max(0.0);
        if low < self.low || high > self.high {
            (self.low, self.high) = (low.min(self.low), high.max(self.high));
            self.doubts.push(why());
        }
    }

    fn may_be_more(&mut self, by: f64, why: String) {
        if by > 0.0 {
            self.high += by;
            self.doubt(why);
        }
    }

    fn may_be_less(&mut self, why: String) {
        if self.low > 0.0 {
            self.low = 0.0;
            self.doubt(why);
        }
    }

    fn doubt(&mut self, why: String) {
        if !self.doubts.contains(&why) {
            self.doubts.push(why);
        }
    }

    /// First the product, so that half of the pool is 50 % of it and no hair more.
    fn scale(&mut self, by: f64, of: f64) {
        for value in [&mut self.value, &mut self.low, &mut self.high] {
            *value = *value * by / of;
        }
    }
}
