//! The decider against a second reading of the kernel: caches made one by one in a table as `create_kmalloc_caches()` and
//! `new_kmalloc_cache()` do (`mm/slab_common.c`), and looked up in it, instead of a formula.

use proptest::prelude::*;
use tracer_ebpf::decide::{BIDIRECTIONAL, Decider, FROM_DEVICE, TO_DEVICE, size_roundup};

/// `kmalloc_info[]` up to two pages of 4 KiB: each size, at its index.
const SIZES: [u64; 14] = [0, 96, 192, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];

/// `__kmalloc_index()`.
fn index(size: u64) -> usize {
    match size {
        65..=96 => 1,
        129..=192 => 2,
        _ => (3..SIZES.len()).find(|&index| size <= SIZES[index]).expect("no more than two pages"),
    }
}

/// The object size of the cache at each index.
fn caches(minalign: u64) -> [u64; SIZES.len()] {
    let mut caches = [0; SIZES.len()];
    // 96 and 192 are made just before and after 128, which makes no difference to what each index gets.
    for at in 1..SIZES.len() {
        let aligned = if minalign > 8 { SIZES[at].next_multiple_of(minalign) } else { SIZES[at] };
        let target = index(aligned);
        if caches[target] == 0 {
            caches[target] = aligned;
        }
        caches[at] = caches[target];
    }
    caches
}

fn roundup(len: u64, minalign: u64) -> u64 {
    if len == 0 { 0 } else { caches(minalign)[index(len)] }
}

fn bounces(decider: &Decider, coherent: bool, direction: u8, len: u64) -> bool {
    let unsafe_here = decider.bounce_unaligned != 0 && !coherent && [BIDIRECTIONAL, FROM_DEVICE].contains(&direction);
    let short = len < 2 * u64::from(decider.dma_minalign);
    let fills_lines = roundup(len, u64::from(decider.minalign)).is_multiple_of(u64::from(decider.cache_line_size));
    unsafe_here && short && !fills_lines
}

/// Powers of two.
fn alignments(shifts: std::ops::Range<u32>) -> impl Strategy<Value = u32> {
    shifts.prop_map(|shift| 1 << shift)
}

fn deciders() -> impl Strategy<Value = Decider> {
    (0..2_u32, alignments(3..9), alignments(3..9), prop::sample::select(vec![64, 128_u32])).prop_map(
        |(bounce_unaligned, cache_line_size, minalign, dma_minalign)| Decider {
            bounce_unaligned,
            cache_line_size,
            minalign,
            dma_minalign,
        },
    )
}

fn lengths() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, 0..8193_u64]
}

proptest! {
    #[test]
    fn size_roundup_is_the_cache_in_the_table(len in lengths(), minalign in alignments(3..9)) {
        prop_assert_eq!(size_roundup(len, minalign), roundup(len, u64::from(minalign)));
    }

    #[test]
    fn the_decider_agrees_with_the_table(
        decider in deciders(),
        coherent in any::<bool>(),
        direction in BIDIRECTIONAL..=FROM_DEVICE,
        len in lengths(),
    ) {
        let expected = bounces(&decider, coherent, direction, len);
        prop_assert_eq!(decider.needs_bounce(coherent, direction, len), expected);
    }

    #[test]
    fn what_bounces_at_a_line_size_bounces_at_a_larger_one(decider in deciders(), len in lengths()) {
        let larger = Decider { cache_line_size: 2 * decider.cache_line_size, ..decider };
        let bounces = |decider: &Decider| decider.needs_bounce(false, FROM_DEVICE, len);
        prop_assert!(!bounces(&decider) || bounces(&larger));
    }

    #[test]
    fn what_bounces_from_caches_of_a_larger_alignment_bounces_from_those_of_a_smaller(
        decider in deciders(),
        len in lengths(),
    ) {
        let looser = Decider { minalign: decider.minalign / 2, ..decider };
        let bounces = |decider: &Decider| decider.needs_bounce(false, BIDIRECTIONAL, len);
        prop_assert!(!bounces(&decider) || bounces(&looser));
    }

    #[test]
    fn nothing_bounces_from_caches_at_the_line_size(decider in deciders(), len in lengths()) {
        let aligned = Decider { minalign: decider.cache_line_size, ..decider };
        prop_assert!(!aligned.needs_bounce(false, FROM_DEVICE, len));
        prop_assert!(!decider.needs_bounce(false, TO_DEVICE, len));
    }
}
