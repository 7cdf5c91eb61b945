/*
 * The file backend's directory: names, what a directory is, the locks, the
 * shared page and small whole files.
 *
 * NAMES  skv_name_parse accepts exactly what skv_name_format writes: hexadecimal
 *   digits are lower case, and no number has more leading zeros than its
 *   least width asks for. A fixed name's number is its place in
 *   store_fixed_names. A temporary file's count stays below 2^60, so that
 *   every name fits SKV_NAME_SIZE.
 *
 * DURABLE NAMES  All directory syncs go through skv_store_sync_names. The
 *   first one of a store opened with SKV_DIR_CREATE also syncs the directory
 *   above it, whose entry may be as young as the store.
 *
 * NOT HERE  Logs (log.c), segments (object.c), CURRENT and the manifest
 *   (head.c).
 */
#include "engine/store/store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "engine/util/alloc.h"
#include "engine/util/point.h"

struct skv_store {
  skv_env *env;    /* not owned */
  skv_dir *dir;    /* owned */
  bool reads_lock; /* LOCK may be read only: no lock of it is exclusive */
  skv_file *lock;  /* LOCK, registered for fork; NULL until opened */
  void *shared;    /* mapping of SHARED; NULL until mapped */
  atomic_bool parent_due; /* the directory above is to be synced once */
  skv_dir_info info;      /* as of the open */
};

#define STORE_TMP_LIMIT (UINT64_C(1) << 60) /* of a temporary file's count */

static const char *const store_fixed_names[] = {"CURRENT", "LOCK", "SHARED",
                                                "OWNERS"};
#define STORE_FIXED_COUNT                                                      \
  (sizeof store_fixed_names / sizeof store_fixed_names[0])

/* ---- The store --------------------------------------------------------- */

int skv_store_open(skv_env *env, const char *base, const char *path, int flags,
                   skv_err *err, skv_store **out) {
  int rc = STRATAKV_OK;
  *out = NULL;
  skv_store *store = skv_new(sizeof *store, &rc);
  if (!store) return skv_error_nomem(err);

  store->env = env;
  atomic_init(&store->parent_due, (flags & SKV_DIR_CREATE) != 0);
  rc = env->dir_open(env, base, path, flags, err, &store->dir);
  if (rc != STRATAKV_OK) {
    store->dir = NULL;
    goto out;
  }
  rc = env->dir_info(store->dir, err, &store->info);

out:
  if (rc != STRATAKV_OK) {
    bool made = store->dir && (flags & SKV_DIR_EXCLUSIVE);
    if (made) (void)env->dir_remove(store->dir, NULL);
    skv_store_close(store);
    store = NULL;
  }
  *out = store;
  return rc;
}

void skv_store_close(skv_store *store) {
  if (!store) return;
  skv_env *env = store->env;
  if (store->shared) env->unmap(env, store->shared, SKV_SHARED_SIZE);
  if (store->lock) {
    skv_fork_hold(env);
    skv_fork_close_remove(store->lock);
    env->file_close(store->lock);
    skv_fork_let_go(env);
  }
  if (store->dir) env->dir_close(store->dir);
  skv_free(store);
}

skv_env *skv_store_env(const skv_store *store) { return store->env; }

skv_dir *skv_store_dir(const skv_store *store) { return store->dir; }

const skv_dir_info *skv_store_info(const skv_store *store) {
  return &store->info;
}

int skv_store_free_space(skv_store *store, skv_err *err, uint64_t *bytes) {
  return store->env->dir_free(store->dir, err, bytes);
}

int skv_store_sync_names(skv_store *store, skv_err *err) {
  int rc = store->env->dir_sync(store->dir, err);
  if (rc != STRATAKV_OK || !atomic_load(&store->parent_due)) return rc;
  rc = store->env->dir_sync_parent(store->dir, err);
  if (rc == STRATAKV_OK) atomic_store(&store->parent_due, false);
  return rc;
}

/* ---- Names ------------------------------------------------------------- */

static const char *name_suffix(int kind) {
  if (kind == SKV_NAME_MANIFEST) return ".manifest";
  if (kind == SKV_NAME_WAL) return ".wal";
  if (kind == SKV_NAME_SEG) return ".seg";
  return NULL;
}

void skv_name_format(const skv_name *name, char text[SKV_NAME_SIZE]) {
  const char *suffix = name_suffix(name->kind);
  text[0] = 0;
  if (suffix) {
    snprintf(text, SKV_NAME_SIZE, "%06" PRIu64 "%s", name->number, suffix);
  } else if (name->kind == SKV_NAME_TMP) {
    assert(name->slot <= 0xff && name->number < STORE_TMP_LIMIT);
    snprintf(text, SKV_NAME_SIZE, "%02" PRIx32 "-%08" PRIx32 "-%06" PRIx64 "%s",
             name->slot, name->incarnation, name->number, ".tmp");
  } else if (name->kind == SKV_NAME_FIXED) {
    assert(name->number < STORE_FIXED_COUNT);
    snprintf(text, SKV_NAME_SIZE, "%s", store_fixed_names[name->number]);
  }
}

static int name_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return 16;
}

/* The number at *text, which moves behind it; false if there is no digit. One
 * of more than 64 bits wraps: skv_name_parse sees that it is not the same. */
static bool name_number(const char **text, unsigned base, uint64_t *out) {
  const char *p = *text;
  uint64_t v = 0;
  for (; (unsigned)name_digit(*p) < base; p++)
    v = v * base + (unsigned)name_digit(*p);
  bool any = p != *text;
  *text = p;
  *out = v;
  return any;
}

static int name_parse_fixed(const char *text, skv_name *name) {
  for (size_t i = 0; i < STORE_FIXED_COUNT; i++) {
    if (strcmp(text, store_fixed_names[i]) != 0) continue;
    name->number = i;
    return SKV_NAME_FIXED;
  }
  return SKV_NAME_OTHER;
}

static int name_parse_numbered(const char *text, skv_name *name) {
  if (!name_number(&text, 10, &name->number)) return SKV_NAME_OTHER;
  for (int kind = SKV_NAME_MANIFEST; kind <= SKV_NAME_SEG; kind++)
    if (strcmp(text, name_suffix(kind)) == 0) return kind;
  return SKV_NAME_OTHER;
}

static int name_parse_tmp(const char *text, skv_name *name) {
  uint64_t slot, incarnation;
  if (!name_number(&text, 16, &slot) || *text++ != '-') return SKV_NAME_OTHER;
  if (!name_number(&text, 16, &incarnation) || *text++ != '-')
    return SKV_NAME_OTHER;
  if (!name_number(&text, 16, &name->number) || strcmp(text, ".tmp") != 0)
    return SKV_NAME_OTHER;
  if (slot > 0xff || incarnation > UINT32_MAX ||
      name->number >= STORE_TMP_LIMIT)
    return SKV_NAME_OTHER;
  name->slot = (uint32_t)slot;
  name->incarnation = (uint32_t)incarnation;
  return SKV_NAME_TMP;
}

skv_name skv_name_parse(const char *text) {
  skv_name name = {0}, other = {0};
  char again[SKV_NAME_SIZE];
  name.kind = name_parse_fixed(text, &name);
  if (name.kind == SKV_NAME_OTHER) name.kind = name_parse_numbered(text, &name);
  if (name.kind == SKV_NAME_OTHER) name.kind = name_parse_tmp(text, &name);
  if (name.kind == SKV_NAME_OTHER) return other;
  skv_name_format(&name, again); /* widths and leading zeros */
  return strcmp(text, again) == 0 ? name : other;
}

/* ---- Listing and probing ----------------------------------------------- */

typedef struct store_lister {
  int (*each)(void *arg, const skv_name *name);
  void *arg;
} store_lister;

static int store_list_one(void *arg, const char *text) {
  store_lister *lister = arg;
  skv_name name = skv_name_parse(text);
  return lister->each(lister->arg, &name);
}

int skv_store_list(skv_store *store,
                   int (*each)(void *arg, const skv_name *name), void *arg,
                   skv_err *err) {
  store_lister lister = {each, arg};
  return store->env->dir_list(store->dir, store_list_one, &lister, err);
}

typedef struct store_census {
  bool foreign;     /* a name that is none of ours */
  bool has_used;    /* a file that only a store in use has */
  skv_name used;    /* one of those */
  uint64_t new_log; /* the log of a creation, 0: none */
} store_census;

/* What creation makes before CURRENT: the first manifest and log. */
#define STORE_FIRST_MANIFEST 1
#define STORE_FIRST_LOG 2

static int store_count_one(void *arg, const skv_name *name) {
  store_census *census = arg;
  bool is_used = name->kind == SKV_NAME_SEG;
  if (name->kind == SKV_NAME_OTHER) census->foreign = true;
  if (name->kind == SKV_NAME_MANIFEST)
    is_used = name->number != STORE_FIRST_MANIFEST;
  if (name->kind == SKV_NAME_WAL) {
    is_used = name->number != STORE_FIRST_LOG;
    if (!is_used) census->new_log = name->number;
  }
  if (is_used) {
    census->has_used = true;
    census->used = *name;
  }
  return 0;
}

/* Whether something stands behind the header of the log. */
static int store_log_is_used(skv_store *store, store_census *census,
                             skv_err *err) {
  static const uint8_t zeros[32];
  skv_name name = {.kind = SKV_NAME_WAL, .number = census->new_log};
  char text[SKV_NAME_SIZE];
  uint8_t bytes[sizeof zeros];
  skv_file *file = NULL;
  size_t got = 0;
  skv_name_format(&name, text);
  int rc = store->env->file_open(store->dir, text, 0, err, &file);
  if (rc != STRATAKV_OK) return rc;
  rc = store->env->file_read(file, 64, bytes, sizeof bytes, err, &got);
  store->env->file_close(file);
  if (rc == STRATAKV_OK && memcmp(bytes, zeros, got) != 0) {
    census->has_used = true;
    census->used = name;
  }
  return rc;
}

/* A directory without CURRENT. One that has more than what creation makes
 * before it has lost its CURRENT, and must not be made anew. */
static int store_probe_names(skv_store *store, skv_err *err, int *out) {
  store_census census = {0};
  char text[SKV_NAME_SIZE];
  int rc = skv_store_list(store, store_count_one, &census, err);
  if (rc == STRATAKV_OK && !census.foreign && census.new_log != 0)
    rc = store_log_is_used(store, &census, err);
  if (rc != STRATAKV_OK) return rc;
  if (!census.foreign && census.has_used) {
    skv_name_format(&census.used, text);
    return SKV_ERROR(err, STRATAKV_CORRUPT,
                     "CURRENT is missing beside %s in %s: an unfinished "
                     "backup, or a store to salvage",
                     text, store->info.path);
  }
  *out = census.foreign ? SKV_PROBE_FOREIGN : SKV_PROBE_EMPTY;
  return STRATAKV_OK;
}

/* NOTFOUND: there is no CURRENT. */
static int store_probe_current(skv_store *store, skv_err *err, int *out) {
  skv_env *env = store->env;
  skv_file *file = NULL;
  uint8_t magic[8];
  size_t got = 0;
  int rc = env->file_open(store->dir, "CURRENT", 0, err, &file);
  if (rc != STRATAKV_OK) return rc;
  rc = env->file_read(file, 0, magic, sizeof magic, err, &got);
  env->file_close(file);
  if (rc == STRATAKV_OK && got == 8 && memcmp(magic, "STRATCUR", 8) == 0)
    *out = SKV_PROBE_STORE;
  return rc;
}

int skv_store_probe(skv_store *store, skv_err *err, int *out) {
  int names = SKV_PROBE_FOREIGN;
  *out = SKV_PROBE_FOREIGN;
  int rc = store_probe_current(store, err, out);
  if (rc != STRATAKV_NOTFOUND) return rc;
  rc = store_probe_names(store, err, &names);
  if (rc == STRATAKV_OK && names == SKV_PROBE_EMPTY) {
    *out = names;
    return rc;
  }
  /* Another process may have finished creating it after the first look. */
  skv_err why;
  int again = store_probe_current(store, &why, out);
  if (again == STRATAKV_NOTFOUND) return rc;
  if (again != STRATAKV_OK && err) *err = why;
  return again;
}

int skv_store_remove(skv_store *store, const skv_name *name, skv_err *err) {
  char text[SKV_NAME_SIZE];
  skv_err why;
  if (name->kind < SKV_NAME_MANIFEST)
    return SKV_ERROR(err, STRATAKV_MISUSE, "not a file that may be removed");
  skv_name_format(name, text);
  int rc = store->env->dir_unlink(store->dir, text, &why);
  if (rc == STRATAKV_NOTFOUND) return STRATAKV_OK;
  if (rc != STRATAKV_OK && err) *err = why;
  return rc;
}

/* ---- Locks and the shared page ----------------------------------------- */

static int store_lock_open(skv_store *store, bool create, skv_err *err) {
  skv_env *env = store->env;
  skv_file *file = NULL;
  int flags = SKV_FILE_WRITE | (create ? SKV_FILE_CREATE : 0);
  int rc = env->file_open(store->dir, "LOCK", flags, err, &file);
  /* Who may only read the store may still lock it shared. */
  bool reads = rc == STRATAKV_CANTOPEN && !create;
  if (reads) rc = env->file_open(store->dir, "LOCK", 0, err, &file);
  if (rc != STRATAKV_OK) return rc;
  rc = skv_fork_close_add(file);
  if (rc != STRATAKV_OK) {
    env->file_close(file);
    return rc == STRATAKV_NOMEM
               ? skv_error_nomem(err)
               : SKV_ERROR(err, rc, "cannot register LOCK for fork");
  }
  store->lock = file;
  store->reads_lock = reads;
  return STRATAKV_OK;
}

int skv_store_lock_open(skv_store *store, bool create, skv_err *err) {
  if (store->lock) return STRATAKV_OK;
  skv_fork_hold(store->env);
  int rc = store_lock_open(store, create, err);
  skv_fork_let_go(store->env);
  return rc;
}

int skv_store_lock(skv_store *store, unsigned which, int mode, skv_err *err) {
  if (!store->lock) return SKV_ERROR(err, STRATAKV_MISUSE, "LOCK is not open");
  if (mode == SKV_EXCLUSIVE && store->reads_lock)
    return SKV_ERROR(err, STRATAKV_CANTOPEN, "LOCK may not be written");
  return store->env->file_lock(store->lock, which, 1, mode, err);
}

bool skv_store_is_gone(skv_store *store) {
  return store->lock && !store->env->file_is_named(store->lock);
}

/* Its bytes once more: a copy of a store may have holes here, or share blocks
 * with what it was copied from, and a store through the mapping that finds no
 * space for them is SIGBUS. */
static int store_fill_shared(skv_store *store, skv_file *file, skv_err *err) {
  uint8_t *bytes = skv_malloc(SKV_SHARED_SIZE);
  size_t got = 0;
  if (!bytes) return skv_error_nomem(err);
  int rc = store->env->file_read(file, 0, bytes, SKV_SHARED_SIZE, err, &got);
  if (rc == STRATAKV_OK) rc = store->env->file_write(file, 0, bytes, got, err);
  skv_free(bytes);
  return rc;
}

/* Give SHARED its size and its space, if nobody else uses it (`create`). */
static int store_size_shared(skv_store *store, skv_file *file, bool create,
                             skv_err *err) {
  skv_env *env = store->env;
  uint64_t size = 0;
  int rc = env->file_size(file, err, &size);
  if (rc != STRATAKV_OK) return rc;
  if (size == SKV_SHARED_SIZE)
    return create ? store_fill_shared(store, file, err) : rc;
  if (!create)
    return SKV_ERROR(err, STRATAKV_NOTADB,
                     "SHARED has %" PRIu64 " bytes instead of %d", size,
                     SKV_SHARED_SIZE);
  if (size > SKV_SHARED_SIZE)
    return env->file_truncate(file, SKV_SHARED_SIZE, err);
  return env->file_allocate(file, SKV_SHARED_SIZE, err);
}

int skv_store_shared(skv_store *store, bool create, bool read_only,
                     skv_err *err, void **page) {
  skv_env *env = store->env;
  skv_file *file = NULL;
  *page = store->shared;
  if (store->shared) return STRATAKV_OK;
  if (read_only) create = false;
  int flags = (read_only ? 0 : SKV_FILE_WRITE) | (create ? SKV_FILE_CREATE : 0);
  int rc = env->file_open(store->dir, "SHARED", flags, err, &file);
  if (rc != STRATAKV_OK) return rc;
  rc = store_size_shared(store, file, create, err);
  if (rc == STRATAKV_OK)
    rc = env->file_map(file, SKV_SHARED_SIZE, !read_only, true, err, page);
  env->file_close(file);
  if (rc != STRATAKV_OK) *page = NULL;
  store->shared = *page;
  return rc;
}

/* ---- Small whole files ------------------------------------------------- */

static int store_read_open(skv_store *store, const char *name, skv_file *file,
                           size_t limit, skv_err *err, skv_buf *bytes) {
  uint64_t size = 0;
  size_t got = 0;
  int rc = store->env->file_size(file, err, &size);
  if (rc != STRATAKV_OK) return rc;
  if (size > limit)
    return skv_error_corrupt(err, name, limit, "too many bytes");
  uint8_t *to = skv_buf_reserve(bytes, (size_t)size);
  if (!to) return skv_error_nomem(err);
  rc = store->env->file_read(file, 0, to, (size_t)size, err, &got);
  if (rc == STRATAKV_OK) bytes->size = got;
  return rc;
}

int skv_store_read_file(skv_store *store, const char *name, size_t limit,
                        skv_err *err, skv_buf *bytes) {
  skv_file *file = NULL;
  bytes->size = 0;
  int rc = store->env->file_open(store->dir, name, 0, err, &file);
  if (rc != STRATAKV_OK) return rc;
  rc = store_read_open(store, name, file, limit, err, bytes);
  store->env->file_close(file);
  return rc;
}

/* Make `text` hold exactly these bytes, synced, whatever was left under that
 * name. */
static int store_write_whole(skv_store *store, const char *text,
                             const void *data, size_t size, skv_err *err) {
  skv_env *env = store->env;
  skv_file *file = NULL;
  int rc = env->file_open(store->dir, text, SKV_FILE_WRITE | SKV_FILE_CREATE,
                          err, &file);
  if (rc != STRATAKV_OK) return rc;
  rc = env->file_truncate(file, 0, err);
  if (rc == STRATAKV_OK && size) rc = env->file_write(file, 0, data, size, err);
  if (rc == STRATAKV_OK) rc = env->file_sync(file, err);
  env->file_close(file);
  return rc;
}

int skv_store_write_file(skv_store *store, const char *name,
                         const skv_name *tmp, const void *data, size_t size,
                         skv_err *err) {
  char text[SKV_NAME_SIZE];
  skv_name_format(tmp, text);
  int rc = store_write_whole(store, text, data, size, err);
  SKV_POINT("file.written");
  if (rc == STRATAKV_OK)
    rc = store->env->dir_rename(store->dir, text, name, err);
  if (rc != STRATAKV_OK) {
    store->env->dir_unlink(store->dir, text, NULL);
    return rc;
  }
  SKV_POINT("file.renamed");
  return skv_store_sync_names(store, err);
}
