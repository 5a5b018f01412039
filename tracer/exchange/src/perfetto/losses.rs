//! What a trace of Perfetto says it lost: in the kernel's buffers, and in its own.

use std::collections::{BTreeMap, HashSet};

use super::super::protobuf::Fields;

/// `FtraceStats.Phase`.
const START_OF_TRACE: u64 = 1;

/// Counts of what was lost, by CPU.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Bundles before which the kernel's buffer lost something: `FtraceEventBundle.lost_events` has no number.
    bundles: BTreeMap<u64, u64>,
    /// `overrun`, `commit_overrun` and `dropped_events` of the kernel's buffers: when the trace began, and the most of later.
    kernel: BTreeMap<u64, (u64, u64)>,
    /// What Perfetto's own buffers lost, as it counted it.
    overwritten: u64,
    /// Packets that are marked as such of which the one before is missing.
    dropped: u64,
    /// Sequences of packets of which one was seen.
    sequences: HashSet<u64>,
    /// Events that are not read.
    left_out: u64,
}

impl Losses {
    /// A bundle of a CPU, and whether the kernel lost something before it.
    pub(super) fn bundle(&mut self, cpu: u64, lost: bool) {
        if lost {
            *self.bundles.entry(cpu).or_default() += 1;
        }
    }

    /// A packet of a sequence, and whether it is marked as one before which another is missing. The first of a sequence is marked so too.
    pub(super) fn packet(&mut self, sequence: u64, is_marked: bool) {
        let is_first = self.sequences.insert(sequence);
        self.dropped += u64::from(!is_first && is_marked);
    }

    /// Events that are not read.
    pub(super) fn left_out(&mut self, events: u64) {
        self.left_out = events;
    }

    /// Packets and chunks of packets that Perfetto's own buffers lost.
    fn own(&self) -> u64 {
        self.overwritten.max(self.dropped)
    }

    /// A `TraceStats`.
    pub(super) fn buffers(&mut self, trace_stats: &[u8]) {
        let buffers = Fields::of(trace_stats).filter(|(field, _)| *field == stats::BUFFER_STATS);
        let fields = buffers.flat_map(|(_, buffer)| Fields::of(buffer.bytes()));
        let losses = fields.filter(|(field, _)| {
            matches!(*field, stats::CHUNKS_OVERWRITTEN | stats::CHUNKS_DISCARDED | stats::PACKET_LOSS)
        });
        let lost = losses.fold(0, |sum: u64, (_, value)| sum.saturating_add(value.number()));
        self.overwritten = self.overwritten.max(lost);
    }

    /// A `FtraceStats`.
    pub(super) fn kernel(&mut self, stats: &[u8]) {
        let is_start =
            Fields::of(stats).any(|(field, value)| field == stats::PHASE && value.number() == START_OF_TRACE);
        for (_, value) in Fields::of(stats).filter(|(field, _)| *field == stats::CPU_STATS) {
            let (mut cpu, mut lost) = (0, 0_u64);
            for (field, value) in Fields::of(value.bytes()) {
                match field {
                    stats::CPU => cpu = value.number(),
                    stats::OVERRUN | stats::COMMIT_OVERRUN | stats::DROPPED_EVENTS => {
                        lost = lost.saturating_add(value.number());
                    }
                    _ => {}
                }
            }
            let (first, last) = self.kernel.entry(cpu).or_default();
            if is_start {
                *first = lost;
            } else {
                *last = (*last).max(lost);
            }
        }
    }

    /// Events that each CPU lost, at least.
    fn by_cpu(&self) -> BTreeMap<u64, u64> {
        let mut lost = self.bundles.clone();
        for (cpu, (first, last)) in &self.kernel {
            let count = lost.entry(*cpu).or_default();
            *count = (*count).max(last.saturating_sub(*first));
        }
        let at_zero = lost.entry(0).or_default();
        *at_zero = at_zero.saturating_add(self.own()).saturating_add(self.left_out);
        lost
    }

    /// As tracefs prints it.
    pub(super) fn lines(&self) -> String {
        let lost = self.by_cpu().into_iter().filter(|(_, count)| *count > 0);
        lost.fold(String::new(), |lines, (cpu, count)| lines + &format!("CPU:{cpu} [LOST {count} EVENTS]\n"))
    }

    /// What is counted where no number is known.
    pub(super) fn note(&self) -> Option<String> {
        (self.own() > 0).then(|| {
            format!(
                "{} packets or parts of them were lost in Perfetto's own buffers, each counted as one event at least",
                self.own()
            )
        })
    }
}

/// Fields of `FtraceStats`, `FtraceCpuStats`, `TraceStats` and `TraceStats.BufferStats`.
mod stats {
    pub(super) const PHASE: u32 = 1;
    pub(super) const CPU_STATS: u32 = 2;

    pub(super) const CPU: u32 = 1;
    pub(super) const OVERRUN: u32 = 3;
    pub(super) const COMMIT_OVERRUN: u32 = 4;
    pub(super) const DROPPED_EVENTS: u32 = 8;

    pub(super) const BUFFER_STATS: u32 = 1;
    pub(super) const CHUNKS_OVERWRITTEN: u32 = 3;
    pub(super) const CHUNKS_DISCARDED: u32 = 18;
    pub(super) const PACKET_LOSS: u32 = 19;
}
