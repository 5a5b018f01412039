//! The figures of all rounds as a table, and whether they keep to the project's limits.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::{kept::Kept, storm::Storm, tool::Tool};

/// What takes at most how many times the cost of what else.
const LIMITS: [(Tool, Tool, f64); 3] = [
    (Tool::Record, Tool::Floor, 3.0),
    (Tool::Record, Tool::BpftraceHistogram, 0.2),
    (Tool::RecordFull, Tool::BpftraceSizes, 0.65),
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

    fn median(&self, of: impl Fn(&Storm, &Kept) -> f64) -> f64 {
        spread(self.runs.iter().map(|(storm, kept)| of(storm, kept)).collect())[1]
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

/// Least, median and most.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    [at(0), at(values.len() / 2), at(values.len().saturating_sub(1))]
}

/// CPU time above that of none in the same round, ns for each allocation with its free, of all rounds.
fn above_none(all: &[Measured], tool: Tool) -> Result<Vec<f64>> {
    let rounds = find(all, Tool::None)?.runs.iter().zip(&find(all, tool)?.runs);
    Ok(rounds.map(|((none, _), (storm, _))| storm.ns_each() - none.ns_each()).collect())
}

/// The same: least, median and most.
fn cost(all: &[Measured], tool: Tool) -> Result<[f64; 3]> {
    Ok(spread(above_none(all, tool)?))
}

/// Fewer rounds never settle.
const FEWEST_ROUNDS: usize = 6;
/// A median has settled when it is known to so many ns, or to such a part of itself.
const SETTLED_NS: f64 = 5.0;
const SETTLED: f64 = 0.05;
/// How a median is said to have settled.
pub(super) const HOW_SETTLED: &str = "A median has settled when a confidence interval of 95 % for it, from the order of its rounds, reaches no \
     farther to either side than 5 ns or\n5 % of the median";

/// How far from the median of these its interval of 95 % reaches, whatever their distribution: between the `k` lowest and the `k` highest of `n`
/// values, the median is missed as often as `n` coins show fewer than `k` heads, or tails.
fn reach(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let (mut missed, mut ways, mut outside) = (0.0, 0.5_f64.powi(n as i32), 0);
    for k in 0..n / 2 {
        missed += 2.0 * ways;
        if missed > 0.05 {
            break;
        }
        outside = k + 1;
        ways *= (n - k) as f64 / (k + 1) as f64;
    }
    if outside == 0 {
        return f64::INFINITY;
    }
    let (median, low, high) = (values[n / 2], values[outside - 1], values[n - outside]);
    (median - low).max(high - median)
}

/// The tools of which the median has not settled.
pub(super) fn unsettled(all: &[Measured]) -> Result<Vec<Tool>> {
    let mut tools = Vec::new();
    for one in all.iter().filter(|one| one.tool != Tool::None) {
        let [_, median, _] = cost(all, one.tool)?;
        let enough = SETTLED_NS.max(SETTLED * median.abs());
        if one.runs.len() < FEWEST_ROUNDS || reach(above_none(all, one.tool)?) > enough {
            tools.push(one.tool);
        }
    }
    Ok(tools)
}

/// On what kind of machine this was measured, and how sure it is. The load is that before the first round.
pub(super) fn circumstances(all: &[Measured], machine: &str, load: &str) -> Result<String> {
    let none = find(all, Tool::None)?;
    let share = 100.0 * none.median(|storm, _| storm.share());
    let rounds = none.runs.len();
    let mut text = format!(
        "{machine}; load {load} before the first of {rounds} rounds.\nWithout tracing, the storm had {share:.0} % of the CPUs.\n{HOW_SETTLED}.\n"
    );
    let unsettled = unsettled(all)?;
    if unsettled.is_empty() {
        text += "All have settled.\n";
    } else {
        text += "**Did not settle**:\n\n";
        for tool in unsettled {
            writeln!(text, "- {}", tool.name())?;
        }
    }
    Ok(text)
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
        "{} lost {lost} of what it counts and streams, at {:.1} M allocations a second (the kernel skipped {skipped} runs); \
         the limit is 0 at {} M",
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
            let (cpu_ns, wall_ns) = (cost(tool) * allocations, 2_000_000_000);
            let storm = Storm { allocations, cpu_ns, tool_ns: 0, wall_ns, threads: 2 };
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
        assert!(broken(Tool::RecordFull, 700).contains("costs 0.67 × bpftrace: count by call site and size"));
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
    fn a_median_has_settled_when_all_but_few_rounds_are_near_it() {
        // Six are the fewest of which the least and the most hold the median in 95 % of all cases; of nine, one may be far off on each side.
        assert!(reach(vec![1.0; 5]).is_infinite());
        let is = |values: Vec<f64>, ns: f64| (reach(values) - ns).abs() < 1e-9;
        assert!(is((0..6).map(f64::from).collect(), 3.0));
        assert!(is(vec![-900.0, 99.0, 100.0, 100.0, 100.0, 100.0, 101.0, 101.0, 900.0], 1.0));
        let rounds = |spread: u64| {
            let mut all = all(kept_to);
            let full = all.iter().position(|one| one.tool == Tool::RecordFull).unwrap();
            for one in &mut all {
                one.runs = vec![one.runs[0]; 9];
            }
            for (n, (storm, _)) in (0..).zip(&mut all[full].runs) {
                storm.cpu_ns += n * spread * storm.allocations;
            }
            unsettled(&all).unwrap()
        };
        assert_eq!(rounds(5), []);
        assert_eq!(rounds(20), [Tool::RecordFull]);
        assert_eq!(unsettled(&all(kept_to)).unwrap().len(), Tool::ALL.len() - 1, "one round says nothing");
    }

    #[test]
    fn what_did_not_settle_is_said() {
        let text = circumstances(&all(kept_to), "Linux", "3.1").unwrap();
        assert!(
            text.contains("load 3.1 before the first of 1 rounds") && text.contains("had 25 % of the CPUs"),
            "{text}"
        );
        assert!(text.contains("**Did not settle**:\n\n- an empty program on kmalloc\n"), "{text}");
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
