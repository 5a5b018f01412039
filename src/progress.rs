//! How far a capture has been read, on a terminal, where that takes long enough to be asked for.

use std::{
    io::{self, IsTerminal, Write as _},
    time::{Duration, Instant},
};

use tracer::event::Batch;
use tracer::passed::Needs;
use tracer::stream::{Gaps, Item, Source};
use tui::progress_line::progress_line;

/// What is over so soon needs no line.
const PATIENCE: Duration = Duration::from_millis(500);
/// From one line to the next.
const EVERY: Duration = Duration::from_millis(100);

/// A source that tells on standard error how far it has come; nothing where that is no terminal.
pub(crate) struct Progress<S> {
    source: S,
    /// Length of the file, bytes.
    total: u64,
    began: Instant,
    /// When the next line is due; `None` where there is none.
    due: Option<Duration>,
    shown: bool,
}

impl<S> Progress<S> {
    /// Of a file of `total` bytes; 0 for what is no file, of which nothing can be told.
    pub(crate) fn new(source: S, total: u64) -> Self {
        let due = (total > 0 && io::stderr().is_terminal()).then_some(PATIENCE);
        Self { source, total, began: Instant::now(), due, shown: false }
    }
}

impl<S: Source> Source for Progress<S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        let item = self.source.next_item();
        let gone = self.began.elapsed();
        if self.due.is_some_and(|due| gone >= due) {
            write(&format!("\r\x1b[K{}", progress_line(self.source.bytes_read(), self.total, gone)));
            (self.due, self.shown) = (Some(gone + EVERY), true);
        }
        item
    }

    fn leave_out(&mut self, needs: Needs) {
        self.source.leave_out(needs);
    }

    fn take_back(&mut self, used: Batch) {
        self.source.take_back(used);
    }

    fn gaps(&self) -> Gaps {
        self.source.gaps()
    }

    fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }
}

/// A line of our own on the terminal; one that cannot be written is no matter.
fn write(line: &str) {
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

impl<S> Drop for Progress<S> {
    /// The line makes way for the result, or for the error.
    fn drop(&mut self) {
        if self.shown {
            write("\r\x1b[K");
        }
    }
}
