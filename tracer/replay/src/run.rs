//! One simulated kernel, driven by steps.
//!
//! Whether a buffer bounces, and whether it finds slots, is the model's decision alone. From the recorded kernel comes
//! only *when* slots are taken and given back, where it bounced the same buffer: the peak of the pool depends on the order
//! of those moments. Under the captured settings also who holds slots is as recorded (`follow`). A buffer that only the simulated kernel
//! bounces holds its slots from its mapping's event to its
//! unmapping's.

mod coherent;
mod follow;
mod fullness;
mod held;
mod last;
mod progress;
mod slots;

use std::collections::VecDeque;

use hashbrown::{HashMap, hash_map::Entry};
use tracer_ebpf::decide::size_roundup;

use super::{
    breakdown::Breakdown,
    devices::{Devices, Identity},
    holders::{Turnover, Who},
    kernel::{Kernel, Taken},
    list_syncs::{AllListSyncs, ListSyncs},
    maintenance::{self, Spared},
    mapping::{Beside, Buffer, Mapping, Shares, WAYS},
    outcome::{AtMost, Outcome},
    overlaps::Overlaps,
    pairing::Witnesses,
    settings::Settings,
    step::{Holder, Overlap, SlotRelease, Step, Synced, Unmapping, Unseen},
    trend::Level,
    work::Work,
};
use bouncescope_capture::facts::PoolFunction;
use bouncescope_capture::stream::Start;
use bouncescope_model::{
    concatenation::dma_segments,
    mapping::{Fate, Reason},
    policy::{Lists, WhenFull},
    pool::{Growing, PoolConfig, Refused, Request, SLOT, WORKER_NS},
    sharing::Sharing,
};
use coherent::CoherentMemory;
pub(crate) use coherent::slots_of;
use follow::{Order, Owed, Taker};
use held::{Held, MOST_SPARE, MOST_UNMAPPED, Search, Slots};
pub use last::Last;
use progress::AllInProgress;
use slots::{Peak, Whose};

/// Longer than the kernel takes from the event of an unmapping to the last slot given back.
const UNMAPS_WITHIN_NS: u64 = 1_000_000;

/// What the model says of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predicted {
    /// Mapped as it is.
    Direct,
    /// Bounced, and why.
    Bounced(Reason),
    /// Had to bounce for the first, and could not for the second.
    Refused(Reason, Refused),
    /// Belongs to a list that was refused for an earlier segment.
    NotReached,
}

/// What the model says of a buffer, and how sure it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// In the order of the records.
    pub what: Predicted,
    /// The order of searches and releases that overlap in time decides whether there are slots.
    pub raced: bool,
}

impl From<Predicted> for Prediction {
    fn from(what: Predicted) -> Self {
        Self { what, raced: false }
    }
}

/// A simulated kernel and what has become of it so far. Only of the mappings of which something becomes: what is common to all
/// settings is counted elsewhere.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is so or not, whatever the others are")]
pub struct Run {
    kernel: Kernel,
    /// The default pool, then devices' own.
    pools: Vec<Growing>,
    own_pools: HashMap<Whose, usize>,
    /// Of each pool.
    peaks: Vec<Peak>,
    /// Mappings of which not every buffer has been.
    in_progress: AllInProgress,
    held: HashMap<u64, Held>,
    /// What is over lends its memory to the next, of which there are millions.
    spare: Vec<Held>,
    list_syncs: AllListSyncs,
    /// The settings are the captured kernel's: its slots are taken and given back as they were.
    follows: bool,
    owed: VecDeque<Owed>,
    order: Order,
    /// The least and the greatest peak.
    peak_range: [u64; 2],
    /// The most that the kernel may have counted in use.
    mark: u64,
    /// Slots held without a mapping.
    unseen: HashMap<u64, Slots>,
    coherent: CoherentMemory,
    /// Mappings that still hold slots after their unmapping's event, and when that can only mean that the release was missed.
    unmapped: VecDeque<(u64, u64)>,
    /// Releases of slots are recorded.
    slot_releases: bool,
    /// Unmappings for which the kernel gave the slots back before it sent the event, less those for which it did so after
    /// it: of single mappings, lists and links. A kernel keeps one order for each.
    release_first: [i64; WAYS],
    breakdown: Breakdown,
    overlaps: Overlaps,
    /// Mappings that the recorded kernel let pass and this one does not, as long as they last, by number.
    refused: Vec<u64>,
    work: Work,
    /// The cache maintenance of mappings that are refused.
    spared: Spared,
    outcome: Outcome,
    reasons: [u64; Reason::ALL.len()],
    /// Memory of buffers that found no slots, bytes.
    elsewhere_bytes: u64,
    predicted: Vec<Prediction>,
    /// Who holds slots, where that was asked for.
    turnover: Option<Turnover>,
    /// Nothing else is asked for, so nothing is counted or predicted that does not matter for it.
    only_holders: bool,
    /// How full the pools are in the long run, where that was asked for.
    level: Option<Level>,
    /// The moment of the step that is being taken, ns.
    now_ns: u64,
    /// The same kernel, where what the recording leaves open turns out badly: mappings which the recorded one refused last as long as
    /// others like them, and the worker that adds pools is late. From the first moment on at which either matters.
    worst: Option<Box<Run>>,
    /// This is such a kernel.
    is_worst: bool,
}

impl Run {
    /// A kernel with these settings that starts where the recording did, and looks at memory from this view.
    pub fn new(settings: Settings, view: usize, start: &Start, witnesses: Witnesses) -> Self {
        let mut pool = Growing::new(settings.pool(), settings.grows);
        pool.first().occupy_foreign(settings.used_at_start);
        let outcome = Outcome {
            name: settings.name.clone(),
            about: settings.about.clone(),
            cache_line_size: settings.decider.cache_line_size,
            minalign: settings.decider.minalign,
            total_slots: pool.total_slots(),
            pool_slots_at_peak: pool.total_slots(),
            caches_may_be_smaller: settings.caches_may_be_smaller,
            small_objects_move: settings.moves_small_objects(),
            peak_time_ns: start.time_ns,
            ..Outcome::default()
        };
        let follows = settings.is_captured(&start.kernel);
        let order = match settings.used_at_start {
            0 => Order::default(),
            foreign => Order::of_foreign(pool.first().foreign_unit(foreign)),
        };
        Self {
            follows,
            owed: VecDeque::new(),
            order,
            peak_range: [0; 2],
            mark: 0,
            kernel: Kernel::new(settings, view),
            pools: vec![pool],
            own_pools: HashMap::new(),
            peaks: vec![Peak::default()],
            coherent: CoherentMemory::default(),
            in_progress: AllInProgress::default(),
            held: HashMap::new(),
            spare: Vec::new(),
            list_syncs: AllListSyncs::default(),
            unseen: HashMap::new(),
            unmapped: VecDeque::new(),
            slot_releases: witnesses.slot_releases,
            release_first: [0; WAYS],
            breakdown: Breakdown::default(),
            overlaps: Overlaps::default(),
            refused: Vec::new(),
            work: Work::default(),
            spared: Spared::default(),
            outcome,
            reasons: [0; Reason::ALL.len()],
            elsewhere_bytes: 0,
            predicted: Vec::new(),
            turnover: None,
            only_holders: false,
            level: None,
            now_ns: start.time_ns,
            worst: None,
            is_worst: false,
        }
    }

    /// What it is configured like.
    pub fn settings(&self) -> &Settings {
        &self.kernel.settings
    }

    /// The view that it looks from.
    pub fn view(&self) -> usize {
        self.kernel.view
    }

    /// Takes a step. When a mapping is complete, returns what is predicted for its buffers; nothing for other steps.
    pub fn step(&mut self, step: &Step, devices: &Devices) -> &[Prediction] {
        if let Some(worst) = &mut self.worst {
            worst.step(step, devices);
        }
        self.predicted.clear();
        self.now_ns = step.time_ns();
        if let Some(pool) = self.pools.first_mut().filter(|pool| pool.grows()) {
            pool.reach(step.time_ns());
        }
        while let Some((overdue_ns, mapping)) = self.unmapped.front().copied()
            && (overdue_ns < step.time_ns() || self.unmapped.len() > MOST_UNMAPPED)
        {
            self.unmapped.pop_front();
            self.forget(mapping);
        }
        match step {
            Step::Buffer { mapping, index, replaces, overlap } => {
                if let Some(holder) = replaces {
                    self.give_back(holder);
                }
                self.buffer(mapping, *index, *overlap, devices);
            }
            Step::Mapped { mapping, replaces } => {
                if let Some(gone) = replaces {
                    self.forget(gone.id);
                }
                self.mapped(mapping, devices);
            }
            Step::Unseen(unseen) => self.take_unseen(unseen, devices),
            Step::Coherent { memory, replaces, overlap } => {
                if let Some(holder) = replaces {
                    self.give_back(holder);
                }
                self.take_coherent(memory, *overlap, devices);
            }
            Step::SlotReleased(release) => self.slot_released(release, devices),
            Step::Synced(synced) => self.sync(synced, devices),
            Step::Unmapped(unmapping) => self.unmap(unmapping, devices),
            Step::Forgotten { mapping, .. } | Step::RefusedEnds { mapping, .. } => self.forget(mapping.id),
        }
        self.note_occupancy(step.time_ns());
        if self.pools.first().is_some_and(Growing::awaits_worker) {
            self.begin_worst(step.time_ns());
        }
        &self.predicted
    }

    /// From here on the kernel's luck matters.
    fn begin_worst(&mut self, time_ns: u64) {
        if self.is_worst || self.worst.is_some() || self.only_holders {
            return;
        }
        let mut worst = Self { is_worst: true, turnover: None, level: None, ..self.clone() };
        worst.pools[0].delay_worker(WORKER_NS);
        worst.note_occupancy(time_ns);
        self.worst = Some(Box::new(worst));
    }

    /// Takes steps, one after the other.
    pub fn steps(&mut self, steps: &[Step], devices: &Devices) {
        for step in steps {
            self.step(step, devices);
        }
    }

    /// Adds counts that were made elsewhere.
    pub(crate) fn add(&mut self, counted: &Breakdown) {
        self.breakdown.add(counted);
    }

    /// The end. `common` is what is the same whatever a kernel does; `unfollowed` what of the mappings that were not followed is
    /// left unsafe, seen from this run's view.
    pub fn finish(mut self, common: &Breakdown, unfollowed: &Breakdown, last: &Last) -> Outcome {
        self.outcome.at_most = self.worst.take().map(|worst| AtMost {
            peak_slots: worst.outcome.peak_slots,
            failed: worst.breakdown.total().failed,
            transient_pools: worst.pools.iter().map(Growing::transient_pools).sum(),
        });
        self.all_lists_synced();
        self.keep_peak();
        self.outcome.trend = self.level.take().map(|level| level.trend(last.end_ns));
        if let Some(turnover) = self.turnover.take() {
            let peak = (self.outcome.peak_time_ns, self.outcome.peak_slots);
            let end = (last.end_ns, self.used_slots());
            ([self.outcome.held_at_peak, self.outcome.held_at_end], self.outcome.held_times) =
                turnover.finish(self.holders(), last.start_ns, [peak, end], last.names);
        }
        self.breakdown.add(common);
        self.breakdown.add(unfollowed);
        let pool_names = self.pool_names(&last.names);
        self.outcome.pools = self.pool_rows(&pool_names);
        let pool = |pool: usize| pool_names.get(pool).cloned().unwrap_or_default();
        self.outcome.coherent = self.coherent.rows(last.names, pool);
        let peak_slots_range = self.peak_range.map(|slots| slots.min(self.capacity()));
        let outcome = &mut self.outcome;
        outcome.total = self.breakdown.total();
        outcome.pool_calls = self.work.by_function();
        (outcome.lists, outcome.lists_losing_concatenation) = self.breakdown.list_counts();
        outcome.rows = self.breakdown.rows(last.names);
        outcome.rows.overlaps = self.overlaps.rows(last.names);
        for (reason, count) in Reason::ALL.iter().zip(self.reasons).filter(|(_, count)| *count > 0) {
            outcome.bounces_by_reason.insert(name(reason), count);
        }
        outcome.not_simulated = last.not_simulated;
        outcome.span_ns = last.span_ns;
        outcome.pool_cpu_ns = last.pool_times.and_then(|times| self.work.time_ns(times));
        let takes_coherence_as_captured = self.kernel.settings.devices.iter().all(|device| device.coherent.is_none());
        outcome.cache_maintenance_ns = last
            .cache_maintenance_ns
            .filter(|_| takes_coherence_as_captured)
            .and_then(|ns| maintenance::predicted_ns(ns, last.pool_times, last.spared, &self.spared));
        outcome.peak_slots_range = peak_slots_range;
        outcome.mark_at_most = self.mark.max(peak_slots_range[1]);
        outcome.pools_added = self.pools.iter().map(Growing::added_pools).sum();
        outcome.searches_given_up = self.pools.iter().map(Growing::given_up).sum();
        outcome.transient_pools = self.pools.iter().map(Growing::transient_pools).sum();
        self.outcome
    }

    fn buffer(&mut self, mapping: &Mapping, index: u32, overlap: Overlap, devices: &Devices) {
        // In a list, what became of one buffer decides about others.
        let recorded = self.recorded(mapping.buffers[index as usize].truth);
        if let Some(holds) = recorded.filter(|_| self.only_holders && !mapping.is_list()) {
            if holds {
                self.hold_as_recorded(mapping, index, overlap, devices);
            }
            return;
        }
        let progress = self.in_progress.of(&mut self.kernel, mapping, devices);
        let n = index as usize;
        let (fate, refused) = (progress.fates[n], progress.refused);
        let buffer = &mapping.buffers[n];
        let looks = refused.is_none() && matches!(fate, Fate::Bounce { .. });
        let search = (looks || recorded == Some(true)).then(|| self.search_for(mapping, buffer, fate, devices));
        let may_fail =
            looks && !self.only_holders && !matches!(fate, Fate::Bounce { reason, .. } if self.falls_back(reason));
        let raced = may_fail && search.as_ref().is_some_and(|search| self.is_raced(search, overlap));
        let mut found = search.as_ref().map(|search| self.search(search));
        let what = match (fate, refused) {
            (_, Some((at, _))) if at < index => Predicted::NotReached,
            (Fate::Direct, _) => Predicted::Direct,
            (Fate::Refused { reason, why }, _) => Predicted::Refused(reason, why),
            // The step of an earlier buffer may come after that of the one that was refused; its slots are gone by then.
            (Fate::Bounce { reason, .. }, Some(_)) => Predicted::Bounced(reason),
            (Fate::Bounce { reason, .. }, None) => self.bounce(mapping, index, reason, found.as_ref()),
        };
        if let Some(progress) = self.in_progress.get_mut(mapping.id) {
            progress.predicted[n] = Prediction { what, raced };
            if let (Predicted::Refused(_, why), None) = (what, progress.refused) {
                progress.refused = Some((index, why));
                if !self.follows {
                    // The kernel gives back what the list got until then.
                    self.forget(mapping.id);
                }
            }
        }
        let holds = recorded.unwrap_or(matches!(what, Predicted::Bounced(_)));
        match (found.take(), search) {
            (Some(Ok(slots)), Some(search)) if holds => {
                self.held_of(mapping.id).hold(index, slots);
                self.note_peak(&search, buffer.time_ns, overlap);
            }
            (Some(Ok(slots)), _) => self.put_back(slots),
            (Some(Err(_)), Some(search)) if recorded == Some(true) => {
                let pool = search.pool;
                self.owe(Taker::Buffer(mapping.id, index), search);
                self.note_mark(pool, overlap);
            }
            _ => {}
        }
    }

    /// What a mapping holds.
    fn held_of(&mut self, mapping: u64) -> &mut Held {
        self.held.entry(mapping).or_insert_with(|| self.spare.pop().unwrap_or_default())
    }

    /// Nothing is held for a mapping any more.
    fn spare(&mut self, over: Held) {
        if self.spare.len() < MOST_SPARE {
            self.spare.extend(over.emptied());
        }
    }

    /// A single buffer that bounced holds slots, whatever the model would have made of it.
    fn hold_as_recorded(&mut self, mapping: &Mapping, index: u32, overlap: Overlap, devices: &Devices) {
        let buffer = &mapping.buffers[index as usize];
        let search = self.search_for(mapping, buffer, Fate::Direct, devices);
        match self.search(&search) {
            Ok(slots) => {
                self.held_of(mapping.id).hold(index, slots);
                self.note_peak(&search, buffer.time_ns, overlap);
            }
            Err(_) => self.owe(Taker::Buffer(mapping.id, index), search),
        }
    }

    /// The search for a buffer that is to bounce, or does in the recorded kernel.
    fn search_for(&mut self, mapping: &Mapping, buffer: &Buffer, fate: Fate, devices: &Devices) -> Search {
        let taken = self.kernel.device(mapping.device, devices).unwrap_or_default();
        let granule = taken.traits.iommu_granule.unwrap_or(1);
        let align_mask = match fate {
            Fate::Bounce { align_mask, .. } => align_mask,
            Fate::Direct | Fate::Refused { .. } => granule.saturating_sub(1),
        };
        let request = Request {
            cpu: u32::from(buffer.cpu),
            phys: buffer.phys,
            size: buffer.size,
            align_mask,
            min_align_mask: taken.traits.min_align_mask,
            is_memory: false,
        };
        let device = devices.identity(mapping.device);
        let who = Who { since_ns: buffer.time_ns, device, site: buffer.site };
        Search { pool: self.pool_of(device, taken), request, who }
    }

    fn bounce(
        &mut self,
        mapping: &Mapping,
        index: u32,
        reason: Reason,
        found: Option<&Result<Slots, Refused>>,
    ) -> Predicted {
        if let Some(&Err(why)) = found {
            if !self.falls_back(reason) {
                return Predicted::Refused(reason, why);
            }
            self.copy_elsewhere(mapping, index);
        }
        self.work.call(PoolFunction::Map, mapping.buffers[index as usize].size);
        self.held_of(mapping.id).bounce(index);
        Predicted::Bounced(reason)
    }

    /// Whether memory is allocated for a buffer that bounces for this and finds no slots. It would not help a device that cannot reach the
    /// buffer to copy it to memory that it may not reach either.
    fn falls_back(&self, reason: Reason) -> bool {
        self.kernel.settings.when_full == WhenFull::Fallback && reason.is_alignment()
    }

    /// A buffer is copied through memory of its own: an object of kmalloc that fills whole lines.
    fn copy_elsewhere(&mut self, mapping: &Mapping, index: u32) {
        let line = self.kernel.settings.decider.cache_line_size;
        let bytes = size_roundup(mapping.buffers[index as usize].size, line);
        self.held_of(mapping.id).copy_elsewhere(bytes);
        self.elsewhere_bytes = self.elsewhere_bytes.saturating_add(bytes);
        self.outcome.fallbacks += 1;
        self.outcome.fallback_bytes = self.outcome.fallback_bytes.max(self.elsewhere_bytes);
    }

    fn mapped(&mut self, mapping: &Mapping, devices: &Devices) {
        if self.only_holders {
            self.in_progress.forget(mapping.id);
            if mapping.failed {
                self.forget(mapping.id);
            }
            return;
        }
        // A mapping without buffers has not been in progress.
        let mut progress = self.in_progress.end(mapping);
        let refused = progress.refused.map(|(_, why)| why);
        std::mem::swap(&mut self.predicted, &mut progress.predicted);
        self.count(mapping, devices, refused, progress.loses_concatenation);
        self.in_progress.give_back(progress);
        if mapping.failed {
            // No unmapping will ever tell how long this one would have lived.
            let bounced = self.predicted.iter().any(|one| matches!(one.what, Predicted::Bounced(_)));
            self.outcome.mapped_but_refused_by_kernel += u64::from(bounced && refused.is_none() && !self.follows);
            // The captured pool holds what the kernel's held: nothing of what it refused.
            if bounced && !self.follows {
                self.begin_worst(mapping.time_ns);
            }
            if self.follows || !self.is_worst {
                self.forget(mapping.id);
            }
        }
    }

    fn sync(&mut self, synced: &Synced, devices: &Devices) {
        let mapping = &synced.mapping;
        let Some(held) = self.held.get(&mapping.id).filter(|_| !self.only_holders) else { return };
        let device = devices.identity(mapping.device);
        if mapping.is_list() {
            if self.list_syncs.count(synced, device) {
                self.all_lists_synced();
            }
            return;
        }
        let function = if synced.for_device { PoolFunction::SyncForDevice } else { PoolFunction::SyncForCpu };
        for &index in held.bounced() {
            let bytes = synced.bytes_of(&mapping.buffers[index as usize]);
            self.work.call(function, bytes);
            if synced.copies() {
                self.breakdown.cell(mapping, index as usize, device).bytes_copied += bytes;
            }
        }
    }

    fn all_lists_synced(&mut self) {
        for list in self.list_syncs.take_all() {
            self.list_synced(&list);
        }
    }

    /// Counts the syncs of a list, of which all segments are known by then, while it is known which of them bounced.
    fn list_synced(&mut self, list: &ListSyncs) {
        let mapping = &list.mapping;
        let Some(held) = self.held.get(&mapping.id) else { return };
        let copies = list.copies();
        for &index in held.bounced() {
            let bytes = mapping.buffers[index as usize].size;
            self.work.calls(PoolFunction::SyncForCpu, bytes, list.for_cpu);
            self.work.calls(PoolFunction::SyncForDevice, bytes, list.for_device);
            self.breakdown.cell(mapping, index as usize, list.device).bytes_copied += bytes * copies;
        }
    }

    fn unmap(&mut self, unmapping: &Unmapping, devices: &Devices) {
        let mapping = &unmapping.mapping;
        self.no_longer_refused(mapping.id);
        if let Some(list) = self.list_syncs.take(mapping.id) {
            self.list_synced(&list);
        }
        self.keep_peak();
        let Some(held) = self.held.get_mut(&mapping.id) else { return };
        let direct = devices.described(mapping.device).is_some_and(|device| device.iommu_granule.is_none());
        let counted = if self.only_holders { &[] } else { held.bounced() };
        for &index in counted {
            let size = mapping.buffers[index as usize].size;
            self.work.call(PoolFunction::Unmap, size);
            // Without an IOMMU it is a sync that copies back: dma_direct_unmap_phys().
            if direct && !unmapping.skips_sync() {
                self.work.call(PoolFunction::SyncForCpu, size);
            }
            if unmapping.copies_back() {
                let device = devices.identity(mapping.device);
                self.breakdown.cell(mapping, index as usize, device).bytes_copied += size;
            }
        }
        // Where the kernel bounced too and the slot is known, its own release is the moment, if it is still to come. If it
        // comes before the event on this kernel, it was missed.
        let to_come = self.slot_releases && self.release_first[mapping.way()] <= 0;
        let slot = |index: u32| mapping.buffers[index as usize].truth.slot();
        let stays = |index: u32| to_come && slot(index).is_some();
        let now = held.end(stays);
        self.elsewhere_bytes = self.elsewhere_bytes.saturating_sub(held.take_elsewhere());
        let is_over = held.is_over();
        self.forgive(|taker| matches!(*taker, Taker::Buffer(id, index) if id == mapping.id && !stays(index)));
        if is_over && !self.owes(mapping.id) {
            if let Some(over) = self.held.remove(&mapping.id) {
                self.spare(over);
            }
        } else {
            self.unmapped.push_back((unmapping.time_ns.saturating_add(UNMAPS_WITHIN_NS), mapping.id));
        }
        for slots in now {
            self.release(slots);
        }
    }

    /// A mapping gives its slots back.
    fn release(&mut self, slots: Slots) {
        if let Some(turnover) = &mut self.turnover {
            turnover.give_back(slots.who, slots.held.slots(), self.now_ns);
        }
        self.put_back(slots);
    }

    fn put_back(&mut self, slots: Slots) {
        self.pools[slots.pool as usize].unmap(slots.held);
        self.pay();
    }

    fn slot_released(&mut self, release: &SlotRelease, devices: &Devices) {
        if let Some(holder) = &release.holder {
            self.give_back(holder);
            return;
        }
        let taken = self.kernel.device(release.device, devices).unwrap_or_default();
        let pool = self.pool_of(devices.identity(release.device), taken);
        // Coherent memory is in no other pool than a restricted one.
        if pool == 0 && (release.is_memory || self.kernel.settings.used_at_start == 0) {
            return;
        }
        let slots = self.slots_of(release, devices);
        self.pools[pool].first().release_foreign(slots);
    }

    fn give_back(&mut self, holder: &Holder) {
        self.keep_peak();
        let slots = match holder {
            Holder::Unseen(id) => {
                self.forgive(|taker| *taker == Taker::Unseen(*id));
                self.unseen.remove(id)
            }
            Holder::Coherent(id) => {
                self.forgive(|taker| *taker == Taker::Coherent(*id));
                self.coherent.take(*id)
            }
            Holder::Buffer(mapping, index) => {
                self.forgive(|taker| *taker == Taker::Buffer(mapping.id, *index));
                let Entry::Occupied(mut entry) = self.held.entry(mapping.id) else { return };
                let held = entry.get_mut();
                let slots = held.take(*index);
                if slots.is_some() {
                    self.release_first[mapping.way()] += if held.is_unmapped() { -1 } else { 1 };
                }
                if held.is_over() {
                    let over = entry.remove();
                    self.spare(over);
                }
                slots
            }
        };
        if let Some(slots) = slots {
            self.release(slots);
        }
    }

    /// Gives back what a mapping holds, and forgets it.
    fn forget(&mut self, mapping: u64) {
        self.keep_peak();
        self.no_longer_refused(mapping);
        if let Some(list) = self.list_syncs.take(mapping) {
            self.list_synced(&list);
        }
        self.forgive(|taker| matches!(*taker, Taker::Buffer(id, _) if id == mapping));
        let Some(mut held) = self.held.remove(&mapping) else { return };
        self.elsewhere_bytes = self.elsewhere_bytes.saturating_sub(held.take_elsewhere());
        for slots in held.into_slots() {
            self.release(slots);
        }
    }

    fn count(&mut self, mapping: &Mapping, devices: &Devices, refused: Option<Refused>, loses: bool) {
        let device = devices.identity(mapping.device);
        let coherent = self.kernel.device(mapping.device, devices).is_none_or(|taken| taken.traits.coherent);
        self.outcome.raced += u64::from(self.predicted.iter().any(|one| one.raced));
        for (n, Prediction { what: predicted, .. }) in self.predicted.iter().enumerate() {
            let sharing = mapping.sharing.get(self.kernel.sharing(mapping, n)).copied().filter(|_| !coherent);
            let cell = self.breakdown.cell(mapping, n, device);
            match predicted {
                Predicted::Bounced(reason) => {
                    cell.bounces += 1;
                    cell.bytes_copied += mapping.buffers[n].size;
                    cell.bounces_not_needed += u64::from(reason.is_alignment() && sharing == Some(Sharing::None));
                    self.reasons[*reason as usize] += 1;
                }
                Predicted::Direct if refused.is_none() => {
                    cell.count_hazard(sharing.unwrap_or_default());
                }
                Predicted::Direct | Predicted::Refused(..) | Predicted::NotReached => {}
            }
        }
        if let Some(why) = refused {
            self.breakdown.cell(mapping, 0, device).failed += 1;
            if !coherent {
                let refused = |one: &Prediction| matches!(one.what, Predicted::Refused(..) | Predicted::NotReached);
                self.spared.refused(mapping, self.predicted.iter().position(refused).unwrap_or(0));
            }
            *self.outcome.failed_by_reason.entry(name(&why)).or_default() += 1;
            if mapping.in_lines
                && !mapping.failed
                && let Err(at) = self.refused.binary_search(&mapping.id)
            {
                self.refused.insert(at, mapping.id);
            }
        } else if !coherent && !mapping.beside.is_empty() {
            self.count_overlaps(mapping, devices);
        }
        let is_flagged = self.kernel.settings.lists == Lists::Flagged && mapping.is_list();
        if loses || is_flagged {
            let segments = mapping.buffers.iter().map(|buffer| (buffer.phys, buffer.size));
            let traits = devices.traits(mapping.device);
            let before = traits.iommu_granule.map(|granule| dma_segments(segments, granule, traits.segments));
            let after = self.kernel.dma_segments(mapping, loses, devices);
            self.breakdown.element_by_element(device, mapping.caller, before.unwrap_or(after), after);
        }
    }

    /// Counts each buffer that is mapped as it is beside another that is: once, whatever is beside it.
    fn count_overlaps(&mut self, mapping: &Mapping, devices: &Devices) {
        let (mut counted, mut open) = (None, None);
        for beside in mapping.beside.iter() {
            let n = beside.buffer as usize;
            let is_direct = self.predicted.get(n).is_some_and(|one| one.what == Predicted::Direct);
            let shares = beside.shares.get(self.kernel.view).copied().unwrap_or(Shares::No);
            if counted == Some(n) || shares == Shares::No || !is_direct || !self.is_left_in_line(beside, devices) {
                continue;
            }
            if shares == Shares::Unknown {
                self.outcome.overlaps_unknown += u64::from(open != Some(n));
                open = Some(n);
                continue;
            }
            self.outcome.overlaps_unknown -= u64::from(open.take() == Some(n));
            counted = Some(n);
            self.breakdown.cell(mapping, n, devices.identity(mapping.device)).overlaps += 1;
            self.overlaps.count(mapping, beside, devices);
        }
    }

    /// A mapping ends.
    fn no_longer_refused(&mut self, mapping: u64) {
        if let Ok(at) = self.refused.binary_search(&mapping) {
            self.refused.remove(at);
        }
    }

    /// Whether this kernel mapped it as it is, for a device that is not coherent.
    fn is_left_in_line(&mut self, beside: &Beside, devices: &Devices) -> bool {
        let bounced = |held: &Held| held.bounced().contains(&beside.index);
        self.refused.binary_search(&beside.mapping).is_err()
            && !self.held.get(&beside.mapping).is_some_and(bounced)
            && self.kernel.device(beside.device, devices).is_some_and(|taken| !taken.traits.coherent)
    }
}

/// The name that serde gives to a unit variant.
fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
