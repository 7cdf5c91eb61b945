/*
 * The failing environment. See env_fault.h.
 *
 * Each function asks fault_check and then forwards; functions that cannot
 * fail, and closing, only forward.
 */
#include "engine/os/env_fault.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/os/thread.h"
#include "engine/util/alloc.h"

#define FAULT_NAME_SIZE 64

typedef struct fault_env {
  skv_env base;
  skv_env *inner;
  skv_mutex mutex; /* guards the rest */
  skv_fault fault;
  uint64_t calls;
  uint64_t fired;
  skv_fault_seen seen;
  void *seen_arg;
  const char *only_while; /* a path: counted only while it exists; or NULL */
} fault_env;

typedef struct fault_dir {
  skv_dir base;
  skv_dir *inner;
} fault_dir;

typedef struct fault_file {
  skv_file base;
  skv_file *inner;
  char name[FAULT_NAME_SIZE];
} fault_file;

static fault_env *fault_env_of(skv_env *env) { return (fault_env *)env; }

static skv_env *fault_inner(skv_env *env) { return fault_env_of(env)->inner; }

static skv_dir *fault_inner_dir(skv_dir *dir) {
  return ((fault_dir *)dir)->inner;
}

static skv_file *fault_inner_file(skv_file *file) {
  return ((fault_file *)file)->inner;
}

/* ---- Deciding ---------------------------------------------------------- */

#define FAULT_LIE (-1) /* report success, do nothing */

static bool fault_matches(const char *pattern, const char *text) {
  return pattern == NULL || fnmatch(pattern, text, 0) == 0;
}

static bool fault_is_sync(const char *operation) {
  return fault_matches("*_sync*", operation);
}

/* What this call comes to: OK to forward it, FAULT_LIE, or a code. */
static int fault_decide(fault_env *env, const char *operation,
                        const char *file) {
  const skv_fault *f = &env->fault;
  if (!fault_matches(f->operation, operation)) return STRATAKV_OK;
  if (!fault_matches(f->file, file)) return STRATAKV_OK;
  if (env->only_while != NULL && access(env->only_while, F_OK) != 0) {
    env->calls = 0;
    return STRATAKV_OK;
  }
  env->calls++;
  if (f->nth == 0 || env->calls < f->nth) return STRATAKV_OK;
  if (env->calls > f->nth && f->is_lying && fault_is_sync(operation)) {
    return FAULT_LIE;
  }
  if (env->calls > f->nth && !f->is_forever) return STRATAKV_OK;
  env->fired++;
  if (f->code != STRATAKV_OK) return f->code;
  return fault_is_sync(operation) ? STRATAKV_IOERR_FSYNC : STRATAKV_IOERR;
}

static int fault_ask(skv_env *base, const char *operation, const char *file,
                     skv_file *inner, skv_err *err) {
  fault_env *env = fault_env_of(base);
  skv_mutex_lock(&env->mutex);
  uint64_t calls = env->calls, fired = env->fired;
  int rc = fault_decide(env, operation, file);
  if (env->seen != NULL && env->calls > calls)
    env->seen(env->seen_arg, operation, inner, env->fired > fired);
  skv_mutex_unlock(&env->mutex);
  if (rc == STRATAKV_OK || rc == FAULT_LIE) return rc;
  return SKV_ERROR(err, rc, "injected failure: %s %s", operation, file);
}

static int fault_check(skv_env *base, const char *operation, const char *file,
                       skv_err *err) {
  return fault_ask(base, operation, file, NULL, err);
}

/* The fault of the moment. */
static skv_fault fault_current(skv_env *base) {
  fault_env *env = fault_env_of(base);
  skv_mutex_lock(&env->mutex);
  skv_fault fault = env->fault;
  skv_mutex_unlock(&env->mutex);
  return fault;
}

static int fault_check_file(skv_file *file, const char *operation,
                            skv_err *err) {
  return fault_ask(file->env, operation, ((fault_file *)file)->name,
                   fault_inner_file(file), err);
}

/* ---- Directories ------------------------------------------------------- */

static int fault_dir_open(skv_env *env, const char *base, const char *path,
                          int flags, skv_err *err, skv_dir **out) {
  *out = NULL;
  int rc = fault_check(env, "dir_open", path, err);
  if (rc != STRATAKV_OK) return rc;
  fault_dir *dir = skv_new(sizeof *dir, &rc);
  if (dir == NULL) return skv_error_nomem(err);
  dir->base.env = env;
  skv_env *inner = fault_inner(env);
  rc = inner->dir_open(inner, base, path, flags, err, &dir->inner);
  if (rc != STRATAKV_OK) {
    skv_free(dir);
    return rc;
  }
  *out = &dir->base;
  return STRATAKV_OK;
}

static void fault_dir_close(skv_dir *dir) {
  if (dir == NULL) return;
  fault_inner(dir->env)->dir_close(fault_inner_dir(dir));
  skv_free(dir);
}

static int fault_dir_info(skv_dir *dir, skv_err *err, skv_dir_info *out) {
  int rc = fault_check(dir->env, "dir_info", ".", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(dir->env)->dir_info(fault_inner_dir(dir), err, out);
}

static int fault_dir_list(skv_dir *dir,
                          int (*each)(void *arg, const char *name), void *arg,
                          skv_err *err) {
  int rc = fault_check(dir->env, "dir_list", ".", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(dir->env)->dir_list(fault_inner_dir(dir), each, arg, err);
}

static int fault_dir_sync(skv_dir *dir, skv_err *err) {
  int rc = fault_check(dir->env, "dir_sync", ".", err);
  if (rc == FAULT_LIE) return STRATAKV_OK;
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(dir->env)->dir_sync(fault_inner_dir(dir), err);
}

static int fault_dir_sync_parent(skv_dir *dir, skv_err *err) {
  int rc = fault_check(dir->env, "dir_sync_parent", ".", err);
  if (rc == FAULT_LIE) return STRATAKV_OK;
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(dir->env)->dir_sync_parent(fault_inner_dir(dir), err);
}

/* One call, though two names may match. */
static int fault_dir_rename(skv_dir *dir, const char *from, const char *to,
                            skv_err *err) {
  const char *pattern = fault_current(dir->env).file;
  const char *name = fault_matches(pattern, to) ? to : from;
  int rc = fault_check(dir->env, "dir_rename", name, err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(dir->env)->dir_rename(fault_inner_dir(dir), from, to, err);
}

static int fault_dir_unlink(skv_dir *dir, const char *name, skv_err *err) {
  int rc = fault_check(dir->env, "dir_unlink", name, err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(dir->env)->dir_unlink(fault_inner_dir(dir), name, err);
}

static int fault_dir_link(skv_dir *from_dir, const char *from, skv_dir *to_dir,
                          const char *to, skv_err *err) {
  int rc = fault_check(from_dir->env, "dir_link", from, err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(from_dir->env)
      ->dir_link(fault_inner_dir(from_dir), from, fault_inner_dir(to_dir), to,
                 err);
}

static int fault_dir_remove(skv_dir *dir, skv_err *err) {
  int rc = fault_check(dir->env, "dir_remove", ".", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(dir->env)->dir_remove(fault_inner_dir(dir), err);
}

static int fault_dir_free(skv_dir *dir, skv_err *err, uint64_t *bytes) {
  *bytes = 0;
  int rc = fault_check(dir->env, "dir_free", ".", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(dir->env)->dir_free(fault_inner_dir(dir), err, bytes);
}

static int fault_find_path(skv_env *env, const char *path, skv_err *err,
                           char out[4096]) {
  int rc = fault_check(env, "canonical", path, err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(env)->canonical(fault_inner(env), path, err, out);
}

/* ---- Files ------------------------------------------------------------- */

static int fault_file_open(skv_dir *dir, const char *name, int flags,
                           skv_err *err, skv_file **out) {
  *out = NULL;
  int rc = fault_check(dir->env, "file_open", name, err);
  if (rc != STRATAKV_OK) return rc;
  fault_file *file = skv_new(sizeof *file, &rc);
  if (file == NULL) return skv_error_nomem(err);
  file->base.env = dir->env;
  snprintf(file->name, sizeof file->name, "%s", name);
  rc = fault_inner(dir->env)->file_open(fault_inner_dir(dir), name, flags, err,
                                        &file->inner);
  if (rc != STRATAKV_OK) {
    skv_free(file);
    return rc;
  }
  *out = &file->base;
  return STRATAKV_OK;
}

static void fault_file_close(skv_file *file) {
  if (file == NULL) return;
  fault_inner(file->env)->file_close(fault_inner_file(file));
  skv_free(file);
}

static int fault_file_size(skv_file *file, skv_err *err, uint64_t *size) {
  *size = 0;
  int rc = fault_check_file(file, "file_size", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(file->env)->file_size(fault_inner_file(file), err, size);
}

static bool fault_file_is_named(skv_file *file) {
  return fault_inner(file->env)->file_is_named(fault_inner_file(file));
}

static int fault_file_read(skv_file *file, uint64_t offset, void *data,
                           size_t size, skv_err *err, size_t *got) {
  *got = 0;
  int rc = fault_check_file(file, "file_read", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(file->env)->file_read(fault_inner_file(file), offset, data,
                                           size, err, got);
}

static int fault_file_write(skv_file *file, uint64_t offset, const void *data,
                            size_t size, skv_err *err) {
  skv_env *env = fault_inner(file->env);
  skv_file *inner = fault_inner_file(file);
  int rc = fault_check_file(file, "file_write", err);
  if (rc == STRATAKV_OK) {
    return env->file_write(inner, offset, data, size, err);
  }
  if (fault_current(file->env).is_partial && size > 1) {
    env->file_write(inner, offset, data, size / 2, NULL);
  }
  return rc;
}

static int fault_file_sync(skv_file *file, skv_err *err) {
  int rc = fault_check_file(file, "file_sync", err);
  if (rc == FAULT_LIE) return STRATAKV_OK;
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(file->env)->file_sync(fault_inner_file(file), err);
}

static void fault_file_sync_start(skv_file *file, uint64_t offset,
                                  uint64_t size) {
  fault_inner(file->env)->file_sync_start(fault_inner_file(file), offset, size);
}

static int fault_file_allocate(skv_file *file, uint64_t size, skv_err *err) {
  int rc = fault_check_file(file, "file_allocate", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(file->env)->file_allocate(fault_inner_file(file), size,
                                               err);
}

static int fault_file_truncate(skv_file *file, uint64_t size, skv_err *err) {
  int rc = fault_check_file(file, "file_truncate", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(file->env)->file_truncate(fault_inner_file(file), size,
                                               err);
}

static void fault_file_advise(skv_file *file, uint64_t offset, uint64_t size,
                              int advice) {
  fault_inner(file->env)->file_advise(fault_inner_file(file), offset, size,
                                      advice);
}

static int fault_file_map(skv_file *file, size_t size, bool write, bool random,
                          skv_err *err, void **out) {
  *out = NULL;
  int rc = fault_check_file(file, "file_map", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(file->env)->file_map(fault_inner_file(file), size, write,
                                          random, err, out);
}

static void fault_unmap(skv_env *env, void *map, size_t size) {
  fault_inner(env)->unmap(fault_inner(env), map, size);
}

static void fault_stored(skv_file *file, uint64_t offset, uint64_t size) {
  fault_inner(file->env)->stored(fault_inner_file(file), offset, size);
}

static int fault_file_lock(skv_file *file, uint64_t offset, uint64_t size,
                           int mode, skv_err *err) {
  int rc = fault_check_file(file, "file_lock", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(file->env)->file_lock(fault_inner_file(file), offset, size,
                                           mode, err);
}

/* ---- Time, chance, identity -------------------------------------------- */

static uint64_t fault_now(skv_env *env) {
  return fault_inner(env)->now(fault_inner(env));
}

static uint64_t fault_wall(skv_env *env) {
  return fault_inner(env)->wall(fault_inner(env));
}

static int fault_random(skv_env *env, void *data, size_t size, skv_err *err) {
  int rc = fault_check(env, "random", "", err);
  if (rc != STRATAKV_OK) return rc;
  return fault_inner(env)->random(fault_inner(env), data, size, err);
}

static void fault_boot_id(skv_env *env, uint8_t id[16]) {
  fault_inner(env)->boot_id(fault_inner(env), id);
}

static uint32_t fault_pid(skv_env *env) {
  return fault_inner(env)->pid(fault_inner(env));
}

static void fault_program(skv_env *env, char name[16]) {
  fault_inner(env)->program(fault_inner(env), name);
}

static void fault_sleep(skv_env *env, uint64_t nanoseconds) {
  fault_inner(env)->sleep(fault_inner(env), nanoseconds);
}

static void fault_wait(skv_env *env, const uint32_t *word, uint32_t value,
                       uint64_t timeout_ns) {
  fault_inner(env)->wait(fault_inner(env), word, value, timeout_ns);
}

static void fault_wake(skv_env *env, const uint32_t *word) {
  fault_inner(env)->wake(fault_inner(env), word);
}

/* ---- The environment --------------------------------------------------- */

static const skv_env fault_functions = {
    .name = "fault",
    .dir_open = fault_dir_open,
    .dir_close = fault_dir_close,
    .dir_info = fault_dir_info,
    .dir_list = fault_dir_list,
    .dir_sync = fault_dir_sync,
    .dir_sync_parent = fault_dir_sync_parent,
    .dir_rename = fault_dir_rename,
    .dir_unlink = fault_dir_unlink,
    .dir_link = fault_dir_link,
    .dir_remove = fault_dir_remove,
    .dir_free = fault_dir_free,
    .canonical = fault_find_path,
    .file_open = fault_file_open,
    .file_close = fault_file_close,
    .file_size = fault_file_size,
    .file_is_named = fault_file_is_named,
    .file_read = fault_file_read,
    .file_write = fault_file_write,
    .file_sync = fault_file_sync,
    .file_sync_start = fault_file_sync_start,
    .file_allocate = fault_file_allocate,
    .file_truncate = fault_file_truncate,
    .file_advise = fault_file_advise,
    .file_map = fault_file_map,
    .unmap = fault_unmap,
    .stored = fault_stored,
    .file_lock = fault_file_lock,
    .now = fault_now,
    .wall = fault_wall,
    .random = fault_random,
    .boot_id = fault_boot_id,
    .pid = fault_pid,
    .program = fault_program,
    .sleep = fault_sleep,
    .wait = fault_wait,
    .wake = fault_wake,
};

skv_env *skv_env_fault_new(skv_env *inner) {
  int rc = STRATAKV_OK;
  fault_env *env = skv_new(sizeof *env, &rc);
  if (env == NULL) return NULL;
  env->base = fault_functions;
  if (inner->stored == NULL) env->base.stored = NULL;
  env->inner = inner;
  skv_mutex_init(&env->mutex);
  skv_mutex_init(&env->base.registry.mutex);
  return &env->base;
}

void skv_env_fault_free(skv_env *base) {
  if (base == NULL) return;
  skv_mutex_clear(&fault_env_of(base)->mutex);
  skv_mutex_clear(&base->registry.mutex);
  skv_free(base);
}

void skv_env_fault_set(skv_env *base, const skv_fault *fault) {
  fault_env *env = fault_env_of(base);
  skv_mutex_lock(&env->mutex);
  env->fault = fault != NULL ? *fault : (skv_fault){0};
  env->calls = 0;
  env->fired = 0;
  skv_mutex_unlock(&env->mutex);
}

void skv_env_fault_watch(skv_env *base, skv_fault_seen seen, void *arg) {
  fault_env *env = fault_env_of(base);
  skv_mutex_lock(&env->mutex);
  env->seen = seen;
  env->seen_arg = arg;
  skv_mutex_unlock(&env->mutex);
}

uint64_t skv_env_fault_calls(skv_env *base) {
  fault_env *env = fault_env_of(base);
  skv_mutex_lock(&env->mutex);
  uint64_t calls = env->calls;
  skv_mutex_unlock(&env->mutex);
  return calls;
}

uint64_t skv_env_fault_fired(skv_env *base) {
  fault_env *env = fault_env_of(base);
  skv_mutex_lock(&env->mutex);
  uint64_t fired = env->fired;
  skv_mutex_unlock(&env->mutex);
  return fired;
}

/* ---- Asked for from outside -------------------------------------------- */

/* The words of SKV_TEST_FAULT, which stay. False if they are none. */
static bool fault_parse(const char *text, skv_fault *fault) {
  static char operation[32], file[FAULT_NAME_SIZE];
  char how[16];
  unsigned nth;
  if (sscanf(text, "%31s %63s %u %15s %d", operation, file, &nth, how,
             &fault->code) != 5)
    return false;
  fault->operation = operation;
  fault->file = file;
  fault->nth = nth;
  fault->is_forever = strcmp(how, "forever") == 0;
  fault->is_lying = strcmp(how, "lying") == 0;
  fault->is_partial = strcmp(how, "partial") == 0;
  return true;
}

/* By the first call of skv_env_fault_asked, if there is something to do. */
static skv_env *fault_made;
static skv_env *fault_inner_asked;

static void fault_make(void) {
  const char *text = getenv("SKV_TEST_FAULT");
  skv_fault fault = {0};
  if (text == NULL) return;
  skv_env *env = skv_env_fault_new(fault_inner_asked);
  if (env == NULL || !fault_parse(text, &fault)) {
    fprintf(stderr, "SKV_TEST_FAULT: \"%s\" is not understood\n", text);
    abort();
  }
  skv_env_fault_set(env, &fault);
  fault_env_of(env)->only_while = getenv("SKV_TEST_FAULT_WHILE");
  fault_made = env;
}

skv_env *skv_env_fault_asked(skv_env *inner) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  fault_inner_asked = inner;
  pthread_once(&once, fault_make);
  return fault_made ? fault_made : inner;
}
