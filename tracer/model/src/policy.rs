//! Policies: what a kernel does about small buffers that share cache lines, as data. Each is a named set of choices; users
//! write their own ([`text`]), the ones of the discussion are [`builtin`].
//!
//! No policy knows a machine: sizes that depend on one are named, and resolved when a policy meets a captured kernel
//! (`replay::settings`).

#[macro_use]
mod word;

mod builtin;
mod choice;
mod text;

use serde::{Deserialize, Serialize};

pub use builtin::{builtin, builtins};
pub use choice::{Alignment, Caches, PoolChoice, PoolSize};
pub use text::{PolicyError, from_toml, to_toml};
pub use text::{in_plain_words, line_at};

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// What to call it.
    pub name: String,
    /// Its rule in one line.
    #[serde(default)]
    pub about: String,
    /// Where it was proposed.
    #[serde(default)]
    pub origin: String,
    /// Which kmalloc caches there are.
    pub caches: Caches,
    /// Which buffers bounce although the device can reach them.
    pub bounce: Rule,
    /// With rules about lengths and starts: of what they must be a multiple.
    #[serde(default)]
    pub multiple_of: Alignment,
    /// Lengths from this on never bounce for alignment, bytes. [`Rule::Short`] bounces all below it, and takes twice
    /// `ARCH_DMA_MINALIGN` where it is not given; [`Rule::ShortOrStart`] the same, and looks at the start of longer ones;
    /// [`Rule::Kmalloc`] has its own limit, and takes no notice.
    #[serde(default, deserialize_with = "choice::bytes_below", skip_serializing_if = "Option::is_none")]
    pub below: Option<u64>,
    /// What becomes of a scatterlist behind an IOMMU that has a segment to be bounced.
    #[serde(default)]
    pub lists: Lists,
    /// The pool.
    #[serde(default)]
    pub pool: PoolChoice,
    /// What becomes of a mapping that finds no slots.
    #[serde(default)]
    pub when_full: WhenFull,
    /// Devices that are to be taken otherwise than captured; later ones count.
    #[serde(default, rename = "device", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Override>,
}

/// A policy by its name, or from a file whose text `read` gives. A name with a `/` or a `.` in it is a file's.
pub fn named(name: &str, read: impl FnOnce(&str) -> Result<String, String>) -> Result<Policy, String> {
    if let Some(policy) = builtin(name) {
        return Ok(policy);
    }
    if !name.contains(['/', '.']) {
        let known: Vec<String> = builtins().map(|policy| policy.name).collect();
        return Err(format!("no policy {name}; there are {}, and files such as mine.toml", known.join(", ")));
    }
    from_toml(&read(name)?).map_err(|error| format!("{name}: {error}"))
}

/// Which buffers bounce although the device can reach them. All but [`Rule::Never`] leave alone coherent devices and what
/// the device only reads, as `dma_kmalloc_safe()` does (`include/linux/dma-map-ops.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// None.
    Never,
    /// Those whose length, rounded up to a kmalloc cache, is no multiple of the line size, if shorter than twice
    /// `ARCH_DMA_MINALIGN`: `dma_kmalloc_needs_bounce()`.
    Kmalloc,
    /// Those whose length is no multiple of `multiple-of`.
    LengthMultiple,
    /// Those shorter than `below`.
    Short,
    /// Those that do not begin at a multiple of `multiple-of`.
    Start,
    /// Those of which start or length is no multiple of `multiple-of`.
    StartOrLength,
    /// Those shorter than `below`, and those that do not begin at a multiple of `multiple-of`.
    ShortOrStart,
    /// Those whose first or last line is known to hold something else that is in use.
    Shared,
}

/// What becomes of a scatterlist behind an IOMMU that has a segment to be bounced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Lists {
    /// It is mapped element by element, and its segments are not concatenated; only those that have to bounce do:
    /// `iommu_dma_map_sg()` (`drivers/iommu/dma-iommu.c`).
    #[default]
    WholeList,
    /// The same, and every element bounces that is not made of whole granules.
    WholeListBounce,
    /// Each segment is marked for itself (`sg_dma_mark_swiotlb()` on single entries); the others are concatenated.
    Flagged,
}

/// What becomes of a mapping that finds no slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The driver gets an error.
    #[default]
    Fail,
    /// A buffer that bounces for alignment is copied through aligned memory that kmalloc gives for it alone, also where there is no pool.
    Fallback,
}

words! {
    Rule {
        Never = "never", "no buffer";
        Kmalloc = "kmalloc", "as dma_kmalloc_needs_bounce() says";
        LengthMultiple = "length-multiple", "lengths that are no multiple of multiple-of";
        Short = "short", "lengths below the limit";
        Start = "start", "buffers that do not begin at a multiple of multiple-of";
        StartOrLength = "start-or-length", "buffers of which start or length is no multiple of multiple-of";
        ShortOrStart = "short-or-start", "lengths below the limit, and buffers that do not begin at a multiple of multiple-of";
        Shared = "shared", "buffers whose first or last line holds something else in use";
    }
    Lists {
        WholeList = "whole-list", "mapped element by element; only what has to bounce does";
        WholeListBounce = "whole-list-bounce", "mapped element by element; every element without whole granules bounces";
        Flagged = "flagged", "each segment is marked for itself; the others are concatenated";
    }
    WhenFull {
        Fail = "fail", "the driver gets an error";
        Fallback = "fallback", "what bounces for alignment is copied through memory allocated for it alone";
    }
}

/// A device that is to be taken otherwise than captured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Override {
    /// `dev_name()`, or `*` for all.
    pub name: String,
    /// `dev_is_dma_coherent()`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coherent: Option<bool>,
    /// An untrusted PCI device: behind an IOMMU everything bounces that is not made of whole granules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<bool>,
    /// A pool of its own through which everything bounces (`restricted-dma-pool`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_pool: Option<PoolSize>,
}

impl Override {
    /// Whether it is about the device of this name.
    pub fn is_about(&self, device: &str) -> bool {
        self.name == "*" || self.name == device
    }
}
