/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the module share: the device under test, and the table that they write.
 */
#ifndef BOUNCE_TRUTH_H
#define BOUNCE_TRUTH_H

#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/types.h>

struct target {
	struct device *dev;
	/* Behind an IOMMU that translates, else NULL. */
	struct iommu_domain *domain;
};

/* The directions that exist; each entry is made in each. */
#define DIRECTIONS 3

/* table.c: one text, read as /proc/bounce_truth. */
int table_open(void);
void table_close(void);
__printf(1, 2) void table_print(const char *format, ...);
/* Ends the table with the number of lines in it; a table without its end was cut. */
void table_end(void);

/* main.c: the physical address that a device reaches at @dma. */
phys_addr_t target_phys(const struct target *target, dma_addr_t dma);

/*
 * "direct" when the device reaches [@from, @from + @len) itself through @dma, "bounced" when it reaches something else.
 * @to is what it reaches.
 */
const char *target_fate(const struct target *target, phys_addr_t from, size_t len, dma_addr_t dma, phys_addr_t *to);

/* Each writes the entries of its kind; an error is that of a test that could not be made. */
int single_entries(const struct target *target);
int list_entries(const struct target *target);
int hold_entries(const struct target *target);

/* lose.c: what a recorder must lose something of; an error is that of something that could not be done. */
int lose(const struct target *target);

#endif
