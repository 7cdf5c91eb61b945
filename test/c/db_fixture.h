/*
 * What the tests of whole stores share: images of a store's files, and rows
 * that are made from numbers.
 *
 * IMAGE  A copy of all files of the directory "/store", taken from one
 *   in-memory file system and put into another. Opening one is what the next
 *   user sees after everybody died at that moment. The other file system has
 *   another boot id, so the shared page is of before a reboot, unless
 *   fixture_same_boot says otherwise.
 */
#ifndef TEST_C_DB_FIXTURE_H
#define TEST_C_DB_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/db/handle.h"
#include "engine/os/env_mem.h"
#include "engine/util/prng.h"
#include "engine/wal/batch.h"
#include "stratakv.h"
#include "test/c/check.h"

#define FIXTURE_PATH "/store"
#define FIXTURE_BOOT_AT 16 /* offset of the boot id in SHARED */

static _Thread_local stratakv_error fixture_err;

/* A call that gives that code; what came instead is shown. */
static inline bool fixture_expect(int rc, int want, const char *file, int line,
                                  const char *what) {
  if (rc != want)
    printf("code %d, not %d: %s\n", rc, want,
           rc != STRATAKV_OK ? fixture_err.message : "it succeeded");
  return check_that(rc == want, file, line, what, check_where);
}
#define FAILS(code, call)                                                      \
  fixture_expect((call), (code), __FILE__, __LINE__, #call)
#define OK(call) FAILS(STRATAKV_OK, call)

/* Test memory, zero: not the engine's, whose allocations are counted. A file's
 * bytes are aligned as if mapped. */
static inline void *fixture_alloc(size_t size) {
  size_t pages = (size + 4095) & ~(size_t)4095;
  void *p =
      size < 4096 ? calloc(1, size ? size : 1) : aligned_alloc(4096, pages);
  if (p == NULL) abort();
  if (size >= 4096) memset(p, 0, pages);
  return p;
}

/* ---- Images ------------------------------------------------------------ */

typedef struct fixture_file {
  char dir[16]; /* its path, FIXTURE_PATH if not set otherwise */
  char name[64];
  uint8_t *bytes;
  size_t size;
} fixture_file;

typedef struct fixture_image {
  fixture_file *files;
  size_t count;
} fixture_image;

static inline fixture_file *fixture_add(fixture_image *image, const char *name,
                                        const void *bytes, size_t size) {
  size_t bytes_of_all = (image->count + 1) * sizeof *image->files;
  image->files = realloc(image->files, bytes_of_all);
  if (image->files == NULL) abort();
  fixture_file *file = &image->files[image->count++];
  snprintf(file->dir, sizeof file->dir, "%s", FIXTURE_PATH);
  snprintf(file->name, sizeof file->name, "%s", name);
  file->bytes = fixture_alloc(size);
  file->size = size;
  if (bytes != NULL && size > 0) memcpy(file->bytes, bytes, size);
  return file;
}

static inline fixture_file *fixture_find(fixture_image *image,
                                         const char *name) {
  for (size_t i = 0; i < image->count; i++)
    if (strcmp(image->files[i].name, name) == 0) return &image->files[i];
  return NULL;
}

static inline void fixture_clear(fixture_image *image) {
  for (size_t i = 0; i < image->count; i++) free(image->files[i].bytes);
  free(image->files);
  memset(image, 0, sizeof *image);
}

static inline fixture_image fixture_copy(const fixture_image *from) {
  fixture_image copy = {0};
  for (size_t i = 0; i < from->count; i++)
    memcpy(fixture_add(&copy, from->files[i].name, from->files[i].bytes,
                       from->files[i].size)
               ->dir,
           from->files[i].dir, sizeof from->files[i].dir);
  return copy;
}

/* The directory's node; fs->mutex held. */
static inline skv_mem_node *fixture_dir(skv_mem_fs *fs) {
  return skv_mem_find(fs, fs->root, &FIXTURE_PATH[1]);
}

static inline fixture_image fixture_take(skv_env *mem) {
  fixture_image image = {0};
  skv_mem_fs *fs = skv_mem_env_of(mem)->fs;
  skv_mutex_lock(&fs->mutex);
  const skv_mem_node *dir = fixture_dir(fs);
  for (const skv_mem_name *n = fs->names; n != NULL && dir != NULL; n = n->next)
    if (n->dir == dir)
      fixture_add(&image, n->text, n->node->bytes, n->node->size);
  skv_mutex_unlock(&fs->mutex);
  return image;
}

/* Zeros at the end, most of a log, are not written but grown. */
static inline void fixture_put_file(skv_dir *dir, const fixture_file *file) {
  skv_file *out = NULL;
  skv_env *env = dir->env;
  int flags = SKV_FILE_WRITE | SKV_FILE_CREATE;
  size_t stored = file->size;
  for (uint64_t last = 0; stored >= sizeof last; stored -= sizeof last) {
    memcpy(&last, file->bytes + stored - sizeof last, sizeof last);
    if (last != 0) break;
  }
  while (stored > 0 && file->bytes[stored - 1] == 0) stored--;
  if (env->file_open(dir, file->name, flags, NULL, &out) != STRATAKV_OK ||
      env->file_write(out, 0, file->bytes, stored, NULL) != STRATAKV_OK ||
      env->file_truncate(out, file->size, NULL) != STRATAKV_OK)
    abort();
  env->file_close(out);
}

/* A file system with its first process, holding the image. */
static inline skv_env *fixture_world(const fixture_image *image) {
  skv_env *env = skv_env_mem_new();
  const char *path = FIXTURE_PATH;
  skv_dir *dir = NULL;
  for (size_t i = 0; env != NULL && i <= image->count; i++) {
    if (env->dir_open(env, NULL, path, SKV_DIR_CREATE, NULL, &dir) !=
        STRATAKV_OK)
      abort();
    if (i > 0) fixture_put_file(dir, &image->files[i - 1]);
    env->dir_close(dir);
    if (i < image->count) path = image->files[i].dir;
  }
  if (env == NULL) abort();
  return env;
}

/* The shared page in env's store is of this boot. */
static inline void fixture_same_boot(skv_env *env) {
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  skv_mutex_lock(&fs->mutex);
  skv_mem_node *dir = fixture_dir(fs);
  skv_mem_node *page = dir != NULL ? skv_mem_find(fs, dir, "SHARED") : NULL;
  if (page != NULL && page->size >= FIXTURE_BOOT_AT + 16)
    env->boot_id(env, page->bytes + FIXTURE_BOOT_AT);
  skv_mutex_unlock(&fs->mutex);
}

/* ---- Rows -------------------------------------------------------------- */

/* Key i, and the value that is made from the number v > 0. */
static inline size_t fixture_key(uint32_t i, char out[32]) {
  return (size_t)snprintf(out, 32, "key:%06u", (unsigned)i);
}

static inline size_t fixture_value(uint32_t v, char out[512]) {
  size_t n = 4 + v * UINT32_C(2654435761) % 300;
  memcpy(out, &v, 4);
  for (size_t i = 4; i < n; i++) out[i] = (char)('a' + (v + i * 31) % 26);
  return n;
}

/* The number that a value was made from; 0 if it is none. */
static inline uint32_t fixture_number(const void *bytes, size_t size) {
  char want[512];
  uint32_t v;
  if (size < 4) return 0;
  memcpy(&v, bytes, 4);
  if (v == 0 || fixture_value(v, want) != size ||
      memcmp(want, bytes, size) != 0)
    return 0;
  return v;
}

static inline int fixture_put(stratakv_store *store, uint32_t table, uint32_t i,
                              uint32_t v, uint64_t *lsn) {
  char key[32], value[512];
  size_t key_len = fixture_key(i, key);
  if (v == 0)
    return stratakv_delete(store, table, key, key_len, &fixture_err, lsn);
  return stratakv_put(store, table, key, key_len, value,
                      fixture_value(v, value), &fixture_err, lsn);
}

static inline int fixture_txn_put(stratakv_txn *txn, uint32_t table, uint32_t i,
                                  uint32_t v) {
  char key[32], value[512];
  size_t key_len = fixture_key(i, key);
  if (v == 0)
    return stratakv_txn_delete(txn, table, key, key_len, STRATAKV_BLIND,
                               &fixture_err);
  return stratakv_txn_put(txn, table, key, key_len, value,
                          fixture_value(v, value), STRATAKV_BLIND,
                          &fixture_err);
}

/* Read all rows of a table into rows[], 0 for what is absent. CORRUPT too if a
 * row is none that fixture_put could have made, or twice there. */
static inline int fixture_scan(stratakv_store *store, uint32_t table,
                               uint32_t *rows, uint32_t count) {
  stratakv_cursor *c = NULL;
  memset(rows, 0, count * sizeof *rows);
  int rc =
      stratakv_cursor_open(store, NULL, NULL, table, NULL, &fixture_err, &c);
  if (rc == STRATAKV_OK) rc = stratakv_cursor_first(c, &fixture_err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(c)) {
    size_t key_len, size;
    const char *key = stratakv_cursor_key(c, &key_len);
    const void *value = stratakv_cursor_value(c, &size);
    unsigned i = count;
    if (key_len == 10) sscanf(key, "key:%6u", &i);
    if (i >= count || rows[i] != 0) {
      snprintf(fixture_err.message, sizeof fixture_err.message, "WRONG KEY");
      rc = -1;
      break;
    }
    rows[i] = fixture_number(value, size);
    if (rows[i] == 0) {
      snprintf(fixture_err.message, sizeof fixture_err.message, "WRONG VALUE");
      rc = -1;
      break;
    }
    rc = stratakv_cursor_next(c, &fixture_err);
  }
  stratakv_cursor_close(c);
  return rc;
}

/* Options of the smallest stores, everything done by the calling thread. */
static inline stratakv_options fixture_options(void) {
  stratakv_options options;
  stratakv_options_init(&options);
  options.create = 1;
  options.wal_size = 64u << 10;
  options.memory = 4u << 20;
  options.background = 0;
  options.busy_timeout_ms = 1000;
  return options;
}

#endif
