/*
 * Spills: what of a transaction's changes did not fit in memory.
 *
 * Each spill is sorted segments over an interval of positions. Spills that lie
 * between the same two live savepoints are merged when there are many, so that
 * a lookup asks few; at commit all are gathered into one run.
 */
#include "engine/db/txn.h"
#include "engine/tree/merge.h"
#include "engine/util/hash.h"
#include "engine/util/point.h"
#include "engine/wal/batch.h"

#define SPILL_FAN 8 /* spills between two savepoints before they are merged */
#define SPILL_CACHE_ID (UINT64_C(1) << 63) /* apart from file numbers */

skv_spill *skv_spill_ref(skv_spill *spill) {
  atomic_fetch_add_explicit(&spill->refs, 1, memory_order_relaxed);
  return spill;
}

void skv_spill_unref(skv_spill *spill) {
  if (!spill ||
      atomic_fetch_sub_explicit(&spill->refs, 1, memory_order_acq_rel) != 1)
    return;
  for (size_t i = 0; spill->segs && i < spill->products.count; i++)
    skv_seg_close(spill->segs[i]);
  skv_free(spill->segs);
  if (spill->is_kept)
    skv_products_clear(&spill->products);
  else
    skv_products_discard(spill->db, &spill->products);
  skv_free(spill);
}

static int spill_open(skv_spill *spill, skv_err *err) {
  skv_db *db = spill->db;
  spill->segs = skv_calloc(spill->products.count + 1, sizeof *spill->segs);
  if (!spill->segs) return skv_error_nomem(err);
  for (size_t i = 0; i < spill->products.count; i++) {
    skv_product *p = &spill->products.list[i];
    skv_in *in = NULL;
    int rc = skv_in_open(db->store, 0, &p->tmp, p->meta.size, db->tree.map, err,
                         &in);
    if (rc == STRATAKV_OK)
      rc = skv_seg_open(in, db->tree.cache, SPILL_CACHE_ID | p->tmp.number,
                        p->meta.uid, 0, err, &spill->segs[i]);
    if (rc != STRATAKV_OK) {
      skv_in_close(in);
      return rc;
    }
    spill->entries += p->meta.entries;
  }
  return STRATAKV_OK;
}

/* Write what `it` yields (closed here) as a spill of [from, to). */
static int spill_write(skv_db *db, skv_iter *it, uint64_t from, uint64_t to,
                       skv_err *err, skv_spill **out) {
  int rc = STRATAKV_OK;
  skv_job job;
  skv_spill *spill = skv_new(sizeof *spill, &rc);
  *out = NULL;
  if (rc != STRATAKV_OK) {
    skv_iter_close(it);
    return skv_error_nomem(err);
  }
  atomic_init(&spill->refs, 1);
  spill->db = db;
  spill->from = from;
  spill->to = to;
  skv_job_init(db, &job);
  rc = skv_disk_admit(db, to - from, err);
  if (rc == STRATAKV_OK)
    rc = skv_produce(&job, it, false, err, &spill->products);
  skv_iter_close(it);
  if (rc == STRATAKV_OK) SKV_POINT("spill.written");
  if (rc == STRATAKV_OK) rc = spill_open(spill, err);
  if (rc != STRATAKV_OK) {
    skv_spill_unref(spill);
    return rc;
  }
  *out = spill;
  return rc;
}

static int spill_push(stratakv_txn *txn, skv_spill *spill, skv_err *err) {
  if (txn->spill_count == txn->spill_capacity) {
    size_t more = txn->spill_capacity ? txn->spill_capacity * 2 : 16;
    skv_spill **grown = skv_realloc(txn->spills, more * sizeof *grown);
    if (!grown) {
      skv_spill_unref(spill);
      return skv_error_nomem(err);
    }
    txn->spills = grown;
    txn->spill_capacity = more;
  }
  txn->spills[txn->spill_count++] = spill;
  return STRATAKV_OK;
}

/* ---- Reading ----------------------------------------------------------- */

int skv_spill_get(skv_spill *spill, skv_slice key, uint64_t hash,
                  skv_seg_pin *pin, skv_err *err, bool *found,
                  skv_entry *entry) {
  size_t low = 0, high = spill->products.count;
  while (low < high) { /* the first segment whose greatest key is >= key */
    size_t mid = (low + high) / 2;
    if (skv_compare(spill->products.list[mid].meta.max_key, key) < 0)
      low = mid + 1;
    else
      high = mid;
  }
  *found = false;
  if (low == spill->products.count) return STRATAKV_OK;
  return skv_seg_get(spill->segs[low], key, hash, pin, err, found, entry);
}

int skv_spill_iters(skv_spill *spill, bool keys_only, skv_iter ***list,
                    size_t *count, size_t *capacity, skv_err *err) {
  int rc = STRATAKV_OK;
  for (size_t i = 0; rc == STRATAKV_OK && i < spill->products.count; i++) {
    skv_iter *it = NULL;
    rc = skv_seg_iter_new(spill->segs[i], keys_only, err, &it);
    if (rc == STRATAKV_OK) rc = skv_iters_push(list, count, capacity, it, err);
  }
  return rc;
}

/* ---- Merging ----------------------------------------------------------- */

static bool spill_is_after(const skv_spill *older, const skv_spill *newer) {
  const skv_products *a = &older->products, *b = &newer->products;
  if (a->count == 0 || b->count == 0) return true;
  return skv_compare(a->list[a->count - 1].meta.max_key,
                     b->list[0].meta.min_key) < 0;
}

/* Move the newer's segments behind the older's: ascending loads never merge.
 * Only between spills nobody else holds. */
static int spill_append(skv_spill *older, skv_spill *newer, skv_err *err) {
  size_t n = older->products.count + newer->products.count;
  skv_product *list = skv_realloc(older->products.list, n * sizeof *list);
  if (!list) return skv_error_nomem(err);
  older->products.list = list;
  older->products.capacity = n;
  skv_seg **segs = skv_realloc(older->segs, (n + 1) * sizeof *segs);
  if (!segs) return skv_error_nomem(err);
  older->segs = segs;
  for (size_t i = 0; i < newer->products.count; i++) {
    list[older->products.count] = newer->products.list[i];
    segs[older->products.count++] = newer->segs[i];
  }
  older->entries += newer->entries;
  older->to = newer->to;
  newer->products.count = 0;
  return STRATAKV_OK;
}

/* Spills [first, txn->spill_count) merged to one, which they stay beside. */
static int spill_merged(stratakv_txn *txn, size_t first, skv_err *err,
                        skv_spill **out) {
  skv_iter **list = NULL, *merged = NULL;
  size_t count = 0, capacity = 0, n = txn->spill_count;
  int rc = STRATAKV_OK;
  *out = NULL;
  for (size_t i = n; rc == STRATAKV_OK && i-- > first;)
    rc = skv_spill_iters(txn->spills[i], false, &list, &count, &capacity, err);
  if (rc != STRATAKV_OK) {
    skv_iters_close(list, count);
    return rc;
  }
  rc = skv_merge_new(list, count, err, &merged);
  skv_free(list);
  if (rc != STRATAKV_OK) return rc;
  return spill_write(txn->db, merged, txn->spills[first]->from,
                     txn->spills[n - 1]->to, err, out);
}

/* Put one merged spill in their place. */
static int spill_merge(stratakv_txn *txn, size_t first, skv_err *err) {
  skv_spill *one;
  int rc = spill_merged(txn, first, err, &one);
  if (rc != STRATAKV_OK) return rc;
  for (size_t i = first; i < txn->spill_count; i++)
    skv_spill_unref(txn->spills[i]);
  SKV_POINT("spill.merged");
  txn->spills[first] = one;
  txn->spill_count = first + 1;
  return rc;
}

static bool spill_has_mark(const stratakv_txn *txn, uint64_t position) {
  for (size_t i = 0; i < txn->mark_count; i++)
    if (txn->marks[i].position == position) return true;
  return false;
}

/* After a new spill: append it to the one before if it is behind it, or merge
 * the youngest ones if they are many. Sizes grow by SPILL_FAN from merge to
 * merge, so that each entry is rewritten a logarithmic number of times. What
 * fails leaves the spills as they were. */
static void spill_tidy(stratakv_txn *txn) {
  size_t n = txn->spill_count;
  if (n < 2 || spill_has_mark(txn, txn->spills[n - 1]->from)) return;
  skv_spill *older = txn->spills[n - 2], *newer = txn->spills[n - 1];
  if (spill_is_after(older, newer) && atomic_load(&older->refs) == 1 &&
      atomic_load(&newer->refs) == 1) {
    if (spill_append(older, newer, NULL) != STRATAKV_OK) return;
    skv_spill_unref(newer);
    txn->spill_count--;
    return;
  }
  for (;;) {
    n = txn->spill_count;
    uint64_t most = n ? txn->spills[n - 1]->entries * 2 : 0;
    size_t alike = n;
    while (alike > 0 && txn->spills[alike - 1]->entries <= most &&
           (alike == n || !spill_has_mark(txn, txn->spills[alike]->from)))
      alike--;
    if (n - alike < SPILL_FAN) return;
    if (spill_merge(txn, alike, NULL) != STRATAKV_OK) return;
  }
}

/* ---- Spilling ---------------------------------------------------------- */

/* Entries [from, to) of the changes as a batch of their own: `back` counts
 * from a batch's beginning. */
static int spill_copy(const skv_changes *changes, size_t from, size_t to,
                      skv_err *err, skv_buf *out) {
  const uint8_t *p = changes->data + from, *end = changes->data + to;
  while (p && p < end) {
    skv_entry e;
    p = skv_entry_get(p, end, &e, NULL);
    if (!p) break;
    uint32_t table = (uint32_t)e.key.data[0] << 8 | e.key.data[1];
    skv_slice key = skv_slice_of(e.key.data + SKV_TABLE_PREFIX,
                                 e.key.size - SKV_TABLE_PREFIX);
    skv_batch_append(out, e.kind, table, key, e.value);
  }
  return out->rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
}

/* One interval of the changes as a spill of its own. */
static int spill_interval(stratakv_txn *txn, size_t from, size_t to,
                          skv_err *err) {
  skv_mem *mem = NULL;
  skv_iter *it = NULL;
  skv_spill *spill = NULL;
  skv_buf copy = {0};
  const uint8_t *bytes = txn->changes->data;
  if (from == to) return STRATAKV_OK;
  int rc = skv_mem_new_batch(err, &mem);
  if (rc == STRATAKV_OK && from > 0) {
    rc = spill_copy(txn->changes, from, to, err, &copy);
    bytes = copy.data;
  }
  size_t size = from > 0 ? copy.size : to;
  if (rc == STRATAKV_OK) {
    skv_mem_batch_bytes(mem, bytes, size);
    rc = skv_mem_iter_new(mem, SKV_MEM_BATCH_BIAS + size, err, &it);
  }
  if (rc == STRATAKV_OK)
    rc =
        spill_write(txn->db, it, txn->base + from, txn->base + to, err, &spill);
  skv_mem_unref(mem);
  skv_buf_clear(&copy);
  if (rc == STRATAKV_OK) rc = spill_push(txn, spill, err);
  if (rc == STRATAKV_OK) spill_tidy(txn);
  return rc;
}

int skv_txn_spill(stratakv_txn *txn, skv_err *err) {
  if (!txn->changes || txn->changes->size == 0) return STRATAKV_OK;
  size_t from = 0, size = txn->changes->size, spills = txn->spill_count;
  skv_changes *empty = skv_changes_new();
  if (!empty) return skv_error_nomem(err);
  int rc = STRATAKV_OK;
  for (size_t i = 0; rc == STRATAKV_OK && i < txn->mark_count; i++) {
    uint64_t at = txn->marks[i].position;
    if (at <= txn->base + from || at >= txn->base + size) continue;
    rc = spill_interval(txn, from, at - txn->base, err);
    from = at - txn->base;
  }
  if (rc == STRATAKV_OK) rc = spill_interval(txn, from, size, err);
  if (rc != STRATAKV_OK) {
    /* The changes are still in memory: forget what was written of them. */
    while (txn->spill_count > spills &&
           txn->spills[txn->spill_count - 1]->from >= txn->base)
      skv_spill_unref(txn->spills[--txn->spill_count]);
    skv_changes_unref(empty);
    return rc;
  }
  if (txn->check_count > 0) txn->spilled_checked = true;
  txn->check_count = 0;
  txn->base += size;
  skv_changes_unref(txn->changes);
  txn->changes = empty;
  return STRATAKV_OK;
}

/* An iterator over one entry, for a value too large to be copied. */
typedef struct spill_single {
  skv_iter iter;
  skv_entry entry;
} spill_single;

static int single_first(skv_iter *it, skv_err *err) {
  SKV_UNUSED(err);
  it->entry = ((spill_single *)it)->entry;
  it->valid = true;
  return STRATAKV_OK;
}
static int single_seek(skv_iter *it, skv_slice key, skv_err *err) {
  single_first(it, err);
  it->valid = skv_compare(it->entry.key, key) >= 0;
  return STRATAKV_OK;
}
static int single_seek_back(skv_iter *it, skv_slice key, skv_err *err) {
  single_first(it, err);
  it->valid = skv_compare(it->entry.key, key) <= 0;
  return STRATAKV_OK;
}
static int single_leave(skv_iter *it, skv_err *err) {
  SKV_UNUSED(err);
  it->valid = false;
  return STRATAKV_OK;
}
static void single_close(skv_iter *it) { skv_free(it); }

static const skv_iter_ops single_ops = {
    single_first, single_first, single_seek, single_seek_back,
    single_leave, single_leave, single_close};

int skv_txn_spill_one(stratakv_txn *txn, const skv_entry *entry, skv_err *err) {
  int rc = STRATAKV_OK;
  skv_spill *spill = NULL;
  spill_single *single = skv_new(sizeof *single, &rc);
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  single->iter.ops = &single_ops;
  single->entry = *entry;
  uint64_t size = entry->key.size + entry->value.size;
  rc = spill_write(txn->db, &single->iter, txn->base, txn->base + size, err,
                   &spill);
  if (rc == STRATAKV_OK) rc = spill_push(txn, spill, err);
  if (rc != STRATAKV_OK) return rc;
  txn->base += size;
  spill_tidy(txn);
  return rc;
}

int skv_txn_gather(stratakv_txn *txn, skv_err *err, skv_spill **out) {
  *out = NULL;
  int rc = skv_txn_spill(txn, err);
  if (rc != STRATAKV_OK || txn->spill_count == 0) return rc;
  if (txn->spill_count > 1) return spill_merged(txn, 0, err, out);
  *out = skv_spill_ref(txn->spills[0]);
  return rc;
}

int skv_txn_cut_spills(stratakv_txn *txn, uint64_t position) {
  while (txn->spill_count > 0 &&
         txn->spills[txn->spill_count - 1]->from >= position)
    skv_spill_unref(txn->spills[--txn->spill_count]);
  txn->base = position;
  return STRATAKV_OK;
}
