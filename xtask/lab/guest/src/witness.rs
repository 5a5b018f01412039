//! An independent count of what the kernel maps and bounces: hist triggers of tracefs in an instance of their own. They
//! count in the kernel, exactly, without a ring that could overflow, and share nothing with the product. Kernels without
//! events of mappings get some by kprobe, from the same file system; kernels without such triggers write the events down
//! ([`written`]).
//!
//! The lab reads the hist files; here they are only set up, copied out, and used to see whether devices are idle.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::sysfs;

mod written;

const INSTANCE: &str = "/sys/kernel/tracing/instances/lab";

/// Event, hist key, and the name of the file on the share. Which of the mapping events exists depends on the kernel:
/// `dma_map_page` from 6.12 to 6.17, `dma_map_phys` since 6.18, those of [`PROBES`] before.
const COUNTED: [(&str, &str, &str); 7] = [
    ("swiotlb/swiotlb_bounced", "dev_name", "bounced"),
    ("dma/dma_map_page", "device,size,dir", "map"),
    ("dma/dma_map_phys", "device,size,dir", "map"),
    ("dma/dma_map_sg", "dir", "map_sg"),
    ("lab/map", "size,dir", "map"),
    ("lab/map_sg", "dir", "map_sg"),
    ("lab/map_sgtable", "dir", "map_sgtable"),
];

/// `kprobe_events` for kernels without events of mappings (`Documentation/trace/kprobetrace.rst`): arguments are in x0 to x7.
/// The last function is inline in some kernels.
const PROBES: [&str; 3] = [
    "p:lab/map dma_map_page_attrs size=%x3:u64 dir=%x4:s32",
    "p:lab/map_sg dma_map_sg_attrs dir=%x3:s32",
    "p:lab/map_sgtable dma_map_sgtable dir=%x2:s32",
];
const TRACING: &str = "/sys/kernel/tracing";

/// The kernel has events of mappings.
pub(crate) fn has_events() -> bool {
    Path::new(TRACING).join("events/dma").is_dir()
}

/// Makes the events that this kernel lacks. To be called once.
pub(crate) fn probe() {
    if has_events() {
        return;
    }
    for probe in PROBES {
        if let Err(error) = sysfs::write_more(format!("{TRACING}/kprobe_events"), probe) {
            println!("  {error}");
        }
    }
}

/// Starts every count anew from 0.
pub(crate) fn start() -> Result<(), String> {
    let _ = fs::remove_dir(INSTANCE);
    fs::create_dir(INSTANCE).map_err(|error| format!("cannot create {INSTANCE}: {error}"))?;
    for (event, key, _) in existing() {
        if has_histograms() {
            sysfs::write(format!("{INSTANCE}/events/{event}/trigger"), &format!("hist:keys={key}:size=16384"))?;
        } else {
            written::start(INSTANCE, event)?;
        }
    }
    if writes_trace() {
        sysfs::write(format!("{INSTANCE}/tracing_on"), "0")?;
        sysfs::write(format!("{INSTANCE}/buffer_size_kb"), "8192")?;
        for subsystem in ["dma", "swiotlb"] {
            sysfs::write(format!("{INSTANCE}/events/{subsystem}/enable"), "1")?;
        }
    }
    Ok(())
}

/// Besides the counts, the events are written as text: what people have who know nothing but tracefs.
fn writes_trace() -> bool {
    has_events() && has_histograms()
}

/// Keeps the counts that [`start`] began at 0 until [`resume`]. What they are kept in is there already then: making it would be
/// thousands of allocations, which a recording is not for.
pub(crate) fn hold() -> Result<(), String> {
    tell("pause")?;
    tell("clear")
}

/// Counts from here on.
pub(crate) fn resume() -> Result<(), String> {
    tell("continue")?;
    if writes_trace() { sysfs::write(format!("{INSTANCE}/tracing_on"), "1") } else { Ok(()) }
}

/// Counts no more.
pub(crate) fn pause() -> Result<(), String> {
    if writes_trace() {
        sysfs::write(format!("{INSTANCE}/tracing_on"), "0")?;
    }
    tell("pause")
}

/// `Documentation/trace/histogram.rst`: the same keys again, with an order.
fn tell(order: &str) -> Result<(), String> {
    if !has_histograms() {
        return written::tell(INSTANCE, order);
    }
    for (event, key, _) in existing() {
        sysfs::write_more(format!("{INSTANCE}/events/{event}/trigger"), &format!("hist:keys={key}:{order}"))?;
    }
    Ok(())
}

/// Copies every count to `dir`, as `NAME.COUNT.hist`, and what was written as `NAME.trace`.
pub(crate) fn save(dir: &Path, name: &str) -> Result<(), String> {
    if writes_trace() {
        let file = dir.join(format!("{name}.trace"));
        fs::copy(format!("{INSTANCE}/trace"), &file)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    let written = (!has_histograms()).then(|| sysfs::read(format!("{INSTANCE}/trace")).unwrap_or_default());
    for (event, keys, count) in existing() {
        let text = match &written {
            Some(trace) => written::hist(trace, event, keys, written::hits(INSTANCE).1),
            None => sysfs::read(format!("{INSTANCE}/events/{event}/hist")).unwrap_or_default(),
        };
        let file = dir.join(format!("{name}.{count}.hist"));
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}

/// Waits until nothing was mapped for `quiet`, at most `limit`. Whether it became quiet.
pub(crate) fn settle(quiet: Duration, limit: Duration) -> bool {
    let start = Instant::now();
    let (mut hits, mut since) = (hits(), Instant::now());
    while start.elapsed() < limit {
        thread::sleep(Duration::from_millis(50));
        let now = self::hits();
        if now != hits {
            (hits, since) = (now, Instant::now());
        } else if since.elapsed() >= quiet {
            return true;
        }
    }
    false
}

fn existing() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    COUNTED.into_iter().filter(|(event, ..)| Path::new(INSTANCE).join("events").join(event).is_dir())
}

/// `CONFIG_HIST_TRIGGERS`.
fn has_histograms() -> bool {
    existing().all(|(event, ..)| Path::new(INSTANCE).join("events").join(event).join("hist").exists())
}

/// The `Hits:` line of every count.
fn hits() -> Vec<String> {
    if !has_histograms() {
        return vec![format!("{:?}", written::hits(INSTANCE))];
    }
    existing()
        .filter_map(|(event, ..)| sysfs::read(format!("{INSTANCE}/events/{event}/hist")))
        .flat_map(|text| text.lines().filter(|line| line.contains("Hits:")).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
