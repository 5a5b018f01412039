//! What an event prints, as values: by the `print fmt` of `include/trace/events/{dma,swiotlb,kmem}.h`, 4.4 to 7.3, or field by field.
//!
//! Fields come raw from `trace-cmd report -R`, from tools that cannot parse a `print fmt` (`[FAILED TO PARSE]`), and with the trace option
//! `fields` (`print_fields()` in `kernel/trace/trace_output.c`), which prints `NAME=0xHEX (DECIMAL)`. There some values have other names.

use memchr::memmem;

use bouncescope_capture::event::Direction;
use tracer_ebpf::attrs;

/// What libtraceevent of perf and trace-cmd puts before the raw fields of an event whose `print fmt` it cannot parse.
const FAILED_TO_PARSE: &str = "[FAILED TO PARSE] ";

/// The text behind ` NAME=`; `None` when there is none.
fn behind<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let at = from + memmem::find(&text.as_bytes()[from..], name.as_bytes())?;
        let behind = &text[at + name.len()..];
        let begins_word = at == 0 || text[..at].ends_with(' ');
        if let (true, Some(value)) = (begins_word, behind.strip_prefix('=')) {
            return Some(value);
        }
        from = at + name.len();
    }
}

/// The value behind ` NAME=`, up to the next blank; `None` when there is none.
pub(super) fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = behind(text, name)?;
    // `%p` of 4.x pads a null pointer in front.
    if let Some(null) = value.trim_start().strip_prefix("(null)") {
        return Some(&value[..value.len() - null.len()]);
    }
    Some(value.split(' ').next().unwrap_or(value))
}

/// A number, decimal or with `0x`.
pub(super) fn number(text: &str, name: &str) -> Option<u64> {
    let value = value(text, name)?;
    match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

/// A hexadecimal one, with `0x` or without.
pub(super) fn hex(text: &str, name: &str) -> Option<u64> {
    of_hex(value(text, name)?)
}

/// Of names that print formats and fields have for the same address, the first that is there.
pub(super) fn address(text: &str, names: [&str; 2]) -> Option<u64> {
    names.into_iter().find_map(|name| hex(text, name))
}

fn of_hex(text: &str) -> Option<u64> {
    // A null pointer, as libtraceevent and `%p` of 4.x print it.
    if text == "(nil)" || text.trim_start() == "(null)" {
        return Some(0);
    }
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// A hashed pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pointer {
    /// The address that stands for it.
    Known(u64),
    /// `(____ptrval____)`: printed before the kernel had random numbers to hash with (`ptr_to_id()`, `lib/vsprintf.c`).
    NotYet,
}

/// The pointer of an object.
pub(super) fn pointer(text: &str) -> Option<Pointer> {
    let value = value(text, "ptr")?;
    if value.starts_with("(__") {
        return Some(Pointer::NotYet);
    }
    of_hex(value).map(Pointer::Known)
}

/// `DIRECTION`, or its number (`enum dma_data_direction`).
pub(super) fn direction(text: &str) -> Option<Direction> {
    if let Some(raw) = number(text, "dir") {
        return Direction::from_raw(u8::try_from(raw).ok()?);
    }
    let name = value(text, "dir")?;
    [Direction::Bidirectional, Direction::ToDevice, Direction::FromDevice].into_iter().find(|one| one.name() == name)
}

/// The name of a mapping's device.
pub(super) fn device(text: &str) -> Option<&str> {
    let text = text.strip_prefix(FAILED_TO_PARSE).unwrap_or(text);
    match text.strip_prefix("device=") {
        Some(raw) => raw.split(' ').next(),
        None => text.split(" dir=").next(),
    }
}

/// The name of a bounce's device.
pub(super) fn bounced_device(text: &str) -> Option<&str> {
    let text = text.strip_prefix(FAILED_TO_PARSE).unwrap_or(text);
    match text.strip_prefix("dev_name=") {
        Some(raw) => raw.split(' ').next(),
        None => text.strip_prefix("dev_name: ")?.split(" dma_mask=").next(),
    }
}

/// Whether all of a device's mappings bounce, as `swiotlb_bounced` says: `FORCE`, before 4.10 `swiotlb_force`, the number of either
/// where a tool does not know the name, or the field `force`.
pub(super) fn is_forced(text: &str) -> bool {
    let flag = ["force", "swiotlb_force"].into_iter().find_map(|name| number(text, name));
    match flag {
        Some(flag) => flag == 1,
        None => matches!(text.rsplit(' ').next(), Some("FORCE" | "swiotlb_force" | "0x1" | "1")),
    }
}

/// The values of a list: `{0x1000,0x2000}` of `__print_array()`, where numbers without `0x` are hexadecimal too; or its bytes, those of a
/// value from the lowest on, as `ARRAY[00, 10, …]` of libtraceevent and `00,10,…` of the kernel's option `fields`.
pub(super) fn array(text: &str, name: &str, bytes_each: usize) -> Option<Vec<u64>> {
    let list = behind(text, name)?;
    if let Some(list) = list.strip_prefix('{') {
        let list = list.split_once('}')?.0;
        return if list.is_empty() { Some(Vec::new()) } else { list.split(',').map(of_hex).collect() };
    }
    let list = match list.strip_prefix("ARRAY[") {
        Some(list) => list.split_once(']')?.0,
        None => list.split(' ').next()?,
    };
    if list.is_empty() {
        return Some(Vec::new());
    }
    let mut values = Vec::with_capacity(list.len() / (3 * bytes_each));
    let mut bytes = list.as_bytes().split(|byte| *byte == b',').peekable();
    while bytes.peek().is_some() {
        let mut value = 0;
        for n in 0..bytes_each {
            value |= u64::from(byte(bytes.next()?)?) << (8 * n);
        }
        values.push(value);
    }
    Some(values)
}

/// A byte as two hexadecimal digits.
fn byte(text: &[u8]) -> Option<u8> {
    let [high, low] = text.trim_ascii() else { return None };
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

/// `shown/all`, or one number that is both; the second.
pub(super) fn of_all(text: &str, name: &str) -> Option<u32> {
    let value = value(text, name)?;
    value.rsplit('/').next()?.parse().ok()
}

/// `DMA_ATTR_*` bits; a name that is not known is none.
pub(super) fn attrs(text: &str) -> u64 {
    attrs_of(value(text, "attrs").unwrap_or_default())
}

/// The bits of names with `|` in between.
pub(super) fn attrs_of(names: &str) -> u64 {
    names
        .split('|')
        .fold(0, |bits, name| bits | attrs::by_name(name).or_else(|| of_hex(name.strip_prefix("0x")?)).unwrap_or(0))
}

/// A call site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallSite<'a> {
    /// An address: before 5.10 kernels print no names.
    Address(u64),
    /// `function+0x10/0x40`, and the module.
    Named { name: &'a str, module: &'a str },
}

/// Where an object was allocated.
pub(super) fn call_site(text: &str) -> CallSite<'_> {
    let name = value(text, "call_site").unwrap_or_default();
    let rest = behind(text, "call_site").and_then(|rest| rest.strip_prefix(name)).unwrap_or_default();
    site_of(name, rest.strip_prefix(" [").and_then(|rest| rest.split_once(']')).map_or("", |(module, _)| module))
}

/// A call site of this name, which may be an address.
pub(super) fn site_of<'a>(name: &'a str, module: &'a str) -> CallSite<'a> {
    match of_hex(name) {
        Some(addr) if !name.is_empty() => CallSite::Address(addr),
        _ => CallSite::Named { name, module },
    }
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
        assert_eq!(
            (device(MAP), device("device=a b=1"), device("[FAILED TO PARSE] device=a x")),
            (Some("0000:00:04.0"), Some("a"), Some("a"))
        );
        assert_eq!(attrs(MAP), 1 << 5 | 1 << 10);
        assert_eq!(attrs("attrs=CACHELINES_OVERLAP|ALLOC_CC_SHARED"), 1 << 11 | 1 << 14);
        assert_eq!((attrs("attrs="), attrs("attrs=CC_SHARED"), attrs("attrs=0x20")), (0, 1 << 13, 1 << 5));
    }

    #[test]
    fn pointers_may_be_null_or_not_known() {
        for null in ["ptr=(nil)", "ptr=(null)", "ptr=          (null) a=1", "ptr=0"] {
            assert_eq!(pointer(null), Some(Pointer::Known(0)), "{null}");
        }
        assert_eq!(pointer("ptr=(____ptrval____)"), Some(Pointer::NotYet));
        assert_eq!((pointer("ptr=x"), pointer("pt")), (None, None));
    }

    #[test]
    fn fields_are_read_raw_too() {
        let raw = "device=a phys_addr=0x10 (16) size=0x12 (18) dir=0x2 (2)";
        assert_eq!((number(raw, "size"), direction(raw)), (Some(18), Some(Direction::FromDevice)));
        for forced in
            ["x size=8 FORCE", "x size=8 swiotlb_force", "x size=8 0x1", "size=8 force=1", "size=8 force=0x1 (1)"]
        {
            assert!(is_forced(forced), "{forced}");
        }
        for free in
            ["x size=8 NORMAL", "x size=8", "x size=8 0x0", "size=8 force=0", "size=1 force=2", "x size=8 NO_FORCE"]
        {
            assert!(!is_forced(free), "{free}");
        }
    }

    #[test]
    fn arrays_and_parts_of_lists_are_read() {
        let list =
            "x dir=TO_DEVICE nents=128/300 ents=2/2 [TRUNCATED] dma_addrs={0x10,0x20} sizes={0x12} phys_addrs={}";
        assert_eq!(array(list, "dma_addrs", 8), Some(vec![16, 32]));
        assert_eq!((array(list, "sizes", 4), array(list, "phys_addrs", 8)), (Some(vec![18]), Some(vec![])));
        assert_eq!((of_all(list, "nents"), of_all(list, "ents"), of_all(list, "gone")), (Some(300), Some(2), None));
        assert_eq!(array("sizes={0x1,", "sizes", 4), None);
        let raw = "phys_addrs=ARRAY[00, e0, 64, 48, 01, 00, 00, 00] lengths=08,00,00,00 cut=ARRAY[00, none=";
        assert_eq!(array(raw, "phys_addrs", 8), Some(vec![0x1_4864_e000]));
        assert_eq!((array(raw, "lengths", 4), array(raw, "lengths", 8)), (Some(vec![8]), None));
        assert_eq!((array(raw, "cut", 8), array(raw, "none", 8)), (None, Some(vec![])));
    }

    #[test]
    fn call_sites_have_modules_or_are_addresses() {
        let named = |name, module| CallSite::Named { name, module };
        assert_eq!(call_site("call_site=probe+0x34/0x68 [usbcore] ptr=1"), named("probe+0x34/0x68", "usbcore"));
        assert_eq!(call_site("call_site=probe+0x34/0x90 ptr=1"), named("probe+0x34/0x90", ""));
        assert_eq!(call_site("call_site=probe+0x34 (0xffff) ptr=1"), named("probe+0x34", ""));
        assert_eq!(call_site("call_site=ffffffc000554644 ptr=1"), CallSite::Address(0xffff_ffc0_0055_4644));
        assert_eq!(call_site("ptr=1"), named("", ""));
    }
}
