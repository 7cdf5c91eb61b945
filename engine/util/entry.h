/*
 * An entry, and the iterator through which every sorted source of entries is
 * read: MemTables, segments, runs, merges of them.
 *
 * KEY  Internal keys are the table id, 2 bytes big-endian, then the user's
 *   key. One order (skv_compare) holds for all.
 */
#ifndef SKV_UTIL_ENTRY_H
#define SKV_UTIL_ENTRY_H

#include <stdbool.h>

#include "engine/util/bytes.h"
#include "engine/util/err.h"

#define SKV_TABLE_PREFIX 2 /* bytes of the table id before the user's key */

/* Kinds, as stored in logs and segments. 3 to 15 are reserved: range
 * tombstone, merge operand, blob reference; an unknown one is CORRUPT. */
#define SKV_KIND_PUT 1
#define SKV_KIND_DELETE 2 /* a tombstone; value empty */

typedef struct skv_entry {
  skv_slice key;   /* internal key */
  skv_slice value; /* empty for a tombstone */
  uint64_t lsn;    /* the commit's LSN; 0 in a transaction's own changes */
  uint8_t kind;    /* SKV_KIND_* */
} skv_entry;

typedef struct skv_iter skv_iter;

/* Operations return a code; the error text goes to err. After failure the
 * iterator is not valid and may be positioned again. */
typedef struct skv_iter_ops {
  int (*first)(skv_iter *it, skv_err *err);
  int (*last)(skv_iter *it, skv_err *err);
  int (*seek)(skv_iter *it, skv_slice key, skv_err *err);      /* first >= */
  int (*seek_back)(skv_iter *it, skv_slice key, skv_err *err); /* last <= */
  int (*next)(skv_iter *it, skv_err *err); /* only while valid */
  int (*prev)(skv_iter *it, skv_err *err); /* only while valid */
  void (*close)(skv_iter *it);             /* frees the iterator */
} skv_iter_ops;

/*
 * The head of every iterator. Keys are unique and ascending within one
 * iterator: each yields the newest version of a key that it may show,
 * tombstones included. entry's slices stay valid until the iterator moves or
 * closes; next/prev may be mixed freely.
 */
struct skv_iter {
  const skv_iter_ops *ops;
  bool valid;      /* positioned on an entry */
  skv_entry entry; /* that entry */
};

static inline int skv_iter_first(skv_iter *it, skv_err *err) {
  return it->ops->first(it, err);
}
static inline int skv_iter_last(skv_iter *it, skv_err *err) {
  return it->ops->last(it, err);
}
static inline int skv_iter_seek(skv_iter *it, skv_slice key, skv_err *err) {
  return it->ops->seek(it, key, err);
}
static inline int skv_iter_seek_back(skv_iter *it, skv_slice key,
                                     skv_err *err) {
  return it->ops->seek_back(it, key, err);
}
static inline int skv_iter_next(skv_iter *it, skv_err *err) {
  return it->ops->next(it, err);
}
static inline int skv_iter_prev(skv_iter *it, skv_err *err) {
  return it->ops->prev(it, err);
}
static inline void skv_iter_close(skv_iter *it) {
  if (it) it->ops->close(it);
}

#endif
