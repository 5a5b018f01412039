//! `cargo xtask dist --check`: an archive is packed as for a release, and read back as its user would.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{ALONG, SHELLS};

/// Pages that must be there, of some that come and go with the commands.
const PAGES: [&str; 2] = ["man/bouncescope.1", "man/bouncescope-record.1"];

/// Unpacks an archive and makes sure that everything is in it, and as its sums say.
pub(super) fn archive(out: &Path, archive: &str) -> Result<()> {
    let name = archive.strip_suffix(".tar.gz").unwrap_or(archive);
    let dir = out.join(name);
    let tar = Command::new("tar").args(["-xzf", archive]).current_dir(out).status().context("cannot run tar")?;
    ensure!(tar.success(), "tar did not unpack {archive}");
    let checked = unpacked(&dir).with_context(|| format!("{archive} is not whole"));
    fs::remove_dir_all(&dir)?;
    checked
}

fn unpacked(dir: &Path) -> Result<()> {
    let sums = fs::read_to_string(dir.join("SHA256SUMS")).context("no SHA256SUMS")?;
    let summed: BTreeSet<_> = sums.lines().filter_map(|line| Some(line.split_once("  ")?.1)).collect();
    let completions = SHELLS.map(|(_, file)| format!("completions/{file}"));
    let wanted = ["bouncescope"].into_iter().chain(ALONG).chain(PAGES).chain(completions.iter().map(String::as_str));
    for file in wanted {
        ensure!(summed.contains(file), "{file} is not in SHA256SUMS");
        let size = fs::metadata(dir.join(file)).with_context(|| format!("no {file}"))?.len();
        ensure!(size > 0, "{file} is empty");
    }
    // Not by the code that wrote them.
    let sha256sum = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(dir)
        .output()
        .context("cannot run sha256sum")?;
    let told = String::from_utf8_lossy(&sha256sum.stdout);
    ensure!(sha256sum.status.success(), "SHA256SUMS tells of other contents: {}", told.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::checksums, *};

    /// A directory as one that is unpacked.
    fn whole() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for below in ["completions", "man"] {
            fs::create_dir(dir.path().join(below)).unwrap();
        }
        let completions = SHELLS.map(|(_, file)| format!("completions/{file}"));
        for file in ["bouncescope"].into_iter().chain(ALONG).chain(PAGES).chain(completions.iter().map(String::as_str))
        {
            fs::write(dir.path().join(file), file).unwrap();
        }
        checksums::write(dir.path(), &checksums::files(dir.path()).unwrap()).unwrap();
        dir
    }

    #[test]
    fn what_is_whole_passes() {
        unpacked(whole().path()).unwrap();
    }

    #[test]
    fn a_missing_completion_is_named() {
        let dir = whole();
        fs::remove_file(dir.path().join("completions/_bouncescope")).unwrap();
        let said = unpacked(dir.path()).unwrap_err().to_string();
        assert!(said.contains("completions/_bouncescope"), "{said}");
    }

    #[test]
    fn an_empty_page_is_named() {
        let dir = whole();
        fs::write(dir.path().join(PAGES[1]), "").unwrap();
        let said = unpacked(dir.path()).unwrap_err().to_string();
        assert!(said.contains(PAGES[1]), "{said}");
    }

    #[test]
    fn a_binary_other_than_the_summed_one_does_not_pass() {
        let dir = whole();
        fs::write(dir.path().join("bouncescope"), "other").unwrap();
        let said = unpacked(dir.path()).unwrap_err().to_string();
        assert!(said.contains("bouncescope: FAILED"), "{said}");
    }
}
