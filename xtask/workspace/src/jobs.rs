//! Several jobs at the same time, results in the order of the jobs. Knows nothing of what they are.

use std::{sync::Mutex, thread};

/// Does every job, at most `at_once` at a time.
pub fn all<J: Sync, R: Send>(jobs: &[J], at_once: usize, work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(jobs.iter().enumerate());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let job = next.lock().ok().and_then(|mut jobs| jobs.next());
                    let Some((index, job)) = job else { return };
                    let made = work(job);
                    if let Ok(mut results) = results.lock() {
                        results.push((index, made));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_however_many_run_at_once() {
        for at_once in [0, 1, 3, 100] {
            assert_eq!(all(&[1, 2, 3, 4, 5], at_once, |n| n * n), [1, 4, 9, 16, 25]);
        }
    }
}
