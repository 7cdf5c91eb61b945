/*
 * Out of memory in the threads of the background: a store with a real worker
 * and syncer is filled, so that it flushes, compacts and prepares logs; one
 * allocation of those threads fails, or all from one on. Whoever writes sees
 * that as BUSY at most; when there is memory again everything goes on by
 * itself, nothing is lost, nothing leaks.
 *
 * Case N fails the allocation N * STRIDE of so many as a run without a fault
 * makes; each other case all that follow it, too.
 *
 * Soak: 1
 *
 * Covers: INV-1, INV-10, P12, P14
 */
#include "test/c/db_fixture.h"
#include "test/c/harness.h"

#define KEYS 200
#define PUTS 1500 /* five logs of 64 KiB */
#define CASES_IN_CI 240
#define STRIDE 7
#define RECOVERS_MS 10000 /* twice the worker's longest pause */

static _Thread_local bool is_caller;
static _Atomic uint64_t calls, nth, fired; /* nth 0: none fails */
static _Atomic bool is_forever;

static int refuse(void *arg, size_t size) {
  SKV_UNUSED(arg);
  SKV_UNUSED(size);
  if (is_caller) return 0;
  uint64_t n = atomic_fetch_add(&calls, 1) + 1, at = atomic_load(&nth);
  if (at == 0 || n < at || (n > at && !atomic_load(&is_forever))) return 0;
  atomic_fetch_add(&fired, 1);
  return 1;
}

static struct {
  skv_env *env;
  stratakv_store *store;
  stratakv_table_info table;
  uint32_t rows[KEYS];
} world;

static bool did(int rc) {
  CHECK(rc == STRATAKV_OK || rc == STRATAKV_BUSY || rc == STRATAKV_NOMEM);
  return rc == STRATAKV_OK;
}

static void open_store(stratakv_options options) {
  OK(skv_open_in(world.env, FIXTURE_PATH, &options, &fixture_err,
                 &world.store));
  OK(stratakv_table(world.store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err,
                    &world.table));
}

/* More than a log holds, in one commit. */
static void put_at_once(uint32_t v) {
  uint32_t next[KEYS];
  stratakv_txn *txn = NULL;
  if (!did(stratakv_begin(world.store, &fixture_err, &txn))) return;
  bool ok = true;
  for (uint32_t i = 0; ok && i < 3 * KEYS; i++) {
    next[i % KEYS] = v + i;
    ok = did(fixture_txn_put(txn, world.table.id, i % KEYS, v + i));
  }
  if (!ok)
    (void)stratakv_rollback(txn);
  else if (did(stratakv_commit(txn, &fixture_err, NULL)))
    memcpy(world.rows, next, sizeof next);
}

static void fill(void) {
  bool ok = true;
  for (uint32_t v = 1; ok && v <= PUTS; v++) {
    uint32_t i = v * 7 % KEYS;
    ok = did(fixture_put(world.store, world.table.id, i, v, NULL));
    if (ok) world.rows[i] = v;
  }
  if (ok) put_at_once(2 * PUTS);
}

/* Until the worker has looked and found nothing more that it can do. */
static void wait_idle(void) {
  skv_db *db = world.store->db;
  uint64_t before = atomic_load(&db->idle_rounds);
  skv_work_ask(db);
  for (int i = 0; atomic_load(&db->idle_rounds) == before; i++) {
    struct timespec pause = {0, 1000000};
    if (!CHECK(i < RECOVERS_MS)) return;
    nanosleep(&pause, NULL);
  }
}

static void check_rows(void) {
  uint32_t seen[KEYS];
  if (OK(fixture_scan(world.store, world.table.id, seen, KEYS)))
    CHECK(memcmp(seen, world.rows, sizeof seen) == 0);
}

/* As many writes as met the fault, so that the worker has to work for them. */
static void go_on(void) {
  stratakv_set_busy_timeout(world.store, RECOVERS_MS);
  for (uint32_t v = 1; v <= PUTS; v++) {
    uint32_t i = v * 11 % KEYS;
    if (!OK(fixture_put(world.store, world.table.id, i, v, NULL))) return;
    world.rows[i] = v;
  }
  OK(stratakv_flush(world.store, &fixture_err));
  OK(stratakv_compact(world.store, NULL, NULL, &fixture_err));
  check_rows();
  OK(stratakv_check(world.store, NULL, &fixture_err));
}

static void run(uint64_t which, bool forever) {
  size_t alive = skv_alloc_count();
  stratakv_options options = fixture_options();
  options.background = 1;
  options.busy_timeout_ms = which == 0 ? RECOVERS_MS : 20;
  memset(world.rows, 0, sizeof world.rows);
  world.env = fixture_world(&(fixture_image){0});
  atomic_store(&calls, 0);
  atomic_store(&fired, 0);
  atomic_store(&is_forever, forever);
  atomic_store(&nth, which);
  skv_alloc_set_hook(refuse, NULL);
  open_store(options);
  if (world.store != NULL) {
    fill();
    wait_idle();
    atomic_store(&nth, 0);
    check_rows();
    go_on();
    OK(stratakv_close(world.store, &fixture_err));
  }
  skv_alloc_set_hook(NULL, NULL);
  open_store(fixture_options());
  check_rows();
  OK(stratakv_close(world.store, &fixture_err));
  CHECK(skv_mem_env_of(world.env)->handles == NULL);
  skv_env_mem_free(world.env);
  CHECK(skv_alloc_count() == alive);
}

int main(int argc, char **argv) {
  uint64_t runs = 0;
  is_caller = true;
  harness_begin(argc, argv);
  check_where = "the run without a fault";
  run(0, false);
  uint64_t most = atomic_load(&calls);
  CHECK(most > CASES_IN_CI);
  for (uint64_t n; harness_next(CASES_IN_CI, &n);) {
    run(1 + n / 2 * STRIDE % most, n % 2 == 1);
    runs += atomic_load(&fired) > 0;
  }
  check_where = "";
  printf("%" PRIu64 " allocations of the background\n", most);
  harness_count("worker-oom-runs", runs);
  return check_end();
}
