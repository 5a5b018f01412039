//! Which pool's slots are taken, and how many are given back.

use super::follow::Taker;
use super::held::{Search, Slots};
use super::slots_of;
use crate::holders::Who;
use crate::names::Names;
use crate::outcome::PoolRow;
use crate::site::SiteId;

use super::{Devices, Growing, Identity, Overlap, PoolConfig, Refused, Request, Run, SLOT, SlotRelease, Taken, Unseen};

/// The name of the default pool.
const DEFAULT: &str = "default";
/// Slots held without a mapping that are followed.
const MOST_UNSEEN: usize = 1 << 16;

/// Whose a pool is that is not the default one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    /// One of the captured kernel's restricted pools, by its number.
    Captured(u32),
    /// A device's own.
    Device(Identity),
}

/// What was in use of one pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peak {
    used_at_start: u64,
    /// Most slots at once.
    slots: u64,
    /// Those of them that were coherent memory.
    coherent: u64,
    /// The least and the greatest peak.
    range: [u64; 2],
    /// The most that the kernel may have counted.
    mark: u64,
}

impl Run {
    /// The pool of a device.
    pub(super) fn pool_of(&mut self, identity: Identity, taken: Taken) -> usize {
        let Some(own) = taken.own_pool else { return 0 };
        let (pools, default) = (&mut self.pools, self.kernel.settings.pool());
        let next = pools.len();
        let whose = own.captured.map_or(Whose::Device(identity), Whose::Captured);
        let index = *self.own_pools.entry(whose).or_insert(next);
        if index == next {
            // rmem_swiotlb_device_init(): one area, and it never grows.
            let slots = own.slots;
            let mut pool = Growing::new(PoolConfig { slots, areas: 1, ..default }, false);
            pool.first().occupy_foreign(own.used_at_start);
            pools.push(pool);
            self.peaks.push(Peak { used_at_start: own.used_at_start, ..Peak::default() });
            self.outcome.total_slots += slots;
        }
        index
    }

    /// How many slots a mapping from before the recording took: `swiotlb_release_slots()` in `kernel/dma/swiotlb.c`,
    /// without the padding in front, which only the pool knows.
    pub(super) fn slots_of(&mut self, release: &SlotRelease, devices: &Devices) -> u64 {
        if release.is_memory {
            return slots_of(release.size, self.kernel.settings.page_size);
        }
        let traits = self.kernel.device(release.device, devices).unwrap_or_default().traits;
        let offset = release.slot & traits.min_align_mask & (SLOT - 1);
        let granule = traits.iommu_granule.filter(|granule| *granule > 0).unwrap_or(1);
        release.size.saturating_add(offset).checked_next_multiple_of(granule).unwrap_or(u64::MAX).div_ceil(SLOT)
    }

    pub(super) fn take_unseen(&mut self, unseen: &Unseen, devices: &Devices) {
        if !self.kernel.settings.takes_unseen || unseen.slot.is_none() || self.unseen.len() >= MOST_UNSEEN {
            return;
        }
        let taken = self.kernel.device(unseen.device, devices).unwrap_or_default();
        let request = Request {
            cpu: u32::from(unseen.cpu),
            phys: unseen.phys,
            size: unseen.size,
            align_mask: unseen.align_mask,
            min_align_mask: taken.traits.min_align_mask,
            is_memory: false,
        };
        let device = devices.identity(unseen.device);
        let who = Who { since_ns: unseen.time_ns, device, site: SiteId::UNKNOWN };
        let search = Search { pool: self.pool_of(device, taken), request, who };
        match self.search(&search) {
            Ok(slots) => {
                self.outcome.slots_without_mapping += slots.held.slots();
                self.note_peak(&search, unseen.time_ns, Overlap::default());
                self.unseen.insert(unseen.id, slots);
            }
            Err(_) if self.follows => self.owe(Taker::Unseen(unseen.id), search),
            Err(_) => {}
        }
    }

    /// Looks for slots, and takes them.
    pub(super) fn search(&mut self, search: &Search) -> Result<Slots, Refused> {
        let pool = &mut self.pools[search.pool];
        if self.owed.iter().any(|owed| owed.search.pool == search.pool) {
            return Err(Refused::Full);
        }
        Ok(Slots { pool: search.pool as u32, held: pool.map(&search.request)?, who: search.who })
    }

    /// After slots have been taken: notes the peak. The kernel's own mark is lifted by mappings too, not by what was there before.
    pub(super) fn note_peak(&mut self, search: &Search, time_ns: u64, overlap: Overlap) {
        let used = self.used_slots();
        if let Some(occupancy) = &mut self.outcome.occupancy {
            // What a step takes and gives back would not show after it.
            occupancy.set(time_ns, used);
        }
        if used > self.outcome.peak_slots {
            (self.outcome.peak_slots, self.outcome.peak_time_ns) = (used, time_ns);
            if let Some(turnover) = &mut self.turnover {
                turnover.at_peak = true;
            }
            self.outcome.pool_slots_at_peak = self.present_slots();
        }
        if self.only_holders {
            return;
        }
        let [least, most] = &mut self.peak_range;
        *least = (*least).max(used.saturating_sub(overlap.fewer.into()));
        *most = (*most).max(if overlap.is_cut { u64::MAX } else { used.saturating_add(overlap.more.into()) });
        let own = self.pools[search.pool].used_slots();
        let coherent = self.coherent.slots_in(search.pool);
        let peak = &mut self.peaks[search.pool];
        if own > peak.slots {
            (peak.slots, peak.coherent) = (own, coherent);
        }
        let [least, most] = &mut peak.range;
        *least = (*least).max(own.saturating_sub(overlap.fewer.into()));
        *most = (*most).max(if overlap.is_cut { u64::MAX } else { own.saturating_add(overlap.more.into()) });
        self.note_mark(search.pool, overlap);
        self.order.took(&self.pools[search.pool], &search.request, overlap);
    }

    /// The kernel counts slots that it has found (`inc_used_and_hiwater()`, `kernel/dma/swiotlb.c`, 6.12).
    pub(super) fn note_mark(&mut self, pool: usize, overlap: Overlap) {
        let owed = self.owed_slots(|owed| owed.search.pool == pool);
        let counted = (self.pools[pool].used_slots() + owed).saturating_add(overlap.counted.into());
        let mark = &mut self.peaks[pool].mark;
        *mark = (*mark).max(if overlap.is_cut { u64::MAX } else { counted });
        let used: u64 = self.pools.iter().map(Growing::used_slots).sum();
        let counted = (used + self.owed_slots(|_| true)).saturating_add(overlap.counted.into());
        self.mark = self.mark.max(if overlap.is_cut { u64::MAX } else { counted });
    }

    /// What the pools are called.
    pub(super) fn pool_names(&self, names: &Names) -> Vec<String> {
        let mut found = vec![DEFAULT.to_owned(); self.pools.len()];
        for (whose, at) in &self.own_pools {
            found[*at] = match whose {
                Whose::Captured(nth) => {
                    let pool = self.kernel.settings.restricted.get(*nth as usize);
                    pool.map(|pool| pool.name.clone()).unwrap_or_default()
                }
                Whose::Device(identity) => names.devices.name_and_driver(*identity).0,
            };
        }
        found
    }

    /// What was in use of each pool, where there is more than the default one.
    pub(super) fn pool_rows(&self, names: &[String]) -> Vec<PoolRow> {
        if self.pools.len() < 2 {
            return Vec::new();
        }
        let rows = self.pools.iter().zip(&self.peaks).zip(names).map(|((pool, peak), name)| {
            let slots = pool.total_slots();
            let range = peak.range.map(|used| if pool.grows() { used } else { used.min(slots) });
            PoolRow {
                name: name.clone(),
                slots,
                used_at_start: peak.used_at_start,
                peak_slots: peak.slots,
                peak_slots_range: range,
                mark_at_most: peak.mark.max(range[1]),
                coherent_at_peak: peak.coherent,
            }
        });
        rows.collect()
    }
}
