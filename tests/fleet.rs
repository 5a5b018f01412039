//! `bouncescope fleet` hands over to the program on the PATH, whose own tests are in `fleet/`.
#![cfg(all(unix, feature = "report"))]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

fn fleet(path: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
    command.env("PATH", path).arg("fleet");
    command
}

#[test]
fn the_program_on_the_path_gets_all_arguments_and_its_exit_code_counts() {
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("bouncescope-fleet");
    fs::write(&program, "#!/bin/sh\nfor argument; do echo \"<$argument>\"; done\nexit 7\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = fleet(bin.path()).args(["query", "a lake", "--help", "--", "-x"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "<query>\n<a lake>\n<--help>\n<-->\n<-x>\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn without_the_program_a_line_says_how_to_build_it() {
    let empty = tempfile::tempdir().unwrap();
    let output = fleet(empty.path()).args(["query", "lake"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(
        said.starts_with("error: bouncescope-fleet is not on the PATH") && said.contains("cargo install"),
        "{said}"
    );
}
