/*
 * Request bodies in memory, and the budget that they share.
 *
 * A body grows with what arrives, never to what was announced, so that a
 * header alone costs nothing. In front of its bytes there is room for what
 * the store writes before a value; behind them there is a zero.
 */
#ifndef SKVD_BODY_H
#define SKVD_BODY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SKVD_BODY_ROOM 16

/* The budget (--body-memory). Any thread. */
typedef struct skvd_body_pool {
  _Atomic uint64_t used; /* bytes held by bodies */
  uint64_t limit;        /* at most */
} skvd_body_pool;

/* One body; all zeros but for the pool is empty. */
typedef struct skvd_body {
  skvd_body_pool *pool;
  char *start;     /* allocated: room, bytes, zero */
  size_t size;     /* bytes that arrived */
  size_t capacity; /* bytes there is space for; what the pool counts */
} skvd_body;

/* Could the pool hold this many bytes more at the moment? */
bool skvd_body_pool_has(const skvd_body_pool *pool, uint64_t bytes);

/* Append; `most` is the largest size that it can still reach. False if the
 * pool or the memory is used up; the body is then as before. Appending
 * nothing makes skvd_body_data work. */
bool skvd_body_append(skvd_body *body, const char *data, size_t len,
                      size_t most);
/* Its bytes; after at least one append. */
char *skvd_body_data(const skvd_body *body);
/* Give everything back. */
void skvd_body_clear(skvd_body *body);

#endif
