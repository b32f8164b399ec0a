/* A wall clock that is set forwards and back: preloaded into the gateway (LD_PRELOAD) by clock.rs, which compiles it.
 *
 * CLOCK_REALTIME is the system's and so many seconds as the file of TIDEGATE_CLOCK holds; the monotonic clocks are as they are. The kernel
 * says that its clock is set (adjtimex(2)). For programs of 64 bits: one of 32 asks by names that are not here. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static int64_t nothing;
static volatile int64_t *ahead_s = &nothing;

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TIDEGATE_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    void *word = mmap(NULL, sizeof nothing, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (word != MAP_FAILED) {
        ahead_s = word;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) next;
    if (!next) {
        next = (__typeof__(&clock_gettime))real("clock_gettime");
    }
    int outcome = next(clock, now);
    if (outcome == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += (time_t)__atomic_load_n(ahead_s, __ATOMIC_SEQ_CST);
    }
    return outcome;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    int outcome = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return outcome;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) {
        *told = now.tv_sec;
    }
    return now.tv_sec;
}

int adjtimex(struct timex *state) {
    __typeof__(&adjtimex) next = (__typeof__(&adjtimex))real("adjtimex");
    return next(state) == -1 ? -1 : TIME_OK;
}
