//! One line of a text trace: who, where, when, and which event.

/// The beginning of a line that tells of an event, and the rest as the event prints itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Thread id.
    pub(super) task: u32,
    /// CPU number.
    pub(super) cpu: u16,
    /// Of the trace's clock, ns.
    pub(super) time_ns: u64,
    /// The event's name, without its subsystem.
    pub(super) event: &'a str,
    /// What `print fmt` makes of it.
    pub(super) text: &'a str,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// An event.
    Event(Line<'a>),
    /// So many events were lost here.
    Lost(u64),
    /// `# entries-in-buffer/entries-written: IN/WRITTEN`: so many were overwritten before anybody read them.
    Overwritten(u64),
    /// A comment, or nothing.
    Nothing,
    /// None of what a trace has.
    Nonsense,
}

/// Reads a line of `trace`, `trace_pipe`, `trace-cmd report` or `perf script`.
///
/// All begin with a task, its thread id, the CPU in brackets and the time with a colon; `kernel/trace/trace_output.c` prints flags
/// in between, `perf script` the subsystem in front of the event.
pub(super) fn parse(line: &str) -> Parsed<'_> {
    let line = line.trim();
    if let Some(comment) = line.strip_prefix('#') {
        return overwritten(comment).map_or(Parsed::Nothing, Parsed::Overwritten);
    }
    if line.is_empty() || line.starts_with("cpus=") || line.starts_with("version =") {
        return Parsed::Nothing;
    }
    if let Some(count) = lost(line) {
        return Parsed::Lost(count);
    }
    event(line).map_or(Parsed::Nonsense, Parsed::Event)
}

fn overwritten(comment: &str) -> Option<u64> {
    let counts = comment.trim_start().strip_prefix("entries-in-buffer/entries-written:")?;
    let (in_buffer, written) = counts.split_whitespace().next()?.split_once('/')?;
    let difference = written.parse::<u64>().ok()?.checked_sub(in_buffer.parse().ok()?)?;
    (difference > 0).then_some(difference)
}

/// `CPU:1 [LOST 12 EVENTS]` of tracefs, `CPU:1 [12 EVENTS DROPPED]` of trace-cmd; `CPU 1: …` also tells of no number.
fn lost(line: &str) -> Option<u64> {
    let inside = line.strip_prefix("CPU")?.split_once('[')?.1.strip_suffix(']')?;
    if !inside.contains("EVENTS") {
        return None;
    }
    // At least one, where it does not say how many.
    Some(inside.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(1))
}

fn event(line: &str) -> Option<Line<'_>> {
    // A task's name may hold anything, brackets too: the first that holds a number counts.
    let mut from = 0;
    loop {
        let open = from + line[from..].find('[')?;
        let close = open + line[open..].find(']')?;
        if let Ok(cpu) = line[open + 1..close].trim().parse()
            && let Some(found) = after_cpu(&line[..open], cpu, &line[close + 1..])
        {
            return Some(found);
        }
        from = open + 1;
    }
}

fn after_cpu<'a>(before: &str, cpu: u16, rest: &'a str) -> Option<Line<'a>> {
    // `comm-12`, `comm-12 (12)` with the thread group, or perf's `comm 12` and `comm 12/12`.
    let mut words = before.split_whitespace().rev().filter(|word| !word.starts_with('(') && !word.ends_with(')'));
    let task = words.next()?.rsplit(['-', '/']).next()?.parse().ok()?;
    let (stamp, text) = rest.split_once(": ")?;
    let time_ns = nanoseconds(stamp.split_whitespace().next_back()?)?;
    let (event, text) = text.trim_start().split_once(':')?;
    // `kmem:kmalloc:` of perf.
    let (event, text) = match text.split_once(':') {
        Some((name, text)) if !name.is_empty() && !name.contains([' ', '=']) => (name, text),
        _ => (event, text),
    };
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name(event).then_some(Line { task, cpu, time_ns, event, text: text.trim() })
}

/// `12.345678`; clocks that count something else have no point.
fn nanoseconds(stamp: &str) -> Option<u64> {
    let (seconds, fraction) = stamp.split_once('.')?;
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| (1..=9).contains(digits))?;
    let fraction: u64 = fraction.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction * 10_u64.pow(9 - digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Line<'_> {
        let Parsed::Event(line) = parse(text) else { panic!("{text}: {:?}", parse(text)) };
        line
    }

    #[test]
    fn lines_of_every_tool_tell_the_same() {
        let expected =
            Line { task: 12, cpu: 1, time_ns: 34_567_890_000, event: "kfree", text: "call_site=a+0x1/0x2 ptr=00ab" };
        for line in [
            "   kworker/1:0-12      [001] d.h1.    34.567890: kfree: call_site=a+0x1/0x2 ptr=00ab",
            "   kworker/1:0-12      (     12) [001] .....    34.567890: kfree: call_site=a+0x1/0x2 ptr=00ab",
            "     kworker/1:0-12    [001]    34.567890: kfree:                call_site=a+0x1/0x2 ptr=00ab",
            "kworker/1:0    12 [001]    34.567890: kmem:kfree: call_site=a+0x1/0x2 ptr=00ab",
            "kworker/1:0    7/12 [001]    34.567890:       kmem:kfree: call_site=a+0x1/0x2 ptr=00ab",
        ] {
            assert_eq!(event(line), expected, "{line}");
        }
        assert_eq!(event("a [0] b-3 [001] 1.000000001: x: y").time_ns, 1_000_000_001, "perf script --ns");
    }

    #[test]
    fn a_task_may_be_called_anything() {
        let line = event("          a [9] b: c-d-77      [000] d..1.     1.000001: dma_map_sg: x dir=y");
        assert_eq!((line.task, line.cpu, line.event, line.text), (77, 0, "dma_map_sg", "x dir=y"));
        assert_eq!(event("          <idle>-0       [001] d.h1.  1.5: kfree: x").time_ns, 1_500_000_000);
    }

    #[test]
    fn what_was_lost_is_told_by_the_trace_itself() {
        assert_eq!(parse("CPU:1 [LOST 123 EVENTS]"), Parsed::Lost(123));
        assert_eq!(parse("CPU:0 [EVENTS DROPPED]"), Parsed::Lost(1));
        assert_eq!(parse("CPU:0 [7 EVENTS DROPPED]"), Parsed::Lost(7));
        assert_eq!(parse("# entries-in-buffer/entries-written: 205/400   #P:2"), Parsed::Overwritten(195));
        assert_eq!(parse("# entries-in-buffer/entries-written: 400/400   #P:2"), Parsed::Nothing);
        assert_eq!(["# tracer: nop", "", "cpus=2"].map(parse), [Parsed::Nothing; 3]);
    }

    #[test]
    fn what_is_no_trace_is_nonsense() {
        for line in
            ["hello", "a-1 [000] 12345: kfree: x", "a-1 [x] 1.0: kfree: x", "[    0.000000] Booting Linux", "[001"]
        {
            assert_eq!(parse(line), Parsed::Nonsense, "{line}");
        }
    }
}
