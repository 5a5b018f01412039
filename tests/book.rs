//! The pages of `docs/` as a book: each has a place in its contents, and what any document links to is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == "md")).collect();
    pages.sort();
    pages
}

/// Every document that people read in the repository.
fn documents() -> Vec<PathBuf> {
    ["", "docs", "captures", "dashboards", "fuzz", "packaging"].iter().flat_map(|folder| pages(folder)).collect()
}

/// The text outside of code, line by line, with code in a line emptied.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            let outside = line.split('`').enumerate().filter(|(n, _)| n % 2 == 0).map(|(_, part)| part);
            prose.extend(outside);
            prose.push('\n');
        }
    }
    prose
}

/// What `[words](target)` names.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// The anchors of a document's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        }
        let Some(heading) =
            line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#') && !is_code)
        else {
            continue;
        };
        let kept = |c: char| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
            _ => None,
        };
        let anchor: String = heading.chars().filter_map(kept).collect();
        let count = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

/// Why a link leads nowhere.
fn broken(document: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { document.to_owned() } else { document.parent().unwrap().join(file) };
    let Ok(target) = target.canonicalize() else { return Some("there is no such file".to_owned()) };
    if !target.starts_with(root().canonicalize().unwrap()) {
        return Some("it leaves the repository".to_owned());
    }
    let anchor = anchor?;
    let text = fs::read_to_string(target).ok()?;
    (!anchors(&text).contains(anchor)).then(|| format!("no heading makes #{anchor}"))
}

#[test]
fn every_page_has_one_place_in_the_book() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut named = links(&summary);
    let all: Vec<String> =
        pages("docs").iter().map(|page| page.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let mut all: Vec<String> = all.into_iter().filter(|page| page != "SUMMARY.md").collect();
    named.sort();
    all.sort();
    assert_eq!(named, all);
}

#[test]
fn the_book_reads_its_pages_where_they_are() {
    let book: toml::Table = fs::read_to_string(root().join("docs/book.toml")).unwrap().parse().unwrap();
    assert_eq!(book["book"]["src"].as_str(), Some("."));
    assert_eq!(book["build"]["create-missing"].as_bool(), Some(false), "a missing page is an error");
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in documents() {
        for link in links(&fs::read_to_string(&document).unwrap()) {
            count += 1;
            if let Some(why) = broken(&document, &link) {
                wrong.push(format!("{}: {link}: {why}", document.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "{count}");
}

#[test]
fn every_page_of_the_book_begins_with_its_one_title() {
    for page in pages("docs") {
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.starts_with("# "), "{}", page.display());
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let readme = root().join("README.md");
    for (link, is_broken) in [
        ("docs/check.md", false),
        ("docs/check.md#figures", false),
        ("docs/check.md#figure", true),
        ("docs/chekc.md", true),
        ("#can-it-be-trusted", false),
        ("../elsewhere.md", true),
        ("https://example.org/gone", false),
    ] {
        assert_eq!(broken(&readme, link).is_some(), is_broken, "{link}");
    }
    assert_eq!(links("a [b](c.md) `[d](e.md)`\n```\n[f](g.md)\n```\n[h](i.md#j)"), ["c.md", "i.md#j"]);
}
