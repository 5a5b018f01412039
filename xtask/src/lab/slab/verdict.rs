//! Whether the figures of recordings agree: with the kernel's own count, and with what another kernel did. Pure.

use std::collections::BTreeMap;

use super::{
    super::table::Row,
    figures::{CacheUse, Recorded},
};

/// Objects that a recording has to see live at its end for it to have tested anything.
const OBJECTS: u64 = 20_000;

/// What the columns of recordings hold: objects seen, those that the kernel's caches gained, the largest difference between
/// the two in one cache in parts of what it may be, bytes of the caches' slabs.
pub(super) const OWN: [&str; 10] =
    ["kernel", "recording", "caches from", "objects", "kernel", "+-", "worst cache", "of its bar", "slab bytes", ""];

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
    let net = |row: &super::figures::CacheRow| row.seen as i64 - row.older_freed as i64;
    let share = |row: &super::figures::CacheRow| {
        (row.kernel - net(row)).unsigned_abs() as f64 / (row.slack + 2 * row.error).max(1) as f64
    };
    let worst = caches.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
    cells.extend([
        recorded.minalign.to_string(),
        caches.iter().map(net).sum::<i64>().to_string(),
        caches.iter().map(|row| row.kernel).sum::<i64>().to_string(),
        caches.iter().map(|row| row.slack).sum::<u64>().to_string(),
        worst.map_or_else(|| "-".into(), |row| row.size.to_string()),
        worst.map_or_else(|| "-".into(), |row| format!("{:.2}", share(row))),
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
                "{} B: {} objects seen and {} older ones freed, the kernel's caches gained {}, which may be off by {} + 2 × {}",
                row.size, row.seen, row.older_freed, row.kernel, row.slack, row.error
            )
        })
        .collect();
    let seen: u64 = recorded.caches.iter().map(|row| row.seen).sum();
    if seen < OBJECTS {
        problems.push(format!("only {seen} live objects seen, expected {OBJECTS}"));
    }
    problems.extend(recorded.losses.iter().map(|(kind, count)| format!("lost {kind}: {count}")));
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
        sizes.insert(cache.size, (0, cache.kernel, cache.slack + 2 * cache.error + cache.older_freed));
    }
    for cache in small {
        if let Some((predicted, _, bar)) = sizes.get_mut(&cache.size) {
            *predicted = cache.objects as i64;
            *bar += 2 * cache.error;
        }
    }
    let mut rows: Vec<_> =
        sizes.iter().map(|(size, (predicted, real, bar))| row(format!("{size} B"), *predicted, *real, *bar)).collect();
    let bytes = |caches: &[CacheUse]| caches.iter().map(|one| (one.size * one.objects) as i64).sum::<i64>();
    let real = |caches: &[super::figures::CacheRow]| caches.iter().map(|row| row.size as i64 * row.kernel).sum::<i64>();
    let bar = |caches: &[super::figures::CacheRow]| {
        caches.iter().map(|row| row.size * (row.slack + 2 * row.error + row.older_freed)).sum::<u64>()
    };
    let error: u64 = legacy.iter().chain(small).map(|one| 2 * one.error * one.size).sum();
    let won = real(&old.caches) - real(&new.caches);
    let may_be = bar(&old.caches) + bar(&new.caches) + error;
    rows.push(row("bytes won".into(), bytes(legacy) - bytes(small), won, may_be));
    rows
}
