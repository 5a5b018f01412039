// SPDX-License-Identifier: GPL-2.0
/*
 * Lists of mixed lengths, mapped, synced and unmapped as drivers do; and tables that are mapped again without being initialised.
 */
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "truth.h"

/* Most segments of a usual list, and segments of a long one, whose table is chained. */
#define MOST 16
#define LONG 200
/* Every so many lists one is long. */
#define LONG_EVERY 50

/* The same at every run. */
static u32 state = 1;

static u32 below(u32 limit)
{
	state = state * 1664525 + 1013904223;
	return (state >> 8) % limit;
}

/* Whole pages, which an IOMMU puts together. */
static const unsigned int whole[] = { 4096, 8192, 4096, 16384 };
/* Parts of pages, of which none bounces for its length. */
static const unsigned int parts[] = { 512, 1024, 2048, 4096, 640, 3072, 8192, 256 };
/* Some bounce for their length, some do not. */
static const unsigned int mixed[] = { 8, 4096, 24, 64, 4096, 90, 128, 8192, 1, 180, 256, 4096, 200, 1024, 129, 32 };

#define ONE_OF(lengths) ((lengths)[below(ARRAY_SIZE(lengths))])

static unsigned int length_of(unsigned int kind, unsigned int at, unsigned int count)
{
	switch (kind) {
	case 0:
		return ONE_OF(whole);
	case 1:
		return ONE_OF(parts);
	case 2:
		return ONE_OF(mixed);
	default:
		/* Pages with something small behind them. */
		return at + 1 < count ? ONE_OF(whole) : 8;
	}
}

static void free_buffers(struct sg_table *table)
{
	struct scatterlist *one;
	unsigned int at;

	for_each_sgtable_sg(table, one, at)
		if (sg_page(one))
			kfree(sg_virt(one));
}

static int fill(struct sg_table *table, unsigned int kind)
{
	struct scatterlist *one;
	unsigned int at;

	for_each_sgtable_sg(table, one, at) {
		unsigned int length = length_of(kind, at, table->orig_nents);
		void *buffer = kmalloc(length, GFP_KERNEL);

		if (!buffer)
			return -ENOMEM;
		sg_set_buf(one, buffer, length);
	}
	return 0;
}

/* By either of the functions that drivers call, and with a few syncs. */
static int use(const struct target *target, struct sg_table *table, unsigned int number)
{
	enum dma_data_direction direction = number % DIRECTIONS;
	unsigned int syncs = below(3);

	if (number & 1) {
		int error = dma_map_sgtable(target->dev, table, direction, 0);

		if (error)
			return error;
		while (syncs-- > 0) {
			dma_sync_sgtable_for_cpu(target->dev, table, direction);
			dma_sync_sgtable_for_device(target->dev, table, direction);
		}
		dma_unmap_sgtable(target->dev, table, direction, 0);
		return 0;
	}
	if (!dma_map_sg(target->dev, table->sgl, table->orig_nents, direction))
		return -EIO;
	while (syncs-- > 0) {
		dma_sync_sg_for_cpu(target->dev, table->sgl, table->orig_nents, direction);
		dma_sync_sg_for_device(target->dev, table->sgl, table->orig_nents, direction);
	}
	dma_unmap_sg(target->dev, table->sgl, table->orig_nents, direction);
	return 0;
}

static int one_mixed(const struct target *target, unsigned int number)
{
	unsigned int count = number % LONG_EVERY ? 1 + below(MOST) : LONG;
	struct sg_table table;
	int error = sg_alloc_table(&table, count, GFP_KERNEL);

	if (error)
		return error;
	error = fill(&table, number / DIRECTIONS % 4);
	error = error ?: use(target, &table, number);
	free_buffers(&table);
	sg_free_table(&table);
	return error;
}

int mixed_lists(const struct target *target, unsigned int count)
{
	unsigned int number;
	int error = 0;

	for (number = 0; number < count && !error; number++)
		error = one_mixed(target, number);
	return error;
}

/* What unmapping would do with a mark that is none of this mapping's is not to be tried: it is put back afterwards. */
static void unmap_without_mark(const struct target *target, struct scatterlist *list, unsigned int count)
{
#ifdef CONFIG_NEED_SG_DMA_FLAGS
	unsigned int mark = list->dma_flags & SG_DMA_SWIOTLB;

	list->dma_flags &= ~mark;
	dma_unmap_sg(target->dev, list, count, DMA_FROM_DEVICE);
	list->dma_flags |= mark;
#else
	dma_unmap_sg(target->dev, list, count, DMA_FROM_DEVICE);
#endif
}

/* A table with something small in it, and then @count times with pages. */
int stale_lists(const struct target *target, unsigned int count)
{
	struct scatterlist list[3];
	void *pages = kmalloc(3 * PAGE_SIZE, GFP_KERNEL), *small = kmalloc(8, GFP_KERNEL);
	int error = pages && small ? 0 : -ENOMEM;
	unsigned int at;

	sg_init_table(list, ARRAY_SIZE(list));
	for (at = 0; at <= count && !error; at++) {
		unsigned int segment;

		for (segment = 0; segment < ARRAY_SIZE(list); segment++)
			sg_set_buf(&list[segment], pages + segment * PAGE_SIZE, PAGE_SIZE);
		if (at == 0)
			sg_set_buf(&list[1], small, 8);
		if (!dma_map_sg(target->dev, list, ARRAY_SIZE(list), DMA_FROM_DEVICE)) {
			error = -EIO;
			break;
		}
		if (at > 0)
			unmap_without_mark(target, list, ARRAY_SIZE(list));
		else
			dma_unmap_sg(target->dev, list, ARRAY_SIZE(list), DMA_FROM_DEVICE);
	}
	kfree(small);
	kfree(pages);
	return error;
}
