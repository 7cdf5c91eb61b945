/*
 * The point index: from a key's hash to its newest position, and from a
 * position to the same key's one before.
 *
 * A get pays one miss for the slot and one for the entry. The writer puts the
 * older position into the history before it stores the newer one in the slot
 * (release), so a reader that sees the newer one (acquire) finds the older.
 *
 * Indexing an entry twice changes nothing, so catching up that failed halfway
 * simply starts again where it began.
 */
#include "engine/mem/mem_internal.h"
#include "engine/util/alloc.h"
#include "engine/util/hash.h"

#define TABLE_FIRST_BITS 10             /* slots of the first table */
#define TABLE_MAX_BITS 31               /* shift stays above 0 */
#define TABLE_MAX_STEP 6                /* doublings at once, beside the one */
#define TABLE_PAGES ((size_t)64 * 1024) /* from here on pages, not malloc */
#define POINT_AHEAD 16 /* entries between a slot's prefetch and its use */

/* ---- Tables -------------------------------------------------------------- */

static size_t slots_bytes(const skv_mem_table *table) {
  return ((size_t)table->mask + 1) * sizeof *table->slots;
}

static void slots_free(skv_mem_table *table) {
  size_t bytes = slots_bytes(table);
  void *slots = (void *)table->slots;
  if (bytes >= TABLE_PAGES) {
    skv_pages_free(slots, bytes);
  } else {
    skv_free(slots);
  }
  skv_free(table);
}

static void slots_free_all(skv_mem_table *table) {
  while (table != NULL) {
    skv_mem_table *older = table->older;
    slots_free(table);
    table = older;
  }
}

/* An empty table of 1 << bits slots, NULL if out of memory. */
static skv_mem_table *slots_new(unsigned bits) {
  int rc = bits <= TABLE_MAX_BITS ? STRATAKV_OK : STRATAKV_NOMEM;
  skv_mem_table *table = skv_new(sizeof *table, &rc);
  if (table == NULL) return NULL;
  table->mask = (uint32_t)((UINT64_C(1) << bits) - 1);
  table->shift = 32 - bits;
  size_t bytes = slots_bytes(table);
  void *slots =
      bytes >= TABLE_PAGES ? skv_pages_new(bytes) : skv_calloc(1, bytes);
  if (slots == NULL) {
    skv_free(table);
    return NULL;
  }
  table->slots = slots;
  return table;
}

static uint64_t slots_load(const skv_mem_table *table, uint32_t i) {
  return atomic_load_explicit(&table->slots[i], memory_order_acquire);
}

static void slots_store(skv_mem_table *table, uint32_t i, uint32_t key,
                        uint32_t value) {
  atomic_store_explicit(&table->slots[i], (uint64_t)key << 32 | value,
                        memory_order_release);
}

/* Into a table with room, as a slot of its own. */
static void slots_add(skv_mem_table *table, uint32_t key, uint32_t value) {
  uint32_t i = key >> table->shift;
  while (slots_load(table, i) != 0) i = (i + 1) & table->mask;
  slots_store(table, i, key, value);
  table->count++;
}

/* Slots that may be used: three quarters. */
static uint32_t slots_room(const skv_mem_table *table) {
  return table->mask - table->mask / 4;
}

/* At least twice as large, and large enough for what is expected. */
static unsigned slots_next_bits(const skv_mem_table *old, uint64_t expected) {
  unsigned bits = 33 - old->shift, last = bits + TABLE_MAX_STEP;
  while (bits < last && expected > (UINT64_C(3) << bits) / 4) bits++;
  return bits;
}

static skv_mem_table *slots_grown(const skv_mem_table *old, uint64_t expected) {
  skv_mem_table *table = slots_new(
      old == NULL ? TABLE_FIRST_BITS : slots_next_bits(old, expected));
  if (table == NULL || old == NULL) return table;
  for (uint64_t i = 0; i <= old->mask; i++) {
    uint64_t slot = slots_load(old, (uint32_t)i);
    if (slot != 0) slots_add(table, (uint32_t)(slot >> 32), (uint32_t)slot);
  }
  return table;
}

/* The newest table, which has room for one more slot; if it must grow, to hold
 * `expected` slots soon. NULL if out of memory. */
static skv_mem_table *
slots_for_add(skv_mem *mem, _Atomic(skv_mem_table *) *head, uint64_t expected) {
  skv_mem_table *old = atomic_load_explicit(head, memory_order_relaxed);
  if (old != NULL && old->count < slots_room(old)) return old;
  skv_mem_table *table = slots_grown(old, expected);
  if (table == NULL) return NULL;
  table->older = old;
  atomic_fetch_add_explicit(&mem->memory, slots_bytes(table),
                            memory_order_relaxed);
  atomic_store_explicit(head, table, memory_order_release);
  return table;
}

/* ---- History ------------------------------------------------------------- */

/* One to one, so that equal keys of the table are equal positions; spreads
 * positions, which share their top bits. */
static uint32_t history_key(uint32_t position) {
  return position * 0x9e3779b1u;
}

static bool history_put(skv_mem *mem, uint32_t position, uint32_t older) {
  skv_mem_table *table = slots_for_add(mem, &mem->history, 0);
  if (table == NULL) return false;
  slots_add(table, history_key(position), older);
  return true;
}

/* The position of the same key before this one, 0 if it is the first. */
static uint32_t history_get(const skv_mem *mem, uint32_t position) {
  const skv_mem_table *table =
      atomic_load_explicit(&mem->history, memory_order_acquire);
  if (table == NULL) return 0;
  uint32_t key = history_key(position);
  for (uint32_t i = key >> table->shift;; i = (i + 1) & table->mask) {
    uint64_t slot = slots_load(table, i);
    if (slot == 0) return 0;
    if ((uint32_t)(slot >> 32) == key) return (uint32_t)slot;
  }
}

/* ---- Catching up --------------------------------------------------------- */

/* An entry whose slot is on its way into the cache. */
typedef struct point_pending {
  skv_slice key;
  uint32_t tag;
  uint32_t position;
} point_pending;

static uint32_t point_tag(uint64_t hash) { return (uint32_t)(hash >> 32); }

/* A newer position for the key of a slot. */
static int point_supersede(skv_mem *mem, skv_mem_table *table, uint32_t i,
                           const point_pending *entry, uint32_t older,
                           skv_err *err) {
  if (older >= entry->position) return STRATAKV_OK; /* indexed before */
  if (!history_put(mem, entry->position, older)) return skv_error_nomem(err);
  slots_store(table, i, entry->tag, entry->position);
  return STRATAKV_OK;
}

/* How many keys there will be at the limit if it goes on like this: saves a
 * long log the tables in between. */
static uint64_t point_expected(const skv_mem *mem, uint64_t limit,
                               const point_pending *entry) {
  const skv_mem_table *table =
      atomic_load_explicit(&mem->newest, memory_order_relaxed);
  if (table == NULL || table->count < slots_room(table)) return 0;
  uint64_t first = mem->first.offset;
  return table->count * (limit - first) / (entry->position - first);
}

/* A key that has no slot yet. */
static int point_add(skv_mem *mem, const skv_mem_walker *walker,
                     const point_pending *entry, skv_err *err) {
  uint64_t expected = point_expected(mem, walker->limit, entry);
  skv_mem_table *table = slots_for_add(mem, &mem->newest, expected);
  if (table == NULL) return skv_error_nomem(err);
  slots_add(table, entry->tag, entry->position);
  return STRATAKV_OK;
}

static int point_insert(skv_mem *mem, const skv_mem_walker *walker,
                        const point_pending *entry, skv_err *err) {
  skv_mem_table *table =
      atomic_load_explicit(&mem->newest, memory_order_relaxed);
  if (table == NULL) return point_add(mem, walker, entry, err);
  for (uint32_t i = entry->tag >> table->shift;; i = (i + 1) & table->mask) {
    uint64_t slot = slots_load(table, i);
    if (slot == 0) return point_add(mem, walker, entry, err);
    if ((uint32_t)(slot >> 32) != entry->tag) continue;
    skv_entry older;
    int rc = skv_mem_read(&walker->view, (uint32_t)slot, err, &older);
    if (rc != STRATAKV_OK) return rc;
    if (!skv_equal(older.key, entry->key)) continue;
    return point_supersede(mem, table, i, entry, (uint32_t)slot, err);
  }
}

static void point_prefetch(const skv_mem *mem, uint32_t tag) {
  const skv_mem_table *table =
      atomic_load_explicit(&mem->newest, memory_order_relaxed);
  if (table == NULL) return;
  skv_mem_touch((const void *)&table->slots[tag >> table->shift]);
}

/* Index what the walker yields, each entry POINT_AHEAD entries later. */
static int point_fill(skv_mem *mem, skv_mem_walker *walker, skv_err *err) {
  point_pending ring[POINT_AHEAD];
  size_t taken = 0, done = 0;
  skv_entry entry;
  uint32_t position;
  int rc;
  while (skv_mem_walker_next(walker, mem, err, &rc, &entry, &position)) {
    if (taken - done == POINT_AHEAD) {
      rc = point_insert(mem, walker, &ring[done++ % POINT_AHEAD], err);
      if (rc != STRATAKV_OK) return rc;
    }
    point_pending *next = &ring[taken++ % POINT_AHEAD];
    next->key = entry.key;
    next->tag = point_tag(skv_hash(entry.key));
    next->position = position;
    point_prefetch(mem, next->tag);
  }
  while (rc == STRATAKV_OK && done < taken) {
    rc = point_insert(mem, walker, &ring[done++ % POINT_AHEAD], err);
  }
  return rc;
}

static int point_catch_up_locked(skv_mem *mem, uint64_t limit, skv_err *err) {
  if (mem->point_place.offset >= limit) return STRATAKV_OK;
  skv_mem_walker walker;
  skv_mem_walker_init(&walker, mem, &mem->point_place, limit);
  int rc = point_fill(mem, &walker, err);
  if (rc != STRATAKV_OK) return rc;
  mem->point_place = walker.place;
  atomic_store_explicit(&mem->caught_up, walker.place.offset,
                        memory_order_release);
  return STRATAKV_OK;
}

int skv_mem_catch_up(skv_mem *mem, uint64_t limit, skv_err *err) {
  if (atomic_load_explicit(&mem->caught_up, memory_order_acquire) >= limit) {
    return STRATAKV_OK;
  }
  int rc = skv_mem_check_limit(mem, limit, err);
  if (rc != STRATAKV_OK) return rc;
  skv_mutex_lock(&mem->point_mutex);
  rc = point_catch_up_locked(mem, limit, err);
  skv_mutex_unlock(&mem->point_mutex);
  return rc;
}

/* ---- Reading ------------------------------------------------------------- */

/* The key's newest position below limit, from its newest of all; 0: none. */
static uint32_t point_below(const skv_mem *mem, uint32_t position,
                            uint64_t limit) {
  while (position != 0 && position >= limit) {
    position = history_get(mem, position);
  }
  return position;
}

/* A chain is of one key, so the key is compared at the position that is asked
 * for: what lies above the limit is never read. */
int skv_mem_get(skv_mem *mem, skv_slice key, uint64_t hash, uint64_t limit,
                skv_err *err, bool *found, skv_entry *entry) {
  *found = false;
  const skv_mem_table *table =
      atomic_load_explicit(&mem->newest, memory_order_acquire);
  if (table == NULL) return STRATAKV_OK;
  skv_mem_view view = skv_mem_view_of(mem);
  uint32_t tag = point_tag(hash);
  for (uint32_t i = tag >> table->shift;; i = (i + 1) & table->mask) {
    uint64_t slot = slots_load(table, i);
    if (slot == 0) return STRATAKV_OK;
    if ((uint32_t)(slot >> 32) != tag) continue;
    uint32_t position = point_below(mem, (uint32_t)slot, limit);
    if (position == 0) continue;
    int rc = skv_mem_read(&view, position, err, entry);
    if (rc != STRATAKV_OK) return rc;
    if (!skv_equal(entry->key, key)) continue;
    *found = true;
    return STRATAKV_OK;
  }
}

void skv_mem_point_clear(skv_mem *mem) {
  slots_free_all(atomic_load(&mem->newest));
  slots_free_all(atomic_load(&mem->history));
}
