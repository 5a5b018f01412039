//! `serve` as a user runs it: what it answers, and what it does with clients that mean no good.
#![cfg(feature = "report")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const HOLD_300: &str = "captures/6.12-full-hold-300.bounce";

/// A server that is ended with the test.
struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn serve(arguments: &[&str]) -> Serving {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bouncescope"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let address = loop {
        said.clear();
        assert!(lines.read_line(&mut said).unwrap() > 0, "it ended: {:?}", child.wait());
        if let Some(rest) = said.strip_prefix("serving http://") {
            break rest.split('/').next().unwrap().parse().unwrap();
        }
    };
    Serving { child, address }
}

impl Serving {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// The whole answer to these bytes; what came until the connection was cut.
    fn answer(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be refused before all of it is written.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.answer(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes())
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("cut")
}

#[test]
fn the_page_the_metrics_and_the_markdown_are_there_and_nothing_else() {
    let serving = serve(&[HOLD_300]);
    let page = serving.get("/");
    assert!(status(&page) == "200" && page.contains("<section id=\"verdict\">"), "{page}");
    let metrics = serving.get("/metrics");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\nbouncescope_policy_failed_mappings_total{policy=\"mainline\"} 44\n"), "{metrics}");
    assert!(serving.get("/report.md").contains("# 6.12-full-hold-300.bounce"));
    for path in ["/favicon.ico", "/../etc/passwd", "/metrics/", "//"] {
        assert_eq!(status(&serving.get(path)), "404", "{path}");
    }
}

#[test]
fn the_metrics_and_the_page_name_who_leaks() {
    let serving = serve(&["tests/leak.bounce"]);
    let metrics = serving.get("/metrics");
    for line in [
        "bouncescope_held_slots{at_least_seconds=\"0\"} 24",
        "bouncescope_held_slots{at_least_seconds=\"1\"} 24",
        "bouncescope_held_slots{at_least_seconds=\"10\"} 0",
        "bouncescope_pool_floor_slots 24",
        "bouncescope_pool_floor_rise_slots 24",
        "bouncescope_pool_nearly_full_seconds_total 0",
        "bouncescope_device_held_slots{device=\"0000:00:04.0\",driver=\"xhci_hcd\"} 24",
        "bouncescope_device_leaking_slots{device=\"0000:00:04.0\",driver=\"xhci_hcd\"} 24",
        "bouncescope_device_leaking_slots{device=\"(other)\",driver=\"(other)\"} 0",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in\n{metrics}");
    }
    let page = serving.get("/report.md").replace('\\', "");
    assert!(page.contains("LEAK? 0000:00:04.0 (xhci_hcd), proc_do_submiturb+0xdbc [usbcore]: 24 buffers"), "{page}");
    let returned = serve(&["captures/7.3-direct-hold-300.bounce"]);
    let metrics = returned.get("/metrics");
    let device = "bouncescope_device_leaking_slots{device=\"0000:00:04.0\",driver=\"xhci_hcd\"} 0";
    assert!(metrics.contains(device) && metrics.contains("bouncescope_pool_floor_rise_slots 0\n"), "{metrics}");
    assert!(!returned.get("/report.md").contains("LEAK?"));
}

#[test]
fn head_has_the_length_and_no_body_and_other_methods_are_refused() {
    let serving = serve(&[HOLD_300]);
    let request = |method: &str| format!("{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    let head = serving.answer(request("HEAD").as_bytes());
    assert!(head.contains("content-length: ") && head.ends_with("\r\n\r\n"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let refused = serving.answer(request(method).as_bytes());
        assert!(status(&refused) == "405" && refused.contains("allow: GET, HEAD"), "{method}: {refused}");
    }
}

#[test]
fn requests_that_are_too_large_or_no_http_or_for_another_host_are_refused() {
    let serving = serve(&[HOLD_300]);
    let long = "x".repeat(20_000);
    let large = format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n");
    assert_eq!(status(&serving.answer(large.as_bytes())), "431");
    let many = "X: y\r\n".repeat(200);
    assert_eq!(status(&serving.answer(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes())), "431");
    assert_ne!(status(&serving.answer(format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes())), "200");
    for nonsense in [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"] {
        assert_ne!(status(&serving.answer(nonsense)), "200", "{nonsense:?}");
    }
    for elsewhere in [&b"attacker.example"[..], b"\xe9vil.example", b"localhost\xff", b""] {
        let request = [b"GET / HTTP/1.1\r\nHost: ", elsewhere, b"\r\n\r\n"].concat();
        assert_eq!(status(&serving.answer(&request)), "421", "{}", elsewhere.escape_ascii());
    }
    let two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: attacker.example\r\n\r\n";
    assert_eq!(status(&serving.answer(two)), "400");
    assert_eq!(status(&serving.get("/metrics")), "200", "and others are still served");
}

#[test]
fn idle_connections_give_way_to_a_request() {
    let serving = serve(&[HOLD_300]);
    let began = Instant::now();
    let mut idle: Vec<TcpStream> = (0..200).map(|_| serving.connect()).collect();
    for stream in &mut idle {
        // The first ones are cut by now.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ");
    }
    assert_eq!(status(&serving.get("/metrics")), "200");
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(4), "sooner than idle connections are given up: {waited:?}");
    let mut cut = Vec::new();
    let _ = idle[0].read_to_end(&mut cut);
    assert!(!String::from_utf8_lossy(&cut).contains(" 200 "), "an unfinished request is not answered");
}

#[test]
fn clients_that_never_finish_are_cut_off() {
    let serving = serve(&[HOLD_300]);
    let mut idle = serving.connect();
    idle.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    let began = Instant::now();
    let mut cut = Vec::new();
    let _ = idle.read_to_end(&mut cut);
    let waited = began.elapsed();
    assert!(!String::from_utf8_lossy(&cut).contains(" 200 ") && waited < Duration::from_secs(15), "{waited:?}");
}

#[test]
#[cfg(all(target_os = "linux", feature = "live"))]
#[ignore = "traces this machine's kernel: root, BPF, BTF"]
fn the_running_kernel_is_served_as_it_goes_on() {
    let serving = serve(&["--live", "--sample", "1"]);
    let seconds = |metrics: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with("bouncescope_recording_seconds "));
        line.unwrap_or_else(|| panic!("{metrics}")).split(' ').nth(1).unwrap().parse().unwrap()
    };
    std::thread::sleep(Duration::from_secs(2));
    let first = serving.get("/metrics");
    std::thread::sleep(Duration::from_secs(3));
    let second = serving.get("/metrics");
    assert!(seconds(&second) > seconds(&first) + 1.0, "time goes on");
    assert!(second.contains("source=\"live\"") && second.contains("bouncescope_recorder_cpu_seconds_total "));
    assert!(second.contains("bouncescope_program_runs_total{program=\"kmalloc\"} "), "{second}");
    let page = serving.get("/");
    assert!(page.contains("http-equiv=\"refresh\"") && page.contains("this kernel, live"));
}
