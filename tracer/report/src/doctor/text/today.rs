//! What a kernel does with a small buffer, in plain words.

use super::paragraph;
use crate::doctor::{Case, CaseOutcome, Page, Today};
use crate::wrap::wrapped;
use bouncescope_model::mapping::Reason;

/// The section.
pub(super) fn text(page: &Page) -> String {
    let today = &page.today;
    let mut text = paragraph(&rule(page));
    let example =
        format!("kmalloc({}), such as for a USB device descriptor, gives {} bytes.", today.example, today.given);
    if today.cases.iter().all(|case| case.outcome == CaseOutcome::Direct) {
        return text
            + &paragraph(&format!("{example} When mapped, it stays where it is, whatever the device and direction."));
    }
    text += &paragraph(&format!("{example} When mapped, such an object is"));
    for case in &today.cases {
        text += &wrapped(&format!("{}: {}", who(case), becomes(&case.outcome)), "  - ", "    ");
    }
    if today.room > 0 {
        let then = if page.kernel.pool.dynamic { "then the pool grows" } else { "the next mapping fails" };
        text += &paragraph(&format!(
            "The pool has room for {} such buffers of the first kind at once; {then}.",
            today.room
        ));
    }
    text
}

/// Which lengths do not stay where they are, in words.
fn rule(page: &Page) -> String {
    let (today, kernel) = (&page.today, &page.kernel);
    let ranges = ranges(today);
    let first = today.cases.first().map(|case| case.outcome);
    match first {
        Some(CaseOutcome::Bounced { reason: Reason::Force, .. }) => {
            "Everything that is mapped without an IOMMU bounces, whatever its length (swiotlb=force).".to_owned()
        }
        _ if !today.lengths.is_empty() => {
            let fate = if kernel.pool.slots > 0 {
                "bounce"
            } else {
                "CANNOT BE MAPPED, since there is no pool to bounce through"
            };
            format!(
                "Buffers of {ranges} bytes {fate} when the device is not coherent and writes to them, wherever they lie; from {} \
                 bytes on none does. Coherent devices, and buffers that a device only reads, are left alone.",
                2 * u64::from(kernel.dma_minalign)
            )
        }
        _ if !kernel.bounce_unaligned_kmalloc => format!(
            "Nothing bounces for kmalloc's alignment: this kernel does not know the rule, and its caches begin at {} bytes.",
            kernel.kmalloc_minalign
        ),
        _ => format!(
            "Nothing bounces for kmalloc's alignment: the caches begin at {} bytes, so no two objects share a line \
             of {}. The memory that smaller caches save is not saved{}.",
            kernel.kmalloc_minalign,
            kernel.cache_line_size,
            if kernel.pool.slots == 0 { ", because there is no pool to bounce through" } else { "" }
        ),
    }
}

fn ranges(today: &Today) -> String {
    let words: Vec<String> = today
        .lengths
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    words.join(" and ")
}

fn who(case: &Case) -> String {
    let coherent = if case.coherent { "a coherent device" } else { "a non-coherent device" };
    let does = match case.direction {
        1 => "that reads it (TO_DEVICE)",
        2 => "that writes to it (FROM_DEVICE)",
        _ => "that does both (BIDIRECTIONAL)",
    };
    let behind =
        case.iommu_granule.map_or_else(String::new, |granule| format!(", behind an IOMMU with a granule of {granule}"));
    format!("for {coherent} {does}{behind}")
}

fn becomes(outcome: &CaseOutcome) -> String {
    match outcome {
        CaseOutcome::Direct => "left where it is".to_owned(),
        CaseOutcome::Bounced { reason, slots } => {
            let slots = if *slots == 1 { "1 slot".to_owned() } else { format!("{slots} slots") };
            format!("bounced through the pool, {slots} of 2 KiB ({})", because(*reason))
        }
        CaseOutcome::Fails { reason } => format!("REFUSED, since it would have to bounce ({})", because(*reason)),
    }
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Kmalloc => "it may be a small kmalloc object",
        Reason::Force => "everything bounces",
        _ => "the device cannot use it as it is",
    }
}
