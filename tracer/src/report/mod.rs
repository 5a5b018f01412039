//! Results as text and JSON. What they mean was decided elsewhere; here is only how they look.

mod losses;
pub mod replay;
pub mod stats;
mod table;
pub mod verify;
