/* The rules of guard.h. */
#include "ext/httpd/guard.h"

#include <string.h>
#include <strings.h>

/* A Host value in its two parts. */
typedef struct guard_host {
  const char *name; /* without brackets */
  size_t name_len;  /* its bytes */
  const char *port; /* its digits, NULL if there is none */
  size_t port_len;  /* their number */
} guard_host;

static bool guard_split(const char *p, size_t len, guard_host *out) {
  const char *end = p + len;
  const char *colon;
  memset(out, 0, sizeof *out);
  if (len > 0 && *p == '[') {
    const char *close = memchr(p, ']', len);
    if (close == NULL) return false;
    out->name = p + 1;
    out->name_len = (size_t)(close - p - 1);
    colon = close + 1;
    if (colon < end && *colon != ':') return false;
  } else {
    colon = memchr(p, ':', len);
    if (colon == NULL) colon = end;
    out->name = p;
    out->name_len = (size_t)(colon - p);
  }
  if (colon < end) {
    out->port = colon + 1;
    out->port_len = (size_t)(end - colon - 1);
  }
  return out->name_len > 0;
}

static bool guard_is_port(const guard_host *host, uint16_t port) {
  unsigned value = 0;
  if (host->port == NULL) return true;
  if (host->port_len == 0 || host->port_len > 5) return false;
  for (size_t i = 0; i < host->port_len; i++) {
    unsigned digit = (unsigned char)host->port[i] - (unsigned)'0';
    if (digit > 9) return false;
    value = value * 10 + digit;
  }
  return value == port;
}

static bool guard_is_own(const skvd_guard *guard, const guard_host *host) {
  const char *names[] = {"localhost", "127.0.0.1", "::1", guard->host,
                         guard->local};
  if (!guard_is_port(host, guard->port)) return false;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (names[i] != NULL &&
        skvd_text_is(host->name, host->name_len, names[i])) {
      return true;
    }
  }
  return false;
}

static bool guard_is_allowed(const skvd_guard *guard, const skvd_header *header,
                             const guard_host *host) {
  for (size_t i = 0; i < guard->allow_hosts->count; i++) {
    const char *allowed = guard->allow_hosts->at[i];
    guard_host parts;
    if (skvd_header_is(header, allowed)) return true;
    if (guard_split(allowed, strlen(allowed), &parts) && parts.port == NULL &&
        parts.name_len == host->name_len &&
        strncasecmp(host->name, parts.name, parts.name_len) == 0) {
      return true;
    }
  }
  return false;
}

static bool guard_check_host(const skvd_guard *guard,
                             const skvd_headers *headers) {
  const skvd_header *header = skvd_headers_find(headers, "Host");
  guard_host host;
  if (!guard->checks_host) return true;
  if (header == NULL || !guard_split(header->value, header->value_len, &host)) {
    return false;
  }
  return guard_is_own(guard, &host) || guard_is_allowed(guard, header, &host);
}

static bool guard_check_origin(const skvd_guard *guard,
                               const skvd_headers *headers) {
  const skvd_header *header = NULL;
  while ((header = skvd_headers_next(headers, "Origin", header)) != NULL) {
    bool is_allowed = false;
    for (size_t i = 0; i < guard->allow_origins->count; i++) {
      is_allowed |= skvd_header_is(header, guard->allow_origins->at[i]);
    }
    if (!is_allowed) return false;
  }
  return true;
}

skvd_problem skvd_guard_check(const skvd_guard *guard,
                              const skvd_headers *headers) {
  if (!guard_check_host(guard, headers)) return SKVD_HOST_NOT_ALLOWED;
  if (!guard_check_origin(guard, headers)) return SKVD_ORIGIN_NOT_ALLOWED;
  return SKVD_NO_PROBLEM;
}
