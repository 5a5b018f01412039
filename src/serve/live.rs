//! The running kernel behind `serve --live`: one thread drains the programs' ring, one replays what comes, one answers.
//!
//! Nothing is kept of events once they are replayed; what is replayed is written down when somebody asks, at most so often.

use std::{
    net::TcpListener,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tracer::{
    facts::End,
    live::{MapEntries, Options, Places, Session, renounce},
    model::policy::Policy,
    replay::{ongoing::Ongoing, settings::WhatIf},
    report::page::{Subject, plan::Plan},
    stream::{Item, Start, Streamed},
};

use super::{
    http::{Server, Shown},
    shown::Rendered,
};

/// How often the ring is emptied when nothing asks for it.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// How often counters are read.
const TALLY_EVERY: Duration = Duration::from_millis(500);
/// What was written down is shown again until it is so old.
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// Items that may wait for a replay, before the ring has to, which counts what it loses.
const QUEUE: usize = 64;
const RING_BYTES: u32 = 8 << 20;

/// What the replaying thread is asked.
enum Work {
    /// Something happened.
    Item(Item),
    /// What recording has cost by now.
    Cost(End),
    /// Write down how it is.
    Render(SyncSender<Arc<Rendered>>),
}

/// The replaying thread.
#[derive(Clone)]
pub(super) struct Replaying(SyncSender<Work>);

impl Replaying {
    /// How it is now; `None` where it has ended.
    pub(super) fn rendered(&self) -> Option<Arc<Rendered>> {
        let (answer, rendered) = sync_channel(1);
        self.0.send(Work::Render(answer)).ok()?;
        rendered.recv().ok()
    }
}

/// Traces and serves until it is interrupted.
pub(super) fn run(listener: TcpListener, policies: Vec<Policy>, sample: u64) -> Result<ExitCode> {
    if sample != 0 && !sample.is_power_of_two() {
        bail!("--sample {sample} is not a power of two; use 1, 2, 4, … or 0 for none");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(trace(listener, policies, sample))?;
    Ok(ExitCode::SUCCESS)
}

async fn trace(listener: TcpListener, policies: Vec<Policy>, sample: u64) -> Result<()> {
    let options = Options {
        allocation_sample: sample,
        // Enough for every policy.
        streamed: Streamed::Written,
        ring_bytes: RING_BYTES,
        map_entries: MapEntries::default(),
        shrink_caches: false,
        count_tracefs: false,
        places: Places::Best,
        programs_log: false,
        count_costs: false,
        btf: None,
        recorder: std::env::args().collect::<Vec<_>>().join(" "),
        reset_hiwater: true,
    };
    let (mut session, start) = Session::start(&options)?;
    for hook in start.hooks.iter().filter(|hook| !hook.attached) {
        eprintln!("not attached: {}: {} (lost without it: {})", hook.subject, hook.why_not, hook.lost_without);
    }
    // Before other threads are started, which keep what this one has.
    renounce(false).context("cannot give up capabilities")?;
    let server = Server::new(listener)?;
    let (queue, work) = sync_channel(QUEUE);
    thread::Builder::new().name("replay".into()).spawn(move || replay(start, &policies, &work))?;
    let shown = Shown::Live(Replaying(queue.clone()));
    thread::Builder::new().name("http".into()).spawn(move || {
        if let Err(error) = server.run(shown) {
            eprintln!("bouncescope: cannot serve any more: {error:#}");
        }
    })?;

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut drain = interval(DRAIN_EVERY);
    let mut tally = interval(TALLY_EVERY);
    drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tally.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let send = |work| queue.send(work).map_err(|_| anyhow::anyhow!("the thread that replays has ended"));
    loop {
        tokio::select! {
            ready = session.ring_fills() => ready?,
            _ = drain.tick() => {}
            _ = tally.tick() => {
                session.tallies()?.into_iter().try_for_each(|item| send(Work::Item(item)))?;
                send(Work::Cost(session.cost()))?;
            }
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
        let items = session.drain();
        items.into_iter().try_for_each(|item| send(Work::Item(item)))?;
    }
}

/// Replays what comes, until no more can.
fn replay(start: Start, policies: &[Policy], work: &Receiver<Work>) {
    let name = "this kernel, live".to_owned();
    let plan = Plan::new(&start.kernel, policies, &WhatIf::default());
    let mut cost = End { time_ns: start.time_ns, ..End::default() };
    let mut ongoing = Ongoing::new(start, plan.wanted());
    let mut latest: Option<(Instant, Arc<Rendered>)> = None;
    for work in work {
        match work {
            Work::Item(item) => ongoing.take(item),
            Work::Cost(end) => cost = end,
            Work::Render(answer) => {
                let fresh = latest.take().filter(|(when, _)| when.elapsed() < SHOWN_FOR);
                let (when, rendered) = fresh.unwrap_or_else(|| {
                    let results = plan.results(ongoing.so_far(&cost));
                    let rendered = Rendered::new(&Subject { name: name.clone(), results }, "live");
                    (Instant::now(), Arc::new(rendered))
                });
                // Who asked may have gone.
                let _ = answer.send(Arc::clone(&rendered));
                latest = Some((when, rendered));
            }
        }
    }
}
