//! Events into the block.

use super::{
    BY_NUMBER, CLASSES, COLUMNS, Column, Entry, FAR, FAR_LOG2, FINE, FIRST, Lists, MAX_OBJECTS, MAX_SHIFT, NEW, Tasks,
    UNKNOWN_CLASS, fold_address, lists::List,
};
use crate::column::{put, zigzag};
use crate::event::{Event, What};

/// Encodes the objects of one block after another; keeps its memory between them.
#[derive(Default)]
pub struct ObjectEncoder {
    columns: [Vec<u8>; COLUMNS],
    lists: Lists,
    /// The addresses of `lists` by address.
    numbers: Table,
    entries: Vec<Entry>,
    /// The entries by content.
    indices: Table,
    /// What is given by allocations of each class.
    classes: Vec<u64>,
    bits: Bits,
    state: State,
    /// Objects in the block so far.
    count: usize,
    tick_shift: u8,
    /// Which block this is: not 0, and another one each time.
    block: u32,
    /// A block is begun: what was kept of the one before is gone.
    is_begun: bool,
}

/// When, where and by whom an object was allocated or freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// Thread id.
    pub task: u32,
    /// CPU number.
    pub cpu: u16,
}

/// What an allocation is but for its moment and its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Return address of the caller.
    pub call_site: u64,
    /// Bytes asked for.
    pub bytes_req: u64,
    /// Bytes given.
    pub bytes_alloc: u64,
    /// `gfp_t`.
    pub gfp: u64,
}

/// What an encoder found the last time for events that are alike: kept by whoever has these together, so that the encoder need not search. To
/// be forgotten (the default) when they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The block that this is of; 0 for none.
    block: u32,
    entry: u16,
    /// For a free: [`Entry::Kfree`]'s `of`.
    of: Option<u16>,
}

impl ObjectEncoder {
    /// Appends a block of these events to `block`, with times in units of `1 << tick_shift` ns. Events that are no objects, and those beyond
    /// [`MAX_OBJECTS`], are not encoded.
    pub fn encode<'a>(&mut self, events: impl Iterator<Item = &'a Event>, tick_shift: u8, block: &mut Vec<u8>) {
        self.begin(tick_shift);
        for event in events {
            self.event(event);
        }
        self.finish(block);
    }

    /// Begins a block, with times in units of `1 << tick_shift` ns; what was in one that was not finished is gone.
    pub fn begin(&mut self, tick_shift: u8) {
        self.tick_shift = tick_shift.min(MAX_SHIFT);
        self.is_begun = false;
        self.count = 0;
    }

    /// What the first event of a block finds.
    #[cold]
    fn forget(&mut self) {
        self.columns.iter_mut().for_each(Vec::clear);
        self.lists.clear();
        self.entries.clear();
        self.numbers.clear();
        self.indices.clear();
        self.classes.clear();
        self.bits = Bits::default();
        self.state = State::default();
        self.block = self.block.wrapping_add(1).max(1);
        self.is_begun = true;
    }

    /// Makes room for an event; whether there is some.
    #[inline]
    fn has_room(&mut self) -> bool {
        if !self.is_begun {
            self.forget();
        }
        self.count < MAX_OBJECTS
    }

    /// Objects in the block so far.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// There are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds an event, if it is of an object and there is room; whether it did.
    pub fn event(&mut self, event: &Event) -> bool {
        let Event { time_ns, task, cpu, what } = *event;
        let moment = Moment { time_ns, task, cpu };
        match what {
            What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp } => {
                let allocation = Allocation { call_site, bytes_req, bytes_alloc, gfp };
                self.allocated(moment, ptr, &allocation, &mut Known::default()).is_some()
            }
            What::Kfree { call_site, ptr } => self.freed(moment, ptr, call_site, &mut Known::default()),
            _ => false,
        }
    }

    /// Adds an allocation: whether it is the first of its kind in this block. `None` where the block has [`MAX_OBJECTS`].
    #[inline]
    pub fn allocated(&mut self, moment: Moment, ptr: u64, allocation: &Allocation, known: &mut Known) -> Option<bool> {
        if !self.has_room() {
            return None;
        }
        let number = self.number(ptr);
        let before = self.entries.len();
        if known.block == self.block {
            self.value(Column::Entry, u64::from(known.entry));
        } else {
            let Allocation { call_site, bytes_req, bytes_alloc, gfp } = *allocation;
            let class = self.class(bytes_alloc);
            let entry = self.entry(Entry::Kmalloc { call_site, bytes_req, bytes_alloc, gfp, class });
            *known = Known { block: self.block, entry, of: None };
        }
        let entry = known.entry;
        let from = List::freed(moment.cpu, self.entries[usize::from(entry)].class());
        self.address(ptr, number, from, List::live(entry), Column::Allocated);
        self.moment(moment);
        Some(self.entries.len() > before)
    }

    /// Adds a free, if there is room; whether it did.
    #[inline]
    pub fn freed(&mut self, moment: Moment, ptr: u64, call_site: u64, known: &mut Known) -> bool {
        if !self.has_room() {
            return false;
        }
        let number = self.number(ptr);
        let of = number.and_then(|number| self.lists.list(number).entry());
        let class = of.map_or(UNKNOWN_CLASS, |of| self.entries[usize::from(of)].class());
        if known.block == self.block && known.of == of {
            self.value(Column::Entry, u64::from(known.entry));
        } else {
            let entry = self.entry(Entry::Kfree { call_site, of, class });
            *known = Known { block: self.block, entry, of };
        }
        let from = of.map_or(List::freed(moment.cpu, UNKNOWN_CLASS), List::live);
        self.address(ptr, number, from, List::freed(moment.cpu, class), Column::Freed);
        self.moment(moment);
        true
    }

    /// Appends the block to `block`. What comes next is the first of another.
    pub fn finish(&mut self, block: &mut Vec<u8>) {
        if !self.is_begun {
            self.forget();
        }
        if self.state.run > 0 {
            put(&mut self.columns[Column::Run as usize], self.state.run);
            self.state.run = 0;
        }
        self.bits.finish(&mut self.columns[Column::TimeBits as usize]);
        put(block, self.count as u64);
        block.push(self.tick_shift);
        for column in &mut self.columns {
            put(block, column.len() as u64);
            block.append(column);
        }
        self.begin(self.tick_shift);
    }

    /// The number of an address that is known.
    #[inline]
    fn number(&self, ptr: u64) -> Option<u16> {
        self.numbers.find(hash(ptr), |number| self.lists.address(number) == ptr)
    }

    #[inline]
    fn moment(&mut self, moment: Moment) {
        self.time(moment.time_ns >> self.tick_shift);
        self.place(moment);
        self.count += 1;
    }

    #[inline]
    fn value(&mut self, column: Column, value: u64) {
        put(&mut self.columns[column as usize], value);
    }

    #[inline]
    fn byte(&mut self, column: Column, byte: u8) {
        self.columns[column as usize].push(byte);
    }

    /// What one allocation gives another may get after it is freed, when both are of one size.
    fn class(&mut self, bytes_alloc: u64) -> u8 {
        let known = self.classes.iter().position(|bytes| *bytes == bytes_alloc);
        let class = known.unwrap_or_else(|| {
            if self.classes.len() < usize::from(CLASSES) - 1 {
                self.classes.push(bytes_alloc);
            }
            self.classes.len() - 1
        });
        class as u8 + 1
    }

    /// The entry of an event, which is made when there is none.
    fn entry(&mut self, entry: Entry) -> u16 {
        let hash = match entry {
            Entry::Kmalloc { call_site, bytes_req, bytes_alloc, gfp, class: _ } => {
                hash(call_site ^ bytes_req.rotate_left(24) ^ bytes_alloc.rotate_left(40) ^ gfp.rotate_left(50))
            }
            Entry::Kfree { call_site, of, class: _ } => hash(call_site ^ of.map_or(1 << 63, u64::from).rotate_left(30)),
        };
        let found = self.indices.find(hash, |index| self.entries[usize::from(index)] == entry);
        let index = found.unwrap_or_else(|| {
            let index = self.entries.len() as u16;
            self.entries.push(entry);
            self.lists.add_entry();
            self.define(entry);
            self.indices.insert(hash, index);
            index
        });
        self.value(Column::Entry, u64::from(index));
        index
    }

    fn define(&mut self, entry: Entry) {
        use Column::Dictionary;
        let site = match entry {
            Entry::Kmalloc { call_site, .. } => {
                self.value(Dictionary, 0);
                call_site
            }
            Entry::Kfree { call_site, of, .. } => {
                self.value(Dictionary, of.map_or(1, |of| u64::from(of) + 2));
                call_site
            }
        };
        let before = std::mem::replace(&mut self.state.call_site, site);
        self.value(Dictionary, zigzag(site.wrapping_sub(before)));
        if let Entry::Kmalloc { bytes_req, bytes_alloc, gfp, class, .. } = entry {
            for value in [bytes_req, bytes_alloc, gfp, u64::from(class)] {
                self.value(Dictionary, value);
            }
        }
    }

    /// Where an address is that goes from one list to another.
    #[inline]
    fn address(&mut self, ptr: u64, number: Option<u16>, from: List, to: List, column: Column) {
        let Some(number) = number else {
            self.byte(column, NEW);
            let delta = ptr.wrapping_sub(std::mem::replace(&mut self.state.address, ptr));
            self.value(Column::Address, fold_address(delta));
            let number = self.lists.add(ptr, to);
            self.numbers.insert(hash(ptr), number);
            return;
        };
        let depth = if self.lists.list(number) == from { self.lists.depth(number) } else { None };
        if let Some(depth) = depth {
            self.byte(column, FIRST + depth);
        } else {
            self.byte(column, BY_NUMBER);
            self.value(Column::Known, self.lists.len() as u64 - 1 - u64::from(number));
        }
        self.lists.put(number, to);
    }

    #[inline]
    fn time(&mut self, ticks: u64) {
        let delta = ticks.wrapping_sub(std::mem::replace(&mut self.state.ticks, ticks));
        if delta < 2 << FINE {
            self.byte(Column::Time, delta as u8);
        } else if delta < 1 << FAR_LOG2 {
            let below = delta.ilog2() - FINE;
            // The first bit is one more power of two, and is not counted twice.
            self.byte(Column::Time, (below << FINE) as u8 + (delta >> below) as u8);
            self.bits.put(&mut self.columns[Column::TimeBits as usize], delta, below);
        } else {
            self.byte(Column::Time, FAR);
            self.value(Column::FarTime, zigzag(delta));
        }
    }

    /// On which CPU, and in which task.
    #[inline]
    fn place(&mut self, moment: Moment) {
        let Moment { task, cpu, .. } = moment;
        let state = &mut self.state;
        if state.run > 0 && (cpu, task) == state.place {
            state.run += 1;
            return;
        }
        let run = std::mem::replace(&mut state.run, 1);
        state.place = (cpu, task);
        let changed = std::mem::replace(state.tasks.of(cpu), task) != task;
        if run > 0 {
            self.value(Column::Run, run);
        }
        self.value(Column::Cpu, u64::from(cpu) * 2 + u64::from(changed));
        if changed {
            self.value(Column::Task, u64::from(task));
        }
    }
}

/// What the values are relative to.
struct State {
    ticks: u64,
    call_site: u64,
    address: u64,
    /// How many events this CPU and task has had.
    run: u64,
    place: (u16, u32),
    tasks: Tasks,
}

impl Default for State {
    fn default() -> Self {
        Self { ticks: 0, call_site: 0, address: 0, run: 0, place: (0, 0), tasks: Tasks::NONE }
    }
}

/// Bits on their way into bytes, lowest first.
#[derive(Default)]
struct Bits {
    word: u64,
    count: u32,
}

impl Bits {
    /// The lowest `count` bits of a value; fewer than 33.
    #[inline]
    fn put(&mut self, bytes: &mut Vec<u8>, value: u64, count: u32) {
        self.word |= (value & ((1 << count) - 1)) << self.count;
        self.count += count;
        if self.count >= 32 {
            bytes.extend((self.word as u32).to_le_bytes());
            self.word >>= 32;
            self.count -= 32;
        }
    }

    /// What is left, in as many bytes as it needs.
    fn finish(&mut self, bytes: &mut Vec<u8>) {
        bytes.extend(&self.word.to_le_bytes()[..self.count.div_ceil(8) as usize]);
        *self = Self::default();
    }
}

/// Numbers by what they stand for, which is kept elsewhere. What finds no place near its own is forgotten: its next event takes a few bytes
/// more, and no input makes a search long.
#[derive(Default)]
struct Table {
    /// Each number plus one, with the hash of what it stands for; 0 where there is none.
    slots: Vec<(u32, u16)>,
    used: usize,
}

/// Places that are tried.
const PROBES: usize = 32;
/// With how many a block begins at least; a power of two.
const LEAST_SLOTS: usize = 1 << 12;

impl Table {
    /// Forgets everything. There are as many slots as the block before needed, of which most are followed by one like it.
    fn clear(&mut self) {
        let needed = (2 * self.used + 1).next_power_of_two().max(LEAST_SLOTS);
        self.slots.clear();
        self.slots.resize(needed, (0, 0));
        self.slots.shrink_to(2 * needed);
        self.used = 0;
    }

    #[inline]
    fn find(&self, hash: u32, is_it: impl Fn(u16) -> bool) -> Option<u16> {
        for slot in self.near(hash) {
            let (of, number) = self.slots[slot];
            if number == 0 {
                return None;
            }
            if of == hash && is_it(number - 1) {
                return Some(number - 1);
            }
        }
        None
    }

    /// Adds a number that is not in it.
    fn insert(&mut self, hash: u32, number: u16) {
        if 2 * self.used >= self.slots.len() {
            let larger = vec![(0, 0); 2 * self.slots.len()];
            let slots = std::mem::replace(&mut self.slots, larger);
            self.used = 0;
            slots.into_iter().filter(|(_, number)| *number != 0).for_each(|slot| self.settle(slot));
        }
        // The last one of a full block is never looked for.
        if let Some(number) = number.checked_add(1) {
            self.settle((hash, number));
        }
    }

    fn settle(&mut self, slot: (u32, u16)) {
        if let Some(free) = self.near(slot.0).find(|at| self.slots[*at].1 == 0) {
            self.slots[free] = slot;
            self.used += 1;
        }
    }

    /// The slots where something may be.
    #[inline]
    fn near(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let last = self.slots.len() - 1;
        (0..PROBES).map(move |probe| (hash as usize + probe) & last)
    }
}

/// Spreads a value over all bits.
#[inline]
fn hash(value: u64) -> u32 {
    let product = u128::from(value) * 0x9e37_79b9_7f4a_7c15;
    (product as u64 ^ (product >> 64) as u64) as u32
}
