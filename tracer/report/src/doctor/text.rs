//! `bouncescope doctor`: the page. What is on it was found out elsewhere.

mod today;

use crate::doctor::{Answered, HookState, Page};
use crate::label;
use crate::restricted;
use crate::screen::line;
use crate::table::{Table, bytes, slots};
use crate::wrap::wrapped;
use bouncescope_capture::facts::{Device, RestrictedPool, RestrictedSample};
use bouncescope_model::pool::SLOT;
use bouncescope_model::size::exact;

/// Paths of a device tree shown to people; programs get all.
const NODES: usize = 6;

/// For people.
pub fn text(page: &Page) -> String {
    let mut text = head(page);
    for (title, body) in [
        ("cache lines and kmalloc", caches(page)),
        ("the pool", pool(page)),
        ("what this kernel does with a small buffer", today::text(page)),
        ("what can be answered here", answers(page)),
        ("hooks", hooks(page)),
        ("devices", devices(page)),
        ("what devices reach", reaches(page)),
        ("configuration", configuration(page)),
        ("what tracing needs", needs(page)),
        ("not known", notes(page)),
    ] {
        if !body.is_empty() {
            text += &format!("\n{title}\n{body}");
        }
    }
    text
}

fn head(page: &Page) -> String {
    let kernel = &page.kernel;
    let mut text = format!(
        "Linux {} {}, {} CPUs, {}, pages of {} bytes\n",
        kernel.release,
        kernel.machine,
        kernel.possible_cpus,
        bytes(kernel.memory),
        kernel.page_size
    );
    text += &paragraph(&kernel.version);
    if let Some(recorder) = &page.recorder {
        text += &paragraph(&format!("from a capture, recorded by: {recorder}"));
    }
    text + "\n" + &overall(page)
}

/// Whether tracing works, and how much it tells.
fn overall(page: &Page) -> String {
    if let Some(why_not) = &page.why_not {
        return line("FAILS", &format!("Tracing does not work here: {why_not}"));
    }
    let count = |how| page.answers.iter().filter(|answer| answer.answered == how).count();
    let (all, partly, none) = (page.answers.len(), count(Answered::Partly), count(Answered::No));
    let who = if page.recorder.is_some() { "This capture answers" } else { "Tracing works here. It answers" };
    if partly + none == 0 {
        return line("OK", &format!("{who} each of {all} questions."));
    }
    let some = all - partly - none;
    line("PARTLY", &format!("{who} {some} of {all} questions, {partly} in part and {none} not at all (see below)."))
}

fn paragraph(sentence: &str) -> String {
    if sentence.is_empty() { String::new() } else { wrapped(sentence, "  ", "  ") }
}

/// Rows of names and what is said of each, broken into lines beside the names.
fn rows(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let others = " ".repeat(width + 4);
    rows.iter().map(|(name, said)| wrapped(said, &format!("  {name:<width$}  "), &others)).collect()
}

fn caches(page: &Page) -> String {
    let kernel = &page.kernel;
    let seen = page.smallest_object.map_or_else(String::new, |object| {
        format!("; the smallest object seen: {} bytes, for {} asked", object.bytes_alloc, object.bytes_req)
    });
    let of_cpu = kernel
        .cpu_line_size
        .filter(|line| *line != kernel.cache_line_size)
        .map_or_else(String::new, |line| format!("; {line} by CTR_EL0.CWG, when the kmalloc caches were built"));
    let bounces = if kernel.bounce_unaligned_kmalloc {
        "yes (CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC)"
    } else {
        "no (without CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC)"
    };
    rows(&[
        ("cache_line_size", format!("{} ({}{of_cpu})", kernel.cache_line_size, kernel.cache_line_source)),
        ("ARCH_DMA_MINALIGN", kernel.dma_minalign.to_string()),
        ("kmalloc from", format!("{} ({}){seen}", kernel.kmalloc_minalign, kernel.kmalloc_minalign_source)),
        ("small ones bounce", bounces.to_owned()),
    ])
}

fn pool(page: &Page) -> String {
    let pool = &page.kernel.pool;
    let parameters: Vec<&str> =
        page.kernel.cmdline.split_whitespace().filter(|word| word.starts_with("swiotlb=")).collect();
    let asked = if parameters.is_empty() {
        "nothing on the command line".to_owned()
    } else {
        format!("{} on the command line", parameters.join(" "))
    };
    if pool.slots == 0 {
        let size = if asked.contains("noforce") { "no pool" } else { "no pool, or none that is known" };
        return rows(&[("size", size.to_owned()), ("asked for", asked)]) + &restricted_pools(page);
    }
    let hiwater = page.pool.as_ref().and_then(|sample| sample.hiwater_slots);
    let in_use = page.pool.as_ref().map_or_else(
        || "not known".to_owned(),
        |sample| {
            let since =
                if page.here.is_some() { "since boot, or since that mark was last reset" } else { "while recording" };
            let peak = hiwater.map_or_else(String::new, |slots| format!(", at most {slots} {since}"));
            format!("{} slots{peak}", sample.used_slots)
        },
    );
    let bounces = match (pool.force, &page.kernel.encrypted_guest) {
        (true, Some(guest)) => format!("everything bounces (the memory of this guest is encrypted: {guest})"),
        (true, None) => "everything bounces (force)".to_owned(),
        (false, _) => "bounces only what must bounce".to_owned(),
    };
    let grows = if pool.dynamic { "can grow (CONFIG_SWIOTLB_DYNAMIC)" } else { "cannot grow" };
    let mode = format!("{bounces}; {grows}");
    rows(&[
        ("size", format!("{} slots of 2 KiB ({}), {} areas", pool.slots, exact(pool.slots * SLOT), pool.areas)),
        ("in use", in_use),
        ("mode", mode),
        ("asked for", asked),
    ]) + &restricted_pools(page)
}

/// Each restricted pool, how much of it is in use, and who has it, of the devices seen.
fn restricted_pools(page: &Page) -> String {
    let samples = page.pool.iter().flat_map(|sample| &sample.restricted).map(Some).chain(std::iter::repeat(None));
    let row = |(pool, sample): (&RestrictedPool, Option<&RestrictedSample>)| {
        let used = sample.map_or(pool.used_at_start, |sample| sample.used_slots);
        let mark = sample.and_then(|sample| sample.hiwater_slots);
        let most = mark.map_or_else(String::new, |slots| format!(", at most {slots}"));
        let in_tree = page.here.iter().filter_map(|here| here.reach.as_ref()).flat_map(|reach| &reach.devices);
        let named = in_tree.filter(|device| device.restricted.as_deref() == Some(&pool.name));
        let named: Vec<&str> = named.map(|device| device.name.as_str()).collect();
        let of = match named.as_slice() {
            [] => restricted::users(pool, &page.devices),
            [one] => format!("of {one}"),
            several => format!("shared by {}", several.join(", ")),
        };
        let words =
            format!("{}: {} ({}), {used} in use{most}; {of}", pool.name, slots(pool.slots), exact(pool.slots * SLOT));
        rows(&[("restricted", words)])
    };
    page.kernel.pool.restricted.iter().zip(samples).map(row).collect()
}

fn answers(page: &Page) -> String {
    if page.hooks.is_empty() && !page.can_trace {
        return paragraph("nothing, as long as tracing does not work");
    }
    let width = page.answers.iter().map(|answer| answer.question.chars().count()).max().unwrap_or(0);
    let line = |answer: &crate::doctor::Answer| {
        let word = match answer.answered {
            Answered::Yes => "yes",
            Answered::Partly => "partly",
            Answered::No => "NO",
        };
        let missing =
            if answer.missing.is_empty() { String::new() } else { format!(": without {}", answer.missing.join(", ")) };
        // The columns of the question are not to be broken.
        let first = format!("  {:<width$}  ", answer.question);
        wrapped(&format!("{word}{missing}"), &first, &" ".repeat(width + 4))
    };
    page.answers.iter().map(line).collect()
}

fn hooks(page: &Page) -> String {
    let watched = page.here.as_ref().map(|here| here.watched_ms as f64 / 1000.0);
    let width = page.hooks.iter().map(|state| state.hook.subject.name().len()).max().unwrap_or(0);
    let line = |state: &HookState| {
        let first = format!("  {:<width$}  ", state.hook.subject);
        wrapped(&verdict(state, watched), &first, &" ".repeat(width + 4))
    };
    page.hooks.iter().map(line).collect()
}

/// `watched`: seconds that the self-test took; `None` for a capture.
fn verdict(state: &HookState, watched: Option<f64>) -> String {
    let hook = &state.hook;
    if !hook.attached {
        return format!("NOT ATTACHED: {}", hook.reason());
    }
    let fired = match (state.fired, watched) {
        (None, _) => "whether it fires was not counted".to_owned(),
        (Some(0), _) if state.is_defect() => "DOES NOT FIRE although it was provoked".to_owned(),
        (Some(0), Some(seconds)) => format!("not seen firing in {seconds:.1} s"),
        (Some(0), None) => "never fired".to_owned(),
        (Some(times), _) => format!("fired {times} times"),
    };
    let silent =
        if state.silent.is_empty() { String::new() } else { format!(", but {} never ran", state.silent.join(" and ")) };
    format!("{}: attached, {fired}{silent}", hook.place)
}

fn devices(page: &Page) -> String {
    let mut table = Table::new(&["seen mapping", "driver", "coherent", "address bits", "IOMMU granule", ""]);
    for device in page.devices.iter().take(label::SHOWN) {
        table.row([
            label::name(&device.name),
            if device.driver.is_empty() { "-".into() } else { label::name(&device.driver) },
            if device.coherent { "yes".into() } else { "no".into() },
            address_bits(device),
            device.iommu_granule.map_or_else(|| "-".into(), |granule| granule.to_string()),
            peculiar(device, page.kernel.pool.force).join(", "),
        ]);
    }
    let mut text = if table.is_empty() { paragraph("none was seen mapping anything") } else { table.text(2) };
    text += &label::more(page.devices.len(), "devices");
    let tree = page.here.as_ref().and_then(|here| here.device_tree.as_ref());
    if let Some(tree) = tree {
        text += &paragraph(&match tree.coherent.as_slice() {
            [] => "The device tree makes no device coherent.".to_owned(),
            nodes if nodes.iter().any(|node| node == "/") => {
                "The device tree makes all devices coherent (dma-coherent at its root) that do not say otherwise."
                    .to_owned()
            }
            nodes => {
                format!("The device tree makes these devices and all devices below them coherent: {}.", some(nodes))
            }
        });
        if !tree.non_coherent.is_empty() {
            text += &paragraph(&format!("Non-coherent by the device tree: {}.", some(&tree.non_coherent)));
        }
    }
    text
}

fn reaches(page: &Page) -> String {
    let reach = page.here.as_ref().and_then(|here| here.reach.as_ref());
    reach.map_or_else(String::new, |reach| super::reach::text(reach, &page.devices))
}

fn some(nodes: &[String]) -> String {
    let more = nodes.len().saturating_sub(NODES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", nodes.iter().take(NODES).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// Bits of the addresses that a device reaches, by its mask and its bus.
fn address_bits(device: &Device) -> String {
    let limit = match (device.dma_mask, device.bus_dma_limit) {
        (0, 0) => return "?".to_owned(),
        (0, limit) | (limit, 0) => limit,
        (mask, bus) => mask.min(bus),
    };
    (u64::BITS - limit.leading_zeros()).to_string()
}

fn peculiar(device: &Device, forced: bool) -> Vec<&str> {
    let own_pool = device.restricted_pool.as_deref().unwrap_or("pool of its own");
    let traits = [
        (device.untrusted, "untrusted"),
        (device.own_pool, own_pool),
        (device.force_bounce && !forced, "everything bounces"),
        (device.min_align_mask > 0, "keeps low address bits"),
    ];
    traits.into_iter().filter_map(|(has, word)| has.then_some(word)).collect()
}

fn configuration(page: &Page) -> String {
    let words: Vec<String> = page
        .kernel
        .config
        .iter()
        .map(|(option, value)| format!("{}={value}", option.strip_prefix("CONFIG_").unwrap_or(option)))
        .collect();
    paragraph(&words.join(" "))
}

fn needs(page: &Page) -> String {
    let Some(here) = &page.here else { return String::new() };
    let mut text = paragraph(
        "root, or CAP_BPF and CAP_PERFMON (before 5.8 CAP_SYS_ADMIN); CAP_SYSLOG for names of functions; debugfs for the pool's \
         counters; tracefs for record --count-tracefs alone",
    );
    if here.map_bytes > 0 {
        text += &paragraph(&format!("{} of kernel memory for maps, with the default ring", bytes(here.map_bytes)));
    }
    text
}

fn notes(page: &Page) -> String {
    page.notes.iter().map(|note| wrapped(note, "  - ", "    ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Examined, Here};
    use bouncescope_capture::facts::{Hook, KernelFacts, PoolFacts};
    use bouncescope_capture::stream::Start;

    fn page(kernel: KernelFacts, hooks: Vec<Hook>, here: Here) -> Page {
        let start = Start { kernel, hooks, ..Start::default() };
        Page::new(Examined { start, ..Examined::default() }, Some(here))
    }

    fn arm64(minalign: u32, slots: u64) -> KernelFacts {
        KernelFacts {
            machine: "aarch64".into(),
            page_size: 4096,
            cache_line_size: 64,
            dma_minalign: 128,
            kmalloc_minalign: minalign,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots, areas: 2, ..PoolFacts::default() },
            ..KernelFacts::default()
        }
    }

    #[test]
    fn a_small_buffer_is_told_in_plain_words() {
        let text = text(&page(arm64(8, 512), vec![], Here::default()));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("Buffers of 1-32 and 65-96 bytes bounce when the device is not coherent"), "{text}");
        assert!(text.contains("(FROM_DEVICE): bounced through the pool, 1 slot of 2 KiB"), "{text}");
        assert!(text.contains("(TO_DEVICE): left where it is"), "{text}");
        assert!(text.contains("room for 512 such buffers"), "{text}");
    }

    #[test]
    fn without_a_pool_what_is_not_saved_is_told() {
        let text = text(&page(arm64(64, 0), vec![], Here::default()));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("no two objects share a line of 64"), "{text}");
        assert!(text.contains("no pool, or none that is known"), "{text}");
    }

    #[test]
    fn a_guest_with_encrypted_memory_says_why_everything_bounces() {
        let mut kernel = arm64(8, 512);
        kernel.pool.force = true;
        let mode = |kernel: &KernelFacts| {
            let text = text(&page(kernel.clone(), vec![], Here::default()));
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(mode(&kernel).contains("everything bounces (force); cannot grow"));
        kernel.encrypted_guest = Some("TDX".into());
        assert!(mode(&kernel).contains("everything bounces (the memory of this guest is encrypted: TDX); cannot grow"));
    }

    #[test]
    fn each_hook_says_what_was_seen_of_it() {
        let hook = |subject: &str, attached| Hook {
            subject: subject.into(),
            place: format!("raw_tp {subject}"),
            attached,
            why_not: "this kernel does not have it".into(),
            lost_without: "everything".into(),
            ..Hook::default()
        };
        let mut page = page(arm64(8, 512), vec![hook("map", true), hook("sync", false)], Here::default());
        page.hooks[0].fired = Some(0);
        assert!(text(&page).contains("raw_tp map: attached, not seen firing in 0.0 s"), "{}", text(&page));
        assert!(text(&page).contains("NOT ATTACHED: this kernel does not have it (lost without it: everything)"));
        page.hooks[0].provoked = true;
        assert!(text(&page).contains("DOES NOT FIRE"), "{}", text(&page));
    }

    #[test]
    fn where_nothing_can_be_traced_the_page_begins_with_why() {
        let here = Here { why_not: Some("tracing the kernel needs root".into()), ..Here::default() };
        let page = page(arm64(8, 512), vec![], here);
        assert!(!page.can_trace);
        assert!(text(&page).contains("\n\nFAILS      Tracing does not work here: tracing the kernel needs root\n"));
    }
}
