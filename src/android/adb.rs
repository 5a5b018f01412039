//! Calling adb: which device, as whom, and quoting for the shells on the way.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail, ensure};

/// A connected device, and how commands become root's there.
#[derive(Debug)]
pub(super) struct Device {
    adb: PathBuf,
    serial: String,
    root: Root,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// `adb shell` is root already.
    Shell,
    /// Through `su -c`.
    Su,
}

impl Device {
    /// The device of that serial number, or the only one; it must be an arm64 one on which commands can run as root.
    pub(super) fn find(adb: &Path, serial: Option<&str>) -> Result<Self> {
        let serial = choose(&text(&call(adb, ["devices"])?), serial)?;
        let mut device = Self { adb: adb.to_owned(), serial, root: Root::Shell };
        let machine = text(&device.adb(["shell", "uname", "-m"])?);
        ensure!(machine == "aarch64", "{} is a {machine:?} machine, not aarch64", device.serial);
        device.root = device.become_root()?;
        Ok(device)
    }

    /// `su` changes nothing on the device; `adb root` starts its daemon again, and so comes last.
    fn become_root(&self) -> Result<Root> {
        let is_root = |output: &Output| output.status.success() && text(output) == "0";
        if is_root(&self.adb(["shell", "id", "-u"])?) {
            return Ok(Root::Shell);
        }
        if is_root(&self.adb(["shell", "su", "-c", "'id -u'"])?) {
            return Ok(Root::Su);
        }
        // It says "adbd cannot run as root in production builds" and exits with 0.
        self.adb(["root"])?;
        self.adb(["wait-for-device"])?;
        if is_root(&self.adb(["shell", "id", "-u"])?) {
            return Ok(Root::Shell);
        }
        bail!(
            "no root on {}: neither `su -c` (Magisk, KernelSU: allow it for the shell, com.android.shell) nor `adb root` \
             (userdebug builds) gives it",
            self.serial
        )
    }

    /// Its serial number.
    pub(super) fn serial(&self) -> &str {
        &self.serial
    }

    /// Calls adb for this device.
    pub(super) fn adb<const N: usize>(&self, arguments: [&str; N]) -> Result<Output> {
        call(&self.adb, ["-s", &self.serial].into_iter().chain(arguments))
    }

    /// The same; an answer other than success is an error with adb's own words.
    pub(super) fn must<const N: usize>(&self, arguments: [&str; N]) -> Result<Output> {
        let output = self.adb(arguments)?;
        if !output.status.success() {
            bail!("adb {}: {}", arguments.join(" "), said(&output));
        }
        Ok(output)
    }

    /// Runs a command as root, with what it prints going where ours goes. Whether it succeeded.
    pub(super) fn run_as_root(&self, words: &[&str]) -> Result<bool> {
        let status = Command::new(&self.adb)
            .args(["-s", &self.serial, "shell"])
            .arg(self.as_root(words))
            .status()
            .with_context(|| cannot_run(&self.adb))?;
        Ok(status.success())
    }

    /// Runs a command as root; failing is an error with its own words.
    pub(super) fn must_as_root(&self, words: &[&str]) -> Result<()> {
        self.must(["shell", &self.as_root(words)]).map(|_| ())
    }

    /// One line for the device's shell.
    fn as_root(&self, words: &[&str]) -> String {
        let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        match self.root {
            Root::Shell => line,
            Root::Su => format!("su -c {}", quoted(&line)),
        }
    }
}

/// The serial number of the device that is meant, from what `adb devices` prints.
fn choose(listed: &str, wanted: Option<&str>) -> Result<String> {
    // A heading, then lines of serial number, tab, state; the daemon's own messages begin with `*`.
    let listed: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
    let serials = || listed.iter().map(|(serial, _)| *serial).collect::<Vec<_>>().join(", ");
    let (serial, state) = match (wanted, listed.as_slice()) {
        (_, []) => bail!("no device: connect one, with USB debugging on (`adb devices` lists it)"),
        (None, [only]) => *only,
        (None, _) => bail!("several devices ({}): choose one with -s SERIAL", serials()),
        (Some(wanted), listed) => match listed.iter().find(|(serial, _)| *serial == wanted) {
            Some(found) => *found,
            None => bail!("no device {wanted}; connected: {}", serials()),
        },
    };
    match state.trim() {
        "device" => Ok(serial.to_owned()),
        "unauthorized" => bail!("{serial} does not know this computer: unlock it and allow USB debugging"),
        state => bail!("{serial} is {state}, not ready"),
    }
}

fn call<'a>(adb: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Result<Output> {
    Command::new(adb).args(arguments.into_iter().map(OsStr::new)).output().with_context(|| cannot_run(adb))
}

fn cannot_run(adb: &Path) -> String {
    format!("cannot run {}: install Android's platform tools, or name adb with --adb or ADB", adb.display())
}

/// What was printed, without white space around it.
fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What adb said went wrong, in one line.
fn said(output: &Output) -> String {
    let all = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    all.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A word as a POSIX shell takes it literally.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_command_as_they_are_through_any_number_of_shells() {
        let words = ["plain", "two words", "it's", "$HOME", ""];
        let mut line = words.map(quoted).join(" ");
        for _ in 0..2 {
            line = format!("sh -c {}", quoted(&format!("printf '%s|' {line}")));
            let output = Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(text(&output), "plain|two words|it's|$HOME||");
            line = words.map(quoted).join(" ");
        }
        let twice = format!("sh -c {}", quoted(&format!("sh -c {}", quoted(&format!("printf '%s|' {line}")))));
        assert_eq!(text(&Command::new("sh").args(["-c", &twice]).output().unwrap()), "plain|two words|it's|$HOME||");
    }

    #[test]
    fn the_daemons_own_messages_name_no_device() {
        let listed = "* daemon not running; starting now at tcp:5037\nList of devices attached\nA1\tdevice\n";
        assert_eq!(choose(listed, None).unwrap(), "A1");
    }
}
