/*
 * A process's limits, in the real environment: an error with a stable code,
 * nothing lost, and all goes on when the limit is lifted.
 *
 *   1  RLIMIT_FSIZE below the size of a log: FULL, and no SIGXFSZ
 *   2  RLIMIT_NOFILE: too few descriptors for each operation in turn
 *   3  RLIMIT_AS: no address space for mappings or memory (not under a
 *      sanitizer, which needs terabytes)
 *   4  more segments than descriptors: they are mapped and need none; than
 *      mappings (vm.max_map_count): they are read and need descriptors; than
 *      both together: CANTOPEN
 *
 * Wraps: mmap
 *
 * Covers: INV-10, P18
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "test/c/db_fixture.h"
#include "test/c/real_dir.h"

#define KEYS 3000

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

/* ---- Limits ------------------------------------------------------------ */

static long maps_left = -1; /* mmaps of segments that succeed; -1: all */
static bool no_maps;        /* those of logs and SHARED fail, too */

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd,
                  off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd,
                  off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd,
                  off_t offset) {
  bool is_segment = fd >= 0 && (protection & PROT_WRITE) == 0;
  if ((is_segment && maps_left == 0) || (fd >= 0 && no_maps)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  if (is_segment && maps_left > 0) maps_left--;
  return __real_mmap(at, size, protection, flags, fd, offset);
}

static struct rlimit limit_old;

static void limit_set(int resource, rlim_t value) {
  CHECK(getrlimit(resource, &limit_old) == 0);
  struct rlimit low = limit_old;
  low.rlim_cur = value;
  CHECK(setrlimit(resource, &low) == 0);
}

static void limit_lift(int resource) {
  CHECK(setrlimit(resource, &limit_old) == 0);
}

/* `more` descriptors beyond those that are open: main has closed all others,
 * so that they are the lowest. */
static void limit_files(unsigned more) {
  int next = dup(2);
  close(next);
  limit_set(RLIMIT_NOFILE, (rlim_t)next + more);
}

static rlim_t address_space(void) {
  unsigned long pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (f != NULL && fscanf(f, "%lu", &pages) != 1) pages = 0;
  if (f != NULL) fclose(f);
  return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* ---- A store ----------------------------------------------------------- */

static stratakv_options options;
static stratakv_store *store;
static stratakv_table_info table;
static uint32_t rows[KEYS], seen[KEYS];
static uint32_t next_value;

static int try_open(void) {
  int rc = stratakv_open(real_path("store"), &options, &fixture_err, &store);
  if (rc != STRATAKV_OK) return rc;
  stratakv_set_sync(store, STRATAKV_SYNC_OFF); /* less to wait for */
  return stratakv_table(store, "kv", STRATAKV_KEY_TEXT, options.create,
                        &fixture_err, &table);
}

static int try_put(uint32_t i) {
  int rc = fixture_put(store, table.id, i, next_value + 1, NULL);
  if (rc == STRATAKV_OK) rows[i] = ++next_value;
  return rc;
}

static int try_puts(void) {
  int rc = STRATAKV_OK;
  for (uint32_t n = 0; rc == STRATAKV_OK && n < 400; n++)
    rc = try_put(n * 7 % KEYS);
  return rc;
}

static int try_scan(void) {
  int rc = fixture_scan(store, table.id, seen, KEYS);
  if (rc == STRATAKV_OK) CHECK(memcmp(seen, rows, sizeof rows) == 0);
  return rc;
}

static int try_flush(void) { return stratakv_flush(store, &fixture_err); }

static int try_compact(void) {
  return stratakv_compact(store, NULL, NULL, &fixture_err);
}

static int try_backup(void) {
  return stratakv_backup(store, NULL, real_path("copy"), NULL, &fixture_err,
                         NULL);
}

static int try_large(void) {
  stratakv_txn *txn = NULL;
  int rc = stratakv_begin(store, &fixture_err, &txn);
  for (uint32_t n = 0; rc == STRATAKV_OK && n < 300; n++)
    rc = fixture_txn_put(txn, table.id, n, next_value + 1 + n);
  if (rc == STRATAKV_OK) rc = stratakv_commit(txn, &fixture_err, NULL);
  if (rc != STRATAKV_OK) stratakv_rollback(txn);
  for (uint32_t n = 0; rc == STRATAKV_OK && n < 300; n++)
    rows[n] = ++next_value;
  return rc;
}

static void begin(const char *where) {
  check_where = where;
  options = fixture_options();
  memset(rows, 0, sizeof rows);
  next_value = 0;
  OK(try_open());
  OK(try_puts());
  OK(try_flush());
  OK(try_puts());
}

/* Nothing was lost, and everything works. */
static void check_lifted(void) {
  OK(try_scan());
  OK(try_puts());
  OK(try_large());
  OK(try_flush());
  OK(try_compact());
  OK(try_scan());
  OK(stratakv_check(store, NULL, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
  OK(try_open());
  OK(try_scan());
}

static void end(void) {
  OK(stratakv_close(store, &fixture_err));
  store = NULL;
  real_dir_remove();
  (void)mkdir(real_dir, 0777);
  check_where = "";
}

static bool is_told(int rc, int code) {
  bool fits = rc == code && fixture_err.message[0] != '\0';
  if (rc != STRATAKV_OK && !fits)
    printf("%d, not %d: %s\n", rc, code, fixture_err.message);
  return rc == STRATAKV_OK || fits;
}

/* ---- 1 ----------------------------------------------------------------- */

static void test_file_size(void) {
  signal(SIGXFSZ, SIG_DFL);
  begin("file size");
  limit_set(RLIMIT_FSIZE, 40000); /* a log has 65536 bytes */
  int put = try_puts();
  FAILS(STRATAKV_FULL, put);
  FAILS(STRATAKV_FULL, try_large());
  FAILS(STRATAKV_FULL, try_flush());
  CHECK(is_told(try_compact(), STRATAKV_FULL));
  CHECK(is_told(try_backup(), STRATAKV_FULL));
  OK(try_scan());
  limit_lift(RLIMIT_FSIZE);
  check_lifted();
  limit_set(RLIMIT_FSIZE, 40000);
  (void)stratakv_close(store, NULL);
  options.read_only = 1;
  options.create = 0;
  OK(try_open());
  OK(try_scan());
  OK(stratakv_close(store, &fixture_err));
  options = fixture_options();
  stratakv_store *other = NULL;
  FAILS(STRATAKV_FULL,
        stratakv_open(real_path("other"), &options, &fixture_err, &other));
  limit_lift(RLIMIT_FSIZE);
  OK(try_open());
  check_lifted();
  end();
}

/* ---- 2, 3 -------------------------------------------------------------- */

static const struct attempt {
  const char *name;
  int (*run)(void);
} attempts[] = {{"put", try_puts},      {"scan", try_scan},
                {"large", try_large},   {"flush", try_flush},
                {"backup", try_backup}, {"compact", try_compact}};
#define ATTEMPTS (sizeof attempts / sizeof *attempts)

/* Opening with ever more of it, until it succeeds. */
static void opened_at_last(void (*set)(unsigned), int resource, int code,
                           unsigned most) {
  OK(stratakv_close(store, &fixture_err));
  unsigned failed = 0;
  for (unsigned n = 0; n < most; n++) {
    store = NULL;
    set(n);
    int rc = try_open();
    limit_lift(resource);
    CHECK(is_told(rc, code));
    if (rc == STRATAKV_OK) break;
    failed++;
    (void)stratakv_close(store, NULL);
    store = NULL;
  }
  CHECK(failed > 0 && store != NULL);
  if (store == NULL) OK(try_open());
}

static void test_each(void (*set)(unsigned), int resource, int code,
                      unsigned most) {
  unsigned failed = 0;
  for (size_t a = 0; a < ATTEMPTS; a++) {
    check_where = attempts[a].name;
    for (unsigned n = 0; n < most; n++) {
      OK(try_puts());
      set(n);
      int rc = attempts[a].run();
      limit_lift(resource);
      CHECK(is_told(rc, code));
      failed += rc != STRATAKV_OK;
      OK(try_scan());
      if (attempts[a].run == try_backup && rc == STRATAKV_OK) break;
    }
  }
  CHECK(failed > 0);
}

static void test_descriptors(void) {
  begin("descriptors");
  opened_at_last(limit_files, RLIMIT_NOFILE, STRATAKV_CANTOPEN, 40);
  test_each(limit_files, RLIMIT_NOFILE, STRATAKV_CANTOPEN, 4);
  check_lifted();
  end();
}

static void limit_memory(unsigned more) {
  limit_set(RLIMIT_AS, address_space() + more * (rlim_t)16384);
}

static void test_address_space(void) {
  begin("address space");
  opened_at_last(limit_memory, RLIMIT_AS, STRATAKV_NOMEM, 2000);
  test_each(limit_memory, RLIMIT_AS, STRATAKV_NOMEM, 12);
  check_lifted();
  end();
}

/* ---- 4 ----------------------------------------------------------------- */

static int reopen(bool mmap, long maps, unsigned files) {
  int rc = stratakv_close(store, &fixture_err);
  CHECK(rc == STRATAKV_OK);
  options.mmap = mmap;
  store = NULL;
  maps_left = maps;
  limit_files(files);
  rc = try_open();
  if (rc == STRATAKV_OK) rc = try_scan();
  limit_lift(RLIMIT_NOFILE);
  maps_left = -1;
  no_maps = false;
  if (rc == STRATAKV_OK) return rc;
  CHECK(fixture_err.message[0] != '\0');
  (void)stratakv_close(store, NULL);
  store = NULL;
  OK(try_open());
  OK(try_scan());
  return rc;
}

static void test_many_segments(void) {
  setenv("SKV_TEST_SEGMENT_SIZE", "4096", 1);
  begin("many segments");
  for (uint32_t i = 0; i < KEYS; i++) OK(try_put(i));
  OK(try_flush());
  OK(try_compact());
  size_t count;
  skv_state *state = skv_state_ref(store->db);
  (void)skv_version_segs(state->version, &count);
  skv_state_unref(state);
  CHECK(count > 60);
  OK(reopen(true, -1, 30));
  FAILS(STRATAKV_CANTOPEN, reopen(false, -1, 30));
  CHECK(count < 900);
  OK(reopen(false, -1, 1000));
  OK(reopen(true, 20, 1000));
  FAILS(STRATAKV_CANTOPEN, reopen(true, 20, 30));
  no_maps = true;
  FAILS(STRATAKV_NOMEM, reopen(true, -1, 1000));
  options.mmap = 1;
  check_lifted();
  end();
  unsetenv("SKV_TEST_SEGMENT_SIZE");
}

int main(void) {
  real_dir_make("limits_test");
  for (int fd = 3; fd < 1024; fd++) close(fd);
  test_file_size();
  test_descriptors();
  if (!IS_SANITIZED) test_address_space();
  test_many_segments();
  real_dir_remove();
  return check_end();
}
