//! Slabs: how many pages the objects of a cache take.
//!
//! Mirrors `calculate_order()` in `mm/slub.c` (6.8 to 7.3; before, it differs for sizes that leave much of a slab over).

/// `PAGE_ALLOC_COSTLY_ORDER`: larger slabs are made only for objects that need them.
const MAX_ORDER: u32 = 3;

/// No object and no page is larger, bytes: more is taken as this.
const MAX_OBJECT: u64 = 1 << 48;
const MAX_PAGE: u64 = 1 << 20;

/// A slab of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slab {
    /// Objects in it.
    pub objects: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// The slabs of a cache of objects of `size` bytes, on a machine with so many CPUs; one object of whole pages beyond the largest
/// cache.
pub fn slab(size: u64, page_size: u64, cpus: u32) -> Slab {
    let (size, page_size) = (size.clamp(1, MAX_OBJECT), page_size.clamp(1, MAX_PAGE));
    let slab_bytes = |order: u32| page_size << order;
    let min_objects = u64::from(4 * (32 - cpus.max(1).leading_zeros() + 1));
    let min_objects = min_objects.min((slab_bytes(MAX_ORDER) / size).max(1));
    let order_of = |bytes: u64| bytes.div_ceil(page_size).next_power_of_two().ilog2();
    let from = order_of(min_objects.saturating_mul(size));
    let order = [16, 8, 4, 2].into_iter().find_map(|fraction| {
        (from..=MAX_ORDER).find(|order| slab_bytes(*order) % size <= slab_bytes(*order) / fraction)
    });
    let bytes = slab_bytes(order.unwrap_or_else(|| order_of(size)).min(32));
    Slab { objects: (bytes / size).max(1), bytes }
}

impl Slab {
    /// Bytes of the slabs that so many objects take, if they are packed as tightly as they can be.
    pub fn bytes_for(&self, objects: u64) -> u64 {
        objects.div_ceil(self.objects).saturating_mul(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_those_of_slabinfo_on_two_cpus() {
        // objperslab and pagesperslab of /proc/slabinfo, Linux 6.12 on arm64 with 2 CPUs.
        for (size, objects, pages) in [
            (8, 512, 1),
            (32, 128, 1),
            (64, 64, 1),
            (96, 42, 1),
            (128, 32, 1),
            (192, 21, 1),
            (256, 16, 1),
            (512, 16, 2),
        ] {
            let slab = slab(size, 4096, 2);
            assert_eq!((slab.objects, slab.bytes / 4096), (objects, pages), "{size}");
        }
    }

    #[test]
    fn objects_take_whole_slabs() {
        let slab = slab(96, 4096, 2);
        assert_eq!([0, 1, 42, 43].map(|objects| slab.bytes_for(objects)), [0, 4096, 4096, 8192]);
    }

    #[test]
    fn absurd_numbers_are_answered() {
        assert_eq!(slab(0, 0, 0).objects, 8);
        for (size, page_size) in [(u64::MAX, 1), (1 << 63, 1), (u64::MAX, 4096), (1, u64::MAX), (u64::MAX, u64::MAX)] {
            assert!(slab(size, page_size, u32::MAX).objects >= 1, "{size} {page_size}");
        }
        assert!(slab(1 << 30, 4096, 8).bytes >= 1 << 30);
    }
}
