//! What is missing from a stream, said beside every figure made from it.

use super::table::bytes;
use bouncescope_capture::facts::{Counters, End, is_attached, not_attached};
use bouncescope_capture::names::Subject;
use bouncescope_capture::stream::{Gaps, Start};
use bouncescope_model::architecture::Architecture;
use bouncescope_replay::Replayed;
use bouncescope_replay::losses::{consequence, out_of};

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

/// Why a recording says nothing about mappings; `None` where it has any.
pub fn nothing_mapped(replayed: &Replayed) -> Option<String> {
    if replayed.observed.total().mappings > 0 || replayed.verdict.mappings > 0 {
        return None;
    }
    let start = &replayed.start;
    let counted = replayed.lengths.total.mappings;
    let mut why = if counted > 0 {
        format!("{counted} mappings were counted, and none of them recorded: record with --full")
    } else if !is_attached(&start.hooks, &Subject::Map) && !is_attached(&start.hooks, &Subject::MapSg) {
        let why = start.hooks.iter().find(|hook| hook.subject == Subject::Map).map_or("", |hook| &hook.why_not);
        let why = if why.is_empty() { "`bouncescope doctor` shows why" } else { why };
        format!("no hook on mappings was attached: {why}")
    } else {
        "no device used the DMA API; in a guest, virtio devices often do not".to_owned()
    };
    let machine = &start.kernel.machine;
    if !machine.is_empty() && !Architecture::of(machine).bounces_small() {
        why += &format!("; and {machine} kernels never bounce small buffers, arm64 ones do");
    }
    Some(format!("no mapping in {:.1} s: {why}", recorded_seconds(replayed)))
}

/// How long was recorded: of a recording without events, from its beginning to its end.
pub(super) fn recorded_seconds(replayed: &Replayed) -> f64 {
    match &replayed.end {
        Some(end) if replayed.span_ns == 0 => seconds(end.time_ns, replayed.start.time_ns),
        _ => replayed.seconds(),
    }
}

/// Lines that say what is not sure about the recording from its beginning: hooks, notes, kinds of pool.
pub(super) fn reservations(start: &Start) -> String {
    let mut text = String::new();
    if let Some((which, lost)) = not_attached(&start.hooks) {
        text += &format!("{which}\n");
        text += &lost.map_or_else(String::new, |lost| format!("{lost}\n"));
    }
    for note in &start.notes {
        text += &format!("note: {note}\n");
    }
    text
}

/// Lines that say what was lost or is missing; one that says so when nothing is.
pub(super) fn text(counters: &Counters, end: Option<&End>, gaps: &Gaps) -> String {
    let mut text = String::new();
    for (loss, values) in &counters.lost {
        let per_cpu = if values.len() > 1 { format!(" (per CPU {values:?})") } else { String::new() };
        let count = values.iter().sum::<u64>();
        let of = out_of(loss, counters).map_or_else(String::new, |all| format!(" of {all} ({})", share(count, all)));
        let consequence = consequence(loss).map_or_else(String::new, |words| format!("; {words}"));
        text += &format!("LOST {loss}: {count}{of}{per_cpu}{consequence}\n");
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
            "NOT SEEN: {} buffers ({}) mapped by dma_iova_link(), which this recorder only counted; of them only bounces are known\n",
            counters.linked,
            bytes(counters.linked_bytes)
        );
    }
    text
}

/// A part in percent; none that is not 0 is shown as 0.
fn share(part: u64, all: u64) -> String {
    let percent = part as f64 * 100.0 / all.max(1) as f64;
    if part > 0 && percent < 0.01 { "< 0.01 %".to_owned() } else { format!("{percent:.2} %") }
}

/// `seconds` since the beginning, or the event's own clock where that is not known.
pub(super) fn seconds(time_ns: u64, start_ns: u64) -> f64 {
    time_ns.saturating_sub(start_ns) as f64 / 1e9
}
