//! The addresses of a block, and the lists that they are in. Encoder and decoder keep the same.

use super::{CLASSES, DEPTH};

/// No address.
const NONE: u16 = u16::MAX;
/// Lists of freed addresses. Many CPUs share them.
const STACKS: usize = 1 << 14;

/// Addresses, numbered in the order in which they first occur, each of them in one list at most.
#[derive(Default)]
pub(super) struct Lists {
    nodes: Vec<Node>,
    /// The newest of each list.
    newest: Vec<u16>,
}

#[derive(Clone, Copy)]
struct Node {
    address: u64,
    older: u16,
    newer: u16,
    list: List,
}

/// A list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct List(u32);

impl List {
    /// What this CPU freed of a class.
    #[inline]
    pub(super) fn freed(cpu: u16, class: u8) -> Self {
        Self((u32::from(cpu) * u32::from(CLASSES) + u32::from(class)) % STACKS as u32)
    }

    /// What allocations of this entry made, and is not freed.
    #[inline]
    pub(super) fn live(entry: u16) -> Self {
        Self(STACKS as u32 + u32::from(entry))
    }

    /// The entry of the allocation.
    #[inline]
    pub(super) fn entry(self) -> Option<u16> {
        self.0.checked_sub(STACKS as u32).map(|entry| entry as u16)
    }
}

impl Lists {
    /// Forgets everything but the memory.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
        self.newest.clear();
        self.newest.resize(STACKS, NONE);
    }

    /// Makes the list of an entry's allocations; entries come in order, and all have one.
    pub(super) fn add_entry(&mut self) {
        self.newest.push(NONE);
    }

    /// How many addresses there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    #[inline]
    pub(super) fn address(&self, number: u16) -> u64 {
        self.nodes[usize::from(number)].address
    }

    #[inline]
    pub(super) fn list(&self, number: u16) -> List {
        self.nodes[usize::from(number)].list
    }

    /// The address that is so far from the newest of a list.
    pub(super) fn at(&self, list: List, depth: u8) -> Option<u16> {
        let mut at = self.newest[list.0 as usize];
        for _ in 0..depth {
            at = self.nodes.get(usize::from(at))?.older;
        }
        (at != NONE).then_some(at)
    }

    /// How far from the newest of its list an address is; `None` when it is too far.
    #[inline]
    pub(super) fn depth(&self, number: u16) -> Option<u8> {
        let mut at = self.newest[self.list(number).0 as usize];
        for depth in 0..DEPTH {
            if at == number {
                return Some(depth);
            }
            at = self.nodes[usize::from(at)].older;
        }
        None
    }

    /// Moves an address to the top of a list.
    #[inline]
    pub(super) fn put(&mut self, number: u16, list: List) {
        let Node { older, newer, list: old, .. } = self.nodes[usize::from(number)];
        if older != NONE {
            self.nodes[usize::from(older)].newer = newer;
        }
        if newer == NONE {
            self.newest[old.0 as usize] = older;
        } else {
            self.nodes[usize::from(newer)].older = older;
        }
        self.link(number, list);
    }

    /// Puts an address that there was not before on top of a list; returns its number. The last one of a full block is in no list:
    /// nothing comes that could refer to it.
    pub(super) fn add(&mut self, address: u64, list: List) -> u16 {
        let number = self.nodes.len() as u16;
        self.nodes.push(Node { address, older: NONE, newer: NONE, list });
        if number != NONE {
            self.link(number, list);
        }
        number
    }

    #[inline]
    fn link(&mut self, number: u16, list: List) {
        let newest = &mut self.newest[list.0 as usize];
        let older = std::mem::replace(newest, number);
        let node = &mut self.nodes[usize::from(number)];
        (node.older, node.newer, node.list) = (older, NONE, list);
        if older != NONE {
            self.nodes[usize::from(older)].newer = number;
        }
    }
}
