//! What is recorded, by which programs at which places, in order of preference, and what cannot be told without it.
//!
//! Slots before mappings: a mapping whose slot was not seen would look as if it had not bounced.

use std::borrow::Cow;

use bouncescope_capture::facts::Hook;
use bouncescope_capture::names::Subject;

/// One thing to be recorded.
pub(super) struct Recorded {
    /// What is recorded.
    pub(super) subject: Subject,
    /// Tried in order until one attaches.
    pub(super) candidates: &'static [&'static [Place]],
    /// What cannot be told without it.
    pub(super) lost_without: &'static str,
}

/// A program and where it goes.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A raw tracepoint: program, event.
    Event(&'static str, &'static str),
    /// Entry or return of a kernel function, as the program says: program, function.
    Function(&'static str, &'static str),
    /// The same through BTF, fentry or fexit, where there are no kprobes: program, function.
    Traced(&'static str, &'static str),
}

use Place::{Event, Function, Traced};

/// Which places are tried where the same can be seen at several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Places {
    /// All, in their order of preference.
    #[default]
    Best,
    /// Functions through kprobes only, as on a kernel without the events: for tests.
    Kprobes,
    /// Functions through fentry and fexit only, as on a kernel without kprobes: for tests.
    Fentry,
}

/// Copies between buffers and the pool before 5.13, in both directions.
const POOL_SYNC: &str = "swiotlb_tbl_sync_single";
/// Where coherent memory comes out of a restricted pool, and goes back to; only with `CONFIG_DMA_RESTRICTED_POOL`.
const POOL_ALLOC: &str = "swiotlb_alloc";
const POOL_FREE: &str = "swiotlb_free";
/// Maps device registers, by itself until the other does that too (6.18).
pub(super) const MAPS_RESOURCES: &str = "dma_map_resource";
pub(super) const MAPS_ANYTHING: &str = "dma_map_phys";
/// Where buffers are mapped without any event, and unmapped.
const LINKER: &str = "dma_iova_link";
const UNLINKER: &str = "dma_iova_unlink";
/// Calls the unlinker, which the compiler may have made part of it.
const DESTROYER: &str = "dma_iova_destroy";

pub(super) const SUBJECTS: &[Recorded] = &[
    Recorded {
        subject: Subject::SlotMap,
        candidates: &[
            &[
                Function("slot_map_entry", "swiotlb_tbl_map_single"),
                Function("slot_map_return", "swiotlb_tbl_map_single"),
            ],
            &[Traced("slot_map_exit", "swiotlb_tbl_map_single")],
        ],
        lost_without: "which slot a mapping got, and whether the pool was full",
    },
    Recorded {
        subject: Subject::SlotUnmap,
        candidates: &[
            &[
                Function("slot_unmap", "__swiotlb_tbl_unmap_single"),
                Function("pool_return", "__swiotlb_tbl_unmap_single"),
            ],
            &[Function("slot_unmap", "swiotlb_tbl_unmap_single"), Function("pool_return", "swiotlb_tbl_unmap_single")],
            &[Traced("slot_unmap_enter", "__swiotlb_tbl_unmap_single")],
            &[Traced("slot_unmap_enter", "swiotlb_tbl_unmap_single")],
        ],
        lost_without: "when a slot was given back, and how long that took",
    },
    Recorded {
        subject: Subject::CoherentAlloc,
        candidates: &[
            &[Function("coherent_alloc_entry", POOL_ALLOC), Function("coherent_alloc_return", POOL_ALLOC)],
            &[Traced("coherent_alloc_exit", POOL_ALLOC)],
        ],
        lost_without: "coherent memory taken from restricted pools",
    },
    Recorded {
        subject: Subject::CoherentFree,
        candidates: &[&[Function("coherent_free_entry", POOL_FREE)], &[Traced("coherent_free_enter", POOL_FREE)]],
        lost_without: "when coherent memory is given back to restricted pools",
    },
    Recorded {
        subject: Subject::PoolSyncForCpu,
        candidates: &[
            &[
                Function("pool_cpu_entry", "__swiotlb_sync_single_for_cpu"),
                Function("pool_return", "__swiotlb_sync_single_for_cpu"),
            ],
            &[
                Function("pool_cpu_entry", "swiotlb_sync_single_for_cpu"),
                Function("pool_return", "swiotlb_sync_single_for_cpu"),
            ],
            // Before 5.13 one function for both.
            &[Function("pool_sync_entry", POOL_SYNC), Function("pool_return", POOL_SYNC)],
        ],
        lost_without: "how long copies from the pool to buffers took",
    },
    Recorded {
        subject: Subject::PoolSyncForDevice,
        candidates: &[
            &[
                Function("pool_device_entry", "__swiotlb_sync_single_for_device"),
                Function("pool_return", "__swiotlb_sync_single_for_device"),
            ],
            &[
                Function("pool_device_entry", "swiotlb_sync_single_for_device"),
                Function("pool_return", "swiotlb_sync_single_for_device"),
            ],
        ],
        lost_without: "how long copies from buffers to the pool took, other than at the mapping",
    },
    Recorded {
        subject: Subject::MaintainForDevice,
        candidates: &[&[
            Function("maintain_device_entry", "arch_sync_dma_for_device"),
            Function("pool_return", "arch_sync_dma_for_device"),
        ]],
        lost_without: "how long caches were cleaned for devices",
    },
    Recorded {
        subject: Subject::MaintainForCpu,
        candidates: &[&[
            Function("maintain_cpu_entry", "arch_sync_dma_for_cpu"),
            Function("pool_return", "arch_sync_dma_for_cpu"),
        ]],
        lost_without: "how long caches were invalidated for the CPU",
    },
    Recorded {
        subject: Subject::Bounced,
        candidates: &[&[Event("swiotlb_bounced", "swiotlb_bounced")]],
        lost_without: "the kernel's own word on each bounce",
    },
    Recorded {
        subject: Subject::Unmap,
        candidates: &[
            &[Event("dma_unmap", "dma_unmap_phys")],
            &[Event("dma_unmap", "dma_unmap_page")],
            &[Function("unmap_entry", "dma_unmap_phys")],
            &[Function("unmap_entry", "dma_unmap_page_attrs")],
        ],
        lost_without: "how long single mappings live, and so the pool's occupancy",
    },
    Recorded {
        subject: Subject::UnmapSg,
        candidates: &[&[Event("dma_unmap_sg", "dma_unmap_sg")], &[Function("unmap_sg_entry", "dma_unmap_sg_attrs")]],
        lost_without: "how long scatterlists live, and so the pool's occupancy",
    },
    Recorded {
        subject: Subject::Map,
        candidates: &[
            &[Event("dma_map", "dma_map_phys")],
            &[Event("dma_map", "dma_map_page")],
            &[Function("map_phys_entry", "dma_map_phys"), Function("map_return", "dma_map_phys")],
            &[Function("map_page_entry", "dma_map_page_attrs"), Function("map_return", "dma_map_page_attrs")],
        ],
        lost_without: "single mappings",
    },
    Recorded {
        subject: Subject::MapSg,
        candidates: &[
            &[Event("dma_map_sg", "dma_map_sg")],
            &[
                Function("map_sg_entry", "dma_map_sg_attrs"),
                Function("map_sg_return", "dma_map_sg_attrs"),
                Function("map_sgt_entry", "dma_map_sgtable"),
                Function("map_sg_return", "dma_map_sgtable"),
            ],
            // Without `may_goto`, before 6.9.
            &[
                Function("map_sg_entry", "dma_map_sg_attrs"),
                Function("map_sg_return_turns", "dma_map_sg_attrs"),
                Function("map_sgt_entry", "dma_map_sgtable"),
                Function("map_sg_return_turns", "dma_map_sgtable"),
            ],
            // Before 5.15 dma_map_sgtable() is inline and calls the other.
            &[Function("map_sg_entry", "dma_map_sg_attrs"), Function("map_sg_return_turns", "dma_map_sg_attrs")],
        ],
        lost_without: "scatterlists",
    },
    Recorded {
        subject: Subject::MapSgRefused,
        candidates: &[
            &[Function("map_sg_entry", "dma_map_sg_attrs"), Function("map_sg_refused", "dma_map_sg_attrs")],
            &[Traced("map_sg_exit", "dma_map_sg_attrs")],
        ],
        lost_without: "scatterlists that could not be mapped (dma_map_sg)",
    },
    Recorded {
        subject: Subject::MapSgtableRefused,
        candidates: &[
            &[Function("map_sgt_entry", "dma_map_sgtable"), Function("map_sg_refused", "dma_map_sgtable")],
            &[Traced("map_sgt_exit", "dma_map_sgtable")],
        ],
        lost_without: "scatterlists that could not be mapped (dma_map_sgtable)",
    },
    Recorded {
        subject: Subject::UnmapResource,
        candidates: &[
            &[Event("dma_unmap_resource", "dma_unmap_resource")],
            &[Function("unmap_resource_entry", "dma_unmap_resource")],
        ],
        lost_without: "how long device registers are mapped",
    },
    Recorded {
        subject: Subject::MapResource,
        candidates: &[
            &[Event("dma_map_resource", MAPS_RESOURCES)],
            &[Function("map_resource_entry", MAPS_RESOURCES), Function("map_resource_return", MAPS_RESOURCES)],
        ],
        lost_without: "device registers mapped for DMA (dma_map_resource)",
    },
    Recorded {
        subject: Subject::IovaUnlink,
        candidates: &[
            &[Function("iova_unlink_entry", UNLINKER), Function("iova_destroy_entry", DESTROYER)],
            &[Traced("iova_unlink_enter", UNLINKER), Traced("iova_destroy_enter", DESTROYER)],
        ],
        lost_without: "how long buffers of dma_iova_link() are mapped, and so the pool's occupancy",
    },
    Recorded {
        subject: Subject::IovaLink,
        candidates: &[
            &[Function("iova_link_entry", LINKER), Function("iova_link_return", LINKER)],
            &[Traced("iova_link_exit", LINKER)],
        ],
        lost_without: "buffers mapped by dma_iova_link(), which makes no events",
    },
    Recorded {
        subject: Subject::Sync,
        candidates: &[
            &[Event("sync_for_cpu", "dma_sync_single_for_cpu"), Event("sync_for_device", "dma_sync_single_for_device")],
            &[
                Function("sync_for_cpu_entry", "__dma_sync_single_for_cpu"),
                Function("sync_for_device_entry", "__dma_sync_single_for_device"),
            ],
            &[
                Function("sync_for_cpu_entry", "dma_sync_single_for_cpu"),
                Function("sync_for_device_entry", "dma_sync_single_for_device"),
            ],
        ],
        lost_without: "single mappings handed over while mapped",
    },
    Recorded {
        subject: Subject::SyncSg,
        candidates: &[
            &[Event("sync_sg_for_cpu", "dma_sync_sg_for_cpu"), Event("sync_sg_for_device", "dma_sync_sg_for_device")],
            &[
                Function("sync_sg_for_cpu_entry", "__dma_sync_sg_for_cpu"),
                Function("sync_sg_for_device_entry", "__dma_sync_sg_for_device"),
            ],
            &[
                Function("sync_sg_for_cpu_entry", "dma_sync_sg_for_cpu"),
                Function("sync_sg_for_device_entry", "dma_sync_sg_for_device"),
            ],
        ],
        lost_without: "scatterlists handed over while mapped",
    },
    Recorded {
        subject: Subject::Kmalloc,
        // Before 6.1 allocations on a given node have an event of their own, which begins alike.
        candidates: &[&[Event("kmalloc", "kmalloc"), Event("kmalloc", "kmalloc_node")], &[Event("kmalloc", "kmalloc")]],
        lost_without: "allocations",
    },
    Recorded {
        subject: Subject::Kfree,
        candidates: &[&[Event("kfree", "kfree")]],
        lost_without: "how long allocations live",
    },
    Recorded {
        subject: Subject::KfreeBulk,
        candidates: &[
            &[Function("free_bulk", "kmem_cache_free_bulk")],
            // Without `may_goto`, before 6.9.
            &[Function("free_bulk_turns", "kmem_cache_free_bulk")],
            &[Traced("free_bulk_enter", "kmem_cache_free_bulk")],
        ],
        lost_without: "objects freed by kfree_bulk() and most kfree_rcu(), which make no event: they seem live",
    },
];

/// How the description of a function's entry or return begins.
pub(super) const FUNCTION: &str = "kprobe ";

impl Recorded {
    /// In their order, less those that are not to be used where others of the subject are.
    pub(super) fn candidates(&self, places: Places) -> impl Iterator<Item = &'static &'static [Place]> + use<> {
        let wanted: fn(&Place) -> bool = match places {
            Places::Best => |_| true,
            Places::Kprobes => |place| matches!(place, Function(..)),
            Places::Fentry => |place| matches!(place, Traced(..)),
        };
        let only = self.candidates.iter().any(|places| places.iter().all(wanted));
        self.candidates.iter().filter(move |places| !only || places.iter().all(wanted))
    }
}

/// Whether a hook sees syncs in both directions.
pub(super) fn sees_both_syncs(hook: &Hook) -> bool {
    hook.subject == Subject::PoolSyncForCpu && hook.attached && hook.place.ends_with(POOL_SYNC)
}

impl Place {
    pub(super) fn describe(&self) -> String {
        match self {
            Event(_, event) => format!("raw_tp {event}"),
            Function(_, function) => format!("{FUNCTION}{function}"),
            Traced(_, function) => format!("fentry {function}"),
        }
    }

    /// What the kernel has in its symbol table where this can be attached: of an event, since 5.10, the function that calls
    /// everything attached to it (`include/linux/tracepoint.h`).
    pub(super) fn symbol(&self) -> Cow<'static, str> {
        match self {
            Event(_, event) => format!("__traceiter_{event}").into(),
            Function(_, function) | Traced(_, function) => (*function).into(),
        }
    }

    pub(super) fn program(&self) -> &'static str {
        match self {
            Event(program, _) | Function(program, _) | Traced(program, _) => program,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::names::Program;

    #[test]
    fn every_program_and_subject_has_a_name_that_captures_know() {
        for recorded in SUBJECTS {
            assert!(Subject::ALL.contains(&recorded.subject), "{}", recorded.subject);
            for place in recorded.candidates.iter().copied().flatten() {
                assert!(Program::ALL.contains(&place.program().into()), "{}", place.program());
            }
        }
    }
}
