/*
 * The real system: the table, time, chance and identity, and how errno
 * becomes an error. Directories are in env_posix_dir.c, files in
 * env_posix_file.c.
 */
#include "engine/os/env_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define POSIX_NS_PER_S 1000000000u

/* ---- Errors and descriptors -------------------------------------------- */

static int posix_is_open(const char *operation) {
  return strcmp(operation, "open") == 0 || strcmp(operation, "create") == 0;
}

static int posix_code(const char *operation, int number) {
  switch (number) {
  case ENOSPC:
  case EDQUOT:
  case EFBIG: return STRATAKV_FULL;
  case ENOENT: return STRATAKV_NOTFOUND;
  case EEXIST: return STRATAKV_CONSTRAINT;
  case ENOMEM: return STRATAKV_NOMEM;
  case EMFILE: /* whatever it was opened for */
  case ENFILE: return STRATAKV_CANTOPEN;
  case EACCES:
  case EPERM:
  case EROFS:
  case ELOOP:
  case ENOTDIR:
  case ENAMETOOLONG:
    if (posix_is_open(operation)) return STRATAKV_CANTOPEN;
    return STRATAKV_IOERR;
  default: return STRATAKV_IOERR;
  }
}

int skv_posix_error(skv_err *err, const char *operation, const char *name,
                    int number) {
  char text[128];
  const char *reason = strerror_r(number, text, sizeof text);
  return SKV_ERROR(err, posix_code(operation, number), "cannot %s %s: %s",
                   operation, name, reason);
}

int skv_posix_openat(int at, const char *path, int flags, unsigned mode) {
  int fd;
  do {
    fd = openat(at, path, flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0 || fd > 2) return fd;
  int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  int number = errno;
  close(fd);
  errno = number;
  return high;
}

/* ---- Time -------------------------------------------------------------- */

static uint64_t posix_clock(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * POSIX_NS_PER_S + (uint64_t)t.tv_nsec;
}

static struct timespec posix_timespec(uint64_t ns) {
  struct timespec t;
  t.tv_sec = (time_t)(ns / POSIX_NS_PER_S);
  t.tv_nsec = (long)(ns % POSIX_NS_PER_S);
  return t;
}

static uint64_t posix_now(skv_env *env) {
  SKV_UNUSED(env);
  return posix_clock(CLOCK_MONOTONIC);
}

static uint64_t posix_wall(skv_env *env) {
  SKV_UNUSED(env);
  return posix_clock(CLOCK_REALTIME);
}

/* Towards a fixed moment, so that signals do not lengthen it. */
static void posix_sleep(skv_env *env, uint64_t nanoseconds) {
  struct timespec end = posix_timespec(posix_now(env) + nanoseconds);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR) {
  }
}

/* The futexes are not private: the word's pages belong to several processes.
 * Any failure is an early return, which wait allows. */
static void posix_wait(skv_env *env, const uint32_t *word, uint32_t value,
                       uint64_t timeout_ns) {
  SKV_UNUSED(env);
  struct timespec timeout = posix_timespec(timeout_ns);
  syscall(SYS_futex, word, FUTEX_WAIT, value, &timeout, NULL, 0);
}

static void posix_wake(skv_env *env, const uint32_t *word) {
  SKV_UNUSED(env);
  syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* ---- Chance and identity ----------------------------------------------- */

static int posix_random(skv_env *env, void *data, size_t size, skv_err *err) {
  SKV_UNUSED(env);
  uint8_t *p = data;
  while (size > 0) {
    ssize_t n = getrandom(p, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return skv_posix_error(err, "read", "random bytes", errno);
    p += n;
    size -= (size_t)n;
  }
  return STRATAKV_OK;
}

/* The start of a small file under /proc as text; empty if unreadable. */
static void posix_read_text(const char *path, char *text, size_t size) {
  text[0] = '\0';
  int fd = skv_posix_openat(AT_FDCWD, path, O_RDONLY, 0);
  if (fd < 0) return;
  ssize_t n;
  do {
    n = read(fd, text, size - 1);
  } while (n < 0 && errno == EINTR);
  text[n > 0 ? n : 0] = '\0';
  close(fd);
}

static int posix_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

static pthread_once_t posix_boot_once = PTHREAD_ONCE_INIT;
static uint8_t posix_boot_bytes[16];

/* Without /proc it stays zero: restarts are then told apart by the recovery
 * that the lone opener does anyway. */
static void posix_boot_read(void) {
  char text[64];
  posix_read_text("/proc/sys/kernel/random/boot_id", text, sizeof text);
  size_t digits = 0;
  for (const char *p = text; *p != '\0' && digits < 32; p++) {
    int v = posix_hex(*p);
    if (v < 0) continue;
    uint8_t *byte = &posix_boot_bytes[digits / 2];
    *byte = (uint8_t)(*byte << 4 | v);
    digits++;
  }
}

static void posix_boot_id(skv_env *env, uint8_t id[16]) {
  SKV_UNUSED(env);
  pthread_once(&posix_boot_once, posix_boot_read);
  memcpy(id, posix_boot_bytes, 16);
}

/* Asked each time: a forked child is another process. */
static uint32_t posix_pid(skv_env *env) {
  SKV_UNUSED(env);
  return (uint32_t)getpid();
}

/* The main thread's name; threads may have their own. */
static void posix_program(skv_env *env, char name[16]) {
  SKV_UNUSED(env);
  char text[32];
  posix_read_text("/proc/self/comm", text, sizeof text);
  text[strcspn(text, "\n")] = '\0';
  const char *found = text[0] ? text : program_invocation_short_name;
  size_t n = strnlen(found, 15);
  memcpy(name, found, n);
  memset(name + n, 0, 16 - n);
}

skv_env *skv_env_posix(void) {
  static skv_env env = {
      .name = "posix",
      .registry = {.mutex = {PTHREAD_MUTEX_INITIALIZER}},
      .dir_open = skv_posix_dir_open,
      .dir_close = skv_posix_dir_close,
      .dir_info = skv_posix_dir_info,
      .dir_list = skv_posix_dir_list,
      .dir_sync = skv_posix_dir_sync,
      .dir_sync_parent = skv_posix_dir_sync_parent,
      .dir_rename = skv_posix_dir_rename,
      .dir_unlink = skv_posix_dir_unlink,
      .dir_link = skv_posix_dir_link,
      .dir_remove = skv_posix_dir_remove,
      .dir_free = skv_posix_dir_free,
      .canonical = skv_posix_find_path,
      .file_open = skv_posix_file_open,
      .file_close = skv_posix_file_close,
      .file_size = skv_posix_file_size,
      .file_is_named = skv_posix_file_is_named,
      .file_read = skv_posix_file_read,
      .file_write = skv_posix_file_write,
      .file_sync = skv_posix_file_sync,
      .file_sync_start = skv_posix_file_sync_start,
      .file_allocate = skv_posix_file_allocate,
      .file_truncate = skv_posix_file_truncate,
      .file_advise = skv_posix_file_advise,
      .file_map = skv_posix_file_map,
      .unmap = skv_posix_unmap,
      .stored = NULL,
      .file_lock = skv_posix_file_lock,
      .now = posix_now,
      .wall = posix_wall,
      .random = posix_random,
      .boot_id = posix_boot_id,
      .pid = posix_pid,
      .program = posix_program,
      .sleep = posix_sleep,
      .wait = posix_wait,
      .wake = posix_wake,
  };
  return &env;
}
