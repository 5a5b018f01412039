//! The kernel's parameters that are meant for this program. Parsing only.

use std::{path::PathBuf, time::Duration};

const INIT: &str = "bouncescope.init";
const RECORD: &str = "bouncescope.record";
const WAIT: &str = "bouncescope.wait";

/// How long the boot waits for the recorder's hooks, unless it is told to wait longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// It does not wait longer than that, s.
const LONGEST: u64 = 60;

/// What the kernel's command line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// The init to become.
    pub(super) init: Option<PathBuf>,
    /// Options of `record`.
    pub(super) record: Vec<String>,
    /// How long to wait for the hooks, s.
    wait: Option<u64>,
}

impl Parameters {
    /// From the text of `/proc/cmdline`; of a parameter that stands there twice, the last counts.
    pub(super) fn parse(command_line: &str) -> Self {
        let mut parameters = Self::default();
        for word in words(command_line) {
            // What follows is for the init itself (`parse_args()` in `kernel/params.c`).
            if word == "--" {
                break;
            }
            match word.split_once('=') {
                Some((INIT, path)) => parameters.init = Some(path.into()).filter(|_| !path.is_empty()),
                Some((RECORD, options)) => {
                    parameters.record = options.split_whitespace().map(str::to_owned).collect();
                }
                Some((WAIT, seconds)) => parameters.wait = seconds.parse().ok(),
                _ => {}
            }
        }
        parameters
    }

    /// How long to wait for the recorder's hooks; what is no number of seconds says nothing.
    pub(super) fn patience(&self) -> Duration {
        self.wait.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.min(LONGEST)))
    }
}

/// The words of a command line: double quotes keep white space together, and go away (`next_arg()` in `lib/cmdline.c`).
fn words(command_line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in command_line.trim_end_matches('\0').chars() {
        match c {
            '"' => quoted = !quoted,
            _ if c.is_whitespace() && !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|w| !w.is_empty()));
            }
            _ => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_spaces_are_quoted_as_the_kernel_lets_them() {
        for line in [
            "quiet bouncescope.record=\"--full -m 16M\" bouncescope.init=/lib/systemd/systemd splash\n",
            "quiet \"bouncescope.record=--full -m 16M\" bouncescope.init=/lib/systemd/systemd",
        ] {
            let parameters = Parameters::parse(line);
            assert_eq!(parameters.record, ["--full", "-m", "16M"]);
            assert_eq!(parameters.init, Some("/lib/systemd/systemd".into()));
        }
    }

    #[test]
    fn nothing_said_is_nothing_asked_for() {
        assert_eq!(Parameters::parse("root=/dev/vda init=/usr/bin/bouncescope"), Parameters::default());
        assert_eq!(Parameters::parse("bouncescope.init= bouncescope.record="), Parameters::default());
    }

    #[test]
    fn the_last_of_two_counts_and_what_is_inits_is_left_to_it() {
        let parameters = Parameters::parse("bouncescope.init=/a bouncescope.init=/b -- bouncescope.init=/c");
        assert_eq!(parameters.init, Some("/b".into()));
    }

    #[test]
    fn the_boot_waits_as_long_as_it_is_told_within_a_bound() {
        let patience = |line| Parameters::parse(line).patience().as_secs();
        assert_eq!(
            ["", "bouncescope.wait=20", "bouncescope.wait=99999", "bouncescope.wait=-1"].map(patience),
            [5, 20, 60, 5]
        );
    }

    #[test]
    fn an_open_quote_ends_with_the_line() {
        assert_eq!(Parameters::parse("bouncescope.record=\"-d 5").record, ["-d", "5"]);
    }
}
