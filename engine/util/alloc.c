/*
 * Allocation over malloc and mmap, with a test hook and a count. See alloc.h.
 *
 * The count is spread over several words chosen by the address, so that
 * threads that allocate at the same time seldom write the same cache line;
 * an object is counted up and down in the same word.
 */
#include "engine/util/alloc.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stratakv.h"

#define ALLOC_STRIPES 16

typedef struct alloc_stripe {
  alignas(64) atomic_size_t alive; /* objects whose address falls here */
} alloc_stripe;

static alloc_stripe alloc_stripes[ALLOC_STRIPES];
static skv_alloc_hook alloc_hook; /* NULL: none */
static void *alloc_hook_arg;

static atomic_size_t *alloc_counter(const void *p) {
  uintptr_t bits = (uintptr_t)p;
  return &alloc_stripes[((bits >> 4) ^ (bits >> 12)) % ALLOC_STRIPES].alive;
}

static void *alloc_counted(void *p) {
  if (p != NULL) {
    atomic_fetch_add_explicit(alloc_counter(p), 1, memory_order_relaxed);
  }
  return p;
}

static void alloc_uncount(const void *p) {
  atomic_fetch_sub_explicit(alloc_counter(p), 1, memory_order_relaxed);
}

/* Whether the hook makes an allocation of that size fail. */
static int alloc_refused(size_t size) {
  return alloc_hook != NULL && alloc_hook(alloc_hook_arg, size) != 0;
}

int skv_alloc_may(size_t size) { return !alloc_refused(size); }

void *skv_malloc(size_t size) {
  if (alloc_refused(size)) return NULL;
  return alloc_counted(malloc(size ? size : 1));
}

void *skv_calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
  if (alloc_refused(bytes)) return NULL;
  return alloc_counted(calloc(1, bytes ? bytes : 1));
}

void *skv_realloc(void *p, size_t size) {
  if (p == NULL) return skv_malloc(size);
  if (alloc_refused(size)) return NULL;
  /* Counted down first: after realloc the old address is another's. */
  alloc_uncount(p);
  void *moved = realloc(p, size ? size : 1);
  if (moved == NULL) {
    alloc_counted(p);
    return NULL;
  }
  return alloc_counted(moved);
}

void skv_free(void *p) {
  if (p == NULL) return;
  alloc_uncount(p);
  free(p);
}

char *skv_strdup(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = skv_malloc(size);
  if (copy != NULL) memcpy(copy, text, size);
  return copy;
}

void *skv_new(size_t size, int *rc) {
  if (*rc != STRATAKV_OK) return NULL;
  void *p = skv_calloc(1, size);
  if (p == NULL) *rc = STRATAKV_NOMEM;
  return p;
}

void *skv_aligned(size_t alignment, size_t size) {
  if (alloc_refused(size)) return NULL;
  void *p = NULL;
  if (posix_memalign(&p, alignment, size ? size : 1) != 0) return NULL;
  return alloc_counted(p);
}

/* size rounded up to pages, at least one; 0 if that overflows. */
static size_t alloc_pages_size(size_t size) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  if (size == 0) return page;
  if (size > SIZE_MAX - page) return 0;
  return (size + page - 1) / page * page;
}

/* NORESERVE: a large table is backed as it is touched, and costs nothing
 * against an overcommit limit before. */
void *skv_pages_new(size_t size) {
  size_t bytes = alloc_pages_size(size);
  if (bytes == 0 || alloc_refused(bytes)) return NULL;
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : alloc_counted(p);
}

void skv_pages_free(void *pages, size_t size) {
  if (pages == NULL) return;
  alloc_uncount(pages);
  munmap(pages, alloc_pages_size(size));
}

void skv_alloc_set_hook(skv_alloc_hook hook, void *arg) {
  alloc_hook_arg = arg;
  alloc_hook = hook;
}

size_t skv_alloc_count(void) {
  size_t total = 0;
  for (size_t i = 0; i < ALLOC_STRIPES; i++) {
    total +=
        atomic_load_explicit(&alloc_stripes[i].alive, memory_order_relaxed);
  }
  return total;
}
