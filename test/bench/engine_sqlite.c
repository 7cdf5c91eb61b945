/*
 * An ordinary SQLite WITHOUT ROWID table for the benchmark: WAL mode, one
 * autocommit statement per put, statements prepared once per thread.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* A thread's connection. */
typedef struct sqlite_thread {
  sqlite3 *db;
  sqlite3_stmt *put;
  sqlite3_stmt *get;
  sqlite3_stmt *scan;
} sqlite_thread;

static char path[4096];
static bool synced;

static void run(sqlite3 *db, const char *sql) {
  char *message = NULL;
  if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
    bench_fail("sqlite %s: %s", sql, message);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *stmt;
  if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) !=
      SQLITE_OK)
    bench_fail("sqlite %s: %s", sql, sqlite3_errmsg(db));
  return stmt;
}

static void sql_describe(char *text, size_t size) {
  snprintf(text, size,
           "%s, Debian's build; WITHOUT ROWID, WAL mode, cache_size=256M, "
           "mmap_size=2G, checkpoint at 64M; synchronous=OFF or FULL; no "
           "compression",
           sqlite3_libversion());
}

static void *sql_thread_begin(void) {
  sqlite_thread *t = calloc(1, sizeof *t);
  char sql[200];
  if (t == NULL || sqlite3_open(path, &t->db) != SQLITE_OK)
    bench_fail("sqlite open");
  sqlite3_busy_timeout(t->db, 60000);
  snprintf(sql, sizeof sql,
           "PRAGMA synchronous=%s; PRAGMA cache_size=-262144;"
           "PRAGMA mmap_size=2147483648; PRAGMA wal_autocheckpoint=16384",
           synced ? "FULL" : "OFF");
  run(t->db, sql);
  t->put = prepare(t->db, "INSERT OR REPLACE INTO kv VALUES(?,?)");
  t->get = prepare(t->db, "SELECT v FROM kv WHERE k=?");
  t->scan = prepare(t->db, "SELECT k,v FROM kv WHERE k>=? ORDER BY k");
  return t;
}

static void sql_thread_end(void *thread) {
  sqlite_thread *t = thread;
  sqlite3_finalize(t->put);
  sqlite3_finalize(t->get);
  sqlite3_finalize(t->scan);
  sqlite3_close(t->db);
  free(t);
}

static sqlite3 *keeper; /* keeps the WAL from being removed between threads */

static void sql_open(const char *dir, bool is_synced) {
  synced = is_synced;
  snprintf(path, sizeof path, "%s/bench.db", dir);
  if (sqlite3_open(path, &keeper) != SQLITE_OK) bench_fail("sqlite open");
  run(keeper, "PRAGMA journal_mode=WAL;"
              "CREATE TABLE kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
}

static void sql_close(void) { sqlite3_close(keeper); }

static void sql_put(void *thread, const char *key, const char *value) {
  sqlite_thread *t = thread;
  sqlite3_bind_blob(t->put, 1, key, BENCH_KEY, SQLITE_STATIC);
  sqlite3_bind_blob(t->put, 2, value, BENCH_VALUE, SQLITE_STATIC);
  if (sqlite3_step(t->put) != SQLITE_DONE)
    bench_fail("sqlite put: %s", sqlite3_errmsg(t->db));
  sqlite3_reset(t->put);
}

static bool sql_get(void *thread, const char *key, char *value) {
  sqlite_thread *t = thread;
  sqlite3_bind_blob(t->get, 1, key, BENCH_KEY, SQLITE_STATIC);
  int rc = sqlite3_step(t->get);
  if (rc == SQLITE_ROW) {
    if (sqlite3_column_bytes(t->get, 0) != BENCH_VALUE)
      bench_fail("sqlite get: size");
    memcpy(value, sqlite3_column_blob(t->get, 0), BENCH_VALUE);
  } else if (rc != SQLITE_DONE) {
    bench_fail("sqlite get: %s", sqlite3_errmsg(t->db));
  }
  sqlite3_reset(t->get);
  return rc == SQLITE_ROW;
}

static void sql_scan(void *thread, const char *from, bench_visit visit,
                     void *arg) {
  sqlite_thread *t = thread;
  int rc;
  sqlite3_bind_blob(t->scan, 1, from == NULL ? "" : from,
                    from == NULL ? 0 : BENCH_KEY, SQLITE_STATIC);
  while ((rc = sqlite3_step(t->scan)) == SQLITE_ROW) {
    if (!visit(arg, sqlite3_column_blob(t->scan, 0),
               (size_t)sqlite3_column_bytes(t->scan, 0),
               sqlite3_column_blob(t->scan, 1),
               (size_t)sqlite3_column_bytes(t->scan, 1)))
      break;
  }
  if (rc != SQLITE_ROW && rc != SQLITE_DONE)
    bench_fail("sqlite scan: %s", sqlite3_errmsg(t->db));
  sqlite3_reset(t->scan);
}

static void sql_settle(void) { run(keeper, "PRAGMA wal_checkpoint(TRUNCATE)"); }

const bench_engine bench_this_engine = {
    .name = "sqlite",
    .describe = sql_describe,
    .open = sql_open,
    .close = sql_close,
    .thread_begin = sql_thread_begin,
    .thread_end = sql_thread_end,
    .put = sql_put,
    .get = sql_get,
    .scan = sql_scan,
    .settle = sql_settle,
};
