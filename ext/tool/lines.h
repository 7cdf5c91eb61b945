/*
 * Lines of a file or of standard input, one at a time, of any bytes.
 */
#ifndef SKVT_LINES_H
#define SKVT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest line that a dump can have: every byte of the longest value as
 * \u0000, and the key. */
#define SKVT_MAX_LINE ((size_t)7 << 30)

typedef struct skvt_lines {
  int fd;
  char *data;      /* allocated: what was read and not yet given out */
  size_t capacity; /* bytes at data */
  size_t start;    /* of what is not yet given out */
  size_t end;      /* of what was read */
  bool is_ended;   /* there is nothing more to read */
  int failure;     /* errno of a failed read; 0 */
} skvt_lines;

/* Read `path`, "-" is standard input. False with errno set if that fails. */
bool skvt_lines_open(skvt_lines *lines, const char *path);
void skvt_lines_close(skvt_lines *lines);

/* The next line without its end, valid until the next call. False at the end,
 * at a failure (see `failure`; ENOMEM, or EFBIG for a line that is too long),
 * and when the tool is interrupted. */
bool skvt_lines_next(skvt_lines *lines, const char **text, size_t *len);

#endif
