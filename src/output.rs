//! Captures that are written.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use tracer::capture::{self, FileWriter};

/// Makes the file of a capture, readable for its owner alone; one of that name is renamed.
pub(crate) fn create(path: &Path) -> Result<FileWriter> {
    // Not a device such as /dev/null, nor what a link points to.
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        fs::rename(path, &old).with_context(|| format!("cannot rename {} to make room", path.display()))?;
    }
    Ok(capture::create(path)?)
}
