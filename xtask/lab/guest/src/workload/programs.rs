//! What the kernel says of each BPF program that is loaded, once other work is done: `program.full.NAME` of the recorder that was begun
//! first, `program.default.NAME` of the one that it started.

use std::collections::BTreeMap;

use aya::{
    programs::{ProgramInfo, loaded_programs},
    sys::{Stats, enable_stats},
};

use super::fact;

/// The kernel counts runs and their time while the work is done.
pub(super) fn after(work: fn() -> Result<(), String>) -> Result<(), String> {
    let counting = enable_stats(Stats::RunTime).map_err(|error| format!("the kernel does not count runs: {error}"))?;
    work()?;
    let programs: Result<Vec<_>, _> = loaded_programs().collect();
    let mut programs = programs.map_err(|error| format!("cannot list the programs: {error}"))?;
    drop(counting);
    // Numbers are given in the order of loading.
    programs.sort_by_key(ProgramInfo::id);
    let mut loaded_before: BTreeMap<String, usize> = BTreeMap::new();
    for program in &programs {
        let name = program.name_as_str().unwrap_or_default().to_owned();
        let nth = loaded_before.entry(name.clone()).or_default();
        let recorder = ["full", "default"].get(*nth).ok_or_else(|| format!("{name} is loaded more than twice"))?;
        *nth += 1;
        let [verified, translated] =
            [program.verified_instruction_count(), program.size_translated()].map(Option::unwrap_or_default);
        let (jitted, runs, ns) = (program.size_jitted(), program.run_count(), program.run_time().as_nanos());
        fact(&format!("program.{recorder}.{name}"), format!("{verified} {translated} {jitted} {runs} {ns}"));
    }
    Ok(())
}
