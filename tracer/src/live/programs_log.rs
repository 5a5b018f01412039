//! The programs' own debug messages, to standard error.

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
        eprintln!("bpf: {}", record.args());
    }

    fn flush(&self) {}
}

impl ProgramsLog {
    /// `None` where the messages cannot be had; nothing else depends on them.
    pub(super) fn open(ebpf: &mut Ebpf) -> Option<Self> {
        match EbpfLogger::init_with_logger(ebpf, Stderr) {
            Ok(logger) => Some(Self(logger)),
            Err(error) => {
                eprintln!("bpf: no messages from the programs: {error}");
                None
            }
        }
    }

    pub(super) fn print(&mut self) {
        self.0.flush();
    }
}
