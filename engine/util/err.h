/*
 * Errors: a code and a sentence, born in one place and passed on unchanged.
 *
 * skv_err is the public stratakv_error. Functions take one as next-to-last
 * parameter; NULL is allowed everywhere and then only the code comes back.
 */
#ifndef SKV_UTIL_ERR_H
#define SKV_UTIL_ERR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stratakv.h"

typedef stratakv_error skv_err;

/* Called whenever an error is born: the one place for a breakpoint. */
void skv_error_break(int code);

/* Store code and message in *err (if not NULL) and return the code. */
int skv_error_set(skv_err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Where an error is born: rc = SKV_ERROR(err, STRATAKV_IOERR, "...", ...). */
#define SKV_ERROR(err, code, ...) skv_error_set((err), (code), __VA_ARGS__)

/* Out of memory: the commonest one, without arguments. */
int skv_error_nomem(skv_err *err);

/* Damage in a file: "checksum mismatch in 000123.seg at offset 65536". */
int skv_error_corrupt(skv_err *err, const char *file, uint64_t offset,
                      const char *what);

/* In cleanup the first error wins. */
#define SKV_KEEP(rc, call)                                                     \
  do {                                                                         \
    int skv_keep_rc_ = (call);                                                 \
    if ((rc) == STRATAKV_OK) (rc) = skv_keep_rc_;                              \
  } while (0)

/* Kept in every build where a false condition would lose data. */
#define SKV_UNUSED(x) ((void)(x))

#endif
