//! Everything that the commands print, compared with files: `tests/golden/*.console` holds a command and its output, and so does
//! every `console` block of the README and the docs. `cargo xtask golden` writes all of them anew; look at the difference.
//!
//! The comparison, its unified difference and the renewal are snapbox's, which adds five small crates to the tests and none to the
//! program. Its sibling trycmd runs such files by itself, but would bring forty, knows no pipe, and drops the `…` of a block when it
//! renews it. insta keeps its files in a format of its own, and these are meant to be read.

#[path = "golden/console.rs"]
mod console;
#[path = "golden/file.rs"]
mod golden_file;
#[path = "golden/schema.rs"]
mod schema;
#[path = "golden/tables.rs"]
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use console::{Block, root};
use golden_file::compare;
use snapbox::{Assert, Data, data::DataFormat};

/// Compares each file with what its text becomes when its commands are run; fails with all differences.
fn compare_all(files: &[PathBuf], renewed: impl Fn(&str) -> Result<String, String>) {
    assert!(!files.is_empty());
    let mut wrong = String::new();
    for file in files {
        let old = fs::read_to_string(file).unwrap();
        let result = renewed(&old).map_err(|why| format!("{}: {why}\n", file.display()));
        wrong += &result.and_then(|new| compare(file, new)).err().unwrap_or_default();
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

/// Every Markdown file that has blocks to be run.
fn documents() -> Vec<PathBuf> {
    ["", "docs", "captures", "dashboards"].iter().flat_map(|folder| files(folder, "md")).collect()
}

/// What a file of commands becomes: its output is replaced by what they print.
fn transcript(old: &str) -> Result<String, String> {
    console::renewed(&old.lines().collect::<Vec<_>>(), &console::Inputs::default())
}

#[test]
fn every_command_prints_what_its_golden_file_has() {
    compare_all(&files("tests/golden", "console"), transcript);
}

// Other features and systems have other commands and options.
#[test]
#[cfg(all(target_os = "linux", feature = "live", feature = "report", not(feature = "export")))]
fn every_help_text_is_the_one_of_its_golden_file() {
    compare_all(&files("tests/golden/help", "console"), transcript);
    let all = fs::read_to_string(root().join("tests/golden/help/bouncescope.console")).unwrap();
    let commands = all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|command| *command != "help") {
        let file = root().join(format!("tests/golden/help/{command}.console"));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(text.starts_with(&format!("$ bouncescope {command} --help\n")), "{}", file.display());
    }
}

#[test]
fn every_console_block_of_the_docs_shows_what_its_command_prints() {
    compare_all(&documents(), console::document);
}

#[test]
fn console_blocks_that_are_not_run_are_listed_with_a_reason() {
    let mut list = String::new();
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root()).unwrap().display();
        for Block { commands, not_run, .. } in console::blocks(&text).filter(|block| block.not_run.is_some()) {
            let _ = writeln!(list, "{name}: {}: {}", commands.join("; "), not_run.unwrap_or_default());
        }
    }
    compare(&root().join("tests/golden/not-run.txt"), list).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn what_is_printed_stands_in_console_blocks_only() {
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        for fence in console::fences(&text).filter(|fence| fence.language != "console") {
            let prompt = fence.lines.iter().find(|line| line.starts_with("$ ") || line.starts_with("# bouncescope"));
            assert_eq!(prompt, None, "{}: make it a console block, so that it is tested", file.display());
        }
    }
}

#[test]
fn a_block_keeps_what_it_leaves_out_when_it_is_renewed() {
    let actual = ["head 2", "", "a (x)  1", "b (y)  3", "c (z)  4", "", "last"];
    let renew = |expected: &[&str]| console::elided(expected, &actual);
    assert_eq!(renew(&["head 1", "…", "b (y)  2", "  …", "last"]).unwrap().join("|"), "head 2|…|b (y)  3|  …|last");
    assert_eq!(renew(&["head 1", "…"]).unwrap().join("|"), "head 2|…");
    assert_eq!(renew(&["…", "", "last"]).unwrap().join("|"), "…||last");
    assert!(renew(&["head 2", "…", "d (w)  2", "…"]).unwrap_err().contains("d (w)"));
}

#[test]
fn a_difference_is_found_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.console");
    fs::write(&file, "$ bouncescope --version\nbouncescope 0.0.0\n").unwrap();
    let new = transcript(&fs::read_to_string(&file).unwrap()).unwrap();
    let expected = Data::read_from(&file, Some(DataFormat::Text)).raw();
    let difference = Assert::new().try_eq(None, Data::text(new), expected).unwrap_err().to_string();
    assert!(difference.contains(concat!("bouncescope ", env!("CARGO_PKG_VERSION"))), "{difference}");
}

fn schema_of(kind: &str) -> serde_json::Value {
    let file = root().join(format!("schemas/{kind}.schema.json"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_json_output_is_as_its_schema_says() {
    let mut kinds = BTreeSet::new();
    for file in files("tests/golden", "console") {
        let text = fs::read_to_string(&file).unwrap();
        let (command, output) = text.split_once('\n').unwrap();
        if !command.contains(" --json") {
            continue;
        }
        // Behind it may stand the exit code.
        let document: serde_json::Value =
            serde_json::Deserializer::from_str(output).into_iter().next().unwrap().unwrap();
        let kind = command.split_whitespace().nth(2).unwrap();
        // `replay --advise` of several captures prints a document of another kind.
        let printed = if document["schema"] == "bouncescope/advise" { "advise" } else { kind };
        schema::hold(&document, &schema_of(printed)).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        assert_eq!(document["schema"], format!("bouncescope/{printed}"), "{}", file.display());
        kinds.insert(kind.to_owned());
    }
    let with_json = files("tests/golden/help", "console")
        .into_iter()
        .filter(|file| fs::read_to_string(file).unwrap().lines().any(|line| line.trim_start().starts_with("--json")));
    let with_json: BTreeSet<_> =
        with_json.map(|file| file.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(kinds, with_json, "every command with --json has a golden file of it");
}

#[test]
fn the_docs_tables_of_figures_are_those_of_the_code() {
    let mut texts = BTreeMap::new();
    for (name, begin, headings, rows) in tables::all() {
        let text = texts.entry(name).or_insert_with(|| fs::read_to_string(root().join(name)).unwrap());
        *text =
            tables::with_rows(text, begin, headings, &rows).unwrap_or_else(|why| panic!("{}: {why}", name.display()));
    }
    let wrong: String = texts.into_iter().filter_map(|(name, text)| compare(&root().join(name), text).err()).collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// The metrics and the page as Markdown, as a scraper and a reader get them.
#[test]
#[cfg(feature = "report")]
fn what_is_served_is_as_in_its_golden_files() {
    let pages = BTreeMap::from([("metrics", "metrics.prom"), ("report.md", "served.md")]);
    let served =
        console::served(&["captures/6.12-full-hold-300.bounce", "--policy", "mainline,legacy,exact"], pages.keys());
    for (body, file) in served.into_iter().zip(pages.values()) {
        compare(&root().join("tests/golden").join(file), body).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}
