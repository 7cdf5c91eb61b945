/*
 * What the parts of the MemTable share: the object, reading an entry by its
 * position, walking a log, the sorted arrays.
 *
 * mem.c        the object, entries by position, the walker
 * mem_point.c  the point index: hash table and history
 * mem_order.c  sorted arrays: building, merging, their list
 * mem_sort.c   sorting the positions of one array
 * mem_iter.c   iterating over a list of arrays
 *
 * LOCKS  point_mutex and order_mutex are never held together.
 */
#ifndef SKV_MEM_INTERNAL_H
#define SKV_MEM_INTERNAL_H

#include <stdatomic.h>

#include "engine/mem/mem.h"
#include "engine/os/thread.h"

/*
 * A hash table from 32 bits to 32 bits, written by one thread and read by any.
 * A slot is key << 32 | value, 0 if empty; a slot's place comes from the key's
 * top bits, so that growing keeps the order and reads memory forwards. Tables
 * that were outgrown live on, because readers may still be in them.
 */
typedef struct skv_mem_table {
  struct skv_mem_table *older; /* the table before, owned */
  _Atomic uint64_t *slots;
  uint32_t mask;  /* slots - 1 */
  uint32_t count; /* slots in use; the writer's */
  unsigned shift; /* a key >> shift is its first slot */
} skv_mem_table;

typedef struct skv_mem_array skv_mem_array;
typedef struct skv_mem_arrays skv_mem_arrays;

struct skv_mem {
  atomic_uint refs;
  bool is_batch;        /* one batch instead of a log */
  uint64_t start;       /* LSN of a log's first record */
  skv_wal_place first;  /* a log's first record */
  char *name;           /* for messages, owned */
  const uint8_t *bytes; /* constant for a log; a batch's move */
  uint64_t size;
  _Atomic uint64_t doubt;    /* verify anew from this offset on (P12) */
  _Atomic uint64_t verified; /* the checksums below it were right */
  _Atomic uint64_t memory;   /* bytes of tables and arrays */

  /* Read without lock; written under point_mutex. */
  _Atomic(skv_mem_table *) newest;  /* hash of a key -> its newest position */
  _Atomic(skv_mem_table *) history; /* position -> the key's one before */
  _Atomic uint64_t caught_up;       /* the point index is complete below */
  skv_mutex point_mutex;
  skv_wal_place point_place; /* where catching up goes on */

  /* Under order_mutex. */
  skv_mutex order_mutex;
  skv_wal_place order_place; /* the arrays hold what is below */
  skv_mem_arrays *arrays;    /* NULL before the first */
};

/* The bytes through which positions are read: those of the moment when an
 * iterator was made or a call began. */
typedef struct skv_mem_view {
  const skv_mem *mem;
  const uint8_t *bytes;
  uint64_t bias; /* position - bias is an offset in bytes */
  uint64_t end;  /* biased too */
} skv_mem_view;

skv_mem_view skv_mem_view_of(const skv_mem *mem);
/* A limit beyond 32 bits, which positions cannot express: TOOBIG. */
int skv_mem_check_limit(const skv_mem *mem, uint64_t limit, skv_err *err);

/* The entry at that position; its record is verified first if it is in doubt.
 * CORRUPT if it is damaged or does not decode. */
int skv_mem_read(const skv_mem_view *view, uint32_t position, skv_err *err,
                 skv_entry *entry);
/* The key at a position that was walked before; empty if it does not decode.
 * Not for bytes in doubt. */
skv_slice skv_mem_key(const skv_mem_view *view, uint32_t position);
/* Bring a cache line soon. The empty statement keeps gcc from seeing a function
 * without effects around it, whose calls it would remove. */
static inline void skv_mem_touch(const void *p) {
  __builtin_prefetch(p);
  __asm__ volatile("");
}
/* Bring an entry soon: the lines of a small one. */
static inline void skv_mem_prefetch(const skv_mem_view *view,
                                    uint32_t position) {
  const uint8_t *p = view->bytes + (position - view->bias);
  skv_mem_touch(p);
  skv_mem_touch(p + 64);
  skv_mem_touch(p + 128);
}

/*
 * The walker: decided entries in log order. A record is validated as a whole
 * before its first entry comes out. An aborted PREPARE has none.
 */
typedef struct skv_mem_walker {
  skv_mem_view view;
  uint64_t limit;
  skv_wal_place place; /* behind the record in hand */
  const uint8_t *p;    /* next entry; NULL: no record in hand */
  const uint8_t *end;  /* of the record's entries */
  const uint8_t *payload;
  uint64_t payload_position;
  uint64_t lsn; /* of the record in hand */
} skv_mem_walker;

/* From a place on, or from a record boundary whose chain is not known. */
void skv_mem_walker_init(skv_mem_walker *walker, skv_mem *mem,
                         const skv_wal_place *place, uint64_t limit);
void skv_mem_walker_init_at(skv_mem_walker *walker, skv_mem *mem, uint64_t from,
                            uint64_t limit);
/* False with *rc OK: no more. False otherwise: CORRUPT. */
bool skv_mem_walker_next(skv_mem_walker *walker, skv_mem *mem, skv_err *err,
                         int *rc, skv_entry *entry, uint32_t *position);

/* The point index. */
void skv_mem_point_clear(skv_mem *mem);

/*
 * A sorted array: by prefix, then whole key, then position descending. Its
 * positions lie in a part of the log that no other array of a list shares.
 */
struct skv_mem_array {
  atomic_uint refs;
  uint32_t count;      /* entries, not 0 */
  uint32_t lowest;     /* its least position */
  uint32_t skip;       /* bytes that all keys have in common at their start */
  size_t size;         /* bytes of this allocation */
  uint64_t *prefixes;  /* the 8 bytes behind those; behind this struct */
  uint32_t *positions; /* behind the prefixes */
};

/* An immutable list of arrays, oldest part of the log first. */
struct skv_mem_arrays {
  atomic_uint refs;
  unsigned count;
  skv_mem_array *arrays[];
};

#define SKV_MEM_MAX_ARRAYS 40 /* sizes double: more never come together */

/* Extend the arrays to `limit` and take a reference to their list, which is
 * NULL if there are none. */
int skv_mem_order_extend(skv_mem *mem, uint64_t limit, skv_err *err,
                         skv_mem_arrays **out);
void skv_mem_arrays_unref(skv_mem *mem, skv_mem_arrays *arrays);

/* skv_prefix64, at once for keys that are long enough. */
static inline uint64_t skv_mem_prefix(skv_slice key, size_t skip) {
  if (key.size < skip + 8) return skv_prefix64(key, skip);
  uint64_t v;
  memcpy(&v, key.data + skip, 8);
  return __builtin_bswap64(v);
}

/*
 * Sort n entries by prefix, then whole key. Entries of one key must stand in
 * descending position order already, and stay so. `skip` as in the array;
 * spare_* is room for n more.
 */
void skv_mem_sort(const skv_mem_view *view, uint64_t *prefixes,
                  uint32_t *positions, uint64_t *spare_prefixes,
                  uint32_t *spare_positions, size_t n, size_t skip);

#endif
