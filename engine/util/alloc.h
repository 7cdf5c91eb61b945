/*
 * Allocation: the only callers of malloc, and the place where tests make it
 * fail. Every function may be called by any thread.
 */
#ifndef SKV_UTIL_ALLOC_H
#define SKV_UTIL_ALLOC_H

#include <stddef.h>
#include <stdint.h>

/* As malloc, calloc, realloc, free; NULL when out of memory or when a hook
 * says so. Size 0 gives a valid pointer. */
void *skv_malloc(size_t size);
void *skv_calloc(size_t count, size_t size);
void *skv_realloc(void *p, size_t size);
void skv_free(void *p);
char *skv_strdup(const char *text);

/* A zeroed object, sticky: if *rc is not OK nothing happens and NULL comes
 * back; out of memory sets *rc to STRATAKV_NOMEM. */
void *skv_new(size_t size, int *rc);

/* Memory at `alignment` (a power of two >= 8); freed with skv_free. */
void *skv_aligned(size_t alignment, size_t size);

/* Zeroed pages straight from the system, lazily backed; for large tables.
 * The hooks see them too. size is rounded up to pages. */
void *skv_pages_new(size_t size);
void skv_pages_free(void *pages, size_t size);

/* Whether the hook lets memory of that size be taken that others allocate: a
 * thread's stack. */
int skv_alloc_may(size_t size);

/*
 * The hook: called before each allocation with its size and the argument;
 * not 0 makes that allocation fail. NULL removes it. Set it only while no
 * other thread allocates.
 */
typedef int (*skv_alloc_hook)(void *arg, size_t size);
void skv_alloc_set_hook(skv_alloc_hook hook, void *arg);

/* Allocations alive now, for leak checks by tests. */
size_t skv_alloc_count(void);

#endif
