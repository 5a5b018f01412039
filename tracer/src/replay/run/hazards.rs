//! Buffers that a device writes and that are not bounced: what else lies in their lines.

use crate::model::sharing::Sharing;
use crate::replay::breakdown::Breakdown;
use crate::replay::outcome::Tally;

/// What an unbounced buffer's lines hold besides it, in the order of the counts.
pub(super) const NEIGHBOURS: [&str; 3] = ["unknown", "other_object", "own_object"];

/// Counts a buffer that is written by a device and not bounced.
pub fn count_unsafe(tally: &mut Tally, neighbours: &mut [u64; 3], sharing: Sharing) {
    let (certain, possible, neighbour) = match sharing {
        Sharing::None => return,
        Sharing::Possible => (0, 1, 0),
        Sharing::Other => (1, 0, 1),
        Sharing::Own => (1, 0, 2),
    };
    tally.unsafe_certain += certain;
    tally.unsafe_possible += possible;
    neighbours[neighbour] += 1;
}

/// What is left unsafe, of some mappings.
#[derive(Clone, Debug, Default)]
pub struct Unsafe {
    /// Counts.
    pub breakdown: Breakdown,
    /// By what else lies in the lines.
    pub neighbours: [u64; 3],
}
