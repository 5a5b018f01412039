//! Two mappings in one cache line at the same time: what replay counts and names, held against what the lab's module maps.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    capture::Reader,
    model::policy::builtin,
    replay::{
        Replayed, Wanted,
        outcome::Rows,
        replay,
        settings::{Settings, WhatIf},
    },
    stream::Start,
};

/// The devices that the module maps for (`xtask/lab/module/overlap.c`).
const DEVICES: [&str; 2] = ["bounce_truth", "bounce_beside"];

/// Overlaps of each round of the module: both buffers for its first device, the later one for its second, and of all those that have bytes in
/// common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Each {
    own: u64,
    other: u64,
    same_bytes: u64,
}

/// Nothing bounces.
const ALL: Each = Each { own: 3, other: 5, same_bytes: 1 };
/// What is short and written does, and lies in slots.
const LONG: Each = Each { own: 0, other: 2, same_bytes: 1 };
/// Of all of them those that a recording has which streams only what is short and written.
const SHORT_AND_WRITTEN: Each = Each { own: 1, other: 2, same_bytes: 0 };
/// Of all of them those that are known to be so in other caches too: the page of what is short and written is known, that of the two in one line of
/// which none is short is not, and the same bytes are the same bytes.
const ALL_ELSEWHERE: Each = Each { own: 3, other: 4, same_bytes: 1 };
/// The same where what is short and written bounces.
const LONG_ELSEWHERE: Each = Each { own: 0, other: 1, same_bytes: 1 };
const NONE: Each = Each { own: 0, other: 0, same_bytes: 0 };

/// What is off, a line each. The module made so many rounds, on a kernel that has a pool or none.
pub(super) fn problems(product: &Path, capture: &Path, rounds: u64, has_pool: bool) -> Result<Vec<String>> {
    let default = capture.with_extension("default.bounce");
    let (real, real_by_default) = if has_pool { (LONG, NONE) } else { (ALL, SHORT_AND_WRITTEN) };
    // With a pool, caches begin at 8 bytes, and without one at a line.
    let with_a_pool = if has_pool { LONG } else { LONG_ELSEWHERE };
    let mut problems = Vec::new();
    let cases = [
        (capture, "--full", [real, ALL_ELSEWHERE, with_a_pool]),
        (&default, "by default", [real_by_default, SHORT_AND_WRITTEN, NONE]),
    ];
    for (capture, how, [real, legacy, mainline]) in cases {
        let replayed = replayed(capture)?;
        let [captured, of_legacy, of_mainline] = &replayed.outcomes[..] else { continue };
        for (whose, rows, each) in [
            ("real", &replayed.observed_rows, real),
            ("captured", &captured.rows, real),
            ("legacy", &of_legacy.rows, legacy),
            ("mainline with a pool", &of_mainline.rows, mainline),
        ] {
            let expected =
                Each { own: each.own * rounds, other: each.other * rounds, same_bytes: each.same_bytes * rounds };
            let counted = counted(rows);
            eprintln!("lab: {}: {how}, {whose}: {counted:?}", capture.display());
            if counted != expected {
                problems.push(format!("{how}, {whose}: {counted:?} overlaps, expected {expected:?}"));
            }
        }
    }
    problems.extend(told(product, capture)?);
    Ok(problems)
}

fn replayed(capture: &Path) -> Result<Replayed> {
    let policy = |name| builtin(name).with_context(|| format!("no policy {name}"));
    let (legacy, mainline) = (policy("legacy")?, policy("mainline")?);
    let wanted = |start: &Start| {
        let kernel = &start.kernel;
        let pool = WhatIf { pool: "512".parse().ok(), ..WhatIf::default() };
        let settings = vec![
            Settings::captured(kernel),
            Settings::what_if(kernel, &legacy, &WhatIf::default()),
            Settings::what_if(kernel, &mainline, &pool),
        ];
        Wanted { settings, overlaps: true, ..Wanted::default() }
    };
    replay(&mut Reader::open(capture)?, wanted).context("cannot replay a capture")
}

/// Those of the module's devices.
fn counted(rows: &Rows) -> Each {
    let mut counted = NONE;
    for row in &rows.overlaps {
        let devices = [row.later.device.as_str(), row.earlier.device.as_str()];
        if devices == [DEVICES[0]; 2] {
            counted.own += row.overlaps;
        } else if devices == [DEVICES[1], DEVICES[0]] {
            counted.other += row.overlaps;
        } else {
            continue;
        }
        counted.same_bytes += if row.same_bytes { row.overlaps } else { 0 };
    }
    counted
}

/// Both devices are named by what people read and what programs read.
fn told(product: &Path, capture: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for arguments in [["replay", "--wide"], ["replay", "--json"], ["report", "--md"]] {
        let output = Command::new(product).args(arguments).arg(capture).output().context("cannot run bouncescope")?;
        ensure!(output.status.code().is_some(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        let text = String::from_utf8_lossy(&output.stdout).replace('\\', "");
        for word in ["overlap"].iter().chain(&DEVICES) {
            if !text.contains(word) {
                problems.push(format!("{arguments:?} does not have {word}"));
            }
        }
    }
    Ok(problems)
}
