//! What `bouncescope doctor` says of the kernel.

use ratatui::layout::Rect;
use tracer::doctor::Page;
use tracer::report;

use super::Seen;
use super::canvas::{Canvas, dim, title};
use super::wrap::broken;
use crate::theme::Tone;

pub(super) fn draw(seen: &Seen, area: Rect, canvas: &mut Canvas) {
    let lines = lines(seen, usize::from(area.width).saturating_sub(4));
    let height = usize::from(area.height).saturating_sub(2);
    let first = seen.state.kernel_scroll.min(lines.len().saturating_sub(height));
    let mut heading = title("kernel");
    heading.push(dim(format!("  lines {}-{} of {}", first + 1, (first + height).min(lines.len()), lines.len())));
    let inner = canvas.panel(area, &heading);
    for (row, line) in lines.iter().skip(first).take(height).enumerate() {
        let is_heading = !line.is_empty() && !line.starts_with(' ');
        canvas.text(inner, row as u16, &[(if is_heading { Tone::Title } else { Tone::Text }, line.clone())]);
    }
}

/// The page, in lines no wider than `width`.
fn lines(seen: &Seen, width: usize) -> Vec<String> {
    if !seen.history.has_begun() {
        return Vec::new();
    }
    let mut page = Page::new(seen.history.examined.clone(), None);
    if seen.state.is_live() {
        // No capture's page.
        page.recorder = None;
    }
    report::doctor::text(&page).lines().flat_map(|line| broken(line, width)).collect()
}
