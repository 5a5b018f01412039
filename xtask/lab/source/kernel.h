/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What kernel/dma/swiotlb.c needs of the kernel, for a program of one thread in user space. Every header that it includes
 * is an empty file, but linux/swiotlb.h, which is the kernel's own; this file is included before it.
 *
 * Physical addresses are not those of memory: pools lie at addresses that nobody reads or writes, and what would be copied
 * to them is not.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
typedef u64 phys_addr_t;
typedef u64 dma_addr_t;
typedef unsigned int gfp_t;
typedef long ssize_t;

/* IS_ENABLED() as in include/linux/kconfig.h. */
#define LAB_COMMA_1 0,
#define LAB_SECOND(ignored, value, ...) value
#define LAB_IS(comma_or_not) LAB_SECOND(comma_or_not 1, 0)
#define LAB_IS_1(value) LAB_IS(LAB_COMMA_##value)
#define IS_ENABLED(option) LAB_IS_1_(option)
#define LAB_IS_1_(value) LAB_IS_1(value)

#define CONFIG_SWIOTLB 1
#define CONFIG_SWIOTLB_DEFAULT_SIZE_MB 64
#define CONFIG_DEBUG_FS 1
#define CONFIG_DMA_RESTRICTED_POOL 1
#define CONFIG_ZONE_DMA 1
#define CONFIG_ZONE_DMA32 1
#define CONFIG_NEED_SG_DMA_FLAGS 1

#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define SMP_CACHE_BYTES 64
#define ARCH_LOW_ADDRESS_LIMIT ULONG_MAX
#define INVALID_PHYS_ADDR (~(phys_addr_t)0)
#define SZ_1M (1UL << 20)

#define __init
#define __initconst
#define __ro_after_init
#define __read_mostly
#define __always_inline inline
#define fallthrough
#define __printf(a, b)
#define likely(x) (x)
#define unlikely(x) (x)
#define READ_ONCE(x) (x)
#define WRITE_ONCE(x, value) ((x) = (value))
#define smp_mb() do { } while (0)
#define smp_rmb() do { } while (0)
#define early_param(name, function)
#define late_initcall(function)
#define EXPORT_SYMBOL(name)
#define EXPORT_SYMBOL_GPL(name)
#define RESERVEDMEM_OF_DECLARE(...)
#define DEFINE_DEBUGFS_ATTRIBUTE(name, ...) static int name
#define BUILD_BUG_ON(x) _Static_assert(!(x), #x)
#define BUG_ON(x) do { if (x) abort(); } while (0)
#define WARN_ON_ONCE(x) (x)
#define dev_WARN_ONCE(dev, x, ...) ((void)(dev), (x))
#define dev_warn_ratelimited(...) do { } while (0)
#define dev_err(...) do { } while (0)
#define dev_err_once(...) do { } while (0)
#define pr_info(...) do { } while (0)
#define pr_warn(...) do { } while (0)
#define pr_err(...) do { } while (0)
#define pr_warn_once(...) do { } while (0)
#define pr_warn_ratelimited(...) do { } while (0)
#define panic(...) abort()

#define LAB_SMALLER(a, b) ((a) < (b) ? (a) : (b))
#define LAB_LARGER(a, b) ((a) > (b) ? (a) : (b))
#define min(a, b) LAB_SMALLER(a, b)
#define max(a, b) LAB_LARGER(a, b)
#define max3(a, b, c) max(a, max(b, c))
#define min_t(type, a, b) LAB_SMALLER((type)(a), (type)(b))
#define max_t(type, a, b) LAB_LARGER((type)(a), (type)(b))
#define min_not_zero(a, b) (!(a) ? (b) : !(b) ? (a) : min(a, b))
#define ALIGN(x, a) (((x) + ((__typeof__(x))(a) - 1)) & ~((__typeof__(x))(a) - 1))
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a) - 1)) == 0)
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#define PAGE_ALIGN(x) ALIGN(x, PAGE_SIZE)
#define PAGE_ALIGNED(x) IS_ALIGNED((unsigned long)(x), PAGE_SIZE)
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#define roundup(x, y) ((((x) + (y) - 1) / (y)) * (y))
#define round_down(x, y) ALIGN_DOWN(x, y)
#define round_up(x, y) ALIGN(x, y)
#define PFN_DOWN(x) ((unsigned long)((x) >> PAGE_SHIFT))
#define PFN_UP(x) (((unsigned long)(x) + PAGE_SIZE - 1) >> PAGE_SHIFT)
#define PHYS_PFN(x) PFN_DOWN(x)
#define ARRAY_SIZE(x) (sizeof(x) / sizeof((x)[0]))
#define DMA_BIT_MASK(n) ((n) == 64 ? ~0ULL : (1ULL << (n)) - 1)
#define array_size(a, b) ((size_t)(a) * (b))
#define size_mul(a, b) ((size_t)(a) * (b))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define overflows_type(value, type) ((value) != (__typeof__(type))(value))
#define check_add_overflow(a, b, sum) __builtin_add_overflow(a, b, sum)

static inline int fls(unsigned int x) { return x ? 32 - __builtin_clz(x) : 0; }
static inline int fls64(u64 x) { return x ? 64 - __builtin_clzll(x) : 0; }
static inline bool is_power_of_2(unsigned long n) { return n && !(n & (n - 1)); }
static inline unsigned long roundup_pow_of_two(unsigned long n) { return 1UL << fls64(n - 1); }
static inline int get_order(unsigned long size) { return size ? fls64((size - 1) >> PAGE_SHIFT) : 0; }
static inline unsigned long simple_strtoul(const char *s, char **end, int base) { return strtoul(s, end, base); }
static inline int lab_ilog2(unsigned long n) { return fls64(n) - 1; }

/* Errors. */
#define ENOMEM 12
#define EINVAL 22
#define EAGAIN 11
#define EIO 5
#define EPERM 1
#define EOPNOTSUPP 95
#define EREMOTEIO 121
#define EOVERFLOW 75
#define ERR_PTR(error) ((void *)(long)(error))
#define IS_ERR(p) ((unsigned long)(p) >= (unsigned long)-4095)

/* One thread: locks do nothing. */
typedef int spinlock_t;
#define __SPIN_LOCK_UNLOCKED(name) 0
#define spin_lock_init(lock) ((void)(lock))
#define spin_lock(lock) ((void)(lock))
#define spin_unlock(lock) ((void)(lock))
#define spin_lock_irqsave(lock, flags) ((void)(lock), (flags) = 0)
#define spin_unlock_irqrestore(lock, flags) ((void)(lock), (void)(flags))
#define local_irq_save(flags) ((flags) = 0)
#define local_irq_restore(flags) ((void)(flags))
#define rcu_read_lock() do { } while (0)
#define rcu_read_unlock() do { } while (0)

typedef struct { long counter; } atomic_long_t;
#define atomic_long_read(a) ((a)->counter)
#define atomic_long_set(a, value) ((a)->counter = (value))
#define atomic_long_add(value, a) ((a)->counter += (value))
#define atomic_long_sub(value, a) ((a)->counter -= (value))
#define atomic_long_add_return(value, a) ((a)->counter += (value))
#define atomic_long_inc(a) ((a)->counter++)

static inline bool atomic_long_try_cmpxchg(atomic_long_t *a, unsigned long *old, long new)
{
	a->counter = new;
	return true;
}

#define DEFINE_STATIC_CALL(name, function) static __typeof__(&function) lab_call_##name = function
#define static_call(name) lab_call_##name
#define static_call_update(name, function) (lab_call_##name = function)

/* Lists. */
struct list_head {
	struct list_head *next, *prev;
};
#define LIST_HEAD_INIT(name) { &(name), &(name) }
#define list_entry(p, type, member) container_of(p, type, member)
#define list_for_each_entry_rcu(pos, head, member)                                             \
	for (pos = container_of((head)->next, __typeof__(*pos), member); &pos->member != (head); \
	     pos = container_of(pos->member.next, __typeof__(*pos), member))

static inline void INIT_LIST_HEAD(struct list_head *head) { head->next = head->prev = head; }
#define INIT_LIST_HEAD_RCU INIT_LIST_HEAD

/* list_add_rcu() puts an entry at the head, as include/linux/rculist.h has it. */
static inline void list_add_rcu(struct list_head *entry, struct list_head *head)
{
	entry->next = head->next;
	entry->prev = head;
	head->next->prev = entry;
	head->next = entry;
}

static inline void list_del_rcu(struct list_head *entry)
{
	entry->next->prev = entry->prev;
	entry->prev->next = entry->next;
}

/* Work: what is scheduled waits until the program lets it run; what only frees memory need not run. */
struct work_struct {
	void (*function)(struct work_struct *work);
};
struct rcu_head {
	int unused;
};
struct rcu_work {
	struct work_struct work;
	struct rcu_head rcu;
};
#define __WORK_INITIALIZER(name, f) { .function = (f) }
#define INIT_WORK(w, f) ((w)->function = (f))
#define INIT_RCU_WORK(w, f) ((w)->work.function = (f))
#define to_rcu_work(w) container_of(w, struct rcu_work, work)
#define system_wq 0
#define system_percpu_wq 0
static struct work_struct *lab_waiting;
static inline void schedule_work(struct work_struct *work) { lab_waiting = work; }
#define call_rcu(head, function) ((void)(function))
static inline void queue_rcu_work(int queue, struct rcu_work *work) { work->work.function(&work->work); }

/* Memory: of pools only addresses, each aligned to any mask that a device may have; of tables real one, with zeros behind it. */
struct page {
	int unused;
};
#define LAB_POOLS (1UL << 40)
#define LAB_APART (1UL << 30)
static unsigned long lab_next_pool = LAB_POOLS;

static inline void *lab_pool(void)
{
	unsigned long at = lab_next_pool;

	lab_next_pool += LAB_APART;
	return (void *)at;
}

#define GFP_KERNEL 1u
#define GFP_NOWAIT 0u
#define __GFP_ZERO 0u
#define __GFP_NOWARN 0u
#define __GFP_DMA 4u
#define __GFP_DMA32 8u
#define GFP_ZONEMASK 12u
#define GFP_ATOMIC 0u
#define gfpflags_allow_blocking(gfp) ((gfp) & GFP_KERNEL)
#define kzalloc(size, gfp) calloc(1, (size) + 4096)
#define kcalloc(n, size, gfp) calloc(1, (size_t)(n) * (size) + 4096)
#define kzalloc_obj(object) calloc(1, sizeof(object) + 4096)
#define kzalloc_objs(object, n) calloc(1, (size_t)(n) * sizeof(object) + 4096)
#define kfree(p) free(p)
#define memblock_alloc(size, align) calloc(1, (size) + 4096)
#define memblock_alloc_low(size, align) lab_pool()
#define memblock_free(p, size) ((void)(p))
#define memblock_free_late(p, size) ((void)(p))
#define memblock_phys_free(p, size) ((void)(p))
#define __get_free_pages(gfp, order) ((unsigned long)calloc(1, (PAGE_SIZE << (order)) + 4096))
#define free_pages(p, order) free((void *)(p))
#define alloc_pages(gfp, order) ((struct page *)lab_pool())
#define __free_pages(page, order) ((void)(page))
#define page_to_phys(page) ((phys_addr_t)(page))
#define pfn_to_page(pfn) ((struct page *)((unsigned long)(pfn) << PAGE_SHIFT))
#define virt_to_page(p) ((struct page *)(p))
#define phys_to_virt(phys) ((void *)(unsigned long)(phys))
#define virt_to_phys(p) ((phys_addr_t)(unsigned long)(p))
#define __pa(p) ((phys_addr_t)(unsigned long)(p))
#define high_memory ((void *)-1L)
#define zone_dma_limit 0
#define PageHighMem(page) ((void)(page), 0)
#define PhysHighMem(phys) ((void)(phys), 0)
#define kmsan_unpoison_memory(p, size) ((void)(p), (void)(size))
#define set_memory_decrypted(address, pages) 0
#define set_memory_encrypted(address, pages) 0
#define dma_alloc_from_pool(...) NULL
#define dma_free_from_pool(...) false
#define dma_coherent_ok 0
#define memcpy(to, from, size) ((void)(to), (void)(from), (void)(size))
#define memcpy_from_page(to, page, offset, size) ((void)(to), (void)(page), (void)(offset))
#define memcpy_to_page(page, offset, from, size) ((void)(page), (void)(offset), (void)(from))

static inline void *lab_memset(void *at, int value, size_t size)
{
	return (unsigned long)at >= LAB_POOLS && (unsigned long)at < lab_next_pool ? at : memset(at, value, size);
}
#define memset lab_memset

/* Devices. */
enum dma_data_direction {
	DMA_BIDIRECTIONAL = 0,
	DMA_TO_DEVICE = 1,
	DMA_FROM_DEVICE = 2,
	DMA_NONE = 3,
};
struct io_tlb_mem;
struct device {
	u64 *dma_mask;
	u64 bus_dma_limit;
	unsigned int min_align_mask;
	struct io_tlb_mem *dma_io_tlb_mem;
	struct list_head dma_io_tlb_pools;
	spinlock_t dma_io_tlb_lock;
	bool dma_uses_io_tlb;
};
#define DMA_ATTR_SKIP_CPU_SYNC (1UL << 5)
#define DMA_ATTR_NO_WARN (1UL << 8)
#define DMA_ATTR_CC_SHARED (1UL << 20)
#define __DMA_ATTR_ALLOC_CC_SHARED (1UL << 21)
#define DMA_MAPPING_ERROR (~(dma_addr_t)0)
#define dma_get_min_align_mask(dev) ((dev)->min_align_mask)
/* What a device has whose driver sets none. */
#define dma_get_seg_boundary(dev) ((void)(dev), (unsigned long)DMA_BIT_MASK(32))
#define phys_to_dma(dev, phys) ((void)(dev), (dma_addr_t)(phys))
#define phys_to_dma_unencrypted phys_to_dma
#define phys_to_dma_encrypted phys_to_dma
#define dma_capable(...) true
#define force_dma_unencrypted(dev) ((void)(dev), false)
#define dma_reset_need_sync(dev) ((void)(dev))
#define dev_is_dma_coherent(dev) ((void)(dev), false)
#define arch_sync_dma_for_device(...) do { } while (0)
#define arch_sync_dma_flush() do { } while (0)
#define cc_platform_has(attribute) false
#define trace_swiotlb_bounced(...) do { } while (0)

/* iommu_is_span_boundary() as include/linux/iommu-helper.h has it. */
static inline int iommu_is_span_boundary(unsigned int index, unsigned int nr, unsigned long shift,
					 unsigned long boundary_size)
{
	shift = (shift + index) & (boundary_size - 1);
	return shift + nr > boundary_size;
}

/* CPUs. */
static unsigned int lab_cpu;
#define raw_smp_processor_id() ((int)lab_cpu)
#define num_possible_cpus() 8

/* Files and device trees, which the program has none of. */
struct dentry;
#define debugfs_create_dir(name, parent) ((void)(parent), (struct dentry *)NULL)
#define debugfs_create_ulong(...) do { } while (0)
#define debugfs_create_file(...) do { } while (0)
struct reserved_mem;
struct reserved_mem_ops {
	int (*node_init)(unsigned long node, struct reserved_mem *rmem);
	int (*device_init)(struct reserved_mem *rmem, struct device *dev);
	void (*device_release)(struct reserved_mem *rmem, struct device *dev);
};
struct reserved_mem {
	const char *name;
	unsigned long fdt_node;
	const struct reserved_mem_ops *ops;
	phys_addr_t base;
	phys_addr_t size;
	void *priv;
};
#define of_get_flat_dt_prop(...) NULL
