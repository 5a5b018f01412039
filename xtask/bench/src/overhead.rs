//! `cargo xtask bench overhead`: what tracing allocations costs the traced, on this machine's own kernel, next to the tools that
//! people would use instead. Everything runs in every round, in random order, since only what ran side by side can be compared.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, ensure};

use self::{
    table::{Measured, circumstances, judge, markdown, unsettled},
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
    /// Begin no round that may end later than this: what has not settled until then is said not to have
    #[arg(long, default_value_t = 10.0, conflicts_with = "rounds")]
    minutes: f64,
    /// Run everything so often, whether it settles or not
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// How long each storm of allocations is
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only nothing, empty programs, and tools with one of these in their name, against no limit
    #[arg(long, value_delimiter = ',', conflicts_with = "write_docs")]
    only: Vec<String>,
    /// Profile to measure: `quick` is compiled in a third of the time, and is a little slower
    #[arg(long, default_value = "release")]
    profile: String,
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
    let release = released::in_profile(&args.profile)?;
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
    let load = load()?;
    println!("load {load}");
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    for round in 1.. {
        let round_began = Instant::now();
        let mut order: Vec<usize> = (0..measured.len()).collect();
        while !order.is_empty() {
            let one = &mut measured[order.swap_remove(random.below(order.len() as u64) as usize)];
            one.runs.push(one.tool.run(&bench)?);
        }
        longest = longest.max(round_began.elapsed());
        let unsettled = unsettled(&measured)?.len();
        eprintln!("round {round}: {unsettled} of {} medians have not settled", measured.len() - 1);
        let ends = match args.rounds {
            Some(rounds) => round == rounds,
            None => unsettled == 0 || began.elapsed() + longest > Duration::from_secs_f64(60.0 * args.minutes),
        };
        if ends {
            break;
        }
    }
    fs::remove_dir_all(&dir)?;
    let table = markdown(&measured)?;
    let circumstances = circumstances(&measured, &machine()?, &load)?;
    println!("{table}\n{circumstances}");
    if !args.only.is_empty() {
        return Ok(());
    }
    let judgement = judge(&measured)?;
    println!("{}", judgement.text);
    if args.write_docs {
        let section = format!("{table}\n{circumstances}\nLimits:\n\n{}", judgement.text);
        written::replace(
            &workspace::root().join("docs/performance.md"),
            "cargo xtask bench overhead --write-docs",
            &section,
        )?;
    }
    ensure!(judgement.broken.is_empty(), "{}", judgement.broken.join("; "));
    Ok(())
}

/// The average number of tasks that wanted a CPU during the last minute.
fn load() -> Result<String> {
    let loads = fs::read_to_string("/proc/loadavg")?;
    Ok(loads.split_ascii_whitespace().next().unwrap_or("unknown").to_owned())
}

/// The kernel and the CPUs.
fn machine() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    let model = fs::read_to_string("/proc/cpuinfo")?;
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(String::new(), |(_, model)| format!(" of {}", model.trim()));
    // What a distribution adds says nothing of the costs.
    let release = release.trim().split(['-', '+']).next().unwrap_or_default();
    Ok(format!("Linux {release} on {}, {cpus} CPUs{model}", std::env::consts::ARCH))
}
