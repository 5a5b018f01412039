//! Which kmalloc caches this kernel made: the smallest shows the minimum alignment they were made with. How full they
//! are is in [`super::slab_fill`].

use std::collections::BTreeSet;

use super::root::Root;
use bouncescope_capture::facts::kmalloc_size;

/// Object sizes of the kmalloc caches, bytes, and where they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmallocCaches {
    /// Sizes.
    pub sizes: BTreeSet<u32>,
    /// For people.
    pub source: &'static str,
}

impl KmallocCaches {
    /// From `/sys/kernel/slab`, or, without it, from `/proc/slabinfo` (root only). `None` when neither names one.
    pub fn read(root: &Root) -> Option<Self> {
        let sizes: BTreeSet<u32> = root.names("sys/kernel/slab").filter_map(|name| size_of(&name)).collect();
        if !sizes.is_empty() {
            return Some(Self { sizes, source: "the caches in /sys/kernel/slab" });
        }
        let sizes = sizes_in_slabinfo(&root.text("proc/slabinfo").ok()?);
        (!sizes.is_empty()).then_some(Self { sizes, source: "the caches in /proc/slabinfo" })
    }

    /// The minimum alignment of kmalloc, bytes: the smallest cache.
    ///
    /// `new_kmalloc_cache()` in `mm/slab_common.c` gives a bucket no cache of its own when its size is not a multiple of
    /// the minimum alignment, so that the smallest cache left has exactly that size.
    pub fn minalign(&self) -> Option<u32> {
        self.sizes.first().copied()
    }
}

fn sizes_in_slabinfo(text: &str) -> BTreeSet<u32> {
    text.lines().filter_map(|line| size_of(line.split_whitespace().next()?)).collect()
}

/// The size of a normal kmalloc cache by its name, such as `kmalloc-96` or `kmalloc-4k`; `None` for other caches, and
/// for the copies by type (`kmalloc-cg-…`, `kmalloc-rnd-…`, `dma-kmalloc-…`), which add no size.
fn size_of(name: &str) -> Option<u32> {
    kmalloc_size(name.strip_prefix("kmalloc-")?)
}

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;

    const SLABINFO: &str = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount>
kmalloc-rnd-01-8     512    512      8  512    1 : tunables    0    0    0 : slabdata      1      1      0
dma-kmalloc-16         0      0     16  256    1 : tunables    0    0    0 : slabdata      0      0      0
kmalloc-8k            32     32   8192    4    8 : tunables    0    0    0 : slabdata      8      8      0
kmalloc-192          420    420    192   21    1 : tunables    0    0    0 : slabdata     20     20      0
kmalloc-64          1280   1280     64   64    1 : tunables    0    0    0 : slabdata     20     20      0
";

    #[test]
    fn the_smallest_normal_cache_is_the_minimum_alignment() {
        let sample = SampleRoot::new(&[("proc/slabinfo", SLABINFO)]);
        let caches = KmallocCaches::read(&sample.root()).unwrap();
        assert_eq!(caches.sizes.iter().copied().collect::<Vec<_>>(), [64, 192, 8192]);
        assert_eq!(caches.minalign(), Some(64));
    }

    #[test]
    fn sysfs_comes_before_slabinfo() {
        let sample = SampleRoot::new(&[
            ("proc/slabinfo", SLABINFO),
            ("sys/kernel/slab/kmalloc-8/object_size", "8"),
            ("sys/kernel/slab/:0000032/object_size", "32"),
            ("sys/kernel/slab/kmalloc-cg-4/object_size", "4"),
        ]);
        assert_eq!(KmallocCaches::read(&sample.root()).unwrap().minalign(), Some(8));
    }

    #[test]
    fn no_cache_names_mean_that_nothing_is_known() {
        assert_eq!(KmallocCaches::read(&SampleRoot::new(&[]).root()), None);
        assert_eq!(KmallocCaches::read(&SampleRoot::new(&[("proc/slabinfo", "dentry 1 1 192")]).root()), None);
    }
}
