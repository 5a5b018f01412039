//! Debian's `Packages` indices: which packages make up the newest kernel of a series. Parsing only; fetching is elsewhere.

use std::collections::{BTreeMap, BTreeSet};

/// One package of an index, as far as fetching and choosing need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// `Package:`.
    pub(super) name: String,
    /// `Filename:`, relative to the mirror.
    pub(super) filename: String,
    /// `SHA256:`, in lower-case hex.
    pub(super) sha256: String,
    /// `Depends:`, names only.
    depends: Vec<String>,
}

impl Package {
    /// Its version without Debian's own part, by the name of its file: `3.1.6` of `trace-cmd_3.1.6-1_arm64.deb`.
    pub(super) fn version(&self) -> String {
        let version = self.filename.rsplit('/').next().unwrap_or_default().split('_').nth(1).unwrap_or_default();
        version.rsplit_once('-').map_or(version, |(upstream, _)| upstream).to_owned()
    }
}

/// A kernel to fetch: its release, and the packages that hold its image, configuration and modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelPackages {
    /// As `uname -r` will say.
    pub(super) release: String,
    /// What to unpack, into one directory.
    pub(super) packages: Vec<Package>,
}

/// The newest kernel of `series` (such as `6.12`) and of no other flavour; `None` when the index has none. `6.12-16k` has pages of
/// 16 KiB, `6.12-rt` is for real time, `6.12-cloud` for virtual machines, and `6.12-deb12` was built for Debian 12.
///
/// Until 6.18 one package `linux-image-RELEASE` holds everything; since then it only depends on `linux-binary-`, `linux-modules-` and
/// `linux-base-` of the same release. Of releases that an archive no longer builds, it may still have some of these packages: they are passed
/// over.
pub(super) fn newest_kernel(index: &str, series: &str) -> Option<KernelPackages> {
    let releases = of_series(index, series).into_iter().filter_map(Result::ok);
    releases.max_by_key(|kernel| numbers(&kernel.release))
}

/// The newest kernel of `series` that lacks a package, and that package's name.
pub(super) fn newest_incomplete(index: &str, series: &str) -> Option<(String, String)> {
    let releases = of_series(index, series).into_iter().filter_map(Result::err);
    releases.max_by_key(|(release, _)| numbers(release))
}

/// Every kernel of a series, or its release with the name of a package that the index lacks.
fn of_series(index: &str, series: &str) -> Vec<Result<KernelPackages, (String, String)>> {
    let packages: BTreeMap<String, Package> = index
        .split("\n\n")
        .filter_map(parse)
        .filter(|package| package.name.starts_with("linux-"))
        .map(|package| (package.name.clone(), package))
        .collect();
    let kernel = |release: &str| {
        let image = &packages[&format!("linux-image-{release}")];
        let mut of_release = vec![image.clone()];
        for part in image.depends.iter().filter(|name| name.ends_with(&format!("-{release}"))) {
            of_release.push(packages.get(part).ok_or_else(|| (release.to_owned(), part.clone()))?.clone());
        }
        Ok(KernelPackages { release: release.to_owned(), packages: of_release })
    };
    let releases = packages.keys().filter_map(|name| name.strip_prefix("linux-image-"));
    releases.filter(|release| is_plain(release, series)).map(kernel).collect()
}

/// The package of that name; the index may have several versions of it, of which the newest is taken.
pub(super) fn named(index: &str, name: &str) -> Option<Package> {
    let line = format!("Package: {name}\n");
    let versions = index.split("\n\n").filter(|paragraph| paragraph.trim_start().starts_with(&line)).filter_map(parse);
    versions.max_by_key(|package| numbers(&package.filename))
}

/// The package with the kernel's source of the newest series of this major number, such as 7.
pub(super) fn newest_source(index: &str, major: u64) -> Option<Package> {
    let sources = index.split("\n\n").filter_map(parse).filter(|package| {
        let series = package.name.strip_prefix("linux-source-").unwrap_or_default();
        series.chars().all(|c| c.is_ascii_digit() || c == '.') && numbers(series).first() == Some(&major)
    });
    sources.max_by_key(|package| numbers(&package.filename))
}

/// The packages of those names, and every library that they depend on, the newest version of each; or the name that there is none of.
/// What else they depend on, such as interpreters and their modules, is left out.
pub(super) fn with_libraries(index: &str, names: &[&str]) -> Result<Vec<Package>, String> {
    let mut known: BTreeMap<String, Package> = BTreeMap::new();
    for package in index.split("\n\n").filter_map(parse) {
        let newer = |kept: &Package| numbers(&kept.filename) < numbers(&package.filename);
        if known.get(&package.name).is_none_or(newer) {
            known.insert(package.name.clone(), package);
        }
    }
    let mut chosen: BTreeMap<&str, &Package> = BTreeMap::new();
    let mut wanted = Vec::new();
    for &name in names {
        wanted.push(known.get(name).ok_or_else(|| name.to_owned())?);
    }
    while let Some(package) = wanted.pop() {
        if chosen.insert(&package.name, package).is_none() {
            wanted.extend(package.depends.iter().filter(|name| is_library(name)).filter_map(|name| known.get(name)));
        }
    }
    Ok(chosen.into_values().cloned().collect())
}

/// Whether a package holds a library, by its name.
fn is_library(name: &str) -> bool {
    const OTHERS: [&str; 4] = ["-stdlib", "-data", "-bin", "-modules-extra"];
    (name.starts_with("lib") || name == "zlib1g") && !OTHERS.iter().any(|ending| name.ends_with(ending))
}

/// The names of the packages that a module for `release` is built with: the headers, and those that all flavours share, for
/// arm64, and the programs of the build, for the building machine.
pub(super) fn headers(release: &str) -> ([String; 2], String) {
    let version = release.split_once("-arm64").map_or(release, |(version, _)| version);
    ([format!("linux-headers-{release}"), format!("linux-headers-{version}-common")], format!("linux-kbuild-{version}"))
}

/// Whether a release such as `6.12.107+deb13-arm64`, or `6.1.0-50-arm64` until Debian 12, is of the series and its flavour, and of no
/// other one.
fn is_plain(release: &str, series: &str) -> bool {
    let (series, flavour) = series.split_once('-').unwrap_or((series, ""));
    let (ending, distribution) = match flavour {
        "" => ("-arm64".to_owned(), None),
        "rt" | "cloud" => (format!("-{flavour}-arm64"), None),
        _ if flavour.starts_with("deb") => ("-arm64".to_owned(), Some(flavour)),
        _ => (format!("-arm64-{flavour}"), None),
    };
    let Some(version) = release.strip_suffix(&ending) else { return false };
    let (version, abi) = version.split_once('-').unwrap_or((version, ""));
    abi.chars().all(|c| c.is_ascii_digit())
        && version.strip_prefix(series).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('+'))
        && distribution.is_none_or(|name| version.split_once('+').is_some_and(|(_, built_for)| built_for == name))
}

/// The series that an index has whole kernels of, such as `6.12`, in their order.
pub(super) fn series(index: &str) -> Vec<String> {
    let names = index.lines().filter_map(|line| line.strip_prefix("Package: linux-image-"));
    let releases = names.filter(|name| name.ends_with("-arm64") && name.split('.').count() > 2);
    let series: BTreeSet<_> = releases.filter_map(|name| numbers(name).first_chunk::<2>().copied()).collect();
    let names = series.into_iter().map(|[major, minor]| format!("{major}.{minor}"));
    names.filter(|series| newest_kernel(index, series).is_some()).collect()
}

/// The numbers in a release, by which releases of one naming scheme are ordered.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn parse(paragraph: &str) -> Option<Package> {
    let field = |name: &str| {
        paragraph
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
    };
    let depends = field("Depends").unwrap_or_default();
    Some(Package {
        name: field("Package")?,
        filename: field("Filename")?,
        sha256: field("SHA256")?.to_lowercase(),
        depends: depends.split([',', '|']).filter_map(|one| Some(one.split_whitespace().next()?.to_owned())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paragraph(name: &str, depends: &str) -> String {
        format!("Package: {name}\nDepends: {depends}\nFilename: pool/{name}.deb\nSHA256: AB{}\n\n", name.len())
    }

    fn names(kernel: &KernelPackages) -> Vec<&str> {
        kernel.packages.iter().map(|package| package.name.as_str()).collect()
    }

    #[test]
    fn the_highest_number_wins_not_the_last_in_the_alphabet() {
        let index = ["6.12.94+deb13-arm64", "6.12.107+deb13-arm64", "6.12.9+deb13-arm64"]
            .map(|release| paragraph(&format!("linux-image-{release}"), "kmod"))
            .concat();
        let kernel = newest_kernel(&index, "6.12").unwrap();
        assert_eq!(kernel.release, "6.12.107+deb13-arm64");
        assert_eq!(names(&kernel), ["linux-image-6.12.107+deb13-arm64"]);
        assert_eq!(kernel.packages[0].sha256, "ab32");
    }

    #[test]
    fn a_package_is_found_by_its_whole_name() {
        let index = paragraph("libc6-dev", "") + &paragraph("libc6", "libgcc-s1");
        assert_eq!(named(&index, "libc6").unwrap().filename, "pool/libc6.deb");
        assert_eq!(named(&index, "libc"), None);
    }

    #[test]
    fn of_several_versions_of_a_package_the_newest_is_taken() {
        let version =
            |number: &str| format!("Package: source\nFilename: pool/source_{number}_all.deb\nSHA256: {number}\n\n");
        let index = version("6.12.94-1") + &version("6.12.107-1") + &version("6.12.9-1");
        assert_eq!(named(&index, "source").unwrap().sha256, "6.12.107-1");
    }

    #[test]
    fn the_newest_source_of_a_major_number_is_of_the_highest_series() {
        let names =
            ["linux-source", "linux-source-7.9", "linux-source-7.10", "linux-source-7.11-rt", "linux-source-17.1"];
        let index = names.map(|name| paragraph(name, "")).concat();
        assert_eq!(newest_source(&index, 7).unwrap().name, "linux-source-7.10");
        assert_eq!(newest_source(&index, 6), None);
    }

    #[test]
    fn libraries_come_along_and_interpreters_do_not() {
        let index = paragraph("trace-cmd", "libc6 (>= 2.34), libtraceevent1, perl:any, gone")
            + &paragraph("libtraceevent1", "libc6, libpython3.11-stdlib, trace-cmd")
            + &paragraph("libc6", "libgcc-s1 | other")
            + &paragraph("libgcc-s1", "libc6")
            + &paragraph("libpython3.11-stdlib", "")
            + &paragraph("libother", "");
        let names = |packages: &[Package]| packages.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        let packages = with_libraries(&index, &["trace-cmd"]).unwrap();
        assert_eq!(names(&packages), ["libc6", "libgcc-s1", "libtraceevent1", "trace-cmd"]);
        assert_eq!(with_libraries(&index, &["trace-cmd", "perf"]), Err("perf".to_owned()));
    }

    #[test]
    fn the_version_is_in_the_file_s_name_without_debian_s_part() {
        let index = "Package: trace-cmd\nFilename: pool/t/trace-cmd_3.3.1-1+b1_arm64.deb\nSHA256: 0\n\n";
        assert_eq!(named(index, "trace-cmd").unwrap().version(), "3.3.1");
    }

    #[test]
    fn headers_of_a_release_are_the_flavour_s_and_the_common_ones() {
        let (headers, programs) = headers("7.3.4+deb13-arm64");
        assert_eq!(headers, ["linux-headers-7.3.4+deb13-arm64", "linux-headers-7.3.4+deb13-common"]);
        assert_eq!(programs, "linux-kbuild-7.3.4+deb13");
    }

    #[test]
    fn a_kernel_of_which_a_package_is_gone_is_passed_over_and_told() {
        let image = |release: &str| {
            let parts = format!("linux-binary-{release} (= 1), linux-modules-{release} (= 1)");
            paragraph(&format!("linux-image-{release}"), &parts) + &paragraph(&format!("linux-binary-{release}"), "")
        };
        let index = image("7.1.13+deb13-arm64") + &image("7.1.8+deb13-arm64");
        assert_eq!(newest_kernel(&index, "7.1"), None);
        let (release, part) = newest_incomplete(&index, "7.1").unwrap();
        assert_eq!((release.as_str(), part.as_str()), ("7.1.13+deb13-arm64", "linux-modules-7.1.13+deb13-arm64"));
        assert!(series(&index).is_empty());
        let index = index + &paragraph("linux-modules-7.1.8+deb13-arm64", "");
        assert_eq!(newest_kernel(&index, "7.1").unwrap().release, "7.1.8+deb13-arm64");
        assert_eq!(series(&index), ["7.1"]);
    }

    #[test]
    fn other_flavours_and_other_series_are_not_taken() {
        let index = ["6.1.9-arm64", "6.12.5+deb13-arm64-16k", "6.12.6+deb13-rt-arm64", "6.12.7+deb13-arm64-unsigned"]
            .map(|release| paragraph(&format!("linux-image-{release}"), ""))
            .concat();
        assert_eq!(newest_kernel(&index, "6.12"), None);
        assert_eq!(newest_kernel(&index, "6.12-16k").unwrap().release, "6.12.5+deb13-arm64-16k");
        assert_eq!(newest_kernel(&index, "6.12-64k"), None);
        assert_eq!(newest_kernel(&index, "6.1").unwrap().release, "6.1.9-arm64");
    }

    #[test]
    fn a_flavour_is_taken_when_it_is_asked_for() {
        let index = ["6.1.0-50-rt-arm64", "6.1.0-52-cloud-arm64", "6.12.95+deb12-arm64", "6.12.117+deb13-arm64"]
            .map(|release| paragraph(&format!("linux-image-{release}"), ""))
            .concat();
        let newest = |series: &str| newest_kernel(&index, series).map(|kernel| kernel.release);
        assert_eq!(newest("6.1-rt").as_deref(), Some("6.1.0-50-rt-arm64"));
        assert_eq!(newest("6.1-cloud").as_deref(), Some("6.1.0-52-cloud-arm64"));
        assert_eq!(newest("6.1"), None);
        assert_eq!(newest("6.12").as_deref(), Some("6.12.117+deb13-arm64"));
        assert_eq!(newest("6.12-deb12").as_deref(), Some("6.12.95+deb12-arm64"));
        assert_eq!(newest("6.12-deb11"), None);
        assert_eq!(newest("6.12-rt"), None);
    }

    #[test]
    fn the_series_of_an_index_are_in_the_order_of_their_numbers() {
        let index = [
            "arm64",
            "6.12-arm64",
            "6.12.9+deb13-arm64",
            "6.12.9+deb13-rt-arm64",
            "6.1.0-50-arm64",
            "7.3.4+deb13-arm64",
        ]
        .map(|release| paragraph(&format!("linux-image-{release}"), ""))
        .concat();
        assert_eq!(series(&index), ["6.1", "6.12", "7.3"]);
    }

    #[test]
    fn releases_of_debian_12_carry_the_number_of_their_abi() {
        let index = ["6.1.0-9-arm64", "6.1.0-50-arm64", "6.1.0-51-rt-arm64", "6.1.0-52-cloud-arm64"]
            .map(|release| paragraph(&format!("linux-image-{release}"), ""))
            .concat();
        assert_eq!(newest_kernel(&index, "6.1").unwrap().release, "6.1.0-50-arm64");
    }

    #[test]
    fn a_kernel_in_parts_brings_its_parts_of_the_same_release_only() {
        let index = paragraph(
            "linux-image-7.3.4+deb13-arm64",
            "dracut | initramfs-tools (>= 0.120), linux-base-7.3.4+deb13-arm64 (= 7.3.4-1), linux-binary-7.3.4+deb13-arm64, \
             linux-base (>= 4)",
        ) + &paragraph("linux-base-7.3.4+deb13-arm64", "")
            + &paragraph("linux-binary-7.3.4+deb13-arm64", "")
            + &paragraph("linux-base", "")
            + &paragraph("linux-modules-7.3.3+deb13-arm64", "");
        let kernel = newest_kernel(&index, "7.3").unwrap();
        assert_eq!(
            names(&kernel),
            ["linux-image-7.3.4+deb13-arm64", "linux-base-7.3.4+deb13-arm64", "linux-binary-7.3.4+deb13-arm64"]
        );
    }
}
