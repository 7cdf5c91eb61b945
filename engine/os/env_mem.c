/*
 * The in-memory environment: processes, directories, time and identity. Files
 * are in env_mem_file.c; the objects are described in env_mem.h.
 *
 * The file system starts with an empty root, "/", which is also the current
 * directory. Randomness is repeatable; time is the real clock.
 */
#include "engine/os/env_mem.h"

#include <stdatomic.h>
#include <stdio.h>

#include "engine/util/alloc.h"
#include "engine/util/buf.h"

#define MEM_FREE_BYTES ((uint64_t)1 << 40) /* what dir_free claims */

/* ---- Nodes and handles ------------------------------------------------- */

skv_mem_name *skv_mem_find_name(skv_mem_fs *fs, const skv_mem_node *dir,
                                const char *name) {
  skv_mem_name *n = fs->names;
  while (n != NULL && (n->dir != dir || strcmp(n->text, name) != 0)) {
    n = n->next;
  }
  return n;
}

skv_mem_node *skv_mem_find(skv_mem_fs *fs, const skv_mem_node *dir,
                           const char *name) {
  const skv_mem_name *n = skv_mem_find_name(fs, dir, name);
  return n != NULL ? n->node : NULL;
}

skv_mem_name *skv_mem_name_of(skv_mem_fs *fs, const skv_mem_node *node) {
  skv_mem_name *n = fs->names;
  while (n != NULL && n->node != node) n = n->next;
  return n;
}

skv_mem_name *skv_mem_name_new(skv_mem_fs *fs, skv_mem_node *dir,
                               const char *text, skv_mem_node *node) {
  int rc = STRATAKV_OK;
  skv_mem_name *name = skv_new(sizeof *name, &rc);
  if (name == NULL) return NULL;
  snprintf(name->text, sizeof name->text, "%s", text);
  name->dir = dir;
  name->node = node;
  node->names++;
  name->next = fs->names;
  fs->names = name;
  return name;
}

void skv_mem_name_free(skv_mem_fs *fs, skv_mem_name *name) {
  skv_mem_name **link = &fs->names;
  while (*link != name) link = &(*link)->next;
  *link = name->next;
  name->node->names--;
  skv_mem_node_reap(fs, name->node);
  skv_free(name);
}

/* The root is in no directory. */
skv_mem_node *skv_mem_node_new(skv_mem_fs *fs, skv_mem_node *dir,
                               const char *name, bool is_dir) {
  int rc = STRATAKV_OK;
  skv_mem_node *node = skv_new(sizeof *node, &rc);
  if (node == NULL) return NULL;
  if (dir != NULL && skv_mem_name_new(fs, dir, name, node) == NULL) {
    skv_free(node);
    return NULL;
  }
  node->is_dir = is_dir;
  node->inode = ++fs->next_inode;
  node->next = fs->nodes;
  fs->nodes = node;
  return node;
}

static void mem_node_free(skv_mem_fs *fs, skv_mem_node *node) {
  skv_mem_node **link = &fs->nodes;
  while (*link != node) link = &(*link)->next;
  *link = node->next;
  skv_pages_free(node->bytes, SKV_MEM_FILE_MAX);
  skv_free(node);
}

uint64_t skv_mem_free_bytes(const skv_mem_fs *fs) {
  uint64_t used = 0;
  if (fs->capacity == 0) return MEM_FREE_BYTES;
  for (const skv_mem_node *n = fs->nodes; n != NULL; n = n->next)
    used += (n->size + 4095) & ~UINT64_C(4095);
  return used < fs->capacity ? fs->capacity - used : 0;
}

void skv_mem_node_reap(skv_mem_fs *fs, skv_mem_node *node) {
  if (node->uses > 0 || node->names > 0 || node == fs->root) return;
  mem_node_free(fs, node);
}

void skv_mem_node_unuse(skv_mem_fs *fs, skv_mem_node *node) {
  node->uses--;
  skv_mem_node_reap(fs, node);
}

skv_mem_handle *skv_mem_handle_new(skv_mem_env *env, skv_mem_node *node) {
  int rc = STRATAKV_OK;
  skv_mem_handle *handle = skv_new(sizeof *handle, &rc);
  if (handle == NULL) return NULL;
  handle->base.dir.env = &env->base;
  handle->node = node;
  node->uses++;
  handle->next = env->handles;
  env->handles = handle;
  return handle;
}

void skv_mem_handle_free(skv_mem_handle *handle) {
  skv_mem_env *env = skv_mem_env_of(handle->base.dir.env);
  skv_mem_handle **link = &env->handles;
  while (*link != handle) link = &(*link)->next;
  *link = handle->next;
  skv_mem_unlock_all(handle->node, handle);
  skv_mem_node_unuse(env->fs, handle->node);
  skv_free(handle);
}

static skv_mem_fs *mem_dir_fs(skv_dir *dir) {
  return skv_mem_env_of(dir->env)->fs;
}

static skv_mem_node *mem_dir_node(skv_dir *dir) {
  return ((skv_mem_handle *)dir)->node;
}

/* ---- Opening directories ----------------------------------------------- */

/* A walk along a path. */
typedef struct mem_walk {
  skv_mem_fs *fs;
  skv_mem_node *node; /* where it is */
  int depth;          /* components below its start */
  int flags;          /* SKV_DIR_* */
} mem_walk;

/* Go to `name`; the last component may be made. Codes as dir_open. */
static int mem_walk_step(mem_walk *walk, const char *name, bool is_last) {
  if (strcmp(name, ".") == 0) return STRATAKV_OK;
  if (strcmp(name, "..") == 0) {
    walk->depth--;
    if ((walk->flags & SKV_DIR_BENEATH) && walk->depth < 0) {
      return STRATAKV_AUTH;
    }
    const skv_mem_name *own = skv_mem_name_of(walk->fs, walk->node);
    if (own != NULL) walk->node = own->dir;
    return STRATAKV_OK;
  }
  skv_mem_node *next = skv_mem_find(walk->fs, walk->node, name);
  if (next == NULL) {
    if (!is_last || !(walk->flags & SKV_DIR_CREATE)) return STRATAKV_NOTFOUND;
    next = skv_mem_node_new(walk->fs, walk->node, name, true);
    if (next == NULL) return STRATAKV_NOMEM;
  } else if (is_last && (walk->flags & SKV_DIR_EXCLUSIVE)) {
    return STRATAKV_CONSTRAINT;
  }
  if (!next->is_dir) return STRATAKV_CANTOPEN;
  walk->node = next;
  walk->depth++;
  return STRATAKV_OK;
}

static int mem_walk_path(mem_walk *walk, const char *path) {
  char name[SKV_MEM_NAME_SIZE];
  if (path[0] == '/') {
    if (walk->flags & SKV_DIR_BENEATH) return STRATAKV_AUTH;
    walk->node = walk->fs->root;
  }
  path += strspn(path, "/");
  int rc = STRATAKV_OK;
  while (rc == STRATAKV_OK && *path != '\0') {
    size_t n = strcspn(path, "/");
    if (n >= sizeof name) return STRATAKV_CANTOPEN;
    memcpy(name, path, n);
    name[n] = '\0';
    path += n;
    path += strspn(path, "/");
    rc = mem_walk_step(walk, name, *path == '\0');
  }
  return rc;
}

static int mem_dir_error(skv_err *err, int rc, const char *base,
                         const char *path, int flags) {
  bool is_alone = path[0] == '/' || strcmp(base, ".") == 0;
  const char *above = is_alone ? "" : base;
  const char *slash = is_alone ? "" : "/";
  if (rc == STRATAKV_AUTH) {
    return SKV_ERROR(err, rc,
                     "\"%s\" leaves \"%s\" or meets a symlink; use an "
                     "absolute path",
                     path, base);
  }
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  if (rc == STRATAKV_CANTOPEN || rc == STRATAKV_CONSTRAINT) {
    return SKV_ERROR(err, rc, "\"%s%s%s\" %s", above, slash, path,
                     rc == STRATAKV_CANTOPEN ? "is not a directory" : "exists");
  }
  if (flags & SKV_DIR_CREATE) {
    return SKV_ERROR(err, STRATAKV_CANTOPEN,
                     "cannot create \"%s%s%s\": the directory above is "
                     "missing",
                     above, slash, path);
  }
  return SKV_ERROR(err, STRATAKV_CANTOPEN, "no store at \"%s%s%s\"", above,
                   slash, path);
}

static int mem_dir_open(skv_env *base_env, const char *base, const char *path,
                        int flags, skv_err *err, skv_dir **out) {
  skv_mem_env *env = skv_mem_env_of(base_env);
  *out = NULL;
  if (base == NULL) base = ".";
  mem_walk walk = {env->fs, env->fs->root, 0, 0};
  skv_mem_handle *handle = NULL;
  skv_mutex_lock(&env->fs->mutex);
  int rc = mem_walk_path(&walk, base);
  if (rc == STRATAKV_OK) {
    walk.depth = 0;
    walk.flags = flags;
    rc = mem_walk_path(&walk, path);
  }
  if (rc == STRATAKV_OK) {
    handle = skv_mem_handle_new(env, walk.node);
    if (handle == NULL) rc = STRATAKV_NOMEM;
  }
  skv_mutex_unlock(&env->fs->mutex);
  if (rc != STRATAKV_OK) return mem_dir_error(err, rc, base, path, flags);
  *out = &handle->base.dir;
  return STRATAKV_OK;
}

static void mem_dir_close(skv_dir *dir) {
  if (dir == NULL) return;
  skv_mem_fs *fs = mem_dir_fs(dir);
  skv_mutex_lock(&fs->mutex);
  skv_mem_handle_free((skv_mem_handle *)dir);
  skv_mutex_unlock(&fs->mutex);
}

/* ---- Directories ------------------------------------------------------- */

/* The path of a directory, written from its end to its start. */
static int mem_path(skv_mem_fs *fs, const skv_mem_node *node, char path[4096]) {
  size_t at = 4095;
  path[at] = '\0';
  const skv_mem_name *name;
  for (; (name = skv_mem_name_of(fs, node)) != NULL; node = name->dir) {
    size_t n = strlen(name->text);
    if (n + 1 > at) return STRATAKV_CANTOPEN;
    at -= n;
    memcpy(path + at, name->text, n);
    path[--at] = '/';
  }
  if (path[at] == '\0') path[--at] = '/';
  memmove(path, path + at, 4096 - at);
  return STRATAKV_OK;
}

static int mem_dir_info(skv_dir *dir, skv_err *err, skv_dir_info *out) {
  skv_mem_fs *fs = mem_dir_fs(dir);
  memset(out, 0, sizeof *out);
  skv_mutex_lock(&fs->mutex);
  out->device = fs->device;
  out->inode = mem_dir_node(dir)->inode;
  int rc = mem_path(fs, mem_dir_node(dir), out->path);
  skv_mutex_unlock(&fs->mutex);
  out->owner = 1000;
  out->euid = 1000;
  out->mode = 0700;
  out->can_overwrite = true;
  out->fs_bytes = fs->capacity;
  if (rc != STRATAKV_OK) return SKV_ERROR(err, rc, "path too long");
  return STRATAKV_OK;
}

/* The names are copied first: `each` may call back. */
static int mem_dir_list(skv_dir *dir, int (*each)(void *arg, const char *name),
                        void *arg, skv_err *err) {
  skv_mem_fs *fs = mem_dir_fs(dir);
  skv_buf names = {0};
  skv_mutex_lock(&fs->mutex);
  for (const skv_mem_name *n = fs->names; n != NULL; n = n->next) {
    if (n->dir != mem_dir_node(dir)) continue;
    skv_buf_append(&names, n->text, strlen(n->text) + 1);
  }
  skv_mutex_unlock(&fs->mutex);
  int rc = names.rc;
  if (rc != STRATAKV_OK) skv_error_nomem(err);
  size_t at = 0;
  while (rc == STRATAKV_OK && at < names.size) {
    const char *name = (const char *)names.data + at;
    at += strlen(name) + 1;
    rc = each(arg, name);
  }
  skv_buf_clear(&names);
  return rc;
}

static int mem_dir_sync(skv_dir *dir, skv_err *err) {
  SKV_UNUSED(dir);
  SKV_UNUSED(err);
  return STRATAKV_OK;
}

/* What renaming `from` onto `to` may not do. */
static int mem_rename_locked(skv_mem_fs *fs, skv_mem_node *dir,
                             const char *from, const char *to) {
  skv_mem_name *name = skv_mem_find_name(fs, dir, from);
  skv_mem_name *old = skv_mem_find_name(fs, dir, to);
  if (name == NULL) return STRATAKV_NOTFOUND;
  if (old != NULL && old->node == name->node) return STRATAKV_OK;
  if (old != NULL && (old->node->is_dir || name->node->is_dir))
    return STRATAKV_IOERR;
  if (strlen(to) >= SKV_MEM_NAME_SIZE) return STRATAKV_IOERR;
  if (old != NULL) skv_mem_name_free(fs, old);
  snprintf(name->text, sizeof name->text, "%s", to);
  return STRATAKV_OK;
}

static int mem_dir_rename(skv_dir *dir, const char *from, const char *to,
                          skv_err *err) {
  skv_mem_fs *fs = mem_dir_fs(dir);
  skv_mutex_lock(&fs->mutex);
  int rc = mem_rename_locked(fs, mem_dir_node(dir), from, to);
  skv_mutex_unlock(&fs->mutex);
  if (rc == STRATAKV_OK) return rc;
  return SKV_ERROR(err, rc, "cannot rename %s: %s", from,
                   rc == STRATAKV_NOTFOUND ? "no such file" : "in the way");
}

static int mem_dir_unlink(skv_dir *dir, const char *name, skv_err *err) {
  skv_mem_fs *fs = mem_dir_fs(dir);
  int rc = STRATAKV_OK;
  skv_mutex_lock(&fs->mutex);
  skv_mem_name *entry = skv_mem_find_name(fs, mem_dir_node(dir), name);
  if (entry == NULL) {
    rc = STRATAKV_NOTFOUND;
  } else if (entry->node->is_dir) {
    rc = STRATAKV_IOERR;
  } else {
    skv_mem_name_free(fs, entry);
  }
  skv_mutex_unlock(&fs->mutex);
  if (rc == STRATAKV_OK) return rc;
  return SKV_ERROR(err, rc, "cannot remove %s: %s", name,
                   rc == STRATAKV_NOTFOUND ? "no such file" : "a directory");
}

static int mem_link_locked(skv_mem_fs *fs, skv_dir *from_dir, const char *from,
                           skv_dir *to_dir, const char *to) {
  skv_mem_node *dir = mem_dir_node(to_dir);
  skv_mem_node *node = skv_mem_find(fs, mem_dir_node(from_dir), from);
  if (mem_dir_fs(to_dir) != fs || fs->no_links) return STRATAKV_CANTOPEN;
  if (node == NULL) return STRATAKV_NOTFOUND;
  if (node->is_dir || strlen(to) >= SKV_MEM_NAME_SIZE) return STRATAKV_CANTOPEN;
  if (skv_mem_find(fs, dir, to) != NULL) return STRATAKV_CONSTRAINT;
  bool made = skv_mem_name_new(fs, dir, to, node) != NULL;
  return made ? STRATAKV_OK : STRATAKV_NOMEM;
}

static int mem_dir_link(skv_dir *from_dir, const char *from, skv_dir *to_dir,
                        const char *to, skv_err *err) {
  skv_mem_fs *fs = mem_dir_fs(from_dir);
  skv_mutex_lock(&fs->mutex);
  int rc = mem_link_locked(fs, from_dir, from, to_dir, to);
  skv_mutex_unlock(&fs->mutex);
  if (rc == STRATAKV_OK) return rc;
  if (rc == STRATAKV_NOMEM) return skv_error_nomem(err);
  return SKV_ERROR(err, rc, "cannot link %s: %s", from,
                   rc == STRATAKV_NOTFOUND     ? "no such file"
                   : rc == STRATAKV_CONSTRAINT ? "the new name exists"
                                               : "not supported");
}

static int mem_dir_remove(skv_dir *dir, skv_err *err) {
  skv_mem_fs *fs = mem_dir_fs(dir);
  skv_mem_node *node = mem_dir_node(dir);
  skv_mutex_lock(&fs->mutex);
  skv_mem_name *own = skv_mem_name_of(fs, node);
  bool is_used = own == NULL;
  for (const skv_mem_name *n = fs->names; n != NULL; n = n->next) {
    is_used |= n->dir == node;
  }
  if (!is_used) skv_mem_name_free(fs, own); /* the node: with this handle */
  skv_mutex_unlock(&fs->mutex);
  if (!is_used) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_IOERR, "cannot remove a directory in use");
}

static int mem_dir_free(skv_dir *dir, skv_err *err, uint64_t *bytes) {
  skv_mem_fs *fs = mem_dir_fs(dir);
  SKV_UNUSED(err);
  skv_mutex_lock(&fs->mutex);
  *bytes = skv_mem_free_bytes(fs);
  skv_mutex_unlock(&fs->mutex);
  return STRATAKV_OK;
}

static int mem_find_path(skv_env *env, const char *path, skv_err *err,
                         char out[4096]) {
  SKV_UNUSED(env);
  if (strlen(path) >= 4096)
    return SKV_ERROR(err, STRATAKV_CANTOPEN, "path is too long");
  memcpy(out, path, strlen(path) + 1);
  return STRATAKV_OK;
}

/* ---- Identity ---------------------------------------------------------- */

static int mem_random(skv_env *env, void *data, size_t size, skv_err *err) {
  SKV_UNUSED(err);
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  skv_mutex_lock(&fs->mutex);
  skv_prng_fill(&fs->prng, data, size);
  skv_mutex_unlock(&fs->mutex);
  return STRATAKV_OK;
}

static void mem_fs_boot_id(const skv_mem_fs *fs, uint8_t id[16]) {
  memset(id, 0xb0, 16);
  memcpy(id, &fs->device, 8);
}

static void mem_boot_id(skv_env *env, uint8_t id[16]) {
  mem_fs_boot_id(skv_mem_env_of(env)->fs, id);
}

bool skv_mem_is_boot(const skv_mem_fs *fs, const uint8_t id[16]) {
  uint8_t own[16];
  mem_fs_boot_id(fs, own);
  return memcmp(own, id, 16) == 0;
}

static uint32_t mem_pid(skv_env *env) { return skv_mem_env_of(env)->pid; }

static void mem_program(skv_env *env, char name[16]) {
  memset(name, 0, 16);
  snprintf(name, 16, "mem%u", (unsigned)skv_mem_env_of(env)->pid);
}

/* ---- Processes --------------------------------------------------------- */

static void mem_functions(skv_env *env) {
  const skv_env *real = skv_env_posix();
  env->name = "mem";
  env->dir_open = mem_dir_open;
  env->dir_close = mem_dir_close;
  env->dir_info = mem_dir_info;
  env->dir_list = mem_dir_list;
  env->dir_sync = mem_dir_sync;
  env->dir_sync_parent = mem_dir_sync;
  env->dir_rename = mem_dir_rename;
  env->dir_unlink = mem_dir_unlink;
  env->dir_link = mem_dir_link;
  env->dir_remove = mem_dir_remove;
  env->dir_free = mem_dir_free;
  env->canonical = mem_find_path;
  skv_mem_file_functions(env);
  env->now = real->now;
  env->wall = real->wall;
  env->random = mem_random;
  env->boot_id = mem_boot_id;
  env->pid = mem_pid;
  env->program = mem_program;
  env->sleep = real->sleep;
  env->wait = real->wait;
  env->wake = real->wake;
}

/* A process of fs; NULL without memory. */
static skv_env *mem_process_new(skv_mem_fs *fs) {
  int rc = STRATAKV_OK;
  skv_mem_env *env = skv_new(sizeof *env, &rc);
  if (env == NULL) return NULL;
  mem_functions(&env->base);
  skv_mutex_init(&env->base.registry.mutex);
  env->fs = fs;
  skv_mutex_lock(&fs->mutex);
  env->pid = fs->next_pid++;
  fs->processes++;
  skv_mutex_unlock(&fs->mutex);
  return &env->base;
}

static void mem_fs_free(skv_mem_fs *fs) {
  while (fs->names != NULL) skv_mem_name_free(fs, fs->names);
  while (fs->nodes != NULL) mem_node_free(fs, fs->nodes);
  skv_mutex_clear(&fs->mutex);
  skv_free(fs);
}

skv_env *skv_env_mem_new(void) {
  static _Atomic uint64_t devices;
  int rc = STRATAKV_OK;
  skv_mem_fs *fs = skv_new(sizeof *fs, &rc);
  if (fs == NULL) return NULL;
  skv_mutex_init(&fs->mutex);
  fs->device = atomic_fetch_add(&devices, 1) + 1;
  fs->next_pid = 1001;
  fs->root = skv_mem_node_new(fs, NULL, "", true);
  skv_env *env = fs->root != NULL ? mem_process_new(fs) : NULL;
  if (env == NULL) mem_fs_free(fs);
  return env;
}

skv_env *skv_env_mem_process(skv_env *mem) {
  return mem_process_new(skv_mem_env_of(mem)->fs);
}

/* Mappings of a dead process no longer keep their nodes. */
static void mem_drop_maps(skv_mem_fs *fs, const skv_env *env) {
  skv_mem_map **link = &fs->maps;
  while (*link != NULL) {
    skv_mem_map *map = *link;
    if (map->env != env) {
      link = &map->next;
      continue;
    }
    *link = map->next;
    skv_mem_node_unuse(fs, map->node);
    skv_free(map);
  }
}

void skv_env_mem_free(skv_env *mem) {
  if (mem == NULL) return;
  skv_mem_env *env = skv_mem_env_of(mem);
  skv_mem_fs *fs = env->fs;
  skv_mutex_lock(&fs->mutex);
  while (env->handles != NULL) skv_mem_handle_free(env->handles);
  mem_drop_maps(fs, mem);
  bool is_last = --fs->processes == 0;
  skv_mutex_unlock(&fs->mutex);
  skv_mutex_clear(&mem->registry.mutex);
  skv_free(env);
  if (is_last) mem_fs_free(fs);
}
