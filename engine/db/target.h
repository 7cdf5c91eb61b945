/*
 * A store that is made whole before anybody can open it: by backup and by
 * salvage.
 *
 * ORDER  CURRENT comes last, when everything that it leads to is durable, so
 *   what a dead maker leaves is no store: without CURRENT a directory with
 *   segments is refused. Whoever fails removes what was made, CURRENT first.
 *
 * ALONE  The directory is empty, and its LOCK is held: another maker, and who
 *   would create a store there, wait or fail.
 */
#ifndef SKV_DB_TARGET_H
#define SKV_DB_TARGET_H

#include "engine/db/db.h"

typedef struct skv_target {
  skv_store *store; /* NULL: not open */
  skv_tree tree;    /* writes into it */
  uint8_t store_id[16];
  bool made_dir;
  bool claimed;        /* LOCK is held: there may be files to remove */
  uint64_t first_file; /* numbers from here to next_file are ours */
  uint64_t next_file;
  uint64_t tmp_count; /* unnamed files made */
  skv_buf edit;       /* what its manifest will say; sticky */
} skv_target;

/* Make or open the directory, which must be empty and not inside `outside`,
 * another store's directory (NULL: no matter), and take it. base as in
 * stratakv_options. File numbers begin at first_file. On failure it is closed
 * and nothing is left. */
int skv_target_open(skv_env *env, const char *base, const char *path,
                    skv_store *outside, uint64_t first_file, skv_err *err,
                    skv_target *target);
/* A fresh unnamed file; remove one. Functions for skv_job with a target at the
 * start of what arg points to. */
void skv_target_next_name(void *arg, skv_name *out);
void skv_target_discard(void *arg, const skv_name *tmp);
/* Give products numbers and put them into the edit. */
int skv_target_name(skv_target *target, skv_products *products, uint32_t level,
                    uint64_t run, skv_err *err);
/* An empty log from `start` on, then the head: it is a store, cleanly closed
 * and durable. */
int skv_target_finish(skv_target *target, uint64_t start, uint64_t wal_size,
                      skv_err *err);
/* Remove what was made, and the directory if that was. Only names that were
 * made here; segments that got other numbers are the caller's, in between. */
void skv_target_undo_head(skv_target *target);
void skv_target_undo_files(skv_target *target);
void skv_target_close(skv_target *target);

#endif
