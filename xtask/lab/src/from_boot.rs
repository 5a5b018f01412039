//! A recording from boot: what it holds of the time in which drivers found their devices, compared with the events that the kernel itself
//! wrote from boot on; and a machine that came up although the recorder could not.

use std::{collections::BTreeMap, fs, fs::File, io::BufReader, path::Path};

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    exchange::{
        assume::assume,
        ftrace::{Survey, Trace},
    },
    stream::{Item, Source as _},
};

use crate::{
    mappings::{self, Within},
    text_trace::kernel_and_devices,
};

/// Mappings that drivers make at least while they find the devices of the lab's machine.
const FEWEST: u64 = 50;

/// The caches are counted when a recording ends; that takes no longer, ns.
const SOON_NS: u64 = 2_000_000_000;

/// What is off about a recording from boot, a line each. As many mappings as were `skipped` may be missing.
pub(super) fn problems(capture: &Path, facts: &BTreeMap<String, String>, skipped: u64) -> Result<Vec<String>> {
    let mut problems = log_problems(capture, "recording from boot, attached after")?;
    problems.extend(seen_by_recorder(capture)?);
    let path = capture.with_extension("boot.trace");
    // Kernels before 6.12 have no events to write.
    if !path.is_file() {
        return Ok(problems);
    }
    let traced_to = facts.get("traced_to_ns").and_then(|text| text.parse().ok()).context("no traced_to_ns")?;
    let time_ns = began_ns(capture)?..traced_to;
    let open = || File::open(&path).map(BufReader::new).with_context(|| format!("cannot open {}", path.display()));
    let survey = Survey::of(open()?)?;
    if survey.nonsense > 0 || survey.lost > 0 {
        problems.push(format!("the boot's trace: {} lost, {} lines can't be read", survey.lost, survey.nonsense));
    }
    let (kernel, devices) = kernel_and_devices(capture)?;
    let assumed = assume(&survey, kernel, &devices, &[]);
    let trace = Trace::new(open()?, &survey, assumed.kernel, assumed.devices, assumed.notes);
    let traced = mappings::counted(Within { source: trace, time_ns: &time_ns }, true)?;
    let recorded = mappings::in_capture(capture, &time_ns, true)?;
    eprintln!(
        "lab: {}: {} mappings while drivers found their devices, {} in the kernel's own trace",
        capture.display(),
        recorded.mappings,
        traced.mappings
    );
    if traced.mappings < FEWEST {
        problems.push(format!("only {} mappings in the boot's trace: nothing to compare with", traced.mappings));
    }
    if recorded.mappings + skipped < traced.mappings || recorded.mappings > traced.mappings {
        problems.push(format!(
            "{} mappings before the workload, the boot's trace has {}",
            recorded.mappings, traced.mappings
        ));
    }
    problems.extend(mappings::differences(&recorded.by_buffer, &traced.by_buffer, skipped));
    Ok(problems)
}

/// What a recorder does not see that has lost its root with the initramfs, or that reads no names of modules that are loaded later.
fn seen_by_recorder(capture: &Path) -> Result<Vec<String>> {
    let (mut reader, mut last_caches, mut end, mut names) = (Reader::open(capture)?, 0, 0, 0);
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Slab(sample) => last_caches = sample.time_ns,
            Item::Symbols(symbols) => names += symbols.iter().filter(|symbol| !symbol.module.is_empty()).count(),
            Item::End(found) => end = found.detach_began_ns,
            _ => {}
        }
    }
    let mut problems = Vec::new();
    if last_caches.saturating_add(SOON_NS) < end {
        problems.push(format!("the caches were counted last {} ns before the end", end - last_caches));
    }
    if names == 0 {
        problems.push("no call site in a module has a name".to_owned());
    }
    Ok(problems)
}

/// What is off about a boot whose recorder was to fail, a line each.
pub(super) fn problems_of_failure(share: &Path, name: &str) -> Result<Vec<String>> {
    let capture = share.join(format!("{name}.bounce"));
    let mut problems = log_problems(&capture, "the recorder ended: unexpected argument '--no-such-option'")?;
    problems.extend(log_problems(&capture, "not recording from boot")?);
    let result = fs::read_to_string(capture.with_extension("result")).context("the guest left no result")?;
    if !result.lines().any(|line| line == "exit=2") {
        problems.push(format!("record --finish was to fail with 2: {}", result.replace('\n', " ")));
    }
    if capture.exists() {
        problems.push("record --finish left a capture".to_owned());
    }
    Ok(problems)
}

fn log_problems(capture: &Path, wanted: &str) -> Result<Vec<String>> {
    let log = fs::read_to_string(capture.with_extension("dmesg")).context("the guest left no kernel log")?;
    let own: Vec<&str> = log.lines().filter(|line| line.contains("bouncescope: ")).collect();
    let is_there = own.iter().any(|line| line.contains(wanted));
    Ok(if is_there { Vec::new() } else { vec![format!("the kernel's log does not say {wanted:?}: {own:?}")] })
}

fn began_ns(capture: &Path) -> Result<u64> {
    let Some(Item::Start(start)) = Reader::open(capture)?.next_item()? else {
        anyhow::bail!("the capture has no start")
    };
    Ok(start.time_ns)
}
