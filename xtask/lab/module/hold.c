// SPDX-License-Identifier: GPL-2.0
/*
 * Many mappings held at once: how many find a place, and what the pool counts meanwhile.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "truth.h"

/* More than any pool of the lab's machines holds. */
#define MOST 700

struct held {
	void *buffer;
	dma_addr_t dma;
	bool mapped;
};

/* Memory of the process that loads the module: files of debugfs are read into nothing else. */
static unsigned long page;

static void read_into_page(struct file *file, char *digits, size_t room)
{
	char __user *to = (char __user *)page;
	loff_t position = 0;
	ssize_t count;

	if (!file->f_op->read)
		return;
	count = file->f_op->read(file, to, room, &position);
	if (count > 0 && copy_from_user(digits, to, count))
		digits[0] = 0;
}

/* A counter of debugfs; -1 where it is not there or not a number. */
static long counter(const char *path)
{
	struct file *file = filp_open(path, O_RDONLY, 0);
	char digits[32] = "";
	long value;

	if (IS_ERR(file))
		return -1;
	read_into_page(file, digits, sizeof(digits) - 1);
	filp_close(file, NULL);
	return kstrtol(digits, 10, &value) ? -1 : value;
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
	page = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (IS_ERR_VALUE(page)) {
		vfree(held);
		return (int)page;
	}
	table_print("fact pool_slots %ld\n", counter("/sys/kernel/debug/swiotlb/io_tlb_nslabs"));
	for (direction = 0; direction < DIRECTIONS && !error; direction++)
		for (length = 0; length < ARRAY_SIZE(lengths) && !error; length++)
			for (count = 0; count < ARRAY_SIZE(counts) && !error; count++)
				error = one_hold(target, held, lengths[length], direction, counts[count]);
	vm_munmap(page, PAGE_SIZE);
	vfree(held);
	return error;
}
