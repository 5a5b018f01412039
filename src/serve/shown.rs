//! What is served: everything that can be asked for, written down at one moment.

use hyper::body::Bytes;
use tracer::report::{
    html, markdown, metrics,
    page::{self, Subject},
};

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
