//! The last of a live stream: its items for as long as a window may want them, and no more of them than memory is meant for.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use tracer::facts::End;
use tracer::replay::Wanted;
use tracer::replay::holders::SlotHolders;
use tracer::replay::ongoing::Ongoing;
use tracer::stream::{Item, Source};

use crate::clip::{Clip, beginning};
use crate::history::History;

/// Events kept at the most: 64 MiB.
const EVENTS: usize = 1 << 20;
/// Time kept, ns.
const KEPT_NS: u64 = 10 * 60 * 1_000_000_000;

/// Items with events or samples, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// With the latest moment of each.
    items: VecDeque<(u64, Arc<Item>)>,
    events: usize,
    /// Some had to go.
    has_lost: bool,
    /// What had to go, replayed: who held slots by then. Begins with the stream.
    gone: Option<Arc<Ongoing>>,
}

impl Recent {
    /// Keeps an item that came at `now_ns`.
    pub fn keep(&mut self, item: Arc<Item>, now_ns: u64) {
        match &*item {
            Item::Events(batch) => self.events += batch.events.len(),
            Item::Pool(_) | Item::Slab(_) | Item::PoolTimes(_) => {}
            Item::Start(start) => {
                let wanted = Wanted { holders: true, ..Wanted::default() };
                self.gone = self.gone.take().or_else(|| Some(Arc::new(Ongoing::new(start.clone(), wanted))));
                return;
            }
            Item::Device(_) | Item::Symbols(_) | Item::Counters(_) => {
                if let Some(gone) = &mut self.gone {
                    Arc::make_mut(gone).take(Item::clone(&item));
                }
                return;
            }
            Item::Sites(_) | Item::Lengths(_) | Item::Passed(_) | Item::End(_) => return,
        }
        self.items.push_back((now_ns, item));
        while let Some((time_ns, _)) = self.items.front()
            && (self.events > EVENTS || time_ns.saturating_add(KEPT_NS) < now_ns)
        {
            self.has_lost = true;
            let Some((_, item)) = self.items.pop_front() else { break };
            if let Item::Events(batch) = &*item {
                self.events -= batch.events.len();
                if let Some(gone) = &mut self.gone {
                    Arc::make_mut(gone).take(Arc::unwrap_or_clone(item));
                }
            }
        }
    }

    /// The earliest moment of which everything is kept, ns; `None` while nothing had to go, or is there.
    pub fn first_ns(&self) -> Option<u64> {
        self.items.iter().filter(|_| self.has_lost).find_map(|(_, item)| match &**item {
            Item::Events(batch) => batch.events.first().map(|event| event.time_ns),
            _ => None,
        })
    }

    /// A window as a stream of its own.
    pub fn window(&self, history: &History, from_ns: u64, to_ns: u64) -> Kept {
        let first = self.items.partition_point(|(time_ns, _)| *time_ns < from_ns);
        let items = self.items.range(first..).map(|(_, item)| Arc::clone(item)).collect();
        Kept { items, beginning: beginning(history, from_ns), from_ns, to_ns, until: None }
    }

    /// All of the stream until a moment.
    pub fn until(&self, to_ns: u64) -> Option<Until> {
        let items = self.items.iter().map(|(_, item)| Arc::clone(item)).collect();
        self.gone.clone().map(|gone| Until { gone, items, to_ns })
    }
}

/// A window of what was kept, from which a stream can be made as often as is wanted.
#[derive(Clone, Debug)]
pub struct Kept {
    items: VecDeque<Arc<Item>>,
    beginning: Vec<Item>,
    from_ns: u64,
    to_ns: u64,
    /// Everything before the window's end, where it is to be known who holds slots then.
    pub until: Option<Until>,
}

/// Everything until a moment: what is kept, and what came of the rest.
#[derive(Clone, Debug)]
pub struct Until {
    gone: Arc<Ongoing>,
    items: VecDeque<Arc<Item>>,
    to_ns: u64,
}

impl Until {
    /// Who holds slots then; `None` if nobody wants to know any more.
    pub fn held(self, is_wanted: impl Fn() -> bool) -> Option<SlotHolders> {
        let mut ongoing = Arc::unwrap_or_clone(self.gone);
        for item in self.items {
            if !is_wanted() {
                return None;
            }
            if let Item::Events(batch) = &*item {
                let mut batch = batch.clone();
                batch.events.retain(|event| event.time_ns <= self.to_ns);
                ongoing.take(Item::Events(batch));
            }
        }
        ongoing.end(&End { time_ns: self.to_ns, ..End::default() }).held
    }
}

impl Kept {
    /// The stream.
    pub fn open(&self) -> Clip<Shared> {
        Clip::new(Some(Shared(self.items.clone())), self.beginning.clone(), self.from_ns, self.to_ns)
    }
}

/// A source of items that others have too.
pub struct Shared(VecDeque<Arc<Item>>);

impl Source for Shared {
    type Error = Infallible;

    fn next_item(&mut self) -> Result<Option<Item>, Infallible> {
        Ok(self.0.pop_front().map(|item| Item::clone(&item)))
    }
}

#[cfg(test)]
mod tests {
    use tracer::capture::Reader;
    use tracer::event::{Batch, Event, What};

    use super::*;
    use crate::history::Keep;

    fn events(count: usize, time_ns: u64) -> Arc<Item> {
        let event = Event { time_ns, task: 0, cpu: 0, what: What::Kfree { call_site: 0, ptr: 0 } };
        Arc::new(Item::Events(Batch { events: vec![event; count], segments: Vec::new() }))
    }

    fn times(mut source: impl Source<Error = Infallible>) -> Vec<u64> {
        let mut times = Vec::new();
        while let Ok(Some(item)) = source.next_item() {
            if let Item::Events(batch) = item {
                times.extend(batch.events.iter().map(|event| event.time_ns));
            }
        }
        times
    }

    #[test]
    fn a_window_has_the_events_of_its_time() {
        let mut recent = Recent::default();
        for time_ns in 1..=9 {
            recent.keep(events(1, time_ns), time_ns);
        }
        assert_eq!(times(recent.window(&History::new(Keep::Recent), 3, 5).open()), [3, 4, 5]);
    }

    #[test]
    fn more_events_than_memory_is_meant_for_make_the_oldest_go() {
        let mut recent = Recent::default();
        for time_ns in 1..=3 {
            recent.keep(events(EVENTS / 2, time_ns), time_ns);
        }
        assert_eq!((recent.first_ns(), recent.events), (Some(2), EVENTS));
    }

    #[test]
    fn who_holds_slots_is_known_even_of_what_had_to_go() {
        let mut source = Reader::new(&include_bytes!("../../tests/leak.bounce")[..]).unwrap();
        let (mut recent, mut last_ns) = (Recent::default(), 0);
        while let Some(item) = source.next_item().unwrap() {
            if let Item::Events(batch) = &item {
                last_ns = batch.events.iter().map(|event| event.time_ns).max().unwrap();
            }
            recent.keep(Arc::new(item), last_ns);
        }
        let held = |recent: &Recent, to_ns| recent.until(to_ns).unwrap().held(|| true).unwrap().at_end;
        let before = held(&recent, last_ns);
        assert_eq!((before.rows.len(), before.rows[0].buffers, before.rows[0].is_leak()), (1, 24, true));
        let half = held(&recent, last_ns - 3_000_000_000).rows[0].buffers;
        assert!((1..24).contains(&half), "{half}");
        let later_ns = last_ns + KEPT_NS + 1;
        recent.keep(events(1, later_ns), later_ns);
        assert_eq!(recent.first_ns(), Some(later_ns), "nothing else is left");
        let after = held(&recent, later_ns);
        assert_eq!((after.rows[0].buffers, after.leaking_slots()), (24, 24));
        assert_eq!(after.rows[0].longest_ns, before.rows[0].longest_ns + KEPT_NS + 1, "and has grown older");
        assert!(recent.until(later_ns).unwrap().held(|| false).is_none(), "nobody wants to know");
    }

    #[test]
    fn what_is_older_than_ten_minutes_goes() {
        let mut recent = Recent::default();
        recent.keep(events(1, 1), 1);
        recent.keep(events(1, KEPT_NS + 2), KEPT_NS + 2);
        assert_eq!(recent.first_ns(), Some(KEPT_NS + 2));
    }
}
