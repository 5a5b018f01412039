################################################################################
#
# bouncescope
#
################################################################################

BOUNCESCOPE_VERSION = 0.1.0
BOUNCESCOPE_SITE = $(call qstrip,$(BR2_PACKAGE_BOUNCESCOPE_SITE))
BOUNCESCOPE_SITE_METHOD = local
BOUNCESCOPE_LICENSE = MIT or Apache-2.0
BOUNCESCOPE_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE

BOUNCESCOPE_FEATURES = live
ifeq ($(BR2_PACKAGE_BOUNCESCOPE_REPORT),y)
BOUNCESCOPE_FEATURES := $(BOUNCESCOPE_FEATURES),report
endif

BOUNCESCOPE_CARGO_INSTALL_OPTS = --no-default-features --features $(BOUNCESCOPE_FEATURES)
BOUNCESCOPE_CARGO_BUILD_OPTS = --package bouncescope $(BOUNCESCOPE_CARGO_INSTALL_OPTS)

define BOUNCESCOPE_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_BPF_SYSCALL)
	$(call KCONFIG_ENABLE_OPT,CONFIG_PERF_EVENTS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_KPROBES)
	$(call KCONFIG_ENABLE_OPT,CONFIG_KPROBE_EVENTS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_BPF_EVENTS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_DEBUG_FS)
endef

ifeq ($(BR2_PACKAGE_BOUNCESCOPE_REPORT),y)
define BOUNCESCOPE_INSTALL_SERVE_UNIT
	$(INSTALL) -D -m 0644 $(@D)/packaging/systemd/bouncescope.service \
		$(TARGET_DIR)/usr/lib/systemd/system/bouncescope.service
endef
endif

define BOUNCESCOPE_INSTALL_INIT_SYSTEMD
	$(BOUNCESCOPE_INSTALL_SERVE_UNIT)
	$(INSTALL) -D -m 0644 $(@D)/packaging/systemd/bouncescope-flight.service \
		$(TARGET_DIR)/usr/lib/systemd/system/bouncescope-flight.service
endef

$(eval $(cargo-package))
