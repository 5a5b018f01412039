//! The structure that docs/architecture.md promises and the compiler does not enforce: pure crates, dependencies downwards, no circle of
//! imports between files, one module style.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Folders of crates, each after all that it may depend on.
const CRATES: [&str; 14] = [
    "tracer-ebpf",
    "tracer/model",
    "tracer/capture",
    "tracer/replay",
    "tracer/live",
    "tracer/exchange",
    "tracer/report",
    "tracer",
    "tui",
    ".",
    "xtask/workspace",
    "xtask/lab",
    "xtask/bench",
    "xtask",
];

/// Crates that know no operating system, clock, thread or file.
const PURE: [&str; 2] = ["tracer/model", "tracer/replay"];
/// Parts of std that they do without.
const IMPURE: [&str; 8] = ["fs", "thread", "time", "net", "process", "env", "io", "os"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
    files.sort();
    files
}

/// A file's text without comments, and without its test module, which stands last.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests") || file.file_stem().is_some_and(|stem| stem == "tests")
}

/// Paths such as `crate::a::b` that the code names after a root such as `crate`, with groups taken apart.
fn paths(code: &str, root: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&format!("{root}::")) {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|char| !char.is_alphanumeric() && char != '_' && char != ':') {
            group(&code[at + root.len() + 2..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path, or a group of them in braces, and returns how many bytes that took.
fn group(text: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let name = rest.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(rest.len());
        if rest.starts_with('{') {
            at += 1;
            while !text[at..].starts_with('}') && at < text.len() {
                at += text[at..].find(|char: char| !char.is_whitespace() && char != ',').unwrap_or(0);
                if text[at..].starts_with('}') {
                    break;
                }
                let taken = group(&text[at..], prefix, found);
                at += taken.max(1);
            }
            at += 1;
            break;
        }
        if name == 0 {
            found.push(prefix.clone());
            break;
        }
        prefix.push(rest[..name].to_owned());
        at += name;
        if text[at..].starts_with("::") {
            at += 2;
        } else {
            found.push(prefix.clone());
            break;
        }
    }
    prefix.truncate(depth);
    at
}

/// The modules of a crate by their paths.
fn modules(folder: &Path) -> BTreeMap<Vec<String>, PathBuf> {
    let source = folder.join("src");
    let module = |file: &PathBuf| {
        let inside = file.strip_prefix(&source).unwrap().with_extension("");
        let parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts == ["lib"] || parts == ["main"] { Vec::new() } else { parts }
    };
    let files =
        sources(&source).into_iter().filter(|file| !is_test(file) && !file.starts_with(source.join("programs")));
    files.map(|file| (module(&file), file)).collect()
}

/// The files that each file of a crate imports from, parents and children aside: they know each other.
fn imports(folder: &Path) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let modules = modules(folder);
    let module_of = |path: &[String]| {
        (0..=path.len()).rev().map(|length| path[..length].to_vec()).find(|prefix| modules.contains_key(prefix))
    };
    let mut arrows = BTreeMap::new();
    for (module, file) in &modules {
        let code = code(file);
        let mut named = paths(&code, "crate");
        let parent = module.split_last().map(|(_, parent)| parent.to_vec()).unwrap_or_default();
        named.extend(paths(&code, "super").into_iter().map(|path| [parent.clone(), path].concat()));
        let targets = named.iter().filter_map(|path| module_of(path));
        let others = targets.filter(|other| !other.starts_with(module) && !module.starts_with(other));
        arrows.insert(module.clone(), others.collect());
    }
    arrows
}

#[test]
fn pure_crates_use_no_operating_system() {
    for folder in PURE {
        for file in sources(&root().join(folder).join("src")).iter().filter(|file| !is_test(file)) {
            let code = code(file);
            let used = paths(&code, "std").into_iter().filter_map(|path| path.into_iter().next());
            let impure: Vec<String> = used.filter(|part| IMPURE.contains(&part.as_str())).collect();
            assert!(impure.is_empty(), "{}: std::{}", file.display(), impure.join(", std::"));
        }
    }
}

fn manifest(folder: &str) -> toml::Table {
    fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap().parse().unwrap()
}

#[test]
fn a_crate_is_described_for_others_or_not_published() {
    let own = manifest(".");
    let members = own["workspace"]["members"].as_array().unwrap().iter().filter_map(toml::Value::as_str);
    for folder in members.chain(["."]) {
        let package = &manifest(folder)["package"];
        if package.get("publish").and_then(toml::Value::as_bool) == Some(false) {
            continue;
        }
        for key in ["description", "license", "keywords", "categories", "include"] {
            assert!(package.get(key).is_some(), "{folder}/Cargo.toml has no {key}");
        }
    }
}

#[test]
fn published_crates_name_the_version_of_each_other() {
    let workspace = manifest(".")["workspace"].clone();
    let version = &workspace["package"]["version"];
    for (name, dependency) in workspace["dependencies"].as_table().unwrap() {
        let Some(path) = dependency.get("path").and_then(toml::Value::as_str) else { continue };
        let published = manifest(path)["package"].get("publish").is_none();
        assert_eq!(dependency.get("version"), published.then_some(version), "{name} in [workspace.dependencies]");
    }
}

#[test]
fn crates_depend_on_those_below_them_alone() {
    let own = manifest(".");
    let workspace = own["workspace"]["dependencies"].as_table().unwrap();
    for (level, folder) in CRATES.iter().enumerate() {
        let table = manifest(folder);
        let targets =
            table.get("target").and_then(toml::Value::as_table).into_iter().flatten().map(|(_, target)| target);
        let tables = std::iter::once(&toml::Value::Table(table.clone()))
            .chain(targets)
            .filter_map(|table| table.get("dependencies").cloned())
            .collect::<Vec<_>>();
        for name in tables.iter().filter_map(toml::Value::as_table).flatten().map(|(name, _)| name) {
            let path = workspace.get(name).and_then(|dependency| dependency.get("path")).and_then(toml::Value::as_str);
            if let Some(path) = path {
                let at = CRATES.iter().position(|one| *one == path);
                assert!(at.is_some_and(|at| at < level), "{folder} depends on {path}");
            }
        }
    }
}

/// What opens, makes or renames files to write to them.
const WRITES: [&str; 7] =
    ["File::create", "File::options", "OpenOptions", "fs::write", "fs::rename", "fs::copy", "create_new("];
/// The one place where outputs are opened.
const OUTPUTS: &str = "tracer/capture/src/output";
/// Files that write to the kernel's own, or only read with options.
const KERNELS: [&str; 4] = [
    "tracer/live/src/kernel/event_count.rs",
    "tracer/live/src/kernel/pool.rs",
    "tracer/live/src/kernel/slab_fill.rs",
    "tracer/live/src/provoke.rs",
];

#[test]
fn outputs_are_opened_in_one_place_and_never_through_a_link() {
    for folder in CRATES.iter().filter(|folder| !folder.starts_with("xtask")) {
        for file in sources(&root().join(folder).join("src")).iter().filter(|file| !is_test(file)) {
            let name = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let code = code(file);
            let writes: Vec<&str> = WRITES.into_iter().filter(|word| code.contains(word)).collect();
            let may = name.starts_with(OUTPUTS) || KERNELS.contains(&name.as_str()) || name.ends_with("root.rs");
            assert!(may || writes.is_empty(), "{name}: {}; use tracer::output", writes.join(", "));
        }
    }
    // In that place, whatever is opened to be written to is opened so.
    let code = code(&root().join(OUTPUTS).join("unix.rs"));
    let flags: Vec<&str> = code.split(';').filter(|statement| statement.contains("OFlags::WRONLY")).collect();
    assert!(flags.len() == 2 && flags.iter().all(|flags| flags.contains("OFlags::NOFOLLOW")), "{flags:?}");
    assert!(code.contains("OFlags::CREATE | OFlags::EXCL") && !code.contains("RDWR"));
}

#[test]
fn no_files_import_from_each_other_in_a_circle() {
    for folder in CRATES {
        let arrows = imports(&root().join(folder));
        // Files from which only files without a way back are left to reach fall away until none does.
        let mut left: BTreeSet<&Vec<String>> = arrows.keys().collect();
        loop {
            let ends: Vec<_> = left
                .iter()
                .copied()
                .filter(|module| arrows[*module].iter().all(|other| !left.contains(other)))
                .collect();
            if ends.is_empty() {
                break;
            }
            left.retain(|module| !ends.contains(module));
        }
        let names: Vec<String> = left.iter().map(|module| module.join("::")).collect();
        assert!(names.is_empty(), "{folder}: a circle among (or above) {}", names.join(", "));
    }
}

#[test]
fn every_file_says_what_lives_there_and_modules_have_one_style() {
    for folder in CRATES {
        for file in sources(&root().join(folder).join("src")) {
            assert_ne!(file.file_name().unwrap(), "mod.rs", "{}: name.rs beside name/", file.display());
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//!") || text.starts_with("#!["), "{} has no module doc", file.display());
        }
    }
}

#[test]
fn a_circle_and_a_group_of_imports_are_found() {
    let found = paths("use crate::{a::{b, c::D}, e};\ncrate::f::g()", "crate");
    let joined: Vec<String> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(joined, ["a::b", "a::c::D", "e", "f::g"]);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    for (name, text) in [("lib", "mod a; mod b;"), ("a", "use crate::b::B;"), ("b", "use super::a::A;")] {
        fs::write(dir.path().join(format!("src/{name}.rs")), text).unwrap();
    }
    let arrows = imports(dir.path());
    assert!(arrows[&vec!["a".to_owned()]].contains(&vec!["b".to_owned()]));
    assert!(arrows[&vec!["b".to_owned()]].contains(&vec!["a".to_owned()]));
}
