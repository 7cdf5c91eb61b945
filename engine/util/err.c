/*
 * Errors: where messages are formatted. See err.h.
 *
 * NOT HERE  Which code a system call's failure becomes (os/env_posix.c).
 */
#include "engine/util/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Not inlined and not removed: a debugger must find it. */
__attribute__((noinline)) void skv_error_break(int code) {
  __asm__ volatile("" : : "r"(code) : "memory");
}

/* The length of text without a UTF-8 sequence that its end cuts off. */
static size_t error_whole_utf8(const char *text, size_t size) {
  size_t start = size;
  while (start > 0 && size - start < 4) {
    unsigned char c = (unsigned char)text[--start];
    if (c < 0x80) return size;
    if (c < 0xc0) continue;
    size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    return start + need > size ? start : size;
  }
  return size;
}

/* Formats aside first: an argument may be the message that is replaced. */
int skv_error_set(skv_err *err, int code, const char *format, ...) {
  skv_error_break(code);
  if (err == NULL) return code;
  int saved_errno = errno;
  char text[sizeof err->message];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  size_t size = n < 0 ? 0 : (size_t)n;
  if (size >= sizeof text) size = error_whole_utf8(text, sizeof text - 1);
  if (size == 0) {
    size = (size_t)snprintf(text, sizeof text, "error %d", code);
  }
  memcpy(err->message, text, size);
  err->message[size] = '\0';
  err->code = code;
  errno = saved_errno;
  return code;
}

int skv_error_nomem(skv_err *err) {
  return SKV_ERROR(err, STRATAKV_NOMEM, "out of memory");
}

int skv_error_corrupt(skv_err *err, const char *file, uint64_t offset,
                      const char *what) {
  return SKV_ERROR(err, STRATAKV_CORRUPT, "%s in %s at offset %" PRIu64, what,
                   file, offset);
}
