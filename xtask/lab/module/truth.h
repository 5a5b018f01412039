/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The table that the parts of the module write, and what each of them writes into it.
 */
#ifndef BOUNCE_TRUTH_H
#define BOUNCE_TRUTH_H

#include "target.h"

/* The directions that exist; each entry is made in each. */
#define DIRECTIONS 3

/* table.c: one text, read as /proc/bounce_truth. */
int table_open(void);
void table_close(void);
__printf(1, 2) void table_print(const char *format, ...);
/* Ends the table with the number of lines in it; a table without its end was cut. */
void table_end(void);

/* Each writes the entries of its kind; an error is that of a test that could not be made. */
int single_entries(const struct target *target);
int list_entries(const struct target *target);
int hold_entries(const struct target *target);

/* mixed.c: lists of mixed lengths, and so many that carry the mark of an earlier mapping. */
int mixed_lists(const struct target *target, unsigned int count);
int stale_lists(const struct target *target, unsigned int count);

/* overlap.c: pairs of mappings in one cache line, and beside it, so many times each. */
int overlaps(const struct target *target, unsigned int rounds);

/* register.c: registers of the device, mapped for its own DMA so many times. */
int map_registers(const struct target *target, unsigned int count);

/* maintain.c: what needs cache maintenance, how often and how long; an error is that of something that could not be done. */
int maintain(const struct target *target);

/* lose.c: what a recorder must lose something of; an error is that of something that could not be done. */
int lose(const struct target *target);

#endif
