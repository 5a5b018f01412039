//! Which block of a frame an event goes to: what must always be read, what is only of interest where lines are long or longer buffers bounce,
//! and what no kernel does anything with.
//!
//! One rule for both sides: [`Streamed::covers`] says which buffers a kernel may look at, here as in the programs. All the rest keeps a
//! promise to those who leave a block closed: that nothing of what they see would have come out otherwise, had they seen that block too. So
//! whatever touches the state of a replay goes to the first block: what bounced or failed, each unmapping and sync that may be of something in
//! there, the event that shows the end of a release or that a second has gone since an attempt, and the first and the last event of a frame.
//! What is not known goes there as well. The rules, in words: `docs/capture-format.md`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap as Map, VecDeque};

use hashbrown::HashMap;
use tracer_ebpf::attrs::{MMIO, REQUIRE_COHERENT};
use tracer_ebpf::streamed::{SMALL_BELOW, Streamed};

use crate::event::{DeviceId, Direction, Event, MAPPING_ERROR, Memory, Segment, UNKNOWN_PHYS, What};
use crate::facts::{Device, is_attached};
use crate::limits::{
    ATTEMPT_PATIENCE_NS, MAX_ALIGN_MASK, MAX_GRANULE, MAX_SIZE, MAX_TIME_NS, MOST_DEVICES, MOST_HOOKS, MOST_MAPPED,
    MOST_RELEASES, PAGE_OFFSET, SLOT_OFFSET,
};
use crate::names::Subject;
use crate::passed::{Alike, Passed, PassedBuffer};
use crate::stream::Start;

/// A part of a frame that is compressed for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Block {
    /// What must be read in any case.
    Always = 0,
    /// Longer buffers that a non-coherent device writes, and that do not begin and end with a line of [`SMALL_BELOW`] bytes.
    Written = 1,
    /// What no kernel does anything with.
    Rest = 2,
    /// Objects of kmalloc.
    Objects = 3,
    /// Longer buffers that a non-coherent device writes, and that begin and end with such a line.
    Aligned = 4,
}

impl Block {
    /// The one that is opened first.
    fn first_of(self, other: Self) -> Self {
        let rank = |block: Self| match block {
            Self::Always => 0,
            Self::Written => 1,
            Self::Aligned => 2,
            Self::Rest => 3,
            Self::Objects => 4,
        };
        if rank(other) < rank(self) { other } else { self }
    }
}

/// The blocks that may stay closed, in the order of their totals in the head.
pub(super) const CLOSABLE: [Block; 3] = [Block::Written, Block::Rest, Block::Aligned];

/// Attempts that are waited for at one time; with more, everything goes to the first block from then on.
const MOST_ATTEMPTS: usize = 1 << 18;
/// Starts of mappings that are looked at for one sync.
const LOOKED_AT: usize = 64;
/// Bits that remember attempts: two to the power of this.
const ATTEMPT_BITS: u32 = 20;
/// The largest alignment that is told apart, as a power of two.
pub(super) const MOST_ALIGNED: u32 = 12;

/// What is known of a bus's offset, as far as replay must know the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offset {
    /// No mapping was seen that could tell.
    #[default]
    Unseen,
    /// Replay may have learned something, or not.
    Doubtful,
    /// Replay has learned it.
    Known(u64),
}

/// A device whose mappings may be told by totals.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property that a device has or has not")]
struct Plain {
    identity: u32,
    coherent: bool,
    iommu: bool,
    /// The last DMA address that it reaches.
    reach: u64,
    /// Whether addresses with an offset into a slot are no slots.
    shows_slots: bool,
    /// Everything bounces, or may for more than its length and reach.
    bounces: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    count: u32,
    /// The most important block that one of them is in.
    block: Block,
    longest: u64,
}

/// Events into blocks, and totals of those that may stay closed. Keeps what it has to know from frame to frame.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// There is a beginning, and what comes can be split.
    splits: bool,
    /// Nothing is split any more.
    gave_up: bool,
    /// An attempt to bounce would be seen.
    witnessed: bool,
    /// Lists from before are not compared.
    joined_ns: u64,
    devices: Vec<Option<Plain>>,
    identities: Map<String, u32>,
    offsets: Vec<Offset>,
    /// Single mappings in blocks of written buffers, or in the first, that were not seen unmapped.
    singles: HashMap<(u32, u64, u64, u8), u32>,
    handles: HashMap<(u32, u64), Held>,
    starts: BTreeSet<(u32, u64)>,
    /// The longest buffer of each device among them.
    longest: Vec<u64>,
    lists: HashMap<(u32, u64), Block>,
    /// Threads of execution that give slots back.
    releasing: VecDeque<(u32, u16)>,
    /// When attempts are given up.
    deadlines: BinaryHeap<Reverse<u64>>,
    now_ns: u64,
    /// Which devices, lengths and offsets attempts were made for, as bits.
    attempted: Vec<u64>,
    /// The least alignment of longer buffers that non-coherent devices write, as a power of two.
    aligned: u32,
}

/// What one frame tells of its events besides themselves.
#[derive(Debug, Default)]
pub(super) struct Summary {
    kinds: [[u64; crate::event::Kind::ALL.len()]; CLOSABLE.len()],
    by_address: [u64; CLOSABLE.len()],
    by_no_attempt: [u64; CLOSABLE.len()],
    lists: [crate::passed::PassedLists; CLOSABLE.len()],
    buffers: [HashMap<Alike, u64>; CLOSABLE.len()],
    callers: [HashMap<(DeviceId, u64), u64>; CLOSABLE.len()],
    /// A mapping was refused.
    pub(super) has_failed: bool,
}

impl Summary {
    /// The totals of the blocks that may stay closed.
    pub(super) fn totals(self) -> [Passed; CLOSABLE.len()] {
        let Self { kinds, by_address, by_no_attempt, lists, buffers, callers, .. } = self;
        let mut totals: [Passed; CLOSABLE.len()] = Default::default();
        for (n, (buffers, callers)) in buffers.into_iter().zip(callers).enumerate() {
            let mut buffers: Vec<_> = buffers.into_iter().collect();
            let mut callers: Vec<_> = callers.into_iter().collect();
            buffers.sort_unstable();
            callers.sort_unstable();
            let (kinds, by_address, by_no_attempt, lists) = (kinds[n], by_address[n], by_no_attempt[n], lists[n]);
            totals[n] = Passed { kinds, by_address, by_no_attempt, lists, buffers, callers };
        }
        totals
    }
}

impl Splitter {
    pub(super) fn new() -> Self {
        Self { aligned: MOST_ALIGNED, ..Self::default() }
    }

    /// Takes in the beginning.
    pub(super) fn start(&mut self, start: &Start) {
        let attached = |subject| is_attached(&start.hooks, &subject);
        if self.splits
            || self.gave_up
            || start.kernel.pool.force
            || start.allocation_sample != 0
            || start.hooks.len() > MOST_HOOKS
            || !attached(Subject::Unmap)
        {
            // A second beginning is none; and where everything bounces, objects are recorded in which buffers may lie, or nothing is seen to
            // end, everything matters.
            self.give_up();
            return;
        }
        self.splits = true;
        self.witnessed = attached(Subject::Bounced) || attached(Subject::SlotMap);
        self.joined_ns = start.joined_ns.unwrap_or(0);
    }

    /// Everything goes to the first block from now on.
    fn give_up(&mut self) {
        *self = Self { gave_up: true, ..Self::default() };
    }

    /// Takes in a device. Numbers come in order; those that do not are no device's.
    pub(super) fn device(&mut self, device: &Device) {
        let number = device.id.0 as usize;
        if number < self.devices.len() || number >= MOST_DEVICES {
            return;
        }
        self.devices.resize(number, None);
        let plain_name = device.name.len() <= 128
            && device.name.bytes().all(|byte| (byte.is_ascii_graphic() || byte == b' ') && byte != b'\\');
        let mask = u64::from(device.min_align_mask);
        let is_mask = mask & (mask + 1) == 0 && mask <= u64::from(MAX_ALIGN_MASK);
        let is_granule = device.iommu_granule.is_none_or(|granule| granule.is_power_of_two() && granule <= MAX_GRANULE);
        if !device.is_described() || !plain_name || !is_mask || !is_granule {
            self.devices.push(None);
            return;
        }
        let next = self.identities.len() as u32;
        let identity = *self.identities.entry(device.name.clone()).or_insert(next);
        if identity == next {
            self.offsets.push(Offset::default());
            self.longest.push(0);
        }
        let limits = [device.dma_mask, device.bus_dma_limit].into_iter().filter(|limit| *limit != 0);
        let iommu = device.iommu_granule.is_some();
        let reach = if iommu { u64::MAX } else { limits.min().unwrap_or(u64::MAX) };
        let (coherent, shows_slots) = (device.coherent, mask & SLOT_OFFSET == 0 && !iommu);
        let bounces = device.force_bounce || device.untrusted || device.own_pool;
        self.devices.push(Some(Plain { identity, coherent, iommu, reach, shows_slots, bounces }));
    }

    fn known(&self, id: DeviceId) -> Option<Plain> {
        self.devices.get(id.0 as usize).copied().flatten()
    }

    fn plain(&self, id: DeviceId) -> Option<Plain> {
        self.known(id).filter(|plain| !plain.bounces)
    }

    /// The block of the next event, and counts it. Where `always`, it is the first one, unless it is of an object.
    pub(super) fn event(&mut self, event: &Event, segments: &[Segment], always: bool, summary: &mut Summary) -> Block {
        if matches!(event.what, What::Kmalloc { .. } | What::Kfree { .. }) {
            self.passes_deadline(event.time_ns);
            return Block::Objects;
        }
        if !self.splits {
            summary.has_failed |= failed(&event.what);
            return Block::Always;
        }
        let must = self.passes_deadline(event.time_ns) | self.ends_release(event) | always;
        let mut block = self.own_block(event, segments);
        self.learn(event);
        if must || event.time_ns > MAX_TIME_NS {
            block = Block::Always;
        }
        block = self.follow(event, block);
        self.attempt(event);
        summary.has_failed |= failed(&event.what);
        if let Some(at) = CLOSABLE.iter().position(|closable| *closable == block) {
            self.count(event, segments, at, summary);
        }
        block
    }

    /// The least alignment until now of longer buffers that non-coherent devices write, as a power of two.
    pub(super) fn aligned(&self) -> u32 {
        self.aligned
    }

    /// Whether an attempt is given up at this event.
    fn passes_deadline(&mut self, time_ns: u64) -> bool {
        self.now_ns = self.now_ns.max(time_ns.min(MAX_TIME_NS));
        let mut passed = false;
        while self.deadlines.peek().is_some_and(|Reverse(deadline)| *deadline < self.now_ns) {
            self.deadlines.pop();
            passed = true;
        }
        passed
    }

    /// Whether this thread gave slots back until now.
    fn ends_release(&mut self, event: &Event) -> bool {
        if self.releasing.is_empty() {
            return false;
        }
        let context = context(event);
        let at = self.releasing.iter().position(|other| *other == context);
        at.is_some_and(|at| self.releasing.remove(at).is_some())
    }

    /// Takes note of attempts and of releases.
    fn attempt(&mut self, event: &Event) {
        let (device, size, address) = match event.what {
            What::Bounced { device, size, dev_addr } => (device, size, dev_addr),
            What::SlotMap { device, size, phys, .. } => (device, size, phys),
            What::SlotUnmap { .. } => {
                if self.releasing.len() == MOST_RELEASES {
                    self.releasing.pop_front();
                }
                self.releasing.push_back(context(event));
                return;
            }
            _ => return,
        };
        if self.deadlines.len() == MOST_ATTEMPTS {
            self.give_up();
            return;
        }
        self.deadlines.push(Reverse(event.time_ns.min(MAX_TIME_NS) + ATTEMPT_PATIENCE_NS));
        if let Some(plain) = self.known(device) {
            self.attempted.resize(1 << (ATTEMPT_BITS - 6), 0);
            let bit = attempt_bit(plain.identity, size.min(MAX_SIZE), address);
            self.attempted[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Whether an attempt may have been for such a buffer.
    fn may_be_attempted(&self, identity: u32, size: u64, address: u64) -> bool {
        let bit = attempt_bit(identity, size, address);
        self.attempted.get(bit / 64).is_some_and(|bits| bits >> (bit % 64) & 1 == 1)
    }

    /// The block of an event for what it is itself.
    fn own_block(&mut self, event: &Event, segments: &[Segment]) -> Block {
        match event.what {
            What::Map { device, phys, dma_addr, size, direction, memory, attrs } => {
                let Some(plain) = self.plain(device) else { return Block::Always };
                let is_direct = self.is_direct(&plain, phys, dma_addr);
                if !is_direct
                    || memory != Memory::Unknown
                    || attrs & (MMIO | REQUIRE_COHERENT) != 0
                    || !reaches(&plain, dma_addr, size)
                    || self.may_be_attempted(plain.identity, size, phys)
                {
                    return Block::Always;
                }
                self.of_length(&plain, direction, size, phys | size)
            }
            What::MapSg { device, nents, ents, direction, attrs, .. } => {
                let Some(plain) = self.plain(device) else { return Block::Always };
                let is_direct = !plain.iommu && self.witnessed && event.time_ns >= self.joined_ns;
                let is_whole = ents > 0 && ents == nents && segments.len() == nents as usize;
                if !is_direct || !is_whole || attrs & (MMIO | REQUIRE_COHERENT) != 0 {
                    return Block::Always;
                }
                let (mut shortest, mut bits) = (u64::MAX, 0);
                for segment in segments {
                    let size = u64::from(segment.length);
                    let is_plain = segment.memory == Memory::Unknown
                        && reaches(&plain, segment.dma_addr, size)
                        && (segment.dma_addr ^ u64::from(segment.offset)) & PAGE_OFFSET == 0
                        && !self.may_be_attempted(plain.identity, size, segment.dma_addr);
                    if !is_plain {
                        return Block::Always;
                    }
                    shortest = shortest.min(size);
                    bits |= segment.dma_addr | size;
                }
                self.of_length(&plain, direction, shortest, bits)
            }
            What::Unmap { device, dma_addr, size, .. } => {
                let Some(plain) = self.plain(device) else { return Block::Always };
                if size > MAX_SIZE {
                    return Block::Always;
                }
                self.handles.get(&(plain.identity, dma_addr)).map_or(Block::Rest, |held| held.block)
            }
            What::UnmapSg { device, list, .. } | What::SyncSg { device, list, .. } => {
                let Some(plain) = self.plain(device) else { return Block::Always };
                self.lists.get(&(plain.identity, list)).copied().unwrap_or(Block::Rest)
            }
            What::Sync { device, dma_addr, size, .. } => {
                let Some(plain) = self.plain(device) else { return Block::Always };
                if size > MAX_SIZE { Block::Always } else { self.part(plain.identity, dma_addr) }
            }
            _ => Block::Always,
        }
    }

    /// Whether replay knows of a single mapping without an attempt that the kernel left the buffer alone.
    fn is_direct(&self, plain: &Plain, phys: u64, dma_addr: u64) -> bool {
        if phys & UNKNOWN_PHYS != 0 || dma_addr == MAPPING_ERROR {
            return false;
        }
        if plain.iommu {
            return self.witnessed;
        }
        self.offsets[plain.identity as usize] == Offset::Known(dma_addr.wrapping_sub(phys))
    }

    /// Learns a bus's offset, as far as replay learns it from the same mapping.
    fn learn(&mut self, event: &Event) {
        let What::Map { device, phys, dma_addr, size, .. } = event.what else { return };
        let Some(plain) = self.known(device) else { return };
        let found = dma_addr.wrapping_sub(phys);
        if phys & UNKNOWN_PHYS != 0 || dma_addr == MAPPING_ERROR || plain.iommu || found & PAGE_OFFSET != 0 {
            return;
        }
        let before = self.offsets[plain.identity as usize];
        if before == Offset::Known(found) {
            return;
        }
        let is_unclaimed = !self.may_be_attempted(plain.identity, size.min(MAX_SIZE), phys);
        let is_no_slot = plain.shows_slots && dma_addr & SLOT_OFFSET != 0;
        self.offsets[plain.identity as usize] = match before {
            _ if is_unclaimed && is_no_slot => Offset::Known(found),
            Offset::Unseen if found == 0 => Offset::Known(0),
            // A slot at the buffer's own offset into its page teaches nothing who knows the bus's offset already.
            Offset::Known(other) if !is_no_slot => Offset::Known(other),
            _ => Offset::Doubtful,
        };
    }

    /// The block of a mapping whose shortest buffer is so long; `bits` are all that occur in addresses and lengths.
    fn of_length(&mut self, plain: &Plain, direction: Direction, shortest: u64, bits: u64) -> Block {
        let covers = |streamed: Streamed| streamed.covers(plain.coherent, direction as u64, shortest);
        if covers(Streamed::Small) {
            Block::Always
        } else if covers(Streamed::Written) {
            self.aligned = self.aligned.min(bits.trailing_zeros());
            if bits.is_multiple_of(SMALL_BELOW) { Block::Aligned } else { Block::Written }
        } else {
            Block::Rest
        }
    }

    /// The block of what a DMA address lies in.
    fn part(&self, identity: u32, dma_addr: u64) -> Block {
        let longest = self.longest[identity as usize];
        let from = (identity, dma_addr.saturating_sub(longest));
        let mut block = Block::Rest;
        for (n, start) in self.starts.range(from..=(identity, dma_addr)).rev().enumerate() {
            if n == LOOKED_AT {
                return Block::Always;
            }
            if let Some(held) = self.handles.get(start)
                && dma_addr - start.1 < held.longest
            {
                block = block.first_of(held.block);
            }
        }
        block
    }

    /// Keeps up what is mapped that may be opened. The block in which the event is at last.
    fn follow(&mut self, event: &Event, mut block: Block) -> Block {
        let Some(plain) = event.what.device().and_then(|device| self.known(device)) else { return block };
        let identity = plain.identity;
        match event.what {
            What::Map { dma_addr, size, direction, .. } if block != Block::Rest && dma_addr != MAPPING_ERROR => {
                let size = size.min(MAX_SIZE);
                *self.singles.entry((identity, dma_addr, size, direction as u8)).or_default() += 1;
                let new = Held { count: 0, block, longest: 0 };
                let held = self.handles.entry((identity, dma_addr)).or_insert(new);
                if held.count == 0 {
                    self.starts.insert((identity, dma_addr));
                }
                held.count += 1;
                held.block = held.block.first_of(block);
                held.longest = held.longest.max(size);
                let longest = &mut self.longest[identity as usize];
                *longest = size.max(*longest);
            }
            What::Unmap { dma_addr, size, direction, .. } => {
                self.unmapped((identity, dma_addr), size.min(MAX_SIZE), direction);
            }
            What::MapSg { list, ents, .. } => {
                // What was mapped by this address is forgotten by whoever sees this.
                if let Some(before) = self.lists.get(&(identity, list)) {
                    block = block.first_of(*before);
                }
                if block != Block::Rest && ents > 0 {
                    self.lists.insert((identity, list), block);
                }
            }
            What::UnmapSg { list, .. } => {
                self.lists.remove(&(identity, list));
            }
            _ => {}
        }
        if self.singles.len() + self.lists.len() > MOST_MAPPED {
            self.give_up();
            return Block::Always;
        }
        block
    }

    fn unmapped(&mut self, handle: (u32, u64), size: u64, direction: Direction) {
        let Some(held) = self.handles.get_mut(&handle) else { return };
        let key = (handle.0, handle.1, size, direction as u8);
        let Some(count) = self.singles.get_mut(&key) else { return };
        *count -= 1;
        if *count == 0 {
            self.singles.remove(&key);
        }
        held.count -= 1;
        if held.count == 0 {
            self.handles.remove(&handle);
            self.starts.remove(&handle);
        }
    }

    /// Counts an event of one of [`CLOSABLE`].
    fn count(&self, event: &Event, segments: &[Segment], at: usize, summary: &mut Summary) {
        summary.kinds[at][event.what.kind() as usize] += 1;
        match event.what {
            What::Map { device, size, direction, .. } => {
                let by_address = self.plain(device).is_some_and(|plain| !plain.iommu);
                *(if by_address { &mut summary.by_address[at] } else { &mut summary.by_no_attempt[at] }) += 1;
                let alike = Alike { device, direction, buffer: PassedBuffer::Single, length: size };
                *summary.buffers[at].entry(alike).or_default() += 1;
            }
            What::MapSg { device, direction, caller, nents, .. } => {
                let shows_slots = self.plain(device).is_some_and(|plain| plain.shows_slots);
                let by_address = segments.iter().all(|one| {
                    let differs = (one.dma_addr ^ u64::from(one.offset)) & SLOT_OFFSET != 0;
                    shows_slots && one.dma_addr & SLOT_OFFSET != 0 && !differs
                });
                *(if by_address { &mut summary.by_address[at] } else { &mut summary.by_no_attempt[at] }) += 1;
                *summary.callers[at].entry((device, caller)).or_default() += 1;
                if segments[0].page != 0 {
                    let lists = &mut summary.lists[at];
                    lists.all += 1;
                    lists.of_several += u64::from(nents > 1);
                    lists.of_mixed_lengths += u64::from(segments.iter().any(|one| one.length != segments[0].length));
                    lists.segments += u64::from(nents);
                }
                let mut buffer = PassedBuffer::FirstSegment;
                for segment in segments {
                    let alike = Alike { device, direction, buffer, length: u64::from(segment.length) };
                    *summary.buffers[at].entry(alike).or_default() += 1;
                    buffer = PassedBuffer::Segment;
                }
            }
            _ => {}
        }
    }
}

fn reaches(plain: &Plain, dma_addr: u64, size: u64) -> bool {
    size <= MAX_SIZE && dma_addr.checked_add(size.saturating_sub(1)).is_some_and(|last| last <= plain.reach)
}

fn failed(what: &What) -> bool {
    match *what {
        What::Map { dma_addr, .. } | What::Link { dma_addr, .. } => dma_addr == MAPPING_ERROR,
        What::MapSg { ents, .. } => ents == 0,
        What::SlotMap { slot, .. } => slot == MAPPING_ERROR,
        _ => false,
    }
}

/// A thread of execution.
fn context(event: &Event) -> (u32, u16) {
    (event.task, if event.task == 0 { event.cpu } else { 0 })
}

/// A bit for a device, a length and an offset into a page, which few others share.
fn attempt_bit(identity: u32, size: u64, address: u64) -> usize {
    let parts = size ^ (address & PAGE_OFFSET) << 40 ^ u64::from(identity) << 52;
    (parts.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - ATTEMPT_BITS)) as usize
}
