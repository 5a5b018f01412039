//! Streams held in memory, as sources, and read to the end.

use std::collections::VecDeque;
use std::convert::Infallible;

use tracer::capture::{Reader, Writer};
use tracer::passed::Needs;
use tracer::stream::{Gaps, Item, Source};

/// Items that come one after another.
pub struct Items(VecDeque<Item>);

impl From<Vec<Item>> for Items {
    fn from(items: Vec<Item>) -> Self {
        Self(items.into())
    }
}

impl Source for Items {
    type Error = Infallible;

    fn next_item(&mut self) -> Result<Option<Item>, Infallible> {
        Ok(self.0.pop_front())
    }
}

/// All items of a capture file, and what is missing; `None` for what is no capture.
pub fn read(file: &[u8]) -> Option<(Vec<Item>, Gaps)> {
    let mut reader = Reader::new(file).ok()?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item().expect("memory can be read") {
        items.push(item);
    }
    assert_eq!(reader.next_item().expect("memory can be read"), None, "nothing comes after the end");
    Some((items, reader.gaps()))
}

/// Lists without anything in them are not written.
fn is_empty(item: &Item) -> bool {
    match item {
        Item::Events(batch) => batch.events.is_empty(),
        Item::Sites(sites) => sites.is_empty(),
        Item::Symbols(symbols) => symbols.is_empty(),
        Item::Lengths(lengths) => lengths.is_empty(),
        _ => false,
    }
}

/// Events that follow one another in one batch: coherent memory stands in frames of its own.
fn joined<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Item> {
    let mut all: Vec<Item> = Vec::new();
    for item in items {
        match (all.last_mut(), item) {
            (Some(Item::Events(earlier)), Item::Events(later)) => earlier.append(later),
            _ => all.push(item.clone()),
        }
    }
    all
}

/// Writes the items; what is written and read again has to be the same.
pub fn assert_survive_writing(items: &[Item]) {
    let mut writer = Writer::new(Vec::new()).expect("memory can be written");
    for item in items {
        writer.write(item).expect("what was read can be written");
    }
    let file = writer.into_inner().expect("memory can be written");
    let (again, gaps) = read(&file).expect("a capture was written");
    assert_eq!((gaps.damaged_frames, gaps.unknown_frames, gaps.cut_bytes), (0, 0, 0));
    let expected: Vec<&Item> = items.iter().filter(|item| !is_empty(item)).collect();
    assert_eq!(joined(&again), joined(expected.iter().copied()));
    assert_survive_blocks(&expected);
}

/// The same in blocks; and what is left closed is told by totals.
fn assert_survive_blocks(items: &[&Item]) {
    let mut writer = Writer::new(Vec::new()).expect("memory can be written").blocks_from(1);
    for item in items {
        writer.write(item).expect("what was read can be written");
    }
    let file = writer.into_inner().expect("memory can be written");
    let (again, gaps) = read(&file).expect("a capture was written");
    assert_eq!((gaps.damaged_frames, gaps.unknown_frames, gaps.cut_bytes), (0, 0, 0));
    assert_eq!(joined(&again), joined(items.iter().copied()));
    let all = events(&again);
    for needs in [Needs::WithLines(64), Needs::WithLines(4096), Needs::Written] {
        assert_eq!(events(&read_for(&file, needs)), all, "{needs:?}");
    }
}

/// Events, given or told by totals.
fn events(items: &[Item]) -> u64 {
    let count = |item: &Item| match item {
        Item::Events(batch) => batch.events.len() as u64,
        Item::Passed(passed) => passed.events(),
        _ => 0,
    };
    items.iter().map(count).sum()
}

/// All items of a capture file for somebody with these needs; none for what is no capture.
pub fn read_for(file: &[u8], needs: Needs) -> Vec<Item> {
    let Ok(mut reader) = Reader::new(file) else { return Vec::new() };
    reader.leave_out(needs);
    std::iter::from_fn(|| reader.next_item().expect("memory can be read")).collect()
}
