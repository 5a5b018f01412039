//! `hold N`: N interrupt-IN requests of 8 bytes on the tablet, all mapped at once because nobody moves it: N small
//! bounce buffers in use at the same time, and refusals that are seen here, one errno each.

use std::{collections::BTreeMap, thread, time::Duration};

use super::fact;
use crate::{
    pool,
    usbfs::{self, Handle, Urb},
};

/// The tablet's interrupt-IN endpoint.
const ENDPOINT: u8 = 0x81;
const LENGTH: usize = 8;
/// Long enough for a recorder that samples the pool's counters to see them.
const HELD: Duration = Duration::from_millis(1200);

pub(super) fn run(count: u64) -> Result<(), String> {
    let tablet =
        usbfs::devices().into_iter().find(|device| device.product.contains("Tablet")).ok_or("no USB tablet")?;
    let handle = Handle::open(&tablet)?;
    handle.claim(0).map_err(|error| format!("cannot claim the tablet: {error}"))?;
    let mut buffers = vec![[0; LENGTH]; count as usize];
    let mut urbs: Vec<_> = buffers.iter_mut().map(|buffer| Urb::interrupt(ENDPOINT, buffer)).collect();
    let mut held = Vec::new();
    let mut refused: BTreeMap<i32, u64> = BTreeMap::new();
    for urb in &mut urbs {
        match handle.submit(urb) {
            Ok(()) => held.push(urb),
            Err(error) => *refused.entry(error.raw_os_error().unwrap_or(0)).or_default() += 1,
        }
    }
    thread::sleep(HELD);
    fact("held", held.len());
    fact("refused", refused.values().sum::<u64>());
    for (errno, times) in refused {
        fact(&format!("refused.errno.{errno}"), times);
    }
    if let Some(used) = pool::used() {
        fact("used_while_held", used);
    }
    let submitted = held.len();
    // The last first: none that is still queued then moves up to be started anew.
    for urb in held.into_iter().rev() {
        // One that ended by itself meanwhile cannot be discarded, only reaped.
        let _ = handle.discard(urb);
    }
    for _ in 0..submitted {
        handle.reap().map_err(|error| format!("cannot reap: {error}"))?;
    }
    Ok(())
}
