//! The terminal after a panic, in one that script(1) makes.
#![cfg(target_os = "linux")]

use std::env;
use std::process::Command;

use tui::terminal::Terminal;

/// Set where this test runs in the terminal, to panic.
const INSIDE: &str = "BOUNCESCOPE_TEST_INSIDE";

#[test]
#[ignore = "needs script(1)"]
fn a_panic_gives_the_terminal_back_and_is_said_after_that() {
    if env::var_os(INSIDE).is_some() {
        let _terminal = Terminal::enter().unwrap();
        panic!("of all things");
    }
    let this = env::current_exe().unwrap();
    let name = "a_panic_gives_the_terminal_back_and_is_said_after_that";
    let run = format!("{} --ignored --exact {name} --nocapture; stty -a", this.display());
    let output = Command::new("script").args(["-qec", &run, "/dev/null"]).env(INSIDE, "1").output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let (before, after) = shown.split_once("\u{1b}[?1049l").unwrap_or_else(|| panic!("never left: {shown:?}"));
    assert!(before.contains("\u{1b}[?1049h") && after.contains("of all things"), "{shown:?}");
    for mode in ["echo", "icanon", "isig", "opost"] {
        assert!(after.split([' ', ';', '\r', '\n']).any(|word| word == mode), "{mode} is off: {after}");
    }
}
