/*
 * The block cache.
 *
 *   basic    miss, publish, hit, drop; what a block looks like
 *   race     the second to publish gets the first one's block
 *   budget   kept by eviction; what is referenced stays, what is read often
 *            stays longer; large blocks are not kept
 *   memory   every allocation failing
 *   threads  many at once, and every block has its own bytes
 *
 * Usage: cache_test
 */
#include <stdatomic.h>
#include <string.h>

#include "engine/os/thread.h"
#include "engine/seg/cache.h"
#include "engine/util/alloc.h"
#include "test/c/check.h"

#define THREADS 4

/* A block whose bytes say which one it is. */
static skv_cache_block *make(skv_cache *cache, uint64_t id, uint64_t offset,
                             size_t size) {
  skv_cache_block *block = skv_cache_alloc(cache, size);
  if (!block) return NULL;
  memset((uint8_t *)(uintptr_t)block->data, (int)(id * 31 + offset / 8), size);
  return block;
}

static bool is_right(const skv_cache_block *block, uint64_t id, uint64_t offset,
                     size_t size) {
  uint8_t want = (uint8_t)(id * 31 + offset / 8);
  if (block->size != size) return false;
  for (size_t i = 0; i < size; i++)
    if (block->data[i] != want) return false;
  for (size_t i = size; i < size + 16; i++)
    if (block->data[i] != 0) return false;
  return true;
}

/* Make, publish and let go. */
static void put(skv_cache *cache, uint64_t id, uint64_t offset, size_t size) {
  skv_cache_block *block = make(cache, id, offset, size);
  if (!CHECK(block != NULL)) return;
  skv_cache_unref(cache, skv_cache_publish(cache, id, offset, block));
}

static bool has(skv_cache *cache, uint64_t id, uint64_t offset) {
  skv_cache_block *block = skv_cache_get(cache, id, offset);
  if (block) skv_cache_unref(cache, block);
  return block != NULL;
}

static uint64_t bytes_of(skv_cache *cache) {
  uint64_t bytes, hits, misses;
  skv_cache_stats(cache, &bytes, &hits, &misses);
  return bytes;
}

static void test_basic(void) {
  uint64_t bytes, hits, misses;
  skv_cache *cache = skv_cache_new(1 << 20);
  CHECK(skv_cache_get(cache, 1, 64) == NULL);
  skv_cache_block *block = make(cache, 1, 64, 100);
  skv_cache_unref(cache, block); /* never published */
  CHECK(!has(cache, 1, 64) && bytes_of(cache) == 0);
  put(cache, 1, 64, 100);
  put(cache, 2, 64, 0);
  put(cache, 1, 72, 1000);
  block = skv_cache_get(cache, 1, 64);
  CHECK(block && is_right(block, 1, 64, 100));
  skv_cache_drop(cache, 1);
  CHECK(!has(cache, 1, 64) && !has(cache, 1, 72) && has(cache, 2, 64));
  CHECK(is_right(block, 1, 64, 100)); /* ours still */
  skv_cache_unref(cache, block);
  skv_cache_stats(cache, &bytes, &hits, &misses);
  CHECK(hits == 2 && misses == 4 && bytes > 0 && bytes < 200);
  skv_cache_drop(cache, 2);
  CHECK(bytes_of(cache) == 0);
  skv_cache_free(cache);
}

static void test_race(void) {
  skv_cache *cache = skv_cache_new(1 << 20);
  skv_cache_block *a = make(cache, 1, 8, 50), *b = make(cache, 1, 8, 50);
  CHECK(skv_cache_publish(cache, 1, 8, a) == a);
  uint64_t bytes = bytes_of(cache);
  CHECK(skv_cache_publish(cache, 1, 8, b) == a);
  CHECK(bytes_of(cache) == bytes);
  skv_cache_unref(cache, a);
  skv_cache_unref(cache, a);
  CHECK(has(cache, 1, 8));
  skv_cache_free(cache);
}

static void test_budget(void) {
  uint64_t budget = 200000;
  skv_cache *cache = skv_cache_new(budget);
  skv_cache_block *held[100];
  for (uint64_t i = 0; i < 1000; i++) {
    put(cache, 3, i * 8, 1000);
    if (bytes_of(cache) > budget) check_failed("the budget holds");
    has(cache, 3, 0); /* read all the time */
  }
  CHECK(bytes_of(cache) > budget * 3 / 4);
  CHECK(has(cache, 3, 0));
  CHECK(has(cache, 3, 999 * 8));
  put(cache, 4, 0, budget / 8);
  CHECK(!has(cache, 4, 0)); /* too large to keep */

  /* 300 KB in use: beyond the budget, and nothing else is kept. */
  for (uint64_t i = 0; i < 100; i++)
    held[i] = skv_cache_publish(cache, 5, i * 8, make(cache, 5, i * 8, 3000));
  CHECK(bytes_of(cache) > budget);
  CHECK(!has(cache, 3, 0));
  for (uint64_t i = 0; i < 100; i++) {
    CHECK(has(cache, 5, i * 8) && is_right(held[i], 5, i * 8, 3000));
  }
  for (uint64_t i = 0; i < 100; i++) skv_cache_unref(cache, held[i]);
  CHECK(bytes_of(cache) <= budget);
  skv_cache_free(cache);

  cache = skv_cache_new(0); /* keeps nothing, works */
  put(cache, 1, 0, 10);
  CHECK(!has(cache, 1, 0));
  skv_cache_free(cache);
}

static long allocations_left;
static int fail_later(void *arg, size_t size) {
  SKV_UNUSED(arg);
  SKV_UNUSED(size);
  return allocations_left-- <= 0;
}

static void test_memory(void) {
  size_t before = skv_alloc_count();
  skv_cache *cache = NULL;
  long n = 0;
  for (; !cache && n < 100; n++) {
    allocations_left = n;
    skv_alloc_set_hook(fail_later, NULL);
    cache = skv_cache_new(1 << 20);
    if (!cache && skv_alloc_count() != before) check_failed("nothing is lost");
  }
  CHECK(cache && n > 1);
  CHECK(skv_cache_alloc(cache, 10) == NULL);
  skv_alloc_set_hook(NULL, NULL);
  skv_cache_free(cache);
  CHECK(skv_alloc_count() == before);
}

typedef struct worker {
  skv_cache *cache;
  uint64_t seed;
  unsigned wrong;
  skv_thread thread;
} worker;

static void *work(void *arg) {
  worker *w = arg;
  for (int i = 0; i < 20000; i++) {
    w->seed = w->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    uint64_t id = w->seed >> 33 & 3, offset = (w->seed >> 40 & 255) * 8;
    size_t size = 50 + (size_t)offset;
    skv_cache_block *block = skv_cache_get(w->cache, id, offset);
    if (!block)
      block = skv_cache_publish(w->cache, id, offset,
                                make(w->cache, id, offset, size));
    w->wrong += !is_right(block, id, offset, size);
    skv_cache_unref(w->cache, block);
    if (i % 1000 == 999) skv_cache_drop(w->cache, id);
  }
  return NULL;
}

static void test_threads(void) {
  skv_cache *cache = skv_cache_new(200000);
  worker workers[THREADS] = {0};
  for (unsigned i = 0; i < THREADS; i++) {
    workers[i].cache = cache;
    workers[i].seed = i + 1;
    CHECK(skv_thread_start(&workers[i].thread, "cache", work, &workers[i],
                           NULL) == STRATAKV_OK);
  }
  for (unsigned i = 0; i < THREADS; i++) {
    skv_thread_join(&workers[i].thread);
    CHECK(workers[i].wrong == 0);
  }
  CHECK(bytes_of(cache) <= 200000);
  skv_cache_free(cache);
}

int main(void) {
  size_t before = skv_alloc_count();
  test_basic();
  test_race();
  test_budget();
  test_memory();
  test_threads();
  CHECK(skv_alloc_count() == before);
  return check_end();
}
