// SPDX-License-Identifier: GPL-2.0
/*
 * Whether a device reaches a buffer itself, by the addresses alone.
 */
#include <linux/dma-direct.h>

#include "target.h"

phys_addr_t target_phys(const struct target *target, dma_addr_t dma)
{
	return target->domain ? iommu_iova_to_phys(target->domain, dma) : dma_to_phys(target->dev, dma);
}

const char *target_fate(const struct target *target, phys_addr_t from, size_t len, dma_addr_t dma, phys_addr_t *to)
{
	phys_addr_t last = target_phys(target, dma + len - 1);

	*to = target_phys(target, dma);
	return *to == from && last == from + len - 1 ? "direct" : "bounced";
}
