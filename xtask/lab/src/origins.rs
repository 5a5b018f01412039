//! What small buffers lie in, as read from their pages: how many of them are known, and whether recorded allocations say the same.

use std::path::Path;

use anyhow::Result;
use tracer::{
    capture::Reader,
    replay::{Wanted, objects::Origins, replay},
};

/// Of a hundred small buffers that non-coherent devices write, at least so many are to be known.
const KNOWN_PERCENT: u64 = 95;

/// What is off, a line each.
pub(super) fn problems(capture: &Path) -> Result<Vec<String>> {
    let replayed = replay(&mut Reader::open(capture)?, |_| Wanted { verdict: true, ..Wanted::default() })?;
    let lost = replayed.counters.lost.iter().filter(|(loss, _)| loss.to_string().contains("kfree"));
    Ok(judged(replayed.origins, lost.flat_map(|(_, per_cpu)| per_cpu).sum()))
}

/// An object whose free was lost seems to lie where another is by now: at most so many may seem so.
fn judged(origins: Origins, lost_frees: u64) -> Vec<String> {
    let Origins { objects, pages, unknown, disagreed, .. } = origins;
    let known = objects + pages;
    let mut problems = Vec::new();
    if known * 100 < (known + unknown) * KNOWN_PERCENT {
        problems.push(format!("what small buffers lie in is known of {known} and unknown of {unknown}"));
    }
    if disagreed > lost_frees {
        problems.push(format!("recorded allocations name other objects than the pages of buffers do: {origins:?}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_may_be_unknown_and_none_may_be_another() {
        let origins = Origins { objects: 18, pages: 1, unknown: 1, agreed: 7, disagreed: 0 };
        assert!(judged(origins, 0).is_empty());
        assert_eq!(judged(Origins { unknown: 2, ..origins }, 0).len(), 1);
        let other = Origins { disagreed: 1, ..origins };
        assert_eq!((judged(other, 0).len(), judged(other, 1).len()), (1, 0));
        assert!(judged(Origins::default(), 0).is_empty(), "coherent devices, of which nothing is looked up");
    }
}
