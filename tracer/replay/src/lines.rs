//! What is mapped at this moment by devices that are not coherent, and which buffers lie in one cache line while both are mapped.
//!
//! The one table for all simulated kernels: it knows where buffers lie, not what becomes of them. Buffers are kept by their
//! place, in classes of length, so that a search looks at few that lie elsewhere, however many there are.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::devices::Identity;
use super::mapping::{Beside, Handle, Origin, Proof, Truth};
use bouncescope_capture::event::{DeviceId, Direction};
use bouncescope_model::sharing::Object;

/// Buffers that are kept at one time. Each takes about 200 bytes, also in the recorder.
const MOST: usize = 1 << 12;
/// Buffers of one class that a search looks at. More are there only where the same memory is mapped many times.
const SEARCHED: usize = 64;
/// One DMA address is rarely mapped more than once at a time; this many without an unmapping are leaks of a lossy stream.
const MOST_OF_ONE_HANDLE: usize = 64;
/// Buffers of the first class are no longer, bytes; those of each next one twice as long.
const FIRST_CLASS: u64 = 64;

/// A buffer to be looked up, or kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// Physical address.
    pub(super) start: u64,
    /// Length, bytes.
    pub(super) size: u64,
    /// The device may write it.
    pub(super) written: bool,
}

/// Whose buffer it is, and what the recorded kernel did with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// The mapping's number in the stream, and the buffer's in the mapping.
    pub(super) buffer: (u64, u32),
    pub(super) device: DeviceId,
    pub(super) origin: Origin,
    pub(super) truth: Truth,
    pub(super) object: Option<Object>,
}

/// Where a buffer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    class: u8,
    written: bool,
    start: u64,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    end: u64,
    owner: Owner,
}

/// Single mappings are told apart by length and direction too.
type Key = (Identity, Handle, u64, u8);

/// The table.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    /// No line is longer, bytes: a power of two.
    longest: u64,
    /// By class; what the device only reads, then what it writes.
    classes: Vec<[BTreeMap<(u64, u64), Kept>; 2]>,
    mapped: HashMap<Key, Vec<Place>>,
    /// Linked buffers, by the DMA address that they begin at, with their length.
    links: BTreeMap<(Identity, u64), (u64, Vec<Place>)>,
    buffers: usize,
    next: u64,
    /// Buffers that were not kept, since there were too many.
    pub(super) left_out: u64,
    /// Buffers for which a search ended before all had been looked at; whoever searches counts them.
    pub(super) cut: u64,
    /// Buffers whose place in memory is not known.
    pub(super) not_located: u64,
}

impl Lines {
    /// Lines of so many bytes are of interest, and no longer ones but those that were before.
    pub(super) fn look_at(&mut self, line: u64) {
        self.longest = self.longest.max(line.max(1).next_power_of_two());
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.buffers == 0
    }

    /// What is mapped already in the lines of a buffer, one of the two written by its device. The nearest of the shortest come first. Nothing is
    /// looked for while no more can be kept: the buffer itself is left out then, and counted as such. Whether the search ended before all had
    /// been looked at.
    #[must_use]
    pub(super) fn beside(&self, placed: Placed, mut found: impl FnMut(Beside)) -> bool {
        let Some(last) = placed.last().filter(|_| self.buffers < MOST) else { return false };
        let in_line = self.longest.max(1) - 1;
        let (from, last_of_lines) = (placed.start & !in_line, last | in_line);
        let mut is_cut = false;
        for (class, kinds) in self.classes.iter().enumerate() {
            let reach = FIRST_CLASS << class;
            for kept in kinds.iter().skip(usize::from(!placed.written)).filter(|kept| !kept.is_empty()) {
                let around = (from.saturating_sub(reach), 0)..=(last_of_lines, u64::MAX);
                let mut near = kept.range(around).rev();
                for (&(start, _), kept) in near.by_ref().take(SEARCHED).filter(|(_, kept)| kept.end > from) {
                    let Owner { buffer: (mapping, index), device, origin, truth, object } = kept.owner;
                    let from_line = shortest_line((placed.start, last), (start, kept.end - 1));
                    let shares = Box::default();
                    found(Beside {
                        buffer: 0,
                        mapping,
                        index,
                        device,
                        origin,
                        truth,
                        phys: start,
                        object,
                        from_line,
                        shares,
                    });
                }
                is_cut |= near.next().is_some();
            }
        }
        is_cut
    }

    /// A mapping begins. Nothing else is mapped by the handle of a list. Whether any of its buffers is kept.
    pub(super) fn mapped(
        &mut self,
        identity: Identity,
        handle: Handle,
        direction: Direction,
        bytes: u64,
        buffers: impl Iterator<Item = (Placed, Owner)>,
    ) -> bool {
        let places: Vec<Place> = buffers.filter_map(|(placed, owner)| self.keep(placed, owner)).collect();
        let is_kept = !places.is_empty();
        if let Handle::Link(start) = handle {
            if let Some((_, gone)) = self.links.insert((identity, start), (bytes, places)) {
                self.remove(&gone);
            }
            return is_kept;
        }
        let key = key(identity, handle, bytes, direction);
        if !is_kept && !self.mapped.contains_key(&key) {
            return false;
        }
        let kept = self.mapped.entry(key).or_default();
        let gone = if let Handle::List(_) = handle {
            std::mem::replace(kept, places)
        } else {
            kept.extend(places);
            if kept.len() > MOST_OF_ONE_HANDLE { vec![kept.remove(0)] } else { Vec::new() }
        };
        self.remove(&gone);
        is_kept
    }

    /// A mapping ends: the oldest of those by this handle.
    pub(super) fn unmapped(&mut self, identity: Identity, handle: Handle, size: u64, direction: Direction) {
        let key = key(identity, handle, size, direction);
        let Some(kept) = self.mapped.get_mut(&key) else { return };
        let gone = match handle {
            Handle::List(_) => std::mem::take(kept),
            _ if kept.is_empty() => Vec::new(),
            _ => vec![kept.remove(0)],
        };
        if kept.is_empty() {
            self.mapped.remove(&key);
        }
        self.remove(&gone);
    }

    /// All that was linked in a range of DMA addresses ends.
    pub(super) fn unlinked(&mut self, identity: Identity, start: u64, size: u64) {
        let Some(last) = size.checked_sub(1).map(|size| start.saturating_add(size)) else { return };
        while let Some((&at, (bytes, _))) = self.links.range((identity, 0)..=(identity, last)).next_back()
            && at.1.saturating_add(*bytes) > start
        {
            if let Some((_, gone)) = self.links.remove(&at) {
                self.remove(&gone);
            }
        }
    }

    fn keep(&mut self, placed: Placed, owner: Owner) -> Option<Place> {
        let last = placed.last()?;
        if self.buffers == MOST {
            self.left_out += 1;
            return None;
        }
        let class = placed.size.div_ceil(FIRST_CLASS).next_power_of_two().trailing_zeros();
        if self.classes.len() <= class as usize {
            self.classes.resize_with(class as usize + 1, Default::default);
        }
        let place = Place { class: class as u8, written: placed.written, start: placed.start, number: self.next };
        let kept = Kept { end: last.saturating_add(1), owner };
        self.classes[class as usize][usize::from(placed.written)].insert((place.start, place.number), kept);
        self.next += 1;
        self.buffers += 1;
        Some(place)
    }

    fn remove(&mut self, places: &[Place]) {
        for place in places {
            let kept = &mut self.classes[usize::from(place.class)][usize::from(place.written)];
            self.buffers -= usize::from(kept.remove(&(place.start, place.number)).is_some());
        }
    }
}

impl Placed {
    /// Its last byte; `None` for a buffer without any.
    fn last(&self) -> Option<u64> {
        Some(self.start.saturating_add(self.size.checked_sub(1)?))
    }
}

impl Owner {
    /// Of a buffer that the kernel mapped as it is, and that is not followed.
    pub(super) fn of_plain(device: DeviceId, caller: u64, proof: Proof) -> Self {
        let origin = Origin { caller, ..Origin::default() };
        Self { buffer: (u64::MAX, 0), device, origin, truth: Truth::Direct { proof }, object: None }
    }
}

/// A list is found by its handle alone.
fn key(identity: Identity, handle: Handle, bytes: u64, direction: Direction) -> Key {
    match handle {
        Handle::Single(_) => (identity, handle, bytes, direction as u8),
        Handle::List(_) | Handle::Link(_) => (identity, handle, 0, 0),
    }
}

/// The shortest line, a power of two, in which bytes of both lie; 1 where they have bytes in common. Each is its first and last byte.
fn shortest_line(one: (u64, u64), other: (u64, u64)) -> u64 {
    let (first, second) = if one.0 <= other.0 { (one, other) } else { (other, one) };
    match first.1 ^ second.0 {
        _ if first.1 >= second.0 => 1,
        apart => 1_u64.checked_shl(u64::BITS - apart.leading_zeros()).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const READ: bool = false;
    const WRITTEN: bool = true;

    fn placed(start: u64, size: u64, written: bool) -> Placed {
        Placed { start, size, written }
    }

    fn owner(id: u64) -> Owner {
        Owner { buffer: (id, 0), ..Owner::of_plain(DeviceId(0), 0, Proof::Address) }
    }

    fn lines(longest: u64) -> Lines {
        let mut lines = Lines::default();
        lines.look_at(longest);
        lines
    }

    fn map(lines: &mut Lines, id: u64, placed: Placed) {
        let handle = Handle::Single(id);
        lines.mapped(Identity(0), handle, Direction::FromDevice, placed.size, [(placed, owner(id))].into_iter());
    }

    fn unmap(lines: &mut Lines, id: u64, size: u64) {
        lines.unmapped(Identity(0), Handle::Single(id), size, Direction::FromDevice);
    }

    /// The mappings beside a buffer, and the shortest lines that they share.
    fn found(lines: &mut Lines, placed: Placed) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        lines.cut += u64::from(lines.beside(placed, |beside| found.push((beside.mapping, beside.from_line))));
        found.sort_unstable();
        found
    }

    #[test]
    fn two_in_one_line_are_found_while_both_are_mapped_and_one_is_written() {
        let mut lines = lines(64);
        map(&mut lines, 1, placed(0x1000, 8, WRITTEN));
        assert_eq!(found(&mut lines, placed(0x1038, 8, READ)), [(1, 64)]);
        assert_eq!(found(&mut lines, placed(0x1008, 8, WRITTEN)), [(1, 16)]);
        assert_eq!(found(&mut lines, placed(0x1040, 8, WRITTEN)), [], "in the next line");
        unmap(&mut lines, 1, 8);
        assert_eq!(found(&mut lines, placed(0x1008, 8, WRITTEN)), []);
        assert!(lines.is_empty() && lines.mapped.is_empty());
    }

    #[test]
    fn two_that_are_only_read_do_no_harm() {
        let mut lines = lines(64);
        map(&mut lines, 1, placed(0x1000, 8, READ));
        assert_eq!(found(&mut lines, placed(0x1000, 8, READ)), []);
        assert_eq!(found(&mut lines, placed(0x1000, 8, WRITTEN)), [(1, 1)]);
    }

    #[test]
    fn a_long_buffer_is_found_by_what_lies_in_its_middle_and_the_other_way_round() {
        let mut lines = lines(64);
        map(&mut lines, 1, placed(0x10_0000, 1 << 20, WRITTEN));
        assert_eq!(found(&mut lines, placed(0x18_0000, 4, READ)), [(1, 1)]);
        map(&mut lines, 2, placed(0x18_0040, 4, READ));
        assert_eq!(found(&mut lines, placed(0x10_0000, 1 << 20, WRITTEN)), [(1, 1), (2, 1)]);
    }

    #[test]
    fn an_unmapping_ends_the_oldest_of_the_same_handle_length_and_direction() {
        let mut lines = lines(64);
        for id in [1, 2] {
            let buffer = (placed(0x1000, 8, WRITTEN), owner(id));
            lines.mapped(Identity(0), Handle::Single(9), Direction::FromDevice, 8, [buffer].into_iter());
        }
        unmap(&mut lines, 9, 16);
        assert_eq!(found(&mut lines, placed(0x1000, 8, READ)).len(), 2, "none of this length");
        unmap(&mut lines, 9, 8);
        assert_eq!(found(&mut lines, placed(0x1000, 8, READ)), [(2, 1)]);
    }

    #[test]
    fn a_list_that_is_mapped_again_was_unmapped_and_links_end_by_range() {
        let mut lines = lines(64);
        for start in [0x1000, 0x2000] {
            let buffers = [(placed(start, 8, WRITTEN), owner(start)), (placed(start + 64, 8, WRITTEN), owner(start))];
            lines.mapped(Identity(0), Handle::List(7), Direction::FromDevice, 16, buffers.into_iter());
        }
        assert_eq!(found(&mut lines, placed(0x1000, 8, READ)), []);
        assert_eq!(lines.buffers, 2);
        lines.unmapped(Identity(0), Handle::List(7), 0, Direction::ToDevice);
        for at in [0x5000, 0x6000] {
            let buffer = (placed(at, 0x1000, WRITTEN), owner(at));
            lines.mapped(Identity(0), Handle::Link(at), Direction::FromDevice, 0x1000, [buffer].into_iter());
        }
        lines.unlinked(Identity(0), 0x5800, 0x100);
        assert_eq!(found(&mut lines, placed(0x5000, 0x2000, READ)), [(0x6000, 1)]);
        lines.unlinked(Identity(0), 0, u64::MAX);
        assert!(lines.is_empty());
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let mut lines = lines(64);
        for id in 0..=SEARCHED as u64 {
            map(&mut lines, id, placed(0x1000, 8, WRITTEN));
        }
        assert_eq!((found(&mut lines, placed(0x1000, 8, READ)).len(), lines.cut), (SEARCHED, 1));
        for id in 0..MOST as u64 {
            map(&mut lines, 1000 + id, placed(0x10_0000 + id * 64, 8, WRITTEN));
        }
        assert_eq!((lines.buffers, lines.left_out), (MOST, SEARCHED as u64 + 1));
        // What finds no room is left out, which is counted already.
        assert_eq!((found(&mut lines, placed(0x1000, 8, READ)).len(), lines.cut), (0, 1));
    }

    proptest! {
        /// Held against all pairs, and each pair against all lines, while buffers come and go.
        #[test]
        fn the_table_finds_what_comparing_all_pairs_finds(
            longest in 0_u32..9,
            buffers in prop::collection::vec((0_u64..3000, prop_oneof![1_u64..20, 1_u64..2000], any::<bool>(), any::<bool>()), 1..50),
        ) {
            let longest = 1 << longest;
            let mut lines = lines(longest);
            let mut live: Vec<(u64, Placed)> = Vec::new();
            for (id, (start, size, written, stays)) in buffers.into_iter().enumerate() {
                let one = placed(start, size, written);
                let share = |other: &Placed, line: u64| {
                    let of = |placed: &Placed| (placed.start / line)..=(placed.start + placed.size - 1) / line;
                    of(&one).any(|number| of(other).contains(&number))
                };
                let lengths = || (0..).map(|power| 1_u64 << power).take_while(|line| *line <= longest);
                let mut expected: Vec<(u64, u64)> = live
                    .iter()
                    .filter(|(_, other)| written || other.written)
                    .filter_map(|(id, other)| Some((*id, lengths().find(|line| share(other, *line))?)))
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(found(&mut lines, one), expected);
                map(&mut lines, id as u64, one);
                live.push((id as u64, one));
                if !stays {
                    let (gone, of) = live.remove(live.len() / 2);
                    unmap(&mut lines, gone, of.size);
                }
            }
            prop_assert_eq!(lines.cut, 0);
        }
    }
}
