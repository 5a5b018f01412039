//! The boot of a scenario of recordings: what its guest gets, and the machine that it is.

use std::{fs, path::Path};

use anyhow::Result;
use tracer::{
    capture::Reader,
    stream::{Item, Source as _},
};

use super::{
    board::{self, Board},
    boot::{self, Boot},
    initramfs::{self, Contents},
    kernel::Kernel,
    machine::{Devices, Machine, shell_words},
    modules::{self, Module},
    run::{BOOT_LIMIT, LONG_BOOT_LIMIT, Run},
    scenario::Scenario,
    test_module,
};

/// A boot to be made: its kernel with the modules that its workloads need.
pub(super) type Job<'a> = (&'a Kernel, &'a [Module], &'a Scenario);

/// Boots it; results are in `dir/share` afterwards, the console in `dir/console.log`.
pub(super) fn boot(run: &Run, (kernel, usual, scenario): Job, dir: &Path) -> Result<Boot> {
    let _ = fs::remove_dir_all(dir);
    let (work, share) = (dir.join("machine"), dir.join("share"));
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&share)?;
    let initramfs = work.join("initramfs.cpio");
    let script = scenario.script(run.bare);
    let btf = kernel.btf.as_deref().filter(|_| scenario.btf);
    let (first, later) = match scenario.board {
        Some(board) => of_board(board, &kernel.modules)?,
        None => (Vec::new(), Vec::new()),
    };
    let modules = if scenario.board.is_some() { &first } else { usual };
    let test_module = if scenario.has_module() { Some(test_module::of_lab(kernel)?) } else { None };
    let test_module = test_module.as_deref();
    let contents = Contents { programs: &run.programs, modules, later: &later, test_module, btf, script: &script };
    fs::write(&initramfs, initramfs::build(&contents, kernel)?)?;
    let command = if let Some(board) = scenario.board {
        board.command(&kernel.image, &board::trees(&kernel.modules, &kernel.release), &initramfs, &work)?
    } else {
        let machine = Machine {
            cpu: scenario.cpu(kernel),
            cpus: scenario.cpus,
            tablets: scenario.tablets,
            counts_instructions: scenario.counts_instructions,
            cache_line: scenario.lines_in_tree(),
            restricted_pools: scenario.restricted_pools,
            devices: Devices::Workloads,
            test_device: scenario.maps_lists(),
            smmu: scenario.smmu,
            coherent: scenario.coherent,
            image: &kernel.image,
            parameters: &scenario.parameters(kernel.version()),
            initramfs: &initramfs,
            share: &share,
            work: &work,
        };
        machine.command()?
    };
    if run.keep {
        eprintln!("lab: {}", shell_words(&command));
    }
    let label = format!("{} {}", kernel.series, scenario.name);
    let console = dir.join("console.log");
    let limit = if scenario.is_long { LONG_BOOT_LIMIT } else { BOOT_LIMIT };
    let mut boot = boot::run(command, &console, &label, limit)?;
    boot.troubles.retain(|trouble| !scenario.explains(trouble));
    if scenario.board.is_some() {
        board::collect(&fs::read_to_string(&console)?, &share)?;
    }
    if !run.keep {
        fs::remove_dir_all(&work)?;
    }
    Ok(boot)
}

/// A problem unless the kernel of a capture has lines of so many bytes.
pub(super) fn other_lines(capture: &Path, wanted: u32) -> Result<Option<String>> {
    let Some(Item::Start(start)) = Reader::open(capture)?.next_item()? else { return Ok(Some("has no start".into())) };
    let lines = start.kernel.cache_line_size;
    Ok((lines != wanted).then(|| format!("the kernel has cache lines of {lines} bytes, and was to have {wanted}")))
}

/// A board's modules: those that are loaded beforehand, and those that come while recording.
fn of_board(board: &Board, dir: &Path) -> Result<(Vec<Module>, Vec<Module>)> {
    let first = modules::in_load_order(dir, board.modules)?;
    let all = modules::in_load_order(dir, &[board.modules, board.drivers].concat())?;
    let later = all.into_iter().filter(|module| !first.iter().any(|loaded| loaded.name == module.name)).collect();
    Ok((first, later))
}
