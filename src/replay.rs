//! `bouncescope replay`.

pub(crate) mod combinations;

use std::{collections::HashSet, fs, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, bail};
use tracer::{
    facts::KernelFacts,
    model::policy::{Caches, Lists, Override, Policy, PoolChoice, WhenFull},
    replay::{Replayed, Wanted, default_pool::DefaultPool, proposals, settings::WhatIf},
    report::{self, advice},
};

use crate::input::{print, print_json, replay_capture};
use combinations::{Value, combinations, parse_alignment, parse_lists, parse_sweep, parse_when_full, policies};

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
pub(crate) struct Args {
    /// Capture to replay; the embedded one without
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
    /// What becomes of scatterlists behind an IOMMU: whole-list, whole-list-bounce or flagged
    #[arg(long, value_name = "MODE", value_parser = parse_lists)]
    lists: Option<Lists>,
    /// What becomes of mappings that find no slots: fail or fallback
    #[arg(long, value_name = "MODE", value_parser = parse_when_full)]
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
    /// Call sites that the policy `packed` packs, one a line (see `bouncescope packed`); without, all that were never seen
    /// under a mapping
    #[arg(long, value_name = "FILE")]
    packed_sites: Option<PathBuf>,
    /// Try every one of these values with every policy, and with every other sweep: cache-line-size=16..256, minalign=8,64,
    /// swiotlb=512K,1M, lists=whole-list,flagged, when-full=fail,fallback
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = parse_sweep)]
    sweep: Vec<Vec<Value>>,
    /// Also answer in words, first: the smallest pool for the first policy that bounces, what it wins and costs, the
    /// cheapest policy without hazards, the drivers to fix
    #[arg(long)]
    advise: bool,
    /// Part of the pool that has to stay free at its fullest moment for it to be advised, percent
    #[arg(long, value_name = "PERCENT", default_value = "25", value_parser = parse_percent, requires = "advise")]
    headroom: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the table of policies as CSV, and a last row of what the kernel did
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
        packed_sites: Arc::default(),
    };
    let mut shown = 0;
    let mut wrong = None;
    let mut chosen = Vec::new();
    let mut replayed = replay_capture(args.capture.as_ref(), |start| {
        let kernel = &start.kernel;
        let all = combinations(kernel, &policies, &what_if, &args.sweep, &packed_sites).unwrap_or_else(|error| {
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
        Wanted { settings, ..Wanted::default() }
    })?;
    if let Some(error) = wrong {
        return Err(error);
    }
    check_devices(args, &policies, &replayed)?;
    explain_pools(&chosen, &replayed.start.kernel);
    let tried =
        advice::Tried { outcomes: replayed.outcomes.split_off(shown), settings: replayed.settings.split_off(shown) };
    let advice = args.advise.then(|| advice::advice(&replayed, &tried, args.headroom));
    if args.json {
        print_json(&report::export::json(&replayed, advice.as_ref()))?;
    } else if args.csv {
        if let Some(missing) = report::losses::missing(&replayed) {
            eprintln!("bouncescope: all figures are as far as recorded: {missing}");
        }
        print(&report::export::csv(&replayed))?;
    } else {
        print(&report::replay::text(&replayed, advice.as_ref()))?;
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
    let default = DefaultPool::of(kernel);
    if choices.contains(&PoolChoice::Default) {
        eprintln!("bouncescope: the default pool is {} slots: {}", default.slots, default.rule);
    }
    if choices.contains(&PoolChoice::Dynamic) && kernel.pool.slots == 0 {
        eprintln!(
            "bouncescope: the captured kernel has no pool that could grow; dynamic begins with the default one of {} slots: {}",
            default.slots, default.rule
        );
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
        let known: Vec<String> =
            devices.iter().map(|row| format!("{} ({})", row.device, report::driver(&row.driver))).collect();
        known.join(", ")
    };
    let mut named = args.coherent.iter().chain(&args.non_coherent).chain(&args.untrusted);
    if let Some(unknown) = named.find(|name| is_unknown(name)) {
        bail!("no device {unknown} in this capture; there are: {}", known());
    }
    for policy in policies {
        for device in policy.devices.iter().filter(|device| is_unknown(&device.name)) {
            eprintln!(
                "bouncescope: {}: no device {} in this capture, which takes no notice of it; there are: {}",
                policy.name,
                device.name,
                known()
            );
        }
    }
    Ok(())
}

/// The call sites to be packed. Names are looked up in the capture, so it is read once before.
fn packed_sites(args: &Args, policies: &[Policy]) -> Result<Arc<HashSet<u64>>> {
    let packs = policies.iter().any(|policy| policy.caches == Caches::Packed);
    let list = args
        .packed_sites
        .as_ref()
        .map(|path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())));
    let list = list.transpose()?;
    if !packs {
        if list.is_some() {
            bail!("--packed-sites is for policies with caches = \"packed\": add packed to --policy");
        }
        return Ok(Arc::default());
    }
    let replayed = replay_capture(args.capture.as_ref(), |_| Wanted::default())?;
    let Some(list) = list else {
        let sites = proposals::packed(&replayed, proposals::SMALLEST).sites;
        return Ok(Arc::new(sites.into_iter().map(|site| site.address).collect()));
    };
    let (sites, unknown) = proposals::named_sites(&replayed, &list);
    if !unknown.is_empty() {
        eprintln!(
            "bouncescope: {} of the call sites to be packed are not in this capture: {}",
            unknown.len(),
            unknown.join(", ")
        );
    }
    Ok(Arc::new(sites))
}
