/*
 * Watching a long call of the store: findings to standard output, a line of
 * progress to standard error if that is a terminal, and an end at a signal.
 */
#ifndef SKVT_WATCH_H
#define SKVT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "stratakv.h"

typedef struct skvt_watch {
  stratakv_watch store; /* what the call is given */
  const char *name;     /* of the work, for the line of progress */
  bool is_quiet;        /* findings are counted and not printed */
  bool is_shown;        /* there is a line of progress */
  int percent;          /* that it says; -1 before the first */
  uint64_t notes;       /* findings so far, by severity */
  uint64_t damages;
} skvt_watch;

void skvt_watch_begin(skvt_watch *watch, const char *name, bool is_quiet);
/* Take the line of progress away. */
void skvt_watch_end(skvt_watch *watch);

/* Print a finding: "file:offset: severity: message". */
void skvt_print_finding(const stratakv_finding *finding);

#endif
