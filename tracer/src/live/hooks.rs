//! Where the programs attach, in which order of preference, and what cannot be told without each.
//!
//! Every program is attached by itself. Slots before mappings: a mapping whose slot was not seen would look as if it
//! had not bounced.

use aya::{
    Btf, Ebpf,
    programs::{
        FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, fentry::FEntryLink, fexit::FExitLink,
        kprobe::KProbeLink, raw_trace_point::RawTracePointLink,
    },
};

use crate::facts::Hook;

/// One thing to be recorded.
struct Subject {
    /// What is recorded.
    name: &'static str,
    /// Tried in order until one attaches.
    candidates: &'static [&'static [Place]],
    /// What cannot be told without it.
    lost_without: &'static str,
}

/// A program and where it goes.
#[derive(Clone, Copy)]
enum Place {
    /// A raw tracepoint: program, event.
    Event(&'static str, &'static str),
    /// Entry or return of a kernel function, as the program says: program, function.
    Function(&'static str, &'static str),
    /// The same through BTF, fentry or fexit, where there are no kprobes: program, function.
    Traced(&'static str, &'static str),
}

use Place::{Event, Function, Traced};

const SUBJECTS: &[Subject] = &[
    Subject {
        name: "slot_map",
        candidates: &[
            &[
                Function("slot_map_entry", "swiotlb_tbl_map_single"),
                Function("slot_map_return", "swiotlb_tbl_map_single"),
            ],
            &[Traced("slot_map_exit", "swiotlb_tbl_map_single")],
        ],
        lost_without: "which slot a mapping got, and whether the pool was full",
    },
    Subject {
        name: "slot_unmap",
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
    Subject {
        name: "pool_sync_for_cpu",
        candidates: &[
            &[
                Function("pool_cpu_entry", "__swiotlb_sync_single_for_cpu"),
                Function("pool_return", "__swiotlb_sync_single_for_cpu"),
            ],
            &[
                Function("pool_cpu_entry", "swiotlb_sync_single_for_cpu"),
                Function("pool_return", "swiotlb_sync_single_for_cpu"),
            ],
        ],
        lost_without: "how long copies from the pool to buffers took",
    },
    Subject {
        name: "pool_sync_for_device",
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
    Subject {
        name: "bounced",
        candidates: &[&[Event("swiotlb_bounced", "swiotlb_bounced")]],
        lost_without: "the kernel's own word on each bounce",
    },
    Subject {
        name: "unmap",
        candidates: &[
            &[Event("dma_unmap", "dma_unmap_phys")],
            &[Event("dma_unmap", "dma_unmap_page")],
            &[Function("unmap_entry", "dma_unmap_phys")],
            &[Function("unmap_entry", "dma_unmap_page_attrs")],
        ],
        lost_without: "how long single mappings live, and so the pool's occupancy",
    },
    Subject {
        name: "unmap_sg",
        candidates: &[&[Event("dma_unmap_sg", "dma_unmap_sg")], &[Function("unmap_sg_entry", "dma_unmap_sg_attrs")]],
        lost_without: "how long scatterlists live, and so the pool's occupancy",
    },
    Subject {
        name: "map",
        candidates: &[
            &[Event("dma_map", "dma_map_phys")],
            &[Event("dma_map", "dma_map_page")],
            &[Function("map_phys_entry", "dma_map_phys"), Function("map_return", "dma_map_phys")],
            &[Function("map_page_entry", "dma_map_page_attrs"), Function("map_return", "dma_map_page_attrs")],
        ],
        lost_without: "single mappings",
    },
    Subject {
        name: "map_sg",
        candidates: &[
            &[Event("dma_map_sg", "dma_map_sg")],
            &[
                Function("map_sg_entry", "dma_map_sg_attrs"),
                Function("map_sg_return", "dma_map_sg_attrs"),
                Function("map_sgt_entry", "dma_map_sgtable"),
                Function("map_sg_return", "dma_map_sgtable"),
            ],
            // Before 5.15 dma_map_sgtable() is inline and calls the other.
            &[Function("map_sg_entry", "dma_map_sg_attrs"), Function("map_sg_return", "dma_map_sg_attrs")],
        ],
        lost_without: "scatterlists",
    },
    Subject {
        name: "map_sg_refused",
        candidates: &[
            &[Function("map_sg_entry", "dma_map_sg_attrs"), Function("map_sg_refused", "dma_map_sg_attrs")],
            &[Traced("map_sg_exit", "dma_map_sg_attrs")],
        ],
        lost_without: "scatterlists that could not be mapped (dma_map_sg)",
    },
    Subject {
        name: "map_sgtable_refused",
        candidates: &[
            &[Function("map_sgt_entry", "dma_map_sgtable"), Function("map_sg_refused", "dma_map_sgtable")],
            &[Traced("map_sgt_exit", "dma_map_sgtable")],
        ],
        lost_without: "scatterlists that could not be mapped (dma_map_sgtable)",
    },
    Subject {
        name: "sync",
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
    Subject {
        name: "sync_sg",
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
    Subject {
        name: "kmalloc",
        // Before 6.1 allocations on a given node have an event of their own, which begins alike.
        candidates: &[&[Event("kmalloc", "kmalloc"), Event("kmalloc", "kmalloc_node")], &[Event("kmalloc", "kmalloc")]],
        lost_without: "allocations",
    },
    Subject { name: "kfree", candidates: &[&[Event("kfree", "kfree")]], lost_without: "how long allocations live" },
];

/// Keeps a program attached until dropped.
pub(super) enum Link {
    /// To a raw tracepoint.
    Event { _link: RawTracePointLink },
    /// To a function.
    Function { _link: KProbeLink },
    /// To a function's beginning, through BTF.
    Enter { _link: FEntryLink },
    /// To a function's end, through BTF.
    Exit { _link: FExitLink },
}

/// Loads every program beforehand, so that attaching takes no time in between. What cannot be loaded says so when it is
/// attached.
pub(super) fn load_all(ebpf: &mut Ebpf) {
    for (_, program) in ebpf.programs_mut() {
        let _ = match program {
            Program::RawTracePoint(program) => program.load(),
            Program::KProbe(program) => program.load(),
            // Those of BTF are loaded for the function that they are attached to.
            _ => Ok(()),
        };
    }
}

/// Attaches everything that this kernel lets attach: the links in the order of attaching, and one verdict for each
/// subject. With `functions_only` an event is no candidate where there is a function for the same.
pub(super) fn attach_all(ebpf: &mut Ebpf, functions_only: bool) -> (Vec<Link>, Vec<Hook>) {
    let (mut links, mut hooks) = (Vec::new(), Vec::<Hook>::new());
    for subject in SUBJECTS {
        let hook = seen_by_another(subject, &hooks)
            .unwrap_or_else(|| attach(ebpf, subject, functions_only && subject.has_functions(), &mut links));
        hooks.push(hook);
    }
    (links, hooks)
}

/// Refused lists need no hook of their own where every list is recorded when its function returns.
fn seen_by_another(subject: &Subject, hooks: &[Hook]) -> Option<Hook> {
    let lists = hooks.iter().find(|hook| hook.subject == "map_sg" && hook.place.starts_with(FUNCTION))?;
    let refused = matches!(subject.name, "map_sg_refused" | "map_sgtable_refused") && lists.attached;
    refused.then(|| Hook {
        subject: subject.name.to_owned(),
        place: lists.place.clone(),
        programs: lists.programs.clone(),
        attached: true,
        lost_without: subject.lost_without.to_owned(),
        ..Hook::default()
    })
}

fn attach(ebpf: &mut Ebpf, subject: &Subject, functions_only: bool, links: &mut Vec<Link>) -> Hook {
    let mut why_not = Vec::new();
    let mut hook =
        Hook { subject: subject.name.to_owned(), lost_without: subject.lost_without.to_owned(), ..Hook::default() };
    for places in subject.candidates {
        if functions_only && places.iter().any(|place| matches!(place, Event(..))) {
            continue;
        }
        match places.iter().map(|place| place.attach(ebpf)).collect::<Result<Vec<_>, _>>() {
            Ok(attached) => {
                links.extend(attached);
                hook.attached = true;
                hook.place = places.last().map(Place::describe).unwrap_or_default();
                hook.programs = places.iter().map(|place| place.program().to_owned()).collect();
                return hook;
            }
            Err(reason) => why_not.push(reason),
        }
    }
    hook.place = subject.candidates[0].last().map(Place::describe).unwrap_or_default();
    hook.why_not = why_not.join("; ");
    hook
}

/// How the description of a function's entry or return begins.
const FUNCTION: &str = "kprobe ";

impl Subject {
    fn has_functions(&self) -> bool {
        self.candidates.iter().any(|places| places.iter().all(|place| matches!(place, Function(..))))
    }
}

impl Place {
    fn describe(&self) -> String {
        match self {
            Event(_, event) => format!("raw_tp {event}"),
            Function(_, function) => format!("{FUNCTION}{function}"),
            Traced(_, function) => format!("fentry {function}"),
        }
    }

    fn program(&self) -> &'static str {
        match self {
            Event(program, _) | Function(program, _) | Traced(program, _) => program,
        }
    }

    fn attach(self, ebpf: &mut Ebpf) -> Result<Link, String> {
        match self {
            Event(program, event) => attach_event(ebpf, program, event),
            Function(program, function) => attach_function(ebpf, program, function),
            Traced(program, function) => attach_traced(ebpf, program, function),
        }
        .map_err(|error| format!("{}: {}", self.describe(), explain(&error)))
    }
}

fn attach_event(ebpf: &mut Ebpf, program: &str, event: &str) -> Result<Link, ProgramError> {
    let program: &mut RawTracePoint = find(ebpf, program)?.try_into()?;
    loaded(program.load())?;
    let id = program.attach(event)?;
    Ok(Link::Event { _link: program.take_link(id)? })
}

fn attach_function(ebpf: &mut Ebpf, program: &str, function: &str) -> Result<Link, ProgramError> {
    let program: &mut KProbe = find(ebpf, program)?.try_into()?;
    loaded(program.load())?;
    let id = program.attach(function, 0)?;
    Ok(Link::Function { _link: program.take_link(id)? })
}

fn attach_traced(ebpf: &mut Ebpf, program: &str, function: &str) -> Result<Link, ProgramError> {
    let btf = Btf::from_sys_fs()?;
    match find(ebpf, program)? {
        Program::FEntry(program) => {
            loaded(FEntry::load(program, function, &btf))?;
            let id = program.attach()?;
            Ok(Link::Enter { _link: program.take_link(id)? })
        }
        Program::FExit(program) => {
            loaded(FExit::load(program, function, &btf))?;
            let id = program.attach()?;
            Ok(Link::Exit { _link: program.take_link(id)? })
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn find<'a>(ebpf: &'a mut Ebpf, program: &str) -> Result<&'a mut Program, ProgramError> {
    ebpf.program_mut(program).ok_or(ProgramError::NotLoaded)
}

/// A program may have been loaded for an earlier candidate that could not be attached.
fn loaded(result: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match result {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

/// The error in one line: the innermost cause is the kernel's own answer.
fn explain(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let last = log.lines().rev().find(|line| !line.starts_with("processed ") && !line.is_empty());
        return format!("the verifier refused the program: {io_error}: {}", last.unwrap_or("no log"));
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if innermost.to_string().contains("os error 2") {
        return "this kernel does not have it".to_owned();
    }
    innermost.to_string()
}
