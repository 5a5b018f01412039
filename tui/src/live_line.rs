//! The one line that `record` keeps rewriting: rates since the last time, totals, losses.

use std::collections::HashMap;

use tracer::{
    event::{DeviceId, Direction, MAPPING_ERROR, What},
    facts::{Mapped, PoolSample},
    replay::overlapping::Overlapping,
    stream::Item,
};

/// What has been seen so far.
#[derive(Clone, Debug, Default)]
pub struct LiveLine {
    totals: Totals,
    shown: Totals,
    shown_ns: u64,
    begin_ns: u64,
    pool: Option<PoolSample>,
    lost: u64,
    overlapping: Option<Overlapping>,
    /// Mappings by what they are counted by in the kernel: the latest total of each.
    counted: HashMap<(DeviceId, Direction, Mapped, u32), u64>,
}

/// Counts since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events of every kind.
    pub events: u64,
    /// Single buffers and scatterlists mapped, of which there is an event.
    pub mappings: u64,
    /// The same as the kernel counts them, streamed or not.
    pub counted: u64,
    /// Bounces that the kernel attempted.
    pub bounces: u64,
    /// Single buffers and scatterlists that could not be mapped.
    pub refused: u64,
}

impl LiveLine {
    /// Takes in one item.
    pub fn observe(&mut self, item: &Item) {
        if let Some(overlapping) = &mut self.overlapping {
            overlapping.item(item);
        }
        match item {
            Item::Start(start) => {
                self.begin_ns = start.time_ns;
                self.overlapping = Some(Overlapping::new(start));
                self.shown_ns = start.time_ns;
            }
            Item::Events(batch) => {
                self.totals.events += batch.events.len() as u64;
                for event in &batch.events {
                    let refused = match event.what {
                        What::Map { dma_addr, .. } | What::Link { dma_addr, .. } => dma_addr == MAPPING_ERROR,
                        What::MapSg { ents, .. } => ents == 0,
                        What::Bounced { .. } => {
                            self.totals.bounces += 1;
                            continue;
                        }
                        _ => continue,
                    };
                    self.totals.mappings += 1;
                    self.totals.refused += u64::from(refused);
                }
            }
            Item::Lengths(lengths) => {
                for one in lengths.iter().filter(|one| one.mapped != Mapped::Segment) {
                    let before = self.counted.insert((one.device, one.direction, one.mapped, one.length), one.count);
                    self.totals.counted += one.count.saturating_sub(before.unwrap_or(0));
                }
            }
            Item::Pool(sample) => self.pool = Some(sample.clone()),
            Item::Counters(counters) => self.lost = counters.total_lost(),
            _ => {}
        }
    }

    /// Takes in so many events of objects, which do not come as items.
    pub fn observe_objects(&mut self, count: u64) {
        self.totals.events += count;
    }

    /// Counts since the beginning.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Buffers that were mapped while another mapping was in one of their cache lines.
    pub fn overlaps(&self) -> Option<&Overlapping> {
        self.overlapping.as_ref()
    }

    /// The line, with rates over the time since it was last rendered. `now_ns` is in the clock of the stream.
    pub fn render(&mut self, now_ns: u64) -> String {
        let seconds = now_ns.saturating_sub(self.shown_ns).max(1) as f64 / 1e9;
        let rate = |now: u64, before: u64| format!("{:.0}/s", (now - before) as f64 / seconds);
        let pool = match &self.pool {
            Some(pool) => format!("  pool {}/{} slots", pool.used_slots, pool.slots),
            None => String::new(),
        };
        let line = format!(
            "{:6.1} s  events {}  mappings {}  bounces {} ({} in all){pool}  refused {}  lost {}",
            now_ns.saturating_sub(self.begin_ns) as f64 / 1e9,
            rate(self.totals.events, self.shown.events),
            rate(self.totals.mappings, self.shown.mappings),
            rate(self.totals.bounces, self.shown.bounces),
            self.totals.bounces,
            self.totals.refused,
            self.lost,
        );
        self.shown = self.totals;
        self.shown_ns = now_ns;
        line
    }
}

#[cfg(test)]
mod tests {
    use tracer::{
        event::{Batch, Event},
        facts::LengthCount,
        stream::Start,
    };

    use super::*;

    #[test]
    fn mappings_that_are_not_streamed_are_counted_by_the_latest_total_of_each_length() {
        let count = |mapped, length, count| LengthCount { mapped, length, count, ..LengthCount::default() };
        let mut line = LiveLine::default();
        line.observe(&Item::Lengths(vec![
            count(Mapped::Single, 8, 3),
            count(Mapped::List, 0, 2),
            count(Mapped::Segment, 8, 9),
        ]));
        line.observe(&Item::Lengths(vec![count(Mapped::Single, 8, 5), count(Mapped::Single, 16, 1)]));
        assert_eq!((line.totals().counted, line.totals().mappings), (8, 0));
    }

    #[test]
    fn rates_are_those_since_the_last_line() {
        let mut line = LiveLine::default();
        line.observe(&Item::Start(Start { time_ns: 1_000_000_000, ..Start::default() }));
        let bounced = What::Bounced { device: DeviceId(0), dev_addr: 0, size: 8 };
        let events = vec![Event { time_ns: 0, task: 0, cpu: 0, what: bounced }; 10];
        line.observe(&Item::Events(Batch { events, segments: Vec::new() }));
        let first = line.render(3_000_000_000);
        assert!(first.contains("   2.0 s  events 5/s  mappings 0/s  bounces 5/s (10 in all)"), "{first}");
        let second = line.render(4_000_000_000);
        assert!(second.contains("bounces 0/s (10 in all)"), "{second}");
    }
}
