/*
 * Interrupted system calls and short transfers, under the real environment.
 *
 * The program is linked with --wrap for the calls in the line below, so that
 * each of them is interrupted (EINTR) twice before it is made, and transfers a
 * few bytes at a time.
 *
 *   1  each operation of the environment gives what it gives without
 *   2  a store goes through its life, and a second handle finds its rows
 *   3  a write that transfers nothing, without an error, is FULL and no loop
 *   4  no interruption is taken for a failed sync: nothing is fenced
 *
 * Wraps: openat read pread pwrite fsync fdatasync fallocate ftruncate fcntl
 * Wraps: getrandom fstatfs fstatvfs syscall
 *
 * Covers: INV-1
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "engine/os/env_posix.h"
#include "test/c/db_fixture.h"
#include "test/c/real_dir.h"

enum {
  OPENAT,
  OPENAT2,
  READ,
  PREAD,
  PWRITE,
  FSYNC,
  FDATASYNC,
  FALLOCATE,
  FTRUNCATE,
  FCNTL,
  GETRANDOM,
  FSTATFS,
  FSTATVFS,
  CALLS
};
static const char *const call_names[CALLS] = {
    "openat",    "openat2",   "read",      "pread",     "pwrite",
    "fsync",     "fdatasync", "fallocate", "ftruncate", "fcntl",
    "getrandom", "fstatfs",   "fstatvfs"};

/* What the calls meet. */
static struct storm {
  bool interrupts;     /* two calls of three, each kind by itself */
  size_t most;         /* bytes that a transfer moves; 0: all */
  bool writes_nothing; /* pwrite gives 0 */
  bool cannot_allocate;
  unsigned calls[CALLS], interrupted[CALLS];
} storm;

static bool storm_hits(int call) {
  if (storm.calls[call]++ % 3 == 2 || !storm.interrupts) return false;
  storm.interrupted[call]++;
  errno = EINTR;
  return true;
}

static size_t storm_cut(size_t size) {
  return storm.most > 0 && size > storm.most ? storm.most : size;
}

/* ---- The calls --------------------------------------------------------- */

int __real_openat(int at, const char *path, int flags, ...);
int __wrap_openat(int at, const char *path, int flags, ...);
int __wrap_openat(int at, const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  unsigned mode = flags & O_CREAT ? va_arg(args, unsigned) : 0;
  va_end(args);
  return storm_hits(OPENAT) ? -1 : __real_openat(at, path, flags, mode);
}

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size) {
  return storm_hits(READ) ? -1 : __real_read(fd, data, size);
}

ssize_t __real_pread(int fd, void *data, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *data, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *data, size_t size, off_t at) {
  return storm_hits(PREAD) ? -1 : __real_pread(fd, data, storm_cut(size), at);
}

ssize_t __real_pwrite(int fd, const void *data, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *data, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *data, size_t size, off_t at) {
  if (storm.writes_nothing) return 0;
  return storm_hits(PWRITE) ? -1 : __real_pwrite(fd, data, storm_cut(size), at);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) { return storm_hits(FSYNC) ? -1 : __real_fsync(fd); }

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd) {
  return storm_hits(FDATASYNC) ? -1 : __real_fdatasync(fd);
}

int __real_fallocate(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size) {
  if (storm_hits(FALLOCATE)) return -1;
  if (!storm.cannot_allocate) return __real_fallocate(fd, mode, at, size);
  errno = EOPNOTSUPP;
  return -1;
}

int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size) {
  return storm_hits(FTRUNCATE) ? -1 : __real_ftruncate(fd, size);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...) {
  va_list args;
  va_start(args, command);
  void *arg = va_arg(args, void *);
  va_end(args);
  bool is_lock = command == F_OFD_SETLK; /* the others are not interrupted */
  return is_lock && storm_hits(FCNTL) ? -1 : __real_fcntl(fd, command, arg);
}

ssize_t __real_getrandom(void *data, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *data, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *data, size_t size, unsigned flags) {
  return storm_hits(GETRANDOM) ? -1
                               : __real_getrandom(data, storm_cut(size), flags);
}

int __real_fstatfs(int fd, struct statfs *out);
int __wrap_fstatfs(int fd, struct statfs *out);
int __wrap_fstatfs(int fd, struct statfs *out) {
  return storm_hits(FSTATFS) ? -1 : __real_fstatfs(fd, out);
}

int __real_fstatvfs(int fd, struct statvfs *out);
int __wrap_fstatvfs(int fd, struct statvfs *out);
int __wrap_fstatvfs(int fd, struct statvfs *out) {
  return storm_hits(FSTATVFS) ? -1 : __real_fstatvfs(fd, out);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
  long a[6];
  va_list args;
  va_start(args, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(args, long);
  va_end(args);
  if (number == SYS_openat2 && storm_hits(OPENAT2)) return -1;
  return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- 1 ----------------------------------------------------------------- */

static void storm_begin(size_t most) {
  memset(&storm, 0, sizeof storm);
  storm.interrupts = true;
  storm.most = most;
}

static void storm_end(void) {
  storm.interrupts = storm.writes_nothing = storm.cannot_allocate = false;
  storm.most = 0;
}

static bool all_are(const uint8_t *bytes, size_t size, int seed) {
  for (size_t i = 0; i < size; i++)
    if (bytes[i] != (uint8_t)(i * 7 + (size_t)seed)) return false;
  return true;
}

static void test_operations(skv_env *env, const char *base) {
  enum { SIZE = 10000 };
  static uint8_t bytes[SIZE], back[SIZE * 2];
  skv_dir *dir = NULL, *under = NULL;
  skv_file *file = NULL;
  skv_dir_info info;
  uint64_t size = 0;
  size_t got = 0;
  for (size_t i = 0; i < SIZE; i++) bytes[i] = (uint8_t)(i * 7 + 3);
  storm_begin(37);
  OK(env->dir_open(env, base, "ops", SKV_DIR_CREATE, &fixture_err, &dir));
  OK(env->dir_open(env, base, "ops", SKV_DIR_BENEATH, &fixture_err, &under));
  OK(env->dir_info(dir, &fixture_err, &info));
  OK(env->dir_free(dir, &fixture_err, &size));
  CHECK(size > 0 && info.fs_bytes > 0);
  OK(env->dir_sync_parent(dir, &fixture_err));
  OK(env->file_open(dir, "f", SKV_FILE_WRITE | SKV_FILE_CREATE, &fixture_err,
                    &file));
  OK(env->file_lock(file, 0, 1, SKV_EXCLUSIVE, &fixture_err));
  OK(env->file_write(file, 5, bytes, SIZE, &fixture_err));
  OK(env->file_sync(file, &fixture_err));
  OK(env->file_read(file, 5, back, sizeof back, &fixture_err, &got));
  CHECK(got == SIZE && all_are(back, got, 3));
  OK(env->file_allocate(file, SIZE * 2, &fixture_err));
  OK(env->file_size(file, &fixture_err, &size));
  CHECK(size == SIZE * 2);
  storm.cannot_allocate = true; /* zeros are written */
  OK(env->file_allocate(file, SIZE * 3, &fixture_err));
  OK(env->file_size(file, &fixture_err, &size));
  CHECK(size == SIZE * 3);
  OK(env->file_read(file, 5, back, sizeof back, &fixture_err, &got));
  CHECK(got == sizeof back && all_are(back, SIZE, 3) && back[SIZE] == 0);
  OK(env->file_truncate(file, 100, &fixture_err));
  OK(env->file_size(file, &fixture_err, &size));
  CHECK(size == 100);
  OK(env->dir_sync(dir, &fixture_err));
  memset(back, 0, 100);
  OK(env->random(env, back, 100, &fixture_err));
  bool is_zero = true;
  for (size_t i = 63; i < 100; i++) is_zero &= back[i] == 0;
  CHECK(!is_zero);
  char name[16];
  env->program(env, name);
  CHECK(strncmp(name, "eintr_test", 10) == 0);
  env->file_close(file);
  env->dir_close(under);
  env->dir_close(dir);
  for (int i = 0; i < CALLS; i++)
    if (!CHECK(storm.interrupted[i] > 0))
      printf("%s was not interrupted\n", call_names[i]);
  storm_end();
}

/* ---- 2, 4 -------------------------------------------------------------- */

#define KEYS 200

static void fill(stratakv_store *store, uint32_t table, uint32_t rows[KEYS]) {
  stratakv_txn *txn = NULL;
  for (uint32_t n = 0; n < 600; n++) {
    uint32_t i = n * 7 % KEYS;
    rows[i] = n % 11 == 0 ? 0 : n + 1;
    OK(fixture_put(store, table, i, rows[i], NULL));
  }
  OK(stratakv_flush(store, &fixture_err));
  OK(stratakv_begin(store, &fixture_err, &txn));
  for (uint32_t n = 0; n < 300; n++) { /* a large one: INGEST */
    rows[n * 3 % KEYS] = 1000 + n;
    OK(fixture_txn_put(txn, table, n * 3 % KEYS, 1000 + n));
  }
  OK(stratakv_commit(txn, &fixture_err, NULL));
  OK(stratakv_compact(store, NULL, NULL, &fixture_err));
  for (uint32_t i = 0; i < 20; i++) {
    rows[i] = 5000 + i;
    OK(fixture_put(store, table, i, rows[i], NULL));
  }
  CHECK(skv_load(&store->db->shared->fence) == 0);
}

static void check_store(const char *path, const stratakv_options *options,
                        const uint32_t rows[KEYS]) {
  stratakv_store *store = NULL;
  stratakv_table_info table;
  uint32_t seen[KEYS];
  if (!OK(stratakv_open(path, options, &fixture_err, &store))) return;
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 0, &fixture_err, &table));
  if (OK(fixture_scan(store, table.id, seen, KEYS)))
    CHECK(memcmp(seen, rows, sizeof seen) == 0);
  OK(stratakv_check(store, NULL, &fixture_err));
  OK(stratakv_close(store, &fixture_err));
}

static void test_store(const char *name, size_t most, bool mmap) {
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  stratakv_table_info table;
  uint32_t rows[KEYS] = {0};
  const char *path = real_path(name);
  check_where = name;
  options.mmap = mmap;
  storm_begin(most);
  if (!OK(stratakv_open(path, &options, &fixture_err, &store))) return;
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table));
  fill(store, table.id, rows);
  OK(stratakv_backup(store, NULL, real_path("copy"), NULL, &fixture_err, NULL));
  OK(stratakv_close(store, &fixture_err));
  check_store(path, &options, rows);
  storm_end();
  check_store(path, &options, rows);
  check_store(real_path("copy"), &options, rows);
  real_dir_remove();
  (void)mkdir(real_dir, 0777);
  check_where = "";
}

/* ---- 3 ----------------------------------------------------------------- */

static void test_nothing(skv_env *env, const char *base) {
  skv_dir *dir = NULL;
  skv_file *file = NULL;
  OK(env->dir_open(env, base, "none", SKV_DIR_CREATE, &fixture_err, &dir));
  OK(env->file_open(dir, "f", SKV_FILE_WRITE | SKV_FILE_CREATE, &fixture_err,
                    &file));
  storm.writes_nothing = true;
  alarm(10);
  FAILS(STRATAKV_FULL, env->file_write(file, 0, "x", 1, &fixture_err));
  storm_end();
  alarm(0);
  OK(env->file_write(file, 0, "x", 1, &fixture_err));
  env->file_close(file);
  env->dir_close(dir);
}

int main(void) {
  real_dir_make("eintr_test");
  skv_env *env = skv_env_posix();
  test_operations(env, real_dir);
  test_nothing(env, real_dir);
  test_store("whole", 0, true);
  test_store("short", 211, true);
  test_store("unmapped", 211, false);
  real_dir_remove();
  return check_end();
}
