/*
 * A worker of kill_test.c, a process of its own: what it does with the store,
 * what it writes into the ledger, and how it dies. kill_test.c starts it with a
 * plan.
 */
#ifndef TEST_C_KILL_WORKER_H
#define TEST_C_KILL_WORKER_H

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/util/point.h"
#include "test/c/files.h"
#include "test/c/harness.h"
#include "test/c/kill_ledger.h"

#define STORE "build/tmp/kill_test.strata"
#define LIMIT_NS UINT64_C(1000000000) /* a call may take */
#define HANG_NS UINT64_C(20000000000) /* then it is given up */
#ifdef __SANITIZE_ADDRESS__
#define PATIENCE 3
#elif defined(__SANITIZE_THREAD__)
#define PATIENCE 5
#else
#define PATIENCE 1
#endif

#ifdef SKV_TEST /* without it there are no points */

/* ---- How a worker is to die -------------------------------------------- */

enum { DIE_NEVER, DIE_AT_POINT, STOP_AT_POINT, DIE_AT_CALL };

typedef struct death {
  int how;
  uint32_t point; /* of book->points */
  long n;         /* the n-th time */
  unsigned after; /* so many steps of its life */
} death;

static death mine;
static _Atomic bool is_armed;
static ledger_worker *me;
static skv_env plain; /* the environment's functions as they were */

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* The number of a name; names are literals, so equal pointers are enough. */
static uint32_t point_number(const char *name) {
  static _Atomic(const char *) seen[LEDGER_POINTS];
  uint32_t count = atomic_load(&book->point_count);
  for (uint32_t i = 0; i < count; i++)
    if (atomic_load(&seen[i]) == name) return i;
  for (uint32_t i = 0; i < count; i++)
    if (strcmp(book->points[i].name, name) == 0) {
      atomic_store(&seen[i], name);
      return i;
    }
  need(false, __FILE__, __LINE__, "every point is in the source", name);
  return 0;
}

static void point_hook(void *arg, const char *name) {
  static _Atomic long passed;
  SKV_UNUSED(arg);
  uint32_t i = point_number(name);
  atomic_fetch_add(&book->points[i].passed, 1);
  atomic_store(&me->at_point, i + 1);
  if (strcmp(name, "recover.page_cleared") == 0) atomic_store(&me->recovers, 1);
  if (strcmp(name, "attach.done") == 0) atomic_store(&me->recovers, 0);
  bool is_mine = mine.how == DIE_AT_POINT || mine.how == STOP_AT_POINT;
  if (!is_mine || mine.point != i || !atomic_load(&is_armed)) return;
  if (atomic_fetch_add(&passed, 1) + 1 != mine.n) return;
  if (mine.how == STOP_AT_POINT) {
    raise(SIGSTOP);
    return;
  }
  atomic_store(&me->died_at, i + 1);
  die();
}

static void at_call(void) {
  static _Atomic long calls;
  if (mine.how == DIE_AT_CALL && atomic_load(&is_armed) &&
      atomic_fetch_add(&calls, 1) + 1 == mine.n)
    die();
}

static int die_write(skv_file *f, uint64_t at, const void *data, size_t size,
                     skv_err *err) {
  at_call();
  return plain.file_write(f, at, data, size, err);
}
static int die_sync(skv_file *f, skv_err *err) {
  at_call();
  return plain.file_sync(f, err);
}
static int die_rename(skv_dir *d, const char *from, const char *to,
                      skv_err *err) {
  at_call();
  return plain.dir_rename(d, from, to, err);
}
static int die_unlink(skv_dir *d, const char *name, skv_err *err) {
  at_call();
  return plain.dir_unlink(d, name, err);
}
static int die_dir_sync(skv_dir *d, skv_err *err) {
  at_call();
  return plain.dir_sync(d, err);
}
static int die_open(skv_dir *d, const char *name, int flags, skv_err *err,
                    skv_file **out) {
  at_call();
  return plain.file_open(d, name, flags, err, out);
}
static void die_stored(skv_file *f, uint64_t at, uint64_t size) {
  SKV_UNUSED(f);
  SKV_UNUSED(at);
  SKV_UNUSED(size);
  at_call();
}

/* Which locks it holds is kept for who counts the deaths. */
static int die_lock(skv_file *f, uint64_t at, uint64_t size, int mode,
                    skv_err *err) {
  at_call();
  int rc = plain.file_lock(f, at, size, mode, err);
  if (at >= SKV_LOCK_SLOT || rc != STRATAKV_OK) return rc;
  uint64_t bit = UINT64_C(1) << at;
  if (mode == SKV_EXCLUSIVE)
    atomic_fetch_or(&me->locks, bit);
  else
    atomic_fetch_and(&me->locks, ~bit);
  return rc;
}

static skv_env *tapped_env(void) {
  skv_env *env = skv_env_posix();
  plain = *env;
  env->file_write = die_write;
  env->file_sync = die_sync;
  env->file_lock = die_lock;
  env->dir_rename = die_rename;
  env->dir_unlink = die_unlink;
  env->dir_sync = die_dir_sync;
  env->file_open = die_open;
  env->stored = die_stored;
  skv_point_set(point_hook, NULL);
  return env;
}

/* ---- Calls that may not take long -------------------------------------- */

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

typedef struct timed {
  uint64_t began, stalled;
  uint32_t stops;
} timed;

/* How late the machine was with everything, so far. */
#define BEAT_NS UINT64_C(5000000)
#define BEAT_LATE_NS UINT64_C(25000000)
static uint64_t machine_stalled(void) {
  uint64_t since = now_ns() - atomic_load(&book->beat);
  uint64_t late = since > BEAT_LATE_NS && since < HANG_NS ? since * 4 : 0;
  return atomic_load(&book->stalled) + late;
}

enum {
  CALL_OPEN = 20,
  CALL_CLOSE,
  CALL_READ,
  CALL_FLUSH,
  CALL_COMPACT,
  CALL_BACKUP,
  CALL_CHECK,
  CALL_AUDIT
};

static timed call_begin(uint32_t call) {
  timed t = {now_ns(), machine_stalled(), atomic_load(&book->stops)};
  atomic_store(&me->call, call);
  atomic_store(&me->call_began, t.began);
  atomic_fetch_add(&book->calls, 1);
  return t;
}

static void call_end(const timed *t) {
  uint64_t took = now_ns() - t->began;
  uint64_t stalled = machine_stalled() - t->stalled;
  atomic_store(&me->call_began, 0);
  if (t->stops % 2 != 0 || atomic_load(&book->stops) != t->stops) return;
  took = took > stalled ? took - stalled : 0;
  skv_raise(&book->longest, took);
  char why[64];
  snprintf(why, sizeof why, "call %u took %u ms", atomic_load(&me->call),
           (unsigned)(took / 1000000));
  need(took < LIMIT_NS * PATIENCE, __FILE__, __LINE__, "within a second", why);
}

/* ---- Committing -------------------------------------------------------- */

typedef struct worker {
  uint32_t number;
  skv_prng rng;
  skv_env *env;
  stratakv_store *store;
  uint32_t rows, journal; /* tables */
  stratakv_batch *batch, *more[3];
} worker;

static uint32_t pick(worker *w, uint32_t below) {
  return (uint32_t)skv_prng_below(&w->rng, below);
}

/* From here on it may have happened. */
static uint32_t intend(uint32_t kind) {
  uint32_t n = atomic_load(&me->begun);
  ledger_commit *c = &me->commits[n];
  c->kind = kind;
  atomic_store(&c->lsn, 0);
  atomic_store(&c->state, STATE_INTENDED);
  atomic_store(&me->begun, n + 1);
  return n;
}

static void acknowledge(uint32_t n, uint64_t lsn) {
  atomic_store(&me->commits[n].lsn, lsn);
  atomic_store(&me->commits[n].state, STATE_ACKED);
  skv_raise(&me->acked, lsn);
}

static void refuse(uint32_t n) {
  atomic_store(&me->commits[n].state, STATE_REFUSED);
}

/* The code of commit n, which nothing may fail. */
static void settle(uint32_t n, int rc, uint64_t lsn) {
  if (NEED_OK(rc))
    acknowledge(n, lsn);
  else
    refuse(n);
}

static void step_put(worker *w) {
  char key[32], bytes[VALUE_MOST];
  uint64_t lsn = 0;
  uint32_t n = intend(KIND_PUT);
  ledger_value value = {w->number, n, 0, 0};
  size_t len = journal_key(w->number, n, key);
  timed t = call_begin(KIND_PUT);
  int rc = stratakv_put(w->store, w->journal, key, len, bytes,
                        value_make(&value, bytes), &fixture_err, &lsn);
  settle(n, rc, lsn);
  call_end(&t);
}

static void step_delete(worker *w) {
  char key[32];
  ledger_change change[LEDGER_MOST];
  uint64_t lsn = 0;
  uint32_t n = intend(KIND_DELETE);
  ledger_changes(w->number, n, KIND_DELETE, change);
  size_t len = row_key(change[0].row, key);
  timed t = call_begin(KIND_DELETE);
  int rc = stratakv_delete(w->store, w->rows, key, len, &fixture_err, &lsn);
  settle(n, rc, lsn);
  call_end(&t);
}

static void batch_fill(worker *w, stratakv_batch *batch, uint32_t n,
                       uint32_t kind) {
  ledger_change changes[LEDGER_MOST];
  char key[32], bytes[VALUE_MOST];
  uint32_t count = ledger_changes(w->number, n, kind, changes);
  stratakv_batch_clear(batch);
  for (uint32_t i = 0; i < count; i++) {
    ledger_value value = {w->number, n, i, 0};
    size_t len = row_key(changes[i].row, key);
    if (changes[i].is_delete)
      stratakv_batch_delete(batch, w->rows, key, len);
    else
      stratakv_batch_put(batch, w->rows, key, len, bytes,
                         value_make(&value, bytes));
  }
  ledger_value value = {w->number, n, 0, 0};
  size_t len = journal_key(w->number, n, key);
  stratakv_batch_put(batch, w->journal, key, len, bytes,
                     value_make(&value, bytes));
  if (pick(w, 4) == 0)
    stratakv_batch_require(batch, w->journal, key, len, STRATAKV_IF_ABSENT, 0);
  if (kind == KIND_REFUSED)
    stratakv_batch_require(batch, w->journal, key, len, STRATAKV_IF_PRESENT, 0);
}

/* One to three batches, each a commit; at most one of them is refused. */
static void step_batches(worker *w) {
  uint32_t count = 1 + pick(w, 3), n[3] = {0}, kinds[3];
  uint32_t refused = pick(w, 12);
  stratakv_result results[3] = {{0}};
  for (uint32_t i = 0; i < count; i++) {
    kinds[i] = i == refused ? KIND_REFUSED : KIND_BATCH;
    n[i] = intend(kinds[i]);
    batch_fill(w, w->more[i], n[i], kinds[i]);
  }
  timed t = call_begin(KIND_BATCH);
  int rc = stratakv_write(w->store, w->more, count, &fixture_err, results);
  NEED(rc == STRATAKV_OK || rc == STRATAKV_CONSTRAINT_CHECK);
  for (uint32_t i = 0; i < count; i++) {
    if (kinds[i] == KIND_REFUSED) {
      NEED(results[i].code == STRATAKV_CONSTRAINT_CHECK);
      refuse(n[i]);
    } else {
      settle(n[i], results[i].code, results[i].lsn);
    }
  }
  call_end(&t);
}

static int txn_change(worker *w, stratakv_txn *txn, uint32_t n, uint32_t i,
                      const ledger_change *change) {
  char key[32], bytes[VALUE_MOST];
  ledger_value value = {w->number, n, i, 0}, old;
  size_t len = row_key(change->row, key);
  int saw = STRATAKV_BLIND;
  if (change->is_delete)
    return stratakv_txn_delete(txn, w->rows, key, len, saw, &fixture_err);
  if (change->row >= ROWS_COUNTER) {
    stratakv_value got = {0};
    int rc = stratakv_txn_get(txn, w->rows, key, len, &fixture_err, &got);
    if (rc == STRATAKV_OK) NEED(value_read(got.data, got.size, &old));
    value.sum = rc == STRATAKV_OK ? old.sum + 1 : 1;
    saw = rc == STRATAKV_OK ? STRATAKV_SAW_PRESENT : STRATAKV_SAW_ABSENT;
    stratakv_value_clear(&got);
    if (rc != STRATAKV_OK && rc != STRATAKV_NOTFOUND) return rc;
  }
  return stratakv_txn_put(txn, w->rows, key, len, bytes,
                          value_make(&value, bytes), saw, &fixture_err);
}

static int txn_fill(worker *w, stratakv_txn *txn, uint32_t n, uint32_t kind) {
  ledger_change changes[LEDGER_MOST];
  uint32_t count = ledger_changes(w->number, n, kind, changes);
  char key[32], bytes[VALUE_MOST];
  int rc = STRATAKV_OK;
  for (uint32_t i = 0; i < count && rc == STRATAKV_OK; i++)
    rc = txn_change(w, txn, n, i, &changes[i]);
  ledger_value value = {w->number, n, 0, 0};
  size_t len = journal_key(w->number, n, key);
  if (rc == STRATAKV_OK)
    rc = stratakv_txn_put(txn, w->journal, key, len, bytes,
                          value_make(&value, bytes), STRATAKV_BLIND,
                          &fixture_err);
  return rc;
}

static void step_txn(worker *w, uint32_t kind) {
  stratakv_txn *txn = NULL;
  uint64_t lsn = 0;
  bool aborts = kind == KIND_ABORTED || kind == KIND_LARGE_ABORTED;
  uint32_t n = intend(kind);
  timed t = call_begin(kind);
  int rc = stratakv_begin(w->store, &fixture_err, &txn);
  if (rc == STRATAKV_OK) rc = txn_fill(w, txn, n, kind);
  NEED_OK(rc);
  bool prepares = kind == KIND_PREPARED || aborts ||
                  (kind == KIND_LARGE && pick(w, 2) == 0);
  if (rc == STRATAKV_OK && prepares) rc = stratakv_prepare(txn, &fixture_err);
  if (rc == STRATAKV_OK && !aborts) {
    rc = stratakv_commit(txn, &fixture_err, &lsn);
    if (rc == STRATAKV_OK) txn = NULL;
  }
  if (txn != NULL) stratakv_rollback(txn);
  if (rc == STRATAKV_BUSY_SNAPSHOT) {
    atomic_fetch_add(&book->conflicts, 1);
    refuse(n);
  } else if (aborts && NEED_OK(rc)) {
    refuse(n);
  } else {
    settle(n, rc, lsn);
  }
  call_end(&t);
}

/* ---- Reading ----------------------------------------------------------- */

/* The number of the worker's newest journal row, + 1. */
static uint32_t journal_newest(worker *w, stratakv_cursor *c, uint32_t who) {
  char start[32], end[32];
  unsigned got = LEDGER_WORKERS, n = 0;
  size_t len = journal_key(who, UINT32_C(99999999), end);
  NEED_OK(stratakv_cursor_seek_back(c, end, len, &fixture_err));
  SKV_UNUSED(w);
  if (!stratakv_cursor_valid(c)) return 0;
  const char *key = stratakv_cursor_key(c, &len);
  if (len >= sizeof start) return UINT32_MAX;
  memcpy(start, key, len);
  start[len] = 0;
  sscanf(start, "%u:%u", &got, &n);
  return got == who ? n + 1 : 0;
}

/* A snapshot, for audit_snaps; not older than what was acknowledged. */
static void step_snap(worker *w) {
  stratakv_snapshot *snap = NULL;
  stratakv_cursor *c = NULL;
  uint64_t least = 0;
  for (uint32_t i = 0; i < LEDGER_WORKERS; i++) {
    uint64_t acked = atomic_load(&book->workers[i].acked);
    if (acked > least) least = acked;
  }
  timed t = call_begin(CALL_READ);
  if (!NEED_OK(stratakv_snapshot_open(w->store, &fixture_err, &snap))) return;
  uint64_t lsn = stratakv_snapshot_lsn(snap);
  NEED(lsn > least || least == 0);
  uint32_t at = atomic_fetch_add(&book->snap_count, 1);
  NEED_OK(stratakv_cursor_open(w->store, snap, NULL, w->journal, NULL,
                               &fixture_err, &c));
  for (uint32_t i = 0; at < LEDGER_SNAPS && i < LEDGER_WORKERS; i++)
    book->snaps[at].newest[i] = journal_newest(w, c, i);
  stratakv_cursor_close(c);
  stratakv_snapshot_close(snap);
  if (at < LEDGER_SNAPS) atomic_store(&book->snaps[at].lsn, lsn);
  call_end(&t);
}

static void step_scan(worker *w) {
  stratakv_cursor *c = NULL;
  uint32_t count = 0;
  bool back = pick(w, 2) != 0;
  timed t = call_begin(CALL_READ);
  int rc = stratakv_cursor_open(w->store, NULL, NULL, w->rows, NULL,
                                &fixture_err, &c);
  if (rc == STRATAKV_OK)
    rc = back ? stratakv_cursor_last(c, &fixture_err)
              : stratakv_cursor_first(c, &fixture_err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(c)) {
    ledger_value value;
    size_t size;
    const void *bytes = stratakv_cursor_value(c, &size);
    NEED(value_read(bytes, size, &value));
    count++;
    rc = back ? stratakv_cursor_prev(c, &fixture_err)
              : stratakv_cursor_next(c, &fixture_err);
  }
  NEED_OK(rc);
  NEED(count <= ROWS);
  stratakv_cursor_close(c);
  call_end(&t);
}

/* ---- Backups ----------------------------------------------------------- */

/* What is at `path` holds all below lsn; 0: it was being made when its maker
 * died, and is a whole store or refused. */
static void backup_audit(worker *w, const char *path, uint64_t lsn) {
  stratakv_store *copy = NULL;
  stratakv_options options = fixture_options();
  options.create = 0;
  int rc = skv_open_in(w->env, path, &options, &fixture_err, &copy);
  if (lsn == 0 && (rc == STRATAKV_CANTOPEN || rc == STRATAKV_CORRUPT)) return;
  if (NEED_OK(rc) && lsn != 0) ledger_audit(copy, lsn);
  NEED_OK(stratakv_close(copy, &fixture_err));
}

static void step_backup(worker *w) {
  char path[64];
  uint64_t lsn = 0, least = atomic_load(&me->acked);
  snprintf(path, sizeof path, STORE ".copy%u", w->number);
  if (access(path, F_OK) == 0) backup_audit(w, path, 0);
  files_remove(path);
  timed t = call_begin(CALL_BACKUP);
  int rc = stratakv_backup(w->store, NULL, path, NULL, &fixture_err, &lsn);
  call_end(&t);
  if (NEED_OK(rc) && NEED(lsn > least)) backup_audit(w, path, lsn);
  files_remove(path);
}

/* ---- Check ------------------------------------------------------------- */

static int check_report(void *arg, const stratakv_finding *finding) {
  SKV_UNUSED(arg);
  char why[300];
  snprintf(why, sizeof why, "%s at %llu: %s", finding->file,
           (unsigned long long)finding->offset, finding->message);
  need(finding->severity == STRATAKV_NOTE, __FILE__, __LINE__, "no damage",
       why);
  return 0;
}

/* Beside whoever writes, flushes, compacts and dies. */
static void step_check(worker *w) {
  stratakv_watch watch = {.report = check_report};
  timed t = call_begin(CALL_CHECK);
  NEED_OK(stratakv_check(w->store, &watch, &fixture_err));
  call_end(&t);
}

/* ---- A life ------------------------------------------------------------ */

/* What became of the commit that its predecessor died in. */
static uint32_t resolve_one(worker *w, uint32_t n, uint64_t last) {
  ledger_commit *c = &me->commits[n];
  ledger_change changes[LEDGER_MOST];
  char key[32];
  stratakv_value value = {0};
  size_t len = journal_key(w->number, n, key);
  if (!kind_has_row(c->kind)) {
    ledger_changes(w->number, n, c->kind, changes);
    len = row_key(changes[0].row, key);
  }
  stratakv_snapshot *snap = NULL;
  if (!NEED_OK(stratakv_snapshot_open(w->store, &fixture_err, &snap)))
    return STATE_INTENDED;
  uint64_t seen = stratakv_snapshot_lsn(snap);
  int rc =
      stratakv_get(w->store, snap, kind_has_row(c->kind) ? w->journal : w->rows,
                   key, len, &fixture_err, &value);
  stratakv_snapshot_close(snap);
  bool is_there = rc == STRATAKV_OK;
  if (!is_there && !NEED(rc == STRATAKV_NOTFOUND)) return STATE_INTENDED;
  uint64_t lsn = kind_has_row(c->kind) ? value.version : last + 1;
  stratakv_value_clear(&value);
  if (is_there != kind_has_row(c->kind)) {
    atomic_store(&c->state, STATE_ABSENT);
    return STATE_ABSENT;
  }
  NEED(c->kind != KIND_REFUSED);
  NEED(lsn > last);
  atomic_store(&c->lsn, lsn);
  if (!kind_has_row(c->kind)) atomic_store(&c->until, seen);
  atomic_store(&c->state, STATE_FOUND);
  return STATE_FOUND;
}

/* What was acknowledged to the predecessor is there; of what was under way a
 * prefix happened. */
static void resolve(worker *w) {
  uint32_t from = atomic_load(&me->resolved), end = atomic_load(&me->begun);
  uint64_t last = 0;
  bool was_absent = false;
  for (uint32_t n = from > 64 ? from - 64 : 0; n < end; n++) {
    uint32_t state = atomic_load(&me->commits[n].state);
    if (state == STATE_INTENDED && n >= from) {
      state = resolve_one(w, n, last);
      bool refused = me->commits[n].kind == KIND_REFUSED;
      if (state == STATE_FOUND) NEED(!was_absent);
      was_absent |= state == STATE_ABSENT && !refused;
    } else if (state == STATE_ACKED && n + 3 >= end &&
               kind_has_row(me->commits[n].kind)) {
      char key[32];
      size_t len = journal_key(w->number, n, key);
      NEED_OK(stratakv_get(w->store, NULL, w->journal, key, len, &fixture_err,
                           NULL));
    }
    if (state == STATE_ACKED || state == STATE_FOUND)
      last = atomic_load(&me->commits[n].lsn);
  }
  atomic_store(&me->resolved, end);
}

static void step_maintain(worker *w) {
  bool compacts = pick(w, 4) == 0;
  timed t = call_begin(compacts ? CALL_COMPACT : CALL_FLUSH);
  NEED_OK(compacts ? stratakv_compact(w->store, NULL, NULL, &fixture_err)
                   : stratakv_flush(w->store, &fixture_err));
  call_end(&t);
}

static void worker_step(worker *w) {
  uint32_t what = pick(w, 1000);
  if (what < 480)
    step_put(w);
  else if (what < 540)
    step_delete(w);
  else if (what < 720)
    step_batches(w);
  else if (what < 850)
    step_txn(w, KIND_TXN);
  else if (what < 880)
    step_txn(w, KIND_PREPARED);
  else if (what < 890)
    step_txn(w, KIND_ABORTED);
  else if (what < 897)
    step_txn(w, KIND_LARGE);
  else if (what < 900)
    step_txn(w, KIND_LARGE_ABORTED);
  else if (what < 980)
    step_snap(w);
  else if (what < 988)
    step_scan(w);
  else if (what < 990)
    step_backup(w);
  else if (what < 992)
    step_check(w);
  else
    step_maintain(w);
}

static stratakv_options worker_options(worker *w) {
  stratakv_options options = fixture_options();
  options.sync = pick(w, 8) == 0 ? STRATAKV_SYNC_FULL
                 : pick(w, 2)    ? STRATAKV_SYNC_NORMAL
                                 : STRATAKV_SYNC_OFF;
  options.background = pick(w, 4) != 0;
  options.compression = (int)pick(w, 3);
  options.mmap = (int)pick(w, 2);
  options.busy_timeout_ms = 15000;
  return options;
}

/* Without a limit of its own, but not for ever. */
static void unhurried(worker *w, void (*run)(worker *w)) {
  call_begin(CALL_AUDIT);
  run(w);
  atomic_store(&me->call_began, 0);
}
static void audit_all(worker *w) { ledger_audit(w->store, 0); }
static void compact_all(worker *w) {
  NEED_OK(stratakv_compact(w->store, NULL, NULL, &fixture_err));
}

static void worker_audit(worker *w) {
  unhurried(w, audit_all);
  step_check(w);
  unhurried(w, compact_all);
  unhurried(w, audit_all);
  step_check(w);
}

static void worker_live(worker *w, unsigned steps) {
  stratakv_options options = worker_options(w);
  timed t = call_begin(CALL_OPEN);
  bool is_open =
      NEED_OK(skv_open_in(w->env, STORE, &options, &fixture_err, &w->store)) &&
      ledger_tables(w->store, &w->rows, &w->journal);
  if (is_open) resolve(w);
  call_end(&t);
  if (is_open && steps == 0) worker_audit(w);
  for (int i = 0; i < 3; i++) w->more[i] = stratakv_batch_new();
  for (unsigned i = 0; i < steps && is_open && !atomic_load(&book->stop) &&
                       !atomic_load(&book->failures) &&
                       atomic_load(&me->begun) < LEDGER_COMMITS - 8;
       i++) {
    if (i == mine.after) atomic_store(&is_armed, true);
    worker_step(w);
  }
  for (int i = 0; i < 3; i++) stratakv_batch_free(w->more[i]);
  t = call_begin(CALL_CLOSE);
  NEED_OK(stratakv_close(w->store, &fixture_err));
  call_end(&t);
}

static void book_map(int fd) {
  book = mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (book == MAP_FAILED) abort();
}

/* worker BOOK NUMBER SEED STEPS HOW POINT N AFTER */
static int worker_main(char **argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  book_map(atoi(argv[2]));
  worker w = {.number = (uint32_t)atoi(argv[3]),
              .rng = {strtoull(argv[4], NULL, 10)},
              .env = tapped_env()};
  mine = (death){atoi(argv[6]), (uint32_t)atoi(argv[7]), atol(argv[8]),
                 (unsigned)atoi(argv[9])};
  atomic_store(&is_armed, mine.after == 0);
  me = &book->workers[w.number];
  worker_live(&w, (unsigned)atoi(argv[5]));
  fflush(stdout);
  return atomic_load(&book->failures) > 0;
}

#endif
#endif
