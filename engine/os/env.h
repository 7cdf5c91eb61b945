/*
 * The environment: every system call, clock and random byte, behind one table.
 *
 * PURPOSE  The engine above runs unchanged on the real system (env_posix.c),
 *   in memory with several "processes" (env_mem.c), and on one that fails
 *   where a test says (env_fault.c, wraps another). Functions fill err with
 *   the operation, the file's name and the system's word for the reason.
 *
 * NAMES  A file is named by a directory handle and one component; nothing
 *   above knows paths. Files are opened O_CLOEXEC | O_NOFOLLOW and must be
 *   regular.
 *
 * CODES  EIO and unknown: IOERR. ENOSPC, EDQUOT: FULL. ENOENT: NOTFOUND.
 *   EACCES, EPERM, EROFS, EMFILE, ELOOP on open: CANTOPEN. EEXIST: CONSTRAINT.
 *   A failed sync: IOERR_FSYNC. EINTR and short transfers are continued
 *   inside.
 *
 * THREADS  Any thread may call anything; one skv_file's positioned calls may
 *   run concurrently.
 */
#ifndef SKV_OS_ENV_H
#define SKV_OS_ENV_H

#include "engine/os/thread.h"
#include "engine/util/bytes.h"
#include "engine/util/err.h"

typedef struct skv_env skv_env;
typedef struct skv_dir skv_dir;   /* an open directory */
typedef struct skv_file skv_file; /* an open file: one open description */

/* What every skv_dir and skv_file begins with. */
struct skv_dir {
  skv_env *env;
};
struct skv_file {
  skv_env *env;
};

/* dir_open flags. BENEATH: path is relative to base and must stay beneath it,
 * without a symlink on the way: AUTH otherwise. */
#define SKV_DIR_CREATE 1 /* make the last component, mode 0700 */
#define SKV_DIR_BENEATH 2
#define SKV_DIR_EXCLUSIVE 4 /* with CREATE: CONSTRAINT if it exists */

typedef struct skv_dir_info {
  uint64_t device; /* with inode: which directory this is */
  uint64_t inode;
  uint32_t owner;     /* user id */
  uint32_t euid;      /* effective user id of this process */
  uint32_t mode;      /* permission bits */
  bool can_overwrite; /* overwriting allocated bytes in place allocates nothing
                        (ext4, xfs, tmpfs): the log may be mapped (P15) */
  uint64_t fs_bytes;  /* size of the file system; 0: not known */
  bool is_read_only;  /* the file system, to everybody here */
  bool is_network;    /* NFS, SMB and the like: not for sharing */
  char path[4096];    /* canonical absolute path */
} skv_dir_info;

/* file_open flags. What CREATE makes is for whom the directory is for: 0600 in
 * one of 0700, 0660 and its group in one of 0770; never for others. */
#define SKV_FILE_WRITE 1     /* read and write; else read only */
#define SKV_FILE_CREATE 2    /* make it if missing */
#define SKV_FILE_EXCLUSIVE 4 /* with CREATE: CONSTRAINT if it exists */

/* file_advise */
#define SKV_ADVISE_RANDOM 1   /* no readahead for this open description */
#define SKV_ADVISE_DROP 2     /* drop clean cached pages of the range */
#define SKV_ADVISE_WILLNEED 3 /* start reading the range */

/* Byte-range lock modes */
#define SKV_UNLOCK 0
#define SKV_SHARED 1
#define SKV_EXCLUSIVE 2

struct skv_env {
  const char *name;

  /* Directories. */
  int (*dir_open)(skv_env *env, const char *base, const char *path, int flags,
                  skv_err *err, skv_dir **out);
  void (*dir_close)(skv_dir *dir);
  int (*dir_info)(skv_dir *dir, skv_err *err, skv_dir_info *out);
  /* Call each(arg, name) for every entry but . and ..; stops when it returns
   * not 0 and returns that. */
  int (*dir_list)(skv_dir *dir, int (*each)(void *arg, const char *name),
                  void *arg, skv_err *err);
  int (*dir_sync)(skv_dir *dir, skv_err *err);
  /* Sync the directory that contains this one (a new store's entry). */
  int (*dir_sync_parent)(skv_dir *dir, skv_err *err);
  int (*dir_rename)(skv_dir *dir, const char *from, const char *to,
                    skv_err *err); /* replaces `to` */
  int (*dir_unlink)(skv_dir *dir, const char *name, skv_err *err);
  /* Give a file a second name, `to` in to_dir (a hard link). CANTOPEN if these
   * two directories cannot share it (another file system, or one without
   * links): a copy still may. CONSTRAINT if `to` exists. */
  int (*dir_link)(skv_dir *from_dir, const char *from, skv_dir *to_dir,
                  const char *to, skv_err *err);
  /* Remove the directory itself, which must be empty; it stays open. */
  int (*dir_remove)(skv_dir *dir, skv_err *err);
  /* Free bytes of the file system, for the disk reserve and messages. */
  int (*dir_free)(skv_dir *dir, skv_err *err, uint64_t *bytes);

  /* The canonical absolute path of an existing file; NOTFOUND or CANTOPEN. */
  int (*canonical)(skv_env *env, const char *path, skv_err *err,
                   char out[4096]);

  /* Files. */
  int (*file_open)(skv_dir *dir, const char *name, int flags, skv_err *err,
                   skv_file **out);
  void (*file_close)(skv_file *file);
  int (*file_size)(skv_file *file, skv_err *err, uint64_t *size);
  /* Whether a name leads to it still; true if that cannot be known. */
  bool (*file_is_named)(skv_file *file);
  /* Read exactly size bytes; *got is how many there were before the end. */
  int (*file_read)(skv_file *file, uint64_t offset, void *data, size_t size,
                   skv_err *err, size_t *got);
  int (*file_write)(skv_file *file, uint64_t offset, const void *data,
                    size_t size, skv_err *err);
  int (*file_sync)(skv_file *file, skv_err *err); /* fdatasync */
  /* Start write-back of a range and return (sync_file_range); a hint. */
  void (*file_sync_start)(skv_file *file, uint64_t offset, uint64_t size);
  /* Make [0, size) allocated and the file at least that long; bytes not
   * written before read as zero. */
  int (*file_allocate)(skv_file *file, uint64_t size, skv_err *err);
  int (*file_truncate)(skv_file *file, uint64_t size, skv_err *err);
  void (*file_advise)(skv_file *file, uint64_t offset, uint64_t size,
                      int advice);
  /* Map [0, size) shared; writable if `write`. With `random` no readahead. The
   * mapping outlives the file. */
  int (*file_map)(skv_file *file, size_t size, bool write, bool random,
                  skv_err *err, void **out);
  void (*unmap)(skv_env *env, void *map, size_t size);
  /* Bytes were stored into a writable mapping of file (offset, size): told to
   * recording environments. May be NULL. */
  void (*stored)(skv_file *file, uint64_t offset, uint64_t size);

  /* Open-file-description locks on byte ranges: owned by the skv_file, gone
   * when it is closed or its process dies. Never waits: BUSY if another
   * description holds a conflicting one. Changing mode is atomic. */
  int (*file_lock)(skv_file *file, uint64_t offset, uint64_t size, int mode,
                   skv_err *err);

  /* Time, chance, identity. */
  uint64_t (*now)(skv_env *env);  /* monotonic nanoseconds */
  uint64_t (*wall)(skv_env *env); /* Unix time, nanoseconds */
  int (*random)(skv_env *env, void *data, size_t size, skv_err *err);
  void (*boot_id)(skv_env *env, uint8_t id[16]); /* differs after a reboot */
  uint32_t (*pid)(skv_env *env);
  void (*program)(skv_env *env, char name[16]); /* NUL terminated */
  void (*sleep)(skv_env *env, uint64_t nanoseconds);
  /* Wait until *word (in memory shared between processes) is not `value`, a
   * wake, or the timeout; may return early. */
  void (*wait)(skv_env *env, const uint32_t *word, uint32_t value,
               uint64_t timeout_ns);
  void (*wake)(skv_env *env, const uint32_t *word); /* all waiters */

  /* What the process has open; only db/registry.c knows. */
  struct skv_env_registry {
    skv_mutex mutex;
    struct skv_db *list;
    uint32_t generation; /* of fork, when the list was made */
  } registry;
};

/* The real system; one per process, never freed. */
skv_env *skv_env_posix(void);

/*
 * An environment in memory: a file system of its own that several "processes"
 * share. skv_env_mem_new makes a file system with its first process;
 * skv_env_mem_process adds another process to it (its own registry above and
 * its own locks; directories show the same files). skv_env_mem_free ends a
 * process (its locks vanish); the last one frees the files.
 */
skv_env *skv_env_mem_new(void);
skv_env *skv_env_mem_process(skv_env *mem);
void skv_env_mem_free(skv_env *mem);

/* Counter that changes in the child of a fork: handles compare it. The first
 * call installs the fork handler; skv_fork_close_add adds a descriptor-owning
 * file whose descriptor the child closes (lock files). Between hold and let_go
 * no other thread forks: a file is opened and added, or removed and closed, in
 * one such moment, or a child could keep its locks. */
uint32_t skv_fork_generation(void);
void skv_fork_hold(const skv_env *env); /* the real system's forks only */
void skv_fork_let_go(const skv_env *env);
int skv_fork_close_add(skv_file *file);
void skv_fork_close_remove(skv_file *file);

#endif
