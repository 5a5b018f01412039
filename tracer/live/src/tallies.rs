//! Reading what the programs counted: records seen and lost, allocations by call site, mappings by length, times of the pool's functions and
//! of cache maintenance, runs missed and run time.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::fd::{AsFd, AsRawFd, RawFd},
};

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues},
    programs::Program,
};
use tracer_ebpf::{
    counter::{self, COUNTERS, HOT_SITES, HotSite, LENGTHS, LengthKey, Other, SiteKey, TIMES, Time},
    record::Kind,
};

use super::rings::ObjectCounts;
use bouncescope_capture::event::{DeviceId, Direction};
use bouncescope_capture::facts::{
    Counters, LengthCount, MaintenanceFunction, MaintenanceTime, Mapped, PoolFunction, PoolTime, PoolTimes,
    ProgramCost, SiteCount,
};
use bouncescope_capture::names::Loss;

/// The counting maps, and what they said the last time.
pub(super) struct Tallies {
    counts: PerCpuArray<MapData, u64>,
    sites: PerCpuHashMap<MapData, [u64; 2], u64>,
    hot: PerCpuArray<MapData, [u64; 4]>,
    reported: HashMap<[u64; 2], u64>,
    lengths: PerCpuHashMap<MapData, [u64; 3], [u64; 2]>,
    reported_lengths: HashMap<[u64; 3], [u64; 2]>,
    times: PerCpuArray<MapData, [u64; 3]>,
    reported_times: PoolTimes,
}

/// What the kernel says of a program; 0 where it does not.
struct ProgramInfo {
    run_cnt: u64,
    run_time_ns: u64,
    recursion_misses: u64,
}

impl Tallies {
    pub(super) fn take_from(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        let missing = |name: &str| MapError::InvalidName { name: name.to_owned() };
        Ok(Self {
            counts: ebpf.take_map("COUNTS").ok_or_else(|| missing("COUNTS"))?.try_into()?,
            sites: ebpf.take_map("SITES").ok_or_else(|| missing("SITES"))?.try_into()?,
            hot: ebpf.take_map("HOT").ok_or_else(|| missing("HOT"))?.try_into()?,
            reported: HashMap::new(),
            lengths: ebpf.take_map("LENGTHS").ok_or_else(|| missing("LENGTHS"))?.try_into()?,
            reported_lengths: HashMap::new(),
            times: ebpf.take_map("POOL_TIMES").ok_or_else(|| missing("POOL_TIMES"))?.try_into()?,
            reported_times: PoolTimes::default(),
        })
    }

    /// All counters as they stand. `malformed` are losses that user space found itself, `objects` what was counted in their own rings.
    pub(super) fn counters(
        &self,
        ebpf: &Ebpf,
        time_ns: u64,
        malformed: u64,
        objects: &ObjectCounts,
    ) -> Result<Counters, MapError> {
        let mut counters = Counters { time_ns, ..Counters::default() };
        let read = (0..COUNTERS).map(|n| self.counts.get(&n, 0)).collect::<Result<Vec<PerCpuValues<u64>>, _>>()?;
        let mut read: Vec<Vec<u64>> = read.iter().map(|cpus| cpus.to_vec()).collect();
        for (kind, cpus) in [(Kind::Kmalloc, &objects.allocated), (Kind::Kfree, &objects.freed)] {
            for (cpu, [seen, lost]) in cpus.iter().enumerate() {
                for (counter, more) in [(counter::seen(kind), seen), (counter::ring_full(kind), lost)] {
                    if let Some(value) = read[counter as usize].get_mut(cpu) {
                        *value += more;
                    }
                }
            }
        }
        let mut lose = |loss: Loss, values: Vec<u64>| {
            if values.iter().any(|value| *value != 0) {
                counters.lost.insert(loss, values);
            }
        };
        for kind in Kind::ALL {
            lose(Loss::RingFull(kind), read[counter::ring_full(kind) as usize].clone());
        }
        for (other, _) in Other::LOSSES {
            lose(Loss::Counted(other), read[other as usize].clone());
        }
        lose(Loss::Malformed, vec![malformed]);
        for (name, program) in ebpf.programs() {
            lose(Loss::Missed(name.into()), vec![info(program).map_or(0, |info| info.recursion_misses)]);
        }
        counters.seen = Kind::ALL
            .iter()
            .map(|kind| (kind.name().to_owned(), read[counter::seen(*kind) as usize].clone()))
            .collect();
        counters.predicted = read[Other::Predicted as usize].iter().sum();
        Ok(counters)
    }

    /// Totals of the pool's functions and of cache maintenance by length; `None` when nothing changed since the last call.
    pub(super) fn changed_times(&mut self, time_ns: u64) -> Result<Option<PoolTimes>, MapError> {
        let mut times = PoolTimes { time_ns: self.reported_times.time_ns, ..PoolTimes::default() };
        for index in 0..TIMES {
            let cpus = self.times.get(&index, 0)?;
            add_time(&mut times, index, cpus.iter().map(|cpu| bytemuck::cast(*cpu)));
        }
        if times == self.reported_times {
            return Ok(None);
        }
        times.time_ns = time_ns;
        self.reported_times.clone_from(&times);
        Ok(Some(times))
    }

    /// Totals by call site and size of those that changed since the last call.
    pub(super) fn changed_sites(&mut self) -> Result<Vec<SiteCount>, MapError> {
        let mut changed = Vec::new();
        // An entry that disappears under the iteration is found the next time; none is ever removed.
        let mut totals: HashMap<[u64; 2], u64> =
            self.sites.iter().flatten().map(|(key, values)| (key, values.iter().sum())).collect();
        // Afterwards, so that what is moved from here to there meanwhile is missing once, and not counted twice.
        self.add_hot(&mut totals)?;
        for (key, count) in totals {
            if self.reported.insert(key, count) != Some(count) {
                let SiteKey { call_site, bytes_req, bytes_alloc } = bytemuck::cast(key);
                changed.push(SiteCount { call_site, bytes_req, bytes_alloc, count });
            }
        }
        Ok(changed)
    }

    /// Adds the call sites at hand.
    fn add_hot(&self, totals: &mut HashMap<[u64; 2], u64>) -> Result<(), MapError> {
        for index in 0..HOT_SITES {
            let places = self.hot.get(&index, 0)?;
            let is_new = |[site, sizes, count, _]: &[u64; 4]| *count > 0 && !totals.contains_key(&[*site, *sizes]);
            // A key that is written while it is read may be half of one and half of another: one that was never met is
            // believed when it is still there.
            let again = places.iter().any(is_new).then(|| self.hot.get(&index, 0)).transpose()?;
            for (place, now) in places.iter().zip(again.as_ref().unwrap_or(&places).iter()) {
                let [place, now]: [HotSite; 2] = [*place, *now].map(bytemuck::cast);
                if now.count > 0 && place.key == now.key {
                    *totals.entry(bytemuck::cast(now.key)).or_default() += now.count;
                }
            }
        }
        Ok(())
    }

    /// What is counted by device and length.
    pub(super) fn length_keys(&self) -> Vec<LengthKey> {
        self.lengths.keys().flatten().map(bytemuck::cast).collect()
    }

    /// Totals by device and length of those that changed since the last call, with what tells the device.
    pub(super) fn changed_lengths(&mut self, device: impl Fn(&LengthKey) -> Option<DeviceId>) -> Vec<LengthCount> {
        let mut changed = Vec::new();
        for (key, values) in self.lengths.iter().flatten() {
            let total =
                values.iter().fold([0; 2], |[count, bytes], value| [count + value[0], bytes.wrapping_add(value[1])]);
            if self.reported_lengths.get(&key) == Some(&total) {
                continue;
            }
            if let Some(one) = length_count(&bytemuck::cast(key), total, &device) {
                self.reported_lengths.insert(key, total);
                changed.push(one);
            }
        }
        changed
    }
}

/// `None` for a device that is not known yet, and for what no program counts.
fn length_count(
    key: &LengthKey,
    [count, bytes]: [u64; 2],
    device: impl Fn(&LengthKey) -> Option<DeviceId>,
) -> Option<LengthCount> {
    let mapped = [Mapped::Single, Mapped::Segment, Mapped::List, Mapped::Resource].get(usize::from(key.mapped))?;
    let direction = u8::try_from(key.direction).ok().and_then(Direction::from_raw)?;
    Some(LengthCount { device: device(key)?, direction, mapped: *mapped, length: key.length, count, bytes })
}

/// Adds the totals of one function and class of lengths, unless it was never called for such.
fn add_time(times: &mut PoolTimes, index: u32, cpus: impl Iterator<Item = Time>) {
    let Some(function) = counter::Function::ALL.get((index / LENGTHS) as usize) else { return };
    let log2 = (index % LENGTHS) as u8;
    let Time { calls, bytes, total_ns } = cpus.fold(Time::default(), |sum, cpu| Time {
        calls: sum.calls + cpu.calls,
        bytes: sum.bytes.wrapping_add(cpu.bytes),
        total_ns: sum.total_ns.wrapping_add(cpu.total_ns),
    });
    if calls == 0 {
        return;
    }
    let mut pool = |function| times.times.push(PoolTime { function, log2, calls, bytes, total_ns });
    let mut maintenance = |function| times.maintenance.push(MaintenanceTime { function, log2, calls, bytes, total_ns });
    match function {
        counter::Function::Map => pool(PoolFunction::Map),
        counter::Function::Unmap => pool(PoolFunction::Unmap),
        counter::Function::SyncForCpu => pool(PoolFunction::SyncForCpu),
        counter::Function::SyncForDevice => pool(PoolFunction::SyncForDevice),
        counter::Function::MaintainForDevice => maintenance(MaintenanceFunction::ForDevice),
        counter::Function::MaintainForCpu => maintenance(MaintenanceFunction::ForCpu),
    }
}

/// Runs and run time of each program that ran.
pub(super) fn costs(ebpf: &Ebpf) -> Vec<ProgramCost> {
    let cost = |(name, program): (&str, &Program)| {
        let info = info(program)?;
        (info.run_cnt > 0).then(|| ProgramCost {
            name: name.to_owned(),
            run_cnt: info.run_cnt,
            run_time_ns: info.run_time_ns,
        })
    };
    ebpf.programs().filter_map(cost).collect()
}

/// `None` for a program that is not loaded.
fn info(program: &Program) -> Option<ProgramInfo> {
    let fd = program.fd().ok()?.as_fd().as_raw_fd();
    info_by_call(fd).or_else(|| info_by_text(fd))
}

/// By the system call: a tenth of what reading text costs, twice a second for each program. `None` where it is refused.
fn info_by_call(fd: RawFd) -> Option<ProgramInfo> {
    /// `struct bpf_prog_info` (`include/uapi/linux/bpf.h`) until `recursion_misses`, as a kernel fills it that has as much (5.12); 0 otherwise.
    const WORDS: usize = 27;
    const RUN_TIME_NS: usize = 24;
    const RUN_CNT: usize = 25;
    const RECURSION_MISSES: usize = 26;
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    /// Of `union bpf_attr`.
    #[repr(C)]
    struct Attributes {
        fd: u32,
        length: u32,
        info: u64,
    }

    let mut info = [0_u64; WORDS];
    let length = size_of_val(&info) as u32;
    let attributes = Attributes { fd: fd as u32, length, info: info.as_mut_ptr() as u64 };
    // SAFETY: the kernel writes at most as many bytes as it is told to.
    let failed =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const attributes, size_of::<Attributes>()) };
    // SAFETY: a read of memory that the call may have written to.
    let info = unsafe { (&raw const info).read_volatile() };
    (failed == 0).then_some(ProgramInfo {
        run_cnt: info[RUN_CNT],
        run_time_ns: info[RUN_TIME_NS],
        recursion_misses: info[RECURSION_MISSES],
    })
}

fn info_by_text(fd: RawFd) -> Option<ProgramInfo> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let fields: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(name, value)| Some((name, value.trim().parse().ok()?)))
        .collect();
    let field = |name| fields.get(name).copied().unwrap_or(0);
    Some(ProgramInfo {
        run_cnt: field("run_cnt"),
        run_time_ns: field("run_time_ns"),
        recursion_misses: field("recursion_misses"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_cpus_add_up_and_what_never_ran_is_left_out() {
        let ran = Time { calls: 2, bytes: 36, total_ns: 900 };
        let of = |index, cpus: &[Time]| {
            let mut times = PoolTimes::default();
            add_time(&mut times, index, cpus.iter().copied());
            times
        };
        let index = counter::time(counter::Function::Unmap as u64, 18);
        let expected = PoolTime { function: PoolFunction::Unmap, log2: 4, calls: 4, bytes: 72, total_ns: 1800 };
        assert_eq!(of(index, &[ran, Time::default(), ran]).times, [expected]);
        assert_eq!(of(index, &[Time::default()]), PoolTimes::default());
        assert_eq!(of(TIMES, &[ran]), PoolTimes::default());
    }

    #[test]
    fn times_of_cache_maintenance_are_none_of_the_pool() {
        let mut times = PoolTimes::default();
        let ran = Time { calls: 1, bytes: 4096, total_ns: 250 };
        add_time(&mut times, counter::time(counter::Function::MaintainForCpu as u64, 4096), [ran].into_iter());
        let function = MaintenanceFunction::ForCpu;
        assert_eq!(times.maintenance, [MaintenanceTime { function, log2: 12, calls: 1, bytes: 4096, total_ns: 250 }]);
        assert_eq!(times.times, []);
    }
}
