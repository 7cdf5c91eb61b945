/*
 * Making a log's chain and checksums right again.
 */
#ifndef TEST_FUZZ_FUZZ_REPAIR_LOG_H
#define TEST_FUZZ_FUZZ_REPAIR_LOG_H

#include "engine/util/hash.h"
#include "engine/wal/wal.h"
#include "test/fuzz/fuzz_entries.h"

static inline void repair_log_header(uint8_t *b) {
  memcpy(b, "STRATWAL", 8);
  skv_put32(b + 8, 1);
  skv_put64(b + 48, 0);
  skv_put64(b + 40, skv_get64(b + 40) & ~UINT64_C(7));
  skv_put64(b + 56, skv_checksum(b, 56, 0));
}

/* A length that fits, and a type that goes with it. */
static inline uint32_t repair_length(uint8_t *r, uint64_t room, skv_prng *rng) {
  uint32_t length = skv_get32(r + 20);
  uint32_t type = skv_get32(r + 28);
  if (type < 1 || type > 5) type = 1 + type % 5;
  if (length < 32 || ((uint64_t)length + 7) / 8 * 8 > room)
    length = 32 + (uint32_t)skv_prng_below(rng, (room & ~UINT64_C(7)) - 31);
  if (type == SKV_RECORD_ABORT) length = 40;
  if (type == SKV_RECORD_SEAL) length = 32;
  if (((uint64_t)length + 7) / 8 * 8 > room) {
    type = SKV_RECORD_SEAL;
    length = 32;
  }
  skv_put32(r + 20, length);
  skv_put32(r + 28, type);
  return length;
}

static inline void fuzz_repair_log(uint8_t *data, size_t size, skv_prng *rng) {
  if (size < 64) return;
  if (fuzz_mostly(rng)) repair_log_header(data);
  skv_wal_header header = {.number = skv_get64(data + 32),
                           .start = skv_get64(data + 40)};
  memcpy(header.store_id, data + 16, 16);
  uint64_t seed = skv_wal_seed(&header), at = 64;
  uint32_t prev = skv_get32(data + 12), epoch = 0;
  while (size - at >= 32) {
    uint8_t *r = data + at;
    if (skv_get64(r) == 0 && skv_get32(r + 20) == 0) break; /* the tail */
    uint32_t length = skv_get32(r + 20);
    if (fuzz_mostly(rng)) length = repair_length(r, size - at, rng);
    uint64_t space = ((uint64_t)length + 7) / 8 * 8;
    if (length < 32 || space > size - at) break;
    if (fuzz_mostly(rng)) skv_put32(r + 16, prev);
    if (fuzz_mostly(rng) && skv_get32(r + 24) < epoch) skv_put32(r + 24, epoch);
    if (fuzz_mostly(rng) && r[28] <= SKV_RECORD_PREPARE)
      fuzz_repair_batch(r + 32, length - 32);
    if (fuzz_mostly(rng)) memset(r + length, 0, space - length);
    if (fuzz_mostly(rng))
      skv_put64(r, skv_checksum(r + 8, length - 8, seed + at));
    prev = skv_get32(r);
    epoch = skv_get32(r + 24);
    at += space;
  }
}

#endif
