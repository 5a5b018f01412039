//! The terminal while a dashboard has it, and as it was afterwards: on leaving, on errors and on panics.

use std::io::{self, Stdout, stdout};
use std::mem::ManuallyDrop;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{self, MoveTo, Show};
use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::execute;
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{TerminalOptions, Viewport};

/// The terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// A thread has panicked.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Columns and rows of a terminal that does not tell.
const UNKNOWN: (u16, u16) = (80, 24);

/// The terminal. It is given back when this is dropped.
pub struct Terminal {
    /// Never dropped: that prints on standard error when the cursor cannot be shown, and panics when standard error is gone as well.
    /// [`give_back()`] shows the cursor.
    cells: ManuallyDrop<ratatui::Terminal<CrosstermBackend<Stdout>>>,
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
        let options = TerminalOptions { viewport: viewport() };
        let cells = ratatui::Terminal::with_options(CrosstermBackend::new(stdout()), options);
        let cells = cells.inspect_err(|_| give_back())?;
        Ok(Self { cells: ManuallyDrop::new(cells) })
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

/// Where to draw. A serial console does not know how large the terminal at its other end is; that one does.
fn viewport() -> Viewport {
    if terminal::size().is_ok_and(|(columns, rows)| columns > 0 && rows > 0) {
        return Viewport::Fullscreen;
    }
    let corner = execute!(stdout(), MoveTo(u16::MAX - 1, u16::MAX - 1)).and_then(|()| cursor::position());
    let (columns, rows) = corner.map_or(UNKNOWN, |(column, row)| (column + 1, row + 1));
    Viewport::Fixed(Rect::new(0, 0, columns, rows))
}

/// At most once; there is nobody to tell that it failed.
fn give_back() {
    if TAKEN.swap(false, Ordering::AcqRel) {
        let _ = execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}
