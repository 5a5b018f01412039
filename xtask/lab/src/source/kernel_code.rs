//! The kernel's code: fetched from Debian, of which only the files in question are kept in the cache, and compiled into programs for this
//! machine with the lab's stand-ins for the rest of the kernel (`xtask/lab/source`).

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    fetch::{self, output},
    packages,
};

/// Files of the kernel that are kept.
const FILES: [&str; 11] = [
    "drivers/iommu/dma-iommu.c",
    "include/linux/dma-direct.h",
    "include/linux/dma-map-ops.h",
    "include/linux/iova.h",
    "include/linux/slab.h",
    "include/linux/swiotlb.h",
    "kernel/dma/direct.c",
    "kernel/dma/direct.h",
    "kernel/dma/swiotlb.c",
    "mm/slab.h",
    "mm/slab_common.c",
];
/// Functions and tables that are cut out for `rules.c`, each before those that use it, and the file that defines them. What one kernel has
/// under another name, or not at all, is `false`: what nobody defines does not compile.
const FUNCTIONS: [(&str, &str, bool); 38] = [
    ("mm/slab_common.c", "kmalloc_size_index", true),
    ("mm/slab_common.c", "kmalloc_info", true),
    ("mm/slab.h", "size_index_elem", true),
    ("include/linux/slab.h", "kmalloc_type", true),
    ("include/linux/slab.h", "__kmalloc_index", true),
    ("mm/slab.h", "kmalloc_slab", true),
    ("mm/slab_common.c", "kmalloc_size_roundup", true),
    ("mm/slab_common.c", "setup_kmalloc_cache_index_table", true),
    ("mm/slab_common.c", "__kmalloc_minalign", true),
    ("mm/slab_common.c", "new_kmalloc_cache", true),
    ("mm/slab_common.c", "create_kmalloc_caches", true),
    ("include/linux/dma-map-ops.h", "dma_kmalloc_safe", true),
    ("include/linux/dma-map-ops.h", "dma_kmalloc_size_aligned", true),
    ("include/linux/dma-map-ops.h", "dma_kmalloc_needs_bounce", true),
    ("include/linux/dma-direct.h", "dma_capable", true),
    ("kernel/dma/direct.h", "dma_direct_map_page", false),
    ("kernel/dma/direct.h", "dma_direct_map_phys", false),
    ("kernel/dma/direct.c", "dma_direct_map_phys", false),
    ("kernel/dma/direct.c", "dma_direct_map_sg", true),
    ("include/linux/iova.h", "iova_mask", true),
    ("include/linux/iova.h", "iova_offset", true),
    ("include/linux/iova.h", "iova_align", true),
    ("include/linux/iova.h", "iova_align_down", false),
    ("drivers/iommu/dma-iommu.c", "dev_is_untrusted", true),
    ("drivers/iommu/dma-iommu.c", "dev_use_swiotlb", true),
    ("drivers/iommu/dma-iommu.c", "dev_use_sg_swiotlb", true),
    ("drivers/iommu/dma-iommu.c", "iommu_dma_map_swiotlb", false),
    ("drivers/iommu/dma-iommu.c", "iova_unaligned", false),
    ("drivers/iommu/dma-iommu.c", "iommu_dma_map_page", false),
    ("drivers/iommu/dma-iommu.c", "iommu_dma_map_phys", false),
    ("drivers/iommu/dma-iommu.c", "__dma_iova_link", false),
    ("drivers/iommu/dma-iommu.c", "iommu_dma_iova_bounce_and_link", false),
    ("drivers/iommu/dma-iommu.c", "iommu_dma_iova_link_swiotlb", false),
    ("drivers/iommu/dma-iommu.c", "dma_iova_link", false),
    ("drivers/iommu/dma-iommu.c", "__finalise_sg", true),
    ("drivers/iommu/dma-iommu.c", "__invalidate_sg", true),
    ("drivers/iommu/dma-iommu.c", "iommu_dma_map_sg_swiotlb", true),
    ("drivers/iommu/dma-iommu.c", "iommu_dma_map_sg", true),
];
/// The exit status of a program that has used more processor time than any should (`PROGRAM_HANGS` in `program.h`).
const HANGS: i32 = 42;

/// The files of one kernel.
pub(super) struct KernelCode {
    /// Its version.
    pub(super) version: String,
    folder: PathBuf,
    /// Held while a file is written or a program compiled: several comparisons ask for the same.
    compiling: Mutex<()>,
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
    Ok(KernelCode { version, folder: kept, compiling: Mutex::new(()) })
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
        let file = self.folder.join("kernel/dma/swiotlb.c");
        let mut defines = vec![format!("-DSWIOTLB_C=\"{}\"", file.display())];
        defines.extend(pages(page_shift));
        defines.extend(grows.then(|| "-DCONFIG_SWIOTLB_DYNAMIC=1".to_owned()));
        let own = self.folder.join("include/linux/swiotlb.h");
        self.program(cache, "pool.c", &[&file, &own], &[("linux/swiotlb.h", own.as_path())], &defines)
    }

    /// The kernel's decisions as a program: `rules.c`, with the functions cut out of the kernel's files.
    pub(super) fn rules_program(&self, cache: &Path, page_shift: u32) -> Result<PathBuf> {
        let mut text = String::new();
        for (file, name, is_needed) in FUNCTIONS {
            let path = self.folder.join(file);
            let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            match cut_out(&source, name) {
                Some(function) => text += &format!("#define HAVE_{name} 1\n{function}\n"),
                None => ensure!(!is_needed, "{} {file} does not define {name}", self.version),
            }
        }
        let file = self.folder.with_added_extension("functions.c");
        self.write(&file, &text)?;
        let mut defines = vec![format!("-DFUNCTIONS_C=\"{}\"", file.display())];
        defines.extend(pages(page_shift));
        self.program(cache, "rules.c", &[&file], &[], &defines)
    }

    /// Writes a file that a compiler may be reading.
    fn write(&self, file: &Path, text: &str) -> Result<()> {
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        let part = file.with_added_extension("part");
        fs::write(&part, text).with_context(|| format!("cannot write {}", part.display()))?;
        fs::rename(&part, file).with_context(|| format!("cannot create {}", file.display()))
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
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
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
        fs::create_dir_all(&work)?;
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

/// Pages of this size, and the largest order that arm64 has with them by default.
fn pages(page_shift: u32) -> [String; 2] {
    let max_page_order = match page_shift {
        16 => 13,
        14 => 11,
        _ => 10,
    };
    [format!("-DPAGE_SHIFT={page_shift}"), format!("-DMAX_PAGE_ORDER={max_page_order}")]
}

/// The definition of a function or table of the kernel, from its first line to the brace that closes it; `None` where the text has none.
fn cut_out<'a>(text: &'a str, name: &str) -> Option<String> {
    let lines: Vec<&'a str> = text.lines().collect();
    let is_named = |line: &str| {
        let starts = line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let mut found = line.match_indices(name).filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            let after = line[at + name.len()..].chars().next();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_') && matches!(after, Some('(' | '['))
        });
        starts && found.next().is_some()
    };
    // A declaration ends before any brace.
    let is_defined = |nth: usize| {
        let end = lines[nth..].iter().find(|line| line.contains('{') || line.trim_end().ends_with([';', '}']));
        end.is_some_and(|line| line.contains('{')) || lines.get(nth + 1) == Some(&"{")
    };
    let nth = (0..lines.len()).find(|&nth| is_named(lines[nth]) && is_defined(nth))?;
    let end = nth + lines[nth..].iter().position(|line| ["}", "};"].contains(line))?;
    // Its type may stand in the lines before.
    let is_of_it = |line: &&str| {
        line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !line.ends_with([';', ')', ':'])
    };
    let before = lines[..nth].iter().rev().take_while(|line| is_of_it(line)).count();
    Some(lines[nth - before..=end].join("\n"))
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
    fn a_function_is_cut_out_whole_and_a_declaration_is_not_taken_for_it() {
        let text = "size_t round(size_t size);\n\nstatic int rounder(void)\n{\n\treturn round(1);\n}\n\n/* Why. */\nstatic inline\nsize_t round(size_t size,\n\t\tint x)\n{\n\tif (x) {\n\t}\n\treturn 1;\n}\nEXPORT(round);\nu8 table[2] = {\n\t1,\n};\n";
        let function = "static inline\nsize_t round(size_t size,\n\t\tint x)\n{\n\tif (x) {\n\t}\n\treturn 1;\n}";
        assert_eq!(cut_out(text, "round").as_deref(), Some(function));
        assert_eq!(cut_out(text, "table").as_deref(), Some("u8 table[2] = {\n\t1,\n};"));
        assert_eq!(cut_out(text, "square"), None);
    }

    #[test]
    fn answers_are_whole_numbers() {
        assert_eq!(numbers(&[1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat()).unwrap(), [1, 2]);
        assert!(numbers(&[0; 9]).is_err());
    }
}
