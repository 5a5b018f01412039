//! Whether CPUs really met in a full pool: searches for slots that overlapped in time, and the CPUs on which some found none.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Result;
use tracer::{
    capture::Reader,
    event::{MAPPING_ERROR, What},
    stream::{Item, Source as _},
};

/// Searches that overlap one of another CPU, at least.
const FEWEST: usize = 20;

/// A call of `swiotlb_tbl_map_single()`.
#[derive(Clone, Copy, Debug)]
struct Search {
    cpu: u16,
    entry_ns: u64,
    return_ns: u64,
    found: bool,
}

/// What is off about a recording that is to have a full pool on so many CPUs.
pub(super) fn problems(capture: &Path, cpus: u32) -> Result<Vec<String>> {
    let (mut reader, mut searches) = (Reader::open(capture)?, Vec::new());
    while let Some(item) = reader.next_item()? {
        let Item::Events(batch) = item else { continue };
        for event in &batch.events {
            if let What::SlotMap { slot, duration_ns, .. } = event.what {
                let entry_ns = event.time_ns.saturating_sub(duration_ns);
                searches.push(Search {
                    cpu: event.cpu,
                    entry_ns,
                    return_ns: event.time_ns,
                    found: slot != MAPPING_ERROR,
                });
            }
        }
    }
    let (met, refusing) = (overlapping(&mut searches), refusing(&searches));
    eprintln!("lab: {}: {met} of {} searches overlap one of another CPU", capture.display(), searches.len());
    let mut problems = Vec::new();
    if met < FEWEST {
        problems.push(format!("{met} searches overlap one of another CPU, expected {FEWEST}"));
    }
    if refusing < cpus as usize {
        problems.push(format!("searches were in vain on {refusing} CPUs of {cpus}"));
    }
    Ok(problems)
}

/// Searches that began before one of another CPU, which had begun before them, was over.
fn overlapping(searches: &mut [Search]) -> usize {
    searches.sort_by_key(|search| search.entry_ns);
    let mut until = BTreeMap::<u16, u64>::new();
    let mut met = 0;
    for search in searches {
        let others = until.iter().filter(|(cpu, _)| **cpu != search.cpu);
        met += usize::from(others.map(|(_, until)| *until).any(|until| until > search.entry_ns));
        let own = until.entry(search.cpu).or_default();
        *own = search.return_ns.max(*own);
    }
    met
}

/// CPUs on which a search found nothing.
fn refusing(searches: &[Search]) -> usize {
    searches.iter().filter(|search| !search.found).map(|search| search.cpu).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_overlaps_one_of_another_cpu_that_is_not_over() {
        let search = |cpu, entry_ns, return_ns| Search { cpu, entry_ns, return_ns, found: cpu != 2 };
        let mut searches =
            [search(1, 30, 40), search(0, 10, 100), search(0, 50, 60), search(1, 100, 110), search(2, 105, 120)];
        assert_eq!(overlapping(&mut searches), 2, "30 within 10 to 100, 105 within 100 to 110");
        assert_eq!(refusing(&searches), 1);
    }
}
