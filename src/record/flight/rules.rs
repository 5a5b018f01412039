//! `--on-rule`: rules of `check`, judged over what the flight recorder keeps. A file is cut out of it as for any other cause, but in
//! memory, and is replayed and judged as `check` would.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tracer::{
    capture::{Reader, Writer},
    check::{End, Rule, Rules, Selector, Verdict, judge},
    live::thread_cpu_ns,
    replay::{Replayed, Wanted, figures::Figure, replay},
    report::check::one_line,
};

use super::{
    triggers::worded,
    window::{Request, Window},
};
use crate::{check::read_rules, input::warn};

/// From the end of one judgement to the beginning of the next, at the least.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// Judging takes at most one part in so many of a CPU: the next waits for so many times the CPU time that the last one took.
pub(super) const SHARE: u32 = 20;

/// Rules from a file of `check`, for a recorder that keeps `last` and records one allocation in `sample`. Those that it could never judge
/// are refused.
pub(super) fn read(path: &Path, last: Duration, sample: u64) -> Result<Rules> {
    let rules = read_rules(path)?;
    for rule in &rules.rules {
        if let Some(why) = refusal(rule, last, sample) {
            bail!("--on-rule {}: {}: {why}", path.display(), worded(&rule.name));
        }
    }
    if rules.packs() {
        bail!(
            "--on-rule {}: a policy packs the call sites that a whole recording never maps: judge it with check",
            path.display()
        );
    }
    Ok(rules)
}

/// Why a running recorder cannot judge this.
fn refusal(rule: &Rule, last: Duration, sample: u64) -> Option<String> {
    let last_s = last.as_secs_f64();
    let by_site = matches!(rule.selector, Selector::CallSite(_));
    let is_beyond = |min: Option<End>, max: Option<End>| {
        let fixed = |end| if let Some(End::Fixed(seconds)) = end { Some(seconds) } else { None };
        fixed(max).is_some_and(|max| max >= last_s) || fixed(min).is_some_and(|min| min > last_s)
    };
    match rule.figure {
        _ if rule.limit.is_relative() => {
            Some("a limit that compares with a capture before: give it as a number".to_owned())
        }
        Figure::CacheMaintenancePercent => {
            Some("it needs --time-maintenance, which cannot be combined with --last".to_owned())
        }
        Figure::HeldSeconds | Figure::SecondsAbove80Percent if is_beyond(rule.limit.min, rule.limit.max) => {
            Some(format!("the limit is out of reach: only the last {last_s} s are kept (--last)"))
        }
        figure if sample == 0 && (by_site || figure.is_about_neighbours()) => {
            Some("it needs allocations, and --sample 0 records none".to_owned())
        }
        _ => None,
    }
}

/// A rule that has broken.
#[derive(Debug)]
pub(super) struct Broke {
    /// The end of what was judged, ns of the recording's clock.
    pub(super) end_ns: u64,
    /// Which rule, in words.
    pub(super) reason: String,
}

/// Which rules are broken.
#[derive(Debug)]
struct Judge {
    rules: Rules,
    broken: Vec<bool>,
}

impl Judge {
    fn new(rules: Rules) -> Self {
        let broken = vec![false; rules.rules.len()];
        Self { rules, broken }
    }

    /// Judges a window. Rules that it breaks and that held before, in words; a rule that cannot be told stays what it was.
    fn judge(&mut self, window: Window, from_ns: u64) -> Result<Vec<Broke>> {
        let mut file = Writer::new(Vec::new())?;
        let end_ns = window.write(&Request { from_ns, ..Request::default() }, &mut file)?.end_ns;
        let file = file.into_inner()?;
        let wanted = |start: &tracer::stream::Start| Wanted {
            settings: self.rules.settings(&start.kernel, &Arc::default()),
            verdict: true,
            overlaps: self.rules.look_at_overlaps(),
            holders: true,
            ..Wanted::default()
        };
        let replayed = replay(&mut Reader::new(&file[..])?, wanted)?;
        drop(file);
        Ok(self.newly_broken(&replayed).into_iter().map(|reason| Broke { end_ns, reason }).collect())
    }

    fn newly_broken(&mut self, replayed: &Replayed) -> Vec<String> {
        let judgements = judge(&self.rules, "", replayed);
        let mut reasons = Vec::new();
        for (rule, broken) in self.rules.rules.iter().zip(&mut self.broken) {
            let of_rule = || judgements.iter().filter(|judgement| std::ptr::eq(judgement.rule, rule));
            let first = of_rule().find(|judgement| judgement.verdict == Verdict::Broken);
            match first {
                Some(first) if !*broken => {
                    reasons.push(format!("a broken rule: {}", worded(&one_line(first))));
                    *broken = true;
                }
                Some(_) => {}
                None => *broken &= !of_rule().all(|judgement| judgement.verdict == Verdict::Kept),
            }
        }
        reasons
    }
}

/// What the judging thread and others share.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// A window is being judged.
    is_judging: AtomicBool,
    /// Windows that were judged.
    pub(super) count: AtomicU64,
    /// CPU time that they took, ns.
    pub(super) cpu_ns: AtomicU64,
    latest_cpu_ns: AtomicU64,
}

/// The thread that judges, from the side of what is kept.
pub(super) struct Judging {
    work: Option<SyncSender<(Window, u64)>>,
    thread: Option<JoinHandle<()>>,
    judged: Arc<Judged>,
    pace: Pace,
}

impl Judging {
    /// A thread with the privileges of this one, which says what breaks.
    pub(super) fn start(rules: Rules, broke: Sender<Broke>, judged: Arc<Judged>) -> Result<Self> {
        let (work, windows) = sync_channel(1);
        let shared = Arc::clone(&judged);
        let run = move || run(Judge::new(rules), &windows, &broke, &shared);
        let thread = thread::Builder::new().name("flight-rules".into()).spawn(run)?;
        Ok(Self { work: Some(work), thread: Some(thread), judged, pace: Pace::default() })
    }

    /// It may be time to judge again.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_judging = self.judged.is_judging.load(Ordering::Acquire);
        let cpu = Duration::from_nanos(self.judged.latest_cpu_ns.load(Ordering::Relaxed));
        self.work.is_some() && self.pace.is_due(now, is_judging, cpu)
    }

    /// Judges this, which begins there.
    pub(super) fn judge(&mut self, window: Window, from_ns: u64) {
        self.judged.is_judging.store(true, Ordering::Release);
        // The thread waits: none is sent while one is judged.
        let is_sent = self.work.as_ref().is_some_and(|work| work.try_send((window, from_ns)).is_ok());
        if !is_sent {
            self.work = None;
            warn("rules are no longer judged; the recording goes on: the thread that judges them has failed");
        }
    }
}

impl Drop for Judging {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn run(mut judge: Judge, windows: &Receiver<(Window, u64)>, broke: &Sender<Broke>, judged: &Judged) {
    for (window, from_ns) in windows {
        let began_ns = thread_cpu_ns();
        // One that could not be cut is followed by others.
        if let Ok(broken) = judge.judge(window, from_ns) {
            for one in broken {
                broke.send(one).ok();
            }
            judged.count.fetch_add(1, Ordering::Relaxed);
        }
        let spent_ns = thread_cpu_ns().saturating_sub(began_ns);
        judged.cpu_ns.fetch_add(spent_ns, Ordering::Relaxed);
        judged.latest_cpu_ns.store(spent_ns, Ordering::Relaxed);
        judged.is_judging.store(false, Ordering::Release);
    }
}

/// Decides when to judge again.
#[derive(Debug, Default)]
struct Pace {
    /// When the last judgement was seen to have ended; `None` while one goes on.
    ended: Option<Instant>,
}

impl Pace {
    fn is_due(&mut self, now: Instant, is_judging: bool, cpu: Duration) -> bool {
        if is_judging {
            self.ended = None;
            return false;
        }
        let ended = *self.ended.get_or_insert(now);
        let pause = if cpu.is_zero() { Duration::ZERO } else { EVERY.max(cpu * SHARE) };
        let is_due = now.duration_since(ended) >= pause;
        if is_due {
            // It may be over before anybody looks again.
            self.ended = None;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::{HOLD, play};
    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::from_toml(text, |_| Err(String::new())).unwrap()
    }

    /// What breaks while a recording is made, of which the last 1.6 s are judged at every reading of the counters.
    fn reasons(judge: &mut Judge) -> Vec<String> {
        let mut reasons = Vec::new();
        let last = Duration::from_millis(1600);
        play(HOLD, last, u64::MAX, |ring, now_ns| {
            let from_ns = now_ns.saturating_sub(last.as_nanos() as u64);
            let broke = judge.judge(Window::new(ring.kept(), from_ns), from_ns).unwrap_or_default();
            assert!(broke.iter().all(|one| one.end_ns <= now_ns));
            reasons.extend(broke.into_iter().map(|one| one.reason));
        });
        reasons
    }

    #[test]
    fn a_rule_that_stays_broken_is_a_reason_once_until_it_has_held_again() {
        let mut judge = Judge::new(rules("[[rule]]\nname = \"none refused\"\nfigure = \"failed\"\nmax = 0"));
        let first = reasons(&mut judge);
        assert_eq!(first, ["a broken rule: none refused: 44, limit <= 0"]);
        assert!(!judge.broken[0], "the refusals are in no window at the end");
        assert_eq!(reasons(&mut judge), first, "it breaks again");
    }

    #[test]
    fn a_rule_that_cannot_be_told_is_no_reason_and_stays_what_it_was() {
        let mut judge = Judge::new(rules("[[rule]]\ndevice = \"absent\"\nfigure = \"bounces\"\nmax = 0"));
        judge.broken[0] = true;
        assert_eq!(reasons(&mut judge), [""; 0]);
        assert!(judge.broken[0]);
    }

    #[test]
    fn a_rule_about_another_pool_is_judged_too() {
        let text = "[[rule]]\nname = \"4M\"\nfigure = \"peak-slots\"\nmax = 100\nwhat-if = { swiotlb = \"4M\" }";
        let said = reasons(&mut Judge::new(rules(text))).join("\n");
        assert!(said.starts_with("a broken rule: 4M [mainline, pool 4M]: "), "{said}");
    }

    #[test]
    fn rules_that_a_recorder_can_never_judge_are_refused_with_their_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules.toml");
        let read = |rule: &str, sample| {
            std::fs::write(&file, format!("[[rule]]\nname = \"mine\"\n{rule}\n")).unwrap();
            read(&file, Duration::from_mins(1), sample)
        };
        for (rule, sample, why) in [
            ("figure = \"failed\"\nmax = \"before\"", 64, "compares with a capture before"),
            ("figure = \"cache-maintenance-percent\"\nmax = 1", 64, "--time-maintenance"),
            ("figure = \"held-seconds\"\nmax = 60", 64, "the last 60 s"),
            ("figure = \"seconds-above-80-percent\"\nmin = 61", 64, "the last 60 s"),
            ("figure = \"hazards-foreign\"\nmax = 0", 0, "--sample 0"),
            ("figure = \"bounces\"\ncall-site = \"x\"\nmax = 0", 0, "--sample 0"),
            ("figure = \"bounces\"\nmax = 0\nwhat-if = { policy = \"packed\" }", 64, "packs the call sites"),
        ] {
            let said = format!("{:#}", read(rule, sample).unwrap_err());
            assert!(said.contains(why) && said.lines().count() == 1, "{said}");
        }
        for rule in ["figure = \"held-seconds\"\nmax = 59", "figure = \"hazards-foreign\"\nmax = 0"] {
            assert_eq!(read(rule, 64).unwrap().rules.len(), 1);
        }
        assert!(format!("{:#}", read("figure = \"no-such\"\nmax = 0", 64).unwrap_err()).contains("no-such"));
    }

    #[test]
    fn judging_takes_at_most_its_share_of_a_cpu_and_comes_at_most_every_ten_seconds() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert!(pace.is_due(now, false, Duration::ZERO), "at once the first time");
        assert!(!pace.is_due(now, true, Duration::ZERO));
        let mut due_after = |cpu| {
            assert!(!pace.is_due(now, true, cpu));
            (0..1000).find(|second| pace.is_due(now + Duration::from_secs(*second), false, cpu))
        };
        assert_eq!(due_after(Duration::from_millis(50)), Some(10));
        let quick = Duration::from_millis(1);
        let due = (0..65).filter(|second| pace.is_due(now + Duration::from_secs(11 + second), false, quick));
        assert_eq!(due.collect::<Vec<_>>(), [10, 21, 32, 43, 54], "though none was seen to go on");
        let mut due_after = |cpu| {
            assert!(!pace.is_due(now, true, cpu));
            (0..1000).find(|second| pace.is_due(now + Duration::from_secs(*second), false, cpu))
        };
        assert_eq!(due_after(Duration::from_secs(3)), Some(60));
    }
}
