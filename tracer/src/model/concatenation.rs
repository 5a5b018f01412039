//! Into how many DMA segments an IOMMU puts a scatterlist that stays whole.
//!
//! Mirrors `__finalise_sg()` in `drivers/iommu/dma-iommu.c`: a segment goes on where the one before it ends at a granule and
//! it begins at one. The device's segment boundary is taken not to be reached.

/// `dma_get_max_seg_size()` of most devices, bytes; a device that says more is concatenated further than predicted.
pub const MAX_SEGMENT: u64 = 65536;

/// DMA segments of a list of (offset into the granule or any larger power of two, length), bytes.
pub fn dma_segments(segments: impl Iterator<Item = (u64, u64)>, granule: u64, max_segment: u64) -> u64 {
    let granule = granule.max(1);
    // Bytes in the DMA segment that may go on, 0 for none.
    let (mut count, mut open) = (0, 0_u64);
    for (start, length) in segments {
        let offset = start % granule;
        if open > 0 && offset == 0 && open.saturating_add(length) <= max_segment {
            open += length;
        } else {
            count += 1;
            open = length;
        }
        if !offset.saturating_add(length).is_multiple_of(granule) {
            open = 0;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(segments: &[(u64, u64)]) -> u64 {
        dma_segments(segments.iter().copied(), 4096, MAX_SEGMENT)
    }

    #[test]
    fn whole_granules_are_one_segment_up_to_the_most_that_a_device_takes() {
        assert_eq!(count(&[(0, 4096); 3]), 1);
        assert_eq!(count(&[(0, 4096); 16]), 1);
        assert_eq!(count(&[(0, 4096); 17]), 2);
    }

    #[test]
    fn a_part_of_a_granule_ends_a_segment() {
        assert_eq!(count(&[(0, 4096), (0, 8), (0, 4096)]), 2);
        assert_eq!(count(&[(8, 8), (0, 4096)]), 2);
        assert_eq!(count(&[(8, 4088), (0, 4096)]), 1);
        assert_eq!(count(&[]), 0);
    }
}
