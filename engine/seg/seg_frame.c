/*
 * Frames: seal and check. See seg_frame.h; the bytes stand in seg.h.
 */
#include "engine/seg/seg_frame.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/util/hash.h"
#include "stratakv.h"

/* The checksum of bytes in two places, as skv_checksum of them in one: a value
 * of a GiB is not copied only to be summed. */
static uint64_t frame_checksum2(skv_slice a, skv_slice b, uint64_t seed) {
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset_withSeed(&state, seed);
  XXH3_64bits_update(&state, a.data, a.size);
  XXH3_64bits_update(&state, b.data, b.size);
  return XXH3_64bits_digest(&state);
}

uint64_t skv_frame_seal(uint8_t *frame, uint64_t stored, int compression,
                        int kind, uint64_t seed, const skv_slice *tail) {
  uint64_t size = skv_frame_size(stored);
  skv_put32(frame + 8, (uint32_t)stored);
  frame[12] = (uint8_t)compression;
  frame[13] = (uint8_t)kind;
  skv_put16(frame + 14, 0);
  if (tail) {
    skv_slice head = skv_slice_of(frame + 8, 8 + stored - tail->size);
    skv_put64(frame, frame_checksum2(head, *tail, seed));
  } else {
    memset(frame + SKV_FRAME_HEADER + stored, 0,
           size - SKV_FRAME_HEADER - stored);
    skv_put64(frame, skv_checksum(frame + 8, 8 + stored, seed));
  }
  return size;
}

const char *skv_frame_check(const uint8_t *frame, uint64_t size, int kind,
                            uint64_t seed) {
  if (size < SKV_FRAME_HEADER) return "block too short";
  uint64_t stored = skv_frame_stored(frame);
  if (skv_frame_size(stored) != size) return "wrong block size";
  if (!skv_checksum_ok(frame + 8, 8 + stored, seed, skv_get64(frame)))
    return "checksum mismatch";
  if (frame[13] != kind || frame[12] > STRATAKV_COMPRESSION_ZSTD ||
      skv_get16(frame + 14) != 0)
    return "malformed block header";
  for (uint64_t i = SKV_FRAME_HEADER + stored; i < size; i++)
    if (frame[i] != 0) return "padding is not zero";
  return NULL;
}
