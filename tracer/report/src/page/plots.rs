//! Which plots stand in a report; those of which a capture has nothing to show are left out, and said to be.

use super::{Subject, about};
use crate::advice;
use crate::document::Block;
use crate::plot::{self, Plot};
use bouncescope_replay::outcome::Outcome;

/// Slots in use over time, which stands with the verdict; `None` where there is nothing to draw.
pub(super) fn occupancy(subject: &Subject) -> Option<Block> {
    let plot = plot::occupancy(&subject.results.replayed, &about(subject));
    (!plot.is_empty()).then(|| drawn(&plot, OCCUPANCY))
}

const OCCUPANCY: &str = "Each point is the most slots in use at any moment of its stretch of time; of the kernel itself, what its own counter said \
                         when it was sampled.";

fn drawn(plot: &Plot, words: &str) -> Block {
    Block::Plot { svg: plot::svg(plot), words: words.to_owned() }
}

pub(super) fn blocks(subject: &Subject) -> Vec<Block> {
    let results = &subject.results;
    let replayed = &results.replayed;
    let about = about(subject);
    let line = replayed.start.kernel.cache_line_size;
    let asked = replayed.outcomes.get(advice::subject(&replayed.settings));
    let mut plots = vec![
        (plot::occupancy(replayed, &about), OCCUPANCY),
        (
            plot::line_sizes(&results.line_sizes, line, &about),
            "With a pool so large that nothing is refused; the caches are those of the policy.",
        ),
        (plot::failures(&results.pool_sizes, &about), "Every size that the kernel could make, up to 128 MiB."),
    ];
    if let Some(asked) = asked {
        plots.push((
            plot::by_length(asked, &about),
            "Lengths as kmalloc would round them up, with caches from 8 bytes.",
        ));
    }
    plots.push((
        plot::by_alignment(&replayed.statistics.devices(), &about),
        "The largest power of two that divides the address.",
    ));
    if let Some((before, after)) = asked.and_then(|asked| least_memory(&replayed.outcomes, asked)) {
        plots.push((
            plot::memory(before, after, &about),
            "What the objects take that were allocated in the recording and live at its end, packed as tightly as they can be; \
             no others.",
        ));
    }
    plots.push((
        plot::hazards(&replayed.outcomes, &about),
        "Fewer of both is better: further left is cheaper, further down is safer.",
    ));
    let (empty, drawn): (Vec<_>, Vec<_>) = plots.into_iter().partition(|(plot, _)| plot.is_empty());
    // The first stands with the verdict.
    let here = drawn.iter().filter(|(_, words)| *words != OCCUPANCY);
    let mut blocks = vec![Block::Abreast(here.map(|(plot, words)| vec![self::drawn(plot, words)]).collect())];
    blocks.extend(nothing(&empty));
    blocks
}

/// The policy with the largest slabs, against the one that the advice is about.
fn least_memory<'a>(outcomes: &'a [Outcome], asked: &'a Outcome) -> Option<(&'a Outcome, &'a Outcome)> {
    let taken = |outcome: &Outcome| outcome.slab_bytes.map(|slabs| slabs.value);
    let most = outcomes.iter().filter(|outcome| outcome.name != asked.name).max_by_key(|outcome| taken(outcome))?;
    taken(most).is_some().then_some((most, asked))
}

fn nothing(empty: &[(Plot, &str)]) -> Option<Block> {
    let titles: Vec<&str> = empty.iter().map(|(plot, _)| plot.title.as_str()).collect();
    (!titles.is_empty()).then(|| Block::Words(format!("Nothing to draw in: {}.", titles.join("; "))))
}
