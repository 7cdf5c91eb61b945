/*
 * Everything that a store does, with each of its calls failing in turn.
 *
 * A scenario is a store made ready, and something done with it. It first runs
 * without a fault, and every call of the allocator and of the environment is
 * noted with the place it comes from. Then it runs again and again, and each
 * time another call fails: once or from then on, with the codes of
 * fault_kinds. After each run
 *
 *   - what succeeded is there and what failed is not; only a failed sync leaves
 *     open whether its commit is there, until the store is opened again;
 *   - the same handle works, or (after a failed sync) reads and says READONLY;
 *   - so does the store that a death at this moment leaves;
 *   - after closing no memory, file or mapping is left, and a new handle on
 *     the same files shows the model's rows, and takes writes.
 *
 * At the end the sites that were reached and those that were made to fail are
 * the same set.
 *
 *   fault_sites_test [SCENARIO [KIND [N]]]   runs only that
 *
 * Covers: INV-1, INV-2, INV-3, INV-10, P12
 * Timeout: 300
 * Soak: 4
 */
#include "engine/db/salvage.h"
#include "test/c/fault_loop.h"
#include "test/c/harness.h"

#define KEYS 100
#define LARGE 250     /* changes of a transaction that does not fit the log */
#define RUNS_IN_CI 64 /* of a scenario and kind, at most */

static stratakv_store *store, *second; /* handles of two processes */
static stratakv_table_info table;
static stratakv_options options;
static uint32_t rows[KEYS];  /* the model: what is acknowledged */
static uint32_t next[KEYS];  /* what a commit under way makes of it */
static uint32_t maybe[KEYS]; /* what a commit of unknown outcome may have */
static bool is_unknown;      /* there is such a commit */
static bool is_fenced;       /* a sync failed */
static bool must_be_fenced;  /* of the log or the head, not of a new file */
static int allowed;          /* the code of the fault */
static uint32_t next_value;
static uint64_t runs, memory_runs;

/* ---- Doing things ------------------------------------------------------ */

/* A sync may fail where nobody is told: behind a large commit's INGEST, or the
 * ABORT of a rollback. The next write says so. */
static bool met_fence(void) {
  bool may = allowed == STRATAKV_IOERR || allowed == STRATAKV_IOERR_FSYNC;
  if (may && store != NULL && skv_load(&store->db->shared->fence))
    is_fenced = true;
  return is_fenced;
}

/* Whether it succeeded; a failure must be the one that was asked for. BUSY: a
 * stall while nothing can be flushed, or a lock that could not be taken. */
static bool did(int rc, const char *what) {
  bool is_sync = rc == STRATAKV_IOERR_FSYNC &&
                 (allowed == STRATAKV_IOERR || allowed == rc);
  if (is_sync) is_fenced = true;
  if (is_sync && store != NULL && strstr("put delete batch table", what))
    must_be_fenced = true;
  bool fits = rc == STRATAKV_OK || rc == allowed || is_sync ||
              (rc == STRATAKV_BUSY && allowed != STRATAKV_OK) ||
              (rc == STRATAKV_READONLY && met_fence());
  if (!CHECK(fits)) printf("%s: %d %s\n", what, rc, fixture_err.message);
  return rc == STRATAKV_OK;
}

/* What became of a commit that would have made `next`. */
static bool settle(int rc, const char *what) {
  bool ok = did(rc, what);
  if (ok) {
    memcpy(rows, next, sizeof rows);
  } else if (rc == STRATAKV_IOERR_FSYNC) {
    memcpy(maybe, next, sizeof maybe);
    is_unknown = true;
  }
  memcpy(next, rows, sizeof next);
  return ok;
}

static void open_store(void) {
  memset(&table, 0, sizeof table);
  if (store == NULL)
    did(skv_open_in(fault_world.env, FIXTURE_PATH, &options, &fixture_err,
                    &store),
        "open");
  if (store != NULL)
    did(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, options.create,
                       &fixture_err, &table),
        "table");
}

static bool is_open(void) { return store != NULL && table.id != 0; }

static void close_store(void) {
  if (store != NULL) did(stratakv_close(store, &fixture_err), "close");
  store = NULL;
}

static void put(uint32_t i) {
  next[i] = ++next_value;
  settle(fixture_put(store, table.id, i, next[i], NULL), "put");
}

static void drop(uint32_t i) {
  next[i] = 0;
  settle(fixture_put(store, table.id, i, 0, NULL), "delete");
}

static void put_many(uint32_t count, uint32_t step) {
  for (uint32_t i = 0; i < count; i++) put(i * step % KEYS);
}

static void get(uint32_t i) {
  stratakv_value value = {0};
  char key[32];
  size_t key_len = fixture_key(i, key);
  int rc =
      stratakv_get(store, NULL, table.id, key, key_len, &fixture_err, &value);
  if (rc == STRATAKV_NOTFOUND)
    CHECK(rows[i] == 0);
  else if (did(rc, "get"))
    CHECK(fixture_number(value.data, value.size) == rows[i]);
  stratakv_value_clear(&value);
}

static void scan(void) {
  uint32_t seen[KEYS];
  if (did(fixture_scan(store, table.id, seen, KEYS), "scan"))
    CHECK(memcmp(seen, rows, sizeof seen) == 0);
}

/* From the end, and from the middle. */
static void scan_back(void) {
  stratakv_cursor *c = NULL;
  char key[32];
  uint32_t count = 0, want = 0;
  for (uint32_t i = 0; i < KEYS; i++) want += rows[i] != 0;
  int rc =
      stratakv_cursor_open(store, NULL, NULL, table.id, NULL, &fixture_err, &c);
  if (rc == STRATAKV_OK) rc = stratakv_cursor_last(c, &fixture_err);
  for (; rc == STRATAKV_OK && stratakv_cursor_valid(c); count++)
    rc = stratakv_cursor_prev(c, &fixture_err);
  if (did(rc, "scan back")) CHECK(count == want);
  if (rc == STRATAKV_OK)
    rc = stratakv_cursor_seek(c, key, fixture_key(50, key), &fixture_err);
  if (rc == STRATAKV_OK)
    rc = stratakv_cursor_seek_back(c, key, fixture_key(30, key), &fixture_err);
  did(rc, "seek");
  stratakv_cursor_close(c);
}

static bool txn_put_many(stratakv_txn *txn, uint32_t count, uint32_t step) {
  bool ok = true;
  for (uint32_t n = 0; ok && n < count; n++) {
    uint32_t i = n * step % KEYS, v = n % 7 == 6 ? 0 : ++next_value;
    ok = did(fixture_txn_put(txn, table.id, i, v), "txn put");
    if (ok) next[i] = v;
  }
  return ok;
}

/* Behind a PREPARE that could be undone in no way the outcome is open. */
static void txn_give_up(stratakv_txn *txn, bool prepared) {
  int rc = stratakv_rollback(txn);
  if (!did(rc, "rollback") && CHECK(prepared)) {
    memcpy(maybe, next, sizeof maybe);
    is_unknown = true;
  }
  memcpy(next, rows, sizeof next);
}

/* how: c commit, p prepare and commit, a prepare and roll back, r roll back */
static void txn_run(uint32_t changes, char how) {
  stratakv_txn *txn = NULL;
  uint32_t marked[KEYS];
  uint64_t mark = 0;
  if (!did(stratakv_begin(store, &fixture_err, &txn), "begin")) return;
  bool ok = txn_put_many(txn, changes / 2, 37);
  memcpy(marked, next, sizeof marked);
  if (ok) ok = did(stratakv_savepoint(txn, &fixture_err, &mark), "savepoint");
  if (ok) ok = txn_put_many(txn, changes, 11);
  if (ok)
    ok = did(stratakv_rollback_to(txn, mark, &fixture_err), "rollback to");
  if (ok) memcpy(next, marked, sizeof next);
  if (ok) ok = txn_put_many(txn, changes / 2, 13);
  if (ok && how == 'r') ok = false;
  bool prepared = ok && (how == 'p' || how == 'a');
  if (prepared) {
    int rc = stratakv_prepare(txn, &fixture_err);
    ok = did(rc, "prepare");
    if (rc == STRATAKV_IOERR_FSYNC) {
      memcpy(maybe, next, sizeof maybe);
      is_unknown = true;
    }
  }
  if (!ok || how == 'a') {
    txn_give_up(txn, prepared);
    return;
  }
  int rc = stratakv_commit(txn, &fixture_err, NULL);
  CHECK(rc == STRATAKV_OK || !prepared); /* it cannot fail */
  if (rc != STRATAKV_OK && rc != STRATAKV_IOERR_FSYNC) stratakv_rollback(txn);
  settle(rc, "commit");
}

static void batch_run(uint32_t condition) {
  char key[32], value[512];
  stratakv_batch *batch = stratakv_batch_new();
  if (batch == NULL) {
    CHECK(allowed == STRATAKV_NOMEM);
    return;
  }
  for (uint32_t i = 20; i < 24; i++) {
    next[i] = ++next_value;
    size_t size = fixture_value(next[i], value);
    (void)stratakv_batch_put(batch, table.id, key, fixture_key(i, key), value,
                             size);
  }
  next[25] = 0;
  (void)stratakv_batch_delete(batch, table.id, key, fixture_key(25, key));
  (void)stratakv_batch_require(batch, table.id, key, fixture_key(20, key),
                               (int)condition, 0);
  stratakv_result result = {0};
  int rc = stratakv_write(store, &batch, 1, &fixture_err, &result);
  bool holds = (rows[20] == 0) == (condition == STRATAKV_IF_ABSENT);
  CHECK(rc == STRATAKV_OK || rc == result.code);
  if (rc == STRATAKV_OK) rc = result.code;
  if (rc == STRATAKV_CONSTRAINT_CHECK) {
    CHECK(!holds);
    memcpy(next, rows, sizeof next);
  } else {
    CHECK(holds || rc != STRATAKV_OK);
    settle(rc, "batch");
  }
  stratakv_batch_free(batch);
}

static void flush(void) { did(stratakv_flush(store, &fixture_err), "flush"); }

static void compact(void) {
  did(stratakv_compact(store, NULL, NULL, &fixture_err), "compact");
}

/* ---- Stores made ready ------------------------------------------------- */

typedef struct ready {
  fixture_image image;
  uint32_t rows[KEYS];
  bool same_boot;
} ready;

/* empty; used and closed; the same left by a death after an INGEST, whose
 * segments are not named yet; left with the log ended and no next one */
enum { EMPTY, CLOSED, DEAD, UNNAMED, READY };
static ready made[READY];

static fixture_image caught;
static bool want_unnamed;

/* Between the INGEST's sync and its edit: the first manifest write after it. */
static void catch_event(void) {
  if (!want_unnamed || store == NULL) return;
  const skv_shared *s = store->db->shared;
  if (skv_load(&s->visible) == skv_load(&s->tail)) return;
  if (store->db->last_type != SKV_RECORD_INGEST) return;
  if (skv_load(&s->durable) != skv_load(&s->tail)) return;
  want_unnamed = false;
  caught = fixture_take(fault_world.mem);
}

static void world_begin(const ready *from) {
  options = fixture_options();
  memset(next, 0, sizeof next);
  memset(rows, 0, sizeof rows);
  if (from != NULL) memcpy(rows, from->rows, sizeof rows);
  memcpy(next, rows, sizeof next);
  is_unknown = is_fenced = must_be_fenced = false;
  allowed = STRATAKV_OK;
  next_value = 100000;
  fault_world.mem =
      fixture_world(from != NULL ? &from->image : &(fixture_image){0});
  if (from != NULL && from->same_boot) fixture_same_boot(fault_world.mem);
  fault_world.env = skv_env_fault_new(fault_world.mem);
  store = second = NULL;
}

static void world_end(void) {
  skv_env_fault_free(fault_world.env);
  skv_env_mem_free(fault_world.mem);
}

static void make_keep(int which, fixture_image image, bool same_boot) {
  made[which].image = image;
  made[which].same_boot = same_boot;
  memcpy(made[which].rows, rows, sizeof rows);
}

/* Runs at level 0 and below, tombstones, and something in the log. */
static void make_all(void) {
  world_begin(NULL);
  make_keep(EMPTY, fixture_take(fault_world.mem), false);
  open_store();
  put_many(150, 7);
  flush();
  compact();
  put_many(40, 3);
  for (uint32_t i = 0; i < 10; i++) drop(i * 9);
  flush();
  put_many(10, 17);
  flush();
  put_many(12, 5);
  drop(33);
  make_keep(DEAD, fixture_take(fault_world.mem), true);
  want_unnamed = true;
  fault_disk_set(fault_world.mem, catch_event);
  txn_run(LARGE, 'c');
  fault_disk_unset();
  CHECK(!want_unnamed);
  make_keep(UNNAMED, caught, false);
  /* The closed one ends with a log that holds something. */
  txn_run(9, 'p');
  put_many(20, 3);
  close_store();
  make_keep(CLOSED, fixture_take(fault_world.mem), false);
  world_end();
}

/* ---- Scenarios --------------------------------------------------------- */

static void prep_open(void) { open_store(); }

static void prep_none(void) {}

static void body_create(void) {
  open_store();
  if (is_open()) put(1);
  close_store();
}
static void body_open(void) {
  open_store();
  if (is_open()) scan();
}
static void body_put(void) {
  put(1);
  put(2);
  drop(1);
}
static void body_get(void) {
  get(7);
  get(33);
  get(99);
}
static void body_scan(void) {
  scan();
  scan_back();
}
static void body_batch(void) {
  batch_run(STRATAKV_IF_PRESENT);
  batch_run(STRATAKV_IF_ABSENT);
}
static void body_txn(void) {
  txn_run(10, 'c');
  txn_run(10, 'r');
}
static void body_prepare(void) {
  txn_run(10, 'p');
  txn_run(10, 'a');
  put(3);
}
static void body_spill(void) {
  txn_run(LARGE, 'c');
  get(11);
  scan();
}
static void body_spill_rollback(void) {
  txn_run(LARGE, 'r');
  put(4);
}
static void body_spill_abort(void) {
  txn_run(LARGE, 'a');
  put(4);
}
static void body_flush(void) {
  put(8);
  flush();
}
static void prep_compact(void) {
  open_store();
  flush();
  put_many(60, 7);
  flush();
}
static void body_compact(void) { compact(); }
static void body_rotate(void) { put_many(500, 7); }
static void body_gc(void) {
  did(skv_gc(store->db, &fixture_err), "gc");
  put(2);
}
static void prep_swap(void) {
  open_store();
  store->db->head_doubted = true; /* the next edit begins a new manifest */
}
static void body_swap(void) { flush(); }
static void body_close(void) { close_store(); }

static void prep_two(void) {
  open_store();
  skv_env *other = skv_env_mem_process(fault_world.mem);
  OK(skv_open_in(other, FIXTURE_PATH, &options, &fixture_err, &second));
}
static void body_close_one(void) {
  put(1);
  close_store();
}
static void prep_join(void) {
  skv_env *other = skv_env_mem_process(fault_world.mem);
  OK(skv_open_in(other, FIXTURE_PATH, &options, &fixture_err, &second));
}
static void body_join(void) {
  open_store();
  if (!is_open()) return;
  scan();
  put(9);
}
/* The other process commits, so that this one follows head and log. */
static void prep_follow(void) {
  prep_two();
  for (uint32_t i = 0; i < 300; i++) {
    uint32_t key = i * 3 % KEYS;
    rows[key] = ++next_value;
    OK(fixture_put(second, table.id, key, rows[key], NULL));
  }
  OK(stratakv_flush(second, &fixture_err));
  memcpy(next, rows, sizeof next);
}
static void body_follow(void) {
  get(3);
  scan();
  put(9);
}
static void prep_read_only(void) {
  options.read_only = 1;
  options.create = 0;
}
static void body_read_only(void) {
  open_store();
  if (is_open()) scan();
  close_store();
}
static void prep_read_only_join(void) {
  prep_join();
  prep_read_only();
}
static void body_tables(void) {
  stratakv_table_info info;
  did(stratakv_table(store, "more", STRATAKV_KEY_INT, 1, &fixture_err, &info),
      "table");
  size_t count = 0;
  did(stratakv_tables(store, &info, 1, &fixture_err, &count), "tables");
}
static int ignore_figure(void *arg, const char *name, double value,
                         const char *unit, const char *help) {
  SKV_UNUSED(arg);
  SKV_UNUSED(name);
  SKV_UNUSED(value);
  SKV_UNUSED(unit);
  SKV_UNUSED(help);
  return 0;
}
static void body_figures(void) {
  uint64_t entries, bytes;
  did(stratakv_stats(store, ignore_figure, NULL, &fixture_err), "stats");
  did(stratakv_estimate(store, table.id, NULL, 0, NULL, 0, &fixture_err,
                        &entries, &bytes),
      "estimate");
}
static void body_snapshot(void) {
  stratakv_snapshot *snapshot = NULL;
  did(stratakv_snapshot_open(store, &fixture_err, &snapshot), "snapshot");
  put(1);
  flush();
  stratakv_snapshot_close(snapshot);
}

static void body_check(void) {
  int rc = stratakv_check(store, NULL, &fixture_err);
  /* What cannot be read is a finding like any other. */
  bool is_error = allowed == STRATAKV_IOERR || allowed == STRATAKV_CANTOPEN;
  if (rc == STRATAKV_CORRUPT && is_error) rc = allowed;
  did(rc, "check");
}
static void body_backup(void) {
  did(stratakv_backup(store, NULL, "/backup", NULL, &fixture_err, NULL),
      "backup");
}

static void salvage_check(const char *path) {
  uint32_t seen[KEYS];
  stratakv_store *copy = NULL;
  stratakv_table_info info;
  if (OK(skv_open_in(fault_world.env, path, &options, &fixture_err, &copy)) &&
      OK(stratakv_table(copy, "kv", STRATAKV_KEY_TEXT, 0, &fixture_err,
                        &info)) &&
      OK(fixture_scan(copy, info.id, seen, KEYS)))
    CHECK(memcmp(seen, rows, sizeof seen) == 0);
  OK(stratakv_close(copy, &fixture_err));
}
/* What cannot be read is a finding, and costs rows. What is left of one that
 * failed is no store, or the whole of it: at its end, when nothing could be
 * removed any more. */
static void body_salvage(void) {
  stratakv_salvaged kept = {0};
  int rc = skv_salvage_in(fault_world.env, FIXTURE_PATH, "/salvaged", NULL,
                          &fixture_err, &kept);
  bool fired = fault_end(); /* it is all that is to fail */
  if (did(rc, "salvage")) {
    if (kept.findings == 0) salvage_check("/salvaged");
    CHECK(kept.findings == 0 || fired);
    return;
  }
  stratakv_store *left = NULL;
  stratakv_options existing = options;
  existing.create = 0;
  (void)skv_open_in(fault_world.env, "/salvaged", &existing, &fixture_err,
                    &left);
  if (left != NULL) salvage_check("/salvaged");
  OK(stratakv_close(left, &fixture_err));
  OK(skv_salvage_in(fault_world.env, FIXTURE_PATH, "/again", NULL, &fixture_err,
                    &kept));
  CHECK(kept.findings == 0);
  salvage_check("/again");
}

static const struct scenario {
  const char *name;
  int from;
  void (*prep)(void);
  void (*body)(void);
  bool is_shared; /* with a second process, whose syncs nobody notes */
} scenarios[] = {
    {"create", EMPTY, prep_none, body_create, false},
    {"open", CLOSED, prep_none, body_open, false},
    {"recover", DEAD, prep_none, body_open, false},
    {"recover-ingest", UNNAMED, prep_none, body_open, false},
    {"put", CLOSED, prep_open, body_put, false},
    {"get", DEAD, prep_open, body_get, false},
    {"scan", DEAD, prep_open, body_scan, false},
    {"batch", CLOSED, prep_open, body_batch, false},
    {"txn", CLOSED, prep_open, body_txn, false},
    {"prepare", CLOSED, prep_open, body_prepare, false},
    {"spill", CLOSED, prep_open, body_spill, false},
    {"spill-rollback", CLOSED, prep_open, body_spill_rollback, false},
    {"spill-abort", CLOSED, prep_open, body_spill_abort, false},
    {"flush", CLOSED, prep_open, body_flush, false},
    {"compact", CLOSED, prep_compact, body_compact, false},
    {"rotate", CLOSED, prep_open, body_rotate, false},
    {"gc", DEAD, prep_open, body_gc, false},
    {"swap", CLOSED, prep_swap, body_swap, false},
    {"close", CLOSED, prep_open, body_close, false},
    {"close-one", CLOSED, prep_two, body_close_one, true},
    {"join", DEAD, prep_join, body_join, true},
    {"follow", CLOSED, prep_follow, body_follow, true},
    {"read-only", DEAD, prep_read_only, body_read_only, false},
    {"read-only-join", CLOSED, prep_read_only_join, body_read_only, true},
    {"check", DEAD, prep_open, body_check, false},
    {"backup", DEAD, prep_open, body_backup, false},
    {"salvage", DEAD, prep_none, body_salvage, false},
    {"salvage-ingest", UNNAMED, prep_none, body_salvage, false},
    {"tables", CLOSED, prep_open, body_tables, false},
    {"figures", CLOSED, prep_open, body_figures, false},
    {"snapshot", CLOSED, prep_open, body_snapshot, false},
};
#define SCENARIOS (sizeof scenarios / sizeof *scenarios)

/* ---- After a run ------------------------------------------------------- */

/* What a reader finds is the model; behind a commit of unknown outcome it may
 * be either, and is the model from here on. */
static void take(const uint32_t seen[KEYS]) {
  if (is_unknown && memcmp(seen, maybe, sizeof rows) == 0)
    memcpy(rows, seen, sizeof rows);
  CHECK(memcmp(seen, rows, sizeof rows) == 0);
  memcpy(next, rows, sizeof next);
}

/* The store that a death at this moment leaves, seen after a reboot. */
static void check_dead(void) {
  fixture_image image = fixture_take(fault_world.mem);
  uint32_t kept[KEYS], seen[KEYS];
  stratakv_store *other = NULL;
  stratakv_table_info info;
  skv_env *world = fixture_world(&image);
  memcpy(kept, rows, sizeof kept);
  if (OK(skv_open_in(world, FIXTURE_PATH, &options, &fixture_err, &other)) &&
      OK(stratakv_table(other, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err,
                        &info)) &&
      OK(fixture_scan(other, info.id, seen, KEYS)))
    take(seen);
  memcpy(rows, kept, sizeof rows);
  memcpy(next, rows, sizeof next);
  OK(stratakv_close(other, &fixture_err));
  skv_env_mem_free(world);
  fixture_clear(&image);
}

/* The handle that met the fault, or one more if there is none. */
static void check_handle(void) {
  uint32_t seen[KEYS];
  allowed = is_fenced ? STRATAKV_IOERR_FSYNC : STRATAKV_OK;
  bool had = store != NULL;
  open_store();
  if (store == NULL && is_fenced) return; /* recovery's own sync failed */
  if (!CHECK(is_open() || is_fenced)) return;
  if (!is_open()) return;
  int rc = fixture_put(store, table.id, 5, next_value + 1, NULL);
  if (must_be_fenced && had) FAILS(STRATAKV_READONLY, rc);
  if (rc == STRATAKV_READONLY) {
    CHECK(is_fenced);
    if (OK(fixture_scan(store, table.id, seen, KEYS)) && had)
      CHECK(memcmp(seen, rows, sizeof rows) == 0);
    return;
  }
  if (!OK(rc)) return;
  rows[5] = maybe[5] = next[5] = ++next_value;
  if (OK(fixture_scan(store, table.id, seen, KEYS))) take(seen);
  check_dead();
  flush();
  txn_run(6, 'c');
  compact();
  scan();
}

static void check_second(void) {
  uint32_t seen[KEYS];
  if (second == NULL) return;
  if (OK(fixture_scan(second, table.id, seen, KEYS))) take(seen);
  skv_env *other = second->db->env;
  OK(stratakv_close(second, &fixture_err));
  CHECK(skv_mem_env_of(other)->handles == NULL);
  skv_env_mem_free(other);
  second = NULL;
}

static void check_after(void) {
  uint32_t seen[KEYS];
  const skv_mem_env *process = skv_mem_env_of(fault_world.mem);
  options = fixture_options();
  if (store != NULL) stratakv_set_busy_timeout(store, 1000);
  if (store != NULL && store->db->options.read_only) close_store();
  check_handle();
  check_second();
  close_store();
  CHECK(process->handles == NULL && process->fs->maps == NULL);
  allowed = STRATAKV_OK;
  is_fenced = false;
  open_store();
  if (CHECK(is_open()) && OK(fixture_scan(store, table.id, seen, KEYS))) {
    take(seen);
    put(6);
    scan();
    OK(stratakv_check(store, NULL, &fixture_err));
  }
  close_store();
}

/* ---- The loop ---------------------------------------------------------- */

/* Whether the fault was met. nth 0: none, the calls are noted. */
static bool run_one(const struct scenario *s, const fault_kind *kind,
                    uint64_t nth) {
  char where[96];
  snprintf(where, sizeof where, "%s %u %" PRIu64 " (%s %s%s)", s->name,
           (unsigned)(kind - fault_kinds), nth, kind->name,
           kind->operation != NULL ? kind->operation : "",
           kind->is_forever ? ", from then on" : "");
  check_where = where;
  size_t alive = skv_alloc_count();
  unsigned failures = check_failures;
  world_begin(&made[s->from]);
  if (kind->drops) fault_disk_set(fault_world.mem, NULL);
  s->prep();
  allowed = nth != 0 ? kind->code : STRATAKV_OK;
  if (nth != 0) options.busy_timeout_ms = 2;
  if (nth != 0 && store != NULL) stratakv_set_busy_timeout(store, 2);
  fault_begin(kind, nth);
  s->body();
  bool fired = fault_end();
  (void)met_fence();
  if (kind->drops) fault_disk_unset();
  check_after();
  world_end();
  CHECK(skv_alloc_count() == alive);
  runs++;
  memory_runs += kind->operation == NULL;
  if (check_failures > failures)
    printf("repeat: fault_sites_test %s %u %" PRIu64 "\n", s->name,
           (unsigned)(kind - fault_kinds), nth);
  check_where = "";
  return fired;
}

#define SOAK_ROUNDS 64 /* of a soak: each takes another part of the calls */
static uint64_t soak_round;

/* The first call from each site, and of the others so many that the bound is
 * met; a soak takes a part of all, and another in each round. */
static bool is_chosen(uint64_t n, uint64_t calls, fault_set *seen) {
  if (harness.soak_s > 0) return (n + soak_round) % SOAK_ROUNDS == 0;
  bool is_first = !fault_set_has(seen, fault_world.sites[n]);
  fault_set_add(seen, fault_world.sites[n]);
  uint64_t stride = calls / harness_some(RUNS_IN_CI) + 1;
  if (harness.is_mutant && n % harness.share != 0) is_first = false;
  return is_first || n % stride == 0;
}

/* Round 0 notes. */
static void run_kind(const struct scenario *s, const fault_kind *kind) {
  static fault_set seen;
  uint64_t calls = 0;
  bool chosen = true;
  memset(&seen, 0, sizeof seen);
  for (uint64_t n = 0; n <= calls && check_failures <= 20; n++) {
    if (harness_is_over()) return;
    if (n > 0) chosen = is_chosen(n, calls, &seen);
    if (chosen) (void)run_one(s, kind, n);
    if (n == 0) calls = fault_world.calls;
    if (!CHECK(calls < FAULT_CALLS)) return;
  }
}

/* What was reached and never failed. */
static size_t unhit(void) {
  const struct fault_world *w = &fault_world;
  size_t n = 0;
  for (size_t i = 0; i < FAULT_SET; i++)
    n += w->reached.slots[i] != 0 &&
         !fault_set_has(&w->hit, w->reached.slots[i]);
  return n;
}

static void run_scenario(size_t i, int argc, char **argv) {
  const struct scenario *s = &scenarios[i];
  uint64_t before = runs;
  if (argc > 1 && strcmp(argv[1], s->name) != 0) return;
  for (size_t k = 0; k < FAULT_KINDS; k++) {
    if (argc > 2 && strtoul(argv[2], NULL, 10) != k) continue;
    if (s->is_shared && fault_kinds[k].drops) continue;
    if (argc > 3)
      (void)run_one(s, &fault_kinds[k], strtoull(argv[3], NULL, 10));
    else
      run_kind(s, &fault_kinds[k]);
  }
  printf("%-16s %6" PRIu64 " runs\n", s->name, runs - before);
}

int main(int argc, char **argv) {
  harness_begin(0, argv);
  make_all();
  uint64_t soak = harness.first;
  for (size_t i = 0; i < SCENARIOS && harness.soak_s == 0; i++)
    run_scenario(i, argc, argv);
  for (; harness_has_time() && check_failures == 0; soak++) {
    soak_round = soak / SCENARIOS;
    run_scenario(soak % SCENARIOS, argc, argv);
  }
  for (int i = 0; i < READY; i++) fixture_clear(&made[i].image);
  if (argc <= 3 && harness_is_full()) CHECK(unhit() == 0);
  printf("%zu sites reached, %zu of them not failed\n",
         fault_world.reached.count, unhit());
  harness_count("fault-runs", runs);
  harness_count("oom-runs", memory_runs);
  harness_count("fault-sites", fault_world.reached.count);
  return check_end();
}
