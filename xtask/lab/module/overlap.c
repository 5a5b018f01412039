// SPDX-License-Identifier: GPL-2.0
/*
 * Two mappings in one cache line at the same time, and beside each other in time or place without being so: what overlaps is known by
 * the kernel's rule alone.
 */
#include <linux/cache.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "truth.h"

/* Longer than what bounces for its length, on any line size. */
#define LONGER 300

/* A buffer at an offset in a page of its own, and who maps it. */
struct part {
	bool by_other;
	unsigned int offset;
	unsigned int length;
	enum dma_data_direction direction;
	/* By way of a list. */
	bool listed;
};

/* Two that are mapped one after the other; at once unless the first is unmapped before. */
struct pair {
	struct part first, second;
	bool in_turn;
};

static const struct pair pairs[] = {
	/* Both are written, and so short that they bounce where there is a pool. */
	{ { false, 0, 8, DMA_FROM_DEVICE }, { false, 8, 8, DMA_FROM_DEVICE } },
	/* By two devices. */
	{ { false, 0, 8, DMA_FROM_DEVICE }, { true, 8, 8, DMA_BIDIRECTIONAL } },
	/* One is only read, and never bounces for its length. */
	{ { false, 0, 8, DMA_TO_DEVICE }, { false, 8, 8, DMA_FROM_DEVICE } },
	{ { false, 0, 8, DMA_FROM_DEVICE }, { true, 8, 8, DMA_TO_DEVICE } },
	/* One in a list. */
	{ { false, 0, 16, DMA_FROM_DEVICE, true }, { true, 16, 16, DMA_FROM_DEVICE } },
	/* Only one of the two bounces. */
	{ { false, 0, LONGER, DMA_FROM_DEVICE }, { false, LONGER, 8, DMA_FROM_DEVICE } },
	/* None does, on any kernel: the same line, and the same bytes. */
	{ { false, 0, LONGER, DMA_FROM_DEVICE }, { true, LONGER, LONGER, DMA_FROM_DEVICE } },
	{ { false, 0, 2 * LONGER, DMA_TO_DEVICE }, { true, LONGER, LONGER, DMA_FROM_DEVICE } },
	/* No overlaps: both are only read, in turn, in two lines. */
	{ { false, 0, LONGER, DMA_TO_DEVICE }, { true, LONGER, LONGER, DMA_TO_DEVICE } },
	{ { false, 0, LONGER, DMA_FROM_DEVICE }, { true, LONGER, LONGER, DMA_FROM_DEVICE }, true },
	{ { false, 0, 512, DMA_FROM_DEVICE }, { true, 512, 512, DMA_FROM_DEVICE } },
};

/* A mapping that lasts. */
struct held {
	struct device *dev;
	const struct part *part;
	struct scatterlist list;
	dma_addr_t dma;
};

static int hold_part(struct held *held, const struct part *part, struct device *const devices[2], void *page)
{
	held->dev = devices[part->by_other];
	held->part = part;
	if (part->listed) {
		sg_init_one(&held->list, page + part->offset, part->length);
		return dma_map_sg(held->dev, &held->list, 1, part->direction) ? 0 : -EIO;
	}
	held->dma = dma_map_single(held->dev, page + part->offset, part->length, part->direction);
	return dma_mapping_error(held->dev, held->dma) ? -EIO : 0;
}

static void let_go(struct held *held)
{
	if (held->part->listed)
		dma_unmap_sg(held->dev, &held->list, 1, held->part->direction);
	else
		dma_unmap_single(held->dev, held->dma, held->part->length, held->part->direction);
}

static int one_pair(const struct pair *pair, struct device *const devices[2], void *page)
{
	struct held first, second;
	int error = hold_part(&first, &pair->first, devices, page);

	if (error)
		return error;
	if (pair->in_turn)
		let_go(&first);
	error = hold_part(&second, &pair->second, devices, page);
	if (!error)
		let_go(&second);
	if (!pair->in_turn)
		let_go(&first);
	return error;
}

int overlaps(const struct target *target, unsigned int rounds)
{
	struct platform_device *other = platform_device_register_simple("bounce_beside", PLATFORM_DEVID_NONE, NULL, 0);
	struct device *devices[2] = { target->dev };
	void *page = (void *)get_zeroed_page(GFP_KERNEL);
	unsigned int round, at;
	int error = 0;

	if (IS_ERR(other)) {
		free_page((unsigned long)page);
		return PTR_ERR(other);
	}
	devices[1] = &other->dev;
	error = page ? dma_set_mask_and_coherent(devices[1], DMA_BIT_MASK(64)) : -ENOMEM;
	for (round = 0; round < rounds && !error; round++)
		for (at = 0; at < ARRAY_SIZE(pairs) && !error; at++)
			error = one_pair(&pairs[at], devices, page);
	platform_device_unregister(other);
	free_page((unsigned long)page);
	return error;
}
