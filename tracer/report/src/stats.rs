//! `bouncescope stats`.

use super::label::{self, call_site};
use super::lengths;
use super::losses::{self, seconds};
use super::table::{Table, bytes};
use bouncescope_capture::event::Kind;
use bouncescope_replay::Replayed;
use bouncescope_replay::memory::{self, CacheRow, against_kernel};
use bouncescope_replay::statistics::{ALIGNMENTS, ByAlignment, DeviceStatistics};

/// Call sites shown to people; programs get all.
const SITES: usize = 20;

/// For people.
pub fn text(replayed: &Replayed) -> String {
    let start = &replayed.start;
    let statistics = &replayed.statistics;
    let mut text = format!("{} {}, recorded by: {}\n", start.kernel.machine, start.kernel.release, start.recorder);
    text += &losses::reservations(start);
    if let Some((first, last)) = statistics.span_ns {
        text += &format!("events over {:.3} s:", seconds(last, first));
        for kind in Kind::ALL.into_iter().filter(|kind| statistics.events(*kind) > 0) {
            text += &format!(" {} {}", kind.name(), statistics.events(kind));
        }
        text.push('\n');
    }
    let peak = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |slots| slots.to_string());
    text += &format!(
        "pool {} slots; most in use in a sample {}, high-water mark {}\n",
        start.kernel.pool.slots,
        peak(replayed.observed.used_peak),
        peak(replayed.observed.hiwater.filter(|_| start.kernel.pool.hiwater_reset)),
    );
    text += &lengths::table(replayed);
    text += &format!("\n{}", lengths::besides(replayed));
    text += &mappings(&statistics.devices(), start.kernel.cache_line_size);
    text += &allocations(replayed);
    text += &caches(replayed);
    text.push('\n');
    text += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
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
    for row in rows(replayed) {
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
    format!(
        "\nobjects of kmalloc allocated in the recording and live when the kernel counted last, and older ones freed by then, \
         beside what the kernel's caches gained; {} more, of records lost and frees of unknown size, may be of any of these sizes\n{}",
        unplaced(replayed),
        table.text(2)
    )
}

fn mappings(devices: &[DeviceStatistics], line: u32) -> String {
    if devices.is_empty() {
        return "\nno mappings\n".into();
    }
    let starts = format!("starts off {line}");
    let ends = format!("length off {line}");
    let mut table = Table::new(&[
        "device",
        "direction",
        "mappings",
        "lists",
        "buffers",
        "bytes",
        "bounces",
        "refused",
        &starts,
        &ends,
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
    let mut text = format!("\n{}{}", table.text(0), label::more(devices.len(), "devices and directions"));
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
