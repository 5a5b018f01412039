//! `leak N`: what a driver does that forgets to unmap: an interrupt-IN request of 8 bytes on the tablet every 100 ms, which nobody ever
//! cancels. A process of its own holds them, so that they stay mapped when the recording ends. Between them, others are cancelled at once.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::fact;
use crate::usbfs::{self, Handle, Urb};

/// The tablet's interrupt-IN endpoint.
const ENDPOINT: u8 = 0x81;
const PAUSE: Duration = Duration::from_millis(100);
/// The guest is gone long before.
const FOR_EVER: Duration = Duration::from_hours(1);

/// Leaves so many requests behind.
pub(super) fn run(count: u64) -> Result<(), String> {
    let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut child = Command::new(program)
        .args(["workload", "leaking", &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the process that leaks: {error}"))?;
    let mut said = String::new();
    let output = child.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut said).map_err(|error| format!("cannot read what it says: {error}"))?;
    let leaked: u64 = said.trim().parse().map_err(|_| format!("the process that leaks said {said:?}"))?;
    fact("leaked", leaked);
    if leaked == count { Ok(()) } else { Err(format!("{leaked} of {count} requests could be submitted")) }
}

/// The process that holds them.
pub(super) fn keep(count: u64) -> Result<(), String> {
    let tablet =
        usbfs::devices().into_iter().find(|device| device.product.contains("Tablet")).ok_or("no USB tablet")?;
    let handle = Handle::open(&tablet)?;
    handle.claim(0).map_err(|error| format!("cannot claim the tablet: {error}"))?;
    let mut buffers = vec![[0; 8]; count as usize];
    let mut kept: Vec<Urb> = buffers.iter_mut().map(|buffer| Urb::interrupt(ENDPOINT, buffer)).collect();
    for urb in &mut kept {
        handle.submit(urb).map_err(|error| format!("cannot submit: {error}"))?;
        let mut buffer = [0; 8];
        let mut cancelled = Urb::interrupt(ENDPOINT, &mut buffer);
        handle.submit(&mut cancelled).map_err(|error| format!("cannot submit: {error}"))?;
        handle.discard(&mut cancelled).map_err(|error| format!("cannot cancel: {error}"))?;
        handle.reap().map_err(|error| format!("cannot reap: {error}"))?;
        thread::sleep(PAUSE);
    }
    println!("{count}");
    thread::sleep(FOR_EVER);
    Ok(())
}
