//! One simulated kernel, driven by steps.
//!
//! Whether a buffer bounces, and whether it finds slots, is the model's decision alone. From the recorded kernel comes
//! only *when* slots are taken and given back, where it bounced the same buffer: the peak of the pool depends on the order
//! of those moments. A buffer that only the simulated kernel bounces holds its slots from its mapping's event to its
//! unmapping's.

mod fullness;
mod hazards;
mod held;
mod last;
mod progress;
mod slots;

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{
    breakdown::Breakdown,
    devices::{Devices, Identity},
    kernel::{Kernel, Taken},
    mapping::Mapping,
    outcome::Outcome,
    pairing::Witnesses,
    settings::Settings,
    step::{Holder, SlotRelease, Step, Synced, Unmapping, Unseen},
    work::Work,
};
use crate::{
    facts::PoolFunction,
    model::{
        concatenation::{MAX_SEGMENT, dma_segments},
        mapping::{Fate, Reason},
        policy::WhenFull,
        pool::{Growing, PoolConfig, Refused, Request, SLOT},
        sharing::Sharing,
    },
    stream::Start,
};
use hazards::NEIGHBOURS;
pub use hazards::{Unsafe, count_unsafe};
use held::{Held, MOST_UNMAPPED, Slots};
pub use last::Last;
use progress::AllInProgress;

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

/// A simulated kernel and what has become of it so far. Only of the mappings of which something becomes: what is common to all
/// settings is counted elsewhere.
#[derive(Clone, Debug)]
pub struct Run {
    kernel: Kernel,
    /// The default pool, then devices' own.
    pools: Vec<Growing>,
    own_pools: HashMap<Option<Identity>, usize>,
    /// Mappings of which not every buffer has been.
    in_progress: AllInProgress,
    held: HashMap<u64, Held>,
    /// Slots held without a mapping.
    unseen: HashMap<u64, Slots>,
    /// Mappings that still hold slots after their unmapping's event, and when that can only mean that the release was missed.
    unmapped: VecDeque<(u64, u64)>,
    /// Releases of slots are recorded.
    slot_releases: bool,
    /// Unmappings for which the kernel gave the slots back before it sent the event, less those for which it did so after
    /// it: of single mappings, and of lists. A kernel keeps one order for each.
    release_first: [i64; 2],
    breakdown: Breakdown,
    work: Work,
    outcome: Outcome,
    reasons: [u64; Reason::ALL.len()],
    neighbours: [u64; 3],
    predicted: Vec<Predicted>,
}

impl Run {
    /// A kernel with these settings that starts where the recording did, and looks at memory from this view.
    pub fn new(settings: Settings, view: usize, start: &Start, witnesses: Witnesses) -> Self {
        let mut pool = Growing::new(settings.pool(), settings.grows);
        pool.first().occupy_foreign(settings.used_at_start);
        let outcome = Outcome {
            name: settings.name.clone(),
            about: settings.about.clone(),
            cache_line_size: settings.decider.cache_line_size,
            minalign: settings.decider.minalign,
            total_slots: pool.total_slots(),
            peak_time_ns: start.time_ns,
            ..Outcome::default()
        };
        Self {
            kernel: Kernel::new(settings, view),
            pools: vec![pool],
            own_pools: HashMap::new(),
            in_progress: AllInProgress::default(),
            held: HashMap::new(),
            unseen: HashMap::new(),
            unmapped: VecDeque::new(),
            slot_releases: witnesses.slot_releases,
            release_first: [0; 2],
            breakdown: Breakdown::default(),
            work: Work::default(),
            outcome,
            reasons: [0; Reason::ALL.len()],
            neighbours: [0; 3],
            predicted: Vec::new(),
        }
    }

    /// What it is configured like.
    pub fn settings(&self) -> &Settings {
        &self.kernel.settings
    }

    /// The view that it looks from.
    pub fn view(&self) -> usize {
        self.kernel.view
    }

    /// Takes a step. When a mapping is complete, returns what is predicted for its buffers; nothing for other steps.
    pub fn step(&mut self, step: &Step, devices: &Devices) -> &[Predicted] {
        self.predicted.clear();
        while let Some((overdue_ns, mapping)) = self.unmapped.front().copied()
            && (overdue_ns < step.time_ns() || self.unmapped.len() > MOST_UNMAPPED)
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
            Step::Synced(synced) => self.sync(synced, devices),
            Step::Unmapped(unmapping) => self.unmap(unmapping, devices),
        }
        self.note_occupancy(step.time_ns());
        &self.predicted
    }

    /// Takes steps, one after the other.
    pub fn steps(&mut self, steps: &[Step], devices: &Devices) {
        for step in steps {
            self.step(step, devices);
        }
    }

    /// The end. `common` is what is the same whatever a kernel does; `unfollowed` what of the mappings that were not followed is
    /// left unsafe, seen from this run's view.
    pub fn finish(mut self, common: &Breakdown, unfollowed: &Unsafe, last: &Last) -> Outcome {
        self.breakdown.add(common);
        self.breakdown.add(&unfollowed.breakdown);
        let total = self.breakdown.total();
        let outcome = &mut self.outcome;
        outcome.add(&total);
        (outcome.lists, outcome.lists_losing_concatenation) = self.breakdown.lists();
        outcome.rows = self.breakdown.rows(last.devices, last.objects, last.symbols);
        for (reason, count) in Reason::ALL.iter().zip(self.reasons).filter(|(_, count)| *count > 0) {
            outcome.bounces_by_reason.insert(name(reason), count);
        }
        for (n, neighbour) in NEIGHBOURS.iter().enumerate() {
            let count = self.neighbours[n] + unfollowed.neighbours[n];
            if count > 0 {
                outcome.unsafe_by_neighbour.insert((*neighbour).to_owned(), count);
            }
        }
        outcome.not_simulated = last.not_simulated;
        outcome.span_ns = last.span_ns;
        outcome.pool_cpu_ns = last.pool_times.and_then(|times| self.work.time_ns(times));
        outcome.pools_added = self.pools.iter().map(Growing::added_pools).sum();
        outcome.transient_pools = self.pools.iter().map(Growing::transient_pools).sum();
        self.outcome
    }

    fn buffer(&mut self, mapping: &Mapping, index: u32, devices: &Devices) {
        let taken = self.kernel.device(mapping.device, devices);
        let progress = self.in_progress.of(&mut self.kernel, mapping, devices);
        let n = index as usize;
        let (fate, refused) = (progress.fates[n], progress.refused);
        let predicted = match (fate, refused) {
            (_, Some((at, _))) if at < index => Predicted::NotReached,
            (Fate::Direct, _) => Predicted::Direct,
            (Fate::Refused { reason, why }, _) => Predicted::Refused(reason, why),
            // The step of an earlier buffer may come after that of the one that was refused; its slots are gone by then.
            (Fate::Bounce { reason, .. }, Some(_)) => Predicted::Bounced(reason),
            (Fate::Bounce { reason, align_mask }, None) => {
                self.bounce(mapping, index, reason, align_mask, taken.unwrap_or_default(), devices)
            }
        };
        let Some(progress) = self.in_progress.get_mut(mapping.id) else { return };
        progress.predicted[n] = predicted;
        if let (Predicted::Refused(_, why), None) = (predicted, progress.refused) {
            progress.refused = Some((index, why));
            // The kernel gives back what the list got until then.
            self.forget(mapping.id);
        }
    }

    fn bounce(
        &mut self,
        mapping: &Mapping,
        index: u32,
        reason: Reason,
        align_mask: u64,
        taken: Taken,
        devices: &Devices,
    ) -> Predicted {
        let buffer = &mapping.buffers[index as usize];
        let request = Request {
            cpu: u32::from(buffer.cpu),
            phys: buffer.phys,
            size: buffer.size,
            align_mask,
            min_align_mask: taken.traits.min_align_mask,
        };
        let pool = self.pool_of(devices.identity(mapping.device), taken);
        let slots = match self.take(pool, &request, buffer.time_ns) {
            Ok(slots) => Some(slots),
            Err(why) if self.kernel.settings.when_full == WhenFull::Fail || why == Refused::NoPool => {
                return Predicted::Refused(reason, why);
            }
            Err(_) => {
                self.outcome.fallbacks += 1;
                None
            }
        };
        self.work.call(PoolFunction::Map, buffer.size);
        self.held.entry(mapping.id).or_default().add(index, slots);
        Predicted::Bounced(reason)
    }

    fn mapped(&mut self, mapping: &Mapping, devices: &Devices) {
        // A mapping without buffers has not been in progress.
        let mut progress = self.in_progress.end(mapping);
        let refused = progress.refused.map(|(_, why)| why);
        std::mem::swap(&mut self.predicted, &mut progress.predicted);
        self.count(mapping, devices, refused, progress.loses_concatenation);
        self.in_progress.give_back(progress);
        if mapping.failed {
            // No unmapping will ever tell how long this one would have lived.
            let bounced = self.predicted.iter().any(|predicted| matches!(predicted, Predicted::Bounced(_)));
            self.outcome.mapped_but_refused_by_kernel += u64::from(bounced && refused.is_none());
            self.forget(mapping.id);
        }
    }

    fn sync(&mut self, synced: &Synced, devices: &Devices) {
        let mapping = &synced.mapping;
        let Some(held) = self.held.get(&mapping.id) else { return };
        let function = if synced.for_device { PoolFunction::SyncForDevice } else { PoolFunction::SyncForCpu };
        for &index in held.bounced() {
            let bytes = synced.bytes_of(&mapping.buffers[index as usize]);
            self.work.call(function, bytes);
            if synced.copies() {
                let device = devices.identity(mapping.device);
                self.breakdown.cell(mapping, index as usize, device).bytes_copied += bytes;
            }
        }
    }

    fn unmap(&mut self, unmapping: &Unmapping, devices: &Devices) {
        let mapping = &unmapping.mapping;
        let Some(held) = self.held.get_mut(&mapping.id) else { return };
        let direct = devices.described(mapping.device).is_some_and(|device| device.iommu_granule.is_none());
        for &index in held.bounced() {
            let size = mapping.buffers[index as usize].size;
            self.work.call(PoolFunction::Unmap, size);
            // Without an IOMMU it is a sync that copies back: dma_direct_unmap_phys().
            if direct && !unmapping.skips_sync() {
                self.work.call(PoolFunction::SyncForCpu, size);
            }
            if unmapping.copies_back() {
                let device = devices.identity(mapping.device);
                self.breakdown.cell(mapping, index as usize, device).bytes_copied += size;
            }
        }
        // Where the kernel bounced too and the slot is known, its own release is the moment, if it is still to come. If it
        // comes before the event on this kernel, it was missed.
        let to_come = self.slot_releases && self.release_first[usize::from(mapping.is_list())] <= 0;
        let slot = |index: u32| mapping.buffers[index as usize].truth.slot();
        let now = held.end(|index| to_come && slot(index).is_some());
        if held.is_over() {
            self.held.remove(&mapping.id);
        } else {
            self.unmapped.push_back((unmapping.time_ns.saturating_add(UNMAPS_WITHIN_NS), mapping.id));
        }
        for slots in now {
            self.release(slots);
        }
    }

    fn release(&mut self, slots: Slots) {
        self.pools[slots.pool].unmap(slots.held);
    }

    fn slot_released(&mut self, release: &SlotRelease, devices: &Devices) {
        match &release.holder {
            Some(holder) => self.give_back(holder),
            None if self.kernel.settings.used_at_start > 0 => {
                let slots = self.slots_of(release, devices);
                self.pools[0].first().release_foreign(slots);
            }
            None => {}
        }
    }

    fn give_back(&mut self, holder: &Holder) {
        let slots = match holder {
            Holder::Unseen(id) => self.unseen.remove(id),
            Holder::Buffer(mapping, index) => {
                let Some(held) = self.held.get_mut(&mapping.id) else { return };
                let slots = held.take(*index);
                if slots.is_some() {
                    self.release_first[usize::from(mapping.is_list())] += if held.is_unmapped() { -1 } else { 1 };
                }
                if held.is_over() {
                    self.held.remove(&mapping.id);
                }
                slots
            }
        };
        if let Some(slots) = slots {
            self.release(slots);
        }
    }

    /// Gives back what a mapping holds, and forgets it.
    fn forget(&mut self, mapping: u64) {
        for slots in self.held.remove(&mapping).into_iter().flat_map(Held::into_slots) {
            self.release(slots);
        }
    }

    fn count(&mut self, mapping: &Mapping, devices: &Devices, refused: Option<Refused>, loses: bool) {
        let device = devices.identity(mapping.device);
        let coherent = self.kernel.device(mapping.device, devices).is_none_or(|taken| taken.traits.coherent);
        for (n, predicted) in self.predicted.iter().enumerate() {
            let sharing = mapping.sharing.get(self.kernel.sharing(mapping, n)).copied().filter(|_| !coherent);
            let cell = self.breakdown.cell(mapping, n, device);
            match predicted {
                Predicted::Bounced(reason) => {
                    cell.bounces += 1;
                    cell.bytes_copied += mapping.buffers[n].size;
                    cell.bounces_not_needed += u64::from(reason.is_alignment() && sharing == Some(Sharing::None));
                    self.reasons[*reason as usize] += 1;
                }
                Predicted::Direct if refused.is_none() => {
                    count_unsafe(cell, &mut self.neighbours, sharing.unwrap_or_default());
                }
                Predicted::Direct | Predicted::Refused(..) | Predicted::NotReached => {}
            }
        }
        if let Some(why) = refused {
            self.breakdown.cell(mapping, 0, device).failed += 1;
            *self.outcome.failed_by_reason.entry(name(&why)).or_default() += 1;
        }
        if loses {
            let segments = mapping.buffers.iter().map(|buffer| (buffer.phys, buffer.size));
            let granule = devices.traits(mapping.device).iommu_granule.unwrap_or(1);
            let before = dma_segments(segments, granule, MAX_SEGMENT);
            self.breakdown.loses_concatenation(device, before, mapping.buffers.len() as u64);
        }
    }
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
