//! A mapping whose buffers come one by one.

use super::Predicted;
use crate::model::{mapping::Fate, pool::Refused};
use crate::replay::{devices::Devices, kernel::Kernel, mapping::Mapping};

/// A mapping of which not every buffer has been.
#[derive(Clone, Debug)]
pub(super) struct InProgress {
    pub(super) fates: Vec<Fate>,
    pub(super) loses_concatenation: bool,
    pub(super) predicted: Vec<Predicted>,
    pub(super) refused: Option<(u32, Refused)>,
}

impl InProgress {
    pub(super) fn new(kernel: &mut Kernel, mapping: &Mapping, devices: &Devices) -> Self {
        let loses_concatenation = kernel.loses_concatenation(mapping, devices);
        let fates = (0..mapping.buffers.len()).map(|n| kernel.fate(mapping, n, loses_concatenation, devices)).collect();
        Self { fates, loses_concatenation, ..Self::unknown(mapping) }
    }

    /// Of a mapping that never was in progress.
    pub(super) fn unknown(mapping: &Mapping) -> Self {
        let buffers = mapping.buffers.len();
        Self {
            fates: Vec::new(),
            loses_concatenation: false,
            predicted: vec![Predicted::Direct; buffers],
            refused: None,
        }
    }
}
