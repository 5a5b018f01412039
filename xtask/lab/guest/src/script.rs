//! What init is told to do: the script that the lab puts into the initramfs, one recording a line. Parsing only.

/// What to do for a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The product records while the workload runs.
    Record,
    /// The same, by probing functions even where the kernel has events.
    RecordByKprobes,
    /// The same, through fentry and fexit where it can.
    RecordByFentry,
    /// The same, with a ring and maps too small for it.
    RecordTooSmall,
    /// The same by default, through probes, with a map of lists that is too small for what the workload `losses` does.
    RecordLosing,
    /// The product records at a priority above the workload's.
    RecordUndisturbed,
    /// The product records by default, which streams only what may bounce.
    RecordByDefault,
    /// The same by the kernel's events, with the product's `serve --live` beside it.
    RecordBesideServe,
    /// The product keeps the last seconds in memory, and writes them when the kernel says that the pool is full.
    RecordFlight,
    /// The product records since it was the kernel's init; the recording is ended after the workload.
    RecordFromBoot,
    /// The product joins the kernel's own trace since boot to its recording, while devices are busy.
    RecordWithBootTrace,
    /// No workload: the product was to record from boot, and cannot; there is nothing to fetch.
    FailAtBoot,
    /// The workload runs by itself, and only the kernel's own counts are taken.
    Bare,
    /// The product records a workload's allocations, one in so many, while the kernel counts its objects exactly; it is the
    /// first word of the workload.
    Objects,
    /// The same since the product was the kernel's init; the recording is ended after the workload.
    ObjectsFromBoot,
    /// The product records what cache maintenance takes while the lab's module, whose parameters follow, needs it.
    Maintenance,
    /// No workload: the lab's module makes a table, and what follows are its parameters.
    Truth,
    /// No workload: the lab's module takes all PCI devices to be untrusted from here on; what follows are its parameters.
    Untrust,
    /// A tracing tool records a workload; suite and tool are the first words of it.
    Tool,
    /// No workload: the product's `doctor` looks at the guest, and what follows are its arguments.
    Doctor,
}

impl Mode {
    /// The product records since it was the kernel's init.
    pub(crate) fn is_from_boot(self) -> bool {
        matches!(self, Self::RecordFromBoot | Self::ObjectsFromBoot)
    }

    /// A workload maps, and what it maps is counted.
    pub(crate) fn maps(self) -> bool {
        !matches!(
            self,
            Self::Objects
                | Self::ObjectsFromBoot
                | Self::Maintenance
                | Self::Truth
                | Self::Untrust
                | Self::Doctor
                | Self::FailAtBoot
        )
    }
}

/// One recording: `NAME MODE WORKLOAD [ARGUMENT…]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recording {
    /// Names the files it leaves on the share.
    pub(crate) name: String,
    /// What to do.
    pub(crate) mode: Mode,
    /// Workload and its arguments, or the module's parameters, or `doctor`'s arguments.
    pub(crate) workload: Vec<String>,
}

impl Recording {
    /// Its workload uses the machine's disks and USB; the one of objects needs none.
    pub(crate) fn needs_devices(&self) -> bool {
        let of_objects = matches!(self.mode, Mode::Objects | Mode::ObjectsFromBoot);
        self.mode.maps() || of_objects && self.workload.last().is_some_and(|word| word != "objects")
    }
}

/// The recordings of a script. Empty lines and lines that start with `#` say nothing.
pub(crate) fn parse(text: &str) -> Result<Vec<Recording>, String> {
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let mode = |word: &str| match word {
                "record" => Some(Mode::Record),
                "record-by-kprobes" => Some(Mode::RecordByKprobes),
                "record-by-fentry" => Some(Mode::RecordByFentry),
                "record-too-small" => Some(Mode::RecordTooSmall),
                "record-losing" => Some(Mode::RecordLosing),
                "record-undisturbed" => Some(Mode::RecordUndisturbed),
                "record-by-default" => Some(Mode::RecordByDefault),
                "record-beside-serve" => Some(Mode::RecordBesideServe),
                "record-flight" => Some(Mode::RecordFlight),
                "record-from-boot" => Some(Mode::RecordFromBoot),
                "record-with-boot-trace" => Some(Mode::RecordWithBootTrace),
                "fail-at-boot" => Some(Mode::FailAtBoot),
                "bare" => Some(Mode::Bare),
                "objects" => Some(Mode::Objects),
                "objects-from-boot" => Some(Mode::ObjectsFromBoot),
                "maintenance" => Some(Mode::Maintenance),
                "truth" => Some(Mode::Truth),
                "untrust" => Some(Mode::Untrust),
                "tool" => Some(Mode::Tool),
                "doctor" => Some(Mode::Doctor),
                _ => None,
            };
            match (words.next(), words.next().as_deref().and_then(mode), words.collect::<Vec<_>>()) {
                (Some(name), Some(mode), workload) if !workload.is_empty() => Ok(Recording { name, mode, workload }),
                _ => Err(format!("not a recording: {line:?}")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_name_mode_and_workload() {
        let script = parse("# what\n\nhold-100 record hold 100\nmixed bare mixed\npci truth device=pci\n").unwrap();
        assert_eq!(
            script,
            [
                Recording { name: "hold-100".into(), mode: Mode::Record, workload: vec!["hold".into(), "100".into()] },
                Recording { name: "mixed".into(), mode: Mode::Bare, workload: vec!["mixed".into()] },
                Recording { name: "pci".into(), mode: Mode::Truth, workload: vec!["device=pci".into()] },
            ]
        );
    }

    #[test]
    fn objects_are_counted_without_devices_unless_the_workload_uses_them() {
        let needs = |line: &str| parse(line).unwrap()[0].needs_devices();
        assert_eq!(
            ["a objects 1 objects", "a objects 1 lived-in", "a record mixed", "a truth device=pci"].map(needs),
            [false, true, true, false]
        );
    }

    #[test]
    fn a_line_without_workload_or_with_an_unknown_mode_is_refused() {
        assert!(parse("x record").is_err());
        assert!(parse("x play mixed").is_err());
    }
}
