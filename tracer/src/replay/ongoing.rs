//! A replay that can be asked before its stream is over: for what is shown while a kernel is traced.

use super::bounds;
use super::pass::Pass;
use super::run::Run;
use super::{Replayed, Wanted};
use crate::facts::End;
use crate::stream::{Gaps, Item, Start};

/// A pass and its simulated kernels, all driven by one thread.
#[derive(Clone, Debug)]
pub struct Ongoing {
    pass: Pass,
    runs: Vec<Run>,
}

impl Ongoing {
    /// Over a stream that begins so.
    pub fn new(mut start: Start, wanted: Wanted) -> Self {
        bounds::start(&mut start);
        let mut pass = Pass::new(start, wanted);
        let runs = pass.runs();
        Self { pass, runs }
    }

    /// Takes in an item.
    pub fn take(&mut self, item: Item) {
        let runs = &mut self.runs;
        self.pass.item(item, &mut |steps, devices| runs.iter_mut().for_each(|run| run.steps(&steps, devices)));
    }

    /// What has come of it so far, as if the stream ended so. Copies what the replay holds: a few megabytes.
    pub fn so_far(&self, end: &End) -> Replayed {
        let mut copy = self.clone();
        copy.take(Item::End(end.clone()));
        let Self { mut pass, mut runs } = copy;
        pass.end(&mut |steps, devices| runs.iter_mut().for_each(|run| run.steps(&steps, devices)));
        pass.finish(runs, Gaps::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Reader;
    use crate::replay::replay;
    use crate::replay::settings::Settings;
    use crate::stream::Source as _;

    const CAPTURE: &[u8] = include_bytes!("../../../captures/6.12-full-hold-300.bounce");

    fn wanted(start: &Start) -> Wanted {
        Wanted { settings: vec![Settings::captured(&start.kernel)], occupancy: true, ..Wanted::default() }
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
            let bounces = ongoing.so_far(&End::default()).outcomes[0].bounces;
            assert!(bounces >= before, "{bounces} after {before}");
            before = bounces;
        }
        let outcomes = ongoing.unwrap().so_far(whole.end.as_ref().unwrap()).outcomes;
        assert_eq!(outcomes, whole.outcomes);
        let occupancy = outcomes[0].occupancy.as_ref().unwrap();
        assert_eq!(occupancy.peaks.iter().max(), Some(&outcomes[0].peak_slots), "the curve reaches the peak");
    }
}
