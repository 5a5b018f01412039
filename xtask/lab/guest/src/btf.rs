//! The BTF that the lab packs for a kernel that shows none itself.

use std::path::Path;

/// Where it is packed.
const BTF: &str = "/boot/vmlinux.btf";

/// The product's options for it, if it is there.
pub(crate) fn options() -> impl Iterator<Item = &'static str> {
    let packed = Path::new(BTF).exists();
    ["--btf", BTF].into_iter().filter(move |_| packed)
}
