/*
 * A full disk, in memory, where its size is exact.
 *
 *   1  the store fills the disk itself: FULL, and from there on puts fail,
 *      deletes, flush, compaction and reads do not, until there is space
 *   2  another program fills it to the last byte: nothing that was
 *      acknowledged is lost, and writing resumes when the space is back
 *   3  the same for transactions that spill, and for two processes of which
 *      one met the end of the disk
 *   4  a death in the full state: recovery, and the reading of what is there
 *   5  small file systems are used, and to the reserve
 *
 * Each for disks of several sizes, with and without background work.
 *
 * Covers: INV-10
 */
#include "test/c/db_fixture.h"

#define KEYS 150000
#define MIB ((uint64_t)1 << 20)

static skv_env *mem;
static stratakv_store *store;
static stratakv_table_info table;
static stratakv_options options;
static uint32_t rows[KEYS], seen[KEYS]; /* the model, and what is read */
static uint32_t next_key, next_value;

static void disk_capacity(uint64_t bytes) {
  skv_mem_env_of(mem)->fs->capacity = bytes;
}

static uint64_t disk_free(void) {
  skv_mem_fs *fs = skv_mem_env_of(mem)->fs;
  skv_mutex_lock(&fs->mutex);
  uint64_t bytes = skv_mem_free_bytes(fs);
  skv_mutex_unlock(&fs->mutex);
  return bytes;
}

/* Another program's file, outside the store; size 0 removes it. */
static void disk_foreign(uint64_t size) {
  skv_dir *dir = NULL;
  skv_file *file = NULL;
  OK(mem->dir_open(mem, NULL, "/", 0, &fixture_err, &dir));
  if (size == 0) {
    OK(mem->dir_unlink(dir, "foreign", &fixture_err));
  } else {
    OK(mem->file_open(dir, "foreign", SKV_FILE_WRITE | SKV_FILE_CREATE,
                      &fixture_err, &file));
    OK(mem->file_allocate(file, size, &fixture_err));
    mem->file_close(file);
  }
  mem->dir_close(dir);
}

static void disk_open(void) {
  OK(skv_open_in(mem, FIXTURE_PATH, &options, &fixture_err, &store));
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table));
}

static void disk_begin(uint64_t capacity, int background) {
  static char where[64];
  snprintf(where, sizeof where, "disk of %u MiB, background %d",
           (unsigned)(capacity / MIB), background);
  check_where = where;
  options = fixture_options();
  options.background = background;
  options.wal_size = 1u << 20;
  options.compression = STRATAKV_COMPRESSION_NONE;
  options.busy_timeout_ms = 20000;
  memset(rows, 0, sizeof rows);
  next_key = next_value = 0;
  mem = fixture_world(&(fixture_image){0});
  disk_capacity(capacity);
  disk_open();
}

static void disk_check(stratakv_store *of) {
  if (OK(fixture_scan(of, table.id, seen, KEYS)))
    CHECK(memcmp(seen, rows, sizeof rows) == 0);
}

/* Everything again from the files, after a close or, dead, without one. */
static void disk_end(void) {
  disk_check(store);
  OK(stratakv_close(store, &fixture_err));
  disk_open();
  disk_check(store);
  OK(stratakv_close(store, &fixture_err));
  skv_env_mem_free(mem);
  check_where = "";
}

/* Put new keys until it fails; how many were put. */
static uint32_t disk_fill(int *rc) {
  uint32_t first = next_key;
  for (*rc = STRATAKV_OK; next_key < KEYS; next_key++) {
    *rc = fixture_put(store, table.id, next_key, next_value + 1, NULL);
    if (*rc != STRATAKV_OK) break;
    rows[next_key] = ++next_value;
  }
  return next_key - first;
}

static bool disk_put(stratakv_store *to, uint32_t key) {
  int rc = fixture_put(to, table.id, key, next_value + 1, NULL);
  if (rc == STRATAKV_OK)
    rows[key] = ++next_value;
  else
    CHECK(rc == STRATAKV_FULL);
  return rc == STRATAKV_OK;
}

/* Delete every `step`-th of the keys from `from` on. */
static void disk_delete(uint32_t from, uint32_t step) {
  for (uint32_t i = from; i < next_key; i += step) {
    if (!OK(fixture_put(store, table.id, i, 0, NULL))) return;
    rows[i] = 0;
  }
}

/* ---- 1, 5 -------------------------------------------------------------- */

static uint64_t disk_reserve(uint64_t capacity) {
  uint64_t share = capacity / 16;
  return share < 512u << 10 ? 512u << 10 : share;
}

static void test_own(uint64_t capacity, int background) {
  int rc;
  disk_begin(capacity, background);
  uint32_t n = disk_fill(&rc);
  FAILS(STRATAKV_FULL, rc);
  CHECK(strstr(fixture_err.message, "disk full") != NULL);
  CHECK(n > capacity / 1000); /* most of it was used: a row takes 200 bytes */
  uint64_t reserve = disk_reserve(capacity);
  disk_check(store);
  /* Work in the background may have given some back. */
  CHECK(!disk_put(store, 0) || disk_free() > reserve || background);
  disk_delete(0, 3); /* across several logs */
  disk_check(store);
  disk_delete(1, 3);
  OK(stratakv_flush(store, &fixture_err));
  OK(stratakv_compact(store, NULL, NULL, &fixture_err));
  disk_check(store);
  uint32_t more = disk_fill(&rc); /* the same handle */
  CHECK(more > n / 4);
  FAILS(STRATAKV_FULL, rc);
  disk_end();
}

/* ---- 2 ----------------------------------------------------------------- */

static void test_foreign(uint64_t capacity, int background) {
  int rc;
  disk_begin(capacity, background);
  for (int round = 0; round < 3; round++) {
    uint64_t left = round * 16384u;
    while (next_key < (round + 1) * 3000u)
      if (!CHECK(disk_put(store, next_key++))) return;
    disk_foreign(disk_free() - left);
    (void)disk_fill(&rc);
    FAILS(STRATAKV_FULL, rc);
    disk_check(store);
    CHECK(!disk_put(store, 7));
    (void)stratakv_flush(store, &fixture_err);
    (void)stratakv_compact(store, NULL, NULL, &fixture_err);
    disk_check(store);
    disk_foreign(0);
    CHECK(disk_put(store, 7)); /* at once */
    OK(stratakv_flush(store, &fixture_err));
    disk_check(store);
  }
  disk_end();
}

/* ---- 3 ----------------------------------------------------------------- */

static void test_spill(uint64_t capacity) {
  disk_begin(capacity, 0);
  for (uint32_t i = 0; i < 2000; i++) CHECK(disk_put(store, i));
  next_key = 2000;
  for (int round = 0; round < 2; round++) {
    stratakv_txn *txn = NULL;
    int rc = STRATAKV_OK;
    OK(stratakv_begin(store, &fixture_err, &txn));
    uint32_t i = 2000;
    for (; rc == STRATAKV_OK && i < KEYS; i++)
      rc = fixture_txn_put(txn, table.id, i, i);
    FAILS(STRATAKV_FULL, rc);
    stratakv_rollback(txn);
    disk_check(store);
    CHECK(disk_put(store, (uint32_t)round)); /* its spills are gone */
  }
  disk_end();
}

static void test_two(uint64_t capacity) {
  int rc;
  disk_begin(capacity, 0);
  stratakv_store *other = NULL;
  skv_env *second = skv_env_mem_process(mem);
  OK(skv_open_in(second, FIXTURE_PATH, &options, &fixture_err, &other));
  (void)disk_fill(&rc);
  FAILS(STRATAKV_FULL, rc);
  uint64_t left = disk_free();
  CHECK(!disk_put(other, 1) || left > disk_reserve(capacity));
  disk_check(other);
  disk_delete(0, 2);
  disk_check(other);
  disk_capacity(capacity * 2);
  CHECK(disk_put(other, 1));
  CHECK(disk_put(store, 3));
  disk_check(other);
  OK(stratakv_close(other, &fixture_err));
  disk_end();
  skv_env_mem_free(second);
}

/* ---- 4 ----------------------------------------------------------------- */

/* The files as they are, on a disk with so many bytes free. */
static void death_run(const fixture_image *image, uint64_t left) {
  stratakv_options reader = options;
  reader.read_only = 1;
  reader.create = 0;
  mem = fixture_world(image);
  disk_capacity(1);
  uint64_t used = 0;
  for (size_t i = 0; i < image->count; i++)
    used += (image->files[i].size + 4095) & ~UINT64_C(4095);
  disk_capacity(used + left);
  OK(skv_open_in(mem, FIXTURE_PATH, &reader, &fixture_err, &store));
  if (store != NULL) disk_check(store);
  OK(stratakv_close(store, &fixture_err));
  int rc = skv_open_in(mem, FIXTURE_PATH, &options, &fixture_err, &store);
  CHECK(rc == STRATAKV_OK || rc == STRATAKV_FULL);
  CHECK(rc == STRATAKV_OK || left < 128 * 1024);
  if (rc == STRATAKV_OK) disk_check(store);
  if (rc == STRATAKV_OK) OK(stratakv_close(store, &fixture_err));
  disk_capacity(used + 64 * MIB);
  disk_open();
  disk_check(store);
  CHECK(disk_put(store, 5));
  disk_check(store);
  OK(stratakv_close(store, &fixture_err));
  skv_env_mem_free(mem);
}

static void test_death(uint64_t capacity) {
  static const uint64_t left[] = {0, 4096, 16384, 65536, 131072, 1u << 20};
  int rc;
  disk_begin(capacity, 0);
  (void)disk_fill(&rc);
  FAILS(STRATAKV_FULL, rc);
  disk_delete(0, 5);
  fixture_image image = fixture_take(mem);
  OK(stratakv_close(store, &fixture_err));
  skv_env_mem_free(mem);
  for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
    uint32_t kept[8];
    memcpy(kept, rows, sizeof kept);
    death_run(&image, left[i]);
    memcpy(rows, kept, sizeof kept);
  }
  fixture_clear(&image);
  check_where = "";
}

int main(void) {
  for (int background = 0; background < 2; background++) {
    test_own(4 * MIB, background);
    test_own(9 * MIB, background);
    test_foreign(24 * MIB, background);
  }
  test_spill(6 * MIB);
  test_two(6 * MIB);
  test_death(6 * MIB);
  return check_end();
}
