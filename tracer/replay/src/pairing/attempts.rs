//! Attempts to bounce that no mapping has claimed yet, by the thread of execution that made them.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::devices::Identity;
use bouncescope_capture::event::{DeviceId, Event, MAPPING_ERROR, Segment, UNKNOWN_PHYS};
use bouncescope_capture::limits::PAGE_OFFSET;

/// Attempts of one thread of execution that are looked at for one mapping, from the latest on: more than nest in one another. A list's next segment
/// begins where the one behind it was found.
const LOOKED_AT: usize = 1 << 10;
/// Attempts that were given up and are remembered, at the most; then all are forgotten.
const REMEMBERED: usize = 4096;
/// How long they are, counted from the attempt: no mapping takes that long, while threads and buffers come again.
const REMEMBERED_NS: u64 = 60_000_000_000;

/// A thread of execution. Interrupts nest strictly in what they interrupt, so one stack of attempts for each is enough.
/// The idle tasks all have id 0, one on each CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Context {
    task: u32,
    idle_cpu: u16,
}

impl Context {
    pub(super) const fn of(event: &Event) -> Self {
        Self { task: event.task, idle_cpu: if event.task == 0 { event.cpu } else { 0 } }
    }
}

/// An attempt to bounce a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Its place in the queue.
    pub(super) place: u64,
    pub(super) time_ns: u64,
    pub(super) cpu: u16,
    pub(super) device: DeviceId,
    pub(super) identity: Identity,
    pub(super) size: u64,
    /// From `swiotlb_bounced`: the DMA address the buffer itself would have had, or its physical address (IOMMU).
    pub(super) dev_addr: Option<u64>,
    /// From the search for slots.
    pub(super) search: Option<Search>,
}

/// A search for slots that returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) phys: u64,
    /// [`MAPPING_ERROR`] when it found none.
    pub(super) slot: u64,
    pub(super) align_mask: u64,
}

impl Attempt {
    /// Physical address, or what is nearest to it.
    pub(super) fn phys(&self) -> u64 {
        self.search.map(|search| search.phys).or(self.dev_addr).unwrap_or(0)
    }

    /// The slot that was found.
    pub(super) fn slot(&self) -> Option<u64> {
        self.search.map(|search| search.slot).filter(|slot| *slot != MAPPING_ERROR)
    }

    /// The search was seen to find nothing.
    pub(super) fn is_refused(&self) -> bool {
        self.search.is_some_and(|search| search.slot == MAPPING_ERROR)
    }

    fn is_of(&self, identity: Identity, size: u64) -> bool {
        self.identity == identity && self.size == size
    }

    /// The attempt was for the buffer at `phys`. Without a search there is only its address on the bus, which may be
    /// offset by whole pages.
    fn is_at(&self, phys: u64) -> bool {
        if phys & UNKNOWN_PHYS != 0 {
            return self.is_at_offset(phys);
        }
        match (self.search, self.dev_addr) {
            (Some(search), _) => search.phys == phys,
            (None, Some(dev_addr)) => (dev_addr ^ phys) & PAGE_OFFSET == 0,
            (None, None) => false,
        }
    }

    /// The attempt was for a buffer at `offset` into its page.
    fn is_at_offset(&self, offset: u64) -> bool {
        (self.phys() ^ offset) & PAGE_OFFSET == 0
    }
}

/// All attempts that wait for their mapping.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    /// In the order of their places.
    waiting: HashMap<Context, VecDeque<Attempt>>,
    /// Of threads that wait for nothing any more, for its memory.
    spare: Option<VecDeque<Attempt>>,
    /// Those that were given up, the latest of each length and offset into a page.
    given_up: HashMap<(Context, Identity, u64, u64), Attempt>,
}

impl Attempts {
    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A new attempt.
    pub(super) fn push(&mut self, context: Context, attempt: Attempt) {
        let spare = &mut self.spare;
        self.waiting.entry(context).or_insert_with(|| spare.take().unwrap_or_default()).push_back(attempt);
    }

    /// The attempt for which this search was made, taken out.
    pub(super) fn searched(&mut self, context: Context, identity: Identity, size: u64, phys: u64) -> Option<Attempt> {
        self.take(context, |attempt| attempt.search.is_none() && attempt.is_of(identity, size) && attempt.is_at(phys))
    }

    /// The attempt for a single mapping: the latest that fits, since nested ones were claimed before.
    pub(super) fn claim(&mut self, context: Context, identity: Identity, size: u64, phys: u64) -> Option<Attempt> {
        self.take(context, |attempt| attempt.is_of(identity, size) && attempt.is_at(phys))
    }

    /// The attempts for a list, one place for each segment, or nothing where there are none. From the end: what was left over by something else is
    /// older.
    pub(super) fn claim_list(
        &mut self,
        context: Context,
        identity: Identity,
        segments: &[Segment],
    ) -> Vec<Option<Attempt>> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let Some(waiting) = self.waiting.get_mut(&context) else { return Vec::new() };
        let mut claimed = vec![None; segments.len()];
        // The kernel maps a list in order, so an earlier segment's attempt is before a later one's.
        let mut before = waiting.len();
        for (n, segment) in segments.iter().enumerate().rev() {
            let fits = |attempt: &Attempt| {
                attempt.is_of(identity, u64::from(segment.length)) && attempt.is_at_offset(u64::from(segment.offset))
            };
            if let Some(at) = latest(waiting, before, fits) {
                claimed[n] = waiting.remove(at);
                before = at;
            }
        }
        self.forget_if_empty(context);
        claimed
    }

    /// Gives up on the attempt whose place is `place`.
    pub(super) fn expire(&mut self, context: Context, place: u64) -> Option<Attempt> {
        let waiting = self.waiting.get_mut(&context)?;
        let attempt = waiting.remove(waiting.binary_search_by_key(&place, |attempt| attempt.place).ok()?)?;
        self.forget_if_empty(context);
        if self.given_up.len() == REMEMBERED {
            self.given_up.clear();
        }
        let offset = attempt.phys() & PAGE_OFFSET;
        self.given_up.insert((context, attempt.identity, attempt.size, offset), attempt);
        Some(attempt)
    }

    /// None has been given up.
    pub(super) fn gave_up_none(&self) -> bool {
        self.given_up.is_empty()
    }

    /// Whether one like it has been given up, as far as length and offset into a page go.
    pub(super) fn may_have_given_up(&self, event: &Event, identity: Identity, size: u64, phys: u64) -> bool {
        !self.gave_up_none() && self.given_up.contains_key(&(Context::of(event), identity, size, phys & PAGE_OFFSET))
    }

    /// Whether an attempt has been given up that a mapping could have claimed which comes without one: of a buffer at `phys`, or
    /// only at that offset into its page where it is marked so. Told once.
    pub(super) fn gave_up(&mut self, event: &Event, identity: Identity, size: u64, phys: u64) -> bool {
        if self.given_up.is_empty() {
            return false;
        }
        let key = (Context::of(event), identity, size, phys & PAGE_OFFSET);
        let Some(attempt) = self.given_up.get(&key).filter(|attempt| attempt.is_at(phys)) else { return false };
        let fresh = event.time_ns.saturating_sub(attempt.time_ns) < REMEMBERED_NS;
        self.given_up.remove(&key);
        fresh
    }

    fn take(&mut self, context: Context, fits: impl Fn(&Attempt) -> bool) -> Option<Attempt> {
        if self.waiting.is_empty() {
            return None;
        }
        let waiting = self.waiting.get_mut(&context)?;
        let attempt = waiting.remove(latest(waiting, waiting.len(), fits)?);
        self.forget_if_empty(context);
        attempt
    }

    fn forget_if_empty(&mut self, context: Context) {
        if self.waiting.get(&context).is_some_and(VecDeque::is_empty) {
            self.spare = self.waiting.remove(&context);
        }
    }
}

/// Where the latest of the first `end` attempts is that fits.
fn latest(waiting: &VecDeque<Attempt>, end: usize, fits: impl Fn(&Attempt) -> bool) -> Option<usize> {
    let first = end.saturating_sub(LOOKED_AT);
    waiting.range(first..end).rposition(fits).map(|at| first + at)
}
