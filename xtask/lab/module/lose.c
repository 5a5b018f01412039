// SPDX-License-Identifier: GPL-2.0
/*
 * What a recorder must lose something of: more lists mapped at once than it was told to keep, more objects freed at once than
 * it looks at, a device that cannot be read, allocations by an interrupt in the middle of others, and more calls in progress
 * than a kretprobe has instances for.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <uapi/linux/sched/types.h>

#include "truth.h"

#define LISTS 64
/* free_bulk looks at 512 of one call. */
#define OBJECTS 600
/* A kretprobe has max(10, 2 * CPUs) instances; of those preempted by the next, not each is in a probed function. */
#define CALLERS 90
/* Where the callers of one round are preempted is chance: nearly all in the search for slots, and hardly any in the release. */
#define ROUNDS 4
/* For a caller to begin, ms at least. */
#define PATIENCE 10000
/* Ticks that allocate. */
#define TICKS 500
/* A length that is counted, and that bounces on any line size. */
#define SMALL 8

static int hold_lists(const struct target *target)
{
	struct scatterlist *lists = kcalloc(LISTS, sizeof(*lists), GFP_KERNEL);
	unsigned int mapped, at;
	int error = 0;

	if (!lists)
		return -ENOMEM;
	for (mapped = 0; mapped < LISTS && !error; mapped++) {
		void *buffer = kmalloc(SMALL, GFP_KERNEL);

		if (!buffer) {
			error = -ENOMEM;
			break;
		}
		sg_init_one(&lists[mapped], buffer, SMALL);
		if (!dma_map_sg(target->dev, &lists[mapped], 1, DMA_FROM_DEVICE)) {
			kfree(buffer);
			error = -EIO;
			break;
		}
	}
	for (at = 0; at < mapped; at++) {
		dma_unmap_sg(target->dev, &lists[at], 1, DMA_FROM_DEVICE);
		kfree(sg_virt(&lists[at]));
	}
	kfree(lists);
	return error;
}

static int free_many(void)
{
	void **objects = kcalloc(OBJECTS, sizeof(*objects), GFP_KERNEL);
	unsigned int count = 0;

	if (!objects)
		return -ENOMEM;
	while (count < OBJECTS && (objects[count] = kmalloc(SMALL, GFP_KERNEL)))
		count++;
	kfree_bulk(count, objects);
	kfree(objects);
	return count == OBJECTS ? 0 : -ENOMEM;
}

static int map_once(const struct target *target, void *buffer)
{
	dma_addr_t dma = dma_map_single(target->dev, buffer, SMALL, DMA_FROM_DEVICE);

	if (dma_mapping_error(target->dev, dma))
		return -EIO;
	dma_unmap_single(target->dev, dma, SMALL, DMA_FROM_DEVICE);
	return 0;
}

/* The kernel does not ask for the driver of a device that maps, as long as nothing is wrong with the mapping. */
static int map_for_unreadable(const struct target *target)
{
	struct device_driver *driver = target->dev->driver;
	void *buffer = kmalloc(SMALL, GFP_KERNEL);
	int error;

	if (!buffer)
		return -ENOMEM;
	target->dev->driver = (struct device_driver *)SMALL;
	error = map_once(target, buffer);
	target->dev->driver = driver;
	kfree(buffer);
	return error;
}

static struct timer_list tick;
static unsigned int ticks;

static void allocate(struct timer_list *timer)
{
	kfree(kmalloc(SMALL, GFP_ATOMIC));
	WRITE_ONCE(ticks, ticks + 1);
	mod_timer(timer, jiffies + 1);
}

/* The timer's interrupt comes on the CPU that armed it, in the middle of whatever runs there: of a recorder's program at some time. */
static void interrupt_allocations(void)
{
	migrate_disable();
	ticks = 0;
	timer_setup(&tick, allocate, TIMER_PINNED);
	mod_timer(&tick, jiffies + 1);
	while (READ_ONCE(ticks) < TICKS) {
		kfree(kmalloc(SMALL, GFP_KERNEL));
		cond_resched();
	}
	migrate_enable();
	timer_delete_sync(&tick);
}

struct caller {
	const struct target *target;
	struct task_struct *task;
	bool has_called;
};

static int call(void *argument)
{
	struct caller *caller = argument;
	void *buffer = kmalloc(SMALL, GFP_KERNEL);

	while (!kthread_should_stop()) {
		if (buffer)
			map_once(caller->target, buffer);
		WRITE_ONCE(caller->has_called, true);
	}
	kfree(buffer);
	return 0;
}

/* A machine on a busy host may not come to it for long. */
static bool begins_to_call(struct caller *caller)
{
	unsigned int waited;

	wake_up_process(caller->task);
	for (waited = 0; !READ_ONCE(caller->has_called) && waited < PATIENCE; waited++)
		fsleep(1000);
	return READ_ONCE(caller->has_called);
}

/* Each is preempted by the next, which is more urgent, wherever it is. All are made before the first one takes its CPU. */
static int preempt_calls(const struct target *target)
{
	struct caller *callers = kcalloc(CALLERS, sizeof(*callers), GFP_KERNEL);
	int count, woken, error = 0;

	if (!callers)
		return -ENOMEM;
	set_cpus_allowed_ptr(current, cpumask_of(0));
	for (count = 0; count < CALLERS; count++) {
		struct sched_attr urgency = { .size = sizeof(urgency), .sched_policy = SCHED_FIFO, .sched_priority = count + 1 };
		struct task_struct *task = kthread_create(call, &callers[count], "bounce_calls/%d", count);

		if (IS_ERR(task)) {
			error = PTR_ERR(task);
			break;
		}
		kthread_bind(task, 1);
		sched_setattr_nocheck(task, &urgency);
		callers[count].target = target;
		callers[count].task = task;
	}
	for (woken = 0; !error && woken < count; woken++) {
		if (begins_to_call(&callers[woken]))
			fsleep(2000);
		else
			error = -ETIMEDOUT;
	}
	while (count-- > 0)
		kthread_stop(callers[count].task);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	kfree(callers);
	return error;
}

int lose(const struct target *target)
{
	int error = hold_lists(target);
	unsigned int round;

	error = error ?: free_many();
	error = error ?: map_for_unreadable(target);
	if (error)
		return error;
	interrupt_allocations();
	for (round = 0; round < ROUNDS && !error && num_online_cpus() > 1; round++)
		error = preempt_calls(target);
	return error;
}
