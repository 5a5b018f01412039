//! One loop: keys, items, answers, signals and time in; at most ten drawings a second out, and none where nothing changed.

use std::future::pending;
use std::io;
use std::time::Duration;

use crossterm::event::EventStream;
use futures_util::StreamExt as _;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracer::stream::Item;

use crate::dashboard::{Dashboard, Next};
use crate::feed::Feed;
use crate::terminal::{self, Terminal};
use crate::theme::Theme;

/// Between two drawings, at the least; and how often the clock is looked at.
const FRAME: Duration = Duration::from_millis(100);

/// Items of a live stream as they come, or why there are no more.
pub type Items = Receiver<Result<Vec<Item>, String>>;

/// Why the dashboard could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The terminal failed.
    #[error("cannot use the terminal")]
    Terminal(#[from] io::Error),
    /// A thread panicked, and has said so.
    #[error("a part of the dashboard failed, as said above")]
    Panicked,
}

/// Shows a feed in the terminal until a person has seen enough, or a signal says so. Live items come by `items`. What is left to be
/// said when the terminal is as it was. Must run inside a tokio runtime.
pub async fn show(source: String, feed: Feed, items: Option<Items>, theme: Theme) -> Result<Option<String>, ShowError> {
    let (tell, told) = unbounded_channel();
    let mut dashboard = Dashboard::new(source, feed, theme, tell)?;
    let mut terminal = Terminal::enter()?;
    run(&mut dashboard, &mut terminal, items, told).await?;
    drop(terminal);
    Ok(dashboard.stop_recording())
}

async fn run(
    dashboard: &mut Dashboard,
    terminal: &mut Terminal,
    mut items: Option<Items>,
    mut told: UnboundedReceiver<crate::dashboard::Told>,
) -> Result<(), ShowError> {
    let mut events = EventStream::new();
    let mut signals = Signals::new()?;
    let mut ticks = interval(FRAME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut passed = Instant::now();
    let mut drawn: Option<Instant> = None;
    loop {
        let due = drawn.map_or_else(Instant::now, |drawn| drawn + FRAME);
        tokio::select! {
            event = events.next() => match event {
                Some(event) => match dashboard.event(&event?) {
                    Next::GoOn => {}
                    Next::Redraw => terminal.cells().clear()?,
                    Next::Suspend => terminal.without(suspend)?,
                    Next::Quit => return Ok(()),
                },
                // Nobody is there any more.
                None => return Ok(()),
            },
            batch = next(&mut items) => match batch {
                Some(Ok(batch)) => dashboard.take(batch),
                Some(Err(why)) => dashboard.ended(why),
                None => items = None,
            },
            Some(told) = told.recv() => dashboard.told(told),
            () = signals.end() => return Ok(()),
            () = sleep_until(due), if dashboard.is_dirty => {
                terminal.cells().draw(|frame| dashboard.draw(frame.area(), frame.buffer_mut()))?;
                drawn = Some(Instant::now());
            }
            now = ticks.tick() => {
                if terminal::has_panicked() {
                    return Err(ShowError::Panicked);
                }
                dashboard.pass(now.saturating_duration_since(passed).as_nanos() as u64);
                passed = now;
            }
        }
        dashboard.ask();
    }
}

async fn next(items: &mut Option<Items>) -> Option<Result<Vec<Item>, String>> {
    match items {
        Some(items) => items.recv().await,
        None => pending().await,
    }
}

/// Signals that end the program.
#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 4]);

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ]))
    }

    /// Returns when one came.
    async fn end(&mut self) {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

/// Stops this program, until the shell has it go on.
#[cfg(unix)]
fn suspend() {
    // The whole group, as the terminal does it: what started this may be waiting in it.
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn end(&mut self) {
        tokio::signal::ctrl_c().await.ok();
    }
}

#[cfg(not(unix))]
fn suspend() {}
