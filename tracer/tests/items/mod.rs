//! A stream of items from memory.

use std::collections::VecDeque;
use std::convert::Infallible;

use tracer::stream::{Item, Source};

/// Its items, the next one first.
#[derive(Clone)]
pub(crate) struct Items(pub(crate) VecDeque<Item>);

impl Source for Items {
    type Error = Infallible;

    fn next_item(&mut self) -> Result<Option<Item>, Infallible> {
        Ok(self.0.pop_front())
    }
}
