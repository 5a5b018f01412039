//! The table that a run ends with. Formatting only.

/// One recording's row.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Cells in the order of the header, without the last; the first three say which row it is.
    pub(super) cells: Vec<String>,
    /// What is off; empty when nothing is.
    pub(super) problems: Vec<String>,
}

/// What the columns of recordings hold. The peak and the refusals are predicted/kernel, the count is capture/tracefs. Of lists those that were
/// compared, of these those of mixed lengths, and those that differ in DMA segments or marks.
pub(super) const HEADER: [&str; 14] = [
    "kernel",
    "scenario",
    "recording",
    "mappings",
    "agree",
    "disagree",
    "unknown",
    "raced",
    "peak",
    "refused",
    "bounced",
    "lists",
    "seconds",
    "",
];

/// Numbers to the right, names to the left, and below it every problem with the row that it belongs to.
pub(super) fn format(header: &[&str], rows: &[Row]) -> String {
    let last = |row: &Row| if row.problems.is_empty() { "ok" } else { "FAILED" }.to_owned();
    let mut lines: Vec<Vec<String>> = vec![header.iter().map(|&name| name.to_owned()).collect()];
    lines.extend(rows.iter().map(|row| row.cells.iter().cloned().chain([last(row)]).collect()));
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if column < 3 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text.extend(rows.iter().map(problems));
    text
}

/// What is off in a row, a line each, with the row that it belongs to.
pub(super) fn problems(row: &Row) -> String {
    let of = row.cells[..3].join(" ");
    row.problems.iter().flat_map(|problem| [&of, ": ", problem, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_problems_name_their_row() {
        let row = |kernel: &str, problems: &[&str]| Row {
            cells: [kernel, "direct", "mixed", "2500", "2500", "0", "0", "0", "3/3", "0/0", "9/9", "7/2/0", "41.0"]
                .map(str::to_owned)
                .to_vec(),
            problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
        };
        let text = format(&HEADER, &[row("6.12", &[]), row("7.3", &["3 disagreements"])]);
        assert_eq!(
            text,
            "kernel  scenario  recording  mappings  agree  disagree  unknown  raced  peak  refused  bounced  lists  seconds\n\
             6.12    direct    mixed          2500   2500         0        0      0   3/3      0/0      9/9  7/2/0     41.0      ok\n\
             7.3     direct    mixed          2500   2500         0        0      0   3/3      0/0      9/9  7/2/0     41.0  FAILED\n\
             7.3 direct mixed: 3 disagreements\n"
        );
    }
}
