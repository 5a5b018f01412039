//! What the kernel does with a buffer, or a list of them, that a driver maps: nothing, bounce it, or refuse it. Whether
//! there are slots for it is the pool's answer, not given here.
//!
//! Mirrors the order of checks in `dma_direct_map_page()` / `dma_direct_map_phys()` (`kernel/dma/direct.h`) and
//! `iommu_dma_map_page()` / `iommu_dma_map_phys()`, `iommu_dma_map_sg()` (`drivers/iommu/dma-iommu.c`), 6.5 to 7.3.

use tracer_ebpf::attrs::{MMIO, REQUIRE_COHERENT};
use tracer_ebpf::decide::Decider;

pub use super::buffer::{Buffer, Reason};
use super::concatenation::{SegmentLimits, dma_segments_around};
use super::policy::Lists;
use super::pool::Refused;
use super::rule::ResolvedRule;

/// What a kernel's answer depends on besides device and buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property that a kernel has or has not")]
pub struct Machine {
    /// Line size, caches, and the kernel's own rule for small buffers.
    pub decider: Decider,
    /// The rule for small buffers.
    pub rule: ResolvedRule,
    /// What becomes of scatterlists behind an IOMMU.
    pub lists: Lists,
    /// There is a pool to bounce through.
    pub pool_active: bool,
    /// What bounces for alignment and finds no slots is copied through memory allocated for it alone. No kernel does.
    pub falls_back: bool,
    /// `swiotlb=force`: everything that is mapped without IOMMU bounces.
    pub force: bool,
    /// Device registers are refused where everything has to bounce: from 6.18 on. `dma_direct_map_resource()` of earlier kernels does not look.
    pub refuses_registers: bool,
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
    /// How long a DMA segment of the device may be, and what it must not cross.
    pub segments: SegmentLimits,
    /// The IOMMU's granule, bytes; `None` when the device maps without one.
    pub iommu_granule: Option<u64>,
    /// An untrusted PCI device.
    pub untrusted: bool,
    /// The device's own pool has `force_bounce` set.
    pub force_bounce: bool,
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
    if let Some(refused) = not_coherent(device, buffer) {
        return refused;
    }
    match device.iommu_granule {
        Some(granule) => through_iommu(machine, device, buffer, granule),
        None => direct(machine, device, buffer),
    }
}

/// What becomes of a segment of a list behind an IOMMU or not, of which [`list_loses_concatenation`] said `lost`.
pub fn segment(machine: &Machine, device: &DeviceTraits, buffer: &Buffer, lost: bool) -> Fate {
    if let Some(refused) = not_coherent(device, buffer) {
        return refused;
    }
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
/// `dev_use_sg_swiotlb()`. Without an IOMMU every list is, and nothing is lost by it. What becomes of each of its buffers then
/// is the answer of [`segment`].
pub fn list_loses_concatenation(
    machine: &Machine,
    device: &DeviceTraits,
    mut buffers: impl Iterator<Item = Buffer>,
) -> bool {
    if device.iommu_granule.is_none() {
        return false;
    }
    // Untrusted devices bounce for other reasons, whatever a policy marks.
    let bounces = |buffer: &Buffer| machine.rule.bounces(&machine.decider, device.coherent, buffer).is_some();
    device.untrusted || machine.lists != Lists::Flagged && buffers.any(|buffer| bounces(&buffer))
}

/// Into how many DMA segments a list is mapped, of which [`list_loses_concatenation`] said `lost`, if it is not refused. Where each segment
/// is marked for itself ([`Lists::Flagged`]), those that bounce are taken to be mapped by themselves, among the others.
pub fn list_dma_segments(
    machine: &Machine,
    device: &DeviceTraits,
    buffers: impl Iterator<Item = Buffer>,
    lost: bool,
) -> u64 {
    let Some(granule) = device.iommu_granule.filter(|_| !lost) else { return buffers.count() as u64 };
    let is_apart = |buffer: &Buffer| segment(machine, device, buffer, lost) != Fate::Direct;
    let segments = buffers.map(|buffer| (buffer.phys, buffer.size, is_apart(&buffer)));
    dma_segments_around(segments, granule, device.segments)
}

/// What `dma_map_phys()` and `__dma_map_sg_attrs()` (`kernel/dma/mapping.c`) refuse before anything else.
pub(crate) fn not_coherent(device: &DeviceTraits, buffer: &Buffer) -> Option<Fate> {
    (buffer.attrs & REQUIRE_COHERENT != 0 && !device.coherent)
        .then_some(Fate::Refused { reason: Reason::NotCoherent, why: Refused::Forbidden })
}

fn direct(machine: &Machine, device: &DeviceTraits, buffer: &Buffer) -> Fate {
    let forced = machine.force || device.force_bounce;
    if buffer.attrs & MMIO != 0 {
        // The length is not looked at, and the address is that of the buffer, whatever the bus's offset.
        let reason = if forced && machine.refuses_registers {
            Some(Reason::Force)
        } else {
            unreachable(device, Some(buffer.phys), buffer.size)
        };
        return reason.map_or(Fate::Direct, |reason| Fate::Refused { reason, why: Refused::Forbidden });
    }
    let reason = if forced {
        Reason::Force
    } else if let Some(reason) = unreachable(device, buffer.dma_addr, buffer.size) {
        reason
    } else if let Some(reason) = machine.rule.bounces(&machine.decider, device.coherent, buffer) {
        reason
    } else {
        return Fate::Direct;
    };
    bounce_or_refuse(machine, buffer, reason, 0)
}

fn through_iommu(machine: &Machine, device: &DeviceTraits, buffer: &Buffer, granule: u64) -> Fate {
    let reason = if device.untrusted {
        Reason::Untrusted
    } else if let Some(reason) = machine.rule.bounces(&machine.decider, device.coherent, buffer) {
        reason
    } else {
        return Fate::Direct;
    };
    let align_mask = granule.saturating_sub(1);
    // MMIO stays, as in 7.2; 6.18 and 6.19 refuse what of it is small and unaligned.
    if buffer.attrs & MMIO != 0 || (buffer.phys | buffer.size) & align_mask == 0 {
        return Fate::Direct;
    }
    bounce_or_refuse(machine, buffer, reason, align_mask)
}

fn bounce_or_refuse(machine: &Machine, buffer: &Buffer, reason: Reason, align_mask: u64) -> Fate {
    if buffer.attrs & REQUIRE_COHERENT != 0 {
        Fate::Refused { reason, why: Refused::Forbidden }
    } else if machine.pool_active || machine.falls_back && reason.is_alignment() {
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
mod tests;
