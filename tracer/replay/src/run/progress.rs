//! Mappings whose buffers come one by one.

use super::{Predicted, Prediction};
use crate::{devices::Devices, kernel::Kernel, mapping::Mapping};
use bouncescope_model::{mapping::Fate, pool::Refused};

/// A mapping of which not every buffer has been.
#[derive(Clone, Debug, Default)]
pub(super) struct InProgress {
    pub(super) fates: Vec<Fate>,
    pub(super) loses_concatenation: bool,
    pub(super) predicted: Vec<Prediction>,
    pub(super) refused: Option<(u32, Refused)>,
}

/// All of them: hardly more than there are CPUs. What is over lends its memory to the next, of which there are millions.
#[derive(Clone, Debug, Default)]
pub(super) struct AllInProgress {
    now: Vec<(u64, InProgress)>,
    spare: Vec<InProgress>,
}

impl AllInProgress {
    /// The mapping's, which begins if it has not yet.
    pub(super) fn of(&mut self, kernel: &mut Kernel, mapping: &Mapping, devices: &Devices) -> &mut InProgress {
        let at = self.place(mapping.id).unwrap_or_else(|| {
            let mut one = self.begin(mapping);
            one.loses_concatenation = kernel.loses_concatenation(mapping, devices);
            let fate = |n| kernel.fate(mapping, n, one.loses_concatenation, devices);
            one.fates.extend((0..mapping.buffers.len()).map(fate));
            self.now.push((mapping.id, one));
            self.now.len() - 1
        });
        &mut self.now[at].1
    }

    /// That of a mapping in progress.
    pub(super) fn get_mut(&mut self, mapping: u64) -> Option<&mut InProgress> {
        let at = self.place(mapping)?;
        Some(&mut self.now[at].1)
    }

    /// The mapping is complete; one that never was in progress has all its buffers as they are.
    pub(super) fn end(&mut self, mapping: &Mapping) -> InProgress {
        match self.place(mapping.id) {
            Some(at) => self.now.swap_remove(at).1,
            None => self.begin(mapping),
        }
    }

    /// The mapping is complete, and nobody asks what was predicted.
    pub(super) fn forget(&mut self, mapping: u64) {
        if let Some(at) = self.place(mapping) {
            let (_, one) = self.now.swap_remove(at);
            self.give_back(one);
        }
    }

    /// Takes back the memory of one that is over.
    pub(super) fn give_back(&mut self, one: InProgress) {
        self.spare.push(one);
    }

    fn place(&self, mapping: u64) -> Option<usize> {
        self.now.iter().rposition(|(id, _)| *id == mapping)
    }

    fn begin(&mut self, mapping: &Mapping) -> InProgress {
        let mut one = self.spare.pop().unwrap_or_default();
        one.fates.clear();
        one.predicted.clear();
        one.predicted.resize(mapping.buffers.len(), Predicted::Direct.into());
        (one.loses_concatenation, one.refused) = (false, None);
        one
    }
}
