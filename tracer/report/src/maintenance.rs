//! What cache maintenance takes, beside what copying does: of the recorded kernel by length, and under each policy.

use super::screen::COLUMNS;
use super::table::{Table, bytes};
use super::wrap::wrapped_to;
use bouncescope_capture::facts::{MaintenanceFunction, MaintenanceTime};
use bouncescope_replay::Replayed;
use bouncescope_replay::check::Gauge;
use bouncescope_replay::figures::{Figure, Run};

/// Nothing in a recording tells whether its machine was emulated.
const EMULATED: &str = "times include the probes, and mean nothing if the machine was emulated";

/// What the recorded kernel took for both; `None` where maintenance was not timed.
pub(super) fn summary(replayed: &Replayed) -> Option<String> {
    let maintenance = ms(replayed.cache_maintenance_ns?);
    let copying = Figure::PoolCpuNs.read(Run { replayed, outcome: None }).map(|ns| ms(ns.number() as u64));
    let copying = copying.unwrap_or_else(|| "not timed".to_owned());
    Some(format!("copying {copying}, cache maintenance {maintenance}; {EMULATED}"))
}

/// By length and function; empty where maintenance was not timed, or nothing was maintained.
pub(super) fn table(replayed: &Replayed) -> String {
    let times = replayed.pool_times.as_ref().map(|times| times.maintenance.as_slice()).unwrap_or_default();
    let mut lengths: Vec<u8> = times.iter().map(|time| time.log2).collect();
    lengths.sort_unstable();
    lengths.dedup();
    if lengths.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["length", "for device", "ns each", "for CPU", "ns each"]);
    for log2 in lengths {
        let cells = [MaintenanceFunction::ForDevice, MaintenanceFunction::ForCpu].into_iter().flat_map(|function| {
            let time = times.iter().find(|time| time.function == function && time.log2 == log2 && time.calls > 0);
            let shown = |time: &MaintenanceTime| {
                [time.calls.to_string(), format!("{:.0}", time.total_ns as f64 / time.calls as f64)]
            };
            time.map_or_else(|| ["0".to_owned(), "-".to_owned()], shown)
        });
        let from = if log2 == 0 { 0 } else { 1_u64.checked_shl(log2.into()).unwrap_or(u64::MAX) };
        table.row(std::iter::once(format!("from {}", bytes(from))).chain(cells));
    }
    let caption = "cache maintenance: calls of arch_sync_dma_for_device() and arch_sync_dma_for_cpu() by length of the buffer, and \
                   what each took; the probes take the same for each call, whatever its length";
    format!("\n{}{}", wrapped_to(COLUMNS, caption, "", ""), table.text(2))
}

/// A line on what each policy takes; empty where maintenance was not timed.
pub(super) fn under_policies(replayed: &Replayed) -> String {
    let Some(measured) = replayed.cache_maintenance_ns else { return String::new() };
    let gauge = Gauge::new(replayed);
    let mut shown: Vec<String> = Vec::new();
    let all_as_measured = replayed.outcomes.iter().all(|outcome| outcome.cache_maintenance_ns == Some(measured));
    if all_as_measured {
        shown.push(format!("{} under every policy", ms(measured)));
    } else {
        for outcome in &replayed.outcomes {
            let mark = gauge.total(outcome, Figure::CacheMaintenancePercent).map_or("", |measured| measured.mark());
            let ns = outcome.cache_maintenance_ns.map_or_else(|| "?".to_owned(), ms);
            shown.push(format!("{} {mark}{ns}", outcome.name));
        }
        shown.push(format!("as recorded {}", ms(measured)));
    }
    format!(
        "cache maintenance, beside pool CPU: {}; slots are maintained instead of a buffer that bounces, and of a list each \
         element, however it is mapped; {EMULATED}\n",
        shown.join(", ")
    )
}

fn ms(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}
