// SPDX-License-Identifier: GPL-2.0
/*
 * Many mappings held at once: how many find a place, and what the pool counts meanwhile.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kstrtox.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "truth.h"

/* More than any pool of the lab's machines holds. */
#define MOST 700

struct held {
	void *buffer;
	dma_addr_t dma;
	bool mapped;
};

/* A counter of debugfs; -1 where it is not there or not a number. */
static long counter(const char *path)
{
	struct file *file = filp_open(path, O_RDONLY, 0);
	char digits[32] = "";
	loff_t position = 0;
	long value = -1;

	if (IS_ERR(file))
		return -1;
	if (kernel_read(file, digits, sizeof(digits) - 1, &position) <= 0 || kstrtol(digits, 10, &value))
		value = -1;
	filp_close(file, NULL);
	return value;
}

static long slots_used(void)
{
	return counter("/sys/kernel/debug/swiotlb/io_tlb_used");
}

static int one_hold(const struct target *target, struct held *held, size_t len, enum dma_data_direction direction,
		    unsigned int count)
{
	unsigned int at, mapped = 0, bounced = 0;
	long before = slots_used(), meanwhile;
	int error = 0;

	for (at = 0; at < count; at++) {
		phys_addr_t from, to;

		held[at].mapped = false;
		held[at].buffer = kmalloc(len, GFP_KERNEL);
		if (!held[at].buffer) {
			error = -ENOMEM;
			continue;
		}
		held[at].dma = dma_map_single(target->dev, held[at].buffer, len, direction);
		if (dma_mapping_error(target->dev, held[at].dma))
			continue;
		held[at].mapped = true;
		mapped++;
		from = virt_to_phys(held[at].buffer);
		bounced += *target_fate(target, from, len, held[at].dma, &to) == 'b';
	}
	meanwhile = slots_used();
	for (at = 0; at < count; at++) {
		if (held[at].mapped)
			dma_unmap_single(target->dev, held[at].dma, len, direction);
		kfree(held[at].buffer);
	}
	table_print("hold %zu %d %u %u %u %ld %ld %ld\n", len, direction, count, mapped, bounced, before, meanwhile,
		    slots_used());
	return error;
}

int hold_entries(const struct target *target)
{
	static const unsigned int counts[] = { 1, 10, 100, MOST };
	static const size_t lengths[] = { 8, 40, 96, 192, 1024 };
	struct held *held = vcalloc(MOST, sizeof(*held));
	unsigned int length, count;
	int direction, error = 0;

	if (!held)
		return -ENOMEM;
	table_print("fact pool_slots %ld\n", counter("/sys/kernel/debug/swiotlb/io_tlb_nslabs"));
	for (direction = 0; direction < DIRECTIONS && !error; direction++)
		for (length = 0; length < ARRAY_SIZE(lengths) && !error; length++)
			for (count = 0; count < ARRAY_SIZE(counts) && !error; count++)
				error = one_hold(target, held, lengths[length], direction, counts[count]);
	vfree(held);
	return error;
}
