//! The results of a run in the docs, written there by the run itself.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Result, ensure};
use workspace::written;

use super::{cross, kernel::Kernel, maintenance, matrix, memory, scenarios, source, table::Row, tools};

const FILE: &str = "docs/fidelity.md";
const TOOLS_FILE: &str = "docs/import.md";
const TIMES_FILE: &str = "docs/performance.md";
/// Columns of [`super::table::HEADER`] that are shown, with their names here; how long a boot took says nothing of fidelity.
const COLUMNS: [(usize, &str); 12] = [
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
    (11, "lists"),
];
/// What marks the section of recordings, and what that section says after its sums.
const RECORDINGS: &str = "cargo xtask lab --write-docs";
const KERNELS: &str = "Kernels: ";

/// Writes the rows of recordings, and which kernels they are of. Rows of other kernels and scenarios stay as an earlier run wrote them, and so
/// does a scenario of which a recording failed; the text says which rows are of this run.
pub(super) fn write(root: &Path, kernels: &[Kernel], rows: &[Row]) -> Result<()> {
    let file = root.join(FILE);
    let before = written::section(&file, RECORDINGS)?;
    let releases: Vec<_> = kernels.iter().map(|kernel| (kernel.series.as_str(), kernel.release.as_str())).collect();
    written::replace(&file, RECORDINGS, &merged(&before, &releases, rows))
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

/// A row of the section, by column, and whether it was written by an earlier run.
struct Kept {
    cells: Vec<String>,
    is_earlier: bool,
}

impl Kept {
    /// By what rows are replaced together.
    fn boot(&self) -> (&str, &str) {
        (&self.cells[0], &self.cells[1])
    }

    fn number(&self, column: usize) -> u64 {
        self.cells.get(column).and_then(|cell| cell.parse().ok()).unwrap_or(0)
    }

    /// A part of the cell on lists.
    fn lists(&self, part: usize) -> u64 {
        let cell = self.cells.last().map_or("", String::as_str);
        cell.split('/').nth(part).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// The rows of an earlier section; what it has no column for is `-`.
fn rows_of(section: &str) -> Vec<Kept> {
    let mut lines = section.lines().filter_map(|line| {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        Some(cells.map(str::to_owned).collect::<Vec<_>>())
    });
    let Some(header) = lines.next() else { return Vec::new() };
    let places: Vec<_> = COLUMNS.iter().map(|(_, name)| header.iter().position(|one| one == name)).collect();
    let row = |cells: Vec<String>| {
        let cell =
            |place: &Option<usize>| place.and_then(|at| cells.get(at)).cloned().unwrap_or_else(|| "-".to_owned());
        Kept { cells: places.iter().map(cell).collect(), is_earlier: true }
    };
    lines.filter(|cells| cells.len() == header.len() && cells[0] != "---").map(row).collect()
}

/// The release of a series that an earlier section was written of.
fn release_in(section: &str, series: &str) -> Option<String> {
    let (_, kernels) = section.split_once(KERNELS)?;
    let kernels = kernels.split("\n\n").next()?.trim_end().trim_end_matches('.').replace('\n', " ");
    let mut named = kernels.split(", ").filter_map(|one| one.strip_suffix(')')?.split_once(" ("));
    named.find(|(name, _)| *name == series).map(|(_, release)| release.to_owned())
}

/// The section with the rows of a run: in the order of the matrix's kernels and of all scenarios.
fn merged(before: &str, releases: &[(&str, &str)], rows: &[Row]) -> String {
    // Where everything is lost on purpose nothing is to be learnt of agreement.
    let counts =
        |row: &&Row| !["losses", "losing"].contains(&row.cells[1].as_str()) && row.cells[3].parse::<u64>().is_ok();
    let boot = |row: &Row| (row.cells[0].clone(), row.cells[1].clone());
    let failed: BTreeSet<_> = rows.iter().filter(|row| !row.problems.is_empty()).map(boot).collect();
    let made: BTreeSet<_> = rows.iter().map(boot).filter(|boot| !failed.contains(boot)).collect();
    let is_made = |(kernel, scenario): (&str, &str)| made.contains(&(kernel.to_owned(), scenario.to_owned()));
    let mut kept: Vec<_> = rows_of(before).into_iter().filter(|row| !is_made(row.boot())).collect();
    let of_run = rows.iter().filter(counts).filter(|row| made.contains(&boot(row)));
    kept.extend(of_run.map(|row| Kept {
        cells: COLUMNS.iter().map(|(column, _)| row.cells[*column].clone()).collect(),
        is_earlier: false,
    }));
    kept.sort_by_key(|row| {
        let (kernel, scenario) = row.boot();
        let scenario = scenarios::ALL.iter().position(|one| one.name == scenario);
        (matrix::place(kernel), kernel.to_owned(), scenario)
    });
    let release = |series: &str| {
        let booted = releases.iter().find(|(name, _)| *name == series).map(|(_, release)| (*release).to_owned());
        booted.or_else(|| release_in(before, series)).unwrap_or_else(|| "of an earlier run".to_owned())
    };
    let mut kernels: Vec<_> = kept.iter().map(|row| row.cells[0].clone()).collect();
    kernels.dedup();
    let kernels: Vec<_> = kernels.iter().map(|series| format!("{series} ({})", release(series))).collect();
    let failed: Vec<_> = failed.iter().map(|(kernel, scenario)| format!("{kernel} {scenario}")).collect();
    let text = sums(&kept) + &format!("\n{KERNELS}{}.\n", kernels.join(", ")) + &runs(&kept, &failed);
    table(&kept) + &wrapped(&text)
}

/// The text with lines of at most 150 characters, as the documents have.
fn wrapped(text: &str) -> String {
    const LONGEST: usize = 150;
    let mut wrapped = String::new();
    for line in text.lines() {
        let mut length = 0;
        for word in line.split(' ') {
            if length > 0 {
                wrapped.push(if length + word.len() < LONGEST { ' ' } else { '\n' });
                length = if length + word.len() < LONGEST { length + 1 } else { 0 };
            }
            wrapped += word;
            length += word.len();
        }
        wrapped.push('\n');
    }
    wrapped
}

fn table(rows: &[Kept]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(COLUMNS.iter().map(|(_, name)| *name).collect());
    text += &line(vec!["---"; COLUMNS.len()]);
    text.extend(rows.iter().map(|row| line(row.cells.iter().map(String::as_str).collect())));
    text
}

/// What all rows come to.
fn sums(rows: &[Kept]) -> String {
    let sum = |column: usize| rows.iter().map(|row| row.number(column)).sum::<u64>();
    let lists = |part: usize| rows.iter().map(|row| row.lists(part)).sum::<u64>();
    let (mappings, unknown) = (sum(3), sum(6));
    let percent = if mappings == 0 { 0.0 } else { unknown as f64 * 100.0 / mappings as f64 };
    let kernels: BTreeSet<_> = rows.iter().map(|row| row.boot().0).collect();
    format!(
        "\n{mappings} mappings in {} recordings of {} kernels: {} agreements, {} disagreements, {unknown} unknown ({percent:.4} %), and {} \
         raced.\n\n{} lists, {} of them of mixed lengths: {} came out in other DMA segments or with other marks than predicted.\n",
        rows.len(),
        kernels.len(),
        sum(4),
        sum(5),
        sum(7),
        lists(0),
        lists(1),
        lists(2),
    )
}

/// Of which run the rows are.
fn runs(rows: &[Kept], failed: &[String]) -> String {
    let mut text = String::new();
    if rows.iter().any(|row| row.is_earlier) {
        let mut boots: Vec<_> = rows.iter().filter(|row| !row.is_earlier).map(Kept::boot).collect();
        boots.dedup();
        let mut by_kernel: Vec<(&str, Vec<&str>)> = Vec::new();
        for (kernel, scenario) in boots {
            match by_kernel.last_mut() {
                Some((last, scenarios)) if *last == kernel => scenarios.push(scenario),
                _ => by_kernel.push((kernel, vec![scenario])),
            }
        }
        let named: Vec<_> =
            by_kernel.iter().map(|(kernel, names)| format!("{kernel} ({})", names.join(", "))).collect();
        text += &format!("\nThe rows are of several runs. Those of the last one are: {}.\n", named.join("; "));
    }
    if !failed.is_empty() {
        text += &format!(
            "\nThe last run failed in {}, of which the rows, if any, are of an earlier run.\n",
            failed.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &str, mappings: &str) -> Row {
        let cells =
            [kernel, "direct", "mixed", mappings, mappings, "0", "0", "0", "1/1", "0/0", "9/9", "40/3/0", "41.0"];
        Row { cells: cells.map(str::to_owned).to_vec(), problems: Vec::new() }
    }

    fn of(scenario: &str, mut row: Row) -> Row {
        row.cells[1] = scenario.to_owned();
        row
    }

    #[test]
    fn recordings_are_rows_with_a_sum_and_pages_are_not() {
        let text = merged(
            "",
            &[("6.12", "6.12.1-arm64"), ("7.3", "7.3.4-arm64")],
            &[row("6.12", "7000"), row("6.12", "-"), row("7.3", "100")],
        );
        assert!(
            text.contains("| 6.12 | direct | mixed | 7000 | 7000 | 0 | 0 | 0 | 1/1 | 0/0 | 9/9 | 40/3/0 |\n"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "\n7100 mappings in 2 recordings of 2 kernels: 7100 agreements, 0 disagreements, 0 unknown (0.0000 %), and 0 raced.\n\n\
                 80 lists, 6 of them of mixed lengths: 0 came out in other DMA segments or with other marks than predicted.\n\n\
                 Kernels: 6.12 (6.12.1-arm64), 7.3 (7.3.4-arm64).\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn rows_of_other_kernels_and_scenarios_stay_and_the_text_says_so() {
        let before = merged("", &[("6.12", "6.12.1-arm64")], &[row("6.12", "7000"), of("smmu", row("6.12", "5"))]);
        let text = merged(&before, &[("7.3", "7.3.4-arm64")], &[row("7.3", "100")]);
        assert!(text.contains("\n7105 mappings in 3 recordings of 2 kernels"), "{text}");
        assert!(text.contains("\nKernels: 6.12 (6.12.1-arm64), 7.3 (7.3.4-arm64).\n"), "{text}");
        assert!(text.ends_with("\nThe rows are of several runs. Those of the last one are: 7.3 (direct).\n"), "{text}");
        let text = merged(&text, &[("6.12", "6.12.2-arm64")], &[of("smmu", row("6.12", "6"))]);
        assert!(text.contains("\n7106 mappings in 3 recordings of 2 kernels"), "{text}");
        assert!(text.contains("\nKernels: 6.12 (6.12.2-arm64), 7.3 (7.3.4-arm64).\n"), "{text}");
        let all = [row("6.12", "1"), of("smmu", row("6.12", "1")), row("7.3", "1")];
        assert!(!merged(&text, &[], &all).contains("several runs"));
    }

    #[test]
    fn long_lines_are_wrapped_and_read_as_one() {
        let rows: Vec<_> = (0..9).map(|n| row(&format!("6.{n}"), "1")).collect();
        let series: Vec<_> = (0..9).map(|n| (format!("6.{n}"), format!("6.{n}.117+deb13-arm64"))).collect();
        let releases: Vec<_> = series.iter().map(|(series, release)| (series.as_str(), release.as_str())).collect();
        let text = merged("", &releases, &rows);
        assert!(text.lines().all(|line| line.starts_with('|') || line.len() <= 150), "{text}");
        for (series, release) in &series {
            assert_eq!(release_in(&text, series).as_ref(), Some(release), "{text}");
        }
    }

    #[test]
    fn a_scenario_that_failed_is_named_and_keeps_its_earlier_rows() {
        let before = merged("", &[("6.12", "6.12.1-arm64")], &[row("6.12", "7000")]);
        let failed = Row { problems: vec!["1 disagreements".to_owned()], ..row("6.12", "8000") };
        let text = merged(&before, &[("6.12", "6.12.1-arm64")], &[failed, row("7.3", "2")]);
        assert!(text.contains("| 6.12 | direct | mixed | 7000 |") && !text.contains("8000"), "{text}");
        assert!(
            text.ends_with("\nThe last run failed in 6.12 direct, of which the rows, if any, are of an earlier run.\n"),
            "{text}"
        );
    }

    #[test]
    fn a_column_that_an_earlier_table_lacks_is_a_dash() {
        let before = "| kernel | scenario | mappings |\n| --- | --- | --- |\n| 6.12 | direct | 5 |\n";
        assert_eq!(rows_of(before)[0].cells.join(" "), "6.12 direct - 5 - - - - - - - -");
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
