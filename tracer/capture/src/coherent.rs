//! Coherent memory out of restricted pools, as a frame of its own has it. A reader from before there was such a frame passes over it, and all
//! others are as true as before.

use serde::{Deserialize, Serialize};

use crate::event::{Batch, DeviceId, Event, What};

/// Memory that a device was given or gave back: one element of the frame's array.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// `CLOCK_MONOTONIC`, ns.
    time_ns: u64,
    /// Thread id.
    task: u32,
    /// CPU number.
    cpu: u16,
    /// Which device.
    device: DeviceId,
    /// Physical address in the pool, or what stands for it.
    slot: u64,
    /// Length, bytes.
    size: u64,
    /// Time between the function's entry and its return, ns; 0 for memory given back.
    duration_ns: u64,
    /// It was given back.
    freed: bool,
}

impl Row {
    /// `None` for an event of another kind.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let Event { time_ns, task, cpu, what } = *event;
        match what {
            What::CoherentAlloc { device, slot, size, duration_ns } => {
                Some(Self { time_ns, task, cpu, device, slot, size, duration_ns, freed: false })
            }
            What::CoherentFree { device, slot, size } => {
                Some(Self { time_ns, task, cpu, device, slot, size, duration_ns: 0, freed: true })
            }
            _ => None,
        }
    }

    fn event(self) -> Event {
        let Self { time_ns, task, cpu, device, slot, size, duration_ns, freed } = self;
        let what = if freed {
            What::CoherentFree { device, slot, size }
        } else {
            What::CoherentAlloc { device, slot, size, duration_ns }
        };
        Event { time_ns, task, cpu, what }
    }
}

/// The events of a frame.
#[expect(clippy::needless_pass_by_value, reason = "rows that have become events are not needed any more")]
pub(super) fn batch(rows: Vec<Row>) -> Batch {
    Batch { events: rows.iter().map(|row| row.event()).collect(), segments: Vec::new() }
}

/// How many events there are at the beginning that stand in one frame together: all about coherent memory, or none.
pub(super) fn alike(events: &[Event]) -> usize {
    let Some(first) = events.first() else { return 0 };
    let coherent = first.what.is_coherent();
    events.iter().take_while(|event| event.what.is_coherent() == coherent).count()
}
