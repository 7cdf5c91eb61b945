/*
 * The daemon's own reading of a request: target, header fields, framing,
 * guard, conditions, key and value. Decoders against slow ones; conditions
 * against every state; values as text and back.
 *
 * INPUT  A request as it is sent: "METHOD TARGET VERSION\n", "Name: value\n"
 *   each, an empty line, the body. Lines end with LF, with or without CR.
 */
#include <math.h>

#include "ext/httpd/condition.h"
#include "ext/httpd/framing.h"
#include "ext/httpd/guard.h"
#include "ext/httpd/key.h"
#include "ext/httpd/target.h"
#include "ext/httpd/value.h"
#include "ext/json/utf8.h"
#include "test/fuzz/fuzz.h"

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)data;
  (void)max;
  (void)rng;
  return size;
}

/* ---- Parts of the input ------------------------------------------------ */

typedef struct piece {
  const char *at;
  size_t len;
} piece;

static piece take_until(const char **p, const char *end, char stop) {
  piece out = {*p, 0};
  const char *at = memchr(*p, stop, (size_t)(end - *p));
  out.len = (size_t)((at ? at : end) - *p);
  *p = at ? at + 1 : end;
  return out;
}

static piece take_line(const char **p, const char *end) {
  piece line = take_until(p, end, '\n');
  if (line.len > 0 && line.at[line.len - 1] == '\r') line.len--;
  return line;
}

static void take_fields(const char **p, const char *end, skvd_headers *out) {
  while (*p < end) {
    piece line = take_line(p, end);
    if (line.len == 0) return;
    const char *at = line.at;
    piece name = take_until(&at, line.at + line.len, ':');
    while (at < line.at + line.len && (*at == ' ' || *at == '\t')) at++;
    skvd_headers_add(out, name.at, name.len, at,
                     (size_t)(line.at + line.len - at));
  }
}

/* ---- Target ------------------------------------------------------------ */

static int naive_hex(char c) {
  const char *digits = "0123456789abcdefABCDEF", *at = strchr(digits, c);
  if (c == 0 || at == NULL) return -1;
  int i = (int)(at - digits);
  return i < 16 ? i : i - 6;
}

static size_t naive_decode(const char *p, size_t len, char *out) {
  size_t n = 0;
  for (size_t i = 0; i < len; i++) {
    if (p[i] == '%') {
      FUZZ_CHECK(i + 2 < len);
      out[n++] = (char)(naive_hex(p[i + 1]) * 16 + naive_hex(p[i + 2]));
      i += 2;
    } else {
      out[n++] = p[i];
    }
  }
  return n;
}

static void check_target(piece raw) {
  static const char *const known[] = {"table", "limit", NULL};
  skvd_target target;
  const skvd_param *which;
  const char *why = NULL;
  char *space = fuzz_alloc(raw.len);
  skvd_problem problem =
      skvd_target_parse(raw.at, raw.len, space, &target, &why);
  if (problem != SKVD_NO_PROBLEM) {
    FUZZ_CHECK(why != NULL);
    free(space);
    return;
  }
  FUZZ_CHECK(target.path_len <= raw.len && target.path[0] == '/');
  size_t total = 0;
  for (size_t i = 0; i < target.param_count; i++)
    total += target.params[i].name_len + target.params[i].value_len;
  FUZZ_CHECK(total <= raw.len);
  char *tail = fuzz_alloc(target.path_len), *slow = fuzz_alloc(target.path_len);
  size_t n = skvd_target_tail(&target, 1, tail);
  FUZZ_CHECK(n < target.path_len);
  FUZZ_CHECK(n == naive_decode(target.path + 1, target.path_len - 1, slow));
  FUZZ_CHECK(memcmp(tail, slow, n) == 0);
  skvd_target_check_params(&target, known, &which);
  skvd_target_param(&target, "table");
  for (int type = STRATAKV_KEY_TEXT; type <= STRATAKV_KEY_INT; type++) {
    skvd_key key;
    bool ok = skvd_key_make(type, tail, n, &key, &why);
    FUZZ_CHECK(ok == (why == NULL));
    if (!ok || type != STRATAKV_KEY_INT) continue;
    char text[32];
    snprintf(text, sizeof text, "%lld",
             (long long)stratakv_int_key_value(key.number));
    FUZZ_CHECK(n == strlen(text) || (n == 2 && memcmp(tail, "-0", 2) == 0));
  }
  free(slow);
  free(tail);
  free(space);
}

/* ---- Framing ----------------------------------------------------------- */

static void check_framing(const skvd_headers *headers, piece method,
                          piece target, piece version, size_t head_size) {
  char name[32], text[32];
  snprintf(name, sizeof name, "%.*s", (int)(method.len % 30), method.at);
  snprintf(text, sizeof text, "%.*s", (int)(version.len % 30), version.at);
  skvd_head head = {name, text, target.len, head_size, headers};
  skvd_framing framing;
  const char *why = NULL;
  skvd_problem problem = skvd_framing_check(&head, &framing, &why);
  if (problem != SKVD_NO_PROBLEM) {
    FUZZ_CHECK(why != NULL && why[0] != 0);
    return;
  }
  FUZZ_CHECK(!(framing.has_length && framing.is_chunked));
  size_t lengths = 0, hosts = 0;
  for (size_t i = 0; i < headers->count; i++) {
    const skvd_header *h = &headers->at[i];
    lengths += skvd_text_is(h->name, h->name_len, "Content-Length") ||
               skvd_text_is(h->name, h->name_len, "Transfer-Encoding");
    hosts += skvd_text_is(h->name, h->name_len, "Host");
    FUZZ_CHECK(memchr(h->value, 0, h->value_len) == NULL);
  }
  FUZZ_CHECK(lengths <= 1 && hosts <= 1 && !headers->is_over);
  FUZZ_CHECK((lengths == 1) == (framing.has_length || framing.is_chunked));
}

/* ---- Guard ------------------------------------------------------------- */

static void check_guard(const skvd_headers *headers) {
  static const skvd_strings none = {0};
  skvd_guard guard = {true, "0.0.0.0", "10.0.0.1", 8080, &none, &none};
  skvd_problem problem = skvd_guard_check(&guard, headers);
  if (skvd_headers_find(headers, "Origin") != NULL)
    FUZZ_CHECK(problem != SKVD_NO_PROBLEM); /* no web page is allowed */
  guard.checks_host = false;
  problem = skvd_guard_check(&guard, headers);
  FUZZ_CHECK((problem == SKVD_NO_PROBLEM) ==
             (skvd_headers_find(headers, "Origin") == NULL));
}

/* ---- Conditions -------------------------------------------------------- */

static bool lists(const skvd_tags *tags, uint64_t version) {
  bool found = tags->is_any;
  for (size_t i = 0; i < tags->count; i++)
    found |= tags->versions[i] == version;
  return found;
}

static void check_state(const skvd_condition *c, const skvd_state *state) {
  bool ok = true;
  uint64_t version = 77;
  if (c->match.is_given)
    ok &= state->exists && lists(&c->match, state->version);
  if (c->none_match.is_given)
    ok &= !state->exists || !lists(&c->none_match, state->version);
  FUZZ_CHECK((skvd_condition_check(c, state) == SKVD_NO_PROBLEM) == ok);
  if (!ok) return;
  int guess = skvd_condition_require(c, state, &version);
  if (guess == STRATAKV_IF_VERSION)
    FUZZ_CHECK(state->exists && version == state->version);
  else
    FUZZ_CHECK((guess == STRATAKV_IF_PRESENT) == state->exists);
}

static void check_condition(const skvd_headers *headers) {
  skvd_condition c;
  const char *why = NULL;
  if (!skvd_condition_parse(headers, &c, &why)) {
    FUZZ_CHECK(why != NULL);
    return;
  }
  FUZZ_CHECK(c.match.count <= SKVD_MAX_TAGS);
  FUZZ_CHECK(c.none_match.count <= SKVD_MAX_TAGS);
  check_state(&c, &(skvd_state){false, 0});
  check_state(&c, &(skvd_state){true, 4096});
  for (size_t i = 0; i < c.match.count; i++)
    check_state(&c, &(skvd_state){true, c.match.versions[i]});
  for (size_t i = 0; i < c.none_match.count; i++)
    check_state(&c, &(skvd_state){true, c.none_match.versions[i]});
}

/* ---- Values ------------------------------------------------------------ */

/* What the value is as text reads back as the same value. */
static void check_text(const stratakv_typed *value) {
  char number[SKVD_NUMBER_SIZE];
  size_t len = 0;
  const char *text = skvd_value_text(value, number, &len);
  if (value->type != STRATAKV_INTEGER && value->type != STRATAKV_REAL) return;
  const char *name = skvd_type_name(value->type), *why;
  skvd_headers headers = {.count = 0};
  skvd_headers_add(&headers, "Strata-Type", 11, name, strlen(name));
  stratakv_typed again;
  FUZZ_CHECK(len < SKVD_NUMBER_SIZE && text[len] == 0);
  FUZZ_CHECK(skvd_value_of_body(&headers, text, len, &again, &why));
  FUZZ_CHECK(again.type == value->type && again.integer == value->integer &&
             again.real == value->real);
}

/* UTF-8 by code points. */
static bool naive_utf8(const uint8_t *p, size_t len) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  for (size_t i = 0; i < len;) {
    unsigned n = p[i] < 0x80             ? 1
                 : (p[i] & 0xe0) == 0xc0 ? 2
                 : (p[i] & 0xf0) == 0xe0 ? 3
                 : (p[i] & 0xf8) == 0xf0 ? 4
                                         : 0;
    if (n == 0 || n > len - i) return false;
    uint32_t c = n == 1 ? p[i] : p[i] & (0xffu >> (n + 1));
    for (unsigned k = 1; k < n; k++) {
      if ((p[i + k] & 0xc0) != 0x80) return false;
      c = c << 6 | (p[i + k] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
      return false;
    i += n;
  }
  return true;
}

static void check_value(const skvd_headers *headers, const char *body,
                        size_t len) {
  char *copy = fuzz_alloc(len + 1);
  const char *why = NULL;
  stratakv_typed value;
  if (len > 0) memcpy(copy, body, len);
  bool is_utf8 = skv_utf8_is_valid(copy, len);
  FUZZ_CHECK(is_utf8 == naive_utf8((const uint8_t *)copy, len));
  if (skvd_value_of_body(headers, copy, len, &value, &why)) {
    FUZZ_CHECK(value.type >= STRATAKV_INTEGER && value.type <= STRATAKV_NULL);
    FUZZ_CHECK(value.type != STRATAKV_TEXT || is_utf8);
    FUZZ_CHECK(value.type != STRATAKV_REAL || !isnan(value.real));
    check_text(&value);
  } else {
    FUZZ_CHECK(why != NULL);
  }
  free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const char *start = (const char *)data, *p = start, *end = start + size;
  static skvd_headers headers;
  if (size == 0) return 0;
  memset(&headers, 0, sizeof headers);
  piece line = take_line(&p, end);
  const char *at = line.at, *stop = line.at + line.len;
  piece method = take_until(&at, stop, ' ');
  piece target = take_until(&at, stop, ' ');
  piece version = {at, (size_t)(stop - at)};
  take_fields(&p, end, &headers);
  check_target(target);
  check_framing(&headers, method, target, version, (size_t)(p - start));
  check_guard(&headers);
  check_condition(&headers);
  check_value(&headers, p, (size_t)(end - p));
  return 0;
}
