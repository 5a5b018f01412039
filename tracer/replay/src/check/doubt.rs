//! What a recording leaves in doubt, sorted by what it is a doubt about. Which figure rests on what is said in
//! [`super::measure`].

use bouncescope_capture::facts::{Hook, is_attached};
use bouncescope_capture::names::Subject;
use tracer_ebpf::streamed::Streamed;

use crate::Replayed;
pub(super) use crate::losses::Concern;
use crate::losses::{concerns, is_tolerated};
use crate::mapping::Unknown;

/// All doubts about a recording, in words.
#[derive(Debug, Default)]
pub(super) struct Doubts(Vec<(Concern, String)>);

impl Doubts {
    /// Of a replay that has a verdict on the model. Losses of no more records of a million are none.
    pub(super) fn new(replayed: &Replayed, tolerated: u32) -> Self {
        let mut doubts = Self::tolerating(replayed, tolerated);
        doubts.verdict(replayed);
        doubts
    }

    /// The recording's own, whatever the model makes of it.
    pub(super) fn of_recording(replayed: &Replayed) -> Self {
        Self::tolerating(replayed, 0)
    }

    fn tolerating(replayed: &Replayed, tolerated: u32) -> Self {
        let mut doubts = Self::default();
        doubts.gaps(replayed);
        doubts.losses(replayed, tolerated);
        doubts.hooks(replayed);
        if replayed.start.streamed != Streamed::All {
            doubts.add(&[Concern::Unstreamed], streamed_only(replayed.start.streamed));
        }
        if replayed.start.kernel.pool.dynamic {
            doubts.add(&[Concern::PoolSize], "this kernel can add pools, and it is not known how many");
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

    fn losses(&mut self, replayed: &Replayed, tolerated: u32) {
        let counters = &replayed.counters;
        for (name, values) in counters.lost.iter().filter(|(loss, _)| !is_tolerated(loss, counters, tolerated)) {
            self.add(concerns(name), &format!("lost {name}: {}", values.iter().sum::<u64>()));
        }
        let sample = replayed.start.allocation_sample;
        if sample != 1 {
            self.add(&[Concern::Allocations], &format!("one allocation in {sample} was recorded"));
        }
    }

    fn hooks(&mut self, replayed: &Replayed) {
        let needed: [(Subject, &[Concern]); 9] = [
            (Subject::Map, &[Concern::Mappings]),
            (Subject::MapSg, &[Concern::Mappings]),
            (Subject::MapSgRefused, &[Concern::Refusals]),
            (Subject::MapSgtableRefused, &[Concern::Refusals]),
            (Subject::Unmap, &[Concern::Unmappings, Concern::Pool, Concern::Copies]),
            (Subject::UnmapSg, &[Concern::Unmappings, Concern::Pool, Concern::Copies]),
            (Subject::Sync, &[Concern::Copies]),
            (Subject::SyncSg, &[Concern::Copies]),
            (Subject::Kfree, &[Concern::Frees]),
        ];
        for (subject, concerns) in needed {
            if !is_attached(&replayed.start.hooks, &subject) {
                self.add(concerns, &format!("{subject} was not recorded"));
            }
        }
        // Tried only where the kernel has what they record, or where its symbols do not tell.
        let before_links = replayed.start.kernel.release_numbers().is_some_and(|release| !release.is_at_least(6, 16));
        let tried: [(Subject, &[Concern]); 3] = [
            (Subject::IovaLink, &[Concern::Mappings]),
            (Subject::IovaUnlink, &[Concern::Unmappings, Concern::Pool, Concern::Copies]),
            (Subject::MapResource, &[Concern::Mappings]),
        ];
        for (subject, concerns) in tried {
            let is_lacking = |hook: &Hook| hook.subject == subject && !hook.attached;
            let is_of_links = subject != Subject::MapResource;
            if replayed.start.hooks.iter().any(is_lacking) && !(is_of_links && before_links) {
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
pub const fn streamed_only(streamed: Streamed) -> &'static str {
    match streamed {
        Streamed::All => "all mappings were recorded",
        Streamed::Written => "only buffers that non-coherent devices write were recorded (use record --mappings all)",
        Streamed::Small => {
            "only buffers below 256 B that non-coherent devices write were recorded (use record --mappings written, \
             or all)"
        }
    }
}
