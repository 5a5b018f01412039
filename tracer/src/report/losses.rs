//! What is missing from a stream, said beside every figure made from it.

use crate::facts::{Counters, End};
use crate::stream::Gaps;

/// Lines that say what was lost or is missing; one that says so when nothing is.
pub(super) fn text(counters: &Counters, end: Option<&End>, gaps: &Gaps) -> String {
    let mut text = String::new();
    for (name, values) in &counters.lost {
        text += &format!("LOST {name}: {} (per CPU {values:?})\n", values.iter().sum::<u64>());
    }
    if gaps.damaged_frames > 0 {
        text += &format!("DAMAGED: {} frames skipped, {} bytes\n", gaps.damaged_frames, gaps.skipped_bytes);
    }
    if gaps.unknown_frames > 0 {
        text += &format!("{} frames of a later version skipped\n", gaps.unknown_frames);
    }
    if end.is_none() {
        text += &format!(
            "CUT: the recording has no end (recorder killed, or file cut, {} bytes of an incomplete frame); the last \
             second may be missing\n",
            gaps.cut_bytes
        );
    }
    if text.is_empty() {
        text += "nothing lost\n";
    }
    text
}

/// `seconds` since the beginning, or the event's own clock where that is not known.
pub(super) fn seconds(time_ns: u64, start_ns: u64) -> f64 {
    time_ns.saturating_sub(start_ns) as f64 / 1e9
}
