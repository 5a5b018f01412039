//! The kernel's code: fetched from Debian, of which only the files in question are kept in the cache, and compiled into programs for this
//! machine with the lab's stand-ins for the rest of the kernel (`xtask/lab/source`).

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    fetch::{self, output},
    packages,
};

/// Files of the kernel that are kept.
const FILES: [&str; 2] = ["kernel/dma/swiotlb.c", "include/linux/swiotlb.h"];
/// The exit status of a program that has used more processor time than any should (`PROGRAM_HANGS` in `program.h`).
const HANGS: i32 = 42;

/// The files of one kernel.
pub(super) struct KernelCode {
    /// Its version.
    pub(super) version: String,
    folder: PathBuf,
}

/// The kernels whose functions are compared, from the cache or fetched now.
pub(super) fn all(cache: &Path) -> Result<Vec<KernelCode>> {
    let index = fetch::packages_index(cache, "trixie", "arm64")?;
    let stable = packages::named(&index, "linux-source-6.12").context("no linux-source-6.12 in trixie")?;
    let index = fetch::packages_index(cache, "trixie-backports", "arm64")?;
    let newest = packages::newest_source(&index, 7).context("no linux-source-7 in trixie-backports")?;
    [stable, newest].iter().map(|package| of_package(cache, package)).collect()
}

fn of_package(cache: &Path, package: &packages::Package) -> Result<KernelCode> {
    let version = package.version();
    let wanted = Sha256::digest(FILES.join("\n"));
    let kept =
        cache.join("source").join(format!("{version}-{}-{}", &package.sha256[..12], &format!("{wanted:x}")[..8]));
    if !kept.is_dir() {
        let work = kept.with_added_extension("work");
        let part = kept.with_added_extension("part");
        for folder in [&work, &part] {
            let _ = fs::remove_dir_all(folder);
        }
        fs::create_dir_all(&part)?;
        fetch::unpack(cache, &work, std::slice::from_ref(package))?;
        let archive = work.join("usr/src").join(format!("{}.tar.xz", package.name));
        let members = FILES.map(|file| format!("{}/{file}", package.name));
        eprintln!("lab: unpacking {} files of {}", FILES.len(), package.name);
        output(
            Command::new("tar").arg("-xf").arg(&archive).args(["--strip-components=1", "-C"]).arg(&part).args(members),
        )
        .with_context(|| format!("{} has not all files that are compared", package.name))?;
        fs::remove_dir_all(&work)?;
        fs::rename(&part, &kept).with_context(|| format!("cannot create {}", kept.display()))?;
    }
    Ok(KernelCode { version, folder: kept })
}

/// What a program made of its operations.
pub(super) struct Answers {
    /// The answers, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Why there are no more; `None` where the program ended by itself.
    pub(super) ended: Option<String>,
}

impl KernelCode {
    /// The kernel's swiotlb as a program: `pool.c`.
    pub(super) fn pool_program(&self, cache: &Path, page_shift: u32, grows: bool) -> Result<PathBuf> {
        let max_page_order = match page_shift {
            16 => 13,
            14 => 11,
            _ => 10,
        };
        let file = self.folder.join("kernel/dma/swiotlb.c");
        let mut defines = vec![
            format!("-DSWIOTLB_C=\"{}\"", file.display()),
            format!("-DPAGE_SHIFT={page_shift}"),
            format!("-DMAX_PAGE_ORDER={max_page_order}"),
        ];
        defines.extend(grows.then(|| "-DCONFIG_SWIOTLB_DYNAMIC=1".to_owned()));
        let own = self.folder.join("include/linux/swiotlb.h");
        self.program(cache, "pool.c", &[&file, &own], &[("linux/swiotlb.h", own.as_path())], &defines)
    }

    /// Compiles a program of `xtask/lab/source` that includes these files of the kernel, unless the cache has it. Every header that they
    /// ask for is empty, but these of the kernel's own.
    fn program(
        &self,
        cache: &Path,
        name: &str,
        files: &[&Path],
        headers: &[(&str, &Path)],
        defines: &[String],
    ) -> Result<PathBuf> {
        let ours = workspace::root().join("xtask/lab/source");
        let read = |file: &Path| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
        let mut key = Sha256::new();
        let mut asked = Vec::new();
        for file in files {
            let text = read(file)?;
            asked.extend(included(&text));
            key.update(text);
        }
        for file in [name, "kernel.h", "program.h", "program.c"] {
            key.update(read(&ours.join(file))?);
        }
        key.update(defines.join(" "));
        let key = format!("{:x}", key.finalize());
        let program = cache.join("source/programs").join(&key[..24]);
        if program.is_file() {
            return Ok(program);
        }
        let work = program.with_added_extension("headers");
        let _ = fs::remove_dir_all(&work);
        for header in &asked {
            let file = work.join(header);
            fs::create_dir_all(file.parent().unwrap_or(&work))?;
            match headers.iter().find(|(name, _)| name == header) {
                Some((_, own)) => fs::copy(own, &file).map(drop),
                None => fs::write(&file, ""),
            }
            .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let part = program.with_added_extension("part");
        let mut compiler = Command::new("gcc");
        compiler.args(["-std=gnu11", "-O2", "-w", "-fno-strict-aliasing"]);
        // What the stand-ins lack must not pass as something else.
        compiler.args(
            ["implicit-function-declaration", "int-conversion", "incompatible-pointer-types"]
                .map(|what| format!("-Werror={what}")),
        );
        compiler.arg("-I").arg(&work).args(defines).arg("-o").arg(&part);
        compiler.args([ours.join(name), ours.join("program.c")]);
        output(&mut compiler).with_context(|| {
            format!("the code of {} does not compile with xtask/lab/source: it asks for something new", self.version)
        })?;
        fs::remove_dir_all(&work)?;
        fs::rename(&part, &program).with_context(|| format!("cannot create {}", program.display()))?;
        Ok(program)
    }
}

/// The headers that a file asks for.
fn included(text: &str) -> Vec<String> {
    let header = |line: &str| Some(line.strip_prefix("#include <")?.split_once('>')?.0.to_owned());
    text.lines().filter_map(header).filter(|name| !name.split('/').any(|part| part == "..")).collect()
}

/// Lets a program do its operations, of which it reads all before it does the first.
pub(super) fn run(program: &Path, operations: &[u8]) -> Result<Answers> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let written = child.stdin.take().context("no standard input")?.write_all(operations);
    let output = child.wait_with_output()?;
    let ended = match output.status.code() {
        Some(0) => None,
        Some(HANGS) => Some("it does not return".to_owned()),
        _ => Some(format!("the program ended: {}", output.status)),
    };
    if ended.is_none() {
        written.context("the program did not read its operations")?;
    }
    Ok(Answers { bytes: output.stdout, ended })
}

/// Numbers as a program reads and writes them.
pub(super) fn numbers(bytes: &[u8]) -> Result<Vec<u64>> {
    ensure!(bytes.len().is_multiple_of(8), "an answer is cut off");
    let mut numbers = Vec::with_capacity(bytes.len() / 8);
    for word in bytes.chunks_exact(8) {
        let Ok(word) = word.try_into() else { bail!("an answer is cut off") };
        numbers.push(u64::from_ne_bytes(word));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_a_file_asks_for_are_found() {
        let text = "#include <linux/cache.h>\n#ifdef X\n#include <linux/of.h>\n#endif\n#include \"own.h\"\n#include <../x.h>\n";
        assert_eq!(included(text), ["linux/cache.h", "linux/of.h"]);
    }

    #[test]
    fn answers_are_whole_numbers() {
        assert_eq!(numbers(&[1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat()).unwrap(), [1, 2]);
        assert!(numbers(&[0; 9]).is_err());
    }
}
