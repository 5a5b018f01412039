//! `bouncescope android`: pushes the arm64 binary to phones, runs `doctor` and `record` there, and pulls the captures.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::adb::Device;
use crate::{
    duration::parse_duration,
    input::{fail, print, warn},
};

mod adb;
#[cfg(test)]
mod tests;

/// Ours alone on the device, and only while this runs. The only place where the shell may write and run programs.
const DIR: &str = "/data/local/tmp/bouncescope";
/// The capture on the device, in [`DIR`].
const CAPTURE: &str = "/data/local/tmp/bouncescope/capture.bounce";

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope android --binary bouncescope-0.1.0-aarch64-phone/bouncescope
  bouncescope android --binary ./bouncescope-arm64 -s PIXEL -s TABLET -d 120 -o cold.bounce     cold-PIXEL.bounce, cold-TABLET.bounce
  bouncescope android --binary ./bouncescope-arm64 -- --full --no-addresses                     options of `record`

The phone needs root (su or adb root). docs/android.md says what each Android kernel can show.")]
pub(crate) struct Args {
    /// adb to call
    #[arg(long, value_name = "PATH", env = "ADB", hide_env_values = true, default_value = "adb")]
    adb: PathBuf,
    /// Serial number of the device, if there are several; may be given more than once, to record one after the other
    #[arg(short, long, value_name = "SERIAL", env = "ANDROID_SERIAL", hide_env_values = true)]
    serial: Vec<String>,
    /// Record for this time: seconds, or with a unit as in 500ms, 5m or 2h
    #[arg(short, long, value_name = "TIME", default_value = "30", value_parser = duration)]
    duration: String,
    /// Where the capture goes on this machine; with several devices, the serial number is put before the extension
    #[arg(short, long, value_name = "FILE", default_value = "phone.bounce")]
    output: PathBuf,
    /// Static arm64 program to push, such as the one in the aarch64 archive [default: this program, if it is one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// More arguments for `record`, after `--`
    #[arg(last = true, value_name = "ARGUMENT")]
    record: Vec<String>,
}

/// As it was written, for `record` on the phone.
fn duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}

/// What `record` is called with on the phone.
fn record_arguments(args: &Args) -> impl Iterator<Item = &str> {
    ["record", "-d", &args.duration, "-o", CAPTURE].into_iter().chain(args.record.iter().map(String::as_str))
}

/// Reads the arguments as `record` on the phone will.
#[cfg(all(target_os = "linux", feature = "live"))]
fn check_record_arguments(args: &Args) -> Result<()> {
    use clap::{Arg, Args as _, Command, error::ErrorKind};
    // The one option of all commands.
    let command = crate::record::Args::augment_args(Command::new("record")).arg(Arg::new("color").long("color"));
    let Err(error) = command.try_get_matches_from(record_arguments(args)) else { return Ok(()) };
    if error.kind() == ErrorKind::DisplayHelp {
        bail!("see `bouncescope record --help` for what may stand behind --");
    }
    let said = error.to_string();
    let line = said.lines().next().unwrap_or_default();
    bail!("behind --: {}", line.strip_prefix("error: ").unwrap_or(line));
}

/// This program has no `record` to ask.
#[cfg(not(all(target_os = "linux", feature = "live")))]
fn check_record_arguments(_: &Args) -> Result<()> {
    Ok(())
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    check_record_arguments(args)?;
    let binary = binary(args)?;
    if let [] | [_] = args.serial[..] {
        one(args, &binary, args.serial.first().map(String::as_str), &args.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = 0;
    for serial in &args.serial {
        // The others may be well.
        if let Err(error) = one(args, &binary, Some(serial), &output_of(&args.output, serial)) {
            fail(&error);
            failed += 1;
        }
    }
    ensure!(failed == 0, "{failed} of {} devices were not recorded", args.serial.len());
    Ok(ExitCode::SUCCESS)
}

/// Records on one device.
fn one(args: &Args, binary: &Path, serial: Option<&str>, output: &Path) -> Result<()> {
    // All that can be wrong is found before anything is pushed.
    if output.exists() {
        bail!("{} is there already: name another with -o", output.display());
    }
    record_on(&Device::find(&args.adb, serial)?, binary, args, output)
}

/// The output of one of several devices.
fn output_of(output: &Path, serial: &str) -> PathBuf {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push("-");
    name.push(serial.chars().map(kept).collect::<String>());
    if let Some(extension) = output.extension() {
        name.push(".");
        name.push(extension);
    }
    output.with_file_name(name)
}

/// `EM_AARCH64` (`include/uapi/linux/elf-em.h`), where `e_machine` is.
const EM_AARCH64: [u8; 2] = 183_u16.to_le_bytes();

/// The program to push; makes sure that it is one for arm64.
fn binary(args: &Args) -> Result<PathBuf> {
    let path = match &args.binary {
        Some(path) => path.clone(),
        None if cfg!(target_arch = "aarch64") => std::env::current_exe()?,
        None => bail!(
            "this bouncescope is not an arm64 build: give one with --binary, such as that of the archive \
             bouncescope-{}-aarch64-phone.tar.gz",
            env!("CARGO_PKG_VERSION")
        ),
    };
    let mut header = Vec::new();
    let file = fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    file.take(20).read_to_end(&mut header).with_context(|| format!("cannot read {}", path.display()))?;
    let is_arm64 = header.starts_with(b"\x7fELF\x02\x01") && header.get(18..20) == Some(&EM_AARCH64);
    ensure!(is_arm64, "{} is not a program for arm64", path.display());
    Ok(path)
}

fn record_on(device: &Device, binary: &Path, args: &Args, output: &Path) -> Result<()> {
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
            pull(device, output).map(|()| true)
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
    print(&format!("{0}\nnext: bouncescope verify {0}; bouncescope replay {0}\n", output.display()))
}

fn push_and_record(device: &Device, binary: &Path, args: &Args) -> Result<()> {
    let program = &format!("{DIR}/bouncescope");
    let from = binary.to_str().with_context(|| format!("{} is not UTF-8", binary.display()))?;
    device.must(["push", from, program])?;
    device.must(["shell", "chmod", "755", program])?;
    if !device.run_as_root(&[program, "doctor"])? {
        warn("doctor found something wrong; recording all the same");
    }
    let words: Vec<&str> = std::iter::once(program.as_str()).chain(record_arguments(args)).collect();
    ensure!(device.run_as_root(&words)?, "record failed on {}", device.serial());
    Ok(())
}

/// Brings the capture here, where it is its owner's alone too.
fn pull(device: &Device, output: &Path) -> Result<()> {
    let to = output.to_str().with_context(|| format!("{} is not UTF-8", output.display()))?;
    // It is root's, and adb pulls as the shell.
    device.must_as_root(&["chown", "shell", CAPTURE])?;
    device.must(["pull", CAPTURE, to])?;
    fs::set_permissions(output, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("adb said it pulled the capture, but {} can't be protected", output.display()))
}

fn still_there(device: &Device) -> String {
    format!(
        "the capture was not pulled; it is still on the device: adb -s {0} pull {DIR}/capture.bounce, then adb -s {0} shell rm -r {DIR}",
        device.serial()
    )
}
