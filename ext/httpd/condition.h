/*
 * Conditions: If-Match and If-None-Match, as a predicate over the state of
 * one key, and as a guess that the engine can check at the commit.
 *
 * PURPOSE  An entity tag is a version, `"4096"`. On reads the predicate is
 *   simply asked. On writes the engine has to decide, under its lock; it can
 *   check one state (absent, present, a version). So a write guesses a state
 *   that satisfies the predicate. If the engine finds another state, that
 *   state is asked about: satisfied, it is the next guess; else it is the
 *   final refusal. Nothing rests on a read made before.
 *
 * `W/` never matches in If-Match, and is ignored in If-None-Match.
 *
 * Pure: values in, a value out.
 */
#ifndef SKVD_CONDITION_H
#define SKVD_CONDITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ext/httpd/headers.h"
#include "ext/httpd/problem.h"

#define SKVD_MAX_TAGS 64

/* One of the two headers. */
typedef struct skvd_tags {
  bool is_given;                    /* the header was there */
  bool is_any;                      /* its value was `*` */
  size_t count;                     /* versions that can match */
  uint64_t versions[SKVD_MAX_TAGS]; /* tags that are no version are left
                                       out: they match nothing */
} skvd_tags;

typedef struct skvd_condition {
  skvd_tags match;      /* If-Match */
  skvd_tags none_match; /* If-None-Match */
} skvd_condition;

/* The state of a key. */
typedef struct skvd_state {
  bool exists;
  uint64_t version; /* 0 if it does not exist */
} skvd_state;

/* Read both headers. False if one is malformed: *why says which. */
bool skvd_condition_parse(const skvd_headers *headers, skvd_condition *out,
                          const char **why);

/* Is there a condition at all? */
bool skvd_condition_is_given(const skvd_condition *condition);

/* SKVD_NO_PROBLEM if the state satisfies If-Match; else what to answer. */
skvd_problem skvd_condition_match(const skvd_condition *condition,
                                  const skvd_state *state);
/* The same for If-None-Match. */
skvd_problem skvd_condition_none_match(const skvd_condition *condition,
                                       const skvd_state *state);
/* The same for both. */
skvd_problem skvd_condition_check(const skvd_condition *condition,
                                  const skvd_state *state);

/*
 * The engine's condition (STRATAKV_IF_*) for a state that satisfies the
 * predicate; *version is its argument. The weakest that implies it: `*`
 * needs no version.
 */
int skvd_condition_require(const skvd_condition *condition,
                           const skvd_state *state, uint64_t *version);

#endif
