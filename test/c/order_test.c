/*
 * Orders that random histories meet rarely, each made to happen: at a point of
 * the engine (util/point.h), or at a call of the environment, somebody else
 * goes on.
 *
 *   1  each member of a group commit gets a result of its own, and is checked
 *      against those before it, which nobody sees yet
 *   2  so is a transaction that another thread commits in the group
 *   3  P1: a pin that is published while the log is being retired is honoured
 *   4  a head is published before its own process reads it
 *   5  a worker that is about to wait hears that the store is being closed
 *
 * Covers: INV-4, P1, P2, P6
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "engine/util/point.h"
#include "test/c/db_fixture.h"

#define KEYS 400
#define WAIT_US 20000 /* for what must not happen; then it is believed */

static skv_env *env, *second_env;
static stratakv_store *first, *second;
static uint32_t table;

static stratakv_store *open_in(skv_env *process) {
  stratakv_options options = fixture_options();
  stratakv_table_info info = {0};
  stratakv_store *store = NULL;
  options.busy_timeout_ms = 20000;
  if (!OK(skv_open_in(process, FIXTURE_PATH, &options, &fixture_err, &store)) ||
      !OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err,
                         &info)))
    exit(1);
  table = info.id;
  return store;
}

static void begin(void) {
  env = fixture_world(&(fixture_image){0});
  second_env = skv_env_mem_process(env);
  if (second_env == NULL) abort();
  first = open_in(env);
}

static void end(void) {
  skv_point_set(NULL, NULL);
  if (second != NULL) OK(stratakv_close(second, &fixture_err));
  second = NULL;
  OK(stratakv_close(first, &fixture_err));
  skv_env_mem_free(second_env);
  skv_env_mem_free(env);
}

/* The number that row i was made from; 0: it is not there. */
static uint32_t row(stratakv_store *store, uint32_t i) {
  char key[32];
  stratakv_value value = {0};
  size_t n = fixture_key(i, key);
  int rc = stratakv_get(store, NULL, table, key, n, &fixture_err, &value);
  if (rc != STRATAKV_NOTFOUND) OK(rc);
  uint32_t v = rc == STRATAKV_OK ? fixture_number(value.data, value.size) : 0;
  stratakv_value_clear(&value);
  return v;
}

/* ---- 1 ----------------------------------------------------------------- */

static stratakv_batch *batch_put(uint32_t i, uint32_t v) {
  char key[32], value[512];
  stratakv_batch *batch = stratakv_batch_new();
  size_t n = fixture_key(i, key);
  OK(stratakv_batch_put(batch, table, key, n, value, fixture_value(v, value)));
  return batch;
}

static void require(stratakv_batch *batch, uint32_t i, int condition,
                    uint64_t version) {
  char key[32];
  size_t n = fixture_key(i, key);
  OK(stratakv_batch_require(batch, table, key, n, condition, version));
}

static void test_members(void) {
  enum { COUNT = 6 };
  stratakv_batch *batches[COUNT];
  stratakv_result results[COUNT];
  static const bool refused[COUNT] = {false, true, false, true, true, false};
  begin();
  for (uint32_t i = 0; i < COUNT; i++) batches[i] = batch_put(i % 2, i + 1);
  require(batches[1], 0, STRATAKV_IF_ABSENT, 0);  /* the first put it */
  require(batches[2], 0, STRATAKV_IF_PRESENT, 0); /* the same */
  require(batches[3], 1, STRATAKV_IF_PRESENT, 0); /* the second did not */
  require(batches[4], 0, STRATAKV_IF_VERSION, 1);
  require(batches[5], 1, STRATAKV_IF_ABSENT, 0);
  OK(stratakv_write(first, batches, COUNT, &fixture_err, results));
  uint64_t last = 0;
  for (uint32_t i = 0; i < COUNT; i++) {
    CHECK(results[i].code ==
          (refused[i] ? STRATAKV_CONSTRAINT_CHECK : STRATAKV_OK));
    CHECK((results[i].lsn != 0) == !refused[i]);
    if (refused[i]) continue;
    CHECK(results[i].lsn > last);
    last = results[i].lsn;
  }
  CHECK(results[4].version == results[2].lsn);
  CHECK(results[1].version == results[0].lsn && results[3].version == 0);
  CHECK(row(first, 0) == 3 && row(first, 1) == 6);
  for (int i = 0; i < COUNT; i++) stratakv_batch_free(batches[i]);
  end();
}

/* ---- 2 ----------------------------------------------------------------- */

typedef struct member {
  pthread_t thread;
  stratakv_txn *txn;
  int rc;
} member;

static member members[2];
static bool is_joined;

static void *member_commit(void *arg) {
  member *m = arg;
  m->rc = stratakv_commit(m->txn, &fixture_err, NULL);
  if (m->rc != STRATAKV_OK) stratakv_rollback(m->txn);
  return NULL;
}

static size_t queued(void) {
  skv_mutex_lock(&first->db->commit_mutex);
  size_t n = first->db->queued;
  skv_mutex_unlock(&first->db->commit_mutex);
  return n;
}

/* The leader has WRITE, and takes the queue next: it fills. */
static void join_group(void *arg, const char *name) {
  SKV_UNUSED(arg);
  if (is_joined || strcmp(name, "write.taken") != 0) return;
  is_joined = true;
  for (int i = 0; i < 2; i++) {
    size_t before = queued();
    if (pthread_create(&members[i].thread, NULL, member_commit, &members[i]))
      abort();
    while (queued() == before) usleep(100);
  }
}

/* A transaction that read row i and writes it. */
static stratakv_txn *txn_of(uint32_t i, uint32_t v) {
  char key[32], value[512];
  stratakv_txn *txn = NULL;
  size_t n = fixture_key(i, key);
  OK(stratakv_begin(first, &fixture_err, &txn));
  OK(stratakv_txn_put(txn, table, key, n, value, fixture_value(v, value),
                      STRATAKV_SAW_PRESENT, &fixture_err));
  return txn;
}

/* The leader writes row 0; one member read it before, the other row 1. */
static void test_group(void) {
  begin();
  OK(fixture_put(first, table, 0, 1, NULL));
  OK(fixture_put(first, table, 1, 1, NULL));
  members[0].txn = txn_of(0, 2);
  members[1].txn = txn_of(1, 3);
  is_joined = false;
  skv_point_set(join_group, NULL);
  OK(fixture_put(first, table, 0, 4, NULL));
  for (int i = 0; i < 2 && CHECK(is_joined); i++)
    pthread_join(members[i].thread, NULL);
  CHECK(members[0].rc == STRATAKV_BUSY_SNAPSHOT);
  CHECK(members[1].rc == STRATAKV_OK);
  CHECK(row(first, 0) == 4 && row(first, 1) == 3);
  end();
}

/* ---- 3 ----------------------------------------------------------------- */

static uint64_t
    wanted_log;       /* its number, since the second is about to map it */
static bool is_taken; /* its file was renamed away meanwhile */
static int (*plain_rename)(skv_dir *dir, const char *from, const char *to,
                           skv_err *err);

static int note_rename(skv_dir *dir, const char *from, const char *to,
                       skv_err *err) {
  skv_name name = skv_name_parse(from);
  is_taken |= name.kind == SKV_NAME_WAL && name.number == wanted_log;
  return plain_rename(dir, from, to, err);
}

/* The active log is flushed, and a new one of its size is wanted. */
static void retire_log(void) {
  skv_db *db = first->db;
  skv_log *log = NULL;
  skv_name name;
  uint64_t size = skv_log_size(db->active->log);
  for (uint32_t i = 0; i < 20; i++)
    OK(fixture_put(first, table, i, 1000 + i, NULL));
  OK(stratakv_flush(first, &fixture_err));
  CHECK(db->state->version->retired_count > 0);
  OK(skv_log_obtain(db, size, &fixture_err, &log, &name));
  skv_log_close(log);
  skv_gc_unnamed(db, &name);
}

/* Before, the second pinned nothing: not even an older log. */
static void pinned_late(void *arg, const char *name) {
  SKV_UNUSED(arg);
  if (wanted_log != 0 || strcmp(name, "state.log_pinned") != 0) return;
  wanted_log = first->db->active->number;
  retire_log();
}

static void test_pin(void) {
  begin();
  OK(fixture_put(first, table, 0, 7, NULL));
  plain_rename = env->dir_rename;
  env->dir_rename = note_rename;
  wanted_log = first->db->active->number;
  retire_log();
  CHECK(is_taken); /* for nobody has pinned it */
  wanted_log = 0;
  is_taken = false;
  skv_point_set(pinned_late, NULL);
  second = open_in(second_env);
  skv_point_set(NULL, NULL);
  CHECK(wanted_log != 0 && !is_taken);
  CHECK(row(second, 0) == 1000 && row(second, 19) == 1019);
  end();
}

/* ---- 4 ----------------------------------------------------------------- */

static pthread_t reader;
static _Atomic int seen_here; /* -1: the reader waits */
static int seen_there;
static bool is_raised;

static void *read_here(void *arg) {
  SKV_UNUSED(arg);
  atomic_store(&seen_here, row(first, 1) != 0);
  return NULL;
}

/* Between the two steps: a reader of this process, then one of another. */
static void half_published(void *arg, const char *name) {
  SKV_UNUSED(arg);
  if (is_raised || strcmp(name, "head.raised") != 0 ||
      first->db->last_type != SKV_RECORD_SEAL)
    return;
  is_raised = true;
  if (pthread_create(&reader, NULL, read_here, NULL)) abort();
  for (int i = 0; i < 20 && atomic_load(&seen_here) < 0; i++)
    usleep(WAIT_US / 20);
  int here = atomic_load(&seen_here);
  seen_there = row(second, 1) != 0;
  CHECK(here != 1 || seen_there == 1);
}

static void test_head(void) {
  stratakv_txn *txn = NULL;
  begin();
  second = open_in(second_env);
  OK(stratakv_begin(first, &fixture_err, &txn));
  for (uint32_t i = 0; i < KEYS; i++) OK(fixture_txn_put(txn, table, i, i + 5));
  atomic_store(&seen_here, -1);
  is_raised = false;
  skv_point_set(half_published, NULL);
  OK(stratakv_commit(txn, &fixture_err, NULL));
  if (CHECK(is_raised)) pthread_join(reader, NULL);
  CHECK(row(first, 1) == 6 && row(second, 1) == 6);
  end();
}

/* ---- 5 ----------------------------------------------------------------- */

#define LONG_NS UINT64_C(900000000) /* who does not hear waits for a second */

static _Atomic int worker_stands; /* it waits next */

static void about_to_wait(void *arg, const char *name) {
  SKV_UNUSED(arg);
  if (strcmp(name, "work.waits") != 0) return;
  if (atomic_exchange(&worker_stands, 1) == 0) usleep(WAIT_US * 2);
}

/* How long closing takes. */
static uint64_t close_beside_worker(void) {
  stratakv_options options = fixture_options();
  env = fixture_world(&(fixture_image){0});
  options.background = 1;
  atomic_store(&worker_stands, 0);
  skv_point_set(about_to_wait, NULL);
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &first));
  while (atomic_load(&worker_stands) == 0) usleep(100);
  uint64_t start = skv_env_posix()->now(env);
  OK(stratakv_close(first, &fixture_err));
  uint64_t took = skv_env_posix()->now(env) - start;
  skv_point_set(NULL, NULL);
  skv_env_mem_free(env);
  return took;
}

/* The machine may be slow once. */
static void test_stop(void) {
  uint64_t took = LONG_NS;
  for (int i = 0; i < 4 && took >= LONG_NS; i++) took = close_beside_worker();
  CHECK(took < LONG_NS);
}

int main(void) {
  test_members();
  test_group();
  test_pin();
  test_head();
  test_stop();
  return check_end();
}
