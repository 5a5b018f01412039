//! `cargo xtask bench overhead`: what tracing allocations costs the traced, on this machine's own kernel, next to the tools that
//! people would use instead. Everything runs in every round, in random order, since only what ran side by side can be compared.

use std::{fs, time::SystemTime};

use anyhow::{Result, ensure};

use self::{
    table::{Measured, judge, markdown},
    tool::{Bench, Tool},
};
use workspace::written;

use crate::{random::Random, released};

mod capture;
mod counts;
mod floor;
mod ftrace;
mod kept;
mod processes;
pub(super) mod storm;
mod table;
mod tool;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often everything is run
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each storm of allocations is
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only nothing, empty programs, and tools with one of these in their name, against no limit
    #[arg(long, value_delimiter = ',', conflicts_with = "write_docs")]
    only: Vec<String>,
    /// Of the random order; another one every time without
    #[arg(long)]
    seed: Option<u64>,
    /// Write the table into docs/performance.md
    #[arg(long)]
    write_docs: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    // SAFETY: geteuid() has no precondition.
    ensure!(unsafe { libc::geteuid() } == 0, "tracing this machine's kernel takes root");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let seed = args.seed.unwrap_or(now).max(1);
    println!("order of seed {seed}");
    let release = released::build()?;
    let dir = released::dir().join("overhead");
    fs::create_dir_all(&dir)?;
    let (program, product) = (release.join("bench").canonicalize()?, release.join("bouncescope").canonicalize()?);
    let bench = Bench { program: &program, product: &product, dir: &dir, seconds: args.seconds };

    let mut random = Random::new(seed);
    let wanted = |tool: &Tool| {
        let asked = || args.only.iter().any(|part| tool.name().contains(part.as_str()));
        args.only.is_empty() || matches!(tool, Tool::None | Tool::FloorKmalloc | Tool::Floor) || asked()
    };
    let mut measured: Vec<Measured> = Tool::ALL.into_iter().filter(wanted).map(Measured::new).collect();
    for round in 0..args.rounds {
        let mut order: Vec<usize> = (0..measured.len()).collect();
        while !order.is_empty() {
            let one = &mut measured[order.swap_remove(random.below(order.len() as u64) as usize)];
            one.runs.push(one.tool.run(&bench)?);
        }
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    fs::remove_dir_all(&dir)?;
    let table = markdown(&measured)?;
    println!("{table}");
    if !args.only.is_empty() {
        return Ok(());
    }
    let judgement = judge(&measured)?;
    println!("{}", judgement.text);
    if args.write_docs {
        let section = format!("{table}\n{}\n", judgement.text);
        written::replace(
            &workspace::root().join("docs/performance.md"),
            "cargo xtask bench overhead --write-docs",
            &section,
        )?;
    }
    ensure!(judgement.broken.is_empty(), "{}", judgement.broken.join("; "));
    Ok(())
}
