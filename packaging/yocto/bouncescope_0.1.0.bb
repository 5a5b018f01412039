SUMMARY = "DMA bouncing and small kmalloc caches, traced and predicted"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = " \
    file://LICENSE-MIT;md5=8ef5ec8615d295ccd5ecd9a0bab6aba4 \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
"

# Where the repository is, and which commit of it, in local.conf or a bbappend.
BOUNCESCOPE_URI ?= "git:///path/to/bouncescope;protocol=file;branch=main"
SRC_URI = "${BOUNCESCOPE_URI};destsuffix=git"
SRCREV ?= "${AUTOREV}"
# Releases before styhead (5.1) unpack into WORKDIR.
S = "${@d.getVar('UNPACKDIR') or d.getVar('WORKDIR')}/git"

inherit cargo cargo-update-recipe-crates systemd

# The crates of Cargo.lock; `bitbake -c update_crates bouncescope` writes the file.
include bouncescope-crates.inc

COMPATIBLE_HOST = "(aarch64|x86_64).*-linux"

PACKAGECONFIG ??= "live report"
PACKAGECONFIG[live] = ""
PACKAGECONFIG[report] = ""
CARGO_BUILD_FLAGS += "--package bouncescope --no-default-features --features ${@','.join(d.getVar('PACKAGECONFIG').split())}"

SYSTEMD_SERVICE:${PN} = "${@bb.utils.contains('PACKAGECONFIG', 'report', 'bouncescope.service', '', d)} ${@bb.utils.contains('PACKAGECONFIG', 'live', 'bouncescope-flight.service', '', d)}"
SYSTEMD_AUTO_ENABLE = "disable"

do_install:append() {
    if ${@bb.utils.contains('PACKAGECONFIG', 'report', 'true', 'false', d)}; then
        install -D -m 0644 ${S}/packaging/systemd/bouncescope.service ${D}${systemd_system_unitdir}/bouncescope.service
    fi
    if ${@bb.utils.contains('PACKAGECONFIG', 'live', 'true', 'false', d)}; then
        install -D -m 0644 ${S}/packaging/systemd/bouncescope-flight.service ${D}${systemd_system_unitdir}/bouncescope-flight.service
    fi
}
