/*
 * Moves the guest's wall clock and says whether it counts as set (adjtimex(2), STA_UNSYNC), as an NTP client would.
 *
 *   wallclock set SECONDS     forward by so many (back, if negative), and set from now on
 *   wallclock unset SECONDS   the same, and no longer set
 *
 * Prints by how many milliseconds the wall clock is then ahead of CLOCK_MONOTONIC.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

static long long ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

int main(int count, char **words)
{
	struct timeval now;
	struct timex state = { .modes = ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR };
	int set;

	if (count != 3) {
		fputs("wallclock set|unset SECONDS\n", stderr);
		return 64;
	}
	set = !strcmp(words[1], "set");
	gettimeofday(&now, NULL);
	now.tv_sec += atol(words[2]);
	/* The step itself makes the kernel doubt its clock; so it comes first. */
	if (settimeofday(&now, NULL)) {
		perror("settimeofday");
		return 1;
	}
	state.status = set ? STA_PLL : STA_UNSYNC;
	if (adjtimex(&state) < 0) {
		perror("adjtimex");
		return 1;
	}
	printf("%lld\n", ms(CLOCK_REALTIME) - ms(CLOCK_MONOTONIC));
	return 0;
}
