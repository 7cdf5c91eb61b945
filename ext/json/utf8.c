/* The check of utf8.h. */
#include "ext/json/utf8.h"

#include <stdint.h>

/* Bytes of the sequence that c starts (0: none), and the range that its
 * second byte must lie in, which is what shuts out the long forms. */
static size_t utf8_start(uint8_t c, uint8_t *low, uint8_t *high) {
  *low = 0x80;
  *high = 0xbf;
  if (c < 0x80) return 1;
  if (c < 0xc2) return 0;
  if (c < 0xe0) return 2;
  if (c < 0xf0) {
    if (c == 0xe0) *low = 0xa0;
    if (c == 0xed) *high = 0x9f;
    return 3;
  }
  if (c == 0xf0) *low = 0x90;
  if (c == 0xf4) *high = 0x8f;
  return c < 0xf5 ? 4 : 0;
}

bool skv_utf8_is_valid(const void *bytes, size_t len) {
  const uint8_t *p = bytes;
  const uint8_t *end = p + len;
  while (p < end) {
    uint8_t low, high;
    size_t n = utf8_start(*p, &low, &high);
    if (n == 0 || (size_t)(end - p) < n) return false;
    if (n > 1 && (p[1] < low || p[1] > high)) return false;
    for (size_t i = 2; i < n; i++) {
      if (p[i] < 0x80 || p[i] > 0xbf) return false;
    }
    p += n;
  }
  return true;
}
