/* The decoder of target.h. */
#include "ext/httpd/target.h"

#include <string.h>

static int target_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static bool target_is_escape(const char *p, const char *end) {
  return end - p >= 3 && target_hex(p[1]) >= 0 && target_hex(p[2]) >= 0;
}

/* Is every byte allowed, and every escape whole? */
static bool target_check_bytes(const char *p, const char *end,
                               const char **why) {
  for (; p < end; p++) {
    unsigned char c = (unsigned char)*p;
    if (c < 0x21 || c == 0x7f || c == '#') {
      *why = "the target has a byte that must be escaped";
      return false;
    }
    if (c == '%' && !target_is_escape(p, end)) {
      *why = "the target has a bad escape";
      return false;
    }
  }
  return true;
}

/* Decode checked bytes; returns how many came out. */
static size_t target_decode(const char *p, size_t len, bool plus_is_space,
                            char *out) {
  char *start = out;
  for (size_t i = 0; i < len; i++) {
    if (p[i] == '%') {
      *out++ = (char)(target_hex(p[i + 1]) * 16 + target_hex(p[i + 2]));
      i += 2;
    } else {
      *out++ = p[i] == '+' && plus_is_space ? ' ' : p[i];
    }
  }
  return (size_t)(out - start);
}

/* Decode one `name=value` into space; returns the bytes it took there. */
static size_t target_decode_param(const char *p, size_t len, char *space,
                                  skvd_param *out) {
  const char *equals = memchr(p, '=', len);
  size_t name_len = equals == NULL ? len : (size_t)(equals - p);
  out->name = space;
  out->name_len = target_decode(p, name_len, true, space);
  out->value = space + out->name_len;
  out->value_len = 0;
  if (equals != NULL) {
    out->value_len = target_decode(equals + 1, len - name_len - 1, true,
                                   space + out->name_len);
  }
  return out->name_len + out->value_len;
}

static skvd_problem target_parse_query(const char *p, const char *end,
                                       char *space, skvd_target *out,
                                       const char **why) {
  while (p < end) {
    const char *stop = memchr(p, '&', (size_t)(end - p));
    size_t len = (size_t)((stop == NULL ? end : stop) - p);
    if (len > 0) {
      if (out->param_count == SKVD_MAX_PARAMS) {
        *why = "there are over 16 parameters";
        return SKVD_INVALID_PARAMETER;
      }
      space +=
          target_decode_param(p, len, space, &out->params[out->param_count++]);
    }
    p += len + 1;
  }
  return SKVD_NO_PROBLEM;
}

skvd_problem skvd_target_parse(const char *raw, size_t len, char *space,
                               skvd_target *out, const char **why) {
  const char *end = raw + len;
  const char *query = memchr(raw, '?', len);
  memset(out, 0, sizeof *out);
  if (len == 0 || raw[0] != '/') {
    *why = "the target does not start with /";
    return SKVD_INVALID_TARGET;
  }
  if (!target_check_bytes(raw, end, why)) return SKVD_INVALID_TARGET;
  out->path = raw;
  out->path_len = query == NULL ? len : (size_t)(query - raw);
  if (query == NULL) return SKVD_NO_PROBLEM;
  return target_parse_query(query + 1, end, space, out, why);
}

size_t skvd_target_tail(const skvd_target *target, size_t from, char *out) {
  return target_decode(target->path + from, target->path_len - from, false,
                       out);
}

static bool target_param_is(const skvd_param *param, const char *name) {
  return strlen(name) == param->name_len &&
         memcmp(name, param->name, param->name_len) == 0;
}

const skvd_param *skvd_target_param(const skvd_target *target,
                                    const char *name) {
  for (size_t i = 0; i < target->param_count; i++) {
    if (target_param_is(&target->params[i], name)) return &target->params[i];
  }
  return NULL;
}

static bool target_is_known(const skvd_param *param, const char *const *known) {
  for (; *known != NULL; known++) {
    if (target_param_is(param, *known)) return true;
  }
  return false;
}

bool skvd_target_check_params(const skvd_target *target,
                              const char *const *known,
                              const skvd_param **which) {
  for (size_t i = 0; i < target->param_count; i++) {
    *which = &target->params[i];
    if (!target_is_known(*which, known)) return false;
    for (size_t j = 0; j < i; j++) {
      const skvd_param *other = &target->params[j];
      if (other->name_len == (*which)->name_len &&
          memcmp(other->name, (*which)->name, other->name_len) == 0) {
        return false;
      }
    }
  }
  *which = NULL;
  return true;
}
