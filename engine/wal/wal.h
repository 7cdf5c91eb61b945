/*
 * The write-ahead log: its bytes, and what a reader may conclude from them.
 *
 * PURPOSE  A commit exists once its record is here, and is durable once the
 *   log is synced up to the record's end (INV-1). Pure functions on bytes.
 *
 * FILE  Little-endian; allocated in full before it is mapped; recycled.
 *      0  8  magic "STRATWAL"
 *      8  4  format version; an unknown one is NOTADB if the checksum holds
 *     12  4  prev of the first record (see RECORD)
 *     16 16  store id
 *     32  8  WAL number
 *     40  8  start: LSN of the byte at offset 64, a multiple of 8
 *     48  8  zero
 *     56  8  checksum of bytes 0..55, seed 0
 *     64     records
 *   LSN of a record = start + offset - 64.
 *
 * RECORD  Starts at a multiple of 8; zero padding behind it to the next.
 *      0  8  checksum of bytes 8..length, seeded with skv_wal_seed + offset
 *      8  8  durable: the store's durable LSN when it was written (L1)
 *     16  4  prev: low 32 bits of the checksum of the record before (P11)
 *     20  4  length with this header, without padding
 *     24  4  epoch: grows at every acquisition of WRITE (P11)
 *     28  1  type
 *     29  1  flags: zero
 *     30  2  zero
 *     32     payload
 *   The seed keeps out what a recycled file, another store or another place
 *   left behind; prev and epoch what a dead writer did (INV-2). 32 bits of
 *   prev suffice: a stale record that ends exactly where it should, under the
 *   same seed, with an epoch not older, is what it must still catch.
 *
 * TYPES  1 COMMIT   payload: a batch (engine/wal/batch.h)
 *        2 PREPARE  payload: a batch; the last record until it is decided
 *        3 ABORT    payload: LSN of the PREPARE right before it, 8 bytes
 *        4 INGEST   payload: engine/db/ingest.c; followed by SEAL or ABORT only
 *        5 SEAL     no payload: the last record of a file
 *
 * END  The first invalid record ends the newest log (L1). If a valid record
 *   further on has a durable LSN above it, the log is CORRUPT. A PREPARE that
 *   no ABORT follows is committed. Older logs end with SEAL or are CORRUPT
 *   (L3), unless the manifest says where recovery ended them (L2).
 *
 * CALLERS  db/commit writes, holding WRITE. mem/ and db/recover read.
 *
 * NOT HERE  When to sync and seal (db/), which logs live (tree/), how bytes
 *   reach a file (store/).
 */
#ifndef SKV_WAL_WAL_H
#define SKV_WAL_WAL_H

#include "engine/util/bytes.h"
#include "engine/util/err.h"
#include "engine/util/seek.h"

#define SKV_WAL_HEADER 64    /* bytes before the first record */
#define SKV_RECORD_HEADER 32 /* bytes before a record's payload */

#define SKV_RECORD_COMMIT 1
#define SKV_RECORD_PREPARE 2
#define SKV_RECORD_ABORT 3
#define SKV_RECORD_INGEST 4
#define SKV_RECORD_SEAL 5

typedef struct skv_wal_header {
  uint8_t store_id[16];
  uint64_t number; /* WAL number */
  uint64_t start;  /* LSN of the byte at offset SKV_WAL_HEADER */
  uint32_t prev;   /* chain value of the first record */
} skv_wal_header;

void skv_wal_header_encode(const skv_wal_header *header,
                           uint8_t out[SKV_WAL_HEADER]);
/* NOTADB or CORRUPT (naming `file`) if these are not a log's first bytes. */
int skv_wal_header_decode(const uint8_t *bytes, size_t size, const char *file,
                          skv_err *err, skv_wal_header *out);
/* Seed of the checksums in that log. */
uint64_t skv_wal_seed(const skv_wal_header *header);

/* Bytes that a record with this payload takes, padding included. */
static inline uint64_t skv_record_space(uint64_t payload) {
  return (SKV_RECORD_HEADER + payload + 7) & ~UINT64_C(7);
}

/* Where a reader or writer stands: what the next record must continue. */
typedef struct skv_wal_place {
  uint64_t seed;   /* skv_wal_seed of the log */
  uint64_t offset; /* file offset of the next record, multiple of 8 */
  uint32_t prev;   /* chain value that it must carry */
  uint32_t epoch;  /* it must be at least this */
} skv_wal_place;

typedef struct skv_wal_record {
  uint64_t offset; /* file offset of the record */
  uint64_t end;    /* file offset of the next one */
  uint64_t durable;
  uint64_t checksum;
  uint32_t epoch;
  uint8_t type;
  skv_slice payload; /* borrows from the log's bytes */
} skv_wal_record;

/*
 * Fill in the 32 bytes before a payload that already stands at record + 32,
 * and zero the padding behind it (the buffer has room for it). `place` moves
 * behind the record; its epoch is set to `epoch`.
 */
void skv_wal_encode(uint8_t *record, uint8_t type, size_t payload_size,
                    uint64_t durable, uint32_t epoch, skv_wal_place *place);

/*
 * Read the record at place->offset from bytes[0, limit). True and *out filled,
 * place moved behind it, if it is valid; false, place unchanged, if not.
 * `verify` false skips the checksum (bytes verified before in this process),
 * never the bounds.
 */
bool skv_wal_read(const uint8_t *bytes, uint64_t limit, bool verify,
                  skv_wal_place *place, skv_wal_record *out);

/*
 * After skv_wal_read said no at `place`: whether something behind proves that
 * the bytes there had been synced (L1): a valid record at some later multiple
 * of 8, with a durable LSN above the LSN of place. *at is its offset.
 */
bool skv_wal_proof_of_damage(const uint8_t *bytes, uint64_t size,
                             uint64_t start, const skv_wal_place *place,
                             uint64_t *at);

/* The same in bounded time, where nothing is decided by it: with
 * seek->untried raised, false is no proof of the contrary. Fails by the
 * seek's pause only. */
int skv_wal_seek_proof(const uint8_t *bytes, uint64_t size, uint64_t start,
                       const skv_wal_place *place, skv_seek *seek, skv_err *err,
                       bool *proof);

/* Whether a record stands at `offset`, a multiple of 8, whose checksum holds.
 * Place moves there; chain and epoch are then its word. */
bool skv_wal_find(const uint8_t *bytes, uint64_t limit, uint64_t offset,
                  skv_wal_place *place);

/*
 * Behind damage at place->offset: the same at the next offset where one stands.
 * Not *found, place unchanged: there is none below `limit`, but perhaps among
 * seek->untried. Fails by the seek's pause only.
 */
int skv_wal_resume(const uint8_t *bytes, uint64_t limit, skv_seek *seek,
                   skv_err *err, skv_wal_place *place, bool *found);

static inline uint64_t skv_wal_lsn(uint64_t start, uint64_t offset) {
  return start + offset - SKV_WAL_HEADER;
}
static inline uint64_t skv_wal_offset(uint64_t start, uint64_t lsn) {
  return lsn - start + SKV_WAL_HEADER;
}

#endif
