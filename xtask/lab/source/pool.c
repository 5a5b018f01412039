// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's swiotlb in user space: reads which pool to make and what to do with it, does it with the functions of
 * kernel/dma/swiotlb.c, and writes what came of each operation.
 */
#include "kernel.h"
/* The kernel's own file, unmodified: -DSWIOTLB_C. */
#include SWIOTLB_C

#include "program.h"

typedef phys_addr_t by_value(struct device *, phys_addr_t, size_t, unsigned int, enum dma_data_direction, unsigned long);
typedef phys_addr_t by_pointer(struct device *, phys_addr_t, size_t, unsigned int, enum dma_data_direction,
			       unsigned long *);
/* Since 7.3 the attributes are returned as well. */
#define IS_BY_POINTER __builtin_types_compatible_p(__typeof__(swiotlb_tbl_map_single), by_pointer)
_Static_assert(IS_BY_POINTER || __builtin_types_compatible_p(__typeof__(swiotlb_tbl_map_single), by_value),
	       "swiotlb_tbl_map_single() has other arguments");

struct header {
	u64 restricted, grows, slots, areas;
};

struct operation {
	/* The mapping of the operation of this number is undone; NONE: one is made. */
	u64 unmap;
	u64 cpu, phys, size, align_mask, min_align_mask;
};

struct answer {
	u64 place, used, hiwater, total;
};

#define NONE (~0ULL)
/* A pool of its own: so many slots. */
#define TRANSIENT (1ULL << 62)
/* Pools in the order in which they were made. */
#define POOL_SHIFT 40

static struct device device;
static u64 mask = ~0ULL;

static u64 place(phys_addr_t at)
{
	struct io_tlb_pool *pool = swiotlb_find_pool(&device, at);
#ifdef CONFIG_SWIOTLB_DYNAMIC
	struct io_tlb_pool *one;
	u64 nth = 0;

	if (pool->transient)
		return TRANSIENT | pool->nslabs;
	/* The newest is at the head. */
	for (one = pool; &list_entry(one->node.next, struct io_tlb_pool, node)->node != &device.dma_io_tlb_mem->pools;
	     one = list_entry(one->node.next, struct io_tlb_pool, node))
		nth++;
	return nth << POOL_SHIFT | (at - pool->start);
#else
	return at - pool->start;
#endif
}

static phys_addr_t map(const struct operation *asked)
{
	unsigned long attrs = 0;

	if (IS_BY_POINTER)
		return ((by_pointer *)swiotlb_tbl_map_single)(&device, asked->phys, asked->size, asked->align_mask,
							      DMA_FROM_DEVICE, &attrs);
	return ((by_value *)swiotlb_tbl_map_single)(&device, asked->phys, asked->size, asked->align_mask, DMA_FROM_DEVICE,
						    attrs);
}

static int make(const struct header *header)
{
	static struct reserved_mem restricted = { .name = "restricted" };
	char parameter[64];

	snprintf(parameter, sizeof(parameter), "%llu,%llu,track_hiwater", (unsigned long long)header->slots,
		 (unsigned long long)header->areas);
	setup_io_tlb_npages(parameter);
	swiotlb_init(true, 0);
	swiotlb_dev_init(&device);
	device.dma_mask = &mask;
#ifdef CONFIG_SWIOTLB_DYNAMIC
	io_tlb_default_mem.can_grow = header->grows;
#endif
	if (!header->restricted)
		return 0;
	restricted.base = (phys_addr_t)(unsigned long)lab_pool();
	restricted.size = header->slots << IO_TLB_SHIFT;
	return rmem_swiotlb_device_init(&restricted, &device);
}

static void operate(const struct operation *operations, struct answer *answers, phys_addr_t *at, u64 nth)
{
	const struct operation *asked = &operations[nth], *made = asked->unmap == NONE ? asked : &operations[asked->unmap];
	struct answer answer = { .place = NONE };

	lab_cpu = asked->cpu;
	device.min_align_mask = made->min_align_mask;
	if (asked->unmap == NONE) {
		at[nth] = map(asked);
		if (at[nth] != (phys_addr_t)DMA_MAPPING_ERROR)
			answer.place = place(at[nth]);
	} else if (at[asked->unmap] != (phys_addr_t)DMA_MAPPING_ERROR) {
		swiotlb_tbl_unmap_single(&device, at[asked->unmap], made->size, DMA_FROM_DEVICE, 0);
	}
	if (lab_waiting) {
		lab_waiting->function(lab_waiting);
		lab_waiting = NULL;
	}
	answer.used = mem_used(device.dma_io_tlb_mem);
	answer.hiwater = atomic_long_read(&device.dma_io_tlb_mem->used_hiwater);
	answer.total = device.dma_io_tlb_mem->nslabs;
	answers[nth] = answer;
}

int main(void)
{
	size_t room;
	char *input = program_input(&room);
	const struct header *header = (const void *)input;
	const struct operation *operations = (const void *)(input + sizeof(*header));
	u64 nth, count = (room - sizeof(*header)) / sizeof(*operations);
	struct answer *answers = calloc(count + 1, sizeof(*answers));
	phys_addr_t *at = calloc(count + 1, sizeof(*at));

	if (room < sizeof(*header) || !answers || !at || make(header))
		return 1;
	program_begin(answers, sizeof(*answers));
	for (nth = 0; nth < count; nth++) {
		operate(operations, answers, at, nth);
		program_done();
	}
	return program_end();
}
