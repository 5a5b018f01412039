//! The running kernel for `doctor`: facts, and whether attached hooks really fire. Changes nothing: the pool's high-water mark
//! stays as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{LiveError, MapEntries, Options, Places, Session, provoke};
use crate::{
    doctor::{Examined, Here},
    kernel::{btf::Btf, device_tree, facts, root::Root},
    stream::{Item, Start, Streamed},
};

/// The ring that `record` has unless told otherwise, bytes.
const RING_BYTES: u32 = 8 << 20;
/// One allocation in how many it follows, likewise: the hooks of frees are attached, and there is room for objects.
const SAMPLE: u64 = 64;
/// How often the ring is emptied when nothing asks for it.
const DRAIN_EVERY: Duration = Duration::from_millis(50);

/// Looks at the running kernel, with the hooks attached for `window`. Where they cannot be, what can be read without them is
/// there, and why. `btf` as in [`Options`]. Must run inside a tokio runtime.
pub async fn self_test(window: Duration, btf: Option<&Path>) -> (Examined, Here) {
    let root = Root::default();
    let mut examined = Examined::default();
    let mut here = Here { device_tree: device_tree::read(&root), ..Here::default() };
    if let Err(error) = trace(&root, window, btf, &mut examined, &mut here).await {
        here.why_not = Some(error.to_string());
        if examined.start == Start::default() {
            examined.start = untraced(&root, btf);
        }
    }
    (examined, here)
}

/// What a start says of the kernel without any program.
fn untraced(root: &Root, btf: Option<&Path>) -> Start {
    let btf = btf.map_or_else(Btf::of_running_kernel, Btf::from_file).ok();
    let (kernel, notes) = facts::read(root, btf.as_ref());
    Start { kernel, notes, ..Start::default() }
}

async fn trace(
    root: &Root,
    window: Duration,
    btf: Option<&Path>,
    examined: &mut Examined,
    here: &mut Here,
) -> Result<(), LiveError> {
    let options = Options {
        allocation_sample: SAMPLE,
        streamed: Streamed::All,
        ring_bytes: RING_BYTES,
        map_entries: MapEntries::default(),
        count_tracefs: false,
        places: Places::Best,
        programs_log: false,
        count_costs: true,
        btf: btf.map(PathBuf::from),
        shrink_caches: false,
        recorder: String::new(),
        reset_hiwater: false,
    };
    let (mut session, start) = Session::start(&options)?;
    examined.take(Item::Start(start));
    here.map_bytes = map_bytes();
    let began = Instant::now();
    if provoke::allocations() {
        here.provoked = provoke::ALLOCATIONS.map(str::to_owned).to_vec();
    }
    provoke::mappings(root);
    let mut drain = interval(DRAIN_EVERY);
    drain.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = sleep_until(began + window);
    tokio::pin!(end);
    loop {
        tokio::select! {
            ready = session.ring_fills() => ready?,
            _ = drain.tick() => {}
            () = &mut end => break,
        }
        let items = session.drain();
        take_all(examined, items);
    }
    here.watched_ms = began.elapsed().as_millis() as u64;
    take_all(examined, session.stop()?);
    Ok(())
}

fn take_all(examined: &mut Examined, items: Vec<Item>) {
    for item in items {
        examined.take(item);
    }
}

/// Kernel memory of the maps that this process holds, bytes, as their fdinfo says (`memlock`, `bpf_map_show_fdinfo()` in
/// `kernel/bpf/syscall.c`); a map that is held twice counts once.
fn map_bytes() -> u64 {
    let infos = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    let mut maps: Vec<(u64, u64)> = infos.filter_map(|info| map(&fs::read_to_string(info.path()).ok()?)).collect();
    maps.sort_unstable();
    maps.dedup();
    maps.iter().map(|(_, bytes)| bytes).sum()
}

/// Number and size of a map by its fdinfo; `None` for what is no map.
fn map(fdinfo: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let value = fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().parse().ok()
    };
    field("map_type").map(|_: u64| ())?;
    Some((field("map_id")?, field("memlock")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_told_from_other_descriptors() {
        let info = "pos:\t0\nmap_type:\t27\nmax_entries:\t8388608\nmemlock:\t8434072\nmap_id:\t7\n";
        assert_eq!(map(info), Some((7, 8_434_072)));
        assert_eq!(map("pos:\t0\nprog_type:\t17\nmemlock:\t4096\nprog_id:\t7\n"), None);
    }
}
