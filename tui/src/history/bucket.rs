//! What happened in a short time: sums that can be added to each other.

use tracer::event::{MAPPING_ERROR, What};

/// Counts of a piece of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Allocations; a part of one where a count is spread over the time since the count before.
    pub allocations: f64,
    /// Single buffers and scatterlists mapped, or refused.
    pub mappings: u64,
    /// Of them refused.
    pub refused: u64,
    /// Attempts to bounce.
    pub attempts: u64,
    /// Buffers for which slots were found.
    pub slots_found: u64,
    /// Bytes of the buffers for which slots were found, or of the attempts where that is not recorded.
    pub bytes_bounced: u64,
    /// The most slots seen in use at once; `None` where nothing tells.
    pub used_slots: Option<u64>,
}

impl Bucket {
    /// Adds another piece of time.
    pub fn add(&mut self, other: &Self) {
        self.allocations += other.allocations;
        self.mappings += other.mappings;
        self.refused += other.refused;
        self.attempts += other.attempts;
        self.slots_found += other.slots_found;
        self.bytes_bounced += other.bytes_bounced;
        self.used_slots = self.used_slots.max(other.used_slots);
    }

    /// Counts an event; whether it was a mapping that the kernel refused.
    pub(super) fn event(&mut self, what: &What) -> bool {
        let refused = match *what {
            What::Map { dma_addr, .. } | What::Link { dma_addr, .. } => dma_addr == MAPPING_ERROR,
            What::MapSg { ents, .. } => ents == 0,
            What::Bounced { .. } => {
                self.attempts += 1;
                return false;
            }
            What::SlotMap { slot, size, .. } if slot != MAPPING_ERROR => {
                self.slots_found += 1;
                self.bytes_bounced += size;
                return false;
            }
            _ => return false,
        };
        self.mappings += 1;
        self.refused += u64::from(refused);
        refused
    }
}
