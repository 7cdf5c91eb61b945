/*
 * The ordered index: immutable sorted arrays, each over a part of the log.
 *
 * An array is made of what the log has got since the last one, and merged
 * with its predecessor while that is less than twice its size: sizes at least
 * double from newest to oldest, so there are few, and an entry is merged at
 * most once per doubling. Iterators keep the list that they found.
 *
 * Out of memory on the way leaves the list as it was.
 */
#include <assert.h>

#include "engine/mem/mem_internal.h"
#include "engine/util/alloc.h"

/* ---- Arrays and lists ---------------------------------------------------- */

/* Room for count entries; not counted in the MemTable's memory yet. */
static skv_mem_array *order_array_new(size_t count, size_t skip,
                                      uint32_t lowest, skv_err *err) {
  assert(count > 0);
  size_t size =
      sizeof(skv_mem_array) + count * (sizeof(uint64_t) + sizeof(uint32_t));
  skv_mem_array *array = skv_malloc(size);
  if (array == NULL) {
    skv_error_nomem(err);
    return NULL;
  }
  atomic_init(&array->refs, 1);
  array->count = (uint32_t)count;
  array->lowest = lowest;
  array->skip = (uint32_t)skip;
  array->size = size;
  array->prefixes = (uint64_t *)(void *)(array + 1);
  array->positions = (uint32_t *)(void *)(array->prefixes + count);
  return array;
}

static void order_array_unref(skv_mem *mem, skv_mem_array *array) {
  if (atomic_fetch_sub_explicit(&array->refs, 1, memory_order_acq_rel) != 1) {
    return;
  }
  atomic_fetch_sub_explicit(&mem->memory, array->size, memory_order_relaxed);
  skv_free(array);
}

void skv_mem_arrays_unref(skv_mem *mem, skv_mem_arrays *arrays) {
  if (arrays == NULL ||
      atomic_fetch_sub_explicit(&arrays->refs, 1, memory_order_acq_rel) != 1) {
    return;
  }
  for (unsigned i = 0; i < arrays->count; i++) {
    order_array_unref(mem, arrays->arrays[i]);
  }
  skv_free(arrays);
}

/* ---- Prefixes behind fewer common bytes ---------------------------------- */

/* How prefixes behind `from` common bytes become those behind fewer. Prefixes
 * are zero padded as keys are, so the log is not read for each. */
typedef struct order_lead {
  unsigned shift; /* bits by which they move right, 64: wholly */
  uint64_t bits;  /* what moves in from the left */
} order_lead;

/* key: any that has the `from` common bytes. */
static order_lead order_lead_of(skv_slice key, size_t from, size_t to) {
  order_lead lead = {0, 0};
  size_t more = from - to;
  if (more == 0) return lead;
  lead.shift = more < 8 ? (unsigned)more * 8 : 64;
  lead.bits = skv_mem_prefix(key, to);
  if (more < 8) lead.bits &= ~(~UINT64_C(0) >> lead.shift);
  return lead;
}

static uint64_t order_led(const order_lead *lead, uint64_t prefix) {
  return lead->shift == 64 ? lead->bits : lead->bits | prefix >> lead->shift;
}

/* ---- Building one -------------------------------------------------------- */

/* What one walk over new entries finds out. */
typedef struct order_found {
  uint32_t *positions; /* owned, ascending */
  uint64_t *prefixes;  /* owned; behind the common bytes of the moment */
  size_t count;
  size_t capacity;
  size_t common;     /* bytes that all keys have in common */
  bool is_ascending; /* strictly: the log is in order already */
  skv_slice first;
  skv_slice last;
} order_found;

static void order_found_clear(order_found *found) {
  skv_free(found->positions);
  skv_free(found->prefixes);
}

static bool order_found_grow(order_found *found) {
  size_t capacity = found->capacity ? found->capacity * 2 : 16;
  uint32_t *positions =
      skv_realloc(found->positions, capacity * sizeof *positions);
  if (positions == NULL) return false;
  found->positions = positions;
  uint64_t *prefixes =
      skv_realloc(found->prefixes, capacity * sizeof *prefixes);
  if (prefixes == NULL) return false;
  found->prefixes = prefixes;
  found->capacity = capacity;
  return true;
}

/* Fewer bytes are in common than was thought. This happens at most once per
 * byte of the first key. */
static void order_found_widen(order_found *found, size_t common) {
  order_lead lead = order_lead_of(found->first, found->common, common);
  for (size_t i = 0; i < found->count; i++) {
    found->prefixes[i] = order_led(&lead, found->prefixes[i]);
  }
  found->common = common;
}

static bool order_found_add(order_found *found, skv_slice key,
                            uint32_t position) {
  if (found->count == found->capacity && !order_found_grow(found)) {
    return false;
  }
  if (found->count == 0) {
    found->first = key;
    found->common = key.size;
    found->is_ascending = true;
  } else {
    if (key.size < found->common ||
        memcmp(key.data, found->first.data, found->common) != 0) {
      order_found_widen(found, skv_common_prefix(found->first, key));
    }
    if (found->is_ascending && skv_compare(found->last, key) >= 0) {
      found->is_ascending = false;
    }
  }
  found->last = key;
  found->positions[found->count] = position;
  found->prefixes[found->count++] = skv_mem_prefix(key, found->common);
  return true;
}

static int order_find(skv_mem *mem, skv_mem_walker *walker, skv_err *err,
                      order_found *found) {
  skv_entry entry;
  uint32_t position;
  int rc;
  while (skv_mem_walker_next(walker, mem, err, &rc, &entry, &position)) {
    if (!order_found_add(found, entry.key, position)) {
      return skv_error_nomem(err);
    }
  }
  return rc;
}

/* In the order that sorting wants: newest first, so that a stable sort leaves
 * the versions of a key that way. */
static void order_fill(const order_found *found, skv_mem_array *array) {
  size_t last = found->count - 1;
  for (size_t i = 0; i < found->count; i++) {
    size_t to = found->is_ascending ? i : last - i;
    array->positions[to] = found->positions[i];
    array->prefixes[to] = found->prefixes[i];
  }
}

static skv_mem_array *order_sorted(const skv_mem_view *view,
                                   const order_found *found, skv_err *err) {
  skv_mem_array *array =
      order_array_new(found->count, found->common, found->positions[0], err);
  if (array == NULL) return NULL;
  order_fill(found, array);
  if (found->is_ascending) return array;
  skv_mem_array *spare = order_array_new(found->count, 0, 0, err);
  if (spare == NULL) {
    skv_free(array);
    return NULL;
  }
  skv_mem_sort(view, array->prefixes, array->positions, spare->prefixes,
               spare->positions, found->count, found->common);
  skv_free(spare);
  return array;
}

/* An array of the walker's entries, NULL if there are none. */
static int order_build(skv_mem *mem, skv_mem_walker *walker, skv_err *err,
                       skv_mem_array **out) {
  order_found found = {0};
  *out = NULL;
  int rc = order_find(mem, walker, err, &found);
  if (rc == STRATAKV_OK && found.count > 0) {
    *out = order_sorted(&walker->view, &found, err);
    if (*out == NULL) rc = STRATAKV_NOMEM;
  }
  order_found_clear(&found);
  return rc;
}

/* ---- Merging two --------------------------------------------------------- */

/* One of the inputs of a merge. */
typedef struct order_input {
  const skv_mem_array *array;
  uint32_t at;
  order_lead lead; /* to the common bytes of the result */
} order_input;

static order_input order_input_of(const skv_mem_view *view,
                                  const skv_mem_array *array, size_t skip) {
  skv_slice key = skv_mem_key(view, array->positions[0]);
  order_input input = {array, 0, order_lead_of(key, array->skip, skip)};
  return input;
}

static uint64_t order_prefix(const order_input *input, uint32_t i) {
  return order_led(&input->lead, input->array->prefixes[i]);
}

/* Copy entries [at, end) of the input behind the first n of out. */
static size_t order_copy(order_input *input, uint32_t end, skv_mem_array *out,
                         size_t n) {
  for (; input->at < end; input->at++, n++) {
    out->prefixes[n] = order_prefix(input, input->at);
    out->positions[n] = input->array->positions[input->at];
  }
  return n;
}

/* Whether the older array's entry at hand goes before the newer's. For equal
 * keys the newer goes first. */
static bool order_older_first(const skv_mem_view *view,
                              const order_input *older, uint32_t i,
                              const order_input *newer, uint32_t j) {
  uint64_t a = order_prefix(older, i), b = order_prefix(newer, j);
  if (a != b) return a < b;
  return skv_compare(skv_mem_key(view, older->array->positions[i]),
                     skv_mem_key(view, newer->array->positions[j])) < 0;
}

static void order_merge_into(const skv_mem_view *view, order_input *older,
                             order_input *newer, skv_mem_array *out) {
  uint32_t ends[2] = {older->array->count, newer->array->count};
  size_t n = 0;
  if (!order_older_first(view, older, ends[0] - 1, newer, 0)) {
    while (older->at < ends[0] && newer->at < ends[1]) {
      if (order_older_first(view, older, older->at, newer, newer->at)) {
        n = order_copy(older, older->at + 1, out, n);
      } else {
        n = order_copy(newer, newer->at + 1, out, n);
      }
    }
  }
  n = order_copy(older, ends[0], out, n);
  n = order_copy(newer, ends[1], out, n);
  assert(n == out->count);
  SKV_UNUSED(n);
}

/* Bytes that all keys of both have in common. */
static size_t order_common(const skv_mem_view *view, const skv_mem_array *a,
                           const skv_mem_array *b) {
  skv_slice x = skv_mem_key(view, a->positions[0]);
  skv_slice y = skv_mem_key(view, b->positions[0]);
  if (x.size > a->skip) x.size = a->skip;
  if (y.size > b->skip) y.size = b->skip;
  return skv_common_prefix(x, y);
}

static skv_mem_array *order_merged(const skv_mem_view *view,
                                   const skv_mem_array *older,
                                   const skv_mem_array *newer, skv_err *err) {
  size_t skip = order_common(view, older, newer);
  skv_mem_array *out = order_array_new((size_t)older->count + newer->count,
                                       skip, older->lowest, err);
  if (out == NULL) return NULL;
  order_input a = order_input_of(view, older, skip);
  order_input b = order_input_of(view, newer, skip);
  order_merge_into(view, &a, &b, out);
  return out;
}

/* ---- The list ------------------------------------------------------------ */

/* Merge `array`, which is taken over, with the last of the first *kept of the
 * list while those are not twice as large. NULL if out of memory. */
static skv_mem_array *order_merge_back(const skv_mem_view *view,
                                       const skv_mem_arrays *list,
                                       unsigned *kept, skv_mem_array *array,
                                       skv_err *err) {
  while (*kept > 0 && array != NULL) {
    const skv_mem_array *before = list->arrays[*kept - 1];
    if (before->count / 2 >= array->count) break;
    skv_mem_array *merged = order_merged(view, before, array, err);
    skv_free(array);
    array = merged;
    --*kept;
  }
  return array;
}

/* Replace the list by its first `kept` arrays and `array`, taken over. */
static int order_publish_locked(skv_mem *mem, unsigned kept,
                                skv_mem_array *array, skv_err *err) {
  assert(kept < SKV_MEM_MAX_ARRAYS);
  skv_mem_arrays *old = mem->arrays;
  skv_mem_arrays *list =
      skv_malloc(sizeof *list + (kept + 1) * sizeof *list->arrays);
  if (list == NULL) {
    skv_free(array);
    return skv_error_nomem(err);
  }
  atomic_init(&list->refs, 1);
  list->count = kept + 1;
  for (unsigned i = 0; i < kept; i++) {
    list->arrays[i] = old->arrays[i];
    atomic_fetch_add_explicit(&old->arrays[i]->refs, 1, memory_order_relaxed);
  }
  list->arrays[kept] = array;
  atomic_fetch_add_explicit(&mem->memory, array->size, memory_order_relaxed);
  mem->arrays = list;
  skv_mem_arrays_unref(mem, old);
  return STRATAKV_OK;
}

/* P12: merging compares keys that were indexed before; their records must
 * still be what they were. */
static int order_check_doubt(skv_mem *mem, skv_err *err) {
  uint64_t doubt = atomic_load_explicit(&mem->doubt, memory_order_relaxed);
  if (doubt >= mem->order_place.offset) return STRATAKV_OK;
  skv_mem_walker walker;
  skv_entry entry;
  uint32_t position;
  int rc;
  skv_mem_walker_init_at(&walker, mem, doubt, mem->order_place.offset);
  while (skv_mem_walker_next(&walker, mem, err, &rc, &entry, &position)) {
  }
  return rc;
}

static int order_extend_locked(skv_mem *mem, uint64_t limit, skv_err *err) {
  if (mem->order_place.offset >= limit) return STRATAKV_OK;
  int rc = order_check_doubt(mem, err);
  if (rc != STRATAKV_OK) return rc;
  skv_mem_walker walker;
  skv_mem_array *array;
  skv_mem_walker_init(&walker, mem, &mem->order_place, limit);
  rc = order_build(mem, &walker, err, &array);
  if (rc != STRATAKV_OK) return rc;
  if (array != NULL) {
    unsigned kept = mem->arrays != NULL ? mem->arrays->count : 0;
    array = order_merge_back(&walker.view, mem->arrays, &kept, array, err);
    if (array == NULL) return STRATAKV_NOMEM;
    rc = order_publish_locked(mem, kept, array, err);
    if (rc != STRATAKV_OK) return rc;
  }
  mem->order_place = walker.place;
  return STRATAKV_OK;
}

int skv_mem_order_extend(skv_mem *mem, uint64_t limit, skv_err *err,
                         skv_mem_arrays **out) {
  *out = NULL;
  skv_mutex_lock(&mem->order_mutex);
  int rc = order_extend_locked(mem, limit, err);
  if (rc == STRATAKV_OK && mem->arrays != NULL) {
    atomic_fetch_add_explicit(&mem->arrays->refs, 1, memory_order_relaxed);
    *out = mem->arrays;
  }
  skv_mutex_unlock(&mem->order_mutex);
  return rc;
}
