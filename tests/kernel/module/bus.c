// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The I2C bus: real I2C_RDWR, not SMBus only. Models of chips:
 *
 *   reg8   256 registers of a byte, a pointer that moves on by itself (BME280, MCP23017 and most others)
 *   reg16  256 registers of a word, high byte first (ADS1115, INA219, LM75)
 *   cmd16  a command of two bytes, whose answer can be read after a time; until then the read is not acknowledged (SHT3x, HTU21D).
 *          A command may be of one byte too: its high byte is then 0
 *   port8  eight pins: the byte written last is the byte read (PCF8574)
 */
#include <linux/i2c.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait.h>

#include "bench.h"

/* What the drivers of a Raspberry Pi (i2c-bcm2835) and of most SoCs (i2c-designware) say when nobody acknowledges. */
#define NACK (-EREMOTEIO)
#define ANSWER_MAX 32
#define ADDRESS_MAX 0x7f

static char *adapter_name = "bench-i2c";
module_param(adapter_name, charp, 0444);
static int adapter_nr = 1;
module_param(adapter_nr, int, 0444);

enum model { REG8, REG16, CMD16, PORT8 };

struct answer {
	struct list_head list;
	u16 command;
	u32 us;
	u8 size, bytes[ANSWER_MAX];
};

struct fault {
	int error;
	long count;	/* transfers to come; below 0: all */
	u32 us;
};

struct target {
	struct list_head list;
	u8 address;
	enum model model;
	u8 pointer, bytes[256];
	u16 words[256];
	struct list_head answers;
	struct answer *current_answer;
	ktime_t ready;
	struct fault fault;
};

static LIST_HEAD(targets);
static DEFINE_MUTEX(bus_lock);
static struct fault bus_fault;
static unsigned int mended;
static DECLARE_WAIT_QUEUE_HEAD(mending);

static struct target *target_at(long address)
{
	struct target *target;

	list_for_each_entry(target, &targets, list)
		if (target->address == address)
			return target;
	return NULL;
}

static struct answer *answer_to(struct target *target, u16 command)
{
	struct answer *answer;

	list_for_each_entry(answer, &target->answers, list)
		if (answer->command == command)
			return answer;
	return NULL;
}

static int take(struct target *target, const u8 *bytes, int size)
{
	int i;

	if (!size)
		return 0;
	switch (target->model) {
	case REG8:
		target->pointer = bytes[0];
		for (i = 1; i < size; i++)
			target->bytes[target->pointer++] = bytes[i];
		break;
	case REG16:
		target->pointer = bytes[0];
		if (size >= 3)
			target->words[target->pointer] = bytes[1] << 8 | bytes[2];
		break;
	case CMD16:
		target->current_answer = answer_to(target, size == 1 ? bytes[0] : bytes[0] << 8 | bytes[1]);
		if (target->current_answer)
			target->ready = ktime_add_us(ktime_get(), target->current_answer->us);
		break;
	case PORT8:
		target->bytes[0] = bytes[size - 1];
		break;
	}
	return 0;
}

static int give(struct target *target, u8 *bytes, int size)
{
	struct answer *answer = target->current_answer;
	int i;

	for (i = 0; i < size; i++) {
		switch (target->model) {
		case REG8:
			bytes[i] = target->bytes[target->pointer++];
			break;
		case REG16:
			bytes[i] = target->words[target->pointer] >> (i & 1 ? 0 : 8);
			break;
		case CMD16:
			if (!answer || ktime_before(ktime_get(), target->ready))
				return NACK;
			bytes[i] = i < answer->size ? answer->bytes[i] : 0xff;
			break;
		case PORT8:
			bytes[i] = target->bytes[0];
			break;
		}
	}
	return 0;
}

/* With the lock held, which a transfer gives back while it waits: a command may come meanwhile, and `mend` ends the wait. */
static int take_fault(struct fault *fault)
{
	int error = fault->error;
	u32 us = fault->us;

	if (!fault->count)
		return 0;
	if (fault->count > 0)
		fault->count--;
	if (us) {
		unsigned int before = mended;

		mutex_unlock(&bus_lock);
		wait_event_hrtimeout(mending, READ_ONCE(mended) != before, ns_to_ktime((u64)us * NSEC_PER_USEC));
		mutex_lock(&bus_lock);
	}
	return -error;
}

static int transfer(struct i2c_adapter *adapter, struct i2c_msg *messages, int count)
{
	char text[160] = "";
	int i, j, size = 0, result;

	mutex_lock(&bus_lock);
	result = take_fault(&bus_fault);
	for (i = 0; i < count && !result; i++) {
		struct i2c_msg *message = &messages[i];
		struct target *target = target_at(message->addr);
		bool reads = message->flags & I2C_M_RD;

		result = target ? 0 : NACK;
		if (!result && i == 0) {
			result = take_fault(&target->fault);
			/* It may have been taken away meanwhile. */
			target = target_at(message->addr);
			if (!result && !target)
				result = NACK;
		}
		if (!result)
			result = reads ? give(target, message->buf, message->len) : take(target, message->buf, message->len);
		if (result)
			break;
		size += scnprintf(text + size, sizeof(text) - size, reads ? " R " : " W ");
		for (j = 0; j < message->len; j++)
			size += scnprintf(text + size, sizeof(text) - size, "%02x", message->buf[j]);
	}
	mutex_unlock(&bus_lock);
	journal("i2c 0x%02x %d%s", count ? messages[0].addr : 0, result, text);
	return result ? result : count;
}

static u32 functionality(struct i2c_adapter *adapter)
{
	return I2C_FUNC_I2C | I2C_FUNC_SMBUS_EMUL;
}

static const struct i2c_algorithm algorithm = { .master_xfer = transfer, .functionality = functionality };

static struct i2c_adapter adapter = {
	.owner = THIS_MODULE,
	.algo = &algorithm,
};

/* ---- commands, with the lock held ---- */

static void forget(struct target *target)
{
	struct answer *answer, *next;

	list_for_each_entry_safe(answer, next, &target->answers, list)
		kfree(answer);
	list_del(&target->list);
	kfree(target);
}

static int add(long address, const char *model)
{
	static const char *const models[] = { [REG8] = "reg8", [REG16] = "reg16", [CMD16] = "cmd16", [PORT8] = "port8" };
	struct target *target;
	int known;

	known = model ? match_string(models, ARRAY_SIZE(models), model) : -EINVAL;
	if (known < 0 || target_at(address))
		return -EINVAL;
	target = kzalloc(sizeof(*target), GFP_KERNEL);
	if (!target)
		return -ENOMEM;
	target->address = address;
	target->model = known;
	INIT_LIST_HEAD(&target->answers);
	list_add_tail(&target->list, &targets);
	return 0;
}

static int set_fault(struct fault *fault, char *rest)
{
	long error, count, us = 0;

	if (next_number(&rest, &error) || next_number(&rest, &count))
		return -EINVAL;
	if (rest && next_number(&rest, &us))
		return -EINVAL;
	*fault = (struct fault){ .error = error, .count = count, .us = us };
	return 0;
}

static int set_bytes(struct target *target, char *rest)
{
	long at, byte;

	if (next_number(&rest, &at))
		return -EINVAL;
	while (rest && *rest) {
		if (next_number(&rest, &byte))
			return -EINVAL;
		target->bytes[at++ & 0xff] = byte;
	}
	return 0;
}

static int set_word(struct target *target, char *rest)
{
	long at, word;

	if (next_number(&rest, &at) || next_number(&rest, &word))
		return -EINVAL;
	target->words[at & 0xff] = word;
	return 0;
}

static int set_answer(struct target *target, char *rest)
{
	struct answer *answer;
	long command, us, byte;

	if (next_number(&rest, &command) || next_number(&rest, &us))
		return -EINVAL;
	answer = answer_to(target, command);
	if (!answer) {
		answer = kzalloc(sizeof(*answer), GFP_KERNEL);
		if (!answer)
			return -ENOMEM;
		answer->command = command;
		list_add(&answer->list, &target->answers);
	}
	answer->us = us;
	answer->size = 0;
	while (rest && *rest) {
		if (answer->size == ANSWER_MAX || next_number(&rest, &byte))
			return -EINVAL;
		answer->bytes[answer->size++] = byte;
	}
	return 0;
}

static void mend(void)
{
	struct target *target;

	bus_fault.count = 0;
	list_for_each_entry(target, &targets, list)
		target->fault.count = 0;
	WRITE_ONCE(mended, mended + 1);
	wake_up_all(&mending);
}

static int obey(char *rest)
{
	char *verb = next_word(&rest);
	struct target *target;
	long address;

	if (!verb)
		return -EINVAL;
	if (!strcmp(verb, "mend")) {
		mend();
		return 0;
	}
	if (next_number(&rest, &address) || address < 0 || address > ADDRESS_MAX)
		return -EINVAL;
	if (!strcmp(verb, "add"))
		return add(address, next_word(&rest));
	if (!strcmp(verb, "fail") && !address)
		return set_fault(&bus_fault, rest);
	target = target_at(address);
	if (!target)
		return -ENODEV;
	if (!strcmp(verb, "fail"))
		return set_fault(&target->fault, rest);
	if (!strcmp(verb, "set"))
		return set_bytes(target, rest);
	if (!strcmp(verb, "word"))
		return set_word(target, rest);
	if (!strcmp(verb, "answer"))
		return set_answer(target, rest);
	if (strcmp(verb, "remove"))
		return -EINVAL;
	forget(target);
	return 0;
}

int bus_command(char *arguments)
{
	int result;

	mutex_lock(&bus_lock);
	result = obey(arguments);
	mutex_unlock(&bus_lock);
	return result;
}

void bus_reset(void)
{
	struct target *target, *next;

	mutex_lock(&bus_lock);
	mend();
	list_for_each_entry_safe(target, next, &targets, list)
		forget(target);
	mutex_unlock(&bus_lock);
}

int bus_open(struct device *parent)
{
	strscpy(adapter.name, adapter_name, sizeof(adapter.name));
	adapter.dev.parent = parent;
	adapter.nr = adapter_nr;
	return i2c_add_numbered_adapter(&adapter);
}

void bus_close(void)
{
	i2c_del_adapter(&adapter);
	bus_reset();
}
