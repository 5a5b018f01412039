//! `cargo xtask bench holders`: what it costs a replay to keep who holds slots. Each replay runs on one thread with and without, in turn, and
//! CPU time is compared, so that others on the machine matter little.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    model::policy::builtin,
    replay::{
        Wanted, replay,
        settings::{Settings, WhatIf},
    },
    stream::Start,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Captures to replay [default: the bundled ones, of a kernel that bounces little, and of one that bounces everything]
    captures: Vec<PathBuf>,
    /// How often everything is run, in turn
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// A name, and what is asked of a replay.
type Kind = (&'static str, fn(&Start) -> Wanted);

/// What `stats` asks for, and with four policies and a verdict the least that `report` and `serve` do.
const KINDS: [Kind; 2] = [
    ("stats", |_| Wanted { statistics: true, ..Wanted::default() }),
    ("four policies", |start| {
        let policies = ["mainline", "legacy", "dynamic", "always-small"].into_iter().filter_map(builtin);
        let settings = policies.map(|policy| Settings::what_if(&start.kernel, &policy, &WhatIf::default())).collect();
        Wanted { settings, verdict: true, statistics: true, occupancy: true, ..Wanted::default() }
    }),
];

pub(super) fn run(args: &Args) -> Result<()> {
    let bundled =
        ["captures/default.bounce", "captures/6.12-force-mixed.bounce"].map(|name| workspace::root().join(name));
    let captures = if args.captures.is_empty() { bundled.to_vec() } else { args.captures.clone() };
    println!("{:36} {:18} {:>10} {:>10} {:>7}", "", "", "without", "with", "ratio");
    for capture in &captures {
        let bytes = fs::read(capture).with_context(|| format!("cannot read {}", capture.display()))?;
        for (name, wanted) in KINDS {
            let mut spent_ns = [Vec::new(), Vec::new()];
            for round in 0..=args.rounds {
                for (holders, spent_ns) in [false, true].into_iter().zip(&mut spent_ns) {
                    let began = cpu_ns()?;
                    replay(&mut Reader::new(&bytes[..])?, |start| Wanted { holders, ..wanted(start) })?;
                    // The first round fills the caches.
                    if round > 0 {
                        spent_ns.push(cpu_ns()? - began);
                    }
                }
            }
            let file = capture.file_name().unwrap_or_default().display();
            // The median: a round that others interrupt finds colder caches.
            let [without, with] = spent_ns.map(|mut ns| {
                ns.sort_unstable();
                ns[ns.len() / 2] as f64 / 1e6
            });
            println!("{file:36} {name:18} {without:7.1} ms {with:7.1} ms {:7.3}", with / without);
        }
    }
    Ok(())
}

/// CPU time of this thread, ns: the first number of `/proc/thread-self/schedstat`, which the kernel may count in ticks of a few ms.
pub(super) fn cpu_ns() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("cannot read CPU time")?;
    text.split(' ').next().and_then(|ns| ns.parse().ok()).context("no CPU time in /proc/thread-self/schedstat")
}
