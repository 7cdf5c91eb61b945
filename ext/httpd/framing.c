/* The rules of framing.h. */
#include "ext/httpd/framing.h"

#include <string.h>
#include <strings.h>

/* Headers that decide something here; none of them may be continued. */
static const char *const framing_known[] = {
    "Authorization", "Content-Encoding",  "Content-Length", "Content-Type",
    "Host",          "If-Match",          "If-None-Match",  "Origin",
    "Strata-Type",   "Transfer-Encoding",
};

static bool framing_is_token(const char *p, size_t len) {
  static const char marks[] = "!#$%&'*+-.^_`|~";
  for (size_t i = 0; i < len; i++) {
    char c = p[i];
    bool is_ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                 (c >= 'A' && c <= 'Z') || (c != 0 && strchr(marks, c) != NULL);
    if (!is_ok) return false;
  }
  return len > 0;
}

static bool framing_continues_known(const skvd_header *header) {
  size_t n = sizeof framing_known / sizeof framing_known[0];
  for (size_t i = 0; i < n; i++) {
    size_t len = strlen(framing_known[i]);
    if (header->name_len > len &&
        strncasecmp(header->name, framing_known[i], len) == 0) {
      return true;
    }
  }
  return false;
}

static bool framing_has_control(const char *p, size_t len) {
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)p[i];
    if ((c < 0x20 && c != '\t') || c == 0x7f) return true;
  }
  return false;
}

static skvd_problem framing_check_fields(const skvd_headers *headers,
                                         const char **why) {
  for (size_t i = 0; i < headers->count; i++) {
    const skvd_header *header = &headers->at[i];
    if (!framing_is_token(header->name, header->name_len)) {
      *why = "a header name is not a token";
      return SKVD_FRAMING;
    }
    if (framing_continues_known(header)) {
      *why = "a header name continues a known one";
      return SKVD_FRAMING;
    }
    if (framing_has_control(header->value, header->value_len)) {
      *why = "a header value has a control character";
      return SKVD_FRAMING;
    }
  }
  return SKVD_NO_PROBLEM;
}

static skvd_problem framing_check_host(const skvd_headers *headers,
                                       const char **why) {
  const skvd_header *host = skvd_headers_find(headers, "Host");
  if (host == NULL) return SKVD_NO_PROBLEM;
  if (skvd_headers_next(headers, "Host", host) != NULL) {
    *why = "there are two Host headers";
    return SKVD_FRAMING;
  }
  if (host->value_len == 0) {
    *why = "the Host header is empty";
    return SKVD_FRAMING;
  }
  return SKVD_NO_PROBLEM;
}

/* Digits only, without overflow. */
static bool framing_number(const skvd_header *header, uint64_t *out) {
  uint64_t value = 0;
  for (size_t i = 0; i < header->value_len; i++) {
    unsigned digit = (unsigned char)header->value[i] - (unsigned)'0';
    if (digit > 9 || value > (UINT64_MAX - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *out = value;
  return header->value_len > 0;
}

static skvd_problem framing_check_length(const skvd_headers *headers,
                                         skvd_framing *out, const char **why) {
  const skvd_header *length = skvd_headers_find(headers, "Content-Length");
  if (length == NULL) return SKVD_NO_PROBLEM;
  if (skvd_headers_next(headers, "Content-Length", length) != NULL) {
    *why = "there are two Content-Length headers";
    return SKVD_FRAMING;
  }
  if (!framing_number(length, &out->length)) {
    *why = "Content-Length is not a number";
    return SKVD_FRAMING;
  }
  out->has_length = true;
  return SKVD_NO_PROBLEM;
}

static skvd_problem framing_check_transfer(const skvd_head *head,
                                           skvd_framing *out,
                                           const char **why) {
  const char *name = "Transfer-Encoding";
  const skvd_header *transfer = skvd_headers_find(head->headers, name);
  if (transfer == NULL) return SKVD_NO_PROBLEM;
  *why = NULL;
  if (skvd_headers_next(head->headers, name, transfer) != NULL) {
    *why = "there are two Transfer-Encoding headers";
  } else if (out->has_length) {
    *why = "Transfer-Encoding and Content-Length exclude each other";
  } else if (strcmp(head->version, "HTTP/1.0") == 0) {
    *why = "HTTP/1.0 has no Transfer-Encoding";
  } else if (!skvd_header_is(transfer, "chunked")) {
    *why = "the only Transfer-Encoding is chunked";
  }
  out->is_chunked = *why == NULL;
  return *why == NULL ? SKVD_NO_PROBLEM : SKVD_FRAMING;
}

static skvd_problem framing_check_sizes(const skvd_head *head,
                                        const char **why) {
  size_t line =
      strlen(head->method) + head->target_len + strlen(head->version) + 2;
  if (line > SKVD_MAX_REQUEST_LINE) {
    *why = "the request line is over 8 KiB";
    return SKVD_TARGET_TOO_LONG;
  }
  if (head->head_size > SKVD_MAX_HEAD || head->headers->is_over) {
    *why = "the head is over 16 KiB or has over 64 headers";
    return SKVD_HEADERS_TOO_LARGE;
  }
  return SKVD_NO_PROBLEM;
}

static skvd_problem framing_check_version(const skvd_head *head,
                                          const char **why) {
  if (strcmp(head->version, "HTTP/1.1") == 0 ||
      strcmp(head->version, "HTTP/1.0") == 0) {
    return SKVD_NO_PROBLEM;
  }
  *why = "this is an HTTP/1.1 server";
  return SKVD_HTTP_VERSION;
}

skvd_problem skvd_framing_check(const skvd_head *head, skvd_framing *out,
                                const char **why) {
  const skvd_header *expect = skvd_headers_find(head->headers, "Expect");
  skvd_problem problem;
  memset(out, 0, sizeof *out);
  *why = "";
  problem = framing_check_version(head, why);
  if (problem == SKVD_NO_PROBLEM) problem = framing_check_sizes(head, why);
  if (problem == SKVD_NO_PROBLEM) {
    problem = framing_check_fields(head->headers, why);
  }
  if (problem == SKVD_NO_PROBLEM) {
    problem = framing_check_host(head->headers, why);
  }
  if (problem == SKVD_NO_PROBLEM) {
    problem = framing_check_length(head->headers, out, why);
  }
  if (problem == SKVD_NO_PROBLEM) {
    problem = framing_check_transfer(head, out, why);
  }
  out->expects_continue = expect != NULL;
  return problem;
}
