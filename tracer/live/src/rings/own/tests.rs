//! The reader of the rings against their writer: every order in which stores may become visible, any objects, and overload.

use std::{
    cell::UnsafeCell,
    collections::HashSet,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use tracer_ebpf::object_ring::{LEAST_LOG2, PlaceWords, Put, put};

use bouncescope_capture::event::{Event, What};
use tracer_ebpf::object_ring::{Now, Place, take_turn};

use super::super::source::Merge;
use super::*;

type Words = Box<[AtomicU64]>;

fn zeros(words: usize) -> Words {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

fn memory(geometry: Geometry) -> Arc<Memory<Words>> {
    Arc::new(Memory { control: zeros(geometry.control_bytes() / 8), slots: zeros(geometry.slot_bytes() / 8) })
}

/// What the program of a CPU does, run here.
struct Program {
    memory: Arc<Memory<Words>>,
    span: Span,
    control: usize,
    /// Of the CPU.
    clock: usize,
    places: Vec<UnsafeCell<PlaceWords>>,
}

// SAFETY: each is used by one thread at a time.
unsafe impl Sync for Program {}

impl Program {
    fn new(memory: &Arc<Memory<Words>>, geometry: Geometry, cpu: u32, writer: Writer) -> Self {
        let control = (cpu * RINGS + writer as u32) as usize * size_of::<Control>() / 8;
        let places = (0..PLACES).map(|_| UnsafeCell::new([0; 3])).collect();
        let clock = (cpu * RINGS) as usize * size_of::<Control>() / 8 + offset_of!(Control, clock) / 8;
        Self { memory: Arc::clone(memory), span: Span::of(writer, cpu, geometry.log2), control, clock, places }
    }

    fn put(&self, place: Option<(u32, Place)>, ptr: u64, time_ns: u64, task: u32) -> Put {
        let control = self.memory.control[self.control].as_ptr().cast();
        let shared = place.map(|(number, place)| (self.places[number as usize].get(), number, place));
        let slots = |slot: u32| Some(self.memory.slots[slot as usize * 2].as_ptr().cast());
        // SAFETY: all of it is alive, and only this writes there.
        unsafe {
            let now = || Now { time_ns, turn: take_turn(self.memory.control[self.clock].as_ptr(), time_ns), task };
            put(control, shared, ptr, self.span, now, slots)
        }
    }
}

fn kmalloc(time_ns: u64, task: u32, ptr: u64, place: Place) -> Event {
    let Place { call_site, bytes_req, bytes_alloc, gfp, .. } = place;
    let (bytes_req, bytes_alloc, gfp) = (bytes_req.into(), bytes_alloc.into(), gfp.into());
    Event { time_ns, task, cpu: 0, what: What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp } }
}

fn read<S: Source>(sources: &mut [S], before_ns: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let _ = Merge::default().read(sources, before_ns, |record| {
        match record {
            Record::Object(object) => events.push(object.event()),
            Record::Bytes(bytes) => panic!("{bytes:?}"),
        }
        ControlFlow::Continue(())
    });
    events
}

const ONE: Geometry = Geometry { cpus: 1, log2: LEAST_LOG2 };

/// A machine that lets stores become visible in any order but that of one word, and loads see them at any time.
///
/// A ring of two slots; the writer is ahead of the reader by two at the most. All orders are tried: of the writer's stores, of the reader's two
/// loads of a slot, which may be far apart, and of the reader's own stores.
mod reordered {
    use super::*;

    const SPAN: Span = Span { first: 0, log2: 1 };
    /// Three laps.
    const EVENTS: u64 = 6;

    #[derive(Clone, PartialEq, Eq, Hash)]
    struct State {
        /// What is visible of both words of both slots.
        words: [u64; 4],
        /// Stores of the writer that are not visible yet: word and value, in the order of the program.
        stores: Vec<(usize, u64)>,
        written: u64,
        /// The reader's tail as it is visible to the writer.
        tail: u64,
        at: u64,
        /// The reader's loads of the slot, as far as they were made.
        loaded: [Option<u64>; 2],
    }

    /// What the writer puts into the `n`-th slot.
    fn slot(n: u64) -> Slot {
        Slot::Event { index: n as u32, ptr: n, task: n as u32 + 1, turn: n & 1, time: n + 1 }
    }

    /// What a reader takes both words for that looks at the laps of so many of them.
    fn believed(state: &State, checked: usize) -> Option<Slot> {
        let [Some(first), Some(second)] = state.loaded else { return None };
        let lap = SPAN.lap(state.at);
        let is_checked = |n, word: u64| if n < checked { word } else { word & !LAP | lap };
        whole([is_checked(0, first), is_checked(1, second)], lap)
    }

    fn successors(state: &State, checked: usize, found: &mut Vec<State>) {
        // The writer: both words of the next slot, where the tail that it sees leaves room. That is a branch on a load, which its stores follow.
        if state.written < EVENTS && state.written < state.tail + SPAN.size() {
            let mut next = state.clone();
            let at = SPAN.slot(state.written) as usize * 2;
            let lap = SPAN.lap(state.written);
            let [first, second] = slot(state.written).encode();
            next.stores.extend([(at, first | lap), (at + 1, second | lap)]);
            next.written += 1;
            found.push(next);
        }
        // Any store becomes visible, unless one of the same word is before it.
        for (n, (word, value)) in state.stores.iter().enumerate() {
            if state.stores[..n].iter().all(|(before, _)| before != word) {
                let mut next = state.clone();
                next.words[*word] = *value;
                next.stores.remove(n);
                found.push(next);
            }
        }
        // The reader loads one of the words.
        if state.at < EVENTS {
            for word in 0..2 {
                if state.loaded[word].is_none() {
                    let mut next = state.clone();
                    next.loaded[word] = Some(state.words[SPAN.slot(state.at) as usize * 2 + word]);
                    found.push(next);
                }
            }
        }
        // It has both, and goes on or tries again.
        if state.loaded.iter().all(Option::is_some) {
            let at = state.at + u64::from(believed(state, checked).is_some());
            found.push(State { at, loaded: [None; 2], ..state.clone() });
        }
        // Its tail becomes visible: behind the loads, which is what release means, and any time later.
        for tail in state.tail + 1..=state.at {
            found.push(State { tail, ..state.clone() });
        }
    }

    /// Everything that can happen; the slots that were believed and are not what was written there.
    fn wrong(checked: usize) -> (usize, usize) {
        let start = State { words: [0; 4], stores: Vec::new(), written: 0, tail: 0, at: 0, loaded: [None; 2] };
        let (mut seen, mut open, mut wrong, mut ends) = (HashSet::from([start.clone()]), vec![start], 0, 0);
        while let Some(state) = open.pop() {
            wrong += usize::from(believed(&state, checked).is_some_and(|believed| believed != slot(state.at)));
            ends += usize::from(state.at == EVENTS);
            let mut found = Vec::new();
            successors(&state, checked, &mut found);
            for next in found {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        (wrong, ends)
    }

    #[test]
    fn no_order_of_stores_and_loads_makes_the_reader_believe_half_a_slot() {
        let (wrong, ends) = wrong(2);
        assert_eq!(wrong, 0);
        assert!(ends > 0, "the reader never comes to the end");
    }

    #[test]
    fn with_the_lap_of_one_word_or_none_it_would() {
        assert!(wrong(1).0 > 0 && wrong(0).0 > 0);
    }
}

fn place() -> impl Strategy<Value = Place> {
    // Few, so that they come again; and any.
    let sites = prop_oneof![0..6_u64, any::<u64>()];
    let flags = prop_oneof![Just(0xcc0), any::<u32>()];
    (sites, 0..3_u32, prop_oneof![Just(8), any::<u32>()], flags).prop_map(|(call_site, bytes_req, bytes_alloc, gfp)| {
        Place { call_site, bytes_req, bytes_alloc, gfp, reserved: 0 }
    })
}

fn ptr() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>().prop_map(|ptr| 0xffff_8000_0000_0000 | ptr & !7), any::<u64>(), Just(0), Just(16)]
}

/// Time since the event before: small, and now and then longer than what an event has of it.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..1000_u64, 1 => 0..1_u64 << (TIME_BITS + 2)]
}

proptest! {
    // Each has hundreds of objects.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_that_has_room_is_read_as_it_happened(
        objects in prop::collection::vec((place(), 0..3_u32, ptr(), pause(), 0..4_u32 << 20, 0..20_u8), 1..900),
    ) {
        let memory = memory(ONE);
        let program = Program::new(&memory, ONE, 0, Writer::Kmalloc);
        let mut rings = [CpuRings::new(&memory, ONE, 0)];
        let (mut now, mut recorded, mut got, mut refused) = (5, Vec::new(), Vec::new(), 0_u64);
        for (place, number, ptr, pause, task, reads) in objects.iter().copied() {
            now += pause;
            match program.put(Some((number, place)), ptr, now, task) {
                Put::In | Put::Fills => recorded.push(kmalloc(now, task, ptr, place)),
                Put::Refused => refused += 1,
                Put::Nested => panic!("nothing is nested"),
            }
            // Rarely, so that it fills up too.
            if reads == 0 && now % 3 == 0 {
                got.extend(read(&mut rings, u64::MAX));
            }
        }
        got.extend(read(&mut rings, u64::MAX));
        prop_assert_eq!(&got, &recorded);
        let counts = memory.counts(ONE);
        prop_assert_eq!(&counts.allocated, &vec![[objects.len() as u64, refused]]);
        prop_assert_eq!(&counts.freed, &vec![[0, 0]]);
    }

    #[test]
    fn whatever_is_in_the_slots_is_read_without_a_panic(words in prop::collection::vec(any::<u64>(), 600)) {
        let memory = memory(ONE);
        for (to, from) in memory.slots.iter().zip(&words) {
            to.store(*from, Ordering::Relaxed);
        }
        read(&mut [CpuRings::new(&memory, ONE, 0)], u64::MAX);
    }
}

const SITE: Place = Place { call_site: 0xffff_8000_1000_0010, bytes_req: 24, bytes_alloc: 32, gfp: 0xcc0, reserved: 0 };
const PTR: u64 = 0xffff_0000_0123_4568;

#[test]
fn a_definition_that_the_full_ring_refuses_leaves_the_place_as_it_was() {
    let memory = memory(ONE);
    let program = Program::new(&memory, ONE, 0, Writer::Kmalloc);
    let other = Place { call_site: SITE.call_site + 8, ..SITE };
    let size = program.span.size();
    // Two slots for the place, and one for each object.
    for n in 0..size - 2 {
        let put = program.put(Some((7, SITE)), PTR, 10 + n, 1);
        assert!(matches!(put, Put::In | Put::Fills), "{n}: {put:?}");
    }
    assert_eq!(program.put(Some((7, other)), PTR, 1000, 1), Put::Refused);
    assert_eq!(program.put(Some((7, SITE)), PTR, 1001, 1), Put::Refused);
    let mut rings = [CpuRings::new(&memory, ONE, 0)];
    assert_eq!(read(&mut rings, u64::MAX).len() as u64, size - 2);
    // The place is what it was, and then it is not.
    assert_eq!(program.put(Some((7, SITE)), PTR, 1002, 1), Put::In);
    assert_eq!(program.put(Some((7, other)), PTR, 1003, 1), Put::In);
    assert_eq!(read(&mut rings, u64::MAX), [kmalloc(1002, 1, PTR, SITE), kmalloc(1003, 1, PTR, other)]);
    assert_eq!(memory.counts(ONE).allocated, [[size + 2, 2]]);
}

#[test]
fn a_program_that_interrupts_itself_is_turned_away() {
    let memory = memory(ONE);
    let program = Program::new(&memory, ONE, 0, Writer::Kfree);
    let control: *mut Control = memory.control[program.control].as_ptr().cast();
    let shared = || Some((program.places[0].get(), 0, SITE));
    let slots = |slot: u32| Some(memory.slots[slot as usize * 2].as_ptr().cast());
    let mut inner = Put::In;
    // SAFETY: all of it is alive; the inner one runs while the outer one does, as an interrupt would.
    let outer = unsafe {
        let interrupt = || {
            inner = put(control, shared(), PTR, program.span, || Now { time_ns: 6, turn: 0, task: 2 }, slots);
            Now { time_ns: 5, turn: 0, task: 1 }
        };
        put(control, shared(), PTR, program.span, interrupt, slots)
    };
    assert_eq!((outer, inner), (Put::In, Put::Nested));
    // SAFETY: as above; the caller counts it.
    unsafe { (*control).nested += 1 };
    assert_eq!(memory.counts(ONE).freed, [[2, 1]]);
}

#[test]
fn the_reader_is_woken_at_each_quarter_until_it_comes() {
    let memory = memory(ONE);
    let program = Program::new(&memory, ONE, 0, Writer::Bulk);
    let mut rings = [CpuRings::new(&memory, ONE, 0)];
    let (size, mut fills) = (program.span.size(), Vec::new());
    for n in 0..size {
        if program.put(None, PTR, n, 1) == Put::Fills {
            fills.push(n + 1);
        }
    }
    assert_eq!(fills, [size / 4, size / 2, size * 3 / 4, size]);
    assert_eq!(program.put(None, PTR, size, 1), Put::Refused);
    assert_eq!(read(&mut rings, u64::MAX).len() as u64, size);
    // What has been read is no reason.
    let again: Vec<_> = (0..size / 4).map(|n| program.put(None, PTR, size + n, 1)).collect();
    assert_eq!(again.iter().filter(|put| **put == Put::Fills).count(), 1);
}

#[test]
fn an_object_that_is_freed_and_allocated_again_in_one_tick_keeps_its_order() {
    let memory = memory(ONE);
    let program = |writer| Program::new(&memory, ONE, 0, writer);
    let (kmalloc, kfree) = (program(Writer::Kmalloc), program(Writer::Kfree));
    let mut rings = [CpuRings::new(&memory, ONE, 0)];
    let mut happened = Vec::new();
    // Allocated first, or freed first, or both in turn, twice in a tick.
    for (tick, order) in ["af", "fa", "fafa", "afaf", "ffa", "aff"].into_iter().enumerate() {
        let time_ns = 52 * (tick as u64 + 1);
        for one in order.chars() {
            let writer = if one == 'a' { &kmalloc } else { &kfree };
            writer.put(Some((0, SITE)), PTR, time_ns, 1);
            happened.push((time_ns, one == 'a'));
        }
    }
    let read = read(&mut rings, u64::MAX);
    let read: Vec<_> = read.iter().map(|event| (event.time_ns, matches!(event.what, What::Kmalloc { .. }))).collect();
    assert_eq!(read, happened);
}

#[test]
fn what_is_freed_to_be_allocated_in_the_same_tick_comes_before_what_is_mapped_then() {
    let memory = memory(ONE);
    let program = |writer| Program::new(&memory, ONE, 0, writer);
    let rank = |order: Option<Order>| order.map(|order| order & 3);
    program(Writer::Kfree).put(Some((0, SITE)), PTR, 52, 1);
    let mut rings = CpuRings::new(&memory, ONE, 0);
    rings.look();
    assert_eq!(rank(rings.first()), Some(FREED));
    program(Writer::Kmalloc).put(Some((0, SITE)), PTR, 52, 1);
    rings.look();
    assert_eq!(rank(rings.first()), Some(ALLOCATED));
}

#[test]
fn allocations_and_frees_of_all_cpus_come_in_the_order_of_time() {
    let geometry = Geometry { cpus: 2, log2: LEAST_LOG2 };
    let memory = memory(geometry);
    let program = |cpu, writer| Program::new(&memory, geometry, cpu, writer);
    let at = |program: &Program, times: &[u64]| {
        for time in times {
            program.put(Some((0, SITE)), PTR, *time, 1);
        }
    };
    at(&program(0, Writer::Kmalloc), &[10, 40, 71]);
    at(&program(0, Writer::Kfree), &[20, 40, 90]);
    at(&program(1, Writer::Kmalloc), &[15, 60]);
    program(1, Writer::Bulk).put(None, PTR, 65, 1);
    let mut rings = [0, 1].map(|cpu| CpuRings::new(&memory, geometry, cpu));
    let of = |event: &Event| (event.time_ns, event.cpu, matches!(event.what, What::Kmalloc { .. }));
    let before: Vec<_> = read(&mut rings, 70).iter().map(of).collect();
    // In one tick of the clock, an object is allocated first.
    let expected =
        [(10, 0, true), (15, 1, true), (20, 0, false), (40, 0, true), (40, 0, false), (60, 1, true), (65, 1, false)];
    assert_eq!(before, expected);
    let after: Vec<_> = read(&mut rings, u64::MAX).iter().map(of).collect();
    assert_eq!(after, [(71, 0, true), (90, 0, false)]);
}

/// A writer on a thread of its own, at full speed, and a reader that is too slow for it.
#[test]
fn in_overload_what_is_not_read_is_counted() {
    for nap_us in [0, 10, 100, 1000] {
        let memory = memory(ONE);
        let program = Program::new(&memory, ONE, 0, Writer::Kmalloc);
        let mut rings = [CpuRings::new(&memory, ONE, 0)];
        let ended = AtomicBool::new(false);
        let (mut events, mut tried, mut refused) = (Vec::new(), 0, 0);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut tried, mut refused) = (0, 0);
                let until = Instant::now() + Duration::from_millis(100);
                while Instant::now() < until {
                    for _ in 0..256 {
                        tried += 1;
                        // Places change now and then; all that is in an event follows from its time.
                        let (number, place) = expected(tried);
                        refused +=
                            u64::from(program.put(Some((number, place)), PTR ^ tried << 3, tried, 1) == Put::Refused);
                    }
                }
                ended.store(true, Ordering::Release);
                (tried, refused)
            });
            loop {
                let last = ended.load(Ordering::Acquire);
                events.extend(read(&mut rings, u64::MAX));
                if last {
                    break;
                }
                thread::sleep(Duration::from_micros(nap_us));
            }
            (tried, refused) = writer.join().unwrap();
        });
        assert_eq!(events.len() as u64 + refused, tried);
        assert_eq!(memory.counts(ONE).allocated, [[tried, refused]]);
        for event in &events {
            let n = event.time_ns;
            assert_eq!(*event, kmalloc(n, 1, PTR ^ n << 3, expected(n).1));
        }
    }
}

fn expected(n: u64) -> (u32, Place) {
    let changed = n / 37;
    ((changed % 3) as u32, Place { call_site: SITE.call_site + changed, ..SITE })
}
