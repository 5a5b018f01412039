// SPDX-License-Identifier: GPL-2.0
/*
 * The table as a text in memory, and the file in /proc through which it is read. Nothing of it goes through the kernel's
 * log, which may drop lines.
 */
#include <linux/fs.h>
#include <linux/proc_fs.h>
#include <linux/sprintf.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "truth.h"

#define NAME "bounce_truth"
#define ROOM (4UL << 20)

static char *text;
static size_t length;
static unsigned long lines;

static ssize_t table_read(struct file *file, char __user *to, size_t count, loff_t *position)
{
	return simple_read_from_buffer(to, count, position, text, length);
}

static const struct proc_ops table_ops = {
	.proc_read = table_read,
	.proc_lseek = default_llseek,
};

int table_open(void)
{
	text = vmalloc(ROOM);
	if (!text)
		return -ENOMEM;
	if (!proc_create(NAME, 0444, NULL, &table_ops)) {
		vfree(text);
		return -ENOMEM;
	}
	return 0;
}

void table_close(void)
{
	remove_proc_entry(NAME, NULL);
	vfree(text);
}

void table_print(const char *format, ...)
{
	size_t at = length;
	va_list arguments;

	va_start(arguments, format);
	/* What does not fit is cut, and then the end does not fit either. */
	length += vscnprintf(text + length, ROOM - length, format, arguments);
	va_end(arguments);
	for (; at < length; at++)
		lines += text[at] == '\n';
}

void table_end(void)
{
	table_print("end %lu\n", lines);
}
