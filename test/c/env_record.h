/*
 * The recording environment: an in-memory one of which is known, at every
 * moment, what a power cut could leave.
 *
 * PURPOSE  A record belongs to one file system; all its processes may be
 *   attached to it. Every operation that changes files or names is logged with
 *   its data, one by one, and stays in the log until a sync of its file or
 *   directory makes it durable. `event` is called before each of them, and the
 *   images of crash.h are made from what stands here at that moment.
 *
 * MODEL  A file has bytes that are durable (base) and bytes that its users see
 *   (now): base with the file's logged operations done in order. A directory
 *   has the names that are durable; the operations logged on it lead to those
 *   that are there. Creating, linking, renaming and unlinking are one operation
 *   each.
 *   A directory's own name is an entry of the directory above.
 *
 * MAPPINGS  A store into a mapping is an operation when skv_env.stored tells
 *   of it. At every event all files are compared with the model, so a store
 *   that nobody announced is found at the next one. SHARED is left out: what a
 *   power cut leaves of it means nothing to the next boot.
 *
 * TIME  stands still but for the calls that ask for it, so that a run is
 *   repeatable. One thread only.
 */
#ifndef TEST_C_ENV_RECORD_H
#define TEST_C_ENV_RECORD_H

#include "engine/os/env_mem.h"
#include "test/c/db_fixture.h"

#define RECORD_WRITE 1    /* of a file: data at offset */
#define RECORD_STORED 2   /* the same, through a mapping */
#define RECORD_GROW 3     /* of a file: to size, allocated */
#define RECORD_TRUNCATE 4 /* of a file: to size */
#define RECORD_LINK 5     /* of a directory: `to` names target */
#define RECORD_RENAME 6   /* of a directory: from becomes `to` */
#define RECORD_UNLINK 7   /* of a directory: from is gone */

#define RECORD_NAME 64
#define RECORD_TICK_NS 20000u /* a look at the clock takes this long */

typedef struct record_op {
  int kind;       /* RECORD_* */
  uint64_t inode; /* the file or directory that it changes */
  uint64_t offset, size;
  uint8_t *data; /* owned */
  char from[RECORD_NAME], to[RECORD_NAME];
  uint64_t target;
} record_op;

typedef struct record_bytes {
  uint8_t *data;
  uint64_t size, capacity; /* those between are zero */
} record_bytes;

typedef struct record_file {
  uint64_t inode;
  record_bytes base, now;
  bool is_shared_page;
} record_file;

typedef struct record_name {
  uint64_t dir; /* inode of the directory */
  char name[RECORD_NAME];
  uint64_t inode;
} record_name;

typedef struct recording {
  skv_mem_fs *fs;
  skv_env plain; /* the functions of the in-memory environment */
  void (*event)(struct recording *r);
  record_op *ops; /* not durable yet, oldest first */
  size_t op_count;
  record_file *files;
  size_t file_count;
  record_name *names; /* durable ones, of all directories */
  size_t name_count;
  record_bytes stale; /* what an unlinked log left on the disk */
  uint64_t clock;
  uint64_t events;
  const record_op *storing; /* during event: the store that is under way */
  void *arg;                /* the harness's */
} recording;

/* Those that there are; a file system has at most one. */
#define RECORD_MAX 8
static recording *record_list[RECORD_MAX];

static inline recording *record_of(skv_env *env) {
  skv_mem_fs *fs = skv_mem_env_of(env)->fs;
  for (size_t i = 0; i < RECORD_MAX; i++)
    if (record_list[i] != NULL && record_list[i]->fs == fs)
      return record_list[i];
  abort();
}

/* ---- Bytes ------------------------------------------------------------- */

static inline void record_resize(record_bytes *b, uint64_t size) {
  if (size > b->capacity) {
    uint64_t more = size + size / 2 + 4096;
    b->data = realloc(b->data, more);
    if (b->data == NULL) abort();
    memset(b->data + b->capacity, 0, more - b->capacity);
    b->capacity = more;
  }
  if (size < b->size) memset(b->data + size, 0, b->size - size);
  b->size = size;
}

static inline void record_put(record_bytes *b, uint64_t offset,
                              const uint8_t *data, uint64_t size) {
  if (size == 0) return;
  if (offset + size > b->size) record_resize(b, offset + size);
  memcpy(b->data + offset, data, size);
}

static inline record_bytes record_bytes_copy(const record_bytes *from) {
  record_bytes copy = {0};
  record_resize(&copy, from->size);
  if (from->size > 0) memcpy(copy.data, from->data, from->size);
  return copy;
}

/* What an operation on a file does to its bytes. */
static inline void record_do(record_bytes *b, const record_op *op) {
  switch (op->kind) {
  case RECORD_WRITE:
  case RECORD_STORED: record_put(b, op->offset, op->data, op->size); break;
  case RECORD_GROW:
    if (op->size > b->size) record_resize(b, op->size);
    break;
  case RECORD_TRUNCATE: record_resize(b, op->size); break;
  default: abort();
  }
}

/* ---- Files and names --------------------------------------------------- */

static inline record_file *record_find_file(recording *r, uint64_t inode) {
  for (size_t i = 0; i < r->file_count; i++)
    if (r->files[i].inode == inode) return &r->files[i];
  return NULL;
}

static inline record_file *record_add_file(recording *r, uint64_t inode,
                                           const char *name) {
  r->files = realloc(r->files, (r->file_count + 1) * sizeof *r->files);
  if (r->files == NULL) abort();
  record_file *file = &r->files[r->file_count++];
  memset(file, 0, sizeof *file);
  file->inode = inode;
  file->is_shared_page = strcmp(name, "SHARED") == 0;
  return file;
}

/* Names are a list of their own, so that an image can have one changed. */
typedef struct record_names {
  record_name *list;
  size_t count;
} record_names;

static inline void record_names_remove(record_names *n, uint64_t dir,
                                       const char *name, uint64_t inode) {
  for (size_t i = 0; i < n->count; i++)
    if (n->list[i].dir == dir && strcmp(n->list[i].name, name) == 0 &&
        (inode == 0 || n->list[i].inode == inode))
      n->list[i--] = n->list[--n->count];
}

static inline void record_names_set(record_names *n, uint64_t dir,
                                    const char *name, uint64_t inode) {
  record_names_remove(n, dir, name, 0);
  n->list = realloc(n->list, (n->count + 1) * sizeof *n->list);
  if (n->list == NULL) abort();
  record_name *to = &n->list[n->count++];
  to->dir = dir;
  to->inode = inode;
  snprintf(to->name, sizeof to->name, "%s", name);
}

/* What an operation on a directory does to the names. */
static inline void record_do_names(record_names *n, const record_op *op) {
  if (op->kind == RECORD_RENAME)
    record_names_remove(n, op->inode, op->from, op->target);
  if (op->kind == RECORD_UNLINK)
    record_names_remove(n, op->inode, op->from, 0);
  else
    record_names_set(n, op->inode, op->to, op->target);
}

/* Whether anything can still lead to the file: a name, a name to be, a user. */
static inline bool record_is_used(recording *r, uint64_t inode) {
  for (size_t i = 0; i < r->name_count; i++)
    if (r->names[i].inode == inode) return true;
  for (size_t i = 0; i < r->op_count; i++)
    if (r->ops[i].target == inode) return true;
  for (const skv_mem_node *n = r->fs->nodes; n != NULL; n = n->next)
    if (n->inode == inode) return true;
  return false;
}

static inline void record_sweep(recording *r) {
  for (size_t i = 0; i < r->file_count; i++) {
    record_file *file = &r->files[i];
    if (record_is_used(r, file->inode)) continue;
    for (size_t o = 0; o < r->op_count; o++)
      if (r->ops[o].inode == file->inode) {
        free(r->ops[o].data);
        memmove(&r->ops[o], &r->ops[o + 1],
                (--r->op_count - o) * sizeof *r->ops);
        o--;
      }
    free(file->base.data);
    free(file->now.data);
    r->files[i--] = r->files[--r->file_count];
  }
}

/* ---- The log ----------------------------------------------------------- */

static inline record_op *record_log(recording *r, const record_op *op,
                                    const void *data) {
  r->ops = realloc(r->ops, (r->op_count + 1) * sizeof *r->ops);
  if (r->ops == NULL) abort();
  record_op *to = &r->ops[r->op_count++];
  *to = *op;
  if (data != NULL) {
    to->data = fixture_alloc(op->size);
    if (op->size > 0) memcpy(to->data, data, op->size);
  }
  return to;
}

/* The file's or directory's operations are durable now. */
static inline void record_settle(recording *r, uint64_t inode) {
  record_file *file = record_find_file(r, inode);
  record_names names = {r->names, r->name_count};
  size_t left = 0;
  for (size_t i = 0; i < r->op_count; i++) {
    record_op *op = &r->ops[i];
    if (op->inode != inode) {
      r->ops[left++] = *op;
      continue;
    }
    if (op->kind >= RECORD_LINK)
      record_do_names(&names, op);
    else if (file != NULL)
      record_do(&file->base, op);
    free(op->data);
  }
  r->op_count = left;
  r->names = names.list;
  r->name_count = names.count;
  record_sweep(r);
}

/* Write-back of what was not synced of the file failed, and whoever was told is
 * dead: its users see it, and no sync will write it. */
static inline void record_lose(recording *r, uint64_t inode) {
  size_t left = 0;
  for (size_t i = 0; i < r->op_count; i++) {
    if (r->ops[i].inode == inode)
      free(r->ops[i].data);
    else
      r->ops[left++] = r->ops[i];
  }
  r->op_count = left;
}

/* ---- Events ------------------------------------------------------------ */

/* Nothing but what was logged happened to any file. */
static inline void record_compare(recording *r) {
  for (const skv_mem_node *n = r->fs->nodes; n != NULL; n = n->next) {
    if (n->is_dir) continue;
    const record_file *file = record_find_file(r, n->inode);
    if (file == NULL || file->is_shared_page) continue;
    bool same =
        file->now.size == n->size &&
        (n->size == 0 || memcmp(file->now.data, n->bytes, n->size) == 0);
    if (same) continue;
    uint64_t at = 0;
    while (at < n->size && at < file->now.size &&
           file->now.data[at] == n->bytes[at])
      at++;
    printf("%s differs from the log of what was written to it at %llu: was a "
           "store into its mapping not announced?\n",
           skv_mem_name_of(r->fs, n) ? skv_mem_name_of(r->fs, n)->text
                                     : "a file without a name",
           (unsigned long long)at);
    CHECK(same);
    exit(check_end()); /* every later event would say so */
  }
}

static inline void record_event(recording *r) {
  r->events++;
  if (r->event != NULL) r->event(r);
}

static inline recording *record_before(skv_env *env) {
  recording *r = record_of(env);
  record_compare(r);
  record_event(r);
  return r;
}

static inline uint64_t record_inode(const void *handle) {
  return ((const skv_mem_handle *)handle)->node->inode;
}

/* An operation on a file happened. */
static inline void record_did(recording *r, const record_op *op,
                              const void *data) {
  record_file *file = record_find_file(r, op->inode);
  if (file == NULL) return;
  record_do(&file->now, record_log(r, op, data));
}

/* ---- The functions of env.h -------------------------------------------- */

static inline int record_write(skv_file *f, uint64_t at, const void *data,
                               size_t size, skv_err *err) {
  recording *r = record_before(f->env);
  int rc = r->plain.file_write(f, at, data, size, err);
  if (rc == STRATAKV_OK)
    record_did(r,
               &(record_op){.kind = RECORD_WRITE,
                            .inode = record_inode(f),
                            .offset = at,
                            .size = size},
               data);
  return rc;
}

/* The bytes stand in the mapping already; the event sees them as on their
 * way. */
static inline void record_stored(skv_file *f, uint64_t at, uint64_t size) {
  recording *r = record_of(f->env);
  const skv_mem_node *node = ((skv_mem_handle *)f)->node;
  record_op op = {.kind = RECORD_STORED,
                  .inode = node->inode,
                  .offset = at,
                  .size = size,
                  .data = node->bytes + at};
  r->storing = &op;
  record_event(r);
  r->storing = NULL;
  op.data = NULL;
  record_did(r, &op, node->bytes + at);
  record_compare(r);
}

static inline int record_sync(skv_file *f, skv_err *err) {
  recording *r = record_before(f->env);
  int rc = r->plain.file_sync(f, err);
  if (rc == STRATAKV_OK) record_settle(r, record_inode(f));
  return rc;
}

static inline int record_allocate(skv_file *f, uint64_t size, skv_err *err) {
  recording *r = record_before(f->env);
  int rc = r->plain.file_allocate(f, size, err);
  if (rc == STRATAKV_OK)
    record_did(r,
               &(record_op){
                   .kind = RECORD_GROW, .inode = record_inode(f), .size = size},
               NULL);
  return rc;
}

static inline int record_truncate(skv_file *f, uint64_t size, skv_err *err) {
  recording *r = record_before(f->env);
  int rc = r->plain.file_truncate(f, size, err);
  if (rc == STRATAKV_OK)
    record_did(r,
               &(record_op){.kind = RECORD_TRUNCATE,
                            .inode = record_inode(f),
                            .size = size},
               NULL);
  return rc;
}

static inline skv_mem_node *record_node(skv_dir *d, const char *name) {
  skv_mem_fs *fs = skv_mem_env_of(d->env)->fs;
  skv_mutex_lock(&fs->mutex);
  skv_mem_node *node = skv_mem_find(fs, ((skv_mem_handle *)d)->node, name);
  skv_mutex_unlock(&fs->mutex);
  return node;
}

static inline void record_did_names(recording *r, int kind, uint64_t dir,
                                    const char *from, const char *to,
                                    uint64_t target) {
  record_op op = {.kind = kind, .inode = dir, .target = target};
  snprintf(op.from, sizeof op.from, "%s", from);
  snprintf(op.to, sizeof op.to, "%s", to);
  record_log(r, &op, NULL);
}

static inline int record_open(skv_dir *d, const char *name, int flags,
                              skv_err *err, skv_file **out) {
  recording *r = record_of(d->env);
  bool makes = (flags & SKV_FILE_CREATE) && record_node(d, name) == NULL;
  if (makes) record_before(d->env);
  int rc = r->plain.file_open(d, name, flags, err, out);
  if (makes && rc == STRATAKV_OK) {
    record_add_file(r, record_inode(*out), name);
    record_did_names(r, RECORD_LINK, record_inode(d), "", name,
                     record_inode(*out));
  }
  return rc;
}

/* What names a directory in the one above; NULL for the root. */
static inline const skv_mem_name *record_own_name(skv_dir *d) {
  return skv_mem_name_of(skv_mem_env_of(d->env)->fs,
                         ((skv_mem_handle *)d)->node);
}

static inline int record_dir_open(skv_env *env, const char *base,
                                  const char *path, int flags, skv_err *err,
                                  skv_dir **out) {
  recording *r = record_before(env);
  uint64_t last = r->fs->next_inode;
  int rc = r->plain.dir_open(env, base, path, flags, err, out);
  if (rc != STRATAKV_OK || record_inode(*out) <= last) return rc;
  const skv_mem_name *made = record_own_name(*out);
  record_did_names(r, RECORD_LINK, made->dir->inode, "", made->text,
                   made->node->inode);
  return rc;
}

/* What stood in a log that goes may turn up in a file that is to come. */
static inline void record_keep_stale(recording *r, const skv_mem_node *node) {
  const record_file *file =
      node != NULL ? record_find_file(r, node->inode) : NULL;
  if (file == NULL || file->now.size < 8 ||
      memcmp(file->now.data, "STRATWAL", 8) != 0)
    return;
  free(r->stale.data);
  r->stale = record_bytes_copy(&file->now);
}

static inline int record_rename(skv_dir *d, const char *from, const char *to,
                                skv_err *err) {
  recording *r = record_before(d->env);
  const skv_mem_node *node = record_node(d, from);
  uint64_t inode = node != NULL ? node->inode : 0;
  int rc = r->plain.dir_rename(d, from, to, err);
  if (rc == STRATAKV_OK)
    record_did_names(r, RECORD_RENAME, record_inode(d), from, to, inode);
  return rc;
}

/* A second name is durable when its directory is. */
static inline int record_link(skv_dir *from_dir, const char *from,
                              skv_dir *to_dir, const char *to, skv_err *err) {
  recording *r = record_before(to_dir->env);
  const skv_mem_node *node = record_node(from_dir, from);
  int rc = r->plain.dir_link(from_dir, from, to_dir, to, err);
  if (rc == STRATAKV_OK)
    record_did_names(r, RECORD_LINK, record_inode(to_dir), "", to, node->inode);
  return rc;
}

static inline int record_unlink(skv_dir *d, const char *name, skv_err *err) {
  recording *r = record_before(d->env);
  record_keep_stale(r, record_node(d, name));
  int rc = r->plain.dir_unlink(d, name, err);
  if (rc == STRATAKV_OK)
    record_did_names(r, RECORD_UNLINK, record_inode(d), name, "", 0);
  return rc;
}

static inline int record_dir_remove(skv_dir *d, skv_err *err) {
  recording *r = record_before(d->env);
  const skv_mem_name *own = record_own_name(d);
  skv_mem_name was = own != NULL ? *own : (skv_mem_name){0};
  int rc = r->plain.dir_remove(d, err);
  if (rc == STRATAKV_OK)
    record_did_names(r, RECORD_UNLINK, was.dir->inode, was.text, "", 0);
  return rc;
}

static inline int record_dir_sync(skv_dir *d, skv_err *err) {
  recording *r = record_before(d->env);
  int rc = r->plain.dir_sync(d, err);
  if (rc == STRATAKV_OK) record_settle(r, record_inode(d));
  return rc;
}

static inline int record_dir_sync_parent(skv_dir *d, skv_err *err) {
  recording *r = record_before(d->env);
  int rc = r->plain.dir_sync_parent(d, err);
  const skv_mem_name *own = record_own_name(d);
  if (rc == STRATAKV_OK && own != NULL) record_settle(r, own->dir->inode);
  return rc;
}

static inline uint64_t record_now(skv_env *env) {
  return record_of(env)->clock += RECORD_TICK_NS;
}
static inline void record_sleep(skv_env *env, uint64_t nanoseconds) {
  record_of(env)->clock += nanoseconds;
}
static inline void record_wait(skv_env *env, const uint32_t *word,
                               uint32_t value, uint64_t timeout_ns) {
  SKV_UNUSED(word);
  SKV_UNUSED(value);
  record_of(env)->clock += timeout_ns;
}

/* ---- Beginning and ending ---------------------------------------------- */

/* What this process does is recorded from here on. */
static inline void record_attach(recording *r, skv_env *env) {
  if (skv_mem_env_of(env)->fs != r->fs) abort();
  env->file_write = record_write;
  env->stored = record_stored;
  env->file_sync = record_sync;
  env->file_allocate = record_allocate;
  env->file_truncate = record_truncate;
  env->file_open = record_open;
  env->dir_open = record_dir_open;
  env->dir_rename = record_rename;
  env->dir_link = record_link;
  env->dir_unlink = record_unlink;
  env->dir_remove = record_dir_remove;
  env->dir_sync = record_dir_sync;
  env->dir_sync_parent = record_dir_sync_parent;
  env->now = record_now;
  env->sleep = record_sleep;
  env->wait = record_wait;
}

/* It goes on without being recorded. */
static inline void record_detach(recording *r, skv_env *env) {
  const skv_env *plain = &r->plain;
  env->file_write = plain->file_write;
  env->stored = plain->stored;
  env->file_sync = plain->file_sync;
  env->file_allocate = plain->file_allocate;
  env->file_truncate = plain->file_truncate;
  env->file_open = plain->file_open;
  env->dir_open = plain->dir_open;
  env->dir_rename = plain->dir_rename;
  env->dir_link = plain->dir_link;
  env->dir_unlink = plain->dir_unlink;
  env->dir_remove = plain->dir_remove;
  env->dir_sync = plain->dir_sync;
  env->dir_sync_parent = plain->dir_sync_parent;
  env->now = plain->now;
  env->sleep = plain->sleep;
  env->wait = plain->wait;
}

static inline recording *record_new(skv_env *env, void (*event)(recording *r)) {
  recording *r = fixture_alloc(sizeof *r);
  size_t i = 0;
  while (i < RECORD_MAX && record_list[i] != NULL) i++;
  if (i == RECORD_MAX) abort();
  record_list[i] = r;
  r->fs = skv_mem_env_of(env)->fs;
  r->plain = *env;
  r->event = event;
  r->clock = env->now(env); /* only differences matter */
  return r;
}

/* Record a process of a file system; what is there counts as durable. */
static inline recording *record_begin(skv_env *env,
                                      void (*event)(recording *r)) {
  recording *r = record_new(env, event);
  record_names names = {0};
  for (const skv_mem_node *n = r->fs->nodes; n != NULL; n = n->next) {
    if (n->is_dir || n->names == 0) continue;
    const char *name = skv_mem_name_of(r->fs, n)->text;
    record_file *file = record_add_file(r, n->inode, name);
    record_put(&file->now, 0, n->bytes, n->size);
    file->base = record_bytes_copy(&file->now);
  }
  for (const skv_mem_name *n = r->fs->names; n != NULL; n = n->next)
    record_names_set(&names, n->dir->inode, n->text, n->node->inode);
  r->names = names.list;
  r->name_count = names.count;
  record_attach(r, env);
  return r;
}

/* ---- Taking a record along --------------------------------------------- */

/*
 * When everybody dies the machine goes on, and what is not durable is still
 * on its way. A copy of the record at that moment, resumed on the image of
 * that moment, is the record of those who come next.
 */
typedef struct record_copy {
  recording r;
  record_names there; /* the names that users see, of all directories */
  uint64_t root;
} record_copy;

static inline record_copy *record_copy_new(const recording *r) {
  record_copy *copy = fixture_alloc(sizeof *copy);
  copy->root = r->fs->root->inode;
  for (const skv_mem_name *n = r->fs->names; n != NULL; n = n->next)
    record_names_set(&copy->there, n->dir->inode, n->text, n->node->inode);
  for (size_t i = 0; i < r->op_count; i++)
    record_log(&copy->r, &r->ops[i], r->ops[i].data);
  copy->r.file_count = r->file_count;
  copy->r.files = fixture_alloc(r->file_count * sizeof *r->files);
  for (size_t i = 0; i < r->file_count; i++) {
    copy->r.files[i] = r->files[i];
    copy->r.files[i].base = record_bytes_copy(&r->files[i].base);
    copy->r.files[i].now = record_bytes_copy(&r->files[i].now);
  }
  copy->r.name_count = r->name_count;
  copy->r.names = fixture_alloc(r->name_count * sizeof *r->names);
  memcpy(copy->r.names, r->names, r->name_count * sizeof *r->names);
  copy->r.stale = record_bytes_copy(&r->stale);
  copy->r.clock = r->clock;
  return copy;
}

static inline skv_mem_node *record_new_node(const record_copy *copy,
                                            skv_mem_fs *fs, uint64_t inode);

/* The entry that an entry of the copy has in fs; NULL: none. */
static inline skv_mem_name *record_new_name(const record_copy *copy,
                                            skv_mem_fs *fs,
                                            const record_name *name) {
  const skv_mem_node *dir = record_new_node(copy, fs, name->dir);
  return dir != NULL ? skv_mem_find_name(fs, dir, name->name) : NULL;
}

static inline skv_mem_node *record_new_node(const record_copy *copy,
                                            skv_mem_fs *fs, uint64_t inode) {
  if (inode == copy->root) return fs->root;
  for (size_t i = 0; i < copy->there.count; i++) {
    if (copy->there.list[i].inode != inode) continue;
    skv_mem_name *name = record_new_name(copy, fs, &copy->there.list[i]);
    if (name != NULL) return name->node;
  }
  return NULL;
}

/* The inode that an inode of the copy has in fs. What nobody can name any more
 * keeps a number of its own. */
static inline uint64_t record_new_inode(const record_copy *copy, skv_mem_fs *fs,
                                        uint64_t inode) {
  if (inode == 0) return 0;
  const skv_mem_node *node = record_new_node(copy, fs, inode);
  return node != NULL ? node->inode : inode | UINT64_C(1) << 63;
}

/* An image holds a file once for each of its names: one file again. */
static inline void record_join_links(const record_copy *copy, skv_mem_fs *fs) {
  for (size_t i = 0; i < copy->there.count; i++) {
    skv_mem_node *node = record_new_node(copy, fs, copy->there.list[i].inode);
    skv_mem_name *name = record_new_name(copy, fs, &copy->there.list[i]);
    if (name == NULL || name->node == node) continue;
    skv_mem_node *dir = name->dir;
    skv_mem_name_free(fs, name);
    if (skv_mem_name_new(fs, dir, copy->there.list[i].name, node) == NULL)
      abort();
  }
}

/* Go on with the copy, which is used up, on env's file system, which holds
 * what the copied one held. */
static inline recording *record_resume(record_copy *copy, skv_env *env) {
  recording *r = record_new(env, NULL);
  skv_mem_fs *fs = r->fs;
  skv_env plain = r->plain;
  *r = copy->r;
  memset(&copy->r, 0, sizeof copy->r);
  r->fs = fs;
  r->plain = plain;
  record_join_links(copy, fs);
  for (size_t i = 0; i < r->op_count; i++) {
    r->ops[i].inode = record_new_inode(copy, fs, r->ops[i].inode);
    r->ops[i].target = record_new_inode(copy, fs, r->ops[i].target);
  }
  for (size_t i = 0; i < r->file_count; i++) {
    record_file *file = &r->files[i];
    file->inode = record_new_inode(copy, fs, file->inode);
  }
  for (size_t i = 0; i < r->name_count; i++) {
    r->names[i].dir = record_new_inode(copy, fs, r->names[i].dir);
    r->names[i].inode = record_new_inode(copy, fs, r->names[i].inode);
  }
  record_attach(r, env);
  return r;
}

static inline void record_clear(recording *r) {
  for (size_t i = 0; i < r->op_count; i++) free(r->ops[i].data);
  for (size_t i = 0; i < r->file_count; i++) {
    free(r->files[i].base.data);
    free(r->files[i].now.data);
  }
  free(r->stale.data);
  free(r->ops);
  free(r->files);
  free(r->names);
}

static inline void record_copy_free(record_copy *copy) {
  if (copy == NULL) return;
  record_clear(&copy->r);
  free(copy->there.list);
  free(copy);
}

static inline void record_free(recording *r) {
  for (size_t i = 0; i < RECORD_MAX; i++)
    if (record_list[i] == r) record_list[i] = NULL;
  record_clear(r);
  free(r);
}

#endif
