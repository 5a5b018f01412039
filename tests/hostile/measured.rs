//! The built program at work on a hostile file: what it said, how much memory it took, and how long.

use std::{
    fs,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Memory that no command may take, bytes.
const MEMORY: u64 = 256 << 20;
/// Between two looks at how much it took.
const LOOK: Duration = Duration::from_millis(2);
/// Longest that one may take, built for debugging on a busy machine.
const LONGEST: Duration = Duration::from_mins(1);

/// One run.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Exit code; `None` after a signal, such as that of a panic in a thread that was never joined.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// Runs bouncescope in `dir`, and makes sure that it neither panicked nor took more than it may.
pub(crate) fn bouncescope(dir: &Path, arguments: &[&str]) -> Measured {
    let (out, err) = (dir.join("out"), dir.join("err"));
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
    command.args(arguments).current_dir(dir).stdin(Stdio::null());
    let child =
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap()).spawn().unwrap();
    let (status, memory) = end(child);
    let wall = began.elapsed();
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let code = status.code();
    let measured = Measured { code, out: read(&out), err: read(&err) };
    let said = &measured.err;
    eprintln!("{arguments:?}: {} MiB, {:.2} s, {code:?}", memory >> 20, wall.as_secs_f64());
    assert!(matches!(code, Some(0..=2)), "{arguments:?}: {status}: {said}");
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    assert!(memory > 0 || wall < Duration::from_secs(1), "{arguments:?}: its memory was never read");
    assert!(memory <= MEMORY, "{arguments:?} took {} MiB", memory >> 20);
    assert!(wall <= LONGEST, "{arguments:?} took {wall:?}");
    measured
}

/// Waits for the end: how it ended, and the most memory resident at one time, bytes. Read while it runs, since what `wait4()` tells
/// is no less than what the test's own process took (`begin_new_exec()`, `fs/exec.c`).
fn end(mut child: Child) -> (ExitStatus, u64) {
    let [status, program] = ["status", "exe"].map(|file| format!("/proc/{}/{file}", child.id()));
    let own = fs::canonicalize(env!("CARGO_BIN_EXE_bouncescope")).unwrap();
    let mut most = 0;
    loop {
        // Who waits for an exec goes on a moment before the new program has memory of its own (`exec_mmap()`, `fs/exec.c`): until then the
        // figures are the test's, some of whose files are large.
        let is_own = fs::read_link(&program).is_ok_and(|program| program == own);
        let text = if is_own { fs::read_to_string(&status).unwrap_or_default() } else { String::new() };
        let kib =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
        most = most.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (status, most << 10);
        }
        thread::sleep(LOOK);
    }
}
