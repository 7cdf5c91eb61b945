/*
 * stratakv_check, and stratakv_inspect.
 *
 *   1  a small store with everything in it is clean; every byte of every file
 *      that means something is changed, and found, in the right file. What is
 *      not looked at: a log's bytes behind what is visible, SHARED, LOCK.
 *   2  files cut, lengthened, gone, exchanged, or too many
 *   3  it goes on behind damage; it can be stopped
 *   4  inspect describes every file, damaged or not
 *   5  threads and another process write meanwhile: nothing is found
 *   6  another process begins a new manifest just then: all is of one view
 *   7  a segment gets its name just then
 *   8  functions that are told of progress and findings read the store
 *   9  files full of what looks like long records and edits: one finding, what
 *      is whole behind it is checked, and the search can be stopped
 *
 * Soak: 1
 */
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "engine/db/inspect.h"
#include "engine/os/env_fault.h"
#include "engine/util/hash.h"
#include "test/c/db_fixture.h"
#include "test/c/harness.h"
#include "test/c/pretend.h"

#define TABLES 3
#define MOST 64
#define ALL_OF 20000 /* bytes of which each one is changed */

/* ---- Findings ------------------------------------------------------------ */

typedef struct findings {
  unsigned count, damages;
  unsigned untried; /* say that not all was tried */
  char file[MOST][64];
  uint64_t offset[MOST];
  unsigned stop_at; /* end the call with the n-th */
} findings;

static int collect(void *arg, const stratakv_finding *finding) {
  findings *f = arg;
  CHECK(finding->message != NULL && finding->message[0] != 0);
  if (f->count < MOST) {
    snprintf(f->file[f->count], 64, "%s", finding->file);
    f->offset[f->count] = finding->offset;
  }
  f->count++;
  f->damages += finding->severity == STRATAKV_DAMAGE;
  f->untried += strstr(finding->message, "to try them all") != NULL;
  return f->count == f->stop_at;
}

static int check_store(stratakv_store *store, findings *f) {
  stratakv_watch watch = {.report = collect, .arg = f};
  memset(f, 0, sizeof *f);
  return stratakv_check(store, &watch, &fixture_err);
}

static bool found_in(const findings *f, const char *file) {
  for (unsigned i = 0; i < f->count && i < MOST; i++)
    if (strcmp(f->file[i], file) == 0) return true;
  return false;
}

/* ---- A store with everything in it --------------------------------------- */

static stratakv_options small_options(int compression) {
  stratakv_options options = fixture_options();
  options.compression = compression;
  return options;
}

static stratakv_store *reopen(skv_env *env, int compression) {
  stratakv_options options = small_options(compression);
  stratakv_store *store = NULL;
  if (!OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store)))
    exit(1);
  for (int t = 1; t <= TABLES; t++) {
    stratakv_table_info info;
    char name[8];
    snprintf(name, sizeof name, "t%d", t);
    OK(stratakv_table(store, name, t, 1, &fixture_err, &info));
  }
  return store;
}

static void put_some(stratakv_store *store, uint32_t from, uint32_t to) {
  for (uint32_t i = from; i < to; i++)
    OK(fixture_put(store, 1 + i % TABLES, i % 40, i % 6 == 5 ? 0 : i + 1,
                   NULL));
}

static void ingest_some(stratakv_store *store) {
  stratakv_txn *txn = NULL;
  OK(stratakv_begin(store, &fixture_err, &txn));
  for (uint32_t i = 0; i < 250; i++)
    OK(fixture_txn_put(txn, 2, 1000 + i, i % 11 == 3 ? 0 : i + 1));
  OK(stratakv_commit(txn, &fixture_err, NULL));
}

/* A level below, an ingest and flushes above it, records in the log. */
static stratakv_store *everything(skv_env *env, bool ingest) {
  stratakv_store *store = reopen(env, STRATAKV_COMPRESSION_ZSTD);
  put_some(store, 0, 30);
  OK(stratakv_compact(store, NULL, NULL, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  store = reopen(env, STRATAKV_COMPRESSION_NONE);
  if (ingest) ingest_some(store);
  put_some(store, 30, 40);
  OK(stratakv_flush(store, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  store = reopen(env, STRATAKV_COMPRESSION_LZ4);
  put_some(store, 40, 60);
  OK(stratakv_flush(store, &fixture_err));
  put_some(store, 60, 66);
  return store;
}

/* The bytes of a file, where they stand. */
static skv_mem_node *node_of(skv_env *env, const char *name) {
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  skv_mutex_lock(&fs->mutex);
  skv_mem_node *node = skv_mem_find(fs, fixture_dir(fs), name);
  skv_mutex_unlock(&fs->mutex);
  return node;
}

/* ---- Inspect ------------------------------------------------------------- */

static unsigned lines_seen;

static int see_line(void *arg, const char *line) {
  unsigned *left = arg;
  CHECK(strchr(line, '\n') == NULL && line[0] != 0);
  lines_seen++;
  return left != NULL && --*left == 0;
}

static int inspect_file(skv_env *env, const char *name) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", FIXTURE_PATH, name);
  return skv_inspect_in(env, path, 1, see_line, NULL, &fixture_err);
}

static const fixture_file *newest_log(const fixture_image *image) {
  const fixture_file *newest = NULL;
  for (size_t i = 0; i < image->count; i++) {
    const fixture_file *file = &image->files[i];
    if (skv_name_parse(file->name).kind != SKV_NAME_WAL) continue;
    if (newest == NULL || strcmp(file->name, newest->name) > 0) newest = file;
  }
  if (!CHECK(newest != NULL)) exit(1);
  return newest;
}

/* Whole files: each has lines, with its entries; it can be ended. And one with
 * a record that others vouch for, and that does not verify. */
static void test_inspect(void) {
  skv_env *env = skv_env_mem_new();
  stratakv_store *store = everything(env, true);
  fixture_image image = fixture_take(env);
  char path[128];
  for (size_t i = 0; i < image.count; i++) {
    lines_seen = 0;
    int rc = inspect_file(env, image.files[i].name);
    bool is_next = strstr(image.files[i].name, ".tmp") != NULL;
    CHECK(lines_seen > 0 && (rc == STRATAKV_OK || is_next));
    unsigned with = lines_seen, left = 1;
    snprintf(path, sizeof path, "%s/%s", FIXTURE_PATH, image.files[i].name);
    lines_seen = 0;
    (void)skv_inspect_in(env, path, 0, see_line, NULL, &fixture_err);
    CHECK(lines_seen <= with);
    if (strstr(image.files[i].name, ".seg")) CHECK(with >= lines_seen + 10);
    FAILS(STRATAKV_INTERRUPT,
          skv_inspect_in(env, path, 1, see_line, &left, &fixture_err));
  }
  const fixture_file *log = newest_log(&image);
  node_of(env, log->name)->bytes[SKV_WAL_HEADER + 40] ^= 1;
  FAILS(STRATAKV_CORRUPT, inspect_file(env, log->name));
  node_of(env, log->name)->bytes[SKV_WAL_HEADER + 40] ^= 1;
  FAILS(STRATAKV_CANTOPEN, inspect_file(env, "nothing"));
  FAILS(STRATAKV_ERROR, stratakv_inspect("", 0, NULL, NULL, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  fixture_clear(&image);
  skv_env_mem_free(env);
}

/* ---- 1: every byte ------------------------------------------------------- */

static uint64_t bytes_changed;

static void change_file(skv_env *env, stratakv_store *store, const char *name,
                        uint64_t size, skv_prng *rng) {
  skv_mem_node *node = node_of(env, name);
  findings f;
  /* Of many segments some are sampled, but for a soak. */
  uint64_t step =
      bytes_changed * harness.sample > ALL_OF && harness.soak_s == 0 ? 13 : 1;
  for (uint64_t at = 0; at < size && check_failures == 0; at += step) {
    if (harness_is_over()) break;
    if (!harness_samples()) continue;
    uint8_t mask = (uint8_t)(1 + skv_prng_below(rng, 255));
    node->bytes[at] ^= mask;
    int rc = check_store(store, &f);
    int inspected = inspect_file(env, name);
    node->bytes[at] ^= mask;
    /* Of an edit or record at the end a file alone cannot say. */
    bool alone = strstr(name, ".seg") || strcmp(name, "OWNERS") == 0 ||
                 strcmp(name, "CURRENT") == 0;
    CHECK(inspected == STRATAKV_CORRUPT ||
          (!alone && inspected == STRATAKV_OK));
    bool noticed = rc == STRATAKV_CORRUPT && f.damages > 0;
    if (strcmp(name, "OWNERS") == 0) noticed = rc == STRATAKV_OK && f.count > 0;
    if (!CHECK(noticed && found_in(&f, name)))
      printf("%s: byte %" PRIu64 " of %" PRIu64 ", mask %02x: %d\n", name, at,
             size, mask, rc);
    bytes_changed++;
  }
}

static void test_bytes(uint64_t seed) {
  skv_env *env = skv_env_mem_new();
  skv_prng rng = {seed};
  stratakv_store *store = everything(env, seed % 2 == 0);
  findings f;
  static const char owners[] = "../app.db\n";
  char text[128];
  int n = snprintf(text, sizeof text, "stratakv-owners 1 %016llx\n%s",
                   (unsigned long long)skv_checksum(owners, 10, 0), owners);
  skv_name tmp = {SKV_NAME_TMP, 999, store->db->slot, store->db->incarnation};
  OK(skv_store_write_file(store->db->store, "OWNERS", &tmp, text, (size_t)n,
                          &fixture_err));
  uint32_t rows[2000];
  for (uint32_t t = 1; t <= TABLES; t++)
    OK(fixture_scan(store, t, rows, 2000)); /* every block was used */
  if (!OK(check_store(store, &f)) || !CHECK(f.count == 0))
    printf("%s: %s\n", f.file[0], fixture_err.message);
  fixture_image image = fixture_take(env);
  unsigned segments = 0, kinds = 0;
  for (size_t i = 0; i < image.count; i++) {
    skv_name name = skv_name_parse(image.files[i].name);
    uint64_t size = image.files[i].size;
    const skv_state *state = store->db->state;
    if (strcmp(image.files[i].name, "LOCK") == 0 ||
        strcmp(image.files[i].name, "SHARED") == 0)
      continue;
    if (name.kind == SKV_NAME_WAL) {
      size = 0; /* a retired one */
      for (size_t l = 0; l < state->log_count; l++)
        if (state->logs[l]->number == name.number)
          size = skv_memlog_limit(state->logs[l],
                                  skv_load(&store->db->shared->visible));
    }
    if (name.kind == SKV_NAME_TMP) size = 0; /* the next log */
    segments += name.kind == SKV_NAME_SEG;
    kinds |= size > 0 ? 1u << name.kind : 0;
    change_file(env, store, image.files[i].name, size, &rng);
  }
  CHECK(segments >= 2 && kinds == 0x1e); /* fixed, manifest, wal, seg */
  OK(check_store(store, &f));
  CHECK(f.count == 0);
  OK(stratakv_close(store, &fixture_err));
  fixture_clear(&image);
  skv_env_mem_free(env);
}

/* ---- 2: whole files ------------------------------------------------------ */

static bool damaged(stratakv_store *store, const char *name) {
  findings f;
  int rc = check_store(store, &f);
  return CHECK(rc == STRATAKV_CORRUPT && f.damages > 0 && found_in(&f, name));
}

/* Not a retired log. */
static bool is_used(const skv_version *version, const char *text) {
  skv_name name = skv_name_parse(text);
  if (name.kind != SKV_NAME_WAL) return true;
  for (size_t i = 0; i < version->wal_count; i++)
    if (version->wals[i].number == name.number) return true;
  return false;
}

static void test_files(void) {
  skv_env *env = skv_env_mem_new();
  stratakv_store *store = everything(env, true);
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  fixture_image image = fixture_take(env);
  skv_dir *dir = skv_store_dir(store->db->store);
  findings f;
  for (size_t i = 0; i < image.count; i++) {
    const char *name = image.files[i].name;
    int kind = skv_name_parse(name).kind;
    if (kind == SKV_NAME_TMP) continue;
    if (kind == SKV_NAME_FIXED && strcmp(name, "CURRENT") != 0) continue;
    if (!is_used(store->db->state->version, name)) continue;
    skv_mem_node *node = node_of(env, name);
    skv_mem_name *entry = skv_mem_name_of(fs, node);
    uint64_t size = node->size;
    node->size = size - 8;
    damaged(store, name);
    node->size = size + (kind == SKV_NAME_WAL ? 4096 : 8);
    if (kind != SKV_NAME_MANIFEST) damaged(store, name);
    node->size = size;
    skv_mutex_lock(&fs->mutex);
    entry->text[0] = 'X';
    skv_mutex_unlock(&fs->mutex);
    damaged(store, name);
    skv_mutex_lock(&fs->mutex);
    entry->text[0] = name[0];
    skv_mutex_unlock(&fs->mutex);
  }
  static const char *const extra[] = {"999999.seg", "999998.wal",
                                      "000777.manifest", "a file",
                                      "07-00000009-000001.tmp"};
  for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
    fixture_file file = {.bytes = (uint8_t *)"x", .size = 1};
    snprintf(file.name, sizeof file.name, "%s", extra[i]);
    fixture_put_file(dir, &file);
    OK(check_store(store, &f));
    CHECK(f.count == 1 && f.damages == 0 && found_in(&f, extra[i]));
    OK(env->dir_unlink(dir, extra[i], &fixture_err));
  }
  OK(check_store(store, &f));
  CHECK(f.count == 0);
  OK(stratakv_close(store, &fixture_err));
  fixture_clear(&image);
  skv_env_mem_free(env);
}

/* ---- 3: going on, stopping ----------------------------------------------- */

static int stop_at_once(void *arg, double done) {
  unsigned *calls = arg;
  ++*calls;
  return done >= 0;
}

/* A file of that kind in use, the largest. */
static const char *largest(const fixture_image *image, int kind) {
  const fixture_file *best = NULL;
  for (size_t i = 0; i < image->count; i++)
    if (skv_name_parse(image->files[i].name).kind == kind &&
        (!best || image->files[i].size > best->size))
      best = &image->files[i];
  return best ? best->name : "";
}

static void test_going_on(void) {
  skv_env *env = skv_env_mem_new();
  stratakv_store *store = everything(env, true);
  fixture_image image = fixture_take(env);
  skv_mem_node *seg = node_of(env, largest(&image, SKV_NAME_SEG));
  const skv_memlog *active =
      store->db->state->logs[store->db->state->log_count - 1];
  skv_name name = {.kind = SKV_NAME_WAL, .number = active->number};
  char text[SKV_NAME_SIZE];
  findings f;
  skv_name_format(&name, text);
  skv_mem_node *log = node_of(env, text);
  if (!CHECK(seg != NULL && log != NULL && seg->size > 4096)) exit(1);
  seg->bytes[20] ^= 1;
  seg->bytes[1500] ^= 1; /* another block */
  log->bytes[SKV_WAL_HEADER + 40] ^= 1;
  CHECK(check_store(store, &f) == STRATAKV_CORRUPT);
  CHECK(f.damages == 3 && found_in(&f, largest(&image, SKV_NAME_SEG)) &&
        found_in(&f, text));
  stratakv_error first = fixture_err;
  f.count = 0;
  f.stop_at = 2;
  stratakv_watch watch = {.report = collect, .arg = &f};
  FAILS(STRATAKV_INTERRUPT, stratakv_check(store, &watch, &fixture_err));
  CHECK(f.count == 2);
  FAILS(STRATAKV_CORRUPT, stratakv_check(store, NULL, &fixture_err));
  CHECK(strcmp(first.message, fixture_err.message) == 0);
  CHECK(stratakv_check(store, NULL, NULL) == STRATAKV_CORRUPT);
  unsigned calls = 0;
  stratakv_watch stopper = {.progress = stop_at_once, .arg = &calls};
  FAILS(STRATAKV_INTERRUPT, stratakv_check(store, &stopper, &fixture_err));
  CHECK(calls == 1);
  FAILS(STRATAKV_MISUSE, stratakv_check(NULL, NULL, &fixture_err));
  seg->bytes[20] ^= 1;
  seg->bytes[1500] ^= 1;
  log->bytes[SKV_WAL_HEADER + 40] ^= 1;
  OK(stratakv_check(store, NULL, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  fixture_clear(&image);
  skv_env_mem_free(env);
}

/* ---- 4: while others write ----------------------------------------------- */

static _Atomic int writing;
static _Atomic unsigned write_failures;

typedef struct busy {
  skv_env *env;
  unsigned number;
} busy;

static void *write_meanwhile(void *arg) {
  busy *b = arg;
  stratakv_options options = small_options(STRATAKV_COMPRESSION_LZ4);
  stratakv_store *store = NULL;
  skv_prng rng = {b->number};
  options.background = 1;
  options.busy_timeout_ms = 60000;
  options.sync = STRATAKV_SYNC_OFF;
  int rc = skv_open_in(b->env, FIXTURE_PATH, &options, &fixture_err, &store);
  for (unsigned i = 0; rc == STRATAKV_OK && atomic_load(&writing); i++) {
    uint32_t row = (uint32_t)skv_prng_below(&rng, 2000);
    rc = fixture_put(store, 1 + row % TABLES, row, i % 7 ? i + 1 : 0, NULL);
    if (rc == STRATAKV_OK && i % 700 == 699)
      rc = stratakv_compact(store, NULL, NULL, &fixture_err);
  }
  if (rc == STRATAKV_OK) rc = stratakv_close(store, &fixture_err);
  if (rc != STRATAKV_OK) {
    printf("writer %u: %d %s\n", b->number, rc, fixture_err.message);
    atomic_fetch_add(&write_failures, 1);
  }
  return NULL;
}

static void test_meanwhile(unsigned checks) {
  skv_env *env = skv_env_mem_new();
  stratakv_store *store = everything(env, true);
  pthread_t threads[3];
  busy workers[3];
  findings f;
  atomic_store(&writing, 1);
  for (unsigned i = 0; i < 3; i++) {
    workers[i] = (busy){i == 0 ? env : skv_env_mem_process(env), i + 1};
    pthread_create(&threads[i], NULL, write_meanwhile, &workers[i]);
  }
  for (unsigned i = 0; i < checks && check_failures == 0; i++) {
    int rc = check_store(store, &f);
    if (!CHECK(rc == STRATAKV_OK))
      printf("%u: %s: %s\n", i, f.file[0], fixture_err.message);
  }
  atomic_store(&writing, 0);
  for (unsigned i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  CHECK(atomic_load(&write_failures) == 0);
  OK(stratakv_check(store, NULL, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  for (unsigned i = 1; i < 3; i++) skv_env_mem_free(workers[i].env);
  skv_env_mem_free(env);
}

/* ---- 6: a new manifest --------------------------------------------------- */

typedef struct roller {
  skv_env *env;
  stratakv_store *store;
  unsigned calls;
} roller;

static uint64_t manifest_of(skv_env *env) {
  uint64_t number = 0;
  fixture_image image = fixture_take(env);
  for (size_t i = 0; i < image.count; i++) {
    skv_name name = skv_name_parse(image.files[i].name);
    if (name.kind == SKV_NAME_MANIFEST && name.number > number)
      number = name.number;
  }
  fixture_clear(&image);
  return number;
}

/* The first call comes when the view is taken and CURRENT is not read yet. */
static int roll_manifest(void *arg, double done) {
  roller *r = arg;
  SKV_UNUSED(done);
  if (r->calls++ > 0) return 0;
  uint64_t before = manifest_of(r->env);
  for (uint32_t i = 0; i < 200 && manifest_of(r->env) == before; i++) {
    put_some(r->store, 100 + i * 8, 100 + i * 8 + 8);
    OK(stratakv_compact(r->store, NULL, NULL, &fixture_err));
  }
  CHECK(manifest_of(r->env) > before);
  return 0;
}

/* What the check began with is freed when it takes the view anew; freed memory
 * is filled (run.tcl), so reading it cannot go well. */
static void test_new_manifest(void) {
  setenv("SKV_TEST_HEAD_ROLL", "1500", 1);
  skv_env *env = skv_env_mem_new();
  stratakv_store *store = everything(env, true);
  roller r = {.env = skv_env_mem_process(env)};
  r.store = reopen(r.env, STRATAKV_COMPRESSION_LZ4);
  findings f = {0};
  stratakv_watch watch = {.progress = roll_manifest, .arg = &r};
  OK(stratakv_check(store, &watch, &fixture_err));
  CHECK(r.calls > 1);
  CHECK(check_store(store, &f) == STRATAKV_OK && f.count == 0);
  OK(stratakv_close(r.store, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  skv_env_mem_free(r.env);
  skv_env_mem_free(env);
  unsetenv("SKV_TEST_HEAD_ROLL");
}

/* A segment is missing, and there when it is looked for again: it got its name
 * in between. Missing for good, it is damage. */
static void test_named_meanwhile(void) {
  skv_fault fault = {"file_open",       "*.seg", 1,    false,
                     STRATAKV_NOTFOUND, false,   false};
  skv_env *env = skv_env_mem_new();
  OK(stratakv_close(everything(env, true), &fixture_err));
  skv_env *failing = skv_env_fault_new(env);
  if (!CHECK(failing != NULL)) exit(1);
  stratakv_store *store = reopen(failing, STRATAKV_COMPRESSION_LZ4);
  findings f;
  skv_env_fault_set(failing, &fault);
  OK(check_store(store, &f));
  CHECK(skv_env_fault_fired(failing) == 1 && f.count == 0);
  fault.is_forever = true;
  skv_env_fault_set(failing, &fault);
  FAILS(STRATAKV_CORRUPT, check_store(store, &f));
  CHECK(f.damages > 0);
  skv_env_fault_set(failing, NULL);
  OK(stratakv_close(store, &fixture_err));
  skv_env_fault_free(failing);
  skv_env_mem_free(env);
}

/* What is called meanwhile may read the store. */
typedef struct reader {
  stratakv_store *store;
  unsigned calls;
} reader;

static int read_all(void *arg) {
  reader *r = arg;
  uint32_t rows[100];
  r->calls++;
  return !OK(fixture_scan(r->store, 1, rows, 100));
}
static int read_progress(void *arg, double done) {
  SKV_UNUSED(done);
  return read_all(arg);
}
static int read_report(void *arg, const stratakv_finding *finding) {
  SKV_UNUSED(finding);
  return read_all(arg);
}
static int read_stat(void *arg, const char *name, double value,
                     const char *unit, const char *help) {
  SKV_UNUSED(name);
  SKV_UNUSED(value);
  SKV_UNUSED(unit);
  SKV_UNUSED(help);
  return read_all(arg);
}

static void test_reading(void) {
  skv_env *env = skv_env_mem_new();
  reader r = {.store = everything(env, false)};
  stratakv_watch watch = {read_report, read_progress, &r};
  fixture_image image = {0};
  skv_dir *dir = NULL;
  fixture_file *file = fixture_add(&image, "000999.seg", "x", 1); /* a note */
  OK(env->dir_open(env, NULL, FIXTURE_PATH, 0, &fixture_err, &dir));
  fixture_put_file(dir, file);
  env->dir_close(dir);
  fixture_clear(&image);
  OK(stratakv_check(r.store, &watch, &fixture_err));
  CHECK(r.calls >= 2);
  unsigned before = r.calls;
  OK(stratakv_stats(r.store, read_stat, &r, &fixture_err));
  CHECK(r.calls > before + 5);
  before = r.calls;
  OK(stratakv_backup(r.store, NULL, "/copy", &watch, &fixture_err, NULL));
  CHECK(r.calls > before);
  before = r.calls;
  OK(stratakv_compact(r.store, read_progress, &r, &fixture_err));
  CHECK(r.calls > before);
  OK(stratakv_close(r.store, &fixture_err));
  skv_env_mem_free(env);
}

/* ---- 9: pretended ---------------------------------------------------------- */

/* Told the same progress for the n-th time: a search goes on. */
typedef struct patience {
  double last;
  unsigned rests, stop_at;
} patience;

static int wait_on(void *arg, double done) {
  patience *p = arg;
  p->rests += done == p->last;
  p->last = done;
  return p->stop_at != 0 && p->rests == p->stop_at;
}

static unsigned untried_lines;

static int see_untried(void *arg, const char *line) {
  (void)arg;
  untried_lines += strstr(line, "be tried") || strstr(line, "try them all");
  return 0;
}

static void inspect_untried(skv_env *env, const char *name) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", FIXTURE_PATH, name);
  untried_lines = 0;
  (void)skv_inspect_in(env, path, 0, see_untried, NULL, &fixture_err);
  CHECK(untried_lines == 1);
}

/* One finding, in that file; and the search for it can be stopped. */
static void check_pretended(stratakv_store *store, const char *name) {
  findings f;
  patience p = {.last = -1};
  stratakv_watch watch = {.progress = wait_on, .arg = &p};
  CHECK(check_store(store, &f) == STRATAKV_CORRUPT);
  CHECK(f.count == 1 && f.untried == 1 && found_in(&f, name));
  FAILS(STRATAKV_CORRUPT, stratakv_check(store, &watch, &fixture_err));
  CHECK(p.rests >= 2);
  p = (patience){.last = -1, .stop_at = 2};
  FAILS(STRATAKV_INTERRUPT, stratakv_check(store, &watch, &fixture_err));
  CHECK(p.rests == 2);
}

/* Records one after the other whose padding is not zero: one finding. */
static void damage_padding(stratakv_store *store, skv_mem_node *log) {
  const skv_memlog *active =
      store->db->state->logs[store->db->state->log_count - 1];
  skv_wal_place place = {skv_wal_seed(&active->header), SKV_WAL_HEADER,
                         active->header.prev, 0};
  skv_wal_record r;
  findings f;
  uint8_t *paddings[4];
  unsigned count = 0;
  while (count < 4 && skv_wal_read(log->bytes, log->size, true, &place, &r))
    if ((r.payload.size & 7) != 0)
      paddings[count++] = log->bytes + r.end - 1;
    else
      count = 0;
  if (!CHECK(count == 4)) return;
  for (unsigned i = 0; i < count; i++) *paddings[i] = 1;
  CHECK(check_store(store, &f) == STRATAKV_CORRUPT && f.count == 1);
  for (unsigned i = 0; i < count; i++) *paddings[i] = 0;
}

/* A large record, damaged, whose value is full of records. */
static void test_pretended_log(void) {
  skv_env *env = skv_env_mem_new();
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  char text[SKV_NAME_SIZE];
  uint8_t *value = fixture_alloc(2 * PRETEND_BYTES);
  options.wal_size = 16u << 20;
  options.memory = 256u << 20;
  options.sync = STRATAKV_SYNC_OFF; /* nothing proves that it was synced */
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  stratakv_table_info info;
  OK(stratakv_table(store, "t", 1, 1, &fixture_err, &info));
  for (uint32_t i = 0; i < 10; i++) OK(fixture_put(store, 1, i, i + 1, NULL));
  const skv_memlog *active =
      store->db->state->logs[store->db->state->log_count - 1];
  uint64_t at =
      skv_wal_offset(active->start, skv_load(&store->db->shared->tail));
  OK(stratakv_put(store, 1, "v", 1, value, 2 * PRETEND_BYTES, &fixture_err,
                  NULL));
  for (uint32_t i = 0; i < 10; i++) OK(fixture_put(store, 1, i, i + 1, NULL));
  skv_name name = {.kind = SKV_NAME_WAL, .number = active->number};
  skv_name_format(&name, text);
  skv_mem_node *log = node_of(env, text);
  OK(stratakv_check(store, NULL, &fixture_err));
  damage_padding(store, log);
  pretend_records(log->bytes + at + 64, 2 * PRETEND_BYTES - 64);
  check_pretended(store, text);
  inspect_untried(env, text);
  OK(stratakv_close(store, &fixture_err));
  free(value);
  skv_env_mem_free(env);
}

/* Edits behind the last one, in a manifest that is open. */
static void test_pretended_manifest(void) {
  skv_env *env = skv_env_mem_new();
  stratakv_store *store = everything(env, false);
  skv_name name = {.kind = SKV_NAME_MANIFEST, .number = manifest_of(env)};
  skv_dir *dir = skv_store_dir(store->db->store);
  uint8_t *bytes = fixture_alloc(PRETEND_BYTES);
  char text[SKV_NAME_SIZE];
  skv_file *file = NULL;
  skv_name_format(&name, text);
  pretend_edits(bytes, PRETEND_BYTES);
  OK(env->file_open(dir, text, SKV_FILE_WRITE, &fixture_err, &file));
  OK(env->file_write(file, node_of(env, text)->size, bytes, PRETEND_BYTES,
                     &fixture_err));
  env->file_close(file);
  check_pretended(store, text);
  inspect_untried(env, text);
  /* Which reads it to its end, and cannot tell. */
  FAILS(STRATAKV_CORRUPT, stratakv_close(store, &fixture_err));
  free(bytes);
  skv_env_mem_free(env);
}

int main(int argc, char **argv) {
  setenv("SKV_TEST_SEGMENT_SIZE", "3000", 1); /* several segments a run */
  harness_begin(argc, argv);
  for (uint64_t n; harness_next(2, &n);) test_bytes(n);
  if (harness.only == 0 && harness.soak_s == 0) {
    unsetenv("SKV_TEST_SEGMENT_SIZE");
    test_files();
    test_inspect();
    test_going_on();
    test_meanwhile(100);
    test_new_manifest();
    test_named_meanwhile();
    test_reading();
    test_pretended_log();
    test_pretended_manifest();
  }
  if (harness.only == 0) harness_count("check-bytes-changed", bytes_changed);
  return check_end();
}
