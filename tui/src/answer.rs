//! A question about a window of time, and what a replay of it answers.

use std::collections::HashSet;
use std::sync::Arc;

use tracer::check::Gauge;
use tracer::event::DeviceId;
use tracer::facts::Device;
use tracer::replay::holders::SlotHolders;
use tracer::replay::outcome::Outcome;
use tracer::replay::{ReplayError, Replayed, Wanted, proposals};
use tracer::report::answer::{Verdict, verdict};
use tracer::stream::{Gaps, Item, Source};
use tracer::sweep::sweep;

use crate::what_if::Knobs;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The window, ns.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
    /// The settings.
    pub knobs: Knobs,
    /// A device of which details are shown.
    pub device: Option<String>,
    /// Who holds slots at the window's end is shown.
    pub holders: bool,
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    /// To what.
    pub question: Question,
    /// The replay; its first outcome is that of the chosen settings.
    pub replayed: Replayed,
    /// The same of the device alone.
    pub device: Option<Replayed>,
    /// Who holds slots at the window's end, of everything since the beginning.
    pub held: Option<SlotHolders>,
    /// Whether mappings are refused under the chosen settings, and the sentence that says so.
    pub verdict: (Verdict, String),
}

impl Answer {
    /// Replays what `open` gives, each time anew, as often as the question needs it.
    pub fn new<S: Source>(
        question: Question,
        mut open: impl FnMut() -> Result<S, S::Error>,
    ) -> Result<Self, ReplayError<S::Error>> {
        let mut source = || open().map_err(ReplayError::Source);
        let packed = if question.knobs.packs() {
            let before = sweep(&mut source()?, |_| Wanted::default())?;
            proposals::packed_sites(&before)
        } else {
            Arc::<HashSet<u64>>::default()
        };
        let knobs = question.knobs.clone();
        let replayed = sweep(&mut source()?, |start| Wanted {
            settings: knobs.settings(&start.kernel, &packed),
            statistics: true,
            overlaps: true,
            ..Wanted::default()
        })?;
        let device = match &question.device {
            Some(name) => {
                let mut alone = Alone { source: source()?, name: name.clone(), ids: HashSet::new() };
                Some(sweep(&mut alone, |start| Wanted {
                    settings: knobs.settings(&start.kernel, &packed).into_iter().take(1).collect(),
                    statistics: true,
                    ..Wanted::default()
                })?)
            }
            None => None,
        };
        let verdict = verdict(&replayed, 0, &Gauge::new(&replayed));
        Ok(Self { question, replayed, device, held: None, verdict })
    }

    /// What comes of the chosen settings.
    pub fn chosen(&self) -> Option<&Outcome> {
        self.replayed.outcomes.first()
    }

    /// Length of the window, s; never 0.
    pub fn seconds(&self) -> f64 {
        (self.replayed.span_ns as f64 / 1e9).max(1e-9)
    }
}

/// A source of which only one device's mappings are left.
struct Alone<S> {
    source: S,
    name: String,
    ids: HashSet<DeviceId>,
}

impl<S: Source> Source for Alone<S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        let mut item = self.source.next_item()?;
        match &mut item {
            Some(Item::Device(Device { id, name, .. })) if *name == self.name => {
                self.ids.insert(*id);
            }
            Some(Item::Events(batch)) => {
                batch.events.retain(|event| event.what.device().is_none_or(|id| self.ids.contains(&id)));
            }
            _ => {}
        }
        Ok(item)
    }

    fn gaps(&self) -> Gaps {
        self.source.gaps()
    }
}
