//! What a recording leaves in doubt, sorted by what it is a doubt about. Which figure rests on what is said in
//! [`super::measure`].

use tracer_ebpf::streamed::Streamed;

use crate::replay::Replayed;
use crate::replay::losses::{Harmless, harmless, name_of_record};
use crate::replay::mapping::Unknown;

/// What a figure can rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concern {
    /// The whole of the recording is there.
    Whole,
    /// Every mapping was recorded, with all of its buffers.
    Mappings,
    /// So was every scatterlist that was refused.
    Refusals,
    /// What became of each buffer.
    Fates,
    /// How full the simulated pool is.
    Pool,
    /// Every copy out of and into the pool was recorded.
    Copies,
    /// The time of the pool's functions.
    Times,
    /// Every allocation was recorded.
    Allocations,
    /// Every free was.
    Frees,
    /// Every mapping was streamed, not only what may bounce.
    Unstreamed,
    /// The model is one of this kernel.
    Model,
}

/// All doubts about a recording, in words.
#[derive(Debug, Default)]
pub(super) struct Doubts(Vec<(Concern, String)>);

impl Doubts {
    /// Of a replay that has a verdict on the model.
    pub(super) fn new(replayed: &Replayed) -> Self {
        let mut doubts = Self::of_recording(replayed);
        doubts.verdict(replayed);
        doubts
    }

    /// The recording's own, whatever the model makes of it.
    pub(super) fn of_recording(replayed: &Replayed) -> Self {
        let mut doubts = Self::default();
        doubts.gaps(replayed);
        doubts.losses(replayed);
        doubts.hooks(replayed);
        if replayed.start.streamed != Streamed::All {
            doubts.add(&[Concern::Unstreamed], streamed_only(replayed.start.streamed));
        }
        if replayed.start.kernel.pool.dynamic {
            doubts.add(&[Concern::Pool], "this kernel can add pools, and it is not known how many");
        }
        doubts
    }

    /// Those about any of these.
    pub(super) fn about(&self, concerns: &[Concern]) -> Vec<String> {
        let mut about: Vec<String> = Vec::new();
        for (concern, why) in &self.0 {
            if concerns.contains(concern) && !about.contains(why) {
                about.push(why.clone());
            }
        }
        about
    }

    fn add(&mut self, concerns: &[Concern], why: &str) {
        self.0.extend(concerns.iter().map(|concern| (*concern, why.to_owned())));
    }

    fn gaps(&mut self, replayed: &Replayed) {
        let gaps = &replayed.gaps;
        if gaps.no_end || replayed.end.is_none() {
            self.add(&[Concern::Whole], "the recording has no end");
        }
        if gaps.damaged_frames > 0 {
            self.add(&[Concern::Whole], &format!("{} frames of the capture are damaged", gaps.damaged_frames));
        }
        if gaps.unknown_frames > 0 {
            self.add(&[Concern::Whole], &format!("{} frames are of a later version", gaps.unknown_frames));
        }
    }

    fn losses(&mut self, replayed: &Replayed) {
        for (name, values) in &replayed.counters.lost {
            self.add(lost(name), &format!("lost {name}: {}", values.iter().sum::<u64>()));
        }
        let sample = replayed.start.allocation_sample;
        if sample != 1 {
            self.add(&[Concern::Allocations], &format!("one allocation in {sample} was recorded"));
        }
    }

    fn hooks(&mut self, replayed: &Replayed) {
        let needed: [(&str, &[Concern]); 9] = [
            ("map", &[Concern::Mappings]),
            ("map_sg", &[Concern::Mappings]),
            ("map_sg_refused", &[Concern::Refusals]),
            ("map_sgtable_refused", &[Concern::Refusals]),
            ("unmap", &[Concern::Pool, Concern::Copies]),
            ("unmap_sg", &[Concern::Pool, Concern::Copies]),
            ("sync", &[Concern::Copies]),
            ("sync_sg", &[Concern::Copies]),
            ("kfree", &[Concern::Frees]),
        ];
        for (subject, concerns) in needed {
            let attached = replayed.start.hooks.iter().any(|hook| hook.attached && hook.subject == subject);
            if !attached {
                self.add(concerns, &format!("{subject} was not recorded"));
            }
        }
    }

    fn verdict(&mut self, replayed: &Replayed) {
        let verdict = &replayed.verdict;
        if !verdict.agrees() {
            self.add(&[Concern::Model], "the model disagrees with this kernel, as verify says in detail");
        }
        if !verdict.problems.is_empty() {
            self.add(
                &[Concern::Mappings, Concern::Fates],
                "the recording's totals do not agree, as verify says in detail",
            );
        }
        let of = |why| verdict.unknown_by_reason.get(&why).copied().unwrap_or(0);
        if of(Unknown::Truncated) > 0 {
            self.add(&[Concern::Mappings], Unknown::Truncated.text());
        }
        if of(Unknown::EventsLost) > 0 {
            let why = format!("what became of {} mappings is not proved", of(Unknown::EventsLost));
            self.add(&[Concern::Fates], &why);
        }
    }
}

/// What of the mappings a recording holds.
pub(crate) const fn streamed_only(streamed: Streamed) -> &'static str {
    match streamed {
        Streamed::All => "all mappings were recorded",
        Streamed::Written => "only what non-coherent devices write was recorded (record --mappings all)",
        Streamed::Small => {
            "only what non-coherent devices write, of less than 256 B, was recorded (record --mappings written, or all)"
        }
    }
}

/// What the losses of a name take from.
fn lost(name: &str) -> &'static [Concern] {
    if let Some(harmless) = harmless(name) {
        return match harmless {
            Harmless::Allocations => &[Concern::Allocations],
            Harmless::Frees => &[Concern::Frees],
            // No rule is about them.
            Harmless::Sites | Harmless::Lengths => &[],
            Harmless::Times => &[Concern::Times],
            Harmless::Syncs => &[Concern::Copies],
        };
    }
    match name_of_record(name) {
        "unmap" | "unmap_sg" | "dma_unmap" | "dma_unmap_sg" | "lists_full" => &[Concern::Pool, Concern::Copies],
        // The time of a call is taken between its entry and its return.
        "slot_unmap" | "slot_map" | "slot_map_entry" | "slot_map_return" => &[Concern::Pool, Concern::Times],
        // An attempt; where nothing else proves what became of a mapping, the verdict counts it as unknown.
        "bounced" | "swiotlb_bounced" => &[Concern::Pool],
        "calls_full" | "unpaired_return" | "missed_return" => &[Concern::Refusals, Concern::Pool, Concern::Times],
        "map_sg_entry" | "map_sgt_entry" | "map_sg_return" => &[Concern::Refusals, Concern::Pool],
        // Mappings, devices, what could not be read, and whatever a later version loses.
        _ => &[
            Concern::Mappings,
            Concern::Refusals,
            Concern::Fates,
            Concern::Pool,
            Concern::Copies,
            Concern::Times,
            Concern::Allocations,
            Concern::Frees,
        ],
    }
}
