//! A pool that may grow: `CONFIG_SWIOTLB_DYNAMIC` (6.6 on).
//!
//! Mirrors `swiotlb_find_slots()`, `swiotlb_search_area()`, `swiotlb_alloc_pool()` and `swiotlb_dyn_alloc()` in `kernel/dma/swiotlb.c`
//! (6.12): each area is looked for in all pools, the newest first, before the next one. A mapping that finds no slots gets a transient
//! pool of its own, and a pool as large as the first one is added, if the page allocator has so many pages side by side. The kernel adds
//! it in a work item some time later: here after a delay that is chosen ([`Growing::delay_worker`]). Memory for pools is taken to be there, for
//! 1023 more pools and 32 GiB in all.

use super::{Bounce, Demand, MAX_SLOTS, Pool, PoolConfig, Possible, Refused, Request, SLOT, Usage};

/// Pools that are added at most. Mappings that no pool has room for, whatever their number, would add one each.
const MOST_POOLS: usize = 1024;
/// Slots and segments that may be looked at for each request, and in all besides: some hundred times what recorded workloads need.
/// A capture may be made so that every search is in vain.
const VISITS_EACH: i64 = 64;
const VISITS: i64 = 1 << 26;

/// The longest that the kernel's worker is taken to need from a search in vain to the pool that it adds, ns. A guess: it waits for a
/// CPU, and its allocation may wait for memory to be compacted. No kernel has been measured.
pub const WORKER_NS: u64 = 10_000_000;

/// A pool, with those that were added to it.
#[derive(Clone, Debug)]
pub struct Growing {
    config: PoolConfig,
    pools: Vec<Pool>,
    grows: bool,
    now_ns: u64,
    /// From a search in vain to the pool that is added for it, ns.
    delay_ns: u64,
    /// When the worker, which is at work, adds a pool.
    due_ns: Option<u64>,
    /// When a search was last in vain.
    in_vain_ns: Option<u64>,
    transient_slots: u64,
    transient_pools: u64,
    /// Slots and segments that may still be looked at; below 0 once a search has looked at more, and then the next ones are not made.
    visits_left: i64,
    given_up: u64,
}

/// Slots held by a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// In the pool of this index.
    In(u32, Bounce),
    /// So many slots, in a pool made for this mapping alone.
    Transient(u32),
}

impl Held {
    /// Slots.
    pub fn slots(&self) -> u64 {
        match self {
            Self::In(_, bounce) => bounce.slots(),
            Self::Transient(slots) => u64::from(*slots),
        }
    }
}

impl Growing {
    /// An empty pool, which may or may not grow.
    pub fn new(config: PoolConfig, grows: bool) -> Self {
        Self {
            config,
            pools: vec![Pool::new(config)],
            grows,
            now_ns: 0,
            delay_ns: 0,
            due_ns: None,
            in_vain_ns: None,
            transient_slots: 0,
            transient_pools: 0,
            visits_left: VISITS,
            given_up: 0,
        }
    }

    /// Whether it grows.
    pub fn grows(&self) -> bool {
        self.grows
    }

    /// Lets time pass until this moment, ns: a pool that the worker has made by then is added.
    pub fn reach(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        if self.due_ns.is_none_or(|due_ns| due_ns > now_ns) {
            return;
        }
        self.due_ns = None;
        // swiotlb_alloc_pool(): no more than the page allocator gives at once.
        let slots = self.config.slots.min(largest_added(self.config.page_size));
        if self.pools.len() < MOST_POOLS && self.total_slots() + slots <= MAX_SLOTS {
            self.pools.push(Pool::new(PoolConfig { slots, ..self.config }));
        }
    }

    /// The worker, at work now or later, takes so long, ns; at first it takes no time.
    pub fn delay_worker(&mut self, delay_ns: u64) {
        self.delay_ns = delay_ns;
        self.due_ns = self.due_ns.map(|due_ns| due_ns.saturating_add(delay_ns));
    }

    /// Whether the worker has been asked for a pool and has not added it.
    pub fn awaits_worker(&self) -> bool {
        self.due_ns.is_some()
    }

    /// Whether it depends on the worker's delay, up to [`WORKER_NS`], that a search finds slots: a transient pool would not do.
    pub fn hangs_on_worker(&self, request: &Request) -> bool {
        let is_recent = |in_vain_ns: u64| self.now_ns.saturating_sub(in_vain_ns) <= WORKER_NS;
        self.in_vain_ns.is_some_and(is_recent)
            && self.pools[0].demand(request).is_ok_and(|demand| self.transient(request, demand.slots).is_err())
    }

    /// Slots of a pool made for this request alone.
    fn transient(&self, request: &Request, slots: u32) -> Result<Bounce, Refused> {
        Pool::new(PoolConfig { slots: slots.into(), areas: 1, ..self.config }).map(request)
    }

    /// Slots that a request takes; 0 where no pool has room for it.
    pub fn slots(&self, request: &Request) -> u64 {
        request.slots(self.config.slot_rule, self.config.page_size).unwrap_or(0).into()
    }

    /// [`Pool::possible`] of a pool that does not grow.
    pub fn possible(&self, request: &Request, usage: Usage) -> Possible {
        self.pools[0].possible(request, usage)
    }

    /// [`Pool::unit_with`].
    pub fn unit_with(&self, request: &Request, unit: u32) -> u32 {
        self.pools[0].unit_with(request, unit)
    }

    /// The pool that was there from the beginning.
    pub fn first(&mut self) -> &mut Pool {
        &mut self.pools[0]
    }

    /// Slots in all pools but the transient ones.
    pub fn total_slots(&self) -> u64 {
        self.sum(Pool::total_slots)
    }

    /// Of all pools, which mostly are one.
    fn sum(&self, of: impl Fn(&Pool) -> u64) -> u64 {
        if let [only] = &self.pools[..] { of(only) } else { self.pools.iter().map(of).sum() }
    }

    /// Slots in all pools that there are at the moment, the transient ones too.
    pub fn present_slots(&self) -> u64 {
        self.total_slots() + self.transient_slots
    }

    /// Slots in use.
    pub fn used_slots(&self) -> u64 {
        self.sum(Pool::used_slots) + self.transient_slots
    }

    /// Pools that were added.
    pub fn added_pools(&self) -> u64 {
        self.pools.len() as u64 - 1
    }

    /// Pools that were made for one mapping alone.
    pub fn transient_pools(&self) -> u64 {
        self.transient_pools
    }

    /// Searches that were not made, since those before them had been in vain for too long: taken to have found nothing.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Finds slots.
    pub fn map(&mut self, request: &Request) -> Result<Held, Refused> {
        self.visits_left = self.visits_left.saturating_add(VISITS_EACH);
        let first = &mut self.pools[0];
        let demand = first.demand(request)?;
        if !self.grows {
            if self.visits_left < 0 {
                self.given_up += 1;
                return Err(first.why_not(&demand));
            }
            let before = first.visits();
            let found = first.map_demand(request.cpu, &demand).map(|bounce| Held::In(0, bounce));
            self.visits_left = self.visits_left.saturating_sub_unsigned(first.visits() - before);
            return found;
        }
        if let Some(held) = self.search_all(request.cpu, &demand) {
            return Ok(held);
        }
        self.visits_left = self.visits_left.saturating_sub_unsigned(self.pools.len() as u64);
        // schedule_work(), which does nothing while the work waits.
        self.due_ns = self.due_ns.or(Some(self.now_ns.saturating_add(self.delay_ns)));
        self.in_vain_ns = Some(self.now_ns);
        self.transient(request, demand.slots)?;
        self.transient_slots += u64::from(demand.slots);
        self.transient_pools += 1;
        Ok(Held::Transient(demand.slots))
    }

    /// Each area in all pools before the next one. `add_mem_pool()` puts a pool at the head of the list.
    fn search_all(&mut self, cpu: u32, demand: &Demand) -> Option<Held> {
        // The first has the most: pools that are added are no larger.
        for nth in 0..self.pools[0].areas.len() as u32 {
            for (n, pool) in self.pools.iter_mut().enumerate().rev() {
                if self.visits_left < 0 {
                    self.given_up += 1;
                    return None;
                }
                let before = pool.visits();
                let found = pool.map_in(cpu, demand, nth);
                // To pass over a pool is work too: there may be a thousand.
                let visits = (pool.visits() - before).max(1);
                self.visits_left = self.visits_left.saturating_sub_unsigned(visits);
                if let Some(bounce) = found {
                    return Some(Held::In(n as u32, bounce));
                }
            }
        }
        None
    }

    /// Gives slots back.
    pub fn unmap(&mut self, held: Held) {
        match held {
            Held::In(n, bounce) => {
                if let Some(pool) = self.pools.get_mut(n as usize) {
                    pool.unmap(bounce);
                }
            }
            Held::Transient(slots) => {
                self.transient_slots = self.transient_slots.saturating_sub(slots.into());
            }
        }
    }
}

/// Slots of the largest pool that is added: `SLABS_PER_PAGE << MAX_PAGE_ORDER`, with the order that arm64 has by default
/// (`ARCH_FORCE_MAX_ORDER`, `arch/arm64/Kconfig`, 6.6 on).
fn largest_added(page_size: u64) -> u64 {
    let max_page_order = match page_size {
        0x1_0000.. => 13,
        0x4000.. => 11,
        _ => 10,
    };
    (page_size / SLOT) << max_page_order
}

#[cfg(test)]
mod tests {
    use super::super::SlotRule;
    use super::*;

    fn pool(grows: bool) -> Growing {
        let slot_rule = SlotRule::PoolAligned;
        Growing::new(PoolConfig { slots: 128, areas: 1, slot_rule, page_size: 4096 }, grows)
    }

    const SMALL: Request = Request { cpu: 0, phys: 8, size: 8, align_mask: 0, min_align_mask: 0, is_memory: false };

    /// As many, one a nanosecond.
    fn hold(pool: &mut Growing, count: u64) -> Vec<Held> {
        let mut map = |_| {
            pool.reach(pool.now_ns + 1);
            pool.map(&SMALL).unwrap()
        };
        (0..count).map(&mut map).collect()
    }

    #[test]
    fn passing_over_full_pools_is_work_whatever_the_number_of_areas() {
        let slot_rule = SlotRule::PoolAligned;
        let mut pool = Growing::new(PoolConfig { slots: 128, areas: 1 << 12, slot_rule, page_size: 4096 }, true);
        let _held = hold(&mut pool, 128 * 20);
        let (pools, before) = (pool.pools.len() as i64, pool.visits_left);
        assert!(pool.pools.iter().all(|pool| pool.used_slots() > 100) && pools >= 19, "{pools} pools");
        let _ = pool.map(&SMALL);
        let visits = before + VISITS_EACH - pool.visits_left;
        assert!((1..=8 * pools).contains(&visits), "{visits} visits of {pools} pools");
    }

    #[test]
    fn a_full_pool_that_grows_makes_one_transient_pool_and_then_has_room_again() {
        let mut pool = pool(true);
        let mut held = hold(&mut pool, 130);
        assert_eq!((pool.added_pools(), pool.transient_pools(), pool.used_slots()), (1, 1, 130));
        assert_eq!(held[128], Held::Transient(1));
        assert_eq!((pool.total_slots(), pool.present_slots()), (256, 257));
        held.drain(..).for_each(|one| pool.unmap(one));
        assert_eq!(pool.used_slots(), 0);
    }

    #[test]
    fn each_area_is_looked_for_in_all_pools_the_newest_first() {
        let config = PoolConfig { slots: 256, areas: 2, slot_rule: SlotRule::PoolAligned, page_size: 4096 };
        let mut pool = Growing::new(config, true);
        // Both areas of the first pool are full, one mapping has a pool of its own, and another pool has been added.
        let mut held = hold(&mut pool, 257);
        pool.reach(1000);
        // The second area, of CPU 1, has room in both pools: that of the newer one is taken until it is full.
        pool.unmap(held.remove(200));
        for _ in 0..128 {
            assert!(matches!(pool.map(&Request { cpu: 1, ..SMALL }), Ok(Held::In(1, _))));
        }
        // Then that of the older one, before the first area of the newer one.
        assert!(matches!(pool.map(&Request { cpu: 1, ..SMALL }), Ok(Held::In(0, _))));
        assert!(matches!(pool.map(&Request { cpu: 1, ..SMALL }), Ok(Held::In(1, _))));
    }

    #[test]
    fn an_added_pool_is_no_larger_than_the_largest_page_order() {
        let added = |page_size: u64, slots: u64| {
            let config = PoolConfig { slots, areas: 1, slot_rule: SlotRule::PoolAligned, page_size };
            let mut pool = Growing::new(config, true);
            hold(&mut pool, slots + 1);
            pool.reach(1 << 40);
            pool.total_slots() - slots
        };
        assert_eq!(added(4096, 8192), 2048, "4 MiB");
        assert_eq!(added(4096, 1024), 1024);
        assert_eq!(added(16384, 8192), 8192);
    }

    /// A buffer of an NVMe controller that begins in the second slot of its page.
    const ODD: Request = Request { phys: 0x800, size: 512, min_align_mask: 4095, ..SMALL };

    #[test]
    fn a_transient_pool_is_refused_where_its_first_slot_would_have_to_be_another() {
        let mut pool = pool(true);
        hold(&mut pool, 128);
        assert_eq!(pool.map(&ODD), Err(Refused::Fragmented));
        assert_eq!((pool.transient_pools(), pool.used_slots()), (0, 128));
        pool.reach(1000);
        assert!(matches!(pool.map(&ODD), Ok(Held::In(1, _))), "the worker was asked for a pool all the same");
    }

    #[test]
    fn a_late_worker_leaves_more_mappings_to_transient_pools() {
        let mut pool = pool(true);
        pool.delay_worker(10);
        hold(&mut pool, 137);
        assert_eq!((pool.added_pools(), pool.transient_pools()), (0, 9));
        hold(&mut pool, 10);
        assert_eq!((pool.added_pools(), pool.transient_pools()), (1, 10), "one at 129 to 138, and from 139 on none");
    }

    #[test]
    fn what_a_transient_pool_cannot_hold_hangs_on_the_worker_for_a_while() {
        let mut pool = pool(true);
        assert!(!pool.hangs_on_worker(&ODD), "no search was in vain");
        hold(&mut pool, 129);
        assert!(pool.hangs_on_worker(&ODD) && !pool.hangs_on_worker(&SMALL));
        pool.reach(pool.now_ns + WORKER_NS + 1);
        assert!(!pool.hangs_on_worker(&ODD));
    }

    #[test]
    fn a_pool_that_does_not_grow_refuses() {
        let mut pool = pool(false);
        assert_eq!((0..130).filter(|_| pool.map(&SMALL).is_ok()).count(), 128);
    }

    #[test]
    fn searches_made_to_be_in_vain_are_given_up_and_counted() {
        let slot_rule = SlotRule::PoolAligned;
        let mut pool = Growing::new(PoolConfig { slots: 1 << 14, areas: 1, slot_rule, page_size: 4096 }, false);
        pool.visits_left = 1 << 20;
        // Every other slot is free, and none of these is where the buffer has to begin.
        let at = |odd: u64| Request { phys: 0x1000 + odd * SLOT, min_align_mask: 4095, ..SMALL };
        for _ in 0..1 << 13 {
            pool.map(&at(0)).unwrap();
        }
        let mut refused = 0;
        for _ in 0..2000 {
            let _ = pool.map(&at(1));
            refused += u64::from(pool.map(&at(0)).is_err());
        }
        assert_eq!(refused, 2000);
        assert!(pool.given_up() > 0 && pool.given_up() < 4000, "{}", pool.given_up());
    }

    #[test]
    fn no_pool_has_room_for_more_than_a_segment() {
        let large = Request { size: 300 << 10, ..SMALL };
        assert_eq!(pool(true).map(&large), Err(Refused::TooLarge));
    }
}
