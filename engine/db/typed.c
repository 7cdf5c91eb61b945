/*
 * Typed keys and values, as SQL and HTTP store them: see stratakv.h.
 */
#include <string.h>

#include "engine/util/bytes.h"
#include "stratakv.h"

static uint64_t typed_get_be64(const uint8_t *p) {
  return __builtin_bswap64(skv_get64(p));
}

static void typed_put_be64(uint8_t *p, uint64_t v) {
  skv_put64(p, __builtin_bswap64(v));
}

int stratakv_typed_decode(const void *bytes, size_t len, stratakv_typed *out) {
  const uint8_t *p = bytes;
  memset(out, 0, sizeof *out);
  if (len == 0) return STRATAKV_CORRUPT;
  out->type = p[0];
  switch (p[0]) {
  case STRATAKV_INTEGER:
    if (len != 9) return STRATAKV_CORRUPT;
    out->integer = (int64_t)typed_get_be64(p + 1);
    return STRATAKV_OK;
  case STRATAKV_REAL: {
    if (len != 9) return STRATAKV_CORRUPT;
    uint64_t bits = typed_get_be64(p + 1);
    memcpy(&out->real, &bits, 8);
    return STRATAKV_OK;
  }
  case STRATAKV_TEXT:
  case STRATAKV_BLOB:
    out->data = p + 1;
    out->size = len - 1;
    return STRATAKV_OK;
  case STRATAKV_NULL: return len == 1 ? STRATAKV_OK : STRATAKV_CORRUPT;
  default: return STRATAKV_CORRUPT;
  }
}

size_t stratakv_typed_head(const stratakv_typed *value, uint8_t head[9]) {
  head[0] = (uint8_t)value->type;
  if (value->type == STRATAKV_INTEGER) {
    typed_put_be64(head + 1, (uint64_t)value->integer);
    return 9;
  }
  if (value->type == STRATAKV_REAL) {
    uint64_t bits;
    memcpy(&bits, &value->real, 8);
    typed_put_be64(head + 1, bits);
    return 9;
  }
  return 1;
}

void stratakv_int_key(int64_t value, uint8_t key[8]) {
  typed_put_be64(key, (uint64_t)value ^ UINT64_C(1) << 63);
}

int64_t stratakv_int_key_value(const uint8_t key[8]) {
  return (int64_t)(typed_get_be64(key) ^ UINT64_C(1) << 63);
}
