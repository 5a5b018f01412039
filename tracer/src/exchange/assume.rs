//! What is taken for true of the kernel and the devices of a trace, which tells neither; with a note for each assumption.

use tracer_ebpf::decide::Decider;

use super::ftrace::{Seen, Survey};
use super::given::GivenDevice;
use crate::event::Kind;
use crate::facts::{Device, KernelFacts};

/// A kernel and its devices, and what rests on what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assumed {
    /// The kernel.
    pub kernel: KernelFacts,
    /// Every device of the trace.
    pub devices: Vec<Device>,
    /// A line for each thing that is not known.
    pub notes: Vec<String>,
}

/// Takes the kernel as it is told, devices first as a capture of the same machine described them (`known`), then as the user
/// does (`given`); of the rest, what the trace shows.
pub fn assume(survey: &Survey, kernel: KernelFacts, known: &[Device], given: &[GivenDevice]) -> Assumed {
    let decider = Decider {
        bounce_unaligned: u32::from(kernel.bounce_unaligned_kmalloc),
        cache_line_size: kernel.cache_line_size,
        minalign: kernel.kmalloc_minalign,
        dma_minalign: kernel.dma_minalign,
    };
    let mut by_shown = [Vec::new(), Vec::new(), Vec::new()];
    let mut translated = Vec::new();
    let mut devices = Vec::new();
    for (name, seen) in &survey.devices {
        let own = given.iter().find(|one| one.name == *name).or_else(|| given.iter().find(|one| one.name == "*"));
        let mut device = if let Some(device) = known.iter().rfind(|device| device.name == *name) {
            device.clone()
        } else {
            if own.is_none_or(|own| own.coherent.is_none()) {
                let index = match seen.coherent(&decider) {
                    Some(false) => 0,
                    Some(true) => 1,
                    None => 2,
                };
                by_shown[index].push(name.as_str());
            }
            if seen.seems_translated() && own.is_none_or(|own| own.iommu_granule.is_none()) {
                translated.push(name.as_str());
            }
            shown(name, seen, &decider, u64::from(kernel.page_size))
        };
        if let Some(own) = own {
            own.apply(&mut device);
        }
        devices.push(device);
    }
    let mut notes = Vec::new();
    let mut note = |names: &[&str], why: &str| {
        if !names.is_empty() {
            notes.push(format!("{}: {why}", names.join(", ")));
        }
    };
    let [bounced, left_alone, silent] = by_shown;
    note(&bounced, "taken as not coherent, since short buffers of theirs bounced");
    note(&left_alone, "taken as coherent, since the kernel would have bounced short buffers of theirs, and did not");
    note(&silent, "taken as not coherent, since nothing in the trace shows it (--devices can tell)");
    note(&translated, "taken to be behind an IOMMU, since DMA addresses do not follow the physical ones");
    notes.extend(about_trace(survey));
    Assumed { kernel, devices, notes }
}

fn shown(name: &str, seen: &Seen, decider: &Decider, page_size: u64) -> Device {
    Device {
        name: name.to_owned(),
        coherent: seen.coherent(decider).unwrap_or(false),
        dma_mask: seen.dma_mask,
        iommu_granule: seen.seems_translated().then_some(page_size),
        force_bounce: seen.forced,
        ..Device::default()
    }
}

fn about_trace(survey: &Survey) -> Vec<String> {
    let mut notes = vec![
        "imported from a trace of events, which has nothing of the pool's slots: how full it was is the model's alone"
            .to_owned(),
    ];
    if !survey.has(Kind::Bounced) {
        notes.push("no swiotlb_bounced in the trace: nothing bounced, or the event was off".to_owned());
    }
    for (kind, lost_without) in [
        (Kind::Unmap, "single mappings are held for ever, in the model's pool too"),
        (Kind::UnmapSg, "lists are held for ever, in the model's pool too"),
    ] {
        let mapped = if kind == Kind::Unmap { Kind::Map } else { Kind::MapSg };
        if survey.has(mapped) && !survey.has(kind) {
            notes.push(format!("no {} events in the trace: {lost_without}", kind.name()));
        }
    }
    if survey.merged_lists > 0 {
        notes.push(format!(
            "of {} lists the buffers' lengths can't be told: the event has those of the DMA segments, of which fewer came out",
            survey.merged_lists
        ));
    }
    if survey.other_events > 0 {
        notes.push(format!("{} lines of other events were passed over", survey.other_events));
    }
    if survey.nonsense > 0 {
        notes.push(format!("{} lines can't be read, the first: {}", survey.nonsense, survey.first_nonsense));
    }
    notes
}
