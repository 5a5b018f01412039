// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers mapped by themselves: every length as an object of its own, and as a part of a larger object.
 */
#include <linux/io.h>
#include <linux/slab.h>

#include "truth.h"

/* Lengths mapped as objects of their own. */
#define LONGEST 1024
/* Lengths mapped as parts, at OFFSET of an object of PART_OF bytes. */
#define LONGEST_PART 256
#define PART_OF 1024
#define OFFSET 512

static int one_buffer(const struct target *target, size_t object, size_t offset, size_t len,
			enum dma_data_direction direction)
{
	const char *fate = "refused";
	phys_addr_t from, to = 0;
	void *buffer = kmalloc(object, GFP_KERNEL);
	dma_addr_t dma;

	if (!buffer)
		return -ENOMEM;
	from = virt_to_phys(buffer) + offset;
	dma = dma_map_single(target->dev, buffer + offset, len, direction);
	if (!dma_mapping_error(target->dev, dma)) {
		fate = target_fate(target, from, len, dma, &to);
		dma_unmap_single(target->dev, dma, len, direction);
	}
	table_print("single %zu %zu %zu %d %zu %pa %pa %s\n", object, offset, len, direction, ksize(buffer), &from, &to,
		    fate);
	kfree(buffer);
	return 0;
}

int single_entries(const struct target *target)
{
	int direction, error = 0;
	size_t len;

	for (direction = 0; direction < DIRECTIONS && !error; direction++) {
		for (len = 1; len <= LONGEST && !error; len++)
			error = one_buffer(target, len, 0, len, direction);
		for (len = 1; len <= LONGEST_PART && !error; len++)
			error = one_buffer(target, PART_OF, OFFSET, len, direction);
	}
	return error;
}
