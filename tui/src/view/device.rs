//! One device in detail: what it is, lengths and alignments of its buffers, whose they are, its scatterlists.

use ratatui::layout::Rect;
use tracer::replay::outcome::{CallSiteRow, Rows};
use tracer::replay::statistics::{ALIGNMENTS, ByAlignment, DeviceStatistics};

use super::Seen;
use super::bars::bar;
use super::canvas::{Canvas, Piece, dim, plain, title};
use super::numbers::{bytes, count};
use crate::state::devices::{LENGTHS, lengths};
use crate::theme::{Theme, Tone};

/// Columns of a histogram's bars.
const BAR: usize = 30;
/// Call sites shown.
const SITES: usize = 20;

pub(super) fn draw(seen: &Seen, name: &str, area: Rect, canvas: &mut Canvas) {
    let inner = canvas.panel(area, &title(format!("device {name}")));
    let lines = lines(seen, name);
    let last = lines.len().saturating_sub(usize::from(inner.height));
    for (row, line) in lines.iter().skip(seen.state.device_scroll.min(last)).enumerate() {
        canvas.text(inner, row as u16, line);
    }
}

/// How many lines there are.
fn lines(seen: &Seen, name: &str) -> Vec<Vec<Piece>> {
    let mut lines = described(seen, name);
    let alone = seen.answer.filter(|answer| answer.question.device.as_deref() == Some(name));
    let Some(replayed) = alone.and_then(|answer| answer.device.as_ref()) else {
        lines.push(vec![dim("replaying")]);
        return lines;
    };
    let statistics = replayed.statistics.devices();
    let predicted = replayed.outcomes.first().map(|outcome| &outcome.rows);
    totals(&mut lines, &replayed.observed_rows, predicted);
    histogram(&mut lines, "lengths", &by_length(&statistics), seen.theme);
    let starts = by_alignment(statistics.iter().map(|one| &one.start_alignment));
    histogram(&mut lines, "alignment of where buffers start", &starts, seen.theme);
    let ends = by_alignment(statistics.iter().map(|one| &one.length_alignment));
    histogram(&mut lines, "alignment of lengths", &ends, seen.theme);
    call_sites(&mut lines, &replayed.observed_rows.by_call_site, predicted);
    lists(&mut lines, &replayed.observed_rows, predicted);
    lines
}

fn described(seen: &Seen, name: &str) -> Vec<Vec<Piece>> {
    let Some(device) = seen.history.devices.iter().rev().find(|device| device.name == name) else { return Vec::new() };
    let mut said = vec![
        format!("driver {}", if device.driver.is_empty() { "none" } else { &device.driver }),
        if device.coherent { "coherent".into() } else { "not coherent".into() },
        format!("{} address bits", 64 - device.dma_mask.leading_zeros()),
    ];
    if let Some(granule) = device.iommu_granule {
        said.push(format!("IOMMU, granule {granule}"));
    }
    if device.min_align_mask > 0 {
        said.push(format!("keeps low address bits {:#x}", device.min_align_mask));
    }
    for (is_so, words) in [
        (device.untrusted, "untrusted"),
        (device.force_bounce, "bounces everything"),
        (device.own_pool, "pool of its own"),
    ] {
        if is_so {
            said.push(words.into());
        }
    }
    vec![vec![plain(said.join(", "))]]
}

fn heading(lines: &mut Vec<Vec<Piece>>, text: &str) {
    lines.push(Vec::new());
    lines.push(title(text));
}

fn totals(lines: &mut Vec<Vec<Piece>>, observed: &Rows, predicted: Option<&Rows>) {
    for (direction, real) in observed.by_direction.iter().map(|row| (row.direction, row.tally)) {
        let would = predicted.and_then(|rows| rows.by_direction.iter().find(|row| row.direction == direction));
        lines.push(vec![
            plain(format!("{:<16}", format!("{direction:?}"))),
            plain(format!("{:>7} mappings {:>9}  ", count(real.mappings), bytes(real.bytes))),
            (Tone::Real, format!("{:>6} bounced  ", count(real.bounces))),
            (Tone::Predicted, format!("{:>6} predicted", count(would.map_or(0, |row| row.tally.bounces)))),
        ]);
    }
}

fn by_length(statistics: &[DeviceStatistics]) -> Vec<(String, u64)> {
    let name = |n: usize| {
        let least = bytes(1 << n);
        if n + 1 == LENGTHS { format!("{least} and more") } else { format!("{least} -") }
    };
    lengths(statistics.iter()).into_iter().enumerate().map(|(n, count)| (name(n), count)).collect()
}

fn by_alignment<'a>(all: impl Iterator<Item = &'a ByAlignment>) -> Vec<(String, u64)> {
    let mut sums = [0; ALIGNMENTS];
    for one in all {
        sums.iter_mut().zip(one).for_each(|(sum, count)| *sum += count);
    }
    sums.into_iter().enumerate().map(|(n, count)| (bytes(1 << n), count)).collect()
}

/// From the first to the last that is not nothing.
fn histogram(lines: &mut Vec<Vec<Piece>>, text: &str, rows: &[(String, u64)], theme: Theme) {
    heading(lines, text);
    let Some(first) = rows.iter().position(|(_, count)| *count > 0) else { return };
    let last = rows.iter().rposition(|(_, count)| *count > 0).unwrap_or(first);
    let largest = rows.iter().map(|(_, count)| *count).max().unwrap_or(0);
    for (name, value) in &rows[first..=last] {
        let [full, _] = bar(*value, largest, BAR, Tone::Real, theme);
        lines.push(vec![plain(format!("{name:>17} {:>7} ", count(*value))), full]);
    }
}

fn call_sites(lines: &mut Vec<Vec<Piece>>, rows: &[CallSiteRow], predicted: Option<&Rows>) {
    heading(lines, "where the buffers were allocated");
    for row in rows.iter().take(SITES) {
        let would = predicted.and_then(|rows| {
            rows.by_call_site.iter().find(|one| (&one.call_site, &one.module) == (&row.call_site, &row.module))
        });
        let name = match (row.call_site.as_str(), row.module.as_str()) {
            ("", _) => "not known".to_owned(),
            (name, "") => name.to_owned(),
            (name, module) => format!("{name} [{module}]"),
        };
        lines.push(vec![
            plain(format!("{:>7} buffers  ", count(row.tally.buffers))),
            (Tone::Real, format!("{:>6} bounced  ", count(row.tally.bounces))),
            (Tone::Predicted, format!("{:>6} predicted  ", count(would.map_or(0, |row| row.tally.bounces)))),
            plain(name),
        ]);
    }
}

fn lists(lines: &mut Vec<Vec<Piece>>, observed: &Rows, predicted: Option<&Rows>) {
    heading(lines, "scatterlists");
    let lists: u64 = observed.by_driver.iter().map(|row| row.lists).sum();
    let would = predicted.map(|rows| rows.by_driver.as_slice()).unwrap_or_default();
    let losing: u64 = would.iter().map(|row| row.lists_losing_concatenation).sum();
    let before: u64 = would.iter().map(|row| row.segments_before).sum();
    let after: u64 = would.iter().map(|row| row.segments_after).sum();
    lines.push(vec![plain(format!("{} mapped", count(lists)))]);
    if losing > 0 {
        let said = format!("{} would be split: {before} DMA segments become {after}", count(losing));
        lines.push(vec![(Tone::Predicted, said)]);
    }
}
