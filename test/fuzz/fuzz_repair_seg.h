/*
 * Making a segment's checksums and places right again.
 */
#ifndef TEST_FUZZ_FUZZ_REPAIR_SEG_H
#define TEST_FUZZ_FUZZ_REPAIR_SEG_H

#include "engine/seg/seg_footer.h"
#include "engine/seg/seg_frame.h"
#include "engine/util/hash.h"
#include "test/fuzz/fuzz.h"

/* The frame in [from, to): its length, kind and checksum. */
static inline void repair_frame(uint8_t *b, uint64_t size, uint64_t from,
                                uint64_t to, int kind, uint64_t uid,
                                skv_prng *rng) {
  if (from >= to || to > size || to - from < SKV_FRAME_HEADER) return;
  uint8_t *frame = b + from;
  uint64_t stored = skv_get32(frame + 8);
  uint64_t room = to - from - SKV_FRAME_HEADER;
  if (skv_frame_size(stored) != to - from && fuzz_mostly(rng))
    skv_put32(frame + 8, (uint32_t)(stored = room));
  if (fuzz_mostly(rng)) frame[13] = (uint8_t)kind;
  if (fuzz_mostly(rng)) skv_put16(frame + 14, 0);
  if (fuzz_mostly(rng))
    frame[12] = kind == SKV_FRAME_DATA ? (uint8_t)(frame[12] % 3) : 0;
  if (stored > room) return;
  if (fuzz_mostly(rng))
    memset(frame + SKV_FRAME_HEADER + stored, 0, room - stored);
  if (fuzz_mostly(rng))
    skv_put64(frame,
              skv_checksum(frame + 8, 8 + stored, skv_frame_seed(uid, from)));
}

/* The data blocks that the index in [from, to) names. */
static inline void repair_data(uint8_t *b, uint64_t size, uint64_t index,
                               uint64_t uid, skv_prng *rng) {
  const uint8_t *body = b + index + SKV_FRAME_HEADER;
  uint64_t left = size - index - SKV_FRAME_HEADER;
  uint64_t n = skv_get32(body), pad = skv_get32(body + 8), level = n,
           leaves = 0;
  if (n == 0 || n > left / 12 || pad > 63) return;
  do { /* the tree before the offsets */
    level = (level + 7) / 8;
    leaves += level * 8;
  } while (level > 1);
  uint64_t places = 16 + pad + 8 * leaves;
  if (places + 8 * (n + 1) > left) return;
  for (uint64_t i = 0; i < n; i++) {
    uint64_t at = skv_get64(body + places + 8 * i);
    uint64_t to = skv_get64(body + places + 8 * i + 8);
    if (to <= index) repair_frame(b, size, at, to, SKV_FRAME_DATA, uid, rng);
  }
}

static inline void fuzz_repair_segment(uint8_t *b, uint64_t size,
                                       skv_prng *rng) {
  if (size < 200) return;
  uint64_t at = size - SKV_FOOTER_SIZE;
  uint8_t *f = b + at;
  if (fuzz_mostly(rng)) {
    memcpy(f, "STRATSEG", 8);
    skv_put32(f + 8, 1);
    skv_put32(f + 12, 0);
    skv_put64(f + 48, 0);
  }
  uint64_t uid = skv_get64(f + 16), index = skv_get64(f + 24);
  uint64_t filter = skv_get64(f + 32), props = skv_get64(f + 40);
  if (fuzz_mostly(rng)) skv_put64(f + 56, skv_checksum(f, 56, at));
  if (index >= size || index % 8 != 0 || props >= size || filter >= size)
    return;
  if (index + SKV_FRAME_HEADER + 16 < size)
    repair_data(b, size, index, uid, rng);
  uint64_t end = filter ? filter : props;
  repair_frame(b, at, index, end, SKV_FRAME_INDEX, uid, rng);
  if (filter) repair_frame(b, at, filter, props, SKV_FRAME_FILTER, uid, rng);
  repair_frame(b, at, props, at, SKV_FRAME_PROPS, uid, rng);
}

#endif
