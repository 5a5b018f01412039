// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own truth table: maps buffers and lists for one device, and says of each whether it was bounced.
 *
 * Loading makes the table, /proc/bounce_truth holds it, unloading forgets it. A test's tool, not for any other machine than
 * one that can be thrown away.
 */
#include <linux/cache.h>
#include <linux/cpumask.h>
#include <linux/dma-direct.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/utsname.h>
#include <linux/version.h>
#include <asm/sysreg.h>

#include "truth.h"

static char *device = "platform";
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "platform: a device of the module's own; pci: QEMU's pci-testdev");

static int coherent = -1;
module_param(coherent, int, 0444);
MODULE_PARM_DESC(coherent, "take the device to be coherent (1) or not (0), whatever it is");

static bool losses;
module_param(losses, bool, 0444);
MODULE_PARM_DESC(losses, "make no table; do what a recorder loses something of");

static bool maintenance;
module_param(maintenance, bool, 0444);
MODULE_PARM_DESC(maintenance, "make another table: what caches are maintained for, and how long that takes");

static bool untrusted;
module_param(untrusted, bool, 0444);
MODULE_PARM_DESC(untrusted, "make no table; take all PCI devices to be untrusted from now on");

static unsigned int lists;
module_param(lists, uint, 0444);
MODULE_PARM_DESC(lists, "make no table; map so many lists of mixed lengths");

static unsigned int overlapping;
module_param(overlapping, uint, 0444);
MODULE_PARM_DESC(overlapping, "make no table; map each pair of buffers in one cache line so many times at once");

static unsigned int stale;
module_param(stale, uint, 0444);
MODULE_PARM_DESC(stale, "with lists: after them map a table so many times that still has the mark of an earlier mapping");

static unsigned int registers;
module_param(registers, uint, 0444);
MODULE_PARM_DESC(registers, "with lists: before them map registers of the device so many times");

static unsigned int max_segment;
module_param(max_segment, uint, 0444);
MODULE_PARM_DESC(max_segment, "dma_set_max_seg_size() of the device, bytes");

static unsigned long boundary;
module_param(boundary, ulong, 0444);
MODULE_PARM_DESC(boundary, "dma_set_seg_boundary() of the device, a mask");

static void set_coherence(struct device *dev, bool value)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
	dev_assign_dma_coherent(dev, value);
#else
	dev->dma_coherent = value;
#endif
}

/* The level of caches behind which everyone sees the same memory; 0: there is nothing to clean or invalidate. */
static unsigned int level_of_coherence(void)
{
	return CLIDR_LOC(read_sysreg(clidr_el1));
}

/* Bytes that an allocation of @len really gets. */
static size_t given(size_t len)
{
	void *object = kmalloc(len, GFP_KERNEL);
	size_t size = object ? ksize(object) : 0;

	kfree(object);
	return size;
}

/* What the table is to be compared under; the entries that the kernel decides upon are seen, not known. */
static void print_facts(const struct target *target)
{
	struct device *dev = target->dev;
	unsigned long granule = target->domain ? 1UL << __ffs(target->domain->pgsize_bitmap) : 0;

	table_print("fact format 1\nfact release %s\nfact device %s\n", utsname()->release, dev_name(dev));
	table_print("fact granule %lu\nfact coherent %d\nfact level_of_coherence %u\n", granule, dev_is_dma_coherent(dev),
		    level_of_coherence());
	table_print("fact cache_alignment %d\nfact dma_minalign %d\n", dma_get_cache_alignment(), ARCH_DMA_MINALIGN);
	table_print("fact kmalloc_minalign %d\nfact kmalloc_8 %zu\n", (int)ARCH_KMALLOC_MINALIGN, given(8));
	table_print("fact bounce_unaligned %d\n", IS_ENABLED(CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC));
	table_print("fact page_size %lu\nfact possible_cpus %u\n", PAGE_SIZE, num_possible_cpus());
	table_print("fact dma_mask %llu\nfact bus_dma_limit %llu\n", *dev->dma_mask, dev->bus_dma_limit);
	table_print("fact min_align_mask %u\nfact max_segment %u\nfact segment_boundary %lu\n", dma_get_min_align_mask(dev),
		    dma_get_max_seg_size(dev), dma_get_seg_boundary(dev));
}

static int make_table(struct device *dev)
{
	struct target target = { .dev = dev, .domain = iommu_get_domain_for_dev(dev) };
	int error = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));

	if (error)
		return error;
	if (target.domain && !(target.domain->type & __IOMMU_DOMAIN_PAGING))
		target.domain = NULL;
	if (coherent >= 0)
		set_coherence(dev, coherent);
	if (max_segment)
		dma_set_max_seg_size(dev, max_segment);
	if (boundary)
		dma_set_seg_boundary(dev, boundary);
	if (losses)
		return lose(&target);
	if (maintenance)
		return maintain(&target);
	if (overlapping)
		return overlaps(&target, overlapping);
	if (lists) {
		error = map_registers(&target, registers);
		error = error ?: mixed_lists(&target, lists);
		return error ?: stale ? stale_lists(&target, stale) : 0;
	}
	print_facts(&target);
	error = single_entries(&target);
	error = error ?: list_entries(&target);
	error = error ?: hold_entries(&target);
	if (!error)
		table_end();
	return error;
}

/* -ENODEV until a device was probed. */
static int made = -ENODEV;

/* A driver has its device's DMA configured as firmware says; an unbound device may not have. */
static int pci_probe(struct pci_dev *dev, const struct pci_device_id *id)
{
	made = make_table(&dev->dev);
	return made;
}

static const struct pci_device_id pci_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT, 0x0005) },
	{}
};

static struct pci_driver pci_driver = {
	.name = "bounce_truth",
	.id_table = pci_ids,
	.probe = pci_probe,
};

static int table_of_pci(void)
{
	int error = pci_register_driver(&pci_driver);

	if (error)
		return error;
	pci_unregister_driver(&pci_driver);
	return made;
}

static int table_of_platform(void)
{
	struct platform_device *dev = platform_device_register_simple("bounce_truth", PLATFORM_DEVID_NONE, NULL, 0);

	if (IS_ERR(dev))
		return PTR_ERR(dev);
	made = make_table(&dev->dev);
	platform_device_unregister(dev);
	return made;
}

/* What pci_dev.untrusted says is looked at with every mapping (dev_is_untrusted() in drivers/iommu/dma-iommu.c). */
static void trust_no_pci_device(void)
{
	struct pci_dev *dev = NULL;

	for_each_pci_dev(dev)
		dev->untrusted = 1;
}

static int __init truth_init(void)
{
	int error = table_open();

	if (!error && untrusted) {
		trust_no_pci_device();
		return 0;
	}
	if (error)
		return error;
	error = strcmp(device, "pci") ? table_of_platform() : table_of_pci();
	if (error)
		table_close();
	return error;
}

static void __exit truth_exit(void)
{
	table_close();
}

module_init(truth_init);
module_exit(truth_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("bouncescope's test module: which DMA mappings does this kernel bounce?");
