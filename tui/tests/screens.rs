//! Every screen of the bundled capture at three sizes, in colour and in ASCII without, held against `tests/screens/`.

#[path = "../../tests/golden/file.rs"]
mod golden_file;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use tracer::replay::outcome::{OverlapRow, OverlapSide};
use tracer::report::answer::Verdict;
use tui::answer::{Answer, Question};
use tui::engine::Material;
use tui::feed::Feed;
use tui::recording::{Bytes, Recording};
use tui::state::time::TimeLine;
use tui::state::{Screen, State};
use tui::theme::{Depth, Theme};
use tui::view::{Seen, draw, text};

const CAPTURE: &[u8] = include_bytes!("../../captures/default.bounce");
const LEAK: &[u8] = include_bytes!("../../tests/leak.bounce");
const FORCE: &[u8] = include_bytes!("../../captures/6.12-force-mixed.bounce");
const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];
const COLOR: Theme = Theme { depth: Depth::True, ascii: false };
const ASCII: Theme = Theme { depth: Depth::None, ascii: true };

struct Bench {
    feed: Feed,
    answer: Answer,
}

impl Bench {
    fn new() -> Self {
        Self::of(CAPTURE)
    }

    fn of(capture: &'static [u8]) -> Self {
        let recording = Recording::read(Bytes::Static(capture)).unwrap();
        let feed = Feed::Capture(Arc::clone(&recording));
        let mut state = Self::state(&feed);
        state.screen = Screen::Devices;
        state.device = Some("0000:00:04.0".into());
        let question = Question { holders: true, ..state.question() };
        let answer = Material::Recording(recording).answer(question, || true).unwrap();
        Self { feed, answer }
    }

    fn state(feed: &Feed) -> State {
        let mut state = State::new("default.bounce".into(), TimeLine::default());
        feed.reach(&mut state.time);
        state
    }

    fn drawn(&self, state: &State, theme: Theme, (width, height): (u16, u16)) -> Buffer {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        self.feed.with_history(|history| {
            let seen = Seen { state, history, answer: Some(&self.answer), theme };
            draw(&seen, area, &mut buffer)
        });
        buffer
    }
}

/// A name and what is shown.
fn states(feed: &Feed) -> Vec<(String, State)> {
    let mut states: Vec<(String, State)> = Screen::ALL
        .into_iter()
        .map(|screen| (screen.title().to_lowercase().replace(' ', "-"), State { screen, ..Bench::state(feed) }))
        .collect();
    let device = Some("0000:00:04.0".to_owned());
    states.push(("device".into(), State { screen: Screen::Devices, device, ..Bench::state(feed) }));
    states.push(("keys".into(), State { help: true, screen: Screen::Devices, ..Bench::state(feed) }));
    states.push(("keys-pool".into(), State { help: true, screen: Screen::Pool, ..Bench::state(feed) }));
    states
}

/// The text, and below each cell's style as a letter, with what the letters stand for.
fn styled(buffer: &Buffer) -> String {
    let mut styles: Vec<(Color, Modifier)> = vec![(Color::Reset, Modifier::empty())];
    let mut map = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        for x in 0..buffer.area.width {
            let style = (buffer[(x, y)].fg, buffer[(x, y)].modifier);
            let at = styles.iter().position(|known| *known == style).unwrap_or_else(|| {
                styles.push(style);
                styles.len() - 1
            });
            row.push(if at == 0 { ' ' } else { char::from(b'a' + at as u8 - 1) });
        }
        map += row.trim_end();
        map.push('\n');
    }
    let mut said = format!("{}\n{map}\n", text(buffer));
    for (at, (color, modifier)) in styles.iter().enumerate().skip(1) {
        let _ = writeln!(said, "{}: {color} {modifier:?}", char::from(b'a' + at as u8 - 1));
    }
    said
}

fn hold(name: &str, shown: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/{name}.txt"));
    golden_file::compare(&file, shown).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
}

#[test]
fn screens_are_as_expected_in_colour_and_in_ascii_at_three_sizes() {
    let bench = Bench::new();
    for (name, state) in states(&bench.feed) {
        for size in SIZES {
            let (width, height) = size;
            hold(&format!("{name}-{width}x{height}-color"), &styled(&bench.drawn(&state, COLOR, size)));
            hold(&format!("{name}-{width}x{height}-ascii"), &text(&bench.drawn(&state, ASCII, size)));
        }
    }
}

#[test]
fn who_holds_slots_and_for_how_long_others_did_are_on_one_screen() {
    for (name, capture) in [("leak", LEAK), ("force", FORCE)] {
        let bench = Bench::of(capture);
        let state = State { screen: Screen::Pool, ..Bench::state(&bench.feed) };
        for size in SIZES {
            let (width, height) = size;
            hold(&format!("{name}-{width}x{height}-color"), &styled(&bench.drawn(&state, COLOR, size)));
        }
        let scrolled = State { pool_scroll: 100, ..state };
        hold(&format!("{name}-scrolled"), &text(&bench.drawn(&scrolled, ASCII, (80, 24))));
    }
}

#[test]
fn a_long_reason_goes_on_in_the_next_line() {
    let mut bench = Bench::new();
    // The longest that `tracer::report::answer::verdict` gives.
    let why = "Nothing to replay: no mapping in 10.0 s: 53 mappings were counted, and none of them recorded: record with --full; and x86_64 \
               kernels never bounce small buffers, arm64 ones do.";
    bench.answer.verdict = (Verdict::CannotTell, why.into());
    let state = Bench::state(&bench.feed);
    for size in SIZES {
        let (width, height) = size;
        hold(&format!("reason-{width}x{height}-color"), &styled(&bench.drawn(&state, COLOR, size)));
    }
    let shown = text(&bench.drawn(&state, ASCII, (80, 24)));
    hold("reason-80x24-ascii", &shown);
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert!(words.join(" ").contains("arm64 ones do."), "{shown}");
}

#[test]
fn ascii_without_colours_is_ascii_without_colours() {
    let bench = Bench::new();
    for (name, state) in states(&bench.feed) {
        let buffer = bench.drawn(&state, ASCII, (100, 30));
        assert!(text(&buffer).is_ascii(), "{name}");
        assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset), "{name}");
    }
}

#[test]
fn no_size_is_too_small_or_too_large_to_be_drawn() {
    let bench = Bench::new();
    for (_, state) in states(&bench.feed) {
        for size in [(1, 1), (10, 3), (39, 50), (40, 10), (41, 11), (60, 12), (300, 5), (300, 100), (79, 23)] {
            bench.drawn(&state, COLOR, size);
        }
    }
}

#[test]
fn everything_on_a_screen_is_told_without_colours_too() {
    let bench = Bench::new();
    for (name, state) in states(&bench.feed) {
        let plain = Theme { depth: Depth::None, ascii: false };
        let size = (120, 40);
        assert_eq!(text(&bench.drawn(&state, COLOR, size)), text(&bench.drawn(&state, plain, size)), "{name}");
    }
}

#[test]
fn what_if_names_the_devices_whose_buffers_overlap_where_there_is_room() {
    let mut bench = Bench::new();
    let side = |device: &str, call_site: &str| OverlapSide {
        device: device.into(),
        driver: String::new(),
        call_site: call_site.into(),
        module: String::new(),
    };
    let row =
        |later: OverlapSide, earlier: OverlapSide, overlaps| OverlapRow { later, earlier, same_bytes: false, overlaps };
    bench.answer.replayed.outcomes[0].rows.overlaps = vec![
        row(side("1-1", "a+0x8"), side("nvme0", ""), 5),
        row(side("1-1", "b+0x8"), side("1-1", ""), 6),
        row(side("1-1", "b+0x8"), side("nvme0", ""), 4),
    ];
    let state = State { screen: Screen::WhatIf, ..Bench::state(&bench.feed) };
    let large = text(&bench.drawn(&state, ASCII, (80, 30)));
    let lines: Vec<&str> = large.lines().filter(|line| line.contains(" beside ")).map(str::trim).collect();
    assert_eq!(lines.len(), 2, "{large}");
    assert!(lines[0].contains("9  1-1 beside nvme0") && lines[1].contains("6  1-1 beside itself"), "{large}");
    let small = text(&bench.drawn(&state, ASCII, (80, 16)));
    assert!(!small.contains(" beside "), "the policies need the room: {small}");
}
