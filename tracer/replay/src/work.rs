//! The work of the pool's functions: how often each is called for which lengths, and what time that takes at the speed that
//! was measured.

use serde::Serialize;

use bouncescope_capture::facts::{Hook, PoolFunction, PoolTimes, is_attached};
use bouncescope_capture::names::Subject;

/// Lengths are told apart by powers of two.
const LENGTHS: usize = 32;

const FUNCTIONS: [PoolFunction; 4] =
    [PoolFunction::Map, PoolFunction::Unmap, PoolFunction::SyncForCpu, PoolFunction::SyncForDevice];

/// Calls by function and length.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    calls: [[u64; LENGTHS]; FUNCTIONS.len()],
    bytes: [u64; FUNCTIONS.len()],
}

/// Calls of one of the pool's functions, in a simulated kernel and in the recorded one. The recorded kernel's are those of all mappings
/// while it was counted, of earlier ones too, and of mappings, those that found no slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PoolCalls {
    /// Which function.
    pub function: PoolFunction,
    /// Calls, in the model.
    pub predicted: u64,
    /// Bytes of their buffers, in sum, in the model.
    pub bytes_predicted: u64,
    /// Calls in the kernel.
    pub kernel: u64,
    /// Bytes of their buffers, in sum, in the kernel.
    pub bytes_kernel: u64,
}

/// Predicted calls beside those that the kernel made, of each function whose calls were counted.
pub(super) fn beside_measured(
    predicted: &[(PoolFunction, u64, u64)],
    hooks: &[Hook],
    measured: Option<&PoolTimes>,
) -> Vec<PoolCalls> {
    let Some(measured) = measured else { return Vec::new() };
    let is_counted = |function: &PoolFunction| {
        let subject = match function {
            PoolFunction::Map => Subject::SlotMap,
            PoolFunction::Unmap => Subject::SlotUnmap,
            PoolFunction::SyncForCpu => Subject::PoolSyncForCpu,
            PoolFunction::SyncForDevice => Subject::PoolSyncForDevice,
        };
        is_attached(hooks, &subject)
    };
    let row = |&(function, predicted, bytes_predicted): &(PoolFunction, u64, u64)| {
        let times = measured.times.iter().filter(|time| time.function == function);
        let (kernel, bytes_kernel) = times.fold((0, 0), |(calls, bytes): (u64, u64), time| {
            (calls.saturating_add(time.calls), bytes.saturating_add(time.bytes))
        });
        PoolCalls { function, predicted, bytes_predicted, kernel, bytes_kernel }
    };
    predicted.iter().filter(|(function, ..)| is_counted(function)).map(row).collect()
}

impl Work {
    /// A function is called for a buffer of so many bytes.
    pub(super) fn call(&mut self, function: PoolFunction, bytes: u64) {
        self.calls(function, bytes, 1);
    }

    /// A function is called so often for a buffer of so many bytes.
    pub(super) fn calls(&mut self, function: PoolFunction, bytes: u64, times: u64) {
        let log2 = bytes.max(1).ilog2().min(LENGTHS as u32 - 1) as usize;
        self.calls[function as usize][log2] += times;
        let sum = &mut self.bytes[function as usize];
        *sum = sum.saturating_add(bytes.saturating_mul(times));
    }

    /// Each function, how often it is called, and bytes of the buffers in sum.
    pub(super) fn by_function(&self) -> Vec<(PoolFunction, u64, u64)> {
        let of = |function: PoolFunction| {
            (function, self.calls[function as usize].iter().sum(), self.bytes[function as usize])
        };
        FUNCTIONS.map(of).into()
    }

    /// What all that takes, ns; `None` where a function that is called was never measured.
    pub(super) fn time_ns(&self, measured: &PoolTimes) -> Option<u64> {
        let mut sum = 0.0;
        for (function, calls) in FUNCTIONS.into_iter().zip(&self.calls) {
            for (log2, calls) in calls.iter().enumerate().filter(|(_, calls)| **calls > 0) {
                sum += *calls as f64 * mean_ns(measured, function, log2)?;
            }
        }
        Some(sum as u64)
    }
}

/// What a call took for the nearest length that was measured, ns.
fn mean_ns(measured: &PoolTimes, function: PoolFunction, log2: usize) -> Option<f64> {
    let of_function = measured.times.iter().filter(|time| time.function == function && time.calls > 0);
    let nearest = of_function.min_by_key(|time| usize::from(time.log2).abs_diff(log2))?;
    Some(nearest.total_ns as f64 / nearest.calls as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::PoolTime;

    #[test]
    fn each_call_takes_what_the_nearest_length_took() {
        let time = |function, log2, calls, total_ns| PoolTime { function, log2, calls, bytes: 0, total_ns };
        let times = vec![time(PoolFunction::Map, 3, 10, 1000), time(PoolFunction::Map, 12, 1, 900)];
        let measured = PoolTimes { times, ..PoolTimes::default() };
        let mut work = Work::default();
        for bytes in [8, 9, 4096] {
            work.call(PoolFunction::Map, bytes);
        }
        assert_eq!(work.time_ns(&measured), Some(1100));
        work.call(PoolFunction::Unmap, 8);
        assert_eq!(work.time_ns(&measured), None, "never measured");
    }
}
