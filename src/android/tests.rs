//! What is asked of adb, and what is said when it fails, with a stand-in that notes its arguments and plays answers.

use std::{env, os::unix::fs::symlink};

use clap::Parser;
use tempfile::TempDir;

use super::*;

const ONE: &str = "devices|0|List of devices attached\\nPHONE\\tdevice\n*uname -m|0|aarch64\n";
const ROOT: &str = "*shell id -u|0|0\n";
const SU: &str = "*shell id -u|0|2000\n*su -c 'id -u'|0|0\n";
const CAPTURE: &str = "*shell ls /data/local/tmp/bouncescope|0|bouncescope\\ncapture.bounce\n";

/// A command line as the program has it.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

struct Stage(TempDir);

impl Stage {
    /// A stand-in that answers so.
    fn new(answers: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("answers"), answers.concat()).unwrap();
        fs::write(dir.path().join("built"), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0").unwrap();
        // Not copied: a file being written by one test can't be executed by another.
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/android/stand-in-adb");
        symlink(stand_in, dir.path().join("adb")).unwrap();
        Self(dir)
    }

    fn output(&self) -> PathBuf {
        self.0.path().join("out.bounce")
    }

    /// Runs the command with more arguments.
    fn run(&self, arguments: &[&str]) -> Result<()> {
        let (adb, output, built) = (self.0.path().join("adb"), self.output(), self.0.path().join("built"));
        let (adb, output, built) = (adb.to_str().unwrap(), output.to_str().unwrap(), built.to_str().unwrap());
        let fixed = ["android", "--adb", adb, "-o", output, "--binary", built];
        run(&Line::parse_from(fixed.iter().chain(arguments)).args).map(|_| ())
    }

    /// The one line that is said for an error.
    fn error(&self, arguments: &[&str]) -> String {
        let line = format!("{:#}", self.run(arguments).unwrap_err());
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    /// What adb was asked.
    fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(self.0.path().join("log")).unwrap_or_default();
        let log = log.replace(self.output().to_str().unwrap(), "OUT");
        log.replace(self.0.path().join("built").to_str().unwrap(), "built").lines().map(str::to_owned).collect()
    }
}

#[test]
fn with_a_shell_that_is_root_the_sequence_is_exactly_this() {
    let stage = Stage::new(&[ONE, ROOT, CAPTURE]);
    stage.run(&["-d", "5", "--", "--no-addresses"]).unwrap();
    assert_eq!(
        stage.asked(),
        [
            "devices",
            "-s PHONE shell uname -m",
            "-s PHONE shell id -u",
            "-s PHONE shell mkdir /data/local/tmp/bouncescope",
            "-s PHONE push built /data/local/tmp/bouncescope/bouncescope",
            "-s PHONE shell chmod 755 /data/local/tmp/bouncescope/bouncescope",
            "-s PHONE shell /data/local/tmp/bouncescope/bouncescope doctor",
            "-s PHONE shell /data/local/tmp/bouncescope/bouncescope record -d 5 -o /data/local/tmp/bouncescope/capture.bounce --no-addresses",
            "-s PHONE shell ls /data/local/tmp/bouncescope",
            "-s PHONE shell chown shell /data/local/tmp/bouncescope/capture.bounce",
            "-s PHONE pull /data/local/tmp/bouncescope/capture.bounce OUT",
            "-s PHONE shell rm -r /data/local/tmp/bouncescope",
        ]
    );
    assert_eq!(fs::metadata(stage.output()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn with_su_only_what_needs_root_goes_through_it_quoted_once_more() {
    let stage = Stage::new(&[ONE, SU, CAPTURE]);
    stage.run(&["--", "--", "sh", "-c", "echo it's"]).unwrap();
    let asked = stage.asked();
    let su: Vec<_> = asked.iter().filter_map(|line| line.strip_prefix("-s PHONE shell su -c ")).collect();
    assert_eq!(su[..2], ["'id -u'", "'/data/local/tmp/bouncescope/bouncescope doctor'"]);
    assert!(su[2].ends_with(r"capture.bounce -- sh -c '\''echo it'\''\'\'''\''s'\'''"), "{}", su[2]);
    assert_eq!(su[4], "'rm -r /data/local/tmp/bouncescope'");
    assert!(!asked.iter().any(|line| line.ends_with(" root")), "the daemon need not start again: {asked:?}");
}

#[test]
fn without_su_adb_root_is_tried_and_its_refusal_is_said_in_a_line() {
    let stage =
        Stage::new(&[ONE, "*shell id -u|0|2000\n", "*su -c*|127|su: not found\n", "*root|0|adbd cannot run as root\n"]);
    let said = stage.error(&[]);
    assert!(said.contains("no root on PHONE") && said.contains("Magisk") && said.contains("adb root"), "{said}");
    let asked = stage.asked();
    assert_eq!(asked[4..], ["-s PHONE root", "-s PHONE wait-for-device", "-s PHONE shell id -u"], "nothing was pushed");
}

#[test]
fn no_device_several_and_those_that_are_not_ready_are_told_apart() {
    let cases = [
        ("", &[][..], "no device: connect one"),
        ("A\\tdevice\\nB\\tdevice", &[], "several devices (A, B): choose one with -s SERIAL"),
        ("A\\tdevice\\nB\\tdevice", &["-s", "C"], "no device C; connected: A, B"),
        ("A\\tunauthorized", &[], "allow USB debugging"),
        ("A\\toffline", &[], "A is offline"),
    ];
    for (listed, arguments, expected) in cases {
        let stage = Stage::new(&["devices|0|List of devices attached\\n", listed, "\n"]);
        let said = stage.error(arguments);
        assert!(said.contains(expected), "{said}");
        assert_eq!(stage.asked(), ["devices"]);
    }
}

#[test]
fn of_several_devices_the_one_named_is_asked() {
    let stage = Stage::new(&["devices|0|List\\nA\\tdevice\\nB\\tdevice\n*uname -m|0|aarch64\n", ROOT, CAPTURE]);
    stage.run(&["-s", "B"]).unwrap();
    assert!(stage.asked()[1..].iter().all(|line| line.starts_with("-s B ")));
}

#[test]
fn of_several_that_are_named_each_has_a_capture_and_one_that_fails_keeps_no_other_from_it() {
    let listed = "devices|0|List\\nA:5555\\tdevice\\nB\\toffline\\nC\\tdevice\n*uname -m|0|aarch64\n";
    let stage = Stage::new(&[listed, ROOT, CAPTURE]);
    let said = stage.error(&["-s", "A:5555", "-s", "B", "-s", "C"]);
    assert!(said.contains("1 of 3 devices"), "{said}");
    let written = |name: &str| stage.0.path().join(name).exists();
    assert!(
        written("out-A_5555.bounce") && written("out-C.bounce") && !written("out-B.bounce") && !written("out.bounce")
    );
}

#[test]
fn what_is_no_arm64_program_is_not_pushed() {
    let stage = Stage::new(&[ONE, ROOT, CAPTURE]);
    fs::write(stage.0.path().join("built"), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0").unwrap();
    assert!(stage.error(&[]).contains("is not a program for arm64"));
    fs::remove_file(stage.0.path().join("built")).unwrap();
    assert!(stage.error(&[]).contains("cannot open"));
    assert!(stage.asked().is_empty());
}

#[test]
fn another_architecture_is_refused_before_anything_is_pushed() {
    let stage = Stage::new(&["devices|0|L\\nEMU\\tdevice\n*uname -m|0|x86_64\n"]);
    assert!(stage.error(&[]).contains("EMU is a \"x86_64\" machine"));
    assert_eq!(stage.asked().len(), 2);
}

#[test]
fn a_capture_that_could_not_be_pulled_stays_and_is_named() {
    let stage = Stage::new(&[ONE, ROOT, CAPTURE, "*pull*|1|failed to stat\n"]);
    let said = stage.error(&[]);
    assert!(said.contains("adb -s PHONE pull /data/local/tmp/bouncescope/capture.bounce"), "{said}");
    assert!(said.contains("failed to stat"), "{said}");
    assert!(!stage.asked().iter().any(|line| line.contains("rm -r")), "nothing was removed");
}

#[test]
fn what_was_left_from_before_is_not_touched() {
    let stage = Stage::new(&[ONE, ROOT, "*mkdir*|1|mkdir: File exists\n"]);
    let said = stage.error(&[]);
    assert!(said.contains("File exists") && said.contains("rm -r /data/local/tmp/bouncescope"), "{said}");
    assert_eq!(stage.asked().len(), 4);
}

#[test]
fn a_recording_that_failed_in_the_middle_is_pulled_and_reported() {
    let stage = Stage::new(&[ONE, ROOT, CAPTURE, "*bouncescope record*|2|\n"]);
    assert!(stage.error(&[]).contains("record failed on PHONE"));
    assert!(stage.output().exists());
    assert!(stage.asked().last().unwrap().contains("rm -r"));
}

#[test]
fn a_push_that_fails_leaves_nothing_behind() {
    let stage = Stage::new(&[ONE, ROOT, "*push*|1|no space left on device\n"]);
    assert!(stage.error(&[]).contains("no space left"));
    assert!(stage.asked().last().unwrap().contains("rm -r"));
}

#[test]
fn a_doctor_that_finds_something_wrong_does_not_keep_from_recording() {
    let stage = Stage::new(&[ONE, ROOT, CAPTURE, "*doctor|1|\n"]);
    stage.run(&[]).unwrap();
    assert!(stage.asked().iter().any(|line| line.contains(" record ")));
}

#[test]
fn a_duration_is_one_of_record() {
    let read = |text: &str| Line::try_parse_from(["android", "-d", text]).map(|line| line.args.duration);
    assert_eq!(read("5m").unwrap(), "5m");
    for (text, says) in [("0", "more than 0 seconds"), ("soon", "not a time such as 30")] {
        let said = read(text).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
#[cfg(all(target_os = "linux", feature = "live"))]
fn arguments_that_record_does_not_take_are_refused_before_adb_is_asked() {
    let stage = Stage::new(&[ONE, ROOT, CAPTURE]);
    for (argument, says) in [
        ("--whole", "behind --: unexpected argument '--whole' found"),
        ("--sample=3", "not a power of two"),
        ("--duration=9", "cannot be used multiple times"),
        ("--help", "bouncescope record --help"),
    ] {
        let said = stage.error(&["--", argument]);
        assert!(said.contains(says), "{said}");
    }
    assert!(stage.asked().is_empty());
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let stage = Stage::new(&[ONE]);
    fs::write(stage.output(), "precious").unwrap();
    assert!(stage.error(&[]).contains("is there already"));
    assert!(stage.asked().is_empty());
}

#[test]
fn an_adb_that_is_not_there_is_said_with_what_to_do() {
    let stage = Stage::new(&[]);
    fs::remove_file(stage.0.path().join("adb")).unwrap();
    let said = stage.error(&[]);
    assert!(said.contains("/adb: install Android's platform tools"), "{said}");
}
