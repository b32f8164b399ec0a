/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the parts of the module share. main.c says what the module is for. */
#ifndef BENCH_H
#define BENCH_H

#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/types.h>

struct device;

/* One line of the journal: CLOCK_MONOTONIC nanoseconds, a space, the text. */
__printf(1, 2) void journal(const char *format, ...);
int journal_open(void);
void journal_close(void);
ssize_t journal_read(struct file *file, char __user *to, size_t size, loff_t *at);
__poll_t journal_poll(struct file *file, poll_table *table);

/* The next word of a command, NULL at its end; and the next number, decimal or 0x. */
char *next_word(char **rest);
int next_number(char **rest, long *number);

int pins_open(struct device *parent);
void pins_close(void);
void pins_reset(void);
int pins_drive(char *arguments);
int pins_keep(char *arguments);
int pins_wave(char *arguments);

int bus_open(struct device *parent);
void bus_close(void);
void bus_reset(void);
int bus_command(char *arguments);

int wire_open(void);
void wire_close(void);
void wire_reset(void);
int wire_command(char *arguments);

int serial_open(struct device *parent);
void serial_close(void);
void serial_reset(void);
int serial_command(char *arguments);

#endif
