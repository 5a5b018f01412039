//! The HTTP side of `serve`: GET and HEAD of three paths, one request a connection, and a limit on everything that the other
//! side decides.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

#[cfg(all(target_os = "linux", feature = "live"))]
use super::live::Replaying;
use super::shown::Rendered;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// A request's line and headers must have come by then.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// All of a connection must be over by then.
const ALL_WITHIN: Duration = Duration::from_secs(20);
/// Bytes of a request's line and headers at the most; the least that hyper takes.
const REQUEST: usize = 8192;
/// Headers at the most.
const HEADERS: usize = 64;

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
    async fn now(&self) -> Option<Arc<Rendered>> {
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

/// Something that listens.
pub(super) struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Says on standard error where it can be reached, and by whom.
    pub(super) fn new(listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr().context("cannot tell the address that is listened on")?;
        eprintln!("bouncescope: serving http://{address}/ and http://{address}/metrics, until ^C");
        if !address.ip().is_loopback() {
            eprintln!("bouncescope: {address} can be reached from other machines: they can read all of it");
        }
        Ok(Self { listener, address })
    }

    /// Serves, until the process ends.
    pub(super) fn run(self, shown: Shown) -> Result<()> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(CONNECTIONS).build()?;
        runtime.block_on(self.serve(shown))
    }

    async fn serve(self, shown: Shown) -> Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let only_local = self.address.ip().is_loopback();
        loop {
            let permit = Arc::clone(&connections).acquire_owned().await?;
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, mostly: those that are open will be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let shown = shown.clone();
            tokio::spawn(async move {
                let _permit = permit;
                // A client that is too slow, or speaks no HTTP, is only cut off.
                let _ = timeout(ALL_WITHIN, connection(stream, shown, only_local)).await;
            });
        }
    }
}

async fn connection(stream: TcpStream, shown: Shown, only_local: bool) -> hyper::Result<()> {
    let answer = service_fn(move |request| {
        let shown = shown.clone();
        async move { Ok::<_, Infallible>(answer(&request, &shown, only_local).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(REQUEST)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

async fn answer(request: &Request<Incoming>, shown: &Shown, only_local: bool) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return said(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if only_local && !host.is_none_or(is_local) {
        return said(StatusCode::MISDIRECTED_REQUEST, "this address is for this machine alone\n");
    }
    let Some(rendered) = shown.now().await else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "the recording has ended\n");
    };
    // hyper leaves out the body of what answers HEAD.
    match rendered.at(request.uri().path()) {
        Some((kind, body)) => response(StatusCode::OK, kind, body),
        None => said(StatusCode::NOT_FOUND, "there are /, /metrics and /report.md\n"),
    }
}

/// A page of somebody else, whose name was made to mean this machine, must not read what is served here.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn said(status: StatusCode, words: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", Bytes::from_static(words.as_bytes()))
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["127.0.0.1:9464", "localhost", "LOCALHOST:1", "[::1]:9464", "127.9.9.9"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example:9464", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example:80", ""] {
            assert!(!is_local(host), "{host}");
        }
    }
}
