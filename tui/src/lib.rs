//! What a person sees in the terminal while a stream flows: a dashboard, and [`live_line`] and [`progress_line`], the single
//! lines of other commands.
//!
//! [`state`] is what is shown, [`update`] what keys make of it, [`view`] draws it; they are pure. What is shown comes from two
//! places: [`history`], counts over time that are kept as items pass, and an [`answer::Answer`], made by [`engine`] on a thread of
//! its own: a replay of the window of time that is seen, by the same code as `bouncescope replay`. [`recording`] finds that window
//! in a capture without reading what lies before it, [`recent`] in the last of a live stream; [`clip`] cuts it out. [`what_if`] has
//! the settings that can be turned. [`dashboard`] holds all of it together, and [`event_loop`] runs it in a [`terminal`].
//! [`picture`] draws one screen of a capture without one.
//!
//! ```
//! use tui::{picture, recording::Bytes, theme::Theme};
//!
//! let capture = Bytes::File("../captures/7.3-direct-hold-300.bounce".into());
//! let screen = picture::draw("hold-300".into(), capture, (80, 24), Theme::default(), |_| ())?;
//! assert_eq!((screen.area.width, screen.area.height), (80, 24));
//! # Ok::<(), picture::PictureError>(())
//! ```

// They panic where a terminal or a disk is gone.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod answer;
pub mod clip;
pub mod dashboard;
pub mod engine;
pub mod event_loop;
pub mod feed;
pub mod history;
pub mod hit;
pub mod keys;
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
