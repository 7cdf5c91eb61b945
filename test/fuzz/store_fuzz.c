/*
 * Whole stores under SQL: the files of a directory, changed in any way, are
 * opened through the virtual table, read, scanned, written and closed, then
 * opened again. No crash, no hang; every statement ends with a result or an
 * error; what was just written and acknowledged is there; what is read twice
 * without a write in between is read alike.
 *
 * INPUT  see fuzz_image.h. The real environment is replaced by one in memory
 *   when this is linked (--wrap=skv_env_posix).
 */
#include <sqlite3.h>

#include "ext/sqlite/extension.h"
#include "test/fuzz/fuzz_clock.h"
#include "test/fuzz/fuzz_image.h"
#include "test/fuzz/fuzz_repair_log.h"
#include "test/fuzz/fuzz_repair_manifest.h"
#include "test/fuzz/fuzz_repair_seg.h"

/* A directory that exists, so that it can be granted; no file of it is
 * touched. */
#define STORE_PATH "/tmp"

static skv_env *store_env;
static skv_env *store_process; /* what the engine gets */

skv_env *__real_skv_env_posix(void);
skv_env *__wrap_skv_env_posix(void);
skv_env *__wrap_skv_env_posix(void) {
  return store_process != NULL ? store_process : __real_skv_env_posix();
}

/* ---- Repair ------------------------------------------------------------ */

static void repair_current(uint8_t *b, size_t size, skv_prng *rng) {
  if (size != 64) return;
  if (fuzz_mostly(rng)) memcpy(b, "STRATCUR", 8);
  if (fuzz_mostly(rng)) skv_put32(b + 8, 1);
  if (fuzz_mostly(rng)) skv_put64(b + 56, skv_checksum(b, 56, 0));
}

static void repair_file(const fixture_image *image, fixture_file *file,
                        skv_prng *rng) {
  skv_name name = skv_name_parse(file->name);
  const fixture_file *current = NULL;
  for (size_t i = 0; i < image->count; i++)
    if (strcmp(image->files[i].name, "CURRENT") == 0)
      current = &image->files[i];
  if (strcmp(file->name, "CURRENT") == 0)
    repair_current(file->bytes, file->size, rng);
  if (name.kind == SKV_NAME_WAL) fuzz_repair_log(file->bytes, file->size, rng);
  if (name.kind == SKV_NAME_SEG)
    fuzz_repair_segment(file->bytes, file->size, rng);
  if (name.kind == SKV_NAME_MANIFEST && current != NULL && current->size >= 32)
    fuzz_repair_manifest(file->bytes, file->size, current->bytes + 16,
                         name.number, rng);
}

/* Changes and repairs stay within one file: the input's own structure stays
 * whole. A change of all of it (fuzz_mutate.c) is undone by what is below. */
static uint8_t before[FUZZ_MAX_INPUT];
static size_t before_size;

static void change_file(fixture_image *image, skv_prng *rng) {
  fixture_file *file = &image->files[skv_prng_below(rng, image->count)];
  size_t stored = fuzz_image_stored(file), max = stored + 64;
  if (max > FUZZ_FILE_MAX) return;
  uint8_t *bytes = fuzz_alloc(max);
  memcpy(bytes, file->bytes, stored);
  size_t n = LLVMFuzzerMutate(bytes, stored, max);
  bool keeps_size = fuzz_mostly(rng) || n == stored;
  size_t size = keeps_size ? file->size : n;
  file->bytes = realloc(file->bytes, size ? size : 1);
  if (file->bytes == NULL) abort();
  memset(file->bytes, 0, size);
  memcpy(file->bytes, bytes, n < size ? n : size);
  file->size = size;
  free(bytes);
  if (skv_prng_below(rng, 8)) repair_file(image, file, rng);
}

/* Files that are missing, swapped, or another's bytes. */
static void change_names(fixture_image *image, skv_prng *rng) {
  fixture_file *a = &image->files[skv_prng_below(rng, image->count)];
  fixture_file *b = &image->files[skv_prng_below(rng, image->count)];
  fixture_file swap = *a;
  if (skv_prng_below(rng, 2)) {
    memcpy(a->name, b->name, sizeof a->name);
    memcpy(b->name, swap.name, sizeof b->name);
  } else if (image->count > 1) {
    free(a->bytes);
    *a = image->files[--image->count];
  }
}

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  fixture_image image = fuzz_image_read(data, size);
  if (image.count > 0 && skv_prng_below(rng, 32) == 0)
    change_names(&image, rng);
  if (image.count > 0) change_file(&image, rng);
  size_t written = fuzz_image_write(&image, before, sizeof before);
  fixture_clear(&image);
  before_size = written;
  if (written == 0 || written > max) return size;
  memcpy(data, before, written);
  return written;
}

/* ---- Statements -------------------------------------------------------- */

#define STEPS 5000 /* rows of one statement */

/* Run it; *sum says what came. */
static int run(sqlite3 *db, const char *sql, uint64_t *sum) {
  sqlite3_stmt *stmt = NULL;
  *sum = 0;
  int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
  if (rc != SQLITE_OK) return rc;
  int steps = 0;
  while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && steps++ < STEPS) {
    for (int i = 0; i < sqlite3_column_count(stmt); i++) {
      const void *bytes = sqlite3_column_blob(stmt, i);
      int n = sqlite3_column_bytes(stmt, i);
      *sum = skv_checksum(bytes ? bytes : "", (size_t)n, *sum + 1) +
             (uint64_t)sqlite3_column_type(stmt, i);
    }
  }
  FUZZ_CHECK(rc != SQLITE_INTERNAL && rc != SQLITE_MISUSE);
  FUZZ_CHECK(rc != SQLITE_ERROR || sqlite3_errmsg(db)[0] != 0);
  sqlite3_finalize(stmt);
  return rc;
}

static void read_twice(sqlite3 *db, const char *sql) {
  uint64_t once, twice;
  int rc = run(db, sql, &once);
  int again = run(db, sql, &twice);
  if (rc == SQLITE_DONE && again == SQLITE_DONE) FUZZ_CHECK(once == twice);
}

static void use_table(sqlite3 *db) {
  static const char *const reads[] = {
      "SELECT key, value FROM kv",
      "SELECT key, value FROM kv ORDER BY key DESC",
      "SELECT count(*), sum(length(value)) FROM kv",
      "SELECT value FROM kv WHERE key = 'key:000007'",
      "SELECT value FROM kv WHERE key = 'key:000020'",
      "SELECT key FROM kv WHERE key >= 'key:00001' AND key < 'key:00003'",
      "SELECT key FROM kv WHERE key IN ('key:000001', 'x', 'key:000040')",
      "SELECT * FROM stratakv_estimate('kv', 'a', 'z')",
      "SELECT name FROM stratakv_stats('kv')",
  };
  uint64_t sum;
  for (size_t i = 0; i < sizeof reads / sizeof *reads; i++)
    read_twice(db, reads[i]);
  if (run(db, "INSERT INTO kv VALUES('key:000500', 'written')", &sum) ==
      SQLITE_DONE)
    FUZZ_CHECK(run(db,
                   "SELECT CASE WHEN value = 'written' THEN 1 ELSE abs("
                   "-9223372036854775807 - 1) END FROM kv "
                   "WHERE key = 'key:000500'",
                   &sum) != SQLITE_ERROR);
  run(db, "BEGIN", &sum);
  run(db, "UPDATE kv SET value = 'u' WHERE key < 'key:000004'", &sum);
  run(db, "SAVEPOINT s", &sum);
  run(db, "DELETE FROM kv WHERE key > 'key:000050'", &sum);
  run(db, "ROLLBACK TO s", &sum);
  read_twice(db, "SELECT count(*) FROM kv");
  if (run(db, "COMMIT", &sum) != SQLITE_DONE) run(db, "ROLLBACK", &sum);
  run(db, "INSERT INTO kv(kv) VALUES('flush')", &sum);
  run(db, "INSERT INTO kv(kv) VALUES('optimize')", &sum);
  run(db, "INSERT INTO kv(kv) VALUES('integrity-check')", &sum);
  read_twice(db, "SELECT key, value FROM kv");
}

static void open_and_use(bool is_mapped) {
  sqlite3 *db = NULL;
  uint64_t sum;
  char sql[300];
  FUZZ_CHECK(sqlite3_open(":memory:", &db) == SQLITE_OK);
  FUZZ_CHECK(run(db, "SELECT stratakv_allow_root('" STORE_PATH "')", &sum) ==
             SQLITE_DONE);
  snprintf(sql, sizeof sql,
           "CREATE VIRTUAL TABLE kv USING stratakv('" STORE_PATH "', "
           "background=off, busy_timeout=100, memory='4M', mmap=%s)",
           is_mapped ? "on" : "off");
  if (run(db, sql, &sum) == SQLITE_DONE) use_table(db);
  FUZZ_CHECK(sqlite3_close(db) == SQLITE_OK);
}

static void begin(void) {
  setenv("SKV_TEST_WAL_SIZE", "65536", 1);
  setenv("SKV_TEST_BLOCK_SIZE", "256", 1);
  sqlite3_auto_extension((void (*)(void))sqlite3_stratakv_init);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static bool has_begun;
  if (!has_begun) begin();
  has_begun = true;
  fixture_image image = fuzz_image_read(data, size);
  store_process = NULL;
  for (size_t i = 0; i < image.count; i++)
    snprintf(image.files[i].dir, sizeof image.files[i].dir, STORE_PATH);
  store_env = fixture_world(&image);
  fuzz_env_clock(store_env);
  store_process = store_env;
  open_and_use(size % 2);
  open_and_use(size % 2 == 0);
  store_process = NULL;
  skv_env_mem_free(store_env);
  fixture_clear(&image);
  return 0;
}
