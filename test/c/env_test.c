/*
 * engine/os: the same checks on the real environment and on the one in
 * memory, then what only one of them has.
 *
 *   dir       open, create, list, info, rename, unlink, link, remove
 *   beneath   what leaves the base or meets a symlink
 *   file      flags, reads and writes, sizes, allocation
 *   map       mappings share the file's bytes, and outlive file and name
 *   lock      conflicts, change of mode, split ranges, closing
 *   misc      random, identity, time, wait and wake
 *   posix     symlinks, FIFOs, descriptors, fork
 *   mem       processes: sharing, death
 *   fault     counting, once and for ever, partial writes, lying syncs
 *   thread    start, conditions
 *
 * Usage: env_test [directory]. Makes its own directory there, or under
 * build/tmp, and removes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/os/env.h"
#include "engine/os/env_fault.h"
#include "engine/os/env_mem.h"
#include "engine/os/env_posix.h"
#include "engine/os/thread.h"
#include "engine/util/alloc.h"
#include "test/c/check.h"

#define RW SKV_FILE_WRITE
#define MAKE (SKV_FILE_WRITE | SKV_FILE_CREATE)
#define PAGE 4096u

/* An environment under test. */
typedef struct world {
  skv_env *env;     /* the first process */
  skv_env *other;   /* a second one, or the same */
  const char *base; /* an empty directory in it */
  bool no_links;
} world;

/* ---- Helpers ----------------------------------------------------------- */

static skv_dir *open_dir(skv_env *env, const char *base, const char *path,
                         int flags) {
  skv_err err = {0};
  skv_dir *dir = NULL;
  int rc = env->dir_open(env, base, path, flags, &err, &dir);
  if (!CHECK(rc == STRATAKV_OK)) printf("  %s: %s\n", path, err.message);
  return dir;
}

static skv_file *open_file(skv_dir *dir, const char *name, int flags) {
  skv_err err = {0};
  skv_file *file = NULL;
  int rc = dir->env->file_open(dir, name, flags, &err, &file);
  if (!CHECK(rc == STRATAKV_OK)) printf("  %s: %s\n", name, err.message);
  return file;
}

/* The code of an open that is to fail; whatever it opened is closed. */
static int dir_code(skv_env *env, const char *base, const char *path, int flags,
                    skv_err *err) {
  skv_dir *dir = NULL;
  int rc = env->dir_open(env, base, path, flags, err, &dir);
  CHECK((rc == STRATAKV_OK) == (dir != NULL));
  env->dir_close(dir);
  return rc;
}

static int file_code(skv_dir *dir, const char *name, int flags) {
  skv_file *file = NULL;
  int rc = dir->env->file_open(dir, name, flags, NULL, &file);
  CHECK((rc == STRATAKV_OK) == (file != NULL));
  dir->env->file_close(file);
  return rc;
}

static int put(skv_file *f, uint64_t offset, const char *text) {
  return f->env->file_write(f, offset, text, strlen(text), NULL);
}

/* Whether the file has exactly these bytes at offset, or ends after them. */
static bool has(skv_file *f, uint64_t offset, const char *text, size_t size) {
  char bytes[256];
  size_t got = 0;
  int rc = f->env->file_read(f, offset, bytes, size, NULL, &got);
  return rc == STRATAKV_OK && got == size && memcmp(bytes, text, size) == 0;
}

static uint64_t size_of(skv_file *f) {
  uint64_t size = 0;
  CHECK(f->env->file_size(f, NULL, &size) == STRATAKV_OK);
  return size;
}

static int lock(skv_file *f, uint64_t offset, uint64_t size, int mode) {
  return f->env->file_lock(f, offset, size, mode, NULL);
}

/* ---- Directories ------------------------------------------------------- */

typedef struct names {
  int count;
  bool has_a, has_b;
  int stop_at; /* return 99 at the n-th */
} names;

static int count_name(void *arg, const char *name) {
  names *n = arg;
  n->count++;
  if (strcmp(name, "a") == 0) n->has_a = true;
  if (strcmp(name, "b") == 0) n->has_b = true;
  return n->count == n->stop_at ? 99 : STRATAKV_OK;
}

static void test_dir_open(const world *w) {
  skv_env *env = w->env;
  skv_err err = {0};
  CHECK(dir_code(env, w->base, "none", 0, &err) == STRATAKV_CANTOPEN);
  CHECK(strncmp(err.message, "no store at \"/", 14) == 0);
  CHECK(dir_code(env, w->base, "no/where", SKV_DIR_CREATE, &err) ==
        STRATAKV_CANTOPEN);
  CHECK(dir_code(env, w->base, "no", 0, &err) == STRATAKV_CANTOPEN);
  CHECK(dir_code(env, w->base, "d/", SKV_DIR_CREATE, &err) == STRATAKV_OK);
  CHECK(dir_code(env, w->base, "d", SKV_DIR_CREATE, &err) == STRATAKV_OK);
  CHECK(dir_code(env, w->base, "d//./e", SKV_DIR_CREATE, &err) == STRATAKV_OK);
  CHECK(dir_code(env, NULL, w->base, 0, &err) == STRATAKV_OK);
  CHECK(dir_code(env, "/nowhere", "d", 0, &err) == STRATAKV_CANTOPEN);

  skv_dir *d = open_dir(env, w->base, "d", 0);
  skv_dir *same = open_dir(w->other, w->base, "d/e/..", 0);
  skv_dir_info a, b;
  CHECK(env->dir_info(d, NULL, &a) == STRATAKV_OK);
  CHECK(w->other->dir_info(same, NULL, &b) == STRATAKV_OK);
  CHECK(a.device == b.device && a.inode == b.inode);
  CHECK(strcmp(a.path, b.path) == 0 && a.path[0] == '/');
  CHECK(strcmp(strrchr(a.path, '/'), "/d") == 0);
  CHECK(a.mode == 0700 && a.owner == a.euid);
  w->other->dir_close(same);
  file_code(d, "plain", MAKE);
  CHECK(dir_code(env, w->base, "d/plain", 0, &err) == STRATAKV_CANTOPEN);
  CHECK(env->dir_unlink(d, "plain", NULL) == STRATAKV_OK);
  uint64_t bytes = 0;
  CHECK(env->dir_free(d, NULL, &bytes) == STRATAKV_OK && bytes > 0);
  CHECK(env->dir_sync_parent(d, NULL) == STRATAKV_OK);
  env->dir_close(d);
  env->dir_close(NULL);
}

static void test_beneath(const world *w) {
  static const char *const refused[] = {"..", "../x", "/", "d/../../d"};
  skv_env *env = w->env;
  skv_err err = {0};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    CHECK(dir_code(env, w->base, refused[i], SKV_DIR_BENEATH, &err) ==
          STRATAKV_AUTH);
    CHECK(dir_code(env, w->base, refused[i], SKV_DIR_BENEATH | SKV_DIR_CREATE,
                   &err) == STRATAKV_AUTH);
  }
  char want[5000];
  snprintf(want, sizeof want,
           "\"../x\" leaves \"%s\" or meets a symlink; use an absolute path",
           w->base);
  dir_code(env, w->base, "../x", SKV_DIR_BENEATH, &err);
  CHECK(strcmp(err.message, want) == 0);
  CHECK(dir_code(env, w->base, "d/e", SKV_DIR_BENEATH, &err) == STRATAKV_OK);
  CHECK(dir_code(env, w->base, "none", SKV_DIR_BENEATH, &err) ==
        STRATAKV_CANTOPEN);
  CHECK(dir_code(env, w->base, "d/f", SKV_DIR_BENEATH | SKV_DIR_CREATE, &err) ==
        STRATAKV_OK);
}

static void test_dir_entries(const world *w) {
  skv_env *env = w->env;
  skv_dir *d = open_dir(env, w->base, "list", SKV_DIR_CREATE);
  names n = {0};
  CHECK(env->dir_list(d, count_name, &n, NULL) == 0 && n.count == 0);
  CHECK(file_code(d, "a", MAKE) == STRATAKV_OK);
  CHECK(file_code(d, "c", MAKE) == STRATAKV_OK);
  CHECK(env->dir_rename(d, "c", "b", NULL) == STRATAKV_OK);
  CHECK(env->dir_sync(d, NULL) == STRATAKV_OK);
  CHECK(env->dir_list(d, count_name, &n, NULL) == 0);
  CHECK(n.count == 2 && n.has_a && n.has_b);
  n = (names){.stop_at = 1};
  CHECK(env->dir_list(d, count_name, &n, NULL) == 99 && n.count == 1);
  skv_file *a = open_file(d, "a", RW);
  skv_file *b = open_file(d, "b", RW);
  CHECK(put(a, 0, "A") == STRATAKV_OK && put(b, 0, "B") == STRATAKV_OK);
  CHECK(env->dir_rename(d, "a", "b", NULL) == STRATAKV_OK);
  CHECK(env->dir_rename(d, "b", "b", NULL) == STRATAKV_OK);
  CHECK(env->dir_rename(d, "a", "b", NULL) == STRATAKV_NOTFOUND);
  CHECK(file_code(d, "a", 0) == STRATAKV_NOTFOUND);
  CHECK(has(b, 0, "B", 1)); /* replaced, still open */
  env->file_close(b);
  b = open_file(d, "b", 0);
  CHECK(has(b, 0, "A", 1));
  CHECK(env->dir_unlink(d, "b", NULL) == STRATAKV_OK);
  CHECK(env->dir_unlink(d, "b", NULL) == STRATAKV_NOTFOUND);
  CHECK(has(a, 0, "A", 1)); /* unlinked, still open */
  env->file_close(a);
  env->file_close(b);
  env->dir_close(d);
}

/* ---- Files ------------------------------------------------------------- */

static void test_file_open(const world *w, skv_dir *d) {
  CHECK(file_code(d, "f", 0) == STRATAKV_NOTFOUND);
  CHECK(file_code(d, "f", RW) == STRATAKV_NOTFOUND);
  CHECK(file_code(d, "f", MAKE | SKV_FILE_EXCLUSIVE) == STRATAKV_OK);
  CHECK(file_code(d, "f", MAKE | SKV_FILE_EXCLUSIVE) == STRATAKV_CONSTRAINT);
  CHECK(file_code(d, "f", MAKE) == STRATAKV_OK);
  skv_dir *sub = open_dir(w->env, w->base, "files/sub", SKV_DIR_CREATE);
  CHECK(file_code(d, "sub", 0) == STRATAKV_CANTOPEN);
  CHECK(file_code(d, "sub", MAKE) == STRATAKV_CANTOPEN);
  w->env->dir_close(sub);
}

static void test_file_io(const world *w, skv_dir *d) {
  skv_env *env = w->env;
  char bytes[16];
  size_t got = 99;
  skv_file *f = open_file(d, "f", RW);
  skv_file *r = open_file(d, "f", 0);
  CHECK(env->file_read(f, 0, bytes, 4, NULL, &got) == 0 && got == 0);
  CHECK(put(f, 3, "abc") == STRATAKV_OK && size_of(f) == 6);
  CHECK(env->file_write(f, 9, "", 0, NULL) == STRATAKV_OK);
  CHECK(size_of(r) == 6 && has(r, 0, "\0\0\0abc", 6));
  CHECK(env->file_read(r, 4, bytes, 16, NULL, &got) == 0 && got == 2);
  CHECK(env->file_read(r, 40, bytes, 16, NULL, &got) == 0 && got == 0);
  CHECK(put(r, 0, "x") == STRATAKV_IOERR);
  CHECK(env->file_sync(f, NULL) == STRATAKV_OK);
  env->file_sync_start(f, 0, 6);
  env->file_advise(f, 0, 6, SKV_ADVISE_RANDOM);
  env->file_advise(f, 0, 6, SKV_ADVISE_DROP);
  env->file_advise(f, 0, 6, SKV_ADVISE_WILLNEED);
  CHECK(has(r, 3, "abc", 3));
  env->file_close(r);
  env->file_close(f);
  env->file_close(NULL);
}

static void test_file_size(const world *w, skv_dir *d) {
  skv_env *env = w->env;
  skv_file *f = open_file(d, "size", MAKE);
  CHECK(put(f, 0, "hello") == STRATAKV_OK);
  CHECK(env->file_allocate(f, 100000, NULL) == STRATAKV_OK);
  CHECK(size_of(f) == 100000 && has(f, 4, "o\0\0", 3));
  CHECK(has(f, 99998, "\0\0", 2));
  CHECK(env->file_allocate(f, 10, NULL) == STRATAKV_OK);
  CHECK(env->file_allocate(f, 0, NULL) == STRATAKV_OK);
  CHECK(size_of(f) == 100000);
  CHECK(env->file_truncate(f, 2, NULL) == STRATAKV_OK && size_of(f) == 2);
  CHECK(env->file_truncate(f, 6, NULL) == STRATAKV_OK);
  CHECK(has(f, 0, "he\0\0\0\0", 6));
  env->file_close(f);
}

static void test_map(const world *w, skv_dir *d) {
  skv_env *env = w->env;
  skv_file *f = open_file(d, "map", MAKE);
  void *p = NULL, *q = NULL;
  CHECK(env->file_allocate(f, 2 * PAGE, NULL) == STRATAKV_OK);
  CHECK(env->file_map(f, 2 * PAGE, true, false, NULL, &p) == STRATAKV_OK);
  skv_dir *other_dir = open_dir(w->other, w->base, "files", 0);
  skv_file *g = open_file(other_dir, "map", 0);
  CHECK(w->other->file_map(g, 2 * PAGE, true, false, NULL, &q) ==
        STRATAKV_IOERR);
  CHECK(q == NULL);
  CHECK(w->other->file_map(g, 2 * PAGE, false, true, NULL, &q) == STRATAKV_OK);
  memcpy((char *)p + PAGE, "mapped", 6);
  CHECK(memcmp((char *)q + PAGE, "mapped", 6) == 0);
  CHECK(has(g, PAGE, "mapped", 6));
  CHECK(put(f, 0, "written") == STRATAKV_OK);
  CHECK(memcmp(p, "written", 7) == 0 && memcmp(q, "written", 7) == 0);
  CHECK(env->file_allocate(f, 1000 * PAGE, NULL) == STRATAKV_OK);
  CHECK(memcmp(p, "written", 7) == 0);
  env->file_close(f);
  w->other->file_close(g);
  CHECK(env->dir_unlink(d, "map", NULL) == STRATAKV_OK);
  memcpy(p, "W", 1);
  CHECK(memcmp(q, "Written", 7) == 0);
  env->unmap(env, p, 2 * PAGE);
  w->other->unmap(w->other, q, 2 * PAGE);
  env->unmap(env, NULL, 0);
  w->other->dir_close(other_dir);
}

/* ---- Locks ------------------------------------------------------------- */

static void test_lock(const world *w, skv_dir *d) {
  skv_env *env = w->env;
  skv_dir *other_dir = open_dir(w->other, w->base, "files", 0);
  skv_file *a = open_file(d, "lock", MAKE);
  skv_file *b = open_file(other_dir, "lock", RW);
  skv_file *c = open_file(d, "lock", RW); /* same process, another opening */
  skv_err err = {0};
  CHECK(lock(a, 0, 1, SKV_EXCLUSIVE) == STRATAKV_OK);
  CHECK(lock(a, 0, 1, SKV_EXCLUSIVE) == STRATAKV_OK);
  CHECK(b->env->file_lock(b, 0, 1, SKV_SHARED, &err) == STRATAKV_BUSY);
  CHECK(strstr(err.message, "lock") != NULL);
  CHECK(lock(c, 0, 1, SKV_EXCLUSIVE) == STRATAKV_BUSY);
  CHECK(lock(b, 1, 1, SKV_EXCLUSIVE) == STRATAKV_OK);
  CHECK(lock(a, 0, 1, SKV_SHARED) == STRATAKV_OK); /* down */
  CHECK(lock(b, 0, 1, SKV_SHARED) == STRATAKV_OK);
  CHECK(lock(a, 0, 1, SKV_EXCLUSIVE) == STRATAKV_BUSY); /* not up */
  CHECK(lock(c, 0, 1, SKV_SHARED) == STRATAKV_OK);      /* a kept its own */
  CHECK(lock(b, 0, 1, SKV_UNLOCK) == STRATAKV_OK);
  CHECK(lock(c, 0, 1, SKV_UNLOCK) == STRATAKV_OK);
  CHECK(lock(a, 0, 1, SKV_EXCLUSIVE) == STRATAKV_OK);
  env->file_close(c); /* does not drop a's locks, as POSIX locks would */
  CHECK(lock(b, 0, 1, SKV_SHARED) == STRATAKV_BUSY);
  env->file_close(a);
  CHECK(lock(b, 0, 1, SKV_EXCLUSIVE) == STRATAKV_OK);
  w->other->file_close(b);
  w->other->dir_close(other_dir);
}

/* For each byte of [0, 10), can `f` lock it: "x" no, "." yes. */
static void probe(skv_file *f, char text[11]) {
  for (int i = 0; i < 10; i++) {
    int rc = lock(f, (uint64_t)i, 1, SKV_SHARED);
    text[i] = rc == STRATAKV_OK ? '.' : 'x';
    if (rc == STRATAKV_OK) lock(f, (uint64_t)i, 1, SKV_UNLOCK);
  }
  text[10] = '\0';
}

static void test_lock_ranges(const world *w, skv_dir *d) {
  skv_env *env = w->env;
  skv_file *a = open_file(d, "lock", RW);
  skv_file *b = open_file(d, "lock", RW);
  skv_file *r = open_file(d, "lock", 0);
  char text[11];
  CHECK(lock(a, 2, 6, SKV_EXCLUSIVE) == STRATAKV_OK);
  probe(b, text);
  CHECK(strcmp(text, "..xxxxxx..") == 0);
  CHECK(lock(a, 4, 2, SKV_UNLOCK) == STRATAKV_OK);
  probe(b, text);
  CHECK(strcmp(text, "..xx..xx..") == 0);
  CHECK(lock(a, 3, 4, SKV_SHARED) == STRATAKV_OK);
  probe(b, text);
  CHECK(strcmp(text, "..x....x..") == 0);
  CHECK(lock(b, 3, 4, SKV_EXCLUSIVE) == STRATAKV_BUSY);
  CHECK(lock(a, 0, 100, SKV_UNLOCK) == STRATAKV_OK);
  CHECK(lock(b, 0, 100, SKV_EXCLUSIVE) == STRATAKV_OK);
  CHECK(lock(b, 0, 100, SKV_UNLOCK) == STRATAKV_OK);
  CHECK(lock(r, 0, 1, SKV_SHARED) == STRATAKV_OK);
  CHECK(lock(r, 5, 1, SKV_EXCLUSIVE) == STRATAKV_IOERR); /* read only */
  env->file_close(a);
  env->file_close(b);
  env->file_close(r);
}

/* ---- Time, chance, identity -------------------------------------------- */

typedef struct waiter {
  skv_env *env;
  _Atomic uint32_t word;
} waiter;

static void *wait_for_word(void *arg) {
  waiter *w = arg;
  while (atomic_load(&w->word) == 0) {
    w->env->wait(w->env, (const uint32_t *)&w->word, 0, 1000000000u);
  }
  return NULL;
}

static void test_wait(skv_env *env) {
  waiter w = {.env = env};
  skv_thread thread;
  uint64_t start = env->now(env);
  env->wait(env, (const uint32_t *)&w.word, 1, 10000000000u); /* differs */
  CHECK(env->now(env) - start < 5000000000u);
  start = env->now(env);
  env->wait(env, (const uint32_t *)&w.word, 0, 1000000u); /* times out */
  CHECK(env->now(env) - start < 5000000000u);
  CHECK(skv_thread_start(&thread, "waiter", wait_for_word, &w, NULL) ==
        STRATAKV_OK);
  atomic_store(&w.word, 1);
  env->wake(env, (const uint32_t *)&w.word);
  skv_thread_join(&thread);
}

static void test_misc(const world *w) {
  skv_env *env = w->env;
  uint8_t a[300] = {0}, b[300] = {0}, id[16] = {0}, id2[16] = {1};
  char program[16];
  CHECK(env->random(env, a, sizeof a, NULL) == STRATAKV_OK);
  CHECK(env->random(env, b, sizeof b, NULL) == STRATAKV_OK);
  CHECK(memcmp(a, b, sizeof a) != 0);
  CHECK(memcmp(a + 200, b + 100, 100) != 0);
  env->boot_id(env, id);
  w->other->boot_id(w->other, id2);
  CHECK(memcmp(id, id2, 16) == 0 && id[8] + id[9] + id[10] != 0);
  env->program(env, program);
  CHECK(program[0] != '\0' && memchr(program, 0, 16) != NULL);
  CHECK(env->pid(env) > 0);
  CHECK(env->wall(env) > 1700000000ull * 1000000000u);
  uint64_t start = env->now(env);
  env->sleep(env, 2000000);
  CHECK(env->now(env) - start >= 2000000);
  test_wait(env);
}

/* A second name keeps the bytes; a directory goes when it is empty. */
static void test_link(const world *w) {
  skv_env *env = w->env;
  skv_dir *from = open_dir(env, w->base, "from", SKV_DIR_CREATE);
  skv_dir *to = open_dir(env, w->base, "to", SKV_DIR_CREATE);
  skv_file *file = open_file(from, "a", MAKE);
  char text[4] = {0};
  size_t got = 0;
  CHECK(env->file_write(file, 0, "abcd", 4, NULL) == STRATAKV_OK);
  env->file_close(file);
  int rc = env->dir_link(from, "a", to, "b", NULL);
  if (rc == STRATAKV_OK) {
    CHECK(env->dir_link(from, "a", to, "b", NULL) == STRATAKV_CONSTRAINT);
    CHECK(env->dir_link(from, "c", to, "d", NULL) == STRATAKV_NOTFOUND);
    CHECK(env->dir_unlink(from, "a", NULL) == STRATAKV_OK);
    file = open_file(to, "b", 0);
    CHECK(env->file_read(file, 0, text, 4, NULL, &got) == STRATAKV_OK);
    CHECK(got == 4 && memcmp(text, "abcd", 4) == 0);
    env->file_close(file);
    CHECK(env->dir_remove(to, NULL) != STRATAKV_OK);
    CHECK(env->dir_unlink(to, "b", NULL) == STRATAKV_OK);
  } else {
    CHECK(rc == STRATAKV_CANTOPEN && w->no_links);
    CHECK(env->dir_remove(from, NULL) != STRATAKV_OK);
  }
  int made = SKV_DIR_CREATE | SKV_DIR_EXCLUSIVE;
  CHECK(dir_code(env, w->base, "to", made, NULL) == STRATAKV_CONSTRAINT);
  CHECK(env->dir_remove(to, NULL) == STRATAKV_OK);
  CHECK(env->dir_remove(to, NULL) != STRATAKV_OK);
  env->dir_close(from);
  env->dir_close(to);
  CHECK(dir_code(env, w->base, "to", 0, NULL) == STRATAKV_CANTOPEN);
}

static void test_world(const world *w) {
  check_where = w->env->name;
  test_dir_open(w);
  test_beneath(w);
  test_dir_entries(w);
  test_link(w);
  skv_dir *d = open_dir(w->env, w->base, "files", SKV_DIR_CREATE);
  test_file_open(w, d);
  test_file_io(w, d);
  test_file_size(w, d);
  test_map(w, d);
  test_lock(w, d);
  test_lock_ranges(w, d);
  w->env->dir_close(d);
  test_misc(w);
  check_where = "";
}

/* ---- Only the real one ------------------------------------------------- */

/* The file's path in the test's directory. */
static const char *at(const world *w, const char *name) {
  static char path[5000];
  snprintf(path, sizeof path, "%s/%s", w->base, name);
  return path;
}

static void test_symlinks(const world *w) {
  skv_err err;
  skv_env *env = w->env;
  CHECK(symlink("d", at(w, "link")) == 0);
  CHECK(dir_code(env, w->base, "link", 0, &err) == STRATAKV_OK);
  CHECK(dir_code(env, w->base, "link/e", 0, &err) == STRATAKV_OK);
  CHECK(dir_code(env, w->base, "link", SKV_DIR_BENEATH, &err) == STRATAKV_AUTH);
  CHECK(dir_code(env, w->base, "link/e", SKV_DIR_BENEATH, &err) ==
        STRATAKV_AUTH);
  CHECK(dir_code(env, w->base, "link/new", SKV_DIR_BENEATH | SKV_DIR_CREATE,
                 &err) == STRATAKV_AUTH);
  CHECK(access(at(w, "d/new"), F_OK) != 0);
}

/* The walk that stands in for openat2 decides as it does. */
static void test_walk(const world *w) {
  static const struct {
    const char *path;
    int number; /* errno, 0: opens */
  } cases[] = {
      {"d", 0},
      {"d/e", 0},
      {"./d//e/", 0},
      {"..", EXDEV},
      {"/", EXDEV},
      {"link", ELOOP},
      {"link/e", ELOOP},
      {"none", ENOENT},
      {"files/f", ENOTDIR},
      {"d/../../x", EXDEV},
  };
  int base = open(w->base, O_PATH | O_DIRECTORY | O_CLOEXEC);
  CHECK(base >= 0);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int fd = skv_posix_open_walk(base, cases[i].path);
    int number = fd < 0 ? errno : 0;
    if (!CHECK(number == cases[i].number)) {
      printf("  %s: %s\n", cases[i].path, strerror(number));
    }
    if (fd >= 0) close(fd);
  }
  close(base);
}

/* Nothing but regular files is opened, and nothing waits. */
static void test_odd_files(const world *w) {
  skv_dir *d = open_dir(w->env, w->base, "files", 0);
  CHECK(mkfifo(at(w, "files/fifo"), 0600) == 0);
  CHECK(symlink("f", at(w, "files/flink")) == 0);
  CHECK(file_code(d, "fifo", 0) == STRATAKV_CANTOPEN);
  CHECK(file_code(d, "fifo", MAKE) == STRATAKV_CANTOPEN);
  CHECK(file_code(d, "flink", 0) == STRATAKV_CANTOPEN);
  CHECK(file_code(d, "flink", MAKE) == STRATAKV_CANTOPEN);
  skv_file *f = open_file(d, "mode", MAKE);
  struct stat st;
  CHECK(stat(at(w, "files/mode"), &st) == 0 && (st.st_mode & 0777) == 0600);
  CHECK(fcntl(((skv_posix_file *)f)->fd, F_GETFD) == FD_CLOEXEC);
  w->env->file_close(f);
  w->env->dir_close(d);
}

/* Descriptors run out between making a directory and opening it: it is not
 * left behind. */
static void test_half_made(const world *w) {
  static const char *const paths[] = {"half", "files/half"};
  for (int i = 0; i < 2; i++) {
    unsigned failed = 0;
    int rc = STRATAKV_CANTOPEN;
    for (unsigned more = 0; rc == STRATAKV_CANTOPEN && more < 20; more++) {
      struct rlimit old, low;
      struct stat st;
      skv_dir *d = NULL;
      int next = dup(0);
      close(next);
      CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
      low = old;
      low.rlim_cur = (rlim_t)next + more;
      CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
      rc = w->env->dir_open(w->env, w->base, paths[i],
                            SKV_DIR_CREATE | SKV_DIR_EXCLUSIVE, NULL, &d);
      CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
      bool is_there = stat(at(w, paths[i]), &st) == 0;
      CHECK(is_there == (rc == STRATAKV_OK));
      failed += rc != STRATAKV_OK;
      if (rc == STRATAKV_OK) CHECK(w->env->dir_remove(d, NULL) == STRATAKV_OK);
      w->env->dir_close(d);
    }
    CHECK(rc == STRATAKV_OK && failed > 1);
  }
}

/* Descriptors 0 to 2 are left to what prints; none left is CANTOPEN; a file
 * that may not grow is FULL. */
static void test_limits(const world *w) {
  skv_dir *d = open_dir(w->env, w->base, "files", 0);
  int input = dup(0);
  close(0);
  skv_file *f = open_file(d, "limit", MAKE);
  CHECK(((skv_posix_file *)f)->fd > 2);
  if (input >= 0) CHECK(dup2(input, 0) == 0 && close(input) == 0);

  struct rlimit old, low;
  CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
  low = old;
  low.rlim_cur = 3;
  CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
  CHECK(file_code(d, "limit", 0) == STRATAKV_CANTOPEN);
  CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);

  test_half_made(w);

  CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
  low = old;
  low.rlim_cur = 5;
  signal(SIGXFSZ, SIG_DFL); /* it is not raised */
  CHECK(setrlimit(RLIMIT_FSIZE, &low) == 0);
  int most = put(f, 0, "12345"), rc = put(f, 0, "1234567890");
  int allocated = w->env->file_allocate(f, 100, NULL);
  int grown = w->env->file_truncate(f, 6, NULL);
  CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
  CHECK(most == STRATAKV_OK && rc == STRATAKV_FULL);
  CHECK(allocated == STRATAKV_FULL && grown == STRATAKV_FULL);
  CHECK(size_of(f) == 5);
  w->env->file_close(f);
  w->env->dir_close(d);
}

/* The program of the child: its copy of the lock's descriptor is closed. */
static int fork_child(uint32_t generation, skv_file *f, skv_file *kept) {
  if (skv_fork_generation() == generation) return 2;
  if (((skv_posix_file *)f)->fd != -1) return 3;
  if (((skv_posix_file *)kept)->fd < 0) return 4;
  skv_fork_hold(f->env);
  skv_fork_close_remove(f);
  f->env->file_close(f);
  skv_fork_let_go(skv_env_posix());
  return 0;
}

static void test_fork(const world *w) {
  skv_dir *d = open_dir(w->env, w->base, "files", 0);
  skv_file *f = open_file(d, "lock", RW);
  skv_file *g = open_file(d, "lock", RW);
  uint32_t generation = skv_fork_generation();
  int go[2];
  skv_fork_hold(f->env);
  CHECK(skv_fork_close_add(f) == STRATAKV_OK);
  skv_fork_let_go(skv_env_posix());
  CHECK(lock(f, 0, 1, SKV_EXCLUSIVE) == STRATAKV_OK);
  CHECK(pipe(go) == 0);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    char c;
    close(go[1]);
    int status = fork_child(generation, f, g);
    if (read(go[0], &c, 1) != 0) status = 5; /* until the parent is done */
    _exit(status);
  }
  CHECK(child > 0 && skv_fork_generation() == generation);
  CHECK(lock(g, 0, 1, SKV_SHARED) == STRATAKV_BUSY); /* ours still */
  skv_fork_hold(f->env);
  skv_fork_close_remove(f);
  skv_fork_close_remove(f);
  skv_fork_let_go(skv_env_posix());
  w->env->file_close(f);
  close(go[0]);
  int status = -1;
  bool is_free = false; /* the child may be slow to close its copy */
  for (int i = 0; i < 1000 && !is_free; i++) {
    is_free = lock(g, 0, 1, SKV_SHARED) == STRATAKV_OK;
    if (!is_free) w->env->sleep(w->env, 5000000);
  }
  CHECK(is_free);
  close(go[1]);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  w->env->file_close(g);
  w->env->dir_close(d);
}

/* ---- Only the one in memory -------------------------------------------- */

static void test_mem_processes(void) {
  size_t before = skv_alloc_count();
  skv_env *one = skv_env_mem_new();
  skv_env *two = skv_env_mem_process(one);
  skv_env *elsewhere = skv_env_mem_new();
  CHECK(one->pid(one) != two->pid(two));
  skv_dir *d1 = open_dir(one, NULL, "/s", SKV_DIR_CREATE);
  skv_dir *d2 = open_dir(two, NULL, "s", 0);
  skv_err err;
  CHECK(dir_code(elsewhere, NULL, "/s", 0, &err) == STRATAKV_CANTOPEN);
  skv_env_mem_free(elsewhere);
  skv_file *f1 = open_file(d1, "f", MAKE);
  skv_file *f2 = open_file(d2, "f", RW);
  void *p1 = NULL, *p2 = NULL;
  CHECK(one->file_allocate(f1, PAGE, NULL) == STRATAKV_OK);
  CHECK(one->file_map(f1, PAGE, true, false, NULL, &p1) == STRATAKV_OK);
  CHECK(two->file_map(f2, PAGE, true, false, NULL, &p2) == STRATAKV_OK);
  CHECK(lock(f1, 0, 1, SKV_EXCLUSIVE) == STRATAKV_OK);
  CHECK(lock(f2, 0, 1, SKV_EXCLUSIVE) == STRATAKV_BUSY);
  memcpy(p1, "last words", 10);
  skv_env_mem_free(one); /* with everything open, as a killed process */
  CHECK(lock(f2, 0, 1, SKV_EXCLUSIVE) == STRATAKV_OK);
  CHECK(memcmp(p2, "last words", 10) == 0 && has(f2, 0, "last words", 10));
  CHECK(two->file_truncate(f2, 0, NULL) == STRATAKV_OK);
  CHECK(two->file_allocate(f2, (uint64_t)1 << 40, NULL) == STRATAKV_FULL);
  CHECK(two->dir_unlink(d2, "f", NULL) == STRATAKV_OK);
  skv_env_mem_free(two);
  skv_env_mem_free(NULL);
  CHECK(skv_alloc_count() == before);
}

/* Every allocation fails in turn; nothing leaks and the next try works. */
static int fail_nth(void *arg, size_t size) {
  SKV_UNUSED(size);
  int *left = arg;
  return --*left == 0;
}

static int mem_workload(void) {
  int rc = STRATAKV_NOMEM;
  skv_dir *d = NULL;
  skv_file *f = NULL;
  void *p = NULL;
  skv_env *env = skv_env_mem_new();
  if (env == NULL) return rc;
  rc = env->dir_open(env, NULL, "/d", SKV_DIR_CREATE, NULL, &d);
  if (rc == STRATAKV_OK) rc = env->file_open(d, "f", MAKE, NULL, &f);
  if (rc == STRATAKV_OK) rc = put(f, 0, "text");
  if (rc == STRATAKV_OK) rc = env->file_map(f, 4, true, false, NULL, &p);
  if (rc == STRATAKV_OK) rc = lock(f, 0, 10, SKV_EXCLUSIVE);
  if (rc == STRATAKV_OK) rc = lock(f, 3, 1, SKV_UNLOCK);
  skv_env_mem_free(env);
  return rc;
}

static void test_mem_oom(void) {
  size_t before = skv_alloc_count();
  int n = 0, rc;
  do {
    int left = ++n;
    skv_alloc_set_hook(fail_nth, &left);
    rc = mem_workload();
    skv_alloc_set_hook(NULL, NULL);
    CHECK(rc == STRATAKV_NOMEM || left > 0);
    CHECK(skv_alloc_count() == before);
  } while (rc != STRATAKV_OK && n < 100);
  CHECK(rc == STRATAKV_OK && n > 5);
}

/* ---- Faults ------------------------------------------------------------ */

static void test_fault(void) {
  skv_env *mem = skv_env_mem_new();
  skv_env *env = skv_env_fault_new(mem);
  skv_dir *d = open_dir(env, NULL, "/s", SKV_DIR_CREATE);
  skv_file *f = open_file(d, "1.wal", MAKE);
  skv_file *g = open_file(d, "1.seg", MAKE);
  skv_fault fault = {.operation = "file_write", .file = "*.wal", .nth = 2};
  skv_env_fault_set(env, &fault);
  CHECK(put(g, 0, "x") == STRATAKV_OK && put(f, 0, "x") == STRATAKV_OK);
  CHECK(put(f, 0, "y") == STRATAKV_IOERR && put(f, 1, "y") == STRATAKV_OK);
  CHECK(has(f, 0, "xy", 2));
  CHECK(skv_env_fault_calls(env) == 3 && skv_env_fault_fired(env) == 1);

  fault.is_forever = fault.is_partial = true;
  fault.nth = 1;
  fault.code = STRATAKV_FULL;
  skv_env_fault_set(env, &fault);
  CHECK(put(f, 0, "abcd") == STRATAKV_FULL && has(f, 0, "ab", 2));
  CHECK(size_of(f) == 2 && put(f, 0, "abcd") == STRATAKV_FULL);
  CHECK(skv_env_fault_fired(env) == 2);

  fault = (skv_fault){.operation = "*_sync*", .nth = 1, .is_lying = true};
  skv_env_fault_set(env, &fault);
  CHECK(env->file_sync(f, NULL) == STRATAKV_IOERR_FSYNC);
  CHECK(env->file_sync(f, NULL) == STRATAKV_OK);
  CHECK(env->dir_sync(d, NULL) == STRATAKV_OK);
  CHECK(skv_env_fault_calls(env) == 3 && skv_env_fault_fired(env) == 1);

  fault = (skv_fault){.operation = "dir_rename", .file = "b", .nth = 1};
  skv_env_fault_set(env, &fault);
  CHECK(env->dir_rename(d, "1.seg", "b", NULL) == STRATAKV_IOERR);
  CHECK(file_code(d, "1.seg", 0) == STRATAKV_OK);
  skv_env_fault_set(env, NULL);
  CHECK(env->dir_rename(d, "1.seg", "b", NULL) == STRATAKV_OK);
  CHECK(skv_env_fault_calls(env) == 1 && skv_env_fault_fired(env) == 0);
  env->file_close(f);
  env->file_close(g);
  env->dir_close(d);
  skv_env_fault_free(env);
  skv_env_mem_free(mem);
}

/* ---- Threads ----------------------------------------------------------- */

typedef struct shared {
  skv_mutex mutex;
  skv_cond cond;
  int turn;
  bool is_blocked; /* whether signals were, in the thread */
  char name[16];   /* of the thread */
} shared;

static void *take_turns(void *arg) {
  shared *s = arg;
  sigset_t set;
  pthread_sigmask(SIG_SETMASK, NULL, &set);
  skv_mutex_lock(&s->mutex);
  s->is_blocked = sigismember(&set, SIGTERM) && sigismember(&set, SIGPROF);
  pthread_getname_np(pthread_self(), s->name, sizeof s->name);
  for (int i = 0; i < 100; i++) {
    while (s->turn % 2 == 0) skv_cond_wait(&s->cond, &s->mutex);
    s->turn++;
    skv_cond_broadcast(&s->cond);
  }
  skv_mutex_unlock(&s->mutex);
  return NULL;
}

static void test_thread(void) {
  shared s = {0};
  skv_thread thread;
  sigset_t set;
  skv_mutex_init(&s.mutex);
  skv_cond_init(&s.cond);
  CHECK(skv_mutex_try(&s.mutex));
  CHECK(!skv_cond_wait_for(&s.cond, &s.mutex, 1000000));
  CHECK(skv_thread_start(&thread, "turns of a long name", take_turns, &s,
                         NULL) == STRATAKV_OK);
  for (int i = 0; i < 100; i++) {
    while (s.turn % 2 == 1) {
      CHECK(skv_cond_wait_for(&s.cond, &s.mutex, 30000000000u));
    }
    s.turn++;
    skv_cond_signal(&s.cond);
  }
  skv_mutex_unlock(&s.mutex);
  skv_thread_join(&thread);
  CHECK(s.turn == 200 && s.is_blocked);
  CHECK(strcmp(s.name, "turns of a long") == 0);
  pthread_sigmask(SIG_SETMASK, NULL, &set);
  CHECK(!sigismember(&set, SIGTERM));
  skv_cond_clear(&s.cond);
  skv_mutex_clear(&s.mutex);
}

/* ---- The program ------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *at_level) {
  SKV_UNUSED(st);
  SKV_UNUSED(type);
  SKV_UNUSED(at_level);
  return remove(path);
}

static void test_posix(const char *base) {
  world w = {skv_env_posix(), skv_env_posix(), base, false};
  size_t before = skv_alloc_count();
  test_world(&w);
  test_symlinks(&w);
  test_walk(&w);
  test_odd_files(&w);
  test_limits(&w);
  test_fork(&w);
  CHECK(skv_alloc_count() == before);
}

static void test_mem_world(bool no_links) {
  size_t before = skv_alloc_count();
  skv_env *env = skv_env_mem_new();
  world w = {env, skv_env_mem_process(env), "/base", no_links};
  skv_mem_env_of(env)->fs->no_links = no_links;
  env->dir_close(open_dir(env, NULL, "/base", SKV_DIR_CREATE));
  test_world(&w);
  skv_env_mem_free(w.env);
  skv_env_mem_free(w.other);
  CHECK(skv_alloc_count() == before);
}

static void test_mem(void) {
  test_mem_world(false);
  test_mem_world(true);
  test_mem_processes();
  test_mem_oom();
}

int main(int argc, char **argv) {
  char made[4000], base[PATH_MAX];
  if (argc < 2 && (mkdir("build", 0777), mkdir("build/tmp", 0777)) != 0 &&
      errno != EEXIST) {
    perror("build/tmp");
    return 1;
  }
  snprintf(made, sizeof made, "%s/env_test.XXXXXX",
           argc < 2 ? "build/tmp" : argv[1]);
  if (mkdtemp(made) == NULL || realpath(made, base) == NULL) {
    perror(made);
    return 1;
  }
  test_posix(base);
  test_mem();
  test_fault();
  test_thread();
  nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  return check_end();
}
