//! The time line: bounces over the whole stream, the window in it, and the moment.

use ratatui::layout::Rect;

use super::Seen;
use super::bars::sparkline;
use super::canvas::{Canvas, Piece, dim};
use super::numbers::clock;
use crate::hit::Target;
use crate::theme::Tone;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let line = Rect { height: 1, ..area };
    let time = &seen.state.time;
    let width = usize::from(area.width);
    let whole_ns = time.last_ns.saturating_sub(time.first_ns).max(1) as f64;
    let place = |ns: u64| ((ns.saturating_sub(time.first_ns)) as f64 / whole_ns * (width.max(1) - 1) as f64) as usize;
    let (from, to) = time.window();
    let (from, to) = (place(from), place(to));
    // Mappings where nothing bounces, so that there is something to go by.
    let columns = seen.history.columns(time.first_ns, time.last_ns, width);
    let bounces: Vec<f64> = columns.iter().map(|(bucket, _)| seen.history.bounces(bucket) as f64).collect();
    let nothing_bounces = bounces.iter().all(|bounces| *bounces == 0.0);
    let values = if nothing_bounces { columns.iter().map(|(b, _)| b.mappings as f64).collect() } else { bounces };
    for (column, sign) in sparkline(&values, canvas.theme).chars().enumerate() {
        let is_seen = (from..=to).contains(&column);
        let sign = if sign == ' ' { if is_seen { '_' } else { '.' } } else { sign };
        let tone = if column == to {
            Tone::Strong
        } else if is_seen {
            Tone::Real
        } else {
            Tone::Dim
        };
        canvas.sign(area.x + column as u16, area.y, sign, tone);
    }
    canvas.hit(line, Target::Time);
    let below = Rect { y: area.y + 1, height: 1, ..area };
    canvas.text(below, 0, &said(seen, if nothing_bounces { "mappings" } else { "bounces" }));
    let doing = doing(seen);
    let room = to.saturating_sub(1);
    canvas.text_right(below, 0, &doing);
    // Where it would not lie on other signs.
    if room < width && doing.is_empty() && to > 60 {
        canvas.sign(area.x + to as u16, below.y, canvas.theme.signs().moment, Tone::Strong);
    }
}

fn said(seen: &Seen, what: &str) -> Vec<Piece> {
    let time = &seen.state.time;
    let since = |ns: u64| clock(ns.saturating_sub(seen.history.start.time_ns));
    let (from, to) = time.window();
    let state = match (time.is_live, time.is_paused()) {
        (true, false) => (Tone::Good, "live".to_owned()),
        (true, true) => (Tone::Strong, "paused".to_owned()),
        (false, false) => (Tone::Good, format!("playing {}", time.speed_name())),
        (false, true) => (Tone::Text, "stopped".to_owned()),
    };
    vec![
        state,
        dim("  window "),
        (Tone::Text, time.length.name().to_owned()),
        dim(format!("  {} - {} of {}  above: {what}", since(from), since(to), since(time.last_ns))),
    ]
}

fn doing(seen: &Seen) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if seen.state.read < 1.0 {
        pieces.push((Tone::Strong, format!(" reading {:.0} %", (seen.state.read * 100.0).floor())));
    }
    if seen.state.computing {
        pieces.push((Tone::Predicted, " replaying".to_owned()));
    }
    pieces
}
