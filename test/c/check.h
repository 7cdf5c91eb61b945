/*
 * What the C test programs share: counting checks and printing those that
 * fail. A program ends with `return check_end();`.
 */
#ifndef TEST_C_CHECK_H
#define TEST_C_CHECK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

/* Counted without ordering anything: the race detector watches those who
 * check. */
static _Atomic unsigned check_count, check_failures;

static inline bool check_that(bool holds, const char *file, int line,
                              const char *what, const char *where) {
  atomic_fetch_add_explicit(&check_count, 1, memory_order_relaxed);
  if (!holds) {
    atomic_fetch_add_explicit(&check_failures, 1, memory_order_relaxed);
    printf("%s:%d: failed%s%s: %s\n", file, line, *where ? " in " : "", where,
           what);
  }
  return holds;
}

/* Where a check runs, for functions that run several times; "" is nowhere. */
static const char *check_where = "";

#define CHECK(condition)                                                       \
  check_that((condition), __FILE__, __LINE__, #condition, check_where)

/* What came to pass and must not. */
#define check_failed(what)                                                     \
  ((void)check_that(false, __FILE__, __LINE__, what, check_where))

/* The last line and the exit status. */
static inline int check_end(void) {
  if (check_failures > 0) printf("%u failed\n", check_failures);
  printf("%u checks\n", check_count);
  return check_failures > 0 || check_count == 0;
}

#endif
