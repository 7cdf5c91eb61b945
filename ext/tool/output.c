/* The writing of output.h. */
#include "ext/tool/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int out_errno; /* of the first failure */

static void out_note_failure(void) {
  if (out_errno == 0) out_errno = errno != 0 ? errno : EIO;
}

void skvt_out(const void *bytes, size_t len) {
  if (out_errno != 0 || len == 0) return;
  errno = 0;
  if (fwrite(bytes, 1, len, stdout) != len) out_note_failure();
}

void skvt_out_text(const char *text) { skvt_out(text, strlen(text)); }

void skvt_out_safely(const char *text) {
  for (; *text != 0; text++) {
    unsigned char c = (unsigned char)*text;
    char safe = (char)(c < ' ' || c == 0x7f ? '?' : c);
    skvt_out(&safe, 1);
  }
}

void skvt_out_line(const char *format, ...) {
  va_list args;
  if (out_errno != 0) return;
  va_start(args, format);
  errno = 0;
  if (vprintf(format, args) < 0 || putchar('\n') == EOF) out_note_failure();
  va_end(args);
}

bool skvt_out_failed(void) { return out_errno != 0; }

void skvt_out_flush(void) {
  errno = 0;
  if (out_errno == 0 && fflush(stdout) != 0) out_note_failure();
}

int skvt_out_finish(void) {
  skvt_out_flush();
  return out_errno;
}
