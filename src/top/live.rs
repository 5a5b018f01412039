//! The running kernel as a stream for the dashboard: a thread that empties the ring, whatever the screen does.

use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc::{Sender, channel};
use tracer::live::{Options, Session, Sink, record, renounce};
use tracer::stream::{Item, Streamed};
use tui::event_loop::Items;

/// Batches that may wait for the dashboard, before the ring has to.
const QUEUE: usize = 64;
/// Attaches, and has items come.
pub(super) fn start(btf: Option<PathBuf>) -> Result<Items> {
    let options = Options {
        // Every policy is to be tried, and every device to be seen.
        streamed: Streamed::All,
        btf,
        // Somebody else may be watching it.
        reset_hiwater: false,
        ..Options::default()
    };
    let (items, received) = channel(QUEUE);
    let (attached, is_attached) = std::sync::mpsc::channel();
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

type Batch = Result<Vec<Item>, String>;

/// Traces until nobody wants items any more; says by `attached` how it began.
fn trace(options: &Options, items: &Sender<Batch>, attached: &std::sync::mpsc::Sender<Result<()>>) {
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
            && let Err(why) = record(&mut session, &mut Batches(items.clone()), items.closed()).await
        {
            items.send(Err(format!("tracing failed: {why:#}"))).await.ok();
        }
    });
}

/// Hands everything to the dashboard.
struct Batches(Sender<Batch>);

impl Sink for Batches {
    type Error = anyhow::Error;

    async fn take(&mut self, items: Vec<Item>) -> Result<()> {
        // Where nobody takes it any more, the recording ends.
        self.0.send(Ok(items)).await.ok();
        Ok(())
    }
}
