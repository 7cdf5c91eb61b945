/*
 * Transactions, internal to engine/db.
 *
 * A transaction's changes are one batch in memory (engine/wal/batch.h) with a
 * MemTable over it for reading them back. What outgrows skv_max_batch goes to
 * unnamed segments, spills, and the commit becomes an INGEST. Positions count
 * the bytes ever appended; savepoints are positions, and no spill reaches
 * across a live one, so that a rollback drops whole spills.
 */
#ifndef SKV_DB_TXN_H
#define SKV_DB_TXN_H

#include "engine/db/db.h"
#include "engine/db/handle.h"

/* The changes in memory; cursors share it. */
typedef struct skv_changes {
  _Atomic uint32_t refs;
  uint8_t *data;
  size_t size, capacity;
  uint8_t *retired[48]; /* memory that cursors may still read; capacity
                           doubles, so 48 of them cannot be reached */
  size_t retired_count;
  uint64_t entries;
  skv_mem *mem; /* made when first needed */
} skv_changes;

skv_changes *skv_changes_new(void); /* NULL: no memory */
skv_changes *skv_changes_ref(skv_changes *changes);
void skv_changes_unref(skv_changes *changes);
int skv_changes_add(skv_changes *changes, uint8_t kind, uint32_t table,
                    skv_slice key, skv_slice value, skv_err *err);
/* The MemTable over the changes, caught up to *limit. */
int skv_changes_mem(skv_changes *changes, skv_err *err, uint64_t *limit);
/* Cut back to `size` bytes: in place, or as a new object if cursors share it
 * (*changes is replaced). */
int skv_changes_cut(skv_changes **changes, size_t size, skv_err *err);

/* Segments that hold the changes of positions [from, to); counted. */
typedef struct skv_spill {
  _Atomic uint32_t refs;
  skv_db *db;
  uint64_t from, to;
  uint64_t entries;
  skv_products products;
  skv_seg **segs; /* open, as products.list */
  bool is_kept;   /* committed: the files stay when the last user goes */
} skv_spill;

skv_spill *skv_spill_ref(skv_spill *spill);
void skv_spill_unref(skv_spill *spill);
int skv_spill_get(skv_spill *spill, skv_slice key, uint64_t hash,
                  skv_seg_pin *pin, skv_err *err, bool *found,
                  skv_entry *entry);
int skv_spill_iters(skv_spill *spill, bool keys_only, skv_iter ***list,
                    size_t *count, size_t *capacity, skv_err *err);

typedef struct skv_watch {
  size_t offset; /* of the entry in the changes */
  int saw;       /* STRATAKV_SAW_* */
} skv_watch;

typedef struct skv_mark {
  uint64_t id;
  uint64_t position;
} skv_mark;

struct stratakv_txn {
  stratakv_store *store;
  skv_db *db;
  skv_view view; /* its snapshot */
  skv_changes *changes;
  uint64_t base;      /* position of the changes' first byte */
  skv_spill **spills; /* oldest first */
  size_t spill_count, spill_capacity;
  skv_watch *checks; /* keys read for write, in the changes */
  size_t check_count, check_capacity;
  bool spilled_checked; /* some spilled key was read for write */
  skv_mark *marks;      /* live savepoints, ascending */
  size_t mark_count, mark_capacity;
  uint64_t mark_ids;
  bool is_prepared;      /* it leads, and its record is the log's last */
  bool is_unknown;       /* its prepare could not be undone: see decide_abort */
  uint8_t prepared_type; /* PREPARE or INGEST */
  uint64_t prepared_lsn;
  uint64_t prepared_at; /* env->now */
  skv_buf ingest;       /* payload of the prepared INGEST */
  skv_spill *gathered;  /* its segments */
  int (*guard_enter)(void *arg);
  void (*guard_leave)(void *arg);
  void *guard_arg;
};

static inline uint64_t skv_txn_position(const stratakv_txn *txn) {
  return txn->base + (txn->changes ? txn->changes->size : 0);
}

/* An internal key's newest entry among the transaction's own changes. */
int skv_txn_own(stratakv_txn *txn, skv_slice key, skv_err *err,
                skv_seg_pin *pin, bool *found, skv_entry *entry);
/* Own changes as iterators, newest first. */
int skv_txn_iters(stratakv_txn *txn, bool keys_only, skv_iter ***list,
                  size_t *count, size_t *capacity, skv_err *err);

/* txn_commit.c: undo a prepare, if there is one. */
int skv_txn_unprepare(stratakv_txn *txn, skv_err *err);

/* txn_spill.c */
int skv_txn_spill(stratakv_txn *txn, skv_err *err); /* the changes so far */
int skv_txn_spill_one(stratakv_txn *txn, const skv_entry *entry, skv_err *err);
/* All changes as one spill of segments that do not overlap, for the commit;
 * the spills stay as they are, so that savepoints work if it is undone. */
int skv_txn_gather(stratakv_txn *txn, skv_err *err, skv_spill **out);
int skv_txn_cut_spills(stratakv_txn *txn, uint64_t position);

/* txn_check.c */
/* Whether a key that was read for write has changed; sees the log up to its
 * tail if `locked` (leader with WRITE), else up to what is visible.
 * *seen: the LSN up to which it looked; 0 to begin with. */
int skv_txn_validate(stratakv_txn *txn, bool locked, uint64_t *seen,
                     skv_err *err);

#endif
