//! The verdict on one buffer, from the attempts that its mapping claimed, the address that came out, and the hooks that
//! were there to see.

use super::attempts::Attempt;
use crate::{
    devices::Devices,
    mapping::{Buffer, Proof, Truth, Unknown},
};
use bouncescope_capture::event::{DeviceId, Event, MAPPING_ERROR, Segment, UNKNOWN_PHYS, What};
use bouncescope_capture::facts::{Device, Hook, is_attached};
use bouncescope_capture::limits::{PAGE_OFFSET, SLOT_OFFSET};
use bouncescope_capture::names::Subject;

/// The hooks that saw what the kernel did.
#[expect(clippy::struct_excessive_bools, reason = "each hook is there or not, whatever the others are")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witnesses {
    /// `swiotlb_bounced`: attempts.
    pub attempts: bool,
    /// `swiotlb_tbl_map_single()`: searches for slots, and their result.
    pub searches: bool,
    /// `swiotlb_tbl_unmap_single()`: slots given back.
    pub slot_releases: bool,
    /// `swiotlb_alloc()` and `swiotlb_free()`: coherent memory out of restricted pools.
    pub coherent_memory: bool,
}

impl Witnesses {
    /// From the hooks' verdicts.
    pub fn new(hooks: &[Hook]) -> Self {
        let attached = |subject| is_attached(hooks, &subject);
        Self {
            attempts: attached(Subject::Bounced),
            searches: attached(Subject::SlotMap),
            slot_releases: attached(Subject::SlotMap) && attached(Subject::SlotUnmap),
            coherent_memory: attached(Subject::CoherentAlloc) && attached(Subject::CoherentFree),
        }
    }

    /// An attempt to bounce can't go unseen, unless its event was lost.
    pub const fn any(self) -> bool {
        self.attempts || self.searches
    }
}

/// Judges buffers.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    witnesses: Witnesses,
}

impl Judge {
    pub(super) fn new(witnesses: Witnesses) -> Self {
        Self { witnesses }
    }

    /// Whether [`Self::single`] would say without an attempt that the buffer was mapped as it is, and learn nothing by it; then how that
    /// is known.
    pub(super) fn is_direct(&self, phys: u64, dma_addr: u64, device: DeviceId, devices: &Devices) -> Option<Proof> {
        let described = devices.described(device)?;
        let (is_direct, proof) = match described.iommu_granule {
            Some(_) => (self.witnesses.any(), Proof::NoAttempt),
            None => (devices.knows_offset(device) && dma_addr == devices.dma_addr(device, phys), Proof::Address),
        };
        (is_direct && dma_addr != MAPPING_ERROR).then_some(proof)
    }

    /// Whether [`Self::list`] would say the same of every segment of a list without attempts: then, where the DMA addresses
    /// are those of the segments.
    pub(super) fn is_direct_list(&self, event: &Event, segments: &[Segment], devices: &Devices) -> Option<bool> {
        let What::MapSg { device, nents, ents, .. } = event.what else { return None };
        let iommu = devices.described(device)?.iommu_granule.is_some();
        let whole = ents > 0 && segments.len() as u32 >= nents && nents > 0;
        (whole && self.witnesses.any() && (iommu || ents == nents)).then_some(!iommu)
    }

    /// What became of the buffer of a single mapping, and the DMA address that it has unbounced, as far as that is known.
    #[inline]
    pub(super) fn single(
        &self,
        phys: u64,
        dma_addr: u64,
        claimed: Option<&Attempt>,
        device: DeviceId,
        devices: &mut Devices,
    ) -> (Truth, Option<u64>) {
        let described = devices.described(device);
        let iommu = described.is_some_and(|device| device.iommu_granule.is_some());
        let known = phys & UNKNOWN_PHYS == 0;
        let phys = phys & !UNKNOWN_PHYS;
        let own_address = known && !iommu && dma_addr == devices.dma_addr(device, phys);
        // A bus offset is whole pages. What can still be taken for one: slots that happen to begin at the buffer's own offset into its
        // page, and those of a device with a `min_align_mask`, which always do.
        let is_displaced = (dma_addr ^ phys) & PAGE_OFFSET != 0;
        let not_a_slot = described.is_some_and(|device| is_not_a_slot(device, phys, dma_addr));
        let truth = if described.is_none() {
            Truth::Unknown(Unknown::DeviceUnknown)
        } else if dma_addr == MAPPING_ERROR {
            match claimed {
                Some(attempt) if attempt.slot().is_some() => Truth::Unknown(Unknown::RefusedElsewhere),
                None if iommu && self.witnesses.any() => Truth::Unknown(Unknown::RefusedElsewhere),
                _ => Truth::Refused,
            }
        } else if own_address {
            Truth::Direct { proof: Proof::Address }
        } else if let Some(attempt) = claimed.filter(|attempt| !attempt.is_refused()) {
            Truth::Bounced { slot: attempt.slot() }
        } else if not_a_slot {
            Truth::Direct { proof: Proof::Address }
        } else if known && self.witnesses.any() && !iommu && (devices.knows_offset(device) || is_displaced) {
            Truth::Unknown(Unknown::Contradicted)
        } else if self.witnesses.any() {
            Truth::Direct { proof: Proof::NoAttempt }
        } else if known && !iommu && devices.knows_offset(device) {
            Truth::Bounced { slot: None }
        } else {
            // Behind an IOMMU any address; else a slot, or the buffer itself behind a bus offset.
            Truth::Unknown(Unknown::NoHook)
        };
        let direct = matches!(truth, Truth::Direct { .. });
        let direct_dma_addr = match claimed.and_then(|attempt| attempt.dev_addr) {
            _ if iommu => None,
            _ if direct => Some(dma_addr),
            Some(dev_addr) => Some(dev_addr),
            None => known.then(|| devices.dma_addr(device, phys)),
        };
        // What only seems to be direct, since its attempt was lost, must not spoil what is known.
        let proven = truth == Truth::Direct { proof: Proof::Address };
        if known && !iommu && !is_displaced && (proven || direct && !devices.knows_offset(device)) {
            devices.learn_offset(device, phys, dma_addr);
        }
        (truth, direct_dma_addr)
    }

    /// What became of each piece of a linked buffer, of which these attempts were claimed.
    pub(super) fn link(
        &self,
        dma_addr: u64,
        claimed: &[Option<Attempt>],
        device: DeviceId,
        devices: &Devices,
    ) -> impl Iterator<Item = Truth> {
        let is_described = devices.described(device).is_some();
        let failed = dma_addr == MAPPING_ERROR;
        let refused_at = claimed.iter().position(|claimed| claimed.is_some_and(|attempt| attempt.is_refused()));
        claimed.iter().enumerate().map(move |(n, claimed)| match claimed {
            _ if !is_described => Truth::Unknown(Unknown::DeviceUnknown),
            // The kernel does not ask for slots before it refuses what must not bounce, and the IOMMU may have no room.
            _ if failed && refused_at.is_none() => Truth::Unknown(Unknown::RefusedElsewhere),
            _ if failed && refused_at == Some(n) => Truth::Refused,
            _ if failed && refused_at.is_some_and(|at| at < n) => Truth::NotReached,
            Some(attempt) => Truth::Bounced { slot: attempt.slot() },
            None if self.witnesses.any() => Truth::Direct { proof: Proof::NoAttempt },
            None => Truth::Unknown(Unknown::NoHook),
        })
    }

    pub(super) fn list(
        &self,
        event: &Event,
        segments: &[Segment],
        claimed: &[Option<Attempt>],
        devices: &Devices,
        buffers: &mut Vec<Buffer>,
    ) {
        let What::MapSg { device, nents, ents, .. } = event.what else { return };
        let described = devices.described(device);
        let iommu = described.is_some_and(|device| device.iommu_granule.is_some());
        let truncated = (segments.len() as u32) < nents;
        // Direct mapping merges nothing: the n-th DMA segment is the n-th buffer.
        let addresses = !iommu && ents == nents;
        let refused_at = claimed.iter().position(|claimed| claimed.is_some_and(|attempt| attempt.is_refused()));
        let judge = |n: usize, segment: &Segment| {
            let claimed = claimed.get(n).and_then(Option::as_ref);
            let offset = u64::from(segment.offset);
            let truth = if described.is_none() {
                Truth::Unknown(Unknown::DeviceUnknown)
            } else if ents == 0 {
                self.of_failed(n, claimed, refused_at)
            } else if iommu && truncated {
                Truth::Unknown(Unknown::Truncated)
            } else if let Some(attempt) = claimed.filter(|attempt| !attempt.is_refused()) {
                Truth::Bounced { slot: attempt.slot() }
            } else {
                match of_segment(described.filter(|_| addresses), segment) {
                    Proof::NoAttempt if !self.witnesses.any() => Truth::Unknown(Unknown::NoHook),
                    proof => Truth::Direct { proof },
                }
            };
            let mut buffer = Buffer::at(event, claimed, offset, u64::from(segment.length));
            buffer.direct_dma_addr = match truth {
                Truth::Direct { .. } if addresses => Some(segment.dma_addr),
                _ if iommu => None,
                _ => claimed.and_then(|attempt| attempt.dev_addr),
            };
            if let Truth::Direct { .. } = truth
                && addresses
            {
                (buffer.phys, buffer.exact) = (segment.dma_addr.wrapping_sub(devices.dma_addr(device, 0)), true);
            }
            buffer.truth = truth;
            buffer.memory = segment.memory;
            buffer
        };
        buffers.extend(segments.iter().enumerate().map(|(n, segment)| judge(n, segment)));
    }

    /// The kernel stops at the first segment that it can't map.
    fn of_failed(&self, n: usize, claimed: Option<&Attempt>, refused_at: Option<usize>) -> Truth {
        match (claimed, refused_at) {
            (_, Some(at)) if n == at => Truth::Refused,
            (_, Some(at)) if n > at => Truth::NotReached,
            (Some(attempt), _) if attempt.search.is_some() => Truth::Bounced { slot: attempt.slot() },
            (None, Some(_)) if self.witnesses.any() => Truth::Direct { proof: Proof::NoAttempt },
            _ => Truth::Unknown(Unknown::ListFailed),
        }
    }
}

/// How it is known of a segment without an attempt that it was mapped as it is, if it was: by its DMA address, where a device is given
/// that maps segment by segment.
pub(super) fn of_segment(device: Option<&Device>, segment: &Segment) -> Proof {
    let by_address = device.is_some_and(|device| is_not_a_slot(device, segment.offset.into(), segment.dma_addr));
    if by_address { Proof::Address } else { Proof::NoAttempt }
}

/// The address is at the buffer's own offset into its page, where no slot begins: it is the buffer's own, if shifted by a
/// bus offset. A device with a `min_align_mask` gets such addresses in the pool too.
fn is_not_a_slot(device: &Device, phys: u64, dma_addr: u64) -> bool {
    device.iommu_granule.is_none()
        && u64::from(device.min_align_mask) & SLOT_OFFSET == 0
        && dma_addr & SLOT_OFFSET != 0
        && (dma_addr ^ phys) & SLOT_OFFSET == 0
}
