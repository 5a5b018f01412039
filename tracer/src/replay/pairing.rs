//! Events into mappings with their truth.
//!
//! In the kernel a bounce goes, on one task: `swiotlb_bounced`, the return of `swiotlb_tbl_map_single()`, and at the very end
//! the mapping's own event. Interrupts nest strictly in between. So each task keeps what no mapping has claimed yet, and
//! a mapping claims the newest that fits its device, length and address.
//!
//! Steps leave in the order in which slots were taken and given back: a mapping takes the place of its last slot's record,
//! an unmapping that of its first slot given back. Until a slot is claimed, what comes after it waits, up to
//! [`WINDOW`] records.

use std::collections::{HashMap, VecDeque};

use super::devices::{Devices, Identity};
use super::mapping::{Buffer, Mapping, MappingId, Operation, Truth, Unknown};
use crate::event::{DeviceId, Direction, Event, MAPPING_ERROR, Segment, What};
use crate::facts::Counters;
use crate::stream::Start;

/// How many records may wait for a slot to be claimed. Between a slot and its mapping's event lie microseconds.
const WINDOW: usize = 1024;
/// Unclaimed attempts to bounce kept for a task.
const ATTEMPTS: usize = 64;

/// A task, or one CPU's idle task, of which all have thread id 0.
type Task = (u32, u16);

/// Pairs events; see the module.
#[derive(Debug)]
pub struct Pairing {
    hooks: Hooks,
    page_mask: u64,
    next: MappingId,
    slots: HashMap<Task, Vec<Slot>>,
    attempts: HashMap<Task, Vec<Attempt>>,
    /// Mappings in progress by device, DMA address and length.
    singles: HashMap<(Identity, u64, u64), Vec<MappingId>>,
    /// Scatterlists in progress by device and address of the first entry.
    lists: HashMap<(Identity, u64), Vec<MappingId>>,
    /// Which mapping holds a slot.
    holders: HashMap<u64, MappingId>,
    /// Bounced mappings in progress.
    bounced: HashMap<MappingId, Held>,
    waiting: VecDeque<Waiting>,
    /// Number of the first of `waiting`.
    first_waiting: u64,
    lost_slots: bool,
    /// Attempts to bounce that the kernel announced.
    pub attempts_seen: u64,
}

/// A bounced mapping: it is gone with its first slot given back or its unmapping's event, whichever comes first, and
/// forgotten with the last of them.
#[derive(Debug, Default)]
struct Held {
    slots: u32,
    gone: bool,
    event_seen: bool,
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

#[derive(Clone, Copy, Debug)]
struct Slot {
    device: Identity,
    phys: u64,
    size: u64,
    /// `None` when no slots were found.
    slot: Option<u64>,
    /// Its place in the queue.
    place: u64,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    device: Identity,
    size: u64,
}

impl Pairing {
    /// For a stream with this beginning.
    pub fn new(start: &Start) -> Self {
        let attached = |subject: &str| start.hooks.iter().any(|hook| hook.attached && hook.subject == subject);
        Self {
            hooks: Hooks { slot_map: attached("slot_map"), bounced: attached("bounced") },
            page_mask: u64::from(start.kernel.page_size.max(1)) - 1,
            next: 0,
            slots: HashMap::new(),
            attempts: HashMap::new(),
            singles: HashMap::new(),
            lists: HashMap::new(),
            holders: HashMap::new(),
            bounced: HashMap::new(),
            waiting: VecDeque::new(),
            first_waiting: 0,
            lost_slots: false,
            attempts_seen: 0,
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
        let task = (event.task, if event.task == 0 { event.cpu } else { 0 });
        match event.what {
            What::Kmalloc { .. } | What::Kfree { .. } => return,
            What::Bounced { device, size, .. } => {
                self.attempts_seen += 1;
                let attempts = self.attempts.entry(task).or_default();
                if attempts.len() == ATTEMPTS {
                    attempts.remove(0);
                }
                attempts.push(Attempt { device: devices.identity(device), size });
                return;
            }
            What::SlotMap { device, phys, slot, size, .. } => {
                let identity = devices.identity(device);
                let slot = (slot != MAPPING_ERROR).then_some(slot);
                let place = self.first_waiting + self.waiting.len() as u64;
                self.slots.entry(task).or_default().push(Slot { device: identity, phys, size, slot, place });
                self.waiting.push_back(Waiting::Slot {
                    device,
                    time_ns: event.time_ns,
                    size,
                    given_back: slot.is_none(),
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
                let key = (devices.identity(device), dma_addr, size);
                let id = pop(&mut self.singles, key);
                self.unmap(id, event.time_ns);
            }
            What::UnmapSg { device, list, .. } => {
                let id = pop(&mut self.lists, (devices.identity(device), list));
                self.unmap(id, event.time_ns);
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
        let attempted = self.claim_attempt(task, identity, size);
        let claimed = self.claim(task, |slot| slot.device == identity && slot.size == size && slot.phys == phys);
        let refused = dma_addr == MAPPING_ERROR;
        let through_iommu = devices.traits(device).iommu_granule.is_some();
        let truth = match claimed {
            Some(Slot { slot: Some(_), .. }) if !refused => Truth::Bounced,
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
            self.singles.entry((identity, dma_addr, size)).or_default().push(id);
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
            let attempted = self.claim_attempt(task, identity, size);
            let claimed = self.claim_first(task, |slot| {
                slot.device == identity && slot.size == size && slot.phys & page_mask == offset
            });
            let truth = match claimed {
                Some(Slot { slot: None, .. }) => Truth::Refused,
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
            self.lists.entry((identity, list)).or_default().push(id);
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
                && let Some(slot) = claim.slot
            {
                self.holders.insert(slot, id);
                self.bounced.entry(id).or_default().slots += 1;
            }
            *entry = mapping.take().unwrap_or(Waiting::Nothing);
        }
        self.waiting.extend(mapping);
    }

    fn slot_given_back(&mut self, slot: u64, size: u64, time_ns: u64) {
        if let Some(id) = self.holders.remove(&slot) {
            if let Some(held) = self.bounced.get_mut(&id) {
                held.slots -= 1;
            }
            self.gone(id, time_ns);
            return;
        }
        let pending = self.slots.values().flatten().find(|pending| pending.slot == Some(slot)).copied();
        match pending {
            // A list that fails gives back what it has got before its event comes.
            Some(pending) => {
                let at = (pending.place - self.first_waiting) as usize;
                if let Some(Waiting::Slot { given_back, .. }) = self.waiting.get_mut(at) {
                    *given_back = true;
                }
            }
            None => self.waiting.push_back(Waiting::Ready(Operation::ForeignSlots { size })),
        }
    }

    /// An unmapping's own event; without number for what was mapped before the recording began, or lost.
    fn unmap(&mut self, id: Option<MappingId>, time_ns: u64) {
        let Some(id) = id else { return };
        if let Some(held) = self.bounced.get_mut(&id) {
            held.event_seen = true;
            self.gone(id, time_ns);
        } else {
            self.waiting.push_back(Waiting::Ready(Operation::Unmap { id, time_ns }));
        }
    }

    fn gone(&mut self, id: MappingId, time_ns: u64) {
        let Some(held) = self.bounced.get_mut(&id) else { return };
        if !held.gone {
            held.gone = true;
            self.waiting.push_back(Waiting::Ready(Operation::Unmap { id, time_ns }));
        }
        if held.slots == 0 && held.event_seen {
            self.bounced.remove(&id);
        }
    }

    /// The task's newest pending slot that fits, taken.
    fn claim(&mut self, task: Task, fits: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let slots = self.slots.get_mut(&task)?;
        let at = slots.iter().rposition(fits)?;
        Some(slots.remove(at))
    }

    /// The task's oldest pending slot that fits, taken: a list's segments are mapped in order.
    fn claim_first(&mut self, task: Task, fits: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let slots = self.slots.get_mut(&task)?;
        let at = slots.iter().position(fits)?;
        Some(slots.remove(at))
    }

    fn claim_attempt(&mut self, task: Task, device: Identity, size: u64) -> bool {
        let Some(attempts) = self.attempts.get_mut(&task) else { return false };
        let Some(at) = attempts.iter().rposition(|attempt| attempt.device == device && attempt.size == size) else {
            return false;
        };
        attempts.remove(at);
        true
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
                    self.slots.retain(|_, slots| {
                        slots.retain(|slot| slot.place != place);
                        !slots.is_empty()
                    });
                    out.push(Operation::Orphan { device, time_ns, size });
                }
                Some(Waiting::Nothing) | None => {}
            }
            self.first_waiting += 1;
        }
    }
}

fn pop<K: Eq + std::hash::Hash>(map: &mut HashMap<K, Vec<MappingId>>, key: K) -> Option<MappingId> {
    let ids = map.get_mut(&key)?;
    let id = ids.pop();
    if ids.is_empty() {
        map.remove(&key);
    }
    id
}
