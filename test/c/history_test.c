/*
 * Histories of several processes on one store, checked twice: by their LSNs
 * (history_lsn.h) and by values and time alone (history_order.h).
 *
 * Each case is one history: 2 to 4 processes with 1 to 3 threads each do
 * random operations on few keys, in several lives (closed and opened again
 * between), with options, durability and background chosen by the case. Nine
 * cases of ten run their processes as threads over one in-memory file system,
 * where a race detector sees all of the shared memory; the tenth runs real
 * processes on real files.
 *
 *   build/test/c/history_test ?CASE?
 *
 * Timeout: 300
 * Soak: 4
 *
 * Covers: INV-3, INV-4, INV-5, INV-6, P2, P5, P6, P8, P10, P14
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/c/db_fixture.h"
#include "test/c/files.h"
#include "test/c/harness.h"
#include "test/c/history_order.h"

/* A race detector is slow, and cannot follow real processes: these have each
 * their own mapping. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define HISTORIES 40
#define CAN_FORK false
#else
#define HISTORIES 200
#define CAN_FORK true
#endif

#define STEPS 2700 /* of one history, about */
#define TABLES 2
#define PROCESSES 4
#define PROCESS_THREADS 3
#define LARGE 40 /* changes of a transaction that does not fit the log */
#define REAL_PATH "build/tmp/history_test.strata"

/* ---- Processes and threads --------------------------------------------- */

typedef struct process process;

typedef struct worker {
  process *process;
  unsigned number; /* of its log */
  skv_prng rng;
  history_log *log;
  unsigned steps;
  stratakv_error err;
  stratakv_value value;
  history_draft draft, snap_draft, more[2];
  stratakv_snapshot *snap;
  struct seen { /* last read of each key */
    uint32_t value;
    uint64_t version;
  } seen[HISTORY_KEYS];
  pthread_t thread;
} worker;

struct process {
  skv_env *env;
  const char *path;
  stratakv_options options;
  unsigned first, count, lives; /* threads */
  unsigned keys;
  skv_prng rng;
  stratakv_store *store;
  uint32_t tables[TABLES];
  worker workers[PROCESS_THREADS];
  pthread_t thread;
};

/* What outlives a real process. */
static struct shared_state {
  _Atomic unsigned failures, checks;
  _Atomic uint64_t conflicts, refusals, rotations;
  history_log logs[HISTORY_THREADS];
} * all;

static bool worker_need(bool holds, int line, const char *what, int rc,
                        const char *why) {
  atomic_fetch_add_explicit(&all->checks, 1, memory_order_relaxed);
  if (holds) return true;
  if (atomic_fetch_add(&all->failures, 1) < 5)
    printf("history_test.c:%d: failed in %s: %s: %d %s\n", line, check_where,
           what, rc, why);
  fflush(stdout);
  return false;
}
#define NEED(w, condition) worker_need((condition), __LINE__, #condition, 0, "")
#define NEED_OK(w, call) worker_need_ok(w, (call), __LINE__, #call)

static bool worker_need_ok(worker *w, int rc, int line, const char *what) {
  return worker_need(rc == STRATAKV_OK, line, what, rc,
                     rc == STRATAKV_OK ? "" : w->err.message);
}

static uint32_t pick(worker *w, uint32_t below) {
  return (uint32_t)skv_prng_below(&w->rng, below);
}

/* ---- Keys and values --------------------------------------------------- */

/* Keys with an odd half are never removed: of them more is known. */
static bool key_may_go(uint32_t key) { return key / TABLES % 2 == 0; }

static size_t key_text(uint32_t key, char out[16]) {
  return (size_t)snprintf(out, 16, "k%03u", (unsigned)key / TABLES);
}

static uint32_t key_table(const worker *w, uint32_t key) {
  return w->process->tables[key % TABLES];
}

static uint32_t pick_key(worker *w) {
  uint32_t keys = w->process->keys;
  /* Half of all goes to a few. */
  return pick(w, 2) ? pick(w, keys) : pick(w, keys < 6 ? keys : 6);
}

#define VALUE_MAX 2048
static size_t value_bytes(uint32_t v, char out[VALUE_MAX]) {
  size_t n = v % 16 == 0 ? VALUE_MAX : 4 + v * UINT32_C(2654435761) % 200;
  memset(out, 'a' + (int)(v % 26), n);
  memcpy(out, &v, 4);
  return n;
}

/* The number of a value; 0 if it is none. */
static uint32_t value_number(const void *bytes, size_t size) {
  char want[VALUE_MAX];
  uint32_t v;
  if (size < 4) return 0;
  memcpy(&v, bytes, 4);
  return value_bytes(v, want) == size && memcmp(want, bytes, size) == 0 ? v : 0;
}

/* A number for a write; 0 (remove) now and then. */
static uint32_t pick_value(worker *w, uint32_t key) {
  if (key_may_go(key) && pick(w, 4) == 0) return 0;
  return history_value(w->log, w->number);
}

static void note_read(worker *w, history_draft *draft, uint32_t key,
                      uint32_t value, uint64_t version) {
  w->seen[key] = (struct seen){value, version};
  history_note(draft, key, ACCESS_READ, value, version);
}

/* What a read gave: true if it worked, absent or not. */
static bool read_result(worker *w, int rc, uint32_t *value, uint64_t *version) {
  *value = 0;
  *version = 0;
  if (rc == STRATAKV_NOTFOUND) return true;
  if (!NEED_OK(w, rc)) return false;
  *value = value_number(w->value.data, w->value.size);
  *version = w->value.version;
  return NEED(w, *value != 0);
}

/* ---- Single keys ------------------------------------------------------- */

static void step_get(worker *w) {
  char text[16];
  uint32_t key = pick_key(w), value;
  uint64_t version;
  size_t n = key_text(key, text);
  history_draft *d = &w->draft;
  history_draft_init(d, "get");
  d->op.begin.invoked = history_now();
  int rc = stratakv_get(w->process->store, NULL, key_table(w, key), text, n,
                        &w->err, &w->value);
  d->op.begin.returned = history_now();
  if (!read_result(w, rc, &value, &version)) return;
  note_read(w, d, key, value, version);
  history_add(w->log, w->number, d, OP_DONE);
}

static void step_put(worker *w) {
  char text[16], bytes[VALUE_MAX];
  uint32_t key = pick_key(w), v = pick_value(w, key), table = key_table(w, key);
  size_t n = key_text(key, text);
  stratakv_store *store = w->process->store;
  history_draft *d = &w->draft;
  history_draft_init(d, v ? "put" : "delete");
  history_note(d, key, ACCESS_WRITE, v, 0);
  size_t size = value_bytes(v, bytes);
  d->op.commit.invoked = history_now();
  int rc =
      v ? stratakv_put(store, table, text, n, bytes, size, &w->err, &d->op.lsn)
        : stratakv_delete(store, table, text, n, &w->err, &d->op.lsn);
  d->op.commit.returned = history_now();
  if (NEED_OK(w, rc)) history_add(w->log, w->number, d, OP_DONE);
}

/* ---- Batches ----------------------------------------------------------- */

static bool draft_writes(const history_draft *d, uint32_t key) {
  for (uint32_t i = 0; i < d->count; i++)
    if (d->all[i].key == key && (d->all[i].flags & ACCESS_WRITE)) return true;
  return false;
}

/* A condition on what was last seen of a key; it becomes a read. */
static void batch_require(worker *w, history_draft *d, stratakv_batch *batch,
                          uint32_t key) {
  char text[16];
  size_t n = key_text(key, text);
  const struct seen *seen = &w->seen[key];
  int condition = seen->version == 0 ? STRATAKV_IF_ABSENT
                  : pick(w, 4) == 0  ? STRATAKV_IF_PRESENT
                                     : STRATAKV_IF_VERSION;
  uint32_t flags = ACCESS_READ | ACCESS_CHECKED;
  if (condition == STRATAKV_IF_PRESENT) flags |= ACCESS_PRESENT;
  NEED_OK(w, stratakv_batch_require(batch, key_table(w, key), text, n,
                                    condition, seen->version));
  bool is_present = condition == STRATAKV_IF_PRESENT;
  history_note(d, key, flags, is_present ? 0 : seen->value,
               is_present ? 0 : seen->version);
}

static void batch_fill(worker *w, history_draft *d, stratakv_batch *batch) {
  char text[16], bytes[VALUE_MAX];
  unsigned conditions = pick(w, 3), changes = 1 + pick(w, 4);
  history_draft_init(d, "batch");
  uint32_t keys[8];
  for (unsigned i = 0; i < changes; i++) keys[i] = pick_key(w);
  for (unsigned i = 0; i < conditions; i++)
    batch_require(w, d, batch, pick(w, 3) ? keys[0] : pick_key(w));
  d->op.is_atomic = conditions > 0;
  for (unsigned i = 0; i < changes; i++) {
    uint32_t v = pick_value(w, keys[i]), table = key_table(w, keys[i]);
    size_t n = key_text(keys[i], text), size = value_bytes(v, bytes);
    for (uint32_t j = 0; j < d->count; j++) /* a later change wins */
      if (d->all[j].key == keys[i] && (d->all[j].flags & ACCESS_WRITE))
        d->all[j].flags |= ACCESS_HIDDEN;
    history_note(d, keys[i], ACCESS_WRITE, v, 0);
    NEED_OK(w, v ? stratakv_batch_put(batch, table, text, n, bytes, size)
                 : stratakv_batch_delete(batch, table, text, n));
  }
  /* A change of a key with a condition on it is an update. */
  for (uint32_t i = 0; i < d->count; i++)
    if ((d->all[i].flags & ACCESS_READ) && draft_writes(d, d->all[i].key))
      for (uint32_t j = 0; j < d->count; j++)
        if (d->all[j].key == d->all[i].key) d->all[j].flags |= ACCESS_CHECKED;
}

/* A condition that did not hold is a read of the key's version. */
static void batch_refused(worker *w, history_draft *d,
                          const stratakv_result *result) {
  uint32_t at = 0;
  atomic_fetch_add_explicit(&all->refusals, 1, memory_order_relaxed);
  if (!NEED(w, result->failed < d->count)) return;
  at = result->failed; /* conditions come first */
  const history_access *a = &d->all[at];
  bool is_broken = (a->flags & ACCESS_PRESENT) ? result->version == 0
                                               : result->version != a->version;
  NEED(w, is_broken);
  uint32_t key = a->key;
  w->seen[key] = (struct seen){0, 0}; /* the next condition is another one */
  for (uint32_t i = 0; i < d->count; i++) d->all[i].flags &= ~ACCESS_READ;
  history_note(d, key, ACCESS_READ | ACCESS_VERSION, 0, result->version);
  history_add(w->log, w->number, d, OP_REFUSED);
}

static void step_batch(worker *w) {
  history_draft *drafts[3] = {&w->draft, &w->more[0], &w->more[1]};
  stratakv_batch *batches[3];
  stratakv_result results[3];
  unsigned count = pick(w, 4) ? 1 : 1 + pick(w, 3);
  for (unsigned i = 0; i < count; i++) {
    batches[i] = stratakv_batch_new();
    if (batches[i] == NULL) abort();
    batch_fill(w, drafts[i], batches[i]);
  }
  history_time time = {.invoked = history_now()};
  int rc = stratakv_write(w->process->store, batches, count, &w->err, results);
  time.returned = history_now();
  NEED_OK(w, rc);
  for (unsigned i = 0; i < count; i++) {
    stratakv_batch_free(batches[i]);
    history_draft *d = drafts[i];
    d->op.begin = d->op.commit = time;
    d->op.lsn = results[i].lsn;
    if (results[i].code == STRATAKV_CONSTRAINT_CHECK)
      batch_refused(w, d, &results[i]);
    else if (results[i].code == STRATAKV_OK)
      history_add(w->log, w->number, d, OP_DONE);
  }
}

/* ---- Transactions ------------------------------------------------------ */

/* The transaction's own write of the key that counts, or NULL. */
static history_access *txn_own(history_draft *d, uint32_t key) {
  for (uint32_t i = d->count; i-- > 0;)
    if (d->all[i].key == key && (d->all[i].flags & ACCESS_WRITE) &&
        !(d->all[i].flags & ACCESS_HIDDEN))
      return &d->all[i];
  return NULL;
}

/* Read a key; *saw is what a change of it says. */
static bool txn_read(worker *w, history_draft *d, stratakv_txn *txn,
                     uint32_t key, int *saw) {
  char text[16];
  uint32_t value;
  uint64_t version;
  size_t n = key_text(key, text);
  const history_access *own = txn_own(d, key);
  int rc =
      stratakv_txn_get(txn, key_table(w, key), text, n, &w->err, &w->value);
  if (!read_result(w, rc, &value, &version)) return false;
  *saw = value ? STRATAKV_SAW_PRESENT : STRATAKV_SAW_ABSENT;
  if (own != NULL) {
    *saw = STRATAKV_BLIND;
    return NEED(w, version == 0 && value == own->value);
  }
  note_read(w, d, key, value, version);
  return true;
}

static void txn_write(worker *w, history_draft *d, stratakv_txn *txn,
                      uint32_t key, uint32_t v, int saw) {
  char text[16], bytes[VALUE_MAX];
  uint32_t table = key_table(w, key);
  size_t n = key_text(key, text), size = value_bytes(v, bytes);
  uint32_t flags = ACCESS_WRITE;
  if (saw != STRATAKV_BLIND) flags |= ACCESS_CHECKED;
  NEED_OK(w,
          v ? stratakv_txn_put(txn, table, text, n, bytes, size, saw, &w->err)
            : stratakv_txn_delete(txn, table, text, n, saw, &w->err));
  history_note(d, key, flags, v, 0);
}

/* Only a key's last change counts; the check of an earlier one stays. */
static void txn_settle(history_draft *d) {
  for (uint32_t i = 0; i < d->count; i++) {
    history_access *a = &d->all[i];
    if (!(a->flags & ACCESS_WRITE) || (a->flags & ACCESS_HIDDEN)) continue;
    history_access *last = txn_own(d, a->key);
    if (last == a) continue;
    last->flags |= a->flags & ACCESS_CHECKED;
    a->flags |= ACCESS_HIDDEN;
  }
}

static void txn_change(worker *w, history_draft *d, stratakv_txn *txn) {
  uint32_t key = pick_key(w);
  int saw = STRATAKV_BLIND;
  if (pick(w, 5) && !txn_read(w, d, txn, key, &saw)) return;
  if (pick(w, 4)) txn_write(w, d, txn, key, pick_value(w, key), saw);
}

/* Changes that are taken back. */
static void txn_inner(worker *w, history_draft *d, stratakv_txn *txn) {
  uint64_t mark;
  if (!NEED_OK(w, stratakv_savepoint(txn, &w->err, &mark))) return;
  uint32_t from = d->count;
  for (unsigned n = 1 + pick(w, 3); n > 0; n--) txn_change(w, d, txn);
  if (pick(w, 3) == 0) {
    stratakv_release(txn, mark);
    return;
  }
  if (!NEED_OK(w, stratakv_rollback_to(txn, mark, &w->err))) return;
  for (uint32_t i = from; i < d->count; i++)
    if (d->all[i].flags & ACCESS_WRITE) {
      d->all[i].flags |= ACCESS_HIDDEN;
      d->all[i].flags &= ~ACCESS_CHECKED;
    }
}

static void txn_fill_large(worker *w, history_draft *d, stratakv_txn *txn) {
  d->op.is_large = true;
  for (unsigned n = 0; n < LARGE; n++) {
    uint32_t key = pick_key(w);
    int saw = STRATAKV_BLIND;
    if (pick(w, 3) == 0 && !txn_read(w, d, txn, key, &saw)) return;
    while (w->log->values % 16 != 15) w->log->values++; /* a long value */
    txn_write(w, d, txn, key, history_value(w->log, w->number), saw);
  }
}

static void txn_end(worker *w, history_draft *d, stratakv_txn *txn) {
  unsigned how = pick(w, 20);
  bool commit = how >= 3, prepare = how == 0 || how >= 17;
  txn_settle(d);
  d->op.commit.invoked = history_now();
  int rc = STRATAKV_OK;
  if (prepare) rc = stratakv_prepare(txn, &w->err);
  if (prepare && rc == STRATAKV_OK && pick(w, 4) == 0) sched_yield();
  if (commit && rc == STRATAKV_OK)
    rc = stratakv_commit(txn, &w->err, &d->op.lsn);
  d->op.commit.returned = history_now();
  if (!commit || rc != STRATAKV_OK) stratakv_rollback(txn);
  if (rc == STRATAKV_BUSY_SNAPSHOT)
    atomic_fetch_add_explicit(&all->conflicts, 1, memory_order_relaxed);
  else if (!NEED_OK(w, rc))
    return;
  int end = rc != STRATAKV_OK ? OP_CONFLICT : commit ? OP_DONE : OP_ABORTED;
  history_add(w->log, w->number, d, end);
}

static void step_get(worker *w);

static void step_txn(worker *w) {
  stratakv_txn *txn = NULL;
  history_draft *d = &w->more[0]; /* `draft` is used within */
  history_draft_init(d, "txn");
  d->op.begin.invoked = history_now();
  if (!NEED_OK(w, stratakv_begin(w->process->store, &w->err, &txn))) return;
  d->op.begin.returned = history_now();
  if (pick(w, 30) == 0)
    txn_fill_large(w, d, txn);
  else
    for (unsigned n = 1 + pick(w, 4); n > 0; n--) {
      if (pick(w, 8) == 0)
        txn_inner(w, d, txn);
      else
        txn_change(w, d, txn);
      if (pick(w, 6) == 0) step_put(w); /* another commit between */
      if (pick(w, 6) == 0) sched_yield();
    }
  txn_end(w, d, txn);
}

/* ---- Snapshots and scans ----------------------------------------------- */

/* Read the keys of one table in [low, high) with a cursor. */
static bool scan(worker *w, history_draft *d, const stratakv_snapshot *snap,
                 uint32_t low, uint32_t high) {
  char start[16], end[16], want[16];
  uint32_t table = low % TABLES;
  stratakv_cursor *c = NULL;
  stratakv_range range = {.start = start, .end = end};
  range.start_len = key_text(low, start);
  range.end_len = key_text(high, end);
  bool back = pick(w, 2), fine = true;
  stratakv_store *store = w->process->store;
  history_time time = {.invoked = history_now()};
  int rc = stratakv_cursor_open(store, snap, NULL, w->process->tables[table],
                                &range, &w->err, &c);
  time.returned = history_now();
  if (snap == NULL) d->op.begin = time;
  if (rc == STRATAKV_OK)
    rc = back ? stratakv_cursor_last(c, &w->err)
              : stratakv_cursor_first(c, &w->err);
  for (uint32_t n = low; n < high; n += TABLES) {
    uint32_t key = back ? low + (high - TABLES - n) : n, value = 0;
    uint64_t version = 0;
    size_t len = 0, size, want_len = key_text(key, want);
    if (rc != STRATAKV_OK) break;
    bool valid = stratakv_cursor_valid(c);
    const void *found = valid ? stratakv_cursor_key(c, &len) : "";
    if (valid && len == want_len && memcmp(found, want, len) == 0) {
      const void *bytes = stratakv_cursor_value(c, &size);
      value = value_number(bytes, size);
      version = stratakv_cursor_version(c);
      fine = NEED(w, value != 0) && fine;
      rc = back ? stratakv_cursor_prev(c, &w->err)
                : stratakv_cursor_next(c, &w->err);
    }
    note_read(w, d, key, value, version);
  }
  fine = NEED_OK(w, rc) && NEED(w, !stratakv_cursor_valid(c)) && fine;
  stratakv_cursor_close(c);
  return fine;
}

static void pick_range(worker *w, uint32_t *low, uint32_t *high) {
  uint32_t half = w->process->keys / TABLES, table = pick(w, TABLES);
  uint32_t from = pick(w, half), count = 1 + pick(w, half - from);
  *low = from * TABLES + table;
  *high = (from + count) * TABLES + table;
}

static void step_scan(worker *w) {
  uint32_t low, high;
  pick_range(w, &low, &high);
  history_draft_init(&w->draft, "scan");
  if (scan(w, &w->draft, NULL, low, high))
    history_add(w->log, w->number, &w->draft, OP_DONE);
}

static void snapshot_open(worker *w) {
  history_draft *d = &w->snap_draft;
  history_draft_init(d, "snapshot");
  d->op.begin.invoked = history_now();
  if (!NEED_OK(w, stratakv_snapshot_open(w->process->store, &w->err, &w->snap)))
    return;
  d->op.begin.returned = history_now();
  d->op.snapshot = stratakv_snapshot_lsn(w->snap);
}

static void snapshot_close(worker *w) {
  if (w->snap == NULL) return;
  stratakv_snapshot_close(w->snap);
  w->snap = NULL;
  history_add(w->log, w->number, &w->snap_draft, OP_DONE);
}

static void step_snapshot(worker *w) {
  char text[16];
  uint32_t key = pick_key(w), value, low, high;
  uint64_t version;
  if (w->snap == NULL) snapshot_open(w);
  if (w->snap == NULL) return;
  if (pick(w, 3) == 0) {
    pick_range(w, &low, &high);
    scan(w, &w->snap_draft, w->snap, low, high);
  } else {
    size_t n = key_text(key, text);
    int rc = stratakv_get(w->process->store, w->snap, key_table(w, key), text,
                          n, &w->err, &w->value);
    if (read_result(w, rc, &value, &version))
      note_read(w, &w->snap_draft, key, value, version);
  }
  if (pick(w, 4) == 0 || w->snap_draft.count > HISTORY_DRAFT - 64)
    snapshot_close(w);
}

/* ---- Lives ------------------------------------------------------------- */

static void worker_step(worker *w) {
  unsigned what = pick(w, 1000);
  stratakv_store *store = w->process->store;
  if (what < 400)
    step_get(w);
  else if (what < 580)
    step_put(w);
  else if (what < 680)
    step_batch(w);
  else if (what < 830)
    step_txn(w);
  else if (what < 880)
    step_scan(w);
  else if (what < 994)
    step_snapshot(w);
  else if (what < 998)
    NEED_OK(w, stratakv_flush(store, &w->err));
  else
    NEED_OK(w, stratakv_compact(store, NULL, NULL, &w->err));
}

static void *worker_main(void *arg) {
  worker *w = arg;
  for (unsigned n = 0;
       n < w->steps && history_has_room(w->log) &&
       atomic_load_explicit(&all->failures, memory_order_relaxed) == 0;
       n++)
    worker_step(w);
  snapshot_close(w);
  stratakv_value_clear(&w->value);
  return NULL;
}

static bool process_open(process *p) {
  worker *w = &p->workers[0];
  if (!NEED_OK(w,
               skv_open_in(p->env, p->path, &p->options, &w->err, &p->store)))
    return false;
  for (int i = 0; i < TABLES; i++) {
    stratakv_table_info info;
    if (!NEED_OK(w, stratakv_table(p->store, i ? "b" : "a", STRATAKV_KEY_TEXT,
                                   1, &w->err, &info)))
      return false;
    p->tables[i] = info.id;
  }
  return true;
}

static void *process_main(void *arg) {
  process *p = arg;
  for (unsigned life = 0; life < p->lives; life++) {
    if (process_open(p)) {
      for (unsigned i = 0; i < p->count; i++)
        if (pthread_create(&p->workers[i].thread, NULL, worker_main,
                           &p->workers[i]))
          abort();
      for (unsigned i = 0; i < p->count; i++)
        pthread_join(p->workers[i].thread, NULL);
    }
    NEED_OK(&p->workers[0], stratakv_close(p->store, &p->workers[0].err));
    p->store = NULL;
    if (atomic_load(&all->failures) > 0) break;
  }
  return NULL;
}

/* ---- A history --------------------------------------------------------- */

typedef struct history_plan {
  uint64_t number;
  bool is_real;
  unsigned processes, threads, keys; /* threads: of all */
  process list[PROCESSES];
} history_plan;

static void plan_process(history_plan *plan, process *p, skv_prng *rng,
                         unsigned steps) {
  p->keys = plan->keys;
  p->first = plan->threads;
  p->lives = 1 + (unsigned)skv_prng_below(rng, 4);
  p->options = fixture_options();
  p->options.sync = (int)skv_prng_below(rng, plan->is_real ? 6 : 3);
  if (p->options.sync > STRATAKV_SYNC_OFF) p->options.sync = STRATAKV_SYNC_OFF;
  p->options.background = skv_prng_below(rng, 3) != 0;
  p->options.compression = (int)skv_prng_below(rng, 3);
  p->options.mmap = skv_prng_below(rng, 4) != 0;
  p->options.filter_bits = skv_prng_below(rng, 4) ? 10 : 0;
  p->options.busy_timeout_ms = 60000;
  for (unsigned i = 0; i < p->count; i++) {
    worker *w = &p->workers[i];
    memset(w, 0, sizeof *w);
    w->process = p;
    w->number = plan->threads++;
    w->rng = (skv_prng){skv_prng_u64(rng)};
    w->log = &all->logs[w->number];
    w->log->ops = w->log->accesses = w->log->values = 0;
    w->log->reads = 0;
    w->steps = steps / p->lives + 1;
  }
}

static void plan_make(history_plan *plan, uint64_t number) {
  skv_prng rng = {number * 7919 + 17};
  plan->number = number;
  plan->is_real = number % 10 == 0;
  plan->processes = 2 + (unsigned)skv_prng_below(&rng, 3);
  plan->threads = 0;
  plan->keys =
      TABLES * (2 + (unsigned)skv_prng_below(&rng, HISTORY_KEYS / TABLES - 2));
  if (skv_prng_below(&rng, 2)) plan->keys = TABLES * (2 + plan->keys % 6);
  unsigned threads = 0;
  for (unsigned i = 0; i < plan->processes; i++) {
    plan->list[i].count = 1 + (unsigned)skv_prng_below(&rng, PROCESS_THREADS);
    threads += plan->list[i].count;
  }
  for (unsigned i = 0; i < plan->processes; i++)
    plan_process(plan, &plan->list[i], &rng, STEPS / threads);
}

/* When all are done: what the next user finds. */
static void read_all(history_plan *plan) {
  process *p = &plan->list[0];
  worker *w = &p->workers[0];
  w->number = plan->threads++;
  w->log = &all->logs[w->number];
  w->log->ops = w->log->accesses = w->log->values = 0;
  w->log->reads = 0;
  if (process_open(p))
    for (uint32_t table = 0; table < TABLES; table++) {
      history_draft_init(&w->draft, "last scan");
      if (scan(w, &w->draft, NULL, table, p->keys + table))
        history_add(w->log, w->number, &w->draft, OP_DONE);
    }
  NEED_OK(w, stratakv_close(p->store, &w->err));
}

static void run_threads(history_plan *plan) {
  skv_env *first = fixture_world(&(fixture_image){0});
  for (unsigned i = 0; i < plan->processes; i++) {
    process *p = &plan->list[i];
    p->env = i ? skv_env_mem_process(first) : first;
    p->path = FIXTURE_PATH;
  }
  for (unsigned i = 0; i < plan->processes; i++)
    if (pthread_create(&plan->list[i].thread, NULL, process_main,
                       &plan->list[i]))
      abort();
  for (unsigned i = 0; i < plan->processes; i++)
    pthread_join(plan->list[i].thread, NULL);
  read_all(plan);
  for (unsigned i = plan->processes; i-- > 0;)
    skv_env_mem_free(plan->list[i].env);
}

static void run_processes(history_plan *plan) {
  pid_t pids[PROCESSES];
  files_remove(REAL_PATH);
  fflush(stdout);
  for (unsigned i = 0; i < plan->processes; i++) {
    plan->list[i].env = skv_env_posix();
    plan->list[i].path = REAL_PATH;
    pids[i] = fork();
    if (pids[i] < 0) abort();
    if (pids[i] > 0) continue;
    process_main(&plan->list[i]);
    fflush(stdout);
    harness_exit(0);
  }
  for (unsigned i = 0; i < plan->processes; i++) {
    int status = -1;
    while (waitpid(pids[i], &status, 0) < 0) continue;
    CHECK(status == 0);
  }
  read_all(plan);
}

static struct totals { uint64_t operations, histories, real; } totals;

static void run_case(uint64_t number) {
  static history_plan plan;
  plan_make(&plan, number);
  if (plan.is_real && CAN_FORK) {
    run_processes(&plan);
    totals.real++;
  } else {
    run_threads(&plan);
  }
  if (!CHECK(atomic_load(&all->failures) == 0)) return;
  history h = {plan.threads, plan.keys, all->logs};
  history_check_lsn(&h);
  history_check_order(&h);
  totals.histories++;
  for (unsigned t = 0; t < h.threads; t++) totals.operations += h.logs[t].ops;
  if (check_failures > 0)
    printf("repeat: build/test/c/history_test %" PRIu64 "\n", number);
}

int main(int argc, char **argv) {
  size_t size = sizeof *all;
  all = mmap(NULL, size, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return 1;
  files_begin();
  harness_begin(argc, argv);
  for (uint64_t n; harness_next(HISTORIES, &n);) run_case(n);
  files_remove(REAL_PATH);
  check_where = "";
  CHECK(all->conflicts > 0 || !harness_is_full());
  CHECK(all->refusals > 0 || !harness_is_full());
  printf("%" PRIu64 " conflicts, %" PRIu64 " refused, %" PRIu64
         " histories of real processes\n",
         (uint64_t)all->conflicts, (uint64_t)all->refusals, totals.real);
  harness_count("history-operations", totals.operations);
  harness_count("histories", totals.histories);
  check_count += all->checks;
  return check_end();
}
