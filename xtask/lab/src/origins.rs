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
    Ok(judged(replayed.origins))
}

fn judged(origins: Origins) -> Vec<String> {
    let Origins { objects, pages, unknown, disagreed, .. } = origins;
    let known = objects + pages;
    let mut problems = Vec::new();
    if known * 100 < (known + unknown) * KNOWN_PERCENT {
        problems.push(format!("what small buffers lie in is known of {known} and unknown of {unknown}"));
    }
    if disagreed > 0 {
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
        assert!(judged(origins).is_empty());
        assert_eq!(judged(Origins { unknown: 2, ..origins }).len(), 1);
        assert_eq!(judged(Origins { disagreed: 1, ..origins }).len(), 1);
        assert!(judged(Origins::default()).is_empty(), "coherent devices, of which nothing is looked up");
    }
}
