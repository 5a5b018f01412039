//! The kernel's own trace since boot (`trace_event=` on its command line): whether it can be used, and the pages of its ring buffer.
//!
//! The pages are taken out (`per_cpu/cpuN/trace_pipe_raw`), for the text of `trace` has microseconds only. Nothing else of the kernel's
//! tracing is changed: what goes on being traced is written into the buffer again.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::io::ioctl_fionbio;

use super::events::Tracefs;
use super::root::Root;

/// All buffers together hold no more than that, bytes: events take several times as much once they are read.
const MOST: u64 = 256 << 20;

/// Page sizes that can be, bytes (`ring_buffer_subbuf_order_set()`, `kernel/trace/ring_buffer.c`, Linux 6.18).
const PAGES: Range<usize> = 512..(16 << 20) + 1;

/// What a trace needs, in words.
const PARAMETERS: &str = "boot with trace_event=dma:*,swiotlb:* trace_clock=mono trace_buf_size=8M";

/// Why the kernel's trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootTraceError {
    /// There is no tracefs.
    #[error("{}", Tracefs::REMEDY)]
    NoTracefs,
    /// A file of tracefs failed us.
    #[error("cannot read the kernel's trace: {path}: {source}")]
    Tracefs {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Before 6.12 there are none.
    #[error(
        "this kernel has no events for mappings (dma:*, from 6.12 on). Its trace can only show attempts to bounce (swiotlb:*), which \
         `bouncescope import` reads"
    )]
    NoEvents,
    /// Nothing traces mappings, and nothing has.
    #[error("the kernel's trace has no mappings: {PARAMETERS}")]
    NoMappings,
    /// Times that cannot be compared with those of the recorder.
    #[error("the kernel's trace has the times of the clock {0}, and mono is needed: {PARAMETERS}")]
    Clock(String),
    /// More than is read.
    #[error("the kernel's trace has {0} MiB, and at most 256 can be joined: import it (trace-cmd extract)")]
    TooLarge(u64),
}

/// The trace, opened and not yet taken.
#[derive(Debug)]
pub struct BootTrace {
    /// Why it ended before now; empty where it goes on.
    pub gap: String,
    /// Why it does not begin at boot; empty where it does.
    pub late: String,
    header_page: String,
    formats: Vec<String>,
    page_size: usize,
    cpus: Vec<Cpu>,
    /// Events that somebody had taken out of it before, and that are not there any more.
    taken: u64,
}

#[derive(Debug)]
struct Cpu {
    number: u16,
    pages: File,
    stats: File,
}

/// What the trace held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// `events/header_page`.
    pub header_page: String,
    /// `format` of each event of mappings and bounces.
    pub formats: Vec<String>,
    /// Bytes of a page.
    pub page_size: usize,
    /// The pages of all CPUs.
    pub pages: Vec<u8>,
    /// CPUs, each with where its pages are.
    pub cpus: Vec<(u16, Range<u64>)>,
    /// Events that were overwritten, dropped, or taken by somebody else.
    pub lost: u64,
    /// When it was taken, ns of `CLOCK_MONOTONIC`: it holds all that was traced before.
    pub time_ns: u64,
}

impl BootTrace {
    /// Looks at the trace, and opens what is read of it later, with fewer privileges.
    pub fn open(root: &Root) -> Result<Self, BootTraceError> {
        let tracefs = Tracefs::find(root).ok_or(BootTraceError::NoTracefs)?;
        let dir = tracefs.dir();
        if !["dma_map_phys", "dma_map_page"].iter().any(|event| tracefs.has_event("dma", event)) {
            return Err(BootTraceError::NoEvents);
        }
        let header_page = text(&dir.join("events/header_page"))?;
        let mut trace = Self {
            gap: String::new(),
            late: String::new(),
            page_size: page_size(&header_page).unwrap_or(4096),
            header_page,
            formats: formats(dir),
            cpus: Vec::new(),
            taken: 0,
        };
        let clocks = text(&dir.join("trace_clock"))?;
        let clock =
            clocks.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(clocks.trim(), |(one, _)| one);
        let is_mono = clock == "mono";
        let mut entries = Stats::default();
        for cpu in cpus(dir)? {
            let mut opened = Cpu::open(dir, cpu)?;
            let stats = opened.stats().map_err(|source| error(&cpu_dir(dir, cpu).join("stats"), source))?;
            entries.add(&stats);
            trace.cpus.push(opened);
        }
        trace.taken = entries.read;
        let is_enabled = maps(dir);
        let has_any = is_enabled || entries.entries > 0 && has_mappings(&dir.join("trace"));
        if !has_any {
            return Err(BootTraceError::NoMappings);
        }
        if !is_mono {
            return Err(BootTraceError::Clock(clock.to_owned()));
        }
        if entries.bytes > MOST {
            return Err(BootTraceError::TooLarge(entries.bytes >> 20));
        }
        let is_on = text(&dir.join("tracing_on"))?.trim() != "0";
        let gap = match (is_on, is_enabled) {
            (false, _) => "tracing had been turned off (tracing_on is 0) before the recorder began",
            (true, false) => "the events dma:* had been turned off before the recorder began",
            (true, true) => "",
        };
        gap.clone_into(&mut trace.gap);
        let cmdline = root.text("proc/cmdline").unwrap_or_default();
        if !is_from_boot(&cmdline) {
            "the kernel's command line has no trace_event=dma:*: it begins when somebody enabled the events, not at boot"
                .clone_into(&mut trace.late);
        }
        Ok(trace)
    }

    /// Takes out what the trace holds, CPU by CPU.
    ///
    /// # Errors
    ///
    /// When a file of tracefs cannot be read.
    pub fn take(mut self) -> io::Result<Taken> {
        let time_ns = crate::clock::now_ns();
        let (mut pages, mut parts, mut lost) = (Vec::new(), Vec::new(), self.taken);
        let mut page = vec![0; self.page_size];
        for cpu in &mut self.cpus {
            let begin = pages.len() as u64;
            loop {
                match cpu.pages.read(&mut page) {
                    Ok(0) => break,
                    Ok(length) => {
                        page[length..].fill(0);
                        pages.extend_from_slice(&page);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                }
                // The kernel goes on writing: what came later is not needed. A page begins with its time.
                let since_ns = u64::from_ne_bytes(page[..8].try_into().unwrap_or_default());
                if since_ns > time_ns {
                    break;
                }
                if pages.len() as u64 > MOST {
                    lost += 1;
                    break;
                }
            }
            parts.push((cpu.number, begin..pages.len() as u64));
            lost += cpu.stats()?.lost;
        }
        let Self { header_page, formats, page_size, .. } = self;
        Ok(Taken { header_page, formats, page_size, pages, cpus: parts, lost, time_ns })
    }
}

impl Cpu {
    fn open(dir: &Path, cpu: u16) -> Result<Self, BootTraceError> {
        let dir = cpu_dir(dir, cpu);
        let open = |name: &str| {
            let path = dir.join(name);
            let opened = File::open(&path).and_then(|file| {
                // An empty buffer is no reason to wait.
                ioctl_fionbio(&file, true)?;
                Ok(file)
            });
            opened.map_err(|source| error(&path, source))
        };
        Ok(Self { number: cpu, pages: open("trace_pipe_raw")?, stats: open("stats")? })
    }

    fn stats(&mut self) -> io::Result<Stats> {
        let mut text = String::new();
        self.stats.rewind()?;
        self.stats.read_to_string(&mut text)?;
        Ok(Stats::parse(&text))
    }
}

/// What `per_cpu/cpuN/stats` counts (`tracing_stats_read()`, `kernel/trace/trace.c`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stats {
    entries: u64,
    bytes: u64,
    /// Overwritten or refused.
    lost: u64,
    /// Taken out of the buffer.
    read: u64,
}

impl Stats {
    fn parse(text: &str) -> Self {
        let mut stats = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let Ok(value) = value.trim().parse::<u64>() else { continue };
            match name {
                "entries" => stats.entries = value,
                "bytes" => stats.bytes = value,
                "overrun" | "commit overrun" | "dropped events" => stats.lost += value,
                "read events" => stats.read = value,
                _ => {}
            }
        }
        stats
    }

    fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.read += other.read;
    }
}

fn error(path: &Path, source: io::Error) -> BootTraceError {
    BootTraceError::Tracefs { path: path.to_owned(), source }
}

fn text(path: &Path) -> Result<String, BootTraceError> {
    fs::read_to_string(path).map_err(|source| error(path, source))
}

fn cpu_dir(dir: &Path, cpu: u16) -> PathBuf {
    dir.join(format!("per_cpu/cpu{cpu}"))
}

/// CPUs that have a buffer, in order.
fn cpus(dir: &Path) -> Result<Vec<u16>, BootTraceError> {
    let path = dir.join("per_cpu");
    let entries = fs::read_dir(&path).map_err(|source| error(&path, source))?;
    let number = |name: &str| name.strip_prefix("cpu")?.parse().ok();
    let mut cpus: Vec<u16> =
        entries.flatten().filter_map(|entry| number(&entry.file_name().to_string_lossy())).collect();
    cpus.sort_unstable();
    Ok(cpus)
}

/// The formats of all events of mappings and bounces.
fn formats(dir: &Path) -> Vec<String> {
    let of_group = |group: &str| fs::read_dir(dir.join("events").join(group)).into_iter().flatten().flatten();
    let events = ["dma", "swiotlb"].into_iter().flat_map(of_group);
    events.filter_map(|event| fs::read_to_string(event.path().join("format")).ok()).collect()
}

/// Single mappings are traced from now on.
fn maps(dir: &Path) -> bool {
    ["dma_map_phys", "dma_map_page"].iter().any(|event| {
        let enabled = fs::read_to_string(dir.join("events/dma").join(event).join("enable")).unwrap_or_default();
        enabled.starts_with('1')
    })
}

/// Something in the text of a trace is a mapping.
fn has_mappings(trace: &Path) -> bool {
    let Ok(file) = File::open(trace) else { return false };
    BufReader::new(file).split(b'\n').map_while(Result::ok).any(|line| {
        let line = String::from_utf8_lossy(&line);
        line.contains(": dma_map_")
    })
}

/// Bytes of a page: where its data begin, and how many there are.
fn page_size(header_page: &str) -> Option<usize> {
    let line = header_page.lines().find(|line| line.contains(" data;"))?;
    let number = |name: &str| line.split(';').find_map(|part| part.trim().strip_prefix(name)?.parse::<usize>().ok());
    Some(number("offset:")? + number("size:")?).filter(|size| PAGES.contains(size))
}

/// The kernel was told to trace mappings (`setup_trace_event()`, `kernel/trace/trace_events.c`).
fn is_from_boot(cmdline: &str) -> bool {
    let events = cmdline.split_whitespace().filter_map(|word| word.trim_matches('"').strip_prefix("trace_event="));
    events
        .flat_map(|events| events.split(','))
        .any(|event| event == "dma" || event.starts_with("dma:") || event.starts_with("dma_map_"))
}

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;

    const TRACING: &str = "sys/kernel/tracing";
    const HEADER: &str = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
                          \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
    const STATS: &str = "entries: 12\noverrun: 3\ncommit overrun: 1\nbytes: 640\noldest event ts:  9.1\nnow ts:  10.2\n\
                         dropped events: 2\nread events: 4\n";

    /// A kernel that traces its mappings since boot.
    fn traced(change: &[(&str, &str)]) -> SampleRoot {
        let sample = SampleRoot::new(&[("proc/cmdline", "quiet trace_event=dma:*,swiotlb:* trace_clock=mono\n")]);
        let page = "x".repeat(4096);
        let files = [
            ("events/header_page", HEADER),
            ("events/dma/dma_map_phys/enable", "1\n"),
            ("events/dma/dma_map_phys/format", "name: dma_map_phys\nID: 7\n"),
            ("events/swiotlb/swiotlb_bounced/format", "name: swiotlb_bounced\nID: 8\n"),
            ("trace_clock", "local global counter [mono] boot\n"),
            ("tracing_on", "1\n"),
            ("trace", "# tracer: nop\n"),
            ("per_cpu/cpu0/trace_pipe_raw", page.as_str()),
            ("per_cpu/cpu0/stats", STATS),
            ("per_cpu/cpu1/trace_pipe_raw", ""),
            ("per_cpu/cpu1/stats", "entries: 0\n"),
        ];
        for (file, text) in files.into_iter().chain(change.iter().copied()) {
            sample.write(&format!("{TRACING}/{file}"), text.as_bytes());
        }
        sample
    }

    fn refused(change: &[(&str, &str)]) -> String {
        let error = BootTrace::open(&traced(change).root()).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn pages_and_losses_of_all_cpus_are_taken() {
        let trace = BootTrace::open(&traced(&[]).root()).unwrap();
        assert_eq!((trace.gap.as_str(), trace.late.as_str()), ("", ""));
        let taken = trace.take().unwrap();
        assert_eq!((taken.pages.len(), taken.page_size, taken.formats.len()), (4096, 4096, 2));
        assert_eq!(taken.cpus, [(0, 0..4096), (1, 4096..4096)]);
        assert_eq!(taken.lost, 3 + 1 + 2 + 4, "overwritten, refused, dropped, and read by somebody else");
    }

    #[test]
    fn a_trace_that_cannot_be_joined_is_refused_with_what_to_do() {
        assert!(
            refused(&[("trace_clock", "[local] global mono\n")])
                .contains("the clock local, and mono is needed: boot with")
        );
        let off = ("events/dma/dma_map_phys/enable", "0\n");
        assert!(refused(&[off]).contains("no mappings: boot with"));
        let stats = format!("bytes: {}\n", 300_u64 << 20);
        assert!(refused(&[("per_cpu/cpu1/stats", &stats)]).contains("300 MiB"));
        let old = SampleRoot::new(&[("sys/kernel/tracing/events/swiotlb/swiotlb_bounced/format", "")]);
        assert!(BootTrace::open(&old.root()).unwrap_err().to_string().contains("from 6.12 on"));
        assert!(matches!(BootTrace::open(&SampleRoot::new(&[]).root()), Err(BootTraceError::NoTracefs)));
    }

    #[test]
    fn a_trace_that_was_stopped_or_did_not_begin_at_boot_says_so() {
        let trace = |change: &[(&str, &str)]| BootTrace::open(&traced(change).root()).unwrap();
        assert!(trace(&[("tracing_on", "0\n")]).gap.contains("tracing_on is 0"));
        let (off, text) = (("events/dma/dma_map_phys/enable", "0\n"), "  a-1 [000] ..... 1.5: dma_map_phys: usb\n");
        assert!(trace(&[off, ("trace", text)]).gap.contains("dma:* had been turned off"));
        let sample = traced(&[]);
        sample.write("proc/cmdline", b"quiet trace_event=sched:*\n");
        assert!(BootTrace::open(&sample.root()).unwrap().late.contains("not at boot"));
    }

    #[test]
    fn the_command_line_says_whether_mappings_were_traced_from_boot_on() {
        for traced in
            ["trace_event=dma:*", "a trace_event=sched:x,dma:*", "\"trace_event=dma\"", "trace_event=dma_map_phys"]
        {
            assert!(is_from_boot(traced), "{traced}");
        }
        for other in ["", "trace_event=swiotlb:*", "trace_event=dma_fence:*", "dma:*"] {
            assert!(!is_from_boot(other), "{other}");
        }
    }
}
