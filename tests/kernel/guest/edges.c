/*
 * Takes a line by version 2 of the kernel's GPIO interface and tells its edges, as a program would that leaves the debounce to the kernel.
 *
 *   edges CHIP-LABEL OFFSET DEBOUNCE-US    0: no debounce
 *
 * Prints `ready`, then a line an edge: its stamp in nanoseconds of CLOCK_MONOTONIC, the level behind it, its number. SIGTERM ends it, with a line
 * `end LEVEL READS`: the level it finds by asking, and how often it was woken.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static volatile sig_atomic_t ends;

static void end(int number)
{
	(void)number;
	ends = 1;
}

static int chip_of(const char *label)
{
	struct gpiochip_info info;
	struct dirent *entry;
	DIR *devices = opendir("/dev");
	char path[300];
	int chip;

	while (devices && (entry = readdir(devices))) {
		if (strncmp(entry->d_name, "gpiochip", 8))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		chip = open(path, O_RDWR | O_CLOEXEC);
		if (chip >= 0 && !ioctl(chip, GPIO_GET_CHIPINFO_IOCTL, &info) && !strcmp(info.label, label))
			return chip;
		if (chip >= 0)
			close(chip);
	}
	return -1;
}

int main(int count, char **words)
{
	struct gpio_v2_line_request request = { .num_lines = 1, .consumer = "edges", .event_buffer_size = 1024 };
	struct gpio_v2_line_event events[16];
	struct gpio_v2_line_values values = { .mask = 1 };
	struct sigaction action = { .sa_handler = end };
	unsigned int reads = 0;
	ssize_t size;
	int chip, i;

	if (count != 4) {
		fputs("edges CHIP-LABEL OFFSET DEBOUNCE-US\n", stderr);
		return 64;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* Without SA_RESTART: it has to end a read. */
	sigaction(SIGTERM, &action, NULL);
	request.offsets[0] = atoi(words[2]);
	request.config.flags = GPIO_V2_LINE_FLAG_INPUT | GPIO_V2_LINE_FLAG_EDGE_RISING | GPIO_V2_LINE_FLAG_EDGE_FALLING;
	if (atoi(words[3])) {
		request.config.num_attrs = 1;
		request.config.attrs[0].mask = 1;
		request.config.attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_DEBOUNCE;
		request.config.attrs[0].attr.debounce_period_us = atoi(words[3]);
	}
	chip = chip_of(words[1]);
	if (chip < 0 || ioctl(chip, GPIO_V2_GET_LINE_IOCTL, &request)) {
		perror(words[1]);
		return 1;
	}
	puts("ready");
	while (!ends) {
		size = read(request.fd, events, sizeof(events));
		if (size < 0) {
			if (errno == EINTR)
				continue;
			perror("read");
			return 1;
		}
		reads++;
		for (i = 0; i < size / (ssize_t)sizeof(events[0]); i++)
			printf("%llu %d %u\n", (unsigned long long)events[i].timestamp_ns,
			       events[i].id == GPIO_V2_LINE_EVENT_RISING_EDGE, events[i].line_seqno);
	}
	if (ioctl(request.fd, GPIO_V2_LINE_GET_VALUES_IOCTL, &values)) {
		perror("value");
		return 1;
	}
	printf("end %d %u\n", (int)(values.bits & 1), reads);
	return 0;
}
