//! What a person sees in the terminal while a stream flows.
//!
//! So far [`live_line`] and [`progress_line`], the single lines of other commands, and what a dashboard rests on, without its
//! screens. [`state`] is what is shown, pure. What is shown comes from two places: [`history`], counts over time that are kept
//! as items pass, and an [`answer::Answer`], made by [`engine`] on a thread of its own: a replay of the window of time that is
//! seen, by the same code as `bouncescope replay`. [`recording`] finds that window in a capture without reading what lies before
//! it, [`recent`] in the last of a live stream; [`clip`] cuts it out. [`what_if`] has the settings that can be turned.

pub mod answer;
pub mod clip;
pub mod engine;
pub mod history;
pub mod live_line;
pub mod progress_line;
pub mod recent;
pub mod recording;
pub mod state;
pub mod what_if;
