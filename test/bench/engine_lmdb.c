/*
 * LMDB for the benchmark: one transaction per put; unsynced runs use
 * WRITEMAP, NOSYNC as its documentation advises for speed, synced ones its
 * defaults. A reading thread keeps one read transaction and renews it.
 */
#include <lmdb.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"

#define MAP_SIZE (16ull << 30)

static MDB_env *env;
static MDB_dbi dbi;

static void check(int rc, const char *what) {
  if (rc != 0) bench_fail("lmdb %s: %s", what, mdb_strerror(rc));
}

static void lmdb_describe(char *text, size_t size) {
  snprintf(text, size,
           "%d.%d.%d, Debian's build; unsynced: WRITEMAP NOSYNC; synced: "
           "defaults; its cache is the page cache; no compression",
           MDB_VERSION_MAJOR, MDB_VERSION_MINOR, MDB_VERSION_PATCH);
}

static void lmdb_open(const char *dir, bool is_synced) {
  MDB_txn *txn;
  check(mdb_env_create(&env), "create");
  check(mdb_env_set_mapsize(env, MAP_SIZE), "mapsize");
  unsigned flags = is_synced ? 0 : MDB_WRITEMAP | MDB_NOSYNC;
  check(mdb_env_open(env, dir, flags | MDB_NOTLS, 0600), "open");
  check(mdb_txn_begin(env, NULL, 0, &txn), "begin");
  check(mdb_dbi_open(txn, NULL, 0, &dbi), "dbi");
  check(mdb_txn_commit(txn), "commit");
}

static void lmdb_close(void) { mdb_env_close(env); }

/* A reset read transaction, renewed by each read. */
static void *lmdb_thread_begin(void) {
  MDB_txn *txn;
  check(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), "begin");
  mdb_txn_reset(txn);
  return txn;
}

static void lmdb_thread_end(void *thread) { mdb_txn_abort(thread); }

static void lmdb_put(void *thread, const char *key, const char *value) {
  MDB_txn *txn;
  MDB_val k = {BENCH_KEY, (void *)(uintptr_t)key};
  MDB_val v = {BENCH_VALUE, (void *)(uintptr_t)value};
  (void)thread;
  check(mdb_txn_begin(env, NULL, 0, &txn), "begin");
  check(mdb_put(txn, dbi, &k, &v, 0), "put");
  check(mdb_txn_commit(txn), "commit");
}

static bool lmdb_get(void *thread, const char *key, char *value) {
  MDB_val k = {BENCH_KEY, (void *)(uintptr_t)key}, v;
  check(mdb_txn_renew(thread), "renew");
  int rc = mdb_get(thread, dbi, &k, &v);
  if (rc == 0) {
    if (v.mv_size != BENCH_VALUE) bench_fail("lmdb get: size");
    memcpy(value, v.mv_data, BENCH_VALUE);
  } else if (rc != MDB_NOTFOUND) {
    check(rc, "get");
  }
  mdb_txn_reset(thread);
  return rc == 0;
}

static void lmdb_scan(void *thread, const char *from, bench_visit visit,
                      void *arg) {
  MDB_cursor *c;
  MDB_val k = {BENCH_KEY, (void *)(uintptr_t)from}, v;
  check(mdb_txn_renew(thread), "renew");
  check(mdb_cursor_open(thread, dbi, &c), "cursor");
  int rc = mdb_cursor_get(c, &k, &v, from == NULL ? MDB_FIRST : MDB_SET_RANGE);
  while (rc == 0 && visit(arg, k.mv_data, k.mv_size, v.mv_data, v.mv_size))
    rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
  if (rc != 0 && rc != MDB_NOTFOUND) check(rc, "scan");
  mdb_cursor_close(c);
  mdb_txn_reset(thread);
}

static void lmdb_settle(void) { check(mdb_env_sync(env, 1), "sync"); }

const bench_engine bench_this_engine = {
    .name = "lmdb",
    .describe = lmdb_describe,
    .open = lmdb_open,
    .close = lmdb_close,
    .thread_begin = lmdb_thread_begin,
    .thread_end = lmdb_thread_end,
    .put = lmdb_put,
    .get = lmdb_get,
    .scan = lmdb_scan,
    .settle = lmdb_settle,
};
