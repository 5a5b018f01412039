//! Results as text, JSON, pages with plots and metrics. What they mean was decided elsewhere; here is only how they look.

pub mod advice;
mod breakdown;
pub mod check;
pub mod doctor;
#[cfg(feature = "report")]
pub mod document;
pub mod explain;
pub mod export;
#[cfg(feature = "report")]
pub mod html;
pub mod junit;
mod lengths;
pub mod losses;
#[cfg(feature = "report")]
pub mod markdown;
#[cfg(feature = "report")]
pub mod metrics;
pub mod packed;
#[cfg(feature = "report")]
pub mod page;
#[cfg(feature = "report")]
mod plot;
pub mod policies;
pub mod replay;
pub mod stats;
mod table;
pub mod verify;
mod wrap;

pub use breakdown::driver;
