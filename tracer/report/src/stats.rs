//! `bouncescope stats`.

use std::collections::BTreeMap;

use super::holders;
use super::label::{self, call_site};
use super::lengths;
use super::losses::{self, seconds};
use super::maintenance;
use super::screen::{self, COLUMNS, folded, line};
use super::table::{GROWN, Table, at_fullest, bytes};
use super::wrap::wrapped_to;
use bouncescope_capture::event::Kind;
use bouncescope_capture::facts::LiveSites;
use bouncescope_replay::Replayed;
use bouncescope_replay::memory::{self, CacheRow, against_kernel};
use bouncescope_replay::objects::Origins;
use bouncescope_replay::statistics::{ALIGNMENTS, ByAlignment, DeviceStatistics};

/// Call sites shown to people; programs get all.
const SITES: usize = 20;

/// For people: what was recorded, in a few lines, and then its tables.
pub fn text(replayed: &Replayed) -> String {
    let start = &replayed.start;
    let devices = replayed.statistics.devices();
    let mut text = screen::recording(replayed);
    text += &wrapped_to(COLUMNS, &format!("recorded by: {}", start.recorder), "", "  ");
    if !start.labels.is_empty() {
        text += &wrapped_to(COLUMNS, &format!("labels: {}", start.labels), "", "  ");
    }
    text += &folded(&losses::reservations(start));
    text += &format!("\n{}", summary(replayed, &devices));
    text += &lengths::table(replayed);
    let besides = lengths::besides(replayed);
    text += &if besides.is_empty() { besides } else { wrapped_to(COLUMNS, &besides, "\n", "") };
    text += &mappings(&devices, start.kernel.cache_line_size);
    text += &maintenance::table(replayed);
    text += &holders::text(replayed);
    text += &allocations(replayed);
    text += &caches(replayed);
    text += &live_since_boot(replayed);
    text.push('\n');
    text + &folded(&losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps))
}

/// Totals of everything that was recorded.
fn summary(replayed: &Replayed, devices: &[DeviceStatistics]) -> String {
    let statistics = &replayed.statistics;
    let sum = |of: fn(&DeviceStatistics) -> u64| devices.iter().map(of).sum::<u64>();
    let mut text = line(
        "mapped",
        &format!(
            "{} buffers in {} mappings, {} of them lists; {}",
            sum(|device| device.buffers),
            sum(|device| device.mappings),
            sum(|device| device.lists),
            bytes(sum(|device| device.bytes)),
        ),
    );
    text +=
        &line("bounced", &format!("{} buffers; {} mappings refused", sum(|one| one.bounces), sum(|one| one.refused)));
    let Origins { objects, pages, unknown, .. } = replayed.origins;
    if objects + pages > 0 {
        let of = "small buffers that non-coherent devices write";
        text += &line("memory", &format!("{of}: {objects} in slab objects, {pages} in other pages, {unknown} unknown"));
    }
    let pool = &replayed.start.kernel.pool;
    let slots = pool.slots;
    let hiwater = replayed.observed.hiwater.filter(|_| pool.hiwater_reset);
    let fullest = match (hiwater, replayed.observed.used_peak) {
        (Some(most), _) => {
            format!("{}, by the kernel's high-water mark", at_fullest(most, slots, pool.has_grown(most)))
        }
        (None, Some(most)) => {
            let grown = if pool.has_grown(most) { GROWN } else { "" };
            format!("{most} of {slots} slots{grown} in the fullest sample; no high-water mark")
        }
        (None, None) => format!("{slots} slots; how many were in use is not known"),
    };
    text += &line("pool", &fullest);
    text += &maintenance::summary(replayed).map_or_else(String::new, |both| line("time", &both));
    if let Some((first, last)) = statistics.span_ns {
        let kinds = Kind::ALL.into_iter().filter(|kind| statistics.events(*kind) > 0);
        let counts: Vec<String> = kinds.map(|kind| format!("{} {}", kind.name(), statistics.events(kind))).collect();
        text += &line("events", &format!("{}, over {:.3} s", counts.join(", "), seconds(last, first)));
    }
    text
}

/// Live objects as seen, beside the kernel's own count; empty where a capture has no samples of the caches.
pub(super) fn rows(replayed: &Replayed) -> Vec<CacheRow> {
    let Replayed { start, slabs, live_objects, since_count, older_frees, .. } = replayed;
    let (sample, unplaced) = (start.allocation_sample, unplaced(replayed));
    let of = |samples| against_kernel(live_objects, since_count, older_frees, samples, &start.kernel, sample, unplaced);
    slabs.as_ref().filter(|_| start.allocation_sample > 0).map(of).unwrap_or_default()
}

/// Objects of unknown fate and size.
pub(super) fn unplaced(replayed: &Replayed) -> u64 {
    memory::unplaced(&replayed.older_frees, &replayed.counters, replayed.start.allocation_sample)
}

fn caches(replayed: &Replayed) -> String {
    let mut table = Table::new(&["", "new", "older freed", "+-", "kernel", "kernel's own +-", ""]);
    let rows = rows(replayed);
    for row in &rows {
        table.row([
            format!("{} B", row.size),
            row.seen.to_string(),
            row.older_freed.to_string(),
            row.error.to_string(),
            format!("{:+}", row.kernel),
            row.slack.to_string(),
            if row.agrees { "agrees" } else { "DIFFERS" }.to_owned(),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    let caption = format!(
        "objects of kmalloc allocated in the recording and live when the kernel counted last, and older ones freed by then, beside \
         what the kernel's caches gained; {} more, of records lost and frees of unknown size, may be of any of these sizes",
        unplaced(replayed),
    );
    let differs = if rows.iter().all(|row| row.agrees) {
        String::new()
    } else {
        let why = "DIFFERS: objects came or went without an event, as before the programs were attached, or the kernel's CPUs \
                   have more of them at hand than it says.";
        wrapped_to(COLUMNS, why, "  ", "  ")
    };
    format!("\n{}{}{differs}", wrapped_to(COLUMNS, &caption, "", ""), table.text(2))
}

/// What `/proc/allocinfo` said at the end; where it said nothing, that.
fn live_since_boot(replayed: &Replayed) -> String {
    let Some((first, last)) = &replayed.slabs else { return String::new() };
    let Some(live) = &last.live_sites else {
        let why = "live since boot, by function: not in this capture; kernels from 6.10 on with CONFIG_MEM_ALLOC_PROFILING count \
                   it, where sysctl vm.mem_profiling is 1";
        return format!("\n{}", wrapped_to(COLUMNS, why, "", "  "));
    };
    let before = first.live_sites.as_ref().map(by_function).unwrap_or_default();
    let functions = by_function(live);
    let mut sorted: Vec<_> = functions.iter().collect();
    sorted.sort_by_key(|(function, live)| (std::cmp::Reverse(live.calls), **function));
    let mut table = Table::new(&["function", "live", "gained", "bytes each"]);
    for (function, live) in sorted.iter().take(SITES) {
        let before = before.get(*function).map_or(0, |before| before.calls);
        table.row([
            call_site(function.1, function.0),
            format!("{}{}", live.calls, if live.is_exact { "" } else { " or more" }),
            format!("{:+}", i128::from(live.calls) - i128::from(before)),
            (live.bytes / live.calls.max(1)).to_string(),
        ]);
    }
    let calls: u64 = live.sites.iter().map(|site| site.calls).fold(live.left_out, u64::saturating_add);
    let caption = format!(
        "live since boot, by function (/proc/allocinfo): {calls} allocations, of kmalloc, other caches and pages; an object counts \
         with the bytes of its cache",
    );
    let more = sorted.len().saturating_sub(SITES);
    let more = if more > 0 { format!("  … and {more} more (--json has all)\n") } else { String::new() };
    format!("\n{}{}{more}", wrapped_to(COLUMNS, &caption, "", ""), table.text(2))
}

/// Live allocations of a function.
#[derive(Default)]
struct Live {
    calls: u64,
    bytes: u64,
    is_exact: bool,
}

/// By module and function.
fn by_function(live: &LiveSites) -> BTreeMap<(&str, &str), Live> {
    let mut functions: BTreeMap<(&str, &str), Live> = BTreeMap::new();
    for site in &live.sites {
        let exact = Live { is_exact: true, ..Live::default() };
        let function = functions.entry((&site.module, &site.function)).or_insert(exact);
        function.calls = function.calls.saturating_add(site.calls);
        function.bytes = function.bytes.saturating_add(site.bytes);
        function.is_exact &= !site.inexact;
    }
    functions
}

fn mappings(devices: &[DeviceStatistics], line: u32) -> String {
    if devices.is_empty() {
        return "\nno mappings\n".into();
    }
    let mut table = Table::new(&[
        "device",
        "direction",
        "mappings",
        "lists",
        "buffers",
        "bytes",
        "bounces",
        "refused",
        "start off",
        "length off",
    ]);
    for device in devices.iter().take(label::SHOWN) {
        table.row([
            label::device(&device.device, &device.driver, device.coherent),
            device.direction.clone(),
            device.mappings.to_string(),
            device.lists.to_string(),
            device.buffers.to_string(),
            bytes(device.bytes),
            device.bounces.to_string(),
            device.refused.to_string(),
            device.starts_inside_a_line.to_string(),
            device.ends_inside_a_line.to_string(),
        ]);
    }
    let mut text = format!(
        "\nbuffers by device; off: no multiple of {line}, the cache line size\n{}{}",
        table.blocks(0, 2, COLUMNS),
        label::more(devices.len(), "devices and directions")
    );
    let mut starts = [0; ALIGNMENTS];
    let mut lengths = [0; ALIGNMENTS];
    for device in devices {
        for n in 0..ALIGNMENTS {
            starts[n] += device.start_alignment[n];
            lengths[n] += device.length_alignment[n];
        }
    }
    text += "\nbuffers by alignment (largest power of two)\n";
    text += &alignments(&starts, &lengths);
    text
}

fn alignments(starts: &ByAlignment, lengths: &ByAlignment) -> String {
    let mut table = Table::new(&["", "start", "length"]);
    for n in 0..ALIGNMENTS {
        let label = if n == ALIGNMENTS - 1 { "more".into() } else { format!("{} B", 1_u64 << n) };
        table.row([label, starts[n].to_string(), lengths[n].to_string()]);
    }
    table.text(2)
}

fn allocations(replayed: &Replayed) -> String {
    let mut sizes = Table::new(&["bytes given", "allocations", "asked", "given", "unused"]);
    for size in replayed.statistics.sizes() {
        let given = u64::from(size.bytes_alloc).saturating_mul(size.count);
        sizes.row([
            size.bytes_alloc.to_string(),
            size.count.to_string(),
            bytes(size.bytes_req),
            bytes(given),
            bytes(given - size.bytes_req.min(given)),
        ]);
    }
    if sizes.is_empty() {
        return "\nno allocations\n".into();
    }
    let sites = replayed.statistics.call_sites();
    let mut table = Table::new(&["call site", "allocations", "asked", "given"]);
    for site in sites.iter().take(SITES) {
        table.row([
            call_site(&site.call_site, &site.module),
            site.count.to_string(),
            bytes(site.bytes_req),
            bytes(site.bytes_alloc),
        ]);
    }
    let more = sites.len().saturating_sub(SITES);
    let more = if more > 0 { format!("  … and {more} more (--json has all)\n") } else { String::new() };
    format!("\nkmalloc by size\n{}\nkmalloc by call site, most bytes first\n{}{more}", sizes.text(2), table.text(2))
}
