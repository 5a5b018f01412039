//! What the kernel does with a buffer, or a list of them, that a driver maps: nothing, bounce it, or refuse it. Whether
//! there are slots for it is the pool's answer, not given here.
//!
//! Mirrors the order of checks in `dma_direct_map_page()` / `dma_direct_map_phys()` (`kernel/dma/direct.h`) and
//! `iommu_dma_map_page()` / `iommu_dma_map_phys()`, `iommu_dma_map_sg()` (`drivers/iommu/dma-iommu.c`), 6.5 to 7.3.

use tracer_ebpf::decide::Decider;

use super::policy::Lists;
use super::pool::Refused;
use super::rule::Alignment;

/// `DMA_ATTR_MMIO` (6.18 on): not memory, never bounced.
const ATTR_MMIO: u64 = 1 << 10;
/// `DMA_ATTR_REQUIRE_COHERENT` (7.2 on): refused by a non-coherent device, and never bounced.
const ATTR_REQUIRE_COHERENT: u64 = 1 << 12;

/// What a kernel's answer depends on besides device and buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Line size, caches, and the kernel's own rule for small buffers.
    pub decider: Decider,
    /// The rule for small buffers.
    pub alignment: Alignment,
    /// What becomes of scatterlists behind an IOMMU.
    pub lists: Lists,
    /// There is a pool to bounce through.
    pub pool_active: bool,
    /// `swiotlb=force`: everything that is mapped without IOMMU bounces.
    pub force: bool,
}

/// What of a device the answer depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceTraits {
    /// `dev_is_dma_coherent()`.
    pub coherent: bool,
    /// `*dev->dma_mask`; 0 when unknown.
    pub dma_mask: u64,
    /// `dev->bus_dma_limit`; 0 for none.
    pub bus_dma_limit: u64,
    /// `dev->dma_parms->min_align_mask`.
    pub min_align_mask: u64,
    /// The IOMMU's granule, bytes; `None` when the device maps without one.
    pub iommu_granule: Option<u64>,
    /// An untrusted PCI device.
    pub untrusted: bool,
    /// The device's own pool has `force_bounce` set.
    pub force_bounce: bool,
}

/// A buffer to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Physical address; at least its bits below the IOMMU's granule must be right.
    pub phys: u64,
    /// The DMA address that it has unbounced and without IOMMU; `None` when unknown, and then taken to be reachable.
    pub dma_addr: Option<u64>,
    /// Length, bytes.
    pub size: u64,
    /// `enum dma_data_direction`.
    pub direction: u8,
    /// `DMA_ATTR_*` bits.
    pub attrs: u64,
    /// Something else in use is known to lie in its first or last line.
    pub shared: bool,
}

/// Why a buffer cannot be mapped as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It may be a small kmalloc object that shares a cache line.
    Kmalloc,
    /// Its length alone says so, under a policy that is not the kernel's.
    Length,
    /// It does not begin at a line.
    Start,
    /// It is known to share a line.
    Shared,
    /// It belongs to a list of which another segment has to bounce.
    OfList,
    /// The device cannot reach it.
    DeviceMask,
    /// The bus that the device is on cannot.
    BusLimit,
    /// Everything bounces.
    Force,
    /// The device must not see what else lies in the same granule.
    Untrusted,
    /// The driver wants coherent memory, and the device is not coherent; no bounce would help.
    NotCoherent,
}

impl Reason {
    /// Every reason, in the order of its value.
    pub const ALL: [Self; 10] = [
        Self::Kmalloc,
        Self::Length,
        Self::Start,
        Self::Shared,
        Self::OfList,
        Self::DeviceMask,
        Self::BusLimit,
        Self::Force,
        Self::Untrusted,
        Self::NotCoherent,
    ];

    /// Something else may lie in the buffer's lines.
    pub const fn is_alignment(self) -> bool {
        matches!(self, Self::Kmalloc | Self::Length | Self::Start | Self::Shared | Self::OfList)
    }
}

/// What becomes of a buffer, before a slot is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Mapped as it is.
    Direct,
    /// Has to go through the pool; the slot must be aligned to `align_mask` + 1 bytes.
    Bounce {
        /// Why.
        reason: Reason,
        /// `alloc_align_mask`: granule - 1 behind an IOMMU, else 0.
        align_mask: u64,
    },
    /// Cannot be mapped as it is, and must not or cannot bounce.
    Refused {
        /// Why it cannot be mapped as it is.
        reason: Reason,
        /// Why it does not bounce: [`Refused::NoPool`] or [`Refused::Forbidden`].
        why: Refused,
    },
}

/// What becomes of a buffer mapped by itself.
pub fn single(machine: &Machine, device: &DeviceTraits, buffer: &Buffer) -> Fate {
    // dma_map_phys() and __dma_map_sg_attrs(), before anything else.
    if buffer.attrs & ATTR_REQUIRE_COHERENT != 0 && !device.coherent {
        return Fate::Refused { reason: Reason::NotCoherent, why: Refused::Forbidden };
    }
    match device.iommu_granule {
        Some(granule) => through_iommu(machine, device, buffer, granule),
        None => direct(machine, device, buffer),
    }
}

/// What becomes of a segment of a list behind an IOMMU or not, of which [`list_loses_concatenation`] said `lost`.
pub fn segment(machine: &Machine, device: &DeviceTraits, buffer: &Buffer, lost: bool) -> Fate {
    let Some(granule) = device.iommu_granule else { return single(machine, device, buffer) };
    match machine.lists {
        // A list that has no small segment never reaches the pool: iommu_dma_map_sg().
        Lists::WholeList | Lists::WholeListBounce if !lost => Fate::Direct,
        Lists::WholeList | Lists::Flagged => single(machine, device, buffer),
        Lists::WholeListBounce => match single(machine, device, buffer) {
            Fate::Direct if (buffer.phys | buffer.size) & granule.saturating_sub(1) != 0 => {
                bounce_or_refuse(machine, buffer, Reason::OfList, granule.saturating_sub(1))
            }
            fate => fate,
        },
    }
}

/// Whether a scatterlist has to be mapped element by element, which loses the concatenation of its segments:
/// `dev_use_sg_swiotlb()`. Without an IOMMU every list is, and nothing is lost by it. Either way each buffer's fate is that
/// of [`single`]: in a list that stays whole behind an IOMMU nothing would bounce.
pub fn list_loses_concatenation(
    machine: &Machine,
    device: &DeviceTraits,
    mut buffers: impl Iterator<Item = Buffer>,
) -> bool {
    if device.iommu_granule.is_none() {
        return false;
    }
    // Untrusted devices bounce for other reasons, whatever a policy marks.
    let bounces = |buffer: &Buffer| machine.alignment.bounces(&machine.decider, device.coherent, buffer).is_some();
    device.untrusted || machine.lists != Lists::Flagged && buffers.any(|buffer| bounces(&buffer))
}

fn direct(machine: &Machine, device: &DeviceTraits, buffer: &Buffer) -> Fate {
    let forced = machine.force || device.force_bounce;
    if buffer.attrs & ATTR_MMIO != 0 {
        // The length is not looked at, and the address is that of the buffer, whatever the bus's offset.
        let reason = if forced { Some(Reason::Force) } else { unreachable(device, Some(buffer.phys), buffer.size) };
        return reason.map_or(Fate::Direct, |reason| Fate::Refused { reason, why: Refused::Forbidden });
    }
    let reason = if forced {
        Reason::Force
    } else if let Some(reason) = unreachable(device, buffer.dma_addr, buffer.size) {
        reason
    } else if let Some(reason) = machine.alignment.bounces(&machine.decider, device.coherent, buffer) {
        reason
    } else {
        return Fate::Direct;
    };
    bounce_or_refuse(machine, buffer, reason, 0)
}

fn through_iommu(machine: &Machine, device: &DeviceTraits, buffer: &Buffer, granule: u64) -> Fate {
    let reason = if device.untrusted {
        Reason::Untrusted
    } else if let Some(reason) = machine.alignment.bounces(&machine.decider, device.coherent, buffer) {
        reason
    } else {
        return Fate::Direct;
    };
    let align_mask = granule.saturating_sub(1);
    // MMIO stays, as in 7.2; 6.18 and 6.19 refuse what of it is small and unaligned.
    if buffer.attrs & ATTR_MMIO != 0 || (buffer.phys | buffer.size) & align_mask == 0 {
        return Fate::Direct;
    }
    bounce_or_refuse(machine, buffer, reason, align_mask)
}

fn bounce_or_refuse(machine: &Machine, buffer: &Buffer, reason: Reason, align_mask: u64) -> Fate {
    if buffer.attrs & ATTR_REQUIRE_COHERENT != 0 {
        Fate::Refused { reason, why: Refused::Forbidden }
    } else if machine.pool_active {
        Fate::Bounce { reason, align_mask }
    } else {
        let why = if matches!(reason, Reason::DeviceMask | Reason::BusLimit) {
            Refused::Unreachable
        } else {
            Refused::NoPool
        };
        Fate::Refused { reason, why }
    }
}

/// `dma_capable()`: the last byte lies within the device's mask and the bus's limit, whichever is set and lower. `None` when
/// it does.
fn unreachable(device: &DeviceTraits, dma_addr: Option<u64>, size: u64) -> Option<Reason> {
    let last = dma_addr?.saturating_add(size.saturating_sub(1));
    let beyond = |limit: u64| limit != 0 && last > limit;
    match (beyond(device.dma_mask), beyond(device.bus_dma_limit)) {
        (true, _) => Some(Reason::DeviceMask),
        (false, true) => Some(Reason::BusLimit),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::decide::{ARM64_DMA_MINALIGN, FROM_DEVICE, TO_DEVICE};

    use super::*;

    const MACHINE: Machine = Machine {
        decider: Decider { bounce_unaligned: 1, cache_line_size: 64, minalign: 8, dma_minalign: ARM64_DMA_MINALIGN },
        alignment: Alignment::KMALLOC,
        lists: Lists::WholeList,
        pool_active: true,
        force: false,
    };

    fn device() -> DeviceTraits {
        DeviceTraits { dma_mask: u64::from(u32::MAX), ..DeviceTraits::default() }
    }

    fn buffer(size: u64, direction: u8) -> Buffer {
        Buffer { phys: 0x4000_0008, dma_addr: Some(0x4000_0008), size, direction, attrs: 0, shared: false }
    }

    fn list(sizes: &[u64], direction: u8) -> impl Iterator<Item = Buffer> {
        sizes.iter().map(move |size| buffer(*size, direction))
    }

    const KMALLOC: Fate = Fate::Bounce { reason: Reason::Kmalloc, align_mask: 0 };

    #[test]
    fn without_iommu_the_length_decides() {
        assert_eq!(single(&MACHINE, &device(), &buffer(8, FROM_DEVICE)), KMALLOC);
        assert_eq!(single(&MACHINE, &device(), &buffer(64, FROM_DEVICE)), Fate::Direct);
        assert_eq!(single(&MACHINE, &device(), &buffer(8, TO_DEVICE)), Fate::Direct);
    }

    #[test]
    fn coherent_devices_never_bounce_for_alignment() {
        let device = DeviceTraits { coherent: true, ..device() };
        assert_eq!(single(&MACHINE, &device, &buffer(8, FROM_DEVICE)), Fate::Direct);
    }

    #[test]
    fn what_the_device_cannot_reach_bounces_whatever_its_direction() {
        let far = Buffer { dma_addr: Some(0xffff_fff0), ..buffer(4096, TO_DEVICE) };
        assert_eq!(single(&MACHINE, &device(), &far), Fate::Bounce { reason: Reason::DeviceMask, align_mask: 0 });
        let limited = DeviceTraits { bus_dma_limit: 0x3fff_ffff, ..device() };
        let near = buffer(4096, TO_DEVICE);
        assert_eq!(single(&MACHINE, &limited, &near), Fate::Bounce { reason: Reason::BusLimit, align_mask: 0 });
        assert_eq!(single(&MACHINE, &device(), &near), Fate::Direct);
    }

    #[test]
    fn force_bounces_everything_without_iommu_and_nothing_behind_one() {
        let machine = Machine { force: true, ..MACHINE };
        let coherent = DeviceTraits { coherent: true, ..device() };
        let forced = Fate::Bounce { reason: Reason::Force, align_mask: 0 };
        assert_eq!(single(&machine, &coherent, &buffer(65536, TO_DEVICE)), forced);
        let behind = DeviceTraits { iommu_granule: Some(4096), ..coherent };
        assert_eq!(single(&machine, &behind, &buffer(65536, TO_DEVICE)), Fate::Direct);
    }

    #[test]
    fn behind_an_iommu_whole_granules_stay() {
        let device = DeviceTraits { iommu_granule: Some(4096), ..device() };
        let bounced = Fate::Bounce { reason: Reason::Kmalloc, align_mask: 4095 };
        assert_eq!(single(&MACHINE, &device, &buffer(8, FROM_DEVICE)), bounced);
        let untrusted = DeviceTraits { untrusted: true, coherent: true, ..device };
        let page = Buffer { phys: 0x4000_0000, ..buffer(4096, TO_DEVICE) };
        assert_eq!(single(&MACHINE, &untrusted, &page), Fate::Direct);
        let part = Fate::Bounce { reason: Reason::Untrusted, align_mask: 4095 };
        assert_eq!(single(&MACHINE, &untrusted, &buffer(4096, TO_DEVICE)), part);
    }

    #[test]
    fn without_a_pool_what_must_bounce_is_refused() {
        let machine = Machine { pool_active: false, ..MACHINE };
        let refused = Fate::Refused { reason: Reason::Kmalloc, why: Refused::NoPool };
        assert_eq!(single(&machine, &device(), &buffer(8, FROM_DEVICE)), refused);
        let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
        assert_eq!(single(&machine, &behind, &buffer(8, FROM_DEVICE)), refused);
        assert_eq!(single(&machine, &behind, &buffer(8, TO_DEVICE)), Fate::Direct);
    }

    #[test]
    fn mmio_never_bounces() {
        let mmio = Buffer { attrs: ATTR_MMIO, ..buffer(4, FROM_DEVICE) };
        let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
        assert_eq!(single(&MACHINE, &device(), &mmio), Fate::Direct);
        assert_eq!(single(&MACHINE, &behind, &mmio), Fate::Direct);
        let forced = Machine { force: true, ..MACHINE };
        let refused = |reason| Fate::Refused { reason, why: Refused::Forbidden };
        assert_eq!(single(&forced, &device(), &mmio), refused(Reason::Force));
        let far = Buffer { phys: 1 << 32, ..mmio };
        assert_eq!(single(&MACHINE, &device(), &far), refused(Reason::DeviceMask));
    }

    #[test]
    fn what_is_to_be_coherent_never_bounces_and_needs_a_coherent_device() {
        let refused = |reason| Fate::Refused { reason, why: Refused::Forbidden };
        let page = Buffer { attrs: ATTR_REQUIRE_COHERENT, ..buffer(4096, TO_DEVICE) };
        let coherent = DeviceTraits { coherent: true, ..device() };
        assert_eq!(single(&MACHINE, &device(), &page), refused(Reason::NotCoherent));
        assert_eq!(single(&MACHINE, &coherent, &page), Fate::Direct);
        assert_eq!(single(&Machine { force: true, ..MACHINE }, &coherent, &page), refused(Reason::Force));
        let far = Buffer { dma_addr: Some(1 << 32), ..page };
        assert_eq!(single(&MACHINE, &coherent, &far), refused(Reason::DeviceMask));
    }

    #[test]
    fn a_buffer_of_unknown_dma_address_is_taken_to_be_reachable() {
        let unknown = Buffer { dma_addr: None, ..buffer(4096, TO_DEVICE) };
        let narrow = DeviceTraits { dma_mask: 0xffff, ..device() };
        assert_eq!(single(&MACHINE, &narrow, &unknown), Fate::Direct);
        assert_eq!(single(&MACHINE, &narrow, &Buffer { size: 8, direction: FROM_DEVICE, ..unknown }), KMALLOC);
    }

    #[test]
    fn in_a_list_that_stays_whole_nothing_would_bounce() {
        let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
        for length in 1..=1024 {
            let loses = list_loses_concatenation(&MACHINE, &behind, list(&[4096, length], FROM_DEVICE));
            let unaligned = Buffer { phys: 0x3008, ..buffer(length, FROM_DEVICE) };
            assert_eq!(loses, single(&MACHINE, &behind, &unaligned) != Fate::Direct, "length {length}");
        }
    }

    #[test]
    fn an_untrusted_devices_list_always_loses_its_concatenation() {
        let untrusted = DeviceTraits { iommu_granule: Some(4096), untrusted: true, coherent: true, ..device() };
        assert!(list_loses_concatenation(&MACHINE, &untrusted, list(&[4096], TO_DEVICE)));
    }

    #[test]
    fn an_absurd_granule_is_answered() {
        let device = DeviceTraits { iommu_granule: Some(0), ..device() };
        assert_eq!(single(&MACHINE, &device, &buffer(8, FROM_DEVICE)), Fate::Direct);
    }

    #[test]
    fn one_small_segment_costs_a_list_its_concatenation_behind_an_iommu_only() {
        let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
        let loses = |device: &DeviceTraits, lengths: [u64; 3]| {
            list_loses_concatenation(&MACHINE, device, list(&lengths, FROM_DEVICE))
        };
        assert!(loses(&behind, [4096, 8, 4096]));
        assert!(!loses(&behind, [4096, 4096, 4096]));
        assert!(!loses(&device(), [4096, 8, 4096]));
    }

    #[test]
    fn what_becomes_of_a_list_depends_on_its_mode() {
        let behind = DeviceTraits { iommu_granule: Some(4096), ..device() };
        let (small, large) = (buffer(8, FROM_DEVICE), buffer(4000, FROM_DEVICE));
        let fates = |lists: Lists| {
            let machine = Machine { lists, ..MACHINE };
            let lost = list_loses_concatenation(&machine, &behind, [small, large].into_iter());
            (
                lost,
                [small, large].map(|buffer| matches!(segment(&machine, &behind, &buffer, lost), Fate::Bounce { .. })),
            )
        };
        assert_eq!(fates(Lists::WholeList), (true, [true, false]));
        assert_eq!(fates(Lists::WholeListBounce), (true, [true, true]));
        assert_eq!(fates(Lists::Flagged), (false, [true, false]));
    }

    #[test]
    fn what_no_device_reaches_without_a_pool_is_unreachable() {
        let machine = Machine { pool_active: false, ..MACHINE };
        let far = Buffer { dma_addr: Some(1 << 32), ..buffer(4096, TO_DEVICE) };
        let refused = Fate::Refused { reason: Reason::DeviceMask, why: Refused::Unreachable };
        assert_eq!(single(&machine, &device(), &far), refused);
    }
}
