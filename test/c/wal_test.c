/*
 * engine/wal: entries and batches, headers, records, what ends a log and what
 * proves damage. Logs stand in memory of exactly their size, so that a
 * sanitizer sees a read past the end.
 *
 * Covers: INV-2, INV-8
 */
#include <stdint.h>
#include <string.h>

#include "engine/util/alloc.h"
#include "engine/util/hash.h"
#include "engine/util/prng.h"
#include "engine/wal/batch.h"
#include "engine/wal/wal.h"
#include "test/c/check.h"
#include "test/c/pretend.h"

#define LOG_START 4096 /* LSN of a test log's first record */
#define LOG_RECORDS 9

static uint8_t *copy_of(const uint8_t *bytes, size_t size) {
  uint8_t *copy = skv_malloc(size);
  if (size) memcpy(copy, bytes, size);
  return copy;
}

/* ---- Batches ------------------------------------------------------------- */

static void test_entry_sizes(void) {
  static const size_t keys[] = {0, 1, 14, 125, 126, 16381, 16382, 65535};
  static const size_t values[] = {0, 1, 127, 128, 16383, 16384, 100000};
  static const uint64_t backs[] = {0, 127, 128, 1 << 20, UINT32_MAX};
  static uint8_t zeros[100000];
  uint8_t *room = skv_malloc(200000);
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
      for (size_t k = 0; k < sizeof backs / sizeof *backs; k++) {
        skv_entry entry;
        uint64_t back;
        size_t size = skv_entry_size(backs[k], keys[i] + 2, values[j]);
        uint8_t *end = skv_entry_put(room, SKV_KIND_PUT, backs[k], 0x1234,
                                     skv_slice_of(zeros, keys[i]),
                                     skv_slice_of(zeros, values[j]));
        CHECK((size_t)(end - room) == size);
        CHECK(size <= SKV_ENTRY_OVERHEAD + keys[i] + 2 + values[j]);
        CHECK(skv_entry_get(room, end, &entry, &back) == end);
        CHECK(entry.key.size == keys[i] + 2 && entry.value.size == values[j]);
        CHECK(entry.key.data[0] == 0x12 && entry.key.data[1] == 0x34);
        CHECK(back == backs[k] && entry.kind == SKV_KIND_PUT);
        CHECK(skv_entry_get(room, end - 1, &entry, NULL) == NULL);
      }
    }
  }
  skv_free(room);
}

static void fill_batch(skv_buf *batch, skv_prng *prng, int n) {
  for (int i = 0; i < n; i++) {
    uint8_t key[40], value[300];
    skv_prng_fill(prng, key, sizeof key);
    skv_prng_fill(prng, value, sizeof value);
    bool is_put = skv_prng_below(prng, 4) != 0;
    skv_batch_append(
        batch, is_put ? SKV_KIND_PUT : SKV_KIND_DELETE, 7,
        skv_slice_of(key, skv_prng_below(prng, sizeof key)),
        skv_slice_of(value, is_put ? skv_prng_below(prng, 300) : 0));
  }
}

/* A batch is right at its whole size and at the ends of its entries only. */
static void test_batch_cuts(void) {
  skv_prng prng = {11};
  skv_buf batch = {0};
  uint64_t count, right = 0;
  CHECK(skv_batch_check(skv_buf_bytes(&batch), &count) && count == 0);
  fill_batch(&batch, &prng, 30);
  CHECK(batch.rc == STRATAKV_OK);
  for (size_t size = 0; size <= batch.size; size++) {
    uint8_t *copy = copy_of(batch.data, size);
    if (skv_batch_check(skv_slice_of(copy, size), &count)) {
      CHECK(count == right);
      right++;
    }
    skv_free(copy);
  }
  CHECK(right == 31);
  skv_buf_clear(&batch);
}

static void test_batch_damage(void) {
  static const uint8_t bad[][8] = {
      {0, 2, 0, 0, 1, 1},    /* kind 0 */
      {3, 2, 0, 0, 1, 1},    /* a reserved kind */
      {1, 1, 0, 0, 1, 1},    /* a key shorter than a table id */
      {2, 2, 1, 0, 1, 1, 1}, /* a tombstone's value */
      {1, 2, 0, 1, 1, 1},    /* a wrong back */
      {1, 9, 0, 0, 1, 1},    /* a key that does not fit */
      {1, 2, 9, 0, 1, 1},    /* a value that does not fit */
  };
  uint64_t count;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    size_t size = i == 3 ? 7 : 6;
    CHECK(!skv_batch_check(skv_slice_of(bad[i], size), &count));
  }
  static const uint8_t huge[] = {1,    2,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                 0xff, 0xff, 0xff, 1,    0,    1,    1};
  CHECK(!skv_batch_check(skv_slice_of(huge, sizeof huge), &count));
}

/* ---- Headers ------------------------------------------------------------- */

static skv_wal_header header_of(uint64_t number) {
  skv_wal_header header = {"0123456789abcde", number, LOG_START, 0xabcdef01};
  return header;
}

static void test_header(void) {
  uint8_t bytes[SKV_WAL_HEADER];
  skv_wal_header header = header_of(5), out;
  skv_err err;
  skv_wal_header_encode(&header, bytes);
  CHECK(skv_wal_header_decode(bytes, 64, "5.wal", &err, &out) == STRATAKV_OK);
  CHECK(memcmp(header.store_id, out.store_id, 16) == 0);
  CHECK(out.number == 5 && out.start == LOG_START && out.prev == header.prev);
  CHECK(skv_wal_header_decode(bytes, 63, "5.wal", &err, &out) ==
        STRATAKV_CORRUPT);
  for (size_t bit = 0; bit < 64 * 8; bit++) {
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    int rc = skv_wal_header_decode(bytes, 64, "5.wal", &err, &out);
    CHECK(rc == (bit < 8 * 8 ? STRATAKV_NOTADB : STRATAKV_CORRUPT));
    CHECK(strstr(err.message, "5.wal") != NULL);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  skv_put32(bytes + 8, 2);
  skv_put64(bytes + 56, skv_checksum(bytes, 56, 0));
  CHECK(skv_wal_header_decode(bytes, 64, "5.wal", &err, &out) ==
        STRATAKV_NOTADB);
  CHECK(strstr(err.message, "log format 2") != NULL);
  skv_wal_header other = header_of(6);
  CHECK(skv_wal_seed(&header) != skv_wal_seed(&other));
}

/* ---- A small log --------------------------------------------------------- */

typedef struct test_log {
  uint8_t *bytes;
  size_t size;
  skv_wal_place first;
  size_t count;
  uint64_t offset[LOG_RECORDS + 1]; /* the last is the end */
  uint64_t durable[LOG_RECORDS];
} test_log;

static skv_wal_place first_place(uint64_t number) {
  skv_wal_header header = header_of(number);
  skv_wal_place place = {skv_wal_seed(&header), SKV_WAL_HEADER, header.prev, 0};
  return place;
}

static void append_record(test_log *log, skv_wal_place *place, uint8_t type,
                          const void *payload, size_t size, uint64_t durable,
                          uint32_t epoch) {
  uint64_t end = place->offset + skv_record_space(size);
  if (end > log->size) {
    log->bytes = skv_realloc(log->bytes, end);
    memset(log->bytes + log->size, 0, end - log->size);
    log->size = end;
  }
  if (size) memcpy(log->bytes + place->offset + 32, payload, size);
  log->durable[log->count] = durable;
  log->offset[log->count++] = place->offset;
  skv_wal_encode(log->bytes + place->offset, type, size, durable, epoch, place);
  log->offset[log->count] = place->offset;
}

/* Nine records of all types; the durable LSN lags three records. */
static test_log make_log(uint64_t number, uint64_t seed) {
  static const uint8_t types[LOG_RECORDS] = {1, 1, 2, 3, 1, 2, 1, 4, 5};
  test_log log = {0};
  skv_prng prng = {seed};
  skv_wal_place place = log.first = first_place(number);
  skv_wal_header header = header_of(number);
  log.bytes = skv_malloc(log.size = SKV_WAL_HEADER);
  skv_wal_header_encode(&header, log.bytes);
  for (size_t i = 0; i < LOG_RECORDS; i++) {
    uint8_t payload[64];
    size_t size = skv_prng_below(&prng, 60);
    skv_prng_fill(&prng, payload, sizeof payload);
    if (types[i] == SKV_RECORD_ABORT) {
      size = 8;
      skv_put64(payload, skv_wal_lsn(LOG_START, log.offset[i - 1]));
    }
    if (types[i] == SKV_RECORD_SEAL) size = 0;
    uint64_t durable =
        i < 3 ? LOG_START : skv_wal_lsn(LOG_START, log.offset[i - 2]);
    append_record(&log, &place, types[i], payload, size, durable,
                  10 + (uint32_t)i / 4);
  }
  return log;
}

/* Records that can be read from bytes[0, limit); *place where they end. */
static size_t count_records(const uint8_t *bytes, uint64_t limit, bool verify,
                            skv_wal_place *place) {
  skv_wal_record record;
  size_t n = 0;
  while (skv_wal_read(bytes, limit, verify, place, &record)) n++;
  return n;
}

static void test_read(void) {
  test_log log = make_log(5, 1);
  skv_wal_place place = log.first;
  skv_wal_record record;
  for (size_t i = 0; i < log.count; i++) {
    CHECK(skv_wal_read(log.bytes, log.size, i % 2, &place, &record));
    CHECK(record.offset == log.offset[i] && record.end == log.offset[i + 1]);
    CHECK(record.durable == log.durable[i] && record.epoch == 10 + i / 4);
    CHECK(place.offset == record.end && place.epoch == record.epoch);
    CHECK(place.prev == (uint32_t)record.checksum);
    CHECK(record.payload.data == log.bytes + record.offset + 32);
    CHECK(skv_record_space(record.payload.size) == record.end - record.offset);
  }
  CHECK(!skv_wal_read(log.bytes, log.size, true, &place, &record));
  place.offset = 65;
  CHECK(!skv_wal_read(log.bytes, log.size, true, &place, &record));
  place.offset = 0;
  CHECK(!skv_wal_read(log.bytes, log.size, true, &place, &record));
  skv_free(log.bytes);
}

static void test_cuts(void) {
  test_log log = make_log(5, 2);
  for (size_t size = 0; size <= log.size; size++) {
    uint8_t *copy = copy_of(log.bytes, size);
    skv_wal_place place = log.first;
    size_t whole = 0;
    uint64_t at;
    while (whole < log.count && log.offset[whole + 1] <= size) whole++;
    CHECK(count_records(copy, size, true, &place) == whole);
    CHECK(place.offset == log.offset[whole]);
    place = log.first;
    CHECK(count_records(copy, size, false, &place) == whole);
    CHECK(!skv_wal_proof_of_damage(copy, size, LOG_START, &place, &at));
    skv_free(copy);
  }
  skv_free(log.bytes);
}

/* Whether a record behind number `bad` says that it had been synced. */
static bool expect_proof(const test_log *log, size_t bad, uint64_t *at) {
  for (size_t i = bad + 1; i < log->count; i++) {
    *at = log->offset[i];
    if (log->durable[i] > skv_wal_lsn(LOG_START, log->offset[bad])) return true;
  }
  return false;
}

static void test_flips(void) {
  test_log log = make_log(5, 3);
  size_t bad = 0, proven = 0;
  for (size_t bit = SKV_WAL_HEADER * 8; bit < log.size * 8; bit++) {
    if (bit / 8 >= log.offset[bad + 1]) bad++;
    skv_wal_place place = log.first;
    uint64_t at, expected_at = 0;
    log.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    CHECK(count_records(log.bytes, log.size, true, &place) == bad);
    CHECK(place.offset == log.offset[bad]);
    bool expected = expect_proof(&log, bad, &expected_at);
    CHECK(skv_wal_proof_of_damage(log.bytes, log.size, LOG_START, &place,
                                  &at) == expected);
    if (expected) CHECK(at == expected_at);
    proven += expected;
    log.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  CHECK(bad == log.count - 1 && proven > 0);
  skv_free(log.bytes);
}

/* Without checksums a flipped byte may go unseen, but nothing is read outside
 * and no record ends outside. */
static void test_flips_unverified(void) {
  test_log log = make_log(5, 4);
  for (size_t byte = SKV_WAL_HEADER; byte < log.size; byte++) {
    for (int value = 0; value < 256; value += 51) {
      uint8_t saved = log.bytes[byte];
      skv_wal_place place = log.first;
      log.bytes[byte] = (uint8_t)value;
      CHECK(count_records(log.bytes, log.size, false, &place) <= log.count);
      CHECK(place.offset <= log.size);
      log.bytes[byte] = saved;
    }
  }
  skv_free(log.bytes);
}

/* ---- Stale bytes (P11) --------------------------------------------------- */

/* A killed writer left three records; its successor writes one of the same
 * length over the first. The others must not come back. */
static void test_stale_chain(void) {
  test_log log = {0};
  skv_wal_place place = first_place(5), successor = place;
  log.bytes = skv_calloc(1, log.size = SKV_WAL_HEADER);
  append_record(&log, &place, SKV_RECORD_COMMIT, "one", 3, LOG_START, 4);
  append_record(&log, &place, SKV_RECORD_COMMIT, "two", 3, LOG_START, 4);
  append_record(&log, &place, SKV_RECORD_COMMIT, "three", 5, LOG_START, 4);
  place = first_place(5);
  CHECK(count_records(log.bytes, log.size, true, &place) == 3);
  append_record(&log, &successor, SKV_RECORD_COMMIT, "ONE", 3, LOG_START, 4);
  place = first_place(5);
  CHECK(count_records(log.bytes, log.size, true, &place) == 1);
  skv_free(log.bytes);
}

/* The chain fits by chance: the epoch still tells. */
static void test_stale_epoch(void) {
  test_log log = {0};
  skv_wal_place place = first_place(5);
  log.bytes = skv_calloc(1, log.size = SKV_WAL_HEADER);
  append_record(&log, &place, SKV_RECORD_COMMIT, "one", 3, LOG_START, 5);
  append_record(&log, &place, SKV_RECORD_COMMIT, "two", 3, LOG_START, 4);
  place = first_place(5);
  CHECK(count_records(log.bytes, log.size, true, &place) == 1);
  skv_free(log.bytes);
}

/* Another log's records: a recycled file, the same bytes at another place. */
static void test_stale_seed(void) {
  test_log log = make_log(5, 6);
  skv_wal_place place = first_place(6);
  skv_wal_record record;
  uint64_t at;
  CHECK(!skv_wal_read(log.bytes, log.size, true, &place, &record));
  CHECK(!skv_wal_proof_of_damage(log.bytes, log.size, LOG_START, &place, &at));
  uint8_t *moved = skv_calloc(1, log.size + 8);
  memcpy(moved + 8, log.bytes, log.size);
  place = first_place(5);
  place.offset += 8;
  CHECK(!skv_wal_read(moved, log.size + 8, true, &place, &record));
  CHECK(!skv_wal_proof_of_damage(moved, log.size + 8, LOG_START, &place, &at));
  skv_free(moved);
  skv_free(log.bytes);
}

/* ---- Proof of damage (L1) ------------------------------------------------ */

/* One hole, then one record with that durable LSN and epoch. */
static bool proof_with(uint64_t durable, uint32_t epoch, uint32_t from_epoch) {
  test_log log = {0};
  skv_wal_place place = first_place(5), hole = place;
  uint64_t at;
  hole.epoch = from_epoch;
  log.bytes = skv_calloc(1, log.size = 160);
  place.offset = 160;
  append_record(&log, &place, SKV_RECORD_COMMIT, "later", 5, durable, epoch);
  bool proof =
      skv_wal_proof_of_damage(log.bytes, log.size, LOG_START, &hole, &at);
  CHECK(at == (proof ? 160 : 0));
  skv_free(log.bytes);
  return proof;
}

static void test_proof(void) {
  uint64_t own = skv_wal_lsn(LOG_START, 160);
  CHECK(!proof_with(LOG_START, 3, 3)); /* synced up to the hole only */
  CHECK(proof_with(LOG_START + 8, 3, 3));
  CHECK(proof_with(own, 3, 3));
  CHECK(!proof_with(own + 8, 3, 3)); /* more than there was: no record */
  CHECK(!proof_with(own, 2, 3));     /* a dead writer's */
}

static bool resume(const test_log *log, skv_wal_place *place) {
  skv_seek seek = skv_seek_new((skv_pause){0});
  skv_err err;
  bool found;
  CHECK(skv_wal_resume(log->bytes, log->size, &seek, &err, place, &found) ==
        STRATAKV_OK);
  CHECK(seek.untried == 0);
  return found;
}

/* A later record that is damaged itself proves nothing. */
static void test_proof_damaged(void) {
  test_log log = {0};
  skv_wal_place place = first_place(5), hole = place;
  uint64_t at;
  log.bytes = skv_calloc(1, log.size = 160);
  place.offset = 160;
  append_record(&log, &place, SKV_RECORD_COMMIT, "later", 5, LOG_START + 8, 3);
  log.bytes[160 + SKV_RECORD_HEADER] ^= 1;
  CHECK(!skv_wal_proof_of_damage(log.bytes, log.size, LOG_START, &hole, &at));
  skv_wal_place from = hole;
  CHECK(!resume(&log, &from));
  log.bytes[160 + SKV_RECORD_HEADER] ^= 1;
  CHECK(resume(&log, &from) && from.offset == 160);
  CHECK(skv_wal_proof_of_damage(log.bytes, log.size, LOG_START, &hole, &at));
  skv_free(log.bytes);
}

/* Bytes that look like a log but are none: no proof, and soon. */
static void test_proof_noise(void) {
  size_t size = 4u << 20;
  uint8_t *noise = skv_malloc(size);
  skv_prng prng = {77};
  skv_wal_place place = first_place(5);
  uint64_t at;
  skv_prng_fill(&prng, noise, size);
  for (size_t i = 0; i + 32 <= size; i += 32) {
    skv_put64(noise + i + 8, LOG_START + skv_prng_below(&prng, size));
    skv_put32(noise + i + 20, 32 + (uint32_t)skv_prng_below(&prng, 200));
    skv_put32(noise + i + 28, 1);
  }
  CHECK(!skv_wal_proof_of_damage(noise, size, LOG_START, &place, &at));
  memset(noise, 0, size);
  CHECK(!skv_wal_proof_of_damage(noise, size, LOG_START, &place, &at));
  skv_free(noise);
}

/* ---- Searches in bytes made for them ------------------------------------- */

typedef struct rests {
  unsigned count, stop_at;
} rests;

static int rest(void *arg, skv_err *err) {
  rests *r = arg;
  if (++r->count != r->stop_at) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_INTERRUPT, "stopped");
}

/* Pretended records, and a short real one in the midst of them, and behind. */
static test_log pretending_log(void) {
  test_log log = {0};
  size_t size = SKV_WAL_HEADER + 2 * PRETEND_BYTES + 128;
  skv_wal_place place = first_place(5);
  log.bytes = skv_calloc(1, log.size = size);
  pretend_records(log.bytes + SKV_WAL_HEADER, 2 * PRETEND_BYTES);
  place.offset = SKV_WAL_HEADER + PRETEND_BYTES;
  append_record(&log, &place, SKV_RECORD_COMMIT, "short", 5, LOG_START, 3);
  place.offset = SKV_WAL_HEADER + 2 * PRETEND_BYTES;
  append_record(&log, &place, SKV_RECORD_COMMIT, "short", 5, LOG_START, 3);
  return log;
}

static void test_resume_pretended(void) {
  test_log log = pretending_log();
  rests r = {0}, s = {.stop_at = 3};
  skv_seek seek = skv_seek_new((skv_pause){rest, &r});
  skv_wal_place place = first_place(5);
  skv_err err;
  bool found;
  for (unsigned i = 1; i <= 2; i++) {
    CHECK(skv_wal_resume(log.bytes, log.size, &seek, &err, &place, &found) ==
          STRATAKV_OK);
    CHECK(found && place.offset == SKV_WAL_HEADER + i * PRETEND_BYTES);
    CHECK(seek.untried > 0);
  }
  /* Four classes of lengths above 40: each its due, and one trial more. */
  uint64_t due = SKV_SEEK_FREE + SKV_SEEK_RATE * log.size + ((uint64_t)1 << 20);
  CHECK(r.count > 3 && r.count * SKV_SEEK_PAUSE <= 5 * due);
  seek = skv_seek_new((skv_pause){rest, &s});
  place = first_place(5);
  CHECK(skv_wal_resume(log.bytes, log.size, &seek, &err, &place, &found) ==
        STRATAKV_INTERRUPT);
  CHECK(!found && s.count == 3 && place.offset == SKV_WAL_HEADER);
  skv_free(log.bytes);
}

static bool seek_proof(const test_log *log, const skv_wal_place *place,
                       skv_seek *seek, int want) {
  skv_err err;
  bool proof;
  CHECK(skv_wal_seek_proof(log->bytes, log->size, LOG_START, place, seek, &err,
                           &proof) == want);
  return proof;
}

/* The same for the proof, with durable LSNs that fit. */
static void test_proof_pretended(void) {
  test_log log = {0};
  skv_wal_place place = first_place(5), last = place;
  rests r = {.stop_at = 1};
  skv_seek seek = skv_seek_new((skv_pause){0});
  uint64_t at;
  last.offset = SKV_WAL_HEADER + 2 * PRETEND_BYTES;
  log.bytes = skv_calloc(1, log.size = last.offset);
  for (at = SKV_WAL_HEADER; at < log.size; at += 32) {
    skv_put64(log.bytes + at + 8, LOG_START + 8);
    skv_put64(log.bytes + at + 16, pretend_length(at, log.size) << 32);
    skv_put64(log.bytes + at + 24, (uint64_t)SKV_RECORD_COMMIT << 32);
  }
  CHECK(!seek_proof(&log, &place, &seek, STRATAKV_OK) && seek.untried > 0);
  append_record(&log, &last, SKV_RECORD_COMMIT, "late", 4, LOG_START + 8, 3);
  CHECK(seek_proof(&log, &place, &seek, STRATAKV_OK));
  seek = skv_seek_new((skv_pause){rest, &r});
  CHECK(!seek_proof(&log, &place, &seek, STRATAKV_INTERRUPT));
  CHECK(r.count == 1);
  skv_free(log.bytes);
}

/* At one place only, and nowhere outside. */
static void test_find(void) {
  test_log log = make_log(5, 3);
  for (uint64_t at = 0; at <= log.size + 8; at++) {
    skv_wal_place place = first_place(5);
    bool is_one = false;
    for (size_t i = 0; i < log.count; i++) is_one |= at == log.offset[i];
    CHECK(skv_wal_find(log.bytes, log.size, at, &place) == is_one);
    CHECK(place.offset == (is_one ? at : SKV_WAL_HEADER));
  }
  skv_free(log.bytes);
}

/* A class of which all is spent is tried again further behind. */
static void test_seek_classes(void) {
  skv_seek seek = skv_seek_new((skv_pause){0});
  uint64_t length = 5000, sum = 0;
  while (skv_seek_try(&seek, 0, length)) sum += length;
  CHECK(seek.untried == 1 && sum >= SKV_SEEK_FREE);
  CHECK(sum < SKV_SEEK_FREE + length);
  CHECK(!skv_seek_try(&seek, 0, 4096) && seek.untried == 2);
  CHECK(skv_seek_try(&seek, 0, 4095) && skv_seek_try(&seek, 0, 8192));
  CHECK(skv_seek_try(&seek, 2 * length, length));
  CHECK(skv_seek_try(&seek, 0, 0) && skv_seek_try(&seek, 0, UINT64_MAX));
  CHECK(seek.untried == 2);
}

int main(void) {
  test_entry_sizes();
  test_batch_cuts();
  test_batch_damage();
  test_header();
  test_read();
  test_cuts();
  test_flips();
  test_flips_unverified();
  test_stale_chain();
  test_stale_epoch();
  test_stale_seed();
  test_proof();
  test_proof_damaged();
  test_proof_noise();
  test_resume_pretended();
  test_proof_pretended();
  test_find();
  test_seek_classes();
  CHECK(skv_alloc_count() == 0);
  return check_end();
}
