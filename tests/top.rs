//! `top` as a user runs it: without a terminal, and in one that `script` makes.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

const CAPTURE: &str = "captures/default.bounce";

fn bouncescope(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bouncescope"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A screen as text.
fn screen(number: &str, size: &str) -> String {
    screen_of(CAPTURE, number, size)
}

fn screen_of(capture: &str, number: &str, size: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("screen.txt");
    let output =
        bouncescope(&["top", capture, "--screen", number, "--size", size, "--picture", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::read_to_string(file).unwrap()
}

#[test]
fn the_numbers_of_what_if_are_those_of_replay() {
    let shown = screen("4", "200x60");
    let row = |policy: &str| -> Vec<String> {
        let line = shown.lines().rfind(|line| line.split_whitespace().nth(1) == Some(policy)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    for policy in ["mainline", "legacy", "always-small", "length-multiple", "start-and-length", "exact"] {
        let output = bouncescope(&["replay", CAPTURE, "--policy", policy, "--json"]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let outcome = &json["policies"][0];
        assert_eq!(outcome["name"], policy);
        let cells = row(policy);
        // Border, policy, bounces, copied and its unit, peak, refused, hazards with a foreign object.
        let expected = ["bounces", "peak_slots", "failed", "hazards_foreign"].map(|name| outcome[name].to_string());
        assert_eq!([&cells[2], &cells[5], &cells[6], &cells[7]], expected.each_ref(), "{policy}: {cells:?}");
    }
    assert_eq!(row("mainline")[2], "596");
}

#[test]
fn a_leak_is_named_and_what_is_held_and_returned_is_not() {
    let leak = screen_of("tests/leak.bounce", "6", "80x24");
    let row = leak.lines().find(|line| line.contains("0000:00:04.0")).unwrap();
    for said in ["proc_do_submiturb+0xdbc [usbcore]", " 24 ", "4.5 s", "LEAK?"] {
        assert!(row.contains(said), "{said}: {row}");
    }
    assert!(leak.contains("RISING by 24") && leak.contains("24 buffers,"), "{leak}");
    let returned = screen_of("captures/7.3-direct-hold-300.bounce", "6", "80x24");
    assert!(returned.contains("fullest 300 at"), "{returned}");
    assert!(!returned.contains("LEAK?") && !returned.contains("RISING"), "{returned}");
}

#[test]
fn a_picture_is_svg_by_its_name_and_has_what_the_text_has() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("screen.svg");
    let output = bouncescope(&["top", CAPTURE, "--picture", file.to_str().unwrap(), "--colors", "true"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let svg = fs::read_to_string(file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("pool, 512 slots of 2 KiB") && svg.contains("fill=\"#56b4e9\""), "{svg}");
}

#[test]
fn without_a_terminal_there_is_one_line_and_exit_code_2() {
    let output = bouncescope(&["top", CAPTURE]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("needs a terminal") && output.stdout.is_empty(), "{said}");
}

#[test]
fn what_is_no_capture_is_refused_by_name() {
    for capture in ["/nonexistent.bounce", "Cargo.toml"] {
        let output = bouncescope(&["top", capture, "--picture", "/dev/null"]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(capture), "{said}");
    }
}
