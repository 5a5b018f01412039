//! `hold N`: N interrupt-IN requests of 8 bytes on the tablet, all mapped at once because nobody moves it: N small
//! bounce buffers in use at the same time, and refusals that are seen here, one errno each. In `lengths N` they are of
//! several lengths, of which some bounce with every line size and some only with long lines.

use std::{collections::BTreeMap, thread, time::Duration};

use super::fact;
use crate::{
    pool,
    usbfs::{self, Handle, Urb},
};

/// The tablet's interrupt-IN endpoint.
const ENDPOINT: u8 = 0x81;
pub(super) const SMALL: [usize; 1] = [8];
/// Their objects are of 16, 64, 96, 8 and 32 bytes.
pub(super) const LENGTHS: [usize; 5] = [16, 40, 80, 8, 24];
const LONGEST: usize = 80;
/// Long enough for a recorder that samples the pool's counters to see them.
const HELD: Duration = Duration::from_millis(1200);

/// Holds so many requests, of these lengths in turn.
pub(super) fn run(count: u64, lengths: &[usize]) -> Result<(), String> {
    let tablet =
        usbfs::devices().into_iter().find(|device| device.product.contains("Tablet")).ok_or("no USB tablet")?;
    let handle = Handle::open(&tablet)?;
    handle.claim(0).map_err(|error| format!("cannot claim the tablet: {error}"))?;
    let mut buffers = vec![[0; LONGEST]; count as usize];
    let in_turn = lengths.iter().cycle();
    let mut urbs: Vec<_> = buffers
        .iter_mut()
        .zip(in_turn)
        .map(|(buffer, &length)| Urb::interrupt(ENDPOINT, &mut buffer[..length]))
        .collect();
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
