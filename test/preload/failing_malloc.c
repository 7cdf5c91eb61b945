/*
 * An allocator that fails, for a program that is not built for it.
 *
 *   LD_PRELOAD=failing_malloc.so FAIL_NTH=N FAIL_FROM=0 FAIL_REPORT=FILE program
 *
 * The N-th allocation of the process fails, with FAIL_FROM=1 all from there
 * on; N = 0 is none. At its end the program's allocations are counted in FILE.
 * glibc only.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#pragma GCC visibility push(default)

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static _Atomic unsigned long calls;
static unsigned long nth;
static bool from_there_on;

__attribute__((constructor)) static void begin(void) {
  const char *n = getenv("FAIL_NTH"), *from = getenv("FAIL_FROM");
  from_there_on = from != NULL && *from == '1';
  nth = n != NULL ? strtoul(n, NULL, 10) : 0;
  atomic_store(&calls, 0);
}

__attribute__((destructor)) static void end(void) {
  char text[32];
  const char *path = getenv("FAIL_REPORT");
  int fd = path != NULL
               ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
               : -1;
  if (fd < 0) return;
  int n = snprintf(text, sizeof text, "%lu\n", atomic_load(&calls));
  if (write(fd, text, (size_t)n) != n) abort();
  close(fd);
}

static bool fails(void) {
  unsigned long n = atomic_fetch_add(&calls, 1) + 1;
  bool it = nth != 0 && (from_there_on ? n >= nth : n == nth);
  if (it) errno = ENOMEM;
  return it;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) {
  return fails() ? NULL : __libc_calloc(count, size);
}
void *realloc(void *p, size_t size) {
  return fails() ? NULL : __libc_realloc(p, size);
}
void *memalign(size_t alignment, size_t size) {
  return fails() ? NULL : __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
  return memalign(alignment, size);
}
int posix_memalign(void **out, size_t alignment, size_t size) {
  void *p = memalign(alignment, size);
  if (p == NULL) return ENOMEM;
  *out = p;
  return 0;
}
