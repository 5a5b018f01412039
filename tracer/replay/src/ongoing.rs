//! A replay that can be asked before its stream is over: for what is shown while a kernel is traced.
//!
//! The kernel's own counts and the records that have come by then are never of one moment: the counts are older than some records,
//! and younger than those that still wait in a ring. Only what must hold between two readings of the counters is compared.

mod records;

use super::bounds;
use super::pass::Pass;
use super::run::Run;
use super::{Replayed, Wanted};
use bouncescope_capture::facts::End;
use bouncescope_capture::stream::{Item, Start};
use records::Records;

/// A pass and its simulated kernels, all driven by one thread.
#[derive(Clone, Debug)]
pub struct Ongoing {
    pass: Pass,
    runs: Vec<Run>,
    records: Records,
}

impl Ongoing {
    /// Over a stream that begins so.
    pub fn new(mut start: Start, wanted: Wanted) -> Self {
        bounds::start(&mut start);
        let mut pass = Pass::new(start, wanted);
        let runs = pass.runs();
        Self { pass, runs, records: Records::default() }
    }

    /// Takes in an item.
    pub fn take(&mut self, item: Item) {
        self.records.take(&item);
        let runs = &mut self.runs;
        self.pass.item(item, &mut |steps, devices| runs.iter_mut().for_each(|run| run.steps(&steps, devices)));
    }

    /// What has come of it so far, as if the stream ended so; but the time for which the pools were nearly full ends with the last
    /// record, so that it never becomes less. Copies what the replay holds: a few megabytes.
    pub fn so_far(&self, end: &End) -> Replayed {
        let nearly_full_ns = self.pass.nearly_full_ns();
        let mut replayed = self.clone().end(end);
        if let Some((held, nearly_full_ns)) = replayed.held.as_mut().zip(nearly_full_ns) {
            held.trend.nearly_full_ns = nearly_full_ns;
        }
        replayed
    }

    /// What has come of it, as if the stream ended so.
    pub fn end(mut self, end: &End) -> Replayed {
        self.take(Item::End(end.clone()));
        let Self { mut pass, mut runs, records } = self;
        pass.end(&mut |steps, devices| runs.iter_mut().for_each(|run| run.steps(&steps, devices)));
        let mut replayed = pass.finish_so_far(runs);
        replayed.verdict.problems.extend(records.problems(&replayed.counters));
        replayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay;
    use crate::settings::Settings;
    use bouncescope_capture::Reader;
    use bouncescope_capture::event::Batch;
    use bouncescope_capture::stream::Source as _;

    const CAPTURE: &[u8] = include_bytes!("../../../captures/6.12-full-hold-300.bounce");

    fn wanted(start: &Start) -> Wanted {
        Wanted { settings: vec![Settings::captured(&start.kernel)], occupancy: true, ..Wanted::default() }
    }

    #[test]
    fn asked_at_any_moment_a_replay_says_of_no_sound_recording_that_totals_disagree() {
        let wanted = |start: &Start| Wanted { verdict: true, ..wanted(start) };
        let mut reader = Reader::new(CAPTURE).unwrap();
        let mut ongoing = None;
        let mut asked = 0;
        while let Some(item) = reader.next_item().unwrap() {
            if let Item::Start(start) = item {
                ongoing = Some(Ongoing::new(start.clone(), wanted(&start)));
                continue;
            }
            let ongoing = ongoing.as_mut().unwrap();
            ongoing.take(item);
            let verdict = ongoing.so_far(&End::default()).verdict;
            assert!(verdict.agrees(), "{:?}", verdict.problems);
            asked += 1;
        }
        assert!(asked > 10, "{asked}");
    }

    #[test]
    fn the_time_that_a_pool_was_nearly_full_never_becomes_less() {
        let wanted = |_: &Start| Wanted { holders: true, ..Wanted::default() };
        let whole = replay(&mut Reader::new(CAPTURE).unwrap(), wanted).unwrap();
        let mut reader = Reader::new(CAPTURE).unwrap();
        let mut ongoing = None;
        let mut before = 0;
        let far = End { time_ns: whole.end.as_ref().unwrap().time_ns + 1_000_000_000, ..End::default() };
        let trend = |ongoing: &Ongoing, end| ongoing.so_far(end).held.unwrap().trend;
        while let Some(item) = reader.next_item().unwrap() {
            let Item::Events(batch) = item else {
                match item {
                    Item::Start(start) => ongoing = Some(Ongoing::new(start.clone(), wanted(&start))),
                    other => ongoing.as_mut().unwrap().take(other),
                }
                continue;
            };
            let ongoing = ongoing.as_mut().unwrap();
            for events in batch.events.chunks(32) {
                let segments = batch.segments.clone();
                ongoing.take(Item::Events(Batch { events: events.to_vec(), segments }));
                let now = trend(ongoing, &far).nearly_full_ns;
                assert!(now >= before, "{now} after {before}");
                before = now;
            }
        }
        assert!(before > 0);
        let end = whole.end.as_ref().unwrap();
        assert_eq!(trend(&ongoing.unwrap(), end), whole.held.unwrap().trend, "in the end all of it counts");
    }

    #[test]
    fn asking_on_the_way_changes_nothing_and_the_end_is_that_of_a_replay() {
        let whole = replay(&mut Reader::new(CAPTURE).unwrap(), wanted).unwrap();
        let mut reader = Reader::new(CAPTURE).unwrap();
        let mut ongoing = None;
        let mut before = 0;
        while let Some(item) = reader.next_item().unwrap() {
            if let Item::Start(start) = item {
                ongoing = Some(Ongoing::new(start.clone(), wanted(&start)));
                continue;
            }
            let ongoing = ongoing.as_mut().unwrap();
            ongoing.take(item);
            let bounces = ongoing.so_far(&End::default()).outcomes[0].total.bounces;
            assert!(bounces >= before, "{bounces} after {before}");
            before = bounces;
        }
        let outcomes = ongoing.unwrap().so_far(whole.end.as_ref().unwrap()).outcomes;
        assert_eq!(outcomes, whole.outcomes);
        let occupancy = outcomes[0].occupancy.as_ref().unwrap();
        assert_eq!(occupancy.peaks.iter().max(), Some(&outcomes[0].peak_slots), "the curve reaches the peak");
    }
}
