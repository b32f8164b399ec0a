/*
 * Moves the guest's wall clock and says whether it counts as set (adjtimex(2), STA_UNSYNC), as an NTP client would.
 *
 *   wallclock set SECONDS     forward by so many (back, if negative), and set from now on
 *   wallclock unset SECONDS   the same, and no longer set
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timex.h>

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
	return 0;
}
