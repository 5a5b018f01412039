//! Texts held against golden files. `cargo xtask golden` writes the files anew: look at the difference.

use std::path::Path;

use snapbox::{Assert, Data, assert::DEFAULT_ACTION_ENV, data::DataFormat};

/// Fails with the difference unless the file has this text, or writes the file where that was asked for.
pub(crate) fn compare(file: &Path, text: impl Into<String>) -> Result<(), String> {
    let expected = Data::read_from(file, Some(DataFormat::Text)).raw();
    let name = file.display();
    Assert::new()
        .action_env(DEFAULT_ACTION_ENV)
        .try_eq(Some(&name), Data::text(text), expected)
        .map_err(|difference| format!("{name}: {difference}\n`cargo xtask golden` renews it\n"))
}
