//! `bouncescope diff`: the figures of rules in two captures beside each other, in 80 columns, and what they come to.
//!
//! Both captures are judged by the same rules, one without a limit for each figure and run. A figure of `diff` is therefore the one of `check`,
//! with the same range where something is missing.

use super::check::range;
use super::conditions;
use super::devices;
use super::losses;
use super::screen::{COLUMNS, folded, line, recording};
use super::table::Table;
use super::wrap::wrapped_to;
use bouncescope_capture::plain::{plain, shortened};
use bouncescope_replay::Replayed;
use bouncescope_replay::check::{
    IfAbsent, Judgement, Limit, Measured, Rule, Rules, RunOf, Selector, WhatIf, judge_against,
};
use bouncescope_replay::figures::{Figure, Unit};
use bouncescope_replay::losses::TOLERATED;

/// What the verdict is about; more of each is worse.
const WORSE: [Figure; 4] =
    [Figure::Failed, Figure::BouncesPerSecond, Figure::BytesCopiedPerSecond, Figure::HazardsForeign];
/// No two runs of one workload are the same: a change of so much of a figure is none.
const TOLERANCE: f64 = 0.1;
/// Recordings whose lengths differ by no more than this are equally long.
const EQUALLY_LONG: f64 = 0.01;
/// What is compared of policies.
const OF_POLICIES: [Figure; 4] = [Figure::BouncesPerSecond, Figure::PeakSlots, Figure::Failed, Figure::HazardsForeign];
/// Devices that are said to have changed.
const DEVICES: usize = 10;
/// Characters of a path that are shown.
const LONGEST: usize = 240;

/// What has to be simulated and measured of both captures.
#[derive(Clone, Debug)]
pub struct Survey(Rules);

/// Two captures compared.
#[derive(Debug)]
pub struct Diff<'a> {
    /// The first capture.
    pub before: Side<'a>,
    /// The second one.
    pub after: Side<'a>,
    /// What the kernels did, then each simulated kernel.
    pub runs: Vec<Run<'a>>,
    /// What became of the conditions.
    pub conditions: Vec<Judgement<'a>>,
}

/// A capture.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Its replay.
    pub replayed: &'a Replayed,
}

/// One run of both captures.
#[derive(Debug)]
pub struct Run<'a> {
    /// Which.
    pub run: &'a RunOf,
    /// Its figures, in the order of their table.
    pub rows: Vec<Row>,
}

/// A figure of both captures.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub figure: Figure,
    /// Of the first capture; `None` where it does not tell it.
    pub before: Option<Measured>,
    /// Of the second one.
    pub after: Option<Measured>,
    /// Of the second by that of the first. Counts and bytes are divided by the seconds of their recordings before. `None` where the first is
    /// 0, or one is not known.
    pub ratio: Option<f64>,
    /// Which way it went.
    pub change: Change,
}

/// Which way a figure went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// By no more than a tenth.
    Same,
    /// There is more of it, whatever is missing from the captures.
    More,
    /// There is less of it, whatever is missing from the captures.
    Less,
    /// The captures do not tell.
    CannotTell,
}

/// What two captures come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing that the verdict is about changed by more than a tenth.
    Same,
    /// There is more of something, and less of nothing.
    Worse,
    /// There is less of something, and more of nothing.
    Better,
    /// Both.
    Mixed,
    /// Nothing changed as far as is known, but some figure is in doubt.
    CannotTell,
}

impl Verdict {
    /// As it is printed, at the beginning of a line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Same => "SAME",
            Self::Worse => "WORSE",
            Self::Better => "BETTER",
            Self::Mixed => "MIXED",
            Self::CannotTell => "CANNOT TELL",
        }
    }
}

impl Survey {
    /// The figures of what the kernels did, those of these simulated kernels, and these conditions.
    pub fn new(simulated: Vec<WhatIf>, conditions: Vec<Rule>) -> Self {
        let all = || Figure::ALL.iter().copied().filter(|figure| figure.scope().is_some());
        // A condition has a name, these have none.
        let measure = |figure, run| Rule {
            name: String::new(),
            selector: Selector::Totals,
            figure,
            limit: Limit::default(),
            each: true,
            if_absent: IfAbsent::Unknown,
            run,
        };
        let mut rules: Vec<Rule> = all().map(|figure| measure(figure, RunOf::Real)).collect();
        for what_if in simulated {
            let simulated = all().filter(|figure| !figure.is_of_capture());
            rules.extend(simulated.map(|figure| measure(figure, RunOf::WhatIf(Box::new(what_if.clone())))));
        }
        rules.extend(conditions);
        Self(Rules { rules, tolerated_losses: TOLERATED })
    }

    /// What both captures are to be replayed for.
    pub fn rules(&self) -> &Rules {
        &self.0
    }

    /// Compares two captures, replayed as the rules want it.
    pub fn compare<'a>(&'a self, before: Side<'a>, after: Side<'a>) -> Diff<'a> {
        let judgements = judge_against(&self.0, after.name, after.replayed, before.replayed);
        let (conditions, measured): (Vec<_>, Vec<_>) =
            judgements.into_iter().partition(|judgement| !judgement.rule.name.is_empty());
        let mut runs: Vec<Run> = Vec::new();
        for judgement in measured {
            if runs.last().is_none_or(|run| *run.run != judgement.rule.run) {
                runs.push(Run { run: &judgement.rule.run, rows: Vec::new() });
            }
            // Timed only where that was asked for: elsewhere it is nobody's question.
            let is_untimed = judgement.before.is_none() && judgement.figure.is_none();
            if judgement.rule.figure == Figure::CacheMaintenancePercent && is_untimed {
                continue;
            }
            if let Some(run) = runs.last_mut() {
                let seconds = [before, after].map(|side| side.replayed.seconds());
                run.rows.push(Row::new(judgement.rule.figure, judgement.before, judgement.figure, seconds));
            }
        }
        Diff { before, after, runs, conditions }
    }
}

impl Row {
    fn new(figure: Figure, before: Option<Measured>, after: Option<Measured>, seconds: [f64; 2]) -> Self {
        let by = if grows(figure) { seconds } else { [1.0, 1.0] };
        let (mut ratio, mut change) = (None, Change::CannotTell);
        if let (Some(from), Some(to)) = (&before, &after) {
            let from = [from.low, from.value, from.high].map(|value| value / by[0]);
            let to = [to.low, to.value, to.high].map(|value| value / by[1]);
            ratio = (from[1] > 0.0).then(|| to[1] / from[1]);
            change = if to[0] > from[2] * (1.0 + TOLERANCE) {
                Change::More
            } else if to[2] < from[0] * (1.0 - TOLERANCE) {
                Change::Less
            } else if to[2] <= from[0] * (1.0 + TOLERANCE) && to[0] >= from[2] * (1.0 - TOLERANCE) {
                Change::Same
            } else {
                Change::CannotTell
            };
        }
        Self { figure, before, after, ratio, change }
    }

    fn values(&self) -> [Option<f64>; 2] {
        [&self.before, &self.after].map(|one| one.as_ref().map(|measured| measured.value))
    }

    fn shown(&self) -> [String; 2] {
        let unit = self.figure.unit();
        let show = |measured: &Measured| range(measured, unit);
        [&self.before, &self.after].map(|one| one.as_ref().map_or_else(|| "?".to_owned(), show))
    }

    /// From the one value to the other.
    fn changed(&self) -> String {
        let ratio = match self.values() {
            [Some(before), Some(after)] if before > 0.0 => Some(after / before),
            _ => None,
        };
        self.in_words(ratio)
    }

    /// What [`Self::change`] rests on: from the one value by the second to the other, for what grows with the recording.
    fn changed_by_the_second(&self) -> Option<String> {
        grows(self.figure).then(|| self.in_words(self.ratio))
    }

    /// In percent; in words where that cannot be.
    fn in_words(&self, ratio: Option<f64>) -> String {
        match (ratio, self.values()) {
            (_, [None, _] | [_, None]) => "?".to_owned(),
            (Some(ratio), [_, Some(after)]) if after > 0.0 => percent(ratio),
            (Some(_), _) => "gone".to_owned(),
            (None, [_, Some(after)]) if after > 0.0 => "new".to_owned(),
            (None, _) => "same".to_owned(),
        }
    }

    fn is_zero(&self) -> bool {
        let is_zero =
            |one: &Option<Measured>| one.as_ref().is_some_and(|measured| measured.value <= 0.0 && measured.high <= 0.0);
        is_zero(&self.before) && is_zero(&self.after)
    }
}

/// It is the larger, the longer the recording is.
fn grows(figure: Figure) -> bool {
    matches!(figure.unit(), Unit::Count | Unit::Bytes)
}

fn percent(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    match percent.abs() {
        less if less < 0.05 => "same".to_owned(),
        less if less < 1000.0 => format!("{percent:+.1} %"),
        _ => format!("x {ratio:.0}"),
    }
}

impl Diff<'_> {
    /// The verdict that comes first in the text: that on the conditions, where there are any.
    pub fn word(&self) -> &'static str {
        if self.conditions.is_empty() { self.verdict().word() } else { conditions::overall(&self.conditions) }
    }

    /// Conditions that compare counts of recordings which are not equally long, and what to compare instead.
    pub fn notes(&self) -> Vec<String> {
        let [before, after] = [self.before, self.after].map(|side| side.replayed.seconds());
        let mut notes = Vec::new();
        for rule in self.conditions.iter().map(|judgement| judgement.rule).filter(|rule| rule.limit.is_relative()) {
            let Some(rate) = rule.figure.per_second().filter(|_| (after / before - 1.0).abs() > EQUALLY_LONG) else {
                continue;
            };
            let note = format!(
                "'{}' compares counts of {before:.1} s and {after:.1} s; {} compares rates",
                rule.name,
                rate.name()
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        notes
    }

    /// What the kernels did comes to.
    pub fn verdict(&self) -> Verdict {
        if [self.before, self.after].into_iter().any(|side| losses::nothing_mapped(side.replayed).is_some()) {
            return Verdict::CannotTell;
        }
        let any = |change| self.decisive().any(|row| row.change == change);
        match (any(Change::More), any(Change::Less), any(Change::CannotTell)) {
            (true, true, _) => Verdict::Mixed,
            (true, false, _) => Verdict::Worse,
            (false, true, _) => Verdict::Better,
            (false, false, true) => Verdict::CannotTell,
            (false, false, false) => Verdict::Same,
        }
    }

    /// The figures that the verdict is about. A hazard is told only where the origin of buffers is known.
    fn decisive(&self) -> impl Iterator<Item = &Row> {
        let rows = self.runs.first().map(|run| run.rows.as_slice()).unwrap_or_default();
        let is_known = |row: &&Row| row.figure != Figure::HazardsForeign || row.before.is_some() && row.after.is_some();
        rows.iter().filter(|row| WORSE.contains(&row.figure)).filter(is_known)
    }

    fn why(&self) -> String {
        for (which, side) in [("before", self.before), ("after", self.after)] {
            if let Some(why) = losses::nothing_mapped(side.replayed) {
                return format!("Nothing to compare: {which}: {why}.");
            }
        }
        let said = |wanted: fn(Change) -> bool| {
            let rows = self.decisive().filter(|row| wanted(row.change));
            let one = |row: &Row| {
                let [before, after] = row.shown();
                let changed = match row.changed_by_the_second() {
                    Some(changed) if changed.ends_with('%') => format!("{changed} per second"),
                    Some(changed) => changed,
                    None => row.changed(),
                };
                format!("{} {before} -> {after} ({changed})", row.figure.name())
            };
            rows.map(one).collect::<Vec<_>>().join("; ")
        };
        match self.verdict() {
            Verdict::Same => "Refusals, bounces, bytes copied and hazards changed by no more than 10 %.".to_owned(),
            Verdict::CannotTell => format!("In doubt: {}.", said(|change| change == Change::CannotTell)),
            _ => format!("{}.", said(|change| matches!(change, Change::More | Change::Less))),
        }
    }
}

/// For people: both recordings, the verdicts, the figures, and what else differs.
pub fn text(diff: &Diff) -> String {
    let mut text = String::new();
    for (which, side) in [("before", diff.before), ("after", diff.after)] {
        text += &line(which, &plain(&shortened(side.name, LONGEST)));
        text += &format!("{:11}{}", "", recording(side.replayed));
    }
    text.push('\n');
    if !diff.conditions.is_empty() {
        text += &conditions::text(&diff.conditions);
        text.push('\n');
    }
    text += &line(diff.verdict().word(), &diff.why());
    text += &figures(diff);
    text += &policies(diff);
    text += &settings(diff);
    text += &devices(diff);
    text + &quality(diff)
}

/// What the kernels did, a line for each figure.
fn figures(diff: &Diff) -> String {
    let Some(run) = diff.runs.first() else { return String::new() };
    let mut table = Table::new(&["what the kernels did", "before", "after", "change", "change/s"]);
    let (zero, rows): (Vec<&Row>, Vec<&Row>) = run.rows.iter().partition(|row| row.is_zero());
    for row in rows {
        let [before, after] = row.shown();
        let by_the_second = row.changed_by_the_second().unwrap_or_default();
        table.row([format!("  {}", row.figure.name()), before, after, row.changed(), by_the_second]);
    }
    let mut text = format!("\n{}", table.text(0));
    if !zero.is_empty() {
        let names = zero.iter().map(|row| row.figure.name()).collect::<Vec<_>>().join(", ");
        text += &wrapped_to(COLUMNS, &names, "  0 in both: ", "    ");
    }
    text
}

/// The simulated kernels beside each other.
fn policies(diff: &Diff) -> String {
    if diff.runs.len() < 2 {
        return String::new();
    }
    let mut headings = vec!["before -> after"];
    headings.extend(OF_POLICIES.map(Figure::name));
    let mut table = Table::new(&headings);
    for run in &diff.runs[1..] {
        let rows = OF_POLICIES.iter().filter_map(|figure| run.rows.iter().find(|row| row.figure == *figure));
        let cell = |row: &Row| {
            let [before, after] = row.shown();
            if before == after { before } else { format!("{before} -> {after}") }
        };
        let name = format!("  {}", shortened(&run.run.describe(), 40));
        table.row(std::iter::once(name).chain(rows.map(cell)));
    }
    format!("\n{}", table.blocks(0, 1, COLUMNS))
}

/// What decides about bounces, where it is not the same.
fn settings(diff: &Diff) -> String {
    let of = |side: &Side| {
        let start = &side.replayed.start;
        let kernel = &start.kernel;
        [
            ("machine", kernel.machine.clone()),
            ("CPUs", kernel.possible_cpus.to_string()),
            ("line size", kernel.cache_line_size.to_string()),
            ("kmalloc from", kernel.kmalloc_minalign.to_string()),
            ("pool slots", kernel.pool.slots.to_string()),
            ("mappings streamed", start.streamed.name().to_owned()),
            ("allocations", format!("1 in {}", start.allocation_sample)),
        ]
    };
    let mut table = Table::new(&["settings that differ", "before", "after"]);
    for ((name, before), (_, after)) in of(&diff.before).into_iter().zip(of(&diff.after)) {
        if before != after {
            table.row([format!("  {name}"), shortened(&before, 24).into_owned(), shortened(&after, 24).into_owned()]);
        }
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.text(0)) }
}

/// Who came and went, and who began or ceased to bounce.
fn devices(diff: &Diff) -> String {
    let said = devices::said(diff.before.replayed, diff.after.replayed);
    if said.is_empty() {
        return String::new();
    }
    let mut text = "\ndevices\n".to_owned();
    text.extend(said.iter().take(DEVICES).map(|words| wrapped_to(COLUMNS, &plain(words), "  ", "    ")));
    if said.len() > DEVICES {
        text += &format!("  … and {} more: --json has all\n", said.len() - DEVICES);
    }
    text
}

/// One side of a row.
type Take = fn(&Row) -> &Option<Measured>;

/// What leaves figures in doubt.
fn quality(diff: &Diff) -> String {
    let mut text = String::new();
    let sides: [(&str, Take); 2] = [("before", |row| &row.before), ("after", |row| &row.after)];
    for (which, take) in sides {
        let mut doubts: Vec<&str> = Vec::new();
        for row in diff.runs.iter().flat_map(|run| &run.rows) {
            for why in take(row).iter().flat_map(|measured| &measured.doubts) {
                if !doubts.contains(&why.as_str()) {
                    doubts.push(why);
                }
            }
        }
        if !doubts.is_empty() {
            text += &format!("in doubt (<=, >=, ~) {which}: {}\n", plain(&doubts.join("; ")));
        }
    }
    if text.is_empty() { text } else { format!("\n{}", folded(&text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::Reader;
    use bouncescope_replay::{Wanted, replay};

    const FULL: &[u8] = include_bytes!("../../../captures/6.12-full-hold-300.bounce");
    const ROOMY: &[u8] = include_bytes!("../../../captures/7.3-direct-hold-300.bounce");

    fn replayed(survey: &Survey, capture: &[u8]) -> Replayed {
        let wanted = |start: &bouncescope_capture::stream::Start| Wanted {
            settings: survey.rules().settings(&start.kernel, &std::sync::Arc::default()),
            verdict: true,
            holders: true,
            ..Wanted::default()
        };
        replay(&mut Reader::new(capture).unwrap(), wanted).unwrap()
    }

    fn verdict(before: &[u8], after: &[u8]) -> (Verdict, String) {
        let survey = Survey::new(Vec::new(), Vec::new());
        let (before, after) = (replayed(&survey, before), replayed(&survey, after));
        let diff = survey.compare(Side { name: "a", replayed: &before }, Side { name: "b", replayed: &after });
        (diff.verdict(), diff.why())
    }

    #[test]
    fn fewer_refusals_are_better_and_more_are_worse() {
        let (better, why) = verdict(FULL, ROOMY);
        assert!(matches!(better, Verdict::Better | Verdict::Mixed) && why.contains("failed 44 -> 0"), "{why}");
        let (worse, why) = verdict(ROOMY, FULL);
        assert!(matches!(worse, Verdict::Worse | Verdict::Mixed) && why.contains("failed 0 -> 44 (new)"), "{why}");
    }

    #[test]
    fn a_capture_is_the_same_as_itself() {
        assert_eq!(verdict(ROOMY, ROOMY).0, Verdict::Same);
    }

    #[test]
    fn a_change_within_a_tenth_is_none_and_one_in_doubt_is_not_told() {
        let measured = |low: f64, value: f64, high: f64| Some(Measured { value, low, high, doubts: Vec::new() });
        let change = |before, after| Row::new(Figure::PeakSlots, before, after, [1.0, 2.0]).change;
        assert_eq!(change(measured(100.0, 100.0, 100.0), measured(110.0, 110.0, 110.0)), Change::Same);
        assert_eq!(change(measured(100.0, 100.0, 100.0), measured(111.0, 111.0, 111.0)), Change::More);
        assert_eq!(change(measured(100.0, 100.0, 100.0), measured(89.0, 89.0, 89.0)), Change::Less);
        assert_eq!(change(measured(100.0, 100.0, 100.0), measured(80.0, 80.0, f64::INFINITY)), Change::CannotTell);
        assert_eq!(change(None, measured(1.0, 1.0, 1.0)), Change::CannotTell);
        let by_the_second = Row::new(Figure::Failed, measured(8.0, 8.0, 8.0), measured(16.0, 16.0, 16.0), [1.0, 2.0]);
        assert_eq!(by_the_second.change, Change::Same);
        assert_eq!(by_the_second.changed(), "+100.0 %");
        assert_eq!(by_the_second.changed_by_the_second().as_deref(), Some("same"));
        let peak = Row::new(Figure::PeakSlots, measured(8.0, 8.0, 8.0), measured(4.0, 4.0, 4.0), [1.0, 2.0]);
        assert_eq!((peak.changed(), peak.changed_by_the_second()), ("-50.0 %".to_owned(), None));
    }
}
