//! Who holds slots of the pool: by device and call site, for how long, and whether they are ever given back.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::Serialize;

use super::devices::Identity;
use super::durations::Durations;
use super::names::Names;
use super::site::{COHERENT_MEMORY, SiteId, origin};
use super::trend::{START_NS, Trend};

/// Devices and call sites of which it is kept how long they held slots. Slots of more are not told apart by what was given back.
const MOST_KEPT: usize = 1 << 14;

/// Devices and call sites of which percentiles are kept: 8 MiB at the most, at 7.6 KiB each.
const MOST_TIMED: usize = 1 << 10;

/// Buffers that are looked at for the peak, at the most, each time that a peak is over. A pool of 64 MiB has 32768 slots, and at most so
/// many of such peaks follow each other.
const MOST_VISITS: u64 = 1 << 24;

/// Who took slots, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// When, ns.
    pub(crate) since_ns: u64,
    /// For which device.
    pub(crate) device: Identity,
    /// Where the buffer's object was allocated.
    pub(crate) site: SiteId,
}

/// Slots that a device held for buffers of one call site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HolderRow {
    /// `dev_name()`.
    pub device: String,
    /// Driver.
    pub driver: String,
    /// Where the buffers' objects were allocated, `function+0xoffset`; empty where that is not known.
    pub call_site: String,
    /// Its module.
    pub module: String,
    /// Buffers that held slots.
    pub buffers: u64,
    /// Their slots.
    pub slots: u64,
    /// For how long the first of them had held its slots, ns.
    pub longest_ns: u64,
    /// For how long half of them had, ns.
    pub median_ns: u64,
    /// Buffers of this device and call site that had given back their slots.
    pub given_back: u64,
    /// For how long the slowest of those had held them, ns; 0 where there was none.
    pub longest_given_back_ns: u64,
    /// From when the first buffer of this device and call site took slots to when the last one did, given back or not, ns.
    pub taken_over_ns: u64,
    /// Of `buffers`, those that had held their slots longer than any that were given back, by the quarter of that time in which they took
    /// them.
    pub outlasting: [u64; 4],
    /// Their slots.
    pub outlasting_slots: u64,
}

/// Ages that are told apart: from so many seconds on, to the next.
pub const AGES_S: [u64; 6] = [0, 1, 10, 60, 600, 3600];
/// What these ages are called.
pub const AGES: [&str; AGES_S.len()] =
    ["less than 1 s", "1 to 10 s", "10 s to 1 min", "1 to 10 min", "10 min to 1 h", "1 h or more"];

impl HolderRow {
    /// Buffers keep being mapped whose slots are not given back: in a second or more, some that were mapped in each of three quarters of
    /// this time or more hold theirs for longer than any did that were given back. What a driver maps when it starts, and keeps, is
    /// mapped in less time; the buffers of a ring are given back one after the other.
    pub fn is_leak(&self) -> bool {
        self.taken_over_ns >= START_NS && self.outlasting.iter().filter(|count| **count > 0).count() >= 3
    }

    /// Slots that are held by such buffers.
    pub fn leaking_slots(&self) -> u64 {
        if self.is_leak() { self.outlasting_slots } else { 0 }
    }
}

/// Who held slots at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Holders {
    /// The moment, ns of the stream's clock.
    pub time_ns: u64,
    /// Slots in use then; more than the rows have where some were taken before the recording began.
    pub used_slots: u64,
    /// For how long the slots had been in use: less than 1 s, from 1 s on, from 10 s, 60 s, 600 s, and 3600 s on. Those that were taken
    /// before the recording began are as old as that at the least, and count so.
    pub slots_by_age: [u64; AGES_S.len()],
    /// Most slots first.
    pub rows: Vec<HolderRow>,
}

impl Holders {
    /// Slots whose buffers keep being mapped and are not given back.
    pub fn leaking_slots(&self) -> u64 {
        self.rows.iter().map(HolderRow::leaking_slots).sum()
    }

    /// Slots that were taken before the recording began, and by whom is not known.
    pub fn older_slots(&self) -> u64 {
        self.used_slots.saturating_sub(self.rows.iter().map(|row| row.slots).sum())
    }

    /// The ages that slots have, and how many have each.
    pub fn ages(&self) -> impl Iterator<Item = (&'static str, u64)> {
        AGES.into_iter().zip(self.slots_by_age).filter(|(_, slots)| *slots > 0)
    }

    /// For how long the first of those who are known had held its slots, ns; 0 where there is none.
    pub fn longest_ns(&self) -> u64 {
        self.rows.iter().map(|row| row.longest_ns).max().unwrap_or(0)
    }
}

/// What was given back of one device and call site.
#[derive(Clone, Copy, Debug, Default)]
struct GivenBack {
    count: u64,
    longest_ns: u64,
    /// Slots times the time for which they were held, ns.
    slot_ns: u128,
    /// When the first and the last of them took slots, ns.
    taken_ns: Option<(u64, u64)>,
}

/// How long slots were held that a device gave back, for buffers of one call site. Buffers are counted once, however many slots they
/// have. A percentile is at most 3.2 % off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeldRow {
    /// `dev_name()`.
    pub device: String,
    /// Driver.
    pub driver: String,
    /// Where the buffers' objects were allocated, `function+0xoffset`; empty where that is not known.
    pub call_site: String,
    /// Its module.
    pub module: String,
    /// Buffers that gave back slots which they had taken in the recording. The times are of these alone.
    pub given_back: u64,
    /// Half of them held their slots no longer than this, ns.
    pub median_ns: u64,
    /// 90 % of them did not hold theirs longer than this, ns.
    pub p90_ns: u64,
    /// 99 %, ns.
    pub p99_ns: u64,
    /// For how long the slowest held its slots, ns; exact.
    pub longest_ns: u64,
    /// Buffers that still held slots at the end: nobody knows for how long they would have.
    pub still_held: u64,
}

impl HeldRow {
    /// So many still held their slots at the end, a tenth or more, that the times of the others say little of all.
    pub fn is_censored(&self) -> bool {
        self.still_held > 0 && self.still_held >= (self.given_back + self.still_held).div_ceil(10)
    }
}

/// How long slots were held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeldTimes {
    /// By device and call site. Those first that held most slots for longest.
    pub rows: Vec<HeldRow>,
    /// Buffers that were given back, of more devices and call sites than times are kept of.
    pub left_out: u64,
}

/// Who held slots of the recorded kernel's pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotHolders {
    /// When it was fullest.
    pub at_peak: Holders,
    /// At the end of the recording.
    pub at_end: Holders,
    /// For how long slots were held that were given back.
    pub times: HeldTimes,
    /// How full it was in the long run.
    pub trend: Trend,
    /// Records of slots that were given back may be missing: some of those named may hold none.
    pub at_most: bool,
}

/// Follows who holds slots. It is told of slots that are given back; those that are held are where they are held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turnover {
    given_back: HashMap<(Identity, SiteId), (GivenBack, Option<Durations>)>,
    /// Buffers of which no times are kept.
    untimed: u64,
    visits: u64,
    /// The pool is as full as it has ever been, since the moment of `peak`.
    pub(crate) at_peak: bool,
    peak: Vec<Share>,
}

/// What one device and call site held.
#[derive(Clone, Debug)]
struct Share {
    device: Identity,
    site: SiteId,
    slots: u64,
    /// When its buffers got them, ns, and how many, in order.
    taken: Vec<(u64, u64)>,
    given_back: GivenBack,
}

impl Turnover {
    /// Slots are given back.
    pub(crate) fn give_back(&mut self, who: Who, slots: u64, now_ns: u64) {
        let key = (who.device, who.site);
        let count = self.given_back.len();
        if count >= MOST_KEPT && !self.given_back.contains_key(&key) {
            self.untimed += 1;
            return;
        }
        let begin = || (GivenBack::default(), (count < MOST_TIMED).then(Durations::default));
        let (kept, times) = self.given_back.entry(key).or_insert_with(begin);
        let held_ns = now_ns.saturating_sub(who.since_ns);
        kept.count += 1;
        let (first, last) = kept.taken_ns.unwrap_or((who.since_ns, who.since_ns));
        kept.taken_ns = Some((first.min(who.since_ns), last.max(who.since_ns)));
        kept.longest_ns = kept.longest_ns.max(held_ns);
        kept.slot_ns = kept.slot_ns.saturating_add(u128::from(slots) * u128::from(held_ns));
        match times {
            Some(times) => times.add(held_ns),
            None => self.untimed += 1,
        }
    }

    /// The peak is over, or everything is: keeps who holds what.
    pub(crate) fn keep_peak(&mut self, held: impl Iterator<Item = (Who, u64)>) {
        self.at_peak = false;
        if self.visits < MOST_VISITS {
            self.peak = self.shares(held);
            self.visits += self.peak.iter().map(|share| share.taken.len() as u64).sum::<u64>();
        } else {
            self.peak = Vec::new();
        }
    }

    fn shares(&self, held: impl Iterator<Item = (Who, u64)>) -> Vec<Share> {
        let mut shares: BTreeMap<(Identity, u32), Share> = BTreeMap::new();
        for (Who { since_ns, device, site }, slots) in held {
            let share = shares.entry((device, site.0)).or_insert_with(|| {
                let given_back = self.given_back.get(&(device, site)).map(|(kept, _)| *kept).unwrap_or_default();
                Share { device, site, slots: 0, taken: Vec::new(), given_back }
            });
            share.slots += slots;
            share.taken.push((since_ns, slots));
        }
        let mut shares: Vec<Share> = shares.into_values().collect();
        for share in &mut shares {
            share.taken.sort_unstable();
        }
        shares.sort_by_key(|share| (Reverse(share.slots), share.device, share.site.0));
        shares
    }
}

/// A moment, ns, and the slots in use then.
pub(crate) type Moment = (u64, u64);

impl Turnover {
    /// Who held slots when the pool was fullest, and who holds some at the end, of a recording that began at `start_ns`.
    pub(crate) fn finish(
        self,
        held: impl Iterator<Item = (Who, u64)>,
        start_ns: u64,
        [peak, end]: [Moment; 2],
        names: Names,
    ) -> ([Holders; 2], HeldTimes) {
        let at_end = self.shares(held);
        let times = self.times(&at_end, names);
        let holders = [(self.peak, peak), (at_end, end)].map(|(shares, (time_ns, used_slots))| {
            let mut slots_by_age = [0; AGES_S.len()];
            let mut count = |since_ns: u64, slots: u64| {
                let age_s = time_ns.saturating_sub(since_ns) / 1_000_000_000;
                slots_by_age[AGES_S.iter().rposition(|from_s| *from_s <= age_s).unwrap_or(0)] += slots;
            };
            shares.iter().flat_map(|share| &share.taken).for_each(|(since_ns, slots)| count(*since_ns, *slots));
            let known: u64 = shares.iter().map(|share| share.slots).sum();
            count(start_ns, used_slots.saturating_sub(known));
            Holders {
                time_ns,
                used_slots,
                slots_by_age,
                rows: shares.iter().map(|share| share.row(time_ns, names)).collect(),
            }
        });
        (holders, times)
    }

    /// How long slots were held that were given back, beside those who hold some at the end.
    fn times(&self, at_end: &[Share], names: Names) -> HeldTimes {
        let still_held: HashMap<_, u64> =
            at_end.iter().map(|share| ((share.device, share.site), share.taken.len() as u64)).collect();
        let mut timed: Vec<_> =
            self.given_back.iter().filter_map(|(key, (kept, times))| Some((*key, kept, times.as_ref()?))).collect();
        timed.sort_by_key(|((device, site), kept, _)| (Reverse(kept.slot_ns), *device, site.0));
        let row = |(key, kept, times): ((Identity, SiteId), &GivenBack, &Durations)| {
            let named = named_as(key, names);
            HeldRow {
                device: named.device,
                driver: named.driver,
                call_site: named.call_site,
                module: named.module,
                given_back: kept.count,
                median_ns: times.percentile(50),
                p90_ns: times.percentile(90),
                p99_ns: times.percentile(99),
                longest_ns: kept.longest_ns,
                still_held: still_held.get(&key).copied().unwrap_or(0),
            }
        };
        HeldTimes { rows: timed.into_iter().map(row).collect(), left_out: self.untimed }
    }
}

/// A device and a call site, by name.
struct Named {
    device: String,
    driver: String,
    call_site: String,
    module: String,
}

fn named_as((device, site): (Identity, SiteId), names: Names) -> Named {
    let latest = names.devices.latest(device);
    let device = latest.map(|latest| names.devices.get(latest)).unwrap_or_default();
    let (call_site, module) = match site {
        SiteId::COHERENT => (COHERENT_MEMORY.to_owned(), String::new()),
        site => origin(names.objects.address(site), names.symbols),
    };
    Named { device: device.name, driver: device.driver, call_site, module }
}

impl Share {
    fn row(&self, time_ns: u64, names: Names) -> HolderRow {
        let named = named_as((self.device, self.site), names);
        let age = |(since_ns, _): &(u64, u64)| time_ns.saturating_sub(*since_ns);
        let held = self.taken.first().zip(self.taken.last()).map(|(first, last)| (first.0, last.0));
        let taken_ns = [held, self.given_back.taken_ns];
        let first_ns = taken_ns.iter().flatten().map(|(first, _)| *first).min().unwrap_or_default();
        let last_ns = taken_ns.iter().flatten().map(|(_, last)| *last).max().unwrap_or_default();
        let taken_over_ns = last_ns.saturating_sub(first_ns);
        let quarter_ns = (taken_over_ns / 4).max(1);
        let (mut outlasting, mut outlasting_slots) = ([0; 4], 0);
        for taken in self.taken.iter().filter(|taken| age(taken) > self.given_back.longest_ns) {
            let (since_ns, slots) = *taken;
            outlasting[((since_ns.saturating_sub(first_ns) / quarter_ns) as usize).min(3)] += 1;
            outlasting_slots += slots;
        }
        HolderRow {
            device: named.device,
            driver: named.driver,
            call_site: named.call_site,
            module: named.module,
            buffers: self.taken.len() as u64,
            slots: self.slots,
            longest_ns: self.taken.first().map_or(0, age),
            median_ns: self.taken.get(self.taken.len() / 2).map_or(0, age),
            given_back: self.given_back.count,
            longest_given_back_ns: self.given_back.longest_ns,
            taken_over_ns,
            outlasting,
            outlasting_slots,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Devices;
    use crate::objects::Objects;
    use crate::site::Symbols;

    const SECOND: u64 = 1_000_000_000;

    fn who(since_ns: u64, site: u32) -> Who {
        Who { since_ns, device: Identity(0), site: SiteId(site) }
    }

    fn at_end(turnover: Turnover, held: &[(Who, u64)]) -> Vec<HolderRow> {
        let names = Names { devices: &Devices::default(), objects: &Objects::default(), symbols: &Symbols::new() };
        let ([_, at_end], _) = turnover.finish(held.iter().copied(), 0, [(0, 0), (40 * SECOND, 0)], names);
        at_end.rows
    }

    #[test]
    fn a_leak_is_told_from_what_a_driver_keeps_and_from_a_ring() {
        // One buffer of a hundred is forgotten, all the time.
        let mut turnover = Turnover::default();
        for second in 0..40 {
            turnover.give_back(who(second * SECOND, 1), 1, second * SECOND + 1000);
        }
        let leaked: Vec<_> = (0..40).map(|second| (who(second * SECOND + 500, 1), 1)).collect();
        let rows = at_end(turnover, &leaked);
        assert_eq!((rows[0].buffers, rows[0].outlasting, rows[0].given_back), (40, [10; 4], 40));
        assert!(rows[0].is_leak());
        assert_eq!(rows[0].leaking_slots(), 40);

        let kept: Vec<_> = (0..64).map(|n| (who(n, 1), 1)).collect();
        assert!(!at_end(Turnover::default(), &kept)[0].is_leak(), "mapped when the driver started");

        // A ring of 40 buffers, of which one is given back a second.
        let mut turnover = Turnover::default();
        turnover.give_back(who(0, 1), 1, 40 * SECOND);
        let ring: Vec<_> = (1..40).map(|second| (who(second * SECOND, 1), 1)).collect();
        assert_eq!(at_end(turnover, &ring)[0].outlasting, [0; 4]);
    }

    #[test]
    fn rows_have_most_slots_first_and_their_ages() {
        let held = [(who(10 * SECOND, 1), 1), (who(20 * SECOND, 1), 2), (who(39 * SECOND, 1), 1), (who(0, 2), 8)];
        let rows = at_end(Turnover::default(), &held);
        let ages: Vec<_> =
            rows.iter().map(|row| (row.slots, row.longest_ns / SECOND, row.median_ns / SECOND)).collect();
        assert_eq!(ages, [(8, 40, 40), (4, 30, 20)]);
    }

    #[test]
    fn slots_are_counted_by_age_and_those_of_before_are_as_old_as_the_recording() {
        let names = Names { devices: &Devices::default(), objects: &Objects::default(), symbols: &Symbols::new() };
        let held = [(who(99 * SECOND, 1), 1), (who(98 * SECOND, 1), 2), (who(30 * SECOND, 2), 4)];
        let ends = [(0, 0), (100 * SECOND - 1, 15)];
        let ([_, at_end], _) = Turnover::default().finish(held.into_iter(), 0, ends, names);
        assert_eq!((at_end.slots_by_age, at_end.older_slots()), ([1, 2, 0, 4 + 8, 0, 0], 8));
        assert_eq!(at_end.longest_ns(), 70 * SECOND - 1);
    }

    #[test]
    fn who_held_the_peak_is_kept_until_there_is_a_higher_one() {
        let mut turnover = Turnover::default();
        turnover.keep_peak([(who(1, 7), 3)].into_iter());
        let names = Names { devices: &Devices::default(), objects: &Objects::default(), symbols: &Symbols::new() };
        let ([peak, at_end], _) = turnover.finish(std::iter::empty(), 0, [(5, 3), (9, 0)], names);
        assert_eq!((peak.time_ns, peak.rows[0].slots, peak.rows[0].longest_ns), (5, 3, 4));
        assert!(at_end.rows.is_empty());
    }

    fn times(turnover: Turnover, held: &[(Who, u64)]) -> HeldTimes {
        let names = Names { devices: &Devices::default(), objects: &Objects::default(), symbols: &Symbols::new() };
        turnover.finish(held.iter().copied(), 0, [(0, 0), (40 * SECOND, 0)], names).1
    }

    #[test]
    fn times_are_of_what_was_given_back_and_who_held_most_for_longest_is_first() {
        let mut turnover = Turnover::default();
        for n in 1..=100 {
            turnover.give_back(who(SECOND, 1), 1, SECOND + n * 1_000_000);
        }
        turnover.give_back(who(0, 2), 8, SECOND);
        let times = times(turnover, &[(who(0, 1), 1), (who(5, 1), 2), (who(5, 3), 1)]);
        let figures: Vec<_> =
            times.rows.iter().map(|row| (row.given_back, row.longest_ns, row.still_held, row.is_censored())).collect();
        assert_eq!(figures, [(1, SECOND, 0, false), (100, 100_000_000, 2, false)]);
        let row = &times.rows[1];
        for (found, exact) in [(row.median_ns, 50e6), (row.p90_ns, 90e6), (row.p99_ns, 99e6)] {
            assert!((found as f64 / exact - 1.0).abs() < 0.032, "{found}");
        }
        assert_eq!(times.left_out, 0);
    }

    #[test]
    fn where_a_tenth_still_holds_its_slots_times_are_of_the_others_alone() {
        let row = |given_back: u64, still_held: u64| {
            let mut turnover = Turnover::default();
            (0..given_back).for_each(|n| turnover.give_back(who(n, 1), 1, n + 100));
            let held: Vec<_> = (0..still_held).map(|n| (who(n, 1), 1)).collect();
            times(turnover, &held).rows.remove(0)
        };
        assert!(!row(91, 9).is_censored());
        assert!(row(90, 10).is_censored() && row(1, 1).is_censored());
        assert!(!row(1, 0).is_censored());
        assert_eq!(row(90, 10).longest_ns, 100, "those that are held count in no time");
    }

    #[test]
    fn of_more_call_sites_than_are_kept_apart_buffers_are_counted() {
        let mut turnover = Turnover::default();
        for site in 0..MOST_KEPT as u32 + 10 {
            turnover.give_back(who(0, site), 1, 5);
        }
        let times = times(turnover, &[]);
        assert_eq!((times.rows.len(), times.left_out), (MOST_TIMED, (MOST_KEPT - MOST_TIMED) as u64 + 10));
    }

    /// For how long the kernel's own records say that slots were taken, in order, ns.
    fn recorded_times(capture: &[u8]) -> Vec<u64> {
        use bouncescope_capture::event::{MAPPING_ERROR, What};
        use bouncescope_capture::stream::{Item, Source as _};
        let mut reader = bouncescope_capture::Reader::new(capture).unwrap();
        let mut taken = HashMap::new();
        let mut times = Vec::new();
        while let Some(item) = reader.next_item().unwrap() {
            let Item::Events(batch) = item else { continue };
            for event in &batch.events {
                match event.what {
                    What::SlotMap { slot, .. } if slot != MAPPING_ERROR => drop(taken.insert(slot, event.time_ns)),
                    What::SlotUnmap { slot, .. } => {
                        times.extend(taken.remove(&slot).map(|since| event.time_ns - since));
                    }
                    _ => {}
                }
            }
        }
        times.sort_unstable();
        times
    }

    #[test]
    fn who_holds_slots_is_the_same_whether_anything_else_is_asked_for_or_not() {
        let captures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../captures");
        let mut held_any = 0;
        for entry in std::fs::read_dir(captures).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "bounce") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let held = |verdict| {
                let wanted = |_: &_| crate::Wanted { holders: true, verdict, ..crate::Wanted::default() };
                crate::replay(&mut bouncescope_capture::Reader::new(&bytes[..]).unwrap(), wanted).unwrap().held.unwrap()
            };
            let [alone, beside] = [false, true].map(held);
            assert_eq!(alone, beside, "{}", path.display());
            held_any += usize::from(!alone.times.rows.is_empty());
        }
        assert!(held_any >= 5, "{held_any}");
    }

    /// `hold 300` submits requests one after the other, sleeps for 1.2 s, and then cancels them one after the other.
    #[test]
    fn buffers_of_a_known_workload_were_held_for_as_long_as_it_held_them() {
        for (capture, held) in [
            (&include_bytes!("../../../captures/6.12-full-hold-300.bounce")[..], 256),
            (include_bytes!("../../../captures/7.3-direct-hold-300.bounce"), 300),
        ] {
            let wanted = |_: &_| crate::Wanted { holders: true, ..crate::Wanted::default() };
            let replayed = crate::replay(&mut bouncescope_capture::Reader::new(capture).unwrap(), wanted).unwrap();
            let times = replayed.held.unwrap().times;
            let [row] = &times.rows[..] else { panic!("{times:#?}") };
            assert!(row.call_site.starts_with("proc_do_submiturb+") && row.driver == "xhci_hcd", "{row:?}");
            assert_eq!((row.given_back, row.still_held, times.left_out), (held, 0, 0));
            let recorded = recorded_times(capture);
            let missed = held - recorded.len() as u64;
            assert!(missed <= 2, "{missed}: some releases are known by the unmapping alone");
            assert!(recorded[0] >= 1_200_000_000, "{}", recorded[0]);
            for (percent, found) in [(50, row.median_ns), (90, row.p90_ns), (99, row.p99_ns), (100, row.longest_ns)] {
                let exact = recorded[(recorded.len() * percent).div_ceil(100) - 1];
                assert!((found as f64 / exact as f64 - 1.0).abs() < 0.033, "{percent} %: {found} for {exact}");
            }
        }
    }
}
