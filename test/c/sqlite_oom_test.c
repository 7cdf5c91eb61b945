/*
 * Out of memory where SQLite allocates: each allocation that goes through
 * SQLite's allocator (its own, and the extension's sqlite3_malloc) fails in
 * turn, once or (every fifth) from then on within a statement, over a script of SQL on a
 * table of a store in the real file system.
 *
 * An ordinary table in another database gets each statement that succeeded.
 * After one that failed, which is SQLITE_NOMEM and nothing else, both hold the
 * same; so they do at the end, and when the store is opened again. Once all is
 * closed, SQLite's memory and the engine's are as before.
 *
 *   sqlite_oom_test [MODE N]   runs only that; MODE 0: once, 1: from then on
 *
 * Links with SQLite. Covers: INV-10
 * Timeout: 120
 */
#include <sqlite3.h>
#include <string.h>

#include "test/c/harness.h"
#include "test/c/real_dir.h"

#define STRIDE_IN_CI 5 /* from then on; once: every one of them */

/* ---- The allocator ----------------------------------------------------- */

static sqlite3_mem_methods plain;
static struct {
  bool is_armed, is_forever;
  uint64_t calls, nth, fired;
} oom;

static bool oom_fires(void) {
  if (!oom.is_armed) return false;
  uint64_t n = ++oom.calls;
  bool fires = oom.nth != 0 && (oom.is_forever ? n >= oom.nth : n == oom.nth);
  oom.fired += fires;
  return fires;
}

static void *oom_malloc(int size) {
  return oom_fires() ? NULL : plain.xMalloc(size);
}

static void *oom_realloc(void *p, int size) {
  return oom_fires() ? NULL : plain.xRealloc(p, size);
}

static void oom_install(void) {
  sqlite3_mem_methods methods;
  CHECK(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain) == SQLITE_OK);
  methods = plain;
  methods.xMalloc = oom_malloc;
  methods.xRealloc = oom_realloc;
  CHECK(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK);
}

/* ---- Databases --------------------------------------------------------- */

static char extension[PATH_MAX];
static sqlite3 *control, *tested; /* the ordinary table; the store's */

static void find_extension(void) {
  ssize_t n = readlink("/proc/self/exe", extension, sizeof extension - 20);
  if (n <= 0) abort();
  extension[n] = 0;
  for (int i = 0; i < 2; i++) *strrchr(extension, '/') = 0;
  strcat(extension, "/stratakv.so");
}

/* Nothing from lookaside: every allocation can fail. */
static sqlite3 *connect_plain(void) {
  sqlite3 *db = NULL;
  if (sqlite3_open_v2(":memory:", &db,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                      NULL) != SQLITE_OK)
    abort();
  sqlite3_db_config(db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 0, 0);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, (int *)NULL);
  sqlite3_extended_result_codes(db, 1);
  return db;
}

static int load(sqlite3 *db, const char *entry) {
  return sqlite3_load_extension(db, extension, entry, NULL);
}

/* The first column of the first row as text, "" if there is none. */
static void ask(sqlite3 *db, const char *sql, char *out, size_t size) {
  sqlite3_stmt *stmt = NULL;
  out[0] = 0;
  int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(stmt);
  if (rc == SQLITE_ROW)
    snprintf(out, size, "%s", (const char *)sqlite3_column_text(stmt, 0));
  rc = sqlite3_finalize(stmt);
  if (!CHECK(rc == SQLITE_OK)) printf("%s: %s\n", sql, sqlite3_errmsg(db));
}

static void check_same(const char *after) {
  static const char *const sql =
      "SELECT group_concat(key || '=' || quote(value)) FROM"
      " (SELECT key, value FROM kv ORDER BY key)";
  static char have[8192], want[8192];
  ask(tested, sql, have, sizeof have);
  ask(control, sql, want, sizeof want);
  if (!CHECK(strcmp(have, want) == 0))
    printf("after %s\n  have %s\n  want %s\n", after, have, want);
}

/* ---- The script -------------------------------------------------------- */

#define CREATE                                                                 \
  "CREATE VIRTUAL TABLE temp.kv USING"                                         \
  " stratakv('%s', key=int, sync=off, background=off)"

static const struct step {
  bool is_both; /* the ordinary table gets it, too */
  const char *sql;
} script[] = {
    {true, "INSERT INTO kv VALUES(1,'one'),(2,'two'),(3,'three'),(9,NULL)"},
    {true, "INSERT OR REPLACE INTO kv SELECT key + 10, value || 'x' FROM kv"},
    {true, "UPDATE kv SET value = value || '!' WHERE key BETWEEN 2 AND 12"},
    {true, "UPDATE kv SET key = key + 100 WHERE key = 3"},
    {true, "DELETE FROM kv WHERE key IN (1, 11, 77)"},
    {false, "INSERT INTO kv(kv) VALUES('flush')"},
    {true, "BEGIN"},
    {true, "INSERT INTO kv VALUES(20,'twenty'),(21,'more')"},
    {true, "SAVEPOINT s"},
    {true, "DELETE FROM kv WHERE key < 10"},
    {true, "INSERT INTO kv VALUES(30, printf('%.300c', 'z'))"},
    {true, "ROLLBACK TO s"},
    {true, "UPDATE kv SET value = 'set' WHERE key = 20"},
    {true, "RELEASE s"},
    {true, "COMMIT"},
    {true, "BEGIN"},
    {true, "DELETE FROM kv"},
    {true, "ROLLBACK"},
    {false, "SELECT value FROM kv WHERE key > 2 AND key <= 20 ORDER BY key"},
    {false, "SELECT key FROM kv WHERE key >= 12 ORDER BY key DESC LIMIT 2"},
    {false, "SELECT a.key FROM kv a JOIN kv b ON b.key = a.key + 10"},
    {false, "SELECT count(*) FROM kv WHERE key IN (2, 12, 20, 500)"},
    {false, "SELECT name, value FROM stratakv_stats('kv')"},
    {false, "SELECT * FROM stratakv_verify('kv')"},
    {false, "SELECT * FROM stratakv_options"},
    {false, "SELECT * FROM stratakv_estimate('kv', 1, 10)"},
    {false, "INSERT INTO kv(kv) VALUES('optimize')"},
    {false, "INSERT INTO kv(kv) VALUES('integrity-check')"},
    {false, "INSERT INTO kv(kv, key, value) VALUES('config', 'sync', 'off')"},
    {true, "INSERT INTO kv VALUES(50, zeroblob(400)), (51, x'00ff')"},
    {true, "UPDATE kv SET value = value || 'text' WHERE key = 50"},
    {true, "INSERT OR IGNORE INTO kv VALUES(2,'dup'),(40,'forty')"},
};
#define STEPS (sizeof script / sizeof *script)

static bool is_nomem(int rc) { return (rc & 0xff) == SQLITE_NOMEM; }

static unsigned found; /* rows of the last statement, and cells of them */

/* Run it with the fault armed. */
static int run(const char *sql) {
  sqlite3_stmt *stmt = NULL;
  found = 0;
  oom.is_armed = true;
  int rc = sqlite3_prepare_v2(tested, sql, -1, &stmt, NULL);
  if (rc == SQLITE_OK)
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
      found += 1000;
      for (int i = 0; i < sqlite3_column_count(stmt); i++)
        found += sqlite3_column_type(stmt, i) != SQLITE_NULL;
    }
  int done = sqlite3_finalize(stmt);
  oom.is_armed = false;
  if (rc == SQLITE_DONE) rc = done;
  if (rc != SQLITE_OK && !CHECK(is_nomem(rc) && oom.fired > 0))
    printf("%s: %d %s\n", sql, rc, sqlite3_errmsg(tested));
  if (oom.fired > 0 && oom.is_forever) oom.nth = 0; /* one statement's */
  return rc;
}

static void run_step(const struct step *step) {
  static unsigned wanted[STEPS]; /* when nothing failed before */
  int rc = run(step->sql);
  unsigned *want = &wanted[step - script];
  bool is_whole = oom.fired == 0;
  if (oom.nth == 0 && is_whole) *want = found;
  bool is_table = strstr(step->sql, "stratakv_") != NULL;
  if (rc == SQLITE_OK && is_table) CHECK(found == *want);
  if (rc == SQLITE_OK && step->is_both) {
    rc = sqlite3_exec(control, step->sql, NULL, NULL, NULL);
    CHECK(rc == SQLITE_OK);
  }
  /* Out of memory may end the whole transaction. */
  if (sqlite3_get_autocommit(tested) && !sqlite3_get_autocommit(control))
    CHECK(sqlite3_exec(control, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK);
  if (rc != SQLITE_OK) check_same(step->sql);
}

/* What does not fit since BEGIN, SAVEPOINT or COMMIT failed. */
static bool is_left_out(const struct step *step, bool in_txn, bool in_mark) {
  const char *sql = step->sql;
  if (strcmp(sql, "BEGIN") == 0) return in_txn; /* a COMMIT failed */
  if (strcmp(sql, "COMMIT") == 0 || strcmp(sql, "ROLLBACK") == 0)
    return !in_txn;
  return (strcmp(sql, "ROLLBACK TO s") == 0 || strcmp(sql, "RELEASE s") == 0) &&
         (!in_txn || !in_mark);
}

static void run_script(void) {
  bool in_mark = false;
  for (size_t i = 0; i < STEPS; i++) {
    bool in_txn = !sqlite3_get_autocommit(tested);
    if (is_left_out(&script[i], in_txn, in_mark)) continue;
    uint64_t fired = oom.fired;
    run_step(&script[i]);
    if (strcmp(script[i].sql, "SAVEPOINT s") == 0) in_mark = oom.fired == fired;
    if (sqlite3_get_autocommit(tested)) in_mark = false;
  }
  if (!sqlite3_get_autocommit(tested)) (void)run("ROLLBACK");
  if (!sqlite3_get_autocommit(control))
    sqlite3_exec(control, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- One run ----------------------------------------------------------- */

static void make_table(char sql[PATH_MAX + 200]) {
  snprintf(sql, PATH_MAX + 200, CREATE, real_path("store"));
}

static void open_again(void) {
  char sql[PATH_MAX + 200];
  tested = connect_plain();
  CHECK(load(tested, "sqlite3_stratakv_init") == SQLITE_OK);
  make_table(sql);
  CHECK(run(sql) == SQLITE_OK);
  check_same("opening again");
  CHECK(sqlite3_close(tested) == SQLITE_OK);
}

static uint64_t runs;

/* How many allocations there were; nth 0: none fails. */
static uint64_t run_one(uint64_t nth, bool is_forever) {
  char where[64], sql[PATH_MAX + 200], alive[32], after[32];
  snprintf(where, sizeof where, "%d %" PRIu64, is_forever, nth);
  check_where = where;
  unsigned failures = check_failures;
  ask(control, "SELECT skvtest_alloc_count()", alive, sizeof alive);
  CHECK(sqlite3_exec(control,
                     "DROP TABLE IF EXISTS kv;"
                     "CREATE TABLE kv(key INTEGER PRIMARY KEY, value)",
                     NULL, NULL, NULL) == SQLITE_OK);
  memset(&oom, 0, sizeof oom);
  oom.nth = nth;
  oom.is_forever = is_forever;
  tested = connect_plain();
  oom.is_armed = true;
  int rc = load(tested, "sqlite3_stratakv_init");
  oom.is_armed = false;
  if (rc != SQLITE_OK) { /* its own load is in the script, too */
    CHECK(oom.fired > 0);
    if (is_forever) oom.nth = 0;
    CHECK(load(tested, "sqlite3_stratakv_init") == SQLITE_OK);
  }
  make_table(sql);
  if (run(sql) != SQLITE_OK) {
    if (is_forever) oom.nth = 0;
    CHECK(run(sql) == SQLITE_OK);
  }
  run_script();
  check_same("all");
  oom.is_armed = true;
  CHECK(sqlite3_close(tested) == SQLITE_OK);
  oom.is_armed = false;
  uint64_t calls = oom.calls, fired = oom.fired;
  oom.nth = 0;
  open_again();
  CHECK(nth == 0 || fired > 0);
  real_dir_remove();
  (void)mkdir(real_dir, 0777);
  ask(control, "SELECT skvtest_alloc_count()", after, sizeof after);
  CHECK(strcmp(alive, after) == 0);
  if (check_failures > failures)
    printf("repeat: sqlite_oom_test %d %" PRIu64 "\n", is_forever, nth);
  check_where = "";
  runs++;
  return calls;
}

int main(int argc, char **argv) {
  harness_begin(0, argv);
  setenv("SKV_TEST_WAL_SIZE", "65536", 1);
  real_dir_make_quick("stratakv-oom");
  find_extension();
  oom_install();
  control = connect_plain();
  CHECK(load(control, "sqlite3_skvtest_init") == SQLITE_OK);
  uint64_t calls = run_one(0, false);
  (void)run_one(0, false);
  sqlite3_int64 used = sqlite3_memory_used();
  for (int mode = 0; mode < 2; mode++) {
    uint64_t n = argc > 2 ? strtoull(argv[2], NULL, 10) : 1 + (uint64_t)mode;
    uint64_t stride = harness.share * (mode == 1 ? STRIDE_IN_CI : 1);
    if (harness.soak_s > 0) stride = 1;
    if (argc > 2 && atoi(argv[1]) != mode) continue;
    for (; n <= calls && check_failures < 20; n += stride) {
      (void)run_one(n, mode == 1);
      if (argc > 2) break;
    }
  }
  (void)run_one(0, false);
  CHECK(sqlite3_memory_used() <= used);
  printf("%" PRIu64 " allocations\n", calls);
  harness_count("sqlite-oom-runs", runs);
  CHECK(sqlite3_close(control) == SQLITE_OK);
  real_dir_remove();
  return check_end();
}
