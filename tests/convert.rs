//! `bouncescope convert`: another version of the file, the same answers.

use std::{fs, path::Path, process::Command};

use tracer::{
    capture::{Reader, Writer},
    event::{Batch, What},
    stream::{Item, Source as _},
};

fn bouncescope(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bouncescope")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The version of a file's format.
fn version(path: &str) -> u8 {
    fs::read(path).unwrap()[8]
}

fn converted(from: &str, dir: &Path) -> String {
    let to = dir.join(Path::new(from).file_name().unwrap()).to_str().unwrap().to_owned();
    assert_eq!(bouncescope(&["convert", from, "-o", &to]), (0, String::new(), String::new()));
    assert_eq!((version(from), version(&to)), (1, 2));
    to
}

/// A bundled capture as `record --sample 0` would have made it: where objects lie, every block is opened.
fn without_objects(name: &str, dir: &Path) -> String {
    let mut reader = Reader::open(format!("captures/{name}.bounce").as_ref()).unwrap();
    let mut writer = Writer::version_1(Vec::new()).unwrap();
    let mut batch = Batch::default();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Events(more) => {
                for mut event in more.events.iter().copied() {
                    let segments = more.segments(&event);
                    if let What::MapSg { first_segment, .. } = &mut event.what {
                        *first_segment = batch.segments.len() as u32;
                    }
                    batch.segments.extend(segments);
                    if !matches!(event.what, What::Kmalloc { .. } | What::Kfree { .. }) {
                        batch.events.push(event);
                    }
                }
            }
            // Few frames, and long ones.
            item => {
                if batch.events.len() >= 2048 || matches!(item, Item::Device(_) | Item::End(_)) {
                    writer.write(&Item::Events(std::mem::take(&mut batch))).unwrap();
                }
                writer.write(&item).unwrap();
            }
        }
    }
    let path = dir.join(format!("{name}.bounce"));
    fs::write(&path, writer.into_inner().unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_command_says_the_same_of_a_converted_capture() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = ["--sweep", "cache-line-size=64,128", "--sweep", "swiotlb=512K,1M,4M"];
    let policies = ["--policy", "mainline,legacy,always-small,length-multiple"];
    let recorded = ["7.3-direct-hold-300", "6.12-maintenance"].map(|name| format!("captures/{name}.bounce"));
    let place = tempfile::tempdir().unwrap();
    let left_closed = ["6.12-noforce-mixed", "7.3-smmu-mixed"].map(|name| without_objects(name, place.path()));
    for from in recorded.into_iter().chain(left_closed) {
        let to = converted(&from, dir.path());
        // No names of files are in what these print.
        let mut commands: Vec<Vec<&str>> = vec![
            vec!["replay"],
            vec!["replay", "--json"],
            vec!["replay", "--wide", "--policy", "all"],
            vec!["replay", "--advise"],
            [&["replay"][..], &policies, &sweep].concat(),
            [&["replay", "--json"][..], &policies, &sweep].concat(),
            vec!["verify", "--json"],
            vec!["stats", "--json"],
            vec!["packed"],
        ];
        if cfg!(feature = "report") {
            commands.push(vec!["report", "--md", "-o", "-"]);
        }
        for command in commands {
            let of = |file: &str| {
                let (code, out, err) = bouncescope(&[&command[..], &[file]].concat());
                (code, out.replace(file, "x"), err.replace(file, "x"))
            };
            assert_eq!(of(&from), of(&to), "{command:?} of {from}");
        }
    }
}

#[test]
fn a_damaged_capture_is_not_converted_and_one_without_an_end_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let whole = fs::read("captures/7.3-direct-hold-300.bounce").unwrap();
    let (damaged, cut, to) = (path("damaged.bounce"), path("cut.bounce"), path("to.bounce"));
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    let (code, _, err) = bouncescope(&["convert", &damaged, "-o", &to]);
    assert!(code == 2 && err.contains("1 frames are damaged") && !Path::new(&to).exists(), "{code} {err}");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(bouncescope(&["convert", &cut, "-o", &to]).0, 0);
    let stats: serde_json::Value = serde_json::from_str(&bouncescope(&["stats", "--json", &to]).1).unwrap();
    assert!(stats.to_string().contains("\"no_end\":true"), "{stats}");
}
