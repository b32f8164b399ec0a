// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A GPIO chip, an I2C bus, a 1-Wire bus and a serial port for tests: a test outside drives them, breaks them, and watches what a program does to them.
 *
 * /dev/bench takes commands, one a line, numbers decimal or 0x:
 *
 *   gpio LINE 0|1|z                 drive the pin from outside; z lets it float
 *   keep LINE                       the pin keeps its level when a program gives it back; others become inputs
 *   wave LINE TIMES LEVEL:US ...    the same from a kernel timer: the steps, TIMES over
 *   i2c add ADDRESS MODEL               put a chip on the bus (bus.c says which models there are)
 *   i2c remove ADDRESS
 *   i2c set ADDRESS REGISTER BYTE ...   reg8: bytes from a register on; port8: its pins, as register 0
 *   i2c word ADDRESS REGISTER WORD      reg16: one register
 *   i2c answer ADDRESS COMMAND US BYTE ...  cmd16: what is read after a command, from US microseconds on
 *   i2c fail ADDRESS ERRNO COUNT [US]   the next COUNT transfers (-1: all) end so after US; address 0: the whole bus. 0: they go on, US later
 *   i2c mend                            no transfer fails or waits any longer
 *   w1 add SERIAL                       put a DS18B20 on the 1-Wire bus; SERIAL is the number in its name, 28-...
 *   w1 remove SERIAL
 *   w1 set SERIAL SIXTEENTHS            what it measures, in sixteenths of a degree
 *   w1 starve SERIAL COUNT              its next COUNT conversions (-1: all) lose their power
 *   w1 garble SERIAL COUNT              a bit of its next COUNT scratchpads (-1: all) is flipped
 *   uart rx BYTE ...                    what the port /dev/ttyBench0 receives; frame, parity, overrun instead of rx: with such an error
 *   uart knows FLAGS DELAYS             what of RS-485 its driver can do: SER_RS485_..., and whether it has delays
 *   reset                           pins float, the buses are empty and whole, the port knows all
 *   mark TEXT                       a line in the journal
 *
 * and gives its journal, one event a line behind its time in nanoseconds of CLOCK_MONOTONIC, the clock that the kernel stamps edges with:
 *
 *   gpio LINE LEVEL out|outside|input|free|config    the level of the wire changed, and who did it
 *   request LINE, free LINE         a program took the line, gave it back
 *   wave LINE done
 *   i2c ADDRESS RESULT [W|R bytes ...]  a transfer: 0 or a negative errno, and what went over the wire
 *   w1 SERIAL converts
 *   uart tx BYTES, uart rs485 FLAGS BEFORE AFTER    what the port sent, how it was told to switch
 */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "bench.h"

/* Longest write: a wave of many steps. */
#define WRITE_MAX 16384

static struct platform_device *platform;

char *next_word(char **rest)
{
	char *word;

	do
		word = strsep(rest, " \t");
	while (word && !*word);
	return word;
}

int next_number(char **rest, long *number)
{
	char *word = next_word(rest);

	return word ? kstrtol(word, 0, number) : -EINVAL;
}

static int command(char *line)
{
	char *verb = next_word(&line);

	if (!verb)
		return 0;
	if (!strcmp(verb, "gpio"))
		return pins_drive(line);
	if (!strcmp(verb, "keep"))
		return pins_keep(line);
	if (!strcmp(verb, "wave"))
		return pins_wave(line);
	if (!strcmp(verb, "i2c"))
		return bus_command(line);
	if (!strcmp(verb, "w1"))
		return wire_command(line);
	if (!strcmp(verb, "uart"))
		return serial_command(line);
	if (!strcmp(verb, "reset")) {
		pins_reset();
		bus_reset();
		wire_reset();
		serial_reset();
		return 0;
	}
	if (!strcmp(verb, "mark")) {
		journal("mark %s", line ? line : "");
		return 0;
	}
	return -EINVAL;
}

static ssize_t bench_write(struct file *file, const char __user *from, size_t size, loff_t *at)
{
	char *text, *rest, *line;
	int result = 0;

	if (size > WRITE_MAX)
		return -E2BIG;
	text = memdup_user_nul(from, size);
	if (IS_ERR(text))
		return PTR_ERR(text);
	rest = text;
	while (!result && (line = strsep(&rest, "\n")))
		result = command(line);
	kfree(text);
	return result ? result : size;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.read = journal_read,
	.write = bench_write,
	.poll = journal_poll,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "bench",
	.fops = &operations,
	.mode = 0600,
};

static int __init bench_open(void)
{
	int result = journal_open();

	if (result)
		return result;
	platform = platform_device_register_simple("bench", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(platform)) {
		result = PTR_ERR(platform);
		goto no_platform;
	}
	result = pins_open(&platform->dev);
	if (result)
		goto no_pins;
	result = bus_open(&platform->dev);
	if (result)
		goto no_bus;
	result = wire_open();
	if (result)
		goto no_wire;
	result = serial_open(&platform->dev);
	if (result)
		goto no_serial;
	result = misc_register(&device);
	if (!result)
		return 0;
	serial_close();
no_serial:
	wire_close();
no_wire:
	bus_close();
no_bus:
	pins_close();
no_pins:
	platform_device_unregister(platform);
no_platform:
	journal_close();
	return result;
}

static void __exit bench_close(void)
{
	misc_deregister(&device);
	serial_close();
	wire_close();
	bus_close();
	pins_close();
	platform_device_unregister(platform);
	journal_close();
}

module_init(bench_open);
module_exit(bench_close);
MODULE_DESCRIPTION("GPIO chip, buses and serial port that a test drives, watches and breaks");
/* gpiolib and the irq core give their functions to GPL-compatible modules only. */
MODULE_LICENSE("Dual MIT/GPL");
