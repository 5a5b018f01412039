//! How full the kmalloc caches are: `/proc/slabinfo` at a moment. Which caches there are is in [`super::slab`].
//!
//! The kernel's count is coarse: `get_slabinfo()` in `mm/slub.c` takes from all objects those that are free in the slabs of
//! the nodes' partial lists. What CPUs have at hand, free or not, counts as in use: slabs of their own and lists of partial
//! ones (5.10 to 6.19), or sheaves of objects (7.0 on). Shrinking a cache takes all of it from them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use super::root::Root;
use bouncescope_capture::facts::{SlabCache, SlabSample, kmalloc_size};

const SLABINFO: &str = "proc/slabinfo";
const SYSFS: &str = "sys/kernel/slab";
/// Users of `kmem_buckets_create()` (6.11 on): caches of the same sizes as kmalloc's, whose objects are kmalloc's too.
const BUCKETS: [&str; 2] = ["memdup_user-", "msg_msg-"];

/// What is written to shrink a cache. Only its first byte counts (`shrink_store()` in `mm/slub.c`). The kernel copies all of it into an object
/// of one byte more (`kernfs_fop_write_iter()` in `fs/kernfs/file.c`): a short text would give a CPU a slab of `kmalloc-8` again, of which all
/// 512 objects would count as in use.
const SHRINK: [u8; 4095] = [b'1'; 4095];

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

/// The files that tell how full the caches are. They stay open: to open one takes objects of kmalloc, which the kernel frees later
/// and without an event (`kernfs_unlink_open_file()` in `fs/kernfs/file.c`).
#[derive(Debug)]
pub struct SlabFill {
    root: Root,
    caches: BTreeMap<String, Files>,
}

/// Of one cache.
#[derive(Debug)]
struct Files {
    cpu_slabs: Option<File>,
    shrink: Option<File>,
    /// Never changes.
    sheaf_capacity: u64,
}

impl SlabFill {
    /// Opens what there is; with `shrink`, those too through which caches are shrunk, which only root may: the error names
    /// the file.
    pub fn open(root: &Root, shrink: bool) -> io::Result<Self> {
        let mut caches = BTreeMap::new();
        for name in root.names(SYSFS).filter(|name| is_kmalloc(name)) {
            let path = |file: &str| root.path(format!("{SYSFS}/{name}/{file}"));
            let writable = |path: PathBuf| {
                let file = OpenOptions::new().write(true).open(&path);
                file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
            };
            let files = Files {
                // Read once: the kernel keeps a page for what is read, which is not to be counted as new.
                cpu_slabs: File::open(path("cpu_slabs")).ok().filter(|file| number(file).is_some()),
                shrink: shrink.then(|| writable(path("shrink"))).transpose()?,
                sheaf_capacity: root.number(&format!("{SYSFS}/{name}/sheaf_capacity")).unwrap_or(0),
            };
            caches.insert(name, files);
        }
        if shrink && caches.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("/{SYSFS} names no cache of kmalloc")));
        }
        Ok(Self { root: root.clone(), caches })
    }

    /// Takes from the CPUs what they have at hand of every cache of kmalloc, and gives empty slabs back
    /// (`kmem_cache_shrink()`). Whether all could be shrunk; never without the files for it.
    pub fn shrink(&self) -> bool {
        let shrink = |files: &Files| files.shrink.as_ref().is_some_and(|mut file| file.write_all(&SHRINK).is_ok());
        self.caches.values().fold(!self.caches.is_empty(), |all, files| shrink(files) && all)
    }

    /// The caches of kmalloc now; `time_ns` is the caller's `CLOCK_MONOTONIC`, `shrunk` whether [`Self::shrink`] came right
    /// before.
    pub fn sample(&self, time_ns: u64, shrunk: bool) -> Result<SlabSample, SlabError> {
        let mut caches = parse(&self.root.text(SLABINFO)?);
        if caches.is_empty() {
            return Err(SlabError::NoCache);
        }
        for cache in &mut caches {
            if let Some(files) = self.caches.get(&cache.name) {
                cache.cpu_slabs = files.cpu_slabs.as_ref().and_then(number);
                cache.sheaf_capacity = files.sheaf_capacity;
            }
        }
        Ok(SlabSample { time_ns, caches, shrunk, live_sites: None })
    }
}

/// The number that a file begins with.
fn number(mut file: &File) -> Option<u64> {
    let mut bytes = [0; 20];
    file.rewind().ok()?;
    let length = file.read(&mut bytes).ok()?;
    std::str::from_utf8(&bytes[..length]).ok()?.split_whitespace().next()?.parse().ok()
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
    Some(SlabCache {
        name,
        size,
        objects_per_slab,
        pages_per_slab,
        active_objects,
        objects,
        slabs,
        ..SlabCache::default()
    })
}

/// Whether this is a cache of kmalloc, of whatever type: `kmalloc-`, `dma-kmalloc-`, then perhaps the type (`cg`, `rcl`,
/// `rnd-07`, `part-07`), then the size; or one of the [`BUCKETS`].
fn is_kmalloc(name: &str) -> bool {
    let rest = name.strip_prefix("dma-").unwrap_or(name).strip_prefix("kmalloc-");
    let rest = rest.or_else(|| BUCKETS.iter().find_map(|prefix| name.strip_prefix(prefix)));
    rest.is_some_and(|rest| rest.rsplit('-').next().and_then(kmalloc_size).is_some())
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

    fn sample(root: &SampleRoot, time_ns: u64, shrunk: bool) -> Result<SlabSample, SlabError> {
        SlabFill::open(&root.root(), false).unwrap().sample(time_ns, shrunk)
    }

    #[test]
    fn caches_of_every_type_are_sampled_and_others_are_not() {
        let root = SampleRoot::new(&[
            ("proc/slabinfo", SLABINFO_6_18),
            ("sys/kernel/slab/kmalloc-32/cpu_slabs", "9 N0=9\n"),
            ("sys/kernel/slab/kmalloc-32/sheaf_capacity", "60\n"),
        ]);
        let sample = sample(&root, 5, true).unwrap();
        let names: Vec<_> = sample.caches.iter().map(|cache| cache.name.as_str()).collect();
        assert_eq!(
            names,
            ["memdup_user-16", "kmalloc-cg-8k", "dma-kmalloc-192", "kmalloc-rcl-96", "kmalloc-rnd-07-64", "kmalloc-32"]
        );
        let expected = SlabCache {
            name: "kmalloc-32".into(),
            size: 32,
            objects_per_slab: 128,
            pages_per_slab: 1,
            active_objects: 2270,
            objects: 3712,
            slabs: 29,
            cpu_slabs: Some(9),
            sheaf_capacity: 60,
        };
        assert_eq!((sample.time_ns, sample.shrunk, sample.caches.last()), (5, true, Some(&expected)));
        assert_eq!((sample.caches[0].cpu_slabs, sample.caches[0].sheaf_capacity), (None, 0));
    }

    #[test]
    fn only_the_caches_of_kmalloc_are_shrunk() {
        let files = ["kmalloc-64", "dma-kmalloc-8", "dentry"].map(|name| format!("sys/kernel/slab/{name}/shrink"));
        let root = SampleRoot::new(&files.each_ref().map(|file| (file.as_str(), "0")));
        assert!(SlabFill::open(&root.root(), true).unwrap().shrink());
        let written = files.each_ref().map(|file| root.root().text(file).unwrap());
        // With the byte that the kernel adds, an object of `kmalloc-4k`.
        assert_eq!(written.each_ref().map(|text| (&text[..1], text.len())), [("1", 4095), ("1", 4095), ("0", 1)]);
        assert!(!SlabFill::open(&root.root(), false).unwrap().shrink());
        let none = SlabFill::open(&SampleRoot::new(&[]).root(), true).unwrap_err();
        assert!(none.to_string().contains("/sys/kernel/slab"), "{none}");
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
        let missing = sample(&SampleRoot::new(&[]), 0, false).unwrap_err();
        assert!(missing.to_string().contains("needs root"), "{missing}");
        let none = SampleRoot::new(&[("proc/slabinfo", "slabinfo - version: 2.1\n")]);
        assert!(matches!(sample(&none, 0, false), Err(SlabError::NoCache)));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "((dma-)?kmalloc-[a-z0-9-]{0,8}|[a-z:]{0,6}|[0-9 ]{0,12}| : |slabdata|\n){0,40}") {
            parse(&text);
        }
    }
}
