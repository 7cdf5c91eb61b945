/*
 * What is done around the engine, on the real system: a program forks while
 * other threads open and close stores, or runs as the superuser; a store is
 * copied with holes, or removed while it is open.
 *
 *   fork  a child opens stores whatever its parent's threads were at; it has
 *         no descriptor of LOCK, from whatever moment it is a copy
 *   root  what the superuser makes in a user's store is the user's, but a name
 *         that was there is not given away (for the superuser only)
 *   group a store in a directory of a group is the group's, whatever the umask
 *         of those who write it, and a store that was made is the user's alone
 *         (for the superuser only)
 *   holes a store that was copied with holes is filled before it is mapped
 *   gone  who has a store open that is removed is told, in every mode
 *
 * Usage: host_test [directory]. Covers: INV-9
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/os/env_posix.h"
#include "engine/store/store.h"
#include "test/c/db_fixture.h"

#define CHILDREN 20
#define CHILD_S 20 /* a child that is alive by then hangs */

static char base[4096];

static const char *path_of(const char *name) {
  static _Thread_local char path[sizeof base + 64];
  snprintf(path, sizeof path, "%s/%s", base, name);
  return path;
}

/* ---- A child opens stores ---------------------------------------------- */

static int open_close(const char *name) {
  stratakv_options options;
  stratakv_store *store;
  stratakv_options_init(&options);
  options.create = 1;
  options.sync = STRATAKV_SYNC_OFF;
  options.wal_size = 65536;
  int rc = stratakv_open(path_of(name), &options, &fixture_err, &store);
  return rc == STRATAKV_OK ? stratakv_close(store, &fixture_err) : rc;
}

static atomic_bool churn_ends;
static atomic_uint churns;

static void *churn(void *arg) {
  while (!atomic_load(&churn_ends)) {
    if (open_close("churned") != STRATAKV_OK) return arg;
    atomic_fetch_add(&churns, 1);
  }
  return NULL;
}

static void test_fork_opens(void) {
  pthread_t thread;
  void *failed = NULL;
  if (!CHECK(pthread_create(&thread, NULL, churn, base) == 0)) return;
  while (atomic_load(&churns) == 0) usleep(1000);
  for (int i = 0; i < CHILDREN; i++) {
    int status = -1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
      alarm(CHILD_S);
      _exit(open_close("child's"));
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    if (!CHECK(status == 0)) break;
    usleep(1000);
  }
  atomic_store(&churn_ends, true);
  CHECK(pthread_join(thread, &failed) == 0 && failed == NULL);
}

/* ---- A child has no LOCK ----------------------------------------------- */

/* A thread that forks a child when it is told. */
static struct {
  atomic_bool asked, done;
  pid_t pid;
  int begun[2]; /* the child says that its fork handler is over */
  int end[2];   /* the child lives until the parent closes its end */
} forker;

static void *forker_main(void *arg) {
  while (!atomic_load(&forker.asked)) usleep(100);
  fflush(stdout);
  forker.pid = fork();
  if (forker.pid == 0) {
    char c;
    close(forker.end[1]);
    if (write(forker.begun[1], "x", 1) != 1) _exit(2);
    _exit(read(forker.end[0], &c, 1) == 0 ? 0 : 1);
  }
  atomic_store(&forker.done, true);
  return arg;
}

/* Have it fork now if it can; a fork that has to wait comes soon after. */
static void fork_now(void) {
  atomic_store(&forker.asked, true);
  for (int i = 0; i < 200 && !atomic_load(&forker.done); i++) usleep(1000);
}

static skv_env real;

static bool is_lock(skv_file *file) {
  return strcmp(((skv_posix_file *)file)->name, "LOCK") == 0;
}

static int open_and_fork(skv_dir *dir, const char *name, int flags,
                         skv_err *err, skv_file **out) {
  int rc = real.file_open(dir, name, flags, err, out);
  if (rc == STRATAKV_OK && is_lock(*out) && !atomic_load(&forker.asked))
    fork_now();
  return rc;
}

static void close_and_fork(skv_file *file) {
  if (is_lock(file) && !atomic_load(&forker.asked)) fork_now();
  real.file_close(file);
}

/* Lock, and let a child be made in the moment of that hook. */
static void test_fork_lock(bool at_open) {
  skv_env *env = skv_env_posix();
  skv_store *a = NULL, *b = NULL;
  pthread_t thread;
  skv_err err;
  memset(&forker, 0, sizeof forker);
  char c;
  if (!CHECK(pipe(forker.begun) == 0 && pipe(forker.end) == 0)) return;
  if (!OK(skv_store_open(env, NULL, path_of("locked"), SKV_DIR_CREATE, &err,
                         &a)))
    return;
  CHECK(pthread_create(&thread, NULL, forker_main, NULL) == 0);
  real = *env;
  if (at_open) env->file_open = open_and_fork;
  OK(skv_store_lock_open(a, true, &err));
  OK(skv_store_lock(a, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, &err));
  if (!at_open) env->file_close = close_and_fork;
  skv_store_close(a);
  env->file_open = real.file_open;
  env->file_close = real.file_close;
  CHECK(pthread_join(thread, NULL) == 0 && forker.pid > 0);
  CHECK(read(forker.begun[0], &c, 1) == 1);
  OK(skv_store_open(env, NULL, path_of("locked"), 0, &err, &b));
  OK(skv_store_lock_open(b, true, &err));
  OK(skv_store_lock(b, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, &err));
  skv_store_close(b);
  for (int i = 0; i < 2; i++) {
    close(forker.begun[i]);
    close(forker.end[i]);
  }
  CHECK(waitpid(forker.pid, NULL, 0) == forker.pid);
}

/* ---- The superuser in a user's store ----------------------------------- */

#define USER 65534u
#define GROUP 4321

/* Put enough for a few logs and segments. */
static int fill(const char *name) {
  static char value[1000];
  stratakv_options options;
  stratakv_table_info table;
  stratakv_store *store;
  stratakv_options_init(&options);
  options.create = 1;
  options.sync = STRATAKV_SYNC_OFF;
  options.wal_size = 65536;
  int rc = stratakv_open(path_of(name), &options, &fixture_err, &store);
  if (rc != STRATAKV_OK) return rc;
  rc = stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table);
  for (unsigned i = 0; rc == STRATAKV_OK && i < 200; i++)
    rc = stratakv_put(store, table.id, &i, sizeof i, value, sizeof value,
                      &fixture_err, NULL);
  if (rc == STRATAKV_OK) rc = stratakv_flush(store, &fixture_err);
  int closed = stratakv_close(store, &fixture_err);
  return rc == STRATAKV_OK ? closed : rc;
}

static int look(const char *name) { return access(path_of(name), X_OK) != 0; }

static int as(uid_t user, gid_t group, int (*act)(const char *name),
              const char *name) {
  int status = -1;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    if (setgid(group) != 0 || setuid(user) != 0) _exit(99);
    _exit(act(name));
  }
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
  return status;
}

static int as_user(int (*act)(const char *name), const char *name) {
  return as(USER, USER, act, name);
}

static unsigned owner_of(const char *name) {
  struct stat st;
  return stat(path_of(name), &st) == 0 ? (unsigned)st.st_uid : 0xffffffff;
}

static void test_root(void) {
  if (geteuid() != 0) return;
  CHECK(chmod(base, 0755) == 0 && mkdir(path_of("users"), 0700) == 0);
  CHECK(chown(path_of("users"), USER, USER) == 0);
  if (as_user(look, "users") != 0) {
    puts("no user can reach this directory: not tested");
    return;
  }
  CHECK(as_user(fill, "users") == 0);
  OK(fill("users"));
  CHECK(as_user(fill, "users") == 0);
  OK(fill("users"));
  CHECK(owner_of("users/CURRENT") == USER && owner_of("users/LOCK") == USER);

  /* A trap: LOCK is a link to a file that is not the user's. */
  char trap[sizeof base + 64];
  CHECK(mkdir(path_of("trap"), 0700) == 0);
  CHECK(chown(path_of("trap"), USER, USER) == 0);
  snprintf(trap, sizeof trap, "%s", path_of("secret"));
  FILE *secret = fopen(trap, "w");
  CHECK(secret != NULL && fclose(secret) == 0);
  CHECK(link(trap, path_of("trap/LOCK")) == 0);
  OK(fill("trap"));
  CHECK(owner_of("secret") == 0 && owner_of("trap/SHARED") == USER);
}

/* The modes of a store's files, or'ed and and'ed, without the file type. */
static void modes_of(const char *name, unsigned *any, unsigned *all) {
  char path[sizeof base + 64];
  struct stat st;
  snprintf(path, sizeof path, "%s", path_of(name));
  DIR *dir = opendir(path);
  *any = 0;
  *all = 07777;
  if (!CHECK(dir != NULL)) return;
  for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
    if (e->d_name[0] == '.') continue;
    CHECK(fstatat(dirfd(dir), e->d_name, &st, 0) == 0);
    *any |= st.st_mode & 07777;
    *all &= st.st_mode & 07777;
  }
  closedir(dir);
}

static int fill_masked(const char *name) {
  umask(0277);
  return fill(name);
}

static void test_group(void) {
  unsigned any, all;
  if (geteuid() != 0) return;
  umask(0);
  OK(fill("alone"));
  OK(fill_masked("alone"));
  modes_of("alone", &any, &all);
  CHECK(any == 0600 && all == 0600);
  CHECK(chmod(base, 0755) == 0 && mkdir(path_of("group"), 0700) == 0);
  CHECK(chown(path_of("group"), 0, GROUP) == 0);
  CHECK(chmod(path_of("group"), 0770) == 0);
  umask(022);
  if (as(USER, GROUP, look, "group") != 0) return; /* as test_root */
  CHECK(as(USER, GROUP, fill_masked, "group") == 0);
  CHECK(as(USER + 1, GROUP, fill, "group") == 0);
  CHECK(as(USER, GROUP, fill, "group") == 0);
  CHECK(as(USER, USER, fill, "group") != 0);
  OK(fill("group"));
  CHECK(as(USER + 1, GROUP, fill, "group") == 0);
  modes_of("group", &any, &all);
  CHECK(any == 0660 && all == 0660);
  CHECK(mkdir(path_of("open"), 0700) == 0 && chmod(path_of("open"), 0777) == 0);
  OK(fill("open"));
  modes_of("open", &any, &all);
  CHECK(any == 0660 && all == 0660);
}

/* ---- A copy with holes --------------------------------------------------- */

static void test_holes(void) {
  char page[4096];
  struct stat st;
  OK(fill("holes"));
  FILE *shared = fopen(path_of("holes/SHARED"), "r+");
  if (!CHECK(shared != NULL)) return;
  CHECK(fread(page, sizeof page, 1, shared) == 1);
  CHECK(ftruncate(fileno(shared), 0) == 0 && fseek(shared, 0, SEEK_SET) == 0);
  CHECK(fwrite(page, sizeof page, 1, shared) == 1 && fflush(shared) == 0);
  CHECK(ftruncate(fileno(shared), SKV_SHARED_SIZE) == 0);
  CHECK(fclose(shared) == 0);
  OK(fill("holes"));
  CHECK(stat(path_of("holes/SHARED"), &st) == 0 &&
        st.st_blocks * 512 >= SKV_SHARED_SIZE);
}

/* ---- A store that is removed --------------------------------------------- */

static void test_gone(int sync) {
  char command[sizeof base + 16];
  stratakv_options options;
  stratakv_table_info table;
  stratakv_store *store;
  stratakv_options_init(&options);
  options.create = 1;
  options.sync = sync;
  if (!OK(stratakv_open(path_of("gone"), &options, &fixture_err, &store)))
    return;
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table));
  OK(stratakv_put(store, table.id, "a", 1, "b", 1, &fixture_err, NULL));
  snprintf(command, sizeof command, "rm -rf '%s'", path_of("gone"));
  CHECK(system(command) == 0);
  int rc = STRATAKV_OK;
  for (int i = 0; i < 20000 && rc == STRATAKV_OK; i++) {
    rc = stratakv_put(store, table.id, "a", 1, "c", 1, &fixture_err, NULL);
    if (sync == STRATAKV_SYNC_FULL) break; /* at once */
    usleep(1000);
  }
  CHECK(rc == STRATAKV_IOERR);
  FAILS(STRATAKV_IOERR, stratakv_close(store, &fixture_err));
}

int main(int argc, char **argv) {
  snprintf(base, sizeof base, "%s/host_test.XXXXXX", argc > 1 ? argv[1] : ".");
  if (mkdtemp(base) == NULL) {
    perror(base);
    return 1;
  }
  test_fork_opens();
  test_fork_lock(true);
  test_fork_lock(false);
  test_root();
  test_group();
  test_holes();
  test_gone(STRATAKV_SYNC_FULL);
  test_gone(STRATAKV_SYNC_NORMAL);
  test_gone(STRATAKV_SYNC_OFF);
  char command[sizeof base + 16];
  snprintf(command, sizeof command, "rm -rf '%s'", base);
  CHECK(system(command) == 0);
  return check_end();
}
