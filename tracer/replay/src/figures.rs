//! The one table of figures: what each is called, measured in, read from, and where it is shown. The policies' table, CSV, JSON, metrics,
//! the names that rules use, and the explanations of all of these come from it, in its order.

use std::sync::LazyLock;

use serde::{Deserialize, Deserializer};

use crate::Replayed;
use crate::estimate::Estimate;
use crate::holders::SlotHolders;
use crate::outcome::{Outcome, Tally};
use crate::slabs::{self, Slabs};
use crate::trend::Trend;
use bouncescope_capture::plain::plain;
use bouncescope_model::size::exact;

/// One run of a capture: the real one, or a simulated one.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The capture.
    pub replayed: &'a Replayed,
    /// What was simulated; `None` for what the kernel did.
    pub outcome: Option<&'a Outcome>,
}

/// What a figure comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A count of its unit.
    Count(u64),
    /// A part or a rate.
    Real(f64),
    /// A count estimated from a sample.
    Estimate(Estimate),
    /// Bytes of slabs, with their bounds.
    Slabs(Slabs),
}

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count.
    Count,
    /// A count per second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Bytes, a power of two.
    Alignment,
    /// Slots of the pool, 2 KiB each.
    Slots,
    /// Parts of a hundred.
    Percent,
    /// A duration, ns.
    Duration,
    /// A duration, s.
    Seconds,
    /// A moment on the recording's clock, ns.
    Moment,
}

/// Of what a figure can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of everything, or of some device, driver or call site.
    Any,
    /// Of everything, or of some driver.
    Drivers,
    /// Of everything together.
    Totals,
}

/// What a figure is read from.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// The settings of a run, which stand before all that it did.
    Settings(fn(Run) -> u64),
    /// Counts by mapping, of the real run too; of a rate the count that it is the rate of.
    Mappings(fn(&Tally) -> u64),
    /// Counts by mapping that rest on what else lies in the buffers' cache lines. No event tells it of the real run.
    Neighbours(fn(&Tally) -> u64),
    /// Counts by mapping of what a policy wants. No event tells it of the real run.
    Wanted(fn(&Tally) -> u64),
    /// Any run.
    All(fn(Run) -> u64),
    /// Any run; `None` where this capture does not tell it.
    Run(fn(Run) -> Option<Value>),
    /// A simulated kernel. No event tells it of the real one.
    Outcome(fn(&Outcome) -> u64),
    /// The same, estimated from a sample; `None` without one.
    Estimate(fn(&Outcome) -> Option<Estimate>),
    /// The recording itself: a what-if has none of its own.
    Capture(fn(&Replayed) -> u64),
    /// Who held slots of the recorded kernel's pool at the end: a what-if has none of its own. `None` where nobody looked.
    Held(fn(&SlotHolders) -> Value),
}

/// Where a figure is shown.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A column of the policies' table, with its heading and, where that needs it, its explanation below the table.
    Text(&'static str, Option<&'static str>),
    /// A column of the CSV file.
    Csv,
    /// The same under another name.
    CsvAs(&'static str),
    /// The figures of each policy in JSON; counts by mapping also in those of the real run, and of each device, driver, call site,
    /// direction and size class.
    Json,
    /// Rules may be about it.
    Rule(Scope),
    /// A line of the comparison of two captures for each policy, and what it is called there.
    Change(&'static str),
    /// A metric of each policy: what follows `bouncescope_policy_`, and what it says.
    PolicyMetric(&'static str, &'static str),
    /// The same, distinguished by the value of the label `class`.
    ClassMetric(&'static str, &'static str, &'static str),
    /// A metric of each device, of what the kernel did: what follows `bouncescope_`, and what it says. Counts by mapping only.
    DeviceMetric(&'static str, &'static str),
}

/// What the table says of a figure.
#[derive(Clone, Copy, Debug)]
struct Row {
    meaning: &'static str,
    unit: Unit,
    of: Of,
    places: &'static [Place],
}

/// The enum and its table: a figure's doc comment is the explanation that documents and schemas give.
macro_rules! figures {
    ($($(#[doc = $meaning:literal])+ $name:ident: $unit:ident, $of:expr, [$($place:expr),* $(,)?];)*) => {
        /// A figure.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Figure {
            $($(#[doc = $meaning])+ $name,)*
        }

        impl Figure {
            /// All, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$name),*];
            const IDENTIFIERS: &[&str] = &[$(stringify!($name)),*];

            fn row(self) -> &'static Row {
                use Of::{All, Capture, Estimate, Held, Mappings, Neighbours, Outcome, Settings, Wanted};
                use Place::{Change, ClassMetric, Csv, CsvAs, DeviceMetric, Json, PolicyMetric, Rule, Text};
                use Scope::{Any, Drivers, Totals};
                match self {
                    $(Self::$name => const {
                        &Row { meaning: concat!($($meaning),+), unit: Unit::$unit, of: $of, places: &[$($place),*] }
                    },)*
                }
            }
        }
    };
}

figures! {
    /// `cache_line_size()` of the kernel.
    CacheLineSize: Alignment,
        Settings(|run| run.outcome.map_or(run.replayed.start.kernel.cache_line_size, |outcome| outcome.cache_line_size).into()),
        [Text("line", None), Csv, Json];
    /// Minimum alignment of the kmalloc caches.
    Minalign: Alignment,
        Settings(|run| run.outcome.map_or(run.replayed.start.kernel.kmalloc_minalign, |outcome| outcome.minalign).into()),
        [Text("kmalloc from", Some("bytes of the smallest caches")), Csv, Json];
    /// Slots that the pool begins with.
    TotalSlots: Slots, All(|run| run.total_slots()),
        [CsvAs("pool_slots"), Json, PolicyMetric("pool_slots", "Slots of the pool assumed.")];
    /// Calls of `dma_map_*`. A list belongs to the call site of its first segment.
    Mappings: Count, Mappings(|tally| tally.mappings),
        [Csv, Json, Rule(Any), DeviceMetric("mappings_total", "Calls of dma_map_*.")];
    /// Their buffers: one, or the segments of a list.
    Buffers: Count, Mappings(|tally| tally.buffers),
        [Csv, Json, Rule(Any), DeviceMetric("buffers_total", "Buffers in them: a list has one for each segment.")];
    /// Bytes of the buffers.
    Bytes: Bytes, Mappings(|tally| tally.bytes), [Json, DeviceMetric("mapped_bytes_total", "Bytes of the buffers.")];
    /// Buffers that bounce.
    Bounces: Count, Mappings(|tally| tally.bounces),
        [Text("bounces", None), Csv, Json, Rule(Any),
         PolicyMetric("bounces_total", "Buffers that would bounce."), DeviceMetric("bounces_total", "Buffers that bounced.")];
    /// Buffers that bounce, per second of the recording.
    BouncesPerSecond: PerSecond, Mappings(|tally| tally.bounces), [Rule(Any), Change("bounces/s")];
    /// Bytes copied into and out of the pool.
    BytesCopied: Bytes, Mappings(|tally| tally.bytes_copied),
        [Csv, Json, Rule(Any), PolicyMetric("copied_bytes_total", "Bytes that would be copied."),
         DeviceMetric("copied_bytes_total", "Bytes copied into and out of the pool.")];
    /// Bytes copied into and out of the pool, per second of the recording.
    BytesCopiedPerSecond: BytesPerSecond, Mappings(|tally| tally.bytes_copied),
        [Text("copied/s", Some("bytes copied into and out of the pool, per second")), Rule(Any), Change("copied/s")];
    /// CPU time of the pool's functions, at the speed that was measured in the capture.
    PoolCpuNs: Duration, Of::Run(|run| run.pool_cpu_ns().map(Value::Count)), [Csv, Json];
    /// CPU time of the pool's functions. 100 % is one CPU.
    PoolCpuPercent: Percent, Of::Run(|run| Some(Value::Real(run.pool_cpu_ns()? as f64 / 1e7 / run.replayed.seconds()))),
        [Text("pool CPU", None), Rule(Totals)];
    /// CPU time of cache maintenance, as it was timed in the capture; less what mappings would have taken that are refused, and more where
    /// only the recorded kernel refused them. The slots of a bounced buffer are maintained instead of the buffer.
    CacheMaintenanceNs: Duration, Of::Run(|run| run.cache_maintenance_ns().map(Value::Count)), [Csv, Json];
    /// CPU time of cache maintenance. 100 % is one CPU.
    CacheMaintenancePercent: Percent, Of::Run(|run| Some(Value::Real(run.cache_maintenance_ns()? as f64 / 1e7 / run.replayed.seconds()))),
        [Rule(Totals)];
    /// Time that the stream covers.
    SpanNs: Duration, All(|run| run.replayed.span_ns), [Csv, Json];
    /// Most slots of the pool in use at once.
    PeakSlots: Slots, Of::Run(|run| run.peak_slots().map(Value::Count)),
        [Text("peak slots", None), Csv, Json, Rule(Totals), Change("peak slots"),
         PolicyMetric("peak_slots", "Most slots that would be in use.")];
    /// Most slots of the pool in use at once, of the slots that there were then: in a pool that grows, more than it begins with.
    PeakPercent: Percent, Of::Run(|run| Some(Value::Real(run.peak_slots()? as f64 * 100.0 / run.slots_at_peak_if_any()?))), [Rule(Totals)];
    /// Slots of all pools when most were first in use: more than `total_slots` where the kernel had added pools by then, or had made some
    /// for one mapping alone.
    PoolSlotsAtPeak: Slots, Outcome(|outcome| outcome.pool_slots_at_peak),
        [Json, PolicyMetric("pool_slots_at_peak", "Slots of all pools when most would be in use: those that were added by then, too.")];
    /// The least that `peak_slots` is in any order of the searches and releases that overlap in time.
    PeakSlotsLeast: Slots, Outcome(|outcome| outcome.peak_slots_range[0]), [Json];
    /// The most that `peak_slots` is in any order of them.
    PeakSlotsMost: Slots, Outcome(|outcome| outcome.peak_slots_range[1]), [Json];
    /// When most slots were first in use.
    PeakTimeNs: Moment, Outcome(|outcome| outcome.peak_time_ns), [Text("at", None), Json];
    /// Mappings refused.
    Failed: Count, Mappings(|tally| tally.failed),
        [Text("failed", None), Csv, Json, Rule(Any), Change("mappings refused"),
         PolicyMetric("failed_mappings_total", "Mappings that would be refused."),
         DeviceMetric("failed_mappings_total", "Mappings that the kernel refused.")];
    /// Mappings whose refusal depends on the order of searches and releases that overlap in time.
    Raced: Count, Outcome(|outcome| outcome.raced),
        [Csv, Json,
         PolicyMetric("raced_mappings_total", "Mappings whose refusal depends on the order of searches and releases that overlap in time.")];
    /// Buffers that found no slots and were copied through memory allocated for them alone.
    Fallbacks: Count, Outcome(|outcome| outcome.fallbacks), [Csv, Json];
    /// The most of that memory at once, in objects of kmalloc that fill whole lines.
    FallbackBytes: Bytes, Outcome(|outcome| outcome.fallback_bytes), [Csv, Json];
    /// Hazards: buffers that a non-coherent device writes, not bounced, with another live object in their cache lines.
    HazardsForeign: Count, Neighbours(|tally| tally.hazards_foreign),
        [Text("foreign", Some("a non-coherent device writes the buffer, it does not bounce, and another live object is in its line")),
         Csv, Json, Rule(Any), Change("hazards, foreign object"),
         ClassMetric("hazards_total", "foreign", "Buffers that would be left in a shared cache line, by what else is in it.")];
    /// Hazards where it is not known what else lies in the lines.
    HazardsUnknown: Count, Neighbours(|tally| tally.hazards_unknown),
        [Text("unknown", Some("the same, but it is not known what is in the line")), Csv, Json, Rule(Any), Change("hazards, unknown"),
         ClassMetric("hazards_total", "unknown", "Buffers that would be left in a shared cache line, by what else is in it.")];
    /// Hazards where only the rest of the buffer's own object lies in the lines, which the kernel's rule calls safe.
    HazardsOwn: Count, Neighbours(|tally| tally.hazards_own),
        [Csv, Json, Rule(Any), Change("hazards, own object"),
         ClassMetric("hazards_total", "own", "Buffers that would be left in a shared cache line, by what else is in it.")];
    /// Overlaps: buffers mapped while another mapping is in one of their cache lines; by devices that are not coherent, neither bounced, at least
    /// one of the two written by its device. Each counts once, when it is mapped.
    Overlaps: Count, Mappings(|tally| tally.overlaps),
        [Csv, Json, Rule(Any), Change("overlaps"),
         PolicyMetric("overlaps_total", "Buffers that would be mapped while another mapping is in one of their cache lines, neither bounced and at least one written by its device."),
         DeviceMetric("overlaps_total", "Buffers mapped while another mapping was in one of their cache lines, neither bounced and at least one written by its device.")];
    /// Buffers that bounce for alignment although they are alone in their cache lines.
    BouncesNotNeeded: Count, Neighbours(|tally| tally.bounces_not_needed),
        [Text("unneeded", Some("bounced for alignment, alone in its lines")), Csv, Json, Rule(Any)];
    /// Buffers that a device only reads, whose length is no multiple of what a policy wants of drivers (`length-multiple`); of coherent devices, too.
    UnalignedRead: Count, Wanted(|tally| tally.unaligned_read), [Csv, Json];
    /// The same of buffers that a device may write.
    UnalignedWritten: Count, Wanted(|tally| tally.unaligned_written), [Csv, Json];
    /// Scatterlists.
    Lists: Count, Outcome(|outcome| outcome.lists), [Json];
    /// Scatterlists behind an IOMMU that need more DMA segments because a segment bounces.
    ListsLosingConcatenation: Count, Outcome(|outcome| outcome.lists_losing_concatenation),
        [Csv, Json, Rule(Drivers)];
    /// Slabs of all kmalloc caches at the end, by the kernel's own count of its objects; unknown where the capture has none.
    AllSlabs: Bytes, Of::Run(|run| run.all_slabs().map(Value::Slabs)),
        [Text("slabs", Some("all kmalloc caches, by the kernel's own count of their objects"))];
    /// The likeliest of them; unknown where only the bounds are known.
    AllSlabsBytes: Bytes, Of::Run(|run| run.all_slabs()?.bytes.map(Value::Count)),
        [Csv, PolicyMetric("slab_bytes", "Slabs of all kmalloc caches: the likeliest.")];
    /// The least that all objects can take, whatever their sizes.
    AllSlabsLeast: Bytes, Of::Run(|run| Some(Value::Count(run.all_slabs()?.least))),
        [Csv, PolicyMetric("slab_bytes_least", "Slabs of all kmalloc caches: the least, whatever the objects' sizes.")];
    /// The most that all objects can take, whatever their sizes.
    AllSlabsMost: Bytes, Of::Run(|run| Some(Value::Count(run.all_slabs()?.most))),
        [Csv, PolicyMetric("slab_bytes_most", "Slabs of all kmalloc caches: the most, whatever the objects' sizes.")];
    /// Slabs of the objects that were allocated in the recording and live at its end, and of no others; unknown without allocations in the capture.
    SlabBytes: Bytes, Estimate(|outcome| outcome.slab_bytes), [Csv, Json];
    /// Standard error of `slab_bytes`; 0 where every allocation was recorded.
    SlabBytesError: Bytes, Of::Run(|run| Some(Value::Count(run.outcome?.slab_bytes?.error))), [Csv];
    /// Pools that a kernel which adds pools would have added.
    PoolsAdded: Count, Outcome(|outcome| outcome.pools_added), [Json];
    /// Pools that it would have made for one mapping alone, if each pool is added at once.
    TransientPools: Count, Outcome(|outcome| outcome.transient_pools), [Json];
    /// Pools that it would have made for one mapping alone, if each pool is added 10 ms after the mapping that found none.
    TransientPoolsAtMost: Count, Outcome(crate::Outcome::transient_pools_at_most), [Json];
    /// Searches for slots that were not made, because too many before them had found none. They count as failed.
    SearchesGivenUp: Count, Outcome(|outcome| outcome.searches_given_up), [Json];
    /// Slots that the kernel was seen to take without a mapping event. They count in the peak and in nothing else.
    SlotsWithoutMapping: Count, Outcome(|outcome| outcome.slots_without_mapping), [Json];
    /// Mappings of devices whose description was lost. They are taken to be mapped directly.
    NotSimulated: Count, Outcome(|outcome| outcome.not_simulated), [Json];
    /// Bounces that the kernel counted by device and length but that were not recorded one by one. They are in no breakdown.
    BouncesOnlyCounted: Count, Outcome(|outcome| outcome.bounces_only_counted), [Json];
    /// Upper bound of `peak_slots`: mappings that the recorded kernel refused are taken to last as long as similar ones, and pools to be
    /// added late.
    PeakSlotsAtMost: Slots, Outcome(crate::Outcome::peak_slots_at_most),
        [Csv, Json, PolicyMetric("peak_slots_at_most", "Upper bound on the most slots in use, if refused mappings had lasted as long as similar ones.")];
    /// Upper bound of `failed`, under the same assumptions as `peak_slots_at_most`.
    FailedAtMost: Count, Outcome(crate::Outcome::failed_at_most),
        [Csv, Json, PolicyMetric("failed_at_most", "Upper bound on refused mappings, if refused ones had lasted as long as similar ones.")];
    /// Mappings that this run bounces and the kernel refused, whose unmapping is therefore not known.
    MappedButRefusedByKernel: Count, Outcome(|outcome| outcome.mapped_but_refused_by_kernel), [Json];
    /// Records lost, of every kind, and damaged frames of the capture.
    Losses: Count, Capture(|replayed| replayed.counters.total_lost() + replayed.gaps.damaged_frames), [Rule(Totals)];
    /// Mappings and totals about which model and kernel disagree, as `verify` says.
    Disagreements: Count, Capture(|replayed| replayed.verdict.disagreements + replayed.verdict.lists.disagreements + replayed.verdict.problems.len() as u64), [Rule(Totals)];
    /// Mappings whose outcome the capture does not show.
    Unknown: Count, Capture(|replayed| replayed.verdict.unknown), [Rule(Totals)];
    /// How long the oldest slots in use at the end have been held, of those that were taken in the recording.
    HeldSeconds: Seconds, Held(|held| Value::Real(held.at_end.longest_ns() as f64 / 1e9)), [Rule(Totals)];
    /// Slots in use at the end whose buffers look leaked: they were mapped throughout the recording, and outlast all that were given back.
    LeakingSlots: Slots, Held(|held| Value::Count(held.at_end.leaking_slots())), [Rule(Totals)];
    /// The floor: the least slots in use at any moment of the last quarter of the recording.
    FloorSlots: Slots, Of::Run(|run| Some(Value::Count(run.trend()?.floor()))), [Rule(Totals)];
    /// Slots by which the floor rose from the first quarter of the recording to the last, if it rose in each; else 0. Leaks raise it, peaks do not.
    FloorRise: Slots, Of::Run(|run| Some(Value::Count(run.trend()?.rise))), [Rule(Totals)];
    /// How long more than 80 % of the pool's slots were in use.
    SecondsAbove80Percent: Seconds, Of::Run(|run| Some(Value::Real(run.trend()?.nearly_full_ns as f64 / 1e9))), [Rule(Totals)];
}

/// `BytesCopied` as `bytes_copied` and `bytes-copied`.
static NAMES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let words = |identifier: &str, between: char| {
        let mut name = String::new();
        for letter in identifier.chars() {
            let is_digit_of_others = letter.is_ascii_digit() && name.ends_with(|last: char| last.is_ascii_digit());
            if (letter.is_uppercase() || letter.is_ascii_digit()) && !is_digit_of_others && !name.is_empty() {
                name.push(between);
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    };
    Figure::IDENTIFIERS.iter().map(|identifier| (words(identifier, '_'), words(identifier, '-'))).collect()
});

/// The names that rules may use.
static IN_RULES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    Figure::ALL.iter().filter(|figure| figure.scope().is_some()).map(|figure| figure.name()).collect()
});

impl Figure {
    /// Its key in JSON and CSV, such as `bytes_copied`.
    pub fn key(self) -> &'static str {
        &NAMES[self as usize].0
    }

    /// Its name in rules, such as `bytes-copied`.
    pub fn name(self) -> &'static str {
        &NAMES[self as usize].1
    }

    /// The figure of this name in rules; else what is wrong, with the names that there are.
    pub fn named(name: &str) -> Result<Self, String> {
        if let Some((_, now)) = RENAMED.iter().find(|(before, _)| *before == name) {
            return Err((*now).to_owned());
        }
        let known = Self::ALL.iter().find(|figure| figure.scope().is_some() && figure.name() == name);
        let unknown = || format!("no figure '{}'; figures are: {}", plain(name), IN_RULES.join(", "));
        known.copied().ok_or_else(unknown)
    }

    /// What it is, in a sentence or two.
    pub fn meaning(self) -> &'static str {
        self.row().meaning.trim()
    }

    /// The same with its unit, unless it begins with that.
    pub fn explained(self) -> String {
        let (meaning, unit) = (self.meaning(), self.unit().in_words());
        let is_said = unit.is_empty() || meaning.starts_with(unit.trim_end_matches('.'));
        if is_said { meaning.to_owned() } else { format!("{meaning} {unit}") }
    }

    /// What it is measured in.
    pub fn unit(self) -> Unit {
        self.row().unit
    }

    /// What it is read from.
    pub fn of(self) -> Of {
        self.row().of
    }

    /// The figure that is this one per second, where there is one.
    pub fn per_second(self) -> Option<Self> {
        match self {
            Self::Bounces => Some(Self::BouncesPerSecond),
            Self::BytesCopied => Some(Self::BytesCopiedPerSecond),
            _ => None,
        }
    }

    /// Where it is shown.
    pub fn places(self) -> &'static [Place] {
        self.row().places
    }

    /// Of what rules may be about it; `None` where they may not.
    pub fn scope(self) -> Option<Scope> {
        let scope = |place: &Place| if let Place::Rule(scope) = place { Some(*scope) } else { None };
        self.places().iter().find_map(scope)
    }

    /// Whether it stands in JSON.
    pub fn is_in_json(self) -> bool {
        self.places().iter().any(|place| matches!(place, Place::Json))
    }

    /// What is counted of mappings; for rates, the count that they are rates of.
    pub fn count(self, tally: &Tally) -> Option<u64> {
        match self.of() {
            Of::Mappings(count) | Of::Neighbours(count) | Of::Wanted(count) => Some(count(tally)),
            _ => None,
        }
    }

    /// Of a run; `None` where the capture does not tell it.
    pub fn read(self, run: Run) -> Option<Value> {
        let count = match self.of() {
            Of::Settings(read) | Of::All(read) => read(run),
            Of::Mappings(read) => read(&run.total()),
            Of::Neighbours(read) | Of::Wanted(read) => read(&run.outcome?.total),
            Of::Run(read) => return read(run),
            Of::Outcome(read) => read(run.outcome?),
            Of::Estimate(read) => return read(run.outcome?).map(Value::Estimate),
            Of::Capture(read) => read(run.replayed),
            Of::Held(read) => return run.replayed.held.as_ref().map(read),
        };
        Some(match self.unit() {
            Unit::PerSecond | Unit::BytesPerSecond => Value::Real(count as f64 / run.replayed.seconds()),
            _ => Value::Count(count),
        })
    }

    /// No event tells it of the real run: it takes a simulation.
    pub fn is_simulated_only(self) -> bool {
        matches!(self.of(), Of::Neighbours(_) | Of::Wanted(_) | Of::Outcome(_) | Of::Estimate(_))
    }

    /// It is of the recording itself, whatever is simulated.
    pub fn is_of_capture(self) -> bool {
        matches!(self.of(), Of::Capture(_) | Of::Held(_))
    }

    /// It needs to be known whose objects the buffers are.
    pub fn is_about_neighbours(self) -> bool {
        matches!(self.of(), Of::Neighbours(_))
    }
}

/// Names that rules used before, and what says the same now.
const RENAMED: [(&str, &str); 2] = [
    (
        "unsafe-certain",
        "`unsafe-certain` is two figures now: `hazards-foreign` (another live object) and `hazards-own` (the rest of the buffer's own)",
    ),
    ("unsafe-possible", "`unsafe-possible` is called `hazards-unknown` now"),
];

impl<'de> Deserialize<'de> for Figure {
    /// By the name in rules.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::named(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Run<'_> {
    /// Counts of all mappings.
    pub fn total(self) -> Tally {
        self.outcome.map_or_else(|| self.replayed.observed.total(), |outcome| outcome.total)
    }

    /// Slots of the pool.
    pub fn total_slots(&self) -> u64 {
        self.outcome.map_or_else(|| self.replayed.kernel_slots(), |outcome| outcome.total_slots)
    }

    /// Whether the pool was larger than at the beginning when most slots were in use. Of the recorded kernel only this much is known:
    /// more slots were in use than it began with.
    pub fn has_grown_at_peak(self) -> bool {
        match self.outcome {
            Some(outcome) => outcome.has_grown_at_peak(),
            None => self.peak_slots().is_some_and(|slots| self.replayed.start.kernel.pool.has_grown(slots)),
        }
    }

    /// Slabs of all kmalloc caches.
    fn all_slabs(self) -> Option<Slabs> {
        if let Some(outcome) = self.outcome {
            return outcome.all_slabs;
        }
        let (_, last) = self.replayed.slabs.as_ref()?;
        slabs::counted(last, u64::from(self.replayed.start.kernel.page_size))
    }

    /// Slots of the pool when most were in use; of the recorded kernel those that it began with.
    pub(super) fn slots_at_peak(self) -> u64 {
        self.outcome.map_or(0, |outcome| outcome.pool_slots_at_peak).max(self.total_slots())
    }

    fn slots_at_peak_if_any(self) -> Option<f64> {
        Some(self.slots_at_peak()).filter(|slots| *slots > 0).map(|slots| slots as f64)
    }

    /// How full the pool was in the long run.
    fn trend(self) -> Option<Trend> {
        match self.outcome {
            Some(outcome) => outcome.trend,
            None => self.replayed.held.as_ref().map(|held| held.trend),
        }
    }

    /// CPU time of the pool's functions.
    pub(super) fn pool_cpu_ns(self) -> Option<u64> {
        match self.outcome {
            Some(outcome) => outcome.pool_cpu_ns,
            None => Some(self.replayed.pool_times.as_ref()?.times.iter().map(|time| time.total_ns).sum()),
        }
    }

    /// CPU time of cache maintenance.
    pub(super) fn cache_maintenance_ns(self) -> Option<u64> {
        self.outcome.map_or(self.replayed.cache_maintenance_ns, |outcome| outcome.cache_maintenance_ns)
    }

    fn peak_slots(self) -> Option<u64> {
        self.outcome.map_or(self.replayed.verdict.peak_slots_kernel, |outcome| Some(outcome.peak_slots))
    }
}

impl Value {
    /// As a number, without its error.
    pub fn number(self) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::Real(real) => real,
            Self::Estimate(estimate) => estimate.value as f64,
            Self::Slabs(slabs) => slabs.bytes.unwrap_or(slabs.least.midpoint(slabs.most)) as f64,
        }
    }
}

impl Unit {
    /// Said behind what a figure means; empty for counts.
    fn in_words(self) -> &'static str {
        match self {
            Self::Count | Self::Slots => "",
            Self::PerSecond => "Per second.",
            Self::Bytes | Self::Alignment => "Bytes.",
            Self::BytesPerSecond => "Bytes per second.",
            Self::Percent => "Percent.",
            Self::Duration => "Nanoseconds.",
            Self::Seconds => "Seconds.",
            Self::Moment => "Nanoseconds of `CLOCK_MONOTONIC`.",
        }
    }

    /// A value as people read it, and as a limit is written.
    pub fn show(self, value: f64) -> String {
        let number = if value.fract() == 0.0 {
            format!("{value:.0}")
        } else if value < 0.01 {
            format!("{value:.1e}")
        } else {
            format!("{value:.2}")
        };
        match self {
            Self::Count | Self::Slots => number,
            Self::PerSecond => format!("{number}/s"),
            Self::Bytes | Self::BytesPerSecond | Self::Alignment => {
                let size = if value.fract() == 0.0 { exact(value as u64) } else { number };
                let unit = if size.ends_with(|last: char| last.is_ascii_digit()) { " B" } else { "" };
                let per = if self == Self::BytesPerSecond { "/s" } else { "" };
                format!("{size}{unit}{per}")
            }
            Self::Percent => format!("{number} %"),
            Self::Duration | Self::Moment => format!("{number} ns"),
            Self::Seconds => format!("{number} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_their_unit_and_none_that_is_not_0_as_0() {
        assert_eq!(Unit::Count.show(596.0), "596");
        assert_eq!([0.0, 20.513, 1e-5].map(|value| Unit::PerSecond.show(value)), ["0/s", "20.51/s", "1.0e-5/s"]);
        assert_eq!([0.0, 15136.0, 65536.0].map(|value| Unit::Bytes.show(value)), ["0 B", "15136 B", "64K"]);
        assert_eq!([0.5, 1_048_576.0].map(|value| Unit::BytesPerSecond.show(value)), ["0.50 B/s", "1M/s"]);
        assert_eq!(Unit::Percent.show(50.0), "50 %");
        assert_eq!([0.0, 4.5].map(|value| Unit::Seconds.show(value)), ["0 s", "4.50 s"]);
    }

    #[test]
    fn only_hazards_and_bounces_that_are_not_needed_ask_for_neighbours() {
        let about = Figure::ALL.iter().filter(|figure| figure.is_about_neighbours());
        let expected = [Figure::HazardsForeign, Figure::HazardsUnknown, Figure::HazardsOwn, Figure::BouncesNotNeeded];
        assert_eq!(about.copied().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn rules_name_a_figure_as_it_is_shown_and_no_other() {
        for figure in [Figure::BouncesPerSecond, Figure::PoolCpuPercent, Figure::ListsLosingConcatenation] {
            let name = serde_json::Value::from(figure.name());
            assert_eq!(serde_json::from_value::<Figure>(name).unwrap(), figure);
        }
        assert_eq!(Figure::SecondsAbove80Percent.name(), "seconds-above-80-percent");
        assert_eq!((Figure::PoolCpuNs.name(), Figure::PoolCpuNs.key()), ("pool-cpu-ns", "pool_cpu_ns"));
        let error = serde_json::from_value::<Figure>("pool-cpu-ns".into()).unwrap_err().to_string();
        assert!(error.contains("; figures are: mappings, buffers, bounces, "), "{error}");
    }

    #[test]
    fn a_former_name_is_refused_with_the_new_ones() {
        let refused = |name: &str| serde_json::from_value::<Figure>(name.into()).unwrap_err().to_string();
        let certain = refused("unsafe-certain");
        assert!(certain.contains("`hazards-foreign`") && certain.contains("`hazards-own`"), "{certain}");
        assert!(refused("unsafe-possible").contains("`hazards-unknown`"));
    }

    #[test]
    fn rules_about_single_devices_are_of_what_is_counted_by_mapping() {
        for figure in Figure::ALL.iter().filter(|figure| figure.scope() == Some(Scope::Any)) {
            assert!(figure.count(&Tally::default()).is_some(), "{}", figure.name());
        }
    }

    #[test]
    fn every_figure_is_shown_somewhere_and_explained() {
        for figure in Figure::ALL {
            assert!(!figure.places().is_empty() && figure.meaning().ends_with('.'), "{}", figure.key());
        }
    }
}
