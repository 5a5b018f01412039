//! `/proc/allocinfo`: live allocations by call site since boot, as the kernel counts them itself (`CONFIG_MEM_ALLOC_PROFILING`, 6.10 on).
//!
//! A line is `bytes calls file:line [module] func:function`, and from 6.18 on perhaps ` accurate:no` (`alloc_tag_to_text()` in
//! `lib/alloc_tag.c`, `codetag_to_text()` in `lib/codetag.c`).

use std::io;

use super::root::Root;
use bouncescope_capture::facts::{LiveSite, LiveSites};

const ALLOC_INFO: &str = "proc/allocinfo";
/// Sites that are kept: of all that a kernel has those that matter, and a frame of them is far from the longest.
const MOST: usize = 2048;

/// What the file says now; `None` where this kernel has no such file, where it does not count (`vm.mem_profiling`), and where it may not be
/// read.
pub fn live_sites(root: &Root) -> io::Result<Option<LiveSites>> {
    match root.text(ALLOC_INFO) {
        Ok(text) => Ok(Some(parse(&text)).filter(|live| !live.sites.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lines that are no site, or damaged, are passed over, like those of sites without a live allocation.
fn parse(text: &str) -> LiveSites {
    let mut sites: Vec<LiveSite> = text.lines().filter_map(line).filter(|site| site.calls > 0).collect();
    sites.sort_by(|one, other| other.calls.cmp(&one.calls).then_with(|| one.place.cmp(&other.place)));
    let left_out = sites.iter().skip(MOST).map(|site| site.calls).fold(0, u64::saturating_add);
    sites.truncate(MOST);
    LiveSites { sites, left_out }
}

fn line(line: &str) -> Option<LiveSite> {
    let mut words = line.split_whitespace();
    let (bytes, calls) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let place = words.next()?.to_owned();
    let mut site = LiveSite { place, calls, bytes, ..LiveSite::default() };
    for word in words {
        if let Some(function) = word.strip_prefix("func:") {
            function.clone_into(&mut site.function);
        } else if let Some(module) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            module.clone_into(&mut site.module);
        } else if word == "accurate:no" {
            site.inexact = true;
        }
    }
    (!site.function.is_empty()).then_some(site)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::root::sample::SampleRoot;
    use super::*;

    const TEXT: &str = "allocinfo - version: 2.0
#     <size>  <calls> <tag info>
           0        0 init/main.c:1314 func:do_initcalls
        8192      128 fs/kernfs/dir.c:615 func:__kernfs_new_node
          96        1 drivers/usb/core/urb.c:75 [usbcore] func:usb_alloc_urb
       40960       10 mm/slub.c:2418 func:alloc_slab_page accurate:no
       many         1 a.c:1 func:f
          64        1 a.c:2
";

    #[test]
    fn live_allocations_come_by_call_site_most_first() {
        let live = live_sites(&SampleRoot::new(&[(ALLOC_INFO, TEXT)]).root()).unwrap().unwrap();
        let functions: Vec<_> =
            live.sites.iter().map(|site| (site.function.as_str(), site.calls, site.bytes)).collect();
        assert_eq!(
            functions,
            [("__kernfs_new_node", 128, 8192), ("alloc_slab_page", 10, 40960), ("usb_alloc_urb", 1, 96)]
        );
        assert_eq!(
            (live.sites[2].module.as_str(), live.sites[2].place.as_str()),
            ("usbcore", "drivers/usb/core/urb.c:75")
        );
        assert_eq!(live.sites.iter().map(|site| site.inexact).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn what_is_left_out_of_many_is_counted() {
        let lines = (1..=MOST + 3).map(|n| format!("{} {n} a.c:{n} func:f", n * 64)).collect::<Vec<_>>().join("\n");
        let live = parse(&lines);
        assert_eq!((live.sites.len(), live.left_out), (MOST, 1 + 2 + 3));
    }

    #[test]
    fn a_kernel_that_does_not_count_says_nothing() {
        assert_eq!(live_sites(&SampleRoot::new(&[]).root()).unwrap(), None);
        let off =
            "allocinfo - version: 1.0\n#     <size>  <calls> <tag info>\n 0 0 init/main.c:1314 func:do_initcalls\n";
        assert_eq!(live_sites(&SampleRoot::new(&[(ALLOC_INFO, off)]).root()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([0-9]{0,22}|func:[a-z]{0,3}|\\[|\\]|[a-z.:]{0,6}| |\n){0,40}") {
            parse(&text);
        }
    }
}
