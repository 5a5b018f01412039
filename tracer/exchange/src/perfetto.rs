//! Traces of Perfetto: their kernel events as the lines that tracefs would have printed, in order of time, which
//! [`ftrace`](super::ftrace) then reads as any other trace. Fields are those of `protos/perfetto/trace/` (`trace_packet.proto`,
//! `ftrace/{ftrace_event_bundle,ftrace_event,ftrace_stats,generic,kmem}.proto`).
//!
//! Perfetto knows kmalloc, `kmalloc_node` and kfree; the events of `dma` and `swiotlb` it records by names of fields (`GenericFtraceEvent`),
//! or, from v50 on, as messages that it describes itself.

mod event;
mod losses;
mod packets;

use std::collections::BTreeMap;

use super::protobuf::Fields;
use event::Shapes;
use losses::Losses;
use packets::{Packets, packet};

/// A trace of Perfetto, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Lines as of tracefs, in order of time, after one for each CPU that lost events.
    pub lines: Vec<u8>,
    /// What a user has to know of the file, a line each.
    pub notes: Vec<String>,
}

/// The bytes begin as a trace of Perfetto does: with a whole packet.
pub fn is_trace(bytes: &[u8]) -> bool {
    let Some((packets::PACKET, first)) = Fields::of(bytes).next() else { return false };
    let mut fields = Fields::of(first.bytes());
    fields.by_ref().count() > 0 && fields.left() == 0
}

/// An event's line, still out of order: CPUs' buffers are read one after the other.
struct Line {
    time_ns: u64,
    text: String,
}

/// Reads a trace. What is no whole packet at its end is left, and told in the notes.
pub fn read(trace: &[u8]) -> Text {
    let mut packets = Packets::default();
    packets.read(trace);
    let mut shapes = Shapes::default();
    let bundles: Vec<&[u8]> = packets.of(packet::FTRACE_EVENTS).collect();
    for bundle in &bundles {
        shapes.learn(bundle);
    }
    let mut losses = Losses::of(&packets);
    // In one piece, and where in it each line lies: there may be millions.
    let mut unsorted = String::new();
    let mut lines = Vec::new();
    let mut clocks = BTreeMap::<u64, u64>::new();
    for bundle in &bundles {
        let (mut cpu, mut clock, mut lost) = (0, 0, false);
        for (field, value) in Fields::of(bundle) {
            match field {
                bundle::CPU => cpu = value.number(),
                bundle::CLOCK => clock = value.number(),
                bundle::LOST_EVENTS => lost = value.number() != 0,
                _ => {}
            }
        }
        losses.bundle(cpu, lost);
        for (field, value) in Fields::of(bundle) {
            if field == bundle::EVENT
                && let Some(line) = shapes.line(cpu, value.bytes())
            {
                *clocks.entry(clock).or_default() += 1;
                let from = unsorted.len();
                unsorted.push_str(&line.text);
                lines.push((line.time_ns, from..unsorted.len()));
            }
        }
    }
    // Those of one time stay as they were read: a CPU's own are in order.
    lines.sort_by_key(|(time_ns, _)| *time_ns);
    let mut text = Text { lines: losses.lines().into_bytes(), notes: packets.notes() };
    text.lines.reserve_exact(unsorted.len() + lines.len());
    for (_, place) in lines {
        text.lines.extend_from_slice(unsorted[place].as_bytes());
        text.lines.push(b'\n');
    }
    text.notes.extend(losses.note());
    text.notes.extend(shapes.notes());
    if clocks.keys().any(|clock| *clock != 0) {
        let names: Vec<_> = clocks.keys().map(|clock| clock_name(*clock)).collect();
        text.notes.push(format!("times are of ftrace's clock {}, not of CLOCK_BOOTTIME", names.join(" and ")));
    }
    text
}

/// `FtraceClock`; none given is `boot`.
fn clock_name(clock: u64) -> &'static str {
    match clock {
        0 => "boot",
        2 => "global",
        3 => "local",
        4 => "mono_raw",
        _ => "(unknown)",
    }
}

/// Fields of `FtraceEventBundle`.
mod bundle {
    pub(super) const CPU: u32 = 1;
    pub(super) const EVENT: u32 = 2;
    pub(super) const LOST_EVENTS: u32 = 3;
    pub(super) const CLOCK: u32 = 5;
    pub(super) const DESCRIPTORS: u32 = 11;
}

#[cfg(test)]
mod tests;
