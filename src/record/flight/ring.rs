//! What the flight recorder keeps in memory: the last minutes of a stream in compressed pieces, each with the counters at its end, and the
//! totals of what came before them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tracer::{
    capture::{FRAME_EVENTS, Reader, Writer},
    event::{Batch, DeviceId, Direction, Event, Kind, What},
    facts::{Counters, Device, End, LengthCount, Mapped, PoolSample, PoolTime, SiteCount, Symbol},
    stream::{Item, Source as _, Start},
};

/// Pieces are kept for so much longer than was asked for: a window begins where the programs' sums were read, at a quiet moment if there is
/// one, and ends a little after the last event that it promises.
const SLACK: Duration = Duration::from_secs(10);
/// Names of call sites that are kept, as many as a replay keeps.
const MOST_SYMBOLS: usize = 1 << 16;
/// Descriptions of devices from which on those are dropped that nothing refers to any more.
const MANY_DEVICES: usize = 4096;
/// How long before a sample of the pool slots may have been taken or given back whose record says so: a call lasts less.
const CALL_NS: u64 = 1_000_000;
/// How long it takes to sample the pool, at most, in an emulated machine too; the counters are read behind it.
const SAMPLE_NS: u64 = 10_000_000;

/// Records by kind and CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ordinals([Vec<u64>; Kind::ALL.len()]);

impl Ordinals {
    /// How many records of this kind came from this CPU before, and one more now.
    pub(super) fn next(&mut self, event: &Event) -> u64 {
        let counts = &mut self.0[event.what.kind() as usize];
        let cpu = usize::from(event.cpu);
        if counts.len() <= cpu {
            counts.resize(cpu + 1, 0);
        }
        counts[cpu] += 1;
        counts[cpu] - 1
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.0.iter().map(|counts| counts.capacity() * size_of::<u64>()).sum::<usize>()
    }
}

/// So many pieces are kept whatever they take: three readings at which a window may begin, one of four with sums, and four at its end.
const FEWEST: usize = 12;

/// A moment at which the counters were read.
#[derive(Debug, Default)]
pub(super) struct Moment {
    /// The counters, with their time.
    pub(super) counters: Counters,
    /// The pool, a little before; `None` where the kernel has no counters of it.
    pub(super) pool: Option<PoolSample>,
    /// What the programs sum up was read right before.
    pub(super) has_sums: bool,
    /// CPU time of the recorder so far, ns.
    pub(super) cpu_ns: u64,
    /// Slots were taken or given back while the pool was sampled: how many were in use is known only roughly.
    busy: AtomicBool,
}

impl Moment {
    /// No slots were taken or given back while the pool was sampled.
    pub(super) fn is_quiet(&self) -> bool {
        !self.busy.load(Ordering::Relaxed)
    }

    fn note_slots(&self, time_ns: u64) {
        let is_near = |pool: &PoolSample| {
            let until_ns = self.counters.time_ns.min(pool.time_ns.saturating_add(SAMPLE_NS));
            (pool.time_ns.saturating_sub(CALL_NS)..=until_ns).contains(&time_ns)
        };
        if self.pool.as_ref().is_some_and(is_near) {
            self.busy.store(true, Ordering::Relaxed);
        }
    }

    fn bytes(&self) -> usize {
        /// An entry of a map of this library's, with its key and its vector.
        const ENTRY: usize = 96;
        let counters = &self.counters;
        let values = counters.seen.values().chain(counters.lost.values());
        size_of::<Self>() + values.map(|values| ENTRY + values.len() * size_of::<u64>()).sum::<usize>()
    }
}

/// A piece of the stream: what came between two readings of the counters, the second included.
#[derive(Debug)]
pub(super) struct Piece {
    /// Records that came before it.
    pub(super) first: Ordinals,
    /// Its events, as a capture without a start.
    events: Vec<u8>,
    /// The programs' sums and samples of the caches, likewise.
    others: Vec<u8>,
    /// The devices that its events name, in order.
    pub(super) devices: Vec<u32>,
    /// Its end.
    pub(super) moment: Arc<Moment>,
}

impl Piece {
    /// Gives every batch of events.
    pub(super) fn events(&self, mut take: impl FnMut(Batch) -> Result<()>) -> Result<()> {
        read(&self.events, |item| if let Item::Events(batch) = item { take(batch) } else { Ok(()) })
    }

    /// Gives everything else.
    pub(super) fn others(&self, take: impl FnMut(Item) -> Result<()>) -> Result<()> {
        read(&self.others, take)
    }

    fn bytes(&self) -> usize {
        let lists = self.events.capacity() + self.others.capacity() + self.devices.capacity() * size_of::<u32>();
        size_of::<Self>() + lists + self.first.bytes() + self.moment.bytes()
    }
}

fn read(capture: &[u8], mut take: impl FnMut(Item) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(capture)?;
    while let Some(item) = reader.next_item()? {
        take(item)?;
    }
    Ok(())
}

/// What the programs sum up, since the recorder began.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) sites: HashMap<(u64, u32, u32), u64>,
    pub(super) lengths: BTreeMap<(DeviceId, Direction, Mapped, u32), [u64; 2]>,
    pub(super) times: Vec<PoolTime>,
}

impl Totals {
    /// Takes in the latest totals.
    pub(super) fn take(&mut self, item: &Item) {
        match item {
            Item::Sites(sites) => {
                self.sites.extend(sites.iter().map(|one| ((one.call_site, one.bytes_req, one.bytes_alloc), one.count)));
            }
            Item::Lengths(lengths) => self.lengths.extend(
                lengths.iter().map(|one| ((one.device, one.direction, one.mapped, one.length), [one.count, one.bytes])),
            ),
            Item::PoolTimes(times) => self.times.clone_from(&times.times),
            _ => {}
        }
    }

    /// What was added to `before`: call sites.
    pub(super) fn sites_since(&self, before: &Self) -> Vec<SiteCount> {
        let added = self.sites.iter().filter_map(|(key, count)| {
            let count = count.saturating_sub(before.sites.get(key).copied().unwrap_or(0));
            let (call_site, bytes_req, bytes_alloc) = *key;
            (count > 0).then_some(SiteCount { call_site, bytes_req, bytes_alloc, count })
        });
        let mut added: Vec<_> = added.collect();
        added.sort_unstable_by_key(|one| (one.call_site, one.bytes_req, one.bytes_alloc));
        added
    }

    /// The same of mappings by length.
    pub(super) fn lengths_since(&self, before: &Self) -> Vec<LengthCount> {
        let added = self.lengths.iter().filter_map(|(key, [count, bytes])| {
            let [earlier, earlier_bytes] = before.lengths.get(key).copied().unwrap_or_default();
            let (device, direction, mapped, length) = *key;
            let (count, bytes) = (count.saturating_sub(earlier), bytes.wrapping_sub(earlier_bytes));
            (count > 0).then_some(LengthCount { device, direction, mapped, length, count, bytes })
        });
        added.collect()
    }

    /// The same of the pool's functions.
    pub(super) fn times_since(&self, before: &Self) -> Vec<PoolTime> {
        let added = self.times.iter().filter_map(|now| {
            let is_same = |one: &&PoolTime| (one.function, one.log2) == (now.function, now.log2);
            let earlier = before.times.iter().find(is_same).copied().unwrap_or_default();
            let calls = now.calls.saturating_sub(earlier.calls);
            let (bytes, total_ns) =
                (now.bytes.wrapping_sub(earlier.bytes), now.total_ns.wrapping_sub(earlier.total_ns));
            (calls > 0).then_some(PoolTime { calls, bytes, total_ns, ..*now })
        });
        added.collect()
    }
}

/// The piece that is being filled.
struct Open {
    first: Ordinals,
    batch: Batch,
    events: Writer<Vec<u8>>,
    others: Writer<Vec<u8>>,
    devices: BTreeSet<u32>,
    pool: Option<PoolSample>,
    counters: Counters,
}

impl Open {
    fn new(first: Ordinals) -> Result<Self> {
        Ok(Self {
            first,
            batch: Batch::default(),
            events: Writer::new(Vec::new())?,
            others: Writer::new(Vec::new())?,
            devices: BTreeSet::new(),
            pool: None,
            counters: Counters::default(),
        })
    }

    fn pack(&mut self) -> Result<()> {
        if !self.batch.events.is_empty() {
            let batch = Item::Events(std::mem::take(&mut self.batch));
            self.events.write(&batch)?;
            if let Item::Events(batch) = batch {
                self.batch = batch;
            }
            self.batch.clear();
        }
        Ok(())
    }
}

/// The last minutes, as they stand.
#[derive(Clone)]
pub(super) struct Kept {
    /// How the recording began.
    pub(super) start: Start,
    /// Descriptions of devices, by number.
    pub(super) devices: BTreeMap<u32, Device>,
    /// Names of call sites.
    pub(super) symbols: HashMap<u64, Symbol>,
    /// Totals of what came before the pieces.
    pub(super) totals: Totals,
    /// The end of the piece before them; `None` where they hold the recording from its beginning on.
    pub(super) before: Option<Arc<Moment>>,
    /// In order.
    pub(super) pieces: VecDeque<Arc<Piece>>,
    /// How the recording ended.
    pub(super) end: Option<End>,
}

/// Takes a stream, and keeps its end.
pub(super) struct Ring {
    kept: Kept,
    open: Open,
    /// Records so far.
    came: Ordinals,
    keep: Duration,
    /// What came from this moment on is kept longer, ns.
    hold_from_ns: u64,
    most_bytes: u64,
    /// Of all pieces.
    bytes: u64,
    many_devices: usize,
    /// When slots were last taken or given back.
    latest_slots_ns: u64,
}

impl Ring {
    /// Keeps so much time, and no more bytes than that, of a stream that begins so.
    pub(super) fn new(start: Start, keep: Duration, most_bytes: u64) -> Result<Self> {
        let kept = Kept {
            start,
            devices: BTreeMap::new(),
            symbols: HashMap::new(),
            totals: Totals::default(),
            before: None,
            pieces: VecDeque::new(),
            end: None,
        };
        let (open, came) = (Open::new(Ordinals::default())?, Ordinals::default());
        Ok(Self {
            kept,
            open,
            came,
            keep: keep + SLACK,
            hold_from_ns: u64::MAX,
            most_bytes,
            bytes: 0,
            many_devices: MANY_DEVICES,
            latest_slots_ns: 0,
        })
    }

    /// Takes in an item.
    pub(super) fn take(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Start(_) => {}
            Item::Device(device) => drop(self.kept.devices.insert(device.id.0, device)),
            Item::Symbols(symbols) => {
                let room = MOST_SYMBOLS.saturating_sub(self.kept.symbols.len());
                self.kept.symbols.extend(symbols.into_iter().take(room).map(|symbol| (symbol.addr, symbol)));
            }
            Item::Events(batch) => self.events(&batch)?,
            Item::Pool(sample) => self.open.pool = Some(sample),
            Item::Counters(counters) => self.open.counters = counters,
            Item::End(end) => self.kept.end = Some(end),
            Item::Sites(_) | Item::Lengths(_) | Item::Slab(_) | Item::PoolTimes(_) | Item::Passed(_) => {
                self.open.others.write(&item)?;
            }
        }
        Ok(())
    }

    fn events(&mut self, batch: &Batch) -> Result<()> {
        for event in &batch.events {
            self.came.next(event);
            let mut event = *event;
            if let What::MapSg { first_segment, segments, .. } = &mut event.what {
                let recorded = batch.segments.get(*first_segment as usize..).unwrap_or_default();
                let recorded = &recorded[..recorded.len().min(*segments as usize)];
                *first_segment = self.open.batch.segments.len() as u32;
                self.open.batch.segments.extend_from_slice(recorded);
            }
            if let Some(device) = event.what.device_mut() {
                self.open.devices.insert(device.0);
            }
            if event.what.takes_slots() {
                let latest = self.kept.pieces.iter().rev().take(2);
                latest.for_each(|piece| piece.moment.note_slots(event.time_ns));
                self.latest_slots_ns = event.time_ns;
            }
            self.open.batch.events.push(event);
            if self.open.batch.events.len() >= FRAME_EVENTS {
                self.open.pack()?;
            }
        }
        Ok(())
    }

    /// The counters have been read: ends the piece, and lets go of those that are too old or too many.
    pub(super) fn counted(&mut self, has_sums: bool, cpu_ns: u64) -> Result<()> {
        self.open.pack()?;
        let open = std::mem::replace(&mut self.open, Open::new(self.came.clone())?);
        let (mut events, mut others) = (open.events.into_inner()?, open.others.into_inner()?);
        events.shrink_to_fit();
        others.shrink_to_fit();
        let moment = Moment { counters: open.counters, pool: open.pool, has_sums, cpu_ns, busy: AtomicBool::default() };
        moment.note_slots(self.latest_slots_ns);
        let moment = Arc::new(moment);
        let now_ns = moment.counters.time_ns;
        let piece = Piece { first: open.first, events, others, devices: open.devices.into_iter().collect(), moment };
        self.bytes += piece.bytes() as u64;
        self.kept.pieces.push_back(Arc::new(piece));
        let oldest_ns = now_ns.saturating_sub(self.keep.as_nanos() as u64);
        let held_ns = self.hold_from_ns.saturating_sub(SLACK.as_nanos() as u64);
        let oldest_ns = oldest_ns.min(held_ns);
        loop {
            let count = self.kept.pieces.len();
            let Some(first) = self.kept.pieces.front().filter(|_| count > 1) else { break };
            let is_too_much = self.bytes > self.most_bytes && count > FEWEST;
            if !is_too_much && first.moment.counters.time_ns >= oldest_ns {
                break;
            }
            self.drop_first()?;
        }
        self.drop_devices();
        Ok(())
    }

    fn drop_first(&mut self) -> Result<()> {
        let Some(first) = self.kept.pieces.pop_front() else { return Ok(()) };
        self.bytes -= first.bytes() as u64;
        let totals = &mut self.kept.totals;
        first.others(|item| {
            totals.take(&item);
            Ok(())
        })?;
        self.kept.before = Some(Arc::clone(&first.moment));
        Ok(())
    }

    /// Lets go of descriptions that neither a piece, nor a total, nor an event to come refers to.
    fn drop_devices(&mut self) {
        if self.kept.devices.len() < self.many_devices {
            return;
        }
        let mut named: BTreeSet<u32> = self.kept.pieces.iter().flat_map(|piece| &piece.devices).copied().collect();
        named.extend(self.kept.totals.lengths.keys().map(|key| key.0.0));
        let latest: HashMap<&str, u32> =
            self.kept.devices.values().map(|device| (device.name.as_str(), device.id.0)).collect();
        named.extend(latest.into_values());
        self.kept.devices.retain(|id, _| named.contains(id));
        self.many_devices = (2 * self.kept.devices.len()).max(MANY_DEVICES);
    }

    /// Keeps what came from this moment on however old it becomes, as long as there is memory; with `None`, no longer.
    pub(super) fn hold(&mut self, from_ns: Option<u64>) {
        self.hold_from_ns = from_ns.unwrap_or(u64::MAX);
    }

    /// When the counters were read last, ns; 0 before they have been.
    pub(super) fn now_ns(&self) -> u64 {
        self.kept.pieces.back().map_or(0, |piece| piece.moment.counters.time_ns)
    }

    /// Bytes of the pieces.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Everything that is kept, as it stands.
    pub(super) fn kept(&self) -> Kept {
        self.kept.clone()
    }
}
