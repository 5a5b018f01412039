//! Showing a finished page in the user's browser, and never in anybody else's session or with privileges.

use std::{env, fs, path::Path};

use crate::input::{note, warn};

/// Opens a page that was written. Where that cannot be, or should not, it says so; the page is there all the same.
pub(crate) fn show(page: &Path) {
    let page_name = page.display();
    if !page.is_file() {
        return warn(&format!("not opened: {page_name} is not a file"));
    }
    if let Some(why) = privilege() {
        return note(&format!("bouncescope runs {why} and does not start a browser; the page is {page_name}"));
    }
    if let Some(why) = no_session() {
        return warn(&format!("not opened: {why}; the page is {page_name}"));
    }
    // The launcher looks at a relative path that begins with `-` as at an option.
    let path = page.canonicalize().unwrap_or_else(|_| page.to_owned());
    if let Err(error) = open::that_detached(path) {
        warn(&format!("not opened: no browser was found ({error}); the page is {page_name}"));
    }
}

/// What a browser would inherit and should not have.
fn privilege() -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    if rustix::process::geteuid().is_root() {
        return Some("as root");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ambient = status.lines().find_map(|line| line.strip_prefix("CapAmb:")).map(str::trim);
    ambient.is_some_and(|set| set.bytes().any(|digit| digit != b'0')).then_some("with capabilities")
}

/// Why nothing can be shown here. Other systems always have a session.
fn no_session() -> Option<&'static str> {
    let has = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_session = ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"].into_iter().any(has);
    (cfg!(target_os = "linux") && !has_session)
        .then_some("there is no graphical session (DISPLAY and WAYLAND_DISPLAY are not set)")
}
