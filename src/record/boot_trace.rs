//! `record --with-boot-trace`: the kernel's own trace since boot in front of the recording.
//!
//! The trace is looked at before anything is attached, and taken when trace and recorder have gone on side by side for a while. It is
//! joined on a thread of its own: meanwhile the rings are emptied into memory.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracer::{
    event::DeviceId,
    exchange::{
        given::GivenDevice,
        join::{Begun, Joined, Rest, join},
        tracedat::Ring,
    },
    facts::Device,
    kernel::{
        boot_trace::{self, Taken},
        firmware,
        root::Root,
    },
    live::{Session, Sink},
    stream::{Item, Start},
};

use super::capture::{Capture, Summary};
use crate::input::{note, say};

/// Trace and recorder go on side by side for so long: devices that are in use are described meanwhile.
const SIDE_BY_SIDE: Duration = Duration::from_millis(1500);
/// How long an event may take from the kernel to here, many times what the loop of a recording needs.
const ON_THE_WAY_NS: u64 = 500_000_000;
/// How often the programs' counts are read, to find one at which nothing is mapped.
const READS: u32 = 8;
/// Between two such reads.
const BETWEEN_READS: Duration = Duration::from_millis(5);

/// The kernel's trace, which can be joined.
pub(super) struct BootTrace(boot_trace::BootTrace);

impl BootTrace {
    pub(super) fn open() -> Result<Self> {
        boot_trace::BootTrace::open(&Root::default()).map(Self).context("--with-boot-trace")
    }
}

/// The sink of a recording that may begin with the kernel's trace.
pub(super) struct Joining {
    capture: Capture,
    quiet: bool,
    state: State,
}

enum State {
    /// There is nothing to join, or it has been.
    Passing(Option<Rest>),
    /// The recording is kept until the trace is taken.
    Waiting { trace: boot_trace::BootTrace, begun: Box<Begun>, since: Instant },
    /// The trace is taken, and what comes meanwhile waits behind it.
    Joined {
        thread: JoinHandle<Result<Joined>>,
        /// What a recording without the trace would begin with, should joining fail: how it starts, and its devices.
        alone: Vec<Item>,
        behind: Vec<Item>,
    },
}

impl Joining {
    /// Begins the capture, at once where there is no trace.
    pub(super) fn new(
        mut capture: Capture,
        start: Start,
        trace: Option<BootTrace>,
        session: &mut Session,
        quiet: bool,
    ) -> Result<Self> {
        let Some(BootTrace(trace)) = trace else {
            capture.write(Item::Start(start))?;
            return Ok(Self { capture, quiet, state: State::Passing(None) });
        };
        let mut begun = Begun { start, gap: trace.gap.clone(), late: trace.late.clone(), ..Begun::default() };
        for n in 0..READS {
            thread::sleep(BETWEEN_READS);
            begun.items.extend(session.drain());
            let (time_ns, lengths) = session.lengths();
            if !lengths.is_empty() {
                begun.items.push(Item::Lengths(lengths.clone()));
            }
            // At the first, devices may not have been described yet: it is at no moment.
            begun.counted.push((if n == 0 { 0..u64::MAX } else { time_ns }, lengths));
        }
        Ok(Self { capture, quiet, state: State::Waiting { trace, begun: Box::new(begun), since: Instant::now() } })
    }

    pub(super) fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Writes items, or keeps them until the trace has been joined.
    fn write(&mut self, items: Vec<Item>) -> Result<()> {
        match &mut self.state {
            State::Passing(None) => self.capture.write_all(items),
            State::Passing(Some(rest)) => {
                self.capture.write_all(items.into_iter().map(|item| rest.item(item)).collect())
            }
            State::Waiting { begun, since, .. } => {
                begun.items.extend(items);
                if since.elapsed() < SIDE_BY_SIDE { Ok(()) } else { self.take_over() }
            }
            State::Joined { behind, thread, .. } => {
                behind.extend(items);
                if thread.is_finished() { self.joined() } else { Ok(()) }
            }
        }
    }

    /// Takes the trace, and begins to join it.
    fn take_over(&mut self) -> Result<()> {
        let State::Waiting { trace, mut begun, .. } = std::mem::replace(&mut self.state, State::Passing(None)) else {
            return Ok(());
        };
        let Taken { header_page, formats, page_size, pages, cpus, lost, time_ns } = match trace.take() {
            Ok(taken) => taken,
            Err(error) => {
                // The recording is worth having without it.
                let why =
                    format!("cannot read the kernel's own trace: {error}; nothing from before the recording is here");
                note(&why);
                begun.start.notes.push(why);
                self.capture.write(Item::Start(begun.start))?;
                return self.capture.write_all(begun.items);
            }
        };
        let ring = Ring { header_page, formats, page_size, pages, cpus, lost };
        begun.traced_to_ns = time_ns;
        // Of a recording that is over, all is there until the hooks were taken off.
        let over = begun.items.iter().rev().find_map(|item| if let Item::End(end) = item { Some(end) } else { None });
        let recorded_to_ns = over.map_or(time_ns.saturating_sub(ON_THE_WAY_NS), |end| end.detach_began_ns);
        begun.recorded_to_ns = recorded_to_ns.max(begun.start.time_ns);
        let page_size = begun.start.kernel.page_size;
        let devices = begun.items.iter().filter(|item| matches!(item, Item::Device(_) | Item::Symbols(_)));
        let alone = [Item::Start(begun.start.clone())].into_iter().chain(devices.cloned()).collect();
        let join =
            move || join(&ring, *begun, &|name| known(name, page_size)).context("cannot read the kernel's trace");
        let thread = thread::Builder::new().name("join".into()).spawn(join)?;
        self.state = State::Joined { thread, alone, behind: Vec::new() };
        Ok(())
    }

    /// Writes what the trace and the recording have come to, and what has waited for it.
    fn joined(&mut self) -> Result<()> {
        let State::Joined { thread, mut alone, behind } = std::mem::replace(&mut self.state, State::Passing(None))
        else {
            return Ok(());
        };
        let joined = match thread.join() {
            Ok(Ok(joined)) => joined,
            failed => {
                // The recording is worth having without it, and without what came while both ran.
                let error = failed.map_or_else(
                    |_| "it panicked".to_owned(),
                    |result| result.err().map_or_else(String::new, |error| format!("{error:#}")),
                );
                let why = format!(
                    "cannot join the kernel's own trace: {error}; the recording begins {:.1} s later, without it",
                    SIDE_BY_SIDE.as_secs_f64()
                );
                note(&why);
                if let Some(Item::Start(start)) = alone.first_mut() {
                    start.notes.push(why);
                }
                self.capture.write_all(alone)?;
                return self.capture.write_all(behind);
            }
        };
        if !self.quiet {
            say(&told(&joined));
        }
        self.capture.write_all(joined.items)?;
        self.state = State::Passing(Some(joined.rest));
        self.write(behind)
    }

    /// Writes the last items, and ends the capture.
    pub(super) fn close(mut self, items: Vec<Item>) -> Result<Summary> {
        match &mut self.state {
            State::Passing(_) => self.write(items)?,
            State::Waiting { begun, .. } => {
                begun.items.extend(items);
                self.take_over()?;
                self.joined()?;
            }
            State::Joined { behind, .. } => {
                behind.extend(items);
                self.joined()?;
            }
        }
        self.capture.close()
    }
}

impl Sink for Joining {
    type Error = anyhow::Error;

    async fn take(&mut self, items: Vec<Item>) -> Result<()> {
        self.write(items)
    }

    async fn drain(&mut self, session: &mut Session) -> Result<()> {
        if let State::Passing(None) = self.state { self.capture.drain(session) } else { self.write(session.drain()) }
    }

    async fn counted(&mut self, session: &Session) -> Result<()> {
        // A file has its name once something is in it.
        if let State::Passing(_) = self.state { self.capture.counted(session).await } else { Ok(()) }
    }
}

/// What firmware says of a device that has not mapped since the recorder began.
fn known(name: &str, page_size: u32) -> Option<GivenDevice> {
    let mut device = Device { id: DeviceId(0), name: name.to_owned(), ..Device::default() };
    firmware::complete(&Root::default(), &mut device, page_size);
    (!device.bus.is_empty()).then(|| GivenDevice {
        name: device.name,
        driver: Some(device.driver),
        coherent: Some(device.coherent),
        iommu_granule: Some(device.iommu_granule.unwrap_or(0)),
        ..GivenDevice::default()
    })
}

/// What the trace had, in a line, and a line for each doubt.
fn told(joined: &Joined) -> String {
    let Joined { at_ns, mappings, in_both, in_one, doubts, .. } = joined;
    let mut text = format!("boot trace  {mappings} mappings until {:.3} s after boot; ", *at_ns as f64 / 1e9);
    text += &match (in_both, in_one) {
        (0, 0) => "nothing was mapped while both ran\n".to_owned(),
        (both, one) => format!("{both} events while both ran are the same, {one} differ\n"),
    };
    for doubt in doubts {
        text += &format!("note: {doubt}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_joined_is_a_line_and_each_doubt_another() {
        let joined = Joined { at_ns: 1_500_000_000, mappings: 88, in_both: 7, ..Joined::default() };
        let whole =
            "boot trace  88 mappings until 1.500 s after boot; 7 events while both ran are the same, 0 differ\n";
        assert_eq!(told(&joined), whole);
        let doubts = vec!["3 of its events are lost".to_owned()];
        let doubtful = told(&Joined { in_both: 0, doubts, ..joined });
        assert!(
            doubtful.ends_with("nothing was mapped while both ran\nnote: 3 of its events are lost\n"),
            "{doubtful}"
        );
    }
}
