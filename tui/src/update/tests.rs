//! What each key does, on the bundled capture.

use std::sync::{Arc, OnceLock};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::*;
use crate::engine::Material;
use crate::recording::{Bytes, Recording};
use crate::state::time::TimeLine;
use crate::theme::Theme;
use crate::view::{Seen, draw};
use crate::what_if::Knobs;

const CAPTURE: &[u8] = include_bytes!("../../../captures/default.bounce");
const SECOND: u64 = 1_000_000_000;

struct Bench {
    state: State,
    hits: Vec<Hit>,
    recording: Arc<Recording>,
}

/// The answer about the whole capture.
fn answer(recording: &Arc<Recording>) -> &'static Answer {
    static ANSWER: OnceLock<Answer> = OnceLock::new();
    ANSWER.get_or_init(|| {
        let (from_ns, to_ns) = {
            let known = recording.known();
            (known.history.first_ns(), known.history.now_ns())
        };
        let question = crate::answer::Question { from_ns, to_ns, ..crate::answer::Question::default() };
        Material::Recording(Arc::clone(recording)).answer(question, || true).unwrap()
    })
}

impl Bench {
    fn new() -> Self {
        let recording = Recording::read(Bytes::Static(CAPTURE)).unwrap();
        let mut state = State::new("default.bounce".into(), TimeLine::default());
        crate::feed::Feed::Capture(Arc::clone(&recording)).reach(&mut state.time);
        Self { state, hits: Vec::new(), recording }
    }

    fn on(screen: Screen) -> Self {
        let mut bench = Self::new();
        bench.state.screen = screen;
        bench
    }

    fn event(&mut self, event: &Event) -> Option<Request> {
        let answer = Some(answer(&self.recording));
        let known = self.recording.known();
        super::event(&mut self.state, event, &Known { history: &known.history, answer, hits: &self.hits })
    }

    fn key(&mut self, code: KeyCode) -> Option<Request> {
        self.event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    fn control(&mut self, letter: char) -> Option<Request> {
        self.event(&Event::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL)))
    }

    fn keys(&mut self, letters: &str) -> Option<Request> {
        letters.chars().map(|letter| self.key(KeyCode::Char(letter))).last().flatten()
    }

    /// Draws, so that there is something to click on.
    fn draw(&mut self) {
        let area = Rect::new(0, 0, 120, 40);
        let answer = Some(answer(&self.recording));
        let known = self.recording.known();
        let seen = Seen { state: &self.state, history: &known.history, answer, theme: Theme::default() };
        self.hits = draw(&seen, area, &mut Buffer::empty(area));
    }

    fn click(&mut self, target: Target, part: f64) {
        self.draw();
        let area = self.hits.iter().find(|hit| hit.target == target).unwrap().area;
        let column = area.x + (part * f64::from(area.width - 1)) as u16;
        let kind = MouseEventKind::Down(MouseButton::Left);
        self.event(&Event::Mouse(MouseEvent { kind, column, row: area.y, modifiers: KeyModifiers::NONE }));
    }
}

#[test]
fn numbers_go_to_screens() {
    let mut bench = Bench::new();
    for (key, screen) in ('1'..='5').zip(Screen::ALL) {
        bench.key(KeyCode::Char(key));
        assert_eq!(bench.state.screen, screen);
    }
}

#[test]
fn tab_goes_to_the_next_screen_and_backtab_to_the_one_before() {
    let mut bench = Bench::new();
    bench.key(KeyCode::Tab);
    assert_eq!(bench.state.screen, Screen::Devices);
    bench.key(KeyCode::BackTab);
    bench.key(KeyCode::BackTab);
    assert_eq!(bench.state.screen, Screen::Pool);
}

#[test]
fn q_and_control_c_quit_wherever_one_is() {
    for screen in Screen::ALL {
        assert_eq!(Bench::on(screen).keys("q"), Some(Request::Quit));
        assert_eq!(Bench::on(screen).control('c'), Some(Request::Quit));
    }
    let mut typing = Bench::on(Screen::Devices);
    assert_eq!(typing.keys("/q"), None, "a letter of the filter");
    assert_eq!(typing.control('c'), Some(Request::Quit));
    assert_eq!(Bench::new().keys("?q"), Some(Request::Quit));
}

#[test]
fn control_z_suspends_and_control_l_draws_anew() {
    assert_eq!(Bench::new().control('z'), Some(Request::Suspend));
    assert_eq!(Bench::new().control('l'), Some(Request::Redraw));
}

#[test]
fn s_and_w_ask_for_files() {
    assert_eq!(Bench::new().keys("s"), Some(Request::Save(Format::Text)));
    assert_eq!(Bench::new().keys("S"), Some(Request::Save(Format::Svg)));
    assert_eq!(Bench::new().keys("w"), Some(Request::Record));
}

#[test]
fn help_is_closed_by_any_key_which_does_nothing_else() {
    for key in ['?', 'h'] {
        let mut bench = Bench::new();
        bench.key(KeyCode::Char(key));
        assert!(bench.state.help);
        bench.keys("2");
        assert_eq!((bench.state.help, bench.state.screen), (false, Screen::Overview));
    }
}

#[test]
fn space_plays_and_stops() {
    let mut bench = Bench::new();
    bench.keys(" ");
    assert!(bench.state.time.is_playing);
    bench.keys(" ");
    assert!(!bench.state.time.is_playing);
}

#[test]
fn plus_and_minus_change_the_speed_of_a_capture_and_not_of_what_is_live() {
    let mut bench = Bench::new();
    bench.keys("++-=");
    assert_eq!(bench.state.time.speed, 2);
    bench.state.time.is_live = true;
    bench.keys("+");
    assert_eq!(bench.state.time.speed, 2);
}

#[test]
fn t_goes_through_the_windows() {
    let mut bench = Bench::new();
    let names: Vec<&str> = (0..3)
        .map(|_| {
            bench.keys("t");
            bench.state.time.length.name()
        })
        .collect();
    assert_eq!(names, ["10 s", "1 min", "all"]);
}

#[test]
fn arrows_comma_and_dot_scrub() {
    for (back, on) in [(KeyCode::Left, KeyCode::Right), (KeyCode::Char(','), KeyCode::Char('.'))] {
        let mut bench = Bench::new();
        let last = bench.state.time.moment();
        bench.key(back);
        bench.key(back);
        let back = bench.state.time.moment();
        assert!(back < last);
        bench.key(on);
        assert!((back + 1..last).contains(&bench.state.time.moment()));
    }
}

#[test]
fn home_and_end_go_to_the_ends() {
    let mut bench = Bench::new();
    bench.key(KeyCode::Home);
    assert_eq!(bench.state.time.moment(), bench.state.time.first_ns);
    bench.key(KeyCode::End);
    assert_eq!(bench.state.time.moment(), bench.state.time.last_ns);
}

#[test]
fn p_goes_to_the_peak() {
    let mut bench = Bench::new();
    bench.keys("p");
    let known = bench.recording.known();
    assert_eq!(Some(bench.state.time.moment()), known.history.fullest().map(|(time_ns, _)| time_ns));
    assert!(bench.state.message.as_deref().is_some_and(|said| said.contains("1 slots in use")));
}

#[test]
fn n_goes_from_failure_to_failure_and_around() {
    let full: &'static [u8] = include_bytes!("../../../captures/6.12-full-hold-300.bounce");
    let mut bench = Bench { recording: Recording::read(Bytes::Static(full)).unwrap(), ..Bench::new() };
    crate::feed::Feed::Capture(Arc::clone(&bench.recording)).reach(&mut bench.state.time);
    bench.key(KeyCode::Home);
    let first = bench.recording.known().history.next_refusal(0).unwrap();
    bench.keys("n");
    assert_eq!(bench.state.time.moment(), first);
    bench.keys("n");
    let second = bench.state.time.moment();
    assert!(second > first);
    bench.key(KeyCode::End);
    bench.keys("n");
    assert_eq!(bench.state.time.moment(), first);
}

#[test]
fn n_says_so_where_nothing_failed() {
    let mut bench = Bench::new();
    bench.keys("n");
    assert_eq!(bench.state.message.as_deref(), Some("no mapping was refused"));
    bench.keys("1");
    assert_eq!(bench.state.message, None, "and no longer than until the next key");
}

#[test]
fn enter_opens_the_chosen_device_and_escape_closes_it() {
    for close in [KeyCode::Esc, KeyCode::Backspace] {
        let mut bench = Bench::on(Screen::Devices);
        bench.key(KeyCode::Down);
        bench.key(KeyCode::Enter);
        assert_eq!(bench.state.device.as_deref(), Some("0000:00:04.0"), "the one with the second most bounces");
        assert_eq!(bench.state.question().device, bench.state.device);
        bench.key(KeyCode::Down);
        assert_eq!((bench.state.device_scroll, bench.state.devices.selected), (1, 1));
        bench.key(close);
        assert_eq!(bench.state.device, None);
    }
}

#[test]
fn rows_are_chosen_by_arrows_letters_and_pages_and_no_further_than_there_are() {
    for screen in [Screen::Devices, Screen::CallSites] {
        let mut bench = Bench::on(screen);
        let selected = |bench: &Bench| match screen {
            Screen::Devices => bench.state.devices.selected,
            _ => bench.state.call_sites.selected,
        };
        bench.keys("jj");
        bench.key(KeyCode::Up);
        assert_eq!(selected(&bench), 1);
        bench.keys("k");
        bench.key(KeyCode::Down);
        assert_eq!(selected(&bench), 1);
        for _ in 0..99 {
            bench.key(KeyCode::PageDown);
        }
        let last = selected(&bench);
        assert!((3..500).contains(&last), "{last}");
        for _ in 0..99 {
            bench.key(KeyCode::PageUp);
        }
        assert_eq!(selected(&bench), 0);
    }
}

#[test]
fn a_filter_is_typed_kept_by_enter_and_cleared_by_escape() {
    let mut bench = Bench::on(Screen::Devices);
    bench.keys("/usb");
    bench.key(KeyCode::Backspace);
    bench.key(KeyCode::Backspace);
    bench.key(KeyCode::Backspace);
    bench.keys("ehci");
    assert!(bench.state.is_typing());
    bench.key(KeyCode::Enter);
    assert_eq!((bench.state.devices.filter.as_str(), bench.state.is_typing()), ("ehci", false));
    bench.key(KeyCode::Enter);
    assert_eq!(bench.state.device.as_deref(), Some("0000:00:05.0"), "the only one left");
    bench.key(KeyCode::Esc);
    bench.key(KeyCode::Esc);
    assert_eq!(bench.state.devices.filter, "");
    bench.keys("/x");
    bench.key(KeyCode::Esc);
    assert_eq!((bench.state.devices.filter.as_str(), bench.state.is_typing()), ("", false));

    let mut bench = Bench::on(Screen::CallSites);
    bench.keys("/xhci");
    assert_eq!(bench.state.call_sites.filter, "xhci");
}

#[test]
fn o_changes_the_order_and_turns_it_round() {
    let mut bench = Bench::on(Screen::Devices);
    bench.keys("oO");
    assert_eq!((bench.state.devices.order, bench.state.devices.ascending), (devices::Order::Predicted, true));
    let mut bench = Bench::on(Screen::CallSites);
    bench.keys("oO");
    assert_eq!((bench.state.call_sites.order, bench.state.call_sites.ascending), (call_sites::Order::Live, true));
}

#[test]
fn in_what_if_arrows_choose_a_setting_and_change_it() {
    let mut bench = Bench::on(Screen::WhatIf);
    let moment = bench.state.time.moment();
    bench.key(KeyCode::Down);
    assert_eq!(bench.state.knob, Knob::Line);
    bench.key(KeyCode::Right);
    bench.key(KeyCode::Right);
    bench.key(KeyCode::Enter);
    bench.key(KeyCode::Left);
    assert_eq!(bench.state.knobs.line, Some(16));
    assert_eq!(bench.state.time.moment(), moment);
    bench.key(KeyCode::Up);
    bench.key(KeyCode::Up);
    assert_eq!(bench.state.knob, Knob::Policy);
    for _ in 0..9 {
        bench.key(KeyCode::Down);
    }
    assert_eq!(bench.state.knob, Knob::WhenFull);
    bench.keys("0");
    assert_eq!((&bench.state.knobs, bench.state.knob), (&Knobs::default(), Knob::Policy));
}

#[test]
fn the_kernels_page_scrolls() {
    let mut bench = Bench::on(Screen::Kernel);
    bench.key(KeyCode::PageDown);
    bench.key(KeyCode::Up);
    assert_eq!(bench.state.kernel_scroll, 9);
}

#[test]
fn a_click_goes_to_a_screen_or_a_moment_and_chooses_rows_and_settings() {
    let mut bench = Bench::new();
    bench.click(Target::Screen(Screen::Devices), 0.5);
    assert_eq!(bench.state.screen, Screen::Devices);
    bench.click(Target::Device(2), 0.5);
    assert_eq!((bench.state.devices.selected, &bench.state.device), (2, &None));
    bench.click(Target::Device(2), 0.5);
    assert_eq!(bench.state.device.as_deref(), Some("0000:00:05.0"));
    bench.click(Target::Screen(Screen::CallSites), 0.5);
    bench.click(Target::CallSite(3), 0.5);
    assert_eq!(bench.state.call_sites.selected, 3);
    bench.click(Target::Screen(Screen::WhatIf), 0.5);
    bench.click(Target::Knob(Knob::Lists), 0.5);
    assert_eq!((bench.state.knob, bench.state.knobs.is_untouched()), (Knob::Lists, true));
    bench.click(Target::Knob(Knob::Lists), 0.5);
    assert!(bench.state.knobs.is_turned(Knob::Lists));
    bench.click(Target::Time, 0.5);
    let time = &bench.state.time;
    let middle = u64::midpoint(time.first_ns, time.last_ns);
    assert!(time.moment().abs_diff(middle) < SECOND, "{}", time.moment().abs_diff(middle));
    bench.keys("?");
    bench.click(Target::Nothing, 0.5);
    assert!(!bench.state.help);
}

#[test]
fn the_wheel_walks_through_rows() {
    let mut bench = Bench::on(Screen::CallSites);
    let wheel = |kind| Event::Mouse(MouseEvent { kind, column: 0, row: 5, modifiers: KeyModifiers::NONE });
    bench.event(&wheel(MouseEventKind::ScrollDown));
    bench.event(&wheel(MouseEventKind::ScrollDown));
    bench.event(&wheel(MouseEventKind::ScrollUp));
    assert_eq!(bench.state.call_sites.selected, 3);
}

#[test]
fn no_key_without_a_stream_does_harm() {
    let history = History::new(crate::history::Keep::Recent);
    let known = Known { history: &history, answer: None, hits: &[] };
    let mut codes: Vec<KeyCode> = (' '..='~').map(KeyCode::Char).collect();
    codes.extend([KeyCode::Up, KeyCode::Down, KeyCode::Left, KeyCode::Right, KeyCode::Enter, KeyCode::Esc]);
    codes.extend([KeyCode::Home, KeyCode::End, KeyCode::PageUp, KeyCode::PageDown, KeyCode::Tab, KeyCode::F(1)]);
    for time in [TimeLine::live(), TimeLine::default()] {
        for screen in Screen::ALL {
            let mut state = State { screen, ..State::new("x".into(), time.clone()) };
            for code in codes.iter().chain(&codes) {
                event(&mut state, &Event::Key(KeyEvent::new(*code, KeyModifiers::NONE)), &known);
                let area = Rect::new(0, 0, 80, 24);
                let seen = Seen { state: &state, history: &history, answer: None, theme: Theme::default() };
                draw(&seen, area, &mut Buffer::empty(area));
            }
        }
    }
}
