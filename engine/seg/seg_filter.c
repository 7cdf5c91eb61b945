/*
 * The blocked Bloom filter of a segment.
 *
 * BODY
 *      0  4  n: lines of 64 bytes (>= 1)
 *      4  1  probes per key, 1..16
 *      5  1  bits per key that it was made with
 *      6  2  pad: zero bytes before the first line, < 64, so that lines are
 *            cache lines of a mapped file
 *      8  pad zero bytes, then 64n bytes of lines
 *   A key's line is the upper half of its skv_hash, scaled to n; its bits in
 *   the line are the upper 9 bits of the lower half, which is multiplied by
 *   0x9e3779b9 from probe to probe. Bit i is bit i%8 of byte i/8.
 */
#include "engine/seg/seg_filter.h"

#include "engine/util/err.h"

#define FILTER_HEADER 8u
#define FILTER_MAX_PROBES 16
#define FILTER_AHEAD 8 /* hashes whose lines are being loaded */

/* Fewer probes than a plain Bloom filter wants: lines are not equally full. */
static unsigned seg_filter_probes(int bits) {
  static const uint8_t probes[21] = {0, 1, 1, 2, 3, 3, 4, 5, 5,  6, 6,
                                     7, 7, 8, 8, 8, 9, 9, 9, 10, 10};
  return probes[bits];
}

static void seg_filter_set(uint8_t *line, uint32_t h, unsigned probes) {
  for (unsigned i = 0; i < probes; i++) {
    unsigned bit = h >> 23;
    line[bit / 8] |= (uint8_t)(1u << (bit % 8));
    h *= UINT32_C(0x9e3779b9);
  }
}

void skv_filter_encode(skv_buf *buf, uint64_t at, const uint64_t *hashes,
                       size_t count, int bits) {
  uint64_t n = ((uint64_t)count * (unsigned)bits + 511) / 512;
  if (n == 0) n = 1;
  unsigned pad = (unsigned)(-(at + FILTER_HEADER) & 63);
  size_t size = FILTER_HEADER + pad + (size_t)n * 64;
  uint8_t *p = n > UINT32_MAX / 64 ? NULL : skv_buf_reserve(buf, size);
  if (!p) {
    if (buf->rc == STRATAKV_OK) buf->rc = STRATAKV_NOMEM;
    return;
  }
  memset(p, 0, size);
  skv_filter filter = {p + FILTER_HEADER + pad, (uint32_t)n,
                       seg_filter_probes(bits)};
  skv_put32(p, filter.n);
  p[4] = (uint8_t)filter.probes;
  p[5] = (uint8_t)bits;
  skv_put16(p + 6, (uint16_t)pad);
  for (size_t i = 0; i < count; i++) {
    if (i + FILTER_AHEAD < count)
      __builtin_prefetch(skv_filter_line(&filter, hashes[i + FILTER_AHEAD]), 1);
    size_t line = (size_t)(skv_filter_line(&filter, hashes[i]) - p);
    seg_filter_set(p + line, (uint32_t)hashes[i], filter.probes);
  }
  buf->size += size;
}

bool skv_filter_open(skv_slice body, skv_filter *out) {
  if (body.size < FILTER_HEADER) return false;
  out->n = skv_get32(body.data);
  out->probes = body.data[4];
  unsigned pad = skv_get16(body.data + 6);
  if (out->n == 0 || out->probes == 0 || out->probes > FILTER_MAX_PROBES ||
      pad > 63 || body.size != FILTER_HEADER + pad + (uint64_t)out->n * 64)
    return false;
  out->lines = body.data + FILTER_HEADER + pad;
  return true;
}
