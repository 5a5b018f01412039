//! What a scenario is: one boot with a machine, a pool and the recordings made in it, one after the other.

use super::{
    board::Board,
    doctor,
    kernel::Kernel,
    kernels,
    machine::{LONG_LINES, warns_of_lines},
};

/// One boot.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of the machine")]
pub(super) struct Scenario {
    /// By which it is asked for and shown.
    pub(super) name: &'static str,
    /// PCI devices behind an SMMU, mapping through dma-iommu; else dma-direct.
    pub(super) smmu: bool,
    /// Devices are coherent: the control, in which nothing may bounce.
    pub(super) coherent: bool,
    /// The lab's module takes all PCI devices to be untrusted before anything is recorded.
    pub(super) untrusted: bool,
    /// `swiotlb=` on the kernel's command line, empty for its default.
    pub(super) pool: &'static str,
    /// Added to the kernel's command line as it is, empty for nothing.
    pub(super) parameters: &'static str,
    /// PCI devices bounce everything through a pool of their own; of two, the xHCI has one for itself.
    pub(super) restricted_pools: u32,
    /// The kernels' pools may grow: those of the kernel that the lab builds itself.
    pub(super) on: On,
    /// The recorder is given the BTF of a kernel that shows none itself.
    pub(super) btf: bool,
    /// Bytes of a cache line.
    pub(super) lines: u32,
    /// How the product records.
    pub(super) recorder: Recorder,
    /// CPUs of the machine.
    pub(super) cpus: u32,
    /// USB tablets at the xHCI.
    pub(super) tablets: u32,
    /// The machine's clocks count its instructions.
    pub(super) counts_instructions: bool,
    /// Its workload takes ten minutes.
    pub(super) is_long: bool,
    /// A board of its own instead of the usual machine.
    pub(super) board: Option<&'static Board>,
    /// What is recorded.
    pub(super) recordings: &'static [Recording],
}

/// How the product records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorder {
    /// By the kernel's events where it has them.
    Usual,
    /// At a priority above the workload's, so that no probe is skipped because the recorder was preempted.
    Undisturbed,
    /// By default, streaming only what may bounce.
    ByDefault,
    /// By probing functions even where the kernel has events of mappings.
    ByKprobes,
    /// The pool's functions through fentry and fexit.
    ByFentry,
    /// With a ring and maps that are too small, so that something of most kinds is lost.
    TooSmall,
    /// As usual, with `serve --live` beside it.
    BesideServe,
    /// As a flight recorder: the capture is the file that was written when the pool was full.
    Flight,
    /// By default, while the lab's module makes it lose what it would lose with any ring and maps.
    Losing,
    /// Every allocation, with the caches shrunk before they are counted, and nothing beside the product: no count of mappings, whose
    /// tables would be in the caches too.
    Objects,
    /// The same from boot on.
    ObjectsFromBoot,
    /// From boot on: the product is the kernel's init, and becomes the lab's.
    FromBoot,
    /// As usual, with the kernel's own trace since boot joined to it, while devices are busy.
    WithBootTrace,
    /// From boot on, with an option that it does not know: the machine has to come up all the same.
    FailingAtBoot,
}

impl Recorder {
    /// What goes onto the kernel's command line. The kernel's own events of mappings, where it has them, are written by the kernel
    /// from boot on, as what the recording is compared with.
    fn at_boot(self, kernel_version: (u32, u32)) -> String {
        const INIT: &str = "rdinit=/bin/bouncescope bouncescope.init=/init bouncescope.wait=60";
        const TRACE: &str = "trace_event=dma:* trace_clock=mono trace_buf_size=8M";
        let trace = if kernel_version >= (6, 12) { TRACE } else { "" };
        match self {
            Self::WithBootTrace => TRACE.replace("dma:*", "dma:*,swiotlb:*"),
            Self::FromBoot => format!("{INIT} bouncescope.record=\"--full --count-costs --count-tracefs\" {trace}")
                .trim_end()
                .to_owned(),
            Self::ObjectsFromBoot => format!("{INIT} bouncescope.record=\"--sample 1 --shrink-caches -m 32M\""),
            Self::FailingAtBoot => format!("{INIT} bouncescope.record=--no-such-option"),
            _ => String::new(),
        }
    }
}

/// Which kernels a scenario is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// Every one.
    All,
    /// Debian's, whose pools have a fixed size, with pages of 4 KiB.
    Debian,
    /// Those that are booted when none is named; the lab builds its module for them.
    Default,
    /// One series, without its other flavours.
    Series(&'static str),
    /// One version, in every flavour.
    Version(u32, u32),
    /// Those for real time (`CONFIG_PREEMPT_RT`).
    RealTime,
    /// Those, and the default ones.
    DefaultOrRealTime,
    /// Those with pages of 16 KiB.
    Pages16K,
    /// Those that the lab builds, whose pools grow.
    Built,
}

/// One recording.
#[derive(Debug)]
pub(super) struct Recording {
    /// By which it is shown, and its files are called.
    pub(super) name: &'static str,
    /// Workload and arguments.
    pub(super) workload: &'static str,
    /// How the product records, if not as in the rest of the scenario.
    pub(super) recorder: Option<Recorder>,
    /// What must be seen, besides agreement.
    pub(super) expect: Expect,
}

/// What must be seen in a recording for it to have tested what it is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expect {
    /// Mappings, at least.
    pub(super) mappings: u64,
    /// Every length 1..=512 is mapped both `TO_DEVICE` and `FROM_DEVICE`.
    pub(super) every_length: bool,
    /// Whether anything bounces.
    pub(super) bounces: bool,
    /// Slots in use at once, at least.
    pub(super) peak_slots: u64,
    /// Mappings that find the pool full, at least; with 0 none may.
    pub(super) refused: u64,
    /// Buffers linked into a range of DMA addresses, at least, by kernels that do so: NVMe's behind an IOMMU from 6.17 on.
    pub(super) links: u64,
    /// Part of the mappings that may overlap in time with what they depend on, so that their order is not known, percent.
    pub(super) raced_percent: u64,
}

impl Recording {
    /// Whether the lab's module maps lists.
    pub(super) fn maps_lists(&self) -> bool {
        self.workload.starts_with("lists")
    }

    /// How often the lab's module maps each of its pairs of buffers in one cache line.
    pub(super) fn overlaps(&self) -> Option<u64> {
        self.workload.strip_prefix("overlaps ")?.parse().ok()
    }
}

/// `swiotlb=` of a kernel that is to have no pool.
pub(super) const NO_POOL: &str = "noforce";

impl Scenario {
    /// Whether it is for a kernel.
    pub(super) fn runs_on(&self, kernel: &Kernel) -> bool {
        match self.on {
            On::All => true,
            On::Debian => kernel.btf.is_none() && !kernel.has_16k_pages(),
            On::Default => kernels::DEFAULT.contains(&kernel.series.as_str()),
            On::Series(series) => kernel.series == series,
            On::Version(major, minor) => kernel.btf.is_none() && kernel.version() == (major, minor),
            On::RealTime => kernel.is_real_time(),
            On::DefaultOrRealTime => kernel.is_real_time() || kernels::DEFAULT.contains(&kernel.series.as_str()),
            On::Pages16K => kernel.has_16k_pages(),
            On::Built => kernel.btf.is_some(),
        }
    }

    /// Whether it runs only in the matrix, or when it is named: boards, boots that wait for the recorder, and some workloads take long; and
    /// of lists, those behind the SMMU show more.
    pub(super) fn is_matrix_only(&self) -> bool {
        let is_second = self.maps_lists() && !self.smmu || self.untrusted && !self.coherent;
        let waits = matches!(self.recorder, Recorder::FromBoot | Recorder::WithBootTrace);
        self.board.is_some() || self.is_long || is_second || waits
    }

    /// Model of the CPUs: not every kernel boots on the same, and few have lines of 256 bytes.
    pub(super) fn cpu(&self, kernel: &Kernel) -> &'static str {
        match self.lines {
            256 => LONG_LINES,
            // Its counter has a tick every nanosecond, that of others one every 16.
            _ if self.counts_instructions => "max",
            _ => kernel.cpu(),
        }
    }

    /// Cache lines that the device tree tells of, where no CPU does.
    pub(super) fn lines_in_tree(&self) -> Option<u32> {
        matches!(self.lines, 32 | 128).then_some(self.lines)
    }

    /// Whether the lab's module is used.
    pub(super) fn has_module(&self) -> bool {
        self.untrusted
            || self.recorder == Recorder::Losing
            || self.maps_lists()
            || self.recordings.iter().any(|recording| recording.overlaps().is_some())
    }

    /// Whether the lab's module maps lists for a device of its own.
    pub(super) fn maps_lists(&self) -> bool {
        self.recordings.iter().any(Recording::maps_lists)
    }

    /// Whether a complaint of the kernel comes with the machine.
    pub(super) fn explains(&self, trouble: &str) -> bool {
        warns_of_lines(self.lines, trouble)
    }

    /// What goes onto the kernel's command line.
    ///
    /// From 7.3 on a kernel keeps the pool's high-water mark only when asked to (`setup_io_tlb_npages()`,
    /// `kernel/dma/swiotlb.c`).
    pub(super) fn parameters(&self, kernel_version: (u32, u32)) -> String {
        let pool = match (self.pool, kernel_version >= (7, 3)) {
            ("", false) => String::new(),
            ("", true) => "swiotlb=track_hiwater".to_owned(),
            (pool, false) => format!("swiotlb={pool}"),
            (pool, true) => format!("swiotlb={pool},track_hiwater"),
        };
        let from_boot = self.recorder.at_boot(kernel_version);
        [pool, self.parameters.to_owned(), from_boot]
            .into_iter()
            .filter(|one| !one.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Whether the product's `doctor` runs at its end.
    pub(super) fn has_doctor(&self, bare: bool) -> bool {
        !bare && self.name == doctor::SCENARIO
    }

    /// What must be seen of a recording on a kernel that bounces small buffers, or on one that does not and so has no pool
    /// either on this machine, unless it is forced to (`swiotlb_init_remap()`, `kernel/dma/swiotlb.c`).
    pub(super) fn expect(&self, recording: &Recording, bounces_small: bool) -> Expect {
        let forced = self.pool.ends_with(",force");
        if bounces_small || forced {
            return recording.expect;
        }
        Expect { bounces: false, peak_slots: 0, refused: 0, ..recording.expect }
    }

    /// Init's script: `NAME MODE WORKLOAD …`, one recording a line.
    pub(super) fn script(&self, bare: bool) -> String {
        let mode = |recording: &Recording| match recording.recorder.unwrap_or(self.recorder) {
            _ if bare => " bare ",
            Recorder::Usual => " record ",
            Recorder::Undisturbed => " record-undisturbed ",
            Recorder::ByDefault => " record-by-default ",
            Recorder::ByKprobes => " record-by-kprobes ",
            Recorder::ByFentry => " record-by-fentry ",
            Recorder::TooSmall => " record-too-small ",
            Recorder::BesideServe => " record-beside-serve ",
            Recorder::Flight => " record-flight ",
            Recorder::Losing => " record-losing ",
            Recorder::Objects => " objects 1 ",
            Recorder::ObjectsFromBoot => " objects-from-boot ",
            Recorder::FromBoot => " record-from-boot ",
            Recorder::WithBootTrace => " record-with-boot-trace ",
            Recorder::FailingAtBoot => " fail-at-boot ",
        };
        let recordings = self.recordings.iter().flat_map(|one| [one.name, mode(one), one.workload, "\n"]);
        let before = self.untrusted.then_some("untrusted untrust untrusted=1\n");
        before.into_iter().chain(recordings).chain(self.has_doctor(bare).then_some(doctor::SCRIPT)).collect()
    }
}
