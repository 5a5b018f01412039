//! `bouncescope replay`.

use std::{collections::HashSet, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Result, bail};
use tracer::{
    facts::KernelFacts,
    model::policy::{Caches, Lists, Override, Policy, PoolChoice, WhenFull},
    replay::{
        Replayed, Wanted,
        default_pool::PoolRule,
        proposals,
        scenarios::{Value, combinations, parse_alignment, parse_sweep},
        settings::{Settings, WhatIf},
    },
    report::{
        self, advice,
        answer::{By, answer},
        machine::{Document as _, Replay},
    },
};

use crate::{
    input::{print, print_json, print_verdict, read_text, replay_capture, say, some_of},
    limit::Limit,
    policy_files::policies,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope replay                                   the embedded capture of a real arm64 kernel
  bouncescope replay phone.bounce --policy mainline,always-small,mine.toml
  bouncescope replay phone.bounce --swiotlb none       what noforce means there
  bouncescope replay phone.bounce --sweep swiotlb=512K,1M,2M,4M --sweep cache-line-size=64,128
  bouncescope replay phone.bounce --advise             the smallest pool, the cheapest safe policy, the drivers to fix
  bouncescope replay phone.bounce --non-coherent 1d84000.ufshc --json

`bouncescope policies` lists and explains the policies.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(crate) struct Args {
    /// Capture to replay [default: the embedded sample]
    capture: Option<PathBuf>,
    /// Policies to replay: names (see `bouncescope policies`), all, or TOML files
    #[arg(long, value_delimiter = ',', default_value = "mainline,legacy", value_name = "NAME,…")]
    policy: Vec<String>,
    /// Assume this cache line size, bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_alignment)]
    cache_line_size: Option<u32>,
    /// Assume kmalloc caches of this minimum alignment, bytes; policies whose caches are a part of them keep theirs
    #[arg(long, value_name = "BYTES", value_parser = parse_alignment)]
    minalign: Option<u32>,
    /// Assume this pool: slots as in the kernel's parameter, or a size such as 4M, both rounded as the kernel does; none
    /// (noforce), default (what this kernel makes without the parameter), dynamic, restricted=SIZE or captured. A pool that
    /// was forced stays so
    #[arg(long, value_name = "SLOTS|SIZE|WORD")]
    swiotlb: Option<PoolChoice>,
    /// How scatterlists behind an IOMMU are mapped: whole-list, whole-list-bounce or flagged
    #[arg(long, value_name = "MODE")]
    lists: Option<Lists>,
    /// What happens to mappings that find no slots: fail or fallback
    #[arg(long, value_name = "MODE")]
    when_full: Option<WhenFull>,
    /// Assume that this device is coherent (its name as in the report, or * for all; may be given more than once)
    #[arg(long, value_name = "DEVICE")]
    coherent: Vec<String>,
    /// Assume that this device is not coherent
    #[arg(long, value_name = "DEVICE")]
    non_coherent: Vec<String>,
    /// Assume that this device is an untrusted PCI device
    #[arg(long, value_name = "DEVICE")]
    untrusted: Vec<String>,
    /// File of call sites that the policy `packed` packs, one a line (see `bouncescope packed`) [default: all that were
    /// never seen under a mapping]
    #[arg(long, value_name = "FILE")]
    packed_sites: Option<PathBuf>,
    /// Try every one of these values with every policy, and with every other sweep: cache-line-size=16..256, minalign=8,64,
    /// swiotlb=512K,1M, lists=whole-list,flagged, when-full=fail,fallback
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = parse_sweep)]
    sweep: Vec<Vec<Value>>,
    /// Begin with advice: the smallest pool for the first policy that bounces, what it saves and costs, the cheapest
    /// policy without hazards, the drivers to fix
    #[arg(long)]
    advise: bool,
    /// Part of an advised pool that stays free at its fullest moment, percent
    #[arg(long, value_name = "PERCENT", default_value = "25", value_parser = parse_percent, requires = "advise")]
    headroom: u8,
    #[command(flatten)]
    limit: Limit,
    /// Print every figure, and bounces and hazards by device, driver, call site, direction and length
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    wide: bool,
    /// Group bounces by this
    #[arg(long, value_name = "KEY", value_parser = By::ALL.map(|(_, name)| name), default_value = "device", conflicts_with_all = ["json", "csv", "wide"])]
    by: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the table of policies as CSV; the last row is what the kernel did
    #[arg(long, conflicts_with_all = ["json", "advise"])]
    csv: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(both) = args.coherent.iter().find(|device| args.non_coherent.contains(device)) {
        bail!("{both} can't be both --coherent and --non-coherent");
    }
    let mut policies = policies(&args.policy)?;
    for policy in &mut policies {
        policy.lists = args.lists.unwrap_or(policy.lists);
        policy.when_full = args.when_full.unwrap_or(policy.when_full);
    }
    let packed_sites = packed_sites(args, &policies)?;
    let what_if = WhatIf {
        cache_line_size: args.cache_line_size,
        minalign: args.minalign,
        pool: args.swiotlb,
        devices: overrides(args),
        packed_sites,
    };
    let mut shown = 0;
    let mut wrong = None;
    let mut chosen = Vec::new();
    let mut replayed = replay_capture(args.capture.as_ref(), args.limit, |start| {
        let kernel = &start.kernel;
        let all = combinations(kernel, &policies, &what_if, &args.sweep).unwrap_or_else(|error| {
            wrong = Some(error);
            Vec::new()
        });
        shown = all.len();
        let mut settings: Vec<_> = all.iter().map(|combination| combination.settings.clone()).collect();
        if args.advise {
            let all: Vec<_> = all.iter().map(|one| (&one.policy, &one.what_if, &one.settings)).collect();
            settings.extend(advice::tried(kernel, &all));
        }
        for choice in all.iter().map(|about| about.what_if.pool.unwrap_or(about.policy.pool)) {
            if !chosen.contains(&choice) {
                chosen.push(choice);
            }
        }
        Wanted { settings, verdict: !args.csv && !args.wide, ..Wanted::default() }
    })?;
    if let Some(error) = wrong {
        return Err(error.into());
    }
    check_devices(args, &policies, &replayed)?;
    explain_pools(&chosen, &replayed.start.kernel);
    let tried =
        advice::Tried { outcomes: replayed.outcomes.split_off(shown), settings: replayed.settings.split_off(shown) };
    explain_caches(&replayed.settings, args.minalign, &replayed.start.kernel);
    let advice = args.advise.then(|| advice::advice(&replayed, &tried, args.headroom));
    if args.json {
        print_json(&Replay::new(&replayed, advice.as_ref()).to_json())?;
    } else if args.csv {
        if let Some(missing) = report::losses::missing(&replayed) {
            say(&format!("bouncescope: all figures are as far as recorded: {missing}\n"));
        }
        print(&report::csv::text(&replayed))?;
    } else if args.wide {
        print(&report::replay::text(&replayed, advice.as_ref()))?;
    } else {
        let by = By::ALL.into_iter().find(|(_, name)| *name == args.by).map(|(by, _)| by).unwrap_or_default();
        let answer = answer(&replayed, advice.as_ref(), by);
        print_verdict(&answer.text, answer.verdict)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `25` or `25%`.
fn parse_percent(text: &str) -> Result<u8, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim_end().parse().ok();
    percent.filter(|percent| *percent < 100).ok_or_else(|| format!("'{text}' is not a percentage from 0 to 99"))
}

/// Which rule a pool comes from that no number gave.
fn explain_pools(choices: &[PoolChoice], kernel: &KernelFacts) {
    let rule = PoolRule::of(kernel);
    let default = rule.default();
    if choices.contains(&PoolChoice::Default) {
        let range = match default.at_most {
            Some(most) => format!(
                ", or up to {most}: this capture does not tell where memory ends (holes in it, and what firmware keeps, make it reach \
                 further than its size says)"
            ),
            None => String::new(),
        };
        say(&format!("bouncescope: the default pool is {} slots{range}: {}\n", default.slots, default.rule));
    }
    for choice in choices {
        if let PoolChoice::Slots(slots) = choice
            && let Some(unlike) = rule.unlike_asked(*slots)
        {
            say(&format!("bouncescope: {unlike}\n"));
        }
    }
    if choices.contains(&PoolChoice::Dynamic) && kernel.pool.slots == 0 {
        say(&format!(
            "bouncescope: the captured kernel has no pool that could grow; dynamic begins with the default one of {} slots: {}\n",
            default.slots, default.rule
        ));
    }
}

/// What caches a line size comes with where there is no pool.
fn explain_caches(all: &[Settings], minalign: Option<u32>, kernel: &KernelFacts) {
    if let Some(one) = all.iter().find(|one| one.caches_may_be_smaller) {
        let line = one.decider.cache_line_size;
        say(&format!(
            "bouncescope: without a pool kmalloc's caches are taken to begin at {line} bytes, as of a CPU whose CTR_EL0 says {line}. This capture does \
             not have the CPU's own line size: where firmware tells {line}, the caches begin at less, and mappings may be refused \
             (--minalign 64 shows them for a CPU that says 64)\n"
        ));
    }
    let is_late = |one: &&Settings| {
        one.slots == 0
            && one.decider.bounce_unaligned != 0
            && one.decider.cache_line_size > kernel.cache_line_size
            && Some(one.decider.minalign) == kernel.cpu_line_size
    };
    if let Some(one) = all.iter().find(is_late).filter(|_| minalign.is_none()) {
        let (line, minalign) = (one.decider.cache_line_size, one.decider.minalign);
        say(&format!(
            "bouncescope: without a pool kmalloc's caches begin at {minalign} bytes, as the CPU's CTR_EL0 says: firmware that tells {line} does so after \
             they were built. What would have to bounce is refused (--minalign {line} is a CPU that says {line} itself)\n"
        ));
    }
}

fn overrides(args: &Args) -> Vec<Override> {
    let one = |name: &String, coherent, untrusted| Override { name: name.clone(), coherent, untrusted, own_pool: None };
    let coherent = args.coherent.iter().map(|name| one(name, Some(true), None));
    let non_coherent = args.non_coherent.iter().map(|name| one(name, Some(false), None));
    coherent.chain(non_coherent).chain(args.untrusted.iter().map(|name| one(name, None, Some(true)))).collect()
}

/// Devices that the capture does not know: as options an error; in a policy, which may be meant for many machines, a warning.
fn check_devices(args: &Args, policies: &[Policy], replayed: &Replayed) -> Result<()> {
    let devices = &replayed.observed_rows.by_device;
    let is_unknown = |name: &str| name != "*" && !devices.iter().any(|row| row.device == name);
    let known = || {
        some_of(devices.iter().map(|row| format!("{} ({})", row.device, report::driver(&row.driver))), devices.len())
    };
    let mut named = args.coherent.iter().chain(&args.non_coherent).chain(&args.untrusted);
    if let Some(unknown) = named.find(|name| is_unknown(name)) {
        bail!("no device {unknown} in this capture; there are: {}", known());
    }
    let mut unknown = Vec::new();
    for policy in policies {
        let of_policy: Vec<String> =
            policy.devices.iter().map(|device| &device.name).filter(|name| is_unknown(name)).cloned().collect();
        if !of_policy.is_empty() {
            let count = of_policy.len();
            unknown.push(format!("{}: {}", policy.name, some_of(of_policy.into_iter(), count)));
        }
    }
    if !unknown.is_empty() {
        let count = unknown.len();
        say(&format!(
            "bouncescope: devices of policies that are not in this capture, and have no effect: {}; there are: {}\n",
            some_of(unknown.into_iter(), count),
            known()
        ));
    }
    Ok(())
}

/// The call sites to be packed. Names are looked up in the capture, so it is read once before.
fn packed_sites(args: &Args, policies: &[Policy]) -> Result<Arc<HashSet<u64>>> {
    let packs = policies.iter().any(|policy| policy.caches == Caches::Packed);
    let list = args.packed_sites.as_ref().map(|path| read_text(path)).transpose()?;
    if !packs {
        if list.is_some() {
            bail!("--packed-sites is for policies with caches = \"packed\": add packed to --policy");
        }
        return Ok(Arc::default());
    }
    let replayed = replay_capture(args.capture.as_ref(), args.limit, |_| Wanted::default())?;
    let Some(list) = list else {
        return Ok(proposals::packed_sites(&replayed));
    };
    let (sites, unknown) = proposals::named_sites(&replayed, &list);
    if !unknown.is_empty() {
        let count = unknown.len();
        say(&format!(
            "bouncescope: {count} of the call sites to be packed are not in this capture: {}\n",
            some_of(unknown.into_iter().map(Into::into), count)
        ));
    }
    Ok(Arc::new(sites))
}
