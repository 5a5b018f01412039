/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How a program of the comparison reads its operations and writes its answers: all at once, and what there is when an
 * operation takes longer than any should.
 */

/* Ends the program that has used a processor for so long, s, and writes the answers so far. */
#define PROGRAM_SECONDS 10
/* The exit status then. */
#define PROGRAM_HANGS 42

/* All of the standard input. */
char *program_input(size_t *bytes);
/* The answers, each of so many bytes, follow. */
void program_begin(const void *answers, size_t each);
/* One more is there. */
void program_done(void);
/* Writes them all. The exit status. */
int program_end(void);
