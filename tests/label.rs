//! `bouncescope label`: other labels, the same recording.

use std::{fs, path::Path, process::Command};

fn label(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bouncescope")).arg("label").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn printed(arguments: &[&str]) -> String {
    let (code, out, err) = label(arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
    out
}

fn copy(dir: &Path) -> String {
    let path = dir.join("a.bounce");
    fs::copy("captures/7.3-direct-hold-300.bounce", &path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn labels_change_and_the_recording_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(dir.path());
    let identity = |out: &str| out.lines().nth(1).unwrap().to_owned();
    let before = printed(&[&path]);
    assert!(before.ends_with("  no labels\n"), "{before}");
    assert_eq!(printed(&[&path, "--label", "board=Radxa ROCK 5B", "--label", "build=1"]), "");
    let after = printed(&[&path]);
    assert_eq!(identity(&after), identity(&before));
    assert!(after.ends_with("  board     Radxa ROCK 5B\n  build     1\n"), "{after}");
    // Another file gets other labels; this one keeps its own.
    let other = dir.path().join("b.bounce");
    printed(&[&path, "--remove", "build", "--label", "board=x", "-o", other.to_str().unwrap()]);
    assert_eq!(printed(&[&path]), after);
    let document: serde_json::Value =
        serde_json::from_str(&printed(&["--json", &path, other.to_str().unwrap()])).unwrap();
    let labels = |n: usize| document["captures"][n]["labels"].clone();
    assert_eq!(labels(0), serde_json::json!({ "board": "Radxa ROCK 5B", "build": "1" }));
    assert_eq!(labels(1), serde_json::json!({ "board": "x" }));
    assert_eq!(document["captures"][0]["identity"], document["captures"][1]["identity"]);
}

#[cfg(unix)]
#[test]
fn a_capture_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = copy(dir.path());
    for mode in [0o600, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        printed(&[&path, "--label", "a=b"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
    let other = dir.path().join("b.bounce");
    printed(&[&path, "--label", "a=c", "-o", other.to_str().unwrap()]);
    assert_eq!(fs::metadata(&other).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_cannot_be_labelled_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(dir.path());
    let whole = fs::read(&path).unwrap();
    // As a recorder that still runs leaves it.
    fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let other = dir.path().join("other");
    fs::write(&other, "no capture").unwrap();
    let copy = dir.path().join("copy.bounce");
    let copy = copy.to_str().unwrap();
    for (arguments, expected) in [
        (vec![path.as_str(), "--label", "a=b"], "it has no end: is it still being recorded?"),
        (vec![path.as_str(), "--label", "A=b"], "a label's name has lower-case letters"),
        (vec![path.as_str(), "--label", "a"], "a label is NAME=VALUE"),
        (vec![path.as_str(), "--remove", "serail", "-o", copy], "it has no label \"serail\" to remove"),
        (vec![path.as_str(), "-o", "x"], "-o needs a change"),
        (vec![path.as_str(), other.to_str().unwrap(), "--label", "a=b", "-o", "x"], "-o takes one capture"),
        (vec![path.as_str(), "--label", "a=b", "-o", path.as_str()], "it is also read"),
        (vec![other.to_str().unwrap()], "not a bouncescope capture"),
        (vec!["nowhere.bounce"], "cannot open nowhere.bounce"),
    ] {
        let (code, out, err) = label(&arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.starts_with("error: ") && err.contains(expected), "{arguments:?}: {err}");
    }
    assert_eq!(fs::read(&path).unwrap(), &whole[..whole.len() - 100]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    // Elsewhere a capture without an end gets labels.
    printed(&[&path, "--label", "a=b", "-o", copy]);
    assert!(printed(&[copy]).ends_with("  a         b\n"));
}
