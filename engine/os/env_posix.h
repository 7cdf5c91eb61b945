/*
 * What the parts of the real environment share: its objects, its functions
 * and how errno becomes an error.
 *
 * CALLERS  env_posix*.c, fork.c and tests. Everything else uses env.h.
 */
#ifndef SKV_OS_ENV_POSIX_H
#define SKV_OS_ENV_POSIX_H

#include "engine/os/env.h"

#define SKV_POSIX_NAME_SIZE 64 /* of a file's name kept for messages */

typedef struct skv_posix_dir {
  skv_dir base;
  int fd;
  char *path; /* as it was opened, base included; for messages */
} skv_posix_dir;

typedef struct skv_posix_file {
  skv_file base;
  int fd; /* -1 in a forked child that closed it */
  char name[SKV_POSIX_NAME_SIZE];
} skv_posix_file;

/* An error "cannot <operation> <name>: <the system's words>" with the code
 * that env.h gives for `number`, an errno value. */
int skv_posix_error(skv_err *err, const char *operation, const char *name,
                    int number);

/* openat, O_CLOEXEC added, EINTR continued, the result above 2: a message
 * that some library prints to a closed stderr must not land in our files. -1
 * and errno on failure. */
int skv_posix_openat(int at, const char *path, int flags, unsigned mode);

/*
 * Open a directory beneath `at` one component at a time, without symlinks and
 * without `..`: what openat2 does where the kernel lacks it. -1 and errno on
 * failure, EXDEV or ELOOP if the path is refused.
 */
int skv_posix_open_walk(int at, const char *path);

/* The functions of env.h, by their names there. */
int skv_posix_dir_open(skv_env *env, const char *base, const char *path,
                       int flags, skv_err *err, skv_dir **out);
void skv_posix_dir_close(skv_dir *dir);
int skv_posix_dir_info(skv_dir *dir, skv_err *err, skv_dir_info *out);
int skv_posix_dir_list(skv_dir *dir, int (*each)(void *arg, const char *name),
                       void *arg, skv_err *err);
int skv_posix_dir_sync(skv_dir *dir, skv_err *err);
int skv_posix_dir_sync_parent(skv_dir *dir, skv_err *err);
int skv_posix_dir_rename(skv_dir *dir, const char *from, const char *to,
                         skv_err *err);
int skv_posix_dir_unlink(skv_dir *dir, const char *name, skv_err *err);
int skv_posix_dir_link(skv_dir *from_dir, const char *from, skv_dir *to_dir,
                       const char *to, skv_err *err);
int skv_posix_dir_remove(skv_dir *dir, skv_err *err);
int skv_posix_find_path(skv_env *env, const char *path, skv_err *err,
                        char out[4096]);
int skv_posix_dir_free(skv_dir *dir, skv_err *err, uint64_t *bytes);

int skv_posix_file_open(skv_dir *dir, const char *name, int flags, skv_err *err,
                        skv_file **out);
void skv_posix_file_close(skv_file *file);
int skv_posix_file_size(skv_file *file, skv_err *err, uint64_t *size);
bool skv_posix_file_is_named(skv_file *file);
int skv_posix_file_read(skv_file *file, uint64_t offset, void *data,
                        size_t size, skv_err *err, size_t *got);
int skv_posix_file_write(skv_file *file, uint64_t offset, const void *data,
                         size_t size, skv_err *err);
int skv_posix_file_sync(skv_file *file, skv_err *err);
void skv_posix_file_sync_start(skv_file *file, uint64_t offset, uint64_t size);
int skv_posix_file_allocate(skv_file *file, uint64_t size, skv_err *err);
int skv_posix_file_truncate(skv_file *file, uint64_t size, skv_err *err);
void skv_posix_file_advise(skv_file *file, uint64_t offset, uint64_t size,
                           int advice);
int skv_posix_file_map(skv_file *file, size_t size, bool write, bool random,
                       skv_err *err, void **out);
void skv_posix_unmap(skv_env *env, void *map, size_t size);
int skv_posix_file_lock(skv_file *file, uint64_t offset, uint64_t size,
                        int mode, skv_err *err);

/* Close the descriptor of a file of this environment and keep the object;
 * another environment's file is left alone. Safe in a forked child. */
void skv_posix_file_abandon(skv_file *file);

#endif
