//! `cargo xtask fuzz`: builds the targets of `fuzz/` with the compiler at hand, and lets each of them search for a while.
//!
//! What cargo-fuzz does without a sanitizer, which is all that a stable compiler can do; nearly all code here is safe Rust, where
//! what matters are panics, memory and time.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use workspace::jobs;

/// What cargo-fuzz has the compiler add: counters of the ways through the code, and what is compared with what.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// One input may take this long, seconds.
const LONGEST: u32 = 10;
/// Memory that a target may take, in units of 2²⁰ bytes.
const MEMORY: u32 = 512;
/// Bytes of an input.
const LARGEST: u32 = 16 << 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Targets: those of `fuzz/fuzz_targets`, without ending [default: all]
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Inputs tried by each target at the most, the same ones every time as far as the program under test does the same
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Targets that run at the same time
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let fuzz = workspace::root().join("fuzz");
    let targets = chosen(all(&fuzz)?, &args.targets)?;
    let built = build(&fuzz, &targets)?;
    let results = jobs::all(&targets, usize::from(args.jobs), |target| {
        let result = search(&fuzz, &built, target, args);
        match &result {
            Ok(line) => println!("{target:<14} {line}"),
            Err(error) => println!("{target:<14} {error:#}"),
        }
        result.is_ok()
    });
    let failed = results.iter().filter(|well| !**well).count();
    ensure!(failed == 0, "{failed} of {} targets found something", targets.len());
    Ok(())
}

/// All targets, by name.
fn all(fuzz: &Path) -> Result<Vec<String>> {
    let dir = fuzz.join("fuzz_targets");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let file = entry?.file_name().to_string_lossy().into_owned();
        targets.extend(file.strip_suffix(".rs").map(str::to_owned));
    }
    targets.sort();
    Ok(targets)
}

/// Those that were asked for, or all.
fn chosen(all: Vec<String>, asked: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = asked.iter().find(|asked| !all.contains(asked)) {
        bail!("no target {unknown}; there are: {}", all.join(", "));
    }
    Ok(if asked.is_empty() { all } else { asked.to_vec() })
}

/// Builds them; the directory they are in.
fn build(fuzz: &Path, targets: &[String]) -> Result<PathBuf> {
    // Named, so that cargo keeps the flags from build scripts.
    let machine = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--locked", "--target", &machine, "--manifest-path"]);
    cargo.arg(fuzz.join("Cargo.toml")).arg("--target-dir").arg(fuzz.join("target")).env("RUSTFLAGS", FLAGS);
    for target in targets {
        cargo.args(["--bin", target]);
    }
    ensure!(cargo.status().context("cannot run cargo")?.success(), "the fuzz targets did not compile");
    Ok(fuzz.join("target").join(machine).join("release"))
}

/// Searches for as long as it is to, from what is in the repository and what earlier searches left. What came of it, in a line; an
/// error when something was found.
fn search(fuzz: &Path, built: &Path, target: &str, args: &Args) -> Result<String> {
    let [corpus, seeds, found] = ["corpus", "seeds", "artifacts"].map(|dir| fuzz.join(dir).join(target));
    for dir in [&corpus, &found] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let log = found.join("log");
    let mut libfuzzer = Command::new(built.join(target));
    libfuzzer.args([
        format!("-max_total_time={}", args.seconds),
        format!("-timeout={LONGEST}"),
        format!("-rss_limit_mb={MEMORY}"),
        format!("-max_len={LARGEST}"),
        format!("-artifact_prefix={}/", found.display()),
        // Long inputs from the beginning: a stream of a few bytes does nothing.
        "-len_control=0".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]);
    if let Some(runs) = args.runs {
        libfuzzer.args([format!("-runs={runs}"), "-seed=1".to_owned()]);
    }
    let words = fuzz.join("dictionaries").join(target);
    if words.exists() {
        libfuzzer.arg(format!("-dict={}", words.display()));
    }
    libfuzzer.arg(&corpus);
    if seeds.is_dir() {
        libfuzzer.arg(&seeds);
    }
    libfuzzer.current_dir(fuzz).stdin(Stdio::null()).stdout(Stdio::null());
    libfuzzer.stderr(File::create(&log).with_context(|| format!("cannot create {}", log.display()))?);
    let status = libfuzzer.status().with_context(|| format!("cannot run {}", built.join(target).display()))?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        bail!("{}; all it said is in {}", finding(&said), log.display());
    }
    summary(&said).with_context(|| format!("it said nothing of what it did, see {}", log.display()))
}

/// How much was tried, in a line.
fn summary(said: &str) -> Option<String> {
    let executions = stat(said, "number_of_executed_units")?;
    let memory = stat(said, "peak_rss_mb")?;
    let last = said.lines().rfind(|line| line.contains(" ft: "))?;
    let (edges, features) = (after(last, "cov: ")?, after(last, "ft: ")?);
    Some(format!("{executions} executions, {edges} edges, {features} features, {memory} MiB"))
}

fn stat<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    after(said, &format!("stat::{name}: "))
}

/// The word behind the first `label`.
fn after<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.split_once(label)?.1.split_whitespace().next()
}

/// What was found, in a line: where it panicked, or what libFuzzer calls it; and the input.
fn finding(said: &str) -> String {
    let mut lines = said.lines();
    let panic = lines.find(|line| line.contains(" panicked at ")).map(|place| {
        let place = place.split_once(" panicked at ").map_or(place, |(_, place)| place);
        format!("panicked at {place} {}", lines.next().unwrap_or_default())
    });
    let other =
        || said.lines().find_map(|line| line.strip_prefix("SUMMARY: ")).unwrap_or("ended without a word").to_owned();
    let input = said.split_once("Test unit written to ").and_then(|(_, rest)| rest.lines().next());
    format!("{}; the input: {}", panic.unwrap_or_else(other), input.unwrap_or("not kept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_read_from_libfuzzers_last_words() {
        let said = "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 44Mb\n\
                    #99\tDONE   cov: 513 ft: 1402 corp: 88/4Kb lim: 4096 exec/s: 9 rss: 52Mb\nDone 99 runs in 11 second(s)\n\
                    stat::number_of_executed_units: 99\nstat::peak_rss_mb:              52\n";
        assert_eq!(summary(said).unwrap(), "99 executions, 513 edges, 1402 features, 52 MiB");
        assert_eq!(summary("sh: killed"), None);
    }

    #[test]
    fn a_panic_is_told_with_its_place_and_the_input() {
        let said = "thread '<unnamed>' (7) panicked at tracer/src/a.rs:3:1:\nattempt to add with overflow\nstack backtrace:\n\
                    SUMMARY: libFuzzer: deadly signal\nartifact_prefix='x/'; Test unit written to x/crash-1\nBase64: AA==\n";
        assert_eq!(
            finding(said),
            "panicked at tracer/src/a.rs:3:1: attempt to add with overflow; the input: x/crash-1"
        );
        let slow = "ALARM: working on the last Unit for 11 seconds\nTest unit written to x/timeout-1\nSUMMARY: libFuzzer: timeout\n";
        assert_eq!(finding(slow), "libFuzzer: timeout; the input: x/timeout-1");
    }

    #[test]
    fn an_unknown_target_is_refused_with_those_there_are() {
        let all = || vec!["btf".to_owned(), "ring".to_owned()];
        assert_eq!(chosen(all(), &[]).unwrap(), all());
        assert_eq!(chosen(all(), &["ring".to_owned()]).unwrap(), ["ring"]);
        assert!(chosen(all(), &["rong".to_owned()]).unwrap_err().to_string().ends_with("there are: btf, ring"));
    }
}
