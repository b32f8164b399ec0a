/*
 * Makes the gateway's commits as unsafe as SQLite's weaker settings do, without a switch in the product: preloaded into it (LD_PRELOAD), with
 *
 *   UNSYNCED=OFF       no flush is carried out, as by PRAGMA synchronous = OFF: "SQLite continues without syncing as soon as it has handed data
 *                      off to the operating system"
 *   UNSYNCED=NORMAL    as by PRAGMA synchronous = NORMAL with a write-ahead log: the log is flushed before a checkpoint, the database after it, and
 *                      the log's header when it is used again, "but no sync operations occur during most transactions"
 *
 * (https://sqlite.org/pragma.html#pragma_synchronous). A checkpoint is known by its first write into a database: the logs that were not flushed are
 * flushed then, all of them, which is more than is due and so makes a control lose less, never more. Files other than databases and their logs
 * are not touched. It is a control: a power cut that takes nothing from such a gateway would show nothing about any other.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES = 1024 };
enum kind { OTHER, DATABASE, LOG };

/* By descriptor: a log whose commits were not flushed, and one whose header was written. */
static char owed[FILES], begun[FILES];
static int any_owed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_fdatasync)(int);
static int (*real_fsync)(int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int off;

__attribute__((constructor)) static void begin(void)
{
	const char *how = getenv("UNSYNCED");

	real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
	real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	real_pwrite = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
	off = how && !strcmp(how, "OFF");
}

static int ends(const char *name, size_t length, const char *end)
{
	size_t of_end = strlen(end);

	return length >= of_end && !memcmp(name + length - of_end, end, of_end);
}

static enum kind kind_of(int fd)
{
	char link[64], name[4096];
	ssize_t length;

	if (fd < 0 || fd >= FILES)
		return OTHER;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, name, sizeof(name));
	if (length < 0)
		return OTHER;
	return ends(name, length, ".db") ? DATABASE : ends(name, length, ".db-wal") ? LOG : OTHER;
}

static int flush(int fd, int (*really)(int))
{
	enum kind kind = kind_of(fd);
	int skip = 0;

	if (kind == OTHER)
		return really(fd);
	if (off)
		return 0;
	if (kind == DATABASE)
		return really(fd);
	pthread_mutex_lock(&lock);
	if (begun[fd]) {
		begun[fd] = 0;
	} else {
		skip = owed[fd] = any_owed = 1;
	}
	pthread_mutex_unlock(&lock);
	return skip ? 0 : really(fd);
}

int fdatasync(int fd) { return flush(fd, real_fdatasync); }
int fsync(int fd) { return flush(fd, real_fsync); }

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
	if (!off && (at == 0 || any_owed)) {
		enum kind kind = kind_of(fd);

		pthread_mutex_lock(&lock);
		if (kind == LOG && at == 0)
			begun[fd] = 1;
		for (int log = 0; kind == DATABASE && any_owed && log < FILES; log++) {
			if (owed[log])
				real_fdatasync(log);
			owed[log] = 0;
		}
		if (kind == DATABASE)
			any_owed = 0;
		pthread_mutex_unlock(&lock);
	}
	return real_pwrite(fd, bytes, length, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return pwrite64(fd, bytes, length, at); }
