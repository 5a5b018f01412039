//! What-if: the knobs, what comes of them, and other policies beside.

use ratatui::layout::{Constraint, Layout, Rect};
use tracer::replay::outcome::{Estimate, Outcome};

use super::canvas::{Canvas, Piece, dim, plain, title};
use super::numbers::{bytes, count, signed_bytes};
use super::table::{self, Column};
use super::{Seen, Target};
use crate::answer::Answer;
use crate::theme::Tone;
use crate::what_if::Knob;

/// Columns from which on every column has room.
const WIDE: u16 = 116;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let [above, below, command] =
        Layout::vertical([Constraint::Length(8), Constraint::Min(3), Constraint::Length(2)]).areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Length(42.min(area.width / 2)), Constraint::Min(0)]).areas(above);
    knobs(seen, left, canvas);
    chosen(seen, right, canvas);
    beside(seen, below, canvas);
    canvas.text(command, 0, &[dim("the same on the command line, of the whole capture:")]);
    canvas.text(command, 1, &[plain(self::command(seen))]);
}

fn knobs(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("settings"));
    for (row, knob) in Knob::ALL.into_iter().enumerate() {
        let position = seen.state.knobs.position(knob, &seen.history.start.kernel);
        let line = Rect { y: inner.y + row as u16, height: 1, ..inner };
        canvas.text(line, 0, &[dim(format!("{:<18}", knob.option())), plain(position)]);
        if knob == seen.state.knob {
            canvas.select(line);
        }
        canvas.hit(line, Target::Knob(knob));
    }
}

fn chosen(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title("what comes of it"));
    let Some((answer, outcome)) = seen.answer.and_then(|answer| Some((answer, answer.chosen()?))) else {
        canvas.text(inner, 0, &[dim("replaying")]);
        return;
    };
    let real = answer.replayed.observed.total();
    let line = |name: &str, predicted: String, is_bad: bool, rest: String| -> Vec<Piece> {
        let tone = if is_bad { Tone::Bad } else { Tone::Predicted };
        vec![dim(format!("{name:<9}")), (tone, format!("{predicted:>9}")), dim(format!("  {rest}"))]
    };
    let peak = answer.replayed.observed.used_peak.map_or("not seen".into(), |slots| format!("{} real", count(slots)));
    let neighbours = format!("sure, {} possible", count(outcome.unsafe_possible));
    let lines = [
        line("bounces", count(outcome.bounces), false, format!("{} real", count(real.bounces))),
        line("copied", bytes(outcome.bytes_copied), false, String::new()),
        line("peak", count(outcome.peak_slots), false, format!("slots, {peak}")),
        line("refused", count(outcome.failed), outcome.failed > 0, format!("{} real", count(real.failed))),
        line("unsafe", count(outcome.unsafe_certain), outcome.unsafe_certain > 0, neighbours),
        won(answer, outcome).map_or_else(
            || line("won", "?".into(), false, "no objects were followed".into()),
            |won| line("won", signed_bytes(won), won < 0, "against legacy".into()),
        ),
    ];
    for (row, line) in lines.iter().enumerate() {
        canvas.text(inner, row as u16, line);
    }
}

/// Bytes of slabs that the kernel would take less than with caches as they were before 6.5.
fn won(answer: &Answer, outcome: &Outcome) -> Option<i64> {
    let slabs = |outcome: &Outcome| outcome.slab_bytes.map(|Estimate { value, .. }| value as i64);
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
        Column::number("unsafe", 8),
        Column::number("won", 9),
    ];
    if wide {
        columns.extend([
            Column::number("possibly unsafe", 16),
            Column::number("not needed", 11),
            Column::number("lists broken", 13),
        ]);
    }
    let bad = |value: u64| (if value == 0 { Tone::Dim } else { Tone::Bad }, count(value));
    let cells = |(number, outcome): (usize, &Outcome)| {
        let tone = if number == 0 { Tone::Predicted } else { Tone::Text };
        let mut cells = vec![
            (tone, outcome.name.clone()),
            (tone, count(outcome.bounces)),
            (tone, bytes(outcome.bytes_copied)),
            (tone, count(outcome.peak_slots)),
            bad(outcome.failed),
            bad(outcome.unsafe_certain),
            won(answer, outcome).map_or_else(|| dim("?"), |won| (tone, signed_bytes(won))),
        ];
        if wide {
            cells.extend([
                plain(count(outcome.unsafe_possible)),
                plain(count(outcome.bounces_not_needed)),
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
    if !seen.state.is_live() {
        command += &format!(" {}", seen.state.source);
    }
    command
}
