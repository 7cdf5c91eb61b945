/*
 * Logs: a file's bytes are read by the engine and by a slow reader that is
 * written from the format alone; every record that they accept encodes to the
 * same bytes again; the proof of damage and the MemTable agree with what can
 * be counted by hand.
 */
#include "engine/util/hash.h"
#include "engine/wal/wal.h"
#include "test/fuzz/fuzz_entries.h"
#include "test/fuzz/fuzz_repair_log.h"

#define WAL_RECORDS 512

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)max;
  fuzz_repair_log(data, size, rng);
  return size;
}

/* ---- A slow reader ----------------------------------------------------- */

static uint64_t naive_number(const uint8_t *p, unsigned bytes) {
  uint64_t v = 0;
  while (bytes > 0) v = v << 8 | p[--bytes];
  return v;
}

static bool naive_is_header(const uint8_t *b, size_t size) {
  return size >= 64 && memcmp(b, "STRATWAL", 8) == 0 &&
         naive_number(b + 8, 4) == 1 && naive_number(b + 48, 8) == 0 &&
         naive_number(b + 40, 8) % 8 == 0 &&
         naive_number(b + 56, 8) == skv_checksum(b, 56, 0);
}

/* Whether a record stands at `at`, whatever stands before it. */
static bool naive_is_record(const uint8_t *b, uint64_t size, uint64_t seed,
                            uint64_t at) {
  if (at % 8 != 0 || at < 64 || at > size || size - at < 32) return false;
  const uint8_t *r = b + at;
  uint64_t length = naive_number(r + 20, 4), space = (length + 7) / 8 * 8;
  if (length < 32 || space > size - at) return false;
  if (r[28] < 1 || r[28] > 5 || r[29] || r[30] || r[31]) return false;
  if (r[28] == 3 && length != 40) return false;
  if (r[28] == 5 && length != 32) return false;
  return naive_number(r, 8) == skv_checksum(r + 8, length - 8, seed + at);
}

static bool naive_read(const uint8_t *b, uint64_t size,
                       const skv_wal_place *place, skv_wal_record *out) {
  uint64_t at = place->offset;
  if (!naive_is_record(b, size, place->seed, at)) return false;
  const uint8_t *r = b + at;
  uint64_t length = naive_number(r + 20, 4), space = (length + 7) / 8 * 8;
  if (naive_number(r + 16, 4) != place->prev) return false;
  if (naive_number(r + 24, 4) < place->epoch) return false;
  for (uint64_t i = length; i < space; i++)
    if (r[i] != 0) return false;
  *out = (skv_wal_record){.offset = at,
                          .end = at + space,
                          .durable = naive_number(r + 8, 8),
                          .checksum = naive_number(r, 8),
                          .epoch = (uint32_t)naive_number(r + 24, 4),
                          .type = r[28],
                          .payload = skv_slice_of(r + 32, length - 32)};
  return true;
}

static bool naive_proof(const uint8_t *b, uint64_t size, uint64_t start,
                        const skv_wal_place *place, uint64_t *at) {
  uint64_t lost = start + place->offset - 64;
  for (uint64_t i = place->offset + 8; i + 32 <= size; i += 8) {
    uint64_t durable = naive_number(b + i + 8, 8);
    *at = i;
    if (durable > lost && durable <= start + i - 64 &&
        naive_number(b + i + 24, 4) >= place->epoch &&
        naive_is_record(b, size, place->seed, i))
      return true;
  }
  *at = 0;
  return false;
}

/* ---- The target -------------------------------------------------------- */

static void check_encoding(const skv_wal_record *r, uint32_t prev,
                           uint64_t seed) {
  size_t space = (size_t)(r->end - r->offset);
  uint8_t *copy = fuzz_alloc(space);
  memset(copy, 0xee, space);
  if (r->payload.size > 0) memcpy(copy + 32, r->payload.data, r->payload.size);
  skv_wal_place place = {seed, r->offset, prev, 0};
  skv_wal_encode(copy, r->type, r->payload.size, r->durable, r->epoch, &place);
  FUZZ_CHECK(memcmp(copy, r->payload.data - 32, space) == 0);
  FUZZ_CHECK(place.offset == r->end);
  FUZZ_CHECK(place.prev == (uint32_t)r->checksum);
  free(copy);
}

static bool same_record(const skv_wal_record *a, const skv_wal_record *b) {
  return a->offset == b->offset && a->end == b->end &&
         a->durable == b->durable && a->checksum == b->checksum &&
         a->epoch == b->epoch && a->type == b->type &&
         a->payload.data == b->payload.data &&
         a->payload.size == b->payload.size;
}

/* All records; returns how many. */
static size_t check_records(const uint8_t *data, size_t size,
                            skv_wal_place *place, skv_wal_record *records) {
  skv_wal_record slow;
  for (size_t n = 0;; n++) {
    skv_wal_place before = *place;
    bool is_slow = naive_read(data, size, place, &slow);
    if (n == WAL_RECORDS) return n;
    bool is_fast = skv_wal_read(data, size, true, place, &records[n]);
    FUZZ_CHECK(is_fast == is_slow);
    if (!is_fast) {
      FUZZ_CHECK(memcmp(&before, place, sizeof before) == 0);
      return n;
    }
    FUZZ_CHECK(same_record(&records[n], &slow));
    check_encoding(&records[n], before.prev, before.seed);
    skv_wal_place unverified = before;
    FUZZ_CHECK(skv_wal_read(data, size, false, &unverified, &slow));
    FUZZ_CHECK(same_record(&records[n], &slow));
  }
}

/* What the records commit; false if a batch is malformed. */
static bool collect(const skv_wal_record *records, size_t count, uint64_t start,
                    fuzz_entries *list) {
  for (size_t i = 0; i < count; i++) {
    const skv_wal_record *r = &records[i], *next = r + 1;
    uint64_t lsn = start + r->offset - 64;
    if (r->type > SKV_RECORD_PREPARE) continue;
    if (r->type == SKV_RECORD_PREPARE && i + 1 < count &&
        next->type == SKV_RECORD_ABORT &&
        naive_number(next->payload.data, 8) == lsn)
      continue;
    if (!naive_batch(r->payload, lsn, list)) return false;
  }
  return true;
}

static void check_mem(const uint8_t *data, size_t size,
                      const skv_wal_header *header,
                      const skv_wal_record *records, size_t count) {
  skv_mem *mem = NULL;
  uint64_t limit = count > 0 ? records[count - 1].end : SKV_WAL_HEADER;
  fuzz_entries *list = fuzz_alloc(sizeof *list);
  bool is_whole = collect(records, count, header->start, list);
  FUZZ_CHECK(skv_mem_new_log(data, size, header, "fuzz.wal", NULL, &mem) ==
             STRATAKV_OK);
  int rc = skv_mem_catch_up(mem, limit, NULL);
  FUZZ_CHECK(rc == STRATAKV_OK || rc == STRATAKV_CORRUPT);
  if (!list->is_over) {
    FUZZ_CHECK((rc == STRATAKV_OK) == is_whole);
    if (is_whole) fuzz_check_mem(mem, limit, list);
  }
  if (limit + 8 <= size) /* beyond what is there */
    FUZZ_CHECK(skv_mem_catch_up(mem, limit + 8, NULL) == STRATAKV_CORRUPT);
  skv_mem_unref(mem);
  free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  skv_wal_header header;
  int rc = skv_wal_header_decode(data, size, "fuzz.wal", NULL, &header);
  FUZZ_CHECK((rc == STRATAKV_OK) == naive_is_header(data, size));
  if (rc != STRATAKV_OK) return 0;
  uint8_t again[SKV_WAL_HEADER];
  skv_wal_header_encode(&header, again);
  FUZZ_CHECK(memcmp(again, data, sizeof again) == 0);

  skv_wal_record *records = fuzz_alloc(WAL_RECORDS * sizeof *records);
  skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev, 0};
  size_t count = check_records(data, size, &place, records);
  if (count < WAL_RECORDS) {
    uint64_t fast, slow;
    FUZZ_CHECK(
        skv_wal_proof_of_damage(data, size, header.start, &place, &fast) ==
        naive_proof(data, size, header.start, &place, &slow));
    FUZZ_CHECK(fast == slow);
    check_mem(data, size, &header, records, count);
  }
  free(records);
  return 0;
}
