//! What `bouncescope stats --json` and `replay --json` say of a recording of objects, as far as the lab looks at it. Parsing
//! only.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

/// Caches that begin at so many bytes are those of a kernel that knows of no bouncing for alignment.
const OLD: u64 = 128;

/// A recording.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded {
    /// Where kmalloc's caches begin, bytes.
    pub(super) minalign: u64,
    /// Objects seen beside those counted by the kernel, by size.
    pub(super) caches: Vec<CacheRow>,
    /// Objects of unknown fate and size.
    pub(super) unplaced: u64,
    /// What the programs lost, by kind.
    pub(super) losses: BTreeMap<String, u64>,
    /// What the live objects would take in caches from 128, and from 8 bytes.
    pub(super) policies: Vec<Vec<CacheUse>>,
}

/// One size, as `stats` tells of it; sizes in bytes.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct CacheRow {
    pub(super) size: u64,
    pub(super) seen: u64,
    pub(super) older_freed: u64,
    pub(super) kernel: i64,
    pub(super) kernel_slab_bytes: i64,
    pub(super) bar: u64,
    pub(super) agrees: bool,
}

/// One size, as `replay` predicts it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct CacheUse {
    pub(super) size: u64,
    pub(super) objects: u64,
    pub(super) error: u64,
    pub(super) slab_bytes: u64,
}

impl Recorded {
    /// From the JSON of both.
    pub(super) fn parse(stats: &str, replay: &str) -> Result<Self> {
        let stats: Value = serde_json::from_str(stats).context("stats printed no JSON")?;
        let replay: Value = serde_json::from_str(replay).context("replay printed no JSON")?;
        let number = |pointer: &str| {
            stats.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("stats tells no {pointer}"))
        };
        let losses = stats.get("losses").and_then(Value::as_object).context("stats tells no losses")?;
        let sum = |values: &Value| values.as_array().into_iter().flatten().filter_map(Value::as_u64).sum();
        let policies = replay.get("policies").and_then(Value::as_array).context("replay tells of no policies")?;
        let caches = |policy: &Value| Vec::deserialize(&policy["caches"]).context("replay tells of no caches");
        Ok(Self {
            minalign: number("/start/kernel/kmalloc_minalign")?,
            caches: Vec::deserialize(&stats["caches"]).context("stats tells of no caches")?,
            unplaced: number("/objects_unplaced")?,
            losses: losses.iter().map(|(kind, values)| (kind.clone(), sum(values))).collect(),
            policies: policies.iter().map(caches).collect::<Result<_>>()?,
        })
    }

    /// Bytes of slabs that the live objects take at the least in the caches of this kernel.
    pub(super) fn packed_bytes(&self) -> Option<u64> {
        let policy = self.policies.get(usize::from(!self.is_old()))?;
        Some(policy.iter().map(|cache| cache.slab_bytes).sum())
    }

    /// Whether this is a kernel before small caches.
    pub(super) fn is_old(&self) -> bool {
        self.minalign >= OLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = r#"{"start":{"kernel":{"kmalloc_minalign":128}},"losses":{"ring_full":[1,2]},
        "objects_unplaced":3,"caches":[{"size":128,"seen":9,"older_freed":1,"error":0,
        "kernel":8,"slack":32,"kernel_slab_bytes":-4096,"bar":35,"agrees":true}]}"#;
    const REPLAY: &str =
        r#"{"policies":[{"caches":[{"size":128,"objects":9,"error":0,"slab_bytes":4096}]},{"caches":[]}]}"#;

    #[test]
    fn both_are_read() {
        let recorded = Recorded::parse(STATS, REPLAY).unwrap();
        assert!(recorded.is_old());
        assert_eq!(recorded.packed_bytes(), Some(4096));
        assert_eq!((recorded.unplaced, recorded.losses["ring_full"]), (3, 3));
        assert_eq!((recorded.caches[0].kernel, recorded.caches[0].kernel_slab_bytes), (8, -4096));
        assert_eq!((recorded.policies[0][0].objects, recorded.policies[1].len()), (9, 0));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Recorded::parse(&STATS.replace("objects_unplaced", "other"), REPLAY).unwrap_err();
        assert!(error.to_string().contains("objects_unplaced"), "{error}");
        assert!(Recorded::parse(STATS, "{}").is_err());
        assert!(Recorded::parse("", REPLAY).is_err());
    }
}
