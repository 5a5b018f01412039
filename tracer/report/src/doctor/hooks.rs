//! Hooks, and whether they really fire.

use serde::Serialize;

use super::{Examined, Here};
use bouncescope_capture::facts::{Hook, MaintenanceFunction, PoolFunction};
use bouncescope_capture::names::Subject;

/// A hook, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HookState {
    /// Place and verdict.
    #[serde(flatten)]
    pub hook: Hook,
    /// How often its programs ran, the busiest of them, or else sent; `None` when that was not counted.
    pub fired: Option<u64>,
    /// Programs of its own that never ran although others of it did: half of a pair, or one of two events.
    pub silent: Vec<String>,
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
    let state = |hook: &Hook| {
        let runs = if hook.attached { runs(hook, examined) } else { Vec::new() };
        let ran = runs.iter().map(|(_, count)| *count).max();
        let silent = runs.iter().filter(|(_, count)| *count == 0 && ran > Some(0));
        HookState {
            hook: hook.clone(),
            fired: ran.or_else(|| hook.attached.then(|| sent(hook, examined)).flatten()),
            silent: silent.map(|(name, _)| (*name).clone()).collect(),
            provoked: here.is_some_and(|here| here.provoked.contains(&hook.subject)),
        }
    };
    examined.start.hooks.iter().map(state).collect()
}

/// Runs of each program that only this hook has; empty where the kernel does not count runs.
fn runs<'a>(hook: &'a Hook, examined: &Examined) -> Vec<(&'a String, u64)> {
    let costs = examined.end.as_ref().map(|end| end.programs.as_slice()).unwrap_or_default();
    // A program that never ran is not among them; where none is, runs were not counted.
    if costs.is_empty() {
        return Vec::new();
    }
    let shared = |name: &String| {
        let mut others = examined.start.hooks.iter().filter(|other| other.subject != hook.subject);
        others.any(|other| other.programs.contains(name))
    };
    let count = |name: &String| costs.iter().find(|cost| cost.name == *name).map_or(0, |cost| cost.run_cnt);
    hook.programs.iter().filter(|name| !shared(name)).map(|name| (name, count(name))).collect()
}

/// What its programs tried to send, or timed.
fn sent(hook: &Hook, examined: &Examined) -> Option<u64> {
    match &hook.subject {
        Subject::PoolSyncForCpu => Some(examined.calls(PoolFunction::SyncForCpu)),
        Subject::PoolSyncForDevice => Some(examined.calls(PoolFunction::SyncForDevice)),
        Subject::MaintainForDevice => Some(examined.maintained(MaintenanceFunction::ForDevice)),
        Subject::MaintainForCpu => Some(examined.maintained(MaintenanceFunction::ForCpu)),
        // Allocations are counted by call site; of them and of frees only a sample is sent.
        Subject::Kmalloc => Some(examined.allocations()),
        Subject::Kfree if examined.start.allocation_sample != 1 => None,
        subject => examined.counters.seen.get(subject.name()).map(|cpus| cpus.iter().sum()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::{End, ProgramCost};
    use bouncescope_capture::stream::Start;

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
    fn half_of_a_pair_that_never_ran_is_named() {
        let examined = examined(vec![hook("slot_map", &["entry", "return"])], &[("entry", 5)]);
        let state = &states(&examined, None)[0];
        assert_eq!((state.fired, state.silent.as_slice()), (Some(5), ["return".to_owned()].as_slice()));
    }

    #[test]
    fn without_counted_runs_what_was_sent_tells() {
        let mut examined = examined(vec![hook("map", &["dma_map"]), hook("other", &["x"])], &[]);
        examined.counters.seen.insert("map".into(), vec![2, 5]);
        let fired: Vec<_> = states(&examined, None).iter().map(|state| state.fired).collect();
        assert_eq!(fired, [Some(7), None]);
    }

    #[test]
    fn without_counted_runs_allocations_are_those_counted_by_call_site() {
        let mut examined = examined(vec![hook("kmalloc", &["kmalloc"]), hook("kfree", &["kfree"])], &[]);
        examined.counters.seen = [("kmalloc".into(), vec![0]), ("kfree".into(), vec![0])].into();
        examined.sites.insert((1, 8, 8), 9);
        let here = Here { provoked: vec!["kmalloc".into(), "kfree".into()], ..Here::default() };
        let states = states(&examined, Some(&here));
        assert_eq!(states.iter().map(|state| state.fired).collect::<Vec<_>>(), [Some(9), None]);
        assert!(!states.iter().any(HookState::is_defect), "{states:?}");
    }

    #[test]
    fn only_a_provoked_hook_that_is_silent_is_a_defect() {
        let examined = examined(vec![hook("kmalloc", &["kmalloc"]), hook("map", &["dma_map"])], &[("kfree", 1)]);
        let here = Here { provoked: vec!["kmalloc".into()], ..Here::default() };
        let defects: Vec<_> = states(&examined, Some(&here)).iter().map(HookState::is_defect).collect();
        assert_eq!(defects, [true, false]);
    }
}
