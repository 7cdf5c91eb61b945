/*
 * Outcomes behind a PREPARE or INGEST when calls fail: what was acknowledged
 * is read at once, by everybody, and for ever; what was undone stays undone;
 * and a call that cannot know says so.
 *
 *   1  a large commit whose segments cannot be named: OK, and at once read by
 *      this process, by another one, by a newcomer, by check, backup and a
 *      reader of the files that a death leaves; the next who writes names them;
 *      if its segments are lost after that, opening says so, and so does
 *      reading in a process that has not opened them yet
 *   2  the same with a failed sync: read by the same, until every process has
 *      closed and the next open names them
 *   3  its creator closes, and another process collects garbage
 *   4  a rollback whose ABORT cannot be synced: undone all the same
 *   5  one of which nothing can be made durable: IOERR_FSYNC from the call and
 *      from whatever else is tried with the transaction; then all or nothing
 *   6  no snapshot that reaches behind an INGEST is without its rows
 *
 * Covers: INV-1, INV-3, INV-10, P4, P12
 */
#include "engine/db/txn.h"
#include "engine/os/env_fault.h"
#include "engine/util/point.h"
#include "test/c/db_fixture.h"

#define KEYS 120
#define LARGE 250 /* changes of a transaction that does not fit the log */

static skv_env *mem, *env, *other_env; /* two processes; env fails */
static stratakv_store *store, *other;
static uint32_t table;
static stratakv_options options;
static uint32_t rows[KEYS]; /* the model */
static unsigned lost_checked;

static stratakv_store *open_in(skv_env *in) {
  stratakv_store *opened = NULL;
  stratakv_table_info info = {0};
  OK(skv_open_in(in, FIXTURE_PATH, &options, &fixture_err, &opened));
  if (opened != NULL)
    OK(stratakv_table(opened, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &info));
  table = info.id;
  return opened;
}

static void begin(void) {
  options = fixture_options();
  memset(rows, 0, sizeof rows);
  mem = fixture_world(&(fixture_image){0});
  env = skv_env_fault_new(mem);
  other_env = skv_env_mem_process(mem);
  store = open_in(env);
  other = open_in(other_env);
  for (uint32_t i = 0; i < 30; i++) {
    rows[i] = i + 1;
    OK(fixture_put(store, table, i, rows[i], NULL));
  }
}

static void close_all(void) {
  OK(stratakv_close(store, &fixture_err));
  OK(stratakv_close(other, &fixture_err));
  store = other = NULL;
}

static void end(void) {
  close_all();
  CHECK(skv_mem_env_of(mem)->handles == NULL);
  skv_env_mem_free(other_env);
  skv_env_fault_free(env);
  skv_env_mem_free(mem);
  check_where = "";
}

static void check_rows(stratakv_store *of) {
  uint32_t seen[KEYS];
  if (OK(fixture_scan(of, table, seen, KEYS)))
    CHECK(memcmp(seen, rows, sizeof rows) == 0);
  for (uint32_t i = 0; i < KEYS; i += 7) {
    stratakv_value value = {0};
    char key[32];
    int rc = stratakv_get(of, NULL, table, key, fixture_key(i, key),
                          &fixture_err, &value);
    FAILS(rows[i] != 0 ? STRATAKV_OK : STRATAKV_NOTFOUND, rc);
    if (rows[i] != 0) CHECK(fixture_number(value.data, value.size) == rows[i]);
    stratakv_value_clear(&value);
  }
}

static void check_opened(skv_env *in, bool read_only) {
  options.read_only = read_only;
  options.create = !read_only;
  stratakv_store *opened = open_in(in);
  options.read_only = 0;
  options.create = 1;
  if (opened == NULL) return;
  check_rows(opened);
  OK(stratakv_check(opened, NULL, &fixture_err));
  OK(stratakv_close(opened, &fixture_err));
}

/* The files that a death at this moment leaves, read and then recovered. */
static void check_dead(bool same_boot) {
  fixture_image image = fixture_take(mem);
  skv_env *world = fixture_world(&image);
  if (same_boot) fixture_same_boot(world);
  check_opened(world, true);
  check_opened(world, false);
  skv_env_mem_free(world);
  fixture_clear(&image);
}

static stratakv_txn *large_txn(uint32_t changes) {
  stratakv_txn *txn = NULL;
  OK(stratakv_begin(store, &fixture_err, &txn));
  for (uint32_t n = 0; n < changes; n++)
    OK(fixture_txn_put(txn, table, n * 37 % KEYS, 1000 + n));
  return txn;
}

static void large_rows(uint32_t changes) {
  for (uint32_t n = 0; n < changes; n++) rows[n * 37 % KEYS] = 1000 + n;
}

/* Whether nothing but the log says what was committed. */
static bool is_unnamed(void) {
  return skv_load(&store->db->shared->ingest) != 0 &&
         skv_load(&store->db->shared->owner) != 0;
}

/* Everybody reads it. */
static void check_all(void) {
  check_rows(store);
  check_rows(other);
  stratakv_store *late = open_in(other_env);
  check_rows(late);
  OK(stratakv_close(late, &fixture_err));
  OK(stratakv_check(store, NULL, &fixture_err));
  OK(stratakv_check(other, NULL, &fixture_err));
  check_dead(true);
  check_dead(false);
}

static void check_backup(void) {
  stratakv_store *copy = NULL;
  OK(stratakv_backup(other, NULL, "/copy", NULL, &fixture_err, NULL));
  OK(skv_open_in(other_env, "/copy", &options, &fixture_err, &copy));
  if (copy == NULL) return;
  check_rows(copy);
  OK(stratakv_check(copy, NULL, &fixture_err));
  OK(stratakv_close(copy, &fixture_err));
}

/* ---- 1 to 3 ------------------------------------------------------------ */

/* A large commit, with calls failing once it is prepared. */
static void commit_with(const skv_fault *fault) {
  stratakv_txn *txn = large_txn(LARGE);
  OK(stratakv_prepare(txn, &fixture_err));
  skv_env_fault_set(env, fault);
  uint64_t lsn = 0;
  OK(stratakv_commit(txn, &fixture_err, &lsn));
  CHECK(lsn > 0 && skv_env_fault_fired(env) > 0);
  large_rows(LARGE);
  CHECK(is_unnamed());
}

static bool is_unnamed_segment(const fixture_file *file) {
  return skv_name_parse(file->name).kind == SKV_NAME_TMP &&
         file->size < options.wal_size;
}

/* A segment is lost while nobody has the store open: told by who knows that it
 * was there. */
static void check_lost(void) {
  fixture_image image = fixture_take(mem), less = {0};
  unsigned dropped = 0;
  for (size_t i = 0; i < image.count; i++) {
    const fixture_file *file = &image.files[i];
    bool is_lost = is_unnamed_segment(file);
    dropped += is_lost;
    if (!is_lost) fixture_add(&less, file->name, file->bytes, file->size);
  }
  for (int read_only = 0; dropped > 0 && read_only < 2; read_only++) {
    skv_env *world = fixture_world(&less);
    stratakv_store *opened = NULL;
    fixture_same_boot(world);
    options.read_only = read_only;
    options.create = !read_only;
    FAILS(STRATAKV_CORRUPT,
          skv_open_in(world, FIXTURE_PATH, &options, &fixture_err, &opened));
    CHECK(strstr(fixture_err.message, "INGEST at LSN") != NULL);
    (void)stratakv_close(opened, NULL);
    skv_env_mem_free(world);
  }
  options.read_only = 0;
  options.create = 1;
  lost_checked += dropped > 0;
  fixture_clear(&less);
  fixture_clear(&image);
}

/* Under whichever name: the store has no others. */
static bool is_segment(const fixture_file *file) {
  return is_unnamed_segment(file) ||
         skv_name_parse(file->name).kind == SKV_NAME_SEG;
}

/* A segment is lost before another process has looked at it. */
static void test_lost_open(void) {
  skv_fault fault = {.operation = "file_write",
                     .file = "*.manifest",
                     .nth = 1,
                     .is_forever = true,
                     .code = STRATAKV_IOERR};
  uint32_t seen[KEYS];
  begin();
  commit_with(&fault);
  check_rows(store);
  fixture_image image = fixture_take(mem);
  skv_dir *dir = skv_store_dir(other->db->store);
  unsigned removed = 0;
  for (size_t i = 0; i < image.count; i++)
    if (is_segment(&image.files[i])) {
      OK(other_env->dir_unlink(dir, image.files[i].name, &fixture_err));
      removed++;
    }
  CHECK(removed > 0);
  FAILS(STRATAKV_CORRUPT, fixture_scan(other, table, seen, KEYS));
  CHECK(strstr(fixture_err.message, "INGEST at LSN") != NULL);
  check_rows(store);
  for (size_t i = 0; i < image.count; i++)
    if (is_segment(&image.files[i])) fixture_put_file(dir, &image.files[i]);
  fixture_clear(&image);
  check_rows(other);
  skv_env_fault_set(env, NULL);
  OK(fixture_put(other, table, 1, rows[1] = 77, NULL));
  check_rows(store);
  end();
}

static void test_unnamed(const char *operation, const char *file,
                         bool is_forever) {
  skv_fault fault = {.operation = operation,
                     .file = file,
                     .nth = 1,
                     .is_forever = is_forever,
                     .code = STRATAKV_IOERR};
  check_where = file;
  begin();
  commit_with(&fault);
  check_all();
  check_backup();
  skv_env_fault_set(env, NULL);
  check_lost();
  check_all();
  rows[5] = 5;
  OK(fixture_put(other, table, 5, 5, NULL)); /* names them */
  CHECK(skv_ingest_unnamed(other->db, other->db->state) == 0);
  check_all();
  OK(stratakv_flush(store, &fixture_err));
  OK(stratakv_compact(store, NULL, NULL, &fixture_err));
  check_all();
  end();
}

static void test_fenced(const char *operation, const char *file) {
  skv_fault fault = {.operation = operation,
                     .file = file,
                     .nth = 1,
                     .is_forever = true,
                     .code = STRATAKV_IOERR_FSYNC};
  check_where = file;
  begin();
  commit_with(&fault);
  FAILS(STRATAKV_READONLY, fixture_put(store, table, 5, 5, NULL));
  FAILS(STRATAKV_READONLY, fixture_put(other, table, 5, 5, NULL));
  check_all();
  check_backup();
  (void)stratakv_close(store, NULL);
  skv_env_fault_set(env, NULL);
  store = open_in(env);
  check_all();
  close_all();
  store = open_in(env); /* recovers */
  other = open_in(other_env);
  check_all();
  rows[5] = 5;
  OK(fixture_put(other, table, 5, 5, NULL));
  check_all();
  end();
}

/* Before the log was sealed, and when the segments have their names. */
static void test_garbage(const char *operation, const char *file) {
  skv_fault fault = {.operation = operation,
                     .file = file,
                     .nth = 1,
                     .is_forever = true,
                     .code = STRATAKV_IOERR};
  check_where = operation;
  begin();
  commit_with(&fault);
  (void)stratakv_close(store, NULL);
  skv_env_fault_set(env, NULL);
  check_rows(other);
  OK(skv_gc(other->db, &fixture_err));
  check_rows(other);
  store = open_in(env);
  check_all();
  rows[7] = 7;
  OK(fixture_put(other, table, 7, 7, NULL));
  OK(skv_gc(other->db, &fixture_err));
  check_all();
  end();
}

/* ---- 4, 5 -------------------------------------------------------------- */

static void test_undone(uint32_t changes) {
  skv_fault fault = {.operation = "file_sync", .file = "*.wal", .nth = 1};
  fault.is_forever = fault.is_lying = true;
  check_where = changes == LARGE ? "INGEST undone" : "PREPARE undone";
  begin();
  stratakv_txn *txn = large_txn(changes);
  OK(stratakv_prepare(txn, &fixture_err));
  uint64_t at = txn->prepared_lsn;
  uint64_t offset = skv_wal_offset(store->db->active->start, at);
  skv_env_fault_set(env, &fault);
  OK(stratakv_rollback(txn));
  CHECK(skv_env_fault_fired(env) > 0);
  FAILS(STRATAKV_READONLY, fixture_put(other, table, 5, 5, NULL));
  check_rows(store);
  check_rows(other);
  /* The disk lost the ABORT and kept the PREPARE. */
  fixture_image image = fixture_take(mem);
  char name[SKV_NAME_SIZE];
  skv_name wal = {SKV_NAME_WAL, store->db->active->number, 0, 0};
  skv_name_format(&wal, name);
  uint8_t *record = fixture_find(&image, name)->bytes + offset;
  uint64_t length = skv_get32(record + 20);
  memset(record + ((length + 7) & ~UINT64_C(7)), 0, SKV_LOG_RESERVE);
  for (int same_boot = 0; same_boot < 2; same_boot++) {
    skv_env *world = fixture_world(&image);
    if (same_boot) fixture_same_boot(world);
    check_opened(world, true);
    check_opened(world, false);
    check_opened(world, false);
    skv_env_mem_free(world);
  }
  fixture_clear(&image);
  skv_env_fault_set(env, NULL);
  end();
}

static void test_unknown(uint32_t changes, bool by_put) {
  skv_fault fault = {
      .operation = "file_sync", .file = "*", .nth = 1, .is_forever = true};
  uint32_t seen[KEYS];
  check_where = changes == LARGE ? "INGEST unknown" : "PREPARE unknown";
  begin();
  stratakv_txn *txn = large_txn(changes);
  OK(stratakv_prepare(txn, &fixture_err));
  skv_env_fault_set(env, &fault);
  if (by_put) {
    FAILS(STRATAKV_IOERR_FSYNC, fixture_txn_put(txn, table, 1, 2));
    FAILS(STRATAKV_IOERR_FSYNC, stratakv_prepare(txn, &fixture_err));
    FAILS(STRATAKV_IOERR_FSYNC, fixture_txn_put(txn, table, 1, 2));
    FAILS(STRATAKV_IOERR_FSYNC, stratakv_commit(txn, &fixture_err, NULL));
  } else {
    FAILS(STRATAKV_IOERR_FSYNC, stratakv_rollback(txn));
  }
  FAILS(STRATAKV_READONLY, fixture_put(other, table, 5, 5, NULL));
  check_rows(store);
  check_rows(other);
  skv_env_fault_set(env, NULL);
  close_all();
  store = open_in(env);
  if (OK(fixture_scan(store, table, seen, KEYS)) &&
      memcmp(seen, rows, sizeof rows) != 0) {
    large_rows(changes);
    CHECK(memcmp(seen, rows, sizeof rows) == 0);
  }
  other = open_in(other_env);
  rows[5] = 5;
  OK(fixture_put(other, table, 5, 5, NULL));
  check_rows(store);
  end();
}

/* Nothing before the PREPARE was synced: where the log ends cannot be said. */
static void test_not_durable(void) {
  skv_fault fault = {
      .operation = "file_sync", .file = "*.wal", .nth = 1, .is_forever = true};
  check_where = "sync=off";
  begin();
  stratakv_set_sync(store, STRATAKV_SYNC_OFF);
  rows[3] = 9;
  OK(fixture_put(store, table, 3, 9, NULL));
  stratakv_txn *txn = large_txn(20);
  OK(stratakv_prepare(txn, &fixture_err));
  skv_env_fault_set(env, &fault);
  FAILS(STRATAKV_IOERR_FSYNC, stratakv_rollback(txn));
  check_rows(store);
  check_rows(other);
  skv_env_fault_set(env, NULL);
  end();
}

/* ---- 6 ----------------------------------------------------------------- */

static uint64_t ingest_lsn;
static unsigned looks;

/* Another process looks, between any two steps. */
static void look(void *arg, const char *name) {
  SKV_UNUSED(arg);
  SKV_UNUSED(name);
  stratakv_value value = {0};
  char key[32];
  skv_view view;
  skv_point_set(NULL, NULL);
  if (OK(skv_view_take(other->db, &fixture_err, &view))) {
    bool reaches = view.lsn > ingest_lsn;
    skv_view_release(&view);
    OK(stratakv_get(other, NULL, table, key, fixture_key(0, key), &fixture_err,
                    &value));
    CHECK((fixture_number(value.data, value.size) != 1) == reaches);
    stratakv_value_clear(&value);
  }
  looks++;
  skv_point_set(look, NULL);
}

static void test_leaving(void) {
  skv_fault fault = {.operation = "dir_rename", .file = "*", .nth = 1};
  check_where = "a look between two steps";
  fault.is_forever = true;
  begin();
  stratakv_txn *txn = large_txn(LARGE);
  OK(stratakv_prepare(txn, &fixture_err));
  ingest_lsn = txn->prepared_lsn;
  skv_env_fault_set(env, &fault);
  skv_point_set(look, NULL);
  OK(stratakv_commit(txn, &fixture_err, NULL));
  skv_point_set(NULL, NULL);
  large_rows(LARGE);
  CHECK(is_unnamed() && looks > 0);
  check_rows(other);
  skv_env_fault_set(env, NULL);
  end();
}

int main(void) {
  test_unnamed("file_write", "*.manifest", true);
  test_unnamed("dir_rename", "*", true);
  test_unnamed("file_open", "*.seg", false);
  test_fenced("file_sync", "*.manifest");
  test_fenced("file_sync", "*.wal");
  test_fenced("dir_sync", "*");
  test_garbage("file_write", "*.wal");
  test_garbage("dir_sync", "*");
  test_undone(20);
  test_undone(LARGE);
  for (int by_put = 0; by_put < 2; by_put++) {
    test_unknown(20, by_put);
    test_unknown(LARGE, by_put);
  }
  test_not_durable();
  test_leaving();
  test_lost_open();
  CHECK(lost_checked > 0);
  return check_end();
}
