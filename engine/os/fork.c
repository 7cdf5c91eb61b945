/*
 * What fork must not break: a handle's process, and locks.
 *
 * PURPOSE  A child has copies of the parent's descriptors, and an open file
 *   description's locks last until its last descriptor is closed: the child
 *   of a process that died would hold them. So the child closes the
 *   descriptors that own locks. Handles recognize the child by the generation.
 *
 * MOMENTS  A child is a copy of some moment: no fork comes between the open of
 *   such a descriptor and its entry in the list, or between the end of its
 *   entry and its close; and the registry's mutex is made anew, for its holder
 *   may be a thread that the child does not have (the list that it guards is
 *   the parent's anyway, see db/registry.c).
 *
 * NOT HERE  vfork, posix_spawn and exec: O_CLOEXEC covers them.
 */
#include "engine/os/env.h"

#include <pthread.h>
#include <stdatomic.h>

#include "engine/os/env_posix.h"
#include "engine/os/thread.h"
#include "engine/util/alloc.h"

typedef struct fork_entry {
  skv_file *file;
  struct fork_entry *next;
} fork_entry;

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static skv_mutex fork_mutex; /* guards the list; held across fork */
static fork_entry *fork_entries;
static _Atomic uint32_t fork_generation_now = 1;

static void fork_prepare(void) { skv_mutex_lock(&fork_mutex); }

static void fork_parent(void) { skv_mutex_unlock(&fork_mutex); }

/* Allocates and frees nothing: other threads' locks do not exist here. */
static void fork_child(void) {
  atomic_fetch_add(&fork_generation_now, 1);
  for (fork_entry *e = fork_entries; e != NULL; e = e->next) {
    skv_posix_file_abandon(e->file);
  }
  skv_mutex_init(&skv_env_posix()->registry.mutex);
  skv_mutex_unlock(&fork_mutex);
}

static void fork_install(void) {
  skv_mutex_init(&fork_mutex);
  pthread_atfork(fork_prepare, fork_parent, fork_child);
}

uint32_t skv_fork_generation(void) {
  pthread_once(&fork_once, fork_install);
  return atomic_load(&fork_generation_now);
}

void skv_fork_hold(const skv_env *env) {
  pthread_once(&fork_once, fork_install);
  if (env == skv_env_posix()) skv_mutex_lock(&fork_mutex);
}

void skv_fork_let_go(const skv_env *env) {
  if (env == skv_env_posix()) skv_mutex_unlock(&fork_mutex);
}

int skv_fork_close_add(skv_file *file) {
  if (file->env != skv_env_posix()) return STRATAKV_OK;
  fork_entry *e = skv_malloc(sizeof *e);
  if (e == NULL) return STRATAKV_NOMEM;
  e->file = file;
  e->next = fork_entries;
  fork_entries = e;
  return STRATAKV_OK;
}

void skv_fork_close_remove(skv_file *file) {
  if (file->env != skv_env_posix()) return;
  fork_entry **link = &fork_entries;
  while (*link != NULL && (*link)->file != file) link = &(*link)->next;
  fork_entry *e = *link;
  if (e != NULL) *link = e->next;
  skv_free(e);
}
