//! `cargo xtask bench cpu`: CPU time of one thread that reads a capture, replays it, and sweeps it. Others on the machine matter little to that,
//! and how threads wait for each other not at all. Everything runs in turn, round after round.

use std::path::Path;

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    model::policy::builtin,
    replay::{
        Wanted, replay,
        settings::{Settings, WhatIf},
    },
    stream::{Item, Source as _, Start},
};

use crate::{holders::cpu_ns, read::Args};

/// Policies, line sizes and slots of a sweep of 24.
const POLICIES: [&str; 4] = ["mainline", "legacy", "always-small", "length-multiple"];
const LINES: [u32; 2] = [64, 128];
const SLOTS: [u64; 3] = [256, 512, 2048];

/// A name, and what is asked of a replay; nothing where the capture is only read.
type Kind = (&'static str, Option<fn(&Start) -> Wanted>);

const KINDS: [Kind; 5] = [
    ("read", None),
    ("replay", Some(|start| one(start, None))),
    ("of line 256", Some(|start| one(start, Some(256)))),
    ("sweep of 24", Some(sweep)),
    ("statistics", Some(|start| Wanted { statistics: true, overlaps: true, holders: true, ..one(start, None) })),
];

/// What `replay --policy mainline` asks for.
fn one(start: &Start, cache_line_size: Option<u32>) -> Wanted {
    let change = WhatIf { cache_line_size, ..WhatIf::default() };
    let settings = builtin("mainline").map(|policy| Settings::what_if(&start.kernel, &policy, &change));
    Wanted { settings: settings.into_iter().collect(), verdict: true, ..Wanted::default() }
}

fn sweep(start: &Start) -> Wanted {
    let mut settings = Vec::new();
    for policy in POLICIES.into_iter().filter_map(builtin) {
        for line in LINES {
            for slots in SLOTS {
                let change = WhatIf { cache_line_size: Some(line), ..WhatIf::default() };
                let combination = Settings::what_if(&start.kernel, &policy, &change);
                settings.push(Settings { slots, name: format!("{} {line} {slots}", policy.name), ..combination });
            }
        }
    }
    Wanted { settings, verdict: true, ..Wanted::default() }
}

pub(super) fn run(args: &Args) -> Result<()> {
    let capture = args.capture()?;
    let mut spent_ns = KINDS.map(|_| Vec::new());
    for round in 0..=args.rounds {
        for ((_, wanted), spent_ns) in KINDS.iter().zip(&mut spent_ns) {
            let began = cpu_ns()?;
            once(&capture, *wanted).with_context(|| capture.display().to_string())?;
            // The first round brings the file into memory.
            if round > 0 {
                spent_ns.push(cpu_ns()? - began);
            }
        }
    }
    println!("{:12} {:>10} {:>10}", "", "fastest", "median");
    for ((name, _), mut spent_ns) in KINDS.iter().zip(spent_ns) {
        spent_ns.sort_unstable();
        let [fastest, median] = [0, spent_ns.len() / 2].map(|n| spent_ns[n] as f64 / 1e6);
        println!("{name:12} {fastest:7.1} ms {median:7.1} ms");
    }
    Ok(())
}

fn once(capture: &Path, wanted: Option<fn(&Start) -> Wanted>) -> Result<()> {
    let mut reader = Reader::open(capture)?;
    if let Some(wanted) = wanted {
        replay(&mut reader, wanted)?;
        return Ok(());
    }
    while let Some(item) = reader.next_item()? {
        if let Item::Events(batch) = item {
            reader.take_back(batch);
        }
    }
    Ok(())
}
