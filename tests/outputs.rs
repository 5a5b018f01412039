//! Files that the commands write: what was there is kept until the new one is whole, and nothing is written where it should not be.
#![cfg(target_os = "linux")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

const CAPTURE: &str = "captures/6.12-full-hold-300.bounce";
const TRACE: &str = "tests/traces/6.18-x86-perf-script.txt";
const OLD: &str = "what was there\n";

fn bouncescope(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).stdin(Stdio::null());
    command
}

/// A command that writes: its arguments with `{}` for the output, and what to look at of it.
type Writer = (Vec<&'static str>, Vec<&'static str>);

/// Every command that writes a file, but for those that trace a kernel.
fn writers() -> Vec<Writer> {
    let mut writers = vec![
        (vec!["import", TRACE, "-o", "{}"], vec![""]),
        (vec!["check", "tests/golden/input/lab.toml", CAPTURE, "--junit", "{}"], vec![""]),
        (vec!["export", CAPTURE, "--format", "csv", "-o", "{}"], vec!["mappings.csv", "occupancy.csv"]),
        (vec!["export", CAPTURE, "--format", "perfetto", "-o", "{}"], vec![""]),
        (vec!["label", CAPTURE, "--label", "board=x", "-o", "{}"], vec![""]),
        (vec!["convert", CAPTURE, "-o", "{}"], vec![""]),
        (vec!["man", "{}"], vec!["bouncescope.1", "bouncescope-replay.1"]),
        (vec!["top", CAPTURE, "--picture", "{}"], vec![""]),
    ];
    if cfg!(feature = "report") {
        writers.push((vec!["report", CAPTURE, "-o", "{}"], vec![""]));
        writers.push((vec!["report", CAPTURE, "--md", "-o", "{}"], vec![""]));
    }
    if cfg!(feature = "export") {
        writers.push((vec!["export", CAPTURE, "--format", "parquet", "-o", "{}"], vec!["mappings.parquet"]));
        writers.push((vec!["export", CAPTURE, "--format", "arrow", "-o", "{}"], vec!["mappings.arrow"]));
    }
    writers
}

/// A directory for one command: where it writes, and the files that it makes there.
struct Place {
    dir: tempfile::TempDir,
    output: PathBuf,
    files: Vec<PathBuf>,
}

impl Place {
    fn new(files: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("output");
        let files = files.iter().map(|file| if file.is_empty() { output.clone() } else { output.join(file) }).collect();
        Self { dir, output, files }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let output = self.output.to_str().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|part| if *part == "{}" { output } else { part }).collect();
        let mut command = bouncescope(&arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn put_old(&self) {
        for file in &self.files {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, OLD).unwrap();
        }
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        self.files.iter().map(|file| fs::read(file).unwrap_or_default()).collect()
    }
}

/// Kills each command at so many moments of its run: what is there is the old file or the new one, always whole.
fn kill_at(moments: u32) {
    for (arguments, files) in writers() {
        let place = Place::new(&files);
        place.put_old();
        let began = Instant::now();
        let output = place.command(&arguments).output().unwrap();
        let takes = began.elapsed();
        assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {output:?}");
        let whole = place.contents();
        assert!(whole.iter().all(|content| content.len() > OLD.len()), "{arguments:?}");
        let mut kept = 0;
        for moment in 0..moments {
            place.put_old();
            let mut child = place.command(&arguments).spawn().unwrap();
            thread::sleep(takes * moment / moments);
            child.kill().unwrap();
            child.wait().unwrap();
            for (content, whole) in place.contents().iter().zip(&whole) {
                let is_old = content == OLD.as_bytes();
                kept += u32::from(is_old);
                assert!(is_old || content == whole, "{arguments:?}, at {moment} of {moments}: {} bytes", content.len());
            }
        }
        assert!(kept > 0, "{arguments:?}: no moment was before the end");
    }
}

#[test]
fn a_killed_command_leaves_the_old_file_or_the_new_one() {
    kill_at(6);
}

/// Calls that open or make a file to write to it, or rename one, of a log of `strace`; those of a failed search for something are left out.
fn writing(log: &str) -> Vec<&str> {
    let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"];
    let opens = |line: &str| {
        line.contains("creat(") || line.contains("truncate(") || writes.iter().any(|flag| line.contains(flag))
    };
    log.lines().filter(|line| opens(line) && !line.contains("= -1 ")).collect()
}

/// What the system was asked for, whatever the sources say.
#[test]
#[ignore = "needs strace: cargo test --test outputs -- --ignored"]
fn no_file_is_opened_to_be_written_to_through_a_link() {
    for (arguments, files) in writers() {
        let place = Place::new(&files);
        let log = place.dir.path().join("log");
        let output = place.output.to_str().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(|part| if *part == "{}" { output } else { part }).collect();
        let traced = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=open,openat,openat2,creat,truncate", "-o", log.to_str().unwrap()])
            .arg(env!("CARGO_BIN_EXE_bouncescope"))
            .args(&arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .expect("strace can be run");
        assert!(traced.status.code().is_some_and(|code| code < 2), "{arguments:?}: {traced:?}");
        let log = fs::read_to_string(&log).unwrap();
        let writing = writing(&log);
        assert!(writing.iter().filter(|line| line.contains("O_EXCL")).count() >= files.len(), "{arguments:?}: {log}");
        // A file without a name is nobody's link, and nobody else can open it.
        for line in writing.into_iter().filter(|line| !line.contains("O_TMPFILE")) {
            // Relative to a directory that is open, made anew, and not through a link.
            let flags = ["O_CREAT", "O_EXCL", "O_NOFOLLOW"];
            assert!(
                flags.iter().all(|flag| line.contains(flag)) && !line.contains("AT_FDCWD"),
                "{arguments:?}: {line}"
            );
        }
    }
}

#[test]
fn calls_that_write_are_found_in_a_log() {
    let log = "1 openat(AT_FDCWD, \"a\", O_RDONLY|O_CLOEXEC) = 3\n1 openat(4, \"b\", O_WRONLY|O_CREAT, 0600) = 5\n\
               1 openat(AT_FDCWD, \"c\", O_RDWR) = -1 ENOENT\n1 creat(\"d\", 0600) = 6\n1 openat(4, \"e\", O_RDWR) = 7\n";
    let found: Vec<char> =
        writing(log).iter().map(|line| line.split('"').nth(1).unwrap().chars().next().unwrap()).collect();
    assert_eq!(found, ['b', 'd', 'e']);
}

#[test]
#[ignore = "200 runs of every command that writes: cargo test --test outputs -- --ignored"]
fn a_command_killed_at_200_moments_leaves_the_old_file_or_the_new_one() {
    kill_at(200);
}

#[test]
fn a_full_disk_keeps_what_was_there_and_leaves_nothing() {
    for (arguments, files) in writers() {
        let place = Place::new(&files);
        place.put_old();
        let before = names(&place.dir);
        let command = place.command(&arguments);
        // A limit on the size of files is a disk that is full, for one process.
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches("os error").count(), 1, "{arguments:?}: {said}");
        assert!(place.contents().iter().all(|content| content == OLD.as_bytes()), "{arguments:?}");
        assert_eq!(names(&place.dir), before, "{arguments:?}");
    }
}

/// Every file below a directory.
fn names(dir: &tempfile::TempDir) -> Vec<PathBuf> {
    let mut found = vec![dir.path().to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        if path.is_dir() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    found.sort();
    found
}

#[test]
fn no_command_writes_through_a_link() {
    for (arguments, files) in writers() {
        let place = Place::new(&files);
        let victims: Vec<PathBuf> = (0..files.len()).map(|n| place.dir.path().join(format!("victim{n}"))).collect();
        for (file, victim) in place.files.iter().zip(&victims) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(victim, OLD).unwrap();
            symlink(victim, file).unwrap();
        }
        let output = place.command(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("it is a link"), "{arguments:?}: {said}");
        assert!(victims.iter().all(|victim| fs::read_to_string(victim).unwrap() == OLD), "{arguments:?}");
    }
}

fn refused(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("it is also read"), "{said}");
}

#[test]
fn no_command_replaces_what_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |name: &str, of: &str| {
        let path = dir.path().join(name);
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(of), &path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (capture, trace, rules) =
        (copy("x.bounce", CAPTURE), copy("x.txt", TRACE), copy("rules.toml", "tests/golden/input/lab.toml"));
    let mut commands = vec![
        vec!["export", &capture, "--format", "perfetto", "-o", &capture],
        vec!["label", &capture, "--label", "board=x", "-o", &capture],
        vec!["convert", &capture, "-o", &capture],
        vec!["import", &trace, "-o", &trace],
        vec!["import", &trace, "--like", &capture, "-o", &capture],
        vec!["check", &rules, &capture, "--junit", &capture],
        vec!["check", &rules, &capture, "--junit", &rules],
    ];
    if cfg!(feature = "report") {
        commands.push(vec!["report", &capture, "-o", &capture]);
    }
    let before: Vec<_> = [&capture, &trace, &rules].map(|path| fs::read(path).unwrap()).into();
    for arguments in commands {
        refused(&bouncescope(&arguments).output().unwrap());
    }
    let after: Vec<_> = [&capture, &trace, &rules].map(|path| fs::read(path).unwrap()).into();
    assert!(before == after && fs::read_dir(dir.path()).unwrap().count() == 3);
}

#[test]
fn an_output_may_be_standard_output_or_a_fifo_that_is_read_later() {
    let export = ["export", CAPTURE, "--format", "perfetto", "-o"];
    let whole = bouncescope(&[&export[..], &["/dev/stdout"]].concat()).output().unwrap();
    assert!(whole.status.success() && whole.stdout.len() > 1000, "{whole:?}");

    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let writer =
        bouncescope(&[&export[..], &[fifo.to_str().unwrap()]].concat()).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(fs::read(&fifo).unwrap() == whole.stdout);
    let output = writer.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("waiting for somebody to read"), "{said}");
}

#[test]
fn a_failed_import_takes_nothing_away_and_a_second_one_keeps_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x.bounce");
    let import = |trace: &str| bouncescope(&["import", trace, "-o", output.to_str().unwrap()]).output().unwrap();
    assert!(import(TRACE).status.success());
    let first = fs::read(&output).unwrap();
    assert!(!import("Cargo.toml").status.success());
    assert_eq!(fs::read(&output).unwrap(), first);
    assert!(import("tests/traces/6.18-direct-hold-100.txt").status.success());
    assert_eq!(fs::read(dir.path().join("x.bounce.old")).unwrap(), first);
    // What was cut does not take the place of what is whole.
    fs::write(&output, &first[..first.len() / 2]).unwrap();
    assert!(import(TRACE).status.success());
    assert_eq!(fs::read(dir.path().join("x.bounce.old")).unwrap(), first);
    assert!(dir.path().join("x.bounce.cut").exists());
}
