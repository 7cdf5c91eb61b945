/*
 * The MemTable object, reading entries by position, walking a log.
 *
 * A batch is walked as if it were the payload of one record that stands at the
 * start of a log, hence SKV_MEM_BATCH_BIAS.
 */
#include <assert.h>

#include "engine/mem/mem_internal.h"
#include "engine/util/alloc.h"
#include "engine/wal/batch.h"

#define MEM_MAX_SIZE UINT64_C(0xffffffff) /* positions have 32 bits */

/* ---- The object ---------------------------------------------------------- */

static skv_mem *mem_new(const char *name, skv_err *err) {
  int rc = STRATAKV_OK;
  skv_mem *mem = skv_new(sizeof *mem, &rc);
  char *copy = mem != NULL ? skv_strdup(name) : NULL;
  if (copy == NULL) {
    skv_free(mem);
    skv_error_nomem(err);
    return NULL;
  }
  mem->name = copy;
  atomic_init(&mem->refs, 1);
  atomic_init(&mem->doubt, UINT64_MAX);
  skv_mutex_init(&mem->point_mutex);
  skv_mutex_init(&mem->order_mutex);
  return mem;
}

static void mem_set_first(skv_mem *mem, const skv_wal_place *first) {
  mem->first = *first;
  mem->point_place = *first;
  mem->order_place = *first;
  atomic_init(&mem->verified, first->offset);
  atomic_init(&mem->caught_up, first->offset);
}

int skv_mem_new_log(const uint8_t *bytes, uint64_t size,
                    const skv_wal_header *header, const char *name,
                    skv_err *err, skv_mem **out) {
  *out = NULL;
  if (size > MEM_MAX_SIZE) {
    return skv_error_corrupt(err, name, size, "log longer than 4 GiB");
  }
  skv_mem *mem = mem_new(name, err);
  if (mem == NULL) return STRATAKV_NOMEM;
  skv_wal_place first = {skv_wal_seed(header), SKV_WAL_HEADER, header->prev, 0};
  mem_set_first(mem, &first);
  mem->start = header->start;
  mem->bytes = bytes;
  mem->size = size;
  *out = mem;
  return STRATAKV_OK;
}

int skv_mem_new_batch(skv_err *err, skv_mem **out) {
  skv_mem *mem = mem_new("a transaction", err);
  *out = mem;
  if (mem == NULL) return STRATAKV_NOMEM;
  skv_wal_place first = {0, SKV_MEM_BATCH_BIAS, 0, 0};
  mem_set_first(mem, &first);
  mem->is_batch = true;
  return STRATAKV_OK;
}

void skv_mem_batch_bytes(skv_mem *mem, const uint8_t *bytes, uint64_t size) {
  assert(mem->is_batch);
  mem->bytes = bytes;
  mem->size = size;
}

skv_mem *skv_mem_ref(skv_mem *mem) {
  atomic_fetch_add_explicit(&mem->refs, 1, memory_order_relaxed);
  return mem;
}

void skv_mem_unref(skv_mem *mem) {
  if (mem == NULL) return;
  if (atomic_fetch_sub_explicit(&mem->refs, 1, memory_order_acq_rel) != 1) {
    return;
  }
  skv_mem_point_clear(mem);
  skv_mem_arrays_unref(mem, mem->arrays);
  skv_mutex_clear(&mem->point_mutex);
  skv_mutex_clear(&mem->order_mutex);
  skv_free(mem->name);
  skv_free(mem);
}

uint64_t skv_mem_memory(const skv_mem *mem) {
  return atomic_load_explicit(&mem->memory, memory_order_relaxed);
}

/* ---- Entries by position ------------------------------------------------- */

skv_mem_view skv_mem_view_of(const skv_mem *mem) {
  uint64_t bias = mem->is_batch ? SKV_MEM_BATCH_BIAS : 0;
  skv_mem_view view = {mem, mem->bytes, bias, mem->size + bias};
  return view;
}

int skv_mem_check_limit(const skv_mem *mem, uint64_t limit, skv_err *err) {
  if (limit <= MEM_MAX_SIZE) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_TOOBIG, "more than 4 GiB in %s", mem->name);
}

static const uint8_t *mem_at(const skv_mem_view *view, uint64_t position) {
  return view->bytes + (position - view->bias);
}

/* A place at a record boundary that takes the record's own word for its chain:
 * whoever set the limit has followed the chain. */
static skv_wal_place mem_place_at(const skv_mem_view *view, uint64_t offset) {
  skv_wal_place place = {view->mem->first.seed, offset, 0, 0};
  if (offset < view->end && view->end - offset >= SKV_RECORD_HEADER) {
    place.prev = skv_get32(view->bytes + offset + 16);
  }
  return place;
}

/* Whether `back` leads to where a record may start. */
static bool mem_back_is_sane(uint64_t position, uint64_t back) {
  return back <= position &&
         position - back >= SKV_WAL_HEADER + SKV_RECORD_HEADER;
}

/*
 * P12: the record that this entry claims is its own validates, and the entry
 * stands in it. Then its bytes are what was written, `back` included.
 */
static bool mem_doubt_resolved(const skv_mem_view *view, uint64_t position,
                               uint64_t back) {
  uint64_t offset = position - back - SKV_RECORD_HEADER;
  skv_wal_place place = mem_place_at(view, offset);
  skv_wal_record record;
  return skv_wal_read(view->bytes, view->end, true, &place, &record) &&
         position < offset + SKV_RECORD_HEADER + record.payload.size;
}

int skv_mem_read(const skv_mem_view *view, uint32_t position, skv_err *err,
                 skv_entry *entry) {
  const skv_mem *mem = view->mem;
  uint64_t back;
  if (position >= view->end || /* INV-8 */
      skv_entry_get(mem_at(view, position), mem_at(view, view->end), entry,
                    &back) == NULL) {
    return skv_error_corrupt(err, mem->name, position, "bad entry");
  }
  entry->lsn = 0;
  if (mem->is_batch) return STRATAKV_OK;
  if (!mem_back_is_sane(position, back) ||
      (position >= atomic_load_explicit(&mem->doubt, memory_order_relaxed) &&
       !mem_doubt_resolved(view, position, back))) {
    return skv_error_corrupt(err, mem->name, position, "damaged record");
  }
  entry->lsn = skv_wal_lsn(mem->start, position - back - SKV_RECORD_HEADER);
  return STRATAKV_OK;
}

skv_slice skv_mem_key(const skv_mem_view *view, uint32_t position) {
  skv_entry entry;
  if (position >= view->end ||
      skv_entry_get(mem_at(view, position), mem_at(view, view->end), &entry,
                    NULL) == NULL) {
    return skv_slice_of(NULL, 0);
  }
  return entry.key;
}

void skv_mem_doubt(skv_mem *mem, uint64_t offset) {
  uint64_t old = atomic_load(&mem->doubt);
  while (offset < old &&
         !atomic_compare_exchange_weak(&mem->doubt, &old, offset)) {
  }
}

/* ---- The walker ---------------------------------------------------------- */

void skv_mem_walker_init(skv_mem_walker *walker, skv_mem *mem,
                         const skv_wal_place *place, uint64_t limit) {
  memset(walker, 0, sizeof *walker);
  walker->view = skv_mem_view_of(mem);
  walker->limit = limit;
  walker->place = *place;
}

void skv_mem_walker_init_at(skv_mem_walker *walker, skv_mem *mem, uint64_t from,
                            uint64_t limit) {
  skv_mem_walker_init(walker, mem, &mem->first, limit);
  if (from <= mem->first.offset) return;
  walker->place.offset = from;
  if (!mem->is_batch) walker->place = mem_place_at(&walker->view, from);
}

/* A checksum is computed once per process: records below `verified` passed
 * before. It moves only from one record to the next, without holes. */
static bool mem_read_record(skv_mem_walker *walker, skv_mem *mem,
                            skv_wal_place *place, skv_wal_record *record) {
  uint64_t limit = walker->limit;
  if (limit > walker->view.end) limit = walker->view.end;
  uint64_t verified =
      atomic_load_explicit(&mem->verified, memory_order_relaxed);
  uint64_t doubt = atomic_load_explicit(&mem->doubt, memory_order_relaxed);
  bool verify = place->offset >= verified || place->offset >= doubt;
  if (!skv_wal_read(walker->view.bytes, limit, verify, place, record)) {
    return false;
  }
  if (record->offset == verified) {
    atomic_compare_exchange_strong_explicit(&mem->verified, &verified,
                                            record->end, memory_order_relaxed,
                                            memory_order_relaxed);
  }
  return true;
}

static int mem_bad_record(skv_mem *mem, uint64_t offset, skv_err *err) {
  return skv_error_corrupt(err, mem->name, offset, "invalid record");
}

/* Whether the record behind a PREPARE aborts it. One that ends at the limit
 * counts as committed. */
static int mem_is_aborted(skv_mem_walker *walker, skv_mem *mem, skv_err *err,
                          bool *aborted) {
  skv_wal_place place = walker->place;
  skv_wal_record next;
  *aborted = false;
  if (place.offset >= walker->limit) return STRATAKV_OK;
  if (!mem_read_record(walker, mem, &place, &next)) {
    return mem_bad_record(mem, place.offset, err);
  }
  *aborted = next.type == SKV_RECORD_ABORT &&
             skv_get64(next.payload.data) == walker->lsn;
  return STRATAKV_OK;
}

static void mem_take_payload(skv_mem_walker *walker, skv_slice payload,
                             uint64_t position) {
  if (payload.size == 0) return;
  walker->p = walker->payload = payload.data;
  walker->end = payload.data + payload.size;
  walker->payload_position = position;
}

/* The whole rest of a batch. */
static int mem_next_batch(skv_mem_walker *walker, skv_mem *mem, skv_err *err) {
  uint64_t from = walker->place.offset;
  if (walker->limit > walker->view.end) {
    return skv_error_corrupt(err, mem->name, walker->limit, "batch cut off");
  }
  const uint8_t *bytes = walker->view.bytes;
  walker->p = mem_at(&walker->view, from);
  walker->end = mem_at(&walker->view, walker->limit);
  walker->payload = bytes;
  walker->payload_position = SKV_MEM_BATCH_BIAS;
  walker->place.offset = walker->limit;
  return STRATAKV_OK;
}

/* Take the next record in hand if it has entries. */
static int mem_next_record(skv_mem_walker *walker, skv_mem *mem, skv_err *err) {
  if (mem->is_batch) return mem_next_batch(walker, mem, err);
  skv_wal_record record;
  if (!mem_read_record(walker, mem, &walker->place, &record)) {
    return mem_bad_record(mem, walker->place.offset, err);
  }
  walker->lsn = skv_wal_lsn(mem->start, record.offset);
  if (record.type == SKV_RECORD_PREPARE) {
    bool aborted;
    int rc = mem_is_aborted(walker, mem, err, &aborted);
    if (rc != STRATAKV_OK || aborted) return rc;
  } else if (record.type != SKV_RECORD_COMMIT) {
    return STRATAKV_OK;
  }
  mem_take_payload(walker, record.payload, record.offset + SKV_RECORD_HEADER);
  return STRATAKV_OK;
}

bool skv_mem_walker_next(skv_mem_walker *walker, skv_mem *mem, skv_err *err,
                         int *rc, skv_entry *entry, uint32_t *position) {
  *rc = STRATAKV_OK;
  while (walker->p == walker->end) {
    if (walker->place.offset >= walker->limit) return false;
    *rc = mem_next_record(walker, mem, err);
    if (*rc != STRATAKV_OK) return false;
  }
  uint64_t offset = (uint64_t)(walker->p - walker->payload);
  uint64_t at = walker->payload_position + offset;
  uint64_t back;
  walker->p = skv_entry_get(walker->p, walker->end, entry, &back);
  if (walker->p == NULL || back != offset) { /* INV-8 */
    *rc = skv_error_corrupt(err, mem->name, at, "bad entry");
    return false;
  }
  entry->lsn = walker->lsn;
  *position = (uint32_t)at;
  return true;
}

int skv_mem_walk(skv_mem *mem, uint64_t from, uint64_t limit,
                 int (*each)(void *arg, const skv_entry *entry), void *arg,
                 skv_err *err) {
  skv_mem_walker walker;
  skv_entry entry;
  uint32_t position;
  int rc = skv_mem_check_limit(mem, limit, err);
  if (rc != STRATAKV_OK) return rc;
  skv_mem_walker_init_at(&walker, mem, from, limit);
  while (skv_mem_walker_next(&walker, mem, err, &rc, &entry, &position)) {
    rc = each(arg, &entry);
    if (rc != STRATAKV_OK) return rc;
  }
  return rc;
}
