/*
 * Failing calls under the extension: see skvtest.h.
 *
 * The extension opens its stores in the real environment. While a fault is
 * armed, that environment's functions are replaced by ones that ask
 * fault_fires first; the table is put back when it is disarmed. Other threads
 * may be reading the table meanwhile: they see one pointer or the other, and
 * both are right.
 */
#include "test/c/skvtest.h"

#include <stdatomic.h>
#include <string.h>

#include "engine/os/env.h"
#include "engine/util/alloc.h"

#define FAULT_OOM 1
#define FAULT_IOERR 2
#define FAULT_FULL 4
#define FAULT_FSYNC 8
#define FAULT_CANTOPEN 16
#define FAULT_LOCK 32

static const struct {
  const char *name;
  int kind;
} fault_kinds[] = {
    {"oom", FAULT_OOM},     {"ioerr", FAULT_IOERR},       {"full", FAULT_FULL},
    {"fsync", FAULT_FSYNC}, {"cantopen", FAULT_CANTOPEN}, {"lock", FAULT_LOCK},
};

/* The armed fault. */
static struct {
  atomic_int kind;
  atomic_llong left; /* calls until it fires; 0: not armed, or spent */
  atomic_bool is_forever;
  atomic_llong fired;
} fault;

static skv_env real; /* the real functions, while replaced */
static bool is_replaced;

/* Does this call, which can fail in any of these ways, fail now? */
static bool fault_fires(int kinds) {
  if ((atomic_load(&fault.kind) & kinds) == 0) return false;
  if (atomic_load(&fault.left) <= 0) return false;
  if (atomic_fetch_sub(&fault.left, 1) != 1) return false;
  if (atomic_load(&fault.is_forever)) atomic_store(&fault.left, 1);
  atomic_fetch_add(&fault.fired, 1);
  return true;
}

static int fault_error(skv_err *err, const char *operation) {
  int kind = atomic_load(&fault.kind);
  int code = kind == FAULT_FULL       ? STRATAKV_FULL
             : kind == FAULT_FSYNC    ? STRATAKV_IOERR_FSYNC
             : kind == FAULT_CANTOPEN ? STRATAKV_CANTOPEN
                                      : STRATAKV_IOERR;
  return SKV_ERROR(err, code, "injected: %s failed", operation);
}

static int fault_alloc(void *arg, size_t size) {
  (void)arg;
  (void)size;
  return fault_fires(FAULT_OOM);
}

/* ---- The replacements ------------------------------------------------------ */

static int fault_dir_sync(skv_dir *dir, skv_err *err) {
  if (fault_fires(FAULT_IOERR)) return fault_error(err, "dir_sync");
  return real.dir_sync(dir, err);
}

static int fault_dir_rename(skv_dir *dir, const char *from, const char *to,
                            skv_err *err) {
  if (fault_fires(FAULT_IOERR)) return fault_error(err, "dir_rename");
  return real.dir_rename(dir, from, to, err);
}

static int fault_dir_unlink(skv_dir *dir, const char *name, skv_err *err) {
  if (fault_fires(FAULT_IOERR)) return fault_error(err, "dir_unlink");
  return real.dir_unlink(dir, name, err);
}

static int fault_file_open(skv_dir *dir, const char *name, int flags,
                           skv_err *err, skv_file **out) {
  if (fault_fires(FAULT_CANTOPEN)) {
    *out = NULL;
    return fault_error(err, "file_open");
  }
  return real.file_open(dir, name, flags, err, out);
}

static int fault_file_read(skv_file *file, uint64_t offset, void *data,
                           size_t size, skv_err *err, size_t *got) {
  if (fault_fires(FAULT_IOERR)) {
    *got = 0;
    return fault_error(err, "file_read");
  }
  return real.file_read(file, offset, data, size, err, got);
}

/* A new log is filled with zeros page by page: only the first page of each
 * fill is counted, for the others would be a thousand rounds alike. */
static bool fault_goes_on_filling(skv_file *file, uint64_t offset,
                                  const void *data, size_t size) {
  static _Thread_local skv_file *last_file;
  static _Thread_local uint64_t last_end;
  const char *bytes = data;
  bool is_fill =
      size >= 2 && bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
  bool goes_on = is_fill && file == last_file && offset == last_end;
  last_file = is_fill ? file : NULL;
  last_end = offset + size;
  return goes_on;
}

/* Half of what fails to be written is written. */
static int fault_file_write(skv_file *file, uint64_t offset, const void *data,
                            size_t size, skv_err *err) {
  if (!fault_goes_on_filling(file, offset, data, size) &&
      fault_fires(FAULT_IOERR | FAULT_FULL)) {
    (void)real.file_write(file, offset, data, size / 2, NULL);
    return fault_error(err, "file_write");
  }
  return real.file_write(file, offset, data, size, err);
}

static int fault_file_sync(skv_file *file, skv_err *err) {
  if (fault_fires(FAULT_FSYNC)) return fault_error(err, "fdatasync");
  return real.file_sync(file, err);
}

static int fault_file_allocate(skv_file *file, uint64_t size, skv_err *err) {
  if (fault_fires(FAULT_IOERR | FAULT_FULL))
    return fault_error(err, "file_allocate");
  return real.file_allocate(file, size, err);
}

static int fault_file_truncate(skv_file *file, uint64_t size, skv_err *err) {
  if (fault_fires(FAULT_IOERR)) return fault_error(err, "file_truncate");
  return real.file_truncate(file, size, err);
}

static int fault_file_map(skv_file *file, size_t size, bool write, bool random,
                          skv_err *err, void **out) {
  if (fault_fires(FAULT_IOERR)) {
    *out = NULL;
    return fault_error(err, "file_map");
  }
  return real.file_map(file, size, write, random, err, out);
}

static int fault_file_lock(skv_file *file, uint64_t offset, uint64_t size,
                           int mode, skv_err *err) {
  if (mode != SKV_UNLOCK && fault_fires(FAULT_LOCK))
    return fault_error(err, "file_lock");
  return real.file_lock(file, offset, size, mode, err);
}

static void fault_replace(skv_env *env) {
  if (is_replaced) return;
  real = *env;
  is_replaced = true;
  env->dir_sync = fault_dir_sync;
  env->dir_rename = fault_dir_rename;
  env->dir_unlink = fault_dir_unlink;
  env->file_open = fault_file_open;
  env->file_read = fault_file_read;
  env->file_write = fault_file_write;
  env->file_sync = fault_file_sync;
  env->file_allocate = fault_file_allocate;
  env->file_truncate = fault_file_truncate;
  env->file_map = fault_file_map;
  env->file_lock = fault_file_lock;
}

/* ---- Arming ---------------------------------------------------------------- */

static int fault_kind_of(const char *name) {
  for (size_t i = 0; i < sizeof fault_kinds / sizeof *fault_kinds; i++)
    if (strcmp(fault_kinds[i].name, name) == 0) return fault_kinds[i].kind;
  return 0;
}

bool skvtest_fault_is_kind(const char *kind) {
  return kind != NULL && fault_kind_of(kind) != 0;
}

void skvtest_fault_arm(const char *kind, long long n, bool is_forever) {
  fault_replace(skv_env_posix());
  skv_alloc_set_hook(fault_alloc, NULL);
  atomic_store(&fault.left, 0);
  atomic_store(&fault.kind, fault_kind_of(kind));
  atomic_store(&fault.fired, 0);
  atomic_store(&fault.is_forever, is_forever);
  atomic_store(&fault.left, n);
}

/* The replacements stay: they forward while nothing is armed, and a thread may
 * be inside one. */
long long skvtest_fault_disarm(void) {
  atomic_store(&fault.left, 0);
  atomic_store(&fault.kind, 0);
  return atomic_load(&fault.fired);
}
