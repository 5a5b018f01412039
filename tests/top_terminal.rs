//! The terminal after `top` has had it, in a terminal that script(1) makes.
#![cfg(target_os = "linux")]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// How long a step may take, on a machine that does something else too.
const PATIENCE: Duration = Duration::from_mins(1);
/// Sent on leaving the screen that is not scrolled.
const LEFT: &str = "\u{1b}[?1049l";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A shell in a terminal.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    /// Runs `top` with these arguments in a directory, and then says how the terminal is.
    fn new(arguments: &str, dir: &Path) -> Self {
        let program = env!("CARGO_BIN_EXE_bouncescope");
        let run = format!(
            "stty rows 24 cols 80; sh -c 'echo pid=$$; exec {program} top {arguments}'; echo code=$?; stty -a; echo over"
        );
        let mut script = Command::new("script")
            .args(["-qefc", &run, "/dev/null"])
            .current_dir(dir)
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = script.stdin.take().unwrap();
        let mut output = script.stdout.take().unwrap();
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { script, keys, shown, text: String::new() }
    }

    /// Waits until this was shown.
    fn wait(&mut self, what: &str) {
        while !self.text.contains(what) {
            let bytes = self.shown.recv_timeout(PATIENCE);
            let bytes = bytes.unwrap_or_else(|_| panic!("{what:?} is not shown: {:?}", self.text));
            self.text += &String::from_utf8_lossy(&bytes);
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn pid(&self) -> String {
        let (_, rest) = self.text.split_once("pid=").unwrap();
        rest.chars().take_while(char::is_ascii_digit).collect()
    }

    fn kill(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid()]).status().unwrap().success());
    }

    /// Waits for the end; the terminal must be as it was, and the program must have ended with this code.
    fn ends_whole(mut self, code: &str) {
        self.wait("over");
        let (_, after) = self.text.rsplit_once(LEFT).unwrap_or_else(|| panic!("never left: {:?}", self.text));
        assert!(after.contains("\u{1b}[?25h"), "the cursor is hidden: {after:?}");
        assert!(self.text.contains("\u{1b}[?1000l"), "the mouse is taken");
        assert!(after.contains(&format!("code={code}")), "{after}");
        for mode in ["echo", "icanon", "isig", "icrnl", "opost"] {
            assert!(after.split([' ', ';', '\r', '\n']).any(|word| word == mode), "{mode} is off: {after}");
        }
        self.script.wait().unwrap();
    }
}

#[test]
#[ignore = "needs script(1)"]
fn q_and_control_c_leave_the_terminal_whole() {
    for keys in ["q", "\u{3}", "2\r?q"] {
        let mut terminal = Terminal::new("captures/default.bounce", here());
        terminal.wait("Overview");
        terminal.press(keys);
        terminal.ends_whole("0");
    }
}

#[test]
#[ignore = "needs script(1)"]
fn signals_leave_the_terminal_whole() {
    for signal in ["-TERM", "-INT", "-HUP", "-QUIT"] {
        let mut terminal = Terminal::new("captures/default.bounce", here());
        terminal.wait("Overview");
        terminal.kill(signal);
        terminal.ends_whole("0");
    }
}

#[test]
#[ignore = "needs script(1)"]
fn what_is_no_capture_never_takes_the_terminal() {
    let mut terminal = Terminal::new("Cargo.toml", here());
    terminal.wait("over");
    assert!(!terminal.text.contains("1049"), "{:?}", terminal.text);
    assert!(terminal.text.contains("code=2") && terminal.text.contains("Cargo.toml"), "{:?}", terminal.text);
}

#[cfg(feature = "live")]
#[test]
#[ignore = "needs root, BPF and script(1)"]
fn this_kernel_is_seen_live_and_a_recording_of_it_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bouncescope-top.bounce");
    let mut terminal = Terminal::new("", dir.path());
    terminal.wait("kmalloc");
    terminal.press("w");
    terminal.wait("REC");
    thread::sleep(Duration::from_secs(2));
    terminal.press("q");
    terminal.wait("bouncescope-top.bounce: ");
    terminal.ends_whole("0");
    let output = Command::new(env!("CARGO_BIN_EXE_bouncescope")).arg("stats").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
