//! What a person sees in the terminal while a stream flows. State here is pure: it takes items and gives text.
//!
//! So far the live line of `record`, and how far a capture has been read; the dashboard's screens belong here too.

pub mod live_line;
pub mod progress_line;
