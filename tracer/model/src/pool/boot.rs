//! Which pool a kernel makes of `swiotlb=`, or without it: the one answer that advice, what-ifs, sweeps, plots and screens use.
//!
//! Mirrors `setup_io_tlb_npages()`, `swiotlb_adjust_size()`, `swiotlb_adjust_nareas()`, `round_up_default_nslabs()` and
//! `limit_nareas()` in `kernel/dma/swiotlb.c` (6.1 to 7.3), called as `mem_init()` in `arch/arm64/mm/init.c` calls them, or as x86
//! does. Memory that is too short at boot, so that the kernel halves the pool until it fits, is left out.

use super::{SEGMENT_SLOTS, SLOT};

/// More slots than any pool has: 32 GiB. What asks for more, such as a damaged capture, gets this many.
pub const MAX_SLOTS: u64 = 1 << 24;
/// More CPUs than arm64 and x86 have (`NR_CPUS`).
pub const MAX_CPUS: u32 = 1 << 16;
/// `IO_TLB_DEFAULT_SIZE` without `CONFIG_SWIOTLB_DEFAULT_SIZE_MB`, slots: 64 MiB.
pub const DEFAULT_SLOTS: u64 = (64 << 20) / SLOT;

/// What the pool depends on besides the parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// `num_possible_cpus()`.
    pub possible_cpus: u32,
    /// The pool is divided into areas (6.0 on); before, its size is not rounded to a power of two.
    pub has_areas: bool,
    /// `IO_TLB_DEFAULT_SIZE`, slots: that of `CONFIG_SWIOTLB_DEFAULT_SIZE_MB` (7.3 on), else [`DEFAULT_SLOTS`].
    pub default_slots: u64,
    /// What becomes of the default size.
    pub default: ByDefault,
}

/// What a kernel makes where nothing asks for a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByDefault {
    /// A pool of the default size.
    Full,
    /// 6 % of the memory (`memblock_phys_mem_size()`, bytes), at least the default size and at most 1 GiB: x86 in a guest whose memory is
    /// encrypted (`mem_encrypt_setup_arch()`, `arch/x86/mm/mem_encrypt.c`, 6.12; `sev_setup_arch()` before).
    Enlarged(u64),
    /// 1/1024 of the memory (`memblock_phys_mem_size()`, bytes), at most the default size: arm64 since 6.7 where every device
    /// reaches all memory.
    Reduced(u64),
    /// No pool.
    None,
}

/// What the parameter asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The first number.
    pub slots: Option<u64>,
    /// The second number.
    pub areas: Option<u64>,
}

/// What a kernel makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Slots; 0 for no pool.
    pub slots: u64,
    /// Areas.
    pub areas: u32,
    /// No size was asked for, or one that the kernel cannot tell from its default: it made its default pool.
    pub is_default: bool,
}

impl Boot {
    /// The pool that the kernel makes.
    pub fn made(&self, asked: Asked) -> Made {
        let mut pool = Nslabs { slots: self.default_slots, areas: 0, has_areas: self.has_areas };
        if let Some(slots) = asked.slots {
            pool.slots = slots.min(MAX_SLOTS).next_multiple_of(SEGMENT);
        }
        if let Some(areas) = asked.areas {
            pool.adjust_areas(areas);
        }
        let is_default = pool.slots == self.default_slots;
        match self.default {
            ByDefault::Reduced(memory) if is_default => {
                let bytes = memory.div_ceil(1024).min(self.default_slots.saturating_mul(SLOT));
                pool.slots = bytes.div_ceil(SLOT).next_multiple_of(SEGMENT);
                pool.round_up();
            }
            ByDefault::Enlarged(memory) if is_default => {
                let bytes = (memory / 100).saturating_mul(6).saturating_add(memory % 100 * 6 / 100);
                let bytes =
                    bytes.clamp(self.default_slots.saturating_mul(SLOT).min(LARGEST_ENLARGED), LARGEST_ENLARGED);
                pool.slots = bytes.div_ceil(SLOT).next_multiple_of(SEGMENT);
                pool.round_up();
            }
            ByDefault::None if is_default => return Made { slots: 0, areas: 1, is_default },
            ByDefault::Full | ByDefault::Enlarged(_) | ByDefault::Reduced(_) | ByDefault::None => {}
        }
        if pool.areas == 0 {
            pool.adjust_areas(u64::from(self.possible_cpus.clamp(1, MAX_CPUS)));
        }
        let areas = if self.has_areas { pool.areas.min(pool.slots / SEGMENT).max(1) } else { 1 };
        Made { slots: pool.slots, areas: areas as u32, is_default }
    }

    /// The pool that `swiotlb=slots` makes.
    pub fn sized(&self, slots: u64) -> Made {
        self.made(Asked { slots: Some(slots), areas: None })
    }

    /// The number that makes a pool of exactly so many slots: that many, or fewer where the kernel takes that number for its default
    /// and rounds the next smaller one up. `None` where no number makes such a pool.
    pub fn parameter_for(&self, slots: u64) -> Option<u64> {
        let makes = |number: &u64| {
            let made = self.sized(*number);
            made.slots == slots && !made.is_default
        };
        [Some(slots), slots.checked_sub(SEGMENT)].into_iter().flatten().find(makes)
    }

    /// Every size that some number makes, slots, ascending up to `most`; the smallest in any case. Before 6.0, when every multiple of
    /// 128 was one, only the powers of two.
    pub fn sizes(&self, most: u64) -> impl Iterator<Item = u64> + use<> {
        let smallest = self.smallest();
        let boot = *self;
        std::iter::successors(Some(smallest), |slots| slots.checked_mul(2))
            .take_while(move |slots| *slots <= most.max(smallest))
            .filter(move |slots| boot.parameter_for(*slots).is_some())
    }

    /// The smallest pool that any number makes, slots.
    pub fn smallest(&self) -> u64 {
        self.sized(1).slots
    }
}

/// `SZ_1G`.
const LARGEST_ENLARGED: u64 = 1 << 30;
/// `IO_TLB_SEGSIZE`.
const SEGMENT: u64 = SEGMENT_SLOTS as u64;

/// `default_nslabs` and `default_nareas`.
struct Nslabs {
    slots: u64,
    areas: u64,
    has_areas: bool,
}

impl Nslabs {
    /// `swiotlb_adjust_nareas()`: at least one area, a power of two.
    fn adjust_areas(&mut self, areas: u64) {
        self.areas = areas.clamp(1, u64::from(MAX_CPUS)).next_power_of_two();
        self.round_up();
    }

    /// `round_up_default_nslabs()`: every area has a power of two of slots, and at least a segment.
    fn round_up(&mut self) {
        if self.areas > 0 && self.has_areas {
            self.slots = self.slots.max(SEGMENT * self.areas).next_power_of_two();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Boot =
        Boot { possible_cpus: 8, has_areas: true, default_slots: DEFAULT_SLOTS, default: ByDefault::Reduced(4 << 30) };

    /// What the functions of `kernel/dma/swiotlb.c` of Debian's 6.12.117 make, compiled in user space and called as `mem_init()`
    /// calls them, for every number from 0 to 65536 (128 MiB); those of 6.1.192 make the same. Each line of the table is a run of numbers
    /// that make the same pool.
    #[test]
    fn every_size_up_to_128_mib_makes_what_the_kernels_own_arithmetic_makes() {
        let mut compared = 0;
        for line in include_str!("data/boot.txt").lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |n: usize| words[n].parse::<u64>().unwrap();
            let boot = Boot {
                possible_cpus: number(0) as u32,
                has_areas: true,
                default_slots: (number(3) << 20) / SLOT,
                default: if number(2) == 1 { ByDefault::Full } else { ByDefault::Reduced(number(1) << 20) },
            };
            let areas = Some(number(4)).filter(|areas| *areas > 0);
            let asked: Vec<Option<u64>> =
                if words[5] == "-" { vec![None] } else { (number(5)..=number(6)).map(Some).collect() };
            for slots in asked {
                let made = boot.made(Asked { slots, areas });
                assert_eq!((made.slots, u64::from(made.areas)), (number(7), number(8)), "{line}: {slots:?}");
                compared += 1;
            }
        }
        assert_eq!(compared, 7 * 9 * (2 * 65537 + 1));
    }

    #[test]
    fn a_number_that_cannot_be_told_from_the_default_makes_the_default_pool() {
        for number in [32641, 32768] {
            assert_eq!(BOOT.sized(number), Made { slots: 2048, areas: 8, is_default: true }, "swiotlb={number}");
        }
        assert_eq!(BOOT.sized(32640), Made { slots: 32768, areas: 8, is_default: false });
        assert_eq!(BOOT.parameter_for(32768), Some(32640), "the next smaller one is rounded up");
        assert_eq!(BOOT.parameter_for(4096), Some(4096));
        assert_eq!([512, 1500].map(|slots| BOOT.parameter_for(slots)), [None, None], "no kernel with 8 CPUs has it");
    }

    #[test]
    fn a_smaller_default_moves_what_is_taken_for_it() {
        let boot = Boot { default_slots: 1024, possible_cpus: 2, ..BOOT };
        assert!(boot.sized(1024).is_default && !boot.sized(32768).is_default);
        assert_eq!((boot.sized(32768).slots, boot.parameter_for(1024)), (32768, Some(896)));
        assert_eq!(boot.made(Asked::default()).slots, 1024, "2 MiB, of 4 GiB");
    }

    #[test]
    fn every_size_that_is_listed_has_a_number_that_makes_it() {
        for possible_cpus in [1, 2, 6, 64, 512] {
            let boot = Boot { possible_cpus, ..BOOT };
            let sizes: Vec<u64> = boot.sizes(65536).collect();
            assert!(sizes.contains(&65536) && sizes[0] == boot.smallest(), "{sizes:?}");
            for size in sizes {
                let number = boot.parameter_for(size).unwrap();
                assert_eq!((boot.sized(number).slots, boot.sized(number).is_default), (size, false));
            }
        }
    }

    #[test]
    fn whatever_is_asked_for_below_2_mib_is_2_mib_on_8_cpus() {
        for requested in [0, 1, 128, 512, 1024] {
            assert_eq!(BOOT.sized(requested).slots, 1024, "swiotlb={requested}");
        }
    }

    #[test]
    fn a_guest_whose_memory_is_encrypted_has_six_percent_of_it() {
        let mib = |memory_mib: u64, cpus| {
            let default = ByDefault::Enlarged(memory_mib << 20);
            (Boot { default, possible_cpus: cpus, ..BOOT }.made(Asked::default()).slots * SLOT) >> 20
        };
        assert_eq!(
            [512, 1024, 2048, 4096].map(|memory| mib(memory, 2)),
            [64, 64, 128, 256],
            "rounded up to a power of two"
        );
        assert_eq!([16 << 10, 17 << 10, 1 << 20].map(|memory| mib(memory, 8)), [1024, 1024, 1024]);
        let boot = Boot { default: ByDefault::Enlarged(8 << 30), ..BOOT };
        assert_eq!(boot.sized(16384).slots, 16384, "what is asked for is kept");
        assert_eq!(boot.sized(32768).slots, 1 << 18, "512 MiB: the default was not told from it");
    }

    #[test]
    fn before_areas_a_pool_is_as_large_as_asked_for() {
        let boot = Boot { has_areas: false, ..BOOT };
        assert_eq!(boot.sized(300), Made { slots: 384, areas: 1, is_default: false });
    }

    #[test]
    fn absurd_numbers_are_answered() {
        for possible_cpus in [0, u32::MAX] {
            for default in
                [ByDefault::Full, ByDefault::Enlarged(u64::MAX), ByDefault::Reduced(u64::MAX), ByDefault::None]
            {
                let boot = Boot { possible_cpus, default, ..BOOT };
                let made = boot.made(Asked { slots: Some(u64::MAX), areas: Some(u64::MAX) });
                assert_eq!(made.slots, MAX_SLOTS);
                assert!(boot.made(Asked::default()).slots <= MAX_SLOTS);
                assert!(boot.sizes(u64::MAX).count() <= 64);
            }
        }
    }
}
