//! Every scenario of recordings.

use super::{Expect, On, Recorder, Recording, Scenario};
use crate::lab::board;

const MIXED: Expect =
    Expect { mappings: 2500, every_length: true, bounces: true, peak_slots: 1, refused: 0, without_event: false };
const SILENT: Expect = Expect { bounces: false, peak_slots: 0, ..MIXED };
const HELD: Expect =
    Expect { mappings: 100, every_length: false, bounces: true, peak_slots: 100, refused: 0, without_event: false };

/// What a board's drivers do when they find their devices.
const DRIVERS: Expect =
    Expect { mappings: 100, every_length: false, bounces: true, peak_slots: 1, refused: 0, without_event: false };

/// What a scenario is unless it says otherwise.
pub(super) const DIRECT: Scenario = Scenario {
    name: "direct",
    smmu: false,
    coherent: false,
    untrusted: false,
    pool: "",
    restricted_pool: false,
    on: On::All,
    lines: 64,
    recorder: Recorder::Usual,
    counts_instructions: false,
    board: None,
    btf: true,
    recordings: &[],
};

const fn mixed(expect: Expect) -> Recording {
    Recording { name: "mixed", workload: "mixed", expect }
}

const fn hold(name: &'static str, workload: &'static str, expect: Expect) -> Recording {
    Recording { name, workload, expect }
}

const HOLD_100: Recording = hold("hold-100", "hold 100", HELD);
const HOLD_300: Recording = hold("hold-300", "hold 300", Expect { mappings: 300, peak_slots: 300, ..HELD });

/// Every scenario, in the order in which they run.
pub(in crate::lab) const ALL: [Scenario; 23] = [
    Scenario { recordings: &[mixed(MIXED), HOLD_100, HOLD_300], ..DIRECT },
    // A bounce behind the SMMU takes a whole granule, 2 slots: 300 do not fit into the default pool of 512.
    Scenario {
        name: "smmu",
        smmu: true,
        on: On::Debian,
        recordings: &[
            mixed(MIXED),
            hold("hold-100", "hold 100", Expect { peak_slots: 200, ..HELD }),
            hold("hold-300", "hold 300", Expect { mappings: 256, peak_slots: 500, refused: 44, ..HELD }),
        ],
        ..DIRECT
    },
    // A granule is a page: 8 slots.
    Scenario {
        name: "smmu-16k",
        smmu: true,
        on: On::Pages16K,
        recordings: &[
            mixed(MIXED),
            hold("hold-50", "hold 50", Expect { mappings: 50, peak_slots: 400, ..HELD }),
            hold("hold-100", "hold 100", Expect { mappings: 64, peak_slots: 500, refused: 36, ..HELD }),
        ],
        ..DIRECT
    },
    Scenario { name: "direct-coherent", coherent: true, recordings: &[mixed(SILENT)], ..DIRECT },
    Scenario { name: "smmu-coherent", smmu: true, coherent: true, recordings: &[mixed(SILENT)], ..DIRECT },
    // Coherent, so that nothing bounces for its length: whatever does not fill its granules does, and lists are taken apart.
    Scenario {
        name: "untrusted",
        smmu: true,
        coherent: true,
        untrusted: true,
        pool: "16384",
        on: On::Default,
        recordings: &[mixed(Expect { peak_slots: 2, without_event: true, ..MIXED })],
        ..DIRECT
    },
    Scenario { name: "direct-128", lines: 128, on: On::Default, recordings: &[mixed(MIXED), HOLD_100], ..DIRECT },
    // From 7.3 on the only CPU in QEMU with such lines, whose caches need no maintenance, makes devices coherent.
    Scenario {
        name: "direct-256",
        lines: 256,
        on: On::Series("6.12"),
        recordings: &[mixed(MIXED), HOLD_100],
        ..DIRECT
    },
    Scenario { name: "force", pool: "16384,force", recordings: &[mixed(MIXED)], ..DIRECT },
    Scenario { name: "noforce", pool: "noforce", recordings: &[mixed(SILENT)], ..DIRECT },
    // 128 is rounded up to one segment for each of two areas: 256 slots.
    Scenario {
        name: "full",
        pool: "128",
        on: On::Debian,
        recordings: &[
            hold("hold-300", "hold 300", Expect { mappings: 256, peak_slots: 256, refused: 44, ..HELD }),
            mixed(MIXED),
        ],
        ..DIRECT
    },
    // The same where the kernel adds pools: nothing is refused.
    Scenario { name: "dynamic", pool: "128", on: On::Built, recordings: &[HOLD_300, mixed(MIXED)], ..DIRECT },
    Scenario {
        name: "dynamic-smmu",
        smmu: true,
        on: On::Built,
        recordings: &[hold("hold-300", "hold 300", Expect { mappings: 300, peak_slots: 600, ..HELD }), mixed(MIXED)],
        ..DIRECT
    },
    // The guest's own counts are of the default pool, which nobody uses here.
    Scenario {
        name: "restricted",
        restricted_pool: true,
        on: On::Built,
        recordings: &[
            // Not what takes drivers off and puts them back: their coherent memory comes from the pool too, unrecorded.
            hold("usb-control", "usb-control", Expect { mappings: 1000, peak_slots: 0, ..MIXED }),
            hold("hold-100", "hold 100", Expect { peak_slots: 0, ..HELD }),
        ],
        ..DIRECT
    },
    Scenario { name: "no-btf", on: On::Built, btf: false, recordings: &[mixed(MIXED), HOLD_100], ..DIRECT },
    // The same as kernels without events of mappings are recorded by, held against the events themselves.
    Scenario {
        name: "kprobes",
        recorder: Recorder::ByKprobes,
        on: On::Debian,
        recordings: &[mixed(MIXED), HOLD_100],
        ..DIRECT
    },
    Scenario {
        name: "fentry",
        recorder: Recorder::ByFentry,
        on: On::Series("7.3"),
        recordings: &[mixed(MIXED), HOLD_100],
        ..DIRECT
    },
    Scenario {
        name: "raspi3b",
        board: Some(&board::RASPI3B),
        on: On::Series("6.12"),
        recordings: &[hold("drivers", "drivers", DRIVERS)],
        ..DIRECT
    },
    Scenario {
        name: "imx8mp-evk",
        board: Some(&board::IMX8MP),
        on: On::Series("6.12"),
        recordings: &[hold("drivers", "drivers", DRIVERS)],
        ..DIRECT
    },
    Scenario {
        name: "losses",
        recorder: Recorder::TooSmall,
        on: On::Series("6.12"),
        recordings: &[hold("long-lists", "long-lists", Expect { mappings: 1, ..SILENT })],
        ..DIRECT
    },
    // Calls are preempted in the middle, which takes a kernel that preempts itself.
    Scenario {
        name: "losing",
        recorder: Recorder::Losing,
        on: On::Series("7.3"),
        recordings: &[hold("losses", "losses", Expect { mappings: 1, ..SILENT })],
        ..DIRECT
    },
    Scenario {
        name: "serve",
        recorder: Recorder::BesideServe,
        on: On::Series("6.12"),
        recordings: &[mixed(MIXED), HOLD_100],
        ..DIRECT
    },
    // CPUs are turned off and on meanwhile.
    Scenario { name: "hotplug", on: On::Series("6.12"), recordings: &[hold("hotplug", "hotplug", MIXED)], ..DIRECT },
];

/// Not to be judged but to be measured: two recorders of the same workload, and the kernel's word on their programs.
pub(in crate::lab) const LIVE_DMA: Scenario = Scenario {
    name: "live-dma",
    counts_instructions: true,
    recordings: &[hold("programs", "programs", MIXED)],
    ..DIRECT
};
