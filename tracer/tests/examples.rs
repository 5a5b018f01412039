//! The programs of `examples/` build, run, and print what the files beside this one have (`cargo xtask golden` renews them).

#[path = "../../tests/golden/file.rs"]
mod golden_file;

use std::{env, path::Path, process::Command};

/// What an example prints.
fn printed(name: &str, argument: &Path) -> String {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--quiet", "--locked", "--package", env!("CARGO_PKG_NAME"), "--example", name, "--"])
        .arg(argument)
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn compare(name: &str, text: String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/examples/{name}.txt"));
    golden_file::compare(&file, text).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn the_examples_that_read_a_capture_print_its_figures() {
    for name in ["two_policies", "events"] {
        compare(name, printed(name, Path::new("../captures/default.bounce")));
    }
}

#[test]
fn a_capture_that_a_program_wrote_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made.bounce");
    let written = printed("write_capture", &file);
    compare("write_capture", written + &printed("two_policies", &file));
}
