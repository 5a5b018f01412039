//! Many simulated kernels over one pass, on all cores: one thread makes the steps, the others let the kernels take them.
//!
//! What comes out is what [`crate::replay::replay`] gives.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bouncescope_capture::stream::{Source, Start};
use bouncescope_replay::devices::Devices;
use bouncescope_replay::pass::{self, Pass};
use bouncescope_replay::run::Run;
use bouncescope_replay::step::Step;
use bouncescope_replay::{ReplayError, Replayed, Wanted};

/// Batches of steps that may wait for a thread.
const QUEUE: usize = 4;
/// So few kernels are not worth a thread.
const FEW: usize = 3;

/// Steps, and the devices described by then.
type Steps = (Arc<Vec<Step>>, Arc<Devices>);

/// Replays a stream with as many threads as there are cores.
pub fn sweep<S: Source>(
    source: &mut S,
    wanted: impl FnOnce(&Start) -> Wanted,
) -> Result<Replayed, ReplayError<S::Error>> {
    let start = pass::start(source)?;
    let wanted = wanted(&start);
    swept(source, start, wanted)
}

/// The same, with nothing in it that depends on who asks.
fn swept<S: Source>(source: &mut S, start: Start, wanted: Wanted) -> Result<Replayed, ReplayError<S::Error>> {
    let mut pass = Pass::new(start, wanted);
    let runs = pass.runs();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    if runs.len() <= FEW || threads == 1 {
        return pass.alone(source, runs);
    }
    let mut parts: Vec<Vec<(usize, Run)>> = (0..threads).map(|_| Vec::new()).collect();
    for (n, run) in runs.into_iter().enumerate() {
        parts[n % threads].push((n, run));
    }
    let mut runs = thread::scope(|scope| {
        let (senders, workers): (Vec<SyncSender<Steps>>, Vec<_>) = parts
            .into_iter()
            .map(|part| {
                let (sender, receiver) = sync_channel(QUEUE);
                (sender, scope.spawn(move || take_all(part, &receiver)))
            })
            .unzip();
        let driven = pass.drive(source, &mut |steps, devices| {
            let steps = Arc::new(steps);
            for sender in &senders {
                // A worker is gone only if it panicked, and that comes out when it is joined.
                let _ = sender.send((Arc::clone(&steps), Arc::clone(devices)));
            }
        });
        drop(senders);
        let joined = workers.into_iter().map(|worker| match worker.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let runs: Vec<(usize, Run)> = joined.flatten().collect();
        driven.map(|()| runs)
    })?;
    runs.sort_by_key(|(n, _)| *n);
    Ok(pass.finish(runs.into_iter().map(|(_, run)| run).collect(), source.gaps()))
}

fn take_all(mut part: Vec<(usize, Run)>, steps: &Receiver<Steps>) -> Vec<(usize, Run)> {
    for (steps, devices) in steps {
        for (_, run) in &mut part {
            run.steps(&steps, &devices);
        }
    }
    part
}
