/*
 * The merge iterator. See merge.h.
 *
 * Keys that are merged lie close together and share a long beginning. It is
 * remembered (`shared`), and what is cached of a key are the 8 bytes behind
 * it, so that whole keys are hardly ever compared. A key that leaves the
 * shared beginning makes it be found anew.
 *
 * The heap holds the valid inputs, the next entry to show at its root. Moving
 * backwards the order of keys is turned round by complementing the cached
 * prefix and the result of the comparison; of equal keys the newest input
 * comes first in both directions.
 */
#include "engine/tree/merge.h"

#include "engine/util/alloc.h"

#define MERGE_SHARED 64 /* bytes of a shared beginning that are remembered */

typedef struct merge_node {
  uint64_t prefix; /* behind `shared`; complemented when moving backwards */
  size_t rank;     /* index of the input: 0 is the newest */
} merge_node;

typedef struct merge_iter {
  skv_iter base;
  bool is_backward;
  size_t input_count;
  skv_iter **inputs; /* owned */
  size_t count;      /* nodes in the heap: the inputs that are valid */
  merge_node *heap;
  size_t skip; /* bytes that the keys in the heap share, and these bytes */
  uint8_t shared[MERGE_SHARED];
} merge_iter;

static skv_slice merge_key(const merge_iter *m, const merge_node *node) {
  return m->inputs[node->rank]->entry.key;
}

static bool merge_less(const merge_iter *m, const merge_node *a,
                       const merge_node *b) {
  if (a->prefix != b->prefix) return a->prefix < b->prefix;
  int c = skv_compare(merge_key(m, a), merge_key(m, b));
  if (c != 0) return m->is_backward ? c > 0 : c < 0;
  return a->rank < b->rank;
}

static void merge_set_prefix(const merge_iter *m, merge_node *node) {
  uint64_t prefix = skv_prefix64(merge_key(m, node), m->skip);
  node->prefix = m->is_backward ? ~prefix : prefix;
}

static bool merge_shares(const merge_iter *m, const merge_node *node) {
  skv_slice key = merge_key(m, node);
  return key.size >= m->skip && memcmp(key.data, m->shared, m->skip) == 0;
}

/* Find the shared beginning of the keys in the heap anew. Their order does not
 * change by it. */
static void merge_share(merge_iter *m) {
  if (m->count == 0) return;
  skv_slice first = merge_key(m, &m->heap[0]);
  m->skip = first.size < MERGE_SHARED ? first.size : MERGE_SHARED;
  for (size_t i = 1; i < m->count; i++) {
    skv_slice part = skv_slice_of(first.data, m->skip);
    m->skip = skv_common_prefix(part, merge_key(m, &m->heap[i]));
  }
  memcpy(m->shared, first.data, m->skip);
  for (size_t i = 0; i < m->count; i++) merge_set_prefix(m, &m->heap[i]);
}

/* Let the node at `at` sink to its place. */
static void merge_sink(merge_iter *m, size_t at) {
  merge_node node = m->heap[at];
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= m->count) break;
    if (child + 1 < m->count &&
        merge_less(m, &m->heap[child + 1], &m->heap[child])) {
      child++;
    }
    if (!merge_less(m, &m->heap[child], &node)) break;
    m->heap[at] = m->heap[child];
    at = child;
  }
  m->heap[at] = node;
}

/* Move the input at heap place `at` one on, and put its node right. */
static int merge_step(merge_iter *m, size_t at, skv_err *err) {
  merge_node *node = &m->heap[at];
  skv_iter *input = m->inputs[node->rank];
  int rc =
      m->is_backward ? skv_iter_prev(input, err) : skv_iter_next(input, err);
  if (rc != STRATAKV_OK) return rc;
  if (input->valid) {
    if (merge_shares(m, node))
      merge_set_prefix(m, node);
    else
      merge_share(m);
  } else {
    *node = m->heap[--m->count];
  }
  if (at < m->count) merge_sink(m, at);
  return STRATAKV_OK;
}

/* Whether the node at `at` has the root's key. */
static bool merge_is_older(const merge_iter *m, size_t at) {
  return at < m->count && m->heap[at].prefix == m->heap[0].prefix &&
         skv_equal(merge_key(m, &m->heap[at]), merge_key(m, &m->heap[0]));
}

/* Show the root, after moving older versions of its key out of the way: they
 * are always among its children. */
static int merge_show(merge_iter *m, skv_err *err) {
  for (;;) {
    size_t older = merge_is_older(m, 1) ? 1 : merge_is_older(m, 2) ? 2 : 0;
    if (older == 0) break;
    int rc = merge_step(m, older, err);
    if (rc != STRATAKV_OK) return rc;
  }
  m->base.valid = m->count > 0;
  if (m->base.valid) m->base.entry = m->inputs[m->heap[0].rank]->entry;
  return STRATAKV_OK;
}

/* Make the heap from where the inputs stand. */
static int merge_build(merge_iter *m, skv_err *err) {
  m->count = 0;
  for (size_t i = 0; i < m->input_count; i++) {
    if (!m->inputs[i]->valid) continue;
    m->heap[m->count++].rank = i;
  }
  merge_share(m);
  for (size_t i = m->count / 2; i-- > 0;) merge_sink(m, i);
  return merge_show(m, err);
}

/* ---- The iterator -------------------------------------------------------- */

static int merge_first(skv_iter *base, skv_err *err) {
  merge_iter *m = (merge_iter *)base;
  base->valid = false;
  m->is_backward = false;
  for (size_t i = 0; i < m->input_count; i++) {
    int rc = skv_iter_first(m->inputs[i], err);
    if (rc != STRATAKV_OK) return rc;
  }
  return merge_build(m, err);
}

static int merge_last(skv_iter *base, skv_err *err) {
  merge_iter *m = (merge_iter *)base;
  base->valid = false;
  m->is_backward = true;
  for (size_t i = 0; i < m->input_count; i++) {
    int rc = skv_iter_last(m->inputs[i], err);
    if (rc != STRATAKV_OK) return rc;
  }
  return merge_build(m, err);
}

static int merge_seek(skv_iter *base, skv_slice key, skv_err *err) {
  merge_iter *m = (merge_iter *)base;
  base->valid = false;
  m->is_backward = false;
  for (size_t i = 0; i < m->input_count; i++) {
    int rc = skv_iter_seek(m->inputs[i], key, err);
    if (rc != STRATAKV_OK) return rc;
  }
  return merge_build(m, err);
}

static int merge_seek_back(skv_iter *base, skv_slice key, skv_err *err) {
  merge_iter *m = (merge_iter *)base;
  base->valid = false;
  m->is_backward = true;
  for (size_t i = 0; i < m->input_count; i++) {
    int rc = skv_iter_seek_back(m->inputs[i], key, err);
    if (rc != STRATAKV_OK) return rc;
  }
  return merge_build(m, err);
}

/* Move an input that stands on the other side of `key` past it. */
static int merge_pass(skv_iter *input, skv_slice key, bool is_backward,
                      skv_err *err) {
  int rc = is_backward ? skv_iter_seek_back(input, key, err)
                       : skv_iter_seek(input, key, err);
  if (rc != STRATAKV_OK || !input->valid || !skv_equal(input->entry.key, key)) {
    return rc;
  }
  return is_backward ? skv_iter_prev(input, err) : skv_iter_next(input, err);
}

/* Turn round and move on: the others are on the wrong side of the key shown,
 * which is its input's until that one moves, last. */
static int merge_turn(merge_iter *m, skv_err *err) {
  skv_iter *shown = m->inputs[m->heap[0].rank];
  m->is_backward = !m->is_backward;
  for (size_t i = 0; i < m->input_count; i++) {
    if (m->inputs[i] == shown) continue;
    int rc = merge_pass(m->inputs[i], shown->entry.key, m->is_backward, err);
    if (rc != STRATAKV_OK) return rc;
  }
  int rc =
      m->is_backward ? skv_iter_prev(shown, err) : skv_iter_next(shown, err);
  return rc == STRATAKV_OK ? merge_build(m, err) : rc;
}

static int merge_move(merge_iter *m, bool is_backward, skv_err *err) {
  m->base.valid = false;
  if (m->is_backward != is_backward) return merge_turn(m, err);
  int rc = merge_step(m, 0, err);
  return rc == STRATAKV_OK ? merge_show(m, err) : rc;
}

static int merge_next(skv_iter *base, skv_err *err) {
  return merge_move((merge_iter *)base, false, err);
}

static int merge_prev(skv_iter *base, skv_err *err) {
  return merge_move((merge_iter *)base, true, err);
}

static void merge_close(skv_iter *base) {
  merge_iter *m = (merge_iter *)base;
  for (size_t i = 0; i < m->input_count; i++) skv_iter_close(m->inputs[i]);
  skv_free(m->inputs);
  skv_free(m->heap);
  skv_free(m);
}

static const skv_iter_ops merge_ops = {
    merge_first, merge_last, merge_seek,  merge_seek_back,
    merge_next,  merge_prev, merge_close,
};

int skv_merge_new(skv_iter **inputs, size_t count, skv_err *err,
                  skv_iter **out) {
  *out = NULL;
  if (count == 1) {
    *out = inputs[0];
    return STRATAKV_OK;
  }
  int rc = STRATAKV_OK;
  merge_iter *m = skv_new(sizeof *m, &rc);
  skv_iter **list = skv_new(count * sizeof *list, &rc);
  merge_node *heap = skv_new(count * sizeof *heap, &rc);
  if (rc != STRATAKV_OK) {
    for (size_t i = 0; i < count; i++) skv_iter_close(inputs[i]);
    skv_free(heap);
    skv_free(list);
    skv_free(m);
    return skv_error_nomem(err);
  }
  if (count > 0) memcpy(list, inputs, count * sizeof *list);
  m->base.ops = &merge_ops;
  m->inputs = list;
  m->input_count = count;
  m->heap = heap;
  *out = &m->base;
  return STRATAKV_OK;
}
