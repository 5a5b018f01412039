//! `fleet ingest`: captures into a lake.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    io::{self, IsTerminal as _},
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tracer::plain::plain;

use crate::{
    capture::{POLICIES, Scenarios, Summary, caught, checksum, identify, one_line, summarise},
    lake::{Adding, Lake, folder, is_gone},
    say,
    schema::{Cell, KEYS, Table},
    session,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope fleet ingest captures/ -o lake                 every *.bounce below a directory
  bouncescope fleet ingest 'nightly/*/board-*.bounce' -o lake --partition day,soc
  bouncescope fleet ingest one.bounce two.bounce -o lake     captures that are there already stay as they are

Exit code: 0 if every file is in the lake, 2 if one could not be taken in (its reason is in the table `bad`).")]
pub(crate) struct Args {
    /// Captures, directories whose *.bounce files are taken, and patterns such as 'day-*/*.bounce'
    #[arg(required = true, value_name = "CAPTURE|DIR|GLOB")]
    inputs: Vec<PathBuf>,
    /// The lake, a directory, which is made if it is missing
    #[arg(short, long, value_name = "LAKE")]
    output: PathBuf,
    /// Labels by which files are put into folders: few, with few values; board, soc, build, serial, host, day or none
    #[arg(long, value_delimiter = ',', default_value = "day", value_name = "LABEL,…")]
    partition: Vec<String>,
    /// Policies that are simulated over each capture with its own pool: names, all, or TOML files
    #[arg(long, default_value = POLICIES, value_name = "NAME,…")]
    policy: String,
    /// Captures that are read at one time [default: as many as there are CPUs]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

/// What came of a file.
enum Taken {
    Summary(Box<Summary>),
    /// It is there already; with other labels.
    Known {
        labels_differ: bool,
    },
    Bad {
        checksum: String,
        bytes: u64,
        reason: String,
    },
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let scenarios = Scenarios::parse(&args.policy, "", "")?;
    let partition: Vec<&str> = args.partition.iter().map(String::as_str).filter(|name| *name != "none").collect();
    if let Some(other) = partition.iter().find(|name| !KEYS.contains(name)) {
        bail!("files are put into folders by {} or none, not by {}", KEYS.join(", "), plain(other));
    }
    let files = found(&args.inputs, &args.output)?;
    ensure!(!files.is_empty(), "no capture found: a directory is searched for *.bounce");
    let adding = Adding::begin(&args.output, || say("note: waiting for another ingest into this lake\n"))?;
    let known = known(&args.output)?;
    let mut part = adding.part()?;
    let threads =
        args.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get).min(files.len());
    let progress = progress(&files);
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(HashSet::new()));
    let mut counts = Counts::default();
    thread::scope(|scope| -> Result<()> {
        let (sender, receiver) = sync_channel(threads);
        for _ in 0..threads {
            let (sender, next, seen, known, files, scenarios) =
                (sender.clone(), &next, &seen, &known, &files, &scenarios);
            scope.spawn(move || {
                while let Some((path, bytes)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let taken = take(path, *bytes, known, seen, scenarios);
                    // Where nobody takes it any more, the lake could not be written.
                    if sender.send((path, *bytes, taken)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (path, bytes, taken) in receiver {
            progress.inc(bytes.max(1));
            match taken {
                Taken::Known { labels_differ } => {
                    counts.known += 1;
                    counts.labels_differ += usize::from(labels_differ);
                }
                Taken::Summary(summary) => {
                    counts.new += 1;
                    let value = |name: &&str| {
                        let at = KEYS.iter().position(|key| key == name);
                        ((*name).to_owned(), at.and_then(|at| summary.known.keys[at].clone()))
                    };
                    part.add(&folder(partition.iter().map(value)), summary.rows)?;
                }
                Taken::Bad { checksum, bytes, reason } => {
                    counts.bad += 1;
                    progress.suspend(|| say(&format!("warning: {}: {reason}\n", path.display())));
                    if known.bad.contains(&(checksum.clone(), reason.clone())) {
                        continue;
                    }
                    let path = Cell::text(plain(&path.display().to_string()));
                    let program = Cell::text(env!("CARGO_PKG_VERSION"));
                    part.add(
                        "",
                        [(
                            Table::Bad,
                            vec![Cell::Text(checksum), path, Cell::count(bytes), Cell::Text(reason), program],
                        )],
                    )?;
                }
            }
        }
        Ok(())
    })?;
    progress.finish_and_clear();
    part.finish()?;
    let Counts { new, known, labels_differ, bad } = counts;
    say(&format!("{new} captures taken in, {known} were there already, {bad} bad\n"));
    if labels_differ > 0 {
        say(&format!(
            "warning: {labels_differ} of those that were there have other labels now; in the lake they keep theirs\n"
        ));
    }
    Ok(ExitCode::from(if bad > 0 { 2 } else { 0 }))
}

#[derive(Default)]
struct Counts {
    new: usize,
    known: usize,
    labels_differ: usize,
    bad: usize,
}

/// What the lake has already.
#[derive(Default)]
struct There {
    /// Labels by capture.
    captures: HashMap<String, BTreeSet<(String, String)>>,
    /// Checksum and reason.
    bad: HashSet<(String, String)>,
}

fn known(lake: &Path) -> Result<There> {
    let lake = Lake::open(lake)?;
    let mut there = There::default();
    if lake.files.is_empty() {
        return Ok(there);
    }
    session::run(async {
        let context = session::of_lake(&lake)?;
        let rows = |sql| session::texts(&context, sql);
        for row in rows("SELECT capture FROM captures").await? {
            there.captures.insert(row[0].clone(), BTreeSet::new());
        }
        for row in rows("SELECT capture, name, value FROM labels").await? {
            there.captures.entry(row[0].clone()).or_default().insert((row[1].clone(), row[2].clone()));
        }
        for row in rows("SELECT checksum, reason FROM bad").await? {
            there.bad.insert((row[0].clone(), row[1].clone()));
        }
        Ok(there)
    })
}

fn take(path: &Path, bytes: u64, known: &There, seen: &Mutex<HashSet<String>>, scenarios: &Scenarios) -> Taken {
    let summary = caught(|| {
        let (identity, labels, bytes) = identify(path)?;
        let name = identity.to_string();
        if let Some(before) = known.captures.get(&name) {
            let now = labels.iter().map(|(name, value)| (plain(name).into_owned(), plain(value).into_owned()));
            let labels_differ = *before != now.collect();
            return Ok(Taken::Known { labels_differ });
        }
        if !seen.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            return Ok(Taken::Known { labels_differ: false });
        }
        Ok(Taken::Summary(Box::new(summarise(path, identity, &labels, bytes, scenarios)?)))
    });
    summary.unwrap_or_else(|error| {
        let reason = one_line(&error);
        let reason = reason.strip_prefix(&format!("{}: ", plain(&path.display().to_string()))).unwrap_or(&reason);
        Taken::Bad { checksum: checksum(path), bytes, reason: reason.to_owned() }
    })
}

/// The files that the inputs name, the largest first, each once; with their lengths in bytes.
pub(crate) fn found(inputs: &[PathBuf], not_in: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut paths = BTreeSet::new();
    let lake = fs::canonicalize(not_in).ok();
    for input in inputs {
        match fs::metadata(input) {
            Ok(kind) if kind.is_dir() => below(input, lake.as_deref(), &mut paths)?,
            Ok(_) => {
                paths.insert(absolute(input)?);
            }
            Err(error) if is_gone(&error) && input.to_string_lossy().contains(['*', '?', '[']) => {
                let pattern = input.to_string_lossy();
                let matches = glob::glob(&pattern).with_context(|| format!("{pattern} is no pattern"))?;
                let before = paths.len();
                for path in matches {
                    let path = path.map_err(|error| anyhow::anyhow!("cannot search {pattern}: {error}"))?;
                    if path.is_dir() {
                        below(&path, lake.as_deref(), &mut paths)?;
                    } else {
                        paths.insert(absolute(&path)?);
                    }
                }
                ensure!(paths.len() > before, "nothing matches {pattern}");
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", input.display())),
        }
    }
    let mut files: Vec<_> = paths
        .into_iter()
        .map(|path| {
            let bytes = fs::metadata(&path).map_or(0, |file| file.len());
            (path, bytes)
        })
        .collect();
    files.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(files)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot read {}", path.display()))
}

fn below(directory: &Path, lake: Option<&Path>, paths: &mut BTreeSet<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot read {}", directory.display());
    if lake.is_some() && fs::canonicalize(directory).ok().as_deref() == lake {
        return Ok(());
    }
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let path = entry.path();
        // A link to a directory may lead in a circle.
        if entry.file_type().with_context(cannot)?.is_dir() {
            below(&path, lake, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "bounce") && path.is_file() {
            paths.insert(absolute(&path)?);
        }
    }
    Ok(())
}

/// How far it is, in bytes, on a terminal.
pub(crate) fn progress(files: &[(PathBuf, u64)]) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let total = files.iter().map(|(_, bytes)| (*bytes).max(1)).sum();
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
