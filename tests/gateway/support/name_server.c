/* A name server that does not answer until it is told to: preloaded into the gateway (LD_PRELOAD) by name_server.rs, which compiles it.
 *
 * Names below ".test" (RFC 6761: never a real one) are this library's; everything else goes to the real resolver. A question leaves the file
 * "asked" in the directory of TIDEGATE_NAME_SERVER, and waits, as getaddrinfo(3) does on a server that is silent, until there is a file
 * "answers": then the name is 127.0.0.1. While there is a file "fails", it fails as getaddrinfo(3) does when no server can be reached. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    __typeof__(&getaddrinfo) real = (__typeof__(&getaddrinfo))dlsym(RTLD_NEXT, "getaddrinfo");
    const char *directory = getenv("TIDEGATE_NAME_SERVER");
    size_t length = name ? strlen(name) : 0;
    char path[4096];

    if (!directory || length < 5 || strcmp(name + length - 5, ".test") != 0) {
        return real(name, service, hints, found);
    }
    snprintf(path, sizeof path, "%s/asked", directory);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
    }
    snprintf(path, sizeof path, "%s/answers", directory);
    char fails[4096];
    snprintf(fails, sizeof fails, "%s/fails", directory);
    while (access(path, F_OK) != 0) {
        if (access(fails, F_OK) == 0) {
            return EAI_AGAIN;
        }
        struct timespec pause = {0, 10 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
    return real("127.0.0.1", service, hints, found);
}
