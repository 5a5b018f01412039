//! `bouncescope verify`. A recording without mappings is no agreement: there is nothing to verify.

use super::label::driver;
use super::losses::{self, seconds};
use bouncescope_replay::Replayed;
use bouncescope_replay::compare::Difference;

/// Disagreements shown to people; programs get up to a thousand.
const SHOWN: usize = 20;

/// Why there is nothing to verify; `None` where something agrees or disagrees.
pub fn nothing(replayed: &Replayed) -> Option<String> {
    losses::nothing_mapped(replayed).filter(|_| replayed.verdict.agrees())
}

/// For people.
pub fn text(replayed: &Replayed) -> String {
    let kernel = &replayed.start.kernel;
    let mut text = format!(
        "{} {}: line size {} ({}), kmalloc from {} ({}), pool {} slots{}\n\n",
        kernel.machine,
        kernel.release,
        kernel.cache_line_size,
        kernel.cache_line_source,
        kernel.kmalloc_minalign,
        kernel.kmalloc_minalign_source,
        kernel.pool.slots,
        if kernel.pool.force { ", force" } else { "" },
    );
    match nothing(replayed) {
        Some(why) => text += &format!("nothing to verify: {why}\n"),
        None => text += &compared(replayed),
    }
    text += &losses::reservations(&replayed.start);
    text += &losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
    text
}

/// What was compared, and how it came out.
fn compared(replayed: &Replayed) -> String {
    let verdict = &replayed.verdict;
    let peak = match verdict.peak_slots_kernel {
        Some(peak) if verdict.peak_is_exact => peak.to_string(),
        Some(peak) => format!("at least {peak} (no high-water mark on this kernel)"),
        None => "unknown".into(),
    };
    let mut text = format!(
        "mappings        {} ({} buffers)\nagreements      {}\ndisagreements   {}\nunknown         {}\n",
        verdict.mappings, verdict.buffers, verdict.agreements, verdict.disagreements, verdict.unknown,
    );
    for (why, count) in &verdict.unknown_by_reason {
        text += &format!("                {count}: {}\n", why.text());
    }
    text += &format!(
        "bounces         predicted {}, kernel {}\npeak slots      predicted {}, kernel {peak}\n\
         refused         predicted {}, kernel {}\n",
        verdict.bounces_predicted,
        verdict.bounces_kernel,
        verdict.peak_slots_predicted,
        verdict.failed_predicted,
        verdict.failed_kernel,
    );
    if let Some(counted) = verdict.tracefs_bounced {
        text += &format!(
            "swiotlb_bounced recorded {}, tracefs {counted} (attempts, refused ones too)\n",
            verdict.bounced_recorded
        );
    }
    text += &format!(
        "records         seen {}, in the capture {}, refused by the full ring {}\n",
        verdict.events_seen, verdict.events_recorded, verdict.events_lost
    );
    if let Some(counted) = verdict.counted {
        text += &format!(
            "counted         {} mappings in the kernel, {} buffers; streamed: {}\n",
            counted.mappings,
            counted.buffers,
            replayed.start.streamed.name()
        );
    }
    for difference in verdict.differences.iter().take(SHOWN) {
        text += &difference_text(difference, replayed.start.time_ns);
    }
    let more = verdict.differences.len().saturating_sub(SHOWN);
    if more > 0 {
        text += &format!("… and {more} more (--json has up to 1000)\n");
    }
    for what in &verdict.not_compared {
        text += &format!("not compared: {what}\n");
    }
    for problem in &verdict.problems {
        text += &format!("DISAGREES: {problem}\n");
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
