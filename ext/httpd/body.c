/* The buffers of body.h. */
#include "ext/httpd/body.h"

#include <stdlib.h>
#include <string.h>

#define BODY_FIRST 4096

bool skvd_body_pool_has(const skvd_body_pool *pool, uint64_t bytes) {
  uint64_t used = pool->used;
  return used <= pool->limit && bytes <= pool->limit - used;
}

static bool body_reserve(skvd_body_pool *pool, uint64_t bytes) {
  uint64_t used = pool->used;
  do {
    if (bytes > pool->limit - used) return false;
  } while (!atomic_compare_exchange_weak(&pool->used, &used, used + bytes));
  return true;
}

/* Twice as much, but no more than can come, and no less than is needed. */
static size_t body_next_capacity(const skvd_body *body, size_t need,
                                 size_t most) {
  size_t next = body->capacity == 0 ? BODY_FIRST : body->capacity * 2;
  if (next > most) next = most;
  return next < need ? need : next;
}

static bool body_grow(skvd_body *body, size_t need, size_t most) {
  size_t capacity = body_next_capacity(body, need, most);
  char *start;
  if (!body_reserve(body->pool, capacity - body->capacity)) return false;
  start = realloc(body->start, SKVD_BODY_ROOM + capacity + 1);
  if (start == NULL) {
    body->pool->used -= capacity - body->capacity;
    return false;
  }
  body->start = start;
  body->capacity = capacity;
  return true;
}

bool skvd_body_append(skvd_body *body, const char *data, size_t len,
                      size_t most) {
  size_t need = body->size + len;
  if ((body->start == NULL || need > body->capacity) &&
      !body_grow(body, need, most)) {
    return false;
  }
  memcpy(skvd_body_data(body) + body->size, data, len);
  body->size = need;
  skvd_body_data(body)[need] = 0;
  return true;
}

char *skvd_body_data(const skvd_body *body) {
  return body->start + SKVD_BODY_ROOM;
}

void skvd_body_clear(skvd_body *body) {
  free(body->start);
  if (body->pool != NULL) body->pool->used -= body->capacity;
  body->start = NULL;
  body->size = 0;
  body->capacity = 0;
}
