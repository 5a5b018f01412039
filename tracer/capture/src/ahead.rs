//! A source read ahead of its reader, on a thread of its own: while one batch of events is replayed, the next is decoded.
//! What comes out is what the source itself gives, item by item.

use std::{
    io, panic,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

use crate::event::Batch;
use crate::passed::Needs;
use crate::stream::{Gaps, Item, Source};

/// Items that may wait: enough for the two threads not to wait for each other at every frame, and few, since the CPU's cache
/// has little of what waits long.
const QUEUE: usize = 2;

/// A source's answer, and its gaps and the bytes read at that moment.
type Answer<E> = (Result<Option<Item>, E>, Gaps, u64);

/// What the source's reader has for the source.
enum Back {
    Used(Batch),
    Needs(Needs),
}

/// Reads a source ahead. The thread ends with the source, or soon after this is dropped.
pub struct Ahead<S: Source> {
    queue: Receiver<Answer<S::Error>>,
    /// What is on its way to the source.
    back: Sender<Back>,
    pub(super) thread: Option<JoinHandle<()>>,
    gaps: Gaps,
    bytes_read: u64,
}

impl<S: Source + Send + 'static> Ahead<S> {
    /// Begins to read; fails where no thread can be had.
    pub fn new(source: S) -> io::Result<Self> {
        let (gaps, bytes_read) = (source.gaps(), source.bytes_read());
        let (answers, queue) = sync_channel(QUEUE);
        let (back, come_back) = channel();
        let read = move || answer_all(source, &answers, &come_back);
        let thread = thread::Builder::new().name("capture".into()).spawn(read)?;
        Ok(Self { queue, back, thread: Some(thread), gaps, bytes_read })
    }
}

/// Until the end, or until nobody listens. After an error the source is asked again, as its reader may do.
fn answer_all<S: Source>(mut source: S, answers: &SyncSender<Answer<S::Error>>, back: &Receiver<Back>) {
    loop {
        while let Ok(back) = back.try_recv() {
            match back {
                Back::Used(batch) => source.take_back(batch),
                Back::Needs(needs) => source.leave_out(needs),
            }
        }
        let answer = source.next_item();
        let is_end = matches!(answer, Ok(None));
        if answers.send((answer, source.gaps(), source.bytes_read())).is_err() || is_end {
            return;
        }
    }
}

impl<S: Source> Source for Ahead<S> {
    type Error = S::Error;

    fn next_item(&mut self) -> Result<Option<Item>, S::Error> {
        if let Ok((answer, gaps, bytes_read)) = self.queue.recv() {
            (self.gaps, self.bytes_read) = (gaps, bytes_read);
            return answer;
        }
        // The thread is over: after the end there is nothing more; what went wrong there goes wrong here.
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => panic::resume_unwind(panic),
            Some(Ok(())) | None => Ok(None),
        }
    }

    /// What was read ahead already comes whole.
    fn leave_out(&mut self, needs: Needs) {
        let _ = self.back.send(Back::Needs(needs));
    }

    fn take_back(&mut self, used: Batch) {
        // Without a thread there is nothing to read any more.
        let _ = self.back.send(Back::Used(used));
    }

    fn gaps(&self) -> Gaps {
        self.gaps.clone()
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}
