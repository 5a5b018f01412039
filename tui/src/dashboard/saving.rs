//! Files made from a screen.

use std::path::{Path, PathBuf};

use ratatui::buffer::Buffer;
use tracer::output::{Access, Output};

use super::Dashboard;
use crate::recorder::RecordError;
use crate::update::Format;
use crate::view::{svg, text};

/// Saves the screen; what is to be said of it.
pub(super) fn save(dashboard: &Dashboard, format: Format) -> String {
    let mut buffer = Buffer::empty(dashboard.area);
    dashboard.drawn(dashboard.area, &mut buffer);
    let (ending, content) = match format {
        Format::Text => ("txt", text(&buffer)),
        Format::Svg => ("svg", svg(&buffer)),
    };
    let screen = dashboard.state.screen.title().to_lowercase().replace(' ', "-");
    let path = free_name(&screen, ending);
    match Output::write(&path, Access::Shared, &[], content.as_bytes()) {
        Ok(()) => format!("saved as {}", path.display()),
        Err(error) => error.to_string(),
    }
}

/// `bouncescope-WHAT.ENDING` in the current directory, with a number where there is one already.
pub(super) fn free_name(what: &str, ending: &str) -> PathBuf {
    let numbered = (2..10_000).map(|n| format!("bouncescope-{what}-{n}.{ending}"));
    let mut names = std::iter::once(format!("bouncescope-{what}.{ending}")).chain(numbered).map(PathBuf::from);
    names.find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| format!("bouncescope-{what}.{ending}").into())
}

/// What is said of a capture that was written.
pub(super) fn said(path: &Path, written: &Result<u64, RecordError>) -> String {
    match written {
        Ok(bytes) => format!("{}: {bytes} bytes", path.display()),
        Err(error) => error.to_string(),
    }
}
