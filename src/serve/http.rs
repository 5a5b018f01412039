//! The HTTP side of `serve`: GET and HEAD of three paths, one request a connection, and a limit on everything that the other
//! side decides.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
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
use tokio::{
    net::TcpStream,
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::shown::Shown;
use crate::input::{say, warn};

/// Connections at one time. For a new one the oldest that has asked for nothing gives way; where all have asked, the oldest that has not read its
/// answer for [`READ_WITHIN`].
const CONNECTIONS: usize = 32;
/// A request's line and headers must have come by then.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// All of a connection must be over by then.
const ALL_WITHIN: Duration = Duration::from_secs(20);
/// An answer that nobody waits for a place behind may take longer.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked for a connection that gives way.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Bytes of a request's line and headers at the most; the least that hyper takes.
const REQUEST: usize = 8192;
/// Headers at the most.
const HEADERS: usize = 64;

/// Something that listens.
pub(super) struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Says on standard error where it can be reached, and by whom.
    pub(super) fn new(listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr().context("cannot tell the address that is listened on")?;
        say(&format!("serving http://{address}/ and http://{address}/metrics, until ^C\n"));
        if !address.ip().is_loopback() {
            warn(&format!("{address} can be reached from other machines: they can read all of it"));
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
        let open = Arc::new(Open::default());
        let only_local = self.address.ip().is_loopback();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, mostly: those that are open will be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let permit = loop {
                if connections.available_permits() == 0 {
                    open.cut_oldest(Instant::now());
                }
                if let Ok(permit) = timeout(LOOK_AGAIN, Arc::clone(&connections).acquire_owned()).await {
                    break permit?;
                }
            };
            let (shown, this) = (shown.clone(), open.begin());
            tokio::spawn(async move {
                let _permit = permit;
                // A client that is too slow, or speaks no HTTP, is only cut off.
                tokio::select! {
                    _ = timeout(ALL_WITHIN, connection(stream, shown, &this, only_local)) => {}
                    () = this.cut.notified() => {}
                }
            });
        }
    }
}

/// Connections, the oldest first. Some give way where there are too many.
#[derive(Default)]
struct Open(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    /// Those that have not asked for anything yet.
    idle: VecDeque<Arc<Notify>>,
    /// Those that are being answered, and since when.
    asked: VecDeque<(Instant, Arc<Notify>)>,
}

/// One of them.
struct Connection {
    open: Arc<Open>,
    cut: Arc<Notify>,
}

impl Open {
    fn begin(self: &Arc<Self>) -> Connection {
        let cut = Arc::new(Notify::new());
        self.queues().idle.push_back(Arc::clone(&cut));
        Connection { open: Arc::clone(self), cut }
    }

    fn cut_oldest(&self, now: Instant) {
        let Queues { idle, asked } = &mut *self.queues();
        let unread = |(since, _): &(Instant, _)| now.duration_since(*since) >= READ_WITHIN;
        let oldest = idle.pop_front().or_else(|| Some(asked.pop_front_if(|one| unread(one))?.1));
        if let Some(oldest) = oldest {
            oldest.notify_one();
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Its request is there: it is answered.
    fn has_asked(&self) {
        let mut queues = self.open.queues();
        queues.idle.retain(|cut| !Arc::ptr_eq(cut, &self.cut));
        queues.asked.push_back((Instant::now(), Arc::clone(&self.cut)));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut queues = self.open.queues();
        queues.idle.retain(|cut| !Arc::ptr_eq(cut, &self.cut));
        queues.asked.retain(|(_, cut)| !Arc::ptr_eq(cut, &self.cut));
    }
}

async fn connection(stream: TcpStream, shown: Shown, this: &Connection, only_local: bool) -> hyper::Result<()> {
    let answer = service_fn(move |request| {
        this.has_asked();
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
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return said(StatusCode::BAD_REQUEST, "more than one Host\n");
    }
    // One that is not ASCII names no machine that is known here.
    if only_local && !host.is_none_or(|host| host.to_str().is_ok_and(is_local)) {
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
    fn idle_connections_give_way_first_and_then_those_whose_answer_nobody_reads() {
        let open = Arc::new(Open::default());
        let [unread, second, idle] = [(); 3].map(|()| open.begin());
        unread.has_asked();
        second.has_asked();
        let later = Instant::now() + READ_WITHIN;
        let left = |open: &Open| {
            let queues = open.queues();
            (queues.idle.len(), queues.asked.len())
        };
        open.cut_oldest(later);
        assert_eq!(left(&open), (0, 2), "the idle one is older than no other, and gives way");
        open.cut_oldest(Instant::now());
        assert_eq!(left(&open), (0, 2), "answers are given time");
        open.cut_oldest(later);
        assert!(left(&open) == (0, 1) && Arc::ptr_eq(&open.queues().asked[0].1, &second.cut));
        drop((unread, second, idle));
        assert_eq!(left(&open), (0, 0));
    }

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
