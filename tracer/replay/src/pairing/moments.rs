//! Which searches for slots and which releases overlap in time, and what that leaves open: how many slots were in use when a
//! search looked.
//!
//! A search looks at some moment between the entry of `swiotlb_tbl_map_single()` and its return, a release is done at some moment
//! after the entry of `swiotlb_tbl_unmap_single()` (`kernel/dma/swiotlb.c`). Steps are in the order of the returns of searches and
//! of the entries of releases. Here is how far another order that these intervals allow is off that.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::attempts::Context;
use crate::step::Overlap;
use bouncescope_capture::limits::{MOST_MAPPED, MOST_RELEASES};

/// Searches and releases that are remembered: more than happen while a step is waited for, but for stalled tasks.
const REMEMBERED: usize = 1 << 13;
/// Searches and releases that are looked at on each side of a search.
const LOOKED_AT: usize = 1 << 10;
/// Those of them that overlap it.
const OVERLAPPING: usize = 64;
/// A release that nothing shows the end of is over by then, as far as it is likely: it takes microseconds, or the milliseconds for which
/// its task has to wait.
const PATIENCE_NS: u64 = 20_000_000;
/// By then it is over on any machine: longer than a CPU of a guest is kept from running.
const STALLED_NS: u64 = 100_000_000;
/// So far from a search all are looked at: most take less, and records of several CPUs come less out of order. Longer ones are
/// listed by themselves.
const REACH_NS: u64 = 1_000_000;
/// No end has been seen.
const OPEN: u64 = u64::MAX;

/// A search for slots, or a release.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// Its place in the queue.
    place: u64,
    /// It happened no earlier, ns.
    from_ns: u64,
    /// It happened no later, ns.
    until_ns: u64,
    /// The kernel counts the slots until then, ns: a release is counted after the slots can be taken again (`dec_used()` in
    /// `swiotlb_release_slots()`, 6.12). Of a search as above.
    counted_until_ns: u64,
    slot: u64,
    /// 0 where none were found.
    slots: u32,
    is_release: bool,
}

/// The latest searches and releases, in the order of their places.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments {
    latest: VecDeque<Moment>,
    /// Those before them: a moment's number is how many came before it.
    forgotten: u64,
    /// The number of the first whose place is not before the one that was last asked about.
    asked: u64,
    /// What is held, by address of the first slot: how many slots; and the number of the latest release once they are not.
    held: HashMap<u64, Held>,
    prune_at: usize,
    /// Numbers of releases of which no end has been seen, in order: hardly more than there are CPUs. With too many of them the oldest
    /// is taken to have ended.
    open: Vec<(Context, u64)>,
    /// Numbers of those that took longer than [`REACH_NS`].
    long: VecDeque<u64>,
    overlapping: Vec<Moment>,
    /// Slots of releases that may have stalled: without an end for longer than [`PATIENCE_NS`].
    stalled: u64,
    /// The same with those whose slots were seen to be free.
    still_counted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    slots: u32,
    released: Option<u64>,
}

impl Moments {
    /// A search between these two moments that found so many slots at `slot`, or 0.
    pub(super) fn searched(&mut self, place: u64, from_ns: u64, until_ns: u64, slot: u64, slots: u32) {
        let counted_until_ns = until_ns;
        let mut search = Moment { place, from_ns, until_ns, counted_until_ns, slot, slots, is_release: false };
        if slots > 0 {
            self.make_room();
            // The slot was free: whoever had it before has given it back by then, and not later.
            let before = self.held.insert(slot, Held { slots, released: None });
            if let Some(released) = before.and_then(|before| before.released)
                && let Some(release) = self.numbered(released)
            {
                release.until_ns = release.until_ns.min(until_ns);
                search.from_ns = search.from_ns.max(release.from_ns).min(until_ns);
            }
            if until_ns.saturating_sub(from_ns) > REACH_NS {
                self.note_long(self.next());
            }
        }
        self.push(search);
    }

    /// A release began. `slots` are taken to be given back where it is not known what was taken.
    pub(super) fn released(&mut self, context: Context, place: u64, from_ns: u64, slot: u64, slots: u32) {
        let number = self.next();
        let known = self.held.get_mut(&slot).filter(|held| held.released.is_none());
        let slots = known.map_or(slots, |held| {
            held.released = Some(number);
            held.slots
        });
        let (until_ns, counted_until_ns) = (OPEN, OPEN);
        self.push(Moment { place, from_ns, until_ns, counted_until_ns, slot, slots, is_release: true });
        // The caller has said that this thread goes on: it has none here.
        if self.open.len() == MOST_RELEASES {
            self.goes_on(self.open[0].0, from_ns);
        }
        self.open.push((context, number));
    }

    /// This thread of execution does something else: what it was giving back is given back.
    #[inline]
    pub(super) fn goes_on(&mut self, context: Context, time_ns: u64) {
        if let Some(at) = self.open.iter().position(|(other, _)| *other == context) {
            let (_, number) = self.open.remove(at);
            self.end(number, time_ns);
        }
    }

    /// A release is over by then.
    fn end(&mut self, number: u64, time_ns: u64) {
        let Some(release) = self.numbered(number) else { return };
        release.counted_until_ns = time_ns.max(release.from_ns);
        release.until_ns = release.until_ns.min(release.counted_until_ns);
        if release.counted_until_ns - release.from_ns > REACH_NS {
            self.note_long(number);
        }
    }

    /// What the order of others leaves open for the search of this place; to be asked when all searches that began before it
    /// returned have returned, and of no place before one that was asked about.
    pub(super) fn overlap(&mut self, place: u64) -> Overlap {
        let mut at = self.asked.saturating_sub(self.forgotten) as usize;
        while self.latest.get(at).is_some_and(|moment| moment.place < place) {
            at += 1;
        }
        self.asked = self.forgotten + at as u64;
        if self.latest.get(at).is_none_or(|moment| moment.place > place) {
            // Of a buffer without a search no place is here.
            let is_cut = self.latest.front().is_some_and(|oldest| place < oldest.place);
            return Overlap { is_cut, ..Overlap::default() };
        }
        let search = self.latest[at];
        if !self.look_around(at, &search) {
            return Overlap { is_cut: true, ..Overlap::default() };
        }
        self.extremes(&search)
    }

    fn note_long(&mut self, number: u64) {
        while self.long.front().is_some_and(|front| *front < self.forgotten) || self.long.len() == OVERLAPPING {
            self.long.pop_front();
        }
        self.long.push_back(number);
    }

    fn make_room(&mut self) {
        if self.held.len() >= self.prune_at.max(REMEMBERED) {
            self.held.retain(|_, held| held.released.is_none());
            if self.held.len() > MOST_MAPPED {
                self.held.clear();
            }
            self.prune_at = 2 * self.held.len();
        }
    }

    fn push(&mut self, moment: Moment) {
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
            self.forgotten += 1;
        }
        self.latest.push_back(moment);
    }

    /// The number that the next one gets.
    fn next(&self) -> u64 {
        self.forgotten + self.latest.len() as u64
    }

    /// Unless it is forgotten.
    fn numbered(&mut self, number: u64) -> Option<&mut Moment> {
        self.latest.get_mut(number.checked_sub(self.forgotten)? as usize)
    }

    /// Collects what overlaps the search. Whether that is all.
    fn look_around(&mut self, at: usize, search: &Moment) -> bool {
        self.overlapping.clear();
        (self.stalled, self.still_counted) = (0, 0);
        // Most of a hundred neighbours overlap nothing: each costs as little as can be.
        let overlapping = &mut self.overlapping;
        let mut is_whole = |one: &Moment, distance: usize| distance < LOOKED_AT && note(overlapping, one, search);
        let earliest_ns = search.from_ns.saturating_sub(REACH_NS);
        let before = self.latest.range(..at).rev().take_while(|one| one.came_ns() >= earliest_ns);
        if !before.enumerate().all(|(distance, one)| is_whole(one, distance)) {
            return false;
        }
        let latest_ns = search.until_ns.saturating_add(REACH_NS);
        let behind = self.latest.range(at + 1..).take_while(|one| one.came_ns() <= latest_ns);
        if !behind.enumerate().all(|(distance, one)| is_whole(one, distance)) {
            return false;
        }
        if self.long.is_empty() && self.open.is_empty() {
            return true;
        }
        let further = self.long.iter().chain(self.open.iter().map(|(_, number)| number));
        let moment = |number: &u64| self.latest.get(number.checked_sub(self.forgotten)? as usize).copied();
        let further: Vec<Moment> = further.filter_map(moment).collect();
        further.into_iter().all(|one| {
            if one.place == search.place || self.overlapping.iter().any(|other| other.place == one.place) {
                return true;
            }
            let open_for_ns = if one.counted_until_ns == OPEN { search.from_ns.saturating_sub(one.from_ns) } else { 0 };
            if open_for_ns <= PATIENCE_NS {
                return note(&mut self.overlapping, &one, search);
            }
            if open_for_ns <= STALLED_NS {
                self.still_counted += u64::from(one.slots);
                self.stalled += u64::from(one.slots) * u64::from(one.until_ns == OPEN);
            }
            true
        })
    }

    /// The least and the most slots that may have been in use at one moment of the search, as differences to those at its place.
    fn extremes(&self, search: &Moment) -> Overlap {
        let (mut fewer, mut more, mut counted) = (0, 0, 0);
        let within = twice(search.from_ns)..=twice(search.until_ns);
        let count = |slots: i64| u32::try_from(slots).unwrap_or(u32::MAX);
        let [stalled, still_counted] =
            [self.stalled, self.still_counted].map(|slots| u32::try_from(slots).unwrap_or(u32::MAX));
        if self.overlapping.is_empty() {
            return Overlap { counted: still_counted, stalled, ..Overlap::default() };
        }
        let ends = self.overlapping.iter().flat_map(|other| [other.from_ns, other.until_ns, other.counted_until_ns]);
        let around = ends.flat_map(|ns| [twice(ns).saturating_sub(1), twice(ns), twice(ns) + 1]);
        for at in around.filter(|at| within.contains(at)).chain([*within.start(), *within.end()]) {
            let (mut surely, mut maybe, mut may_count) = (0_i64, 0_i64, 0_i64);
            for other in &self.overlapping {
                let slots = i64::from(other.slots);
                // After the step of a search its slots are held, after that of a release they are not.
                let placed = slots * i64::from(other.is_release != (other.place < search.place));
                if other.overlaps(search) {
                    surely += slots * i64::from(other.surely_holds(at)) - placed;
                    maybe += slots * i64::from(self.may_hold(other, at)) - placed;
                }
                may_count += slots * i64::from(other.may_count(at)) - placed;
            }
            fewer = fewer.max(-surely);
            more = more.max(maybe);
            counted = counted.max(may_count);
        }
        let counted = count(counted).saturating_add(still_counted);
        Overlap { fewer: count(fewer), more: count(more), counted, stalled, is_cut: false }
    }

    /// Whether the slots may be held at this moment by whom this is about.
    fn may_hold(&self, moment: &Moment, at: u128) -> bool {
        // Who has got the same slots since is counted instead.
        let is_next = |next: &Moment| {
            !next.is_release && next.slot == moment.slot && next.place > moment.place && twice(next.from_ns) <= at
        };
        if moment.is_release {
            twice(moment.until_ns) > at && !self.overlapping.iter().any(is_next)
        } else {
            twice(moment.from_ns) <= at
        }
    }
}

/// Notes one that overlaps the search. Whether there is room for it.
#[inline]
fn note(overlapping: &mut Vec<Moment>, one: &Moment, search: &Moment) -> bool {
    let is_counted = one.place < search.place && one.counted_until_ns > search.from_ns;
    if one.slots > 0 && (is_counted || one.overlaps(search)) {
        overlapping.push(*one);
    }
    overlapping.len() <= OVERLAPPING
}

impl Moment {
    /// Whether it may come before or after the search looks.
    fn overlaps(&self, search: &Self) -> bool {
        if self.place < search.place { self.until_ns > search.from_ns } else { self.from_ns < search.until_ns }
    }

    /// Whether the slots are held at this moment in every order.
    fn surely_holds(&self, at: u128) -> bool {
        if self.is_release { twice(self.from_ns) >= at } else { twice(self.until_ns) <= at }
    }

    /// Whether the kernel may count the slots at this moment as in use because of it, whoever has them.
    fn may_count(&self, at: u128) -> bool {
        if self.is_release { twice(self.counted_until_ns) > at } else { twice(self.from_ns) <= at }
    }

    /// When its record came.
    fn came_ns(&self) -> u64 {
        if self.is_release { self.from_ns } else { self.until_ns }
    }
}

/// Twice the time, so that there is a moment between any two.
fn twice(ns: u64) -> u128 {
    u128::from(ns) * 2
}
