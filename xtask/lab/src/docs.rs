//! The results of a run in the docs, written there by the run itself.

use std::path::Path;

use anyhow::{Result, ensure};
use workspace::written;

use super::{cross, kernel::Kernel, maintenance, memory, source, table::Row, tools};

const FILE: &str = "docs/fidelity.md";
const TOOLS_FILE: &str = "docs/import.md";
const TIMES_FILE: &str = "docs/performance.md";
/// Columns of [`super::table::HEADER`] that are shown, with their names here; how long a boot took says nothing of fidelity.
const COLUMNS: [(usize, &str); 11] = [
    (0, "kernel"),
    (1, "scenario"),
    (2, "recording"),
    (3, "mappings"),
    (4, "agree"),
    (5, "disagree"),
    (6, "unknown"),
    (7, "raced"),
    (8, "peak slots"),
    (9, "refused"),
    (10, "bounces"),
];

/// Writes the rows of recordings, and which kernels they are of. Fails when a row did.
pub(super) fn write(root: &Path, kernels: &[Kernel], rows: &[Row]) -> Result<()> {
    ensure!(rows.iter().all(|row| row.problems.is_empty()), "{FILE} is not written: a recording failed");
    let releases: Vec<_> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    written::replace(&root.join(FILE), "cargo xtask lab --write-docs", &section(&releases, rows))
}

/// Writes the rows of predictions across configurations. Rows in which something was not predicted stand there with what it was.
pub(super) fn write_cross(root: &Path, kernels: &[&str], rows: &[Row]) -> Result<()> {
    written::replace(&root.join(FILE), "cargo xtask lab --cross --write-docs", &cross_section(kernels, rows))
}

/// Writes the rows of the kernel's own functions. Fails when one differs.
pub(super) fn write_source(root: &Path, rows: &[Row]) -> Result<()> {
    ensure!(rows.iter().all(|row| row.problems.is_empty()), "{FILE} is not written: a function differs");
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let header = &source::HEADER[..source::HEADER.len() - 1];
    let mut text = line(header) + &line(&vec!["---"; header.len()]);
    for row in rows {
        text += &line(&row.cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    written::replace(&root.join(FILE), "cargo xtask lab --source --write-docs", &text)
}

/// Writes the rows of other tools, and which kernels they are of. Fails when a row did.
pub(super) fn write_tools(root: &Path, kernels: &[Kernel], rows: &[Row]) -> Result<()> {
    ensure!(rows.iter().all(|row| row.problems.is_empty()), "{TOOLS_FILE} is not written: a recording failed");
    let releases: Vec<_> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    let text = tools_section(&releases, rows);
    written::replace(&root.join(TOOLS_FILE), "cargo xtask lab --scenario tools --write-docs", &text)
}

fn tools_section(releases: &[&str], rows: &[Row]) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let shown = |cells: &[String]| -> Vec<String> {
        let kept = cells.iter().enumerate().filter(|(column, _)| *column != tools::SECONDS);
        kept.map(|(_, cell)| cell.clone()).collect()
    };
    let header: Vec<_> = tools::HEADER[..tools::HEADER.len() - 1].iter().map(|&name| name.to_owned()).collect();
    let header = shown(&header);
    let header: Vec<_> = header.iter().map(String::as_str).collect();
    let mut text = line(&header) + &line(&vec!["---"; header.len()]);
    for row in rows {
        let cells = shown(&row.cells);
        text += &line(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text + &format!("\n{} recordings; kernels {}.\n", rows.len(), releases.join(", "))
}

/// Writes the rows of slabs predicted for caches that begin elsewhere, likewise.
pub(super) fn write_memory(root: &Path, kernels: &[Kernel], rows: &[Row]) -> Result<()> {
    let releases: Vec<_> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    let text = with_differences(&memory::HEADER, rows);
    let within = rows.iter().filter(|row| row.problems.is_empty()).count();
    let text = text
        + &format!(
            "\n{within} of {} predictions are within their bounds; kernels {}.\n",
            rows.len(),
            releases.join(", ")
        );
    written::replace(&root.join(FILE), "cargo xtask lab --scenario memory --write-docs", &text)
}

/// Writes the rows of cache maintenance, and which kernels they are of. Fails when a row did.
pub(super) fn write_maintenance(root: &Path, kernels: &[Kernel], rows: &[Row]) -> Result<()> {
    ensure!(rows.iter().all(|row| row.problems.is_empty()), "{TIMES_FILE} is not written: a row failed");
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let header = maintenance::HEADER[..maintenance::HEADER.len() - 1].to_vec();
    let mut text = line(header.clone()) + &line(vec!["---"; header.len()]);
    text.extend(rows.iter().map(|row| line(row.cells.iter().map(String::as_str).collect())));
    let releases: Vec<_> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    text += &format!("\nKernels {}.\n", releases.join(", "));
    written::replace(&root.join(TIMES_FILE), "cargo xtask lab --scenario maintenance --write-docs", &text)
}

/// A table of rows with what each differs in, for which the header's last column is.
fn with_differences(header: &[&str], rows: &[Row]) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut header = header.to_vec();
    if let Some(last) = header.last_mut() {
        *last = "differs in";
    }
    let mut text = line(&header) + &line(&vec!["---"; header.len()]);
    for row in rows {
        let differs = row.problems.join("; ");
        let cells: Vec<_> = row.cells.iter().map(String::as_str).chain([differs.as_str()]).collect();
        text += &line(&cells);
    }
    text
}

fn cross_section(releases: &[&str], rows: &[Row]) -> String {
    let text = with_differences(&cross::HEADER, rows);
    let exact = rows.iter().filter(|row| row.problems.is_empty()).count();
    text + &format!("\n{exact} of {} predictions are exact; kernels {}.\n", rows.len(), releases.join(", "))
}

fn section(releases: &[&str], rows: &[Row]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(COLUMNS.iter().map(|(_, name)| *name).collect());
    text += &line(vec!["---"; COLUMNS.len()]);
    // Where everything is lost on purpose nothing is to be learnt of agreement.
    let counts =
        |row: &&Row| !["losses", "losing"].contains(&row.cells[1].as_str()) && row.cells[3].parse::<u64>().is_ok();
    let recordings: Vec<_> = rows.iter().filter(counts).collect();
    for row in &recordings {
        text += &line(COLUMNS.iter().map(|(column, _)| row.cells[*column].as_str()).collect());
    }
    let sum = |column: usize| recordings.iter().filter_map(|row| row.cells[column].parse::<u64>().ok()).sum::<u64>();
    text += &format!(
        "\n{} mappings in {} recordings of {}: {} agreements, {} disagreements, {} unknown.\n",
        sum(3),
        recordings.len(),
        releases.join(", "),
        sum(4),
        sum(5),
        sum(6)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &str, mappings: &str) -> Row {
        let cells = [kernel, "direct", "mixed", mappings, mappings, "0", "0", "0", "1/1", "0/0", "9/9", "41.0"];
        Row { cells: cells.map(str::to_owned).to_vec(), problems: Vec::new() }
    }

    #[test]
    fn recordings_are_rows_with_a_sum_and_pages_are_not() {
        let text = section(&["6.12.1-arm64"], &[row("6.12", "7000"), row("6.12", "-"), row("7.3", "100")]);
        assert!(text.contains("| 6.12 | direct | mixed | 7000 | 7000 | 0 | 0 | 0 | 1/1 | 0/0 | 9/9 |\n"), "{text}");
        assert!(text.ends_with(
            "\n7100 mappings in 2 recordings of 6.12.1-arm64: 7100 agreements, 0 disagreements, 0 unknown.\n"
        ));
    }

    #[test]
    fn tools_are_rows_without_the_time_that_they_took() {
        let cells = ["7.3", "perf 6.1", "8.5", "8788", "108/108", "20", "579/579", "120/120", "816", "same", "-", ""];
        let row = Row { cells: cells.map(str::to_owned).to_vec(), problems: Vec::new() };
        let text = tools_section(&["6.12.1-arm64"], &[row]);
        assert!(text.starts_with("| kernel | tool | events | bounces |"), "{text}");
        assert!(
            text.contains("| 7.3 | perf 6.1 | 8788 | 108/108 | 20 | 579/579 | 120/120 | 816 | same | - |  |\n"),
            "{text}"
        );
        assert!(text.ends_with("\n1 recordings; kernels 6.12.1-arm64.\n"), "{text}");
    }

    #[test]
    fn predictions_are_rows_with_what_they_differ_in() {
        let cells = ["base", "full", "line-32", "--cache-line-size 32", "574/574", "0/0", "240/241"].map(str::to_owned);
        let problems = vec!["240 slots at the fullest moment predicted, the kernel has 241".to_owned()];
        let text = cross_section(&["6.12.1-arm64"], &[Row { cells: cells.to_vec(), problems }]);
        assert!(
            text.contains("| 240/241 | 240 slots at the fullest moment predicted, the kernel has 241 |\n"),
            "{text}"
        );
        assert!(text.ends_with("\n0 of 1 predictions are exact; kernels 6.12.1-arm64.\n"), "{text}");
    }
}
