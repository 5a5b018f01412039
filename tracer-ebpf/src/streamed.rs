//! Which mappings the programs send one by one. The others are counted, by device and length.
//!
//! One rule for both sides: the programs filter by it, and user space tells by it what a capture can answer.

use crate::decide::TO_DEVICE;

/// Buffers of this length, bytes, and longer never bounce for their length: twice `ARCH_DMA_MINALIGN` of arm64
/// (`dma_kmalloc_size_aligned()`, `include/linux/dma-map-ops.h`, with `arch/arm64/include/asm/cache.h`).
pub const SMALL_BELOW: u64 = 256;

/// Which mappings are sent one by one. Besides them always those that failed, and all of a device whose pool bounces
/// everything or that was seen to bounce for another reason than its buffers' length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Streamed {
    /// Every one.
    #[default]
    All = 0,
    /// What a non-coherent device writes: all that any rule for small buffers looks at.
    Written = 1,
    /// Of these the ones with a buffer below [`SMALL_BELOW`]: all that the kernel's rule bounces, with any line size.
    Small = 2,
}

impl Streamed {
    /// Every choice, the widest first.
    pub const ALL: [Self; 3] = [Self::All, Self::Written, Self::Small];

    /// Its name in captures and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Written => "written",
            Self::Small => "small",
        }
    }

    /// Whether it sends all that the other one does.
    pub const fn includes(self, other: Self) -> bool {
        self as u32 <= other as u32
    }

    /// From the programs' configuration.
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Written,
            2 => Self::Small,
            _ => Self::All,
        }
    }

    /// Whether a buffer of `len` bytes is sent, of a device that bounces for nothing else.
    #[inline(always)]
    pub const fn covers(self, coherent: bool, direction: u64, len: u64) -> bool {
        match self {
            Self::All => true,
            Self::Written => !coherent && direction != TO_DEVICE as u64,
            Self::Small => !coherent && direction != TO_DEVICE as u64 && len < SMALL_BELOW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{BIDIRECTIONAL, Decider, FROM_DEVICE};

    #[test]
    fn what_is_small_covers_all_that_the_decider_bounces() {
        for cache_line_size in [16, 32, 64, 128, 256, 512, 2048] {
            let decider = Decider { bounce_unaligned: 1, cache_line_size, minalign: 8, dma_minalign: 128 };
            for len in 0..1024 {
                for (coherent, direction) in
                    [(false, FROM_DEVICE), (false, BIDIRECTIONAL), (false, TO_DEVICE), (true, FROM_DEVICE)]
                {
                    let covered = Streamed::Small.covers(coherent, u64::from(direction), len);
                    assert!(
                        covered || !decider.needs_bounce(coherent, direction, len),
                        "{len} B, line {cache_line_size}"
                    );
                }
            }
        }
    }

    #[test]
    fn each_choice_leaves_out_more_than_the_one_before() {
        let covered = |streamed: Streamed| {
            let cases =
                [(true, FROM_DEVICE, 8), (false, TO_DEVICE, 8), (false, FROM_DEVICE, 256), (false, FROM_DEVICE, 8)];
            cases.map(|(coherent, direction, len)| streamed.covers(coherent, u64::from(direction), len))
        };
        assert_eq!(covered(Streamed::All), [true; 4]);
        assert_eq!(covered(Streamed::Written), [false, false, true, true]);
        assert_eq!(covered(Streamed::Small), [false, false, false, true]);
        assert!(Streamed::Written.includes(Streamed::Small) && !Streamed::Written.includes(Streamed::All));
        assert_eq!([0, 1, 2].map(Streamed::from_raw), [Streamed::All, Streamed::Written, Streamed::Small]);
    }
}
