/* A disk that fails, fills, dawdles or loses its power on request: preloaded into the gateway (LD_PRELOAD) by disk.rs, which compiles it.
 *
 * It stands between the program and the kernel for files whose name holds ".db" (a store, its log, its index), and looks at a page of
 * control words that the test writes to while the program runs. The words are listed in disk.rs; both must agree.
 *
 * Power: with a shadow directory, each file's content as of its last successful fsync or fdatasync is kept there. A test kills the program and
 * puts the shadow in the place of the files: that is what a disk holds after a power cut if it kept nothing but what it had to. A kill in the
 * middle of a copy leaves a part of one flush, as a cut does. A file that was removed is back, until its directory was flushed, which SQLite does
 * with the first flush of a log it has begun. What is written through a mapping (the index) is not seen; it is made anew at
 * the next start. */

/* The names with 64 are the system's own on a processor of 64 bits; on one of 32 bits the others cannot tell of an inode or an offset beyond. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { WRITE_ERRNO = 1, SYNC_ERRNO, READ_ERRNO, OPEN_ERRNO, PASS, SYNC_DELAY_MS, SHADOW, FREE_BYTES };
enum { WRITES = 16, BYTES, SYNCS, FAILED };
enum { PAGE = 4096, MATCH_AT = 256, MATCH_LEN = 128, FILES = 4096, RANGES = 512 };

struct range { off64_t from, to; };

/* What is known of an open file. Files of a store are opened and closed by one thread; the lock is for the table. */
struct file {
    char name[128];   /* its last part; empty: not ours */
    int whole;        /* nothing of it is in the shadow yet, or too much changed to note */
    int count;
    struct range dirty[RANGES];
};

static struct file *files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t nothing[PAGE / 8];
static volatile int64_t *control = nothing;
static const char *shadow_dir;
static struct stat64 home;   /* the directory of the first store that was opened */

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TIDEGATE_DISK_CONTROL");
    shadow_dir = getenv("TIDEGATE_DISK_SHADOW");
    int fd = path ? REAL(open64)(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REAL(close)(fd);
    if (page != MAP_FAILED) {
        control = page;
    }
}

static int64_t word(int at) {
    return __atomic_load_n(&control[at], __ATOMIC_SEQ_CST);
}

static void count(int at, int64_t more) {
    __atomic_fetch_add(&control[at], more, __ATOMIC_SEQ_CST);
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int ours(const char *name) {
    return name[0] && strstr(name, ".db") && !strstr(name, ".lock");
}

static struct file *file_of(int fd) {
    return fd >= 0 && fd < FILES ? files[fd] : NULL;
}

/* Whether this call on this file is to fail, with errno set. So many that would have failed pass first. */
static int fails(int kind, const char *name) {
    int64_t code = word(kind);
    if (!code || !strstr(name, (const char *)control + MATCH_AT)) {
        return 0;
    }
    if (word(PASS) > 0) {
        count(PASS, -1);
        return 0;
    }
    count(FAILED, 1);
    errno = (int)code;
    return 1;
}

static void remember(int fd, const char *path) {
    if (fd < 0 || fd >= FILES || !ours(last_part(path))) {
        return;
    }
    pthread_mutex_lock(&lock);
    if (!home.st_ino) {
        char folder[4096];
        snprintf(folder, sizeof folder, "%.*s.", (int)(last_part(path) - path), path);
        if (stat64(folder, &home)) {
            home.st_ino = 0;
        }
    }
    if (!files[fd]) {
        files[fd] = calloc(1, sizeof **files);
    }
    if (files[fd]) {
        snprintf(files[fd]->name, sizeof files[fd]->name, "%s", last_part(path));
        files[fd]->whole = 1;
        files[fd]->count = 0;
    }
    pthread_mutex_unlock(&lock);
}

static void note(struct file *file, off64_t from, off64_t to) {
    if (!word(SHADOW) || file->whole) {
        file->whole = 1;
        return;
    }
    struct range *last = file->count ? &file->dirty[file->count - 1] : NULL;
    if (last && from == last->to) {
        last->to = to;
    } else if (file->count == RANGES) {
        file->whole = 1;
    } else {
        file->dirty[file->count++] = (struct range){from, to};
    }
}

static void copy(int from, int to, off64_t at, off64_t end) {
    char buffer[65536];
    while (at < end) {
        size_t want = (size_t)(end - at) < sizeof buffer ? (size_t)(end - at) : sizeof buffer;
        ssize_t got = REAL(pread64)(from, buffer, want, at);
        if (got <= 0 || REAL(pwrite64)(to, buffer, (size_t)got, at) != got) {
            return;
        }
        at += got;
    }
}

/* What was just flushed is safe. The file may have been opened to write only: it is read by a handle of its own. */
static void keep(int fd, struct file *file) {
    char path[4096], self[64];
    struct stat64 now;
    if (!word(SHADOW) || !shadow_dir || fstat64(fd, &now)) {
        file->whole = 1;
        return;
    }
    snprintf(path, sizeof path, "%s/%s", shadow_dir, file->name);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int from = REAL(open64)(self, O_RDONLY | O_CLOEXEC);
    int to = REAL(open64)(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (from >= 0 && to >= 0) {
        if (file->whole) {
            copy(from, to, 0, now.st_size);
        }
        for (int i = 0; i < file->count && !file->whole; i++) {
            copy(from, to, file->dirty[i].from, file->dirty[i].to);
        }
        file->whole = REAL(ftruncate64)(to, now.st_size) != 0;
        file->count = 0;
    }
    if (from >= 0) {
        REAL(close)(from);
    }
    if (to >= 0) {
        REAL(close)(to);
    }
}

static int opened(int dir, const char *path, int flags, mode_t mode) {
    const char *name = last_part(path);
    if (ours(name) && fails(OPEN_ERRNO, name)) {
        return -1;
    }
    int fd = REAL(openat64)(dir, path, flags, mode);
    remember(fd, path);
    return fd;
}

#define WITH_MODE(flags)                                       \
    mode_t mode = 0;                                           \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                     \
        va_list rest;                                          \
        va_start(rest, flags);                                 \
        mode = va_arg(rest, mode_t);                           \
        va_end(rest);                                          \
    }

int open(const char *path, int flags, ...) { WITH_MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { WITH_MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { WITH_MODE(flags) return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { WITH_MODE(flags) return opened(dir, path, flags, mode); }

int close(int fd) {
    struct file *file = file_of(fd);
    if (file) {
        file->name[0] = 0;
    }
    return REAL(close)(fd);
}

static struct file *watched(int fd) {
    struct file *file = file_of(fd);
    return file && file->name[0] ? file : NULL;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct file *file = watched(fd);
    if (!file) {
        return REAL(write)(fd, bytes, length);
    }
    if (fails(WRITE_ERRNO, file->name)) {
        return -1;
    }
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    ssize_t done = REAL(write)(fd, bytes, length);
    if (done > 0) {
        note(file, at, at + done);
        count(WRITES, 1);
        count(BYTES, done);
    }
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    struct file *file = watched(fd);
    if (file && fails(WRITE_ERRNO, file->name)) {
        return -1;
    }
    ssize_t done = REAL(pwrite64)(fd, bytes, length, at);
    if (file && done > 0) {
        note(file, at, at + done);
        count(WRITES, 1);
        count(BYTES, done);
    }
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return pwrite64(fd, bytes, length, at); }

ssize_t read(int fd, void *bytes, size_t length) {
    struct file *file = watched(fd);
    return file && fails(READ_ERRNO, file->name) ? -1 : REAL(read)(fd, bytes, length);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t at) {
    struct file *file = watched(fd);
    return file && fails(READ_ERRNO, file->name) ? -1 : REAL(pread64)(fd, bytes, length, at);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t at) { return pread64(fd, bytes, length, at); }

/* A file that was cut or stretched is copied whole at its next flush. */
int ftruncate64(int fd, off64_t length) {
    struct file *file = watched(fd);
    if (!file) {
        return REAL(ftruncate64)(fd, length);
    }
    if (fails(WRITE_ERRNO, file->name)) {
        return -1;
    }
    file->whole = 1;
    return REAL(ftruncate64)(fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* The directory of the stores was flushed: what is not in it any more is gone for good. */
static void forget_removed(int fd) {
    struct stat64 here;
    if (!word(SHADOW) || !shadow_dir || fstat64(fd, &here) || !S_ISDIR(here.st_mode) || here.st_ino != home.st_ino || here.st_dev != home.st_dev) {
        return;
    }
    DIR *kept = opendir(shadow_dir);
    for (struct dirent64 *entry; kept && (entry = readdir64(kept));) {
        if (ours(entry->d_name) && faccessat(fd, entry->d_name, F_OK, 0) && errno == ENOENT) {
            unlinkat(dirfd(kept), entry->d_name, 0);
        }
    }
    if (kept) {
        closedir(kept);
    }
}

static int flushed(int fd, int (*flush)(int)) {
    struct file *file = watched(fd);
    if (!file) {
        int outcome = flush(fd);
        if (outcome == 0) {
            forget_removed(fd);
        }
        return outcome;
    }
    int64_t delay = word(SYNC_DELAY_MS);
    if (delay > 0 && strstr(file->name, (const char *)control + MATCH_AT)) {
        struct timespec pause = {delay / 1000, delay % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    if (fails(SYNC_ERRNO, file->name)) {
        return -1;
    }
    int outcome = flush(fd);
    if (outcome == 0) {
        count(SYNCS, 1);
        keep(fd, file);
    }
    return outcome;
}

int fsync(int fd) { return flushed(fd, REAL(fsync)); }
int fdatasync(int fd) { return flushed(fd, REAL(fdatasync)); }

/* The room on the disk, as told; where none is told, as it is. */
int statvfs(const char *path, struct statvfs *room) {
    int outcome = REAL(statvfs)(path, room);
    if (outcome == 0 && word(FREE_BYTES) > 0 && room->f_frsize) {
        room->f_bavail = room->f_bfree = (fsblkcnt_t)(word(FREE_BYTES) / (int64_t)room->f_frsize);
    }
    return outcome;
}

int statvfs64(const char *path, struct statvfs64 *room) {
    int outcome = REAL(statvfs64)(path, room);
    if (outcome == 0 && word(FREE_BYTES) > 0 && room->f_frsize) {
        room->f_bavail = room->f_bfree = (fsblkcnt64_t)(word(FREE_BYTES) / (int64_t)room->f_frsize);
    }
    return outcome;
}
