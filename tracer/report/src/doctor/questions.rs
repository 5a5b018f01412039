//! Which questions can be answered on a kernel: what each needs, held against hooks and facts.

use bouncescope_capture::facts::is_attached;
use bouncescope_capture::names::Subject;
use serde::Serialize;
use tracer_ebpf::streamed::Streamed;

use super::Examined;

/// How well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// All of it.
    Yes,
    /// Some of it, or with less certainty.
    Partly,
    /// Nothing of it.
    No,
}

/// A question, and how well it can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answer {
    /// The question.
    pub question: &'static str,
    /// How well.
    pub answered: Answered,
    /// What is missing; empty when nothing is.
    pub missing: Vec<String>,
}

/// Something that an answer rests on.
#[derive(Clone, Copy)]
enum Need {
    /// One of these hooks, by subject.
    Hook(&'static [Subject]),
    /// Where memory lies in the kernel's address space.
    LinearMap,
    /// Names of functions.
    Symbols,
    /// The pool's own counters, or the hooks on it.
    PoolOrCounters,
    /// A pool.
    Pool,
    /// Mappings of every length that a non-coherent device writes.
    AllWritten,
}

use Need::{AllWritten, Hook, LinearMap, Pool, PoolOrCounters, Symbols};

/// A question: without one of `must` there is no answer, without one of `better` not all of it.
struct Question {
    asks: &'static str,
    must: &'static [Need],
    better: &'static [Need],
}

const MAP: Need = Hook(&[Subject::Map]);
const MAP_SG: Need = Hook(&[Subject::MapSg]);
const SLOT: Need = Hook(&[Subject::SlotMap]);
const SLOT_BACK: Need = Hook(&[Subject::SlotUnmap]);
const BOUNCED: Need = Hook(&[Subject::Bounced, Subject::SlotMap]);

const QUESTIONS: &[Question] = &[
    Question { asks: "what is mapped: devices, directions, lengths", must: &[MAP], better: &[MAP_SG] },
    Question { asks: "how many mappings bounce", must: &[BOUNCED], better: &[MAP, MAP_SG] },
    Question {
        asks: "how many would under other line sizes, caches, policies",
        must: &[MAP],
        better: &[MAP_SG, AllWritten],
    },
    Question { asks: "whether the prediction holds here (verify)", must: &[MAP, BOUNCED], better: &[MAP_SG, SLOT] },
    Question { asks: "how full the pool gets", must: &[Pool, PoolOrCounters], better: &[SLOT, SLOT_BACK] },
    Question {
        asks: "which pool would be enough",
        must: &[MAP, Hook(&[Subject::Unmap])],
        better: &[MAP_SG, Hook(&[Subject::UnmapSg]), SLOT, SLOT_BACK],
    },
    Question {
        asks: "which mappings are refused for want of slots",
        must: &[SLOT],
        better: &[Hook(&[Subject::MapSgRefused]), Hook(&[Subject::MapSgtableRefused])],
    },
    Question {
        asks: "how long copying takes",
        must: &[Pool, SLOT],
        better: &[SLOT_BACK, Hook(&[Subject::PoolSyncForCpu]), Hook(&[Subject::PoolSyncForDevice])],
    },
    Question {
        asks: "what is handed over while mapped",
        must: &[Hook(&[Subject::Sync])],
        better: &[Hook(&[Subject::SyncSg])],
    },
    Question { asks: "who allocates what with kmalloc", must: &[Hook(&[Subject::Kmalloc])], better: &[Symbols] },
    Question {
        asks: "live bytes, and what smaller caches save",
        must: &[Hook(&[Subject::Kmalloc]), Hook(&[Subject::Kfree])],
        better: &[],
    },
    Question {
        asks: "whose object a buffer is, and what shares its cache lines",
        must: &[MAP, Hook(&[Subject::Kmalloc]), LinearMap],
        better: &[MAP_SG, Hook(&[Subject::Kfree]), Symbols, AllWritten],
    },
];

/// Every question.
pub(super) fn answers(examined: &Examined) -> Vec<Answer> {
    QUESTIONS.iter().map(|question| answer(question, examined)).collect()
}

fn answer(question: &Question, examined: &Examined) -> Answer {
    let missing = |needs: &[Need]| -> Vec<String> { needs.iter().filter_map(|need| need.missing(examined)).collect() };
    let (must, better) = (missing(question.must), missing(question.better));
    let answered = match (must.is_empty(), better.is_empty()) {
        (false, _) => Answered::No,
        (true, false) => Answered::Partly,
        (true, true) => Answered::Yes,
    };
    Answer { question: question.asks, answered, missing: if must.is_empty() { better } else { must } }
}

impl Need {
    /// What is missing of it, in a few words.
    fn missing(self, examined: &Examined) -> Option<String> {
        let attached = |subject: &Subject| is_attached(&examined.start.hooks, subject);
        match self {
            Hook(subjects) => {
                let names = || subjects.iter().map(Subject::name).collect::<Vec<_>>();
                (!subjects.iter().any(attached)).then(|| format!("hook {}", names().join(" or ")))
            }
            Pool => (examined.start.kernel.pool.slots == 0 && examined.pool.is_none())
                .then(|| "a pool: there is none, or none that is known".to_owned()),
            AllWritten => (!examined.start.streamed.includes(Streamed::Written))
                .then(|| "buffers of 256 bytes and more (record --mappings written)".to_owned()),
            LinearMap => examined.start.kernel.linear_map.is_none().then(|| "the linear map".to_owned()),
            Symbols => (!examined.named).then(|| "names of functions (/proc/kallsyms)".to_owned()),
            PoolOrCounters => (!attached(&Subject::SlotMap) && examined.pool.is_none())
                .then(|| "the pool's counters (debugfs) or hook slot_map".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::{self, KernelFacts, PoolSample};
    use bouncescope_capture::stream::Start;

    fn examined(subjects: &[&str]) -> Examined {
        let hook = |subject: &&str| facts::Hook { subject: (*subject).into(), attached: true, ..Default::default() };
        let kernel = KernelFacts { linear_map: Some(facts::LinearMap::default()), ..KernelFacts::default() };
        let start = Start { hooks: subjects.iter().map(hook).collect(), kernel, ..Start::default() };
        Examined { start, named: true, ..Examined::default() }
    }

    fn of(question: &str, examined: &Examined) -> Answer {
        answers(examined).into_iter().find(|answer| answer.question.starts_with(question)).unwrap()
    }

    #[test]
    fn an_answer_rests_on_its_hooks() {
        assert_eq!(of("how many mappings bounce", &examined(&[])).answered, Answered::No);
        let partly = of("how many mappings bounce", &examined(&["bounced", "map"]));
        assert_eq!((partly.answered, partly.missing), (Answered::Partly, vec!["hook map_sg".to_owned()]));
        let yes = of("how many mappings bounce", &examined(&["slot_map", "map", "map_sg"]));
        assert_eq!((yes.answered, yes.missing), (Answered::Yes, vec![]));
    }

    #[test]
    fn a_hook_that_is_not_attached_counts_for_nothing() {
        let mut examined = examined(&["kmalloc", "kfree"]);
        assert_eq!(of("live bytes", &examined).answered, Answered::Yes);
        examined.start.hooks[1].attached = false;
        assert_eq!(of("live bytes", &examined).missing, ["hook kfree"]);
    }

    #[test]
    fn the_pools_own_counters_tell_how_full_it_gets_in_part() {
        let mut examined = examined(&[]);
        assert_eq!(of("how full", &examined).answered, Answered::No);
        examined.pool = Some(PoolSample::default());
        assert_eq!(of("how full", &examined).answered, Answered::Partly);
    }

    #[test]
    fn of_no_pool_nothing_can_be_told_and_of_long_buffers_only_where_they_were_recorded() {
        let mut examined = examined(&["map", "map_sg", "slot_map", "slot_unmap"]);
        assert!(of("how full", &examined).missing[0].starts_with("a pool"));
        examined.start.kernel.pool.slots = 512;
        assert_eq!(of("how full", &examined).answered, Answered::Yes);
        assert_eq!(of("how many would", &examined).answered, Answered::Yes);
        examined.start.streamed = Streamed::Small;
        assert_eq!(of("how many would", &examined).answered, Answered::Partly);
    }

    #[test]
    fn without_the_linear_map_no_buffer_has_an_owner() {
        let mut examined = examined(&["map", "map_sg", "kmalloc", "kfree"]);
        assert_eq!(of("whose object", &examined).answered, Answered::Yes);
        examined.start.kernel.linear_map = None;
        assert_eq!(of("whose object", &examined).missing, ["the linear map"]);
    }
}
