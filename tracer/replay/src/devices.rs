//! The devices of a stream: descriptions by number, and which descriptions are of the same device.

use std::collections::HashMap;

use bouncescope_capture::event::DeviceId;
use bouncescope_capture::facts::Device;
use bouncescope_capture::limits::MOST_DEVICES;
use bouncescope_model::{concatenation::SegmentLimits, mapping::DeviceTraits};

/// A device, whatever descriptions it has had: index in order of first appearance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u32);

/// All that have been described so far.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    described: Vec<Described>,
    by_name: HashMap<String, Identity>,
    /// DMA address less physical address of unbounced buffers without IOMMU, where seen: the bus's offset.
    offsets: Vec<Option<u64>>,
    /// The latest description of each device.
    latest: Vec<DeviceId>,
    /// Descriptions for which there was no room.
    pub(super) left_out: u64,
}

#[derive(Clone, Debug)]
struct Described {
    device: Device,
    identity: Identity,
    /// Its description was not lost.
    known: bool,
}

impl Devices {
    /// Takes in a description; numbers come in order, and a gap (a lost frame) is filled with devices nobody knows.
    pub fn add(&mut self, device: Device) {
        if device.id.0 as usize >= MOST_DEVICES {
            self.left_out += 1;
            return;
        }
        while self.described.len() < device.id.0 as usize {
            self.push(unknown(DeviceId(self.described.len() as u32)));
        }
        if device.id.0 as usize == self.described.len() {
            self.push(device);
        }
    }

    fn push(&mut self, device: Device) {
        let next = Identity(self.by_name.len() as u32);
        // Two devices of which nothing is known are not one.
        let name = if device.is_described() { device.name.clone() } else { format!("{} {}", device.name, device.id.0) };
        let identity = *self.by_name.entry(name).or_insert(next);
        if identity == next {
            self.offsets.push(None);
            self.latest.push(device.id);
        }
        self.latest[identity.0 as usize] = device.id;
        self.described.push(Described { known: device.is_described(), device, identity });
    }

    /// The description that an event names.
    pub fn get(&self, id: DeviceId) -> Device {
        self.described.get(id.0 as usize).map_or_else(|| unknown(id), |one| one.device.clone())
    }

    /// The same, `None` when it was lost: then nothing can be predicted for the device.
    pub fn described(&self, id: DeviceId) -> Option<&Device> {
        self.described.get(id.0 as usize).filter(|one| one.known).map(|one| &one.device)
    }

    /// The device behind a description.
    pub fn identity(&self, id: DeviceId) -> Identity {
        self.described.get(id.0 as usize).map_or(Identity(u32::MAX), |one| one.identity)
    }

    /// Every device as it was last described, in order of first appearance.
    pub(crate) fn all_latest(&self) -> Vec<Device> {
        self.latest.iter().map(|id| self.get(*id)).collect()
    }

    /// What a device and its driver were last called; empty for one that was never described.
    pub(crate) fn name_and_driver(&self, identity: Identity) -> (String, String) {
        let device = self.latest(identity).map(|latest| self.get(latest)).unwrap_or_default();
        (device.name, device.driver)
    }

    /// What of a description decides a mapping's fate.
    pub fn traits(&self, id: DeviceId) -> DeviceTraits {
        let Some(Described { device, .. }) = self.described.get(id.0 as usize) else { return DeviceTraits::default() };
        let unset = SegmentLimits::default();
        DeviceTraits {
            coherent: device.coherent,
            dma_mask: device.dma_mask,
            bus_dma_limit: device.bus_dma_limit,
            min_align_mask: u64::from(device.min_align_mask),
            segments: SegmentLimits {
                max_size: device.max_segment_size.unwrap_or(unset.max_size),
                boundary_mask: device.segment_boundary_mask.unwrap_or(unset.boundary_mask),
            },
            iommu_granule: device.iommu_granule,
            untrusted: device.untrusted,
            force_bounce: device.force_bounce,
        }
    }

    /// Learns the bus's offset from an unbounced mapping without IOMMU.
    pub(crate) fn learn_offset(&mut self, id: DeviceId, phys: u64, dma_addr: u64) {
        let identity = self.identity(id);
        if let Some(offset) = self.offsets.get_mut(identity.0 as usize) {
            *offset = Some(dma_addr.wrapping_sub(phys));
        }
    }

    /// Whether [`Self::dma_addr`] rests on a mapping that was seen.
    pub(crate) fn knows_offset(&self, id: DeviceId) -> bool {
        self.offset(id).is_some()
    }

    fn offset(&self, id: DeviceId) -> Option<u64> {
        self.offsets.get(self.identity(id).0 as usize).copied().flatten()
    }

    /// The latest description of a device.
    pub fn latest(&self, identity: Identity) -> Option<DeviceId> {
        self.latest.get(identity.0 as usize).copied()
    }

    /// The DMA address that a buffer has unbounced and without IOMMU, as far as the bus's offset is known; 0 is assumed.
    pub fn dma_addr(&self, id: DeviceId, phys: u64) -> u64 {
        phys.wrapping_add(self.offset(id).unwrap_or(0))
    }
}

fn unknown(id: DeviceId) -> Device {
    Device { id, name: format!("(unknown {})", id.0), undescribed: true, ..Device::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: u32, name: &str, driver: &str) -> Device {
        Device { id: DeviceId(id), name: name.into(), driver: driver.into(), ..Device::default() }
    }

    #[test]
    fn a_device_keeps_its_identity_when_described_again() {
        let mut devices = Devices::default();
        devices.add(device(0, "0000:00:01.0", "xhci_hcd"));
        devices.add(device(1, "0000:00:02.0", "nvme"));
        devices.add(device(2, "0000:00:01.0", ""));
        assert_eq!(devices.identity(DeviceId(0)), devices.identity(DeviceId(2)));
        assert_ne!(devices.identity(DeviceId(0)), devices.identity(DeviceId(1)));
    }

    #[test]
    fn devices_without_end_are_counted_and_not_kept() {
        let mut devices = Devices::default();
        for id in 0..MOST_DEVICES as u32 + 5 {
            devices.add(device(id, &format!("usb{id}"), ""));
        }
        devices.add(device(u32::MAX, "last", ""));
        assert_eq!((devices.described.len(), devices.left_out), (MOST_DEVICES, 6));
        assert!(devices.described(DeviceId(MOST_DEVICES as u32)).is_none());
    }

    #[test]
    fn a_lost_description_leaves_the_others_in_place() {
        let mut devices = Devices::default();
        devices.add(device(2, "c", ""));
        assert_eq!(devices.get(DeviceId(2)).name, "c");
        assert_eq!(devices.get(DeviceId(1)).name, "(unknown 1)");
        assert_eq!(devices.get(DeviceId(9)).name, "(unknown 9)");
    }
}
