/*
 * A directory of the real file system for one test program, with its name in
 * it: build/tmp/NAME.XXXXXX below the current directory, or in memory, removed
 * at the end.
 */
#ifndef TEST_C_REAL_DIR_H
#define TEST_C_REAL_DIR_H

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char real_dir[PATH_MAX];

static inline void real_dir_make_in(const char *base, const char *name) {
  char made[64];
  snprintf(made, sizeof made, "%s/%s.XXXXXX", base, name);
  if (mkdtemp(made) == NULL || realpath(made, real_dir) == NULL) {
    perror(made);
    exit(1);
  }
}

static inline void real_dir_make(const char *name) {
  (void)mkdir("build", 0777);
  (void)mkdir("build/tmp", 0777);
  real_dir_make_in("build/tmp", name);
}

/* Where syncing waits for no device, if there is such a place. */
static inline void real_dir_make_quick(const char *name) {
  if (access("/dev/shm", W_OK) == 0)
    real_dir_make_in("/dev/shm", name);
  else
    real_dir_make(name);
}

/* A path below it; the last four stay valid. */
static inline const char *real_path(const char *name) {
  static char paths[4][PATH_MAX + 64];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", real_dir, name);
  return path;
}

static inline int real_dir_remove_one(const char *path, const struct stat *st,
                                      int flag, struct FTW *ftw) {
  (void)st;
  (void)flag;
  (void)ftw;
  return remove(path);
}

static inline void real_dir_remove(void) {
  nftw(real_dir, real_dir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
