//! The kernels that there are in the field, and where each is booted.

/// What `--matrix` boots: the kernels that there are in the field, and the scenarios in which they differ; no scenario named is
/// every one.
const MATRIX: [(&str, &[&str]); 15] = [
    ("5.10", &["direct", "force"]),
    ("5.10-rt", &["direct", "force-four-cpus"]),
    ("6.1", &["direct", "force", "from-boot"]),
    ("6.1-rt", &["direct", "force-four-cpus"]),
    ("6.12", &[]),
    ("6.12-deb12", &["direct", "kprobes"]),
    ("6.12-16k", &["direct", "smmu-16k"]),
    ("6.12-rt", &["smmu", "kprobes", "four-cpus", "race"]),
    ("6.16", &["direct", "smmu"]),
    ("6.17", &["direct", "smmu"]),
    ("6.18", &["direct", "smmu", "kprobes"]),
    ("7.2", &["direct", "smmu"]),
    ("7.2-rt", &["four-cpus"]),
    ("7.3", &[]),
    ("7.3-rt", &["smmu", "kprobes", "fentry", "four-cpus", "race"]),
];

/// Where a series stands in the matrix; behind all others when it is not in it.
pub(crate) fn place(series: &str) -> usize {
    MATRIX.iter().position(|(name, _)| *name == series).unwrap_or(MATRIX.len())
}

/// The series of the matrix, in its order.
pub(crate) fn series() -> impl Iterator<Item = &'static str> {
    MATRIX.iter().map(|(series, _)| *series)
}

/// The scenarios in which a series is booted; none named is every one, as for a series that is not in the matrix.
pub(crate) fn scenarios(series: &str) -> &'static [&'static str] {
    MATRIX.iter().find(|(name, _)| *name == series).map_or(&[], |(_, names)| names)
}
