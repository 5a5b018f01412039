//! Traces of Perfetto: their kernel events as the lines that tracefs would have printed, in order of time, which
//! [`ftrace`](super::ftrace) then reads as any other trace. Fields are those of `protos/perfetto/trace/` (`trace_packet.proto`,
//! `ftrace/{ftrace_event_bundle,ftrace_event,ftrace_stats,generic,kmem}.proto`).
//!
//! Perfetto knows kmalloc, `kmalloc_node` and kfree; the events of `dma` and `swiotlb` it records by names of fields (`GenericFtraceEvent`),
//! or, from v50 on, as messages that it describes itself.
//!
//! A file is looked through once for where the events of each CPU are; a part of each CPU's is then in memory.

mod bundles;
mod event;
mod index;
mod losses;
mod unpack;
mod walk;

use std::collections::BTreeSet;
use std::io::{self, Read, Seek};

use super::as_text::{AT_ONCE, AsText, MakeText};
use bundles::Bundles;
use event::Shapes;
use index::Index;
pub use unpack::unpack;
use walk::{Found, Walk};

/// The file begins as a trace of Perfetto does: with a whole packet.
///
/// # Errors
///
/// When it cannot be read.
pub fn is_trace(file: impl Read + Seek) -> io::Result<bool> {
    let mut walk = Walk::new(file)?;
    let Some((index::PACKET, Found::Bytes { end })) = walk.field(walk.len())? else {
        return Ok(false);
    };
    let mut fields = 0;
    while let Some((_, found)) = walk.field(end)? {
        walk.pass(found)?;
        fields += 1;
    }
    Ok(fields > 0 && walk.at() == end)
}

/// A trace of Perfetto, to be read as text. Its packets are not compressed ([`unpack`]).
#[derive(Debug)]
pub struct Perfetto<R> {
    bundles: Bundles<R>,
    shapes: Shapes,
    /// Clocks of events that were read.
    clocks: BTreeSet<u8>,
    notes: Vec<String>,
}

impl<R: Read + Seek> Perfetto<R> {
    /// Looks through a file. What is no whole packet at its end is left, and told in the notes.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open(file: R) -> io::Result<AsText<Self>> {
        let Index { walk, streams, shapes, losses, notes } = Index::of(file)?;
        let bundles = Bundles::new(walk, streams)?;
        Ok(AsText::new(Self { bundles, shapes, clocks: BTreeSet::new(), notes }, losses.lines()))
    }
}

impl<R: Read + Seek> MakeText for Perfetto<R> {
    fn make(&mut self, text: &mut String) -> io::Result<()> {
        while text.len() < AT_ONCE {
            let Some(next) = self.bundles.next() else { break };
            let begin = text.len();
            if self.shapes.line(text, next.cpu, next.time_ns, next.event) {
                self.clocks.insert(next.clock);
                text.push('\n');
            } else {
                text.truncate(begin);
            }
            self.bundles.step()?;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.shapes.notes());
        if self.clocks.iter().any(|clock| *clock != 0) {
            let names: Vec<_> = self.clocks.iter().map(|clock| clock_name(*clock)).collect();
            notes.push(format!("times are of ftrace's clock {}, not of CLOCK_BOOTTIME", names.join(" and ")));
        }
        notes
    }
}

/// `FtraceClock`; none given is `boot`.
fn clock_name(clock: u8) -> &'static str {
    match clock {
        0 => "boot",
        2 => "global",
        3 => "local",
        4 => "mono_raw",
        _ => "(unknown)",
    }
}

#[cfg(test)]
mod tests;
