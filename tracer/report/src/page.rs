//! `bouncescope report`: what stands in a report. [`plan`] says what has to be simulated for it, in the one pass over a capture;
//! the sections are made of what came out, by the code that the commands print with.

mod breakdown;
mod changes;
mod facts;
mod figures;
mod holders;
pub mod plan;
mod plots;

use super::document::{Block, Document, Section};
use super::table::bytes;
use super::{advice, answer, lengths, losses, verify};
use bouncescope_replay::Replayed;
use bouncescope_replay::check::Gauge;
use plan::Results;

/// A capture and what came out of it.
#[derive(Debug)]
pub struct Subject {
    /// What to call it: the file's name.
    pub name: String,
    /// What came out.
    pub results: Results,
}

/// A report of a capture.
pub fn document(subject: &Subject) -> Document {
    Document { title: title(subject), sections: sections(subject, "") }
}

/// A report of what changed from one capture to another, and of both.
pub fn comparison(before: &Subject, after: &Subject) -> Document {
    let mut all = vec![Section::new("changes", "What changed", changes::blocks(before, after))];
    for (subject, suffix) in [(after, ""), (before, "-2")] {
        let name = if suffix.is_empty() { "after" } else { "before" };
        let title = format!("{name}: {}", title(subject));
        all.push(Section { is_part: true, ..Section::new(&format!("capture{suffix}"), title, Vec::new()) });
        all.extend(sections(subject, suffix));
    }
    Document { title: format!("{} against {}", after.name, before.name), sections: all }
}

fn title(subject: &Subject) -> String {
    let kernel = &subject.results.replayed.start.kernel;
    format!("{}: {} {}", subject.name, kernel.machine, kernel.release)
}

/// Kernel, capture and losses in a line: below every plot's title.
fn about(subject: &Subject) -> String {
    let replayed = &subject.results.replayed;
    let kernel = &replayed.start.kernel;
    let lost = replayed.counters.total_lost();
    let mut missing: Vec<String> = losses::missing(replayed).into_iter().collect();
    if lost > 0 {
        missing.push(format!("{lost} records lost"));
    }
    let missing = if missing.is_empty() { "nothing lost".to_owned() } else { missing.join("; ") };
    format!(
        "{} {}, {}, {:.3} s, {missing}",
        kernel.machine,
        kernel.release,
        subject.name,
        replayed.span_ns as f64 / 1e9
    )
}

fn sections(subject: &Subject, suffix: &str) -> Vec<Section> {
    let Results { replayed, .. } = &subject.results;
    let section = |id: &str, title: &str, blocks| Section::detail(&format!("{id}{suffix}"), title, blocks);
    let mut all = vec![
        Section::new(&format!("verdict{suffix}"), "Verdict", verdict(subject)),
        section("advice", "Advice", advised(subject)),
        section("policies", "Policies", figures::policies(replayed)),
        section("plots", "Plots", plots::blocks(subject)),
        section("holders", "What held the pool", holders::blocks(replayed)),
        section("devices", "Devices", breakdown::devices(replayed)),
        section("drivers", "Drivers", breakdown::drivers(replayed)),
        section("call-sites", "Call sites", breakdown::call_sites(replayed)),
        section("lists", "Scatterlists", breakdown::lists(replayed)),
        section("hazards", "Hazards", breakdown::hazards(replayed)),
        section("allocations", "Allocations", figures::allocations(replayed)),
        section("verify", "Prediction compared with the kernel", vec![Block::Printed(verify::text(replayed))]),
        section("kernel", "The kernel", facts::kernel(replayed)),
        section("losses", "Losses and limits", limits(replayed)),
    ];
    all.retain(|section| !section.blocks.is_empty());
    all
}

/// The answer with what it rests on, for who reads nothing else.
fn verdict(subject: &Subject) -> Vec<Block> {
    let Results { replayed, advice, pool_sizes, .. } = &subject.results;
    let gauge = Gauge::new(replayed);
    let about = advice::subject(&replayed.settings);
    let (verdict, words) = answer::verdict(replayed, about, &gauge);
    let missing =
        losses::missing(replayed).map(|missing| format!("All figures cover only what was recorded: {missing}."));
    let marked = answer::doubts(replayed);
    let marked =
        (!marked.is_empty()).then(|| format!("Figures marked <=, >= or ~ are in doubt: {}.", marked.join("; ")));
    let mut blocks = vec![Block::Answer { verdict, words, doubts: missing.into_iter().chain(marked).collect() }];
    blocks.push(Block::Words(format!("Advice: {}.", advice::pool_text(advice, replayed))));
    let outcome = replayed.outcomes.get(about).filter(|_| replayed.observed.total().mappings > 0);
    if let Some(outcome) = outcome {
        blocks.push(Block::Facts(answer::facts(replayed, outcome, &gauge)));
        let tables = [Some(breakdown::most(outcome, replayed.seconds())), figures::pool_sizes(pool_sizes, advice)];
        let plot = plots::occupancy(subject).map(|plot| vec![plot]);
        blocks.push(Block::Abreast(plot.into_iter().chain([tables.into_iter().flatten().collect()]).collect()));
    }
    blocks.push(Block::Words(recorded(replayed)));
    let besides = lengths::besides(replayed);
    if !besides.is_empty() {
        blocks.push(Block::Words(format!("Of all mappings {}.", besides.trim_end())));
    }
    blocks
}

fn recorded(replayed: &Replayed) -> String {
    let total = replayed.observed.total();
    let kernel = &replayed.start.kernel;
    format!(
        "Recorded: {} mappings of {} buffers ({}) in {:.3} s; the kernel bounced {} buffers and refused {} mappings. Line size {}, \
         kmalloc from {}, pool {}.",
        total.mappings,
        total.buffers,
        bytes(total.bytes),
        replayed.span_ns as f64 / 1e9,
        total.bounces,
        total.failed,
        kernel.cache_line_size,
        kernel.kmalloc_minalign,
        super::replay::pool(kernel.pool.slots, kernel.pool.force),
    )
}

/// What to do, as `replay --advise` says it.
fn advised(subject: &Subject) -> Vec<Block> {
    vec![Block::List(advice_lines(subject).collect())]
}

fn advice_lines(subject: &Subject) -> impl Iterator<Item = String> {
    let Results { replayed, advice, .. } = &subject.results;
    let text = advice::text(advice, replayed);
    let lines: Vec<String> =
        text.lines().skip(1).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    lines.into_iter()
}

fn limits(replayed: &Replayed) -> Vec<Block> {
    let mut printed = losses::reservations(&replayed.start);
    printed += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
    printed += &super::replay::unknowns(replayed);
    let mut blocks = vec![Block::Printed(printed)];
    blocks.extend(facts::cost(replayed));
    blocks
}
