/*
 * What the tests of segments compare with: a sorted array of entries, of
 * several kinds of data, and the segment that is written from it.
 */
#ifndef TEST_C_SEG_MODEL_H
#define TEST_C_SEG_MODEL_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/os/env_fault.h"
#include "engine/os/thread.h"
#include "engine/seg/seg.h"
#include "engine/seg/seg_filter.h"
#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_frame.h"
#include "engine/seg/seg_index.h"
#include "engine/seg/seg_scan.h"
#include "engine/util/alloc.h"
#include "engine/util/hash.h"
#include "test/c/check.h"

#define UID UINT64_C(0x123456789abcdef0)

static skv_store *store;
static skv_err last;

#define OK(call) check_ok((call), __FILE__, __LINE__, #call)
static bool check_ok(int rc, const char *file, int line, const char *what) {
  if (rc != STRATAKV_OK) printf("  %d: %s\n", rc, last.message);
  return check_that(rc == STRATAKV_OK, file, line, what, check_where);
}

static uint64_t seed;
static uint64_t chance(uint64_t below) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return (seed * UINT64_C(0x2545f4914f6cdd1d) >> 20) % below;
}

static void *must(void *p) {
  if (!p) abort();
  return p;
}

/* ---- The model: a sorted array of entries ------------------------------- */

typedef struct model {
  skv_entry *at;
  size_t n;
  size_t room;
} model;

static skv_slice copy_bytes(const void *data, size_t size) {
  uint8_t *p = must(malloc(size ? size : 1));
  if (size) memcpy(p, data, size);
  return skv_slice_of(p, size);
}

static void model_free(model *m) {
  for (size_t i = 0; i < m->n; i++) {
    free((void *)(uintptr_t)m->at[i].key.data);
    free((void *)(uintptr_t)m->at[i].value.data);
  }
  free(m->at);
  memset(m, 0, sizeof *m);
}

/* Add an entry with a value of `size` somewhat compressible bytes. */
static void model_add(model *m, const void *key, size_t key_size, size_t size) {
  if (m->n == m->room) {
    m->room = m->room ? 2 * m->room : 64;
    m->at = must(realloc(m->at, m->room * sizeof *m->at));
  }
  skv_entry *e = &m->at[m->n++];
  e->kind = size == 0 && chance(2) ? SKV_KIND_DELETE : SKV_KIND_PUT;
  e->lsn = 8 * chance(UINT64_C(1) << (chance(40) + 1));
  e->key = copy_bytes(key, key_size);
  uint8_t *value = must(malloc(size ? size : 1));
  for (size_t i = 0; i < size; i++)
    value[i] = (uint8_t)(i % 3 ? 'a' + i % 7 : chance(256));
  e->value = skv_slice_of(value, size);
}

static int model_order(const void *a, const void *b) {
  return skv_compare(((const skv_entry *)a)->key, ((const skv_entry *)b)->key);
}

/* Sort, and keep one entry per key. */
static void model_done(model *m) {
  qsort(m->at, m->n, sizeof *m->at, model_order);
  size_t n = 0;
  for (size_t i = 0; i < m->n; i++) {
    if (n > 0 && skv_equal(m->at[n - 1].key, m->at[i].key)) {
      free((void *)(uintptr_t)m->at[i].key.data);
      free((void *)(uintptr_t)m->at[i].value.data);
    } else {
      m->at[n++] = m->at[i];
    }
  }
  m->n = n;
}

/* The first entry >= key. */
static size_t model_find(const model *m, skv_slice key) {
  size_t lo = 0, hi = m->n;
  while (lo < hi) {
    size_t mid = (lo + hi) / 2;
    if (skv_compare(m->at[mid].key, key) < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return lo;
}

static bool same_entry(const skv_entry *a, const skv_entry *b) {
  return skv_equal(a->key, b->key) && skv_equal(a->value, b->value) &&
         a->lsn == b->lsn && a->kind == b->kind;
}

/* ---- Kinds of data ------------------------------------------------------- */

static void make_users(model *m, size_t n) {
  char key[32];
  for (size_t i = 0; i < n; i++) {
    int size = snprintf(key, sizeof key, "xxuser%014llu",
                        (unsigned long long)chance(100000000));
    model_add(m, key, (size_t)size, 100);
  }
  model_done(m);
}

/* Short keys of few different bytes, the empty one among them. */
static void make_short(model *m, size_t n) {
  static const uint8_t letters[] = {0, 1, 'a', 0xfe, 0xff};
  uint8_t key[24];
  model_add(m, "", 0, 7);
  for (size_t i = 0; i < n; i++) {
    size_t size = chance(sizeof key);
    for (size_t j = 0; j < size; j++) key[j] = letters[chance(sizeof letters)];
    model_add(m, key, size, chance(4) ? chance(40) : chance(600));
  }
  model_done(m);
}

/* Keys that differ only far behind what index and slots look at first. */
static void make_ties(model *m, size_t n) {
  uint8_t key[64];
  for (size_t i = 0; i < n; i++) {
    size_t size = 0, runs = 1 + chance(3);
    for (size_t j = 0; j < runs; j++) {
      memset(key + size, chance(2) ? 0xff : 0, 12);
      size += 12;
      key[size++] = (uint8_t)chance(256);
    }
    model_add(m, key, size, chance(30));
  }
  model_done(m);
}

/* Keys up to the limit and beyond what a block's prefix can hold. */
static void make_long(model *m, size_t n) {
  size_t room = STRATAKV_MAX_KEY + SKV_TABLE_PREFIX;
  uint8_t *key = must(malloc(room));
  memset(key, 'k', room);
  for (size_t i = 0; i < n; i++) {
    size_t size = chance(3) ? room : chance(room);
    if (size > 8) key[size - 1 - chance(4)] = (uint8_t)chance(256);
    model_add(m, key, size, chance(3) ? chance(50) : chance(3000));
    if (size > 8) memset(key + size - 8, 'k', 8);
  }
  free(key);
  model_done(m);
}

/* Values around every limit. */
static void make_large(model *m, size_t n) {
  static const size_t sizes[] = {
      0, 255, 8192, 65536, 1048000, 1048448, 1048576, 1049000, 2u * 1048576};
  char key[32];
  for (size_t i = 0; i < n; i++) {
    int size = snprintf(key, sizeof key, "large%llu",
                        (unsigned long long)chance(1000000));
    size_t value = sizes[i % (sizeof sizes / sizeof *sizes)];
    model_add(m, key, (size_t)size, i % 2 ? value : chance(200));
  }
  model_done(m);
}

static void make_one(model *m, size_t n) {
  model_add(m, "", 0, n);
  model_done(m);
}

/* ---- Files --------------------------------------------------------------- */

static const skv_name tmp_name = {.kind = SKV_NAME_TMP, .number = 1};

static void remove_segment(void) { skv_store_remove(store, &tmp_name, NULL); }

static int write_entries(skv_seg_writer *w, const model *m, bool zero_lsn) {
  int rc = STRATAKV_OK;
  for (size_t i = 0; i < m->n && rc == STRATAKV_OK; i++) {
    skv_entry e = m->at[i];
    if (zero_lsn) e.lsn = 0;
    rc = skv_seg_writer_add(w, &e, &last);
  }
  return rc;
}

/* Write m as the segment; meta's keys are not kept. */
static int write_segment(const model *m, const skv_seg_options *options,
                         bool zero_lsn, skv_seg_meta *meta) {
  skv_out *out = NULL;
  skv_seg_writer *w = NULL;
  int rc = skv_out_create(store, &tmp_name, &last, &out);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_seg_writer_new(out, options, UID, &last, &w);
  if (rc == STRATAKV_OK) rc = write_entries(w, m, zero_lsn);
  if (rc == STRATAKV_OK) {
    uint64_t about = skv_seg_writer_size(w);
    rc = skv_seg_writer_finish(w, &last, meta);
    if (rc == STRATAKV_OK) {
      CHECK(skv_seg_writer_entries(w) == m->n);
      CHECK(skv_equal(meta->min_key, m->at[0].key));
      CHECK(skv_equal(meta->max_key, m->at[m->n - 1].key));
      CHECK(about + about / 4 + 80000 >= meta->size);
    }
  }
  skv_seg_writer_free(w);
  skv_out_close(out);
  return rc;
}

static int open_segment(uint64_t size, bool map, skv_cache *cache, uint64_t lsn,
                        skv_seg **seg) {
  skv_in *in = NULL;
  *seg = NULL;
  int rc = skv_in_open(store, 0, &tmp_name, size, map, &last, &in);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_seg_open(in, cache, 7, UID, lsn, &last, seg);
  if (rc != STRATAKV_OK) skv_in_close(in);
  return rc;
}

static skv_file *open_file(void) {
  char text[SKV_NAME_SIZE];
  skv_file *file = NULL;
  skv_name_format(&tmp_name, text);
  if (skv_store_env(store)->file_open(skv_store_dir(store), text,
                                      SKV_FILE_WRITE, &last, &file))
    abort();
  return file;
}

static void put_bytes(skv_file *file, uint64_t at, const void *p, size_t n) {
  if (file->env->file_write(file, at, p, n, &last) != STRATAKV_OK) abort();
}

static uint8_t *get_bytes(skv_file *file, size_t size) {
  size_t got;
  uint8_t *p = must(malloc(size));
  if (file->env->file_read(file, 0, p, size, &last, &got) || got != size)
    abort();
  return p;
}

#endif
