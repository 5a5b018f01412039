//! The product's `serve --live` beside a recording: started before it, and asked for its metrics by the workload, before and after.

use std::{
    fs,
    io::{Error, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

const ADDRESS: &str = "127.0.0.1:9464";
/// Until it answers.
const START_LIMIT: Duration = Duration::from_mins(2);
/// One answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// What it serves may be a second old, and older where it has yet to look at what happened.
const SETTLE: Duration = Duration::from_secs(3);
/// Until it has looked at everything.
const SETTLE_LIMIT: Duration = Duration::from_mins(1);

/// What it served when the workload began, and when it was over.
pub(crate) const FILES: [&str; 2] = ["/tmp/metrics.before", "/tmp/metrics"];
/// In the workload's environment when it is to keep those.
const BESIDE: &str = "LAB_SERVE";

/// Killed when it is dropped.
pub(crate) struct Serve(Child);

impl Serve {
    /// Returns once it answers: its programs are attached.
    pub(crate) fn start(btf: impl Iterator<Item = &'static str>) -> Result<Self, String> {
        loopback_up().map_err(|error| format!("cannot turn the loopback device on: {error}"))?;
        let mut command = Command::new("/bin/bouncescope");
        command.args(["serve", "--live", "--listen", ADDRESS]).args(btf);
        let mut serve = Self(command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?);
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = serve.0.try_wait() {
                return Err(format!("serve has ended with {status}"));
            }
            match metrics() {
                Ok(_) => return Ok(serve),
                Err(error) if start.elapsed() > START_LIMIT => return Err(format!("serve does not answer: {error}")),
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Lets a recorder's workload keep what is served.
    pub(crate) fn tell(recorder: &mut Command) {
        recorder.env(BESIDE, "1");
    }
}

/// Keeps in one of [`FILES`] what is served, once no more bounces come; where it is to.
pub(crate) fn keep_in(file: &str) -> Result<(), String> {
    if std::env::var_os(BESIDE).is_none() {
        return Ok(());
    }
    let (start, mut served) = (Instant::now(), metrics()?);
    loop {
        thread::sleep(SETTLE);
        let before = std::mem::replace(&mut served, metrics()?);
        if start.elapsed() > SETTLE_LIMIT || bounces(&before).eq(bounces(&served)) {
            return fs::write(file, served).map_err(|error| format!("cannot write {file}: {error}"));
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that count bounces and refusals.
fn bounces(metrics: &str) -> impl Iterator<Item = &str> {
    const COUNTS: [&str; 2] = ["bouncescope_bounces_total", "bouncescope_failed_mappings_total"];
    metrics.lines().filter(|line| COUNTS.iter().any(|name| line.starts_with(name)))
}

fn metrics() -> Result<String, String> {
    let answer = || -> Result<String, Error> {
        let mut stream = TcpStream::connect(ADDRESS)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream
            .write_all(format!("GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = answer().map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(format!("not the metrics: {}", answer.lines().next().unwrap_or_default())),
    }
}

/// The kernel makes it, but nobody turns it on.
fn loopback_up() -> Result<(), Error> {
    // SAFETY: all zeroes is a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: no pointers; the descriptor is closed below.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    if socket < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: both take an `ifreq` with a name, which outlives the calls; the first fills in the flags.
    let result = unsafe {
        let read = libc::ioctl(socket, libc::SIOCGIFFLAGS as _, &mut request);
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if read < 0 { read } else { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &request) }
    };
    let error = Error::last_os_error();
    // SAFETY: it is open, and used no more.
    unsafe { libc::close(socket) };
    if result < 0 { Err(error) } else { Ok(()) }
}
