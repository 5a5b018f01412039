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

use anyhow::{Context as _, Result, anyhow};
use tracer::{
    facts::End,
    live::{Options, Session, Sink, record, renounce},
    model::policy::Policy,
    replay::{ongoing::Ongoing, settings::WhatIf},
    report::page::{Subject, plan::Plan},
    stream::{Item, Start, Streamed},
};

use super::{
    http::Server,
    shown::{Rendered, Replaying, Shown, Work},
};
use crate::{
    input::fail,
    recording::{Signals, say_not_attached},
    what_if::explain_pools,
};

/// What was written down is shown again until it is so old.
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// Items that may wait for a replay, before the ring has to, which counts what it loses.
const QUEUE: usize = 64;

/// Traces and serves until it is interrupted.
pub(super) fn run(listener: TcpListener, policies: Vec<Policy>, what_if: WhatIf, sample: u64) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(trace(listener, policies, what_if, sample))?;
    Ok(ExitCode::SUCCESS)
}

async fn trace(listener: TcpListener, policies: Vec<Policy>, what_if: WhatIf, sample: u64) -> Result<()> {
    let options = Options {
        allocation_sample: sample,
        // Enough for every policy.
        streamed: Streamed::Written,
        ..Options::default()
    };
    let (mut session, start) = Session::start(&options)?;
    say_not_attached(&start, false);
    explain_pools(policies.iter().map(|policy| what_if.pool.unwrap_or(policy.pool)), &start.kernel);
    // Before other threads are started, which keep what this one has.
    renounce(false).context("cannot give up capabilities")?;
    let server = Server::new(listener)?;
    let (queue, work) = sync_channel(QUEUE);
    thread::Builder::new().name("replay".into()).spawn(move || replay(start, &policies, &what_if, &work))?;
    let shown = Shown::Live(Replaying::new(queue.clone()));
    thread::Builder::new().name("http".into()).spawn(move || {
        if let Err(error) = server.run(shown) {
            fail(&error.context("cannot serve any more"));
        }
    })?;

    let mut signals = Signals::new()?;
    record(&mut session, &mut Queue(queue), signals.end()).await
}

/// Hands everything to the thread that replays.
struct Queue(SyncSender<Work>);

impl Queue {
    fn send(&self, work: Work) -> Result<()> {
        self.0.send(work).map_err(|_| anyhow!("the thread that replays has ended"))
    }
}

impl Sink for Queue {
    type Error = anyhow::Error;

    async fn take(&mut self, items: Vec<Item>) -> Result<()> {
        items.into_iter().try_for_each(|item| self.send(Work::Item(item)))
    }

    async fn counted(&mut self, session: &Session) -> Result<()> {
        self.send(Work::Cost(session.cost()))
    }
}

/// Replays what comes, until no more can.
fn replay(start: Start, policies: &[Policy], what_if: &WhatIf, work: &Receiver<Work>) {
    let name = "this kernel, live".to_owned();
    let plan = Plan::new(&start.kernel, policies, what_if);
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
