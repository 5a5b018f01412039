//! How many events of a capture are taken in, so that work is bounded by what is read: a few hundred bytes may unpack to events without end.
//! Also compiled into `bouncescope-fleet`.

use std::num::NonZeroU64;
use std::time::Duration;

use tracer::event::Batch;
use tracer::passed::Needs;
use tracer::stream::{Gaps, Item, Source};

/// Events that are taken in of any capture.
const AT_LEAST: u64 = 1 << 22;
/// Events more for each byte of the file. Of recorded ones each takes 3 bytes and more.
const PER_BYTE: u64 = 16;

#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Limit {
    /// Read at most this many events, and report what is left out [default: 4194304, and 16 more for each byte of the
    /// capture]
    #[arg(long, value_name = "N")]
    max_events: Option<NonZeroU64>,
    #[arg(skip)]
    until: Option<Duration>,
}

impl Limit {
    /// With the events up to this moment only, counted from the beginning, as if the recording had ended then.
    pub(crate) fn until(self, moment: Duration) -> Self {
        Self { until: Some(moment), ..self }
    }

    /// A source with this limit, of a file of `length` bytes; 0 for a pipe, which has no other limit than the one that is asked for.
    pub(crate) fn of<S: Source>(self, source: S, length: u64) -> Limited<S> {
        let by_length = if length == 0 { u64::MAX } else { AT_LEAST.saturating_add(PER_BYTE.saturating_mul(length)) };
        let most = self.max_events.map_or(by_length, NonZeroU64::get);
        let is_by_length = self.max_events.is_none();
        Limited {
            source,
            length,
            most,
            is_by_length,
            left: most,
            until: self.until,
            until_ns: u64::MAX,
            is_over: false,
        }
    }
}

/// A source that ends where it has given so many events.
pub(crate) struct Limited<S> {
    source: S,
    length: u64,
    most: u64,
    /// Nobody asked for this limit.
    is_by_length: bool,
    left: u64,
    until: Option<Duration>,
    /// The same moment by the stream's clock.
    until_ns: u64,
    is_over: bool,
}

impl<S: Source> Limited<S> {
    /// What was left out, in a line.
    pub(crate) fn left_out(&self) -> Option<String> {
        let (most, read, length) = (self.most, self.source.bytes_read(), self.length);
        let part = if length == 0 { String::new() } else { format!(", from {read} of {length} bytes") };
        self.is_over.then(|| {
            format!("only the first {most} events are taken in{part}: what comes after them is left out (--max-events)")
        })
    }
}

impl<S: Source> Source for Limited<S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        if self.is_over {
            return Ok(None);
        }
        let mut item = self.source.next_item()?;
        match &mut item {
            Some(Item::Start(start)) => {
                let until = self.until.and_then(|until| u64::try_from(until.as_nanos()).ok());
                self.until_ns = until.map_or(u64::MAX, |until| start.time_ns.saturating_add(until));
            }
            Some(Item::Events(batch)) => {
                if self.until.is_some() {
                    batch.events.retain(|event| event.time_ns <= self.until_ns);
                }
                let count = batch.events.len() as u64;
                if count > self.left {
                    batch.events.truncate(self.left as usize);
                    self.is_over = true;
                }
                self.left = self.left.saturating_sub(count);
            }
            Some(Item::Passed(passed)) if passed.events() > self.left => {
                self.is_over = true;
                return Ok(None);
            }
            Some(Item::Passed(passed)) => self.left -= passed.events(),
            Some(Item::End(end)) => end.time_ns = end.time_ns.min(self.until_ns),
            _ => {}
        }
        Ok(item)
    }

    /// Where a limit is asked for, it is kept to the event.
    fn leave_out(&mut self, needs: Needs) {
        if self.is_by_length && self.until.is_none() {
            self.source.leave_out(needs);
        }
    }

    fn take_back(&mut self, used: Batch) {
        self.source.take_back(used);
    }

    fn gaps(&self) -> Gaps {
        let gaps = self.source.gaps();
        Gaps { no_end: gaps.no_end || self.is_over, ..gaps }
    }

    fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer::capture::Reader;

    /// That which a program built with it has embedded.
    const CAPTURE: &[u8] = include_bytes!("../captures/default.bounce");

    fn events(limit: Limit) -> (usize, Option<String>, bool) {
        let mut source = limit.of(Reader::new(CAPTURE).unwrap(), CAPTURE.len() as u64);
        let mut events = 0;
        while let Some(item) = source.next_item().unwrap() {
            events += if let Item::Events(batch) = item { batch.events.len() } else { 0 };
        }
        (events, source.left_out(), source.gaps().no_end)
    }

    #[test]
    fn a_capture_that_was_recorded_is_taken_in_whole() {
        let (all, left_out, no_end) = events(Limit::default());
        assert!(all > 1000 && left_out.is_none() && !no_end);
        let exactly = Limit { max_events: NonZeroU64::new(all as u64), ..Limit::default() };
        assert_eq!(events(exactly), (all, None, false));
    }

    #[test]
    fn a_limit_is_kept_to_the_event_and_said() {
        let (events, left_out, no_end) = events(Limit { max_events: NonZeroU64::new(777), ..Limit::default() });
        assert!(events == 777 && no_end, "{events}");
        assert!(left_out.is_some_and(|line| line.starts_with("only the first 777 events are taken in, from ")));
    }
}
