/*
 * What the parts of the in-memory environment share: the file system's
 * objects and its functions on files.
 *
 * PURPOSE  One file system, several "processes" (skv_env objects) in one real
 *   process. A file's bytes stand at one address for its whole life, so every
 *   process maps the same memory and a race detector sees all of it.
 *
 * LOCKS  fs->mutex guards every member of every object here; bytes are also
 *   read and written through mappings, without it.
 *
 * CALLERS  env_mem.c, env_mem_file.c. Everything else uses env.h.
 */
#ifndef SKV_OS_ENV_MEM_H
#define SKV_OS_ENV_MEM_H

#include "engine/os/env.h"
#include "engine/os/thread.h"
#include "engine/util/prng.h"

#define SKV_MEM_NAME_SIZE 256
/* Address space reserved for a file when it gets its first byte; a file
 * cannot outgrow it (FULL). */
#define SKV_MEM_FILE_MAX ((size_t)1 << 30)

typedef struct skv_mem_handle skv_mem_handle;

/* A locked byte range [start, end) of a file. */
typedef struct skv_mem_lock {
  struct skv_mem_lock *next;
  const skv_mem_handle *owner;
  uint64_t start, end;
  int mode; /* SKV_SHARED or SKV_EXCLUSIVE */
} skv_mem_lock;

/* A file or directory. Freed when it has no name and no use. */
typedef struct skv_mem_node {
  struct skv_mem_node *next; /* all nodes of the file system */
  bool is_dir;
  unsigned names; /* that lead to it; a directory has one, the root none */
  uint64_t inode;
  unsigned uses;       /* open handles and mappings */
  uint8_t *bytes;      /* file: SKV_MEM_FILE_MAX reserved, or NULL */
  uint64_t size;       /* file: its bytes; those above are zero */
  skv_mem_lock *locks; /* file: no two of one owner overlap */
} skv_mem_node;

/* An entry of a directory. A file may have several, hard links. */
typedef struct skv_mem_name {
  struct skv_mem_name *next; /* all names of the file system */
  skv_mem_node *dir;         /* where it stands */
  skv_mem_node *node;        /* what it names */
  char text[SKV_MEM_NAME_SIZE];
} skv_mem_name;

/* A mapping of a node by a process. */
typedef struct skv_mem_map {
  struct skv_mem_map *next;
  const skv_env *env;
  skv_mem_node *node;
} skv_mem_map;

typedef struct skv_mem_fs {
  skv_mutex mutex;
  unsigned processes; /* envs alive; the last frees all */
  uint32_t next_pid;  /* of the next process */
  uint64_t device;    /* differs between file systems */
  uint64_t next_inode;
  skv_mem_node *nodes; /* all of them */
  skv_mem_node *root;  /* also in nodes */
  skv_mem_name *names; /* all of them */
  bool no_links;       /* no file may have a second name */
  skv_mem_map *maps;
  skv_prng prng;
  uint64_t capacity; /* bytes of all files together; 0: no bound */
} skv_mem_fs;

typedef struct skv_mem_env {
  skv_env base;
  skv_mem_fs *fs;
  uint32_t pid;
  skv_mem_handle *handles; /* open in this process */
} skv_mem_env;

/* An open directory or file: skv_dir and skv_file are alike. */
struct skv_mem_handle {
  union {
    skv_dir dir;
    skv_file file;
  } base;
  skv_mem_handle *next; /* in env->handles */
  skv_mem_node *node;
  bool can_write;
  char name[SKV_MEM_NAME_SIZE]; /* file: that it was opened by */
};

/* The caller holds fs->mutex in all of these. */
skv_mem_node *skv_mem_find(skv_mem_fs *fs, const skv_mem_node *dir,
                           const char *name); /* NULL if not there */
skv_mem_name *skv_mem_find_name(skv_mem_fs *fs, const skv_mem_node *dir,
                                const char *name); /* the entry itself */
skv_mem_name *skv_mem_name_of(skv_mem_fs *fs,
                              const skv_mem_node *node); /* one; NULL: none */
skv_mem_name *skv_mem_name_new(skv_mem_fs *fs, skv_mem_node *dir,
                               const char *text, skv_mem_node *node);
void skv_mem_name_free(skv_mem_fs *fs, skv_mem_name *name); /* unlink */
skv_mem_node *skv_mem_node_new(skv_mem_fs *fs, skv_mem_node *dir,
                               const char *name, bool is_dir);
void skv_mem_node_unuse(skv_mem_fs *fs, skv_mem_node *node);
void skv_mem_node_reap(skv_mem_fs *fs, skv_mem_node *node); /* if unneeded */
skv_mem_handle *skv_mem_handle_new(skv_mem_env *env, skv_mem_node *node);
void skv_mem_handle_free(skv_mem_handle *handle); /* its locks as well */
uint64_t skv_mem_free_bytes(const skv_mem_fs *fs);
void skv_mem_unlock_all(skv_mem_node *node, const skv_mem_handle *owner);

static inline skv_mem_env *skv_mem_env_of(skv_env *env) {
  return (skv_mem_env *)env;
}

/* The functions of env.h on files, put into the table. */
void skv_mem_file_functions(skv_env *env);

/* Whether that is the boot id of the file system's machine. */
bool skv_mem_is_boot(const skv_mem_fs *fs, const uint8_t id[16]);

#endif
