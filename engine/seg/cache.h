/*
 * Block cache: decoded blocks of segments, within a byte budget. Sharded;
 * each shard has a mutex, a hash table and CLOCK eviction. Blocks in use are
 * referenced and may exceed the budget only by what is referenced.
 */
#ifndef SKV_SEG_CACHE_H
#define SKV_SEG_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct skv_cache skv_cache;
typedef struct skv_cache_block {
  const uint8_t *data; /* what was filled in, followed by 16 zero bytes */
  size_t size;
} skv_cache_block;

skv_cache *skv_cache_new(uint64_t budget); /* NULL: no memory */
void skv_cache_free(skv_cache *cache);     /* all references given back */
/* A referenced block, or NULL. */
skv_cache_block *skv_cache_get(skv_cache *cache, uint64_t id, uint64_t offset);
/* Memory for a new block of `size` (not yet visible), NULL: no memory. Fill it
 * through the returned data pointer, then publish; or give it back with
 * skv_cache_unref. */
skv_cache_block *skv_cache_alloc(skv_cache *cache, size_t size);
/* Make it visible; if another thread was faster, theirs is returned (and ours
 * released). Never fails. A block over 1/8 of the budget is not kept. */
skv_cache_block *skv_cache_publish(skv_cache *cache, uint64_t id,
                                   uint64_t offset, skv_cache_block *block);
void skv_cache_unref(skv_cache *cache, skv_cache_block *block);
void skv_cache_drop(skv_cache *cache, uint64_t id); /* a segment was closed */
void skv_cache_stats(skv_cache *cache, uint64_t *bytes, uint64_t *hits,
                     uint64_t *misses);

#endif
