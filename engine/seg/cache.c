/*
 * Block cache. See cache.h.
 *
 * REFERENCES  Being in a shard counts as one, so a block whose count is 1 is
 *   used by nobody; a new reference to such a block is taken only under the
 *   shard's lock. Giving one back takes no lock. Whoever gives back the last
 *   one frees the block.
 *
 * BUDGET  One for all shards: who publishes or gives a block back while it is
 *   exceeded evicts, beginning with his own shard. CLOCK: the hand passes the
 *   blocks in a ring; one that was read since it last came by gets another
 *   round. A new block begins unread, behind the hand.
 */
#include "engine/seg/cache.h"

#include <stdatomic.h>
#include <string.h>

#include "engine/os/thread.h"
#include "engine/util/alloc.h"

#define CACHE_SHARDS 16u
#define CACHE_BUCKETS 64u /* of a shard, at first */
#define CACHE_TAIL 16u    /* zero bytes behind a block's data */

typedef struct cache_node cache_node;
struct cache_node {
  skv_cache_block block; /* first: what callers hold */
  atomic_uint refs;
  unsigned shard; /* index; set by publish */

  /* Under the shard's lock, while it is in there. */
  uint64_t id;
  uint64_t offset;
  bool is_used;               /* read since the hand came by */
  cache_node *chain;          /* next of its bucket */
  cache_node *before, *after; /* ring */
};

typedef struct cache_shard {
  skv_mutex lock;
  cache_node **buckets; /* owned; a power of two */
  size_t bucket_count;
  size_t count;
  cache_node *hand; /* in the ring; NULL: empty */
  uint64_t hits;
  uint64_t misses;
} cache_shard;

struct skv_cache {
  uint64_t budget;
  _Atomic uint64_t bytes; /* of blocks in shards */
  cache_shard shards[CACHE_SHARDS];
};

/* ---- A shard, under its lock -------------------------------------------- */

static uint64_t cache_hash(uint64_t id, uint64_t offset) {
  uint64_t h = (id * UINT64_C(0x9e3779b97f4a7c15)) ^ (offset >> 3);
  h *= UINT64_C(0xff51afd7ed558ccd);
  return h ^ h >> 32;
}

static uint64_t cache_cost(const cache_node *node) {
  return sizeof *node + node->block.size + CACHE_TAIL;
}

/* The place that points to the node, or to NULL at its chain's end. */
static cache_node **cache_find(cache_shard *shard, uint64_t id,
                               uint64_t offset) {
  size_t slot = (cache_hash(id, offset) >> 4) & (shard->bucket_count - 1);
  cache_node **p = &shard->buckets[slot];
  while (*p && ((*p)->id != id || (*p)->offset != offset)) p = &(*p)->chain;
  return p;
}

/* Twice the buckets; without memory chains just grow longer. */
static void cache_grow(cache_shard *shard) {
  size_t old_count = shard->bucket_count;
  cache_node **old = shard->buckets;
  cache_node **buckets = skv_calloc(old_count * 2, sizeof(cache_node *));
  if (!buckets) return;
  shard->buckets = buckets;
  shard->bucket_count = old_count * 2;
  for (size_t i = 0; i < old_count; i++) {
    for (cache_node *node = old[i], *next; node; node = next) {
      next = node->chain;
      node->chain = NULL;
      *cache_find(shard, node->id, node->offset) = node;
    }
  }
  skv_free(old);
}

static void cache_link(cache_shard *shard, cache_node *node) {
  if (shard->count >= shard->bucket_count) cache_grow(shard);
  node->chain = NULL;
  *cache_find(shard, node->id, node->offset) = node;
  if (!shard->hand) {
    shard->hand = node->before = node->after = node;
  } else {
    node->after = shard->hand;
    node->before = shard->hand->before;
    node->before->after = node->after->before = node;
  }
  shard->count++;
}

static void cache_unlink(skv_cache *cache, cache_shard *shard,
                         cache_node *node) {
  *cache_find(shard, node->id, node->offset) = node->chain;
  node->before->after = node->after;
  node->after->before = node->before;
  if (shard->hand == node)
    shard->hand = node->after == node ? NULL : node->after;
  shard->count--;
  atomic_fetch_sub(&cache->bytes, cache_cost(node));
}

/* Take out the first block that nobody uses and that had its round. */
static cache_node *cache_victim(skv_cache *cache, cache_shard *shard) {
  for (size_t i = 2 * shard->count; i > 0; i--) {
    cache_node *node = shard->hand;
    shard->hand = node->after;
    if (atomic_load(&node->refs) > 1) continue;
    if (!node->is_used) {
      cache_unlink(cache, shard, node);
      return node;
    }
    node->is_used = false;
  }
  return NULL;
}

/* ---- The cache ----------------------------------------------------------- */

static bool cache_is_full(skv_cache *cache) {
  return atomic_load_explicit(&cache->bytes, memory_order_relaxed) >
         cache->budget;
}

static void cache_release(cache_node *node) {
  if (atomic_fetch_sub(&node->refs, 1) == 1) skv_free(node);
}

/* Evict until the budget holds or all that is left is in use. */
static void cache_evict(skv_cache *cache, unsigned first) {
  for (unsigned i = 0; i < CACHE_SHARDS && cache_is_full(cache); i++) {
    cache_shard *shard = &cache->shards[(first + i) % CACHE_SHARDS];
    cache_node *node;
    do {
      skv_mutex_lock(&shard->lock);
      node = cache_is_full(cache) ? cache_victim(cache, shard) : NULL;
      skv_mutex_unlock(&shard->lock);
      if (node) cache_release(node);
    } while (node);
  }
}

skv_cache *skv_cache_new(uint64_t budget) {
  int rc = 0;
  skv_cache *cache = skv_new(sizeof *cache, &rc);
  if (!cache) return NULL;
  cache->budget = budget;
  bool is_whole = true;
  for (unsigned i = 0; i < CACHE_SHARDS; i++) {
    cache_shard *shard = &cache->shards[i];
    skv_mutex_init(&shard->lock);
    shard->bucket_count = CACHE_BUCKETS;
    shard->buckets = skv_calloc(CACHE_BUCKETS, sizeof(cache_node *));
    if (!shard->buckets) is_whole = false;
  }
  if (is_whole) return cache;
  skv_cache_free(cache);
  return NULL;
}

void skv_cache_free(skv_cache *cache) {
  if (!cache) return;
  for (unsigned i = 0; i < CACHE_SHARDS; i++) {
    cache_shard *shard = &cache->shards[i];
    while (shard->hand) {
      cache_node *node = shard->hand;
      cache_unlink(cache, shard, node);
      cache_release(node);
    }
    skv_free(shard->buckets);
    skv_mutex_clear(&shard->lock);
  }
  skv_free(cache);
}

skv_cache_block *skv_cache_get(skv_cache *cache, uint64_t id, uint64_t offset) {
  unsigned index = cache_hash(id, offset) % CACHE_SHARDS;
  cache_shard *shard = &cache->shards[index];
  skv_mutex_lock(&shard->lock);
  cache_node *node = *cache_find(shard, id, offset);
  if (node) {
    atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
    node->is_used = true;
    shard->hits++;
  } else {
    shard->misses++;
  }
  skv_mutex_unlock(&shard->lock);
  return node ? &node->block : NULL;
}

skv_cache_block *skv_cache_alloc(skv_cache *cache, size_t size) {
  SKV_UNUSED(cache);
  cache_node *node = skv_malloc(sizeof *node + size + CACHE_TAIL);
  if (!node) return NULL;
  memset(node, 0, sizeof *node);
  uint8_t *data = (uint8_t *)(node + 1);
  memset(data + size, 0, CACHE_TAIL);
  node->block.data = data;
  node->block.size = size;
  atomic_init(&node->refs, 1);
  return &node->block;
}

skv_cache_block *skv_cache_publish(skv_cache *cache, uint64_t id,
                                   uint64_t offset, skv_cache_block *block) {
  cache_node *node = (cache_node *)block;
  if (cache_cost(node) > cache->budget / 8) return block;
  node->id = id;
  node->offset = offset;
  node->shard = cache_hash(id, offset) % CACHE_SHARDS;
  cache_shard *shard = &cache->shards[node->shard];
  skv_mutex_lock(&shard->lock);
  cache_node *other = *cache_find(shard, id, offset);
  if (other) {
    atomic_fetch_add_explicit(&other->refs, 1, memory_order_relaxed);
  } else {
    atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
    atomic_fetch_add(&cache->bytes, cache_cost(node));
    cache_link(shard, node);
  }
  skv_mutex_unlock(&shard->lock);
  if (other) cache_release(node);
  if (cache_is_full(cache)) cache_evict(cache, (other ? other : node)->shard);
  return other ? &other->block : block;
}

void skv_cache_unref(skv_cache *cache, skv_cache_block *block) {
  cache_node *node = (cache_node *)block;
  unsigned shard = node->shard; /* the block may be gone in a moment */
  cache_release(node);
  if (cache_is_full(cache)) cache_evict(cache, shard);
}

void skv_cache_drop(skv_cache *cache, uint64_t id) {
  for (unsigned i = 0; i < CACHE_SHARDS; i++) {
    cache_shard *shard = &cache->shards[i];
    skv_mutex_lock(&shard->lock);
    cache_node *node = shard->hand;
    for (size_t left = shard->count; left > 0; left--) {
      cache_node *next = node->after;
      if (node->id == id) {
        cache_unlink(cache, shard, node);
        cache_release(node);
      }
      node = next;
    }
    skv_mutex_unlock(&shard->lock);
  }
}

void skv_cache_stats(skv_cache *cache, uint64_t *bytes, uint64_t *hits,
                     uint64_t *misses) {
  *bytes = atomic_load(&cache->bytes);
  *hits = *misses = 0;
  for (unsigned i = 0; i < CACHE_SHARDS; i++) {
    cache_shard *shard = &cache->shards[i];
    skv_mutex_lock(&shard->lock);
    *hits += shard->hits;
    *misses += shard->misses;
    skv_mutex_unlock(&shard->lock);
  }
}
