/*
 * What check, backup and salvage tell their caller while they run.
 */
#ifndef SKV_DB_WATCH_H
#define SKV_DB_WATCH_H

#include "engine/db/db.h"
#include "engine/util/seek.h"

typedef struct skv_watcher {
  stratakv_watch to; /* all NULL: nobody */
  uint64_t total;    /* bytes that will be worked through, about */
  uint64_t done;     /* of them */
  uint64_t told;     /* `done` when it was last told */
  uint64_t damages;  /* findings of that severity */
  skv_err first;     /* the first of them */
} skv_watcher;

/* watch may be NULL. */
void skv_watcher_init(skv_watcher *watcher, const stratakv_watch *watch);
/* So many more bytes are done: INTERRUPT if told to stop. */
int skv_watcher_step(skv_watcher *watcher, uint64_t bytes, skv_err *err);
/* For searches: what was told last is told again, and asked whether to stop. */
skv_pause skv_watcher_pause(skv_watcher *watcher);
/* It is complete. */
void skv_watcher_end(skv_watcher *watcher);
/* A finding at offset `at` of a file, UINT64_MAX for all of it. `text` is the
 * message. INTERRUPT if told to stop. */
int skv_watcher_find(skv_watcher *watcher, int severity, const char *file,
                     uint64_t at, skv_err *err, const char *text);

#endif
