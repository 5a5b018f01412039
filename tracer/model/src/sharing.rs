//! What else lies in the first and last cache line of a buffer: whether a device that writes the buffer, and a CPU that
//! uses its neighbour, can destroy each other's data.

use tracer_ebpf::decide::size_roundup;

/// No line is longer, bytes: a longer one is taken as this.
const MAX_LINE: u64 = 4096;

/// The object that a buffer lies in: of kmalloc, of another slab cache, or the page where there is no slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// From its beginning to the buffer's, bytes.
    pub offset: u64,
    /// Bytes asked for; where that is not known, those given.
    pub requested: u64,
    /// Bytes given, by the captured kernel.
    pub given: u64,
    /// It came from kmalloc, so that other caches of kmalloc would put it elsewhere.
    pub of_kmalloc: bool,
}

/// What is known of the memory around a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// The object it lies in; `None` when not known, or when it is in none.
    pub object: Option<Object>,
    /// Bytes between the buffer and the next live object in front of it; `None` when none is known.
    pub free_before: Option<u64>,
    /// The same behind it.
    pub free_after: Option<u64>,
}

/// What else in use lies in a buffer's lines: the worst that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// Nothing can.
    #[default]
    None,
    /// The rest of the buffer's own object, and nothing else. What happens to it is the driver's business.
    Own,
    /// Not known.
    Unknown,
    /// Another live object.
    Foreign,
}

impl Sharing {
    /// Something is known to be there.
    pub const fn is_certain(self) -> bool {
        matches!(self, Self::Foreign | Self::Own)
    }
}

/// Kmalloc caches as they might have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caches {
    /// Their minimum alignment, bytes.
    pub minalign: u32,
    /// Objects are aligned to the largest power of two that divides their size (6.11 on), not only those of a size that is
    /// a power of two: `kmalloc_caches` in `mm/slab_common.c`.
    pub divisor_alignment: bool,
}

impl Caches {
    /// Alignment of the objects of a cache, bytes.
    pub fn alignment(&self, size: u64) -> u64 {
        let natural = if size.is_power_of_two() || self.divisor_alignment { 1 << size.trailing_zeros() } else { 8 };
        natural.max(u64::from(self.minalign)).max(1)
    }
}

/// What else lies in the lines of `size` bytes at `phys`, where they were captured.
pub fn as_captured(phys: u64, size: u64, around: &Around, line: u64) -> Sharing {
    let line = line.max(1);
    let (before, after) = parts(phys, size, line);
    if before == 0 && after == 0 {
        return Sharing::None;
    }
    let near = |free: Option<u64>, part: u64| free.is_some_and(|free| free < part);
    if near(around.free_before, before) || near(around.free_after, after) {
        return Sharing::Foreign;
    }
    around.object.map_or(Sharing::Unknown, |object| within(&object, object.given, size, before, after))
}

/// The same if the buffer's object came from other caches. Where the object would lie is known only as far as its alignment
/// tells, and who its neighbours would be is not.
pub fn in_caches(object: &Object, size: u64, line: u64, caches: &Caches) -> Sharing {
    let line = line.clamp(1, MAX_LINE);
    let given = size_roundup(object.requested, caches.minalign);
    let step = caches.alignment(given);
    let mut places = (0..line).step_by(step as usize).map(|base| {
        let (before, after) = parts(base.wrapping_add(object.offset), size, line);
        within(object, given, size, before, after)
    });
    let first = places.next().unwrap_or_default();
    if places.all(|place| place == first) { first } else { Sharing::Unknown }
}

/// Bytes of the first line in front of a buffer, and of the last line behind it.
fn parts(start: u64, size: u64, line: u64) -> (u64, u64) {
    let over = start.wrapping_add(size) % line;
    (start % line, if over == 0 { 0 } else { line - over })
}

/// What of the object itself, or beyond it, lies in the parts of lines beside the buffer.
fn within(object: &Object, given: u64, size: u64, before: u64, after: u64) -> Sharing {
    let end = object.offset.saturating_add(size);
    if before > object.offset || after > given.saturating_sub(end) {
        Sharing::Unknown
    } else if before > 0 && object.offset > 0 || after > 0 && object.requested > end {
        Sharing::Own
    } else {
        Sharing::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(offset: u64, requested: u64, given: u64) -> Around {
        Around { object: Some(Object { offset, requested, given, of_kmalloc: true }), ..Around::default() }
    }

    #[test]
    fn whole_lines_are_shared_with_nothing() {
        assert_eq!(as_captured(0x1000, 128, &Around::default(), 64), Sharing::None);
    }

    #[test]
    fn where_nothing_is_known_anything_may_be() {
        assert_eq!(as_captured(0x1000, 18, &Around::default(), 64), Sharing::Unknown);
    }

    #[test]
    fn an_object_that_fills_its_lines_shares_them_with_nobody() {
        assert_eq!(as_captured(0x1000, 50, &object(0, 50, 64), 64), Sharing::None);
        assert_eq!(as_captured(0x1000, 50, &object(0, 50, 64), 128), Sharing::Unknown);
    }

    #[test]
    fn the_rest_of_its_own_object_is_own_only_where_nothing_else_can_be_in_the_lines() {
        assert_eq!(as_captured(0x1000, 8, &object(0, 40, 64), 128), Sharing::Unknown, "64 bytes of another's");
        let beside = Around { free_after: Some(56), ..object(0, 40, 64) };
        assert_eq!(as_captured(0x1000, 8, &beside, 128), Sharing::Foreign, "the next object is in the line too");
        assert_eq!(as_captured(0x1008, 8, &object(8, 40, 64), 64), Sharing::Own);
        assert_eq!(as_captured(0x1000, 8, &object(0, 40, 64), 64), Sharing::Own);
        assert_eq!(as_captured(0x1000, 64, &object(0, 100, 128), 64), Sharing::None, "its rest is in the next line");
    }

    #[test]
    fn a_live_object_in_the_same_line_is_certain_and_one_beyond_is_not() {
        let around = Around { free_after: Some(14), ..object(0, 18, 32) };
        assert_eq!(as_captured(0x1000, 18, &around, 64), Sharing::Foreign);
        let far = Around { free_after: Some(46), ..around };
        assert_eq!(as_captured(0x1000, 18, &far, 64), Sharing::Unknown);
        let front = Around { free_before: Some(0), ..object(0, 32, 32) };
        assert_eq!(as_captured(0x1020, 32, &front, 64), Sharing::Foreign);
    }

    #[test]
    fn in_other_caches_only_alignment_is_known() {
        let small = Object { offset: 0, requested: 18, given: 32, of_kmalloc: true };
        let caches = |minalign| Caches { minalign, divisor_alignment: true };
        assert_eq!(in_caches(&small, 18, 64, &caches(128)), Sharing::None, "a whole line of its own");
        assert_eq!(in_caches(&small, 18, 64, &caches(8)), Sharing::Unknown);
        assert_eq!(in_caches(&small, 18, 256, &caches(128)), Sharing::Unknown, "two to a line");
        let part = Object { offset: 8, requested: 100, given: 128, of_kmalloc: true };
        assert_eq!(in_caches(&part, 8, 64, &caches(128)), Sharing::Own);
    }

    #[test]
    fn objects_of_96_bytes_are_aligned_since_6_11() {
        assert_eq!(Caches { minalign: 8, divisor_alignment: true }.alignment(96), 32);
        assert_eq!(Caches { minalign: 8, divisor_alignment: false }.alignment(96), 8);
        assert_eq!(Caches { minalign: 8, divisor_alignment: false }.alignment(64), 64);
    }
}
