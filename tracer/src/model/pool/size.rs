//! How large a pool the kernel makes, from what was asked for at boot.
//!
//! Mirrors `setup_io_tlb_npages()`, `swiotlb_adjust_size()`, `swiotlb_adjust_nareas()` and `round_up_default_nslabs()` in
//! `kernel/dma/swiotlb.c`, 6.1 to 7.3. Memory that is too short for it at boot, so that the kernel halves the pool until it
//! fits, is left out.

use super::SEGMENT_SLOTS;

/// More slots than any pool has: 32 GiB. What asks for more, such as a damaged capture, gets this many.
pub(crate) const MAX_SLOTS: u64 = 1 << 24;
/// More CPUs than arm64 has (`NR_CPUS`).
pub(crate) const MAX_CPUS: u32 = 1 << 16;

/// The pool that `swiotlb=requested_slots`, or a default of as many, becomes on a machine with so many possible CPUs:
/// slots, and areas. Every area has a power of two of slots, and at least 128 (`IO_TLB_SEGSIZE`).
pub fn rounded_slots(requested_slots: u64, possible_cpus: u32) -> (u64, u32) {
    let areas = possible_cpus.clamp(1, MAX_CPUS).next_power_of_two();
    let segment = u64::from(SEGMENT_SLOTS);
    let requested = requested_slots.min(MAX_SLOTS).next_multiple_of(segment);
    (requested.max(segment * u64::from(areas)).next_power_of_two(), areas)
}

/// Whether `swiotlb=requested_slots` is as if it had not been given: `swiotlb_adjust_size()` can tell only a size that differs
/// from `IO_TLB_DEFAULT_SIZE` (64 MiB), so that arm64 shrinks this one as it would the default.
pub fn is_default_size(requested_slots: u64) -> bool {
    requested_slots.checked_next_multiple_of(u64::from(SEGMENT_SLOTS)) == Some((64 << 20) / super::SLOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_the_default_is_asking_for_nothing() {
        assert_eq!(
            [16384, 32640, 32641, 32768, 32769, u64::MAX].map(is_default_size),
            [false, false, true, true, false, false]
        );
    }

    #[test]
    fn whatever_is_asked_for_below_2_mib_is_2_mib_on_8_cpus() {
        for requested in [0, 1, 128, 512, 1024] {
            assert_eq!(rounded_slots(requested, 8), (1024, 8), "swiotlb={requested}");
        }
    }

    #[test]
    fn the_smallest_pool_grows_with_the_cpus() {
        assert_eq!(rounded_slots(1, 1), (128, 1));
        assert_eq!(rounded_slots(1, 2), (256, 2));
        assert_eq!(rounded_slots(1, 64), (8192, 64), "16 MiB");
    }

    #[test]
    fn a_mebibyte_per_gibibyte_of_memory_is_rounded_too() {
        // swiotlb_adjust_size(DIV_ROUND_UP(memory, 1024)) in arm64's mem_init(), 6.7 on.
        let slots = |memory_gib: u64| rounded_slots((memory_gib << 30) / 1024 / super::super::SLOT, 8).0;
        assert_eq!([1, 4, 6, 8, 12, 16].map(slots), [1024, 2048, 4096, 4096, 8192, 8192]);
    }

    #[test]
    fn possible_cpus_that_are_no_power_of_two_are_rounded_up() {
        assert_eq!(rounded_slots(0, 6), (1024, 8));
        assert_eq!(rounded_slots(1500, 6), (2048, 8));
        assert_eq!(rounded_slots(32768, 8), (32768, 8));
    }

    #[test]
    fn absurd_numbers_are_answered() {
        assert_eq!(rounded_slots(u64::MAX, 0), (MAX_SLOTS, 1));
        assert_eq!(rounded_slots(u64::MAX, u32::MAX), (MAX_SLOTS, MAX_CPUS));
    }
}
