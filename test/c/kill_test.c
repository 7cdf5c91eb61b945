/*
 * Kill torture: processes that write, scan, flush and compact one store are
 * killed and stopped, and replaced, at random moments, at named points
 * (util/point.h; those at which fewest died so far first) and at the n-th call
 * of the environment; one at a time, all at once, while they recover and while
 * they leave. kill_ledger.h says what must be true of the store at any moment.
 *
 *   build/test/c/kill_test ?CASE?      one case: a store and its deaths
 *
 * Besides that: nobody's call takes longer than a second, whoever died, unless
 * somebody is stopped or the machine itself stands still or is overloaded (a
 * control thread measures by how much, and that is taken off); the survivors'
 * descriptors and the store's files do not become more; stratakv_check finds
 * no damage beside writers and after deaths; every point in the engine's
 * source is reached; who has to wait for a stopped owner of WRITE is told whom
 * for. The first failure ends everything.
 *
 * Covers: INV-1, INV-2, INV-3, INV-4, INV-9, P1, P2, P3, P4, P5, P6, P8, P10,
 *   P11, P13, P14
 *
 * Timeout: 1200
 * Soak: 4
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/util/point.h"
#include "test/c/harness.h"
#include "test/c/kill_ledger.h"

#define CASES 26
#define KILLS 30           /* of one case, at least */
#define ACKS 7500          /* of one case, at least */
#define KILLS_WITNESSED 90 /* while worker 0 survives: more than SKV_SLOTS */
#define STORE "build/tmp/kill_test.strata"
#define LIMIT_NS UINT64_C(1000000000) /* a call may take */
#define HANG_NS UINT64_C(20000000000) /* then it is given up */
#define CASE_NS UINT64_C(120000000000)
#ifdef __SANITIZE_ADDRESS__
#define PATIENCE 3
#elif defined(__SANITIZE_THREAD__)
#define PATIENCE 5
#else
#define PATIENCE 1
#endif

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
  NEED(!"every point is in the source");
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

static void remove_directory(const char *path) {
  DIR *dir = opendir(path);
  if (dir == NULL) return;
  for (struct dirent *e; (e = readdir(dir)) != NULL;)
    unlinkat(dirfd(dir), e->d_name, 0);
  closedir(dir);
  rmdir(path);
}

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
  remove_directory(path);
  timed t = call_begin(CALL_BACKUP);
  int rc = stratakv_backup(w->store, NULL, path, NULL, &fixture_err, &lsn);
  call_end(&t);
  if (NEED_OK(rc) && NEED(lsn > least)) backup_audit(w, path, lsn);
  remove_directory(path);
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
  int rc =
      stratakv_get(w->store, NULL, kind_has_row(c->kind) ? w->journal : w->rows,
                   key, len, &fixture_err, &value);
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

/* ---- The parent -------------------------------------------------------- */

#define STEPS 3000

typedef struct child {
  pid_t pid; /* 0: none */
  death plan;
  uint64_t began, resume; /* resume: it is stopped until then, 0: it is not */
} child;

static struct parent {
  int book_fd;
  const char *program;
  skv_prng rng;
  unsigned workers; /* of this case */
  unsigned life;
  bool has_witness; /* worker 0 of this case is let live */
  child children[LEDGER_WORKERS];
  unsigned kills; /* in this case */
  uint64_t all_kills, all_acks, in_recovery, holding, most_files, most_fds,
      longest;
} parent;

static uint32_t draw(uint32_t below) {
  return (uint32_t)skv_prng_below(&parent.rng, below);
}

/* The points of the engine's source, in the order of the files. */
static void points_read(const char *path) {
  FILE *f = fopen(path, "r");
  char line[512];
  if (f == NULL) abort();
  while (fgets(line, sizeof line, f) != NULL) {
    const char *at = strstr(line, "SKV_POINT(\"");
    uint32_t n = atomic_load(&book->point_count);
    if (at == NULL || n == LEDGER_POINTS) continue;
    char *name = book->points[n].name;
    if (sscanf(at, "SKV_POINT(\"%31[a-z_.]\")", name) != 1) continue;
    for (uint32_t i = 0; i < n; i++)
      CHECK(strcmp(book->points[i].name, name) != 0); /* one place each */
    atomic_store(&book->point_count, n + 1);
  }
  fclose(f);
}

static void points_find(void) {
  glob_t found;
  if (glob("engine/*/*.c", 0, NULL, &found) != 0) abort();
  for (size_t i = 0; i < found.gl_pathc; i++) points_read(found.gl_pathv[i]);
  globfree(&found);
  CHECK(atomic_load(&book->point_count) > 50);
}

/* Rare ones first: of a few, the one at which fewest died or tried to. Nobody
 * comes to some of them unless somebody else just died. */
static uint64_t point_rank(uint32_t i) {
  const ledger_point *p = &book->points[i];
  return p->kills * 4 + p->planned;
}

static death draw_plan(void) {
  uint32_t how = draw(10);
  unsigned after = draw(2) ? 0 : draw(1500);
  if (how < 2) return (death){DIE_NEVER, 0, 0, 0};
  if (how < 4)
    return (death){DIE_AT_CALL, 0, 1 + (long)draw(draw(2) ? 60 : 900), after};
  uint32_t count = atomic_load(&book->point_count), best = draw(count);
  for (int i = 0; i < 4; i++) {
    uint32_t other = draw(count);
    if (point_rank(other) < point_rank(best)) best = other;
  }
  book->points[best].planned++;
  long n = 1 + (long)draw(draw(2) ? 1 : 8);
  return (death){how == 4 ? STOP_AT_POINT : DIE_AT_POINT, best, n, after};
}

static void child_start(uint32_t i, unsigned steps, death plan) {
  char text[8][24];
  ledger_worker *w = &book->workers[i];
  snprintf(text[0], 24, "%d", parent.book_fd);
  snprintf(text[1], 24, "%u", i);
  snprintf(text[2], 24, "%" PRIu64, book->seed * 100000 + ++parent.life);
  snprintf(text[3], 24, "%u", steps);
  snprintf(text[4], 24, "%d", plan.how);
  snprintf(text[5], 24, "%u", plan.point);
  snprintf(text[6], 24, "%ld", plan.n);
  snprintf(text[7], 24, "%u", plan.after);
  atomic_store(&w->call_began, 0);
  atomic_store(&w->died_at, 0);
  atomic_store(&w->locks, 0);
  atomic_store(&w->recovers, 0);
  fflush(stdout);
  pid_t pid = vfork();
  if (pid == 0) {
    execl(parent.program, parent.program, "worker", text[0], text[1], text[2],
          text[3], text[4], text[5], text[6], text[7], (char *)NULL);
    _exit(127);
  }
  parent.children[i] = (child){.pid = pid, .plan = plan, .began = now_ns()};
}

static void child_resume(child *c) {
  if (c->resume == 0) return;
  c->resume = 0;
  kill(c->pid, SIGCONT);
  atomic_fetch_add(&book->stops, 1);
}

static unsigned children_running(void) {
  unsigned n = 0;
  for (unsigned i = 0; i < LEDGER_WORKERS; i++)
    n += parent.children[i].pid != 0;
  return n;
}

static void count_death(const ledger_worker *w) {
  uint32_t at = atomic_load(&w->died_at);
  parent.kills++;
  parent.all_kills++;
  if (at > 0) atomic_fetch_add(&book->points[at - 1].kills, 1);
  if (atomic_load(&w->recovers)) parent.in_recovery++;
  if (atomic_load(&w->locks)) parent.holding++;
}

/* One child's end, or its stop at a point. */
static void child_ended(uint32_t i, int status) {
  child *c = &parent.children[i];
  if (WIFSTOPPED(status)) {
    if (c->resume != 0) return;               /* stopped by us */
    if (atomic_load(&book->stops) % 2 != 0) { /* one at a time */
      kill(c->pid, SIGCONT);
      return;
    }
    atomic_fetch_add(&book->stops, 1);
    c->resume = now_ns() + (1 + draw(20)) * UINT64_C(1000000);
    return;
  }
  if (c->resume != 0) {
    c->resume = 0;
    atomic_fetch_add(&book->stops, 1);
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
    count_death(&book->workers[i]);
  else
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  c->pid = 0;
}

/* Take what happened, waiting for it up to so many microseconds. */
static void children_wait(unsigned us) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  struct timespec t = {0, (long)us * 1000};
  sigtimedwait(&set, NULL, &t);
  for (;;) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG | WUNTRACED);
    if (pid <= 0) break;
    for (uint32_t i = 0; i < LEDGER_WORKERS; i++)
      if (parent.children[i].pid == pid) child_ended(i, status);
  }
  uint64_t now = now_ns();
  for (uint32_t i = 0; i < LEDGER_WORKERS; i++) {
    child *c = &parent.children[i];
    if (c->pid && c->resume != 0 && now >= c->resume) child_resume(c);
  }
}

static void watch_for_hangs(void) {
  uint64_t now = now_ns();
  for (uint32_t i = 0; i < parent.workers; i++) {
    ledger_worker *w = &book->workers[i];
    uint64_t began = atomic_load(&w->call_began);
    uint32_t at = atomic_load(&w->at_point);
    if (parent.children[i].pid == 0 || began == 0 ||
        now < began + HANG_NS * PATIENCE)
      continue;
    printf("worker %u hangs in call %u, last at %s\n", i, atomic_load(&w->call),
           at ? book->points[at - 1].name : "no point");
    CHECK(!"nobody hangs");
    kill(parent.children[i].pid, SIGKILL);
  }
}

static void kill_child(uint32_t i) {
  child *c = &parent.children[i];
  if (c->pid) kill(c->pid, SIGKILL);
}

static bool has_failed(void) {
  return atomic_load(&book->failures) > 0 || check_failures > 0;
}

/* Everybody dies at once: who comes next recovers. */
static void kill_all(void) {
  for (uint32_t i = 0; i < parent.workers; i++) kill_child(i);
  while (children_running() > 0) children_wait(1000);
}

static uint32_t draw_point_of(const char *modules) {
  uint32_t count = atomic_load(&book->point_count);
  for (;;) {
    uint32_t i = draw(count);
    char module[32];
    snprintf(module, sizeof module, " %s", book->points[i].name);
    *strchr(module, '.') = ' ';
    *strchr(module + 1, ' ') = 0;
    if (strstr(modules, module) != NULL) return i;
  }
}

/* One after the other recovers alone, or makes the store, and dies of it; some
 * come through and die when they leave. */
static void kill_recoverers(void) {
  static const char modules[] =
      " recover attach recover create manifest file log head detach close ";
  unsigned tries = 2 + draw(6);
  kill_all();
  for (unsigned i = 0; i < tries && !has_failed(); i++) {
    uint32_t who = draw(parent.workers);
    death plan = {DIE_AT_POINT, draw_point_of(modules), 1 + draw(2), 0};
    if (draw(3) == 0) plan = (death){DIE_AT_CALL, 0, 1 + draw(80), 0};
    child_start(who, 1 + draw(12), plan);
    while (parent.children[who].pid) {
      children_wait(1000);
      watch_for_hangs();
    }
  }
}

/* Everybody leaves; some die of their plans on the way. */
static void ask_all_to_leave(void) {
  atomic_store(&book->stop, 1);
  while (children_running() > 0) {
    children_wait(1000);
    watch_for_hangs();
  }
  atomic_store(&book->stop, 0);
}

static void stop_child(uint32_t i) {
  child *c = &parent.children[i];
  if (c->pid == 0 || c->resume != 0 || atomic_load(&book->stops) % 2) return;
  c->resume = now_ns() + (1 + draw(20)) * UINT64_C(1000000);
  atomic_fetch_add(&book->stops, 1);
  kill(c->pid, SIGSTOP);
}

static unsigned count_names(const char *path) {
  unsigned n = 0;
  DIR *dir = opendir(path);
  if (dir == NULL) return 0;
  while (readdir(dir) != NULL) n++;
  closedir(dir);
  return n;
}

/* In a process of its own, without a plan. */
static void audit_now(void) {
  child_start(0, 0, (death){DIE_NEVER, 0, 0, 0});
  while (parent.children[0].pid) {
    children_wait(1000);
    watch_for_hangs();
  }
}

/* One of the things that happen while they run. */
static void disturb(void) {
  uint32_t what = draw(24), i = draw(parent.workers);
  if (parent.has_witness) {
    what = 5 + draw(18);
    if (i == 0) return;
  }
  if (what == 0)
    kill_all();
  else if (what < 2)
    ask_all_to_leave();
  else if (what < 4)
    kill_recoverers();
  else if (what < 7)
    stop_child(i);
  else if (what < 16)
    kill_child(i);
}

/* The witness saw many die: it has no more files open than there are, but for
 * a few of its own (LOCK, the directory, the ledger, standard ones). */
static void check_witness(void) {
  char path[64];
  unsigned least = 1000000;
  for (uint32_t i = 1; i < parent.workers; i++) kill_child(i);
  while (children_running() > 1) children_wait(1000);
  snprintf(path, sizeof path, "/proc/%d/fd", (int)parent.children[0].pid);
  for (int i = 0; i < 50; i++) {
    unsigned files = count_names(STORE), fds = count_names(path);
    if (fds < files + least) least = fds > files ? fds - files : 0;
    children_wait(1000);
  }
  CHECK(least < 16);
  if (least > parent.most_fds) parent.most_fds = least;
}

/* After a clean close: nothing of those who died is left. */
static void check_files(void) {
  unsigned manifests = 0, tmps = 0, logs = 0;
  DIR *dir = opendir(STORE);
  for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
    manifests += strstr(e->d_name, ".manifest") != NULL;
    tmps += strstr(e->d_name, ".tmp") != NULL;
    logs += strstr(e->d_name, ".wal") != NULL;
  }
  if (dir != NULL) closedir(dir);
  CHECK(manifests <= 2); /* the last edit may have begun one */
  CHECK(tmps == 0);
  CHECK(logs <= 2);
  if (count_names(STORE) > parent.most_files)
    parent.most_files = count_names(STORE);
}

static void case_begin(uint64_t n) {
  remove_directory(STORE);
  for (uint32_t i = 0; i < LEDGER_WORKERS; i++) {
    char path[64];
    snprintf(path, sizeof path, STORE ".copy%u", i);
    remove_directory(path);
  }
  memset(book, 0, offsetof(ledger, stalled));
  book->seed = n;
  parent.rng = (skv_prng){n * 7919};
  parent.workers = 2 + draw(7);
  parent.has_witness = n % 8 == 0;
  parent.kills = parent.life = 0;
}

static void case_end(void) {
  if (has_failed()) { /* nothing more can be said of this store */
    kill_all();
    CHECK(atomic_load(&book->failures) == 0);
    return;
  }
  if (parent.has_witness && parent.children[0].pid) check_witness();
  kill_recoverers();
  audit_now(); /* as the recoverer leaves it */
  audit_now(); /* as a clean close leaves it */
  uint64_t acks = 0;
  for (uint32_t w = 0; w < LEDGER_WORKERS; w++)
    for (uint32_t n = 0; n < atomic_load(&book->workers[w].begun); n++)
      acks += atomic_load(&book->workers[w].commits[n].state) == STATE_ACKED;
  parent.all_acks += acks;
  check_files();
  struct stat shared = {0};
  CHECK(stat(STORE "/SHARED", &shared) == 0 &&
        shared.st_size == SKV_SHARED_SIZE);
  CHECK(atomic_load(&book->failures) == 0);
  if (book->longest > parent.longest) parent.longest = book->longest;
  check_count += (unsigned)atomic_load(&book->checks);
}

/* ---- Waiting for who is stopped ---------------------------------------- */

static void stop_written(void *arg, const char *name) {
  SKV_UNUSED(arg);
  if (strcmp(name, "commit.written") == 0) raise(SIGSTOP);
}

static stratakv_store *open_plain(uint32_t timeout_ms, uint32_t *table) {
  stratakv_store *store = NULL;
  stratakv_table_info info = {0};
  stratakv_options options = fixture_options();
  options.busy_timeout_ms = timeout_ms;
  if (OK(skv_open_in(skv_env_posix(), STORE, &options, &fixture_err, &store)))
    OK(stratakv_table(store, "t", STRATAKV_KEY_TEXT, 1, &fixture_err, &info));
  *table = info.id;
  return store;
}

/* Commits row 1, and is stopped in the commit of row 2. */
static void stopped_writer(void) {
  uint32_t table;
  stratakv_store *store = open_plain(1000, &table);
  OK(fixture_put(store, table, 1, 10, NULL));
  skv_point_set(stop_written, NULL);
  OK(fixture_put(store, table, 2, 20, NULL));
  OK(stratakv_close(store, &fixture_err));
  fflush(stdout);
  _exit(check_failures > 0);
}

/* RELIABILITY, limit 5: a stopped owner of WRITE is waited for, then BUSY names
 * it; others read meanwhile. It goes on, or dies, and so do they. */
static void test_stopped(bool dies) {
  uint32_t table, rows[4], want[4] = {0, 10, 0, 0};
  int status = 0;
  char who[64];
  remove_directory(STORE);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) stopped_writer();
  CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
  stratakv_store *store = open_plain(300, &table);
  uint64_t began = now_ns();
  FAILS(STRATAKV_BUSY, fixture_put(store, table, 3, 30, NULL));
  CHECK(now_ns() - began >= UINT64_C(300000000));
  snprintf(who, sizeof who, "pid %d (kill_test)", (int)pid);
  CHECK(strstr(fixture_err.message, who) != NULL);
  OK(fixture_scan(store, table, rows, 4));
  CHECK(memcmp(rows, want, sizeof rows) == 0);
  kill(pid, dies ? SIGKILL : SIGCONT);
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(dies || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
  OK(fixture_put(store, table, 3, 30, NULL));
  want[2] = dies ? 0 : 20; /* it was not published: dropped */
  want[3] = 30;
  OK(fixture_scan(store, table, rows, 4));
  CHECK(memcmp(rows, want, sizeof rows) == 0);
  OK(stratakv_close(store, &fixture_err));
}

static bool case_has_kills(void) {
  return parent.kills >= (parent.has_witness ? KILLS_WITNESSED : KILLS);
}

static bool case_goes_on(void) {
  uint64_t begun = 0;
  for (uint32_t i = 0; i < parent.workers; i++)
    begun += atomic_load(&book->workers[i].begun);
  return (!case_has_kills() || begun < ACKS + ACKS / 4) && !has_failed();
}

static void worker_start(uint32_t i) {
  if (i == 0 && parent.has_witness)
    child_start(i, UINT32_MAX, (death){DIE_NEVER, 0, 0, UINT32_MAX});
  else if (case_has_kills()) /* only acknowledgements are missing */
    child_start(i, STEPS, (death){DIE_NEVER, 0, 0, 0});
  else
    child_start(i, STEPS, draw_plan());
}

static void run_case(uint64_t n) {
  case_begin(n);
  kill_recoverers(); /* there is no store yet: they make it */
  uint64_t next = now_ns();
  uint64_t end = now_ns() + CASE_NS * PATIENCE;
  while (case_goes_on()) {
    if (!CHECK(now_ns() < end)) break;
    for (uint32_t i = 0; i < parent.workers && case_goes_on(); i++)
      if (parent.children[i].pid == 0) worker_start(i);
    children_wait(1000);
    watch_for_hangs();
    if (now_ns() < next || case_has_kills()) continue;
    next = now_ns() + (5 + draw(90)) * UINT64_C(1000000);
    disturb();
    if (draw(40) == 0 && parent.children[0].pid == 0) audit_now();
  }
  case_end();
}

/* What share of a moment who wants to run has to wait, as /proc/loadavg counts
 * those who do. */
static double machine_share_lost(int fd, long cpus) {
  char text[128] = "";
  long running = 0;
  if (pread(fd, text, sizeof text - 1, 0) <= 0) return 0;
  if (sscanf(text, "%*s %*s %*s %ld/", &running) != 1 || running <= cpus)
    return 0;
  return 1 - (double)cpus / (double)running;
}

/* The control: sleeps a little, again and again, and notes by how much it came
 * late; what it writes is synced, as commits are. */
static void *control_main(void *arg) {
  int fd = *(int *)arg, load = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  for (;;) {
    uint64_t began = now_ns();
    usleep(BEAT_NS / 1000);
    double lost = machine_share_lost(load, cpus);
    if (pwrite(fd, &began, sizeof began, 0) < 0 || fdatasync(fd) != 0) abort();
    uint64_t took = now_ns() - began;
    uint64_t late = took > BEAT_LATE_NS ? took * 4 : 0;
    uint64_t waited = (uint64_t)(lost * (double)took);
    atomic_fetch_add(&book->stalled, late > waited ? late : waited);
    atomic_store(&book->beat, now_ns());
  }
  return NULL;
}

static void report(void) {
  uint64_t points = 0;
  unsigned passed = 0;
  for (uint32_t i = 0; i < atomic_load(&book->point_count); i++) {
    points += atomic_load(&book->points[i].kills) > 0;
    passed += atomic_load(&book->points[i].passed) > 0;
  }
  harness_count("kills", parent.all_kills);
  harness_count("kill-acks", parent.all_acks);
  harness_count("kill-points", points);
  harness_count("kills-in-recovery", parent.in_recovery);
  harness_count("kills-holding-lock", parent.holding);
  printf("%u files at the end, %u descriptors more than files, longest call "
         "%u ms, %u points passed\n",
         (unsigned)parent.most_files, (unsigned)parent.most_fds,
         (unsigned)(parent.longest / 1000000), passed);
}

static void check_points_reached(void) {
  for (uint32_t i = 0; i < atomic_load(&book->point_count); i++)
    if (atomic_load(&book->points[i].passed) == 0)
      printf("nobody came to %s\n", book->points[i].name);
    else
      check_count++;
  for (uint32_t i = 0; i < atomic_load(&book->point_count); i++)
    CHECK(atomic_load(&book->points[i].passed) > 0);
}

int main(int argc, char **argv) {
  if (argc == 10 && strcmp(argv[1], "worker") == 0) return worker_main(argv);
  mkdir("build", 0777);
  mkdir("build/tmp", 0777);
  parent.program = argv[0];
  parent.book_fd = memfd_create("ledger", 0);
  if (parent.book_fd < 0 || ftruncate(parent.book_fd, sizeof *book)) return 1;
  book_map(parent.book_fd);
  int control_fd =
      open("build/tmp/kill_test.control", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pthread_t control;
  if (control_fd < 0 ||
      pthread_create(&control, NULL, control_main, &control_fd) != 0)
    return 1;
  points_find();
  setenv("SKV_TEST_HEAD_ROLL", "12000", 1);
  harness_begin(argc, argv);
  for (int dies = 0; dies < 2 && harness.only == 0; dies++) test_stopped(dies);
  for (uint64_t n; harness_next(CASES, &n);) run_case(n);
  report();
  if (harness_is_full()) check_points_reached();
  return check_end();
}
