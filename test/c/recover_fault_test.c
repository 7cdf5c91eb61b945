/*
 * Recovery that is interrupted by an error, and recovery after a failed sync.
 * (fault_sites_test fails every call of everything else, one at a time.)
 *
 *   1  an error at each call of a recovery, from images of a large commit's
 *      every moment: the next try comes to the same
 *   2  a failed sync: outcome unknown, then read-only for every process until
 *      all have closed; and recovery after it, which puts everything into new
 *      files, interrupted as well; rows that were read before they were synced
 *      are verified from then on
 *
 * Covers: INV-1, INV-2, P12, L4
 */
#include "engine/os/env_fault.h"
#include "test/c/env_record.h"

#define KEYS 100
#define LARGE 250 /* changes of a transaction that does not fit the log */

static skv_env *mem, *env; /* the file system, and the failing env around it */
static stratakv_store *store;
static stratakv_table_info table;
static stratakv_options options;
static uint32_t rows[KEYS]; /* the model */
static uint32_t next_value;

/* ---- The script -------------------------------------------------------- */

static void script_open(void) {
  memset(&table, 0, sizeof table);
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  if (store != NULL)
    OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table));
}

static void script_close(void) {
  OK(stratakv_close(store, &fixture_err));
  store = NULL;
}

static void script_put(uint32_t i, uint32_t v) {
  if (OK(fixture_put(store, table.id, i, v, NULL))) rows[i] = v;
}

static void script_txn(uint32_t changes, bool prepare) {
  stratakv_txn *txn = NULL;
  OK(stratakv_begin(store, &fixture_err, &txn));
  for (uint32_t n = 0; n < changes; n++) {
    uint32_t i = n * 37 % KEYS;
    rows[i] = n % 7 == 6 ? 0 : ++next_value;
    OK(fixture_txn_put(txn, table.id, i, rows[i]));
  }
  if (prepare) OK(stratakv_prepare(txn, &fixture_err));
  OK(stratakv_commit(txn, &fixture_err, NULL));
}

static void script_scan(void) {
  uint32_t seen[KEYS];
  if (OK(fixture_scan(store, table.id, seen, KEYS)))
    CHECK(memcmp(seen, rows, sizeof seen) == 0);
}

/* ---- Around it --------------------------------------------------------- */

static void begin(void) {
  options = fixture_options();
  memset(rows, 0, sizeof rows);
  next_value = 0;
  mem = fixture_world(&(fixture_image){0});
  env = skv_env_fault_new(mem);
  store = NULL;
}

static void end(void) {
  script_put(5, ++next_value);
  script_scan();
  script_close();
  script_open();
  script_scan();
  script_close();
  skv_env_fault_free(env);
  skv_env_mem_free(mem);
}

/* ---- 1 ----------------------------------------------------------------- */

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
  recording *r = record_begin(mem, NULL);
  script_open();
  for (uint32_t i = 0; i < 60; i++) script_put(i, ++next_value);
  script_txn(9, true);
  r->event = moment_event;
  script_txn(LARGE, false);
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

/* ---- 2 ----------------------------------------------------------------- */

/* Two processes; a sync of a file of that kind fails in the first. */
static void fence_run(const char *operation, const char *file, bool lying) {
  skv_fault fault = {
      .operation = operation, .file = file, .nth = 1, .is_lying = lying};
  uint32_t seen[KEYS];
  stratakv_store *other = NULL;
  stratakv_table_info info;
  begin();
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
  script_scan(); /* reads go on, and show nothing that is not durable */
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

static int read_row(stratakv_store *of, uint32_t i) {
  stratakv_value value = {0};
  char key[32];
  int rc = stratakv_get(of, NULL, table.id, key, fixture_key(i, key),
                        &fixture_err, &value);
  if (rc == STRATAKV_OK)
    CHECK(fixture_number(value.data, value.size) == rows[i]);
  stratakv_value_clear(&value);
  return rc;
}

/* Rows that were seen before they were synced, and indexed; then the sync
 * fails, and the kernel loses what it could not write. */
static void test_doubt(void) {
  skv_fault fault = {.operation = "file_sync", .file = "*.wal", .nth = 1};
  stratakv_store *other = NULL;
  check_where = "doubt";
  begin();
  script_open();
  script_put(1, 101);
  skv_env *second = skv_env_mem_process(mem);
  OK(skv_open_in(second, FIXTURE_PATH, &options, &fixture_err, &other));
  stratakv_set_sync(store, STRATAKV_SYNC_OFF);
  script_put(2, 102);
  for (uint32_t i = 1; i <= 2; i++) {
    OK(read_row(store, i));
    OK(read_row(other, i));
  }
  stratakv_set_sync(store, STRATAKV_SYNC_FULL);
  skv_env_fault_set(env, &fault);
  FAILS(STRATAKV_IOERR_FSYNC, fixture_put(store, table.id, 3, 103, NULL));
  const skv_log *log = store->db->active->log;
  uint8_t *at = memmem(skv_log_bytes(log), skv_log_size(log), "key:000002", 10);
  if (CHECK(at != NULL)) at[14] ^= 1; /* in its value */
  OK(read_row(store, 1));
  OK(read_row(other, 1));
  FAILS(STRATAKV_CORRUPT, read_row(store, 2));
  FAILS(STRATAKV_CORRUPT, read_row(other, 2));
  skv_env_fault_set(env, NULL);
  stratakv_close(other, NULL);
  skv_env_mem_free(second);
  stratakv_close(store, NULL);
  skv_env_fault_free(env);
  skv_env_mem_free(mem);
  check_where = "";
}

int main(void) {
  test_interrupt(5);
  test_fence();
  test_doubt();
  test_fence_recovery();
  for (unsigned i = 0; i < moment_count; i++) fixture_clear(&moments[i]);
  return check_end();
}
