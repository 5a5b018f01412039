//! The one stream: everything that comes after a source sees only this, be it a live kernel, a capture file or an
//! import.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serializer, de::Error};
pub use tracer_ebpf::streamed::Streamed;

use crate::event::Batch;
use crate::facts::{
    Counters, Device, End, Hook, KernelFacts, LengthCount, PoolSample, PoolTimes, SiteCount, SlabSample, Symbol,
};
use crate::labels::Labels;
use crate::passed::{Needs, Passed};

/// One item of a stream. `Start` comes first; a device before the first event that names it; the rest whenever it is
/// known. Counters and site counts are totals since the beginning: the last of each counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The recording begins.
    Start(Start),
    /// A device described.
    Device(Device),
    /// Events.
    Events(Batch),
    /// Totals of events that come with those before, and were left out as the source was told ([`Source::leave_out`]).
    Passed(Passed),
    /// The pool's counters at a moment.
    Pool(PoolSample),
    /// Allocations by call site and size, totals since the beginning of those that changed since the last time.
    Sites(Vec<SiteCount>),
    /// Mappings by device and length, totals since the beginning of those that changed since the last time.
    Lengths(Vec<LengthCount>),
    /// The kmalloc caches at a moment.
    Slab(SlabSample),
    /// How long the pool's functions took, totals since the beginning.
    PoolTimes(PoolTimes),
    /// Names of call sites.
    Symbols(Vec<Symbol>),
    /// The programs' counters.
    Counters(Counters),
    /// The recording ended in order. A stream without it was cut.
    End(End),
}

/// The member of [`Start::other`] that marks a part of a longer recording: what happened before was not kept.
pub const WINDOW: &str = "window";

/// The beginning of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Start {
    /// When recording began, ns of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The same moment, seconds since 1970.
    pub wall_clock_s: u64,
    /// The kernel.
    pub kernel: KernelFacts,
    /// The hooks and their verdicts.
    pub hooks: Vec<Hook>,
    /// One allocation in how many is streamed as an event: 1 all, 0 none.
    pub allocation_sample: u64,
    /// Times of allocations and frees may be rounded down to a multiple of this, ns; `None` where they are exact, as those of mappings always
    /// are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_tick_ns: Option<u32>,
    /// Which mappings are streamed as events, in captures `all`, `written` or `small`; which there are is counted in any case.
    #[serde(serialize_with = "name_of", deserialize_with = "named")]
    pub streamed: Streamed,
    /// Events before this moment come from the kernel's own trace, which has no searches for slots and no releases; ns of
    /// `CLOCK_MONOTONIC`. `None` where everything was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined_ns: Option<u64>,
    /// What could not be read or resolved about the kernel, one line each.
    pub notes: Vec<String>,
    /// The program and arguments that recorded.
    pub recorder: String,
    /// What somebody says of the machine.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Anything else that a later version says.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

impl Start {
    /// Whether the stream is a part of a longer recording. What the programs sum up is counted then from one reading to another, which lie
    /// near its first and its last event but not at them.
    pub fn is_window(&self) -> bool {
        self.other.get(WINDOW).is_some_and(|window| window["whole"] != true)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn name_of<S: Serializer>(streamed: &Streamed, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(streamed.name())
}

fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Streamed, D::Error> {
    let name = String::deserialize(deserializer)?;
    Streamed::ALL.into_iter().find(|streamed| streamed.name() == name).ok_or_else(|| D::Error::custom("no such choice"))
}

/// What a source could not give: a capture that was cut or damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Gaps {
    /// Frames whose checksum or content was wrong, skipped.
    pub damaged_frames: u64,
    /// Bytes passed over in search of the next good frame, with those of the damaged frames.
    pub skipped_bytes: u64,
    /// Bytes of an incomplete frame at the end.
    pub cut_bytes: u64,
    /// Frames of a type that this version does not know, skipped.
    pub unknown_frames: u64,
    /// The stream has no `End`: the recorder was killed or the file cut.
    pub no_end: bool,
}

impl Gaps {
    /// Nothing is missing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A source of items.
pub trait Source {
    /// Why a source failed altogether.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The next item; `None` at the end.
    fn next_item(&mut self) -> Result<Option<Item>, Self::Error>;

    /// Tells that no more than this is needed of the events that come: for those of which [`Item::Passed`] says enough. A source may
    /// give all of them all the same.
    fn leave_out(&mut self, _needs: Needs) {}

    /// A batch that nobody needs any more: its memory may serve the next ones. For those that make many.
    fn take_back(&mut self, _used: Batch) {}

    /// What is missing from what came so far.
    fn gaps(&self) -> Gaps {
        Gaps::default()
    }

    /// Bytes that were read for what came so far, and a little more; 0 where the source is no file.
    fn bytes_read(&self) -> u64 {
        0
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        (**self).next_item()
    }

    fn leave_out(&mut self, needs: Needs) {
        (**self).leave_out(needs);
    }

    fn take_back(&mut self, used: Batch) {
        (**self).take_back(used);
    }

    fn gaps(&self) -> Gaps {
        (**self).gaps()
    }

    fn bytes_read(&self) -> u64 {
        (**self).bytes_read()
    }
}
