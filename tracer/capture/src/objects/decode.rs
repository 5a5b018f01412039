//! The block into events, a part at a time.

use super::{
    BY_NUMBER, CLASSES, COLUMNS, Column, DEPTH, Entry, FAR, FINE, FIRST, Lists, MAX_OBJECTS, MAX_SHIFT, NEW, Tasks,
    UNKNOWN_CLASS, lists::List, unfold_address,
};
use crate::column::{get, unzigzag};
use crate::event::{Event, What};

/// Decodes the blocks of one frame after another; keeps its memory between them.
#[derive(Default)]
pub struct ObjectDecoder {
    lists: Lists,
    entries: Vec<Entry>,
}

impl ObjectDecoder {
    /// Begins with what an [`super::ObjectEncoder`] made; `None` when it is no such thing, as far as can be seen without going through the
    /// events.
    pub fn begin<'a>(&'a mut self, mut block: &'a [u8]) -> Option<Objects<'a>> {
        let count = usize::try_from(get(&mut block)?).ok()?;
        let (&tick_shift, rest) = block.split_first()?;
        block = rest;
        let mut columns = [&[][..]; COLUMNS];
        for column in &mut columns {
            let length = usize::try_from(get(&mut block)?).ok()?;
            (*column, block) = block.split_at_checked(length)?;
        }
        // Each event has a byte in the column of times.
        if count > MAX_OBJECTS || count != columns[Column::Time as usize].len() || tick_shift > MAX_SHIFT {
            return None;
        }
        if !block.is_empty() {
            return None;
        }
        self.lists.clear();
        self.dictionary(columns[Column::Dictionary as usize])?;
        let bits = Bits::new(columns[Column::TimeBits as usize]);
        Some(Objects {
            lists: &mut self.lists,
            entries: &self.entries,
            columns,
            bits,
            left: count,
            tick_shift,
            ticks: 0,
            address: 0,
            run: 0,
            place: (0, 0),
            tasks: Tasks::NONE,
        })
    }

    fn dictionary(&mut self, mut column: &[u8]) -> Option<()> {
        self.entries.clear();
        let mut call_site = 0_u64;
        while !column.is_empty() {
            if self.entries.len() == MAX_OBJECTS {
                return None;
            }
            let kind = get(&mut column)?;
            call_site = call_site.wrapping_add(unzigzag(get(&mut column)?));
            let entry = match kind {
                0 => Entry::Kmalloc {
                    call_site,
                    bytes_req: get(&mut column)?,
                    bytes_alloc: get(&mut column)?,
                    gfp: get(&mut column)?,
                    class: u8::try_from(get(&mut column)?).ok().filter(|class| *class < CLASSES)?,
                },
                1 => Entry::Kfree { call_site, of: None, class: UNKNOWN_CLASS },
                _ => {
                    let of = usize::try_from(kind - 2).ok()?;
                    match self.entries.get(of)? {
                        Entry::Kmalloc { class, .. } => Entry::Kfree { call_site, of: Some(of as u16), class: *class },
                        Entry::Kfree { .. } => return None,
                    }
                }
            };
            self.entries.push(entry);
            self.lists.add_entry();
        }
        Some(())
    }
}

/// The events of a block that are not decoded yet.
pub struct Objects<'a> {
    lists: &'a mut Lists,
    entries: &'a [Entry],
    columns: [&'a [u8]; COLUMNS],
    bits: Bits<'a>,
    left: usize,
    tick_shift: u8,
    ticks: u64,
    address: u64,
    /// How many more events this CPU and task has.
    run: u64,
    place: (u16, u32),
    tasks: Tasks,
}

impl Objects<'_> {
    /// How many events are left.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Times are multiples of two to this power nanoseconds, rounded down.
    pub const fn tick_shift(&self) -> u8 {
        self.tick_shift
    }

    /// Appends the next `count` events, or as many as are left; `None` when the block is damaged.
    pub fn decode(&mut self, count: usize, events: &mut Vec<Event>) -> Option<()> {
        let count = count.min(self.left);
        events.reserve(count);
        for _ in 0..count {
            events.push(self.event()?);
        }
        self.left -= count;
        let is_whole = self.left > 0 || self.is_used_up();
        is_whole.then_some(())
    }

    /// Everything in the block belonged to an event.
    fn is_used_up(&self) -> bool {
        let has_rest = |column: Column| !self.columns[column as usize].is_empty();
        let rest = [
            Column::Entry,
            Column::Run,
            Column::Cpu,
            Column::Task,
            Column::Allocated,
            Column::Freed,
            Column::Known,
            Column::Address,
            Column::Time,
            Column::FarTime,
        ];
        self.run == 0 && self.bits.is_used_up() && !rest.into_iter().any(has_rest)
    }

    #[inline]
    fn event(&mut self) -> Option<Event> {
        let index = u16::try_from(self.value(Column::Entry)?).ok()?;
        let entry = *self.entries.get(usize::from(index))?;
        let time_ns = self.time()?;
        let (cpu, task) = self.place()?;
        let what = match entry {
            Entry::Kmalloc { call_site, bytes_req, bytes_alloc, gfp, class } => {
                let ptr = self.ptr(Column::Allocated, List::freed(cpu, class), List::live(index))?;
                What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp }
            }
            Entry::Kfree { call_site, of, class } => {
                let from = of.map_or(List::freed(cpu, UNKNOWN_CLASS), List::live);
                What::Kfree { call_site, ptr: self.ptr(Column::Freed, from, List::freed(cpu, class))? }
            }
        };
        Some(Event { time_ns, task, cpu, what })
    }

    #[inline]
    fn value(&mut self, column: Column) -> Option<u64> {
        get(&mut self.columns[column as usize])
    }

    #[inline]
    fn byte(&mut self, column: Column) -> Option<u8> {
        let (&byte, rest) = self.columns[column as usize].split_first()?;
        self.columns[column as usize] = rest;
        Some(byte)
    }

    /// The next address of a column, which goes from one list to another.
    #[inline]
    fn ptr(&mut self, column: Column, from: List, to: List) -> Option<u64> {
        let number = match self.byte(column)? {
            NEW => {
                self.address = self.address.wrapping_add(unfold_address(self.value(Column::Address)?));
                self.lists.add(self.address, to);
                return Some(self.address);
            }
            BY_NUMBER => {
                let back = usize::try_from(self.value(Column::Known)?).ok()?;
                self.lists.len().checked_sub(1)?.checked_sub(back)? as u16
            }
            place if place - FIRST < DEPTH => self.lists.at(from, place - FIRST)?,
            _ => return None,
        };
        self.lists.put(number, to);
        Some(self.lists.address(number))
    }

    #[inline]
    fn time(&mut self) -> Option<u64> {
        let delta = match self.byte(Column::Time)? {
            code if code < 2 << FINE => u64::from(code),
            code if code < FAR => {
                let below = u32::from(code >> FINE) - 1;
                let first = u64::from(code & ((1 << FINE) - 1) | 1 << FINE);
                first << below | self.bits.take(below)?
            }
            FAR => unzigzag(self.value(Column::FarTime)?),
            _ => return None,
        };
        self.ticks = self.ticks.wrapping_add(delta);
        let time_ns = self.ticks << self.tick_shift;
        (time_ns >> self.tick_shift == self.ticks).then_some(time_ns)
    }

    /// The CPU and task of the next event.
    #[inline]
    fn place(&mut self) -> Option<(u16, u32)> {
        if self.run == 0 {
            self.run = self.value(Column::Run)?;
            let cpu = self.value(Column::Cpu)?;
            let is_changed = cpu & 1 == 1;
            let cpu = u16::try_from(cpu >> 1).ok()?;
            if is_changed {
                *self.tasks.of(cpu) = u32::try_from(self.value(Column::Task)?).ok()?;
            }
            self.place = (cpu, *self.tasks.of(cpu));
        }
        self.run = self.run.checked_sub(1)?;
        Some(self.place)
    }
}

/// Bits of a column, lowest first.
struct Bits<'a> {
    bytes: &'a [u8],
    word: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, word: 0, count: 0 }
    }

    /// The next `count` bits; fewer than 33.
    #[inline]
    fn take(&mut self, count: u32) -> Option<u64> {
        if self.count < count {
            if let Some((four, rest)) = self.bytes.split_first_chunk() {
                self.word |= u64::from(u32::from_le_bytes(*four)) << self.count;
                self.count += 32;
                self.bytes = rest;
            } else {
                while self.count < count {
                    let (&byte, rest) = self.bytes.split_first()?;
                    self.word |= u64::from(byte) << self.count;
                    self.count += 8;
                    self.bytes = rest;
                }
            }
        }
        let value = self.word & ((1 << count) - 1);
        self.word >>= count;
        self.count -= count;
        Some(value)
    }

    /// No byte is left, and no bit but the zeroes that fill the last byte.
    const fn is_used_up(&self) -> bool {
        self.bytes.is_empty() && self.word == 0 && self.count < 8
    }
}
