//! A recording that begins with the kernel's own trace since boot: until it was taken over it has to hold the events that the kernel
//! printed as text, one for one.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::BufReader,
    ops::Range,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use tracer::{
    capture::Reader,
    event::{DeviceId, Event, Segment, What},
    exchange::{
        assume::assume,
        ftrace::{Survey, Trace},
    },
    stream::{Item, Source, Start},
};

use crate::{mappings, text_trace::kernel_and_devices};

/// Mappings that drivers make at least while they find the devices of the lab's machine.
const FEWEST: usize = 50;
/// Text has microseconds, rounded.
const ROUNDED_NS: u64 = 1000;
/// Differences that are told one by one.
const TOLD: usize = 5;
/// Words of notes on what is missing or not certain.
const DOUBTS: [&str; 7] = ["missing", "lost", "twice", "not in both", "off by", "not at boot", "can't be told"];

/// An event by CPU: its time, its device's name, what it is, and the segments of a list.
type Told = (u64, String, What, Vec<Segment>);

/// What is off about such a recording, a line each. The kernel counted within `counted_ns`, from before it was taken over on.
pub(super) fn problems(
    capture: &Path,
    facts: &BTreeMap<String, String>,
    counted_ns: &Range<u64>,
) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let traced_to: u64 = facts.get("traced_to_ns").and_then(|text| text.parse().ok()).context("no traced_to_ns")?;
    let path = capture.with_extension("boot.trace");
    let open = || File::open(&path).map(BufReader::new).with_context(|| format!("cannot open {}", path.display()));
    let survey = Survey::of(open()?)?;
    if survey.nonsense > 0 || survey.lost > 0 {
        problems.push(format!("the boot's trace: {} lost, {} lines can't be read", survey.lost, survey.nonsense));
    }
    let start = start_of(capture)?;
    let Some(joined_ns) = start.joined_ns else { bail!("no trace was joined") };
    if !counted_ns.contains(&joined_ns) || joined_ns <= traced_to {
        problems.push(format!("it was taken over at {joined_ns} ns, and counted within {counted_ns:?}"));
    }
    problems.extend(start.notes.iter().filter(|note| DOUBTS.iter().any(|word| note.contains(word))).cloned());
    let (kernel, devices) = kernel_and_devices(capture)?;
    let assumed = assume(&survey, kernel, &devices, &[]);
    let trace = Trace::new(open()?, &survey, assumed.kernel, assumed.devices, assumed.notes);
    let (mut recorded, printed) = (told(Reader::open(capture)?, traced_to)?, told(trace, traced_to)?);
    let count = |all: &BTreeMap<u16, VecDeque<Told>>, which: fn(&What) -> bool| {
        all.values().flatten().filter(|(_, _, what, _)| which(what)).count()
    };
    let maps = |what: &What| matches!(what, What::Map { .. } | What::MapSg { .. });
    let bounces = |what: &What| matches!(what, What::Bounced { .. });
    let (mappings, own) = (count(&printed, maps), count(&recorded, maps));
    eprintln!(
        "lab: {}: {own} mappings of {} events until the kernel's trace was printed, which has {mappings} of {}; {} attempts to bounce, {}",
        capture.display(),
        count(&recorded, |_| true),
        count(&printed, |_| true),
        count(&recorded, bounces),
        count(&printed, bounces),
    );
    if mappings < FEWEST {
        problems.push(format!("only {mappings} mappings in the boot's trace: nothing to compare with"));
    }
    problems.extend(differences(&mut recorded, printed));
    problems.extend(wrongly_described(&devices));
    Ok(problems)
}

/// Lists that the recorder itself saw, and of which no function is named that mapped them.
pub(super) fn without_caller(capture: &Path, counted_ns: &Range<u64>) -> Result<u64> {
    let joined_ns = start_of(capture)?.joined_ns.context("no trace was joined")?;
    Ok(mappings::in_capture(capture, &(joined_ns..counted_ns.end), false)?.without_caller)
}

/// The events of a source before that moment, by CPU, but for objects and slots, which no trace has.
fn told(mut source: impl Source, until_ns: u64) -> Result<BTreeMap<u16, VecDeque<Told>>> {
    let (mut names, mut by_cpu) = (Vec::new(), BTreeMap::<u16, VecDeque<Told>>::new());
    while let Some(item) = source.next_item()? {
        match item {
            Item::Device(device) => names.push(device.name),
            Item::Events(batch) => {
                for event in batch.events.iter().filter(|event| event.time_ns < until_ns) {
                    if let Some((device, what)) = without_device(event) {
                        let name = names.get(device.0 as usize).cloned().unwrap_or_default();
                        let segments = batch.segments(event).to_vec();
                        by_cpu.entry(event.cpu).or_default().push_back((event.time_ns, name, what, segments));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(by_cpu)
}

/// The device of an event, and the event as that of any device.
fn without_device(event: &Event) -> Option<(DeviceId, What)> {
    let mut what = event.what;
    let device = match &mut what {
        What::MapSg { device, first_segment, .. } => {
            *first_segment = 0;
            device
        }
        What::Map { device, .. }
        | What::Unmap { device, .. }
        | What::UnmapSg { device, .. }
        | What::Bounced { device, .. }
        | What::Sync { device, .. } => device,
        _ => return None,
    };
    Some((std::mem::take(device), what))
}

/// Events of a CPU that are not the same, one by one and in order, a line each; of many only the first.
fn differences(recorded: &mut BTreeMap<u16, VecDeque<Told>>, printed: BTreeMap<u16, VecDeque<Told>>) -> Vec<String> {
    let mut lines = Vec::new();
    for (cpu, printed) in printed {
        let mut recorded = recorded.remove(&cpu).unwrap_or_default();
        for one in printed {
            let same = recorded.pop_front().filter(|other| {
                other.0.abs_diff(one.0) <= ROUNDED_NS && (&other.1, other.2, &other.3) == (&one.1, one.2, &one.3)
            });
            if same.is_none() {
                lines.push(format!("CPU {cpu}: the kernel printed {one:?}, which is not recorded"));
            }
        }
        lines.extend(recorded.into_iter().map(|one| format!("CPU {cpu}: {one:?} is recorded, and was not printed")));
    }
    lines.extend(recorded.iter().flat_map(|(cpu, all)| all.iter().map(move |_| format!("CPU {cpu} was not printed"))));
    let more = lines.len().saturating_sub(TOLD);
    lines.truncate(TOLD);
    if more > 0 {
        lines.push(format!("and {more} more events that differ"));
    }
    lines
}

/// Devices that are described otherwise where the trace names them than where the recorder saw them.
fn wrongly_described(devices: &[tracer::facts::Device]) -> Vec<String> {
    let pairs = devices.iter().enumerate().filter_map(|(n, first)| {
        let again = devices[n + 1..].iter().find(|device| device.name == first.name)?;
        (first.coherent != again.coherent || first.iommu_granule != again.iommu_granule).then_some((first, again))
    });
    pairs.map(|(first, again)| format!("{}: {first:?}, and then {again:?}", first.name)).collect()
}

fn start_of(capture: &Path) -> Result<Start> {
    let Some(Item::Start(start)) = Reader::open(capture)?.next_item()? else { bail!("the capture has no start") };
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(time_ns: u64, dev_addr: u64) -> Told {
        (time_ns, "usb".into(), What::Bounced { device: DeviceId(0), dev_addr, size: 8 }, Vec::new())
    }

    fn compared(recorded: &[Told], printed: &[Told]) -> usize {
        let of = |all: &[Told]| BTreeMap::from([(0, all.iter().cloned().collect())]);
        differences(&mut of(recorded), of(printed)).len()
    }

    #[test]
    fn events_are_the_same_one_for_one_with_times_as_text_has_them() {
        let printed = [one(1000, 1), one(2000, 2)];
        assert_eq!(compared(&[one(1400, 1), one(1600, 2)], &printed), 0);
        assert_eq!(compared(&[one(1400, 1)], &printed), 1, "one is missing");
        assert_eq!(compared(&[one(1400, 1), one(1600, 2), one(1700, 2)], &printed), 1, "one is there twice");
        assert_eq!(compared(&[one(1400, 1), one(1600, 3)], &printed), 1, "another");
        assert_eq!(compared(&[one(5400, 1), one(1600, 2)], &printed), 1, "another time");
        assert_eq!(
            differences(&mut BTreeMap::from([(1, [one(1, 1)].into())]), BTreeMap::new()).len(),
            1,
            "another CPU"
        );
    }
}
