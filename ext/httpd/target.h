/*
 * The request target: from the raw bytes of the request line to a path, a
 * decoded rest of the path, and decoded query parameters.
 *
 * PURPOSE  Keys are any bytes, so that %00 has to reach the store and a bad
 *   escape has to be refused; a decoder that hands over C strings can do
 *   neither. `/` needs no escape in a key, `.` and `..` are not special, `+`
 *   is a plus in the path and a space in the query.
 *
 * Pure: no I/O, no allocation.
 */
#ifndef SKVD_TARGET_H
#define SKVD_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ext/httpd/problem.h"

#define SKVD_MAX_PARAMS 16

typedef struct skvd_param {
  const char *name;  /* decoded; may hold NUL */
  size_t name_len;   /* its bytes */
  const char *value; /* decoded, empty without `=` */
  size_t value_len;  /* its bytes */
} skvd_param;

typedef struct skvd_target {
  const char *path; /* raw, from the first `/` up to `?` */
  size_t path_len;  /* its bytes */
  size_t param_count;
  skvd_param params[SKVD_MAX_PARAMS]; /* in the order of arrival */
} skvd_target;

/*
 * Split and check len bytes at raw. `space`, of at least len bytes, receives
 * the decoded parameters; *out borrows from both.
 *
 * SKVD_INVALID_TARGET     not starting with `/`, a bad escape, a byte below
 *                         0x21, 0x7F, or `#`
 * SKVD_INVALID_PARAMETER  over 16 parameters
 */
skvd_problem skvd_target_parse(const char *raw, size_t len, char *space,
                               skvd_target *out, const char **why);

/* Decode the path from offset `from` on into `out`, which has room for
 * path_len - from bytes, and return how many came out. */
size_t skvd_target_tail(const skvd_target *target, size_t from, char *out);

/* The first parameter of that name, or NULL. */
const skvd_param *skvd_target_param(const skvd_target *target,
                                    const char *name);

/*
 * Is every parameter in `known` (NULL-terminated), and none given twice?
 * *which is the one that is not.
 */
bool skvd_target_check_params(const skvd_target *target,
                              const char *const *known,
                              const skvd_param **which);

#endif
