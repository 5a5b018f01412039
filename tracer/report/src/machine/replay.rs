//! `replay --json`: figures under their keys in [`Figure`]'s table, and what no figure is.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Document;
use super::kernel::Kernel;
use crate::advice::Advice;
use bouncescope_capture::event::Direction;
use bouncescope_capture::facts::PoolTimes;
use bouncescope_capture::names::Loss;
use bouncescope_capture::stream::Gaps;
use bouncescope_model::policy::{Lists, WhenFull};
use bouncescope_replay::Replayed;
use bouncescope_replay::figures::{Figure, Run, Value};
use bouncescope_replay::lengths::Total;
use bouncescope_replay::memory::CacheUse;
use bouncescope_replay::occupancy::Occupancy;
use bouncescope_replay::outcome::{self, CoherentRow, Outcome, PoolRow, Rows, Tally};
use bouncescope_replay::settings::Settings;
use bouncescope_replay::slabs::Slabs;

/// `replay --json`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Replay<'a> {
    /// What was replayed.
    capture: Capture<'a>,
    /// Mappings as the kernel counted them, streamed or not.
    counted: Total,
    /// Each policy's figures, in the order asked for.
    policies: Vec<Simulated<'a>>,
    /// What the kernel did.
    observed: Observed<'a>,
    /// How long the pool's functions took; `null` where that was not measured.
    pool_times: Option<&'a PoolTimes>,
    /// It is known whose objects the buffers are.
    origins_known: bool,
    /// With `--advise`.
    advice: Option<&'a Advice>,
    /// Losses by name, per CPU where the kernel counts so.
    losses: &'a BTreeMap<Loss, Vec<u64>>,
    /// What is missing from the capture.
    gaps: &'a Gaps,
}

/// What was replayed.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Capture<'a> {
    /// The kernel.
    kernel: Kernel<'a>,
    /// The program and arguments that recorded.
    recorder: &'a str,
    /// Which mappings are streamed as events: `all`, `written` or `small`.
    streamed: &'static str,
}

/// What a simulated kernel did.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Simulated<'a> {
    /// The name in this replay, with what else was changed.
    name: &'a str,
    /// The policy's own name.
    policy: &'a str,
    /// Its rule in one line.
    about: &'a str,
    /// What becomes of scatterlists behind an IOMMU.
    lists_mode: Lists,
    /// What becomes of a mapping that finds no slots.
    when_full: WhenFull,
    /// The pool grows (`CONFIG_SWIOTLB_DYNAMIC`).
    pool_grows: bool,
    #[serde(flatten)]
    figures: PolicyFigures<'a>,
    /// Why buffers bounce.
    bounces_by_reason: &'a BTreeMap<String, u64>,
    /// Why mappings are refused.
    failed_by_reason: &'a BTreeMap<String, u64>,
    /// Slabs of all kmalloc caches at the end, bytes; `null` where the capture has no count of them.
    all_slabs: Option<Slabs>,
    /// Live objects in each cache at the end.
    caches: &'a [CacheUse],
    /// Each pool that was used, where there are others than the default one.
    #[serde(skip_serializing_if = "<[PoolRow]>::is_empty")]
    pools: &'a [PoolRow],
    /// Coherent memory out of restricted pools, by device.
    #[serde(skip_serializing_if = "<[CoherentRow]>::is_empty")]
    coherent_memory: &'a [CoherentRow],
    /// Slots in use over time, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    occupancy: Option<&'a Occupancy>,
    /// It may bounce mappings that were not streamed: the counts are of those that were.
    looks_at_unstreamed: bool,
    #[serde(flatten)]
    rows: Breakdown<'a>,
}

/// What the kernel did.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Observed<'a> {
    #[serde(flatten)]
    figures: RealFigures,
    /// Buffers for which it is not known whether they bounced.
    unknown_buffers: u64,
    /// Times that slots were taken without a mapping event.
    slots_without_mapping: u64,
    /// Most slots in use at once; `null` where the kernel tells nothing.
    peak_slots: Option<u64>,
    /// `peak_slots` is the kernel's own high-water mark over the recording, not just the highest sample.
    peak_is_exact: bool,
    /// The same by device, driver, call site, direction and length.
    rows: Breakdown<'a>,
}

/// Counts by what was mapped.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(clippy::struct_field_names, reason = "the fields are the names in JSON")]
struct Breakdown<'a> {
    /// Most bounces first, then most mappings.
    by_device: Vec<DeviceRow<'a>>,
    /// In the same order.
    by_driver: Vec<DriverRow<'a>>,
    /// Scatterlists by the function that mapped them, most that lose segments first; empty where it was not recorded.
    by_list_caller: Vec<ListCallerRow<'a>>,
    /// By the call site of kmalloc that the buffers come from, in the same order.
    by_call_site: Vec<CallSiteRow<'a>>,
    /// By direction.
    by_direction: Vec<DirectionRow>,
    /// By length of the buffer, ascending.
    by_size_class: Vec<ClassRow>,
    /// Overlaps by the two buffers, the most frequent first. Where more than one was there already, one of them is named.
    by_overlap: Vec<OverlapRow<'a>>,
}

/// Two buffers that were mapped at once in one cache line.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct OverlapRow<'a> {
    /// The one that was mapped later.
    later: OverlapSide<'a>,
    /// The one that was mapped already.
    earlier: OverlapSide<'a>,
    /// They had bytes in common, not only a line.
    same_bytes: bool,
    /// Buffers mapped so.
    overlaps: u64,
}

/// One of them.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct OverlapSide<'a> {
    /// `dev_name()`.
    device: &'a str,
    /// Its driver when last described; empty for devices without.
    driver: &'a str,
    /// Where its object was allocated, or else which function mapped its list, as `function+0xoffset`; where neither is known, the slab cache
    /// that the buffer lies in, or `pages`; empty where nothing is known.
    call_site: &'a str,
    /// Module, empty for the kernel itself; `slab cache` or `no slab` where there is no call site.
    module: &'a str,
}

/// A device.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct DeviceRow<'a> {
    /// `dev_name()`.
    device: &'a str,
    /// Its driver when last described.
    driver: &'a str,
    /// `dev_is_dma_coherent()` when last described.
    coherent: bool,
    #[serde(flatten)]
    figures: RowFigures,
}

/// A driver.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct DriverRow<'a> {
    /// Empty for devices without.
    driver: &'a str,
    /// Scatterlists.
    lists: u64,
    /// Of them those behind an IOMMU that are no longer concatenated.
    lists_losing_concatenation: u64,
    /// DMA segments that those would have been.
    segments_before: u64,
    /// DMA segments that they are.
    segments_after: u64,
    #[serde(flatten)]
    figures: RowFigures,
}

/// A function that mapped scatterlists.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct ListCallerRow<'a> {
    /// `function+0xoffset`, of the call of `dma_map_sg_attrs()` or `dma_map_sgtable()`; empty for lists of which it is not known.
    caller: &'a str,
    /// Module; empty for the kernel itself.
    module: &'a str,
    /// Scatterlists.
    lists: u64,
    /// Of them those behind an IOMMU that are no longer concatenated.
    lists_losing_concatenation: u64,
    /// DMA segments that those would have been.
    segments_before: u64,
    /// DMA segments that they are.
    segments_after: u64,
}

/// Where the object of a buffer was allocated, or what the buffer lies in.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct CallSiteRow<'a> {
    /// `function+0xoffset`; where that is not known, the slab cache that the buffer lies in, or `pages`; empty for buffers of which nothing
    /// is known.
    call_site: &'a str,
    /// Module, empty for the kernel itself; `slab cache` or `no slab` where there is no call site.
    module: &'a str,
    #[serde(flatten)]
    figures: RowFigures,
}

/// A direction.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct DirectionRow {
    /// As the kernel calls it, without `DMA_`.
    direction: Direction,
    #[serde(flatten)]
    figures: RowFigures,
}

/// A size class.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct ClassRow {
    /// Longest buffer of the class, bytes: an object size of kmalloc with caches from 8 bytes.
    up_to: u64,
    #[serde(flatten)]
    figures: RowFigures,
}

/// Figures of a policy.
#[derive(Debug)]
struct PolicyFigures<'a>(Run<'a>);

/// Figures of the real run.
#[derive(Debug)]
struct RealFigures(Tally);

/// Figures of a row.
#[derive(Debug)]
struct RowFigures(Tally);

fn of_policies() -> impl Iterator<Item = Figure> {
    Figure::ALL.iter().copied().filter(|figure| figure.is_in_json())
}

fn of_rows() -> impl Iterator<Item = Figure> {
    of_policies().filter(|figure| figure.count(&Tally::default()).is_some())
}

fn of_real() -> impl Iterator<Item = Figure> {
    of_rows().filter(|figure| !figure.is_simulated_only())
}

fn map<S: Serializer>(
    figures: impl Iterator<Item = Figure>,
    read: impl Fn(Figure) -> Option<Value>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for figure in figures {
        match read(figure) {
            None => map.serialize_entry(figure.key(), &())?,
            Some(Value::Count(count)) => map.serialize_entry(figure.key(), &count)?,
            Some(Value::Real(real)) => map.serialize_entry(figure.key(), &real)?,
            Some(Value::Estimate(estimate)) => map.serialize_entry(figure.key(), &estimate)?,
            Some(Value::Slabs(slabs)) => map.serialize_entry(figure.key(), &slabs)?,
        }
    }
    map.end()
}

impl Serialize for PolicyFigures<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        map(of_policies(), |figure| figure.read(self.0), serializer)
    }
}

impl Serialize for RealFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        map(of_real(), |figure| figure.count(&self.0).map(Value::Count), serializer)
    }
}

impl Serialize for RowFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        map(of_rows(), |figure| figure.count(&self.0).map(Value::Count), serializer)
    }
}

impl Document for Replay<'_> {
    const KIND: &'static str = "replay";
    const VERSION: u32 = 2;
}

impl<'a> Replay<'a> {
    /// Of a replay.
    pub fn new(replayed: &'a Replayed, advice: Option<&'a Advice>) -> Self {
        let policies = replayed.outcomes.iter().zip(&replayed.settings);
        Self {
            capture: Capture {
                kernel: Kernel(&replayed.start.kernel),
                recorder: &replayed.start.recorder,
                streamed: replayed.start.streamed.name(),
            },
            counted: replayed.lengths.total,
            policies: policies.map(|(outcome, settings)| Simulated::new(replayed, outcome, settings)).collect(),
            observed: Observed {
                figures: RealFigures(replayed.observed.total()),
                unknown_buffers: replayed.observed.unknown,
                slots_without_mapping: replayed.observed.orphans,
                peak_slots: replayed.verdict.peak_slots_kernel,
                peak_is_exact: replayed.verdict.peak_is_exact,
                rows: Breakdown::new(&replayed.observed_rows),
            },
            pool_times: replayed.pool_times.as_ref(),
            origins_known: replayed.origins_known,
            advice,
            losses: &replayed.counters.lost,
            gaps: &replayed.gaps,
        }
    }
}

impl<'a> Simulated<'a> {
    fn new(replayed: &'a Replayed, outcome: &'a Outcome, settings: &'a Settings) -> Self {
        Self {
            name: &outcome.name,
            policy: &settings.policy,
            about: &outcome.about,
            lists_mode: settings.lists,
            when_full: settings.when_full,
            pool_grows: settings.grows,
            figures: PolicyFigures(Run { replayed, outcome: Some(outcome) }),
            bounces_by_reason: &outcome.bounces_by_reason,
            failed_by_reason: &outcome.failed_by_reason,
            all_slabs: outcome.all_slabs,
            caches: &outcome.caches,
            pools: &outcome.pools,
            coherent_memory: &outcome.coherent,
            occupancy: outcome.occupancy.as_ref(),
            looks_at_unstreamed: outcome.looks_at_unstreamed,
            rows: Breakdown::new(&outcome.rows),
        }
    }
}

impl<'a> OverlapSide<'a> {
    fn new(side: &'a outcome::OverlapSide) -> Self {
        Self { device: &side.device, driver: &side.driver, call_site: &side.call_site, module: &side.module }
    }
}

impl<'a> Breakdown<'a> {
    fn new(rows: &'a Rows) -> Self {
        let by_device = rows.by_device.iter().map(|row| DeviceRow {
            device: &row.device,
            driver: &row.driver,
            coherent: row.coherent,
            figures: RowFigures(row.tally),
        });
        let by_driver = rows.by_driver.iter().map(|row| DriverRow {
            driver: &row.driver,
            lists: row.lists,
            lists_losing_concatenation: row.lists_losing_concatenation,
            segments_before: row.segments_before,
            segments_after: row.segments_after,
            figures: RowFigures(row.tally),
        });
        let by_list_caller = rows.by_list_caller.iter().map(|row| ListCallerRow {
            caller: &row.caller,
            module: &row.module,
            lists: row.lists,
            lists_losing_concatenation: row.lists_losing_concatenation,
            segments_before: row.segments_before,
            segments_after: row.segments_after,
        });
        let by_call_site = rows.by_call_site.iter().map(|row| CallSiteRow {
            call_site: &row.call_site,
            module: &row.module,
            figures: RowFigures(row.tally),
        });
        let by_overlap = rows.overlaps.iter().map(|row| OverlapRow {
            later: OverlapSide::new(&row.later),
            earlier: OverlapSide::new(&row.earlier),
            same_bytes: row.same_bytes,
            overlaps: row.overlaps,
        });
        let direction =
            |row: &outcome::DirectionRow| DirectionRow { direction: row.direction, figures: RowFigures(row.tally) };
        let class = |row: &outcome::ClassRow| ClassRow { up_to: row.up_to, figures: RowFigures(row.tally) };
        Self {
            by_device: by_device.collect(),
            by_driver: by_driver.collect(),
            by_list_caller: by_list_caller.collect(),
            by_call_site: by_call_site.collect(),
            by_direction: rows.by_direction.iter().map(direction).collect(),
            by_size_class: rows.by_size_class.iter().map(class).collect(),
            by_overlap: by_overlap.collect(),
        }
    }
}

#[cfg(feature = "schema")]
mod schema {
    use super::{Figure, PolicyFigures, RealFigures, RowFigures, of_policies, of_real, of_rows};
    use bouncescope_replay::estimate::Estimate;
    use bouncescope_replay::figures::{Of, Unit};
    use schemars::{JsonSchema, Schema, SchemaGenerator};
    use serde_json::json;

    fn schema(figures: impl Iterator<Item = Figure>, generator: &mut SchemaGenerator) -> Schema {
        let mut properties = serde_json::Map::new();
        for figure in figures {
            let number = match figure.unit() {
                Unit::PerSecond | Unit::BytesPerSecond | Unit::Percent | Unit::Seconds => json!("number"),
                _ => json!("integer"),
            };
            let mut schema = match figure.of() {
                Of::Estimate(_) => {
                    json!({ "anyOf": [generator.subschema_for::<Estimate>(), { "type": "null" }] })
                }
                Of::Run(_) => json!({ "type": [number, "null"], "minimum": 0 }),
                _ => json!({ "type": number, "minimum": 0 }),
            };
            schema["description"] = json!(figure.explained());
            properties.insert(figure.key().to_owned(), schema);
        }
        let required: Vec<String> = properties.keys().cloned().collect();
        let object = json!({ "type": "object", "properties": properties, "required": required });
        Schema::try_from(object).unwrap_or_default()
    }

    macro_rules! figures {
        ($($name:ty = $of:ident,)*) => {
            $(impl JsonSchema for $name {
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($of).into()
                }

                fn inline_schema() -> bool {
                    true
                }

                fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                    schema($of(), generator)
                }
            })*
        };
    }

    figures! {
        PolicyFigures<'_> = of_policies,
        RealFigures = of_real,
        RowFigures = of_rows,
    }
}
