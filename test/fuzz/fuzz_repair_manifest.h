/*
 * Making a manifest's checksums and chain right again.
 */
#ifndef TEST_FUZZ_FUZZ_REPAIR_MANIFEST_H
#define TEST_FUZZ_FUZZ_REPAIR_MANIFEST_H

#include "engine/util/hash.h"
#include "test/fuzz/fuzz.h"

static inline void fuzz_repair_manifest(uint8_t *b, size_t size,
                                        const uint8_t id[16], uint64_t file,
                                        skv_prng *rng) {
  if (size < 64) return;
  if (fuzz_mostly(rng)) {
    memcpy(b, "STRATMAN", 8);
    skv_put32(b + 8, 1);
    memcpy(b + 16, id, 16);
    skv_put64(b + 32, file);
    skv_put64(b + 56, skv_checksum(b, 56, 0));
  }
  uint64_t chain = 0;
  for (size_t at = 64; size - at >= 32;) {
    uint8_t *e = b + at;
    uint64_t payload = skv_get32(e + 8);
    if (payload == 0 || payload > size - at - 24) {
      if (!fuzz_mostly(rng)) return;
      payload = 1 + skv_prng_below(rng, size - at - 24);
      skv_put32(e + 8, (uint32_t)payload);
    }
    if (fuzz_mostly(rng)) skv_put32(e + 12, 0);
    if (fuzz_mostly(rng)) skv_put64(e + 16, chain);
    if (fuzz_mostly(rng))
      skv_put64(e, skv_checksum(e + 8, 16 + payload, skv_seed(id, file, at)));
    chain = skv_get64(e);
    at += (24 + payload + 7) / 8 * 8;
    if (at > size) return;
  }
}

#endif
