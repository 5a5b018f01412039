//! `cargo xtask android`: pushes the arm64 binary to a phone, runs `doctor` and `record` there, and pulls the capture.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::adb::Device;
use crate::dist;
use workspace::static_build::ARM64;

mod adb;
#[cfg(test)]
mod tests;

/// Ours alone on the device, and only while this runs. The only place where the shell may write and run programs.
const DIR: &str = "/data/local/tmp/bouncescope";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// adb to call
    #[arg(long, value_name = "PATH", env = "ADB", default_value = "adb")]
    adb: PathBuf,
    /// Serial number of the device, where there are several
    #[arg(short, long, value_name = "SERIAL", env = "ANDROID_SERIAL")]
    serial: Option<String>,
    /// Record for so many seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "30")]
    duration: String,
    /// Where the capture goes on this machine
    #[arg(short, long, value_name = "FILE", default_value = "phone.bounce")]
    output: PathBuf,
    /// Static arm64 binary to push, instead of building it
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// More arguments for `record`, behind `--`
    #[arg(last = true, value_name = "ARGUMENT")]
    record: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // All that can be wrong is found before anything is built or pushed.
    if args.output.exists() {
        bail!("{} is there already: name another with -o", args.output.display());
    }
    let device = Device::find(&args.adb, args.serial.as_deref())?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => dist::binary(workspace::root(), &ARM64, dist::FOR_A_PHONE)?,
    };
    record_on(&device, &binary, args)
}

fn record_on(device: &Device, binary: &Path, args: &Args) -> Result<()> {
    // Not `-p`: what is there may be a capture that nobody has yet.
    device.must(["shell", "mkdir", DIR]).with_context(|| {
        format!(
            "{DIR} can't be made on {}; if it is left from before and its capture not wanted, remove it (adb shell rm -r {DIR})",
            device.serial()
        )
    })?;
    let recorded = push_and_record(device, binary, args);
    // A recording that failed in the middle leaves a capture that is readable so far.
    let pulled = match device.adb(["shell", "ls", DIR])? {
        listed if String::from_utf8_lossy(&listed.stdout).lines().any(|name| name.trim() == "capture.bounce") => {
            pull(device, &args.output).map(|()| true)
        }
        _ => Ok(false),
    };
    match pulled {
        Err(error) => return Err(error.context(still_there(device))),
        Ok(pulled) => {
            device.must_as_root(&["rm", "-r", DIR])?;
            recorded?;
            ensure!(pulled, "record left no capture on {}", device.serial());
        }
    }
    println!("{0}\nnext: bouncescope verify {0}; bouncescope replay {0}", args.output.display());
    Ok(())
}

fn push_and_record(device: &Device, binary: &Path, args: &Args) -> Result<()> {
    let program = &format!("{DIR}/bouncescope");
    let from = binary.to_str().with_context(|| format!("{} is no UTF-8", binary.display()))?;
    device.must(["push", from, program])?;
    device.must(["shell", "chmod", "755", program])?;
    if !device.run_as_root(&[program, "doctor"])? {
        eprintln!("android: doctor found something wrong; recording all the same");
    }
    let capture = format!("{DIR}/capture.bounce");
    let mut words = vec![program.as_str(), "record", "-d", &args.duration, "-o", &capture];
    words.extend(args.record.iter().map(String::as_str));
    ensure!(device.run_as_root(&words)?, "record failed on {}", device.serial());
    Ok(())
}

/// Brings the capture here, where it is its owner's alone too.
fn pull(device: &Device, output: &Path) -> Result<()> {
    let capture = &format!("{DIR}/capture.bounce");
    let to = output.to_str().with_context(|| format!("{} is no UTF-8", output.display()))?;
    // It is root's, and adb pulls as the shell.
    device.must_as_root(&["chown", "shell", capture])?;
    device.must(["pull", capture, to])?;
    fs::set_permissions(output, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("adb said it pulled the capture, but {} can't be protected", output.display()))
}

fn still_there(device: &Device) -> String {
    format!(
        "the capture was not pulled; it is still on the device: adb -s {0} pull {DIR}/capture.bounce, then adb -s {0} shell rm -r {DIR}",
        device.serial()
    )
}
