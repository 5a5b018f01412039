//! Options that say how a simulated kernel differs from the recorded one.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use tracer::{
    facts::KernelFacts,
    model::policy::{Caches, Lists, Override, Policy, PoolChoice, WhenFull},
    replay::{
        Replayed,
        default_pool::PoolRule,
        proposals,
        scenarios::parse_alignment,
        settings::{Settings, WhatIf},
    },
    report,
};

use crate::{
    input::{first_pass, note, read_text, some_of, warn},
    limit::Limit,
    policy_files::{POLICIES, policies},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WhatIfArgs {
    /// Policies to compare: names (see `bouncescope policies`), all, or TOML files
    #[arg(long, value_delimiter = ',', default_value = POLICIES, value_name = "NAME,…")]
    policy: Vec<String>,
    /// Assume this cache line size, bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_alignment)]
    cache_line_size: Option<u32>,
    /// Assume kmalloc caches of this minimum alignment, bytes; policies that define their own caches keep theirs
    #[arg(long, value_name = "BYTES", value_parser = parse_alignment)]
    minalign: Option<u32>,
    /// Assume this pool: a number of slots as in the kernel's parameter, or a size such as 4M, both rounded as the
    /// kernel does; none (noforce), default (the pool that this kernel makes without the parameter), dynamic,
    /// restricted=SIZE or captured. A captured swiotlb=force stays in effect
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
    /// File of call sites, one per line, to which `packed` gives the smallest caches (see `bouncescope packed`)
    /// [default: all whose objects were never seen in a mapping]
    #[arg(long, value_name = "FILE")]
    packed_sites: Option<PathBuf>,
}

impl WhatIfArgs {
    /// The policies, with the choices that options make for all of them.
    pub(crate) fn policies(&self) -> Result<Vec<Policy>> {
        if let Some(both) = self.coherent.iter().find(|device| self.non_coherent.contains(device)) {
            bail!("{both} can't be both --coherent and --non-coherent");
        }
        let mut policies = policies(&self.policy)?;
        for policy in &mut policies {
            policy.lists = self.lists.unwrap_or(policy.lists);
            policy.when_full = self.when_full.unwrap_or(policy.when_full);
        }
        Ok(policies)
    }

    /// What else differs, for a kernel that is replayed as it runs: no call site is known yet.
    #[cfg(all(target_os = "linux", feature = "live", feature = "report"))]
    pub(crate) fn live(&self) -> Result<WhatIf> {
        if self.packed_sites.is_some() {
            bail!("--packed-sites needs a capture, whose call sites are known");
        }
        Ok(self.but_for_call_sites())
    }

    /// The same but for the call sites that are packed, which differ from capture to capture.
    pub(crate) fn but_for_call_sites(&self) -> WhatIf {
        WhatIf {
            cache_line_size: self.cache_line_size,
            minalign: self.minalign,
            pool: self.swiotlb,
            devices: self.overrides(),
            packed_sites: Arc::default(),
        }
    }

    /// What else differs, for a capture.
    pub(crate) fn of_capture(&self, policies: &[Policy], capture: Option<&PathBuf>, limit: Limit) -> Result<WhatIf> {
        Ok(WhatIf { packed_sites: self.packed(policies, capture, limit)?, ..self.but_for_call_sites() })
    }

    /// Files that the options name.
    #[cfg(feature = "report")]
    pub(crate) fn files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.policy.iter().map(std::path::Path::new).chain(self.packed_sites.as_deref())
    }

    /// The call sites to be packed. Names are looked up in the capture, so it is read once before.
    pub(crate) fn packed(
        &self,
        policies: &[Policy],
        capture: Option<&PathBuf>,
        limit: Limit,
    ) -> Result<Arc<HashSet<u64>>> {
        let packs = policies.iter().any(|policy| policy.caches == Caches::Packed);
        let list = self.packed_sites.as_ref().map(|path| read_text(path)).transpose()?;
        if !packs {
            if list.is_some() {
                bail!("--packed-sites is for policies with caches = \"packed\": add packed to --policy");
            }
            return Ok(Arc::default());
        }
        let replayed = first_pass(capture, limit)?;
        let Some(list) = list else {
            return Ok(proposals::packed_sites(&replayed));
        };
        let (sites, unknown) = proposals::named_sites(&replayed, &list);
        if !unknown.is_empty() {
            let count = unknown.len();
            warn(&format!(
                "{count} of the call sites to be packed are not in this capture: {}",
                some_of(unknown.into_iter().map(Into::into), count)
            ));
        }
        Ok(Arc::new(sites))
    }

    fn overrides(&self) -> Vec<Override> {
        let one =
            |name: &String, coherent, untrusted| Override { name: name.clone(), coherent, untrusted, own_pool: None };
        let coherent = self.coherent.iter().map(|name| one(name, Some(true), None));
        let non_coherent = self.non_coherent.iter().map(|name| one(name, Some(false), None));
        coherent.chain(non_coherent).chain(self.untrusted.iter().map(|name| one(name, None, Some(true)))).collect()
    }

    /// Devices that the capture does not know: as options an error; in a policy, which may be meant for many machines, a warning.
    pub(crate) fn check_devices(&self, policies: &[Policy], replayed: &Replayed) -> Result<()> {
        let devices = &replayed.observed_rows.by_device;
        let is_unknown = |name: &str| name != "*" && !devices.iter().any(|row| row.device == name);
        let known = || {
            some_of(
                devices.iter().map(|row| format!("{} ({})", row.device, report::driver(&row.driver))),
                devices.len(),
            )
        };
        let mut named = self.coherent.iter().chain(&self.non_coherent).chain(&self.untrusted);
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
            warn(&format!(
                "devices of policies that are not in this capture, and have no effect: {}; there are: {}",
                some_of(unknown.into_iter(), count),
                known()
            ));
        }
        Ok(())
    }

    /// Which pools and caches these settings come to, where that is not what their options say.
    pub(crate) fn explain(&self, policies: &[Policy], replayed: &Replayed) {
        let kernel = &replayed.start.kernel;
        explain_pools(policies.iter().map(|policy| self.swiotlb.unwrap_or(policy.pool)), kernel);
        self.explain_caches(&replayed.settings, kernel);
    }

    /// What caches a line size comes with where there is no pool.
    pub(crate) fn explain_caches(&self, all: &[Settings], kernel: &KernelFacts) {
        if let Some(one) = all.iter().find(|one| one.caches_may_be_smaller) {
            let line = one.decider.cache_line_size;
            note(&format!(
                "without a pool kmalloc's caches are assumed to begin at {line} bytes, as of a CPU whose CTR_EL0 \
                 says {line}. This capture does not have the CPU's own line size: where firmware tells {line}, the \
                 caches begin at less, and mappings may be refused (--minalign 64 shows them for a CPU that says 64)"
            ));
        }
        let is_late = |one: &&Settings| {
            one.slots == 0
                && one.decider.bounce_unaligned != 0
                && one.decider.cache_line_size > kernel.cache_line_size
                && Some(one.decider.minalign) == kernel.cpu_line_size
        };
        if let Some(one) = all.iter().find(is_late).filter(|_| self.minalign.is_none()) {
            let (line, minalign) = (one.decider.cache_line_size, one.decider.minalign);
            note(&format!(
                "without a pool kmalloc's caches begin at {minalign} bytes, as the CPU's CTR_EL0 says: firmware that tells {line} does so after \
                 they were built. What would have to bounce is refused (--minalign {line} is a CPU that says {line} itself)"
            ));
        }
    }
}

/// Which rule a pool comes from that no number gave; each choice is explained once.
pub(crate) fn explain_pools(all: impl Iterator<Item = PoolChoice>, kernel: &KernelFacts) {
    let mut choices: Vec<PoolChoice> = Vec::new();
    for choice in all {
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
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
        note(&format!("the default pool is {} slots{range}: {}", default.slots, default.rule));
    }
    for choice in &choices {
        if let PoolChoice::Slots(slots) = choice
            && let Some(unlike) = rule.unlike_asked(*slots)
        {
            note(&unlike);
        }
    }
    if choices.contains(&PoolChoice::Dynamic) && kernel.pool.slots == 0 {
        note(&format!(
            "the captured kernel has no pool that could grow; dynamic begins with the default one of {} slots: {}",
            default.slots, default.rule
        ));
    }
}
