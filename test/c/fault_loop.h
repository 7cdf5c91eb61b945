/*
 * A loop that fails the calls of a piece of code one by one.
 *
 * USE  fault_world is where the code runs: an in-memory process with a failing
 *   environment around it, and the hook of the allocator. fault_begin arms a
 *   fault of a kind (below) at the n-th call of its class, fault_end disarms
 *   it.
 *
 * SITES  Where a call comes from: its return addresses, the innermost eight.
 *   A loop first runs without a fault and notes the site of each call; then it
 *   fails them. What a run reaches and what was made to fail are two sets, and
 *   a test asserts that they are equal.
 *
 * LOST BYTES  A failed sync may also drop what it should have written: then
 *   the file's bytes go back to what its last sync saw, and later syncs
 *   report success without doing anything (fault_kind.drops).
 */
#ifndef TEST_C_FAULT_LOOP_H
#define TEST_C_FAULT_LOOP_H

#include <execinfo.h>

#include "engine/os/env_fault.h"
#include "engine/util/alloc.h"
#include "engine/util/hash.h"
#include "test/c/db_fixture.h"

typedef struct fault_kind {
  const char *name;
  const char *operation; /* of the environment; NULL: the allocator */
  int code;              /* what it gives */
  bool is_forever, is_partial, is_lying;
  bool drops; /* the unsynced bytes of a file whose sync fails */
} fault_kind;

static const fault_kind fault_kinds[] = {
    {"memory", NULL, STRATAKV_NOMEM, .is_forever = false},
    {"memory", NULL, STRATAKV_NOMEM, .is_forever = true},
    {"error", "*", STRATAKV_IOERR, .is_forever = false},
    {"error", "*", STRATAKV_IOERR, .is_forever = true},
    {"full", "file_write", STRATAKV_FULL, .is_partial = true},
    {"full", "file_write", STRATAKV_FULL, .is_forever = true},
    {"full", "file_allocate", STRATAKV_FULL, .is_forever = false},
    {"full", "file_allocate", STRATAKV_FULL, .is_forever = true},
    {"short write", "file_write", STRATAKV_IOERR, .is_partial = true},
    {"open", "*_open", STRATAKV_CANTOPEN, .is_forever = false},
    {"open", "*_open", STRATAKV_CANTOPEN, .is_forever = true},
    {"lock", "file_lock", STRATAKV_IOERR, .is_forever = false},
    {"lock", "file_lock", STRATAKV_IOERR, .is_forever = true},
    {"sync", "*_sync*", STRATAKV_IOERR_FSYNC, .is_forever = false},
    {"sync", "*_sync*", STRATAKV_IOERR_FSYNC, .is_forever = true},
    {"lost sync", "*_sync*", STRATAKV_IOERR_FSYNC, .is_lying = true,
     .drops = true},
};
#define FAULT_KINDS (sizeof fault_kinds / sizeof *fault_kinds)

/* ---- Sets of sites ----------------------------------------------------- */

#define FAULT_SET 65536u /* slots, a power of two */

typedef struct fault_set {
  uint64_t slots[FAULT_SET];
  size_t count;
} fault_set;

static bool fault_set_has(const fault_set *set, uint64_t site) {
  uint64_t i = site % FAULT_SET;
  while (set->slots[i] != 0 && set->slots[i] != site) i = (i + 1) % FAULT_SET;
  return set->slots[i] == site;
}

static void fault_set_add(fault_set *set, uint64_t site) {
  uint64_t i = site % FAULT_SET;
  while (set->slots[i] != 0 && set->slots[i] != site) i = (i + 1) % FAULT_SET;
  if (set->slots[i] != 0) return;
  if (++set->count > FAULT_SET / 2) abort();
  set->slots[i] = site;
}

/* ---- The world --------------------------------------------------------- */

#define FAULT_CALLS 20000

static struct fault_world {
  skv_env *mem, *env; /* the file system, and the failing env around it */
  const fault_kind *kind;
  uint64_t nth; /* of the allocator */
  uint64_t calls, fired;
  int depth;      /* frames of whoever runs the loop: no part of a site */
  bool is_noting; /* note each call's site */
  uint64_t sites[FAULT_CALLS]; /* of the calls, from 1 */
  fault_set reached, hit;      /* by class and site */
} fault_world;

/* noinline: the frames above it are always as many. */
__attribute__((noinline)) static uint64_t fault_site(void) {
  void *frames[64];
  int n = backtrace(frames, 64) - fault_world.depth;
  if (n > 10) n = 10;
  uint64_t class = fault_world.kind->operation != NULL;
  uint64_t site =
      skv_checksum(frames + 2, (size_t)(n - 2) * sizeof *frames, class);
  return site != 0 ? site : 1;
}

static void fault_note(bool fires) {
  struct fault_world *w = &fault_world;
  w->calls++;
  w->fired += fires;
  if (!w->is_noting && !fires) return;
  uint64_t site = fault_site();
  if (w->is_noting && w->calls < FAULT_CALLS) w->sites[w->calls] = site;
  fault_set_add(w->is_noting ? &w->reached : &w->hit, site);
}

static int fault_memory(void *arg, size_t size) {
  const struct fault_world *w = &fault_world;
  SKV_UNUSED(arg);
  SKV_UNUSED(size);
  uint64_t n = w->calls + 1;
  bool fires = w->nth != 0 && (w->kind->is_forever ? n >= w->nth : n == w->nth);
  fault_note(fires);
  return fires;
}

/* ---- What the disk has ------------------------------------------------- */

/* Of one in-memory process: each file's bytes as of its last sync, and someone
 * who is told before each write. */
struct fault_bytes {
  uint64_t inode;
  uint8_t *bytes;
  size_t size;
};

static struct fault_disk {
  skv_env *mem;
  int (*plain_write)(skv_file *file, uint64_t offset, const void *data,
                     size_t size, skv_err *err);
  int (*plain_sync)(skv_file *file, skv_err *err);
  void (*event)(void);
  struct fault_bytes *kept;
  size_t count;
} fault_disk;

static struct fault_bytes *fault_disk_find(uint64_t inode) {
  for (size_t i = 0; i < fault_disk.count; i++)
    if (fault_disk.kept[i].inode == inode) return &fault_disk.kept[i];
  return NULL;
}

static void fault_disk_keep(const skv_mem_node *node) {
  struct fault_disk *d = &fault_disk;
  struct fault_bytes *kept = fault_disk_find(node->inode);
  if (kept == NULL) {
    d->kept = realloc(d->kept, (d->count + 1) * sizeof *d->kept);
    if (d->kept == NULL) abort();
    kept = &d->kept[d->count++];
    *kept = (struct fault_bytes){node->inode, NULL, 0};
  }
  free(kept->bytes);
  kept->size = node->size;
  kept->bytes = fixture_alloc(node->size);
  if (node->size > 0) memcpy(kept->bytes, node->bytes, node->size);
}

static int fault_disk_write(skv_file *file, uint64_t offset, const void *data,
                            size_t size, skv_err *err) {
  if (fault_disk.event != NULL) fault_disk.event();
  return fault_disk.plain_write(file, offset, data, size, err);
}

static int fault_disk_sync(skv_file *file, skv_err *err) {
  fault_disk_keep(((skv_mem_handle *)file)->node);
  return fault_disk.plain_sync(file, err);
}

/* What is there counts as synced. */
static void fault_disk_set(skv_env *mem, void (*event)(void)) {
  struct fault_disk *d = &fault_disk;
  const skv_mem_node *n = skv_mem_env_of(mem)->fs->nodes;
  d->mem = mem;
  d->event = event;
  d->plain_write = mem->file_write;
  d->plain_sync = mem->file_sync;
  mem->file_write = fault_disk_write;
  mem->file_sync = fault_disk_sync;
  for (; n != NULL; n = n->next)
    if (!n->is_dir) fault_disk_keep(n);
}

static void fault_disk_unset(void) {
  struct fault_disk *d = &fault_disk;
  d->mem->file_write = d->plain_write;
  d->mem->file_sync = d->plain_sync;
  for (size_t i = 0; i < d->count; i++) free(d->kept[i].bytes);
  free(d->kept);
  memset(d, 0, sizeof *d);
}

/* Back to what the last sync saw: what the kernel may do with pages that it
 * could not write. */
static void fault_drop(skv_file *inner) {
  skv_mem_node *node = ((skv_mem_handle *)inner)->node;
  const struct fault_bytes *kept = fault_disk_find(node->inode);
  if (node->bytes == NULL) return;
  size_t n = kept != NULL && kept->size < node->size ? kept->size : node->size;
  if (kept == NULL) n = 0;
  if (n > 0) memcpy(node->bytes, kept->bytes, n);
  memset(node->bytes + n, 0, node->size - n);
}

static void fault_seen(void *arg, const char *operation, skv_file *inner,
                       bool fires) {
  SKV_UNUSED(arg);
  SKV_UNUSED(operation);
  fault_note(fires);
  if (fires && fault_world.kind->drops && inner != NULL) fault_drop(inner);
}

/* nth 0: nothing fails, and every call's site is noted. */
static void fault_begin(const fault_kind *kind, uint64_t nth) {
  struct fault_world *w = &fault_world;
  w->kind = kind;
  w->nth = nth;
  w->calls = w->fired = 0;
  w->is_noting = nth == 0;
  void *frames[64];
  w->depth = backtrace(frames, 64) - 1;
  if (kind->operation == NULL) {
    skv_alloc_set_hook(fault_memory, NULL);
    return;
  }
  skv_fault fault = {.operation = kind->operation,
                     .nth = nth,
                     .is_forever = kind->is_forever,
                     /* 0: a failed sync has a code of its own */
                     .code = kind->code == STRATAKV_IOERR ? 0 : kind->code,
                     .is_partial = kind->is_partial,
                     .is_lying = kind->is_lying};
  skv_env_fault_set(w->env, &fault);
  skv_env_fault_watch(w->env, fault_seen, NULL);
}

/* Whether it was met. */
static bool fault_end(void) {
  skv_alloc_set_hook(NULL, NULL);
  skv_env_fault_set(fault_world.env, NULL);
  skv_env_fault_watch(fault_world.env, NULL, NULL);
  return fault_world.fired > 0;
}

#endif
