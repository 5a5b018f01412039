//! A window of time cut out of a stream, as a stream of its own: with everything that was known before it, and no event from
//! outside.

use tracer::facts::{End, Symbol};
use tracer::stream::{Gaps, Item, Source, Start};

use crate::history::History;

/// Events come nearly in the order of time: no later than this, ns.
const OUT_OF_ORDER_NS: u64 = 100_000_000;

/// What a stream that begins at a moment begins with, last first. Slots in use then are in use at its beginning.
pub fn beginning(history: &History, from_ns: u64) -> Vec<Item> {
    let mut start: Start = history.start.clone();
    if from_ns > start.time_ns {
        start.time_ns = from_ns;
        start.kernel.pool.used_at_start = history.used_before(from_ns);
    }
    let symbols: Vec<Symbol> = history.symbols.values().cloned().collect();
    let devices = history.devices.iter().rev().cloned().map(Item::Device);
    let counters = Item::Counters(history.counters().clone());
    [counters, Item::Symbols(symbols)].into_iter().chain(devices).chain([Item::Start(start)]).collect()
}

/// The window.
pub struct Clip<S> {
    beginning: Vec<Item>,
    /// `None` once it is behind the window.
    source: Option<S>,
    from_ns: u64,
    to_ns: u64,
    gaps: Gaps,
    ended: bool,
}

impl<S: Source> Clip<S> {
    /// From a source that reaches back to the window's beginning; none where there is nothing in the window.
    pub fn new(source: Option<S>, beginning: Vec<Item>, from_ns: u64, to_ns: u64) -> Self {
        Self { beginning, source, from_ns, to_ns, gaps: Gaps::default(), ended: false }
    }

    /// What of an item belongs to the window; what [`beginning`] has already does not.
    fn clipped(&mut self, mut item: Item) -> Option<Item> {
        let is_within = |time_ns: u64| (self.from_ns..=self.to_ns).contains(&time_ns);
        match &mut item {
            Item::Events(batch) => {
                let earliest = batch.events.iter().map(|event| event.time_ns).min();
                if earliest.is_some_and(|earliest| earliest > self.to_ns.saturating_add(OUT_OF_ORDER_NS)) {
                    self.close();
                    return None;
                }
                batch.events.retain(|event| is_within(event.time_ns));
                (!batch.events.is_empty()).then_some(item)
            }
            Item::Pool(sample) => is_within(sample.time_ns).then_some(item),
            Item::Slab(sample) => is_within(sample.time_ns).then_some(item),
            Item::PoolTimes(_) => Some(item),
            Item::Start(_)
            | Item::Device(_)
            | Item::Symbols(_)
            | Item::Sites(_)
            | Item::Lengths(_)
            | Item::Passed(_)
            | Item::Counters(_)
            | Item::End(_) => None,
        }
    }

    fn close(&mut self) {
        if let Some(source) = self.source.take() {
            self.gaps = Gaps { no_end: false, ..source.gaps() };
        }
    }
}

impl<S: Source> Source for Clip<S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        if let Some(item) = self.beginning.pop() {
            return Ok(Some(item));
        }
        while let Some(source) = &mut self.source {
            match source.next_item()? {
                Some(item) => {
                    if let Some(item) = self.clipped(item) {
                        return Ok(Some(item));
                    }
                }
                None => self.close(),
            }
        }
        // The window ends in order, wherever the stream does.
        let end = End { time_ns: self.to_ns, ..End::default() };
        Ok((!std::mem::replace(&mut self.ended, true)).then_some(Item::End(end)))
    }

    fn gaps(&self) -> Gaps {
        self.gaps.clone()
    }
}
