/*
 * Sequences of operations on a store in memory, against an array: puts,
 * deletes, batches, transactions with savepoints, snapshots, flush, compact,
 * reopening after a close and after a death. Every read is compared.
 *
 * INPUT  One operation a byte, followed by its operands.
 */
#include "test/c/db_fixture.h"
#include "test/fuzz/fuzz_clock.h"

#undef OK

#define KEYS 24
#define MARKS 4
#define OPERATIONS 200 /* of one input */
/* Deaths of one input: each leaves a log more, all of which are copied and
 * replayed at the next one. */
#define DEATHS 4

/* Number of the value of each key, 0: absent. */
typedef struct model {
  uint16_t at[KEYS];
} model;

static struct world {
  skv_env *env;
  stratakv_store *store;
  uint32_t table;
  int compression;
  model now;
  uint16_t last;
  unsigned deaths;

  stratakv_txn *txn;
  model seen;         /* the transaction's snapshot and changes */
  model conflict;     /* the state that it began with */
  bool changed[KEYS]; /* by the transaction, in any way */
  uint64_t marks[MARKS];
  model marked[MARKS];
  bool marked_changed[MARKS][KEYS];
  unsigned mark_count;

  stratakv_snapshot *snapshot;
  model shot;
} w;

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)data;
  (void)max;
  (void)rng;
  return size;
}

static skv_err err;

#define OK(call)                                                               \
  do {                                                                         \
    int ok_rc = (call);                                                        \
    if (ok_rc != STRATAKV_OK) fprintf(stderr, "%d %s\n", ok_rc, err.message);  \
    FUZZ_CHECK(ok_rc == STRATAKV_OK);                                          \
  } while (0)

/* ---- Keys and values --------------------------------------------------- */

/* Keys of different lengths, some of which are prefixes of others. */
static size_t key_of(unsigned i, uint8_t out[40]) {
  memset(out, 'k', 40);
  out[0] = (uint8_t)(i / 4);
  return 1 + i % 4 * 11;
}

static unsigned key_number(const uint8_t *key, size_t len) {
  FUZZ_CHECK(len > 0 && len % 11 == 1 && key[0] < KEYS / 4);
  return key[0] * 4u + (unsigned)(len / 11);
}

static size_t value_of(uint16_t number, uint8_t out[4000]) {
  size_t n = 2 + number * 37u % 90 + (number % 13 == 0 ? 3000 : 0);
  memset(out, number & 0xff, n);
  memcpy(out, &number, 2);
  return n;
}

static uint16_t number_of(const void *bytes, size_t size) {
  uint8_t want[4000];
  uint16_t number;
  FUZZ_CHECK(size >= 2);
  memcpy(&number, bytes, 2);
  FUZZ_CHECK(value_of(number, want) == size && memcmp(want, bytes, size) == 0);
  return number;
}

/* ---- The store --------------------------------------------------------- */

static void open_store(void) {
  stratakv_options o;
  stratakv_table_info table;
  stratakv_options_init(&o);
  o.create = 1;
  o.wal_size = 64u << 10;
  o.memory = 4u << 20;
  o.background = 0;
  o.compression = w.compression;
  o.filter_bits = w.last % 3 * 10;
  o.mmap = w.last % 2;
  o.busy_timeout_ms = 1000;
  OK(skv_open_in(w.env, FIXTURE_PATH, &o, &err, &w.store));
  w.store->db->block_size = 512;
  OK(stratakv_table(w.store, "kv", STRATAKV_KEY_BLOB, 1, &err, &table));
  w.table = table.id;
}

static void end_txn(bool commit) {
  if (w.txn == NULL) return;
  if (!commit) {
    stratakv_rollback(w.txn);
    w.txn = NULL;
    return;
  }
  bool conflicts = false; /* every change says what it saw */
  for (int i = 0; i < KEYS; i++)
    conflicts |= w.changed[i] && w.now.at[i] != w.conflict.at[i];
  int rc = stratakv_commit(w.txn, &err, NULL);
  if (rc == STRATAKV_BUSY_SNAPSHOT) {
    /* A key may have been changed and changed back. */
    stratakv_rollback(w.txn);
  } else {
    OK(rc);
    FUZZ_CHECK(!conflicts);
    for (int i = 0; i < KEYS; i++)
      if (w.changed[i]) w.now.at[i] = w.seen.at[i];
  }
  w.txn = NULL;
}

static void end_snapshot(void) {
  stratakv_snapshot_close(w.snapshot);
  w.snapshot = NULL;
}

static void reopen(bool dies) {
  end_txn(false);
  end_snapshot();
  if (!dies || w.deaths++ >= DEATHS) {
    OK(stratakv_close(w.store, &err));
    open_store();
    return;
  }
  fixture_image image = fixture_take(w.env);
  skv_env *dead = w.env;
  stratakv_store *store = w.store;
  w.env = fixture_world(&image);
  fuzz_env_clock(w.env);
  open_store();
  fixture_clear(&image);
  stratakv_close(store, NULL); /* in a world that nobody sees */
  skv_env_mem_free(dead);
}

/* ---- Reading ----------------------------------------------------------- */

static void read_point(const stratakv_snapshot *snapshot, const model *want,
                       unsigned i, bool in_txn) {
  uint8_t key[40];
  size_t n = key_of(i, key);
  stratakv_value value = {0};
  int rc = in_txn
               ? stratakv_txn_get(w.txn, w.table, key, n, &err, &value)
               : stratakv_get(w.store, snapshot, w.table, key, n, &err, &value);
  if (want->at[i] == 0) {
    FUZZ_CHECK(rc == STRATAKV_NOTFOUND);
  } else {
    OK(rc);
    FUZZ_CHECK(number_of(value.data, value.size) == want->at[i]);
  }
  stratakv_value_clear(&value);
}

static void read_scan(const stratakv_snapshot *snapshot, stratakv_txn *txn,
                      const model *want, bool back) {
  stratakv_cursor *c = NULL;
  uint16_t seen[KEYS] = {0};
  int last = back ? KEYS : -1;
  OK(stratakv_cursor_open(w.store, snapshot, txn, w.table, NULL, &err, &c));
  OK(back ? stratakv_cursor_last(c, &err) : stratakv_cursor_first(c, &err));
  while (stratakv_cursor_valid(c)) {
    size_t key_len, size;
    const uint8_t *key = stratakv_cursor_key(c, &key_len);
    int i = (int)key_number(key, key_len);
    FUZZ_CHECK(back ? i < last : i > last);
    last = i;
    const void *value = stratakv_cursor_value(c, &size);
    seen[i] = number_of(value, size);
    OK(back ? stratakv_cursor_prev(c, &err) : stratakv_cursor_next(c, &err));
  }
  FUZZ_CHECK(memcmp(seen, want->at, sizeof seen) == 0);
  stratakv_cursor_close(c);
}

/* ---- Operations -------------------------------------------------------- */

static void op_put(unsigned i, bool is_delete) {
  uint8_t key[40], value[4000];
  size_t n = key_of(i, key);
  uint16_t number = is_delete ? 0 : ++w.last;
  if (is_delete)
    OK(stratakv_delete(w.store, w.table, key, n, &err, NULL));
  else
    OK(stratakv_put(w.store, w.table, key, n, value, value_of(number, value),
                    &err, NULL));
  w.now.at[i] = number;
}

static void op_batch(fuzz_input *in) {
  stratakv_batch *batch = NULL;
  uint8_t key[40], value[4000];
  batch = stratakv_batch_new();
  FUZZ_CHECK(batch != NULL);
  for (unsigned count = fuzz_u8(in) % 8; count > 0; count--) {
    unsigned choice = fuzz_u8(in), i = choice % KEYS;
    size_t n = key_of(i, key);
    w.now.at[i] = choice >= 192 ? 0 : ++w.last;
    if (w.now.at[i] == 0)
      OK(stratakv_batch_delete(batch, w.table, key, n));
    else
      OK(stratakv_batch_put(batch, w.table, key, n, value,
                            value_of(w.now.at[i], value)));
  }
  OK(stratakv_write(w.store, &batch, 1, &err, NULL));
  stratakv_batch_free(batch);
}

static void op_begin(void) {
  end_txn(false);
  OK(stratakv_begin(w.store, &err, &w.txn));
  w.seen = w.conflict = w.now;
  memset(w.changed, 0, sizeof w.changed);
  w.mark_count = 0;
}

static void op_txn_put(unsigned i, bool is_delete) {
  uint8_t key[40], value[4000];
  size_t n = key_of(i, key);
  int saw = w.conflict.at[i] ? STRATAKV_SAW_PRESENT : STRATAKV_SAW_ABSENT;
  uint16_t number = is_delete ? 0 : ++w.last;
  if (is_delete)
    OK(stratakv_txn_delete(w.txn, w.table, key, n, saw, &err));
  else
    OK(stratakv_txn_put(w.txn, w.table, key, n, value, value_of(number, value),
                        saw, &err));
  w.seen.at[i] = number;
  w.changed[i] = true;
}

static void op_savepoint(unsigned choice) {
  if (choice % 2 == 0 && w.mark_count < MARKS) {
    OK(stratakv_savepoint(w.txn, &err, &w.marks[w.mark_count]));
    memcpy(w.marked_changed[w.mark_count], w.changed, sizeof w.changed);
    w.marked[w.mark_count++] = w.seen;
  } else if (w.mark_count > 0 && choice % 4 == 1) {
    unsigned i = choice / 4 % w.mark_count;
    OK(stratakv_rollback_to(w.txn, w.marks[i], &err));
    w.seen = w.marked[i];
    memcpy(w.changed, w.marked_changed[i], sizeof w.changed);
    w.mark_count = i + 1;
  } else if (w.mark_count > 0) {
    unsigned i = choice / 4 % w.mark_count;
    stratakv_release(w.txn, w.marks[i]);
    w.mark_count = i;
  }
}

static void op_txn(fuzz_input *in, unsigned way) {
  unsigned operand = fuzz_u8(in);
  if (w.txn == NULL) {
    op_begin();
    return;
  }
  switch (way) {
  case 0: op_txn_put(operand % KEYS, false); break;
  case 1: op_txn_put(operand % KEYS, true); break;
  case 2: read_point(NULL, &w.seen, operand % KEYS, true); break;
  case 3: read_scan(NULL, w.txn, &w.seen, operand & 1); break;
  case 4: op_savepoint(operand); break;
  case 5: end_txn(true); break;
  case 6: end_txn(false); break;
  default: op_txn_put((operand + 3) % KEYS, false); break;
  }
}

static void op_snapshot(void) {
  end_snapshot();
  OK(stratakv_snapshot_open(w.store, &err, &w.snapshot));
  w.shot = w.now;
}

static void op_rare(fuzz_input *in, unsigned way) {
  switch (way) {
  case 0: OK(stratakv_flush(w.store, &err)); break;
  case 1: OK(stratakv_compact(w.store, NULL, NULL, &err)); break;
  case 2: reopen(false); break;
  case 3: reopen(true); break;
  case 4: op_snapshot(); break;
  case 5: end_snapshot(); break;
  case 6: w.compression = fuzz_u8(in) % 3; break;
  default: OK(stratakv_flush(w.store, &err)); break;
  }
}

static void op(fuzz_input *in) {
  unsigned code = fuzz_u8(in), operand = code / 8;
  switch (code % 8) {
  case 0: op_put((operand + fuzz_u8(in)) % KEYS, false); break;
  case 1: op_put((operand + fuzz_u8(in)) % KEYS, operand % 2); break;
  case 2: op_batch(in); break;
  case 3:
  case 4: op_txn(in, operand % 8); break;
  case 5: read_point(NULL, &w.now, operand % KEYS, false); break;
  case 6:
    if (w.snapshot != NULL)
      read_scan(w.snapshot, NULL, &w.shot, operand & 1);
    else
      read_scan(NULL, NULL, &w.now, operand & 1);
    break;
  default: op_rare(in, operand % 8); break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_input in = {data, data + size};
  memset(&w, 0, sizeof w);
  w.compression = STRATAKV_COMPRESSION_LZ4;
  w.env = skv_env_mem_new();
  fuzz_env_clock(w.env);
  open_store();
  for (int i = 0; i < OPERATIONS && fuzz_more(&in); i++) op(&in);
  end_txn(false);
  end_snapshot();
  reopen(size % 2);
  for (unsigned i = 0; i < KEYS; i++) read_point(NULL, &w.now, i, false);
  read_scan(NULL, NULL, &w.now, false);
  read_scan(NULL, NULL, &w.now, true);
  OK(stratakv_close(w.store, &err));
  skv_env_mem_free(w.env);
  return 0;
}
