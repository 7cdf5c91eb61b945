/*
 * Logs of the file backend: files of fixed size, mapped, overwritten in place
 * and recycled.
 *
 * PAGES  A new log is filled with zeros in 4 KiB writes, and neither its
 *   descriptor nor its mapping reads ahead: the page cache then holds it in
 *   single pages, and syncing a small commit writes 4 KiB. In a folio of
 *   1 MiB it would write 1 MiB.
 *
 * WRITING  Through the mapping only where overwriting cannot allocate (P15);
 *   elsewhere a store could meet a full disk, which is SIGBUS, so there a
 *   writable log too is mapped read-only and written by pwrite. A write whose
 *   sync follows at once is pwrite everywhere: the sync costs a hundred times
 *   as much as the call, and no page is faulted in for writing after each
 *   write-back. The two ways mix: both go to the page cache.
 *
 * FAILURE  create removes what it made; recycle renames last, so a log that
 *   cannot be recycled keeps its name.
 *
 * NOT HERE  What the bytes mean (wal/), who may write them (db/).
 */
#include <assert.h>

#include "engine/store/store.h"
#include "engine/util/alloc.h"
#include "engine/util/point.h"

#define LOG_PAGE 4096u

struct skv_log {
  skv_store *store;         /* not owned */
  skv_env *env;             /* the store's */
  skv_file *file;           /* owned */
  uint8_t *map;             /* all of it; owned */
  uint64_t size;            /* bytes, a multiple of LOG_PAGE */
  bool through_map;         /* the mapping is writable and may be written */
  char name[SKV_NAME_SIZE]; /* its name at present */
};

static const uint8_t log_zeros[LOG_PAGE];

static void log_set_name(skv_log *log, int kind, uint64_t number) {
  skv_name name = {.kind = kind, .number = number};
  skv_name_format(&name, log->name);
}

/* A log object with its file open; its name is set by the caller after. */
static int log_open_file(skv_store *store, const char *name, int flags,
                         skv_err *err, skv_log **out) {
  int rc = STRATAKV_OK;
  *out = NULL;
  skv_log *log = skv_new(sizeof *log, &rc);
  if (!log) return skv_error_nomem(err);
  log->store = store;
  log->env = skv_store_env(store);
  memcpy(log->name, name, SKV_NAME_SIZE);
  rc = log->env->file_open(skv_store_dir(store), name, flags, err, &log->file);
  if (rc != STRATAKV_OK) {
    skv_free(log);
    return rc;
  }
  log->env->file_advise(log->file, 0, 0, SKV_ADVISE_RANDOM);
  *out = log;
  return STRATAKV_OK;
}

static int log_map(skv_log *log, bool writable, skv_err *err) {
  void *map = NULL;
  log->through_map = writable && skv_store_info(log->store)->can_overwrite;
  int rc = log->env->file_map(log->file, (size_t)log->size, log->through_map,
                              true, err, &map);
  if (rc == STRATAKV_OK) log->map = map;
  return rc;
}

/* A copied store's logs may have holes: they are filled before anything is
 * stored into the mapping, or if that fails nothing ever is. */
static int log_map_existing(skv_log *log, bool writable, skv_err *err) {
  bool whole =
      writable && skv_store_info(log->store)->can_overwrite &&
      log->env->file_allocate(log->file, log->size, NULL) == STRATAKV_OK;
  return log_map(log, whole, err);
}

/* Open and map a log that exists. */
static int log_open_existing(skv_store *store, uint64_t number, bool writable,
                             skv_err *err, skv_log **out) {
  skv_name name = {.kind = SKV_NAME_WAL, .number = number};
  char text[SKV_NAME_SIZE];
  skv_log *log = NULL;
  uint64_t size = 0;
  skv_name_format(&name, text);
  int rc = log_open_file(store, text, writable ? SKV_FILE_WRITE : 0, err, &log);
  if (rc != STRATAKV_OK) goto out;
  rc = log->env->file_size(log->file, err, &size);
  if (rc != STRATAKV_OK) goto out;
  if (size == 0 || size % LOG_PAGE != 0) { /* INV-8 */
    rc = skv_error_corrupt(err, text, size, "unexpected end");
    goto out;
  }
  log->size = size;
  rc = log_map_existing(log, writable, err);

out:
  if (rc != STRATAKV_OK) {
    skv_log_close(log);
    log = NULL;
  }
  *out = log;
  return rc;
}

static int log_fill(skv_log *log, skv_err *err) {
  int rc = log->env->file_allocate(log->file, log->size, err);
  for (uint64_t at = 0; rc == STRATAKV_OK && at < log->size; at += LOG_PAGE)
    rc = log->env->file_write(log->file, at, log_zeros, LOG_PAGE, err);
  return rc;
}

int skv_log_create(skv_store *store, const skv_name *tmp, uint64_t size,
                   skv_err *err, skv_log **out) {
  char text[SKV_NAME_SIZE];
  skv_log *log = NULL;
  assert(tmp->kind == SKV_NAME_TMP && size > 0 && size % LOG_PAGE == 0);
  skv_name_format(tmp, text);
  *out = NULL;
  /* Exclusive: the name of a dead process's file may be in an INGEST. */
  int rc = log_open_file(store, text,
                         SKV_FILE_WRITE | SKV_FILE_CREATE | SKV_FILE_EXCLUSIVE,
                         err, &log);
  if (rc != STRATAKV_OK) return rc;
  log->size = size;
  rc = log_fill(log, err);
  SKV_POINT("log.filled");
  if (rc == STRATAKV_OK) rc = log_map(log, true, err);
  if (rc != STRATAKV_OK) {
    skv_log_close(log);
    skv_store_remove(store, tmp, NULL);
    return rc;
  }
  *out = log;
  return STRATAKV_OK;
}

int skv_log_recycle(skv_store *store, uint64_t number, const skv_name *tmp,
                    skv_err *err, skv_log **out) {
  char text[SKV_NAME_SIZE];
  skv_log *log = NULL;
  assert(tmp->kind == SKV_NAME_TMP);
  skv_name_format(tmp, text);
  int rc = log_open_existing(store, number, true, err, &log);
  if (rc != STRATAKV_OK) goto out;
  rc = log->env->dir_rename(skv_store_dir(store), log->name, text, err);
  if (rc == STRATAKV_OK) memcpy(log->name, text, sizeof text);

out:
  if (rc != STRATAKV_OK) {
    skv_log_close(log);
    log = NULL;
  }
  *out = log;
  return rc;
}

int skv_log_publish(skv_log *log, uint64_t number, const void *header,
                    size_t header_size, skv_err *err) {
  char old[SKV_NAME_SIZE];
  assert(header_size <= log->size);
  int rc = log->env->file_write(log->file, 0, header, header_size, err);
  if (rc == STRATAKV_OK) rc = skv_log_sync(log, err);
  if (rc != STRATAKV_OK) return rc;
  SKV_POINT("log.headed");
  memcpy(old, log->name, sizeof old);
  log_set_name(log, SKV_NAME_WAL, number);
  rc = log->env->dir_rename(skv_store_dir(log->store), old, log->name, err);
  if (rc != STRATAKV_OK) {
    memcpy(log->name, old, sizeof old);
    return rc;
  }
  SKV_POINT("log.renamed");
  return skv_store_sync_names(log->store, err);
}

int skv_log_open(skv_store *store, uint64_t number, bool writable, skv_err *err,
                 skv_log **out) {
  return log_open_existing(store, number, writable, err, out);
}

void skv_log_close(skv_log *log) {
  if (!log) return;
  if (log->map) log->env->unmap(log->env, log->map, (size_t)log->size);
  if (log->file) log->env->file_close(log->file);
  skv_free(log);
}

uint64_t skv_log_size(const skv_log *log) { return log->size; }

const uint8_t *skv_log_bytes(const skv_log *log) { return log->map; }

int skv_log_write(skv_log *log, uint64_t offset, const void *data, size_t size,
                  bool now_synced, skv_err *err) {
  assert(offset <= log->size && size <= log->size - offset);
  if (size == 0) return STRATAKV_OK;
  if (now_synced || !log->through_map)
    return log->env->file_write(log->file, offset, data, size, err);
  memcpy(log->map + offset, data, size);
  if (log->env->stored) log->env->stored(log->file, offset, size);
  return STRATAKV_OK;
}

int skv_log_sync(skv_log *log, skv_err *err) {
  return log->env->file_sync(log->file, err);
}

void skv_log_sync_start(skv_log *log, uint64_t offset, uint64_t size) {
  log->env->file_sync_start(log->file, offset, size);
}

/*
 * One byte of each page is or-ed with zero, atomically. That takes the write
 * fault and changes nothing, even if the same byte is being written by
 * another thread or by pwrite: the kernel's copy is a store to the same cache
 * line, and an atomic operation loses no other CPU's store. The zero is
 * volatile because compilers turn an or with a known zero into a load.
 *
 * It leaves the pages dirty: a caller that syncs every commit would write
 * them all each time. For the modes normal and off only.
 */
void skv_log_touch(skv_log *log, uint64_t offset, uint64_t size) {
  const volatile uint8_t zero = 0;
  if (!log->through_map || size == 0 || offset >= log->size) return;
  uint64_t end = size < log->size - offset ? offset + size : log->size;
  for (uint64_t at = offset - offset % LOG_PAGE; at < end; at += LOG_PAGE)
    __atomic_fetch_or(log->map + at, zero, __ATOMIC_RELAXED);
}
