//! The figures of all rounds as a table, and whether they keep to the project's limits.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::{kept::Kept, storm::Storm, tool::Tool};

/// What takes at most how many times the cost of what else.
const LIMITS: [(Tool, Tool, f64); 3] = [
    (Tool::Record, Tool::Floor, 3.0),
    (Tool::Record, Tool::BpftraceHistogram, 0.2),
    (Tool::RecordFull, Tool::BpftraceSizes, 0.5),
];
/// At so many allocations a second `record` loses nothing.
const RATE: f64 = 2e6;

/// All runs of one tool.
pub(super) struct Measured {
    pub(super) tool: Tool,
    pub(super) runs: Vec<(Storm, Kept)>,
}

/// Whether limits are kept.
pub(super) struct Judgement {
    /// A line for each limit.
    pub(super) text: String,
    /// Those that are not.
    pub(super) broken: Vec<String>,
}

impl Measured {
    pub(super) const fn new(tool: Tool) -> Self {
        Self { tool, runs: Vec::new() }
    }

    /// Least, median and most of a figure.
    fn spread(&self, of: impl Fn(&Storm, &Kept) -> f64) -> [f64; 3] {
        let mut values: Vec<f64> = self.runs.iter().map(|(storm, kept)| of(storm, kept)).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        [at(0), at(values.len() / 2), at(values.len().saturating_sub(1))]
    }

    fn median(&self, of: impl Fn(&Storm, &Kept) -> f64) -> f64 {
        self.spread(of)[1]
    }

    /// Of all events that the storms should have made here, those that are missing, as far as that can be told.
    fn missing(&self) -> Option<f64> {
        let mut missing = 0;
        let mut made = 0;
        for (storm, kept) in &self.runs {
            made += storm.allocations * self.tool.events_each();
            missing += (storm.allocations * self.tool.events_each()).saturating_sub(kept.events?);
        }
        (made > 0).then(|| missing as f64 / made as f64)
    }

    /// What it says itself: lost, and skipped by the kernel.
    fn lost_and_skipped(&self) -> (u64, u64) {
        let kept = || self.runs.iter().map(|(_, kept)| kept);
        (kept().filter_map(|kept| kept.lost).sum(), kept().map(|kept| kept.skipped).sum())
    }
}

/// CPU time above none, ns for each allocation with its free: least, median and most.
fn cost(all: &[Measured], tool: Tool) -> Result<[f64; 3]> {
    let none = find(all, Tool::None)?.median(|storm, _| storm.ns_each());
    Ok(find(all, tool)?.spread(|storm, _| storm.ns_each()).map(|ns| ns - none))
}

fn find(all: &[Measured], tool: Tool) -> Result<&Measured> {
    all.iter().find(|one| one.tool == tool).with_context(|| format!("{} was not measured", tool.name()))
}

pub(super) fn markdown(all: &[Measured]) -> Result<String> {
    let [_, floor, _] = cost(all, Tool::Floor)?;
    let none = find(all, Tool::None)?;
    let mut text = String::from(
        "| | ns above none, median (least, most) | of it the tool's own | × floor | allocations/s | events missing | bytes per event |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for one in all {
        let [least, median, most] = cost(all, one.tool)?;
        let own = one.median(|storm, _| storm.tool_ns as f64 / storm.allocations.max(1) as f64);
        let cost = if one.tool == Tool::None {
            format!("{:.0} in all", none.median(|storm, _| storm.ns_each()))
        } else {
            format!("{median:.0} ({least:.0}, {most:.0})")
        };
        let missing = one.missing().map_or_else(|| "-".to_owned(), |missing| format!("{:.1} %", 100.0 * missing));
        let each = one.median(|_, kept| match (kept.bytes, kept.events) {
            (Some(bytes), Some(events)) if one.tool.events_each() > 1 => bytes as f64 / events.max(1) as f64,
            _ => f64::NAN,
        });
        let each = if each.is_nan() { "-".to_owned() } else { format!("{each:.1}") };
        let rate = one.median(|storm, _| storm.rate()) / 1e6;
        let times = if one.tool == Tool::None { "-".to_owned() } else { format!("{:.1}", median / floor) };
        writeln!(text, "| {} | {cost} | {own:.0} | {times} | {rate:.1} M | {missing} | {each} |", one.tool.name())?;
    }
    Ok(text)
}

pub(super) fn judge(all: &[Measured]) -> Result<Judgement> {
    let mut text = String::new();
    let mut broken = Vec::new();
    for (what, of, limit) in LIMITS {
        let ([_, one, _], [_, other, _]) = (cost(all, what)?, cost(all, of)?);
        let ratio = one / other;
        let line = format!("{} costs {ratio:.2} × {} (limit: {limit} ×)", what.name(), of.name());
        writeln!(text, "- {line}.")?;
        // Where nothing was measured, nothing was kept to.
        if !(0.0..=limit).contains(&ratio) {
            broken.push(line);
        }
    }
    let record = find(all, Tool::Record)?;
    let rate = record.median(|storm, _| storm.rate());
    let (lost, skipped) = record.lost_and_skipped();
    let line = format!(
        "{} lost {lost} of what it counts and streams, at {:.1} M allocations a second ({skipped} runs were skipped by the \
         kernel, which does not run a program inside itself); the limit is 0 at {} M",
        record.tool.name(),
        rate / 1e6,
        RATE / 1e6
    );
    writeln!(text, "- {line}.")?;
    if lost > 0 || rate < RATE || record.missing() != Some(0.0) {
        broken.push(line);
    }
    Ok(Judgement { text, broken })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One run each of 10 million allocations, which took so many ns each.
    fn all(cost: impl Fn(Tool) -> u64) -> Vec<Measured> {
        let one = |tool: Tool| {
            let allocations = 10_000_000;
            let storm = Storm { allocations, cpu_ns: cost(tool) * allocations, tool_ns: 0, wall_ns: 2_000_000_000 };
            let kept = Kept {
                events: Some(allocations * tool.events_each()),
                bytes: Some(allocations),
                lost: Some(0),
                skipped: 0,
            };
            Measured { tool, runs: vec![(storm, kept)] }
        };
        Tool::ALL.map(one).into()
    }

    fn kept_to(tool: Tool) -> u64 {
        match tool {
            Tool::None => 100,
            Tool::FloorKmalloc => 120,
            Tool::Floor => 140,
            Tool::RecordCounts => 150,
            Tool::Record => 220,
            Tool::RecordFull => 500,
            _ => 1000,
        }
    }

    #[test]
    fn what_keeps_to_every_limit_breaks_none() {
        let judgement = judge(&all(kept_to)).unwrap();
        assert!(judgement.broken.is_empty(), "{:?}", judgement.broken);
        assert_eq!(judgement.text.lines().count(), 4);
    }

    #[test]
    fn each_broken_limit_is_named() {
        let broken = |tool, cost| {
            let all = all(|one| if one == tool { cost } else { kept_to(one) });
            judge(&all).unwrap().broken.join("\n")
        };
        assert!(broken(Tool::Record, 221).contains("costs 3.02 × empty programs"));
        assert!(broken(Tool::BpftraceHistogram, 600).contains("costs 0.24 × bpftrace: histogram"));
        assert!(broken(Tool::RecordFull, 560).contains("costs 0.51 × bpftrace: count by call site and size"));
        assert!(!broken(Tool::Floor, 90).is_empty(), "a floor below nothing was not measured");
    }

    #[test]
    fn a_loss_or_a_slow_storm_is_a_broken_limit() {
        let change = |change: fn(&mut (Storm, Kept))| {
            let mut all = all(kept_to);
            change(&mut all.iter_mut().find(|one| one.tool == Tool::Record).unwrap().runs[0]);
            judge(&all).unwrap().broken.len()
        };
        assert_eq!(change(|_| ()), 0);
        assert_eq!(change(|(_, kept)| kept.lost = Some(1)), 1);
        assert_eq!(change(|(_, kept)| kept.events = Some(9_999_999)), 1);
        assert_eq!(change(|(storm, _)| storm.wall_ns *= 10), 1);
    }

    #[test]
    fn the_table_has_a_row_for_each_tool() {
        let text = markdown(&all(kept_to)).unwrap();
        assert!(text.contains("| nothing | 100 in all | 0 | - | 5.0 M | - | - |\n"), "{text}");
        assert!(text.contains("| `bouncescope record` | 120 (120, 120) | 0 | 3.0 | 5.0 M | 0.0 % | - |\n"), "{text}");
        assert!(
            text.contains("| `bouncescope record --full` | 400 (400, 400) | 0 | 10.0 | 5.0 M | 0.0 % | 0.5 |\n"),
            "{text}"
        );
    }
}
