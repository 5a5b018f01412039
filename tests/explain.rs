//! `explain` on logs of every kind, as a user runs it: what has to be said and what must not is in `tests/explain/cases.toml`, the whole
//! answers are beside it.

#[path = "golden/file.rs"]
mod golden_file;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use golden_file::compare;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(rename = "why")]
    _why: Option<String>,
    log: String,
    encoding: Option<String>,
    #[serde(default)]
    exit: i32,
    says: Vec<String>,
    #[serde(default)]
    says_not: Vec<String>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain")
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(directory().join("cases.toml")).unwrap();
    toml::from_str::<Cases>(&text).unwrap().case
}

fn explain(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bouncescope"))
        .arg("explain")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before all is read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// A log as its file would be.
fn bytes(case: &Case) -> Vec<u8> {
    let text = case.log.as_bytes();
    match case.encoding.as_deref() {
        None => text.to_vec(),
        Some("utf-16") => case.log.encode_utf16().fold(vec![0xff, 0xfe], |mut bytes, unit| {
            bytes.extend(unit.to_le_bytes());
            bytes
        }),
        Some("gzip") => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        Some("zstd") => zstd::encode_all(text, 1).unwrap(),
        Some(other) => panic!("{}: no encoding {other}", case.name),
    }
}

/// What both streams say.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn each_kind_of_message_gets_its_answer() {
    for case in cases() {
        let output = explain(&[], &bytes(&case));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(case.exit), "{}: {said}", case.name);
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let has = |words: &String| words.split('|').any(|word| flat.contains(&word.to_lowercase()));
        for words in &case.says {
            assert!(has(words), "{} lacks {words:?}:\n{said}", case.name);
        }
        for words in &case.says_not {
            assert!(!has(words), "{} must not say {words:?}:\n{said}", case.name);
        }
    }
}

#[test]
fn the_answers_are_as_expected() {
    for case in cases() {
        let said = said(&explain(&[], &bytes(&case)));
        let file = directory().join(format!("{}.txt", case.name));
        compare(&file, said).unwrap_or_else(|wrong| panic!("{}: {wrong}", case.name));
    }
}

#[test]
fn every_answer_belongs_to_a_case() {
    let names: Vec<String> = cases().into_iter().map(|case| format!("{}.txt", case.name)).collect();
    for file in fs::read_dir(directory()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(name == "cases.toml" || names.contains(&name), "{name} belongs to no case");
    }
}

#[test]
fn files_and_a_dash_are_read_alike() {
    let case = cases().into_iter().find(|case| case.name == "gzip").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kern.log.2.gz");
    fs::write(&path, bytes(&case)).unwrap();
    let from_file = explain(&[path.to_str().unwrap()], b"");
    let from_input = explain(&["-"], &bytes(&case));
    assert_eq!(said(&from_file), said(&from_input));
    assert!(from_file.status.success(), "{}", said(&from_file));
}

#[test]
fn other_formats_are_refused_in_one_line_that_names_them() {
    for (bytes, name) in
        [(&b"BZh91AY&SY"[..], "bzip2"), (b"PK\x03\x04....", "zip"), (b"LPKSHHRH\0\0\0\0", "journal of systemd")]
    {
        let output = explain(&[], bytes);
        let said = said(&output);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn of_more_than_the_bound_beginning_and_end_are_read_and_that_is_said() {
    let mut log = b"mmc0: swiotlb buffer is full (sz: 65536 bytes), total 2048 (slots), used 2041 (slots)\n".to_vec();
    log.resize((64 << 20) + 4096, b'x');
    let output = explain(&[], &log);
    assert!(output.status.success());
    assert!(said(&output).contains("first 8 MiB and its last 40 MiB were read whole"), "{}", said(&output));
    // Line 2 is all of the rest.
    log.extend_from_slice(b"\nmmc1: swiotlb buffer is full (sz: 65536 bytes), total 2048 (slots), used 2041 (slots)\n");
    let said = said(&explain(&[], &log));
    assert!(said.contains("line 1: mmc0") && said.contains("line 3: mmc1"), "{said}");
}
