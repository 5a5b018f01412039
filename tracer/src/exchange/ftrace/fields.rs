//! What an event prints, as values. The formats are those of `include/trace/events/{dma,swiotlb,kmem}.h`, 6.12 to 7.3, and of
//! older kernels as far as they have the events.

use crate::event::Direction;

/// The value behind ` NAME=`, up to the next blank; `None` when there is none.
pub(super) fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find(name)?;
        let behind = &text[at + name.len()..];
        let begins_word = at == 0 || text[..at].ends_with(' ');
        if let (true, Some(value)) = (begins_word, behind.strip_prefix('=')) {
            return Some(value.split(' ').next().unwrap_or(value));
        }
        from = at + name.len();
    }
}

/// A decimal number.
pub(super) fn number(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.parse().ok()
}

/// A hexadecimal one, with `0x` or without.
pub(super) fn hex(text: &str, name: &str) -> Option<u64> {
    of_hex(value(text, name)?)
}

fn of_hex(text: &str) -> Option<u64> {
    // What libtraceevent, of perf and trace-cmd, prints for a null pointer.
    if text == "(nil)" {
        return Some(0);
    }
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// `DIRECTION` without its `DMA_`.
pub(super) fn direction(text: &str) -> Option<Direction> {
    let name = value(text, "dir")?;
    [Direction::Bidirectional, Direction::ToDevice, Direction::FromDevice].into_iter().find(|one| one.name() == name)
}

/// `{0x1000,0x2000}` of `__print_array()`; numbers without `0x` are hexadecimal there too.
pub(super) fn array(text: &str, name: &str) -> Option<Vec<u64>> {
    let list = value(text, name)?.strip_prefix('{')?.strip_suffix('}')?;
    if list.is_empty() {
        return Some(Vec::new());
    }
    list.split(',').map(of_hex).collect()
}

/// `shown/all`, or one number that is both; the second.
pub(super) fn of_all(text: &str, name: &str) -> Option<u32> {
    let value = value(text, name)?;
    value.rsplit('/').next()?.parse().ok()
}

/// Names of `DMA_ATTR_*` (`include/linux/dma-mapping.h`), by bit.
const ATTRS: [(u32, &str); 12] = [
    (1, "WEAK_ORDERING"),
    (2, "WRITE_COMBINE"),
    (4, "NO_KERNEL_MAPPING"),
    (5, "SKIP_CPU_SYNC"),
    (6, "FORCE_CONTIGUOUS"),
    (7, "ALLOC_SINGLE_PAGES"),
    (8, "NO_WARN"),
    (9, "PRIVILEGED"),
    (10, "MMIO"),
    (11, "CACHE_CLEAN"),
    (12, "REQUIRE_COHERENT"),
    (12, "CC_SHARED"),
];

/// `DMA_ATTR_*` bits; a name that is not known is none.
pub(super) fn attrs(text: &str) -> u64 {
    let names = value(text, "attrs").unwrap_or_default();
    names.split('|').fold(0, |bits, name| {
        let bit = ATTRS.iter().find(|(_, known)| *known == name).map(|(bit, _)| 1 << bit);
        bits | bit.or_else(|| of_hex(name.strip_prefix("0x")?)).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str =
        "0000:00:04.0 dir=FROM_DEVICE dma_addr=4a001000 size=18 phys_addr=4a001000 attrs=SKIP_CPU_SYNC|MMIO";

    #[test]
    fn each_value_is_found_by_its_whole_name() {
        assert_eq!(
            (hex(MAP, "dma_addr"), hex(MAP, "phys_addr"), number(MAP, "size")),
            (Some(0x4a00_1000), Some(0x4a00_1000), Some(18))
        );
        assert_eq!((direction(MAP), value(MAP, "addr")), (Some(Direction::FromDevice), None));
        assert_eq!(attrs(MAP), 1 << 5 | 1 << 10);
        assert_eq!(attrs("attrs="), 0);
        assert_eq!(hex("call_site=a+0x1c ptr=(nil)", "ptr"), Some(0));
    }

    #[test]
    fn arrays_and_parts_of_lists_are_read() {
        let list =
            "x dir=TO_DEVICE nents=128/300 ents=2/2 [TRUNCATED] dma_addrs={0x10,0x20} sizes={0x12} phys_addrs={}";
        assert_eq!(array(list, "dma_addrs"), Some(vec![16, 32]));
        assert_eq!((array(list, "sizes"), array(list, "phys_addrs")), (Some(vec![18]), Some(vec![])));
        assert_eq!((of_all(list, "nents"), of_all(list, "ents"), of_all(list, "gone")), (Some(300), Some(2), None));
        assert_eq!(array("sizes={0x1,", "sizes"), None);
    }
}
