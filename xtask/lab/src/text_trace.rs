//! What the guest's tracefs wrote as text beside a recording, imported: it has to tell the same bounces of each device as the
//! recording does, and what it shows of the devices has to be so.

use std::{collections::BTreeMap, fs::File, io::BufReader, ops::Range, path::Path};

use anyhow::{Context, Result};
use tracer::{
    capture::Reader,
    event::What,
    exchange::{
        assume::assume,
        ftrace::{Survey, Trace},
    },
    facts::{Device, KernelFacts},
    replay::{Replayed, Wanted, outcome::DeviceRow, replay, settings::Settings},
    stream::{Item, Source, Start},
};

use super::mappings::Within;

/// Bounces of each device that has any: as predicted, and as they were.
type Bounces = BTreeMap<String, (u64, u64)>;

/// What is off about the trace beside a capture, a line each; empty when nothing is. It was written in that time
/// (`CLOCK_MONOTONIC`, ns).
pub(super) fn problems(capture: &Path, time_ns: &Range<u64>) -> Result<Vec<String>> {
    let path = capture.with_extension("trace");
    let open = || File::open(&path).map(BufReader::new).with_context(|| format!("cannot open {}", path.display()));
    let survey = Survey::of(open()?)?;
    let (kernel, devices) = kernel_and_devices(capture)?;
    let mut problems = Vec::new();
    if survey.nonsense > 0 || survey.lost > 0 {
        problems.push(format!(
            "import: {} lost, {} lines can't be read, such as {}",
            survey.lost, survey.nonsense, survey.first_nonsense
        ));
    }
    problems.extend(shown(&survey, &kernel, &devices));
    let assumed = assume(&survey, kernel, &devices, &[]);
    let trace = Trace::new(open()?, &survey, assumed.kernel, assumed.devices, assumed.notes);
    let recorded = WithoutLinks(Within::open(capture, time_ns)?);
    let (recorded, imported) = (bounces(&replayed(recorded)?), bounces(&replayed(trace)?));
    if recorded != imported {
        problems.push(format!("import: bounces recorded {recorded:?}, imported {imported:?}"));
    }
    Ok(problems)
}

/// A capture as far as the kernel has events of it.
struct WithoutLinks<S>(S);

impl<S: Source> Source for WithoutLinks<S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        let mut item = self.0.next_item()?;
        if let Some(Item::Events(batch)) = &mut item {
            batch.events.retain(|event| !matches!(event.what, What::Link { .. } | What::Unlink { .. }));
        }
        Ok(item)
    }
}

pub(super) fn kernel_and_devices(capture: &Path) -> Result<(KernelFacts, Vec<Device>)> {
    let (mut kernel, mut devices) = (KernelFacts::default(), Vec::new());
    let mut reader = Reader::open(capture)?;
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Start(start) => kernel = start.kernel,
            Item::Device(device) => devices.push(device),
            _ => {}
        }
    }
    Ok((kernel, devices))
}

/// Devices of which the trace alone shows what they are not; why one bounces that no one trusts it cannot show.
fn shown(survey: &Survey, kernel: &KernelFacts, devices: &[Device]) -> Vec<String> {
    let alone = assume(survey, kernel.clone(), &[], &[]);
    let says_nothing = |name: &str| {
        alone.notes.iter().any(|note| note.contains("nothing in the trace shows it") && note.contains(name))
    };
    let pairs = alone.devices.iter().filter_map(|shown| {
        let real = devices.iter().rfind(|device| device.name == shown.name)?;
        (!says_nothing(&shown.name) && !real.force_bounce && !real.untrusted && real.coherent != shown.coherent)
            .then_some((shown, real))
    });
    let told = pairs.map(|(shown, real)| format!("import: {} taken as coherent: {}", real.name, shown.coherent));
    // Without a pool, what would bounce is left alone by every device.
    if kernel.pool.slots == 0 { Vec::new() } else { told.collect() }
}

fn replayed<S: Source>(mut source: S) -> Result<Replayed>
where
    S::Error: Send + Sync + 'static,
{
    let wanted = |start: &Start| Wanted { settings: vec![Settings::captured(&start.kernel)], ..Wanted::default() };
    Ok(replay(&mut source, wanted)?)
}

fn bounces(replayed: &Replayed) -> Bounces {
    let count = |rows: &[DeviceRow], name: &str| {
        rows.iter().filter(|row| row.device == name).map(|row| row.tally.bounces).sum::<u64>()
    };
    let predicted = replayed.outcomes.first().map(|outcome| &outcome.rows.by_device[..]).unwrap_or_default();
    let kernel = &replayed.observed_rows.by_device;
    let names = kernel.iter().chain(predicted).map(|row| row.device.clone());
    let counts = names.map(|name| (count(predicted, &name), count(kernel, &name), name));
    counts.filter(|(predicted, kernel, _)| predicted + kernel > 0).map(|(p, k, name)| (name, (p, k))).collect()
}
