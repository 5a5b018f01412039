//! What `record`, `serve --live` and `top` share when they trace the running kernel.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracer::{facts::not_attached, stream::Start};

use crate::input::say;

/// Names the hooks that this kernel did not let attach; with why, a line each, where that is asked for.
pub(crate) fn say_not_attached(start: &Start, with_reasons: bool) {
    if with_reasons {
        for hook in start.hooks.iter().filter(|hook| !hook.attached) {
            say(&format!("not attached: {}: {}\n", hook.subject, hook.reason()));
        }
    } else if let Some((which, lost)) = not_attached(&start.hooks) {
        say(&format!("{which}\n{}", lost.map_or_else(String::new, |lost| format!("{lost}\n"))));
    }
}

/// One allocation in how many is streamed: a power of two, or 0 for none.
pub(crate) fn parse_sample(text: &str) -> Result<u64, String> {
    let sample: u64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if sample != 0 && !sample.is_power_of_two() {
        return Err("not a power of two; use 1, 2, 4, … or 0 for none".to_owned());
    }
    Ok(sample)
}

/// The signals that end a recording whole.
pub(crate) struct Signals(Vec<Signal>);

impl Signals {
    /// From now on they no longer end the process itself. Whoever started it with SIGHUP or SIGUSR1 ignored (nohup) wants that to stay.
    pub(crate) fn new() -> Result<Self> {
        let ignored = ignored_signals();
        let unless_ignored = [SignalKind::hangup(), SignalKind::user_defined1()];
        let kinds = unless_ignored.into_iter().filter(|kind| ignored >> (kind.as_raw_value() - 1) & 1 == 0);
        let kinds = kinds.chain([SignalKind::interrupt(), SignalKind::terminate()]);
        Ok(Self(kinds.map(signal).collect::<std::io::Result<_>>()?))
    }

    /// Returns when one came.
    pub(crate) async fn end(&mut self) {
        let one_came = |context: &mut Context<'_>| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        };
        poll_fn(one_came).await;
    }
}

/// The signals that this process ignores, bit n - 1 for signal n; none where /proc does not say.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_power_of_two_or_nothing() {
        assert_eq!((parse_sample("0"), parse_sample("64")), (Ok(0), Ok(64)));
        assert!(parse_sample("3").unwrap_err().contains("power of two"));
        assert!(parse_sample("-1").is_err());
    }
}
