//! The programs' own debug messages, to standard error.

use std::io::{self, Write as _};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

/// What the programs said and has not been printed yet.
pub(super) struct ProgramsLog(EbpfLogger<Stderr>);

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        say(&format!("bpf: {}\n", record.args()));
    }

    fn flush(&self) {}
}

/// A standard error that is gone must not end the recording, as `eprintln!` would.
fn say(line: &str) {
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

impl ProgramsLog {
    /// `None` where the messages cannot be had; nothing else depends on them.
    pub(super) fn open(ebpf: &mut Ebpf) -> Option<Self> {
        match EbpfLogger::init_with_logger(ebpf, Stderr) {
            Ok(logger) => Some(Self(logger)),
            Err(error) => {
                say(&format!("bpf: no messages from the programs: {error}\n"));
                None
            }
        }
    }

    pub(super) fn print(&mut self) {
        self.0.flush();
    }
}
