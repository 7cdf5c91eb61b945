/*
 * What the parts of the differential test share: configurations, operations,
 * and text that grows.
 *
 * diff_gen.h makes random scripts, diff_actor.h runs SQL on a connection, here
 * or in another process, and diff_test.c compares and shrinks.
 */
#ifndef TEST_C_DIFF_H
#define TEST_C_DIFF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIFF_ACTORS 4
#define DIFF_SLOTS 3 /* cursors of one actor */
#define DIFF_FORMS 4 /* rewritings of one query */

/* ---- Text --------------------------------------------------------------- */

typedef struct diff_text {
  char *data;
  size_t len, capacity;
} diff_text;

static inline void text_add(diff_text *t, const void *bytes, size_t n) {
  if (t->len + n + 1 > t->capacity) {
    t->capacity = 2 * (t->len + n) + 64;
    t->data = realloc(t->data, t->capacity);
    if (t->data == NULL) abort();
  }
  memcpy(t->data + t->len, bytes, n);
  t->len += n;
  t->data[t->len] = 0;
}

__attribute__((format(printf, 2, 3))) static inline void
text_put(diff_text *t, const char *format, ...) {
  char small[256];
  va_list ap;
  va_start(ap, format);
  int n = vsnprintf(small, sizeof small, format, ap);
  va_end(ap);
  if ((size_t)n < sizeof small) {
    text_add(t, small, (size_t)n);
    return;
  }
  char *large = malloc((size_t)n + 1);
  if (large == NULL) abort();
  va_start(ap, format);
  vsnprintf(large, (size_t)n + 1, format, ap);
  va_end(ap);
  text_add(t, large, (size_t)n);
  free(large);
}

static inline void text_clear(diff_text *t) {
  t->len = 0;
  if (t->data != NULL) t->data[0] = 0;
}

static inline void text_free(diff_text *t) {
  free(t->data);
  *t = (diff_text){0};
}

/* ---- Configurations ----------------------------------------------------- */

typedef struct diff_config {
  const char *name;
  unsigned wal, block, segment; /* bytes; 0 is the engine's */
  const char *options;          /* of CREATE VIRTUAL TABLE */
  unsigned commands;            /* flush and optimize, of 1,000 operations */
  int actors;
  bool processes; /* each actor is one */
  bool memory;    /* the store is in memory */
  bool large;     /* long values, large transactions */
} diff_config;

/* ---- Operations --------------------------------------------------------- */

typedef enum diff_kind {
  DIFF_WRITE,   /* on both; everything must agree */
  DIFF_CONTROL, /* BEGIN and its like: a write that counts no changes */
  DIFF_QUERY,   /* sql on the ordinary tables, forms on the store's */
  DIFF_OPEN,    /* a cursor: a query that is stepped later */
  DIFF_STEP,
  DIFF_CLOSE,
  DIFF_PIN, /* a transaction that only reads, with the command `snapshot` */
  DIFF_UNPIN,
  DIFF_COMMAND, /* flush or optimize; then all tables are compared */
  DIFF_REOPEN,
  DIFF_KILL /* of a process; a connection is reopened */
} diff_kind;

/* What a rewritten query's rows must be to the rows of the query. */
typedef enum diff_relation {
  DIFF_SAME,
  DIFF_REVERSED,
  DIFF_COUNT, /* one row: their number */
  DIFF_SLICE /* `length` of them from `from` on, of the reversed ones if back */
} diff_relation;

typedef struct diff_form {
  diff_relation relation;
  bool back;
  size_t from, length;
  const char *sql;
} diff_form;

typedef struct diff_op {
  diff_kind kind;
  int actor;
  int slot;  /* of a cursor */
  int count; /* DIFF_STEP: rows */
  const char *sql;
  int form_count;
  diff_form forms[DIFF_FORMS];
} diff_op;

/* ---- Memory of one script ----------------------------------------------- */

typedef struct diff_arena {
  struct diff_block {
    struct diff_block *next;
    size_t used, size;
    char bytes[];
  } * blocks;
} diff_arena;

static inline void *arena_take(diff_arena *arena, size_t n) {
  struct diff_block *b = arena->blocks;
  n = (n + 15) & ~(size_t)15;
  if (b == NULL || b->size - b->used < n) {
    size_t size = n > (1u << 20) ? n : 1u << 20;
    b = malloc(sizeof *b + size);
    if (b == NULL) abort();
    *b = (struct diff_block){.next = arena->blocks, .size = size};
    arena->blocks = b;
  }
  void *p = b->bytes + b->used;
  b->used += n;
  return p;
}

static inline const char *arena_text(diff_arena *arena, const diff_text *t) {
  char *p = arena_take(arena, t->len + 1);
  memcpy(p, t->len > 0 ? t->data : "", t->len);
  p[t->len] = 0;
  return p;
}

static inline void arena_free(diff_arena *arena) {
  while (arena->blocks != NULL) {
    struct diff_block *b = arena->blocks;
    arena->blocks = b->next;
    free(b);
  }
}

#endif
