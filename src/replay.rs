//! `bouncescope replay`.

pub(crate) mod combinations;

use std::{collections::HashSet, fs, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, bail};
use tracer::{
    model::policy::{Caches, Lists, Override, Policy, PoolChoice, WhenFull, builtins},
    replay::{Replayed, Wanted, proposals, settings::WhatIf},
    report,
};

use crate::input::{print, print_json, replay_capture};
use combinations::{Value, parse_alignment, parse_lists, parse_sweep, parse_when_full, policy, settings};

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
    /// Assume this pool: slots as in the kernel's parameter, or a size such as 4M, both rounded as the kernel does; none,
    /// dynamic, restricted=SIZE or captured. A pool that was forced stays so
    #[arg(long, value_name = "SLOTS|SIZE|WORD")]
    swiotlb: Option<PoolChoice>,
    /// What becomes of scatterlists behind an IOMMU: whole-list, whole-list-bounce or flagged
    #[arg(long, value_name = "MODE", value_parser = parse_lists)]
    lists: Option<Lists>,
    /// What becomes of mappings that find no slots: fail or fallback
    #[arg(long, value_name = "MODE", value_parser = parse_when_full)]
    when_full: Option<WhenFull>,
    /// Assume that this device is coherent (its name as in the report; may be given more than once)
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
    /// Also answer in words: the smallest pool for the first policy that bounces, the cheapest policy without
    /// hazards, the drivers to fix
    #[arg(long)]
    advise: bool,
    /// Part of the pool that has to stay free at its fullest moment for it to be advised, percent
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u8).range(0..=99), requires = "advise")]
    headroom: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the table of policies as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(both) = args.coherent.iter().find(|device| args.non_coherent.contains(device)) {
        bail!("{both} can't be both --coherent and --non-coherent");
    }
    let mut policies: Vec<Policy> = Vec::new();
    for name in &args.policy {
        match name.as_str() {
            "all" => policies.extend(builtins()),
            name => policies.push(policy(name)?),
        }
    }
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
    let mut replayed = replay_capture(args.capture.as_ref(), |start| {
        let kernel = &start.kernel;
        let mut all = settings(kernel, &policies, &what_if, &args.sweep, &packed_sites).unwrap_or_else(|error| {
            wrong = Some(error);
            Vec::new()
        });
        shown = all.len();
        if args.advise {
            all.extend(report::advice::pools(&all, kernel));
        }
        Wanted { settings: all, ..Wanted::default() }
    })?;
    if let Some(error) = wrong {
        return Err(error);
    }
    check_devices(args, &replayed)?;
    let tried: Vec<_> = replayed.outcomes.drain(shown..).collect();
    replayed.settings.truncate(shown);
    let advice = args.advise.then(|| report::advice::advice(&replayed, &tried, args.headroom));
    if args.json {
        print_json(&report::replay::json(&replayed, advice.as_ref()))?;
    } else if args.csv {
        print(&report::replay::csv(&replayed))?;
    } else {
        print(&report::replay::text(&replayed))?;
        if let Some(advice) = &advice {
            print(&report::advice::text(advice, &replayed))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn overrides(args: &Args) -> Vec<Override> {
    let one = |name: &String, coherent, untrusted| Override { name: name.clone(), coherent, untrusted, own_pool: None };
    let coherent = args.coherent.iter().map(|name| one(name, Some(true), None));
    let non_coherent = args.non_coherent.iter().map(|name| one(name, Some(false), None));
    coherent.chain(non_coherent).chain(args.untrusted.iter().map(|name| one(name, None, Some(true)))).collect()
}

fn check_devices(args: &Args, replayed: &Replayed) -> Result<()> {
    let devices = &replayed.observed_rows.by_device;
    let mut named = args.coherent.iter().chain(&args.non_coherent).chain(&args.untrusted);
    if let Some(unknown) = named.find(|name| !devices.iter().any(|row| &row.device == *name)) {
        let known: Vec<&str> = devices.iter().map(|row| row.device.as_str()).collect();
        bail!("no device {unknown} in this capture; there are: {}", known.join(", "));
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
