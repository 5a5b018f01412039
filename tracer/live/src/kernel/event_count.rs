//! How often a trace event fired, counted by the tracing file system itself: a witness that shares nothing with the eBPF
//! programs but the event.
//!
//! An instance of its own keeps the count apart from whatever else is traced. Its ring buffer is small and never read:
//! the buffer's statistics count the events that were overwritten as well (`tracing_stats_read()` in
//! `kernel/trace/trace.c`), so that their sum is exact. A histogram trigger would not write events, but is missing
//! from kernels without `CONFIG_HIST_TRIGGERS`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::events::Tracefs;

/// First part of the names of our instances; behind it the recorder's process id and a number.
const PREFIX: &str = "bouncescope-";
/// Size of each CPU's ring buffer, KiB.
const BUFFER_KIB: &str = "16";

/// Why an event could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum EventCountError {
    /// No such event in this kernel.
    #[error("this kernel has no event {0}")]
    NoEvent(String),
    /// A file of tracefs failed us.
    #[error("{path}: {source}")]
    Tracefs {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The statistics read otherwise than on the kernels known.
    #[error("{path} has no line {line:?}")]
    Statistics {
        /// The file.
        path: PathBuf,
        /// What is missing from it.
        line: &'static str,
    },
}

/// A count that runs from [`EventCount::start`] until it is stopped or dropped.
#[derive(Debug)]
pub struct EventCount {
    instance: PathBuf,
    event: PathBuf,
    removed: bool,
}

impl EventCount {
    /// Starts to count an event, such as `("swiotlb", "swiotlb_bounced")`. Needs root.
    ///
    /// Instances that killed recorders left behind are removed first: each still costs a write per event.
    pub fn start(tracefs: &Tracefs, group: &str, name: &str) -> Result<Self, EventCountError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !tracefs.has_event(group, name) {
            return Err(EventCountError::NoEvent(format!("{group}:{name}")));
        }
        let instances = tracefs.dir().join("instances");
        remove_left_behind(&instances);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let instance = instances.join(format!("{PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir(&instance).map_err(|source| EventCountError::Tracefs { path: instance.clone(), source })?;
        let event = instance.join("events").join(group).join(name).join("enable");
        let count = Self { instance, event, removed: false };
        // Only saves memory: any size gives the same sum.
        let _ = std::fs::write(count.instance.join("buffer_size_kb"), BUFFER_KIB);
        write(&count.event, "1")?;
        Ok(count)
    }

    /// Events so far.
    pub fn hits(&self) -> Result<u64, EventCountError> {
        let cpus = self.instance.join("per_cpu");
        let entries =
            std::fs::read_dir(&cpus).map_err(|source| EventCountError::Tracefs { path: cpus.clone(), source })?;
        entries.flatten().map(|cpu| hits_of_cpu(&cpu.path().join("stats"))).sum()
    }

    /// Ends the count and returns it.
    pub fn stop(mut self) -> Result<u64, EventCountError> {
        write(&self.event, "0")?;
        let hits = self.hits();
        self.remove().map_err(|source| EventCountError::Tracefs { path: self.instance.clone(), source })?;
        hits
    }

    fn remove(&mut self) -> io::Result<()> {
        std::fs::remove_dir(&self.instance)?;
        self.removed = true;
        Ok(())
    }
}

impl Drop for EventCount {
    fn drop(&mut self) {
        if !self.removed {
            let _ = write(&self.event, "0");
            let _ = self.remove();
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), EventCountError> {
    std::fs::write(path, text).map_err(|source| EventCountError::Tracefs { path: path.into(), source })
}

fn hits_of_cpu(stats: &Path) -> Result<u64, EventCountError> {
    let text =
        std::fs::read_to_string(stats).map_err(|source| EventCountError::Tracefs { path: stats.into(), source })?;
    hits_in(&text).map_err(|line| EventCountError::Statistics { path: stats.into(), line })
}

/// Events that one CPU's buffer took in or had to refuse; the line that is missing otherwise.
fn hits_in(stats: &str) -> Result<u64, &'static str> {
    ["entries", "overrun", "commit overrun", "dropped events", "read events"]
        .into_iter()
        .map(|name| {
            let value = stats.lines().find_map(|line| line.split_once(':').filter(|(found, _)| *found == name));
            value.and_then(|(_, number)| number.trim().parse::<u64>().ok()).ok_or(name)
        })
        .sum()
}

/// Removes the instances of recorders that are no more.
fn remove_left_behind(instances: &Path) {
    for entry in std::fs::read_dir(instances).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(owner_of) else { continue };
        if !Path::new("/proc").join(owner.to_string()).exists() {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// The process that an instance of ours belongs to.
fn owner_of(instance: &str) -> Option<u32> {
    instance.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::root::Root;
    use super::super::root::sample::SampleRoot;
    use super::*;

    const STATS: &str = "entries: 12\noverrun: 3000\ncommit overrun: 1\nbytes: 640\noldest event ts:  9.1\nnow ts:  10.2\n\
                         dropped events: 2\nread events: 4\n";

    #[test]
    fn overwritten_refused_and_read_events_count_too() {
        assert_eq!(hits_in(STATS), Ok(3019));
        assert_eq!(hits_in("entries: 12\n"), Err("overrun"));
        assert_eq!(hits_in("entries: many\n"), Err("entries"));
    }

    #[test]
    fn only_our_own_instances_have_an_owner() {
        assert_eq!(owner_of("bouncescope-815-0"), Some(815));
        assert_eq!(owner_of("bouncescope-x-0"), None);
        assert_eq!(owner_of("somebody-815-0"), None);
    }

    #[test]
    fn an_event_that_is_not_there_is_named() {
        let sample = SampleRoot::new(&[("sys/kernel/tracing/events/dma/dma_map_page/format", "")]);
        let tracefs = Tracefs::find(&Root::at(sample.root().path(""))).unwrap();
        let error = EventCount::start(&tracefs, "swiotlb", "swiotlb_bounced").unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no event swiotlb:swiotlb_bounced");
    }
}
