//! `bouncescope verify`. A recording without mappings is no agreement: there is nothing to verify.

use super::label::{self, driver};
use super::losses::{self, seconds};
use super::replay::pool;
use super::screen::{self, COLUMNS, folded, line};
use super::wrap::wrapped_to;
use bouncescope_replay::Replayed;
use bouncescope_replay::compare::{Difference, Verdict};
use bouncescope_replay::list_marks::{ListDifference, Lists, StaleMarks};

/// Disagreements shown to people; programs get up to a thousand.
const SHOWN: usize = 20;

/// Why there is nothing to verify; `None` where something agrees or disagrees.
pub fn nothing(replayed: &Replayed) -> Option<String> {
    losses::nothing_mapped(replayed).filter(|_| replayed.verdict.agrees())
}

/// For people: what came of it, the totals that it rests on, and what was not compared.
pub fn text(replayed: &Replayed) -> String {
    let mut text = recorded(replayed);
    match nothing(replayed) {
        Some(why) => text += &line("NOTHING", &format!("Nothing to verify: {why}.")),
        None => text += &compared(replayed),
    }
    text += &folded(&losses::reservations(&replayed.start));
    text + &folded(&losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps))
}

/// The kernel with what decides about bounces and where that was read, and how much was recorded.
fn recorded(replayed: &Replayed) -> String {
    let kernel = &replayed.start.kernel;
    let settings = format!(
        "line size {} ({}), kmalloc from {} ({}), pool {}",
        kernel.cache_line_size,
        kernel.cache_line_source,
        kernel.kmalloc_minalign,
        kernel.kmalloc_minalign_source,
        pool(kernel.pool.slots, kernel.pool.force),
    );
    format!("{}{}\n", screen::recording(replayed), wrapped_to(COLUMNS, &settings, "", ""))
}

/// What was compared, and how it came out.
fn compared(replayed: &Replayed) -> String {
    let verdict = &replayed.verdict;
    let mut text = came_out(verdict);
    for (why, count) in &verdict.unknown_by_reason {
        text += &wrapped_to(COLUMNS, &format!("{count}: {}", why.text()), "  unknown  ", "           ");
    }
    text += &format!("\n{}\n", totals(verdict));
    if let Some(counted) = verdict.tracefs_bounced {
        let (since_boot, since_then) = match replayed.start.joined_ns {
            Some(_) => (" since boot", " after the recorder began"),
            None => ("", ""),
        };
        let recorded = verdict.bounced_recorded;
        let line = format!("{recorded} to bounce recorded{since_boot}, {counted} counted by tracefs{since_then}");
        text += &wrapped_to(COLUMNS, &line, "attempts ", "  ");
    }
    text += &format!(
        "records  {} seen, {} in the capture, {} refused by the full ring\n",
        verdict.events_seen, verdict.events_recorded, verdict.events_lost
    );
    if let Some(counted) = verdict.counted {
        text += &format!(
            "counted  {} mappings in the kernel, {} buffers; streamed: {}\n",
            counted.mappings,
            counted.buffers,
            replayed.start.streamed.name()
        );
    }
    text += &lists(&verdict.lists);
    for what in &verdict.not_compared {
        text += &wrapped_to(COLUMNS, &format!("not compared: {what}"), "", "  ");
    }
    for problem in &verdict.problems {
        text += &format!("DISAGREES: {problem}\n");
    }
    for difference in verdict.differences.iter().take(SHOWN) {
        text += &difference_text(difference, replayed.start.time_ns);
    }
    text += &more(verdict.differences.len());
    for difference in verdict.lists.differences.iter().take(SHOWN) {
        text += &wrapped_to(COLUMNS, &list_difference(difference, replayed.start.time_ns), "", "  ");
    }
    text += &more(verdict.lists.differences.len());
    for stale in verdict.lists.stale_marks.iter().take(SHOWN) {
        text += &wrapped_to(COLUMNS, &stale_marks(stale, replayed.start.time_ns), "", "  ");
    }
    text += &more(verdict.lists.stale_marks.len());
    if !verdict.lists.stale_marks.is_empty() {
        text += &wrapped_to(COLUMNS, STALE, "  -> ", "     ");
    }
    text
}

/// What a stale mark leads to, and what helps.
const STALE: &str = "The kernel clears the mark in sg_init_table() alone. Unmapping and syncs take a marked list for one that was \
                     mapped entry by entry: they maintain caches for the wrong memory, and unmap entries that have no address. The \
                     driver must initialise the table before it maps it again.";

/// How many there are behind those that are shown.
fn more(count: usize) -> String {
    match count.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("… and {more} more (--json has up to 1000)\n"),
    }
}

/// The lists that were compared by more than the fate of their buffers.
fn lists(lists: &Lists) -> String {
    let &Lists { compared, disagreements, unknown, dma_segments_predicted, dma_segments_kernel, .. } = lists;
    if compared + unknown == 0 {
        return String::new();
    }
    let not_known = if unknown == 0 { String::new() } else { format!(", {unknown} not known") };
    let segments = if dma_segments_predicted == dma_segments_kernel {
        format!("{dma_segments_kernel} DMA segments as predicted")
    } else {
        format!("{dma_segments_kernel} DMA segments, {dma_segments_predicted} predicted")
    };
    let marks = match lists.marked_kernel {
        // Without an IOMMU no kernel marks anything.
        _ if lists.behind_iommu == 0 => String::new(),
        None => "; no marks in this kernel".to_owned(),
        Some(marked) if marked == lists.marked_predicted => format!("; {marked} marked SG_DMA_SWIOTLB as predicted"),
        Some(marked) => format!("; {marked} marked SG_DMA_SWIOTLB, {} predicted", lists.marked_predicted),
    };
    let differing = if disagreements == 0 {
        String::new()
    } else {
        format!("; {} differ{}", screen::counted(disagreements, "list"), if disagreements == 1 { "s" } else { "" })
    };
    wrapped_to(
        COLUMNS,
        &format!("{compared} compared{not_known}: {segments}{marks}{differing}"),
        "lists    ",
        "         ",
    )
}

fn list_difference(difference: &ListDifference, start_ns: u64) -> String {
    let marked = |is_marked: bool| if is_marked { ", marked" } else { ", not marked" };
    let predicted = difference
        .dma_segments_predicted
        .map_or_else(|| "? DMA segments".to_owned(), |count| screen::counted(count, "DMA segment"));
    format!(
        "DISAGREES at {:.6} s, CPU {}: {}, list of {} mapped by {}: predicted {predicted}{}, kernel {}{}",
        seconds(difference.time_ns, start_ns),
        difference.cpu,
        label::device(&difference.device, &difference.driver, false),
        difference.segments,
        who(&difference.caller, ""),
        marked(difference.marked_predicted),
        difference.dma_segments_kernel,
        difference.marked_kernel.map_or("", marked),
    )
}

fn stale_marks(stale: &StaleMarks, start_ns: u64) -> String {
    let earlier = match stale.earlier_recorded {
        0 => "from before the recording".to_owned(),
        all if all == stale.lists => "from earlier mappings of the same tables".to_owned(),
        some => format!("({some} from earlier mappings of the same tables, the others from before the recording)"),
    };
    format!(
        "STALE MARK {}, {}: {} SG_DMA_SWIOTLB {earlier}, though nothing in {} bounces; {} of several segments, the first at {:.6} s",
        label::device(&stale.device, &stale.driver, false),
        who(&stale.caller, &stale.module),
        if stale.lists == 1 { "1 list carries".to_owned() } else { format!("{} lists carry", stale.lists) },
        if stale.lists == 1 { "it" } else { "them" },
        stale.of_several,
        seconds(stale.first_ns, start_ns),
    )
}

/// The function that mapped a list.
fn who(caller: &str, module: &str) -> String {
    if caller.is_empty() { "a function that was not recorded".to_owned() } else { label::call_site(caller, module) }
}

/// The verdict in a line.
fn came_out(verdict: &Verdict) -> String {
    let &Verdict { mappings, agreements, disagreements, unknown, .. } = verdict;
    let totals = match verdict.problems.len() {
        0 => String::new(),
        1 => ", and a total differs".to_owned(),
        count => format!(", and {count} totals differ"),
    };
    let not_known = if unknown == 0 { String::new() } else { format!(" The outcome of {unknown} is not known.") };
    let lists = verdict.lists.disagreements;
    if disagreements == 0 && lists > 0 {
        let words = format!(
            "{lists} of {} lists came out in other DMA segments than predicted, or marked otherwise{totals}.{not_known}",
            verdict.lists.compared
        );
        return line("DISAGREES", &words);
    }
    if !verdict.agrees() {
        let words = format!("{disagreements} of {mappings} mappings did not come out as predicted{totals}.{not_known}");
        return line("DISAGREES", &words);
    }
    match agreements {
        0 => line("CANNOT TELL", &format!("The outcome of the {mappings} mappings is not known.")),
        1 if mappings == 1 => line("AGREES", "The only mapping came out as predicted."),
        _ if agreements == mappings => line("AGREES", &format!("All {mappings} mappings came out as predicted.")),
        _ => line("AGREES", &format!("{agreements} of {mappings} mappings came out as predicted.{not_known}")),
    }
}

/// What the kernel counted itself, beside what was predicted.
fn totals(verdict: &Verdict) -> String {
    let peak = |slots: Option<u64>, is_exact: bool| match slots {
        Some(peak) if is_exact => peak.to_string(),
        // The highest sample: this kernel keeps no high-water mark.
        Some(peak) => format!(">= {peak}"),
        None => "-".to_owned(),
    };
    let rows = [
        // They are compared mapping by mapping.
        ("bounces", verdict.bounces_predicted, verdict.bounces_kernel.to_string(), false),
        (
            "peak slots",
            verdict.peak_slots_predicted,
            peak(verdict.peak_slots_kernel, verdict.peak_is_exact),
            verdict.peak_left_out,
        ),
        ("refused", verdict.failed_predicted, verdict.failed_kernel.to_string(), verdict.refusals_left_out),
    ];
    let mut text = format!("  {:<12}{:>10}{:>10}\n", "", "predicted", "kernel");
    for (what, predicted, kernel, is_left_out) in rows {
        let differs = kernel.parse::<u64>().is_ok_and(|kernel| kernel != predicted);
        let note = match is_left_out {
            true => "  not compared",
            // No more than what is not known, or it would be a problem.
            false if differs && verdict.agrees() && verdict.unknown > 0 => "  as far as known",
            false => "",
        };
        text += &format!("  {what:<12}{predicted:>10}{kernel:>10}{note}\n");
    }
    for pool in &verdict.pools {
        let note = if verdict.peak_left_out { "  not compared" } else { "" };
        let (predicted, kernel) = (pool.peak_slots_predicted, peak(pool.peak_slots_kernel, pool.peak_is_exact));
        text += &format!("  {:<12}{predicted:>10}{kernel:>10}{note}  {}\n", "  of these", pool.name);
    }
    text
}

fn difference_text(difference: &Difference, start_ns: u64) -> String {
    let device = &difference.device;
    format!(
        "DISAGREES at {:.6} s, CPU {}: {} ({}): {}coherent, mask {:#x}, limit {:#x}, min_align_mask {:#x}, {}; {} {} B at \
         {:#x}{}, attrs {:#x}{}: predicted {}, kernel {}\n",
        seconds(difference.time_ns, start_ns),
        difference.cpu,
        device.name,
        driver(&device.driver),
        if device.coherent { "" } else { "non-" },
        device.dma_mask,
        device.bus_dma_limit,
        device.min_align_mask,
        device.iommu_granule.map_or_else(|| "no IOMMU".into(), |granule| format!("IOMMU granule {granule}")),
        difference.direction,
        difference.size,
        difference.phys,
        if difference.phys_exact { "" } else { " (offset in its page)" },
        difference.attrs,
        if difference.list { format!(", segment {} of a list", difference.buffer) } else { String::new() },
        difference.predicted,
        difference.kernel,
    )
}
