//! What a person sees in the terminal while a stream flows: a dashboard, and [`live_line`] and [`progress_line`], the single
//! lines of other commands.
//!
//! [`state`] is what is shown, [`update`] what keys make of it, [`view`] draws it; they are pure. What is shown comes from two
//! places: [`history`], counts over time that are kept as items pass, and an [`answer::Answer`], made by [`engine`] on a thread of
//! its own: a replay of the window of time that is seen, by the same code as `bouncescope replay`. [`recording`] finds that window
//! in a capture without reading what lies before it, [`recent`] in the last of a live stream; [`clip`] cuts it out. [`what_if`] has
//! the settings that can be turned. [`dashboard`] holds all of it together, and [`event_loop`] runs it in a [`terminal`].
//! [`picture`] draws one screen of a capture without one.

pub mod answer;
pub mod clip;
pub mod dashboard;
pub mod engine;
pub mod event_loop;
pub mod feed;
pub mod history;
pub mod live_line;
pub mod picture;
pub mod progress_line;
pub mod recent;
pub mod recorder;
pub mod recording;
pub mod state;
pub mod terminal;
pub mod theme;
pub mod update;
pub mod view;
pub mod what_if;
