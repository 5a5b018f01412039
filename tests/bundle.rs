//! `bundle`: the archive holds what it says, and nothing else.

use std::{fs, io::Read as _, path::Path, process::Command};

use flate2::read::GzDecoder;
use tracer::{
    capture::Reader,
    stream::{Item, Source as _},
};

const LOG: &str = "\
[    0.000000] Kernel command line: swiotlb=512 androidboot.serialno=SECRET1
[    1.000000] wlan0: associated with SECRET2
[    2.000000] xhci_hcd 0000:00:04.0: swiotlb buffer is full (sz: 8 bytes), total 512 (slots), used 512 (slots)
[    3.000000] DMA: coherent pool at ffff800081234567
";

fn bundle(capture: &Path, dir: &Path, with_log: bool) -> Vec<(String, Vec<u8>)> {
    let (archive, log) = (dir.join("b.tar.gz"), dir.join("dmesg.txt"));
    fs::write(&log, LOG).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
    command.arg("bundle").arg(capture).arg("-o").arg(&archive);
    if with_log {
        command.arg("--dmesg").arg(&log);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(archive).unwrap()));
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

#[test]
fn a_bundle_has_the_files_that_it_lists_and_no_addresses_or_foreign_lines() {
    let dir = tempfile::tempdir().unwrap();
    let files = bundle(Path::new("captures/default.bounce"), dir.path(), true);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.strip_prefix("bouncescope-bundle/").unwrap()).collect();
    let expected = ["README.txt", "doctor.txt", "replay.txt", "verify.txt", "stats.txt", "dmesg.txt", "capture.bounce"];
    assert_eq!(names, expected);
    let list = String::from_utf8(files[0].1.clone()).unwrap();
    assert!(expected.iter().all(|name| list.lines().any(|line| line.starts_with(name))), "{list}");
    let log = String::from_utf8(files[5].1.clone()).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");
    for (name, bytes) in &files[..6] {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(!text.contains("SECRET") && !text.contains("ffff8000"), "{name}: {text}");
    }
    // What it shows is what the original shows, except that a bundle looks for overlaps.
    let replay = Command::new(env!("CARGO_BIN_EXE_bouncescope")).arg("replay").output().unwrap();
    let shown = String::from_utf8(replay.stdout).unwrap();
    let (before, after) = shown.split_once("overlapping mappings were not looked for: --wide does\n").unwrap();
    assert_eq!(String::from_utf8_lossy(&files[2].1), format!("{before}{after}"));
}

#[test]
fn the_capture_in_a_bundle_has_pseudonyms_and_no_value_that_is_not_about_memory() {
    let dir = tempfile::tempdir().unwrap();
    let files = bundle(Path::new("captures/default.bounce"), dir.path(), false);
    let capture = dir.path().join("capture.bounce");
    fs::write(&capture, &files.last().unwrap().1).unwrap();
    let stats =
        Command::new(env!("CARGO_BIN_EXE_bouncescope")).args(["stats", "--json"]).arg(&capture).output().unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!(stats["start"]["addresses"], "pseudonyms");
    assert_eq!(stats["start"]["kernel"]["cmdline"], "console=... panic=... loglevel=...");
    let mut reader = Reader::open(&capture).unwrap();
    let mut symbols = 0;
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Symbols(some) = item {
            symbols += some.len();
            assert!(some.iter().all(|symbol| symbol.addr >> 48 != 0xffff), "{some:?}");
        }
    }
    assert!(symbols > 0);
    // Made of a bundle, a bundle has the same capture again.
    let again = bundle(&capture, dir.path(), false);
    assert!(again.last().unwrap().1 == files.last().unwrap().1, "a capture with pseudonyms keeps them");
}

#[test]
fn a_file_that_is_no_capture_makes_no_archive() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("b.tar.gz");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
    let output = command.args(["bundle", "README.md", "-o"]).arg(&archive).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!archive.exists());
}
