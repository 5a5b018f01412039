//! Two mappings in one cache line at the same time: what replay counts under each policy and of the real kernel, held against comparing
//! all pairs; and what it says of them.

use std::collections::VecDeque;
use std::convert::Infallible;

use proptest::prelude::*;
use tracer::check::{Rules, Verdict, judge};
use tracer::event::{Batch, DeviceId, Direction, Event, Memory, Segment, What};
use tracer::facts::{Device, End, Hook, KernelFacts, PoolFacts, Symbol};
use tracer::model::policy::builtin;
use tracer::replay::{
    Replayed, Wanted, replay,
    settings::{Settings, WhatIf},
};
use tracer::stream::{Item, Source, Start};
use tracer_ebpf::decide::Decider;
use tracer_ebpf::streamed::Streamed;

const SLOTS: u64 = 0x8000_0000;
const MEMORY: u64 = 0x4000_0000;

struct Items(VecDeque<Item>);

impl Source for Items {
    type Error = Infallible;

    fn next_item(&mut self) -> Result<Option<Item>, Infallible> {
        Ok(self.0.pop_front())
    }
}

/// One buffer mapped by one of three devices, of which the last is coherent.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    device: u32,
    start: u64,
    size: u64,
    direction: Direction,
    /// By way of a list of this buffer alone.
    listed: bool,
}

impl Mapped {
    fn bounces(&self, line: u32) -> bool {
        let decider = Decider { bounce_unaligned: 1, cache_line_size: line, minalign: 8, dma_minalign: 128 };
        decider.needs_bounce(self.device == 2, self.direction as u8, self.size)
    }

    fn written(&self) -> bool {
        self.direction != Direction::ToDevice
    }
}

/// What happens: something is mapped, or the n-th of what is mapped is unmapped.
#[derive(Clone, Copy, Debug)]
enum Step {
    Map(Mapped),
    Unmap(usize),
}

fn start(streamed: Streamed) -> Start {
    let hook = |subject: &str| Hook { subject: subject.into(), attached: true, ..Hook::default() };
    Start {
        kernel: KernelFacts {
            machine: "aarch64".into(),
            page_size: 4096,
            possible_cpus: 1,
            cache_line_size: 64,
            dma_minalign: 128,
            kmalloc_minalign: 8,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots: 32768, areas: 1, hiwater_reset: true, ..PoolFacts::default() },
            ..KernelFacts::default()
        },
        hooks: ["slot_map", "slot_unmap", "bounced", "map", "unmap", "map_sg", "unmap_sg"].map(hook).into(),
        streamed,
        ..Start::default()
    }
}

/// The events of a kernel with lines of 64 bytes and a pool that is never full.
fn stream(steps: &[Step], streamed: Streamed) -> Items {
    let device = |id, name: &str, coherent| {
        let device =
            Device { id: DeviceId(id), name: name.into(), driver: "usb".into(), coherent, ..Device::default() };
        Item::Device(Device { dma_mask: u64::MAX, ..device })
    };
    let mut batch = Batch::default();
    let mut live: Vec<(u64, Mapped)> = Vec::new();
    let push = |batch: &mut Batch, what| {
        let time_ns = 1000 * (batch.events.len() as u64 + 1);
        batch.events.push(Event { time_ns, task: 7, cpu: 0, what });
    };
    for (n, step) in steps.iter().enumerate() {
        match *step {
            Step::Map(one) => {
                let Mapped { device, start: phys, size, direction, listed } = one;
                let (device, slot, list) = (DeviceId(device), SLOTS + n as u64 * 4096, 0x1000 + n as u64 * 32);
                let dma_addr = if one.bounces(64) {
                    push(&mut batch, What::Bounced { device, dev_addr: phys, size });
                    let duration_ns = 10;
                    push(&mut batch, What::SlotMap { device, phys, slot, size, align_mask: 0, direction, duration_ns });
                    slot
                } else {
                    phys
                };
                if listed {
                    let first_segment = batch.segments.len() as u32;
                    batch.segments.push(Segment {
                        offset: (phys % 4096) as u32,
                        length: size as u32,
                        dma_addr,
                        dma_len: size as u32,
                        ..Segment::default()
                    });
                    let (attrs, caller) = (0, 0x77);
                    push(
                        &mut batch,
                        What::MapSg {
                            device,
                            list,
                            nents: 1,
                            ents: 1,
                            direction,
                            attrs,
                            caller,
                            first_segment,
                            segments: 1,
                        },
                    );
                } else {
                    let memory = Memory::Unknown;
                    push(&mut batch, What::Map { device, phys, dma_addr, size, direction, memory, attrs: 0 });
                }
                live.push((n as u64, one));
            }
            Step::Unmap(at) if !live.is_empty() => {
                let (n, one) = live.remove(at % live.len());
                let Mapped { device, start: phys, size, direction, listed } = one;
                let (device, slot, attrs) = (DeviceId(device), SLOTS + n * 4096, 0);
                if one.bounces(64) {
                    push(&mut batch, What::SlotUnmap { device, slot, size, direction });
                }
                if listed {
                    let list = 0x1000 + n * 32;
                    push(&mut batch, What::UnmapSg { device, list, nents: 1, direction, attrs });
                } else {
                    let dma_addr = if one.bounces(64) { slot } else { phys };
                    push(&mut batch, What::Unmap { device, dma_addr, size, direction, attrs });
                }
            }
            Step::Unmap(_) => {}
        }
    }
    let symbol = Symbol { addr: 0x77, name: "map_buffer+0x8".into(), module: "vb2".into() };
    let items = [
        Item::Start(start(streamed)),
        device(0, "1-1", false),
        device(1, "2-1", false),
        device(2, "3-1", true),
        Item::Events(batch),
        Item::Symbols(vec![symbol]),
        Item::End(End::default()),
    ];
    Items(items.into())
}

/// Kernels with the captured caches, their line, and whether they bounce what is short. Of nothing here is it known that it shares its lines.
const KERNELS: [(&str, u32, bool); 4] =
    [("mainline", 64, true), ("exact", 64, false), ("exact", 256, false), ("mainline", 128, true)];

fn replayed(steps: &[Step], streamed: Streamed) -> Replayed {
    let wanted = |start: &Start| Wanted {
        settings: KERNELS
            .iter()
            .map(|(policy, line, _)| {
                let change = WhatIf { cache_line_size: Some(*line), ..WhatIf::default() };
                Settings::what_if(&start.kernel, &builtin(policy).unwrap(), &change)
            })
            .collect(),
        verdict: true,
        overlaps: true,
        ..Wanted::default()
    };
    replay(&mut stream(steps, streamed), wanted).unwrap()
}

/// By comparing all pairs: buffers that are mapped as they are while another is, in one of their lines; those for which one of the pairs has
/// bytes in common could be named.
fn by_all_pairs(steps: &[Step], line: u32, bounces: bool) -> u64 {
    let mut live: Vec<Mapped> = Vec::new();
    let mut overlaps = 0;
    let is_left = |one: &Mapped| one.device != 2 && !(bounces && one.bounces(line));
    for step in steps {
        match step {
            Step::Map(one) => {
                let lines = |one: &Mapped| (one.start / u64::from(line), (one.start + one.size - 1) / u64::from(line));
                let share = |other: &&Mapped| lines(one).0 <= lines(other).1 && lines(other).0 <= lines(one).1;
                let harms = |other: &&Mapped| one.written() || other.written();
                let beside = live.iter().filter(|other| is_left(other)).filter(share).any(|other| harms(&other));
                overlaps += u64::from(is_left(one) && beside);
                live.push(*one);
            }
            Step::Unmap(at) if !live.is_empty() => drop(live.remove(at % live.len())),
            Step::Unmap(_) => {}
        }
    }
    overlaps
}

fn any_step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![1_u64..40, 100_u64..400, Just(4096_u64)];
    let direction = prop::sample::select(vec![Direction::ToDevice, Direction::FromDevice, Direction::Bidirectional]);
    let mapped =
        (0_u32..3, 0_u64..3000, size, direction, any::<bool>()).prop_map(|(device, at, size, direction, listed)| {
            Step::Map(Mapped { device, start: MEMORY + at, size, direction, listed })
        });
    prop_oneof![3 => mapped, 2 => any::<usize>().prop_map(Step::Unmap)]
}

proptest! {
    #[test]
    fn each_policy_and_the_kernel_overlap_as_comparing_all_pairs_says(steps in prop::collection::vec(any_step(), 1..60)) {
        let replayed = replayed(&steps, Streamed::All);
        prop_assert_eq!(replayed.verdict.disagreements, 0);
        for (outcome, (policy, line, bounces)) in replayed.outcomes.iter().zip(KERNELS) {
            let expected = by_all_pairs(&steps, line, bounces);
            prop_assert_eq!(outcome.total.overlaps, expected, "{} with lines of {}", policy, line);
            prop_assert_eq!(outcome.rows.overlaps.iter().map(|row| row.overlaps).sum::<u64>(), expected);
        }
        prop_assert_eq!(replayed.observed.total().overlaps, by_all_pairs(&steps, 64, true));
    }
}

/// A long buffer of the first device, and another of the second in its last line, mapped by way of a list.
fn two() -> [Step; 2] {
    let one = Mapped { device: 0, start: MEMORY, size: 300, direction: Direction::ToDevice, listed: false };
    let direction = Direction::FromDevice;
    [Step::Map(one), Step::Map(Mapped { device: 1, start: MEMORY + 300, size: 300, direction, listed: true })]
}

#[test]
fn both_devices_and_who_mapped_the_list_are_named() {
    let replayed = replayed(&two(), Streamed::All);
    let [row] = &replayed.observed_rows.overlaps[..] else { panic!("{:?}", replayed.observed_rows.overlaps) };
    let later = (row.later.device.as_str(), row.later.call_site.as_str(), row.later.module.as_str());
    assert_eq!(later, ("2-1", "map_buffer+0x8", "vb2"));
    let earlier = (row.earlier.device.as_str(), row.earlier.driver.as_str(), row.earlier.call_site.as_str());
    assert_eq!((earlier, row.same_bytes, row.overlaps), (("1-1", "usb", ""), false, 1));
    let text = tracer::report::replay::text(&replayed, None);
    assert!(text.contains("2-1 (usb), map_buffer+0x8 [vb2] beside 1-1 (usb) "), "{text}");
}

#[test]
fn rules_about_overlaps_are_broken_by_what_was_seen_and_cannot_tell_what_was_not_recorded() {
    let text = "[[rule]]\nfigure = \"overlaps\"\nmax = 0\n[[rule]]\nfigure = \"overlaps\"\nmax = 1\n";
    let rules = Rules::from_toml(text, |path| Err(path.to_owned())).unwrap();
    let judged = |streamed| {
        let mut replayed = replayed(&two(), streamed);
        replayed.verdict.not_compared.clear();
        let judgements = judge(&rules, "two", &replayed);
        judgements.into_iter().map(|judgement| judgement.verdict).collect::<Vec<_>>()
    };
    let all = judged(Streamed::All);
    assert!(matches!(&all[..], [Verdict::Broken, Verdict::Kept]), "{all:?}");
    let written = judged(Streamed::Written);
    assert!(matches!(&written[..], [Verdict::Broken, Verdict::CannotTell(_)]), "{written:?}");
}
