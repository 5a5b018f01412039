//! An event's values as the line that tracefs would have printed. What was recorded in binary is read like any text by way of it, so that
//! an event means the same in all formats.

use std::borrow::Cow;
use std::fmt::Write as _;

use bouncescope_capture::event::Direction;

/// The values of an event by the names of its fields; `None` for a field that the event does not have.
pub(super) trait Values {
    /// A number.
    fn number(&self, name: &str) -> Option<u64>;
    /// A text, of one line.
    fn text(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A list of numbers; appends `0x1,0x2` to the line.
    fn list(&self, name: &str, line: &mut String) -> Option<()>;
}

/// A text of one line, as a line holds it.
pub(super) fn one_line(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains(['\n', '\r']) { Cow::Owned(text.replace(['\n', '\r'], "?")) } else { text }
}

/// A call site: its address, or the name that stands for it.
pub(super) type NameOf<'a> = &'a dyn Fn(u64, &mut String);

/// Appends who, where and when: all that comes before the event. Without a CPU none is printed.
pub(super) fn head(line: &mut String, task: u32, cpu: Option<u64>, time_ns: u64) {
    let (seconds, rest) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let _ = match cpu {
        Some(cpu) => write!(line, "task-{task} [{cpu:03}] {seconds}.{rest:09}: "),
        None => write!(line, "task {task} {seconds}.{rest:09}: "),
    };
}

/// Appends an event as its `print fmt` has it (`include/trace/events/{dma,swiotlb,kmem}.h`), as far as it is read; `None` for events that
/// are not, and where a field is missing. The line may then have a part of it.
///
/// From Linux 6.18 on an event of a list says how many buffers there are in all (`full_nents`, `full_ents`).
pub(super) fn event(line: &mut String, event: &str, values: &impl Values, name_of: NameOf<'_>) -> Option<()> {
    let number = |name: &str| values.number(name);
    let attrs = || number("attrs").unwrap_or(0);
    let direction = || Some(Direction::from_raw(u8::try_from(number("dir")?).ok()?)?.name());
    let list = |line: &mut String, shown: &str, name: &str| {
        let _ = write!(line, " {shown}={{");
        values.list(name, line)?;
        line.push('}');
        Some(())
    };
    let site = |line: &mut String| {
        line.push_str("call_site=");
        name_of(number("call_site").unwrap_or(0), line);
    };
    line.push_str(event);
    line.push_str(": ");
    let _ = match event {
        "kmalloc" | "kmalloc_node" => {
            site(line);
            let (ptr, asked, got) = (number("ptr")?, number("bytes_req")?, number("bytes_alloc")?);
            write!(line, " ptr={ptr:x} bytes_req={asked} bytes_alloc={got}")
        }
        "kfree" => {
            site(line);
            write!(line, " ptr={:x}", number("ptr")?)
        }
        "swiotlb_bounced" => {
            let (mask, addr, size) = (number("dma_mask")?, number("dev_addr")?, number("size")?);
            // `swiotlb_force` up to 6.0: `enum swiotlb_force`, of which 1 is forced, before 4.10 a number.
            let force = number("force").or_else(|| number("swiotlb_force")).unwrap_or(0);
            let force = if force == 1 { "FORCE" } else { "NORMAL" };
            let name = values.text("dev_name")?;
            write!(line, "dev_name: {name} dma_mask={mask:x} dev_addr={addr:x} size={size} {force}")
        }
        "dma_map_page" | "dma_map_phys" => {
            let (dma, size, phys) = (number("dma_addr")?, number("size")?, number("phys_addr")?);
            let (name, direction, attrs) = (values.text("device")?, direction()?, attrs());
            write!(line, "{name} dir={direction} dma_addr={dma:x} size={size} phys_addr={phys:x} attrs={attrs:#x}")
        }
        "dma_unmap_page" | "dma_unmap_phys" => {
            let (dma, size, attrs) = (number("addr")?, number("size")?, attrs());
            write!(
                line,
                "{} dir={} dma_addr={dma:x} size={size} attrs={attrs:#x}",
                values.text("device")?,
                direction()?
            )
        }
        "dma_sync_single_for_cpu" | "dma_sync_single_for_device" => {
            let (dma, size) = (number("dma_addr")?, number("size")?);
            write!(line, "{} dir={} dma_addr={dma:x} size={size}", values.text("device")?, direction()?)
        }
        "dma_map_sg" => {
            let _ = write!(line, "{} dir={}", values.text("device")?, direction()?);
            if let (Some(nents), Some(ents)) = (number("full_nents"), number("full_ents")) {
                let _ = write!(line, " full_nents={nents} full_ents={ents}");
            }
            list(line, "dma_addrs", "dma_addrs")?;
            list(line, "sizes", "lengths")?;
            list(line, "phys_addrs", "phys_addrs")?;
            write!(line, " attrs={:#x}", attrs())
        }
        "dma_map_sg_err" | "dma_unmap_sg" => {
            let _ = write!(line, "{} dir={}", values.text("device")?, direction()?);
            list(line, "phys_addrs", if event == "dma_unmap_sg" { "addrs" } else { "phys_addrs" })?;
            write!(line, " attrs={:#x}", attrs())
        }
        _ => return None,
    };
    Some(())
}
