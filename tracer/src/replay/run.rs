//! One simulated kernel, driven by operations.

use std::collections::HashMap;

use super::devices::Devices;
use super::mapping::{ATTR_SKIP_CPU_SYNC, Mapping, MappingId, Operation};
use super::outcome::{Breakdown, Outcome};
use super::settings::Settings;
use crate::event::Direction;
use crate::model::mapping::{Buffer, DeviceTraits, Fate, Machine, Reason, list_loses_concatenation, single};
use crate::model::pool::{Bounce, Pool, Refused, Request};
use crate::stream::Start;

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
    held: HashMap<MappingId, Vec<Bounce>>,
    breakdown: Breakdown,
    outcome: Outcome,
    predicted: Vec<Predicted>,
}

impl Run {
    /// A kernel with these settings that starts where the recording did.
    pub fn new(settings: Settings, start: &Start) -> Self {
        let mut pool = Pool::new(settings.pool());
        pool.occupy_foreign(start.kernel.pool.used_at_start);
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
            held: HashMap::new(),
            breakdown: Breakdown::default(),
            outcome,
            predicted: Vec::new(),
        }
    }

    /// Takes a step. Returns what is predicted for the buffers of a mapping; nothing for other steps.
    pub fn operation(&mut self, operation: &Operation, devices: &Devices) -> &[Predicted] {
        self.predicted.clear();
        match operation {
            Operation::Map(mapping) => self.map(mapping, devices),
            Operation::Unmap { id, .. } => self.unmap(*id),
            Operation::ForeignSlots { size } => self.pool.release_foreign(size.div_ceil(crate::model::pool::SLOT)),
            Operation::Orphan { .. } => {}
        }
        &self.predicted
    }

    /// The end.
    pub fn finish(mut self, devices: &Devices) -> Outcome {
        self.outcome.peak_slots = self.pool.peak_slots();
        self.outcome.rows = self.breakdown.rows(devices);
        self.outcome
    }

    fn map(&mut self, mapping: &Mapping, devices: &Devices) {
        let mut device = devices.traits(mapping.device);
        if !self.settings.coherence.is_empty() {
            device.coherent = self.settings.coherent(&devices.get(mapping.device).name, device.coherent);
        }
        let lengths = || mapping.buffers.iter().map(|buffer| buffer.size);
        let loses =
            mapping.list && list_loses_concatenation(&self.machine, &device, mapping.direction as u8, lengths());
        let mut bounces = Vec::new();
        let mut refused = None;
        for buffer in &mapping.buffers {
            let predicted = if refused.is_some() {
                Predicted::NotReached
            } else {
                let dma_addr = buffer.exact.then(|| devices.dma_addr(mapping.device, buffer.phys));
                let buffer = Buffer {
                    phys: buffer.phys,
                    dma_addr,
                    size: buffer.size,
                    direction: mapping.direction as u8,
                    attrs: mapping.attrs,
                };
                self.buffer(&device, &buffer, mapping.cpu, &mut bounces)
            };
            if let Predicted::Refused(_, why) = predicted {
                refused = Some(why);
            }
            self.predicted.push(predicted);
        }
        self.note_peak(mapping.time_ns);
        self.count(mapping, devices, refused, loses);
        if refused.is_some() {
            self.give_back(bounces);
        } else if mapping.refused() {
            // No unmapping will ever tell how long this one would have lived.
            self.outcome.mapped_but_refused_by_kernel += 1;
            self.give_back(bounces);
        } else if !bounces.is_empty() {
            self.held.insert(mapping.id, bounces);
        }
    }

    fn buffer(&mut self, device: &DeviceTraits, buffer: &Buffer, cpu: u16, bounces: &mut Vec<Bounce>) -> Predicted {
        let (reason, align_mask) = match single(&self.machine, device, buffer) {
            Fate::Direct => return Predicted::Direct,
            Fate::Refused { reason, why } => return Predicted::Refused(reason, why),
            Fate::Bounce { reason, align_mask } => (reason, align_mask),
        };
        let request = Request {
            cpu: u32::from(cpu),
            phys: buffer.phys,
            size: buffer.size,
            align_mask,
            min_align_mask: device.min_align_mask,
        };
        match self.pool.map(&request) {
            Ok(bounce) => {
                bounces.push(bounce);
                Predicted::Bounced(reason)
            }
            Err(why) => Predicted::Refused(reason, why),
        }
    }

    fn unmap(&mut self, id: MappingId) {
        if let Some(bounces) = self.held.remove(&id) {
            self.give_back(bounces);
        }
    }

    fn give_back(&mut self, bounces: Vec<Bounce>) {
        for bounce in bounces {
            self.pool.unmap(bounce);
        }
    }

    fn note_peak(&mut self, time_ns: u64) {
        if self.pool.peak_slots() > self.outcome.peak_slots {
            self.outcome.peak_slots = self.pool.peak_slots();
            self.outcome.peak_time_ns = time_ns;
        }
    }

    fn count(&mut self, mapping: &Mapping, devices: &Devices, refused: Option<Refused>, loses: bool) {
        let predicted = &self.predicted;
        let bounced = |n: usize| matches!(predicted.get(n), Some(Predicted::Bounced(_)));
        let tally = self.breakdown.add(mapping, devices, refused.is_some(), bounced, |size| copied(mapping, size));
        let outcome = &mut self.outcome;
        outcome.mappings += tally.mappings;
        outcome.buffers += tally.buffers;
        outcome.bounces += tally.bounces;
        outcome.bytes_copied += tally.bytes_copied;
        outcome.failed += tally.failed;
        outcome.lists += u64::from(mapping.list);
        outcome.lists_losing_concatenation += u64::from(loses);
        if let Some(why) = refused {
            *outcome.failed_by_reason.entry(name(&why)).or_default() += 1;
            return;
        }
        for predicted in predicted {
            if let Predicted::Bounced(reason) = predicted {
                *outcome.bounces_by_reason.entry(name(reason)).or_default() += 1;
            }
        }
    }
}

/// Bytes copied for a bounced buffer of `size` bytes: `swiotlb_tbl_map_single()` copies it in whatever the direction;
/// what the device may write is copied back when it is unmapped, unless the driver takes care of that itself.
pub fn copied(mapping: &Mapping, size: u64) -> u64 {
    let back = mapping.direction != Direction::ToDevice && mapping.attrs & ATTR_SKIP_CPU_SYNC == 0;
    size * (1 + u64::from(back))
}

/// The name that serde gives to a unit variant.
fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
