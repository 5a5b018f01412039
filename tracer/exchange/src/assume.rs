//! What is taken for true of the kernel and the devices of a trace, which tells neither; with a note for each assumption.

use super::ftrace::Survey;
use super::given::GivenDevice;
use bouncescope_capture::event::Kind;
use bouncescope_capture::facts::{Device, KernelFacts};
use bouncescope_model::architecture::Architecture;

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
    let decider = kernel.decider();
    let has_bounces = survey.has(Kind::Bounced);
    let always_coherent = Architecture::of(&kernel.machine).always_coherent;
    let mut by_shown = [Vec::new(), Vec::new(), Vec::new()];
    let (mut translated, mut forced) = (Vec::new(), Vec::new());
    let mut devices = Vec::new();
    for (name, seen) in &survey.devices {
        let own = given.iter().find(|one| one.name == *name).or_else(|| given.iter().find(|one| one.name == "*"));
        let mut device = if let Some(device) = known.iter().rfind(|device| device.name == *name) {
            device.clone()
        } else {
            if own.is_none_or(|own| own.coherent.is_none()) {
                let index = match seen.coherent(&decider, has_bounces) {
                    Some(false) => 0,
                    Some(true) => 1,
                    None => 2,
                };
                by_shown[index].push(name.as_str());
            }
            if seen.seems_translated() && own.is_none_or(|own| own.iommu_granule.is_none()) {
                translated.push(name.as_str());
            }
            if seen.forced {
                forced.push(name.as_str());
            }
            Device {
                name: name.clone(),
                coherent: seen.coherent(&decider, has_bounces).unwrap_or(always_coherent),
                dma_mask: seen.dma_mask,
                // Slots of a device with a mask, such as NVMe, keep the buffer's offset in its page: their addresses show no bounce.
                min_align_mask: if has_bounces || seen.displaced { 0 } else { 0xfff },
                iommu_granule: seen.seems_translated().then_some(u64::from(kernel.page_size)),
                force_bounce: seen.forced,
                ..Device::default()
            }
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
    let silent_are = if always_coherent {
        format!("taken as coherent, as all devices of {} are", kernel.machine)
    } else {
        "taken as not coherent".to_owned()
    };
    note(&silent, &format!("{silent_are}, since nothing in the trace shows it (--devices FILE can say)"));
    note(&forced, "all mappings bounce, as its bounces say (swiotlb=force, or a pool of its own)");
    note(&translated, "assumed to be behind an IOMMU, since DMA addresses do not follow the physical ones");
    notes.extend(about_trace(survey));
    Assumed { kernel, devices, notes }
}

fn about_trace(survey: &Survey) -> Vec<String> {
    let mut notes = vec![
        "imported from a trace of events, which has nothing of the pool's slots: how full it was is the model's alone"
            .to_owned(),
    ];
    let maps = survey.has(Kind::Map) || survey.has(Kind::MapSg);
    if !survey.has(Kind::Bounced) {
        let addresses = if maps { ". What bounced is taken from DMA addresses, where they show it" } else { "" };
        notes.push(format!("no swiotlb_bounced in the trace: nothing bounced, or the event was off{addresses}"));
    } else if !maps {
        notes.push(
            "no mappings in the trace, only bounces: kernels before 6.12 have no events dma:*, or they were off"
                .to_owned(),
        );
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
        let (lines, were) = if survey.other_events == 1 { ("line", "was") } else { ("lines", "were") };
        notes.push(format!("{} {lines} of other events {were} passed over", survey.other_events));
    }
    for (instance, events) in &survey.other_instances {
        notes.push(format!(
            "{events} events of another trace instance or file ({instance}) were left out: they may be the same events twice, or another \
             machine's (trace-cmd report prints each by itself)"
        ));
    }
    if survey.unordered {
        notes.push("lines were out of order, and are sorted by time".to_owned());
    }
    if survey.counts_for_times > 0 {
        notes.push(
            "times are counts of the trace's clock (counter, uptime or x86-tsc), not seconds: the order holds, durations and rates do not"
                .to_owned(),
        );
    }
    if survey.without_cpu > 0 {
        notes.push(format!(
            "{} events have no CPU and are assumed to be of CPU 0 (perf script -F +cpu prints it, if it was recorded)",
            survey.without_cpu
        ));
    }
    if survey.without_pointer > 0 {
        notes.push(format!(
            "{} events of early boot have no address of their object, (____ptrval____): their frees are not matched",
            survey.without_pointer
        ));
    }
    if survey.nonsense > 0 {
        let lines = if survey.nonsense == 1 { "line" } else { "lines" };
        notes.push(format!("{} {lines} can't be read, the first: {}", survey.nonsense, survey.first_nonsense));
    }
    notes
}
