//! The running kernel as a stream for the dashboard: a thread that empties the ring, whatever the screen does.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc::{self, error::SendError};
use tokio::time::{MissedTickBehavior, interval};
use tracer::live::{MapEntries, Options, Places, Session, renounce};
use tracer::stream::{Item, Streamed};
use tui::event_loop::Items;

/// How often the ring is emptied when nothing asks for it.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// How often counters are read.
const TALLY_EVERY: Duration = Duration::from_millis(500);
/// Batches that may wait for the dashboard, before the ring has to.
const QUEUE: usize = 64;
/// Size of the ring, bytes.
const RING: u32 = 8 << 20;
/// One allocation in how many is followed.
const SAMPLE: u64 = 64;

/// Attaches, and has items come.
pub(super) fn start(btf: Option<PathBuf>) -> Result<Items> {
    let options = Options {
        allocation_sample: SAMPLE,
        // Every policy is to be tried, and every device to be seen.
        streamed: Streamed::All,
        ring_bytes: RING,
        map_entries: MapEntries::default(),
        shrink_caches: false,
        count_tracefs: false,
        places: Places::Best,
        programs_log: false,
        count_costs: false,
        btf,
        recorder: std::env::args().collect::<Vec<_>>().join(" "),
        // Somebody else may be watching it.
        reset_hiwater: false,
    };
    let (items, received) = mpsc::channel(QUEUE);
    let (attached, is_attached) = channel();
    let run = move || trace(&options, &items, &attached);
    thread::Builder::new().name("live".into()).spawn(run).context("cannot start a thread to trace with")?;
    match is_attached.recv() {
        Ok(result) => result?,
        Err(_) => bail!("the thread that traces failed"),
    }
    // Captures are made by name later on, for which a user's own rights have to do.
    renounce(false).context("cannot give up capabilities")?;
    Ok(received)
}

type Batches = mpsc::Sender<Result<Vec<Item>, String>>;

/// Traces until nobody wants items any more; says by `attached` how it began.
fn trace(options: &Options, items: &Batches, attached: &Sender<Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(attached.send(Err(error.into()))),
    };
    runtime.block_on(async {
        let began = Session::start(options).map_err(anyhow::Error::from).and_then(|(session, start)| {
            renounce(false).context("cannot give up capabilities")?;
            Ok((session, start))
        });
        let (mut session, start) = match began {
            Ok(began) => began,
            Err(error) => return drop(attached.send(Err(error))),
        };
        attached.send(Ok(())).ok();
        if items.send(Ok(vec![Item::Start(start)])).await.is_ok()
            && let Err(why) = drain(&mut session, items).await
        {
            items.send(Err(format!("tracing failed: {why:#}"))).await.ok();
        }
    });
}

/// Sends what comes, until nobody takes it any more.
async fn drain(session: &mut Session, items: &Batches) -> Result<()> {
    let mut drain = ticks(DRAIN_EVERY);
    let mut tally = ticks(TALLY_EVERY);
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            ready = session.ring_fills() => ready?,
            _ = drain.tick() => {}
            _ = tally.tick() => batch = session.tallies()?,
            () = items.closed() => return Ok(()),
        }
        let drained = session.drain();
        batch.extend(drained);
        if !batch.is_empty()
            && let Err(SendError(_)) = items.send(Ok(batch)).await
        {
            return Ok(());
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
