//! Plots of policies: how full the pool is, and what becomes of bounces, failures and hazards.

use super::{Area, Axis, Colour, Mark, Plot, Series, Shape};
use crate::table::{GROWN, bytes, slots};
use bouncescope_model::pool::SLOT;
use bouncescope_replay::Replayed;
use bouncescope_replay::occupancy::Occupancy;
use bouncescope_replay::outcome::{Outcome, Tally};

/// More curves than these cannot be told apart.
const CURVES: usize = 7;
/// Places along the time whose values are told.
const MOMENTS: usize = 96;
/// What the kernel did.
const KERNEL: &str = "the kernel itself";

/// Slots in use over time by policy, the kernel's own samples, and the captured pool.
pub(crate) fn occupancy(replayed: &Replayed, about: &str) -> Plot {
    let kernel = &replayed.start.kernel;
    let start_ns = replayed.start.time_ns;
    let seconds = (replayed.span_ns as f64 / 1e9).max(1e-6);
    let bounces = |outcome: &&Outcome| outcome.peak_slots > 0;
    let mut curves: Vec<(String, &Occupancy)> = Vec::new();
    for outcome in replayed.outcomes.iter().filter(bounces) {
        let Some(occupancy) = &outcome.occupancy else { continue };
        match curves.iter_mut().find(|(_, other)| *other == occupancy) {
            // One would hide the other.
            Some((names, _)) => *names += &format!(", {}", outcome.name),
            None => curves.push((outcome.name.clone(), occupancy)),
        }
    }
    curves.truncate(CURVES);
    let mut series: Vec<Series> = Vec::new();
    for (n, (name, occupancy)) in curves.iter().enumerate() {
        series.push(Series {
            name: name.clone(),
            colour: Colour::Nth(n),
            shape: Shape::Steps(points(occupancy, start_ns, seconds)),
        });
    }
    let after = |time_ns: u64| (time_ns.saturating_sub(start_ns) as f64 / 1e9).min(seconds);
    let samples: Vec<(f64, f64)> =
        replayed.observed.samples.iter().map(|sample| (after(sample.time_ns), sample.used_slots as f64)).collect();
    if !samples.is_empty() {
        let name = format!("{KERNEL} (its counter, sampled)");
        series.push(Series { name, colour: Colour::Kernel, shape: Shape::Line(samples.clone()) });
    }
    let predicted = curves.iter().flat_map(|(_, occupancy)| &occupancy.peaks).copied().max();
    let peak = predicted.max(replayed.observed.used_peak).unwrap_or(0);
    let hiwater = replayed.verdict.peak_slots_kernel.filter(|slots| *slots > 0);
    let mut most = peak.max(hiwater.unwrap_or(0));
    if let Some(hiwater) = hiwater.filter(|_| replayed.verdict.peak_is_exact) {
        let line = vec![(0.0, hiwater as f64), (seconds, hiwater as f64)];
        series.push(Series {
            name: format!("{KERNEL}, peak {hiwater}"),
            colour: Colour::Kernel,
            shape: Shape::Dashes(line),
        });
    }
    let pool = kernel.pool.slots;
    let has_grown = replayed.observed.used_peak.max(hiwater).is_some_and(|slots| kernel.pool.has_grown(slots))
        || replayed.outcomes.iter().any(Outcome::has_grown_at_peak);
    // To the scale of the pool: curves near the ground are a pool with room.
    if pool > 0 {
        most = most.max(pool);
        let line = vec![(0.0, pool as f64), (seconds, pool as f64)];
        series.push(Series {
            // No limit where pools are added.
            name: format!("{}: {}", if has_grown { "at the beginning" } else { "limit" }, slots(pool)),
            colour: Colour::Limit,
            shape: Shape::Dashes(line),
        });
    }
    let mut plot = Plot {
        title: format!(
            "Slots in use over time; the pool has {} ({}{})",
            slots(pool),
            bytes(pool.saturating_mul(SLOT)),
            if has_grown { GROWN } else { "" }
        ),
        about: about.to_owned(),
        x: Axis { name: "seconds from the beginning".into(), most: seconds, ..Axis::default() },
        y: Axis::numbers("slots of 2 KiB", most),
        series,
        marks: Vec::new(),
    };
    if peak > 0 {
        plot.marks = (0..MOMENTS).map(|n| moment(n, &curves, &samples, start_ns, seconds)).collect();
    }
    plot
}

/// The curve in seconds from the beginning of the stream to its end.
fn points(occupancy: &Occupancy, start_ns: u64, seconds: f64) -> Vec<(f64, f64)> {
    let from = occupancy.start_ns.saturating_sub(start_ns) as f64 / 1e9;
    let mut points: Vec<(f64, f64)> =
        occupancy.curve().map(|(at, peak)| ((from + at).min(seconds), peak as f64)).collect();
    points.push((seconds, points.last().map_or(0.0, |last| last.1)));
    points
}

/// The values of all curves in one part of the time: the most of each.
fn moment(n: usize, curves: &[(String, &Occupancy)], samples: &[(f64, f64)], start_ns: u64, seconds: f64) -> Mark {
    let (from, to) = (seconds * n as f64 / MOMENTS as f64, seconds * (n + 1) as f64 / MOMENTS as f64);
    let mut words = format!("{from:.3} to {to:.3} s, at most");
    for (name, occupancy) in curves {
        let offset = occupancy.start_ns.saturating_sub(start_ns) as f64 / 1e9;
        let width = occupancy.width_ns as f64 / 1e9;
        let inside = occupancy.curve().filter(|(at, _)| at + offset < to && at + offset + width > from);
        let peak = inside.map(|(_, peak)| peak).max().unwrap_or_default();
        words += &format!("\n{name}: {}", slots(peak));
    }
    if let Some((_, used)) = samples.iter().rev().find(|(at, _)| *at < to) {
        words += &format!("\n{KERNEL}, when last sampled: {}", slots(*used as u64));
    }
    Mark { area: Area::Columns(from, to), words }
}

/// Bounces of the policy that the advice is about, by the line size that is assumed.
pub(crate) fn line_sizes(outcomes: &[Outcome], captured: u32, about: &str) -> Plot {
    let most = outcomes.iter().map(|outcome| outcome.total.bounces).max().unwrap_or(0);
    let mark = if captured > 0 { format!("; the kernel's is {captured}") } else { String::new() };
    let policy = outcomes.first().map_or("", |outcome| outcome.name.as_str());
    let point = |(n, outcome): (usize, &Outcome)| (n as f64 + 0.5, outcome.total.bounces as f64);
    let words = |(n, outcome): (usize, &Outcome)| Mark {
        area: Area::Columns(n as f64, n as f64 + 1.0),
        words: format!(
            "line size {} B: {} bounces, {} copied, peak {}, {} mappings refused, hazards {}",
            outcome.cache_line_size,
            outcome.total.bounces,
            bytes(outcome.total.bytes_copied),
            slots(outcome.peak_slots),
            outcome.total.failed,
            in_words(&outcome.total)
        ),
    };
    Plot {
        title: format!("Bounces by cache_line_size(), {policy}{mark}"),
        about: about.to_owned(),
        x: Axis::names(
            "cache_line_size(), bytes",
            outcomes.iter().map(|outcome| outcome.cache_line_size.to_string()).collect(),
        ),
        y: Axis::numbers("buffers that bounce", most),
        series: vec![Series {
            name: format!("bounces under {policy}"),
            colour: Colour::Nth(0),
            shape: Shape::Line(outcomes.iter().enumerate().map(point).collect()),
        }],
        marks: if most > 0 { outcomes.iter().enumerate().map(words).collect() } else { Vec::new() },
    }
}

/// Mappings refused, and the peak, by the size of the pool.
pub(crate) fn failures(outcomes: &[Outcome], about: &str) -> Plot {
    let most = outcomes.iter().map(|outcome| outcome.total.failed.max(outcome.peak_slots)).max().unwrap_or(0);
    let policy = outcomes.first().map_or("", |outcome| outcome.name.as_str());
    let line = |value: fn(&Outcome) -> u64| {
        outcomes.iter().enumerate().map(|(n, outcome)| (n as f64 + 0.5, value(outcome) as f64)).collect()
    };
    let words = |(n, outcome): (usize, &Outcome)| Mark {
        area: Area::Columns(n as f64, n as f64 + 1.0),
        words: format!(
            "{} ({}): {} mappings refused, {}{} in use at the fullest moment",
            slots(outcome.total_slots),
            bytes(outcome.total_slots.saturating_mul(SLOT)),
            outcome.total.failed,
            // Those that the recorded kernel refused may have lasted as long as others like them.
            if outcome.peak_slots_at_most() > outcome.peak_slots { "at most " } else { "" },
            slots(outcome.peak_slots_at_most())
        ),
    };
    Plot {
        title: format!("Mappings refused by the size of the pool, {policy}"),
        about: about.to_owned(),
        x: Axis::names(
            "pool, slots of 2 KiB (the numbers of swiotlb=)",
            outcomes.iter().map(|outcome| outcome.total_slots.to_string()).collect(),
        ),
        y: Axis::counts("mappings refused; slots", most),
        series: vec![
            Series {
                name: "mappings refused".into(),
                colour: Colour::Nth(1),
                shape: Shape::Line(line(|outcome| outcome.total.failed)),
            },
            Series {
                name: "most slots in use".into(),
                colour: Colour::Nth(0),
                shape: Shape::Line(line(|outcome| outcome.peak_slots)),
            },
        ],
        marks: if most > 0 { outcomes.iter().enumerate().map(words).collect() } else { Vec::new() },
    }
}

/// Hazards by class.
fn in_words(tally: &Tally) -> String {
    let Tally { hazards_foreign, hazards_unknown, hazards_own, .. } = tally;
    format!("{hazards_foreign} with a foreign object, {hazards_unknown} unknown, {hazards_own} with their own object")
}

/// Hazards that the kernel does not take for safe against buffers that bounce, a dot for each policy.
pub(crate) fn hazards(outcomes: &[Outcome], about: &str) -> Plot {
    let of = |outcome: &Outcome| outcome.total.hazards_foreign + outcome.total.hazards_unknown;
    let most = |value: &dyn Fn(&Outcome) -> u64| outcomes.iter().map(value).max().unwrap_or(0);
    let (most_bounces, most_unsafe) = (most(&|outcome| outcome.total.bounces), most(&of));
    let dot = |(n, outcome): (usize, &Outcome)| Series {
        name: outcome.name.clone(),
        colour: Colour::Nth(n),
        shape: Shape::Dots(vec![(outcome.total.bounces as f64, of(outcome) as f64)]),
    };
    let words = |outcome: &Outcome| {
        // Policies that come to the same lie on one another.
        let same = |other: &&Outcome| (other.total.bounces, of(other)) == (outcome.total.bounces, of(outcome));
        let names: Vec<&str> = outcomes.iter().filter(same).map(|other| other.name.as_str()).collect();
        Mark {
            area: Area::Around(outcome.total.bounces as f64, of(outcome) as f64),
            words: format!(
                "{}: {} bounces, hazards {}",
                names.join(", "),
                outcome.total.bounces,
                in_words(&outcome.total)
            ),
        }
    };
    let any = most_bounces + most_unsafe > 0;
    Plot {
        title: "Hazards against bounces, a dot for each policy".into(),
        about: about.to_owned(),
        x: Axis::counts("buffers that bounce", most_bounces),
        y: Axis::counts("hazards with a foreign object, or unknown", most_unsafe),
        series: outcomes.iter().enumerate().map(dot).take(CURVES).collect(),
        marks: if any { outcomes.iter().take(CURVES).map(words).collect() } else { Vec::new() },
    }
}
