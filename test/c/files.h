/*
 * Real files and directories, for the tests that make some.
 */
#ifndef TEST_C_FILES_H
#define TEST_C_FILES_H

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

static inline int files_remove_one(const char *path, const struct stat *st,
                                   int kind, struct FTW *ftw) {
  (void)st;
  (void)kind;
  (void)ftw;
  return remove(path);
}

/* A file, or a directory with all that is in it; nothing is fine too. */
static inline void files_remove(const char *path) {
  nftw(path, files_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Where tests keep their files. */
static inline void files_begin(void) {
  mkdir("build", 0777);
  mkdir("build/tmp", 0777);
}

#endif
