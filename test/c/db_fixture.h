/*
 * What the tests of whole stores share: images of a store's files, rows that
 * are made from numbers, and the in-memory environment with something to call
 * before each of its operations.
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

/* Test memory: not the engine's, whose allocations are counted. */
static inline void *fixture_alloc(size_t size) {
  void *p = calloc(1, size ? size : 1);
  if (p == NULL) abort();
  return p;
}

/* ---- Images ------------------------------------------------------------ */

typedef struct fixture_file {
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
    fixture_add(&copy, from->files[i].name, from->files[i].bytes,
                from->files[i].size);
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
  for (const skv_mem_node *n = fs->nodes; n != NULL && dir != NULL; n = n->next)
    if (n->parent == dir) fixture_add(&image, n->name, n->bytes, n->size);
  skv_mutex_unlock(&fs->mutex);
  return image;
}

static inline void fixture_put_file(skv_dir *dir, const fixture_file *file) {
  skv_file *out = NULL;
  skv_env *env = dir->env;
  int flags = SKV_FILE_WRITE | SKV_FILE_CREATE;
  if (env->file_open(dir, file->name, flags, NULL, &out) != STRATAKV_OK ||
      env->file_write(out, 0, file->bytes, file->size, NULL) != STRATAKV_OK)
    abort();
  env->file_close(out);
}

/* A file system with its first process, holding the image. */
static inline skv_env *fixture_world(const fixture_image *image) {
  skv_env *env = skv_env_mem_new();
  skv_dir *dir = NULL;
  if (env == NULL || env->dir_open(env, NULL, FIXTURE_PATH, SKV_DIR_CREATE,
                                   NULL, &dir) != STRATAKV_OK)
    abort();
  for (size_t i = 0; i < image->count; i++)
    fixture_put_file(dir, &image->files[i]);
  env->dir_close(dir);
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

/* ---- Taps -------------------------------------------------------------- */

/*
 * One in-memory process at a time can be tapped: before each operation that
 * changes files `event` is called, and what a power cut would leave is kept:
 * each file's bytes as of its last sync, names as of the last directory sync.
 */
typedef struct fixture_name {
  char name[64];
  uint64_t inode;
} fixture_name;

typedef struct fixture_bytes {
  uint64_t inode;
  uint8_t *bytes;
  size_t size;
} fixture_bytes;

static struct fixture_tap {
  skv_env *env;
  skv_env plain; /* the functions as they were */
  void (*event)(void);
  fixture_bytes *synced;
  size_t synced_count;
  fixture_name *names;
  size_t name_count;
} fixture_tap;

static inline void tap_event(void) {
  if (fixture_tap.event != NULL) fixture_tap.event();
}

static inline fixture_bytes *tap_synced(uint64_t inode) {
  for (size_t i = 0; i < fixture_tap.synced_count; i++)
    if (fixture_tap.synced[i].inode == inode) return &fixture_tap.synced[i];
  return NULL;
}

/* This file's bytes are durable. */
static inline void tap_keep(const skv_mem_node *node) {
  struct fixture_tap *tap = &fixture_tap;
  fixture_bytes *kept = tap_synced(node->inode);
  if (kept == NULL) {
    tap->synced =
        realloc(tap->synced, (tap->synced_count + 1) * sizeof *tap->synced);
    if (tap->synced == NULL) abort();
    kept = &tap->synced[tap->synced_count++];
    *kept = (fixture_bytes){node->inode, NULL, 0};
  }
  free(kept->bytes);
  kept->size = node->size;
  kept->bytes = fixture_alloc(node->size);
  if (node->size > 0) memcpy(kept->bytes, node->bytes, node->size);
}

static inline void tap_keep_names(skv_mem_fs *fs) {
  struct fixture_tap *tap = &fixture_tap;
  tap->name_count = 0;
  skv_mutex_lock(&fs->mutex);
  for (const skv_mem_node *n = fs->nodes; n != NULL; n = n->next) {
    if (n->parent != fixture_dir(fs)) continue;
    tap->names =
        realloc(tap->names, (tap->name_count + 1) * sizeof *tap->names);
    if (tap->names == NULL) abort();
    fixture_name *name = &tap->names[tap->name_count++];
    snprintf(name->name, sizeof name->name, "%s", n->name);
    name->inode = n->inode;
  }
  skv_mutex_unlock(&fs->mutex);
}

static inline int tap_write(skv_file *f, uint64_t at, const void *data,
                            size_t size, skv_err *err) {
  tap_event();
  return fixture_tap.plain.file_write(f, at, data, size, err);
}
static inline int tap_sync(skv_file *f, skv_err *err) {
  tap_event();
  tap_keep(((skv_mem_handle *)f)->node);
  return fixture_tap.plain.file_sync(f, err);
}
static inline int tap_allocate(skv_file *f, uint64_t size, skv_err *err) {
  tap_event();
  return fixture_tap.plain.file_allocate(f, size, err);
}
static inline int tap_truncate(skv_file *f, uint64_t size, skv_err *err) {
  tap_event();
  return fixture_tap.plain.file_truncate(f, size, err);
}
static inline int tap_rename(skv_dir *d, const char *from, const char *to,
                             skv_err *err) {
  tap_event();
  return fixture_tap.plain.dir_rename(d, from, to, err);
}
static inline int tap_unlink(skv_dir *d, const char *name, skv_err *err) {
  tap_event();
  return fixture_tap.plain.dir_unlink(d, name, err);
}
static inline int tap_dir_sync(skv_dir *d, skv_err *err) {
  tap_event();
  tap_keep_names(skv_mem_env_of(d->env)->fs);
  return fixture_tap.plain.dir_sync(d, err);
}
static inline int tap_open(skv_dir *d, const char *name, int flags,
                           skv_err *err, skv_file **out) {
  if (flags & SKV_FILE_CREATE) tap_event();
  return fixture_tap.plain.file_open(d, name, flags, err, out);
}
static inline void tap_stored(skv_file *f, uint64_t at, uint64_t size) {
  SKV_UNUSED(f);
  SKV_UNUSED(at);
  SKV_UNUSED(size);
  tap_event();
}

/* The tapped process is gone. */
static inline void fixture_tap_forget(void) {
  struct fixture_tap *tap = &fixture_tap;
  for (size_t i = 0; i < tap->synced_count; i++) free(tap->synced[i].bytes);
  free(tap->synced);
  free(tap->names);
  memset(tap, 0, sizeof *tap);
}

/* It goes on untapped. */
static inline void fixture_tap_unset(void) {
  skv_env *env = fixture_tap.env;
  skv_env plain = fixture_tap.plain;
  fixture_tap_forget();
  *env = plain;
}

/* What is there at first counts as durable. */
static inline void fixture_tap_set(skv_env *env, void (*event)(void)) {
  struct fixture_tap *tap = &fixture_tap;
  fixture_tap_forget();
  tap->env = env;
  tap->plain = *env;
  tap->event = event;
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  for (const skv_mem_node *n = fs->nodes; n != NULL; n = n->next)
    if (!n->is_dir) tap_keep(n);
  if (fixture_dir(fs) != NULL) tap_keep_names(fs);
  env->file_write = tap_write;
  env->file_sync = tap_sync;
  env->file_allocate = tap_allocate;
  env->file_truncate = tap_truncate;
  env->dir_rename = tap_rename;
  env->dir_unlink = tap_unlink;
  env->dir_sync = tap_dir_sync;
  env->dir_sync_parent = tap_dir_sync;
  env->file_open = tap_open;
  env->stored = tap_stored;
}

/* ---- What a power cut leaves ------------------------------------------- */

#define FIXTURE_CUT_SYNCED 0 /* nothing that was not synced */
#define FIXTURE_CUT_RANDOM                                                     \
  1 /* of everything unsynced a random part: names one
                                by one, bytes by sectors of 512 */

static inline const skv_mem_node *cut_node(skv_mem_fs *fs, uint64_t inode) {
  for (const skv_mem_node *n = fs->nodes; n != NULL; n = n->next)
    if (n->inode == inode) return n;
  return NULL;
}

static inline void cut_mix(fixture_file *file, const skv_mem_node *node,
                           skv_prng *rng) {
  if (node == NULL) return; /* unlinked and gone: only its synced bytes */
  if (node->size > file->size) {
    file->bytes = realloc(file->bytes, node->size);
    if (file->bytes == NULL) abort();
    memset(file->bytes + file->size, 0, node->size - file->size);
    file->size = node->size;
  }
  unsigned odds = (unsigned)skv_prng_below(rng, 4); /* none, few, most, all */
  for (size_t at = 0; at < node->size; at += 512) {
    size_t n = node->size - at < 512 ? node->size - at : 512;
    bool keep = odds == 3 ||
                (odds > 0 && skv_prng_below(rng, 4) < (odds == 1 ? 1u : 3u));
    if (keep) memcpy(file->bytes + at, node->bytes + at, n);
  }
}

static inline void cut_add(fixture_image *image, skv_mem_fs *fs,
                           const char *name, uint64_t inode, skv_prng *rng) {
  fixture_bytes *kept = tap_synced(inode);
  fixture_file *file = fixture_add(image, name, kept ? kept->bytes : NULL,
                                   kept ? kept->size : 0);
  if (rng != NULL) cut_mix(file, cut_node(fs, inode), rng);
}

/* rng NULL: nothing unsynced. */
static inline fixture_image fixture_cut(skv_prng *rng) {
  struct fixture_tap *tap = &fixture_tap;
  fixture_image image = {0};
  skv_mem_fs *fs = skv_mem_env_of(tap->env)->fs;
  skv_mutex_lock(&fs->mutex);
  const skv_mem_node *dir = fixture_dir(fs);
  for (size_t i = 0; i < tap->name_count; i++) {
    const fixture_name *old = &tap->names[i];
    const skv_mem_node *now = skv_mem_find(fs, dir, old->name);
    bool changed = now == NULL || now->inode != old->inode;
    if (rng == NULL || !changed || skv_prng_below(rng, 2) == 0)
      cut_add(&image, fs, old->name, old->inode, rng);
    else if (now != NULL)
      cut_add(&image, fs, old->name, now->inode, rng);
  }
  for (const skv_mem_node *n = fs->nodes; n != NULL && rng; n = n->next) {
    if (n->parent != dir || dir == NULL) continue;
    bool known = false;
    for (size_t i = 0; i < tap->name_count; i++)
      known |= strcmp(tap->names[i].name, n->name) == 0;
    if (!known && skv_prng_below(rng, 2))
      cut_add(&image, fs, n->name, n->inode, rng);
  }
  skv_mutex_unlock(&fs->mutex);
  return image;
}

#endif
