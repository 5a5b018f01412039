//! One line of a text trace: who, where, when, and which event.

/// The beginning of a line with an event, and the rest as the event prints itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The trace instance in whose buffer it was, as `trace-cmd report` prefixes it; empty for the main one.
    pub(super) instance: &'a str,
    /// Thread id.
    pub(super) task: u32,
    /// CPU number; `None` where the line has none.
    pub(super) cpu: Option<u16>,
    /// Of the trace's clock.
    pub(super) time: Time,
    /// The event's name, without its subsystem.
    pub(super) event: &'a str,
    /// What `print fmt` or one of the raw formats makes of it.
    pub(super) text: &'a str,
}

/// A time stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Nanoseconds.
    Ns(u64),
    /// A count of something else: the trace clocks `counter`, `uptime` and `x86-tsc`.
    Count(u64),
}

impl Time {
    /// Nanoseconds; a count is taken as such, which keeps the order.
    pub(super) const fn ns(self) -> u64 {
        match self {
            Self::Ns(time) | Self::Count(time) => time,
        }
    }
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
    /// `# arch : MACHINE` of `perf script --header`.
    Machine(&'a str),
    /// `# os release : RELEASE` of the same.
    Release(&'a str),
    /// `# tracer: TRACER` of tracefs, where it is another one than `nop`; or what else a whole file is of.
    Tracer(&'a str),
    /// A comment, or nothing.
    Nothing,
    /// No line of a trace.
    Nonsense,
}

/// Reads a line of `trace`, `trace_pipe`, `trace-cmd report`, `perf script`, or of a trace that the kernel dumped to its console.
///
/// All have a task, its thread id, mostly the CPU, and the time with a colon. `kernel/trace/trace_output.c` prints flags in between (in the
/// latency format behind the CPU's number), `perf script` the subsystem in front of the event.
pub(super) fn parse(line: &str) -> Parsed<'_> {
    usual(line).map_or_else(|| of_any_kind(line), Parsed::Event)
}

/// A line as tracefs, `trace-cmd report` and `perf script` print it where no option asks for anything else, which nearly all lines are:
/// each byte is looked at once. `None` at the first that is different; what is found is as [`of_any_kind`] finds it.
fn usual(line: &str) -> Option<Line<'_>> {
    let (instance, line) = match line.as_bytes().first()? {
        b' ' => ("", line),
        b'<' | b'[' => return None,
        _ => instance(line),
    };
    let line = &line[blanks(line)..];
    let bytes = line.as_bytes();
    match bytes.first()? {
        b'#' | ..b' ' | 0x80.. => return None,
        b'c' | b'v' | b'D' | b'C' if FRAMES.iter().any(|frame| line.starts_with(frame)) => return None,
        _ => {}
    }
    // The first colon before which a time may be.
    let mut colon = 0;
    loop {
        colon += memchr::memchr(b':', &bytes[colon..])?;
        match bytes.get(colon + 1)? {
            b' ' => break,
            b'(' => return None,
            _ => colon += 1,
        }
    }
    let mut head = Head(&bytes[..colon]);
    let (fraction, digits) = head.number(9)?;
    head.byte(b'.')?;
    let (seconds, _) = head.number(9)?;
    let time = Time::Ns(seconds * 1_000_000_000 + fraction * POWERS[9 - digits]);
    // `comm-12 [001] d.h1.`, or without flags.
    if head.0.last()? == &b' ' {
        head.blanks();
        if head.0.last()? != &b']' {
            head.flags();
            head.blanks();
        }
    }
    head.byte(b']')?;
    let (cpu, _) = head.number(4)?;
    head.byte(b'[')?;
    head.blanks();
    let who = head.0.len();
    let task = match head.number(9) {
        Some((task, _)) if matches!(head.0, [_, .., b'-' | b'/' | b' ']) => task as u32,
        // `comm-12 (12)`
        _ => task(&line[..who])?,
    };
    let rest = &line[colon + 1..];
    let rest = &rest[blanks(rest)..];
    let (mut event, mut text) = rest.split_at(word(rest));
    text = text.strip_prefix(':')?;
    // `kmem:kfree: …` of perf.
    if !text.starts_with(' ') {
        (event, text) = text.split_at(word(text));
        text = text.strip_prefix(':')?;
    }
    let is_event = !event.is_empty() && !rest.starts_with(|first: char| first == 'P' || first.is_ascii_digit());
    let cpu = Some(cpu as u16);
    text = &text[blanks(text)..];
    if !text.as_bytes().last().is_some_and(u8::is_ascii_graphic) || !text.as_bytes()[0].is_ascii_graphic() {
        text = text.trim();
    }
    is_event.then_some(Line { instance, task, cpu, time, event, text })
}

/// Lines between events begin so.
const FRAMES: [&str; 4] = ["cpus=", "version =", "Dumping ftrace buffer", "CPU"];

/// Of ten.
const POWERS: [u64; 10] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// What comes before an event, read from its end.
struct Head<'a>(&'a [u8]);

impl Head<'_> {
    /// Takes the number at the end, of at most so many digits: 9 at most. The number, and its digits.
    fn number(&mut self, most: usize) -> Option<(u64, usize)> {
        let (mut number, mut digits) = (0, 0);
        while let [before @ .., digit @ b'0'..=b'9'] = self.0 {
            if digits == most {
                return None;
            }
            number += u64::from(digit - b'0') * POWERS[digits];
            digits += 1;
            self.0 = before;
        }
        (digits > 0).then_some((number, digits))
    }

    fn byte(&mut self, expected: u8) -> Option<()> {
        let (last, before) = self.0.split_last()?;
        self.0 = before;
        (*last == expected).then_some(())
    }

    fn blanks(&mut self) {
        while let [before @ .., b' '] = self.0 {
            self.0 = before;
        }
    }

    fn flags(&mut self) {
        while let [before @ .., b'.' | b'#' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'] = self.0 {
            self.0 = before;
        }
    }
}

/// Blanks that a text begins with.
fn blanks(text: &str) -> usize {
    text.bytes().position(|byte| byte != b' ').unwrap_or(text.len())
}

/// Bytes of the word that a text begins with.
fn word(text: &str) -> usize {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    text.bytes().position(|byte| !is_of_word(&byte)).unwrap_or(text.len())
}

/// Reads a line of any of these.
fn of_any_kind(line: &str) -> Parsed<'_> {
    let line = without_console(line.trim_end());
    let (instance, line) = indented_instance(line).unwrap_or_else(|| instance(line));
    let line = line.trim_start();
    if let Some(comment) = line.strip_prefix('#') {
        return comment_of(comment.trim());
    }
    let is_frame = FRAMES[..3].iter().any(|frame| line.starts_with(frame));
    if line.is_empty() || is_frame || line.bytes().all(|byte| byte == b'-') || is_of_stack(line) {
        return Parsed::Nothing;
    }
    if let Some(count) = lost(line) {
        return Parsed::Lost(count);
    }
    event(line, instance)
}

fn comment_of(comment: &str) -> Parsed<'_> {
    if let Some(difference) = overwritten(comment) {
        return Parsed::Overwritten(difference);
    }
    // Header lines of perf: `# os release : 6.12.57`, `# arch : aarch64`.
    match comment.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
        Some(("arch", machine)) => Parsed::Machine(machine),
        Some(("os release", release)) => Parsed::Release(release),
        Some(("tracer", tracer)) if tracer != "nop" => Parsed::Tracer(tracer),
        _ if comment == "event histogram" => Parsed::Tracer("hist triggers"),
        _ => Parsed::Nothing,
    }
}

fn overwritten(comment: &str) -> Option<u64> {
    let counts = comment.strip_prefix("entries-in-buffer/entries-written:")?;
    let (in_buffer, written) = counts.split_whitespace().next()?.split_once('/')?;
    let difference = written.parse::<u64>().ok()?.checked_sub(in_buffer.parse().ok()?)?;
    (difference > 0).then_some(difference)
}

/// `CPU:1 [LOST 12 EVENTS]` of tracefs, `CPU:1 [12 EVENTS DROPPED]` of trace-cmd. Some give no number.
fn lost(line: &str) -> Option<u64> {
    let inside = line.strip_prefix("CPU")?.split_once('[')?.1.strip_suffix(']')?;
    if !inside.contains("EVENTS") {
        return None;
    }
    // At least one, where it does not say how many.
    Some(inside.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(1))
}

/// A line without what the kernel's log puts in front: `<4>`, `[   12.345678]`, `[    T77]`.
fn without_console(line: &str) -> &str {
    let mut rest = line;
    if let Some((level, behind)) = rest.strip_prefix('<').and_then(|behind| behind.split_once('>'))
        && level.bytes().all(|byte| byte.is_ascii_digit())
    {
        rest = behind;
    }
    let Some((stamp, behind)) = rest.strip_prefix('[').and_then(|behind| behind.split_once(']')) else { return line };
    if !matches!(time(stamp.trim()), Some(Time::Ns(_))) {
        return line;
    }
    let behind = behind.trim_start();
    match behind.strip_prefix('[').and_then(|caller| caller.split_once(']')) {
        Some((caller, behind)) if caller.trim().starts_with(['T', 'C']) => behind,
        _ => behind,
    }
}

/// The instance's name and the rest. Only `trace-cmd report` of several buffers prints `NAME:` at the very beginning: tasks are indented.
fn instance(line: &str) -> (&str, &str) {
    match line.split_once(':') {
        Some((name, rest)) if rest.starts_with(' ') && !name.is_empty() && !name.contains([' ', '[', '#']) => {
            (name, rest)
        }
        _ => ("", line),
    }
}

/// The same where names are of several lengths: `trace-cmd report` aligns them at their ends (`print_handle_file()`,
/// `tracecmd/trace-read.c`), and so with the files that it prints together. A task's name may look like this too, but is at most 15
/// bytes long, where what is behind an instance's name takes at least 16 for it.
fn indented_instance(line: &str) -> Option<(&str, &str)> {
    const TASK: usize = 16;
    let indented = line.strip_prefix(' ')?.trim_start_matches(' ');
    let (name, rest) = indented.split_once(':')?;
    let task = rest.strip_prefix(' ')?;
    if name.is_empty() || name.contains([' ', '[', '#', '(', '<']) {
        return None;
    }
    if task.starts_with("cpus=") {
        return Some((name, task));
    }
    let (comm, _) = task[..task.find(" [")?].trim_end().rsplit_once('-')?;
    (comm.len() >= TASK).then_some((name, rest))
}

/// Lines of the call chain of the event before: `ffffc0de1234 dma_map_page_attrs+0x1c4 ([kernel.kallsyms])` of perf, ` => func` of
/// tracefs.
fn is_of_stack(line: &str) -> bool {
    if line.starts_with("=> ") {
        return true;
    }
    let Some((address, symbol)) = line.split_once(' ') else { return false };
    let is_address = address.len() >= 4 && address.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_address && symbol.ends_with(')') && symbol.contains(" (")
}

fn event<'a>(line: &'a str, instance: &'a str) -> Parsed<'a> {
    // A task's name may hold anything, colons and brackets too: the first colon behind a task, a CPU and a time counts.
    for (at, _) in line.match_indices(':') {
        let (head, rest) = (&line[..at], &line[at + 1..]);
        if !rest.is_empty() && !rest.starts_with([' ', '(']) {
            continue;
        }
        let Some((who, time)) = stamped(head.trim_end()) else { continue };
        let Some((task, cpu)) = task_and_cpu(who) else { continue };
        let rest = without_difference(rest.trim_start());
        // `PERF_RECORD_LOST lost 89` of `perf script --show-lost-events`.
        if let Some(record) = rest.strip_prefix("PERF_RECORD_LOST") {
            let count = record.split_whitespace().next_back().and_then(|count| count.parse().ok());
            return Parsed::Lost(count.unwrap_or(1));
        }
        if rest.starts_with("<stack trace>") || rest.starts_with("<user stack trace>") {
            return Parsed::Nothing;
        }
        if let Some((event, text)) = named(rest) {
            return Parsed::Event(Line { instance, task, cpu, time, event, text });
        }
    }
    Parsed::Nonsense
}

/// `kfree: …`, or perf's `kmem:kfree: …`, before which it may count (`1 kmem:kfree: …`).
fn named(text: &str) -> Option<(&str, &str)> {
    let text = match text.split_once(' ') {
        Some((count, rest)) if count.bytes().all(|byte| byte.is_ascii_digit()) => rest.trim_start(),
        _ => text,
    };
    let (event, text) = text.split_once(':')?;
    let (event, text) = match text.split_once(':') {
        Some((name, text)) if !name.is_empty() && !name.contains([' ', '=']) => (name, text),
        _ => (event, text),
    };
    let is_name = !event.is_empty() && event.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((event, text.trim()))
}

/// What `trace-cmd report --ts-diff` adds to a time: `(+12)`.
fn without_difference(text: &str) -> &str {
    match text.strip_prefix("(+").and_then(|text| text.split_once(')')) {
        Some((difference, rest)) if difference.bytes().all(|byte| byte.is_ascii_digit()) => rest.trim_start(),
        _ => text,
    }
}

/// What comes before the time, and the time: `… 12.345678`, `… 12.345678 (+12)`, in the latency format `… 345us`, `… 345us+`.
fn stamped(head: &str) -> Option<(&str, Time)> {
    let head = match head.rsplit_once("(+") {
        Some((before, difference)) if difference.ends_with(')') => before.trim_end(),
        _ => head,
    };
    // `[001]39366369432242` of trace-cmd where times are counts.
    let at = head.rfind([' ', ']'])? + 1;
    Some((head[..at].trim_end(), time(&head[at..])?))
}

/// `12.345678`; `345us`, with a mark for a long delay (`trace_delay` in `kernel/trace/trace_output.c`); or a count.
fn time(stamp: &str) -> Option<Time> {
    let unmarked = stamp.trim_end_matches(['+', '!', '#', '*', '@', '$']);
    if let Some(microseconds) = unmarked.strip_suffix("us") {
        return microseconds.parse::<u64>().ok()?.checked_mul(1000).map(Time::Ns);
    }
    let Some((seconds, fraction)) = stamp.split_once('.') else { return stamp.parse().ok().map(Time::Count) };
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| (1..=9).contains(digits))?;
    let fraction: u64 = fraction.parse().ok()?;
    let time_ns = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
    time_ns.checked_add(fraction * 10_u64.pow(9 - digits)).map(Time::Ns)
}

/// The thread id and the CPU of what comes before the time.
fn task_and_cpu(who: &str) -> Option<(u32, Option<u16>)> {
    // `comm-12 [001] d.h1.`, and `[001]-0x0` of the raw format: the last number in brackets counts.
    for (open, _) in who.rmatch_indices('[') {
        let Some((inside, flags)) = who[open + 1..].split_once(']') else { continue };
        if let (Ok(cpu), false, Some(task)) = (inside.trim().parse(), flags.contains(']'), task(&who[..open])) {
            return Some((task, Some(cpu)));
        }
    }
    // `comm-12 1d.h1.` of the latency format.
    if let Some((before, last)) = who.rsplit_once(' ') {
        let flags = last.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_flags =
            flags.len() >= 4 && flags.bytes().all(|byte| byte == b'.' || byte == b'#' || byte.is_ascii_alphanumeric());
        if let (true, Ok(cpu), Some(task)) = (is_flags, last[..last.len() - flags.len()].parse(), task(before)) {
            return Some((task, Some(cpu)));
        }
    }
    // `comm 12` of perf, whose file does not have CPUs.
    Some((task(who)?, None))
}

/// `comm-12`, `comm-12 (12)` with the thread group, or perf's `comm 12` and `comm 12/12`.
fn task(before: &str) -> Option<u32> {
    let before = before.trim_end();
    let before = match before.strip_suffix(')').and_then(|inside| inside.rsplit_once('(')) {
        Some((before, group)) if group.trim().bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
            before.trim_end()
        }
        _ => before,
    };
    let (name, id) = before.rsplit_once(['-', '/', ' '])?;
    (!name.is_empty()).then(|| id.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines of real kernels and tools, and of this file's other tests.
    const LINES: [&str; 4] = [
        include_str!("../../../../tests/traces/6.18-direct-hold-100.txt"),
        include_str!("../../../../tests/traces/6.18-x86-perf-script.txt"),
        include_str!("../../../../tests/traces/6.18-x86-trace-cmd-report.txt"),
        include_str!("../../../../tests/import/cases.toml"),
    ];

    /// Reads a line in both ways; whether it is a usual one.
    fn is_usual(line: &str) -> bool {
        let usual = usual(line);
        assert!(
            usual.is_none_or(|event| of_any_kind(line) == Parsed::Event(event)),
            "{line:?}: {usual:?}, {:?}",
            of_any_kind(line)
        );
        usual.is_some()
    }

    #[test]
    fn lines_that_tools_print_are_usual_ones() {
        for text in &LINES[..3] {
            for line in text.lines().filter(|line| !line.starts_with(['#', 'c'])) {
                assert!(is_usual(line), "{line}");
            }
        }
        assert!(is_usual(
            "   kworker/1:0-12      (     12) [001] .....    34.567890: kfree: call_site=a+0x1/0x2 ptr=00ab"
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn a_line_of_any_kind_is_the_same_in_both_ways(
            text in 0..LINES.len(),
            line in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, r"[ :\[\]()<>#+\-/.=_,0-9uscPCd\t\u{a0}é]{0,3}"), 0..4),
        ) {
            let lines: Vec<&str> = LINES[text].lines().collect();
            let mut line = line.get(&lines).to_string();
            for (at, taken, put) in changes {
                let mut at = at.index(line.len() + 1);
                while !line.is_char_boundary(at) { at -= 1; }
                let mut end = (at + taken).min(line.len());
                while !line.is_char_boundary(end) { end += 1; }
                line.replace_range(at..end, &put);
            }
            is_usual(&line);
        }
    }

    fn event(text: &str) -> Line<'_> {
        let Parsed::Event(line) = parse(text) else { panic!("{text}: {:?}", parse(text)) };
        line
    }

    #[test]
    fn lines_of_every_tool_hold_the_same() {
        let expected = Line {
            instance: "",
            task: 12,
            cpu: Some(1),
            time: Time::Ns(34_567_890_000),
            event: "kfree",
            text: "call_site=a+0x1/0x2 ptr=00ab",
        };
        for line in [
            "   kworker/1:0-12      [001] d.h1.    34.567890: kfree: call_site=a+0x1/0x2 ptr=00ab",
            "   kworker/1:0-12      (     12) [001] .....    34.567890: kfree: call_site=a+0x1/0x2 ptr=00ab",
            "   kworker/1:0-12      (-------) [001] .....    34.567890: kfree: call_site=a+0x1/0x2 ptr=00ab",
            "     kworker/1:0-12    [001]    34.567890: kfree:                call_site=a+0x1/0x2 ptr=00ab",
            "     kworker/1:0-12    [001]-0x0    34.567890: kfree:                call_site=a+0x1/0x2 ptr=00ab",
            "     kworker/1:0-12    [001] d..1.  34.567890: (+12) kfree:          call_site=a+0x1/0x2 ptr=00ab",
            "     kworker/1:0-12    [001] d..1.  34.567890 (+12): kfree:          call_site=a+0x1/0x2 ptr=00ab",
            "kworker/1:0    12 [001]    34.567890: kmem:kfree: call_site=a+0x1/0x2 ptr=00ab",
            "kworker/1:0    7/12 [001]    34.567890:       kmem:kfree: call_site=a+0x1/0x2 ptr=00ab",
            "kworker/1:0    12 [001]    34.567890:          1 kmem:kfree: call_site=a+0x1/0x2 ptr=00ab",
            "kworker/-12     1d.h1.    34.567890: kfree: call_site=a+0x1/0x2 ptr=00ab",
            "kworker/-12       1d.h1. 34567890us : kfree: call_site=a+0x1/0x2 ptr=00ab",
            "kworker/-12       1d.h1. 34567890us+: kfree: call_site=a+0x1/0x2 ptr=00ab",
            "<4>[   99.000001] kworker/-12       1d.h1. 34567890us!: kfree: call_site=a+0x1/0x2 ptr=00ab",
            "[   99.000001][   T77] kworker/-12       1d.h1. 34567890us : kfree: call_site=a+0x1/0x2 ptr=00ab",
        ] {
            assert_eq!(event(line), expected, "{line}");
        }
        assert_eq!(event("a [0] b-3 [001] 1.000000001: x: y").time, Time::Ns(1_000_000_001), "perf script --ns");
    }

    #[test]
    fn a_task_may_have_any_name() {
        let line = event("          a [9] b: c-d-77      [000] d..1.     1.000001: dma_map_sg: x dir=y");
        assert_eq!((line.task, line.cpu, line.event, line.text), (77, Some(0), "dma_map_sg", "x dir=y"));
        assert_eq!(event("          <idle>-0       [001] d.h1.  1.5: kfree: x").time, Time::Ns(1_500_000_000));
        for comm in ["(sd-pam)", "(udev-worker)", "pool-3[1]", "a) (b", "[kthread]", "x (1)"] {
            let text = format!("   {comm}-323 [002] ..... 1.5: kfree: x");
            let line = event(&text);
            assert_eq!((line.task, line.cpu, line.instance), (323, Some(2), ""), "{comm}");
        }
    }

    #[test]
    fn a_line_may_lack_its_cpu_and_have_a_count_for_a_time() {
        let line = event("            find  4472  2218.866411: kmem:kmalloc: call_site=a");
        assert_eq!((line.task, line.cpu, line.time), (4472, None, Time::Ns(2_218_866_411_000)));
        assert_eq!(event("    bash-320     [000] ..... 36638: kmalloc: a").time, Time::Count(36638));
        let line = event("    bash-320     [000]39366369432242: kmalloc: a");
        assert_eq!((line.task, line.cpu, line.time), (320, Some(0), Time::Count(39_366_369_432_242)));
    }

    #[test]
    fn another_instance_is_named() {
        let line = event("dmab:          usb-470   [000] .....    75.606310: swiotlb_bounced:      dev_name: a");
        assert_eq!((line.instance, line.task, line.event), ("dmab", 470, "swiotlb_bounced"));
        let line = event("   dma:              usb-470   [000] .....    75.606310: swiotlb_bounced:      dev_name: a");
        assert_eq!((line.instance, line.task, line.event), ("dma", 470, "swiotlb_bounced"));
        let line = event("   a.dat:     kworker/u8:2-470   [000]  75.606310: kfree:      ptr=1");
        assert_eq!((line.instance, line.task, line.event), ("a.dat", 470, "kfree"));
        let line = event("      nginx: worker-470   [000] .....    75.606310: kfree:      ptr=1");
        assert_eq!((line.instance, line.task, line.event), ("", 470, "kfree"));
        assert_eq!(parse("   a.dat: cpus=2"), Parsed::Nothing);
    }

    #[test]
    fn call_chains_are_passed_over() {
        for line in [
            "\tffffc0de1234 dma_map_page_attrs+0x1c4 ([kernel.kallsyms])",
            "            7f12 main+0x1 (/usr/bin/x)",
            "       usb-470   [000] .....    75.606310: <stack trace>",
            " => dma_map_page_attrs",
        ] {
            assert_eq!(parse(line), Parsed::Nothing, "{line}");
        }
        assert_eq!(parse("# tracer: function_graph"), Parsed::Tracer("function_graph"));
        assert_eq!(parse("# event histogram"), Parsed::Tracer("hist triggers"));
    }

    #[test]
    fn losses_and_headers_are_read() {
        assert_eq!(parse("CPU:1 [LOST 123 EVENTS]"), Parsed::Lost(123));
        assert_eq!(parse("CPU:0 [EVENTS DROPPED]"), Parsed::Lost(1));
        assert_eq!(parse("CPU:0 [7 EVENTS DROPPED]"), Parsed::Lost(7));
        assert_eq!(parse("  find  4472 [001]  2218.866412: PERF_RECORD_LOST lost 89"), Parsed::Lost(89));
        assert_eq!(parse("  find  4472 [001]  2218.866412: PERF_RECORD_LOST_SAMPLES lost 7"), Parsed::Lost(7));
        assert_eq!(parse("# entries-in-buffer/entries-written: 205/400   #P:2"), Parsed::Overwritten(195));
        assert_eq!(parse("# entries-in-buffer/entries-written: 400/400   #P:2"), Parsed::Nothing);
        assert_eq!(parse("# arch : riscv64"), Parsed::Machine("riscv64"));
        assert_eq!(parse("# os release : 6.12.57"), Parsed::Release("6.12.57"));
        assert_eq!(["# tracer: nop", "", "cpus=2", "[    5.1] ------------"].map(parse), [Parsed::Nothing; 4]);
    }

    #[test]
    fn other_texts_are_nonsense() {
        for line in
            ["hello", "a-1 [x] now: kfree: x", "[    0.000000] Booting Linux", "[001", "-1 [000] 1.0: kfree: x", ": :"]
        {
            assert_eq!(parse(line), Parsed::Nonsense, "{line}");
        }
    }
}
