// SPDX-License-Identifier: GPL-2.0
/*
 * Scatterlists: what becomes of each of their segments, and how many DMA segments come out.
 */
#include <linux/io.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "truth.h"

#define SEGMENTS 8

/* Lengths of a list's segments, up to the first 0. */
static const unsigned int lists[][SEGMENTS] = {
	/* Nothing small. */
	{ 4096 },
	{ 4096, 4096 },
	{ 4096, 4096, 4096 },
	{ 4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096 },
	{ 512, 512 },
	{ 1024, 2048, 4096 },
	{ 4096, 4096, 512 },
	{ 512, 4096, 4096 },
	/* One small, at each place. */
	{ 8 },
	{ 8, 4096 },
	{ 4096, 8 },
	{ 8, 4096, 4096 },
	{ 4096, 8, 4096 },
	{ 4096, 4096, 8 },
	{ 8, 4096, 4096, 4096 },
	{ 4096, 8, 4096, 4096 },
	{ 4096, 4096, 8, 4096 },
	{ 4096, 4096, 4096, 8 },
	/* Several small. */
	{ 8, 8 },
	{ 8, 4096, 8 },
	{ 8, 8, 8, 8, 8, 8, 8, 8 },
	{ 8, 16, 24, 32, 64, 96, 128, 192 },
	{ 1, 255, 256, 257, 1, 255, 256, 257 },
	{ 4096, 1, 1, 4096, 1, 4096 },
	{ 90, 4096, 180, 4096 },
	/*
	 * Each side of a cache's size: alone, between pages, after pages, which are concatenated if nothing is small, and
	 * twice.
	 */
	{ 32 }, { 4096, 32, 4096 }, { 4096, 4096, 32 }, { 32, 32 },
	{ 33 }, { 4096, 33, 4096 }, { 4096, 4096, 33 }, { 33, 33 },
	{ 64 }, { 4096, 64, 4096 }, { 4096, 4096, 64 }, { 64, 64 },
	{ 65 }, { 4096, 65, 4096 }, { 4096, 4096, 65 }, { 65, 65 },
	{ 96 }, { 4096, 96, 4096 }, { 4096, 4096, 96 }, { 96, 96 },
	{ 97 }, { 4096, 97, 4096 }, { 4096, 4096, 97 }, { 97, 97 },
	{ 128 }, { 4096, 128, 4096 }, { 4096, 4096, 128 }, { 128, 128 },
	{ 129 }, { 4096, 129, 4096 }, { 4096, 4096, 129 }, { 129, 129 },
	{ 192 }, { 4096, 192, 4096 }, { 4096, 4096, 192 }, { 192, 192 },
	{ 193 }, { 4096, 193, 4096 }, { 4096, 4096, 193 }, { 193, 193 },
	{ 255 }, { 4096, 255, 4096 }, { 4096, 4096, 255 }, { 255, 255 },
	{ 256 }, { 4096, 256, 4096 }, { 4096, 4096, 256 }, { 256, 256 },
};

static unsigned int segments_of(const unsigned int *lengths)
{
	unsigned int count = 0;

	while (count < SEGMENTS && lengths[count])
		count++;
	return count;
}

/*
 * The segments follow one another in the DMA segments, of which each may hold several: the cursor is @used bytes into
 * @segment.
 */
static void print_segments(const struct target *target, struct scatterlist *list, const unsigned int *lengths,
			   unsigned int count, unsigned int ents)
{
	struct scatterlist *segment = list;
	/* A segment that no DMA segment has room for, or that lies in two, was not concatenated as it has to be. */
	const char *unmapped = ents ? "torn" : "refused";
	unsigned int used = 0, at;

	for (at = 0; at < count; at++) {
		phys_addr_t from = sg_phys(&list[at]), to = 0;
		const char *fate = unmapped;

		if (ents && used >= sg_dma_len(segment)) {
			segment = sg_next(segment);
			used = 0;
			ents--;
		}
		if (ents && used + lengths[at] <= sg_dma_len(segment))
			fate = target_fate(target, from, lengths[at], sg_dma_address(segment) + used, &to);
		used += lengths[at];
		table_print(" %u:%pa:%pa:%s", lengths[at], &from, &to, fate);
	}
}

static int one_list(const struct target *target, unsigned int number, enum dma_data_direction direction)
{
	const unsigned int *lengths = lists[number];
	unsigned int count = segments_of(lengths), at, ents;
	struct scatterlist list[SEGMENTS];
	void *buffers[SEGMENTS] = {};
	int error = -ENOMEM;

	sg_init_table(list, count);
	for (at = 0; at < count; at++) {
		buffers[at] = kmalloc(lengths[at], GFP_KERNEL);
		if (!buffers[at])
			goto free;
		sg_set_buf(&list[at], buffers[at], lengths[at]);
	}
	ents = dma_map_sg(target->dev, list, count, direction);
	table_print("list %u %d %u %u", number, direction, count, ents);
	print_segments(target, list, lengths, count, ents);
	table_print("\n");
	if (ents)
		dma_unmap_sg(target->dev, list, count, direction);
	error = 0;
free:
	for (at = 0; at < count; at++)
		kfree(buffers[at]);
	return error;
}

int list_entries(const struct target *target)
{
	int direction, error = 0;
	unsigned int number;

	for (direction = 0; direction < DIRECTIONS && !error; direction++)
		for (number = 0; number < ARRAY_SIZE(lists) && !error; number++)
			error = one_list(target, number, direction);
	return error;
}
