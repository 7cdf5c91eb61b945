/*
 * Describing the files of a store to people: what the parts share.
 *
 *   inspect.c      the call, CURRENT, SHARED, OWNERS, which file it is
 *   inspect_log.c  logs and manifests
 *   inspect_seg.c  segments
 */
#ifndef SKV_DB_INSPECT_H
#define SKV_DB_INSPECT_H

#include "engine/db/handle.h"
#include "engine/util/seek.h"

typedef struct skv_inspect {
  const char *name; /* of the file, for messages */
  skv_in *in;
  bool entries; /* a line for each */
  stratakv_line line;
  void *arg;
  bool damaged;
  skv_err first;   /* the first damage */
  unsigned pauses; /* of searches, so far */
} skv_inspect;

/* One line; INTERRUPT. */
int skv_inspect_line(skv_inspect *inspect, skv_err *err, const char *format,
                     ...) __attribute__((format(printf, 3, 4)));
/* A line about damage at that offset. */
int skv_inspect_damage(skv_inspect *inspect, uint64_t at, skv_err *err,
                       const char *what);
/* For searches. The lines are all that can end the call: one now and then. */
skv_pause skv_inspect_pause(skv_inspect *inspect);
/* An entry's line. */
int skv_inspect_entry(skv_inspect *inspect, const skv_entry *entry,
                      skv_err *err);

int skv_inspect_log(skv_inspect *inspect, skv_err *err);
int skv_inspect_manifest(skv_inspect *inspect, skv_err *err);
int skv_inspect_seg(skv_inspect *inspect, skv_err *err);

/* stratakv_inspect in another environment, for tests. */
int skv_inspect_in(skv_env *env, const char *file, int entries,
                   stratakv_line line, void *arg, skv_err *err);

#endif
