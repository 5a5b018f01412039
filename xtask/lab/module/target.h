/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The device under test, and what it reaches through an address that it was given.
 */
#ifndef BOUNCE_TARGET_H
#define BOUNCE_TARGET_H

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/types.h>

struct target {
	struct device *dev;
	/* Behind an IOMMU that translates, else NULL. */
	struct iommu_domain *domain;
};

/* The physical address that a device reaches at @dma. */
phys_addr_t target_phys(const struct target *target, dma_addr_t dma);

/*
 * "direct" when the device reaches [@from, @from + @len) itself through @dma, "bounced" when it reaches something else.
 * @to is what it reaches.
 */
const char *target_fate(const struct target *target, phys_addr_t from, size_t len, dma_addr_t dma, phys_addr_t *to);

#endif
