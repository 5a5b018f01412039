//! One pass over a stream for an export: every mapping when it begins and when it ends, and the slots in use under the policies that
//! are simulated beside it. What is mapped at one time is kept, nothing else.

use std::{cell::RefCell, collections::BTreeMap, io, sync::Arc};

use bouncescope_capture::event::Segment;
use bouncescope_capture::stream::{Gaps, Item, Source, Start};
use bouncescope_replay::{
    ReplayError, Wanted, bounds,
    devices::Devices,
    mapping::Mapping,
    pairing::{Pairing, Watch},
    pass::{self, Pass},
    settings::Settings,
    step::{Step, Unseen},
};

/// Takes what comes.
pub trait Follow {
    /// An item of the stream; before anything that follows from it.
    fn item(&mut self, item: &Item) -> io::Result<()>;

    /// A mapping, with what became of its buffers.
    fn mapped(&mut self, mapping: &Mapping, devices: &Devices) -> io::Result<()>;

    /// A mapping that ended, or that failed; without a time where no unmapping was seen.
    fn gone(&mut self, mapping: &Mapping, unmapped_ns: Option<u64>) -> io::Result<()>;

    /// An attempt to bounce without a mapping.
    fn unseen(&mut self, unseen: &Unseen) -> io::Result<()>;

    /// So many slots are in use from now on: of a policy, or as the `kernel` itself counts.
    fn occupancy(&mut self, time_ns: u64, whose: &str, used_slots: u64) -> io::Result<()>;
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError<E: std::error::Error + 'static> {
    /// The stream failed.
    #[error(transparent)]
    Source(E),
    /// What came of it could not be written.
    #[error("cannot write the export: {0}")]
    Write(io::Error),
}

/// Leads a stream past `to`, with simulated kernels of these settings beside it.
pub fn follow<S: Source>(
    source: &mut S,
    settings: impl FnOnce(&Start) -> Vec<Settings>,
    to: &mut impl Follow,
) -> Result<(), ReplayError<ExportError<S::Error>>> {
    let start = pass::start(source).map_err(|error| match error {
        ReplayError::Source(error) => ReplayError::Source(ExportError::Source(error)),
        ReplayError::NoStart => ReplayError::NoStart,
    })?;
    let write = |error| ReplayError::Source(ExportError::Write(error));
    to.item(&Item::Start(start.clone())).map_err(write)?;
    let mut pass = Pass::new(start.clone(), Wanted { settings: settings(&start), ..Wanted::default() });
    let mut runs: Vec<_> = pass.runs().into_iter().map(|run| (run, None)).collect();
    let to = RefCell::new(to);
    let mut tee = Tee { source, follower: Follower::new(&start), to: &to };
    let mut written = Ok(());
    pass.drive(&mut tee, &mut |steps, devices| {
        for step in &steps {
            for (run, before) in &mut runs {
                run.step(step, devices);
                let used = run.used_slots();
                if *before != Some(used) && written.is_ok() {
                    *before = Some(used);
                    written = to.borrow_mut().occupancy(step.time_ns(), &run.settings().name, used);
                }
            }
        }
    })?;
    written.and_then(|()| tee.follower.end(*to.borrow_mut())).map_err(write)
}

/// A source whose items are followed on their way.
struct Tee<'a, S, F> {
    source: &'a mut S,
    follower: Follower,
    to: &'a RefCell<&'a mut F>,
}

impl<S: Source, F: Follow> Source for Tee<'_, S, F> {
    type Error = ExportError<S::Error>;

    fn next_item(&mut self) -> Result<Option<Item>, Self::Error> {
        let mut item = self.source.next_item().map_err(ExportError::Source)?;
        if let Some(item) = &mut item {
            bounds::any(item);
            self.follower.item(item, *self.to.borrow_mut()).map_err(ExportError::Write)?;
        }
        Ok(item)
    }

    fn gaps(&self) -> Gaps {
        self.source.gaps()
    }
}

/// Pairs events into mappings, and keeps those that have not ended.
#[derive(Debug)]
struct Follower {
    devices: Devices,
    pairing: Pairing,
    /// By their number, so that those without an unmapping come in order at the end.
    mapped: BTreeMap<u64, Arc<Mapping>>,
}

/// Every mapping is followed.
struct Everything;

impl Watch for Everything {
    fn mapped(&mut self, _: &mut Mapping, _: &[Segment], _: &Devices) -> bool {
        true
    }
}

impl Follower {
    fn new(start: &Start) -> Self {
        Self { devices: Devices::default(), pairing: Pairing::new(start), mapped: BTreeMap::new() }
    }

    fn item<F: Follow>(&mut self, item: &Item, to: &mut F) -> io::Result<()> {
        to.item(item)?;
        match item {
            Item::Device(device) => self.devices.add(device.clone()),
            Item::Events(batch) => {
                for event in &batch.events {
                    self.pairing.event(event, batch.segments(event), &mut self.devices, &mut Everything);
                    self.steps(to)?;
                }
            }
            Item::Pool(sample) => to.occupancy(sample.time_ns, KERNEL, sample.used_slots)?,
            _ => {}
        }
        Ok(())
    }

    fn end<F: Follow>(&mut self, to: &mut F) -> io::Result<()> {
        self.pairing.finish();
        self.steps(to)?;
        std::mem::take(&mut self.mapped).into_values().try_for_each(|mapping| to.gone(&mapping, None))
    }

    fn steps<F: Follow>(&mut self, to: &mut F) -> io::Result<()> {
        while let Some(step) = self.pairing.next_step() {
            match step {
                Step::Mapped { mapping, replaces } => {
                    if let Some(gone) = replaces.and_then(|gone| self.mapped.remove(&gone.id)) {
                        to.gone(&gone, None)?;
                    }
                    to.mapped(&mapping, &self.devices)?;
                    if mapping.failed {
                        to.gone(&mapping, None)?;
                    } else {
                        self.mapped.insert(mapping.id, mapping);
                    }
                }
                Step::Unmapped(unmapping) => {
                    if let Some(mapping) = self.mapped.remove(&unmapping.mapping.id) {
                        to.gone(&mapping, Some(unmapping.time_ns))?;
                    }
                }
                Step::Unseen(unseen) => to.unseen(&unseen)?,
                Step::Buffer { .. }
                | Step::Coherent { .. }
                | Step::SlotReleased(_)
                | Step::Synced(_)
                | Step::Forgotten { .. }
                | Step::RefusedEnds { .. } => {}
            }
        }
        Ok(())
    }
}

/// The name under which the kernel's own count stands.
pub const KERNEL: &str = "kernel";
