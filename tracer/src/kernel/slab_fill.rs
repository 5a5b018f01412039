//! How full the kmalloc caches are: `/proc/slabinfo` at a moment. Which caches there are is in [`super::slab`].

use std::io;

use super::root::Root;
use super::slab::bucket;
use crate::facts::{SlabCache, SlabSample};

const SLABINFO: &str = "proc/slabinfo";

/// Why the caches cannot be sampled.
#[derive(Debug, thiserror::Error)]
pub enum SlabError {
    /// No such file, or no right to read it.
    #[error("/proc/slabinfo is not readable (it needs root or CAP_DAC_READ_SEARCH, and CONFIG_SLUB_DEBUG): {0}")]
    Unreadable(#[from] io::Error),
    /// Of another format than version 2.
    #[error("/proc/slabinfo names no cache of kmalloc")]
    NoCache,
}

/// The caches of kmalloc now; `time_ns` is the caller's `CLOCK_MONOTONIC`.
pub fn sample(root: &Root, time_ns: u64) -> Result<SlabSample, SlabError> {
    let caches = parse(&root.text(SLABINFO)?);
    if caches.is_empty() { Err(SlabError::NoCache) } else { Ok(SlabSample { time_ns, caches }) }
}

/// The caches of kmalloc in the text of slabinfo; lines that are no such cache, or damaged, are passed over.
fn parse(text: &str) -> Vec<SlabCache> {
    text.lines().filter_map(line).collect()
}

/// `name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata active_slabs num_slabs …`, as
/// `cache_show()` in `mm/slab_common.c` prints it.
fn line(line: &str) -> Option<SlabCache> {
    let (cache, rest) = line.split_once(':')?;
    let mut words = cache.split_whitespace();
    let name = words.next().filter(|name| is_kmalloc(name))?.to_owned();
    let mut number = || words.next()?.parse::<u64>().ok();
    let (active_objects, objects) = (number()?, number()?);
    let mut small = || u32::try_from(number()?).ok();
    let (size, objects_per_slab, pages_per_slab) = (small()?, small()?, small()?);
    let (_, slabs) = rest.split_once(": slabdata")?;
    let slabs = slabs.split_whitespace().nth(1)?.parse().ok()?;
    Some(SlabCache { name, size, objects_per_slab, pages_per_slab, active_objects, objects, slabs })
}

/// Whether this is a cache of kmalloc, of whatever type: `kmalloc-`, `dma-kmalloc-`, then perhaps the type (`cg`, `rcl`,
/// `rnd-07`, `part-07`), then the size. `kmem_buckets_create()` makes caches of the same sizes and other names.
fn is_kmalloc(name: &str) -> bool {
    let rest = name.strip_prefix("dma-").unwrap_or(name).strip_prefix("kmalloc-");
    rest.is_some_and(|rest| rest.rsplit('-').next().and_then(bucket).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::root::sample::SampleRoot;
    use super::*;

    /// Lines of Linux 6.18 on x86-64.
    const SLABINFO_6_18: &str = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> \
<sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
btrfs_delayed_node      0      0    312   13    1 : tunables    0    0    0 : slabdata      0      0      0
kmalloc_buckets       36     36    112   36    1 : tunables    0    0    0 : slabdata      1      1      0
memdup_user-16        36     36     16  256    1 : tunables    0    0    0 : slabdata      1      1      0
kmalloc-cg-8k         16     16   8192    4    8 : tunables    0    0    0 : slabdata      4      4      0
dma-kmalloc-192        0      0    192   21    1 : tunables    0    0    0 : slabdata      0      0      0
kmalloc-rcl-96     53130  53130     96   42    1 : tunables    0    0    0 : slabdata   1265   1265      0
kmalloc-rnd-07-64      8     64     64   64    1 : tunables    0    0    0 : slabdata      1      1      0
kmalloc-32          2270   3712     32  128    1 : tunables    0    0    0 : slabdata     29     29      0
";

    #[test]
    fn caches_of_every_type_are_sampled_and_others_are_not() {
        let root = SampleRoot::new(&[("proc/slabinfo", SLABINFO_6_18)]);
        let sample = sample(&root.root(), 5).unwrap();
        let names: Vec<_> = sample.caches.iter().map(|cache| cache.name.as_str()).collect();
        assert_eq!(names, ["kmalloc-cg-8k", "dma-kmalloc-192", "kmalloc-rcl-96", "kmalloc-rnd-07-64", "kmalloc-32"]);
        let expected = SlabCache {
            name: "kmalloc-32".into(),
            size: 32,
            objects_per_slab: 128,
            pages_per_slab: 1,
            active_objects: 2270,
            objects: 3712,
            slabs: 29,
        };
        assert_eq!((sample.time_ns, sample.caches.last()), (5, Some(&expected)));
    }

    #[test]
    fn damaged_lines_are_passed_over() {
        let good = "kmalloc-8 1 2 8 512 1 : tunables 0 0 0 : slabdata 3 4 0\n";
        for bad in [
            "kmalloc-16 1 2 16 256 1 : tunables 0 0 0 : slabdata 3",
            "kmalloc-16 1 2 16 256 1 : tunables 0 0 0",
            "kmalloc-16 1 many 16 256 1 : tunables 0 0 0 : slabdata 3 4 0",
            "kmalloc-16 1 2 4294967296 256 1 : tunables 0 0 0 : slabdata 3 4 0",
            "kmalloc-16",
        ] {
            let caches = parse(&format!("{bad}\n{good}"));
            assert_eq!(caches.iter().map(|cache| (cache.size, cache.slabs)).collect::<Vec<_>>(), [(8, 4)], "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_sampled_says_why() {
        let missing = sample(&SampleRoot::new(&[]).root(), 0).unwrap_err();
        assert!(missing.to_string().contains("needs root"), "{missing}");
        let none = SampleRoot::new(&[("proc/slabinfo", "slabinfo - version: 2.1\n")]);
        assert!(matches!(sample(&none.root(), 0), Err(SlabError::NoCache)));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "((dma-)?kmalloc-[a-z0-9-]{0,8}|[a-z:]{0,6}|[0-9 ]{0,12}| : |slabdata|\n){0,40}") {
            parse(&text);
        }
    }
}
