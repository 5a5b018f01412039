//! What-if: the knobs, what comes of them, and other policies beside.

use std::collections::BTreeMap;

use ratatui::layout::{Constraint, Layout, Rect};
use tracer::replay::outcome::{Outcome, Tally};

use super::Seen;
use super::canvas::{Canvas, Piece, dim, plain, title};
use super::numbers::{bytes, count, signed_bytes};
use super::table::{self, Column};
use crate::answer::Answer;
use crate::hit::Target;
use crate::theme::Tone;
use crate::what_if::Knob;

/// Pairs of devices that are named.
const PAIRS: u16 = 3;
/// Lines that the policies have at the least, with their frame.
const POLICIES: u16 = 5;
/// Columns from which on every column has room.
const WIDE: u16 = 116;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let [above, below, command] =
        Layout::vertical([Constraint::Length(8), Constraint::Min(3), Constraint::Length(2)]).areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Length(42.min(area.width / 2)), Constraint::Min(0)]).areas(above);
    knobs(seen, left, canvas);
    chosen(seen, right, canvas);
    let pairs = overlapping(seen);
    let lines = u16::try_from(pairs.len()).unwrap_or(u16::MAX).min(PAIRS);
    // The policies come first.
    let fits = lines > 0 && below.height >= POLICIES + lines + 2;
    let [policies, overlaps] =
        Layout::vertical([Constraint::Min(3), Constraint::Length(if fits { lines + 2 } else { 0 })]).areas(below);
    beside(seen, policies, canvas);
    if fits {
        overlap_pairs(&pairs, overlaps, canvas);
    }
    let of = if seen.state.is_live() { "of a capture (w records one)" } else { "of the whole capture" };
    canvas.text(command, 0, &[dim(format!("the same on the command line, {of}:"))]);
    canvas.text(command, 1, &[plain(self::command(seen))]);
}

fn knobs(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("settings"));
    for (row, knob) in Knob::ALL.into_iter().enumerate() {
        let position = seen.state.knobs.position(knob, &seen.history.start.kernel);
        let line = Rect { y: inner.y + row as u16, height: 1, ..inner };
        let made = seen.state.knobs.pool_made(&seen.history.start.kernel).filter(|_| knob == Knob::Pool);
        let made = made.map_or_else(String::new, |made| format!(", makes {made}"));
        canvas.text(line, 0, &[dim(format!("{:<18}", knob.option())), plain(position), dim(made)]);
        if knob == seen.state.knob {
            canvas.select(line);
        }
        canvas.hit(line, Target::Knob(knob));
    }
}

fn chosen(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("result"));
    let Some((answer, outcome)) = seen.answer.and_then(|answer| Some((answer, answer.chosen()?))) else {
        canvas.text(inner, 0, &[dim("replaying")]);
        return;
    };
    let real = answer.replayed.observed.total();
    let line = |name: &str, predicted: String, is_bad: bool, rest: String| -> Vec<Piece> {
        let tone = if is_bad { Tone::Bad } else { Tone::Predicted };
        vec![dim(format!("{name:<9}")), (tone, format!("{predicted:>9}")), dim(format!("  {rest}"))]
    };
    let at_most = match outcome.peak_slots_at_most() {
        most if most > outcome.peak_slots => format!(", at most {}", count(most)),
        _ => String::new(),
    };
    // The kernel's own high-water mark where it keeps one: samples miss what came between them.
    let verdict = &answer.replayed.verdict;
    let peak = verdict.peak_slots_kernel.map_or("not seen".into(), |slots| {
        let at_least = if verdict.peak_is_exact { "" } else { ">= " };
        format!("{at_least}{} real", count(slots))
    });
    let Tally { hazards_foreign, hazards_unknown, .. } = outcome.total;
    let overlaps = match outcome.total.overlaps {
        0 => String::new(),
        overlaps => format!(", {} overlap", count(overlaps)),
    };
    let classes = format!("foreign, {} unknown{overlaps}", count(hazards_unknown));
    let lines = [
        line("bounces", count(outcome.total.bounces), false, format!("{} real", count(real.bounces))),
        line("copied", bytes(outcome.total.bytes_copied), false, String::new()),
        line("peak", count(outcome.peak_slots), false, format!("slots{at_most}, {peak}")),
        line("refused", count(outcome.total.failed), outcome.total.failed > 0, format!("{} real", count(real.failed))),
        line("hazards", count(hazards_foreign), hazards_foreign > 0, classes),
        won(answer, outcome).map_or_else(
            || line("saved", "?".into(), false, "no count of the caches".into()),
            |won| line("saved", signed_bytes(won), won < 0, "against legacy".into()),
        ),
    ];
    for (row, line) in lines.iter().enumerate() {
        canvas.text(inner, row as u16, line);
    }
}

/// Pairs of devices whose buffers overlap under the chosen settings, and how often, the most frequent first.
fn overlapping(seen: &Seen) -> Vec<([String; 2], u64)> {
    let mut pairs = BTreeMap::<[&str; 2], u64>::new();
    let rows = seen.answer.and_then(Answer::chosen).map_or(&[][..], |outcome| &outcome.rows.overlaps);
    for row in rows {
        *pairs.entry([&row.later.device, &row.earlier.device]).or_default() += row.overlaps;
    }
    let mut pairs: Vec<_> = pairs.into_iter().map(|(pair, overlaps)| (pair.map(str::to_owned), overlaps)).collect();
    pairs.sort_by(|(a, a_overlaps), (b, b_overlaps)| b_overlaps.cmp(a_overlaps).then_with(|| a.cmp(b)));
    pairs
}

/// Which devices' buffers overlap. Whose objects they are, `replay --wide` says.
fn overlap_pairs(pairs: &[([String; 2], u64)], area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("overlaps: buffers in one cache line, the later of the two first"));
    for (row, ([later, earlier], overlaps)) in pairs.iter().take(usize::from(PAIRS)).enumerate() {
        let beside = if later == earlier { "itself" } else { earlier };
        canvas.text(
            inner,
            row as u16,
            &[
                (Tone::Predicted, format!("{:>8}", count(*overlaps))),
                plain(format!("  {later} ")),
                dim("beside "),
                plain(beside.to_owned()),
            ],
        );
    }
}

/// Bytes of slabs that the kernel would take less than with caches as they were before 6.5.
fn won(answer: &Answer, outcome: &Outcome) -> Option<i64> {
    let slabs = |outcome: &Outcome| Some(outcome.all_slabs?.bytes? as i64);
    let legacy = answer.replayed.outcomes.iter().find(|outcome| outcome.name == "legacy")?;
    Some(slabs(legacy)? - slabs(outcome)?)
}

fn beside(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("policies with these settings"));
    let Some(answer) = seen.answer else { return };
    let wide = inner.width >= WIDE;
    let mut columns = vec![
        Column::rest("policy"),
        Column::number("bounces", 8),
        Column::number("copied", 9),
        Column::number("peak", 7),
        Column::number("refused", 8),
        Column::number("foreign", 8),
        Column::number("saved", 9),
    ];
    if wide {
        columns.extend([
            Column::number("unknown", 8),
            Column::number("own object", 11),
            Column::number("not needed", 11),
            Column::number("lists broken", 13),
        ]);
    }
    let bad = |value: u64| (if value == 0 { Tone::Dim } else { Tone::Bad }, count(value));
    let cells = |(number, outcome): (usize, &Outcome)| {
        let tone = if number == 0 { Tone::Predicted } else { Tone::Text };
        let mut cells = vec![
            (tone, outcome.name.clone()),
            (tone, count(outcome.total.bounces)),
            (tone, bytes(outcome.total.bytes_copied)),
            (tone, count(outcome.peak_slots)),
            bad(outcome.total.failed),
            bad(outcome.total.hazards_foreign),
            won(answer, outcome).map_or_else(|| dim("?"), |won| (tone, signed_bytes(won))),
        ];
        if wide {
            cells.extend([
                plain(count(outcome.total.hazards_unknown)),
                plain(count(outcome.total.hazards_own)),
                plain(count(outcome.total.bounces_not_needed)),
                plain(count(outcome.lists_losing_concatenation)),
            ]);
        }
        cells
    };
    let rows: Vec<Vec<Piece>> = answer.replayed.outcomes.iter().enumerate().map(cells).collect();
    table::draw(canvas, inner, &columns, &rows, 0, None, None);
}

/// The command that gives the same numbers.
fn command(seen: &Seen) -> String {
    let knobs = &seen.state.knobs;
    let mut command = format!("bouncescope replay --policy {}", knobs.policy);
    for knob in Knob::ALL.into_iter().filter(|knob| *knob != Knob::Policy && knobs.is_turned(*knob)) {
        let position = knobs.position(knob, &seen.history.start.kernel);
        command += &format!(" {} {position}", knob.option());
    }
    // Without a file it would be about the embedded capture.
    let file = if seen.state.is_live() { "FILE" } else { seen.state.source.as_str() };
    format!("{command} {file}")
}
