/*
 * Files of the in-memory environment: bytes, mappings and locks. The objects
 * are described in env_mem.h.
 *
 * A write is whole or not at all, and everything is durable at once: what a
 * power cut would lose is the business of whoever wraps this environment.
 */
#include "engine/os/env_mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/util/alloc.h"

static skv_mem_handle *mem_file(skv_file *file) {
  return (skv_mem_handle *)file;
}

/* The file's node, with its file system locked. */
static skv_mem_node *mem_file_lock_fs(skv_file *file) {
  skv_mutex_lock(&skv_mem_env_of(file->env)->fs->mutex);
  return mem_file(file)->node;
}

static void mem_file_unlock_fs(skv_file *file) {
  skv_mutex_unlock(&skv_mem_env_of(file->env)->fs->mutex);
}

/* ---- Opening ----------------------------------------------------------- */

static int mem_open_locked(skv_mem_env *env, skv_mem_node *dir,
                           const char *name, int flags, skv_mem_handle **out) {
  skv_mem_node *node = skv_mem_find(env->fs, dir, name);
  if (node == NULL && !(flags & SKV_FILE_CREATE)) return STRATAKV_NOTFOUND;
  if (node != NULL && (flags & SKV_FILE_EXCLUSIVE)) return STRATAKV_CONSTRAINT;
  if (node != NULL && node->is_dir) return STRATAKV_CANTOPEN;
  if (strlen(name) >= SKV_MEM_NAME_SIZE) return STRATAKV_CANTOPEN;
  bool is_made = node == NULL;
  if (is_made) node = skv_mem_node_new(env->fs, dir, name, false);
  if (node == NULL) return STRATAKV_NOMEM;
  *out = skv_mem_handle_new(env, node);
  if (*out == NULL) {
    if (is_made) skv_mem_name_free(env->fs, skv_mem_name_of(env->fs, node));
    return STRATAKV_NOMEM;
  }
  (*out)->can_write = (flags & SKV_FILE_WRITE) != 0;
  snprintf((*out)->name, sizeof(*out)->name, "%s", name);
  return STRATAKV_OK;
}

static int mem_open_error(skv_err *err, int rc, const char *name) {
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc == STRATAKV_CANTOPEN) {
    return SKV_ERROR(err, rc, "%s is not a regular file", name);
  }
  return SKV_ERROR(err, rc, "cannot open %s: %s", name,
                   rc == STRATAKV_NOTFOUND ? "no such file" : "it exists");
}

static int mem_file_open(skv_dir *dir, const char *name, int flags,
                         skv_err *err, skv_file **out) {
  skv_mem_env *env = skv_mem_env_of(dir->env);
  skv_mem_handle *handle = NULL;
  *out = NULL;
  skv_mutex_lock(&env->fs->mutex);
  skv_mem_node *node = ((skv_mem_handle *)dir)->node;
  int rc = mem_open_locked(env, node, name, flags, &handle);
  skv_mutex_unlock(&env->fs->mutex);
  if (rc != STRATAKV_OK) return mem_open_error(err, rc, name);
  *out = &handle->base.file;
  return STRATAKV_OK;
}

static void mem_file_close(skv_file *file) {
  if (file == NULL) return;
  skv_mem_fs *fs = skv_mem_env_of(file->env)->fs;
  skv_mutex_lock(&fs->mutex);
  skv_mem_handle_free(mem_file(file));
  skv_mutex_unlock(&fs->mutex);
}

/* ---- Bytes ------------------------------------------------------------- */

static int mem_error(skv_err *err, int rc, const char *operation,
                     skv_file *file) {
  const char *name = mem_file(file)->name;
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc == STRATAKV_FULL) {
    return SKV_ERROR(err, rc, "disk full writing %s", name);
  }
  return SKV_ERROR(err, rc, "cannot %s %s: not open for writing", operation,
                   name);
}

/* Address space for `size` bytes of the node. */
static int mem_reserve(skv_mem_node *node, uint64_t size) {
  if (size > SKV_MEM_FILE_MAX) return STRATAKV_FULL;
  if (node->bytes != NULL || size == 0) return STRATAKV_OK;
  node->bytes = skv_pages_new(SKV_MEM_FILE_MAX);
  return node->bytes != NULL ? STRATAKV_OK : STRATAKV_NOMEM;
}

/* Whether the node may be given `size` bytes through this handle. */
static int mem_room(const skv_mem_handle *handle, uint64_t size) {
  const skv_mem_node *node = handle->node;
  const skv_mem_fs *fs = skv_mem_env_of(handle->base.file.env)->fs;
  if (!handle->can_write) return STRATAKV_IOERR;
  uint64_t now = (node->size + 4095) & ~UINT64_C(4095);
  if (size > now && size - now > skv_mem_free_bytes(fs)) return STRATAKV_FULL;
  return mem_reserve(handle->node, size);
}

static int mem_file_size(skv_file *file, skv_err *err, uint64_t *size) {
  SKV_UNUSED(err);
  *size = mem_file_lock_fs(file)->size;
  mem_file_unlock_fs(file);
  return STRATAKV_OK;
}

static bool mem_file_is_named(skv_file *file) {
  bool named = mem_file_lock_fs(file)->names > 0;
  mem_file_unlock_fs(file);
  return named;
}

static int mem_file_read(skv_file *file, uint64_t offset, void *data,
                         size_t size, skv_err *err, size_t *got) {
  SKV_UNUSED(err);
  skv_mem_node *node = mem_file_lock_fs(file);
  uint64_t left = offset < node->size ? node->size - offset : 0;
  *got = left < size ? (size_t)left : size;
  if (*got > 0) memcpy(data, node->bytes + offset, *got);
  mem_file_unlock_fs(file);
  return STRATAKV_OK;
}

static int mem_file_write(skv_file *file, uint64_t offset, const void *data,
                          size_t size, skv_err *err) {
  skv_mem_node *node = mem_file_lock_fs(file);
  uint64_t end;
  int rc = STRATAKV_FULL;
  if (!__builtin_add_overflow(offset, size, &end)) {
    rc = mem_room(mem_file(file), end);
  }
  if (rc == STRATAKV_OK && size > 0) {
    memcpy(node->bytes + offset, data, size);
    if (node->size < end) node->size = end;
  }
  mem_file_unlock_fs(file);
  return rc == STRATAKV_OK ? rc : mem_error(err, rc, "write", file);
}

static int mem_file_sync(skv_file *file, skv_err *err) {
  SKV_UNUSED(file);
  SKV_UNUSED(err);
  return STRATAKV_OK;
}

static void mem_file_sync_start(skv_file *file, uint64_t offset,
                                uint64_t size) {
  SKV_UNUSED(file);
  SKV_UNUSED(offset);
  SKV_UNUSED(size);
}

static int mem_file_allocate(skv_file *file, uint64_t size, skv_err *err) {
  skv_mem_node *node = mem_file_lock_fs(file);
  int rc = mem_room(mem_file(file), size);
  if (rc == STRATAKV_OK && node->size < size) node->size = size;
  mem_file_unlock_fs(file);
  return rc == STRATAKV_OK ? rc : mem_error(err, rc, "allocate", file);
}

/* What is cut off is zeroed, so that growing again shows zeros. */
static int mem_file_truncate(skv_file *file, uint64_t size, skv_err *err) {
  skv_mem_node *node = mem_file_lock_fs(file);
  int rc = mem_room(mem_file(file), size);
  if (rc == STRATAKV_OK) {
    if (size < node->size) memset(node->bytes + size, 0, node->size - size);
    node->size = size;
  }
  mem_file_unlock_fs(file);
  return rc == STRATAKV_OK ? rc : mem_error(err, rc, "truncate", file);
}

static void mem_file_advise(skv_file *file, uint64_t offset, uint64_t size,
                            int advice) {
  SKV_UNUSED(file);
  SKV_UNUSED(offset);
  SKV_UNUSED(size);
  SKV_UNUSED(advice);
}

/* ---- Mappings ---------------------------------------------------------- */

static int mem_map_locked(skv_mem_env *env, const skv_mem_handle *handle,
                          size_t size, bool write) {
  skv_mem_node *node = handle->node;
  if (write && !handle->can_write) return STRATAKV_IOERR;
  int rc = mem_reserve(node, size);
  if (rc != STRATAKV_OK) return rc;
  skv_mem_map *map = skv_malloc(sizeof *map);
  if (map == NULL) return STRATAKV_NOMEM;
  map->env = &env->base;
  map->node = node;
  map->next = env->fs->maps;
  env->fs->maps = map;
  node->uses++;
  return STRATAKV_OK;
}

static int mem_file_map(skv_file *file, size_t size, bool write, bool random,
                        skv_err *err, void **out) {
  SKV_UNUSED(random);
  assert(size > 0);
  const skv_mem_node *node = mem_file_lock_fs(file);
  skv_mem_env *env = skv_mem_env_of(file->env);
  int rc = mem_map_locked(env, mem_file(file), size, write);
  *out = rc == STRATAKV_OK ? node->bytes : NULL;
  mem_file_unlock_fs(file);
  return rc == STRATAKV_OK ? rc : mem_error(err, rc, "map", file);
}

static void mem_unmap(skv_env *env, void *address, size_t size) {
  SKV_UNUSED(size);
  if (address == NULL) return;
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  skv_mutex_lock(&fs->mutex);
  skv_mem_map **link = &fs->maps;
  while (*link != NULL &&
         ((*link)->env != env || (*link)->node->bytes != address)) {
    link = &(*link)->next;
  }
  skv_mem_map *map = *link;
  assert(map != NULL);
  if (map != NULL) {
    *link = map->next;
    skv_mem_node_unuse(fs, map->node);
    skv_free(map);
  }
  skv_mutex_unlock(&fs->mutex);
}

/* ---- Locks ------------------------------------------------------------- */

static bool mem_overlap(const skv_mem_lock *lock, uint64_t start,
                        uint64_t end) {
  return lock->start < end && start < lock->end;
}

static bool mem_lock_conflicts(const skv_mem_node *node,
                               const skv_mem_handle *owner, uint64_t start,
                               uint64_t end, int mode) {
  for (const skv_mem_lock *l = node->locks; l != NULL; l = l->next) {
    if (l->owner == owner || !mem_overlap(l, start, end)) continue;
    if (mode == SKV_EXCLUSIVE || l->mode == SKV_EXCLUSIVE) return true;
  }
  return false;
}

static void mem_lock_link(skv_mem_node *node, skv_mem_lock *lock) {
  lock->next = node->locks;
  node->locks = lock;
}

/* Take [start, end) out of the owner's ranges. `*spare` is used, and set to
 * NULL, if one range is split in two: at most one contains both ends. */
static void mem_lock_carve(skv_mem_node *node, const skv_mem_handle *owner,
                           uint64_t start, uint64_t end, skv_mem_lock **spare) {
  skv_mem_lock **link = &node->locks;
  while (*link != NULL) {
    skv_mem_lock *l = *link;
    bool is_hit = l->owner == owner && mem_overlap(l, start, end);
    if (is_hit && start <= l->start && l->end <= end) {
      *link = l->next;
      skv_free(l);
      continue;
    }
    if (is_hit && l->start < start && end < l->end) {
      skv_mem_lock *tail = *spare;
      *spare = NULL;
      *tail = *l;
      tail->start = end;
      l->end = start;
      mem_lock_link(node, tail);
    } else if (is_hit && l->start < start) {
      l->end = start;
    } else if (is_hit) {
      l->start = end;
    }
    link = &l->next;
  }
}

void skv_mem_unlock_all(skv_mem_node *node, const skv_mem_handle *owner) {
  skv_mem_lock *none = NULL;
  mem_lock_carve(node, owner, 0, UINT64_MAX, &none);
}

/* Whether a range of the owner continues on both sides of [start, end). */
static bool mem_lock_splits(const skv_mem_node *node,
                            const skv_mem_handle *owner, uint64_t start,
                            uint64_t end) {
  for (const skv_mem_lock *l = node->locks; l != NULL; l = l->next) {
    if (l->owner == owner && l->start < start && end < l->end) return true;
  }
  return false;
}

/* What a change needs is allocated before it; an unlock that splits nothing
 * cannot fail. */
static int mem_lock_change(const skv_mem_handle *owner, uint64_t start,
                           uint64_t end, int mode) {
  skv_mem_node *node = owner->node;
  int rc = STRATAKV_OK;
  if (mode == SKV_EXCLUSIVE && !owner->can_write) return STRATAKV_IOERR;
  if (mode != SKV_UNLOCK && mem_lock_conflicts(node, owner, start, end, mode)) {
    return STRATAKV_BUSY;
  }
  skv_mem_lock *spare = NULL;
  skv_mem_lock *lock = NULL;
  if (mem_lock_splits(node, owner, start, end)) {
    spare = skv_new(sizeof *spare, &rc);
  }
  if (mode != SKV_UNLOCK) lock = skv_new(sizeof *lock, &rc);
  if (rc == STRATAKV_OK) {
    mem_lock_carve(node, owner, start, end, &spare);
    if (lock != NULL) {
      *lock = (skv_mem_lock){NULL, owner, start, end, mode};
      mem_lock_link(node, lock);
      lock = NULL;
    }
  }
  skv_free(spare);
  skv_free(lock);
  return rc;
}

static int mem_file_lock(skv_file *file, uint64_t offset, uint64_t size,
                         int mode, skv_err *err) {
  assert(size > 0);
  (void)mem_file_lock_fs(file);
  int rc = mem_lock_change(mem_file(file), offset, offset + size, mode);
  mem_file_unlock_fs(file);
  if (rc == STRATAKV_OK) return rc;
  if (rc == STRATAKV_BUSY) {
    return SKV_ERROR(err, rc, "%s is locked by another process",
                     mem_file(file)->name);
  }
  return mem_error(err, rc, "lock", file);
}

void skv_mem_file_functions(skv_env *env) {
  env->file_open = mem_file_open;
  env->file_close = mem_file_close;
  env->file_size = mem_file_size;
  env->file_is_named = mem_file_is_named;
  env->file_read = mem_file_read;
  env->file_write = mem_file_write;
  env->file_sync = mem_file_sync;
  env->file_sync_start = mem_file_sync_start;
  env->file_allocate = mem_file_allocate;
  env->file_truncate = mem_file_truncate;
  env->file_advise = mem_file_advise;
  env->file_map = mem_file_map;
  env->unmap = mem_unmap;
  env->stored = NULL;
  env->file_lock = mem_file_lock;
}
