/*
 * Check: what its parts share. The contract is stratakv_check's.
 *
 *   check.c        the call, names in the directory, OWNERS
 *   check_head.c   CURRENT and the manifest
 *   check_log.c    logs
 *   check_seg.c    segments
 *
 * Each part returns a code only if the check cannot go on (INTERRUPT, NOMEM);
 * what is wrong with the store is a finding. A file that cannot be read is
 * damage.
 *
 * WHAT CANNOT BE NOTICED  Bytes of a log behind its end: old ones may stand
 *   there. SHARED, whose words have no checksum. LOCK, which is never read.
 */
#ifndef SKV_DB_CHECK_H
#define SKV_DB_CHECK_H

#include "engine/db/handle.h"
#include "engine/db/watch.h"

typedef struct skv_check {
  skv_db *db;
  skv_view view; /* what is checked */
  skv_watcher watcher;
} skv_check;

/* A finding of severity DAMAGE; `at` UINT64_MAX: the whole file. */
int skv_check_damage(skv_check *check, const char *file, uint64_t at,
                     skv_err *err, const char *text);
int skv_check_note(skv_check *check, const char *file, uint64_t at,
                   skv_err *err, const char *text);
/* A call on a file gave rc with this error: what ends the check comes back,
 * everything else is damage of that file. */
int skv_check_failed(skv_check *check, const char *file, int rc,
                     const skv_err *why, skv_err *err);
/* Whether the newest version still names a file; then its absence is damage. */
bool skv_check_named(skv_check *check, int kind, uint64_t number);

/* May take the view anew: what was taken from it before is gone then. */
int skv_check_head(skv_check *check, skv_err *err);
int skv_check_log(skv_check *check, size_t i, skv_err *err);
int skv_check_seg(skv_check *check, skv_segref *ref, skv_err *err);

#endif
