/*
 * What the tests of the file backend share: checks that name the environment,
 * and files behind the store's back.
 */
#ifndef TEST_C_STORE_FIXTURE_H
#define TEST_C_STORE_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/os/env_fault.h"
#include "engine/store/store.h"
#include "engine/util/alloc.h"
#include "engine/util/hash.h"

static unsigned checks, failures;
static const char *environment; /* name of the one under test */

static int check(int ok, const char *what, int line) {
  checks++;
  if (ok) return 1;
  failures++;
  printf("%s: store_test.c:%d: not true: %s\n", environment, line, what);
  return 0;
}
#define CHECK(x) check(!!(x), #x, __LINE__)

/* A call that must succeed; the message is shown if it does not. */
static skv_err last;
static int expect(int rc, int want, const char *what, int line) {
  if (rc == want) return check(1, what, line);
  printf("%s (%d, not %d)\n", rc ? last.message : "it succeeded", rc, want);
  return check(0, what, line);
}
#define OK(call) expect((call), STRATAKV_OK, #call, __LINE__)
#define FAILS(code, call) expect((call), (code), #call, __LINE__)

/* ---- Files behind the store's back ------------------------------------- */

static void put_file(skv_store *s, const char *name, const void *data,
                     size_t size) {
  skv_env *env = skv_store_env(s);
  skv_file *f = NULL;
  if (!OK(env->file_open(skv_store_dir(s), name,
                         SKV_FILE_WRITE | SKV_FILE_CREATE, &last, &f)))
    return;
  OK(env->file_truncate(f, 0, &last));
  if (size) OK(env->file_write(f, 0, data, size, &last));
  env->file_close(f);
}

static bool exists(skv_store *s, const char *name) {
  skv_file *f = NULL;
  int rc = skv_store_env(s)->file_open(skv_store_dir(s), name, 0, NULL, &f);
  if (rc == STRATAKV_OK) skv_store_env(s)->file_close(f);
  return rc == STRATAKV_OK;
}

static void drop_file(skv_store *s, const char *name) {
  OK(skv_store_env(s)->dir_unlink(skv_store_dir(s), name, &last));
}

typedef struct name_list {
  char names[64][64];
  size_t count;
} name_list;

static int add_name(void *arg, const char *name) {
  name_list *list = arg;
  if (list->count < 64) snprintf(list->names[list->count++], 64, "%s", name);
  return 0;
}

/* Leave the store's directory empty. */
static void wipe(skv_store *s) {
  name_list list = {.count = 0};
  OK(skv_store_env(s)->dir_list(skv_store_dir(s), add_name, &list, &last));
  for (size_t i = 0; i < list.count; i++) drop_file(s, list.names[i]);
}

static skv_name tmp_name(uint64_t n) {
  skv_name name = {
      .kind = SKV_NAME_TMP, .number = n, .slot = 3, .incarnation = 9};
  return name;
}

static void fill(uint8_t *p, size_t size, unsigned seed) {
  uint32_t x = seed * 2654435761u + 1;
  for (size_t i = 0; i < size; i++) {
    x = x * 1664525u + 1013904223u;
    p[i] = (uint8_t)(x >> 24);
  }
}

#endif
