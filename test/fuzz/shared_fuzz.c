/*
 * The shared page, which any process that has the store open could fill with
 * anything: one process holds the store, words of the page change, and both it
 * and a newcomer go on. Every call ends within the busy timeout, with an error
 * or with rows that were written; the newcomer of after everybody's end finds
 * a store again.
 *
 * INPUT  patches: offset / 4 (2 bytes), how (1 byte: bytes to write, 1..8;
 *   with 16 added to what is there; with 32 a step is taken), the bytes.
 */
#include "engine/db/handle.h"
#include "engine/os/env_mem.h"
#include "test/fuzz/fuzz_clock.h"

#define KEYS 16
#define TIMEOUT_MS 100
/* Waiting for HEAD has a limit of its own; nobody holds it here. */
#define CALL_NS (4 * TIMEOUT_MS * UINT64_C(1000000))

size_t fuzz_repair(uint8_t *data, size_t size, size_t max, skv_prng *rng) {
  (void)max;
  for (size_t at = 0; at + 3 < size; at += 3 + data[at + 2] % 16) {
    if (fuzz_mostly(rng)) /* into the words, or a slot */
      skv_put16(data + at,
                (uint16_t)(skv_prng_below(rng, 4) == 0 ? 1024 + data[at] % 64
                                                       : data[at] % 102));
    data[at + 2] = (uint8_t)(data[at + 2] & 0x37);
  }
  return size;
}

static stratakv_options options(void) {
  stratakv_options o;
  stratakv_options_init(&o);
  o.create = 1;
  o.wal_size = 64u << 10;
  o.memory = 4u << 20;
  o.background = 0;
  o.busy_timeout_ms = TIMEOUT_MS;
  return o;
}

static uint64_t began;

static void begin(void) { began = fuzz_clock; }

/* The call that begin() preceded came to an end in time, with a code. */
static bool ended(int rc) {
  FUZZ_CHECK(fuzz_clock - began <= CALL_NS);
  FUZZ_CHECK(rc >= 0 && rc <= STRATAKV_IOERR_FSYNC);
  return rc == STRATAKV_OK;
}

static bool open_store(skv_env *env, stratakv_store **out) {
  stratakv_options o = options();
  skv_err err = {0};
  begin();
  int rc = skv_open_in(env, "/store", &o, &err, out);
  FUZZ_CHECK(rc == STRATAKV_OK || err.message[0] != 0);
  return ended(rc);
}

/* Values are the key and a number: nothing else may ever be read. */
static void check_row(const void *key, size_t key_len, const void *value,
                      size_t size) {
  FUZZ_CHECK(key_len == 1 && size == 40);
  const uint8_t *v = value;
  FUZZ_CHECK(v[0] == *(const uint8_t *)key);
  for (size_t i = 2; i < size; i++)
    FUZZ_CHECK(v[i] == (uint8_t)(v[0] + v[1] * i));
}

static void put(stratakv_store *store, uint8_t key, uint8_t number) {
  uint8_t v[40] = {key, number};
  for (size_t i = 2; i < sizeof v; i++) v[i] = (uint8_t)(key + number * i);
  begin();
  ended(stratakv_put(store, 1, &key, 1, v, sizeof v, NULL, NULL));
}

static void read_all(stratakv_store *store) {
  stratakv_value got = {0};
  stratakv_cursor *c = NULL;
  for (uint8_t i = 0; i < KEYS; i += 5) {
    begin();
    if (ended(stratakv_get(store, NULL, 1, &i, 1, NULL, &got)))
      check_row(&i, 1, got.data, got.size);
  }
  stratakv_value_clear(&got);
  begin();
  int rc = stratakv_cursor_open(store, NULL, NULL, 1, NULL, NULL, &c);
  if (rc == STRATAKV_OK) rc = stratakv_cursor_first(c, NULL);
  size_t rows = 0;
  for (; rc == STRATAKV_OK && stratakv_cursor_valid(c); rows++) {
    size_t key_len, size;
    const void *key = stratakv_cursor_key(c, &key_len);
    const void *value = stratakv_cursor_value(c, &size);
    check_row(key, key_len, value, size);
    rc = stratakv_cursor_next(c, NULL);
  }
  ended(rc);
  FUZZ_CHECK(rows <= KEYS);
  stratakv_cursor_close(c);
}

static void patch(uint8_t *page, fuzz_input *in) {
  size_t at = (size_t)(fuzz_u64(in, 2) * 4) % (SKV_SHARED_SIZE - 8);
  uint8_t how = fuzz_u8(in);
  size_t n = how % 16;
  uint64_t old = skv_get64(page + at), v = fuzz_u64(in, (unsigned)n % 9);
  if (how & 16) v += old;
  if (n > 8) n = 8;
  memcpy(page + at, &v, n);
}

static void patch_some(stratakv_store *store, fuzz_input *in) {
  bool goes_on = true;
  while (goes_on && fuzz_more(in)) {
    goes_on = in->end - in->p < 3 || !(in->p[2] & 32);
    patch((uint8_t *)store->db->shared, in);
  }
}

static void use(stratakv_store *store, uint8_t number) {
  stratakv_table_info table;
  begin();
  ended(stratakv_table(store, "kv", STRATAKV_KEY_BLOB, 1, NULL, &table));
  read_all(store);
  put(store, number % KEYS, number);
  read_all(store);
}

static void close_store(stratakv_store *store) {
  begin();
  ended(stratakv_close(store, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_input in = {data, data + size};
  stratakv_store *first = NULL, *second = NULL, *last = NULL;
  stratakv_table_info table;
  skv_env *env = skv_env_mem_new();
  fuzz_env_clock(env);
  FUZZ_CHECK(open_store(env, &first));
  FUZZ_CHECK(stratakv_table(first, "kv", STRATAKV_KEY_BLOB, 1, NULL, &table) ==
             STRATAKV_OK);
  for (uint8_t i = 0; i < KEYS; i++) put(first, i, 1);
  if (size % 2) FUZZ_CHECK(stratakv_flush(first, NULL) == STRATAKV_OK);
  put(first, 3, 2);

  skv_env *other = skv_env_mem_process(env);
  fuzz_env_clock(other);
  patch_some(first, &in);
  if (open_store(other, &second)) {
    use(second, 3);
    patch_some(first, &in);
    use(second, 4);
  }
  use(first, 5);
  patch_some(first, &in);
  if (second != NULL) use(second, 6);
  begin();
  if (size % 4 < 2) ended(stratakv_flush(first, NULL));
  patch_some(first, &in);
  use(first, 7);
  if (size % 3 == 0) close_store(first);
  if (second != NULL) close_store(second);
  if (size % 3 != 0) close_store(first);
  skv_env_mem_free(other);

  if (open_store(env, &last)) {
    read_all(last);
    close_store(last);
  }
  skv_env_mem_free(env);
  return 0;
}
