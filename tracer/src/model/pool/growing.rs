//! A pool that may grow: `CONFIG_SWIOTLB_DYNAMIC` (6.6 on).
//!
//! Mirrors `swiotlb_find_slots()` in `kernel/dma/swiotlb.c` (6.12): each area is looked for in all pools before the next one; a
//! mapping that finds no slots gets a transient pool of its own, and a pool as large as the first one is added. The kernel adds
//! it in a work item some time later; here it is there for the next mapping. Memory for pools is taken to be there, for 1023 more
//! pools and 32 GiB in all.

use super::{Bounce, MAX_SLOTS, Pool, PoolConfig, Refused, Request};

/// Pools that are added at most. Mappings that no pool has room for, whatever their number, would add one each.
const MOST_POOLS: usize = 1024;

/// A pool, with those that were added to it.
#[derive(Clone, Debug)]
pub struct Growing {
    config: PoolConfig,
    pools: Vec<Pool>,
    grows: bool,
    transient_slots: u64,
    transient_pools: u64,
}

/// Slots held by a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// In the pool of this index.
    In(usize, Bounce),
    /// So many slots, in a pool made for this mapping alone.
    Transient(u64),
}

impl Held {
    /// Slots.
    pub fn slots(&self) -> u64 {
        match self {
            Self::In(_, bounce) => bounce.slots(),
            Self::Transient(slots) => *slots,
        }
    }
}

impl Growing {
    /// An empty pool, which may or may not grow.
    pub fn new(config: PoolConfig, grows: bool) -> Self {
        Self { config, pools: vec![Pool::new(config)], grows, transient_slots: 0, transient_pools: 0 }
    }

    /// The pool that was there from the beginning.
    pub fn first(&mut self) -> &mut Pool {
        &mut self.pools[0]
    }

    /// Slots in all pools but the transient ones.
    pub fn total_slots(&self) -> u64 {
        self.pools.iter().map(Pool::total_slots).sum()
    }

    /// Slots in use.
    pub fn used_slots(&self) -> u64 {
        self.pools.iter().map(Pool::used_slots).sum::<u64>() + self.transient_slots
    }

    /// Pools that were added.
    pub fn added_pools(&self) -> u64 {
        self.pools.len() as u64 - 1
    }

    /// Pools that were made for one mapping alone.
    pub fn transient_pools(&self) -> u64 {
        self.transient_pools
    }

    /// Finds slots.
    pub fn map(&mut self, request: &Request) -> Result<Held, Refused> {
        let first = &mut self.pools[0];
        let demand = first.demand(request)?;
        if !self.grows {
            return first.map(request).map(|bounce| Held::In(0, bounce));
        }
        for nth in 0..self.config.areas.max(1) {
            for (n, pool) in self.pools.iter_mut().enumerate() {
                if let Some(bounce) = pool.map_in(request, nth) {
                    return Ok(Held::In(n, bounce));
                }
            }
        }
        if self.pools.len() < MOST_POOLS && self.total_slots() + self.config.slots <= MAX_SLOTS {
            self.pools.push(Pool::new(self.config));
        }
        let slots = u64::from(demand.slots);
        self.transient_slots += slots;
        self.transient_pools += 1;
        Ok(Held::Transient(slots))
    }

    /// Gives slots back.
    pub fn unmap(&mut self, held: Held) {
        match held {
            Held::In(n, bounce) => {
                if let Some(pool) = self.pools.get_mut(n) {
                    pool.unmap(bounce);
                }
            }
            Held::Transient(slots) => self.transient_slots = self.transient_slots.saturating_sub(slots),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlotRule;
    use super::*;

    fn pool(grows: bool) -> Growing {
        let slot_rule = SlotRule::PoolAligned;
        Growing::new(PoolConfig { slots: 128, areas: 1, slot_rule, page_size: 4096 }, grows)
    }

    const SMALL: Request = Request { cpu: 0, phys: 8, size: 8, align_mask: 0, min_align_mask: 0 };

    #[test]
    fn a_full_pool_that_grows_makes_one_transient_pool_and_then_has_room_again() {
        let mut pool = pool(true);
        let mut held: Vec<Held> = (0..130).map(|_| pool.map(&SMALL).unwrap()).collect();
        assert_eq!((pool.added_pools(), pool.transient_pools(), pool.used_slots()), (1, 1, 130));
        assert_eq!(held[128], Held::Transient(1));
        held.drain(..).for_each(|one| pool.unmap(one));
        assert_eq!(pool.used_slots(), 0);
    }

    #[test]
    fn each_area_is_looked_for_in_all_pools_before_the_next_one() {
        let config = PoolConfig { slots: 256, areas: 2, slot_rule: SlotRule::PoolAligned, page_size: 4096 };
        let mut pool = Growing::new(config, true);
        // Both areas of the first pool are full, one mapping has a pool of its own, and another pool has been added.
        let mut held: Vec<Held> = (0..257).map(|_| pool.map(&SMALL).unwrap()).collect();
        // The second area, of CPU 1, has room in both pools: the first one is taken. Only the added one has a first area.
        pool.unmap(held.remove(200));
        assert!(matches!(pool.map(&Request { cpu: 0, ..SMALL }), Ok(Held::In(1, _))));
        assert!(matches!(pool.map(&Request { cpu: 1, ..SMALL }), Ok(Held::In(0, _))));
    }

    #[test]
    fn a_pool_that_does_not_grow_refuses() {
        let mut pool = pool(false);
        assert_eq!((0..130).filter(|_| pool.map(&SMALL).is_ok()).count(), 128);
    }

    #[test]
    fn no_pool_has_room_for_more_than_a_segment() {
        let large = Request { size: 300 << 10, ..SMALL };
        assert_eq!(pool(true).map(&large), Err(Refused::TooLarge));
    }
}
