/*
 * Sweep: one process does one operation on a real store and is interrupted
 * after every instruction that changes the shared page or a mapped log, and
 * after every call of the environment. Each distinct state of all files is
 * taken for what a death at that instruction leaves, and a second process has
 * to go on from it within a second, with the state of before or after the
 * commit under way: alone (it recovers), and beside a third process that is
 * attached and idle (it joins, and finishes what the dead one left).
 *
 *   build/test/c/sweep_test ?CASE? ?VARIANT?
 *
 *   case n is operation n of the table; variants, of which a soak runs many,
 *   differ in how much was written before and in the sizes of transactions
 *
 * HOW  Writable shared mappings are protected. A store faults; the handler
 *   allows it, sets the trap flag, and after that one instruction protects the
 *   page again and reports. So every state that another process could see is
 *   seen, as single-stepping with ptrace would, without stepping through the
 *   millions of instructions that change nothing shared. (Elsewhere than on
 *   x86-64: the states at calls and at the points of util/point.h.) The states are opened
 *   in the in-memory environment, which has no disk to wait for.
 *
 *   Who goes on dies twice more: after it looked, and after it committed. The
 *   next one must recover what it saw, each time.
 *
 * WRITE k  sets three rows to k + 1 in one batch, so a part of it shows.
 *
 * Covers: INV-2, INV-3, INV-9, P2, P7, P8, P10, P11
 *
 * Soak: 2
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/util/point.h"
#include "test/c/db_fixture.h"
#include "test/c/files.h"
#include "test/c/harness.h"

#define STORE "build/tmp/sweep_test.strata"
#define SWEEP_ROWS 8
#define LIMIT_NS UINT64_C(1000000000)
#define TRAP_FLAG 0x100
#ifndef SWEEP_FINE /* other machines have no trap flag that is known here */
#if defined(__x86_64__) && defined(__linux__)
#define SWEEP_FINE 1
#else
#define SWEEP_FINE 0
#endif
#endif

/* What the interrupted process says about itself. */
static struct sweep_shared {
  _Atomic uint32_t acked, begun; /* writes */
  _Atomic uint32_t alone;        /* it holds ALIVE exclusively */
} * book;

/* ---- The interrupted process ------------------------------------------- */

static int report_fd, answer_fd;
static volatile sig_atomic_t is_swept;
static skv_env plain;

/* Tell the parent, and wait until it has looked. */
static void interrupted(void) {
  char byte = 0;
  if (!is_swept) return;
  if (write(report_fd, &byte, 1) != 1 || read(answer_fd, &byte, 1) != 1)
    _exit(3);
}

#define MAPS 64
static struct {
  uint8_t *at;
  size_t size;
} maps[MAPS];
#if SWEEP_FINE
static uint8_t *stepping[4]; /* pages that the present instruction may write */
static size_t stepping_count;

static void on_fault(int sig, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  uint8_t *at = info->si_addr;
  for (size_t i = 0; i < MAPS; i++) {
    if (maps[i].at == NULL || at < maps[i].at ||
        at >= maps[i].at + maps[i].size)
      continue;
    uint8_t *page = (uint8_t *)((uintptr_t)at & ~(uintptr_t)4095);
    if (stepping_count == 4 || mprotect(page, 4096, PROT_READ | PROT_WRITE))
      _exit(4);
    stepping[stepping_count++] = page;
    u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
    return;
  }
  signal(sig, SIG_DFL); /* a fault of the engine's */
}

static void on_trap(int sig, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  SKV_UNUSED(sig);
  SKV_UNUSED(info);
  u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
  while (stepping_count > 0)
    mprotect(stepping[--stepping_count], 4096, PROT_READ);
  interrupted();
}

static void protect(void *at, size_t size) { mprotect(at, size, PROT_READ); }

static void watch_stores(void) {
  struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &fault, NULL);
  sigaction(SIGTRAP, &trap, NULL);
}
#else
static void protect(void *at, size_t size) {
  SKV_UNUSED(at);
  SKV_UNUSED(size);
}

static void on_point(void *arg, const char *name) {
  SKV_UNUSED(arg);
  SKV_UNUSED(name);
  interrupted();
}
static void watch_stores(void) { skv_point_set(on_point, NULL); }
#endif

static int tap_map(skv_file *f, size_t size, bool writable, bool random,
                   skv_err *err, void **out) {
  int rc = plain.file_map(f, size, writable, random, err, out);
  for (size_t i = 0; rc == STRATAKV_OK && writable && i < MAPS; i++) {
    if (maps[i].at != NULL) continue;
    maps[i].at = *out;
    maps[i].size = size;
    if (is_swept) protect(*out, size);
    return rc;
  }
  if (rc == STRATAKV_OK && writable) abort();
  return rc;
}
static void tap_unmap(skv_env *env, void *map, size_t size) {
  for (size_t i = 0; i < MAPS; i++)
    if (maps[i].at == map) maps[i].at = NULL;
  plain.unmap(env, map, size);
}
static int swept_write(skv_file *f, uint64_t at, const void *data, size_t size,
                       skv_err *err) {
  int rc = plain.file_write(f, at, data, size, err);
  interrupted();
  return rc;
}
static int swept_allocate(skv_file *f, uint64_t size, skv_err *err) {
  int rc = plain.file_allocate(f, size, err);
  interrupted();
  return rc;
}
static int swept_truncate(skv_file *f, uint64_t size, skv_err *err) {
  int rc = plain.file_truncate(f, size, err);
  interrupted();
  return rc;
}
static int swept_rename(skv_dir *d, const char *from, const char *to,
                        skv_err *err) {
  int rc = plain.dir_rename(d, from, to, err);
  interrupted();
  return rc;
}
static int swept_unlink(skv_dir *d, const char *name, skv_err *err) {
  int rc = plain.dir_unlink(d, name, err);
  interrupted();
  return rc;
}
static int swept_open(skv_dir *d, const char *name, int flags, skv_err *err,
                      skv_file **out) {
  int rc = plain.file_open(d, name, flags, err, out);
  if (flags & SKV_FILE_CREATE) interrupted();
  return rc;
}
static int swept_lock(skv_file *f, uint64_t at, uint64_t size, int mode,
                      skv_err *err) {
  int rc = plain.file_lock(f, at, size, mode, err);
  if (rc == STRATAKV_OK && at == SKV_LOCK_ALIVE)
    atomic_store(&book->alone, mode == SKV_EXCLUSIVE);
  return rc;
}

static void tap(void) {
  skv_env *env = skv_env_posix();
  watch_stores();
  plain = *env;
  env->file_map = tap_map;
  env->unmap = tap_unmap;
  env->file_write = swept_write;
  env->file_allocate = swept_allocate;
  env->file_truncate = swept_truncate;
  env->dir_rename = swept_rename;
  env->dir_unlink = swept_unlink;
  env->file_open = swept_open;
  env->file_lock = swept_lock;
}

/* From here on every change is reported. */
static void sweep_begin(void) {
  is_swept = 1;
  for (size_t i = 0; i < MAPS; i++)
    if (maps[i].at != NULL) protect(maps[i].at, maps[i].size);
  interrupted();
}

/* ---- What is done ------------------------------------------------------ */

static unsigned before = 5; /* writes that came before */
static unsigned wider;      /* rows more in a transaction of several */

static void vary(uint64_t variant) {
  skv_prng rng = {variant};
  if (variant == 0) return;
  before = 1 + (unsigned)skv_prng_below(&rng, 12);
  wider = (unsigned)skv_prng_below(&rng, 40);
}

static stratakv_options sweep_options(int sync) {
  stratakv_options options = fixture_options();
  options.sync = sync;
  return options;
}

static stratakv_store *open_real(int sync, uint32_t *table) {
  stratakv_store *store = NULL;
  stratakv_table_info info = {0};
  stratakv_options options = sweep_options(sync);
  if (skv_open_in(skv_env_posix(), STORE, &options, &fixture_err, &store) ||
      stratakv_table(store, "t", STRATAKV_KEY_TEXT, 1, &fixture_err, &info)) {
    printf("open: %s\n", fixture_err.message);
    fflush(stdout);
    _exit(2);
  }
  *table = info.id;
  return store;
}

static void must(int rc) {
  if (rc == STRATAKV_OK) return;
  printf("code %d: %s\n", rc, fixture_err.message);
  fflush(stdout);
  _exit(2);
}

/* Rows after n writes. */
static void rows_after(uint32_t n, uint32_t rows[SWEEP_ROWS]) {
  memset(rows, 0, SWEEP_ROWS * sizeof *rows);
  for (uint32_t k = 0; k < n; k++)
    for (uint32_t i = 0; i < 3; i++) rows[(k + i) % SWEEP_ROWS] = k + 1;
}

static stratakv_txn *begin_write(stratakv_store *store, uint32_t table,
                                 uint32_t more) {
  stratakv_txn *txn = NULL;
  uint32_t k = atomic_load(&book->begun);
  must(stratakv_begin(store, &fixture_err, &txn));
  if (more > 0) more += wider;
  for (uint32_t i = 0; i < more; i++) /* rows that nobody compares */
    must(fixture_txn_put(txn, table, 100 + i, i + 1));
  for (uint32_t i = 0; i < 3; i++)
    must(fixture_txn_put(txn, table, (k + i) % SWEEP_ROWS, k + 1));
  atomic_store(&book->begun, k + 1);
  return txn;
}

static void do_write(stratakv_store *store, uint32_t table, uint32_t more) {
  stratakv_txn *txn = begin_write(store, table, more);
  must(stratakv_commit(txn, &fixture_err, NULL));
  atomic_store(&book->acked, atomic_load(&book->begun));
}

static void writes(stratakv_store *store, uint32_t table, unsigned n) {
  for (unsigned i = 0; i < n; i++) do_write(store, table, 0);
}

/* Die like that, by the point's name. */
static void die_at(void *arg, const char *name) {
  if (strcmp(arg, name) == 0) kill(getpid(), SIGKILL);
}

static void in_child(void (*run)(const char *), const char *arg) {
  int status;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    run(arg);
    harness_exit(0);
  }
  waitpid(pid, &status, 0);
}

/* Some writes, and the next dies there. */
static void die_writing(const char *point) {
  uint32_t table;
  stratakv_store *store = open_real(STRATAKV_SYNC_FULL, &table);
  writes(store, table, before);
  char name[32];
  snprintf(name, sizeof name, "%s", point);
  skv_point_set(die_at, name);
  do_write(store, table, 0);
}

static void write_and_close(const char *arg) {
  uint32_t table;
  stratakv_store *store = open_real(STRATAKV_SYNC_FULL, &table);
  SKV_UNUSED(arg);
  writes(store, table, before);
  must(stratakv_close(store, &fixture_err));
}

static void op_commit(int sync) {
  uint32_t table;
  stratakv_store *store = open_real(sync, &table);
  writes(store, table, before);
  sweep_begin();
  writes(store, table, 2);
}
static void op_commit_synced(void) { op_commit(STRATAKV_SYNC_FULL); }
static void op_commit_mapped(void) { op_commit(STRATAKV_SYNC_OFF); }

/* Seal, next log, flush, gc. */
static void op_flush(void) {
  uint32_t table;
  stratakv_store *store = open_real(STRATAKV_SYNC_OFF, &table);
  writes(store, table, before);
  sweep_begin();
  must(stratakv_flush(store, &fixture_err));
  do_write(store, table, 0);
}

/* Writes that do not fit the log; one takes a retired one. Synced, so that
 * each record is one change and not a thousand. */
static void op_rotate(void) {
  uint32_t table;
  stratakv_store *store = open_real(STRATAKV_SYNC_FULL, &table);
  for (int i = 0; i < 3; i++) do_write(store, table, 60);
  must(stratakv_flush(store, &fixture_err));
  for (int i = 0; i < 4; i++) do_write(store, table, 60);
  sweep_begin();
  for (int i = 0; i < 6; i++) do_write(store, table, 60);
}

/* Flushes and compactions until the manifest is begun anew. */
static void op_swap(void) {
  uint32_t table;
  setenv("SKV_TEST_HEAD_ROLL", "2000", 1);
  stratakv_store *store = open_real(STRATAKV_SYNC_OFF, &table);
  for (int i = 0; i < 4; i++) {
    do_write(store, table, 0);
    must(stratakv_compact(store, NULL, NULL, &fixture_err));
  }
  sweep_begin();
  for (int i = 0; i < 6 && access(STORE "/000002.manifest", F_OK) != 0; i++) {
    do_write(store, table, 0);
    must(stratakv_compact(store, NULL, NULL, &fixture_err));
  }
  if (access(STORE "/000002.manifest", F_OK) != 0) _exit(5);
}

static void op_create(void) {
  uint32_t table;
  sweep_begin();
  stratakv_store *store = open_real(STRATAKV_SYNC_FULL, &table);
  writes(store, table, 1);
}

/* Open what was closed cleanly, what was not, and what an owner left who died
 * in a commit. */
static void op_open(void) {
  uint32_t table;
  in_child(write_and_close, NULL);
  sweep_begin();
  stratakv_store *store = open_real(STRATAKV_SYNC_FULL, &table);
  writes(store, table, 1);
}
static void op_recover(void) {
  uint32_t table;
  in_child(die_writing, "commit.appended");
  sweep_begin();
  stratakv_store *store = open_real(STRATAKV_SYNC_FULL, &table);
  atomic_store(&book->acked, atomic_load(&book->begun)); /* it found it */
  writes(store, table, 1);
}

/* The same beside a process that lives: join, settle. */
static void op_join(const char *point) {
  uint32_t table;
  int pipe_fds[2];
  char byte = 0;
  if (pipe(pipe_fds) != 0) _exit(2);
  pid_t idle = fork();
  if (idle == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    open_real(STRATAKV_SYNC_FULL, &table);
    if (write(pipe_fds[1], &byte, 1) != 1) _exit(2);
    for (;;) pause();
  }
  if (read(pipe_fds[0], &byte, 1) != 1) _exit(2);
  in_child(die_writing, point);
  sweep_begin();
  stratakv_store *store = open_real(STRATAKV_SYNC_FULL, &table);
  /* A record that was not published never happened, once somebody went on. */
  if (strcmp(point, "commit.written") == 0) atomic_store(&book->begun, before);
  atomic_store(&book->acked, atomic_load(&book->begun));
  interrupted();
  writes(store, table, 1);
  is_swept = 0;
  kill(idle, SIGKILL);
}
static void op_join_appended(void) { op_join("commit.appended"); }
static void op_join_written(void) { op_join("commit.written"); }

static void op_close(void) {
  uint32_t table;
  stratakv_store *store = open_real(STRATAKV_SYNC_OFF, &table);
  writes(store, table, before);
  sweep_begin();
  must(stratakv_close(store, &fixture_err));
}

/* Prepared and committed; prepared and rolled back. */
static void op_prepare(void) {
  uint32_t table;
  stratakv_store *store = open_real(STRATAKV_SYNC_FULL, &table);
  writes(store, table, before);
  sweep_begin();
  stratakv_txn *txn = begin_write(store, table, 0);
  must(stratakv_prepare(txn, &fixture_err));
  must(stratakv_commit(txn, &fixture_err, NULL));
  atomic_store(&book->acked, before + 1);
  txn = begin_write(store, table, 0);
  must(stratakv_prepare(txn, &fixture_err));
  stratakv_rollback(txn);
  atomic_store(&book->begun, before + 1);
  interrupted();
  writes(store, table, 1);
}

static void op_ingest(void) {
  uint32_t table;
  stratakv_store *store = open_real(STRATAKV_SYNC_OFF, &table);
  writes(store, table, before);
  sweep_begin();
  do_write(store, table, 250);
  do_write(store, table, 0);
}

static const struct operation {
  const char *name;
  void (*run)(void);
  unsigned least; /* distinct states */
} operations[] = {
    {"commit, synced", op_commit_synced, 8},
    {"commit, mapped", op_commit_mapped, 20},
    {"flush", op_flush, 40},
    {"rotate", op_rotate, 60},
    {"manifest swap", op_swap, 60},
    {"create", op_create, 40},
    {"open", op_open, 20},
    {"recover", op_recover, 40},
    {"join, finish a commit", op_join_appended, 10},
    {"join, drop a record", op_join_written, 10},
    {"close", op_close, 5},
    {"prepare", op_prepare, 15},
    {"ingest", op_ingest, 50},
};
#define OPERATIONS (sizeof operations / sizeof operations[0])

/* ---- The states -------------------------------------------------------- */

static fixture_image image_read(void) {
  fixture_image image = {0};
  DIR *dir = opendir(STORE);
  for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
    struct stat st;
    int fd = openat(dirfd(dir), e->d_name, O_RDONLY);
    if (fd < 0) abort();
    if (e->d_name[0] != '.' && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
      fixture_file *file =
          fixture_add(&image, e->d_name, NULL, (size_t)st.st_size);
      if (read(fd, file->bytes, file->size) != (ssize_t)file->size) abort();
    }
    close(fd);
  }
  if (dir != NULL) closedir(dir);
  return image;
}

/* Order of names does not matter; 0 is never returned. */
static uint64_t image_hash(const fixture_image *image) {
  uint64_t sum = 1;
  for (size_t i = 0; i < image->count; i++) {
    const fixture_file *f = &image->files[i];
    uint64_t h = UINT64_C(1469598103934665603);
    for (const char *c = f->name; *c; c++)
      h = (h ^ (uint8_t)*c) * UINT64_C(1099511628211);
    for (size_t at = 0; at + 8 <= f->size; at += 8)
      h = (h ^ skv_get64(f->bytes + at)) * UINT64_C(1099511628211) ^ h >> 29;
    sum += h ^ f->size;
  }
  return sum ? sum : 1;
}

#define SEEN (1u << 16)
static uint64_t seen[SEEN];

static bool is_new(uint64_t hash) {
  size_t at = hash % SEEN;
  while (seen[at] != 0 && seen[at] != hash) at = (at + 1) % SEEN;
  bool found = seen[at] == hash;
  seen[at] = hash;
  return !found;
}

#define EXTRA_ROW 390

/* The number of writes that the rows show; UINT32_MAX if it is none of
 * low..high, or the row of who went on is not `extra`. */
static uint32_t state_of(stratakv_store *store, uint32_t low, uint32_t high,
                         uint32_t extra) {
  stratakv_table_info info = {0};
  uint32_t rows[400] = {0}, want[SWEEP_ROWS];
  int rc =
      stratakv_table(store, "t", STRATAKV_KEY_TEXT, 0, &fixture_err, &info);
  if (rc == STRATAKV_OK) rc = fixture_scan(store, info.id, rows, 400);
  if (rc != STRATAKV_OK && rc != STRATAKV_NOTFOUND) {
    printf("code %d: %s\n", rc, fixture_err.message);
    return UINT32_MAX;
  }
  for (uint32_t n = high + 1; n-- > low;) {
    rows_after(n, want);
    if (memcmp(rows, want, sizeof want) == 0 && rows[EXTRA_ROW] == extra)
      return n;
  }
  for (uint32_t i = 0; i < SWEEP_ROWS; i++) printf(" %u", rows[i]);
  printf(", %u is not the state after %u to %u writes, %u\n", rows[EXTRA_ROW],
         low, high, extra);
  return UINT32_MAX;
}

/* All died again at that moment: what the next one recovers is what they saw. */
static void recover_again(fixture_image *image, uint32_t n, uint32_t extra) {
  skv_env *again = fixture_world(image);
  stratakv_store *store = NULL;
  stratakv_options options = sweep_options(STRATAKV_SYNC_FULL);
  fixture_same_boot(again);
  if (OK(skv_open_in(again, FIXTURE_PATH, &options, &fixture_err, &store)))
    CHECK(state_of(store, n, n, extra) == n);
  OK(stratakv_close(store, &fixture_err));
  skv_env_mem_free(again);
  fixture_clear(image);
}

/* A second process goes on from this state: beside an idle third one, which
 * holds ALIVE and no slot, or alone. */
static void go_on(const fixture_image *image, bool beside, uint32_t low,
                  uint32_t high) {
  skv_env *first = fixture_world(image);
  skv_env *env = skv_env_mem_process(first);
  skv_dir *dir = NULL;
  skv_file *lock = NULL;
  stratakv_store *store = NULL;
  stratakv_table_info info;
  stratakv_options options = sweep_options(STRATAKV_SYNC_FULL);
  fixture_same_boot(first);
  if (beside) {
    OK(first->dir_open(first, NULL, FIXTURE_PATH, 0, NULL, &dir));
    OK(first->file_open(dir, "LOCK", SKV_FILE_WRITE, NULL, &lock));
    OK(first->file_lock(lock, SKV_LOCK_ALIVE, 1, SKV_SHARED, NULL));
  }
  uint64_t began = env->now(env);
  uint32_t n = UINT32_MAX;
  if (OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store)))
    n = state_of(store, low, high, 0);
  if (CHECK(n != UINT32_MAX)) {
    fixture_image looked = fixture_take(env);
    OK(stratakv_table(store, "t", STRATAKV_KEY_TEXT, 1, &fixture_err, &info));
    OK(fixture_put(store, info.id, EXTRA_ROW, 7, NULL)); /* and it commits */
    CHECK(state_of(store, n, n, 7) == n);
    CHECK(env->now(env) - began < LIMIT_NS);
    fixture_image committed = fixture_take(env);
    recover_again(&looked, n, 0);
    recover_again(&committed, n, 7);
  }
  OK(stratakv_close(store, &fixture_err));
  if (lock) first->file_close(lock);
  if (dir) first->dir_close(dir);
  skv_env_mem_free(env);
  skv_env_mem_free(first);
}

static bool page_is_whole(fixture_image *image) {
  fixture_file *page = fixture_find(image, "SHARED");
  return page != NULL && page->size == SKV_SHARED_SIZE &&
         skv_get64(page->bytes) == SKV_SHARED_MAGIC;
}

/* Of a page that says more than its log has, whoever recovers believes nothing:
 * then damage goes for the end of the log. (ORDER of shared.h) */
static void check_order(fixture_image *image) {
  fixture_file *page = fixture_find(image, "SHARED");
  if (page == NULL || page->size != SKV_SHARED_SIZE) return;
  uint64_t magic = skv_get64(page->bytes);
  if (magic != SKV_SHARED_MAGIC && magic != SKV_SHARED_RECOVERING) return;
  uint64_t tail = skv_get64(page->bytes + offsetof(skv_shared, tail));
  CHECK(skv_get64(page->bytes + offsetof(skv_shared, durable)) <= tail);
  CHECK(skv_get64(page->bytes + offsetof(skv_shared, visible)) <= tail);
}

static unsigned look(void) {
  fixture_image image = image_read();
  check_order(&image);
  uint32_t low = atomic_load(&book->acked), high = atomic_load(&book->begun);
  uint64_t hash = image_hash(&image);
  unsigned is_distinct = is_new(hash);
  /* The same files, but less is allowed of them. */
  bool is_stricter = is_new(hash + (UINT64_C(1) + low) * 1000003 + high);
  if (is_distinct || is_stricter) {
    if (image.count > 0) go_on(&image, false, low, high);
    if (page_is_whole(&image) && !atomic_load(&book->alone))
      go_on(&image, true, low, high);
  }
  fixture_clear(&image);
  return is_distinct;
}

static unsigned sweep(const struct operation *operation) {
  int up[2], down[2], status = 0;
  unsigned states = 0;
  char byte = 0;
  files_remove(STORE);
  memset(seen, 0, sizeof seen);
  memset(book, 0, sizeof *book);
  if (pipe(up) != 0 || pipe(down) != 0) abort();
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    report_fd = up[1];
    answer_fd = down[0];
    close(up[0]);
    close(down[1]);
    tap();
    operation->run();
    interrupted();
    _exit(0);
  }
  close(up[1]);
  close(down[0]);
  while (read(up[0], &byte, 1) == 1) {
    states += look();
    if (check_failures > 5) kill(pid, SIGKILL);
    if (write(down[1], &byte, 1) != 1) break;
  }
  waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  close(up[0]);
  close(down[1]);
  return states;
}

static unsigned sweep_all(uint64_t variant) {
  unsigned all = 0;
  vary(variant);
  for (size_t i = 0; i < OPERATIONS && check_failures == 0; i++) {
    char where[64];
    if (harness.only != 0 && harness.only != i + 1) continue;
    snprintf(where, sizeof where, "%s: %zu %" PRIu64, operations[i].name, i + 1,
             variant);
    check_where = where;
    unsigned states = sweep(&operations[i]);
    printf("%s, %u states\n", where, states);
    if (variant == 0)
      CHECK(states >= operations[i].least / (SWEEP_FINE ? 1 : 4));
    all += states;
  }
  check_where = "";
  return all;
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  files_begin();
  book = mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (book == MAP_FAILED) return 1;
  harness_begin(argc, argv);
  if (!SWEEP_FINE)
    printf("no x86-64: not after every store, but at calls and points\n");
  uint64_t all = sweep_all(argc > 2 ? strtoull(argv[2], NULL, 10) : 0);
  for (uint64_t v = harness.first; harness_has_time() && check_failures == 0;)
    all += sweep_all(v++);
  harness_count("sweep-states", all);
  return check_end();
}
