//! `race STEPS`: four threads at the edge of a full pool, each on a CPU and a tablet of its own. Every step either submits an
//! interrupt-IN request of 1 to 32 bytes, which is mapped until it is cancelled, or cancels the last one. Together they ask for
//! more slots than the pool has, so that searches and releases overlap on all CPUs.

use std::{collections::BTreeMap, sync::Barrier, thread, time::Duration};

use super::{fact, random::Random};
use crate::{
    sysfs,
    usbfs::{self, Device, Handle, Urb},
};

const THREADS: usize = 4;
/// Requests that one thread holds at once.
const MOST_HELD: usize = 300;
/// Every length bounces, whatever the line size.
const LONGEST: usize = 32;
/// Of so many steps, this many submit: the pool fills up, and stays full.
const SUBMITS: (u64, u64) = (5, 8);
/// Between two steps a thread sleeps for up to this: the others then meet it at any place of a step.
const LONGEST_PAUSE: Duration = Duration::from_micros(750);
/// The tablets' interrupt-IN endpoint.
const ENDPOINT: u8 = 0x81;

/// Refusals by errno.
type Refused = BTreeMap<i32, u64>;

pub(super) fn run(steps: u64) -> Result<(), String> {
    let tablets = sysfs::wait_for("four USB tablets", Duration::from_mins(1), || {
        let mut devices = usbfs::devices();
        devices.retain(|device| device.product.contains("Tablet"));
        (devices.len() >= THREADS).then_some(devices)
    })?;
    let begin = Barrier::new(THREADS);
    let walked = thread::scope(|scope| {
        let threads: Vec<_> = tablets[..THREADS]
            .iter()
            .enumerate()
            .map(|(cpu, tablet)| {
                let begin = &begin;
                scope.spawn(move || walk(tablet, cpu, steps, begin))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    });
    let walked: Result<Vec<(usize, Refused)>, String> = walked;
    let mut refused = Refused::new();
    for (errno, times) in walked?.iter().flat_map(|(_, refused)| refused) {
        *refused.entry(*errno).or_default() += times;
    }
    fact("refused", refused.values().sum::<u64>());
    for (errno, times) in refused {
        fact(&format!("refused.errno.{errno}"), times);
    }
    Ok(())
}

/// One thread's steps: how many requests were submitted, and the refusals.
fn walk(tablet: &Device, cpu: usize, steps: u64, begin: &Barrier) -> Result<(usize, Refused), String> {
    let ready = pin(cpu).and_then(|()| {
        let handle = Handle::open(tablet)?;
        handle.claim(0).map_err(|error| format!("cannot claim a tablet: {error}"))?;
        Ok(handle)
    });
    // The others wait for this one, whatever came of it.
    begin.wait();
    let handle = ready?;
    let mut random = Random::new(cpu as u64 + 1);
    let mut buffers = vec![[0; LONGEST]; steps as usize];
    let mut unused = buffers.iter_mut();
    let (mut held, mut submitted, mut refused) = (Vec::new(), 0, Refused::new());
    for _ in 0..steps {
        thread::sleep(Duration::from_nanos(random.below(LONGEST_PAUSE.as_nanos() as u64)));
        let submits = held.len() < MOST_HELD && random.below(SUBMITS.1) < SUBMITS.0;
        if !submits {
            cancel(&handle, held.pop())?;
            continue;
        }
        let Some(buffer) = unused.next() else { break };
        let length = 1 + random.below(LONGEST as u64) as usize;
        let mut urb = Urb::interrupt(ENDPOINT, &mut buffer[..length]);
        match handle.submit(&mut urb) {
            Ok(()) => {
                held.push(urb);
                submitted += 1;
            }
            Err(error) => *refused.entry(error.raw_os_error().unwrap_or(0)).or_default() += 1,
        }
    }
    while let Some(urb) = held.pop() {
        cancel(&handle, Some(urb))?;
    }
    Ok((submitted, refused))
}

/// Takes a request back, and waits until the kernel has unmapped it.
fn cancel(handle: &Handle, urb: Option<Urb>) -> Result<(), String> {
    let Some(mut urb) = urb else { return Ok(()) };
    // One that ended by itself meanwhile cannot be discarded, only reaped.
    let _ = handle.discard(&mut urb);
    handle.reap().map_err(|error| format!("cannot reap: {error}"))
}

/// Keeps this thread on a CPU.
fn pin(cpu: usize) -> Result<(), String> {
    // SAFETY: a set of CPUs is plain data, for which zeroes are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid, and there are fewer CPUs than it has bits.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is valid for its size, and 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    if result == 0 { Ok(()) } else { Err(format!("no CPU {cpu}: {}", std::io::Error::last_os_error())) }
}
