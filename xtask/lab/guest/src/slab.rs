//! A recording of allocations with the kernel's own counts of objects, brought out as `NAME.bounce`. Nothing is mapped, so
//! there is no witness of mappings.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{btf, from_boot, process, workload};

/// Makes one recording: one allocation in `sample` while `workload` runs. The exit code of the recorder.
pub(crate) fn record(name: &str, words: &[String], share: &Path, limit: Duration) -> Result<i32, String> {
    let (sample, workload) = words.split_first().ok_or("no sample named")?;
    before(workload, limit)?;
    // The capture is written to memory and copied afterwards, so that the share's own objects are not in it.
    let capture = format!("/tmp/{name}.bounce");
    let mut command = Command::new("/bin/bouncescope");
    command.args(["record", "--sample", sample, "--shrink-caches", "--ring-size", "64M", "-o", &capture]);
    command.args(btf::options()).arg("--");
    let code = process::run(command.args(["/init", "workload"]).args(workload), limit)?;
    bring_out(&capture, name, share)?;
    ended_well(code)
}

/// Ends a recording that was begun at boot when `workload` has run. The exit code of either.
pub(crate) fn finish(name: &str, workload: &[String], share: &Path, limit: Duration) -> Result<i32, String> {
    let capture = format!("/tmp/{name}.bounce");
    before(workload, limit)?;
    let code = process::run(Command::new("/init").arg("workload").args(workload), limit)?;
    let code = code.max(from_boot::finish(&capture)?);
    from_boot::save_log(share, name)?;
    bring_out(&capture, name, share)?;
    ended_well(code)
}

/// What the machine holds when a recording begins.
fn before(workload: &[String], limit: Duration) -> Result<(), String> {
    if workload.first().is_none_or(|name| name != workload::LIVED_IN) {
        return Ok(());
    }
    let mut command = Command::new("/init");
    ended_well(process::run(command.args(["workload", workload::LIVED_IN, workload::BEFORE]), limit)?).map(drop)
}

fn ended_well(code: i32) -> Result<i32, String> {
    if code == 0 { Ok(code) } else { Err(format!("the recorder or the workload ended with {code}")) }
}

fn bring_out(capture: &str, name: &str, share: &Path) -> Result<(), String> {
    let brought = fs::copy(capture, share.join(format!("{name}.bounce")));
    brought.map(drop).map_err(|error| format!("cannot bring {capture} out: {error}"))
}
