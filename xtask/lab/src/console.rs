//! What a guest's console says: the steps of its init, and signs that its kernel is in trouble. Pure.

/// What init reports about a recording, on a `LAB` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The recording began.
    Start(String),
    /// It was made.
    Done(String),
    /// It, or the whole guest, failed.
    Failed(String),
    /// Everything is done; the guest powers off.
    End,
}

/// The step that a line reports.
pub(super) fn step(line: &str) -> Option<Step> {
    // The kernel's own messages may have come in between; init's words are found wherever they stand.
    let rest = &line[line.find("LAB ")? + 4..];
    let mut words = rest.split_whitespace();
    let (kind, name) = (words.next()?, words.next().unwrap_or_default().to_owned());
    match kind {
        "start" => Some(Step::Start(name)),
        "done" => Some(Step::Done(name)),
        "failed" | "error" => Some(Step::Failed(rest.trim().to_owned())),
        "end" => Some(Step::End),
        _ => None,
    }
}

/// What a kernel says when something is wrong with it.
const TROUBLE: [&str; 10] = [
    "Kernel panic",
    "Oops",
    "Internal error:",
    "Unable to handle kernel",
    "BUG: ",
    "WARNING: ",
    "rcu_preempt detected",
    "soft lockup",
    "blocked for more than",
    "Out of memory",
];

/// Whether a line is a kernel's cry for help.
pub(super) fn is_trouble(line: &str) -> bool {
    TROUBLE.iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_s_steps_are_read_even_behind_a_kernel_message() {
        assert_eq!(step("LAB start hold-100"), Some(Step::Start("hold-100".into())));
        assert_eq!(step("[   3.1] sd 0:0LAB done mixed exit=0 seconds=3.0"), Some(Step::Done("mixed".into())));
        assert_eq!(step("LAB error module 9p: x"), Some(Step::Failed("error module 9p: x".into())));
        assert_eq!(step("LAB end"), Some(Step::End));
        assert_eq!(step("LABEL start"), None);
        assert_eq!(step(""), None);
    }

    #[test]
    fn panics_warnings_and_stalls_are_trouble_and_a_full_pool_is_not() {
        assert!(is_trouble("[    1.0] Kernel panic - not syncing: Attempted to kill init!"));
        assert!(is_trouble("[    1.0] WARNING: CPU: 0 PID: 1 at kernel/dma/direct.h:103"));
        assert!(is_trouble("[   61.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks"));
        assert!(!is_trouble(
            "[    1.0] xhci_hcd 0000:00:05.0: swiotlb buffer is full (sz: 8 bytes), total 256 (slots)"
        ));
    }
}
