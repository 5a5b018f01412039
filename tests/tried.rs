//! The tables "What was tried" of the docs, against the cases: how many there are of each kind. After a wanted change:
//! `BOUNCESCOPE_BLESS=1 cargo test --test tried`, and look at the difference.

use std::{env, fs, path::Path};

/// A kind of cases, how many there are, and what they are about.
type Row<'a> = (String, usize, &'a str);

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The kinds of a file of cases, in whose comments they begin (`# --- KIND ---`), with what is said of them here.
fn kinds<'a>(cases: &str, about: &[(&str, &'a str)]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for line in read(cases).lines() {
        if let Some(kind) = line.strip_prefix("# --- ").and_then(|kind| kind.strip_suffix(" ---")) {
            let known = about.iter().find(|(known, _)| *known == kind);
            rows.push((kind.to_owned(), 0, known.unwrap_or_else(|| panic!("{cases}: {kind} is not known here")).1));
        } else if line == "[[case]]" {
            rows.last_mut().unwrap_or_else(|| panic!("{cases}: a case is of no kind")).1 += 1;
        }
    }
    assert_eq!(rows.len(), about.len(), "{cases}: {rows:?}");
    rows
}

/// Compares the only table that begins so in a page; writes it again where that is wanted.
fn check(page: &str, rows: &[Row<'_>]) {
    let head = "| kind | cases | about |\n|---|---:|---|\n";
    let all: usize = rows.iter().map(|(_, count, _)| count).sum();
    let mut table = String::new();
    for (kind, count, about) in rows {
        table += &format!("| {kind} | {count} | {about} |\n");
    }
    table += &format!("| all | {all} | |\n");
    let text = read(page);
    let (before, behind) = text.split_once(head).unwrap_or_else(|| panic!("{page} has no table of cases"));
    let end = behind.split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum();
    if env::var_os("BOUNCESCOPE_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        fs::write(path, format!("{before}{head}{table}{}", &behind[end..])).unwrap();
        return;
    }
    assert_eq!(&behind[..end], table, "{page}: the table is not that of the cases");
}

#[test]
fn the_page_about_messages_has_the_cases_that_there_are() {
    let rows = kinds(
        "tests/explain/cases.toml",
        &[
            ("What address it is", "memory, registers, stacks, offsets of buses"),
            ("Remedies that can work", "sizes, restricted pools, regressions, x86, before 6.5"),
            ("A log is more than lines", "boots, repeats, trends, lines read together"),
            ("Other messages", "DMA debugging, coherent memory, oopses, old wordings, vendors"),
            ("Formats", "what a log is kept in, and what is around its lines"),
        ],
    );
    check("docs/explain.md", &rows);
}

#[test]
fn the_page_about_traces_has_the_cases_that_there_are() {
    let mut rows = kinds(
        "tests/import/cases.toml",
        &[
            (
                "What tools print",
                "tracefs, trace-cmd and perf with their options, trace instances, clocks, names of tasks, lost events",
            ),
            ("What kernels print", "4.4 to 7.2, arm64 and riscv64: pointers, call sites, modules, attributes"),
            (
                "What is missing, damaged or twice",
                "bounces without mappings, mappings without bounces, cut lines, order, files that overlap",
            ),
            ("How it is packed", "zstd, UTF-16; gzip, xz, standard input and Perfetto have tests of their own"),
        ],
    );
    // Whole traces of real kernels.
    let traces = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")).unwrap();
    let mut binary = 0;
    let mut text = 0;
    for trace in traces {
        let name = trace.unwrap().file_name().into_string().unwrap();
        *(if name.contains(".dat") { &mut binary } else { &mut text }) += 1;
    }
    rows.push((
        "Whole traces in binary".to_owned(),
        binary,
        "6.12 on arm64: `trace.dat` 6 and 7, `perf.data`, compared with their text",
    ));
    rows.push((
        "Whole traces as text".to_owned(),
        text,
        "6.12 and 6.18, arm64 and x86: tracefs, `trace-cmd report`, `perf script`",
    ));
    check("docs/import.md", &rows);
}
