//! The running kernel for `doctor`: facts, and whether attached hooks really fire. Changes nothing: the pool's high-water mark
//! stays as it is.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{LiveError, Options, Session, Sink, provoke, record};
use crate::kernel::{btf::Btf, device_tree, facts, root::Root};
use bouncescope_capture::facts::Here;
use bouncescope_capture::stream::{Item, Start, Streamed};

/// Looks at the running kernel, with the hooks attached for `window`. Where they cannot be, what can be read without them is
/// there, and why. `btf` as in [`Options`]. Must run inside a tokio runtime.
/// `sink` takes what the stream says, from its beginning on.
pub async fn self_test(window: Duration, btf: Option<&Path>, sink: &mut impl FnMut(Item)) -> Here {
    let root = Root::default();
    let mut began = false;
    let mut take = |item| {
        began = true;
        sink(item);
    };
    let mut here = Here { device_tree: device_tree::read(&root), ..Here::default() };
    if let Err(error) = trace(&root, window, btf, &mut take, &mut here).await {
        here.why_not = Some(error.to_string());
        if !began {
            sink(Item::Start(untraced(&root, btf)));
        }
    }
    here
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
    take: &mut impl FnMut(Item),
    here: &mut Here,
) -> Result<(), LiveError> {
    let options = Options {
        // Every hook is to be tried.
        streamed: Streamed::All,
        count_costs: true,
        btf: btf.map(PathBuf::from),
        reset_hiwater: false,
        ..Options::default()
    };
    let (mut session, start) = Session::start(&options)?;
    take(Item::Start(start));
    here.map_bytes = map_bytes();
    let began = Instant::now();
    if provoke::allocations() {
        here.provoked = provoke::ALLOCATIONS.to_vec();
    }
    provoke::mappings(root);
    record(&mut session, &mut Items(&mut *take), sleep_until(began + window)).await?;
    here.watched_ms = began.elapsed().as_millis() as u64;
    session.stop()?.into_iter().for_each(take);
    Ok(())
}

/// Takes items one by one.
struct Items<'a, F>(&'a mut F);

impl<F: FnMut(Item)> Sink for Items<'_, F> {
    type Error = LiveError;

    async fn take(&mut self, items: Vec<Item>) -> Result<(), LiveError> {
        items.into_iter().for_each(&mut *self.0);
        Ok(())
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
