//! Objects by the function that allocated them: what a recording of every allocation holds, beside what the kernel itself counted by line
//! of source (`/proc/allocinfo`) at the recording's beginning and end.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    facts::LiveSites,
    replay::{Wanted, live_functions::LiveFunctions, replay},
    stream::{Item, Source as _},
};

use super::super::table::Row;

/// Functions with fewer recorded objects say little.
const FEWEST: u64 = 1000;
/// Objects that may come or go while the kernel counts.
const READING: u64 = 4;
/// Bytes of the largest of them.
const LARGEST: u64 = 8192;
/// It allocates the tags of the count itself, some of which are not counted (`__GFP_NO_OBJ_EXT`, `alloc_slab_obj_exts()` in `mm/slub.c`).
const OF_THE_COUNT: &str = "alloc_slab_obj_exts";

/// What the columns hold: live objects that were recorded and bytes of their caches, then by how many a line of the function grew.
pub(super) const HEADER: [&str; 8] = ["kernel", "recording", "function", "recorded", "bytes", "kernel", "bytes", ""];

/// Objects and bytes of their caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Objects {
    count: i64,
    bytes: i64,
}

/// By module and function.
type ByFunction<'a, T> = BTreeMap<(&'a str, &'a str), T>;

/// A row for each function that has enough recorded objects and is in the kernel's count: what the compiler put into a caller is not. None
/// where the kernel has no such count.
pub(super) fn rows(capture: &Path, series: &str, name: &str, unplaced: u64) -> Result<Vec<Row>> {
    let Some((first, last)) = counts(capture)? else { return Ok(Vec::new()) };
    let replayed = replay(&mut Reader::open(capture)?, |_| Wanted::default())
        .with_context(|| format!("cannot replay {}", capture.display()))?;
    let functions = LiveFunctions::new(&last, &replayed.statistics.symbols, std::iter::empty());
    let mut recorded: ByFunction<Objects> = BTreeMap::new();
    for objects in &replayed.live_objects {
        if let Some(function) = functions.of(objects.call_site).filter(|(_, name)| *name != OF_THE_COUNT) {
            let sum = recorded.entry(function).or_default();
            sum.count += objects.count as i64;
            sum.bytes += (objects.count * objects.given) as i64;
        }
    }
    let gained = gained(&first, &last);
    let mut rows = Vec::new();
    for (function, recorded) in recorded.into_iter().filter(|(_, recorded)| recorded.count >= FEWEST as i64) {
        let Some(kernel) = gained.get(&function).and_then(|lines| nearest(lines, recorded)) else { continue };
        let numbers = [recorded.count, recorded.bytes, kernel.count, kernel.bytes].map(|number| number.to_string());
        let cells = [series, name, function.1].map(str::to_owned).into_iter().chain(numbers).collect();
        rows.push(Row { cells, problems: problem(recorded, kernel, unplaced).into_iter().collect() });
    }
    Ok(rows)
}

/// The first and the last count by line of source.
fn counts(capture: &Path) -> Result<Option<(LiveSites, LiveSites)>> {
    let (mut reader, mut first, mut last) = (Reader::open(capture)?, None, None);
    while let Some(item) = reader.next_item()? {
        if let Item::Slab(sample) = item
            && let Some(sites) = sample.live_sites
        {
            first.get_or_insert_with(|| sites.clone());
            last = Some(sites);
        }
    }
    Ok(first.zip(last))
}

/// By how many objects each line of a function grew.
fn gained<'a>(first: &LiveSites, last: &'a LiveSites) -> ByFunction<'a, Vec<Objects>> {
    let mut lines: ByFunction<Vec<Objects>> = BTreeMap::new();
    for site in &last.sites {
        let is_same =
            |other: &&tracer::facts::LiveSite| (&other.place, &other.function) == (&site.place, &site.function);
        let before = first.sites.iter().find(is_same);
        let (calls, bytes) = before.map_or((0, 0), |before| (before.calls, before.bytes));
        let grew = Objects { count: site.calls as i64 - calls as i64, bytes: site.bytes as i64 - bytes as i64 };
        lines.entry((&site.module, &site.function)).or_default().push(grew);
    }
    lines
}

/// The line that is kmalloc's: a function may have objects of other caches as well.
fn nearest(lines: &[Objects], recorded: Objects) -> Option<Objects> {
    lines.iter().copied().min_by_key(|line| (line.bytes.abs_diff(recorded.bytes), line.count.abs_diff(recorded.count)))
}

fn problem(recorded: Objects, kernel: Objects, unplaced: u64) -> Option<String> {
    let (objects, bytes) = (recorded.count.abs_diff(kernel.count), recorded.bytes.abs_diff(kernel.bytes));
    let may_be = READING + unplaced;
    let off = objects > may_be || bytes > may_be * LARGEST;
    off.then(|| format!("{objects} objects and {bytes} bytes apart, of which {unplaced} objects may be of any size"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer::facts::LiveSite;

    const fn objects(count: i64, bytes: i64) -> Objects {
        Objects { count, bytes }
    }

    #[test]
    fn a_line_grew_by_what_it_has_more_than_at_the_beginning() {
        let site = |place: &str, calls, bytes| LiveSite {
            place: place.into(),
            function: "f".into(),
            calls,
            bytes,
            ..LiveSite::default()
        };
        let first = LiveSites { sites: vec![site("a.c:1", 10, 80)], left_out: 0 };
        let last = LiveSites { sites: vec![site("a.c:1", 30, 400), site("a.c:2", 7, 56)], left_out: 0 };
        assert_eq!(gained(&first, &last)[&("", "f")], [objects(20, 320), objects(7, 56)]);
    }

    #[test]
    fn a_function_is_compared_by_the_line_of_its_objects() {
        let lines = [objects(4359, 1_115_904), objects(4359, 131_488)];
        assert_eq!(nearest(&lines, objects(4359, 131_480)), Some(lines[1]));
        assert_eq!(nearest(&[], objects(1, 8)), None);
    }

    #[test]
    fn other_numbers_are_a_problem_unless_records_were_lost() {
        let recorded = objects(1000, 64_000);
        assert_eq!(problem(recorded, objects(996, 63_744), 0), None);
        assert!(problem(recorded, objects(995, 64_000), 0).is_some());
        assert_eq!(problem(recorded, objects(995, 64_000), 1), None);
        assert!(problem(recorded, objects(1000, 128_000), 0).is_some());
    }

    #[test]
    fn a_capture_without_such_a_count_has_no_rows() {
        let capture = workspace::root().join("captures/default.bounce");
        assert!(rows(&capture, "6.12", "objects", 0).unwrap().is_empty());
    }
}
