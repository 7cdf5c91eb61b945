/*
 * Edits, keys and values as text for people. See version.h.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "engine/tree/version_impl.h"

#define TEXT_KEY 160 /* of a key within an edit's line */

/* An operation's line: a word of at most 7 bytes, 11 numbers with their names
 * (2 + 10 + 1 + 20 bytes) and 3 keys (2 + 5 + 1 + TEXT_KEY). */
#define TEXT_LINE 1024

/* ---- Bytes --------------------------------------------------------------- */

/* One byte as it stands between quotes; returns how long it is. */
static size_t text_byte(uint8_t c, char out[5]) {
  if (c == '"' || c == '\\') return (size_t)snprintf(out, 5, "\\%c", c);
  if (c >= ' ' && c < 0x7f) return (size_t)snprintf(out, 5, "%c", c);
  return (size_t)snprintf(out, 5, "\\x%02x", c);
}

void skv_bytes_text(skv_slice bytes, char *text, size_t size) {
  size_t at = 0;
  text[at++] = '"';
  for (size_t i = 0; i < bytes.size; i++) {
    char one[5];
    size_t n = text_byte(bytes.data[i], one);
    if (at + n + 5 > size) { /* "... and its end */
      snprintf(text + at, size - at, "\"...");
      return;
    }
    memcpy(text + at, one, n);
    at += n;
  }
  snprintf(text + at, size - at, "\"");
}

void skv_key_text(skv_slice key, char *text, size_t size) {
  if (key.size < SKV_TABLE_PREFIX) {
    skv_bytes_text(key, text, size);
    return;
  }
  unsigned table = (unsigned)key.data[0] << 8 | key.data[1];
  int n = snprintf(text, size, "table %u key ", table);
  skv_bytes_text(
      skv_slice_of(key.data + SKV_TABLE_PREFIX, key.size - SKV_TABLE_PREFIX),
      text + n, size - (size_t)n);
}

/* ---- Edits --------------------------------------------------------------- */

/* An operation: its word, then its numbers by name; `keys` slices behind. */
typedef struct text_op {
  const char *word;
  const char *numbers[12];
  unsigned hex; /* bit i: number i has 16 digits, as inspect shows a uid */
  const char *keys[4];
  bool may_lack_last; /* an empty last key is left out */
} text_op;

static const text_op text_ops[] = {
    [SKV_EDIT_NEXT] = {"NEXT", {"file"}, 0, {0}, false},
    [SKV_EDIT_TABLE] = {"TABLE", {"id", "key type"}, 0, {"name"}, false},
    [SKV_EDIT_WAL] = {"WAL", {"number", "start", "size"}, 0, {0}, false},
    [SKV_EDIT_END] = {"END", {"log", "end"}, 0, {0}, false},
    [SKV_EDIT_FLUSHED] = {"FLUSHED", {"log"}, 0, {0}, false},
    [SKV_EDIT_SEG] = {"SEG",
                      {"number", "level", "run", "ingest LSN", "uid", "size",
                       "entries", "tombstones", "raw bytes", "min LSN",
                       "max LSN"},
                      1u << 4,
                      {"min", "max", "trim"},
                      true},
    [SKV_EDIT_REMOVE] = {"REMOVE", {"segment"}, 0, {0}, false},
    [SKV_EDIT_TRIM] = {"TRIM", {"segment"}, 0, {"below"}, false},
    [SKV_EDIT_CLEAN] = {"CLEAN", {"LSN"}, 0, {0}, false},
    [SKV_EDIT_FORGET] = {"FORGET", {"log"}, 0, {0}, false},
};

/* The operation at p as a line; the byte after it, or NULL. */
static const uint8_t *text_one(const uint8_t *p, const uint8_t *end,
                               char line[TEXT_LINE]) {
  uint8_t tag = *p++;
  if (tag == 0 || tag > SKV_EDIT_FORGET) return NULL;
  const text_op *op = &text_ops[tag];
  size_t at = (size_t)snprintf(line, TEXT_LINE, "%s", op->word);
  for (int i = 0; op->numbers[i] && p; i++) {
    uint64_t v = 0;
    p = skv_varint_get(p, end, &v);
    at += (size_t)snprintf(line + at, TEXT_LINE - at,
                           op->hex >> i & 1 ? "  %s %016" PRIx64
                                            : "  %s %" PRIu64,
                           op->numbers[i], v);
    assert(at < TEXT_LINE);
  }
  for (int i = 0; op->keys[i] && p; i++) {
    char key[TEXT_KEY];
    skv_slice slice = {NULL, 0};
    p = skv_slice_get(p, end, &slice);
    if (!p || (op->may_lack_last && !op->keys[i + 1] && slice.size == 0)) break;
    if (tag == SKV_EDIT_TABLE)
      skv_bytes_text(slice, key, sizeof key);
    else
      skv_key_text(slice, key, sizeof key);
    at += (size_t)snprintf(line + at, TEXT_LINE - at, "  %s %s", op->keys[i],
                           key);
    assert(at < TEXT_LINE);
  }
  return p;
}

int skv_edit_describe(skv_slice edit, int (*each)(void *arg, const char *line),
                      void *arg, skv_err *err) {
  const uint8_t *p = edit.data, *end = p + edit.size;
  char line[TEXT_LINE];
  while (p < end) {
    p = text_one(p, end, line);
    if (!p)
      return SKV_ERROR(err, STRATAKV_CORRUPT, "an operation is malformed");
    int rc = each(arg, line);
    if (rc != 0) return rc;
  }
  return STRATAKV_OK;
}
