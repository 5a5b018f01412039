//! Attaching the programs, each by itself, with a verdict for each of the [`subjects`].

use std::io;

use aya::{
    Ebpf,
    programs::{
        FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, fentry::FEntryLink, fexit::FExitLink,
        kprobe::KProbeLink, raw_trace_point::RawTracePointLink,
    },
};

mod functions;
mod subjects;

pub(super) use self::functions::Functions;
pub use self::subjects::Places;
use self::subjects::{
    FUNCTION, MAPS_ANYTHING, MAPS_RESOURCES, Place,
    Place::{Event, Function, Traced},
    Recorded, SUBJECTS, sees_both_syncs,
};
use crate::kernel::symbols::Symbols;
use bouncescope_capture::facts::Hook;
use bouncescope_capture::names::Subject;

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

/// What is recorded only where it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Objects are sent, and so how long they live matters.
    pub(super) objects: bool,
    /// Cache maintenance is timed.
    pub(super) maintenance: bool,
    /// Some devices have restricted pools, as far as the kernel shows them.
    pub(super) restricted_pools: bool,
}

/// Loads the programs that are going to be attached beforehand, so that attaching takes no time in between. The
/// symbols say for which of them this kernel has a place; what is not known, or cannot be loaded, is tried and says so when it is
/// attached. The verifier takes its time over each program (a second or more for those that walk scatterlists, on small cores),
/// so that it is not asked about those of other kernels.
pub(super) fn load_ahead(
    ebpf: &mut Ebpf,
    preferred: Places,
    symbols: Option<&Symbols>,
    functions: &Functions,
    asked: Asked,
) {
    let places = || SUBJECTS.iter().flat_map(|subject| subject.candidates.iter().copied().flatten());
    let names: Vec<_> = places().map(Place::symbol).collect();
    let existing = symbols.map(|symbols| symbols.existing(names.iter().map(AsRef::as_ref)));
    let exists = |place: &Place| {
        (functions.has_kprobes || !matches!(place, Function(..)))
            && existing.as_ref().is_none_or(|existing| existing.contains(place.symbol().as_ref()))
    };
    let mut lists_by_function = false;
    for subject in SUBJECTS.iter().filter(|subject| is_wanted(subject, symbols, asked)) {
        if matches!(subject.subject, Subject::MapSgRefused | Subject::MapSgtableRefused) && lists_by_function {
            continue;
        }
        for places in subject.candidates(preferred).filter(|places| places.iter().all(exists)) {
            // Another candidate may do without what this kernel's verifier refuses.
            if places.iter().all(|place| loaded_ahead(ebpf, place.program())) {
                lists_by_function |=
                    subject.subject == Subject::MapSg && places.iter().all(|place| matches!(place, Function(..)));
                break;
            }
        }
    }
}

/// Loads the programs on the events of objects, so that what the verifier has against them shows before anything else depends on them.
pub(super) fn load_objects(ebpf: &mut Ebpf) -> Result<(), String> {
    for name in ["kmalloc", "kfree"] {
        if let Some(Program::RawTracePoint(program)) = ebpf.program_mut(name) {
            loaded(program.load()).map_err(|error| format!("{name}: {}", explain(&error)))?;
        }
    }
    Ok(())
}

/// Whether a program could be loaded.
fn loaded_ahead(ebpf: &mut Ebpf, program: &str) -> bool {
    match ebpf.program_mut(program) {
        Some(Program::RawTracePoint(program)) => loaded(program.load()).is_ok(),
        Some(Program::KProbe(program)) => loaded(program.load()).is_ok(),
        // Those of BTF are loaded for the function that they are attached to.
        _ => true,
    }
}

/// Attaches everything that this kernel lets attach: the links in the order of attaching, and one verdict for each
/// subject. What is not `asked` for is left alone.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    preferred: Places,
    symbols: Option<&Symbols>,
    functions: &Functions,
    asked: Asked,
) -> (Vec<Link>, Vec<Hook>) {
    let (mut links, mut hooks) = (Vec::new(), Vec::<Hook>::new());
    for subject in SUBJECTS.iter().filter(|subject| is_wanted(subject, symbols, asked)) {
        let hook =
            seen_by_another(subject, &hooks).unwrap_or_else(|| attach(ebpf, subject, preferred, functions, &mut links));
        hooks.push(hook);
    }
    (links, hooks)
}

/// Whether there is anything to be seen, and it is asked for.
fn is_wanted(subject: &Recorded, symbols: Option<&Symbols>, asked: Asked) -> bool {
    match subject.subject {
        // A kernel without the function has nothing to lose.
        Subject::IovaLink | Subject::IovaUnlink => {
            let places = subject.candidates.iter().copied().flatten();
            symbols.is_none_or(|symbols| places.into_iter().all(|place| symbols.exists(&place.symbol())))
        }
        // Nor has a machine without such pools, unless it has them and the functions are part of others.
        Subject::CoherentAlloc | Subject::CoherentFree => {
            let places = subject.candidates.iter().copied().flatten();
            asked.restricted_pools
                || symbols.is_none_or(|symbols| places.into_iter().all(|place| symbols.exists(&place.symbol())))
        }
        // Where one function calls the other, it would be seen twice.
        Subject::MapResource | Subject::UnmapResource => {
            symbols.is_some_and(|symbols| symbols.exists(MAPS_RESOURCES) && !symbols.exists(MAPS_ANYTHING))
        }
        Subject::Kfree | Subject::KfreeBulk => asked.objects,
        Subject::MaintainForDevice | Subject::MaintainForCpu => asked.maintenance,
        _ => true,
    }
}

/// Whether a hook sees every mapping, by the functions that make them.
pub(super) fn sees_mappings_by_function(hook: &Hook) -> bool {
    [Subject::Map, Subject::MapSg].contains(&hook.subject) && hook.attached && hook.place.starts_with(FUNCTION)
}

/// Whether what a hook sees is what happens to objects.
pub(super) fn sends_objects(hook: &Hook) -> bool {
    [Subject::Kmalloc, Subject::Kfree, Subject::KfreeBulk].contains(&hook.subject)
}

/// Refused lists need no hook of their own where every list is recorded when its function returns, nor copies to the pool where
/// one function does those from it too.
fn seen_by_another(subject: &Recorded, hooks: &[Hook]) -> Option<Hook> {
    let sees = |hook: &&Hook| match subject.subject {
        Subject::MapSgRefused | Subject::MapSgtableRefused => {
            hook.subject == Subject::MapSg && sees_mappings_by_function(hook)
        }
        Subject::PoolSyncForDevice => sees_both_syncs(hook),
        _ => false,
    };
    hooks.iter().find(sees).map(|seen| Hook {
        subject: subject.subject.clone(),
        place: seen.place.clone(),
        programs: seen.programs.clone(),
        attached: true,
        lost_without: subject.lost_without.to_owned(),
        ..Hook::default()
    })
}

/// Why a place cannot be attached to that is not there.
const MISSING: &str = "this kernel does not have it";

fn attach(
    ebpf: &mut Ebpf,
    subject: &Recorded,
    preferred: Places,
    functions: &Functions,
    links: &mut Vec<Link>,
) -> Hook {
    let mut why_not = Vec::new();
    let mut hook =
        Hook { subject: subject.subject.clone(), lost_without: subject.lost_without.to_owned(), ..Hook::default() };
    let mut missing: Option<Vec<String>> = None;
    for places in subject.candidates(preferred) {
        // Other programs for what this kernel does not have are of no use either.
        let here: Vec<_> = places.iter().map(Place::describe).collect();
        if missing.as_ref() == Some(&here) {
            continue;
        }
        match places.iter().map(|place| place.attach(ebpf, functions)).collect::<Result<Vec<_>, _>>() {
            Ok(attached) => {
                links.extend(attached);
                hook.attached = true;
                hook.place = places.last().map(Place::describe).unwrap_or_default();
                hook.programs = places.iter().map(|place| place.program().to_owned()).collect();
                return hook;
            }
            Err(reason) => {
                missing = reason.ends_with(MISSING).then_some(here);
                why_not.push(reason);
            }
        }
    }
    hook.place = subject.candidates[0].last().map(Place::describe).unwrap_or_default();
    hook.why_not = why_not.join("; ");
    hook
}

impl Place {
    fn attach(self, ebpf: &mut Ebpf, functions: &Functions) -> Result<Link, String> {
        match self {
            Event(program, event) => attach_event(ebpf, program, event),
            Function(program, function) if functions.has_kprobes => attach_function(ebpf, program, function),
            Function(..) => Err(io::Error::from_raw_os_error(libc::ENOENT).into()),
            Traced(program, function) => attach_traced(ebpf, program, function, functions),
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

fn attach_traced(ebpf: &mut Ebpf, program: &str, function: &str, functions: &Functions) -> Result<Link, ProgramError> {
    let btf = functions.btf()?;
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
        return MISSING.to_owned();
    }
    innermost.to_string()
}
