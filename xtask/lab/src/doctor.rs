//! Whether the page that `bouncescope doctor` made in a guest says what is so there. Pure but for reading it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::table::Row;

/// The scenario at whose end it runs.
pub(super) const SCENARIO: &str = "direct";
/// Name of its files on the share, and of its row.
pub(super) const NAME: &str = "doctor";
/// What init is told: in the workload's place the product's arguments.
pub(super) const SCRIPT: &str = "doctor doctor --seconds 8\n";
/// Hooks that must have fired: reading from the guest's disks makes the kernel map and bounce.
const MUST_FIRE: [&str; 8] = ["slot_map", "slot_unmap", "bounced", "unmap", "unmap_sg", "map", "map_sg", "kmalloc"];
/// Those that must have on kernels that bounce nothing small, and so have no pool on this machine.
const MUST_FIRE_WITHOUT_POOL: [&str; 6] = ["unmap", "unmap_sg", "map", "map_sg", "kmalloc", "kfree"];

/// Judges the page of a guest of the given kernel, and keeps it in `out` as `KERNEL-SCENARIO.doctor.txt` and `.json`, and
/// the small recording that goes with it.
pub(super) fn judge(kernel: &str, version: (u32, u32), scenario: &str, share: &Path, out: &Path) -> Row {
    let problems = keep(&format!("{kernel}-{scenario}"), share, out)
        .map_or_else(|error| vec![format!("{error:#}")], |json| problems(&json, version));
    let cells = [kernel, scenario, NAME].into_iter().chain(["-"; 10]).map(str::to_owned).collect();
    Row { cells, problems }
}

fn keep(kept_as: &str, share: &Path, out: &Path) -> Result<Value> {
    for suffix in ["txt", "json", "bounce"] {
        let page = share.join(format!("{NAME}.{suffix}"));
        let kept = out.join(format!("{kept_as}.doctor.{suffix}"));
        fs::copy(&page, &kept).with_context(|| format!("cannot copy {} to {}", page.display(), kept.display()))?;
    }
    let json = fs::read_to_string(share.join(format!("{NAME}.json")))?;
    serde_json::from_str(&json).context("doctor printed no JSON")
}

/// What the page says that is not so, on a machine of 1 GiB with lines of 64 bytes whose devices are not coherent.
fn problems(page: &Value, version: (u32, u32)) -> Vec<String> {
    let mut problems = Vec::new();
    let mut expect = |what: &str, said: &Value, right: Value| {
        if *said != right {
            problems.push(format!("doctor says {what} {said}, it is {right}"));
        }
    };
    let kernel = &page["kernel"];
    let bounces = version >= (6, 5);
    expect("tracing works", &page["can_trace"], true.into());
    expect("lines of", &kernel["cache_line_size"], 64.into());
    expect("kmalloc from", &kernel["kmalloc_minalign"], if bounces { 8.into() } else { 128.into() });
    let lengths = if bounces { serde_json::json!([[1, 32], [65, 96]]) } else { serde_json::json!([]) };
    expect("that these lengths bounce:", &page["today"]["lengths"], lengths);
    if version >= (6, 7) {
        expect("slots", &kernel["pool"]["slots"], 512.into());
    }
    let must_fire = if bounces { &MUST_FIRE[..] } else { &MUST_FIRE_WITHOUT_POOL[..] };
    let hooks = page["hooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    for subject in must_fire {
        let fired = hooks.iter().find(|hook| hook["subject"] == *subject).and_then(|hook| hook["fired"].as_u64());
        if fired.unwrap_or(0) == 0 {
            problems.push(format!("doctor did not see hook {subject} fire"));
        }
    }
    if page["devices"].as_array().is_none_or(Vec::is_empty) {
        problems.push("doctor saw no device".into());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Value {
        let hook = |subject: &&str| serde_json::json!({ "subject": subject, "fired": 1 });
        serde_json::json!({
            "can_trace": true,
            "kernel": { "cache_line_size": 64, "kmalloc_minalign": 8, "pool": { "slots": 512 } },
            "today": { "lengths": [[1, 32], [65, 96]] },
            "hooks": MUST_FIRE.iter().map(hook).collect::<Vec<_>>(),
            "devices": [{}],
        })
    }

    #[test]
    fn a_right_page_has_no_problem() {
        assert_eq!(problems(&page(), (6, 12)), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_fact_is_a_problem() {
        for (pointer, wrong) in [
            ("/can_trace", Value::from(false)),
            ("/kernel/cache_line_size", 128.into()),
            ("/kernel/kmalloc_minalign", 64.into()),
            ("/kernel/pool/slots", 256.into()),
            ("/today/lengths", serde_json::json!([])),
            ("/hooks/0/fired", 0.into()),
            ("/hooks/7/fired", Value::Null),
            ("/devices", serde_json::json!([])),
        ] {
            let mut page = page();
            *page.pointer_mut(pointer).unwrap() = wrong;
            assert_eq!(problems(&page, (6, 12)).len(), 1, "{pointer}");
        }
    }

    #[test]
    fn an_empty_page_is_all_problems_and_no_panic() {
        assert!(problems(&Value::Null, (5, 10)).len() >= 4);
    }
}
