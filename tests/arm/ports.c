/*
 * Serial ports for a program that qemu-user runs: it knows TCGETS and TCSETS, but not the newer TCGETS2 and TCSETS2 (QEMU 7.2: ENOSYS), which tell
 * the speed as a number. Here these become those, for speeds that have a name. `run` preloads it into the emulated program.
 *
 * Source: ioctl_tty(2), asm-generic/termbits.h.
 */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	unsigned int named, baud;
} speeds[] = {
	{ B300, 300 },       { B600, 600 },       { B1200, 1200 },     { B2400, 2400 },     { B4800, 4800 },
	{ B9600, 9600 },     { B19200, 19200 },   { B38400, 38400 },   { B57600, 57600 },   { B115200, 115200 },
	{ B230400, 230400 }, { B460800, 460800 }, { B500000, 500000 }, { B921600, 921600 }, { B1000000, 1000000 },
};
#define SPEEDS (sizeof speeds / sizeof *speeds)

static int get(int fd, struct termios2 *told)
{
	struct termios known;
	int outcome = syscall(SYS_ioctl, fd, TCGETS, &known);

	if (outcome != 0)
		return outcome;
	/* The one begins as the other does. */
	memcpy(told, &known, sizeof known);
	told->c_ispeed = told->c_ospeed = 0;
	for (unsigned int i = 0; i < SPEEDS; i++)
		if (speeds[i].named == (known.c_cflag & CBAUD))
			told->c_ispeed = told->c_ospeed = speeds[i].baud;
	return 0;
}

static int set(int fd, unsigned long request, const struct termios2 *asked)
{
	struct termios known;

	memcpy(&known, asked, sizeof known);
	if ((known.c_cflag & CBAUD) == BOTHER) {
		unsigned int i = 0;

		while (i < SPEEDS && speeds[i].baud != asked->c_ospeed)
			i++;
		if (i == SPEEDS) {
			errno = EINVAL;
			return -1;
		}
		known.c_cflag = (known.c_cflag & ~(CBAUD | CIBAUD)) | speeds[i].named;
	}
	return syscall(SYS_ioctl, fd, request, &known);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	/* A caller may have made the number's sign its own: 32 bits are all it has. */
	switch ((unsigned int)request) {
	case TCGETS2:
		return get(fd, argument);
	case TCSETS2:
		return set(fd, TCSETS, argument);
	case TCSETSW2:
		return set(fd, TCSETSW, argument);
	case TCSETSF2:
		return set(fd, TCSETSF, argument);
	default:
		return syscall(SYS_ioctl, fd, request, argument);
	}
}
