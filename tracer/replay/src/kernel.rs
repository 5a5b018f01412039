//! A simulated kernel's rules for the devices of a stream: what becomes of a mapping before the pool is asked.

use super::devices::Devices;
use super::mapping::{Buffer, Mapping};
use super::settings::{OwnPool, Settings};
use bouncescope_capture::event::DeviceId;
use bouncescope_model::concatenation::SegmentLimits;
use bouncescope_model::link;
use bouncescope_model::mapping::{
    self as model, DeviceTraits, Fate, Machine, list_dma_segments, list_loses_concatenation, segment, single,
};
use bouncescope_model::policy::Lists;
use bouncescope_model::rule::Look;

/// A device under some settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// As it is to be taken.
    pub(super) traits: DeviceTraits,
    /// Its own pool.
    pub(super) own_pool: Option<OwnPool>,
}

/// The rules.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// What it is configured like.
    pub(super) settings: Settings,
    machine: Machine,
    /// By number of the description, as far as asked for.
    devices: Vec<Option<Taken>>,
    /// Which of the replay's views it looks from.
    pub(super) view: usize,
}

impl Kernel {
    /// With these settings.
    pub(super) fn new(settings: Settings, view: usize) -> Self {
        Self { machine: settings.machine(), settings, devices: Vec::new(), view }
    }

    /// Whether a kernel with these settings that looks from this view would do the same with every mapping, but for what its pool has room
    /// for.
    pub(super) fn decides_as(&self, settings: &Settings, view: usize) -> bool {
        let of_devices = |settings: &Settings| (settings.restricted.clone(), settings.captured_force);
        self.view == view
            && self.machine == settings.machine()
            && of_devices(&self.settings) == of_devices(settings)
            && self.settings.devices == settings.devices
    }

    /// A device; `None` when its description was lost.
    pub(super) fn device(&mut self, id: DeviceId, devices: &Devices) -> Option<Taken> {
        let index = id.0 as usize;
        if let Some(Some(known)) = self.devices.get(index) {
            return Some(*known);
        }
        let described = devices.described(id)?;
        let (traits, own_pool) = self.settings.device(described, devices.traits(id));
        let taken = Taken { traits, own_pool };
        if self.devices.len() <= index {
            self.devices.resize(index + 1, None);
        }
        self.devices[index] = Some(taken);
        Some(taken)
    }

    /// Whether a list loses its concatenation.
    pub(super) fn loses_concatenation(&mut self, mapping: &Mapping, devices: &Devices) -> bool {
        let Some(taken) = self.device(mapping.device, devices) else { return false };
        let buffers = (0..mapping.buffers.len()).map(|n| self.buffer(mapping, n, &taken.traits));
        mapping.is_list() && list_loses_concatenation(&self.machine, &taken.traits, buffers)
    }

    /// How a list of such buffers would be mapped in this way, by a device with these limits: whether element by element behind an IOMMU, and
    /// into how many DMA segments.
    pub(super) fn list(
        &mut self,
        id: DeviceId,
        lists: Lists,
        segments: SegmentLimits,
        buffers: impl Iterator<Item = model::Buffer> + Clone,
        devices: &Devices,
    ) -> (bool, u64) {
        let traits = DeviceTraits { segments, ..self.device(id, devices).unwrap_or_default().traits };
        let machine = Machine { lists, ..self.machine };
        let lost = list_loses_concatenation(&machine, &traits, buffers.clone());
        (lost, list_dma_segments(&machine, &traits, buffers, lost))
    }

    /// Into how many DMA segments a list is mapped, of which [`Kernel::loses_concatenation`] said `lost`, if it is not refused.
    pub(super) fn dma_segments(&mut self, mapping: &Mapping, lost: bool, devices: &Devices) -> u64 {
        let Some(taken) = self.device(mapping.device, devices) else { return mapping.buffers.len() as u64 };
        let buffers = (0..mapping.buffers.len()).map(|n| self.buffer(mapping, n, &taken.traits));
        list_dma_segments(&self.machine, &taken.traits, buffers, lost)
    }

    /// What becomes of a buffer of a mapping, of which [`Kernel::loses_concatenation`] said `lost`.
    pub(super) fn fate(&mut self, mapping: &Mapping, n: usize, lost: bool, devices: &Devices) -> Fate {
        let Some(taken) = self.device(mapping.device, devices) else { return Fate::Direct };
        let buffer = self.buffer(mapping, n, &taken.traits);
        // A device's own pool is there whether the machine has one or not.
        let pool_active = self.machine.pool_active || taken.own_pool.is_some();
        let machine = Machine { pool_active, ..self.machine };
        if mapping.is_link() {
            link::piece(&machine, &taken.traits, &self.whole(mapping, &taken.traits), &buffer)
        } else if mapping.is_list() {
            segment(&machine, &taken.traits, &buffer, lost)
        } else {
            single(&machine, &taken.traits, &buffer)
        }
    }

    /// Whether nothing at all happens to a mapping.
    pub(super) fn leaves_alone(&mut self, mapping: &Mapping, devices: &Devices) -> bool {
        let lost = mapping.is_list() && self.loses_concatenation(mapping, devices);
        !lost && (0..mapping.buffers.len()).all(|n| self.fate(mapping, n, lost, devices) == Fate::Direct)
    }

    /// From which length on this device's buffers never bounce for alignment, bytes; 0 where none does.
    pub(super) fn bounces_below(&mut self, id: DeviceId, devices: &Devices) -> u64 {
        let decider = &self.machine.decider;
        let below = match self.machine.rule.look {
            Look::Never => 0,
            Look::Kmalloc if decider.bounce_unaligned == 0 => 0,
            Look::Kmalloc => 2 * u64::from(decider.dma_minalign),
            _ => self.machine.rule.below,
        };
        match self.device(id, devices) {
            Some(taken) if !taken.traits.coherent => below,
            _ => 0,
        }
    }

    /// Whether this device's buffers may bounce for something else than alignment or reach.
    pub(super) fn bounces_otherwise(&mut self, id: DeviceId, devices: &Devices) -> bool {
        let Some(Taken { traits, own_pool }) = self.device(id, devices) else { return false };
        let forced = (self.machine.force || traits.force_bounce) && traits.iommu_granule.is_none();
        forced || traits.untrusted || own_pool.is_some()
    }

    /// The buffer that was linked in pieces.
    fn whole(&self, mapping: &Mapping, traits: &DeviceTraits) -> model::Buffer {
        let mut pieces = (0..mapping.buffers.len()).map(|n| self.buffer(mapping, n, traits));
        let direction = mapping.direction as u8;
        let none = model::Buffer { phys: 0, dma_addr: None, size: 0, direction, attrs: mapping.attrs, shared: false };
        let first = pieces.next().unwrap_or(none);
        model::Buffer { size: mapping.bytes, shared: first.shared || pieces.any(|piece| piece.shared), ..first }
    }

    fn buffer(&self, mapping: &Mapping, n: usize, traits: &DeviceTraits) -> model::Buffer {
        let Buffer { phys, direct_dma_addr, size, .. } = mapping.buffers[n];
        // Only the rule that looks at it needs to know.
        let shared = self.machine.rule.look == Look::Shared
            && !traits.coherent
            && mapping.sharing.get(self.sharing(mapping, n)).is_some_and(|sharing| sharing.is_certain());
        let direction = mapping.direction as u8;
        model::Buffer { phys, dma_addr: direct_dma_addr, size, direction, attrs: mapping.attrs, shared }
    }

    /// Index of what a buffer shares its lines with, from this kernel's view, in a mapping's `sharing`.
    pub(super) fn sharing(&self, mapping: &Mapping, n: usize) -> usize {
        let views = mapping.sharing.len() / mapping.buffers.len().max(1);
        n * views + self.view
    }
}
