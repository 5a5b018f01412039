//! The schemas of what `--json` prints, compared with the files in `schemas/`. `cargo xtask golden` writes them anew.

#[path = "../../../tests/golden/file.rs"]
mod golden_file;

use std::{fs, path::Path};

use bouncescope_report::machine::schemas;

#[test]
fn the_schemas_of_json_output_are_those_in_their_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    for (kind, schema) in schemas() {
        let file = folder.join(format!("{kind}.schema.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        golden_file::compare(&file, text).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), schemas().len(), "one file for each kind");
}
