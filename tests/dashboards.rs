//! The files of `dashboards/`: what can be told of them alone, and, with Debian's `prometheus`, that a real one scrapes a real
//! `serve` and every panel, rule and alert has data.
#![cfg(feature = "report")]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A recording with bounces, refusals, losses, and what the programs cost.
const CAPTURE: &str = "captures/6.12-full-hold-300.bounce";
/// Slots that are never given back; see tracer/replay/src/check/tests.rs.
const LEAK: &str = "tests/leak.bounce";
const DASHBOARDS: [&str; 3] = ["overview", "device", "fleet"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dashboard(name: &str) -> Value {
    let path = root().join(format!("dashboards/grafana/{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn rules(name: &str) -> String {
    fs::read_to_string(root().join(format!("dashboards/prometheus/{name}.rules.yml"))).unwrap()
}

/// Title and query of every panel's targets.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            queries.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    queries
}

#[test]
fn dashboards_are_laid_out_as_grafana_wants_them() {
    let mut uids = BTreeSet::new();
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{name}: its uid is taken");
        assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36 && dashboard["title"].is_string());
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}: its id is taken");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{name}: {title} is beyond the right edge");
            for place in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(taken.insert(place), "{name}: {title} lies on another panel");
            }
            let letters: BTreeSet<_> =
                panel["targets"].as_array().unwrap().iter().map(|t| t["refId"].as_str()).collect();
            assert_eq!(letters.len(), panel["targets"].as_array().unwrap().len(), "{name}: {title}");
        }
        let variables: BTreeSet<_> =
            dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
        for (title, query) in queries(&dashboard) {
            for used in query.split('$').skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                assert!(variables.contains(used), "{name}: {title}: there is no variable {used}");
            }
        }
    }
}

#[test]
fn alerts_and_panels_use_no_recording_rule_that_is_not_there() {
    let recording = rules("recording");
    let mut used: Vec<String> =
        DASHBOARDS.iter().flat_map(|name| queries(&dashboard(name))).map(|(_, query)| query).collect();
    used.push(rules("alert"));
    let mut seen = 0;
    for text in used {
        for name in text.split("bouncescope:").skip(1) {
            let name = name.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap();
            assert!(recording.contains(&format!("- record: bouncescope:{name}\n")), "bouncescope:{name}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// A child that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Serves the capture; the address.
fn serve(arguments: &[&str]) -> (Running, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bouncescope"))
        .current_dir(root())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let address = line.strip_prefix("serving http://").unwrap().split('/').next().unwrap();
    (Running(child), address.to_owned())
}

/// Debian's Prometheus over this address, with the rules evaluated every second; its port.
fn prometheus(dir: &Path, address: &str) -> (Running, u16) {
    for name in ["recording", "alert"] {
        let text = rules(name).replace("interval: 15s", "interval: 1s").replace("for: 5m", "for: 2s");
        fs::write(dir.join(format!("{name}.rules.yml")), text).unwrap();
    }
    let config = fs::read_to_string(root().join("dashboards/prometheus/prometheus.yml")).unwrap();
    assert!(config.contains("127.0.0.1:9464"), "the port that serve listens on");
    fs::write(dir.join("prometheus.yml"), config.replace("127.0.0.1:9464", address).replace("15s", "1s")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("prometheus")
        .current_dir(dir)
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus is not installed (apt-get install prometheus)");
    (Running(child), port)
}

/// What Prometheus answers to a query; `None` while it doesn't.
fn ask(port: u16, path: &str, query: &str) -> Option<Value> {
    let mut encoded = String::new();
    for byte in query.bytes() {
        encoded += &format!("%{byte:02X}");
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET /api/v1/{path}?query={encoded} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

fn has_data(port: u16, query: &str) -> bool {
    ask(port, "query", query)
        .is_some_and(|answer| answer["data"]["result"].as_array().is_some_and(|rows| !rows.is_empty()))
}

#[test]
#[ignore = "needs prometheus (apt-get install prometheus)"]
fn promtool_accepts_the_rules_and_each_alert_fires_when_it_should() {
    let promtool = |arguments: &[&str]| {
        let output =
            Command::new("promtool").current_dir(root().join("dashboards/prometheus")).args(arguments).output();
        let output = output.expect("promtool is not installed (apt-get install prometheus)");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "recording.rules.yml", "alert.rules.yml"]);
    promtool(&["test", "rules", "rules.test.yml"]);
    let (_serving, address) = serve(&[CAPTURE]);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let mut check = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(answer.split_once("\r\n\r\n").unwrap().1.as_bytes()).unwrap();
    assert!(check.wait().unwrap().success(), "promtool check metrics");
}

#[test]
#[ignore = "needs prometheus (apt-get install prometheus)"]
fn every_panel_and_every_rule_has_data_from_a_real_scrape() {
    let dir = tempfile::tempdir().unwrap();
    let (_serving, address) = serve(&[CAPTURE]);
    let (_prometheus, port) = prometheus(dir.path(), &address);
    let mut wanted: Vec<(String, String)> = Vec::new();
    for name in DASHBOARDS {
        for (title, query) in queries(&dashboard(name)) {
            let query = query.replace("$instance", ".*").replace("$device", ".*");
            wanted.push((format!("{name}: {title}"), query));
        }
    }
    for line in rules("recording").lines().filter_map(|line| line.trim().strip_prefix("- record: ")) {
        wanted.push(("recording rule".into(), line.to_owned()));
    }
    for line in rules("alert").lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        // What is compared, not whether it is above the limit now.
        let compared = [" > ", " == "].into_iter().find_map(|sign| line.split_once(sign)).unwrap().0;
        wanted.push(("alert".into(), compared.to_owned()));
    }
    assert!(wanted.len() > 40, "{}", wanted.len());
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        wanted.retain(|(_, query)| !has_data(port, query));
        if wanted.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "without data: {wanted:#?}");
        thread::sleep(Duration::from_secs(1));
    }
    let firing =
        ask(port, "query", "ALERTS{alertname=\"BouncescopePoolWasNearlyFull\",alertstate=\"firing\"}").unwrap();
    assert_eq!(firing["data"]["result"].as_array().unwrap().len(), 1, "this pool was full: {firing}");
    let errors = ask(port, "rules", "").unwrap();
    let text = errors.to_string();
    assert!(text.contains("\"health\":\"ok\"") && !text.contains("\"health\":\"err\""), "{text}");
}

#[test]
#[ignore = "needs prometheus (apt-get install prometheus)"]
fn a_leak_wakes_somebody_and_slots_that_were_held_and_returned_do_not() {
    let about_leaks = ["BouncescopeSlotsLeak", "BouncescopePoolFloorRises", "BouncescopeSlotsHeldLong"];
    let firing = |capture: &str, settled: &dyn Fn(&BTreeSet<String>, Duration) -> bool| {
        let dir = tempfile::tempdir().unwrap();
        let (_serving, address) = serve(&[capture]);
        let (_prometheus, port) = prometheus(dir.path(), &address);
        let began = Instant::now();
        loop {
            let answer = ask(port, "query", "ALERTS{alertstate=\"firing\"}");
            let firing: BTreeSet<String> = answer
                .iter()
                .flat_map(|answer| answer["data"]["result"].as_array().unwrap())
                .map(|alert| alert["metric"]["alertname"].as_str().unwrap().to_owned())
                .filter(|name| about_leaks.contains(&name.as_str()))
                .collect();
            if answer.is_some() && settled(&firing, began.elapsed()) {
                return (firing, ask(port, "query", "ALERTS{alertname=\"BouncescopeSlotsLeak\"}").unwrap());
            }
            assert!(began.elapsed() < Duration::from_mins(1), "{capture}: {firing:?}");
            thread::sleep(Duration::from_secs(1));
        }
    };
    let (_, alert) = firing(LEAK, &|firing, _| firing.len() == 2);
    let alert = &alert["data"]["result"][0]["metric"];
    assert_eq!((alert["device"].as_str(), alert["driver"].as_str()), (Some("0000:00:04.0"), Some("xhci_hcd")));
    // As long as the leak would need, and longer; its scrapes have data by then.
    let (none, _) = firing(CAPTURE, &|_, waited| waited > Duration::from_secs(20));
    assert!(none.is_empty(), "{none:?}");
}
