//! Memory: what the live objects of a stream take in the slabs of a simulated kernel's kmalloc caches, and how what was seen
//! of them compares with the kernel's own count.

use std::collections::BTreeMap;

use serde::Serialize;

use super::objects::LiveObjects;
use super::outcome::Estimate;
use super::settings::Settings;
use crate::facts::{KernelFacts, SlabSample};
use crate::model::kmalloc::bytes_given;
use crate::model::slab::slab;

/// Bytes of the slabs that the live objects take under these settings, where one allocation in `sample` was recorded.
///
/// The standard error is that of a sample chosen by the objects' addresses: each object is in it or not, alone.
pub fn slab_bytes(live: &[LiveObjects], settings: &Settings, cpus: u32, sample: u64) -> Estimate {
    let sample = sample.max(1);
    let mut by_size: BTreeMap<u64, u64> = BTreeMap::new();
    let mut variance = 0.0;
    for objects in live {
        let size = bytes_given(objects.requested, settings.caches(objects.call_site).minalign, settings.page_size);
        *by_size.entry(size).or_default() += objects.count;
        variance += objects.count as f64 * (size as f64).powi(2);
    }
    let bytes =
        |(size, count): (&u64, &u64)| slab(*size, settings.page_size, cpus).bytes_for(count.saturating_mul(sample));
    let value = by_size.iter().map(bytes).fold(0, u64::saturating_add);
    Estimate { value, error: (variance * sample as f64 * (sample - 1) as f64).sqrt() as u64 }
}

/// Live objects of one size, as seen and as counted by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheRow {
    /// Bytes of an object.
    pub size: u64,
    /// Objects allocated since the recording began, and live at its end; estimated from the sample.
    pub seen: u64,
    /// Standard error of `seen`; 0 where every allocation was recorded.
    pub error: u64,
    /// Objects in use at the end more than at the beginning, by the kernel's count in all caches of that size.
    pub kernel: i64,
    /// Objects by which the kernel's count may be off: those that its CPUs keep at hand count as in use.
    pub slack: u64,
}

/// Every size that the kernel has caches of.
pub fn against_kernel(
    live: &[LiveObjects],
    samples: &(SlabSample, SlabSample),
    kernel: &KernelFacts,
    sample: u64,
) -> Vec<CacheRow> {
    let (first, last) = samples;
    let sample = sample.max(1);
    let mut rows: BTreeMap<u64, CacheRow> = BTreeMap::new();
    let used = |sample: &SlabSample, name: &str| {
        sample.caches.iter().find(|cache| cache.name == name).map_or(0, |cache| cache.active_objects as i64)
    };
    for cache in &last.caches {
        let size = u64::from(cache.size);
        let row = rows.entry(size).or_insert_with(|| CacheRow { size, seen: 0, error: 0, kernel: 0, slack: 0 });
        let grown = used(last, &cache.name) - used(first, &cache.name);
        row.kernel += grown;
        // One slab at hand on each CPU, in every cache that is in use at all.
        if cache.active_objects > 0 {
            row.slack += u64::from(cache.objects_per_slab) * u64::from(kernel.possible_cpus);
        }
    }
    for objects in live {
        if let Some(row) = rows.get_mut(&objects.given) {
            row.seen += objects.count;
        }
    }
    for row in rows.values_mut() {
        row.error = (row.seen as f64 * sample as f64 * (sample - 1) as f64).sqrt() as u64;
        row.seen = row.seen.saturating_mul(sample);
    }
    rows.into_values().filter(|row| row.seen > 0 || row.kernel != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::SlabCache;

    fn objects(requested: u64, given: u64, count: u64) -> LiveObjects {
        LiveObjects { call_site: 1, requested, given, count }
    }

    fn settings(minalign: u32) -> Settings {
        let mut settings = Settings::captured(&KernelFacts { page_size: 4096, ..KernelFacts::default() });
        settings.decider.minalign = minalign;
        settings
    }

    #[test]
    fn slabs_are_counted_whole_and_by_cache() {
        let live = [objects(18, 32, 129), objects(20, 32, 1), objects(100, 128, 1)];
        let estimate = |minalign| slab_bytes(&live, &settings(minalign), 2, 1);
        // 130 objects of 32 bytes, 128 to a page; one of 128.
        assert_eq!(estimate(8), Estimate { value: 3 * 4096, error: 0 });
        // 131 objects of 128 bytes, 32 to a page.
        assert_eq!(estimate(128), Estimate { value: 5 * 4096, error: 0 });
    }

    #[test]
    fn a_sample_has_an_error() {
        let estimate = slab_bytes(&[objects(18, 32, 100)], &settings(8), 2, 64);
        assert_eq!(estimate.value, 50 * 4096);
        assert_eq!(estimate.error, (100.0 * 1024.0 * (64.0 * 63.0_f64)).sqrt() as u64);
    }

    #[test]
    fn what_was_seen_stands_beside_the_kernels_count_of_all_caches_of_that_size() {
        let cache = |name: &str, active_objects| SlabCache {
            name: name.into(),
            size: 32,
            objects_per_slab: 128,
            pages_per_slab: 1,
            active_objects,
            ..SlabCache::default()
        };
        let sample = |a, b| SlabSample { time_ns: 0, caches: vec![cache("kmalloc-32", a), cache("kmalloc-cg-32", b)] };
        let kernel = KernelFacts { possible_cpus: 2, ..KernelFacts::default() };
        let rows = against_kernel(&[objects(18, 32, 7)], &(sample(100, 1), sample(105, 3)), &kernel, 1);
        assert_eq!(rows, [CacheRow { size: 32, seen: 7, error: 0, kernel: 7, slack: 512 }]);
    }
}
