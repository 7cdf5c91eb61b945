/*
 * A slow model of entries: a list in the order of their commits, searched from
 * its end. What the MemTable says of the same bytes must agree.
 */
#ifndef TEST_FUZZ_FUZZ_ENTRIES_H
#define TEST_FUZZ_FUZZ_ENTRIES_H

#include "engine/mem/mem.h"
#include "engine/util/hash.h"
#include "engine/wal/batch.h"
#include "test/fuzz/fuzz.h"

#define FUZZ_ENTRIES 512 /* more than that are not compared */

typedef struct fuzz_entries {
  skv_entry at[FUZZ_ENTRIES];
  size_t count;
  bool is_over; /* there were more */
} fuzz_entries;

/* A varint, byte by byte. */
static inline bool naive_varint(const uint8_t *b, size_t size, size_t *at,
                                uint64_t *v) {
  *v = 0;
  for (unsigned i = 0; i < 10 && *at < size; i++) {
    uint64_t byte = b[(*at)++];
    uint64_t part = byte & 127;
    if (i == 9 && byte > 1) return false;
    *v += part << (7 * i);
    if (byte < 128) return true;
  }
  return false;
}

/* The entry at *at of a batch, as batch.h says it. */
static inline bool naive_entry(const uint8_t *b, size_t size, size_t *at,
                               skv_entry *e) {
  uint64_t key, value, back, start = *at;
  if (*at >= size) return false;
  e->kind = b[(*at)++];
  if (e->kind != 1 && e->kind != 2) return false;
  if (!naive_varint(b, size, at, &key) || !naive_varint(b, size, at, &value) ||
      !naive_varint(b, size, at, &back))
    return false;
  size_t left = size - *at;
  if (key < 2 || key > left || value > left || key + value > left ||
      (e->kind == 2 && value > 0) || back != start)
    return false;
  e->key = skv_slice_of(b + *at, key);
  e->value = skv_slice_of(b + *at + key, value);
  *at += key + value;
  return true;
}

/* Append a batch's entries; false if it is malformed. */
static inline bool naive_batch(skv_slice batch, uint64_t lsn,
                               fuzz_entries *out) {
  size_t at = 0;
  while (at < batch.size) {
    skv_entry e = {.lsn = lsn};
    if (!naive_entry(batch.data, batch.size, &at, &e)) return false;
    if (out->count == FUZZ_ENTRIES) {
      out->is_over = true;
      return true;
    }
    out->at[out->count++] = e;
  }
  return true;
}

static inline const skv_entry *naive_newest(const fuzz_entries *list,
                                            skv_slice key) {
  for (size_t i = list->count; i > 0; i--)
    if (skv_equal(list->at[i - 1].key, key)) return &list->at[i - 1];
  return NULL;
}

static inline bool fuzz_same_entry(const skv_entry *a, const skv_entry *b) {
  return a->kind == b->kind && a->lsn == b->lsn && skv_equal(a->key, b->key) &&
         skv_equal(a->value, b->value);
}

/* The MemTable, caught up to `limit`, holds exactly these. */
static inline void fuzz_check_mem(skv_mem *mem, uint64_t limit,
                                  const fuzz_entries *list) {
  skv_iter *it = NULL;
  skv_entry entry;
  bool found;
  size_t distinct = 0, seen = 0;
  for (size_t i = 0; i < list->count; i++) {
    const skv_entry *e = &list->at[i];
    const skv_entry *newest = naive_newest(list, e->key);
    distinct += newest == e;
    FUZZ_CHECK(skv_mem_get(mem, e->key, skv_hash(e->key), limit, NULL, &found,
                           &entry) == STRATAKV_OK);
    FUZZ_CHECK(found && fuzz_same_entry(&entry, newest));
  }
  FUZZ_CHECK(skv_mem_iter_new(mem, limit, NULL, &it) == STRATAKV_OK);
  FUZZ_CHECK(skv_iter_first(it, NULL) == STRATAKV_OK);
  skv_slice last = {NULL, 0};
  while (it->valid) {
    FUZZ_CHECK(seen == 0 || skv_compare(last, it->entry.key) < 0);
    const skv_entry *newest = naive_newest(list, it->entry.key);
    FUZZ_CHECK(newest != NULL && fuzz_same_entry(&it->entry, newest));
    last = it->entry.key;
    seen++;
    FUZZ_CHECK(skv_iter_next(it, NULL) == STRATAKV_OK);
  }
  FUZZ_CHECK(seen == distinct);
  FUZZ_CHECK(skv_iter_last(it, NULL) == STRATAKV_OK);
  for (; it->valid; seen--) FUZZ_CHECK(skv_iter_prev(it, NULL) == STRATAKV_OK);
  FUZZ_CHECK(seen == 0);
  skv_iter_close(it);
}

/* Make each entry's `back` its offset, where it has room for it. */
static inline void fuzz_repair_batch(uint8_t *b, size_t size) {
  size_t at = 0;
  while (at < size) {
    size_t start = at;
    uint64_t key, value, back;
    if (b[at] != 1 && b[at] != 2) b[at] = 1;
    at++;
    if (!naive_varint(b, size, &at, &key) ||
        !naive_varint(b, size, &at, &value))
      return;
    size_t field = at;
    if (!naive_varint(b, size, &at, &back)) return;
    if (skv_varint_size(start) == at - field) skv_varint_put(b + field, start);
    if (key > size - at || value > size - at - key) return;
    at += key + value;
  }
}

#endif
