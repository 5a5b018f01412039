//! One tracing session: from loading the programs to the last record after they are detached.

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aya::{Ebpf, EbpfLoader, util::nr_cpus};
use tracer_ebpf::{
    config::{Config, SlabLayout},
    record::Kind,
};

use super::{
    LiveError, ObjectRings, Options,
    clock::{now_ns, process_cpu_ns},
    decode::Decoder,
    hooks::{self, Link},
    load::{load, loader, no_hook, raise_descriptor_limit},
    memory,
    naming::Naming,
    programs_log::ProgramsLog,
    rings::{Object, Record, Rings, STALL_NS, Shared, Sizes},
    run_times::RunTimes,
    tallies::{self, Tallies},
};
use crate::kernel::{
    alloc_info::live_sites,
    btf::Btf,
    event_count::EventCount,
    events::Tracefs,
    facts, layout,
    pool::{PoolCounters, keeps_hiwater},
    privilege::{Privilege, not_mounted},
    root::Root,
    slab_fill::SlabFill,
    slab_pages,
    symbols::Symbols,
};
use bouncescope_capture::Filling;
use bouncescope_capture::event::Batch;
use bouncescope_capture::facts::{End, LengthCount, SiteCount, SlabSample};
use bouncescope_capture::stream::{Item, Start};

/// Events in one batch at the most, so that a busy kernel cannot make one grow without bound.
const BATCH: usize = 64 << 10;
/// What maps scatterlists, on the stack between the tracepoint and the caller (`kernel/dma/mapping.c`).
const LIST_MAPPERS: [&str; 3] = ["dma_map_sg_attrs", "dma_map_sgtable", "__dma_map_sg_attrs"];
/// Where a function with a kretprobe returns to, by the names of several kernels (`kernel/kprobes.c`, `kernel/trace/rethook.c`).
const TRAMPOLINES: [&str; 3] = ["kretprobe_trampoline", "__kretprobe_trampoline", "arch_rethook_trampoline"];
/// How often the kmalloc caches are sampled: the kernel walks lists of slabs for it.
const SLAB_EVERY: Duration = Duration::from_secs(10);
/// How often what the programs sum up is read: the times of the pool's functions, call sites, lengths. While a map is read, the
/// kernel skips programs of kprobes on that CPU (`bpf_disable_instrumentation()`, `include/linux/bpf.h`).
const SUMS_EVERY: Duration = Duration::from_secs(2);

/// What a kernel without BTF leaves open.
const WITHOUT_BTF: &str = "devices' DMA masks and alignments are not known, and their coherence is the device tree's; \
                           --btf FILE can name this kernel's BTF";
/// `trace_call_bpf()` (`kernel/trace/bpf_trace.c`) counts what it skips from 6.7 on (`bpf_prog_inc_misses_counters()`).
const BY_KPROBES: &str = "mappings are seen through kprobes: a mapping that an interrupt makes while another program \
                          runs on its CPU is skipped; kernels before 6.7 do not count these";
/// Costs more per object, and is right as well.
const IN_KERNEL_RINGS: &str =
    "objects go through the kernel's ring buffers, which cost more, and not through arrays of the recorder's own";
/// The function that names its buffer by a page.
const MAP_PAGE: &str = " dma_map_page_attrs";
/// Of single mappings then length, direction and offset into the page are recorded still, which is all that the decider asks.
const WITHOUT_VMEMMAP: &str = "the physical addresses of single mappings can't be told from their pages: /proc/kcore and \
                               BTF must show where those are described (CONFIG_PROC_KCORE, CONFIG_SPARSEMEM_VMEMMAP)";

/// The running kernel, being traced.
pub struct Session {
    // Dropped first: the programs must be detached before their maps go.
    links: Vec<Link>,
    ebpf: Ebpf,
    rings: Rings,
    decoder: Decoder,
    tallies: Tallies,
    /// `None` where there are no symbols.
    naming: Option<Naming>,
    pool: PoolCounters,
    /// The sample of the caches that was taken when everything had been attached, until it is handed out.
    first_slab: Option<Item>,
    last_slab: Instant,
    slabs: SlabFill,
    last_sums: Instant,
    /// They are read the next time, whenever that was.
    sums_are_due: bool,
    tracefs: Option<EventCount>,
    log: Option<ProgramsLog>,
    /// `None` where the kernel may not be made to count.
    run_times: Option<RunTimes>,
}

impl Session {
    /// Loads and attaches everything that this kernel lets attach. Must run inside a tokio runtime.
    pub fn start(options: &Options) -> Result<(Self, Start), LiveError> {
        memory::return_soon();
        let root = Root::default();
        if let Some(advice) = not_mounted(&root).or_else(|| Privilege::read(&root).advice()) {
            return Err(LiveError::NotPermitted(advice));
        }
        raise_descriptor_limit()?;
        let loader = loader();
        let btf = match &options.btf {
            Some(file) => Ok(Btf::from_file(file)?),
            None => Btf::of_running_kernel(),
        };
        let (mut kernel, mut notes) = facts::read(&root, btf.as_ref().ok());
        let symbols = read_symbols(&root, &mut notes);
        let address_of = |name: &str| symbols.as_ref().and_then(|symbols| symbols.address_of(name));
        let mut config = match &btf {
            Ok(btf) => {
                let (config, unresolved) = layout::resolve(btf, &kernel.machine, address_of);
                notes.extend(unresolved.iter().map(ToString::to_string));
                config
            }
            Err(error) => {
                notes.push(format!("{error}: {WITHOUT_BTF}"));
                layout::without_btf()
            }
        };
        config.decider = kernel.decider();
        config.pages = layout::pages(&kernel);
        config.slab = btf.as_ref().map_or(SlabLayout::NONE, slab_pages::layout);
        config.sample_mask = match options.allocation_sample {
            0 => u64::MAX,
            n => n.next_power_of_two() - 1,
        };
        config.streamed = options.streamed as u32;
        config.log = u32::from(options.programs_log);

        let keeps_hiwater = keeps_hiwater(&root, btf.as_ref().ok(), &kernel.cmdline, |name| address_of(name).is_some());
        let functions = match &options.btf {
            Some(_) => hooks::Functions::of(Btf::of_running_kernel().ok().as_ref(), symbols.as_ref()),
            None => hooks::Functions::of(btf.as_ref().ok(), symbols.as_ref()),
        };
        let without_btf = btf.is_err();
        // Some 7 MB, before the loader takes as much.
        drop(btf);

        let asked = hooks::Asked {
            objects: options.allocation_sample > 0,
            maintenance: options.time_maintenance,
            restricted_pools: !kernel.pool.restricted.is_empty(),
        };
        let cpus = nr_cpus().unwrap_or(1);
        let (mut ebpf, rings) = load_with_rings(loader, &mut config, options, kernel.page_size, cpus, &mut notes)?;
        let log = options.programs_log.then(|| ProgramsLog::open(&mut ebpf)).flatten();
        let tallies = Tallies::take_from(&mut ebpf)?;
        hooks::load_ahead(&mut ebpf, options.places, symbols.as_ref(), &functions, asked);

        let pool = PoolCounters::new(&root, keeps_hiwater);
        pool.begin(&mut kernel.pool);
        let slabs = SlabFill::open(&root, options.shrink_caches).or_else(|error| {
            notes.push(format!("the kmalloc caches can't be shrunk before they are counted: {error}"));
            SlabFill::open(&root, false)
        })?;
        let (links, mut hooks) = hooks::attach_all(&mut ebpf, options.places, symbols.as_ref(), &functions, asked);
        if links.is_empty() {
            return Err(no_hook(&hooks));
        }
        if asked.objects {
            let through = if config.object_slots_log2 > 0 { "mapped ring" } else { "ring buffer" };
            hooks.iter_mut().filter(|hook| hook.attached && hooks::sends_objects(hook)).for_each(|hook| {
                hook.place += &format!(", {through}");
            });
        }
        if hooks.iter().any(hooks::sees_mappings_by_function) {
            notes.push(BY_KPROBES.to_owned());
        }
        if config.pages.vmemmap == 0 && hooks.iter().any(|hook| hook.attached && hook.place.ends_with(MAP_PAGE)) {
            notes.push(WITHOUT_VMEMMAP.to_owned());
        }
        let run_times = RunTimes::begin(options.count_costs)
            .map_err(|_| {
                notes.push("what the programs cost can't be told: only CAP_SYS_ADMIN lets the kernel count it".into());
            })
            .ok();
        let shrunk = slabs.shrink();
        let live_sites_at_start = live_sites(&root).unwrap_or_else(|error| {
            notes.push(format!("live allocations by call site can't be told: /proc/allocinfo: {error}"));
            None
        });
        let first_slab = slabs
            .sample(now_ns(), shrunk)
            .map(|sample| SlabSample { live_sites: live_sites_at_start, ..sample })
            .map_err(|error| notes.push(format!("how full the kmalloc caches are can't be told: {error}")))
            .map(Item::Slab)
            .ok();
        // The kernel's own counts begin when everything is attached, and end before anything is detached.
        if options.reset_hiwater {
            kernel.pool.hiwater_reset = pool.reset_hiwater().unwrap_or_else(|error| {
                notes.push(format!("the pool's high-water mark is from before the recording: {error}"));
                false
            });
        }
        let tracefs = if options.count_tracefs { Some(count_bounces(&root)?) } else { None };
        let start = Start {
            time_ns: now_ns(),
            wall_clock_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            kernel,
            hooks,
            allocation_sample: options.allocation_sample,
            object_tick_ns: options.object_tick_ns,
            streamed: options.streamed,
            recorder: options.recorder.clone(),
            labels: options.labels.clone(),
            joined_ns: None,
            notes,
            other: BTreeMap::new(),
        };
        let ranges = |names: &[&str]| -> Vec<_> {
            symbols.iter().flat_map(|symbols| names.iter().flat_map(|name| symbols.ranges_of(name))).collect()
        };
        let mut decoder = Decoder::new(start.kernel.page_size, address_of("io_tlb_default_mem"), without_btf);
        (decoder.mappers, decoder.trampolines) = (ranges(&LIST_MAPPERS), ranges(&TRAMPOLINES));
        let now = Instant::now();
        let session = Self {
            links,
            ebpf,
            rings,
            decoder,
            tallies,
            naming: symbols.map(|symbols| Naming::new(&root, symbols)),
            pool,
            first_slab,
            last_slab: now,
            slabs,
            last_sums: now,
            sums_are_due: false,
            tracefs,
            log,
            run_times,
        };
        memory::keep_little();
        Ok((session, start))
    }

    /// Waits until the programs find that a ring needs emptying.
    pub async fn ring_fills(&self) -> Result<(), LiveError> {
        Ok(self.rings.one_fills().await?)
    }

    /// Takes what is in the rings, but for what happened just now: new devices, then events; at most one batch.
    pub fn drain(&mut self) -> Vec<Item> {
        self.drain_before(now_ns().saturating_sub(STALL_NS)).0
    }

    /// The same into columns, until they are full.
    pub fn drain_into(&mut self, columns: &mut Filling) -> Drained {
        let before_ns = now_ns().saturating_sub(STALL_NS);
        let mut call_sites = Vec::new();
        let [allocated_before, freed_before, _] = columns.counts();
        let decoder = &mut self.decoder;
        // The rings remember themselves that there may be more.
        let _ = self.rings.read(before_ns, |record| {
            match record {
                Record::Bytes(bytes) => {
                    let known = decoder.batch.events.len();
                    decoder.record(bytes);
                    decoder.batch.events[known..].iter().for_each(|event| columns.event(event, &decoder.batch));
                }
                Record::Object(object) => {
                    let Object { moment, ptr, is_kmalloc, shared: Shared { allocation, known } } = object;
                    if !is_kmalloc {
                        columns.freed(moment, ptr, allocation.call_site, known);
                    } else if columns.allocated(moment, ptr, allocation, known) {
                        call_sites.push(allocation.call_site);
                    }
                }
            }
            if columns.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let mut items = self.described();
        let others = std::mem::take(&mut self.decoder.batch);
        self.name_call_sites(&others, &mut items);
        self.name(call_sites.into_iter(), &mut items);
        let [allocated, freed, _] = columns.counts();
        let by_record = |kind: Kind| others.events.iter().filter(|event| event.what.kind() == kind).count();
        let mut objects = 0;
        for (kind, count) in [(Kind::Kmalloc, allocated - allocated_before), (Kind::Kfree, freed - freed_before)] {
            let count = count.saturating_sub(by_record(kind)) as u64;
            self.decoder.decoded[kind as usize] += count;
            objects += count;
        }
        Drained { items, others, objects }
    }

    /// The same of what happened before that moment, and whether there may be more.
    fn drain_before(&mut self, before_ns: u64) -> (Vec<Item>, bool) {
        let decoder = &mut self.decoder;
        let read = self.rings.read(before_ns, |record| {
            match record {
                Record::Bytes(bytes) => decoder.record(bytes),
                Record::Object(object) => decoder.object(&object),
            }
            if decoder.batch.events.len() < BATCH { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let mut items = self.described();
        let batch = std::mem::take(&mut self.decoder.batch);
        // The next is about as long: growing piece by piece would copy it again and again.
        self.decoder.batch.events.reserve(batch.events.len());
        if !batch.events.is_empty() {
            self.name_call_sites(&batch, &mut items);
            items.push(Item::Events(batch));
        }
        (items, read.is_break())
    }

    /// What comes before the events that were read just now.
    fn described(&mut self) -> Vec<Item> {
        if let Some(log) = &mut self.log {
            log.print();
        }
        if let Some(run_times) = &mut self.run_times {
            run_times.end_in_time();
        }
        let mut items: Vec<Item> = self.first_slab.take().into_iter().collect();
        items.extend(self.decoder.new_devices.drain(..).map(Item::Device));
        let new_caches = self.decoder.caches.take_new();
        if !new_caches.is_empty() {
            items.push(Item::Symbols(new_caches));
        }
        items
    }

    /// What is not an event: the pool, counters, and now and then the caches, allocations by call site, mappings by length and the
    /// times of the pool's functions. To be called about every second.
    pub fn tallies(&mut self) -> Result<Vec<Item>, LiveError> {
        let mut items: Vec<Item> = self.pool_sample().into_iter().collect();
        if self.last_slab.elapsed() >= SLAB_EVERY {
            self.last_slab = Instant::now();
            items.extend(self.slab_sample());
        }
        if self.sums_are_due || self.last_sums.elapsed() >= SUMS_EVERY {
            self.sums_are_due = false;
            self.last_sums = Instant::now();
            items.extend(self.sums()?);
        }
        items.push(self.counters()?);
        Ok(items)
    }

    /// Lets the next [`Self::tallies`] read what the programs sum up, however long ago that was read last.
    pub fn read_sums_next(&mut self) {
        self.sums_are_due = true;
    }

    /// `None` where the caches cannot be read, which the start's notes say.
    fn slab_sample(&self) -> Option<Item> {
        self.slabs.sample(now_ns(), false).ok().map(Item::Slab)
    }

    /// `None` when nothing changed since the last time.
    fn pool_times(&mut self) -> Result<Option<Item>, LiveError> {
        Ok(self.tallies.changed_times(now_ns())?.map(Item::PoolTimes))
    }

    /// `None` for a kernel without a pool: it has no counters of it.
    fn pool_sample(&self) -> Option<Item> {
        self.pool.sample(now_ns()).ok().flatten().map(Item::Pool)
    }

    fn sums(&mut self) -> Result<Vec<Item>, LiveError> {
        let mut items: Vec<Item> = self.pool_times()?.into_iter().collect();
        let lengths = self.tallies.changed_lengths(|key| self.decoder.described(key.dev, key.fingerprint));
        if !lengths.is_empty() {
            items.push(Item::Lengths(lengths));
        }
        let sites = self.tallies.changed_sites()?;
        if !sites.is_empty() {
            self.name(sites.iter().map(|site: &SiteCount| site.call_site), &mut items);
            items.push(Item::Sites(sites));
        }
        let waited = self.naming.as_mut().map(Naming::waiting).unwrap_or_default();
        if !waited.is_empty() {
            items.push(Item::Symbols(waited));
        }
        Ok(items)
    }

    /// Mappings by device and length, totals of those that changed since the last time, as [`Item::Lengths`] has them; and the time in
    /// which they were read, ns of `CLOCK_MONOTONIC`.
    pub fn lengths(&mut self) -> (Range<u64>, Vec<LengthCount>) {
        let from_ns = now_ns();
        let lengths = self.tallies.changed_lengths(|key| self.decoder.described(key.dev, key.fingerprint));
        (from_ns..now_ns(), lengths)
    }

    fn counters(&self) -> Result<Item, LiveError> {
        Ok(Item::Counters(self.tallies.counters(
            &self.ebpf,
            now_ns(),
            self.decoder.malformed,
            &self.rings.object_counts(),
        )?))
    }

    /// What recording has cost so far, in the shape of an end.
    pub fn cost(&self) -> End {
        End {
            time_ns: now_ns(),
            events: Kind::ALL.map(|kind| (kind.name().to_owned(), self.decoder.decoded[kind as usize])).into(),
            programs: tallies::costs(&self.ebpf),
            counted_ns: self.run_times.as_ref().map_or(0, RunTimes::counted_ns),
            recorder_cpu_ns: process_cpu_ns(),
            detach_began_ns: 0,
        }
    }

    /// CPU time of this process so far, ns.
    pub fn recorder_cpu_ns(&self) -> u64 {
        process_cpu_ns()
    }

    /// Detaches, and returns everything that is left, ending with [`Item::End`].
    pub fn stop(mut self) -> Result<Vec<Item>, LiveError> {
        let mut items: Vec<Item> = self.first_slab.take().into_iter().collect();
        let shrunk = self.slabs.shrink();
        let last_slab = self.slabs.sample(now_ns(), shrunk).ok();
        let live_sites = live_sites(&Root::default()).ok().flatten();
        items.extend(last_slab.map(|sample| Item::Slab(SlabSample { live_sites, ..sample })));
        items.extend(self.pool_sample());
        // What happens from here on, the tracing file system may no longer count.
        let detach_began_ns = now_ns();
        let tracefs_bounced = self.tracefs.take().and_then(|count| count.stop().ok());
        // In the reverse order of attaching, so that no mapping is seen without its slot.
        while let Some(link) = self.links.pop() {
            drop(link);
        }
        // A program that runs on another CPU at this moment finishes within microseconds.
        thread::sleep(Duration::from_millis(20));
        loop {
            let (drained, more) = self.drain_before(u64::MAX);
            items.extend(drained);
            if !more {
                break;
            }
        }
        for key in self.tallies.length_keys() {
            self.decoder.undescribed(key.dev, key.fingerprint, detach_began_ns);
        }
        items.extend(self.decoder.new_devices.drain(..).map(Item::Device));
        items.extend(self.sums()?);
        items.push(self.counters()?);
        if let Some(Item::Counters(counters)) = items.last_mut() {
            counters.tracefs_bounced = tracefs_bounced;
        }
        items.push(Item::End(End { detach_began_ns, ..self.cost() }));
        Ok(items)
    }

    fn name_call_sites(&mut self, batch: &Batch, items: &mut Vec<Item>) {
        use bouncescope_capture::event::What;
        let mut last = None;
        let call_sites = batch.events.iter().filter_map(|event| match event.what {
            // One that allocates again and again is looked up once.
            What::Kmalloc { call_site, .. } if last.replace(call_site) != Some(call_site) => Some(call_site),
            What::MapSg { caller, .. } if caller != 0 => Some(caller),
            _ => None,
        });
        self.name(call_sites, items);
    }

    /// Adds the names of those addresses that have none yet.
    fn name(&mut self, addresses: impl Iterator<Item = u64>, items: &mut Vec<Item>) {
        let Some(naming) = &mut self.naming else { return };
        let new = naming.name(addresses);
        if !new.is_empty() {
            items.push(Item::Symbols(new));
        }
    }
}

/// What came out of the rings on its way into columns ([`Session::drain_into`]).
#[derive(Debug, Default)]
pub struct Drained {
    /// What comes before the events in the stream: new devices, names.
    pub items: Vec<Item>,
    /// A copy of the events that went into the columns and that came as records, as mappings do.
    pub others: Batch,
    /// All other events, which were allocations and frees.
    pub objects: u64,
}

/// Loads the programs with rings of our own for the objects, or else with the kernel's, and notes why.
fn load_with_rings(
    first: EbpfLoader,
    config: &mut Config,
    options: &Options,
    page: u32,
    cpus: usize,
    notes: &mut Vec<String>,
) -> Result<(Ebpf, Rings), LiveError> {
    let Options { ring_bytes, allocation_sample, .. } = *options;
    let mut first = Some(first);
    let mut load_for = |sizes: Sizes| -> Result<_, LiveError> {
        (config.wake_at, config.wake_at_objects) = sizes.wake_at();
        config.object_slots_log2 = sizes.object_slots_log2();
        let mut ebpf = load(first.take().unwrap_or_else(loader), config, sizes, options.map_entries)?;
        let rings = Rings::take_from(&mut ebpf, sizes)?;
        Ok((ebpf, rings))
    };
    let own = match options.object_rings {
        ObjectRings::Best => Sizes::own(ring_bytes, page, cpus, allocation_sample),
        ObjectRings::Kernel => None,
    };
    let why_not = match own.map(&mut load_for) {
        None => None,
        Some(Ok((mut ebpf, rings))) => match hooks::load_objects(&mut ebpf) {
            Ok(()) => return Ok((ebpf, rings)),
            Err(why) => Some(why),
        },
        Some(Err(error @ LiveError::NotPermitted(_))) => return Err(error),
        Some(Err(error)) => Some(error.to_string()),
    };
    notes.extend(why_not.map(|why| format!("{IN_KERNEL_RINGS}: {why}")));
    load_for(Sizes::new(ring_bytes, page, cpus, allocation_sample))
}

/// The kernel's symbols, without addresses where it hides them.
fn read_symbols(root: &Root, notes: &mut Vec<String>) -> Option<Symbols> {
    let symbols = Symbols::read(root);
    let hidden = symbols.as_ref().map_or_else(
        |error| Some(error.to_string()),
        |symbols| symbols.check_addresses().err().map(|error| error.to_string()),
    );
    notes.extend(hidden.map(|why| format!("call sites have no names: {why}")));
    symbols.ok()
}

/// Lets the tracing file system count bounces.
fn count_bounces(root: &Root) -> Result<EventCount, LiveError> {
    let tracefs = Tracefs::find(root).ok_or_else(|| {
        LiveError::NoTracefs("it is not mounted: mount -t tracefs nodev /sys/kernel/tracing".to_owned())
    })?;
    EventCount::start(&tracefs, "swiotlb", "swiotlb_bounced").map_err(|error| LiveError::NoTracefs(error.to_string()))
}
