//! CPUs that go and come back while other work is done. What a program counts on a CPU that is off must still be read.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::fact;
use crate::sysfs;

/// How long a CPU is off, and how long all are on.
const EACH: Duration = Duration::from_millis(100);
/// Fewer would not have been what this is for.
const AT_LEAST: u64 = 4;

/// Turns one CPU after the other off and on, until the work is done.
pub(super) fn during(work: fn() -> Result<(), String>) -> Result<(), String> {
    let over = AtomicBool::new(false);
    let (worked, turned) = thread::scope(|scope| {
        let turning = scope.spawn(|| turn(&over));
        let worked = work();
        over.store(true, Ordering::Relaxed);
        (worked, turning.join().map_err(|_| "the thread that turns CPUs off panicked".to_owned()))
    });
    worked?;
    let times = turned??;
    fact("hotplugs", times);
    if times < AT_LEAST {
        return Err(format!("CPUs were turned off {times} times only"));
    }
    Ok(())
}

/// How often. All are on afterwards.
fn turn(over: &AtomicBool) -> Result<u64, String> {
    let cpus: Vec<PathBuf> = sysfs::entries("/sys/devices/system/cpu")
        .into_iter()
        .map(|cpu| cpu.join("online"))
        .filter(|online| online.is_file())
        .collect();
    let mut times = 0;
    for online in cpus.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        if switch(online, "0")? {
            while !switch(online, "1")? {}
            times += 1;
        }
    }
    Ok(times)
}

/// Whether the kernel did so; it is busy while it lets no CPU come or go (`cpu_hotplug_disable()`, `kernel/cpu.c`).
fn switch(online: &Path, state: &str) -> Result<bool, String> {
    let switched = match fs::write(online, state) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => false,
        written => {
            written.map(|()| true).map_err(|error| format!("cannot write {state} to {}: {error}", online.display()))?
        }
    };
    thread::sleep(EACH);
    Ok(switched)
}
