// SPDX-License-Identifier: GPL-2.0
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "program.h"

static const char *all;
static size_t each;
static volatile size_t done;

char *program_input(size_t *bytes)
{
	size_t room = 1 << 20, have = 0;
	char *input = malloc(room);
	ssize_t got = 1;

	while (input && got > 0) {
		if (have == room)
			input = realloc(input, room *= 2);
		if (!input)
			break;
		got = read(STDIN_FILENO, input + have, room - have);
		if (got > 0)
			have += got;
	}
	*bytes = have;
	if (!input)
		exit(1);
	return input;
}

static int answered(void)
{
	size_t written = 0, bytes = done * each;

	while (written < bytes) {
		ssize_t more = write(STDOUT_FILENO, all + written, bytes - written);

		if (more <= 0)
			return 1;
		written += more;
	}
	return 0;
}

static void hangs(int signal)
{
	answered();
	_exit(PROGRAM_HANGS);
}

void program_begin(const void *answers, size_t size)
{
	struct itimerval limit = { .it_value.tv_sec = PROGRAM_SECONDS };

	all = answers;
	each = size;
	signal(SIGVTALRM, hangs);
	setitimer(ITIMER_VIRTUAL, &limit, NULL);
}

void program_done(void)
{
	done++;
}

int program_end(void)
{
	return answered();
}
