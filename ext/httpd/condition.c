/* The predicate of condition.h. */
#include "ext/httpd/condition.h"

#include <string.h>

#include "stratakv.h"

/* A version as it is written: digits, no leading zero. */
static bool condition_version(const char *p, size_t len, uint64_t *out) {
  uint64_t value = 0;
  if (len == 0 || (len > 1 && p[0] == '0')) return false;
  for (size_t i = 0; i < len; i++) {
    unsigned digit = (unsigned char)p[i] - (unsigned)'0';
    if (digit > 9 || value > (UINT64_MAX - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *out = value;
  return true;
}

static const char *condition_skip(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == ',')) p++;
  return p;
}

/* One tag of the list at p; returns its end, NULL if it is none. */
static const char *condition_tag(const char *p, const char *end,
                                 bool takes_weak, skvd_tags *out) {
  bool is_weak = end - p >= 2 && p[0] == 'W' && p[1] == '/';
  const char *close;
  uint64_t version;
  if (is_weak) p += 2;
  if (p == end || *p != '"') return NULL;
  close = memchr(p + 1, '"', (size_t)(end - p - 1));
  if (close == NULL) return NULL;
  if ((takes_weak || !is_weak) &&
      condition_version(p + 1, (size_t)(close - p - 1), &version)) {
    if (out->count == SKVD_MAX_TAGS) return NULL;
    out->versions[out->count++] = version;
  }
  p = close + 1;
  return p == end || *p == ',' || *p == ' ' || *p == '\t' ? p : NULL;
}

static bool condition_list(const skvd_header *header, bool takes_weak,
                           skvd_tags *out) {
  const char *end = header->value + header->value_len;
  const char *p = condition_skip(header->value, end);
  bool is_empty = p == end;
  while (p != NULL && p < end) {
    p = condition_tag(p, end, takes_weak, out);
    if (p != NULL) p = condition_skip(p, end);
  }
  return p != NULL && !is_empty;
}

static bool condition_header(const skvd_headers *headers, const char *name,
                             bool takes_weak, skvd_tags *out) {
  const skvd_header *header = NULL;
  while ((header = skvd_headers_next(headers, name, header)) != NULL) {
    bool was_given = out->is_given;
    out->is_given = true;
    if (skvd_header_is(header, "*")) {
      if (was_given) return false;
      out->is_any = true;
    } else if (out->is_any || !condition_list(header, takes_weak, out)) {
      return false;
    }
  }
  return true;
}

bool skvd_condition_parse(const skvd_headers *headers, skvd_condition *out,
                          const char **why) {
  memset(out, 0, sizeof *out);
  if (!condition_header(headers, "If-Match", false, &out->match)) {
    *why = "If-Match is neither * nor a list of at most 64 entity tags";
    return false;
  }
  if (!condition_header(headers, "If-None-Match", true, &out->none_match)) {
    *why = "If-None-Match is neither * nor a list of at most 64 entity tags";
    return false;
  }
  return true;
}

bool skvd_condition_is_given(const skvd_condition *condition) {
  return condition->match.is_given || condition->none_match.is_given;
}

static bool condition_lists(const skvd_tags *tags, uint64_t version) {
  for (size_t i = 0; i < tags->count; i++) {
    if (tags->versions[i] == version) return true;
  }
  return false;
}

skvd_problem skvd_condition_match(const skvd_condition *condition,
                                  const skvd_state *state) {
  const skvd_tags *tags = &condition->match;
  if (!tags->is_given) return SKVD_NO_PROBLEM;
  if (!state->exists) return SKVD_KEY_MISSING;
  if (tags->is_any || condition_lists(tags, state->version)) {
    return SKVD_NO_PROBLEM;
  }
  return SKVD_VERSION_MISMATCH;
}

skvd_problem skvd_condition_none_match(const skvd_condition *condition,
                                       const skvd_state *state) {
  const skvd_tags *tags = &condition->none_match;
  if (!tags->is_given || !state->exists) return SKVD_NO_PROBLEM;
  if (tags->is_any) return SKVD_KEY_EXISTS;
  return condition_lists(tags, state->version) ? SKVD_VERSION_MISMATCH
                                               : SKVD_NO_PROBLEM;
}

skvd_problem skvd_condition_check(const skvd_condition *condition,
                                  const skvd_state *state) {
  skvd_problem problem = skvd_condition_match(condition, state);
  if (problem != SKVD_NO_PROBLEM) return problem;
  return skvd_condition_none_match(condition, state);
}

int skvd_condition_require(const skvd_condition *condition,
                           const skvd_state *state, uint64_t *version) {
  *version = 0;
  if (!state->exists) return STRATAKV_IF_ABSENT;
  if (condition->match.is_any && !condition->none_match.is_given) {
    return STRATAKV_IF_PRESENT;
  }
  *version = state->version;
  return STRATAKV_IF_VERSION;
}
