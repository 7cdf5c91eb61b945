/*
 * What the long tests share: how much to do, from which seed, and saying how
 * much was done.
 *
 * USE  A harness runs cases, each from a number of its own:
 *
 *        harness_begin(argc, argv);
 *        for (uint64_t n; harness_next(CASES_IN_CI, &n);) run_case(n);
 *        harness_count("images", images);
 *        return check_end();
 *
 *   In `make test` it runs cases SEED .. SEED + CASES_IN_CI - 1, always the
 *   same ones. SKV_SOAK_S in the environment (seconds, set by `make soak`)
 *   makes it go on until that time is over; SKV_PART=N (set by `make
 *   coverage`, and for the race detector) leaves an N-th. SKV_SAMPLE=N (set
 *   where a sanitizer makes it slow) leaves an N-th of a sweep that is no
 *   cases. The argument CASE runs one alone.
 *
 * MUTANTS  With SKV_MUTANT in the environment (test/mutants) a quarter is done:
 *   hundreds of planted bugs are judged, and most need the first cases only.
 *   What demands full counts asks harness_is_full.
 *
 * FAILURES  CHECK, with check_where holding "case N"; harness_next does that.
 */
#ifndef TEST_C_HARNESS_H
#define TEST_C_HARNESS_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "test/c/check.h"

static struct harness {
  uint64_t first, next, only; /* cases; only: 0 is all */
  double soak_s;              /* 0: bounded by counts */
  uint64_t share;             /* do one out of so many of the cases */
  uint64_t sample, swept;     /* one out of so many of a sweep; seen of it */
  bool is_mutant;
  double start;
  char where[32];
} harness;

static inline double harness_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void harness_begin(int argc, char **argv) {
  const char *seed = getenv("SKV_SEED");
  const char *soak = getenv("SKV_SOAK_S");
  const char *part = getenv("SKV_PART");
  const char *sample = getenv("SKV_SAMPLE");
  harness.first = seed && *seed ? strtoull(seed, NULL, 10) : 1;
  harness.soak_s = soak && *soak ? strtod(soak, NULL) : 0;
  harness.is_mutant = getenv("SKV_MUTANT") != NULL;
  harness.share = part && *part       ? strtoull(part, NULL, 10)
                  : harness.is_mutant ? 4
                                      : 1;
  harness.sample = sample && *sample ? strtoull(sample, NULL, 10) : 1;
  harness.only = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
  harness.next = harness.only ? harness.only : harness.first;
  harness.start = harness_now();
}

/* How many of so many in `make test` are to be done. */
static inline uint64_t harness_some(uint64_t in_ci) {
  return (in_ci + harness.share - 1) / harness.share;
}

/* Whether all cases are run, so that together they must reach what they can.
 * A soak may be short. */
static inline bool harness_is_full(void) {
  return harness.only == 0 && harness.share == 1 && harness.soak_s == 0;
}

/* Whether the next item of a sweep is to be done. Not each N-th: what changes
 * from item to item often repeats with a small number, too. */
static inline bool harness_samples(void) {
  uint64_t x = ++harness.swept * UINT64_C(0x9e3779b97f4a7c15);
  return harness.sample <= 1 || (x >> 32) % harness.sample == 0;
}

/* Whether a soak has time left; always false in `make test`. */
static inline bool harness_has_time(void) {
  return harness.soak_s > 0 && harness_now() - harness.start < harness.soak_s;
}

/* Whether a soak's time is over; always false in `make test`. */
static inline bool harness_is_over(void) {
  return harness.soak_s > 0 && !harness_has_time();
}

/* The next case's number; false when it is enough, or something failed. */
static inline bool harness_next(uint64_t in_ci, uint64_t *n) {
  *n = harness.next++;
  snprintf(harness.where, sizeof harness.where, "case %" PRIu64, *n);
  check_where = harness.where;
  bool goes_on = check_failures == 0;
  if (harness.only != 0)
    goes_on &= *n == harness.only;
  else if (harness.soak_s > 0)
    goes_on &= harness_has_time();
  else
    goes_on &= *n - harness.first < harness_some(in_ci);
  if (!goes_on) check_where = "";
  return goes_on;
}

#ifdef SKV_COVERAGE
extern void __gcov_dump(void);
#endif

/* End a child without what exit() does, but with its branch counts kept. */
_Noreturn static inline void harness_exit(int status) {
#ifdef SKV_COVERAGE
  __gcov_dump();
#endif
  _exit(status);
}

/* Say how much of something was done. test/floors.tsv has the least of it. */
static inline void harness_count(const char *name, uint64_t n) {
  printf("!count %s %" PRIu64 "\n", name, n);
}

#endif
