//! Where what is shown comes from: a capture, or a live stream that is taken in as it flows.

use std::sync::Arc;

use tracer::stream::Item;

use crate::answer::Question;
use crate::engine::Material;
use crate::history::{History, Keep};
use crate::recent::Recent;
use crate::recording::Recording;
use crate::state::time::TimeLine;

/// Where it comes from.
pub enum Feed {
    /// A capture.
    Capture(Arc<Recording>),
    /// A live stream.
    Live(Box<Live>),
}

/// What is kept of a live stream.
pub struct Live {
    history: History,
    recent: Recent,
}

impl Feed {
    /// A live stream of which nothing has come yet.
    pub fn live() -> Self {
        Self::Live(Box::new(Live { history: History::new(Keep::Recent), recent: Recent::default() }))
    }

    /// Takes in an item of a live stream.
    pub fn take(&mut self, item: Arc<Item>) {
        if let Self::Live(live) = self {
            live.history.observe(&item);
            let now_ns = live.history.now_ns();
            live.recent.keep(item, now_ns);
        }
    }

    /// Looks at the history. Of a capture it grows meanwhile on another thread, which waits for this.
    pub fn with_history<R>(&self, look: impl FnOnce(&History) -> R) -> R {
        match self {
            Self::Capture(recording) => look(&recording.known().history),
            Self::Live(live) => look(&live.history),
        }
    }

    /// Brings the time line up to what is known by now.
    pub fn reach(&self, time: &mut TimeLine) {
        let (first_ns, last_ns) = self.with_history(|history| (history.first_ns(), history.now_ns()));
        time.last_ns = last_ns;
        time.first_ns = match self {
            Self::Capture(_) => first_ns,
            // What can't be replayed any more is not offered.
            Self::Live(live) => live.recent.first_ns().unwrap_or(0).max(first_ns),
        };
    }

    /// How far it has been read, 0 to 1.
    pub fn progress(&self) -> f64 {
        match self {
            Self::Capture(recording) => recording.progress(),
            Self::Live(_) => 1.0,
        }
    }

    /// Why it cannot be read any further.
    pub fn failed(&self) -> Option<String> {
        match self {
            Self::Capture(recording) => recording.known().failed.clone(),
            Self::Live(_) => None,
        }
    }

    /// What a question is answered from.
    pub fn material(&self, question: &Question) -> Material {
        match self {
            Self::Capture(recording) => Material::Recording(Arc::clone(recording)),
            Self::Live(live) => {
                let mut kept = live.recent.window(&live.history, question.from_ns, question.to_ns);
                kept.until = question.holders.then(|| live.recent.until(question.to_ns)).flatten();
                Material::Kept(kept)
            }
        }
    }
}
