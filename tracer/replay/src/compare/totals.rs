//! Totals of the model against those that the kernel counts itself.

use super::{Doubts, LeftOut, Unknown, Verdict};

impl Verdict {
    /// Totals that must be equal, as far as nothing is unknown and nothing lost that would tell.
    pub(super) fn compare_totals(&mut self, doubts: Doubts, bounced_lost: u64, used_at_start: u64) {
        // The slots of such a mapping are taken when its attempt is given up, and again when it comes.
        let late = self.unknown_by_reason.contains_key(&Unknown::Late);
        if late && !doubts.pool {
            let why = "mappings came after their attempt to bounce was given up";
            self.leave_out(LeftOut::PeakAndRefusals, why);
        }
        let elsewhere = self.unknown_by_reason.contains_key(&Unknown::RefusedElsewhere);
        if elsewhere && !doubts.pool {
            self.leave_out(LeftOut::Refusals, "some were for another reason than the pool");
        }
        let mut problems = std::mem::take(&mut self.problems);
        let mut differs = |what: &str, predicted: u64, kernel: u64| {
            if predicted != kernel {
                problems.push(format!("{what}: predicted {predicted}, the kernel says {kernel}"));
            }
        };
        if self.unknown == 0 && !doubts.pool {
            differs("bounces", self.bounces_predicted, self.bounces_kernel);
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
            for pool in &self.pools {
                let [least, most] = pool.peak_slots_range;
                match pool.peak_slots_kernel {
                    Some(kernel) if pool.peak_is_exact && !(least..=most).contains(&kernel) => {
                        differs(&format!("peak slots of {}", pool.name), pool.peak_slots_predicted, kernel);
                    }
                    Some(kernel) if !pool.peak_is_exact && kernel > most.max(pool.used_at_start) => {
                        differs(&format!("peak slots of {} (at least)", pool.name), pool.peak_slots_predicted, kernel);
                    }
                    _ => {}
                }
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
        self.problems = problems;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A verdict in which everything agrees: 10 bounces, 3 of 40 refused, at most 8 slots, 12 attempts.
    fn agreeing() -> Verdict {
        Verdict {
            bounces_predicted: 10,
            bounces_kernel: 10,
            failed_predicted: 3,
            failed_kernel: 3,
            peak_slots_predicted: 8,
            peak_slots_range: [7, 9],
            peak_slots_kernel: Some(8),
            peak_is_exact: true,
            bounced_recorded: 12,
            tracefs_bounced: Some(12),
            ..Verdict::default()
        }
    }

    fn problems(pool_in_doubt: bool, change: impl FnOnce(&mut Verdict)) -> Vec<String> {
        let mut verdict = agreeing();
        change(&mut verdict);
        verdict.compare_totals(Doubts { pool: pool_in_doubt, ..Doubts::default() }, 1, 5);
        verdict.problems
    }

    #[test]
    fn totals_that_are_equal_are_no_problem_and_each_that_is_not_is_one() {
        assert_eq!(problems(false, |_| ()), Vec::<String>::new());
        for (change, what) in [
            ((|verdict| verdict.bounces_kernel = 11) as fn(&mut Verdict), "bounces"),
            (|verdict| verdict.failed_kernel = 4, "mappings refused"),
            (|verdict| verdict.peak_slots_kernel = Some(6), "peak slots"),
            (|verdict| verdict.peak_slots_kernel = Some(10), "peak slots"),
            (|verdict| verdict.tracefs_bounced = Some(14), "swiotlb_bounced"),
        ] {
            let found = problems(false, change);
            assert!(found.len() == 1 && found[0].starts_with(what), "{what}: {found:?}");
        }
    }

    #[test]
    fn what_is_within_the_open_range_is_no_problem() {
        for change in [
            (|verdict| verdict.peak_slots_kernel = Some(7)) as fn(&mut Verdict),
            |verdict| verdict.peak_slots_kernel = Some(9),
            |verdict| verdict.peak_slots_kernel = None,
            // One was lost.
            |verdict| verdict.tracefs_bounced = Some(13),
            |verdict| {
                verdict.unknown_by_reason.insert(Unknown::Raced, 2);
                (verdict.unknown, verdict.failed_kernel) = (2, 5);
            },
            |verdict| (verdict.unknown, verdict.bounces_kernel) = (1, 11),
        ] {
            assert_eq!(problems(false, change), Vec::<String>::new());
        }
        let more = problems(false, |verdict| {
            verdict.unknown_by_reason.insert(Unknown::Raced, 2);
            (verdict.unknown, verdict.failed_kernel) = (2, 6);
        });
        assert_eq!(more.len(), 1, "{more:?}");
    }

    #[test]
    fn samples_only_say_that_it_was_no_less() {
        let sampled = |slots| {
            problems(false, |verdict| (verdict.peak_is_exact, verdict.peak_slots_kernel) = (false, Some(slots))).len()
        };
        assert_eq!([sampled(1), sampled(9), sampled(10)], [0, 0, 1]);
        let since_before = |slots| {
            problems(false, |verdict| {
                (verdict.peak_is_exact, verdict.peak_slots_kernel, verdict.peak_slots_range) =
                    (false, Some(slots), [0, 0]);
            })
        };
        assert_eq!([since_before(5).len(), since_before(6).len()], [0, 1], "5 slots were in use at the beginning");
    }

    #[test]
    fn a_pool_in_doubt_leaves_only_the_attempts_to_compare() {
        let found = problems(true, |verdict| {
            (verdict.bounces_kernel, verdict.failed_kernel, verdict.peak_slots_kernel) = (11, 9, Some(100));
        });
        assert_eq!(found, Vec::<String>::new());
        assert_eq!(problems(true, |verdict| verdict.tracefs_bounced = Some(14)).len(), 1);
    }

    #[test]
    fn refusals_for_another_reason_and_late_mappings_are_said_to_be_left_out() {
        for (why, left_out) in [(Unknown::RefusedElsewhere, "refusals"), (Unknown::Late, "peak and refusals")] {
            let mut verdict = agreeing();
            verdict.unknown_by_reason.insert(why, 1);
            (verdict.unknown, verdict.failed_kernel) = (1, 9);
            verdict.compare_totals(Doubts::default(), 0, 0);
            assert_eq!(verdict.problems, Vec::<String>::new());
            assert!(verdict.not_compared.len() == 1 && verdict.not_compared[0].starts_with(left_out));
            assert_eq!((verdict.peak_left_out, verdict.refusals_left_out), (why == Unknown::Late, true));
        }
    }
}
