//! What `bouncescope doctor` says of the kernel.

use ratatui::layout::Rect;
use tracer::doctor::Page;
use tracer::report;

use super::Seen;
use super::canvas::{Canvas, dim, title};
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

/// A line in pieces, those behind the first further in.
fn broken(line: &str, width: usize) -> Vec<String> {
    let indent = line.len() - line.trim_start().len() + 2;
    let mut lines = Vec::new();
    let mut rest = line.to_owned();
    while rest.chars().count() > width && width > indent + 10 {
        let blanks = rest.char_indices().take(width + 1).filter(|(at, sign)| *sign == ' ' && *at > indent);
        let Some((at, _)) = blanks.last() else { break };
        let tail = format!("{}{}", " ".repeat(indent), rest[at..].trim_start());
        rest.truncate(at);
        lines.push(rest);
        rest = tail;
    }
    lines.push(rest);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words_and_nothing_goes_lost() {
        let line = "  slot_map  kprobe swiotlb_tbl_map_single: attached, fired 596 times, ümlaut ümlaut";
        for width in 40..90 {
            let lines = broken(line, width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width} {lines:?}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&lines.join(" ")), words(line), "{width}");
        }
    }
}
