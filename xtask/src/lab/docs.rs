//! The results of a run in `docs/fidelity.md`, written there by the run itself.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{kernel::Kernel, table::Row};

const FILE: &str = "docs/fidelity.md";
/// Between these lines everything is the lab's.
const BEGIN: &str = "<!-- written by cargo xtask lab --write-docs -->\n";
const END: &str = "<!-- end of what is written -->\n";
/// Columns of [`super::table::HEADER`] that are shown, with their names here; how long a boot took says nothing of fidelity.
const COLUMNS: [(usize, &str); 10] = [
    (0, "kernel"),
    (1, "scenario"),
    (2, "recording"),
    (3, "mappings"),
    (4, "agree"),
    (5, "disagree"),
    (6, "unknown"),
    (7, "peak slots"),
    (8, "refused"),
    (9, "bounces"),
];

/// Writes the rows of recordings, and which kernels they are of. Fails when a row did.
pub(super) fn write(root: &Path, kernels: &[Kernel], rows: &[Row]) -> Result<()> {
    ensure!(rows.iter().all(|row| row.problems.is_empty()), "{FILE} is not written: a recording failed");
    let file = root.join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let releases: Vec<_> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    let text = replaced(&text, &section(&releases, rows)).with_context(|| format!("{FILE} lacks the lab's marks"))?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn section(releases: &[&str], rows: &[Row]) -> String {
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(COLUMNS.iter().map(|(_, name)| *name).collect());
    text += &line(vec!["---"; COLUMNS.len()]);
    // Where everything is lost on purpose nothing is to be learnt of agreement.
    let counts = |row: &&Row| row.cells[1] != "losses" && row.cells[3].parse::<u64>().is_ok();
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

/// The text with another section between the marks; `None` without them.
fn replaced(text: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some([before, BEGIN, "\n", section, "\n", END, after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &str, mappings: &str) -> Row {
        let cells = [kernel, "direct", "mixed", mappings, mappings, "0", "0", "1/1", "0/0", "9/9", "41.0"];
        Row { cells: cells.map(str::to_owned).to_vec(), problems: Vec::new() }
    }

    #[test]
    fn recordings_are_rows_with_a_sum_and_pages_are_not() {
        let text = section(&["6.12.1-arm64"], &[row("6.12", "7000"), row("6.12", "-"), row("7.3", "100")]);
        assert!(text.contains("| 6.12 | direct | mixed | 7000 | 7000 | 0 | 0 | 1/1 | 0/0 | 9/9 |\n"), "{text}");
        assert!(text.ends_with(
            "\n7100 mappings in 2 recordings of 6.12.1-arm64: 7100 agreements, 0 disagreements, 0 unknown.\n"
        ));
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = ["a\n", BEGIN, "old\n", END, "b\n"].concat();
        let once = replaced(&text, "new\n").unwrap();
        assert_eq!(once, ["a\n", BEGIN, "\nnew\n\n", END, "b\n"].concat());
        assert_eq!(replaced(&once, "new\n").unwrap(), once);
        assert_eq!(replaced("a\n", "new\n"), None);
    }

    #[test]
    fn the_document_has_the_marks() {
        let text = fs::read_to_string(crate::workspace_root().join(FILE)).unwrap();
        assert!(replaced(&text, "").is_some());
    }
}
