//! What `bouncescope serve` tells Prometheus, in its text format (version 0.0.4): the figures of a report, as they are now.
//!
//! Every family has a bounded number of label values: devices and programs beyond [`MOST`] are one, named [`OTHER`].

use std::collections::BTreeMap;

use super::page::plan::Results;
use bouncescope_capture::facts::MaintenanceFunction;
use bouncescope_replay::Replayed;
use bouncescope_replay::figures::{Figure, Place, Run};
use bouncescope_replay::holders::{AGES_S, HolderRow, SlotHolders};
use bouncescope_replay::outcome::Tally;

/// Label values of one family at the most, besides [`OTHER`].
pub const MOST: usize = 64;
/// All that are beyond [`MOST`].
pub const OTHER: &str = "(other)";

/// All metrics. `source` is `capture` or `live`.
pub fn text(results: &Results, source: &str) -> String {
    let replayed = &results.replayed;
    let kernel = &replayed.start.kernel;
    let mut text = Text::default();
    let info = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("kernel", kernel.release.as_str()),
        ("machine", kernel.machine.as_str()),
        ("source", source),
    ];
    text.family("info", "What is watched, and by what.", [(labels(&info), 1.0)]);
    text.one("recording_seconds", "Time that the figures cover.", replayed.span_ns as f64 / 1e9);
    text.one("cache_line_size_bytes", "cache_line_size() of the kernel.", f64::from(kernel.cache_line_size));
    text.one("kmalloc_minalign_bytes", "Minimum alignment of its kmalloc caches.", f64::from(kernel.kmalloc_minalign));
    pool(&mut text, results);
    if let Some(held) = &replayed.held {
        holders(&mut text, held, replayed);
    }
    devices(&mut text, replayed);
    policies(&mut text, replayed);
    verdict(&mut text, replayed);
    losses(&mut text, replayed);
    cost(&mut text, replayed);
    text.0
}

fn pool(text: &mut Text, results: &Results) {
    let replayed = &results.replayed;
    let sample = replayed.observed.samples.last();
    let slots = sample.map_or(replayed.start.kernel.pool.slots, |sample| sample.slots);
    let help = "Slots of 2 KiB of the swiotlb pools when last sampled, with those that were added; before, of the default pool.";
    text.one("pool_slots", help, slots as f64);
    if let Some(sample) = sample {
        text.one("pool_used_slots", "Slots in use when last sampled.", sample.used_slots as f64);
    }
    if let Some(peak) = replayed.verdict.peak_slots_kernel {
        text.one(
            "pool_peak_slots",
            "Most slots in use since recording began, as far as the kernel reports it.",
            peak as f64,
        );
    }
    if let Some(pool) = &results.advice.pool {
        let help =
            "The smallest pool that leaves a quarter free at its fullest moment, under the first policy that bounces.";
        text.one("advised_pool_slots", help, pool.slots as f64);
    }
    if let Some(times) = &replayed.pool_times {
        let mut by_function: BTreeMap<String, f64> = BTreeMap::new();
        for time in &times.times {
            let function = serde_json::to_value(time.function).ok();
            let name = function.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            *by_function.entry(name).or_default() += time.total_ns as f64 / 1e9;
        }
        let rows = by_function.iter().map(|(name, seconds)| (labels(&[("function", name)]), *seconds));
        text.family("pool_function_seconds_total", "Time in the pool's functions.", rows);
        let mut by_function: BTreeMap<&str, f64> = BTreeMap::new();
        for time in &times.maintenance {
            let name = match time.function {
                MaintenanceFunction::ForDevice => "for_device",
                MaintenanceFunction::ForCpu => "for_cpu",
            };
            *by_function.entry(name).or_default() += time.total_ns as f64 / 1e9;
        }
        let rows = by_function.iter().map(|(name, seconds)| (labels(&[("function", name)]), *seconds));
        text.family("cache_maintenance_seconds_total", "Time in cache maintenance, where it is timed.", rows);
    }
}

/// Slots of a holder.
type Count = fn(&HolderRow) -> u64;

/// Who holds slots now, and how full the pool is in the long run. Of ages, there is a fixed number of classes.
fn holders(text: &mut Text, held: &SlotHolders, replayed: &Replayed) {
    let by_age = held.at_end.slots_by_age;
    let older = AGES_S.iter().enumerate().map(|(n, from_s)| {
        let label = labels(&[("at_least_seconds", &from_s.to_string())]);
        (label, by_age[n..].iter().sum::<u64>() as f64)
    });
    text.family("held_slots", "Slots in use that have been held for so long or longer.", older);
    let longest_s = held.at_end.longest_ns() as f64 / 1e9;
    text.one("oldest_held_seconds", "For how long the oldest slots taken in the recording have been held.", longest_s);
    let trend = held.trend;
    let help = "The floor: the least slots in use in the last quarter of the recording.";
    text.one("pool_floor_slots", help, trend.floor() as f64);
    let help = "Slots by which the floor rose from the first quarter of the recording to the last, if it rose in each; else 0.";
    text.one("pool_floor_rise_slots", help, trend.rise as f64);
    let help = "Time for which more than 80 % of the pool's slots were in use, until the last record.";
    text.one("pool_nearly_full_seconds_total", help, trend.nearly_full_ns as f64 / 1e9);
    // The devices that have mapped anything, so that a series goes back to 0 and does not end.
    let families: [(&str, &str, Count); 2] = [
        ("device_held_slots", "Slots in use, by device.", |row| row.slots),
        (
            "device_leaking_slots",
            "Slots of buffers that look leaked: mapped throughout the recording, and outlasting all that were given back.",
            HolderRow::leaking_slots,
        ),
    ];
    for (name, help, count) in families {
        let mut counts: Vec<((&str, &str), u64)> = Vec::new();
        let devices = replayed.observed_rows.by_device.iter().map(|row| (&*row.device, &*row.driver));
        for device in devices.take(MOST).chain([(OTHER, OTHER)]) {
            if !counts.iter().any(|(other, _)| *other == device) {
                counts.push((device, 0));
            }
        }
        for row in &held.at_end.rows {
            let whose = (&*row.device, &*row.driver);
            let at = counts.iter().position(|(device, _)| *device == whose).unwrap_or(counts.len() - 1);
            counts[at].1 += count(row);
        }
        let rows = counts
            .iter()
            .map(|((device, driver), slots)| (labels(&[("device", device), ("driver", driver)]), *slots as f64));
        text.family(name, help, rows);
    }
}

/// What the kernel did, by device.
fn devices(text: &mut Text, replayed: &Replayed) {
    let mut rows: Vec<(String, Tally)> = Vec::new();
    let mut other = Tally::default();
    for (n, row) in replayed.observed_rows.by_device.iter().enumerate() {
        if n < MOST {
            let coherent = if row.coherent { "yes" } else { "no" };
            let labels = labels(&[("device", &row.device), ("driver", &row.driver), ("coherent", coherent)]);
            // A device that was described anew by the same words is the same.
            match rows.iter_mut().find(|(other, _)| *other == labels) {
                Some((_, tally)) => tally.add(&row.tally),
                None => rows.push((labels, row.tally)),
            }
        } else {
            other.add(&row.tally);
        }
    }
    if other.mappings > 0 {
        rows.push((labels(&[("device", OTHER), ("driver", OTHER), ("coherent", "")]), other));
    }
    for figure in Figure::ALL {
        let metric = figure.places().iter().find_map(|place| match place {
            Place::DeviceMetric(name, help) => Some((name, help)),
            _ => None,
        });
        let Some((name, help)) = metric else { continue };
        let rows = rows.iter().filter_map(|(labels, tally)| Some((labels.clone(), figure.count(tally)? as f64)));
        text.family(name, help, rows);
    }
    text.one(
        "unknown_buffers_total",
        "Buffers for which it is not known whether they bounced.",
        replayed.observed.unknown as f64,
    );
}

/// What each policy would come to. Figures of one family stand together.
fn policies(text: &mut Text, replayed: &Replayed) {
    let metric = |figure: &Figure| {
        figure.places().iter().find_map(|place| match place {
            Place::PolicyMetric(name, help) => Some((*name, None, *help, *figure)),
            Place::ClassMetric(name, class, help) => Some((*name, Some(*class), *help, *figure)),
            _ => None,
        })
    };
    let metrics: Vec<_> = Figure::ALL.iter().filter_map(metric).collect();
    for family in metrics.chunk_by(|one, next| one.0 == next.0) {
        let Some((name, _, help, _)) = family.first() else { continue };
        let rows = replayed.outcomes.iter().take(MOST).flat_map(|outcome| {
            family.iter().filter_map(move |(_, class, _, figure)| {
                let value = figure.read(Run { replayed, outcome: Some(outcome) })?;
                let class = class.map(|class| ("class", class));
                let pairs: Vec<_> = [("policy", &*outcome.name)].into_iter().chain(class).collect();
                Some((labels(&pairs), value.number()))
            })
        });
        text.family(&format!("policy_{name}"), help, rows);
    }
}

/// The prediction for the kernel's own settings, held against the kernel.
fn verdict(text: &mut Text, replayed: &Replayed) {
    let verdict = &replayed.verdict;
    let rows = [("agree", verdict.agreements), ("disagree", verdict.disagreements), ("unknown", verdict.unknown)];
    let rows = rows.map(|(result, count)| (labels(&[("result", result)]), count as f64));
    text.family("verified_mappings", "Mappings compared with their prediction.", rows);
}

fn losses(text: &mut Text, replayed: &Replayed) {
    let counters = &replayed.counters;
    let seen: u64 = counters.seen.values().flatten().sum();
    text.one("seen_records_total", "Records that the programs saw, lost ones too.", seen as f64);
    text.one("lost_records_total", "Records lost, of every kind.", counters.total_lost() as f64);
    let rows = counters.lost.iter().take(MOST);
    let rows = rows.map(|(kind, values)| (labels(&[("kind", &kind.to_string())]), values.iter().sum::<u64>() as f64));
    text.family("lost_total", "Records lost, by kind; only those that are not 0.", rows);
    text.one(
        "linked_buffers_total",
        "Buffers mapped by dma_iova_link() that a recorder of an earlier version only counted.",
        counters.linked as f64,
    );
}

/// What recording costs.
fn cost(text: &mut Text, replayed: &Replayed) {
    let Some(end) = &replayed.end else { return };
    text.one("recorder_cpu_seconds_total", "CPU time of the recorder itself.", end.recorder_cpu_ns as f64 / 1e9);
    let programs = || end.programs.iter().take(MOST);
    let runs = programs().map(|one| (labels(&[("program", &one.name)]), one.run_cnt as f64));
    text.family("program_runs_total", "Runs of each BPF program, as long as the kernel counted them.", runs);
    let seconds = programs().map(|one| (labels(&[("program", &one.name)]), one.run_time_ns as f64 / 1e9));
    text.family("program_seconds_total", "Time in each BPF program in these runs.", seconds);
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

impl Text {
    /// A family of metrics, counters where their name ends so; none where it has no rows.
    fn family(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (String, f64)>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        self.0 += &format!("# HELP bouncescope_{name} {help}\n# TYPE bouncescope_{name} {kind}\n");
        for (labels, value) in rows {
            self.0 += &format!("bouncescope_{name}{labels} {value}\n");
        }
    }

    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, [(String::new(), value)]);
    }
}

/// `{name="value",…}`, with what the format escapes.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::plan::Plan;
    use bouncescope_capture::Reader;
    use bouncescope_model::policy::builtin;
    use bouncescope_replay::outcome::DeviceRow;
    use bouncescope_replay::replay;
    use bouncescope_replay::settings::WhatIf;

    const CAPTURE: &[u8] = include_bytes!("../../../captures/6.12-full-hold-300.bounce");

    fn results() -> Results {
        let policies = ["mainline", "legacy"].map(|name| builtin(name).unwrap());
        let mut plan = Plan::default();
        let replayed = replay(&mut Reader::new(CAPTURE).unwrap(), |start| {
            plan = Plan::new(&start.kernel, &policies, &WhatIf::default());
            plan.wanted()
        });
        plan.results(replayed.unwrap())
    }

    #[test]
    fn figures_are_those_of_the_replay() {
        let text = text(&results(), "capture");
        for line in [
            "bouncescope_policy_bounces_total{policy=\"mainline\"} 256",
            "bouncescope_policy_failed_mappings_total{policy=\"mainline\"} 44",
            "bouncescope_pool_slots 256",
            "bouncescope_pool_peak_slots 256",
            "bouncescope_advised_pool_slots 512",
            "bouncescope_verified_mappings{result=\"disagree\"} 0",
            "bouncescope_lost_records_total 14",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn more_devices_than_the_bound_are_one_with_all_their_counts() {
        let mut results = results();
        let devices = &mut results.replayed.observed_rows.by_device;
        let tally = Tally { mappings: 2, bounces: 1, ..Tally::default() };
        let row = |n| DeviceRow { device: format!("d{n}"), driver: "\"x\\\n".into(), coherent: false, tally };
        *devices = (0..MOST + 36).map(row).collect();
        let text = text(&results, "live");
        let of_family = text.lines().filter(|line| line.starts_with("bouncescope_mappings_total{"));
        assert_eq!(of_family.count(), MOST + 1);
        assert!(text.contains("bouncescope_mappings_total{device=\"(other)\",driver=\"(other)\",coherent=\"\"} 72\n"));
        assert!(text.contains("device=\"d0\",driver=\"\\\"x\\\\\\n\""), "quotes are escaped");
    }
}
