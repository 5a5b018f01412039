//! Getting files from a Debian mirror into the cache: through `curl` or `wget`, checked against the index's SHA256.
//!
//! `BOUNCESCOPE_DEBIAN_MIRROR` names the mirror; otherwise it is the first one in apt's sources, otherwise deb.debian.org.
//! The index itself is trusted as it comes: what is fetched runs in a virtual machine only.

use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::packages;

/// Suites in which kernels are looked for, in this order: the first that has a series is taken.
pub(super) const SUITES: [&str; 6] =
    ["trixie", "trixie-backports", "bookworm", "bookworm-backports", "bullseye", "sid"];
/// How old an index may be before it is asked for again.
const INDEX_AGE: Duration = Duration::from_hours(24);

/// The mirror's address, without a slash at its end.
pub(super) fn mirror() -> String {
    let address = env::var("BOUNCESCOPE_DEBIAN_MIRROR").ok().or_else(|| {
        let listed = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<_> = listed.chain([PathBuf::from("/etc/apt/sources.list")]).collect();
        files.sort();
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| mirror_in(&text))
    });
    address.as_deref().unwrap_or("http://deb.debian.org/debian").trim_end_matches('/').to_owned()
}

/// The first http address of an apt source, in either format, whose path is `debian`.
fn mirror_in(sources: &str) -> Option<String> {
    sources
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

/// The `Packages` of a suite for one of Debian's architectures, from the cache when it is fresh enough (or when the mirror
/// cannot be reached).
pub(super) fn packages_index(cache: &Path, suite: &str, architecture: &str) -> Result<String> {
    index(cache, suite, architecture, INDEX_AGE)
}

/// As [`packages_index`], but not one from before a package came: indices are not all of one age.
pub(super) fn packages_index_with(cache: &Path, suite: &str, architecture: &str, package: &str) -> Result<String> {
    let kept = packages_index(cache, suite, architecture)?;
    if packages::named(&kept, package).is_some() {
        return Ok(kept);
    }
    index(cache, suite, architecture, Duration::ZERO)
}

fn index(cache: &Path, suite: &str, architecture: &str, oldest: Duration) -> Result<String> {
    let name = if architecture == "arm64" { suite.to_owned() } else { format!("{suite}-{architecture}") };
    let file = cache.join("index").join(format!("{name}.Packages.xz"));
    let age = fs::metadata(&file).and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
    if age.is_none_or(|age| age > oldest) {
        let url = format!("{}/dists/{suite}/main/binary-{architecture}/Packages.xz", mirror());
        if let Err(error) = download(&url, &file) {
            ensure!(file.is_file(), error);
            eprintln!("lab: {error:#}; going on with the index in the cache");
        }
    }
    let text = output(Command::new("xz").arg("-dc").arg(&file))?;
    String::from_utf8(text).with_context(|| format!("{} is not text", file.display()))
}

/// Fetches `path` of the mirror into `dir` unless it is there with the right sum already.
pub(super) fn fetch(dir: &Path, path: &str, sha256: &str) -> Result<PathBuf> {
    let file = dir.join(path.rsplit('/').next().unwrap_or(path));
    if !file.is_file() || sum(&file)? != sha256 {
        eprintln!("lab: fetching {path}");
        download(&format!("{}/{path}", mirror()), &file)?;
        let found = sum(&file)?;
        if found != sha256 {
            fs::remove_file(&file)?;
            bail!("{path}: SHA256 is {found}, the index says {sha256}");
        }
    }
    Ok(file)
}

/// Downloads next to `file` and renames, so that what is there is whole.
fn download(url: &str, file: &Path) -> Result<()> {
    let part = file.with_added_extension("part");
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--silent", "--show-error", "--location", "--retry", "3", "--connect-timeout", "20"]);
    let mut wget = Command::new("wget");
    let status = match curl.args(["--output"]).arg(&part).arg(url).status() {
        Ok(status) => status,
        Err(_) => wget
            .args(["--quiet", "--tries=3", "--output-document"])
            .arg(&part)
            .arg(url)
            .status()
            .context("neither curl nor wget is installed")?,
    };
    ensure!(status.success(), "cannot fetch {url}");
    fs::rename(&part, file).with_context(|| format!("cannot write {}", file.display()))
}

fn sum(file: &Path) -> Result<String> {
    let mut reader = fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(format!("{:x}", hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Fetches the packages and unpacks them, without installing anything.
pub(super) fn unpack(cache: &Path, dir: &Path, packages: &[packages::Package]) -> Result<()> {
    let part = dir.with_added_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part)?;
    for package in packages {
        let deb = fetch(&cache.join("debs"), &package.filename, &package.sha256)?;
        let status = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&part).status();
        let status = status.context("cannot run dpkg-deb, which unpacks Debian packages (package dpkg)")?;
        ensure!(status.success(), "dpkg-deb cannot unpack {}", deb.display());
        // Unpacked it is kept; the package itself would only take room.
        fs::remove_file(&deb)?;
    }
    fs::rename(&part, dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// What a program prints; an error when it cannot be run or fails.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{program}`: is it installed? (.ci/install lists what the lab needs)"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_found_in_both_formats_of_apt_sources() {
        let deb822 = "Types: deb\n# URIs: http://old/debian\nURIs: http://mirror.example/debian/\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://mirror.example/debian/"));
        let one_line = "# deb http://old/debian x\ndeb [arch=amd64] https://m.example/debian bookworm main\n";
        assert_eq!(mirror_in(one_line).as_deref(), Some("https://m.example/debian"));
    }

    #[test]
    fn archives_other_than_debian_are_not_taken_for_the_mirror() {
        assert_eq!(mirror_in("URIs: http://deb.debian.org/debian-security\ndeb http://x.example/apt x main\n"), None);
    }
}
