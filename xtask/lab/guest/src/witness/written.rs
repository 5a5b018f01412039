//! The same count on kernels without `CONFIG_HIST_TRIGGERS`: events are written to the instance's own buffer, large enough
//! for a workload, and counted when it is over. What comes of it is written as a hist file would be.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use crate::sysfs;

/// Of each CPU's buffer, KiB; a mapping takes less than 100 bytes.
const BUFFER_KIB: &str = "16384";

/// Begins to write an event.
pub(super) fn start(instance: &str, event: &str) -> Result<(), String> {
    sysfs::write(format!("{instance}/buffer_size_kb"), BUFFER_KIB)?;
    sysfs::write(format!("{instance}/events/{event}/enable"), "1")
}

/// As a hist trigger is told to `pause`, `continue` or `clear`.
pub(super) fn tell(instance: &str, order: &str) -> Result<(), String> {
    match order {
        "pause" => sysfs::write(format!("{instance}/tracing_on"), "0"),
        "continue" => sysfs::write(format!("{instance}/tracing_on"), "1"),
        // Opened to be truncated, it is.
        _ => fs::write(format!("{instance}/trace"), "")
            .map_err(|error| format!("cannot clear {instance}/trace: {error}")),
    }
}

/// Events in the buffers, and those that no longer are (`tracing_stats_read()`, `kernel/trace/trace.c`).
pub(super) fn hits(instance: &str) -> (u64, u64) {
    let cpus = fs::read_dir(Path::new(instance).join("per_cpu")).into_iter().flatten().flatten();
    let stats: Vec<_> = cpus.filter_map(|cpu| sysfs::read(cpu.path().join("stats"))).collect();
    let sum = |name: &str| {
        let numbers = stats.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix(name));
        numbers.filter_map(|number| number.trim().parse::<u64>().ok()).sum()
    };
    (sum("entries:"), sum("overrun:") + sum("commit overrun:") + sum("dropped events:"))
}

/// What a hist file of `event` with these keys would show, from the text of `trace`.
pub(super) fn hist(trace: &str, event: &str, keys: &str, dropped: u64) -> String {
    let name = event.rsplit('/').next().unwrap_or(event);
    let mark = format!(" {name}: ");
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (_, fields) in trace.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(&mark)) {
        let value = |key: &str| {
            let mut words = fields.split_whitespace();
            // `swiotlb_bounced` prints `dev_name: NAME`.
            words.find_map(|word| match word.strip_prefix(key)? {
                ":" => fields.split_once(word)?.1.split_whitespace().next(),
                value => value.strip_prefix('='),
            })
        };
        let shown = keys.split(',').filter_map(|key| Some(format!("{key}: {}", value(key)?)));
        *counts.entry(shown.collect::<Vec<_>>().join(", ")).or_default() += 1;
    }
    let mut text = String::new();
    for (entry, count) in &counts {
        let _ = writeln!(text, "{{ {entry} }} hitcount: {count}");
    }
    let (hits, entries) = (counts.values().sum::<u64>(), counts.len());
    let _ = writeln!(text, "\nTotals:\n    Hits: {hits}\n    Entries: {entries}\n    Dropped: {dropped}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
# tracer: nop
    init-1  [000] d..1    12.345678: map: (dma_map_page_attrs+0x0/0x200) size=18 dir=2
    init-1  [001] d..1    12.345679: map_sg: (dma_map_sg_attrs+0x0/0x200) dir=2
    kworker/0:1-7  [000] d..1    12.345680: map: (dma_map_page_attrs+0x0/0x200) size=18 dir=2
    init-1  [000] d..1    12.4: swiotlb_bounced: dev_name: 0000:00:04.0 dma_mask=ffff dev_addr=0 size=18 FORCE
";

    #[test]
    fn events_of_one_name_are_counted_by_their_keys() {
        let text = hist(TRACE, "lab/map", "size,dir", 0);
        assert!(text.starts_with("{ size: 18, dir: 2 } hitcount: 2\n"), "{text}");
        assert!(text.ends_with("    Hits: 2\n    Entries: 1\n    Dropped: 0\n"), "{text}");
        assert!(hist(TRACE, "lab/map_sg", "dir", 3).contains("Hits: 1\n    Entries: 1\n    Dropped: 3"));
    }

    #[test]
    fn a_key_with_a_colon_is_read_too() {
        let text = hist(TRACE, "swiotlb/swiotlb_bounced", "dev_name", 0);
        assert!(text.starts_with("{ dev_name: 0000:00:04.0 } hitcount: 1\n"), "{text}");
    }

    #[test]
    fn an_event_without_its_key_still_counts() {
        assert!(hist(TRACE, "swiotlb/swiotlb_bounced", "no_such_key", 0).contains("Hits: 1\n"));
    }
}
