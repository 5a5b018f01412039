//! Pairing: events into mappings, with what the kernel did with each buffer.
//!
//! On one thread of execution the kernel's order is: attempt (`swiotlb_bounced`), return of the search for slots
//! (`swiotlb_tbl_map_single()`), mapping event. Interrupts nest in it. A mapping event claims the attempts that were made
//! for it; a buffer without attempt was mapped directly. Attempt and search are two witnesses: either alone is enough.
//! Lists that fail have no event in the kernel; they come from the return of the mapping function.

mod attempts;
mod lifetimes;
mod moments;
mod queue;
#[cfg(test)]
mod tests;
mod truth;

use std::sync::Arc;

use attempts::{Attempt, Attempts, Context, Search};
use lifetimes::Lifetimes;
use moments::Moments;
use queue::{Front, Queue};
pub use truth::Witnesses;

use super::{
    devices::{Devices, Identity},
    mapping::{Besides, Buffer, Buffers, Handle, Mapping, Proof, Truth, Unknown},
    run::slots_of,
    site::SiteId,
    step::{Coherent, Overlap, SlotRelease, Step, Synced, Unmapping, Unseen},
};
use bouncescope_capture::event::{DeviceId, Direction, Event, MAPPING_ERROR, Memory, Segment, UNKNOWN_PHYS, What};
use bouncescope_capture::facts::SlotRule;
use bouncescope_capture::stream::Start;
use bouncescope_model::link::Pieces;
use bouncescope_model::pool::Request;
use bouncescope_model::sharing::Around;

/// Turns events into steps.
#[derive(Clone, Debug)]
pub struct Pairing {
    attempts: Attempts,
    queue: Queue,
    lifetimes: Lifetimes,
    moments: Moments,
    /// How the recorded kernel counts the slots of a mapping.
    slot_rule: SlotRule,
    page_size: u64,
    truth: truth::Judge,
    next_mapping: u64,
    next_unseen: u64,
    next_coherent: u64,
    at_end: bool,
    /// Mappings that are not followed, since too many are mapped.
    left_out: u64,
    /// Memory for the segments of the next list.
    spare: Vec<Buffer>,
}

/// Who looks at every mapping, and says which are to be followed step by step.
pub trait Watch {
    /// Looks at a mapping when its event comes, and may note in it what lies around its buffers. Whether its steps are wanted;
    /// those of a mapping for which the kernel took slots always come.
    fn mapped(&mut self, mapping: &mut Mapping, segments: &[Segment], devices: &Devices) -> bool;

    /// Whether a mapping that the kernel left alone needs no further look, being such as no kernel does anything with; it has been
    /// counted then. Most mappings are such, and are worth no more.
    fn passes(
        &mut self,
        _what: &What,
        _buffers: impl ExactSizeIterator<Item = Plain> + Clone,
        _devices: &Devices,
    ) -> bool {
        false
    }

    /// A single mapping or a list ends, as far as its event says. `size` is 0 for a list.
    fn unmapped(&mut self, _identity: Identity, _handle: Handle, _size: u64, _direction: Direction) {}

    /// What is linked in this range of DMA addresses ends.
    fn unlinked(&mut self, _identity: Identity, _dma_addr: u64, _size: u64) {}

    /// Looks at the event of a list, with all of its segments that were recorded. Some of its segments `bounced`, as far as attempts were seen.
    fn list(&mut self, _event: &Event, _segments: &[Segment], _bounced: bool, _devices: &Devices) {}
}

/// A buffer that was mapped as it is.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    /// Its physical address; right only below the page size where there is no DMA address.
    pub phys: u64,
    /// Length, bytes.
    pub size: u64,
    /// Its own DMA address; `None` behind an IOMMU.
    pub dma_addr: Option<u64>,
    /// How it is known that it was.
    pub proof: Proof,
}

/// Follows every mapping.
#[cfg(test)]
pub(super) struct Everything;

#[cfg(test)]
impl Watch for Everything {
    fn mapped(&mut self, _: &mut Mapping, _: &[Segment], _: &Devices) -> bool {
        true
    }
}

impl Pairing {
    /// For a stream with this beginning.
    pub fn new(start: &Start) -> Self {
        let witnesses = Witnesses::new(&start.hooks);
        Self {
            attempts: Attempts::default(),
            queue: Queue::default(),
            lifetimes: Lifetimes::new(witnesses.slot_releases),
            moments: Moments::default(),
            slot_rule: start.kernel.pool.slot_rule,
            page_size: u64::from(start.kernel.page_size),
            truth: truth::Judge::new(witnesses),
            next_mapping: 0,
            next_unseen: 0,
            next_coherent: 0,
            at_end: false,
            left_out: 0,
            spare: Vec::new(),
        }
    }

    /// Takes in an event with its segments.
    pub fn event(&mut self, event: &Event, segments: &[Segment], devices: &mut Devices, watch: &mut impl Watch) {
        self.queue.now(event.time_ns);
        let context = Context::of(event);
        if !matches!(
            event.what,
            What::Kmalloc { .. } | What::Kfree { .. } | What::SlotMap { .. } | What::CoherentAlloc { .. }
        ) {
            self.moments.goes_on(context, event.time_ns);
        }
        match event.what {
            What::Bounced { device, dev_addr, size } => {
                let place = self.queue.open(context, event.time_ns);
                let attempt = Attempt { dev_addr: Some(dev_addr), ..attempt(event, place, device, size, devices) };
                self.attempts.push(context, attempt);
            }
            What::SlotMap { device, phys, slot, size, align_mask, duration_ns, .. } => {
                let place = self.queue.open(context, event.time_ns);
                let mut found = attempt(event, place, device, size, devices);
                if let Some(before) = self.attempts.searched(context, found.identity, size, phys) {
                    // The slots are taken in the search.
                    self.queue.cancel(before.place);
                    found.dev_addr = before.dev_addr;
                }
                found.search = Some(Search { phys, slot, align_mask });
                let slots = if slot == MAPPING_ERROR { 0 } else { self.slots(&found, devices) };
                let from_ns = event.time_ns.saturating_sub(duration_ns);
                self.moments.goes_on(context, from_ns);
                self.moments.searched(place, from_ns, event.time_ns, slot, slots);
                self.attempts.push(context, found);
            }
            What::Map { .. } => self.map(event, context, devices, watch),
            What::MapSg { .. } => self.map_sg(event, segments, context, devices, watch),
            What::Unmap { device, dma_addr, size, direction, attrs } => {
                watch.unmapped(devices.identity(device), Handle::Single(dma_addr), size, direction);
                self.unmapped(event, device, Handle::Single(dma_addr), size, direction, attrs, devices);
            }
            What::Link { .. } => self.link(event, context, devices, watch),
            What::Unlink { device, dma_addr, size, direction, attrs } => {
                let identity = devices.identity(device);
                watch.unlinked(identity, dma_addr, size);
                while let Some(mapping) = self.lifetimes.unlinked(identity, dma_addr, size) {
                    let time_ns = event.time_ns;
                    self.queue.push(Step::Unmapped(Unmapping { time_ns, device, direction, attrs, mapping }));
                }
            }
            What::UnmapSg { device, list, direction, attrs, .. } => {
                watch.unmapped(devices.identity(device), Handle::List(list), 0, direction);
                self.unmapped(event, device, Handle::List(list), 0, direction, attrs, devices);
            }
            What::SlotUnmap { device, slot, size, .. } => {
                let time_ns = event.time_ns;
                let release = SlotRelease { time_ns, device, slot, size, is_memory: false, holder: None };
                let place = self.queue.push(Step::SlotReleased(release));
                self.moments.released(context, place, time_ns, slot, 1);
            }
            What::CoherentAlloc { device, slot, size, duration_ns } => {
                self.coherent(event, context, device, slot, size, duration_ns);
            }
            What::CoherentFree { device, slot, size } => {
                let time_ns = event.time_ns;
                let release = SlotRelease { time_ns, device, slot, size, is_memory: true, holder: None };
                let place = self.queue.push(Step::SlotReleased(release));
                self.moments.released(context, place, time_ns, slot, self.slots_of_memory(size));
            }
            What::Sync { device, dma_addr, size, for_device, .. } => {
                let part = self.lifetimes.part(devices.identity(device), dma_addr);
                self.synced(event, part, size, for_device);
            }
            What::SyncSg { device, list, for_device, .. } => {
                let whole = self.lifetimes.list(devices.identity(device), list);
                self.synced(event, whole, u64::MAX, for_device);
            }
            What::Kmalloc { .. } | What::Kfree { .. } => {}
        }
    }

    fn slots_of_memory(&self, size: u64) -> u32 {
        u32::try_from(slots_of(size, self.page_size)).unwrap_or(u32::MAX)
    }

    /// Coherent memory was asked for: no mapping comes, and nothing is waited for.
    fn coherent(&mut self, event: &Event, context: Context, device: DeviceId, slot: u64, size: u64, duration_ns: u64) {
        let (time_ns, found) = (event.time_ns, slot != MAPPING_ERROR);
        let memory = Box::new(Coherent { id: self.next_coherent, time_ns, cpu: event.cpu, device, size, slot, found });
        self.next_coherent += 1;
        let place = self.queue.push(Step::Coherent { memory, replaces: None, overlap: Overlap::default() });
        let from_ns = time_ns.saturating_sub(duration_ns);
        self.moments.goes_on(context, from_ns);
        self.moments.searched(place, from_ns, time_ns, slot, if found { self.slots_of_memory(size) } else { 0 });
    }

    /// So many mappings came without their events, and nothing is to become of them.
    pub(super) fn passed(&mut self, mappings: u64) {
        self.next_mapping += mappings;
    }

    /// No more events come: what is waited for will not come.
    pub fn finish(&mut self) {
        self.at_end = true;
    }

    /// The next step, when it is known.
    #[inline]
    pub fn next_step(&mut self) -> Option<Step> {
        // Most events make no step.
        if self.queue.is_empty() { None } else { self.front_step() }
    }

    fn front_step(&mut self) -> Option<Step> {
        loop {
            match self.queue.front(self.at_end)? {
                Front::Step(place, mut step) => {
                    self.lifetimes.resolve(&mut step);
                    if let Step::Buffer { overlap, .. } | Step::Coherent { overlap, .. } = &mut step {
                        *overlap = self.moments.overlap(place);
                    }
                    return Some(step);
                }
                Front::Overdue(context, place) => match self.attempts.expire(context, place) {
                    Some(attempt) => {
                        let unseen = self.unseen(&attempt);
                        self.queue.fill(place, Step::Unseen(unseen));
                    }
                    None => self.queue.cancel(place),
                },
            }
        }
    }

    fn map(&mut self, event: &Event, context: Context, devices: &mut Devices, watch: &mut impl Watch) {
        let What::Map { device, phys, dma_addr, size, direction, memory, attrs } = event.what else { return };
        let known = phys & UNKNOWN_PHYS == 0;
        if known
            && self.attempts.is_empty()
            && let Some(proof) = self.truth.is_direct(phys, dma_addr, device, devices)
        {
            let plain = Plain { phys, size, dma_addr: (proof == Proof::Address).then_some(dma_addr), proof };
            if !self.may_be_late(event, devices.identity(device), &plain)
                && watch.passes(&event.what, std::iter::once(plain), devices)
            {
                self.next_mapping += 1;
                return;
            }
        }
        let claimed = self.attempts.claim(context, devices.identity(device), size, phys);
        let (truth, direct_dma_addr) = self.truth.single(phys, dma_addr, claimed.as_ref(), device, devices);
        let truth = self.unless_late(truth, event, devices.identity(device), size, phys);
        let exact = known || claimed.is_some_and(|attempt| attempt.search.is_some());
        let phys = phys & !UNKNOWN_PHYS;
        let buffer =
            Buffer { exact, direct_dma_addr, memory, truth, ..Buffer::at(event, claimed.as_ref(), phys, size) };
        let mut mapping = Mapping {
            id: self.next_mapping,
            time_ns: event.time_ns,
            device,
            direction,
            attrs,
            caller: 0,
            handle: Handle::Single(dma_addr),
            failed: dma_addr == MAPPING_ERROR,
            bytes: size,
            buffers: Buffers::One([buffer]),
            truncated: 0,
            sharing: Box::default(),
            beside: Besides::default(),
            in_lines: false,
        };
        let wanted = watch.mapped(&mut mapping, &[], devices);
        self.next_mapping += 1;
        if wanted || claimed.is_some() {
            self.follow(mapping, &[claimed], devices);
        }
    }

    /// A buffer is linked into a range of DMA addresses: its pieces bounce or not, each for itself.
    fn link(&mut self, event: &Event, context: Context, devices: &mut Devices, watch: &mut impl Watch) {
        let What::Link { device, phys, dma_addr, size, direction, attrs } = event.what else { return };
        let identity = devices.identity(device);
        let pieces = Pieces::new(phys, size, devices.traits(device).iommu_granule);
        if self.attempts.is_empty() && self.truth.is_direct(phys, dma_addr, device, devices) == Some(Proof::NoAttempt) {
            let plain = |&(phys, size): &(u64, u64)| Plain { phys, size, dma_addr: None, proof: Proof::NoAttempt };
            let plain = pieces.as_slice().iter().map(plain);
            let is_late = plain.clone().any(|one| self.may_be_late(event, identity, &one));
            if !is_late && watch.passes(&event.what, plain, devices) {
                self.next_mapping += 1;
                self.forget_links(event, identity, dma_addr, size);
                return;
            }
        }
        // From the end: what was left over by something else is older.
        let mut claimed = vec![None; pieces.as_slice().len()];
        for (claimed, (phys, size)) in claimed.iter_mut().zip(pieces.as_slice()).rev() {
            *claimed = self.attempts.claim(context, identity, *size, *phys);
        }
        let truths: Vec<_> = self.truth.link(dma_addr, &claimed, device, devices).collect();
        let each = pieces.as_slice().iter().zip(&claimed).zip(truths);
        let buffers = each.map(|((&(phys, size), claimed), truth)| {
            let truth = self.unless_late(truth, event, identity, size, phys);
            Buffer { exact: true, truth, ..Buffer::at(event, claimed.as_ref(), phys, size) }
        });
        let buffers = Buffers::List(buffers.collect());
        let mut mapping = Mapping {
            id: self.next_mapping,
            time_ns: event.time_ns,
            device,
            direction,
            attrs,
            caller: 0,
            handle: Handle::Link(dma_addr),
            failed: dma_addr == MAPPING_ERROR,
            bytes: size,
            buffers,
            truncated: 0,
            sharing: Box::default(),
            beside: Besides::default(),
            in_lines: false,
        };
        let wanted = watch.mapped(&mut mapping, &[], devices);
        self.next_mapping += 1;
        if wanted || claimed.iter().any(Option::is_some) {
            self.follow(mapping, &claimed, devices);
        } else if !mapping.failed {
            self.forget_links(event, identity, dma_addr, size);
        }
    }

    /// A buffer is linked that is not followed, where others were whose unlinking has not been seen.
    fn forget_links(&mut self, event: &Event, identity: Identity, dma_addr: u64, size: u64) {
        while let Some(mapping) = self.lifetimes.unlinked(identity, dma_addr, size) {
            self.queue.push(Step::Forgotten { mapping, time_ns: event.time_ns });
        }
    }

    fn map_sg(
        &mut self,
        event: &Event,
        segments: &[Segment],
        context: Context,
        devices: &Devices,
        watch: &mut impl Watch,
    ) {
        let What::MapSg { device, list, nents, ents, direction, attrs, caller, .. } = event.what else { return };
        if self.attempts.is_empty()
            && let Some(own_addresses) = self.truth.is_direct_list(event, segments, devices)
        {
            let base = devices.dma_addr(device, 0);
            let described = devices.described(device);
            let buffers = segments.iter().map(|one| Plain {
                phys: if own_addresses { one.dma_addr.wrapping_sub(base) } else { u64::from(one.offset) },
                size: u64::from(one.length),
                dma_addr: own_addresses.then_some(one.dma_addr),
                proof: truth::of_segment(described.filter(|_| own_addresses), one),
            });
            let identity = devices.identity(device);
            let none_is_late =
                self.attempts.gave_up_none() || !buffers.clone().any(|plain| self.may_be_late(event, identity, &plain));
            if none_is_late && watch.passes(&event.what, buffers, devices) {
                watch.list(event, segments, false, devices);
                self.next_mapping += 1;
                self.forget_list(event, devices.identity(device), list);
                return;
            }
        }
        let claimed = self.attempts.claim_list(context, devices.identity(device), segments);
        watch.list(event, segments, claimed.iter().any(Option::is_some), devices);
        let mut buffers = std::mem::take(&mut self.spare);
        buffers.clear();
        self.truth.list(event, segments, &claimed, devices, &mut buffers);
        for (buffer, segment) in buffers.iter_mut().zip(segments) {
            let offset = u64::from(segment.offset) | UNKNOWN_PHYS;
            buffer.truth = self.unless_late(buffer.truth, event, devices.identity(device), buffer.size, offset);
        }
        let mut mapping = Mapping {
            id: self.next_mapping,
            time_ns: event.time_ns,
            device,
            direction,
            attrs,
            caller,
            handle: Handle::List(list),
            failed: ents == 0,
            bytes: buffers.iter().map(|buffer| buffer.size).fold(0, u64::saturating_add),
            buffers: Buffers::List(buffers),
            truncated: nents.saturating_sub(segments.len() as u32),
            sharing: Box::default(),
            beside: Besides::default(),
            in_lines: false,
        };
        let wanted = watch.mapped(&mut mapping, segments, devices);
        self.next_mapping += 1;
        if wanted || claimed.iter().any(Option::is_some) {
            self.follow(mapping, &claimed, devices);
        } else {
            self.forget_list(event, devices.identity(device), list);
            if let Buffers::List(buffers) = mapping.buffers {
                self.spare = buffers;
            }
        }
    }

    /// Whether an attempt was given up that may have been for this buffer, as in [`Self::unless_late`].
    fn may_be_late(&self, event: &Event, identity: Identity, plain: &Plain) -> bool {
        plain.proof == Proof::NoAttempt && self.attempts.may_have_given_up(event, identity, plain.size, plain.phys)
    }

    /// What became of a buffer, unless that rests on an attempt that was not seen, and one was given up that may have been it.
    fn unless_late(&mut self, truth: Truth, event: &Event, identity: Identity, size: u64, phys: u64) -> Truth {
        let unseen = matches!(truth, Truth::Direct { proof: Proof::NoAttempt } | Truth::Unknown(Unknown::Contradicted));
        if unseen && self.attempts.gave_up(event, identity, size, phys) { Truth::Unknown(Unknown::Late) } else { truth }
    }

    /// Mappings that should have been followed, and were not, since too many are mapped at one time.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn follow(&mut self, mapping: Mapping, claimed: &[Option<Attempt>], devices: &Devices) {
        if !self.lifetimes.has_room(mapping.buffers.len()) {
            self.left_out += 1;
            claimed.iter().flatten().for_each(|attempt| self.queue.cancel(attempt.place));
            return;
        }
        let mapping = Arc::new(mapping);
        for index in 0..mapping.buffers.len() {
            let (mapping, overlap) = (Arc::clone(&mapping), Overlap::default());
            let step = Step::Buffer { mapping, index: index as u32, replaces: None, overlap };
            match claimed.get(index).and_then(Option::as_ref) {
                Some(attempt) => self.queue.fill(attempt.place, step),
                None => drop(self.queue.push(step)),
            }
        }
        let replaces = self.lifetimes.mapped(&mapping, devices.identity(mapping.device));
        self.queue.push(Step::Mapped { mapping, replaces });
    }

    /// A list is mapped that is not followed.
    fn forget_list(&mut self, event: &Event, identity: Identity, list: u64) {
        if let Some(mapping) = self.lifetimes.forget_list(identity, list) {
            self.queue.push(Step::Forgotten { mapping, time_ns: event.time_ns });
        }
    }

    /// A part of a mapping, from `at` in it on, is handed over.
    fn synced(&mut self, event: &Event, part: Option<(Arc<Mapping>, u64)>, size: u64, for_device: bool) {
        let Some((mapping, at)) = part else { return };
        self.queue.push(Step::Synced(Synced { time_ns: event.time_ns, mapping, at, size, for_device }));
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one event, and the devices it is about")]
    fn unmapped(
        &mut self,
        event: &Event,
        device: DeviceId,
        handle: Handle,
        size: u64,
        direction: Direction,
        attrs: u64,
        devices: &Devices,
    ) {
        // Most mappings are not followed, and their unmappings are nobody's affair.
        if let Some(mapping) = self.lifetimes.unmapped(devices.identity(device), handle, size, direction) {
            let time_ns = event.time_ns;
            self.queue.push(Step::Unmapped(Unmapping { time_ns, device, direction, attrs, mapping }));
        }
    }

    /// How many slots the kernel took for this.
    fn slots(&self, found: &Attempt, devices: &Devices) -> u32 {
        let request = Request {
            cpu: u32::from(found.cpu),
            phys: found.phys(),
            size: found.size,
            align_mask: found.search.map_or(0, |search| search.align_mask),
            min_align_mask: devices.traits(found.device).min_align_mask,
            is_memory: false,
        };
        request.slots(self.slot_rule, self.page_size).unwrap_or(1)
    }

    fn unseen(&mut self, attempt: &Attempt) -> Unseen {
        let id = self.next_unseen;
        self.next_unseen += 1;
        Unseen {
            id,
            time_ns: attempt.time_ns,
            cpu: attempt.cpu,
            device: attempt.device,
            phys: attempt.phys(),
            size: attempt.size,
            slot: attempt.slot(),
            align_mask: attempt.search.map_or(0, |search| search.align_mask),
        }
    }
}

/// An attempt of which only the event itself is known.
fn attempt(event: &Event, place: u64, device: DeviceId, size: u64, devices: &Devices) -> Attempt {
    Attempt {
        place,
        time_ns: event.time_ns,
        cpu: event.cpu,
        device,
        identity: devices.identity(device),
        size,
        dev_addr: None,
        search: None,
    }
}

impl Buffer {
    /// A buffer mapped at `event`, or at the moment of its attempt.
    #[inline]
    fn at(event: &Event, claimed: Option<&Attempt>, phys: u64, size: u64) -> Self {
        Self {
            time_ns: claimed.map_or(event.time_ns, |attempt| attempt.time_ns),
            cpu: claimed.map_or(event.cpu, |attempt| attempt.cpu),
            phys: claimed.and_then(|attempt| attempt.search).map_or(phys, |search| search.phys),
            exact: claimed.is_some_and(|attempt| attempt.search.is_some()),
            size,
            direct_dma_addr: None,
            memory: Memory::Unknown,
            site: SiteId::UNKNOWN,
            around: Around::default(),
            truth: Truth::NotReached,
        }
    }
}
