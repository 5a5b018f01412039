//! The rounds: what is done to a recorder at work, how it has to end, and what has to be in its capture then.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    capture::{Counted, Totals, told},
    disk::{Slow, Small},
    leaks::{Leaks, Objects},
    process::{Ended, Expected, Tracer},
    storm::Storm,
};
use crate::random::Random;

/// Room of the disk that fills, bytes.
const SMALL: u64 = 4 << 20;
/// What the slow disk takes, bytes a second, until the recorder is to end: a fraction of what is recorded.
const SLOW: u64 = 16 << 10;
/// What the disk that goes takes until then, bytes a second and in all: more than what a capture begins with, so that there are
/// events in it.
const LOST: (u64, u64) = (1 << 20, 256 << 10);
/// The recorder's rings of objects unless told otherwise, by the shortest record in them: of a kfree, with the ring's own header
/// of 8 bytes (`BPF_RINGBUF_HDR_SZ`); and a record taken out of each ring, to see how old it is. The ring of everything else
/// has next to nothing in it while objects are allocated as fast as that goes.
const RING_RECORDS: u64 =
    (8 << 20) / (size_of::<tracer_ebpf::record::Kfree>() as u64 + 8) + tracer_ebpf::ring::OBJECTS.len() as u64 + 1;
/// A ring that is full at once, for rounds that are to lose something.
const SMALL_RING: [&str; 2] = ["-m", "1M"];
/// What resident memory may grow by from the first third of a long recording to the last, bytes.
const GROWTH: u64 = 32 << 20;
/// No recorder has more resident, bytes: the rings, and batches that wait for the disk.
const MEMORY: u64 = 512 << 20;

/// What is done to the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ended by its own duration, after a long time.
    Long,
    /// SIGKILL, once it records.
    Killed,
    /// SIGKILL, while it loads and attaches.
    KilledStarting,
    /// SIGTERM.
    Terminated,
    /// SIGINT, as ^C sends it.
    Interrupted,
    /// SIGSTOP for seconds, then SIGCONT.
    Stopped,
    /// Its disk fills.
    FullDisk,
    /// Its disk is slower than what it records.
    SlowDisk,
    /// Its disk goes.
    LostDisk,
    /// Another recorder beside it, which is killed.
    Two,
    /// `top` and `serve --live` beside it, which are killed.
    Beside,
}

impl Kind {
    /// Every kind.
    pub(super) const ALL: [Self; 11] = [
        Self::Long,
        Self::Killed,
        Self::KilledStarting,
        Self::Terminated,
        Self::Interrupted,
        Self::Stopped,
        Self::FullDisk,
        Self::SlowDisk,
        Self::LostDisk,
        Self::Two,
        Self::Beside,
    ];

    /// As it is shown.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Long => "duration",
            Self::Killed => "sigkill",
            Self::KilledStarting => "sigkill-at-start",
            Self::Terminated => "sigterm",
            Self::Interrupted => "sigint",
            Self::Stopped => "sigstop",
            Self::FullDisk => "full-disk",
            Self::SlowDisk => "slow-disk",
            Self::LostDisk => "lost-disk",
            Self::Two => "two-recorders",
            Self::Beside => "beside-top-serve",
        }
    }
}

/// What came of a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Of the recorder, start and end included.
    pub(super) time: Duration,
    pub(super) totals: Totals,
    /// Most memory resident, bytes.
    pub(super) peak: u64,
    pub(super) problems: Vec<String>,
}

/// Where rounds are made.
pub(super) struct Ground<'a> {
    pub(super) product: &'a Path,
    pub(super) dir: &'a Path,
    pub(super) leaks: &'a Leaks,
    pub(super) random: &'a mut Random,
    /// How long others than the long ones record, ms.
    pub(super) moments: (u64, u64),
    pub(super) long: Duration,
}

impl Ground<'_> {
    /// Makes a round. What is off is in its outcome, as is what kept it from being made.
    pub(super) fn make(&mut self, kind: Kind) -> Outcome {
        let (began, mut outcome, mut objects) = (Instant::now(), Outcome::default(), Objects::default());
        if let Err(error) = self.round(kind, &mut outcome, &mut objects) {
            outcome.problems.push(format!("{error:#}"));
        }
        match self.leaks.left(&objects) {
            Ok(left) => outcome.problems.extend(left),
            Err(error) => outcome.problems.push(format!("{error:#}")),
        }
        outcome.time = began.elapsed();
        outcome
    }

    fn round(&mut self, kind: Kind, outcome: &mut Outcome, objects: &mut Objects) -> Result<()> {
        let path = self.dir.join("round.bounce");
        match kind {
            Kind::Long => {
                let seconds = self.long.as_secs().to_string();
                let storm = Storm::begin()?;
                let mut recorder = self.recorder(&path, &["-d", &seconds])?;
                recorder.wait_for(&path)?;
                objects.extend(&recorder.objects()?);
                let before = storm.allocations();
                thread::sleep(self.long.saturating_sub(Duration::from_secs(1)));
                let allocations = storm.allocations() - before;
                let ended = recorder.wait()?;
                drop(storm);
                outcome.problems.extend(grown(&ended.memory));
                self.whole(&path, &ended, allocations, outcome)
            }
            Kind::Terminated => self.signalled(&path, &[], &[libc::SIGTERM], outcome, objects),
            Kind::Interrupted => self.signalled(&path, &[], &[libc::SIGINT], outcome, objects),
            Kind::Stopped => {
                self.signalled(&path, &SMALL_RING, &[libc::SIGSTOP, libc::SIGCONT, libc::SIGTERM], outcome, objects)?;
                must_lose(outcome);
                Ok(())
            }
            Kind::Killed => {
                let storm = Storm::begin()?;
                let mut recorder = self.recorder(&path, &[])?;
                recorder.wait_for(&path)?;
                objects.extend(&recorder.objects()?);
                self.moment();
                self.kill(recorder, &path, storm, outcome)
            }
            Kind::KilledStarting => {
                let _storm = Storm::begin()?;
                let recorder = self.recorder(&path, &[])?;
                thread::sleep(Duration::from_millis(self.random.below(1500)));
                recorder.signal(libc::SIGKILL)?;
                outcome.problems.extend(recorder.wait()?.problem(Expected::Killed));
                // Not every moment is after the file was made.
                if std::fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
                    outcome.totals = Counted::read(&path)?.totals();
                }
                Ok(())
            }
            Kind::FullDisk => {
                let disk = Small::mount(self.dir.join("small"), SMALL)?;
                let path = disk.dir.join("full.bounce");
                let storm = Storm::begin()?;
                let mut recorder = self.recorder(&path, &[])?;
                recorder.wait_for(&path)?;
                objects.extend(&recorder.objects()?);
                let ended = recorder.wait()?;
                drop(storm);
                self.refused(&path, &ended, "No space left on device", outcome)
            }
            Kind::SlowDisk => {
                let disk = Slow::open(self.dir, SLOW)?;
                let storm = Storm::begin()?;
                let mut recorder = self.recorder(&disk.pipe, &SMALL_RING)?;
                recorder.wait_for(&disk.kept)?;
                objects.extend(&recorder.objects()?);
                let before = storm.allocations();
                self.moment();
                self.moment();
                let allocations = storm.allocations() - before;
                recorder.signal(libc::SIGTERM)?;
                drop(storm);
                disk.recover();
                let ended = recorder.wait()?;
                let kept = disk.close()?;
                self.whole(&kept, &ended, allocations, outcome)?;
                must_lose(outcome);
                Ok(())
            }
            Kind::LostDisk => {
                let (rate, bytes) = LOST;
                let disk = Slow::open(self.dir, rate)?;
                let storm = Storm::begin()?;
                let mut recorder = self.recorder(&disk.pipe, &[])?;
                objects.extend(&recorder.objects()?);
                recorder.wait_for_bytes(&disk.kept, bytes)?;
                disk.fail();
                let ended = recorder.wait()?;
                drop(storm);
                let kept = disk.close()?;
                self.refused(&kept, &ended, "Broken pipe", outcome)
            }
            Kind::Two => {
                let storm = Storm::begin()?;
                let other = self.dir.join("other.bounce");
                let mut recorders = [self.recorder(&path, &[])?, self.recorder(&other, &[])?];
                for (recorder, path) in recorders.iter_mut().zip([&path, &other]) {
                    recorder.wait_for(path)?;
                    objects.extend(&recorder.objects()?);
                }
                let [one, another] = recorders;
                let before = storm.allocations();
                self.moment();
                another.signal(libc::SIGKILL)?;
                let killed_ns = monotonic_ns();
                outcome.problems.extend(another.wait()?.problem(Expected::Killed));
                self.moment();
                let allocations = storm.allocations() - before;
                one.signal(libc::SIGTERM)?;
                let ended = one.wait()?;
                drop(storm);
                self.whole(&path, &ended, allocations, outcome)?;
                self.examine(&other, outcome, |counted| counted.killed(killed_ns, RING_RECORDS))
            }
            Kind::Beside => {
                let storm = Storm::begin()?;
                let mut recorder = self.recorder(&path, &[])?;
                recorder.wait_for(&path)?;
                objects.extend(&recorder.objects()?);
                let before = storm.allocations();
                let mut serve = Command::new(self.product);
                serve.args(["serve", "--live", "--listen", "127.0.0.1:0"]);
                let mut serve = Tracer::begin(serve, &self.dir.join("serve.said"))?;
                let mut top = Command::new("script");
                let product = self.product.display();
                top.args(["-qefc", &format!("exec {product} top"), "/dev/null"]).env("TERM", "xterm-256color");
                let mut top = Tracer::begin(top, &self.dir.join("top.said"))?;
                objects.extend(&serve.objects()?);
                objects.extend(&top.objects()?);
                self.moment();
                serve.signal(libc::SIGKILL)?;
                top.kill_children()?;
                outcome.problems.extend(serve.wait()?.problem(Expected::Killed));
                drop(top);
                self.moment();
                let allocations = storm.allocations() - before;
                recorder.signal(libc::SIGTERM)?;
                let ended = recorder.wait()?;
                drop(storm);
                self.whole(&path, &ended, allocations, outcome)
            }
        }
    }

    /// Records for a while, and sends signals with a while after each but the last, which must end it in order.
    fn signalled(
        &mut self,
        path: &Path,
        arguments: &[&str],
        signals: &[i32],
        outcome: &mut Outcome,
        objects: &mut Objects,
    ) -> Result<()> {
        let storm = Storm::begin()?;
        let mut recorder = self.recorder(path, arguments)?;
        recorder.wait_for(path)?;
        objects.extend(&recorder.objects()?);
        let (before, mut allocations) = (storm.allocations(), 0);
        for signal in signals {
            self.moment();
            allocations = storm.allocations() - before;
            recorder.signal(*signal)?;
        }
        let ended = recorder.wait()?;
        drop(storm);
        self.whole(path, &ended, allocations, outcome)
    }

    fn kill(&mut self, recorder: Tracer, path: &Path, storm: Storm, outcome: &mut Outcome) -> Result<()> {
        recorder.signal(libc::SIGKILL)?;
        let killed_ns = monotonic_ns();
        let ended = recorder.wait()?;
        drop(storm);
        outcome.peak = ended.peak();
        outcome.problems.extend(ended.problem(Expected::Killed));
        self.examine(path, outcome, |counted| counted.killed(killed_ns, RING_RECORDS))
    }

    /// A recording that came to its end.
    fn whole(&self, path: &Path, ended: &Ended, allocations: u64, outcome: &mut Outcome) -> Result<()> {
        outcome.peak = ended.peak();
        if outcome.peak > MEMORY {
            outcome.problems.push(format!("{} MiB resident", outcome.peak >> 20));
        }
        outcome.problems.extend(ended.problem(Expected::Success));
        self.examine(path, outcome, |counted| counted.whole(allocations))
    }

    /// A recording that could not be written any further.
    fn refused(&self, path: &Path, ended: &Ended, why: &'static str, outcome: &mut Outcome) -> Result<()> {
        outcome.peak = ended.peak();
        outcome.problems.extend(ended.problem(Expected::Refused(why)));
        self.examine(path, outcome, Counted::cut)
    }

    fn examine(&self, path: &Path, outcome: &mut Outcome, judge: impl FnOnce(&Counted) -> Vec<String>) -> Result<()> {
        let counted = Counted::read(path)?;
        outcome.totals = outcome.totals.and(counted.totals());
        outcome.problems.extend(judge(&counted));
        outcome.problems.extend(told(self.product, path, &counted)?);
        Ok(())
    }

    /// A recorder of everything.
    fn recorder(&self, path: &Path, arguments: &[&str]) -> Result<Tracer> {
        // A pipe is there already.
        if path.is_file() {
            std::fs::remove_file(path)?;
        }
        let mut command = Command::new(self.product);
        command.args(["record", "--full", "-q", "-o"]).arg(path).args(arguments);
        let name = path.file_stem().unwrap_or_default();
        Tracer::begin(command, &self.dir.join(name).with_extension("said"))
    }

    fn moment(&mut self) {
        thread::sleep(Duration::from_millis(self.random.between(self.moments)));
    }
}

/// A round in which nothing was lost was not what it is for.
fn must_lose(outcome: &mut Outcome) {
    if outcome.totals.lost == 0 {
        outcome.problems.push("nothing was lost, which was to be forced".to_owned());
    }
}

/// Whether memory grew from the first third to the last.
fn grown(memory: &[u64]) -> Option<String> {
    let third = memory.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let (first, last) = (most(&memory[..third]), most(&memory[memory.len() - third..]));
    (last > first + GROWTH).then(|| format!("memory grew from {} to {} MiB", first >> 20, last >> 20))
}

fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid clock, and a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_beyond_the_bound_is_a_problem() {
        let flat = [50 << 20, 60 << 20, 55 << 20, 61 << 20, 40 << 20, 70 << 20];
        assert_eq!(grown(&flat), None);
        let growing = [50 << 20, 60 << 20, 70 << 20, 80 << 20, 90 << 20, 100 << 20];
        assert_eq!(grown(&growing).unwrap(), "memory grew from 60 to 100 MiB");
    }

    #[test]
    fn a_round_meant_to_lose_must() {
        let mut outcome = Outcome::default();
        must_lose(&mut outcome);
        assert_eq!(outcome.problems.len(), 1);
    }
}
