//! Any payloads in intact frames: every screen of the dashboard.

#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use bouncescope_fuzz::frames;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tui::{
    picture::draw,
    recording::Bytes,
    state::Screen,
    theme::{Depth, Theme},
};

/// The dashboard reads a capture again for each question, so it wants a file; in memory, where there is such a place.
static DIR: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a directory can be made")
});

fuzz_target!(|bytes: &[u8]| {
    let path = DIR.path().join("fuzz.bounce");
    fs::write(&path, frames::file(bytes)).expect("the file can be written");
    let theme = Theme { depth: Depth::True, ascii: false };
    for screen in Screen::ALL {
        let drawn = draw("fuzz".to_owned(), Bytes::File(path.clone()), (120, 40), theme, |state| state.screen = screen);
        drop(drawn);
    }
});
