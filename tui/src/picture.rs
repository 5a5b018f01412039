//! One screen of a capture, drawn without a terminal: what a person would see who opened it and went to that screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tracer::capture::ReadError;

use crate::engine::Material;
use crate::feed::Feed;
use crate::recording::{Bytes, Recording};
use crate::state::State;
use crate::state::time::TimeLine;
use crate::theme::Theme;
use crate::view::{self, Seen};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The capture cannot be opened.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be replayed.
    #[error("{0}")]
    Replay(String),
}

/// Draws it, `width` x `height` cells, with the state that `prepare` makes of that in which a capture is opened.
pub fn draw(
    source: String,
    capture: Bytes,
    (width, height): (u16, u16),
    theme: Theme,
    prepare: impl FnOnce(&mut State),
) -> Result<Buffer, PictureError> {
    let recording = Recording::read(capture)?;
    let feed = Feed::Capture(recording);
    if let Some(why) = feed.failed() {
        return Err(PictureError::Replay(why));
    }
    let mut state = State::new(source, TimeLine::default());
    feed.reach(&mut state.time);
    prepare(&mut state);
    let question = state.question();
    let material: Material = feed.material(&question);
    let answer = material.answer(question, || true).map_err(PictureError::Replay)?;
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    feed.with_history(|history| {
        view::draw(&Seen { state: &state, history, answer: Some(&answer), theme }, area, &mut buffer)
    });
    Ok(buffer)
}
