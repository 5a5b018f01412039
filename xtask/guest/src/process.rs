//! Running a program with a time limit, from init.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Runs it and waits, at most `limit`; then it is killed. Its exit code, or why there is none.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<i32, String> {
    let mut child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code().ok_or_else(|| format!("ended by {status}")),
            Ok(None) if start.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("killed after {} s", limit.as_secs()));
            }
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(format!("cannot wait for it: {error}")),
        }
    }
}
