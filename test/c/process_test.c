/*
 * Several processes on one store at the same time: three of the in-memory
 * environment, a thread each, with and without background threads; fit for a
 * race detector. (Real processes, which are killed: kill_test.c.)
 *
 * Each worker has keys that only it writes, and says in a ledger outside the
 * store what it is about to do and what was acknowledged. All workers add to
 * the same counters by read-modify-write transactions, each of which also adds
 * to a row of the worker's own, so that any snapshot can be added up. All
 * insert ascending keys into one table from which nothing is deleted.
 *
 *   build/test/c/process_test ?SEED? ?STEPS?
 *
 * Covers: INV-1, INV-2, INV-3, INV-4, INV-9, P1, P2, P3, P4, P6, P8, P14
 *
 * Soak: 2
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "test/c/db_fixture.h"
#include "test/c/harness.h"

#define WORKERS 3
#define OWN 40 /* keys of one worker */
#define COUNTERS 3
#define LARGE 250 /* changes of a transaction that does not fit the log */
#define INSERTS 100000
#define KEYS (WORKERS * 100)

/* What one worker says about itself; outlives it. */
typedef struct ledger {
  uint32_t rows[OWN]; /* acknowledged; 0: absent */
  uint32_t intended[OWN];
  _Atomic int is_intending; /* the rows may be those, or the ones before */
  _Atomic uint32_t added[COUNTERS]; /* acknowledged additions */
  _Atomic uint32_t inserted;        /* acknowledged insertions */
  uint32_t next_value;
} ledger;

static struct shared_state {
  ledger workers[WORKERS];
  _Atomic unsigned checks, failures, conflicts;
  _Atomic uint64_t longest; /* nanoseconds that a commit took */
} * all;

static bool need(bool holds, int line, const char *what, const char *why) {
  atomic_fetch_add(&all->checks, 1);
  if (holds) return true;
  if (atomic_fetch_add(&all->failures, 1) < 30)
    printf("process_test.c:%d: pid %d: %s: %s\n", line, (int)getpid(), what,
           why);
  fflush(stdout);
  return false;
}
#define NEED(condition) need((condition), __LINE__, #condition, "")
#define NEED_OK(call) need_ok((call), __LINE__, #call)

static bool need_ok(int rc, int line, const char *what) {
  char why[560] = "";
  if (rc != STRATAKV_OK)
    snprintf(why, sizeof why, "%d %s", rc, fixture_err.message);
  return need(rc == STRATAKV_OK, line, what, why);
}

/* One life of a worker. */
typedef struct worker {
  unsigned number;
  ledger *ledger;
  skv_prng rng;
  skv_env *env;
  const char *path;
  stratakv_options options;
  unsigned steps;
  stratakv_store *store;
  uint32_t kv, sums, log; /* tables */
  uint32_t seen[WORKERS]; /* insertions last seen of each */
} worker;

static uint32_t pick(worker *w, uint32_t below) {
  return (uint32_t)skv_prng_below(&w->rng, below);
}

/* ---- Counters ---------------------------------------------------------- */

/* Row of a counter: WORKERS for the sum, else that worker's part. */
static size_t sum_key(unsigned counter, unsigned who, char out[32]) {
  return (size_t)snprintf(out, 32, "%u/%u", counter, who);
}

/* value 0 if there is none. */
static int sum_get(worker *w, stratakv_txn *txn, stratakv_snapshot *snap,
                   unsigned counter, unsigned who, uint32_t *value) {
  char key[32];
  size_t n = sum_key(counter, who, key);
  stratakv_value got = {0};
  int rc =
      txn ? stratakv_txn_get(txn, w->sums, key, n, &fixture_err, &got)
          : stratakv_get(w->store, snap, w->sums, key, n, &fixture_err, &got);
  *value = 0;
  if (rc == STRATAKV_OK && got.size == 4) memcpy(value, got.data, 4);
  stratakv_value_clear(&got);
  return rc == STRATAKV_NOTFOUND ? STRATAKV_OK : rc;
}

static int sum_put(worker *w, stratakv_txn *txn, unsigned counter, unsigned who,
                   uint32_t value) {
  char key[32];
  size_t n = sum_key(counter, who, key);
  int saw = value == 1 ? STRATAKV_SAW_ABSENT : STRATAKV_SAW_PRESENT;
  return stratakv_txn_put(txn, w->sums, key, n, &value, 4, saw, &fixture_err);
}

static void step_add(worker *w) {
  unsigned c = pick(w, COUNTERS);
  for (int attempt = 0; attempt < 1000; attempt++) {
    stratakv_txn *txn = NULL;
    uint32_t sum = 0, own = 0;
    if (!NEED_OK(stratakv_begin(w->store, &fixture_err, &txn))) return;
    NEED_OK(sum_get(w, txn, NULL, c, WORKERS, &sum));
    NEED_OK(sum_get(w, txn, NULL, c, w->number, &own));
    NEED_OK(sum_put(w, txn, c, WORKERS, sum + 1));
    NEED_OK(sum_put(w, txn, c, w->number, own + 1));
    int rc = pick(w, 2) ? stratakv_prepare(txn, &fixture_err) : STRATAKV_OK;
    if (rc == STRATAKV_OK) rc = stratakv_commit(txn, &fixture_err, NULL);
    if (rc == STRATAKV_OK) {
      atomic_store(&w->ledger->added[c], own + 1);
      return;
    }
    stratakv_rollback(txn);
    if (rc != STRATAKV_BUSY_SNAPSHOT) {
      NEED_OK(rc);
      return;
    }
    atomic_fetch_add(&all->conflicts, 1);
  }
  need(false, __LINE__, "a thousand conflicts", "");
}

/* Every snapshot adds up, and stays as it is. */
static void step_sums(worker *w) {
  stratakv_snapshot *snap = NULL;
  uint32_t least[COUNTERS][WORKERS], first[COUNTERS] = {0};
  for (unsigned c = 0; c < COUNTERS; c++)
    for (unsigned i = 0; i < WORKERS; i++)
      least[c][i] = atomic_load(&all->workers[i].added[c]);
  if (!NEED_OK(stratakv_snapshot_open(w->store, &fixture_err, &snap))) return;
  for (int round = 0; round < 2; round++) {
    for (unsigned c = 0; c < COUNTERS; c++) {
      uint32_t sum, parts = 0;
      NEED_OK(sum_get(w, NULL, snap, c, WORKERS, &sum));
      for (unsigned i = 0; i < WORKERS; i++) {
        uint32_t part;
        NEED_OK(sum_get(w, NULL, snap, c, i, &part));
        NEED(part >= least[c][i]);
        parts += part;
      }
      NEED(sum == parts);
      NEED(round == 0 || sum == first[c]); /* INV-4 */
      first[c] = sum;
    }
    if (round == 0) NEED_OK(stratakv_flush(w->store, &fixture_err));
  }
  stratakv_snapshot_close(snap);
}

/* ---- Insertions -------------------------------------------------------- */

static size_t log_key(unsigned who, uint32_t n, char out[32]) {
  return (size_t)snprintf(out, 32, "%u:%06u", who, (unsigned)n);
}

static void step_insert(worker *w) {
  char key[32], value[512];
  uint32_t n = atomic_load(&w->ledger->inserted);
  size_t len = log_key(w->number, n, key);
  if (NEED_OK(stratakv_put(w->store, w->log, key, len, value,
                           fixture_value(n + 1, value), &fixture_err, NULL)))
    atomic_store(&w->ledger->inserted, n + 1);
}

/* Of each worker a prefix of what it inserted, never less than before. */
static void step_count(worker *w) {
  stratakv_cursor *c = NULL;
  uint32_t count[WORKERS] = {0}, least[WORKERS];
  for (unsigned i = 0; i < WORKERS; i++)
    least[i] = atomic_load(&all->workers[i].inserted);
  int rc = stratakv_cursor_open(w->store, NULL, NULL, w->log, NULL,
                                &fixture_err, &c);
  if (rc == STRATAKV_OK) rc = stratakv_cursor_first(c, &fixture_err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(c)) {
    char want[32];
    size_t n, size;
    const char *key = stratakv_cursor_key(c, &n);
    unsigned who = n > 0 ? (unsigned)(key[0] - '0') : WORKERS;
    if (!NEED(who < WORKERS)) break;
    if (!NEED(log_key(who, count[who], want) == n && memcmp(key, want, n) == 0))
      break;
    const void *value = stratakv_cursor_value(c, &size);
    NEED(fixture_number(value, size) == ++count[who]);
    rc = stratakv_cursor_next(c, &fixture_err);
  }
  NEED_OK(rc);
  stratakv_cursor_close(c);
  for (unsigned i = 0; i < WORKERS; i++) {
    NEED(count[i] >= least[i]);
    NEED(count[i] >= w->seen[i]);
    w->seen[i] = count[i];
  }
}

/* ---- Own rows ---------------------------------------------------------- */

static void own_read(worker *w, uint32_t rows[OWN]) {
  stratakv_cursor *c = NULL;
  char start[32], end[32];
  stratakv_range range = {.start = start, .end = end};
  range.start_len = fixture_key(w->number * 100, start);
  range.end_len = fixture_key(w->number * 100 + 100, end);
  memset(rows, 0, OWN * sizeof *rows);
  int rc = stratakv_cursor_open(w->store, NULL, NULL, w->kv, &range,
                                &fixture_err, &c);
  if (rc == STRATAKV_OK) rc = stratakv_cursor_first(c, &fixture_err);
  while (rc == STRATAKV_OK && stratakv_cursor_valid(c)) {
    size_t n, size;
    unsigned i = KEYS;
    const char *key = stratakv_cursor_key(c, &n);
    if (n == 10) sscanf(key, "key:%6u", &i);
    const void *value = stratakv_cursor_value(c, &size);
    if (!NEED(i / 100 == w->number && i % 100 < OWN)) break;
    rows[i % 100] = fixture_number(value, size);
    NEED(rows[i % 100] != 0);
    rc = stratakv_cursor_next(c, &fixture_err);
  }
  NEED_OK(rc);
  stratakv_cursor_close(c);
}

static void own_explain(worker *w, const uint32_t rows[OWN]) {
  const ledger *l = w->ledger;
  stratakv_value value = {0};
  for (unsigned i = 0; i < OWN; i++) {
    char key[32];
    size_t n = fixture_key(w->number * 100 + i, key);
    if (rows[i] == l->rows[i]) continue;
    int rc = stratakv_get(w->store, NULL, w->kv, key, n, &fixture_err, &value);
    printf("  worker %u key %u is %u (get: %d, version %llu), was %u, intended "
           "%u\n",
           w->number, i, rows[i], rc,
           rc == STRATAKV_OK ? (unsigned long long)value.version : 0ull,
           l->rows[i], l->intended[i]);
  }
  stratakv_value_clear(&value);
  fflush(stdout);
}

static void step_own(worker *w) {
  uint32_t rows[OWN];
  own_read(w, rows);
  if (!NEED(memcmp(rows, w->ledger->rows, sizeof rows) == 0))
    own_explain(w, rows);
}

/* After a death: what was under way happened as a whole or not at all. */
static void own_resolve(worker *w) {
  ledger *l = w->ledger;
  uint32_t rows[OWN];
  own_read(w, rows);
  bool before = memcmp(rows, l->rows, sizeof rows) == 0;
  bool after = atomic_load(&l->is_intending) &&
               memcmp(rows, l->intended, sizeof rows) == 0;
  if (!NEED(before || after)) own_explain(w, rows);
  memcpy(l->rows, rows, sizeof rows);
  atomic_store(&l->is_intending, 0);
  for (unsigned c = 0; c < COUNTERS; c++) {
    uint32_t part;
    NEED_OK(sum_get(w, NULL, NULL, c, w->number, &part));
    uint32_t known = atomic_load(&l->added[c]);
    NEED(part == known || part == known + 1);
    atomic_store(&l->added[c], part);
  }
  char key[32];
  uint32_t n = atomic_load(&l->inserted);
  size_t len = log_key(w->number, n, key);
  int rc = stratakv_get(w->store, NULL, w->log, key, len, &fixture_err, NULL);
  NEED(rc == STRATAKV_OK || rc == STRATAKV_NOTFOUND);
  if (rc == STRATAKV_OK) atomic_store(&l->inserted, n + 1);
}

static void own_intend(worker *w) {
  ledger *l = w->ledger;
  memcpy(l->intended, l->rows, sizeof l->rows);
}

static void own_done(worker *w, bool is_committed) {
  ledger *l = w->ledger;
  if (is_committed) memcpy(l->rows, l->intended, sizeof l->rows);
  atomic_store(&l->is_intending, 0);
}

static uint32_t own_change(worker *w, uint32_t *i) {
  ledger *l = w->ledger;
  uint32_t n = pick(w, OWN);
  uint32_t v = pick(w, 4) == 0 ? 0 : ++l->next_value;
  l->intended[n] = v;
  *i = w->number * 100 + n;
  return v;
}

static void step_put(worker *w) {
  uint32_t i;
  own_intend(w);
  uint32_t v = own_change(w, &i);
  atomic_store(&w->ledger->is_intending, 1);
  uint64_t began = w->env->now(w->env);
  own_done(w, NEED_OK(fixture_put(w->store, w->kv, i, v, NULL)));
  uint64_t took = w->env->now(w->env) - began;
  skv_raise(&all->longest, took);
}

static void step_txn(worker *w, unsigned changes, bool prepare, bool commit) {
  stratakv_txn *txn = NULL;
  own_intend(w);
  if (!NEED_OK(stratakv_begin(w->store, &fixture_err, &txn))) return;
  for (unsigned n = 0; n < changes; n++) {
    uint32_t i, v = own_change(w, &i);
    NEED_OK(fixture_txn_put(txn, w->kv, i, v));
  }
  atomic_store(&w->ledger->is_intending, 1);
  if (prepare) NEED_OK(stratakv_prepare(txn, &fixture_err));
  if (commit && NEED_OK(stratakv_commit(txn, &fixture_err, NULL))) {
    own_done(w, true);
    return;
  }
  stratakv_rollback(txn);
  own_done(w, false);
}

/* ---- A life ------------------------------------------------------------ */

static void worker_step(worker *w) {
  unsigned what = pick(w, 100);
  if (what < 30)
    step_put(w);
  else if (what < 45)
    step_insert(w);
  else if (what < 65)
    step_add(w);
  else if (what < 72)
    step_txn(w, 1 + pick(w, 20), what < 68, true);
  else if (what < 75)
    step_txn(w, 1 + pick(w, 10), true, false);
  else if (what < 79)
    step_txn(w, LARGE, what < 77, true);
  else if (what < 80)
    step_txn(w, LARGE, true, false);
  else if (what < 86)
    step_own(w);
  else if (what < 90)
    step_count(w);
  else if (what < 93)
    step_sums(w);
  else if (what < 97)
    NEED_OK(stratakv_flush(w->store, &fixture_err));
  else
    NEED_OK(stratakv_compact(w->store, NULL, NULL, &fixture_err));
}

static bool worker_open(worker *w) {
  static const char *const names[] = {"kv", "sums", "log"};
  uint32_t *ids[] = {&w->kv, &w->sums, &w->log};
  if (!NEED_OK(
          skv_open_in(w->env, w->path, &w->options, &fixture_err, &w->store)))
    return false;
  for (int i = 0; i < 3; i++) {
    stratakv_table_info info;
    if (!NEED_OK(stratakv_table(w->store, names[i], STRATAKV_KEY_TEXT, 1,
                                &fixture_err, &info)))
      return false;
    *ids[i] = info.id;
  }
  return true;
}

static void worker_live(worker *w) {
  w->ledger = &all->workers[w->number];
  if (worker_open(w)) {
    own_resolve(w);
    for (unsigned n = 0; n < w->steps && atomic_load(&all->failures) == 0; n++)
      worker_step(w);
    step_own(w);
    step_count(w);
    step_sums(w);
  }
  NEED_OK(stratakv_close(w->store, &fixture_err));
}

static stratakv_options worker_options(unsigned seed) {
  stratakv_options options = fixture_options();
  options.sync = (int)(seed % 3);
  options.background = seed / 3 % 2;
  options.compression = (int)(seed / 6 % 3);
  options.mmap = seed / 18 % 2;
  options.busy_timeout_ms = 20000;
  return options;
}

/* ---- The run ----------------------------------------------------------- */

static void *thread_main(void *arg) {
  worker_live(arg);
  return NULL;
}

static void run_threads(unsigned seed, unsigned steps) {
  skv_env *first = fixture_world(&(fixture_image){0});
  worker workers[WORKERS];
  pthread_t threads[WORKERS];
  memset(all->workers, 0, sizeof all->workers);
  for (unsigned i = 0; i < WORKERS; i++) {
    workers[i] = (worker){.number = i,
                          .rng = {seed * 10 + i},
                          .env = i ? skv_env_mem_process(first) : first,
                          .path = FIXTURE_PATH,
                          .steps = steps,
                          .options = worker_options(seed * 7 + i * 5)};
  }
  for (unsigned i = 0; i < WORKERS; i++)
    if (pthread_create(&threads[i], NULL, thread_main, &workers[i])) abort();
  for (unsigned i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
  workers[0].steps = 0; /* alone: all that was acknowledged */
  worker_live(&workers[0]);
  for (unsigned i = WORKERS; i-- > 0;) skv_env_mem_free(workers[i].env);
}

int main(int argc, char **argv) {
  unsigned steps = argc > 2 ? (unsigned)atoi(argv[2]) : 300;
  all = fixture_alloc(sizeof *all);
  harness_begin(argc, argv);
  harness.share = 1; /* all, for mutants too: races show in few of them */
  for (uint64_t n; harness_next(6, &n);) {
    run_threads((unsigned)n, steps);
    CHECK(all->failures == 0);
  }
  CHECK(all->longest < UINT64_C(5000000000)); /* INV-9 */
  CHECK(all->conflicts > 0 || harness.only != 0);
  printf("%u conflicts, longest put %u ms, %u checks by workers\n",
         all->conflicts, (unsigned)(all->longest / 1000000), all->checks);
  check_count += all->checks;
  free(all);
  return check_end();
}
