//! Boots a scenario and judges each of its recordings: the kernel's own counts, the workload's own view, the capture, and what
//! the product says of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    beside,
    boot::Boot,
    boot_trace, default_mode, doctor, flight, from_boot, holders,
    kernel::Kernel,
    losses, mappings, origins, overlaps,
    recording::{self, Job},
    restricted,
    run::Run,
    scenario::{NO_POOL, Recorder, Recording, Scenario},
    served,
    table::Row,
    text_trace,
    verdict::{self, Verified},
    verify::verify,
    witness::Witness,
};

/// Boots one scenario and judges its recordings, a row each, whatever happens.
pub(crate) fn booted(run: &Run, product: Option<&Path>, job: Job) -> Vec<Row> {
    let (kernel, _, scenario) = job;
    let dir = run.out.join(format!("{}-{}", kernel.series, scenario.name));
    let booted = recording::boot(run, job, &dir);
    let boot = booted.unwrap_or_else(|error| Boot { troubles: vec![format!("{error:#}")], ..Boot::default() });
    eprintln!("lab: {} {}: {:.0} s", kernel.series, scenario.name, boot.seconds);
    let judge = Judge { run, product, kernel, scenario, share: dir.join("share"), boot: &boot };
    let doctor = scenario.has_doctor(run.bare).then(|| judge.doctor());
    scenario.recordings.iter().map(|recording| judge.recording(recording)).chain(doctor).collect()
}

/// A boot that is over, and what its recordings are compared with.
struct Judge<'a> {
    run: &'a Run,
    /// The product on this machine; `None` when nothing was recorded.
    product: Option<&'a Path>,
    kernel: &'a Kernel,
    scenario: &'a Scenario,
    /// What the guest left.
    share: PathBuf,
    boot: &'a Boot,
}

impl Judge<'_> {
    /// The row of `doctor`'s page. What went wrong with the boot stands in the recordings' rows.
    fn doctor(&self) -> Row {
        let Self { run, kernel, scenario, share, .. } = self;
        let mut row = doctor::judge(&kernel.series, kernel.version(), scenario.name, share, &run.out);
        if !self.is_made(doctor::NAME) {
            row.problems.push("was not made".into());
        }
        row
    }

    fn is_made(&self, name: &str) -> bool {
        self.boot.done.iter().any(|done| done == name)
    }

    /// One recording's row.
    fn recording(&self, recording: &Recording) -> Row {
        let (mut witness, mut verified) = (Witness::default(), None);
        let mut problems = self.boot.troubles.clone();
        if self.is_made(recording.name) && self.scenario.recorder == Recorder::FailingAtBoot {
            let found = from_boot::problems_of_failure(&self.share, recording.name);
            problems.extend(found.unwrap_or_else(|error| vec![format!("{error:#}")]));
        } else if self.is_made(recording.name) {
            let compared = Witness::read(&self.share, recording.name).and_then(|read| {
                witness = read;
                let (found, told) = self.compared(recording, &witness)?;
                problems.extend(found);
                verified = told;
                Ok(())
            });
            problems.extend(compared.err().map(|error| format!("{error:#}")));
        } else {
            problems.push("was not made".into());
        }
        Row { cells: cells(self.kernel, self.scenario, recording, verified.as_ref(), &witness), problems }
    }

    /// What is off about a recording that was made, and what `verify` says of it.
    fn compared(&self, recording: &Recording, witness: &Witness) -> Result<(Vec<String>, Option<Verified>)> {
        let Self { kernel, scenario, .. } = *self;
        let capture = self.share.join(format!("{}.bounce", recording.name));
        if let (Some(forced), Some(product)) = (losses::forced(scenario.recorder), self.product) {
            // With so much lost, what a recording is to show otherwise cannot be seen.
            let mut problems = losses::problems(product, &capture, forced)?;
            let told = verify(product, &capture)?;
            problems.extend(losses::mistaken(&told, witness));
            return Ok((problems, Some(told)));
        }
        let expect = scenario.expect(recording, kernel.bounces_small()?);
        let mut problems = verdict::kernel_side(expect, witness);
        let Some(product) = self.product else { return Ok((problems, None)) };
        // Kernels before 6.5 do not care for lines.
        if kernel.bounces_small()? {
            problems.extend(recording::other_lines(&capture, scenario.lines)?);
        }
        if let Some(captures) = &self.run.captures {
            keep_capture(&capture, captures, &format!("{}-{}-{}", kernel.series, scenario.name, recording.name))?;
        }
        let told = verify(product, &capture)?;
        let by_device = witness.by_buffer.keys().any(|(device, ..)| !device.is_empty());
        let counted_ns = witness.time_ns()?;
        let mut recorded = mappings::in_capture(&capture, &counted_ns, by_device)?;
        if kernel.version() < (5, 16) {
            // Where a probed function returns to is not on their stacks.
            recorded.without_caller = 0;
        }
        if scenario.recorder == Recorder::WithBootTrace {
            // The kernel's own trace does not say who maps a list.
            recorded.without_caller = boot_trace::without_caller(&capture, &counted_ns)?;
        }
        problems.extend(verdict::product_side(expect, &told, &recorded, witness));
        if scenario.restricted_pools > 0 {
            let rebinds = recording.workload == "mixed";
            problems.extend(restricted::problems(&capture, &told, scenario.restricted_pools, rebinds)?);
        }
        if scenario.recorder == Recorder::BesideServe {
            problems.extend(served::problems(&capture, &counted_ns)?);
        }
        if scenario.recorder == Recorder::Flight {
            problems.extend(flight::problems(product, &capture)?);
        }
        if scenario.recorder == Recorder::FromBoot {
            problems.extend(from_boot::problems(&capture, &witness.facts, told.skipped.mappings)?);
        }
        if scenario.recorder == Recorder::WithBootTrace {
            problems.extend(boot_trace::problems(&capture, &witness.facts, &counted_ns)?);
        }
        // Without BTF nothing is looked up, and what the kernel itself traced says nothing of it.
        if recording.workload == "mixed" && scenario.btf && scenario.recorder != Recorder::WithBootTrace {
            problems.extend(origins::problems(&capture)?);
        }
        // Where nothing bounces, nobody holds a slot, and none leaks.
        if expect.bounces {
            let mut facts = witness.facts.clone();
            if scenario.restricted_pools > 0 {
                // Counted of the default pool, which nobody uses here.
                facts.remove(holders::USED);
            }
            problems.extend(holders::problems(product, &capture, recording.workload, &facts)?);
        }
        let has_events = kernel.version() >= (6, 12);
        // The kernel's own trace has at most 128 segments of a list.
        let is_traced = scenario.board.is_none() && has_events && !recording.maps_lists();
        if scenario.recorder == Recorder::Usual && is_traced {
            problems.extend(text_trace::problems(&capture, &counted_ns)?);
            if recording.workload == "mixed" {
                problems.extend(default_mode::problems(product, &capture)?);
            }
        }
        if let Some(rounds) = recording.overlaps() {
            problems.extend(beside::problems(product, &capture, rounds, scenario.pool != NO_POOL)?);
        }
        if recording.maps_lists() {
            problems.extend(verdict::lists_side(&told, recorded.registers, scenario.smmu));
        }
        if expect.raced_percent > 0 && scenario.restricted_pools == 0 {
            problems.extend(overlaps::problems(&capture, scenario.cpus)?);
        }
        problems.extend(mappings::differences(&recorded.by_buffer, &witness.by_buffer, told.skipped.mappings));
        Ok((problems, Some(Verified { bounced_recorded: recorded.bounced, ..told })))
    }
}

fn cells(
    kernel: &Kernel,
    scenario: &Scenario,
    recording: &Recording,
    verified: Option<&Verified>,
    witness: &Witness,
) -> Vec<String> {
    let told =
        |tell: fn(&Verified) -> u64| verified.map_or_else(|| "-".to_owned(), |verified| tell(verified).to_string());
    let fact = |key: &str| witness.facts.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    let hiwater =
        || verified.and_then(|one| one.peak_slots.1).map_or_else(|| fact("hiwater"), |slots| slots.to_string());
    let mappings = (witness.maps + witness.lists).to_string();
    let refused = verified.map_or_else(|| fact("refused"), |one| one.failed.1.to_string());
    vec![
        kernel.series.clone(),
        scenario.name.to_owned(),
        recording.name.to_owned(),
        verified.map_or(mappings, |verified| verified.mappings.to_string()),
        told(|one| one.agreements),
        told(|one| one.disagreements),
        told(|one| one.unknown),
        told(|one| one.raced),
        format!("{}/{}", told(|one| one.peak_slots.0), hiwater()),
        format!("{}/{refused}", told(|one| one.failed.0)),
        format!("{}/{}", told(|one| one.bounced_recorded), witness.bounced),
        verified.map_or_else(
            || "-".to_owned(),
            |Verified { lists, .. }| format!("{}/{}/{}", lists.compared, lists.mixed, lists.disagreements),
        ),
        fact("seconds"),
    ]
}

fn keep_capture(capture: &Path, dir: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    let kept = dir.join(format!("{name}.bounce"));
    fs::copy(capture, &kept).with_context(|| format!("cannot copy {} to {}", capture.display(), kept.display()))?;
    Ok(())
}
