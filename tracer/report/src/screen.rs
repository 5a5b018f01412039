//! What the screens of commands have in common: their width, how they begin, and lines with a word before them.

use super::losses;
use super::wrap::wrapped_to;
use bouncescope_replay::Replayed;

/// Columns of a terminal that nobody has made wider.
pub(super) const COLUMNS: usize = 80;

/// The kernel, and how much was recorded of it, in a line.
pub(super) fn recording(replayed: &Replayed) -> String {
    let kernel = &replayed.start.kernel;
    let total = replayed.observed.total();
    let cpus = kernel.possible_cpus;
    format!(
        "{} {}, {}: {} in {:.1} s\n",
        kernel.machine,
        kernel.release,
        counted(cpus.into(), "CPU"),
        counted(total.mappings, "mapping"),
        losses::recorded_seconds(replayed),
    )
}

/// A number of things, as `1 mapping` or `2 mappings`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A label or a verdict, and what it is about, broken where that is too long.
pub(super) fn line(label: &str, words: &str) -> String {
    let label = format!("{label:<10} ");
    wrapped_to(COLUMNS, words, &label, &" ".repeat(label.len()))
}

/// Long lines broken, what follows indented.
pub(super) fn folded(text: &str) -> String {
    let fold = |line: &str| {
        let indent = " ".repeat(line.len() - line.trim_start().len());
        wrapped_to(COLUMNS, line, &indent, &format!("{indent}  "))
    };
    text.lines().map(fold).collect()
}
