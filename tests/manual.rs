//! Man pages and completions, as packages take them from the binary.

use std::{fs, process::Command};

fn bouncescope(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).args(arguments).output().unwrap()
}

#[test]
fn every_command_that_the_help_shows_has_a_man_page_and_hidden_ones_have_none() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man");
    assert!(bouncescope(&["man", pages.to_str().unwrap()]).status.success());
    let help = String::from_utf8(bouncescope(&["--help"]).stdout).unwrap();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut shown: Vec<_> = commands
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(|name| format!("bouncescope-{name}.1"))
        .collect();
    shown.push("bouncescope.1".into());
    shown.sort();
    let mut made: Vec<_> =
        fs::read_dir(&pages).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    made.sort();
    assert_eq!(made, shown);
    let replay = fs::read_to_string(pages.join("bouncescope-replay.1")).unwrap();
    assert!(replay.contains("swiotlb") && replay.contains("Examples"), "{replay}");
}

#[test]
fn a_shell_completes_the_options_of_a_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = bouncescope(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("replay") && script.contains("headroom"), "{shell}");
    }
    assert_eq!(bouncescope(&["completions", "cmd.exe"]).status.code(), Some(2));
}

#[test]
fn a_directory_that_cannot_be_made_is_said_in_a_line() {
    let output = bouncescope(&["man", "/dev/null/man"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("/dev/null/man"), "{said}");
}
