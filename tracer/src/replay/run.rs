//! One simulated kernel, driven by steps.
//!
//! Whether a buffer bounces, and whether it finds slots, is the model's decision alone. From the recorded kernel comes
//! only *when* slots are taken and given back, where it bounced the same buffer: the peak of the pool depends on the order
//! of those moments. A buffer that only the simulated kernel bounces holds its slots from its mapping's event to its
//! unmapping's.

mod held;

use std::collections::{HashMap, VecDeque};

use super::{
    devices::Devices,
    mapping::Mapping,
    outcome::{Breakdown, Outcome},
    pairing::Witnesses,
    settings::Settings,
    step::{Holder, SlotRelease, Step, Unmapping, Unseen},
};
use crate::{
    event::DeviceId,
    model::{
        mapping::{Buffer, DeviceTraits, Fate, Machine, Reason, list_loses_concatenation, single},
        pool::{Bounce, Pool, Refused, Request, SLOT},
    },
    stream::Start,
};
use held::Held;

/// Longer than the kernel takes from the event of an unmapping to the last slot given back.
const UNMAPS_WITHIN_NS: u64 = 1_000_000;

/// What the model says of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predicted {
    /// Mapped as it is.
    Direct,
    /// Bounced, and why.
    Bounced(Reason),
    /// Had to bounce for the first, and could not for the second.
    Refused(Reason, Refused),
    /// Belongs to a list that was refused for an earlier segment.
    NotReached,
}

/// A simulated kernel and what has become of it so far.
#[derive(Debug)]
pub struct Run {
    settings: Settings,
    machine: Machine,
    pool: Pool,
    traits: HashMap<DeviceId, DeviceTraits>,
    /// Mappings of which not every buffer has been.
    in_progress: HashMap<u64, InProgress>,
    held: HashMap<u64, Held>,
    /// Slots held without a mapping.
    unseen: HashMap<u64, Bounce>,
    /// Mappings that still hold slots after their unmapping's event, and when that can only mean that the release was missed.
    unmapped: VecDeque<(u64, u64)>,
    /// Releases of slots are recorded.
    slot_releases: bool,
    /// Unmappings for which the kernel gave the slots back before it sent the event, less those for which it did so after
    /// it: of single mappings, and of lists. A kernel keeps one order for each.
    release_first: [i64; 2],
    breakdown: Breakdown,
    outcome: Outcome,
    predicted: Vec<Predicted>,
}

/// A mapping of which not every buffer has been.
#[derive(Debug)]
struct InProgress {
    fates: Vec<Fate>,
    loses_concatenation: bool,
    predicted: Vec<Predicted>,
    refused: Option<(u32, Refused)>,
}

impl Run {
    /// A kernel with these settings that starts where the recording did.
    pub fn new(settings: Settings, start: &Start, witnesses: Witnesses) -> Self {
        let mut pool = Pool::new(settings.pool());
        pool.occupy_foreign(settings.used_at_start);
        let outcome = Outcome {
            name: settings.name.clone(),
            cache_line_size: settings.decider.cache_line_size,
            minalign: settings.decider.minalign,
            total_slots: pool.total_slots(),
            peak_time_ns: start.time_ns,
            ..Outcome::default()
        };
        Self {
            machine: settings.machine(),
            settings,
            pool,
            traits: HashMap::new(),
            in_progress: HashMap::new(),
            held: HashMap::new(),
            unseen: HashMap::new(),
            unmapped: VecDeque::new(),
            slot_releases: witnesses.slot_releases,
            release_first: [0; 2],
            breakdown: Breakdown::default(),
            outcome,
            predicted: Vec::new(),
        }
    }

    /// Takes a step. When a mapping is complete, returns what is predicted for its buffers; nothing for other steps.
    pub fn step(&mut self, step: &Step, devices: &Devices) -> &[Predicted] {
        self.predicted.clear();
        while let Some((overdue_ns, mapping)) = self.unmapped.front().copied()
            && overdue_ns < step.time_ns()
        {
            self.unmapped.pop_front();
            self.forget(mapping);
        }
        match step {
            Step::Buffer { mapping, index, replaces } => {
                if let Some(holder) = replaces {
                    self.give_back(holder);
                }
                self.buffer(mapping, *index, devices);
            }
            Step::Mapped { mapping, replaces } => {
                if let Some(gone) = replaces {
                    self.forget(gone.id);
                }
                self.mapped(mapping, devices);
            }
            Step::Unseen(unseen) => self.take_unseen(unseen, devices),
            Step::SlotReleased(release) => self.slot_released(release, devices),
            Step::Unmapped(unmapping) => self.unmap(unmapping, devices),
        }
        &self.predicted
    }

    /// The end.
    pub fn finish(mut self, devices: &Devices) -> Outcome {
        self.outcome.add(&self.breakdown.total());
        self.outcome.rows = self.breakdown.rows(devices);
        self.outcome
    }

    /// `None` when the device's description was lost.
    fn traits(&mut self, id: DeviceId, devices: &Devices) -> Option<DeviceTraits> {
        if let Some(traits) = self.traits.get(&id) {
            return Some(*traits);
        }
        let described = devices.described(id)?;
        let mut traits = devices.traits(id);
        traits.coherent = self.settings.coherent(&described.name, traits.coherent);
        // `swiotlb=force` shows in every device's pool, and is the machine's; else the device's pool is one of its own.
        traits.force_bounce &= !self.settings.captured_force;
        self.traits.insert(id, traits);
        Some(traits)
    }

    fn buffer(&mut self, mapping: &Mapping, index: u32, devices: &Devices) {
        let traits = self.traits(mapping.device, devices);
        let machine = &self.machine;
        let progress = self.in_progress.entry(mapping.id).or_insert_with(|| match &traits {
            Some(traits) => InProgress::new(machine, traits, mapping),
            None => InProgress::unknown(mapping),
        });
        let n = index as usize;
        let predicted = match (progress.fates[n], progress.refused) {
            (_, Some((at, _))) if at < index => Predicted::NotReached,
            (Fate::Direct, _) => Predicted::Direct,
            (Fate::Refused { reason, why }, _) => Predicted::Refused(reason, why),
            // The step of an earlier buffer may come after that of the one that was refused; its slots are gone by then.
            (Fate::Bounce { reason, .. }, Some(_)) => Predicted::Bounced(reason),
            (Fate::Bounce { reason, align_mask }, None) => {
                let buffer = &mapping.buffers[n];
                let request = Request {
                    cpu: u32::from(buffer.cpu),
                    phys: buffer.phys,
                    size: buffer.size,
                    align_mask,
                    min_align_mask: traits.map_or(0, |traits| traits.min_align_mask),
                };
                match take(&mut self.pool, &mut self.outcome, &request, buffer.time_ns) {
                    Ok(bounce) => {
                        self.held.entry(mapping.id).or_default().add(index, bounce);
                        Predicted::Bounced(reason)
                    }
                    Err(why) => Predicted::Refused(reason, why),
                }
            }
        };
        progress.predicted[n] = predicted;
        if let (Predicted::Refused(_, why), None) = (predicted, progress.refused) {
            progress.refused = Some((index, why));
            // The kernel gives back what the list got until then.
            self.forget(mapping.id);
        }
    }

    fn mapped(&mut self, mapping: &Mapping, devices: &Devices) {
        // A mapping without buffers has not been in progress.
        let progress = self.in_progress.remove(&mapping.id).unwrap_or_else(|| InProgress::unknown(mapping));
        let refused = progress.refused.map(|(_, why)| why);
        self.predicted = progress.predicted;
        self.count(mapping, devices, refused, progress.loses_concatenation);
        if mapping.failed {
            // No unmapping will ever tell how long this one would have lived.
            let bounced = self.predicted.iter().any(|predicted| matches!(predicted, Predicted::Bounced(_)));
            self.outcome.mapped_but_refused_by_kernel += u64::from(bounced && refused.is_none());
            self.forget(mapping.id);
        }
    }

    fn unmap(&mut self, unmapping: &Unmapping, devices: &Devices) {
        let Some(mapping) = &unmapping.mapping else { return };
        let Some(held) = self.held.get_mut(&mapping.id) else { return };
        if unmapping.copies_back() {
            for index in held.bounced() {
                self.breakdown.copied_back(mapping, index as usize, devices);
            }
        }
        // Where the kernel bounced too and the slot is known, its own release is the moment, if it is still to come. If it
        // comes before the event on this kernel, it was missed.
        let to_come = self.slot_releases && self.release_first[usize::from(mapping.is_list())] <= 0;
        let slot = |index: u32| mapping.buffers[index as usize].truth.slot();
        for bounce in held.end(|index| to_come && slot(index).is_some()) {
            self.pool.unmap(bounce);
        }
        if held.is_over() {
            self.held.remove(&mapping.id);
        } else {
            self.unmapped.push_back((unmapping.time_ns.saturating_add(UNMAPS_WITHIN_NS), mapping.id));
        }
    }

    fn slot_released(&mut self, release: &SlotRelease, devices: &Devices) {
        match &release.holder {
            Some(holder) => self.give_back(holder),
            None if self.settings.used_at_start > 0 => {
                let slots = self.slots_of(release, devices);
                self.pool.release_foreign(slots);
            }
            None => {}
        }
    }

    /// How many slots a mapping from before the recording took: `swiotlb_release_slots()` in `kernel/dma/swiotlb.c`,
    /// without the padding in front, which only the pool knows.
    fn slots_of(&mut self, release: &SlotRelease, devices: &Devices) -> u64 {
        let traits = self.traits(release.device, devices).unwrap_or_default();
        let offset = release.slot & traits.min_align_mask & (SLOT - 1);
        let granule = traits.iommu_granule.filter(|granule| *granule > 0).unwrap_or(1);
        release.size.saturating_add(offset).checked_next_multiple_of(granule).unwrap_or(u64::MAX).div_ceil(SLOT)
    }

    fn take_unseen(&mut self, unseen: &Unseen, devices: &Devices) {
        if !self.settings.takes_unseen || unseen.slot.is_none() {
            return;
        }
        let traits = self.traits(unseen.device, devices).unwrap_or_default();
        let request = Request {
            cpu: u32::from(unseen.cpu),
            phys: unseen.phys,
            size: unseen.size,
            align_mask: unseen.align_mask,
            min_align_mask: traits.min_align_mask,
        };
        if let Ok(bounce) = take(&mut self.pool, &mut self.outcome, &request, unseen.time_ns) {
            self.outcome.slots_without_mapping += bounce.slots();
            self.unseen.insert(unseen.id, bounce);
        }
    }

    fn give_back(&mut self, holder: &Holder) {
        let bounce = match holder {
            Holder::Unseen(id) => self.unseen.remove(id),
            Holder::Buffer(mapping, index) => {
                let Some(held) = self.held.get_mut(&mapping.id) else { return };
                let bounce = held.take(*index);
                if bounce.is_some() {
                    self.release_first[usize::from(mapping.is_list())] += if held.is_unmapped() { -1 } else { 1 };
                }
                if held.is_over() {
                    self.held.remove(&mapping.id);
                }
                bounce
            }
        };
        if let Some(bounce) = bounce {
            self.pool.unmap(bounce);
        }
    }

    /// Gives back what a mapping holds, and forgets it.
    fn forget(&mut self, mapping: u64) {
        for bounce in self.held.remove(&mapping).into_iter().flat_map(Held::into_bounces) {
            self.pool.unmap(bounce);
        }
    }

    fn count(&mut self, mapping: &Mapping, devices: &Devices, refused: Option<Refused>, loses: bool) {
        let predicted = &self.predicted;
        let bounced = |n: usize| matches!(predicted.get(n), Some(Predicted::Bounced(_)));
        self.breakdown.add(mapping, devices, refused.is_some(), bounced);
        let outcome = &mut self.outcome;
        outcome.lists += u64::from(mapping.is_list());
        outcome.lists_losing_concatenation += u64::from(loses);
        outcome.not_simulated += u64::from(devices.described(mapping.device).is_none());
        if let Some(why) = refused {
            *outcome.failed_by_reason.entry(name(&why)).or_default() += 1;
        }
        for predicted in predicted {
            if let Predicted::Bounced(reason) = predicted {
                *outcome.bounces_by_reason.entry(name(reason)).or_default() += 1;
            }
        }
    }
}

impl InProgress {
    fn new(machine: &Machine, device: &DeviceTraits, mapping: &Mapping) -> Self {
        let direction = mapping.direction as u8;
        let lengths = || mapping.buffers.iter().map(|buffer| buffer.size);
        let loses_concatenation = mapping.is_list() && list_loses_concatenation(machine, device, direction, lengths());
        let fate = |buffer: &super::mapping::Buffer| {
            // A list behind an IOMMU that has no small segment never reaches the pool: iommu_dma_map_sg().
            if mapping.is_list() && device.iommu_granule.is_some() && !loses_concatenation {
                return Fate::Direct;
            }
            let dma_addr = buffer.direct_dma_addr;
            single(
                machine,
                device,
                &Buffer { phys: buffer.phys, dma_addr, size: buffer.size, direction, attrs: mapping.attrs },
            )
        };
        Self { fates: mapping.buffers.iter().map(fate).collect(), loses_concatenation, ..Self::unknown(mapping) }
    }

    /// Of a device of which nothing is known.
    fn unknown(mapping: &Mapping) -> Self {
        let buffers = mapping.buffers.len();
        Self {
            fates: vec![Fate::Direct; buffers],
            loses_concatenation: false,
            predicted: vec![Predicted::Direct; buffers],
            refused: None,
        }
    }
}

/// Takes slots, and notes the peak. The kernel's own mark is lifted by mappings too, not by what was there before.
fn take(pool: &mut Pool, outcome: &mut Outcome, request: &Request, time_ns: u64) -> Result<Bounce, Refused> {
    let bounce = pool.map(request)?;
    if pool.used_slots() > outcome.peak_slots {
        (outcome.peak_slots, outcome.peak_time_ns) = (pool.used_slots(), time_ns);
    }
    Ok(bounce)
}

/// The name that serde gives to a unit variant.
fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
