//! `cargo xtask soak`: records this machine's kernel at full rate, round after round, and ends, stops and starves the recorder in
//! every way that an operator or a machine can. After each round every event must be accounted for, and nothing may be left in
//! the kernel. What is checked, and what came of it: `docs/soak.md`.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    leaks::Leaks,
    rounds::{Ground, Kind, Outcome},
};
use crate::{random::Random, released};

mod capture;
mod disk;
mod leaks;
mod process;
mod rounds;
mod storm;
mod table;

/// Below so many minutes everything is short.
const SHORT_BELOW: u64 = 5;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long; every kind of round is made once at least
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Order and moments of an earlier run
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seed: Option<u64>,
    /// Only these rounds, by the names of the table
    #[arg(long, value_delimiter = ',', value_name = "ROUND")]
    only: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // SAFETY: geteuid() has no precondition.
    ensure!(unsafe { libc::geteuid() } == 0, "soak records this kernel: run it as root");
    if cfg!(debug_assertions) {
        // The rate of a debug build is not the product's.
        let released = released::in_profile(workspace::QUICK_PROFILE)?.join("bench");
        let error = Command::new(released).args(std::env::args_os().skip(1)).exec();
        return Err(error).context("cannot run the released program");
    }
    let kinds = chosen(&args.only)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = args.seed.unwrap_or(now.as_secs().max(1));
    let root = workspace::root().canonicalize()?;
    let (product, dir) =
        (root.join("target").join(workspace::QUICK_PROFILE).join("bouncescope"), root.join("target/soak"));
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let leaks = Leaks::begin()?;
    let short = args.minutes < SHORT_BELOW;
    let mut random = Random::new(seed);
    println!("soak: {} minutes, --seed {seed}", args.minutes);

    let end = Instant::now() + Duration::from_mins(args.minutes);
    let mut outcomes: Vec<(Kind, Outcome)> = Vec::new();
    let mut order: Vec<Kind> = Vec::new();
    while Instant::now() < end || outcomes.len() < kinds.len() {
        if order.is_empty() {
            order.clone_from(&kinds);
        }
        let kind = order.swap_remove(random.below(order.len() as u64) as usize);
        let moments = if short { (400, 1500) } else { (500, 6000) };
        let long = Duration::from_secs(if short { 6 } else { 60 });
        let mut ground = Ground { product: &product, dir: &dir, leaks: &leaks, random: &mut random, moments, long };
        let outcome = ground.make(kind);
        eprintln!("soak: {}", table::line(kind, &outcome));
        if !outcome.problems.is_empty() {
            keep(&dir, outcomes.len())?;
        }
        outcomes.push((kind, outcome));
    }
    print!("{}", table::format(&outcomes));
    let findings: usize = outcomes.iter().map(|(_, outcome)| outcome.problems.len()).sum();
    ensure!(findings == 0, "{findings} findings; their captures are in {}", dir.display());
    Ok(())
}

/// The rounds of those names, all for none.
fn chosen(names: &[String]) -> Result<Vec<Kind>> {
    if let Some(unknown) = names.iter().find(|name| !Kind::ALL.iter().any(|kind| kind.name() == *name)) {
        bail!("no round {unknown:?}; there are {:?}", Kind::ALL.map(Kind::name));
    }
    let is_chosen = |kind: &Kind| names.is_empty() || names.iter().any(|name| name == kind.name());
    Ok(Kind::ALL.into_iter().filter(is_chosen).collect())
}

/// Keeps the captures of a round with a finding from those of the next.
fn keep(dir: &std::path::Path, round: usize) -> Result<()> {
    let kept = dir.join(format!("finding-{round}"));
    fs::create_dir_all(&kept)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::rename(&path, kept.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_chosen_by_the_names_of_the_table_and_an_unknown_one_is_named() {
        let kinds = chosen(&["sigint".to_owned(), "full-disk".to_owned()]).unwrap();
        assert_eq!(kinds, [Kind::Interrupted, Kind::FullDisk]);
        assert_eq!(chosen(&[]).unwrap().len(), Kind::ALL.len());
        assert!(chosen(&["reboot".to_owned()]).unwrap_err().to_string().contains("reboot"));
    }
}
