// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * A serial port, /dev/ttyBench0, whose driver knows RS-485 as that of a UART on a board does (serial-rs485.rst), and whose line has noise on it when a
 * test wants some. What was set and sent goes into the journal.
 */
#include <linux/serial_core.h>
#include <linux/string.h>
#include <linux/tty_flip.h>
#include <linux/version.h>

#include "bench.h"

#define RS485_ALL (SER_RS485_ENABLED | SER_RS485_RTS_ON_SEND | SER_RS485_RTS_AFTER_SEND)
#define BYTES_A_LINE 32

static struct uart_driver driver = {
	.owner = THIS_MODULE,
	.driver_name = "bench",
	.dev_name = "ttyBench",
	.nr = 1,
};
static bool opened;

static void said(const u8 *bytes, unsigned int size)
{
	if (size)
		journal("uart tx %*phN", size, bytes);
}

/* The line is as fast as the program: what is to be sent is gone at once. */
static void start_tx(struct uart_port *port)
{
	u8 bytes[BYTES_A_LINE];
	unsigned int size = 0;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	while (uart_fifo_get(port, &bytes[size])) {
#else
	struct circ_buf *xmit = &port->state->xmit;

	while (!uart_circ_empty(xmit)) {
		bytes[size] = xmit->buf[xmit->tail];
		xmit->tail = (xmit->tail + 1) & (UART_XMIT_SIZE - 1);
		port->icount.tx++;
#endif
		if (++size == BYTES_A_LINE) {
			said(bytes, size);
			size = 0;
		}
	}
	said(bytes, size);
	uart_write_wakeup(port);
}

static int rs485_config(struct uart_port *port, struct ktermios *termios, struct serial_rs485 *rs485)
{
	journal("uart rs485 0x%x %u %u", rs485->flags, rs485->delay_rts_before_send, rs485->delay_rts_after_send);
	return 0;
}

static int startup(struct uart_port *port)
{
	WRITE_ONCE(opened, true);
	return 0;
}

static void shutdown(struct uart_port *port)
{
	WRITE_ONCE(opened, false);
}

static void set_termios(struct uart_port *port, struct ktermios *termios, const struct ktermios *old)
{
	unsigned int baud = uart_get_baud_rate(port, termios, old, 50, 4000000);

	uart_update_timeout(port, termios->c_cflag, baud);
}

static unsigned int tx_empty(struct uart_port *port)
{
	return TIOCSER_TEMT;
}

static unsigned int get_mctrl(struct uart_port *port)
{
	return TIOCM_CAR | TIOCM_DSR | TIOCM_CTS;
}

static void set_mctrl(struct uart_port *port, unsigned int lines) { }
static void nothing(struct uart_port *port) { }
static void break_ctl(struct uart_port *port, int state) { }

static const char *type(struct uart_port *port)
{
	return "bench";
}

static int request_port(struct uart_port *port)
{
	return 0;
}

static const struct uart_ops operations = {
	.tx_empty = tx_empty,
	.set_mctrl = set_mctrl,
	.get_mctrl = get_mctrl,
	.start_tx = start_tx,
	.stop_tx = nothing,
	.stop_rx = nothing,
	.break_ctl = break_ctl,
	.startup = startup,
	.shutdown = shutdown,
	.set_termios = set_termios,
	.type = type,
	.request_port = request_port,
	.release_port = nothing,
};

static struct uart_port port = {
	.ops = &operations,
	.type = PORT_16550A,
	.iotype = UPIO_MEM,
	.fifosize = 64,
	.rs485_config = rs485_config,
};

/* ---- commands ---- */

static int receive(char *rest, char flag)
{
	long byte;

	/* Nobody listens, so nothing is heard. */
	if (!READ_ONCE(opened))
		return 0;
	while (rest && *rest) {
		if (next_number(&rest, &byte))
			return -EINVAL;
		port.icount.rx++;
		port.icount.frame += flag == TTY_FRAME;
		port.icount.parity += flag == TTY_PARITY;
		port.icount.overrun += flag == TTY_OVERRUN;
		tty_insert_flip_char(&port.state->port, byte, flag);
	}
	tty_flip_buffer_push(&port.state->port);
	return 0;
}

static int knows(char *rest)
{
	long flags, delays;

	if (next_number(&rest, &flags) || next_number(&rest, &delays))
		return -EINVAL;
	port.rs485_supported = (struct serial_rs485){
		.flags = flags,
		.delay_rts_before_send = delays,
		.delay_rts_after_send = delays,
	};
	return 0;
}

int serial_command(char *rest)
{
	char *verb = next_word(&rest);

	if (!verb)
		return -EINVAL;
	if (!strcmp(verb, "rx"))
		return receive(rest, TTY_NORMAL);
	if (!strcmp(verb, "frame"))
		return receive(rest, TTY_FRAME);
	if (!strcmp(verb, "parity"))
		return receive(rest, TTY_PARITY);
	if (!strcmp(verb, "overrun"))
		return receive(rest, TTY_OVERRUN);
	if (!strcmp(verb, "knows"))
		return knows(rest);
	return -EINVAL;
}

void serial_reset(void)
{
	port.rs485_supported = (struct serial_rs485){
		.flags = RS485_ALL,
		.delay_rts_before_send = 1,
		.delay_rts_after_send = 1,
	};
}

int serial_open(struct device *parent)
{
	int result;

	serial_reset();
	port.dev = parent;
	spin_lock_init(&port.lock);
	result = uart_register_driver(&driver);
	if (result)
		return result;
	result = uart_add_one_port(&driver, &port);
	if (result)
		uart_unregister_driver(&driver);
	return result;
}

void serial_close(void)
{
	uart_remove_one_port(&driver, &port);
	uart_unregister_driver(&driver);
}
