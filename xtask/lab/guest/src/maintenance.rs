//! A recording of what cache maintenance takes, brought out as `NAME.bounce`. The lab's module says what it should be, so there is
//! no witness of mappings.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::process;

/// One recording.
const LIMIT: Duration = Duration::from_mins(4);

/// Makes one recording while the module does what its parameters say. The exit code of the recorder.
pub(crate) fn record(name: &str, parameters: &[String], share: &Path) -> Result<i32, String> {
    // The capture is written to memory and copied afterwards, so that the share is idle.
    let capture = format!("/tmp/{name}.bounce");
    let mut command = Command::new("/bin/bouncescope");
    // The kernel counts the programs' own time throughout, so that a probe takes as long at the end as at the beginning.
    command.args(["record", "--time-maintenance", "--mappings", "all", "--count-tracefs", "--count-costs"]);
    command.args(["-o", &capture, "--"]);
    let code = process::run(command.args(["/init", "workload", "maintained"]).args(parameters), LIMIT)?;
    let brought = fs::copy(&capture, share.join(format!("{name}.bounce")));
    brought.map_err(|error| format!("cannot bring {capture} out: {error}"))?;
    if code == 0 { Ok(code) } else { Err(format!("the recorder or the module ended with {code}")) }
}
