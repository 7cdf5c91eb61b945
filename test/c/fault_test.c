/*
 * Failing calls: one script of everything that a store does is run again and
 * again, and each time another call fails, once or from then on.
 *
 *   1  disk full at each write and allocation of files
 *   2  out of memory at each allocation; nothing leaks
 *   3  any other call fails with an I/O error
 *   4  recovery interrupted by an error at each call, from images of a large
 *      commit's every moment
 *   5  a failed sync: outcome unknown, then read-only for every process until
 *      all have closed; and recovery after it, interrupted as well
 *
 * In 1 to 3 what succeeded is there afterwards and what failed is not, the
 * handle works again, and so does the store that a death leaves.
 *
 * Covers: INV-1, INV-2, INV-3, INV-10, P12, L4
 */
#include "engine/os/env_fault.h"
#include "engine/util/alloc.h"
#include "test/c/env_record.h"

#define KEYS 100
#define LARGE 250 /* changes of a transaction that does not fit the log */

static skv_env *mem, *env; /* the file system, and the failing env around it */
static stratakv_store *store;
static stratakv_table_info table;
static stratakv_options options;
static uint32_t rows[KEYS]; /* the model */
static uint32_t next_value;
static int allowed; /* the code of the failure */
static bool lags;   /* a large commit may wait for its segments to be named:
                     the next one who writes does it */

/* ---- The script -------------------------------------------------------- */

/* Whether it succeeded; a failure must be the one that was asked for. BUSY: a
 * stall, while nothing can be flushed. */
static bool did(int rc, const char *what) {
  bool fits = rc == STRATAKV_OK || rc == allowed || rc == STRATAKV_BUSY;
  if (!CHECK(fits)) printf("%s: %d %s\n", what, rc, fixture_err.message);
  return rc == STRATAKV_OK;
}

static void script_open(void) {
  memset(&table, 0, sizeof table);
  if (store == NULL)
    did(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store), "open");
  if (store != NULL)
    did(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table),
        "table");
}

static void script_close(void) {
  if (store != NULL) did(stratakv_close(store, &fixture_err), "close");
  store = NULL;
}

static void script_put(uint32_t i, uint32_t v) {
  if (!did(fixture_put(store, table.id, i, v, NULL), "put")) return;
  rows[i] = v;
  lags = false;
}

static void script_txn(uint32_t changes, bool prepare, bool commit) {
  uint32_t after[KEYS];
  stratakv_txn *txn;
  memcpy(after, rows, sizeof after);
  if (!did(stratakv_begin(store, &fixture_err, &txn), "begin")) return;
  bool ok = true;
  for (uint32_t n = 0; ok && n < changes; n++) {
    uint32_t i = n * 37 % KEYS, v = n % 7 == 6 ? 0 : ++next_value;
    ok = did(fixture_txn_put(txn, table.id, i, v), "txn put");
    after[i] = v;
  }
  if (ok && prepare) ok = did(stratakv_prepare(txn, &fixture_err), "prepare");
  if (ok && commit) {
    ok = did(stratakv_commit(txn, &fixture_err, NULL), "commit");
    CHECK(ok || !prepare); /* it cannot fail */
    if (ok) memcpy(rows, after, sizeof after);
    if (ok) lags = changes == LARGE && allowed != STRATAKV_OK;
    if (ok) return;
  }
  stratakv_rollback(txn);
}

static void script_get(uint32_t i) {
  stratakv_value value = {0};
  char key[32];
  size_t key_len = fixture_key(i, key);
  int rc =
      stratakv_get(store, NULL, table.id, key, key_len, &fixture_err, &value);
  if (rc == STRATAKV_NOTFOUND)
    CHECK(rows[i] == 0 || lags);
  else if (did(rc, "get"))
    CHECK(fixture_number(value.data, value.size) == rows[i] || lags);
  stratakv_value_clear(&value);
}

static void script_scan(bool must) {
  uint32_t seen[KEYS];
  int rc = fixture_scan(store, table.id, seen, KEYS);
  if (must ? OK(rc) : did(rc, "scan"))
    CHECK(memcmp(seen, rows, sizeof seen) == 0 || lags);
}

static void script(void) {
  script_open();
  if (store == NULL || table.id == 0) return;
  for (uint32_t i = 0; i < 40; i++) script_put(i * 7 % KEYS, ++next_value);
  script_txn(12, false, true);
  script_get(7);
  script_txn(9, true, true);
  script_txn(8, true, false);
  for (uint32_t i = 0; i < 200; i++) script_put(i * 11 % KEYS, ++next_value);
  script_txn(LARGE, false, true);
  for (uint32_t i = 0; i < 5; i++) script_put(i * 13 % KEYS, 0);
  did(stratakv_flush(store, &fixture_err), "flush");
  for (uint32_t i = 0; i < 20; i++) script_put(i * 17 % KEYS, ++next_value);
  script_txn(LARGE, true, true);
  script_txn(LARGE, true, false);
  script_get(34);
  did(stratakv_compact(store, NULL, NULL, &fixture_err), "compact");
  script_put(3, ++next_value);
  script_scan(false);
  script_close();
  script_open();
  if (store == NULL || table.id == 0) return;
  script_scan(false);
  script_put(4, ++next_value);
}

/* ---- Around it --------------------------------------------------------- */

static void begin(void) {
  options = fixture_options();
  options.busy_timeout_ms = 20;
  memset(rows, 0, sizeof rows);
  next_value = 0;
  lags = false;
  mem = fixture_world(&(fixture_image){0});
  env = skv_env_fault_new(mem);
  store = NULL;
}

/* The store that a death at this moment leaves. */
static void end_dead(void) {
  fixture_image image = fixture_take(mem);
  stratakv_store *other = NULL;
  stratakv_table_info info;
  uint32_t seen[KEYS];
  skv_env *world = fixture_world(&image);
  if (OK(skv_open_in(world, FIXTURE_PATH, &options, &fixture_err, &other)) &&
      OK(stratakv_table(other, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err,
                        &info)) &&
      OK(fixture_scan(other, info.id, seen, KEYS)))
    CHECK(memcmp(seen, rows, sizeof seen) == 0);
  OK(stratakv_close(other, &fixture_err));
  skv_env_mem_free(world);
  fixture_clear(&image);
}

/* No more faults: everything works again. */
static void end(void) {
  allowed = STRATAKV_OK;
  options.busy_timeout_ms = 5000;
  if (store != NULL) stratakv_set_busy_timeout(store, 5000);
  script_open();
  if (CHECK(store != NULL && table.id != 0)) {
    script_put(5, ++next_value);
    script_scan(true);
    end_dead();
    OK(stratakv_flush(store, &fixture_err));
    OK(stratakv_compact(store, NULL, NULL, &fixture_err));
    script_scan(true);
    script_close();
    script_open();
    script_scan(true);
    script_close();
  }
  skv_env_fault_free(env);
  skv_env_mem_free(mem);
}

static bool run_fault(const skv_fault *fault, const char *what) {
  char where[80];
  snprintf(where, sizeof where, "%s %s, call %u%s", what, fault->operation,
           (unsigned)fault->nth, fault->is_forever ? " and after" : "");
  check_where = where;
  begin();
  allowed = fault->code;
  skv_env_fault_set(env, fault);
  script();
  bool fired = skv_env_fault_fired(env) > 0;
  skv_env_fault_set(env, NULL);
  end();
  check_where = "";
  return fired;
}

static unsigned run_all(skv_fault fault, const char *what, unsigned stride) {
  unsigned runs = 0;
  for (fault.nth = 1; run_fault(&fault, what); fault.nth += stride) runs++;
  return runs;
}

/* ---- 1, 3 -------------------------------------------------------------- */

static void test_full(void) {
  skv_fault fault = {.code = STRATAKV_FULL};
  unsigned runs = 0;
  for (int kind = 0; kind < 3; kind++) {
    fault.is_forever = kind == 1;
    fault.is_partial = kind == 2;
    fault.operation = "file_write";
    runs += run_all(fault, "full", 3);
    fault.operation = "file_allocate";
    runs += run_all(fault, "full", 1);
  }
  CHECK(runs > 300);
  printf("full: %u runs\n", runs);
}

static void test_error(void) {
  static const char *const operations[] = {
      "file_write", "file_read",     "file_open",  "file_size",
      "file_map",   "file_truncate", "dir_rename", "dir_unlink",
      "dir_list",   "dir_open",      "dir_info"};
  unsigned runs = 0;
  for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
    skv_fault fault = {.operation = operations[i], .code = STRATAKV_IOERR};
    runs += run_all(fault, "error", i == 0 ? 7 : 2);
  }
  CHECK(runs > 200);
  printf("error: %u runs\n", runs);
}

/* ---- 2 ----------------------------------------------------------------- */

static uint64_t memory_calls, memory_nth;
static bool memory_forever, memory_fired;

static int memory_hook(void *arg, size_t size) {
  SKV_UNUSED(arg);
  SKV_UNUSED(size);
  memory_calls++;
  bool fail =
      memory_forever ? memory_calls >= memory_nth : memory_calls == memory_nth;
  memory_fired |= fail;
  return fail;
}

static bool run_memory(uint64_t nth, bool forever) {
  char where[64];
  snprintf(where, sizeof where, "memory, allocation %u%s", (unsigned)nth,
           forever ? " and after" : "");
  check_where = where;
  size_t alive = skv_alloc_count();
  begin();
  allowed = STRATAKV_NOMEM;
  memory_calls = 0;
  memory_nth = nth;
  memory_forever = forever;
  memory_fired = false;
  skv_alloc_set_hook(memory_hook, NULL);
  script();
  skv_alloc_set_hook(NULL, NULL);
  end();
  CHECK(skv_alloc_count() == alive);
  check_where = "";
  return memory_fired;
}

static void test_memory(unsigned stride) {
  unsigned runs = 0;
  for (uint64_t n = 1; run_memory(n, false); n += 1 + n / stride) runs++;
  for (uint64_t n = 1; run_memory(n, true); n += 1 + n / (stride / 4)) runs++;
  CHECK(runs > 100);
  printf("memory: %u runs, %u allocations\n", runs, (unsigned)memory_calls);
}

/* ---- 4 ----------------------------------------------------------------- */

#define MOMENTS 200
static fixture_image moments[MOMENTS];
static unsigned moment_count;

static void moment_event(recording *r) {
  SKV_UNUSED(r);
  if (moment_count < MOMENTS) moments[moment_count++] = fixture_take(mem);
}

/* What an image shows when nothing fails. */
static void moment_open(const fixture_image *image, int fenced,
                        uint32_t seen[KEYS]) {
  mem = fixture_world(image);
  if (fenced >= 0) fixture_same_boot(mem);
  env = skv_env_fault_new(mem);
  store = NULL;
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 0, &fixture_err, &table));
  OK(fixture_scan(store, table.id, seen, KEYS));
}

static void moment_close(void) {
  OK(stratakv_close(store, &fixture_err));
  store = NULL;
  skv_env_fault_free(env);
  skv_env_mem_free(mem);
}

/* One failing call while it is opened; then a second try. */
static bool moment_interrupt(const fixture_image *image, uint64_t nth,
                             bool same_boot, const uint32_t want[KEYS]) {
  uint32_t seen[KEYS];
  skv_fault fault = {.operation = "*", .nth = nth, .is_partial = nth % 2};
  mem = fixture_world(image);
  if (same_boot) fixture_same_boot(mem);
  env = skv_env_fault_new(mem);
  skv_env_fault_set(env, &fault);
  store = NULL;
  int rc = skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store);
  bool fired = skv_env_fault_fired(env) > 0;
  CHECK(fired || rc == STRATAKV_OK);
  skv_env_fault_set(env, NULL);
  stratakv_close(store, NULL);
  store = NULL;
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 0, &fixture_err, &table));
  OK(fixture_scan(store, table.id, seen, KEYS));
  CHECK(memcmp(seen, want, sizeof seen) == 0);
  moment_close();
  return fired;
}

static void moments_take(void) {
  begin();
  allowed = STRATAKV_OK;
  recording *r = record_begin(mem, NULL);
  script_open();
  for (uint32_t i = 0; i < 60; i++) script_put(i, ++next_value);
  script_txn(9, true, true);
  r->event = moment_event;
  script_txn(LARGE, false, true);
  for (uint32_t i = 0; i < 3; i++) script_put(i, ++next_value);
  OK(stratakv_flush(store, &fixture_err));
  r->event = NULL;
  script_close();
  skv_env_fault_free(env);
  skv_env_mem_free(mem);
  record_free(r);
}

static void test_interrupt(unsigned stride) {
  uint32_t want[KEYS];
  unsigned runs = 0;
  moments_take();
  CHECK(moment_count > 40);
  for (unsigned m = 0; m < moment_count; m += stride) {
    char where[64];
    bool same_boot = m % 2 == 0;
    snprintf(where, sizeof where, "interrupted recovery, moment %u", m);
    check_where = where;
    moment_open(&moments[m], same_boot ? 0 : -1, want);
    moment_close();
    uint64_t nth = 1 + m % 3;
    while (moment_interrupt(&moments[m], nth, same_boot, want)) {
      runs++;
      nth += 1 + m % 3;
    }
  }
  check_where = "";
  CHECK(runs > 500);
  printf("interrupt: %u runs, %u moments\n", runs, moment_count);
}

/* ---- 5 ----------------------------------------------------------------- */

/* Two processes; a sync of a file of that kind fails in the first. */
static void fence_run(const char *operation, const char *file, bool lying) {
  skv_fault fault = {
      .operation = operation, .file = file, .nth = 1, .is_lying = lying};
  uint32_t seen[KEYS];
  stratakv_store *other = NULL;
  stratakv_table_info info;
  begin();
  allowed = STRATAKV_OK;
  script_open();
  for (uint32_t i = 0; i < 30; i++) script_put(i, ++next_value);
  skv_env *second = skv_env_mem_process(mem);
  OK(skv_open_in(second, FIXTURE_PATH, &options, &fixture_err, &other));
  skv_env_fault_set(env, &fault);
  int rc = STRATAKV_OK; /* until something syncs such a file */
  uint32_t n = 0;
  for (; rc == STRATAKV_OK && n < 2000; n++) {
    rc = n % 500 == 499 ? stratakv_table(store, "u", 1, 1, &fixture_err, &info)
                        : fixture_put(store, table.id, 40 + n % 9, n + 1, NULL);
    if (rc == STRATAKV_OK && n % 500 != 499) rows[40 + n % 9] = n + 1;
  }
  FAILS(STRATAKV_IOERR_FSYNC, rc);
  CHECK(skv_env_fault_fired(env) == 1);
  FAILS(STRATAKV_READONLY, fixture_put(store, table.id, 1, 9, NULL));
  FAILS(STRATAKV_READONLY, fixture_put(other, table.id, 2, 9, NULL));
  FAILS(STRATAKV_READONLY, stratakv_flush(other, &fixture_err));
  script_scan(true); /* reads go on, and show nothing that is not durable */
  OK(fixture_scan(other, table.id, seen, KEYS));
  CHECK(memcmp(seen, rows, sizeof seen) == 0);
  stratakv_close(store, NULL);
  FAILS(STRATAKV_READONLY, fixture_put(other, table.id, 2, 9, NULL));
  skv_env_fault_set(env, NULL);
  store = NULL;
  script_open(); /* joins: still fenced */
  FAILS(STRATAKV_READONLY, fixture_put(store, table.id, 2, 9, NULL));
  stratakv_close(other, NULL);
  stratakv_close(store, NULL);
  store = NULL;
  script_open(); /* alone: recovers */
  OK(fixture_scan(store, table.id, seen, KEYS));
  for (uint32_t i = 0; i < KEYS; i++)
    if (seen[i] != rows[i]) { /* only the commit of unknown outcome */
      CHECK(i == 40 + (n - 1) % 9 && seen[i] == n);
      rows[i] = seen[i];
    }
  skv_env_mem_free(second);
  end();
}

static double figure;
static const char *figure_name;
static int figure_is(void *arg, const char *name, double value,
                     const char *unit, const char *help) {
  SKV_UNUSED(arg);
  SKV_UNUSED(unit);
  SKV_UNUSED(help);
  if (strcmp(name, figure_name) == 0) figure = value;
  return 0;
}

/* After a fence everything that was only in the page cache is in new files:
 * the active log alone is left, and the manifest is another. */
static void fence_check_new(uint64_t manifest, double logs) {
  uint8_t id[16];
  uint64_t now = 0;
  figure = -1;
  figure_name = "stratakv_unflushed_logs";
  OK(stratakv_stats(store, figure_is, NULL, &fixture_err));
  CHECK(figure > 0 && figure <= logs);
  OK(skv_head_current(store->db->store, &fixture_err, id, &now));
  CHECK(now > manifest);
}

static uint64_t image_manifest(fixture_image *image) {
  return skv_get64(fixture_find(image, "CURRENT")->bytes + 32);
}

/* Recovery after a fence, interrupted at each call, is one after a fence when
 * it is repeated. */
static void test_fence_recovery(void) {
  uint32_t want[KEYS];
  unsigned runs = 0;
  fixture_image image = {0};
  for (unsigned m = 0; m < moment_count; m++) {
    fixture_image *moment = &moments[m];
    unsigned logs = 0;
    for (size_t i = 0; i < moment->count; i++)
      logs += strstr(moment->files[i].name, ".wal") != NULL;
    if (logs > 1) image = fixture_copy(moment);
    if (logs > 1) break;
  }
  if (!CHECK(image.count > 0)) return;
  skv_put32(fixture_find(&image, "SHARED")->bytes + offsetof(skv_shared, fence),
            1);
  uint64_t manifest = image_manifest(&image);
  moment_open(&image, 1, want);
  fence_check_new(manifest, 1);
  moment_close();
  for (uint64_t nth = 1;; nth++, runs++) {
    char where[64];
    snprintf(where, sizeof where, "recovery after a fence, call %u",
             (unsigned)nth);
    check_where = where;
    skv_fault fault = {.operation = "*", .nth = nth};
    mem = fixture_world(&image);
    fixture_same_boot(mem);
    env = skv_env_fault_new(mem);
    skv_env_fault_set(env, &fault);
    store = NULL;
    int rc = skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store);
    bool fired = skv_env_fault_fired(env) > 0;
    skv_env_fault_set(env, NULL);
    /* The last call comes after a complete recovery, whose log is a second. */
    bool last = rc != STRATAKV_OK && strstr(fixture_err.message, "file_lock");
    if (rc != STRATAKV_OK)
      OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
    if (store != NULL) fence_check_new(manifest, last ? 2 : 1);
    stratakv_close(store, NULL);
    skv_env_fault_free(env);
    skv_env_mem_free(mem);
    if (!fired) break;
  }
  check_where = "";
  CHECK(runs > 30);
  fixture_clear(&image);
}

static void test_fence(void) {
  static const char *const faults[][2] = {
      {"file_sync", "*.wal"}, {"file_sync", "*.manifest"}, {"dir_sync", "*"}};
  for (int i = 0; i < 6; i++) {
    check_where = faults[i / 2][1];
    fence_run(faults[i / 2][0], faults[i / 2][1], i % 2);
  }
  check_where = "";
}

int main(int argc, char **argv) {
  const char *which = argc > 1 ? argv[1] : "full,error,memory,interrupt,fence";
  if (strstr(which, "full")) test_full();
  if (strstr(which, "error")) test_error();
  if (strstr(which, "memory")) test_memory(60);
  if (strstr(which, "interrupt")) test_interrupt(5);
  if (strstr(which, "fence")) {
    test_fence();
    if (moment_count == 0) moments_take();
    test_fence_recovery();
  }
  for (unsigned i = 0; i < moment_count; i++) fixture_clear(&moments[i]);
  return check_end();
}
