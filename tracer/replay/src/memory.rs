//! Memory: what the live objects of a stream take in the slabs of a simulated kernel's kmalloc caches, and how what was seen
//! of them compares with the kernel's own count.

use std::collections::BTreeMap;

use serde::Serialize;

use super::estimate::Estimate;
use super::objects::{LiveObjects, OlderFrees, SinceCount};
use super::settings::Settings;
use bouncescope_capture::facts::{Counters, KernelFacts, SlabCache, SlabSample};
use bouncescope_capture::names::{Loss, Program};
use bouncescope_model::kmalloc::bytes_given;
use bouncescope_model::slab::slab;
use tracer_ebpf::counter::Other;
use tracer_ebpf::record::Kind;

/// Objects of one size that may come or go while the kernel's counts at the beginning and at the end are read.
const READING: u64 = 4;
/// Standard errors that an estimate may be off by: more are to be had by chance in one row of 16,000.
const ERRORS: u64 = 4;

/// What the live objects take in one cache of a simulated kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheUse {
    /// Bytes of an object.
    pub size: u64,
    /// Objects, estimated from the sample.
    pub objects: u64,
    /// Standard error of `objects`; 0 where every allocation was recorded.
    pub error: u64,
    /// Bytes of the slabs that they take, packed as tightly as they can be.
    pub slab_bytes: u64,
}

/// The live objects under these settings by the size of their cache, where one allocation in `sample` was recorded.
pub fn caches(live: &[LiveObjects], settings: &Settings, cpus: u32, sample: u64) -> Vec<CacheUse> {
    let sample = sample.max(1);
    let mut by_size: BTreeMap<u64, u64> = BTreeMap::new();
    for objects in live {
        let size = bytes_given(objects.requested, settings.caches(objects.call_site).minalign, settings.page_size);
        *by_size.entry(size).or_default() += objects.count;
    }
    let cache = |(size, count): (u64, u64)| CacheUse {
        size,
        objects: count.saturating_mul(sample),
        error: standard_error(count, sample),
        slab_bytes: slab(size, settings.page_size, cpus).bytes_for(count.saturating_mul(sample)),
    };
    by_size.into_iter().map(cache).collect()
}

/// Bytes of the slabs of all caches.
pub fn slab_bytes(caches: &[CacheUse], sample: u64) -> Estimate {
    let sample = sample.max(1);
    let variance = |cache: &CacheUse| cache.objects as f64 * (sample - 1) as f64 * (cache.size as f64).powi(2);
    Estimate {
        value: caches.iter().map(|cache| cache.slab_bytes).fold(0, u64::saturating_add),
        error: caches.iter().map(variance).sum::<f64>().sqrt() as u64,
    }
}

/// Of the number of objects of which `count` are in a sample of one in `sample`, chosen by the objects' addresses: each is
/// in it or not, alone.
pub(super) fn standard_error(count: u64, sample: u64) -> u64 {
    (count as f64 * sample as f64 * (sample - 1) as f64).sqrt() as u64
}

/// Objects of one size, as seen and as counted by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheRow {
    /// Bytes of an object.
    pub size: u64,
    /// Objects allocated since the recording began, and live when the kernel counted last; estimated from the sample.
    pub seen: u64,
    /// Older objects freed by then, as far as their size is known; estimated from the sample.
    pub older_freed: u64,
    /// Standard error of `seen` less `older_freed`; 0 where every allocation was recorded.
    pub error: u64,
    /// Objects in use at the end more than at the beginning, by the kernel's count in all caches of that size.
    pub kernel: i64,
    /// Objects by which the kernel's count may be off, because it counts those that its CPUs have at hand as in use.
    pub slack: u64,
    /// Bytes of the caches' slabs at the end more than at the beginning.
    pub kernel_slab_bytes: i64,
    /// What the kernel's count and what was seen may differ by: `slack`, four times `error`, what may be of any size, and two objects
    /// at each count, which takes a moment.
    pub bar: u64,
    /// Whether they differ by no more.
    pub agrees: bool,
}

/// Objects of which it is not known whether they live, and of what size they are: records that were lost, and frees of an unknown
/// size; estimated from the sample.
pub fn unplaced(older: &OlderFrees, counters: &Counters, sample: u64) -> u64 {
    let skipped = |program| counters.lost(&Loss::Missed(program));
    let refused = |kind| counters.lost(&Loss::RingFull(kind));
    // What was missed was not asked whether it is in the sample.
    let missed = skipped(Program::Kmalloc) + skipped(Program::Kfree) + counters.lost(&Loss::Counted(Other::BulkCut));
    missed + (refused(Kind::Kmalloc) + refused(Kind::Kfree) + older.size_unknown) * sample.max(1)
}

/// Every size that the kernel has caches of. `since_count` is what came and went after its last count, and `unplaced` objects may
/// be of any size.
pub fn against_kernel(
    live: &[LiveObjects],
    since_count: &BTreeMap<u64, SinceCount>,
    older: &OlderFrees,
    samples: &(SlabSample, SlabSample),
    kernel: &KernelFacts,
    sample: u64,
    unplaced: u64,
) -> Vec<CacheRow> {
    let (first, last) = samples;
    let sample = sample.max(1);
    let mut sizes: BTreeMap<u64, [Held; 2]> = BTreeMap::new();
    for (n, one) in [first, last].into_iter().enumerate() {
        for cache in &one.caches {
            sizes.entry(u64::from(cache.size)).or_default()[n].add(cache, one.shrunk, kernel);
        }
    }
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for objects in live {
        *seen.entry(objects.given).or_default() += objects.count;
    }
    let row = |(size, [first, last]): (u64, [Held; 2])| {
        let since = since_count.get(&size).copied().unwrap_or_default();
        let seen = seen.get(&size).copied().unwrap_or(0).saturating_add_signed(-since.live);
        let older_freed = older.by_size.get(&size).copied().unwrap_or(0).saturating_sub(since.older_freed);
        let kernel = last.in_use - first.in_use;
        // What is not in the sample may be there all the same: one more is taken to have been seen.
        let error = standard_error(seen + older_freed + 1, sample);
        let slack = first.at_hand.max(last.at_hand);
        let bar = READING.saturating_add(slack).saturating_add(ERRORS.saturating_mul(error)).saturating_add(unplaced);
        let (seen, older_freed) = (seen.saturating_mul(sample), older_freed.saturating_mul(sample));
        let difference = i128::from(kernel) - i128::from(seen) + i128::from(older_freed);
        CacheRow {
            size,
            seen,
            older_freed,
            error,
            kernel,
            slack,
            kernel_slab_bytes: last.slab_bytes - first.slab_bytes,
            bar,
            agrees: difference.unsigned_abs() <= u128::from(bar),
        }
    };
    sizes.into_iter().map(row).filter(|row| row.seen > 0 || row.kernel != 0).collect()
}

/// The caches of one size at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    in_use: i64,
    /// Of them those that may be free, at the most.
    at_hand: u64,
    slab_bytes: i64,
}

impl Held {
    fn add(&mut self, cache: &SlabCache, shrunk: bool, kernel: &KernelFacts) {
        self.in_use += cache.active_objects as i64;
        self.slab_bytes += (cache.slabs * u64::from(cache.pages_per_slab) * u64::from(kernel.page_size)) as i64;
        self.at_hand += at_hand(cache, shrunk, kernel.possible_cpus);
    }
}

/// Of the objects that the kernel counts as in use those that its CPUs may have at hand, free, at the most.
pub(super) fn at_hand(cache: &SlabCache, shrunk: bool, cpus: u32) -> u64 {
    let cpus = u64::from(cpus.max(1));
    let slabs = cache.cpu_slabs.unwrap_or(cpus) * u64::from(cache.objects_per_slab);
    // A CPU's main sheaf is the one that fills first; it may also have a spare one and one of objects that wait for RCU,
    // and a node ten full ones (`struct slub_percpu_sheaves`, `MAX_FULL_SHEAVES` in mm/slub.c).
    let sheaves = if shrunk { cpus } else { 3 * cpus + 10 };
    (slabs + sheaves * cache.sheaf_capacity).min(cache.active_objects)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let estimate = |minalign| slab_bytes(&caches(&live, &settings(minalign), 2, 1), 1);
        // 130 objects of 32 bytes, 128 to a page; one of 128.
        assert_eq!(estimate(8), Estimate { value: 3 * 4096, error: 0 });
        // 131 objects of 128 bytes, 32 to a page.
        assert_eq!(estimate(128), Estimate { value: 5 * 4096, error: 0 });
    }

    #[test]
    fn a_sample_has_an_error() {
        let caches = caches(&[objects(18, 32, 100)], &settings(8), 2, 64);
        assert_eq!((caches[0].objects, caches[0].error), (6400, (100.0 * 64.0 * 63.0_f64).sqrt() as u64));
        let estimate = slab_bytes(&caches, 64);
        assert_eq!(estimate.value, 50 * 4096);
        assert_eq!(estimate.error, (100.0 * 1024.0 * (64.0 * 63.0_f64)).sqrt() as u64);
    }

    fn cache(name: &str, active_objects: u64, cpu_slabs: u64) -> SlabCache {
        SlabCache {
            name: name.into(),
            size: 32,
            objects_per_slab: 128,
            pages_per_slab: 1,
            active_objects,
            slabs: active_objects.div_ceil(128),
            cpu_slabs: Some(cpu_slabs),
            ..SlabCache::default()
        }
    }

    fn row(live: u64, older: u64, samples: &(SlabSample, SlabSample), one_in: u64) -> CacheRow {
        let kernel = KernelFacts { possible_cpus: 2, page_size: 4096, ..KernelFacts::default() };
        let older = OlderFrees { by_size: [(32, older)].into(), size_unknown: 0 };
        let rows = against_kernel(&[objects(18, 32, live)], &BTreeMap::new(), &older, samples, &kernel, one_in, 0);
        assert_eq!(rows.len(), 1);
        rows.into_iter().next().unwrap()
    }

    fn sample(caches: Vec<SlabCache>) -> SlabSample {
        SlabSample { time_ns: 0, caches, shrunk: true, live_sites: None }
    }

    #[test]
    fn what_was_seen_stands_beside_the_kernels_count_of_all_caches_of_that_size() {
        let first = sample(vec![cache("kmalloc-32", 1000, 0), cache("kmalloc-cg-32", 100, 0)]);
        let last = sample(vec![cache("kmalloc-32", 1500, 1), cache("kmalloc-cg-32", 300, 0)]);
        let expected = CacheRow {
            size: 32,
            seen: 710,
            older_freed: 10,
            error: 0,
            kernel: 700,
            slack: 128,
            kernel_slab_bytes: 6 * 4096,
            bar: 132,
            agrees: true,
        };
        assert_eq!(row(710, 10, &(first, last), 1), expected);
    }

    #[test]
    fn a_difference_beyond_what_cpus_have_at_hand_is_a_disagreement() {
        let samples =
            |slabs| (sample(vec![cache("kmalloc-32", 1000, 0)]), sample(vec![cache("kmalloc-32", 1500, slabs)]));
        assert!(row(500, 0, &samples(0), 1).agrees);
        assert!(row(496, 0, &samples(0), 1).agrees);
        assert!(!row(495, 0, &samples(0), 1).agrees);
        assert!(row(368, 0, &samples(1), 1).agrees);
        assert!(!row(367, 0, &samples(1), 1).agrees);
        // 8 × 62 = 496; one standard error is sqrt(63 × 8 × 7) = 59.
        assert!(row(62, 0, &samples(0), 8).agrees);
        assert!(row(40, 0, &samples(0), 8).agrees);
        assert!(!row(30, 0, &samples(0), 8).agrees);
    }

    #[test]
    fn what_came_and_went_after_the_last_count_is_in_no_row() {
        let samples = (sample(vec![cache("kmalloc-32", 0, 0)]), sample(vec![cache("kmalloc-32", 100, 0)]));
        let since = [(32, SinceCount { live: -20, older_freed: 9 })].into();
        let older = OlderFrees { by_size: [(32, 12)].into(), size_unknown: 0 };
        let kernel = KernelFacts::default();
        let rows = against_kernel(&[objects(18, 32, 83)], &since, &older, &samples, &kernel, 1, 0);
        assert_eq!((rows[0].seen, rows[0].older_freed, rows[0].agrees), (103, 3, true));
    }

    #[test]
    fn records_that_were_lost_and_frees_of_unknown_size_may_be_of_any_size() {
        let older = OlderFrees { size_unknown: 2, ..OlderFrees::default() };
        let lost = [("missed.kfree", vec![3]), ("ring_full.kmalloc", vec![1, 1]), ("ring_full.map", vec![9])];
        let lost = lost.map(|(name, values)| (name.into(), values)).into();
        assert_eq!(unplaced(&older, &Counters { lost, ..Counters::default() }, 8), 3 + (2 + 2) * 8);
        let samples = (sample(vec![cache("kmalloc-32", 0, 0)]), sample(vec![cache("kmalloc-32", 1, 0)]));
        let rows = |unplaced| {
            against_kernel(
                &[objects(18, 32, 9)],
                &BTreeMap::new(),
                &OlderFrees::default(),
                &samples,
                &KernelFacts::default(),
                1,
                unplaced,
            )
        };
        assert_eq!((rows(3)[0].agrees, rows(4)[0].agrees), (false, true));
    }

    #[test]
    fn sheaves_are_at_hand_like_slabs_and_less_so_after_a_shrink() {
        let with = |shrunk| {
            let one = SlabCache { sheaf_capacity: 10, ..cache("kmalloc-32", 1000, 0) };
            SlabSample { shrunk, ..sample(vec![one]) }
        };
        assert_eq!(row(1, 0, &(with(true), with(true)), 1).slack, 20);
        assert_eq!(row(1, 0, &(with(false), with(true)), 1).slack, 160);
    }
}
