//! Results as text and JSON. What they mean was decided elsewhere; here is only how they look.

pub mod advice;
mod breakdown;
pub mod check;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod junit;
mod lengths;
pub mod losses;
pub mod packed;
pub mod policies;
pub mod replay;
pub mod stats;
mod table;
pub mod verify;
mod wrap;

pub use breakdown::driver;
