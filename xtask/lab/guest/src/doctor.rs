//! The product's `doctor` in the guest, as text and as JSON, onto the share; and a small recording, of which the same page can be
//! made anywhere.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::Duration,
};

use crate::{btf, process};

/// The self-test takes seconds; under emulation the verifier of a kernel before 6.12 half a minute and more.
const LIMIT: Duration = Duration::from_mins(3);

/// What is recorded: mappings that are held.
const WORKLOAD: [&str; 5] = ["--", "/init", "workload", "hold", "100"];

/// Leaves `NAME.txt`, `NAME.json` and `NAME.bounce` on the share. The exit code of the first that is not 0.
pub(crate) fn make(name: &str, arguments: &[String], share: &Path) -> Result<i32, String> {
    let mut code = 0;
    for (suffix, format) in [("txt", None), ("json", Some("--json"))] {
        let path = share.join(format!("{name}.{suffix}"));
        let file = File::create(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        let mut command = Command::new("/bin/bouncescope");
        let ended =
            process::run(command.arg("doctor").args(arguments).args(btf::options()).args(format).stdout(file), LIMIT)?;
        code = if code == 0 { ended } else { code };
    }
    // To memory first: the share's own traffic is not to be in it.
    let (made, kept) = (format!("/tmp/{name}.bounce"), share.join(format!("{name}.bounce")));
    let mut command = Command::new("/bin/bouncescope");
    let ended = process::run(command.args(["record", "-q", "-o", &made]).args(btf::options()).args(WORKLOAD), LIMIT)?;
    fs::copy(&made, &kept).map_err(|error| format!("cannot bring {made} out: {error}"))?;
    Ok(if code == 0 { ended } else { code })
}
