// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What happened, as lines in a ring that one reader empties. Written from any context, interrupts included. */
#include <linux/kfifo.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "bench.h"

/* Some 8,000 lines: more than a burst of edges puts in while the reader sleeps. Beyond it lines are lost and counted. */
#define RING_BYTES (1 << 18)
#define LINE_BYTES 240

static DEFINE_SPINLOCK(ring_lock);
static DEFINE_MUTEX(reader_lock);
static DECLARE_KFIFO_PTR(ring, char);
static DECLARE_WAIT_QUEUE_HEAD(filled);
static unsigned long lost;

void journal(const char *format, ...)
{
	char line[LINE_BYTES];
	unsigned long flags;
	va_list arguments;
	int size;

	size = scnprintf(line, sizeof(line), "%lld ", ktime_get_ns());
	va_start(arguments, format);
	size += vscnprintf(line + size, sizeof(line) - size - 1, format, arguments);
	va_end(arguments);
	line[size++] = '\n';
	spin_lock_irqsave(&ring_lock, flags);
	if (kfifo_avail(&ring) < size)
		lost++;
	else
		kfifo_in(&ring, line, size);
	spin_unlock_irqrestore(&ring_lock, flags);
	wake_up_interruptible(&filled);
}

ssize_t journal_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	unsigned int copied = 0;
	int result;

	if (kfifo_is_empty(&ring)) {
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		result = wait_event_interruptible(filled, !kfifo_is_empty(&ring));
		if (result)
			return result;
	}
	mutex_lock(&reader_lock);
	result = kfifo_to_user(&ring, to, size, &copied);
	mutex_unlock(&reader_lock);
	return result ? result : copied;
}

__poll_t journal_poll(struct file *file, poll_table *table)
{
	poll_wait(file, &filled, table);
	return EPOLLOUT | EPOLLWRNORM | (kfifo_is_empty(&ring) ? 0 : EPOLLIN | EPOLLRDNORM);
}

int journal_open(void)
{
	return kfifo_alloc(&ring, RING_BYTES, GFP_KERNEL);
}

void journal_close(void)
{
	if (lost)
		pr_warn("bench: %lu lines of the journal were lost\n", lost);
	kfifo_free(&ring);
}
