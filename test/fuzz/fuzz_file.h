/*
 * A store in memory whose files hold an input: kept from one input to the next.
 */
#ifndef TEST_FUZZ_FUZZ_FILE_H
#define TEST_FUZZ_FUZZ_FILE_H

#include "engine/os/env.h"
#include "engine/store/store.h"
#include "test/fuzz/fuzz.h"

static skv_env *fuzz_env;
static skv_store *fuzz_store;

static inline void fuzz_put(const char *name, const void *bytes, size_t size) {
  if (fuzz_store == NULL) {
    fuzz_env = skv_env_mem_new();
    FUZZ_CHECK(skv_store_open(fuzz_env, NULL, "/store", SKV_DIR_CREATE, NULL,
                              &fuzz_store) == STRATAKV_OK);
  }
  skv_dir *dir = skv_store_dir(fuzz_store);
  skv_file *file = NULL;
  int flags = SKV_FILE_WRITE | SKV_FILE_CREATE;
  FUZZ_CHECK(fuzz_env->file_open(dir, name, flags, NULL, &file) == STRATAKV_OK);
  FUZZ_CHECK(fuzz_env->file_truncate(file, 0, NULL) == STRATAKV_OK);
  FUZZ_CHECK(fuzz_env->file_write(file, 0, bytes, size, NULL) == STRATAKV_OK);
  fuzz_env->file_close(file);
}

#endif
