/*
 * Output: what goes to standard output, with failure remembered.
 *
 * PURPOSE  A dump may be larger than a disk, or its reader may leave. The
 *   first failure is kept; what follows is dropped, and long work asks now
 *   and then whether to go on.
 */
#ifndef SKVT_OUTPUT_H
#define SKVT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

void skvt_out(const void *bytes, size_t len);
void skvt_out_text(const char *text);
/* A name or message that may hold any bytes: in one line, control characters
 * as ?. */
void skvt_out_safely(const char *text);
void skvt_out_line(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Has something failed? */
bool skvt_out_failed(void);

/* Write what is buffered. A failing flush throws that away, and the next one
 * has nothing to fail at: only this one may be called. */
void skvt_out_flush(void);

/* Write what is left. 0, or the errno of the first failure. */
int skvt_out_finish(void);

#endif
