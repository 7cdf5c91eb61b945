/*
 * XXH3 from the xxHash library, compiled in here and nowhere else. See hash.h.
 *
 * The values are part of every file format: XXH3 64 bits, with its default
 * secret, is stable since xxHash 0.8.0.
 */
#include "engine/util/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#if XXH_VERSION_NUMBER < 800
#error "xxHash 0.8.0 or newer is needed: XXH3 changed before"
#endif

uint64_t skv_checksum(const void *data, size_t size, uint64_t seed) {
  return XXH3_64bits_withSeed(data, size, seed);
}

bool skv_checksum_ok(const void *data, size_t size, uint64_t seed,
                     uint64_t expected) {
  return skv_checksum(data, size, seed) == expected; /* INV-8 */
}

uint64_t skv_hash(skv_slice key) { return XXH3_64bits(key.data, key.size); }

uint64_t skv_seed(const uint8_t id[16], uint64_t a, uint64_t b) {
  uint8_t bytes[32];
  memcpy(bytes, id, 16);
  skv_put64(bytes + 16, a);
  skv_put64(bytes + 24, b);
  return XXH3_64bits(bytes, sizeof bytes);
}
