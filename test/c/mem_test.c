/*
 * engine/mem against a naive model: a list of all operations, searched from
 * its end. Logs stand in memory and grow while they are read.
 *
 *   gets and iterators of both directions at limits of any record boundary;
 *   iterators that stay open while the log grows; PREPARE and ABORT; batches;
 *   keys that tie in their first bytes; hot keys; equal hashes; damage; doubt;
 *   lack of memory; readers beside a writer.
 *
 * Covers: INV-4, INV-8, INV-10
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/mem/mem.h"
#include "engine/os/thread.h"
#include "engine/util/alloc.h"
#include "engine/util/buf.h"
#include "engine/util/hash.h"
#include "engine/util/prng.h"
#include "engine/wal/batch.h"
#include "test/c/check.h"

#define LOG_SIZE (4u << 20)
#define LOG_START 8192
#define MAX_KEY 80

/* ---- The log and the model ----------------------------------------------- */

typedef struct test_op {
  uint8_t key[MAX_KEY]; /* internal */
  size_t key_size;
  uint64_t number; /* its value: 8 bytes, so that every version differs */
  uint8_t kind;
  size_t record;
} test_op;

typedef struct test_log {
  uint8_t *bytes;
  skv_wal_header header;
  skv_wal_place place;
  size_t records;
  uint64_t *boundary; /* [0, records]: where each starts, then the end */
  bool *is_aborted;   /* a PREPARE whose ABORT follows */
  test_op *ops;
  size_t op_count, op_capacity;
} test_log;

static void log_init(test_log *log, size_t max_records) {
  memset(log, 0, sizeof *log);
  skv_wal_header header = {"fedcba987654321", 3, LOG_START, 99};
  log->header = header;
  log->bytes = skv_calloc(1, LOG_SIZE);
  log->place.seed = skv_wal_seed(&header);
  log->place.offset = SKV_WAL_HEADER;
  log->place.prev = header.prev;
  log->boundary = skv_calloc(max_records + 1, sizeof *log->boundary);
  log->is_aborted = skv_calloc(max_records + 1, sizeof *log->is_aborted);
  log->boundary[0] = SKV_WAL_HEADER;
}

static void log_clear(test_log *log) {
  skv_free(log->bytes);
  skv_free(log->boundary);
  skv_free(log->is_aborted);
  skv_free(log->ops);
}

static void log_record(test_log *log, uint8_t type, skv_slice payload) {
  uint8_t *record = log->bytes + log->place.offset;
  if (payload.size) memcpy(record + 32, payload.data, payload.size);
  skv_wal_encode(record, type, payload.size, LOG_START, 1, &log->place);
  log->boundary[++log->records] = log->place.offset;
}

/* Add an operation to a batch and to the model. */
static void log_op(test_log *log, skv_buf *batch, skv_slice key, uint8_t kind) {
  if (log->op_count == log->op_capacity) {
    log->op_capacity = log->op_capacity ? log->op_capacity * 2 : 256;
    log->ops = skv_realloc(log->ops, log->op_capacity * sizeof *log->ops);
  }
  test_op *op = &log->ops[log->op_count];
  op->key_size = key.size;
  memcpy(op->key, key.data, key.size);
  op->number = log->op_count++;
  op->kind = kind;
  op->record = log->records;
  uint32_t table = (uint32_t)(key.data[0] << 8 | key.data[1]);
  size_t value_size = kind == SKV_KIND_PUT ? 8 : 0;
  skv_batch_append(batch, kind, table, skv_slice_of(key.data + 2, key.size - 2),
                   skv_slice_of(&op->number, value_size));
}

static skv_slice op_key(const test_op *op) {
  return skv_slice_of(op->key, op->key_size);
}

static uint64_t op_lsn(const test_log *log, const test_op *op) {
  return skv_wal_lsn(LOG_START, log->boundary[op->record]);
}

static bool op_counts(const test_log *log, const test_op *op, size_t records) {
  return op->record < records &&
         (!log->is_aborted[op->record] || op->record + 1 == records);
}

static const test_op *model_get(const test_log *log, skv_slice key,
                                size_t records) {
  for (size_t i = log->op_count; i-- > 0;) {
    const test_op *op = &log->ops[i];
    if (op_counts(log, op, records) && skv_equal(op_key(op), key)) return op;
  }
  return NULL;
}

static int op_order(const void *a, const void *b) {
  const test_op *x = *(const test_op *const *)a;
  const test_op *y = *(const test_op *const *)b;
  int order = skv_compare(op_key(x), op_key(y));
  return order ? order : x->number > y->number ? -1 : x->number < y->number;
}

/* What an iterator must show; freed by the caller. */
static const test_op **model_list(const test_log *log, size_t records,
                                  size_t *count) {
  const test_op **list = skv_malloc((log->op_count + 1) * sizeof *list);
  size_t n = 0, unique = 0;
  for (size_t i = 0; i < log->op_count; i++) {
    if (op_counts(log, &log->ops[i], records)) list[n++] = &log->ops[i];
  }
  qsort(list, n, sizeof *list, op_order);
  for (size_t i = 0; i < n; i++) {
    if (unique == 0 || !skv_equal(op_key(list[unique - 1]), op_key(list[i]))) {
      list[unique++] = list[i];
    }
  }
  *count = unique;
  return list;
}

/* ---- Random logs --------------------------------------------------------- */

/* Shapes of keys: they decide which paths of the sort are taken. */
enum { KEYS_FEW, KEYS_NUMBERS, KEYS_TIES, KEYS_SKEWED, KEYS_ENDS, KEYS_SHAPES };

static skv_slice random_key(skv_prng *prng, int shape, uint8_t out[MAX_KEY]) {
  char *text = (char *)out + 2;
  unsigned n = (unsigned)skv_prng_below(prng, 3000);
  size_t size = 0;
  memset(out, 0, MAX_KEY);
  out[1] = (uint8_t)(1 + skv_prng_below(prng, shape == KEYS_FEW ? 3 : 1));
  switch (shape) {
  case KEYS_FEW: /* any bytes, several tables, the empty key too */
    size = skv_prng_below(prng, 3);
    for (size_t i = 0; i < size; i++) {
      out[2 + i] = (uint8_t)skv_prng_below(prng, 5);
    }
    break;
  case KEYS_NUMBERS:
    size = (size_t)snprintf(text, MAX_KEY - 2, "key%05u", n);
    break;
  case KEYS_TIES: /* differ late, and in two places */
    size = (size_t)snprintf(text, MAX_KEY - 2, "%u/a common middle part/%04u",
                            n % 2, n);
    break;
  case KEYS_SKEWED: /* most of them share most of their bits */
    for (uint64_t v = skv_prng_u64(prng) >> 20 >> n % 40; size < 6; size++) {
      out[2 + size] = (uint8_t)(v >> (40 - 8 * size));
    }
    break;
  default: /* one the start of the other, by zero bytes */
    size = n % 60;
    if (n % 7 == 0 && size > 0) out[1 + size] = 1;
  }
  return skv_slice_of(out, size + 2);
}

/* Append one random record, or two for an aborted PREPARE. */
static void log_random(test_log *log, skv_prng *prng, int shape,
                       size_t max_ops) {
  skv_buf batch = {0};
  uint8_t type =
      skv_prng_below(prng, 4) == 0 ? SKV_RECORD_PREPARE : SKV_RECORD_COMMIT;
  size_t n = skv_prng_below(prng, max_ops + 1);
  for (size_t i = 0; i < n; i++) {
    uint8_t room[MAX_KEY];
    skv_slice key = random_key(prng, shape, room);
    bool is_put = skv_prng_below(prng, 4) != 0;
    log_op(log, &batch, key, is_put ? SKV_KIND_PUT : SKV_KIND_DELETE);
  }
  size_t number = log->records;
  log_record(log, type, skv_buf_bytes(&batch));
  if (type == SKV_RECORD_PREPARE && skv_prng_below(prng, 2) == 0) {
    uint8_t lsn[8];
    skv_put64(lsn, skv_wal_lsn(LOG_START, log->boundary[number]));
    log->is_aborted[number] = true;
    log_record(log, SKV_RECORD_ABORT, skv_slice_of(lsn, 8));
  }
  skv_buf_clear(&batch);
}

/* A number of records, at most that many, whose end is decided. */
static size_t decided(const test_log *log, size_t records) {
  return records > 0 && log->is_aborted[records - 1] ? records - 1 : records;
}

static size_t random_limit(const test_log *log, skv_prng *prng) {
  return decided(log, skv_prng_below(prng, log->records + 1));
}

/* ---- Comparing ----------------------------------------------------------- */

static bool same_entry(const test_log *log, const skv_entry *entry,
                       const test_op *op) {
  bool same_value = op->kind == SKV_KIND_PUT
                        ? entry->value.size == 8 &&
                              memcmp(entry->value.data, &op->number, 8) == 0
                        : entry->value.size == 0;
  return skv_equal(entry->key, op_key(op)) && entry->kind == op->kind &&
         entry->lsn == op_lsn(log, op) && same_value;
}

static void check_get(const test_log *log, skv_mem *mem, skv_slice key,
                      size_t records) {
  skv_entry entry;
  bool found;
  skv_err err;
  const test_op *op = model_get(log, key, records);
  CHECK(skv_mem_get(mem, key, skv_hash(key), log->boundary[records], &err,
                    &found, &entry) == STRATAKV_OK);
  if (CHECK(found == (op != NULL)) && found) {
    CHECK(same_entry(log, &entry, op));
  }
}

/* Whether the iterator stands on list[i], nowhere if i is not in the list. */
static bool stands_on(const test_log *log, const skv_iter *it,
                      const test_op **list, size_t count, size_t i) {
  if (i >= count) return !it->valid;
  return it->valid && same_entry(log, &it->entry, list[i]);
}

static void check_ends(const test_log *log, skv_iter *it, const test_op **list,
                       size_t count) {
  size_t i = 0;
  CHECK(skv_iter_first(it, NULL) == STRATAKV_OK);
  while (stands_on(log, it, list, count, i) && it->valid) {
    CHECK(skv_iter_next(it, NULL) == STRATAKV_OK);
    i++;
  }
  CHECK(i == count && !it->valid);
  CHECK(skv_iter_last(it, NULL) == STRATAKV_OK);
  while (i > 0 && stands_on(log, it, list, count, i - 1)) {
    CHECK(skv_iter_prev(it, NULL) == STRATAKV_OK);
    i--;
  }
  CHECK(i == 0 && !it->valid);
}

static void check_walk(const test_log *log, skv_iter *it, const test_op **list,
                       size_t count, size_t i, skv_prng *prng) {
  for (int steps = 0; steps < 20 && it->valid; steps++) {
    bool is_next = skv_prng_below(prng, 2);
    int rc = is_next ? skv_iter_next(it, NULL) : skv_iter_prev(it, NULL);
    CHECK(rc == STRATAKV_OK);
    i = is_next ? i + 1 : i - 1; /* below 0 is past the end too */
    CHECK(stands_on(log, it, list, count, i));
  }
}

static void check_seeks(const test_log *log, skv_iter *it, const test_op **list,
                        size_t count, int shape, skv_prng *prng) {
  for (int n = 0; n < 10; n++) {
    uint8_t room[MAX_KEY];
    skv_slice key = random_key(prng, shape, room);
    if (skv_prng_below(prng, 8) == 0) key.size = skv_prng_below(prng, 3);
    size_t i = 0;
    while (i < count && skv_compare(op_key(list[i]), key) < 0) i++;
    CHECK(skv_iter_seek(it, key, NULL) == STRATAKV_OK);
    CHECK(stands_on(log, it, list, count, i));
    check_walk(log, it, list, count, i, prng);
    if (i == count || !skv_equal(op_key(list[i]), key)) i--;
    CHECK(skv_iter_seek_back(it, key, NULL) == STRATAKV_OK);
    CHECK(stands_on(log, it, list, count, i));
    check_walk(log, it, list, count, i, prng);
  }
}

static void check_iter(const test_log *log, skv_iter *it, size_t records,
                       int shape, skv_prng *prng) {
  size_t count;
  const test_op **list = model_list(log, records, &count);
  check_ends(log, it, list, count);
  check_seeks(log, it, list, count, shape, prng);
  skv_free(list);
}

/* ---- A growing log ------------------------------------------------------- */

static skv_mem *new_mem(const test_log *log) {
  skv_mem *mem;
  CHECK(skv_mem_new_log(log->bytes, LOG_SIZE, &log->header, "000003.wal", NULL,
                        &mem) == STRATAKV_OK);
  return mem;
}

/* Gets at what was caught up to and at limits below it. */
static void check_point(const test_log *log, skv_mem *mem, int shape,
                        skv_prng *prng) {
  size_t records = random_limit(log, prng);
  CHECK(skv_mem_catch_up(mem, log->boundary[records], NULL) == STRATAKV_OK);
  for (int n = 0; n < 20; n++) {
    uint8_t room[MAX_KEY];
    skv_slice key = random_key(prng, shape, room);
    check_get(log, mem, key, records);
    check_get(log, mem, key, decided(log, skv_prng_below(prng, records + 1)));
  }
}

typedef struct open_iter {
  skv_iter *it;
  size_t records;
} open_iter;

static void test_growing(int shape, uint64_t seed, size_t rounds,
                         size_t max_ops) {
  test_log log;
  skv_prng prng = {seed};
  open_iter open[8] = {{0}};
  log_init(&log, rounds * 2);
  skv_mem *mem = new_mem(&log);
  for (size_t round = 0; round < rounds; round++) {
    log_random(&log, &prng, shape, max_ops);
    if (skv_prng_below(&prng, 4) == 0) check_point(&log, mem, shape, &prng);
    if (skv_prng_below(&prng, 4) == 0) {
      open_iter *slot = &open[skv_prng_below(&prng, 8)];
      if (slot->it != NULL) { /* INV-4: opened in an earlier round */
        check_iter(&log, slot->it, slot->records, shape, &prng);
        skv_iter_close(slot->it);
      }
      slot->records = random_limit(&log, &prng);
      CHECK(skv_mem_iter_new(mem, log.boundary[slot->records], NULL,
                             &slot->it) == STRATAKV_OK);
      check_iter(&log, slot->it, slot->records, shape, &prng);
    }
  }
  CHECK(skv_mem_memory(mem) > 0);
  skv_mem_unref(mem); /* the iterators hold it */
  for (size_t i = 0; i < 8; i++) {
    if (open[i].it == NULL) continue;
    check_iter(&log, open[i].it, open[i].records, shape, &prng);
    skv_iter_close(open[i].it);
  }
  log_clear(&log);
}

/* Everything at once: one array, large enough for the radix sort. */
static void test_whole(int shape, uint64_t seed, size_t records,
                       size_t max_ops) {
  test_log log;
  skv_prng prng = {seed};
  skv_iter *it;
  log_init(&log, records * 2);
  for (size_t i = 0; i < records; i++) {
    log_random(&log, &prng, shape, max_ops);
  }
  log_record(&log, SKV_RECORD_SEAL, skv_slice_of(NULL, 0));
  skv_mem *mem = new_mem(&log);
  for (int i = 0; i < 4; i++) {
    size_t limit = i == 0 ? log.records : random_limit(&log, &prng);
    CHECK(skv_mem_iter_new(mem, log.boundary[limit], NULL, &it) == STRATAKV_OK);
    check_iter(&log, it, limit, shape, &prng);
    skv_iter_close(it);
    check_point(&log, mem, shape, &prng);
  }
  skv_mem_unref(mem);
  log_clear(&log);
}

/* ---- PREPARE at the limit ------------------------------------------------ */

static int count_each(void *arg, const skv_entry *entry) {
  size_t *count = arg;
  ++*count;
  return skv_equal(entry->key, skv_slice_of("\0\1stop", 6)) ? STRATAKV_BUSY
                                                            : STRATAKV_OK;
}

static size_t count_walk(skv_mem *mem, uint64_t from, uint64_t limit) {
  size_t count = 0;
  CHECK(skv_mem_walk(mem, from, limit, count_each, &count, NULL) ==
        STRATAKV_OK);
  return count;
}

static void test_prepare(void) {
  test_log log;
  skv_buf batch = {0};
  uint8_t lsn[8];
  log_init(&log, 3);
  log_op(&log, &batch, skv_slice_of("\0\1abc", 5), SKV_KIND_PUT);
  log_record(&log, SKV_RECORD_PREPARE, skv_buf_bytes(&batch));
  skv_mem *mem = new_mem(&log);
  CHECK(count_walk(mem, 0, log.boundary[1]) == 1);
  skv_put64(lsn, LOG_START + 8); /* names another record */
  log_record(&log, SKV_RECORD_ABORT, skv_slice_of(lsn, 8));
  CHECK(count_walk(mem, 0, log.boundary[2]) == 1);
  log.records = 1;
  log.place.offset = log.boundary[1];
  log.place.prev = (uint32_t)skv_get64(log.bytes + log.boundary[0]);
  skv_put64(lsn, LOG_START);
  log_record(&log, SKV_RECORD_ABORT, skv_slice_of(lsn, 8));
  skv_mem_unref(mem);
  mem = new_mem(&log);
  CHECK(count_walk(mem, 0, log.boundary[2]) == 0);
  CHECK(count_walk(mem, log.boundary[1], log.boundary[2]) == 0);
  skv_mem_unref(mem);
  skv_buf_clear(&batch);
  log_clear(&log);
}

/* Walking from every boundary to every later one; an answer that stops it. */
static void test_walk(void) {
  test_log log;
  skv_prng prng = {5};
  log_init(&log, 60);
  for (int i = 0; i < 30; i++) log_random(&log, &prng, KEYS_NUMBERS, 4);
  skv_mem *mem = new_mem(&log);
  for (size_t to = 0; to <= log.records; to++) {
    for (size_t from = 0; from <= to; from++) {
      size_t expected = 0;
      for (size_t i = 0; i < log.op_count; i++) {
        expected +=
            log.ops[i].record >= from && op_counts(&log, &log.ops[i], to);
      }
      CHECK(count_walk(mem, log.boundary[from], log.boundary[to]) == expected);
    }
  }
  skv_buf batch = {0};
  size_t count = 0;
  log_op(&log, &batch, skv_slice_of("\0\1stop", 6), SKV_KIND_PUT);
  log_op(&log, &batch, skv_slice_of("\0\1x", 3), SKV_KIND_PUT);
  log_record(&log, SKV_RECORD_COMMIT, skv_buf_bytes(&batch));
  CHECK(skv_mem_walk(mem, log.boundary[log.records - 1],
                     log.boundary[log.records], count_each, &count,
                     NULL) == STRATAKV_BUSY);
  CHECK(count == 1);
  skv_mem_unref(mem);
  skv_buf_clear(&batch);
  log_clear(&log);
}

/* ---- Batches ------------------------------------------------------------- */

/* The model of a batch is a log whose records are its entries. */
static void test_batch(int shape) {
  test_log log;
  skv_buf batch = {0};
  skv_prng prng = {31};
  skv_mem *mem;
  skv_entry entry;
  bool found;
  log_init(&log, 600);
  CHECK(skv_mem_new_batch(NULL, &mem) == STRATAKV_OK);
  for (int n = 0; n < 600; n++) {
    uint8_t room[MAX_KEY];
    skv_slice key = random_key(&prng, shape, room);
    log_op(&log, &batch, key, SKV_KIND_PUT);
    log.boundary[++log.records] = batch.size + SKV_MEM_BATCH_BIAS;
    skv_mem_batch_bytes(mem, batch.data, batch.size);
    if (n % 10 != 0) continue;
    size_t records = skv_prng_below(&prng, log.records + 1);
    uint64_t limit = records ? log.boundary[records] : SKV_MEM_BATCH_BIAS;
    CHECK(skv_mem_catch_up(mem, limit, NULL) == STRATAKV_OK);
    const test_op *op = model_get(&log, key, records);
    CHECK(skv_mem_get(mem, key, skv_hash(key), limit, NULL, &found, &entry) ==
          STRATAKV_OK);
    CHECK(found == (op != NULL));
    if (found) CHECK(memcmp(entry.value.data, &op->number, 8) == 0);
    if (found) CHECK(entry.lsn == 0);
    size_t count, i = 0;
    const test_op **list = model_list(&log, records, &count);
    skv_iter *it;
    CHECK(skv_mem_iter_new(mem, limit, NULL, &it) == STRATAKV_OK);
    CHECK(skv_iter_first(it, NULL) == STRATAKV_OK);
    for (; it->valid && i < count; i++) {
      CHECK(memcmp(it->entry.value.data, &list[i]->number, 8) == 0);
      CHECK(skv_iter_next(it, NULL) == STRATAKV_OK);
    }
    CHECK(i == count && !it->valid);
    skv_iter_close(it);
    skv_free(list);
  }
  CHECK(count_walk(mem, 0, log.boundary[log.records]) == 600);
  skv_mem_unref(mem);
  skv_buf_clear(&batch);
  log_clear(&log);
}

/* ---- Hot keys ------------------------------------------------------------ */

/* Three keys, the middle one with 20,000 versions. */
static void test_hot_key(void) {
  test_log log;
  skv_prng prng = {8};
  skv_iter *it;
  log_init(&log, 203);
  for (int i = 0; i < 203; i++) {
    skv_buf batch = {0};
    if (i == 50) log_op(&log, &batch, skv_slice_of("\0\1a", 3), SKV_KIND_PUT);
    if (i == 150) log_op(&log, &batch, skv_slice_of("\0\1z", 3), SKV_KIND_PUT);
    for (int n = 0; n < 100; n++) {
      log_op(&log, &batch, skv_slice_of("\0\1hot key", 9), SKV_KIND_PUT);
    }
    log_record(&log, SKV_RECORD_COMMIT, skv_buf_bytes(&batch));
    skv_buf_clear(&batch);
  }
  skv_mem *mem = new_mem(&log);
  CHECK(skv_mem_catch_up(mem, log.boundary[203], NULL) == STRATAKV_OK);
  for (size_t records = 203;; records -= 29) {
    CHECK(skv_mem_iter_new(mem, log.boundary[records], NULL, &it) ==
          STRATAKV_OK);
    check_iter(&log, it, records, KEYS_FEW, &prng);
    skv_iter_close(it);
    check_get(&log, mem, skv_slice_of("\0\1hot key", 9), records);
    check_get(&log, mem, skv_slice_of("\0\1z", 3), records);
    if (records < 29) break;
  }
  skv_mem_unref(mem);
  log_clear(&log);
}

/* An iterator after each of many commits: their arrays are merged. */
static void test_many_iters(void) {
  test_log log;
  skv_prng prng = {9};
  skv_iter *it;
  log_init(&log, 600);
  skv_mem *mem = new_mem(&log);
  for (int i = 0; i < 300; i++) {
    log_random(&log, &prng, KEYS_NUMBERS, 2);
    CHECK(skv_mem_iter_new(mem, log.boundary[log.records], NULL, &it) ==
          STRATAKV_OK);
    if (i % 50 == 0) check_iter(&log, it, log.records, KEYS_NUMBERS, &prng);
    skv_iter_close(it);
  }
  CHECK(skv_mem_memory(mem) < 300 * 2 * 12 + 4096);
  skv_mem_unref(mem);
  log_clear(&log);
}

/* ---- Keys of one hash ---------------------------------------------------- */

#define TWIN_KEYS 300000

static skv_slice twin_key(uint32_t n, char out[16]) {
  int size = snprintf(out, 16, "%c%ctwin%u", 0, 1, n);
  return skv_slice_of(out, (size_t)size);
}

static int u64_order(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Two numbers whose keys agree in the 32 bits of the hash that are kept. */
static bool find_twins(uint32_t out[2]) {
  uint64_t *tags = skv_malloc(TWIN_KEYS * sizeof *tags);
  bool found = false;
  for (uint32_t n = 0; n < TWIN_KEYS; n++) {
    char room[16];
    tags[n] = (skv_hash(twin_key(n, room)) >> 32) << 32 | n;
  }
  qsort(tags, TWIN_KEYS, sizeof *tags, u64_order);
  for (uint32_t n = 1; n < TWIN_KEYS && !found; n++) {
    found = tags[n] >> 32 == tags[n - 1] >> 32;
    out[0] = (uint32_t)tags[n - 1];
    out[1] = (uint32_t)tags[n];
  }
  skv_free(tags);
  return found;
}

static void test_twins(void) {
  test_log log;
  skv_buf batch = {0};
  char room[2][16];
  uint32_t twins[2];
  if (!CHECK(find_twins(twins))) return;
  log_init(&log, 4);
  for (int i = 0; i < 4; i++) {
    skv_slice key = twin_key(twins[i % 2], room[i % 2]);
    batch.size = 0;
    log_op(&log, &batch, key, SKV_KIND_PUT);
    log_record(&log, SKV_RECORD_COMMIT, skv_buf_bytes(&batch));
  }
  skv_mem *mem = new_mem(&log);
  CHECK(skv_mem_catch_up(mem, log.boundary[4], NULL) == STRATAKV_OK);
  for (size_t records = 0; records <= 4; records++) {
    check_get(&log, mem, twin_key(twins[0], room[0]), records);
    check_get(&log, mem, twin_key(twins[1], room[1]), records);
  }
  skv_mem_unref(mem);
  skv_buf_clear(&batch);
  log_clear(&log);
}

/* ---- Damage -------------------------------------------------------------- */

/* INV-8: each bit of a small log flipped, under a MemTable that has not read
 * it: CORRUPT that names the file, whatever asks. */
static void test_damage(void) {
  test_log log;
  skv_prng prng = {3};
  skv_err err;
  skv_iter *it;
  log_init(&log, 12);
  for (int i = 0; i < 6; i++) log_random(&log, &prng, KEYS_NUMBERS, 2);
  uint64_t limit = log.boundary[log.records];
  for (uint64_t bit = SKV_WAL_HEADER * 8; bit < limit * 8; bit++) {
    skv_mem *mem = new_mem(&log);
    size_t count = 0;
    log.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    CHECK(skv_mem_catch_up(mem, limit, &err) == STRATAKV_CORRUPT);
    CHECK(strstr(err.message, "000003.wal at offset ") != NULL);
    CHECK(skv_mem_iter_new(mem, limit, &err, &it) == STRATAKV_CORRUPT);
    CHECK(skv_mem_walk(mem, 0, limit, count_each, &count, &err) ==
          STRATAKV_CORRUPT);
    log.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    CHECK(skv_mem_catch_up(mem, limit, &err) == STRATAKV_OK);
    skv_mem_unref(mem);
  }
  skv_mem *mem = new_mem(&log);
  CHECK(skv_mem_catch_up(mem, limit - 8, NULL) == STRATAKV_CORRUPT);
  CHECK(skv_mem_catch_up(mem, limit + 8, NULL) == STRATAKV_CORRUPT);
  CHECK(skv_mem_catch_up(mem, UINT64_MAX, NULL) == STRATAKV_TOOBIG);
  skv_mem_unref(mem);
  log_clear(&log);
}

/* P12: indexed and verified, then the kernel loses a page. */
static void test_doubt(void) {
  test_log log;
  skv_err err;
  skv_iter *it;
  skv_entry entry;
  skv_buf more = {0};
  bool found;
  log_init(&log, 3);
  for (int i = 0; i < 2; i++) {
    skv_buf batch = {0};
    log_op(&log, &batch, skv_slice_of(i ? "\0\1b" : "\0\1a", 3), SKV_KIND_PUT);
    log_op(&log, &batch, skv_slice_of("\0\1c", 3), SKV_KIND_PUT);
    log_record(&log, SKV_RECORD_COMMIT, skv_buf_bytes(&batch));
    skv_buf_clear(&batch);
  }
  log_op(&log, &more, skv_slice_of("\0\1d", 3), SKV_KIND_PUT);
  skv_mem *mem = new_mem(&log);
  uint64_t limit = log.boundary[2];
  skv_slice b = skv_slice_of("\0\1b", 3);
  CHECK(skv_mem_catch_up(mem, limit, NULL) == STRATAKV_OK);
  CHECK(skv_mem_iter_new(mem, limit, NULL, &it) == STRATAKV_OK);
  skv_mem_doubt(mem, log.boundary[1]);
  skv_mem_doubt(mem, UINT64_MAX);
  check_get(&log, mem, b, 2);
  check_get(&log, mem, skv_slice_of("\0\1c", 3), 2);
  log.bytes[log.boundary[1] + 40] ^= 1; /* a value: only a checksum tells */
  size_t count = 0;
  CHECK(skv_mem_get(mem, b, skv_hash(b), limit, &err, &found, &entry) ==
        STRATAKV_CORRUPT);
  CHECK(skv_mem_walk(mem, log.boundary[1], limit, count_each, &count, &err) ==
        STRATAKV_CORRUPT);
  memset(log.bytes + log.boundary[1], 0, limit - log.boundary[1]);
  CHECK(skv_mem_get(mem, b, skv_hash(b), limit, &err, &found, &entry) ==
        STRATAKV_CORRUPT);
  check_get(&log, mem, skv_slice_of("\0\1a", 3), 2);
  check_get(&log, mem, skv_slice_of("\0\1c", 3), 1);
  CHECK(skv_iter_first(it, &err) == STRATAKV_OK && it->valid);
  CHECK(skv_iter_next(it, &err) == STRATAKV_CORRUPT && !it->valid);
  CHECK(skv_iter_seek(it, b, &err) == STRATAKV_CORRUPT && !it->valid);
  CHECK(skv_mem_walk(mem, log.boundary[1], limit, count_each, &count, &err) ==
        STRATAKV_CORRUPT);
  CHECK(count_walk(mem, 0, log.boundary[1]) == 2 && count == 0);
  skv_iter_close(it);
  log_record(&log, SKV_RECORD_COMMIT, skv_buf_bytes(&more));
  CHECK(skv_mem_iter_new(mem, log.boundary[3], &err, &it) == STRATAKV_CORRUPT);
  skv_buf_clear(&more);
  skv_mem_unref(mem);
  log_clear(&log);
}

static int get_code(skv_mem *mem, const char *key, uint64_t limit) {
  skv_slice k = skv_slice_of(key, 3);
  skv_entry entry;
  bool found;
  int rc = skv_mem_get(mem, k, skv_hash(k), limit, NULL, &found, &entry);
  return rc == STRATAKV_OK && !found ? STRATAKV_NOTFOUND : rc;
}

/* Indexed, then an entry says of its record what cannot be: that it begins in
 * the file's header, before the file, or is another one. */
static void test_back(void) {
  test_log log;
  log_init(&log, 2);
  for (int i = 0; i < 2; i++) {
    skv_buf batch = {0};
    log_op(&log, &batch, skv_slice_of(i ? "\0\1b" : "\0\1a", 3), SKV_KIND_PUT);
    log_record(&log, SKV_RECORD_COMMIT, skv_buf_bytes(&batch));
    skv_buf_clear(&batch);
  }
  skv_mem *mem = new_mem(&log);
  uint64_t limit = log.boundary[2];
  CHECK(skv_mem_catch_up(mem, limit, NULL) == STRATAKV_OK);
  CHECK(get_code(mem, "\0\1a", limit) == STRATAKV_OK);
  const struct {
    int record;
    uint8_t back;
  } cases[] = {{0, 1}, {0, 127}, {1, (uint8_t)(log.boundary[1] - 64)}};
  for (size_t i = 0; i < 3; i++) {
    int r = cases[i].record;
    uint8_t *back = log.bytes + log.boundary[r] + SKV_RECORD_HEADER + 3;
    if (r == 1) skv_mem_doubt(mem, log.boundary[1]);
    CHECK(*back == 0);
    *back = cases[i].back;
    CHECK(get_code(mem, r ? "\0\1b" : "\0\1a", limit) == STRATAKV_CORRUPT);
    *back = 0;
    CHECK(get_code(mem, r ? "\0\1b" : "\0\1a", limit) == STRATAKV_OK);
  }
  skv_mem_unref(mem);
  log_clear(&log);
}

/* Longer than positions reach, or than what is there. */
static void test_sizes(void) {
  test_log log;
  skv_mem *mem = NULL;
  skv_buf batch = {0};
  log_init(&log, 1);
  CHECK(skv_mem_new_log(log.bytes, UINT64_C(1) << 32, &log.header, "x", NULL,
                        &mem) == STRATAKV_CORRUPT);
  CHECK(mem == NULL && skv_mem_new_batch(NULL, &mem) == STRATAKV_OK);
  log_op(&log, &batch, skv_slice_of("\0\1a", 3), SKV_KIND_PUT);
  uint8_t *exact = malloc(batch.size);
  if (exact == NULL) abort();
  memcpy(exact, batch.data, batch.size);
  skv_mem_batch_bytes(mem, exact, batch.size);
  uint64_t limit = SKV_MEM_BATCH_BIAS + batch.size;
  CHECK(skv_mem_catch_up(mem, limit + 1, NULL) == STRATAKV_CORRUPT);
  CHECK(skv_mem_catch_up(mem, limit, NULL) == STRATAKV_OK);
  CHECK(get_code(mem, "\0\1a", limit) == STRATAKV_OK);
  skv_mem_unref(mem);
  free(exact);
  skv_buf_clear(&batch);
  log_clear(&log);
}

/* ---- Out of memory ------------------------------------------------------- */

static int fail_one(void *arg, size_t size) {
  long *left = arg;
  (void)size;
  return --*left == 0;
}

/* INV-10: the n-th allocation fails, for each n; then the same calls work. */
static void test_nomem(void) {
  test_log log;
  skv_prng prng = {12};
  long left = 1;
  int failures = 0;
  log_init(&log, 400);
  for (int i = 0; i < 200; i++) log_random(&log, &prng, KEYS_NUMBERS, 40);
  for (long n = 1; left <= 0 || n == 1; n++) {
    skv_mem *mem = NULL;
    skv_iter *it = NULL;
    left = n;
    skv_alloc_set_hook(fail_one, &left);
    int rc = skv_mem_new_log(log.bytes, LOG_SIZE, &log.header, "x", NULL, &mem);
    size_t step = 1;
    for (size_t r = 1; r <= log.records && rc == STRATAKV_OK; r += step++) {
      if (log.is_aborted[r - 1]) r++;
      rc = skv_mem_catch_up(mem, log.boundary[r], NULL);
      if (rc == STRATAKV_OK) {
        rc = skv_mem_iter_new(mem, log.boundary[r], NULL, &it);
      }
      skv_iter_close(it);
      it = NULL;
    }
    skv_alloc_set_hook(NULL, NULL);
    CHECK(rc == (left <= 0 ? STRATAKV_NOMEM : STRATAKV_OK));
    failures += rc == STRATAKV_NOMEM;
    if (mem == NULL) continue;
    CHECK(skv_mem_catch_up(mem, log.boundary[log.records], NULL) ==
          STRATAKV_OK);
    for (int i = 0; i < 5; i++) {
      uint8_t room[MAX_KEY];
      skv_slice key = random_key(&prng, KEYS_NUMBERS, room);
      check_get(&log, mem, key, log.records);
      check_get(&log, mem, key, random_limit(&log, &prng));
    }
    CHECK(skv_mem_iter_new(mem, log.boundary[log.records], NULL, &it) ==
          STRATAKV_OK);
    check_iter(&log, it, log.records, KEYS_NUMBERS, &prng);
    skv_iter_close(it);
    skv_mem_unref(mem);
  }
  CHECK(failures > 20);
  log_clear(&log);
}

/* ---- Readers beside a writer --------------------------------------------- */

#define RACE_KEYS 700
#define RACE_RECORDS 6000
#define RACE_READERS 4

/* Record r puts key r % RACE_KEYS, with r as value. */
typedef struct race {
  test_log log;
  skv_mem *mem;
  atomic_size_t visible; /* records that may be read */
  atomic_uint wrong;
  atomic_uint seen;
} race;

static skv_slice race_key(size_t k, char out[16]) {
  int n = snprintf(out, 16, "%c%ckey%05zu", 0, 1, k);
  return skv_slice_of(out, (size_t)n);
}

/* The newest record below `records` that puts that key. */
static uint64_t race_newest(size_t k, size_t records) {
  return (records - 1 - k) / RACE_KEYS * RACE_KEYS + k;
}

static bool race_entry_ok(const skv_entry *entry, size_t k, size_t records) {
  uint64_t value = race_newest(k, records);
  return entry->value.size == 8 && memcmp(entry->value.data, &value, 8) == 0;
}

static bool race_get_ok(race *r, size_t k, size_t records) {
  char room[16];
  skv_slice key = race_key(k, room);
  skv_entry entry;
  bool found;
  int rc = skv_mem_get(r->mem, key, skv_hash(key), r->log.boundary[records],
                       NULL, &found, &entry);
  if (rc != STRATAKV_OK || found != (k < records)) return false;
  return !found || race_entry_ok(&entry, k, records);
}

static bool race_scan_ok(race *r, size_t records) {
  skv_iter *it;
  size_t k = 0;
  bool ok = true;
  if (skv_mem_iter_new(r->mem, r->log.boundary[records], NULL, &it) !=
      STRATAKV_OK) {
    return false;
  }
  skv_iter_first(it, NULL);
  for (; it->valid && ok; k++) {
    ok = race_entry_ok(&it->entry, k, records);
    skv_iter_next(it, NULL);
  }
  skv_iter_close(it);
  return ok && k == (records < RACE_KEYS ? records : RACE_KEYS);
}

static void *race_read(void *arg) {
  race *r = arg;
  skv_prng prng = {(uintptr_t)&prng};
  for (size_t records = 0, round = 0; records < RACE_RECORDS; round++) {
    records = atomic_load_explicit(&r->visible, memory_order_acquire);
    size_t older = records - skv_prng_below(&prng, records + 1) / 4;
    if (skv_mem_catch_up(r->mem, r->log.boundary[records], NULL) !=
        STRATAKV_OK) {
      atomic_fetch_add(&r->wrong, 1);
    }
    for (int i = 0; i < 20; i++) {
      size_t k = skv_prng_below(&prng, RACE_KEYS);
      if (!race_get_ok(r, k, records)) atomic_fetch_add(&r->wrong, 1);
      if (!race_get_ok(r, k, older)) atomic_fetch_add(&r->wrong, 1);
    }
    if (round % 8 == 0 && !race_scan_ok(r, older)) {
      atomic_fetch_add(&r->wrong, 1);
    }
    atomic_fetch_add(&r->seen, 1);
  }
  return NULL;
}

static void test_race(void) {
  race r = {0};
  skv_thread threads[RACE_READERS];
  log_init(&r.log, RACE_RECORDS);
  r.mem = new_mem(&r.log);
  for (int i = 0; i < RACE_READERS; i++) {
    CHECK(skv_thread_start(&threads[i], "reader", race_read, &r, NULL) ==
          STRATAKV_OK);
  }
  for (uint64_t n = 0; n < RACE_RECORDS; n++) {
    char room[16];
    skv_buf batch = {0};
    skv_slice key = race_key(n % RACE_KEYS, room);
    key = skv_slice_of(key.data + 2, key.size - 2);
    skv_batch_append(&batch, SKV_KIND_PUT, 1, key, skv_slice_of(&n, 8));
    log_record(&r.log, SKV_RECORD_COMMIT, skv_buf_bytes(&batch));
    skv_buf_clear(&batch);
    atomic_store_explicit(&r.visible, n + 1, memory_order_release);
  }
  for (int i = 0; i < RACE_READERS; i++) skv_thread_join(&threads[i]);
  CHECK(atomic_load(&r.wrong) == 0);
  CHECK(atomic_load(&r.seen) >= RACE_READERS);
  skv_mem_unref(r.mem);
  log_clear(&r.log);
}

/* Of a planted bug the race detector is asked for races only. */
static bool only_races(void) {
#if defined(__SANITIZE_THREAD__)
  return getenv("SKV_MUTANT") != NULL;
#else
  return false;
#endif
}

int main(void) {
  if (only_races()) {
    test_race();
    return check_end();
  }
  for (int shape = 0; shape < KEYS_SHAPES; shape++) {
    test_growing(shape, 100 + (uint64_t)shape, 150, 6);
    test_growing(shape, 200 + (uint64_t)shape, 60, 60);
    test_whole(shape, 300 + (uint64_t)shape, 60, 80);
    test_batch(shape);
  }
  test_prepare();
  test_walk();
  test_hot_key();
  test_many_iters();
  test_twins();
  test_damage();
  test_back();
  test_sizes();
  test_doubt();
  test_nomem();
  test_race();
  CHECK(skv_alloc_count() == 0);
  return check_end();
}
