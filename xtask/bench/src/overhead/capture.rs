//! What a capture of the storm has: counts by call site, events, and losses.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Result;
use tracer::{
    capture::Reader,
    facts::Counters,
    names::Loss,
    stream::{Item, Source as _},
};
use tracer_ebpf::record::Kind;

use super::kept::Kept;

/// Allocations that were counted by call site and size.
pub(super) fn sites(file: &Path) -> Result<Kept> {
    let mut counts = HashMap::new();
    let counters = read(file, |item| {
        if let Item::Sites(sites) = item {
            counts
                .extend(sites.into_iter().map(|site| ((site.call_site, site.bytes_req, site.bytes_alloc), site.count)));
        }
    })?;
    Ok(Kept {
        events: Some(counts.values().sum()),
        bytes: Some(fs::metadata(file)?.len()),
        lost: Some(lost(&counters)),
        skipped: skipped(&counters),
    })
}

/// Events of these kinds; an error unless each that was seen is either there or counted as lost.
pub(super) fn events(file: &Path, kinds: &[Kind]) -> Result<Kept> {
    let mut recorded: HashMap<&str, u64> = HashMap::new();
    let counters = read(file, |item| {
        if let Item::Events(batch) = item {
            for event in &batch.events {
                *recorded.entry(event.what.kind().name()).or_default() += 1;
            }
        }
    })?;
    let sum = |values: Option<&Vec<u64>>| values.into_iter().flatten().sum::<u64>();
    for kind in kinds {
        let lost = counters.lost(&Loss::RingFull(*kind));
        let kind = kind.name();
        let seen = sum(counters.seen.get(kind));
        let recorded = recorded.get(kind).copied().unwrap_or(0);
        anyhow::ensure!(seen == recorded + lost, "{kind}: {seen} seen, but {recorded} recorded and {lost} lost");
    }
    let events = Some(kinds.iter().filter_map(|kind| recorded.get(kind.name())).sum());
    Ok(Kept {
        events,
        bytes: Some(fs::metadata(file)?.len()),
        lost: Some(lost(&counters)),
        skipped: skipped(&counters),
    })
}

/// Reads a capture to its end; the last counters.
fn read(file: &Path, mut each: impl FnMut(Item)) -> Result<Counters> {
    let mut reader = Reader::open(file)?;
    let mut counters = Counters::default();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Counters(last) => counters = last,
            item => each(item),
        }
    }
    Ok(counters)
}

/// Without the runs that the kernel itself skipped.
fn lost(counters: &Counters) -> u64 {
    counters.lost.iter().filter(|(loss, _)| !matches!(loss, Loss::Missed(_))).flat_map(|(_, values)| values).sum()
}

/// The kernel does not run a program inside itself: what an interrupt allocates just then.
fn skipped(counters: &Counters) -> u64 {
    counters.lost.iter().filter(|(loss, _)| matches!(loss, Loss::Missed(_))).flat_map(|(_, values)| values).sum()
}
