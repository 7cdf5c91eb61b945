/*
 * Backup.
 *
 *   1  stores of many shapes, in memory: the copy has what the snapshot had,
 *      opens cleanly, has an id of its own, takes writes; the store goes on
 *   2  a real file system: links, copies onto another one, what is refused,
 *      bases, read-only and private handles, :memory:
 *   3  every call fails once, and for ever: either a whole copy or none; who
 *      makes a store in the directory that backup has made keeps it, and LOCK;
 *      if the power fails while one is taken back: no part of one, either
 *   4  cancelled at every moment
 *   5  killed at every point
 *   6  100,000 writes of five threads in two processes meanwhile: the copy is
 *      a prefix of the commit order
 *
 * Soak: 1
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/os/env_fault.h"
#include "engine/util/point.h"
#include "test/c/crash.h"
#include "test/c/db_fixture.h"
#include "test/c/files.h"
#include "test/c/harness.h"

#define ROWS 400
#define TABLES 2

static uint64_t backups_made;

static int no_finding(void *arg, const stratakv_finding *finding) {
  SKV_UNUSED(arg);
  printf("%s at %" PRIu64 ": %s\n", finding->file, finding->offset,
         finding->message);
  return finding->severity != STRATAKV_NOTE;
}

static void sound(stratakv_store *store) {
  stratakv_watch watch = {.report = no_finding};
  OK(stratakv_check(store, &watch, &fixture_err));
}

/* ---- A store and what is in it ------------------------------------------- */

typedef struct world {
  skv_env *env;
  stratakv_store *store;
  uint32_t tables[TABLES];
  uint32_t rows[TABLES][ROWS];
  uint32_t next_value;
  skv_prng rng;
} world;

static uint32_t pick(world *w, uint32_t below) {
  return (uint32_t)skv_prng_below(&w->rng, below);
}

static void world_open(world *w, skv_env *env, const char *path) {
  stratakv_options options = fixture_options();
  w->env = env;
  options.compression = (int)pick(w, 3);
  if (!OK(skv_open_in(env, path, &options, &fixture_err, &w->store))) exit(1);
  for (int t = 0; t < TABLES; t++) {
    stratakv_table_info info;
    char name[8];
    snprintf(name, sizeof name, "t%d", t);
    OK(stratakv_table(w->store, name, t + 1, 1, &fixture_err, &info));
    w->tables[t] = info.id;
  }
}

static void world_put(world *w) {
  uint32_t t = pick(w, TABLES), i = pick(w, ROWS);
  uint32_t v = pick(w, 5) == 0 ? 0 : ++w->next_value;
  OK(fixture_put(w->store, w->tables[t], i, v, NULL));
  w->rows[t][i] = v;
}

/* A transaction that becomes an INGEST. */
static void world_ingest(world *w) {
  stratakv_txn *txn = NULL;
  uint32_t t = pick(w, TABLES);
  OK(stratakv_begin(w->store, &fixture_err, &txn));
  for (uint32_t i = 0; i < ROWS; i++) {
    uint32_t v = i % 7 == 0 ? 0 : ++w->next_value;
    OK(fixture_txn_put(txn, w->tables[t], i, v));
    w->rows[t][i] = v;
  }
  OK(stratakv_commit(txn, &fixture_err, NULL));
}

static void world_step(world *w) {
  uint32_t what = pick(w, 400);
  if (what == 0) {
    OK(stratakv_compact(w->store, NULL, NULL, &fixture_err));
  } else if (what < 6) {
    OK(stratakv_flush(w->store, &fixture_err));
  } else if (what == 6) {
    world_ingest(w);
  } else {
    world_put(w);
  }
}

/* The copy at `path` is what the world is. */
static void world_compare(const world *w, skv_env *env, const char *path) {
  stratakv_options options = fixture_options();
  stratakv_store *copy = NULL;
  options.create = 0;
  if (!OK(skv_open_in(env, path, &options, &fixture_err, &copy))) return;
  for (int t = 0; t < TABLES; t++) {
    uint32_t rows[ROWS];
    stratakv_table_info info;
    char name[8];
    snprintf(name, sizeof name, "t%d", t);
    OK(stratakv_table(copy, name, t + 1, 0, &fixture_err, &info));
    CHECK(info.id == w->tables[t]);
    OK(fixture_scan(copy, info.id, rows, ROWS));
    CHECK(memcmp(rows, w->rows[t], sizeof rows) == 0);
  }
  sound(copy);
  CHECK(memcmp(copy->db->store_id, w->store->db->store_id, 16) != 0);
  CHECK(atomic_load(&copy->db->counters.torn_tails) == 0);
  OK(stratakv_close(copy, &fixture_err));
}

static int world_backup(const world *w, const char *path,
                        const stratakv_watch *watch, uint64_t *lsn) {
  backups_made++;
  return stratakv_backup(w->store, NULL, path, watch, &fixture_err, lsn);
}

/* ---- 1: shapes ----------------------------------------------------------- */

/* The copy takes writes, at LSNs beyond the store's of that moment. */
static void copy_goes_on(const world *w, const char *path, uint64_t lsn) {
  stratakv_options options = fixture_options();
  stratakv_store *copy = NULL;
  uint64_t first = 0;
  OK(skv_open_in(w->env, path, &options, &fixture_err, &copy));
  OK(fixture_put(copy, w->tables[0], 1, 77, &first));
  CHECK(first >= lsn);
  OK(stratakv_flush(copy, &fixture_err));
  OK(stratakv_compact(copy, NULL, NULL, &fixture_err));
  sound(copy);
  OK(stratakv_close(copy, &fixture_err));
  OK(skv_open_in(w->env, path, &options, &fixture_err, &copy));
  uint32_t rows[ROWS];
  OK(fixture_scan(copy, w->tables[0], rows, ROWS));
  CHECK(rows[1] == 77);
  OK(stratakv_close(copy, &fixture_err));
}

static void test_shapes(uint64_t seed) {
  world w = {.rng = {seed}};
  skv_env *env = skv_env_mem_new();
  skv_mem_env_of(env)->fs->no_links = seed % 3 == 2;
  world_open(&w, env, FIXTURE_PATH);
  uint32_t steps = pick(&w, 4) == 0 ? pick(&w, 5) : pick(&w, 3000);
  for (uint32_t i = 0; i < steps; i++) world_step(&w);
  stratakv_snapshot *snapshot = NULL;
  uint64_t lsn = 0;
  OK(stratakv_snapshot_open(w.store, &fixture_err, &snapshot));
  OK(world_backup(&w, "/copy", NULL, &lsn));
  CHECK(lsn == stratakv_snapshot_lsn(snapshot));
  stratakv_snapshot_close(snapshot);
  world_compare(&w, env, "/copy");
  copy_goes_on(&w, "/copy", lsn);
  /* A copy of a copy; the store goes on. */
  for (uint32_t i = 0; i < 300; i++) world_step(&w);
  FAILS(STRATAKV_CANTOPEN, world_backup(&w, "/copy", NULL, NULL));
  OK(world_backup(&w, "/second", NULL, NULL));
  OK(stratakv_close(w.store, &fixture_err));
  world second = w;
  stratakv_options options = fixture_options();
  OK(skv_open_in(env, "/second", &options, &fixture_err, &second.store));
  OK(world_backup(&second, "/third", NULL, NULL));
  world_compare(&second, env, "/third");
  OK(stratakv_close(second.store, &fixture_err));
  skv_env_mem_free(env);
}

/* ---- 2: a real file system ----------------------------------------------- */

static char base[PATH_MAX];

static const char *at(const char *name) {
  static char paths[4][PATH_MAX];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, PATH_MAX, "%s/%s", base, name);
  return path;
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

/* Segments in a directory, and how many of them have another name. */
static unsigned count_segments(const char *path, unsigned *linked) {
  skv_dir *dir = NULL;
  unsigned count = 0;
  *linked = 0;
  skv_env *env = skv_env_posix();
  if (env->dir_open(env, NULL, path, 0, NULL, &dir) != STRATAKV_OK) return 0;
  for (uint64_t n = 1; n < 10000; n++) {
    skv_name name = {.kind = SKV_NAME_SEG, .number = n};
    char text[SKV_NAME_SIZE], full[PATH_MAX + 40];
    struct stat st;
    skv_name_format(&name, text);
    snprintf(full, sizeof full, "%s/%s", path, text);
    if (stat(full, &st) != 0) continue;
    count++;
    *linked += st.st_nlink > 1;
  }
  env->dir_close(dir);
  return count;
}

static void test_links(world *w) {
  unsigned linked, count;
  OK(world_backup(w, at("linked"), NULL, NULL));
  count = count_segments(at("linked"), &linked);
  size_t have;
  (void)skv_version_segs(w->store->db->state->version, &have);
  CHECK(have >= 2 && linked == have && count > have); /* and a log's */
  world_compare(w, skv_env_posix(), at("linked"));
  char other[64] = "/dev/shm/skv_backup.XXXXXX";
  struct stat here, there;
  if (mkdtemp(other) != NULL && stat(base, &here) == 0 &&
      stat(other, &there) == 0 && here.st_dev != there.st_dev) {
    char path[80];
    snprintf(path, sizeof path, "%s/copy", other);
    OK(world_backup(w, path, NULL, NULL));
    count = count_segments(path, &linked);
    CHECK(count > have && linked == 0);
    world_compare(w, skv_env_posix(), path);
  } else {
    printf("skipped: no other file system at /dev/shm\n");
  }
  files_remove(other);
}

static int backup_at(const world *w, const char *from, const char *path) {
  return stratakv_backup(w->store, from, path, NULL, &fixture_err, NULL);
}

static void test_refused(world *w) {
  char path[PATH_MAX + 40];
  mkdir(at("foreign"), 0700);
  snprintf(path, sizeof path, "%s/a file", at("foreign"));
  close(open(path, O_CREAT | O_WRONLY, 0600));
  FAILS(STRATAKV_CANTOPEN, backup_at(w, NULL, at("foreign")));
  remove(path);
  CHECK(rmdir(at("foreign")) == 0); /* LOCK was not made in it */
  FAILS(STRATAKV_CANTOPEN, backup_at(w, NULL, at("store")));
  FAILS(STRATAKV_CANTOPEN, backup_at(w, NULL, at("store/inside")));
  CHECK(!is_there(at("store/inside")));
  FAILS(STRATAKV_CANTOPEN, backup_at(w, NULL, at("no/such")));
  FAILS(STRATAKV_AUTH, backup_at(w, base, "../elsewhere"));
  FAILS(STRATAKV_ERROR, backup_at(w, NULL, ""));
  FAILS(STRATAKV_MISUSE,
        stratakv_backup(NULL, NULL, at("x"), NULL, &fixture_err, NULL));
  symlink(base, at("symlink"));
  FAILS(STRATAKV_AUTH, backup_at(w, base, "symlink/elsewhere"));
  mkdir(at("empty"), 0700);
  OK(backup_at(w, base, "empty"));
  world_compare(w, skv_env_posix(), at("empty"));
  OK(backup_at(w, base, "beneath"));
  world_compare(w, skv_env_posix(), at("beneath"));
}

/* Read-only beside a writer, and alone in a private replay. */
static void test_read_only(world *w) {
  stratakv_options options = fixture_options();
  options.create = 0;
  options.read_only = 1;
  world reader = *w;
  OK(skv_open_in(skv_env_posix(), at("store"), &options, &fixture_err,
                 &reader.store));
  OK(world_backup(&reader, at("by_reader"), NULL, NULL));
  OK(stratakv_close(reader.store, &fixture_err));
  world_compare(w, skv_env_posix(), at("by_reader"));
  OK(stratakv_close(w->store, &fixture_err));
  OK(skv_open_in(skv_env_posix(), at("store"), &options, &fixture_err,
                 &reader.store));
  CHECK(reader.store->db->is_private);
  OK(world_backup(&reader, at("by_private"), NULL, NULL));
  world_compare(&reader, skv_env_posix(), at("by_private"));
  OK(stratakv_close(reader.store, &fixture_err));
}

static void test_posix(void) {
  world w = {.rng = {5}};
  world_open(&w, skv_env_posix(), at("store"));
  for (int i = 0; i < 2000; i++) world_step(&w);
  world_ingest(&w);
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 100; j++) world_put(&w);
    OK(stratakv_flush(w.store, &fixture_err));
  }
  for (int i = 0; i < 100; i++) world_put(&w);
  test_links(&w);
  test_refused(&w);
  test_read_only(&w);
  /* :memory: goes to the real file system. */
  world memory = {.rng = {6}};
  world_open(&memory, skv_env_posix(), ":memory:");
  for (int i = 0; i < 500; i++) world_step(&memory);
  OK(world_backup(&memory, at("from_memory"), NULL, NULL));
  world_compare(&memory, skv_env_posix(), at("from_memory"));
  OK(stratakv_close(memory.store, &fixture_err));
}

/* ---- 3: failures --------------------------------------------------------- */

/* Whether a store is at /copy; then it must be the whole one. */
static bool copy_is_store(const world *w, skv_env *env) {
  stratakv_options options = fixture_options();
  stratakv_store *copy = NULL;
  skv_env *other = skv_env_mem_process(env);
  options.create = 0;
  int rc = skv_open_in(other, "/copy", &options, &fixture_err, &copy);
  CHECK(rc == STRATAKV_OK || rc == STRATAKV_CANTOPEN || rc == STRATAKV_CORRUPT);
  if (rc == STRATAKV_OK) {
    OK(stratakv_close(copy, &fixture_err));
    world_compare(w, other, "/copy");
  }
  skv_env_mem_free(other);
  return rc == STRATAKV_OK;
}

static bool dir_is_there(skv_env *env, const char *path) {
  skv_dir *dir = NULL;
  bool there = env->dir_open(env, NULL, path, 0, NULL, &dir) == STRATAKV_OK;
  env->dir_close(dir);
  return there;
}

static void remove_copy(skv_env *env) {
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  skv_mutex_lock(&fs->mutex);
  skv_mem_name *copy = skv_mem_find_name(fs, fs->root, "copy");
  for (skv_mem_name *n = fs->names, *next; n != NULL && copy; n = next) {
    next = n->next;
    if (n->dir == copy->node) skv_mem_name_free(fs, n);
  }
  if (copy) skv_mem_name_free(fs, copy);
  skv_mutex_unlock(&fs->mutex);
}

static uint64_t faults_fired;

static void test_faults(const char *operation, int code, bool is_forever,
                        bool is_partial, bool no_links) {
  skv_env *env = skv_env_mem_new();
  skv_mem_env_of(env)->fs->no_links = no_links;
  skv_env *fault = skv_env_fault_new(env);
  world w = {.rng = {9}};
  world_open(&w, fault, FIXTURE_PATH);
  for (int i = 0; i < 300; i++) world_step(&w);
  world_ingest(&w);
  for (int i = 0; i < 50; i++) world_put(&w);
  for (uint64_t n = 1; check_failures == 0; n++) {
    skv_fault f = {.operation = operation,
                   .nth = n,
                   .code = code,
                   .is_forever = is_forever,
                   .is_partial = is_partial};
    skv_env_fault_set(fault, &f);
    int rc = world_backup(&w, "/copy", NULL, NULL);
    bool fired = skv_env_fault_fired(fault) > 0;
    skv_env_fault_set(fault, NULL);
    faults_fired += fired;
    if (rc == STRATAKV_OK) CHECK(copy_is_store(&w, env));
    if (rc != STRATAKV_OK) {
      CHECK(fired && fixture_err.message[0] != 0);
      if (code != 0) CHECK(rc == code);
      CHECK(!copy_is_store(&w, env) || is_forever);
      if (!is_forever) CHECK(!dir_is_there(env, "/copy"));
    }
    remove_copy(env);
    if (!fired) break;
  }
  sound(w.store); /* it saw nothing of it */
  OK(stratakv_close(w.store, &fixture_err));
  skv_env_fault_free(fault);
  skv_env_mem_free(env);
}

/* The new directory is found by another process before it is claimed. */
static void make_store(void *arg, const char *operation, skv_file *file,
                       bool fires) {
  world *other = arg;
  SKV_UNUSED(file);
  SKV_UNUSED(fires);
  if (other->store == NULL && strcmp(operation, "dir_list") == 0)
    world_open(other, other->env, "/copy");
}

static void test_found(void) {
  skv_env *env = skv_env_mem_new();
  skv_env *fault = skv_env_fault_new(env);
  world w = {.rng = {4}}, other = {.rng = {5}};
  other.env = skv_env_mem_process(env);
  world_open(&w, fault, FIXTURE_PATH);
  skv_env_fault_set(fault, NULL);
  skv_env_fault_watch(fault, make_store, &other);
  FAILS(STRATAKV_CANTOPEN, world_backup(&w, "/copy", NULL, NULL));
  skv_env_fault_watch(fault, NULL, NULL);
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  skv_mutex_lock(&fs->mutex);
  const skv_mem_node *dir = skv_mem_find(fs, fs->root, "copy");
  CHECK(dir != NULL && skv_mem_find(fs, dir, "LOCK") != NULL);
  skv_mutex_unlock(&fs->mutex);
  OK(stratakv_close(other.store, &fixture_err));
  OK(stratakv_close(w.store, &fixture_err));
  skv_env_mem_free(other.env);
  skv_env_fault_free(fault);
  skv_env_mem_free(env);
}

/* Crash images of a backup that is taken back. */
static struct undo {
  skv_env *fault;
  world *w;
  unsigned with_current, without;
} undo;

static bool image_has(const fixture_image *image, const char *dir,
                      const char *name) {
  for (size_t i = 0; i < image->count; i++)
    if (strcmp(image->files[i].dir, dir) == 0 &&
        strcmp(image->files[i].name, name) == 0)
      return true;
  return false;
}

/* What has CURRENT is a store, and whole. */
static void undo_event(recording *r) {
  if (skv_env_fault_fired(undo.fault) == 0) return;
  crash c = crash_begin(r, &undo.w->rng);
  for (size_t n = 0; n < crash_numbers(&c, 0); n++) {
    crash_choose(&c, n);
    fixture_image image = crash_image(&c);
    bool is_store = image_has(&image, "/copy", "CURRENT");
    undo.with_current += is_store;
    undo.without += !is_store;
    skv_env *env = fixture_world(&image);
    CHECK(copy_is_store(undo.w, env) == is_store);
    skv_env_mem_free(env);
    fixture_clear(&image);
  }
  crash_end(&c);
}

static void test_undo(void) {
  skv_env *env = skv_env_mem_new();
  skv_env *fault = skv_env_fault_new(env);
  recording *r = record_begin(env, NULL);
  world w = {.rng = {6}};
  bool fired = true;
  undo = (struct undo){.fault = fault, .w = &w};
  world_open(&w, fault, FIXTURE_PATH);
  for (int i = 0; i < 100; i++) world_put(&w);
  OK(stratakv_flush(w.store, &fixture_err));
  for (int i = 0; i < 20; i++) world_put(&w);
  r->event = undo_event;
  for (uint64_t n = 1; fired && check_failures == 0; n++) {
    skv_fault f = {.operation = "dir_sync", .nth = n};
    skv_env_fault_set(fault, &f);
    int rc = world_backup(&w, "/copy", NULL, NULL);
    fired = skv_env_fault_fired(fault) > 0;
    skv_env_fault_set(fault, NULL);
    CHECK(rc == (fired ? STRATAKV_IOERR_FSYNC : STRATAKV_OK));
  }
  r->event = NULL;
  CHECK(undo.with_current > 0 && undo.without > 0);
  OK(stratakv_close(w.store, &fixture_err));
  skv_env_fault_free(fault);
  skv_env_mem_free(env);
  record_free(r);
}

/* ---- 4: cancelled -------------------------------------------------------- */

static int count_down(void *arg, double done) {
  int *left = arg;
  CHECK(done >= 0 && done <= 1);
  return --*left <= 0;
}

static void test_cancel(void) {
  skv_env *env = skv_env_mem_new();
  world w = {.rng = {3}};
  world_open(&w, env, FIXTURE_PATH);
  for (int i = 0; i < 1000; i++) world_step(&w);
  int rc = STRATAKV_INTERRUPT;
  unsigned rounds = 0;
  for (int n = 1; rc == STRATAKV_INTERRUPT && n < 100; n++) {
    int left = n;
    stratakv_watch watch = {.progress = count_down, .arg = &left};
    rc = world_backup(&w, "/copy", &watch, NULL);
    if (rc == STRATAKV_INTERRUPT) {
      CHECK(!dir_is_there(env, "/copy"));
      rounds++;
    }
  }
  CHECK(rc == STRATAKV_OK && rounds >= 1);
  world_compare(&w, env, "/copy");
  OK(stratakv_close(w.store, &fixture_err));
  skv_env_mem_free(env);
}

/* ---- 5: killed ----------------------------------------------------------- */

static const char *const points[] = {"backup.claimed", "backup.linked",
                                     "backup.flushed", "target.logged",
                                     "target.named",   "target.done"};

static const char *kill_point;
static int kill_left;

static void kill_hook(void *arg, const char *name) {
  SKV_UNUSED(arg);
  if (strcmp(name, kill_point) == 0 && --kill_left == 0) raise(SIGKILL);
}

static void test_kill(void) {
  unsigned killed = 0;
  world w = {.rng = {8}};
  world_open(&w, skv_env_posix(), at("kill"));
  for (int i = 0; i < 600; i++) world_put(&w);
  OK(stratakv_flush(w.store, &fixture_err));
  for (int i = 0; i < 100; i++) world_put(&w);
  OK(stratakv_close(w.store, &fixture_err));
  for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      kill_point = points[i];
      kill_left = 1;
      skv_point_set(kill_hook, NULL);
      world_open(&w, skv_env_posix(), at("kill"));
      world_backup(&w, at("kill_copy"), NULL, NULL);
      _exit(3);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status));
    killed += WIFSIGNALED(status) != 0;
    stratakv_options options = fixture_options();
    stratakv_store *copy = NULL;
    world_open(&w, skv_env_posix(), at("kill"));
    options.create = 0;
    int rc = skv_open_in(skv_env_posix(), at("kill_copy"), &options,
                         &fixture_err, &copy);
    CHECK((rc == STRATAKV_OK) == (strcmp(points[i], "target.done") == 0));
    if (rc == STRATAKV_OK) {
      OK(stratakv_close(copy, &fixture_err));
      world_compare(&w, skv_env_posix(), at("kill_copy"));
    }
    OK(stratakv_close(w.store, &fixture_err));
    files_remove(at("kill_copy"));
  }
  CHECK(killed == sizeof points / sizeof points[0]);
}

/* ---- 6: while others write ----------------------------------------------- */

#define WRITERS 5 /* the last two in another process */
#define WRITES 20000
#define KEYS 2000

static struct ledger {
  _Atomic uint32_t done[WRITERS]; /* writes acknowledged */
  _Atomic uint32_t failures;
  uint64_t lsn[WRITERS][WRITES]; /* of each write, 0: not yet */
} * ledger;

typedef struct writer {
  stratakv_store *store;
  uint32_t table;
  uint32_t number;
} writer;

/* Write k of a writer: that row gets value k + 1, or is deleted. */
static uint32_t row_of(uint32_t number, uint32_t k) {
  return number * KEYS + k * 7919u % KEYS;
}

static uint32_t value_at(uint32_t k) { return k % 9 == 8 ? 0 : k + 1; }

static void *write_all(void *arg) {
  writer *w = arg;
  for (uint32_t k = 0; k < WRITES; k++) {
    int rc = fixture_put(w->store, w->table, row_of(w->number, k), value_at(k),
                         &ledger->lsn[w->number][k]);
    if (rc != STRATAKV_OK) {
      printf("writer %u: %d %s\n", w->number, rc, fixture_err.message);
      atomic_fetch_add(&ledger->failures, 1);
      return NULL;
    }
    atomic_store(&ledger->done[w->number], k + 1);
  }
  return NULL;
}

static stratakv_options writing_options(void) {
  stratakv_options options = fixture_options();
  options.wal_size = 256u << 10;
  options.background = 1;
  options.busy_timeout_ms = 60000;
  options.sync = STRATAKV_SYNC_OFF;
  return options;
}

static void write_in(unsigned first, unsigned count, stratakv_store *store,
                     uint32_t table, pthread_t *threads, writer *writers) {
  for (unsigned i = 0; i < count; i++) {
    writers[i] = (writer){store, table, first + i};
    pthread_create(&threads[i], NULL, write_all, &writers[i]);
  }
}

static void write_process(void) {
  stratakv_options options = writing_options();
  stratakv_store *store = NULL;
  stratakv_table_info info;
  pthread_t threads[2];
  writer writers[2];
  if (stratakv_open(at("busy"), &options, &fixture_err, &store) != 0 ||
      stratakv_table(store, "kv", 1, 1, &fixture_err, &info) != 0)
    _exit(1);
  write_in(3, 2, store, info.id, threads, writers);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  _exit(stratakv_close(store, NULL) != STRATAKV_OK);
}

static bool all_written(void) {
  bool all = true;
  for (int i = 0; i < WRITERS; i++)
    all &= atomic_load(&ledger->done[i]) == WRITES;
  return all || atomic_load(&ledger->failures) > 0;
}

/* What the rows must be: the last write of each below the LSN. */
static void compare_prefix(const char *path, uint64_t lsn) {
  static uint32_t want[WRITERS * KEYS], have[WRITERS * KEYS];
  memset(want, 0, sizeof want);
  for (uint32_t i = 0; i < WRITERS; i++)
    for (uint32_t k = 0; k < WRITES; k++)
      if (ledger->lsn[i][k] != 0 && ledger->lsn[i][k] < lsn)
        want[row_of(i, k)] = value_at(k);
  stratakv_options options = fixture_options();
  stratakv_store *copy = NULL;
  stratakv_table_info info;
  if (!OK(stratakv_open(path, &options, &fixture_err, &copy))) return;
  sound(copy);
  OK(stratakv_table(copy, "kv", 0, 0, &fixture_err, &info));
  OK(fixture_scan(copy, info.id, have, WRITERS * KEYS));
  CHECK(memcmp(want, have, sizeof want) == 0);
  OK(stratakv_close(copy, &fixture_err));
}

static void test_writing(void) {
  enum { MOST = 12 };
  uint64_t lsns[MOST];
  unsigned count = 0;
  pthread_t threads[3];
  writer writers[3];
  pid_t pid = fork();
  if (pid == 0) write_process();
  stratakv_options options = writing_options();
  stratakv_store *store = NULL;
  stratakv_table_info info;
  OK(stratakv_open(at("busy"), &options, &fixture_err, &store));
  OK(stratakv_table(store, "kv", 1, 1, &fixture_err, &info));
  write_in(0, 3, store, info.id, threads, writers);
  char path[PATH_MAX + 40];
  while (count < MOST && !all_written()) {
    snprintf(path, sizeof path, "%s.copy%u", at("busy"), count);
    if (!OK(stratakv_backup(store, NULL, path, NULL, &fixture_err,
                            &lsns[count])))
      break;
    count++;
    usleep(50000);
  }
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  int status = 1;
  waitpid(pid, &status, 0);
  CHECK(status == 0 && atomic_load(&ledger->failures) == 0 && all_written());
  CHECK(count >= 2);
  for (unsigned i = 0; i < count; i++) {
    snprintf(path, sizeof path, "%s.copy%u", at("busy"), i);
    compare_prefix(path, lsns[i]);
    files_remove(path);
  }
  sound(store);
  OK(stratakv_close(store, &fixture_err));
  backups_made += count;
  harness_count("backup-concurrent-writes", (uint64_t)WRITERS * WRITES);
}

int main(int argc, char **argv) {
  char made[4000] = "build/tmp/backup_test.XXXXXX";
  files_begin();
  if (mkdtemp(made) == NULL || realpath(made, base) == NULL) {
    perror(made);
    return 1;
  }
  ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  harness_begin(argc, argv);
  for (uint64_t n; harness_next(40, &n);) test_shapes(n);
  if (harness.only == 0 && harness.soak_s == 0) {
    test_writing();
    test_posix();
    test_faults("*", 0, false, false, false);
    test_faults("*", 0, false, false, true);
    test_faults("*", STRATAKV_NOMEM, false, false, false);
    test_faults("file_write", STRATAKV_FULL, false, true, true);
    test_faults("*", 0, true, false, true);
    test_found();
    test_undo();
    test_cancel();
    test_kill();
    harness_count("backup-faults", faults_fired);
  }
  if (harness.only == 0) harness_count("backups", backups_made);
  files_remove(base);
  return check_end();
}
