//! What init is told to do: the script that the lab puts into the initramfs, one recording a line. Parsing only.

/// One recording: `NAME MODE WORKLOAD [ARGUMENT…]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recording {
    /// Names the files it leaves on the share.
    pub(crate) name: String,
    /// Whether the product records it; else the workload runs by itself and only the kernel's own counts are taken.
    pub(crate) record: bool,
    /// Workload and its arguments.
    pub(crate) workload: Vec<String>,
}

/// The recordings of a script. Empty lines and lines that start with `#` say nothing.
pub(crate) fn parse(text: &str) -> Result<Vec<Recording>, String> {
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            match (words.next(), words.next().as_deref(), words.collect::<Vec<_>>()) {
                (Some(name), Some(mode @ ("record" | "bare")), workload) if !workload.is_empty() => {
                    Ok(Recording { name, record: mode == "record", workload })
                }
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
        let script = parse("# what\n\nhold-100 record hold 100\nmixed bare mixed\n").unwrap();
        assert_eq!(
            script,
            [
                Recording { name: "hold-100".into(), record: true, workload: vec!["hold".into(), "100".into()] },
                Recording { name: "mixed".into(), record: false, workload: vec!["mixed".into()] },
            ]
        );
    }

    #[test]
    fn a_line_without_workload_or_with_an_unknown_mode_is_refused() {
        assert!(parse("x record").is_err());
        assert!(parse("x play mixed").is_err());
    }
}
