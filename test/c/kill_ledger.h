/*
 * The ledger of kill_test.c: what every worker was about to commit and what
 * was acknowledged, in memory outside the store that outlives all of them.
 *
 * COMMIT  Its changes follow from the case's seed, its worker and its number
 *   alone, so the ledger holds a state and an LSN of each. All but single
 *   deletes write a row of their own to the table "journal", which nobody
 *   changes again: a row there is a commit that happened.
 *
 * VERDICT  ledger_audit takes a snapshot and computes what it must show from
 *   the ledger: all commits below its LSN, in order of their LSNs. Every row
 *   has to be there with those bytes and that version, and nothing else.
 *   Whether a commit that was not acknowledged happened is taken from its row,
 *   once: it must stay so.
 *
 * Covers: INV-1, INV-2, INV-3, INV-4, P2
 */
#ifndef TEST_C_KILL_LEDGER_H
#define TEST_C_KILL_LEDGER_H

#include <stdatomic.h>
#include <unistd.h>

#include "test/c/db_fixture.h"

#define LEDGER_WORKERS 8
#define LEDGER_COMMITS 20000 /* of one worker in one case */
#define LEDGER_SNAPS 20000
#define LEDGER_POINTS 256

/* Keys of the table "rows": each worker's own, those that all write blindly,
 * and those that all add to. */
#define ROWS_OWN 40
#define ROWS_SHARED 8
#define ROWS_COUNTERS 3
#define ROWS_BLIND (LEDGER_WORKERS * ROWS_OWN)
#define ROWS_COUNTER (ROWS_BLIND + ROWS_SHARED)
#define ROWS (ROWS_COUNTER + ROWS_COUNTERS)
#define LEDGER_LARGE 250 /* changes of a transaction that the log cannot hold */
#define LEDGER_MOST 1500 /* of one that spills many times */

enum {
  STATE_NONE,
  STATE_INTENDED,
  STATE_ACKED,   /* success was reported, with the LSN */
  STATE_REFUSED, /* failure was reported, or it was rolled back */
  STATE_FOUND,   /* its worker died; it had happened */
  STATE_ABSENT   /* its worker died; it had not */
};

enum {
  KIND_PUT,    /* the journal row alone */
  KIND_DELETE, /* one own row, without a journal row */
  KIND_BATCH,
  KIND_REFUSED, /* with a condition that does not hold */
  KIND_TXN,
  KIND_PREPARED,
  KIND_ABORTED, /* prepared and rolled back */
  KIND_LARGE,
  KIND_LARGE_ABORTED
};

typedef struct ledger_commit {
  _Atomic uint32_t state;
  uint32_t kind;
  _Atomic uint64_t lsn;
  _Atomic uint64_t until; /* not 0: a found delete, whose LSN is below this and
                             not below `lsn` */
} ledger_commit;

typedef struct ledger_worker {
  _Atomic uint32_t begun;    /* entries of commits[] */
  _Atomic uint32_t resolved; /* below this none is INTENDED */
  _Atomic uint64_t acked;    /* LSN of the newest acknowledged one */
  ledger_commit commits[LEDGER_COMMITS];
  /* Of its present life: */
  _Atomic uint64_t call_began; /* 0: in no call of the store */
  _Atomic uint32_t call;       /* KIND_*, or another number to know it by */
  _Atomic uint32_t at_point;   /* the last one passed, + 1 */
  _Atomic uint32_t died_at;    /* the one that killed it, + 1 */
  _Atomic uint64_t locks;      /* of LOCK, held exclusively: bit SKV_LOCK_* */
  _Atomic uint32_t recovers;   /* 1 from alone to open */
} ledger_worker;

/* What a reader saw: the newest journal row of each worker, + 1. */
typedef struct ledger_snap {
  _Atomic uint64_t lsn; /* written last */
  uint32_t newest[LEDGER_WORKERS];
} ledger_snap;

typedef struct ledger_point {
  char name[32];
  _Atomic uint64_t passed, kills;
  uint64_t planned; /* to be killed or stopped there */
} ledger_point;

typedef struct ledger {
  uint64_t seed;             /* of the case */
  _Atomic uint32_t stop;     /* all close and leave */
  _Atomic uint32_t failures; /* printed by whoever saw them */
  _Atomic uint64_t checks, conflicts, calls;
  _Atomic uint64_t longest; /* call, nanoseconds, the machine's stalls off */
  _Atomic uint32_t stops;   /* grows with each SIGSTOP and SIGCONT: odd while
                               somebody is stopped */
  _Atomic uint32_t snap_count;
  ledger_snap snaps[LEDGER_SNAPS];
  ledger_worker workers[LEDGER_WORKERS];
  /* Over all cases: */
  _Atomic uint64_t stalled; /* by how much the machine was late in all */
  _Atomic uint64_t beat;    /* when the control thread was last on time */
  _Atomic uint32_t point_count;
  ledger_point points[LEDGER_POINTS];
} ledger;

static ledger *book;

/* ---- Failures ---------------------------------------------------------- */

static inline bool need(bool holds, const char *file, int line,
                        const char *what, const char *why) {
  atomic_fetch_add(&book->checks, 1);
  if (holds) return true;
  if (atomic_fetch_add(&book->failures, 1) < 20)
    printf("%s:%d: case %llu, pid %d: %s%s%s\n", file, line,
           (unsigned long long)book->seed, (int)getpid(), what,
           *why ? ": " : "", why);
  fflush(stdout);
  return false;
}
#define NEED(condition) need((condition), __FILE__, __LINE__, #condition, "")

static inline bool need_ok(int rc, const char *file, int line,
                           const char *what) {
  char why[560] = "";
  if (rc != STRATAKV_OK)
    snprintf(why, sizeof why, "%d %s", rc, fixture_err.message);
  return need(rc == STRATAKV_OK, file, line, what, why);
}
#define NEED_OK(call) need_ok((call), __FILE__, __LINE__, #call)

/* ---- What a commit changes --------------------------------------------- */

typedef struct ledger_change {
  uint32_t row;
  bool is_delete;
} ledger_change;

static inline bool kind_has_row(uint32_t kind) { return kind != KIND_DELETE; }

/* Its changes but for the journal row; a counter is changed by adding one. */
static inline uint32_t ledger_changes(uint32_t worker, uint32_t n,
                                      uint32_t kind,
                                      ledger_change out[LEDGER_MOST]) {
  skv_prng rng = {book->seed * 1000003u + worker * 100000007u + n};
  uint32_t count = 0;
  if (kind == KIND_DELETE) count = 1;
  if (kind >= KIND_BATCH) count = 1 + (uint32_t)skv_prng_below(&rng, 6);
  if (kind >= KIND_LARGE) count = n % 4 == 0 ? LEDGER_MOST : LEDGER_LARGE;
  for (uint32_t i = 0; i < count; i++) {
    out[i].row = worker * ROWS_OWN + (uint32_t)skv_prng_below(&rng, ROWS_OWN);
    if (kind != KIND_DELETE && skv_prng_below(&rng, 8) == 0)
      out[i].row = ROWS_BLIND + (uint32_t)skv_prng_below(&rng, ROWS_SHARED);
    out[i].is_delete = kind == KIND_DELETE || skv_prng_below(&rng, 4) == 0;
  }
  if (kind >= KIND_TXN && kind < KIND_LARGE && skv_prng_below(&rng, 2) == 0) {
    out[0].row = ROWS_COUNTER + (uint32_t)skv_prng_below(&rng, ROWS_COUNTERS);
    out[0].is_delete = false;
  }
  return count;
}

static inline size_t row_key(uint32_t row, char out[32]) {
  return (size_t)snprintf(out, 32, "row:%04u", (unsigned)row);
}

static inline size_t journal_key(uint32_t worker, uint32_t n, char out[32]) {
  return (size_t)snprintf(out, 32, "%u:%08u", (unsigned)worker, (unsigned)n);
}

/* Who wrote a row last, in which commit, by which change; a counter's sum. */
typedef struct ledger_value {
  uint32_t worker, n, change, sum;
} ledger_value;

#define VALUE_MOST 256

static inline size_t value_make(const ledger_value *v, char out[VALUE_MOST]) {
  uint32_t mix = (v->n * 31 + v->change) * UINT32_C(2654435761);
  size_t size = sizeof *v + (mix >> 8) % 160;
  memcpy(out, v, sizeof *v);
  for (size_t i = sizeof *v; i < size; i++)
    out[i] = (char)('a' + (mix + i * 7) % 26);
  return size;
}

static inline bool value_read(const void *bytes, size_t size,
                              ledger_value *out) {
  char want[VALUE_MOST];
  memset(out, 0, sizeof *out);
  if (size < sizeof *out) return false;
  memcpy(out, bytes, sizeof *out);
  return value_make(out, want) == size && memcmp(want, bytes, size) == 0;
}

/* ---- The audit --------------------------------------------------------- */

typedef struct audit_commit {
  uint64_t lsn;
  uint32_t worker, n;
} audit_commit;

typedef struct audit_row {
  ledger_value value;
  uint64_t lsn;
  bool is_there, is_open; /* open: a delete of it is under way */
} audit_row;

typedef struct audit {
  stratakv_store *store;
  stratakv_snapshot *snap;
  uint64_t lsn;
  uint32_t rows_table, journal_table;
  uint32_t begun[LEDGER_WORKERS];
  struct {
    uint32_t state;
    uint64_t lsn, until;
    bool has_row;
  } (*commits)[LEDGER_COMMITS]; /* per worker: as the ledger says, and the
                                   journal */
  audit_commit *order;
  size_t order_count;
  audit_row rows[ROWS];
} audit;

/* Of one commit, what is wrong. */
static inline bool audit_need(bool holds, const audit *a, uint32_t worker,
                              uint32_t n, const char *what, uint64_t lsn) {
  const ledger_commit *c = &book->workers[worker].commits[n];
  char why[200];
  if (holds) return need(true, __FILE__, __LINE__, what, "");
  snprintf(why, sizeof why,
           "worker %u commit %u kind %u state %u LSN %llu; seen %llu at "
           "snapshot %llu",
           worker, n, c->kind, atomic_load(&c->state),
           (unsigned long long)atomic_load(&c->lsn), (unsigned long long)lsn,
           (unsigned long long)a->lsn);
  return need(false, __FILE__, __LINE__, what, why);
}

/* The ledger as of a moment after the snapshot. */
static inline void audit_copy(audit *a) {
  a->commits = fixture_alloc(sizeof *a->commits * LEDGER_WORKERS);
  for (uint32_t w = 0; w < LEDGER_WORKERS; w++) {
    ledger_worker *from = &book->workers[w];
    a->begun[w] = atomic_load(&from->begun);
    for (uint32_t n = 0; n < a->begun[w]; n++) {
      a->commits[w][n].state = atomic_load(&from->commits[n].state);
      a->commits[w][n].lsn = atomic_load(&from->commits[n].lsn);
      a->commits[w][n].until = atomic_load(&from->commits[n].until);
    }
  }
}

static inline void audit_journal_row(audit *a, stratakv_cursor *c) {
  size_t key_len, size;
  unsigned w = LEDGER_WORKERS, n = 0;
  char text[32] = "", again[32];
  const char *key = stratakv_cursor_key(c, &key_len);
  const void *bytes = stratakv_cursor_value(c, &size);
  uint64_t lsn = stratakv_cursor_version(c);
  ledger_value value;
  if (key_len < sizeof text) memcpy(text, key, key_len);
  sscanf(text, "%u:%u", &w, &n);
  if (!NEED(w < LEDGER_WORKERS && n < a->begun[w] &&
            journal_key(w, n, again) == key_len && strcmp(text, again) == 0))
    return;
  NEED(value_read(bytes, size, &value) && value.worker == w && value.n == n);
  uint32_t state = a->commits[w][n].state;
  a->commits[w][n].has_row = true;
  audit_need(lsn < a->lsn, a, w, n, "not beyond the snapshot", lsn);
  audit_need(state != STATE_REFUSED && state != STATE_ABSENT, a, w, n,
             "what failed is not there", lsn);
  if (state == STATE_INTENDED) {
    a->commits[w][n].lsn = lsn;
    a->commits[w][n].state = STATE_FOUND;
  } else {
    audit_need(lsn == a->commits[w][n].lsn, a, w, n, "at its LSN", lsn);
  }
}

static inline void audit_journal(audit *a) {
  stratakv_cursor *c = NULL;
  int rc = stratakv_cursor_open(a->store, a->snap, NULL, a->journal_table, NULL,
                                &fixture_err, &c);
  if (rc == STRATAKV_OK) rc = stratakv_cursor_first(c, &fixture_err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(c)) {
    audit_journal_row(a, c);
    rc = stratakv_cursor_next(c, &fixture_err);
  }
  NEED_OK(rc);
  stratakv_cursor_close(c);
}

static inline int audit_by_lsn(const void *x, const void *y) {
  const audit_commit *a = x, *b = y;
  return a->lsn < b->lsn ? -1 : a->lsn > b->lsn;
}

/* All that happened below the snapshot, by LSN. */
static inline void audit_order(audit *a) {
  size_t most = 0;
  for (uint32_t w = 0; w < LEDGER_WORKERS; w++) most += a->begun[w];
  a->order = fixture_alloc(most * sizeof *a->order);
  for (uint32_t w = 0; w < LEDGER_WORKERS; w++) {
    uint64_t last = 0;
    for (uint32_t n = 0; n < a->begun[w]; n++) {
      uint32_t state = a->commits[w][n].state;
      uint64_t lsn = a->commits[w][n].lsn;
      if (state != STATE_ACKED && state != STATE_FOUND) continue;
      audit_need(lsn > last, a, w, n, "later than the one before", last);
      last = lsn;
      if (lsn >= a->lsn || a->commits[w][n].until > a->lsn) continue;
      if (kind_has_row(book->workers[w].commits[n].kind))
        audit_need(a->commits[w][n].has_row, a, w, n, "it is there", 0);
      a->order[a->order_count++] = (audit_commit){lsn, w, n};
    }
  }
  qsort(a->order, a->order_count, sizeof *a->order, audit_by_lsn);
  for (size_t i = 1; i < a->order_count; i++) /* a found delete's is no LSN */
    audit_need(a->order[i].lsn % 8 != 0 ||
                   a->order[i].lsn != a->order[i - 1].lsn,
               a, a->order[i].worker, a->order[i].n, "an LSN of its own",
               a->order[i].lsn);
}

/* What the rows must be. */
static inline void audit_fold(audit *a) {
  ledger_change changes[LEDGER_MOST];
  for (size_t i = 0; i < a->order_count; i++) {
    const audit_commit *c = &a->order[i];
    uint32_t kind = book->workers[c->worker].commits[c->n].kind;
    uint32_t count = ledger_changes(c->worker, c->n, kind, changes);
    for (uint32_t j = 0; j < count; j++) {
      audit_row *row = &a->rows[changes[j].row];
      uint32_t sum = changes[j].row >= ROWS_COUNTER ? row->value.sum + 1 : 0;
      row->is_there = !changes[j].is_delete;
      row->value = (ledger_value){c->worker, c->n, j, sum};
      row->lsn = c->lsn;
    }
  }
  for (uint32_t w = 0; w < LEDGER_WORKERS; w++)
    for (uint32_t n = 0; n < a->begun[w]; n++) {
      uint32_t kind = book->workers[w].commits[n].kind;
      bool is_known = a->commits[w][n].state != STATE_INTENDED &&
                      a->commits[w][n].until <= a->lsn;
      if (is_known || kind_has_row(kind)) continue;
      ledger_changes(w, n, kind, changes);
      a->rows[changes[0].row].is_open = true;
    }
}

static inline void audit_row_is(const audit *a, stratakv_cursor *c,
                                audit_row *row) {
  size_t size;
  ledger_value value;
  char why[200];
  const void *bytes = stratakv_cursor_value(c, &size);
  uint64_t lsn = stratakv_cursor_version(c);
  NEED(value_read(bytes, size, &value));
  bool same = row->is_there && lsn == row->lsn &&
              memcmp(&value, &row->value, sizeof value) == 0;
  snprintf(why, sizeof why,
           "row %u is of worker %u commit %u change %u sum %u at %llu; want "
           "%s%u %u %u %u at %llu; snapshot %llu",
           (unsigned)(row - a->rows), value.worker, value.n, value.change,
           value.sum, (unsigned long long)lsn, row->is_there ? "" : "none, ",
           row->value.worker, row->value.n, row->value.change, row->value.sum,
           (unsigned long long)row->lsn, (unsigned long long)a->lsn);
  need(same, __FILE__, __LINE__, "a row is what its last commit made it", why);
  row->is_there = false; /* seen */
}

static inline void audit_rows(audit *a) {
  stratakv_cursor *c = NULL;
  int rc = stratakv_cursor_open(a->store, a->snap, NULL, a->rows_table, NULL,
                                &fixture_err, &c);
  if (rc == STRATAKV_OK) rc = stratakv_cursor_first(c, &fixture_err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(c)) {
    size_t len;
    unsigned i = ROWS;
    const char *key = stratakv_cursor_key(c, &len);
    if (len == 8) sscanf(key, "row:%4u", &i);
    if (!NEED(i < ROWS)) break;
    audit_row_is(a, c, &a->rows[i]);
    rc = stratakv_cursor_next(c, &fixture_err);
  }
  NEED_OK(rc);
  stratakv_cursor_close(c);
  for (uint32_t i = 0; i < ROWS; i++) {
    const audit_row *row = &a->rows[i];
    if (row->is_there && !row->is_open)
      audit_need(false, a, row->value.worker, row->value.n, "its row is there",
                 row->lsn);
  }
}

/* Every snapshot that anyone took showed exactly what lies below its LSN. */
static inline void audit_snaps(const audit *a) {
  uint32_t snaps = atomic_load(&book->snap_count);
  if (snaps > LEDGER_SNAPS) snaps = LEDGER_SNAPS;
  for (uint32_t i = 0; i < snaps; i++) {
    uint64_t lsn = atomic_load(&book->snaps[i].lsn);
    if (lsn == 0 || lsn > a->lsn) continue; /* its reader died, or later */
    uint32_t newest[LEDGER_WORKERS] = {0};
    size_t low = 0, high = a->order_count;
    while (low < high) {
      size_t middle = (low + high) / 2;
      if (a->order[middle].lsn < lsn)
        low = middle + 1;
      else
        high = middle;
    }
    /* Backwards, until each worker's newest is found. */
    uint32_t found = 0;
    for (size_t j = low; j-- > 0 && found < LEDGER_WORKERS;) {
      const audit_commit *c = &a->order[j];
      if (newest[c->worker] != 0 ||
          !kind_has_row(book->workers[c->worker].commits[c->n].kind))
        continue;
      newest[c->worker] = c->n + 1;
      found++;
    }
    for (uint32_t w = 0; w < LEDGER_WORKERS; w++)
      if (newest[w] != book->snaps[i].newest[w])
        audit_need(false, a, w, book->snaps[i].newest[w],
                   "a snapshot shows all below its LSN", lsn);
    atomic_fetch_add(&book->checks, 1);
  }
}

/* The tables are made by whoever is first. */
static inline bool ledger_tables(stratakv_store *store, uint32_t *rows,
                                 uint32_t *journal) {
  stratakv_table_info info;
  if (!NEED_OK(stratakv_table(store, "rows", STRATAKV_KEY_TEXT, 1, &fixture_err,
                              &info)))
    return false;
  *rows = info.id;
  if (!NEED_OK(stratakv_table(store, "journal", STRATAKV_KEY_TEXT, 1,
                              &fixture_err, &info)))
    return false;
  *journal = info.id;
  return true;
}

/* At any moment, beside writers too. A copy holds what lies below its LSN;
 * 0: it is the store itself. */
static inline void ledger_audit(stratakv_store *store, uint64_t copy_lsn) {
  audit *a = fixture_alloc(sizeof *a);
  a->store = store;
  if (ledger_tables(store, &a->rows_table, &a->journal_table) &&
      NEED_OK(stratakv_snapshot_open(store, &fixture_err, &a->snap))) {
    a->lsn = copy_lsn ? copy_lsn : stratakv_snapshot_lsn(a->snap);
    audit_copy(a);
    audit_journal(a);
    audit_order(a);
    audit_fold(a);
    audit_rows(a);
    audit_snaps(a);
    stratakv_snapshot_close(a->snap);
  }
  free(a->commits);
  free(a->order);
  free(a);
}

#endif
