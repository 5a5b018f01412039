//! Plots of what there was: buffers by length and by alignment, split by what bounces, and the memory of the caches.

use super::{Area, Axis, Colour, Mark, Plot, Series, Shape};
use crate::table::bytes;
use bouncescope_replay::outcome::Outcome;
use bouncescope_replay::statistics::{ALIGNMENTS, DeviceStatistics};

/// Beyond these no length bounces for alignment; they stand together.
const LONG: u64 = 8192;

/// Buffers by length, split by what bounces under a policy.
pub(crate) fn by_length(outcome: &Outcome, about: &str) -> Plot {
    let mut rows: Vec<(String, u64, u64)> = Vec::new();
    let mut longer = (0, 0);
    for row in &outcome.rows.by_size_class {
        if row.up_to > LONG {
            longer = (longer.0 + row.tally.buffers, longer.1 + row.tally.bounces);
        } else {
            rows.push((row.up_to.to_string(), row.tally.buffers, row.tally.bounces));
        }
    }
    if longer.0 > 0 {
        rows.push(("more".into(), longer.0, longer.1));
    }
    let title = format!("Buffers by length, and what of them bounces under {}", outcome.name);
    split(title, "length up to, bytes", &rows, about)
}

/// Buffers by the alignment of their start, split by what the kernel bounced.
pub(crate) fn by_alignment(devices: &[DeviceStatistics], about: &str) -> Plot {
    let mut rows: Vec<(String, u64, u64)> = (0..ALIGNMENTS)
        .map(|n| {
            let sum = |count: fn(&DeviceStatistics, usize) -> u64| devices.iter().map(|one| count(one, n)).sum();
            let name = if n == ALIGNMENTS - 1 { "more".to_owned() } else { (1_u64 << n).to_string() };
            (name, sum(|one, n| one.start_alignment[n]), sum(|one, n| one.bounced_start_alignment[n]))
        })
        .collect();
    // Buffers at odd addresses are rare; so is a plot that needs the room for them.
    while rows.first().is_some_and(|(_, buffers, _)| *buffers == 0) {
        rows.remove(0);
    }
    let title = "Buffers by alignment of their start, and what of them the kernel bounced".to_owned();
    split(title, "start is a multiple of, bytes", &rows, about)
}

fn split(title: String, axis: &str, rows: &[(String, u64, u64)], about: &str) -> Plot {
    let most = rows.iter().map(|(_, buffers, _)| *buffers).max().unwrap_or(0);
    let bar = |n: usize, from: f64, to: f64, count: u64| ((n as f64 + from, 0.0), (n as f64 + to, count as f64));
    let series = |name: &str, colour, from, to, count: fn(&(String, u64, u64)) -> u64| Series {
        name: name.to_owned(),
        colour: Colour::Nth(colour),
        shape: Shape::Bars(rows.iter().enumerate().map(|(n, row)| bar(n, from, to, count(row))).collect()),
    };
    let mark = |(n, (name, buffers, bounces)): (usize, &(String, u64, u64))| Mark {
        area: Area::Columns(n as f64, n as f64 + 1.0),
        words: format!("{name}: {buffers} buffers, {bounces} bounce"),
    };
    Plot {
        title,
        about: about.to_owned(),
        x: Axis::names(axis, rows.iter().map(|(name, ..)| name.clone()).collect()),
        y: Axis::counts("buffers", most),
        // Side by side: on a logarithmic scale a stack's upper part would look like nothing.
        series: vec![
            series("stay where they are", 0, 0.1, 0.5, |(_, buffers, bounces)| buffers - bounces.min(buffers)),
            series("bounce", 1, 0.5, 0.9, |(.., bounces)| *bounces),
        ],
        marks: if most > 0 { rows.iter().enumerate().map(mark).collect() } else { Vec::new() },
    }
}

/// Slabs that the live objects take by cache: before, under the first outcome, and after, under the second.
pub(crate) fn memory(before: &Outcome, after: &Outcome, about: &str) -> Plot {
    let mut sizes: Vec<u64> = before.caches.iter().chain(&after.caches).map(|cache| cache.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let taken = |outcome: &Outcome, size: u64| {
        outcome.caches.iter().find(|cache| cache.size == size).map_or(0, |cache| cache.slab_bytes)
    };
    let most = sizes.iter().map(|size| taken(before, *size).max(taken(after, *size))).max().unwrap_or(0);
    let kib = |count: u64| count as f64 / 1024.0;
    let bars = |outcome: &Outcome, colour, from: f64, to: f64| Series {
        name: outcome.name.clone(),
        colour: Colour::Nth(colour),
        shape: Shape::Bars(
            sizes
                .iter()
                .enumerate()
                .map(|(n, size)| ((n as f64 + from, 0.0), (n as f64 + to, kib(taken(outcome, *size)))))
                .collect(),
        ),
    };
    let mark = |(n, size): (usize, &u64)| {
        let (old, new) = (taken(before, *size), taken(after, *size));
        let (won, how) = if old >= new { (old - new, "won") } else { (new - old, "more") };
        Mark {
            area: Area::Columns(n as f64, n as f64 + 1.0),
            words: format!(
                "kmalloc-{size}: {} {}, {} {}: {} {how}",
                before.name,
                bytes(old),
                after.name,
                bytes(new),
                bytes(won)
            ),
        }
    };
    let total = |outcome: &Outcome| outcome.slab_bytes.map_or(0, |slabs| slabs.value);
    let (old, new) = (total(before), total(after));
    let sum = if old >= new { format!("{} saved", bytes(old - new)) } else { format!("{} more", bytes(new - old)) };
    Plot {
        title: format!("Slabs of live objects by cache: {} against {}, {sum}", before.name, after.name),
        about: about.to_owned(),
        x: Axis::names("bytes of an object", sizes.iter().map(ToString::to_string).collect()),
        y: Axis { most: kib(most).max(1.0), logarithmic: kib(most) > 1000.0, ..Axis::numbers("slabs, KiB", 1) },
        series: vec![bars(before, 1, 0.1, 0.5), bars(after, 0, 0.5, 0.9)],
        marks: if most > 0 { sizes.iter().enumerate().map(mark).collect() } else { Vec::new() },
    }
}
