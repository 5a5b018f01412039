//! Buffers linked into a range of DMA addresses behind an IOMMU, of which only the ends bounce: `dma_iova_link()`.
//!
//! Mirrors `dma_iova_link()` and `iommu_dma_iova_link_swiotlb()` (`drivers/iommu/dma-iommu.c`, 7.3; from 6.16 on).

use super::buffer::Buffer;
use super::mapping::{DeviceTraits, Fate, Machine, not_coherent, single};
use super::pool::Refused;
use tracer_ebpf::attrs::MMIO;

/// The most pieces of a buffer: the rest of the granule that it begins in, whole granules, and the beginning of the one that it ends in.
const MOST: usize = 3;

/// A buffer as the kernel links it where it has to bounce: the head up to the end of its granule, the whole granules, and the tail. Where it does
/// not, they are linked together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    pieces: [(u64, u64); MOST],
    count: usize,
}

impl Pieces {
    /// Of a buffer of `size` bytes at `phys`, behind an IOMMU with this granule, bytes; one piece without an IOMMU. There is always one, if
    /// an empty one.
    pub fn new(phys: u64, size: u64, granule: Option<u64>) -> Self {
        let mut pieces = Self::default();
        let mask = granule.unwrap_or(1).saturating_sub(1);
        let head = if phys & mask == 0 { 0 } else { size.min(mask + 1 - (phys & mask)) };
        pieces.push(phys, head);
        let rest = size - head;
        let tail = rest & mask;
        pieces.push(phys.wrapping_add(head), rest - tail);
        pieces.push(phys.wrapping_add(size - tail), tail);
        pieces.count = pieces.count.max(1);
        pieces
    }

    fn push(&mut self, phys: u64, size: u64) {
        if size > 0 {
            self.pieces[self.count] = (phys, size);
            self.count += 1;
        } else if self.count == 0 {
            self.pieces[0] = (phys, 0);
        }
    }

    /// Physical address and length of each, bytes, in the order of the buffer.
    pub fn as_slice(&self) -> &[(u64, u64)] {
        &self.pieces[..self.count]
    }
}

/// What becomes of one of the [`Pieces`] of a buffer that is linked. Whether anything bounces depends on the length of the `whole`; the whole
/// granules never do.
pub fn piece(machine: &Machine, device: &DeviceTraits, whole: &Buffer, piece: &Buffer) -> Fate {
    let Some(granule) = device.iommu_granule else { return single(machine, device, whole) };
    if let Some(refused) = not_coherent(device, whole) {
        return refused;
    }
    // Single buffers of MMIO stay; those that are linked are refused where memory would bounce.
    let as_memory = Buffer { attrs: whole.attrs & !MMIO, ..*whole };
    match single(machine, device, &as_memory) {
        Fate::Bounce { reason, .. } | Fate::Refused { reason, .. } if whole.attrs & MMIO != 0 => {
            Fate::Refused { reason, why: Refused::Forbidden }
        }
        // The kernel does not ask for the pool before it comes to a piece that bounces.
        Fate::Bounce { .. } | Fate::Refused { why: Refused::NoPool, .. } if is_whole_granules(piece, granule) => {
            Fate::Direct
        }
        fate => fate,
    }
}

/// Nothing of it shares a granule with what is not its own.
pub fn is_whole_granules(piece: &Buffer, granule: u64) -> bool {
    (piece.phys | piece.size) & granule.saturating_sub(1) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Reason;
    use crate::policy::Lists;
    use crate::rule::ResolvedRule;
    use tracer_ebpf::attrs::REQUIRE_COHERENT;
    use tracer_ebpf::decide::{Decider, FROM_DEVICE, TO_DEVICE};

    const GRANULE: u64 = 4096;

    #[test]
    fn the_pieces_of_a_buffer_are_its_head_its_whole_granules_and_its_tail() {
        let pieces = |phys, size| Pieces::new(phys, size, Some(GRANULE)).as_slice().to_vec();
        assert_eq!(pieces(0x8000, 0x2000), [(0x8000, 0x2000)]);
        assert_eq!(pieces(0x8100, 0x200), [(0x8100, 0x200)]);
        assert_eq!(pieces(0x8f00, 0x100), [(0x8f00, 0x100)]);
        assert_eq!(pieces(0x8f00, 0x110), [(0x8f00, 0x100), (0x9000, 0x10)]);
        assert_eq!(pieces(0x8f00, 0x1100), [(0x8f00, 0x100), (0x9000, 0x1000)]);
        assert_eq!(pieces(0x8000, 0x1010), [(0x8000, 0x1000), (0x9000, 0x10)]);
        assert_eq!(pieces(0x8f00, 0x2110), [(0x8f00, 0x100), (0x9000, 0x2000), (0xb000, 0x10)]);
        assert_eq!(pieces(0x8f00, 0), [(0x8f00, 0)]);
        assert_eq!(Pieces::new(0x8f00, 0x2110, None).as_slice(), [(0x8f00, 0x2110)]);
    }

    #[test]
    fn no_address_or_length_overflows() {
        for (phys, size) in [(u64::MAX, u64::MAX), (u64::MAX, 0), (1, u64::MAX), (u64::MAX - 4095, 8192)] {
            for granule in [None, Some(0), Some(1), Some(GRANULE), Some(1 << 63)] {
                let pieces = Pieces::new(phys, size, granule);
                let sum = pieces.as_slice().iter().fold(0_u64, |sum, (_, size)| sum.wrapping_add(*size));
                assert_eq!(sum, size, "{phys:#x} {size:#x} {granule:?}");
            }
        }
    }

    fn machine() -> Machine {
        let decider = Decider { bounce_unaligned: 1, cache_line_size: 64, minalign: 8, dma_minalign: 128 };
        Machine {
            decider,
            rule: ResolvedRule::KMALLOC,
            lists: Lists::WholeList,
            pool_active: true,
            falls_back: false,
            force: false,
            refuses_registers: true,
        }
    }

    fn device() -> DeviceTraits {
        DeviceTraits { iommu_granule: Some(GRANULE), ..DeviceTraits::default() }
    }

    fn buffer(phys: u64, size: u64, direction: u8, attrs: u64) -> Buffer {
        Buffer { phys, dma_addr: None, size, direction, attrs, shared: false }
    }

    fn fates(machine: &Machine, device: &DeviceTraits, whole: Buffer) -> Vec<Fate> {
        let pieces = Pieces::new(whole.phys, whole.size, device.iommu_granule);
        let each = pieces.as_slice().iter().map(|(phys, size)| Buffer { phys: *phys, size: *size, ..whole });
        each.map(|one| piece(machine, device, &whole, &one)).collect()
    }

    const fn bounce(reason: Reason) -> Fate {
        Fate::Bounce { reason, align_mask: GRANULE - 1 }
    }

    #[test]
    fn only_the_ends_of_an_untrusted_devices_buffer_bounce() {
        let untrusted = DeviceTraits { untrusted: true, coherent: true, ..device() };
        let ends = bounce(Reason::Untrusted);
        let fates = |phys, size| fates(&machine(), &untrusted, buffer(phys, size, TO_DEVICE, 0));
        assert_eq!(fates(0x8f00, 0x2110), [ends, Fate::Direct, ends]);
        assert_eq!(fates(0x8000, 0x1200), [Fate::Direct, ends]);
        assert_eq!(fates(0x8000, 0x3000), [Fate::Direct]);
    }

    #[test]
    fn the_length_of_the_whole_decides_and_not_that_of_an_end() {
        let small_end = buffer(0x8ff0, 0x1010, FROM_DEVICE, 0);
        assert_eq!(fates(&machine(), &device(), small_end), [Fate::Direct, Fate::Direct]);
        let small = buffer(0x8ff0, 0x20, FROM_DEVICE, 0);
        assert_eq!(fates(&machine(), &device(), small), [bounce(Reason::Kmalloc); 2]);
        let coherent = DeviceTraits { coherent: true, ..device() };
        assert_eq!(fates(&machine(), &coherent, small), [Fate::Direct; 2]);
        assert_eq!(fates(&machine(), &device(), Buffer { direction: TO_DEVICE, ..small }), [Fate::Direct; 2]);
    }

    #[test]
    fn what_must_not_bounce_is_refused() {
        let refused = |reason, why| Fate::Refused { reason, why };
        let untrusted = DeviceTraits { untrusted: true, coherent: true, ..device() };
        let mmio = buffer(0x8000, 0x10, FROM_DEVICE, MMIO);
        assert_eq!(fates(&machine(), &untrusted, mmio), [refused(Reason::Untrusted, Refused::Forbidden)]);
        assert_eq!(fates(&machine(), &untrusted, Buffer { size: GRANULE, ..mmio }), [Fate::Direct]);
        let incoherent = buffer(0x8000, 0x1000, TO_DEVICE, REQUIRE_COHERENT);
        assert_eq!(fates(&machine(), &device(), incoherent), [refused(Reason::NotCoherent, Refused::Forbidden)]);
        assert_eq!(fates(&machine(), &untrusted, incoherent), [Fate::Direct]);
        let unaligned = Buffer { size: 0x1010, ..incoherent };
        assert_eq!(fates(&machine(), &untrusted, unaligned), [refused(Reason::Untrusted, Refused::Forbidden); 2]);
    }

    #[test]
    fn without_a_pool_the_first_end_is_refused() {
        let untrusted = DeviceTraits { untrusted: true, coherent: true, ..device() };
        let machine = Machine { pool_active: false, ..machine() };
        let end = Fate::Refused { reason: Reason::Untrusted, why: Refused::NoPool };
        assert_eq!(fates(&machine, &untrusted, buffer(0x8000, 0x1010, TO_DEVICE, 0)), [Fate::Direct, end]);
    }
}
