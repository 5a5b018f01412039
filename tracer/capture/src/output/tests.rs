//! Outputs where others were before, and where somebody means harm.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    process::Command,
};

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn write(path: &Path, text: &str) -> Result<(), OutputError> {
    Output::write(path, Access::Shared, &[], text.as_bytes())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_file_is_there_when_it_is_whole_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    write(&path, "old").unwrap();
    let mut output = Output::create(&path, Access::Shared, &[]).unwrap();
    output.write_all(b"new").unwrap();
    output.flush().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    output.finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(names(dir.path()), ["x"]);
}

#[test]
fn an_output_that_is_given_up_keeps_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    write(&path, "old").unwrap();
    let mut output = Output::create(&path, Access::Shared, &[]).unwrap();
    output.write_all(b"half").unwrap();
    drop(output);
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(dir.path())), ("old", vec!["x".to_owned()]));
}

#[test]
fn what_makes_way_for_a_growing_file_gets_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for (content, there) in [("1", vec!["x"]), ("2", vec!["x", "x.old"]), ("3", vec!["x", "x.old"])] {
        let mut output = Output::create(&path, Access::Private, &[]).unwrap();
        output.write_all(content.as_bytes()).unwrap();
        output.publish_keeping(".old").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        output.write_all(b"!").unwrap();
        output.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{content}!"));
        assert_eq!(names(dir.path()), there);
    }
    assert_eq!(fs::read_to_string(dir.path().join("x.old")).unwrap(), "2!");
}

#[test]
fn links_are_refused_and_what_they_point_to_is_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let (victim, link, dangling) = (dir.path().join("victim"), dir.path().join("link"), dir.path().join("dangling"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &link).unwrap();
    symlink(dir.path().join("nothing"), &dangling).unwrap();
    for path in [&link, &dangling] {
        let error = write(path, "new").unwrap_err().to_string();
        assert!(error.contains("it is a link") && error.contains(path.to_str().unwrap()), "{error}");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(names(dir.path()), ["dangling", "link", "victim"]);
    let (real, linked) = (dir.path().join("real"), dir.path().join("linked"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &linked).unwrap();
    assert!(Directory::create(&linked, &[]).unwrap_err().to_string().contains("it is a link"));
    assert!(Directory::create(&real, &[]).is_ok());
}

#[test]
fn a_link_that_comes_while_a_file_is_written_is_replaced_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (victim, path) = (dir.path().join("victim"), dir.path().join("x"));
    fs::write(&victim, "precious").unwrap();
    let mut output = Output::create(&path, Access::Private, &[]).unwrap();
    symlink(&victim, &path).unwrap();
    output.write_all(b"new").unwrap();
    output.finish().unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_directory_that_is_swapped_meanwhile_redirects_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs, moved) = (dir.path().join("ours"), dir.path().join("theirs"), dir.path().join("moved"));
    fs::create_dir(&ours).unwrap();
    fs::create_dir(&theirs).unwrap();
    let mut output = Output::create(&ours.join("x"), Access::Private, &[]).unwrap();
    fs::rename(&ours, &moved).unwrap();
    symlink(&theirs, &ours).unwrap();
    output.write_all(b"new").unwrap();
    output.finish().unwrap();
    assert_eq!((names(&moved), names(&theirs).len()), (vec!["x".to_owned()], 0));
}

#[test]
fn a_file_that_is_swapped_while_it_is_written_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let mut output = Output::create(&path, Access::Private, &[]).unwrap();
    let temporary = dir.path().join(&names(dir.path())[0]);
    fs::remove_file(&temporary).unwrap();
    fs::write(&temporary, "theirs").unwrap();
    output.write_all(b"ours").unwrap();
    assert!(output.finish().unwrap_err().to_string().contains("somebody else"));
}

#[test]
fn an_input_is_no_output_whatever_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (path, second, link) = (dir.path().join("x"), dir.path().join("second"), dir.path().join("link"));
    fs::write(&path, "input").unwrap();
    fs::hard_link(&path, &second).unwrap();
    symlink(&path, &link).unwrap();
    for (output, input) in [(&path, &path), (&second, &path), (&path, &link)] {
        let error = Output::create(output, Access::Shared, &[input]).unwrap_err().to_string();
        assert!(error.contains("it is also read"), "{error}");
    }
    let error = Directory::create(dir.path(), &[&path]).unwrap().file("x", Access::Shared).unwrap_err().to_string();
    assert!(error.contains("it is also read"), "{error}");
    assert!(Output::create(&path, Access::Shared, &[&dir.path().join("missing")]).is_ok());
}

#[test]
fn devices_and_ones_own_fifos_are_written_to_as_they_are() {
    Output::write(Path::new("/dev/null"), Access::Private, &[], b"x").unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let full = Output::write(Path::new("/dev/full"), Access::Private, &[], b"x").unwrap_err();
    assert!(full.to_string().starts_with("cannot write /dev/full: "), "{full}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    fifo(&path);
    assert!(matches!(Output::create(&path, Access::Private, &[]), Err(OutputError::NoReader { .. })));
    let reader = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        }
    });
    let mut output = loop {
        match Output::create(&path, Access::Private, &[]) {
            Err(OutputError::NoReader { .. }) => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    // More than a pipe holds: writing waits for the reader.
    output.write_all(&vec![b'x'; 300_000]).unwrap();
    output.publish_keeping(".old").unwrap();
    output.finish().unwrap();
    assert_eq!(reader.join().unwrap().len(), 300_000);
    assert_eq!(names(dir.path()), ["fifo"]);
}

#[test]
fn a_fifo_of_another_user_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    fifo(&path);
    if !rustix::process::geteuid().is_root() || std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
        // Only root can give a FIFO away.
        return;
    }
    let reader = Command::new("cat").arg(&path).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let error = loop {
        match Output::create(&path, Access::Private, &[]) {
            Err(OutputError::NoReader { .. }) => std::thread::yield_now(),
            other => break other.unwrap_err().to_string(),
        }
    };
    assert!(error.contains("of another user"), "{error}");
    assert!(reader.wait_with_output().unwrap().stdout.is_empty());
}

#[test]
fn directories_sockets_and_paths_without_a_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let cases = [
        (dir.path().to_owned(), "it is a directory"),
        (dir.path().join("x/"), "it names a directory"),
        (dir.path().join(".."), "it names a directory"),
        (socket, "neither a file"),
        (dir.path().join("no/such/x"), "No such file"),
    ];
    for (path, reason) in cases {
        let error = write(&path, "x").unwrap_err().to_string();
        assert!(error.contains(reason) && error.starts_with("cannot write "), "{error}");
    }
}

#[test]
fn a_private_file_is_its_owners_alone_and_a_shared_one_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let (private, shared) = (dir.path().join("private"), dir.path().join("shared"));
    fs::write(&private, "").unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o666)).unwrap();
    Output::write(&private, Access::Private, &[], b"x").unwrap();
    assert_eq!(mode(&private), 0o600);
    write(&shared, "x").unwrap();
    let first = mode(&shared);
    assert_eq!(first & 0o600, 0o600);
    for narrow in [0o600, 0o640] {
        fs::set_permissions(&shared, fs::Permissions::from_mode(narrow)).unwrap();
        write(&shared, "x").unwrap();
        assert_eq!(mode(&shared), narrow);
    }
}

#[test]
fn another_name_of_a_file_that_makes_way_keeps_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let (path, second) = (dir.path().join("x"), dir.path().join("second"));
    fs::write(&path, "old").unwrap();
    fs::hard_link(&path, &second).unwrap();
    write(&path, "new").unwrap();
    assert_eq!((fs::read_to_string(&second).unwrap().as_str(), fs::metadata(&second).unwrap().nlink()), ("old", 1));
}

#[test]
fn a_descriptor_that_is_not_open_is_an_error() {
    let error = Output::create(Path::new("/dev/fd/9999"), Access::Private, &[]).unwrap_err().to_string();
    assert!(error.contains("/dev/fd/9999"), "{error}");
    assert!(Output::create(Path::new("/dev/stderr"), Access::Private, &[]).is_ok());
}
