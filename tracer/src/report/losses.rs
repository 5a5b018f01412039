//! What is missing from a stream, said beside every figure made from it.

use super::table::bytes;
use crate::facts::{Counters, End};
use crate::replay::Replayed;
use crate::stream::{Gaps, Start};

/// What of the capture itself is missing, in one line; `None` where it is whole.
pub fn missing(replayed: &Replayed) -> Option<String> {
    let gaps = &replayed.gaps;
    let mut missing = Vec::new();
    if replayed.end.is_none() {
        missing.push("the recording has no end (recorder killed, or file cut)".to_owned());
    }
    if gaps.damaged_frames > 0 {
        missing.push(format!("damaged frames skipped: {}", gaps.damaged_frames));
    }
    if gaps.unknown_frames > 0 {
        missing.push(format!("frames of a later version skipped: {}", gaps.unknown_frames));
    }
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// Lines that say what is not sure about the recording from its beginning: hooks, notes, kinds of pool.
pub(super) fn reservations(start: &Start) -> String {
    let mut text = String::new();
    for hook in start.hooks.iter().filter(|hook| !hook.attached) {
        text += &format!("not attached: {}: {} (lost without it: {})\n", hook.subject, hook.why_not, hook.lost_without);
    }
    for note in &start.notes {
        text += &format!("note: {note}\n");
    }
    text
}

/// Lines that say what was lost or is missing; one that says so when nothing is.
pub(super) fn text(counters: &Counters, end: Option<&End>, gaps: &Gaps) -> String {
    let mut text = String::new();
    for (name, values) in &counters.lost {
        let per_cpu = if values.len() > 1 { format!(" (per CPU {values:?})") } else { String::new() };
        text += &format!("LOST {name}: {}{per_cpu}\n", values.iter().sum::<u64>());
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
    if counters.linked > 0 {
        text += &format!(
            "NOT SEEN: {} buffers ({}) mapped by dma_iova_link(), which makes no events; of them only bounces are known\n",
            counters.linked,
            bytes(counters.linked_bytes)
        );
    }
    text
}

/// `seconds` since the beginning, or the event's own clock where that is not known.
pub(super) fn seconds(time_ns: u64, start_ns: u64) -> f64 {
    time_ns.saturating_sub(start_ns) as f64 / 1e9
}
