//! The first screen of `bouncescope replay`: a verdict, the figures that it rests on, who bounces, and what to do next, in
//! 80 columns.

use super::advice::{self, Advice};
use super::breakdown::{self, Kind};
use super::figures;
use super::lengths;
use super::losses;
use super::replay::{because_of_tags, pool, unknowns};
use super::restricted;
use super::screen::{COLUMNS, folded, line, recording};
use super::table::{Table, at_fullest, bytes, percent};
use bouncescope_capture::names::Loss;
use bouncescope_model::pool::SLOT;
use bouncescope_replay::Replayed;
use bouncescope_replay::check::Gauge;
use bouncescope_replay::figures::Figure;
use bouncescope_replay::losses::{TOLERATED, hides_refusals, is_tolerated};
use bouncescope_replay::outcome::Outcome;

/// Rows of who bounces.
const ROWS: usize = 5;
/// A pool of which no more than this is used, percent, has room for what a few lost records hide.
const ROOMY_PERCENT: u64 = 75;
/// What is compared of policies.
const COMPARED: [Figure; 6] = [
    Figure::Bounces,
    Figure::PeakSlots,
    Figure::Failed,
    Figure::HazardsForeign,
    Figure::HazardsUnknown,
    Figure::AllSlabs,
];

/// What the recording, or the first kernel that is asked about, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No mapping is refused.
    Ok,
    /// Mappings are refused.
    Fails,
    /// The recording does not tell whether mappings are refused.
    CannotTell,
}

impl Verdict {
    /// As it is printed, at the beginning of a line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Fails => "FAILS",
            Self::CannotTell => "CANNOT TELL",
        }
    }
}

/// One of the things that a verdict rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// What it is about, a word.
    pub label: &'static str,
    /// Its one number, with its unit.
    pub number: String,
    /// It in words.
    pub words: String,
}

/// What bounces are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// `dev_name()`.
    #[default]
    Device,
    /// The device's driver.
    Driver,
    /// Where kmalloc was called for the buffer's object.
    Site,
    /// `enum dma_data_direction`.
    Direction,
    /// The buffer's length, by the sizes of kmalloc's caches.
    Length,
}

impl By {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Device, "device"),
        (Self::Driver, "driver"),
        (Self::Site, "site"),
        (Self::Direction, "direction"),
        (Self::Length, "length"),
    ];

    fn kind(self) -> Kind {
        match self {
            Self::Device => Kind::Device,
            Self::Driver => Kind::Driver,
            Self::Site => Kind::Site,
            Self::Direction => Kind::Direction,
            Self::Length => Kind::Length,
        }
    }
}

/// A verdict, and the text that begins with what was recorded and says it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// The screen; one line of it begins with the verdict's word.
    pub text: String,
}

/// The answer to a replay, with advice where it was asked for.
pub fn answer(replayed: &Replayed, advice: Option<&Advice>, by: By) -> Answer {
    let subject = advice::subject(&replayed.settings);
    let gauge = Gauge::new(replayed);
    let outcome = replayed.outcomes.get(subject);
    let (verdict, why) = verdict(replayed, subject, &gauge);
    let mut text = recorded(replayed);
    text += &line(verdict.word(), &why);
    if let Some(outcome) = outcome.filter(|_| replayed.observed.total().mappings > 0) {
        let fact = |fact: &Fact| line(&format!("  {}", fact.label), &fact.words);
        text += &facts(replayed, outcome, &gauge).iter().map(fact).collect::<String>();
        text += &who(replayed, outcome, by);
    }
    if let Some(advice) = advice {
        text.push('\n');
        text += folded(&advice::text(advice, replayed)).trim_end();
        text.push('\n');
    }
    if has_nothing(replayed) {
        text += &missing(replayed);
        text += "more\n  bouncescope doctor  what can be recorded on this kernel\n";
    } else {
        text += &compared(replayed);
        text += &quality(replayed);
        text += &next(verdict, advice.is_some());
    }
    Answer { verdict, text }
}

/// The recording, and what decides about bounces there.
fn recorded(replayed: &Replayed) -> String {
    let kernel = &replayed.start.kernel;
    recording(replayed)
        + &format!(
            "line size {}, kmalloc from {}{}, pool {}\n",
            kernel.cache_line_size,
            kernel.kmalloc_minalign,
            because_of_tags(kernel),
            pool(kernel.pool.slots, kernel.pool.force),
        )
        + &folded(&lengths::besides(replayed))
        + "\n"
}

/// Whether nothing was mapped, seen or counted: every figure would be 0.
fn has_nothing(replayed: &Replayed) -> bool {
    losses::nothing_mapped(replayed).is_some() && replayed.lengths.total.mappings == 0
}

/// Whether mappings are refused under the settings of this number, and the sentence that says so.
pub fn verdict(replayed: &Replayed, subject: usize, gauge: &Gauge) -> (Verdict, String) {
    let total = replayed.observed.total();
    let (Some(settings), Some(outcome)) = (replayed.settings.get(subject), replayed.outcomes.get(subject)) else {
        return (Verdict::CannotTell, "There is no policy to replay.".to_owned());
    };
    let is_captured = settings.is_captured(&replayed.start.kernel);
    // Mappings that fail are recorded one by one in any mode.
    let counted = replayed.lengths.total.mappings;
    if let Some(why) = losses::nothing_mapped(replayed).filter(|_| counted == 0 || !is_captured) {
        let words = match outcome.bounces_only_counted {
            0 => format!("Nothing to replay: {why}."),
            counted => {
                format!("{counted} buffers would bounce under {}. How many at once is not known: {why}.", outcome.name)
            }
        };
        return (Verdict::CannotTell, words);
    }
    // A trace of a kernel without events of mappings: what its bounces were of is not known.
    let without_mapping = replayed.verdict.mappings;
    if total.mappings == 0 && counted == 0 && without_mapping > 0 {
        return (Verdict::CannotTell, format!("No mapping was recorded, but bounces were: {without_mapping}."));
    }
    let failed = gauge.total(outcome, Figure::Failed);
    let refused = failed.as_ref().map_or(0, |failed| failed.low as u64);
    let of = format!("of {} mappings", total.mappings.max(counted));
    if is_captured {
        let observed = gauge.observed(Figure::Failed);
        let is_missing = observed.is_none_or(|failed| failed.high > 0.0);
        return match total.failed {
            0 if is_missing && has_holes(replayed) => {
                let words = "No refused mapping was seen, but records of mappings are missing.";
                (Verdict::CannotTell, words.to_owned())
            }
            0 if is_missing && replayed.end.is_none() => {
                (Verdict::Ok, "No mapping was refused until the recording was cut.".to_owned())
            }
            0 if outcome.total.bounces == 0 => (Verdict::Ok, "No mapping was refused, and nothing bounced.".to_owned()),
            0 => (Verdict::Ok, "No mapping was refused.".to_owned()),
            refused => (Verdict::Fails, format!("{refused} {of} were refused.")),
        };
    }
    let name = &outcome.name;
    if refused > 0 {
        let how_many = match failed {
            _ if refused >= total.mappings => format!("All {} mappings", total.mappings),
            Some(failed) if failed.high > failed.low => format!("At least {refused} {of}"),
            _ => format!("{refused} {of}"),
        };
        return (Verdict::Fails, format!("{how_many} would be refused under {name}."));
    }
    let peak = outcome.peak_slots_at_most();
    let is_roomy = peak.saturating_mul(100) <= outcome.total_slots.saturating_mul(ROOMY_PERCENT);
    let is_sure = failed.is_some_and(|failed| failed.high <= 0.0);
    let may_fail = outcome.failed_at_most() > 0 || !is_roomy || outcome.looks_at_unstreamed || has_holes(replayed);
    if !is_sure && may_fail {
        return (Verdict::CannotTell, format!("Mappings may be refused under {name}."));
    }
    let words = match total.failed {
        0 => format!("No mapping would be refused under {name}."),
        refused => format!("No mapping would be refused under {name}; the recorded kernel refused {refused}."),
    };
    (Verdict::Ok, words)
}

/// Whether a refused mapping may be missing between the first and the last record: something is, more than a little.
fn has_holes(replayed: &Replayed) -> bool {
    let Replayed { gaps, counters, .. } = replayed;
    let hides =
        |loss: &Loss| counters.lost(loss) > 0 && hides_refusals(loss) && !is_tolerated(loss, counters, TOLERATED);
    gaps.damaged_frames > 0 || gaps.unknown_frames > 0 || counters.lost.keys().any(hides)
}

/// Pool, cost, memory, hazards and agreement.
pub(super) fn facts(replayed: &Replayed, outcome: &Outcome, gauge: &Gauge) -> Vec<Fact> {
    let seconds = replayed.seconds().max(1e-9);
    let mark = |figure| gauge.total(outcome, figure).map_or("", |measured| measured.mark());
    let (pool_used, pool) = match outcome.total_slots {
        0 => ("none".to_owned(), "none".to_owned()),
        slots => {
            let peak = outcome.peak_slots;
            // A pool that does not grow is never more than full.
            let has_grown = outcome.has_grown_at_peak();
            let mark = if peak < slots || has_grown { mark(Figure::PeakSlots) } else { "" };
            let percent = format!("{:.1} %", peak as f64 * 100.0 / slots as f64);
            let words = format!("{mark}{}", at_fullest(peak, slots, has_grown));
            if has_grown {
                (format!("{mark}{peak} slots"), words)
            } else {
                (format!("{mark}{percent}"), format!("{words} ({percent})"))
            }
        }
    };
    let cpu_percent = |ns: u64| format!("{:.2} % of a CPU", ns as f64 / 1e7 / seconds);
    let mut cost = if outcome.total.bounces == 0 {
        if outcome.total.failed > 0 { "nothing can bounce" } else { "nothing bounces" }.to_owned()
    } else {
        let cpu = outcome.pool_cpu_ns.map_or_else(String::new, |ns| format!(", {}", cpu_percent(ns)));
        format!(
            "{}{} bounces, {:.1} per second; {}/s copied{cpu}",
            mark(Figure::Bounces),
            outcome.total.bounces,
            outcome.total.bounces as f64 / seconds,
            bytes((outcome.total.bytes_copied as f64 / seconds) as u64),
        )
    };
    if let Some(ns) = outcome.cache_maintenance_ns {
        cost += &format!(
            "; cache maintenance {}{} (probes included)",
            mark(Figure::CacheMaintenancePercent),
            cpu_percent(ns)
        );
    }
    let per_second = format!("{}{:.1}/s", mark(Figure::Bounces), outcome.total.bounces as f64 / seconds);
    let fact = |label, number, words| Fact { label, number, words };
    let mut facts = vec![fact("pool", pool_used, pool)];
    facts.extend(restricted::fact(replayed, outcome).map(|(number, words)| fact("coherent", number, words)));
    facts.push(fact("cost", per_second, cost));
    if let Some(slabs) = &outcome.all_slabs {
        let pool_bytes = outcome.total_slots * SLOT;
        let pool = match pool_bytes {
            0 => "no pool".to_owned(),
            pool_bytes => format!("pool {}", bytes(pool_bytes)),
        };
        let total = slabs.bytes.map_or_else(|| "?".to_owned(), |slabs| bytes(slabs + pool_bytes));
        facts.push(fact("memory", total, format!("kmalloc's slabs {}, {pool}", advice::slabs_of(slabs))));
    }
    let total = &outcome.total;
    let (foreign, unknown) = (mark(Figure::HazardsForeign), mark(Figure::HazardsUnknown));
    let doubt = if foreign.is_empty() { unknown } else { foreign };
    let beside_others = format!("{doubt}{}", total.hazards_foreign + total.hazards_unknown);
    facts.push(fact("hazards", beside_others, hazards(outcome, mark)));
    facts.push(fact("model", agreed(replayed), agreement(replayed)));
    facts
}

/// Mappings about which model and kernel agree, of all: rounded down, so that one that differs shows.
fn agreed(replayed: &Replayed) -> String {
    let verdict = &replayed.verdict;
    match verdict.mappings {
        0 => "?".to_owned(),
        all => format!("{} %", (verdict.agreements as f64 * 1000.0 / all as f64).floor() / 10.0),
    }
}

/// Buffers left in a line with something else.
fn hazards(outcome: &Outcome, mark: impl Fn(Figure) -> &'static str) -> String {
    let total = &outcome.total;
    let classes = [
        (Figure::HazardsForeign, total.hazards_foreign, "beside another object"),
        (Figure::HazardsUnknown, total.hazards_unknown, "beside something unknown"),
        (Figure::HazardsOwn, total.hazards_own, "beside the rest of their own object (safe by the kernel's rule)"),
    ];
    let shown = classes.into_iter().map(|(figure, count, beside)| (mark(figure), count, beside));
    let shown = shown.filter(|(mark, count, _)| *count > 0 || !mark.is_empty());
    let words: Vec<String> = shown.map(|(mark, count, beside)| format!("{mark}{count} {beside}")).collect();
    let overlaps = match total.overlaps {
        0 => String::new(),
        count => format!("; {}{count} overlap another mapping (--wide)", mark(Figure::Overlaps)),
    };
    (if words.is_empty() { "none".to_owned() } else { words.join(", ") }) + &overlaps
}

/// Whether the model did as the kernel.
fn agreement(replayed: &Replayed) -> String {
    let verdict = &replayed.verdict;
    let all = verdict.mappings;
    if verdict.disagreements == 0 && verdict.lists.disagreements > 0 {
        let (lists, compared) = (verdict.lists.disagreements, verdict.lists.compared);
        return format!("DISAGREES with the kernel about {lists} of {compared} lists: `bouncescope verify` has them");
    }
    if !verdict.agrees() {
        return format!(
            "DISAGREES with the kernel about {} of {all} mappings: `bouncescope verify` has them",
            verdict.disagreements
        );
    }
    match verdict.unknown {
        0 => format!("all {all} mappings predicted as the kernel did them"),
        unknown => {
            format!("{} of {all} mappings predicted as the kernel did them, {unknown} not known", verdict.agreements)
        }
    }
}

/// Who bounces, most first.
fn who(replayed: &Replayed, outcome: &Outcome, by: By) -> String {
    let seconds = replayed.seconds().max(1e-9);
    let rows = breakdown::of_kind(&outcome.rows, by.kind());
    let matter: Vec<_> = rows.into_iter().filter(|(_, tally)| tally.bounces + tally.failed > 0).collect();
    if matter.is_empty() {
        return String::new();
    }
    let any_refused = matter.iter().any(|(_, tally)| tally.failed > 0);
    let mut headings = vec!["who bounces", "bounces", "per s", "copied/s", "of buffers"];
    headings.extend(any_refused.then_some("refused"));
    let mut table = Table::new(&headings);
    for (label, tally) in matter.iter().take(ROWS) {
        let mut row = vec![
            format!("  {label}"),
            tally.bounces.to_string(),
            format!("{:.1}", tally.bounces as f64 / seconds),
            bytes((tally.bytes_copied as f64 / seconds) as u64),
            format!("{} %", percent(tally.bounces, tally.buffers)),
        ];
        row.extend(any_refused.then(|| tally.failed.to_string()));
        table.row(row);
    }
    let more = match matter.len().saturating_sub(ROWS) {
        0 => String::new(),
        more => format!("  … and {more} more: --wide\n"),
    };
    format!("\n{}{more}", table.text(0))
}

/// The policies beside each other.
fn compared(replayed: &Replayed) -> String {
    let (headings, rows, _) = figures::some(replayed, &COMPARED);
    let mut table = Table::new(&headings);
    for row in rows {
        table.row(row.into_iter().map(|(text, _)| text));
    }
    format!("\n{}", table.blocks(0, 1, COLUMNS))
}

/// Why figures have marks; none where there are no figures.
pub(super) fn doubts(replayed: &Replayed) -> Vec<String> {
    if has_nothing(replayed) {
        return Vec::new();
    }
    let (.., doubts) = figures::some(replayed, &COMPARED);
    doubts
}

/// What the recording leaves in doubt.
fn quality(replayed: &Replayed) -> String {
    let doubts = doubts(replayed);
    let mut text = String::new();
    if !doubts.is_empty() {
        text += &format!("in doubt (<=, >=, ~): {}\n", doubts.join("; "));
    }
    text += &unknowns(replayed);
    if !replayed.overlaps_looked_for {
        text += "overlapping mappings were not looked for: --wide does\n";
    }
    text += &losses::reservations(&replayed.start);
    text += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
    "\n".to_owned() + &folded(&text)
}

/// What may be why nothing was mapped.
fn missing(replayed: &Replayed) -> String {
    let mut text = losses::reservations(&replayed.start);
    text += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
    "\n".to_owned() + &folded(&text)
}

/// Options that tell more.
fn next(verdict: Verdict, advised: bool) -> String {
    let advise = match verdict {
        Verdict::Fails => "the smallest pool with which no mapping is refused",
        Verdict::Ok | Verdict::CannotTell => "the smallest pool that is enough, and what it saves",
    };
    let options = [
        (!advised, "--advise", advise),
        (true, "--by KEY", "bounces by driver, site, direction or length"),
        (true, "--wide", "every figure and breakdown"),
    ];
    let shown = options.iter().filter(|(is_shown, ..)| *is_shown);
    shown
        .map(|(_, option, about)| format!("  {option:<8}  {about}\n"))
        .fold("more\n".to_owned(), |text, line| text + &line)
}
