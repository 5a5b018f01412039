//! The terminal while a dashboard has it, and as it was afterwards: on leaving, on errors and on panics.

use std::io::{self, Stdout, stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::Show;
use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::backend::CrosstermBackend;

/// The terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// A thread has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The terminal. It is given back when this is dropped.
pub struct Terminal {
    cells: ratatui::Terminal<CrosstermBackend<Stdout>>,
}

impl Terminal {
    /// Takes it.
    pub fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let say = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                // What is said about the panic belongs on the screen that stays.
                give_back();
                PANICKED.store(true, Ordering::Relaxed);
                say(info);
            }));
        });
        take()?;
        // Where this fails, the terminal must not stay as it is.
        let cells = ratatui::Terminal::new(CrosstermBackend::new(stdout())).inspect_err(|_| give_back())?;
        Ok(Self { cells })
    }

    /// What is drawn on.
    pub fn cells(&mut self) -> &mut ratatui::Terminal<CrosstermBackend<Stdout>> {
        &mut self.cells
    }

    /// Gives it back, does something, and takes it again.
    pub fn without(&mut self, act: impl FnOnce()) -> io::Result<()> {
        give_back();
        act();
        take()?;
        self.cells.clear()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whether a thread has panicked since the terminal was taken.
pub fn has_panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

fn take() -> io::Result<()> {
    TAKEN.store(true, Ordering::Release);
    enable_raw_mode()
        .and_then(|()| execute!(stdout(), EnterAlternateScreen, EnableMouseCapture))
        .inspect_err(|_| give_back())
}

/// At most once; there is nobody to tell that it failed.
fn give_back() {
    if TAKEN.swap(false, Ordering::AcqRel) {
        let _ = execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
