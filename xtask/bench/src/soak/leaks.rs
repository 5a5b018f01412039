//! BPF programs and maps that nobody holds any more and that are there still. The kernel frees them when the last descriptor, link or
//! program that refers to them goes, so that whatever a recorder leaves behind is its mistake.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::{maps::loaded_maps, programs::loaded_programs};

/// The kernel frees after a grace period of RCU, which a busy machine draws out.
const FREED_WITHIN: Duration = Duration::from_secs(10);
/// How often the list of what is loaded is read at the most.
const LISTED_WITHIN: usize = 20;

/// Programs and maps by the kernel's numbers, none of which is given twice while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Objects {
    /// What is loaded.
    fn loaded() -> Result<Self> {
        // One that goes while the list is read is an error: then the list is read anew.
        let list = || -> Result<Self> {
            let programs = loaded_programs().map(|program| Ok(program?.id())).collect::<Result<_>>()?;
            let maps = loaded_maps().map(|map| Ok(map?.id())).collect::<Result<_>>()?;
            Ok(Self { programs, maps })
        };
        (1..LISTED_WITHIN).find_map(|_| list().ok()).map_or_else(list, Ok).context("cannot list what BPF has loaded")
    }

    /// What a process has descriptors of.
    pub(super) fn held_by(pid: u32) -> Self {
        let mut held = Self::default();
        for info in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
            held.read(&fs::read_to_string(info.path()).unwrap_or_default());
        }
        held
    }

    fn read(&mut self, fdinfo: &str) {
        let fields = fdinfo.lines().filter_map(|line| line.split_once(':'));
        for (name, value) in fields {
            let value = || value.trim().parse::<u32>().ok();
            match name {
                "prog_id" => self.programs.extend(value()),
                "map_id" => self.maps.extend(value()),
                _ => {}
            }
        }
    }

    /// What any process holds, or a program that one holds.
    fn held() -> Self {
        let mut held = Self::default();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            held.extend(&Self::held_by(pid));
        }
        for program in loaded_programs().filter_map(Result::ok).filter(|program| held.programs.contains(&program.id()))
        {
            held.maps.extend(program.map_ids().ok().flatten().unwrap_or_default());
        }
        held
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.programs.extend(&other.programs);
        self.maps.extend(&other.maps);
    }

    fn without(&self, other: &Self) -> Self {
        Self { programs: &self.programs - &other.programs, maps: &self.maps - &other.maps }
    }

    fn and(&self, other: &Self) -> Self {
        Self { programs: &self.programs & &other.programs, maps: &self.maps & &other.maps }
    }

    /// Whether there is a program among them.
    pub(super) fn has_programs(&self) -> bool {
        !self.programs.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty()
    }
}

/// What was loaded at the beginning, and is nobody's business.
pub(super) struct Leaks {
    before: Objects,
}

impl Leaks {
    /// From now on.
    pub(super) fn begin() -> Result<Self> {
        Ok(Self { before: Objects::loaded()? })
    }

    /// Waits until nothing is there of what these recorders held, nor anything else that came since and that no process holds. What
    /// is there still, in words; `None` when nothing is.
    pub(super) fn left(&self, recorders: &Objects) -> Result<Option<String>> {
        let deadline = Instant::now() + FREED_WITHIN;
        loop {
            let loaded = Objects::loaded()?;
            let mut left = loaded.without(&self.before).without(&Objects::held());
            left.extend(&loaded.and(recorders));
            if left.is_empty() {
                return Ok(None);
            }
            if Instant::now() > deadline {
                return Ok(Some(format!("left in the kernel: programs {:?}, maps {:?}", left.programs, left.maps)));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_maps_are_told_from_other_descriptors() {
        let mut held = Objects::default();
        for fdinfo in ["pos:\t0\nprog_type:\t17\nprog_id:\t7\n", "map_type:\t27\nmap_id:\t9\n", "pos:\t0\nflags:\t02\n"]
        {
            held.read(fdinfo);
        }
        assert_eq!(held, Objects { programs: [7].into(), maps: [9].into() });
    }
}
