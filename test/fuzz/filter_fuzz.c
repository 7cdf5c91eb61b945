/*
 * Filters: one made of any hashes never says no to a member; any body that is
 * accepted can be asked about any hash.
 *
 * INPUT  bits per key, low byte of the file offset, then either (bits >= 128)
 *   hashes for the body that follows: their number (1 byte), 8 bytes each; or
 *   hashes of members only.
 */
#include "engine/seg/seg_filter.h"
#include "test/fuzz/fuzz.h"

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)max;
  if (size < 3 || data[0] < 128) return size;
  size_t skip = 3 + 8 * (size_t)data[2];
  if (size < skip + 8) return size;
  uint8_t *body = data + skip;
  uint64_t left = size - skip - 8;
  if (fuzz_mostly(rng)) body[4] = (uint8_t)(1 + body[4] % 16);
  if (fuzz_mostly(rng)) { /* lines and padding that fill the body */
    skv_put16(body + 6, (uint16_t)(left % 64));
    skv_put32(body, (uint32_t)(left / 64));
  }
  return size;
}

/* Bit by bit, as seg_filter.c says it. */
static bool naive_has(const uint8_t *body, uint64_t hash) {
  uint64_t n = skv_get32(body);
  const uint8_t *line =
      body + 8 + skv_get16(body + 6) + ((hash >> 32) * n >> 32) * 64;
  uint32_t h = (uint32_t)hash;
  for (int i = 0; i < body[4]; i++, h *= UINT32_C(0x9e3779b9)) {
    uint32_t bit = h / (1u << 23);
    if ((line[bit / 8] & (1 << bit % 8)) == 0) return false;
  }
  return true;
}

static void check_made(fuzz_input *in, int bits, uint64_t at) {
  skv_buf body = {0};
  skv_filter filter;
  size_t count = (size_t)(in->end - in->p) / 8;
  uint64_t *hashes = fuzz_alloc(count * 8);
  memcpy(hashes, in->p, count * 8);
  skv_filter_encode(&body, at, hashes, count, bits);
  FUZZ_CHECK(body.rc == 0);
  FUZZ_CHECK(skv_filter_open(skv_buf_bytes(&body), &filter));
  FUZZ_CHECK((at + (uint64_t)(filter.lines - body.data)) % 64 == 0);
  for (size_t i = 0; i < count; i++)
    FUZZ_CHECK(skv_filter_has(&filter, hashes[i]) &&
               naive_has(body.data, hashes[i]));
  free(hashes);
  skv_buf_clear(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_input in = {data, data + size};
  uint8_t bits = fuzz_u8(&in), at = fuzz_u8(&in);
  if (bits < 128) {
    check_made(&in, 1 + bits % 20, at);
    return 0;
  }
  size_t count = fuzz_u8(&in);
  fuzz_input hashes = {in.p, in.end};
  fuzz_take(&in, 8 * count);
  skv_filter filter;
  skv_slice body = skv_slice_of(in.p, (size_t)(in.end - in.p));
  if (!skv_filter_open(body, &filter)) return 0;
  for (size_t i = 0; i < count; i++) {
    uint64_t hash = fuzz_u64(&hashes, 8);
    FUZZ_CHECK(skv_filter_has(&filter, hash) == naive_has(body.data, hash));
  }
  for (uint64_t i = 0; i < filter.n && i < 64; i++) /* the last line, too */
    skv_filter_has(&filter, UINT64_MAX - (i << 40));
  return 0;
}
