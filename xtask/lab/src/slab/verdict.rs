//! Whether the figures of recordings agree: with the kernel's own count, and with what another kernel did. Pure.

use std::collections::BTreeMap;

use super::{
    super::table::Row,
    figures::{CacheRow, CacheUse, Recorded},
};

/// Objects that a recording has to see live at its end for it to have tested anything.
const OBJECTS: u64 = 20_000;

/// Objects that may be of any size, since records of them were lost: no more than one in so many.
const UNPLACED_ONE_IN: u64 = 50;

/// Objects of one size that two kernels may have allocated beside the workload.
const OTHERS: u64 = 16;

/// Largest of the caches that small ones relieve, bytes: what a kernel without them gives 129 bytes.
const LARGEST: u64 = 256;

/// What the columns of recordings hold: objects seen, those that the kernel's caches gained and what the two may differ by in
/// all caches; those that may be of any size; the largest difference in one cache, in parts of what it may be; bytes of
/// slabs that the objects take at the least, and those that the caches gained.
pub(super) const OWN: [&str; 12] = [
    "kernel",
    "recording",
    "caches from",
    "objects",
    "kernel",
    "+-",
    "unplaced",
    "worst cache",
    "of its bar",
    "slabs packed",
    "slabs",
    "",
];

/// What the columns of comparisons hold: what the old kernel's recording says of a cache of the new kernel, and what that
/// gained; then the same of the bytes of all.
pub(super) const ACROSS: [&str; 9] =
    ["from", "recording", "to", "cache", "predicted", "real", "difference", "may be", ""];

/// One recording's row, without its verdict.
pub(super) fn own_cells(series: &str, name: &str, recorded: Option<&Recorded>) -> Vec<String> {
    let mut cells = vec![series.to_owned(), name.to_owned()];
    let Some(recorded) = recorded else {
        cells.resize(OWN.len() - 1, "-".into());
        return cells;
    };
    let caches = &recorded.caches;
    let net = |row: &CacheRow| row.seen as i64 - row.older_freed as i64;
    let share = |row: &CacheRow| (row.kernel - net(row)).unsigned_abs() as f64 / row.bar.max(1) as f64;
    let worst = caches.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
    cells.extend([
        recorded.minalign.to_string(),
        caches.iter().map(net).sum::<i64>().to_string(),
        caches.iter().map(|row| row.kernel).sum::<i64>().to_string(),
        caches.iter().map(|row| row.bar).sum::<u64>().to_string(),
        recorded.unplaced.to_string(),
        worst.map_or_else(|| "-".into(), |row| row.size.to_string()),
        worst.map_or_else(|| "-".into(), |row| format!("{:.2}", share(row))),
        recorded.packed_bytes().map_or_else(|| "-".into(), |bytes| bytes.to_string()),
        caches.iter().map(|row| row.kernel_slab_bytes).sum::<i64>().to_string(),
    ]);
    cells
}

/// What is off about a recording by itself, a line each.
pub(super) fn own(recorded: &Recorded) -> Vec<String> {
    let mut problems: Vec<_> = recorded
        .caches
        .iter()
        .filter(|row| !row.agrees)
        .map(|row| {
            format!(
                "{} B: {} objects seen and {} older ones freed, the kernel's caches gained {}: they may differ by {}",
                row.size, row.seen, row.older_freed, row.kernel, row.bar
            )
        })
        .collect();
    let seen: u64 = recorded.caches.iter().map(|row| row.seen).sum();
    if seen < OBJECTS {
        problems.push(format!("only {seen} live objects seen, expected {OBJECTS}"));
    }
    if recorded.unplaced * UNPLACED_ONE_IN > seen {
        problems
            .push(format!("{} of {seen} objects may be of any size: {:?} lost", recorded.unplaced, recorded.losses));
    }
    problems
}

/// What the old kernel's recording predicts of each cache of the new kernel, beside what that gained: a row each, and one
/// for the bytes that small caches win.
pub(super) fn across(
    (old_series, recording, old): (&str, &str, &Recorded),
    (new_series, new): (&str, &Recorded),
) -> Vec<Row> {
    let row = |cache: String, predicted: i64, real: i64, bar: u64| {
        let difference = predicted - real;
        let numbers = [predicted, real, difference, bar as i64].map(|number| number.to_string());
        let cells = [old_series, recording, new_series].map(str::to_owned).into_iter().chain([cache]).chain(numbers);
        let off = difference.unsigned_abs() > bar;
        Row { cells: cells.collect(), problems: if off { vec!["beyond what it may be".into()] } else { Vec::new() } }
    };
    let [legacy, small] = old.policies.as_slice() else {
        let cells = [old_series, recording, new_series].map(str::to_owned).to_vec();
        return vec![Row { cells, problems: vec!["replay does not tell of two policies".into()] }];
    };
    let mut sizes: BTreeMap<u64, (i64, i64, u64)> = BTreeMap::new();
    for cache in &new.caches {
        sizes.insert(cache.size, (0, cache.kernel, OTHERS + cache.bar + cache.older_freed + old.unplaced));
    }
    for cache in small {
        // A cache that gained nothing is not told of.
        let (predicted, _, bar) = sizes.entry(cache.size).or_insert((0, 0, OTHERS + old.unplaced));
        *predicted = cache.objects as i64;
        *bar += 4 * cache.error;
    }
    let mut rows: Vec<_> =
        sizes.iter().map(|(size, (predicted, real, bar))| row(format!("{size} B"), *predicted, *real, *bar)).collect();
    let bytes = |caches: &[CacheUse]| -> i64 {
        caches.iter().filter(|one| one.size <= LARGEST).map(|one| (one.size * one.objects) as i64).sum()
    };
    let small_rows = |one: &Recorded| one.caches.iter().filter(|row| row.size <= LARGEST).cloned().collect::<Vec<_>>();
    let real = |one: &Recorded| small_rows(one).iter().map(|row| row.size as i64 * row.kernel).sum::<i64>();
    // What may be of any size is so only once.
    let bar = |one: &Recorded| {
        let sized = |row: &CacheRow| row.size * (row.bar.saturating_sub(one.unplaced) + row.older_freed);
        small_rows(one).iter().map(sized).sum::<u64>() + LARGEST * one.unplaced
    };
    // Of a sample both are made, and err alike.
    let error = |caches: &[CacheUse]| -> u64 {
        caches.iter().filter(|one| one.size <= LARGEST).map(|one| 4 * one.error * one.size).sum()
    };
    let won = real(old) - real(new);
    let may_be = bar(old) + bar(new) + error(legacy).max(error(small));
    rows.push(row("bytes saved".into(), bytes(legacy) - bytes(small), won, may_be));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(size: u64, seen: u64, kernel: i64, bar: u64) -> CacheRow {
        let agrees = (kernel - seen as i64).unsigned_abs() <= bar;
        CacheRow { size, seen, kernel, bar, agrees, ..CacheRow::default() }
    }

    fn takes(size: u64, objects: u64, error: u64) -> CacheUse {
        CacheUse { size, objects, error, slab_bytes: size * objects }
    }

    fn old() -> Recorded {
        Recorded {
            minalign: 128,
            caches: vec![row(128, 30_000, 30_010, 20)],
            policies: vec![vec![takes(128, 30_000, 0)], vec![takes(8, 10_000, 0), takes(64, 20_000, 0)]],
            ..Recorded::default()
        }
    }

    fn new() -> Recorded {
        Recorded {
            minalign: 8,
            caches: vec![row(8, 10_000, 10_030, 40), row(64, 20_000, 20_000, 0)],
            policies: vec![vec![takes(128, 30_000, 0)], vec![takes(8, 10_000, 0), takes(64, 20_000, 0)]],
            ..Recorded::default()
        }
    }

    #[test]
    fn a_recording_within_its_bars_is_in_order() {
        assert_eq!(own(&old()), Vec::<String>::new());
        let cells = own_cells("6.1", "objects", Some(&old()));
        let expected = ["6.1", "objects", "128", "30000", "30010", "20", "0", "128", "0.50", "3840000", "0"];
        assert_eq!(cells, expected);
        assert_eq!(own_cells("6.1", "objects", None).len(), cells.len());
    }

    #[test]
    fn a_difference_a_loss_and_too_few_objects_are_a_problem_each() {
        let with = |caches, unplaced| own(&Recorded { caches, unplaced, ..old() }).len();
        assert_eq!(with(vec![row(128, 30_000, 30_021, 20)], 0), 1);
        assert_eq!(with(vec![row(128, 30_000, 30_000, 20)], 600), 0);
        assert_eq!(with(vec![row(128, 30_000, 30_000, 20)], 601), 1);
        assert_eq!(with(vec![row(128, 19_999, 19_999, 20)], 0), 1);
    }

    #[test]
    fn caches_and_the_bytes_won_are_compared_across_kernels() {
        let rows = across(("6.1", "objects", &old()), ("6.12", &new()));
        let cells: Vec<_> = rows.iter().map(|row| row.cells[3..].join(" ")).collect();
        let won = 30_000 * 128 - 10_000 * 8 - 20_000 * 64;
        let real = 30_010 * 128 - 10_030 * 8 - 20_000 * 64;
        let may_be = 20 * 128 + 40 * 8;
        assert_eq!(
            cells,
            [
                "8 B 10000 10030 -30 56".into(),
                "64 B 20000 20000 0 16".into(),
                format!("bytes saved {won} {real} {} {may_be}", won - real)
            ]
        );
        assert!(rows.iter().all(|row| row.problems.is_empty()));
    }

    #[test]
    fn a_prediction_that_the_new_kernel_does_not_keep_is_a_problem() {
        let mut other = new();
        other.caches[1].kernel = 20_017;
        let problems = |new: &Recorded| {
            across(("6.1", "objects", &old()), ("6.12", new)).iter().filter(|row| !row.problems.is_empty()).count()
        };
        assert_eq!(problems(&other), 1);
        // A cache that was not foreseen.
        other = new();
        other.caches.push(row(32, 9000, 9000, 0));
        assert_eq!(problems(&other), 2);
    }
}
