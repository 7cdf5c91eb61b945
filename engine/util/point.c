/* The points of point.h. */
#include "engine/util/point.h"

#ifdef SKV_TEST
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static skv_point_hook point_hook;
static void *point_arg;

void skv_point_set(skv_point_hook hook, void *arg) {
  point_arg = arg;
  point_hook = hook;
}

/* SKV_TEST_POINT, read once. */
static const char *point_wanted(void) {
  static _Atomic(const char *) wanted;
  const char *text = atomic_load(&wanted);
  if (text != NULL) return text;
  text = getenv("SKV_TEST_POINT");
  if (text == NULL) text = "";
  atomic_store(&wanted, text);
  return text;
}

void skv_point(const char *name) {
  static atomic_long passed;
  if (point_hook != NULL) {
    point_hook(point_arg, name);
    return;
  }
  const char *wanted = point_wanted();
  size_t len = strlen(name);
  if (strncmp(wanted, name, len) != 0 || wanted[len] != ':') return;
  if (atomic_fetch_add(&passed, 1) + 1 == strtol(wanted + len + 1, NULL, 10))
    raise(SIGKILL);
}

static _Thread_local const char *operation_now;

const char *skv_operation(void) { return operation_now; }

const char *skv_operation_begin(const char *name) {
  const char *before = operation_now;
  operation_now = name;
  return before;
}

void skv_operation_end(const char **before) { operation_now = *before; }
#endif
