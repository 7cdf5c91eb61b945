/*
 * The merge iterator against a model: random inputs with keys in common, all
 * operations in both directions, and inputs that fail.
 *
 * Covers: INV-5
 */
#include "engine/tree/merge.h"
#include "engine/util/prng.h"
#include "test/c/tree_fixture.h"

#define KEYS 40
#define INPUTS 9

/* ---- An input: an array of entries, which counts its calls --------------- */

typedef struct array_iter {
  skv_iter base;
  size_t count;
  size_t at;
  skv_entry entries[KEYS];
  unsigned *fail_after; /* calls of all inputs until one fails; 0: never */
} array_iter;

/* A copy of the key that is overwritten when the iterator moves, so that
 * whoever keeps the old slice is found out. */
static int array_show(array_iter *it, size_t at, skv_err *err) {
  uint8_t *key = (uint8_t *)(uintptr_t)it->base.entry.key.data;
  it->base.valid = false;
  if (key != NULL) memset(key, 0xee, it->base.entry.key.size);
  skv_free(key);
  it->base.entry.key.data = NULL;
  if (*it->fail_after > 0 && --*it->fail_after == 0) {
    return SKV_ERROR(err, STRATAKV_IOERR, "as asked");
  }
  it->at = at;
  if (at >= it->count) return STRATAKV_OK;
  it->base.valid = true;
  it->base.entry = it->entries[at];
  key = skv_malloc(it->entries[at].key.size);
  memcpy(key, it->entries[at].key.data, it->entries[at].key.size);
  it->base.entry.key.data = key;
  return STRATAKV_OK;
}

static int array_first(skv_iter *base, skv_err *err) {
  return array_show((array_iter *)base, 0, err);
}
static int array_last(skv_iter *base, skv_err *err) {
  array_iter *it = (array_iter *)base;
  return array_show(it, it->count - 1, err);
}
static int array_seek(skv_iter *base, skv_slice key, skv_err *err) {
  array_iter *it = (array_iter *)base;
  size_t i = 0;
  while (i < it->count && skv_compare(it->entries[i].key, key) < 0) i++;
  return array_show(it, i, err);
}
static int array_seek_back(skv_iter *base, skv_slice key, skv_err *err) {
  array_iter *it = (array_iter *)base;
  size_t i = it->count;
  while (i > 0 && skv_compare(it->entries[i - 1].key, key) > 0) i--;
  return array_show(it, i - 1, err);
}
static int array_next(skv_iter *base, skv_err *err) {
  return array_show((array_iter *)base, ((array_iter *)base)->at + 1, err);
}
static int array_prev(skv_iter *base, skv_err *err) {
  return array_show((array_iter *)base, ((array_iter *)base)->at - 1, err);
}
static void array_close(skv_iter *base) {
  skv_free((uint8_t *)(uintptr_t)base->entry.key.data);
  skv_free(base);
}
static const skv_iter_ops array_ops = {
    array_first, array_last, array_seek,  array_seek_back,
    array_next,  array_prev, array_close,
};

/* ---- The model ----------------------------------------------------------- */

/* Keys that share 0, 6, 8 or more bytes, some prefixes of others. */
static uint8_t model_keys[KEYS][24];
static skv_slice model_key[KEYS]; /* ascending */
static size_t model_owner[KEYS];  /* newest input that has it; INPUTS: none */
static unsigned fail_after;

static int model_compare(const void *a, const void *b) {
  return skv_compare(*(const skv_slice *)a, *(const skv_slice *)b);
}

static void model_make_keys(skv_prng *prng) {
  for (size_t i = 0; i < KEYS; i++) {
    size_t size = 2 + skv_prng_below(prng, 3) * 4 + i / 10;
    memset(model_keys[i], 'k', sizeof model_keys[i]);
    model_keys[i][size - 1] = (uint8_t)(i + (i > 20 ? 0xc0 : 0));
    model_keys[i][size - 2] = (uint8_t)skv_prng_below(prng, 2);
    model_key[i] = skv_slice_of(model_keys[i], size);
  }
  qsort(model_key, KEYS, sizeof *model_key, model_compare);
  for (size_t i = 1; i < KEYS; i++) {
    CHECK(skv_compare(model_key[i - 1], model_key[i]) < 0);
  }
}

static skv_iter *model_input(skv_prng *prng, size_t rank) {
  array_iter *it = skv_calloc(1, sizeof *it);
  uint64_t density = skv_prng_below(prng, 5); /* 0: empty */
  it->base.ops = &array_ops;
  it->fail_after = &fail_after;
  for (size_t i = 0; i < KEYS; i++) {
    if (skv_prng_below(prng, 8) >= density) continue;
    skv_entry *entry = &it->entries[it->count++];
    entry->key = model_key[i];
    entry->lsn = rank;
    entry->kind = skv_prng_below(prng, 4) ? SKV_KIND_PUT : SKV_KIND_DELETE;
    if (rank < model_owner[i]) model_owner[i] = rank;
  }
  return &it->base;
}

static skv_iter *model_merge(skv_prng *prng, size_t count) {
  skv_iter *inputs[INPUTS];
  skv_iter *merged = NULL;
  model_make_keys(prng);
  for (size_t i = 0; i < KEYS; i++) model_owner[i] = INPUTS;
  for (size_t i = 0; i < count; i++) inputs[i] = model_input(prng, i);
  OK(skv_merge_new(inputs, count, &fixture_err, &merged));
  return merged;
}

/* The next key that is there from `at` on (or down), KEYS for none. */
static size_t model_up(size_t at) {
  while (at < KEYS && model_owner[at] == INPUTS) at++;
  return at;
}
static size_t model_down(size_t at) {
  while (at < KEYS && model_owner[at] == INPUTS) at--;
  return at < KEYS ? at : KEYS;
}

/* One random operation; the model's place moves along. */
static int model_step(skv_prng *prng, skv_iter *it, size_t *at) {
  uint64_t op = skv_prng_below(prng, it->valid ? 20 : 4);
  size_t k = skv_prng_below(prng, KEYS);
  switch (op) {
  case 0: *at = model_up(0); return skv_iter_first(it, &fixture_err);
  case 1: *at = model_down(KEYS - 1); return skv_iter_last(it, &fixture_err);
  case 2:
    *at = model_up(k);
    return skv_iter_seek(it, model_key[k], &fixture_err);
  case 3:
    *at = model_down(k);
    return skv_iter_seek_back(it, model_key[k], &fixture_err);
  default:
    if (op % 16 < 8) {
      *at = model_up(*at + 1);
      return skv_iter_next(it, &fixture_err);
    }
    *at = model_down(*at - 1);
    return skv_iter_prev(it, &fixture_err);
  }
}

static bool model_agrees(const skv_iter *it, size_t at) {
  if (!it->valid || at >= KEYS) return it->valid == (at < KEYS);
  return skv_equal(it->entry.key, model_key[at]) &&
         it->entry.lsn == model_owner[at];
}

static void test_random(uint64_t seed) {
  skv_prng prng = {seed};
  size_t at = KEYS;
  fail_after = 0;
  skv_iter *it = model_merge(&prng, skv_prng_below(&prng, INPUTS + 1));
  if (it == NULL) return;
  CHECK(!it->valid);
  for (int i = 0; i < 100; i++) {
    int rc = model_step(&prng, it, &at);
    if (!CHECK(rc == STRATAKV_OK) || !CHECK(model_agrees(it, at))) break;
  }
  skv_iter_close(it);
}

/* After a failure: not valid, and to be positioned again. */
static void test_failure(uint64_t seed) {
  skv_prng prng = {seed};
  size_t at = KEYS;
  unsigned failures = 0;
  fail_after = 0;
  skv_iter *it = model_merge(&prng, INPUTS);
  for (int i = 0; i < 300; i++) {
    if (fail_after == 0) fail_after = 1 + (unsigned)skv_prng_below(&prng, 30);
    int rc = model_step(&prng, it, &at);
    if (rc == STRATAKV_OK) {
      if (!CHECK(model_agrees(it, at))) break;
    } else {
      CHECK(rc == STRATAKV_IOERR && !it->valid);
      failures++;
    }
  }
  CHECK(failures > 10);
  skv_iter_close(it);
}

static int refuse(void *arg, size_t size) {
  (void)size;
  return --*(int *)arg == 0;
}

static void test_memory(void) {
  for (int n = 1; n <= 3; n++) {
    skv_prng prng = {5};
    skv_iter *inputs[2];
    skv_iter *merged = NULL;
    int left = n;
    for (size_t i = 0; i < 2; i++) inputs[i] = model_input(&prng, i);
    skv_alloc_set_hook(refuse, &left);
    int rc = skv_merge_new(inputs, 2, &fixture_err, &merged);
    skv_alloc_set_hook(NULL, NULL);
    CHECK(rc == STRATAKV_NOMEM && merged == NULL);
  }
}

static void test_one(void) {
  skv_prng prng = {6};
  skv_iter *input = model_input(&prng, 0);
  skv_iter *merged = NULL;
  OK(skv_merge_new(&input, 1, &fixture_err, &merged));
  CHECK(merged == input);
  skv_iter_close(merged);
}

int main(void) {
  size_t before = skv_alloc_count();
  for (uint64_t seed = 1; seed <= 2000; seed++) test_random(seed);
  for (uint64_t seed = 1; seed <= 50; seed++) test_failure(seed);
  test_memory();
  test_one();
  CHECK(skv_alloc_count() == before);
  return check_end();
}
