//! Into how many DMA segments an IOMMU puts a scatterlist that stays whole.
//!
//! Mirrors how `iommu_dma_map_sg()` in `drivers/iommu/dma-iommu.c` lays a list out in one range of addresses, and how its
//! `__finalise_sg()` puts neighbours together.

/// What a driver sets for its device's DMA segments (`struct device_dma_parameters`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLimits {
    /// `dma_get_max_seg_size()`, bytes.
    pub max_size: u32,
    /// `dma_get_seg_boundary()`, a power of two less one: no segment crosses a multiple of that power.
    pub boundary_mask: u64,
}

impl Default for SegmentLimits {
    /// Where the driver sets none (`include/linux/dma-mapping.h`): 64 KiB, no boundary.
    fn default() -> Self {
        Self { max_size: 65536, boundary_mask: u64::MAX }
    }
}

/// DMA segments of a list of (offset into the granule or any larger power of two, length), bytes.
pub fn dma_segments(segments: impl Iterator<Item = (u64, u64)>, granule: u64, limits: SegmentLimits) -> u64 {
    dma_segments_around(segments.map(|(start, length)| (start, length, false)), granule, limits)
}

/// The same of a list with segments, those with `true`, that are mapped by themselves. Each is a DMA segment of its own, has no place in
/// the range of the others, and ends the DMA segment before it: what `iommu_dma_map_sg()` does with addresses of a PCI bus
/// (`PCI_P2PDMA_MAP_BUS_ADDR`). No kernel does this with buffers that bounce.
pub fn dma_segments_around(
    segments: impl Iterator<Item = (u64, u64, bool)>,
    granule: u64,
    limits: SegmentLimits,
) -> u64 {
    let SegmentLimits { max_size, boundary_mask: mask } = limits;
    let granule = granule.max(1);
    // Where the next segment begins in the range; bytes of the DMA segment that may go on, 0 for none.
    let (mut count, mut iova, mut open) = (0, 0_u64, 0_u64);
    for (start, length, is_apart) in segments {
        if is_apart {
            count += 1;
            open = 0;
            continue;
        }
        let offset = start % granule;
        let end = offset.saturating_add(length);
        let space = end.checked_next_multiple_of(granule).unwrap_or(u64::MAX);
        let to_boundary = mask.wrapping_sub(iova).wrapping_add(1) & mask;
        if to_boundary != 0 && to_boundary < space.saturating_sub(1) {
            iova = iova.saturating_add(to_boundary);
            open = 0;
        }
        // The kernel's difference of unsigned numbers, which has room for anything once a segment alone is too long.
        let fits = u64::from(max_size.wrapping_sub(open as u32)) >= length;
        if open > 0 && offset == 0 && iova & mask != 0 && fits {
            open = open.saturating_add(length);
        } else {
            count += 1;
            open = length;
        }
        if end < space {
            open = 0;
        }
        iova = iova.saturating_add(space);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(segments: &[(u64, u64)]) -> u64 {
        dma_segments(segments.iter().copied(), 4096, SegmentLimits::default())
    }

    #[test]
    fn whole_granules_are_one_segment_up_to_the_most_that_a_device_takes() {
        assert_eq!(count(&[(0, 4096); 3]), 1);
        assert_eq!(count(&[(0, 4096); 16]), 1);
        assert_eq!(count(&[(0, 4096); 17]), 2);
        let video = SegmentLimits { max_size: u32::MAX, ..SegmentLimits::default() };
        assert_eq!(dma_segments([(0, 4096); 1024].into_iter(), 4096, video), 1);
    }

    #[test]
    fn a_part_of_a_granule_ends_a_segment() {
        assert_eq!(count(&[(0, 4096), (0, 8), (0, 4096)]), 2);
        assert_eq!(count(&[(8, 8), (0, 4096)]), 2);
        assert_eq!(count(&[(8, 4088), (0, 4096)]), 1);
        assert_eq!(count(&[]), 0);
    }

    #[test]
    fn no_segment_crosses_the_boundary() {
        let limits = SegmentLimits { max_size: u32::MAX, boundary_mask: 0xffff };
        let segments = |list: &[(u64, u64)]| dma_segments(list.iter().copied(), 4096, limits);
        assert_eq!(segments(&[(0, 4096); 16]), 1);
        assert_eq!(segments(&[(0, 4096); 17]), 2);
        // The second does not fit before the boundary: it is moved there, and the gap ends the first.
        assert_eq!(segments(&[(0, 0xf000), (0, 0x2000)]), 2);
        // What reaches the boundary exactly stays where it is.
        assert_eq!(segments(&[(0, 0xf000), (0, 0x1000)]), 1);
    }

    #[test]
    fn what_is_mapped_by_itself_is_one_and_parts_its_neighbours() {
        let count =
            |list: &[(u64, u64, bool)]| dma_segments_around(list.iter().copied(), 4096, SegmentLimits::default());
        let (page, small) = ((0, 4096, false), (0, 8, true));
        assert_eq!(count(&[page, page, small]), 2);
        assert_eq!(count(&[page, small, page, page]), 3);
        assert_eq!(count(&[small, page, page]), 2);
        assert_eq!(count(&[small, small]), 2);
    }

    #[test]
    fn behind_a_segment_longer_than_the_limit_the_kernel_has_room_for_anything() {
        assert_eq!(count(&[(0, 131_072), (0, 4096)]), 1);
    }
}
