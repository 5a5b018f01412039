//! Hooks, and whether they really fire.

use serde::Serialize;

use super::{Examined, Here};
use crate::facts::{Hook, PoolFunction};

/// A hook, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookState {
    /// Place and verdict.
    #[serde(flatten)]
    pub hook: Hook,
    /// How often its programs ran, or else sent; `None` when that was not counted.
    pub fired: Option<u64>,
    /// It was made to happen while it was watched.
    pub provoked: bool,
}

impl HookState {
    /// Attached, and still silent when it had to fire.
    pub fn is_defect(&self) -> bool {
        self.hook.attached && self.provoked && self.fired == Some(0)
    }
}

/// Each hook of the stream.
pub(super) fn states(examined: &Examined, here: Option<&Here>) -> Vec<HookState> {
    let state = |hook: &Hook| HookState {
        hook: hook.clone(),
        fired: hook.attached.then(|| fired(hook, examined)).flatten(),
        provoked: here.is_some_and(|here| here.provoked.contains(&hook.subject)),
    };
    examined.start.hooks.iter().map(state).collect()
}

/// Runs of the programs that only this hook has, where the kernel counts runs; else what they tried to send, or timed.
fn fired(hook: &Hook, examined: &Examined) -> Option<u64> {
    let costs = examined.end.iter().flat_map(|end| &end.programs);
    let others = |name: &String| {
        let mut others = examined.start.hooks.iter().filter(|other| other.subject != hook.subject);
        others.any(|other| other.programs.contains(name))
    };
    let own: Vec<&String> = hook.programs.iter().filter(|name| !others(name)).collect();
    // A program that never ran is not among the costs; where none is, runs were not counted.
    let counted = costs.clone().next().is_some() && !own.is_empty();
    let runs = costs.filter(|cost| own.contains(&&cost.name)).map(|cost| cost.run_cnt).sum();
    let sent = || examined.counters.seen.get(&hook.subject).map(|cpus| cpus.iter().sum());
    let timed = || match hook.subject.as_str() {
        "pool_sync_for_cpu" => Some(examined.calls(PoolFunction::SyncForCpu)),
        "pool_sync_for_device" => Some(examined.calls(PoolFunction::SyncForDevice)),
        _ => None,
    };
    counted.then_some(runs).or_else(sent).or_else(timed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{End, ProgramCost};
    use crate::stream::Start;

    fn hook(subject: &str, programs: &[&str]) -> Hook {
        let programs = programs.iter().map(ToString::to_string).collect();
        Hook { subject: subject.into(), attached: true, programs, ..Hook::default() }
    }

    fn examined(hooks: Vec<Hook>, costs: &[(&str, u64)]) -> Examined {
        let cost =
            |(name, run_cnt): &(&str, u64)| ProgramCost { name: (*name).into(), run_cnt: *run_cnt, run_time_ns: 0 };
        let end = End { programs: costs.iter().map(cost).collect(), ..End::default() };
        Examined { start: Start { hooks, ..Start::default() }, end: Some(end), ..Examined::default() }
    }

    #[test]
    fn a_program_that_two_hooks_share_proves_neither() {
        let hooks = vec![hook("slot_unmap", &["slot_unmap", "pool_return"]), hook("sync", &["entry", "pool_return"])];
        let examined = examined(hooks, &[("slot_unmap", 3), ("pool_return", 9)]);
        let fired: Vec<_> = states(&examined, None).iter().map(|state| state.fired).collect();
        assert_eq!(fired, [Some(3), Some(0)]);
    }

    #[test]
    fn without_counted_runs_what_was_sent_tells() {
        let mut examined = examined(vec![hook("map", &["dma_map"]), hook("other", &["x"])], &[]);
        examined.counters.seen.insert("map".into(), vec![2, 5]);
        let fired: Vec<_> = states(&examined, None).iter().map(|state| state.fired).collect();
        assert_eq!(fired, [Some(7), None]);
    }

    #[test]
    fn only_a_provoked_hook_that_is_silent_is_a_defect() {
        let examined = examined(vec![hook("kmalloc", &["kmalloc"]), hook("map", &["dma_map"])], &[("kfree", 1)]);
        let here = Here { provoked: vec!["kmalloc".into()], ..Here::default() };
        let defects: Vec<_> = states(&examined, Some(&here)).iter().map(HookState::is_defect).collect();
        assert_eq!(defects, [true, false]);
    }
}
