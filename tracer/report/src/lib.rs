//! Results as text, JSON, pages with plots and metrics. What they mean was decided elsewhere; here is only how they look.
//!
//! [`explain`] needs no capture: it takes a kernel's log.
//!
//! ```
//! use bouncescope_report::explain::{Kind, explain, text};
//!
//! let explained = explain("nic 0000:01:00.0: swiotlb buffer is full (sz: 4096 bytes), total 16384 (slots), used 16384 (slots)");
//! assert_eq!(explained.explanations[0].kind, Kind::Full);
//! assert_eq!(explained.explanations[0].device.as_deref(), Some("0000:01:00.0"));
//! println!("{}", text(&explained));
//! ```

// They panic where a terminal or a disk is gone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod advice;
pub mod answer;
mod breakdown;
pub mod check;
mod conditions;
pub mod csv;
mod devices;
pub mod diff;
pub mod doctor;
#[cfg(feature = "plots")]
pub mod document;
pub mod explain;
mod figures;
pub mod holders;
#[cfg(feature = "plots")]
pub mod html;
pub mod junit;
pub mod ktap;
mod label;
mod lengths;
pub mod losses;
pub mod machine;
mod maintenance;
#[cfg(feature = "plots")]
pub mod markdown;
#[cfg(feature = "plots")]
pub mod metrics;
pub mod packed;
#[cfg(feature = "plots")]
pub mod page;
#[cfg(feature = "plots")]
mod plot;
pub mod policies;
pub mod replay;
mod restricted;
mod screen;
pub mod stats;
mod table;
pub mod verify;
mod wrap;

pub use label::driver;
pub use table::bytes;
