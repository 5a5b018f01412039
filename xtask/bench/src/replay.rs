//! `cargo xtask bench replay`: what reading and replaying a long capture costs, measured against the time that `zstd -dc`
//! takes for the same payloads, and a sweep of 24 combinations and a report against one replay. Everything runs in turn, round after
//! round, since only what ran side by side can be compared.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    generate::{self, Generated},
    measure::{Measured, measure},
    released,
};

/// Mapping events of the capture that the limits are for.
pub(super) const EVENTS: u64 = 20_000_000;
const ZSTD: &str = "zstd -dc";
const READ: &str = "read alone";
const ONE_REPLAY: &str = "replay";
const LONG_LINES: &str = "of line 256";
const VERSION_1: &str = "version 1";
const LONG_LINES_1: &str = "v 1, line 256";
const SWEEP_OF_24: &str = "sweep of 24";
const REPORT: &str = "report";
/// What takes at most how many times the time of what else.
const LIMITS: [(&str, &str, f64); 5] = [
    (VERSION_1, ZSTD, 2.5),
    (ONE_REPLAY, VERSION_1, 0.5),
    (LONG_LINES, LONG_LINES_1, 0.75),
    (SWEEP_OF_24, VERSION_1, 8.0),
    (REPORT, VERSION_1, 3.0),
];
/// No run has more memory resident, bytes.
const MEMORY_LIMIT: u64 = 256 << 20;

/// What is asked for in a replay.
const REPLAY: &[&str] = &["--policy", "mainline"];
/// The same with lines so long that what is written has to be read.
const REPLAY_LONG: &[&str] = &["--policy", "mainline", "--cache-line-size", "256"];
/// What is asked for in a sweep: 4 × 2 × 3 combinations.
const SWEEP: &[&str] = &[
    "--policy",
    "mainline,legacy,always-small,length-multiple",
    "--sweep",
    "cache-line-size=64,128",
    "--sweep",
    "swiotlb=512K,1M,4M",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Mapping events in the capture: mappings and unmappings, single ones and lists
    #[arg(long, default_value_t = EVENTS)]
    events: u64,
    /// How often everything is run, in turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let release = released::build()?;
    let product = release.join("bouncescope");
    let Generated { capture, version_1, payloads } = made(&release, args.events)?;
    let events = verified(&product, &capture)?;
    let combinations = combinations(&product)?;
    ensure!(combinations == 24, "the sweep is of {combinations} combinations: its limit is for 24");
    let mut contenders = [
        Contender::new(ZSTD, || {
            let mut zstd = Command::new("zstd");
            zstd.arg("-dc").arg(&payloads);
            zstd
        }),
        Contender::new(READ, || {
            let mut read = Command::new(release.join("bench"));
            read.arg("read").arg(&capture);
            read
        }),
        Contender::new(ONE_REPLAY, || bouncescope(&product, &capture, REPLAY)),
        Contender::new(LONG_LINES, || bouncescope(&product, &capture, REPLAY_LONG)),
        Contender::new(VERSION_1, || bouncescope(&product, &version_1, REPLAY)),
        Contender::new(LONG_LINES_1, || bouncescope(&product, &version_1, REPLAY_LONG)),
        Contender::new(SWEEP_OF_24, || bouncescope(&product, &capture, SWEEP)),
        Contender::new(REPORT, || {
            let mut report = Command::new(&product);
            report.arg("report").arg(&capture).arg("--output").arg(released::dir().join("report.html"));
            report
        }),
    ];
    for round in 0..=args.rounds {
        for contender in &mut contenders {
            let measured = measure(&mut (contender.command)())?;
            // The first round brings the files into memory.
            if round > 0 {
                contender.runs.push(measured);
            }
        }
    }
    println!("{}: {} mapping events, {events} events", capture.display(), args.events);
    let length = |path: &Path| std::fs::metadata(path).map(|file| file.len());
    println!("{} bytes, {} in version 1", length(&capture)?, length(&version_1)?);
    println!(
        "{:13} {:>9} {:>19} {:>9} {:>10} {:>13} {:>13}",
        "", "median", "fastest, slowest", "CPU", "memory", "events/s", "per CPU s"
    );
    for contender in &contenders {
        println!("{}", contender.line(events));
    }
    judge(&contenders)
}

/// Something to be timed.
struct Contender<'a> {
    name: &'static str,
    command: Box<dyn Fn() -> Command + 'a>,
    runs: Vec<Measured>,
}

impl<'a> Contender<'a> {
    fn new(name: &'static str, command: impl Fn() -> Command + 'a) -> Self {
        Self { name, command: Box::new(command), runs: Vec::new() }
    }

    fn line(&self, events: u64) -> String {
        let seconds = |time: Duration| time.as_secs_f64();
        let walls = self.sorted(|run| run.wall);
        format!(
            "{:13} {:7.3} s {:8.3} … {:6.3} s {:7.3} s {:6.1} MiB {:13.0} {:13.0}",
            self.name,
            seconds(self.wall()),
            seconds(walls[0]),
            seconds(walls[walls.len() - 1]),
            seconds(median(&self.sorted(|run| run.cpu))),
            self.peak_memory() as f64 / f64::from(1 << 20),
            events as f64 / seconds(self.wall()),
            events as f64 / seconds(median(&self.sorted(|run| run.cpu))),
        )
    }

    fn sorted(&self, of: impl Fn(&Measured) -> Duration) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.runs.iter().map(of).collect();
        times.sort();
        times
    }

    fn wall(&self) -> Duration {
        median(&self.sorted(|run| run.wall))
    }

    fn peak_memory(&self) -> u64 {
        self.runs.iter().map(|run| run.peak_memory).max().unwrap_or(0)
    }
}

fn ratio(one: &Contender<'_>, other: &Contender<'_>) -> f64 {
    one.wall().as_secs_f64() / other.wall().as_secs_f64()
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

/// Prints the ratios; an error when a limit is broken.
fn judge(contenders: &[Contender<'_>]) -> Result<()> {
    let mut broken = Vec::new();
    let named = |name: &str| {
        let one = contenders.iter().find(|contender| contender.name == name);
        one.with_context(|| format!("{name} was not timed"))
    };
    println!("{READ} takes {:.2} x {ZSTD}, on one thread; no limit", ratio(named(READ)?, named(ZSTD)?));
    for (what, of, limit) in LIMITS {
        let ratio = ratio(named(what)?, named(of)?);
        let text = format!("{what} takes {ratio:.2} x {of}, at most {limit:.1} x allowed");
        println!("{text}");
        if ratio > limit {
            broken.push(text);
        }
    }
    for contender in contenders.iter().filter(|contender| contender.peak_memory() > MEMORY_LIMIT) {
        broken.push(format!("{} takes more than {} MiB", contender.name, MEMORY_LIMIT >> 20));
    }
    ensure!(broken.is_empty(), "{}", broken.join("; "));
    Ok(())
}

/// The capture; made by the released generator, since this program itself may well be a debug build.
fn made(release: &Path, events: u64) -> Result<Generated> {
    let generate = ["generate", "--events", &events.to_string()];
    measure(Command::new(release.join("bench")).args(generate))?;
    generate::capture(&released::dir(), events)
}

/// Events in the capture, once `verify` has found nothing that disagrees.
fn verified(product: &Path, capture: &Path) -> Result<u64> {
    let output = Command::new(product).arg("verify").arg("--json").arg(capture).output()?;
    ensure!(output.status.success(), "the generated capture does not verify: {}", text(&output.stdout));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    verdict["events_recorded"].as_u64().context("verify does not say how many events there are")
}

fn bouncescope(product: &Path, capture: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(product);
    command.arg("replay").arg(capture).args(arguments);
    command
}

/// How many combinations the sweep is of; asked of the embedded capture, which costs little.
fn combinations(product: &Path) -> Result<usize> {
    let output = Command::new(product).arg("replay").args(SWEEP).arg("--json").output()?;
    ensure!(output.status.success(), "bouncescope refuses the sweep: {}", text(&output.stderr));
    let swept: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    swept["policies"].as_array().map(Vec::len).context("the sweep gives no list of policies")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All contenders, with one run each, of so many milliseconds and this peak of memory.
    fn contenders(millis: [u64; 8], peak_memory: u64) -> Vec<Contender<'static>> {
        let one = |(name, millis)| {
            let wall = Duration::from_millis(millis);
            let runs = vec![Measured { wall, cpu: wall, peak_memory }];
            Contender { runs, ..Contender::new(name, || Command::new("true")) }
        };
        let names = [ZSTD, READ, ONE_REPLAY, LONG_LINES, VERSION_1, LONG_LINES_1, SWEEP_OF_24, REPORT];
        names.into_iter().zip(millis).map(one).collect()
    }

    #[test]
    fn what_keeps_to_every_limit_is_no_error() {
        judge(&contenders([100, 900, 125, 150, 250, 200, 2000, 750], MEMORY_LIMIT)).unwrap();
    }

    #[test]
    fn each_broken_limit_is_an_error_that_names_it() {
        let broken = |millis, memory| judge(&contenders(millis, memory)).unwrap_err().to_string();
        assert!(broken([100, 100, 50, 75, 251, 100, 100, 100], 0).starts_with("version 1 takes 2.51 x zstd -dc"));
        assert!(broken([100, 100, 51, 75, 100, 100, 100, 100], 0).starts_with("replay takes 0.51 x version 1"));
        assert!(
            broken([100, 100, 50, 76, 100, 100, 100, 100], 0).starts_with("of line 256 takes 0.76 x v 1, line 256")
        );
        assert!(broken([100, 100, 50, 75, 100, 100, 801, 100], 0).starts_with("sweep of 24 takes 8.01 x version 1"));
        assert!(broken([100, 100, 50, 75, 100, 100, 100, 301], 0).starts_with("report takes 3.01 x version 1"));
        assert!(broken([100, 100, 50, 75, 100, 100, 100, 100], MEMORY_LIMIT + 1).contains("takes more than 256 MiB"));
    }

    #[test]
    fn a_contender_that_was_not_timed_is_an_error() {
        let mut without_the_last = contenders([100; 8], 0);
        without_the_last.pop();
        assert!(judge(&without_the_last).is_err());
    }
}
