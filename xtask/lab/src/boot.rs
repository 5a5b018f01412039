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

use super::{
    console::{self, Step},
    machine::{Machine, shell_words},
    run::{BOOT_LIMIT, Run},
};

/// From init's last word to the end of the machine.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(10);

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

/// Boots a machine, with its console in `dir`. What it needs to be run by hand is removed afterwards, unless it is to be kept.
pub(super) fn of(run: &Run, machine: &Machine, dir: &Path, label: &str) -> Result<Boot> {
    let command = machine.command()?;
    if run.keep {
        eprintln!("lab: {}", shell_words(&command));
    }
    let boot = self::run(command, &dir.join("console.log"), label, BOOT_LIMIT)?;
    if !run.keep {
        fs::remove_dir_all(machine.work)?;
    }
    Ok(boot)
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
        // Not every machine powers off.
        let left = if ended { POWER_OFF_LIMIT } else { limit.saturating_sub(start.elapsed()) };
        match lines.recv_timeout(left) {
            Ok(line) => {
                writeln!(file, "{:8.2} {line}", start.elapsed().as_secs_f64())?;
                follow(&line, label, &mut boot, &mut ended, &mut current);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) if ended => break,
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A boot whose console says what a shell prints.
    fn boot(name: &str, script: &str, limit: Duration) -> Boot {
        let dir = std::env::temp_dir().join(format!("lab-boot-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        run(shell, &dir.join(format!("{name}.log")), name, limit).unwrap()
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_guest_that_reports_its_end_is_in_order() {
        let boot = boot("end", "echo LAB start a; echo LAB done a exit=0; echo LAB end", LONG);
        assert_eq!((boot.done, boot.troubles), (vec!["a".to_owned()], Vec::new()));
    }

    #[test]
    fn a_guest_that_powers_off_without_a_word_has_died() {
        let boot = boot("died", "echo LAB start a", LONG);
        assert_eq!(boot.troubles, ["the guest died during a without a word of its init"]);
    }

    #[test]
    fn a_guest_that_never_ends_is_ended() {
        let start = Instant::now();
        let boot = boot("hung", "echo LAB start a; exec sleep 20", Duration::from_secs(3));
        assert!(boot.troubles[0].starts_with("hung during a"), "{:?}", boot.troubles);
        assert!(start.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_warning_fails_a_boot_that_otherwise_ends_well() {
        let boot = boot("warning", "echo '[ 1.0] WARNING: CPU: 0 PID: 1 at x.c:1'; echo LAB end", LONG);
        assert_eq!(boot.troubles, ["console: [ 1.0] WARNING: CPU: 0 PID: 1 at x.c:1"]);
    }
}
