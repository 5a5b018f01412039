//! What a kernel would be configured like.

use serde::Serialize;
use tracer_ebpf::decide::Decider;

use crate::facts::{KernelFacts, SlotRule};
use crate::model::mapping::Machine;
use crate::model::pool::{PoolConfig, rounded_slots};

/// The rule for small buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Caches from 8 bytes; small buffers of non-coherent devices bounce (6.5 on).
    Mainline,
    /// Caches at `ARCH_DMA_MINALIGN`; nothing bounces for alignment (before 6.5).
    Legacy,
}

impl Policy {
    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mainline => "mainline",
            Self::Legacy => "legacy",
        }
    }
}

/// Everything that a replay needs to know of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What to call the outcome.
    pub name: String,
    /// The rule for small buffers.
    pub decider: Decider,
    /// Slots of the pool; 0 for none.
    pub slots: u64,
    /// Areas of the pool.
    pub areas: u32,
    /// Everything bounces that is mapped without IOMMU.
    pub force: bool,
    /// The captured kernel was booted with `force`, which its devices show then too.
    pub captured_force: bool,
    /// Slots in use when the recording began. Who took them, and whether another policy would have, is not known: they stay
    /// where the policy is the captured kernel's.
    pub used_at_start: u64,
    /// Slots that were seen taken without a mapping event are taken here too, for the same reason.
    pub takes_unseen: bool,
    /// How the slots of a mapping are counted.
    pub slot_rule: SlotRule,
    /// Page size, bytes.
    pub page_size: u64,
    /// Devices taken to be coherent (`true`) or not, whatever they were: names.
    pub coherence: Vec<(String, bool)>,
}

/// What to change of the captured kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    /// `cache_line_size()`, bytes.
    pub cache_line_size: Option<u32>,
    /// Minimum alignment of the kmalloc caches, bytes.
    pub minalign: Option<u32>,
    /// Slots asked for by `swiotlb=`; 0 for `noforce`.
    pub requested_slots: Option<u64>,
    /// As in [`Settings`].
    pub coherence: Vec<(String, bool)>,
}

impl Settings {
    /// The captured kernel, exactly as it was.
    pub fn captured(kernel: &KernelFacts) -> Self {
        Self {
            name: "captured".into(),
            decider: Decider {
                bounce_unaligned: u32::from(kernel.bounce_unaligned_kmalloc),
                cache_line_size: kernel.cache_line_size,
                minalign: kernel.kmalloc_minalign,
                dma_minalign: kernel.dma_minalign,
            },
            slots: kernel.pool.slots,
            areas: kernel.pool.areas,
            force: kernel.pool.force,
            captured_force: kernel.pool.force,
            used_at_start: kernel.pool.used_at_start,
            takes_unseen: true,
            slot_rule: kernel.pool.slot_rule,
            page_size: u64::from(kernel.page_size),
            coherence: Vec::new(),
        }
    }

    /// The captured kernel under another policy, and with what else is to be changed.
    pub fn what_if(kernel: &KernelFacts, policy: Policy, change: &WhatIf) -> Self {
        let mut settings = Self { coherence: change.coherence.clone(), ..Self::captured(kernel) };
        policy.name().clone_into(&mut settings.name);
        if let Some(requested) = change.requested_slots {
            (settings.slots, settings.areas) =
                if requested == 0 { (0, 1) } else { rounded_slots(requested, kernel.possible_cpus) };
            settings.force &= requested != 0;
        }
        if policy == Policy::Legacy {
            (settings.used_at_start, settings.takes_unseen) = (0, false);
        }
        let decider = &mut settings.decider;
        decider.cache_line_size = change.cache_line_size.unwrap_or(decider.cache_line_size);
        let (bounce_unaligned, minalign) = match policy {
            Policy::Legacy => (0, decider.dma_minalign),
            // __kmalloc_minalign(): 8 where there is a pool to bounce through, else what never needs one.
            Policy::Mainline if settings.slots == 0 => (1, decider.cache_line_size),
            Policy::Mainline => (1, mainline_minalign(kernel)),
        };
        // Before 6.5 there is nothing to choose.
        let chosen = change.minalign.filter(|_| policy == Policy::Mainline);
        decider.bounce_unaligned = bounce_unaligned;
        decider.minalign = chosen.unwrap_or(minalign);
        settings
    }

    /// The rule, for the model.
    pub fn machine(&self) -> Machine {
        Machine { decider: self.decider, pool_active: self.slots > 0, force: self.force }
    }

    /// The pool, for the model.
    pub fn pool(&self) -> PoolConfig {
        PoolConfig { slots: self.slots, areas: self.areas, slot_rule: self.slot_rule, page_size: self.page_size }
    }

    /// Whether the device is to be taken as coherent, given what it was.
    pub fn coherent(&self, name: &str, was: bool) -> bool {
        self.coherence.iter().rev().find(|(device, _)| device == name).map_or(was, |(_, coherent)| *coherent)
    }
}

/// 8, or what hardware tag-based KASAN makes of it on the captured kernel.
fn mainline_minalign(kernel: &KernelFacts) -> u32 {
    if kernel.bounce_unaligned_kmalloc && kernel.pool.slots > 0 { kernel.kmalloc_minalign } else { 8 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::PoolFacts;

    fn kernel() -> KernelFacts {
        KernelFacts {
            page_size: 4096,
            possible_cpus: 2,
            cache_line_size: 64,
            dma_minalign: 128,
            kmalloc_minalign: 8,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: 512, areas: 2, ..PoolFacts::default() },
            ..KernelFacts::default()
        }
    }

    #[test]
    fn without_a_pool_mainline_builds_its_caches_at_the_line_size() {
        let none = WhatIf { requested_slots: Some(0), ..WhatIf::default() };
        let settings = Settings::what_if(&kernel(), Policy::Mainline, &none);
        assert_eq!((settings.slots, settings.decider.minalign), (0, 64));
    }

    #[test]
    fn legacy_never_bounces_for_alignment() {
        let settings = Settings::what_if(&kernel(), Policy::Legacy, &WhatIf::default());
        assert_eq!((settings.decider.bounce_unaligned, settings.decider.minalign), (0, 128));
    }

    #[test]
    fn mainline_on_a_kernel_that_had_no_pool_starts_at_8() {
        let mut kernel = kernel();
        kernel.pool.slots = 0;
        kernel.kmalloc_minalign = 64;
        let change = WhatIf { requested_slots: Some(1), ..WhatIf::default() };
        let settings = Settings::what_if(&kernel, Policy::Mainline, &change);
        assert_eq!((settings.slots, settings.areas, settings.decider.minalign), (256, 2, 8));
    }

    #[test]
    fn the_last_word_on_a_devices_coherence_counts() {
        let coherence = vec![("a".into(), true), ("a".into(), false)];
        let settings = Settings { coherence, ..Settings::captured(&kernel()) };
        assert!(!settings.coherent("a", true) && settings.coherent("b", true));
    }
}
