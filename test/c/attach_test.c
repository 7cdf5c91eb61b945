/*
 * What one process meets that another one holds, leaves or scribbles, a step at
 * a time. All processes are of one in-memory file system; one that "died" is a
 * word of the shared page, or a process whose next call failed.
 *
 *   1  waiting: WRITE, ATTACH, HEAD, all slots; who has it is in the message
 *   2  joining and opening what changes meanwhile, or is of another format
 *   3  taking over from a dead owner, with every step of it failing
 *   4  the head of a dead writer, with every step of adopting it failing
 *   5  words of the page that cannot be; pins
 *   6  a read-only handle that is alone, or cannot lock to join; one without /proc
 *   7  a store whose files were removed or replaced while it was open
 *   8  work that another process does just then: flush, compaction; a log that
 *      another process reads is not recycled; a damaged record of another one
 *   9  who may open the store: names that are no plain words, and lines that
 *      nobody wrote
 *
 * Covers: INV-2, INV-7, INV-9, P1, P3, P7, P8, P11, P12
 */
#include "engine/os/env_fault.h"
#include "engine/util/hash.h"
#include "engine/util/point.h"
#include "test/c/db_fixture.h"

#define KEYS 200
#define DEAD 60 /* a slot that nobody has */

static stratakv_options options;
static skv_env *env, *second_env, *fault_env;
static stratakv_store *first, *second;
static uint32_t table, rows[KEYS];

static int open_as(skv_env *process, stratakv_store **store) {
  stratakv_table_info info = {0};
  int rc = skv_open_in(process, FIXTURE_PATH, &options, &fixture_err, store);
  if (rc == STRATAKV_OK && !options.read_only)
    rc =
        stratakv_table(*store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &info);
  if (rc == STRATAKV_OK && !options.read_only) table = info.id;
  return rc;
}

/* A store with its first process, and a second one that may fail. */
static void begin(void) {
  options = fixture_options();
  memset(rows, 0, sizeof rows);
  env = fixture_world(&(fixture_image){0});
  second_env = skv_env_mem_process(env);
  fault_env = skv_env_fault_new(second_env);
  if (!second_env || !fault_env) abort();
  OK(open_as(env, &first));
}

static void put(stratakv_store *store, uint32_t i, uint32_t v) {
  if (OK(fixture_put(store, table, i, v, NULL))) rows[i] = v;
}

static bool shows(stratakv_store *store) {
  uint32_t seen[KEYS];
  return OK(fixture_scan(store, table, seen, KEYS)) &&
         memcmp(seen, rows, sizeof rows) == 0;
}

/* All leave; what a reboot shows is what was committed. */
static void end(void) {
  fixture_image image = fixture_take(env);
  stratakv_close(second, NULL);
  stratakv_close(first, NULL);
  skv_env_fault_free(fault_env);
  skv_env_mem_free(second_env);
  skv_env_mem_free(env);
  env = fixture_world(&image);
  options = fixture_options();
  if (OK(open_as(env, &first))) CHECK(shows(first));
  stratakv_close(first, NULL);
  skv_env_mem_free(env);
  fixture_clear(&image);
  first = second = NULL;
}

static bool says(const char *what) {
  bool ok = strstr(fixture_err.message, what) != NULL;
  if (!ok) printf("%s\n", fixture_err.message);
  return ok;
}

static void fail_nth(const char *operation, const char *file, uint64_t nth) {
  skv_fault fault = {.operation = operation, .file = file, .nth = nth};
  skv_env_fault_set(fault_env, &fault);
}

static void hold(stratakv_store *store, unsigned which, int mode) {
  OK(skv_store_lock(store->db->store, which, mode, &fixture_err));
}

/* ---- 1 ----------------------------------------------------------------- */

static void test_busy_write(void) {
  begin();
  options.busy_timeout_ms = 5;
  OK(open_as(second_env, &second));
  skv_shared *page = first->db->shared;
  skv_slot *slot = &page->slots[first->db->slot];
  OK(skv_lead_begin(first->db, 0, &fixture_err));
  OK(skv_write_acquire(first->db, 0, 0, &fixture_err));
  FAILS(STRATAKV_BUSY, fixture_put(second, table, 1, 1, NULL));
  CHECK(says("waited 5 ms for the WRITE lock of pid "));
  skv_store_word(&slot->program[0], UINT64_C(0x7e1f207f41800a41));
  skv_store_word(&slot->program[1], UINT64_C(0x4242424242424242));
  FAILS(STRATAKV_BUSY, fixture_put(second, table, 1, 1, NULL));
  CHECK(says("(A??A? ?~BBBBBBBB)"));
  skv_store_word(&page->owner, 1000);
  FAILS(STRATAKV_BUSY, fixture_put(second, table, 1, 1, NULL));
  CHECK(says("WRITE lock of another process"));
  skv_store_word(&page->owner, first->db->slot + 1);
  skv_lead_end(first->db);
  put(second, 1, 1);
  CHECK(shows(first));
  end();
}

static void test_busy_attach(void) {
  begin();
  options.busy_timeout_ms = 5;
  hold(first, SKV_LOCK_ATTACH, SKV_EXCLUSIVE);
  FAILS(STRATAKV_BUSY, open_as(second_env, &second));
  CHECK(says("waited 5 ms for another process to recover the store"));
  hold(first, SKV_LOCK_ATTACH, SKV_UNLOCK);
  OK(open_as(second_env, &second));
  end();
}

static uint64_t leaps;
static uint64_t leaping_now(skv_env *self) {
  SKV_UNUSED(self);
  return leaps += UINT64_C(3000000000);
}

static void test_busy_head(void) {
  begin();
  OK(open_as(second_env, &second));
  hold(first, SKV_LOCK_HEAD, SKV_EXCLUSIVE);
  uint64_t (*now)(skv_env *) = second_env->now;
  second_env->now = leaping_now;
  FAILS(STRATAKV_BUSY, skv_head_lock(second->db, &fixture_err));
  CHECK(says("waited 10 s for another process"));
  second_env->now = now;
  hold(first, SKV_LOCK_HEAD, SKV_UNLOCK);
  OK(skv_head_lock(second->db, &fixture_err));
  skv_head_unlock(second->db);
  end();
}

static void test_slots(void) {
  skv_env *envs[SKV_SLOTS];
  stratakv_store *stores[SKV_SLOTS] = {NULL};
  begin();
  for (unsigned i = 1; i < SKV_SLOTS; i++) {
    envs[i] = skv_env_mem_process(env);
    OK(open_as(envs[i], &stores[i]));
  }
  FAILS(STRATAKV_BUSY, open_as(second_env, &second));
  CHECK(says("64 processes have the store open"));
  OK(stratakv_close(stores[9], &fixture_err));
  OK(open_as(second_env, &second));
  CHECK(second->db->slot == 9);
  for (unsigned i = 1; i < SKV_SLOTS; i++) {
    if (i != 9) stratakv_close(stores[i], NULL);
    skv_env_mem_free(envs[i]);
  }
  end();
}

/* ---- 2 ----------------------------------------------------------------- */

static void test_format(void) {
  begin();
  skv_store_word(&first->db->shared->format, SKV_FORMAT + 1);
  FAILS(STRATAKV_NOTADB, open_as(second_env, &second));
  skv_store_word(&first->db->shared->format, SKV_FORMAT);
  OK(open_as(second_env, &second));
  end();
}

static int remove_one(void *arg, const char *name) {
  if (strcmp(name, "LOCK") != 0 && strcmp(name, "SHARED") != 0)
    OK(second_env->dir_unlink(arg, name, &fixture_err));
  return 0;
}

/* Once, at that point: the store goes, and something else comes. */
static struct meanwhile { const char *point, *name; } meanwhile;

static void meanwhile_at(void *arg, const char *point) {
  skv_dir *dir = NULL;
  SKV_UNUSED(arg);
  if (meanwhile.point == NULL || strcmp(point, meanwhile.point) != 0) return;
  meanwhile.point = NULL;
  OK(second_env->dir_open(second_env, NULL, FIXTURE_PATH, 0, &fixture_err,
                          &dir));
  OK(second_env->dir_list(dir, remove_one, dir, &fixture_err));
  if (meanwhile.name != NULL) {
    fixture_file other = {.bytes = (uint8_t *)"x", .size = 1};
    snprintf(other.name, sizeof other.name, "%s", meanwhile.name);
    fixture_put_file(dir, &other);
  }
  second_env->dir_close(dir);
}

static void test_gone(const char *name) {
  begin();
  OK(stratakv_close(first, &fixture_err));
  options.create = name != NULL;
  meanwhile = (struct meanwhile){"attach.locked", name};
  skv_point_set(meanwhile_at, NULL);
  FAILS(STRATAKV_CANTOPEN, open_as(env, &first));
  skv_point_set(NULL, NULL);
  CHECK(meanwhile.point == NULL && says("no store at"));
  skv_env_fault_free(fault_env);
  skv_env_mem_free(second_env);
  skv_env_mem_free(env);
  first = NULL;
}

/* WRITE's owner is dead, and who took it over is slow: who opens the store
 * waits for it as long as it may, and opens it. */
static void test_settle_busy(void) {
  begin();
  options.busy_timeout_ms = 5;
  skv_store_word(&first->db->shared->owner, DEAD);
  hold(first, SKV_LOCK_WRITE, SKV_EXCLUSIVE);
  OK(open_as(second_env, &second));
  hold(first, SKV_LOCK_WRITE, SKV_UNLOCK);
  put(second, 1, 1);
  CHECK(skv_load(&first->db->shared->owner) != DEAD);
  end();
}

/* ---- 3 ----------------------------------------------------------------- */

/* The first process dies as the owner of WRITE: its last commits are not
 * synced. */
static void die_unsynced(void) {
  for (uint32_t i = 0; i < 60; i++) put(first, i, 100 + i);
  OK(open_as(fault_env, &second));
  OK(skv_lead_begin(first->db, 0, &fixture_err));
  OK(skv_write_acquire(first->db, 0, 0, &fixture_err));
  skv_write_abandon(first->db);
  skv_lead_end(first->db);
}

/* The same with SEAL as the log's last record. */
static void die_sealing(void) {
  uint64_t lsn;
  put(first, 1, 7);
  OK(open_as(fault_env, &second));
  OK(skv_lead_begin(first->db, 0, &fixture_err));
  OK(skv_write_acquire(first->db, 0, 0, &fixture_err));
  OK(skv_append(first->db, SKV_RECORD_SEAL, skv_slice_of(NULL, 0), 0, true,
                &fixture_err, &lsn));
  skv_write_abandon(first->db);
  skv_lead_end(first->db);
}

static void die_publishing(void) {
  skv_env *third_env = skv_env_mem_process(env);
  stratakv_store *third = NULL;
  for (uint32_t i = 0; i < 30; i++) put(first, i, 200 + i);
  OK(open_as(third_env, &third));
  OK(open_as(fault_env, &second));
  skv_shared *page = first->db->shared;
  uint64_t head = skv_load(&page->head), retired = skv_load(&page->retired_wal);
  OK(stratakv_flush(third, &fixture_err));
  stratakv_close(third, NULL);
  skv_env_mem_free(third_env);
  CHECK(skv_load(&page->head) > head);
  skv_store_word(&page->head, head);
  skv_store_word(&page->retired_wal, retired);
  skv_store_word(&page->owner, DEAD);
}

/* Who takes over fails at its n-th call of that kind, for all n, and the next
 * attempt succeeds; or the store is read-only from then on. */
static void takeover_failing(void (*die)(void), const char *operation,
                             const char *file) {
  uint64_t fired = 1;
  for (uint64_t n = 1; fired > 0 && n < 50; n++) {
    begin();
    options.sync = STRATAKV_SYNC_OFF;
    stratakv_close(first, NULL);
    OK(open_as(env, &first));
    die();
    fail_nth(operation, file, n);
    int rc = fixture_put(second, table, 3, 999, NULL);
    fired = skv_env_fault_fired(fault_env);
    skv_env_fault_set(fault_env, NULL);
    CHECK(rc == STRATAKV_OK || fired > 0);
    if (rc == STRATAKV_IOERR_FSYNC) {
      FAILS(STRATAKV_READONLY, fixture_put(first, table, 3, 999, NULL));
      FAILS(STRATAKV_READONLY,
            skv_head_edit(second->db, NULL, NULL, &fixture_err));
    } else {
      if (rc != STRATAKV_OK) CHECK(rc == STRATAKV_IOERR);
      put(second, 3, 999);
      CHECK(shows(first) && shows(second));
    }
    end();
  }
  CHECK(fired == 0);
}

static void test_takeover(void) {
  static void (*const deaths[])(void) = {die_unsynced, die_sealing,
                                         die_publishing};
  static const char *const operations[] = {"file_open", "file_read",
                                           "file_size", "file_write"};
  for (size_t i = 0; i < sizeof deaths / sizeof *deaths; i++)
    for (size_t j = 0; j < sizeof operations / sizeof *operations; j++)
      takeover_failing(deaths[i], operations[j], "*");
}

/* The manifest is locked for longer than anybody waits. */
static void test_takeover_busy(void) {
  begin();
  die_unsynced();
  hold(first, SKV_LOCK_HEAD, SKV_EXCLUSIVE);
  uint64_t (*now)(skv_env *) = fault_env->now;
  fault_env->now = leaping_now;
  FAILS(STRATAKV_BUSY, fixture_put(second, table, 3, 999, NULL));
  CHECK(says("waited 10 s for another process"));
  fault_env->now = now;
  hold(first, SKV_LOCK_HEAD, SKV_UNLOCK);
  put(second, 3, 999);
  CHECK(shows(first));
  end();
}

/* ---- 4 ----------------------------------------------------------------- */

static void test_adopt(void) {
  takeover_failing(die_publishing, "file_sync", "*.manifest");
  setenv("SKV_TEST_HEAD_ROLL", "100", 1); /* a new manifest, and CURRENT */
  takeover_failing(die_publishing, "file_sync", "*.manifest");
  takeover_failing(die_publishing, "dir_sync", "*");
  takeover_failing(die_publishing, "file_write", "*");
  unsetenv("SKV_TEST_HEAD_ROLL");
}

static void with_file(const char *name, bool keep, size_t at) {
  skv_dir *dir = NULL;
  skv_file *file = NULL;
  uint8_t bytes[64];
  size_t got = 0;
  OK(env->dir_open(env, NULL, FIXTURE_PATH, 0, &fixture_err, &dir));
  OK(env->file_open(dir, name, SKV_FILE_WRITE, &fixture_err, &file));
  OK(env->file_read(file, 0, bytes, 64, &fixture_err, &got));
  bytes[at] ^= 1;
  skv_put64(bytes + 56, skv_checksum(bytes, 56, 0));
  if (keep)
    OK(env->file_write(file, 0, bytes, 64, &fixture_err));
  else
    OK(env->dir_unlink(dir, name, &fixture_err));
  env->file_close(file);
  env->dir_close(dir);
}

/* The head's files go, or are another store's, while it is open. */
static void test_head_files(void) {
  begin();
  put(first, 1, 1);
  with_file("CURRENT", true, 16); /* the store id */
  FAILS(STRATAKV_CORRUPT, stratakv_flush(first, &fixture_err));
  CHECK(says("CURRENT is of another store"));
  with_file("CURRENT", true, 16);
  OK(stratakv_flush(first, &fixture_err));
  put(first, 2, 2);
  fixture_image image = fixture_take(env);
  with_file("000001.manifest", false, 0);
  FAILS(STRATAKV_CORRUPT, stratakv_flush(first, &fixture_err));
  CHECK(says("a file that the manifest names is missing"));
  skv_dir *dir = NULL;
  OK(env->dir_open(env, NULL, FIXTURE_PATH, 0, &fixture_err, &dir));
  fixture_put_file(dir, fixture_find(&image, "000001.manifest"));
  env->dir_close(dir);
  fixture_clear(&image);
  OK(stratakv_flush(first, &fixture_err));
  end();
}

/* ---- 5 ----------------------------------------------------------------- */

static void test_tail(void) {
  begin();
  for (uint32_t i = 0; i < 9; i++) put(first, i, i + 1);
  skv_shared *page = first->db->shared;
  uint64_t tail = skv_load(&page->tail), start = first->db->active->start;
  const uint64_t bad[] = {start - 8, tail - 8, tail + (1 << 20)};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    skv_store_word(&page->durable, bad[i] < tail ? bad[i] : tail);
    skv_store_word(&page->visible, bad[i] < tail ? bad[i] : tail);
    skv_store_word(&page->tail, bad[i]);
    FAILS(STRATAKV_CORRUPT, fixture_put(first, table, 1, 9, NULL));
    CHECK(says("is no end of the active log"));
    skv_store_word(&page->tail, tail);
    skv_store_word(&page->durable, tail);
    skv_store_word(&page->visible, tail);
    skv_store_word(&page->owner, 0);
    put(first, 1, 20 + (uint32_t)i);
    tail = skv_load(&page->tail);
  }
  CHECK(shows(first));
  end();
}

/* P11: an epoch never sinks, whatever the page says. */
static void test_epoch(void) {
  begin();
  put(first, 1, 1);
  put(first, 2, 2);
  uint32_t epoch = first->db->place.epoch;
  skv_store_word(&first->db->shared->epoch, 0);
  put(first, 3, 3);
  CHECK(first->db->place.epoch > epoch);
  end();
}

/* P1: a log that is being opened is pinned, older or newer than the others. */
static void test_pin(void) {
  begin();
  put(first, 1, 1);
  skv_db *db = first->db;
  skv_slot *slot = &db->shared->slots[db->slot];
  uint64_t pinned = skv_load(&slot->pinned_wal);
  CHECK(pinned == db->active->number);
  const uint64_t opening[] = {1, pinned + 1, 0};
  for (size_t i = 0; i < 3; i++) {
    db->opening = opening[i];
    skv_pin_update(db);
    CHECK(skv_load(&slot->pinned_wal) == (i == 0 ? 1 : pinned));
  }
  end();
}

/* ---- 6 ----------------------------------------------------------------- */

static void test_private(void) {
  skv_err err;
  begin();
  put(first, 1, 1);
  OK(stratakv_close(first, &fixture_err));
  options.read_only = 1;
  OK(open_as(second_env, &second));
  CHECK(second->db->is_private && shows(second));
  FAILS(STRATAKV_READONLY, skv_write_acquire(second->db, 0, 0, &err));
  CHECK(!second->db->write_held);
  OK(stratakv_check(second, NULL, &fixture_err));
  OK(stratakv_close(second, &fixture_err));
  second = NULL;
  options = fixture_options();
  OK(open_as(env, &first));
  end();
}

/* Open read-only where ATTACH cannot be locked: as on a read-only mount. */
static int open_beside(void) {
  skv_fault fault = {.operation = "file_lock", .file = "LOCK", .nth = 1};
  skv_env_fault_set(fault_env, &fault);
  options.read_only = 1;
  options.busy_timeout_ms = 20;
  int rc = open_as(fault_env, &second);
  options = fixture_options();
  return rc;
}

static void close_beside(void) {
  OK(stratakv_close(second, &fixture_err));
  second = NULL;
}

/* What others may still undo, or have begun, is not seen. */
static void test_beside(void) {
  stratakv_txn *txn = NULL;
  begin();
  put(first, 1, 1);
  if (!OK(stratakv_begin(first, &fixture_err, &txn))) return;
  OK(stratakv_txn_put(txn, table, "never", 5, "x", 1, 0, &fixture_err));
  OK(stratakv_txn_put(txn, table, "never2", 6, "x", 1, 0, &fixture_err));
  OK(stratakv_prepare(txn, &fixture_err));
  OK(open_beside());
  CHECK(second->db->is_private && shows(second));
  FAILS(STRATAKV_NOTFOUND,
        stratakv_get(second, NULL, table, "never", 5, &fixture_err, NULL));
  stratakv_rollback(txn);
  hold(first, SKV_LOCK_HEAD, SKV_EXCLUSIVE); /* it was given back */
  hold(first, SKV_LOCK_HEAD, SKV_UNLOCK);
  CHECK(shows(second));
  close_beside();

  OK(open_beside());
  CHECK(shows(second));
  close_beside();
  put(first, 2, 2);
  OK(open_beside());
  CHECK(shows(second));
  hold(first, SKV_LOCK_PRIVATE, SKV_SHARED);
  FAILS(STRATAKV_BUSY, skv_store_lock(first->db->store, SKV_LOCK_PRIVATE,
                                      SKV_EXCLUSIVE, &fixture_err));
  hold(first, SKV_LOCK_PRIVATE, SKV_UNLOCK);
  close_beside();

  /* Records behind what is visible are whole, and vouch for each other. */
  uint32_t before[KEYS];
  memcpy(before, rows, sizeof rows);
  uint64_t visible = skv_load(&first->db->shared->visible);
  for (uint32_t i = 0; i < 9; i++) put(first, 3 + i, 3);
  uint64_t published = skv_load(&first->db->shared->visible);
  skv_store_word(&first->db->shared->visible, visible);
  if (OK(open_beside())) {
    uint32_t seen[KEYS];
    OK(fixture_scan(second, table, seen, KEYS));
    CHECK(memcmp(seen, before, sizeof seen) == 0);
    close_beside();
  }
  skv_store_word(&first->db->shared->visible, published);

  /* Files that the others replace meanwhile are not missed. */
  OK(stratakv_flush(first, &fixture_err));
  OK(open_beside());
  put(first, 1, 7);
  OK(stratakv_compact(first, NULL, NULL, &fixture_err));
  OK(skv_gc(first->db, &fixture_err));
  rows[1] = 1;
  CHECK(shows(second));
  OK(stratakv_check(second, NULL, &fixture_err));
  rows[1] = 7;
  close_beside();

  /* The manifest is being changed: a moment later, or not now. */
  hold(first, SKV_LOCK_HEAD, SKV_EXCLUSIVE);
  FAILS(STRATAKV_BUSY, open_beside());
  CHECK(says("changing the manifest"));
  hold(first, SKV_LOCK_HEAD, SKV_UNLOCK);
  hold(first, SKV_LOCK_PRIVATE, SKV_EXCLUSIVE);
  FAILS(STRATAKV_BUSY, open_beside());
  hold(first, SKV_LOCK_PRIVATE, SKV_UNLOCK);
  end();
}

static void boot_unknown(skv_env *process, uint8_t id[16]) {
  SKV_UNUSED(process);
  memset(id, 0, 16);
}

/* In a container without /proc: it joins, and is joined. */
static void test_boot_unknown(void) {
  begin();
  put(first, 1, 1);
  void (*known)(skv_env *, uint8_t id[16]) = second_env->boot_id;
  second_env->boot_id = boot_unknown;
  OK(open_as(second_env, &second));
  put(second, 2, 2);
  CHECK(shows(first) && shows(second));
  OK(stratakv_close(first, &fixture_err));
  OK(stratakv_close(second, &fixture_err));
  OK(open_as(second_env, &second)); /* alone */
  OK(open_as(env, &first));
  put(first, 3, 3);
  CHECK(shows(first) && shows(second));
  second_env->boot_id = known;
  end();
}

/* ---- 7 ----------------------------------------------------------------- */

static int is_read_only(void *arg, const char *name, double value,
                        const char *unit, const char *help) {
  double *figure = arg;
  SKV_UNUSED(unit);
  SKV_UNUSED(help);
  if (strcmp(name, "stratakv_read_only") == 0) *figure = value;
  return 0;
}

/* Nothing is acknowledged that nobody will read, and what another store has
 * there now is let alone. */
static void test_removed(void) {
  skv_err err;
  stratakv_txn *txn = NULL;
  stratakv_table_info info;
  skv_file *file = NULL;
  begin();
  put(first, 1, 1);
  skv_dir *dir = skv_store_dir(first->db->store);
  OK(stratakv_begin(first, &fixture_err, &txn));
  OK(stratakv_txn_put(txn, table, "x", 1, "x", 1, 0, &fixture_err));
  OK(env->dir_unlink(dir, "LOCK", &fixture_err));
  OK(env->file_open(dir, "LOCK", SKV_FILE_WRITE | SKV_FILE_CREATE, &fixture_err,
                    &file));
  env->file_close(file);
  OK(env->file_open(dir, "000099.seg", SKV_FILE_WRITE | SKV_FILE_CREATE,
                    &fixture_err, &file));
  env->file_close(file);
  double figure = 0;
  OK(stratakv_stats(first, is_read_only, &figure, &fixture_err));
  CHECK(figure == 1);
  FAILS(STRATAKV_IOERR, stratakv_prepare(txn, &fixture_err));
  CHECK(says("removed or replaced"));
  FAILS(STRATAKV_IOERR, stratakv_commit(txn, &fixture_err, NULL));
  stratakv_rollback(txn);
  FAILS(STRATAKV_IOERR, fixture_put(first, table, 2, 2, NULL));
  FAILS(STRATAKV_IOERR, stratakv_table(first, "other", STRATAKV_KEY_TEXT, 1,
                                       &fixture_err, &info));
  FAILS(STRATAKV_IOERR, stratakv_flush(first, &fixture_err));
  FAILS(STRATAKV_IOERR, skv_gc(first->db, &err));
  if (OK(env->file_open(dir, "000099.seg", 0, &fixture_err, &file)))
    env->file_close(file);
  OK(env->dir_unlink(dir, "000099.seg", &fixture_err));
  CHECK(shows(first));
  FAILS(STRATAKV_IOERR, stratakv_close(first, &fixture_err));
  first = NULL;
  end();
}

/* ---- 8 ----------------------------------------------------------------- */

/* One process flushes, one compacts; who needs the flush waits for it. */
static void test_working(void) {
  bool did;
  begin();
  OK(open_as(second_env, &second));
  put(first, 1, 1);
  hold(first, SKV_LOCK_FLUSH, SKV_EXCLUSIVE);
  FAILS(STRATAKV_BUSY, skv_flush_all(second->db, 5, &fixture_err));
  CHECK(says("waited 5 ms for another process to flush"));
  if (!CHECK(!skv_flush_exclude(second->db))) skv_flush_admit(second->db);
  hold(first, SKV_LOCK_FLUSH, SKV_UNLOCK);
  if (CHECK(skv_flush_exclude(second->db))) {
    FAILS(STRATAKV_BUSY, skv_store_lock(first->db->store, SKV_LOCK_FLUSH,
                                        SKV_EXCLUSIVE, &fixture_err));
    skv_flush_admit(second->db);
  }
  OK(stratakv_flush(second, &fixture_err));
  put(first, 1, 2);
  OK(stratakv_flush(first, &fixture_err));
  hold(first, SKV_LOCK_COMPACT, SKV_EXCLUSIVE);
  FAILS(STRATAKV_BUSY, skv_compact_step(second->db, true, &did, &fixture_err));
  CHECK(says("another process is compacting"));
  hold(first, SKV_LOCK_COMPACT, SKV_UNLOCK);
  OK(stratakv_compact(second, NULL, NULL, &fixture_err));
  CHECK(shows(first) && shows(second));
  end();
}

/* Ask for a log as the worker does; how many retired ones are left. */
static size_t retired_after_obtaining(skv_db *db) {
  skv_log *log = NULL;
  skv_name name;
  uint64_t size = skv_log_size(db->active->log);
  if (OK(skv_log_obtain(db, size, &fixture_err, &log, &name))) {
    skv_log_close(log);
    skv_gc_unnamed(db, &name);
  }
  return db->state->version->retired_count;
}

/* P1: who replays privately has no slot to pin a log in; PRIVATE does. */
static void test_recycle(void) {
  begin();
  put(first, 1, 1);
  OK(stratakv_close(first, &fixture_err));
  options.read_only = 1;
  OK(open_as(second_env, &second));
  options = fixture_options();
  OK(open_as(env, &first));
  CHECK(second->db->is_private);
  OK(stratakv_flush(first, &fixture_err));
  size_t retired = first->db->state->version->retired_count;
  CHECK(retired > 0 && retired_after_obtaining(first->db) == retired);
  CHECK(shows(second));
  OK(stratakv_close(second, &fixture_err));
  second = NULL;
  CHECK(retired_after_obtaining(first->db) < retired);
  end();
}

/* Who takes WRITE reads on, and goes on behind nothing that does not verify. */
static void test_follow(void) {
  begin();
  OK(open_as(second_env, &second));
  put(first, 0, 1);
  uint64_t at = first->db->place.offset + SKV_RECORD_HEADER + 12;
  put(first, 1, 1);
  uint8_t *bytes = (uint8_t *)(uintptr_t)skv_log_bytes(first->db->active->log);
  bytes[at] ^= 1;
  FAILS(STRATAKV_CORRUPT, fixture_put(second, table, 2, 2, NULL));
  CHECK(says("checksum mismatch"));
  bytes[at] ^= 1;
  put(second, 2, 2);
  CHECK(shows(first));
  end();
}

/* ---- 9 ----------------------------------------------------------------- */

static const char *const owner_names[] = {"/a b", "/a\n../b", "/a\x7f", "/a%b"};
#define OWNERS (sizeof owner_names / sizeof *owner_names)

/* Paths as they are; these files exist, and what a careless reader makes of
 * the lines that nobody wrote. */
static int owner_canonical(skv_env *self, const char *path, skv_err *err,
                           char out[4096]) {
  SKV_UNUSED(self);
  const char *name = path;
  bool exists = strcmp(path, "0b") == 0 || strcmp(path, "\xff") == 0 ||
                strcmp(path, "/other") == 0;
  if (strncmp(name, FIXTURE_PATH "/..", 9) == 0) name += 9;
  for (size_t i = 0; i < OWNERS; i++)
    exists = exists || strcmp(name, owner_names[i]) == 0;
  snprintf(out, 4096, "%s", path);
  return exists || name == path ? STRATAKV_OK
                                : SKV_ERROR(err, STRATAKV_CANTOPEN, "gone");
}

static int open_for(const char *owner, int mode) {
  options.owner = owner;
  options.owner_mode = mode;
  int rc = open_as(second_env, &second);
  if (rc == STRATAKV_OK) OK(stratakv_close(second, &fixture_err));
  options.owner = NULL;
  second = NULL;
  return rc;
}

static bool owners_have(const char *line) {
  skv_buf bytes = {0};
  OK(skv_store_read_file(first->db->store, "OWNERS", 4096, &fixture_err,
                         &bytes));
  bool found = memmem(bytes.data, bytes.size, line, strlen(line)) != NULL;
  skv_buf_clear(&bytes);
  return found;
}

static void test_owners(void) {
  begin();
  second_env->canonical = owner_canonical;
  for (size_t i = 0; i < OWNERS; i++)
    OK(open_for(owner_names[i], STRATAKV_OWNER_ADD));
  for (size_t i = 0; i < OWNERS; i++)
    OK(open_for(owner_names[i], STRATAKV_OWNER_REQUIRE));
  CHECK(owners_have("\n../a%20b\n") && owners_have("\n../a%0A../b\n") &&
        owners_have("\n../a%7F\n") && owners_have("\n../a%25b\n"));
  static const char *const others[] = {"/b", "/a", "/a%20b"};
  for (size_t i = 0; i < 3; i++)
    FAILS(STRATAKV_AUTH, open_for(others[i], STRATAKV_OWNER_REQUIRE));
  /* The next who is added takes lines of files that are gone away. */
  static const char lines[] = "%:0b\n%zz\n%4\n../a%20b\n";
  char text[128];
  int n = snprintf(text, sizeof text, "stratakv-owners 1 %016llx\n%s",
                   (unsigned long long)skv_checksum(lines, strlen(lines), 0),
                   lines);
  skv_name tmp = {SKV_NAME_TMP, 999, first->db->slot, first->db->incarnation};
  OK(skv_store_write_file(first->db->store, "OWNERS", &tmp, text, (size_t)n,
                          &fixture_err));
  OK(open_for("/other", STRATAKV_OWNER_ADD));
  CHECK(owners_have("\n../a%20b\n../other\n") && !owners_have(":") &&
        !owners_have("z") && !owners_have("%4"));
  end();
}

int main(void) {
  test_busy_write();
  test_busy_attach();
  test_busy_head();
  test_slots();
  test_format();
  test_gone(NULL);
  test_gone("somebody.txt");
  test_settle_busy();
  test_takeover();
  test_takeover_busy();
  test_adopt();
  test_head_files();
  test_tail();
  test_epoch();
  test_pin();
  test_private();
  test_beside();
  test_boot_unknown();
  test_removed();
  test_working();
  test_recycle();
  test_follow();
  test_owners();
  return check_end();
}
