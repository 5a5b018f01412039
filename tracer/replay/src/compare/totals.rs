//! Totals of the model against those that the kernel counts itself.

use super::{Doubts, Unknown, Verdict};

impl Verdict {
    /// Totals that must be equal, as far as nothing is unknown and nothing lost that would tell.
    pub(super) fn compare_totals(&mut self, doubts: Doubts, bounced_lost: u64, used_at_start: u64) {
        let mut differs = |what: &str, predicted: u64, kernel: u64| {
            if predicted != kernel {
                self.problems.push(format!("{what}: predicted {predicted}, the kernel says {kernel}"));
            }
        };
        if self.unknown == 0 && !doubts.pool {
            differs("bounces", self.bounces_predicted, self.bounces_kernel);
        }
        // The slots of such a mapping are taken when its attempt is given up, and again when it comes.
        let late = self.unknown_by_reason.contains_key(&Unknown::Late);
        if late && !doubts.pool {
            self.not_compared
                .push("peak and refusals: mappings came after their attempt to bounce was given up".to_owned());
        }
        let elsewhere = self.unknown_by_reason.contains_key(&Unknown::RefusedElsewhere);
        if elsewhere && !doubts.pool {
            self.not_compared.push("refusals: some were for another reason than the pool".to_owned());
        }
        if !doubts.pool && !elsewhere && !late {
            let raced = self.unknown_by_reason.get(&Unknown::Raced).copied().unwrap_or(0);
            if self.failed_predicted.abs_diff(self.failed_kernel) > raced {
                differs("mappings refused", self.failed_predicted, self.failed_kernel);
            }
        }
        if !doubts.pool && !late {
            let [least, most] = self.peak_slots_range;
            match self.peak_slots_kernel {
                Some(kernel) if self.peak_is_exact && !(least..=most).contains(&kernel) => {
                    differs("peak slots", self.peak_slots_predicted, kernel);
                }
                // Of samples, those at the beginning are no prediction's.
                Some(kernel) if !self.peak_is_exact && kernel > most.max(used_at_start) => {
                    differs("peak slots (at least)", self.peak_slots_predicted, kernel);
                }
                _ => {}
            }
        }
        // The tracing file system counts within the time of the recording, which may hold a little more.
        if let Some(counted) = self.tracefs_bounced
            && counted > self.bounced_recorded + bounced_lost
        {
            differs(
                "swiotlb_bounced (recorded or lost, against tracefs)",
                self.bounced_recorded + bounced_lost,
                counted,
            );
        }
    }
}
