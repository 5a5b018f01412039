//! How long the mappings that the recorded kernel refused would have lasted. No event tells it: they are taken to last as long as
//! the longest of the same device, call site and length that ended, and no less than those that were mapped before them and
//! last still; to the end of the recording where none ended.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use super::mapping::Mapping;
use super::site::SiteId;
use super::step::{Holder, Step};
use bouncescope_capture::event::DeviceId;

/// Mappings that are followed at once, refused ones apart: bounds memory where none is ever unmapped.
const MOST_LIVE: usize = 1 << 20;
/// Buffers of refused mappings that are waited for at once. The oldest is taken to end where there are more.
const MOST_REFUSED: usize = 1 << 16;

/// Classes that are told apart. Those of mappings beyond are one for each device.
const MOST_CLASSES: usize = 1 << 16;

/// What mappings have in common that last alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Class {
    device: DeviceId,
    site: SiteId,
    bytes: u64,
}

impl Class {
    fn of(mapping: &Mapping) -> Self {
        let site = mapping.buffers.first().map_or(SiteId::UNKNOWN, |buffer| buffer.site);
        Self { device: mapping.device, site, bytes: mapping.bytes }
    }
}

/// Mappings of one class.
#[derive(Clone, Debug, Default)]
struct Alike {
    /// The longest of those that ended, ns.
    longest_ns: Option<u64>,
    /// When those that last began, and which they are.
    live: BTreeSet<(u64, u64)>,
    /// Refused ones that would last, the oldest first.
    refused: VecDeque<Arc<Mapping>>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    alike: HashMap<Class, Alike>,
    /// When to look at a class again.
    due: BTreeSet<(u64, Class)>,
    live: usize,
    refused: usize,
}

impl Lives {
    /// Takes in a step, and gives the ends of refused mappings that come before it.
    pub(super) fn before(&mut self, step: &Step, ended: &mut Vec<Step>) {
        let now_ns = step.time_ns();
        while let Some(&(due_ns, class)) = self.due.first().filter(|(due_ns, _)| *due_ns <= now_ns) {
            self.due.remove(&(due_ns, class));
            self.settle(class, now_ns, ended);
        }
        match step {
            Step::Buffer { replaces: Some(Holder::Buffer(gone, _)), .. } => self.forget(gone),
            Step::Mapped { mapping, replaces } => {
                if let Some(gone) = replaces {
                    self.forget(gone);
                }
                self.mapped(mapping, now_ns, ended);
            }
            Step::Forgotten { mapping, .. } => self.forget(mapping),
            Step::Unmapped(unmapping) => self.unmapped(&unmapping.mapping, now_ns, ended),
            _ => {}
        }
    }

    /// Once there are too many classes no other one comes in, so that a mapping's class stays what it was.
    fn class(&self, mapping: &Mapping) -> Class {
        let class = Class::of(mapping);
        if self.alike.len() < MOST_CLASSES || self.alike.contains_key(&class) {
            return class;
        }
        Class { device: mapping.device, site: SiteId::UNKNOWN, bytes: 0 }
    }

    fn mapped(&mut self, mapping: &Arc<Mapping>, now_ns: u64, ended: &mut Vec<Step>) {
        let class = self.class(mapping);
        let alike = self.alike.entry(class).or_default();
        if !mapping.failed {
            if self.live < MOST_LIVE {
                self.live += usize::from(alike.live.insert((mapping.time_ns, mapping.id)));
            }
            return;
        }
        let buffers = mapping.buffers.len();
        while self.refused + buffers > MOST_REFUSED
            && let Some(oldest) = alike.refused.pop_front()
        {
            self.refused -= oldest.buffers.len();
            ended.push(Step::RefusedEnds { mapping: oldest, time_ns: now_ns });
        }
        if self.refused + buffers <= MOST_REFUSED {
            self.refused += buffers;
            alike.refused.push_back(Arc::clone(mapping));
            self.settle(class, now_ns, ended);
        }
    }

    fn unmapped(&mut self, mapping: &Mapping, now_ns: u64, ended: &mut Vec<Step>) {
        let class = self.class(mapping);
        let Some(alike) = self.alike.get_mut(&class) else { return };
        self.live -= usize::from(alike.live.remove(&(mapping.time_ns, mapping.id)));
        alike.longest_ns = alike.longest_ns.max(Some(now_ns.saturating_sub(mapping.time_ns)));
        if !alike.refused.is_empty() {
            self.settle(class, now_ns, ended);
        }
    }

    fn forget(&mut self, mapping: &Mapping) {
        let class = self.class(mapping);
        if let Some(alike) = self.alike.get_mut(&class) {
            self.live -= usize::from(alike.live.remove(&(mapping.time_ns, mapping.id)));
        }
    }

    /// Ends the refused mappings of a class that have lasted long enough.
    fn settle(&mut self, class: Class, now_ns: u64, ended: &mut Vec<Step>) {
        let Some(alike) = self.alike.get_mut(&class) else { return };
        let Some(longest_ns) = alike.longest_ns else { return };
        while let Some(first) = alike.refused.front() {
            let older_lasts = alike.live.first().is_some_and(|(since_ns, _)| *since_ns < first.time_ns);
            let due_ns = first.time_ns.saturating_add(longest_ns);
            if older_lasts {
                return;
            }
            if due_ns > now_ns {
                self.due.insert((due_ns, class));
                return;
            }
            if let Some(mapping) = alike.refused.pop_front() {
                self.refused -= mapping.buffers.len();
                ended.push(Step::RefusedEnds { mapping, time_ns: now_ns });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{DEVICE, REFUSED, Sample};
    use super::super::settings::{Settings, WhatIf};
    use super::*;
    use bouncescope_model::policy::{PoolChoice, builtin};

    const SLOT: u64 = 0x8000_0000;
    const BUFFER: u64 = 0x4000_0000;

    /// Peak and refusals at the least, and at the most.
    fn bounds(sample: &mut Sample) -> [(u64, u64); 2] {
        let change = WhatIf { pool: Some(PoolChoice::Slots(1024)), ..WhatIf::default() };
        let settings = Settings::what_if(&sample.start.kernel, &builtin("mainline").unwrap(), &change);
        let outcome = sample.run(settings);
        let most = outcome.at_most.unwrap_or_default();
        [(outcome.peak_slots, outcome.total.failed), (most.peak_slots, most.failed)]
    }

    /// Three held, and two refused, of the same length.
    fn held_and_refused() -> Sample {
        let mut sample = Sample::new();
        for n in 0..3 {
            sample.bounce(BUFFER + n * 64, 8, SLOT + n * 2048);
        }
        for n in 3..5 {
            sample.bounce(BUFFER + n * 64, 8, REFUSED);
        }
        sample
    }

    #[test]
    fn refused_mappings_last_to_the_end_where_none_like_them_ended() {
        assert_eq!(bounds(&mut held_and_refused()), [(4, 0), (5, 0)]);
    }

    #[test]
    fn refused_mappings_last_as_long_as_those_that_were_mapped_before_them() {
        let mut sample = held_and_refused();
        for n in 0..3 {
            sample.unbounce(SLOT + n * 2048, 8);
        }
        // Long after, four more: those refused are gone by then.
        sample.wait(1_000_000_000);
        for n in 0..4 {
            sample.bounce(BUFFER + n * 64, 8, SLOT + n * 2048);
        }
        assert_eq!(bounds(&mut sample), [(4, 0), (5, 0)]);
    }

    #[test]
    fn others_of_another_length_or_device_say_nothing() {
        let mut sample = Sample::new();
        sample.bounce(BUFFER, 16, SLOT).unbounce(SLOT, 16);
        sample.bounce(BUFFER, 8, REFUSED).wait(1_000_000_000);
        sample.bounce(BUFFER, 16, SLOT);
        assert_eq!(bounds(&mut sample), [(1, 0), (2, 0)]);
    }

    #[test]
    fn without_refusals_there_is_nothing_to_bound() {
        let mut sample = Sample::new();
        sample.bounce(BUFFER, 8, SLOT).attempt(DEVICE, BUFFER, 8);
        assert_eq!(bounds(&mut sample)[1], (0, 0));
    }

    #[test]
    fn refused_lists_are_waited_for_up_to_a_number_of_buffers() {
        let mut sample = Sample::new();
        sample.map_sg(DEVICE, 0x10, &[(0, 8)].repeat(40_000), 0);
        let Some(Step::Mapped { mapping, .. }) = sample.steps().pop() else { panic!("no list was mapped") };
        let mut lives = Lives::default();
        let mut ended = Vec::new();
        for id in 0..5 {
            let mapping = Arc::new(Mapping { id, ..(*mapping).clone() });
            lives.before(&Step::Mapped { mapping, replaces: None }, &mut ended);
        }
        assert_eq!((ended.len(), lives.refused), (4, 40_000));
    }
}
