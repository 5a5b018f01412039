//! The policies' table as people read it: a column for each figure that has one, in text and on pages.

use super::label::OBSERVED;
use super::losses::seconds;
use super::table::{GROWN, bytes};
use bouncescope_replay::Replayed;
use bouncescope_replay::check::Gauge;
use bouncescope_replay::figures::{Figure, Place, Run, Unit, Value};
use bouncescope_replay::slabs::Basis;

/// A cell: what is shown, and what it is sorted by.
pub(super) type Cell = (String, Option<f64>);

/// A line of explanations is broken behind so many characters.
const WIDTH: usize = 110;

/// The columns behind that of the policy's name, with their headings and explanations.
fn columns() -> impl Iterator<Item = (Figure, &'static str, Option<&'static str>)> {
    let column = |figure: &Figure| {
        figure.places().iter().find_map(|place| match place {
            Place::Text(heading, explanation) => Some((*figure, *heading, *explanation)),
            _ => None,
        })
    };
    Figure::ALL.iter().filter_map(column)
}

pub(super) fn headings() -> Vec<&'static str> {
    std::iter::once("policy").chain(columns().map(|(_, heading, _)| heading)).collect()
}

/// The headings that need it, explained in a few lines.
pub(super) fn explanations() -> String {
    let mut text = String::new();
    let mut width = 0;
    for explained in columns().filter_map(|(_, heading, explanation)| Some(format!("{heading}: {}", explanation?))) {
        if width > 0 && width + 2 + explained.len() <= WIDTH {
            text += "; ";
            width += 2;
        } else if width > 0 {
            text.push('\n');
            width = 0;
        }
        text += &explained;
        width += explained.len();
    }
    text + "\n"
}

/// A row for each policy, and one for what the kernel did; and why figures that are marked are in doubt.
pub(super) fn rows(replayed: &Replayed) -> (Vec<Vec<Cell>>, Vec<String>) {
    let all: Vec<Figure> = columns().map(|(figure, ..)| figure).collect();
    let (_, rows, doubts) = some(replayed, &all);
    (rows, doubts)
}

/// The same of some figures, with their headings.
pub(super) fn some(replayed: &Replayed, figures: &[Figure]) -> (Vec<&'static str>, Vec<Vec<Cell>>, Vec<String>) {
    let gauge = Gauge::new(replayed);
    let mut doubts = Vec::new();
    let shown = || columns().filter(|(figure, ..)| figures.contains(figure));
    let runs = replayed.outcomes.iter().map(Some).chain([None]).map(|outcome| Run { replayed, outcome });
    let rows = runs.map(|run| {
        let name = run.outcome.map_or(OBSERVED, |outcome| &outcome.name);
        let cells = shown().map(|(figure, ..)| cell(figure, run, &gauge, &mut doubts));
        std::iter::once((name.to_owned(), None)).chain(cells).collect()
    });
    let rows = rows.collect();
    (std::iter::once("policy").chain(shown().map(|(_, heading, _)| heading)).collect(), rows, doubts)
}

fn cell(figure: Figure, run: Run, gauge: &Gauge, doubts: &mut Vec<String>) -> Cell {
    if run.outcome.is_none() && figure.is_simulated_only() {
        return ("-".to_owned(), None);
    }
    let Some(value) = figure.read(run) else {
        return (if figure.unit() == Unit::Slots { "unknown" } else { "?" }.to_owned(), None);
    };
    let (text, sorted_by) = shown(figure.unit(), value, run);
    (format!("{}{text}", mark(figure, run, gauge, doubts)), sorted_by)
}

/// On which side of the figure the truth may lie. Of the real run only the peak is asked: the rest is what was recorded.
fn mark(figure: Figure, run: Run, gauge: &Gauge, doubts: &mut Vec<String>) -> &'static str {
    let Some(outcome) = run.outcome else {
        let is_at_least = figure == Figure::PeakSlots && !run.replayed.verdict.peak_is_exact;
        return if is_at_least { ">= " } else { "" };
    };
    let Some(measured) = figure.scope().and_then(|_| gauge.total(outcome, figure)) else { return "" };
    for why in &measured.doubts {
        if !doubts.contains(why) {
            doubts.push(why.clone());
        }
    }
    measured.mark()
}

fn shown(unit: Unit, value: Value, run: Run) -> Cell {
    let number = value.number();
    let text = match (unit, value) {
        (_, Value::Estimate(estimate)) if estimate.error > 0 => {
            format!("{} +- {}", bytes(estimate.value), bytes(estimate.error))
        }
        (_, Value::Slabs(slabs)) => match (slabs.basis, slabs.bytes) {
            (Basis::Counted, Some(likeliest)) => bytes(likeliest),
            (Basis::Moved, Some(likeliest)) => format!("~ {}", bytes(likeliest)),
            (_, Some(likeliest)) => format!("~ {} ({} to {})", bytes(likeliest), bytes(slabs.least), bytes(slabs.most)),
            (_, None) => format!("{} to {}", bytes(slabs.least), bytes(slabs.most)),
        },
        (Unit::Bytes | Unit::BytesPerSecond, _) => bytes(number as u64),
        (Unit::Percent, _) => format!("{number:.3} %"),
        (Unit::Slots, _) => {
            format!("{number} of {}{}", run.total_slots(), if run.has_grown_at_peak() { GROWN } else { "" })
        }
        // Of a pool that stays empty there is none.
        (Unit::Moment, _) if run.outcome.is_none_or(|outcome| outcome.peak_slots == 0) => {
            return ("-".to_owned(), None);
        }
        (Unit::Moment, _) => {
            let after = seconds(number as u64, run.replayed.start.time_ns);
            return (format!("{after:.3} s"), Some(after));
        }
        (Unit::Count | Unit::PerSecond | Unit::Alignment | Unit::Duration | Unit::Seconds, _) => number.to_string(),
    };
    (text, Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_explanation_stands_behind_its_heading_in_lines_of_bounded_width() {
        let text = explanations();
        assert!(text.starts_with("kmalloc from: bytes of the smallest caches; copied/s: "), "{text}");
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }
}
