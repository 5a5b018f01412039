// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's decisions in user space: which buffer bounces, which kmalloc cache serves a length, how many DMA segments a list
 * becomes. The functions are the kernel's own, cut out of its files by name (-DFUNCTIONS_C); what they call is here.
 */
#include "kernel.h"
#include "program.h"

/* Of what is a constant only where it is inlined. */
#undef BUILD_BUG_ON
#define BUILD_BUG_ON(x) BUG_ON(x)

#define CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC 1
#define CONFIG_ARCH_DMA_ADDR_T_64BIT 1
#define ARCH_DMA_MINALIGN 128
#define ARCH_KMALLOC_MINALIGN 8

/* An operation: a list, a buffer mapped by itself, or one that is linked, in the pieces that it has. */
#define SEGMENTS 8
struct operation {
	u64 way, segments;
	/* dma_get_cache_alignment(), bytes. */
	u64 line;
	u64 direction, coherent, untrusted, dma_mask, bus_limit;
	/* Bytes; 0 without an IOMMU. */
	u64 granule;
	u64 active, force, max_segment, boundary;
	/* Of a buffer mapped by itself, or linked. */
	u64 attrs;
	struct {
		u64 phys, length;
	} segment[SEGMENTS];
};

enum way { LIST, SINGLE, LINK };

struct answer {
	/* DMA segments; NONE where it is refused. */
	u64 segments;
	/* A bit for each segment that bounces, and how these are aligned. */
	u64 bounced, align_mask;
	/* The list is marked to be mapped element by element. */
	u64 marked;
};

#define NONE (~0ULL)

static const struct operation *asked;
static struct answer *answer;

static phys_addr_t bounce(phys_addr_t phys, size_t size, unsigned long align_mask)
{
	u64 nth;

	for (nth = 0; nth < asked->segments; nth++)
		if (asked->segment[nth].phys == phys && asked->segment[nth].length == size && !(answer->bounced >> nth & 1))
			break;
	answer->bounced |= 1ULL << nth;
	answer->align_mask |= align_mask;
	return LAB_POOLS + (64 << 20) + (phys & 0xfffff);
}

/* kmalloc: one type of caches. */
enum kmalloc_cache_type { KMALLOC_NORMAL, NR_KMALLOC_TYPES };
#define KMALLOC_RECLAIM KMALLOC_NORMAL
#define KMALLOC_CGROUP KMALLOC_NORMAL
#define KMALLOC_NO_OBJ_EXT KMALLOC_NORMAL
#define KMALLOC_DMA KMALLOC_NORMAL
#define KMALLOC_NOT_NORMAL_BITS 0
#define __GFP_RECLAIMABLE 0
#define __GFP_NO_OBJ_EXT 0
#define KMALLOC_MIN_SIZE ARCH_KMALLOC_MINALIGN
#define KMALLOC_SHIFT_LOW 3
#define KMALLOC_SHIFT_HIGH (PAGE_SHIFT + 1)
#define KMALLOC_MAX_SIZE (1UL << (MAX_PAGE_ORDER + PAGE_SHIFT))
#define KMALLOC_MAX_CACHE_SIZE (1UL << KMALLOC_SHIFT_HIGH)
#define SLAB_RECLAIM_ACCOUNT 0
#define SLAB_ACCOUNT 0
#define SLAB_NO_OBJ_EXT 0
#define SLAB_NO_MERGE 0
#define SLAB_MAY_ACCOUNT 0
#define SLAB_CACHE_DMA 0
#define SLAB_ALLOC_NO_OBJ_EXT 0
#define SLAB_ALLOC_DEFAULT 0
#define INIT_KMALLOC_INFO(bytes, short_name) { .name = { "kmalloc-" #short_name }, .size = bytes }
#define BUG() abort()
#define BUILD_BUG_ON_MSG(...) abort()
#define ilog2(n) lab_ilog2(n)
#define mem_cgroup_kmem_disabled() true
#define need_kmalloc_no_objext() false
#define kmem_cache_create(...) NULL
#define __kmalloc_token(size) 0
typedef unsigned int slab_flags_t;
typedef unsigned long kmalloc_token_t;
struct kmem_cache {
	unsigned int object_size;
};
struct kmalloc_info_struct {
	const char *name[NR_KMALLOC_TYPES];
	unsigned int size;
};
typedef struct kmem_cache *kmem_buckets[KMALLOC_SHIFT_HIGH + 1];
static kmem_buckets kmalloc_caches[NR_KMALLOC_TYPES];
static struct kmem_cache *kmem_buckets_cache;
static enum { DOWN, UP } slab_state;
static unsigned int lab_minalign;
#define arch_slab_minalign() lab_minalign
#define is_swiotlb_allocated() true
#define dma_get_cache_alignment() ((int)(asked ? asked->line : 0))

static struct kmem_cache *create_kmalloc_cache(const char *name, unsigned int size, slab_flags_t flags)
{
	struct kmem_cache *cache = calloc(1, sizeof(*cache));

	cache->object_size = size;
	return cache;
}

/* The device is that of the operation. */
#undef dma_get_seg_boundary
#undef dma_capable
#undef dev_is_dma_coherent
#define dma_get_seg_boundary(dev) ((unsigned long)asked->boundary)
#define dma_get_max_seg_size(dev) ((unsigned int)asked->max_segment)
#define dma_get_mask(dev) (*(dev)->dma_mask)
#define dev_is_dma_coherent(dev) ((dev)->dma_mask && asked->coherent)
#define dev_is_pci(dev) true
#define to_pci_dev(dev) asked
#define min_low_pfn 0UL
#define PFN_PHYS(pfn) ((phys_addr_t)(pfn) << PAGE_SHIFT)
#define dev_warn_once(...) do { } while (0)
#define is_swiotlb_active(dev) (asked->active)
#define is_swiotlb_force_bounce(dev) (asked->force)
#define swiotlb_map(dev, phys, size, dir, attrs) bounce(phys, size, 0)
#define swiotlb_tbl_map_single(dev, phys, size, align_mask, dir, attrs) bounce(phys, size, align_mask)
#define swiotlb_tbl_unmap_single(...) do { } while (0)
#define DMA_ATTR_MMIO (1UL << 10)
#define DMA_ATTR_REQUIRE_COHERENT (1UL << 12)

/* Lists. */
struct scatterlist {
	struct page *page;
	unsigned int offset, length, dma_length, flags;
	dma_addr_t dma_address;
};
#define for_each_sg(list, sg, count, i) for ((i) = 0, (sg) = (list); (i) < (count); (i)++, (sg)++)
#define sg_next(sg) ((sg) + 1)
#define sg_page(sg) ((sg)->page)
#define sg_phys(sg) (page_to_phys((sg)->page) + (sg)->offset)
#define sg_dma_address(sg) ((sg)->dma_address)
#define sg_dma_len(sg) ((sg)->dma_length)
#define sg_dma_is_bus_address(sg) ((void)(sg), false)
#define sg_dma_mark_bus_address(sg) ((void)(sg))
#define sg_dma_unmark_bus_address(sg) ((void)(sg))
#define sg_dma_mark_swiotlb(sg) ((sg)->flags |= 1)

/* No memory of PCI devices. */
enum pci_p2pdma_map_type {
	PCI_P2PDMA_MAP_UNKNOWN,
	PCI_P2PDMA_MAP_NONE,
	PCI_P2PDMA_MAP_NOT_SUPPORTED,
	PCI_P2PDMA_MAP_BUS_ADDR,
	PCI_P2PDMA_MAP_THRU_HOST_BRIDGE,
};
struct pci_p2pdma_map_state {
	void *mem;
};
#define is_pci_p2pdma_page(page) ((void)(page), false)
#define pci_p2pdma_map_segment(state, dev, sg) PCI_P2PDMA_MAP_NOT_SUPPORTED
#define pci_p2pdma_state(state, dev, page) PCI_P2PDMA_MAP_NONE
#define pci_p2pdma_bus_addr_map(mem, phys) (phys)

/* An IOMMU that maps everything, at an address aligned to any boundary. */
struct iova_domain {
	unsigned long granule;
};
struct iommu_dma_cookie {
	struct iova_domain iovad;
};
struct iommu_domain {
	struct iommu_dma_cookie *iova_cookie;
};
static struct iommu_dma_cookie lab_cookie;
static struct iommu_domain lab_domain = { &lab_cookie };
#define iommu_get_dma_domain(dev) (&lab_domain)
#define dma_info_to_prot(...) 0
#define static_branch_unlikely(key) false
#define iommu_deferred_attach(dev, domain) 0
#define iommu_dma_sync_sg_for_device(...) do { } while (0)
#define iommu_dma_alloc_iova(...) (1ULL << 52)
#define iommu_dma_free_iova(...) do { } while (0)
#define iommu_map_sg(...) ((ssize_t)1 << 60)
#define __iommu_dma_map(dev, phys, size, prot, mask) (phys)
#define iommu_map_nosync(...) 0
#define dma_iova_unlink(...) do { } while (0)
/* include/linux/dma-mapping.h */
#define DMA_IOVA_USE_SWIOTLB (1ULL << 63)
struct dma_iova_state {
	dma_addr_t addr;
	u64 __size;
};
#define iommu_dma_unmap_sg_swiotlb(...) do { } while (0)
#define dma_direct_unmap_sg(...) do { } while (0)

#include FUNCTIONS_C

static struct device device;

static u64 single(const struct operation *operation)
{
	u64 phys = operation->segment[0].phys, length = operation->segment[0].length;
	dma_addr_t at;

#ifdef HAVE_iommu_dma_map_phys
	if (operation->granule)
		at = iommu_dma_map_phys(&device, phys, length, operation->direction, operation->attrs);
#else
	if (operation->granule)
		at = iommu_dma_map_page(&device, pfn_to_page(PFN_DOWN(phys)), phys & ~PAGE_MASK, length,
					operation->direction, operation->attrs);
#endif
	else
#ifdef HAVE_dma_direct_map_phys
		at = dma_direct_map_phys(&device, phys, length, operation->direction, operation->attrs, true);
#else
		at = dma_direct_map_page(&device, pfn_to_page(PFN_DOWN(phys)), phys & ~PAGE_MASK, length,
					 operation->direction, operation->attrs);
#endif
	return at == DMA_MAPPING_ERROR ? NONE : 1;
}

#ifdef HAVE_dma_iova_link
static u64 linked(const struct operation *operation)
{
	u64 phys = operation->segment[0].phys, length = 0, nth;
	struct dma_iova_state state = { .addr = (1ULL << 52) + (phys & (operation->granule - 1)) };

	for (nth = 0; nth < operation->segments; nth++)
		length += operation->segment[nth].length;
	if (dma_iova_link(&device, &state, phys, 0, length, operation->direction, operation->attrs))
		return NONE;
	/* What is unlinked is looked at only where something bounced. */
	if (!answer->bounced != !(state.__size & DMA_IOVA_USE_SWIOTLB))
		exit(1);
	return operation->segments;
}
#else
#define linked(operation) NONE
#endif

static u64 list(const struct operation *operation)
{
	struct scatterlist segments[SEGMENTS + 1] = {};
	u64 nth;
	int mapped;

	for (nth = 0; nth < operation->segments; nth++) {
		segments[nth].page = pfn_to_page(PFN_DOWN(operation->segment[nth].phys));
		segments[nth].offset = operation->segment[nth].phys & ~PAGE_MASK;
		segments[nth].length = operation->segment[nth].length;
	}
	if (operation->granule)
		mapped = iommu_dma_map_sg(&device, segments, operation->segments, operation->direction, 0);
	else
		mapped = dma_direct_map_sg(&device, segments, operation->segments, operation->direction, 0);
	answer->marked = segments[0].flags & 1;
	return mapped < 0 ? NONE : mapped;
}

static void operate(const struct operation *operation, struct answer *answers)
{
	static u64 dma_mask;

	asked = operation;
	answer = answers;
	dma_mask = operation->dma_mask;
	device.dma_mask = &dma_mask;
	device.bus_dma_limit = operation->bus_limit;
	lab_cookie.iovad.granule = operation->granule;
	if (operation->segments > SEGMENTS)
		exit(1);
	if (operation->way == LINK)
		answers->segments = linked(operation);
	else
		answers->segments = operation->way == SINGLE ? single(operation) : list(operation);
}

int main(void)
{
	struct header {
		/* So many lengths, from 0 on, are asked for instead of operations. */
		u64 lengths;
		u64 minalign;
	};
	size_t room;
	char *input = program_input(&room);
	const struct header *header = (const void *)input;
	const struct operation *operations = (const void *)(input + sizeof(*header));
	u64 nth, count = (room - sizeof(*header)) / sizeof(*operations);

	if (room < sizeof(*header))
		return 1;
	lab_minalign = header->minalign;
	lab_pool();
	setup_kmalloc_cache_index_table();
	create_kmalloc_caches();
	if (header->lengths) {
		u64 *given = calloc(header->lengths, sizeof(*given));

		program_begin(given, sizeof(*given));
		for (nth = 0; nth < header->lengths; nth++) {
			given[nth] = kmalloc_size_roundup(nth);
			program_done();
		}
	} else {
		struct answer *answers = calloc(count + 1, sizeof(*answers));

		program_begin(answers, sizeof(*answers));
		for (nth = 0; nth < count; nth++) {
			operate(&operations[nth], &answers[nth]);
			program_done();
		}
	}
	return program_end();
}
