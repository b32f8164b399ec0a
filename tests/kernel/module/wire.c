// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The 1-Wire bus: a bus master whose wire has DS18B20 on it, bit by bit as the datasheet has it (Analog Devices, DS18B20, rev. 6): the search of ROM
 * codes, where all chips pull at one wire, the scratchpad with its checksum, and a conversion that takes its time.
 */
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/w1.h>

#include "bench.h"

#define FAMILY 0x28
#define ROM_BITS 64
#define SCRATCHPAD 9
/* What a conversion leaves after a loss of power: 85 degrees. */
#define POWER_UP 0x0550
/* Of 12 bits; each bit less halves it. */
#define CONVERSION_MS 750

enum state { ASLEEP, ROM_COMMAND, COMMAND, MATCH, SEARCH, SEND, RECEIVE, CONVERT };

struct thermometer {
	struct list_head list;
	u64 rom;
	s16 measures;			/* sixteenths of a degree that the next conversion finds */
	s16 converting;			/* what the conversion that runs will find */
	u8 scratchpad[SCRATCHPAD];
	ktime_t ready;
	bool converts;
	long starved, garbled;		/* conversions that lose their power; scratchpads that lose a bit; below 0: all */
	enum state state;
	unsigned int at, phase;
	u8 byte, out[SCRATCHPAD];
	unsigned int out_bits;
};

static LIST_HEAD(thermometers);
static DEFINE_SPINLOCK(wire_lock);

static bool used_up(long *count)
{
	if (*count > 0)
		(*count)--;
	else
		return *count == 0;
	return false;
}

static void hold(struct thermometer *chip, s16 sixteenths)
{
	chip->scratchpad[0] = sixteenths;
	chip->scratchpad[1] = sixteenths >> 8;
}

static void power_up(struct thermometer *chip)
{
	static const u8 defaults[SCRATCHPAD] = { 0, 0, 0x4b, 0x46, 0x7f, 0xff, 0x0c, 0x10 };

	memcpy(chip->scratchpad, defaults, SCRATCHPAD);
	hold(chip, POWER_UP);
	chip->converts = false;
	chip->state = ASLEEP;
}

static void finish(struct thermometer *chip)
{
	if (!chip->converts || ktime_before(ktime_get(), chip->ready))
		return;
	chip->converts = false;
	hold(chip, chip->converting);
}

static void send(struct thermometer *chip, const void *bytes, unsigned int bits)
{
	memcpy(chip->out, bytes, DIV_ROUND_UP(bits, 8));
	chip->out_bits = bits;
	chip->at = 0;
	chip->state = SEND;
}

static void rom_command(struct thermometer *chip)
{
	chip->at = chip->phase = 0;
	switch (chip->byte) {
	case W1_SEARCH:
		chip->state = SEARCH;
		break;
	case W1_MATCH_ROM:
		chip->state = MATCH;
		break;
	case W1_SKIP_ROM:
		chip->state = COMMAND;
		break;
	case W1_READ_ROM:
		send(chip, &chip->rom, ROM_BITS);
		break;
	default:
		chip->state = ASLEEP;
	}
}

static void command(struct thermometer *chip)
{
	static const u8 has_supply = 1;
	u8 resolution = chip->scratchpad[4] >> 5 & 3;

	chip->at = 0;
	chip->state = ASLEEP;
	switch (chip->byte) {
	case 0x44:
		chip->converting = used_up(&chip->starved) ? chip->measures : POWER_UP;
		chip->ready = ktime_add_ms(ktime_get(), CONVERSION_MS >> (3 - resolution));
		chip->converts = true;
		chip->state = CONVERT;
		journal("w1 %012llx converts", chip->rom >> 8 & 0xffffffffffffULL);
		break;
	case 0xbe:
		chip->scratchpad[SCRATCHPAD - 1] = w1_calc_crc8(chip->scratchpad, SCRATCHPAD - 1);
		send(chip, chip->scratchpad, 8 * SCRATCHPAD);
		if (!used_up(&chip->garbled))
			chip->out[0] ^= 0x08;
		break;
	case 0x4e:
		chip->state = RECEIVE;
		break;
	case 0xb4:
		send(chip, &has_supply, 1);
		break;
	}
}

/* One slot of the wire. What the chip makes of the wire: 0 pulls it down. */
static bool slot(struct thermometer *chip, bool bit)
{
	bool own = chip->rom >> (chip->at & 63) & 1;

	finish(chip);
	switch (chip->state) {
	case ROM_COMMAND:
	case COMMAND:
	case RECEIVE:
		chip->byte = chip->byte >> 1 | (bit ? 0x80 : 0);
		if (++chip->at & 7)
			break;
		if (chip->state == ROM_COMMAND) {
			rom_command(chip);
		} else if (chip->state == COMMAND) {
			command(chip);
		} else {
			/* Two bytes of alarms, and the resolution. */
			chip->scratchpad[1 + chip->at / 8] = chip->byte;
			if (chip->at == 3 * 8)
				chip->state = ASLEEP;
		}
		break;
	case SEARCH:
		if (chip->phase < 2)
			return chip->phase++ ? !own : own;
		chip->phase = 0;
		fallthrough;
	case MATCH:
		if (bit != own) {
			chip->state = ASLEEP;
		} else if (++chip->at == ROM_BITS) {
			chip->at = 0;
			chip->state = COMMAND;
		}
		break;
	case SEND:
		if (chip->at == chip->out_bits)
			break;
		own = chip->out[chip->at / 8] >> (chip->at & 7) & 1;
		chip->at++;
		return own;
	case CONVERT:
		return !chip->converts;
	case ASLEEP:
		break;
	}
	return true;
}

/* ---- the master ---- */

static u8 touch_bit(void *data, u8 bit)
{
	struct thermometer *chip;
	bool level = bit;

	spin_lock(&wire_lock);
	list_for_each_entry(chip, &thermometers, list)
		level &= slot(chip, bit);
	spin_unlock(&wire_lock);
	return level;
}

/* 0 when somebody answers with a presence pulse. */
static u8 reset_bus(void *data)
{
	struct thermometer *chip;
	bool nobody;

	spin_lock(&wire_lock);
	nobody = list_empty(&thermometers);
	list_for_each_entry(chip, &thermometers, list) {
		chip->state = ROM_COMMAND;
		chip->at = 0;
	}
	spin_unlock(&wire_lock);
	return nobody;
}

static struct w1_bus_master master = { .touch_bit = touch_bit, .reset_bus = reset_bus };

/* ---- commands, with the lock held ---- */

static struct thermometer *thermometer_of(u64 serial)
{
	struct thermometer *chip;

	list_for_each_entry(chip, &thermometers, list)
		if ((chip->rom >> 8 & 0xffffffffffffULL) == serial)
			return chip;
	return NULL;
}

static int add(u64 serial)
{
	struct thermometer *chip;

	if (thermometer_of(serial))
		return -EEXIST;
	chip = kzalloc(sizeof(*chip), GFP_ATOMIC);
	if (!chip)
		return -ENOMEM;
	chip->rom = serial << 8 | FAMILY;
	chip->rom |= (u64)w1_calc_crc8((u8 *)&chip->rom, 7) << 56;
	power_up(chip);
	list_add_tail(&chip->list, &thermometers);
	return 0;
}

static int obey(char *rest)
{
	char *verb = next_word(&rest);
	struct thermometer *chip;
	long serial, number;

	if (!verb || next_number(&rest, &serial) || serial < 0 || serial >> 48)
		return -EINVAL;
	if (!strcmp(verb, "add"))
		return add(serial);
	chip = thermometer_of(serial);
	if (!chip)
		return -ENODEV;
	if (!strcmp(verb, "remove")) {
		list_del(&chip->list);
		kfree(chip);
		return 0;
	}
	if (next_number(&rest, &number))
		return -EINVAL;
	if (!strcmp(verb, "set"))
		chip->measures = number;
	else if (!strcmp(verb, "starve"))
		chip->starved = number;
	else if (!strcmp(verb, "garble"))
		chip->garbled = number;
	else
		return -EINVAL;
	return 0;
}

int wire_command(char *arguments)
{
	int result;

	spin_lock(&wire_lock);
	result = obey(arguments);
	spin_unlock(&wire_lock);
	return result;
}

void wire_reset(void)
{
	struct thermometer *chip, *next;

	spin_lock(&wire_lock);
	list_for_each_entry_safe(chip, next, &thermometers, list)
		kfree(chip);
	INIT_LIST_HEAD(&thermometers);
	spin_unlock(&wire_lock);
}

int wire_open(void)
{
	return w1_add_master_device(&master);
}

void wire_close(void)
{
	w1_remove_master_device(&master);
	wire_reset();
}
