//! What is served: everything that can be asked for, written down at one moment.

use std::sync::Arc;
#[cfg(all(target_os = "linux", feature = "live"))]
use std::sync::mpsc::{SyncSender, sync_channel};

use hyper::body::Bytes;
use tracer::report::{
    html, markdown, metrics,
    page::{self, Subject},
};
#[cfg(all(target_os = "linux", feature = "live"))]
use tracer::{facts::End, stream::Item};

/// How often the page of a running kernel loads itself again.
const REFRESH_SECONDS: u32 = 15;

/// What is served at one moment.
#[derive(Debug)]
pub(super) struct Rendered {
    html: Bytes,
    markdown: Bytes,
    metrics: Bytes,
}

impl Rendered {
    /// Of these results; `source` is `capture` or `live`.
    pub(super) fn new(subject: &Subject, source: &str) -> Self {
        let document = page::document(subject);
        let refresh = (source == "live").then_some(REFRESH_SECONDS);
        Self {
            html: html::page(&document, refresh).into(),
            markdown: markdown::text(&document).into(),
            metrics: metrics::text(&subject.results, source).into(),
        }
    }

    /// What lies under a path, and of which type it is; `None` where nothing does.
    pub(super) fn at(&self, path: &str) -> Option<(&'static str, Bytes)> {
        Some(match path {
            "/" => ("text/html; charset=utf-8", self.html.clone()),
            "/report.md" => ("text/markdown; charset=utf-8", self.markdown.clone()),
            "/metrics" => ("text/plain; version=0.0.4; charset=utf-8", self.metrics.clone()),
            _ => return None,
        })
    }
}

/// What is shown.
#[derive(Clone)]
pub(super) enum Shown {
    /// Always the same.
    Still(Arc<Rendered>),
    /// As it is when asked for.
    #[cfg(all(target_os = "linux", feature = "live"))]
    Live(Replaying),
}

impl Shown {
    /// As it is now; `None` where the replay has ended.
    pub(super) async fn now(&self) -> Option<Arc<Rendered>> {
        match self {
            Self::Still(rendered) => Some(Arc::clone(rendered)),
            #[cfg(all(target_os = "linux", feature = "live"))]
            Self::Live(replaying) => {
                let replaying = replaying.clone();
                // Waiting for the replaying thread must not keep others waiting.
                tokio::task::spawn_blocking(move || replaying.rendered()).await.ok().flatten()
            }
        }
    }
}

/// What the replaying thread is asked.
#[cfg(all(target_os = "linux", feature = "live"))]
pub(super) enum Work {
    /// Something happened.
    Item(Item),
    /// What recording has cost by now.
    Cost(End),
    /// Write down how it is.
    Render(SyncSender<Arc<Rendered>>),
}

/// The replaying thread.
#[cfg(all(target_os = "linux", feature = "live"))]
#[derive(Clone)]
pub(super) struct Replaying(SyncSender<Work>);

#[cfg(all(target_os = "linux", feature = "live"))]
impl Replaying {
    /// Asked through `queue`.
    pub(super) const fn new(queue: SyncSender<Work>) -> Self {
        Self(queue)
    }

    /// How it is now; `None` where it has ended.
    pub(super) fn rendered(&self) -> Option<Arc<Rendered>> {
        let (answer, rendered) = sync_channel(1);
        self.0.send(Work::Render(answer)).ok()?;
        rendered.recv().ok()
    }
}
