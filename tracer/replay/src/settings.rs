//! What a kernel would be configured like: a policy met with a captured kernel.

use std::collections::HashSet;
use std::sync::Arc;

use tracer_ebpf::{
    decide::Decider,
    streamed::{SMALL_BELOW, Streamed},
};

use super::default_pool::PoolRule;
use bouncescope_capture::facts::{Device, KernelFacts, RestrictedPool, SlotRule};
use bouncescope_capture::passed::Needs;
use bouncescope_model::mapping::{DeviceTraits, Machine};
use bouncescope_model::policy::{self, Caches, Lists, Override, Policy, PoolChoice, Rule, WhenFull};
use bouncescope_model::pool::PoolConfig;
use bouncescope_model::rule::{Look, ResolvedRule};
use bouncescope_model::sharing;

/// Everything that a replay needs to know of a kernel.
#[expect(clippy::struct_excessive_bools, reason = "each is a property that a kernel has or has not")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What to call the outcome: no two of one replay are called alike.
    pub name: String,
    /// The policy's name.
    pub policy: String,
    /// The policy's rule in one line.
    pub about: String,
    /// Line size and caches.
    pub decider: Decider,
    /// The rule for small buffers.
    pub rule: ResolvedRule,
    /// What becomes of scatterlists behind an IOMMU.
    pub lists: Lists,
    /// What becomes of a mapping that finds no slots.
    pub when_full: WhenFull,
    /// Slots of the pool; 0 for none.
    pub slots: u64,
    /// Areas of the pool.
    pub areas: u32,
    /// The kernel adds pools when this one is full.
    pub grows: bool,
    /// Everything bounces that is mapped without IOMMU.
    pub force: bool,
    /// The captured kernel was booted with `force`, which its devices show then too.
    pub captured_force: bool,
    /// As in [`Machine::refuses_registers`].
    pub refuses_registers: bool,
    /// Slots in use when the recording began. Who took them, and whether another policy would have, is not known: they stay
    /// where the policy is the captured kernel's.
    pub used_at_start: u64,
    /// Slots that were seen taken without a mapping event are taken here too, for the same reason.
    pub takes_unseen: bool,
    /// How the slots of a mapping are counted.
    pub slot_rule: SlotRule,
    /// Page size, bytes.
    pub page_size: u64,
    /// The captured kernel's restricted pools.
    pub restricted: Vec<RestrictedPool>,
    /// Devices that are to be taken otherwise than captured; later ones count.
    pub devices: Vec<Override>,
    /// Caches of another minimum alignment for objects of some call sites.
    pub packed: Option<Packed>,
    /// Minimum alignment of the caches that the captured objects came from, bytes.
    pub captured_minalign: u32,
    /// As in [`sharing::Caches`].
    pub divisor_alignment: bool,
    /// Without a pool the caches are taken to begin at a line size that the captured kernel did not have, and the CPU's own is not known. Where
    /// firmware tells that line size they begin at the CPU's, and what then has to bounce is refused.
    pub caches_may_be_smaller: bool,
}

/// A pool that is not the default one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPool {
    /// Slots.
    pub slots: u64,
    /// Slots in use when the recording began.
    pub used_at_start: u64,
    /// Which of the captured kernel's restricted pools it is, from 0; `None` for one that a device has for itself.
    pub captured: Option<u32>,
}

/// Call sites whose objects come from smaller caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Their caches' minimum alignment, bytes.
    pub minalign: u32,
    /// Return addresses of kmalloc's callers.
    pub sites: Arc<HashSet<u64>>,
}

/// What to change of the captured kernel and of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    /// `cache_line_size()`, bytes.
    pub cache_line_size: Option<u32>,
    /// Minimum alignment of the kmalloc caches, bytes; policies with caches from [`policy::Caches::DmaMinalign`] keep theirs.
    pub minalign: Option<u32>,
    /// The pool, instead of the policy's.
    pub pool: Option<PoolChoice>,
    /// Devices to be taken otherwise, after the policy's own.
    pub devices: Vec<Override>,
    /// The call sites that [`policy::Caches::Packed`] packs.
    pub packed_sites: Arc<HashSet<u64>>,
}

impl Settings {
    /// The captured kernel, exactly as it was.
    pub fn captured(kernel: &KernelFacts) -> Self {
        Self {
            name: "captured".into(),
            policy: "captured".into(),
            about: String::new(),
            decider: kernel.decider(),
            rule: ResolvedRule::KMALLOC,
            lists: Lists::WholeList,
            when_full: WhenFull::Fail,
            slots: kernel.pool.slots,
            areas: kernel.pool.areas,
            grows: kernel.pool.dynamic && kernel.pool.slots > 0,
            force: kernel.pool.force,
            captured_force: kernel.pool.force,
            refuses_registers: kernel.release_numbers().is_none_or(|release| release.is_at_least(6, 18)),
            used_at_start: kernel.pool.used_at_start,
            takes_unseen: true,
            slot_rule: kernel.pool.slot_rule,
            page_size: u64::from(kernel.page_size),
            restricted: kernel.pool.restricted.clone(),
            devices: Vec::new(),
            packed: None,
            captured_minalign: kernel.kmalloc_minalign,
            divisor_alignment: divisor_alignment(kernel),
            caches_may_be_smaller: false,
        }
    }

    /// Whether these are the captured kernel's own, whatever they are called.
    pub fn is_captured(&self, kernel: &KernelFacts) -> bool {
        let (name, policy, about) = (self.name.clone(), self.policy.clone(), self.about.clone());
        *self == Self { name, policy, about, ..Self::captured(kernel) }
    }

    /// The captured kernel under another policy, and with what else is to be changed.
    pub fn what_if(kernel: &KernelFacts, policy: &Policy, change: &WhatIf) -> Self {
        let mut settings = Self {
            name: policy.name.clone(),
            policy: policy.name.clone(),
            about: policy.about.clone(),
            lists: policy.lists,
            when_full: policy.when_full,
            devices: policy.devices.iter().chain(&change.devices).cloned().collect(),
            ..Self::captured(kernel)
        };
        settings.choose_pool(change.pool.unwrap_or(policy.pool), kernel);
        settings.decider.cache_line_size = change.cache_line_size.unwrap_or(kernel.cache_line_size);
        settings.choose_caches(policy.caches, change, kernel);
        settings.decider.bounce_unaligned = u32::from(policy.bounce != Rule::Never);
        settings.rule = settings.rule(policy);
        // What the recorded kernel did unseen, this one does only if it bounces the same.
        if policy.bounce != Rule::Kmalloc || !kernel.bounce_unaligned_kmalloc {
            (settings.used_at_start, settings.takes_unseen) = (0, false);
        }
        settings
    }

    fn choose_pool(&mut self, choice: PoolChoice, kernel: &KernelFacts) {
        match choice {
            PoolChoice::Captured => {}
            PoolChoice::None => (self.slots, self.areas, self.grows, self.force) = (0, 1, false, false),
            PoolChoice::Default => self.default_pool(kernel),
            PoolChoice::Dynamic => {
                if self.slots == 0 {
                    self.default_pool(kernel);
                }
                self.grows = self.slots > 0;
            }
            PoolChoice::Slots(slots) => {
                let pool = PoolRule::of(kernel).sized(slots);
                (self.slots, self.areas, self.grows) = (pool.slots, pool.areas, false);
            }
            PoolChoice::Restricted(slots) => self.devices.insert(
                0,
                Override { name: "*".into(), own_pool: Some(policy::PoolSize(slots)), ..Override::default() },
            ),
        }
    }

    fn default_pool(&mut self, kernel: &KernelFacts) {
        let pool = PoolRule::of(kernel).default();
        (self.slots, self.areas, self.grows) = (pool.slots, pool.areas, false);
    }

    fn choose_caches(&mut self, caches: Caches, change: &WhatIf, kernel: &KernelFacts) {
        let line = self.decider.cache_line_size;
        let at_boot = line_at_boot(kernel, line);
        // __kmalloc_minalign(): what never needs a pool where there is none, by the line size known then.
        // A fallback is something to bounce through as well.
        let bounces_nowhere = self.slots == 0 && self.when_full == WhenFull::Fail;
        let smallest = if bounces_nowhere { at_boot.unwrap_or(line) } else { smallest_minalign(kernel) };
        self.caches_may_be_smaller = caches == Caches::Smallest
            && bounces_nowhere
            && change.minalign.is_none()
            && at_boot.is_none()
            && line > kernel.cache_line_size;
        let chosen = |otherwise: u32| change.minalign.unwrap_or(otherwise);
        self.decider.minalign = match caches {
            Caches::Smallest => chosen(smallest),
            // Another line size is another CPU's here: that of a policy without bounces matters to its caches alone.
            Caches::LineSize if line == kernel.cache_line_size => at_boot.unwrap_or(line),
            Caches::LineSize => line,
            Caches::DmaMinalign | Caches::Packed => self.decider.dma_minalign,
            Caches::Bytes(bytes) => bytes,
        };
        if caches == Caches::Packed {
            let sites = Arc::clone(&change.packed_sites);
            self.packed = Some(Packed { minalign: chosen(smallest_minalign(kernel)), sites });
        }
    }

    fn rule(&self, policy: &Policy) -> ResolvedRule {
        let multiple_of = match policy.multiple_of {
            policy::Alignment::LineSize => self.decider.cache_line_size,
            policy::Alignment::DmaMinalign => self.decider.dma_minalign,
            policy::Alignment::Bytes(bytes) => bytes,
        };
        let multiple_of = u64::from(multiple_of);
        let short = 2 * u64::from(self.decider.dma_minalign);
        let (look, below) = match policy.bounce {
            Rule::Never => (Look::Never, 0),
            Rule::Kmalloc => return ResolvedRule::KMALLOC,
            Rule::LengthMultiple => (Look::LengthMultiple(multiple_of), u64::MAX),
            Rule::Short => (Look::Short, short),
            Rule::Start => (Look::Start(multiple_of), u64::MAX),
            Rule::StartOrLength => (Look::StartOrLength(multiple_of), u64::MAX),
            Rule::ShortOrStart => {
                let look = Look::ShortOrStart { below: policy.below.unwrap_or(short), multiple_of };
                return ResolvedRule { look, below: u64::MAX };
            }
            Rule::Shared => (Look::Shared, u64::MAX),
        };
        ResolvedRule { look, below: policy.below.unwrap_or(below) }
    }

    /// What has to be streamed for nothing that these settings bounce to be missing.
    pub(crate) fn looks_at(&self) -> Streamed {
        let bounces_all = |change: &Override| {
            change.coherent == Some(false) || change.untrusted == Some(true) || change.own_pool.is_some()
        };
        if self.force && !self.captured_force || self.devices.iter().any(bounces_all) {
            return Streamed::All;
        }
        let below = match self.rule.look {
            Look::Never => 0,
            Look::Kmalloc => self.rule.below.min(2 * u64::from(self.decider.dma_minalign)),
            _ => self.rule.below,
        };
        if below <= SMALL_BELOW { Streamed::Small } else { Streamed::Written }
    }

    /// What of a capture's events these settings have to see one by one.
    pub(crate) fn needs(&self) -> Needs {
        let short = if self.decider.bounce_unaligned == 0 { 0 } else { 2 * u64::from(self.decider.dma_minalign) };
        let below = match self.rule.look {
            Look::Never => 0,
            Look::Kmalloc => short,
            _ => self.rule.below,
        };
        if self.force || self.captured_force || self.looks_at() == Streamed::All {
            Needs::Everything
        } else if below > SMALL_BELOW {
            Needs::Written
        } else {
            Needs::WithLines(u64::from(self.decider.cache_line_size))
        }
    }

    /// What is needed for either.
    pub(crate) fn either_needs(one: Needs, other: Needs) -> Needs {
        match (one, other) {
            (Needs::Everything, _) | (_, Needs::Everything) => Needs::Everything,
            (Needs::Written, _) | (_, Needs::Written) => Needs::Written,
            (Needs::WithLines(one), Needs::WithLines(other)) => Needs::WithLines(one.max(other)),
        }
    }

    /// Of what the policy wants every length to be a multiple, bytes, whatever the direction and the device.
    pub(crate) fn wanted_multiple(&self) -> Option<u64> {
        match self.rule.look {
            Look::LengthMultiple(of) => Some(of.max(1)),
            _ => None,
        }
    }

    /// The rule, for the model.
    pub fn machine(&self) -> Machine {
        Machine {
            decider: self.decider,
            rule: self.rule,
            lists: self.lists,
            pool_active: self.slots > 0,
            falls_back: self.when_full == WhenFull::Fallback,
            force: self.force,
            refuses_registers: self.refuses_registers,
        }
    }

    /// The pool, for the model.
    pub fn pool(&self) -> PoolConfig {
        PoolConfig { slots: self.slots, areas: self.areas, slot_rule: self.slot_rule, page_size: self.page_size }
    }

    /// A device as it is to be taken, and its own pool where it is to have one.
    pub fn device(&self, device: &Device, captured: DeviceTraits) -> (DeviceTraits, Option<OwnPool>) {
        let mut traits = captured;
        // `swiotlb=force` shows in every device's pool, and is the machine's; else the device's pool is one of its own.
        traits.force_bounce &= !self.captured_force;
        let mut own_pool = self.captured_pool(device);
        for change in self.devices.iter().filter(|change| change.is_about(&device.name)) {
            traits.coherent = change.coherent.unwrap_or(traits.coherent);
            traits.untrusted = change.untrusted.unwrap_or(traits.untrusted);
            let changed = change.own_pool.map(|size| OwnPool { slots: size.0, used_at_start: 0, captured: None });
            own_pool = changed.or(own_pool);
        }
        // of_dma_configure_id(), drivers/of/device.c: only a device without IOMMU is given one.
        own_pool = own_pool.filter(|_| traits.iommu_granule.is_none());
        traits.force_bounce |= own_pool.is_some();
        (traits, own_pool)
    }

    /// The restricted pool that a device had; `None` where there are several, and nothing tells which.
    fn captured_pool(&self, device: &Device) -> Option<OwnPool> {
        if !device.own_pool {
            return None;
        }
        let named = device.restricted_pool.as_ref();
        let at = named.and_then(|name| self.restricted.iter().position(|pool| pool.name == *name));
        let at = at.or((self.restricted.len() == 1).then_some(0))?;
        let RestrictedPool { slots, used_at_start, .. } = self.restricted[at];
        Some(OwnPool { slots, used_at_start, captured: Some(at as u32) })
    }

    /// Minimum alignment of the caches, bytes: the smallest that any object comes from, and the largest.
    pub fn minaligns(&self) -> (u32, u32) {
        let own = self.decider.minalign;
        let packed = self.packed.as_ref().map_or(own, |packed| packed.minalign);
        (own.min(packed), own.max(packed))
    }

    /// Whether its caches are those of the captured kernel, so that objects lie where they were.
    pub(crate) fn has_captured_caches(&self) -> bool {
        self.decider.minalign == self.captured_minalign && self.packed.is_none()
    }

    /// Whether objects that are smaller than a line would lie elsewhere than they did.
    pub(crate) fn moves_small_objects(&self) -> bool {
        let smallest =
            self.packed.as_ref().map_or(self.decider.minalign, |packed| packed.minalign.min(self.decider.minalign));
        !self.has_captured_caches() && smallest < self.decider.cache_line_size
    }

    /// The caches that an object of this call site comes from.
    pub fn caches(&self, call_site: u64) -> sharing::Caches {
        let packed = self.packed.as_ref().filter(|packed| packed.sites.contains(&call_site));
        let minalign = packed.map_or(self.decider.minalign, |packed| packed.minalign);
        sharing::Caches { minalign, divisor_alignment: self.divisor_alignment }
    }
}

/// What `cache_line_size()` gave when the kmalloc caches were built, bytes, on a machine where it gives `line` later: the CPU's own, before
/// firmware described the caches (`coherency_max_size`, `arch/arm64/kernel/cacheinfo.c`). `None` where nothing tells.
fn line_at_boot(kernel: &KernelFacts, line: u32) -> Option<u32> {
    // The caches of a kernel without a pool show what it found.
    let shows_it = kernel.bounce_unaligned_kmalloc && kernel.pool.slots == 0 && line == kernel.cache_line_size;
    if shows_it { Some(kernel.kmalloc_minalign) } else { kernel.cpu_line_size }
}

/// 8, or what hardware tag-based KASAN makes of it on the captured kernel.
pub(super) fn smallest_minalign(kernel: &KernelFacts) -> u32 {
    if kernel.bounce_unaligned_kmalloc && kernel.pool.slots > 0 { kernel.kmalloc_minalign } else { 8 }
}

/// Since 6.11 objects are aligned to the largest power of two that divides their size. An unknown kernel is taken to be new.
fn divisor_alignment(kernel: &KernelFacts) -> bool {
    kernel.release_numbers().is_none_or(|release| release.is_at_least(6, 11))
}

#[cfg(test)]
mod tests;
