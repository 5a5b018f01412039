//! What tasks have taken from the pool, or tried to, and no mapping has claimed yet.

use std::collections::HashMap;

use super::super::devices::Identity;
use crate::event::Event;

/// Unclaimed attempts to bounce kept for a task.
const ATTEMPTS: usize = 64;

/// A task, or one CPU's idle task, of which all have thread id 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Task {
    thread: u32,
    idle_cpu: u16,
}

impl Task {
    pub(super) fn of(event: &Event) -> Self {
        Self { thread: event.task, idle_cpu: if event.task == 0 { event.cpu } else { 0 } }
    }
}

/// A return of `swiotlb_tbl_map_single()`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) device: Identity,
    pub(super) phys: u64,
    pub(super) size: u64,
    /// Its address; `None` when none was found.
    pub(super) found: Option<u64>,
    /// Its place in the queue of steps.
    pub(super) place: u64,
}

/// A `swiotlb_bounced`.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    device: Identity,
    size: u64,
}

/// By task; tasks of which nothing is pending are forgotten.
#[derive(Debug, Default)]
pub(super) struct Pending {
    slots: HashMap<Task, Vec<Slot>>,
    attempts: HashMap<Task, Vec<Attempt>>,
}

impl Pending {
    pub(super) fn add_slot(&mut self, task: Task, slot: Slot) {
        self.slots.entry(task).or_default().push(slot);
    }

    pub(super) fn add_attempt(&mut self, task: Task, device: Identity, size: u64) {
        let attempts = self.attempts.entry(task).or_default();
        if attempts.len() == ATTEMPTS {
            attempts.remove(0);
        }
        attempts.push(Attempt { device, size });
    }

    /// The task's newest slot that fits, taken: interrupts nest strictly.
    pub(super) fn claim_newest(&mut self, task: Task, fits: impl Fn(&Slot) -> bool) -> Option<Slot> {
        take(&mut self.slots, task, |slots| slots.iter().rposition(fits))
    }

    /// The task's oldest slot that fits, taken: a list's segments are mapped in order.
    pub(super) fn claim_oldest(&mut self, task: Task, fits: impl Fn(&Slot) -> bool) -> Option<Slot> {
        take(&mut self.slots, task, |slots| slots.iter().position(fits))
    }

    /// Takes the task's newest attempt for such a buffer; whether there was one.
    pub(super) fn claim_attempt(&mut self, task: Task, device: Identity, size: u64) -> bool {
        let fits = |attempt: &Attempt| attempt.device == device && attempt.size == size;
        take(&mut self.attempts, task, |attempts| attempts.iter().rposition(fits)).is_some()
    }

    /// The place of the pending slot at this address.
    pub(super) fn place_of(&self, address: u64) -> Option<u64> {
        self.slots.values().flatten().find(|slot| slot.found == Some(address)).map(|slot| slot.place)
    }

    /// Gives up on the slot at this place.
    pub(super) fn forget(&mut self, place: u64) {
        self.slots.retain(|_, slots| {
            slots.retain(|slot| slot.place != place);
            !slots.is_empty()
        });
    }
}

fn take<T>(by_task: &mut HashMap<Task, Vec<T>>, task: Task, find: impl FnOnce(&[T]) -> Option<usize>) -> Option<T> {
    let pending = by_task.get_mut(&task)?;
    let taken = pending.remove(find(pending)?);
    if pending.is_empty() {
        by_task.remove(&task);
    }
    Some(taken)
}
