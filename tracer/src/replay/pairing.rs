//! Events into mappings with their truth.
//!
//! In the kernel a bounce goes, on one task: `swiotlb_bounced`, the return of `swiotlb_tbl_map_single()`, and at the very end
//! the mapping's own event. Interrupts nest strictly in between. So each task keeps what no mapping has claimed yet, and
//! a mapping claims the newest that fits its device, length and address.
//!
//! Steps leave in the order in which slots were taken and given back: a mapping takes the place of its last slot's record,
//! an unmapping that of its first slot given back. Until a slot is claimed, what comes after it waits, up to
//! [`WINDOW`] records.

mod lifetimes;
mod pending;

use std::collections::VecDeque;

use lifetimes::Lifetimes;
use pending::{Pending, Slot, Task};

use super::devices::Devices;
use super::mapping::{Buffer, Mapping, MappingId, Operation, Truth, Unknown};
use crate::event::{DeviceId, Direction, Event, MAPPING_ERROR, Segment, What};
use crate::facts::Counters;
use crate::stream::Start;

/// How many records may wait for a slot to be claimed. Between a slot and its mapping's event lie microseconds.
const WINDOW: usize = 1024;
/// Pairs events; see the module.
#[derive(Debug)]
pub struct Pairing {
    hooks: Hooks,
    page_mask: u64,
    next: MappingId,
    pending: Pending,
    lifetimes: Lifetimes,
    waiting: VecDeque<Waiting>,
    /// Number of the first of `waiting`.
    first_waiting: u64,
    lost_slots: bool,
}

#[derive(Debug, Default)]
struct Hooks {
    slot_map: bool,
    bounced: bool,
}

#[derive(Debug)]
enum Waiting {
    Ready(Operation),
    /// A slot that no mapping has claimed.
    Slot {
        device: DeviceId,
        time_ns: u64,
        size: u64,
        given_back: bool,
    },
    /// Claimed by a mapping that stands elsewhere.
    Nothing,
}

impl Pairing {
    /// For a stream with this beginning.
    pub fn new(start: &Start) -> Self {
        let attached = |subject: &str| start.hooks.iter().any(|hook| hook.attached && hook.subject == subject);
        Self {
            hooks: Hooks { slot_map: attached("slot_map"), bounced: attached("bounced") },
            page_mask: u64::from(start.kernel.page_size.max(1)) - 1,
            next: 0,
            pending: Pending::default(),
            lifetimes: Lifetimes::default(),
            waiting: VecDeque::new(),
            first_waiting: 0,
            lost_slots: false,
        }
    }

    /// Learns of losses: from now on a missing slot proves nothing.
    pub fn losses(&mut self, counters: &Counters) {
        self.lost_slots |= counters.lost.keys().any(|name| {
            ["slot_map", "bounced", "missed_return", "unpaired_return", "calls_full"]
                .iter()
                .any(|part| name.contains(part))
        });
    }

    /// Takes in one event; what is settled by it goes to `out`.
    pub fn event(&mut self, event: &Event, segments: &[Segment], devices: &mut Devices, out: &mut Vec<Operation>) {
        let task = Task::of(event);
        match event.what {
            What::Kmalloc { .. } | What::Kfree { .. } => return,
            What::Bounced { device, size, .. } => {
                self.pending.add_attempt(task, devices.identity(device), size);
                return;
            }
            What::SlotMap { device, phys, slot, size, .. } => {
                let identity = devices.identity(device);
                let found = (slot != MAPPING_ERROR).then_some(slot);
                let place = self.first_waiting + self.waiting.len() as u64;
                self.pending.add_slot(task, Slot { device: identity, phys, size, found, place });
                self.waiting.push_back(Waiting::Slot {
                    device,
                    time_ns: event.time_ns,
                    size,
                    given_back: found.is_none(),
                });
            }
            What::SlotUnmap { slot, size, .. } => self.slot_given_back(slot, size, event.time_ns),
            What::Map { device, phys, dma_addr, size, direction, attrs } => {
                self.single(event, task, devices, device, (phys, dma_addr, size), direction, attrs);
            }
            What::MapSg { device, list, nents, ents, direction, attrs, .. } => {
                self.list(event, task, devices, segments, device, (list, nents, ents), direction, attrs);
            }
            What::Unmap { device, dma_addr, size, .. } => {
                let ended = self.lifetimes.end_single(devices.identity(device), dma_addr, size);
                self.unmapped(ended, event.time_ns);
            }
            What::UnmapSg { device, list, .. } => {
                let ended = self.lifetimes.end_list(devices.identity(device), list);
                self.unmapped(ended, event.time_ns);
            }
        }
        self.release(out, WINDOW);
    }

    /// The stream has ended: whatever waits goes to `out`.
    pub fn finish(&mut self, out: &mut Vec<Operation>) {
        self.release(out, 0);
    }

    #[expect(clippy::too_many_arguments, reason = "an event's fields, which nothing else groups")]
    fn single(
        &mut self,
        event: &Event,
        task: Task,
        devices: &mut Devices,
        device: DeviceId,
        (phys, dma_addr, size): (u64, u64, u64),
        direction: Direction,
        attrs: u64,
    ) {
        let identity = devices.identity(device);
        let attempted = self.pending.claim_attempt(task, identity, size);
        let claimed =
            self.pending.claim_newest(task, |slot| slot.device == identity && slot.size == size && slot.phys == phys);
        let refused = dma_addr == MAPPING_ERROR;
        let through_iommu = devices.traits(device).iommu_granule.is_some();
        let truth = match claimed {
            Some(Slot { found: Some(_), .. }) if !refused => Truth::Bounced,
            _ if refused => Truth::Refused,
            Some(_) => Truth::Unknown(Unknown::EventsLost),
            None if attempted => Truth::Bounced,
            None if !through_iommu && dma_addr == devices.dma_addr(device, phys) => Truth::Direct,
            None => self.unseen(),
        };
        if truth == Truth::Direct && !through_iommu {
            devices.learn_offset(device, phys, dma_addr);
        }
        let id = self.number();
        if !refused {
            self.lifetimes.begin_single(identity, dma_addr, size, id);
        }
        let mapping = Mapping {
            id,
            time_ns: event.time_ns,
            cpu: event.cpu,
            device,
            direction,
            attrs,
            list: false,
            ents: u32::from(!refused),
            buffers: vec![Buffer { phys, exact: true, size, truth }],
            truncated: 0,
        };
        self.place(mapping, &claimed.into_iter().collect::<Vec<_>>());
    }

    #[expect(clippy::too_many_arguments, reason = "an event's fields, which nothing else groups")]
    fn list(
        &mut self,
        event: &Event,
        task: Task,
        devices: &mut Devices,
        segments: &[Segment],
        device: DeviceId,
        (list, nents, ents): (u64, u32, u32),
        direction: Direction,
        attrs: u64,
    ) {
        let identity = devices.identity(device);
        let refused = ents == 0;
        let page_mask = self.page_mask;
        let per_element = segments.len() == ents as usize;
        let through_iommu = devices.traits(device).iommu_granule.is_some();
        let mut claims = Vec::new();
        let mut buffers = Vec::with_capacity(segments.len());
        let mut reached = true;
        for segment in segments {
            let size = u64::from(segment.length);
            let offset = u64::from(segment.offset) & page_mask;
            let attempted = self.pending.claim_attempt(task, identity, size);
            let claimed = self.pending.claim_oldest(task, |slot| {
                slot.device == identity && slot.size == size && slot.phys & page_mask == offset
            });
            let truth = match claimed {
                Some(Slot { found: None, .. }) => Truth::Refused,
                Some(_) => Truth::Bounced,
                None if attempted && self.hooks.slot_map => Truth::Unknown(Unknown::EventsLost),
                None if attempted => Truth::Bounced,
                None if !reached => Truth::NotReached,
                None => self.unseen(),
            };
            reached &= truth != Truth::Refused;
            let direct_phys = segment.dma_addr.wrapping_sub(devices.dma_addr(device, 0));
            let (phys, exact) = match (claimed, truth) {
                (Some(slot), _) => (slot.phys, true),
                (None, Truth::Direct) if per_element && !through_iommu => (direct_phys, true),
                _ => (offset, false),
            };
            claims.extend(claimed);
            buffers.push(Buffer { phys, exact, size, truth });
        }
        if refused && !buffers.iter().any(|buffer| buffer.truth == Truth::Refused) {
            // No slot was refused: there was no pool to ask, or the hook did not see it. Which one it was is not known.
            for buffer in &mut buffers {
                buffer.truth = Truth::Unknown(Unknown::NoHook);
            }
        }
        let id = self.number();
        if !refused {
            self.lifetimes.begin_list(identity, list, id);
        }
        let truncated = nents.saturating_sub(segments.len() as u32);
        let mapping = Mapping {
            id,
            time_ns: event.time_ns,
            cpu: event.cpu,
            device,
            direction,
            attrs,
            list: true,
            ents,
            buffers,
            truncated,
        };
        self.place(mapping, &claims);
    }

    /// The truth about a buffer for which no slot was seen.
    fn unseen(&self) -> Truth {
        if self.lost_slots {
            Truth::Unknown(Unknown::EventsLost)
        } else if self.hooks.slot_map || self.hooks.bounced {
            Truth::Direct
        } else {
            Truth::Unknown(Unknown::NoHook)
        }
    }

    fn number(&mut self) -> MappingId {
        self.next += 1;
        self.next - 1
    }

    /// Puts a mapping where its last slot stands, or at the end.
    fn place(&mut self, mapping: Mapping, claims: &[Slot]) {
        let id = mapping.id;
        let mut mapping = Some(Waiting::Ready(Operation::Map(mapping)));
        for claim in claims.iter().rev() {
            let Some(entry) = self.waiting.get_mut((claim.place - self.first_waiting) as usize) else { continue };
            if let Waiting::Slot { given_back: false, .. } = entry
                && let Some(slot) = claim.found
            {
                self.lifetimes.hold(slot, id);
            }
            *entry = mapping.take().unwrap_or(Waiting::Nothing);
        }
        self.waiting.extend(mapping);
    }

    fn slot_given_back(&mut self, slot: u64, size: u64, time_ns: u64) {
        if let Some((id, ended)) = self.lifetimes.slot_given_back(slot) {
            self.unmapped(ended.then_some(id), time_ns);
        } else if let Some(place) = self.pending.place_of(slot) {
            // A list that fails gives back what it has got before its event comes.
            let at = (place - self.first_waiting) as usize;
            if let Some(Waiting::Slot { given_back, .. }) = self.waiting.get_mut(at) {
                *given_back = true;
            }
        } else {
            self.waiting.push_back(Waiting::Ready(Operation::ForeignSlots { size }));
        }
    }

    fn unmapped(&mut self, ended: Option<MappingId>, time_ns: u64) {
        let ended = ended.map(|id| Waiting::Ready(Operation::Unmap { id, time_ns }));
        self.waiting.extend(ended);
    }

    /// Lets go what is settled, and beyond `window` records also what is not.
    fn release(&mut self, out: &mut Vec<Operation>, window: usize) {
        while let Some(front) = self.waiting.front() {
            if matches!(front, Waiting::Slot { .. }) && self.waiting.len() <= window {
                return;
            }
            match self.waiting.pop_front() {
                Some(Waiting::Ready(operation)) => out.push(operation),
                Some(Waiting::Slot { device, time_ns, size, .. }) => {
                    let place = self.first_waiting;
                    self.pending.forget(place);
                    out.push(Operation::Orphan { device, time_ns, size });
                }
                Some(Waiting::Nothing) | None => {}
            }
            self.first_waiting += 1;
        }
    }
}

#[cfg(test)]
mod tests;
