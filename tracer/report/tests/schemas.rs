//! The schemas of what `--json` prints, compared with the files in `schemas/`. `cargo xtask golden` writes them anew.

use std::{env, fs, path::Path};

use bouncescope_report::machine::schemas;

#[test]
fn the_schemas_of_json_output_are_those_in_their_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
    for (kind, schema) in schemas() {
        let file = folder.join(format!("{kind}.schema.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if env::var_os("BOUNCESCOPE_BLESS").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert!(text == expected, "{} is of another version: `cargo xtask golden` renews it", file.display());
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), schemas().len(), "one file for each kind");
}
