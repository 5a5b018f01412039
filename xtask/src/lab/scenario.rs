//! The table of scenarios: each is one boot with a machine, a pool and the recordings made in it, one after the other.

/// One boot.
#[derive(Debug)]
pub(super) struct Scenario {
    /// By which it is asked for and shown.
    pub(super) name: &'static str,
    /// PCI devices behind an SMMU, mapping through dma-iommu; else dma-direct.
    pub(super) smmu: bool,
    /// Devices are coherent: the control, in which nothing may bounce.
    pub(super) coherent: bool,
    /// `swiotlb=` on the kernel's command line, empty for its default.
    pub(super) pool: &'static str,
    /// The product probes functions even where the kernel has events of mappings.
    pub(super) by_kprobes: bool,
    /// What is recorded.
    pub(super) recordings: &'static [Recording],
}

/// One recording.
#[derive(Debug)]
pub(super) struct Recording {
    /// By which it is shown, and its files are called.
    pub(super) name: &'static str,
    /// Workload and arguments.
    pub(super) workload: &'static str,
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
}

const MIXED: Expect = Expect { mappings: 2500, every_length: true, bounces: true, peak_slots: 1, refused: 0 };
const SILENT: Expect = Expect { bounces: false, peak_slots: 0, ..MIXED };
const HELD: Expect = Expect { mappings: 100, every_length: false, bounces: true, peak_slots: 100, refused: 0 };

const fn mixed(expect: Expect) -> Recording {
    Recording { name: "mixed", workload: "mixed", expect }
}

/// Every scenario, in the order in which they run.
pub(super) const ALL: [Scenario; 8] = [
    Scenario {
        name: "direct",
        smmu: false,
        coherent: false,
        pool: "",
        by_kprobes: false,
        recordings: &[
            mixed(MIXED),
            Recording { name: "hold-100", workload: "hold 100", expect: HELD },
            Recording {
                name: "hold-300",
                workload: "hold 300",
                expect: Expect { mappings: 300, peak_slots: 300, ..HELD },
            },
        ],
    },
    // A bounce behind the SMMU takes a whole granule, 2 slots: 300 do not fit into the default pool of 512.
    Scenario {
        name: "smmu",
        smmu: true,
        coherent: false,
        pool: "",
        by_kprobes: false,
        recordings: &[
            mixed(MIXED),
            Recording { name: "hold-100", workload: "hold 100", expect: Expect { peak_slots: 200, ..HELD } },
            Recording {
                name: "hold-300",
                workload: "hold 300",
                expect: Expect { mappings: 256, peak_slots: 500, refused: 44, ..HELD },
            },
        ],
    },
    Scenario {
        name: "direct-coherent",
        smmu: false,
        coherent: true,
        pool: "",
        by_kprobes: false,
        recordings: &[mixed(SILENT)],
    },
    Scenario {
        name: "smmu-coherent",
        smmu: true,
        coherent: true,
        pool: "",
        by_kprobes: false,
        recordings: &[mixed(SILENT)],
    },
    Scenario {
        name: "force",
        smmu: false,
        coherent: false,
        pool: "16384,force",
        by_kprobes: false,
        recordings: &[mixed(MIXED)],
    },
    Scenario {
        name: "noforce",
        smmu: false,
        coherent: false,
        pool: "noforce",
        by_kprobes: false,
        recordings: &[mixed(SILENT)],
    },
    // 128 is rounded up to one segment for each of two areas: 256 slots.
    Scenario {
        name: "full",
        smmu: false,
        coherent: false,
        pool: "128",
        by_kprobes: false,
        recordings: &[
            Recording {
                name: "hold-300",
                workload: "hold 300",
                expect: Expect { mappings: 256, peak_slots: 256, refused: 44, ..HELD },
            },
            mixed(MIXED),
        ],
    },
    // The same as kernels without events of mappings are recorded by, held against the events themselves.
    Scenario {
        name: "kprobes",
        smmu: false,
        coherent: false,
        pool: "",
        by_kprobes: true,
        recordings: &[
            mixed(MIXED),
            Recording { name: "hold-100", workload: "hold 100", expect: HELD },
        ],
    },
];

impl Scenario {
    /// What goes onto the kernel's command line.
    ///
    /// From 7.3 on a kernel keeps the pool's high-water mark only when asked to (`setup_io_tlb_npages()`,
    /// `kernel/dma/swiotlb.c`).
    pub(super) fn parameters(&self, kernel_version: (u32, u32)) -> String {
        match (self.pool, kernel_version >= (7, 3)) {
            ("", false) => String::new(),
            ("", true) => "swiotlb=track_hiwater".to_owned(),
            (pool, false) => format!("swiotlb={pool}"),
            (pool, true) => format!("swiotlb={pool},track_hiwater"),
        }
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
        let mode = match (bare, self.by_kprobes) {
            (true, _) => "bare",
            (false, true) => "record-by-kprobes",
            (false, false) => "record",
        };
        self.recordings.iter().flat_map(|one| [one.name, " ", mode, " ", one.workload, "\n"]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_so_that_files_and_rows_are() {
        let mut names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn only_kernels_that_want_it_are_asked_to_track_the_high_water_mark() {
        assert_eq!(ALL[0].parameters((6, 12)), "");
        assert_eq!(ALL[0].parameters((7, 3)), "swiotlb=track_hiwater");
        assert_eq!(ALL[4].parameters((6, 12)), "swiotlb=16384,force");
        assert_eq!(ALL[4].parameters((7, 3)), "swiotlb=16384,force,track_hiwater");
    }

    #[test]
    fn a_kernel_that_bounces_nothing_small_bounces_only_when_forced() {
        let bounces = |name: &str, small| {
            let scenario = ALL.iter().find(|scenario| scenario.name == name).unwrap();
            scenario.expect(&scenario.recordings[0], small).bounces
        };
        assert_eq!(["direct", "force", "noforce"].map(|name| bounces(name, true)), [true, true, false]);
        assert_eq!(["direct", "force", "noforce"].map(|name| bounces(name, false)), [false, true, false]);
    }

    #[test]
    fn all_scenarios_of_two_kernels_map_at_least_20000_times() {
        let all: u64 = ALL.iter().flat_map(|scenario| scenario.recordings).map(|one| one.expect.mappings).sum();
        assert!(2 * all >= 20_000, "{all}");
    }
}
