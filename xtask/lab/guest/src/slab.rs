//! A recording of allocations with the kernel's own counts of objects, brought out as `NAME.bounce`. Nothing is mapped, so
//! there is no witness of mappings.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::process;

/// Makes one recording: one allocation in `sample` while `workload` runs. The exit code of the recorder.
pub(crate) fn record(name: &str, words: &[String], share: &Path, limit: Duration) -> Result<i32, String> {
    let (sample, workload) = words.split_first().ok_or("no sample named")?;
    // The capture is written to memory and copied afterwards, so that the share's own objects are not in it.
    let capture = format!("/tmp/{name}.bounce");
    let mut command = Command::new("/bin/bouncescope");
    command.args(["record", "--sample", sample, "--shrink-caches", "--ring-size", "64M", "-o", &capture, "--"]);
    let code = process::run(command.args(["/init", "workload"]).args(workload), limit)?;
    fs::copy(&capture, share.join(format!("{name}.bounce")))
        .map_err(|error| format!("cannot bring {capture} out: {error}"))?;
    Ok(code)
}
