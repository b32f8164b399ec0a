// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The GPIO chip. The level of a wire follows from who drives it: the program (as an output), else the test (from outside), else the bias.
 * Open drain and open source are followed. A line that is given back becomes an input, as chips do that free a pin in their pin controller;
 * one that is told to keeps its level, as on most others.
 */
#include <linux/gpio/driver.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/version.h>

#include "bench.h"

#define LINES 32
#define WAVES 4
#define STEPS_MAX 512

static char *label = "bench-gpio";
module_param(label, charp, 0444);

enum { FLOATING = -1 };

struct pin {
	bool output, value;		/* what the program does */
	bool open_drain, open_source;
	bool keeps;			/* its level when it is given back */
	s8 outside;			/* what the test does: FLOATING, 0, 1 */
	s8 bias;			/* FLOATING (none), 0, 1 */
	bool level;			/* what the wire shows */
	bool irq_enabled;
	unsigned int irq_type;
};

struct wave {
	struct hrtimer timer;
	bool playing;
	unsigned int line, steps, at;
	long times;
	struct { s8 level; u32 us; } step[STEPS_MAX];
};

static DEFINE_RAW_SPINLOCK(lock);
static struct pin pins[LINES];
static struct wave waves[WAVES];
static struct irq_domain *interrupts;
static char *names[LINES];

/* With the lock held. */
static bool wire(const struct pin *pin)
{
	bool drives = pin->value ? !pin->open_drain : !pin->open_source;

	if (pin->output && drives)
		return pin->value;
	if (pin->outside != FLOATING)
		return pin->outside;
	if (pin->bias != FLOATING)
		return pin->bias;
	return pin->output && pin->open_drain;
}

/* Finds the level anew; a change goes into the journal and raises the interrupt. */
static void settle(unsigned int line, const char *who)
{
	struct pin *pin = &pins[line];
	bool changed, edge = false;
	unsigned long flags;
	bool level;

	raw_spin_lock_irqsave(&lock, flags);
	level = wire(pin);
	changed = level != pin->level;
	pin->level = level;
	if (changed && pin->irq_enabled)
		edge = pin->irq_type & (level ? IRQ_TYPE_EDGE_RISING : IRQ_TYPE_EDGE_FALLING);
	raw_spin_unlock_irqrestore(&lock, flags);
	if (changed)
		journal("gpio %u %d %s", line, level, who);
	if (edge)
		generic_handle_irq_safe(irq_find_mapping(interrupts, line));
}

static void drive(unsigned int line, s8 level)
{
	pins[line].outside = level;
	settle(line, "outside");
}

/* ---- the chip, as gpiolib sees it ---- */

static int chip_request(struct gpio_chip *chip, unsigned int line)
{
	journal("request %u", line);
	return 0;
}

static void chip_free(struct gpio_chip *chip, unsigned int line)
{
	journal("free %u", line);
	if (pins[line].keeps)
		return;
	pins[line].open_drain = pins[line].open_source = false;
	pins[line].output = false;
	settle(line, "free");
}

static int chip_get_direction(struct gpio_chip *chip, unsigned int line)
{
	return pins[line].output ? GPIO_LINE_DIRECTION_OUT : GPIO_LINE_DIRECTION_IN;
}

static int chip_direction_input(struct gpio_chip *chip, unsigned int line)
{
	pins[line].output = false;
	settle(line, "input");
	return 0;
}

static int chip_direction_output(struct gpio_chip *chip, unsigned int line, int value)
{
	pins[line].value = value;
	pins[line].output = true;
	settle(line, "out");
	return 0;
}

static int chip_get(struct gpio_chip *chip, unsigned int line)
{
	return READ_ONCE(pins[line].level);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
static int chip_set(struct gpio_chip *chip, unsigned int line, int value)
{
	pins[line].value = value;
	settle(line, "out");
	return 0;
}
#else
static void chip_set(struct gpio_chip *chip, unsigned int line, int value)
{
	pins[line].value = value;
	settle(line, "out");
}
#endif

static int chip_set_config(struct gpio_chip *chip, unsigned int line, unsigned long config)
{
	struct pin *pin = &pins[line];

	switch (pinconf_to_config_param(config)) {
	case PIN_CONFIG_BIAS_DISABLE:
		pin->bias = FLOATING;
		break;
	case PIN_CONFIG_BIAS_PULL_UP:
		pin->bias = 1;
		break;
	case PIN_CONFIG_BIAS_PULL_DOWN:
		pin->bias = 0;
		break;
	case PIN_CONFIG_DRIVE_OPEN_DRAIN:
		pin->open_drain = true;
		break;
	case PIN_CONFIG_DRIVE_OPEN_SOURCE:
		pin->open_source = true;
		break;
	case PIN_CONFIG_DRIVE_PUSH_PULL:
		pin->open_drain = pin->open_source = false;
		break;
	case PIN_CONFIG_PERSIST_STATE:
		break;
	default:
		/* Debounce above all: gpiolib then does it in software. */
		return -ENOTSUPP;
	}
	settle(line, "config");
	return 0;
}

static int chip_to_irq(struct gpio_chip *chip, unsigned int line)
{
	return irq_create_mapping(interrupts, line);
}

static struct gpio_chip chip = {
	.owner = THIS_MODULE,
	.base = -1,
	.ngpio = LINES,
	.request = chip_request,
	.free = chip_free,
	.get_direction = chip_get_direction,
	.direction_input = chip_direction_input,
	.direction_output = chip_direction_output,
	.get = chip_get,
	.set = chip_set,
	.set_config = chip_set_config,
	.to_irq = chip_to_irq,
};

/* ---- its interrupts ---- */

static void irq_mask(struct irq_data *data)
{
	pins[irqd_to_hwirq(data)].irq_enabled = false;
}

static void irq_unmask(struct irq_data *data)
{
	pins[irqd_to_hwirq(data)].irq_enabled = true;
}

static int irq_set_type(struct irq_data *data, unsigned int type)
{
	if (type & ~IRQ_TYPE_EDGE_BOTH)
		return -EINVAL;
	pins[irqd_to_hwirq(data)].irq_type = type;
	irqd_set_trigger_type(data, type);
	return 0;
}

static struct irq_chip irq = {
	.name = "bench",
	.irq_mask = irq_mask,
	.irq_unmask = irq_unmask,
	.irq_set_type = irq_set_type,
};

static int irq_map(struct irq_domain *domain, unsigned int virq, irq_hw_number_t line)
{
	irq_set_chip_and_handler(virq, &irq, handle_simple_irq);
	irq_modify_status(virq, IRQ_NOREQUEST | IRQ_NOAUTOEN, IRQ_NOPROBE);
	return 0;
}

static const struct irq_domain_ops irq_operations = { .map = irq_map };

/* ---- commands ---- */

static int line_of(char **rest, unsigned int *line)
{
	long number;

	if (next_number(rest, &number) || number < 0 || number >= LINES)
		return -EINVAL;
	*line = number;
	return 0;
}

static int level_of(const char *word, s8 *level)
{
	switch (word ? *word : 0) {
	case '0':
		*level = 0;
		return 0;
	case '1':
		*level = 1;
		return 0;
	case 'z':
		*level = FLOATING;
		return 0;
	}
	return -EINVAL;
}

int pins_drive(char *arguments)
{
	unsigned int line;
	s8 level;

	if (line_of(&arguments, &line) || level_of(next_word(&arguments), &level))
		return -EINVAL;
	drive(line, level);
	return 0;
}

int pins_keep(char *arguments)
{
	unsigned int line;

	if (line_of(&arguments, &line))
		return -EINVAL;
	pins[line].keeps = true;
	return 0;
}

/* A step that comes late moves those after it, so that none is shorter than it was meant to be. */
static enum hrtimer_restart wave_step(struct hrtimer *timer)
{
	struct wave *wave = container_of(timer, struct wave, timer);

	if (wave->at == wave->steps) {
		wave->at = 0;
		if (--wave->times <= 0) {
			journal("wave %u done", wave->line);
			wave->playing = false;
			return HRTIMER_NORESTART;
		}
	}
	drive(wave->line, wave->step[wave->at].level);
	hrtimer_set_expires(timer, ktime_add_us(ktime_get(), wave->step[wave->at].us));
	wave->at++;
	return HRTIMER_RESTART;
}

int pins_wave(char *arguments)
{
	struct wave *wave = NULL;
	unsigned int i;
	char *word;

	for (i = 0; i < WAVES && !wave; i++)
		if (!waves[i].playing)
			wave = &waves[i];
	if (!wave)
		return -EBUSY;
	hrtimer_cancel(&wave->timer);
	if (line_of(&arguments, &wave->line) || next_number(&arguments, &wave->times))
		return -EINVAL;
	wave->steps = wave->at = 0;
	while ((word = next_word(&arguments))) {
		char *us = strchr(word, ':');

		if (wave->steps == STEPS_MAX || !us || level_of(word, &wave->step[wave->steps].level) ||
		    kstrtou32(us + 1, 0, &wave->step[wave->steps].us))
			return -EINVAL;
		wave->steps++;
	}
	if (!wave->steps)
		return -EINVAL;
	wave->playing = true;
	hrtimer_start(&wave->timer, ns_to_ktime(NSEC_PER_USEC), HRTIMER_MODE_REL_HARD);
	return 0;
}

void pins_reset(void)
{
	unsigned int i;

	for (i = 0; i < WAVES; i++) {
		hrtimer_cancel(&waves[i].timer);
		waves[i].playing = false;
	}
	for (i = 0; i < LINES; i++) {
		pins[i].bias = FLOATING;
		pins[i].keeps = pins[i].output = false;
		drive(i, FLOATING);
	}
}

int pins_open(struct device *parent)
{
	unsigned int i;
	int result;

	interrupts = irq_domain_create_linear(NULL, LINES, &irq_operations, NULL);
	if (!interrupts)
		return -ENOMEM;
	for (i = 0; i < LINES; i++) {
		pins[i].outside = pins[i].bias = FLOATING;
		names[i] = kasprintf(GFP_KERNEL, "GPIO%u", i);
	}
	for (i = 0; i < WAVES; i++) {
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
		hrtimer_setup(&waves[i].timer, wave_step, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
#else
		hrtimer_init(&waves[i].timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
		waves[i].timer.function = wave_step;
#endif
	}
	chip.label = label;
	chip.parent = parent;
	chip.names = (const char *const *)names;
	result = gpiochip_add_data(&chip, NULL);
	if (result)
		irq_domain_remove(interrupts);
	return result;
}

void pins_close(void)
{
	unsigned int i;

	for (i = 0; i < WAVES; i++)
		hrtimer_cancel(&waves[i].timer);
	gpiochip_remove(&chip);
	for (i = 0; i < LINES; i++) {
		irq_dispose_mapping(irq_find_mapping(interrupts, i));
		kfree(names[i]);
	}
	irq_domain_remove(interrupts);
}
