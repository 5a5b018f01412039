//! Records against the programs' counts of them while a recording goes on.

use bouncescope_capture::event::Kind;
use bouncescope_capture::facts::Counters;
use bouncescope_capture::names::Loss;
use bouncescope_capture::stream::Item;

/// Records of each kind.
type ByKind = [u64; Kind::ALL.len()];

/// A reading of the counters, and the records that are older than it.
#[derive(Clone, Debug, Default)]
struct Reading {
    counters: Counters,
    older: ByKind,
}

/// What has come, and the last two readings. Of the last one some records are still to come; of the one before, all have come.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    all: ByKind,
    last: Option<Reading>,
    before: Option<Reading>,
}

impl Records {
    /// Takes in an item.
    pub(super) fn take(&mut self, item: &Item) {
        match item {
            Item::Events(batch) => {
                for event in &batch.events {
                    let kind = event.what.kind() as usize;
                    self.all[kind] += 1;
                    if let Some(last) = self.last.as_mut().filter(|last| event.time_ns < last.counters.time_ns) {
                        last.older[kind] += 1;
                    }
                }
            }
            Item::Counters(counters) => {
                self.before = self.last.replace(Reading { counters: counters.clone(), older: self.all });
            }
            _ => {}
        }
    }

    /// What cannot be, whatever happened between the reading of the counters and the records around it. `latest` has the losses.
    pub(super) fn problems(&self, latest: &Counters) -> Vec<String> {
        let Some(Reading { counters, older }) = &self.before else { return Vec::new() };
        let problem = |kind: Kind| {
            let seen: u64 = counters.seen.get(kind.name())?.iter().sum();
            let (older, all, lost) =
                (older[kind as usize], self.all[kind as usize], latest.lost(&Loss::RingFull(kind)));
            // Descriptions are no events of the stream.
            let possible = matches!(kind, Kind::Device | Kind::Cache) || (older..=all + lost).contains(&seen);
            (!possible).then(|| {
                format!(
                    "{}: the programs had seen {seen} when last counted but one; {older} older ones are recorded, {all} in all, and \
                     {lost} reported as lost",
                    kind.name()
                )
            })
        };
        Kind::ALL.into_iter().filter_map(problem).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::event::{Batch, Event, What};

    fn freed(time_ns: u64) -> Item {
        let what = What::Kfree { call_site: 0, ptr: 0 };
        Item::Events(Batch { events: vec![Event { time_ns, task: 0, cpu: 0, what }], ..Batch::default() })
    }

    fn counted(time_ns: u64, seen: u64) -> Item {
        let seen = [(Kind::Kfree.name().to_owned(), vec![seen])].into();
        Item::Counters(Counters { time_ns, seen, ..Counters::default() })
    }

    fn problems(items: &[Item]) -> usize {
        let mut records = Records::default();
        for item in items {
            records.take(item);
        }
        records.problems(&Counters::default()).len()
    }

    #[test]
    fn records_that_come_after_the_counters_or_are_younger_are_no_contradiction() {
        assert_eq!(problems(&[freed(1), counted(5, 2), freed(4), freed(6), freed(7)]), 0, "before a second reading");
        assert_eq!(problems(&[freed(1), counted(5, 2), freed(4), freed(6), counted(9, 3), freed(10)]), 0);
    }

    #[test]
    fn more_or_fewer_records_than_the_programs_counted_are_one() {
        assert_eq!(problems(&[freed(1), counted(5, 3), freed(4), counted(9, 3)]), 1, "one of them never came");
        assert_eq!(problems(&[freed(1), counted(5, 1), freed(4), counted(9, 1)]), 1, "one too many came");
    }
}
