/*
 * Salvage: what its parts share. The contract is stratakv_salvage's.
 *
 *   salvage.c        the call: the lock, the head, which files
 *   salvage_read.c   segments block by block, logs record by record
 *   salvage_sort.c   entries in, one sorted version of each key out
 *
 * HOW  Every entry that verifies is handed to the sorter, which keeps a
 *   bounded number in memory and writes sorted runs into the new store; they
 *   are merged by key and descending LSN, and what comes out are its segments.
 *   Nothing lies below them, so tombstones have done their work then.
 */
#ifndef SKV_DB_SALVAGE_H
#define SKV_DB_SALVAGE_H

#include "engine/db/handle.h"
#include "engine/db/target.h"
#include "engine/db/watch.h"

/* ---- Sorting ------------------------------------------------------------- */

typedef struct skv_sorter {
  skv_target *target;
  skv_buf raw;       /* keys and values */
  skv_buf items;     /* of entries in memory; see salvage_sort.c */
  uint64_t seq;      /* entries so far */
  skv_products runs; /* unnamed files, each a sorted run, oldest first */
  uint64_t max_lsn;
} skv_sorter;

/* Of equal keys the one with the greatest LSN stays, of equal LSNs the one
 * that came last. */
int skv_sorter_add(skv_sorter *sorter, const skv_entry *entry, skv_err *err);
/* Write everything in order, tombstones left out, to segments; appended to
 * products, unnamed. */
int skv_sorter_finish(skv_sorter *sorter, skv_watcher *watcher, skv_err *err,
                      skv_products *products);
void skv_sorter_clear(skv_sorter *sorter);

/* ---- Reading ------------------------------------------------------------- */

/* What is known of a segment, from the manifest or from an INGEST record. */
typedef struct skv_salvage_ref {
  uint64_t number;
  uint64_t uid;
  uint64_t ingest_lsn; /* 0: an ordinary one */
  skv_slice trim;      /* keys below are not taken */
} skv_salvage_ref;

typedef struct skv_salvage {
  skv_store *from;
  skv_target target;
  skv_watcher watcher;
  skv_sorter sorter;
  uint8_t store_id[16];
  skv_shared *shared;            /* SHARED as it was found */
  skv_page page;                 /* and what of it is believed */
  skv_version *version;          /* what the manifest says; NULL: none */
  bool is_whole;                 /* and it is all of it: other files are old */
  skv_buf segs, wals, manifests; /* uint64_t: numbers in the directory */
  skv_buf ingests;               /* skv_salvage_ref: of the logs' records */
  uint8_t tables[8192];          /* a bit for each id that has entries */
} skv_salvage;

int skv_salvage_damage(skv_salvage *s, const char *file, uint64_t at,
                       skv_err *err, const char *text);
int skv_salvage_note(skv_salvage *s, const char *file, uint64_t at,
                     skv_err *err, const char *text);

/* All that verifies in a segment's file; ref NULL: nothing is known of it.
 * NOTFOUND: it is not there. */
int skv_salvage_seg(skv_salvage *s, const char *name,
                    const skv_salvage_ref *ref, skv_err *err);
/* What the manifest says of the segment with this number (or uid, where
 * by_uid); false: nothing. */
bool skv_salvage_find(const skv_salvage *s, uint64_t number, bool by_uid,
                      skv_salvage_ref *out);
/* Whether the directory has a segment of this number. */
bool skv_salvage_has_seg(const skv_salvage *s, uint64_t number);
/* All that verifies in a log; info (NULL: unknown) is what the manifest says.
 * With `ingests_only` only INGEST records are taken note of. */
int skv_salvage_log(skv_salvage *s, uint64_t number, const skv_wal_info *info,
                    bool ingests_only, skv_err *err);

/* stratakv_salvage in another environment, for tests. */
int skv_salvage_in(skv_env *env, const char *from, const char *to,
                   const stratakv_watch *watch, skv_err *err,
                   stratakv_salvaged *out);

#endif
