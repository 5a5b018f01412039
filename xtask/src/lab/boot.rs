//! Boots one machine, follows its console, and ends it when it powers off, panics, or takes too long.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::console::{self, Step};

/// What came of a boot.
#[derive(Debug, Default)]
pub(super) struct Boot {
    /// Recordings that init reported as made.
    pub(super) done: Vec<String>,
    /// What went wrong, a line each; empty when nothing did.
    pub(super) troubles: Vec<String>,
    /// How long it took.
    pub(super) seconds: f64,
}

/// Ends QEMU when the boot is over, however it is left.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots, keeps the console in `log`, and waits for the end, at most `limit`.
pub(super) fn run(mut qemu: Command, log: &Path, label: &str, limit: Duration) -> Result<Boot> {
    let start = Instant::now();
    let errors = fs::File::create(log.with_extension("qemu"))?;
    let child = qemu.stdout(Stdio::piped()).stderr(errors).spawn();
    let mut running =
        Running(child.context("cannot run qemu-system-aarch64 (Debian: qemu-system-arm, see .ci/install)")?);
    let output = running.0.stdout.take().context("QEMU without standard output")?;
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });

    let mut file = fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let (mut boot, mut ended, mut current) = (Boot::default(), false, None);
    loop {
        let left = limit.saturating_sub(start.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) => {
                writeln!(file, "{:8.2} {line}", start.elapsed().as_secs_f64())?;
                follow(&line, label, &mut boot, &mut ended, &mut current);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let during = current.as_deref().unwrap_or("boot");
                boot.troubles.push(format!("hung during {during}: no end within {} s", limit.as_secs()));
                ended = true;
                break;
            }
        }
    }
    if !ended {
        let during = current.as_deref().unwrap_or("boot");
        boot.troubles.push(format!("the guest died during {during} without a word of its init"));
    }
    drop(running);
    let _ = reader.join();
    boot.seconds = start.elapsed().as_secs_f64();
    Ok(boot)
}

fn follow(line: &str, label: &str, boot: &mut Boot, ended: &mut bool, current: &mut Option<String>) {
    match console::step(line) {
        Some(Step::Start(name)) => {
            eprintln!("lab: {label}: {name}");
            *current = Some(name);
        }
        Some(Step::Done(name)) => boot.done.push(name),
        Some(Step::Failed(what)) => {
            *ended |= what.starts_with("error");
            boot.troubles.push(what);
        }
        Some(Step::End) => *ended = true,
        None if console::is_trouble(line) => boot.troubles.push(format!("console: {line}")),
        None => {}
    }
}
