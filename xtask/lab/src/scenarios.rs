//! Every scenario of recordings.

use crate::{
    board,
    scenario::{Expect, On, Recorder, Recording, Scenario},
};

const MIXED: Expect =
    Expect { mappings: 2500, every_length: true, bounces: true, peak_slots: 1, refused: 0, links: 0, raced_percent: 0 };
const SILENT: Expect = Expect { bounces: false, peak_slots: 0, ..MIXED };
const HELD: Expect = Expect {
    mappings: 100,
    every_length: false,
    bounces: true,
    peak_slots: 100,
    refused: 0,
    links: 0,
    raced_percent: 0,
};

/// What a board's drivers do when they find their devices.
const DRIVERS: Expect =
    Expect { mappings: 100, every_length: false, bounces: true, peak_slots: 1, refused: 0, links: 0, raced_percent: 0 };

/// What a scenario is unless it says otherwise.
pub(super) const DIRECT: Scenario = Scenario {
    name: "direct",
    smmu: false,
    coherent: false,
    untrusted: false,
    pool: "",
    parameters: "",
    restricted_pools: 0,
    on: On::All,
    lines: 64,
    recorder: Recorder::Usual,
    counts_instructions: false,
    is_long: false,
    board: None,
    cpus: 2,
    tablets: 1,
    btf: true,
    recordings: &[],
};

const fn mixed(expect: Expect) -> Recording {
    Recording { name: "mixed", workload: "mixed", recorder: None, expect }
}

const fn hold(name: &'static str, workload: &'static str, expect: Expect) -> Recording {
    Recording { name, workload, recorder: None, expect }
}

/// 4 CPUs, each with an area of the pool: a search goes through all of them. With 4 tablets, of 300 requests each at most. One thread
/// emulates all CPUs in turn, in the machine's own time: with a thread each, the host would stall one while others go on, and its searches
/// and releases would seem to take milliseconds.
const RACE: Scenario = Scenario {
    name: "race",
    pool: "512",
    recorder: Recorder::Undisturbed,
    on: On::DefaultOrRealTime,
    counts_instructions: true,
    cpus: 4,
    tablets: 4,
    recordings: &[Recording {
        name: "race",
        workload: "race 1200",
        recorder: None,
        expect: Expect { mappings: 1500, peak_slots: 500, refused: 200, raced_percent: 2, ..HELD },
    }],
    ..DIRECT
};

const HOLD_100: Recording = hold("hold-100", "hold 100", HELD);
/// Must come last: what it holds stays mapped.
const LEAK: Recording = hold("leak", "leak 24", Expect { mappings: 48, peak_slots: 24, ..HELD });
/// Drivers are taken off and put back in the last: their coherent memory comes from the pool too.
const RESTRICTED: &[Recording] = &[
    hold("usb-control", "usb-control", Expect { mappings: 1000, peak_slots: 0, ..MIXED }),
    hold("hold-100", "hold 100", Expect { peak_slots: 0, ..HELD }),
    // Nobody knows where the older coherent memory lies, nor so whether a long buffer finds room beside it.
    mixed(Expect { peak_slots: 0, raced_percent: 5, ..MIXED }),
];
const HOLD_300: Recording = hold("hold-300", "hold 300", Expect { mappings: 300, peak_slots: 300, ..HELD });

/// Lists of mixed lengths.
const LISTS: Recording = Recording {
    name: "lists",
    workload: "lists 900",
    recorder: None,
    expect: Expect {
        mappings: 1300,
        every_length: false,
        bounces: true,
        peak_slots: 1,
        refused: 0,
        links: 0,
        raced_percent: 0,
    },
};

/// Pairs of buffers in one cache line, mapped at once: each of 11 pairs so many times, one of them in a list.
const OVERLAPS: Recording = Recording {
    name: "overlaps",
    workload: "overlaps 50",
    recorder: None,
    expect: Expect { mappings: 1100, ..DRIVERS },
};

/// Buffers that begin and end anywhere: their ends bounce where they are short, or the device is untrusted.
const LINKS: Recording = Recording {
    name: "links",
    workload: "links 300",
    recorder: None,
    expect: Expect {
        // Those that are linked make no events that a kernel could count.
        mappings: 0,
        every_length: false,
        bounces: true,
        peak_slots: 2,
        refused: 0,
        links: 500,
        raced_percent: 0,
    },
};

/// Every scenario, in the order in which they run.
pub(crate) const ALL: [Scenario; 38] = [
    Scenario { recordings: &[mixed(MIXED), HOLD_100, HOLD_300, LEAK], ..DIRECT },
    // A bounce behind the SMMU takes a whole granule, 2 slots: 300 do not fit into the default pool of 512.
    Scenario {
        name: "smmu",
        smmu: true,
        on: On::Debian,
        recordings: &[
            mixed(MIXED),
            LINKS,
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
    Scenario { name: "lists-smmu", smmu: true, on: On::Default, recordings: &[LISTS], ..DIRECT },
    Scenario { name: "lists", on: On::Default, recordings: &[LISTS], ..DIRECT },
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
        recordings: &[mixed(Expect { peak_slots: 2, links: 300, ..MIXED }), LINKS],
        ..DIRECT
    },
    // The end of a longer buffer may be as short as what bounces for its length.
    Scenario {
        name: "untrusted-incoherent",
        smmu: true,
        untrusted: true,
        pool: "16384",
        on: On::Default,
        recordings: &[LINKS],
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
    // On kernels for real time nearly everything can be preempted, and there are more tasks to preempt it by.
    Scenario { name: "four-cpus", cpus: 4, on: On::RealTime, recordings: &[mixed(MIXED), HOLD_300], ..DIRECT },
    Scenario {
        name: "force-four-cpus",
        cpus: 4,
        pool: "16384,force",
        on: On::RealTime,
        recordings: &[mixed(MIXED)],
        ..DIRECT
    },
    Scenario { name: "overlaps", on: On::Default, recordings: &[OVERLAPS], ..DIRECT },
    // Where nothing bounces they really lie in one line.
    Scenario {
        name: "overlaps-noforce",
        pool: "noforce",
        on: On::Default,
        recordings: &[Recording {
            expect: Expect { mappings: 1100, bounces: false, peak_slots: 0, ..DRIVERS },
            ..OVERLAPS
        }],
        ..DIRECT
    },
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
        restricted_pools: 1,
        recorder: Recorder::Undisturbed,
        on: On::Built,
        recordings: RESTRICTED,
        ..DIRECT
    },
    Scenario {
        name: "restricted-two",
        restricted_pools: 2,
        recorder: Recorder::Undisturbed,
        on: On::Built,
        recordings: RESTRICTED,
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
        on: On::Version(7, 3),
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
    // A burst out of quiet fills the default pool of 512 slots.
    Scenario {
        name: "flight",
        recorder: Recorder::Flight,
        on: On::Default,
        recordings: &[hold("burst", "burst 600", Expect { mappings: 512, peak_slots: 512, refused: 88, ..HELD })],
        ..DIRECT
    },
    // The same in ten minutes of quiet.
    Scenario {
        name: "flight-long",
        recorder: Recorder::Flight,
        is_long: true,
        on: On::Series("6.12"),
        recordings: &[hold(
            "long-burst",
            "long-burst 600",
            Expect { mappings: 512, peak_slots: 512, refused: 88, ..HELD },
        )],
        ..DIRECT
    },
    RACE,
    Scenario { name: "race-smmu", smmu: true, on: On::Default, ..RACE },
    // Drivers find their devices while it is recorded already.
    Scenario { name: "from-boot", recorder: Recorder::FromBoot, on: On::Debian, recordings: &[mixed(MIXED)], ..DIRECT },
    // Drivers have found their devices before, and the kernel has traced it.
    Scenario {
        name: "boot-trace",
        recorder: Recorder::WithBootTrace,
        on: On::Default,
        recordings: &[mixed(MIXED)],
        ..DIRECT
    },
    Scenario {
        name: "failing-at-boot",
        recorder: Recorder::FailingAtBoot,
        on: On::Series("6.12"),
        recordings: &[hold("refused", "usb-rescan 1", Expect { mappings: 0, ..SILENT })],
        ..DIRECT
    },
    // CPUs are turned off and on meanwhile.
    Scenario { name: "hotplug", on: On::Series("6.12"), recordings: &[hold("hotplug", "hotplug", MIXED)], ..DIRECT },
];

/// Not to be judged but to be measured: two recorders of the same workload, and the kernel's word on their programs.
pub(crate) const LIVE_DMA: Scenario = Scenario {
    name: "live-dma",
    counts_instructions: true,
    recordings: &[hold("programs", "programs", MIXED)],
    ..DIRECT
};

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
        let force = ALL.iter().find(|scenario| scenario.name == "force").unwrap();
        assert_eq!(DIRECT.parameters((6, 12)), "");
        assert_eq!(DIRECT.parameters((7, 3)), "swiotlb=track_hiwater");
        assert_eq!(force.parameters((6, 12)), "swiotlb=16384,force");
        assert_eq!(force.parameters((7, 3)), "swiotlb=16384,force,track_hiwater");
    }

    #[test]
    fn what_takes_long_or_shows_less_is_left_to_the_matrix_and_nothing_else_is() {
        let left: Vec<_> = ALL.iter().filter(|one| one.is_matrix_only()).map(|one| one.name).collect();
        assert_eq!(
            left,
            ["lists", "untrusted-incoherent", "raspi3b", "imx8mp-evk", "flight-long", "from-boot", "boot-trace"]
        );
    }

    #[test]
    fn the_product_is_init_where_it_records_from_boot() {
        let parameters =
            |name: &str, version| ALL.iter().find(|scenario| scenario.name == name).unwrap().parameters(version);
        let from_boot = parameters("from-boot", (6, 1));
        assert!(from_boot.starts_with("rdinit=/bin/bouncescope ") && !from_boot.contains("trace_event"), "{from_boot}");
        assert!(parameters("from-boot", (6, 12)).ends_with(" trace_event=dma:* trace_clock=mono trace_buf_size=8M"));
        assert!(parameters("from-boot", (7, 3)).starts_with("swiotlb=track_hiwater rdinit="));
        assert!(parameters("failing-at-boot", (6, 12)).ends_with("--no-such-option"));
    }

    #[test]
    fn doctor_runs_at_the_end_of_one_scenario_and_not_without_the_product() {
        let with = ALL.iter().filter(|scenario| scenario.script(false).ends_with("\ndoctor doctor --seconds 8\n"));
        assert_eq!(with.map(|scenario| scenario.name).collect::<Vec<_>>(), ["direct"]);
        assert!(ALL.iter().all(|scenario| !scenario.script(true).contains("doctor")));
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
        let all: u64 = ALL
            .iter()
            .filter(|scenario| scenario.on != On::Built)
            .flat_map(|scenario| scenario.recordings)
            .map(|one| one.expect.mappings)
            .sum();
        assert!(2 * all >= 20_000, "{all}");
    }
}
