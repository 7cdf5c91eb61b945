/*
 * Checksums and hashes: XXH3 64 bits, from the xxHash library. One function
 * verifies, so that a script can find and remove every check.
 */
#ifndef SKV_UTIL_HASH_H
#define SKV_UTIL_HASH_H

#include <stdbool.h>

#include "engine/util/bytes.h"

/* Checksum of bytes under a seed that says where they belong. */
uint64_t skv_checksum(const void *data, size_t size, uint64_t seed);
/* Whether they have that checksum. INV-8 */
bool skv_checksum_ok(const void *data, size_t size, uint64_t seed,
                     uint64_t expected);
/* Hash of a key, for indexes and filters; part of the segment format. */
uint64_t skv_hash(skv_slice key);
/* A seed from a file's identity: 16 bytes and two numbers. */
uint64_t skv_seed(const uint8_t id[16], uint64_t a, uint64_t b);

#endif
