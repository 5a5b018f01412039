//! The loop of a recording: it empties the rings in time, reads the counters now and then, and hands everything to a sink.

use std::{
    future::{Future, ready},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{LiveError, Session};
use bouncescope_capture::stream::Item;

/// How often the rings are emptied when no program asks for it.
pub const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// How often the counters are read.
pub const TALLY_EVERY: Duration = Duration::from_millis(500);

/// Takes a stream while it is recorded. The rings fill while it does; what they cannot hold is counted as lost.
pub trait Sink {
    /// Why it can take no more.
    type Error: From<LiveError>;

    /// Takes what was recorded since the last time, in the stream's order.
    fn take(&mut self, items: Vec<Item>) -> impl Future<Output = Result<(), Self::Error>>;

    /// Takes what is in the rings of the session. One that has better use for columns than for events asks for those itself
    /// ([`Session::drain_into`]).
    fn drain(&mut self, session: &mut Session) -> impl Future<Output = Result<(), Self::Error>> {
        async {
            let items = session.drain();
            if items.is_empty() { Ok(()) } else { self.take(items).await }
        }
    }

    /// Called each time that it has taken the counters.
    fn counted(&mut self, _session: &Session) -> impl Future<Output = Result<(), Self::Error>> {
        ready(Ok(()))
    }
}

/// Records into `sink` until `until` has ended, and returns what that gave. The session is left as it is: what it has not handed
/// out yet comes with [`Session::stop`].
pub async fn record<S: Sink, T>(
    session: &mut Session,
    sink: &mut S,
    until: impl Future<Output = T>,
) -> Result<T, S::Error> {
    let mut drain = ticks(DRAIN_EVERY);
    let mut tally = ticks(TALLY_EVERY);
    tokio::pin!(until);
    loop {
        tokio::select! {
            ready = session.ring_fills() => ready?,
            _ = drain.tick() => {}
            _ = tally.tick() => {
                sink.take(session.tallies()?).await?;
                sink.counted(session).await?;
            }
            ended = &mut until => return Ok(ended),
        }
        // One batch at a time: a kernel that fills the rings as fast as they are emptied must not keep out the end.
        sink.drain(session).await?;
    }
}

/// Moments at which a loop drains or counts, one of them at once.
pub fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
