// SPDX-License-Identifier: GPL-2.0
/*
 * Cache maintenance: the same buffers are handed over again and again, with interrupts off, and the module says how often the
 * kernel has to maintain caches for that, and how long the handing over takes.
 */
#include <linux/irqflags.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "truth.h"

/* Of each kind. */
#define CALLS 256
/* Of a list: its first element is short enough to bounce. */
#define ELEMENTS 3

static const size_t lengths[] = { 64, 4096, 16384, 65536 };

/* Calls of arch_sync_dma_for_device() and arch_sync_dma_for_cpu() that buffers of this length need. */
static void print_calls(size_t len, unsigned int for_device, unsigned int for_cpu)
{
	table_print("calls for_device %zu %u\ncalls for_cpu %zu %u\n", len, for_device, len, for_cpu);
}

/* Handed over in both directions, and timed. No interrupt comes in between. */
static int one_length(const struct target *target, size_t len)
{
	u64 for_device = 0, for_cpu = 0;
	void *buffer = kmalloc(len, GFP_KERNEL);
	unsigned long flags;
	unsigned int at;
	dma_addr_t dma;

	if (!buffer)
		return -ENOMEM;
	dma = dma_map_single(target->dev, buffer, len, DMA_FROM_DEVICE);
	if (dma_mapping_error(target->dev, dma)) {
		kfree(buffer);
		return -EIO;
	}
	local_irq_save(flags);
	for (at = 0; at < CALLS; at++) {
		u64 before = ktime_get_mono_fast_ns(), between;

		dma_sync_single_for_device(target->dev, dma, len, DMA_FROM_DEVICE);
		between = ktime_get_mono_fast_ns();
		dma_sync_single_for_cpu(target->dev, dma, len, DMA_FROM_DEVICE);
		for_device += between - before;
		for_cpu += ktime_get_mono_fast_ns() - between;
	}
	local_irq_restore(flags);
	dma_unmap_single(target->dev, dma, len, DMA_FROM_DEVICE);
	kfree(buffer);
	table_print("time for_device %zu %u %llu\ntime for_cpu %zu %u %llu\n", len, CALLS, for_device, len, CALLS, for_cpu);
	print_calls(len, CALLS + 1, CALLS + 1);
	return 0;
}

/* Mapped and unmapped. What the device only reads is maintained for it, and not for the CPU. */
static int one_mapping(const struct target *target, size_t len, enum dma_data_direction direction)
{
	void *buffer = kmalloc(len, GFP_KERNEL);
	unsigned int at, bounced = 0;

	if (!buffer)
		return -ENOMEM;
	for (at = 0; at < CALLS; at++) {
		dma_addr_t dma = dma_map_single(target->dev, buffer, len, direction);
		phys_addr_t to;

		if (dma_mapping_error(target->dev, dma)) {
			kfree(buffer);
			return -EIO;
		}
		bounced += *target_fate(target, virt_to_phys(buffer), len, dma, &to) == 'b';
		dma_unmap_single(target->dev, dma, len, direction);
	}
	kfree(buffer);
	table_print("bounced %zu %d %u\n", len, direction, bounced);
	print_calls(len, CALLS, direction == DMA_TO_DEVICE ? 0 : CALLS);
	return 0;
}

/* Each element is maintained by itself, whether one of the list bounces or not. */
static int one_list(const struct target *target)
{
	static const size_t elements[ELEMENTS] = { 16, 1024, 2048 };
	struct scatterlist list[ELEMENTS];
	void *buffers[ELEMENTS];
	unsigned int at;
	int error = 0;

	sg_init_table(list, ELEMENTS);
	for (at = 0; at < ELEMENTS; at++) {
		buffers[at] = kmalloc(elements[at], GFP_KERNEL);
		if (buffers[at])
			sg_set_buf(&list[at], buffers[at], elements[at]);
		else
			error = -ENOMEM;
	}
	for (at = 0; at < CALLS && !error; at++) {
		if (dma_map_sg(target->dev, list, ELEMENTS, DMA_FROM_DEVICE))
			dma_unmap_sg(target->dev, list, ELEMENTS, DMA_FROM_DEVICE);
		else
			error = -EIO;
	}
	for (at = 0; at < ELEMENTS; at++) {
		kfree(buffers[at]);
		if (!error)
			print_calls(elements[at], CALLS, CALLS);
	}
	return error;
}

int maintain(const struct target *target)
{
	unsigned int at;
	int error = 0;

	for (at = 0; at < ARRAY_SIZE(lengths) && !error; at++)
		error = one_length(target, lengths[at]);
	/* No two of these lengths are of one power of two: a buffer that bounces, one that does not, one that is only read. */
	error = error ?: one_mapping(target, 8, DMA_FROM_DEVICE);
	error = error ?: one_mapping(target, 512, DMA_FROM_DEVICE);
	error = error ?: one_mapping(target, 32, DMA_TO_DEVICE);
	error = error ?: one_list(target);
	if (!error)
		table_end();
	return error;
}
