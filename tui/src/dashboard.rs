//! The dashboard: state, where it comes from, the latest answer. It does what keys ask for and says when something has to be drawn
//! or asked anew; it knows no terminal.

mod asking;
mod saving;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossterm::event::Event;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::sync::mpsc::UnboundedSender;
use tracer::stream::Item;

use crate::answer::Answer;
use crate::engine::{Answered, Engine};
use crate::feed::Feed;
use crate::history::History;
use crate::hit::Hit;
use crate::recorder::{Recorder, write_window};
use crate::state::State;
use crate::state::time::TimeLine;
use crate::theme::Theme;
use crate::update::{self, Known, Request};
use crate::view::{self, Seen};
use asking::Asking;

/// What threads tell.
pub enum Told {
    /// An answer.
    Answered(Answered),
    /// A window of a capture was written, or why not.
    Written(String),
}

/// What is to be done with the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    GoOn,
    /// Draw everything anew.
    Redraw,
    /// Stop the program until it is continued.
    Suspend,
    /// Leave.
    Quit,
}

/// The dashboard.
pub struct Dashboard {
    /// What is shown.
    pub state: State,
    feed: Feed,
    theme: Theme,
    engine: Engine,
    tell: UnboundedSender<Told>,
    answer: Option<Box<Answer>>,
    asking: Asking,
    hits: Vec<Hit>,
    /// Cells of the latest drawing.
    area: Rect,
    recorder: Option<Recorder>,
    /// Something changed since the latest drawing.
    pub is_dirty: bool,
}

impl Dashboard {
    /// Of a feed that comes from `source`. What its threads tell has to be handed to [`Self::told`].
    pub fn new(source: String, feed: Feed, theme: Theme, tell: UnboundedSender<Told>) -> io::Result<Self> {
        let time = if matches!(feed, Feed::Live(_)) { TimeLine::live() } else { TimeLine::default() };
        let teller = tell.clone();
        let engine = Engine::start(move |answered| drop(teller.send(Told::Answered(answered))))?;
        let mut dashboard = Self {
            state: State::new(source, time),
            feed,
            theme,
            engine,
            tell,
            answer: None,
            asking: Asking::default(),
            hits: Vec::new(),
            area: Rect::default(),
            recorder: None,
            is_dirty: true,
        };
        dashboard.reach();
        Ok(dashboard)
    }

    /// Takes in what came from the terminal.
    pub fn event(&mut self, event: &Event) -> Next {
        self.is_dirty = true;
        let (state, answer, hits) = (&mut self.state, self.answer.as_deref(), &self.hits);
        let request = self.feed.with_history(|history| update::event(state, event, &Known { history, answer, hits }));
        let Some(request) = request else { return Next::GoOn };
        match request {
            Request::Quit => return Next::Quit,
            Request::Suspend => return Next::Suspend,
            Request::Redraw => return Next::Redraw,
            Request::Save(format) => self.state.message = Some(saving::save(self, format)),
            Request::Record => self.record(),
        }
        Next::GoOn
    }

    /// Takes in items of a live stream.
    pub fn take(&mut self, items: Vec<Item>) {
        for item in items {
            let item = Arc::new(item);
            if let Some(recorder) = &self.recorder {
                recorder.take(&item);
            }
            self.feed.take(item);
        }
        self.is_dirty = true;
    }

    /// The live stream ended, and why.
    pub fn ended(&mut self, why: String) {
        self.state.failed = Some(why);
        self.is_dirty = true;
    }

    /// Takes in what a thread tells.
    pub fn told(&mut self, told: Told) {
        self.is_dirty = true;
        match told {
            Told::Answered((answer, took)) => {
                self.asking.answered(Instant::now(), took);
                match answer {
                    Ok(answer) => self.answer = Some(answer),
                    Err(why) => self.state.message = Some(why),
                }
            }
            Told::Written(said) => self.state.message = Some(said),
        }
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, ns: u64) {
        let moved = self.state.time.pass(ns);
        let before = (self.state.time.last_ns, self.state.read);
        self.reach();
        self.is_dirty |= moved || before != (self.state.time.last_ns, self.state.read);
    }

    fn reach(&mut self) {
        self.feed.reach(&mut self.state.time);
        self.state.read = self.feed.progress();
        if self.state.failed.is_none() {
            self.state.failed = self.feed.failed();
        }
    }

    /// Asks for a replay, if what is seen is not what the latest one was about, and it is time.
    pub fn ask(&mut self) {
        let question = self.state.question();
        // A beginning alone is nothing to replay.
        let has_passed = self.state.time.last_ns > self.state.time.first_ns;
        let has_begun = has_passed && self.feed.with_history(History::has_begun);
        if has_begun && self.asking.is_due(&question, self.is_moving(), Instant::now()) {
            self.engine.ask(question.clone(), self.feed.material(&question));
            self.asking.asked(question, Instant::now());
        }
        let computing = self.asking.is_under_way();
        self.is_dirty |= computing != self.state.computing;
        self.state.computing = computing;
    }

    /// The window moves by itself.
    fn is_moving(&self) -> bool {
        self.state.is_live() && !self.state.time.is_paused() || self.state.time.is_playing || self.state.read < 1.0
    }

    /// Draws it.
    pub fn draw(&mut self, area: Rect, buffer: &mut Buffer) {
        self.area = area;
        self.hits = self.drawn(area, buffer);
        self.is_dirty = false;
    }

    fn drawn(&self, area: Rect, buffer: &mut Buffer) -> Vec<Hit> {
        self.feed.with_history(|history| {
            let seen = Seen { state: &self.state, history, answer: self.answer.as_deref(), theme: self.theme };
            view::draw(&seen, area, buffer)
        })
    }

    /// Records what is seen: of a capture the window, of a live stream what comes until this is asked for again.
    fn record(&mut self) {
        if let Some(said) = self.stop_recording() {
            self.state.message = Some(said);
            return;
        }
        let path = saving::free_name("top", "bounce");
        match &self.feed {
            Feed::Live(_) => match self.feed.with_history(|history| Recorder::start(path.clone(), history)) {
                Ok(recorder) => {
                    self.state.recording = Some(path.display().to_string());
                    self.recorder = Some(recorder);
                }
                Err(error) => self.state.message = Some(error.to_string()),
            },
            Feed::Capture(recording) => {
                let (from_ns, to_ns) = self.state.time.window();
                let (recording, tell) = (Arc::clone(recording), self.tell.clone());
                self.state.message = Some(format!("writing {}", path.display()));
                let write = move || {
                    let window = recording.window(from_ns, to_ns).map_err(Into::into);
                    let written = window.and_then(|window| write_window(&path, window));
                    tell.send(Told::Written(saving::said(&path, &written))).ok();
                };
                if let Err(error) = thread::Builder::new().name("capture".into()).spawn(write) {
                    self.state.message = Some(error.to_string());
                }
            }
        }
    }

    /// Ends a recording of a live stream; what is to be said of it.
    pub fn stop_recording(&mut self) -> Option<String> {
        let recorder = self.recorder.take()?;
        self.state.recording = None;
        let path = recorder.path.clone();
        let written = recorder.stop(self.state.time.last_ns);
        Some(saving::said(&path, &written))
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::recording::{Bytes, Recording};

    const CAPTURE: &[u8] = include_bytes!("../../captures/default.bounce");

    fn dashboard(feed: Feed) -> (Dashboard, UnboundedReceiver<Told>) {
        let (tell, told) = unbounded_channel();
        (Dashboard::new("x".into(), feed, Theme::default(), tell).unwrap(), told)
    }

    fn press(dashboard: &mut Dashboard, code: KeyCode) -> Next {
        dashboard.event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    fn shown(dashboard: &mut Dashboard) -> String {
        let area = Rect::new(0, 0, 120, 40);
        let mut buffer = Buffer::empty(area);
        dashboard.draw(area, &mut buffer);
        view::text(&buffer)
    }

    #[test]
    fn a_setting_that_is_turned_is_replayed_and_shown_and_then_nothing_is_left_to_do() {
        let (mut dashboard, mut told) = dashboard(Feed::Capture(Recording::read(Bytes::Static(CAPTURE)).unwrap()));
        for code in [KeyCode::Char('4'), KeyCode::Down, KeyCode::Right, KeyCode::Right] {
            press(&mut dashboard, code);
        }
        dashboard.ask();
        assert!(shown(&mut dashboard).contains("replaying"));
        dashboard.told(told.blocking_recv().unwrap());
        dashboard.ask();
        assert!(shown(&mut dashboard).contains("bounces        474  596 real"), "{}", shown(&mut dashboard));
        dashboard.pass(1_000_000_000);
        dashboard.ask();
        assert!(!dashboard.is_dirty, "nothing has changed");
    }

    #[test]
    fn a_live_stream_is_shown_as_it_flows_until_it_ends() {
        let (mut dashboard, mut told) = dashboard(Feed::live());
        let mut source = tracer::capture::Reader::new(CAPTURE).unwrap();
        while let Ok(Some(item)) = tracer::stream::Source::next_item(&mut source) {
            dashboard.take(vec![item]);
        }
        dashboard.pass(0);
        dashboard.ask();
        dashboard.told(told.blocking_recv().unwrap());
        press(&mut dashboard, KeyCode::Char('2'));
        assert!(shown(&mut dashboard).contains("xhci_hcd"));
        dashboard.ended("tracing failed: of all things".into());
        press(&mut dashboard, KeyCode::Char('1'));
        assert!(shown(&mut dashboard).contains("tracing failed: of all things"));
        assert_eq!(press(&mut dashboard, KeyCode::Char('q')), Next::Quit);
    }
}
