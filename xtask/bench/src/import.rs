//! `cargo xtask bench import`: what importing a long text costs, beside `wc -l` and `grep -c` of the same file. The texts are those of
//! `tests/traces`, which real kernels and tools wrote, one after the other with times that go on.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read as _, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use tracer::exchange::packed::unpacked;

use crate::{
    measure::{Measured, measure},
    released,
};

/// What is imported: its name, the trace that it is made of, and what `grep -c` looks for.
const TEXTS: [(&str, &str, &str); 4] = [
    ("trace, one line in ten is wanted", "6.18-x86-everything.txt", "kmalloc:"),
    ("trace, dma and swiotlb", "6.18-direct-hold-100.txt", "dma_map_phys:"),
    ("trace-cmd report, all wanted", "6.12-trace-cmd-6.txt.xz", "kmalloc:"),
    ("perf script, all wanted", "6.12-perf.txt.xz", "kmalloc:"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Length of each text, MiB
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    mib: u32,
    /// How often everything is run, in turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let product = released::build()?.join("bouncescope");
    fs::create_dir_all(released::dir())?;
    let capture = released::dir().join("import.bounce");
    let count = released::dir().join("import.count");
    println!("MB/s of text for each second of CPU time, user and system, median of {} runs", args.rounds);
    println!("{:34} {:>8} {:>8} {:>8} {:>10} {:>10}", "", "wc -l", "grep -c", "import", "memory", "capture");
    for (name, trace, pattern) in TEXTS {
        let text = made(trace, u64::from(args.mib) << 20)?;
        let bytes = fs::metadata(&text)?.len();
        let mut import = Command::new(&product);
        import.arg("import").arg(&text).arg("--output").arg(&capture).stderr(Stdio::null());
        let mut wc = Command::new("wc");
        wc.arg("-l").arg(&text);
        // With /dev/null for its output grep stops at the first line that it finds.
        let mut grep = Command::new("sh");
        grep.args(["-c", "exec grep -c -F \"$1\" \"$2\" > \"$3\"", "sh", pattern]).args([&text, &count]);
        let mut runs: [Vec<Measured>; 3] = Default::default();
        for _ in 0..args.rounds {
            for (command, runs) in [&mut wc, &mut grep, &mut import].into_iter().zip(&mut runs) {
                if capture.exists() {
                    fs::remove_file(&capture)?;
                }
                runs.push(measure(command)?);
            }
        }
        let memory = runs[2].iter().map(|run| run.peak_memory).max().unwrap_or(0) as f64 / f64::from(1 << 20);
        let [wc, grep, import] = runs.map(|runs| megabytes_a_second(bytes, &runs));
        let captured = fs::metadata(&capture)?.len() as f64 / f64::from(1 << 20);
        println!("{name:34} {wc:8.0} {grep:8.0} {import:8.0} {memory:6.1} MiB {captured:6.1} MiB");
        fs::remove_file(text)?;
    }
    fs::remove_file(count)?;
    fs::remove_file(capture)?;
    Ok(())
}

/// Of the median run.
fn megabytes_a_second(bytes: u64, runs: &[Measured]) -> f64 {
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.cpu.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).map_or(0.0, |median| bytes as f64 / 1e6 / median)
}

/// A text of at least so many bytes, made of a trace.
fn made(trace: &str, least: u64) -> Result<PathBuf> {
    let from = workspace::root().join("tests/traces").join(trace);
    let open = || File::open(&from).with_context(|| format!("cannot open {}", from.display()));
    let mut text = String::new();
    unpacked(BufReader::new(open()?))?.read_to_string(&mut text)?;
    let to = released::dir().join("import.txt");
    write(&to, &text, least).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(to)
}

fn write(to: &Path, text: &str, least: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(to)?);
    let lines: Vec<Line<'_>> = text.lines().map(Line::of).collect();
    let times = || lines.iter().filter_map(|line| line.time);
    let (first, last) = (times().map(|time| time.ns).min(), times().map(|time| time.ns).max());
    let (Some(first), Some(last)) = (first, last) else { bail!("no line has a time") };
    let mut written = 0;
    for again in 0.. {
        // A millisecond between the last event and the first again.
        let later = again * (last - first + 1_000_000);
        for line in &lines {
            written += line.write(&mut file, later)?;
        }
        if written >= least {
            break;
        }
    }
    Ok(file.flush()?)
}

/// A line, and where its time is.
struct Line<'a> {
    text: &'a str,
    time: Option<Time>,
}

#[derive(Clone, Copy)]
struct Time {
    from: usize,
    to: usize,
    digits: usize,
    ns: u64,
}

impl<'a> Line<'a> {
    /// The time is the first number with a fraction before a colon.
    fn of(text: &'a str) -> Self {
        let time = text.match_indices(':').find_map(|(to, _)| {
            let from = text[..to].rfind(' ')? + 1;
            let (seconds, fraction) = text[from..to].split_once('.')?;
            let digits = fraction.len();
            let nanoseconds: u64 = format!("{fraction:0<9}").parse().ok()?;
            Some(Time { from, to, digits, ns: seconds.parse::<u64>().ok()? * 1_000_000_000 + nanoseconds })
        });
        Self { text, time }
    }

    /// Bytes that were written.
    fn write(&self, file: &mut impl Write, later: u64) -> Result<u64> {
        let line = match self.time {
            Some(Time { from, to, digits, ns }) => {
                let ns = ns + later;
                let fraction = format!("{:09}", ns % 1_000_000_000);
                format!("{}{}.{}{}\n", &self.text[..from], ns / 1_000_000_000, &fraction[..digits], &self.text[to..])
            }
            None => format!("{}\n", self.text),
        };
        file.write_all(line.as_bytes())?;
        Ok(line.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_on_with_later_times() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("text");
        let text = "cpus=2\n  a:b-1 [000]  1.000001: kfree: ptr=1\n  a:b-1 [000]  2.000001: kfree: ptr=1.5: 2\n";
        write(&to, text, text.len() as u64 + 1).unwrap();
        let again = text.replace(" 1.000001", " 2.001001").replace(" 2.000001", " 3.001001");
        assert_eq!(fs::read_to_string(to).unwrap(), format!("{text}{again}"));
    }
}
