/*
 * The log's bytes: header, records, and the proof that some were damaged.
 * Formats and rules stand in wal.h.
 */
#include "engine/wal/wal.h"

#include <assert.h>

#include "engine/util/hash.h"

#define WAL_MAGIC "STRATWAL"
#define WAL_VERSION 1

/* Offsets in a record's header. */
#define RECORD_DURABLE 8
#define RECORD_PREV 16
#define RECORD_LENGTH 20
#define RECORD_EPOCH 24
#define RECORD_TYPE 28

void skv_wal_header_encode(const skv_wal_header *header,
                           uint8_t out[SKV_WAL_HEADER]) {
  memcpy(out, WAL_MAGIC, 8);
  skv_put32(out + 8, WAL_VERSION);
  skv_put32(out + 12, header->prev);
  memcpy(out + 16, header->store_id, 16);
  skv_put64(out + 32, header->number);
  skv_put64(out + 40, header->start);
  skv_put64(out + 48, 0);
  skv_put64(out + 56, skv_checksum(out, 56, 0));
}

int skv_wal_header_decode(const uint8_t *bytes, size_t size, const char *file,
                          skv_err *err, skv_wal_header *out) {
  memset(out, 0, sizeof *out);
  if (size < SKV_WAL_HEADER) {
    return skv_error_corrupt(err, file, size, "log header cut off");
  }
  if (memcmp(bytes, WAL_MAGIC, 8) != 0) {
    return SKV_ERROR(err, STRATAKV_NOTADB, "%s is not a log", file);
  }
  if (!skv_checksum_ok(bytes, 56, 0, skv_get64(bytes + 56))) {
    return skv_error_corrupt(err, file, 0, "log header checksum mismatch");
  }
  if (skv_get32(bytes + 8) != WAL_VERSION) {
    return SKV_ERROR(err, STRATAKV_NOTADB, "%s has log format %u, not %d", file,
                     skv_get32(bytes + 8), WAL_VERSION);
  }
  if (skv_get64(bytes + 48) != 0 || skv_get64(bytes + 40) % 8 != 0) {
    return skv_error_corrupt(err, file, 40, "bad field in log header");
  }
  out->prev = skv_get32(bytes + 12);
  memcpy(out->store_id, bytes + 16, 16);
  out->number = skv_get64(bytes + 32);
  out->start = skv_get64(bytes + 40);
  return STRATAKV_OK;
}

uint64_t skv_wal_seed(const skv_wal_header *header) {
  return skv_seed(header->store_id, header->number, header->start);
}

void skv_wal_encode(uint8_t *record, uint8_t type, size_t payload_size,
                    uint64_t durable, uint32_t epoch, skv_wal_place *place) {
  size_t length = SKV_RECORD_HEADER + payload_size;
  size_t space = (size_t)skv_record_space(payload_size);
  assert(length <= UINT32_MAX && place->offset % 8 == 0);
  skv_put64(record + RECORD_DURABLE, durable);
  skv_put32(record + RECORD_PREV, place->prev);
  skv_put32(record + RECORD_LENGTH, (uint32_t)length);
  skv_put32(record + RECORD_EPOCH, epoch);
  /* The type, and the zero bytes behind it. */
  skv_put32(record + RECORD_TYPE, type);
  memset(record + length, 0, space - length);
  uint64_t sum =
      skv_checksum(record + 8, length - 8, place->seed + place->offset);
  skv_put64(record, sum);
  place->offset += space;
  place->prev = (uint32_t)sum;
  place->epoch = epoch;
}

/* Whether the header's own fields are those of a record that fits in `room`
 * bytes: what can be said without its checksum and its neighbours. */
static bool wal_is_plausible(const uint8_t *record, uint64_t room) {
  if (room < SKV_RECORD_HEADER) return false;
  uint32_t word = skv_get32(record + RECORD_TYPE); /* above 5: not zero */
  if (word < SKV_RECORD_COMMIT || word > SKV_RECORD_SEAL) return false;
  uint32_t length = skv_get32(record + RECORD_LENGTH);
  if (length < SKV_RECORD_HEADER) return false;
  if (word == SKV_RECORD_ABORT && length != SKV_RECORD_HEADER + 8) return false;
  if (word == SKV_RECORD_SEAL && length != SKV_RECORD_HEADER) return false;
  return skv_record_space(length - SKV_RECORD_HEADER) <= room;
}

static bool wal_checksum_ok(const uint8_t *record, const skv_wal_place *place,
                            uint64_t offset) {
  return skv_checksum_ok(record + 8, skv_get32(record + RECORD_LENGTH) - 8,
                         place->seed + offset, skv_get64(record));
}

/* Fewer than 8 bytes; the checksum does not cover them. */
static bool wal_is_zero(const uint8_t *p, const uint8_t *end) {
  while (p < end) {
    if (*p++ != 0) return false;
  }
  return true;
}

bool skv_wal_read(const uint8_t *bytes, uint64_t limit, bool verify,
                  skv_wal_place *place, skv_wal_record *out) {
  uint64_t offset = place->offset;
  if (offset < SKV_WAL_HEADER || offset % 8 != 0 || offset > limit) {
    return false;
  }
  const uint8_t *record = bytes + offset;
  if (!wal_is_plausible(record, limit - offset)) return false;      /* INV-8 */
  if (skv_get32(record + RECORD_PREV) != place->prev) return false; /* P11 */
  if (skv_get32(record + RECORD_EPOCH) < place->epoch) return false;
  if (verify && !wal_checksum_ok(record, place, offset)) return false;
  uint32_t length = skv_get32(record + RECORD_LENGTH);
  uint64_t space = skv_record_space(length - SKV_RECORD_HEADER);
  if (!wal_is_zero(record + length, record + space)) return false;
  out->offset = offset;
  out->end = offset + space;
  out->durable = skv_get64(record + RECORD_DURABLE);
  out->checksum = skv_get64(record);
  out->epoch = skv_get32(record + RECORD_EPOCH);
  out->type = record[RECORD_TYPE];
  out->payload =
      skv_slice_of(record + SKV_RECORD_HEADER, length - SKV_RECORD_HEADER);
  place->offset = out->end;
  place->prev = (uint32_t)out->checksum;
  place->epoch = out->epoch;
  return true;
}

/*
 * Whether a record at `offset` could prove that `lost` had been synced, by its
 * header. The tests stand in the order of what they cost: of arbitrary bytes
 * almost none pass as a type, and of those hardly any as an LSN in the right
 * range, so that checksums are computed over little but records. An older epoch
 * is a dead writer's, whatever it says.
 */
static bool wal_may_prove(const uint8_t *bytes, uint64_t size, uint64_t start,
                          const skv_wal_place *place, uint64_t offset) {
  const uint8_t *record = bytes + offset;
  uint32_t type = skv_get32(record + RECORD_TYPE);
  if (type < SKV_RECORD_COMMIT || type > SKV_RECORD_SEAL) return false;
  uint64_t durable = skv_get64(record + RECORD_DURABLE);
  if (durable <= skv_wal_lsn(start, place->offset)) return false;
  if (durable > skv_wal_lsn(start, offset)) return false;
  return skv_get32(record + RECORD_EPOCH) >= place->epoch &&
         wal_is_plausible(record, size - offset);
}

static uint64_t wal_next(uint64_t offset) { return (offset | 7) + 1; }

bool skv_wal_proof_of_damage(const uint8_t *bytes, uint64_t size,
                             uint64_t start, const skv_wal_place *place,
                             uint64_t *at) {
  uint64_t offset = wal_next(place->offset);
  *at = 0;
  for (; offset + SKV_RECORD_HEADER <= size; offset += 8) {
    if (!wal_may_prove(bytes, size, start, place, offset)) continue;
    if (!wal_checksum_ok(bytes + offset, place, offset)) continue;
    *at = offset;
    return true;
  }
  return false;
}

int skv_wal_seek_proof(const uint8_t *bytes, uint64_t size, uint64_t start,
                       const skv_wal_place *place, skv_seek *seek, skv_err *err,
                       bool *proof) {
  uint64_t offset = wal_next(place->offset);
  int rc = STRATAKV_OK;
  *proof = false;
  for (; offset + SKV_RECORD_HEADER <= size; offset += 8) {
    const uint8_t *record = bytes + offset;
    *proof = wal_may_prove(bytes, size, start, place, offset) &&
             skv_seek_try(seek, offset, skv_get32(record + RECORD_LENGTH)) &&
             wal_checksum_ok(record, place, offset);
    if (*proof) break;
    rc = skv_seek_step(seek, 8, err);
    if (rc != STRATAKV_OK) break;
  }
  return rc;
}

/* A record whose checksum holds: chain and epoch are its word. */
static void wal_go_on(const uint8_t *record, uint64_t offset,
                      skv_wal_place *place) {
  place->offset = offset;
  place->prev = skv_get32(record + RECORD_PREV);
  place->epoch = skv_get32(record + RECORD_EPOCH);
}

bool skv_wal_find(const uint8_t *bytes, uint64_t limit, uint64_t offset,
                  skv_wal_place *place) {
  if (offset < SKV_WAL_HEADER || offset % 8 != 0 || offset > limit)
    return false;
  const uint8_t *record = bytes + offset;
  if (!wal_is_plausible(record, limit - offset) ||
      !wal_checksum_ok(record, place, offset))
    return false;
  wal_go_on(record, offset, place);
  return true;
}

int skv_wal_resume(const uint8_t *bytes, uint64_t limit, skv_seek *seek,
                   skv_err *err, skv_wal_place *place, bool *found) {
  uint64_t offset = wal_next(place->offset);
  int rc = STRATAKV_OK;
  *found = false;
  for (; offset + SKV_RECORD_HEADER <= limit; offset += 8) {
    const uint8_t *record = bytes + offset;
    *found = wal_is_plausible(record, limit - offset) &&
             skv_seek_try(seek, offset, skv_get32(record + RECORD_LENGTH)) &&
             wal_checksum_ok(record, place, offset);
    if (*found) break;
    rc = skv_seek_step(seek, 8, err);
    if (rc != STRATAKV_OK) break;
  }
  if (*found) wal_go_on(bytes + offset, offset, place);
  return rc;
}
