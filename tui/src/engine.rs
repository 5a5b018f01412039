//! A thread that answers questions, the latest first: a question that is no longer wanted is given up.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracer::replay::{ReplayError, Wanted};
use tracer::stream::{Gaps, Item, Source, Start};
use tracer::sweep::sweep;

use crate::answer::{Answer, Question};
use crate::recent::Kept;
use crate::recording::Recording;

/// What is replayed.
#[derive(Clone, Debug)]
pub enum Material {
    /// A window of a capture.
    Recording(Arc<Recording>),
    /// A window of a live stream.
    Kept(Kept),
}

impl Material {
    /// Replays the window that the question is about, while `wanted` says so.
    pub fn answer(&self, question: Question, wanted: impl Fn() -> bool + Clone) -> Result<Answer, String> {
        let (from_ns, to_ns) = (question.from_ns, question.to_ns);
        let still_wanted = wanted.clone();
        match self {
            Self::Recording(recording) => Answer::new(question, || {
                Ok(WhileWanted { source: recording.window(from_ns, to_ns)?, wanted: wanted.clone() })
            })
            .and_then(|mut answer| {
                if answer.question.holders {
                    let source = recording.window(0, to_ns).map_err(ReplayError::Source)?;
                    let wanted = |_: &Start| Wanted { holders: true, ..Wanted::default() };
                    answer.held = sweep(&mut WhileWanted { source, wanted: still_wanted }, wanted)?.held;
                }
                Ok(answer)
            })
            .map_err(|error| said(&error)),
            Self::Kept(kept) => {
                let answer = Answer::new(question, || Ok(WhileWanted { source: kept.open(), wanted: wanted.clone() }));
                let held = kept.until.clone().and_then(|until| until.held(still_wanted));
                answer.map(|answer| Answer { held, ..answer }).map_err(|error| said(&error))
            }
        }
    }
}

fn said<E: std::error::Error>(error: &ReplayError<E>) -> String {
    error.to_string()
}

/// A source that ends when nobody wants it any more.
struct WhileWanted<S, W> {
    source: S,
    wanted: W,
}

impl<S: Source, W: Fn() -> bool> Source for WhileWanted<S, W> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        if (self.wanted)() { self.source.next_item() } else { Ok(None) }
    }

    fn gaps(&self) -> Gaps {
        self.source.gaps()
    }
}

/// An answer, or why there is none, and how long it took.
pub type Answered = (Result<Box<Answer>, String>, Duration);

/// The thread, seen from outside. It ends when this is dropped.
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: Mutex<Next>,
    changed: Condvar,
    /// Number of the latest question.
    latest: AtomicU64,
}

#[derive(Default)]
struct Next {
    job: Option<(Question, Material)>,
    is_over: bool,
}

impl Engine {
    /// Starts the thread; answers go to `tell`.
    pub fn start(tell: impl Fn(Answered) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        thread::Builder::new().name("replay".into()).spawn(move || mine.answer_all(tell))?;
        Ok(Self { shared })
    }

    /// Asks. What was asked before and is not answered yet never will be.
    pub fn ask(&self, question: Question, material: Material) {
        self.shared.latest.fetch_add(1, Ordering::AcqRel);
        self.shared.change(|next| next.job = Some((question, material)));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.latest.fetch_add(1, Ordering::AcqRel);
        self.shared.change(|next| next.is_over = true);
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Next)) {
        change(&mut self.next.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// The next job and its number; `None` when it is over.
    fn next(&self) -> Option<(Question, Material, u64)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if next.is_over {
                return None;
            }
            if let Some((question, material)) = next.job.take() {
                return Some((question, material, self.latest.load(Ordering::Acquire)));
            }
            next = self.changed.wait(next).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn answer_all(&self, tell: impl Fn(Answered)) {
        while let Some((question, material, number)) = self.next() {
            let is_wanted = || self.latest.load(Ordering::Acquire) == number;
            let began = Instant::now();
            let answer = material.answer(question, is_wanted);
            if is_wanted() {
                tell((answer.map(Box::new), began.elapsed()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tracer::capture::Reader;
    use tracer::replay::{self, Wanted};

    use super::*;
    use crate::recording::Bytes;

    const CAPTURE: &[u8] = include_bytes!("../../captures/default.bounce");

    fn whole(recording: &Recording) -> Question {
        let known = recording.known();
        Question { from_ns: known.history.first_ns(), to_ns: known.history.now_ns(), ..Question::default() }
    }

    #[test]
    fn the_answer_about_a_whole_capture_is_what_a_replay_gives() {
        let recording = Recording::read(Bytes::Static(CAPTURE)).unwrap();
        let question = whole(&recording);
        let answer = Material::Recording(recording).answer(question.clone(), || true).unwrap();
        let expected = replay::replay(&mut Reader::new(CAPTURE).unwrap(), |start| Wanted {
            settings: question.knobs.settings(&start.kernel, &Arc::default()),
            overlaps: true,
            ..Wanted::default()
        })
        .unwrap();
        assert!(expected.outcomes[0].total.bounces > 0);
        assert_eq!(answer.replayed.outcomes, expected.outcomes);
    }

    #[test]
    fn the_details_of_a_device_are_its_part_of_the_whole() {
        let recording = Recording::read(Bytes::Static(CAPTURE)).unwrap();
        let device = Some("0000:00:04.0".to_owned());
        let question = Question { device, ..whole(&recording) };
        let answer = Material::Recording(recording).answer(question, || true).unwrap();
        let alone = answer.device.unwrap();
        let row = |rows: &replay::outcome::Rows| {
            rows.by_device.iter().find(|row| row.device == "0000:00:04.0").map(|row| row.tally)
        };
        assert_eq!(alone.observed_rows.by_device.len(), 1);
        assert_eq!(row(&alone.observed_rows), row(&answer.replayed.observed_rows));
        assert_eq!(row(&alone.outcomes[0].rows), row(&answer.replayed.outcomes[0].rows));
    }

    #[test]
    fn who_holds_slots_is_counted_from_the_beginning_whatever_the_window_is() {
        let leak: &[u8] = include_bytes!("../../tests/leak.bounce");
        let recording = Recording::read(Bytes::Static(leak)).unwrap();
        let all = Question { holders: true, ..whole(&recording) };
        let late = Question { from_ns: all.to_ns - 1_000_000, ..all.clone() };
        for question in [all, late] {
            let answer = Material::Recording(Arc::clone(&recording)).answer(question, || true).unwrap();
            let held = answer.held.unwrap();
            assert_eq!((held.at_end.rows[0].buffers, held.at_end.leaking_slots(), held.trend.rise), (24, 24, 24));
        }
        let not_asked = whole(&recording);
        assert!(Material::Recording(recording).answer(not_asked, || true).unwrap().held.is_none());
    }

    #[test]
    fn the_latest_question_is_answered() {
        let recording = Recording::read(Bytes::Static(CAPTURE)).unwrap();
        let (sender, answers) = channel();
        let engine = Engine::start(move |answered| sender.send(answered).unwrap()).unwrap();
        let mut question = whole(&recording);
        for _ in 0..3 {
            question.knobs.turn(crate::what_if::Knob::Line, true, &tracer::facts::KernelFacts::default());
            engine.ask(question.clone(), Material::Recording(Arc::clone(&recording)));
        }
        let last = loop {
            let answer = answers.recv().unwrap().0.unwrap();
            if answer.question == question {
                break answer;
            }
        };
        assert_eq!(last.chosen().map(|outcome| outcome.cache_line_size), question.knobs.line);
    }
}
