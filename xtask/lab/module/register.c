// SPDX-License-Identifier: GPL-2.0
/*
 * Device registers mapped for DMA, as for a DMA engine that serves a FIFO: no memory, so that no length of them may bounce. From
 * 6.18 on dma_map_resource() is dma_map_phys() with DMA_ATTR_MMIO.
 */
#include <linux/dma-mapping.h>
#include <linux/pci.h>

#include "truth.h"

int map_registers(const struct target *target, unsigned int count)
{
	phys_addr_t at = dev_is_pci(target->dev) ? pci_resource_start(to_pci_dev(target->dev), 0) : 0;
	unsigned int nth;

	if (!at)
		return -ENODEV;
	for (nth = 0; nth < count; nth++) {
		enum dma_data_direction direction = nth % DIRECTIONS;
		size_t len = 1 + nth % 300;
		dma_addr_t dma = dma_map_resource(target->dev, at + nth % 8, len, direction, 0);

		if (dma_mapping_error(target->dev, dma))
			return -EIO;
		dma_unmap_resource(target->dev, dma, len, direction, 0);
	}
	return 0;
}
