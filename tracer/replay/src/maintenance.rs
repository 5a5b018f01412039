//! What cache maintenance costs: as it was measured, and under settings that refuse other mappings than the recorded kernel
//! did.
//!
//! A buffer of a device that is not coherent is maintained when it is mapped, and again when it is unmapped if the device may
//! have written it; of a list, each element for itself. Where it bounces, its slots are maintained instead, at the length of
//! the buffer: `swiotlb_map()` (`kernel/dma/swiotlb.c`), `dma_direct_unmap_phys()` (`kernel/dma/direct.h`), `iommu_dma_map_phys()`
//! (`drivers/iommu/dma-iommu.c`). So the calls are the same under every rule and every way with lists, but for mappings that are
//! refused. Of a refused list, the elements before the one that fails have been maintained for the device, and are given back
//! with `DMA_ATTR_SKIP_CPU_SYNC` (`dma_direct_map_sg()`, `kernel/dma/direct.c`; `iommu_dma_map_sg_swiotlb()`).

use bouncescope_capture::event::Direction;
use bouncescope_capture::facts::{Hook, MaintenanceFunction, PoolTimes, is_attached};
use bouncescope_capture::names::Subject;

use tracer_ebpf::attrs::{MMIO, SKIP_CPU_SYNC};

use crate::mapping::{Mapping, Truth};

/// Lengths are told apart by powers of two.
const LENGTHS: usize = 32;
/// What is so mapped is never maintained.
const NEVER_MAINTAINED: u64 = MMIO | SKIP_CPU_SYNC;

const FUNCTIONS: [MaintenanceFunction; 2] = [MaintenanceFunction::ForDevice, MaintenanceFunction::ForCpu];

/// Calls that refused mappings would have made, by function and length.
#[derive(Clone, Debug, Default)]
pub(super) struct Spared {
    calls: [[u64; LENGTHS]; FUNCTIONS.len()],
}

impl Spared {
    /// A mapping of a device that is not coherent is refused, and the buffers before this one have been maintained for the device.
    pub(super) fn refused(&mut self, mapping: &Mapping, from: usize) {
        if mapping.attrs & NEVER_MAINTAINED != 0 {
            return;
        }
        for (n, buffer) in mapping.buffers.iter().enumerate() {
            let log2 = buffer.size.max(1).ilog2().min(LENGTHS as u32 - 1) as usize;
            self.calls[MaintenanceFunction::ForDevice as usize][log2] += u64::from(n >= from);
            if mapping.direction != Direction::ToDevice {
                self.calls[MaintenanceFunction::ForCpu as usize][log2] += 1;
            }
        }
    }

    /// What these calls take less those of others, ns; `None` where a function that one of them calls was never measured.
    fn beyond(&self, other: &Self, measured: &PoolTimes) -> Option<f64> {
        let mut sum = 0.0;
        for function in FUNCTIONS {
            let both = self.calls[function as usize].iter().zip(&other.calls[function as usize]).enumerate();
            for (log2, (ours, theirs)) in both.filter(|(_, (ours, theirs))| ours != theirs) {
                sum += (*ours as f64 - *theirs as f64) * mean_ns(measured, function, log2)?;
            }
        }
        Some(sum)
    }
}

/// The first buffer that a recorded kernel did not maintain for the device when it refused the mapping. Behind an IOMMU it maintains all
/// before it asks for addresses (`iommu_dma_map_sg()`, `iommu_dma_map_phys()`, `drivers/iommu/dma-iommu.c`). Of a list that failed at no
/// recorded element, all that were recorded count as maintained.
pub(super) fn refused_from(mapping: &Mapping, iommu: bool) -> usize {
    let refused = |truth| matches!(truth, Truth::Refused | Truth::NotReached);
    let known = mapping.buffers.iter().position(|buffer| refused(buffer.truth));
    known.unwrap_or(if iommu || mapping.is_list() { mapping.buffers.len() } else { 0 })
}

/// The time of all calls that the recorded kernel made, ns; `None` where they were not timed.
pub(super) fn measured_ns(hooks: &[Hook], times: Option<&PoolTimes>) -> Option<u64> {
    let timed = [Subject::MaintainForDevice, Subject::MaintainForCpu];
    let total = || times.map_or(0, |times| times.maintenance.iter().map(|time| time.total_ns).sum());
    timed.iter().all(|subject| is_attached(hooks, subject)).then(total)
}

/// What a kernel takes that refuses the mappings of `spared`, where the recorded one took `measured_ns` and refused those of
/// `recorded`, ns.
pub(super) fn predicted_ns(
    measured_ns: u64,
    times: Option<&PoolTimes>,
    recorded: &Spared,
    spared: &Spared,
) -> Option<u64> {
    let more = recorded.beyond(spared, times.unwrap_or(&PoolTimes::default()))?;
    Some((measured_ns as f64 + more).max(0.0).round() as u64)
}

/// What a call took for the nearest length that was measured, ns.
fn mean_ns(measured: &PoolTimes, function: MaintenanceFunction, log2: usize) -> Option<f64> {
    let of_function = measured.maintenance.iter().filter(|time| time.function == function && time.calls > 0);
    let nearest = of_function.min_by_key(|time| usize::from(time.log2).abs_diff(log2))?;
    Some(nearest.total_ns as f64 / nearest.calls as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{DEVICE, REFUSED, Sample};
    use crate::step::Step;
    use bouncescope_capture::facts::MaintenanceTime;

    fn spared(function: MaintenanceFunction, log2: usize, calls: u64) -> Spared {
        let mut spared = Spared::default();
        spared.calls[function as usize][log2] = calls;
        spared
    }

    fn times() -> PoolTimes {
        let time = |log2, calls, total_ns| MaintenanceTime {
            function: MaintenanceFunction::ForDevice,
            log2,
            calls,
            bytes: 0,
            total_ns,
        };
        PoolTimes { maintenance: vec![time(3, 10, 1000), time(12, 1, 900)], ..PoolTimes::default() }
    }

    fn hook(subject: Subject) -> Hook {
        Hook { subject, attached: true, ..Hook::default() }
    }

    #[test]
    fn what_was_measured_is_the_cost_where_nothing_else_is_refused() {
        let hooks = [Subject::MaintainForDevice, Subject::MaintainForCpu].map(hook);
        let measured = measured_ns(&hooks, Some(&times()));
        assert_eq!(measured, Some(1900));
        let same = spared(MaintenanceFunction::ForCpu, 3, 7);
        assert_eq!(predicted_ns(1900, Some(&times()), &same, &same), Some(1900));
    }

    #[test]
    fn a_refused_mapping_spares_what_the_nearest_length_took_and_one_that_was_refused_adds_it() {
        let (two, none) = (spared(MaintenanceFunction::ForDevice, 4, 2), Spared::default());
        assert_eq!(predicted_ns(1900, Some(&times()), &none, &two), Some(1700));
        assert_eq!(predicted_ns(1900, Some(&times()), &two, &none), Some(2100));
        let never = spared(MaintenanceFunction::ForCpu, 4, 2);
        assert_eq!(predicted_ns(1900, Some(&times()), &never, &none), None, "never measured");
    }

    /// A list of 8, 16, 32 and 64 bytes, of which the third is refused.
    fn refused_list() -> Mapping {
        let mut sample = Sample::new();
        sample.attempt(DEVICE, 0x4000_1020, 32).search(DEVICE, 0x4000_1020, 32, REFUSED);
        sample.map_sg(DEVICE, 0x10, &[(0x10, 8), (0, 16), (0x20, 32), (0x30, 64)], 0);
        let mapped = sample.steps().into_iter().find_map(|step| match step {
            Step::Mapped { mapping, .. } => Some(mapping),
            _ => None,
        });
        (*mapped.unwrap()).clone()
    }

    /// Calls for the device and for the CPU of 8, 16, 32 and 64 bytes that are spared.
    fn spared_from(mapping: &Mapping, from: usize) -> [[u64; 4]; 2] {
        let mut spared = Spared::default();
        spared.refused(mapping, from);
        spared.calls.map(|calls| [calls[3], calls[4], calls[5], calls[6]])
    }

    #[test]
    fn a_list_is_maintained_for_the_device_up_to_the_element_that_is_refused_and_never_for_the_cpu() {
        let mut list = refused_list();
        assert_eq!(refused_from(&list, false), 2);
        assert_eq!(spared_from(&list, 2), [[0, 0, 1, 1], [1; 4]]);
        list.direction = Direction::ToDevice;
        assert_eq!(spared_from(&list, 1), [[0, 1, 1, 1], [0; 4]]);
        for never in [MMIO, 1 << 5] {
            assert_eq!(spared_from(&Mapping { attrs: never, ..list.clone() }, 0), [[0; 4]; 2], "never maintained");
        }
    }

    #[test]
    fn what_an_iommu_refuses_has_been_maintained_and_what_a_device_cannot_reach_has_not() {
        let single = |mut sample: Sample| {
            sample.map(DEVICE, 0x4000_1008, REFUSED, 8);
            let mapped = sample.steps().into_iter().find_map(|step| match step {
                Step::Mapped { mapping, .. } => Some(mapping),
                _ => None,
            });
            (*mapped.unwrap()).clone()
        };
        assert_eq!(refused_from(&single(Sample::with_iommu()), true), 1);
        assert_eq!(refused_from(&single(Sample::new()), false), 0);
    }

    #[test]
    fn a_capture_in_which_only_one_of_the_functions_was_timed_does_not_tell() {
        assert_eq!(measured_ns(&[hook(Subject::MaintainForDevice)], Some(&times())), None);
        assert_eq!(measured_ns(&[], None), None);
        let hooks = [Subject::MaintainForDevice, Subject::MaintainForCpu].map(hook);
        assert_eq!(measured_ns(&hooks, None), Some(0), "attached, and never called");
    }
}
