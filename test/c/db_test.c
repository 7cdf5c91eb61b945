/*
 * The store through its C interface, against a model: a sorted array in memory
 * that every operation is applied to as well.
 *
 *   1  single changes, batches, conditions, reads, cursors both ways
 *   2  transactions: own changes, savepoints, rollback, conflicts, prepare
 *   3  random operations with flush, compaction, reopening
 *   4  transactions larger than memory (spill, INGEST)
 *   5  snapshots and cursors that stay as they were (INV-4)
 *   6  a missing log
 *
 * Covers: INV-2, INV-3, INV-4, INV-5, INV-6
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/util/prng.h"
#include "stratakv.h"
#include "test/c/check.h"
#include "test/c/files.h"

/* ---- The model --------------------------------------------------------- */

#define MODEL_KEYS 4000

typedef struct model {
  int present[MODEL_KEYS];
  uint32_t value[MODEL_KEYS]; /* the value is made from it */
} model;

static model now;

static size_t key_of(uint32_t i, char *out) {
  return (size_t)snprintf(out, 40, "user:%08u", i * 7);
}

static size_t value_of(uint32_t v, char *out) {
  size_t n = v % 200;
  for (size_t i = 0; i < n; i++) out[i] = (char)('a' + (v + i * 31) % 26);
  return n;
}

static stratakv_store *store;
static stratakv_table_info table;
static stratakv_options options;
static char path[4096];

static void must(int rc, const stratakv_error *err, const char *what) {
  if (rc != STRATAKV_OK) fprintf(stderr, "%s: %d %s\n", what, rc, err->message);
  CHECK(rc == STRATAKV_OK);
  if (rc != STRATAKV_OK) exit(1);
}

static void open_store(void) {
  stratakv_error err;
  options.create = 1;
  must(stratakv_open(path, &options, &err, &store), &err, "open");
  must(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &err, &table), &err,
       "table");
}

static void close_store(void) {
  stratakv_error err;
  must(stratakv_close(store, &err), &err, "close");
  store = NULL;
}

static int get_is(stratakv_txn *txn, stratakv_snapshot *snap, const model *m,
                  uint32_t i) {
  static stratakv_value value;
  char key[40], want[256];
  stratakv_error err;
  size_t key_len = key_of(i, key);
  int rc =
      txn ? stratakv_txn_get(txn, table.id, key, key_len, &err, &value)
          : stratakv_get(store, snap, table.id, key, key_len, &err, &value);
  if (!m->present[i]) return rc == STRATAKV_NOTFOUND;
  if (rc != STRATAKV_OK) return 0;
  size_t n = value_of(m->value[i], want);
  return n == value.size && memcmp(want, value.data, n) == 0;
}

static uint32_t model_next(const model *m, uint32_t i) {
  while (i < MODEL_KEYS && !m->present[i]) i++;
  return i;
}

/* Scan a cursor both ways and compare with the model. */
static int cursor_is(stratakv_cursor *c, const model *m) {
  stratakv_error err;
  char key[40], want[256];
  uint32_t i = model_next(m, 0);
  int rc = stratakv_cursor_first(c, &err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(c)) {
    size_t n, key_len = i < MODEL_KEYS ? key_of(i, key) : 0;
    const void *p = stratakv_cursor_key(c, &n);
    if (i >= MODEL_KEYS || n != key_len || memcmp(p, key, n) != 0) return 0;
    p = stratakv_cursor_value(c, &n);
    if (n != value_of(m->value[i], want) || memcmp(p, want, n) != 0) return 0;
    i = model_next(m, i + 1);
    rc = stratakv_cursor_next(c, &err);
  }
  if (rc != STRATAKV_OK || i != MODEL_KEYS) return 0;
  int32_t j = MODEL_KEYS - 1;
  rc = stratakv_cursor_last(c, &err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(c)) {
    size_t n;
    while (j >= 0 && !m->present[j]) j--;
    const void *p = stratakv_cursor_key(c, &n);
    if (j < 0 || n != key_of((uint32_t)j, key) || memcmp(p, key, n) != 0)
      return 0;
    j--;
    rc = stratakv_cursor_prev(c, &err);
  }
  while (j >= 0 && !m->present[j]) j--;
  return rc == STRATAKV_OK && j < 0;
}

static int scan_is(stratakv_txn *txn, stratakv_snapshot *snap, const model *m) {
  stratakv_cursor *c;
  stratakv_error err;
  int rc = stratakv_cursor_open(store, snap, txn, table.id, NULL, &err, &c);
  if (rc != STRATAKV_OK) return 0;
  int ok = cursor_is(c, m);
  stratakv_cursor_close(c);
  return ok;
}

static void put(stratakv_txn *txn, model *m, uint32_t i, uint32_t v) {
  char key[40], value[256];
  stratakv_error err;
  size_t key_len = key_of(i, key), n = value_of(v, value);
  int rc =
      txn ? stratakv_txn_put(txn, table.id, key, key_len, value, n,
                             STRATAKV_BLIND, &err)
          : stratakv_put(store, table.id, key, key_len, value, n, &err, NULL);
  must(rc, &err, "put");
  m->present[i] = 1;
  m->value[i] = v;
}

static void delete (stratakv_txn *txn, model *m, uint32_t i) {
  char key[40];
  stratakv_error err;
  size_t key_len = key_of(i, key);
  int rc = txn ? stratakv_txn_delete(txn, table.id, key, key_len,
                                     STRATAKV_BLIND, &err)
               : stratakv_delete(store, table.id, key, key_len, &err, NULL);
  must(rc, &err, "delete");
  m->present[i] = 0;
}

/* ---- 1 ----------------------------------------------------------------- */

static void test_basic(void) {
  stratakv_error err;
  stratakv_result result;
  uint64_t lsn = 0;
  CHECK(scan_is(NULL, NULL, &now));
  put(NULL, &now, 5, 100);
  put(NULL, &now, 3, 101);
  CHECK(get_is(NULL, NULL, &now, 5));
  CHECK(get_is(NULL, NULL, &now, 4));
  CHECK(scan_is(NULL, NULL, &now));
  delete (NULL, &now, 5);
  CHECK(get_is(NULL, NULL, &now, 5));
  CHECK(scan_is(NULL, NULL, &now));

  /* A table that does not exist is refused everywhere. */
  CHECK(stratakv_put(store, table.id + 1, "x", 1, "", 0, &err, NULL) ==
        STRATAKV_ERROR);
  CHECK(stratakv_get(store, NULL, table.id + 1, "x", 1, &err, NULL) ==
        STRATAKV_ERROR);
  stratakv_batch *stray = stratakv_batch_new();
  stratakv_batch_put(stray, table.id + 1, "x", 1, "", 0);
  CHECK(stratakv_write(store, &stray, 1, &err, NULL) == STRATAKV_ERROR);
  stratakv_table_info later; /* what a write met is not the batch's */
  must(stratakv_table(store, "later", 0, 1, &err, &later), &err, "table");
  CHECK(later.id == table.id + 1);
  CHECK(stratakv_write(store, &stray, 1, &err, NULL) == STRATAKV_OK);
  stratakv_batch_free(stray);

  stratakv_batch *batch = stratakv_batch_new();
  char key[40], value[256];
  size_t key_len = key_of(9, key);
  stratakv_batch_require(batch, table.id, key, key_len, STRATAKV_IF_ABSENT, 0);
  stratakv_batch_put(batch, table.id, key, key_len, value, value_of(55, value));
  CHECK(stratakv_write(store, &batch, 1, &err, &result) == STRATAKV_OK);
  CHECK(result.code == STRATAKV_OK && result.lsn > 0);
  lsn = result.lsn;
  now.present[9] = 1;
  now.value[9] = 55;
  CHECK(stratakv_write(store, &batch, 1, &err, &result) == STRATAKV_OK);
  CHECK(result.code == STRATAKV_CONSTRAINT_CHECK && result.version == lsn);
  stratakv_batch_clear(batch);
  stratakv_batch_require(batch, table.id, key, key_len, STRATAKV_IF_VERSION,
                         lsn);
  stratakv_batch_delete(batch, table.id, key, key_len);
  stratakv_batch *some[] = {batch, NULL};
  stratakv_result both[2];
  CHECK(stratakv_write(store, some, 2, &err, both) == STRATAKV_MISUSE);
  CHECK(both[0].code == STRATAKV_MISUSE && both[1].code == STRATAKV_MISUSE);
  CHECK(stratakv_write(store, &some[1], 1, &err, NULL) == STRATAKV_MISUSE);
  CHECK(stratakv_write(store, NULL, 1, &err, NULL) == STRATAKV_MISUSE);
  CHECK(stratakv_write(store, &batch, 1, &err, NULL) == STRATAKV_OK);
  now.present[9] = 0;
  CHECK(scan_is(NULL, NULL, &now));
  stratakv_batch_free(batch);
  close_store();
  open_store();
  CHECK(scan_is(NULL, NULL, &now));
}

/* ---- 2 ----------------------------------------------------------------- */

static void test_txn(void) {
  stratakv_error err;
  stratakv_txn *a, *b;
  uint64_t mark, lsn;
  model before = now, inside = now;
  must(stratakv_begin(store, &err, &a), &err, "begin");
  put(a, &inside, 20, 7);
  must(stratakv_savepoint(a, &err, &mark), &err, "savepoint");
  model at_mark = inside;
  put(a, &inside, 21, 8);
  delete (a, &inside, 3);
  CHECK(scan_is(a, NULL, &inside));
  CHECK(scan_is(NULL, NULL, &before));
  must(stratakv_rollback_to(a, mark, &err), &err, "rollback to");
  CHECK(scan_is(a, NULL, &at_mark));
  CHECK(stratakv_prepare(a, &err) == STRATAKV_OK);
  CHECK(scan_is(NULL, NULL, &before));
  must(stratakv_commit(a, &err, &lsn), &err, "commit");
  now = at_mark;
  CHECK(scan_is(NULL, NULL, &now));

  must(stratakv_begin(store, &err, &a), &err, "begin");
  put(a, &inside, 30, 9);
  CHECK(stratakv_prepare(a, &err) == STRATAKV_OK);
  stratakv_rollback(a);
  CHECK(scan_is(NULL, NULL, &now));

  /* Two transactions read the same key for write: the second fails. */
  must(stratakv_begin(store, &err, &a), &err, "begin");
  must(stratakv_begin(store, &err, &b), &err, "begin");
  char key[40];
  size_t n = key_of(40, key);
  CHECK(stratakv_txn_put(a, table.id, key, n, "", 0, STRATAKV_SAW_ABSENT,
                         &err) == STRATAKV_OK);
  CHECK(stratakv_txn_put(b, table.id, key, n, "", 0, STRATAKV_SAW_ABSENT,
                         &err) == STRATAKV_OK);
  CHECK(stratakv_commit(a, &err, NULL) == STRATAKV_OK);
  CHECK(stratakv_commit(b, &err, NULL) == STRATAKV_BUSY_SNAPSHOT);
  stratakv_rollback(b);
  now.present[40] = 1;
  now.value[40] = 0;
  CHECK(scan_is(NULL, NULL, &now));
  close_store();
  open_store();
  CHECK(scan_is(NULL, NULL, &now));
}

/* ---- 3 ----------------------------------------------------------------- */

static void random_step(skv_prng *rng) {
  stratakv_error err;
  uint32_t i = (uint32_t)(skv_prng_u64(rng) % MODEL_KEYS);
  uint32_t what = (uint32_t)(skv_prng_u64(rng) % 1000);
  if (what < 600) {
    put(NULL, &now, i, (uint32_t)(skv_prng_u64(rng) & 0xffffff));
  } else if (what < 850) {
    delete (NULL, &now, i);
  } else if (what < 980) {
    CHECK(get_is(NULL, NULL, &now, i));
  } else if (what < 990) {
    CHECK(scan_is(NULL, NULL, &now));
  } else if (what < 996) {
    must(stratakv_flush(store, &err), &err, "flush");
  } else if (what < 998) {
    must(stratakv_compact(store, NULL, NULL, &err), &err, "compact");
    CHECK(scan_is(NULL, NULL, &now));
  } else {
    close_store();
    open_store();
    CHECK(scan_is(NULL, NULL, &now));
  }
}

static void test_random(uint64_t seed, int steps) {
  skv_prng rng;
  rng.state = seed;
  for (int i = 0; i < steps; i++) random_step(&rng);
  CHECK(scan_is(NULL, NULL, &now));
}

/* ---- 4 ----------------------------------------------------------------- */

static void test_large(uint64_t seed) {
  skv_prng rng;
  stratakv_error err;
  stratakv_txn *txn;
  uint64_t lsn, mark = 0;
  rng.state = seed;
  model inside = now, at_mark = now;
  must(stratakv_begin(store, &err, &txn), &err, "begin");
  for (int i = 0; i < 60000; i++) {
    uint32_t k = (uint32_t)(skv_prng_u64(&rng) % MODEL_KEYS);
    put(txn, &inside, k, (uint32_t)(skv_prng_u64(&rng) & 0xffffff));
    if (i % 7 == 0) delete (txn, &inside, (k + 13) % MODEL_KEYS);
    if (i == 30000) {
      must(stratakv_savepoint(txn, &err, &mark), &err, "savepoint");
      at_mark = inside;
      CHECK(scan_is(txn, NULL, &inside));
    }
    if (i % 5000 == 0) CHECK(get_is(txn, NULL, &inside, k));
  }
  CHECK(scan_is(txn, NULL, &inside));
  CHECK(scan_is(NULL, NULL, &now));
  if (seed & 1) {
    must(stratakv_rollback_to(txn, mark, &err), &err, "rollback to");
    inside = at_mark;
    CHECK(scan_is(txn, NULL, &inside));
  }
  must(stratakv_commit(txn, &err, &lsn), &err, "commit");
  now = inside;
  CHECK(scan_is(NULL, NULL, &now));
  put(NULL, &now, 17, 4242);
  CHECK(scan_is(NULL, NULL, &now));
  close_store();
  open_store();
  CHECK(scan_is(NULL, NULL, &now));
}

/* ---- 5 ----------------------------------------------------------------- */

static void test_snapshots(uint64_t seed) {
  enum { COUNT = 6 };
  stratakv_snapshot *snaps[COUNT];
  stratakv_cursor *cursors[COUNT];
  model *models = calloc(COUNT, sizeof *models);
  stratakv_error err;
  skv_prng rng;
  rng.state = seed;
  for (int s = 0; s < COUNT; s++) {
    must(stratakv_snapshot_open(store, &err, &snaps[s]), &err, "snapshot");
    must(stratakv_cursor_open(store, NULL, NULL, table.id, NULL, &err,
                              &cursors[s]),
         &err, "cursor");
    models[s] = now;
    for (int i = 0; i < 3000; i++) {
      uint32_t k = (uint32_t)(skv_prng_u64(&rng) % MODEL_KEYS);
      if (i % 3 == 0)
        delete (NULL, &now, k);
      else
        put(NULL, &now, k, (uint32_t)(skv_prng_u64(&rng) & 0xffffff));
    }
    if (s == 2) must(stratakv_compact(store, NULL, NULL, &err), &err, "c");
  }
  for (int s = 0; s < COUNT; s++) {
    CHECK(scan_is(NULL, snaps[s], &models[s]));
    CHECK(cursor_is(cursors[s], &models[s]));
    CHECK(get_is(NULL, snaps[s], &models[s], 77));
    stratakv_cursor_close(cursors[s]);
    stratakv_snapshot_close(snaps[s]);
  }
  free(models);
}

/* ---- 6 ----------------------------------------------------------------- */

/* A log that the manifest names and that is gone is damage, and is named. */
static void test_missing_log(void) {
  char command[5000];
  stratakv_error err;
  snprintf(command, sizeof command, "rm '%s'/*.wal", path);
  CHECK(system(command) == 0);
  CHECK(stratakv_open(path, &options, &err, &store) == STRATAKV_CORRUPT);
  CHECK(strstr(err.message, ".wal") != NULL);
}

static void run_all(const char *dir, const char *name, int steps) {
  snprintf(path, sizeof path, "%s/%s", dir, name);
  memset(&now, 0, sizeof now);
  open_store();
  test_basic();
  test_txn();
  test_random(1, steps);
  test_snapshots(2);
  test_large(4);
  test_large(5);
  test_random(6, steps / 2);
  close_store();
  test_missing_log();
}

int main(int argc, char **argv) {
  const char *parent = argc > 1 ? argv[1] : "build/tmp/db_test";
  char dir[4000]; /* a fresh one */
  files_begin();
  mkdir(parent, 0777);
  snprintf(dir, sizeof dir, "%s/%ld", parent, (long)getpid());
  mkdir(dir, 0777);
  stratakv_options_init(&options);
  options.wal_size = 64 << 10;
  options.memory = 4 << 20;
  options.sync = STRATAKV_SYNC_OFF;
  run_all(dir, "tiny.strata", 4000);
  options.background = 0;
  run_all(dir, "tiny_inline.strata", 1000);
  options.background = 1;
  options.mmap = 0;
  options.compression = STRATAKV_COMPRESSION_ZSTD;
  run_all(dir, "tiny_nommap.strata", 1000);
  stratakv_options_init(&options);
  run_all(dir, "default.strata", 400);
  return check_end();
}
